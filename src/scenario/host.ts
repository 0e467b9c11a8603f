/**
 * The machine that a scenario's director stands in, as far as packets meet it around IPVS: which ones its stack
 * lets in, which are its own, and where those go that are not.
 */
import { IpOptions, MAX_OPTION_BYTES, type OptionsOwner } from '../core/ip-options.js'
import type { Random } from '../port/random.js'
import * as icmp from '../wire/icmp.js'
import * as icmpv6 from '../wire/icmpv6.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import type { Side } from './scenario.js'
import {
  addressesInPacket,
  broadcastAddresses,
  GATEWAY,
  GATEWAY_V6,
  isLocalMark,
  isOpenedTunnel,
  links,
  macOf,
  MTU,
  onLinkSide,
  ownAddresses,
  sideNames,
} from './wiring.js'

export interface RoutedPacket {
  side: Side
  /** The next hop's Ethernet address. */
  dmac: string
  packet: Uint8Array
}

const HOP_BY_HOP = 0

/** Room for an error's headers in front of a packet. */
const HEADROOM = 72

/** Addresses of all that are on a link, of all machines or of all routers: the director is one of them. */
const toEverybody: ReadonlySet<string> = new Set([
  ...['255.255.255.255', '224.0.0.1', ...broadcastAddresses],
  // The last two are the routers' of each network.
  ...['ff02::1', 'ff02::2', 'fd01::', 'fd02::'],
])

export class Host {
  private readonly local: ReadonlySet<string>
  private readonly options = new IpOptions()
  private readonly errorOptions = new Uint8Array(MAX_OPTION_BYTES)
  private readonly optionsOwner: OptionsOwner = {
    isUnicast: (addressBe) => {
      const address = ipv4.formatAddress(addressBe)
      return !(
        this.local.has(address) ||
        toEverybody.has(address) ||
        /^(127|22[4-9]|23\d)\./.test(address) ||
        address === '0.0.0.0'
      )
    },
    // What the time is, no comparison asks for.
    millisecondsOfDay: () => 0,
  }

  /** @param virtual addresses of virtual services */
  constructor(
    virtual: ReadonlySet<string>,
    private readonly random: Random,
  ) {
    this.local = new Set([...ownAddresses, ...virtual])
  }

  /**
   * Whether the stack lets a packet in at all. What comes from the machine's own IPv4 address, from many, or
   * goes to nowhere is dropped where routes are looked up, before IPVS. Whether the packet is well-formed is
   * the director's to say.
   */
  admits(packet: Uint8Array): boolean {
    const [source, destination] = addressesInPacket(packet)
    if (source === undefined || destination === undefined) return true
    if (destination.includes(':'))
      return (
        ![source, destination].includes('::1') &&
        !isMulticast(source) &&
        hasWholeHopByHopHeader(packet)
      )
    if (destination === '0.0.0.0' || destination.startsWith('127.')) return false
    if (source === '0.0.0.0') return destination === '255.255.255.255'
    return !(
      /^(127|22[4-9]|23\d)\./.test(source) ||
      this.local.has(source) ||
      toEverybody.has(source)
    )
  }

  /** Whether a packet with this mark is the machine's own. */
  isLocal(packet: Uint8Array, mark: number): boolean {
    const [, destination] = addressesInPacket(packet)
    if (destination === undefined) return false
    return isLocalMark(mark) || this.local.has(destination) || toEverybody.has(destination)
  }

  /** The packet in a tunnel that the machine opens; undefined when it is none. */
  open(packet: Uint8Array): Uint8Array | undefined {
    if (!isOpenedTunnel(packet)) return undefined
    const inner = packet.subarray((packet[0]! & 15) * 4, (packet[2]! << 8) | packet[3]!)
    return inner.length >= ipv4.MIN_HEADER_BYTES && inner[0]! >> 4 === 4 ? inner : undefined
  }

  /**
   * What leaves the machine because of a well-formed packet that is for another one; undefined when that is an error
   * for the machine itself, as whose the packet came: of IPv6, the stack lets such in.
   */
  forward(packet: Uint8Array, side: Side): RoutedPacket[] | undefined {
    const [source, destination] = addressesInPacket(packet) as [string, string]
    if (isMulticast(destination)) return []
    return destination.includes(':')
      ? this.forwardIpv6(packet, source, hopTo(destination), side)
      : this.forwardIpv4(packet, source, hopTo(destination))
  }

  private forwardIpv4(packet: Uint8Array, source: string, next: Hop): RoutedPacket[] {
    const memory = scratch(packet)
    const { halfs, bytes, at } = memory
    if (this.readOptions(memory, source, undefined) !== 0) return []
    if (ipv4.ttl(bytes, at) <= 1)
      return this.answer(memory, packet.length, source, icmp.IcmpType.timeExceeded, 0, undefined)
    ipv4.decrementTtl(halfs, at)
    const own = ipv4.parseAddress(links[next.side].address)!
    if (ipv4.headerBytes(bytes, at) > ipv4.MIN_HEADER_BYTES) this.options.passOn(memory, at, own)
    return [{ ...next, packet: bytes.slice(at, at + ipv4.totalLength(bytes, at)) }]
  }

  /**
   * What the stack sends instead of a well-formed IPv4 packet by whose options it ends; undefined when it does not end
   * by them.
   */
  refuseOptions(packet: Uint8Array, isLocal: boolean): RoutedPacket[] | undefined {
    if (packet[0]! >> 4 !== 4 || packet[0]! === 0x45) return undefined
    const [source, destination] = addressesInPacket(packet) as [string, string]
    const memory = scratch(packet)
    const own = isLocal ? destination : undefined
    const broken = this.readOptions(memory, source, own)
    if (broken === 0) return this.options.hasSourceRoute ? [] : undefined
    const { parameterProblem } = icmp.IcmpType
    return this.answer(memory, packet.length, source, parameterProblem, broken, own)
  }

  /** @returns where they are broken, 0 when they are not */
  private readOptions({ bytes, at }: Scratch, source: string, own: string | undefined): number {
    const headerBytes = ipv4.headerBytes(bytes, at)
    const ownBe = ipv4.parseAddress(own ?? links[hopTo(source).side].address)!
    return this.options.read(bytes, at, headerBytes, ownBe, this.optionsOwner)
  }

  /** An ICMP error about a packet whose options have been read. @param own that it was sent to */
  private answer(
    { words, halfs, bytes, at }: Scratch,
    available: number,
    source: string,
    type: number,
    restBe: number,
    own: string | undefined,
  ): RoutedPacket[] {
    if (!icmp.mayAnswer(words, halfs, bytes, at)) return []
    // A mark alone makes no address the machine's own.
    if (own !== undefined && !this.local.has(own)) return []
    const back = hopTo(source)
    const ownBe = ipv4.parseAddress(own ?? links[back.side].address)!
    const { errorOptions } = this
    const optionBytes = this.options.echo(bytes, at, ownBe, this.optionsOwner, errorOptions)
    if (optionBytes < 0) return []
    const identification = this.random.next() & 0xffff
    const options = errorOptions.subarray(0, optionBytes)
    const length = icmp.prependError(
      words,
      halfs,
      bytes,
      at,
      available,
      type,
      0,
      restBe,
      ownBe,
      identification,
      MTU,
      options,
    )
    const start = at - icmp.ERROR_HEADER_BYTES - optionBytes
    return [{ ...back, packet: bytes.slice(start, start + length) }]
  }

  private forwardIpv6(
    packet: Uint8Array,
    source: string,
    next: Hop,
    side: Side,
  ): RoutedPacket[] | undefined {
    const { words, halfs, bytes, at } = scratch(packet)
    const length = ipv6.totalLength(bytes, at)
    const refuse = (type: number, code: number): RoutedPacket[] | undefined => {
      const chain = new ipv6.HeaderChain()
      chain.walk(bytes, at, at + length)
      if (!icmpv6.mayAnswer(words, bytes, at, chain, at + length, type)) return []
      if (this.local.has(source)) return undefined
      const back = hopTo(source)
      const own = ipv6.parseAddress(links[side].addressV6)!
      const errorLength = icmpv6.prependError(
        words,
        halfs,
        bytes,
        at,
        length,
        type,
        code,
        0,
        own,
        0,
      )
      const start = at - icmpv6.ERROR_HEADER_BYTES
      return [{ ...back, packet: bytes.slice(start, start + errorLength) }]
    }
    if (bytes[at + ipv6.HOP_LIMIT]! <= 1)
      return refuse(icmpv6.Icmpv6Type.timeExceeded, icmpv6.HOP_LIMIT_EXCEEDED)
    if (next.side !== side) {
      if (source === '::') return []
      if (/^fe[89ab]/.test(source))
        return refuse(icmpv6.Icmpv6Type.destinationUnreachable, icmpv6.UnreachableCode.beyondScope)
    }
    bytes[at + ipv6.HOP_LIMIT]!--
    return [{ ...next, packet: bytes.slice(at, at + length) }]
  }
}

interface Hop {
  side: Side
  dmac: string
}

/** Hop-by-hop options are the stack's to read, in front of all else: without them the packet ends. */
function hasWholeHopByHopHeader(packet: Uint8Array): boolean {
  if (packet[ipv6.NEXT_HEADER] !== HOP_BY_HOP) return true
  const payloadBytes = (packet[4]! << 8) | packet[5]!
  // A length of 0 is that of a jumbogram, which those options tell.
  const available = payloadBytes === 0 ? packet.length - ipv6.HEADER_BYTES : payloadBytes
  return available >= 8 && available >= (packet[ipv6.HEADER_BYTES + 1]! + 1) * 8
}

/** Where a packet to this address leaves, and to whom. */
function hopTo(address: string): Hop {
  const side = onLinkSide(address)
  if (side) return { side, dmac: macOf(address) }
  return { side: sideNames[0]!, dmac: macOf(address.includes(':') ? GATEWAY_V6 : GATEWAY) }
}

/** A packet in memory of its own, with room for an error's headers in front. */
interface Scratch {
  words: Int32Array
  halfs: Uint16Array
  bytes: Uint8Array
  /** Byte offset of the packet. */
  at: number
}

function scratch(packet: Uint8Array): Scratch {
  const memory = new ArrayBuffer((HEADROOM + packet.length + 3) & ~3)
  const bytes = new Uint8Array(memory)
  bytes.set(packet, HEADROOM)
  return { words: new Int32Array(memory), halfs: new Uint16Array(memory), bytes, at: HEADROOM }
}

function isMulticast(address: string): boolean {
  return address.includes(':') ? address.startsWith('ff') : /^2(2[4-9]|3\d)\./.test(address)
}
