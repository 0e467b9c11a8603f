import type { FramePool } from '../port/frame-pool.js'

/** Bytes of an ARP packet for IPv4 over Ethernet, with its Ethernet header and without padding (RFC 826). */
export const ARP_FRAME_BYTES = 42

// Byte offsets from the start of the frame.
const DESTINATION = 0
const SOURCE = 6
const ETHERTYPE = 12
const HARDWARE_TYPE = 14
const PROTOCOL_TYPE = 16
const HARDWARE_LENGTH = 18
const PROTOCOL_LENGTH = 19
const OPERATION = 20
const SENDER_MAC = 22
const SENDER_ADDRESS = 28
const TARGET_MAC = 32
const TARGET_ADDRESS = 38

/**
 * If the frame asks for the Ethernet address of one of the station's IPv4 addresses, turns it in place into
 * the answer, ARP_FRAME_BYTES long, and returns true. Any other frame is left as it was.
 *
 * Probes (sender address 0.0.0.0, RFC 5227) are answered too, so that nobody else takes the address.
 * Announcements (sender and target the same) ask for nothing.
 *
 * @param offset of the Ethernet header, 2 modulo 4
 * @param mac the station's own Ethernet address, 6 bytes
 * @param ownAddressesBe IPv4 addresses as native 32-bit loads
 */
export function answerArpRequest(
  pool: FramePool,
  offset: number,
  length: number,
  mac: Uint8Array,
  ownAddressesBe: Int32Array,
): boolean {
  const { bytes, words } = pool
  if (length < ARP_FRAME_BYTES) return false
  if (bytes[offset + ETHERTYPE] !== 0x08 || bytes[offset + ETHERTYPE + 1] !== 0x06) return false
  if (!isRequest(bytes, offset)) return false
  // A switch that does not know a station floods its frames: one for another station is no question to us.
  const isGroup = (bytes[offset + DESTINATION]! & 1) === 1
  if (!isGroup && !isMac(bytes, offset + DESTINATION, mac)) return false
  // Nobody can be answered at a group address, and our own question that comes back needs no answer.
  if ((bytes[offset + SENDER_MAC]! & 1) === 1) return false
  if (isMac(bytes, offset + SENDER_MAC, mac)) return false
  const target = words[(offset + TARGET_ADDRESS) >> 2]!
  if (!contains(ownAddressesBe, target)) return false
  if (areEqual4(bytes, offset + SENDER_ADDRESS, offset + TARGET_ADDRESS)) return false

  for (let i = 0; i < 6; i++) {
    const asker = bytes[offset + SENDER_MAC + i]!
    bytes[offset + DESTINATION + i] = asker
    bytes[offset + TARGET_MAC + i] = asker
    bytes[offset + SOURCE + i] = mac[i]!
    bytes[offset + SENDER_MAC + i] = mac[i]!
  }
  for (let i = 0; i < 4; i++) {
    const own = bytes[offset + TARGET_ADDRESS + i]!
    bytes[offset + TARGET_ADDRESS + i] = bytes[offset + SENDER_ADDRESS + i]!
    bytes[offset + SENDER_ADDRESS + i] = own
  }
  bytes[offset + OPERATION + 1] = 2
  return true
}

/** Operation 1 between Ethernet (hardware type 1, 6 bytes) and IPv4 (protocol 0x0800, 4 bytes). */
function isRequest(bytes: Uint8Array, offset: number): boolean {
  return (
    bytes[offset + HARDWARE_TYPE] === 0 &&
    bytes[offset + HARDWARE_TYPE + 1] === 1 &&
    bytes[offset + PROTOCOL_TYPE] === 0x08 &&
    bytes[offset + PROTOCOL_TYPE + 1] === 0x00 &&
    bytes[offset + HARDWARE_LENGTH] === 6 &&
    bytes[offset + PROTOCOL_LENGTH] === 4 &&
    bytes[offset + OPERATION] === 0 &&
    bytes[offset + OPERATION + 1] === 1
  )
}

function contains(list: Int32Array, value: number): boolean {
  for (let i = 0; i < list.length; i++) if (list[i] === value) return true
  return false
}

function areEqual4(bytes: Uint8Array, a: number, b: number): boolean {
  for (let i = 0; i < 4; i++) if (bytes[a + i] !== bytes[b + i]) return false
  return true
}

function isMac(bytes: Uint8Array, at: number, mac: Uint8Array): boolean {
  for (let i = 0; i < 6; i++) if (bytes[at + i] !== mac[i]) return false
  return true
}
