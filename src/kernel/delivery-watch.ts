import { native } from './native.js'

/**
 * Sees what is delivered to this network namespace's own stack, by raw sockets: they get a copy of each packet.
 * UDP ports can be held open, so that the stack does not answer that there is nobody.
 */
export class DeliveryWatch {
  private readonly descriptors: Int32Array
  private readonly held: number[]
  private readonly ready: Int16Array
  private readonly region = new Uint8Array(64)
  private readonly offsets = new Int32Array(1)
  private readonly lengths = new Int32Array(1)

  /** @param protocols each an IP version and a protocol number */
  constructor(
    protocols: readonly (readonly [version: 4 | 6, protocol: number])[],
    udpPorts: readonly number[],
  ) {
    this.descriptors = Int32Array.from(protocols, ([version, protocol]) =>
      native().openRawSocket(version, protocol),
    )
    this.ready = new Int16Array(protocols.length)
    this.held = udpPorts.map((port) => native().openUdpSocket(port))
  }

  /** Whether anything has been delivered since the last call. */
  take(): boolean {
    const { descriptors, ready, region, offsets, lengths } = this
    if (native().wait(descriptors, ready, descriptors.length, 0) <= 0) return false
    for (const [index, fd] of descriptors.entries())
      if (ready[index])
        while (native().readBatch(fd, region, offsets, lengths, 1, region.length) === 1);
    return true
  }

  close(): void {
    for (const fd of [...this.descriptors, ...this.held]) native().closeDescriptor(fd)
  }
}
