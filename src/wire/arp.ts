/**
 * ARP for IPv4 over Ethernet (RFC 826). The packet starts where an IP header would, at a multiple of 4; its
 * sender and target IP addresses then lie 2 modulo 4, hence halfs.
 */

export const PACKET_BYTES = 28

/** Offsets in bytes from the packet's start. */
export const OPERATION = 6
export const SENDER_MAC = 8
export const SENDER_IP = 14
export const TARGET_MAC = 18
export const TARGET_IP = 24

export const OperationBe = { request: 0x0100, reply: 0x0200 } as const

/** Hardware type 1, protocol type 0x0800, lengths 6 and 4: the first three words of it all. */
const ETHERNET_BE = 0x0100
const IPV4_BE = 0x0008
const LENGTHS_BE = 0x0406

/** Whether there is a whole ARP packet for IPv4 over Ethernet. */
export function isValid(halfs: Uint16Array, offset: number, available: number): boolean {
  const at = offset >> 1
  return (
    available >= PACKET_BYTES &&
    halfs[at] === ETHERNET_BE &&
    halfs[at + 1] === IPV4_BE &&
    halfs[at + 2] === LENGTHS_BE
  )
}

export function operationBe(halfs: Uint16Array, offset: number): number {
  return halfs[(offset + OPERATION) >> 1]!
}

export function senderIpBe(halfs: Uint16Array, offset: number): number {
  const at = (offset + SENDER_IP) >> 1
  return halfs[at]! | (halfs[at + 1]! << 16)
}

export function targetIpBe(halfs: Uint16Array, offset: number): number {
  const at = (offset + TARGET_IP) >> 1
  return halfs[at]! | (halfs[at + 1]! << 16)
}

/**
 * Writes a packet. MAC addresses are three halfs each, at an index of their arrays; the target's may be
 * undefined in a request, where nobody knows it.
 */
export function write(
  halfs: Uint16Array,
  offset: number,
  operationBe: number,
  senderMac: Uint16Array,
  senderMacIndex: number,
  senderIpBe: number,
  targetMac: Uint16Array | undefined,
  targetMacIndex: number,
  targetIpBe: number,
): void {
  const at = offset >> 1
  halfs[at] = ETHERNET_BE
  halfs[at + 1] = IPV4_BE
  halfs[at + 2] = LENGTHS_BE
  halfs[at + 3] = operationBe
  for (let i = 0; i < 3; i++) {
    halfs[at + 4 + i] = senderMac[senderMacIndex + i]!
    halfs[at + 9 + i] = targetMac === undefined ? 0 : targetMac[targetMacIndex + i]!
  }
  halfs[at + 7] = senderIpBe & 0xffff
  halfs[at + 8] = senderIpBe >>> 16
  halfs[at + 12] = targetIpBe & 0xffff
  halfs[at + 13] = targetIpBe >>> 16
}
