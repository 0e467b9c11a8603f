import { JIFFIES_PER_SECOND } from '../../port/clock.js'
import { IpProtocol } from '../../wire/ipv4.js'
import { type Timeouts, IpvsError } from '../commands.js'
import { ConnectionFlag } from '../connection.js'
import { type ProtocolStates, TemplateState } from './protocol.js'
import { SctpProtocol } from './sctp.js'
import { TcpProtocol, TcpState } from './tcp.js'
import { UdpProtocol, UdpState } from './udp.js'

/** Longest timeout that the kernel takes: INT_MAX jiffies at its HZ of 100, in seconds. */
const MAX_TIMEOUT_SECONDS = Math.floor(0x7fffffff / JIFFIES_PER_SECOND)

/** The protocols of a director, with the timeouts that its user set. */
export class Protocols {
  readonly tcp = new TcpProtocol()
  readonly udp = new UdpProtocol()
  readonly sctp = new SctpProtocol()

  /** Tables of an IP protocol number, undefined when IPVS keeps no state of it. */
  statesOf(protocol: number): ProtocolStates | undefined {
    switch (protocol) {
      case IpProtocol.tcp:
        return this.tcp
      case IpProtocol.udp:
        return this.udp
      case IpProtocol.sctp:
        return this.sctp
      default:
        return undefined
    }
  }

  /**
   * What `ipvsadm --set tcp tcpfin udp` does: the timeouts of ESTABLISHED, FIN_WAIT and UDP, and of no other
   * state; 0 leaves one as it is. Connections follow with their next packet.
   *
   * @throws IpvsError EINVAL, and then none is changed
   */
  setTimeouts(timeouts: Timeouts): void {
    for (const key of ['tcp', 'tcpFin', 'udp'] as const) {
      const value = timeouts[key]
      if (!Number.isInteger(value) || value < 0 || value > MAX_TIMEOUT_SECONDS)
        throw new IpvsError(
          'EINVAL',
          `${key} timeout of ${value} seconds: must be 0 to ${MAX_TIMEOUT_SECONDS}`,
        )
    }
    const set = (table: Int32Array, state: number, value: number): void => {
      if (value !== 0) table[state] = value * JIFFIES_PER_SECOND
    }
    set(this.tcp.timeouts, TcpState.established, timeouts.tcp)
    set(this.tcp.timeouts, TcpState.finWait, timeouts.tcpFin)
    set(this.udp.timeouts, UdpState.normal, timeouts.udp)
  }

  getTimeouts(): Timeouts {
    return {
      tcp: this.tcp.timeouts[TcpState.established]! / JIFFIES_PER_SECOND,
      tcpFin: this.tcp.timeouts[TcpState.finWait]! / JIFFIES_PER_SECOND,
      udp: this.udp.timeouts[UdpState.normal]! / JIFFIES_PER_SECOND,
    }
  }

  /** A connection's state as `ipvsadm -Lnc` shows it. */
  stateName(protocol: number, flags: number, state: number): string {
    if ((flags & ConnectionFlag.template) !== 0)
      return state === TemplateState.none
        ? 'NONE'
        : state === TemplateState.assured
          ? 'ASSURED'
          : 'ERR!'
    const states = this.statesOf(protocol)
    if (states === undefined) return protocol === 0 ? 'NONE' : 'ERR!'
    return states.stateName(state)
  }
}
