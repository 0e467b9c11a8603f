/**
 * The small operations that a packet is made of, each beside the plain way of doing it, by the package
 * `benchmark` (which repeats each until its error is small). One operation is one call, so lookups show the
 * latency of their cache misses; a loop without anything between, as in bench/table.ts, overlaps them.
 *
 *   node dist/bench/micro/hot-path.js [--json] [filter]
 */
import { parseArgs } from 'node:util'
import Benchmark from 'benchmark'
import { ConnectionTable } from '../../src/core/connection-table.js'
import { finish, sumRange, update, delta32 } from '../../src/wire/checksum.js'
import { decrementTtl, writeChecksum } from '../../src/wire/ipv4.js'

const memory = new ArrayBuffer(65536)
const bytes = new Uint8Array(memory)
const halfs = new Uint16Array(memory)
const view = new DataView(memory)
for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >> 8)) & 0xff

/** RFC 1071 byte by byte, as it is usually written. */
function plainChecksum(offset: number, length: number): number {
  let sum = 0
  for (let i = 0; i < length; i += 2) sum += view.getUint16(offset + i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

const CONNECTIONS = 65536
const VIRTUAL = 0x010200c0
const table = new ConnectionTable(new ArrayBuffer(ConnectionTable.bytesFor(CONNECTIONS)), {
  maxConnections: CONNECTIONS,
  seed: 1,
})
const byKey = new Map<string, number>()
const byNumber = new Map<number, number>()
const ports = (i: number): number => (i & 0x3fff) | (80 << 24)
const client = (i: number): number => 10 | ((i >>> 6) << 8)
for (let i = 0; i < CONNECTIONS; i++) {
  const connection = table.create(6, client(i), ports(i) & 0xffff, VIRTUAL, 80 << 8, 2, 80 << 8, 0)
  byKey.set(`${client(i)}:${ports(i)}:${VIRTUAL}:6`, connection)
  byNumber.set((client(i) >>> 0) * 65536 + (ports(i) & 0xffff), connection)
}

/** Where the walk through the connections is, and what the operations yield, so that none is optimised away. */
const cells = new Int32Array(2)
const SINK = 1

/** A walk without pattern: full period, since the factor is 1 modulo 4 and the rest odd. */
function nextPlace(): number {
  return (cells[0] = (Math.imul(cells[0]!, 1664525) + 1013904223) & (CONNECTIONS - 1))
}

const operations: Record<string, () => void> = {
  'checksum, 20 bytes': () => {
    cells[SINK]! ^= finish(sumRange(halfs, bytes, 0, 20))
  },
  'checksum, 20 bytes, plain': () => {
    cells[SINK]! ^= plainChecksum(0, 20)
  },
  'checksum, 1500 bytes': () => {
    cells[SINK]! ^= finish(sumRange(halfs, bytes, 0, 1500))
  },
  'checksum, 1500 bytes, plain': () => {
    cells[SINK]! ^= plainChecksum(0, 1500)
  },
  'address replaced, incremental': () => {
    cells[SINK]! ^= update(halfs[5]!, delta32(VIRTUAL, cells[SINK]!))
  },
  'TTL decremented, incremental': () => {
    bytes[8] = 64
    decrementTtl(halfs, 0)
  },
  'TTL decremented, header summed anew': () => {
    bytes[8]! -= 1
    writeChecksum(halfs, bytes, 0)
  },
  'connection of 65536, found': () => {
    const i = nextPlace()
    cells[SINK]! ^= table.findRequest(6, client(i), VIRTUAL, ports(i))
  },
  'connection of 65536, missed': () => {
    const i = nextPlace()
    cells[SINK]! ^= table.findRequest(6, client(i), VIRTUAL ^ 1, ports(i))
  },
  'connection of 65536, Map by number': () => {
    const i = nextPlace()
    cells[SINK]! ^= byNumber.get((client(i) >>> 0) * 65536 + (ports(i) & 0xffff))!
  },
  'connection of 65536, Map by string': () => {
    const i = nextPlace()
    cells[SINK]! ^= byKey.get(`${client(i)}:${ports(i)}:${VIRTUAL}:6`)!
  },
}

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const results: Record<string, { nanoseconds: number; errorPercent: number; samples: number }> = {}
const suite = new Benchmark.Suite()
for (const [name, operation] of Object.entries(operations))
  if (name.includes(positionals[0] ?? '')) suite.add(name, operation, { maxTime: 1 })
suite.on('cycle', (event: Benchmark.Event) => {
  const { name, stats } = event.target as unknown as { name: string; stats: Benchmark.Stats }
  const nanoseconds = stats.mean * 1e9
  results[name] = { nanoseconds, errorPercent: stats.rme, samples: stats.sample.length }
  if (!values.json)
    console.log(
      `${name.padEnd(38)} ${nanoseconds.toFixed(1).padStart(8)} ns ±${stats.rme.toFixed(1)} %`,
    )
})
suite.run()
if (values.json) console.log(JSON.stringify({ node: process.version, results }, null, 2))
