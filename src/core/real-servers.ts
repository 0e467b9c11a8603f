import type { Destination } from './destination.js'
import { isSameAddress } from '../wire/ipv6.js'

/**
 * The destinations of all services by their address, for what is asked of a packet that comes from one or is
 * about one (the kernel's rs_table, net/netfilter/ipvs/ip_vs_ctl.c). Those in the trash are not in it.
 */
export class RealServers {
  /** By the address's fold, the oldest first. One server may stand behind all services there are. */
  private readonly byAddress = new Map<number, Set<Destination>>()

  add(destination: Destination): void {
    const others = this.byAddress.get(destination.addressBe)
    if (others) others.add(destination)
    else this.byAddress.set(destination.addressBe, new Set([destination]))
  }

  remove(destination: Destination): void {
    const { addressBe } = destination
    const others = this.byAddress.get(addressBe)!
    others.delete(destination)
    if (others.size === 0) this.byAddress.delete(addressBe)
  }

  /**
   * Whether a masqueraded destination has this address and port (ip_vs_has_real_service).
   *
   * @param foldBe the address's fold; an IPv4 address is its own
   * @param words,at hold the address: one word of IPv4, four of IPv6
   */
  hasMasqueraded(
    family: number,
    protocol: number,
    foldBe: number,
    words: Int32Array,
    at: number,
    portBe: number,
  ): boolean {
    const candidates = this.byAddress.get(foldBe)
    if (candidates === undefined) return false
    for (const candidate of candidates)
      if (
        candidate.portBe === portBe &&
        candidate.family === family &&
        (family === 4 || isSameAddress(candidate.address.words, 0, words, at)) &&
        (candidate.service.mark !== 0 || candidate.service.protocol === protocol) &&
        candidate.forwarding === 'masquerade'
      )
        return true
    return false
  }

  /**
   * The destination that a tunnel leads to: the newest with this IPv4 address (ip_vs_find_tunnel).
   *
   * @param port of a GUE tunnel, 0 for the other types
   */
  findTunnel(addressBe: number, port: number): Destination | undefined {
    let newest: Destination | undefined
    for (const destination of this.byAddress.get(addressBe) ?? []) {
      const { family, forwarding, tunnel } = destination
      if (family === 4 && forwarding === 'tunnel' && tunnel.port === port) newest = destination
    }
    return newest
  }
}
