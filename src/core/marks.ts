import * as ipv4 from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import { IpvsError, type MarkRule } from './commands.js'
import { NO_MARK, type Packet } from './packet.js'
import { protocolNumber } from './protocol-names.js'

const MAX_MARK = 0xffffffff

/** A rule with its texts parsed. */
interface Matcher {
  mark: number
  /** IP protocol number, 0 for any that can be a service's. */
  protocol: number
  /** 4 or 6, 0 for both. */
  family: number
  /** Undefined for any. */
  source: ipv6.Prefix | undefined
  destination: ipv6.Prefix | undefined
  /** Host order. */
  firstPort: number
  lastPort: number
  /** Indexes of the ports of the rule's interface, undefined for any. */
  inPorts: readonly number[] | undefined
}

/**
 * Firewall marks. A packet in userspace carries no mark of the kernel's, so the director gives its own, as
 * `iptables -t mangle -A PREROUTING … -j MARK --set-mark` does: the rules are tried in order and the last
 * that matches wins. They are asked only for packets without a connection.
 */
export class MarkRules {
  private rules: readonly MarkRule[] = []
  private matchers: readonly Matcher[] = []

  /** @param interfaces name of the interface of each port, by the port's index */
  constructor(private readonly interfaces: readonly string[]) {}

  get list(): readonly MarkRule[] {
    return this.rules
  }

  /**
   * Replaces all rules.
   *
   * @throws IpvsError EINVAL, and then none is replaced
   */
  set(rules: readonly MarkRule[]): void {
    this.matchers = rules.map((rule, i) => this.compile(rule, i))
    this.rules = copyOf(rules)
  }

  /** The packet's mark, 0 when no rule gives it one. */
  markOf(packet: Packet): number {
    if (packet.mark !== NO_MARK) return packet.mark
    const { matchers } = this
    for (let i = matchers.length - 1; i >= 0; i--)
      if (matches(matchers[i]!, packet)) return matchers[i]!.mark
    return 0
  }

  /** Whether a packet of these addresses has a mark by some port. For fragments, of which most have no ports. */
  mayMark(packet: Packet): boolean {
    return this.matchers.some((one) => one.mark !== 0 && matchesAddresses(one, packet))
  }

  private compile(rule: MarkRule, index: number): Matcher {
    const fail = (why: string): never => {
      throw new IpvsError('EINVAL', `mark rule ${index + 1}: ${why}`)
    }
    const prefix = (name: string, text: string | undefined): ipv6.Prefix | undefined =>
      text === undefined
        ? undefined
        : (parsePrefix(text) ?? fail(`${name} '${text}' is no IP address or prefix`))
    const { mark } = rule
    if (!Number.isInteger(mark) || mark < 0 || mark > MAX_MARK)
      fail(`mark ${mark} is not within 0 to ${MAX_MARK}`)
    const [firstPort, lastPort] = rule.ports ?? [0, 65535]
    for (const port of [firstPort, lastPort])
      if (!Number.isInteger(port) || port < 0 || port > 65535)
        fail(`port ${port} is not within 0 to 65535`)
    if (firstPort > lastPort) fail(`ports ${firstPort} to ${lastPort}: the first is above the last`)
    const source = prefix('source', rule.source)
    const destination = prefix('destination', rule.destination)
    const texts = [rule.source, rule.destination].filter((text) => text !== undefined)
    const isIpv6 = texts.some((text) => text.includes(':'))
    if (isIpv6 && !texts.every((text) => text.includes(':')))
      fail(`source '${rule.source}' and destination '${rule.destination}' are of two families`)
    return {
      mark,
      protocol:
        rule.protocol === undefined
          ? 0
          : (protocolNumber(rule.protocol) ?? fail(`unknown protocol '${rule.protocol}'`)),
      family: texts.length === 0 ? 0 : isIpv6 ? 6 : 4,
      source,
      destination,
      firstPort,
      lastPort,
      inPorts:
        rule.interface === undefined
          ? undefined
          : this.interfaces.flatMap((name, port) => (name === rule.interface ? [port] : [])),
    }
  }
}

function matches(matcher: Matcher, packet: Packet): boolean {
  if (!matchesAddresses(matcher, packet)) return false
  const { icmp, icmpv6 } = ipv4.IpProtocol
  if (packet.protocol === icmp || packet.protocol === icmpv6) return true
  const port = ipv4.swap16(packet.destinationPortBe)
  return port >= matcher.firstPort && port <= matcher.lastPort
}

/** By all but the port. */
function matchesAddresses(matcher: Matcher, packet: Packet): boolean {
  if (matcher.protocol !== 0 && matcher.protocol !== packet.protocol) return false
  if (matcher.family !== 0 && matcher.family !== packet.family) return false
  const { source, destination } = matcher
  for (let i = 0; i < ipv6.ADDRESS_WORDS; i++) {
    if (source && !isWithin(packet.sourceWord(i), source, i)) return false
    if (destination && !isWithin(packet.destinationWord(i), destination, i)) return false
  }
  return matcher.inPorts === undefined || matcher.inPorts.includes(packet.inPort)
}

function isWithin(word: number, { words, prefixLength }: ipv6.Prefix, index: number): boolean {
  return (word & ipv6.maskWordBe(prefixLength, index)) === words[index]
}

/** A prefix of either family; one of IPv4 is that of an address in four words. */
function parsePrefix(text: string): ipv6.Prefix | undefined {
  if (text.includes(':')) return ipv6.parsePrefix(text)
  const prefix = ipv4.parsePrefix(text)
  return (
    prefix && {
      words: Int32Array.of(prefix.addressBe, 0, 0, 0),
      prefixLength: prefix.prefixLength,
    }
  )
}

/** Copies, so that a caller's later changes do not reach the rules in force. */
function copyOf(rules: readonly MarkRule[]): MarkRule[] {
  return rules.map((rule) => ({ ...rule }))
}
