import type { FramePool } from '../port/frame-pool.js'
import { HopState, type Neighbours } from '../port/neighbours.js'
import { ConnectionFlag, W } from './connection.js'
import { REPLY_SALT, type ConnectionTable } from './connection-table.js'
import type { Connections } from './connections.js'
import type { CounterRegion } from './counters.js'
import { C } from './counters.js'
import type { Destination, DestinationSlots } from './destination.js'
import type { Exit } from './forwarding/exit.js'
import { forwardThroughTunnel } from './forwarding/tunnel.js'
import { NO_MARK, type Packet } from './packet.js'
import type { Protocols } from './protocols/index.js'
import { Direction } from './protocols/protocol.js'
import type { ServiceRegistry } from './service.js'
import type { Settings } from './settings.js'
import { Timer, type TimerWheel } from './timer-wheel.js'
import { Verdict } from './verdict.js'

/**
 * Packets that are looked up together at most: a batch. At the end of each of its steps the processor waits for the last
 * loads, so a step is worth the more packets the better, as long as their lines stay in the first-level cache.
 */
export const MOST_AHEAD = 256

/** What `process` says of a packet that has to go the long way. */
export const THE_LONG_WAY = -1

/** Words of an IPv4 packet without options, and of the TCP header behind it, by their place from its start. */
const enum At {
  /** Version and header length, type of service, length. */
  first = 0,
  /** Identification, flags and fragment offset. */
  fragment = 1,
  /** TTL, protocol, checksum. */
  ttl = 2,
  source = 3,
  destination = 4,
  ports = 5,
  /** UDP: length, checksum. */
  udpChecksum = 6,
  /** TCP: data offset, flags, window. */
  tcpFlags = 8,
  /** TCP: checksum, urgent pointer. */
  tcpChecksum = 9,
}

const enum Ip {
  /** Version 4, five words of header. */
  version = 0x45,
  /** More fragments, or an offset: of the word At.fragment. */
  fragmentMask = 0xff3f0000 | 0,
  headerBytes = 20,
  withTcp = 40,
  withUdp = 28,
  tcp = 6,
  udp = 17,
  /** Where family and protocol stand in a connection's line. */
  family = 4 << 8,
}

const enum Line {
  /** Words in a connection's line, as a shift. */
  shift = 4,
  /** Of a connection's number. */
  mask = 0x1ffffff,
}

const HOP_MASK = 0xffff
/** Of a place among the counters. */
const COUNTERS_MASK = 0x3ffffff

const SYN = 0x02

/**
 * Of a connection whose requests go the short way: it is in the index under its whole key, no template, and its client is
 * an address that packets are taken from.
 */
const REQUEST_FLAGS =
  ConnectionFlag.hashed |
  ConnectionFlag.noClientPort |
  ConnectionFlag.template |
  ConnectionFlag.byMark |
  ConnectionFlag.martian
/** The same of replies: it is masqueraded besides, and its replies have been seen or are expected. */
const REPLY_FLAGS = REQUEST_FLAGS | ConnectionFlag.forwardingMask | ConnectionFlag.noOutput

/** What the hit path shares with the director that it belongs to. */
export interface HitPathParts {
  pool: FramePool
  neighbours: Neighbours
  settings: Settings
  table: ConnectionTable
  wheel: TimerWheel
  connections: Connections
  slots: DestinationSlots
  services: ServiceRegistry
  protocols: Protocols
  counters: CounterRegion
  exit: Exit
  packet: Packet
}

/**
 * The short way: for a packet of IPv4 without options or fragments, TCP or UDP, whose connection is there and
 * stays in its state, and whose next hop is at hand. These are nearly all packets, so what the director does
 * with them in many small steps is done here in one function, straight through.
 *
 * It decides nothing of its own. Whatever is not as told above is found out before anything has been changed,
 * and then the director does it all, from the start: the short way may always say no. What it does do has the
 * same result, bit by bit; test/core/hit-path.test.ts holds the two against each other.
 */
export interface HitPath {
  /**
   * Looks up the connections of packets that are to be processed next.
   *
   * A packet of a large table misses the processor's caches twice: the index's slot, and the connection's line. One
   * packet after the other, each would wait for both. This asks for the slots of a whole batch, then for their lines,
   * and as no load depends on another's result, the processor waits for many at the same time.
   *
   * @param offsets byte offset of each frame
   * @param count how many frames, MOST_AHEAD at most
   * @param linkBytes bytes of each frame before its IP header
   */
  lookAhead(offsets: Int32Array, count: number, linkBytes: number): void
  /**
   * What `lookAhead` has found for the packet of this number, if that is still so, for `process`: the connection that it
   * may be a request or a reply of; 0 for none.
   */
  candidate(i: number): number
  /**
   * Processes a packet, if it can go the short way.
   *
   * @param candidate of `lookAhead`; 0 when it was not asked
   * @returns the verdict, or THE_LONG_WAY; then nothing has been changed
   */
  process(network: number, available: number, inPort: number, candidate: number): number
}

/**
 * Makes the short way of a director.
 *
 * All that it works with are constants of its functions, and not fields of an object. Of a function that there is once in a
 * thread V8 makes code for these very constants: where the connection table begins and where it ends is part of the
 * instructions, instead of being loaded from three objects and compared at each access. With several directors in a
 * thread, as tests have them, it loads them after all. docs/performance.md has what that gives.
 */
export function createHitPath(parts: HitPathParts): HitPath {
  // Where the packets looked at start in the index, and what they were found to belong to.
  const hashes = new Int32Array(MOST_AHEAD)
  const places = new Int32Array(MOST_AHEAD)
  const found = new Int32Array(MOST_AHEAD)
  /** The table's version at that time. */
  let version = -1
  /** Gets what has been loaded for the caches' sake, so that the compiler does load it. */
  const touched = new Int32Array(1)

  const { table, wheel, connections, services, settings, neighbours, exit, packet } = parts
  const { words } = parts.pool
  const lines = table.words
  const destinations: readonly (Destination | undefined)[] = parts.slots.all
  const { tcp, udp } = parts.protocols
  const { values } = parts.counters
  const totalAt = parts.counters.total
  const { replies } = connections

  function lookAhead(offsets: Int32Array, frames: number, linkBytes: number): void {
    const count = frames | 0
    const link = linkBytes | 0
    // The first is read here, too, so that V8 looks what kind of array it is before the loop, and not in it.
    touched[0] = offsets[0]!
    for (let i = 0; i < count; i++) {
      const at = ((offsets[i]! + link) | 0) >>> 2
      const protocol = (words[at + At.ttl]! >>> 8) & 0xff
      const sourceBe = words[at + At.source]!
      const ports = words[at + At.ports]!
      const isReply = replies.mayContain(protocol, sourceBe, ports & 0xffff)
      const salted = isReply ? protocol | REPLY_SALT : protocol
      const hash = table.hashOf(salted, sourceBe, words[at + At.destination]!, ports)
      hashes[i] = hash
      places[i] = table.placeOf(hash)
    }
    // Loops that do nothing but load, four at a time, and wait for nothing that they load: the more loads the processor
    // has begun, the more it waits for at once. Behind the last one there is what an earlier batch has left.
    let a = 0
    let b = 0
    let c = 0
    let d = 0
    for (let i = 0; i < count; i += 4) {
      a = lines[places[i]!]!
      b = lines[places[i + 1]!]!
      c = lines[places[i + 2]!]!
      d = lines[places[i + 3]!]!
    }
    touched[0] = a ^ b ^ c ^ d
    for (let i = 0; i < count; i++) {
      // In the first place or in the second: without a branch, which the processor could not foresee.
      const hash = hashes[i]!
      const home = places[i]!
      const difference = lines[home]! ^ hash
      const place = (home - (((difference | -difference) >> 31) << 1)) | 0
      const connection = lines[place + 1]!
      found[i] =
        connection === 0 || lines[place] === hash ? connection : table.candidate(hash, place)
    }
    for (let i = 0; i < count; i += 4) {
      a = lines[found[i]! << Line.shift]!
      b = lines[found[i + 1]! << Line.shift]!
      c = lines[found[i + 2]! << Line.shift]!
      d = lines[found[i + 3]! << Line.shift]!
    }
    touched[0] = a ^ b ^ c ^ d
    version = table.version
  }

  function candidate(i: number): number {
    return version === table.version ? found[i]! : 0
  }

  // Requests are done here from the first word to the last, and replies in a function of their own, without a call that
  // V8 would have to inline: whether it does depends on how often it has come by when it compiles, and the first packets
  // of a director are SYNs, which go the long way. Indices are masked or shifted to what they can be, so that the
  // compiler knows that adding to them does not overflow.
  function process(network: number, available: number, inPort: number, ahead: number): number {
    const at = network >>> 2
    const first = words[at + At.first]!
    const totalBytes = ((first >>> 8) & 0xff00) | (first >>> 24)
    if (available < Ip.withUdp || (first & 0xff) !== Ip.version || totalBytes > available)
      return THE_LONG_WAY
    const fragment = words[at + At.fragment]!
    const ttlWord = words[at + At.ttl]!
    const sourceBe = words[at + At.source]!
    const destinationBe = words[at + At.destination]!
    const protocol = (ttlWord >>> 8) & 0xff
    const isTcp = protocol === Ip.tcp
    if ((!isTcp && protocol !== Ip.udp) || totalBytes < (isTcp ? Ip.withTcp : Ip.withUdp))
      return THE_LONG_WAY
    const low = (first & 0xffff) + (fragment & 0xffff) + (ttlWord & 0xffff)
    const high = (first >>> 16) + (fragment >>> 16) + (ttlWord >>> 16)
    const addresses =
      (sourceBe & 0xffff) + (sourceBe >>> 16) + (destinationBe & 0xffff) + (destinationBe >>> 16)
    const sum = low + high + addresses
    // Folded it is 0xffff: it is not 0, and each carry out of the lower half is a 1 to add.
    if (
      (fragment & Ip.fragmentMask) !== 0 ||
      (sum & 0xffff) + (sum >>> 16) !== 0xffff ||
      (ttlWord & 0xff) <= 1 ||
      sourceBe === destinationBe ||
      services.hasIpv4 !== true
    )
      return THE_LONG_WAY
    const ports = words[at + At.ports]!
    const connection = ahead !== 0 ? ahead : find(protocol, sourceBe, destinationBe, ports)
    if (connection === 0) return THE_LONG_WAY
    const line = (connection & Line.mask) << Line.shift
    if (lines[line + W.clientBe] !== sourceBe) return reply(at, totalBytes, connection)

    // A packet from a client. Its source is none of those that no packet is taken from: such connections have a flag.
    const flags = lines[line + W.flags]!
    const slot = lines[line + W.destination]!
    const protocolWord = lines[line + W.protocolWord]!
    if (
      lines[line + W.virtualBe] !== destinationBe ||
      lines[line + W.ports] !== ports ||
      protocolWord >>> 16 !== (protocol | Ip.family) ||
      (flags & REQUEST_FLAGS) !== ConnectionFlag.hashed ||
      (ports & 0xffff) === 0 ||
      slot < 0 ||
      settings.natIcmpSend !== 0
    )
      return THE_LONG_WAY
    const destination = destinations[slot]
    if (destination === undefined || destination.available !== true) return THE_LONG_WAY

    const forwarding = flags & ConnectionFlag.forwardingMask
    const hop = destination.hop & HOP_MASK
    if (forwarding !== ConnectionFlag.tunnel) {
      const state = neighbours.state[hop]!
      if (
        destination.hopGeneration !== neighbours.generation ||
        destination.pathMtu !== undefined ||
        (destination.pathMtuGeneration !== exit.pathMtus.generation &&
          forwarding !== ConnectionFlag.directRoute) ||
        (state !== HopState.ready && state !== HopState.unresolved) ||
        (totalBytes > neighbours.mtu[hop]! &&
          exit.pool.wireBytes(network, totalBytes) > neighbours.mtu[hop]!)
      )
        return THE_LONG_WAY
    }

    const stateWord = lines[line + W.stateWord]!
    let timeout: number
    if (isTcp) {
      const event = words[at + At.tcpFlags]! >>> 8
      const state = stateWord & 0xff
      const direction =
        (flags & ConnectionFlag.noOutput) !== 0 ? Direction.inputOnly : Direction.input
      const next = tcp.next[(direction << 9) | ((event & 0x1f) << 4) | state]
      if ((event & SYN) !== 0 || next !== state) return THE_LONG_WAY
      timeout = tcp.timeouts[state]!
    } else {
      const hasChecksum = words[at + At.udpChecksum]! >>> 16 !== 0
      if (!hasChecksum && forwarding === ConnectionFlag.masquerade) return THE_LONG_WAY
      timeout = udp.timeouts[0]!
    }

    // From here on nothing stands against it. The timer, as TimerWheel.set does it where the slot stays the same.
    const expires = (connections.now + timeout) | 0
    const oldExpires = lines[line + W.expires]!
    if (oldExpires !== expires || lines[line + W.timeout] !== timeout) {
      const isSameSlot =
        (stateWord & Timer.hasShift) !== 0 &&
        lines[line + W.timeout] === timeout &&
        (oldExpires ^ expires) >> (stateWord >>> Timer.shift) === 0
      if (isSameSlot) lines[line + W.expires] = expires
      else wheel.set(connection, expires, timeout)
    }
    // The counters, as Traffic has them.
    const own = destination.counters & COUNTERS_MASK
    const service = destination.service.counters & COUNTERS_MASK
    const total = totalAt & COUNTERS_MASK
    values[own + C.inPackets]!++
    values[own + C.inBytes]! += totalBytes
    values[service + C.inPackets]!++
    values[service + C.inBytes]! += totalBytes
    values[total + C.inPackets]!++
    values[total + C.inBytes]! += totalBytes
    lines[line + W.inPackets] = (lines[line + W.inPackets]! + 1) | 0

    exit.mtu = 0
    exit.written = 0
    exit.isAnswer = false
    if (forwarding === ConnectionFlag.tunnel)
      return tunnel(at, totalBytes, inPort, protocol, ports, destination)
    // One off the TTL, in the header's checksum, too.
    let checksum = (ttlWord >>> 16) + 1
    checksum = (checksum + (checksum >= 0xffff ? 1 : 0)) & 0xffff
    if (forwarding === ConnectionFlag.masquerade) {
      const addressBe = lines[line + W.destinationBe]!
      const portBe = protocolWord & 0xffff
      words[at + At.destination] = addressBe
      words[at + At.ports] = (ports & 0xffff) | (portBe << 16)
      // What the changes of address and port contribute to both checksums, see wire/checksum.ts.
      const delta =
        (~destinationBe & 0xffff) +
        (~destinationBe >>> 16) +
        (addressBe & 0xffff) +
        (addressBe >>> 16)
      let sum = (checksum ^ 0xffff) + delta
      sum = (sum & 0xffff) + (sum >>> 16)
      checksum = ((sum & 0xffff) + (sum >>> 16)) ^ 0xffff
      const place = isTcp ? at + At.tcpChecksum : at + At.udpChecksum
      const word = words[place]!
      const shift = isTcp ? 0 : 16
      sum = (((word >>> shift) & 0xffff) ^ 0xffff) + delta + ((ports >>> 16) ^ 0xffff) + portBe
      sum = (sum & 0xffff) + (sum >>> 16)
      sum = ((sum & 0xffff) + (sum >>> 16)) ^ 0xffff
      // In UDP 0 says that there is no checksum.
      if (sum === 0 && !isTcp) sum = 0xffff
      words[place] = (word & ~(0xffff << shift)) | (sum << shift)
    }
    words[at + At.ttl] = ((ttlWord & 0xffff) - 1) | (checksum << 16)
    exit.offset = network
    exit.length = totalBytes
    exit.hop = hop
    return (exit.verdict = Verdict.forward)
  }

  function find(protocol: number, sourceBe: number, destinationBe: number, ports: number): number {
    return replies.mayContain(protocol, sourceBe, ports & 0xffff)
      ? table.findReply(protocol, sourceBe, destinationBe, ports)
      : table.findRequest(protocol, sourceBe, destinationBe, ports)
  }

  /** A packet from a masqueraded real server; what comes before its transport header has been checked. */
  function reply(at: number, totalBytes: number, connection: number): number {
    const place = at & (-1 >>> 2)
    const ttlWord = words[place + At.ttl]!
    const sourceBe = words[place + At.source]!
    const ports = words[place + At.ports]!
    const isTcp = ((ttlWord >>> 8) & 0xff) === Ip.tcp
    const line = (connection & Line.mask) << Line.shift
    const flags = lines[line + W.flags]!
    const slot = lines[line + W.destination]!
    const clientHop = lines[line + W.clientHop]!
    const virtualPorts = lines[line + W.ports]!
    if (
      lines[line + W.destinationBe] !== sourceBe ||
      lines[line + W.clientBe] !== words[place + At.destination] ||
      (virtualPorts & 0xffff) !== ports >>> 16 ||
      lines[line + W.protocolWord] !==
        ((ports & 0xffff) | ((((ttlWord >>> 8) & 0xff) | Ip.family) << 16)) ||
      (flags & REPLY_FLAGS) !== ConnectionFlag.hashed ||
      clientHop >>> 16 !== neighbours.generation ||
      slot < 0 ||
      (sourceBe & 0xf0) === 0xe0 ||
      (sourceBe & 0xff) === 0x7f ||
      sourceBe === 0 ||
      sourceBe === -1
    )
      return THE_LONG_WAY
    const hop = clientHop & HOP_MASK
    const hopState = neighbours.state[hop]
    if (
      (hopState !== HopState.ready && hopState !== HopState.unresolved) ||
      (totalBytes > neighbours.mtu[hop]! &&
        exit.pool.wireBytes(at << 2, totalBytes) > neighbours.mtu[hop]!)
    )
      return THE_LONG_WAY
    const destination = destinations[slot]
    if (destination === undefined || destination.available !== true) return THE_LONG_WAY

    const stateWord = lines[line + W.stateWord]!
    let timeout: number
    if (isTcp) {
      const event = words[place + At.tcpFlags]! >>> 8
      const state = stateWord & 0xff
      const next = tcp.next[(Direction.output << 9) | ((event & 0x1f) << 4) | state]
      if (next !== state) return THE_LONG_WAY
      timeout = tcp.timeouts[state]!
    } else {
      const hasChecksum = words[place + At.udpChecksum]! >>> 16 !== 0
      if (!hasChecksum || lines[line + W.control] !== 0) return THE_LONG_WAY
      timeout = udp.timeouts[0]!
    }

    // From here on nothing stands against it: timer, counters and checksums as in `process`.
    const expires = (connections.now + timeout) | 0
    const oldExpires = lines[line + W.expires]!
    if (oldExpires !== expires || lines[line + W.timeout] !== timeout) {
      const isSameSlot =
        (stateWord & Timer.hasShift) !== 0 &&
        lines[line + W.timeout] === timeout &&
        (oldExpires ^ expires) >> (stateWord >>> Timer.shift) === 0
      if (isSameSlot) lines[line + W.expires] = expires
      else wheel.set(connection, expires, timeout)
    }
    const own = destination.counters & COUNTERS_MASK
    const service = destination.service.counters & COUNTERS_MASK
    const total = totalAt & COUNTERS_MASK
    values[own + C.outPackets]!++
    values[own + C.outBytes]! += totalBytes
    values[service + C.outPackets]!++
    values[service + C.outBytes]! += totalBytes
    values[total + C.outPackets]!++
    values[total + C.outBytes]! += totalBytes

    const addressBe = lines[line + W.virtualBe]!
    const portBe = virtualPorts >>> 16
    words[place + At.source] = addressBe
    words[place + At.ports] = (ports & ~0xffff) | portBe
    const delta =
      (~sourceBe & 0xffff) + (~sourceBe >>> 16) + (addressBe & 0xffff) + (addressBe >>> 16)
    let checksum = (ttlWord >>> 16) + 1
    checksum = (checksum + (checksum >= 0xffff ? 1 : 0)) & 0xffff
    let sum = (checksum ^ 0xffff) + delta
    sum = (sum & 0xffff) + (sum >>> 16)
    checksum = ((sum & 0xffff) + (sum >>> 16)) ^ 0xffff
    words[place + At.ttl] = ((ttlWord & 0xffff) - 1) | (checksum << 16)
    const checksumAt = isTcp ? place + At.tcpChecksum : place + At.udpChecksum
    const word = words[checksumAt]!
    const shift = isTcp ? 0 : 16
    sum = (((word >>> shift) & 0xffff) ^ 0xffff) + delta + ((ports & 0xffff) ^ 0xffff) + portBe
    sum = (sum & 0xffff) + (sum >>> 16)
    sum = ((sum & 0xffff) + (sum >>> 16)) ^ 0xffff
    if (sum === 0 && !isTcp) sum = 0xffff
    words[checksumAt] = (word & ~(0xffff << shift)) | (sum << shift)
    exit.mtu = 0
    exit.written = 0
    exit.isAnswer = false
    exit.offset = at << 2
    exit.length = totalBytes
    exit.hop = hop
    return (exit.verdict = Verdict.forward)
  }

  /** The last of the way through a tunnel is the director's own. */
  function tunnel(
    at: number,
    totalBytes: number,
    inPort: number,
    protocol: number,
    ports: number,
    destination: Destination,
  ): Verdict {
    packet.family = 4
    packet.network = at << 2
    packet.headerBytes = Ip.headerBytes
    packet.totalBytes = totalBytes
    packet.largestFragment = 0
    packet.transport = packet.network + Ip.headerBytes
    packet.transportBytes = totalBytes - Ip.headerBytes
    packet.protocol = protocol
    packet.sourceAt = at + At.source
    packet.destinationAt = at + At.destination
    packet.sourceBe = words[at + At.source]!
    packet.destinationBe = words[at + At.destination]!
    packet.ports = ports
    packet.inPort = inPort
    packet.mark = NO_MARK
    packet.hasOptions = false
    packet.hasHeader = packet.mayBegin = true
    packet.isOpening = packet.isReset = false
    return forwardThroughTunnel(exit, packet, destination)
  }

  return { lookAhead, candidate, process }
}
