// Workers carry out a command at different moments, and packets come meanwhile: each of a crew of directors goes
// through the same commands at its own pace. What must hold at the end, and what must never happen.
import t from 'tap'
import fc from '../../support/properties.js'
import type { Command, ConnectionStatus, ServiceStatus } from '../../../src/core/commands.js'
import type { Forgettable } from '../../../src/core/configuration.js'
import { JIFFIES_PER_SECOND } from '../../../src/port/clock.js'
import { IP_HEADROOM } from '../../../src/port/frame-pool.js'
import { tcpPacket, udpPacket } from '../../support/packets.js'
import { destinationOptions, serviceOptions, VIP } from '../harness.js'
import { CrewHarness } from './crew-harness.js'
import { begin, client, dns, PORTS, server, services, VIRTUAL } from './crew-services.js'

// On a machine that does much else.
t.setTimeout(180_000)

/** A crew whose members carry out commands one after the other, and forget destinations in the same order. */
class PacedCrew extends CrewHarness {
  private readonly log: (Command | Forgettable[])[] = []
  private readonly done = this.directors.map(() => 0)

  post(command: Command): void {
    this.log.push(command)
  }

  /** The worker's next command. */
  deliver(worker: number): void {
    const next = this.log[this.done[worker]!]
    if (next === undefined) return
    this.done[worker]!++
    const director = this.directors[worker]!
    if (Array.isArray(next)) return director.forget(next)
    try {
      director.execute(next)
    } catch (error) {
      if (!('code' in (error as object))) throw error
    }
  }

  round(worker: number): number {
    const received = this.planes[worker]!.round()
    const forgettable = this.directors[worker]!.takeForgettable()
    if (forgettable.length > 0) this.log.push(forgettable)
    return received
  }

  /** All have carried out everything, and no packet is under way. */
  catchUp(): void {
    for (let worker = 0; worker < this.directors.length; worker++)
      while (this.done[worker]! < this.log.length) this.deliver(worker)
    this.settle()
  }

  /** Connections and templates of each worker that belong to another. */
  misplaced(): string[] {
    return this.directors.flatMap((_, self) =>
      this.connectionsOf(self)
        .filter((one) => {
          const ends = { from: `${one.client}:1`, to: `${one.virtual}:${one.virtualPort}` }
          return this.ownerOf(tcpPacket({ ...ends, flags: 'A' }), self) !== self
        })
        .map((connection) => JSON.stringify(connection)),
    )
  }

  /** Whose a worker says that a packet is. */
  ownerOf(packet: Uint8Array, worker: number): number {
    const pool = this.pools[worker]!
    const frame = pool.take()
    pool.bytes.set(packet, frame + IP_HEADROOM)
    const owner = this.directors[worker]!.ownerOf(frame + IP_HEADROOM, packet.length, 0)
    pool.give(frame)
    return owner
  }

  /** A client that belongs to a worker. */
  clientOf(worker: number): string {
    for (let n = 0; ; n++) {
      const reply = tcpPacket({ from: '10.0.0.99:1', to: `${client(n)}:1` })
      if (this.ownerOf(reply, worker) === worker) return client(n)
    }
  }
}

const step = fc.oneof(
  {
    arbitrary: fc.record({
      do: fc.constant('packet' as const),
      isReply: fc.boolean(),
      client: fc.nat(7),
      port: fc.nat(2),
      service: fc.nat(3),
      server: fc.nat(2),
      flags: fc.constantFrom('S', 'A', 'FA', 'R'),
      at: fc.nat(4),
    }),
    weight: 10,
  },
  { arbitrary: fc.record({ do: fc.constant('round' as const), at: fc.nat(4) }), weight: 10 },
  { arbitrary: fc.record({ do: fc.constant('deliver' as const), at: fc.nat(4) }), weight: 6 },
  {
    arbitrary: fc.record({
      do: fc.constant('post' as const),
      what: fc.constantFrom('add', 'edit', 'delete', 'add-service', 'delete-service', 'schedule'),
      service: fc.nat(3),
      server: fc.nat(2),
      weight: fc.nat(3),
      scheduler: fc.constantFrom('rr', 'wrr', 'wlc', 'sh', 'mh', 'lblc', 'twos'),
    }),
    weight: 2,
  },
  { arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.nat(400) }), weight: 1 },
)

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

function commandOf(post: Step & { do: 'post' }): Command {
  const service = services[post.service]!
  const destination = { address: server(post.server), port: PORTS[post.service]! }
  const options = destinationOptions({ weight: post.weight })
  switch (post.what) {
    case 'add':
      return { op: 'add-destination', service, destination, options }
    case 'edit':
      return { op: 'edit-destination', service, destination, options }
    case 'delete':
      return { op: 'delete-destination', service, destination }
    case 'delete-service':
      return { op: 'delete-service', service }
    case 'add-service':
      return { op: 'add-service', service, options: serviceOptions({ scheduler: post.scheduler }) }
    default:
      return { op: 'edit-service', service, options: serviceOptions({ scheduler: post.scheduler }) }
  }
}

function packetOf(step: Step & { do: 'packet' }): Uint8Array {
  const from = `${client(step.client)}:${1000 + step.port}`
  const ends = step.isReply
    ? { from: `${server(step.server)}:${PORTS[step.service]}`, to: from }
    : { from, to: `${VIRTUAL[step.service]}:${PORTS[step.service]}` }
  return step.service === 1 ? udpPacket(ends) : tcpPacket({ ...ends, flags: step.flags })
}

t.test('commands reach workers at different moments, and packets come meanwhile', async () => {
  fc.assert(
    fc.property(
      fc.constantFrom(2, 3),
      fc.constantFrom('rr', 'wrr', 'wlc'),
      fc.array(step, { minLength: 60, maxLength: 300 }),
      (workers, scheduler, steps) => {
        const crew = new PacedCrew({ workers })
        begin(crew, scheduler)
        for (const step of steps)
          switch (step.do) {
            case 'packet':
              crew.ports[step.at % workers]!.inject(packetOf(step))
              break
            case 'round':
              crew.round(step.at % workers)
              break
            case 'deliver':
              crew.deliver(step.at % workers)
              break
            case 'post':
              crew.post(commandOf(step))
              break
            case 'wait':
              // A worker may be late with a command, but not by minutes.
              if (step.seconds > 1) crew.catchUp()
              crew.advance(step.seconds)
          }
        crew.catchUp()
        const misplaced = crew.misplaced()
        if (misplaced.length > 0) throw new Error(`of another worker: ${misplaced.join('\n')}`)
        // All connections end, and with them what is counted of them: nothing is counted twice or left over.
        crew.advance(3600)
        if (crew.connections().length > 0) throw new Error('a connection never ends')
        for (const { destinations } of crew.execute({ op: 'list-services' }).services)
          for (const one of destinations)
            if (one.activeConnections !== 0 || one.inactiveConnections !== 0)
              throw new Error(`${one.address}:${one.port} has connections that nobody has`)
        if (crew.available !== crew.frames) throw new Error('a frame is lost')
      },
    ),
    { numRuns: 150, endOnFailure: true },
  )
})

function serviceOf(virtual: string, scheduler = 'rr'): Command[] {
  const service = { protocol: 'tcp', address: virtual, port: 80 } as const
  return [
    { op: 'add-service', service, options: serviceOptions({ scheduler }) },
    ...[0, 1, 2].map((n): Command => ({
      op: 'add-destination',
      service,
      destination: { address: server(n), port: 80 },
      options: destinationOptions(),
    })),
  ]
}

/** The real servers that one worker's connections have gone to. */
function chosen(crew: CrewHarness, virtual: string): string[] {
  return crew
    .connections()
    .filter((text) => text.includes(`"virtual":"${virtual}"`))
    .map((text) => (JSON.parse(text) as { destination: string }).destination)
}

for (const ahead of [0, 1])
  void t.test(
    `requests to a service that only worker ${ahead} has as yet find their owner`,
    async (t) => {
      const crew = new PacedCrew({ workers: 2 })
      // The workers that their addresses would belong to are both among them.
      const virtuals = Array.from({ length: 8 }, (_, n) => `203.0.113.${1 + n}`)
      for (const command of virtuals.flatMap((virtual) => serviceOf(virtual))) crew.post(command)
      for (let i = 0; i < 4 * virtuals.length; i++) crew.deliver(ahead)
      const clients = [crew.clientOf(0), crew.clientOf(1)]
      for (const [i, from] of clients.entries())
        for (const virtual of virtuals)
          for (const at of [0, 1])
            crew.ports[at]!.inject(
              tcpPacket({ from: `${from}:${1000 + 2 * i + at}`, to: `${virtual}:80`, flags: 'S' }),
            )
      for (let i = 0; i < 10; i++) for (const worker of [0, 1]) crew.round(worker)
      crew.catchUp()
      t.same(crew.misplaced(), [])
      t.ok(crew.connectionsOf(ahead).length >= virtuals.length, 'its own clients are served')
      t.equal(crew.available, crew.frames)
    },
  )

t.test('packets of connections that outlive their service go to their owner', async (t) => {
  const [one, crew] = [new CrewHarness({ workers: 1 }), new PacedCrew({ workers: 3 })]
  for (const harness of [one, crew]) begin(harness, 'rr')
  const kinds = [0, 2, 3]
  const requests = (flags: string): Uint8Array[] =>
    kinds.flatMap((service) =>
      Array.from({ length: 8 }, (_, n) =>
        tcpPacket({
          from: `${client(n)}:1000`,
          to: `${VIRTUAL[service]}:${PORTS[service]}`,
          flags,
        }),
      ),
    )
  const send = (harness: CrewHarness, packets: Uint8Array[]): string[] =>
    packets.flatMap((packet, i) =>
      harness
        .send(i % harness.ports.length, packet)
        .map((sent) => Buffer.from(sent).toString('hex')),
    )
  t.same(send(crew, requests('S')), send(one, requests('S')))
  for (const harness of [one, crew]) harness.execute({ op: 'flush' })
  const sent = send(crew, requests('A'))
  t.equal(sent.length, requests('A').length, 'they are forwarded still')
  t.same(sent, send(one, requests('A')))
  for (const harness of [one, crew]) harness.advance(3600)
  // Nothing is left of them: their addresses are like any other, whose packets belong to the destination's worker.
  const owners = Array.from({ length: 32 }, (_, n) =>
    crew.ownerOf(tcpPacket({ from: `10.0.1.${n}:1`, to: `${VIP}:1000` }), 0),
  )
  t.equal(new Set(owners).size, 1)
})

t.test(
  'a place that a scheduler has left is not written to by those that still have it',
  async (t) => {
    const crew = new PacedCrew({ workers: 2 })
    const [old, young] = ['203.0.113.1', '203.0.113.2']
    for (const command of serviceOf(old)) crew.execute(command)
    const service = { protocol: 'tcp', address: old, port: 80 } as const
    crew.post({ op: 'delete-service', service })
    for (const command of serviceOf(young)) crew.post(command)
    for (let i = 0; i < 5; i++) crew.deliver(0)
    const ask = (worker: number, port: number, virtual: string): boolean =>
      crew.ports[worker]!.inject(
        tcpPacket({ from: `${crew.clientOf(worker)}:${port}`, to: `${virtual}:80`, flags: 'S' }),
      )
    for (const port of [1, 2]) ask(0, port, young)
    crew.round(0)
    // The other worker goes round among the old ones.
    ask(1, 1, old)
    crew.round(1)
    t.equal(chosen(crew, old).length, 1)
    crew.catchUp()
    ask(1, 1, young)
    crew.round(1)
    t.same(chosen(crew, young).sort(), [0, 1, 2].map(server), 'it has gone round once')
  },
)

t.test('a scheduler begins where it should, whichever worker makes it first', async (t) => {
  const crew = new PacedCrew({ workers: 2 })
  const [old, young] = ['203.0.113.1', '203.0.113.2']
  for (const command of serviceOf(old)) crew.execute(command)
  const begin = (from: string, to: string): Uint8Array[] =>
    crew.send(1, tcpPacket({ from, to: `${to}:80`, flags: 'S' }))
  begin(`${crew.clientOf(1)}:1`, old)
  begin(`${crew.clientOf(1)}:2`, old)
  crew.post({
    op: 'delete-service',
    service: { protocol: 'tcp', address: old, port: 80 },
  })
  for (const command of serviceOf(young, 'wrr')) crew.post(command)
  for (let i = 0; i < 5; i++) crew.deliver(1)
  for (let port = 1; port <= 3; port++) {
    crew.ports[1]!.inject(
      tcpPacket({ from: `${crew.clientOf(1)}:${port}`, to: `${young}:80`, flags: 'S' }),
    )
    crew.round(1)
  }
  crew.catchUp()
  for (let port = 1; port <= 3; port++) begin(`${crew.clientOf(0)}:${port}`, young)
  t.same(
    chosen(crew, young).sort(),
    [0, 0, 1, 1, 2, 2].map(server),
    'two rounds, one by each worker',
  )
})

/** A service with one UDP destination, whose connections end after 300 s. */
function beginSmall(crew: CrewHarness, upperThreshold = 0, lowerThreshold = 0): void {
  crew.execute({ op: 'add-service', service: dns, options: serviceOptions() })
  crew.execute({
    op: 'add-destination',
    service: dns,
    destination: { address: server(0), port: 53 },
    options: destinationOptions({ upperThreshold, lowerThreshold }),
  })
}

t.test('a connection ends while its packet is on the way between workers', async (t) => {
  const crew = new PacedCrew({ workers: 2 })
  beginSmall(crew)
  const request = udpPacket({ from: `${crew.clientOf(1)}:1000`, to: `${VIP}:53` })
  crew.send(1, request)
  crew.ports[0]!.inject(request)
  crew.round(0)
  crew.round(0)
  t.equal(crew.connectionsOf(1).length, 1)
  const packets = () => crew.execute({ op: 'list-services' }).services[0]!.counters
  const before = packets()
  crew.clock.advanceJiffies(400 * JIFFIES_PER_SECOND)
  crew.settle()
  t.equal(packets().connections, before.connections + 1, 'it begins another')
  t.equal(packets().inPackets, before.inPackets + 1)
  t.equal(crew.connectionsOf(1).length, 1)
  t.equal(crew.available, crew.frames)
})

t.test('the same request by both workers at once is one connection', async (t) => {
  for (const name of ['rr', 'wrr', 'wlc', 'sh', 'mh', 'lblc', 'twos'])
    for (const persistent of [false, true]) {
      const crew = new PacedCrew({ workers: 2 })
      begin(crew, name, () => persistent)
      for (let n = 0; n < 8; n++) {
        const first = tcpPacket({ from: `${client(n)}:1000`, to: `${VIP}:80`, flags: 'S' })
        for (const port of crew.ports) port.inject(first)
        for (const port of crew.ports)
          port.inject(tcpPacket({ from: `${client(n)}:1001`, to: `${VIP}:80`, flags: 'S' }))
      }
      for (let i = 0; i < 3; i++) for (const worker of [1, 0]) crew.round(worker)
      crew.settle()
      const connections = crew.connections().map((text) => JSON.parse(text) as ConnectionStatus)
      t.equal(connections.filter(({ isTemplate }) => !isTemplate).length, 16, name)
      t.equal(connections.filter(({ isTemplate }) => isTemplate).length, persistent ? 8 : 0)
      const servers = new Map(connections.map(({ client, destination }) => [client, destination]))
      if (persistent) t.ok(connections.every((one) => one.destination === servers.get(one.client)))
      t.same(crew.misplaced(), [])
    }
})

t.test('an upper threshold holds for the connections of both workers together', async (t) => {
  const crew = new PacedCrew({ workers: 2 })
  beginSmall(crew, 10, 6)
  const began = (): number => {
    const [{ destinations }] = crew.execute({ op: 'list-services' }).services as [ServiceStatus]
    return destinations[0]!.inactiveConnections + destinations[0]!.activeConnections
  }
  const ask = (port: number): void =>
    void crew.send(
      port & 1,
      udpPacket({ from: `${crew.clientOf((port >> 1) & 1)}:${port}`, to: `${VIP}:53` }),
    )
  for (let port = 0; port < 20; port++) ask(1000 + port)
  t.equal(began(), 10)
  t.same(
    crew.directors.map((_, worker) => crew.connectionsOf(worker).length > 0),
    [true, true],
  )
  crew.advance(400)
  t.equal(began(), 0)
  for (let port = 0; port < 20; port++) ask(2000 + port)
  t.equal(began(), 10, 'it takes connections again, and as many')
})
