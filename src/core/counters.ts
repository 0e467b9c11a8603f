import type { Counters, Rates } from './commands.js'
import { reasons } from './verdict.js'

/** Places in a slot. Counters only grow; zeroing moves their base, as the kernel's kstats0 does. */
export const enum C {
  connections = 0,
  inPackets = 1,
  outPackets = 2,
  inBytes = 3,
  outBytes = 4,
  /** What each counter was when it was last zeroed: base + its place. */
  base = 5,
  /** Rates as the estimator keeps them, scaled: rate + the counter's place. */
  rate = 10,
}

/** Counters of a slot. */
export const COUNTERS = 5
/** Doubles in a slot: 128 bytes, so that no two share a cache line. */
const SLOT = 16
/** Doubles before slot 0, for the reasons. */
const REASONS = 64

/** Scale of the estimator's rates: packets and connections by 2^10, bytes by 2^5 (net/netfilter/ipvs/ip_vs_est.c). */
export const PACKET_RATE_SCALE = 1024
export const BYTE_RATE_SCALE = 32

/** Services and destinations that a region made by default has room for. */
export const DEFAULT_COUNTER_SLOTS = 8192

/**
 * All counters of a director in one region of shared memory: first a double for each reason of verdict.ts,
 * then a slot for the totals (slot 0), and one for each service and destination. Doubles are exact up to
 * 2^53. The data-plane thread writes; others may read at any time.
 */
export class CounterRegion {
  readonly values: Float64Array
  /** The totals of the director. */
  readonly total: number
  private readonly free: number[] = []
  private next: number

  /** Bytes of a region for so many services and destinations. */
  static bytesFor(slots: number): number {
    return (REASONS + (slots + 1) * SLOT) * 8
  }

  /** @param region zeroed memory of `bytesFor` bytes, a SharedArrayBuffer if other threads are to read it */
  constructor(region: ArrayBufferLike) {
    this.values = new Float64Array(region, 0, Math.floor(region.byteLength / 8))
    if (this.values.length < REASONS + SLOT)
      throw new RangeError(
        `region of ${region.byteLength} bytes for counters: ${CounterRegion.bytesFor(0)} at least`,
      )
    this.total = REASONS
    this.next = REASONS + SLOT
  }

  /** How many slots there are, that of the totals included. */
  get capacity(): number {
    return Math.floor((this.values.length - REASONS) / SLOT)
  }

  /** The number of a slot, from 0 on, by its place. */
  indexOf(slot: number): number {
    return (slot - REASONS) / SLOT
  }

  /** The place of a slot by its number. */
  slotAt(index: number): number {
    return REASONS + index * SLOT
  }

  /** Takes a slot: the place of its first counter in `values`, or -1 when none is left. */
  allocate(): number {
    const slot = this.free.pop()
    if (slot !== undefined) {
      this.values.fill(0, slot, slot + SLOT)
      return slot
    }
    if (this.next + SLOT > this.values.length) return -1
    this.next += SLOT
    return this.next - SLOT
  }

  release(slot: number): void {
    this.free.push(slot)
  }

  countReason(reason: number): void {
    this.values[reason]!++
  }

  /** Packets by reason, those that have occurred and those that have not. */
  reasons(): Record<string, number> {
    return Object.fromEntries(reasons.map((name, i) => [name, this.values[i]!]))
  }

  /**
   * Counters of a slot since it was last zeroed.
   *
   * @param values what the counters are to be taken for, those of now when absent
   */
  counters(slot: number, values: Float64Array = this.values.subarray(slot)): Counters {
    const since = (place: number): number => values[place]! - this.values[slot + C.base + place]!
    return {
      connections: since(C.connections),
      inPackets: since(C.inPackets),
      outPackets: since(C.outPackets),
      inBytes: since(C.inBytes),
      outBytes: since(C.outBytes),
    }
  }

  /** Rates of a slot, rounded up as ip_vs_read_estimator does. */
  rates(slot: number): Rates {
    const packets = (place: number): number =>
      Math.floor(
        (this.values[slot + C.rate + place]! + PACKET_RATE_SCALE / 2 - 1) / PACKET_RATE_SCALE,
      )
    const bytes = (place: number): number =>
      Math.floor((this.values[slot + C.rate + place]! + BYTE_RATE_SCALE / 2 - 1) / BYTE_RATE_SCALE)
    return {
      connectionsPerSecond: packets(C.connections),
      inPacketsPerSecond: packets(C.inPackets),
      outPacketsPerSecond: packets(C.outPackets),
      inBytesPerSecond: bytes(C.inBytes),
      outBytesPerSecond: bytes(C.outBytes),
    }
  }
}
