import { IpvsError, type Command, type Reply } from '../core/commands.js'
import { ConnectionTable } from '../core/connection-table.js'
import { CounterRegion } from '../core/counters.js'
import type { RouteUpdate } from '../core/route-table.js'
import { CommonState } from '../core/workers/common-state.js'
import { FRAMES_PER_RING, Handover } from '../core/workers/handover.js'
import { mergeReplies } from '../core/workers/merge.js'
import { framesForPorts } from '../drivers/afxdp.js'
import { WakeUp } from '../drivers/waiter.js'
import { mapShared } from '../kernel/memory.js'
import { SCRATCH_BYTES } from '../port/frame-pool.js'
import type { PortCounters } from '../port/packet-port.js'
import { MemoryAhead } from './memory-ahead.js'
import type { PortSet } from './port-set.js'
import { DataPlaneThread } from './thread.js'
import type { CrewPlan, OpenedPort, PortPlan, ThreadStatus } from './thread-messages.js'

const FRAME_SIZE = 2048
/** The same where packets may be of many segments: the longest IP packet, and headroom. Memory is used by the page. */
const OFFLOAD_FRAME_SIZE = 128 * 1024
const OFFLOAD_FRAME_COUNT = 1024
/** Frames of a worker, 32 MiB of them, unless its AF_XDP rings take more. */
const MIN_FRAME_COUNT = 16384

/** Frames are named by offsets of 32 bits with a sign. */
const MOST_FRAME_BYTES = 2 ** 31

/** Services and destinations that there is room for: 32 MiB of counters, touched as they come. */
const COUNTER_SLOTS = 1 << 18

export interface CrewOptions {
  workers: number
  clientPrefixLength: number
  patienceUs: number
  /** Of all workers together. */
  maxConnections: number
  seed: number
  clockStartSeconds: number
  wanted: (neighbours: { interfaceIndex: number; address: string }[]) => void
  failed: (error: Error) => void
}

/**
 * The data-plane threads, as one: what is told to the crew is told to every worker in the same order, and what the
 * crew answers is what they answer together. See docs/workers.md.
 */
export class Crew {
  private constructor(
    private readonly threads: readonly DataPlaneThread[],
    /** By worker. */
    readonly connections: readonly SharedArrayBuffer[],
    /** Room in each worker's table. */
    readonly maxConnections: number,
    private readonly ahead: MemoryAhead,
    private readonly wakeUps: readonly WakeUp[],
    private readonly failed: (error: Error) => void,
  ) {}

  /** Starts the threads and waits until their ports are open. Fails with the error that opening a port failed with. */
  static async start(ports: PortSet, options: CrewOptions): Promise<Crew> {
    const { workers, patienceUs, seed, clockStartSeconds } = options
    const maxConnections = Math.ceil(options.maxConnections / workers)
    const portCount = Math.max(...ports.plans.map(({ length }) => length))
    const hasOffload = ports.plans[0]!.some((plan) => plan.driver === 'tun' && plan.offload)
    const frameSize = hasOffload ? OFFLOAD_FRAME_SIZE : FRAME_SIZE
    const frameCount =
      (hasOffload ? OFFLOAD_FRAME_COUNT : Math.max(MIN_FRAME_COUNT, framesForPorts(portCount))) +
      (workers - 1) * FRAMES_PER_RING
    const wakeUps = Array.from({ length: workers }, () => new WakeUp())
    const plan = workers > 1 ? planOf(options, frameSize, frameCount, wakeUps) : undefined
    const connections = wakeUps.map(() => mapShared(ConnectionTable.bytesFor(maxConnections)))
    const ahead = await MemoryAhead.start(connections, maxConnections, options.failed)
    const threads: DataPlaneThread[] = []
    const crew = new Crew(threads, connections, maxConnections, ahead, wakeUps, options.failed)
    try {
      for (const [self, plans] of ports.plans.entries()) {
        threads.push(
          await DataPlaneThread.start(
            {
              ports: plans,
              interfacePort: plans.map((one) => plans.findIndex((other) => isSame(one, other))),
              ...(plan && { crew: { ...plan, self } }),
              kernelPath: ports.kernelPath,
              frameSize,
              hasOffload,
              frameCount,
              patienceUs,
              maxConnections,
              connections: connections[self]!,
              ahead: { cells: ahead.cells, table: self },
              counters: new SharedArrayBuffer(CounterRegion.bytesFor(COUNTER_SLOTS)),
              seed,
              clockStartSeconds,
            },
            {
              wanted: options.wanted,
              forgettable: (destinations) => threads.forEach((one) => one.forget(destinations)),
              failed: (error) => {
                // The others do not wait for it when they end.
                if (plan) Atomics.store(new Int32Array(plan.ending), self, 1)
                options.failed(error)
              },
            },
            wakeUps[self]!,
          ),
        )
      }
    } catch (error) {
      await crew.stop()
      throw error
    }
    return crew
  }

  /** By worker. */
  get ports(): OpenedPort[][] {
    return this.threads.map(({ ports }) => ports)
  }

  /**
   * Applies one command, with all workers before it answers. Rejects with IpvsError where the kernel would refuse it.
   */
  async execute<C extends Command>(command: C): Promise<Reply<C>> {
    const outcomes = await Promise.allSettled(this.threads.map((one) => one.execute(command)))
    const refused = outcomes.find((one) => one.status === 'rejected')
    if (refused) {
      const isRefusedByAll = outcomes.every((one) => one.status === 'rejected')
      // They carry out the same commands in the same order, so they are of one mind unless one has failed.
      if (!isRefusedByAll && refused.reason instanceof IpvsError)
        this.failed(
          new Error(`the workers do not agree about '${command.op}': ${refused.reason.message}`),
        )
      throw refused.reason
    }
    return mergeReplies(
      command.op,
      outcomes.map((one) => (one as PromiseFulfilledResult<Reply<C>>).value),
    )
  }

  /** One worker's own answer. */
  executeBy<C extends Command>(worker: number, command: C): Promise<Reply<C>> {
    return this.threads[worker]!.execute(command)
  }

  /** Queues of the same name, as those of a TUN device, are one port here. */
  async status(): Promise<ThreadStatus> {
    const all = await Promise.all(this.threads.map((one) => one.status()))
    const ports = new Map<string, PortCounters>()
    for (const { name, counters } of all.flatMap(({ ports }) => ports)) {
      const sum = ports.get(name)
      if (!sum) ports.set(name, { ...counters })
      else for (const key of Object.keys(sum) as (keyof PortCounters)[]) sum[key] += counters[key]
    }
    const total = (of: (status: ThreadStatus) => number): number =>
      all.reduce((sum, status) => sum + of(status), 0)
    return {
      ports: Array.from(ports, ([name, counters]) => ({ name, counters })),
      handedOverPackets: total(({ handedOverPackets }) => handedOverPackets),
      waitingPackets: total(({ waitingPackets }) => waitingPackets),
      freeFrames: total(({ freeFrames }) => freeFrames),
      frames: total(({ frames }) => frames),
    }
  }

  applyRoutes(updates: RouteUpdate[]): void {
    for (const one of this.threads) one.applyRoutes(updates)
  }

  setOwnAddresses(addresses: string[]): void {
    for (const one of this.threads) one.setOwnAddresses(addresses)
  }

  setKernelMac(mac: string): void {
    for (const one of this.threads) one.setKernelMac(mac)
  }

  /** Lets the threads finish what is under way and waits for their end. */
  async stop(): Promise<void> {
    await Promise.all(this.threads.map((one) => one.stop()))
    await this.ahead.stop()
    // Any of them may have woken another until its end.
    for (const wakeUp of this.wakeUps) wakeUp.close()
  }
}

function planOf(
  { workers, clientPrefixLength }: CrewOptions,
  frameSize: number,
  frameCount: number,
  wakeUps: readonly WakeUp[],
): Omit<CrewPlan, 'self'> {
  const bytes = workers * (frameCount * frameSize + SCRATCH_BYTES)
  if (bytes > MOST_FRAME_BYTES)
    throw new Error(
      `--workers ${workers}: their frames take ${(bytes / 2 ** 30).toFixed(1)} GiB, and no offset reaches beyond 2; take fewer`,
    )
  return {
    workers,
    clientPrefixLength,
    common: new SharedArrayBuffer(CommonState.bytesFor(COUNTER_SLOTS)),
    rings: new SharedArrayBuffer(Handover.bytesFor(workers)),
    frames: mapShared(bytes),
    wakeUps: wakeUps.map(({ descriptor }) => descriptor),
    ending: new SharedArrayBuffer(4 * workers),
  }
}

function isSame(one: PortPlan, other: PortPlan): boolean {
  return one.driver === other.driver && one.interface === other.interface
}
