import { finish, fold, sumPseudoHeaderIpv6, sumRange } from './checksum.js'
import { IpProtocol } from './ipv4.js'
import * as ipv6 from './ipv6.js'

/** ICMPv6 (RFC 4443). Headers start at a multiple of 4. The checksum covers a pseudo-header. */

export const HEADER_BYTES = 8

/** Offsets in bytes from the header's start. */
export const TYPE = 0
export const CODE = 1
export const CHECKSUM = 2
/** Unused, or MTU, pointer, identifier and sequence: by type. */
export const REST = 4

export const Icmpv6Type = {
  destinationUnreachable: 1,
  packetTooBig: 2,
  timeExceeded: 3,
  parameterProblem: 4,
  echoRequest: 128,
  echoReply: 129,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighbourSolicitation: 135,
  neighbourAdvertisement: 136,
} as const

/** Codes of destination unreachable. */
export const UnreachableCode = {
  noRoute: 0,
  prohibited: 1,
  beyondScope: 2,
  address: 3,
  port: 4,
} as const

/** Code of time exceeded: hop limit exceeded in transit. */
export const HOP_LIMIT_EXCEEDED = 0
/** The same: fragment reassembly time exceeded. */
export const REASSEMBLY_TIME_EXCEEDED = 1

/** Types with this bit are informational, the others are errors and quote the packet that caused them. */
const INFORMATIONAL = 0x80

/** Bytes that an error needs in front of the packet that it complains of: an IPv6 header and its own. */
export const ERROR_HEADER_BYTES = ipv6.HEADER_BYTES + HEADER_BYTES

const DEFAULT_HOP_LIMIT = 64

export function type(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TYPE]!
}

export function isError(type: number): boolean {
  return (type & INFORMATIONAL) === 0
}

/**
 * Whether the checksum of an ICMPv6 message is right.
 *
 * @param network byte offset of the IPv6 header
 * @param offset of the message
 */
export function hasRightChecksum(
  words: Int32Array,
  halfs: Uint16Array,
  bytes: Uint8Array,
  network: number,
  offset: number,
  length: number,
): boolean {
  return fold(sumOf(words, halfs, bytes, network, offset, length)) === 0xffff
}

/** Computes and stores the checksum of an ICMPv6 message. */
export function writeChecksum(
  words: Int32Array,
  halfs: Uint16Array,
  bytes: Uint8Array,
  network: number,
  offset: number,
  length: number,
): void {
  const at = (offset + CHECKSUM) >> 1
  halfs[at] = 0
  halfs[at] = finish(sumOf(words, halfs, bytes, network, offset, length))
}

function sumOf(
  words: Int32Array,
  halfs: Uint16Array,
  bytes: Uint8Array,
  network: number,
  offset: number,
  length: number,
): number {
  return (
    sumPseudoHeaderIpv6(
      words,
      ipv6.sourceAt(network),
      ipv6.destinationAt(network),
      IpProtocol.icmpv6,
      length,
    ) + sumRange(halfs, bytes, offset, length)
  )
}

/**
 * Whether a valid IPv6 packet may be answered with an ICMPv6 error (RFC 4443, 2.4 e): not an ICMPv6 error or
 * what cannot be told from one, nor what comes from no single host, nor what was sent to many unless it was
 * too big.
 *
 * @param chain the packet's headers, walked
 * @param end of the packet's bytes
 */
export function mayAnswer(
  words: Int32Array,
  bytes: Uint8Array,
  offset: number,
  chain: ipv6.HeaderChain,
  end: number,
  type: number,
): boolean {
  const destination = ipv6.destinationAt(offset)
  if (ipv6.isMulticast(words, destination) && type !== Icmpv6Type.packetTooBig) return false
  const source = ipv6.sourceAt(offset)
  if (ipv6.isUnspecified(words, source) || ipv6.isMulticast(words, source)) return false
  if (chain.protocol !== IpProtocol.icmpv6) return true
  if (chain.fragmentOffset !== 0) return true
  return chain.transport < end && !isError(bytes[chain.transport]!)
}

/**
 * Puts an ICMPv6 error in front of the packet that it complains of, which becomes the quote where it lies: the
 * error starts ERROR_HEADER_BYTES before it. What would make it longer than every path carries is cut off.
 *
 * @param offset of the offending packet's IPv6 header, with room before it
 * @param available bytes of the offending packet
 * @param restBe the second word of the ICMPv6 header: `swap32(mtu)` for packet too big, else 0
 * @param source the director's address: four words from an index on
 * @returns length of the error in bytes, its IPv6 header included
 */
export function prependError(
  words: Int32Array,
  halfs: Uint16Array,
  bytes: Uint8Array,
  offset: number,
  available: number,
  type: number,
  code: number,
  restBe: number,
  source: Int32Array,
  sourceAt: number,
): number {
  const quoted = Math.min(available, ipv6.MIN_MTU - ERROR_HEADER_BYTES)
  const start = offset - ERROR_HEADER_BYTES
  const message = offset - HEADER_BYTES
  const length = ERROR_HEADER_BYTES + quoted
  words[message >> 2] = type | (code << 8)
  words[(message + REST) >> 2] = restBe
  ipv6.writeHeader(
    words,
    start,
    0,
    length,
    IpProtocol.icmpv6,
    DEFAULT_HOP_LIMIT,
    source,
    sourceAt,
    words,
    ipv6.sourceAt(offset),
  )
  writeChecksum(words, halfs, bytes, start, message, length - ipv6.HEADER_BYTES)
  return length
}
