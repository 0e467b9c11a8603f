/**
 * uvs beside a real kernel: every scenario in test/scenarios, as many again made at random, and a scheduler
 * that is broken on purpose.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { lc } from '../../src/core/schedulers/lc.js'
import { schedulers } from '../../src/core/schedulers/index.js'
import type { SchedulerKind } from '../../src/core/schedulers/scheduler.js'
import { compareTraces } from '../../src/scenario/compare.js'
import { eventsOf } from '../../src/scenario/events.js'
import { explainDifference } from '../../src/scenario/explain.js'
import { oracleUnavailable } from '../../src/scenario/oracle/oracle.js'
import { beginningOf, differenceOf, Kernels, shrinkDifference } from '../../src/scenario/parity.js'
import { parseScenario, readScenario } from '../../src/scenario/parse.js'
import { profileNamed, profiles } from '../../src/scenario/random-profiles.js'
import { randomScenario } from '../../src/scenario/random.js'
import { replay } from '../../src/scenario/replay.js'
import { parseTrace } from '../../src/scenario/trace.js'
import { seedOr } from '../../test/support/seed.js'

const RANDOM = 40

/** Fresh whenever the sources have changed, and the same as often as they are tested: no run fails by chance. */
function seedOfSources(): number {
  const folder = fileURLToPath(new URL('../../../src/', import.meta.url))
  const hash = createHash('sha256')
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort())
    if (file.endsWith('.ts')) hash.update(readFileSync(join(folder, file)))
  return hash.digest().readUInt32BE() % 1e9
}

const root = fileURLToPath(new URL('../../../test/scenarios/', import.meta.url))
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.scn') && !file.startsWith('uvs-only/'))
  .sort()

t.setTimeout(900_000)
t.test('parity with the kernel', { skip: oracleUnavailable(), timeout: 900_000 }, async (t) => {
  // Two guests, for two processors.
  const kernels = await Kernels.start(2)
  t.teardown(() => kernels.stop())

  /** Does something with each item, with as many at a time as there are guests. */
  async function forEach<T>(items: readonly T[], run: (item: T) => Promise<void>): Promise<void> {
    let next = 0
    const work = async (): Promise<void> => {
      while (next < items.length) await run(items[next++]!)
    }
    await Promise.all(Array.from({ length: kernels.count }, work))
  }

  await t.test('every scenario', (t) =>
    forEach(files, async (file) => {
      const scenario = readScenario(join(root, file))
      const events = eventsOf(scenario)
      const asked = await kernels.runEvents(events, file)
      const difference = compareTraces(events, await replay(scenario), asked)
      if (difference) t.fail(await explainDifference(scenario, difference))
      else t.pass(file)
      const recording = join(root, file.replace(/\.scn$/, '.ndjson'))
      if (!existsSync(recording)) return
      const recorded = compareTraces(events, parseTrace(readFileSync(recording, 'utf8')), asked)
      t.equal(recorded, undefined, `${file} is recorded as the kernel does it`)
    }).then(() => t.end()),
  )

  await t.test('fresh ones, made at random', async (t) => {
    const seed = seedOr(seedOfSources())
    t.comment(`seed ${seed}`)
    const numbers = Array.from({ length: RANDOM }, (_, i) => i)
    await forEach(numbers, async (i) => {
      const profile = profiles[i % profiles.length]!
      const name = `${profile.name}-${seed + i}.scn`
      const text = randomScenario(seed + i, profile)
      const difference = await differenceOf(kernels, parseScenario(text, name))
      if (!difference) return void t.pass(name)
      const small = await shrinkDifference(kernels, name, text)
      const scenario = parseScenario(small, name)
      const smallest = (await differenceOf(kernels, scenario)) ?? difference
      const beginning = await beginningOf(kernels, scenario, smallest)
      t.fail(`${await explainDifference(scenario, smallest, beginning)}\n${small}`)
    })
  })

  await t.test('a scheduler that forgets the weights is caught, shrunk, explained', async (t) => {
    const registry = schedulers as Map<string, SchedulerKind>
    const wlc = registry.get('wlc')!
    registry.set('wlc', { ...lc, name: 'wlc' })
    t.teardown(() => registry.set('wlc', wlc))
    const profile = profileNamed('wlc')!
    for (let seed = 1; ; seed++) {
      const name = `wlc-${seed}.scn`
      const text = randomScenario(seed, profile)
      const found = await differenceOf(kernels, parseScenario(text, name))
      if (!found) {
        if (seed < 20) continue
        return t.fail('twenty scenarios did not catch it')
      }
      const small = await shrinkDifference(kernels, name, text)
      // A service, two destinations, and the connections that it takes for the weights to matter.
      const lines = small.trimEnd().split('\n')
      t.ok(lines.length <= 10, `${text.split('\n').length} lines become ${lines.length}`)
      t.match(small, /^ipvsadm -A .* -s wlc/m)
      t.match(small, / -w \d/)
      const scenario = parseScenario(small, name)
      const difference = (await differenceOf(kernels, scenario))!
      t.equal(difference.kind, found.kind)
      const beginning = await beginningOf(kernels, scenario, difference)
      const said = await explainDifference(scenario, difference, beginning)
      t.match(said, new RegExp(`^${name}`))
      t.match(said, /why uvs did it\n(.*\n)*.*candidate .* weight \d.*\n(.*\n)* {2}wlc chose /)
      t.comment(said)
      registry.set('wlc', wlc)
      t.equal(await differenceOf(kernels, scenario), undefined, 'and was the scheduler’s fault')
      return
    }
  })
})
