/**
 * Command lines as popt(3) reads them, which is what ipvsadm is built on: short options combine (`-Ln`),
 * an argument may stick to its option (`-w5`, `-w=5`, `--weight=5`) or follow it, an optional argument is
 * taken from the next word unless that starts with a dash (`-p -s rr`), words that are no options are left
 * over, and `--` ends the options. Long options are never abbreviated.
 */

export interface OptionSpec {
  /** Name without the dashes. */
  long: string
  /** One letter. */
  short?: string
  /** Name of the argument, for the help; absent when the option takes none. */
  argument?: string
  /** The argument may be left out. */
  optional?: boolean
}

/** What popt says of a word that it cannot read. */
export type ScanProblem = 'unknown option' | 'missing argument' | 'option does not take an argument'

export type ScanStep<Spec extends OptionSpec> =
  | { kind: 'option'; option: Spec; value: string | undefined; word: number; valueWord: number }
  | { kind: 'problem'; problem: ScanProblem; word: number }

/** Reads options one by one; what is left over is complete when `next` has returned undefined. */
export class OptionScanner<Spec extends OptionSpec> {
  /** Words that are no options, with their places. */
  readonly leftovers: { text: string; word: number }[] = []
  private nextWord = 0
  /** Short options of the present word that have not been read yet. */
  private pending = ''
  private onlyLeftovers = false
  private readonly byLong = new Map<string, Spec>()
  private readonly byShort = new Map<string, Spec>()

  constructor(
    private readonly words: readonly string[],
    options: readonly Spec[],
  ) {
    for (const option of options) {
      this.byLong.set(option.long, option)
      if (option.short) this.byShort.set(option.short, option)
    }
  }

  /** Index of the word that was read last: the one that popt names in its errors. */
  get lastWord(): number {
    return this.nextWord - 1
  }

  next(): ScanStep<Spec> | undefined {
    let attached: string | undefined
    let option: Spec | undefined
    while (this.pending === '') {
      const text = this.words[this.nextWord]
      if (text === undefined) return undefined
      const word = this.nextWord++
      if (this.onlyLeftovers || !text.startsWith('-') || text === '-') {
        this.leftovers.push({ text, word })
        continue
      }
      if (text === '--') {
        this.onlyLeftovers = true
        continue
      }
      if (!text.startsWith('--')) {
        this.pending = text.slice(1)
        break
      }
      const equals = text.indexOf('=')
      if (equals >= 0) attached = text.slice(equals + 1)
      option = this.byLong.get(equals < 0 ? text.slice(2) : text.slice(2, equals))
      if (!option) return this.problem('unknown option')
      break
    }
    if (!option) {
      option = this.byShort.get(this.pending[0]!)
      if (!option) return this.problem('unknown option')
      this.pending = this.pending.slice(1)
    }
    return this.withArgument(option, attached)
  }

  private withArgument(option: Spec, attached: string | undefined): ScanStep<Spec> {
    const word = this.lastWord
    if (!option.argument) {
      if (attached !== undefined || this.pending.startsWith('='))
        return this.problem('option does not take an argument')
      return { kind: 'option', option, value: undefined, word, valueWord: word }
    }
    if (attached === undefined && this.pending !== '') {
      attached = this.pending.startsWith('=') ? this.pending.slice(1) : this.pending
      this.pending = ''
    }
    if (attached !== undefined)
      return { kind: 'option', option, value: attached, word, valueWord: word }
    const following = this.words[this.nextWord]
    if (following === undefined) {
      if (!option.optional) return this.problem('missing argument')
      return { kind: 'option', option, value: undefined, word, valueWord: word }
    }
    if (option.optional && following.startsWith('-'))
      return { kind: 'option', option, value: undefined, word, valueWord: word }
    return { kind: 'option', option, value: following, word, valueWord: this.nextWord++ }
  }

  private problem(problem: ScanProblem): ScanStep<Spec> {
    return { kind: 'problem', problem, word: this.lastWord }
  }
}
