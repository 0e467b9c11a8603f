import type { FramePool } from '../../port/frame-pool.js'
import { HopState, NO_HOP, type Neighbours } from '../../port/neighbours.js'
import type { Random } from '../../port/random.js'
import {
  ERROR_HEADER_BYTES,
  IcmpType,
  MAX_ERROR_BYTES,
  mayAnswer,
  prependError,
  UnreachableCode,
} from '../../wire/icmp.js'
import { writeChecksum } from '../../wire/ipv4.js'
import * as icmpv6 from '../../wire/icmpv6.js'
import type { CounterRegion } from '../counters.js'
import type { IcmpLimiter } from '../icmp-limiter.js'
import { MAX_OPTION_BYTES, type OptionsOwner } from '../ip-options.js'
import type { Packet } from '../packet.js'
import { PathMtus } from '../path-mtus.js'
import type { Settings } from '../settings.js'
import { Verdict } from '../verdict.js'

/**
 * How a packet leaves the director: forwarded, declined, dropped, or dropped and answered with an ICMP
 * error. The fields are the result; each is good until the next packet.
 */
export class Exit {
  verdict: Verdict = Verdict.drop
  /** Index of the reason why the packet itself was not forwarded. */
  reason = 0
  /** Byte offset of the IP header to send. */
  offset = 0
  /** Bytes to send from there. */
  length = 0
  /** Next hop to send to. */
  hop: number = NO_HOP
  /** Largest packet for the way on, where that is less than the hop's own MTU; else 0. */
  mtu = 0
  /** Of a packet that was put together: bytes from its start on that have been written to; else 0. */
  written = 0
  /** What is sent is an ICMP error of the director's own. */
  isAnswer = false
  /** Time in jiffies. */
  now = 0
  readonly pathMtus = new PathMtus()
  private readonly errorOptions = new Uint8Array(MAX_OPTION_BYTES)

  private identification: number
  private readonly ownIpv6 = new Int32Array(4)

  constructor(
    readonly pool: FramePool,
    readonly neighbours: Neighbours,
    readonly settings: Settings,
    private readonly counters: CounterRegion,
    private readonly icmpLimiter: IcmpLimiter,
    random: Random,
    /** Whether a service has the IPv4 address at an index of the pool's memory. */
    private readonly isVirtual: (at: number) => boolean,
    /** What options are filled in with. */
    readonly optionsOwner: OptionsOwner,
  ) {
    this.identification = random.next() & 0xffff
  }

  /** Before each packet. */
  begin(): void {
    this.mtu = 0
    this.written = 0
    this.isAnswer = false
  }

  forward(offset: number, length: number, hop: number): Verdict {
    this.offset = offset
    this.length = length
    this.hop = hop
    return (this.verdict = Verdict.forward)
  }

  drop(reason: number): Verdict {
    this.reason = reason
    this.counters.countReason(reason)
    return (this.verdict = Verdict.drop)
  }

  decline(reason: number): Verdict {
    this.reason = reason
    this.counters.countReason(reason)
    return (this.verdict = Verdict.decline)
  }

  /**
   * The packet ends here, and its sender is told why with an ICMP error, if it may be told and the rate
   * limits allow: the answer takes the packet's place. Counted under the reason in any case.
   *
   * @param restBe second word of the ICMP header
   * @param sourceBe the address that the answer comes from: that which the packet is for, or 0 for the one that
   *   the way back suggests. If it is not the director's, as with a marked packet, nothing can be sent
   */
  answer(
    packet: Packet,
    reason: number,
    type: number,
    code: number,
    restBe: number,
    sourceBe: number,
  ): Verdict {
    const { words, halfs, bytes } = this.pool
    this.drop(reason)
    if (!mayAnswer(words, halfs, bytes, packet.network)) return this.verdict
    if (sourceBe !== 0 && !this.isOwn(packet.destinationAt)) return this.verdict
    return this.sendError(packet.network, packet.totalBytes, type, code, restBe, sourceBe, packet)
  }

  /**
   * The same for an IPv6 packet. The answer comes from the packet's destination, if that is the director's own
   * address, else from the one that the interface suggests where it came in (icmp6_send of net/ipv6/icmp.c).
   *
   * @param restBe second word of the ICMPv6 header
   */
  answerIpv6(packet: Packet, reason: number, type: number, code: number, restBe: number): Verdict {
    const { words, halfs, bytes } = this.pool
    const { neighbours } = this
    const { network, totalBytes, chain } = packet
    this.drop(reason)
    if (!icmpv6.mayAnswer(words, bytes, network, chain, network + totalBytes, type))
      return this.verdict
    const hop = neighbours.hopForIpv6(words, packet.sourceAt)
    if (neighbours.state[hop] === HopState.unreachable) return this.verdict
    // The kernel does not limit what path MTU discovery depends on.
    const isLimited = type !== icmpv6.Icmpv6Type.packetTooBig
    if (isLimited && !this.icmpLimiter.allow(packet.sourceBe, this.now)) return this.verdict
    const own = neighbours.hopForIpv6(words, packet.destinationAt)
    const isOwn = neighbours.state[own] === HopState.local
    if (!isOwn) neighbours.sourceOfErrorIpv6(packet.inPort, words, packet.sourceAt, this.ownIpv6)
    const length = icmpv6.prependError(
      words,
      halfs,
      bytes,
      network,
      totalBytes,
      type,
      code,
      restBe,
      isOwn ? words : this.ownIpv6,
      isOwn ? packet.destinationAt : 0,
    )
    this.mtu = 0
    this.isAnswer = true
    return this.forward(network - icmpv6.ERROR_HEADER_BYTES, length, hop)
  }

  /** Whether the IPv4 address at an index of the pool's memory is the director's own, so that it may answer from it. */
  isOwn(at: number): boolean {
    const { neighbours, pool } = this
    return (
      this.isVirtual(at) || neighbours.state[neighbours.hopFor(pool.words[at]!)] === HopState.local
    )
  }

  /**
   * Makes an ICMP error of the IPv4 packet at `offset` of which `available` bytes are there.
   *
   * @param packet whose options the error takes over, if that is this one
   */
  sendError(
    offset: number,
    available: number,
    type: number,
    code: number,
    restBe: number,
    sourceBe: number,
    packet?: Packet,
  ): Verdict {
    const { words, halfs, bytes } = this.pool
    const { neighbours } = this
    const senderBe = words[(offset + 12) >> 2]!
    const hop = neighbours.hopFor(senderBe)
    if (neighbours.state[hop] === HopState.unreachable) return (this.verdict = Verdict.drop)
    // The kernel does not limit what path MTU discovery depends on.
    const isLimited =
      type !== IcmpType.destinationUnreachable || code !== UnreachableCode.fragmentationNeeded
    if (isLimited && !this.icmpLimiter.allow(senderBe, this.now))
      return (this.verdict = Verdict.drop)
    const linkMtu = neighbours.mtu[hop]!
    const fromBe = sourceBe !== 0 ? sourceBe : neighbours.sourceBe[hop]!
    const { optionsOwner, errorOptions } = this
    const optionBytes = packet?.hasOptions
      ? packet.options.echo(bytes, offset, fromBe, optionsOwner, errorOptions)
      : 0
    if (optionBytes < 0) return (this.verdict = Verdict.drop)
    const length = prependError(
      words,
      halfs,
      bytes,
      offset,
      available,
      type,
      code,
      restBe,
      fromBe,
      this.nextIdentification(),
      linkMtu > 0 ? linkMtu : MAX_ERROR_BYTES,
      errorOptions.subarray(0, optionBytes),
    )
    if (length === 0) return (this.verdict = Verdict.drop)
    this.mtu = 0
    this.isAnswer = true
    return this.forward(offset - ERROR_HEADER_BYTES - optionBytes, length, hop)
  }

  /** The header checksum of a packet that is sent on, if its options have been filled in. */
  finishOptions(packet: Packet): void {
    if (packet.hasOptions) writeChecksum(this.pool.halfs, this.pool.bytes, packet.network)
  }

  /**
   * The same for a packet that has passed the machine's router, which records its route.
   *
   * @param isRerouted it has been routed anew as one of the director's own, from its source
   */
  passOptionsOn(packet: Packet, hop: number, isRerouted: boolean): void {
    if (!packet.hasOptions) return
    const { pool, neighbours } = this
    const fromBe = isRerouted ? pool.words[packet.sourceAt]! : neighbours.sourceBe[hop]!
    packet.options.passOn(pool, packet.network, fromBe)
  }

  /** Identification of the next IP packet that the director originates, in no byte order. */
  nextIdentification(): number {
    return (this.identification = (this.identification + 1) & 0xffff)
  }
}
