/** What it costs to grow: services, destinations, connections. */
import { inMemoryClaims, inMemoryPlots, measureInMemory } from '../growth/in-memory.js'
import { measureOnWire, onWireClaims, onWirePlots } from '../growth/on-wire.js'
import { isRoot } from '../suite/runner.js'
import type { Part } from '../suite/measurement.js'

export const growth: Part = {
  name: 'growth',
  title: 'What it costs to grow',
  description:
    'The same packets while there are more and more services, destinations and connections. In memory nothing ' +
    'but the director is measured. On the wire there is a director for each number of services in the testbed of ' +
    'the part wire, masquerading between AF_XDP sockets, beside iptables with a DNAT rule for each service and ' +
    'nftables with a map of them; the service that has the traffic stands in the middle of the others, and ' +
    'connections are gone after a second. Throughput is the highest rate with no more than 0.5 % lost. That uvs ' +
    'carries the same with any number of services is told from what it carries when saturated, in many short trials.',
  needsRoot: false,
  seconds: 200,
  quickSeconds: 25,
  leastSeconds: 110,
  claims: [...onWireClaims, ...inMemoryClaims],
  plots: [...onWirePlots, ...inMemoryPlots],
  async run(context) {
    await measureInMemory(context, 0.2)
    if (isRoot()) await measureOnWire(context, 0.65)
    else context.note('What needs interfaces, and so root, was left out.')
  },
}
