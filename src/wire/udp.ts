/** UDP (RFC 768). Headers start at a multiple of 4. For what checksum 0 means, see checksum.ts. */

export const HEADER_BYTES = 8

/** Offsets in bytes from the header's start. */
export const SOURCE_PORT = 0
export const DESTINATION_PORT = 2
export const LENGTH = 4
export const CHECKSUM = 6

/** Both ports in one word: source in the low half, destination in the high half, network order. */
export function ports(words: Int32Array, offset: number): number {
  return words[offset >> 2]!
}

/** Length of header and data in bytes, as the header has it. */
export function length(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + LENGTH]! << 8) | bytes[offset + LENGTH + 1]!
}

export function checksumBe(halfs: Uint16Array, offset: number): number {
  return halfs[(offset + CHECKSUM) >> 1]!
}
