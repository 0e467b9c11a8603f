/** A crew of directors with their data planes on memory ports, all in one thread: packets in by any, time by hand. */
import type { Command, ConnectionStatus, Reply } from '../../../src/core/commands.js'
import { createDataPlane, type DataPlane } from '../../../src/core/data-plane.js'
import { describeConnections } from '../../../src/core/describe.js'
import { Director } from '../../../src/core/director.js'
import { CommonState } from '../../../src/core/workers/common-state.js'
import { Handover } from '../../../src/core/workers/handover.js'
import { mergeReplies } from '../../../src/core/workers/merge.js'
import { MemoryPort } from '../../../src/drivers/memory.js'
import { JIFFIES_PER_SECOND, ManualClock } from '../../../src/port/clock.js'
import { FramePool } from '../../../src/port/frame-pool.js'
import { HopState } from '../../../src/port/neighbours.js'
import { LinkLayer } from '../../../src/port/packet-port.js'
import { SeededRandom } from '../../../src/port/random.js'
import { TestNeighbours } from '../harness.js'

const FRAME_SIZE = 2048

export interface CrewHarnessOptions {
  workers: number
  frames?: number
  clientPrefixLength?: number
  maxConnections?: number
}

export class CrewHarness {
  readonly clock = new ManualClock()
  readonly pools: FramePool[] = []
  readonly ports: MemoryPort[] = []
  readonly directors: Director[] = []
  readonly planes: DataPlane[] = []
  readonly frames: number

  constructor(options: CrewHarnessOptions) {
    const { workers, clientPrefixLength = 32, maxConnections = 4096 } = options
    this.frames = options.frames ?? workers * 64
    const region = new ArrayBuffer(this.frames * FRAME_SIZE)
    const common = new SharedArrayBuffer(CommonState.bytesFor(64))
    const rings = new SharedArrayBuffer(Handover.bytesFor(workers))
    for (let self = 0; self < workers; self++) {
      const pool = new FramePool(region, FRAME_SIZE, this.frames, { index: self, of: workers })
      const neighbours = new TestNeighbours()
      neighbours.add('198.51.100.0', '198.51.100.1')
      neighbours.add('10.0.0.0', '10.0.0.1')
      for (const own of ['198.51.100.1', '10.0.0.1']) neighbours.add(own, own, HopState.local)
      const port = new MemoryPort({ pool, linkLayer: LinkLayer.ip })
      const director = new Director({
        pool,
        neighbours,
        random: new SeededRandom(1),
        table: { maxConnections, seed: 1 },
        // Of what all may send each has a part, which one director would not have to keep to.
        settings: { icmpMessagesPerSecond: 1_000_000, icmpMessagesBurst: 1_000_000 },
        // One director alone has no crew, as in a daemon with one worker.
        ...(workers > 1 && { crew: { self, workers, clientPrefixLength, common } }),
      })
      this.planes.push(
        createDataPlane({
          pool,
          ports: [port],
          director,
          neighbours,
          clock: this.clock,
          kernelPath: { port: 0 },
          ...(workers > 1 && { handover: new Handover(rings, self, workers, pool, () => {}) }),
        }),
      )
      this.pools.push(pool)
      this.ports.push(port)
      this.directors.push(director)
    }
  }

  /** Commands go to all, as the daemon sends them; replies are merged. Throws what all throw. */
  execute<C extends Command>(command: C): Reply<C> {
    const outcomes = this.directors.map((director) => {
      try {
        return { reply: director.execute(command) }
      } catch (error) {
        return { error: error as Error }
      }
    })
    const messages = new Set(outcomes.map(({ error }) => error?.message))
    if (messages.size > 1) throw new Error(`directors do not agree: ${[...messages].join(' / ')}`)
    if (outcomes[0]!.error) throw outcomes[0]!.error
    return mergeReplies(
      command.op,
      outcomes.map(({ reply }) => reply!),
    )
  }

  /** Lets a packet in by one worker and returns what all of them send until all is done. */
  send(worker: number, packet: Uint8Array): Uint8Array[] {
    this.ports[worker]!.inject(packet)
    this.settle()
    return this.ports.flatMap((port) => port.takeTransmitted())
  }

  settle(): void {
    // A packet that is handed over is seen in the round after the one in which it came.
    for (let quiet = 0; quiet < 2;) {
      let received = 0
      for (const plane of this.planes) received += plane.round()
      quiet = received > 0 ? 0 : quiet + 1
    }
    const forgettable = this.directors.flatMap((director) => director.takeForgettable())
    for (const director of this.directors) director.forget(forgettable)
  }

  /** From timer to timer, so that each fires at its moment. */
  advance(seconds: number): void {
    for (let left = seconds * JIFFIES_PER_SECOND; left > 0;) {
      const next = this.directors.map((director) => director.jiffiesToNextTimer())
      const step = Math.max(1, Math.min(left, ...next))
      this.clock.advanceJiffies(step)
      this.settle()
      left -= step
    }
  }

  /** As `ipvsadm -Lnc`, sorted. */
  connections(): string[] {
    return this.directors
      .flatMap((_, worker) => this.connectionsOf(worker))
      .map((connection) => JSON.stringify(connection))
      .sort()
  }

  /** One worker's own. */
  connectionsOf(worker: number): ConnectionStatus[] {
    return [...describeConnections(this.directors[worker]!.table, this.clock.nowJiffies())]
  }

  /** Frames in the pools of all; the rings have the others. */
  get available(): number {
    return this.pools.reduce((total, { available }) => total + available, 0)
  }
}
