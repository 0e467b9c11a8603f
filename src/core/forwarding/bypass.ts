import { HopState, NO_HOP } from '../../port/neighbours.js'
import type { Packet } from '../packet.js'
import { Reason, type Verdict } from '../verdict.js'
import type { Exit } from './exit.js'
import { passOn } from './route.js'
import { passOnIpv6 } from './route-ipv6.js'

/**
 * Bypass: no destination takes the packet, so it goes on to where it was going (cache_bypass; ip_vs_bypass_xmit).
 * For clients of a transparent cache that is the server itself.
 */
export function forwardPast(exit: Exit, packet: Packet): Verdict {
  const { neighbours } = exit
  const isIpv6 = packet.family === 6
  const way = isIpv6
    ? neighbours.hopForIpv6(packet.words, packet.destinationAt)
    : neighbours.hopFor(packet.destinationBe)
  if (neighbours.state[way] === HopState.local) return exit.drop(Reason['no-route'])
  const hop = isIpv6
    ? passOnIpv6(exit, packet, way, 0, 0)
    : passOn(exit, packet, way, neighbours.mtu[way]!, 0, 0)
  if (hop === NO_HOP) return exit.verdict
  exit.finishOptions(packet)
  return exit.forward(packet.network, packet.totalBytes, hop)
}
