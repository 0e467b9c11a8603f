import fc from '../support/properties.js'
import t from 'tap'
import type { Command, ForwardingMethod, TunnelOptions } from '../../src/core/commands.js'
import { applyRules, difference, listPresent, RulesRefused } from '../../src/control/reconcile.js'
import { Names } from '../../src/control/ipvsadm/names.js'
import { parseRules, type Rules } from '../../src/control/rules.js'
import { tcpPacket } from '../support/packets.js'
import { InProcess } from './support.js'

const options = fc.record({
  scheduler: fc.constantFrom('rr', 'wrr', 'lc', 'wlc'),
  schedulerFlags: fc.subarray(['flag-1', 'flag-2', 'flag-3']),
  persistentTimeoutSeconds: fc.constantFrom(0, 60, 360),
  persistentPrefixLength: fc.constantFrom(32, 24),
  onePacket: fc.constant(false),
})
const destinations = fc.uniqueArray(
  fc.record({
    destination: fc.record({
      address: fc.constantFrom('10.9.0.1', '10.9.0.2', '10.9.0.3'),
      port: fc.constantFrom(0, 80, 8080),
    }),
    options: fc
      .record({
        forwarding: fc.constantFrom<ForwardingMethod>('masquerade', 'tunnel', 'direct-route'),
        weight: fc.integer({ min: 0, max: 3 }),
        upperThreshold: fc.constantFrom(5, 6),
        lowerThreshold: fc.constantFrom(0, 5),
        tunnel: fc.constantFrom<TunnelOptions>(
          { type: 'gre', port: 0, checksum: 'none' },
          { type: 'gue', port: 6080, checksum: 'full' },
        ),
      })
      // Only those that are tunneled and not by IPIP name a tunnel.
      .map(({ tunnel, ...options }) =>
        options.forwarding === 'tunnel' && options.weight > 1 ? { ...options, tunnel } : options,
      ),
  }),
  // Port 0 is the service's port, 80 here.
  { selector: ({ destination }) => `${destination.address}:${destination.port || 80}` },
)
const services = fc.uniqueArray(
  fc.record({
    service: fc.constantFrom(
      ...[1, 2, 3].map((n) => ({ protocol: 'tcp' as const, address: `10.0.0.${n}`, port: 80 })),
      { protocol: 'udp' as const, address: '10.0.0.1', port: 80 },
    ),
    options,
    destinations,
  }),
  { selector: ({ service }) => JSON.stringify(service) },
)
const rules: fc.Arbitrary<Rules> = fc.record(
  { services, timeouts: fc.record({ tcp: fc.nat(99), tcpFin: fc.nat(99), udp: fc.nat(99) }) },
  { requiredKeys: ['services'] },
)

const executeIn = (director: InProcess) => (commands: Command[]) => director.execute(commands)

t.test('whatever a director has, applying rules leads to what they want', async (t) => {
  await fc.assert(
    fc.asyncProperty(rules, rules, async (first, second) => {
      const director = new InProcess()
      const execute = executeIn(director)
      await applyRules(execute, first)
      await applyRules(execute, second)
      t.strictSame(difference(await listPresent(execute), { services: second.services }), [])
      t.equal((await listPresent(execute)).length, second.services.length)
    }),
    { numRuns: 200 },
  )
})

t.test('what is right already is not touched', async (t) => {
  await fc.assert(
    fc.asyncProperty(rules, async (wanted) => {
      const execute = executeIn(new InProcess())
      await applyRules(execute, wanted)
      t.equal(await applyRules(execute, { services: wanted.services }), 0)
    }),
    { numRuns: 50 },
  )
})

const web = { protocol: 'tcp', address: '192.0.2.1', port: 80 } as const
const plain = {
  scheduler: 'rr',
  schedulerFlags: [],
  persistentTimeoutSeconds: 0,
  persistentPrefixLength: 32,
  onePacket: false,
}
const server = (last: number, weight = 1) => ({
  destination: { address: `10.0.0.${last}`, port: 8080 },
  options: {
    forwarding: 'masquerade' as const,
    weight,
    upperThreshold: 0,
    lowerThreshold: 0,
  },
})

t.test('connections survive a reload', async (t) => {
  const director = new InProcess()
  const execute = executeIn(director)
  await applyRules(execute, {
    services: [{ service: web, options: plain, destinations: [server(2)] }],
  })
  const syn = tcpPacket({ from: '198.51.100.7:40000', to: '192.0.2.1:80', flags: 'S' })
  t.equal(director.harness.send(syn).verdict, 'forward')
  await applyRules(execute, {
    services: [
      {
        service: web,
        options: { ...plain, scheduler: 'wrr' },
        destinations: [server(2, 0), server(3, 5)],
      },
    ],
  })
  const [status] = await listPresent(execute)
  t.equal(status?.options.scheduler, 'wrr')
  t.equal(status?.counters.connections, 1)
  const kept = status?.destinations.find(({ address }) => address === '10.0.0.2')
  t.match(kept, { weight: 0, activeConnections: 1, counters: { connections: 1 } })
})

t.test('rules that are refused in part change nothing', async (t) => {
  const director = new InProcess()
  const execute = executeIn(director)
  await applyRules(execute, {
    services: [{ service: web, options: plain, destinations: [server(2), server(3), server(4)] }],
    timeouts: { tcp: 10, tcpFin: 20, udp: 30 },
  })
  const before = JSON.stringify(await listPresent(execute))
  const refused: Rules = {
    services: [
      {
        service: { ...web, port: 81 },
        options: plain,
        destinations: [server(9)],
      },
      { service: web, options: { ...plain, scheduler: 'wlc' }, destinations: [server(2, 9)] },
      {
        service: { ...web, port: 82 },
        options: { ...plain, scheduler: 'nosuch' },
        destinations: [],
      },
    ],
    timeouts: { tcp: 1, tcpFin: 1, udp: 1 },
  }
  await t.rejects(applyRules(execute, refused), {
    constructor: RulesRefused,
    message: /add-service tcp 192.0.2.1 82: .*nosuch.*nothing was changed/,
  })
  const text = '-A -t 192.0.2.1:80 -s rr\n\n-A -t 192.0.2.1:82 -s nosuch\n'
  await t.rejects(applyRules(execute, await parseRules(text, 'a.rules', new Names())), {
    message: /^a\.rules:3: add-service .*nosuch.*nothing was changed/,
  })
  t.equal(JSON.stringify(await listPresent(execute)), before)
  t.strictSame(await execute([{ op: 'get-timeouts' }]), [
    { reply: { tcp: 10, tcpFin: 20, udp: 30 } },
  ])
})
