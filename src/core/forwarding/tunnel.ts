import { HopState, NO_HOP } from '../../port/neighbours.js'
import * as ipv4 from '../../wire/ipv4.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Verdict } from '../verdict.js'
import type { Exit } from './exit.js'
import { forwardLocally } from './local.js'
import { routeToDestination, TUNNEL_HEADER_BYTES } from './route.js'

/**
 * Tunneling: the packet goes inside another one (IPIP, RFC 2003) to the destination, which takes it out and
 * answers the client by itself (ip_vs_tunnel_xmit). The outer header is written into the headroom before
 * the packet and copies the inner one's type of service, its TTL as decremented, and DF if path MTU
 * discovery is on. As in the kernel, an outer header with DF has identification 0 (RFC 6864).
 */
export function forwardThroughTunnel(
  exit: Exit,
  packet: Packet,
  destination: Destination,
): Verdict {
  const hop = routeToDestination(exit, packet, destination, TUNNEL_HEADER_BYTES)
  if (hop === NO_HOP) return exit.verdict
  const state = exit.neighbours.state[hop]
  if (state === HopState.local) return forwardLocally(exit, packet, hop)

  const { words, halfs, bytes } = exit.pool
  const inner = packet.network
  const length = packet.totalBytes + TUNNEL_HEADER_BYTES
  const fragmentBe =
    exit.settings.pathMtuDiscovery !== 0 && ipv4.dontFragment(halfs, inner)
      ? ipv4.FragmentBe.dontFragment
      : 0
  ipv4.writeHeader(
    words,
    inner - TUNNEL_HEADER_BYTES,
    bytes[inner + ipv4.TOS]!,
    length,
    fragmentBe !== 0 ? 0 : exit.nextIdentification(),
    fragmentBe,
    // The kernel's stack will take one off.
    ipv4.ttl(bytes, inner) + (state === HopState.kernel ? 1 : 0),
    ipv4.IpProtocol.ipip,
    exit.neighbours.sourceBe[hop]!,
    destination.addressBe,
  )
  return exit.forward(inner - TUNNEL_HEADER_BYTES, length, hop)
}
