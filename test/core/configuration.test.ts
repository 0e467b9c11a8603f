import t from 'tap'
import type { Command, ServiceKey } from '../../src/core/commands.js'
import { CounterRegion } from '../../src/core/counters.js'
import { tcpPacket } from '../support/packets.js'
import {
  destinationOptions,
  Harness,
  serviceOptions,
  tcpService,
  udpService,
  VIP,
} from './harness.js'

const service = tcpService()
const destination = { address: '10.0.0.2', port: 80 }

function configured(): Harness {
  const h = new Harness()
  h.addService(service)
  h.addDestination(service, '10.0.0.2:80')
  return h
}

t.test('what the kernel refuses is refused with its error, and nothing changes', (t) => {
  const other = tcpService(81)
  const options = serviceOptions()
  const real = destinationOptions()
  const add = (more: Partial<typeof real>): Command => ({
    op: 'add-destination',
    service,
    destination: { address: '10.0.0.3', port: 80 },
    options: { ...real, ...more },
  })
  const addService = (key: ServiceKey, more: Partial<typeof options> = {}): Command => ({
    op: 'add-service',
    service: key,
    options: { ...options, ...more },
  })
  const cases: [string, string, Command][] = [
    ['a service twice', 'EEXIST', addService(service)],
    ['an unknown scheduler', 'ENOENT', addService(other, { scheduler: 'wrong' })],
    ['an unknown persistence engine', 'ENOENT', addService(other, { persistenceEngine: 'nosuch' })],
    ['a prefix of 33', 'EINVAL', addService(other, { persistentPrefixLength: 33 })],
    ['a negative timeout', 'EINVAL', addService(other, { persistentTimeoutSeconds: -1 })],
    ['no address', 'EINVAL', addService({ protocol: 'tcp', address: 'x', port: 1 })],
    ['port 65536', 'EINVAL', addService({ protocol: 'tcp', address: VIP, port: 65536 })],
    ['mark 0', 'EINVAL', addService({ fwmark: 0, family: 4 })],
    ['editing an unknown service', 'ESRCH', { op: 'edit-service', service: other, options }],
    [
      'editing to an unknown scheduler',
      'ENOENT',
      { op: 'edit-service', service, options: { ...options, scheduler: 'x' } },
    ],
    ['deleting an unknown service', 'ESRCH', { op: 'delete-service', service: other }],
    ['zeroing an unknown service', 'ESRCH', { op: 'zero', service: other }],
    ['listing an unknown service', 'ESRCH', { op: 'list-services', service: other }],
    [
      'a destination twice',
      'EEXIST',
      { op: 'add-destination', service, destination, options: real },
    ],
    [
      'a destination of no service',
      'ESRCH',
      { op: 'add-destination', service: other, destination, options: real },
    ],
    [
      'editing an unknown destination',
      'ENOENT',
      { op: 'edit-destination', service, destination: { ...destination, port: 81 }, options: real },
    ],
    [
      'deleting an unknown destination',
      'ENOENT',
      { op: 'delete-destination', service, destination: { ...destination, port: 81 } },
    ],
    ['a negative weight', 'ERANGE', add({ weight: -1 })],
    ['a lower threshold above the upper', 'ERANGE', add({ lowerThreshold: 2, upperThreshold: 1 })],
    ['a lower threshold alone', 'ERANGE', add({ lowerThreshold: 2 })],
    [
      'a multicast destination',
      'EINVAL',
      {
        op: 'add-destination',
        service,
        destination: { address: '224.0.0.1', port: 1 },
        options: real,
      },
    ],
    [
      'a destination of zeros',
      'EINVAL',
      {
        op: 'add-destination',
        service,
        destination: { address: '0.0.0.0', port: 1 },
        options: real,
      },
    ],
    [
      'a mark rule with a bad prefix',
      'EINVAL',
      { op: 'set-marks', rules: [{ mark: 1 }, { mark: 1, source: '1.2.3.4/33' }] },
    ],
  ]
  for (const [name, code, command] of cases)
    t.test(name, (t) => {
      const h = configured()
      const before = h.execute({ op: 'list-services' })
      t.throws(() => h.execute(command), { name: 'IpvsError', code })
      t.strictSame(h.execute({ op: 'list-services' }), before)
      t.strictSame(h.execute({ op: 'list-marks' }), [])
      t.end()
    })
  t.end()
})

t.test('editing replaces every option', (t) => {
  const h = configured()
  h.editDestination(service, '10.0.0.2:80', {
    forwarding: 'tunnel',
    weight: 7,
    upperThreshold: 9,
    lowerThreshold: 3,
  })
  t.match(h.destination(service, '10.0.0.2:80'), {
    forwarding: 'tunnel',
    weight: 7,
    upperThreshold: 9,
    lowerThreshold: 3,
  })
  const options = serviceOptions({ scheduler: 'wlc', persistentTimeoutSeconds: 9 })
  h.execute({ op: 'edit-service', service, options })
  t.strictSame(h.service(service).options, options)
  t.equal(h.service(service).destinations.length, 1)
  t.end()
})

t.test('a destination on port 0 is another one than that on the service’s port', (t) => {
  const h = configured()
  h.addDestination(service, '10.0.0.2:0')
  t.strictSame(
    h.service(service).destinations.map(({ port }) => port),
    [0, 80],
  )
  h.deleteDestination(service, '10.0.0.2:0')
  t.equal(h.service(service).destinations.length, 1)
  t.end()
})

t.test('listings have the kernel’s order', (t) => {
  t.test('of destinations: the newest first', (t) => {
    const h = configured()
    for (const last of [5, 3, 4]) h.addDestination(service, `10.0.0.${last}:80`)
    const { destinations } = h.service(service)
    t.strictSame(
      destinations.map(({ address }) => address),
      ['10.0.0.4', '10.0.0.3', '10.0.0.5', '10.0.0.2'],
    )
    t.end()
  })
  t.test('of services: by bucket, then the newest first, marks last', (t) => {
    const h = new Harness()
    // protocol ^ last byte of the address ^ port >> 8 ^ port, modulo 256
    const keys: ServiceKey[] = [
      { fwmark: 2, family: 4 },
      { fwmark: 257, family: 4 },
      { fwmark: 1, family: 4 },
      { protocol: 'tcp', address: '192.0.2.1', port: 80 }, // 6 ^ 1 ^ 80 = 87
      { protocol: 'udp', address: '192.0.2.1', port: 80 }, // 17 ^ 1 ^ 80 = 64
      { protocol: 'tcp', address: '198.51.100.1', port: 80 }, // 87
      { protocol: 'tcp', address: '192.0.2.1', port: 443 }, // 6 ^ 1 ^ 1 ^ 187 = 189
    ]
    for (const key of keys) h.addService(key)
    const { services, total } = h.execute({ op: 'list-services' })
    t.equal(total, 7)
    t.strictSame(
      services.map((status) => keys.findIndex((key) => same(key, status.service))),
      [4, 5, 3, 6, 2, 1, 0],
    )
    const page = h.execute({ op: 'list-services', from: 5, limit: 5 })
    t.equal(page.total, 7)
    t.strictSame(
      page.services.map((status) => status.service),
      [keys[1], keys[0]],
    )
    t.end()
  })
  t.end()
})

function same(a: ServiceKey, b: ServiceKey): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}

t.test('steering names what has to come here', (t) => {
  const h = configured()
  const mark: ServiceKey = { fwmark: 7, family: 4 }
  h.addService(udpService(0), { persistentTimeoutSeconds: 5 })
  h.addDestination(udpService(0), '10.0.0.4:0')
  h.addDestination(service, '10.0.0.9:80', { forwarding: 'tunnel' })
  h.addService(mark)
  h.addDestination(mark, '10.0.0.5:8080')
  const rules = [{ mark: 7, destination: '192.0.2.0/24' }, { mark: 8 }]
  h.execute({ op: 'set-marks', rules })
  t.strictSame(h.execute({ op: 'get-steering' }), {
    virtual: [
      { protocol: 'udp', address: VIP, port: 0 },
      { protocol: 'tcp', address: VIP, port: 80 },
    ],
    replies: [
      { protocol: 'tcp', address: '10.0.0.2', port: 80 },
      { protocol: 'udp', address: '10.0.0.4', port: 0 },
      { protocol: 'tcp', address: '10.0.0.5', port: 8080 },
      { protocol: 'udp', address: '10.0.0.5', port: 8080 },
      { protocol: 'sctp', address: '10.0.0.5', port: 8080 },
    ],
    marks: [rules[0]],
  })
  t.strictSame(h.execute({ op: 'list-marks' }), rules)

  h.send(tcpPacket({ from: '198.51.100.7:1', to: `${VIP}:80`, flags: 'S' }))
  t.match(h.destination(service, '10.0.0.9:80'), { activeConnections: 1 })
  h.send(tcpPacket({ from: '198.51.100.7:2', to: `${VIP}:80`, flags: 'S' }))
  t.match(h.destination(service, '10.0.0.2:80'), { activeConnections: 1 })
  h.execute({ op: 'flush' })
  t.strictSame(
    h.execute({ op: 'get-steering' }),
    { virtual: [], replies: [{ protocol: 'tcp', address: '10.0.0.2', port: 80 }], marks: [] },
    'connections that are left still need their replies',
  )
  t.end()
})

t.test('rates follow as the kernel’s estimator lets them', (t) => {
  const h = configured()
  const packet = tcpPacket({ from: '198.51.100.7:1', to: `${VIP}:80`, flags: 'S' })
  for (let i = 0; i < 20; i++) h.send(packet)
  h.advance(2.08)
  // 10 a second: a quarter of the way there.
  const first = { inPacketsPerSecond: 2, inBytesPerSecond: 100, connectionsPerSecond: 0 }
  t.match(h.service(service).rates, first)
  t.match(h.destination(service, '10.0.0.2:80').rates, first)
  const rates: number[] = []
  for (let i = 0; i < 6; i++) {
    h.advance(2.08)
    rates.push(h.service(service).rates.inBytesPerSecond)
  }
  t.strictSame(rates, [75, 56, 42, 32, 24, 18])
  h.execute({ op: 'zero' })
  t.strictSame(h.service(service).rates.inBytesPerSecond, 0)
  t.end()
})

t.test('the counters’ memory can be read by others, and has an end', (t) => {
  const region = new SharedArrayBuffer(CounterRegion.bytesFor(2))
  const h = new Harness({ counters: region })
  h.addService(service)
  h.addDestination(service, '10.0.0.2:80')
  t.throws(() => h.addDestination(service, '10.0.0.3:80'), { code: 'ENOMEM' })
  t.throws(() => h.addService(tcpService(81)), { code: 'ENOMEM' })
  h.send(tcpPacket({ from: '198.51.100.7:1', to: `${VIP}:80`, flags: 'S' }))
  const reader = new CounterRegion(region)
  t.match(reader.counters(reader.total), { connections: 1, inPackets: 1, inBytes: 40 })
  h.execute({ op: 'delete-service', service })
  h.addService(tcpService(81))
  t.match(h.service(tcpService(81)).counters, { connections: 0 })
  t.end()
})

t.test('slots of forgotten destinations are used again', (t) => {
  const h = new Harness({ counters: new ArrayBuffer(CounterRegion.bytesFor(2)) })
  h.addService(service)
  for (let last = 2; last < 200; last++) {
    h.addDestination(service, `10.0.0.${last}:80`)
    h.deleteDestination(service, `10.0.0.${last}:80`)
    for (let i = 0; i < 4; i++) h.advance(120)
  }
  t.pass('never out of memory')
  t.end()
})
