import { getSystemErrorName } from 'node:util'
import { native } from './native.js'

const SOL_SOCKET = 1
const SO_MARK = 36

/** Frames on one interface, whole with their Ethernet headers. One's own are not received. */
export class PacketSocket {
  private readonly fd: number
  private readonly region: Uint8Array
  private readonly offsets = new Int32Array(1)
  private readonly lengths = new Int32Array(1)
  private mark = 0

  /**
   * @param protocol of the frames received, in host order; 3 for all
   * @param maxLength longer frames are cut when received
   */
  constructor(
    readonly interfaceName: string,
    protocol: number,
    private readonly maxLength = 2048,
  ) {
    this.region = new Uint8Array(maxLength)
    this.fd = native().openPacketSocket({
      interfaceIndex: native().interfaceIndex(interfaceName),
      protocol,
      ignoreOutgoing: true,
      promiscuous: false,
    })
  }

  /** Sends a frame; one that the interface does not take is an error with its errno in it. */
  send(frame: Uint8Array, mark = 0): void {
    if (mark !== this.mark) {
      native().setSocketOption(this.fd, SOL_SOCKET, SO_MARK, mark | 0)
      this.mark = mark
    }
    this.offsets[0] = 0
    this.lengths[0] = frame.length
    const result = native().writeBatch(this.fd, frame, this.offsets, this.lengths, 0, 1)
    if (result !== 1)
      throw new Error(
        `${this.interfaceName} does not take a frame of ${frame.length} bytes: ${getSystemErrorName(result)}`,
      )
  }

  /** The oldest frame that has not been received yet, undefined when there is none. */
  receive(): Uint8Array | undefined {
    const { fd, region, offsets, lengths, maxLength } = this
    offsets[0] = 0
    const result = native().readBatch(fd, region, offsets, lengths, 1, maxLength)
    if (result < 0)
      throw new Error(`receiving on ${this.interfaceName}: ${getSystemErrorName(result)}`)
    return result === 1 ? region.slice(0, lengths[0]) : undefined
  }

  /** Waits until there is a frame, at most so long; whether there is one. */
  wait(timeoutMs: number): boolean {
    return native().wait(Int32Array.of(this.fd), new Int16Array(1), 1, timeoutMs) === 1
  }

  close(): void {
    native().closeDescriptor(this.fd)
  }
}
