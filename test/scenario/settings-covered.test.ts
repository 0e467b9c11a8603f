/** Every setting has a scenario that ends otherwise without it; those without effect are named. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { settingTable } from '../../src/core/settings.js'
import { compareTraces } from '../../src/scenario/compare.js'
import { eventsOf } from '../../src/scenario/events.js'
import { readScenario } from '../../src/scenario/parse.js'
import { replay } from '../../src/scenario/replay.js'
import type { Scenario } from '../../src/scenario/scenario.js'

/** What uvs keeps without doing anything about it, as docs/settings.md says. */
const WITHOUT_EFFECT = /^(backup_only|conntrack|debug_level|sync_.*)$/
/** What the kernel reads and what comes to nothing there, as a scenario and docs/parity.md show. */
const WITHOUT_EFFECT_IN_THE_KERNEL = ['ignore_tunneled']

const root = fileURLToPath(new URL('../../../test/scenarios/', import.meta.url))
const scenarios = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.scn') && !file.startsWith('uvs-only/'))
  .map((file) => readScenario(join(root, file)))

const writes = ({ directives }: Scenario, key: string): boolean =>
  directives.some((directive) => directive.kind === 'sysctl' && directive.key === key)

/** Whether anything that a scenario shows is different when it writes a setting's default instead. */
async function matters(scenario: Scenario, key: string, value: string): Promise<boolean> {
  const directives = scenario.directives.map((directive) =>
    directive.kind === 'sysctl' && directive.key === key ? { ...directive, value } : directive,
  )
  const withDefaults = await replay({ ...scenario, directives })
  return compareTraces(eventsOf(scenario), await replay(scenario), withDefaults) !== undefined
}

for (const { name, defaults } of settingTable) {
  if (WITHOUT_EFFECT.test(name)) continue
  t.test(name, async (t) => {
    const key = `net.ipv4.vs.${name}`
    const writing = scenarios.filter((scenario) => writes(scenario, key))
    t.not(writing.length, 0, 'is written')
    let mattering = 0
    for (const scenario of writing)
      if (await matters(scenario, key, defaults.join(' '))) mattering++
    if (WITHOUT_EFFECT_IN_THE_KERNEL.includes(name)) t.equal(mattering, 0, 'and changes nothing')
    else t.not(mattering, 0, `and changes the outcome of one of ${writing.length}`)
  })
}
