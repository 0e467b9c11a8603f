import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isMoreLaden, isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

/**
 * The usable destination with the least overhead for its weight, the first of the list among equals;
 * undefined when none is usable.
 */
export function leastLaden(service: Service): Destination | undefined {
  let least: Destination | undefined
  // What the least laden has so far, since it is compared with all that follow.
  let leastOverhead = 0
  let leastWeight = 0
  for (const destination of service.destinations) {
    if (!isUsable(destination)) continue
    const { overhead, weight } = destination
    if (least && !isMoreLaden(leastOverhead, leastWeight, overhead, weight)) continue
    least = destination
    leastOverhead = overhead
    leastWeight = weight
  }
  return least
}

/**
 * Weighted least connection, ipvsadm's default: a new connection goes to the usable destination with the
 * fewest connections for its weight, where an active one counts as 256 inactive ones. So the numbers of
 * connections settle in proportion to the weights. Of equals the first of the list is taken.
 *
 * Source: net/netfilter/ipvs/ip_vs_wlc.c.
 */
class WeightedLeastConnection implements Scheduler {
  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    return leastLaden(this.service)
  }
}

export const wlc: SchedulerKind = {
  name: 'wlc',
  create: (service) => new WeightedLeastConnection(service),
}
