import fc from '../support/properties.js'
import t from 'tap'
import { expect, weightsFor } from '../../src/lab/expectation.js'

void t.test('rr gives each server its turn', async (t) => {
  t.strictSame(expect('rr', [1, 1, 1], 99).ranges, [
    [33, 33],
    [33, 33],
    [33, 33],
  ])
  t.strictSame(expect('rr', [1, 1, 1], 100).ranges[0], [33, 34])
})

void t.test('wrr is exact over whole cycles', async (t) => {
  t.strictSame(expect('wrr', [3, 2, 1], 60).ranges, [
    [30, 30],
    [20, 20],
    [10, 10],
  ])
  t.strictSame(
    expect('wrr', [30, 20, 10], 6).ranges,
    [
      [3, 3],
      [2, 2],
      [1, 1],
    ],
    'weights are divided by what they have in common',
  )
})

void t.test('what is promised can be kept: the ranges have room for all connections', async () => {
  fc.assert(
    fc.property(
      fc.constantFrom('rr', 'wrr', 'lc', 'wlc', 'sh'),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 0, max: 5000 }),
      (scheduler, weights, connections) => {
        const { ranges } = expect(scheduler, weights, connections)
        const fewest = ranges.reduce((sum, [least]) => sum + least, 0)
        const most = ranges.reduce((sum, [, greatest]) => sum + greatest, 0)
        return fewest <= connections && connections <= most
      },
    ),
  )
})

void t.test('weighted schedulers get different weights', async (t) => {
  t.strictSame(weightsFor('wrr', 3), [3, 2, 1])
  t.strictSame(weightsFor('rr', 3), [1, 1, 1])
})
