import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { FramePool } from '../port/frame-pool.js'
import * as ipv4 from '../wire/ipv4.js'
import type { Geometry } from './fragment.js'
import { congestionOf, emptyQueue, Gathered, Placed, Reassembly, type Queue } from './reassembly.js'

/** How long fragments wait for the rest of their packet (net.ipv4.ipfrag_time). */
const TIMEOUT_JIFFIES = 30 * JIFFIES_PER_SECOND

/**
 * Fragments from the same host that may come between two of a packet; more, and the identification is taken for
 * used again (net.ipv4.ipfrag_max_dist).
 */
const MAX_DISTANCE = 64

const MAX_PACKET_BYTES = 65535

/** What is said of a fragment beside its bytes. */
export interface Passage {
  /** Index of the port that it came in by. */
  readonly inPort: number
  /** It is for another machine, and waits apart from those for this one. */
  readonly isForwarded: boolean
  /** Firewall mark. */
  readonly mark: number
}

interface Ipv4Queue extends Queue {
  readonly sourceBe: number
  /** Of the fragment that is at the packet's start. */
  mark: number
  /** Bytes received of it, with what the link layer may have padded. */
  firstReceived: number
  /** The longest fragment with DF, in bytes of IP. */
  largestUncut: number
  /** Fragments that had come from the host when one of these came last. */
  distance: number
}

/** How many bytes may be joined to a first fragment of which so many were received. */
export type RoomBehind = (receivedBytes: number, usedBytes: number) => number

/** As when drivers put packets into pages: any number of those can be joined. */
const unlimited: RoomBehind = () => Infinity

/**
 * Puts IPv4 packets together from their fragments, as the kernel does where it delivers packets locally and where
 * IPVS looks at those that are forwarded (net/ipv4/ip_fragment.c of Linux 6.1).
 */
export class Ipv4Reassembly extends Reassembly<Ipv4Queue> {
  private readonly sources = new Map<number, { fragments: number; queues: number }>()

  // The packet that is complete, see Reassembly.
  /** Mark of the fragment at its start. */
  mark = 0
  /** Its longest fragment had DF, so that what it is cut into has, too. */
  hasDontFragment = false

  /**
   * @param roomBehind of a packet for the machine itself the kernel joins fragments to the first as long as it costs
   *   nothing, which is up to how the packets lie in memory; where they leave again, that shows
   */
  constructor(
    pool: FramePool,
    private readonly roomBehind: RoomBehind = unlimited,
  ) {
    super(pool, TIMEOUT_JIFFIES)
  }

  /**
   * Takes a fragment.
   *
   * @param offset of its IP header, which is valid
   * @param received bytes received from there on
   * @param now jiffies
   */
  add(offset: number, received: number, passage: Passage, now: number): Gathered {
    if (this.isFull) return Gathered.unusable
    const { bytes, halfs } = this.pool
    const headerBytes = ipv4.headerBytes(bytes, offset)
    const field = (bytes[offset + ipv4.FRAGMENT]! << 8) | bytes[offset + ipv4.FRAGMENT + 1]!
    const start = (field & 0x1fff) << 3
    const stop = start + ipv4.totalLength(bytes, offset) - headerBytes
    const isMore = (field & MORE_FRAGMENTS) !== 0
    const end = isMore ? stop & ~7 : stop

    const key = this.keyOf(offset, passage)
    const queue = this.queues.get(key) ?? this.open(key, offset, passage, now)
    if (this.isTooFar(queue)) {
      this.lost += queue.fragments.length
      this.empty(queue)
      queue.end = 0
      queue.hasEnd = false
      queue.congestion = 0
      this.wait(key, queue, now)
    }
    const endsBefore = isMore ? queue.hasEnd && end > queue.end : end < queue.end
    if (endsBefore || (queue.hasEnd && !isMore && end !== queue.end))
      return this.discard(key, queue)
    queue.end = Math.max(queue.end, end)
    if (!isMore) queue.hasEnd = true
    if (end === start) return this.discard(key, queue)
    switch (this.place(queue, { offset, headerBytes, start, end })) {
      case Placed.again:
        return this.ignore(offset)
      case Placed.overlaps:
        return this.discard(key, queue)
    }
    const size = headerBytes + end - start
    queue.inPort = passage.inPort
    queue.congestion |= 1 << (bytes[offset + ipv4.TOS]! & 3)
    queue.largest = Math.max(queue.largest, size)
    if (ipv4.dontFragment(halfs, offset)) queue.largestUncut = Math.max(queue.largestUncut, size)
    if (start === 0) {
      queue.mark = passage.mark
      queue.firstReceived = received
    }
    if (!queue.hasEnd || queue.gathered !== queue.end) return Gathered.waits
    return this.assemble(key, queue)
  }

  /** Packets with the same source, destination, protocol and identification are the same. */
  private keyOf(offset: number, { isForwarded }: Passage): string {
    const { bytes, words, halfs } = this.pool
    const source = ipv4.sourceBe(words, offset)
    const destination = ipv4.destinationBe(words, offset)
    const id = halfs[(offset + ipv4.IDENTIFICATION) >> 1]!
    return `${source} ${destination} ${id} ${ipv4.protocol(bytes, offset)} ${isForwarded}`
  }

  private open(key: string, offset: number, { isForwarded }: Passage, now: number): Ipv4Queue {
    const sourceBe = ipv4.sourceBe(this.pool.words, offset)
    const queue: Ipv4Queue = {
      ...emptyQueue(isForwarded),
      sourceBe,
      mark: 0,
      firstReceived: 0,
      largestUncut: 0,
      distance: 0,
    }
    const source = this.sources.get(sourceBe)
    if (source) source.queues++
    else this.sources.set(sourceBe, { fragments: 0, queues: 1 })
    this.start(key, queue, now)
    return queue
  }

  protected override close(key: string, queue: Ipv4Queue): void {
    super.close(key, queue)
    const source = this.sources.get(queue.sourceBe)!
    if (--source.queues === 0) this.sources.delete(queue.sourceBe)
  }

  /** Whether so much has come from the host since the last fragment of a packet that this must be another packet. */
  private isTooFar(queue: Ipv4Queue): boolean {
    const before = queue.distance
    queue.distance = ++this.sources.get(queue.sourceBe)!.fragments
    return queue.fragments.length > 0 && queue.distance - before > MAX_DISTANCE
  }

  private discard(key: string, queue: Ipv4Queue): Gathered {
    this.forget(key, queue)
    return Gathered.unusable
  }

  /** All fragments are there, the one that came last among them. */
  private assemble(key: string, queue: Ipv4Queue): Gathered {
    const { bytes, halfs } = this.pool
    const { network } = this
    const first = queue.fragments[0]!
    const { headerBytes } = first
    const length = headerBytes + queue.end
    const congestion = congestionOf(queue.congestion)
    if (length > MAX_PACKET_BYTES || congestion < 0) {
      this.forget(key, queue)
      return Gathered.waits
    }
    bytes.copyWithin(network, first.offset, first.offset + headerBytes)
    this.copyData(queue, headerBytes)
    this.hasDontFragment = queue.largestUncut === queue.largest
    bytes[network + ipv4.TOTAL_LENGTH] = length >> 8
    bytes[network + ipv4.TOTAL_LENGTH + 1] = length
    bytes[network + ipv4.TOS]! |= congestion
    halfs[(network + ipv4.FRAGMENT) >> 1] = this.hasDontFragment ? ipv4.FragmentBe.dontFragment : 0
    ipv4.writeChecksum(halfs, bytes, network)
    this.length = length
    this.largest = queue.largest
    this.mark = queue.mark
    this.geometry = this.geometryOf(queue)
    return this.finish(key, queue)
  }

  private geometryOf({ fragments, isForwarded, firstReceived }: Ipv4Queue): Geometry {
    const [first, ...later] = fragments
    let length = first!.headerBytes + first!.end
    if (!isForwarded) {
      let room = this.roomBehind(firstReceived, length)
      for (let next = later[0]; next && next.end - next.start <= room; next = later[0]) {
        room -= next.end - next.start
        length += next.end - next.start
        later.shift()
      }
    }
    return {
      first: length,
      later: later.map(({ start, end }) => end - start),
      headroom: Math.min(...later.map(({ headerBytes }) => headerBytes)),
    }
  }
}

const MORE_FRAGMENTS = 0x2000
