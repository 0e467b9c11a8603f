/** `uvs bench`: measures, and writes raw data and a report. */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { parts } from '../../bench/parts/index.js'
import { Output, writeReport } from '../../bench/report/output.js'
import { judgeAll } from '../../bench/suite/claims.js'
import { describeMachine } from '../../bench/suite/machine.js'
import type { Part, PartOptions } from '../../bench/suite/measurement.js'
import {
  givenOptions,
  optionsUsage,
  ownOptions,
  parserOptionsOf,
} from '../../bench/suite/part-options.js'
import { clockText, Progress } from '../../bench/suite/progress.js'
import { FORMAT, parseResult, DISTURBED_BOUND, type RunResult } from '../../bench/suite/result.js'
import {
  estimatedSeconds,
  removeAbandoned,
  runPart,
  shareSeconds,
  type RunnerOptions,
} from '../../bench/suite/runner.js'
import { summarise } from '../../bench/suite/summary.js'
import { makeWritableFolder } from './folder.js'
import { Interruption } from './interruption.js'
import { readDecimal } from './numbers.js'

const usage = `uvs bench: what uvs costs, beside its peers and the machine's limits, measured in the same run

Usage: uvs bench [PART…] [FILE…] [OPTION…]

Without a PART all are run, in about 15 minutes. A FILE (with a dot or a slash in its name) is for a part
that takes some, as a load for 'schedulers'.

  --list         the parts
  --quick        few rounds and small sizes: whether everything works, not what it measures
  --seconds N    how long to measure, all together; no part goes below its least of rounds
  --out DIR      where the raw data and the report go (uvs-bench/TIME)
  --report FILE  measures nothing: writes report and plots of a result.json
  --json         the raw data on standard output, too, instead of the summary
  --check        status 1 if a claim is not met

Writes DIR/report.html (claims and plots, complete in itself), DIR/plots/*.svg, and DIR/result.json (machine,
versions, every sample). Ctrl-C, SIGTERM and SIGHUP end it in order: what has been measured is kept, and nothing else is
left. The second one does not wait for the part that is running.
Status: 0, or 1 if a part did not come to its end or a file could not be written, 2 for a command line that makes no
sense, 128 and the signal's number when it was interrupted (130 on Ctrl-C); of SIGHUP it dies in the end.
`

const packageRoot = fileURLToPath(new URL('../../..', import.meta.url))

/** Folder of the folders of runs that are told no other. */
const OUT = 'uvs-bench'

/** A week. */
const MOST_SECONDS = 604_800

class UsageError extends Error {}

/** What cannot be done, though the command line makes sense. */
class Failure extends Error {}

interface Wanted {
  readonly names: string[]
  readonly files: string[]
}

const isFile = (word: string): boolean => /[./]/.test(word)

function splitWords(words: readonly string[]): Wanted {
  const names = words.filter((word) => !isFile(word))
  const unknown = names.find((name) => !parts.has(name))
  if (unknown !== undefined)
    throw new UsageError(
      `there is no part '${unknown}'; uvs bench --list lists them, and a file's name needs a dot or a slash`,
    )
  const ordered = [...parts.keys()].filter((name) => names.length === 0 || names.includes(name))
  return { names: ordered, files: words.filter(isFile).map((file) => resolve(file)) }
}

function parseSeconds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  try {
    return readDecimal('--seconds', text, 1, MOST_SECONDS)
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

async function list(): Promise<void> {
  for (const [name, load] of parts) {
    const part = await load()
    const root = part.needsRoot ? ', root' : ''
    const files = part.files === undefined ? '' : `, takes ${part.files}`
    console.log(
      `${name.padEnd(14)}${part.title} (about ${clockText(part.seconds)} minutes${root}${files})`,
    )
  }
}

async function runAll(
  wanted: readonly Part[],
  seconds: readonly number[],
  command: string,
  progress: Progress,
  options: Omit<RunnerOptions, 'onProgress' | 'onLine'>,
  keep: (result: RunResult) => void,
): Promise<RunResult> {
  const runStart = Date.now()
  const result: RunResult = {
    format: FORMAT,
    command,
    startedAt: new Date(runStart).toISOString(),
    quick: options.quick,
    disturbedBound: DISTURBED_BOUND,
    machine: describeMachine(packageRoot),
    parts: [],
  }
  const estimates = wanted.map((part, i) => estimatedSeconds(part, seconds[i]!, options.quick))
  if (wanted.length > 1)
    progress.total(
      wanted.length,
      estimates.reduce((a, b) => a + b, 0),
    )
  for (const [i, part] of wanted.entries()) {
    if (options.signal.aborted) break
    progress.begin(i + 1, wanted.length, part.name, estimates[i]!)
    const done = await runPart(part, seconds[i]!, runStart, {
      ...options,
      onProgress: (text) => progress.show(text),
      onLine: (text) => progress.line(text),
    })
    progress.end(done.failure ?? `${done.samples.length} samples`)
    result.parts.push(done)
    if (i + 1 < wanted.length) keep(result)
  }
  return result
}

/** @throws Failure that names the file, if it is no result */
function readResult(file: string): RunResult {
  try {
    return parseResult(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new Failure(`--report ${file}: ${(error as Error).message}`)
  }
}

/** @throws Failure */
function checkOut(folder: string): void {
  try {
    makeWritableFolder('--out', folder)
  } catch (error) {
    throw new Failure((error as Error).message)
  }
}

/** The parts that words name, all if they name none: their options are to be known before the rest is parsed. */
function loadNamed(words: readonly string[]): Promise<Part[]> {
  const named = [...parts.keys()].filter((name) => words.includes(name))
  return Promise.all(
    (named.length > 0 ? named : [...parts.keys()]).map((name) => parts.get(name)!()),
  )
}

/** @throws UsageError for what a part cannot use */
function checkOptions(wanted: readonly Part[], given: PartOptions, files: readonly string[]): void {
  for (const part of wanted) {
    try {
      part.check?.(ownOptions(part, given), part.files === undefined ? [] : files)
    } catch (error) {
      throw new UsageError((error as Error).message)
    }
  }
}

function ownSummaries(wanted: readonly Part[], result: RunResult): Map<string, string> {
  return new Map(
    result.parts.flatMap((done) => {
      const text = wanted.find(({ name }) => name === done.name)?.summarise?.(done)
      return text === undefined ? [] : [[done.name, text] as const]
    }),
  )
}

/** Says of an option of another part whose it is: what parseArgs says of it helps nobody. */
async function checkOptionNames(args: readonly string[], named: readonly Part[]): Promise<void> {
  for (const [name, load] of parts) {
    if (named.some((part) => part.name === name)) continue
    const theirs = Object.keys((await load()).options ?? {}).map((option) => `--${option}`)
    const option = args.map((arg) => arg.replace(/=.*/s, '')).find((arg) => theirs.includes(arg))
    if (option !== undefined)
      throw new UsageError(`${option} is an option of ${name}: uvs bench ${name} ${option} …`)
  }
}

async function run(args: string[]): Promise<number> {
  const named = await loadNamed(args)
  await checkOptionNames(args, named)
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      ...parserOptionsOf(named),
      help: { type: 'boolean', short: 'h', default: false },
      list: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      out: { type: 'string' },
      report: { type: 'string' },
      json: { type: 'boolean', default: false },
      check: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(usage + named.map(optionsUsage).join(''))
    return 0
  }
  if (values.list) {
    await list()
    return 0
  }
  if (values.report !== undefined) {
    const result = readResult(values.report)
    const folder = values.out ?? dirname(values.report)
    checkOut(folder)
    try {
      writeReport(folder, result)
    } catch (error) {
      throw new Failure((error as Error).message)
    }
    process.stderr.write(`written: ${resolve(folder, 'report.html')}, plots/*.svg\n`)
    return 0
  }
  const { names, files } = splitWords(positionals)
  const wanted = await Promise.all(names.map((name) => parts.get(name)!()))
  if (files.length > 0 && !wanted.some((part) => part.files !== undefined))
    throw new UsageError(`'${files[0]}': none of the parts ${names.join(', ')} takes a file`)
  const options = givenOptions(wanted, values)
  checkOptions(wanted, options, files)
  const totalSeconds = parseSeconds(values.seconds)
  if (values.quick && totalSeconds !== undefined)
    throw new UsageError('--quick takes as long as it takes: --seconds does not go with it')
  // Not after a quarter of an hour.
  checkOut(values.out ?? OUT)
  const progress = new Progress(process.stderr)
  const interruption = new Interruption((name) =>
    progress.line(`${name}: the part is ended, and cleans up; once more ends it at once`),
  )
  removeAbandoned()
  const output = new Output(values.out, OUT, (line) => process.stderr.write(`${line}\n`))
  const { signal, killSignal } = interruption
  const result = await runAll(
    wanted,
    shareSeconds(wanted, totalSeconds),
    ['uvs bench', ...args].join(' '),
    progress,
    { quick: values.quick, files, options, signal, killSignal },
    (result) => output.keep(result),
  )
  const isWritten = output.finish(result)
  if (!(interruption.isHungUp && process.stdout.isTTY))
    process.stdout.write(
      values.json ? `${JSON.stringify(result)}\n` : summarise(result, ownSummaries(wanted, result)),
    )
  if (interruption.isHungUp) interruption.dieOfHangUp()
  if (interruption.status !== undefined) return interruption.status
  if (!isWritten || result.parts.some(({ failure }) => failure !== undefined)) return 1
  return values.check && judgeAll(result).some(({ verdict }) => verdict !== 'met') ? 1 : 0
}

export async function main(args: string[]): Promise<number> {
  try {
    return await run(args)
  } catch (error) {
    const isUsage =
      error instanceof UsageError ||
      (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS')
    if (!isUsage && !(error instanceof Failure)) throw error
    process.stderr.write(`uvs bench: ${(error as Error).message}\n`)
    return isUsage ? 2 : 1
  }
}
