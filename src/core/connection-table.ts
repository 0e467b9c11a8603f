import {
  B,
  ConnectionFlag,
  H,
  LINE_BYTES,
  LINE_HALFS,
  LINE_WORDS,
  NO_DESTINATION,
  W,
  Wide,
} from './connection.js'
import { foldAddress } from '../wire/ipv6.js'

/**
 * The connection table: one flat region of shared memory, two parts.
 *
 * 1. Lines. A connection is a line of 64 bytes, or two with an IPv6 address (see connection.ts), and its
 *    number is the (first) line's index for as long as it lives. Free lines form two LIFO lists, of single
 *    lines and of pairs: a single line whose other half is free, too, becomes a pair again, so lines serve
 *    both families in turn. Lines beyond the high-water mark have never been touched, so a region that is
 *    reserved for millions of connections costs only what is in use. Line 0 is no connection: it holds the
 *    table's own header.
 * 2. The index: slots of two words, [hash, connection], with linear probing and backward-shift deletion.
 *    Every connection has a slot under its request key (protocol, client, virtual address); connections
 *    that are masqueraded have a second one under their reply key (protocol, real server, client). The
 *    hash is salted by the kind of key and whoever finds a slot compares the line, so the slots of both
 *    kinds share one array.
 *
 * The index grows by linear hashing (Litwin 1980): it doubles by splitting one home after the other in
 * place, a bounded number of them at each insertion, while lookups go on: a home below `split` has been
 * split already and is addressed with one bit more of the hash. No second array, no pause. It does not
 * shrink. Probing wraps at the end of the reserved slots, not of those in use.
 *
 * Among connections of equal key the newest is found first, as in the kernel's chains, where insertion is
 * at the head (net/netfilter/ipvs/ip_vs_conn.c).
 *
 * One thread writes. Other threads may read lines through `snapshot`, which tolerates being overtaken.
 */

/** Words of the header in line 0. */
const Header = {
  magic: 0,
  maxConnections: 1,
  count: 2,
  /** Lines from this number on have never been used. */
  highWater: 3,
} as const

const MAGIC = 0x75767331 // 'uvs1'

/** Most connections that a table can be made for; those with two lines count twice. */
export const MAX_CONNECTIONS = 1 << 24

/** Slots in use at first: 8 KiB. */
const FIRST_SLOTS = 1024

/** Homes split at each insertion while the index grows: two would do to end before growth is due again. */
const SPLITS_PER_INSERTION = 4

const NOT_MASQUERADED = ConnectionFlag.forwardingMask

/** A connection's contents as plain values, for listings. Addresses of a wide one are folds. */
export interface ConnectionSnapshot {
  connection: number
  /** 4 or 6. */
  family: number
  /** Family of the destination's address. */
  destinationFamily: number
  /** The whole addresses, four words each, of a connection with one of IPv6. */
  wide?: { client: Int32Array; virtual: Int32Array; destination: Int32Array }
  /** IP protocol number, 0 for templates of firewall-mark services (whose virtualBe is the mark). */
  protocol: number
  clientBe: number
  clientPortBe: number
  virtualBe: number
  virtualPortBe: number
  destinationBe: number
  destinationPortBe: number
  flags: number
  state: number
  /** Destination slot, -1 when there is none. */
  destination: number
  /** Deadline in jiffies. */
  expires: number
  /** Timeout in jiffies of the present state. */
  timeout: number
  inPackets: number
  control: number
  controlled: number
}

export class ConnectionTable {
  /** The line of connection c starts at words[c * LINE_WORDS], halfs[c * LINE_HALFS], bytes[c * LINE_BYTES]. */
  readonly words: Int32Array
  readonly halfs: Uint16Array
  readonly bytes: Uint8Array
  readonly maxConnections: number

  /** First word of the index. */
  private readonly indexBase: number
  /** Reserved slots - 1: where probing wraps. */
  private readonly wrapMask: number
  /** Homes in use - 1, before the split that is under way. */
  private homeMask = FIRST_SLOTS - 1
  /** Homes below have been split; 0 when the index is not growing. */
  private split = 0
  private growing = false
  /** Changes whenever a connection comes into the index, and so may take the place of one of equal key. */
  version = 0
  /** Taken slots, and how many start the next growth. */
  private entries = 0
  private growAt: number

  /**
   * Head of the list of single free lines, linked through their first word, and back through their second;
   * 0 when there is none.
   */
  private freeLine = 0
  /** Head of the list of free pairs of lines, linked through the first word of their first line. */
  private freePair = 0
  /** Connections without a client port yet: only then do lookups try port 0. */
  private noClientPortCount = 0
  /** Indexed connections that are not masqueraded: only then do replies have to be tried as such. */
  private notMasqueradedCount = 0

  // The hash's secret: odd multipliers and addends. As the fields above they are never undefined, since nothing sets them
  // before the constructor does (useDefineForClassFields is off): so V8 knows what they are and need not look each time.
  private readonly k0: number
  private readonly k1: number
  private readonly k2: number
  private readonly m0: number
  private readonly m1: number
  private readonly m2: number
  private readonly m3: number
  private readonly k3: number
  private readonly m4: number
  private readonly m5: number
  private readonly m6: number
  private readonly m7: number

  /** Bytes of the region for a table of so many connections. Reserved, not touched: they cost nothing until used. */
  static bytesFor(maxConnections: number): number {
    checkMaximum(maxConnections)
    // The hit path looks at a slot and the one behind it: behind the last one there is one that stays empty.
    return ConnectionTable.indexOffset(maxConnections) + (slotsFor(maxConnections) + 1) * 8
  }

  /** Where in the region the index begins, in bytes; before it are the lines. Both come into use from their beginnings on. */
  static indexOffset(maxConnections: number): number {
    return (maxConnections + 1) * LINE_BYTES
  }

  /**
   * @param region zeroed memory of `bytesFor(maxConnections)` bytes at least, a SharedArrayBuffer if other
   *   threads are to read it
   * @param options `seed` is the hash's secret; `initialise: false` looks at a table that another thread
   *   owns: only words, count, first, next and snapshot are of use then
   */
  constructor(
    region: ArrayBufferLike,
    options: { maxConnections: number; seed: number; initialise?: boolean },
  ) {
    const { maxConnections, seed } = options
    const bytes = ConnectionTable.bytesFor(maxConnections)
    if (region.byteLength < bytes)
      throw new RangeError(
        `region of ${region.byteLength} bytes: a table of ${maxConnections} connections needs ${bytes}`,
      )
    const used = bytes / 4
    this.words = new Int32Array(region, 0, used)
    this.halfs = new Uint16Array(region, 0, used * 2)
    this.bytes = new Uint8Array(region, 0, used * 4)
    this.maxConnections = maxConnections
    this.indexBase = (maxConnections + 1) * LINE_WORDS
    this.wrapMask = slotsFor(maxConnections) - 1
    this.growAt = growthThreshold(FIRST_SLOTS)

    let state = seed | 0
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0
      let x = state
      x = Math.imul(x ^ (x >>> 16), 0x21f0aaad)
      x = Math.imul(x ^ (x >>> 15), 0x735a2d97)
      return x ^ (x >>> 15)
    }
    this.k0 = next()
    this.k1 = next()
    this.k2 = next()
    this.m0 = next() | 1
    this.m1 = next() | 1
    this.m2 = next() | 1
    this.m3 = next() | 1
    this.k3 = next()
    this.m4 = next() | 1
    this.m5 = next() | 1
    this.m6 = next() | 1
    this.m7 = next() | 1

    if (options.initialise !== false) {
      this.words[Header.maxConnections] = maxConnections
      this.words[Header.count] = 0
      this.words[Header.highWater] = 1
      this.words[Header.magic] = MAGIC
    } else if (
      this.words[Header.magic] !== MAGIC ||
      this.words[Header.maxConnections] !== maxConnections
    ) {
      throw new Error(`region holds no connection table of ${maxConnections} connections`)
    }
  }

  /** Connections in the table, templates and one-packet connections included. */
  get count(): number {
    return this.words[Header.count]!
  }

  /**
   * The connection that a packet from a client belongs to, 0 when there is none (the kernel's
   * ip_vs_conn_in_get). A packet with client port 0 matches only a connection that waits for its client
   * port; such a connection also takes any other port of its client.
   *
   * @param ports the packet's ports word: source in the low half, destination in the high half
   */
  findRequest(protocol: number, sourceBe: number, destinationBe: number, ports: number): number {
    const words = this.words
    const hash = this.hashOf(protocol, sourceBe, destinationBe, ports)
    let slot = hash & this.homeMask
    if (slot < this.split) slot = hash & (this.homeMask * 2 + 1)
    const base = this.indexBase
    for (;;) {
      const at = base + slot * 2
      const connection = words[at + 1]!
      if (connection === 0) break
      if (words[at] === hash) {
        const line = connection * LINE_WORDS
        if (
          words[line + W.clientBe] === sourceBe &&
          words[line + W.virtualBe] === destinationBe &&
          words[line + W.ports] === ports &&
          words[line + W.protocolWord]! >>> 16 === (protocol | FAMILY_4) &&
          ((ports & 0xffff) !== 0 || (words[line + W.flags]! & ConnectionFlag.noClientPort) !== 0)
        )
          return connection
      }
      slot = (slot + 1) & this.wrapMask
    }
    if (this.noClientPortCount !== 0 && (ports & 0xffff) !== 0)
      return this.findRequest(protocol, sourceBe, destinationBe, ports & ~0xffff)
    return 0
  }

  /**
   * The connection that a packet towards a client belongs to, 0 when there is none (the kernel's
   * ip_vs_conn_out_get): the source is the real server of a masqueraded connection, or the virtual address
   * of one that is forwarded otherwise, whose replies happen to pass by; the destination is the client.
   */
  findReply(protocol: number, sourceBe: number, destinationBe: number, ports: number): number {
    const words = this.words
    const hash = this.replyHashOf(protocol, sourceBe, destinationBe, ports)
    let slot = hash & this.homeMask
    if (slot < this.split) slot = hash & (this.homeMask * 2 + 1)
    const base = this.indexBase
    for (;;) {
      const at = base + slot * 2
      const connection = words[at + 1]!
      if (connection === 0) break
      if (words[at] === hash) {
        const line = connection * LINE_WORDS
        if (
          words[line + W.destinationBe] === sourceBe &&
          words[line + W.clientBe] === destinationBe &&
          (words[line + W.ports]! & 0xffff) === ports >>> 16 &&
          words[line + W.protocolWord] === ((ports & 0xffff) | ((protocol | FAMILY_4) << 16)) &&
          hasReply(words[line + W.flags]!)
        )
          return connection
      }
      slot = (slot + 1) & this.wrapMask
    }
    if (this.notMasqueradedCount === 0) return 0
    return this.findReplyOfVirtual(protocol, sourceBe, destinationBe, ports)
  }

  /** The part of findReply for connections whose real servers answer as the virtual address. */
  private findReplyOfVirtual(
    protocol: number,
    virtualBe: number,
    clientBe: number,
    ports: number,
  ): number {
    const words = this.words
    const requestPorts = (ports >>> 16) | (ports << 16)
    const hash = this.hashOf(protocol, clientBe, virtualBe, requestPorts)
    for (let slot = this.homeOf(hash); ; slot = (slot + 1) & this.wrapMask) {
      const at = this.indexBase + slot * 2
      const connection = words[at + 1]!
      if (connection === 0) return 0
      if (words[at] !== hash) continue
      const line = connection * LINE_WORDS
      const flags = words[line + W.flags]!
      if (
        words[line + W.clientBe] === clientBe &&
        words[line + W.virtualBe] === virtualBe &&
        words[line + W.ports] === requestPorts &&
        words[line + W.protocolWord]! >>> 16 === (protocol | FAMILY_4) &&
        (flags & NOT_MASQUERADED) !== 0 &&
        (flags & ConnectionFlag.template) === 0
      )
        return connection
    }
  }

  /**
   * The template of a client (or of a masked client network), 0 when there is none (the kernel's
   * ip_vs_ct_in_get). Templates have client port 0. For firewall-mark services the protocol is 0 and the
   * virtual address is the mark.
   */
  findTemplate(
    protocol: number,
    clientBe: number,
    virtualBe: number,
    virtualPortBe: number,
  ): number {
    const words = this.words
    const ports = virtualPortBe << 16
    const hash = this.hashOf(protocol, clientBe, virtualBe, ports)
    for (let slot = this.homeOf(hash); ; slot = (slot + 1) & this.wrapMask) {
      const at = this.indexBase + slot * 2
      const connection = words[at + 1]!
      if (connection === 0) return 0
      if (words[at] !== hash) continue
      const line = connection * LINE_WORDS
      if (
        words[line + W.clientBe] === clientBe &&
        words[line + W.virtualBe] === virtualBe &&
        words[line + W.ports] === ports &&
        words[line + W.protocolWord]! >>> 16 === (protocol | FAMILY_4) &&
        (words[line + W.flags]! & ConnectionFlag.template) !== 0
      )
        return connection
    }
  }

  /**
   * findRequest for IPv6.
   *
   * @param addresses holds both addresses, four words each from an index on
   */
  findRequestIpv6(
    protocol: number,
    addresses: Int32Array,
    sourceAt: number,
    destinationAt: number,
    ports: number,
  ): number {
    const words = this.words
    const source = foldAddress(addresses, sourceAt)
    const destination = foldAddress(addresses, destinationAt)
    const hash = this.hashOf(
      protocol | IPV6_SALT,
      this.mix(addresses, sourceAt, addresses[sourceAt + 3]!),
      this.mix(addresses, destinationAt, addresses[destinationAt + 3]!),
      ports,
    )
    for (let slot = this.seek(hash, this.homeOf(hash)); slot >= 0; slot = this.seekOn(hash, slot)) {
      const connection = words[this.indexBase + slot * 2 + 1]!
      const line = connection * LINE_WORDS
      if (
        words[line + W.ports] === ports &&
        words[line + W.protocolWord]! >>> 16 === (protocol | FAMILY_6) &&
        this.hasAddress(line, W.clientBe, Wide.client, addresses, sourceAt, source) &&
        this.hasAddress(line, W.virtualBe, Wide.virtual, addresses, destinationAt, destination) &&
        ((ports & 0xffff) !== 0 || (words[line + W.flags]! & ConnectionFlag.noClientPort) !== 0)
      )
        return connection
    }
    if (this.noClientPortCount !== 0 && (ports & 0xffff) !== 0)
      return this.findRequestIpv6(protocol, addresses, sourceAt, destinationAt, ports & ~0xffff)
    return 0
  }

  /** findReply for IPv6. */
  findReplyIpv6(
    protocol: number,
    addresses: Int32Array,
    sourceAt: number,
    destinationAt: number,
    ports: number,
  ): number {
    const words = this.words
    const source = foldAddress(addresses, sourceAt)
    const destination = foldAddress(addresses, destinationAt)
    const sourceMix = this.mix(addresses, sourceAt, addresses[sourceAt + 3]!)
    const destinationMix = this.mix(addresses, destinationAt, addresses[destinationAt + 3]!)
    const hash = this.replyHashOf(protocol | IPV6_SALT, sourceMix, destinationMix, ports)
    const protocolWord = (ports & 0xffff) | ((protocol | FAMILY_6) << 16)
    for (let slot = this.seek(hash, this.homeOf(hash)); slot >= 0; slot = this.seekOn(hash, slot)) {
      const connection = words[this.indexBase + slot * 2 + 1]!
      const line = connection * LINE_WORDS
      if (
        (words[line + W.ports]! & 0xffff) === ports >>> 16 &&
        words[line + W.protocolWord] === protocolWord &&
        this.hasAddress(line, W.destinationBe, Wide.destination, addresses, sourceAt, source) &&
        this.hasAddress(line, W.clientBe, Wide.client, addresses, destinationAt, destination) &&
        hasReply(words[line + W.flags]!)
      )
        return connection
    }
    if (this.notMasqueradedCount === 0) return 0
    const requestPorts = (ports >>> 16) | (ports << 16)
    const requestHash = this.hashOf(protocol | IPV6_SALT, destinationMix, sourceMix, requestPorts)
    let slot = this.seek(requestHash, this.homeOf(requestHash))
    for (; slot >= 0; slot = this.seekOn(requestHash, slot)) {
      const connection = words[this.indexBase + slot * 2 + 1]!
      const line = connection * LINE_WORDS
      const flags = words[line + W.flags]!
      if (
        words[line + W.ports] === requestPorts &&
        words[line + W.protocolWord]! >>> 16 === (protocol | FAMILY_6) &&
        this.hasAddress(line, W.clientBe, Wide.client, addresses, destinationAt, destination) &&
        this.hasAddress(line, W.virtualBe, Wide.virtual, addresses, sourceAt, source) &&
        (flags & NOT_MASQUERADED) !== 0 &&
        (flags & ConnectionFlag.template) === 0
      )
        return connection
    }
    return 0
  }

  /** findTemplate for IPv6; the mark of a firewall-mark service is the first word of its virtual address. */
  findTemplateIpv6(
    protocol: number,
    client: Int32Array,
    clientAt: number,
    virtual: Int32Array,
    virtualAt: number,
    virtualPortBe: number,
  ): number {
    const words = this.words
    const clientFold = foldAddress(client, clientAt)
    const virtualFold = foldAddress(virtual, virtualAt)
    const ports = virtualPortBe << 16
    const hash = this.hashOf(
      protocol | IPV6_SALT,
      this.mix(client, clientAt, client[clientAt + 3]!),
      this.mix(virtual, virtualAt, virtual[virtualAt + 3]!),
      ports,
    )
    for (let slot = this.seek(hash, this.homeOf(hash)); slot >= 0; slot = this.seekOn(hash, slot)) {
      const connection = words[this.indexBase + slot * 2 + 1]!
      const line = connection * LINE_WORDS
      if (
        words[line + W.ports] === ports &&
        words[line + W.protocolWord]! >>> 16 === (protocol | FAMILY_6) &&
        this.hasAddress(line, W.clientBe, Wide.client, client, clientAt, clientFold) &&
        this.hasAddress(line, W.virtualBe, Wide.virtual, virtual, virtualAt, virtualFold) &&
        (words[line + W.flags]! & ConnectionFlag.template) !== 0
      )
        return connection
    }
    return 0
  }

  /**
   * Takes a line, fills it in (state 0, no destination, no timer, all counts 0) and indexes it, unless it
   * is a one-packet connection, which nothing ever looks up. For addresses of IPv4 alone.
   *
   * @param flags ConnectionFlag bits; `hashed` is set here
   * @returns the connection, 0 when the table is full
   */
  create(
    protocol: number,
    clientBe: number,
    clientPortBe: number,
    virtualBe: number,
    virtualPortBe: number,
    destinationBe: number,
    destinationPortBe: number,
    flags: number,
  ): number {
    const connection = this.takeLine()
    if (connection === 0) return 0
    this.fill(
      connection,
      clientBe,
      virtualBe,
      destinationBe,
      clientPortBe | (virtualPortBe << 16),
      destinationPortBe | ((protocol | FAMILY_4) << 16),
      flags,
      4,
    )
    this.hash(connection)
    return connection
  }

  /**
   * The same with addresses of IPv6, two lines for a connection. Each address is four words from an index on.
   *
   * @param family of client and virtual address
   * @param destinationFamily of the destination's address; if it is not the same, the connection is tunneled
   */
  createWide(
    family: number,
    protocol: number,
    client: Int32Array,
    clientAt: number,
    clientPortBe: number,
    virtual: Int32Array,
    virtualAt: number,
    virtualPortBe: number,
    destinationFamily: number,
    destination: Int32Array,
    destinationAt: number,
    destinationPortBe: number,
    flags: number,
  ): number {
    const connection = this.takePair()
    if (connection === 0) return 0
    const words = this.words
    const line = connection * LINE_WORDS
    for (let i = 0; i < 3; i++) {
      words[line + Wide.client + i] = client[clientAt + i]!
      words[line + Wide.virtual + i] = virtual[virtualAt + i]!
      words[line + Wide.destination + i] = destination[destinationAt + i]!
    }
    this.fill(
      connection,
      foldAddress(client, clientAt),
      foldAddress(virtual, virtualAt),
      foldAddress(destination, destinationAt),
      clientPortBe | (virtualPortBe << 16),
      destinationPortBe | ((protocol | (family << 8)) << 16),
      flags,
      destinationFamily,
    )
    this.hash(connection)
    return connection
  }

  /** Fills in the line of a new connection, but for its place in the index. */
  private fill(
    connection: number,
    clientBe: number,
    virtualBe: number,
    destinationBe: number,
    ports: number,
    protocolWord: number,
    flags: number,
    destinationFamily: number,
  ): void {
    const words = this.words
    const line = connection * LINE_WORDS
    words[line + W.clientBe] = clientBe
    words[line + W.virtualBe] = virtualBe
    words[line + W.destinationBe] = destinationBe
    words[line + W.ports] = ports
    words[line + W.protocolWord] = protocolWord
    words[line + W.flags] = flags & ~ConnectionFlag.hashed
    words[line + W.destination] = NO_DESTINATION
    words[line + W.stateWord] = destinationFamily << 16
    words[line + W.expires] = 0
    words[line + W.timeout] = 0
    words[line + W.timerNext] = 0
    words[line + W.timerPrevious] = 0
    words[line + W.inPackets] = 0
    words[line + W.control] = 0
    words[line + W.controlled] = 0
    words[line + W.clientHop] = 0
    words[Header.count] = words[Header.count]! + 1
    if ((flags & ConnectionFlag.noClientPort) !== 0) this.noClientPortCount++
  }

  /** Unindexes the connection and frees its lines. The caller has cancelled its timer. */
  remove(connection: number): void {
    this.unhash(connection)
    const words = this.words
    const line = connection * LINE_WORDS
    if ((words[line + W.flags]! & ConnectionFlag.noClientPort) !== 0) this.noClientPortCount--
    const isWide = this.isWide(connection)
    this.bytes[connection * LINE_BYTES + B.family] = 0
    words[Header.count] = words[Header.count]! - 1
    const other = connection ^ 1
    if (isWide) this.givePair(connection)
    else if (other !== 0 && other < this.highWater && this.isFree(other)) {
      this.unlinkFree(other)
      this.givePair(connection & ~1)
    } else this.giveLine(connection)
  }

  /** True if the connection has an address of IPv6, and so two lines. */
  isWide(connection: number): boolean {
    const at = connection * LINE_BYTES
    return this.bytes[at + B.family] === 6 || this.bytes[at + B.destinationFamily] === 6
  }

  private isFree(line: number): boolean {
    return this.bytes[line * LINE_BYTES + B.family] === 0
  }

  /** A single line to be used, 0 when there is none. */
  private takeLine(): number {
    const { words } = this
    const free = this.freeLine
    if (free !== 0) {
      const next = words[free * LINE_WORDS]!
      this.freeLine = next
      if (next !== 0) words[next * LINE_WORDS + 1] = 0
      return free
    }
    const pair = this.freePair
    if (pair !== 0) {
      this.freePair = words[pair * LINE_WORDS]!
      this.giveLine(pair + 1)
      return pair
    }
    const line = this.highWater
    if (line > this.maxConnections) return 0
    words[Header.highWater] = line + 1
    return line
  }

  /** A pair of lines to be used, 0 when there is none. */
  private takePair(): number {
    const { words } = this
    const pair = this.freePair
    if (pair !== 0) {
      this.freePair = words[pair * LINE_WORDS]!
      return pair
    }
    const line = this.highWater
    const even = line + (line & 1)
    if (even + 1 > this.maxConnections) return 0
    if (even !== line) this.giveLine(line)
    words[Header.highWater] = even + 2
    return even
  }

  private giveLine(line: number): void {
    const { words } = this
    const next = this.freeLine
    words[line * LINE_WORDS] = next
    words[line * LINE_WORDS + 1] = 0
    if (next !== 0) words[next * LINE_WORDS + 1] = line
    this.freeLine = line
  }

  private givePair(pair: number): void {
    this.words[pair * LINE_WORDS] = this.freePair
    this.words[(pair + 1) * LINE_WORDS + W.protocolWord] = 0
    this.freePair = pair
  }

  /** Takes a line out of the middle of the list of single free lines. */
  private unlinkFree(line: number): void {
    const { words } = this
    const next = words[line * LINE_WORDS]!
    const previous = words[line * LINE_WORDS + 1]!
    if (next !== 0) words[next * LINE_WORDS + 1] = previous
    if (previous !== 0) words[previous * LINE_WORDS] = next
    else this.freeLine = next
  }

  /**
   * Indexes a connection that is not (the kernel's ip_vs_conn_hash); one-packet connections stay out.
   * Between `unhash` and `hash`, and only there, may the protocol, addresses, ports, forwarding method
   * and the template flag of a living connection change.
   */
  hash(connection: number): void {
    const words = this.words
    const line = connection * LINE_WORDS
    const flags = words[line + W.flags]!
    const elsewhere =
      ConnectionFlag.onePacket | ConnectionFlag.engineTemplate | ConnectionFlag.hashed
    if ((flags & elsewhere) !== 0) return
    words[line + W.flags] = flags | ConnectionFlag.hashed
    this.version = (this.version + 1) | 0
    this.insert(this.requestHashOfLine(line), connection)
    if (hasReply(flags)) this.insert(this.replyHashOfLine(line), connection)
    else if ((flags & ConnectionFlag.template) === 0) this.notMasqueradedCount++
  }

  /** Takes a connection out of the index (the kernel's ip_vs_conn_unhash). It keeps its line and its timer. */
  unhash(connection: number): void {
    const words = this.words
    const line = connection * LINE_WORDS
    const flags = words[line + W.flags]!
    if ((flags & ConnectionFlag.hashed) === 0) return
    words[line + W.flags] = flags & ~ConnectionFlag.hashed
    this.delete(this.requestHashOfLine(line), connection)
    if (hasReply(flags)) this.delete(this.replyHashOfLine(line), connection)
    else if ((flags & ConnectionFlag.template) === 0) this.notMasqueradedCount--
  }

  /** Gives a connection that waited for its client port that port (the kernel's ip_vs_conn_fill_cport). */
  setClientPort(connection: number, portBe: number): void {
    const line = connection * LINE_WORDS
    const flags = this.words[line + W.flags]!
    if ((flags & ConnectionFlag.noClientPort) === 0) return
    this.unhash(connection)
    this.words[line + W.flags] = this.words[line + W.flags]! & ~ConnectionFlag.noClientPort
    this.noClientPortCount--
    this.halfs[connection * LINE_HALFS + H.clientPortBe] = portBe
    this.hash(connection)
  }

  /** Copies the four words of the virtual address of a connection of IPv6. */
  copyVirtualIpv6(connection: number, to: Int32Array): void {
    const { words } = this
    const line = connection * LINE_WORDS
    const at = line + Wide.virtual
    to[0] = words[at]!
    to[1] = words[at + 1]!
    to[2] = words[at + 2]!
    to[3] = words[line + W.virtualBe]! ^ to[0]! ^ to[1]! ^ to[2]!
  }

  /** Lines from this number on have never been used. */
  get highWater(): number {
    return this.words[Header.highWater]!
  }

  /** Bytes of lines that have ever been used, from their beginning on. */
  get lineBytes(): number {
    return this.highWater * LINE_BYTES
  }

  /** Bytes of the index that are in use, from its beginning on, but for a few behind them that probes have run into. */
  get indexBytes(): number {
    return (this.homeMask + 1 + this.split) * 8
  }

  /** True if the line is a connection's. */
  isUsed(connection: number): boolean {
    return (
      connection > 0 &&
      connection < this.highWater &&
      this.bytes[connection * LINE_BYTES + B.family] !== 0
    )
  }

  /** The first used line, 0 when there is none. */
  first(): number {
    return this.next(0)
  }

  /** The next used line after `connection`, 0 when there is none. The order means nothing. */
  next(connection: number): number {
    const end = this.words[Header.highWater]!
    for (let c = connection + 1; c < end; c++)
      if (this.bytes[c * LINE_BYTES + B.family] !== 0) return c
    return 0
  }

  /**
   * A line's contents as plain values, undefined when it is free. Any thread may ask: a line that changes
   * hands while it is read is read again, and given up if that goes on.
   */
  snapshot(connection: number): ConnectionSnapshot | undefined {
    if (connection < 1 || connection >= this.words[Header.highWater]!) return undefined
    const start = connection * LINE_WORDS
    for (let attempt = 0; attempt < 3; attempt++) {
      const isWide = this.isWide(connection)
      const end = start + (isWide ? 2 : 1) * LINE_WORDS
      const line = this.words.slice(start, end)
      const again = this.words.slice(start, end)
      if (!(isWide ? wideIdentity : identity).every((word) => line[word] === again[word])) continue
      const halfs = new Uint16Array(line.buffer)
      const bytes = new Uint8Array(line.buffer)
      const family = bytes[B.family]!
      if (family !== 4 && family !== 6) return undefined
      const destinationFamily = bytes[B.destinationFamily]!
      if (isWide !== (family === 6 || destinationFamily === 6)) continue
      return {
        connection,
        family,
        destinationFamily,
        ...(isWide && {
          wide: {
            client: addressOf(line, W.clientBe, Wide.client),
            virtual: addressOf(line, W.virtualBe, Wide.virtual),
            destination: addressOf(line, W.destinationBe, Wide.destination),
          },
        }),
        protocol: bytes[B.protocol]!,
        clientBe: line[W.clientBe]!,
        clientPortBe: halfs[H.clientPortBe]!,
        virtualBe: line[W.virtualBe]!,
        virtualPortBe: halfs[H.virtualPortBe]!,
        destinationBe: line[W.destinationBe]!,
        destinationPortBe: halfs[H.destinationPortBe]!,
        flags: line[W.flags]!,
        state: bytes[B.state]!,
        destination: line[W.destination]!,
        expires: line[W.expires]!,
        timeout: line[W.timeout]!,
        inPackets: line[W.inPackets]! >>> 0,
        control: line[W.control]!,
        controlled: line[W.controlled]!,
      }
    }
    return undefined
  }

  /**
   * Seeded hash of a request key. Each word goes through its own bijection, so keys that differ in one
   * word never collide; sequential ports and addresses spread. 4 multiplications, 3 of them side by side.
   */
  hashOf(protocol: number, a: number, b: number, ports: number): number {
    const x = Math.imul(a ^ this.k0, this.m0)
    const y = Math.imul(b ^ this.k1 ^ protocol, this.m1)
    const z = Math.imul(ports ^ this.k2, this.m2)
    const h = ((x ^ (x >>> 15)) + (y ^ (y >>> 13)) + (z ^ (z >>> 17))) | 0
    const mixed = Math.imul(h ^ (h >>> 16), this.m3)
    return mixed ^ (mixed >>> 15)
  }

  /** The same of a reply key. */
  replyHashOf(protocol: number, server: number, client: number, ports: number): number {
    return this.hashOf(protocol | REPLY_SALT, server, client, ports)
  }

  /** The four words of an address as one, by a secret: the last is given apart. */
  private mix(words: Int32Array, at: number, last: number): number {
    let h = Math.imul(words[at]! ^ this.k3, this.m4)
    h = Math.imul(h ^ (h >>> 16) ^ words[at + 1]!, this.m5)
    h = Math.imul(h ^ (h >>> 15) ^ words[at + 2]!, this.m6)
    h = Math.imul(h ^ (h >>> 16) ^ last, this.m7)
    return h ^ (h >>> 15)
  }

  /** The same of an address in a connection's two lines: the words of its fold and of its first word. */
  private mixOfLine(line: number, fold: number, first: number): number {
    const { words } = this
    const at = line + first
    return this.mix(words, at, words[line + fold]! ^ words[at]! ^ words[at + 1]! ^ words[at + 2]!)
  }

  /** Whether that address is the one of four words from an index on, with this fold. */
  private hasAddress(
    line: number,
    fold: number,
    first: number,
    address: Int32Array,
    addressAt: number,
    addressFold: number,
  ): boolean {
    const { words } = this
    const at = line + first
    return (
      words[line + fold] === addressFold &&
      words[at] === address[addressAt] &&
      words[at + 1] === address[addressAt + 1] &&
      words[at + 2] === address[addressAt + 2]
    )
  }

  private requestHashOfLine(line: number): number {
    const words = this.words
    const protocolWord = words[line + W.protocolWord]!
    const protocol = (protocolWord >>> 16) & 0xff
    const ports = words[line + W.ports]!
    if (protocolWord >>> 24 === 6)
      return this.hashOf(
        protocol | IPV6_SALT,
        this.mixOfLine(line, W.clientBe, Wide.client),
        this.mixOfLine(line, W.virtualBe, Wide.virtual),
        ports,
      )
    // A tunnel's destination may be of IPv6: the others are folds of themselves all the same.
    return this.hashOf(protocol, words[line + W.clientBe]!, words[line + W.virtualBe]!, ports)
  }

  private replyHashOfLine(line: number): number {
    const words = this.words
    const protocolWord = words[line + W.protocolWord]!
    const protocol = (protocolWord >>> 16) & 0xff
    const ports = (protocolWord & 0xffff) | (words[line + W.ports]! << 16)
    if (protocolWord >>> 24 === 6)
      return this.replyHashOf(
        protocol | IPV6_SALT,
        this.mixOfLine(line, W.destinationBe, Wide.destination),
        this.mixOfLine(line, W.clientBe, Wide.client),
        ports,
      )
    return this.replyHashOf(
      protocol,
      words[line + W.destinationBe]!,
      words[line + W.clientBe]!,
      ports,
    )
  }

  /** The word of the index where probing for a hash starts. */
  placeOf(hash: number): number {
    return (this.indexBase + (this.homeOf(hash) << 1)) | 0
  }

  /**
   * What is found first under a hash, and is to be compared with what it was made of; 0 when there is nothing.
   *
   * @param place of `placeOf`
   */
  candidate(hash: number, place: number): number {
    const words = this.words
    const end = words.length - 2
    for (let at = place; ; at = at + 2 === end ? this.indexBase : at + 2) {
      const connection = words[at + 1]!
      if (connection === 0 || words[at] === hash) return connection
    }
  }

  /** The slot where probing for a hash starts. */
  private homeOf(hash: number): number {
    const home = hash & this.homeMask
    return home < this.split ? hash & ((this.homeMask << 1) | 1) : home
  }

  /** The first slot of this hash from one on, -1 when there is none. */
  private seek(hash: number, from: number): number {
    const words = this.words
    for (let slot = from; ; slot = (slot + 1) & this.wrapMask) {
      const at = this.indexBase + slot * 2
      if (words[at + 1] === 0) return -1
      if (words[at] === hash) return slot
    }
  }

  private seekOn(hash: number, slot: number): number {
    return this.seek(hash, (slot + 1) & this.wrapMask)
  }

  /** Puts a slot in front of those of equal hash. */
  private insert(hash: number, connection: number): void {
    const words = this.words
    let slot = this.homeOf(hash)
    let carried = connection
    for (;;) {
      const at = this.indexBase + slot * 2
      const present = words[at + 1]!
      if (present === 0) {
        words[at] = hash
        words[at + 1] = carried
        break
      }
      if (words[at] === hash) {
        words[at + 1] = carried
        carried = present
      }
      slot = (slot + 1) & this.wrapMask
    }
    if (++this.entries > this.growAt && this.homeMask < this.wrapMask) this.growing = true
    if (this.growing) this.grow()
  }

  private delete(hash: number, connection: number): void {
    const words = this.words
    for (let slot = this.homeOf(hash); ; slot = (slot + 1) & this.wrapMask) {
      const at = this.indexBase + slot * 2
      const present = words[at + 1]!
      if (present === 0)
        throw new Error(`connection ${connection} is not in the index where its key says it is`)
      if (present === connection && words[at] === hash) {
        this.close(slot)
        this.entries--
        return
      }
    }
  }

  /** Empties a slot and moves those behind it up, so that no probe meets a gap before what it looks for. */
  private close(slot: number): void {
    const words = this.words
    const base = this.indexBase
    const mask = this.wrapMask
    let hole = slot
    let from = slot
    for (;;) {
      from = (from + 1) & mask
      const at = base + from * 2
      const connection = words[at + 1]!
      if (connection === 0) break
      const hash = words[at]!
      if (((from - this.homeOf(hash)) & mask) < ((from - hole) & mask)) continue
      words[base + hole * 2] = hash
      words[base + hole * 2 + 1] = connection
      hole = from
    }
    words[base + hole * 2] = 0
    words[base + hole * 2 + 1] = 0
  }

  /** Splits the next few homes. */
  private grow(): void {
    for (let i = 0; i < SPLITS_PER_INSERTION; i++) {
      this.splitHome(this.split)
      if (++this.split > this.homeMask) {
        this.homeMask = this.homeMask * 2 + 1
        this.split = 0
        this.growAt = growthThreshold(this.homeMask + 1)
        this.growing = false
        return
      }
    }
  }

  /**
   * Moves what has the next bit of the hash set from a home to its new half. (The run of taken slots that
   * starts at the home ends before the new one: there are fewer entries than homes.)
   */
  private splitHome(home: number): void {
    const words = this.words
    const base = this.indexBase
    const bit = this.homeMask + 1
    let slot = home
    for (;;) {
      const at = base + slot * 2
      const connection = words[at + 1]!
      if (connection === 0) return
      const hash = words[at]!
      if ((hash & this.homeMask) !== home || (hash & bit) === 0) {
        slot = (slot + 1) & this.wrapMask
        continue
      }
      this.close(slot)
      // Appended, not put in front: those of equal hash arrive in the order that they had.
      let to = home + bit
      while (words[base + to * 2 + 1] !== 0) to = (to + 1) & this.wrapMask
      words[base + to * 2] = hash
      words[base + to * 2 + 1] = connection
    }
  }

  /**
   * Checks every invariant of the table; for tests.
   *
   * @throws Error that says what is wrong
   */
  check(): void {
    const words = this.words
    const expected = new Map<string, number>()
    let used = 0
    let lines = 0
    for (let c = this.first(); c !== 0; c = this.next(c)) {
      used++
      lines++
      if (this.isWide(c)) {
        lines++
        if ((c & 1) !== 0) throw new Error(`connection ${c} has two lines and an odd number`)
        if (words[(c + 1) * LINE_WORDS + W.protocolWord] !== 0)
          throw new Error(`second line ${c + 1} looks like a connection`)
      }
      const line = c * LINE_WORDS
      const flags = words[line + W.flags]!
      if ((flags & ConnectionFlag.hashed) === 0) continue
      const keys = [this.requestHashOfLine(line)]
      if (hasReply(flags)) keys.push(this.replyHashOfLine(line))
      for (const hash of keys) expected.set(`${hash} ${c}`, (expected.get(`${hash} ${c}`) ?? 0) + 1)
    }
    if (used !== this.count) throw new Error(`${used} lines in use, ${this.count} counted`)
    let free = 0
    let previous = 0
    for (let c = this.freeLine; c !== 0; c = words[c * LINE_WORDS]!) {
      free++
      if (!this.isFree(c)) throw new Error(`free line ${c} is in use`)
      if (words[c * LINE_WORDS + 1] !== previous)
        throw new Error(
          `free line ${c} has ${words[c * LINE_WORDS + 1]} before it, not ${previous}`,
        )
      previous = c
    }
    for (let c = this.freePair; c !== 0; c = words[c * LINE_WORDS]!) {
      free += 2
      if (!this.isFree(c) || !this.isFree(c + 1)) throw new Error(`free pair ${c} is in use`)
    }
    if (lines + free !== this.highWater - 1)
      throw new Error(`${lines} used and ${free} free lines below ${this.highWater}`)
    let entries = 0
    for (let slot = 0; slot <= this.wrapMask; slot++) {
      const at = this.indexBase + slot * 2
      const connection = words[at + 1]!
      if (connection === 0) continue
      entries++
      const key = `${words[at]} ${connection}`
      const left = expected.get(key)
      if (left === undefined) throw new Error(`slot ${slot} holds ${key}, which is no key`)
      if (left === 1) expected.delete(key)
      else expected.set(key, left - 1)
      for (let s = this.homeOf(words[at]!); s !== slot; s = (s + 1) & this.wrapMask)
        if (words[this.indexBase + s * 2 + 1] === 0)
          throw new Error(`slot ${slot}: gap at ${s} between it and its home`)
    }
    if (expected.size !== 0) throw new Error(`not in the index: ${[...expected.keys()].join(', ')}`)
    if (entries !== this.entries)
      throw new Error(`${entries} slots are taken, ${this.entries} counted`)
  }
}

/** Families as they stand above the protocol in a line. */
const FAMILY_4 = 4 << 8
const FAMILY_6 = 6 << 8

/** Tells keys of IPv6 from those of IPv4. */
const IPV6_SALT = 0x00060000

/** Tells reply keys from request keys. */
export const REPLY_SALT = 0x5a000000

/** The words that say whose line it is. */
const identity = [W.clientBe, W.virtualBe, W.destinationBe, W.ports, W.protocolWord] as const

const wideIdentity = [
  ...identity,
  ...[0, 1, 2].flatMap((i) => [Wide.client + i, Wide.virtual + i, Wide.destination + i]),
]

/** An address in a copy of a connection's two lines: the words of its fold and of its first word. */
function addressOf(line: Int32Array, fold: number, first: number): Int32Array {
  const [a, b, c] = [line[first]!, line[first + 1]!, line[first + 2]!]
  return Int32Array.of(a, b, c, line[fold]! ^ a ^ b ^ c)
}

/** Only replies of masqueraded connections have to be rewritten, so only they can be looked up by real server. */
function hasReply(flags: number): boolean {
  return (flags & (ConnectionFlag.forwardingMask | ConnectionFlag.template)) === 0
}

/**
 * Taken slots beyond which the index grows. Half: at 90,000 masqueraded connections a lookup takes 26 ns with
 * 69 % of the slots taken and 20 ns with 34 %, since fewer probes are mispredicted; a million need the same
 * number of slots either way.
 */
function growthThreshold(slots: number): number {
  return slots >>> 1
}

/** Slots for so many connections with two keys each. */
function slotsFor(maxConnections: number): number {
  let slots = FIRST_SLOTS
  while (growthThreshold(slots) < maxConnections * 2) slots *= 2
  return slots
}

function checkMaximum(maxConnections: number): void {
  if (!Number.isInteger(maxConnections) || maxConnections < 1 || maxConnections > MAX_CONNECTIONS)
    throw new RangeError(
      `maximum of ${maxConnections} connections: must be 1 to ${MAX_CONNECTIONS}`,
    )
}
