import { readFileSync } from 'node:fs'
import type { Command, MarkRule, ServiceProtocol } from '../core/commands.js'
import { canonicalPrefix, type CommandResult } from './api.js'
import { RulesError } from './rules.js'

/** A mark rule that cannot be read; `word` is the index of the word at fault, -1 when one is missing. */
export class MarkRuleError extends Error {
  constructor(
    message: string,
    readonly word: number,
  ) {
    super(message)
    this.name = 'MarkRuleError'
  }
}

/** The longest name of an interface (IFNAMSIZ less the end). */
const MAX_INTERFACE_NAME = 15

const longNames: Record<string, string> = {
  '--protocol': '-p',
  '--source': '-s',
  '--destination': '-d',
  '--destination-port': '--dport',
  '--in-interface': '-i',
  '--jump': '-j',
}

/**
 * Reads a rule in iptables' manner:
 * `-p tcp -s 10.0.0.0/8 -d 10.1.0.10 --dport 80:90 -i eth0 -j MARK --set-mark 1`.
 */
export function parseMarkRule(words: readonly string[]): MarkRule {
  const rule: Partial<MarkRule> = {}
  const seen = new Set<string>()
  let target: string | undefined
  for (let i = 0; i < words.length; i += 2) {
    const word = words[i]!
    const option = longNames[word] ?? word
    const value = words[i + 1]
    if (word === '!') throw new MarkRuleError("'!' is not supported: say what matches", i)
    if (!/^(-[psdij]|--dport|--set-mark)$/.test(option))
      throw new MarkRuleError(
        `'${word}' is no option of a mark rule; there are -p -s -d --dport -i -j MARK --set-mark`,
        i,
      )
    if (seen.has(option)) throw new MarkRuleError(`'${word}' is given twice`, i)
    seen.add(option)
    if (value === undefined) throw new MarkRuleError(`'${word}' needs a value`, -1)
    const bad = (expected: string): MarkRuleError =>
      new MarkRuleError(`'${value}' after ${word}: expected ${expected}`, i + 1)
    switch (option) {
      case '-p':
        // As iptables has it, `all` is the same as saying nothing.
        if (value === 'all') break
        if (value !== 'tcp' && value !== 'udp' && value !== 'sctp')
          throw bad('tcp, udp, sctp or all')
        rule.protocol = value satisfies ServiceProtocol
        break
      case '-s':
      case '-d': {
        const prefix = canonicalPrefix(value)
        if (prefix === undefined) throw bad('an address or a prefix as 10.0.0.0/8')
        rule[option === '-s' ? 'source' : 'destination'] = prefix
        break
      }
      case '--dport': {
        const match = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(value)
        const first = Number(match?.[1])
        const last = Number(match?.[2] ?? match?.[1])
        if (!match || first > last || last > 65535) throw bad('a port or a range as 80:90')
        rule.ports = [first, last]
        break
      }
      case '-i':
        if (value === '' || value.length > MAX_INTERFACE_NAME || /[\s/]/.test(value))
          throw bad(`the name of an interface, ${MAX_INTERFACE_NAME} characters at most`)
        rule.interface = value
        break
      case '-j':
        if (value !== 'MARK') throw bad('MARK')
        target = value
        break
      case '--set-mark': {
        const mark = /^(\d+|0x[0-9a-fA-F]+)$/.test(value) ? Number(value) : NaN
        if (!(mark <= 0xffffffff)) throw bad('a number from 0 to 4294967295, without a mask')
        rule.mark = mark
        break
      }
    }
  }
  if (!target) throw new MarkRuleError("'-j MARK' is missing", -1)
  if (rule.mark === undefined) throw new MarkRuleError("'--set-mark' is missing", -1)
  if (rule.ports && !rule.protocol)
    throw new MarkRuleError(
      "'--dport' needs '-p tcp', '-p udp' or '-p sctp'",
      words.indexOf('--dport'),
    )
  return rule as MarkRule
}

/** The rule as parseMarkRule reads it. */
export function formatMarkRule(rule: MarkRule): string {
  const words: string[] = []
  if (rule.protocol) words.push('-p', rule.protocol)
  if (rule.source) words.push('-s', rule.source)
  if (rule.destination) words.push('-d', rule.destination)
  if (rule.ports) {
    const [first, last] = rule.ports
    words.push('--dport', first === last ? String(first) : `${first}:${last}`)
  }
  if (rule.interface) words.push('-i', rule.interface)
  words.push('-j', 'MARK', '--set-mark', String(rule.mark))
  return words.join(' ')
}

/** Reads a file of rules, one a line, with blank lines and comments. Throws RulesError with file:line:column. */
export function parseMarkRules(text: string, file: string): MarkRule[] {
  const rules: MarkRule[] = []
  for (const [i, line] of text.split('\n').entries()) {
    const words: { text: string; column: number }[] = []
    for (const match of line.matchAll(/\S+/g)) {
      if (match[0].startsWith('#')) break
      words.push({ text: match[0], column: match.index + 1 })
    }
    if (words.length === 0) continue
    try {
      rules.push(parseMarkRule(words.map((word) => word.text)))
    } catch (error) {
      if (!(error instanceof MarkRuleError)) throw error
      const column = words[error.word]?.column ?? line.trimEnd().length + 1
      throw new RulesError(file, i + 1, column, error.message)
    }
  }
  return rules
}

export const markUsage = `uvs mark: marking rules of a running director, as iptables -t mangle has them

Usage: uvs mark [--socket PATH] COMMAND

  add RULE            append a rule
  del RULE | NUMBER   delete the first rule that is the same, or the one with this number
  list [--json]       rules with their numbers
  flush               delete all rules
  save                write all rules to stdout, one a line
  restore [FILE]      replace all rules by those of a file or stdin

RULE: [-p tcp|udp|sctp] [-s PREFIX] [-d PREFIX] [--dport PORT[:PORT]] [-i INTERFACE] -j MARK --set-mark MARK

Every rule is tried, and the last that matches gives the mark.
`

/** Where `uvs mark` reads and writes. */
export interface MarkStreams {
  readStdin(): Promise<string>
  stdout(text: string): void
  stderr(text: string): void
}

/**
 * Runs `uvs mark ARGS` against a director and returns the exit status: 0, 2 for a command line or a file
 * that cannot be read, 1 when the director refuses.
 */
export async function runMark(
  args: readonly string[],
  execute: (commands: Command[]) => Promise<CommandResult[]>,
  streams: MarkStreams,
): Promise<number> {
  const [verb, ...rest] = args
  const usage = (message: string): number => {
    streams.stderr(`uvs mark: ${message}\n`)
    return 2
  }
  const ask = async (command: Command): Promise<unknown> => {
    const [result] = await execute([command])
    if (!result) throw new Error('the director does not answer')
    if ('error' in result) throw new Error(result.error.message)
    return result.reply
  }
  const list = async (): Promise<MarkRule[]> => (await ask({ op: 'list-marks' })) as MarkRule[]
  const replace = (rules: MarkRule[]): Promise<unknown> => ask({ op: 'set-marks', rules })
  try {
    switch (verb) {
      case 'add': {
        const rule = parseMarkRule(rest)
        await replace([...(await list()), rule])
        return 0
      }
      case 'del': {
        const numbered = rest.length === 1 && /^\d+$/.test(rest[0]!)
        const wanted = numbered ? '' : formatMarkRule(parseMarkRule(rest))
        const rules = await list()
        const index = numbered
          ? Number(rest[0]) - 1
          : rules.findIndex((rule) => formatMarkRule(rule) === wanted)
        if (rules[index] === undefined) {
          streams.stderr(`uvs mark: there is no rule ${numbered ? rest[0] : wanted}\n`)
          return 1
        }
        await replace(rules.filter((_rule, i) => i !== index))
        return 0
      }
      case 'list': {
        if (rest.some((word) => word !== '--json'))
          return usage(`list takes --json, not ${rest[0]}`)
        const rules = await list()
        streams.stdout(
          rest.length > 0
            ? `${JSON.stringify(rules, null, 2)}\n`
            : rules
                .map((rule, i) => `${String(i + 1).padEnd(4)} ${formatMarkRule(rule)}\n`)
                .join(''),
        )
        return 0
      }
      case 'save':
        if (rest.length > 0) return usage('save takes no arguments')
        streams.stdout((await list()).map((rule) => `${formatMarkRule(rule)}\n`).join(''))
        return 0
      case 'flush':
        if (rest.length > 0) return usage('flush takes no arguments')
        await replace([])
        return 0
      case 'restore': {
        if (rest.length > 1) return usage('restore takes one file')
        const file = rest[0]
        const text = file === undefined ? await streams.readStdin() : readFileSync(file, 'utf8')
        await replace(parseMarkRules(text, file ?? 'stdin'))
        return 0
      }
      case 'help':
      case '--help':
      case '-h':
        streams.stdout(markUsage)
        return 0
      case undefined:
        streams.stderr(markUsage)
        return 2
      default:
        streams.stderr(`uvs mark: there is no command '${verb}'\n\n${markUsage}`)
        return 2
    }
  } catch (error) {
    if (error instanceof MarkRuleError || error instanceof RulesError)
      return usage((error as Error).message)
    streams.stderr(`uvs mark: ${(error as Error).message}\n`)
    return 1
  }
}
