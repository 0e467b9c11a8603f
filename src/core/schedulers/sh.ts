import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Service } from '../service.js'
import { HashFlag } from './flags.js'
import { hash32, hashed } from './hash.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'

const TABLE_BITS = 8
const TABLE_SIZE = 1 << TABLE_BITS
const TABLE_MASK = TABLE_SIZE - 1

/**
 * Source hashing: the client's address alone decides (with sh-port, its port, too), by its hash in a table
 * of 256 places. The destinations fill it in turn, each with as many places in a row as its weight says, one
 * at least, until it is full. So a client always meets the same destination as long as list and weights
 * stay as they are. A client whose destination has weight 0 or is overloaded gets nobody; with sh-fallback
 * it gets what the places after its own lead to, the first that is usable, and the same one each time.
 *
 * Source: net/netfilter/ipvs/ip_vs_sh.c.
 */
class SourceHashing implements Scheduler {
  private readonly table: (Destination | undefined)[]

  constructor(private readonly service: Service) {
    this.table = new Array<Destination | undefined>(TABLE_SIZE).fill(undefined)
    this.assign()
  }

  schedule(packet: Packet): Destination | undefined {
    const { table } = this
    const { schedulerFlags } = this.service
    const portBe = (schedulerFlags & HashFlag.port) !== 0 ? packet.sourcePortBe : 0
    const place = hash32(hashed(packet.sourceBe, portBe), TABLE_BITS)
    const destination = table[place]
    if (!destination || isUsable(destination)) return destination
    if ((schedulerFlags & HashFlag.fallback) === 0) return undefined
    // The kernel adds the hash twice: once for where the search begins, once for the offset that it tries.
    for (let i = 0; i < TABLE_SIZE; i++) {
      const other = table[(((i + place) & TABLE_MASK) + place) & TABLE_MASK]!
      if (isUsable(other)) return other
    }
    return undefined
  }

  added(): void {
    this.assign()
  }
  removed(): void {
    this.assign()
  }
  updated(): void {
    this.assign()
  }

  private assign(): void {
    const { table } = this
    const { destinations } = this.service
    let index = 0
    let count = 0
    for (let place = 0; place < TABLE_SIZE; place++) {
      const destination = (table[place] = destinations[index])
      if (!destination || ++count < destination.weight) continue
      if (++index === destinations.length) index = 0
      count = 0
    }
  }
}

export const sh: SchedulerKind = {
  name: 'sh',
  create: (service) => new SourceHashing(service),
}
