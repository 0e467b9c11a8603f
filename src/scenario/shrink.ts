/** A failing scenario to its smallest form. */

/** Scenarios run at most, so that a stubborn one ends. */
const BUDGET = 600

export interface ShrinkOptions {
  /**
   * How many candidates are tried at a time, as many as there are kernels to ask. The result does not depend
   * on it. Default 1.
   */
  width?: number
}

/**
 * Takes lines away as long as the scenario still fails in the same way (delta debugging: halves, quarters,
 * down to single lines), then makes the lines that are left say less: options dropped, weights, times and
 * lengths smaller, addresses and ports the same where they need not differ. Time that a line took to pass is
 * taken from all later moments as well.
 *
 * @param text of the scenario
 * @param kindOf what sort of failure a text has, undefined when it has none; see Difference.kind
 * @returns the smallest text found, without comments; `text` without comments when it does not fail
 */
export async function shrink(
  text: string,
  kindOf: (text: string) => Promise<string | undefined>,
  options: ShrinkOptions = {},
): Promise<string> {
  const lines = text
    .split('\n')
    .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
    .filter((line) => line !== '')
  const kind = await kindOf(join(lines))
  if (kind === undefined) return join(lines)
  return join(await new Shrinking(lines, kind, kindOf, options.width ?? 1).run())
}

function join(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`
}

class Shrinking {
  private budget = BUDGET
  /** Texts that have been tried. */
  private readonly tried = new Set<string>()

  constructor(
    private lines: string[],
    private readonly kind: string,
    private readonly kindOf: (text: string) => Promise<string | undefined>,
    private readonly width: number,
  ) {}

  async run(): Promise<string[]> {
    await this.removeLines()
    // What a simpler line no longer needs, other lines may have been there for.
    while ((await this.simplify()) && (await this.removeLines()));
    return this.lines
  }

  /** The first of the candidates that still fails takes the scenario's place. @returns its index, -1 if none does */
  private async take(candidates: readonly string[][]): Promise<number> {
    const fresh = candidates.filter((candidate) => !this.tried.has(join(candidate)))
    for (let from = 0; from < fresh.length && this.budget > 0; from += this.width) {
      const group = fresh.slice(from, from + this.width)
      this.budget -= group.length
      const kinds = await Promise.all(group.map((candidate) => this.kindOf(join(candidate))))
      const found = kinds.indexOf(this.kind)
      // Those behind the one that is found have another base from now on.
      for (const candidate of found < 0 ? group : group.slice(0, found + 1))
        this.tried.add(join(candidate))
      if (found < 0) continue
      this.lines = group[found]!
      return candidates.indexOf(this.lines)
    }
    return -1
  }

  /** @returns whether any line could be taken away */
  private async removeLines(): Promise<boolean> {
    const before = this.lines.length
    for (let size = Math.ceil(before / 2); ;) {
      let hasShrunk = false
      // From the end: what comes later depends on what comes before.
      for (let end = this.lines.length; end > 0;) {
        const candidates: string[][] = []
        for (let i = 0; i < this.width && end - i * size > 0; i++)
          candidates.push(without(this.lines, Math.max(0, end - (i + 1) * size), end - i * size))
        const taken = await this.take(candidates)
        if (taken >= 0) hasShrunk = true
        end -= (taken >= 0 ? taken + 1 : candidates.length) * size
      }
      if (this.budget <= 0 || (size === 1 && !hasShrunk)) break
      size = Math.max(1, Math.floor(size / 2))
    }
    return this.lines.length < before
  }

  /** @returns whether anything could be made simpler */
  private async simplify(): Promise<boolean> {
    let hasShrunk = false
    while ((await this.take(uniform(this.lines))) >= 0) hasShrunk = true
    for (let i = 0; i < this.lines.length; i++)
      while ((await this.take(simplerAt(this.lines, i))) >= 0) hasShrunk = true
    return hasShrunk
  }
}

/** Some lines less, and the time that they let pass. */
function without(lines: readonly string[], start: number, end: number): string[] {
  const gone = timeAt(lines, end) - timeAt(lines, start)
  return [...lines.slice(0, start), ...earlier(lines.slice(end), gone)]
}

const AT = /^at ([\d.]+)$/

/** The clock before a line, in seconds. */
function timeAt(lines: readonly string[], index: number): number {
  for (let i = index - 1; i >= 0; i--) {
    const at = AT.exec(lines[i]!)
    if (at) return Number(at[1])
  }
  return 0
}

/** Lines with their moments so many seconds earlier. */
function earlier(lines: readonly string[], seconds: number): string[] {
  if (seconds === 0) return [...lines]
  return lines.map((line) => {
    const at = AT.exec(line)
    return at ? `at ${rounded(Number(at[1]) - seconds)}` : line
  })
}

/** To milliseconds, which is what a scenario's clock counts. */
function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000
}

/** The scenario with one of its lines simpler, the simplest first. */
function simplerAt(lines: readonly string[], index: number): string[][] {
  const at = AT.exec(lines[index]!)
  if (at) {
    const before = timeAt(lines, index)
    const gap = rounded(Number(at[1]) - before)
    return [1, 10, 60, Math.floor(gap / 2), Math.floor(gap)]
      .filter((less) => less < gap)
      .map((less) => [
        ...lines.slice(0, index),
        `at ${rounded(before + less)}`,
        ...earlier(lines.slice(index + 1), gap - less),
      ])
  }
  return simplerLines(lines[index]!).map((simpler) =>
    lines.map((line, i) => (i === index ? simpler : line)),
  )
}

/** ipvsadm's options that can be left out: those with a value, and those without. */
const VALUED = /^(-w|-x|-y|-M|-b|--tun-type|--tun-port)$/
const BARE = /^(-o|--tun-csum|--tun-nocsum|--tun-remcsum)$/
/** Options whose values are numbers that can be smaller. */
const NUMBERS: Readonly<Record<string, readonly number[]>> = {
  '-w': [2, 3],
  '-x': [1, 2],
  '-y': [1],
  '-p': [1, 60],
}

/** Forms of a line that say less, the simplest first. */
function simplerLines(line: string): string[] {
  const words = line.split(' ')
  const simpler: string[] = []
  const drop = (start: number, count: number): void => {
    simpler.push([...words.slice(0, start), ...words.slice(start + count)].join(' '))
  }
  const replace = (index: number, word: string): void => {
    if (words[index] !== word)
      simpler.push(words.map((old, i) => (i === index ? word : old)).join(' '))
  }
  const isCommand = words[0] === 'ipvsadm'
  for (let i = 1; i < words.length; i++) {
    const word = words[i]!
    const value = words[i + 1]
    if (!isCommand) {
      if (/^(len|ttl|id|mark)=/.test(word)) drop(i, 1)
      if (/^len=(\d+)$/.test(word) && Number(word.slice(4)) > 1) replace(i, 'len=1')
      continue
    }
    if (word === '-p') {
      // With a time of its own or without, or not at all.
      const hasTime = value !== undefined && /^\d+$/.test(value)
      drop(i, hasTime ? 2 : 1)
      if (hasTime) drop(i + 1, 1)
    } else if (VALUED.test(word) && value !== undefined) drop(i, 2)
    else if (BARE.test(word)) drop(i, 1)
    else if (word === '-i' || word === '-g') replace(i, '-m')
    else if (word === '-s' && value !== undefined) replace(i + 1, 'rr')
    for (const number of NUMBERS[word] ?? [])
      if (value !== undefined && Number(value) > number) replace(i + 1, String(number))
  }
  return simpler
}

/** The scenario with an address or a port everywhere replaced by another of the same sort, so that fewer differ. */
function uniform(lines: readonly string[]): string[][] {
  const text = join(lines)
  const candidates: string[][] = []
  const replaceAll = (pattern: RegExp, by: string): void => {
    const replaced = text.replace(pattern, by)
    if (replaced !== text) candidates.push(replaced.trimEnd().split('\n'))
  }
  // Packets in hex have addresses of their own, so where there are any they may have to stay.
  const clients = new Set(
    [...text.matchAll(/^(?:tcp|udp|sctp) (\S+):(\d+) >/gm)].map(([, end]) => end!),
  )
  const ports = new Set(
    [...text.matchAll(/^(?:tcp|udp|sctp) \S+:(\d+) >/gm)].map(([, port]) => port!),
  )
  for (const [all, first] of [
    [clients, [...clients].find((end) => /^(10\.1\.|\[fd01:)/.test(end))],
    [ports, [...ports].find((port) => Number(port) >= 1024)],
  ] as const)
    for (const each of all)
      if (first !== undefined && each !== first)
        replaceAll(
          all === ports
            ? new RegExp(`:${each}(?= )`, 'g')
            : new RegExp(`(?<= )${escaped(each)}(?=:)`, 'g'),
          all === ports ? `:${first}` : first,
        )
  return candidates
}

function escaped(text: string): string {
  return text.replace(/[.[\]]/g, '\\$&')
}
