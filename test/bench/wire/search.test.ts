import t from 'tap'
import { findThroughput, measureLatency } from '../../../bench/wire/search.js'
import type { Latencies, TrialResult } from '../../../bench/wire/tester-messages.js'

const LATENCIES: Latencies = { p50: 3000, p99: 9000, p999: 20_000, max: 30_000 }

/** A trial of 10,000 packets. */
const result = (received: number, latencyNs?: Latencies): TrialResult => ({
  wanted: 10_000,
  sent: 10_000,
  received,
  ...(latencyNs && { latencyNs }),
})

/** Trials with these results, one after the other, and how many there have been. */
function trials(...results: TrialResult[]): {
  probe: () => Promise<TrialResult>
  count: () => number
} {
  let next = 0
  return { probe: async () => results[next++]!, count: () => next }
}

t.test('a trial through which nothing came has no latency, so there is another', async (t) => {
  const { probe, count } = trials(result(0), result(10_000, LATENCIES))
  t.equal(await measureLatency(probe), LATENCIES)
  t.equal(count(), 2)
})

t.test('the latencies of what is left of a load are not those of the load', async (t) => {
  const { probe } = trials(
    result(7000, { ...LATENCIES, p50: 1 }),
    result(9940, { ...LATENCIES, p50: 2 }),
    result(9960, LATENCIES),
  )
  t.equal(await measureLatency(probe), LATENCIES)
})

t.test('a load that does not come through has no latency', async (t) => {
  const { probe } = trials(result(0), result(0), result(5000, LATENCIES))
  t.equal(await measureLatency(probe), undefined)
})

t.test('the throughput is between a rate that comes through and one that does not', async (t) => {
  const carried = 600_000
  for (const guess of [100_000, 600_000, 3_000_000]) {
    const found = await findThroughput({
      probe: async (rate) => {
        const wanted = Math.round(rate / 5)
        return { wanted, sent: wanted, received: Math.min(wanted, carried / 5) }
      },
      guess,
      step: 1.4,
      precision: 1.02,
    })
    t.ok(found > carried / 1.03 && found <= carried * 1.0051, `${guess}: ${found}`)
  }
})
