/** Ticks of the director's clock in a second. One tick is 10 ms, as a kernel with HZ=100 counts. */
export const JIFFIES_PER_SECOND = 100

/**
 * Time as a parameter. Jiffies are 32-bit and wrap: compare with `(a - b) | 0`.
 * (248 days fit into half the range; IPVS's longest timeout is 31.)
 */
export interface Clock {
  /** Whole jiffies since the clock's start, as a 32-bit integer. Allocates nothing. */
  nowJiffies(): number
}

/** A clock that is moved by hand: tests, replay. */
export class ManualClock implements Clock {
  private jiffies = 0

  nowJiffies(): number {
    return this.jiffies
  }
  /** Moves the clock on; seconds may be a fraction. */
  advanceSeconds(seconds: number): void {
    this.jiffies = (this.jiffies + Math.round(seconds * JIFFIES_PER_SECOND)) | 0
  }
  advanceJiffies(jiffies: number): void {
    this.jiffies = (this.jiffies + jiffies) | 0
  }
}
