import { ConnectionFlag } from '../connection.js'
import { hasReplies, type Destination } from '../destination.js'

/** Places in a destination's cells. */
const Count = {
  active: 0,
  inactive: 1,
  persistent: 2,
  masqueraded: 3,
  remembered: 4,
  overloaded: 5,
} as const
/** Cells of a destination: two share a cache line. */
const DESTINATION_CELLS = 8

/** Cells of a position, a cache line: its lock, the number of the scheduler that it is of, and what that keeps. */
const POSITION_CELLS = 16

/** Tries to take a lock before the thread lets others run. */
const SPINS = 200
/** How long it then waits at most: its holder tells nobody when it lets go. */
const LOCK_WAIT_MS = 1

/**
 * What the directors of several workers have in common beyond their configuration, in shared memory: how many
 * connections each destination has, by its slot, and where each scheduler that goes round stands. It is changed when
 * a connection begins, ends, or changes between active and inactive, never for other packets.
 */
export class CommonState {
  private readonly cells: Int32Array
  private readonly firstPosition: number
  private readonly freePositions: number[] = []
  private nextPosition = 0
  private schedulers = 0

  /** Bytes for so many destinations, and as many schedulers. */
  static bytesFor(slots: number): number {
    return slots * (DESTINATION_CELLS + POSITION_CELLS) * 4
  }

  /**
   * @param region zeroed memory of `bytesFor` bytes, the same for all workers
   * @param isLeader true for the one director that does what is to be done once
   */
  constructor(
    region: ArrayBufferLike,
    readonly isLeader: boolean,
  ) {
    this.cells = new Int32Array(region)
    this.capacity = Math.floor(this.cells.length / (DESTINATION_CELLS + POSITION_CELLS))
    this.firstPosition = this.capacity * DESTINATION_CELLS
  }

  /** Destinations that there is room for, those in the trash included; and as many services. */
  readonly capacity: number

  // -- destinations

  /** Counts a connection or template that was bound to a destination (1), or has ended (-1). */
  count(destination: Destination, flags: number, by: number): void {
    const at = destination.slot * DESTINATION_CELLS
    if (hasReplies(flags)) Atomics.add(this.cells, at + Count.masqueraded, by)
    const place =
      (flags & ConnectionFlag.template) !== 0
        ? Count.persistent
        : (flags & ConnectionFlag.inactive) !== 0
          ? Count.inactive
          : Count.active
    Atomics.add(this.cells, at + place, by)
    this.refresh(destination)
  }

  /** Counts so many inactive connections of a destination as active ones instead. */
  activate(destination: Destination, by: number): void {
    const at = destination.slot * DESTINATION_CELLS
    Atomics.add(this.cells, at + Count.active, by)
    Atomics.sub(this.cells, at + Count.inactive, by)
    this.refresh(destination)
  }

  /** A scheduler remembers the destination so much more often. */
  remember(slot: number, by: number): void {
    Atomics.add(this.cells, slot * DESTINATION_CELLS + Count.remembered, by)
  }

  setOverloaded(slot: number, overloaded: boolean): void {
    this.cells[slot * DESTINATION_CELLS + Count.overloaded] = overloaded ? 1 : 0
  }

  /** Brings what a destination says of itself up to what all workers have counted. */
  refresh(destination: Destination): void {
    const { cells } = this
    const at = destination.slot * DESTINATION_CELLS
    destination.activeConnections = cells[at + Count.active]!
    destination.inactiveConnections = cells[at + Count.inactive]!
    destination.persistentConnections = cells[at + Count.persistent]!
    destination.masqueradedConnections = cells[at + Count.masqueraded]!
    destination.overloaded = cells[at + Count.overloaded]! !== 0
  }

  /** How often the schedulers of all workers remember a destination. */
  remembered(slot: number): number {
    return this.cells[slot * DESTINATION_CELLS + Count.remembered]!
  }

  // -- positions of schedulers

  /**
   * The place of a new scheduler's position. All directors carry out the same commands in the same order, so they
   * come to the same place for the same scheduler.
   */
  takePosition(): number {
    const number = this.freePositions.pop() ?? this.nextPosition++
    return this.firstPosition + number * POSITION_CELLS
  }

  /** The number of a new scheduler, which all directors come to for the same one, as to its place. */
  numberScheduler(): number {
    return (this.schedulers = (this.schedulers + 1) | 0)
  }

  releasePosition(at: number): void {
    this.freePositions.push((at - this.firstPosition) / POSITION_CELLS)
  }

  /** Waits for the position's lock; `unlock` is to follow, and soon. */
  lock(at: number): void {
    const { cells } = this
    for (let tries = 1; Atomics.compareExchange(cells, at, 0, 1) !== 0; tries++)
      if (tries % SPINS === 0) Atomics.wait(cells, at, 1, LOCK_WAIT_MS)
  }

  unlock(at: number): void {
    Atomics.store(this.cells, at, 0)
  }

  /**
   * Copies a position to the scheduler's own words; its lock has to be held. Directors carry out commands one after
   * the other: where this is the first to have made the scheduler, its words are the position. Where the place is
   * another's by now, since another director has removed this scheduler and made that one, they are left as they are.
   *
   * @param number of the scheduler
   */
  read(at: number, number: number, to: Int32Array): void {
    const { cells } = this
    if (cells[at + 1] === number) for (let i = 0; i < to.length; i++) to[i] = cells[at + 2 + i]!
  }

  /** The other way. */
  write(at: number, number: number, from: Int32Array): void {
    const { cells } = this
    if (((number - cells[at + 1]!) | 0) < 0) return
    cells[at + 1] = number
    for (let i = 0; i < from.length; i++) cells[at + 2 + i] = from[i]!
  }
}
