import { native, type Native, type XdpSocket } from '../kernel/native.js'
import { ETHERNET_HEADROOM, type FrameBatch, type FramePool } from '../port/frame-pool.js'
import { LinkLayer, type PacketPort, type PortCounters } from '../port/packet-port.js'
import { HEADER_BYTES } from '../wire/ethernet.js'

/** Flags of include/uapi/linux/if_xdp.h. */
const BIND_COPY = 1 << 1
const BIND_USE_NEED_WAKEUP = 1 << 3
const RING_NEED_WAKEUP = 1

/** What the kernel keeps free before a packet by itself (XDP_PACKET_HEADROOM). */
const KERNEL_HEADROOM = 256

const DEFAULT_RING_SIZE = 2048

/** Where a kick ends because the interface is down or gone, so that coming back soon is of no use. */
const ENXIO = 6
const ENODEV = 19
const ENETDOWN = 100

/** A queue whose last owner has just died is freed a moment later, by a worker of the kernel's. */
const BUSY_RETRIES = 20
const BUSY_RETRY_MS = 50

export interface AfxdpPortOptions {
  interface: string
  /** Read from the interface when absent, as are `mac` and `mtu`. */
  interfaceIndex?: number
  mac?: Uint8Array
  /** Largest IP packet in bytes. */
  mtu?: number
  /** Which queue of the interface; every queue takes a port of its own. */
  queue?: number
  /** The frames of the thread, over memory of `mapFrames`. All ports with this pool share one UMEM. */
  pool: FramePool
  /** Descriptors in each ring, a power of two. */
  ringSize?: number
  /** Most frames that the kernel holds to receive into: a ring full, or a quarter of the pool if that is less. */
  fillFrames?: number
  /** Forbids zero-copy mode: for interfaces whose XDP program runs in generic mode, and for mixed drivers. */
  copy?: boolean
}

/**
 * Frames that a thread needs so that none of its AF_XDP ports can starve another: each may have a fill
 * ring and a transmit ring full, and a batch in hand.
 */
export function framesForPorts(ports: number, ringSize = DEFAULT_RING_SIZE): number {
  return ports * 2 * ringSize + 1024
}

/** The open sockets over each pool's memory: the next one shares their UMEM. */
const socketsOfPool = new WeakMap<FramePool, Set<number>>()

/**
 * One queue of one interface through an AF_XDP socket. Which frames come here instead of going to the
 * kernel's stack is XdpSteering's business, which is given `descriptor` and `queue`.
 *
 * The four rings are memory that is shared with the kernel. Each side writes its own index of a ring once
 * a batch, with sequentially consistent atomics, so that descriptors are seen before the index that
 * announces them.
 *
 * `held` knows which frames the kernel has. It takes some back without telling (for received packets that
 * do not fit, for example), so that the rings alone would not say what is to be freed in the end.
 */
export class AfxdpPort implements PacketPort {
  readonly name: string
  readonly linkLayer = LinkLayer.ethernet
  readonly mac: Uint8Array
  readonly interfaceIndex: number
  readonly mtu: number
  readonly queue: number
  readonly descriptor: number
  readonly descriptors: readonly number[]
  /** True if the kernel moves frames between device and rings without a copy. */
  readonly zeroCopy: boolean

  private readonly native: Native = native()
  private readonly pool: FramePool
  private readonly socket: XdpSocket
  private readonly frameSize: number
  private readonly frameShift: number
  /** By frame: 1 while the kernel has it. */
  private readonly held: Uint8Array
  private readonly tally: PortCounters = {
    rxPackets: 0,
    rxBytes: 0,
    txPackets: 0,
    txBytes: 0,
    rxDropped: 0,
    txDropped: 0,
  }
  private readonly statistics = new Float64Array(6)

  /** All rings as 32-bit cells. What follows are indexes into it; descriptors of rx and tx have four cells, the others two. */
  private readonly cells: Int32Array
  private readonly ringSize: number
  private readonly ringMask: number
  private readonly rxProducer: number
  private readonly rxConsumer: number
  private readonly rxDescriptors: number
  private readonly txProducer: number
  private readonly txConsumer: number
  private readonly txFlags: number
  private readonly txDescriptors: number
  private readonly fillProducer: number
  private readonly fillFlags: number
  private readonly fillDescriptors: number
  private readonly completionProducer: number
  private readonly completionConsumer: number
  private readonly completionDescriptors: number

  /** This side's indexes, which wrap at 32 bits. */
  private received = 0
  private transmitted = 0
  private filled = 0
  private completed = 0
  /** Frames that the kernel has to receive into, and to transmit. */
  private receiving = 0
  private sending = 0
  private readonly fillFrames: number
  /**
   * Of no use but to make `receive` read every frame: another processor has written them, and those reads wait for
   * memory together, where the first look at each packet would wait alone.
   */
  protected touched = 0
  private isStalled = false
  private isOpen = true

  /**
   * Opens the socket. Throws an Error with errno when the kernel refuses, saying what it lacks, and a
   * RangeError for an MTU that does not fit into a frame.
   */
  constructor(options: AfxdpPortOptions) {
    const { pool, queue = 0, ringSize = DEFAULT_RING_SIZE, copy = false } = options
    const { interface: interfaceName } = options
    this.name = `afxdp:${interfaceName}${queue === 0 ? '' : `/${queue}`}`
    this.pool = pool
    this.queue = queue
    this.interfaceIndex = options.interfaceIndex ?? this.native.interfaceIndex(interfaceName)
    this.mac = macOf(this.native, options)
    this.mtu = options.mtu ?? this.native.interfaceMtu(interfaceName)
    const largestMtu = pool.frameSize - ETHERNET_HEADROOM - HEADER_BYTES
    if (this.mtu > largestMtu)
      throw new RangeError(
        `${this.name}: an MTU of ${this.mtu} does not fit into frames of ${pool.frameSize} bytes, which take ${largestMtu}; lower it (ip link set ${interfaceName} mtu ${largestMtu}) or use larger frames`,
      )
    this.fillFrames = options.fillFrames ?? Math.min(ringSize, pool.frameCount >> 2)
    if (!(this.fillFrames >= 1 && this.fillFrames <= ringSize))
      throw new RangeError(
        `${this.name}: ${this.fillFrames} frames to receive into do not fit a ring of ${ringSize}`,
      )
    this.frameSize = pool.frameSize
    this.frameShift = 31 - Math.clz32(pool.frameSize)
    this.held = new Uint8Array(pool.frameCount)

    const siblings = socketsOfPool.get(pool) ?? new Set()
    socketsOfPool.set(pool, siblings)
    const [shareWith = -1] = siblings
    this.socket = openPatiently(this.name, () =>
      this.native.openXdpSocket({
        interfaceIndex: this.interfaceIndex,
        queue,
        region: new Uint8Array(pool.region, 0, pool.frameSize * pool.frameCount),
        frameSize: pool.frameSize,
        headroom: ETHERNET_HEADROOM - KERNEL_HEADROOM,
        ringSize,
        shareWith,
        bindFlags: BIND_USE_NEED_WAKEUP | (copy ? BIND_COPY : 0),
      }),
    )
    siblings.add(this.socket.fd)
    this.descriptor = this.socket.fd
    this.descriptors = [this.descriptor]
    this.zeroCopy = this.socket.zeroCopy

    const { memory, rx, tx, fill, completion } = this.socket
    this.cells = new Int32Array(memory)
    this.ringSize = ringSize
    this.ringMask = ringSize - 1
    this.rxProducer = rx.producer >> 2
    this.rxConsumer = rx.consumer >> 2
    this.rxDescriptors = rx.descriptors >> 2
    this.txProducer = tx.producer >> 2
    this.txConsumer = tx.consumer >> 2
    this.txFlags = tx.flags >> 2
    this.txDescriptors = tx.descriptors >> 2
    this.fillProducer = fill.producer >> 2
    this.fillFlags = fill.flags >> 2
    this.fillDescriptors = fill.descriptors >> 2
    this.completionProducer = completion.producer >> 2
    this.completionConsumer = completion.consumer >> 2
    this.completionDescriptors = completion.descriptors >> 2
    this.refill()
  }

  /** Read from the kernel, so for listings and not for the hot path. */
  get counters(): PortCounters {
    if (this.isOpen) {
      this.native.xdpStatistics(this.descriptor, this.statistics)
      const [rxDropped = 0, , , rxRingFull = 0] = this.statistics
      this.tally.rxDropped = rxDropped + rxRingFull
    }
    return this.tally
  }

  get transmitting(): boolean {
    return this.sending > 0 && !this.isStalled
  }

  receive(batch: FrameBatch): number {
    if (!this.isOpen) return 0
    const { cells, held, rxDescriptors, ringMask, frameShift } = this
    let count = (Atomics.load(cells, this.rxProducer) - this.received) | 0
    const room = batch.capacity - batch.count
    if (count > room) count = room
    if (count === 0) return 0
    const { words } = this.pool
    const { offsets, lengths } = batch
    let touched = 0
    let bytes = 0
    let at = this.received
    let end = batch.count
    batch.count = end + count
    for (let i = 0; i < count; i++) {
      const descriptor = (rxDescriptors + ((at & ringMask) << 2)) | 0
      const offset = cells[descriptor]!
      const length = cells[descriptor + 2]!
      held[offset >>> frameShift] = 0
      offsets[end] = offset
      lengths[end] = length
      end = (end + 1) | 0
      touched ^= words[offset >> 2]!
      bytes += length
      at = (at + 1) | 0
    }
    this.touched = touched
    this.received = at
    Atomics.store(cells, this.rxConsumer, at)
    this.receiving -= count
    this.tally.rxPackets += count
    this.tally.rxBytes += bytes
    return count
  }

  transmit(batch: FrameBatch): void {
    const { cells, held, txDescriptors, ringMask, frameShift, pool } = this
    const { offsets, lengths, count } = batch
    batch.count = 0
    let room = this.roomToSend(count)
    let at = this.transmitted
    let bytes = 0
    let sent = 0
    for (let i = 0; i < count; i++) {
      const offset = offsets[i]!
      const length = lengths[i]!
      if (room === 0 || !this.fitsFrame(offset, length)) {
        pool.give(offset)
        continue
      }
      const descriptor = (txDescriptors + ((at & ringMask) << 2)) | 0
      cells[descriptor] = offset
      cells[descriptor + 2] = length
      held[offset >>> frameShift] = 1
      bytes += length
      sent++
      room--
      at = (at + 1) | 0
    }
    this.tally.txPackets += sent
    this.tally.txBytes += bytes
    this.tally.txDropped += count - sent
    if (sent === 0) return
    this.transmitted = at
    this.sending += sent
    Atomics.store(cells, this.txProducer, at)
    this.kick()
  }

  service(): void {
    if (!this.isOpen) return
    if (this.sending > 0) {
      this.kick()
      this.reclaim()
    }
    if (this.receiving < this.fillFrames) this.refill()
  }

  /**
   * Closes the socket; the frames that the kernel had are the pool's again, sent or not, except in zero-copy
   * mode: closing returns there before the driver has been told to stop, so that the device may still write
   * into them. They stay out of use.
   */
  close(): void {
    if (!this.isOpen) return
    this.isOpen = false
    socketsOfPool.get(this.pool)!.delete(this.descriptor)
    this.socket.close()
    if (!this.zeroCopy)
      for (let i = 0; i < this.held.length; i++)
        if (this.held[i] === 1) this.pool.give(i << this.frameShift)
    this.held.fill(0)
    this.receiving = 0
    this.sending = 0
  }

  /** How many frames can be handed over now. All that are under way also have room in the completion ring. */
  private roomToSend(wanted: number): number {
    if (!this.isOpen) return 0
    if (this.ringSize - this.sending < wanted) this.reclaim()
    if (this.ringSize - this.sending < wanted) {
      this.kick()
      this.reclaim()
    }
    return this.ringSize - this.sending
  }

  /** Whether the kernel will take it: what it calls an invalid descriptor it skips, and never gives back. */
  private fitsFrame(offset: number, length: number): boolean {
    return length >= HEADER_BYTES && (offset & (this.frameSize - 1)) + length <= this.frameSize
  }

  /**
   * Lets the kernel transmit until it has taken the whole ring. In copy mode, before Linux 6.17, it sends 32 frames
   * a call and answers EAGAIN when there are more, so what counts is whether the call moved anything; if not
   * (EAGAIN, EBUSY, ENOBUFS: no buffer or no room in the device), `service` comes back.
   */
  private kick(): void {
    const { cells, txConsumer } = this
    let consumed = Atomics.load(cells, txConsumer)
    while (consumed !== this.transmitted) {
      if ((Atomics.load(cells, this.txFlags) & RING_NEED_WAKEUP) === 0) return
      const errno = -this.native.kickTransmit(this.descriptor)
      this.isStalled = errno === ENETDOWN || errno === ENXIO || errno === ENODEV
      const now = Atomics.load(cells, txConsumer)
      if (now === consumed) return
      consumed = now
    }
  }

  /** Takes the frames back whose transmission has ended. */
  private reclaim(): void {
    const { cells, held, completionDescriptors, ringMask, frameShift, pool } = this
    const count = (Atomics.load(cells, this.completionProducer) - this.completed) | 0
    if (count === 0) return
    let at = this.completed
    for (let i = 0; i < count; i++) {
      const offset = cells[(completionDescriptors + ((at & ringMask) << 1)) | 0]!
      held[offset >>> frameShift] = 0
      pool.give(offset)
      at = (at + 1) | 0
    }
    this.completed = at
    Atomics.store(cells, this.completionConsumer, at)
    this.sending -= count
  }

  /** Offers frames to receive into, up to the port's share and as far as the pool has any. */
  private refill(): void {
    const { cells, held, fillDescriptors, ringMask, frameShift, pool } = this
    let at = this.filled
    while (this.receiving < this.fillFrames) {
      const frame = pool.take()
      if (frame < 0) break
      const descriptor = (fillDescriptors + ((at & ringMask) << 1)) | 0
      cells[descriptor] = frame
      held[frame >>> frameShift] = 1
      this.receiving++
      at = (at + 1) | 0
    }
    if (at === this.filled) return
    this.filled = at
    Atomics.store(cells, this.fillProducer, at)
    if ((Atomics.load(cells, this.fillFlags) & RING_NEED_WAKEUP) !== 0)
      this.native.kickReceive(this.descriptor)
  }
}

function macOf(addon: Native, { interface: name, mac }: AfxdpPortOptions): Uint8Array {
  const found = mac ?? addon.interfaceMac(name)
  if (!found) throw new Error(`${name} has no Ethernet address, so AF_XDP cannot serve it here`)
  return found
}

/** Opens a socket, waiting up to a second for a queue that is still being freed. */
function openPatiently(name: string, open: () => XdpSocket): XdpSocket {
  for (let attempt = 0; ; attempt++) {
    try {
      return open()
    } catch (error) {
      if (!(error instanceof Error)) throw error
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || attempt === BUSY_RETRIES) {
        error.message = `${name}: ${error.message}`
        throw error
      }
      Atomics.wait(sleepCell, 0, 0, BUSY_RETRY_MS)
    }
  }
}

const sleepCell = new Int32Array(new SharedArrayBuffer(4))
