import { HopState, NO_HOP } from '../../port/neighbours.js'
import { HOP_LIMIT_EXCEEDED, Icmpv6Type, UnreachableCode } from '../../wire/icmpv6.js'
import { swap32 } from '../../wire/ipv4.js'
import { HOP_LIMIT, hopLimit, MIN_MTU } from '../../wire/ipv6.js'
import type { ConnectionTable } from '../connection-table.js'
import { LINE_WORDS, W } from '../connection.js'
import type { Packet } from '../packet.js'
import { Reason } from '../verdict.js'
import type { Exit } from './exit.js'

/**
 * What passing a router on the way to a destination does to an IPv6 packet: hop limit, and the MTU of the way on
 * (__ip_vs_get_out_rt_v6 of net/netfilter/ipvs/ip_vs_xmit.c). What is too big is never cut.
 *
 * @param hop the way on, which may be one of IPv4: a tunnel's
 * @param extraBytes what forwarding is going to add to the packet: a tunnel's headers
 * @param minimumMtu a path that leaves the packet less carries no tunnel
 * @returns the hop, or NO_HOP when the packet ends here; the verdict is in `exit` then
 */
export function passOnIpv6(
  exit: Exit,
  packet: Packet,
  hop: number,
  extraBytes: number,
  minimumMtu: number,
): number {
  const { neighbours } = exit
  const state = neighbours.state[hop]
  if (state === HopState.unreachable) {
    const { destinationUnreachable } = Icmpv6Type
    exit.answerIpv6(packet, Reason['no-route'], destinationUnreachable, UnreachableCode.address, 0)
    return NO_HOP
  }
  if (state === HopState.local) return hop
  if (!mayLive(exit, packet)) return NO_HOP
  const isTunnel = extraBytes > 0
  if (isTunnel || state !== HopState.kernel) decrementHopLimit(exit, packet)
  const mtu = neighbours.mtu[hop]! - extraBytes
  if (isTunnel && mtu < minimumMtu) {
    exit.drop(Reason['too-big'])
    return NO_HOP
  }
  return fits(exit, packet, mtu) ? hop : NO_HOP
}

/**
 * The same as `routeToClient` for IPv6 (ip6_forward of net/ipv6/ip6_output.c).
 *
 * @returns the hop, or NO_HOP when the packet ends here; the verdict is in `exit` then
 */
export function routeToClientIpv6(
  exit: Exit,
  packet: Packet,
  table: ConnectionTable,
  connection: number,
): number {
  const { neighbours } = exit
  const cell = connection * LINE_WORDS + W.clientHop
  const cached = table.words[cell]!
  let hop = cached & 0xffff
  if (cached >>> 16 !== neighbours.generation) {
    hop = neighbours.hopForIpv6(packet.words, packet.destinationAt)
    table.words[cell] = hop | (neighbours.generation << 16)
  }
  return passTowards(exit, packet, hop)
}

/** The same for a packet of no connection. */
export function passRouterIpv6(exit: Exit, packet: Packet): number {
  const { words } = exit.pool
  return passTowards(exit, packet, exit.neighbours.hopForIpv6(words, packet.destinationAt))
}

function passTowards(exit: Exit, packet: Packet, hop: number): number {
  const { neighbours } = exit
  const state = neighbours.state[hop]
  if (state === HopState.unreachable) {
    const { destinationUnreachable } = Icmpv6Type
    exit.answerIpv6(packet, Reason['no-route'], destinationUnreachable, UnreachableCode.noRoute, 0)
    return NO_HOP
  }
  if (state === HopState.local) return hop
  if (!mayLive(exit, packet)) return NO_HOP
  if (!fits(exit, packet, Math.max(neighbours.mtu[hop]!, MIN_MTU))) return NO_HOP
  if (state !== HopState.kernel) decrementHopLimit(exit, packet)
  return hop
}

function mayLive(exit: Exit, packet: Packet): boolean {
  if (hopLimit(exit.pool.bytes, packet.network) > 1) return true
  exit.answerIpv6(packet, Reason['ttl-exceeded'], Icmpv6Type.timeExceeded, HOP_LIMIT_EXCEEDED, 0)
  return false
}

function decrementHopLimit(exit: Exit, packet: Packet): void {
  exit.pool.bytes[packet.network + HOP_LIMIT]!--
}

/** A packet that came in fragments can leave in the same. */
function fits(exit: Exit, packet: Packet, mtu: number): boolean {
  if ((packet.largestFragment || packet.totalBytes) <= mtu) return true
  if (exit.pool.wireBytes(packet.network, packet.totalBytes) <= mtu) return true
  exit.answerIpv6(packet, Reason['too-big'], Icmpv6Type.packetTooBig, 0, swap32(mtu))
  return false
}
