import { NO_HOP } from '../port/neighbours.js'
import { fold, sumRange } from '../wire/checksum.js'
import * as icmpv6 from '../wire/icmpv6.js'
import { IpProtocol } from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import { ConnectionFlag, H, LINE_HALFS, LINE_WORDS, W } from './connection.js'
import type { Connections } from './connections.js'
import { forwardDirectly } from './forwarding/direct-route.js'
import type { Exit } from './forwarding/exit.js'
import { forwardLocally } from './forwarding/local.js'
import { routeToClient, routeToDestination } from './forwarding/route.js'
import { forwardThroughTunnel } from './forwarding/tunnel.js'
import { PORTS_BYTES, type Packet } from './packet.js'
import type { Traffic } from './traffic.js'
import { Reason, type Verdict } from './verdict.js'

/**
 * ICMPv6 errors that belong to a connection: from real servers about requests (ip_vs_out_icmp_v6), and from the
 * client's side about replies (ip_vs_in_icmp_v6, both of net/netfilter/ipvs/ip_vs_core.c). The packet that an
 * error quotes is turned around: its source is where the error's complaint is about, its destination the other
 * end. As in the kernel the quoted transport checksum stays as it is, and errors prolong no connection.
 */
export class RelatedIcmpv6 {
  /** The extension headers of the quoted packet. */
  private readonly chain = new ipv6.HeaderChain()
  private readonly virtual = new Int32Array(4)

  constructor(
    private readonly exit: Exit,
    private readonly connections: Connections,
    private readonly traffic: Traffic,
  ) {}

  process(packet: Packet): Verdict {
    const { exit, chain } = this
    const { words, halfs, bytes } = exit.pool
    const unrelated = Reason['icmp-unrelated']
    const end = packet.network + packet.totalBytes
    if (packet.transport + icmpv6.HEADER_BYTES > end)
      return exit.drop(Reason['truncated-transport-header'])
    if (!icmpv6.isError(icmpv6.type(bytes, packet.transport))) return exit.decline(unrelated)
    // Errors are never so long that they are cut.
    if (packet.chain.isFragment) return exit.drop(Reason.fragment)

    const quote = packet.transport + icmpv6.HEADER_BYTES
    if (quote + ipv6.HEADER_BYTES > end || bytes[quote]! >>> 4 !== 6) return exit.decline(unrelated)
    const protocol = chain.walk(bytes, quote, end)
    if (!hasPorts(protocol) || chain.fragmentOffset !== 0) return exit.decline(unrelated)
    const ports = chain.transport
    if (ports + PORTS_BYTES > end) return exit.decline(unrelated)

    const { table } = this.connections
    const quotedSource = ipv6.sourceAt(quote)
    const quotedDestination = ipv6.destinationAt(quote)
    const turned = turnedPorts(words[ports >> 2]!)
    const answered = table.findReplyIpv6(protocol, words, quotedDestination, quotedSource, turned)
    if (answered !== 0 && !isMasqueraded(table.words, answered)) {
      // It needs no change, and is counted.
      this.traffic.countOut(answered, packet.totalBytes)
      return exit.decline(unrelated)
    }
    if (answered !== 0) {
      if (!this.passesForKernel(packet)) return exit.drop(Reason['bad-transport-checksum'])
      const hop = routeToClient(exit, packet, table, answered)
      if (hop === NO_HOP) return exit.verdict
      table.copyVirtualIpv6(answered, this.virtual)
      ipv6.copyAddress(this.virtual, 0, words, packet.sourceAt)
      ipv6.copyAddress(this.virtual, 0, words, quotedDestination)
      halfs[(ports + 2) >> 1] = table.halfs[answered * LINE_HALFS + H.virtualPortBe]!
      this.writeChecksum(packet)
      this.traffic.countOut(answered, packet.totalBytes)
      return exit.forward(packet.network, packet.totalBytes, hop)
    }

    const requested = table.findRequestIpv6(
      protocol,
      words,
      quotedDestination,
      quotedSource,
      turned,
    )
    if (requested === 0) return exit.decline(unrelated)
    this.traffic.countIn(requested, packet.totalBytes)
    const destination = this.connections.destinationOf(requested)
    if (!destination) return exit.drop(Reason['destination-unavailable'])
    const line = requested * LINE_WORDS
    switch (table.words[line + W.flags]! & ConnectionFlag.forwardingMask) {
      case ConnectionFlag.tunnel:
        table.words[line + W.inPackets]!++
        return forwardThroughTunnel(exit, packet, destination)
      case ConnectionFlag.directRoute:
        table.words[line + W.inPackets]!++
        return forwardDirectly(exit, packet, destination)
    }
    const hop = routeToDestination(exit, packet, destination, 0)
    if (hop === NO_HOP) return exit.verdict
    ipv6.copyAddress(destination.address.words, 0, words, packet.destinationAt)
    ipv6.copyAddress(destination.address.words, 0, words, quotedSource)
    halfs[ports >> 1] = table.halfs[requested * LINE_HALFS + H.destinationPortBe]!
    this.writeChecksum(packet)
    return forwardLocally(exit, packet, hop)
  }

  /**
   * The kernel sums up what follows the IPv6 header without the pseudo-header that belongs to it, and drops the
   * error of a real server when that is not right: unless the device has checked the packet, practically all.
   */
  private passesForKernel(packet: Packet): boolean {
    const { halfs, bytes } = this.exit.pool
    const length = packet.totalBytes - ipv6.HEADER_BYTES
    return fold(sumRange(halfs, bytes, packet.network + ipv6.HEADER_BYTES, length)) === 0xffff
  }

  /** Computes the error's checksum, whatever it was before. */
  private writeChecksum(packet: Packet): void {
    const { words, halfs, bytes } = this.exit.pool
    const { network, transport, totalBytes } = packet
    const length = network + totalBytes - transport
    icmpv6.writeChecksum(words, halfs, bytes, network, transport, length)
  }
}

function hasPorts(protocol: number): boolean {
  return protocol === IpProtocol.tcp || protocol === IpProtocol.udp || protocol === IpProtocol.sctp
}

/** The ports word of a packet of the other direction. */
function turnedPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16)
}

function isMasqueraded(words: Int32Array, connection: number): boolean {
  const flags = words[connection * LINE_WORDS + W.flags]!
  return (flags & ConnectionFlag.forwardingMask) === ConnectionFlag.masquerade
}
