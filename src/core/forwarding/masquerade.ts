import { HopState, NO_HOP } from '../../port/neighbours.js'
import type { FramePool } from '../../port/frame-pool.js'
import {
  delta16,
  delta32,
  deltaAddressIpv6,
  finish,
  sumPseudoHeader,
  sumPseudoHeaderIpv6,
  sumRange,
  update,
  updateUdp,
} from '../../wire/checksum.js'
import * as ipv4 from '../../wire/ipv4.js'
import * as ipv6 from '../../wire/ipv6.js'
import * as sctp from '../../wire/sctp.js'
import * as tcp from '../../wire/tcp.js'
import * as udp from '../../wire/udp.js'
import type { ConnectionTable } from '../connection-table.js'
import { H, LINE_HALFS, LINE_WORDS, W } from '../connection.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import { Reason, type Verdict } from '../verdict.js'
import type { Exit } from './exit.js'
import { routeToDestination } from './route.js'

/**
 * Masquerading (NAT). A request gets the destination's address and port in place of the virtual ones
 * (ip_vs_nat_xmit); a reply gets the virtual ones in place of the real server's (handle_response of
 * ip_vs_core.c). Checksums are updated, not computed anew, so a packet that was damaged stays recognisably
 * damaged; SCTP's CRC-32c, which does not cover the addresses, is computed anew if the port changes and else
 * left alone. A UDP datagram without a checksum gets one. A packet whose header is cut short ends here.
 */
export function masqueradeRequest(
  exit: Exit,
  packet: Packet,
  table: ConnectionTable,
  connection: number,
  destination: Destination,
): Verdict {
  const hop = routeToDestination(exit, packet, destination, 0)
  if (hop === NO_HOP) return exit.verdict
  if (exit.neighbours.state[hop] === HopState.local && isLoopback(destination))
    return exit.drop(Reason['no-route'])
  if (!packet.hasHeader) return exit.drop(Reason['truncated-transport-header'])
  const portBe = table.halfs[connection * LINE_HALFS + H.destinationPortBe]!
  if (packet.family === 6) {
    const { words } = destination.address
    rewriteIpv6(exit.pool, packet, packet.destinationAt, words, 0, DESTINATION_PORT, portBe)
  } else {
    const addressBe = table.words[connection * LINE_WORDS + W.destinationBe]!
    rewrite(exit.pool, packet, ipv4.DESTINATION, addressBe, DESTINATION_PORT, portBe)
    exit.finishOptions(packet)
  }
  noteWritten(exit, packet)
  return exit.forward(packet.network, packet.totalBytes, hop)
}

/** Of a packet that was put together, see Exit.written. */
function noteWritten(exit: Exit, packet: Packet): void {
  if (packet.largestFragment !== 0)
    exit.written = packet.headerBytes + headerBytesOf(packet.protocol)
}

function headerBytesOf(protocol: number): number {
  switch (protocol) {
    case ipv4.IpProtocol.tcp:
      return tcp.MIN_HEADER_BYTES
    case ipv4.IpProtocol.udp:
      return udp.HEADER_BYTES
    default:
      return sctp.HEADER_BYTES
  }
}

/** Nothing that came from outside goes to the director's loopback. */
function isLoopback({ family, address }: Destination): boolean {
  return family === 6 ? ipv6.isLoopback(address.words, 0) : ipv4.isLoopback(address.words[0]!)
}

/** The way back, by the hop that `routeToClient` has found. */
export function masqueradeReply(
  exit: Exit,
  packet: Packet,
  table: ConnectionTable,
  connection: number,
  hop: number,
): Verdict {
  const portBe = table.halfs[connection * LINE_HALFS + H.virtualPortBe]!
  if (packet.family === 6) {
    table.copyVirtualIpv6(connection, virtual)
    rewriteIpv6(exit.pool, packet, packet.sourceAt, virtual, 0, SOURCE_PORT, portBe)
  } else {
    const addressBe = table.words[connection * LINE_WORDS + W.virtualBe]!
    rewrite(exit.pool, packet, ipv4.SOURCE, addressBe, SOURCE_PORT, portBe)
  }
  noteWritten(exit, packet)
  return exit.forward(packet.network, packet.totalBytes, hop)
}

// TCP, UDP and SCTP have their ports in the same place.
const SOURCE_PORT = tcp.SOURCE_PORT
const DESTINATION_PORT = tcp.DESTINATION_PORT

/** A virtual IPv6 address on its way from the table to a packet. */
const virtual = new Int32Array(4)

/** Replaces an address and a port of an IPv4 packet. */
function rewrite(
  pool: FramePool,
  packet: Packet,
  addressOffset: number,
  addressBe: number,
  portOffset: number,
  portBe: number,
): void {
  const { words, halfs } = pool
  const addressAt = (packet.network + addressOffset) >> 2
  const addressDelta = delta32(words[addressAt]!, addressBe)
  words[addressAt] = addressBe
  const headerChecksumAt = (packet.network + ipv4.CHECKSUM) >> 1
  halfs[headerChecksumAt] = update(halfs[headerChecksumAt]!, addressDelta)
  rewriteTransport(pool, packet, addressDelta, portOffset, portBe)
}

/** The same for an IPv6 packet: the address at an index of the pool's memory is replaced by another. */
function rewriteIpv6(
  pool: FramePool,
  packet: Packet,
  addressAt: number,
  replacement: Int32Array,
  replacementAt: number,
  portOffset: number,
  portBe: number,
): void {
  const { words } = pool
  const addressDelta = deltaAddressIpv6(words, addressAt, replacement, replacementAt)
  ipv6.copyAddress(replacement, replacementAt, words, addressAt)
  rewriteTransport(pool, packet, addressDelta, portOffset, portBe)
}

/** Replaces a port, and updates the checksum for it and for the address. */
function rewriteTransport(
  pool: FramePool,
  packet: Packet,
  addressDelta: number,
  portOffset: number,
  portBe: number,
): void {
  const { words, halfs } = pool
  const portAt = (packet.transport + portOffset) >> 1
  const beforeBe = halfs[portAt]!
  halfs[portAt] = portBe
  switch (packet.protocol) {
    case ipv4.IpProtocol.tcp: {
      const checksumAt = (packet.transport + tcp.CHECKSUM) >> 1
      halfs[checksumAt] = update(halfs[checksumAt]!, addressDelta + delta16(beforeBe, portBe))
      break
    }
    case ipv4.IpProtocol.udp: {
      const checksumAt = (packet.transport + udp.CHECKSUM) >> 1
      const checksumBe = halfs[checksumAt]!
      if (checksumBe === 0) writeUdpChecksum(pool, packet)
      else halfs[checksumAt] = updateUdp(checksumBe, addressDelta + delta16(beforeBe, portBe))
      break
    }
    default:
      if (beforeBe !== portBe)
        sctp.writeChecksum(words, pool.bytes, packet.transport, packet.transportBytes)
  }
}

/** Gives a datagram a checksum that has none. */
function writeUdpChecksum(pool: FramePool, packet: Packet): void {
  const { words, halfs, bytes } = pool
  const { protocol, transport, transportBytes, sourceAt, destinationAt } = packet
  const pseudo =
    packet.family === 6
      ? sumPseudoHeaderIpv6(words, sourceAt, destinationAt, protocol, transportBytes)
      : sumPseudoHeader(protocol, words[sourceAt]!, words[destinationAt]!, transportBytes)
  const sum = pseudo + sumRange(halfs, bytes, transport, transportBytes)
  halfs[(transport + udp.CHECKSUM) >> 1] = finish(sum) || 0xffff
}
