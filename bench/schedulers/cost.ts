/**
 * What a scheduler costs: on the service and the destinations of a real director, asked as the director asks it,
 * each decision followed by what binds a connection to its destination.
 */
import { ConnectionFlag } from '../../src/core/connection.js'
import type { Destination } from '../../src/core/destination.js'
import { Packet } from '../../src/core/packet.js'
import { schedulers } from '../../src/core/schedulers/index.js'
import type { Scheduler } from '../../src/core/schedulers/scheduler.js'
import { Tasks } from '../../src/core/tasks.js'
import { quantile } from '../suite/statistics.js'
import { kindOf, type Candidate } from './candidates.js'
import { randomOf } from './synthetic-load.js'
import { World } from './world.js'

/** More than a server has connections at first, so that ovf always finds one. */
const WEIGHTS = [10, 30, 20]
const CONNECTIONS_PER_SERVER = 8
/** Clients, a power of two, and sites that they ask for: as many as the locality caches are meant for. */
const CLIENTS = 4096
const SITES = 1024

/** Decisions until a scheduler is as it will be: those that go by sites are to know them all. */
const warmUp = (candidate: Candidate): number => (kindOf(candidate).goesBySite ? CLIENTS : 64)

const PIECE_NANOSECONDS = 200_000
const LEAST_PIECES = 5

export type Change = 'add' | 'remove' | 're-weight'

const medianOf = (values: readonly number[]): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  )

/** In nanoseconds; the clock has a resolution of some ten. */
const now = (): number => Number(process.hrtime.bigint())

/** A service with many connections, whose oldest ends whenever a new one begins. */
export class CostWorld {
  private readonly world: World
  private readonly packet: Packet
  private readonly sources = new Int32Array(CLIENTS)
  private readonly sites = new Int32Array(CLIENTS)
  private readonly ports = new Int32Array(CLIENTS)
  private readonly living: (Destination | undefined)[]
  private oldest = 0
  private client = 0
  private changed = 0

  constructor(readonly destinations: number) {
    this.world = new World({
      target: { family: 4, protocol: 'tcp', port: 80, addresses: ['192.0.2.1', '192.0.2.2'] },
      weights: Array.from({ length: destinations }, (_, i) => WEIGHTS[i % WEIGHTS.length]!),
      maxConnections: 1024,
      seed: 1,
    })
    this.packet = new Packet(this.world.pool.words)
    const random = randomOf(1)
    for (let i = 0; i < CLIENTS; i++) {
      this.sources[i] = random.next()
      this.sites[i] = Math.imul(random.next() & (SITES - 1), 0x01000193)
      this.ports[i] = (80 << 24) | (random.next() & 0xffff)
    }
    this.living = new Array<Destination | undefined>(destinations * CONNECTIONS_PER_SERVER)
    this.living.fill(undefined)
  }

  /**
   * Gives the service another scheduler, and all servers as many connections.
   *
   * @throws IpvsError when the scheduler does not take so many destinations
   */
  use(candidate: Candidate): void {
    this.world.use(candidate)
    this.fill()
    this.decide(warmUp(candidate))
  }

  /** All servers alike, whatever there was before. */
  private fill(): void {
    const { living } = this
    const { destinations } = this.world.service
    for (const destination of living) destination?.unbind(FLAGS)
    for (let i = 0; i < living.length; i++) {
      const destination = (living[i] = destinations[i % destinations.length]!)
      destination.bind(FLAGS)
    }
  }

  /**
   * Nanoseconds that a decision takes: the median of pieces that are shorter than the turns that other programs
   * get, so that these are not in it.
   */
  nanosecondsPerDecision(milliseconds: number): number {
    let decisions = 1
    while (this.time(decisions) < PIECE_NANOSECONDS) decisions *= 2
    const pieces: number[] = []
    const end = now() + milliseconds * 1e6
    do pieces.push(this.time(decisions) / decisions)
    while (now() < end || pieces.length < LEAST_PIECES)
    return medianOf(pieces)
  }

  private time(decisions: number): number {
    const start = now()
    this.decide(decisions)
    return now() - start
  }

  /** The same with a scheduler that takes what comes next without a thought: what the loop itself costs. */
  nanosecondsPerNothing(milliseconds: number): number {
    const { service } = this.world
    const { scheduler } = service
    service.scheduler = new NextOne(service.destinations)
    const result = this.nanosecondsPerDecision(milliseconds)
    service.scheduler = scheduler
    return result
  }

  /** Bytes that a decision leaves behind on the heap. Needs --expose-gc. */
  bytesPerDecision(decisions: number): number {
    this.decide(decisions)
    return Math.max(0, this.bytesLeft(decisions) - this.bytesLeft(0)) / decisions
  }

  private bytesLeft(decisions: number): number {
    collect()
    const before = process.memoryUsage().heapUsed
    this.decide(decisions)
    return process.memoryUsage().heapUsed - before
  }

  /** Nanoseconds from a command to the end of the first decision after it: the median of some. */
  nanosecondsPerChange(change: Change, times: number): number {
    const { world, destinations } = this
    const spent: number[] = []
    for (let i = 0; i < times; i++) {
      const server = (this.changed = (this.changed + 1) % destinations)
      const weight = WEIGHTS[server % WEIGHTS.length]!
      if (change === 'add') world.remove(server)
      const start = now()
      if (change === 're-weight') world.weigh(server, weight + 1)
      else if (change === 'add') world.add(server, weight)
      else world.remove(server)
      this.decide(1)
      spent.push(now() - start)
      if (change === 're-weight') world.weigh(server, weight)
      else if (change === 'remove') world.add(server, weight)
    }
    return medianOf(spent)
  }

  /** Bytes that a scheduler holds beside service and destinations, once it knows all sites. Needs --expose-gc. */
  bytesHeld(candidate: Candidate): number {
    const { director, service } = this.world
    const kind = schedulers.get(candidate.scheduler)!
    const mine = service.scheduler
    const context = () => ({
      settings: director.settings,
      random: randomOf(1),
      tasks: new Tasks(0),
    })
    const held: Scheduler[] = []
    const before = bytesInUse()
    for (let i = 0; i < COPIES; i++) {
      service.scheduler = kind.create(service, context())
      held.push(service.scheduler)
      this.decide(warmUp(candidate))
    }
    const bytes = bytesInUse() - before
    for (const each of held) each.done?.()
    service.scheduler = mine
    return Math.max(0, bytes) / COPIES
  }

  /** New connections, one after the other; the oldest end. */
  private decide(count: number): void {
    const { packet, sources, sites, ports, living } = this
    const { scheduler } = this.world.service
    const { length } = living
    let { client, oldest } = this
    for (let i = 0; i < count; i++) {
      client = (client + 1) & (CLIENTS - 1)
      packet.sourceBe = sources[client]!
      packet.destinationBe = sites[client]!
      packet.ports = ports[client]!
      const destination = scheduler.schedule(packet)
      if (!destination) continue
      living[oldest]?.unbind(FLAGS)
      living[oldest] = destination
      destination.bind(FLAGS)
      oldest = oldest + 1 === length ? 0 : oldest + 1
    }
    this.client = client
    this.oldest = oldest
  }
}

/** As memory is measured: the mean of so many. */
const COPIES = 64

/** Connections by direct routing, active. */
const FLAGS = ConnectionFlag.directRoute | ConnectionFlag.noOutput

class NextOne implements Scheduler {
  private last = 0

  constructor(private readonly destinations: readonly Destination[]) {}

  schedule(): Destination | undefined {
    const { destinations } = this
    if (++this.last >= destinations.length) this.last = 0
    return destinations[this.last]
  }
}

function collect(): void {
  const { gc } = globalThis as { gc?: () => void }
  if (gc === undefined) throw new Error('memory is measured with --expose-gc only')
  gc()
}

function bytesInUse(): number {
  collect()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
