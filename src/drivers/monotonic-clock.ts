import { native, type Native } from '../kernel/native.js'
import { JIFFIES_PER_SECOND, type Clock } from '../port/clock.js'

const NANOSECONDS_PER_JIFFY = 1e9 / JIFFIES_PER_SECOND

/** CLOCK_MONOTONIC in jiffies since a given second of it, so that several threads count alike. */
export class MonotonicClock implements Clock {
  private readonly cell = new Int32Array(2)
  private readonly native: Native

  constructor(private readonly startSeconds = 0) {
    this.native = native()
    if (startSeconds === 0) {
      this.native.readClock(this.cell)
      this.startSeconds = this.cell[0]!
    }
  }

  /** The second that jiffy 0 lies in, to hand to the clock of another thread. */
  get start(): number {
    return this.startSeconds
  }

  nowJiffies(): number {
    const cell = this.cell
    this.native.readClock(cell)
    const seconds = (cell[0]! - this.startSeconds) | 0
    return (Math.imul(seconds, JIFFIES_PER_SECOND) + ((cell[1]! / NANOSECONDS_PER_JIFFY) | 0)) | 0
  }
}
