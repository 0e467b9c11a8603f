import { IpvsError } from '../commands.js'
import type { Destination } from '../destination.js'
import type { Packet } from '../packet.js'
import type { Service } from '../service.js'
import { HashFlag } from './flags.js'
import { hashed } from './hash.js'
import { Hsiphash } from './hsiphash.js'
import { isUsable, type Scheduler, type SchedulerKind } from './scheduler.js'
import { greatestCommonDivisor } from './wrr.js'

/** Places of the table, a prime: that of the kernel's default, CONFIG_IP_VS_MH_TAB_INDEX=12. */
const TABLE_SIZE = 4093
/** A destination takes fewer than 2^6 places in a turn, however great its weight. */
const TURN_BITS = 6

/** The kernel's keys are known to all: the same client meets the same server at every director. */
const FIRST_KEY = 2654435761
const SECOND_KEY = 2654446892
const firstHash = new Hsiphash([FIRST_KEY, 0, FIRST_KEY, 0])
const secondHash = new Hsiphash([SECOND_KEY, 0, SECOND_KEY, 0])

/** A destination's walk through the table, place by place in an order of its own, until all are taken. */
interface Walk {
  readonly destination: Destination
  place: number
  readonly step: number
  /** Places that it takes before the next destination has its turn. */
  readonly turn: number
}

/**
 * Maglev hashing: the client's address alone decides (with mh-port, its port, too), by its hash in a table of
 * 4093 places. Each destination prefers places in an order that its own address and port give; in turns they
 * take the first of theirs that is free, as many in a turn as the weight says. So a client always meets the
 * same destination, shares are as the weights within a few places, and when a destination is added or removed
 * few of the others' clients move. One that is set to weight 0 keeps its places, so nobody else's clients move
 * then: its own find nobody, or with mh-fallback another destination, always the same.
 *
 * Source: net/netfilter/ipvs/ip_vs_mh.c; D. E. Eisenbud et al., Maglev: a fast and reliable software network
 * load balancer, NSDI 2016, section 3.4.
 */
class MaglevHashing implements Scheduler {
  private readonly table: (Destination | undefined)[] = new Array<Destination | undefined>(
    TABLE_SIZE,
  ).fill(undefined)

  /** @throws IpvsError EINVAL when the service has more destinations than the table has places */
  constructor(private readonly service: Service) {
    if (!this.assign())
      throw new IpvsError('EINVAL', `mh takes ${TABLE_SIZE} destinations, these are more`)
  }

  schedule(packet: Packet): Destination | undefined {
    const { table } = this
    const { schedulerFlags } = this.service
    const portBe = (schedulerFlags & HashFlag.port) !== 0 ? packet.sourcePortBe : 0
    const client = hashed(packet.sourceBe, portBe)
    const place = firstHash.hashModulo(client, TABLE_SIZE)
    const destination = table[place]
    if (!destination || isUsable(destination)) return destination
    if ((schedulerFlags & HashFlag.fallback) === 0) return undefined
    for (let i = 0; i < TABLE_SIZE; i++) {
      const offset = (i + place) % TABLE_SIZE
      const other = table[firstHash.hashModulo((client + offset) | 0, TABLE_SIZE)]!
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

  done(): void {
    for (let place = 0; place < TABLE_SIZE; place++) this.put(place, undefined)
  }

  /** @returns false when there are too many destinations; then the table stays as it is */
  private assign(): boolean {
    const { destinations } = this.service
    if (destinations.length > TABLE_SIZE) return false
    const walks = walksOf(destinations)
    if (walks.length === 0) {
      this.done()
      return true
    }
    const taken = new Uint8Array(TABLE_SIZE)
    for (let count = 0; ;)
      for (const walk of walks)
        for (let i = 0; i < walk.turn; i++) {
          const { step } = walk
          let { place } = walk
          // Steps are less than the table, so that one subtraction is the remainder.
          while (taken[place] === 1) {
            place += step
            if (place >= TABLE_SIZE) place -= TABLE_SIZE
          }
          walk.place = place
          taken[place] = 1
          this.put(place, walk.destination)
          if (++count === TABLE_SIZE) return true
        }
  }

  private put(place: number, destination: Destination | undefined): void {
    const before = this.table[place]
    if (before === destination) return
    if (before) before.remembered--
    if (destination) destination.remembered++
    this.table[place] = destination
  }
}

/** Those of the destinations that take places: not one that never had a weight. */
function walksOf(destinations: readonly Destination[]): Walk[] {
  const divisor = greatestCommonDivisor(destinations.map(({ lastWeight }) => lastWeight))
  const greatest = destinations.reduce((most, { lastWeight }) => Math.max(most, lastWeight), 0)
  const bits = 32 - Math.clz32(greatest / divisor)
  const shift = Math.max(0, bits - TURN_BITS)
  return destinations
    .filter(({ lastWeight }) => lastWeight > 0)
    .map((destination) => {
      const self = hashed(destination.addressBe, destination.portBe)
      return {
        destination,
        place: firstHash.hashModulo(self, TABLE_SIZE),
        step: secondHash.hashModulo(self, TABLE_SIZE - 1) + 1,
        turn: (destination.lastWeight / divisor) >> shift || 1,
      }
    })
}

export const mh: SchedulerKind = {
  name: 'mh',
  create: (service) => new MaglevHashing(service),
}
