import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { FramePool } from '../port/frame-pool.js'
import { AddressSort, HopState, NO_HOP, type Neighbours } from '../port/neighbours.js'
import type { Random } from '../port/random.js'
import { IcmpType, mayAnswer, TimeExceededCode, UnreachableCode } from '../wire/icmp.js'
import {
  Icmpv6Type,
  REASSEMBLY_TIME_EXCEEDED,
  UnreachableCode as UnreachableCodeIpv6,
} from '../wire/icmpv6.js'
import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import * as sctp from '../wire/sctp.js'
import type { Command, Reply } from './commands.js'
import { Configuration, type Forgettable } from './configuration.js'
import { B, ConnectionFlag, LINE_BYTES, LINE_WORDS, W } from './connection.js'
import { ConnectionTable } from './connection-table.js'
import { Connections } from './connections.js'
import { CounterRegion, DEFAULT_COUNTER_SLOTS } from './counters.js'
import { Defence, PLENTY_OF_PAGES } from './defence.js'
import { DestinationSlots, type Destination } from './destination.js'
import { Estimator } from './estimator.js'
import { forwardPast } from './forwarding/bypass.js'
import { forwardDirectly } from './forwarding/direct-route.js'
import { Exit } from './forwarding/exit.js'
import { masqueradeReply, masqueradeRequest } from './forwarding/masquerade.js'
import { passRouter, routeToClient, tooBig } from './forwarding/route.js'
import { forwardThroughTunnel } from './forwarding/tunnel.js'
import { createHitPath, type HitPath, THE_LONG_WAY } from './hit-path.js'
import { IcmpLimiter } from './icmp-limiter.js'
import { MarkRules } from './marks.js'
import { hasPorts, NO_MARK, Packet, PORTS_BYTES, readTransport } from './packet.js'
import type { Expired } from './reassembly.js'
import type { Passage } from './reassembly-ipv4.js'
import { Protocols } from './protocols/index.js'
import { Direction } from './protocols/protocol.js'
import { SctpState } from './protocols/sctp.js'
import { TcpState } from './protocols/tcp.js'
import { RealServers } from './real-servers.js'
import { RelatedIcmp, type RelatedScheduler } from './related-icmp.js'
import { RelatedIcmpv6 } from './related-icmpv6.js'
import { isFtp, isFtpData, ServiceRegistry, type Service } from './service.js'
import { defaultSettings, type Settings } from './settings.js'
import {
  isOnePacket,
  NOTHING_TO_GO_BY,
  persistentDestinationPortBe,
  Templates,
} from './template.js'
import { Tasks } from './tasks.js'
import { TimerWheel } from './timer-wheel.js'
import { Traffic } from './traffic.js'
import { Reason, Verdict } from './verdict.js'
import { Cost, Work, WORK_PER_CALL, WORK_PER_PART } from './work.js'
import { CommonState } from './workers/common-state.js'
import { Ownership } from './workers/ownership.js'

export interface DirectorOptions {
  /** The memory that packets are in. */
  pool: FramePool
  neighbours: Neighbours
  random: Random
  table: {
    /** Zeroed memory of `ConnectionTable.bytesFor(maxConnections)` bytes, made when absent. */
    region?: ArrayBufferLike
    maxConnections: number
    /** Secret of the table's hash. */
    seed: number
  }
  /** Zeroed memory of `CounterRegion.bytesFor(services and destinations)` bytes, made when absent. */
  counters?: ArrayBufferLike
  /** The ports by their index; mark rules go by the interface. */
  ports?: readonly { name: string; interface: string }[]
  /** The clock's jiffies at the start. */
  now?: number
  /** What differs from the kernel's defaults. */
  settings?: Partial<Settings>
  /** Counters are shown as the kernel shows them: as they were summed up last, every 2 s. */
  sampledCounters?: boolean
  /** Free memory in pages of 4 KiB, for the automatic modes of the defences; plenty when absent. */
  availableMemoryPages?: () => number
  /** Milliseconds since midnight, UTC, for packets that ask for the time; those of a day that began at 0 when absent. */
  millisecondsOfDay?: () => number
  /** Why services and destinations of IPv6 are refused, for people; absent where the ports carry IPv6. */
  noIpv6?: string
  /** Its part of the work, where several workers have a director each. */
  crew?: CrewOptions
}

/** What the director of one of several workers has to know of the others. */
export interface CrewOptions {
  /** This worker's index, from 0. Worker 0 does what is to be done once. */
  self: number
  workers: number
  /** Bits of an IPv4 address that clients share who belong to the same worker. */
  clientPrefixLength: number
  /** Zeroed memory of `CommonState.bytesFor` bytes, the same for all workers. */
  common: ArrayBufferLike
}

const MS_PER_DAY = 86_400_000

/** No connection: the packet has been dealt with. */
const NONE = 0

/**
 * The director: one packet in, one verdict out, as the kernel's IPVS decides (net/netfilter/ipvs of Linux
 * 6.1). It does no I/O and knows no time but what it is told, so replay and tests run the same code as the
 * daemon. One thread drives it; others may read the connection table and the counters.
 */
export class Director implements RelatedScheduler {
  readonly table: ConnectionTable
  readonly counters: CounterRegion
  readonly settings: Settings
  private readonly bytes: Uint8Array
  private readonly words: Int32Array
  private readonly halfs: Uint16Array
  private readonly wheel: TimerWheel
  protected readonly services = new ServiceRegistry()
  private readonly slots = new DestinationSlots()
  private readonly connections: Connections
  private readonly templates: Templates
  private readonly marks: MarkRules
  private readonly configuration: Configuration
  private readonly estimator: Estimator
  private readonly defence: Defence
  private readonly tasks: Tasks
  private readonly traffic: Traffic
  private readonly exit: Exit
  private readonly icmp: RelatedIcmp
  private readonly icmpv6: RelatedIcmpv6
  private readonly packet: Packet
  private readonly ownership: Ownership | undefined
  private readonly random: Random
  /** What an ICMP error quotes, turned around, while it is scheduled. */
  private readonly quoted: Packet
  private readonly realServers = new RealServers()
  protected readonly hits: HitPath
  /**
   * Of the packets to come: requests are taken. The kernel has two hooks, and that for packets to other machines takes
   * replies and ICMP errors alone.
   */
  protected takesRequests = true
  private now: number
  /** What a call of `advance` may still do. */
  private readonly work = new Work()

  constructor(options: DirectorOptions) {
    const { pool, neighbours, random } = options
    const { maxConnections, seed } = options.table
    const now = (options.now ?? 0) | 0
    this.now = now
    this.settings = { ...defaultSettings(), ...options.settings }
    this.bytes = pool.bytes
    this.words = pool.words
    this.halfs = pool.halfs
    this.packet = new Packet(pool.words)
    this.random = random
    this.table = new ConnectionTable(
      options.table.region ?? new ArrayBuffer(ConnectionTable.bytesFor(maxConnections)),
      { maxConnections, seed },
    )
    this.counters = new CounterRegion(
      options.counters ?? new ArrayBuffer(CounterRegion.bytesFor(DEFAULT_COUNTER_SLOTS)),
    )
    this.wheel = new TimerWheel(this.table, now)
    const protocols = new Protocols()
    this.connections = new Connections(this.table, this.wheel, this.slots, protocols)
    this.connections.now = now
    this.templates = new Templates(this.connections, this.settings, pool.bytes)
    this.marks = new MarkRules((options.ports ?? []).map((port) => port.interface))
    this.estimator = new Estimator(this.counters, now)
    this.defence = new Defence(
      this.settings,
      this.connections,
      protocols,
      random,
      options.availableMemoryPages ?? (() => PLENTY_OF_PAGES),
    )
    this.tasks = new Tasks(now)
    const { crew } = options
    const common = crew && new CommonState(crew.common, crew.self === 0)
    this.configuration = new Configuration(
      this.services,
      this.slots,
      this.realServers,
      this.table,
      this.counters,
      this.estimator,
      protocols,
      this.marks,
      this.settings,
      this.defence,
      this.connections,
      { settings: this.settings, random, tasks: this.tasks },
      options.sampledCounters ?? false,
      options.noIpv6,
      neighbours,
      crew && { common: common!, clientPrefixLength: crew.clientPrefixLength },
    )
    this.traffic = new Traffic(this.connections, this.counters)
    const limiter = new IcmpLimiter(this.settings, now, crew?.workers)
    this.exit = new Exit(
      pool,
      neighbours,
      this.settings,
      this.counters,
      limiter,
      random,
      (at) => this.services.hasAddress(4, this.words, at),
      {
        isUnicast: (addressBe) => neighbours.sortOf(addressBe) === AddressSort.unicast,
        millisecondsOfDay:
          options.millisecondsOfDay ??
          (() => ((this.now >>> 0) * (1000 / JIFFIES_PER_SECOND)) % MS_PER_DAY),
      },
    )
    this.exit.now = now
    this.icmp = new RelatedIcmp(this.exit, this.connections, this.realServers, this.traffic, this)
    this.quoted = new Packet(this.words)
    this.icmpv6 = new RelatedIcmpv6(this.exit, this.connections, this.traffic)
    this.hits = createHitPath({
      pool,
      neighbours,
      settings: this.settings,
      table: this.table,
      wheel: this.wheel,
      connections: this.connections,
      slots: this.slots,
      services: this.services,
      protocols,
      counters: this.counters,
      exit: this.exit,
      packet: this.packet,
    })
    this.ownership =
      crew &&
      new Ownership({ ...crew, seed }, pool, this.services, this.slots, this.marks, this.icmp)
  }

  // -- results of `process`, good until the next packet

  /** Index in verdict.ts of the reason why the packet itself was not forwarded. */
  get reason(): number {
    return this.exit.reason
  }
  /** Byte offset of the IP header to send. */
  get outOffset(): number {
    return this.exit.offset
  }
  /** Bytes to send from there. */
  get outLength(): number {
    return this.exit.length
  }
  /** Next hop to send to. */
  get outHop(): number {
    return this.exit.hop
  }
  /** What is sent is an ICMP error of the director's own. */
  get outIsAnswer(): boolean {
    return this.exit.isAnswer
  }
  /** Bytes that have been written to at the start of a packet that was put together. */
  get outWritten(): number {
    return this.exit.written
  }
  /** Largest packet that is to be sent there, where that is less than the hop's MTU; else 0. */
  get outMtu(): number {
    return this.exit.mtu
  }

  /**
   * Sets the time and does what is due: connections expire, rates are sampled, memory is looked at, the trash is swept,
   * each at its moment and all in the same order, however many calls it takes: a call does a bounded amount of it
   * (WORK_PER_CALL), so that packets need not wait. To be called once a batch at least.
   *
   * @returns true when nothing is due any more; packets may come all the same
   */
  advance(nowJiffies: number): boolean {
    const now = nowJiffies | 0
    this.work.left = WORK_PER_CALL
    for (;;) {
      const moment = this.nextTask(now)
      const isDone = this.step(moment)
      if (moment === now) return isDone
      if (isDone) continue
      this.setTime(now)
      return false
    }
  }

  /** Does what is due at a moment, unless it is too much: what is due later waits for it. */
  private step(now: number): boolean {
    const { work, estimator, defence } = this
    if (work.left <= 0) return false
    work.left -= Cost.moment
    this.setTime(now)
    if (!this.wheel.advance(now, work, this.connections)) return false
    if (((now - estimator.due) | 0) >= 0)
      if (!estimator.sample(now, this.settings.runEstimation !== 0, work)) return false
    if (((now - defence.due) | 0) >= 0) if (!defence.tick(now, work)) return false
    return this.configuration.advance(now, work) && this.tasks.advance(now, work)
  }

  private setTime(now: number): void {
    this.now = now
    this.connections.now = now
    this.exit.now = now
    this.configuration.now = now
    this.tasks.now = now
  }

  /** When something is due next that does not belong to a connection: jiffies, `limit` at the latest. */
  private nextTask(limit: number): number {
    const { estimator, defence } = this
    let due = this.tasks.due(this.configuration.due(limit))
    if (((estimator.due - due) | 0) < 0) due = estimator.due
    if (((defence.due - due) | 0) < 0) due = defence.due
    return due
  }

  /** How long the thread may sleep before `advance` has something to do: jiffies, 0 when it already has. */
  jiffiesToNextTimer(): number {
    const toTask = (this.nextTask((this.now + JIFFIES_PER_SECOND) | 0) - this.now) | 0
    return this.wheel.untilNext(this.now, Math.max(0, toTask))
  }

  /**
   * Applies one command.
   *
   * @throws IpvsError when the kernel would refuse it; then nothing has changed
   */
  execute<C extends Command>(command: C): Reply<C> {
    return this.configuration.execute(command)
  }

  /**
   * The same in parts, each of which takes a bounded time: `execute` for what packets do not have to wait for. No other
   * command may come between. What it yields and returns are parts of the reply, for `joinParts`; null where the command
   * has no reply, or has none yet.
   *
   * @throws IpvsError with the first part, when the kernel would refuse it; then nothing has changed
   */
  *carryOut<C extends Command>(command: C): Generator<Reply<C> | null, Reply<C>> {
    const work = new Work()
    const parts = this.configuration.carryOut(command, work)
    for (;;) {
      work.left = WORK_PER_PART
      const { value, done } = parts.next()
      if (done) return value as Reply<C>
      yield value as Reply<C> | null
    }
  }

  /**
   * The worker that a packet belongs to, see Ownership; to be asked only of a director that is one of a crew.
   *
   * @param network,available,inPort as of `process`
   */
  ownerOf(network: number, available: number, inPort: number): number {
    return this.ownership!.ownerOf(network, available, inPort)
  }

  /**
   * Changes with whatever `ownerOf` goes by. Directors of a crew that have carried out the same commands have the same
   * one, and name the same owners.
   */
  get ownershipVersion(): number {
    return this.configuration.version
  }

  /** Whether `takeForgettable` has something. */
  get hasForgettable(): boolean {
    return this.configuration.hasForgettable
  }

  /** Removed destinations that nobody uses any more, since the last call: for `forget` of all directors of a crew. */
  takeForgettable(): Forgettable[] {
    return this.configuration.takeForgettable()
  }

  /** Forgets removed destinations that no director of the crew uses any more. */
  forget(destinations: readonly Forgettable[]): void {
    this.configuration.forget(destinations)
  }

  /** Identification of the fragments that an IPv6 packet is cut into: at random, as the kernel's. */
  fragmentIdentification(): number {
    return this.random.next()
  }

  /** Counts a packet that ended outside of the director, under one of verdict.ts's reasons. */
  countReason(reason: number): void {
    this.counters.countReason(reason)
  }

  /** Looks up the connections of packets that come next, see HitPath; what it finds is `candidate(i)`. */
  lookAhead(offsets: Int32Array, count: number, linkBytes: number): void {
    this.hits.lookAhead(offsets, count, linkBytes)
  }

  /** What the last `lookAhead` has found for its packets, the first of which is number 0: for `process`. */
  candidate(i: number): number {
    return this.hits.candidate(i)
  }

  /**
   * Decides about one IP packet, and rewrites it where it lies.
   *
   * @param network byte offset of the IP header in the pool's memory, a multiple of 4, with a tunnel
   *   header's or ICMP error's room before it
   * @param available bytes received from there on; padding may follow the packet
   * @param inPort index of the port that it came in by
   * @param candidate of `lookAhead`, 0 when it was not asked
   */
  process(network: number, available: number, inPort: number, candidate = 0): Verdict {
    if (this.takesRequests) {
      const verdict = this.hits.process(network, available, inPort, candidate)
      if (verdict !== THE_LONG_WAY) {
        if (this.exit.isAnswer) this.countAnswer()
        return verdict
      }
    }
    return this.processAtLength(network, available, inPort)
  }

  private processAtLength(network: number, available: number, inPort: number): Verdict {
    const { exit, packet } = this
    packet.network = network
    packet.inPort = inPort
    packet.largestFragment = 0
    packet.mark = NO_MARK
    packet.hasOptions = false
    exit.begin()
    const verdict = this.processPacket(network, available)
    if (exit.isAnswer) this.countAnswer()
    if (packet.hasOptions) this.leaveOptions(verdict)
    return verdict
  }

  /**
   * The same for a packet that was put together from fragments.
   *
   * @param largestFragment the longest of them, in bytes of IP
   * @param mark that the first of them had; NO_MARK when rules are to tell
   */
  processGathered(
    network: number,
    length: number,
    inPort: number,
    largestFragment: number,
    mark: number,
  ): Verdict {
    const { exit, packet } = this
    packet.network = network
    packet.inPort = inPort
    packet.largestFragment = largestFragment
    packet.mark = mark
    packet.hasOptions = false
    exit.begin()
    let verdict = this.processPacket(network, length)
    if (exit.isAnswer) this.countAnswer()
    else if (verdict !== Verdict.drop && packet.family === 4 && !this.isDelivered())
      verdict = this.refuseUncut(verdict)
    if (packet.hasOptions) this.leaveOptions(verdict)
    return verdict
  }

  /** The stack reads the options of what it gets by itself: what is declined, and what is masqueraded to the director. */
  private leaveOptions(verdict: Verdict): void {
    const { bytes, halfs, packet } = this
    const { isAnswer, hop, neighbours } = this.exit
    if (verdict === Verdict.decline) return this.restoreOptions()
    if (verdict !== Verdict.forward || isAnswer || neighbours.state[hop] !== HopState.local) return
    this.restoreOptions()
    ipv4.writeChecksum(halfs, bytes, packet.network)
  }

  private restoreOptions(): void {
    const { packet } = this
    packet.options.restore(this.bytes, packet.network, packet.headerBytes)
  }

  private processPacket(network: number, available: number): Verdict {
    const { bytes, words, exit, packet } = this
    if (available > 0 && bytes[network]! >>> 4 === 6) return this.processIpv6(available, false)
    const malformed = ipv4.validate(words, this.halfs, bytes, network, available)
    if (malformed !== ipv4.Malformed.none) return exit.drop(malformed)
    packet.family = 4
    packet.headerBytes = ipv4.headerBytes(bytes, network)
    packet.totalBytes = ipv4.totalLength(bytes, network)
    packet.transport = network + packet.headerBytes
    packet.sourceAt = (network + ipv4.SOURCE) >> 2
    packet.destinationAt = (network + ipv4.DESTINATION) >> 2
    packet.sourceBe = ipv4.sourceBe(words, network)
    packet.destinationBe = ipv4.destinationBe(words, network)
    packet.protocol = ipv4.protocol(bytes, network)
    const isMartian = ipv4.isMartianSource(packet.sourceBe)
    if (ipv4.isFragment(this.halfs, network) && !isMartian) return this.processFragment()
    // Without a service of the family the kernel's hooks are not there, and connections that are left see no packet.
    if (this.services.countOf(4) === 0) return exit.decline(Reason['no-service'])
    if (isMartian) return exit.drop(Reason['martian-source'])
    if (packet.headerBytes > ipv4.MIN_HEADER_BYTES && !this.readOptions()) return exit.verdict
    if (packet.protocol === ipv4.IpProtocol.icmp) return this.icmp.process(packet, this.isLocal())
    return this.processTransport()
  }

  /**
   * The stack reads a packet's options before IPVS sees it (ip_rcv_options).
   *
   * @returns false when the packet ends by them; the verdict is in `exit` then
   */
  private readOptions(): boolean {
    const { bytes, exit, packet } = this
    const { network, options } = packet
    const { neighbours } = exit
    const isLocal = this.isLocal()
    const ownBe = isLocal
      ? packet.destinationBe
      : neighbours.sourceBe[neighbours.hopFor(packet.sourceBe)]!
    packet.hasOptions = true
    const broken = options.read(bytes, network, packet.headerBytes, ownBe, exit.optionsOwner)
    const reason = Reason['ip-options']
    if (broken !== 0) {
      const { parameterProblem } = IcmpType
      exit.answer(packet, reason, parameterProblem, 0, broken, isLocal ? packet.destinationBe : 0)
      // For IPVS that is no error about a connection.
      exit.isAnswer = false
      return false
    }
    // As in the default of accept_source_route.
    if (options.hasSourceRoute) exit.drop(reason)
    return !options.hasSourceRoute
  }

  /**
   * The same for a fragment of IPv6 that is not to be put together with others: as far as it goes, it is a packet
   * of its own.
   */
  processSingle(network: number, available: number, inPort: number): Verdict {
    const { packet } = this
    packet.network = network
    packet.inPort = inPort
    packet.largestFragment = 0
    packet.mark = NO_MARK
    return this.processIpv6(available, true)
  }

  private processIpv6(available: number, isSingle: boolean): Verdict {
    const { bytes, words, exit, packet } = this
    const { network, chain } = packet
    const malformed = ipv6.validate(bytes, network, available)
    if (malformed !== ipv6.Malformed.none) return exit.drop(malformed)
    this.locateIpv6(ipv6.totalLength(bytes, network))
    const { protocol } = packet
    const isMartian =
      ipv6.isMulticast(words, packet.sourceAt) || ipv6.isLoopback(words, packet.sourceAt)
    // Fragments are put together in front of all else, once there has been a service.
    if (chain.isFragment && !isSingle && !isMartian && this.services.hadIpv6) return Verdict.gather
    if (this.services.countOf(6) === 0) return exit.decline(Reason['no-service'])
    if (isMartian) return exit.drop(Reason['martian-source'])
    if (chain.fragmentOffset !== 0) return exit.decline(Reason.fragment)
    if (protocol === ipv4.IpProtocol.icmpv6) return this.icmpv6.process(packet)
    return this.processTransport()
  }

  /** Notes where the headers of an IPv6 packet are. */
  private locateIpv6(totalBytes: number): void {
    const { bytes, words, packet } = this
    const { network, chain } = packet
    packet.family = 6
    packet.totalBytes = totalBytes
    packet.sourceAt = ipv6.sourceAt(network)
    packet.destinationAt = ipv6.destinationAt(network)
    packet.sourceBe = ipv6.foldAddress(words, packet.sourceAt)
    packet.destinationBe = ipv6.foldAddress(words, packet.destinationAt)
    packet.protocol = chain.walk(bytes, network, network + packet.totalBytes)
    packet.transport = chain.transport
    packet.headerBytes = chain.transport - network
    packet.transportBytes = totalBytes - packet.headerBytes
  }

  /** A packet that is whole, by its protocol, addresses and ports. */
  private processTransport(): Verdict {
    const { bytes, words, exit, packet, connections } = this
    const { protocol } = packet
    if (!readTransport(bytes, packet)) return exit.decline(Reason['unsupported-protocol'])
    if (packet.transportBytes < PORTS_BYTES) return this.declineTruncated()
    const ports = (packet.ports = words[packet.transport >> 2]!)

    // The kernel looks for a reply first. Only what comes from a real server can be one.
    if (connections.replies.mayContain(protocol, packet.sourceBe, ports & 0xffff)) {
      const connection = this.findReply()
      if (connection !== 0) return this.processReply(connection)
    }
    if (this.settings.natIcmpSend !== 0 && this.isStrayReply()) return this.refuseStrayReply()
    return this.processRequest()
  }

  /** What is no reply: a packet of a connection that there is, or one that may begin one. */
  private processRequest(): Verdict {
    if (!this.takesRequests) return Verdict.decline
    const { words, exit, packet, connections } = this
    const { protocol, ports } = packet
    const connection =
      packet.family === 6
        ? this.table.findRequestIpv6(protocol, words, packet.sourceAt, packet.destinationAt, ports)
        : this.table.findRequest(protocol, packet.sourceBe, packet.destinationBe, ports)
    if (connection === 0) return this.processNew()
    const flags = this.table.words[connection * LINE_WORDS + W.flags]!
    if ((flags & ConnectionFlag.byMark) !== 0 && !this.isLocal())
      return exit.decline(Reason['no-service'])

    const destination = connections.destinationOf(connection)
    if (destination === undefined) return this.processBypass(connection)
    if (!packet.isOpening || !this.isToBeReplaced(connection, destination)) {
      if (destination.available) {
        const timeout = connections.transition(connection, protocol, Direction.input, packet.event)
        connections.touch(connection, timeout)
        return this.forwardRequest(connection, destination)
      }
      if (this.settings.expireNoDestinationConnections === 0)
        return exit.drop(Reason['destination-unavailable'])
    }
    connections.expireSoon(connection)
    return this.processNew()
  }

  /** A packet of a connection that goes past the destinations of its service. */
  private processBypass(connection: number): Verdict {
    const { exit, packet, connections } = this
    if (packet.isOpening && this.isToBeReplaced(connection, undefined)) {
      connections.expireSoon(connection)
      return this.processNew()
    }
    const timeout = connections.transition(
      connection,
      packet.protocol,
      Direction.input,
      packet.event,
    )
    connections.touch(connection, timeout)
    this.table.words[connection * LINE_WORDS + W.inPackets]!++
    return forwardPast(exit, packet)
  }

  /**
   * A packet from a real server to the client of its connection: of a masqueraded one, or of one whose virtual
   * address is not the director's own, so that replies of any real server may pass through it.
   */
  private processReply(connection: number): Verdict {
    const { exit, packet, table, connections } = this
    const hop = routeToClient(exit, packet, table, connection)
    if (hop === NO_HOP) return exit.verdict
    const flags = table.words[connection * LINE_WORDS + W.flags]!
    const isMasqueraded = (flags & ConnectionFlag.forwardingMask) === ConnectionFlag.masquerade
    if (isMasqueraded && !packet.hasHeader) {
      connections.prolong(connection)
      return exit.drop(Reason['truncated-transport-header'])
    }
    this.traffic.countOut(connection, packet.totalBytes)
    const timeout = connections.transition(
      connection,
      packet.protocol,
      Direction.output,
      packet.event,
    )
    connections.touch(connection, timeout)
    if (isMasqueraded) masqueradeReply(exit, packet, table, connection, hop)
    else exit.forward(packet.network, packet.totalBytes, hop)
    // A reply that has got the virtual address is routed as one of the director's own.
    exit.passOptionsOn(packet, hop, isMasqueraded && this.settings.snatReroute !== 0)
    return exit.verdict
  }

  private findReply(): number {
    const { packet, table, words } = this
    const { protocol, ports } = packet
    const connection =
      packet.family === 6
        ? table.findReplyIpv6(protocol, words, packet.sourceAt, packet.destinationAt, ports)
        : table.findReply(protocol, packet.sourceBe, packet.destinationBe, ports)
    if (connection === 0) return 0
    const flags = table.words[connection * LINE_WORDS + W.flags]!
    const isMasqueraded = (flags & ConnectionFlag.forwardingMask) === ConnectionFlag.masquerade
    return isMasqueraded || (flags & ConnectionFlag.byMark) !== 0 ? connection : 0
  }

  /** Whether a packet comes from where a masqueraded real server serves, but belongs to no connection. */
  private isStrayReply(): boolean {
    const { family, protocol, sourceBe, words, sourceAt, sourcePortBe, isReset } = this.packet
    if (isReset) return false
    if (protocol === ipv4.IpProtocol.sctp) {
      const { bytes, packet } = this
      const type = sctp.firstChunk(bytes, packet.transport, packet.transportBytes)
      if (type === sctp.ChunkType.abort) return false
    }
    return this.realServers.hasMasqueraded(
      family,
      protocol,
      sourceBe,
      words,
      sourceAt,
      sourcePortBe,
    )
  }

  /** The real server is told that nobody takes its packet (nat_icmp_send). */
  private refuseStrayReply(): Verdict {
    const { exit, packet } = this
    const isLocal = this.isLocal()
    // What is not the director's own has passed its router before.
    if (!isLocal && passRouter(exit, packet) === NO_HOP) return exit.verdict
    if (packet.family === 6) {
      const { destinationUnreachable } = Icmpv6Type
      const { port } = UnreachableCodeIpv6
      return exit.answerIpv6(packet, Reason['no-connection'], destinationUnreachable, port, 0)
    }
    return exit.answer(
      packet,
      Reason['no-connection'],
      IcmpType.destinationUnreachable,
      UnreachableCode.port,
      0,
      isLocal ? packet.destinationBe : 0,
    )
  }

  /**
   * An ICMP error that the director sends passes its own hooks, too: one about a request of a connection that is
   * not masqueraded counts as a packet of that connection from the real server (ip_vs_out_icmp).
   */
  private countAnswer(): void {
    const { packet, table, words } = this
    const { family, protocol, sourceAt, destinationAt, sourceBe, destinationBe } = packet
    if (!hasPorts(protocol) || packet.transportBytes < PORTS_BYTES) return
    const ports = words[packet.transport >> 2]!
    const connection =
      family === 6
        ? table.findRequestIpv6(protocol, words, sourceAt, destinationAt, ports)
        : table.findRequest(protocol, sourceBe, destinationBe, ports)
    if (connection === 0) return
    const flags = table.words[connection * LINE_WORDS + W.flags]!
    if ((flags & ConnectionFlag.forwardingMask) !== ConnectionFlag.masquerade)
      this.traffic.countOut(connection, this.exit.length)
  }

  /** Sends a packet from a client on to its destination, by the connection's forwarding method. */
  private forwardRequest(connection: number, destination: Destination): Verdict {
    const { exit, packet, table } = this
    const line = connection * LINE_WORDS
    this.traffic.countIn(connection, packet.totalBytes)
    table.words[line + W.inPackets]!++
    switch (table.words[line + W.flags]! & ConnectionFlag.forwardingMask) {
      case ConnectionFlag.masquerade:
        return masqueradeRequest(exit, packet, table, connection, destination)
      case ConnectionFlag.directRoute:
        return forwardDirectly(exit, packet, destination)
      default:
        return forwardThroughTunnel(exit, packet, destination)
    }
  }

  /**
   * Whether a SYN or INIT means a new connection, though there is one: its destination takes no more
   * (expire_nodest_conn), or the old one has been closed and the client uses its port again
   * (conn_reuse_mode).
   */
  private isToBeReplaced(connection: number, destination: Destination | undefined): boolean {
    const { settings, table } = this
    if (settings.expireNoDestinationConnections !== 0 && destination?.weight === 0) return true
    if (settings.connectionReuseMode === 0) return false
    const line = connection * LINE_WORDS
    if (table.words[line + W.control] !== 0) return false
    const state = table.bytes[connection * LINE_BYTES + B.state]!
    if (this.packet.protocol === ipv4.IpProtocol.sctp) return state === SctpState.closed
    if (state === TcpState.timeWait || state === TcpState.close) return true
    return (
      (settings.connectionReuseMode & 2) !== 0 &&
      state === TcpState.finWait &&
      (table.words[line + W.flags]! & ConnectionFlag.noOutput) !== 0
    )
  }

  /** What the data plane has to know of the IPv4 fragment that it is to gather. Good until the next packet. */
  readonly passage: Mutable<Passage> = { inPort: 0, isForwarded: false, mark: 0 }

  /**
   * An IPv4 fragment. The kernel puts those together that it delivers locally, before IPVS sees them, and IPVS itself
   * those that are forwarded, once they have been routed (ip_local_deliver; ip_vs_out, ip_vs_in_icmp). What a router
   * refuses, and what IPVS does not look at, goes on by itself.
   */
  private processFragment(): Verdict {
    const { exit, packet, passage } = this
    const { network, protocol } = packet
    const isFirst = !ipv4.isLaterFragment(this.halfs, network)
    const hasPortsInIt = isFirst && packet.totalBytes - packet.headerBytes >= PORTS_BYTES
    packet.ports = hasPortsInIt ? this.words[packet.transport >> 2]! : 0
    passage.inPort = packet.inPort
    passage.isForwarded = !this.isDelivered()
    passage.mark = this.marks.list.length > 0 ? this.marks.markOf(packet) : 0
    if (passage.isForwarded) {
      if (this.services.countOf(4) === 0) return exit.decline(Reason['no-service'])
      if (!hasPorts(protocol) && protocol !== ipv4.IpProtocol.icmp)
        return exit.decline(Reason['unsupported-protocol'])
      if (!this.isRoutable()) return exit.decline(Reason.fragment)
    }
    if (packet.headerBytes > ipv4.MIN_HEADER_BYTES) {
      if (!this.readOptions()) return exit.verdict
      // Of the packet that comes of it they are read again.
      this.restoreOptions()
      packet.hasOptions = false
    }
    return Verdict.gather
  }

  /** Whether a router passes the packet on. */
  private isRoutable(): boolean {
    const { packet, bytes, halfs } = this
    const { neighbours } = this.exit
    const hop = neighbours.hopFor(packet.destinationBe)
    if (neighbours.state[hop] === HopState.unreachable || ipv4.ttl(bytes, packet.network) <= 1)
      return false
    return packet.totalBytes <= neighbours.mtu[hop]! || !ipv4.dontFragment(halfs, packet.network)
  }

  /** Whether the packet is delivered to the machine itself, as far as the kernel's routes go. */
  protected isDelivered(): boolean {
    return this.isToOwnAddress()
  }

  /**
   * What was put together on its way through a router leaves with DF if its longest fragment had it, but is longer
   * than any of these: the kernel lets none of them out (ip_fragment), but for what IPVS itself has sent on. The
   * sender is told what fits.
   */
  private refuseUncut(verdict: Verdict): Verdict {
    const { exit, packet, halfs, bytes, words } = this
    const { network, totalBytes } = packet
    if (!ipv4.dontFragment(halfs, network)) return verdict
    const senderBe = ipv4.sourceBe(words, network)
    const isMasqueraded = senderBe !== packet.sourceBe
    if (verdict === Verdict.decline) ipv4.decrementTtl(halfs, network)
    else if (packet.protocol === ipv4.IpProtocol.icmp && !isMasqueraded) return verdict
    const { neighbours } = exit
    const hop = verdict === Verdict.decline ? neighbours.hopFor(packet.destinationBe) : exit.hop
    const mtu = neighbours.mtu[hop]!
    if (!isMasqueraded) {
      tooBig(exit, packet, mtu, 0)
      if (exit.isAnswer) this.countAnswer()
      return exit.verdict
    }
    exit.drop(Reason['too-big'])
    if (!mayAnswer(words, halfs, bytes, network)) return exit.verdict
    // The sender is the virtual address by now. On its way there, IPVS sends the error on to the real server.
    const isOwn =
      this.services.hasAddress(4, words, (network + ipv4.SOURCE) >> 2) ||
      neighbours.state[neighbours.hopFor(senderBe)] === HopState.local
    exit.sendError(
      network,
      totalBytes,
      IcmpType.destinationUnreachable,
      UnreachableCode.fragmentationNeeded,
      ipv4.swap32(mtu),
      isOwn ? senderBe : 0,
      packet,
    )
    if (exit.verdict === Verdict.drop) return exit.verdict
    packet.network = exit.offset
    packet.totalBytes = exit.length
    packet.headerBytes = ipv4.MIN_HEADER_BYTES
    packet.transport = packet.network + packet.headerBytes
    packet.protocol = ipv4.IpProtocol.icmp
    packet.sourceAt = (packet.network + ipv4.SOURCE) >> 2
    packet.destinationAt = (packet.network + ipv4.DESTINATION) >> 2
    packet.sourceBe = ipv4.sourceBe(words, packet.network)
    packet.destinationBe = senderBe
    packet.largestFragment = 0
    packet.hasOptions = false
    if (this.icmp.process(packet, true) === Verdict.decline) exit.verdict = Verdict.drop
    return exit.verdict
  }

  /**
   * The host that has sent a first fragment is told that the others have not come in time (ip_expire,
   * ip6frag_expire_frag_queue).
   *
   * @returns as `process` does
   */
  answerTimeout({ offset, length, inPort, isForwarded }: Expired): Verdict {
    const { exit, packet, words } = this
    exit.begin()
    packet.network = offset
    packet.inPort = inPort
    packet.largestFragment = 0
    packet.mark = NO_MARK
    const reason = Reason['reassembly-timeout']
    if (this.bytes[offset]! >>> 4 === 6) {
      this.locateIpv6(length)
      const { timeExceeded } = Icmpv6Type
      const code = REASSEMBLY_TIME_EXCEEDED
      const verdict = exit.answerIpv6(packet, reason, timeExceeded, code, 0)
      if (exit.isAnswer) this.countAnswer()
      return verdict
    }
    packet.family = 4
    packet.headerBytes = ipv4.headerBytes(this.bytes, offset)
    packet.totalBytes = length
    packet.transport = offset + packet.headerBytes
    packet.transportBytes = length - packet.headerBytes
    packet.sourceAt = (offset + ipv4.SOURCE) >> 2
    packet.destinationAt = (offset + ipv4.DESTINATION) >> 2
    packet.sourceBe = ipv4.sourceBe(words, offset)
    packet.destinationBe = ipv4.destinationBe(words, offset)
    packet.protocol = ipv4.protocol(this.bytes, offset)
    packet.hasOptions = false
    packet.ports = 0
    if (packet.headerBytes > ipv4.MIN_HEADER_BYTES && !this.readOptions()) return exit.verdict
    // It has passed its router before it was gathered.
    if (isForwarded) ipv4.decrementTtl(this.halfs, offset)
    const { reassembly } = TimeExceededCode
    const sourceBe = isForwarded ? 0 : packet.destinationBe
    const verdict = exit.answer(packet, reason, IcmpType.timeExceeded, reassembly, 0, sourceBe)
    if (exit.isAnswer) this.countAnswer()
    return verdict
  }

  /** A packet too short for its ports. What is addressed to the director itself ends here, as in the kernel. */
  private declineTruncated(): Verdict {
    const { exit, packet } = this
    const reason = Reason['truncated-transport-header']
    packet.ports = 0
    return this.isLocal() ? exit.drop(reason) : exit.decline(reason)
  }

  /** Whether the packet is one that the kernel delivers locally, where IPVS looks for services. */
  private isLocal(): boolean {
    const { packet, services, marks } = this
    return (
      this.isToOwnAddress() ||
      (marks.list.length > 0 &&
        services.getByMark(packet.family, marks.markOf(packet)) !== undefined)
    )
  }

  /** Whether the packet's destination is an address of the director. */
  private isToOwnAddress(): boolean {
    const { packet, services } = this
    const { neighbours } = this.exit
    const hop =
      packet.family === 6
        ? neighbours.hopForIpv6(packet.words, packet.destinationAt)
        : neighbours.hopFor(packet.destinationBe)
    return (
      services.hasAddress(packet.family, packet.words, packet.destinationAt) ||
      neighbours.state[hop] === HopState.local ||
      (this.marks.list.length > 0 && this.marks.markOf(packet) !== 0)
    )
  }

  /** A packet without a connection: it begins one, if a service wants it. */
  private processNew(): Verdict {
    const { exit, packet, connections } = this
    if (!packet.mayBegin) return this.declineTruncated()
    const mark = this.marks.list.length > 0 ? this.marks.markOf(packet) : 0
    const service = this.services.find(
      packet.family,
      mark,
      packet.protocol,
      packet.words,
      packet.destinationAt,
      packet.destinationPortBe,
    )
    if (!service) return exit.decline(Reason['no-service'])
    if (!this.beginsConnection()) return exit.decline(Reason['no-connection'])
    if (this.defence.dropsPacket()) return exit.drop(Reason['drop-packet-defence'])
    // Active FTP's data connections are the server's to begin.
    if (isFtpData(packet.sourcePortBe)) return exit.decline(Reason['no-connection'])

    const connection = service.persistent
      ? this.schedulePersistent(service, packet)
      : this.schedule(service, packet)
    if (connection === NONE) return exit.verdict
    const destination = connections.destinationOf(connection)!
    this.traffic.countConnection(service, destination)
    const timeout = connections.transition(
      connection,
      packet.protocol,
      Direction.input,
      packet.event,
    )
    if ((this.table.words[connection * LINE_WORDS + W.flags]! & ConnectionFlag.onePacket) === 0) {
      connections.start(connection, timeout)
      return this.forwardRequest(connection, destination)
    }
    const verdict = this.forwardRequest(connection, destination)
    connections.endOnePacket(connection)
    return verdict
  }

  /** Whether a connection may begin with the packet (tcp_conn_schedule, sctp_conn_schedule). */
  private beginsConnection(): boolean {
    const { packet, settings } = this
    switch (packet.protocol) {
      case ipv4.IpProtocol.tcp:
        return !packet.isReset && (packet.isOpening || settings.sloppyTcp !== 0)
      case ipv4.IpProtocol.sctp: {
        if (packet.isOpening) return true
        const type = this.bytes[packet.transport + sctp.FIRST_CHUNK]
        return settings.sloppySctp !== 0 && type !== sctp.ChunkType.abort
      }
      default:
        return true
    }
  }

  /** A new connection for the packet that an ICMP error quotes. Part of RelatedScheduler. */
  scheduleRelated(packet: Packet, quote: number, ports: number): number {
    const { exit, quoted, words, connections } = this
    quoted.family = 4
    quoted.inPort = packet.inPort
    quoted.protocol = ipv4.protocol(this.bytes, quote)
    quoted.sourceAt = (quote + ipv4.DESTINATION) >> 2
    quoted.destinationAt = (quote + ipv4.SOURCE) >> 2
    quoted.sourceBe = words[quoted.sourceAt]!
    quoted.destinationBe = words[quoted.destinationAt]!
    quoted.ports = (words[ports >> 2]! << 16) | (words[ports >> 2]! >>> 16)
    quoted.isInverse = true
    const service = this.services.find(
      4,
      this.marks.list.length > 0 ? this.marks.markOf(packet) : 0,
      quoted.protocol,
      words,
      quoted.destinationAt,
      quoted.destinationPortBe,
    )
    if (!service) return 0
    if (this.defence.dropsPacket()) {
      exit.drop(Reason['drop-packet-defence'])
      return -1
    }
    if (isFtpData(quoted.sourcePortBe)) return 0
    const connection = service.persistent
      ? this.schedulePersistent(service, quoted)
      : this.schedule(service, quoted)
    if (connection === NONE) return exit.verdict === Verdict.decline ? 0 : -1
    this.traffic.countConnection(service, connections.destinationOf(connection)!)
    return connection
  }

  /** Part of RelatedScheduler. */
  endRelated(connection: number): void {
    const { connections, table } = this
    if ((table.words[connection * LINE_WORDS + W.flags]! & ConnectionFlag.onePacket) !== 0)
      connections.end(connection)
    else connections.start(connection, FIRST_TIMEOUT_JIFFIES)
  }

  /** @returns the new connection, or 0 with the verdict in `exit` */
  private schedule(service: Service, packet: Packet): number {
    const portBe = packet.destinationPortBe
    // Only persistent services take packets to ports that are not theirs.
    const destination =
      service.mark !== 0 || portBe === service.portBe
        ? service.scheduler.schedule(packet)
        : undefined
    if (!destination) return this.leave(service, packet)
    return this.connect(service, packet, destination, destination.portBe || portBe)
  }

  /** The same for a persistent service: where the client's template points, or where a new one shall. */
  private schedulePersistent(service: Service, packet: Packet): number {
    const { templates, connections } = this
    let template = templates.find(service, packet)
    if (template === NOTHING_TO_GO_BY) {
      this.exit.drop(Reason['no-call-id'])
      return NONE
    }
    let destination: Destination
    if (template !== 0) {
      destination = connections.destinationOf(template)!
    } else {
      const scheduled = service.scheduler.schedule(packet)
      if (!scheduled) return this.leave(service, packet)
      destination = scheduled
      template = templates.create(service, packet, destination)
      if (template === 0) return this.tableFull()
    }
    const portBe = persistentDestinationPortBe(service, packet, destination)
    const connection = this.connect(service, packet, destination, portBe)
    if (connection !== NONE) connections.control(connection, template)
    templates.touch(template)
    return connection
  }

  private connect(
    service: Service,
    packet: Packet,
    destination: Destination,
    destinationPortBe: number,
  ): number {
    const { connections } = this
    const connection = connections.create(
      packet.family,
      packet.protocol,
      packet.words,
      packet.sourceAt,
      packet.sourcePortBe,
      packet.words,
      packet.destinationAt,
      packet.destinationPortBe,
      destination,
      destinationPortBe,
      flagsOf(service, packet),
    )
    return connection === 0 ? this.tableFull() : connection
  }

  private tableFull(): number {
    this.exit.drop(Reason['table-full'])
    return NONE
  }

  /**
   * No destination for a new connection: the client is told that the port is unreachable, if the packet is not
   * to go on to where it was going (ip_vs_leave). It is told by the address that it has asked, which is no answer
   * that the kernel sends if that is another's.
   */
  private leave(service: Service, packet: Packet): number {
    const { exit } = this
    if (this.settings.cacheBypass !== 0 && service.mark !== 0 && !packet.isInverse)
      if (this.isForOthers()) return this.bypass(service)
    if (isFtp(service) && packet.destinationPortBe !== service.portBe) {
      // Why an ICMP error is declined is counted when all has been tried.
      if (packet.isInverse) exit.verdict = Verdict.decline
      else exit.decline(Reason['no-destination'])
      return NONE
    }
    const isOverloaded = service.destinations.some(
      (destination) => destination.overloaded && destination.weight > 0,
    )
    const reason = isOverloaded ? Reason.overloaded : Reason['no-destination']
    if (packet.isInverse) {
      exit.drop(reason)
      return NONE
    }
    if (packet.family === 6) {
      exit.answerIpv6(
        packet,
        reason,
        Icmpv6Type.destinationUnreachable,
        UnreachableCodeIpv6.port,
        0,
      )
      return NONE
    }
    if (!this.isToOwnAddress()) {
      exit.drop(reason)
      return NONE
    }
    exit.answer(
      packet,
      reason,
      IcmpType.destinationUnreachable,
      UnreachableCode.port,
      0,
      packet.destinationBe,
    )
    return NONE
  }

  /**
   * Whether the packet is addressed to a single host that is not the director. Of IPv6 its own addresses count as
   * others: there the kernel asks for the sort of the address alone, and drops what comes of it.
   */
  private isForOthers(): boolean {
    const { packet } = this
    const { neighbours } = this.exit
    if (packet.family === 6) return !ipv6.isMulticast(packet.words, packet.destinationAt)
    return (
      !ipv4.isMulticast(packet.destinationBe) &&
      !ipv4.isLimitedBroadcast(packet.destinationBe) &&
      neighbours.state[neighbours.hopFor(packet.destinationBe)] !== HopState.local
    )
  }

  /** A connection without a destination, whose packets go on to where they are going (cache_bypass). */
  private bypass(service: Service): number {
    const { exit, packet, connections } = this
    const connection = connections.createBypass(packet, flagsOf(service, packet))
    if (connection === 0) return this.tableFull()
    const timeout = connections.transition(
      connection,
      packet.protocol,
      Direction.input,
      packet.event,
    )
    forwardPast(exit, packet)
    const { words } = this.table
    words[connection * LINE_WORDS + W.inPackets]!++
    if ((words[connection * LINE_WORDS + W.flags]! & ConnectionFlag.onePacket) !== 0)
      connections.end(connection)
    else connections.start(connection, timeout)
    return NONE
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** The timeout of a connection that no packet of its own has moved to a state yet (ip_vs_conn_new). */
const FIRST_TIMEOUT_JIFFIES = 3 * JIFFIES_PER_SECOND

/** Flags of a service's new connection beside those of its destination. */
function flagsOf(service: Service, packet: Packet): number {
  return (
    (isOnePacket(service, packet) ? ConnectionFlag.onePacket : 0) |
    (service.mark !== 0 ? ConnectionFlag.byMark : 0) |
    (packet.isInverse && ipv4.isMartianSource(packet.sourceBe) ? ConnectionFlag.martian : 0)
  )
}
