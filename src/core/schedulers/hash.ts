import { swap16, swap32 } from '../../wire/ipv4.js'

/** 2^32 divided by the golden ratio (GOLDEN_RATIO_32). */
const GOLDEN_RATIO = 0x61c88647

/** The upper `bits` bits of a number's product with the golden ratio (hash_32 of include/linux/hash.h). */
export function hash32(value: number, bits: number): number {
  return Math.imul(value, GOLDEN_RATIO) >>> (32 - bits)
}

/** What schedulers hash: an address, or the fold of an IPv6 address's words, with a port or 0 added. */
export function hashed(addressBe: number, portBe: number): number {
  return (swap32(addressBe) + swap16(portBe)) | 0
}
