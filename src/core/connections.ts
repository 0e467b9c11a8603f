import { JIFFIES_PER_SECOND } from '../port/clock.js'
import { IpProtocol } from '../wire/ipv4.js'
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
import type { ConnectionTable } from './connection-table.js'
import {
  forwardingFlag,
  hasReplies,
  type Destination,
  type DestinationSlots,
} from './destination.js'
import type { Protocols } from './protocols/index.js'
import { Direction, effectiveDirection, NO_EVENT, TemplateState } from './protocols/protocol.js'
import type { Packet } from './packet.js'
import { SctpState } from './protocols/sctp.js'
import { TcpState } from './protocols/tcp.js'
import { EngineTemplates } from './engine-templates.js'
import { ReplyFilter } from './reply-filter.js'
import type { TimerWheel } from './timer-wheel.js'
import { Cost, type Work } from './work.js'

/** The destination of connections that have none. */
const NOWHERE = new Int32Array(4)

/** A template that still controls connections when its time is up gets so much more (ip_vs_conn_expire). */
const EXPIRE_LATER_JIFFIES = 60 * JIFFIES_PER_SECOND

/**
 * The life of connections: made and bound to a destination, moved through the states of their protocol,
 * timed, and ended, with the counts of destinations and templates kept right all the while
 * (net/netfilter/ipvs/ip_vs_conn.c).
 */
export class Connections {
  readonly replies = new ReplyFilter()
  readonly engineTemplates = new EngineTemplates()
  /** Two IPv4 addresses of four words. */
  private readonly ipv4Ends = new Int32Array(8)
  /** The line that `dropUnavailable` has come to. */
  private lookedAt = 1
  now = 0

  constructor(
    readonly table: ConnectionTable,
    private readonly wheel: TimerWheel,
    private readonly slots: DestinationSlots,
    private readonly protocols: Protocols,
  ) {}

  /**
   * Makes a connection or template and binds it to its destination. Its timer is not running yet: `start`
   * does that.
   *
   * @param family of client and virtual address, 4 or 6
   * @param client,virtual hold the addresses, at an index: one word of an IPv4 address, four of one of IPv6
   * @param flags template or onePacket, else 0; the destination adds those of its forwarding method
   * @returns the connection, 0 when the table is full
   */
  create(
    family: number,
    protocol: number,
    client: Int32Array,
    clientAt: number,
    clientPortBe: number,
    virtual: Int32Array,
    virtualAt: number,
    virtualPortBe: number,
    destination: Destination,
    destinationPortBe: number,
    flags: number,
  ): number {
    const { table } = this
    const forwarding = forwardingFlag[destination.forwarding]
    const isMasqueraded = forwarding === ConnectionFlag.masquerade
    const all =
      flags | forwarding | ConnectionFlag.inactive | (isMasqueraded ? 0 : ConnectionFlag.noOutput)
    let connection: number
    if (family === 4 && destination.family === 4) {
      connection = table.create(
        protocol,
        client[clientAt]!,
        clientPortBe,
        virtual[virtualAt]!,
        virtualPortBe,
        destination.addressBe,
        destinationPortBe,
        all,
      )
    } else {
      if (family === 4) {
        this.ipv4Ends[0] = client[clientAt]!
        this.ipv4Ends[4] = virtual[virtualAt]!
      }
      connection = table.createWide(
        family,
        protocol,
        family === 4 ? this.ipv4Ends : client,
        family === 4 ? 0 : clientAt,
        clientPortBe,
        family === 4 ? this.ipv4Ends : virtual,
        family === 4 ? 4 : virtualAt,
        virtualPortBe,
        destination.family,
        destination.address.words,
        0,
        destinationPortBe,
        all,
      )
    }
    if (connection === 0) return 0
    table.words[connection * LINE_WORDS + W.destination] = destination.slot
    destination.bind(all)
    this.expectReplies(connection)
    return connection
  }

  /**
   * Makes a connection without a destination, which goes to where its packets are going.
   *
   * @param flags onePacket, byMark
   */
  createBypass(packet: Packet, flags: number): number {
    const { table } = this
    const { family, protocol, words, sourceAt, destinationAt } = packet
    const { sourcePortBe, destinationPortBe } = packet
    const all = flags | ConnectionFlag.bypass
    const connection =
      family === 4
        ? table.create(
            protocol,
            words[sourceAt]!,
            sourcePortBe,
            words[destinationAt]!,
            destinationPortBe,
            0,
            0,
            all,
          )
        : table.createWide(
            family,
            protocol,
            words,
            sourceAt,
            sourcePortBe,
            words,
            destinationAt,
            destinationPortBe,
            family,
            NOWHERE,
            0,
            0,
            all,
          )
    if (connection !== 0) this.expectReplies(connection)
    return connection
  }

  /** Has packets looked at that may be replies of a new connection. */
  private expectReplies(connection: number): void {
    const { table } = this
    const flags = table.words[connection * LINE_WORDS + W.flags]!
    if (!repliesPassBy(flags)) return
    this.replies.add(
      table.bytes[connection * LINE_BYTES + B.protocol]!,
      this.replyAddress(connection, flags),
      this.replyPort(connection, flags),
    )
  }

  private replyAddress(connection: number, flags: number): number {
    const { words } = this.table
    const line = connection * LINE_WORDS
    return hasReplies(flags) ? words[line + W.destinationBe]! : words[line + W.virtualBe]!
  }

  private replyPort(connection: number, flags: number): number {
    const { halfs } = this.table
    const half = connection * LINE_HALFS
    return halfs[half + (hasReplies(flags) ? H.destinationPortBe : H.virtualPortBe)]!
  }

  /** Starts the timer of a new connection. */
  start(connection: number, timeout: number): void {
    this.wheel.set(connection, (this.now + timeout) | 0, timeout)
  }

  /** Starts the timer of a living connection anew with the timeout that it has. */
  prolong(connection: number): void {
    this.touch(connection, this.table.words[connection * LINE_WORDS + W.timeout]!)
  }

  /** Starts the timer of a living connection anew. */
  touch(connection: number, timeout: number): void {
    this.wheel.set(connection, (this.now + timeout) | 0, timeout)
  }

  /**
   * Moves a connection through the states of its protocol (set_tcp_state, set_sctp_state,
   * udp_state_transition).
   *
   * @param direction input or output
   * @param event flags byte of the TCP header, or type of the SCTP chunk that decides; NO_EVENT when it is not
   *   there; anything for other protocols
   * @returns the timeout of the state that it is in now, in jiffies
   */
  transition(connection: number, protocol: number, direction: Direction, event: number): number {
    const { words, bytes } = this.table
    const line = connection * LINE_WORDS
    if (protocol === IpProtocol.udp) {
      if (direction === Direction.output) this.assureTemplate(connection)
      return this.protocols.udp.timeouts[0]!
    }
    if (event === NO_EVENT) return words[line + W.timeout]!
    const { tcp, sctp } = this.protocols
    const flags = words[line + W.flags]!
    if (direction === Direction.output && (flags & ConnectionFlag.noOutput) !== 0)
      words[line + W.flags] = flags & ~ConnectionFlag.noOutput
    const seen = effectiveDirection(direction, flags)
    const stateAt = connection * LINE_BYTES + B.state
    const state = bytes[stateAt]!
    if (protocol === IpProtocol.tcp) {
      const next = tcp.transition(state, event, seen)
      if (next !== state) {
        bytes[stateAt] = next
        this.setActive(connection, tcp.isActive(next))
        if (next === TcpState.established) this.assureTemplate(connection)
      }
      return tcp.timeouts[next]!
    }
    const next = sctp.transition(state, event, seen)
    if (next !== state) {
      bytes[stateAt] = next
      this.setActive(connection, sctp.isActive(next))
      if (next === SctpState.established) this.assureTemplate(connection)
    }
    return sctp.timeouts[next]!
  }

  /** Counts a connection among the active or the inactive ones of its destination. */
  private setActive(connection: number, isActive: boolean): void {
    const { words } = this.table
    const line = connection * LINE_WORDS
    const flags = words[line + W.flags]!
    const wasActive = (flags & ConnectionFlag.inactive) === 0
    if (isActive === wasActive) return
    const destination = this.destinationOf(connection)
    if (!destination) return
    if (isActive) {
      destination.activate(1)
      words[line + W.flags] = flags & ~ConnectionFlag.inactive
    } else {
      destination.activate(-1)
      words[line + W.flags] = flags | ConnectionFlag.inactive
    }
  }

  private assureTemplate(connection: number): void {
    const { words, bytes } = this.table
    const template = words[connection * LINE_WORDS + W.control]!
    if (template !== 0) bytes[template * LINE_BYTES + B.state] = TemplateState.assured
  }

  /** Puts a connection under the control of a template, which then does not end before it. */
  control(connection: number, template: number): void {
    const { words } = this.table
    words[connection * LINE_WORDS + W.control] = template
    words[template * LINE_WORDS + W.controlled]!++
  }

  destinationOf(connection: number): Destination | undefined {
    const slot = this.table.words[connection * LINE_WORDS + W.destination]!
    return slot === NO_DESTINATION ? undefined : this.slots.all[slot]
  }

  /** The wheel's report that a connection's time is up. Part of ExpiryHandler. */
  expire(connection: number): void {
    const { words } = this.table
    if (words[connection * LINE_WORDS + W.controlled] === 0) return this.end(connection)
    this.wheel.set(connection, (this.now + EXPIRE_LATER_JIFFIES) | 0, EXPIRE_LATER_JIFFIES)
  }

  /**
   * Lets a connection expire with the next jiffy (ip_vs_conn_expire_now): it counts until then, and a packet
   * that still finds it prolongs it.
   */
  expireSoon(connection: number): void {
    const expires = this.table.words[connection * LINE_WORDS + W.expires]!
    if (((expires - this.now) | 0) > 0) this.wheel.set(connection, this.now, 0)
  }

  /**
   * Ends a connection that can be spared, and with the last one its template, if none of them was ever
   * established (ip_vs_conn_del). It must control no other.
   */
  drop(connection: number): void {
    const { words, bytes } = this.table
    const template = words[connection * LINE_WORDS + W.control]!
    this.end(connection)
    if (
      template !== 0 &&
      words[template * LINE_WORDS + W.controlled] === 0 &&
      bytes[template * LINE_BYTES + B.state] !== TemplateState.assured
    )
      this.end(template)
  }

  /**
   * Ends all connections whose destination has been removed, and the templates that have led to it
   * (ip_vs_expire_nodest_conn_flush).
   *
   * @returns false when the work that may be done has come to its end before: the next call goes on
   */
  dropUnavailable(work: Work): boolean {
    const { table } = this
    const { words } = table
    for (; this.lookedAt < table.highWater; this.lookedAt++) {
      if (work.left <= 0) return false
      work.left -= Cost.look
      const connection = this.lookedAt
      if (!table.isUsed(connection)) continue
      const line = connection * LINE_WORDS
      const destination = this.destinationOf(connection)
      if (!destination || destination.available || words[line + W.controlled] !== 0) continue
      const template = words[line + W.control]!
      work.left -= Cost.expiry
      this.end(connection)
      if (template !== 0 && words[template * LINE_WORDS + W.controlled] === 0) this.end(template)
    }
    this.lookedAt = 1
    return true
  }

  /** Ends a connection of one packet, which counts for the template that controls it. */
  endOnePacket(connection: number): void {
    const { words } = this.table
    const template = words[connection * LINE_WORDS + W.control]!
    if (template !== 0) words[template * LINE_WORDS + W.inPackets]!++
    this.end(connection)
  }

  /** Ends a connection now. It must control no other. */
  end(connection: number): void {
    const { table } = this
    const { words } = table
    const line = connection * LINE_WORDS
    this.wheel.cancel(connection)
    const template = words[line + W.control]!
    if (template !== 0) words[template * LINE_WORDS + W.controlled]!--
    const flags = words[line + W.flags]!
    this.destinationOf(connection)?.unbind(flags)
    if (repliesPassBy(flags))
      this.replies.remove(
        table.bytes[connection * LINE_BYTES + B.protocol]!,
        this.replyAddress(connection, flags),
        this.replyPort(connection, flags),
      )
    if ((flags & ConnectionFlag.engineTemplate) !== 0) this.engineTemplates.remove(connection)
    table.remove(connection)
  }
}

/**
 * Whether the replies of a connection may come by: if it is masqueraded, and if its virtual address is not the
 * director's own, so that it routes what comes from there.
 */
function repliesPassBy(flags: number): boolean {
  const mask = ConnectionFlag.byMark | ConnectionFlag.template | ConnectionFlag.onePacket
  return hasReplies(flags) || (flags & mask) === ConnectionFlag.byMark
}
