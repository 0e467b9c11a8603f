import { JIFFIES_PER_SECOND } from '../port/clock.js'
import { IP_HEADROOM, type FramePool } from '../port/frame-pool.js'
import * as icmpv6 from '../wire/icmpv6.js'
import { IpProtocol } from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import type { Geometry } from './fragment.js'
import { timerFires } from './timer-wheel.js'

/** How long fragments wait for the rest of their packet (IPV6_FRAG_TIMEOUT). */
const TIMEOUT_JIFFIES = 60 * JIFFIES_PER_SECOND

/** The part of the pool's frames that may be held by fragments that wait. */
const HELD_SHARE = 1 / 4

/** Packets that may wait for fragments. */
const MAX_WAITING = 1024

const FRAGMENT_HEADER_BYTES = 8
const MAX_PAYLOAD_BYTES = 65535

/** What became of a fragment. */
export const Gathered = {
  /** It waits, or was there already. Its frame is the reassembly's. */
  waits: 0,
  /** The packet is whole, and in the pool's scratch. The frame has been given back. */
  complete: 1,
  /** It fits nowhere. Its frame is still the caller's. */
  unusable: 2,
  /** It is no proper fragment: not to be put together, but a packet of its own. Its frame is still the caller's. */
  single: 3,
} as const
export type Gathered = (typeof Gathered)[keyof typeof Gathered]

interface Fragment {
  /** Of its IPv6 header. */
  offset: number
  /** Bytes up to the end of its fragment header. */
  headerBytes: number
  /** Where its data belong in the packet behind the headers: from, and the end. */
  start: number
  end: number
}

interface Queue {
  /** In the order of their places. */
  fragments: Fragment[]
  /** Bytes behind the headers, as far as they are known: all of them once the last fragment is there. */
  end: number
  hasEnd: boolean
  gathered: number
  /** The longest fragment as it came, in bytes of IP. */
  largest: number
  /** Bit 1 << ECN of each. */
  congestion: number
  due: number
}

/**
 * Puts IPv6 packets together from their fragments, as the kernel does for IPVS before anything else sees them
 * (net/ipv6/netfilter/nf_conntrack_reasm.c of Linux 6.1). A packet is put together in the pool's scratch, which is
 * the reassembly's from one packet to the next; what has gathered is bounded.
 */
export class Ipv6Reassembly {
  private readonly queues = new Map<string, Queue>()
  private held = 0

  // The packet that is complete.
  /** Offset of its IPv6 header. */
  readonly network: number
  length = 0
  /** The longest of its fragments as they came, in bytes of IP. */
  largest = 0
  geometry: Geometry = { first: 0, later: [] }

  /** Fragments that have been given up, and are to be counted by the caller, who sets it back. */
  lost = 0

  constructor(private readonly pool: FramePool) {
    this.network = pool.scratch < 0 ? -1 : pool.scratch + IP_HEADROOM
  }

  /** Packets that wait for fragments. */
  get waiting(): number {
    return this.queues.size
  }

  /**
   * Takes a fragment.
   *
   * @param offset of its IPv6 header, which is valid
   * @param now jiffies
   */
  add(offset: number, now: number): Gathered {
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
    if (end > MAX_PAYLOAD_BYTES || this.network < 0) return Gathered.unusable

    const key = this.keyOf(offset, header)
    const queue = this.queues.get(key) ?? this.open(key, now)
    if (queue === undefined) return Gathered.unusable
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
    const place = queue.fragments.findIndex((other) => other.end > start)
    const at = place < 0 ? queue.fragments.length : place
    const next = queue.fragments[at]
    if (next && next.start <= start && next.end >= end) {
      // The same again.
      this.pool.give(offset)
      this.lost++
      return Gathered.waits
    }
    if ((next && next.start < end) || this.held >= this.pool.frameCount * HELD_SHARE) {
      this.forget(key, queue)
      return Gathered.unusable
    }
    queue.fragments.splice(at, 0, {
      offset,
      headerBytes: header + FRAGMENT_HEADER_BYTES - offset,
      start,
      end,
    })
    this.held++
    queue.gathered += size
    queue.largest = Math.max(queue.largest, total)
    queue.congestion |= 1 << (ipv6.trafficClass(bytes, offset) & 3)
    if (!queue.hasEnd || queue.gathered !== queue.end) return Gathered.waits
    return this.assemble(key, queue)
  }

  /** Gives up what has waited too long. */
  expire(now: number): void {
    for (const [key, queue] of this.queues)
      if (((now - queue.due) | 0) >= 0) this.forget(key, queue)
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

  private open(key: string, now: number): Queue | undefined {
    if (this.queues.size >= MAX_WAITING || this.held >= this.pool.frameCount * HELD_SHARE)
      return undefined
    const queue = {
      fragments: [],
      end: 0,
      hasEnd: false,
      gathered: 0,
      largest: 0,
      congestion: 0,
      due: timerFires((now + TIMEOUT_JIFFIES) | 0, TIMEOUT_JIFFIES),
    }
    this.queues.set(key, queue)
    return queue
  }

  private forget(key: string, queue: Queue): void {
    for (const { offset } of queue.fragments) this.pool.give(offset)
    this.lost += queue.fragments.length
    this.held -= queue.fragments.length
    this.queues.delete(key)
  }

  /** All fragments are there, the one that came last among them. */
  private assemble(key: string, queue: Queue): Gathered {
    const { bytes } = this.pool
    const { network } = this
    const first = queue.fragments[0]!
    const headerBytes = first.headerBytes - FRAGMENT_HEADER_BYTES
    const isTooLong = headerBytes - ipv6.HEADER_BYTES + queue.end > MAX_PAYLOAD_BYTES
    const congestion = congestionOf(queue.congestion)
    const isUsable = !isTooLong && congestion >= 0
    if (isUsable) {
      const header = first.offset + headerBytes
      bytes.copyWithin(network, first.offset, header)
      for (const { offset, headerBytes: before, start, end } of queue.fragments)
        bytes.copyWithin(
          network + headerBytes + start,
          offset + before,
          offset + before + end - start,
        )
      this.length = headerBytes + queue.end
      ipv6.writeTotalLength(bytes, network, this.length)
      bytes[network + this.lastNextHeader(network, headerBytes)] = bytes[header]!
      bytes[network + 1]! |= congestion << 4
      this.largest = queue.largest
      this.geometry = {
        first: headerBytes + first.end,
        later: queue.fragments.slice(1).map(({ start, end }) => end - start),
      }
    }
    for (const { offset } of queue.fragments) this.pool.give(offset)
    this.held -= queue.fragments.length
    this.queues.delete(key)
    if (!isUsable) this.lost += queue.fragments.length
    return isUsable ? Gathered.complete : Gathered.waits
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

const NOT_CAPABLE = 1 << 0
const CONGESTION = 1 << 3

/**
 * Congestion that one fragment has met the packet has met (RFC 3168, section 5.3).
 *
 * @returns bits for the traffic class, -1 when fragments say both that they can tell of congestion and that they
 *   cannot
 */
function congestionOf(seen: number): number {
  if ((seen & NOT_CAPABLE) !== 0 && seen !== NOT_CAPABLE) return -1
  return (seen & CONGESTION) !== 0 ? 3 : 0
}
