// One worker of a trial: a whole data plane on memory ports, alone or one of a crew, whose packets it makes itself.
import { readFileSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { ConnectionTable } from '../../src/core/connection-table.js'
import { BATCH_SIZE, createDataPlane } from '../../src/core/data-plane.js'
import { Director } from '../../src/core/director.js'
import { RouteTable } from '../../src/core/route-table.js'
import { Handover } from '../../src/core/workers/handover.js'
import { LoadPort, type PacketSource } from '../../src/drivers/memory.js'
import { MonotonicClock } from '../../src/drivers/monotonic-clock.js'
import { mapShared } from '../../src/kernel/memory.js'
import { FramePool } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { SeededRandom } from '../../src/port/random.js'
import { fold } from '../../src/wire/checksum.js'
import { parseAddress, swap16 } from '../../src/wire/ipv4.js'
import { routes, serverAddress, SERVERS, TCP_ACK, TCP_SYN, VIRTUAL } from '../load.js'
import { DIRECTOR_MACS, PLAIN_SERVICE, plainDestination } from '../two-sided.js'

/** What a worker's packets are. */
export type Traffic =
  /** Of connections that there are, all of them its own. */
  | 'own'
  /** Of connections that there are, of all workers alike: what comes in by queues that know nothing of owners. */
  | 'any'
  /** Each a connection of its own that begins. */
  | 'new'

export interface ThreadTask {
  self: number
  workers: number
  /** False: each worker is alone, and the same clients are divided by hand. */
  isCrew: boolean
  traffic: Traffic
  /** Of all workers together, a power of two. */
  connections: number
  milliseconds: number
  frames: SharedArrayBuffer
  framesEach: number
  rings: SharedArrayBuffer
  common: SharedArrayBuffer
  /** Cells: how many workers are ready, and how many have finished. */
  gate: SharedArrayBuffer
}

export interface ThreadResult {
  packets: number
  /** On a processor, and ready to run without one. */
  runNanoseconds: number
  waitNanoseconds: number
  handedOver: number
  dropped: number
}

const FRAME_SIZE = 2048
const ETHERNET_BYTES = 14
const IP_BYTES = 46
/** Connections that begin in a trial at most. */
const NEW_CONNECTIONS = 1 << 20
/** Rounds that a worker spins through while another's ring is full, and how long it then sleeps. */
const MOST_BLOCKED = 16
const PAUSE_MS = 0.05
/** Packets let in at once: as many as a port of the daemon gives when there are many. */
const BUDGET = BATCH_SIZE

/** Segments of clients from a list of numbers, one after the other: 20.x.y.z by the lower 24 bits of a number. */
class ListedClients implements PacketSource {
  numbers: Int32Array = new Int32Array(1)
  private position = 0
  private readonly template = new Int32Array(16)
  private readonly ipSum: number

  constructor() {
    const bytes = new Uint8Array(this.template.buffer)
    const view = new DataView(this.template.buffer, 2)
    bytes.set(DIRECTOR_MACS[0], 2)
    bytes.set([2, 0, 0, 0, 0, 0xff], 8)
    view.setUint16(12, 0x0800)
    view.setUint8(14, 0x45)
    view.setUint16(16, IP_BYTES)
    view.setUint8(22, 64)
    view.setUint8(23, 6)
    view.setUint8(26, 20)
    view.setInt32(30, parseAddress(VIRTUAL)!, true)
    view.setUint16(34, 1024)
    view.setUint16(36, 80)
    view.setUint8(46, 5 << 4)
    const halfs = new Uint16Array(this.template.buffer)
    let sum = 0
    for (let half = 8; half < 18; half++) sum += halfs[half]!
    this.ipSum = sum
  }

  begin(numbers: Int32Array, flags: number): void {
    this.numbers = numbers
    this.position = 0
    new DataView(this.template.buffer, 2).setUint8(47, flags)
  }

  write(pool: FramePool, offset: number): number {
    const number = this.numbers[this.position]!
    if (++this.position === this.numbers.length) this.position = 0
    const { words, halfs } = pool
    const first = (offset - 2) >> 2
    for (let word = 0; word < 16; word++) words[first + word] = this.template[word]!
    const ip = (offset + ETHERNET_BYTES) >> 1
    // 20 and the number's upper 8 bits, then its lower 16.
    const high = 20 | ((number >>> 8) & 0xff00)
    const low = swap16(number & 0xffff)
    halfs[ip + 6] = high
    halfs[ip + 7] = low
    halfs[ip + 5] = fold(this.ipSum + (high - 20) + low) ^ 0xffff
    return ETHERNET_BYTES + IP_BYTES
  }
}

const pause = new Int32Array(new SharedArrayBuffer(4))
const task = workerData as ThreadTask
const { self, workers, isCrew, connections } = task
const pool = new FramePool(task.frames, FRAME_SIZE, task.framesEach * workers, {
  index: self,
  of: workers,
})
const clock = new MonotonicClock()
const neighbours = new RouteTable()
neighbours.apply(routes())
const maxConnections = task.traffic === 'new' ? NEW_CONNECTIONS : connections
const crew = { self, workers, clientPrefixLength: 32, common: task.common }
const director = new Director({
  pool,
  neighbours,
  random: new SeededRandom(1),
  table: {
    maxConnections,
    seed: 12345,
    region: mapShared(ConnectionTable.bytesFor(maxConnections)),
  },
  now: clock.nowJiffies(),
  ...(isCrew && { crew }),
})
const service = { protocol: 'tcp', address: VIRTUAL, port: 80 } as const
director.execute({
  op: 'add-service',
  service,
  options: PLAIN_SERVICE,
})
for (let i = 0; i < SERVERS; i++)
  director.execute({
    op: 'add-destination',
    service,
    destination: { address: serverAddress(i), port: 80 },
    options: plainDestination('direct-route'),
  })
const source = new ListedClients()
const linkLayer = LinkLayer.ethernet
const [clients, servers] = DIRECTOR_MACS.map(
  (mac) => new LoadPort({ pool, linkLayer, mac }, source),
) as [LoadPort, LoadPort]
const handover = isCrew ? new Handover(task.rings, self, workers, pool, () => {}) : undefined
const plane = createDataPlane({
  pool,
  ports: [clients, servers],
  director,
  neighbours,
  clock,
  ...(handover && { handover }),
})
const gate = new Int32Array(task.gate)

/** Numbers of clients, those of one worker or of all, in an order without pattern. */
function numbersOf(count: number, isOfAll: boolean): Int32Array {
  const numbers: number[] = []
  for (let i = 0; i < count; i++) {
    // A full period (Hull and Dobell 1962); two clients that follow each other share no cache line.
    const number = (Math.imul(i, 0x9e3779b1) >>> 0) % (1 << 24)
    if (isOfAll || ownerOf(number) === self) numbers.push(number)
  }
  return Int32Array.from(numbers)
}

function ownerOf(number: number): number {
  if (!isCrew) return number % workers
  const frame = pool.take()
  const one = new ListedClients()
  one.begin(Int32Array.of(number), TCP_ACK)
  const length = one.write(pool, frame + 258)
  const owner = director.ownerOf(frame + 258 + ETHERNET_BYTES, length - ETHERNET_BYTES, 0)
  pool.give(frame)
  return owner
}

function carry(packets: number): void {
  for (let left = packets; left > 0; left -= BUDGET) {
    clients.budget = Math.min(BUDGET, left)
    plane.round()
  }
}

const own = numbersOf(connections, false)
if (task.traffic === 'new') {
  // What comes later is new; this is for the compiler.
  source.begin(numbersOf(NEW_CONNECTIONS >> 4, false), TCP_SYN)
  carry(source.numbers.length)
  source.begin(numbersOf(NEW_CONNECTIONS, false).slice(source.numbers.length), TCP_SYN)
} else {
  source.begin(own, TCP_SYN)
  carry(own.length)
  source.begin(own, TCP_ACK)
  carry(own.length * 4)
  source.begin(task.traffic === 'any' ? numbersOf(connections, true) : own, TCP_ACK)
}

meet(0)
// A second part of warming up, with the others: what is handed over goes ways that nothing has gone before.
if (task.traffic === 'any') runFor(task.milliseconds / 2)
meet(1)
const before = observe()
if (task.traffic === 'new') runFor(task.milliseconds, source.numbers.length - BUDGET)
else runFor(task.milliseconds)
const after = observe()
meet(2)
const result = Object.fromEntries(
  Object.entries(after).map(([name, value]) => [name, value - before[name as keyof ThreadResult]]),
)
parentPort!.postMessage(result)

/** Goes on with what others hand over until all have come here. */
function meet(stage: number): void {
  Atomics.add(gate, stage, 1)
  while (Atomics.load(gate, stage) < workers) plane.round()
}

/** Lets packets in for a time, or until there have been so many, but no more than the others take. */
function runFor(milliseconds: number, most = Infinity): void {
  const end = performance.now() + milliseconds
  let left = most
  let blocked = 0
  while (left > 0 && performance.now() < end)
    for (let i = 0; i < 64 && left > 0; i++) {
      let room = Math.min(BUDGET, left)
      if (handover !== undefined)
        for (let worker = 0; worker < workers; worker++)
          if (worker !== self) room = Math.min(room, handover.roomTo(worker))
      clients.budget = room
      left -= room
      // A worker whose ring is full has no processor now; to spin until it has would count as work of this one.
      blocked = room === 0 ? blocked + 1 : 0
      if (blocked > MOST_BLOCKED) Atomics.wait(pause, 0, 0, PAUSE_MS)
      plane.round()
    }
}

function observe(): ThreadResult {
  const [run, wait] = readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ').map(Number)
  const { reasons } = director.execute({ op: 'get-counters' })
  return {
    packets: servers.counters.txPackets,
    runNanoseconds: run!,
    waitNanoseconds: wait!,
    handedOver: handover?.handedOver ?? 0,
    dropped: Object.values(reasons).reduce((sum, count) => sum + count, 0),
  }
}
