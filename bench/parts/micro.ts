/**
 * The small operations that a packet is made of, each beside the plain way of doing it, by the package
 * `benchmark`, which repeats each until its error is small.
 */
import Benchmark from 'benchmark'
import { ConnectionTable } from '../../src/core/connection-table.js'
import { TimerWheel } from '../../src/core/timer-wheel.js'
import {
  delta16,
  delta32,
  finish,
  sumPseudoHeader,
  sumRange,
  update,
} from '../../src/wire/checksum.js'
import { decrementTtl, MIN_HEADER_BYTES, writeChecksum } from '../../src/wire/ipv4.js'
import type { Claim, Context, Metric, Part, Subject } from '../suite/measurement.js'

const TIME: Metric = { name: 'time per operation', unit: 'ns', better: 'lower' }

const UVS: Subject = { name: 'uvs', role: 'uvs' }
const BYTEWISE: Subject = { name: 'byte by byte', role: 'peer' }
const ANEW: Subject = { name: 'summed anew', role: 'peer' }
/** Of the 104 bits by which a connection is known, it knows the client's 48; and what it finds is not looked at. */
const NUMBER_MAP: Subject = { name: 'JavaScript Map by client alone', role: 'peer' }
/** Two numbers are needed for these bits: a Map of virtual services, each a Map of clients, whose values are objects. */
const OBJECT_MAPS: Subject = { name: 'JavaScript Maps of objects', role: 'peer' }
const STRING_MAP: Subject = { name: 'JavaScript Map by string', role: 'peer' }
const TIMEOUTS: Subject = { name: 'setTimeout of node', role: 'peer' }

const CONNECTIONS = 65536
const SEGMENT_BYTES = 1500
const TCP = 6
const TCP_CHECKSUM = MIN_HEADER_BYTES + 16
const CLIENT_PORT_BE = 0x1234
const VIRTUAL = 0x010200c0
const SERVER = 0x0200000a
const JIFFIES = 90_000

/** A connection as a program would have it that keeps objects in a Map: what uvs has in a row of its table. */
interface ConnectionObject {
  readonly clientBe: number
  readonly clientPortBe: number
  readonly virtualBe: number
  readonly virtualPortBe: number
  readonly serverBe: number
  readonly serverPortBe: number
  readonly protocol: number
  state: number
  expires: number
}

interface Operation {
  readonly operation: string
  readonly subject: Subject
  readonly run: () => void
}

/** The operations, on data of their own: a segment, and a table with connections and their timers. */
function operations(defer: Context['defer']): Operation[] {
  const memory = new ArrayBuffer(65536)
  const bytes = new Uint8Array(memory)
  const halfs = new Uint16Array(memory)
  const words = new Int32Array(memory)
  const view = new DataView(memory)
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff
  bytes[0] = 0x45

  const table = new ConnectionTable(new ArrayBuffer(ConnectionTable.bytesFor(CONNECTIONS)), {
    maxConnections: CONNECTIONS,
    seed: 1,
  })
  const wheel = new TimerWheel(table, 0)
  const byKey = new Map<string, number>()
  const byNumber = new Map<number, number>()
  const byService = new Map<number, Map<number, ConnectionObject>>()
  const ports = (i: number): number => (i & 0x3fff) | (80 << 24)
  const client = (i: number): number => 10 | ((i >>> 6) << 8)
  const numberKey = (i: number): number => (client(i) >>> 0) * 65536 + (ports(i) & 0xffff)
  /** Address, port and protocol of a virtual service, 50 bits: TCP is 0. */
  const serviceKey = (i: number, virtual: number): number =>
    (virtual >>> 0) * 65536 + (ports(i) >>> 16)
  const stringKey = (i: number): string => `${client(i)}:${ports(i)}:${VIRTUAL}:6`
  const numbers = new Int32Array(CONNECTIONS)
  for (let i = 0; i < CONNECTIONS; i++) {
    const port = ports(i) & 0xffff
    const connection = table.create(TCP, client(i), port, VIRTUAL, 80 << 8, 2, 80 << 8, 0)
    wheel.set(connection, JIFFIES, JIFFIES)
    byKey.set(stringKey(i), connection)
    byNumber.set(numberKey(i), connection)
    const service = serviceKey(i, VIRTUAL)
    let ofService = byService.get(service)
    if (ofService === undefined) byService.set(service, (ofService = new Map()))
    ofService.set(numberKey(i), {
      clientBe: client(i),
      clientPortBe: port,
      virtualBe: VIRTUAL,
      virtualPortBe: 80 << 8,
      serverBe: 2,
      serverPortBe: 80 << 8,
      protocol: TCP,
      state: 0,
      expires: JIFFIES + i,
    })
    numbers[i] = connection
  }
  // Timers of node that never fire meanwhile, as many as connections would have.
  const expired = (): void => {}
  const timeouts = Array.from({ length: CONNECTIONS }, () => setTimeout(expired, 900_000).unref())
  defer(() => timeouts.forEach((timeout) => clearTimeout(timeout)))

  /** Where the walk through the connections is, and what the operations yield, so that none is optimised away. */
  const cells = new Int32Array(3)
  const SINK = 1
  const NOW = 2
  /** A walk without pattern: full period, since the factor is 1 modulo 4 and the rest odd. */
  const nextPlace = (): number =>
    (cells[0] = (Math.imul(cells[0]!, 1664525) + 1013904223) & (CONNECTIONS - 1))

  /** RFC 1071 byte by byte, as it is usually written. */
  const plainChecksum = (length: number): number => {
    let sum = 0
    for (let i = 0; i < length; i += 2) sum += view.getUint16(i)
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
    return ~sum & 0xffff
  }
  const segmentBytes = SEGMENT_BYTES - MIN_HEADER_BYTES

  return [
    ...[20, SEGMENT_BYTES].flatMap((length) => [
      {
        operation: `checksum of ${length} bytes`,
        subject: UVS,
        run: () => {
          cells[SINK]! ^= finish(sumRange(halfs, bytes, 0, length))
        },
      },
      {
        operation: `checksum of ${length} bytes`,
        subject: BYTEWISE,
        run: () => {
          cells[SINK]! ^= plainChecksum(length)
        },
      },
    ]),
    {
      operation: 'TTL decremented',
      subject: UVS,
      run: () => {
        bytes[8] = 64
        decrementTtl(halfs, 0)
      },
    },
    {
      operation: 'TTL decremented',
      subject: ANEW,
      run: () => {
        bytes[8] = 63
        writeChecksum(halfs, bytes, 0)
      },
    },
    {
      operation: 'address and port rewritten',
      subject: UVS,
      run: () => {
        // Two deltas serve both checksums, of the header and of the segment with its pseudo-header.
        const to = words[4]! === SERVER ? VIRTUAL : SERVER
        const port = halfs[11] === 80 ? 8080 : 80
        const address = delta32(words[4]!, to)
        words[4] = to
        halfs[5] = update(halfs[5]!, address)
        halfs[TCP_CHECKSUM / 2] = update(
          halfs[TCP_CHECKSUM / 2]!,
          address + delta16(halfs[11]!, port),
        )
        halfs[11] = port
      },
    },
    {
      operation: 'address and port rewritten',
      subject: ANEW,
      run: () => {
        words[4] = words[4]! === SERVER ? VIRTUAL : SERVER
        halfs[11] = halfs[11] === 80 ? 8080 : 80
        writeChecksum(halfs, bytes, 0)
        halfs[TCP_CHECKSUM / 2] = 0
        const pseudo = sumPseudoHeader(words[3]!, words[4]!, TCP, segmentBytes)
        halfs[TCP_CHECKSUM / 2] = finish(
          pseudo + sumRange(halfs, bytes, MIN_HEADER_BYTES, segmentBytes),
        )
      },
    },
    ...['found', 'missed'].flatMap((outcome) => {
      const operation = `connection of 65,536 ${outcome}`
      const miss = outcome === 'missed' ? 1 : 0
      return [
        {
          operation,
          subject: UVS,
          run: () => {
            const i = nextPlace()
            cells[SINK]! ^= table.findRequest(TCP, client(i), VIRTUAL ^ miss, ports(i))
          },
        },
        {
          operation,
          subject: OBJECT_MAPS,
          run: () => {
            const i = nextPlace()
            const ofService = byService.get(serviceKey(i, VIRTUAL))
            // A miss is one of the client's, as it is for uvs: the service is there.
            const found = ofService?.get(numberKey(i) + miss * 2 ** 50)
            cells[SINK]! ^= found === undefined ? 0 : found.serverBe
          },
        },
        {
          operation,
          subject: NUMBER_MAP,
          run: () => {
            cells[SINK]! ^= byNumber.get(numberKey(nextPlace()) + miss * 2 ** 50) ?? 0
          },
        },
        {
          operation,
          subject: STRING_MAP,
          run: () => {
            const i = nextPlace()
            cells[SINK]! ^= byKey.get(`${client(i)}:${ports(i)}:${VIRTUAL ^ miss}:6`) ?? 0
          },
        },
      ]
    }),
    {
      operation: 'connection’s timer prolonged',
      subject: UVS,
      run: () => {
        // As if a thousand packets came in a jiffy.
        cells[NOW]!++
        wheel.set(numbers[nextPlace()]!, JIFFIES + (cells[NOW]! >> 10), JIFFIES)
      },
    },
    {
      operation: 'connection’s timer prolonged',
      subject: TIMEOUTS,
      run: () => {
        timeouts[nextPlace()]!.refresh()
      },
    },
    {
      operation: 'connection made and removed',
      subject: UVS,
      run: () => {
        const i = (cells[NOW]! = (cells[NOW]! + 1) & 0x3fff)
        const c = table.create(TCP, 11, i, VIRTUAL, CLIENT_PORT_BE, 2, CLIENT_PORT_BE, 0)
        table.remove(c)
      },
    },
    {
      operation: 'connection made and removed',
      subject: STRING_MAP,
      run: () => {
        const i = (cells[NOW]! = (cells[NOW]! + 1) & 0x3fff)
        const key = `11:${i}:${VIRTUAL}:6`
        byKey.set(key, i)
        byKey.delete(key)
      },
    },
  ]
}

const SLOWER = [
  { operation: 'checksum of 1500 bytes', peer: BYTEWISE },
  { operation: 'address and port rewritten', peer: ANEW },
  { operation: 'connection of 65,536 found', peer: OBJECT_MAPS },
  { operation: 'connection’s timer prolonged', peer: TIMEOUTS },
]

const claims: readonly Claim[] = SLOWER.map(({ operation, peer }) => ({
  text: `Faster than ${peer.name}: ${operation}`,
  metric: TIME.name,
  parameters: { operation },
  subject: UVS.name,
  against: peer.name,
  atMost: 1,
}))

/** Nanoseconds of one operation: the mean of as many as fit. */
function measure(run: () => void, seconds: number): number {
  const benchmark = new Benchmark('', run, { maxTime: seconds, minSamples: 3, minTime: 0.02 })
  benchmark.run()
  const { error } = benchmark as unknown as { error?: Error }
  if (error !== undefined) throw error
  return benchmark.stats.mean * 1e9
}

export const micro: Part = {
  name: 'micro',
  title: 'The operations that a packet is made of',
  description:
    'Checksums, header rewriting, connection lookup and timers, one call at a time by the package ' +
    'benchmark, each beside the plain way of doing it in JavaScript: so lookups show the latency of ' +
    'their cache misses, and nothing overlaps as it does among the packets of a batch. A connection is found in the ' +
    'same random order among the same 65,536 by all: by uvs from all 104 bits of addresses, ports and protocol, up to ' +
    'and including a look at the connection itself; so, too, by “Maps of objects”, one of virtual services by a ' +
    'number and in it one of clients by another, since these bits do not fit in one. “Map by client alone” has ' +
    'only the 48 bits of the client’s address and port for a key, which would do with a single service, and stops ' +
    'at the connection’s number: less than what a packet takes, and shown as the least that a Map costs.',
  needsRoot: false,
  seconds: 60,
  quickSeconds: 4,
  leastSeconds: 10,
  claims,
  plots: [
    {
      title: 'Time per operation',
      metric: TIME.name,
      x: 'operation',
      xScale: 'category',
      yScale: 'log',
      caption:
        'Incremental checksums do not depend on the length of the packet, and a connection is found ' +
        'without making a key of it first.',
    },
  ],
  async run(context) {
    const all = operations(context.defer)
    const share = 1 / all.length
    for (const round of context.rounds({ least: 5, most: 25, share: 1 })) {
      context.progress(`round ${round + 1}`)
      // The order turns by one each round.
      for (let i = 0; i < all.length; i++) {
        const { operation, subject, run } = all[(i + round) % all.length]!
        const seconds = context.quick ? 0.03 : (context.seconds * share) / 8
        await context.trial(subject, { operation }, round, () => [[TIME, measure(run, seconds)]])
      }
    }
  },
}
