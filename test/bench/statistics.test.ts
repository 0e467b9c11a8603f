import t from 'tap'
import { parseResult } from '../../bench/suite/result.js'
import { pairedRatios, quantile, seriesOf, spreadOf } from '../../bench/suite/statistics.js'
import {
  othersShare,
  parseCpuTime,
  stolenShare,
  waitedShare,
} from '../../bench/suite/stolen-time.js'
import { shortNumber, withUnit } from '../../bench/suite/units.js'
import { exampleRun, LATENCY, partOf, PEER, UVS, type Measured } from './example.js'

const BOUND = 0.05

const measured = (values: number[], more: Partial<Measured> = {}): Measured => ({
  metric: LATENCY,
  subject: UVS,
  parameters: { connections: 1024 },
  values,
  ...more,
})

t.test('quantiles stand between values by proportion', async (t) => {
  t.equal(quantile([3], 0.5), 3)
  t.equal(quantile([1, 2], 0.5), 1.5)
  t.equal(quantile([1, 2, 3, 4, 5], 0.25), 2)
  t.equal(quantile([10, 20, 30, 40], 0.75), 32.5)
  t.throws(() => quantile([], 0.5), /no values/)
})

t.test('a spread does not depend on the order, and leaves its input alone', async (t) => {
  const values = [9, 1, 5, 3, 7]
  t.same(spreadOf(values), {
    count: 5,
    lowest: 1,
    firstQuartile: 3,
    median: 5,
    thirdQuartile: 7,
    highest: 9,
  })
  t.same(values, [9, 1, 5, 3, 7])
})

t.test('disturbed trials are left out of the median and counted', async (t) => {
  const [series] = seriesOf(partOf('p', [measured([10, 11, 900], { disturbed: [2] })]), BOUND)
  t.equal(series!.spread.median, 10.5)
  t.equal(series!.spread.highest, 11)
  t.equal(series!.disturbed, 1)
  t.equal(series!.samples.length, 3)
})

t.test('a median of too few undisturbed trials would be chance: then they all count', async (t) => {
  const values = [10, 12, 14, 16, 18, 20, 22, 24, 26]
  const most = partOf('p', [measured(values, { disturbed: [2, 3, 4, 5, 6, 7, 8] })])
  t.equal(seriesOf(most, BOUND)[0]!.spread.median, 18)
  const some = partOf('p', [measured(values, { disturbed: [3, 4, 5, 6, 7, 8] })])
  t.equal(seriesOf(some, BOUND)[0]!.spread.median, 12)
})

t.test('if all trials were disturbed, they all count and are marked', async (t) => {
  const [series] = seriesOf(partOf('p', [measured([10, 12], { disturbed: [0, 1] })]), BOUND)
  t.equal(series!.spread.median, 11)
  t.equal(series!.disturbed, 2)
})

t.test('parameters in another order are the same series', async (t) => {
  const part = partOf('p', [
    measured([1], { parameters: { a: 1, b: 2 } }),
    measured([3], { parameters: { b: 2, a: 1 } }),
    measured([7], { parameters: { a: 1, b: 3 } }),
  ])
  t.same(
    seriesOf(part, BOUND).map(({ spread }) => spread.median),
    [2, 7],
  )
})

t.test('ratios are of the same round, and only of rounds that both have', async (t) => {
  // The machine slows down by the round: medians of either side would hide that the ratio is always 2.
  const part = partOf('p', [
    measured([20, 40, 80, 160]),
    measured([10, 20, 40], { subject: PEER, disturbed: [1] }),
  ])
  const [own, peer] = seriesOf(part, BOUND)
  t.same(pairedRatios(own!, peer!), [2, 2])
})

t.test('the share of stolen time is of all CPUs’ time between two readings', async (t) => {
  const before = parseCpuTime('cpu  100 0 50 800 10 0 5 35 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n')
  t.same(before, { total: 1000, stolen: 35 })
  // Time of guests is part of user time and not counted twice.
  const after = parseCpuTime('cpu  150 0 60 910 10 0 5 65 40 0\n')
  t.same(after, { total: 1200, stolen: 65 })
  t.equal(stolenShare(before, after), 30 / 200)
  t.equal(stolenShare(before, before), 0)
})

t.test('waiting for a processor counts for a thread that wants one all the time', async (t) => {
  t.equal(waitedShare(80, 20, 100), 0.2)
  t.equal(waitedShare(1, 20, 100), 0)
  t.equal(waitedShare(0, 120, 100), 1)
  t.equal(othersShare(5e7, 50), 0.1)
  t.equal(othersShare(-1e7, 50), 0)
  t.equal(othersShare(1e9, 50), 1)
})

t.test('a result survives being written and read', async (t) => {
  const run = exampleRun()
  t.same(parseResult(JSON.stringify(run)), run)
  t.throws(() => parseResult('{"format":"perf"}'), /'perf' and not 'uvs-bench 1'/)
})

t.test('values are written with three digits and a prefix', async (t) => {
  t.equal(withUnit(38.123, 'ns'), '38.1 ns')
  t.equal(withUnit(1234, 'ns'), '1.23 µs')
  t.equal(withUnit(2.5e9, 'ns'), '2.50 s')
  t.equal(withUnit(612345, 'packets/s'), '612k packets/s')
  t.equal(withUnit(96 * 2 ** 20, 'bytes'), '96.0 MiB')
  t.equal(withUnit(12, 'Gbit/s'), '12.0 Gbit/s')
  t.equal(withUnit(0.02, '%'), '0.0200 %')
  t.equal(withUnit(0, 'packets/s'), '0 packets/s')
  t.equal(shortNumber(65536), '64k')
  t.equal(shortNumber(50000), '50k')
  t.equal(shortNumber(1518), '1,518')
  t.equal(shortNumber('rr'), 'rr')
})

t.test('time that other programs had disturbs a trial, too', async (t) => {
  const part = partOf('p', [measured([10, 11, 12, 900])])
  part.samples[3] = { ...part.samples[3]!, othersShare: 0.06 }
  part.samples[2] = { ...part.samples[2]!, othersShare: 0.04 }
  const [series] = seriesOf(part, BOUND)
  t.equal(series!.disturbed, 1)
  t.equal(series!.spread.median, 11)
})
