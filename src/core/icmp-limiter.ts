import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { Settings } from './settings.js'

/** Hosts remembered, a power of two. A host that is pushed out of its place starts with a full burst again. */
const HOSTS = 1024
/** Messages that a host may get at once: the kernel's XRLIM_BURST_FACTOR. */
const BURST_PER_HOST = 6

/**
 * How many ICMP errors the director sends, limited as the kernel limits its own: in all (icmp_global_allow
 * of net/ipv4/icmp.c) and to each host (inet_peer_xrlim_allow of net/ipv4/inetpeer.c). Token buckets both.
 */
export class IcmpLimiter {
  private credit: number
  private filledAt: number
  private readonly hosts = new Int32Array(HOSTS)
  private readonly tokens = new Int32Array(HOSTS)
  private readonly usedAt = new Int32Array(HOSTS)

  constructor(
    private readonly settings: Settings,
    now: number,
    /** Directors that share what all may send: each has an equal part. */
    private readonly sharers = 1,
  ) {
    this.credit = settings.icmpMessagesBurst / sharers
    this.filledAt = now | 0
  }

  /** True when an error may go to the host now; it is taken as sent. */
  allow(hostBe: number, now: number): boolean {
    return this.allowInAll(now) && this.allowToHost(hostBe, now)
  }

  private allowInAll(now: number): boolean {
    const { icmpMessagesPerSecond, icmpMessagesBurst } = this.settings
    const elapsed = (now - this.filledAt) | 0
    if (elapsed > 0) {
      this.filledAt = now
      const earned =
        (Math.min(elapsed, JIFFIES_PER_SECOND) * icmpMessagesPerSecond) /
        (JIFFIES_PER_SECOND * this.sharers)
      this.credit = Math.min(Math.max(1, icmpMessagesBurst / this.sharers), this.credit + earned)
    }
    if (this.credit < 1) return false
    this.credit--
    return true
  }

  private allowToHost(hostBe: number, now: number): boolean {
    const limit = this.settings.icmpRateLimitJiffies
    if (limit === 0) return true
    const place = (Math.imul(hostBe, 0x9e3779b1) >>> 22) & (HOSTS - 1)
    let tokens = BURST_PER_HOST * limit
    if (this.hosts[place] === hostBe) {
      const elapsed = Math.max(0, (now - this.usedAt[place]!) | 0)
      tokens = Math.min(tokens, this.tokens[place]! + elapsed)
    }
    this.hosts[place] = hostBe
    this.usedAt[place] = now
    const allowed = tokens >= limit
    this.tokens[place] = allowed ? tokens - limit : tokens
    return allowed
  }
}
