import { HopState, NO_HOP } from '../../port/neighbours.js'
import { IcmpType, TimeExceededCode, UnreachableCode } from '../../wire/icmp.js'
import { decrementTtl, dontFragment, IpProtocol, swap32, ttl } from '../../wire/ipv4.js'
import { MIN_MTU as MIN_MTU_IPV6 } from '../../wire/ipv6.js'
import type { ConnectionTable } from '../connection-table.js'
import { LINE_WORDS, W } from '../connection.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import { mtuOf } from '../path-mtus.js'
import { Reason } from '../verdict.js'
import type { Exit } from './exit.js'
import { passOnIpv6, passRouterIpv6, routeToClientIpv6 } from './route-ipv6.js'

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
  const { neighbours, pathMtus } = exit
  if (
    destination.hopGeneration !== neighbours.generation ||
    (destination.pathMtuGeneration !== pathMtus.generation &&
      // Of these the kernel keeps the route until it changes.
      destination.forwarding !== 'direct-route')
  )
    findRoute(exit, destination)
  const hop = destination.hop
  const minimumMtu = destination.family === 6 ? MIN_MTU_IPV6 : MIN_TUNNEL_MTU
  if (packet.family === 6) return passOnIpv6(exit, packet, hop, extraBytes, minimumMtu)
  const linkMtu = neighbours.mtu[hop]!
  const mtu = mtuOf(destination.pathMtu, linkMtu, exit.now)
  if (mtu < linkMtu) exit.mtu = mtu
  return passOn(exit, packet, hop, mtu, extraBytes, minimumMtu)
}

function findRoute(exit: Exit, destination: Destination): void {
  const { neighbours, pathMtus } = exit
  const { family, address, addressBe } = destination
  destination.hop =
    family === 6 ? neighbours.hopForIpv6(address.words, 0) : neighbours.hopFor(addressBe)
  destination.hopGeneration = neighbours.generation
  destination.pathMtu = family === 6 ? undefined : pathMtus.find(addressBe)
  destination.pathMtuGeneration = pathMtus.generation
}

/**
 * The MTU of the way to a destination as the last packet to it found it, which the kernel goes by when a router
 * has just told another one. @param told what the router told, if there was no packet yet
 */
export function knownMtu(exit: Exit, destination: Destination, told: number): number {
  if (destination.hopGeneration === 0) return told
  return mtuOf(destination.pathMtu, exit.neighbours.mtu[destination.hop]!, exit.now)
}

/**
 * What passing on a packet to a hop does to it, once IPVS has decided about it. Errors come from the address
 * that the packet was sent to.
 *
 * @param mtu of the way on
 * @param extraBytes what is going to be added to the packet: a tunnel's headers
 * @param minimumMtu a path that leaves the packet less carries no tunnel
 * @returns the hop, or NO_HOP when the packet ends here; the verdict is in `exit` then
 */
export function passOn(
  exit: Exit,
  packet: Packet,
  hop: number,
  mtu: number,
  extraBytes: number,
  minimumMtu: number,
): number {
  const state = exit.neighbours.state[hop]
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
  const room = mtu - extraBytes
  if (isTunnel && room < minimumMtu) {
    exit.drop(Reason['too-big'])
    return NO_HOP
  }
  if (
    packet.totalBytes > room &&
    exit.pool.wireBytes(packet.network, packet.totalBytes) > room &&
    dontFragment(halfs, packet.network) &&
    packet.protocol !== IpProtocol.icmp &&
    (!isTunnel || exit.settings.pathMtuDiscovery !== 0)
  ) {
    tooBig(exit, packet, room, virtualBe)
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
  return passTowards(exit, packet, hop)
}

/** The same for a packet of no connection, or one that may be addressed to others than its client. */
export function passRouter(exit: Exit, packet: Packet): number {
  if (packet.family === 6) return passRouterIpv6(exit, packet)
  return passTowards(exit, packet, exit.neighbours.hopFor(packet.destinationBe))
}

function passTowards(exit: Exit, packet: Packet, hop: number): number {
  const { neighbours } = exit
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
  // Of a packet that was put together, the fragments have been routed.
  const isWhole = packet.largestFragment === 0
  if (
    isWhole &&
    packet.totalBytes > mtu &&
    exit.pool.wireBytes(packet.network, packet.totalBytes) > mtu &&
    dontFragment(halfs, packet.network)
  ) {
    tooBig(exit, packet, mtu, 0)
    return NO_HOP
  }
  if (state !== HopState.kernel) decrementTtl(halfs, packet.network)
  return hop
}

/** Path MTU discovery: the sender learns what fits (RFC 1191). */
export function tooBig(exit: Exit, packet: Packet, mtu: number, sourceBe: number): void {
  exit.answer(
    packet,
    Reason['too-big'],
    IcmpType.destinationUnreachable,
    UnreachableCode.fragmentationNeeded,
    swap32(mtu),
    sourceBe,
  )
}
