/**
 * Ethernet II. A frame starts at a byte offset that is 2 modulo 4, so that the IP header behind its 14 bytes
 * is aligned; addresses are moved as three 16-bit loads.
 */

export const HEADER_BYTES = 14
export const ADDRESS_BYTES = 6

/** Offsets in bytes from the frame's start. */
export const DESTINATION = 0
export const SOURCE = 6
export const ETHER_TYPE = 12

/** EtherTypes as loaded on a little-endian machine. */
export const EtherTypeBe = {
  ipv4: 0x0008,
  arp: 0x0608,
  ipv6: 0xdd86,
  /** IEEE 802.1Q tag. */
  vlan: 0x0081,
} as const

export function etherTypeBe(halfs: Uint16Array, offset: number): number {
  return halfs[(offset + ETHER_TYPE) >> 1]!
}

/** Whether the frame goes to a group: the broadcast address is one, too. */
export function isGroupDestination(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset + DESTINATION]! & 1) !== 0
}

/**
 * Writes a header; the addresses are three halfs each, at an index of their arrays.
 *
 * @param words,halfs the same memory
 * @param offset of the frame's start, 2 modulo 4
 */
export function writeHeader(
  words: Int32Array,
  halfs: Uint16Array,
  offset: number,
  destination: Uint16Array,
  destinationIndex: number,
  source: Uint16Array,
  sourceIndex: number,
  etherTypeBe: number,
): void {
  const at = (offset + 2) >> 2
  halfs[offset >> 1] = destination[destinationIndex]!
  words[at] = destination[destinationIndex + 1]! | (destination[destinationIndex + 2]! << 16)
  words[at + 1] = source[sourceIndex]! | (source[sourceIndex + 1]! << 16)
  words[at + 2] = source[sourceIndex + 2]! | (etherTypeBe << 16)
}

/** `02:00:0a:00:00:01`, or undefined if it is not that. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return undefined
  return Uint8Array.from(text.split(':'), (part) => parseInt(part, 16))
}

/** The six bytes at an offset as `02:00:0a:00:00:01`. */
export function formatMac(bytes: Uint8Array, offset = 0): string {
  const parts: string[] = []
  for (let i = 0; i < ADDRESS_BYTES; i++)
    parts.push(bytes[offset + i]!.toString(16).padStart(2, '0'))
  return parts.join(':')
}
