/** A failing scenario to its smallest form. */

/** Scenarios run at most, so that a stubborn one ends. */
const BUDGET = 400

/**
 * Takes lines away as long as the scenario still fails in the same way (delta debugging: halves, quarters,
 * down to single lines), then words out of the lines that are left, and shortens times.
 *
 * @param text of the scenario
 * @param kindOf what sort of failure a text has, undefined when it has none; see Difference.kind
 * @returns the smallest text found; `text` itself, without comments, when it does not fail
 */
export async function shrink(
  text: string,
  kindOf: (text: string) => Promise<string | undefined>,
): Promise<string> {
  let lines = text.split('\n').filter((line) => /^\s*[^#\s]/.test(line))
  const kind = await kindOf(join(lines))
  if (kind === undefined) return join(lines)
  let budget = BUDGET
  const fails = async (candidate: readonly string[]): Promise<boolean> => {
    if (budget-- <= 0) return false
    return (await kindOf(join(candidate))) === kind
  }
  for (let size = Math.ceil(lines.length / 2); size >= 1 && budget > 0;) {
    let hasShrunk = false
    // From the end: what comes later depends on what comes before.
    for (let end = lines.length; end > 0; end -= size) {
      const candidate = [...lines.slice(0, Math.max(0, end - size)), ...lines.slice(end)]
      if (candidate.length === lines.length || !(await fails(candidate))) continue
      lines = candidate
      hasShrunk = true
    }
    if (size > 1) size = Math.ceil(size / 2)
    else if (!hasShrunk) break
  }
  for (let i = 0; i < lines.length; i++)
    for (let hasShrunk = true; hasShrunk;) {
      hasShrunk = false
      for (const simpler of simplerLines(lines[i]!)) {
        const candidate = lines.map((line, at) => (at === i ? simpler : line))
        if (!(await fails(candidate))) continue
        lines = candidate
        hasShrunk = true
        break
      }
    }
  return join(lines)
}

function join(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`
}

/** Forms of a line that say less, the simplest first. */
function simplerLines(line: string): string[] {
  const at = /^at ([\d.]+)$/.exec(line)
  if (at) {
    const seconds = Number(at[1])
    return [Math.floor(seconds / 2), Math.floor(seconds)]
      .filter((less) => less < seconds)
      .map((less) => `at ${less}`)
  }
  const words = line.split(' ')
  const simpler: string[] = []
  for (let i = 1; i < words.length; i++) {
    if (/^(len|ttl|id|mark)=/.test(words[i]!)) simpler.push(without(words, i, 1))
    if (words[0] !== 'ipvsadm') continue
    if (/^(-w|-x|-y|-p|-M|-b|--tun-\w+)$/.test(words[i]!) && i + 1 < words.length)
      simpler.push(without(words, i, 2))
    if (words[i] === '-o') simpler.push(without(words, i, 1))
  }
  return simpler
}

function without(words: readonly string[], start: number, count: number): string {
  return [...words.slice(0, start), ...words.slice(start + count)].join(' ')
}
