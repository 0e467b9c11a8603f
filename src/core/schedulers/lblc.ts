import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Service } from '../service.js'
import { LocalityCache } from './locality-cache.js'
import type { Scheduler, SchedulerContext, SchedulerKind } from './scheduler.js'
import { leastLaden } from './wlc.js'

/**
 * Whether a destination has more active connections than its weight, while another one of the service has
 * fewer than half of its own. Thresholds have no say in it.
 */
export function isOverladen(destination: Destination, service: Service): boolean {
  if (destination.activeConnections <= destination.weight) return false
  for (const other of service.destinations)
    if (other.activeConnections * 2 < other.weight) return true
  return false
}

/**
 * Locality-based least connection: connections to one destination address go to the same destination, the
 * least laden one (as with wlc) when the address was first asked for. It stays so until that one is removed
 * or quiesced, or has more active connections than its weight while another is not half full: then the least
 * laden one takes the address over. It is meant for caches behind a firewall mark, so that each holds its own
 * part of the sites. An address that is not asked for is forgotten: see LocalityCache, and the setting
 * lblc_expiration. A destination that is overloaded by its upper threshold keeps the addresses that it has.
 *
 * Source: net/netfilter/ipvs/ip_vs_lblc.c.
 */
class LocalityBasedLeastConnection implements Scheduler {
  private readonly cache: LocalityCache<Destination>

  constructor(
    private readonly service: Service,
    { settings, tasks }: SchedulerContext,
  ) {
    this.cache = new LocalityCache(
      tasks,
      () => settings.lblcExpirationSeconds,
      (destination) => destination.remembered--,
    )
  }

  schedule(packet: Packet): Destination | undefined {
    const { service, cache } = this
    const entry = cache.find(packet)
    if (entry) {
      const destination = entry.value
      if (destination.available && destination.weight > 0 && !isOverladen(destination, service))
        return destination
    }
    const least = leastLaden(service)
    if (!least || entry?.value === least) return least
    least.remembered++
    if (entry) cache.replace(entry, least)
    else cache.add(packet, least)
    return least
  }

  done(): void {
    this.cache.clear()
  }
}

export const lblc: SchedulerKind = {
  name: 'lblc',
  create: (service, context) => new LocalityBasedLeastConnection(service, context),
}
