import { finish, fold, sum32, sumRange } from './checksum.js'

/**
 * IPv4 (RFC 791). Headers start at a multiple of 4. Addresses, and whatever ends in Be, are in network
 * order as loaded on a little-endian machine; 32-bit ones are signed.
 */

export const MIN_HEADER_BYTES = 20

/** Offsets in bytes from the header's start. */
export const VERSION_IHL = 0
export const TOS = 1
export const TOTAL_LENGTH = 2
export const IDENTIFICATION = 4
export const FRAGMENT = 6
export const TTL = 8
export const PROTOCOL = 9
export const CHECKSUM = 10
export const SOURCE = 12
export const DESTINATION = 16

/** IP protocol numbers. */
export const IpProtocol = {
  icmp: 1,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  sctp: 132,
} as const

/** Bits of the fragment word, network order as loaded on a little-endian machine. */
export const FragmentBe = {
  dontFragment: 0x0040,
  moreFragments: 0x0020,
  offsetMask: 0xff1f,
} as const

/** What is wrong with a header: the numbers of the reasons for malformed packets in core/verdict.ts. */
export const Malformed = {
  none: 0,
  truncated: 1,
  version: 2,
  headerLength: 3,
  totalLength: 4,
  checksum: 5,
} as const
export type Malformed = (typeof Malformed)[keyof typeof Malformed]

/**
 * Checks a header once, so that nothing behind it has to be careful: afterwards the header and
 * totalLength() bytes are there. More may be (Ethernet pads short packets).
 *
 * @param available bytes received from the header's start
 */
export function validate(
  words: Int32Array,
  halfs: Uint16Array,
  bytes: Uint8Array,
  offset: number,
  available: number,
): Malformed {
  if (available < 1) return Malformed.truncated
  const first = bytes[offset]!
  if (first >>> 4 !== 4) return Malformed.version
  if (available < MIN_HEADER_BYTES) return Malformed.truncated
  const headerBytes = (first & 0xf) << 2
  if (headerBytes < MIN_HEADER_BYTES) return Malformed.headerLength
  if (available < headerBytes) return Malformed.truncated
  const total = totalLength(bytes, offset)
  if (total < headerBytes || total > available) return Malformed.totalLength
  const at = offset >> 2
  let sum =
    sum32(words[at]!) +
    sum32(words[at + 1]!) +
    sum32(words[at + 2]!) +
    sum32(words[at + 3]!) +
    sum32(words[at + 4]!)
  if (headerBytes > MIN_HEADER_BYTES)
    sum += sumRange(halfs, bytes, offset + MIN_HEADER_BYTES, headerBytes - MIN_HEADER_BYTES)
  return fold(sum) === 0xffff ? Malformed.none : Malformed.checksum
}

export function headerBytes(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! & 0xf) << 2
}

/** Length of the packet in bytes, header included. */
export function totalLength(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + TOTAL_LENGTH]! << 8) | bytes[offset + TOTAL_LENGTH + 1]!
}

export function protocol(bytes: Uint8Array, offset: number): number {
  return bytes[offset + PROTOCOL]!
}

export function ttl(bytes: Uint8Array, offset: number): number {
  return bytes[offset + TTL]!
}

export function sourceBe(words: Int32Array, offset: number): number {
  return words[(offset + SOURCE) >> 2]!
}

export function destinationBe(words: Int32Array, offset: number): number {
  return words[(offset + DESTINATION) >> 2]!
}

/** Whether the packet is a fragment, the first one included. */
export function isFragment(halfs: Uint16Array, offset: number): boolean {
  const mask = FragmentBe.offsetMask | FragmentBe.moreFragments
  return (halfs[(offset + FRAGMENT) >> 1]! & mask) !== 0
}

/** Whether the packet is a fragment without the transport header. */
export function isLaterFragment(halfs: Uint16Array, offset: number): boolean {
  return (halfs[(offset + FRAGMENT) >> 1]! & FragmentBe.offsetMask) !== 0
}

export function dontFragment(halfs: Uint16Array, offset: number): boolean {
  return (halfs[(offset + FRAGMENT) >> 1]! & FragmentBe.dontFragment) !== 0
}

/** Takes 1 from the TTL, which is not 0, and mends the header checksum. */
export function decrementTtl(halfs: Uint16Array, offset: number): void {
  const at = (offset + TTL) >> 1
  // TTL is the low byte of its little-endian half: the sum loses 1, its complement gains it.
  halfs[at] = halfs[at]! - 1
  halfs[at + 1] = ttlTakenFromChecksum(halfs[at + 1]!)
}

/** The header checksum after 1 has been taken from the TTL. */
export function ttlTakenFromChecksum(checksumBe: number): number {
  const sum = checksumBe + 1
  return (sum + (sum >= 0xffff ? 1 : 0)) & 0xffff
}

/** Computes and stores the header checksum. */
export function writeChecksum(halfs: Uint16Array, bytes: Uint8Array, offset: number): void {
  halfs[(offset + CHECKSUM) >> 1] = 0
  halfs[(offset + CHECKSUM) >> 1] = finish(
    sumRange(halfs, bytes, offset, headerBytes(bytes, offset)),
  )
}

/**
 * Writes a header of 20 bytes with its checksum.
 *
 * @param totalLength bytes of the packet, header included
 * @param identificationBe,fragmentBe see FragmentBe
 */
export function writeHeader(
  words: Int32Array,
  offset: number,
  tos: number,
  totalLength: number,
  identificationBe: number,
  fragmentBe: number,
  ttl: number,
  protocol: number,
  sourceBe: number,
  destinationBe: number,
): void {
  const at = offset >> 2
  const word0 = 0x45 | (tos << 8) | (swap16(totalLength) << 16)
  const word1 = identificationBe | (fragmentBe << 16)
  const word2 = ttl | (protocol << 8)
  const sum = sum32(word0) + sum32(word1) + word2 + sum32(sourceBe) + sum32(destinationBe)
  words[at] = word0
  words[at + 1] = word1
  words[at + 2] = word2 | (finish(sum) << 16)
  words[at + 3] = sourceBe
  words[at + 4] = destinationBe
}

/** Swaps the bytes of a 16-bit number: network to host order and back. */
export function swap16(value: number): number {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff)
}

/** Swaps the bytes of a 32-bit number; the result is signed. */
export function swap32(value: number): number {
  return (
    (value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | ((value >>> 24) & 0xff)
  )
}

/** A dotted address of four decimal numbers without leading zeros, or undefined if the text is not one. */
export function parseAddress(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (match === null) return undefined
  let addressBe = 0
  for (let i = 0; i < 4; i++) {
    const part = match[i + 1]!
    const value = Number(part)
    if (value > 255 || (part.length > 1 && part.startsWith('0'))) return undefined
    addressBe |= value << (8 * i)
  }
  return addressBe
}

export function formatAddress(addressBe: number): string {
  return `${addressBe & 0xff}.${(addressBe >>> 8) & 0xff}.${(addressBe >>> 16) & 0xff}.${addressBe >>> 24}`
}

/** The netmask of a prefix length of 0 to 32. */
export function netmaskBe(prefixLength: number): number {
  return prefixLength === 0 ? 0 : swap32(-1 << (32 - prefixLength))
}

export interface Prefix {
  /** The network's address: bits beyond the prefix are 0. */
  addressBe: number
  maskBe: number
  prefixLength: number
}

/** `10.0.0.0/8`, or an address alone, which is a /32; undefined if the text is neither. Host bits are cleared. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/')
  const addressBe = parseAddress(slash < 0 ? text : text.slice(0, slash))
  const length = slash < 0 ? '32' : text.slice(slash + 1)
  if (addressBe === undefined || !/^(\d|[12]\d|3[0-2])$/.test(length)) return undefined
  const prefixLength = Number(length)
  const maskBe = netmaskBe(prefixLength)
  return { addressBe: addressBe & maskBe, maskBe, prefixLength }
}

export function formatPrefix(prefix: Prefix): string {
  return `${formatAddress(prefix.addressBe)}/${prefix.prefixLength}`
}

/** 224.0.0.0/4. */
export function isMulticast(addressBe: number): boolean {
  return (addressBe & 0xf0) === 0xe0
}

/** 127.0.0.0/8. */
export function isLoopback(addressBe: number): boolean {
  return (addressBe & 0xff) === 0x7f
}

/** 0.0.0.0. The rest of its /8 is ordinary, as in Linux since 5.3. */
export function isUnspecified(addressBe: number): boolean {
  return addressBe === 0
}

/** 255.255.255.255. */
export function isLimitedBroadcast(addressBe: number): boolean {
  return addressBe === -1
}

/** An address that Linux takes no packet on the wire from; 0.0.0.0/8 and 240.0.0.0/4 are none (ip_route_input_slow). */
export function isMartianSource(addressBe: number): boolean {
  return (
    isMulticast(addressBe) ||
    isLoopback(addressBe) ||
    isUnspecified(addressBe) ||
    isLimitedBroadcast(addressBe)
  )
}
