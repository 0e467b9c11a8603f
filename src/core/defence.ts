import { JIFFIES_PER_SECOND } from '../port/clock.js'
import type { Random } from '../port/random.js'
import { IpProtocol } from '../wire/ipv4.js'
import { B, ConnectionFlag, LINE_BYTES, LINE_WORDS, W } from './connection.js'
import type { Connections } from './connections.js'
import { timerFires } from './timer-wheel.js'
import type { Protocols } from './protocols/index.js'
import { TemplateState } from './protocols/protocol.js'
import { SctpState } from './protocols/sctp.js'
import { TcpState } from './protocols/tcp.js'
import { Cost, type Work } from './work.js'
import type { Settings } from './settings.js'

/** How often the defence looks at the memory and drops entries. */
const PERIOD_JIFFIES = JIFFIES_PER_SECOND

/** Memory of a machine that is not short of it, in pages of 4 KiB: 4 GiB. */
export const PLENTY_OF_PAGES = 1 << 20

/** Lines that the kernel's table has, in buckets; ours counts as at least so large. */
const KERNEL_TABLE_SIZE = 4096
/** Each second that share of the table is looked at. */
const TABLE_SHARE = 32
/** A connection that has been idle for less is not dropped, when it is an established one. */
const MIN_IDLE_JIFFIES = 60 * JIFFIES_PER_SECOND
/** One with more packets than this is none of a flood. */
const MAX_SPARED_PACKETS = 8

/**
 * The defences against floods (update_defense_level of ip_vs_ctl.c, ip_vs_todrop of ip_vs.h,
 * ip_vs_random_dropentry of ip_vs_conn.c): drop_entry, drop_packet and secure_tcp. Each has four modes: 0
 * off, 3 on, and 1 and 2 on while memory is short, where the mode itself says by 2 that it is. Modes take
 * effect when they are written, what else they depend on (memory, am_droprate) within a second.
 */
export class Defence {
  private dropsEntries = false
  private dropRate = 0
  private dropCounter = 0
  /** How many lines are still to be looked at, and of how many. */
  private looksLeft = 0
  private lines = 0
  /** When `tick` is due, in jiffies; while it is under way, when it was. */
  due: number
  /** By packets of the connection: one in so many that could be dropped is. */
  private readonly entryCounters = new Int32Array(MAX_SPARED_PACKETS + 1)

  /** @param availablePages asks how much memory is free, in pages of 4 KiB; only while a mode is automatic */
  constructor(
    private readonly settings: Settings,
    private readonly connections: Connections,
    private readonly protocols: Protocols,
    private readonly random: Random,
    private readonly availablePages: () => number,
  ) {
    this.due = timerFires((connections.now + PERIOD_JIFFIES) | 0, PERIOD_JIFFIES)
    this.update()
  }

  /**
   * To be called when it is due.
   *
   * @returns false when the work that may be done has come to its end before: the next call goes on
   */
  tick(now: number, work: Work): boolean {
    if (this.looksLeft === 0) {
      this.update()
      if (this.dropsEntries) {
        this.lines = Math.max(KERNEL_TABLE_SIZE, this.connections.table.highWater)
        this.looksLeft = Math.floor(this.lines / TABLE_SHARE)
      }
    }
    if (!this.dropEntries(work)) return false
    this.due = timerFires((now + PERIOD_JIFFIES) | 0, PERIOD_JIFFIES)
    return true
  }

  /** Brings the defences up to the settings and the memory; to be called when a mode was written. */
  update(): void {
    const { settings } = this
    const { dropEntry, dropPacket, secureTcp } = settings
    const threshold = settings.availableMemoryThresholdPages
    const available =
      isAutomatic(dropEntry) || isAutomatic(dropPacket) || isAutomatic(secureTcp)
        ? this.availablePages()
        : PLENTY_OF_PAGES
    const isShort = available < threshold

    settings.dropEntry = nextMode(dropEntry, isShort)
    this.dropsEntries = settings.dropEntry > 1
    if (!this.dropsEntries) this.looksLeft = 0

    settings.dropPacket = nextMode(dropPacket, isShort)
    if (settings.dropPacket === 3) this.dropRate = settings.alwaysModeDropRate
    else if (settings.dropPacket === 2)
      this.dropRate = this.dropCounter = Math.trunc(threshold / (threshold - available))
    else this.dropRate = 0

    settings.secureTcp = nextMode(secureTcp, isShort)
    this.protocols.tcp.setSecure(settings.secureTcp > 1)
  }

  /** Whether a packet that would begin a connection is dropped: one in `dropRate`. */
  dropsPacket(): boolean {
    if (this.dropRate === 0) return false
    if (--this.dropCounter > 0) return false
    this.dropCounter = this.dropRate
    return true
  }

  /** Looks at a random 32nd of the table for connections that can be spared. */
  private dropEntries(work: Work): boolean {
    const { connections, lines } = this
    const { table } = connections
    for (; this.looksLeft > 0; this.looksLeft--) {
      if (work.left <= 0) return false
      work.left -= Cost.look
      const connection = (this.random.next() >>> 0) % lines
      if (!table.isUsed(connection) || !this.isToBeDropped(connection)) continue
      work.left -= Cost.expiry
      connections.drop(connection)
    }
    return true
  }

  private isToBeDropped(connection: number): boolean {
    const { connections } = this
    const { words, bytes } = connections.table
    const line = connection * LINE_WORDS
    if (words[line + W.controlled] !== 0) return false
    const state = bytes[connection * LINE_BYTES + B.state]!
    if ((words[line + W.flags]! & ConnectionFlag.template) !== 0) {
      const destination = connections.destinationOf(connection)
      if (destination?.service.onePacket) return this.isIdle(line)
      return state !== TemplateState.assured
    }
    switch (bytes[connection * LINE_BYTES + B.protocol]) {
      case IpProtocol.tcp:
        if (state === TcpState.synReceived || state === TcpState.synAck) return true
        return state === TcpState.established && this.isIdle(line)
      case IpProtocol.sctp:
        if (state === SctpState.init1 || state === SctpState.init) return true
        return state === SctpState.established && this.isIdle(line)
      default:
        return this.isIdle(line)
    }
  }

  /** todrop_entry: without a packet for a minute, of few packets, and its turn among those. */
  private isIdle(line: number): boolean {
    const { connections } = this
    const { words } = connections.table
    const lastPacket = (words[line + W.expires]! - words[line + W.timeout]!) | 0
    if (((connections.now - lastPacket) | 0) < MIN_IDLE_JIFFIES) return false
    const packets = words[line + W.inPackets]!
    if (packets < 1 || packets > MAX_SPARED_PACKETS) return false
    if (--this.entryCounters[packets]! > 0) return false
    this.entryCounters[packets] = packets
    return true
  }
}

function isAutomatic(mode: number): boolean {
  return mode === 1 || mode === 2
}

function nextMode(mode: number, isShort: boolean): number {
  if (!isAutomatic(mode)) return mode
  return isShort ? 2 : 1
}
