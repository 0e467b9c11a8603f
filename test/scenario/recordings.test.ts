/** Every scenario in test/scenarios, replayed and compared with what the kernel did when it was recorded. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { compareTraces } from '../../src/scenario/compare.js'
import { eventsOf } from '../../src/scenario/events.js'
import { explainDifference } from '../../src/scenario/explain.js'
import { readScenario } from '../../src/scenario/parse.js'
import { replay } from '../../src/scenario/replay.js'
import { parseTrace } from '../../src/scenario/trace.js'

const root = fileURLToPath(new URL('../../../test/scenarios/', import.meta.url))
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.scn'))
  .sort()

// Hundreds of directors, on a machine that may have more to do.
t.setTimeout(300_000)
t.ok(files.length > 200, `${files.length} scenarios`)
for (const file of files)
  t.test(file, async (t) => {
    const path = join(root, file)
    const scenario = readScenario(path)
    t.match(readFileSync(path, 'utf8'), /^# \S.*[.:]\n/, 'begins with the sentence that it pins')
    const trace = await replay(scenario)
    if (relative(root, path).startsWith('uvs-only/')) return
    const recording = path.replace(/\.scn$/, '.ndjson')
    if (!existsSync(recording))
      return t.fail(`not recorded yet: npx uvs parity --record ${relative(process.cwd(), path)}`)
    const events = eventsOf(scenario)
    const difference = compareTraces(events, trace, parseTrace(readFileSync(recording, 'utf8')))
    if (!difference) return t.pass('as the kernel')
    t.fail(await explainDifference(scenario, difference))
  })
