// The trials of the part workers: every packet comes through, and as many are handed over as are said to be.
import t from 'tap'
import { runTrial } from '../../bench/workers/trial.js'

t.setTimeout(600_000)

// On a machine that does much else.
t.setTimeout(180_000)

const trial = (isCrew: boolean, traffic: 'own' | 'any' | 'new') =>
  runTrial({ workers: 2, isCrew, traffic, connections: 4096, milliseconds: 30 })

t.test('of own packets none is handed over', async (t) => {
  for (const isCrew of [false, true])
    for (const traffic of ['own', 'new'] as const) {
      const { packetsPerSecond, handedOverShare } = await trial(isCrew, traffic)
      t.ok(packetsPerSecond > 0)
      t.equal(handedOverShare, 0)
    }
})

t.test('of those that come in by any queue about half are', async (t) => {
  // A worker that a busy machine keeps from running leaves a trial with few packets, or its own alone.
  const isHalf = (share: number): boolean => share > 0.4 && share < 0.6
  let share = 0
  for (let tries = 0; tries < 50 && !isHalf(share); tries++) {
    const { packetsPerSecond, handedOverShare } = await trial(true, 'any')
    t.ok(packetsPerSecond > 0)
    share = handedOverShare
  }
  t.ok(isHalf(share), `${share}`)
})
