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
export const BATCH_SIZE = MOST_AHEAD

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
 * of its next hop. Nothing here allocates once it has been made.
 */
export interface DataPlane {
  /** One round over all ports; returns how many packets it received. */
  round(): number
  /** True while frames are under way that only another round moves on. */
  readonly busy: boolean
  /** Packets that wait for a neighbour now. */
  readonly waitingPackets: number
  /** From now on the kernel's stack has this Ethernet address, 6 bytes. */
  setKernelMac(mac: Uint8Array): void
}

export function createDataPlane(options: DataPlaneOptions): DataPlane {
  const { pool, ports, director, neighbours, clock, handover } = options
  const kernelPort = options.kernelPath ? options.kernelPath.port : -1
  const received = new FrameBatch(BATCH_SIZE)
  /** Of received frames those that are this worker's, by their IP headers. */
  const own = new FrameBatch(BATCH_SIZE)
  const outgoing = ports.map(() => new FrameBatch(BATCH_SIZE))
  // A packet of the shortest fragments is cut into as many again.
  const fragments = new FrameBatch(pool.frameCount)
  const segments = new FrameBatch(pool.hasOffload ? pool.frameCount : 0)
  const waiting = new NeighbourQueue(neighbours)
  const reassembly = new Ipv4Reassembly(pool, options.roomBehindFragment)
  const reassemblyIpv6 = new Ipv6Reassembly(pool)
  const hasOffload = Uint8Array.from(ports, (port) => (port.hasOffload === true ? 1 : 0))
  /** Whether each port has a link layer, and its own Ethernet address as three halfs. */
  const isEthernet = Uint8Array.from(ports, (port) =>
    port.linkLayer === LinkLayer.ethernet ? 1 : 0,
  )
  const portMac = new Uint16Array(3 * ports.length)
  /** The latter two of these as a word. */
  const portMacTail = new Int32Array(ports.length)
  ports.forEach((port, i) => {
    if (!port.mac) return
    portMac.set(halfsOf(port.mac), 3 * i)
    portMacTail[i] = portMac[3 * i + 1]! | (portMac[3 * i + 2]! << 16)
  })
  const kernelMac = new Uint16Array(3)
  const interfacePort = Int32Array.from(options.interfacePort ?? ports.map((_, i) => i))
  let now = 0
  if (options.kernelPath?.mac) setKernelMac(options.kernelPath.mac)

  /** From now on the kernel's stack has this Ethernet address, 6 bytes. */
  function setKernelMac(mac: Uint8Array): void {
    kernelMac.set(halfsOf(mac))
  }

  /** One round over all ports; returns how many packets it received. */
  function round(): number {
    now = clock.nowJiffies()
    let isDone = director.advance(now)
    let total = 0
    for (let p = 0; p < ports.length; p++) {
      const port = ports[p]!
      port.service()
      const batch = received
      batch.count = 0
      const count = port.receive(batch)
      const linkBytes = isEthernet[p] === 1 ? ethernet.HEADER_BYTES : 0
      if (handover !== undefined) divide(handover, count, p)
      else if (count > 0) {
        director.lookAhead(batch.offsets, count, linkBytes)
        carry(count, p)
      }
      total += count
      // As much is done of what is due as packets come, or connections could begin faster than they end.
      if (!isDone && count > 0) isDone = director.advance(now)
    }
    if (handover !== undefined) total += exchange(handover)
    if (waiting.count > 0) retryWaiting()
    if (reassembly.waiting > 0) reassembly.expire(now, answerTimeout)
    if (reassemblyIpv6.waiting > 0) reassemblyIpv6.expire(now, answerTimeout)
    if (reassembly.lost + reassemblyIpv6.lost > 0) countLostFragments()
    for (let p = 0; p < ports.length; p++) {
      const batch = outgoing[p]!
      if (batch.count > 0) ports[p]!.transmit(batch)
    }
    return total
  }

  /** True while frames are under way that only another round moves on. */
  function busy(): boolean {
    if (waiting.count > 0) return true
    for (let p = 0; p < ports.length; p++) if (ports[p]!.transmitting) return true
    return false
  }

  /** Received frames that have been looked up, on their way: link layer, director, and on to where the verdict says. */
  function carry(count: number, port: number): void {
    const { offsets, lengths } = received
    for (let i = 0; i < count; i++) {
      const offset = offsets[i]!
      const length = lengths[i]!
      const network = networkOf(offset, length, port)
      if (network >= 0)
        processOwn(network, length - (network - offset), port, director.candidate(i))
    }
  }

  /**
   * Received frames where there are other workers: what is theirs is handed over, the rest is looked up together and
   * goes its way.
   */
  function divide(handover: Handover, count: number, port: number): void {
    const { offsets, lengths } = received
    const version = director.ownershipVersion
    own.count = 0
    for (let i = 0; i < count; i++) {
      const offset = offsets[i]!
      const length = lengths[i]!
      const network = networkOf(offset, length, port)
      if (network < 0) continue
      const available = length - (network - offset)
      const owner = director.ownerOf(network, available, port)
      if (owner === handover.self) own.push(network, available)
      else if (!handover.push(owner, network, available, interfacePort[port]!, version))
        drop(offset, Reason['handover-full'])
    }
    director.lookAhead(own.offsets, own.count, 0)
    for (let i = 0; i < own.count; i++)
      processOwn(own.offsets[i]!, own.lengths[i]!, port, director.candidate(i))
  }

  /** Byte offset of a received frame's IP header; -1 when it has none that is for this machine, and has been dropped. */
  function networkOf(offset: number, length: number, port: number): number {
    return isUsual(offset, length, port)
      ? offset + ethernet.HEADER_BYTES
      : networkOfOther(offset, length, port)
  }

  /** Whether a frame is what nearly all are, of which there is no more to say: IPv4 on Ethernet, for this port. */
  function isUsual(offset: number, length: number, port: number): boolean {
    // Frames on Ethernet begin 2 bytes before a word.
    const word = (offset + 2) >>> 2
    return (
      isEthernet[port] === 1 &&
      !pool.hasOffload &&
      length > ethernet.HEADER_BYTES &&
      pool.halfs[offset >>> 1] === portMac[3 * port] &&
      pool.words[word] === portMacTail[port] &&
      pool.words[word + 2]! >>> 16 === ethernet.EtherTypeBe.ipv4 &&
      (pool.words[word + 3]! & 0xf0) === 0x40
    )
  }

  function networkOfOther(offset: number, length: number, port: number): number {
    let network = offset
    let available = length
    if (isEthernet[port] === 1) {
      if (length < ethernet.HEADER_BYTES) return dropFrame(offset, Reason['truncated-link-header'])
      const half = offset >> 1
      const halfs = pool.halfs
      const mac = 3 * port
      if (
        halfs[half] !== portMac[mac] ||
        halfs[half + 1] !== portMac[mac + 1] ||
        halfs[half + 2] !== portMac[mac + 2]
      )
        return dropFrame(offset, Reason['not-for-us'])
      const etherType = halfs[half + 6]
      const isIpv6 = etherType === ethernet.EtherTypeBe.ipv6
      if (!isIpv6 && etherType !== ethernet.EtherTypeBe.ipv4)
        return dropFrame(offset, Reason['not-ip'])
      network += ethernet.HEADER_BYTES
      available -= ethernet.HEADER_BYTES
      // A frame that says IPv4 and carries IPv6, or the other way round, carries nothing.
      if (available > 0 && (pool.bytes[network]! >>> 4 === 6) !== isIpv6)
        return dropFrame(offset, Reason['not-ip'])
    }
    if (pool.requestOf(offset) === MALFORMED) return dropFrame(offset, Reason['bad-offload-header'])
    return network
  }

  /** Takes what the other workers have handed over, and lets them see what is theirs. */
  function exchange(handover: Handover): number {
    const { offsets, lengths, ports, versions } = handover
    handover.announce()
    let total = 0
    for (let worker = 0; worker < handover.workers; worker++) {
      if (worker === handover.self) continue
      const count = handover.receive(worker)
      if (count === 0) continue
      director.lookAhead(offsets, count, 0)
      for (let i = 0; i < count; i++)
        if (
          versions[i] === director.ownershipVersion ||
          !handOn(handover, offsets[i]!, lengths[i]!, ports[i]!)
        )
          processOwn(offsets[i]!, lengths[i]!, ports[i]!, director.candidate(i))
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
  function handOn(handover: Handover, network: number, available: number, port: number): boolean {
    const owner = director.ownerOf(network, available, port)
    if (owner === handover.self) return false
    if (!handover.push(owner, network, available, port, director.ownershipVersion))
      drop(network, Reason['handover-full'])
    return true
  }

  /** An IP packet that belongs to this worker, and in which nothing of its link layer is looked at any more. */
  function processOwn(network: number, available: number, port: number, candidate: number): void {
    switch (director.process(network, available, port, candidate)) {
      case Verdict.forward:
        if (pool.hasOffload && director.outIsAnswer) pool.clearRequest(network)
        return send(director.outHop, director.outOffset, director.outLength, director.outMtu)
      case Verdict.decline:
        return sendToKernel(network, available)
      case Verdict.gather:
        return gather(network, available, port)
      default:
        pool.give(network)
    }
  }

  /** A fragment: its packet goes on its way when the last of them has come. */
  function gather(network: number, available: number, port: number): void {
    if (pool.bytes[network]! >>> 4 === 4) {
      switch (reassembly.add(network, available, director.passage, now)) {
        case Gathered.complete:
          return processGathered(reassembly, port, reassembly.mark)
        case Gathered.unusable:
          return drop(network, Reason.fragment)
      }
      return
    }
    switch (reassemblyIpv6.add(network, port, now)) {
      case Gathered.complete:
        return processGathered(reassemblyIpv6, port, NO_MARK)
      case Gathered.waits:
        return
      case Gathered.unusable:
        return drop(network, Reason.fragment)
    }
    switch (director.processSingle(network, available, port)) {
      case Verdict.forward:
        return send(director.outHop, director.outOffset, director.outLength, director.outMtu)
      case Verdict.decline:
        return sendToKernel(network, available)
      default:
        pool.give(network)
    }
  }

  /** A packet that has been put together lies in no frame, so it leaves in fragments, or as a copy. */
  function processGathered(
    gathered: Ipv4Reassembly | Ipv6Reassembly,
    port: number,
    mark: number,
  ): void {
    const { network, length, largest } = gathered
    const largestFrame = pool.frameSize - IP_HEADROOM
    switch (director.processGathered(network, length, port, largest, mark)) {
      case Verdict.forward: {
        const { outHop: hop, outOffset, outLength, outMtu } = director
        const mtu = Math.min(outMtu !== 0 ? outMtu : neighbours.mtu[hop]!, largestFrame)
        for (const piece of piecesOf(gathered, outOffset, outLength, mtu))
          send(hop, piece.offset, piece.length, mtu)
        return
      }
      case Verdict.decline:
        for (const piece of piecesOf(gathered, network, length, largestFrame))
          sendToKernel(piece.offset, piece.length)
    }
  }

  /**
   * Frames with what a packet that was put together has become: an ICMP error whole, anything else in fragments, if
   * possible those that it came in. Where there are too few frames none, and that is counted.
   */
  function piecesOf(
    gathered: Ipv4Reassembly | Ipv6Reassembly,
    offset: number,
    length: number,
    mtu: number,
  ): { offset: number; length: number }[] {
    const { bytes } = pool
    const isIpv6 = bytes[offset]! >>> 4 === 6
    const shift = gathered.network - offset
    const geometry = pulled(gathered.geometry, director.outWritten)
    fragments.count = 0
    // No piece gets longer than those that came, whatever is in front of them, but for what goes into another family.
    const isOfOwn = director.outIsAnswer || isIpv6 !== gathered instanceof Ipv6Reassembly
    const longest = isOfOwn ? length : gathered.largest
    if (length <= Math.min(mtu, longest)) {
      const frame = pool.take()
      if (frame >= 0) {
        bytes.copyWithin(frame + IP_HEADROOM, offset, offset + length)
        fragments.push(frame + IP_HEADROOM, length)
      }
    } else if (isIpv6) {
      const size = Math.min(mtu, Math.max(longest, ipv6.MIN_MTU))
      const identification = director.fragmentIdentification()
      fragmentIpv6(pool, offset, length, size, identification, fragments, geometry, shift)
    } else {
      const size = Math.min(mtu, longest)
      const hasDontFragment = gathered instanceof Ipv4Reassembly && gathered.hasDontFragment
      fragmentIpv4(pool, offset, length, size, fragments, geometry, shift, hasDontFragment)
    }
    if (fragments.count === 0) director.countReason(Reason['no-frame'])
    return Array.from({ length: fragments.count }, (_, i) => ({
      offset: fragments.offsets[i]!,
      length: fragments.lengths[i]!,
    }))
  }

  /** Where a packet has not come together, whoever has sent its first fragment is told. */
  function answerTimeout(expired: Expired): void {
    const frame = pool.take()
    if (frame < 0) return director.countReason(Reason['no-frame'])
    const offset = frame + IP_HEADROOM
    pool.bytes.copyWithin(offset, expired.offset, expired.offset + expired.length)
    if (director.answerTimeout({ ...expired, offset }) === Verdict.forward)
      send(director.outHop, director.outOffset, director.outLength, director.outMtu)
    else pool.give(offset)
  }

  /** Fragments whose packet never came together. */
  function countLostFragments(): void {
    for (const each of [reassembly, reassemblyIpv6])
      for (; each.lost > 0; each.lost--) director.countReason(Reason.fragment)
  }

  /**
   * Sends an IP packet to its next hop: now, when the neighbour is known, or by the kernel.
   *
   * @param pathMtu largest packet for the way, if that is less than the hop's MTU; else 0
   */
  function send(hop: number, offset: number, length: number, pathMtu: number): void {
    switch (neighbours.state[hop]) {
      case HopState.ready: {
        const mtu = pathMtu !== 0 ? pathMtu : neighbours.mtu[hop]!
        if (isToBeSegmented(neighbours.port[hop]!, offset, length, mtu))
          return sendSegments(hop, offset, length, mtu)
        if (length > mtu && pool.requestOf(offset) === 0)
          return sendFragments(hop, offset, length, mtu)
        return sendToNeighbour(hop, offset, length)
      }
      case HopState.unresolved:
        neighbours.want(hop)
        if (!waiting.add(offset, length, hop, pathMtu, (now + NEIGHBOUR_WAIT_JIFFIES) | 0))
          drop(offset, Reason['neighbour-queue-full'])
        return
      case HopState.kernel:
      case HopState.local:
        return sendToKernel(offset, length)
      default:
        return drop(offset, Reason['no-route'])
    }
  }

  function sendToNeighbour(hop: number, offset: number, length: number): void {
    const port = neighbours.port[hop]!
    neighbours.used[hop] = 1
    if (isEthernet[port] === 1) queueEthernet(port, neighbours.mac, 3 * hop, offset, length)
    else queue(port, offset, length)
  }

  function sendToKernel(offset: number, length: number): void {
    const port = kernelPort
    if (port < 0) {
      pool.give(offset)
    } else if (isToBeSegmented(port, offset, length, LONGEST_PACKET)) {
      sendSegments(TO_KERNEL, offset, length, LONGEST_PACKET)
    } else if (isEthernet[port] === 1) {
      queueEthernet(port, kernelMac, 0, offset, length)
    } else {
      queue(port, offset, length)
    }
  }

  /**
   * Whether what a packet asks for has to be done here: the port cannot pass it on, the packet is in a tunnel by now,
   * or too long for the way in spite of it.
   */
  function isToBeSegmented(port: number, offset: number, length: number, mtu: number): boolean {
    const request = pool.requestOf(offset)
    return (
      request !== 0 &&
      (hasOffload[port] === 0 || request !== offset || pool.wireBytes(offset, length) > mtu)
    )
  }

  /** @param hop TO_KERNEL for the kernel's stack */
  function sendSegments(hop: number, offset: number, length: number, mtu: number): void {
    segments.count = 0
    if (!segment(pool, offset, length, segments)) return drop(offset, Reason['no-frame'])
    pool.give(offset)
    for (let i = 0; i < segments.count; i++) {
      const at = segments.offsets[i]!
      const bytes = segments.lengths[i]!
      if (hop === TO_KERNEL) sendToKernel(at, bytes)
      else if (bytes > mtu) sendFragments(hop, at, bytes, mtu)
      else sendToNeighbour(hop, at, bytes)
    }
  }

  /** A packet longer than the path takes that may be cut (the director has answered the others). */
  function sendFragments(hop: number, offset: number, length: number, mtu: number): void {
    fragments.count = 0
    const isCut =
      pool.bytes[offset]! >>> 4 === 6
        ? fragmentIpv6(pool, offset, length, mtu, director.fragmentIdentification(), fragments)
        : fragmentIpv4(pool, offset, length, mtu, fragments)
    if (!isCut) return drop(offset, Reason['no-frame'])
    for (let i = 0; i < fragments.count; i++)
      sendToNeighbour(hop, fragments.offsets[i]!, fragments.lengths[i]!)
    pool.give(offset)
  }

  /** Puts a link-layer header in front; the neighbour's address is three halfs of `macs` from `index`. */
  function queueEthernet(
    port: number,
    macs: Uint16Array,
    index: number,
    offset: number,
    length: number,
  ): void {
    const start = offset - ethernet.HEADER_BYTES
    ethernet.writeHeader(
      pool.words,
      pool.halfs,
      start,
      macs,
      index,
      portMac,
      3 * port,
      pool.bytes[offset]! >>> 4 === 6 ? ethernet.EtherTypeBe.ipv6 : ethernet.EtherTypeBe.ipv4,
    )
    queue(port, start, length + ethernet.HEADER_BYTES)
  }

  function queue(port: number, offset: number, length: number): void {
    const batch = outgoing[port]!
    batch.push(offset, length)
    if (batch.isFull) ports[port]!.transmit(batch)
  }

  /** Sends the waiting packets whose neighbour has answered, gives those up that waited too long. */
  function retryWaiting(): void {
    let kept = 0
    const count = waiting.count
    for (let i = 0; i < count; i++) {
      const hop = waiting.hops[i]!
      const resolved = neighbours.state[hop] !== HopState.unresolved
      const tooLate = ((now - waiting.deadlines[i]!) | 0) >= 0
      if (!resolved && !tooLate) {
        waiting.keep(i, kept++)
        continue
      }
      waiting.left(i)
      if (resolved) send(hop, waiting.offsets[i]!, waiting.lengths[i]!, waiting.mtus[i]!)
      else drop(waiting.offsets[i]!, Reason['neighbour-unresolved'])
    }
    waiting.count = kept
  }

  function drop(offset: number, reason: number): void {
    director.countReason(reason)
    pool.give(offset)
  }

  function dropFrame(offset: number, reason: number): number {
    drop(offset, reason)
    return -1
  }

  return {
    round,
    get busy() {
      return busy()
    },
    get waitingPackets() {
      return waiting.count
    },
    setKernelMac,
  }
}

function halfsOf(mac: Uint8Array): Uint16Array {
  return new Uint16Array(mac.slice(0, 6).buffer)
}
