// What each scheduler promises, while servers are added, edited, overloaded and removed at random.
import fc from '../../support/properties.js'
import t from 'tap'
import type { DestinationStatus } from '../../../src/core/commands.js'
import { schedulers } from '../../../src/core/schedulers/index.js'
import { Harness } from '../harness.js'
import { choice, closed, end, service, withFlags } from './support.js'

type Step =
  | { do: 'put'; n: number; weight: number; upper: number }
  | { do: 'remove'; n: number }
  | { do: 'connect'; count: number; client: number }
  | { do: 'close'; which: number }

const server = fc.integer({ min: 1, max: 6 })
const weight = fc.oneof(
  fc.constantFrom(0, 1, 1, 2, 3),
  fc.integer({ min: 0, max: 200 }),
  fc.constantFrom(65535, 0x7fffffff),
)
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      do: fc.constant('put' as const),
      n: server,
      weight,
      upper: fc.constantFrom(0, 0, 0, 2, 5),
    }),
    fc.record({ do: fc.constant('remove' as const), n: server }),
    fc.record({
      do: fc.constant('connect' as const),
      count: fc.integer({ min: 1, max: 8 }),
      client: fc.integer({ min: 2, max: 20 }),
    }),
    fc.record({ do: fc.constant('close' as const), which: fc.nat(50) }),
  ),
  { minLength: 5, maxLength: 40 },
)

/** A choice that was made, with the service's destinations as they were before it. */
interface Choice {
  client: number
  /** Undefined when nobody was chosen. */
  chosen: DestinationStatus | undefined
  destinations: DestinationStatus[]
}

/** Walks through the steps, and asks `holds` about every choice. */
function everyChoice(scheduler: string, flags: string[], holds: (choice: Choice) => boolean): void {
  fc.assert(
    fc.property(steps, (steps) => {
      const h = new Harness()
      h.addService(service, { scheduler, schedulerFlags: flags })
      const there = new Set<number>()
      const ports: number[] = []
      let port = 1024
      for (const step of steps) {
        if (step.do === 'put') {
          const options = { weight: step.weight, upperThreshold: step.upper }
          if (there.has(step.n)) h.editDestination(service, end(step.n), options)
          else h.addDestination(service, end(step.n), options)
          there.add(step.n)
        } else if (step.do === 'remove') {
          if (there.delete(step.n)) h.deleteDestination(service, end(step.n))
        } else if (step.do === 'close') {
          const [gone] = ports.splice(step.which % (ports.length + 1), 1)
          if (gone !== undefined) closed(h, gone)
        } else
          for (let i = 0; i < step.count; i++) {
            const { destinations } = h.service(service)
            if (step.client === 9) ports.push(port)
            const where = choice(h, `198.51.100.${step.client}:${port++}`)
            const chosen = destinations.find(({ address }) => address === `10.0.0.${where}`)
            if (where !== '-' && !chosen) return false
            if (!holds({ client: step.client, chosen, destinations })) return false
          }
      }
      return true
    }),
    { numRuns: 40 },
  )
}

const isUsable = ({ weight, overloaded }: DestinationStatus): boolean => weight > 0 && !overloaded
const overhead = (d: DestinationStatus): number => d.activeConnections * 256 + d.inactiveConnections
/** Of `load / weight`, exact. */
const isLess = (a: number, aWeight: number, b: number, bWeight: number): boolean =>
  BigInt(a) * BigInt(bWeight) < BigInt(b) * BigInt(aWeight)

/** Those that could have been chosen, in the order of the list. */
const usable = ({ destinations }: Choice): DestinationStatus[] => destinations.filter(isUsable)

t.test('whoever is chosen takes connections', (t) => {
  for (const scheduler of schedulers.keys())
    everyChoice(scheduler, [], ({ chosen }) =>
      // What lblc has given an address to keeps it, overloaded or not.
      scheduler === 'lblc' ? !chosen || chosen.weight > 0 : !chosen || isUsable(chosen),
    )
  t.end()
})

t.test('somebody is chosen if anybody takes connections', (t) => {
  for (const scheduler of ['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'sed', 'nq', 'fo', 'twos'])
    everyChoice(scheduler, [], (choice) => !!choice.chosen || usable(choice).length === 0)
  everyChoice('ovf', [], (choice) => {
    const hasRoom = usable(choice).some((d) => d.activeConnections <= d.weight)
    return !!choice.chosen === hasRoom
  })
  // All places are looked at, those of servers that fit into the table.
  everyChoice('mh', ['mh-fallback'], (choice) => {
    const share = usable(choice).some((d) => d.weight > 0)
    return !!choice.chosen === share
  })
  t.end()
})

t.test('the least is chosen, the first of the list among equals', (t) => {
  /** Whether nobody before the chosen is as good, and nobody behind it is better. */
  const isFirstBest = (
    choice: Choice,
    isBetter: (a: DestinationStatus, b: DestinationStatus) => boolean,
    candidates = usable(choice),
  ): boolean => {
    const { chosen } = choice
    if (!chosen) return candidates.length === 0
    const at = candidates.indexOf(chosen)
    return candidates.every((d, i) => (i < at ? isBetter(chosen, d) : !isBetter(d, chosen)))
  }
  everyChoice('lc', [], (choice) => isFirstBest(choice, (a, b) => overhead(a) < overhead(b)))
  everyChoice('wlc', [], (choice) =>
    isFirstBest(choice, (a, b) => isLess(overhead(a), a.weight, overhead(b), b.weight)),
  )
  const isSooner = (a: DestinationStatus, b: DestinationStatus): boolean =>
    isLess(a.activeConnections + 1, a.weight, b.activeConnections + 1, b.weight)
  everyChoice('sed', [], (choice) => isFirstBest(choice, isSooner))
  everyChoice('nq', [], (choice) => {
    const idle = usable(choice).find(({ activeConnections }) => activeConnections === 0)
    return idle ? choice.chosen === idle : isFirstBest(choice, isSooner)
  })
  everyChoice('fo', [], (choice) => isFirstBest(choice, (a, b) => a.weight > b.weight))
  everyChoice('ovf', [], (choice) =>
    isFirstBest(
      choice,
      (a, b) => a.weight > b.weight,
      usable(choice).filter((d) => d.activeConnections <= d.weight),
    ),
  )
  t.end()
})

t.test('hashing: a client’s server depends on nothing but the client and the list', (t) => {
  for (const scheduler of ['sh', 'mh', 'dh'])
    for (const flags of scheduler === 'dh' ? [[]] : [[], [`${scheduler}-fallback`]]) {
      const seen = new Map<string, string | undefined>()
      everyChoice(scheduler, flags, ({ client, chosen, destinations }) => {
        // With mh also the weight that a server had before 0 counts, which is not told.
        if (scheduler === 'mh' && destinations.some(({ weight }) => weight === 0)) return true
        const list = destinations.map((d) => `${d.address} ${d.weight} ${d.overloaded}`)
        const key = [client, ...list].join()
        if (!seen.has(key)) seen.set(key, chosen?.address)
        return seen.get(key) === chosen?.address
      })
      t.ok(seen.size > 50)
    }
  t.end()
})

const weights = fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1, maxLength: 6 })

/** How often each of the servers is chosen in so many connections. */
function counts(h: Harness, servers: number, connections: number): number[] {
  const counts = new Array<number>(servers).fill(0)
  for (let i = 0; i < connections; i++) {
    const where = choice(h, `198.51.100.9:${1024 + i}`)
    if (where !== '-') counts[Number(where) - 1]!++
  }
  return counts
}

t.test('rr: numbers differ by one at most; wrr: in a cycle they are as the weights', (t) => {
  fc.assert(
    fc.property(weights, fc.integer({ min: 1, max: 200 }), (weights, connections) => {
      const rr = counts(withFlags('rr', [], ...weights), weights.length, connections).filter(
        (_, i) => weights[i]! > 0,
      )
      return rr.length === 0 || Math.max(...rr) - Math.min(...rr) <= 1
    }),
    { numRuns: 30 },
  )
  const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))
  fc.assert(
    fc.property(weights, fc.integer({ min: 1, max: 3 }), (weights, cycles) => {
      const divisor = weights.reduce(gcd, 0) || 1
      const cycle = weights.reduce((sum, weight) => sum + weight / divisor, 0)
      const got = counts(withFlags('wrr', [], ...weights), weights.length, cycle * cycles)
      return got.every((count, i) => count === (weights[i]! / divisor) * cycles)
    }),
    { numRuns: 30 },
  )
  t.end()
})

t.test('wlc: numbers settle as the weights do', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 }),
      (weights) => {
        const connections = 200
        const got = counts(withFlags('wlc', [], ...weights), weights.length, connections)
        const sum = weights.reduce((a, b) => a + b)
        return got.every(
          (count, i) => Math.abs(count - (connections * weights[i]!) / sum) <= weights.length,
        )
      },
    ),
    { numRuns: 30 },
  )
  t.end()
})
