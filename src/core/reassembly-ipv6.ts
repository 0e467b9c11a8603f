import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { FramePool } from '../port/frame-pool.js'
import * as icmpv6 from '../wire/icmpv6.js'
import { IpProtocol } from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import { congestionOf, emptyQueue, Gathered, Placed, Reassembly, type Queue } from './reassembly.js'

/** How long fragments wait for the rest of their packet (IPV6_FRAG_TIMEOUT). */
const TIMEOUT_JIFFIES = 60 * JIFFIES_PER_SECOND

const FRAGMENT_HEADER_BYTES = 8
const MAX_PAYLOAD_BYTES = 65535

/**
 * Puts IPv6 packets together from their fragments, as the kernel does for IPVS before anything else sees them
 * (net/ipv6/netfilter/nf_conntrack_reasm.c of Linux 6.1).
 */
export class Ipv6Reassembly extends Reassembly<Queue> {
  constructor(pool: FramePool) {
    super(pool, TIMEOUT_JIFFIES)
  }

  /**
   * Takes a fragment.
   *
   * @param offset of its IPv6 header, which is valid
   * @param inPort index of the port that it came in by
   * @param now jiffies
   */
  add(offset: number, inPort: number, now: number): Gathered {
    const { bytes } = this.pool
    const header = this.fragmentHeader(offset)
    if (header < 0) return Gathered.single
    const total = ipv6.totalLength(bytes, offset)
    const field = (bytes[header + 2]! << 8) | bytes[header + 3]!
    const isMore = (field & 1) !== 0
    const start = field & 0xfff8
    const size = offset + total - (header + FRAGMENT_HEADER_BYTES)
    const end = start + size
    if (start === 0 && !this.hasTransport(offset, header, total)) return Gathered.single
    if (end > MAX_PAYLOAD_BYTES || this.isFull) return Gathered.unusable

    const key = this.keyOf(offset, header)
    const queue = this.queues.get(key) ?? this.open(key, now)
    if (isMore && (size & 7) !== 0) {
      this.forget(key, queue)
      return Gathered.single
    }
    if (isMore ? queue.hasEnd && end > queue.end : end < queue.end) return Gathered.unusable
    if (queue.hasEnd && !isMore && end !== queue.end) return Gathered.unusable
    // As in the kernel, one without data is of no use, but for where the packet ends.
    queue.end = Math.max(queue.end, end)
    if (!isMore) queue.hasEnd = true
    if (size === 0) return Gathered.unusable
    const headerBytes = header + FRAGMENT_HEADER_BYTES - offset
    switch (this.place(queue, { offset, headerBytes, start, end })) {
      case Placed.again:
        return this.ignore(offset)
      case Placed.overlaps:
        this.forget(key, queue)
        return Gathered.unusable
    }
    queue.inPort = inPort
    queue.largest = Math.max(queue.largest, total)
    queue.congestion |= 1 << (ipv6.trafficClass(bytes, offset) & 3)
    if (!queue.hasEnd || queue.gathered !== queue.end) return Gathered.waits
    return this.assemble(key, queue)
  }

  /** Offset of the fragment header, -1 when it is not where one may be, or when the packet ends before. */
  private fragmentHeader(offset: number): number {
    const { bytes } = this.pool
    const end = offset + ipv6.totalLength(bytes, offset)
    let next = bytes[offset + ipv6.NEXT_HEADER]!
    let at = offset + ipv6.HEADER_BYTES
    while (next !== ipv6.NextHeader.fragment) {
      if (!ipv6.isExtension(next) || at + FRAGMENT_HEADER_BYTES > end) return -1
      const length = ipv6.extensionBytes(bytes, at, next)
      next = bytes[at]!
      at += length
    }
    return at + FRAGMENT_HEADER_BYTES > end ? -1 : at
  }

  /** Whether a first fragment has all headers, as it has to (RFC 8200, section 4.5; ipv6frag_thdr_truncated). */
  private hasTransport(offset: number, header: number, total: number): boolean {
    const { bytes } = this.pool
    const end = offset + total
    let next = bytes[header]!
    let at = header + FRAGMENT_HEADER_BYTES
    while (ipv6.isExtension(next)) {
      if (at + 2 > end) return true
      const length = ipv6.extensionBytes(bytes, at, next)
      next = bytes[at]!
      at += length
    }
    return next === ipv6.NextHeader.none || at + headerBytesOf(next) <= end
  }

  private keyOf(offset: number, header: number): string {
    const { words } = this.pool
    const at = ipv6.sourceAt(offset)
    return `${words[(header >> 2) + 1]} ${words.subarray(at, at + 2 * ipv6.ADDRESS_WORDS).join(' ')}`
  }

  private open(key: string, now: number): Queue {
    const queue = emptyQueue(false)
    this.start(key, queue, now)
    return queue
  }

  /** All fragments are there, the one that came last among them. */
  private assemble(key: string, queue: Queue): Gathered {
    const { bytes } = this.pool
    const { network } = this
    const first = queue.fragments[0]!
    const headerBytes = first.headerBytes - FRAGMENT_HEADER_BYTES
    const isTooLong = headerBytes - ipv6.HEADER_BYTES + queue.end > MAX_PAYLOAD_BYTES
    const congestion = congestionOf(queue.congestion)
    if (isTooLong || congestion < 0) {
      this.forget(key, queue)
      return Gathered.waits
    }
    const header = first.offset + headerBytes
    bytes.copyWithin(network, first.offset, header)
    this.copyData(queue, headerBytes)
    this.length = headerBytes + queue.end
    ipv6.writeTotalLength(bytes, network, this.length)
    bytes[network + this.lastNextHeader(network, headerBytes)] = bytes[header]!
    bytes[network + 1]! |= congestion << 4
    this.largest = queue.largest
    this.geometry = {
      first: headerBytes + first.end,
      later: queue.fragments.slice(1).map(({ start, end }) => end - start),
    }
    return this.finish(key, queue)
  }

  /** Where, from the IPv6 header on, the next-header field is that has named the fragment header. */
  private lastNextHeader(network: number, headerBytes: number): number {
    const { bytes } = this.pool
    let field: number = ipv6.NEXT_HEADER
    let at: number = ipv6.HEADER_BYTES
    while (at < headerBytes) {
      const length = ipv6.extensionBytes(bytes, network + at, bytes[network + field]!)
      field = at
      at += length
    }
    return field
  }
}

/** What has to be there of the header of a protocol. */
function headerBytesOf(protocol: number): number {
  switch (protocol) {
    case IpProtocol.tcp:
      return tcp.MIN_HEADER_BYTES
    case IpProtocol.udp:
      return udp.HEADER_BYTES
    case IpProtocol.icmpv6:
      return icmpv6.HEADER_BYTES
    default:
      return 1
  }
}
