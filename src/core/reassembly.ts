import { IP_HEADROOM, type FramePool } from '../port/frame-pool.js'
import type { Geometry } from './fragment.js'
import { timerFires } from './timer-wheel.js'

/** The part of the pool's frames that may be held by fragments of one family that wait. */
const HELD_SHARE = 1 / 4

/** What became of a fragment. */
export const Gathered = {
  /** It waits, or was there already. Its frame is the reassembly's. */
  waits: 0,
  /** The packet is whole, and in the pool's scratch. The frame has been given back. */
  complete: 1,
  /** It fits nowhere. Its frame is still the caller's. */
  unusable: 2,
  /** It is no proper fragment: not to be put together, but a packet of its own. Its frame is still the caller's. */
  single: 3,
} as const
export type Gathered = (typeof Gathered)[keyof typeof Gathered]

export interface Fragment {
  /** Of its IP header. */
  readonly offset: number
  /** Bytes up to its data. */
  readonly headerBytes: number
  /** Where its data belong in the packet behind the headers: from, and the end. */
  readonly start: number
  readonly end: number
}

/** A first fragment whose packet has not come together in time. */
export interface Expired {
  /** Of its IP header. */
  readonly offset: number
  /** Bytes of it that could be used. */
  readonly length: number
  readonly inPort: number
  /** It is one of IPv4 for another machine. */
  readonly isForwarded: boolean
}

/** What has come of a packet. */
export interface Queue {
  /** Index of the port that the fragment which came last came in by. */
  inPort: number
  /** They are of IPv4 and for another machine. */
  readonly isForwarded: boolean
  /** In the order of their places. */
  fragments: Fragment[]
  /** Where data have come without a gap, each fragment at the end of those before. */
  runs: { start: number; end: number }[]
  /** Bytes behind the headers, as far as they are known: all of them once the last fragment is there. */
  end: number
  hasEnd: boolean
  gathered: number
  /** The longest fragment as it came, in bytes of IP. */
  largest: number
  /** Bit 1 << ECN of each. */
  congestion: number
  due: number
}

export function emptyQueue(isForwarded: boolean): Queue {
  return {
    inPort: 0,
    isForwarded,
    fragments: [],
    runs: [],
    end: 0,
    hasEnd: false,
    gathered: 0,
    largest: 0,
    congestion: 0,
    due: 0,
  }
}

/** How a fragment goes with those that are there. */
export const Placed = { new: 0, again: 1, overlaps: 2 } as const
export type Placed = (typeof Placed)[keyof typeof Placed]

/**
 * What putting together the packets of either family has in common (net/ipv4/inet_fragment.c of Linux 6.1).
 * Fragments wait in the frames that they came in, of which they may hold a part and no more. A packet is put
 * together in the pool's scratch, which is the reassembly's from one packet to the next.
 */
export abstract class Reassembly<Q extends Queue> {
  protected readonly queues = new Map<string, Q>()
  private held = 0
  /** When the first of the queues has waited long enough. */
  private nextDue = 0

  // The packet that is complete.
  /** Offset of its IP header. */
  readonly network: number
  length = 0
  /** The longest of its fragments as they came, in bytes of IP. */
  largest = 0
  geometry: Geometry = { first: 0, later: [] }

  /** Fragments that have been given up, and are to be counted by the caller, who sets it back. */
  lost = 0

  /** @param timeoutJiffies how long fragments wait for the rest of their packet */
  constructor(
    protected readonly pool: FramePool,
    private readonly timeoutJiffies: number,
  ) {
    this.network = pool.scratch < 0 ? -1 : pool.scratch + IP_HEADROOM
  }

  /** Packets that wait for fragments. */
  get waiting(): number {
    return this.queues.size
  }

  /** Whether there is no room for one more fragment. */
  protected get isFull(): boolean {
    const most = this.pool.ownCount * HELD_SHARE
    return this.network < 0 || this.held >= most || this.queues.size >= most
  }

  /**
   * Gives up what has waited too long, in the order in which the kernel's timers fire: of those that fire at once the
   * one first that was set last.
   *
   * @param onExpired told of the first fragment of each packet that has one, as long as it is there
   */
  expire(now: number, onExpired: (expired: Expired) => void): void {
    if (this.queues.size === 0 || ((now - this.nextDue) | 0) < 0) return
    const due: [string, Q][] = []
    let untilNext = this.timeoutJiffies * 2
    for (const entry of this.queues) {
      const left = (entry[1].due - now) | 0
      if (left <= 0) due.push(entry)
      else untilNext = Math.min(untilNext, left)
    }
    this.nextDue = (now + untilNext) | 0
    due.reverse().sort(([, a], [, b]) => (a.due - b.due) | 0)
    for (const [key, queue] of due) {
      const { inPort, isForwarded } = queue
      const first = queue.fragments[0]
      if (first?.start === 0) {
        const { offset, headerBytes, end } = first
        onExpired({ offset, length: headerBytes + end, inPort, isForwarded })
      }
      this.forget(key, queue)
    }
  }

  protected start(key: string, queue: Q, now: number): void {
    const isFirst = this.queues.size === 0
    this.wait(key, queue, now)
    if (isFirst) this.nextDue = queue.due
  }

  /** The queue waits from now on. */
  protected wait(key: string, queue: Q, now: number): void {
    this.queues.delete(key)
    this.queues.set(key, queue)
    queue.due = timerFires((now + this.timeoutJiffies) | 0, this.timeoutJiffies)
    if (((queue.due - this.nextDue) | 0) < 0) this.nextDue = queue.due
  }

  /**
   * Puts a fragment in its place. One that is within what has come without a gap is there already, even if no single
   * fragment was the same; any other that covers some of it spoils the packet (inet_frag_queue_insert; RFC 5722).
   */
  protected place(queue: Q, fragment: Fragment): Placed {
    const { fragments, runs } = queue
    const { start, end } = fragment
    const last = runs.at(-1)
    if (last === undefined || last.end < end) {
      if (last !== undefined && start < last.end) return Placed.overlaps
      if (last?.end === start) last.end = end
      else runs.push({ start, end })
      fragments.push(fragment)
    } else {
      const at = runs.findIndex((run) => run.end > start)
      const run = runs[at]!
      if (run.start < end)
        return start >= run.start && end <= run.end ? Placed.again : Placed.overlaps
      runs.splice(at, 0, { start, end })
      fragments.splice(
        fragments.findIndex((other) => other.start >= end),
        0,
        fragment,
      )
    }
    this.held++
    queue.gathered += end - start
    return Placed.new
  }

  /** The same fragment has come before. */
  protected ignore(offset: number): Gathered {
    this.pool.give(offset)
    this.lost++
    return Gathered.waits
  }

  /** Gives up what has come of a packet. */
  protected forget(key: string, queue: Q): void {
    this.lost += queue.fragments.length
    this.close(key, queue)
  }

  /** The packet of a queue has been put together. */
  protected finish(key: string, queue: Q): Gathered {
    this.close(key, queue)
    return Gathered.complete
  }

  protected close(key: string, queue: Q): void {
    this.empty(queue)
    this.queues.delete(key)
  }

  /** Gives the frames of a queue back. */
  protected empty(queue: Q): void {
    for (const { offset } of queue.fragments) this.pool.give(offset)
    this.held -= queue.fragments.length
    queue.fragments = []
    queue.runs = []
    queue.gathered = 0
  }

  /** Copies the data of all fragments behind the headers of the packet that is put together. */
  protected copyData(queue: Q, headerBytes: number): void {
    const { bytes } = this.pool
    const to = this.network + headerBytes
    for (const { offset, headerBytes: before, start, end } of queue.fragments)
      bytes.copyWithin(to + start, offset + before, offset + before + end - start)
  }
}

const NOT_CAPABLE = 1 << 0
const CONGESTION = 1 << 3

/**
 * Congestion that one fragment has met the packet has met (RFC 3168, section 5.3; ip_frag_ecn_table).
 *
 * @param seen bit 1 << ECN of each fragment
 * @returns bits for the type of service or traffic class, -1 when fragments say both that they can tell of
 *   congestion and that they cannot
 */
export function congestionOf(seen: number): number {
  if ((seen & NOT_CAPABLE) !== 0 && seen !== NOT_CAPABLE) return -1
  return (seen & CONGESTION) !== 0 && seen !== CONGESTION ? 3 : 0
}
