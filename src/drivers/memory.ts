import {
  ETHERNET_HEADROOM,
  IP_HEADROOM,
  type FrameBatch,
  type FramePool,
} from '../port/frame-pool.js'
import { LinkLayer, type PacketPort, type PortCounters } from '../port/packet-port.js'

export interface MemoryPortOptions {
  pool: FramePool
  linkLayer: LinkLayer
  /** Six bytes; needed when linkLayer is ethernet. */
  mac?: Uint8Array
  /** Default `memory`. */
  name?: string
  /** Largest IP packet in bytes, 1500. */
  mtu?: number
}

/** All counters at zero. */
export function newPortCounters(): PortCounters {
  return { rxPackets: 0, rxBytes: 0, txPackets: 0, txBytes: 0, rxDropped: 0, txDropped: 0 }
}

/** Bytes that a port of this link layer leaves free before a received packet. */
export function headroomOf(linkLayer: LinkLayer): number {
  return linkLayer === LinkLayer.ethernet ? ETHERNET_HEADROOM : IP_HEADROOM
}

/** What the ports without a device have in common: no descriptor, nothing under way, frames that end here. */
abstract class DevicelessPort implements PacketPort {
  readonly name: string
  readonly linkLayer: LinkLayer
  readonly mac: Uint8Array | undefined
  readonly interfaceIndex = 0
  readonly mtu: number
  readonly descriptors: readonly number[] = []
  readonly counters = newPortCounters()
  readonly transmitting = false
  protected readonly pool: FramePool
  protected readonly headroom: number
  /** Longest packet, link layer included, that fits into a frame. */
  protected readonly maxLength: number

  constructor(options: MemoryPortOptions) {
    if (options.linkLayer === LinkLayer.ethernet && options.mac?.length !== 6)
      throw new RangeError(
        `port ${options.name ?? 'memory'}: an Ethernet port needs a mac of 6 bytes`,
      )
    this.pool = options.pool
    this.name = options.name ?? 'memory'
    this.linkLayer = options.linkLayer
    this.mac = options.mac
    this.mtu = options.mtu ?? 1500
    this.headroom = headroomOf(options.linkLayer)
    this.maxLength = options.pool.frameSize - this.headroom
  }

  abstract receive(batch: FrameBatch): number
  abstract transmit(batch: FrameBatch): void

  service(): void {
    // nothing is ever under way
  }

  close(): void {
    // no device to let go of
  }
}

/**
 * A port whose wire is a list: packets that a test or a replay injects are received in order, packets that
 * are transmitted are kept as copies until they are asked for.
 */
export class MemoryPort extends DevicelessPort {
  private waiting: Uint8Array[] = []
  private nextWaiting = 0
  private sent: Uint8Array[] = []

  /**
   * Queues a packet (from the link-layer header on) to be received. The bytes are copied into a frame when
   * they are received, so they must not change until then. False, and counted in rxDropped, when the packet
   * is longer than a frame holds.
   */
  inject(packet: Uint8Array): boolean {
    if (packet.length > this.maxLength) {
      this.counters.rxDropped++
      return false
    }
    this.waiting.push(packet)
    return true
  }

  /** How many injected packets have not been received yet. */
  get pending(): number {
    return this.waiting.length - this.nextWaiting
  }

  /** The packets transmitted since the last call, oldest first. */
  takeTransmitted(): Uint8Array[] {
    const sent = this.sent
    this.sent = []
    return sent
  }

  /** With an empty pool the packets stay queued, as they would in a device's ring. */
  receive(batch: FrameBatch): number {
    let count = 0
    while (this.nextWaiting < this.waiting.length && !batch.isFull) {
      const start = this.pool.take()
      if (start < 0) break
      const packet = this.waiting[this.nextWaiting++]!
      const offset = start + this.headroom
      this.pool.bytes.set(packet, offset)
      batch.push(offset, packet.length)
      this.counters.rxBytes += packet.length
      count++
    }
    this.counters.rxPackets += count
    if (this.nextWaiting === this.waiting.length) {
      this.waiting = []
      this.nextWaiting = 0
    }
    return count
  }

  transmit(batch: FrameBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const offset = batch.offsets[i]!
      const length = batch.lengths[i]!
      this.sent.push(this.pool.bytes.slice(offset, offset + length))
      this.counters.txBytes += length
      this.pool.give(offset)
    }
    this.counters.txPackets += batch.count
    batch.count = 0
  }
}

/** Writes the next packet of a load into a frame; must allocate nothing. */
export interface PacketSource {
  /** Writes a packet, link layer included, at a byte offset of the pool's region and returns its length. */
  write(pool: FramePool, offset: number): number
}

/**
 * A port that never runs dry and keeps nothing: what it receives is written by a PacketSource straight into
 * frames, what it transmits is counted and recycled. Allocates nothing, for benchmarks and soak tests.
 */
export class LoadPort extends DevicelessPort {
  /** Packets that may still be received; receiving stops at 0. */
  budget = 0

  constructor(
    options: MemoryPortOptions,
    private readonly source: PacketSource,
  ) {
    super(options)
  }

  receive(batch: FrameBatch): number {
    let count = 0
    while (this.budget > 0 && !batch.isFull) {
      const start = this.pool.take()
      if (start < 0) break
      const offset = start + this.headroom
      const length = this.source.write(this.pool, offset)
      batch.push(offset, length)
      this.counters.rxBytes += length
      this.budget--
      count++
    }
    this.counters.rxPackets += count
    return count
  }

  transmit(batch: FrameBatch): void {
    for (let i = 0; i < batch.count; i++) {
      this.counters.txBytes += batch.lengths[i]!
      this.pool.give(batch.offsets[i]!)
    }
    this.counters.txPackets += batch.count
    batch.count = 0
  }
}
