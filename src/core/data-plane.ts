import { FrameBatch, IP_HEADROOM, MALFORMED, type FramePool } from '../port/frame-pool.js'
import { HopState, type Neighbours } from '../port/neighbours.js'
import { LinkLayer, type PacketPort } from '../port/packet-port.js'
import { JIFFIES_PER_SECOND, type Clock } from '../port/clock.js'
import * as ethernet from '../wire/ethernet.js'
import * as ipv6 from '../wire/ipv6.js'
import { fragmentIpv4, fragmentIpv6, pulled } from './fragment.js'
import type { Director } from './director.js'
import { MOST_AHEAD } from './hit-path.js'
import { NeighbourQueue } from './neighbour-queue.js'
import { NO_MARK } from './packet.js'
import { Gathered, type Expired } from './reassembly.js'
import { Ipv4Reassembly, type RoomBehind } from './reassembly-ipv4.js'
import { Ipv6Reassembly } from './reassembly-ipv6.js'
import { segment } from './segmentation.js'
import { Reason, Verdict } from './verdict.js'
import type { Handover } from './workers/handover.js'

/**
 * Frames taken from one port before the next port has its turn. As many as one can wait for at the end of a burst:
 * between batches the kernel transmits, and what the director works with has to be brought back to the cache.
 */
export const BATCH_SIZE = 256

/** In place of a next hop: the kernel's stack. */
const TO_KERNEL = -1

/** Of IP. The kernel's stack has no MTU. */
const LONGEST_PACKET = 65535

/** How long a packet waits for its neighbour, as long as the kernel asks: three solicitations, a second apart. */
const NEIGHBOUR_WAIT_JIFFIES = 3 * JIFFIES_PER_SECOND

/** Where packets go that the director leaves to the kernel's stack. */
export interface KernelPath {
  /** Index of the port that leads into the stack: a TUN device, or a TAP device's bridge. */
  port: number
  /** Ethernet address of the stack, for a port that has a link layer. */
  mac?: Uint8Array
}

export interface DataPlaneOptions {
  pool: FramePool
  ports: readonly PacketPort[]
  director: Director
  neighbours: Neighbours
  clock: Clock
  /** Absent: declined packets are counted and end here. */
  kernelPath?: KernelPath
  /** To and from the other workers, where there are any; the director then is one of a crew. */
  handover?: Handover
  /**
   * By port: the one that stands for its interface with all workers, in what they hand over. Every worker has the
   * same ports as far as these go. The port itself when absent.
   */
  interfacePort?: readonly number[]
  /** How the kernel would lay fragments into memory: see Ipv4Reassembly. */
  roomBehindFragment?: RoomBehind
}

/**
 * One thread's data plane: it owns one queue of every port and runs to completion. A round takes one
 * clock reading, lets timers expire, and carries a batch from each port through the director to the port
 * of its next hop. Nothing here allocates once the constructor has run.
 */
export class DataPlane {
  private readonly pool: FramePool
  private readonly ports: readonly PacketPort[]
  private readonly director: Director
  private readonly neighbours: Neighbours
  private readonly clock: Clock
  private readonly kernelPort: number
  private readonly received = new FrameBatch(BATCH_SIZE)
  /** Of received frames those that are this worker's, by their IP headers. */
  private readonly own = new FrameBatch(MOST_AHEAD)
  private readonly outgoing: FrameBatch[]
  private readonly fragments: FrameBatch
  private readonly segments: FrameBatch
  private readonly waiting: NeighbourQueue
  private readonly reassembly: Ipv4Reassembly
  private readonly reassemblyIpv6: Ipv6Reassembly
  private readonly onExpired = (expired: Expired): void => this.answerTimeout(expired)
  private readonly hasOffload: Uint8Array
  /** Whether each port has a link layer, and its own Ethernet address as three halfs. */
  private readonly isEthernet: Uint8Array
  private readonly portMac: Uint16Array
  private readonly kernelMac = new Uint16Array(3)
  private readonly handover: Handover | undefined
  private readonly interfacePort: Int32Array
  private now = 0

  constructor(options: DataPlaneOptions) {
    this.pool = options.pool
    this.ports = options.ports
    this.director = options.director
    this.neighbours = options.neighbours
    this.clock = options.clock
    this.outgoing = options.ports.map(() => new FrameBatch(BATCH_SIZE))
    this.waiting = new NeighbourQueue(options.neighbours)
    // A packet of the shortest fragments is cut into as many again.
    this.fragments = new FrameBatch(options.pool.frameCount)
    this.segments = new FrameBatch(options.pool.hasOffload ? options.pool.frameCount : 0)
    this.reassembly = new Ipv4Reassembly(options.pool, options.roomBehindFragment)
    this.reassemblyIpv6 = new Ipv6Reassembly(options.pool)
    this.isEthernet = Uint8Array.from(options.ports, (port) =>
      port.linkLayer === LinkLayer.ethernet ? 1 : 0,
    )
    this.hasOffload = Uint8Array.from(options.ports, (port) => (port.hasOffload === true ? 1 : 0))
    this.portMac = new Uint16Array(3 * options.ports.length)
    options.ports.forEach((port, i) => {
      if (port.mac) this.portMac.set(halfsOf(port.mac), 3 * i)
    })
    this.handover = options.handover
    this.interfacePort = Int32Array.from(options.interfacePort ?? options.ports.map((_, i) => i))
    this.kernelPort = options.kernelPath ? options.kernelPath.port : -1
    if (options.kernelPath?.mac) this.setKernelMac(options.kernelPath.mac)
  }

  /** From now on the kernel's stack has this Ethernet address, 6 bytes. */
  setKernelMac(mac: Uint8Array): void {
    this.kernelMac.set(halfsOf(mac))
  }

  /** One round over all ports; returns how many packets it received. */
  round(): number {
    this.now = this.clock.nowJiffies()
    let isDone = this.director.advance(this.now)
    let total = 0
    for (let p = 0; p < this.ports.length; p++) {
      const port = this.ports[p]!
      port.service()
      const batch = this.received
      batch.count = 0
      const count = port.receive(batch)
      const linkBytes = this.isEthernet[p] === 1 ? ethernet.HEADER_BYTES : 0
      for (let first = 0; first < count; first += MOST_AHEAD) {
        const end = Math.min(first + MOST_AHEAD, count)
        if (this.handover !== undefined) {
          this.divide(this.handover, first, end, p)
          continue
        }
        this.director.lookAhead(batch.offsets, first, end, linkBytes)
        for (let i = first; i < end; i++)
          this.process(batch.offsets[i]!, batch.lengths[i]!, p, this.director.candidate(i - first))
      }
      total += count
      // As much is done of what is due as packets come, or connections could begin faster than they end.
      if (!isDone && count > 0) isDone = this.director.advance(this.now)
    }
    if (this.handover !== undefined) total += this.exchange(this.handover)
    if (this.waiting.count > 0) this.retryWaiting()
    if (this.reassembly.waiting > 0) this.reassembly.expire(this.now, this.onExpired)
    if (this.reassemblyIpv6.waiting > 0) this.reassemblyIpv6.expire(this.now, this.onExpired)
    if (this.reassembly.lost + this.reassemblyIpv6.lost > 0) this.countLostFragments()
    for (let p = 0; p < this.ports.length; p++) {
      const batch = this.outgoing[p]!
      if (batch.count > 0) this.ports[p]!.transmit(batch)
    }
    return total
  }

  /** True while frames are under way that only another round moves on. */
  get busy(): boolean {
    if (this.waiting.count > 0) return true
    for (let p = 0; p < this.ports.length; p++) if (this.ports[p]!.transmitting) return true
    return false
  }

  /** Packets that wait for a neighbour now. */
  get waitingPackets(): number {
    return this.waiting.count
  }

  /** A received frame on its way: link layer, director, and on to where the verdict says. */
  private process(offset: number, length: number, port: number, candidate: number): void {
    const network = this.networkOf(offset, length, port)
    if (network >= 0) this.processOwn(network, length - (network - offset), port, candidate)
  }

  /**
   * Received frames where there are other workers: what is theirs is handed over, the rest is looked up together and
   * goes its way.
   *
   * @param from,to of the received batch, MOST_AHEAD at most
   */
  private divide(handover: Handover, from: number, to: number, port: number): void {
    const { director, own } = this
    const { offsets, lengths } = this.received
    const version = director.ownershipVersion
    own.count = 0
    for (let i = from; i < to; i++) {
      const offset = offsets[i]!
      const network = this.networkOf(offset, lengths[i]!, port)
      if (network < 0) continue
      const available = lengths[i]! - (network - offset)
      const owner = director.ownerOf(network, available, port)
      if (owner === handover.self) own.push(network, available)
      else if (!handover.push(owner, network, available, this.interfacePort[port]!, version))
        this.drop(offset, Reason['handover-full'])
    }
    director.lookAhead(own.offsets, 0, own.count, 0)
    for (let i = 0; i < own.count; i++)
      this.processOwn(own.offsets[i]!, own.lengths[i]!, port, director.candidate(i))
  }

  /** Byte offset of a received frame's IP header; -1 when it has none that is for this machine, and has been dropped. */
  private networkOf(offset: number, length: number, port: number): number {
    let network = offset
    let available = length
    if (this.isEthernet[port] === 1) {
      if (length < ethernet.HEADER_BYTES)
        return this.dropFrame(offset, Reason['truncated-link-header'])
      const half = offset >> 1
      const halfs = this.pool.halfs
      const mac = 3 * port
      if (
        halfs[half] !== this.portMac[mac] ||
        halfs[half + 1] !== this.portMac[mac + 1] ||
        halfs[half + 2] !== this.portMac[mac + 2]
      )
        return this.dropFrame(offset, Reason['not-for-us'])
      const etherType = halfs[half + 6]
      const isIpv6 = etherType === ethernet.EtherTypeBe.ipv6
      if (!isIpv6 && etherType !== ethernet.EtherTypeBe.ipv4)
        return this.dropFrame(offset, Reason['not-ip'])
      network += ethernet.HEADER_BYTES
      available -= ethernet.HEADER_BYTES
      // A frame that says IPv4 and carries IPv6, or the other way round, carries nothing.
      if (available > 0 && (this.pool.bytes[network]! >>> 4 === 6) !== isIpv6)
        return this.dropFrame(offset, Reason['not-ip'])
    }
    if (this.pool.requestOf(offset) === MALFORMED)
      return this.dropFrame(offset, Reason['bad-offload-header'])
    return network
  }

  /** Takes what the other workers have handed over, and lets them see what is theirs. */
  private exchange(handover: Handover): number {
    const { director } = this
    const { offsets, lengths, ports, versions } = handover
    handover.announce()
    let total = 0
    for (let worker = 0; worker < handover.workers; worker++) {
      if (worker === handover.self) continue
      const count = handover.receive(worker)
      if (count === 0) continue
      director.lookAhead(offsets, 0, count, 0)
      for (let i = 0; i < count; i++)
        if (
          versions[i] === director.ownershipVersion ||
          !this.handOn(handover, offsets[i]!, lengths[i]!, ports[i]!)
        )
          this.processOwn(offsets[i]!, lengths[i]!, ports[i]!, director.candidate(i))
      total += count
    }
    for (; handover.lost > 0; handover.lost--) director.countReason(Reason['no-frame'])
    return total
  }

  /**
   * A packet that another worker took for this one's while a command was carried out by one of them and not yet by
   * the other. Whose it is they agree about as soon as both have; until then it goes between them.
   *
   * @returns false when it is this worker's
   */
  private handOn(handover: Handover, network: number, available: number, port: number): boolean {
    const { director } = this
    const owner = director.ownerOf(network, available, port)
    if (owner === handover.self) return false
    if (!handover.push(owner, network, available, port, director.ownershipVersion))
      this.drop(network, Reason['handover-full'])
    return true
  }

  /** An IP packet that belongs to this worker, and in which nothing of its link layer is looked at any more. */
  private processOwn(network: number, available: number, port: number, candidate: number): void {
    switch (this.director.process(network, available, port, candidate)) {
      case Verdict.forward:
        if (this.pool.hasOffload && this.director.outIsAnswer) this.pool.clearRequest(network)
        return this.send(
          this.director.outHop,
          this.director.outOffset,
          this.director.outLength,
          this.director.outMtu,
        )
      case Verdict.decline:
        return this.sendToKernel(network, available)
      case Verdict.gather:
        return this.gather(network, available, port)
      default:
        this.pool.give(network)
    }
  }

  /** A fragment: its packet goes on its way when the last of them has come. */
  private gather(network: number, available: number, port: number): void {
    const { director, reassembly, reassemblyIpv6 } = this
    if (this.pool.bytes[network]! >>> 4 === 4) {
      switch (reassembly.add(network, available, director.passage, this.now)) {
        case Gathered.complete:
          return this.processGathered(reassembly, port, reassembly.mark)
        case Gathered.unusable:
          return this.drop(network, Reason.fragment)
      }
      return
    }
    switch (reassemblyIpv6.add(network, port, this.now)) {
      case Gathered.complete:
        return this.processGathered(reassemblyIpv6, port, NO_MARK)
      case Gathered.waits:
        return
      case Gathered.unusable:
        return this.drop(network, Reason.fragment)
    }
    switch (director.processSingle(network, available, port)) {
      case Verdict.forward:
        return this.send(director.outHop, director.outOffset, director.outLength, director.outMtu)
      case Verdict.decline:
        return this.sendToKernel(network, available)
      default:
        this.pool.give(network)
    }
  }

  /** A packet that has been put together lies in no frame, so it leaves in pieces, or as a copy. */
  private processGathered(
    gathered: Ipv4Reassembly | Ipv6Reassembly,
    port: number,
    mark: number,
  ): void {
    const { director, neighbours } = this
    const { network, length, largest } = gathered
    const largestFrame = this.pool.frameSize - IP_HEADROOM
    switch (director.processGathered(network, length, port, largest, mark)) {
      case Verdict.forward: {
        const { outHop: hop, outOffset, outLength, outMtu } = director
        const mtu = Math.min(outMtu !== 0 ? outMtu : neighbours.mtu[hop]!, largestFrame)
        for (const piece of this.piecesOf(gathered, outOffset, outLength, mtu))
          this.send(hop, piece.offset, piece.length, mtu)
        return
      }
      case Verdict.decline:
        for (const piece of this.piecesOf(gathered, network, length, largestFrame))
          this.sendToKernel(piece.offset, piece.length)
    }
  }

  /**
   * Frames with what a packet that was put together has become: an ICMP error whole, anything else in pieces, if
   * possible those that it came in. Where there are too few frames none, and that is counted.
   */
  private piecesOf(
    gathered: Ipv4Reassembly | Ipv6Reassembly,
    offset: number,
    length: number,
    mtu: number,
  ): { offset: number; length: number }[] {
    const { pool, director } = this
    const { bytes } = pool
    const isIpv6 = bytes[offset]! >>> 4 === 6
    const shift = gathered.network - offset
    const geometry = pulled(gathered.geometry, director.outWritten)
    const pieces = this.fragments
    pieces.count = 0
    // No piece gets longer than those that came, whatever is in front of them, but for what goes into another family.
    const isOfOwn = director.outIsAnswer || isIpv6 !== gathered instanceof Ipv6Reassembly
    const longest = isOfOwn ? length : gathered.largest
    if (length <= Math.min(mtu, longest)) {
      const frame = pool.take()
      if (frame >= 0) {
        bytes.copyWithin(frame + IP_HEADROOM, offset, offset + length)
        pieces.push(frame + IP_HEADROOM, length)
      }
    } else if (isIpv6) {
      const size = Math.min(mtu, Math.max(longest, ipv6.MIN_MTU))
      const identification = director.fragmentIdentification()
      fragmentIpv6(pool, offset, length, size, identification, pieces, geometry, shift)
    } else {
      const size = Math.min(mtu, longest)
      const hasDontFragment = gathered instanceof Ipv4Reassembly && gathered.hasDontFragment
      fragmentIpv4(pool, offset, length, size, pieces, geometry, shift, hasDontFragment)
    }
    if (pieces.count === 0) director.countReason(Reason['no-frame'])
    return Array.from({ length: pieces.count }, (_, i) => ({
      offset: pieces.offsets[i]!,
      length: pieces.lengths[i]!,
    }))
  }

  /** Where a packet has not come together, whoever has sent its first fragment is told. */
  private answerTimeout(expired: Expired): void {
    const { pool, director } = this
    const frame = pool.take()
    if (frame < 0) return director.countReason(Reason['no-frame'])
    const offset = frame + IP_HEADROOM
    pool.bytes.copyWithin(offset, expired.offset, expired.offset + expired.length)
    if (director.answerTimeout({ ...expired, offset }) === Verdict.forward)
      this.send(director.outHop, director.outOffset, director.outLength, director.outMtu)
    else pool.give(offset)
  }

  /** Fragments whose packet never came together. */
  private countLostFragments(): void {
    for (const each of [this.reassembly, this.reassemblyIpv6])
      for (; each.lost > 0; each.lost--) this.director.countReason(Reason.fragment)
  }

  /**
   * Sends an IP packet to its next hop: now, when the neighbour is known, or by the kernel.
   *
   * @param pathMtu largest packet for the way, if that is less than the hop's MTU; else 0
   */
  private send(hop: number, offset: number, length: number, pathMtu: number): void {
    switch (this.neighbours.state[hop]) {
      case HopState.ready: {
        const mtu = pathMtu !== 0 ? pathMtu : this.neighbours.mtu[hop]!
        if (this.isToBeSegmented(this.neighbours.port[hop]!, offset, length, mtu))
          return this.sendSegments(hop, offset, length, mtu)
        if (length > mtu && this.pool.requestOf(offset) === 0)
          return this.sendFragments(hop, offset, length, mtu)
        return this.sendToNeighbour(hop, offset, length)
      }
      case HopState.unresolved:
        this.neighbours.want(hop)
        if (
          !this.waiting.add(offset, length, hop, pathMtu, (this.now + NEIGHBOUR_WAIT_JIFFIES) | 0)
        )
          this.drop(offset, Reason['neighbour-queue-full'])
        return
      case HopState.kernel:
      case HopState.local:
        return this.sendToKernel(offset, length)
      default:
        return this.drop(offset, Reason['no-route'])
    }
  }

  private sendToNeighbour(hop: number, offset: number, length: number): void {
    const port = this.neighbours.port[hop]!
    this.neighbours.used[hop] = 1
    if (this.isEthernet[port] === 1)
      this.queueEthernet(port, this.neighbours.mac, 3 * hop, offset, length)
    else this.queue(port, offset, length)
  }

  private sendToKernel(offset: number, length: number): void {
    const port = this.kernelPort
    if (port < 0) {
      this.pool.give(offset)
    } else if (this.isToBeSegmented(port, offset, length, LONGEST_PACKET)) {
      this.sendSegments(TO_KERNEL, offset, length, LONGEST_PACKET)
    } else if (this.isEthernet[port] === 1) {
      this.queueEthernet(port, this.kernelMac, 0, offset, length)
    } else {
      this.queue(port, offset, length)
    }
  }

  /**
   * Whether what a packet asks for has to be done here: the port cannot pass it on, the packet is in a tunnel by now,
   * or too long for the way in spite of it.
   */
  private isToBeSegmented(port: number, offset: number, length: number, mtu: number): boolean {
    const { pool } = this
    const request = pool.requestOf(offset)
    return (
      request !== 0 &&
      (this.hasOffload[port] === 0 || request !== offset || pool.wireBytes(offset, length) > mtu)
    )
  }

  /** @param hop TO_KERNEL for the kernel's stack */
  private sendSegments(hop: number, offset: number, length: number, mtu: number): void {
    const { pool, segments } = this
    segments.count = 0
    if (!segment(pool, offset, length, segments)) return this.drop(offset, Reason['no-frame'])
    pool.give(offset)
    for (let i = 0; i < segments.count; i++) {
      const at = segments.offsets[i]!
      const bytes = segments.lengths[i]!
      if (hop === TO_KERNEL) this.sendToKernel(at, bytes)
      else if (bytes > mtu) this.sendFragments(hop, at, bytes, mtu)
      else this.sendToNeighbour(hop, at, bytes)
    }
  }

  /** A packet longer than the path takes that may be cut (the director has answered the others). */
  private sendFragments(hop: number, offset: number, length: number, mtu: number): void {
    const { pool, director, fragments: pieces } = this
    pieces.count = 0
    const isCut =
      pool.bytes[offset]! >>> 4 === 6
        ? fragmentIpv6(pool, offset, length, mtu, director.fragmentIdentification(), pieces)
        : fragmentIpv4(pool, offset, length, mtu, pieces)
    if (!isCut) return this.drop(offset, Reason['no-frame'])
    for (let i = 0; i < pieces.count; i++)
      this.sendToNeighbour(hop, pieces.offsets[i]!, pieces.lengths[i]!)
    pool.give(offset)
  }

  /** Puts a link-layer header in front; the neighbour's address is three halfs of `macs` from `index`. */
  private queueEthernet(
    port: number,
    macs: Uint16Array,
    index: number,
    offset: number,
    length: number,
  ): void {
    const start = offset - ethernet.HEADER_BYTES
    ethernet.writeHeader(
      this.pool.words,
      this.pool.halfs,
      start,
      macs,
      index,
      this.portMac,
      3 * port,
      this.pool.bytes[offset]! >>> 4 === 6 ? ethernet.EtherTypeBe.ipv6 : ethernet.EtherTypeBe.ipv4,
    )
    this.queue(port, start, length + ethernet.HEADER_BYTES)
  }

  private queue(port: number, offset: number, length: number): void {
    const batch = this.outgoing[port]!
    batch.push(offset, length)
    if (batch.isFull) this.ports[port]!.transmit(batch)
  }

  /** Sends the waiting packets whose neighbour has answered, gives those up that waited too long. */
  private retryWaiting(): void {
    const waiting = this.waiting
    let kept = 0
    const count = waiting.count
    for (let i = 0; i < count; i++) {
      const hop = waiting.hops[i]!
      const resolved = this.neighbours.state[hop] !== HopState.unresolved
      const tooLate = ((this.now - waiting.deadlines[i]!) | 0) >= 0
      if (!resolved && !tooLate) {
        waiting.keep(i, kept++)
        continue
      }
      waiting.left(i)
      if (resolved) this.send(hop, waiting.offsets[i]!, waiting.lengths[i]!, waiting.mtus[i]!)
      else this.drop(waiting.offsets[i]!, Reason['neighbour-unresolved'])
    }
    waiting.count = kept
  }

  private drop(offset: number, reason: number): void {
    this.director.countReason(reason)
    this.pool.give(offset)
  }

  private dropFrame(offset: number, reason: number): number {
    this.drop(offset, reason)
    return -1
  }
}

function halfsOf(mac: Uint8Array): Uint16Array {
  return new Uint16Array(mac.slice(0, 6).buffer)
}
