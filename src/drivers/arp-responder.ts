import type { FramePool } from '../port/frame-pool.js'
import * as arp from '../wire/arp.js'
import * as ethernet from '../wire/ethernet.js'

/** Bytes of an answer: an ARP packet for IPv4 with its Ethernet header, without padding. */
export const ARP_FRAME_BYTES = ethernet.HEADER_BYTES + arp.PACKET_BYTES

/**
 * If the frame asks for the Ethernet address of one of the station's IPv4 addresses, turns it in place into
 * the answer, ARP_FRAME_BYTES long, and returns true. Any other frame is left as it was.
 *
 * Probes (sender address 0.0.0.0, RFC 5227) are answered too, so that nobody else takes the address.
 * Announcements (sender and target the same) ask for nothing.
 *
 * @param offset of the Ethernet header, 2 modulo 4
 * @param mac the station's own Ethernet address, three halfs
 * @param ownAddressesBe IPv4 addresses as native 32-bit loads
 */
export function answerArpRequest(
  pool: FramePool,
  offset: number,
  length: number,
  mac: Uint16Array,
  ownAddressesBe: Int32Array,
): boolean {
  const { bytes, halfs, words } = pool
  if (length < ARP_FRAME_BYTES) return false
  if (ethernet.etherTypeBe(halfs, offset) !== ethernet.EtherTypeBe.arp) return false
  const packet = offset + ethernet.HEADER_BYTES
  if (!arp.isValid(halfs, packet, length - ethernet.HEADER_BYTES)) return false
  if (arp.operationBe(halfs, packet) !== arp.OperationBe.request) return false
  const target = arp.targetIpBe(halfs, packet)
  const sender = arp.senderIpBe(halfs, packet)
  if (sender === target || !ownAddressesBe.includes(target)) return false
  // A switch that does not know a station floods its frames: one for another station is no question to us.
  if (!ethernet.isGroupDestination(bytes, offset) && !isMac(halfs, offset, mac)) return false
  // Nobody can be answered at a group address, and our own question that comes back needs no answer.
  const senderMac = packet + arp.SENDER_MAC
  if ((bytes[senderMac]! & 1) !== 0 || isMac(halfs, senderMac, mac)) return false

  const { arp: etherType } = ethernet.EtherTypeBe
  ethernet.writeHeader(words, halfs, offset, halfs, senderMac >> 1, mac, 0, etherType)
  // The asker's address is taken from the header just written: the packet's own copy is overwritten first.
  const asker = (offset + ethernet.DESTINATION) >> 1
  arp.write(halfs, packet, arp.OperationBe.reply, mac, 0, target, halfs, asker, sender)
  return true
}

function isMac(halfs: Uint16Array, offset: number, mac: Uint16Array): boolean {
  const at = offset >> 1
  return halfs[at] === mac[0] && halfs[at + 1] === mac[1] && halfs[at + 2] === mac[2]
}
