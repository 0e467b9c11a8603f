import { IpOption } from '../core/ip-options.js'
import { isIcmpError, onesSum, Protocol } from './decode.js'

/** Bits of a GRE header's first byte that put four more bytes behind it: checksum, key, sequence number. */
const GRE_EXTRA = [0x80, 0x20, 0x10]
const GRE_CHECKSUM = 0x80

/**
 * A packet in which the times of day are 0 that IPv4 timestamp options hold, its own and those of packets that it
 * quotes or carries. Checksums over them are 0 if they were right.
 */
export function withoutTimes(packet: Uint8Array): Uint8Array {
  const copy = packet.slice()
  return clearTimes(copy, 0) ? copy : packet
}

/** @param at where an IPv4 header may be @returns whether there were times */
function clearTimes(packet: Uint8Array, at: number): boolean {
  if (packet.length < at + 20 || packet[at]! >> 4 !== 4) return false
  const headerBytes = (packet[at]! & 15) * 4
  const transport = at + headerBytes
  if (headerBytes < 20 || packet.length < transport) return false
  const isLaterFragment = ((packet[at + 6]! & 0x1f) | packet[at + 7]!) !== 0
  const inside = !isLaterFragment && clearInside(packet, packet[at + 9]!, transport)
  const isRight = onesSum(packet, at, transport) === 0xffff
  const own = clearOwn(packet, at + 20, transport)
  if (own && isRight) packet[at + 10] = packet[at + 11] = 0
  return inside || own
}

/** In what a packet quotes or carries. */
function clearInside(packet: Uint8Array, protocol: number, transport: number): boolean {
  const rest = packet.length - transport
  switch (protocol) {
    case Protocol.icmp: {
      if (rest < 8 || !isIcmpError(packet[transport]!, false)) return false
      return clearUnderChecksum(packet, transport, transport + 2, transport + 8)
    }
    case Protocol.ipip:
      return clearTimes(packet, transport)
    case Protocol.gre: {
      if (rest < 4) return false
      const flags = packet[transport]!
      const extra = GRE_EXTRA.filter((bit) => flags & bit).length
      const inner = transport + 4 + 4 * extra
      return (flags & GRE_CHECKSUM) !== 0
        ? clearUnderChecksum(packet, transport, transport + 4, inner)
        : clearTimes(packet, inner)
    }
    case Protocol.udp:
      // Of Generic UDP Encapsulation the checksum is left out anyway, with the port that it covers.
      return rest >= 12 && clearTimes(packet, transport + 12 + (packet[transport + 8]! & 0x1f) * 4)
    default:
      return false
  }
}

/** @param start from where a checksum at another place covers everything */
function clearUnderChecksum(
  packet: Uint8Array,
  start: number,
  checksum: number,
  inner: number,
): boolean {
  const isRight = onesSum(packet, start, packet.length) === 0xffff
  if (!clearTimes(packet, inner)) return false
  if (isRight) packet[checksum] = packet[checksum + 1] = 0
  return true
}

/** In the options between two places. */
function clearOwn(packet: Uint8Array, start: number, end: number): boolean {
  let found = false
  for (let at = start; at + 1 < end && packet[at] !== IpOption.end;) {
    const length = packet[at + 1]!
    if (packet[at] === IpOption.noOperation) {
      at++
      continue
    }
    if (length < 2) break
    if (packet[at] === IpOption.timestamp && length >= 4) {
      const slotBytes = (packet[at + 3]! & 15) === 0 ? 4 : 8
      // The pointer may have begun anywhere: what has been written is in front of where it is now.
      const pointer = packet[at + 2]!
      let slotEnd = pointer <= length + 1 ? Math.min(at + pointer - 1, end) : 0
      for (; slotEnd - slotBytes >= at + 4; slotEnd -= slotBytes) {
        packet.fill(0, slotEnd - 4, slotEnd)
        found = true
      }
    }
    at += length
  }
  return found
}
