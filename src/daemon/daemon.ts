/**
 * The daemon's main thread: it holds the control plane and never touches a frame. It opens the kernel side
 * of the ports, starts the data-plane threads, keeps their routes and the ports' steering up to date, and serves
 * the API.
 */
import { randomBytes } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { Command, ConnectionStatus } from '../core/commands.js'
import { ConnectionTable } from '../core/connection-table.js'
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
import { MonotonicClock } from '../drivers/monotonic-clock.js'
import type { FileLock } from '../kernel/file-lock.js'
import { describe, hostWarnings, Plumbing } from '../kernel/routing/plumbing.js'
import { RouteFollower } from '../kernel/routing/route-follower.js'
import { Crew } from './crew.js'
import { lockInstance } from './instance-lock.js'
import { openPortSet, type PortSet } from './port-set.js'
import type { PortSpec } from './port-spec.js'

export interface DaemonOptions {
  ports: PortSpec[]
  /** What it begins with. */
  rules?: Rules
  settings: Extract<Command, { op: 'set-setting' }>[]
  /** Path of the API socket. */
  socket: string
  maxConnections: number
  /** Data-plane threads. */
  workers: number
  /** Bits of an IPv4 address that clients share who belong to the same worker. */
  clientPrefixLength: number
  /** How long a worker looks for packets in vain before it sleeps. */
  patienceUs: number
  /** Told in a sentence what people should know but nothing fails for. */
  warn: (text: string) => void
  /** The daemon cannot go on. */
  failed: (error: Error) => void
}

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
  // In the order in which they are made; `takeDown` knows how far a start has come.
  private lock?: FileLock
  private follower!: RouteFollower
  private plumbing!: Plumbing
  private ports!: PortSet
  private crew!: Crew
  private steeringTimer?: NodeJS.Timeout
  private api?: ApiServer
  private steeringDone: Promise<void> = Promise.resolve()
  private stopping: Promise<void> | undefined

  private constructor(private readonly options: DaemonOptions) {}

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
    await applyRules((commands) => executeEach((one) => this.crew.execute(one), commands), rules)
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

    const { workers, clientPrefixLength, patienceUs, maxConnections } = options
    this.ports = await openPortSet(options.ports, workers, this.follower.interfaces, options.warn)
    this.crew = await Crew.start(this.ports, {
      workers,
      clientPrefixLength,
      patienceUs,
      maxConnections,
      seed: randomBytes(4).readInt32LE(),
      clockStartSeconds: this.clock.start,
      wanted: (neighbours) => this.follower.resolve(neighbours),
      failed: (error) => this.fail(error),
    })
    this.ports.opened(this.crew.ports)

    // The devices exist now: what a predecessor left goes, what is wanted before any service comes.
    await this.plumbing.apply(this.ports.plumbing(noSteering, await this.addresses()))
    this.follower.on('updates', (updates) => this.follow(updates))
    this.follower.on('failed', (error) => this.fail(error))
    this.crew.applyRoutes([
      { op: 'set-ports', ports: await this.ports.reach() },
      ...(await this.follower.snapshot()),
    ])
    for (const setting of options.settings) await this.crew.execute(setting)
    if (options.rules) await this.applyRules(options.rules)
    else await this.steer()
    this.steeringTimer = setInterval(() => this.steer().catch(() => {}), STEERING_PERIOD_MS)
    this.api = await serveApi(options.socket, {
      execute: (command) => this.crew.execute(command),
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
      () => this.crew?.stop(),
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
    this.crew.applyRoutes(updates)
    if (!updates.some(({ op }) => op === 'links')) return
    try {
      const kernelMac = this.ports.follow(this.follower.interfaces)
      if (kernelMac !== undefined) this.crew.setKernelMac(kernelMac)
    } catch (error) {
      this.fail(error as Error)
    }
  }

  private async executeAll(commands: Command[]): Promise<CommandResult[]> {
    const results = await executeEach((command) => this.crew.execute(command), commands)
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
      const steering = await this.crew.execute({ op: 'get-steering' })
      const addresses = await this.addresses()
      this.ports.steer(steering)
      this.crew.setOwnAddresses([...new Set(steering.virtual.map(({ address }) => address))])
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
    let batch: ConnectionStatus[] = []
    let seen = 0
    for (const [worker, region] of this.crew.connections.entries()) {
      const { maxConnections } = this.crew
      const table = new ConnectionTable(region, { maxConnections, seed: 0, initialise: false })
      const templates = await this.crew.executeBy(worker, { op: 'list-engine-templates' })
      for (const connection of describeConnections(table, this.clock.nowJiffies(), templates)) {
        if (matchesFilter(connection, filter)) batch.push(connection)
        if (++seen % LISTING_BATCH !== 0) continue
        yield batch
        batch = []
        await setImmediate()
      }
    }
    yield batch
  }

  private async status(): Promise<unknown> {
    const thread = await this.crew.status()
    return {
      pid: process.pid,
      uptimeSeconds: Math.floor((Date.now() - this.startedAt) / 1000),
      ports: thread.ports.map((port) => ({ ...port, ...this.ports.describe(port.name) })),
      waitingPackets: thread.waitingPackets,
      workers: this.options.workers,
      handedOverPackets: thread.handedOverPackets,
      frames: { total: thread.frames, free: thread.freeFrames },
      maxConnections: this.options.maxConnections,
      plumbing: this.plumbing.list().map(describe),
    }
  }
}

const noSteering = { virtual: [], replies: [], marks: [] }
