import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

/**
 * Least connection: a new connection goes to the usable destination with the fewest connections, where an
 * active one counts as 256 inactive ones. Weights do not matter, except that 0 takes none. Of equals the
 * first of the list is taken.
 *
 * Source: net/netfilter/ipvs/ip_vs_lc.c.
 */
class LeastConnection implements Scheduler {
  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    let least: Destination | undefined
    for (const destination of this.service.destinations) {
      if (!isUsable(destination)) continue
      // This one scheduler takes the overhead as unsigned.
      if (!least || destination.overhead >>> 0 < least.overhead >>> 0) least = destination
    }
    return least
  }
}

export const lc: SchedulerKind = {
  name: 'lc',
  create: (service) => new LeastConnection(service),
}
