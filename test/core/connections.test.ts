import t from 'tap'
import { icmpPacket, samePacket, tcpPacket, udpPacket } from '../support/packets.js'
import { Harness, serviceOptions, tcpService, udpService, VIP } from './harness.js'

const CLIENT = '198.51.100.7'
const SERVER = '10.0.0.2'
const virtual = `${VIP}:80`
const client = `${CLIENT}:40000`

function masquerading(): Harness {
  const h = new Harness()
  h.addService(tcpService())
  h.addDestination(tcpService(), `${SERVER}:80`)
  return h
}

const up = (h: Harness, flags: string, from = client) =>
  h.send(tcpPacket({ from, to: virtual, flags }))
const down = (h: Harness, flags: string, server = SERVER, to = client) =>
  h.send(tcpPacket({ from: `${server}:80`, to, flags }))

/** An established connection is reset. */
const reset = (h: Harness, from: string): void => {
  up(h, 'A', from)
  up(h, 'R', from)
}

/** State, and minutes and seconds left. */
const states = (h: Harness): string[] =>
  h.connections().map((c) => c.split(' ').slice(1, 3).join(' '))

t.test('a masqueraded TCP connection from SYN to its end', (t) => {
  const h = masquerading()
  const counts = () => {
    const { activeConnections, inactiveConnections } = h.destination(tcpService(), `${SERVER}:80`)
    return [activeConnections, inactiveConnections]
  }
  up(h, 'S')
  t.strictSame(h.connections(), [`TCP 01:00 SYN_RECV ${client} ${virtual} ${SERVER}:80`])
  t.strictSame(counts(), [1, 0])
  down(h, 'SA')
  t.strictSame(states(h), ['01:00 SYN_RECV'])
  up(h, 'A')
  t.strictSame(states(h), ['15:00 ESTABLISHED'])
  up(h, 'FA')
  t.strictSame(states(h), ['01:00 CLOSE_WAIT'])
  t.strictSame(counts(), [0, 1])
  down(h, 'FA')
  t.strictSame(states(h), ['02:00 TIME_WAIT'])
  h.advance(119.9)
  t.strictSame(states(h), ['00:00 TIME_WAIT'])
  // 23.4 slots of 512 jiffies, rounded up.
  h.advance(2.97)
  t.strictSame(states(h), ['00:00 TIME_WAIT'])
  h.advance(0.01)
  t.strictSame(states(h), [])
  t.strictSame(counts(), [0, 0])
  h.director.table.check()
  t.end()
})

t.test('a director that sees one side only goes by what it sees', (t) => {
  const h = new Harness()
  h.addService(tcpService())
  h.addDestination(tcpService(), SERVER, { forwarding: 'direct-route' })
  const seen: string[] = []
  for (const flags of ['S', 'A', 'FA', 'A', 'R']) {
    up(h, flags)
    seen.push(...states(h))
  }
  t.strictSame(seen, [
    '01:00 SYN_RECV',
    '15:00 ESTABLISHED',
    '02:00 FIN_WAIT',
    '02:00 FIN_WAIT',
    '00:10 CLOSE',
  ])
  t.end()
})

t.test('packets of both sides prolong a connection, ICMP errors do not', (t) => {
  const h = new Harness()
  h.addService(udpService())
  h.addDestination(udpService(), `${SERVER}:53`)
  h.send(udpPacket({ from: client, to: `${VIP}:53` }))
  t.strictSame(states(h), ['05:00 UDP'])
  h.advance(100)
  t.strictSame(states(h), ['03:20 UDP'])
  h.send(udpPacket({ from: `${SERVER}:53`, to: client }))
  t.strictSame(states(h), ['05:00 UDP'])
  h.advance(250)
  h.send(udpPacket({ from: client, to: `${VIP}:53` }))
  h.advance(299)
  t.strictSame(states(h), ['00:01 UDP'], 'ends at a multiple of 5.12 s')
  const quoted = udpPacket({ from: client, to: `${SERVER}:53` })
  const error = icmpPacket({ from: SERVER, to: CLIENT, type: 3, code: 3, payload: quoted })
  t.equal(h.send(error).verdict, 'forward')
  t.strictSame(states(h), ['00:01 UDP'])
  h.advance(1 + 5.12)
  t.strictSame(states(h), [])
  t.end()
})

t.test('set timeouts hold from a connection’s next packet on, shorter or longer', (t) => {
  const h = masquerading()
  const all = { op: 'get-timeouts' } as const
  t.strictSame(h.execute(all), { tcp: 900, tcpFin: 120, udp: 300 })
  up(h, 'S')
  down(h, 'SA')
  up(h, 'A')
  h.execute({ op: 'set-timeouts', timeouts: { tcp: 5, tcpFin: 0, udp: 7 } })
  t.strictSame(h.execute(all), { tcp: 5, tcpFin: 120, udp: 7 })
  t.strictSame(states(h), ['15:00 ESTABLISHED'])
  up(h, 'A')
  t.strictSame(states(h), ['00:05 ESTABLISHED'])
  h.execute({ op: 'set-timeouts', timeouts: { tcp: 100000, tcpFin: 0, udp: 0 } })
  up(h, 'A')
  h.advance(99999)
  t.equal(states(h).length, 1)
  h.advance(1 + 2622)
  t.strictSame(states(h), [])
  t.throws(() => h.execute({ op: 'set-timeouts', timeouts: { tcp: -1, tcpFin: 0, udp: 0 } }), {
    code: 'EINVAL',
  })
  t.end()
})

t.test('weight 0: old connections go on, new ones go elsewhere', (t) => {
  const h = masquerading()
  up(h, 'S')
  h.addDestination(tcpService(), '10.0.0.3:80')
  h.editDestination(tcpService(), `${SERVER}:80`, { weight: 0 })
  t.equal(up(h, 'A').packet![19], 2)
  t.equal(down(h, 'A').verdict, 'forward')
  for (let port = 1; port <= 4; port++) t.equal(up(h, 'S', `${CLIENT}:${port}`).packet![19], 3)
  t.end()
})

t.test('a removed destination', (t) => {
  t.test('gets no more packets, silently, while its replies still pass', (t) => {
    const h = masquerading()
    up(h, 'S')
    h.deleteDestination(tcpService(), `${SERVER}:80`)
    h.addDestination(tcpService(), '10.0.0.3:80')
    t.match(up(h, 'A'), { verdict: 'drop', reason: 'destination-unavailable' })
    const reply = down(h, 'SA')
    samePacket(t, reply.packet, tcpPacket({ from: virtual, to: client, flags: 'SA', ttl: 63 }))
    t.match(h.service(tcpService()).counters, { inPackets: 1, outPackets: 0 }, 'uncounted')
    t.end()
  })
  t.test('goes on with its connections and counts when it is put back', (t) => {
    const h = masquerading()
    up(h, 'S')
    h.deleteDestination(tcpService(), `${SERVER}:80`)
    t.strictSame(h.service(tcpService()).destinations, [])
    h.addDestination(tcpService(), `${SERVER}:80`, { weight: 5 })
    t.match(h.destination(tcpService(), `${SERVER}:80`), {
      weight: 5,
      activeConnections: 1,
      counters: { connections: 1, inPackets: 1 },
    })
    t.equal(up(h, 'A').verdict, 'forward')
    t.match(h.destination(tcpService(), `${SERVER}:80`), { counters: { inPackets: 2 } })
    t.end()
  })
  t.test('goes on when its whole service was removed and made anew, with counters from 0', (t) => {
    const h = masquerading()
    up(h, 'S')
    h.execute({ op: 'flush' })
    t.equal(h.connections().length, 1, 'connections outlive the configuration')
    t.match(up(h, 'A'), { verdict: 'decline', reason: 'no-service' }, 'IPVS is off without any')
    h.addService(tcpService(), { scheduler: 'wlc' })
    t.match(up(h, 'A'), { verdict: 'drop', reason: 'destination-unavailable' })
    h.addDestination(tcpService(), `${SERVER}:80`)
    t.equal(up(h, 'A').verdict, 'forward')
    t.match(h.destination(tcpService(), `${SERVER}:80`), {
      activeConnections: 1,
      counters: { connections: 0, inPackets: 1 },
    })
    t.end()
  })
  t.test('is forgotten when nothing has used it for a while', (t) => {
    const h = masquerading()
    up(h, 'S')
    h.deleteDestination(tcpService(), `${SERVER}:80`)
    for (let i = 0; i < 10; i++) h.advance(60)
    t.strictSame(h.connections(), [])
    h.addDestination(tcpService(), `${SERVER}:80`)
    t.match(h.destination(tcpService(), `${SERVER}:80`), { counters: { connections: 0 } })
    t.end()
  })
  t.test('ends its connections if expire_nodest_conn says so, and others take over', (t) => {
    const h = masquerading()
    h.director.settings.expireNoDestinationConnections = 1
    up(h, 'S')
    h.deleteDestination(tcpService(), `${SERVER}:80`)
    h.addDestination(tcpService(), '10.0.0.3:80')
    t.match(up(h, 'A'), { verdict: 'decline', reason: 'no-connection' })
    t.equal(h.connections().length, 1, 'until the next jiffy')
    h.advance(0.01)
    t.strictSame(h.connections(), [])
    t.equal(up(h, 'S').packet![19], 3)
    h.director.table.check()
    t.end()
  })
  t.end()
})

t.test('thresholds: full at the upper one, open again below the lower one', (t) => {
  const h = masquerading()
  const end = `${SERVER}:80`
  h.editDestination(tcpService(), end, { upperThreshold: 4, lowerThreshold: 2 })
  for (let port = 1; port <= 4; port++) t.equal(up(h, 'S', `${CLIENT}:${port}`).hop, 2)
  t.equal(h.destination(tcpService(), end).overloaded, true)
  t.match(up(h, 'S', `${CLIENT}:5`), { reason: 'overloaded' })
  t.equal(up(h, 'A', `${CLIENT}:1`).reason, undefined, 'connections that are there go on')
  for (const port of [1, 2]) reset(h, `${CLIENT}:${port}`)
  h.advance(11)
  t.match(up(h, 'S', `${CLIENT}:5`), { reason: 'overloaded' }, 'two are left, not fewer')
  reset(h, `${CLIENT}:3`)
  h.advance(11)
  t.equal(h.destination(tcpService(), end).overloaded, false)
  t.equal(up(h, 'S', `${CLIENT}:5`).reason, undefined)
  t.end()
})

t.test('without a lower threshold a destination opens below three quarters of the upper', (t) => {
  const h = masquerading()
  const end = `${SERVER}:80`
  h.editDestination(tcpService(), end, { upperThreshold: 4 })
  for (let port = 1; port <= 4; port++) up(h, 'S', `${CLIENT}:${port}`)
  const overloaded: boolean[] = []
  for (const port of [1, 2]) {
    reset(h, `${CLIENT}:${port}`)
    h.advance(11)
    overloaded.push(h.destination(tcpService(), end).overloaded)
  }
  t.strictSame(overloaded, [true, false])
  t.end()
})

t.test('a raised threshold opens at once', (t) => {
  const h = masquerading()
  const end = `${SERVER}:80`
  h.editDestination(tcpService(), end, { upperThreshold: 1 })
  up(h, 'S')
  t.equal(h.destination(tcpService(), end).overloaded, true)
  h.editDestination(tcpService(), end, { upperThreshold: 1 })
  t.equal(h.destination(tcpService(), end).overloaded, true)
  h.editDestination(tcpService(), end, { upperThreshold: 2 })
  t.equal(h.destination(tcpService(), end).overloaded, false)
  t.end()
})

t.test('a port that a client uses again', (t) => {
  const closed = (settings = {}): Harness => {
    const h = masquerading()
    Object.assign(h.director.settings, settings)
    up(h, 'S')
    up(h, 'A')
    up(h, 'FA')
    down(h, 'FA')
    t.strictSame(states(h), ['02:00 TIME_WAIT'])
    h.addDestination(tcpService(), '10.0.0.3:80')
    h.editDestination(tcpService(), `${SERVER}:80`, { weight: 0 })
    return h
  }
  t.test('is scheduled anew in TIME_WAIT', (t) => {
    const h = closed()
    t.equal(up(h, 'S').packet![19], 3)
    h.advance(0.01)
    t.strictSame(h.connections(), [`TCP 00:59 SYN_RECV ${client} ${virtual} 10.0.0.3:80`])
    t.match(h.destination(tcpService(), `${SERVER}:80`), { inactiveConnections: 0 })
    h.director.table.check()
    t.end()
  })
  t.test('goes where it went if conn_reuse_mode is 0', (t) => {
    const h = closed({ connectionReuseMode: 0 })
    t.equal(up(h, 'S').packet![19], 2)
    t.strictSame(states(h), ['01:00 SYN_RECV'])
    t.end()
  })
  t.test('goes where it went while the connection lives', (t) => {
    const h = masquerading()
    up(h, 'S')
    up(h, 'A')
    h.addDestination(tcpService(), '10.0.0.3:80')
    t.equal(up(h, 'S').packet![19], 2)
    t.end()
  })
  t.end()
})

t.test('an edited forwarding method is for new connections', (t) => {
  const h = masquerading()
  up(h, 'S')
  h.editDestination(tcpService(), `${SERVER}:80`, { forwarding: 'direct-route' })
  t.equal(up(h, 'A').packet![19], 2, 'masqueraded as before')
  t.strictSame(h.execute({ op: 'get-steering' }).replies, [
    { protocol: 'tcp', address: SERVER, port: 80 },
  ])
  t.equal(up(h, 'S', `${CLIENT}:2`).packet![19], 1, 'the virtual address')
  t.end()
})

t.test('two services may share a real server', (t) => {
  const h = masquerading()
  h.addService(tcpService(8000))
  h.addDestination(tcpService(8000), `${SERVER}:80`)
  up(h, 'S')
  h.send(tcpPacket({ from: `${CLIENT}:2`, to: `${VIP}:8000`, flags: 'S' }))
  const reply = { to: `${CLIENT}:2`, flags: 'SA' }
  const out = h.send(tcpPacket({ ...reply, from: `${SERVER}:80` }))
  samePacket(t, out.packet, tcpPacket({ ...reply, from: `${VIP}:8000`, ttl: 63 }))
  t.end()
})

t.test('expire_nodest_conn', (t) => {
  t.test('ends connections and templates of a destination with it', (t) => {
    const h = masquerading()
    h.execute({ op: 'set-setting', name: 'expire_nodest_conn', value: '1' })
    h.execute({
      op: 'edit-service',
      service: tcpService(),
      options: serviceOptions({ persistentTimeoutSeconds: 300 }),
    })
    h.addDestination(tcpService(), '10.0.0.3:80', { weight: 0 })
    up(h, 'S')
    up(h, 'A')
    t.equal(h.connections().length, 2)
    h.deleteDestination(tcpService(), '10.0.0.3:80')
    h.advance(0.01)
    t.equal(h.connections().length, 2, 'of that destination, no other')
    h.deleteDestination(tcpService(), `${SERVER}:80`)
    h.advance(0.01)
    t.strictSame(h.connections(), [])
    h.director.table.check()
    t.end()
  })
  t.test('a SYN leaves a destination of weight 0, whatever conn_reuse_mode says', (t) => {
    const h = masquerading()
    h.director.settings.connectionReuseMode = 0
    h.addDestination(tcpService(), '10.0.0.3:80', { weight: 0 })
    up(h, 'S')
    up(h, 'A')
    h.editDestination(tcpService(), `${SERVER}:80`, { weight: 0 })
    h.editDestination(tcpService(), '10.0.0.3:80')
    t.equal(up(h, 'S').packet![19], 2)
    h.director.settings.expireNoDestinationConnections = 1
    t.equal(up(h, 'A').packet![19], 2)
    t.equal(up(h, 'S').packet![19], 3)
    t.end()
  })
  t.end()
})

t.test('a SYN on a connection in CLOSE is scheduled anew', (t) => {
  const h = masquerading()
  up(h, 'S')
  up(h, 'A')
  reset(h, `${CLIENT}:1`)
  h.addDestination(tcpService(), '10.0.0.3:80')
  h.editDestination(tcpService(), `${SERVER}:80`, { weight: 0 })
  t.equal(up(h, 'S', `${CLIENT}:1`).packet![19], 3)
  t.end()
})

t.test('a destination on port 0 keeps the port that was asked for', (t) => {
  const h = masquerading()
  h.addDestination(tcpService(), '10.0.0.3:0')
  h.editDestination(tcpService(), `${SERVER}:80`, { weight: 0 })
  up(h, 'S')
  t.strictSame(h.connections(), [`TCP 01:00 SYN_RECV ${client} ${virtual} 10.0.0.3:80`])
  t.ok(
    h
      .execute({ op: 'get-steering' })
      .replies.some(({ address, port }) => address === '10.0.0.3' && port === 80),
  )
  t.end()
})
