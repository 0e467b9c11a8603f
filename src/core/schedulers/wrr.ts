import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import type { Scheduler, SchedulerKind } from './scheduler.js'

/**
 * Weighted round robin: destinations get connections in proportion to their weights, interleaved. A pass
 * over the list takes those whose weight is at least the current threshold; the threshold falls from the
 * greatest weight by the weights' greatest common divisor, pass after pass, and starts again. In a full
 * cycle every destination gets exactly weight / divisor connections. Any change of a destination starts the
 * pass from the head of the list.
 *
 * The threshold starts at greatest - (divisor - 1), so that the last pass has threshold 1 and would still
 * find a weight that became smaller than the divisor.
 *
 * Source: net/netfilter/ipvs/ip_vs_wrr.c.
 */
class WeightedRoundRobin implements Scheduler {
  /**
   * Index of the destination chosen last, -1 for the head of the list, before the first; and the threshold of the
   * present pass.
   */
  readonly position = Int32Array.of(-1, 0)
  private greatest: number
  private divisor: number

  private get last(): number {
    return this.position[0]!
  }
  private set last(index: number) {
    this.position[0] = index
  }
  private get threshold(): number {
    return this.position[1]!
  }
  private set threshold(threshold: number) {
    this.position[1] = threshold
  }

  constructor(private readonly service: Service) {
    this.divisor = greatestCommonDivisor(service.destinations.map(({ weight }) => weight))
    this.greatest = greatestWeight(service) - (this.divisor - 1)
    this.threshold = this.greatest
  }

  schedule(): Destination | undefined {
    if (this.greatest === 0) return undefined
    const { destinations } = this.service
    const began = this.last
    let index = began
    // Where the very last pass ends: at the destination that the search began behind.
    let stop = -1
    let lastPass = false
    let restarted = false
    for (;;) {
      for (index++; index < destinations.length; index++) {
        const destination = destinations[index]!
        if (!destination.overloaded && destination.weight >= this.threshold) {
          this.last = index
          return destination
        }
        if (index === stop) {
          this.last = index
          return undefined
        }
      }
      index = -1
      this.threshold -= this.divisor
      if (this.threshold <= 0) {
        this.threshold = this.greatest
        // All were looked at with threshold 1: in a last pass before this one, or in this one from the head.
        if (lastPass || began === -1) {
          this.last = -1
          return undefined
        }
        restarted = true
      }
      this.passOver()
      lastPass = this.threshold <= this.divisor
      if (lastPass && restarted && began !== -1) stop = began
    }
  }

  /**
   * Passes over the thresholds that nobody meets, when those with great weights are overloaded, but not over the
   * last pass: it comes to the same, without a walk through the list for each of them.
   */
  private passOver(): void {
    let most = this.divisor
    for (const { overloaded, weight } of this.service.destinations)
      if (!overloaded && weight > most) most = weight
    if (this.threshold > most)
      this.threshold -= Math.ceil((this.threshold - most) / this.divisor) * this.divisor
  }

  added(): void {
    this.changed()
  }
  removed(): void {
    this.changed()
  }
  updated(): void {
    this.changed()
  }

  private changed(): void {
    this.last = -1
    this.divisor = greatestCommonDivisor(this.service.destinations.map(({ weight }) => weight))
    this.greatest = greatestWeight(this.service) - (this.divisor - 1)
    if (this.threshold > this.greatest || this.threshold === 0) this.threshold = this.greatest
    else if (this.divisor > 1)
      this.threshold = Math.trunc(this.threshold / this.divisor) * this.divisor + 1
  }
}

function greatestWeight(service: Service): number {
  return service.destinations.reduce((most, { weight }) => Math.max(most, weight), 0)
}

/** Of the weights that are not 0; 1 when all are. */
export function greatestCommonDivisor(weights: readonly number[]): number {
  let divisor = 0
  for (const weight of weights) {
    let a = weight
    let b = divisor
    while (b !== 0) [a, b] = [b, a % b]
    divisor = a
  }
  return divisor || 1
}

export const wrr: SchedulerKind = {
  name: 'wrr',
  create: (service) => new WeightedRoundRobin(service),
}
