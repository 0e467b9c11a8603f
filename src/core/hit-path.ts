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
import type { TcpProtocol } from './protocols/tcp.js'
import type { UdpProtocol } from './protocols/udp.js'
import type { ServiceRegistry } from './service.js'
import type { Settings } from './settings.js'
import { Timer, type TimerWheel } from './timer-wheel.js'
import { Verdict } from './verdict.js'

/** Packets that are looked up together at most. */
export const MOST_AHEAD = 64

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

/** Of a connection whose requests go the short way: it is in the index under its whole key, and no template. */
const REQUEST_FLAGS =
  ConnectionFlag.hashed |
  ConnectionFlag.noClientPort |
  ConnectionFlag.template |
  ConnectionFlag.byMark
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
 *
 * A packet of a large table misses the processor's caches twice: the index's slot, and the connection's line. One
 * packet after the other, each would wait for both. `lookAhead` asks for the slots of a whole batch, then
 * for their lines, and as no load depends on another's result, the processor waits for many at the same time.
 */
export class HitPath {
  /** Where the packets looked at start in the index, and what they were found to belong to. */
  private readonly hashes = new Int32Array(MOST_AHEAD)
  private readonly places = new Int32Array(MOST_AHEAD)
  private readonly kinds = new Int32Array(MOST_AHEAD)
  private readonly found = new Int32Array(MOST_AHEAD)
  /** The table's version at that time. */
  private version = -1
  /** Holds what has been loaded for the caches' sake, so that the compiler does load it. */
  touched = 0

  // `declare`d, these fields are never undefined, not even before the constructor sets them: V8 then knows what they are
  // and need not look each time.
  declare private readonly words: Int32Array
  declare private readonly lines: Int32Array
  declare private readonly table: ConnectionTable
  declare private readonly wheel: TimerWheel
  declare private readonly connections: Connections
  declare private readonly destinations: readonly (Destination | undefined)[]
  declare private readonly services: ServiceRegistry
  declare private readonly settings: Settings
  declare private readonly tcp: TcpProtocol
  declare private readonly udp: UdpProtocol
  declare private readonly neighbours: Neighbours
  declare private readonly exit: Exit
  declare private readonly packet: Packet
  declare private readonly values: Float64Array
  declare private readonly total: number

  constructor(parts: HitPathParts) {
    this.words = parts.pool.words
    this.lines = parts.table.words
    this.table = parts.table
    this.wheel = parts.wheel
    this.connections = parts.connections
    this.destinations = parts.slots.all
    this.services = parts.services
    this.settings = parts.settings
    this.tcp = parts.protocols.tcp
    this.udp = parts.protocols.udp
    this.neighbours = parts.neighbours
    this.exit = parts.exit
    this.packet = parts.packet
    this.values = parts.counters.values
    this.total = parts.counters.total
  }

  /**
   * Looks up the connections of packets that are to be processed next.
   *
   * @param offsets byte offset of each frame
   * @param from,to of which frames: MOST_AHEAD of them at most
   * @param linkBytes bytes of each frame before its IP header
   */
  lookAhead(offsets: Int32Array, from: number, to: number, linkBytes: number): void {
    const count = to - from
    const { words, lines, table, hashes, places, kinds, found } = this
    const { replies } = this.connections
    for (let i = 0; i < count; i++) {
      const at = ((offsets[from + i]! + linkBytes) | 0) >>> 2
      const protocol = (words[at + At.ttl]! >>> 8) & 0xff
      const sourceBe = words[at + At.source]!
      const ports = words[at + At.ports]!
      const isReply = replies.mayContain(protocol, sourceBe, ports & 0xffff)
      const salted = isReply ? protocol | REPLY_SALT : protocol
      const hash = table.hashOf(salted, sourceBe, words[at + At.destination]!, ports)
      hashes[i] = hash
      kinds[i] = isReply ? -1 : 1
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
    this.touched = a ^ b ^ c ^ d
    for (let i = 0; i < count; i++) found[i] = table.candidate(hashes[i]!, places[i]!)
    for (let i = 0; i < count; i += 4) {
      a = lines[found[i]! << Line.shift]!
      b = lines[found[i + 1]! << Line.shift]!
      c = lines[found[i + 2]! << Line.shift]!
      d = lines[found[i + 3]! << Line.shift]!
    }
    this.touched ^= a ^ b ^ c ^ d
    this.version = table.version
  }

  /**
   * What `lookAhead` has found for the packet of this number, if that is still so, for `process`: a connection, the
   * negative of one for what may be a reply; 0 for none.
   */
  candidate(i: number): number {
    return this.version === this.table.version ? Math.imul(this.found[i]!, this.kinds[i]!) : 0
  }

  /**
   * Processes a packet, if it can go the short way.
   *
   * Requests are done here from the first word to the last, and replies in a function of their own, without a call
   * that V8 would have to inline: whether it does depends on how often it has come by when it compiles, and the first
   * packets of a director are SYNs, which go the long way. Indices are masked or shifted to what they can be, so that
   * the compiler knows that adding to them does not overflow.
   *
   * @param candidate of `lookAhead`: a connection, the negative of one for what may be a reply; 0 for none
   * @returns the verdict, or THE_LONG_WAY; then nothing has been changed
   */
  process(network: number, available: number, inPort: number, candidate: number): number {
    const { words, lines } = this
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
      (sourceBe & 0xf0) === 0xe0 ||
      (sourceBe & 0xff) === 0x7f ||
      sourceBe === 0 ||
      sourceBe === -1 ||
      !this.services.hasIpv4
    )
      return THE_LONG_WAY
    const ports = words[at + At.ports]!
    const connection =
      candidate !== 0 ? candidate : this.find(protocol, sourceBe, destinationBe, ports)
    if (connection <= 0)
      return connection === 0 ? THE_LONG_WAY : this.reply(at, totalBytes, -connection)

    // A packet from a client.
    const line = (connection & Line.mask) << Line.shift
    const flags = lines[line + W.flags]!
    const slot = lines[line + W.destination]!
    const protocolWord = lines[line + W.protocolWord]!
    if (
      lines[line + W.clientBe] !== sourceBe ||
      lines[line + W.virtualBe] !== destinationBe ||
      lines[line + W.ports] !== ports ||
      protocolWord >>> 16 !== (protocol | Ip.family) ||
      (flags & REQUEST_FLAGS) !== ConnectionFlag.hashed ||
      (ports & 0xffff) === 0 ||
      slot < 0 ||
      this.settings.natIcmpSend !== 0
    )
      return THE_LONG_WAY
    const destination = this.destinations[slot]
    if (destination === undefined || destination.available !== true) return THE_LONG_WAY

    const forwarding = flags & ConnectionFlag.forwardingMask
    const { exit } = this
    const hop = destination.hop & HOP_MASK
    if (forwarding !== ConnectionFlag.tunnel) {
      const { neighbours } = this
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
      const { tcp } = this
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
      timeout = this.udp.timeouts[0]!
    }

    // From here on nothing stands against it. The timer, as TimerWheel.set does it where the slot stays the same.
    const expires = (this.connections.now + timeout) | 0
    const oldExpires = lines[line + W.expires]!
    if (oldExpires !== expires || lines[line + W.timeout] !== timeout) {
      const isSameSlot =
        (stateWord & Timer.hasShift) !== 0 &&
        lines[line + W.timeout] === timeout &&
        (oldExpires ^ expires) >> (stateWord >>> Timer.shift) === 0
      if (isSameSlot) lines[line + W.expires] = expires
      else this.wheel.set(connection, expires, timeout)
    }
    // The counters, as Traffic has them.
    const { values } = this
    const own = destination.counters & COUNTERS_MASK
    const service = destination.service.counters & COUNTERS_MASK
    const total = this.total & COUNTERS_MASK
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
      return this.tunnel(at, totalBytes, inPort, protocol, ports, destination)
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

  private find(protocol: number, sourceBe: number, destinationBe: number, ports: number): number {
    const { table } = this
    return this.connections.replies.mayContain(protocol, sourceBe, ports & 0xffff)
      ? -table.findReply(protocol, sourceBe, destinationBe, ports)
      : table.findRequest(protocol, sourceBe, destinationBe, ports)
  }

  /** A packet from a masqueraded real server; what comes before its transport header has been checked. */
  private reply(at: number, totalBytes: number, connection: number): number {
    const { words, lines, neighbours, exit } = this
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
      slot < 0
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
    const destination = this.destinations[slot]
    if (destination === undefined || destination.available !== true) return THE_LONG_WAY

    const stateWord = lines[line + W.stateWord]!
    let timeout: number
    if (isTcp) {
      const { tcp } = this
      const event = words[place + At.tcpFlags]! >>> 8
      const state = stateWord & 0xff
      const next = tcp.next[(Direction.output << 9) | ((event & 0x1f) << 4) | state]
      if (next !== state) return THE_LONG_WAY
      timeout = tcp.timeouts[state]!
    } else {
      const hasChecksum = words[place + At.udpChecksum]! >>> 16 !== 0
      if (!hasChecksum || lines[line + W.control] !== 0) return THE_LONG_WAY
      timeout = this.udp.timeouts[0]!
    }

    // From here on nothing stands against it: timer, counters and checksums as in `process`.
    const expires = (this.connections.now + timeout) | 0
    const oldExpires = lines[line + W.expires]!
    if (oldExpires !== expires || lines[line + W.timeout] !== timeout) {
      const isSameSlot =
        (stateWord & Timer.hasShift) !== 0 &&
        lines[line + W.timeout] === timeout &&
        (oldExpires ^ expires) >> (stateWord >>> Timer.shift) === 0
      if (isSameSlot) lines[line + W.expires] = expires
      else this.wheel.set(connection, expires, timeout)
    }
    const { values } = this
    const own = destination.counters & COUNTERS_MASK
    const service = destination.service.counters & COUNTERS_MASK
    const total = this.total & COUNTERS_MASK
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
  private tunnel(
    at: number,
    totalBytes: number,
    inPort: number,
    protocol: number,
    ports: number,
    destination: Destination,
  ): Verdict {
    const { packet, words } = this
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
    return forwardThroughTunnel(this.exit, packet, destination)
  }
}
