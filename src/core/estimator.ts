import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { Counters } from './commands.js'
import { timerFires } from './timer-wheel.js'
import { BYTE_RATE_SCALE, C, COUNTERS, PACKET_RATE_SCALE, type CounterRegion } from './counters.js'
import { Cost, type Work } from './work.js'

/** Seconds between two samples. */
const PERIOD_SECONDS = 2
const PERIOD_JIFFIES = PERIOD_SECONDS * JIFFIES_PER_SECOND

/**
 * Rates per second of every slot of counters, smoothed as the kernel's estimator does it
 * (net/netfilter/ipvs/ip_vs_est.c): every 2 s, rate += (sample - rate) / 4 in fixed point, rounding down.
 *
 * Flat arrays, reserved for as many slots as there may be and touched as they come: nothing is copied when services
 * become many, and a sample of them all can be taken in pieces.
 */
export class Estimator {
  /** What the counters were at the last sample, slot by slot. */
  private readonly samples: Float64Array
  /** By index of the slot: not 0 when samples are taken of it. */
  private readonly running: Uint8Array
  /** Indexes from this one on have never been in use. */
  private end = 0
  /** How far the sample that is being taken has come. */
  private position = 0
  /** When the next sample is due, in jiffies; while one is being taken, when it was. */
  due: number

  constructor(
    private readonly counters: CounterRegion,
    now: number,
  ) {
    this.samples = new Float64Array(counters.capacity * COUNTERS)
    this.running = new Uint8Array(counters.capacity)
    this.due = timerFires((now + PERIOD_JIFFIES) | 0, PERIOD_JIFFIES)
  }

  /** Begins with a slot, whose counters are 0, or goes on with it after `stop`. */
  start(slot: number): void {
    const index = this.counters.indexOf(slot)
    this.running[index] = 1
    if (index >= this.end) this.end = index + 1
  }

  /** The slot's rates, and what was summed up of its counters, stay as they are. */
  stop(slot: number): void {
    this.running[this.counters.indexOf(slot)] = 0
  }

  /** The slot is nobody's any more. */
  release(slot: number): void {
    this.stop(slot)
    this.sampleOf(slot).fill(0)
  }

  /**
   * Counters and rates begin again from 0.
   *
   * @param isSampled if what came since the last sample is still to be counted, as in the kernel
   */
  zero(slot: number, isSampled: boolean): void {
    const { values } = this.counters
    const sample = this.sampleOf(slot)
    values.fill(0, slot + C.rate, slot + C.rate + COUNTERS)
    if (!isSampled) sample.set(values.subarray(slot, slot + COUNTERS))
    values.set(sample, slot + C.base)
  }

  /** A slot's counters, since they were last zeroed, as they were at the last sample. */
  sampled(slot: number): Counters {
    return this.counters.counters(slot, this.sampleOf(slot))
  }

  /**
   * Takes a sample of all slots; to be called when it is due.
   *
   * @param enabled false if this one is left out (run_estimation)
   * @returns false when the work that may be done has come to its end before: the next call goes on
   */
  sample(now: number, enabled: boolean, work: Work): boolean {
    if (enabled) {
      for (; this.position < this.end; this.position++) {
        if (work.left <= 0) return false
        work.left -= Cost.look
        if (this.running[this.position] !== 0) this.sampleSlot(this.position)
      }
    }
    this.position = 0
    this.due = timerFires((now + PERIOD_JIFFIES) | 0, PERIOD_JIFFIES)
    return true
  }

  private sampleOf(slot: number): Float64Array {
    const first = this.counters.indexOf(slot) * COUNTERS
    return this.samples.subarray(first, first + COUNTERS)
  }

  private sampleSlot(index: number): void {
    const { samples } = this
    const { values } = this.counters
    const slot = this.counters.slotAt(index)
    const first = index * COUNTERS
    for (let i = 0; i < COUNTERS; i++) {
      const scale = i === C.inBytes || i === C.outBytes ? BYTE_RATE_SCALE : PACKET_RATE_SCALE
      const now = values[slot + i]!
      const current = ((now - samples[first + i]!) * scale) / PERIOD_SECONDS
      samples[first + i] = now
      const rate = values[slot + C.rate + i]!
      values[slot + C.rate + i] = rate + Math.floor((current - rate) / 4)
    }
  }
}
