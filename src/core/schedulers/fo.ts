import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

/**
 * Weighted fail over: every new connection goes to the usable destination with the greatest weight, however
 * many it has. When that one is quiesced, overloaded or removed, the next greatest takes over, until it is
 * back. Of equals the first of the list is taken.
 *
 * Source: net/netfilter/ipvs/ip_vs_fo.c.
 */
class FailOver implements Scheduler {
  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    let greatest: Destination | undefined
    for (const destination of this.service.destinations)
      if (isUsable(destination) && (!greatest || destination.weight > greatest.weight))
        greatest = destination
    return greatest
  }
}

export const fo: SchedulerKind = {
  name: 'fo',
  create: (service) => new FailOver(service),
}
