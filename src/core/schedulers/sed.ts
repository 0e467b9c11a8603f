import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isMoreLaden, isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

/** Active connections of a destination when it takes one more. */
export function expectedConnections(destination: Destination): number {
  return destination.activeConnections + 1
}

/** Whether a new connection would wait longer at one destination than at another, by their weights. */
export function isSlower(destination: Destination, other: Destination): boolean {
  return isMoreLaden(
    expectedConnections(destination),
    destination.weight,
    expectedConnections(other),
    other.weight,
  )
}

/**
 * Shortest expected delay: a new connection goes where it would be served soonest if destinations work
 * through their active connections as fast as their weights say, itself included: where (active + 1) /
 * weight is least. Unlike wlc it prefers a strong destination to an idle weak one, and inactive
 * connections do not count. Of equals the first of the list is taken.
 *
 * Source: net/netfilter/ipvs/ip_vs_sed.c; A. Weinrib and S. Shenker, Greed is not enough: adaptive load
 * sharing in large heterogeneous systems, INFOCOM 1988.
 */
class ShortestExpectedDelay implements Scheduler {
  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    let least: Destination | undefined
    for (const destination of this.service.destinations)
      if (isUsable(destination) && (!least || isSlower(least, destination))) least = destination
    return least
  }
}

export const sed: SchedulerKind = {
  name: 'sed',
  create: (service) => new ShortestExpectedDelay(service),
}
