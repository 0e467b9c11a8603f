import { randomInt } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Difference } from '../scenario/compare.js'
import { eventsOf } from '../scenario/events.js'
import { explainDifference } from '../scenario/explain.js'
import { Oracle, type OracleKernel } from '../scenario/oracle/oracle.js'
import { differenceOf, shrinkDifference } from '../scenario/parity.js'
import { parseScenario } from '../scenario/parse.js'
import { randomScenario } from '../scenario/random.js'
import { profileNamed, profiles } from '../scenario/random-profiles.js'
import { formatTrace } from '../scenario/trace.js'

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
  --json          one object for each difference

Exit status: 0 when all agree, 1 when any differs, 2 for a wrong command line.
`

interface Job {
  /** File name, or what a random one would be called. */
  name: string
  text: string
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
  const { random, seed, profile, kernel } = values
  if (kernel !== undefined && kernel !== 'running' && kernel !== 'guest')
    return fail(`--kernel ${kernel}: there are 'running' and 'guest'`)
  for (const [name, value] of [
    ['random', random],
    ['seed', seed],
  ] as const)
    if (value !== undefined && !/^\d{1,9}$/.test(value))
      return fail(`--${name} ${value}: no number`)
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
      : randomJobs(Number(random), seed === undefined ? randomInt(1e9) : Number(seed), profile)
  // All are read before anything is started.
  for (const { name, text } of jobs) eventsOf(parseScenario(text, name))
  const oracle = await Oracle.start(kernel ? { kernel: kernel satisfies OracleKernel } : {})
  let differing = 0
  try {
    process.stderr.write(`uvs parity: asking ${oracle.description}\n`)
    for (const [i, job] of jobs.entries()) {
      if (process.stderr.isTTY) process.stderr.write(`\r${i + 1} of ${jobs.length} `)
      const scenario = parseScenario(job.text, job.name)
      if (values.record)
        writeFileSync(
          job.name.replace(/(\.scn)?$/, '.ndjson'),
          formatTrace(await oracle.run(scenario)),
        )
      const difference = await differenceOf(oracle, scenario)
      if (!difference) continue
      differing++
      await report(oracle, job, difference, random !== undefined, values)
    }
  } finally {
    await oracle.stop()
  }
  process.stderr.write(`${jobs.length - differing} agree, ${differing} differ\n`)
  return differing === 0 ? 0 : 1
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

async function report(
  oracle: Oracle,
  job: Job,
  difference: Difference,
  isRandom: boolean,
  options: { out: string; 'no-shrink': boolean; json: boolean },
): Promise<void> {
  let { name, text } = job
  if (isRandom) {
    if (!options['no-shrink']) text = await shrinkDifference(oracle, name, text)
    mkdirSync(options.out, { recursive: true })
    name = join(options.out, name)
    writeFileSync(name, `# Differs: ${difference.kind}\n${text.replace(/^#.*\n/, '')}`)
    text = readFileSync(name, 'utf8')
  }
  const scenario = parseScenario(text, name)
  const smallest = (await differenceOf(oracle, scenario)) ?? difference
  const source = new Map(scenario.directives.map((each) => [each.line, each.text]))
  if (options.json) process.stdout.write(`${JSON.stringify({ scenario: name, ...smallest })}\n`)
  else
    process.stdout.write(`\n${await explainDifference(eventsOf(scenario), name, source, smallest)}`)
}
