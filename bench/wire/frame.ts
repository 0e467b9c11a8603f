import * as checksum from '../../src/wire/checksum.js'
import * as ethernet from '../../src/wire/ethernet.js'
import * as ipv4 from '../../src/wire/ipv4.js'
import * as udp from '../../src/wire/udp.js'

/** Frame check sequence: part of a frame's size as people give it (64 to 1,518), and never seen by software. */
const FRAME_CHECK_BYTES = 4

/** Offsets in the frames that are sent. Behind the UDP header stand the moment of sending and the mark. */
export const Offset = {
  etherType: ethernet.ETHER_TYPE,
  protocol: ethernet.HEADER_BYTES + ipv4.PROTOCOL,
  ipChecksum: ethernet.HEADER_BYTES + ipv4.CHECKSUM,
  /** The lower half of the source address, which is part of what makes a flow. */
  sourceLow: ethernet.HEADER_BYTES + ipv4.SOURCE + 2,
  destination: ethernet.HEADER_BYTES + ipv4.DESTINATION,
  sourcePort: ethernet.HEADER_BYTES + ipv4.MIN_HEADER_BYTES + udp.SOURCE_PORT,
  udpChecksum: ethernet.HEADER_BYTES + ipv4.MIN_HEADER_BYTES + udp.CHECKSUM,
  sentNs: ethernet.HEADER_BYTES + ipv4.MIN_HEADER_BYTES + udp.HEADER_BYTES,
  mark: ethernet.HEADER_BYTES + ipv4.MIN_HEADER_BYTES + udp.HEADER_BYTES + 8,
} as const

/** Bytes that every frame has at least. */
export const LEAST_BYTES = Offset.mark + 4

export interface FrameOptions {
  /** On the wire, 64 to 1518. */
  frameBytes: number
  sourceMac: Uint8Array
  destinationMac: Uint8Array
  /** Its lower 16 bits and the source port are the generator program's. */
  sourceBe: number
  destinationBe: number
  destinationPort: number
  /** 32 bits that say which trial a frame is part of, whoever has changed its addresses since. */
  mark: number
}

/** A frame, and what its checksums sum up to without source port, lower half of the source address and time. */
export interface FrameTemplate {
  readonly bytes: Uint8Array
  /** Sums of 16-bit words as they lie in memory, not folded. */
  readonly ipSum: number
  readonly udpSum: number
}

/** The frame that the generator's frames begin as: UDP over IPv4. */
export function frameTemplate(options: FrameOptions): FrameTemplate {
  const { frameBytes, sourceBe, destinationBe } = options
  if (!(frameBytes >= 64 && frameBytes <= 1518))
    throw new RangeError(`a frame of ${frameBytes} bytes: must be 64 to 1518`)
  const length = frameBytes - FRAME_CHECK_BYTES
  const ipBytes = length - ethernet.HEADER_BYTES
  const udpBytes = ipBytes - ipv4.MIN_HEADER_BYTES
  // Checksums go by 16-bit words, so the memory is an even number of bytes.
  const bytes = new Uint8Array(new ArrayBuffer(length + (length & 1)), 0, length)
  const view = new DataView(bytes.buffer)
  bytes.set(options.destinationMac, ethernet.DESTINATION)
  bytes.set(options.sourceMac, ethernet.SOURCE)
  view.setUint16(ethernet.ETHER_TYPE, 0x0800)
  const ip = ethernet.HEADER_BYTES
  view.setUint8(ip + ipv4.VERSION_IHL, 0x45)
  view.setUint16(ip + ipv4.TOTAL_LENGTH, ipBytes)
  view.setUint8(ip + ipv4.TTL, 64)
  view.setUint8(ip + ipv4.PROTOCOL, ipv4.IpProtocol.udp)
  view.setInt32(ip + ipv4.SOURCE, sourceBe, true)
  view.setUint16(Offset.sourceLow, 0)
  view.setInt32(ip + ipv4.DESTINATION, destinationBe, true)
  const transport = ip + ipv4.MIN_HEADER_BYTES
  view.setUint16(transport + udp.DESTINATION_PORT, options.destinationPort)
  view.setUint16(transport + udp.LENGTH, udpBytes)
  view.setUint32(Offset.mark, options.mark, true)
  const halfs = new Uint16Array(bytes.buffer, 0, length >> 1)
  const baseBe = view.getInt32(ip + ipv4.SOURCE, true)
  return {
    bytes,
    ipSum: checksum.sumRange(halfs, bytes, ip, ipv4.MIN_HEADER_BYTES),
    udpSum:
      checksum.sumRange(halfs, bytes, transport, udpBytes) +
      checksum.sumPseudoHeader(ipv4.IpProtocol.udp, baseBe, destinationBe, udpBytes),
  }
}
