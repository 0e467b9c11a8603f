import type { FrameBatch } from '../port/frame-pool.js'
import type { LinkLayer, PacketPort, PortCounters } from '../port/packet-port.js'

/** A port that passes everything on to another; wrappers override what they are about. */
export abstract class WrappedPort implements PacketPort {
  readonly name: string
  readonly linkLayer: LinkLayer
  readonly mac: Uint8Array | undefined
  readonly interfaceIndex: number
  readonly mtu: number
  readonly descriptors: readonly number[]
  readonly counters: PortCounters
  readonly hasOffload: boolean

  constructor(protected readonly inner: PacketPort) {
    this.name = inner.name
    this.linkLayer = inner.linkLayer
    this.mac = inner.mac
    this.interfaceIndex = inner.interfaceIndex
    this.mtu = inner.mtu
    this.descriptors = inner.descriptors
    this.counters = inner.counters
    this.hasOffload = inner.hasOffload === true
  }

  get transmitting(): boolean {
    return this.inner.transmitting
  }
  receive(batch: FrameBatch): number {
    return this.inner.receive(batch)
  }
  transmit(batch: FrameBatch): void {
    this.inner.transmit(batch)
  }
  service(): void {
    this.inner.service()
  }
  close(): void {
    this.inner.close()
  }
}
