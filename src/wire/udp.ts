/** UDP (RFC 768). Headers start at a multiple of 4. For what checksum 0 means, see checksum.ts. */

export const HEADER_BYTES = 8

/** Offsets in bytes from the header's start. */
export const SOURCE_PORT = 0
export const DESTINATION_PORT = 2
export const LENGTH = 4
export const CHECKSUM = 6

/** What is wrong with a header: the numbers of the reasons in core/verdict.ts. */
export const Malformed = { none: 0, truncated: 6 } as const
export type Malformed = (typeof Malformed)[keyof typeof Malformed]

/** @param available bytes of the IP packet from the header's start */
export function validate(available: number): Malformed {
  return available < HEADER_BYTES ? Malformed.truncated : Malformed.none
}

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
