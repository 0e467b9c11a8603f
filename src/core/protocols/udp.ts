import { type ProtocolStates, seconds } from './protocol.js'

/**
 * UDP as IPVS sees it (Linux 6.1's net/netfilter/ipvs/ip_vs_proto_udp.c): one state. Every packet, either
 * way, sets the connection's timeout anew from the table (a new connection has 3 s until the first does, at
 * once). A packet from the real server makes the template that controls the connection assured.
 * Connections keep INACTIVE as they began, so they all count as inactive.
 */
export const UdpState = { normal: 0 } as const

export class UdpProtocol implements ProtocolStates {
  readonly name = 'UDP'
  readonly timeouts = seconds(300)

  isActive(): boolean {
    return false
  }

  stateName(state: number): string {
    return state === UdpState.normal ? 'UDP' : 'ERR!'
  }
}
