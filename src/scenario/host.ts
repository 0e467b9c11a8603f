/**
 * The machine that a scenario's director stands in, as far as packets meet it that IPVS declines: what is
 * addressed to the machine ends in its stack, everything else is routed on as a router does.
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
} from './wiring.js'

export interface RoutedPacket {
  side: Side
  /** The next hop's Ethernet address. */
  dmac: string
  packet: Uint8Array
}

/** Room for an error's headers in front of a packet. */
const HEADROOM = 64

export class Host {
  private readonly local: ReadonlySet<string>

  /** @param virtual addresses of virtual services */
  constructor(
    virtual: ReadonlySet<string>,
    private readonly random: Random,
  ) {
    this.local = new Set([...ownAddresses, ...virtual])
  }

  /** Whether a packet with this mark is the machine's own. */
  isLocal(packet: Uint8Array, mark: number): boolean {
    const [, destination] = addressesInPacket(packet)
    if (destination === undefined) return false
    return isLocalMark(mark) || this.local.has(destination) || isForAll(destination)
  }

  /** A packet that IPVS has declined: taken by the machine's stack, or what leaves the machine because of it. */
  receive(packet: Uint8Array, mark: number): 'local' | RoutedPacket[] {
    const [source, destination] = addressesInPacket(packet)
    if (source === undefined || destination === undefined || !isSound(packet)) return []
    if (this.local.has(source) || isMartian(source) || isLoopback(destination)) return []
    if (this.isLocal(packet, mark)) return 'local'
    if (isMulticast(destination)) return []
    return packet[0]! >> 4 === 4
      ? this.routeIpv4(packet, source, destination)
      : this.routeIpv6(packet, source, destination)
  }

  private routeIpv4(packet: Uint8Array, source: string, destination: string): RoutedPacket[] {
    const { words, halfs, bytes, at } = scratch(packet)
    if (ipv4.ttl(bytes, at) > 1) {
      ipv4.decrementTtl(halfs, at)
      return [hop(destination, bytes.slice(at, at + packet.length))]
    }
    if (!icmp.mayAnswer(words, halfs, bytes, at)) return []
    const back = hop(source, packet)
    const length = icmp.prependError(
      words,
      halfs,
      bytes,
      at,
      icmp.IcmpType.timeExceeded,
      0,
      0,
      ipv4.parseAddress(links[back.side].address)!,
      this.random.next() & 0xffff,
      MTU,
    )
    const start = at - icmp.ERROR_HEADER_BYTES
    return length === 0 ? [] : [{ ...back, packet: bytes.slice(start, start + length) }]
  }

  private routeIpv6(packet: Uint8Array, source: string, destination: string): RoutedPacket[] {
    const { words, halfs, bytes, at } = scratch(packet)
    if (bytes[at + ipv6.HOP_LIMIT]! > 1) {
      bytes[at + ipv6.HOP_LIMIT]!--
      return [hop(destination, bytes.slice(at, at + packet.length))]
    }
    const back = hop(source, packet)
    const length = icmpv6.prependError(
      words,
      halfs,
      bytes,
      at,
      packet.length,
      icmpv6.Icmpv6Type.timeExceeded,
      icmpv6.HOP_LIMIT_EXCEEDED,
      0,
      ipv6.parseAddress(links[back.side].addressV6)!,
      0,
    )
    const start = at - icmpv6.ERROR_HEADER_BYTES
    return [{ ...back, packet: bytes.slice(start, start + length) }]
  }
}

/** Where a packet to this address leaves, and to whom. */
function hop(address: string, packet: Uint8Array): RoutedPacket {
  const side = onLinkSide(address)
  const gateway = address.includes(':') ? GATEWAY_V6 : GATEWAY
  return { side: side ?? 'client', dmac: macOf(side ? address : gateway), packet }
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

/** Whether the machine's IP layer takes the packet at all. */
function isSound(packet: Uint8Array): boolean {
  const { words, halfs, bytes, at } = scratch(packet)
  return packet[0]! >> 4 === 4
    ? ipv4.validate(words, halfs, bytes, at, packet.length) === ipv4.Malformed.none
    : ipv6.validate(bytes, at, packet.length) === ipv6.Malformed.none
}

function isForAll(address: string): boolean {
  return (
    address === '255.255.255.255' ||
    address === '10.1.255.255' ||
    address === '10.2.255.255' ||
    address === '224.0.0.1' ||
    address === 'ff02::1' ||
    address === 'ff02::2'
  )
}

function isMulticast(address: string): boolean {
  return address.includes(':')
    ? address.startsWith('ff')
    : Number(address.split('.')[0]) >> 4 === 14
}

function isLoopback(address: string): boolean {
  return address === '::1' || address.startsWith('127.')
}

/** No packet comes from such a source. */
function isMartian(source: string): boolean {
  if (source.includes(':')) return isLoopback(source) || isMulticast(source)
  const first = Number(source.split('.')[0])
  return first === 0 || first === 127 || first >= 224
}
