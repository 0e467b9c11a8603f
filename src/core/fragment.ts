import type { FrameBatch, FramePool } from '../port/frame-pool.js'
import { IP_HEADROOM } from '../port/frame-pool.js'
import * as ipv4 from '../wire/ipv4.js'

const MORE_FRAGMENTS = 0x2000

/**
 * Cuts an IPv4 packet into fragments of at most `mtu` bytes (RFC 791, section 3.2), each in a frame of its
 * own; the packet itself is left to the caller. Options stay in every fragment, as only fragments with
 * copied options can be told from the others by parsing them, and real traffic carries none.
 * False, with nothing taken, when the pool or the batch has no room for all of them.
 */
export function fragmentIpv4(
  pool: FramePool,
  offset: number,
  length: number,
  mtu: number,
  into: FrameBatch,
): boolean {
  const { bytes, halfs } = pool
  const headerBytes = ipv4.headerBytes(bytes, offset)
  const payloadBytes = length - headerBytes
  const pieceBytes = (mtu - headerBytes) & ~7
  if (pieceBytes <= 0) return false
  const pieces = Math.ceil(payloadBytes / pieceBytes)
  if (pieces > pool.available || pieces > into.capacity - into.count) return false
  const field = (bytes[offset + 6]! << 8) | bytes[offset + 7]!
  for (let done = 0; done < payloadBytes; done += pieceBytes) {
    const isLast = done + pieceBytes >= payloadBytes
    const size = isLast ? payloadBytes - done : pieceBytes
    const start = pool.take() + IP_HEADROOM
    bytes.copyWithin(start, offset, offset + headerBytes)
    bytes.copyWithin(
      start + headerBytes,
      offset + headerBytes + done,
      offset + headerBytes + done + size,
    )
    const total = headerBytes + size
    const fragmentField = (field + (done >> 3)) | (isLast ? field & MORE_FRAGMENTS : MORE_FRAGMENTS)
    bytes[start + 2] = total >> 8
    bytes[start + 3] = total
    bytes[start + 6] = fragmentField >> 8
    bytes[start + 7] = fragmentField
    ipv4.writeChecksum(halfs, bytes, start)
    into.push(start, total)
  }
  return true
}
