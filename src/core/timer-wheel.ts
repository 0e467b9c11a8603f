import { B, LINE_BYTES, LINE_WORDS, W } from './connection.js'
import type { ConnectionTable } from './connection-table.js'
import { timerFires } from './kernel-timer.js'

/** Slots of the wheel, one a jiffy: it spans 655 s. */
const SLOTS = 1 << 16
const SLOT_MASK = SLOTS - 1

/** What the wheel tells of: the connection's timer fires. */
export interface ExpiryHandler {
  /** The connection is no longer scheduled. It may be removed, or scheduled again with a later deadline. */
  expire(connection: number): void
}

/**
 * The timers of connections, which fire when the kernel's would (kernel-timer.ts): a hashed wheel (Varghese and Lauck 1987, scheme 6) with one slot a jiffy, each
 * the head of a doubly linked list through the connections' lines.
 *
 * It is lazy. A packet that prolongs its connection only stores a later W.expires; the wheel notices when
 * the slot comes up where the connection is linked, and links it anew. A deadline beyond the wheel's span
 * is linked at its far end, likewise: so a busy connection costs one visit every few minutes, and there
 * are no cascades in which many move at once.
 *
 * Slots with anything in them are marked in a bitmap, so that idle time is skipped and not walked.
 *
 * Jiffies are 32-bit and wrap. Deadlines may lie up to 2^31 - 1 jiffies (248 days) ahead.
 */
export class TimerWheel {
  private readonly words: Int32Array
  private readonly bytes: Uint8Array
  /** First connection of each slot, 0 when it is empty. */
  private readonly heads = new Int32Array(SLOTS)
  /** A bit for each slot that is not empty, and one for each word of these that is not 0. */
  private readonly occupied = new Int32Array(SLOTS / 32)
  private readonly occupiedWords = new Int32Array(SLOTS / 1024)
  /** Every slot before this jiffy has been dealt with; its own slot takes what is already due. */
  private time: number

  /**
   * @param table whose connections are timed
   * @param now the clock's jiffies
   */
  constructor(table: ConnectionTable, now: number) {
    this.words = table.words
    this.bytes = table.bytes
    this.time = now | 0
  }

  /** Schedules a connection that is not scheduled for its deadline, W.expires. */
  schedule(connection: number): void {
    const words = this.words
    const line = connection * LINE_WORDS
    const delay = (this.firesAt(line) - this.time) | 0
    const slot = (this.time + (delay <= 0 ? 0 : delay < SLOTS ? delay : SLOTS - 1)) & SLOT_MASK
    const head = this.heads[slot]!
    words[line + W.timerNext] = head
    words[line + W.timerPrevious] = ~slot // no connection before it: the slot itself
    if (head !== 0) words[head * LINE_WORDS + W.timerPrevious] = connection
    else {
      const word = slot >>> 5
      this.occupied[word]! |= 1 << slot
      this.occupiedWords[word >>> 5]! |= 1 << word
    }
    this.heads[slot] = connection
    this.bytes[connection * LINE_BYTES + B.timerLevel] = 1
  }

  /** To be called when W.expires of a scheduled connection was moved to an earlier time. */
  shorten(connection: number): void {
    this.cancel(connection)
    this.schedule(connection)
  }

  /** Takes a connection out of the wheel; no harm if it is not in it. */
  cancel(connection: number): void {
    if (this.bytes[connection * LINE_BYTES + B.timerLevel] === 0) return
    const words = this.words
    const line = connection * LINE_WORDS
    const next = words[line + W.timerNext]!
    const previous = words[line + W.timerPrevious]!
    if (next !== 0) words[next * LINE_WORDS + W.timerPrevious] = previous
    if (previous > 0) words[previous * LINE_WORDS + W.timerNext] = next
    else {
      const slot = ~previous
      this.heads[slot] = next
      if (next === 0) this.markEmpty(slot)
    }
    this.bytes[connection * LINE_BYTES + B.timerLevel] = 0
  }

  /**
   * Moves the wheel on and reports the connections whose timers fire at `now` or earlier, in that order. A
   * connection that the handler schedules so that it fires no later is reported again by the same call.
   *
   * @param budget most connections to visit in this call; what is left comes with the next one
   * @returns true when nothing is due any more
   */
  advance(now: number, budget: number, handler: ExpiryHandler): boolean {
    let left = budget
    for (;;) {
      const slot = this.time & SLOT_MASK
      for (;;) {
        const connection = this.heads[slot]!
        if (connection === 0) break
        if (left-- <= 0) return false
        this.cancel(connection)
        if (((this.firesAt(connection * LINE_WORDS) - this.time) | 0) > 0) this.schedule(connection)
        else handler.expire(connection)
      }
      const behind = (now - this.time) | 0
      if (behind <= 0) return true
      const distance = this.distanceToOccupied()
      this.time = (this.time + Math.min(behind, distance)) | 0
    }
  }

  /**
   * Jiffies from `now` until there may be something to do, 0 if there already is, `limit` at most: how long
   * a thread with nothing else to do may sleep.
   */
  untilNext(now: number, limit: number): number {
    if (this.heads[this.time & SLOT_MASK] !== 0) return 0
    const distance = this.distanceToOccupied()
    if (distance === SLOTS) return limit
    const wait = (this.time + distance - now) | 0
    return wait < 0 ? 0 : Math.min(wait, limit)
  }

  /** When the timer of the line fires: after its deadline. */
  private firesAt(line: number): number {
    return timerFires(this.words[line + W.expires]!, this.words[line + W.timeout]!)
  }

  private markEmpty(slot: number): void {
    const word = slot >>> 5
    const bits = this.occupied[word]! & ~(1 << slot)
    this.occupied[word] = bits
    if (bits === 0) this.occupiedWords[word >>> 5]! &= ~(1 << word)
  }

  /** Slots from the present one, which is empty, to the next that is not; SLOTS when all are. */
  private distanceToOccupied(): number {
    const slot = this.time & SLOT_MASK
    const word = slot >>> 5
    const here = this.occupied[word]! & (-1 << slot)
    if (here !== 0) return (word * 32 + lowestBit(here) - slot) & SLOT_MASK
    // The words after this one, by their own bitmap; at last this word's lower bits, once around.
    let group = word >>> 5
    let groups = this.occupiedWords[group]! & ~lowMask((word & 31) + 1)
    for (let i = 0; i <= this.occupiedWords.length; i++) {
      if (groups !== 0) {
        const found = group * 32 + lowestBit(groups)
        return (found * 32 + lowestBit(this.occupied[found]!) - slot) & SLOT_MASK
      }
      group = (group + 1) % this.occupiedWords.length
      groups = this.occupiedWords[group]!
    }
    return SLOTS
  }
}

/** Position of the lowest bit that is set. */
function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits)
}

/** The `count` lowest bits, 1 to 32 of them. */
function lowMask(count: number): number {
  return count === 32 ? -1 : (1 << count) - 1
}
