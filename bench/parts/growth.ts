import { inMemoryClaims, inMemoryPlots, measureInMemory } from '../growth/in-memory.js'
import type { Part } from '../suite/measurement.js'

export const growth: Part = {
  name: 'growth',
  title: 'What it costs to grow',
  description:
    'The same packets while there are more and more services, destinations and connections: in memory, where ' +
    'nothing but the director is measured.',
  needsRoot: false,
  seconds: 120,
  claims: inMemoryClaims,
  plots: inMemoryPlots,
  async run(context) {
    await measureInMemory(context, 1)
  },
}
