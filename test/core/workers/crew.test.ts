// A crew of directors does what one director does, whichever of them gets a packet: the same packets leave, in the
// same order, and the same is listed.
import t from 'tap'
import fc from '../../support/properties.js'
import type { Command } from '../../../src/core/commands.js'
import {
  icmpPacket,
  ipipPacket,
  ipv4Packet,
  IpProtocol,
  tcpPacket,
  udpPacket,
} from '../../support/packets.js'
import { destinationOptions, serviceOptions, VIP } from '../harness.js'
import { CrewHarness } from './crew-harness.js'
import { begin, client, PORTS, server, services, VIRTUAL, web } from './crew-services.js'

/** The type of service of the director's own ICMP errors. */
const PRECEDENCE_OF_ERRORS = 0xc0

type Step =
  | { kind: 'request'; client: number; port: number; service: number; flags: string; at: number }
  | { kind: 'reply'; client: number; port: number; server: number; service: number; at: number }
  | { kind: 'error'; client: number; port: number; server: number; side: number; at: number }
  | { kind: 'fragment'; client: number; server: number; at: number }
  | { kind: 'command'; command: Command }
  | { kind: 'wait'; seconds: number }

const small = (max: number) => fc.nat({ max })

const request = fc.record({
  kind: fc.constant('request' as const),
  client: small(7),
  port: small(3),
  service: small(3),
  flags: fc.constantFrom('S', 'A', 'FA', 'R'),
  at: small(100),
})
const reply = fc.record({
  kind: fc.constant('reply' as const),
  client: small(7),
  port: small(3),
  server: small(3),
  service: small(3),
  at: small(100),
})
const error = fc.record({
  kind: fc.constant('error' as const),
  client: small(7),
  port: small(3),
  server: small(3),
  side: small(1),
  at: small(100),
})
const fragment = fc.record({
  kind: fc.constant('fragment' as const),
  client: small(7),
  server: small(3),
  at: small(100),
})
const command = fc
  .tuple(small(3), small(3), small(4), small(3), fc.constantFrom('add', 'edit', 'delete', 'drop'))
  .map(([service, number, weight, threshold, what]): Step => {
    const destination = { address: server(number), port: PORTS[service]! }
    const options = destinationOptions({
      weight,
      upperThreshold: threshold,
      forwarding: number === 3 ? 'direct-route' : 'masquerade',
    })
    const key = services[service]!
    const command: Command =
      what === 'add'
        ? { op: 'add-destination', service: key, destination, options }
        : what === 'edit'
          ? { op: 'edit-destination', service: key, destination, options }
          : what === 'delete'
            ? { op: 'delete-destination', service: key, destination }
            : { op: 'set-setting', name: 'expire_nodest_conn', value: String(number & 1) }
    return { kind: 'command', command }
  })
const wait = fc.constantFrom(1, 5, 70, 400).map((seconds): Step => ({ kind: 'wait', seconds }))
const steps = fc.array(
  fc.oneof(
    { arbitrary: request, weight: 12 },
    { arbitrary: reply, weight: 6 },
    { arbitrary: error, weight: 2 },
    { arbitrary: fragment, weight: 1 },
    { arbitrary: command, weight: 2 },
    { arbitrary: wait, weight: 1 },
  ),
  { minLength: 40, maxLength: 160 },
)
const scheduler = fc.constantFrom('rr', 'wrr', 'wlc', 'lc', 'sed', 'nq', 'fo', 'ovf', 'sh', 'mh')

/** @returns the step's packet */
function packetOf(step: Exclude<Step, { kind: 'command' | 'wait' }>): Uint8Array {
  const from = `${client(step.client)}:${1000 + ('port' in step ? step.port : 0)}`
  switch (step.kind) {
    case 'request': {
      const to = `${VIRTUAL[step.service]!}:${PORTS[step.service]!}`
      return step.service === 1
        ? udpPacket({ from, to })
        : tcpPacket({ from, to, flags: step.flags })
    }
    case 'reply': {
      const ends = { from: `${server(step.server)}:${PORTS[step.service]!}`, to: from }
      return step.service === 1 ? udpPacket(ends) : tcpPacket({ ...ends, flags: 'SA' })
    }
    case 'error': {
      // About a request, from a router before the real server; or about a reply, from one before the client.
      const [source, destination, quoted] =
        step.side === 0
          ? ['10.0.0.99', client(step.client), { from, to: `${server(step.server)}:53` }]
          : ['198.51.100.99', VIP, { from: `${VIP}:53`, to: from }]
      const payload = udpPacket(quoted)
      return icmpPacket({ from: source, to: destination, type: 3, code: 3, payload })
    }
    case 'fragment':
      return ipv4Packet(
        {
          source: client(step.client),
          destination: VIP,
          protocol: IpProtocol.udp,
          moreFragments: true,
          dontFragment: false,
        },
        new Uint8Array(16),
      )
  }
}

function attempt(crew: CrewHarness, command: Command): string {
  try {
    crew.execute(command)
    return 'done'
  } catch (error) {
    return (error as Error).message
  }
}

t.test('a crew is one director, whichever of its members a packet comes to', async () => {
  fc.assert(
    fc.property(
      fc.constantFrom(2, 3, 5),
      scheduler,
      fc.boolean(),
      steps,
      (workers, name, persistent, steps) => {
        const one = new CrewHarness({ workers: 1 })
        const crew = new CrewHarness({ workers })
        for (const harness of [one, crew])
          begin(harness, name, (service) => persistent && service > 0)
        for (const step of steps) {
          if (step.kind === 'command') {
            const expected = attempt(one, step.command)
            const answer = attempt(crew, step.command)
            if (answer !== expected) throw new Error(`${answer} and not ${expected}`)
          } else if (step.kind === 'wait') {
            // Who is told of fragments that were given up is told by each worker in its time.
            const [expected, sent] = [one, crew].map((harness) => {
              harness.advance(step.seconds)
              return harness.ports.reduce((sum, port) => sum + port.takeTransmitted().length, 0)
            })
            if (sent !== expected) throw new Error(`${sent} and not ${expected} sent in time`)
          } else {
            const packet = packetOf(step)
            const expected = comparable(one.send(0, packet))
            const sent = comparable(crew.send(step.at % workers, packet))
            if (sent !== expected)
              throw new Error(`${JSON.stringify(step)}: the crew sends something else`)
          }
        }
        for (const op of ['list-services', 'get-counters'] as const) {
          const expected = JSON.stringify(withoutTableSize(one.execute({ op })))
          const listed = JSON.stringify(withoutTableSize(crew.execute({ op })))
          if (listed !== expected) throw new Error(`${op}: ${listed} and not ${expected}`)
        }
        if (crew.connections().join('\n') !== one.connections().join('\n'))
          throw new Error(
            `${crew.connections().join('\n')}\nand not\n${one.connections().join('\n')}`,
          )
      },
    ),
    { numRuns: 40, endOnFailure: true },
  )
})

/** Each director numbers the errors that it sends by itself: without their identification, and the checksum over it. */
function comparable(packets: Uint8Array[]): string {
  for (const packet of packets)
    if (packet[9] === IpProtocol.icmp && packet[1] === PRECEDENCE_OF_ERRORS)
      for (const at of [4, 5, 10, 11]) packet[at] = 0
  return packets.map((packet) => Buffer.from(packet).toString('hex')).join('\n')
}

/** Rates are rounded by each director, and its room is its own. */
function withoutTableSize(reply: object): unknown {
  return JSON.parse(
    JSON.stringify(reply, (key, value) => (key === 'tableSize' || key === 'rates' ? 0 : value)),
  )
}

t.test('round robin goes round in common', async (t) => {
  const crew = new CrewHarness({ workers: 3 })
  begin(crew, 'rr')
  for (let i = 0; i < 30; i++)
    crew.send(0, tcpPacket({ from: `${client(i)}:1000`, to: `${VIP}:80`, flags: 'S' }))
  const [listed] = crew.execute({ op: 'list-services', service: web }).services
  t.same(
    listed!.destinations.map(({ activeConnections }) => activeConnections),
    [10, 10, 10],
  )
  t.ok(crew.directors.filter(({ table }) => table.count > 0).length > 1, 'several had connections')
})

t.test('no frame is lost between the pools', async (t) => {
  const crew = new CrewHarness({ workers: 3, frames: 96 })
  begin(crew, 'rr')
  for (let i = 0; i < 5000; i++) {
    const packet = tcpPacket({ from: `${client(i % 40)}:1000`, to: `${VIP}:80`, flags: 'S' })
    crew.ports[i % 3]!.inject(packet)
    if (i % 20 === 0) crew.settle()
  }
  crew.settle()
  t.equal(crew.available, crew.frames)
  for (const pool of crew.pools) t.equal(pool.available, 32, 'each has as many as at first')
})

t.test('errors about a tunnel go to the owner of the connection inside', async (t) => {
  const crew = new CrewHarness({ workers: 4 })
  const service = { protocol: 'udp', address: VIP, port: 53 } as const
  crew.execute({ op: 'add-service', service, options: serviceOptions() })
  crew.execute({
    op: 'add-destination',
    service,
    destination: { address: server(1), port: 53 },
    options: destinationOptions({ forwarding: 'tunnel' }),
  })
  for (let n = 0; n < 8; n++) {
    const packet = udpPacket({ from: `${client(n)}:1000`, to: `${VIP}:53` })
    t.equal(crew.send(n % 4, packet).length, 1, 'a tunneled packet leaves')
    const outer = ipipPacket({ source: '10.0.0.1', destination: server(1) }, packet)
    const error = icmpPacket({
      from: '10.0.0.99',
      to: '10.0.0.1',
      type: 3,
      code: 1,
      payload: outer,
    })
    const [told] = crew.send((n + 1) % 4, error)
    t.equal(told?.[9], IpProtocol.icmp)
    t.equal(told?.[19], 10 + n, 'the client is told')
  }
})

t.test(
  'persistence by networks that are larger than those of the workers is refused',
  async (t) => {
    const options = serviceOptions({ persistentTimeoutSeconds: 300, persistentPrefixLength: 24 })
    t.throws(
      () => new CrewHarness({ workers: 2 }).execute({ op: 'add-service', service: web, options }),
      { code: 'ENOTSUP', message: /--client-prefix 24/ },
    )
    const crew = new CrewHarness({ workers: 2, clientPrefixLength: 24 })
    crew.execute({ op: 'add-service', service: web, options })
    for (let n = 0; n < 2; n++)
      crew.execute({
        op: 'add-destination',
        service: web,
        destination: { address: server(n), port: 80 },
        options: destinationOptions(),
      })
    for (let n = 0; n < 20; n++)
      crew.send(n % 2, tcpPacket({ from: `${client(n)}:1000`, to: `${VIP}:80`, flags: 'S' }))
    t.same(
      crew
        .execute({ op: 'list-services' })
        .services[0]!.destinations.map(({ counters }) => counters.connections)
        .sort((a, b) => a - b),
      [0, 20],
      'the whole network is at one server',
    )
    t.equal(crew.connections().filter((text) => text.includes('"isTemplate":true')).length, 1)
  },
)
