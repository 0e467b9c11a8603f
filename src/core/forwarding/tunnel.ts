import { HopState, NO_HOP } from '../../port/neighbours.js'
import * as ipv4 from '../../wire/ipv4.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Verdict } from '../verdict.js'
import { encapsulate, encapsulationBytes } from './encapsulation.js'
import type { Exit } from './exit.js'
import { forwardLocally } from './local.js'
import { routeToDestination } from './route.js'

/**
 * Tunneling: the packet goes inside another one to the destination, which takes it out and answers the client
 * by itself (ip_vs_tunnel_xmit). The outer headers are written into the headroom before the packet. The IP
 * header copies the inner one's type of service, its TTL as decremented, and DF if path MTU discovery is on.
 * As in the kernel, an outer header with DF has identification 0 (RFC 6864).
 */
export function forwardThroughTunnel(
  exit: Exit,
  packet: Packet,
  destination: Destination,
): Verdict {
  const { tunnel } = destination
  const extraBytes = ipv4.MIN_HEADER_BYTES + encapsulationBytes(tunnel)
  const hop = routeToDestination(exit, packet, destination, extraBytes)
  if (hop === NO_HOP) return exit.verdict
  const state = exit.neighbours.state[hop]
  if (state === HopState.local) return forwardLocally(exit, packet, hop)

  const { words, halfs, bytes } = exit.pool
  const inner = packet.network
  const length = packet.totalBytes + extraBytes
  const sourceBe = exit.neighbours.sourceBe[hop]!
  const fragmentBe =
    exit.settings.pathMtuDiscovery !== 0 && ipv4.dontFragment(halfs, inner)
      ? ipv4.FragmentBe.dontFragment
      : 0
  const protocol = encapsulate(exit.pool, packet, tunnel, sourceBe, destination.addressBe)
  ipv4.writeHeader(
    words,
    inner - extraBytes,
    outerTypeOfService(bytes[inner + ipv4.TOS]!),
    length,
    fragmentBe !== 0 ? 0 : exit.nextIdentification(),
    fragmentBe,
    // The kernel's stack will take one off.
    ipv4.ttl(bytes, inner) + (state === HopState.kernel ? 1 : 0),
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
