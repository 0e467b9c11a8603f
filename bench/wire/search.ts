import type { Latencies, TrialResult } from './tester-messages.js'

/** Frames that may be lost at a rate that counts as carried. */
export const LOSS_BOUND = 0.005

/** Lost is also what the generator had no time to send, because what forwards took its processor. */
export const lossOf = ({ wanted, received }: TrialResult): number => 1 - received / wanted

export interface SearchOptions {
  /** Frames at this rate for a while. */
  probe(packetsPerSecond: number): Promise<TrialResult>
  /** Where to begin. */
  guess: number
  /** Ratio by which to go away from there at first: further each time, until the rate is between two that were tried. */
  step: number
  /** Nobody wants to know it more exactly than by this ratio. */
  precision: number
}

const LOWEST = 1000
const HIGHEST = 10_000_000

/**
 * The highest rate, in packets a second, that comes through with no more loss than LOSS_BOUND: by halving, in
 * proportion, between one that does and one that does not. A rate has two tries, since one stall of the machine
 * costs more than the bound. 0 if there is none.
 */
export async function findThroughput(options: SearchOptions): Promise<number> {
  const { probe, guess, precision } = options
  let { step } = options
  const carries = async (rate: number): Promise<boolean> =>
    lossOf(await probe(rate)) <= LOSS_BOUND || lossOf(await probe(rate)) <= LOSS_BOUND
  let low = guess
  let high = guess
  if (await carries(guess)) {
    do {
      low = high
      high *= step
      step *= step
    } while (high < HIGHEST && (await carries(high)))
  } else {
    do {
      high = low
      low /= step
      step *= step
    } while (low > LOWEST && !(await carries(low)))
    if (low <= LOWEST) return 0
  }
  while (high / low > precision) {
    const middle = Math.sqrt(high * low)
    if (await carries(middle)) low = middle
    else high = middle
  }
  return low
}

/** How often a load is tried that ought to come through. */
const LATENCY_ATTEMPTS = 3

/**
 * The latencies of a load that is less than the throughput: of the first trial in which it comes through, as the
 * throughput has it. What a stall of the machine leaves of a trial says nothing of the load. Undefined if none does.
 */
export async function measureLatency(
  probe: () => Promise<TrialResult>,
): Promise<Latencies | undefined> {
  for (let attempt = 0; attempt < LATENCY_ATTEMPTS; attempt++) {
    const result = await probe()
    if (result.latencyNs !== undefined && lossOf(result) <= LOSS_BOUND) return result.latencyNs
  }
  return undefined
}
