import { finish, sumRange } from './checksum.js'
import * as ipv4 from './ipv4.js'

/** ICMP for IPv4 (RFC 792). Headers start at a multiple of 4. */

export const HEADER_BYTES = 8

/** Offsets in bytes from the header's start. */
export const TYPE = 0
export const CODE = 1
export const CHECKSUM = 2
/** Unused, or identifier and sequence, gateway, MTU, pointer: by type. */
export const REST = 4

export const IcmpType = {
  echoReply: 0,
  destinationUnreachable: 3,
  sourceQuench: 4,
  redirect: 5,
  echoRequest: 8,
  timeExceeded: 11,
  parameterProblem: 12,
} as const

/** Codes of destination unreachable. */
export const UnreachableCode = {
  network: 0,
  host: 1,
  protocol: 2,
  port: 3,
  fragmentationNeeded: 4,
} as const

/** Codes of time exceeded. */
export const TimeExceededCode = { transit: 0, reassembly: 1 } as const

/** Bytes that an error needs in front of the packet that it complains of: an IP header and its own. */
export const ERROR_HEADER_BYTES = ipv4.MIN_HEADER_BYTES + HEADER_BYTES

/** No error is longer than this (RFC 1812, 4.3.2.3). */
export const MAX_ERROR_BYTES = 576

/** Internetwork control, the precedence of ICMP errors (RFC 1812, 4.3.2.5). */
const PRECEDENCE_INTERNETWORK_CONTROL = 0xc0
const TOS_MASK = 0x1e
const DEFAULT_TTL = 64

/** Highest type that is assigned among the classic ones; beyond, anything may be an error. */
const LAST_TYPE = 18

const NO_OPTIONS = new Uint8Array(0)

export function type(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TYPE]!
}

/** Whether messages of the type quote the packet that caused them. */
export function isError(type: number): boolean {
  return (
    type === IcmpType.destinationUnreachable ||
    type === IcmpType.sourceQuench ||
    type === IcmpType.redirect ||
    type === IcmpType.timeExceeded ||
    type === IcmpType.parameterProblem
  )
}

/**
 * Whether a valid IPv4 packet may be answered with an ICMP error (RFC 1122, 3.2.2): not an ICMP error, nor
 * what cannot be told from one, nor a later fragment, nor what was sent to many or comes from no single
 * host. Whether the frame was sent to a group of stations is the caller's to know.
 */
export function mayAnswer(
  words: Int32Array,
  halfs: Uint16Array,
  bytes: Uint8Array,
  offset: number,
): boolean {
  if (ipv4.isLaterFragment(halfs, offset)) return false
  const destinationBe = ipv4.destinationBe(words, offset)
  if (ipv4.isMulticast(destinationBe) || ipv4.isLimitedBroadcast(destinationBe)) return false
  if (ipv4.isMartianSource(ipv4.sourceBe(words, offset))) return false
  if (ipv4.protocol(bytes, offset) !== ipv4.IpProtocol.icmp) return true
  const header = ipv4.headerBytes(bytes, offset)
  if (ipv4.totalLength(bytes, offset) <= header) return false
  const offending = type(bytes, offset + header)
  return offending <= LAST_TYPE && !isError(offending)
}

/**
 * Puts an ICMP error in front of the packet that it complains of, which becomes the quote where it lies: the
 * error starts ERROR_HEADER_BYTES, and those of its options, before it. What exceeds 576 bytes is cut off, as Linux's icmp_send does;
 * type of service and precedence are as there, too.
 *
 * @param offset of the offending packet's IP header, with room before it
 * @param available bytes of the offending packet that are there
 * @param restBe the second word of the ICMP header: `swap32(mtu)` for fragmentation needed, else 0
 * @param sourceBe the director's address
 * @param mtu of the way back to the offending packet's source
 * @param options for the error's own header, a multiple of 4 bytes
 * @returns length of the error in bytes, its IP header included; 0 when the MTU has no room for it
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
  sourceBe: number,
  identificationBe: number,
  mtu: number,
  options: Uint8Array = NO_OPTIONS,
): number {
  const headerBytes = ERROR_HEADER_BYTES + options.length
  const room = Math.min(mtu, MAX_ERROR_BYTES) - headerBytes
  if (room <= ipv4.MIN_HEADER_BYTES) return 0
  const quoted = Math.min(available, room)
  const start = offset - headerBytes
  const icmp = offset - HEADER_BYTES
  words[icmp >> 2] = type | (code << 8)
  words[(icmp + REST) >> 2] = restBe
  const sum = sumRange(halfs, bytes, icmp, HEADER_BYTES + quoted)
  halfs[(icmp + CHECKSUM) >> 1] = finish(sum)
  ipv4.writeHeader(
    words,
    start,
    (bytes[offset + ipv4.TOS]! & TOS_MASK) | PRECEDENCE_INTERNETWORK_CONTROL,
    headerBytes + quoted,
    identificationBe,
    0,
    DEFAULT_TTL,
    ipv4.IpProtocol.icmp,
    sourceBe,
    ipv4.sourceBe(words, offset),
  )
  if (options.length > 0) {
    bytes.set(options, start + ipv4.MIN_HEADER_BYTES)
    bytes[start]! += options.length >> 2
    ipv4.writeChecksum(halfs, bytes, start)
  }
  return headerBytes + quoted
}
