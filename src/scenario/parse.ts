/** Scenarios from text; docs/scenarios.md shows every directive. */
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { dirname, resolve } from 'node:path'
import { canonicalAddress } from '../control/address.js'
import {
  DEFAULT_TTL,
  maxLength,
  sctpChunks,
  sctpPacket,
  tcpFlagNames,
  tcpPacket,
  udpPacket,
  type Endpoint,
  type PacketFields,
  type SctpChunkName,
} from './packets.js'
import {
  ScenarioError,
  type Directive,
  type PacketOptions,
  type Scenario,
  type Side,
} from './scenario.js'
import { sideNames } from './wiring.js'

/** A word of a line, without its quotes. `column` counts from 1. */
interface Word {
  text: string
  column: number
}

const MAX_MARK = 0xffffffff
/** Longest scenario: what a 32-bit clock of jiffies holds, about 248 days. */
const MAX_SECONDS = 0x7fffffff / 100
const LONGEST_PACKET = 65575

/** @throws what readFileSync throws, or a ScenarioError */
export function readScenario(path: string): Scenario {
  return parseScenario(readFileSync(path, 'utf8'), resolve(path))
}

/**
 * @param file where the text is from: captures are looked for beside it, and errors name it
 * @throws ScenarioError at the first thing that is wrong
 */
export function parseScenario(text: string, file: string): Scenario {
  const directives: Directive[] = []
  let seconds = 0
  // Some editors begin a text with a byte order mark.
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  lines.forEach((line, index) => {
    const parser = new LineParser(line, index + 1, file)
    const directive = parser.directive()
    if (!directive) return
    if (directive.kind === 'at') {
      if (directive.seconds < seconds)
        parser.fail(1, `at ${directive.seconds}: the clock is at ${seconds} already`)
      seconds = directive.seconds
    }
    directives.push(directive)
  })
  return { name: file, directives }
}

class LineParser {
  private readonly words: Word[]
  /** Where the comment begins. */
  private comment: number
  private next = 0
  private readonly end: number

  constructor(
    private readonly source: string,
    private readonly line: number,
    private readonly file: string,
  ) {
    this.comment = source.length
    this.words = this.split()
    this.end = source.slice(0, this.comment).trimEnd().length + 1
  }

  fail(column: number, problem: string): never {
    throw new ScenarioError(this.file, this.line, column, problem)
  }

  directive(): Directive | undefined {
    const keyword = this.take()
    if (!keyword) return undefined
    const at = { line: this.line, text: this.source.slice(0, this.comment).trim() }
    switch (keyword.text) {
      case 'at':
        return { ...at, kind: 'at', seconds: this.seconds() }
      case 'ipvsadm':
        return { ...at, kind: 'ipvsadm', args: this.rest().map((word) => word.text) }
      case 'sysctl':
        return { ...at, kind: 'sysctl', ...this.setting() }
      case 'tcp':
      case 'udp':
      case 'sctp':
        return { ...at, kind: 'packet', ...this.packet(keyword.text) }
      case 'raw':
        return { ...at, kind: 'packet', packet: this.hex(), ...this.wholePacketOptions('raw') }
      case 'pcap': {
        const file = this.need('the name of a capture')
        return {
          ...at,
          kind: 'pcap',
          file: resolve(dirname(this.file), file.text),
          ...this.wholePacketOptions('pcap'),
        }
      }
      default:
        return this.fail(
          keyword.column,
          `unknown directive '${keyword.text}'; there are at, ipvsadm, sysctl, tcp, udp, sctp, raw and pcap`,
        )
    }
  }

  /**
   * Words as a shell splits them: blanks, quotes, backslashes. # begins a comment, but within arguments of ipvsadm and
   * names of captures only where a word would begin.
   */
  private split(): Word[] {
    const { source } = this
    const words: Word[] = []
    const maybeInWord = (): boolean => /^(ipvsadm|pcap)$/.test(words[0]?.text ?? '')
    let word: Word | undefined
    const add = (text: string, column: number): void => {
      word ??= { text: '', column }
      word.text += text
    }
    for (let i = 0; i < source.length; i++) {
      const char = source[i]!
      if (char === ' ' || char === '\t') {
        if (word) words.push(word)
        word = undefined
      } else if (char === '#' && !(word && maybeInWord())) {
        this.comment = i
        break
      } else if (char === "'" || char === '"') {
        const start = i
        add('', start + 1)
        for (i++; source[i] !== char; i++) {
          if (i >= source.length) this.fail(start + 1, `the quote ${char} is not closed`)
          if (char === '"' && source[i] === '\\' && /["\\$`]/.test(source[i + 1] ?? '')) i++
          add(source[i]!, start + 1)
        }
      } else if (char === '\\') {
        if (i + 1 >= source.length) this.fail(i + 1, 'nothing follows the backslash')
        add(source[++i]!, i)
      } else add(char, i + 1)
    }
    if (word) words.push(word)
    return words
  }

  private take(): Word | undefined {
    return this.words[this.next++]
  }

  private rest(): Word[] {
    const rest = this.words.slice(this.next)
    this.next = this.words.length
    return rest
  }

  private need(what: string): Word {
    return this.take() ?? this.fail(this.end, `${what} is missing`)
  }

  private nothingElse(): void {
    const word = this.take()
    if (word) this.fail(word.column, `unexpected '${word.text}'`)
  }

  private seconds(): number {
    const word = this.need('the time in seconds')
    const seconds = /^(\d+(\.\d*)?|\.\d+)$/.test(word.text) ? Number(word.text) : NaN
    if (!(seconds <= MAX_SECONDS))
      this.fail(word.column, `'${word.text}' is no time in seconds from 0 to ${MAX_SECONDS}`)
    this.nothingElse()
    return seconds
  }

  private setting(): { key: string; value: string } {
    const word = this.need('KEY=VALUE')
    const match = /^([^=]*[^=\s][^=]*)=(.*)$/.exec(
      [word, ...this.rest()].map((each) => each.text).join(' '),
    )
    if (!match) this.fail(word.column, `'${word.text}' is not KEY=VALUE`)
    return { key: match[1]!.trim(), value: match[2]!.trim() }
  }

  private hex(): Uint8Array {
    const word = this.need('a packet in hex')
    if (!/^([0-9a-f]{2})+$/i.test(word.text))
      this.fail(word.column, `'${shorten(word.text)}' is not bytes in hex, two digits each`)
    if (word.text.length / 2 > LONGEST_PACKET)
      this.fail(word.column, `the packet is longer than ${LONGEST_PACKET} bytes`)
    return Uint8Array.from(Buffer.from(word.text, 'hex'))
  }

  private packet(protocol: 'tcp' | 'udp' | 'sctp'): { packet: Uint8Array } & PacketOptions {
    const from = this.endpoint('the source, ADDRESS:PORT')
    const arrow = this.need("'>'")
    if (arrow.text !== '>') this.fail(arrow.column, `'>' expected, not '${arrow.text}'`)
    const toWord = this.words[this.next]
    const to = this.endpoint('the destination, ADDRESS:PORT')
    const family = isIP(to.address) as 4 | 6
    if (isIP(from.address) !== family)
      this.fail(toWord!.column, `'${toWord!.text}' is not of the source's address family`)
    const flags = protocol === 'tcp' ? this.flags() : ''
    const chunk = protocol === 'sctp' ? this.chunk() : undefined
    const { numbers, ...options } = this.options(['len', 'ttl', 'id', 'mark', 'in'], {
      len: maxLength(chunk ?? (protocol as 'tcp' | 'udp'), family),
    })
    const fields: PacketFields = {
      from,
      to,
      length: numbers.len ?? 0,
      ttl: numbers.ttl ?? DEFAULT_TTL,
      identification: numbers.id ?? 0,
    }
    const packet =
      protocol === 'tcp'
        ? tcpPacket(fields, flags)
        : protocol === 'udp'
          ? udpPacket(fields)
          : sctpPacket(fields, chunk!)
    return { packet, ...options }
  }

  private endpoint(what: string): Endpoint {
    const word = this.need(what)
    const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d+)$/.exec(word.text)
    const address = match ? canonicalAddress(match[1] ?? match[2]!) : undefined
    if (!match || address === undefined || (isIP(address) === 6) !== (match[1] !== undefined))
      return this.fail(
        word.column,
        `'${word.text}' is no ADDRESS:PORT (an IPv6 address stands in brackets)`,
      )
    const port = Number(match[3])
    if (port > 65535) this.fail(word.column, `port ${match[3]} is above 65535`)
    return { address, port }
  }

  private flags(): string {
    const word = this.words[this.next]
    if (!word || word.text.includes('=')) return 'A'
    this.next++
    const wrong = [...word.text].find((letter) => !(tcpFlagNames as string[]).includes(letter))
    if (wrong !== undefined)
      this.fail(word.column, `'${word.text}' has a flag that is none of S A F R P U: '${wrong}'`)
    return word.text
  }

  private chunk(): SctpChunkName {
    const names = Object.keys(sctpChunks)
    const word = this.need(`the chunk (${names.join(', ')})`)
    if (!names.includes(word.text))
      this.fail(word.column, `'${word.text}' is no chunk: there are ${names.join(', ')}`)
    return word.text as SctpChunkName
  }

  /** A packet that is given whole has its own length, TTL and identification. */
  private wholePacketOptions(kind: string): PacketOptions {
    const { side, mark } = this.options(['mark', 'in'], {}, kind)
    return { side, mark }
  }

  private options(
    allowed: readonly string[],
    { len = LONGEST_PACKET }: { len?: number },
    kind?: string,
  ): PacketOptions & { numbers: Record<string, number | undefined> } {
    const limits: Record<string, number> = { len, ttl: 255, id: 0xffff, mark: MAX_MARK }
    const numbers: Record<string, number | undefined> = {}
    let side: Side = 'client'
    const seen = new Set<string>()
    for (const word of this.rest()) {
      const [, name = '', value = ''] = /^([^=]*)=(.*)$/.exec(word.text) ?? []
      if (!allowed.includes(name))
        this.fail(
          word.column,
          kind && name in limits
            ? `${name}= does not go with ${kind}, whose packets are given whole`
            : `unknown option '${word.text}'; there are ${allowed.map((each) => `${each}=`).join(', ')}`,
        )
      if (seen.has(name)) this.fail(word.column, `${name}= is given twice`)
      seen.add(name)
      if (name === 'in') {
        if (!(sideNames as string[]).includes(value))
          this.fail(word.column, `in=${value}: a packet comes in on client or server`)
        side = value as Side
        continue
      }
      const number = /^\d+$/.test(value) || /^0x[0-9a-f]+$/i.test(value) ? Number(value) : NaN
      if (!(number <= limits[name]!))
        this.fail(word.column, `${name}=${value}: not a number from 0 to ${limits[name]}`)
      numbers[name] = number
    }
    return { side, mark: numbers['mark'] ?? 0, numbers }
  }
}

function shorten(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text
}
