import type { Packet } from '../packet.js'
import type { Verdict } from '../verdict.js'
import type { Exit } from './exit.js'

/**
 * The destination is the director itself: the packet is left to the kernel's stack as it is, with its TTL
 * (ip_vs_null_xmit, and the local branch of the other methods).
 */
export function forwardLocally(exit: Exit, packet: Packet, hop: number): Verdict {
  return exit.forward(packet.network, packet.totalBytes, hop)
}
