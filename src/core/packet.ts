/**
 * The packet that the director is working on: where its headers are in the pool's memory, and what lookups
 * and schedulers need of them. One object, filled in anew for each packet.
 */
export class Packet {
  /** Byte offset of the IP header, a multiple of 4. */
  network = 0
  /** Bytes of the IP header with its options. */
  headerBytes = 0
  /** Bytes of the IP packet by its own account; what a link layer padded behind it is not part of it. */
  totalBytes = 0
  /** Byte offset of the transport header. */
  transport = 0
  protocol = 0
  sourceBe = 0
  destinationBe = 0
  /** Source port in the low half, destination port in the high half, as loaded from the packet. */
  ports = 0
  /** Index of the port that it came in by. */
  inPort = 0

  get sourcePortBe(): number {
    return this.ports & 0xffff
  }
  get destinationPortBe(): number {
    return this.ports >>> 16
  }
}
