// twos: its rule with draws that the test makes, and what comes of it with dice.
import t from 'tap'
import type { Random } from '../../../src/port/random.js'
import { SeededRandom } from '../../../src/port/random.js'
import { Harness } from '../harness.js'
import { choices, edit, end, service } from './support.js'

/** Draws as a fraction of their range, in turn; the director's own draws begin when `fractions` has any. */
class Draws implements Random {
  fractions: number[] = []
  next(): number {
    return Math.floor((this.fractions.shift() ?? 0) * 0x1_0000_0000) | 0
  }
}

function withRandom(random: Random, ...weights: number[]): Harness {
  const h = new Harness({ random, table: { maxConnections: 65536, seed: 1 } })
  h.addService(service, { scheduler: 'twos' })
  for (let i = weights.length; i >= 1; i--)
    h.addDestination(service, end(i), { weight: weights[i - 1]! })
  return h
}

/** Where a connection goes with these two draws. */
function drawn(h: Harness, draws: Draws, first: number, second: number): string {
  draws.fractions = [first, second]
  return choices(h, 1)
}

t.test('of two that are drawn the less laden is taken, the first among equals', (t) => {
  const draws = new Draws()
  const h = withRandom(draws, 1, 1, 1)
  // Draws are 0 to 3: 0 and 1 are the first server, 2 the second, 3 the third.
  t.equal(drawn(h, draws, 0.99, 0.6), '3', 'none is laden')
  t.equal(drawn(h, draws, 0.99, 0.6), '2')
  t.equal(drawn(h, draws, 0.6, 0.99), '2', 'equals again')
  t.equal(drawn(h, draws, 0.6, 0.1), '1')
  t.equal(drawn(h, draws, 0.6, 0.6), '2', 'twice the same')
  t.end()
})

t.test('loads are compared by weight', (t) => {
  const draws = new Draws()
  const h = withRandom(draws, 3, 1)
  // Draws are 0 to 4, the fourth and last of them the second server's.
  t.equal(drawn(h, draws, 0.5, 0.5), '1')
  t.equal(drawn(h, draws, 0.5, 0.99), '2', '256/3 against 0')
  t.equal(drawn(h, draws, 0.99, 0.5), '1', '256/1 against 256/3')
  t.equal(drawn(h, draws, 0.99, 0.5), '1')
  t.equal(drawn(h, draws, 0.99, 0.5), '2', 'equal, three to one')
  t.end()
})

t.test('a draw includes the sum of the weights: the first has one chance more', (t) => {
  const draws = new Draws()
  const at = (fraction: number): string =>
    drawn(withRandom(draws, 1, 2, 1), draws, fraction, fraction)
  const chances = [0, 1, 2, 3, 4].map((number) => at((number + 0.5) / 5))
  t.equal(chances.join(''), '11223')
  t.end()
})

t.test('who takes no connections is not drawn', (t) => {
  const draws = new Draws()
  const h = withRandom(draws, 1, 0, 1)
  t.equal(drawn(h, draws, 0, 0), '1')
  t.equal(drawn(h, draws, 0.99, 0.99), '3')
  edit(h, 1, { upperThreshold: 1 })
  t.equal(drawn(h, draws, 0, 0), '1')
  t.equal(drawn(h, draws, 0, 0), '3', '1 is overloaded now')
  edit(h, 3, { weight: 0 })
  t.equal(drawn(h, draws, 0, 0), '-')
  t.end()
})

t.test('two choices keep the most laden close to the mean, one choice would not', (t) => {
  const weights = new Array<number>(9).fill(1)
  const h = withRandom(new SeededRandom(7), ...weights)
  const all = choices(h, 9000)
  const counts = weights.map((_, i) => all.split(String(i + 1)).length - 1)
  // One choice would leave a spread of about sqrt(1000), 32; the first's one chance more does not show.
  t.ok(Math.max(...counts) - Math.min(...counts) <= 8, counts.join(' '))
  t.end()
})

t.test('connections settle by weight', (t) => {
  const h = withRandom(new SeededRandom(3), 5, 3, 2)
  const all = choices(h, 10000)
  for (const [i, share] of [5000, 3000, 2000].entries()) {
    const count = all.split(String(i + 1)).length - 1
    t.ok(Math.abs(count - share) < 20, `${i + 1}: ${count}`)
  }
  t.end()
})
