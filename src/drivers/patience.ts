import { native, type Native } from '../kernel/native.js'

/**
 * How long a thread that has run out of packets goes on looking for more before it sleeps. Falling asleep and being
 * woken takes a packet 10 to 50 µs longer, and where packets come closer together than the patience lasts, nobody
 * sleeps. The price is a busy processor, at most for that long after a packet.
 */
export class Patience {
  private readonly native: Native = native()
  /** Seconds and nanoseconds. */
  private readonly now = new Int32Array(2)
  private readonly since = new Int32Array(2)
  private isIdle = false

  /** @param microseconds 0 for none at all */
  constructor(private readonly microseconds: number) {}

  /** Packets have come. */
  renew(): void {
    this.isIdle = false
  }

  /** Whether it is at an end: asked whenever there were no packets. Allocates nothing. */
  isExhausted(): boolean {
    if (this.microseconds === 0) return true
    const { now, since } = this
    if (!this.isIdle) {
      this.isIdle = true
      this.native.readClock(since)
      return false
    }
    this.native.readClock(now)
    const seconds = now[0]! - since[0]!
    return seconds * 1e6 + (now[1]! - since[1]!) / 1000 >= this.microseconds
  }
}
