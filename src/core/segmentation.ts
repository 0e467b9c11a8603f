import { IP_HEADROOM, type FrameBatch, type FramePool } from '../port/frame-pool.js'
import {
  delta16,
  finish,
  sumAddressIpv6,
  sumPseudoHeader,
  sumRange,
  sum32,
} from '../wire/checksum.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import * as virtio from '../wire/virtio.js'
import { GRE_CHECKSUM_BE, GRE_HEADER_BYTES } from './forwarding/encapsulation.js'

/** Of a TCP header's flags: congestion window reduced, which only the first segment says. */
const CWR = 0x80

/**
 * Does in software what a packet asks for: cuts it into segments and completes their checksums (tcp_gso_segment,
 * __udp_gso_segment, inet_gso_segment; skb_checksum_help). A tunnel's headers, which the director has put in front
 * of the packet, go in front of each segment. Identifications count up from the packet's, outside as inside.
 *
 * The frame of the packet remains the caller's, and is left as it was.
 *
 * @param offset byte offset of the outermost IP header
 * @param length bytes from there on
 * @param pieces takes the segments, in frames of their own
 * @returns false when there are too few frames; then none is taken
 */
export function segment(
  pool: FramePool,
  offset: number,
  length: number,
  pieces: FrameBatch,
): boolean {
  const { halfs, bytes } = pool
  const network = pool.requestOf(offset)
  const header = pool.startOf(offset)
  const outerBytes = network - offset
  const totalBytes = length - outerBytes
  const size = virtio.segmentBytes(halfs, bytes, header)
  const transportAt = virtio.checksumFrom(halfs, header)
  const headerBytes = size === 0 ? totalBytes : virtio.segmentHeaderBytes(halfs, header)
  const payloadBytes = totalBytes - headerBytes
  const count = size === 0 ? 1 : Math.max(1, Math.ceil(payloadBytes / size))
  if (count > pool.available || count > pieces.capacity - pieces.count) return false
  const pseudoHeader = virtio.pseudoHeaderSum(halfs, header, network)
  const checksumAt = virtio.checksumPlace(halfs, header, network) - network
  const fullBe = ipv4.swap16(totalBytes - transportAt)
  const isTcp = size !== 0 && virtio.isTcp(halfs, header)
  for (let i = 0; i < count; i++) {
    const part = size === 0 ? 0 : Math.min(size, payloadBytes - i * size)
    const start = pool.take() + IP_HEADROOM
    const inner = start + outerBytes
    const transport = inner + transportAt
    const transportBytes = headerBytes - transportAt + part
    bytes.copyWithin(start, offset, network + headerBytes)
    const payload = network + headerBytes + i * size
    bytes.copyWithin(inner + headerBytes, payload, payload + part)
    if (size !== 0) {
      writeLength(pool, inner, headerBytes + part, i)
      if (isTcp) writeTcp(bytes, transport, i * size, i === 0, i === count - 1)
      else halfs[(transport + udp.LENGTH) >> 1] = ipv4.swap16(transportBytes)
    }
    const place = (inner + checksumAt) >> 1
    halfs[place] = 0
    const sum =
      pseudoHeader +
      delta16(fullBe, ipv4.swap16(transportBytes)) +
      sumRange(halfs, bytes, transport, transportBytes)
    // A UDP checksum of 0 would say that there is none.
    halfs[place] = finish(sum) || (checksumAt - transportAt === udp.CHECKSUM ? 0xffff : 0)
    const pieceBytes = outerBytes + headerBytes + part
    if (outerBytes > 0) finishTunnel(pool, start, inner, pieceBytes, i)
    pieces.push(start, pieceBytes)
  }
  return true
}

/** Length of one of several packets in its IP header, and of IPv4 its identification. */
function writeLength(pool: FramePool, network: number, totalBytes: number, index: number): void {
  const { halfs, bytes } = pool
  if (bytes[network]! >>> 4 === 6) {
    ipv6.writeTotalLength(bytes, network, totalBytes)
    return
  }
  const half = network >> 1
  halfs[half + 1] = ipv4.swap16(totalBytes)
  halfs[half + 2] = ipv4.swap16((ipv4.swap16(halfs[half + 2]!) + index) & 0xffff)
  ipv4.writeChecksum(halfs, bytes, network)
}

function writeTcp(
  bytes: Uint8Array,
  transport: number,
  payloadBefore: number,
  isFirst: boolean,
  isLast: boolean,
): void {
  const at = transport + tcp.SEQUENCE
  const sequence =
    ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) +
    payloadBefore
  bytes[at] = sequence >>> 24
  bytes[at + 1] = sequence >>> 16
  bytes[at + 2] = sequence >>> 8
  bytes[at + 3] = sequence
  if (!isFirst) bytes[transport + tcp.FLAGS]! &= ~CWR
  if (!isLast) bytes[transport + tcp.FLAGS]! &= ~(tcp.TcpFlag.fin | tcp.TcpFlag.psh)
}

/** Lengths and checksums of what the director has put in front: see forwarding/encapsulation.ts. */
function finishTunnel(
  pool: FramePool,
  outer: number,
  inner: number,
  totalBytes: number,
  index: number,
): void {
  const { words, halfs, bytes } = pool
  const isIpv6 = bytes[outer]! >>> 4 === 6
  writeLength(pool, outer, totalBytes, index)
  const headerBytes = isIpv6 ? ipv6.HEADER_BYTES : ipv4.MIN_HEADER_BYTES
  const between = outer + headerBytes
  const restBytes = totalBytes - headerBytes
  if (between === inner) return
  const protocol = isIpv6 ? bytes[outer + ipv6.NEXT_HEADER]! : ipv4.protocol(bytes, outer)
  if (protocol === ipv4.IpProtocol.gre) {
    if ((halfs[between >> 1]! & GRE_CHECKSUM_BE) === 0) return
    const place = (between + GRE_HEADER_BYTES) >> 1
    halfs[place] = 0
    halfs[place] = finish(sumRange(halfs, bytes, between, restBytes)) || 0xffff
    return
  }
  halfs[(between + udp.LENGTH) >> 1] = ipv4.swap16(restBytes)
  const place = (between + udp.CHECKSUM) >> 1
  if (halfs[place] === 0) return
  halfs[place] = 0
  const pseudoHeader = isIpv6
    ? sumAddressIpv6(words, ipv6.sourceAt(outer)) +
      sumAddressIpv6(words, ipv6.destinationAt(outer)) +
      sumPseudoHeader(protocol, 0, 0, restBytes)
    : sum32(words[(outer + ipv4.SOURCE) >> 2]!) +
      sum32(words[(outer + ipv4.DESTINATION) >> 2]!) +
      sumPseudoHeader(protocol, 0, 0, restBytes)
  halfs[place] = finish(pseudoHeader + sumRange(halfs, bytes, between, restBytes)) || 0xffff
}
