import type { Random } from '../../port/random.js'
import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isUsable, type Scheduler, type SchedulerContext, type SchedulerKind } from './scheduler.js'

/**
 * The power of two choices: two destinations are drawn at random, by their weights, and of the two the one with
 * fewer connections for its weight is taken, where an active one counts as 256 inactive ones; the first that
 * was drawn, if they are equal. That keeps the most laden far below what one draw would make of it (about
 * ln ln n instead of ln n more than the mean), and many directors that know nothing of each other do not
 * all rush to the same idle server.
 *
 * A draw is from 0 to the sum of the weights, both included, so that the first of the list has one chance in
 * so many more than its weight.
 *
 * Source: net/netfilter/ipvs/ip_vs_twos.c, which kernels have since 5.13, if they are configured so; M.
 * Mitzenmacher, A. Richa and R. Sitaraman, The power of two random choices: a survey of techniques and
 * results, 2001.
 */
class PowerOfTwoChoices implements Scheduler {
  private readonly random: Random

  constructor(
    private readonly service: Service,
    context: SchedulerContext,
  ) {
    this.random = context.random
  }

  schedule(): Destination | undefined {
    let sum = 0
    for (const destination of this.service.destinations)
      if (isUsable(destination)) sum += destination.weight
    if (sum === 0) return undefined
    const firstDraw = this.draw(sum + 1)
    return this.lessLaden(firstDraw, this.draw(sum + 1))
  }

  /** From 0 to below `limit`, each as likely as another: the upper half of the product with 32 random bits. */
  private draw(limit: number): number {
    return Math.floor(((this.random.next() >>> 0) * limit) / 0x1_0000_0000)
  }

  /** Of the two usable destinations in whose shares of the weights, laid end to end, the numbers are. */
  private lessLaden(firstDraw: number, secondDraw: number): Destination {
    let first: Destination | undefined
    let second: Destination | undefined
    let firstLeft = firstDraw
    let secondLeft = secondDraw
    for (const destination of this.service.destinations) {
      if (!isUsable(destination)) continue
      if (firstLeft > 0 || !first) {
        first = destination
        firstLeft -= destination.weight
      }
      if (secondLeft > 0 || !second) {
        second = destination
        secondLeft -= destination.weight
      }
      if (firstLeft <= 0 && secondLeft <= 0) break
    }
    const isSecondLess =
      Math.imul(second!.weight, first!.overhead) > Math.imul(first!.weight, second!.overhead)
    return isSecondLess ? second! : first!
  }
}

export const twos: SchedulerKind = {
  name: 'twos',
  create: (service, context) => new PowerOfTwoChoices(service, context),
}
