import { HopState, NO_HOP } from '../../port/neighbours.js'
import { IcmpType, TimeExceededCode, UnreachableCode } from '../../wire/icmp.js'
import {
  decrementTtl,
  dontFragment,
  IpProtocol,
  MIN_HEADER_BYTES,
  swap32,
  ttl,
} from '../../wire/ipv4.js'
import { MIN_MTU as MIN_MTU_IPV6 } from '../../wire/ipv6.js'
import type { ConnectionTable } from '../connection-table.js'
import { LINE_WORDS, W } from '../connection.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import { Reason } from '../verdict.js'
import type { Exit } from './exit.js'
import { passOnIpv6, routeToClientIpv6 } from './route-ipv6.js'

/** A path narrower than this carries no tunnel of IPv4 (ip_vs_xmit.c). */
const MIN_TUNNEL_MTU = 68

/**
 * The next hop towards a destination, with all that passing a router does to a packet: TTL, and the MTU of
 * the way on (__ip_vs_get_out_rt of net/netfilter/ipvs/ip_vs_xmit.c). The kernel's stack, where it is to
 * send the packet on, takes one off the TTL itself; but it does not see inside a tunnel.
 *
 * @param extraBytes what forwarding is going to add to the packet: a tunnel's header
 * @returns the hop, or NO_HOP when the packet ends here; the verdict is in `exit` then
 */
export function routeToDestination(
  exit: Exit,
  packet: Packet,
  destination: Destination,
  extraBytes: number,
): number {
  const { neighbours } = exit
  if (destination.hopGeneration !== neighbours.generation) {
    destination.hop =
      destination.family === 6
        ? neighbours.hopForIpv6(destination.address.words, 0)
        : neighbours.hopFor(destination.addressBe)
    destination.hopGeneration = neighbours.generation
  }
  const hop = destination.hop
  const minimumMtu = destination.family === 6 ? MIN_MTU_IPV6 : MIN_TUNNEL_MTU
  if (packet.family === 6) return passOnIpv6(exit, packet, hop, extraBytes, minimumMtu)
  const state = neighbours.state[hop]
  // What the client is told comes from the virtual address.
  const virtualBe = packet.destinationBe
  if (state === HopState.unreachable) {
    const { destinationUnreachable } = IcmpType
    exit.answer(
      packet,
      Reason['no-route'],
      destinationUnreachable,
      UnreachableCode.host,
      0,
      virtualBe,
    )
    return NO_HOP
  }
  if (state === HopState.local) return hop
  const { halfs, bytes } = exit.pool
  if (ttl(bytes, packet.network) <= 1) {
    const { timeExceeded } = IcmpType
    exit.answer(
      packet,
      Reason['ttl-exceeded'],
      timeExceeded,
      TimeExceededCode.transit,
      0,
      virtualBe,
    )
    return NO_HOP
  }
  const isTunnel = extraBytes > 0
  if (isTunnel || state !== HopState.kernel) decrementTtl(halfs, packet.network)
  const mtu = neighbours.mtu[hop]! - extraBytes
  if (isTunnel && mtu < minimumMtu) {
    exit.drop(Reason['too-big'])
    return NO_HOP
  }
  if (
    packet.totalBytes > mtu &&
    dontFragment(halfs, packet.network) &&
    packet.protocol !== IpProtocol.icmp &&
    (!isTunnel || exit.settings.pathMtuDiscovery !== 0)
  ) {
    tooBig(exit, packet, mtu, virtualBe)
    return NO_HOP
  }
  return hop
}

/**
 * The next hop towards the client of a masqueraded connection, with all that passing a router does to the
 * reply (ip_forward of net/ipv4/ip_forward.c, which the reply goes through before IPVS sees it). What the
 * real server is told comes from the director's own address.
 *
 * @returns the hop, or NO_HOP when the packet ends here; the verdict is in `exit` then
 */
export function routeToClient(
  exit: Exit,
  packet: Packet,
  table: ConnectionTable,
  connection: number,
): number {
  if (packet.family === 6) return routeToClientIpv6(exit, packet, table, connection)
  const { neighbours } = exit
  const cell = connection * LINE_WORDS + W.clientHop
  const cached = table.words[cell]!
  let hop = cached & 0xffff
  if (cached >>> 16 !== neighbours.generation) {
    hop = neighbours.hopFor(packet.destinationBe)
    table.words[cell] = hop | (neighbours.generation << 16)
  }
  const state = neighbours.state[hop]
  if (state === HopState.unreachable) {
    const { destinationUnreachable } = IcmpType
    exit.answer(packet, Reason['no-route'], destinationUnreachable, UnreachableCode.network, 0, 0)
    return NO_HOP
  }
  if (state === HopState.local) return hop
  const { halfs, bytes } = exit.pool
  if (ttl(bytes, packet.network) <= 1) {
    const { timeExceeded } = IcmpType
    exit.answer(packet, Reason['ttl-exceeded'], timeExceeded, TimeExceededCode.transit, 0, 0)
    return NO_HOP
  }
  const mtu = neighbours.mtu[hop]!
  if (packet.totalBytes > mtu && dontFragment(halfs, packet.network)) {
    tooBig(exit, packet, mtu, 0)
    return NO_HOP
  }
  if (state !== HopState.kernel) decrementTtl(halfs, packet.network)
  return hop
}

/** Path MTU discovery: the sender learns what fits (RFC 1191). */
function tooBig(exit: Exit, packet: Packet, mtu: number, sourceBe: number): void {
  exit.answer(
    packet,
    Reason['too-big'],
    IcmpType.destinationUnreachable,
    UnreachableCode.fragmentationNeeded,
    swap32(mtu),
    sourceBe,
  )
}

/** Bytes that IPIP puts in front of a packet. */
export const TUNNEL_HEADER_BYTES = MIN_HEADER_BYTES
