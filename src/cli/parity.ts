import { randomInt } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Difference } from '../scenario/compare.js'
import { explainDifference } from '../scenario/explain.js'
import { eventsOf } from '../scenario/events.js'
import type { OracleKernel } from '../scenario/oracle/oracle.js'
import { beginningOf, differenceOf, Kernels, shrinkDifference } from '../scenario/parity.js'
import { parseScenario } from '../scenario/parse.js'
import { randomScenario } from '../scenario/random.js'
import { profileNamed, profiles } from '../scenario/random-profiles.js'
import { formatTrace } from '../scenario/trace.js'
import { makeWritableFolder } from './folder.js'
import { readCount } from './numbers.js'

const help = `Runs scenarios through uvs and through a real kernel, and shows the first difference.

Usage: uvs parity FILE.scn…
       uvs parity --random N [--seed S] [--profile P] [--out DIR]
       uvs parity --live [nat] [dr] [tun]

  --random N      so many scenarios made at random, shared out among the profiles
  --seed S        of the first of them; the next number for the next. Drawn and printed when it is not given
  --profile P     of one sort only:
${profiles.map(({ name, summary }) => `                    ${name.padEnd(14)}${summary}`).join('\n')}
  --out DIR       where scenarios that differ are written, in their smallest form (.)
  --no-shrink     as they are
  --record        writes what the kernel does beside each FILE, as FILE.ndjson, and compares as well
  --live          no scenarios but real clients and servers in network namespaces: first through the kernel's
                  IPVS, then through a running uvsd that has taken its configuration over; all forwarding
                  methods or those named
  --kernel WHICH  running or guest, as for uvs oracle
  --guests N      so many guests share the work (1)
  --json          one object for each difference
  --help

Exit status: 0 when all agree; 1 when any differs or cannot be run; 2 for a wrong command line.
`

/** Memory that a guest takes: more than these at once help nobody. */
const MOST_GUESTS = 16
/** Of scenarios made at random, and of their seeds. */
const MOST_RANDOM = 999_999_999

interface Job {
  /** File name, or what a random one would be called. */
  name: string
  text: string
}

interface Options {
  isRandom: boolean
  out: string
  shrinks: boolean
  record: boolean
  json: boolean
}

function fail(message: string): 2 {
  process.stderr.write(`uvs parity: ${message}; uvs parity --help\n`)
  return 2
}

export async function main(args: string[]): Promise<number> {
  if (args.includes('--live')) {
    const { main } = await import('./live-parity.js')
    return main(args.filter((word) => word !== '--live'))
  }
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: {
        random: { type: 'string' },
        seed: { type: 'string' },
        profile: { type: 'string' },
        out: { type: 'string', default: '.' },
        'no-shrink': { type: 'boolean', default: false },
        record: { type: 'boolean', default: false },
        kernel: { type: 'string' },
        guests: { type: 'string', default: '1' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    return fail((error as Error).message)
  }
  const { values, positionals } = parsed
  if (values.help) {
    process.stdout.write(help)
    return 0
  }
  const { random, seed, profile, kernel, guests } = values
  if (kernel !== undefined && kernel !== 'running' && kernel !== 'guest')
    return fail(`--kernel ${kernel}: there are 'running' and 'guest'`)
  let count: number
  let firstSeed: number
  let guestCount: number
  try {
    count = readCount('--random', random ?? '0', 0, MOST_RANDOM)
    firstSeed =
      seed === undefined ? randomInt(MOST_RANDOM) : readCount('--seed', seed, 0, MOST_RANDOM)
    guestCount = readCount('--guests', guests, 1, MOST_GUESTS)
  } catch (error) {
    return fail((error as Error).message)
  }
  if (kernel === 'running' && guestCount !== 1) return fail('--guests goes with --kernel guest')
  if (profile !== undefined && !profileNamed(profile))
    return fail(`--profile ${profile}: there are ${profiles.map(({ name }) => name).join(', ')}`)
  if (random === undefined && (seed !== undefined || profile !== undefined))
    return fail('--seed and --profile go with --random')
  if ((random === undefined) === (positionals.length === 0))
    return fail(
      random === undefined ? 'no scenario is given' : 'files and --random do not go together',
    )
  if (values.record && random !== undefined) return fail('--record is for files')

  const jobs =
    random === undefined
      ? positionals.map((name) => ({ name, text: readFileSync(name, 'utf8') }))
      : randomJobs(count, firstSeed, profile)
  // All are read before anything is started.
  for (const { name, text } of jobs) eventsOf(parseScenario(text, name))
  if (random !== undefined) makeWritableFolder('--out', values.out)
  const kernels = await Kernels.start(
    guestCount,
    kernel
      ? { kernel: kernel satisfies OracleKernel }
      : guestCount === 1
        ? {}
        : { kernel: 'guest' },
  )
  try {
    process.stderr.write(`uvs parity: asking ${kernels.description}\n`)
    const { out, record, json } = values
    const shrinks = !values['no-shrink']
    return await runAll(kernels, jobs, {
      isRandom: random !== undefined,
      out,
      shrinks,
      record,
      json,
    })
  } finally {
    await kernels.stop()
  }
}

function randomJobs(count: number, seed: number, only: string | undefined): Job[] {
  const used = only === undefined ? profiles : [profileNamed(only)!]
  process.stderr.write(`uvs parity: ${count} scenarios, seed ${seed}\n`)
  return Array.from({ length: count }, (_, i) => {
    const profile = used[i % used.length]!
    return {
      name: `${profile.name}-${seed + i}.scn`,
      text: randomScenario(seed + i, profile),
    }
  })
}

/** Runs the jobs, as many at a time as there are kernels, and returns the exit status. */
async function runAll(kernels: Kernels, jobs: readonly Job[], options: Options): Promise<number> {
  let next = 0
  let done = 0
  let differing = 0
  let failed = 0
  const showProgress = (): void => {
    if (process.stderr.isTTY)
      process.stderr.write(`\r${done} of ${jobs.length}, ${differing} differ `)
  }
  const work = async (): Promise<void> => {
    while (next < jobs.length) {
      const job = jobs[next++]!
      try {
        if (await runJob(kernels, job, options)) differing++
      } catch (error) {
        failed++
        process.stderr.write(`uvs parity: ${job.name}: ${(error as Error).message}\n`)
      }
      done++
      showProgress()
    }
  }
  await Promise.all(Array.from({ length: kernels.count }, work))
  if (process.stderr.isTTY) process.stderr.write('\r')
  process.stderr.write(
    `${jobs.length - differing - failed} agree, ${differing} differ` +
      `${failed > 0 ? `, ${failed} could not be run` : ''}\n`,
  )
  return differing + failed === 0 ? 0 : 1
}

/** @returns whether uvs and the kernel differ */
async function runJob(kernels: Kernels, job: Job, options: Options): Promise<boolean> {
  const scenario = parseScenario(job.text, job.name)
  if (options.record)
    writeFileSync(
      job.name.replace(/(\.scn)?$/, '.ndjson'),
      formatTrace(await kernels.runEvents(eventsOf(scenario), job.name)),
    )
  const difference = await differenceOf(kernels, scenario)
  if (difference) await report(kernels, job, difference, options)
  return difference !== undefined
}

async function report(
  kernels: Kernels,
  job: Job,
  found: Difference,
  { isRandom, out, shrinks, json }: Options,
): Promise<void> {
  let { name, text } = job
  let difference = found
  if (isRandom) {
    if (shrinks) text = await shrinkDifference(kernels, name, text)
    difference = (await differenceOf(kernels, parseScenario(text, name))) ?? found
    const comment = commentOn(job, difference)
    text = comment + text
    name = join(out, name)
    writeFileSync(name, text)
    // As the lines are numbered in the file.
    difference = (await differenceOf(kernels, parseScenario(text, name))) ?? found
  }
  const scenario = parseScenario(text, name)
  if (json)
    return void process.stdout.write(`${JSON.stringify({ scenario: name, ...difference })}\n`)
  const isInListing = !(difference.ours && 'out' in difference.ours)
  const beginning = isInListing ? await beginningOf(kernels, scenario, difference) : undefined
  process.stdout.write(`\n${await explainDifference(scenario, difference, beginning)}`)
}

/** The first lines of a scenario that differs: the sentence to be replaced by what it pins, and where it is from. */
function commentOn({ name, text }: Job, { kind, details }: Difference): string {
  const [origin] = text.split('\n')
  const lines = [
    `# uvs and the kernel differ (${kind}).`,
    ...details
      .slice(0, 3)
      .map(({ name, ours, kernels }) => `# ${name}: uvs ${ours}, kernel ${kernels}`)
      .map((line) => line.replace(/\s*\n\s*/g, ' / ')),
    origin!.startsWith('#') ? origin! : `# From ${name}.`,
  ]
  return `${lines.join('\n')}\n`
}
