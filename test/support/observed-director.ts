import { Director } from '../../src/core/director.js'
import type { FramePool } from '../../src/port/frame-pool.js'
import type { DirectorOptions } from '../../src/core/director.js'
import { THE_LONG_WAY } from '../../src/core/hit-path.js'
import { reasons, Verdict } from '../../src/core/verdict.js'
import { packetProblems, packetSummary } from './packets.js'

/**
 * A director that watches itself: every packet must end in exactly one way, and what leaves must be where
 * it may be. What breaks a rule is noted in `violations`, with the packet.
 */
export class ObservedDirector extends Director {
  readonly violations: string[] = []
  /**
   * How packets ended: sent on as themselves, answered with an ICMP error, left to the kernel (later fragments apart),
   * gone, or kept as fragments.
   */
  readonly ends = {
    ...{ forwarded: 0, answered: 0, declined: 0, declinedLater: 0, dropped: 0, gathered: 0 },
  }
  /** How packets ended that were put together, and which timeouts were told of. */
  readonly gatheredEnds = { sent: 0, dropped: 0, timeouts: 0 }
  /** Packets that the data plane gave up, by reason. */
  readonly lost: Record<string, number> = {}
  private readonly pool: FramePool
  private readonly ready: boolean

  constructor(options: DirectorOptions) {
    super(options)
    this.pool = options.pool
    this.ready = true
  }

  override countReason(reason: number): void {
    super.countReason(reason)
    if (!this.ready) return
    const name = reasons[reason]!
    this.lost[name] = (this.lost[name] ?? 0) + 1
  }

  /** From now on no packet goes the short way. */
  goTheLongWay(): void {
    this.hits.process = () => THE_LONG_WAY
  }

  override process(network: number, available: number, inPort: number, candidate = 0): Verdict {
    const { bytes } = this.pool
    const before = bytes.slice(network, network + available)
    const counted = this.countedReasons()
    let verdict: Verdict
    try {
      verdict = super.process(network, available, inPort, candidate)
    } catch (error) {
      this.note(before, `threw ${(error as Error).stack}`)
      return Verdict.drop
    }
    const newReasons = this.countedReasons() - counted
    const { ends } = this
    if (verdict === Verdict.forward) {
      if (newReasons === 0) ends.forwarded++
      else ends.answered++
      if (newReasons > 1) this.note(before, `counted under ${newReasons} reasons`)
      this.checkForwarded(network, before, newReasons === 1)
    } else if (verdict === Verdict.gather) {
      ends.gathered++
      if (newReasons !== 0) this.note(before, `a fragment, ${newReasons} reasons`)
    } else {
      if (verdict !== Verdict.decline) ends.dropped++
      else if (isLaterFragment(before)) ends.declinedLater++
      else ends.declined++
      if (newReasons !== 1) this.note(before, `not forwarded, ${newReasons} reasons`)
      if (verdict === Verdict.decline) {
        const after = bytes.subarray(network, network + available)
        if (Buffer.compare(before, after) !== 0) this.note(before, 'declined, but changed')
      }
    }
    return verdict
  }

  override processGathered(...args: Parameters<Director['processGathered']>): Verdict {
    const verdict = super.processGathered(...args)
    this.gatheredEnds[verdict === Verdict.drop ? 'dropped' : 'sent']++
    return verdict
  }

  override answerTimeout(...args: Parameters<Director['answerTimeout']>): Verdict {
    const verdict = super.answerTimeout(...args)
    if (verdict === Verdict.forward) this.gatheredEnds.timeouts++
    return verdict
  }

  private checkForwarded(network: number, before: Uint8Array, isAnswer: boolean): void {
    const { outOffset, outLength, outHop, pool } = this
    const start = pool.startOf(network)
    const out = pool.bytes.slice(outOffset, outOffset + outLength)
    const fail = (what: string): void => this.note(before, `${what}; out: ${packetSummary(out)}`)
    if (outOffset % 4 !== 0) fail('the IP header to send is not aligned')
    if (outOffset - 14 < start || outOffset + outLength > start + pool.frameSize)
      fail('what is sent leaves its frame')
    if (outHop === 0) fail('forwarded without a next hop')
    const problems = packetProblems(out)
    const isWrong = (problem: string): boolean => /header checksum|length|version/.test(problem)
    if (isAnswer && (out[9] !== 1 || problems.length > 0))
      fail(`an answer that is no sound ICMP error: ${problems.join(', ')}`)
    else if (problems.length > 0 && packetProblems(ownBytes(before)).length === 0)
      fail(`sound when it came, ${problems.join(', ')} when it left`)
    else if (
      problems[0] !== undefined &&
      isWrong(problems[0]) &&
      !/UDP|TCP|inner/.test(problems[0])
    )
      fail(problems[0])
  }

  private countedReasons(): number {
    const { values } = this.counters
    let sum = 0
    for (let i = 0; i < reasons.length; i++) sum += values[i]!
    return sum
  }

  private note(packet: Uint8Array, what: string): void {
    if (this.violations.length < 20)
      this.violations.push(`${what}; in: ${Buffer.from(packet).toString('hex')}`)
  }
}

/** Whether an IPv4 packet is a fragment that does not begin its packet. */
export function isLaterFragment(ip: Uint8Array): boolean {
  return ((ip[6]! & 0x1f) << 8) + ip[7]! !== 0
}

/** The packet without what a link layer padded behind it. */
function ownBytes(packet: Uint8Array): Uint8Array {
  const total = packet.length >= 4 ? packet[2]! * 256 + packet[3]! : packet.length
  return packet.subarray(0, total)
}
