import type { MarkRule } from '../core/commands.js'
import { IcmpType } from '../wire/icmp.js'
import * as ipv4 from '../wire/ipv4.js'
import {
  Assembler,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  r7,
  r8,
  r9,
  r10,
  type Register,
} from './bpf/assembler.js'
import { Helper, XdpAction } from './bpf/objects.js'

/**
 * The XDP program: which frames of an interface belong to the director. Those go to the AF_XDP socket of
 * their queue; all others, and those of a queue without a socket, pass to the kernel's stack.
 *
 * Belonging is: addressed to the interface's own MAC address, IPv4, and
 *  - to a virtual service (its address and port, or its address if it takes any port), or
 *  - from a masqueraded real server's address and port, or
 *  - matched by a marking rule, or
 *  - an ICMP error about a packet of one of these kinds, in either direction, or
 *  - a fragment to or from an address of the first two kinds (its ports may be in another fragment).
 */
export interface XdpProgramOptions {
  /** The interface's Ethernet address, 6 bytes. */
  mac: Uint8Array
  /** Descriptor of the XSKMAP. */
  sockets: number
  /** Descriptors of hash maps with FlowKey keys: services, and real servers that answer through the director. */
  virtual: number
  replies: number
  /** Descriptor of a hash map of the addresses in both (4 bytes, as in the packet). */
  addresses: number
  /** Marking rules that hold for this interface; compiled into the code. */
  marks: readonly MarkRule[]
  /** What becomes of the director's frames that no socket takes. */
  withoutSocket?: number
}

/** Bytes of a key in `virtual` and `replies`. */
export const FLOW_KEY_BYTES = 8

/** Address (4 bytes) and port (2) as in the packet, protocol, zero. Port 0 stands for any port. */
export function flowKey(addressBe: number, port: number, protocol: number): Uint8Array {
  const key = new Uint8Array(FLOW_KEY_BYTES)
  const view = new DataView(key.buffer)
  view.setInt32(0, addressBe, true)
  view.setUint16(4, port)
  view.setUint8(6, protocol)
  return key
}

const ETHERNET_BYTES = 14
/** Offsets from the frame's start. */
const IP = ETHERNET_BYTES
const ETHER_TYPE = 12

/** What is looked up, on the stack: offsets from the frame pointer. */
const Flow = {
  sourceBe: -32,
  destinationBe: -28,
  sourcePortBe: -24,
  destinationPortBe: -22,
  protocol: -20,
}
const KEY = -8

/** Offsets in struct xdp_md. */
const Context = { data: 0, dataEnd: 4, receiveQueue: 16 }

const ctx = r6
const frame = r7
const end = r8

/** Assembles the program for one interface. */
export function xdpProgram(options: XdpProgramOptions): Uint8Array {
  const asm = new Assembler()
  asm.mov(ctx, r1)
  asm.load('u32', frame, ctx, Context.data)
  asm.load('u32', end, ctx, Context.dataEnd)
  passIfShorter(asm, frame, IP + ipv4.MIN_HEADER_BYTES)

  const mac = new DataView(options.mac.buffer, options.mac.byteOffset, 6)
  asm.load('u32', r1, frame, 0)
  asm.jumpIf32(r1, '!=', mac.getUint32(0, true), 'pass')
  asm.load('u16', r1, frame, 4)
  asm.jumpIf(r1, '!=', mac.getUint16(4, true), 'pass')
  asm.load('u16', r1, frame, ETHER_TYPE)
  asm.jumpIf(r1, '!=', 0x0008, 'pass')
  asm.load('u8', r1, frame, IP + ipv4.VERSION_IHL)
  asm.mov(r2, r1)
  asm.alu('and', r2, 0xf0)
  asm.jumpIf(r2, '!=', 0x40, 'pass')

  // r9: the transport header.
  headerBytes(asm, r1)
  asm.mov(r9, frame)
  asm.alu('add', r9, IP)
  asm.alu('add', r9, r1)
  asm.load('u16', r1, frame, IP + ipv4.FRAGMENT)
  asm.alu('and', r1, ipv4.FragmentBe.moreFragments | ipv4.FragmentBe.offsetMask)
  asm.jumpIf(r1, '!=', 0, 'fragment')
  asm.load('u8', r1, frame, IP + ipv4.PROTOCOL)
  asm.jumpIf(r1, '==', ipv4.IpProtocol.icmp, 'icmp')
  passIfNoPorts(asm, r1)
  passIfShorter(asm, r9, 4)
  storeFlow(asm, frame, IP, r9)
  matchFlow(asm, options)
  asm.jump('pass')

  asm.label('icmp')
  const inner = 8 // behind the ICMP header
  passIfShorter(asm, r9, inner + ipv4.MIN_HEADER_BYTES)
  asm.load('u8', r1, r9, 0)
  for (const type of [
    IcmpType.destinationUnreachable,
    IcmpType.sourceQuench,
    IcmpType.timeExceeded,
    IcmpType.parameterProblem,
  ])
    asm.jumpIf(r1, '==', type, 'icmp error')
  asm.jump('pass')
  asm.label('icmp error')
  asm.load('u8', r1, r9, inner + ipv4.PROTOCOL)
  passIfNoPorts(asm, r1)
  asm.load('u8', r1, r9, inner + ipv4.VERSION_IHL)
  headerBytes(asm, r1)
  asm.mov(r4, r9)
  asm.alu('add', r4, inner)
  asm.alu('add', r4, r1)
  passIfShorter(asm, r4, 4)
  storeFlow(asm, r9, inner, r4)
  matchFlow(asm, options)
  swapFlow(asm)
  matchFlow(asm, options)
  asm.jump('pass')

  asm.label('fragment')
  for (const offset of [ipv4.DESTINATION, ipv4.SOURCE]) {
    asm.load('u32', r1, frame, IP + offset)
    asm.store('u32', r10, KEY, r1)
    takeIfIn(asm, options.addresses)
  }

  asm.label('pass')
  asm.mov(r0, XdpAction.pass)
  asm.exit()

  asm.label('take')
  asm.loadMap(r1, options.sockets)
  asm.load('u32', r2, ctx, Context.receiveQueue)
  asm.mov(r3, options.withoutSocket ?? XdpAction.pass)
  asm.call(Helper.redirectMap)
  asm.exit()
  return asm.assemble()
}

/** Passes the frame unless there are so many bytes from the pointer on. Also proves it to the verifier. */
function passIfShorter(asm: Assembler, pointer: Register, bytes: number): void {
  asm.mov(r2, pointer)
  asm.alu('add', r2, bytes)
  asm.jumpIf(r2, '>', end, 'pass')
}

/** Turns the first byte of an IP header into the header's length. */
function headerBytes(asm: Assembler, register: Register): void {
  asm.alu('and', register, 0x0f)
  asm.alu('lsh', register, 2)
  asm.jumpIf(register, '<', ipv4.MIN_HEADER_BYTES, 'pass')
}

function passIfNoPorts(asm: Assembler, protocol: Register): void {
  const known = asm.freshLabel('has ports')
  for (const number of [ipv4.IpProtocol.tcp, ipv4.IpProtocol.udp, ipv4.IpProtocol.sctp])
    asm.jumpIf(protocol, '==', number, known)
  asm.jump('pass')
  asm.label(known)
}

/** Copies a packet's addresses, ports and protocol to the stack: its IP header, and its transport header. */
function storeFlow(asm: Assembler, base: Register, ip: number, transport: Register): void {
  asm.load('u32', r1, base, ip + ipv4.SOURCE)
  asm.store('u32', r10, Flow.sourceBe, r1)
  asm.load('u32', r1, base, ip + ipv4.DESTINATION)
  asm.store('u32', r10, Flow.destinationBe, r1)
  asm.load('u8', r1, base, ip + ipv4.PROTOCOL)
  asm.store('u32', r10, Flow.protocol, r1)
  asm.load('u16', r1, transport, 0)
  asm.store('u16', r10, Flow.sourcePortBe, r1)
  asm.load('u16', r1, transport, 2)
  asm.store('u16', r10, Flow.destinationPortBe, r1)
}

/** Source becomes destination: the packet on its way back. */
function swapFlow(asm: Assembler): void {
  const pairs = [
    ['u32', Flow.sourceBe, Flow.destinationBe],
    ['u16', Flow.sourcePortBe, Flow.destinationPortBe],
  ] as const
  for (const [size, a, b] of pairs) {
    asm.load(size, r1, r10, a)
    asm.load(size, r2, r10, b)
    asm.store(size, r10, a, r2)
    asm.store(size, r10, b, r1)
  }
}

/** Takes the frame if its flow goes to a service, comes from a real server, or is marked; else goes on. */
function matchFlow(asm: Assembler, options: XdpProgramOptions): void {
  takeIfEnd(asm, options.virtual, Flow.destinationBe, Flow.destinationPortBe)
  takeIfEnd(asm, options.replies, Flow.sourceBe, Flow.sourcePortBe)
  for (const rule of options.marks) takeIfMarked(asm, rule)
}

function takeIfEnd(asm: Assembler, map: number, address: number, port: number): void {
  asm.load('u32', r1, r10, address)
  asm.store('u32', r10, KEY, r1)
  asm.load('u16', r1, r10, port)
  asm.store('u16', r10, KEY + 4, r1)
  asm.load('u32', r1, r10, Flow.protocol)
  asm.store('u16', r10, KEY + 6, r1)
  takeIfIn(asm, map)
  asm.store('u16', r10, KEY + 4, 0)
  takeIfIn(asm, map)
}

/** Looks the key on the stack up. */
function takeIfIn(asm: Assembler, map: number): void {
  asm.loadMap(r1, map)
  asm.mov(r2, r10)
  asm.alu('add', r2, KEY)
  asm.call(Helper.mapLookupElement)
  asm.jumpIf(r0, '!=', 0, 'take')
}

function takeIfMarked(asm: Assembler, rule: MarkRule): void {
  const next = asm.freshLabel('next rule')
  if (rule.protocol !== undefined) {
    asm.load('u32', r1, r10, Flow.protocol)
    asm.jumpIf(r1, '!=', ipv4.IpProtocol[rule.protocol], next)
  }
  for (const [text, place] of [
    [rule.source, Flow.sourceBe],
    [rule.destination, Flow.destinationBe],
  ] as const) {
    if (text === undefined) continue
    const prefix = ipv4.parsePrefix(text)
    if (!prefix) throw new Error(`marking rule: '${text}' is no IPv4 prefix`)
    asm.load('u32', r1, r10, place)
    asm.alu32('and', r1, prefix.maskBe)
    asm.jumpIf32(r1, '!=', prefix.addressBe, next)
  }
  if (rule.ports !== undefined) {
    asm.load('u16', r1, r10, Flow.destinationPortBe)
    asm.swapBigEndian(r1, 16)
    asm.jumpIf(r1, '<', rule.ports[0], next)
    asm.jumpIf(r1, '>', rule.ports[1], next)
  }
  asm.jump('take')
  asm.label(next)
}
