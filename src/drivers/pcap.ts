/**
 * Capture files: pcap (draft-ietf-opsawg-pcap: both byte orders, microseconds and nanoseconds) and pcapng
 * (draft-ietf-opsawg-pcapng: section header, interface description, enhanced, simple and the obsolete
 * packet blocks; other blocks are skipped). Offline work, so it may allocate.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import type { FrameBatch, FramePool } from '../port/frame-pool.js'
import { LinkLayer, type PacketPort } from '../port/packet-port.js'
import { headroomOf, newPortCounters } from './memory.js'

/** Since 1970. Two numbers, because nanoseconds do not fit a double. */
export interface CaptureTime {
  seconds: number
  nanoseconds: number
}

/** Link types of the tcpdump registry that uvs reads; `raw` and `ipv4` start with an IP header. */
export const LinkType = { ethernet: 1, raw: 101, ipv4: 228 } as const

/** DLT_RAW as BSD and OpenBSD numbered it before the registry. */
const OLD_RAW_LINK_TYPES = [12, 14]

/** The link type that captures of a port have. */
export function linkTypeOf(linkLayer: LinkLayer): number {
  return linkLayer === LinkLayer.ethernet ? LinkType.ethernet : LinkType.raw
}

/** The link layer of a link type, undefined for those that uvs does not read. */
export function linkLayerOf(linkType: number): LinkLayer | undefined {
  if (linkType === LinkType.ethernet) return LinkLayer.ethernet
  if (linkType === LinkType.raw || linkType === LinkType.ipv4) return LinkLayer.ip
  return OLD_RAW_LINK_TYPES.includes(linkType) ? LinkLayer.ip : undefined
}

export interface CapturedPacket {
  /** Undefined for pcapng's simple packets, which carry no time. */
  time: CaptureTime | undefined
  linkType: number
  /** Index of the interface in its section of the file; 0 in pcap. */
  interfaceIndex: number
  /** As the file names the interface (pcapng's if_name). */
  interfaceName: string | undefined
  direction: 'in' | 'out' | undefined
  /** Length on the wire; longer than `bytes` when the capture has cut the packet. */
  originalLength: number
  /** A view into the file's bytes. */
  bytes: Uint8Array
  /** Where in the file the packet's record or block starts. */
  fileOffset: number
}

/** A capture that breaks its format's rules: which file, at which byte, which rule. */
export class CaptureError extends Error {
  constructor(
    source: string,
    readonly byteOffset: number,
    problem: string,
  ) {
    super(`${source}: byte ${byteOffset}: ${problem}`)
    this.name = 'CaptureError'
  }
}

const PCAP_MICROSECONDS = 0xa1b2c3d4
const PCAP_NANOSECONDS = 0xa1b23c4d
const PCAP_HEADER_BYTES = 24
const PCAP_RECORD_HEADER_BYTES = 16

const BlockType = {
  sectionHeader: 0x0a0d0d0a,
  interfaceDescription: 1,
  packet: 2,
  simplePacket: 3,
  enhancedPacket: 6,
} as const
const BYTE_ORDER_MAGIC = 0x1a2b3c4d
const OptionCode = { end: 0, interfaceName: 2, packetFlags: 2, timeResolution: 9, timeOffset: 14 }
const DIRECTION_BITS = 3
const DIRECTION_IN = 1
const DIRECTION_OUT = 2

/** libpcap's own limit on the length of a packet: what says more is no length. */
const MAX_PACKET_BYTES = 262144

interface InterfaceDescription {
  linkType: number
  snapLength: number
  name: string | undefined
  unitsPerSecond: bigint
  offsetSeconds: bigint
}

/**
 * The packets of a capture file, in the file's order. Iterating throws a CaptureError where the file breaks
 * off or breaks the rules; the packets before that have been given out.
 */
export class PcapReader implements Iterable<CapturedPacket> {
  readonly format: 'pcap' | 'pcapng'
  private readonly view: DataView
  private littleEndian = true

  /**
   * @param bytes the whole file
   * @param source how errors call it
   */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly source = 'capture',
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.need(0, 4, 'the magic number')
    const magic = this.view.getUint32(0, true)
    if (magic === BlockType.sectionHeader) {
      this.format = 'pcapng'
      return
    }
    this.format = 'pcap'
    this.littleEndian = magic === PCAP_MICROSECONDS || magic === PCAP_NANOSECONDS
    const swapped = this.view.getUint32(0, false)
    if (!this.littleEndian && swapped !== PCAP_MICROSECONDS && swapped !== PCAP_NANOSECONDS)
      throw this.error(0, `magic number 0x${hex32(swapped)} is neither pcap's nor pcapng's`)
  }

  /** Reads a file into memory. Throws what readFileSync throws, or a CaptureError. */
  static open(path: string): PcapReader {
    return new PcapReader(readFileSync(path), path)
  }

  [Symbol.iterator](): Iterator<CapturedPacket> {
    return this.format === 'pcap' ? this.pcapPackets() : this.pcapngPackets()
  }

  private *pcapPackets(): Generator<CapturedPacket> {
    this.need(0, PCAP_HEADER_BYTES, 'the file header')
    const nanosecondsPerUnit = this.u32(0) === PCAP_NANOSECONDS ? 1 : 1000
    const major = this.u16(4)
    if (major !== 2) throw this.error(4, `pcap version ${major}.${this.u16(6)}, not 2.4`)
    // the upper bits tell about a frame check sequence, not about the link
    const linkType = this.u32(20) & 0xffff
    let at = PCAP_HEADER_BYTES
    while (at < this.bytes.length) {
      this.need(at, PCAP_RECORD_HEADER_BYTES, 'a packet header')
      const fraction = this.u32(at + 4)
      const length = this.u32(at + 8)
      if (length > MAX_PACKET_BYTES) throw this.error(at + 8, `a packet of ${length} bytes`)
      const dataAt = at + PCAP_RECORD_HEADER_BYTES
      this.need(dataAt, length, 'a packet')
      yield {
        time: { seconds: this.u32(at), nanoseconds: fraction * nanosecondsPerUnit },
        linkType,
        interfaceIndex: 0,
        interfaceName: undefined,
        direction: undefined,
        originalLength: this.u32(at + 12),
        bytes: this.bytes.subarray(dataAt, dataAt + length),
        fileOffset: at,
      }
      at = dataAt + length
    }
  }

  private *pcapngPackets(): Generator<CapturedPacket> {
    let interfaces: InterfaceDescription[] = []
    let at = 0
    while (at < this.bytes.length) {
      this.need(at, 12, 'a block')
      const isSectionHeader = this.view.getUint32(at, true) === BlockType.sectionHeader
      if (isSectionHeader) this.readByteOrder(at)
      const length = this.u32(at + 4)
      if (length < 12 || length % 4 !== 0) throw this.error(at + 4, `a block of ${length} bytes`)
      this.need(at, length, 'a block')
      const end = at + length - 4
      if (this.u32(end) !== length)
        throw this.error(end, `block length ${this.u32(end)} does not repeat ${length}`)
      switch (this.u32(at)) {
        case BlockType.sectionHeader:
          this.checkBody(at, end, 16, 'section header')
          if (this.u16(at + 12) !== 1)
            throw this.error(at + 12, `pcapng version ${this.u16(at + 12)}, not 1`)
          interfaces = []
          break
        case BlockType.interfaceDescription:
          interfaces.push(this.readInterface(at, end))
          break
        case BlockType.enhancedPacket:
          this.checkBody(at, end, 20, 'enhanced packet')
          yield this.readPacket(at, end, interfaces, this.u32(at + 8))
          break
        case BlockType.packet:
          this.checkBody(at, end, 20, 'packet')
          yield this.readPacket(at, end, interfaces, this.u16(at + 8))
          break
        case BlockType.simplePacket:
          this.checkBody(at, end, 4, 'simple packet')
          yield this.readSimplePacket(at, end, interfaces)
          break
      }
      at += length
    }
  }

  private readByteOrder(at: number): void {
    if (this.view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC) this.littleEndian = true
    else if (this.view.getUint32(at + 8, false) === BYTE_ORDER_MAGIC) this.littleEndian = false
    else throw this.error(at + 8, 'no byte-order magic in the section header')
  }

  private readInterface(at: number, end: number): InterfaceDescription {
    this.checkBody(at, end, 8, 'interface description')
    const description: InterfaceDescription = {
      linkType: this.u16(at + 8),
      snapLength: this.u32(at + 12),
      name: undefined,
      unitsPerSecond: 1_000_000n,
      offsetSeconds: 0n,
    }
    for (const { code, from, to } of this.options(at + 16, end)) {
      if (code === OptionCode.interfaceName) {
        description.name = Buffer.from(this.bytes.subarray(from, to)).toString('utf8')
      } else if (code === OptionCode.timeResolution && to - from >= 1) {
        const resolution = this.bytes[from]!
        const base = resolution & 0x80 ? 2n : 10n
        description.unitsPerSecond = base ** BigInt(resolution & 0x7f)
      } else if (code === OptionCode.timeOffset && to - from >= 8) {
        description.offsetSeconds = this.view.getBigInt64(from, this.littleEndian)
      }
    }
    return description
  }

  private readPacket(
    at: number,
    end: number,
    interfaces: InterfaceDescription[],
    interfaceIndex: number,
  ): CapturedPacket {
    const description = interfaces[interfaceIndex]
    if (!description)
      throw this.error(at + 8, `a packet of interface ${interfaceIndex}, which is not described`)
    const length = this.u32(at + 20)
    const dataAt = at + 28
    if (length > end - dataAt)
      throw this.error(at + 20, `a packet of ${length} bytes in a block with ${end - dataAt}`)
    let direction: CapturedPacket['direction']
    for (const { code, from, to } of this.options(dataAt + ((length + 3) & ~3), end)) {
      if (code !== OptionCode.packetFlags || to - from < 4) continue
      const bits = this.u32(from) & DIRECTION_BITS
      if (bits === DIRECTION_IN) direction = 'in'
      else if (bits === DIRECTION_OUT) direction = 'out'
    }
    const units = (BigInt(this.u32(at + 12)) << 32n) | BigInt(this.u32(at + 16))
    const { unitsPerSecond } = description
    return {
      time: {
        seconds: Number(units / unitsPerSecond + description.offsetSeconds),
        nanoseconds: Number(((units % unitsPerSecond) * 1_000_000_000n) / unitsPerSecond),
      },
      linkType: description.linkType,
      interfaceIndex,
      interfaceName: description.name,
      direction,
      originalLength: this.u32(at + 24),
      bytes: this.bytes.subarray(dataAt, dataAt + length),
      fileOffset: at,
    }
  }

  private readSimplePacket(
    at: number,
    end: number,
    interfaces: InterfaceDescription[],
  ): CapturedPacket {
    const description = interfaces[0]
    if (!description) throw this.error(at, 'a simple packet before any interface description')
    const originalLength = this.u32(at + 8)
    const dataAt = at + 12
    const length =
      description.snapLength === 0
        ? originalLength
        : Math.min(originalLength, description.snapLength)
    if (length > end - dataAt)
      throw this.error(at + 8, `a packet of ${length} bytes in a block with ${end - dataAt}`)
    return {
      time: undefined,
      linkType: description.linkType,
      interfaceIndex: 0,
      interfaceName: description.name,
      direction: undefined,
      originalLength,
      bytes: this.bytes.subarray(dataAt, dataAt + length),
      fileOffset: at,
    }
  }

  private *options(at: number, end: number): Generator<{ code: number; from: number; to: number }> {
    while (at + 4 <= end) {
      const code = this.u16(at)
      if (code === OptionCode.end) return
      const from = at + 4
      const to = from + this.u16(at + 2)
      if (to > end) throw this.error(at, `option ${code} of ${to - from} bytes leaves its block`)
      yield { code, from, to }
      at = from + ((to - from + 3) & ~3)
    }
  }

  private checkBody(at: number, end: number, bytes: number, what: string): void {
    if (end - (at + 8) < bytes)
      throw this.error(at + 4, `${what} block of ${end + 4 - at} bytes, ${bytes + 12} needed`)
  }

  private need(at: number, bytes: number, what: string): void {
    const left = this.bytes.length - at
    if (left < bytes)
      throw this.error(at, `the file ends inside ${what}: ${bytes} bytes needed, ${left} left`)
  }

  private u16(at: number): number {
    return this.view.getUint16(at, this.littleEndian)
  }
  private u32(at: number): number {
    return this.view.getUint32(at, this.littleEndian)
  }
  private error(at: number, problem: string): CaptureError {
    return new CaptureError(this.source, at, problem)
  }
}

const WRITE_BUFFER_BYTES = 1 << 17

export interface PcapWriterOptions {
  /** pcapng, the default, has interface names, directions and several link types; pcap has none of it. */
  format?: 'pcap' | 'pcapng'
  /** Called once by close(), after the last bytes. */
  onClose?: () => void
}

/**
 * Writes a capture with times in nanoseconds, in this machine's byte order (little-endian). Bytes are
 * handed to the sink when 128 KiB have come together, and by flush() and close().
 */
export class PcapWriter {
  private readonly format: 'pcap' | 'pcapng'
  private readonly onClose: (() => void) | undefined
  private readonly buffer = new Uint8Array(WRITE_BUFFER_BYTES)
  private readonly view = new DataView(this.buffer.buffer)
  private used = 0
  private interfaces = 0
  private pcapLinkType = -1
  private closed = false

  /** @param sink takes the file's bytes; they are only valid during the call */
  constructor(
    private readonly sink: (bytes: Uint8Array) => void,
    options: PcapWriterOptions = {},
  ) {
    this.format = options.format ?? 'pcapng'
    this.onClose = options.onClose
    if (this.format === 'pcapng') this.writeSectionHeader()
  }

  /** Makes or empties a file, `.pcap` in the pcap format, any other name in pcapng. */
  static create(path: string): PcapWriter {
    const fd = openSync(path, 'w')
    return new PcapWriter((bytes) => writeWhole(fd, bytes), {
      format: path.endsWith('.pcap') ? 'pcap' : 'pcapng',
      onClose: () => closeSync(fd),
    })
  }

  /**
   * Adds an interface and returns its index for write(). A pcap file has one link type for all and no
   * names: an interface of another link type is refused there.
   */
  addInterface(name: string, linkType: number): number {
    if (this.format === 'pcapng') this.writeInterface(name, linkType)
    else if (this.interfaces === 0) this.writePcapHeader(linkType)
    else if (linkType !== this.pcapLinkType)
      throw new Error(
        `interface ${name} has link type ${linkType}, but the pcap file has ${this.pcapLinkType} for all: write pcapng`,
      )
    return this.interfaces++
  }

  /** Appends a packet. Throws what the sink throws (a full disk). */
  write(
    packet: Uint8Array,
    time: CaptureTime,
    interfaceIndex = 0,
    direction?: 'in' | 'out',
    originalLength = packet.length,
  ): void {
    if (interfaceIndex >= this.interfaces)
      throw new RangeError(`capture interface ${interfaceIndex} has not been added`)
    if (packet.length > WRITE_BUFFER_BYTES - 64)
      throw new RangeError(`a packet of ${packet.length} bytes is too long for a capture`)
    if (this.used + packet.length + 64 > WRITE_BUFFER_BYTES) this.flush()
    if (this.format === 'pcap') {
      this.u32(time.seconds)
      this.u32(time.nanoseconds)
      this.u32(packet.length)
      this.u32(originalLength)
      this.raw(packet)
      return
    }
    const start = this.startBlock(BlockType.enhancedPacket)
    const nanoseconds = BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds)
    this.u32(interfaceIndex)
    this.u32(Number(nanoseconds >> 32n))
    this.u32(Number(nanoseconds & 0xffffffffn))
    this.u32(packet.length)
    this.u32(originalLength)
    this.raw(packet)
    this.pad()
    if (direction !== undefined) {
      this.u16(OptionCode.packetFlags)
      this.u16(4)
      this.u32(direction === 'in' ? DIRECTION_IN : DIRECTION_OUT)
      this.u32(OptionCode.end)
    }
    this.endBlock(start)
  }

  /** Hands what has been buffered to the sink. */
  flush(): void {
    if (this.used === 0) return
    const { used } = this
    this.used = 0
    this.sink(this.buffer.subarray(0, used))
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    this.flush()
    this.onClose?.()
  }

  private writePcapHeader(linkType: number): void {
    this.pcapLinkType = linkType
    this.u32(PCAP_NANOSECONDS)
    this.u16(2)
    this.u16(4)
    this.u32(0)
    this.u32(0)
    this.u32(MAX_PACKET_BYTES)
    this.u32(linkType)
  }

  private writeSectionHeader(): void {
    const start = this.startBlock(BlockType.sectionHeader)
    this.u32(BYTE_ORDER_MAGIC)
    this.u16(1)
    this.u16(0)
    // section length unknown
    this.u32(0xffffffff)
    this.u32(0xffffffff)
    this.endBlock(start)
  }

  private writeInterface(name: string, linkType: number): void {
    const nameBytes = Buffer.from(name, 'utf8').subarray(0, 255)
    const start = this.startBlock(BlockType.interfaceDescription)
    this.u16(linkType)
    this.u16(0)
    this.u32(MAX_PACKET_BYTES)
    this.u16(OptionCode.interfaceName)
    this.u16(nameBytes.length)
    this.raw(nameBytes)
    this.pad()
    this.u16(OptionCode.timeResolution)
    this.u16(1)
    this.raw(Uint8Array.of(9))
    this.pad()
    this.u32(OptionCode.end)
    this.endBlock(start)
  }

  private startBlock(type: number): number {
    // a block of packets has made sure of its room; the others have 320 bytes at most
    if (this.used + 320 > WRITE_BUFFER_BYTES && type !== BlockType.enhancedPacket) this.flush()
    const start = this.used
    this.u32(type)
    this.u32(0)
    return start
  }

  private endBlock(start: number): void {
    const length = this.used + 4 - start
    this.u32(length)
    this.view.setUint32(start + 4, length, true)
  }

  private u16(value: number): void {
    this.view.setUint16(this.used, value, true)
    this.used += 2
  }
  private u32(value: number): void {
    this.view.setUint32(this.used, value, true)
    this.used += 4
  }
  private raw(bytes: Uint8Array): void {
    this.buffer.set(bytes, this.used)
    this.used += bytes.length
  }
  private pad(): void {
    while (this.used % 4 !== 0) this.buffer[this.used++] = 0
  }
}

export interface PcapPortOptions {
  pool: FramePool
  /** The capture to receive; without one the port only transmits. */
  reader?: PcapReader
  /** Where transmitted packets go; without one they are counted and end. The port closes it. */
  writer?: PcapWriter
  linkLayer: LinkLayer
  mac?: Uint8Array
  /** Default `pcap`. */
  name?: string
  mtu?: number
}

/**
 * A port whose wire is a capture: it receives the packets of one file, in order and as fast as it is asked,
 * and writes what it transmits into another under the time of the packet received last. The whole capture
 * is checked when the port is made, so nothing is thrown later for its sake. Packets of another link layer
 * than the port's, and such as do not fit a frame, are counted in rxDropped.
 */
export class PcapPort implements PacketPort {
  readonly name: string
  readonly linkLayer: LinkLayer
  readonly mac: Uint8Array | undefined
  readonly interfaceIndex = 0
  readonly mtu: number
  readonly descriptors: readonly number[] = []
  readonly counters = newPortCounters()
  readonly transmitting = false
  private readonly pool: FramePool
  private readonly writer: PcapWriter | undefined
  private readonly writerInterface: number
  private readonly headroom: number
  private readonly packets: CapturedPacket[]
  private next = 0
  private time: CaptureTime = { seconds: 0, nanoseconds: 0 }

  /** Throws a CaptureError when the capture is malformed. */
  constructor(options: PcapPortOptions) {
    this.pool = options.pool
    this.name = options.name ?? 'pcap'
    this.linkLayer = options.linkLayer
    this.mac = options.mac
    this.mtu = options.mtu ?? 1500
    this.headroom = headroomOf(options.linkLayer)
    this.writer = options.writer
    this.writerInterface = this.writer?.addInterface(this.name, linkTypeOf(this.linkLayer)) ?? -1
    this.packets = options.reader ? [...options.reader] : []
  }

  /** How many packets of the capture are still to come. */
  get pending(): number {
    return this.packets.length - this.next
  }

  /** Time of the packet that comes next, for those who replay a capture at its own pace. */
  get nextTime(): CaptureTime | undefined {
    return this.packets[this.next]?.time
  }

  receive(batch: FrameBatch): number {
    let count = 0
    while (this.next < this.packets.length && !batch.isFull) {
      const packet = this.packets[this.next]!
      const { length } = packet.bytes
      if (
        linkLayerOf(packet.linkType) !== this.linkLayer ||
        length > this.pool.frameSize - this.headroom
      ) {
        this.counters.rxDropped++
        this.next++
        continue
      }
      const start = this.pool.take()
      if (start < 0) break
      this.next++
      if (packet.time) this.time = packet.time
      const offset = start + this.headroom
      this.pool.bytes.set(packet.bytes, offset)
      batch.push(offset, length)
      this.counters.rxBytes += length
      count++
    }
    this.counters.rxPackets += count
    return count
  }

  transmit(batch: FrameBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const offset = batch.offsets[i]!
      const length = batch.lengths[i]!
      const packet = this.pool.bytes.subarray(offset, offset + length)
      this.writer?.write(packet, this.time, this.writerInterface, 'out')
      this.counters.txBytes += length
      this.pool.give(offset)
    }
    this.counters.txPackets += batch.count
    batch.count = 0
  }

  service(): void {
    // nothing is ever under way
  }

  close(): void {
    this.writer?.close()
  }
}

function hex32(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0')
}

function writeWhole(fd: number, bytes: Uint8Array): void {
  let written = 0
  while (written < bytes.length) written += writeSync(fd, bytes, written)
}
