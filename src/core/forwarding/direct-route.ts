import { NO_HOP } from '../../port/neighbours.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Verdict } from '../verdict.js'
import type { Exit } from './exit.js'
import { routeToDestination } from './route.js'

/**
 * Direct routing: the packet goes to the destination's link-layer address as it is, but for its TTL; the
 * real server has the virtual address, too, and answers the client by itself (ip_vs_dr_xmit).
 */
export function forwardDirectly(exit: Exit, packet: Packet, destination: Destination): Verdict {
  const hop = routeToDestination(exit, packet, destination, 0)
  if (hop === NO_HOP) return exit.verdict
  exit.finishOptions(packet)
  return exit.forward(packet.network, packet.totalBytes, hop)
}
