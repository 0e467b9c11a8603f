import t from 'tap'
import { eventsOf } from '../../src/scenario/events.js'
import { parseScenario } from '../../src/scenario/parse.js'
import { profileNamed, profiles, schedulerNames } from '../../src/scenario/random-profiles.js'
import { randomScenario } from '../../src/scenario/random.js'
import { replay } from '../../src/scenario/replay.js'

t.test('every profile makes scenarios that can be read and run, each time the same', async (t) => {
  for (const profile of profiles)
    for (const seed of [1, 2, 3]) {
      const text = randomScenario(seed, profile)
      t.equal(randomScenario(seed, profile), text)
      t.not(randomScenario(seed + 1, profile), text)
      const scenario = parseScenario(text, `${profile.name}-${seed}.scn`)
      const events = eventsOf(scenario)
      const trace = await replay(scenario)
      t.equal(trace.length, events.filter(({ kind }) => kind !== 'sysctl').length + 1)
    }
})

t.test('there is a profile for every scheduler that draws no lots', (t) => {
  for (const name of schedulerNames) t.ok(profileNamed(name), name)
  t.equal(profileNamed('nosuch'), undefined)
  t.end()
})

t.test('what they make meets: connections, replies, refusals, time', async (t) => {
  const seen = { forwarded: 0, dropped: 0, declined: 0, refused: 0, connections: 0, hours: 0 }
  for (let seed = 0; seed < 40; seed++) {
    const scenario = parseScenario(randomScenario(seed, profileNamed('all')!), 'x.scn')
    for (const record of await replay(scenario))
      if ('out' in record) {
        if (record.declined) seen.declined++
        else if (record.out.length > 0) seen.forwarded++
        else seen.dropped++
      } else if ('exit' in record) seen.refused += record.exit === 0 ? 0 : 1
      else seen.connections += record.connections.length
    seen.hours += (eventsOf(scenario).at(-1)?.atMs ?? 0) / 3_600_000
  }
  for (const [what, count] of Object.entries(seen)) t.ok(count > 0, `${what}: ${count}`)
})
