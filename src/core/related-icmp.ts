import { HopState, NO_HOP } from '../port/neighbours.js'
import { finish, fold, sumRange } from '../wire/checksum.js'
import * as icmp from '../wire/icmp.js'
import * as ipv4 from '../wire/ipv4.js'
import * as udp from '../wire/udp.js'
import { ConnectionFlag, H, LINE_HALFS, LINE_WORDS, W } from './connection.js'
import type { Connections } from './connections.js'
import { forwardPast } from './forwarding/bypass.js'
import { forwardDirectly } from './forwarding/direct-route.js'
import {
  GRE_CHECKSUM_BE,
  GRE_CHECKSUM_BYTES,
  GRE_HEADER_BYTES,
  GUE_HEADER_BYTES,
} from './forwarding/encapsulation.js'
import type { Exit } from './forwarding/exit.js'
import { knownMtu, passRouter, routeToDestination } from './forwarding/route.js'
import { forwardThroughTunnel } from './forwarding/tunnel.js'
import { PORTS_BYTES, type Packet } from './packet.js'
import type { RealServers } from './real-servers.js'
import type { Traffic } from './traffic.js'
import { Reason, Verdict } from './verdict.js'

/** Below this a path's MTU is not reduced for the tunnel any more (ip_vs_in_icmp). */
const MINIMUM_MTU = 68

/** The error is none of the director's, as far as that has been looked at. */
const UNRELATED = -1

/** Makes connections of errors that have none (schedule_icmp). */
export interface RelatedScheduler {
  /**
   * @param quote byte offset of the quoted IP header
   * @param ports byte offset of its ports
   * @returns the connection; 0 when no service wants it; -1 when the packet has ended, the verdict is in `exit`
   */
  scheduleRelated(packet: Packet, quote: number, ports: number): number
  /** A connection that `scheduleRelated` has made has had its packet. */
  endRelated(connection: number): void
}

/**
 * ICMP errors that belong to a connection: about requests, from real servers and from routers on the way to them
 * (ip_vs_out_icmp), about replies, from the client's side, and about the packets of the director's own tunnels
 * (ip_vs_in_icmp, both of net/netfilter/ipvs/ip_vs_core.c). The packet that an error quotes is turned around:
 * its source is where the error's complaint is about, its destination the other end.
 *
 * As in the kernel the quoted IP header gets a right checksum, the quoted transport checksum stays as it is,
 * errors prolong no connection, and of the quoted packet nothing is checked that is not needed.
 */
export class RelatedIcmp {
  // What `openTunnel` has found: the packet in the tunnel, and the bytes that are in front of it.
  private inner = 0
  private overhead = 0

  constructor(
    private readonly exit: Exit,
    private readonly connections: Connections,
    private readonly realServers: RealServers,
    private readonly traffic: Traffic,
    private readonly scheduler: RelatedScheduler,
  ) {}

  /** @param isLocal whether the error is addressed to the director, see Director.isLocal */
  process(packet: Packet, isLocal: boolean): Verdict {
    const { exit } = this
    const { bytes } = exit.pool
    packet.ports = 0
    const end = packet.network + packet.totalBytes
    if (packet.transport + icmp.HEADER_BYTES > end)
      return exit.drop(Reason['truncated-transport-header'])
    const type = icmp.type(bytes, packet.transport)
    if (
      type === icmp.IcmpType.destinationUnreachable ||
      type === icmp.IcmpType.sourceQuench ||
      type === icmp.IcmpType.timeExceeded
    ) {
      const quote = packet.transport + icmp.HEADER_BYTES
      if (quote + ipv4.MIN_HEADER_BYTES <= end) {
        // The hooks' order: where packets are delivered replies come first, where they are routed requests.
        let verdict = isLocal
          ? this.aboutRequest(packet, quote, end, true)
          : this.aboutReply(packet, quote, end, false)
        if (verdict !== UNRELATED) return verdict as Verdict
        verdict = isLocal
          ? this.aboutReply(packet, quote, end, true)
          : this.aboutRequest(packet, quote, end, false)
        if (verdict !== UNRELATED) return verdict as Verdict
      }
    }
    return exit.decline(Reason['icmp-unrelated'])
  }

  /** Byte offset of the packet that a quoted one carries if it is a tunnel's, else of the quoted one. Part of TunnelOpener. */
  insideOf(quote: number, end: number): number {
    return this.openTunnel(quote, end) > 0 ? this.inner : quote
  }

  /** An error on its way to the client. */
  private aboutRequest(packet: Packet, quote: number, end: number, isLocal: boolean): number {
    const { exit } = this
    const { words, halfs, bytes } = exit.pool
    const { table } = this.connections
    const ports = this.portsOf(quote, end)
    if (ports < 0) return UNRELATED
    const answered = table.findReply(
      ipv4.protocol(bytes, quote),
      ipv4.destinationBe(words, quote),
      ipv4.sourceBe(words, quote),
      turnedPorts(words[ports >> 2]!),
    )
    if (answered === 0) return UNRELATED
    const isMasqueraded = forwardingOf(table.words, answered) === ConnectionFlag.masquerade
    if (isLocal && !isMasqueraded) {
      this.traffic.countOut(answered, packet.totalBytes)
      return exit.decline(Reason['local-delivery'])
    }
    const hop = isLocal ? exit.neighbours.hopFor(packet.destinationBe) : passRouter(exit, packet)
    if (hop === NO_HOP) return exit.verdict
    if (isMasqueraded) {
      if (!this.hasRightChecksum(packet)) return exit.drop(Reason['bad-transport-checksum'])
      const virtualBe = table.words[answered * LINE_WORDS + W.virtualBe]!
      words[(packet.network + ipv4.SOURCE) >> 2] = virtualBe
      words[(quote + ipv4.DESTINATION) >> 2] = virtualBe
      halfs[(ports + 2) >> 1] = table.halfs[answered * LINE_HALFS + H.virtualPortBe]!
      this.mendChecksums(packet, quote)
      exit.written = ports + PORTS_BYTES - packet.network
    }
    this.traffic.countOut(answered, packet.totalBytes)
    if (!isLocal) exit.passOptionsOn(packet, hop, isMasqueraded && exit.settings.snatReroute !== 0)
    return exit.forward(packet.network, packet.totalBytes, hop)
  }

  /** An error on its way to the real server, or about a tunnel to it. */
  private aboutReply(packet: Packet, quote: number, end: number, isLocal: boolean): number {
    const { exit, connections } = this
    const { words, bytes } = exit.pool
    const { table } = connections
    if (isLocal) {
      const tunnel = this.openTunnel(quote, end)
      if (tunnel < 0) return UNRELATED
      if (tunnel > 0) return this.aboutTunnel(packet, quote, end)
    }
    const ports = this.portsOf(quote, end)
    if (ports < 0) return UNRELATED
    let connection = table.findRequest(
      ipv4.protocol(bytes, quote),
      ipv4.destinationBe(words, quote),
      ipv4.sourceBe(words, quote),
      turnedPorts(words[ports >> 2]!),
    )
    let isNew = false
    if (connection === 0) {
      if (exit.settings.scheduleIcmp === 0) return UNRELATED
      connection = this.scheduler.scheduleRelated(packet, quote, ports)
      if (connection === 0) return UNRELATED
      if (connection < 0) return exit.verdict
      isNew = true
    }
    const verdict = this.forwardToServer(packet, quote, ports, connection, isLocal)
    if (isNew) this.scheduler.endRelated(connection)
    return verdict
  }

  private forwardToServer(
    packet: Packet,
    quote: number,
    ports: number,
    connection: number,
    isLocal: boolean,
  ): Verdict {
    const { exit, connections } = this
    const { words, halfs } = exit.pool
    const { table } = connections
    // A router that routes it has looked at it before IPVS does.
    if (!isLocal && passRouter(exit, packet) === NO_HOP) return exit.verdict
    if (!this.hasRightChecksum(packet)) return exit.drop(Reason['bad-transport-checksum'])
    this.traffic.countIn(connection, packet.totalBytes)
    const destination = connections.destinationOf(connection)
    const line = connection * LINE_WORDS
    const forwarding = forwardingOf(table.words, connection)
    if (destination === undefined || forwarding !== ConnectionFlag.masquerade) {
      table.words[line + W.inPackets]!++
      if (destination === undefined) return forwardPast(exit, packet)
      return forwarding === ConnectionFlag.tunnel
        ? forwardThroughTunnel(exit, packet, destination)
        : forwardDirectly(exit, packet, destination)
    }
    const hop = routeToDestination(exit, packet, destination, 0)
    if (hop === NO_HOP) return exit.verdict
    if (!isLocal && exit.neighbours.state[hop] === HopState.local)
      return exit.drop(Reason['no-route'])
    words[(packet.network + ipv4.DESTINATION) >> 2] = destination.addressBe
    words[(quote + ipv4.SOURCE) >> 2] = destination.addressBe
    halfs[ports >> 1] = table.halfs[connection * LINE_HALFS + H.destinationPortBe]!
    this.mendChecksums(packet, quote)
    exit.written = ports + PORTS_BYTES - packet.network
    return exit.forward(packet.network, packet.totalBytes, hop)
  }

  /**
   * Finds the packet inside if the quoted one is that of a tunnel to a destination.
   *
   * @returns 1 if so, with `inner` and `overhead`; 0 if it is none; -1 if it cannot be told, or is not usable
   */
  private openTunnel(quote: number, end: number): number {
    const { words, halfs, bytes } = this.exit.pool
    const protocol = ipv4.protocol(bytes, quote)
    const { ipip, gre } = ipv4.IpProtocol
    if (protocol !== ipip && protocol !== ipv4.IpProtocol.udp && protocol !== gre) return 0
    if (ipv4.isLaterFragment(halfs, quote)) return -1
    const headerBytes = ipv4.headerBytes(bytes, quote)
    const header = quote + headerBytes
    const serverBe = ipv4.destinationBe(words, quote)
    let extra = 0
    if (protocol === ipip) {
      if (this.realServers.findTunnel(serverBe, 0)?.tunnel.type !== 'ipip') return -1
    } else {
      extra =
        protocol === gre
          ? this.greBytes(serverBe, header, end)
          : this.gueBytes(serverBe, header, end)
      if (extra === 0) return 0
    }
    this.inner = header + extra
    this.overhead = headerBytes + extra
    if (this.inner + ipv4.MIN_HEADER_BYTES > end) return -1
    return hasHeader(bytes, this.inner) ? 1 : -1
  }

  /** Bytes of UDP and GUE headers, 0 when it is no tunnel of ours (ipvs_udp_decap). */
  private gueBytes(serverBe: number, header: number, end: number): number {
    const { halfs, bytes } = this.exit.pool
    const gue = header + udp.HEADER_BYTES
    if (gue > end) return 0
    const port = ipv4.swap16(halfs[(header + udp.DESTINATION_PORT) >> 1]!)
    if (this.realServers.findTunnel(serverBe, port)?.tunnel.type !== 'gue') return 0
    if (gue + GUE_HEADER_BYTES > end) return 0
    const isData = bytes[gue]! >>> 5 === 0
    if (!isData || bytes[gue + 1] !== ipv4.IpProtocol.ipip) return 0
    return udp.HEADER_BYTES + GUE_HEADER_BYTES + (bytes[gue]! & 0x1f) * 4
  }

  /** The same of a GRE header (ipvs_gre_decap). */
  private greBytes(serverBe: number, header: number, end: number): number {
    const { halfs } = this.exit.pool
    if (header + GRE_HEADER_BYTES > end) return 0
    if (this.realServers.findTunnel(serverBe, 0)?.tunnel.type !== 'gre') return 0
    const flagsBe = halfs[header >> 1]!
    if ((flagsBe & ~GRE_CHECKSUM_BE) !== 0 || halfs[(header + 2) >> 1] !== ETHER_TYPE_IPV4_BE)
      return 0
    return GRE_HEADER_BYTES + (flagsBe !== 0 ? GRE_CHECKSUM_BYTES : 0)
  }

  /**
   * An error about the director's own tunnel: the client is told what became of the request inside. A path
   * too narrow for the tunnel is as much narrower for the client.
   */
  private aboutTunnel(packet: Packet, quote: number, end: number): number {
    const { exit, connections, inner } = this
    const { words, halfs, bytes } = exit.pool
    const ports = this.portsOf(inner, end)
    if (ports < 0) return UNRELATED
    const connection = connections.table.findRequest(
      ipv4.protocol(bytes, inner),
      ipv4.sourceBe(words, inner),
      ipv4.destinationBe(words, inner),
      words[ports >> 2]!,
    )
    if (connection === 0) return UNRELATED
    if (!this.hasRightChecksum(packet)) return exit.drop(Reason['bad-transport-checksum'])

    const type = icmp.type(bytes, packet.transport)
    const code = bytes[packet.transport + icmp.CODE]!
    let restBe = words[(packet.transport + icmp.REST) >> 2]!
    if (
      type === icmp.IcmpType.destinationUnreachable &&
      code === icmp.UnreachableCode.fragmentationNeeded
    ) {
      const told = ipv4.swap32(restBe) & 0xffff
      const serverBe = ipv4.destinationBe(words, quote)
      exit.pathMtus.learn(
        serverBe,
        told,
        exit.neighbours.mtu[exit.neighbours.hopFor(serverBe)]!,
        exit.now,
      )
      if (!ipv4.dontFragment(halfs, inner)) return exit.drop(Reason['too-big'])
      const destination = connections.destinationOf(connection)
      const mtu = destination ? knownMtu(exit, destination, told) : told
      restBe = ipv4.swap32(mtu > MINIMUM_MTU + this.overhead ? mtu - this.overhead : mtu)
    }
    const bytesInside = end - inner
    const virtualBe = ipv4.destinationBe(words, inner)
    const isAnswered =
      icmp.mayAnswer(words, halfs, bytes, inner) && exit.isOwn((inner + ipv4.DESTINATION) >> 2)
    const verdict = isAnswered
      ? exit.sendError(inner, bytesInside, type, code, restBe, virtualBe)
      : Verdict.drop
    this.traffic.countOut(connection, bytesInside)
    // The client may not be told, there is no way to it, or it has had its share of errors.
    if (verdict === Verdict.drop) return exit.drop(Reason['icmp-unrelated'])
    // What the director sends itself passes its own hooks, too, where it is one more packet of the connection: not
    // of a masqueraded one, whose replies come from elsewhere.
    if (forwardingOf(connections.table.words, connection) !== ConnectionFlag.masquerade)
      this.traffic.countOut(connection, exit.length)
    return verdict
  }

  /**
   * Byte offset of the quoted packet's ports, -1 when it has none or they are not there. A later fragment is
   * taken for a first one, as in the kernel: what is where its ports would be belongs to no connection.
   */
  private portsOf(quote: number, end: number): number {
    const { bytes } = this.exit.pool
    const protocol = ipv4.protocol(bytes, quote)
    const { tcp, udp, sctp } = ipv4.IpProtocol
    if (protocol !== tcp && protocol !== udp && protocol !== sctp) return -1
    const ports = quote + ipv4.headerBytes(bytes, quote)
    return ports + PORTS_BYTES <= end ? ports : -1
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

const ETHER_TYPE_IPV4_BE = 0x0008

/** Whether a header of 20 bytes says that it is IPv4's. */
function hasHeader(bytes: Uint8Array, offset: number): boolean {
  return bytes[offset]! >>> 4 === 4 && ipv4.headerBytes(bytes, offset) >= ipv4.MIN_HEADER_BYTES
}

/** The ports word of a packet of the other direction. */
function turnedPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16)
}

function forwardingOf(words: Int32Array, connection: number): number {
  return words[connection * LINE_WORDS + W.flags]! & ConnectionFlag.forwardingMask
}
