import t from 'tap'
import { Patience } from '../../src/drivers/patience.js'

const wait = (microseconds: number): void => {
  const end = process.hrtime.bigint() + BigInt(microseconds) * 1000n
  while (process.hrtime.bigint() < end);
}

t.test('it begins when packets cease, lasts its time, and is renewed by packets', async (t) => {
  const patience = new Patience(50_000)
  wait(60_000)
  t.notOk(patience.isExhausted(), 'the time before does not count')
  wait(60_000)
  t.ok(patience.isExhausted())
  t.ok(patience.isExhausted(), 'and it stays at its end: what was waited for has not come')
  patience.renew()
  t.notOk(patience.isExhausted())
})

t.test('there may be none', async (t) => {
  const patience = new Patience(0)
  t.ok(patience.isExhausted())
  patience.renew()
  t.ok(patience.isExhausted())
})
