import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

/**
 * Overflow: new connections go to the usable destination with the greatest weight until it has more active
 * connections than its weight; then they flow over to the next greatest, and so on. A weight is thus a
 * number of connections that a destination may have and still be given one more. When all are full, nobody
 * takes any. Of equals the first of the list is taken. Only active connections count, so it does not fit
 * UDP, which has none.
 *
 * Source: net/netfilter/ipvs/ip_vs_ovf.c.
 */
class Overflow implements Scheduler {
  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    let greatest: Destination | undefined
    for (const destination of this.service.destinations) {
      if (!isUsable(destination) || destination.activeConnections > destination.weight) continue
      if (!greatest || destination.weight > greatest.weight) greatest = destination
    }
    return greatest
  }
}

export const ovf: SchedulerKind = {
  name: 'ovf',
  create: (service) => new Overflow(service),
}
