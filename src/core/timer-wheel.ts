import { B, LINE_BYTES, LINE_WORDS, W } from './connection.js'
import type { ConnectionTable } from './connection-table.js'
import { Cost, type Work } from './work.js'

/** Slots of a level. */
const SLOTS = 64
const SLOT_MASK = SLOTS - 1
/** Each level's slots are 8 times as long as those of the level below. */
const LEVEL_SHIFT = 3
const LEVELS = 8
const LAST_SHIFT = LEVEL_SHIFT * (LEVELS - 1)
/** What a timer has to run at least to be on level 1; on the next ones 8 times as much each. */
const LEVEL_1_DELAY = 63
/** What is to run for so long, 15 days, or longer goes onto the wheel's last slot. */
const CUTOFF_DELAY = LEVEL_1_DELAY << LAST_SHIFT
const MAX_DELAY = CUTOFF_DELAY - (1 << LAST_SHIFT)

/** Heads of the lists of what fires now, a level each, behind those of the slots. */
const FIRING = SLOTS * LEVELS

/** What a connection's line says of its timer, in B.timer, which is the second byte of W.stateWord. */
export const enum Timer {
  /** It runs. */
  isLinked = 0x40,
  /** It runs, and the lowest five bits are how many bits of the deadline its slot leaves out. */
  withShift = 0xc0,
  /** The bit that tells the two apart, and the first of the shift, in W.stateWord. */
  hasShift = 0x8000,
  shift = 8,
}

/** What the wheel tells of: the connection's timer fires. */
export interface ExpiryHandler {
  /** The connection's timer runs no more. It may be removed, or its timer set again. */
  expire(connection: number): void
}

/** How many bits of a deadline the slots leave out for a timer that is to run for `delay` jiffies. */
function shiftOf(delay: number): number {
  let shift = 0
  for (let next = LEVEL_1_DELAY; delay >= next && shift < LAST_SHIFT; next <<= LEVEL_SHIFT)
    shift += LEVEL_SHIFT
  return shift
}

/** The deadline that counts: `expires`, unless that is further ahead than the wheel reaches. */
function reached(expires: number, delay: number): number {
  return delay < CUTOFF_DELAY ? expires : (expires - delay + MAX_DELAY) | 0
}

/**
 * When a timer fires that was set to `expires`, `delay` jiffies ahead: never early, and late by up to an eighth
 * of the delay. One jiffy it is late in any case.
 *
 * @returns jiffies, 32 bits of them as `expires`
 */
export function timerFires(expires: number, delay: number): number {
  const shift = shiftOf(delay)
  return ((reached(expires, delay) >> shift) + 1) << shift
}

/**
 * The timers of connections: the kernel's own wheel (kernel/time/timer.c of Linux 6.1 with HZ=100), since how
 * late timers fire, and in which order those that fire at once, decides what IPVS does.
 *
 * There are eight levels of 64 slots, whose length is 1 jiffy, 8, 64 and so on. A timer goes by its delay onto
 * one level and stays there: it fires when its slot comes up, rounded up as told at `timerFires`. Nothing ever
 * moves from level to level. Among timers that fire at once those of higher levels come first, and in a slot
 * the one that was put there last.
 *
 * A packet that prolongs its connection finds most times that the slot is still the right one, and has but to
 * store the deadline: it takes an eighth of the timeout to change that.
 *
 * Slots are doubly linked lists through the connections' lines. Those with anything in them are marked in
 * bitmaps, so that idle time is skipped and not walked. Jiffies are 32-bit and wrap.
 */
export class TimerWheel {
  private readonly words: Int32Array
  private readonly bytes: Uint8Array
  /** First connection of each slot, level by level, 0 when it is empty; then those that fire now. */
  private readonly heads = new Int32Array(FIRING + LEVELS)
  /** A bit for each slot that is not empty, two words a level. */
  private readonly occupied = new Int32Array((SLOTS / 32) * LEVELS)
  /** Every jiffy before this one has been dealt with. */
  private time: number

  /**
   * @param table whose connections are timed
   * @param now the clock's jiffies, which have been dealt with
   */
  constructor(table: ConnectionTable, now: number) {
    this.words = table.words
    this.bytes = table.bytes
    this.time = (now + 1) | 0
  }

  /**
   * Sets a connection's timer, whether it runs or not (mod_timer).
   *
   * @param expires deadline in jiffies: now + delay
   */
  set(connection: number, expires: number, delay: number): void {
    const { words } = this
    const line = connection * LINE_WORDS
    const oldExpires = words[line + W.expires]!
    const oldDelay = words[line + W.timeout]!
    const isLinked = this.bytes[connection * LINE_BYTES + B.timer] !== 0
    if (isLinked && expires === oldExpires && delay === oldDelay) return
    words[line + W.expires] = expires
    words[line + W.timeout] = delay
    const shift = shiftOf(delay)
    if (isLinked) {
      const isSameSlot =
        (oldDelay === delay || shiftOf(oldDelay) === shift) &&
        reached(oldExpires, oldDelay) >> shift === reached(expires, delay) >> shift
      if (isSameSlot) return
      this.cancel(connection)
    }
    this.link(connection, reached(expires, delay), shift)
    // Beyond the wheel's reach the deadline is not the one that counts.
    this.bytes[connection * LINE_BYTES + B.timer] =
      delay < CUTOFF_DELAY ? Timer.withShift | shift : Timer.isLinked
  }

  /** Takes a connection out of the wheel; no harm if it is not in it. */
  cancel(connection: number): void {
    if (this.bytes[connection * LINE_BYTES + B.timer] === 0) return
    const { words } = this
    const line = connection * LINE_WORDS
    const next = words[line + W.timerNext]!
    const previous = words[line + W.timerPrevious]!
    if (next !== 0) words[next * LINE_WORDS + W.timerPrevious] = previous
    if (previous > 0) words[previous * LINE_WORDS + W.timerNext] = next
    else {
      const slot = ~previous
      this.heads[slot] = next
      if (next === 0 && slot < FIRING) this.occupied[slot >>> 5]! &= ~(1 << slot)
    }
    this.bytes[connection * LINE_BYTES + B.timer] = 0
  }

  /**
   * Moves the wheel on and reports the connections whose timers fire at `now` or earlier, in the kernel's
   * order.
   *
   * @param work what this call may do; what is left comes with the next one
   * @returns true when nothing is due any more
   */
  advance(now: number, work: Work, handler: ExpiryHandler): boolean {
    for (;;) {
      for (let list = FIRING + LEVELS - 1; list >= FIRING; list--) {
        for (let c = this.heads[list]!; c !== 0; c = this.heads[list]!) {
          if (work.left <= 0) return false
          work.left -= Cost.expiry
          this.cancel(c)
          handler.expire(c)
        }
      }
      const ahead = (now - this.time) | 0
      if (ahead < 0) return true
      const distance = this.distanceToOccupied()
      if (distance > ahead) {
        this.time = (now + 1) | 0
        return true
      }
      this.time = (this.time + distance + 1) | 0
      this.collect((this.time - 1) | 0)
    }
  }

  /**
   * Jiffies from `now` until there may be something to do, 0 if there already is, `limit` at most: how long
   * a thread with nothing else to do may sleep.
   */
  untilNext(now: number, limit: number): number {
    for (let list = FIRING; list < FIRING + LEVELS; list++) if (this.heads[list] !== 0) return 0
    const wait = (((this.time - now) | 0) + this.distanceToOccupied()) | 0
    return wait < 0 ? 0 : Math.min(wait, limit)
  }

  /** Puts a connection at the head of its slot. */
  private link(connection: number, expires: number, shift: number): void {
    const { words, heads } = this
    const line = connection * LINE_WORDS
    // What is due already fires with the next jiffy that is dealt with.
    const isLate = ((expires - this.time) | 0) < 0
    let level = isLate ? 0 : shift / LEVEL_SHIFT
    let place = isLate ? this.time : (expires >> shift) + 1
    // Where the wheel is behind, because more timers fire than a call may see to, its slots come round too soon.
    while (!this.isAhead(place, level) && level < LEVELS - 1) {
      level++
      place = (expires >> (level * LEVEL_SHIFT)) + 1
    }
    const slot = level * SLOTS + (place & SLOT_MASK)
    const head = heads[slot]!
    words[line + W.timerNext] = head
    words[line + W.timerPrevious] = ~slot // no connection before it: the slot itself
    if (head !== 0) words[head * LINE_WORDS + W.timerPrevious] = connection
    else this.occupied[slot >>> 5]! |= 1 << slot
    heads[slot] = connection
  }

  /** Whether a level's slot of that number comes up next as the one that is meant, and not as one before it. */
  private isAhead(place: number, level: number): boolean {
    const shift = level * LEVEL_SHIFT
    return (((place << shift) - this.time) | 0) < SLOTS << shift
  }

  /** Moves the slots of a jiffy, one of each level that has one there, to the lists of what fires. */
  private collect(jiffy: number): void {
    const { heads, words } = this
    for (let level = 0; level < LEVELS; level++) {
      const shift = level * LEVEL_SHIFT
      if ((jiffy & ((1 << shift) - 1)) !== 0) return
      const slot = level * SLOTS + ((jiffy >> shift) & SLOT_MASK)
      const head = heads[slot]!
      if (head === 0) continue
      heads[slot] = 0
      this.occupied[slot >>> 5]! &= ~(1 << slot)
      heads[FIRING + level] = head
      words[head * LINE_WORDS + W.timerPrevious] = ~(FIRING + level)
    }
  }

  /** Jiffies from `time` to the next slot that is not empty, more than the wheel spans when all are. */
  private distanceToOccupied(): number {
    let least = CUTOFF_DELAY * 2
    for (let level = 0; level < LEVELS; level++) {
      const low = this.occupied[level * 2]!
      const high = this.occupied[level * 2 + 1]!
      if ((low | high) === 0) continue
      const shift = level * LEVEL_SHIFT
      const length = 1 << shift
      // The first slot of this level that begins at `time` or later.
      const first = ((this.time + length - 1) | 0) >> shift
      const distance =
        (((first + slotsAhead(low, high, first & SLOT_MASK)) << shift) - this.time) | 0
      if (distance < least) least = distance
    }
    return least
  }
}

/** Slots from `from` to the first whose bit is set in the two words, around the end; at least one is. */
function slotsAhead(low: number, high: number, from: number): number {
  const shift = from & 31
  const near = from < 32 ? low : high
  const far = from < 32 ? high : low
  const rest = near & (-1 << shift)
  if (rest !== 0) return lowestBit(rest) - shift
  if (far !== 0) return 32 - shift + lowestBit(far)
  return SLOTS - shift + lowestBit(near)
}

/** Position of the lowest bit that is set. */
function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits)
}
