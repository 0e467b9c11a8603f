/** TCP (RFC 9293), as much of it as a director looks at. Headers start at a multiple of 4. */

export const MIN_HEADER_BYTES = 20

/** Offsets in bytes from the header's start. */
export const SOURCE_PORT = 0
export const DESTINATION_PORT = 2
export const SEQUENCE = 4
export const ACKNOWLEDGEMENT = 8
export const DATA_OFFSET = 12
export const FLAGS = 13
export const WINDOW = 14
export const CHECKSUM = 16

export const TcpFlag = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10, urg: 0x20 } as const

/** What is wrong with a header: the numbers of the reasons in core/verdict.ts. */
export const Malformed = { none: 0, truncated: 6, dataOffset: 7 } as const
export type Malformed = (typeof Malformed)[keyof typeof Malformed]

/** @param available bytes of the IP packet from the header's start */
export function validate(bytes: Uint8Array, offset: number, available: number): Malformed {
  if (available < MIN_HEADER_BYTES) return Malformed.truncated
  const header = headerBytes(bytes, offset)
  return header < MIN_HEADER_BYTES || header > available ? Malformed.dataOffset : Malformed.none
}

export function headerBytes(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + DATA_OFFSET]! >>> 4) << 2
}

/** Both ports in one word: source in the low half, destination in the high half, network order. */
export function ports(words: Int32Array, offset: number): number {
  return words[offset >> 2]!
}

/** TcpFlag bits. */
export function flags(bytes: Uint8Array, offset: number): number {
  return bytes[offset + FLAGS]!
}

export function checksumBe(halfs: Uint16Array, offset: number): number {
  return halfs[(offset + CHECKSUM) >> 1]!
}
