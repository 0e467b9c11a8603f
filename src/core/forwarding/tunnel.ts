import { HopState, NO_HOP } from '../../port/neighbours.js'
import { sum32, sumAddressIpv6 } from '../../wire/checksum.js'
import * as ipv4 from '../../wire/ipv4.js'
import * as ipv6 from '../../wire/ipv6.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Verdict } from '../verdict.js'
import { encapsulate, encapsulationBytes } from './encapsulation.js'
import type { Exit } from './exit.js'
import { forwardLocally } from './local.js'
import { routeToDestination } from './route.js'

/**
 * Tunneling: the packet goes inside another one to the destination, which takes it out and answers the client
 * by itself (ip_vs_tunnel_xmit, ip_vs_tunnel_xmit_v6). Packet and tunnel may be of either family each. The outer
 * headers are written into the headroom before the packet. The IP header copies the inner one's type of service
 * and its TTL as decremented; one of IPv4 also DF of an IPv4 packet, if path MTU discovery is on. As in the
 * kernel, an outer header with DF has identification 0 (RFC 6864), and one of IPv6 has no flow label.
 */
export function forwardThroughTunnel(
  exit: Exit,
  packet: Packet,
  destination: Destination,
): Verdict {
  const { tunnel, family } = destination
  const headerBytes = family === 6 ? ipv6.HEADER_BYTES : ipv4.MIN_HEADER_BYTES
  const extraBytes = headerBytes + encapsulationBytes(tunnel)
  const hop = routeToDestination(exit, packet, destination, extraBytes)
  if (hop === NO_HOP) return exit.verdict
  const { neighbours } = exit
  const state = neighbours.state[hop]
  if (state === HopState.local) return forwardLocally(exit, packet, hop)
  exit.finishOptions(packet)

  const { words, halfs, bytes } = exit.pool
  const inner = packet.network
  const length = packet.totalBytes + extraBytes
  const isIpv4 = packet.family === 4
  const innerTos = isIpv4 ? bytes[inner + ipv4.TOS]! : ipv6.trafficClass(bytes, inner)
  const tos = outerTypeOfService(innerTos)
  const innerTtl = isIpv4 ? ipv4.ttl(bytes, inner) : ipv6.hopLimit(bytes, inner)
  // The kernel's stack will take one off.
  const ttl = innerTtl + (state === HopState.kernel ? 1 : 0)
  const { sourceIpv6 } = neighbours
  if (family === 6) {
    const { words: address } = destination.address
    const sum = sumAddressIpv6(sourceIpv6, 4 * hop) + sumAddressIpv6(address, 0)
    const protocol = encapsulate(exit.pool, packet, tunnel, sum)
    ipv6.writeHeader(
      words,
      inner - extraBytes,
      tos,
      length,
      protocol,
      ttl,
      sourceIpv6,
      4 * hop,
      address,
      0,
    )
    return exit.forward(inner - extraBytes, length, hop)
  }
  const sourceBe = neighbours.sourceBe[hop]!
  const sum = sum32(sourceBe) + sum32(destination.addressBe)
  const protocol = encapsulate(exit.pool, packet, tunnel, sum)
  const fragmentBe =
    isIpv4 && exit.settings.pathMtuDiscovery !== 0 && ipv4.dontFragment(halfs, inner)
      ? ipv4.FragmentBe.dontFragment
      : 0
  ipv4.writeHeader(
    words,
    inner - extraBytes,
    tos,
    length,
    fragmentBe !== 0 ? 0 : exit.nextIdentification(),
    fragmentBe,
    ttl,
    protocol,
    sourceBe,
    destination.addressBe,
  )
  return exit.forward(inner - extraBytes, length, hop)
}

const ECN_MASK = 3
const ECN_CAPABLE_0 = 2
const CONGESTION_EXPERIENCED = 3

/** A packet that has met congestion says so inside only (the full-functionality option of RFC 3168, 9.1.1). */
function outerTypeOfService(inner: number): number {
  return (inner & ECN_MASK) === CONGESTION_EXPERIENCED ? (inner & ~ECN_MASK) | ECN_CAPABLE_0 : inner
}
