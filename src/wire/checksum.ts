/**
 * The Internet checksum (RFC 1071): the complement of the one's complement sum of 16-bit words.
 *
 * The sum does not depend on byte order, so all of this works on words as a little-endian machine loads
 * them, and yields the checksum as it is stored. Partial sums are ordinary integers below 2^32; they may be
 * added before they are folded.
 *
 * In TCP and ICMP a checksum is always there. In UDP, 0 means that the sender computed none (RFC 768; in IPv6
 * it ought to be there, but IPVS treats it alike), and a computed 0 is sent as 0xffff, which is the same number
 * in one's complement.
 */

/**
 * Partial sum of a byte range.
 *
 * @param offset even
 * @param length up to 65535, odd or even (the missing last byte counts as 0)
 */
export function sumRange(
  halfs: Uint16Array,
  bytes: Uint8Array,
  offset: number,
  length: number,
): number {
  let sum = 0
  const first = offset >> 1
  const end = first + (length >> 1)
  for (let i = first; i < end; i++) sum += halfs[i]!
  if ((length & 1) !== 0) sum += bytes[offset + length - 1]!
  return sum
}

/**
 * The checksum of a byte range anywhere, in host order: high byte first when it is stored by bytes. For what
 * is rarer than a packet.
 */
export function internetChecksum(bytes: Uint8Array, offset: number, length: number): number {
  let sum = 0
  for (let i = 0; i + 1 < length; i += 2) sum += (bytes[offset + i]! << 8) | bytes[offset + i + 1]!
  if ((length & 1) !== 0) sum += bytes[offset + length - 1]! << 8
  return finish(sum)
}

/** Partial sum of the IPv4 pseudo-header of TCP and UDP. */
export function sumPseudoHeader(
  protocol: number,
  sourceBe: number,
  destinationBe: number,
  transportLength: number,
): number {
  return (
    sum32(sourceBe) +
    sum32(destinationBe) +
    (protocol << 8) +
    (((transportLength & 0xff) << 8) | (transportLength >>> 8))
  )
}

/**
 * Partial sum of the IPv6 pseudo-header (RFC 8200, section 8.1).
 *
 * @param words holds both addresses, four words each from an index on
 */
export function sumPseudoHeaderIpv6(
  words: Int32Array,
  sourceAt: number,
  destinationAt: number,
  nextHeader: number,
  transportLength: number,
): number {
  return (
    sumAddressIpv6(words, sourceAt) +
    sumAddressIpv6(words, destinationAt) +
    (nextHeader << 8) +
    (((transportLength & 0xff) << 8) | (transportLength >>> 8))
  )
}

/** Partial sum of the four words of an IPv6 address. */
export function sumAddressIpv6(words: Int32Array, at: number): number {
  return sum32(words[at]!) + sum32(words[at + 1]!) + sum32(words[at + 2]!) + sum32(words[at + 3]!)
}

/** Partial sum of a 32-bit word. */
export function sum32(wordBe: number): number {
  return (wordBe & 0xffff) + (wordBe >>> 16)
}

/** A partial sum as 16 bits: 0xffff for a range whose checksum is right. */
export function fold(sum: number): number {
  sum = (sum & 0xffff) + (sum >>> 16)
  return (sum & 0xffff) + (sum >>> 16)
}

/** The checksum that a partial sum makes. */
export function finish(sum: number): number {
  return fold(sum) ^ 0xffff
}

/**
 * Whether the checksum of a TCP segment or UDP datagram in IPv4 is right; it is not for a UDP datagram
 * without one (see the head of this file): the caller asks for that first.
 */
export function verifyTransport(
  halfs: Uint16Array,
  bytes: Uint8Array,
  protocol: number,
  sourceBe: number,
  destinationBe: number,
  offset: number,
  length: number,
): boolean {
  const pseudo = sumPseudoHeader(protocol, sourceBe, destinationBe, length)
  return fold(pseudo + sumRange(halfs, bytes, offset, length)) === 0xffff
}

// Incremental update, RFC 1624 equation 3: HC' = ~(~HC + ~m + m'). The part that a change contributes,
// ~m + m', is a partial sum: it can be computed once a connection and applied to each of its packets.

/** What replacing a 16-bit word contributes to a sum. */
export function delta16(oldBe: number, newBe: number): number {
  return (oldBe ^ 0xffff) + newBe
}

/** What replacing a 32-bit word contributes to a sum. */
export function delta32(oldBe: number, newBe: number): number {
  return sum32(~oldBe) + sum32(newBe)
}

/** What replacing an IPv6 address, four words from an index on, contributes to a sum. */
export function deltaAddressIpv6(
  old: Int32Array,
  oldAt: number,
  replacement: Int32Array,
  replacementAt: number,
): number {
  let sum = sumAddressIpv6(replacement, replacementAt)
  for (let i = 0; i < 4; i++) sum += sum32(~old[oldAt + i]!)
  return sum
}

/** The checksum after changes that contribute `delta` (added up if there are several). */
export function update(checksumBe: number, delta: number): number {
  return fold((checksumBe ^ 0xffff) + delta) ^ 0xffff
}

/** The same for UDP, where there is a checksum: 0 is written as 0xffff. */
export function updateUdp(checksumBe: number, delta: number): number {
  return update(checksumBe, delta) || 0xffff
}

/** The checksum after a 16-bit word has been replaced. */
export function update16(checksumBe: number, oldBe: number, newBe: number): number {
  return update(checksumBe, delta16(oldBe, newBe))
}

/** The checksum after a 32-bit word has been replaced. */
export function update32(checksumBe: number, oldBe: number, newBe: number): number {
  return update(checksumBe, delta32(oldBe, newBe))
}
