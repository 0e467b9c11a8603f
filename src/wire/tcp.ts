/** TCP (RFC 9293), as much of it as a director looks at. Headers start at a multiple of 4. */

export const MIN_HEADER_BYTES = 20

/** Offsets in bytes from the header's start. */
export const SOURCE_PORT = 0
export const DESTINATION_PORT = 2
export const SEQUENCE = 4
export const ACKNOWLEDGEMENT = 8
export const FLAGS = 13
export const WINDOW = 14
export const CHECKSUM = 16

export const TcpFlag = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10, urg: 0x20 } as const

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
