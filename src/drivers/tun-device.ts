import { native, type Native } from '../kernel/native.js'
import type { FrameBatch, FramePool } from '../port/frame-pool.js'
import * as virtio from '../wire/virtio.js'
import type { LinkLayer, PacketPort, PortCounters } from '../port/packet-port.js'

export interface TunDeviceOptions {
  /** Name of the interface; it is made if it is not there, and goes away with its last descriptor. */
  name: string
  /** The frames of the thread that this port works in. */
  pool: FramePool
  /** Most packets read in one call of the addon. */
  batchSize?: number
  /** Opens one more queue of a multi-queue device. All of its queues must be opened so. */
  multiQueue?: boolean
  /** Largest IP packet in bytes; read from the interface when absent. */
  mtu?: number
  /**
   * When it had nothing, so many calls of `receive` do not ask the kernel: for a device beside others that have
   * far more to do. 0 when absent.
   */
  restAfterNothing?: number
  /**
   * Packets may lack their checksums or be many segments in one, both ways: for a pool with offload, whose frames
   * hold the longest of them.
   */
  offload?: boolean
  /**
   * What is transmitted waits for the device's NAPI, so that a thread of the kernel can receive it while ours goes on:
   * the device has to be told so, see the daemon's plumbing. Otherwise the write takes it through the stack.
   */
  threadedReceive?: boolean
}

const DEFAULT_BATCH_SIZE = 64

/** A frame for the longest IP packet, with its headroom. */
const LONGEST_OFFLOADED = 128 * 1024

/** Of linux/if_tun.h: what the kernel may leave undone in packets that it gives us. */
const TUN_F_CSUM = 0x01
const TUN_F_TSO4 = 0x02
const TUN_F_TSO6 = 0x04
const TUN_F_TSO_ECN = 0x08
const STREAM_OFFLOAD = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
/** The same of UDP, since Linux 6.2. */
const TUN_F_USO4 = 0x20
const TUN_F_USO6 = 0x40

/** With offload, a call reads no more than this: half a megabyte is still in the cache when it is written. */
const OFFLOAD_BATCH_SIZE = 8

/** What may wait for the kernel's thread: half of what may wait before us, which is 500 packets of 64 KiB. */
const BACKLOG_BYTES = 16 * 1024 * 1024

/**
 * What TUN and TAP ports have in common: one descriptor of /dev/net/tun that takes and gives a packet a
 * call. The device is only opened here: bringing it up, addresses, routes and its MTU are the daemon's
 * business.
 *
 * A packet that fills a frame to its last byte counts as too long, since the kernel cuts silently.
 */
export abstract class TunDevice implements PacketPort {
  abstract readonly linkLayer: LinkLayer
  abstract readonly mac: Uint8Array | undefined

  readonly name: string
  /** The interface's name as the kernel gave it, which differs from the option's when that had a %d. */
  readonly interfaceName: string
  readonly interfaceIndex: number
  readonly descriptors: readonly number[]
  readonly counters: PortCounters = {
    rxPackets: 0,
    rxBytes: 0,
    txPackets: 0,
    txBytes: 0,
    rxDropped: 0,
    txDropped: 0,
  }
  readonly transmitting = false
  readonly hasOffload: boolean
  /**
   * Why the last `receive` got nothing, as an errno; 0 when it worked. Stays EBADFD (77) once the device
   * has been deleted under the port: its descriptor then counts as readable for ever.
   */
  receiveErrno = 0

  protected readonly native: Native = native()
  protected readonly pool: FramePool
  protected readonly descriptor: number
  private ipMtu: number
  private readonly maxLength: number
  private readonly largestMtu: number
  private readonly batchSize: number
  private readonly restAfterNothing: number
  private readonly offsets: Int32Array
  private readonly lengths: Int32Array
  /** Bytes of the header before each packet, with offload. */
  private readonly extraBytes: number
  private isOpen = true
  /** Calls of `receive` that ask nothing from now on. */
  private resting = 0

  /**
   * @param headroom bytes before a received packet in its frame
   * @param linkHeaderBytes bytes before the IP header in a packet
   */
  protected constructor(
    options: TunDeviceOptions,
    mode: 'tun' | 'tap',
    private readonly headroom: number,
    linkHeaderBytes: number,
  ) {
    this.restAfterNothing = options.restAfterNothing ?? 0
    const { name, pool, multiQueue = false, offload = false, threadedReceive = false } = options
    const batchSize = options.batchSize ?? (offload ? OFFLOAD_BATCH_SIZE : DEFAULT_BATCH_SIZE)
    if (offload && !(pool.hasOffload && pool.frameSize >= LONGEST_OFFLOADED))
      throw new RangeError(`${name}: offload takes a pool for it, of frames of 128 KiB`)
    if (!Number.isInteger(batchSize) || batchSize < 1)
      throw new RangeError(`batch size ${batchSize}: must be a positive integer`)
    this.pool = pool
    this.batchSize = batchSize
    this.maxLength = pool.frameSize - headroom
    this.largestMtu = this.maxLength - 1 - linkHeaderBytes
    this.offsets = new Int32Array(batchSize)
    this.lengths = new Int32Array(batchSize)
    this.hasOffload = offload
    this.extraBytes = offload ? virtio.HEADER_BYTES : 0
    const device = this.native.openTun({
      name,
      mode,
      multiQueue,
      vnetHeader: offload,
      backlogBytes: threadedReceive ? BACKLOG_BYTES : 0,
    })
    this.descriptor = device.fd
    this.descriptors = [device.fd]
    this.interfaceName = device.name
    this.name = `${mode}:${device.name}`
    try {
      if (offload) this.setOffload()
      this.interfaceIndex = this.native.interfaceIndex(device.name)
      this.ipMtu = options.mtu ?? this.native.interfaceMtu(device.name)
    } catch (error) {
      this.close()
      throw error
    }
  }

  private setOffload(): void {
    const { native, descriptor } = this
    try {
      native.setTunOffload(
        descriptor,
        STREAM_OFFLOAD | TUN_F_USO4 | TUN_F_USO6,
        virtio.HEADER_BYTES,
      )
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error
      native.setTunOffload(descriptor, STREAM_OFFLOAD, virtio.HEADER_BYTES)
    }
  }

  /** Largest IP packet in bytes: the interface's MTU, or less where a frame cannot hold that. */
  get mtu(): number {
    return this.ipMtu < this.largestMtu ? this.ipMtu : this.largestMtu
  }

  /** Reads the interface's MTU again, after it was changed. */
  refreshMtu(): void {
    this.ipMtu = this.native.interfaceMtu(this.interfaceName)
  }

  receive(batch: FrameBatch): number {
    if (this.resting > 0) {
      this.resting--
      return 0
    }
    const before = batch.count
    // Long packets are dealt with before more are read.
    if (this.hasOffload) {
      const room = batch.capacity - before
      return this.receiveSome(batch, room < this.batchSize ? room : this.batchSize)
    }
    for (let room = batch.capacity - before; room > 0; room -= this.batchSize) {
      const wanted = room < this.batchSize ? room : this.batchSize
      if (this.receiveSome(batch, wanted) < wanted) break
    }
    if (batch.count === before) this.resting = this.restAfterNothing
    return batch.count - before
  }

  /** One read of at most `wanted` packets; returns how many the kernel gave. */
  private receiveSome(batch: FrameBatch, wanted: number): number {
    const { pool, offsets, lengths, maxLength, counters, extraBytes } = this
    let taken = 0
    while (taken < wanted) {
      const frame = pool.take()
      if (frame < 0) break
      offsets[taken++] = frame + this.headroom - extraBytes
    }
    // Without a frame the packets wait in the kernel's ring, which counts what it then drops.
    if (taken === 0) return 0
    let read = this.native.readBatch(
      this.descriptor,
      pool.bytes,
      offsets,
      lengths,
      taken,
      maxLength,
    )
    this.receiveErrno = read < 0 ? -read : 0
    if (read < 0) read = 0
    for (let i = taken - 1; i >= read; i--) pool.give(offsets[i]!)
    let bytes = 0
    let cut = 0
    for (let i = 0; i < read; i++) {
      const offset = offsets[i]! + extraBytes
      const length = lengths[i]! - extraBytes
      if (length >= maxLength - extraBytes) {
        cut++
        pool.give(offset)
        continue
      }
      bytes += length
      if (extraBytes !== 0) pool.noteRequest(offset, length)
      if (!this.consume(offset, length)) batch.push(offset, length)
    }
    counters.rxPackets += read - cut
    counters.rxBytes += bytes
    counters.rxDropped += cut
    return read
  }

  /** True when the port has dealt with the packet, and with its frame, itself. */
  protected abstract consume(offset: number, length: number): boolean

  transmit(batch: FrameBatch): void {
    const { offsets, lengths, count } = batch
    this.send(offsets, lengths, count)
    for (let i = 0; i < count; i++) this.pool.give(offsets[i]!)
    batch.count = 0
  }

  /** Writes packets and counts them; their frames stay the caller's. What the kernel refuses is skipped. */
  protected send(offsets: Int32Array, lengths: Int32Array, count: number): void {
    const { counters, extraBytes } = this
    if (extraBytes !== 0)
      for (let i = 0; i < count; i++) {
        this.pool.writeRequest(offsets[i]!)
        offsets[i]! -= extraBytes
        lengths[i]! += extraBytes
      }
    let next = 0
    while (next < count) {
      const written = this.native.writeBatch(
        this.descriptor,
        this.pool.bytes,
        offsets,
        lengths,
        next,
        count - next,
      )
      if (written < 0) {
        counters.txDropped++
        next++
        continue
      }
      let bytes = 0
      for (let i = next; i < next + written; i++) bytes += lengths[i]! - extraBytes
      counters.txPackets += written
      counters.txBytes += bytes
      next += written
    }
  }

  service(): void {}

  close(): void {
    if (!this.isOpen) return
    this.isOpen = false
    this.native.closeDescriptor(this.descriptor)
  }
}
