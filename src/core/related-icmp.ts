import { NO_HOP } from '../port/neighbours.js'
import { finish, fold, sumRange } from '../wire/checksum.js'
import * as icmp from '../wire/icmp.js'
import * as ipv4 from '../wire/ipv4.js'
import { ConnectionFlag, H, LINE_HALFS, LINE_WORDS, W } from './connection.js'
import type { Connections } from './connections.js'
import type { Traffic } from './traffic.js'
import { forwardDirectly } from './forwarding/direct-route.js'
import type { Exit } from './forwarding/exit.js'
import { forwardLocally } from './forwarding/local.js'
import { routeToClient, routeToDestination, TUNNEL_HEADER_BYTES } from './forwarding/route.js'
import { forwardThroughTunnel } from './forwarding/tunnel.js'
import type { Packet } from './packet.js'
import { Reason, Verdict } from './verdict.js'

/** Below this a path's MTU is not reduced for the tunnel any more (ip_vs_in_icmp). */
const MIN_TUNNEL_MTU = 68 + TUNNEL_HEADER_BYTES

/**
 * ICMP errors that belong to a connection: from real servers about requests (ip_vs_out_icmp), from the
 * client's side about replies, and from routers on the way of a tunnel (ip_vs_in_icmp, both of
 * net/netfilter/ipvs/ip_vs_core.c). The packet that an error quotes is turned around: its source is where
 * the error's complaint is about, its destination the other end.
 *
 * As in the kernel the quoted IP header gets a right checksum, the quoted transport checksum stays as it
 * is, and errors prolong no connection.
 */
export class RelatedIcmp {
  constructor(
    private readonly exit: Exit,
    private readonly connections: Connections,
    private readonly traffic: Traffic,
  ) {}

  process(packet: Packet): Verdict {
    const { exit } = this
    const { bytes } = exit.pool
    const end = packet.network + packet.totalBytes
    if (packet.transport + icmp.HEADER_BYTES > end)
      return exit.drop(Reason['truncated-transport-header'])
    const type = icmp.type(bytes, packet.transport)
    if (
      type !== icmp.IcmpType.destinationUnreachable &&
      type !== icmp.IcmpType.sourceQuench &&
      type !== icmp.IcmpType.timeExceeded
    )
      return exit.decline(Reason['icmp-unrelated'])

    const quote = packet.transport + icmp.HEADER_BYTES
    if (!hasHeader(bytes, quote, end)) return exit.decline(Reason['icmp-unrelated'])
    const protocol = ipv4.protocol(bytes, quote)
    if (protocol === ipv4.IpProtocol.ipip) return this.aboutTunnel(packet, quote, end)
    const ports = this.portsOf(quote, end)
    if (ports < 0) return exit.decline(Reason['icmp-unrelated'])

    const { table } = this.connections
    const { words, halfs } = exit.pool
    const sourceBe = ipv4.sourceBe(words, quote)
    const destinationBe = ipv4.destinationBe(words, quote)
    const turned = turnedPorts(words[ports >> 2]!)
    const answered = table.findReply(protocol, destinationBe, sourceBe, turned)
    if (answered !== 0 && !isMasqueraded(table.words, answered)) {
      // It needs no change, and is counted.
      this.traffic.countOut(answered, packet.totalBytes)
      return exit.decline(Reason['icmp-unrelated'])
    }
    if (answered !== 0) {
      if (!this.hasRightChecksum(packet)) return exit.drop(Reason['bad-transport-checksum'])
      const hop = routeToClient(exit, packet, table, answered)
      if (hop === NO_HOP) return exit.verdict
      const virtualBe = table.words[answered * LINE_WORDS + W.virtualBe]!
      words[(packet.network + ipv4.SOURCE) >> 2] = virtualBe
      words[(quote + ipv4.DESTINATION) >> 2] = virtualBe
      halfs[(ports + 2) >> 1] = table.halfs[answered * LINE_HALFS + H.virtualPortBe]!
      this.mendChecksums(packet, quote)
      this.traffic.countOut(answered, packet.totalBytes)
      return exit.forward(packet.network, packet.totalBytes, hop)
    }

    const requested = table.findRequest(protocol, destinationBe, sourceBe, turned)
    if (requested === 0) return exit.decline(Reason['icmp-unrelated'])
    if (!this.hasRightChecksum(packet)) return exit.drop(Reason['bad-transport-checksum'])
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
    words[(packet.network + ipv4.DESTINATION) >> 2] = destination.addressBe
    words[(quote + ipv4.SOURCE) >> 2] = destination.addressBe
    halfs[ports >> 1] = table.halfs[requested * LINE_HALFS + H.destinationPortBe]!
    this.mendChecksums(packet, quote)
    return forwardLocally(exit, packet, hop)
  }

  /**
   * An error about the director's own tunnel: the client is told what became of the request inside. A path
   * too narrow for the tunnel is as much narrower for the client.
   */
  private aboutTunnel(packet: Packet, quote: number, end: number): Verdict {
    const { exit } = this
    const { words, halfs, bytes } = exit.pool
    const unrelated = Reason['icmp-unrelated']
    if (ipv4.isLaterFragment(halfs, quote)) return exit.decline(unrelated)
    const inner = quote + ipv4.headerBytes(bytes, quote)
    if (!hasHeader(bytes, inner, end)) return exit.decline(unrelated)
    const ports = this.portsOf(inner, end)
    if (ports < 0) return exit.decline(unrelated)
    const connection = this.connections.table.findRequest(
      ipv4.protocol(bytes, inner),
      ipv4.sourceBe(words, inner),
      ipv4.destinationBe(words, inner),
      words[ports >> 2]!,
    )
    if (connection === 0) return exit.decline(unrelated)
    if (!this.hasRightChecksum(packet)) return exit.drop(Reason['bad-transport-checksum'])

    const type = icmp.type(bytes, packet.transport)
    const code = bytes[packet.transport + icmp.CODE]!
    let restBe = words[(packet.transport + icmp.REST) >> 2]!
    if (
      type === icmp.IcmpType.destinationUnreachable &&
      code === icmp.UnreachableCode.fragmentationNeeded
    ) {
      if (!ipv4.dontFragment(halfs, inner)) return exit.drop(Reason['too-big'])
      const mtu = ipv4.swap32(restBe) & 0xffff
      restBe = ipv4.swap32(mtu > MIN_TUNNEL_MTU ? mtu - TUNNEL_HEADER_BYTES : mtu)
    }
    const virtualBe = ipv4.destinationBe(words, inner)
    const verdict = exit.sendError(inner, end - inner, type, code, restBe, virtualBe)
    // No way back to the client, or it has had its share of errors.
    if (verdict === Verdict.drop) return exit.drop(unrelated)
    // It passes the kernel's own hooks, as a reply.
    this.traffic.countOut(connection, exit.length)
    return verdict
  }

  /** Byte offset of the quoted packet's ports, -1 when it has none or they are not there. */
  private portsOf(quote: number, end: number): number {
    const { bytes, halfs } = this.exit.pool
    const protocol = ipv4.protocol(bytes, quote)
    if (protocol !== ipv4.IpProtocol.tcp && protocol !== ipv4.IpProtocol.udp) return -1
    if (ipv4.isLaterFragment(halfs, quote)) return -1
    const ports = quote + ipv4.headerBytes(bytes, quote)
    return ports + 4 <= end ? ports : -1
  }

  private hasRightChecksum(packet: Packet): boolean {
    const { halfs, bytes } = this.exit.pool
    const length = packet.totalBytes - packet.headerBytes
    return fold(sumRange(halfs, bytes, packet.transport, length)) === 0xffff
  }

  /** After addresses and ports of the error and of its quote have been replaced. */
  private mendChecksums(packet: Packet, quote: number): void {
    const { halfs, bytes } = this.exit.pool
    ipv4.writeChecksum(halfs, bytes, packet.network)
    ipv4.writeChecksum(halfs, bytes, quote)
    const checksum = (packet.transport + icmp.CHECKSUM) >> 1
    halfs[checksum] = 0
    const length = packet.totalBytes - packet.headerBytes
    halfs[checksum] = finish(sumRange(halfs, bytes, packet.transport, length))
  }
}

/** True if a whole IPv4 header starts at `offset`. */
function hasHeader(bytes: Uint8Array, offset: number, end: number): boolean {
  if (offset + ipv4.MIN_HEADER_BYTES > end || bytes[offset]! >>> 4 !== 4) return false
  const length = ipv4.headerBytes(bytes, offset)
  return length >= ipv4.MIN_HEADER_BYTES && offset + length <= end
}

/** The ports word of a packet of the other direction. */
function turnedPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16)
}

function isMasqueraded(words: Int32Array, connection: number): boolean {
  const flags = words[connection * LINE_WORDS + W.flags]!
  return (flags & ConnectionFlag.forwardingMask) === ConnectionFlag.masquerade
}
