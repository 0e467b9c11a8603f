/**
 * ns of each operation of the connection table and the timer wheel, at several sizes, beside a JavaScript
 * Map with numbers for keys as far as they go (client address and port, the rest being equal).
 *
 *   node dist/bench/table.js [connections…]
 *
 * Lookups go through the connections in random order, so at large sizes this measures cache misses: one for
 * the index, one for the line. Medians of several rounds.
 */
import { ConnectionTable } from '../src/core/connection-table.js'
import { TimerWheel } from '../src/core/timer-wheel.js'
import { SeededRandom } from '../src/port/random.js'

const ROUNDS = 7
const LOOKUPS = 2_000_000

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!

/** Median ns of one of `count` operations that a call of `body` makes. */
function nanoseconds(count: number, body: () => unknown, prepare: () => void = () => {}): number {
  const rounds: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    prepare()
    const start = process.hrtime.bigint()
    body()
    rounds.push(Number(process.hrtime.bigint() - start) / count)
  }
  return median(rounds)
}

// Each loop is a function of its own: what is measured is the lookup, not a closure's context.

function requests(
  table: ConnectionTable,
  protocol: number,
  sources: Int32Array,
  virtualBe: number,
  ports: Int32Array,
): number {
  let found = 0
  for (let i = 0; i < LOOKUPS; i++)
    found ^= table.findRequest(protocol, sources[i]!, virtualBe, ports[i]!)
  return found
}

function replies(
  table: ConnectionTable,
  servers: Int32Array,
  clients: Int32Array,
  ports: Int32Array,
): number {
  let found = 0
  for (let i = 0; i < LOOKUPS; i++) found ^= table.findReply(6, servers[i]!, clients[i]!, ports[i]!)
  return found
}

function keyOf(source: number, ports: number): number {
  return (source >>> 0) * 0x10000 + (ports & 0xffff)
}

function lookups(map: Map<number, number>, sources: Int32Array, ports: Int32Array): number {
  let found = 0
  for (let i = 0; i < LOOKUPS; i++) found ^= map.get(keyOf(sources[i]!, ports[i]!))!
  return found
}

const sizes = process.argv.slice(2).map(Number)
for (const size of sizes.length > 0 ? sizes : [2000, 64_000, 1_000_000]) {
  const random = new SeededRandom(size)
  const region = new SharedArrayBuffer(ConnectionTable.bytesFor(size))
  let table = new ConnectionTable(region, { maxConnections: size, seed: 42 })
  const client = (i: number): number => 0x0000_000a | ((i >>> 14) << 8)
  const port = (i: number): number => 1024 + ((i & 0x3fff) << 1)
  const virtualBe = 0x0100_a8c0
  const serverOf = (i: number): number => 0x0000_000a | ((i % 100) << 24)
  const fill = (): void => {
    for (let i = 0; i < size; i++)
      table.create(6, client(i), port(i), virtualBe, 0x5000, serverOf(i), 0x901f, 0)
  }
  const create = nanoseconds(size, fill, () => {
    new Int32Array(region).fill(0)
    table = new ConnectionTable(region, { maxConnections: size, seed: 42 })
  })
  table.check()

  const order = new Int32Array(LOOKUPS)
  for (let i = 0; i < LOOKUPS; i++) order[i] = (random.next() >>> 0) % size
  const sources = Int32Array.from(order, client)
  const requestPorts = Int32Array.from(order, (i) => port(i) | (0x5000 << 16))
  const servers = Int32Array.from(order, serverOf)
  const replyPorts = Int32Array.from(order, (i) => 0x901f | (port(i) << 16))
  const request = nanoseconds(LOOKUPS, () => requests(table, 6, sources, virtualBe, requestPorts))
  const reply = nanoseconds(LOOKUPS, () => replies(table, servers, sources, replyPorts))
  const miss = nanoseconds(LOOKUPS, () => requests(table, 17, sources, virtualBe, requestPorts))

  const map = new Map<number, number>()
  for (let i = 0; i < size; i++) map.set(keyOf(client(i), port(i)), i + 1)
  const inMap = nanoseconds(LOOKUPS, () => lookups(map, sources, requestPorts))

  const wheel = new TimerWheel(table, 0)
  const deadlines = Int32Array.from(order, () => (random.next() >>> 0) % 90_000)
  const schedule = nanoseconds(size, () => {
    for (let c = 1; c <= size; c++) {
      wheel.set(c, deadlines[c]!, deadlines[c]!)
    }
  })
  const started = process.hrtime.bigint()
  let expired = 0
  wheel.advance(120_000, Infinity, {
    expire(connection) {
      table.remove(connection)
      expired++
    },
  })
  const expire = Number(process.hrtime.bigint() - started) / expired

  const figures = {
    create,
    request,
    reply,
    miss,
    'Map.get': inMap,
    schedule,
    'expire+remove': expire,
  }
  const text = Object.entries(figures).map(([name, ns]) => `${name} ${ns.toFixed(1)}`)
  console.log(`${size} connections, ns each: ${text.join(', ')}`)
}
