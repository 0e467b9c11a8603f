import { JIFFIES_PER_SECOND } from '../port/clock.js'

/** How long a way's MTU is remembered (net.ipv4.route.mtu_expires). */
const LIFETIME_JIFFIES = 600 * JIFFIES_PER_SECOND
/** Nobody makes the director send smaller packets than this (net.ipv4.route.min_pmtu). */
const MINIMUM_MTU = 552
/** Ways remembered at a time; the oldest make room. */
const MOST = 4096

/** The MTU of the way to an address, as a router on it has told. */
export interface PathMtu {
  bytes: number
  /** It was told so small that no router is believed any more until it expires. */
  locked: boolean
  expires: number
}

/**
 * What routers have told of ways that are narrower than the interface that they begin at: the kernel's exceptions
 * of routes (__ip_rt_update_pmtu of net/ipv4/route.c). They hold for an address, whoever sends to it.
 */
export class PathMtus {
  private readonly byAddress = new Map<number, PathMtu>()
  /** Changes when a way gets an exception that had none, and those who know its route have to look again. */
  generation = 1

  /** Undefined while the way is as wide as its interface. */
  find(addressBe: number): PathMtu | undefined {
    return this.byAddress.get(addressBe)
  }

  /**
   * A router says that no more than so many bytes pass.
   *
   * @param linkMtu of the interface that the way begins at
   */
  learn(addressBe: number, mtu: number, linkMtu: number, now: number): void {
    const known = this.byAddress.get(addressBe)
    const current = known ? mtuOf(known, linkMtu, now) : linkMtu
    if (known && known.locked && current < linkMtu) return
    if (current < mtu) return
    const locked = mtu < MINIMUM_MTU
    const bytes = locked ? Math.min(current, MINIMUM_MTU) : mtu
    const expires = (now + LIFETIME_JIFFIES) | 0
    if (known) {
      Object.assign(known, { bytes, locked, expires })
      return
    }
    if (this.byAddress.size >= MOST) {
      const [oldest] = this.byAddress.keys()
      this.byAddress.delete(oldest!)
    }
    this.byAddress.set(addressBe, { bytes, locked, expires })
    this.generation++
  }
}

/** Bytes that pass, by the interface's MTU and what is known of the way. */
export function mtuOf(path: PathMtu | undefined, linkMtu: number, now: number): number {
  return path !== undefined && ((now - path.expires) | 0) < 0 ? path.bytes : linkMtu
}
