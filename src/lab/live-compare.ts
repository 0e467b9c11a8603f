import type { CapturedPacket } from '../drivers/pcap.js'
import type { Exchange } from './live-plan.js'

/** What one of the two made of the plan. */
export interface Observed {
  /** Who answered each exchange. */
  answers: string[]
  connections: Connection[]
  /** By service and server: connections, packets and bytes in and out. */
  counters: Map<string, number[]>
  /** What the client's kernel sent and received, by service: packets and bytes in and out. */
  traffic: Map<string, number[]>
  /** From the first exchange to the listing of connections. */
  seconds: number
}

export interface Connection {
  /** Protocol, state and addresses. */
  name: string
  expiresSeconds: number
}

/** `ipvsadm -L -n -c`. */
export function parseConnections(listing: string): Connection[] {
  return listing
    .split('\n')
    .filter((line) => /^[A-Z]+ +\d\d:\d\d/.test(line))
    .map((line) => {
      const [protocol, expires, ...rest] = line.trim().split(/\s+/)
      const [minutes, seconds] = expires!.split(':').map(Number)
      return { name: [protocol, ...rest].join(' '), expiresSeconds: 60 * minutes! + seconds! }
    })
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
}

/** `ipvsadm -L -n --stats --exact`: five numbers by service, and by service and server. */
export function parseCounters(listing: string): Map<string, number[]> {
  const counters = new Map<string, number[]>()
  let service = ''
  for (const line of listing.split('\n')) {
    const match = /^(?:(TCP|UDP) +| {2}-> )(\S+) +((?:\d+ *){5})$/.exec(line)
    if (!match) continue
    const [, protocol, name, numbers] = match
    if (protocol) service = `${protocol} ${name}`
    counters.set(
      protocol ? service : `${service} -> ${name}`,
      numbers!.trim().split(/ +/).map(Number),
    )
  }
  return counters
}

/**
 * What a capture at the client says of a service, by service: packets and bytes to it, packets and bytes from it.
 *
 * @param withReplies whether the director sees them
 */
export function countTraffic(
  capture: Iterable<CapturedPacket>,
  virtualAddress: string,
  withReplies: boolean,
): Map<string, number[]> {
  const traffic = new Map<string, number[]>()
  for (const { bytes } of capture) {
    const packet = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).subarray(
      ETHERNET_BYTES,
    )
    const headerBytes = (packet[0]! & 15) * 4
    const protocol = protocols.get(packet[9]!)
    const isIn = addressAt(packet, 16) === virtualAddress
    const isOut = addressAt(packet, 12) === virtualAddress
    if (!protocol || (!isIn && !(isOut && withReplies))) continue
    const name = `${protocol} ${virtualAddress}:${packet.readUInt16BE(headerBytes + (isIn ? 2 : 0))}`
    const [inPackets, outPackets, inBytes, outBytes] = traffic.get(name) ?? [0, 0, 0, 0]
    const length = packet.readUInt16BE(2)
    traffic.set(
      name,
      isIn
        ? [inPackets! + 1, outPackets!, inBytes! + length, outBytes!]
        : [inPackets!, outPackets! + 1, inBytes!, outBytes! + length],
    )
  }
  return traffic
}

const ETHERNET_BYTES = 14
const protocols = new Map([
  [6, 'TCP'],
  [17, 'UDP'],
])
const addressAt = (packet: Buffer, at: number): string => packet.subarray(at, at + 4).join('.')

/** What was not the same, a line each. */
export function compareObserved(
  exchanges: readonly Exchange[],
  kernel: Observed,
  ours: Observed,
): string[] {
  return [
    ...compareAnswers(exchanges, kernel, ours),
    ...compareConnections(kernel, ours),
    ...compareCounters(kernel, ours),
  ]
}

function compareAnswers(
  exchanges: readonly Exchange[],
  kernel: Observed,
  ours: Observed,
): string[] {
  return exchanges.flatMap(({ protocol, from, fromPort, to, port }, i) => {
    const [a, b] = [kernel.answers[i], ours.answers[i]]
    const isAnswer = a !== undefined && !a.startsWith('no answer')
    return isAnswer && a === b
      ? []
      : [`${protocol} ${from}:${fromPort} > ${to}:${port}: kernel ${a}, uvsd ${b}`]
  })
}

/**
 * Entry by entry. Both runs are in real time: what is left of a timeout may differ by as much as it took from the
 * first exchange to the listing.
 */
function compareConnections(kernel: Observed, ours: Observed): string[] {
  const slack = Math.max(kernel.seconds, ours.seconds) + 2
  const a = new Map(kernel.connections.map((connection) => [connection.name, connection]))
  const b = new Map(ours.connections.map((connection) => [connection.name, connection]))
  return [...new Set([...a.keys(), ...b.keys()])].sort().flatMap((name) => {
    const [theirs, own] = [a.get(name), b.get(name)]
    if (!theirs || !own) return [`connection only in ${theirs ? 'the kernel' : 'uvsd'}: ${name}`]
    const apart = Math.abs(theirs.expiresSeconds - own.expiresSeconds)
    return apart <= slack
      ? []
      : [
          `connection ${name}: expires in ${theirs.expiresSeconds} s in the kernel, ${own.expiresSeconds} s in uvsd`,
        ]
  })
}

/**
 * Connections are the same. Packets are not: the ends' TCP acknowledges and repeats as its timers have it. So each
 * of the two must have counted just what the client sent to the service and got from it, and shared it out.
 */
function compareCounters(kernel: Observed, ours: Observed): string[] {
  const [a, b] = [kernel.counters, ours.counters]
  const differences = [...new Set([...a.keys(), ...b.keys()])].flatMap((name) => {
    const [theirs, own] = [a.get(name)?.[0], b.get(name)?.[0]]
    return theirs === own
      ? []
      : [`connections of ${name}: kernel ${theirs ?? 'none'}, uvsd ${own ?? 'none'}`]
  })
  return [...differences, ...checkCounters('kernel', kernel), ...checkCounters('uvsd', ours)]
}

function checkCounters(who: string, { counters, traffic }: Observed): string[] {
  const names = [...counters.keys()]
  return names
    .filter((name) => !name.includes('->'))
    .flatMap((name) => {
      const counted = counters.get(name)!
      const servers = names.filter((server) => server.startsWith(`${name} -> `))
      const sums = counted.map((_n, i) =>
        servers.reduce((sum, server) => sum + counters.get(server)![i]!, 0),
      )
      const passed = traffic.get(name) ?? [0, 0, 0, 0]
      return [
        ...(String(sums) === String(counted)
          ? []
          : [`${who}: ${name} counts ${counted.join(' ')}, its servers ${sums.join(' ')}`]),
        ...(String(passed) === String(counted.slice(1))
          ? []
          : [
              `${who}: ${name} counts ${counted.slice(1).join(' ')}, the client ${passed.join(' ')}`,
            ]),
      ]
    })
}
