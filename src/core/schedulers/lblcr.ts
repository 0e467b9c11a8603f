import { JIFFIES_PER_SECOND } from '../../port/clock.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Service } from '../service.js'
import type { Settings } from '../settings.js'
import type { Tasks } from '../tasks.js'
import { isOverladen } from './lblc.js'
import { LocalityCache } from './locality-cache.js'
import { isMoreLaden, isUsable, type Scheduler, type SchedulerContext } from './scheduler.js'
import type { SchedulerKind } from './scheduler.js'
import { leastLaden } from './wlc.js'

/** The destinations that serve one destination address. */
class ServerSet {
  /** The one that was added last is at the end; the kernel has it at the head. */
  readonly destinations: Destination[] = []
  changedJiffies = 0

  add(destination: Destination, now: number): void {
    if (this.destinations.includes(destination)) return
    destination.remembered++
    this.destinations.push(destination)
    this.changedJiffies = now
  }

  remove(destination: Destination, now: number): void {
    destination.remembered--
    this.destinations.splice(this.destinations.indexOf(destination), 1)
    this.changedJiffies = now
  }

  /** The least laden for its weight of those that take connections; the one added last among equals. */
  least(): Destination | undefined {
    const { destinations } = this
    let least: Destination | undefined
    for (let i = destinations.length - 1; i >= 0; i--) {
      const destination = destinations[i]!
      if (!destination.available || !isUsable(destination)) continue
      if (!least) least = destination
      else if (isMoreLaden(least.overhead, least.weight, destination.overhead, destination.weight))
        least = destination
    }
    return least
  }

  /** The most laden for its weight, removed and overloaded ones included, but those of weight 0 not. */
  most(): Destination | undefined {
    const { destinations } = this
    let most: Destination | undefined
    for (let i = destinations.length - 1; i >= 0; i--) {
      const destination = destinations[i]!
      if (destination.weight === 0) continue
      if (!most) most = destination
      else if (isMoreLaden(destination.overhead, destination.weight, most.overhead, most.weight))
        most = destination
    }
    return most
  }
}

/**
 * Locality-based least connection with replication: an address is served by a set of destinations, at first
 * the least laden one (as with wlc). Connections to it go to the least laden of its set. When that one has
 * more active connections than its weight, while another destination of the service is not half full, or none
 * of the set takes connections, the least laden destination of all joins the set. A set of several that has not
 * changed for the time of the setting lblcr_expiration loses its most laden, so that replicas do not stay for
 * ever. An address that is not asked for is forgotten after the same time: see LocalityCache.
 *
 * Source: net/netfilter/ipvs/ip_vs_lblcr.c.
 */
class LocalityBasedLeastConnectionWithReplication implements Scheduler {
  private readonly cache: LocalityCache<ServerSet>
  private readonly settings: Settings
  private readonly tasks: Tasks

  constructor(
    private readonly service: Service,
    { settings, tasks }: SchedulerContext,
  ) {
    this.settings = settings
    this.tasks = tasks
    this.cache = new LocalityCache(
      tasks,
      () => settings.lblcrExpirationSeconds,
      (set) => {
        for (const destination of set.destinations) destination.remembered--
      },
    )
  }

  schedule(packet: Packet): Destination | undefined {
    const { service, cache } = this
    const { now } = this.tasks
    const set = cache.find(packet)?.value
    if (set) {
      const least = set.least()
      if (set.destinations.length > 1 && this.isOld(set)) {
        const most = set.most()
        if (most) set.remove(most, now)
      }
      // Also if it has just been removed.
      if (least && !isOverladen(least, service)) return least
    }
    const destination = leastLaden(service)
    if (!destination) return undefined
    if (set) {
      set.add(destination, now)
    } else {
      const first = new ServerSet()
      first.add(destination, now)
      cache.add(packet, first)
    }
    return destination
  }

  done(): void {
    this.cache.clear()
  }

  private isOld(set: ServerSet): boolean {
    const expiration = this.settings.lblcrExpirationSeconds * JIFFIES_PER_SECOND
    return ((this.tasks.now - set.changedJiffies) | 0) > expiration
  }
}

export const lblcr: SchedulerKind = {
  name: 'lblcr',
  create: (service, context) => new LocalityBasedLeastConnectionWithReplication(service, context),
}
