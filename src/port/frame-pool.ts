import * as virtio from '../wire/virtio.js'

/** One of several equal shares of a region's frames. */
export interface FrameShare {
  /** From 0. */
  index: number
  of: number
}

/**
 * The frames of one data-plane thread: equal pieces of one memory region, shared by all of its ports,
 * so that a frame received on one port is transmitted on another without a copy (with AF_XDP the region
 * is the UMEM).
 *
 * A frame is known by the byte offset of its first packet byte in the region. Whoever holds that offset
 * owns the frame, and either transmits it or frees it.
 *
 * Alignment: every port puts packets so that the network (IP) header starts at a multiple of 4. That is
 * why the headroom of an Ethernet port is 2 modulo 4. Everything above reads 32-bit words because of it.
 *
 * Packets of a port with offload may lack their checksum, or be many segments in one. What is asked for stands at
 * the start of their frame, where it stays with them until they are sent: a header as in wire/virtio.ts, and in the
 * word behind it the byte offset of the IP header, 0 when nothing is asked for, or MALFORMED.
 */
export class FramePool {
  readonly words: Int32Array
  readonly halfs: Uint16Array
  readonly bytes: Uint8Array
  private readonly free: Int32Array
  private freeCount: number
  private readonly frameMask: number
  /**
   * Offset of memory behind the frames that holds a packet of any size with its headroom, for one that is put
   * together from fragments; -1 when the region ends before. It is no frame: nobody owns it.
   */
  readonly scratch: number
  /** How many frames are this pool's at first. */
  readonly ownCount: number

  /**
   * @param region the memory, at least `frameSize * frameCount` bytes, SCRATCH_BYTES more for a scratch
   * @param frameSize bytes in a frame, a power of two, 2048 at least
   * @param frameCount how many the region holds
   * @param share which of them are this pool's at first, where several threads share the region: each has a pool of
   *   its own, and frames that they exchange
   * @param hasOffload whether frames may carry requests
   */
  constructor(
    readonly region: ArrayBufferLike,
    readonly frameSize: number,
    readonly frameCount: number,
    share: FrameShare = { index: 0, of: 1 },
    readonly hasOffload = false,
  ) {
    if (frameSize < 2048 || (frameSize & (frameSize - 1)) !== 0)
      throw new RangeError(`frame size ${frameSize}: must be a power of two, 2048 at least`)
    if (region.byteLength < frameSize * frameCount)
      throw new RangeError(`region of ${region.byteLength} bytes cannot hold ${frameCount} frames`)
    this.words = new Int32Array(region)
    this.halfs = new Uint16Array(region)
    this.bytes = new Uint8Array(region)
    this.frameMask = ~(frameSize - 1)
    const scratch = frameSize * frameCount + share.index * SCRATCH_BYTES
    this.scratch = region.byteLength >= scratch + SCRATCH_BYTES ? scratch : -1
    this.free = new Int32Array(frameCount)
    const first = Math.floor((frameCount * share.index) / share.of)
    const end = Math.floor((frameCount * (share.index + 1)) / share.of)
    this.freeCount = this.ownCount = end - first
    for (let i = 0; i < this.freeCount; i++) this.free[i] = (end - 1 - i) * frameSize
  }

  /** How many frames nobody owns. */
  get available(): number {
    return this.freeCount
  }

  /** Takes a frame: the byte offset of the frame's start (its headroom), or -1 when none is left. */
  take(): number {
    if (this.freeCount === 0) return -1
    const start = this.free[--this.freeCount]!
    if (this.hasOffload) this.words[(start + REQUEST) >> 2] = 0
    return start
  }

  /** Gives a frame back, named by any byte offset inside it. */
  give(offset: number): void {
    this.free[this.freeCount++] = offset & this.frameMask
  }

  /** The start of the frame that a byte offset lies in. */
  startOf(offset: number): number {
    return offset & this.frameMask
  }

  /** Of the packet at an offset in a frame: where the IP header is that its request is about, 0 without one, or MALFORMED. */
  requestOf(offset: number): number {
    // What was put together from fragments lies behind the frames.
    if (!this.hasOffload || offset >= this.frameSize * this.frameCount) return 0
    return this.words[((offset & this.frameMask) + REQUEST) >> 2]!
  }

  /** Nothing is asked for any more: another packet is in the frame. */
  clearRequest(offset: number): void {
    this.words[((offset & this.frameMask) + REQUEST) >> 2] = 0
  }

  /**
   * Notes what is asked for by the header in front of a received packet, in a pool with offload.
   *
   * @param offset byte offset of the packet's IP header
   * @param length bytes of the packet
   */
  noteRequest(offset: number, length: number): void {
    const { words, halfs, bytes } = this
    const start = offset & this.frameMask
    const from = (offset - virtio.HEADER_BYTES) >> 2
    const to = start >> 2
    words[to] = words[from]!
    words[to + 1] = words[from + 1]!
    words[to + 2] = words[from + 2]!
    const request = virtio.accept(halfs, bytes, start, offset, length)
    words[(start + REQUEST) >> 2] =
      request === virtio.Request.none
        ? 0
        : request === virtio.Request.malformed
          ? MALFORMED
          : offset
  }

  /** Puts the header in front of a packet that is to be sent through a port with offload. */
  writeRequest(offset: number): void {
    const { words, halfs } = this
    const to = (offset - virtio.HEADER_BYTES) >> 2
    if (this.requestOf(offset) === 0) {
      words[to] = words[to + 1] = words[to + 2] = 0
      return
    }
    const start = offset & this.frameMask
    const from = start >> 2
    virtio.restore(halfs, start, offset)
    words[to] = words[from]!
    words[to + 1] = words[from + 1]!
    words[to + 2] = words[from + 2]!
  }

  /**
   * Bytes of the longest IP packet that a packet is on the wire (skb_gso_validate_network_len).
   *
   * @param network byte offset of its IP header
   * @param totalBytes of the packet itself
   */
  wireBytes(network: number, totalBytes: number): number {
    if (this.requestOf(network) <= 0) return totalBytes
    const start = network & this.frameMask
    const segment = virtio.segmentBytes(this.halfs, this.bytes, start)
    return segment === 0 ? totalBytes : virtio.segmentHeaderBytes(this.halfs, start) + segment
  }
}

/** Where in a frame the place of its request's packet is noted, behind the header. */
const REQUEST = virtio.HEADER_BYTES
/** In place of the packet's offset: the header does not fit the packet. */
export const MALFORMED = -1

/** Bytes kept free before a received packet, for tunnel and link-layer headers; 2 modulo 4, see FramePool. */
export const ETHERNET_HEADROOM = 258
/** The same for ports without a link layer: IP starts at a multiple of 4. */
export const IP_HEADROOM = 272

/** Bytes of a pool's scratch: the longest IP packet, and headroom. */
export const SCRATCH_BYTES = 66 * 1024

/** A list of frames with room for a fixed number of them. Reused for ever, so it costs no allocation. */
export class FrameBatch {
  readonly offsets: Int32Array
  readonly lengths: Int32Array
  count = 0

  constructor(readonly capacity: number) {
    this.offsets = new Int32Array(capacity)
    this.lengths = new Int32Array(capacity)
  }

  get isFull(): boolean {
    return this.count === this.capacity
  }

  /** Appends a frame; the caller has made sure that there is room. */
  push(offset: number, length: number): void {
    const i = this.count++
    this.offsets[i] = offset
    this.lengths[i] = length
  }
}
