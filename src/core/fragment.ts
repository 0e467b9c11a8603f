import type { FrameBatch, FramePool } from '../port/frame-pool.js'
import { IP_HEADROOM } from '../port/frame-pool.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'

const MORE_FRAGMENTS = 0x2000
const DONT_FRAGMENT = 0x4000

/** What fragments had of a packet that was put together from them. */
export interface Geometry {
  /** Bytes of the packet up to the end of the first fragment's. */
  readonly first: number
  /** Bytes of each of the others. */
  readonly later: readonly number[]
}

/**
 * Sizes of the pieces that data are cut into: the same as they came in, where these fit, as the kernel's
 * ip6_fragment and ip_do_fragment do it; else as large as possible.
 *
 * @param geometry what came in, if they have come in pieces
 * @param shift bytes that have been put in front of the packet since then
 * @param headerBytes of the packet, which are not cut
 * @param most bytes of data in a piece
 */
function sizesOf(
  geometry: Geometry | undefined,
  shift: number,
  headerBytes: number,
  payloadBytes: number,
  most: number,
): number[] {
  if (geometry) {
    const sizes = [geometry.first + shift - headerBytes, ...geometry.later]
    if (sizes.every((size, i) => size <= most && ((size & 7) === 0 || i === sizes.length - 1)))
      return sizes
  }
  const size = most & ~7
  const sizes: number[] = []
  for (let left = payloadBytes; left > 0; left -= size) sizes.push(left <= most ? left : size)
  return sizes
}

/**
 * Cuts an IPv4 packet into fragments of at most `mtu` bytes (RFC 791, section 3.2), each in a frame of its
 * own; the packet itself is left to the caller. Options stay in every fragment, as only fragments with
 * copied options can be told from the others by parsing them, and real traffic carries none. They do not have DF,
 * as in the kernel, where the packet itself had it.
 * False, with nothing taken, when the pool or the batch has no room for all of them.
 */
export function fragmentIpv4(
  pool: FramePool,
  offset: number,
  length: number,
  mtu: number,
  into: FrameBatch,
  geometry?: Geometry,
  shift = 0,
): boolean {
  const { bytes, halfs } = pool
  const headerBytes = ipv4.headerBytes(bytes, offset)
  const payloadBytes = length - headerBytes
  if (mtu - headerBytes < 8) return false
  const sizes = sizesOf(geometry, shift, headerBytes, payloadBytes, mtu - headerBytes)
  if (sizes.length > pool.available || sizes.length > into.capacity - into.count) return false
  const field = ((bytes[offset + 6]! << 8) | bytes[offset + 7]!) & ~DONT_FRAGMENT
  let done = 0
  for (const size of sizes) {
    const isLast = done + size >= payloadBytes
    const start = pool.take() + IP_HEADROOM
    bytes.copyWithin(start, offset, offset + headerBytes)
    bytes.copyWithin(
      start + headerBytes,
      offset + headerBytes + done,
      offset + headerBytes + done + size,
    )
    const total = headerBytes + size
    const fragmentField = (field + (done >> 3)) | (isLast ? field & MORE_FRAGMENTS : MORE_FRAGMENTS)
    bytes[start + 2] = total >> 8
    bytes[start + 3] = total
    bytes[start + 6] = fragmentField >> 8
    bytes[start + 7] = fragmentField
    ipv4.writeChecksum(halfs, bytes, start)
    into.push(start, total)
    done += size
  }
  return true
}

/** Bytes of an IPv6 fragment header. */
const FRAGMENT_HEADER_BYTES = 8

/**
 * The same for an IPv6 packet (RFC 8200, section 4.5, as ip6_fragment of net/ipv6/ip6_output.c does it): headers
 * that are looked at on the way stay in front of every fragment header.
 *
 * @param identification 32 bits that tell this packet's fragments from others
 */
export function fragmentIpv6(
  pool: FramePool,
  offset: number,
  length: number,
  mtu: number,
  identification: number,
  into: FrameBatch,
  geometry?: Geometry,
  shift = 0,
): boolean {
  const { bytes } = pool
  const nextHeaderAt = lastHeaderOnTheWay(bytes, offset, length)
  const headerBytes = headerEnd(bytes, offset, nextHeaderAt)
  const payloadBytes = length - headerBytes
  const most = mtu - headerBytes - FRAGMENT_HEADER_BYTES
  if (most < 8) return false
  const sizes = sizesOf(geometry, shift, headerBytes, payloadBytes, most)
  if (sizes.length > pool.available || sizes.length > into.capacity - into.count) return false
  const next = bytes[offset + nextHeaderAt]!
  let done = 0
  for (const size of sizes) {
    const isLast = done + size >= payloadBytes
    const start = pool.take() + IP_HEADROOM
    const header = start + headerBytes
    const from = offset + headerBytes + done
    bytes.copyWithin(start, offset, offset + headerBytes)
    bytes.copyWithin(header + FRAGMENT_HEADER_BYTES, from, from + size)
    const total = headerBytes + FRAGMENT_HEADER_BYTES + size
    ipv6.writeTotalLength(bytes, start, total)
    bytes[start + nextHeaderAt] = ipv6.NextHeader.fragment
    writeFragmentHeader(bytes, header, next, done | (isLast ? 0 : 1), identification)
    into.push(start, total)
    done += size
  }
  return true
}

function writeFragmentHeader(
  bytes: Uint8Array,
  at: number,
  next: number,
  field: number,
  identification: number,
): void {
  bytes[at] = next
  bytes[at + 1] = 0
  bytes[at + 2] = field >> 8
  bytes[at + 3] = field
  for (let i = 0; i < 4; i++) bytes[at + 4 + i] = identification >>> (24 - 8 * i)
}

/**
 * Where, from the IPv6 header on, the last next-header field stands of those before what may be cut
 * (ip6_find_1stfragopt): hop-by-hop options, routing headers, and destination options up to them.
 */
function lastHeaderOnTheWay(bytes: Uint8Array, offset: number, length: number): number {
  const { hopByHop, routing, destinationOptions } = ipv6.NextHeader
  let field: number = ipv6.NEXT_HEADER
  let wasRouted = false
  for (let at: number = ipv6.HEADER_BYTES; at + 2 <= length;) {
    const next = bytes[offset + field]!
    if (next === routing) wasRouted = true
    else if (next !== hopByHop && (next !== destinationOptions || wasRouted)) return field
    field = at
    at = headerEnd(bytes, offset, field)
  }
  return field
}

/** Where, from the IPv6 header on, the header ends that has its next-header field there. */
function headerEnd(bytes: Uint8Array, offset: number, field: number): number {
  return field === ipv6.NEXT_HEADER
    ? ipv6.HEADER_BYTES
    : field + ((bytes[offset + field + 1]! + 1) << 3)
}
