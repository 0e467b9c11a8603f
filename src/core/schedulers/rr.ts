import type { Destination } from '../destination.js'
import type { Service } from '../service.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

/**
 * Round robin: every usable destination gets the same number of connections, one after the other in the
 * order of the service's list, whatever their weights. n connections over m destinations differ by at most
 * one. A removed destination's turn passes on to its successor; a new one, at the head of the list, has its
 * turn when the round is over.
 *
 * Source: net/netfilter/ipvs/ip_vs_rr.c.
 */
class RoundRobin implements Scheduler {
  /** Index of the destination chosen last, -1 for the head of the list, before the first. */
  readonly position = Int32Array.of(-1)

  constructor(private readonly service: Service) {}

  schedule(): Destination | undefined {
    const { destinations } = this.service
    const last = this.position[0]!
    // Behind the last choice up to the end, then from the head up to the last choice itself.
    for (let i = 1; i <= destinations.length; i++) {
      const index = (last + i) % destinations.length
      const destination = destinations[index]!
      if (isUsable(destination)) {
        this.position[0] = index
        return destination
      }
    }
    return undefined
  }

  added(): void {
    if (this.position[0]! >= 0) this.position[0]!++
  }

  removed(_destination: Destination, index: number): void {
    if (index <= this.position[0]!) this.position[0]!--
  }
}

export const rr: SchedulerKind = {
  name: 'rr',
  create: (service) => new RoundRobin(service),
}
