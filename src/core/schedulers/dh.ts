import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Service } from '../service.js'
import { hash32, hashed } from './hash.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

const TABLE_BITS = 8

/**
 * Destination hashing: the packet's destination address alone decides, by its hash in a table of 256
 * places that the destinations fill in turn, so that an address is always served by the same one as long as
 * the list stays as it is. It is meant for caches behind a firewall mark, where that address is the site
 * asked for. Weights do not matter, except that a destination with 0, like one that is overloaded, takes
 * none: its addresses go to nobody, not to others.
 *
 * Source: net/netfilter/ipvs/ip_vs_dh.c.
 */
class DestinationHashing implements Scheduler {
  private readonly table: (Destination | undefined)[]

  constructor(private readonly service: Service) {
    this.table = new Array<Destination | undefined>(1 << TABLE_BITS).fill(undefined)
    this.assign()
  }

  schedule(packet: Packet): Destination | undefined {
    const destination = this.table[hash32(hashed(packet.destinationBe, 0), TABLE_BITS)]
    return destination && isUsable(destination) ? destination : undefined
  }

  added(): void {
    this.assign()
  }
  removed(): void {
    this.assign()
  }

  private assign(): void {
    const { table } = this
    const { destinations } = this.service
    let index = 0
    for (let place = 0; place < table.length; place++) {
      table[place] = destinations[index++]
      if (index >= destinations.length) index = 0
    }
  }
}

export const dh: SchedulerKind = {
  name: 'dh',
  create: (service) => new DestinationHashing(service),
}
