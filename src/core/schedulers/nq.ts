import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'
import { isSlower } from './sed.js'

/**
 * Never queue: a new connection goes to the first usable destination of the list that has no active
 * connection, however weak it is. While all are busy it goes where it would be served soonest, as with sed.
 * So nobody waits while a destination is idle.
 *
 * Source: net/netfilter/ipvs/ip_vs_nq.c; A. Weinrib and S. Shenker, Greed is not enough: adaptive load
 * sharing in large heterogeneous systems, INFOCOM 1988.
 */
class NeverQueue implements Scheduler {
  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    let least: Destination | undefined
    for (const destination of this.service.destinations) {
      if (!isUsable(destination)) continue
      if (destination.activeConnections === 0) return destination
      if (!least || isSlower(least, destination)) least = destination
    }
    return least
  }
}

export const nq: SchedulerKind = {
  name: 'nq',
  create: (service) => new NeverQueue(service),
}
