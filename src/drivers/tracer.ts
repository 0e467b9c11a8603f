import type { FrameBatch, FramePool } from '../port/frame-pool.js'
import type { PacketPort } from '../port/packet-port.js'
import { linkTypeOf, type CaptureTime, type PcapWriter } from './pcap.js'
import { WrappedPort } from './wrapped-port.js'

/** The time of day, to the microsecond. */
export function timeOfDay(): CaptureTime {
  const milliseconds = performance.timeOrigin + performance.now()
  const seconds = Math.floor(milliseconds / 1000)
  return { seconds, nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1e3) * 1e3 }
}

/**
 * Records what passes a port: received packets as the port delivered them, transmitted packets as they are
 * handed to it, one timestamp a batch. The writer is the caller's, who may share it between ports and
 * closes it; it is flushed once a round, so the file can be read while it grows.
 */
export class Tracer extends WrappedPort {
  private readonly captureInterface: number

  constructor(
    inner: PacketPort,
    private readonly pool: FramePool,
    private readonly writer: PcapWriter,
    private readonly now: () => CaptureTime = timeOfDay,
  ) {
    super(inner)
    this.captureInterface = writer.addInterface(inner.name, linkTypeOf(inner.linkLayer))
  }

  override receive(batch: FrameBatch): number {
    const first = batch.count
    const count = this.inner.receive(batch)
    if (count > 0) this.record(batch, first, 'in')
    return count
  }

  override transmit(batch: FrameBatch): void {
    if (batch.count > 0) this.record(batch, 0, 'out')
    this.inner.transmit(batch)
  }

  override service(): void {
    this.writer.flush()
    this.inner.service()
  }

  override close(): void {
    this.writer.flush()
    this.inner.close()
  }

  private record(batch: FrameBatch, first: number, direction: 'in' | 'out'): void {
    const time = this.now()
    for (let i = first; i < batch.count; i++) {
      const offset = batch.offsets[i]!
      const packet = this.pool.bytes.subarray(offset, offset + batch.lengths[i]!)
      this.writer.write(packet, time, this.captureInterface, direction)
    }
  }
}
