// Scenarios of what Linux 6.1 does not have: no kernel is asked, what is to come of them is said here.
import { readdirSync } from 'node:fs'
import t from 'tap'
import { readScenario } from '../../src/scenario/parse.js'
import { replay } from '../../src/scenario/replay.js'
import type { Trace } from '../../src/scenario/trace.js'

const folder = new URL('../../../test/scenarios/uvs-only/', import.meta.url).pathname

/** Where each packet went: the last number of the server's address, `-` when no server has it. */
function servers(trace: Trace): string[] {
  return trace.flatMap((record) => {
    if (!('out' in record)) return []
    const sent = record.out.find(({ side }) => side === 'server')
    return sent ? String(parseInt(sent.dmac.slice(-2), 16)) : '-'
  })
}

const expectations: Record<string, (chosen: string[]) => boolean> = {
  'twos-usable.scn': (chosen) => chosen.join(' ') === '12 12 13 13 13',
  'twos-nobody.scn': (chosen) => chosen.join(' ') === '12 - -',
  'twos-spread.scn': (chosen) => {
    const counts = ['11', '12', '13'].map((n) => chosen.filter((one) => one === n).length)
    return Math.max(...counts) - Math.min(...counts) <= 6 && counts.every((count) => count > 0)
  },
}

for (const file of readdirSync(folder).filter((name) => name.endsWith('.scn')))
  void t.test(file, async (t) => {
    const scenario = readScenario(folder + file)
    for (const seed of [1, 2, 3]) {
      const chosen = servers(await replay(scenario, { seed }))
      t.ok(expectations[file]!(chosen), chosen.join(' '))
    }
  })
