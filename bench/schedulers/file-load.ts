/** A load from a file: the packets of a scenario (.scn) or a capture (.pcap, .pcapng) to one service. */
import { statSync } from 'node:fs'
import { CommandLineError, parseCommandLine } from '../../src/control/ipvsadm/parse.js'
import { formatAddress } from '../../src/core/address.js'
import type { Command, ServiceProtocol } from '../../src/core/commands.js'
import type { FramePool } from '../../src/port/frame-pool.js'
import { eventsOf } from '../../src/scenario/events.js'
import { readScenario } from '../../src/scenario/parse.js'
import { ScenarioError, type Event } from '../../src/scenario/scenario.js'
import { numericNames } from '../../src/scenario/wiring.js'
import * as ipv4 from '../../src/wire/ipv4.js'
import * as ipv6 from '../../src/wire/ipv6.js'
import * as sctp from '../../src/wire/sctp.js'
import { FLAGS, TcpFlag } from '../../src/wire/tcp.js'
import type { Load, Target } from './load.js'

/** A load with the servers that its scenario has; none if it is a capture. */
export interface FileLoad extends Load {
  /** Of the service with the most servers, in the order in which they were added. */
  readonly weights: readonly number[]
}

/** What is known of a packet without a director: where it belongs, and whether it begins something. */
interface Header {
  readonly family: 4 | 6
  readonly protocol: ServiceProtocol
  readonly from: string
  readonly fromPort: number
  readonly to: string
  readonly toPort: number
  /** Asks for a connection, as far as the packet itself can tell. */
  readonly isOpening: boolean
}

const protocols: Readonly<Record<number, ServiceProtocol>> = {
  [ipv4.IpProtocol.tcp]: 'tcp',
  [ipv4.IpProtocol.udp]: 'udp',
  [ipv4.IpProtocol.sctp]: 'sctp',
}

function opens(protocol: ServiceProtocol, packet: Uint8Array, transport: number): boolean {
  if (protocol === 'udp') return true
  if (protocol === 'sctp') return packet[transport + sctp.FIRST_CHUNK] === sctp.ChunkType.init
  return (packet[transport + FLAGS]! & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn
}

/** Undefined for what belongs to no connection: other protocols, fragments but the first, what is cut off. */
function headerOf(packet: Uint8Array): Header | undefined {
  if (packet.length < ipv4.MIN_HEADER_BYTES) return undefined
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength)
  const family = packet[0]! >> 4 === 6 ? 6 : 4
  let transport: number
  let number: number
  if (family === 4) {
    if ((view.getUint16(ipv4.FRAGMENT) & 0x1fff) !== 0) return undefined
    transport = (packet[0]! & 0xf) * 4
    number = packet[ipv4.PROTOCOL]!
  } else {
    if (packet.length < ipv6.HEADER_BYTES) return undefined
    const chain = new ipv6.HeaderChain()
    number = chain.walk(packet, 0, packet.length)
    transport = chain.transport
    if (chain.fragmentOffset !== 0) return undefined
  }
  const protocol = protocols[number]
  if (protocol === undefined || packet.length < transport + 4) return undefined
  const [source, destination, bytes] =
    family === 4
      ? [ipv4.SOURCE, ipv4.DESTINATION, 4]
      : [ipv6.SOURCE, ipv6.DESTINATION, 4 * ipv6.ADDRESS_WORDS]
  const address = (at: number): string => {
    const words = new Int32Array(4)
    new Uint8Array(words.buffer).set(packet.subarray(at, at + bytes))
    return formatAddress({ family, words })
  }
  return {
    family,
    protocol,
    from: address(source),
    fromPort: view.getUint16(transport),
    to: address(destination),
    toPort: view.getUint16(transport + 2),
    isOpening: opens(protocol, packet, transport),
  }
}

interface TimedPacket {
  readonly atMs: number
  readonly packet: Uint8Array
  readonly header: Header
}

function packetsOf(events: readonly Event[]): TimedPacket[] {
  return events.flatMap((event) => {
    if (event.kind !== 'packet' || event.side !== 'client') return []
    const header = headerOf(event.packet)
    return header === undefined ? [] : [{ atMs: event.atMs, packet: event.packet, header }]
  })
}

const serviceOf = ({ family, protocol, toPort }: Header): string =>
  `${protocol} port ${toPort}, IPv${family}`

/** The packets that begin a connection: of UDP, the first in either direction between two ends. */
function openings(packets: readonly TimedPacket[]): TimedPacket[] {
  const seen = new Set<string>()
  return packets.filter(({ header }) => {
    const { protocol, from, fromPort, to, toPort, isOpening } = header
    if (protocol !== 'udp') return isOpening
    const isNew = !seen.has(`${from} ${fromPort} ${to} ${toPort}`)
    seen.add(`${from} ${fromPort} ${to} ${toPort}`)
    seen.add(`${to} ${toPort} ${from} ${fromPort}`)
    return isNew
  })
}

/** The service that most connections are to: a protocol and port, at however many addresses. */
function targetOf(packets: readonly TimedPacket[], file: string): Target {
  const byService = new Map<string, Header[]>()
  for (const { header } of openings(packets)) {
    const list = byService.get(serviceOf(header))
    if (list === undefined) byService.set(serviceOf(header), [header])
    else list.push(header)
  }
  const [most] = [...byService.values()].sort((a, b) => b.length - a.length)
  if (most === undefined)
    throw new Error(
      `${file}: no connection begins in it: there is neither a SYN of TCP, nor a UDP packet, nor an INIT of SCTP`,
    )
  const { family, protocol, toPort } = most[0]!
  return { family, protocol, port: toPort, addresses: [...new Set(most.map(({ to }) => to))] }
}

class RecordedLoad implements FileLoad {
  readonly title: string
  readonly durationMs: number
  readonly clientCount: number
  readonly packetCount: number
  private readonly client: Int32Array
  private readonly sites: ReadonlyMap<string, number>

  constructor(
    readonly target: Target,
    private readonly packets: readonly TimedPacket[],
    readonly weights: readonly number[],
    connections: number,
  ) {
    const numbers = new Map<string, number>()
    this.client = Int32Array.from(packets, ({ header: { from } }) => {
      if (!numbers.has(from)) numbers.set(from, numbers.size)
      return numbers.get(from)!
    })
    this.clientCount = numbers.size
    this.sites = new Map(target.addresses.map((address, site) => [address, site]))
    this.packetCount = packets.length
    // One millisecond more than the last packet's, so that this one is in it.
    this.durationMs = packets[packets.length - 1]!.atMs + 1
    const { protocol, port, addresses } = target
    const where = addresses.length === 1 ? addresses[0]! : `${addresses.length} addresses`
    this.title =
      `${connections} connections in ${(this.durationMs / 1000).toFixed(1)} s, ` +
      `of ${this.clientCount} clients to ${where}, ${protocol} port ${port}`
  }

  timeMs(packet: number): number {
    return this.packets[packet]!.atMs
  }

  clientOf(packet: number): number {
    return this.client[packet]!
  }

  siteOf(packet: number): number {
    return this.sites.get(this.packets[packet]!.header.to)!
  }

  /** What the capture has cut off is zeros. */
  write(packet: number, { bytes }: FramePool, offset: number): number {
    const { packet: captured } = this.packets[packet]!
    const length = Math.max(captured.length, claimedLength(captured))
    bytes.fill(0, offset + captured.length, offset + length)
    bytes.set(captured, offset)
    return length
  }
}

function claimedLength(packet: Uint8Array): number {
  return packet[0]! >> 4 === 6
    ? ipv6.totalLength(packet, 0)
    : (packet[ipv4.TOTAL_LENGTH]! << 8) | packet[ipv4.TOTAL_LENGTH + 1]!
}

/** What a scenario's commands ask for, in their order; those that ipvsadm does not understand are left out. */
function commandsOf(events: readonly Event[]): Command[] {
  const names = numericNames()
  return events.flatMap((event) => {
    if (event.kind !== 'ipvsadm') return []
    try {
      const invocation = parseCommandLine(event.args, names)
      return invocation.kind === 'command' ? [invocation.command] : []
    } catch (error) {
      if (error instanceof CommandLineError) return []
      throw error
    }
  })
}

function weightsOf(events: readonly Event[]): number[] {
  const byService = new Map<string, Map<string, number>>()
  for (const command of commandsOf(events)) {
    if (command.op !== 'add-destination') continue
    const { service, destination, options } = command
    const key = JSON.stringify(service)
    const servers = byService.get(key) ?? new Map<string, number>()
    byService.set(key, servers.set(JSON.stringify(destination), options.weight))
  }
  const [most] = [...byService.values()].sort((a, b) => b.size - a.size)
  return [...(most?.values() ?? [])].filter((weight) => weight > 0)
}

/** A load is held in memory, and a packet of it takes about a kilobyte there. */
const LARGEST_MIB = { scenario: 32, capture: 128 }

/** Its time passes jiffy by jiffy where there are timers, and they are counted in 31 bits. */
const MOST_DAYS = 7
const MS_PER_DAY = 86_400_000

/** @throws Error for what cannot be read, or would never end */
function checkFile(file: string, kind: keyof typeof LARGEST_MIB): void {
  const stat = statSync(file, { throwIfNoEntry: false })
  if (stat === undefined) throw new Error(`there is no file ${file}`)
  if (stat.isDirectory()) throw new Error(`${file}: it is a folder`)
  if (!stat.isFile())
    throw new Error(`${file}: it is no ordinary file, and a load is read more than once`)
  const most = LARGEST_MIB[kind]
  if (stat.size > most * 2 ** 20)
    throw new Error(
      `${file}: ${Math.ceil(stat.size / 2 ** 20)} MiB, and a ${kind} may have ${most}: take a piece of it` +
        (kind === 'capture'
          ? ', as by editcap -c, or the first bytes of its packets, as by editcap -s 96'
          : ''),
    )
}

function eventsIn(file: string): Event[] {
  if (file.endsWith('.scn')) {
    checkFile(file, 'scenario')
    return eventsOf(readScenario(file))
  }
  checkFile(file, 'capture')
  try {
    return eventsOf({
      name: file,
      directives: [{ line: 1, text: `pcap ${file}`, kind: 'pcap', file, side: 'client', mark: 0 }],
    })
  } catch (error) {
    // Nobody has written the line that the position is in.
    if (!(error instanceof ScenarioError)) throw error
    const { problem } = error
    const hint = /neither pcap's nor pcapng's/.test(problem)
      ? "; a scenario's name ends in .scn"
      : ''
    const text = problem.startsWith(file) ? problem : `${file}: ${problem}`
    throw new Error(text + hint, { cause: error })
  }
}

/**
 * Reads a load. Of all packets those count that are to the protocol and port that most connections are to.
 *
 * @param file a scenario if its name ends in .scn, else a capture
 * @throws Error that says what is wrong with it
 */
export function readLoad(file: string): FileLoad {
  const events = eventsIn(file)
  const packets = packetsOf(events)
  const target = targetOf(packets, file)
  const addresses = new Set(target.addresses)
  const own = packets.filter(
    ({ header: { protocol, toPort, to } }) =>
      protocol === target.protocol && toPort === target.port && addresses.has(to),
  )
  const days = own[own.length - 1]!.atMs / MS_PER_DAY
  if (days > MOST_DAYS)
    throw new Error(
      `${file}: ${days.toFixed(1)} days from its first packet to its last one, and ${MOST_DAYS} are the most: take a piece of it`,
    )
  const service = serviceOf({ ...own[0]!.header })
  const connections = openings(packets).filter(({ header }) => serviceOf(header) === service)
  return new RecordedLoad(target, own, weightsOf(events), connections.length)
}
