/** Commands in parts: packets come between, and the reply is the same. */
import t from 'tap'
import type { Command, Reply } from '../../src/core/commands.js'
import { CounterRegion } from '../../src/core/counters.js'
import { joinParts } from '../../src/core/parts.js'
import { Cost, WORK_PER_PART } from '../../src/core/work.js'
import { tcpPacket } from '../support/packets.js'
import { Harness, tcpService, VIP } from './harness.js'

/** Carries a command out, with something done between the parts. */
function inParts<C extends Command>(h: Harness, command: C, between = (): void => {}) {
  const parts: Reply<C>[] = []
  for (const generator = h.director.carryOut(command); ; between()) {
    const { value, done } = generator.next()
    parts.push(value as Reply<C>)
    if (done) return { parts, reply: joinParts(command.op, parts) }
  }
}

const destination = (i: number): string => `10.0.0.${2 + (i % 200)}:${8000 + Math.floor(i / 200)}`

/** Services by address and by mark of 0 to 3 destinations, and one of many. */
function withServices(): Harness {
  const h = new Harness({ counters: new ArrayBuffer(CounterRegion.bytesFor(20_000)) })
  for (let i = 0; i < 400; i++) {
    const service = i % 2 === 0 ? tcpService(1 + i) : ({ fwmark: 1 + i, family: 4 } as const)
    h.addService(service)
    for (let k = 0; k < i % 4; k++) h.addDestination(service, destination(i + k))
  }
  h.addService(tcpService())
  for (let i = 0; i < 500; i++) h.addDestination(tcpService(), destination(i))
  return h
}

const syn = (i: number) =>
  tcpPacket({ from: `198.51.100.7:${1024 + i}`, to: `${VIP}:80`, flags: 'S' })

t.test('a listing', (t) => {
  const h = withServices()
  const whole = h.execute({ op: 'list-services' })
  t.equal(whole.services.length, 401)
  t.equal(whole.total, 401)
  const { parts, reply } = inParts(h, { op: 'list-services' })
  t.strictSame(reply, whole)
  const sizes = parts.map(({ services }) =>
    services.reduce((sum, service) => sum + 1 + service.destinations.length, 0),
  )
  // The service that a part goes on with is named once more.
  t.ok(Math.max(...sizes) <= WORK_PER_PART / Cost.describe + 2, sizes.join())
  for (const page of [
    { op: 'list-services', from: 100, limit: 150 },
    { op: 'list-services', from: 399, limit: 64 },
    { op: 'list-services', from: 401 },
    { op: 'list-services', service: tcpService() },
    { op: 'list-services', service: tcpService(), from: 1 },
  ] as const)
    t.strictSame(inParts(h, page).reply, h.execute(page), JSON.stringify(page))
  t.strictSame(
    h.execute({ op: 'list-services', from: 100, limit: 150 }).services,
    whole.services.slice(100, 250),
  )
  let sent = 0
  const during = inParts(h, { op: 'list-services' }, () => {
    h.advance(0.01)
    t.equal(h.send(syn(sent++)).verdict, 'forward')
  })
  t.equal(during.reply.services.length, 401)
  t.ok(sent >= 20, `${sent} packets meanwhile`)
  t.end()
})

t.test('what has to come to the director', (t) => {
  const h = withServices()
  h.execute({ op: 'set-marks', rules: Array.from({ length: 600 }, (_, i) => ({ mark: 1 + i })) })
  const whole = h.execute({ op: 'get-steering' })
  t.equal(whole.virtual.length, 201)
  t.equal(whole.marks.length, 200, 'those that services have')
  t.equal(new Set(whole.replies.map((one) => JSON.stringify(one))).size, whole.replies.length)
  const { parts, reply } = inParts(h, { op: 'get-steering' })
  t.strictSame(reply, whole)
  // The last of a part may be a destination that replies by three protocols.
  const most = WORK_PER_PART / Cost.name + 3
  for (const { virtual, replies, marks } of parts)
    t.ok(virtual.length + replies.length + marks.length <= most)
  t.ok(parts.at(-1)!.marks.length < 200, 'the rules of marks are in parts, too')
  t.end()
})

t.test('counters of all begin again', (t) => {
  const h = withServices()
  for (let i = 0; i < 600; i++) h.send(syn(i))
  t.ok(inParts(h, { op: 'zero' }).parts.length > 1)
  const { services } = h.execute({ op: 'list-services' })
  for (const { counters, destinations } of services)
    for (const { inPackets } of [counters, ...destinations.map((one) => one.counters)])
      if (inPackets !== 0) t.fail('not from 0')
  t.equal(h.execute({ op: 'get-counters' }).total.inPackets, 0)
  t.end()
})

t.test('all services are removed', (t) => {
  const h = withServices()
  h.send(syn(1))
  let last = 0
  const verdicts = new Set<string>()
  const { parts, reply } = inParts(h, { op: 'flush' }, () => {
    verdicts.add(h.send(syn(2 + last++)).verdict)
    h.director.table.check()
  })
  t.equal(reply, null)
  t.ok(parts.length > 5)
  t.ok(verdicts.has('decline'), 'packets came when the service was gone')
  t.strictSame(h.execute({ op: 'list-services' }).services, [])
  t.strictSame(h.execute({ op: 'get-steering' }).virtual, [])
  h.addService(tcpService())
  h.addDestination(tcpService(), destination(0))
  t.equal(h.send(syn(5000)).verdict, 'forward', 'and come again')
  t.end()
})

t.test('templates of a persistence engine', (t) => {
  const part = (connection: number) => [{ connection, engine: 'sip', data: `call ${connection}` }]
  const joined = joinParts<{ op: 'list-engine-templates' }>('list-engine-templates', [
    part(1),
    [],
    part(2),
  ])
  t.strictSame(joined, [...part(1), ...part(2)])
  t.end()
})

t.test('what is refused is refused with the first part', (t) => {
  const h = withServices()
  for (const op of ['list-services', 'zero', 'delete-service'] as const)
    t.throws(() => inParts(h, { op, service: tcpService(9999) }), { code: 'ESRCH' })
  t.strictSame(inParts(h, { op: 'get-timeouts' }).parts, [h.execute({ op: 'get-timeouts' })])
  t.end()
})
