import type { FramePool } from '../../port/frame-pool.js'
import { MOST_AHEAD } from '../hit-path.js'

/** Entries of a ring, a power of two: what one worker hands to another in several rounds. */
const RING_SIZE = 1024
/** Frames that a worker needs for each other worker beyond its own, or it may have none to receive into. */
export const FRAMES_PER_RING = RING_SIZE
const RING_MASK = RING_SIZE - 1
/** Packets taken from one ring in a round at most, all of which are looked up ahead. */
const BATCH_SIZE = MOST_AHEAD

/** Words of a cache line, so that no two indexes share one. */
const LINE = 16
/** Places in a ring: how many entries were put into it and taken out of it, both wrapping, each in its own line. */
const PRODUCED = 0
const CONSUMED = LINE
const ENTRIES = 2 * LINE
/** Words of an entry: offset, length, port, version. */
const ENTRY = 4
const RING_WORDS = ENTRIES + RING_SIZE * ENTRY

/**
 * Packets on their way from the worker that has received them to the one whose they are. A ring for each ordered pair
 * of workers, in memory that they share, with one producer and one consumer, so that nobody waits for anybody. All
 * workers' frames lie in one region: an entry says where the packet is, and for each frame that the consumer takes it
 * leaves one of its own in the entry, which the producer takes out before it uses the entry again. So every pool
 * keeps as many frames as it has, though not the same ones.
 *
 * A producer announces its entries once a round, and wakes a consumer that sleeps.
 */
export class Handover {
  /** What `receive` got: as a FrameBatch, and the port that each packet came in by. */
  readonly offsets = new Int32Array(BATCH_SIZE)
  readonly lengths = new Int32Array(BATCH_SIZE)
  readonly ports = new Int32Array(BATCH_SIZE)
  /** By which version of the configuration each was found to be this worker's. */
  readonly versions = new Int32Array(BATCH_SIZE)
  /** Packets that ended in `receive`, because the pool had no frame to give for theirs. */
  lost = 0
  /** Packets that were announced to others, in all. */
  handedOver = 0

  private readonly cells: Int32Array
  /** By worker: where the ring to it and the one from it begin in `cells`. */
  private readonly ringTo: Int32Array
  private readonly ringFrom: Int32Array
  /** By worker, of the ring to it: entries put into it, those announced, and those whose frame was taken back. */
  private readonly produced: Int32Array
  private readonly announced: Int32Array
  private readonly reclaimed: Int32Array
  /** By worker, of the ring from it. */
  private readonly consumed: Int32Array

  /** Bytes of memory that so many workers need between them. */
  static bytesFor(workers: number): number {
    return (workers * LINE + workers * workers * RING_WORDS) * 4
  }

  /**
   * @param region zeroed memory of `bytesFor` bytes, the same for all workers
   * @param self this worker's index
   * @param pool its frames, in the region of all
   * @param wake ends another worker's sleep
   */
  constructor(
    region: ArrayBufferLike,
    readonly self: number,
    readonly workers: number,
    private readonly pool: FramePool,
    private readonly wake: (worker: number) => void,
  ) {
    this.cells = new Int32Array(region)
    const ring = (from: number, to: number): number =>
      workers * LINE + (from * workers + to) * RING_WORDS
    this.ringTo = Int32Array.from({ length: workers }, (_, worker) => ring(self, worker))
    this.ringFrom = Int32Array.from({ length: workers }, (_, worker) => ring(worker, self))
    this.produced = new Int32Array(workers)
    this.announced = new Int32Array(workers)
    this.reclaimed = new Int32Array(workers)
    this.consumed = new Int32Array(workers)
  }

  /**
   * Hands a packet to another worker, which sees it after `announce`.
   *
   * @param port index of the port that it came in by, of the same meaning to both
   * @param version of the configuration by which it is the other's
   * @returns false when the other's ring is full; then the frame is still the caller's
   */
  push(worker: number, offset: number, length: number, port: number, version: number): boolean {
    const { cells } = this
    const at = this.produced[worker]!
    if (((at - this.reclaimed[worker]!) | 0) === RING_SIZE) {
      this.reclaim(worker)
      if (((at - this.reclaimed[worker]!) | 0) === RING_SIZE) return false
    }
    const entry = this.ringTo[worker]! + ENTRIES + (at & RING_MASK) * ENTRY
    cells[entry] = offset
    cells[entry + 1] = length
    cells[entry + 2] = port
    cells[entry + 3] = version
    this.produced[worker] = (at + 1) | 0
    return true
  }

  /** Packets that can be handed to another worker before its ring is full. */
  roomTo(worker: number): number {
    return RING_SIZE - ((this.produced[worker]! - this.reclaimed[worker]!) | 0)
  }

  /** Lets the others see what was pushed, and takes frames back. To be called once a round. */
  announce(): void {
    const { cells } = this
    for (let worker = 0; worker < this.workers; worker++) {
      const at = this.produced[worker]!
      if (at !== this.announced[worker]) {
        this.handedOver += (at - this.announced[worker]!) | 0
        this.announced[worker] = at
        Atomics.store(cells, this.ringTo[worker]! + PRODUCED, at)
        if (Atomics.load(cells, worker * LINE) !== 0) this.wake(worker)
      }
      if (at !== this.reclaimed[worker]) this.reclaim(worker)
    }
  }

  /**
   * Takes packets from another worker's ring into `offsets`, `lengths`, `ports` and `versions`; their frames are now
   * this one's.
   */
  receive(worker: number): number {
    const { cells, pool, offsets, lengths, ports, versions } = this
    const ring = this.ringFrom[worker]!
    let at = this.consumed[worker]!
    let waiting = (Atomics.load(cells, ring + PRODUCED) - at) | 0
    if (waiting === 0) return 0
    if (waiting > BATCH_SIZE) waiting = BATCH_SIZE
    let count = 0
    for (let i = 0; i < waiting; i++) {
      const entry = ring + ENTRIES + (at & RING_MASK) * ENTRY
      const mine = pool.take()
      if (mine < 0) {
        this.lost++
      } else {
        offsets[count] = cells[entry]!
        lengths[count] = cells[entry + 1]!
        ports[count] = cells[entry + 2]!
        versions[count] = cells[entry + 3]!
        count++
        cells[entry] = mine
      }
      at = (at + 1) | 0
    }
    this.consumed[worker] = at
    Atomics.store(cells, ring + CONSUMED, at)
    return count
  }

  /**
   * To be called before this worker sleeps, with `awake` behind it.
   *
   * @returns false if there is something to receive, so that it had better not
   */
  maySleep(): boolean {
    const { cells } = this
    // Whoever announces something from here on sees the mark; what was announced before is seen here.
    Atomics.store(cells, this.self * LINE, 1)
    for (let worker = 0; worker < this.workers; worker++)
      if (Atomics.load(cells, this.ringFrom[worker]! + PRODUCED) !== this.consumed[worker])
        return false
    return true
  }

  awake(): void {
    Atomics.store(this.cells, this.self * LINE, 0)
  }

  /** Takes the frames that another worker has left in the ring to it. */
  private reclaim(worker: number): void {
    const { cells, pool } = this
    const ring = this.ringTo[worker]!
    const consumed = Atomics.load(cells, ring + CONSUMED)
    let at = this.reclaimed[worker]!
    for (; at !== consumed; at = (at + 1) | 0)
      pool.give(cells[ring + ENTRIES + (at & RING_MASK) * ENTRY]!)
    this.reclaimed[worker] = at
  }
}
