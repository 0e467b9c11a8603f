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
  /** Bytes that are free in front of each of those: headers that are longer do not go there. */
  readonly headroom?: number
}

/**
 * What fragments are after something has been written to the first bytes of their packet: for that the kernel
 * moves them into the first fragment (pskb_may_pull).
 */
export function pulled(geometry: Geometry, bytes: number): Geometry {
  const later = [...geometry.later]
  let { first } = geometry
  while (first < bytes && later.length > 0) {
    const size = Math.min(bytes - first, later[0]!)
    first += size
    later[0]! -= size
    if (later[0] === 0) later.shift()
  }
  return { ...geometry, first, later }
}

/**
 * Sizes of the pieces that data have come in, undefined where these do not fit or have been joined, and the kernel's
 * ip6_fragment and ip_do_fragment cut anew.
 *
 * @param shift bytes that have been put in front of the packet since then
 * @param headerBytes of the packet, which are not cut
 * @param most bytes of data in a piece
 */
function sizesKept(
  geometry: Geometry | undefined,
  shift: number,
  headerBytes: number,
  most: number,
): number[] | undefined {
  if (!geometry || geometry.later.length === 0) return undefined
  if ((geometry.headroom ?? headerBytes) < headerBytes) return undefined
  const sizes = [geometry.first + shift - headerBytes, ...geometry.later]
  const isFitting = (size: number, i: number): boolean =>
    size <= most && ((size & 7) === 0 || i === sizes.length - 1)
  return sizes.every(isFitting) ? sizes : undefined
}

/** The same of pieces as large as possible. */
function largestSizes(payloadBytes: number, most: number): number[] {
  const sizes: number[] = []
  let left = payloadBytes
  for (; left > most; left -= most & ~7) sizes.push(most & ~7)
  if (left > 0) sizes.push(left)
  return sizes
}

/**
 * Cuts an IPv4 packet into fragments of at most `mtu` bytes (RFC 791, section 3.2), each in a frame of its
 * own; the packet itself is left to the caller. Options that are not to be copied are the first one's alone.
 * False, with nothing taken, when the pool or the batch has no room for all of them.
 *
 * @param hasDontFragment what is cut anew gets DF: what it was put together from had it. Else no fragment has, as in
 *   the kernel, even if the packet itself had
 */
export function fragmentIpv4(
  pool: FramePool,
  offset: number,
  length: number,
  mtu: number,
  into: FrameBatch,
  geometry?: Geometry,
  shift = 0,
  hasDontFragment = false,
): boolean {
  const { bytes, halfs } = pool
  const headerBytes = ipv4.headerBytes(bytes, offset)
  const payloadBytes = length - headerBytes
  const most = mtu - headerBytes
  if (most < 8) return false
  const kept = sizesKept(geometry, shift, headerBytes, most)
  const sizes = kept ?? largestSizes(payloadBytes, most)
  if (sizes.length > pool.available || sizes.length > into.capacity - into.count) return false
  const field =
    (((bytes[offset + 6]! << 8) | bytes[offset + 7]!) & ~DONT_FRAGMENT) |
    (hasDontFragment && !kept ? DONT_FRAGMENT : 0)
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
    if (done > 0) blankOptions(bytes, start + ipv4.MIN_HEADER_BYTES, start + headerBytes)
    ipv4.writeChecksum(halfs, bytes, start)
    into.push(start, total)
    done += size
  }
  return true
}

/** Replaces options that are not to be copied by ones that say nothing (ip_options_fragment). */
function blankOptions(bytes: Uint8Array, from: number, end: number): void {
  for (let at = from; at < end;) {
    const option = bytes[at]!
    if (option === END_OF_OPTIONS) return
    if (option === NO_OPTION) {
      at++
      continue
    }
    const length = at + 1 < end ? bytes[at + 1]! : 0
    if (length < 2 || at + length > end) return
    if ((option & COPIED) === 0) bytes.fill(NO_OPTION, at, at + length)
    at += length
  }
}

const END_OF_OPTIONS = 0
const NO_OPTION = 1
const COPIED = 0x80

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
  const sizes = sizesKept(geometry, shift, headerBytes, most) ?? largestSizes(payloadBytes, most)
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
