/**
 * The two ends of a measurement as XDP programs, so that they cost little and are exact: the generator paces,
 * varies and stamps the frames that BPF_PROG_TEST_RUN sends; the receiver counts those that come through and
 * sorts their latencies. Each has a cell of memory that this side writes before a trial and reads after it.
 */
import {
  Assembler,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  r9,
  r10,
  type Register,
} from '../../src/kernel/bpf/assembler.js'
import { BpfMap, Helper, XdpAction, XdpProgram } from '../../src/kernel/bpf/objects.js'
import { EtherTypeBe } from '../../src/wire/ethernet.js'
import { IpProtocol } from '../../src/wire/ipv4.js'
import { LEAST_BYTES, Offset, type FrameTemplate } from './frame.js'

const KEY = new Uint8Array(4)

/** Offsets in struct xdp_md. */
const Context = { data: 0, dataEnd: 4 } as const

/** Times between frames are in 1/256 ns, so that a rate of some millions is met to a thousandth. */
const FRACTION_BITS = 8

/**
 * A generator that fell behind catches up: what it missed of a burst at once, the rest at no more than this multiple
 * of the rate. Whoever keeps it from its work by forwarding on its processor may so do it by the burst; whatever
 * else kept it does not overrun a director's rings.
 */
const CATCH_UP = 1.25
const BURST = 64

/** The generator's cell, all of 64 bits. */
const Generator = {
  /** When the next frame has its turn, and how long after it the one behind; 1/256 ns. */
  due: 0,
  interval: 8,
  /** The same at the rate of catching up, and how far that may run ahead of the clock; 1/256 ns. */
  allowed: 16,
  gap: 24,
  /** ns: nothing is sent from then on. */
  end: 32,
  /** Frames, counted from the first flow's number. */
  sent: 40,
  flowMask: 48,
  interface: 56,
  ipSum: 64,
  udpSum: 72,
  ahead: 80,
  /** The headers of the template, as far as the source port. */
  headers: 88,
} as const
const HEADER_WORDS = Math.ceil(LEAST_BYTES / 8)
const GENERATOR_BYTES = Generator.headers + 8 * HEADER_WORDS

/** A multiplier that leads through all flows in an order in which neighbours lie far apart. */
const STRIDE = 0x9e3779b1
const PORT_BITS = 10
const FIRST_PORT = 10_000
/** Half a source address and a port: 2^26. */
export const MOST_FLOWS = 1 << (16 + PORT_BITS)

const ctx = r6
const cell = r7
const frame = r8
const now = r9

/** What the generator is to do in one trial. */
export interface Load {
  template: FrameTemplate
  /** Index, in the namespace of who runs it, of the interface that the frames are transmitted by. */
  interfaceIndex: number
  packetsPerSecond: number
  /** A power of two. */
  flows: number
  /** Number of the first that is sent; 0 if absent. */
  firstFlow?: number
  startNs: bigint
  endNs: bigint
}

export class FrameGenerator {
  private readonly memory = BpfMap.cell('wire_generator', GENERATOR_BYTES)
  private readonly program = new XdpProgram(
    'wire_generator',
    generatorProgram(this.memory.descriptor),
  )
  private template: FrameTemplate | undefined
  private firstFlow = 0

  prepare(load: Load): void {
    const { flows, packetsPerSecond, template } = load
    if (!(flows >= 1 && flows <= MOST_FLOWS) || (flows & (flows - 1)) !== 0)
      throw new RangeError(`${flows} flows: must be a power of two, at most ${MOST_FLOWS}`)
    const bytes = new Uint8Array(GENERATOR_BYTES)
    const view = new DataView(bytes.buffer)
    const set = (offset: number, value: bigint): void => view.setBigUint64(offset, value, true)
    const fractions = (1e9 / packetsPerSecond) * 2 ** FRACTION_BITS
    set(Generator.due, load.startNs << BigInt(FRACTION_BITS))
    set(Generator.interval, BigInt(Math.round(fractions)))
    set(Generator.gap, BigInt(Math.round(fractions / CATCH_UP)))
    set(Generator.ahead, BigInt(Math.round((fractions / CATCH_UP) * BURST)))
    set(Generator.end, load.endNs)
    set(Generator.sent, BigInt(load.firstFlow ?? 0))
    set(Generator.flowMask, BigInt(flows - 1))
    set(Generator.interface, BigInt(load.interfaceIndex))
    set(Generator.ipSum, BigInt(template.ipSum))
    set(Generator.udpSum, BigInt(template.udpSum))
    bytes.set(template.bytes.subarray(0, LEAST_BYTES), Generator.headers)
    this.memory.set(KEY, bytes)
    this.template = template
    this.firstFlow = load.firstFlow ?? 0
  }

  /** Lets the program look at its clock so many times, which takes 50 ns each, and send what is due. */
  run(times: number, batchSize: number): void {
    this.program.runLive(this.template!.bytes, times, batchSize)
  }

  /** The frame that would be sent next, if one is due; else undefined. */
  next(): Uint8Array | undefined {
    const { action, frame } = this.program.change(this.template!.bytes)
    return action === XdpAction.redirect ? frame : undefined
  }

  /** Frames since it was prepared. */
  get sent(): number {
    const last = Number(viewOf(this.memory.get(KEY)!).getBigUint64(Generator.sent, true))
    return last - this.firstFlow
  }

  close(): void {
    this.program.close()
    this.memory.close()
  }
}

function generatorProgram(memory: number): Uint8Array {
  const asm = new Assembler()
  asm.mov(ctx, r1)
  loadCell(asm, cell, memory, 'drop')
  asm.call(Helper.monotonicNs)
  asm.mov(now, r0)
  asm.load('u64', r1, cell, Generator.end)
  asm.jumpIf(now, '>=', r1, 'drop')
  asm.mov(r1, now)
  asm.alu('lsh', r1, FRACTION_BITS)
  asm.load('u64', r2, cell, Generator.due)
  asm.jumpIf(r1, '<', r2, 'drop')
  asm.load('u64', r3, cell, Generator.allowed)
  asm.load('u64', r0, cell, Generator.ahead)
  asm.alu('add', r0, r1)
  asm.jumpIf(r3, '>', r0, 'drop')
  loadFrame(asm, 'drop')

  // Frames come back as whoever had them last has left them: with other addresses, a lesser TTL.
  for (const [size, bytes, first, last] of [
    ['u64', 8, 0, LEAST_BYTES - 8],
    ['u16', 2, LEAST_BYTES & ~7, LEAST_BYTES - 2],
  ] as const)
    for (let at = first; at <= last; at += bytes) {
      asm.load(size, r3, cell, Generator.headers + at)
      asm.store(size, frame, at, r3)
    }

  // Its turn has come: when the next one is due follows from the rate, not from when this one left.
  asm.load('u64', r3, cell, Generator.interval)
  asm.alu('add', r2, r3)
  asm.store('u64', cell, Generator.due, r2)
  asm.load('u64', r3, cell, Generator.allowed)
  asm.jumpIf(r3, '>=', r1, 'is ahead')
  asm.mov(r3, r1)
  asm.label('is ahead')
  asm.load('u64', r1, cell, Generator.gap)
  asm.alu('add', r3, r1)
  asm.store('u64', cell, Generator.allowed, r3)

  asm.load('u64', r1, cell, Generator.sent)
  asm.mov(r2, r1)
  asm.alu('add', r2, 1)
  asm.store('u64', cell, Generator.sent, r2)
  asm.alu32('mul', r1, STRIDE | 0)
  asm.load('u64', r2, cell, Generator.flowMask)
  asm.alu('and', r1, r2)
  // The flow's number: its lower bits in the port, the others in the address.
  asm.mov(r2, r1)
  asm.alu('rsh', r2, PORT_BITS)
  asm.alu('and', r2, 0xffff)
  asm.alu('and', r1, (1 << PORT_BITS) - 1)
  asm.alu('add', r1, FIRST_PORT)
  asm.swapBigEndian(r1, 16)
  asm.store('u16', frame, Offset.sourcePort, r1)
  asm.store('u16', frame, Offset.sourceLow, r2)
  asm.store('u64', frame, Offset.sentNs, now)

  asm.load('u64', r3, cell, Generator.ipSum)
  asm.alu('add', r3, r2)
  storeChecksum(asm, r3, Offset.ipChecksum)
  asm.load('u64', r3, cell, Generator.udpSum)
  asm.alu('add', r3, r2)
  asm.alu('add', r3, r1)
  for (const shift of [0, 16, 32, 48]) {
    asm.mov(r1, now)
    asm.alu('rsh', r1, shift)
    asm.alu('and', r1, 0xffff)
    asm.alu('add', r3, r1)
  }
  storeChecksum(asm, r3, Offset.udpChecksum)

  asm.load('u64', r1, cell, Generator.interface)
  asm.mov(r2, 0)
  asm.call(Helper.redirect)
  asm.exit()

  asm.label('drop')
  asm.mov(r0, XdpAction.drop)
  asm.exit()
  return asm.assemble()
}

/** Folds a sum, and writes its complement: all ones for zero, which in UDP would mean that there is none. */
function storeChecksum(asm: Assembler, sum: Register, offset: number): void {
  for (let i = 0; i < 2; i++) {
    asm.mov(r0, sum)
    asm.alu('rsh', r0, 16)
    asm.alu('and', sum, 0xffff)
    asm.alu('add', sum, r0)
  }
  asm.alu('xor', sum, 0xffff)
  const done = asm.freshLabel('checksum')
  asm.jumpIf(sum, '!=', 0, done)
  asm.mov(sum, 0xffff)
  asm.label(done)
  asm.store('u16', frame, offset, sum)
}

/** The receiver's cell, all of 64 bits: the mark of frames of this trial, and their latencies by bucket. */
const Receiver = { mark: 0, received: 8, largestNs: 16, buckets: 24 } as const

/** Buckets are as wide as 1/32 of their power of two, so that a latency is known to 3 %. */
const SUB_BITS = 5
const BUCKETS = 32 << SUB_BITS
const RECEIVER_BYTES = Receiver.buckets + 8 * BUCKETS

/** What came through in one trial. */
export interface Received {
  readonly packets: number
  readonly largestNs: number
  /** Frames by bucket of latency: see latencyAt. */
  readonly buckets: Float64Array
}

export class FrameReceiver {
  private readonly memory = BpfMap.cell('wire_receiver', RECEIVER_BYTES)
  readonly program: XdpProgram

  /** @param destinationBe only frames to this address count: that they have come through is not all there is to it */
  constructor(destinationBe: number) {
    this.program = new XdpProgram(
      'wire_receiver',
      receiverProgram(this.memory.descriptor, destinationBe),
    )
  }

  /** Counts frames with this mark, from nothing. */
  start(mark: number): void {
    const bytes = new Uint8Array(RECEIVER_BYTES)
    viewOf(bytes).setUint32(Receiver.mark, mark, true)
    this.memory.set(KEY, bytes)
  }

  read(): Received {
    const view = viewOf(this.memory.get(KEY)!)
    const at = (offset: number): number => Number(view.getBigUint64(offset, true))
    return {
      packets: at(Receiver.received),
      largestNs: at(Receiver.largestNs),
      buckets: Float64Array.from({ length: BUCKETS }, (_, i) => at(Receiver.buckets + 8 * i)),
    }
  }

  close(): void {
    this.program.close()
    this.memory.close()
  }
}

/** The latency in ns that a share (0.99 for p99) of the frames, one at least, did not exceed: the middle of its bucket. */
export function latencyAt({ packets, buckets, largestNs }: Received, share: number): number {
  let left = Math.ceil(packets * share)
  for (let i = 0; i < buckets.length; i++) {
    left -= buckets[i]!
    if (left <= 0 && buckets[i]! > 0) return Math.min(middleOf(i), largestNs)
  }
  return largestNs
}

/** Buckets below 2^SUB_BITS hold a nanosecond each; from there on every power of two has 2^SUB_BITS of them. */
function middleOf(bucket: number): number {
  const sub = bucket & ((1 << SUB_BITS) - 1)
  const power = bucket >> SUB_BITS
  if (power === 0) return sub
  return ((1 << SUB_BITS) + sub + 0.5) * 2 ** (power - 1)
}

function receiverProgram(memory: number, destinationBe: number): Uint8Array {
  const asm = new Assembler()
  asm.mov(ctx, r1)
  loadFrame(asm, 'pass')
  asm.load('u16', r1, frame, Offset.etherType)
  asm.jumpIf(r1, '!=', EtherTypeBe.ipv4, 'pass')
  asm.load('u8', r1, frame, Offset.protocol)
  asm.jumpIf(r1, '!=', IpProtocol.udp, 'pass')
  asm.load('u32', r1, frame, Offset.destination)
  asm.jumpIf32(r1, '!=', destinationBe, 'pass')
  loadCell(asm, cell, memory, 'pass')
  // What is still coming of an earlier trial is not counted.
  asm.load('u32', r1, frame, Offset.mark)
  asm.load('u32', r2, cell, Receiver.mark)
  asm.jumpIf32(r1, '!=', r2, 'pass')
  asm.load('u64', r1, cell, Receiver.received)
  asm.alu('add', r1, 1)
  asm.store('u64', cell, Receiver.received, r1)
  asm.call(Helper.monotonicNs)
  asm.load('u64', r1, frame, Offset.sentNs)
  asm.alu('sub', r0, r1)
  asm.load('u64', r1, cell, Receiver.largestNs)
  asm.jumpIf(r0, '<=', r1, 'no largest')
  asm.store('u64', cell, Receiver.largestNs, r0)
  asm.label('no largest')

  // Its bucket: r1 becomes the power of two less SUB_BITS, found by halving; r0 is shifted to SUB_BITS + 1 bits.
  asm.mov(r1, 0)
  for (const bits of [16, 8, 4, 2, 1]) {
    const smaller = asm.freshLabel('smaller')
    asm.mov(r2, r0)
    asm.alu('rsh', r2, bits + SUB_BITS)
    asm.jumpIf(r2, '==', 0, smaller)
    asm.alu('rsh', r0, bits)
    asm.alu('add', r1, bits)
    asm.label(smaller)
  }
  // With its leading bit, 32 to 63 count on from the power's first bucket; below 32 there is none.
  asm.alu('lsh', r1, SUB_BITS)
  asm.alu('add', r1, r0)
  asm.alu('and', r1, BUCKETS - 1)
  asm.alu('lsh', r1, 3)
  asm.alu('add', cell, r1)
  asm.load('u64', r1, cell, Receiver.buckets)
  asm.alu('add', r1, 1)
  asm.store('u64', cell, Receiver.buckets, r1)
  asm.mov(r0, XdpAction.drop)
  asm.exit()

  asm.label('pass')
  asm.mov(r0, XdpAction.pass)
  asm.exit()
  return asm.assemble()
}

function loadCell(asm: Assembler, into: Register, memory: number, otherwise: string): void {
  asm.store('u32', r10, -4, 0)
  asm.loadMap(r1, memory)
  asm.mov(r2, r10)
  asm.alu('add', r2, -4)
  asm.call(Helper.mapLookupElement)
  asm.jumpIf(r0, '==', 0, otherwise)
  asm.mov(into, r0)
}

/** Where the frame begins, once it is long enough for all that is read and written of it. */
function loadFrame(asm: Assembler, otherwise: string): void {
  asm.load('u32', frame, ctx, Context.data)
  asm.load('u32', r3, ctx, Context.dataEnd)
  asm.mov(r0, frame)
  asm.alu('add', r0, LEAST_BYTES)
  asm.jumpIf(r0, '>', r3, otherwise)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
