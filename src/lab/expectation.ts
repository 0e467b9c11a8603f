/** What a scheduler promises about how a run of connections, one after the other, is shared out. */
export interface Expectation {
  /** For people: the rule behind the figures. */
  readonly rule: string
  /** The fewest and the most connections of each server. */
  readonly ranges: readonly (readonly [fewest: number, most: number])[]
}

/** Schedulers that look at weights; the lab gives the servers different ones for these. */
const WEIGHTED = new Set(['wrr', 'wlc', 'sed', 'nq', 'mh'])

/** Weights for so many servers: N, N-1 … 1 where the scheduler heeds them, else 1 each. */
export function weightsFor(scheduler: string, servers: number): number[] {
  return Array.from({ length: servers }, (_, i) => (WEIGHTED.has(scheduler) ? servers - i : 1))
}

/** What a scheduler promises for connections of one client that are closed before the next is opened. */
export function expect(
  scheduler: string,
  weights: readonly number[],
  connections: number,
): Expectation {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const shares = weights.map((weight) => (connections * weight) / total)
  switch (scheduler) {
    case 'rr': {
      const each = connections / weights.length
      return {
        rule: 'each in turn',
        ranges: weights.map(() => [Math.floor(each), Math.ceil(each)]),
      }
    }
    case 'wrr': {
      // A cycle gives every server its weight, divided by what all weights have in common.
      const divisor = weights.reduce(greatestCommonDivisor)
      const cycle = total / divisor
      const whole = Math.floor(connections / cycle)
      const rest = connections % cycle
      return {
        rule: `each in turn, weights ${weights.join(':')}`,
        ranges: weights.map((weight) => {
          const turns = weight / divisor
          return [whole * turns, whole * turns + Math.min(turns, rest)]
        }),
      }
    }
    case 'lc':
    case 'wlc':
      // Closed connections count a little too, so that the shares even out but for those under way.
      return {
        rule:
          scheduler === 'lc'
            ? 'fewest connections, so about even'
            : `by weights ${weights.join(':')}, about`,
        ranges: shares.map((share) => {
          const slack = Math.max(3, Math.ceil(share / 10))
          return [Math.max(0, Math.floor(share) - slack), Math.ceil(share) + slack]
        }),
      }
    default:
      return {
        rule: `${scheduler} promises no shares for a single client`,
        ranges: weights.map(() => [0, connections]),
      }
  }
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}
