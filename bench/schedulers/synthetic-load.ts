/**
 * A load by dice: clients that come back as often as their rank in a Zipf distribution says, at times of a
 * Poisson process, for durations of a bounded Pareto distribution. The same seed gives the same load.
 *
 * Sources: L. Breslau et al., Web caching and Zipf-like distributions: evidence and implications, INFOCOM 1999;
 * M. Crovella, M. Harchol-Balter and C. Murta, Task assignment in a distributed system, SIGMETRICS 1998 (bounded
 * Pareto).
 */
import type { FramePool } from '../../src/port/frame-pool.js'
import { SeededRandom, type Random } from '../../src/port/random.js'
import { finish, sumPseudoHeader, sumRange } from '../../src/wire/checksum.js'
import * as ipv4 from '../../src/wire/ipv4.js'
import { CHECKSUM, MIN_HEADER_BYTES, TcpFlag } from '../../src/wire/tcp.js'
import type { Load, Target } from './load.js'

export interface SyntheticOptions {
  readonly seed: number
  readonly durationSeconds: number
  readonly connectionsPerSecond: number
  readonly clients: number
  /** Exponent of the Zipf distribution of clients: 0 has all come equally often. */
  readonly clientSkew: number
  /** Addresses that are asked for; of several the service is one by firewall mark. */
  readonly sites: number
  readonly siteSkew: number
  /** Of connections, in seconds. The smaller the shape, the more of the time is that of few long ones. */
  readonly pareto: { readonly shape: number; readonly least: number; readonly most: number }
}

export const defaultSynthetic: SyntheticOptions = {
  seed: 1,
  durationSeconds: 400,
  connectionsPerSecond: 200,
  clients: 20_000,
  clientSkew: 0.8,
  sites: 1,
  siteSkew: 0.8,
  pareto: { shape: 1.2, least: 1, most: 300 },
}

/** Numbers that the first outputs of a small seed would give are alike: they are not used. */
const WARM_UP = 64

export function randomOf(seed: number): Random {
  const random = new SeededRandom(seed)
  for (let i = 0; i < WARM_UP; i++) random.next()
  return random
}

/** Above 0, up to 1. */
const uniform = (random: Random): number => ((random.next() >>> 0) + 1) / 2 ** 32

/** Draws numbers from 0, of which number i is as likely as 1 / (i + 1)^skew says. */
export class Zipf {
  private readonly sums: Float64Array

  constructor(
    count: number,
    skew: number,
    private readonly random: Random,
  ) {
    this.sums = new Float64Array(count)
    let sum = 0
    for (let i = 0; i < count; i++) this.sums[i] = sum += (i + 1) ** -skew
  }

  /** The share of all draws that number i gets. */
  share(i: number): number {
    const { sums } = this
    return (sums[i]! - (i === 0 ? 0 : sums[i - 1]!)) / sums[sums.length - 1]!
  }

  next(): number {
    const { sums } = this
    const wanted = uniform(this.random) * sums[sums.length - 1]!
    let low = 0
    let high = sums.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (sums[middle]! < wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** Draws from the bounded Pareto distribution, by the inverse of its distribution function. */
export function boundedPareto(
  random: Random,
  { shape, least, most }: SyntheticOptions['pareto'],
): number {
  const part = uniform(random) * (1 - (least / most) ** shape)
  return least / (1 - part) ** (1 / shape)
}

/** Time to the next of events that come at this rate, each whenever it likes. */
export const exponential = (random: Random, rate: number): number =>
  -Math.log(uniform(random)) / rate

/** Addresses that hosts may have, none twice: what all but 224/3, 127/8, 0/8 and the servers' network leave. */
function drawAddresses(count: number, random: Random): Int32Array {
  const addresses = new Set<number>()
  while (addresses.size < count) {
    const address = random.next()
    const first = address & 0xff
    if (first > 0 && first < 224 && first !== 127 && first !== 198) addresses.add(address)
  }
  return Int32Array.from(addresses)
}

/** Of a connection's packets: its SYN, the ACK a round trip later, and its FIN. */
const KINDS = 3
const FLAGS = [TcpFlag.syn, TcpFlag.ack, TcpFlag.fin | TcpFlag.ack]
const ROUND_TRIP_MS = 50

const PACKET_BYTES = 40
const TTL = 64
const PORT = 80
const FIRST_PORT = 1024
const PORTS = 65536 - FIRST_PORT

export class SyntheticLoad implements Load {
  readonly title: string
  readonly target: Target
  readonly durationMs: number
  readonly clientCount: number
  readonly packetCount: number
  readonly connections: number
  /** By connections. */
  readonly startMs: Float64Array
  readonly endMs: Float64Array
  readonly client: Int32Array
  readonly site: Int32Array
  private readonly sourcePort: Uint16Array
  private readonly clientAddresses: Int32Array
  private readonly siteAddresses: Int32Array
  /** Packets by the order in which they come: connection * KINDS + kind. */
  private readonly order: Int32Array

  constructor(readonly options: SyntheticOptions) {
    const { seed, durationSeconds, connectionsPerSecond, pareto } = options
    const random = randomOf(seed)
    this.clientAddresses = drawAddresses(options.clients, random)
    this.siteAddresses =
      options.sites === 1
        ? Int32Array.of(ipv4.parseAddress('192.0.2.1')!)
        : drawAddresses(options.sites, random)
    const clients = new Zipf(options.clients, options.clientSkew, random)
    const sites = new Zipf(options.sites, options.siteSkew, random)
    const starts: number[] = []
    for (;;) {
      const last = starts[starts.length - 1] ?? 0
      const next = last + exponential(random, connectionsPerSecond)
      if (next >= durationSeconds) break
      starts.push(next)
    }
    const count = (this.connections = starts.length)
    this.startMs = Float64Array.from(starts, (seconds) => seconds * 1000)
    this.endMs = this.startMs.map((start) => start + boundedPareto(random, pareto) * 1000)
    this.client = Int32Array.from({ length: count }, () => clients.next())
    this.site = Int32Array.from({ length: count }, () => sites.next())
    this.sourcePort = this.drawPorts(random)
    this.durationMs = durationSeconds * 1000
    this.order = this.sortPackets()
    this.packetCount = this.order.length
    this.clientCount = options.clients
    this.target = {
      family: 4,
      protocol: 'tcp',
      port: PORT,
      addresses: Array.from(this.siteAddresses, ipv4.formatAddress),
    }
    const asked = options.sites === 1 ? 'one address' : `${options.sites} sites by Zipf's law`
    this.title =
      `${count} TCP connections in ${durationSeconds} s, of ${options.clients} clients ` +
      `(Zipf ${options.clientSkew}) to ${asked}, lasting ${pareto.least} to ${pareto.most} s ` +
      `(Pareto ${pareto.shape}), seed ${seed}`
  }

  timeMs(packet: number): number {
    const at = this.order[packet]!
    return this.time((at / KINDS) | 0, at % KINDS)
  }

  clientOf(packet: number): number {
    return this.client[(this.order[packet]! / KINDS) | 0]!
  }

  siteOf(packet: number): number {
    return this.site[(this.order[packet]! / KINDS) | 0]!
  }

  write(packet: number, { words, halfs, bytes }: FramePool, offset: number): number {
    const at = this.order[packet]!
    const connection = (at / KINDS) | 0
    const word = offset >> 2
    words.fill(0, word, word + PACKET_BYTES / 4)
    bytes[offset] = 0x45
    bytes[offset + ipv4.TOTAL_LENGTH + 1] = PACKET_BYTES
    bytes[offset + ipv4.TTL] = TTL
    bytes[offset + ipv4.PROTOCOL] = ipv4.IpProtocol.tcp
    words[word + 3] = this.clientAddresses[this.client[connection]!]!
    words[word + 4] = this.siteAddresses[this.site[connection]!]!
    ipv4.writeChecksum(halfs, bytes, offset)
    const port = this.sourcePort[connection]!
    bytes[offset + 20] = port >> 8
    bytes[offset + 21] = port
    bytes[offset + 23] = PORT
    bytes[offset + 32] = 0x50
    bytes[offset + 33] = FLAGS[at % KINDS]!
    const { tcp } = ipv4.IpProtocol
    const transport = offset + ipv4.MIN_HEADER_BYTES
    const pseudo = sumPseudoHeader(tcp, words[word + 3]!, words[word + 4]!, MIN_HEADER_BYTES)
    halfs[(transport + CHECKSUM) >> 1] = finish(
      pseudo + sumRange(halfs, bytes, transport, MIN_HEADER_BYTES),
    )
    return PACKET_BYTES
  }

  /** Each client counts its ports up from one of its own, as kernels do. */
  private drawPorts(random: Random): Uint16Array {
    const next = Int32Array.from({ length: this.options.clients }, () => random.next() & 0xffff)
    return Uint16Array.from(this.client, (client) => FIRST_PORT + (next[client]!++ % PORTS))
  }

  private time(connection: number, kind: number): number {
    const start = this.startMs[connection]!
    if (kind === 0) return start
    return kind === 1 ? start + ROUND_TRIP_MS : this.endMs[connection]! + ROUND_TRIP_MS
  }

  private sortPackets(): Int32Array {
    const order: number[] = []
    for (let at = 0; at < this.connections * KINDS; at++)
      if (this.time((at / KINDS) | 0, at % KINDS) < this.durationMs) order.push(at)
    const times = Float64Array.from({ length: this.connections * KINDS }, (_, at) =>
      this.time((at / KINDS) | 0, at % KINDS),
    )
    return Int32Array.from(order.sort((a, b) => times[a]! - times[b]! || a - b))
  }
}
