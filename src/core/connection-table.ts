import {
  B,
  ConnectionFlag,
  H,
  LINE_BYTES,
  LINE_HALFS,
  LINE_WORDS,
  NO_DESTINATION,
  W,
} from './connection.js'

/**
 * The connection table: one flat region of shared memory, two parts.
 *
 * 1. Lines. A connection is a line of 64 bytes and its number is the line's index for as long as it lives.
 *    Free lines form a LIFO list; lines beyond the high-water mark have never been touched, so a region
 *    that is reserved for millions of connections costs only what is in use. Line 0 is no connection: it
 *    holds the table's own header.
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

/** Most connections that a table can be made for. */
export const MAX_CONNECTIONS = 1 << 24

/** Slots in use at first: 8 KiB. */
const FIRST_SLOTS = 1024

/** Homes split at each insertion while the index grows: growth ends well before it is due again. */
const SPLITS_PER_INSERTION = 16

const NOT_MASQUERADED = ConnectionFlag.forwardingMask

/** A line's contents as plain values, for listings. */
export interface ConnectionSnapshot {
  connection: number
  /** 4 or 6. */
  family: number
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
  /** Taken slots, and how many start the next growth. */
  private entries = 0
  private growAt: number

  /** Head of the list of free lines, linked through their first word; 0 when there is none. */
  private freeLine = 0
  /** Connections without a client port yet: only then do lookups try port 0. */
  private noClientPortCount = 0
  /** Indexed connections that are not masqueraded: only then do replies have to be tried as such. */
  private notMasqueradedCount = 0

  // The hash's secret: odd multipliers and addends.
  private readonly k0: number
  private readonly k1: number
  private readonly k2: number
  private readonly m0: number
  private readonly m1: number
  private readonly m2: number
  private readonly m3: number

  /** Bytes of the region for a table of so many connections. Reserved, not touched: they cost nothing until used. */
  static bytesFor(maxConnections: number): number {
    checkMaximum(maxConnections)
    return (maxConnections + 1) * LINE_BYTES + slotsFor(maxConnections) * 8
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
   * Takes a line, fills it in (state 0, no destination, no timer, all counts 0) and indexes it, unless it
   * is a one-packet connection, which nothing ever looks up.
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
    const words = this.words
    let connection = this.freeLine
    if (connection !== 0) {
      this.freeLine = words[connection * LINE_WORDS]!
    } else {
      connection = words[Header.highWater]!
      if (connection > this.maxConnections) return 0
      words[Header.highWater] = connection + 1
    }
    const line = connection * LINE_WORDS
    words[line + W.clientBe] = clientBe
    words[line + W.virtualBe] = virtualBe
    words[line + W.destinationBe] = destinationBe
    words[line + W.ports] = clientPortBe | (virtualPortBe << 16)
    words[line + W.protocolWord] = destinationPortBe | ((protocol | FAMILY_4) << 16)
    words[line + W.flags] = flags & ~ConnectionFlag.hashed
    words[line + W.destination] = NO_DESTINATION
    words[line + W.stateWord] = 0
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
    this.hash(connection)
    return connection
  }

  /** Unindexes the connection and frees its line. The caller has cancelled its timer. */
  remove(connection: number): void {
    this.unhash(connection)
    const words = this.words
    const line = connection * LINE_WORDS
    if ((words[line + W.flags]! & ConnectionFlag.noClientPort) !== 0) this.noClientPortCount--
    this.bytes[connection * LINE_BYTES + B.family] = 0
    words[line] = this.freeLine
    this.freeLine = connection
    words[Header.count] = words[Header.count]! - 1
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
    if ((flags & (ConnectionFlag.onePacket | ConnectionFlag.hashed)) !== 0) return
    words[line + W.flags] = flags | ConnectionFlag.hashed
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

  /** Lines from this number on have never been used. */
  get highWater(): number {
    return this.words[Header.highWater]!
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
      const line = this.words.slice(start, start + LINE_WORDS)
      const again = this.words.slice(start, start + LINE_WORDS)
      if (!identity.every((word) => line[word] === again[word])) continue
      const halfs = new Uint16Array(line.buffer)
      const bytes = new Uint8Array(line.buffer)
      const family = bytes[B.family]!
      if (family !== 4 && family !== 6) return undefined
      return {
        connection,
        family,
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
  private hashOf(protocol: number, a: number, b: number, ports: number): number {
    const x = Math.imul(a ^ this.k0, this.m0)
    const y = Math.imul(b ^ this.k1 ^ protocol, this.m1)
    const z = Math.imul(ports ^ this.k2, this.m2)
    const h = ((x ^ (x >>> 15)) + (y ^ (y >>> 13)) + (z ^ (z >>> 17))) | 0
    const mixed = Math.imul(h ^ (h >>> 16), this.m3)
    return mixed ^ (mixed >>> 15)
  }

  private replyHashOf(protocol: number, server: number, client: number, ports: number): number {
    return this.hashOf(protocol | REPLY_SALT, server, client, ports)
  }

  private requestHashOfLine(line: number): number {
    const words = this.words
    return this.hashOf(
      (words[line + W.protocolWord]! >>> 16) & 0xff,
      words[line + W.clientBe]!,
      words[line + W.virtualBe]!,
      words[line + W.ports]!,
    )
  }

  private replyHashOfLine(line: number): number {
    const words = this.words
    const protocolWord = words[line + W.protocolWord]!
    return this.replyHashOf(
      (protocolWord >>> 16) & 0xff,
      words[line + W.destinationBe]!,
      words[line + W.clientBe]!,
      (protocolWord & 0xffff) | (words[line + W.ports]! << 16),
    )
  }

  /** The slot where probing for a hash starts. */
  private homeOf(hash: number): number {
    const home = hash & this.homeMask
    return home < this.split ? hash & (this.homeMask * 2 + 1) : home
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
    for (let c = this.first(); c !== 0; c = this.next(c)) {
      used++
      const line = c * LINE_WORDS
      const flags = words[line + W.flags]!
      if ((flags & ConnectionFlag.hashed) === 0) continue
      const keys = [this.requestHashOfLine(line)]
      if (hasReply(flags)) keys.push(this.replyHashOfLine(line))
      for (const hash of keys) expected.set(`${hash} ${c}`, (expected.get(`${hash} ${c}`) ?? 0) + 1)
    }
    if (used !== this.count) throw new Error(`${used} lines in use, ${this.count} counted`)
    let free = 0
    for (let c = this.freeLine; c !== 0; c = words[c * LINE_WORDS]!) {
      free++
      if (this.bytes[c * LINE_BYTES + B.family] !== 0) throw new Error(`free line ${c} is in use`)
    }
    if (used + free !== words[Header.highWater]! - 1)
      throw new Error(`${used} used and ${free} free lines below ${words[Header.highWater]}`)
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

/** Family 4 as it stands above the protocol in a line. */
const FAMILY_4 = 4 << 8

/** Tells reply keys from request keys. */
const REPLY_SALT = 0x5a000000

/** The words that say whose line it is. */
const identity = [W.clientBe, W.virtualBe, W.destinationBe, W.ports, W.protocolWord] as const

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
