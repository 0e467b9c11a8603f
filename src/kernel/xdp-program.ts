import type { MarkRule } from '../core/commands.js'
import * as ethernet from '../wire/ethernet.js'
import * as icmp from '../wire/icmp.js'
import * as ipv4 from '../wire/ipv4.js'
import { Assembler, r0, r1, r2, r3, r6, r7, r8, r9, r10, type Register } from './bpf/assembler.js'
import { Helper, XdpAction } from './bpf/objects.js'

/**
 * The XDP program: which frames of an interface belong to the director. Those go to the AF_XDP socket of
 * their queue; all others, and those of a queue without a socket, pass to the kernel's stack.
 *
 * Belonging is: addressed to the interface's own MAC address, IPv4 without a VLAN tag (one that the device
 * has taken off is not seen: see `ethtool -K DEV rxvlan off`), and
 *  - TCP, UDP or SCTP to a virtual service (its address and port, or its address if it takes any port), or
 *  - the same from a masqueraded real server's address and port, or
 *  - the same matched by a marking rule, or
 *  - an ICMP error about such a packet, in either direction (about the way back of what is marked), or about
 *    a tunnel with such a packet inside, or
 *  - a fragment whose address and protocol have a service or real server (its port may be in another
 *    fragment), or that a marking rule without ports matches.
 */
export interface XdpProgramOptions {
  /** The interface's Ethernet address, 6 bytes. */
  mac: Uint8Array
  /** Descriptor of the XSKMAP. */
  sockets: number
  /** Descriptors of hash maps by flow key: services, and real servers that answer through the director. */
  virtual: number
  replies: number
  /** Marking rules that hold for this interface; compiled into the code. */
  marks: readonly MarkRule[]
}

/** More would not fit into the reach of a jump. */
export const MAX_MARK_RULES = 2000

/** Bytes of a key in `virtual` and `replies`. */
export const FLOW_KEY_BYTES = 8

/** What a key says: a port (0 is any), or that the address has some port of the protocol, for fragments. */
const KeyKind = { port: 0, somePort: 1 } as const

/** The key of an address and port: both as in the packet, protocol, kind. Port 0 stands for any port. */
export function portKey(addressBe: number, port: number, protocol: number): Uint8Array {
  return flowKey(addressBe, port, protocol, KeyKind.port)
}

/** The key by which fragments are found; every address in a map needs it beside its port keys. */
export function fragmentKey(addressBe: number, protocol: number): Uint8Array {
  return flowKey(addressBe, 0, protocol, KeyKind.somePort)
}

function flowKey(addressBe: number, port: number, protocol: number, kind: number): Uint8Array {
  const key = new Uint8Array(FLOW_KEY_BYTES)
  const view = new DataView(key.buffer)
  view.setInt32(0, addressBe, true)
  view.setUint16(4, port)
  view.setUint8(6, protocol)
  view.setUint8(7, kind)
  return key
}

/** Offset of the IP header from the frame's start. */
const IP = ethernet.HEADER_BYTES

/** The flow on the stack: offsets from the frame pointer. */
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
/** The transport header, or what an ICMP error quotes. */
const behind = r9

/** Assembles the program for one interface. Throws for marking rules that are too many or make no sense. */
export function xdpProgram(options: XdpProgramOptions): Uint8Array {
  const { marks } = options
  if (marks.length > MAX_MARK_RULES)
    throw new RangeError(
      `${marks.length} marking rules hold for one interface: an XDP program has room for ${MAX_MARK_RULES}`,
    )
  const asm = new Assembler()
  asm.mov(ctx, r1)
  asm.load('u32', frame, ctx, Context.data)
  asm.load('u32', end, ctx, Context.dataEnd)
  passIfShorter(asm, frame, IP + ipv4.MIN_HEADER_BYTES)
  passIfNotForUs(asm, options.mac)
  asm.load('u16', r1, frame, ethernet.ETHER_TYPE)
  asm.jumpIf(r1, '!=', ethernet.EtherTypeBe.ipv4, 'pass')
  asm.mov(behind, frame)
  asm.alu('add', behind, IP)
  skipIpHeader(asm, frame, IP)
  asm.load('u16', r1, frame, IP + ipv4.FRAGMENT)
  asm.jumpIf(r1, '&', ipv4.FragmentBe.moreFragments | ipv4.FragmentBe.offsetMask, 'fragment')
  asm.load('u8', r1, frame, IP + ipv4.PROTOCOL)
  asm.jumpIf(r1, '==', ipv4.IpProtocol.icmp, 'icmp')
  passIfNoPorts(asm, r1)
  storeAddresses(asm, frame, IP)
  storePorts(asm)
  asm.jump('flow')

  asm.label('icmp')
  passIfShorter(asm, behind, icmp.HEADER_BYTES + ipv4.MIN_HEADER_BYTES)
  asm.load('u8', r1, behind, 0)
  for (const type of [
    icmp.IcmpType.destinationUnreachable,
    icmp.IcmpType.sourceQuench,
    icmp.IcmpType.timeExceeded,
    icmp.IcmpType.parameterProblem,
  ])
    asm.jumpIf(r1, '==', type, 'icmp error')
  asm.jump('pass')
  asm.label('icmp error')
  asm.alu('add', behind, icmp.HEADER_BYTES)
  skipQuotedHeader(asm)
  asm.jumpIf(r1, '==', ipv4.IpProtocol.ipip, 'tunnel error')
  passIfNoPorts(asm, r1)
  storePorts(asm)
  takeIfEnd(asm, options.virtual, Flow.destinationBe, Flow.destinationPortBe)
  takeIfEnd(asm, options.replies, Flow.sourceBe, Flow.sourcePortBe)
  // From here on as the packet that would answer the quoted one.
  swapFlow(asm)
  asm.jump('flow')

  // What went into a tunnel of the director's went towards a service.
  asm.label('tunnel error')
  passIfShorter(asm, behind, ipv4.MIN_HEADER_BYTES)
  skipQuotedHeader(asm)
  passIfNoPorts(asm, r1)
  storePorts(asm)
  asm.jump('flow')

  asm.label('fragment')
  asm.load('u8', r1, frame, IP + ipv4.PROTOCOL)
  passIfNoPorts(asm, r1)
  storeAddresses(asm, frame, IP)
  asm.store('u32', r10, Flow.sourcePortBe, 0)
  takeFragmentIfEnd(asm, options.virtual, Flow.destinationBe)
  takeFragmentIfEnd(asm, options.replies, Flow.sourceBe)
  asm.jump('marks')

  asm.label('flow')
  takeIfEnd(asm, options.virtual, Flow.destinationBe, Flow.destinationPortBe)
  takeIfEnd(asm, options.replies, Flow.sourceBe, Flow.sourcePortBe)
  asm.label('marks')
  for (const rule of marks) takeIfMarked(asm, rule)

  asm.label('pass')
  asm.mov(r0, XdpAction.pass)
  asm.exit()

  asm.label('take')
  asm.loadMap(r1, options.sockets)
  asm.load('u32', r2, ctx, Context.receiveQueue)
  asm.mov(r3, XdpAction.pass) // without a socket there
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

function passIfNotForUs(asm: Assembler, mac: Uint8Array): void {
  const view = new DataView(mac.buffer, mac.byteOffset, 6)
  asm.load('u32', r1, frame, 0)
  asm.jumpIf32(r1, '!=', view.getUint32(0, true), 'pass')
  asm.load('u16', r1, frame, 4)
  asm.jumpIf(r1, '!=', view.getUint16(4, true), 'pass')
}

/** Moves `behind`, which is at an IP header that `base` and offset point to as well, behind that header. */
function skipIpHeader(asm: Assembler, base: Register, offset: number): void {
  asm.load('u8', r1, base, offset + ipv4.VERSION_IHL)
  asm.mov(r2, r1)
  asm.alu('and', r2, 0xf0)
  asm.jumpIf(r2, '!=', 0x40, 'pass')
  asm.alu('and', r1, 0x0f)
  asm.alu('lsh', r1, 2)
  asm.jumpIf(r1, '<', ipv4.MIN_HEADER_BYTES, 'pass')
  asm.alu('add', behind, r1)
}

/** `behind` is at a quoted IP header: copies its addresses, moves on behind it, leaves its protocol in r1. */
function skipQuotedHeader(asm: Assembler): void {
  asm.load('u16', r1, behind, ipv4.FRAGMENT)
  asm.jumpIf(r1, '&', ipv4.FragmentBe.offsetMask, 'pass')
  storeAddresses(asm, behind, 0)
  skipIpHeader(asm, behind, 0)
  asm.load('u32', r1, r10, Flow.protocol)
}

function passIfNoPorts(asm: Assembler, protocol: Register): void {
  const known = asm.freshLabel('has ports')
  for (const number of [ipv4.IpProtocol.tcp, ipv4.IpProtocol.udp, ipv4.IpProtocol.sctp])
    asm.jumpIf(protocol, '==', number, known)
  asm.jump('pass')
  asm.label(known)
}

/** Copies addresses and protocol of an IP header to the stack. */
function storeAddresses(asm: Assembler, base: Register, offset: number): void {
  asm.load('u32', r1, base, offset + ipv4.SOURCE)
  asm.store('u32', r10, Flow.sourceBe, r1)
  asm.load('u32', r1, base, offset + ipv4.DESTINATION)
  asm.store('u32', r10, Flow.destinationBe, r1)
  asm.load('u8', r1, base, offset + ipv4.PROTOCOL)
  asm.store('u32', r10, Flow.protocol, r1)
}

/** Copies the ports that `behind` is at to the stack. */
function storePorts(asm: Assembler): void {
  passIfShorter(asm, behind, 4)
  asm.load('u16', r1, behind, 0)
  asm.store('u16', r10, Flow.sourcePortBe, r1)
  asm.load('u16', r1, behind, 2)
  asm.store('u16', r10, Flow.destinationPortBe, r1)
}

/** Source becomes destination. */
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

/** Takes the frame if the map has this address and port, or the address with any port; else goes on. */
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

/** The same for a fragment, by address and protocol. */
function takeFragmentIfEnd(asm: Assembler, map: number, address: number): void {
  asm.load('u32', r1, r10, address)
  asm.store('u32', r10, KEY, r1)
  asm.load('u32', r1, r10, Flow.protocol)
  asm.alu('or', r1, KeyKind.somePort << 8)
  asm.store('u16', r10, KEY + 4, 0)
  asm.store('u16', r10, KEY + 6, r1)
  takeIfIn(asm, map)
}

/** Takes the frame if the map has the key on the stack. */
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
