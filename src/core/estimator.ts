import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { Counters } from './commands.js'
import { timerFires } from './timer-wheel.js'
import { BYTE_RATE_SCALE, C, COUNTERS, PACKET_RATE_SCALE, type CounterRegion } from './counters.js'

/** Seconds between two samples. */
const PERIOD_SECONDS = 2
const PERIOD_JIFFIES = PERIOD_SECONDS * JIFFIES_PER_SECOND

/**
 * Rates per second of every slot of counters, smoothed as the kernel's estimator does it
 * (net/netfilter/ipvs/ip_vs_est.c): every 2 s, rate += (sample - rate) / 4 in fixed point, rounding down.
 */
export class Estimator {
  /** What the counters were at the last sample, by slot. */
  private readonly samples = new Map<number, Float64Array>()
  /** Those of the slots that samples are taken of. */
  private readonly running = new Map<number, Float64Array>()
  /** When the next sample is due, in jiffies. */
  due: number

  constructor(
    private readonly counters: CounterRegion,
    now: number,
  ) {
    this.due = timerFires((now + PERIOD_JIFFIES) | 0, PERIOD_JIFFIES)
  }

  /** Begins with a slot, whose counters are 0, or goes on with it after `stop`. */
  start(slot: number): void {
    let sample = this.samples.get(slot)
    if (!sample) this.samples.set(slot, (sample = new Float64Array(COUNTERS)))
    this.running.set(slot, sample)
  }

  /** The slot's rates, and what was summed up of its counters, stay as they are. */
  stop(slot: number): void {
    this.running.delete(slot)
  }

  /** The slot is nobody's any more. */
  release(slot: number): void {
    this.running.delete(slot)
    this.samples.delete(slot)
  }

  /**
   * Counters and rates begin again from 0.
   *
   * @param isSampled if what came since the last sample is still to be counted, as in the kernel
   */
  zero(slot: number, isSampled: boolean): void {
    const { values } = this.counters
    const sample = this.samples.get(slot)!
    values.fill(0, slot + C.rate, slot + C.rate + COUNTERS)
    if (!isSampled) sample.set(values.subarray(slot, slot + COUNTERS))
    values.set(sample, slot + C.base)
  }

  /** A slot's counters, since they were last zeroed, as they were at the last sample. */
  sampled(slot: number): Counters {
    return this.counters.counters(slot, this.samples.get(slot))
  }

  /**
   * Takes a sample of all slots; to be called when it is due.
   *
   * @param enabled false if this one is left out (run_estimation)
   */
  sample(now: number, enabled: boolean): void {
    this.due = timerFires((now + PERIOD_JIFFIES) | 0, PERIOD_JIFFIES)
    if (!enabled) return
    // Not `for … of`, which makes an array for each entry: this goes on for ever in the data-plane thread.
    this.running.forEach(this.sampleSlot)
  }

  private readonly sampleSlot = (sample: Float64Array, slot: number): void => {
    const { values } = this.counters
    for (let i = 0; i < COUNTERS; i++) {
      const scale = i === C.inBytes || i === C.outBytes ? BYTE_RATE_SCALE : PACKET_RATE_SCALE
      const now = values[slot + i]!
      const current = ((now - sample[i]!) * scale) / PERIOD_SECONDS
      sample[i] = now
      const rate = values[slot + C.rate + i]!
      values[slot + C.rate + i] = rate + Math.floor((current - rate) / 4)
    }
  }
}
