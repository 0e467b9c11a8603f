import type { FramePool } from '../../port/frame-pool.js'
import * as icmp from '../../wire/icmp.js'
import * as icmpv6 from '../../wire/icmpv6.js'
import * as ipv4 from '../../wire/ipv4.js'
import * as ipv6 from '../../wire/ipv6.js'
import type { DestinationSlots } from '../destination.js'
import type { MarkRules } from '../marks.js'
import { hasPorts, Packet, PORTS_BYTES } from '../packet.js'
import type { ServiceRegistry } from '../service.js'

/** How packets are divided among workers. */
export interface Division {
  /** This worker's index, from 0. */
  self: number
  workers: number
  /** Bits of an IPv4 address that clients share who belong to the same worker. */
  clientPrefixLength: number
  /** Secret of the hash, the same for all workers. */
  seed: number
}

/** The same of an IPv6 address: what one site has. */
export const CLIENT_PREFIX_IPV6 = 64

/** Finds what a quoted packet carries if it is one of the director's tunnels. */
export interface TunnelOpener {
  /**
   * @param quote byte offset of a quoted IPv4 header
   * @param end of the bytes that are there
   * @returns byte offset of the IP header inside; `quote` where there is no tunnel
   */
  insideOf(quote: number, end: number): number
}

/**
 * Which worker a packet belongs to: by its client's address, which stands in packets of either direction, so that
 * nothing that workers would have to share is looked up. A packet's client is its source if it is a request, else
 * its destination. See docs/workers.md.
 */
export class Ownership {
  private readonly bytes: Uint8Array
  private readonly words: Int32Array
  private readonly halfs: Uint16Array
  private readonly packet: Packet
  private readonly turned: Packet
  private readonly self: number
  private readonly workers: number
  private readonly maskBe: number
  private readonly seed: number

  constructor(
    { self, workers, clientPrefixLength, seed }: Division,
    pool: FramePool,
    private readonly services: ServiceRegistry,
    private readonly slots: DestinationSlots,
    private readonly marks: MarkRules,
    private readonly tunnels: TunnelOpener,
  ) {
    this.bytes = pool.bytes
    this.words = pool.words
    this.halfs = pool.halfs
    this.packet = new Packet(pool.words)
    this.turned = new Packet(pool.words)
    this.self = self
    this.workers = workers
    this.maskBe = ipv4.netmaskBe(clientPrefixLength)
    this.seed = seed
  }

  /**
   * The worker that is to process a packet; this one, where it is none that any worker would forward.
   *
   * @param network byte offset of its IP header
   * @param available bytes from there on
   * @param inPort index of the port that it came in by
   */
  ownerOf(network: number, available: number, inPort: number): number {
    if (available < ipv4.MIN_HEADER_BYTES) return this.self
    const { bytes, words } = this
    const version = bytes[network]! >>> 4
    if (version !== 4)
      return version === 6 ? this.ownerOfIpv6(network, available, inPort) : this.self
    const protocol = bytes[network + ipv4.PROTOCOL]!
    if (protocol === ipv4.IpProtocol.icmp) return this.ownerOfIcmp(network, available, inPort)
    const sourceAt = (network + ipv4.SOURCE) >> 2
    const destinationAt = (network + ipv4.DESTINATION) >> 2
    if (this.marks.list.length === 0)
      return this.ownerOfClient(
        this.services.virtualAddresses.has(words[destinationAt]!, 0, 0, 0)
          ? words[sourceAt]!
          : words[destinationAt]!,
      )
    const { packet } = this
    const isFragment = ipv4.isFragment(this.halfs, network)
    const transport = network + ipv4.headerBytes(bytes, network)
    packet.family = 4
    packet.inPort = inPort
    packet.protocol = protocol
    packet.sourceBe = words[sourceAt]!
    packet.destinationBe = words[destinationAt]!
    packet.sourceAt = sourceAt
    packet.destinationAt = destinationAt
    // All fragments of a packet have to go where it would go as a whole, and most have no ports.
    packet.ports = !isFragment && hasPorts(protocol) ? portsAt(words, transport) : 0
    return this.ownerOfClient(
      this.isRequest(packet, isFragment) ? packet.sourceBe : packet.destinationBe,
    )
  }

  /** An ICMP error belongs to the connection that it is about, everything else to its sender. */
  private ownerOfIcmp(network: number, available: number, inPort: number): number {
    const { bytes, words } = this
    const sourceBe = words[(network + ipv4.SOURCE) >> 2]!
    const end = network + available
    const transport = network + ipv4.headerBytes(bytes, network)
    const quote = transport + icmp.HEADER_BYTES
    if (
      quote + ipv4.MIN_HEADER_BYTES > end ||
      ipv4.isFragment(this.halfs, network) ||
      !icmp.isError(icmp.type(bytes, transport))
    )
      return this.ownerOfClient(sourceBe)
    const about = this.tunnels.insideOf(quote, end)
    const { turned } = this
    turned.family = 4
    turned.inPort = inPort
    turned.protocol = ipv4.protocol(bytes, about)
    turned.sourceAt = (about + ipv4.DESTINATION) >> 2
    turned.destinationAt = (about + ipv4.SOURCE) >> 2
    turned.sourceBe = words[turned.sourceAt]!
    turned.destinationBe = words[turned.destinationAt]!
    turned.ports = turn(quotedPorts(words, about + ipv4.headerBytes(bytes, about), end))
    return this.ownerOfClient(this.isRequest(turned) ? turned.sourceBe : turned.destinationBe)
  }

  private ownerOfIpv6(network: number, available: number, inPort: number): number {
    if (available < ipv6.HEADER_BYTES) return this.self
    const { bytes, words, packet } = this
    const end = network + available
    packet.family = 6
    packet.inPort = inPort
    packet.sourceAt = ipv6.sourceAt(network)
    packet.destinationAt = ipv6.destinationAt(network)
    const first = bytes[network + ipv6.NEXT_HEADER]!
    let isPiece = false
    if (hasPorts(first)) {
      packet.protocol = first
      packet.ports = portsAt(words, network + ipv6.HEADER_BYTES)
    } else {
      const protocol = packet.chain.walk(bytes, network, end)
      const { transport, isFragment } = packet.chain
      if (protocol === ipv4.IpProtocol.icmpv6 && !isFragment && icmpv6.isError(bytes[transport]!))
        return this.ownerOfIcmpv6(transport + icmpv6.HEADER_BYTES, end, inPort)
      isPiece = isFragment
      packet.protocol = protocol
      packet.ports = !isPiece && hasPorts(protocol) ? portsAt(words, transport) : 0
    }
    return this.ownerOfIpv6Client(
      this.isRequest(packet, isPiece) ? packet.sourceAt : packet.destinationAt,
    )
  }

  private ownerOfIcmpv6(quote: number, end: number, inPort: number): number {
    if (quote + ipv6.HEADER_BYTES > end) return this.self
    const { bytes, words, turned } = this
    turned.family = 6
    turned.inPort = inPort
    turned.protocol = turned.chain.walk(bytes, quote, end)
    turned.sourceAt = ipv6.destinationAt(quote)
    turned.destinationAt = ipv6.sourceAt(quote)
    turned.ports = turn(quotedPorts(words, turned.chain.transport, end))
    return this.ownerOfIpv6Client(this.isRequest(turned) ? turned.sourceAt : turned.destinationAt)
  }

  /** Whether a packet goes from a client to a service, and not from a real server to a client. */
  private isRequest(packet: Packet, isFragment = false): boolean {
    const { family, words, destinationAt, sourceAt } = packet
    if (isIn(this.services.virtualAddresses, family, words, destinationAt)) return true
    if (this.marks.list.length === 0) return false
    return (
      (isFragment
        ? this.marks.mayMark(packet)
        : this.services.expectsMark(family, this.marks.markOf(packet))) &&
      !isIn(this.slots.masqueradedAddresses, family, words, sourceAt)
    )
  }

  private ownerOfClient(addressBe: number): number {
    return this.workerOf(addressBe & this.maskBe)
  }

  private ownerOfIpv6Client(at: number): number {
    return this.workerOf(Math.imul(this.words[at]!, 0x9e3779b1) ^ this.words[at + 1]!)
  }

  private workerOf(key: number): number {
    let hash = Math.imul(key ^ this.seed, 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
    return Math.imul((hash ^ (hash >>> 16)) >>> 16, this.workers) >>> 16
  }
}

interface Addresses {
  has(a: number, b: number, c: number, d: number): boolean
}

function isIn(set: Addresses, family: number, words: Int32Array, at: number): boolean {
  return family === 6
    ? set.has(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!)
    : set.has(words[at]!, 0, 0, 0)
}

/** The word with both ports. The director looks whether they are there; what is there is read in any case. */
function portsAt(words: Int32Array, transport: number): number {
  return words[transport >> 2]!
}

function quotedPorts(words: Int32Array, transport: number, end: number): number {
  return transport + PORTS_BYTES <= end ? portsAt(words, transport) : 0
}

function turn(ports: number): number {
  return (ports << 16) | (ports >>> 16)
}
