import t from 'tap'
import { boundOf, judgeAll, roundsText } from '../../bench/suite/claims.js'
import type { Claim } from '../../bench/suite/measurement.js'
import { LATENCY, partOf, PEER, runOf, UVS, type Measured } from './example.js'

const AT_1K = { connections: 1024 }
const AT_64K = { connections: 65536 }

const claim: Claim = {
  text: 'uvs is faster',
  metric: LATENCY.name,
  parameters: {},
  subject: UVS.name,
  against: PEER.name,
  atMost: 1,
}

const uvs = (values: number[], parameters: Measured['parameters'] = AT_1K): Measured => ({
  metric: LATENCY,
  subject: UVS,
  parameters,
  values,
})
const peer = (values: number[], parameters: Measured['parameters'] = AT_1K): Measured => ({
  ...uvs(values, parameters),
  subject: PEER,
})

const judged = (one: Claim, measured: Measured[]) =>
  judgeAll(runOf(partOf('p', measured, [one])))[0]!

t.test('a claim is the median of the rounds’ ratios', async (t) => {
  const judgement = judged(claim, [uvs([8, 9, 30]), peer([10, 10, 20])])
  t.equal(judgement.verdict, 'met')
  t.match(judgement.ratio, { count: 3, lowest: 0.8, median: 0.9, highest: 1.5 })
  t.equal(judgement.command, 'uvs bench p')
})

t.test('the bound itself is good enough, and beyond it the claim is not met', async (t) => {
  t.equal(judged(claim, [uvs([10]), peer([10])]).verdict, 'met')
  t.equal(judged(claim, [uvs([10.1]), peer([10])]).verdict, 'not met')
  const atLeast: Claim = { ...claim, atLeast: 0.95, atMost: 1.05 }
  t.equal(judged(atLeast, [uvs([9.6]), peer([10])]).verdict, 'met')
  t.equal(judged(atLeast, [uvs([9.4]), peer([10])]).verdict, 'not met')
  t.equal(judged(atLeast, [uvs([10.6]), peer([10])]).verdict, 'not met')
  t.equal(boundOf(atLeast), '≥ 0.95 and ≤ 1.05')
  t.strictSame([1, 2].map(roundsText), ['1 round', '2 rounds'])
})

t.test('a claim without parameters has to hold for all, and shows the worst', async (t) => {
  const judgement = judged(claim, [
    uvs([5]),
    peer([10]),
    uvs([30], AT_64K),
    peer([20], AT_64K),
    uvs([1], { connections: 4 }),
  ])
  t.equal(judgement.verdict, 'not met')
  t.equal(judgement.ratio!.median, 1.5)
  t.same(judgement.parameters, AT_64K)
})

t.test('against a number', async (t) => {
  const judgement = judged({ ...claim, against: 40 }, [uvs([38, 44, 36])])
  t.equal(judgement.verdict, 'met')
  t.equal(judgement.ratio!.median, 0.95)
  t.equal(judgement.values!.against, 40)
})

t.test('against the same subject with other parameters', async (t) => {
  const flat: Claim = {
    ...claim,
    parameters: AT_64K,
    against: UVS.name,
    againstParameters: AT_1K,
    atMost: 1.05,
  }
  t.equal(judged(flat, [uvs([10, 10]), uvs([10.2, 10.4], AT_64K)]).verdict, 'met')
  t.equal(judged(flat, [uvs([10, 10]), uvs([11, 12], AT_64K)]).verdict, 'not met')
})

t.test('what was not measured is neither met nor not met, and why is said', async (t) => {
  t.match(judged(claim, [uvs([10])]), {
    verdict: 'not measured',
    reason: 'this run has no time per packet of nftables <DNAT> for it',
  })
  const failed = { ...partOf('p', [], [claim]), failure: 'needs root' }
  t.match(judgeAll(runOf(failed)), [{ verdict: 'not measured', reason: 'needs root' }])
})
