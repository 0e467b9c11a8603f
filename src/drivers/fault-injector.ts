import { FrameBatch, type FramePool } from '../port/frame-pool.js'
import type { PacketPort } from '../port/packet-port.js'
import type { Random } from '../port/random.js'
import { headroomOf } from './memory.js'
import { WrappedPort } from './wrapped-port.js'

/** Probabilities from 0 to 1, each for every packet on its own. */
export interface FaultRates {
  drop?: number
  /** One bit of the packet is turned over. */
  corrupt?: number
  duplicate?: number
}

export interface FaultInjectorOptions {
  inner: PacketPort
  pool: FramePool
  random: Random
  /** What happens to packets on their way in and out. */
  receive?: FaultRates
  transmit?: FaultRates
}

/** Rates as thresholds for 32 random bits. */
interface Thresholds {
  drop: number
  corrupt: number
  duplicate: number
}

/** Duplicates that can wait for the next batch; what does not fit is not duplicated. */
const HELD_DUPLICATES = 64

/** A bad wire: loses, corrupts and duplicates packets of the port behind it, the same ones for the same seed. */
export class FaultInjector extends WrappedPort {
  /** How often each fault was done, in both directions together. */
  readonly faults = { dropped: 0, corrupted: 0, duplicated: 0 }
  private readonly pool: FramePool
  private readonly random: Random
  private readonly onReceive: Thresholds
  private readonly onTransmit: Thresholds
  private readonly headroom: number
  private readonly held = new FrameBatch(HELD_DUPLICATES)
  private readonly outgoing = new FrameBatch(HELD_DUPLICATES)

  constructor(options: FaultInjectorOptions) {
    super(options.inner)
    this.pool = options.pool
    this.random = options.random
    this.onReceive = thresholds(options.receive)
    this.onTransmit = thresholds(options.transmit)
    this.headroom = headroomOf(options.inner.linkLayer)
  }

  /** Packets received, with those added and without those lost; duplicates come with the next batch. */
  override receive(batch: FrameBatch): number {
    const start = batch.count
    let taken = 0
    while (taken < this.held.count && !batch.isFull) {
      batch.push(this.held.offsets[taken]!, this.held.lengths[taken]!)
      taken++
    }
    for (let i = taken; i < this.held.count; i++) {
      this.held.offsets[i - taken] = this.held.offsets[i]!
      this.held.lengths[i - taken] = this.held.lengths[i]!
    }
    this.held.count -= taken
    const first = batch.count
    this.inner.receive(batch)
    const end = batch.count
    batch.count = first
    for (let i = first; i < end; i++)
      this.pass(batch.offsets[i]!, batch.lengths[i]!, this.onReceive, batch, this.held)
    return batch.count - start
  }

  override transmit(batch: FrameBatch): void {
    for (let i = 0; i < batch.count; i++) {
      // room for the packet and its duplicate
      if (this.outgoing.count >= this.outgoing.capacity - 1) this.inner.transmit(this.outgoing)
      const { outgoing } = this
      this.pass(batch.offsets[i]!, batch.lengths[i]!, this.onTransmit, outgoing, outgoing)
    }
    batch.count = 0
    this.inner.transmit(this.outgoing)
  }

  override get transmitting(): boolean {
    return this.held.count > 0 || this.inner.transmitting
  }

  /** Duplicates that were never received go back to the pool. */
  override close(): void {
    for (let i = 0; i < this.held.count; i++) this.pool.give(this.held.offsets[i]!)
    this.held.count = 0
    this.inner.close()
  }

  private pass(
    offset: number,
    length: number,
    rates: Thresholds,
    into: FrameBatch,
    duplicates: FrameBatch,
  ): void {
    if (this.happens(rates.drop)) {
      this.pool.give(offset)
      this.faults.dropped++
      return
    }
    if (length > 0 && this.happens(rates.corrupt)) {
      const bit = (this.random.next() >>> 0) % (length * 8)
      this.pool.bytes[offset + (bit >> 3)]! ^= 1 << (bit & 7)
      this.faults.corrupted++
    }
    into.push(offset, length)
    if (this.happens(rates.duplicate) && !duplicates.isFull) {
      const start = this.pool.take()
      if (start < 0) return
      // a transmitted packet may begin anywhere in its frame (a tunnel header went before it)
      const room = this.pool.frameSize - length
      const copy = start + Math.min(this.headroom, room)
      this.pool.bytes.copyWithin(copy, offset, offset + length)
      duplicates.push(copy, length)
      this.faults.duplicated++
    }
  }

  private happens(threshold: number): boolean {
    return threshold > 0 && this.random.next() >>> 0 < threshold
  }
}

function thresholds(rates: FaultRates = {}): Thresholds {
  const threshold = (name: string, rate = 0): number => {
    if (!(rate >= 0 && rate <= 1))
      throw new RangeError(`fault rate ${name} ${rate}: must be between 0 and 1`)
    return rate * 2 ** 32
  }
  return {
    drop: threshold('drop', rates.drop),
    corrupt: threshold('corrupt', rates.corrupt),
    duplicate: threshold('duplicate', rates.duplicate),
  }
}
