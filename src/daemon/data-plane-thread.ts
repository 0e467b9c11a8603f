/**
 * The data-plane thread: opens its ports, then runs to completion for ever. It never returns to its event
 * loop; messages of the main thread are fetched between rounds, and an eventfd wakes it from poll.
 */
import { receiveMessageOnPort, workerData } from 'node:worker_threads'
import { IpvsError, type Command, type Reply } from '../core/commands.js'
import { createDataPlane } from '../core/data-plane.js'
import { Director } from '../core/director.js'
import { RouteTable } from '../core/route-table.js'
import { Handover } from '../core/workers/handover.js'
import { AfxdpPort } from '../drivers/afxdp.js'
import { mapFrames, signal, Waiter } from '../drivers/waiter.js'
import { MonotonicClock } from '../drivers/monotonic-clock.js'
import { Patience } from '../drivers/patience.js'
import { TapPort } from '../drivers/tap.js'
import { TunPort } from '../drivers/tun.js'
import { FramePool, SCRATCH_BYTES } from '../port/frame-pool.js'
import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { PacketPort } from '../port/packet-port.js'
import { SeededRandom } from '../port/random.js'
import { parseAddress } from '../wire/ipv4.js'
import { availableMemoryPages } from '../kernel/memory.js'
import { TableAhead } from './memory-ahead.js'
import type { FromThread, PortPlan, ThreadOptions, ToThread } from './thread-messages.js'
import { parseMac } from '../wire/ethernet.js'

/** How long an idle thread sleeps at most, so that timers never lag behind by more. */
const IDLE_MS = 1000
/** The same while packets wait for a neighbour or for the kernel to transmit. */
const BUSY_MS = 1
/** Rounds in which nobody asks a TUN device that only leads to the kernel: a system call, mostly for nothing. */
const SIDE_PORT_REST = 7
/** How long stopping may take while frames are still under way. */
const DRAIN_ROUNDS = 1000

const options = workerData as ThreadOptions
const { channel } = options
const say = (message: FromThread): void => channel.postMessage(message)

const { crew, frameSize, frameCount, hasOffload } = options
const pool = crew
  ? new FramePool(
      crew.frames,
      frameSize,
      frameCount * crew.workers,
      { index: crew.self, of: crew.workers },
      hasOffload,
    )
  : new FramePool(
      mapFrames(frameSize * frameCount + SCRATCH_BYTES),
      frameSize,
      frameCount,
      undefined,
      hasOffload,
    )
const ports = options.ports.map(openPort)
const MS_PER_DAY = 86_400_000
const clock = new MonotonicClock(options.clockStartSeconds)
const routes = new RouteTable()
const director = new Director({
  pool,
  neighbours: routes,
  random: new SeededRandom(options.seed + (crew?.self ?? 0)),
  table: {
    region: options.connections,
    maxConnections: options.maxConnections,
    seed: options.seed,
  },
  counters: options.counters,
  ports: ports.map((port, i) => ({ name: port.name, interface: options.ports[i]!.interface })),
  now: clock.nowJiffies(),
  availableMemoryPages,
  millisecondsOfDay: () => Date.now() % MS_PER_DAY,
  noIpv6: 'the ports of uvsd carry no IPv6 yet',
  ...(crew && { crew }),
})
const handover =
  crew &&
  new Handover(crew.rings, crew.self, crew.workers, pool, (one) => signal(crew.wakeUps[one]!))
const dataPlane = createDataPlane({
  pool,
  ports,
  director,
  neighbours: routes,
  clock,
  kernelPath: {
    port: options.kernelPath.port,
    ...(options.kernelPath.mac ? { mac: parseMac(options.kernelPath.mac)! } : {}),
  },
  interfacePort: options.interfacePort,
  ...(handover && { handover }),
})
const ahead = new TableAhead(director.table, options.ahead.cells, options.ahead.table)
const attention = new Int32Array(options.attention)
const waiter = new Waiter([options.wakeUp, ...ports.flatMap((port) => port.descriptors)])
const patience = new Patience(
  ports.some((port) => port instanceof AfxdpPort) ? options.patienceUs : 0,
)
let stopping = false
/** A command that takes several rounds: the messages behind it wait. */
let unfinished: { id: number; parts: Generator<Reply<Command> | null, Reply<Command>> } | undefined

say({
  kind: 'opened',
  ports: ports.map((port) => ({
    name: port.name,
    interfaceIndex: port.interfaceIndex,
    ...(port instanceof AfxdpPort
      ? { socket: { descriptor: port.descriptor, queue: port.queue }, zeroCopy: port.zeroCopy }
      : {}),
  })),
})
run()

function run(): void {
  while (!stopping) {
    if (unfinished) goOn()
    else if (Atomics.load(attention, 0) !== 0) readMessages()
    const received = dataPlane.round()
    ahead.look()
    if (routes.hasWanted) say({ kind: 'wanted', neighbours: routes.takeWanted() })
    if (director.hasForgettable)
      say({ kind: 'forgettable', destinations: director.takeForgettable() })
    if (received > 0) {
      patience.renew()
      continue
    }
    if (unfinished) continue
    if (!stopping && Atomics.load(attention, 0) === 0 && patience.isExhausted())
      sleep(dataPlane.busy ? BUSY_MS : idleMs())
  }
  drain()
  for (const port of ports) port.close()
  say({ kind: 'stopped' })
  channel.close()
}

/** Waits for packets, messages, and what other workers hand over. */
function sleep(milliseconds: number): void {
  if (handover === undefined) {
    waiter.wait(milliseconds)
    return
  }
  if (handover.maySleep() && waiter.wait(milliseconds) > 0) waiter.clear(options.wakeUp)
  handover.awake()
}

function idleMs(): number {
  return Math.min(IDLE_MS, (director.jiffiesToNextTimer() * 1000) / JIFFIES_PER_SECOND)
}

/** What was received is still carried through, also by other workers; nothing new is steered here by now. */
function drain(): void {
  const ending = new Int32Array(crew?.ending ?? new SharedArrayBuffer(4))
  for (let i = 0; i < DRAIN_ROUNDS; i++) {
    if (dataPlane.round() > 0) continue
    if (!ports.some((port) => port.transmitting)) {
      Atomics.store(ending, crew?.self ?? 0, 1)
      if (ending.every((_, worker) => Atomics.load(ending, worker) !== 0)) return
    }
    waiter.wait(BUSY_MS)
  }
}

function readMessages(): void {
  // Cleared before reading: a message that comes meanwhile sets it again.
  Atomics.store(attention, 0, 0)
  waiter.clear(options.wakeUp)
  for (;;) {
    const received = receiveMessageOnPort(channel) as { message: ToThread } | undefined
    if (!received) return
    handle(received.message)
    if (unfinished) {
      // What comes behind it is read when it is done.
      Atomics.store(attention, 0, 1)
      return
    }
  }
}

/** The next part of a command; packets have their turn between. */
function goOn(): void {
  const { id, parts } = unfinished!
  try {
    const { value, done } = parts.next()
    if (done) unfinished = undefined
    if (done) say({ kind: 'reply', id, reply: value })
    else if (value !== null) say({ kind: 'part', id, part: value })
  } catch (error) {
    unfinished = undefined
    if (!(error instanceof IpvsError)) throw error
    say({ kind: 'refused', id, code: error.code, message: error.message })
  }
}

function handle(message: ToThread): void {
  switch (message.kind) {
    case 'command':
      unfinished = { id: message.id, parts: director.carryOut(message.command) }
      return goOn()
    case 'status':
      return say({
        kind: 'reply',
        id: message.id,
        reply: {
          ports: ports.map(({ name, counters }) => ({ name, counters: { ...counters } })),
          waitingPackets: dataPlane.waitingPackets,
          handedOverPackets: handover?.handedOver ?? 0,
          freeFrames: pool.available,
          frames: pool.ownCount,
        },
      })
    case 'routes':
      return routes.apply(message.updates)
    case 'own-addresses': {
      const addresses = Int32Array.from(message.addresses, (text) => parseAddress(text)!)
      for (const port of ports) if (port instanceof TapPort) port.setOwnAddresses(addresses)
      return
    }
    case 'kernel-mac':
      return dataPlane.setKernelMac(parseMac(message.mac)!)
    case 'forget':
      return director.forget(message.destinations)
    case 'stop':
      stopping = true
  }
}

function openPort(plan: PortPlan): PacketPort {
  switch (plan.driver) {
    case 'afxdp':
      return new AfxdpPort({
        interface: plan.interface,
        interfaceIndex: plan.interfaceIndex,
        mac: parseMac(plan.mac)!,
        mtu: plan.mtu,
        queue: plan.queue,
        copy: plan.copy,
        pool,
      })
    case 'tun':
      return new TunPort({
        name: plan.interface,
        pool,
        multiQueue: plan.multiQueue,
        restAfterNothing: options.ports.length > 1 ? SIDE_PORT_REST : 0,
        offload: plan.offload,
        threadedReceive: plan.threadedReceive,
      })
    case 'tap':
      return new TapPort({
        name: plan.interface,
        pool,
        ...(plan.mac ? { mac: parseMac(plan.mac)! } : {}),
      })
  }
}
