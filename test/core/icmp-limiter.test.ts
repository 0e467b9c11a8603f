import t from 'tap'
import { IcmpLimiter } from '../../src/core/icmp-limiter.js'
import { defaultSettings } from '../../src/core/settings.js'

t.test('all hosts together get 50 at once and 1,000 a second', (t) => {
  const limiter = new IcmpLimiter(defaultSettings(), 0)
  let host = 0
  const sent = (now: number, count: number): number => {
    let allowed = 0
    for (let i = 0; i < count; i++) if (limiter.allow(++host, now)) allowed++
    return allowed
  }
  t.equal(sent(0, 1000), 50)
  t.equal(sent(1, 1000), 10)
  t.equal(sent(4, 1000), 30)
  t.equal(sent(1000, 1000), 50)
  t.end()
})

t.test('a clock that wraps around makes no difference', (t) => {
  const limiter = new IcmpLimiter(defaultSettings(), 0x7fffffff)
  for (let i = 0; i < 6; i++) t.equal(limiter.allow(7, 0x7fffffff), true)
  t.equal(limiter.allow(7, 0x7fffffff), false)
  t.equal(limiter.allow(7, (0x7fffffff + 100) | 0), true)
  t.equal(limiter.allow(7, (0x7fffffff + 100) | 0), false)
  t.end()
})

t.test('no limit to a host when it is 0', (t) => {
  const limiter = new IcmpLimiter({ ...defaultSettings(), icmpRateLimitJiffies: 0 }, 0)
  let allowed = 0
  for (let i = 0; i < 100; i++) if (limiter.allow(1, 0)) allowed++
  t.equal(allowed, 50)
  t.end()
})
