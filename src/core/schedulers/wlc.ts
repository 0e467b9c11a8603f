import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

/**
 * Weighted least connection, ipvsadm's default: a new connection goes to the usable destination with the
 * fewest connections for its weight, where an active one counts as 256 inactive ones. So the numbers of
 * connections settle in proportion to the weights. Of equals the first of the list is taken.
 *
 * Overhead per weight is compared by cross-multiplication, exact in integers.
 *
 * Source: net/netfilter/ipvs/ip_vs_wlc.c.
 */
class WeightedLeastConnection implements Scheduler {
  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    let least: Destination | undefined
    for (const destination of this.service.destinations) {
      if (!isUsable(destination)) continue
      if (!least || least.overhead * destination.weight > destination.overhead * least.weight)
        least = destination
    }
    return least
  }
}

export const wlc: SchedulerKind = {
  name: 'wlc',
  create: (service) => new WeightedLeastConnection(service),
}
