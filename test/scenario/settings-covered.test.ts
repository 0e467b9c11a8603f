/** Every setting that does something has a scenario that writes it. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { settingTable } from '../../src/core/settings.js'
import { readScenario } from '../../src/scenario/parse.js'
import { eventsOf } from '../../src/scenario/events.js'

/** What uvs keeps without doing anything about it, as docs/settings.md says. */
const WITHOUT_EFFECT = /^(backup_only|conntrack|debug_level|sync_.*)$/

t.test('every setting is written by a scenario', (t) => {
  const root = fileURLToPath(new URL('../../../test/scenarios/', import.meta.url))
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.scn'),
  )
  const written = new Set<string>()
  for (const file of files)
    for (const event of eventsOf(readScenario(join(root, file))))
      if (event.kind === 'sysctl') written.add(event.key)
  for (const { name } of settingTable)
    if (!WITHOUT_EFFECT.test(name)) t.ok(written.has(`net.ipv4.vs.${name}`), name)
  t.end()
})
