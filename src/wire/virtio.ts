/**
 * The header that a TUN device with IFF_VNET_HDR has in front of each packet (linux/virtio_net.h): what the kernel
 * leaves to whoever sends the packet on. It is in the machine's own byte order.
 *
 *     0 flags   1 GSO type   2 header bytes   4 bytes in a segment   6 checksum from   8 checksum at   10 unused
 *
 * "Checksum from" is the transport header's place in the packet, and "checksum at" the checksum's place in that.
 * A checksum that is left to others holds the pseudo-header's sum, not complemented. So addresses count in it and
 * ports do not, and what updates whole checksums would spoil it. Therefore it is turned, while the packet is with
 * the director, into the whole checksum of a segment that had nothing in it but its ports: updates for addresses
 * and ports are right for that, and `restore` takes the ports out again.
 */
import { finish, fold } from './checksum.js'
import { IpProtocol, swap16 } from './ipv4.js'
import * as tcp from './tcp.js'
import * as udp from './udp.js'

/** As it stands before a packet: with the number of buffers, which keeps what is behind it aligned. */
export const HEADER_BYTES = 12

const FLAGS = 0
const GSO_TYPE = 1
const SEGMENT_HEADER_BYTES = 2
const SEGMENT_BYTES = 4
const CHECKSUM_FROM = 6
const CHECKSUM_AT = 8

/** The checksum is left to others. */
const NEEDS_CHECKSUM = 1

export const GsoType = { none: 0, tcpIpv4: 1, tcpIpv6: 4, udp: 5 } as const
/** Set beside the type: the segment has CWR, which only the first of its pieces keeps. */
const GSO_ECN = 0x80

const MIN_IP_HEADER_BYTES = 20
const IPV6_HEADER_BYTES = 40
/** Place of the protocol in an IPv4 header. */
const PROTOCOL = 9
const TCP_DATA_OFFSET = 12

/** What is to become of a packet by its header. */
export const Request = {
  /** Nothing: it is whole as it is. */
  none: 0,
  /** It lacks its checksum, or is to be cut into segments. */
  some: 1,
  /** The header and the packet do not go together. */
  malformed: 2,
} as const
export type Request = (typeof Request)[keyof typeof Request]

/**
 * Checks a header against its packet, and turns the packet's checksum into one that can be updated. The header's
 * "header bytes" are made what they are to say: those of IP and transport.
 *
 * @param halfs,bytes the same memory
 * @param header byte offset of the header, even
 * @param network byte offset of the IP header, even
 * @param length bytes of the packet
 */
export function accept(
  halfs: Uint16Array,
  bytes: Uint8Array,
  header: number,
  network: number,
  length: number,
): Request {
  const isWhole = bytes[header + GSO_TYPE] === GsoType.none
  const gsoType = bytes[header + GSO_TYPE]! & ~GSO_ECN
  if ((bytes[header + FLAGS]! & NEEDS_CHECKSUM) === 0)
    return isWhole ? Request.none : Request.malformed
  const from = halfs[(header + CHECKSUM_FROM) >> 1]!
  const at = halfs[(header + CHECKSUM_AT) >> 1]!
  if (((from | at) & 1) !== 0 || from < MIN_IP_HEADER_BYTES || from + at + 2 > length)
    return Request.malformed
  // What is behind the packet's end by its own header is cut off later on.
  const version = bytes[network]! >>> 4
  const totalBytes = Math.min(length, totalLength(halfs, version, network))
  if (from + at + 2 > totalBytes) return Request.malformed
  const transport = network + from
  if (!isWhole) {
    const isTcp =
      (gsoType === GsoType.tcpIpv4 && version === 4) ||
      (gsoType === GsoType.tcpIpv6 && version === 6)
    if (isTcp ? at !== tcp.CHECKSUM : gsoType !== GsoType.udp || at !== udp.CHECKSUM)
      return Request.malformed
    if (!isBehindIp(bytes, version, network, from, isTcp)) return Request.malformed
    const transportBytes = isTcp
      ? (bytes[transport + TCP_DATA_OFFSET]! >>> 4) << 2
      : udp.HEADER_BYTES
    if (
      transportBytes < (isTcp ? tcp.MIN_HEADER_BYTES : udp.HEADER_BYTES) ||
      from + transportBytes > totalBytes ||
      halfs[(header + SEGMENT_BYTES) >> 1] === 0
    )
      return Request.malformed
    halfs[(header + SEGMENT_HEADER_BYTES) >> 1] = from + transportBytes
  }
  if (hasPorts(at)) {
    const checksumAt = (transport + at) >> 1
    const ports = transport >> 1
    // In UDP, 0 would say that there is none.
    halfs[checksumAt] =
      finish(halfs[checksumAt]! + halfs[ports]! + halfs[ports + 1]!) ||
      (at === udp.CHECKSUM ? 0xffff : 0)
  }
  return Request.some
}

/** Bytes of the packet as its IP header has it. */
function totalLength(halfs: Uint16Array, version: number, network: number): number {
  if (version !== 6) return swap16(halfs[(network >> 1) + 1]!)
  return IPV6_HEADER_BYTES + swap16(halfs[(network >> 1) + 2]!)
}

/** Whether the transport header begins where the IP header says, as far as that is to be seen without a walk. */
function isBehindIp(
  bytes: Uint8Array,
  version: number,
  network: number,
  from: number,
  isTcp: boolean,
): boolean {
  if (version === 6) return from >= IPV6_HEADER_BYTES
  return (
    (bytes[network]! & 0xf) << 2 === from &&
    bytes[network + PROTOCOL] === (isTcp ? IpProtocol.tcp : IpProtocol.udp)
  )
}

/** Undoes what `accept` has done to the checksum, which has been updated since then. */
export function restore(halfs: Uint16Array, header: number, network: number): void {
  if (!hasPorts(halfs[(header + CHECKSUM_AT) >> 1]!)) return
  halfs[checksumPlace(halfs, header, network) >> 1] = pseudoHeaderSum(halfs, header, network)
}

/** The pseudo-header's sum, folded, of a packet that `accept` has been through. */
export function pseudoHeaderSum(halfs: Uint16Array, header: number, network: number): number {
  const checksumBe = halfs[checksumPlace(halfs, header, network) >> 1]!
  if (!hasPorts(halfs[(header + CHECKSUM_AT) >> 1]!)) return checksumBe
  const ports = (network + checksumFrom(halfs, header)) >> 1
  return fold((checksumBe ^ 0xffff) + (halfs[ports]! ^ 0xffff) + (halfs[ports + 1]! ^ 0xffff))
}

/** Byte offset of the packet's transport checksum. */
export function checksumPlace(halfs: Uint16Array, header: number, network: number): number {
  return network + checksumFrom(halfs, header) + halfs[(header + CHECKSUM_AT) >> 1]!
}

/** Bytes before the transport header. */
export function checksumFrom(halfs: Uint16Array, header: number): number {
  return halfs[(header + CHECKSUM_FROM) >> 1]!
}

/** Bytes of payload in each segment that the packet is to be cut into; 0 when it is one itself. */
export function segmentBytes(halfs: Uint16Array, bytes: Uint8Array, header: number): number {
  return bytes[header + GSO_TYPE] === GsoType.none ? 0 : halfs[(header + SEGMENT_BYTES) >> 1]!
}

/** Bytes of headers that each segment has, of a packet that is to be cut. */
export function segmentHeaderBytes(halfs: Uint16Array, header: number): number {
  return halfs[(header + SEGMENT_HEADER_BYTES) >> 1]!
}

/** Whether the packet's segments are TCP's: by its checksum's place, which `accept` has checked. */
export function isTcp(halfs: Uint16Array, header: number): boolean {
  return halfs[(header + CHECKSUM_AT) >> 1] === tcp.CHECKSUM
}

function hasPorts(checksumAt: number): boolean {
  return checksumAt === tcp.CHECKSUM || checksumAt === udp.CHECKSUM
}
