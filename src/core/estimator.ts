import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { Counters } from './commands.js'
import { timerFires } from './kernel-timer.js'
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
  private readonly last = new Map<number, Float64Array>()

  /** When the next sample is due, in jiffies. */
  due: number

  constructor(
    private readonly counters: CounterRegion,
    now: number,
  ) {
    this.due = timerFires((now + PERIOD_JIFFIES) | 0, PERIOD_JIFFIES)
  }

  /** Begins, or goes on after `stop`, with a slot. */
  start(slot: number): void {
    this.last.set(slot, this.counters.values.slice(slot, slot + COUNTERS))
  }

  /** The slot's rates stay as they are. */
  stop(slot: number): void {
    this.last.delete(slot)
  }

  /** Counters and rates begin again from 0; `frozen` from what the last sample has shown. */
  zero(slot: number, frozen: boolean): void {
    const { values } = this.counters
    values.fill(0, slot + C.rate, slot + C.rate + COUNTERS)
    const last = this.last.get(slot)
    if (frozen && last) return values.set(last, slot + C.base)
    this.counters.zero(slot)
    if (last) this.start(slot)
  }

  /** A slot's counters, since they were last zeroed, as they were at the last sample. */
  sampled(slot: number): Counters {
    return this.counters.counters(slot, this.last.get(slot))
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
    this.last.forEach(this.sampleSlot)
  }

  private readonly sampleSlot = (last: Float64Array, slot: number): void => {
    const { values } = this.counters
    for (let i = 0; i < COUNTERS; i++) {
      const scale = i === C.inBytes || i === C.outBytes ? BYTE_RATE_SCALE : PACKET_RATE_SCALE
      const now = values[slot + i]!
      const sample = ((now - last[i]!) * scale) / PERIOD_SECONDS
      last[i] = now
      const rate = values[slot + C.rate + i]!
      values[slot + C.rate + i] = rate + Math.floor((sample - rate) / 4)
    }
  }
}
