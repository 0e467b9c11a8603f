import type { Exchange } from './live-plan.js'

/** Of a bare acknowledgement: IP and TCP headers, with the time stamps. */
const ACKNOWLEDGEMENT_BYTES = 52

/** What one of the two made of the plan. */
export interface Observed {
  /** Who answered each exchange. */
  answers: string[]
  connections: Connection[]
  /** By service and server: connections, packets and bytes in and out. */
  counters: Map<string, number[]>
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

/** What was not the same, a line each. */
export function compareObserved(
  exchanges: readonly Exchange[],
  kernel: Observed,
  ours: Observed,
): string[] {
  return [
    ...compareAnswers(exchanges, kernel, ours),
    ...compareConnections(kernel, ours),
    ...compareCounters(kernel.counters, ours.counters),
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
 * Connections to the number; packets and bytes but for bare acknowledgements, which the ends' TCP sends or saves
 * as its timers have it: what packets are more or fewer, they are of just their size.
 */
function compareCounters(kernel: Map<string, number[]>, ours: Map<string, number[]>): string[] {
  return [...new Set([...kernel.keys(), ...ours.keys()])].flatMap((name) => {
    const [a, b] = [kernel.get(name), ours.get(name)]
    if (!a || !b) return [`counters only in ${a ? 'the kernel' : 'uvsd'}: ${name}`]
    const [connections, inPackets, outPackets, inBytes, outBytes] = a.map((n, i) => b[i]! - n)
    const isTcp = name.startsWith('TCP')
    const agree = (packets: number, bytes: number): boolean =>
      isTcp ? bytes === packets * ACKNOWLEDGEMENT_BYTES : packets === 0 && bytes === 0
    return connections === 0 && agree(inPackets!, inBytes!) && agree(outPackets!, outBytes!)
      ? []
      : [`counters of ${name}: kernel ${a.join(' ')}, uvsd ${b.join(' ')}`]
  })
}
