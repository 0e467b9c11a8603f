/**
 * The machine that a scenario's director stands in, as far as packets meet it around IPVS: which ones its stack
 * lets in, which are its own, and where those go that are not.
 */
import type { Random } from '../port/random.js'
import * as icmp from '../wire/icmp.js'
import * as icmpv6 from '../wire/icmpv6.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import type { Side } from './scenario.js'
import {
  addressesInPacket,
  GATEWAY,
  GATEWAY_V6,
  isLocalMark,
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

/** Room for an error's headers in front of a packet. */
const HEADROOM = 64

/** Addresses of all that are on a link, of all machines or of all routers: the director is one of them. */
const toEverybody: ReadonlySet<string> = new Set([
  ...['255.255.255.255', '10.1.255.255', '10.2.255.255', '224.0.0.1'],
  // The last two are the routers' of each network.
  ...['ff02::1', 'ff02::2', 'fd01::', 'fd02::'],
])

export class Host {
  private readonly local: ReadonlySet<string>

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
      return ![source, destination].includes('::1') && !isMulticast(source)
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

  /** What leaves the machine because of a well-formed packet that is for another one. */
  forward(packet: Uint8Array, side: Side): RoutedPacket[] {
    const [source, destination] = addressesInPacket(packet) as [string, string]
    if (isMulticast(destination)) return []
    return destination.includes(':')
      ? this.forwardIpv6(packet, source, hopTo(destination), side)
      : this.forwardIpv4(packet, source, hopTo(destination))
  }

  private forwardIpv4(packet: Uint8Array, source: string, next: Hop): RoutedPacket[] {
    const { words, halfs, bytes, at } = scratch(packet)
    if (ipv4.ttl(bytes, at) > 1) {
      ipv4.decrementTtl(halfs, at)
      return [{ ...next, packet: bytes.slice(at, at + ipv4.totalLength(bytes, at)) }]
    }
    if (!icmp.mayAnswer(words, halfs, bytes, at)) return []
    const back = hopTo(source)
    const length = icmp.prependError(
      words,
      halfs,
      bytes,
      at,
      packet.length,
      icmp.IcmpType.timeExceeded,
      0,
      0,
      ipv4.parseAddress(links[back.side].address)!,
      this.random.next() & 0xffff,
      MTU,
    )
    const start = at - icmp.ERROR_HEADER_BYTES
    return [{ ...back, packet: bytes.slice(start, start + length) }]
  }

  private forwardIpv6(packet: Uint8Array, source: string, next: Hop, side: Side): RoutedPacket[] {
    const { words, halfs, bytes, at } = scratch(packet)
    const length = ipv6.totalLength(bytes, at)
    const refuse = (type: number, code: number): RoutedPacket[] => {
      const chain = new ipv6.HeaderChain()
      chain.walk(bytes, at, at + length)
      if (!icmpv6.mayAnswer(words, bytes, at, chain, at + length, type)) return []
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

/** Where a packet to this address leaves, and to whom. */
function hopTo(address: string): Hop {
  const side = onLinkSide(address)
  if (side) return { side, dmac: macOf(address) }
  return { side: sideNames[0]!, dmac: macOf(address.includes(':') ? GATEWAY_V6 : GATEWAY) }
}

function scratch(packet: Uint8Array): {
  words: Int32Array
  halfs: Uint16Array
  bytes: Uint8Array
  at: number
} {
  const memory = new ArrayBuffer((HEADROOM + packet.length + 3) & ~3)
  const bytes = new Uint8Array(memory)
  bytes.set(packet, HEADROOM)
  return { words: new Int32Array(memory), halfs: new Uint16Array(memory), bytes, at: HEADROOM }
}

function isMulticast(address: string): boolean {
  return address.includes(':') ? address.startsWith('ff') : /^2(2[4-9]|3\d)\./.test(address)
}
