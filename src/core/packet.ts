import { IpProtocol } from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as sctp from '../wire/sctp.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import { IpOptions } from './ip-options.js'
import { NO_EVENT } from './protocols/protocol.js'

/** See Packet.mark. */
export const NO_MARK = -1

/**
 * The packet that the director is working on: where its headers are in the pool's memory, and what lookups
 * and schedulers need of them. One object, filled in anew for each packet.
 */
export class Packet {
  /** 4 or 6. */
  family = 4
  /** Byte offset of the IP header, a multiple of 4. */
  network = 0
  /** Bytes of the IP header with its options, or of the IPv6 header with its extension headers. */
  headerBytes = 0
  /** Bytes of the IP packet by its own account; what a link layer padded behind it is not part of it. */
  totalBytes = 0
  /** Bytes of the longest fragment that it was put together from; 0 when it came as it is. */
  largestFragment = 0
  /** Firewall mark that its first fragment had; NO_MARK when it came as it is, and the rules tell. */
  mark: number = NO_MARK
  /** Byte offset of the transport header. */
  transport = 0
  /** Bytes from there to the packet's end. */
  transportBytes = 0
  protocol = 0
  /**
   * The IPv4 address; of an IPv6 packet the fold of its four words (ipv6.foldAddress), which is what the
   * kernel hashes in their place. It tells IPv4 addresses apart, but not those of IPv6: `sourceWord` does.
   */
  sourceBe = 0
  destinationBe = 0
  /** Source port in the low half, destination port in the high half, as loaded from the packet. */
  ports = 0
  /** Index of the port that it came in by. */
  inPort = 0
  /** The transport header is all there. */
  hasHeader = false
  /** What the kernel asks of a packet that is to begin a connection is there: SCTP needs a chunk, too. */
  mayBegin = false
  /** What moves its connection to another state: see Connections.transition. */
  event = 0
  /** A TCP packet with SYN, or an SCTP packet with INIT. */
  isOpening = false
  /** A TCP packet with RST. */
  isReset = false
  /**
   * It is what an ICMP error quotes, turned around: a request as far as its addresses and ports are concerned, of
   * which there is no more than these.
   */
  isInverse = false
  /** Where the addresses are: the index of their first word in the pool's memory. */
  sourceAt = 0
  destinationAt = 0
  /** It is of IPv4 and has options, which have been read. */
  hasOptions = false
  readonly options = new IpOptions()
  /** Extension headers of an IPv6 packet. */
  readonly chain = new ipv6.HeaderChain()

  /** @param words of the pool's memory */
  constructor(readonly words: Int32Array) {}

  get sourcePortBe(): number {
    return this.ports & 0xffff
  }
  get destinationPortBe(): number {
    return this.ports >>> 16
  }

  /** Word 0 to 3 of the source address, in network order; an IPv4 address is word 0, with 0 behind it. */
  sourceWord(index: number): number {
    if (this.family === 6) return this.words[this.sourceAt + index]!
    return index === 0 ? this.sourceBe : 0
  }

  /** The same of the destination address. */
  destinationWord(index: number): number {
    if (this.family === 6) return this.words[this.destinationAt + index]!
    return index === 0 ? this.destinationBe : 0
  }
}

/** Whether packets of the protocol have ports, so that there can be services. */
export function hasPorts(protocol: number): boolean {
  return protocol === IpProtocol.tcp || protocol === IpProtocol.udp || protocol === IpProtocol.sctp
}

/** Bytes that TCP's, UDP's and SCTP's ports are in, at the start of their headers. */
export const PORTS_BYTES = 4

/**
 * Notes what the director has to know of a packet's transport header. As in the kernel, nothing of it is
 * checked but that it is there. And what moves a connection to another state is looked for right behind the
 * IPv6 header, even where extension headers are (tcp_state_transition, set_sctp_state).
 *
 * @returns false for protocols that have no services
 */
export function readTransport(bytes: Uint8Array, packet: Packet): boolean {
  const { transport } = packet
  const available = (packet.transportBytes = packet.totalBytes - packet.headerBytes)
  const stateAt = packet.family === 6 ? packet.network + ipv6.HEADER_BYTES : transport
  const stateBytes = available + transport - stateAt
  switch (packet.protocol) {
    case IpProtocol.tcp: {
      const isWhole = available >= tcp.MIN_HEADER_BYTES
      packet.hasHeader = packet.mayBegin = isWhole
      const flags = isWhole ? tcp.flags(bytes, transport) : 0
      packet.isOpening = (flags & tcp.TcpFlag.syn) !== 0
      packet.isReset = (flags & tcp.TcpFlag.rst) !== 0
      packet.event = stateBytes >= tcp.MIN_HEADER_BYTES ? tcp.flags(bytes, stateAt) : NO_EVENT
      return true
    }
    case IpProtocol.udp:
      packet.hasHeader = packet.mayBegin = available >= udp.HEADER_BYTES
      packet.isOpening = packet.isReset = false
      return true
    case IpProtocol.sctp: {
      packet.isReset = false
      const first = sctp.firstChunk(bytes, transport, available)
      packet.hasHeader = available >= sctp.HEADER_BYTES
      packet.mayBegin = first >= 0
      packet.event = sctp.decidingChunk(bytes, stateAt, stateBytes)
      packet.isOpening = first === sctp.ChunkType.init
      return true
    }
    default:
      return false
  }
}
