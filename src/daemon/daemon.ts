/**
 * The daemon's main thread: it holds the control plane and never touches a frame. It opens the kernel side
 * of the ports, starts the data-plane thread, keeps the thread's routes and the ports' steering up to date,
 * and serves the API.
 */
import { randomBytes } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Command, ConnectionStatus } from '../core/commands.js'
import { ConnectionTable } from '../core/connection-table.js'
import { CounterRegion } from '../core/counters.js'
import { describeConnections } from '../core/describe.js'
import type { RouteUpdate } from '../core/route-table.js'
import {
  executeEach,
  matchesFilter,
  type CommandResult,
  type ConnectionFilter,
} from '../control/api.js'
import { serveApi, type ApiServer } from '../control/api-server.js'
import { Generation } from '../control/generation.js'
import { applyRules } from '../control/reconcile.js'
import type { Rules } from '../control/rules.js'
import { framesForPorts } from '../drivers/afxdp.js'
import { MonotonicClock } from '../drivers/monotonic-clock.js'
import type { FileLock } from '../kernel/file-lock.js'
import { describe, hostWarnings, Plumbing } from '../kernel/routing/plumbing.js'
import { RouteFollower } from '../kernel/routing/route-follower.js'
import { lockInstance } from './instance-lock.js'
import { openPortSet, type PortSet } from './port-set.js'
import type { PortSpec } from './port-spec.js'
import { DataPlaneThread } from './thread.js'

export interface DaemonOptions {
  ports: PortSpec[]
  /** What it begins with. */
  rules?: Rules
  settings: Extract<Command, { op: 'set-setting' }>[]
  /** Path of the API socket. */
  socket: string
  maxConnections: number
  /** Told in a sentence what people should know but nothing fails for. */
  warn: (text: string) => void
  /** The daemon cannot go on. */
  failed: (error: Error) => void
}

const FRAME_SIZE = 2048
/** Frames of a thread, 32 MiB of them, unless its AF_XDP rings take more. */
const MIN_FRAME_COUNT = 16384

/** Services and destinations that there is room for: 8 MiB of counters, touched as they come. */
const COUNTER_SLOTS = 65536

/** Commands that change what must be brought to the director. */
const changesSteering: ReadonlySet<Command['op']> = new Set<Command['op']>([
  'add-service',
  'edit-service',
  'delete-service',
  'flush',
  'add-destination',
  'edit-destination',
  'delete-destination',
  'set-marks',
])

/** Commands that change nothing. */
const onlyReads: ReadonlySet<Command['op']> = new Set<Command['op']>([
  'get-timeouts',
  'list-services',
  'list-marks',
  'get-steering',
  'get-counters',
  'get-settings',
])

/** Connections looked at in one go for a listing, so that the main thread stays responsive. */
const LISTING_BATCH = 1024

/** How often steering is worked out anew, for real servers whose last connection has ended since. */
const STEERING_PERIOD_MS = 10_000

export class Daemon {
  private readonly startedAt = Date.now()
  private readonly generation = new Generation()
  private readonly clock = new MonotonicClock()
  private readonly connections: SharedArrayBuffer
  private readonly counters = new SharedArrayBuffer(CounterRegion.bytesFor(COUNTER_SLOTS))
  // In the order in which they are made; `takeDown` knows how far a start has come.
  private lock?: FileLock
  private follower!: RouteFollower
  private plumbing!: Plumbing
  private ports!: PortSet
  private thread!: DataPlaneThread
  private steeringTimer?: NodeJS.Timeout
  private api?: ApiServer
  private steeringDone: Promise<void> = Promise.resolve()
  private stopping: Promise<void> | undefined

  private constructor(private readonly options: DaemonOptions) {
    this.connections = new SharedArrayBuffer(ConnectionTable.bytesFor(options.maxConnections))
  }

  /** Starts everything; when any of it fails, what was made is undone and the error says what failed. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(options)
    try {
      await daemon.begin()
      return daemon
    } catch (error) {
      await daemon.stop().catch(() => {})
      throw error
    }
  }

  /** Makes the director have these rules: what differs is changed, connections stay. Throws when it refuses; then nothing has changed. */
  async applyRules(rules: Rules): Promise<void> {
    await applyRules((commands) => executeEach((one) => this.thread.execute(one), commands), rules)
    await this.steer()
    this.generation.advance()
  }

  /** Carries through what has been received, takes everything out of the kernel again, and ends the threads. */
  stop(): Promise<void> {
    this.stopping ??= this.takeDown()
    return this.stopping
  }

  private async begin(): Promise<void> {
    const { options } = this
    for (const warning of hostWarnings(options.ports.map(({ driver }) => driver)))
      options.warn(warning)
    this.lock = lockInstance(options.ports.map((port) => `${port.driver}:${port.interface}`))

    this.follower = await RouteFollower.start()
    this.plumbing = new Plumbing(() => this.follower.readInterfaces())

    this.ports = await openPortSet(options.ports, this.follower.interfaces, options.warn)
    this.thread = await DataPlaneThread.start(
      {
        ports: this.ports.plans,
        kernelPath: this.ports.kernelPath,
        frameSize: FRAME_SIZE,
        frameCount: Math.max(MIN_FRAME_COUNT, framesForPorts(this.ports.plans.length)),
        maxConnections: options.maxConnections,
        connections: this.connections,
        counters: this.counters,
        seed: randomBytes(4).readInt32LE(),
        clockStartSeconds: this.clock.start,
      },
      {
        wanted: (neighbours) => this.follower.resolve(neighbours),
        failed: (error) => this.fail(error),
      },
    )
    this.ports.opened(this.thread.ports)

    // The devices exist now: what a predecessor left goes, what is wanted before any service comes.
    await this.plumbing.apply(this.ports.plumbing(noSteering, await this.addresses()))
    this.follower.on('updates', (updates) => this.follow(updates))
    this.follower.on('failed', (error) => this.fail(error))
    this.thread.applyRoutes([
      { op: 'set-ports', ports: await this.ports.reach() },
      ...(await this.follower.snapshot()),
    ])
    for (const setting of options.settings) await this.thread.execute(setting)
    if (options.rules) await this.applyRules(options.rules)
    else await this.steer()
    this.steeringTimer = setInterval(() => this.steer().catch(() => {}), STEERING_PERIOD_MS)
    this.api = await serveApi(options.socket, {
      execute: (command) => this.thread.execute(command),
      executeAll: (commands) => this.executeAll(commands),
      connections: (filter) => this.listConnections(filter),
      status: () => this.status(),
      generation: this.generation,
    })
  }

  /** First nothing new is led here, then the thread finishes what it has, then the rest goes. */
  private async takeDown(): Promise<void> {
    const errors: Error[] = []
    for (const step of [
      () => this.api?.close(),
      () => clearInterval(this.steeringTimer),
      () => this.steeringDone,
      () => this.ports?.close(),
      () => this.plumbing?.remove(),
      () => this.thread?.stop(),
      () => this.plumbing?.close(),
      () => this.follower?.close(),
      () => this.lock?.release(),
    ]) {
      try {
        await step()
      } catch (error) {
        errors.push(error as Error)
      }
    }
    if (errors.length > 0) throw new Error(errors.map(({ message }) => message).join('; '))
  }

  private fail(error: Error): void {
    if (!this.stopping) this.options.failed(error)
  }

  /** Passes on what the kernel's tables have become, and ends the daemon when its ports are no more. */
  private follow(updates: RouteUpdate[]): void {
    this.thread.applyRoutes(updates)
    if (!updates.some(({ op }) => op === 'links')) return
    try {
      const kernelMac = this.ports.follow(this.follower.interfaces)
      if (kernelMac !== undefined) this.thread.setKernelMac(kernelMac)
    } catch (error) {
      this.fail(error as Error)
    }
  }

  private async executeAll(commands: Command[]): Promise<CommandResult[]> {
    const results = await executeEach((command) => this.thread.execute(command), commands)
    // The answer says that the commands are in force, so traffic must find its way first.
    if (commands.some(({ op }) => changesSteering.has(op))) await this.steer()
    if (commands.some(({ op }) => !onlyReads.has(op))) this.generation.advance()
    return results
  }

  /**
   * Brings the ports' steering and the plumbing up to what the director wants now; calls take turns. Where
   * that fails, director and kernel do not agree any more, and the daemon ends.
   */
  private steer(): Promise<void> {
    const turn = this.steeringDone.then(async () => {
      if (this.stopping) return
      const steering = await this.thread.execute({ op: 'get-steering' })
      const addresses = await this.addresses()
      this.ports.steer(steering)
      this.thread.setOwnAddresses([...new Set(steering.virtual.map(({ address }) => address))])
      await this.plumbing.apply(this.ports.plumbing(steering, addresses))
    })
    this.steeringDone = turn.catch((error: Error) => this.fail(error))
    return turn
  }

  /** The machine's own addresses, each with the interface that has it. */
  private addresses(): Promise<Map<string, string>> {
    return this.follower.readAddresses()
  }

  private async *listConnections(filter: ConnectionFilter): AsyncIterable<ConnectionStatus[]> {
    const table = new ConnectionTable(this.connections, {
      maxConnections: this.options.maxConnections,
      seed: 0,
      initialise: false,
    })
    const templates = await this.thread.execute({ op: 'list-engine-templates' })
    let batch: ConnectionStatus[] = []
    let seen = 0
    for (const connection of describeConnections(table, this.clock.nowJiffies(), templates)) {
      if (matchesFilter(connection, filter)) batch.push(connection)
      if (++seen % LISTING_BATCH !== 0) continue
      yield batch
      batch = []
      await setImmediate()
    }
    yield batch
  }

  private async status(): Promise<unknown> {
    const thread = await this.thread.status()
    return {
      pid: process.pid,
      uptimeSeconds: Math.floor((Date.now() - this.startedAt) / 1000),
      ports: thread.ports.map((port) => ({ ...port, ...this.ports.describe(port.name) })),
      waitingPackets: thread.waitingPackets,
      frames: { total: thread.frames, free: thread.freeFrames },
      maxConnections: this.options.maxConnections,
      plumbing: this.plumbing.list().map(describe),
    }
  }
}

const noSteering = { virtual: [], replies: [], marks: [] }
