import t from 'tap'
import { Harness, serviceOptions, tcpService, udpService, VIP } from './harness.js'
import { tcpPacket, udpPacket } from '../support/packets.js'

const CLIENT = '198.51.100.7'

function listening(availableMemoryPages?: () => number): Harness {
  const h = new Harness(availableMemoryPages ? { availableMemoryPages } : {})
  h.addService(tcpService())
  h.addDestination(tcpService(), '10.0.0.2:80')
  return h
}

const set = (h: Harness, name: string, value: string): void => {
  h.execute({ op: 'set-setting', name, value })
}
const get = (h: Harness, name: string): string =>
  h.execute({ op: 'get-settings', names: [name] })[name]!

/** What becomes of SYNs from so many new ports: f for forwarded, - for dropped. */
const knock = (h: Harness, from: number, count: number): string =>
  Array.from({ length: count }, (_, i) => {
    const packet = tcpPacket({ from: `${CLIENT}:${1000 + from + i}`, to: `${VIP}:80`, flags: 'S' })
    const { verdict, reason } = h.send(packet)
    if (reason !== undefined) t.equal(reason, 'drop-packet-defence')
    return verdict === 'forward' ? 'f' : '-'
  }).join('')

t.test('drop_packet 3 drops one in am_droprate, the first at once', (t) => {
  const h = listening()
  set(h, 'am_droprate', '3')
  set(h, 'drop_packet', '3')
  t.equal(knock(h, 1, 8), '-ff-ff-f')
  set(h, 'am_droprate', '1')
  t.equal(knock(h, 11, 3), 'f-f', 'a new rate takes effect within a second')
  h.advance(1.04)
  t.equal(knock(h, 21, 3), 'f--', 'after the count that was under way')
  set(h, 'drop_packet', '0')
  t.equal(knock(h, 31, 3), 'fff')
  t.end()
})

t.test('packets of connections are not dropped', (t) => {
  const h = listening()
  knock(h, 1, 1)
  set(h, 'am_droprate', '1')
  set(h, 'drop_packet', '3')
  const packet = tcpPacket({ from: `${CLIENT}:1001`, to: `${VIP}:80`, flags: 'A' })
  t.equal(h.send(packet).verdict, 'forward')
  t.equal(knock(h, 2, 1), '-')
  t.end()
})

t.test('automatic modes follow the memory, and say so', (t) => {
  let pages = 2000
  const h = listening(() => pages)
  for (const name of ['drop_entry', 'drop_packet', 'secure_tcp']) {
    set(h, name, '2')
    t.equal(get(h, name), '1', `${name} 2 becomes 1 with memory enough`)
  }
  t.equal(knock(h, 1, 4), 'ffff')
  pages = 512
  h.advance(1.04)
  for (const name of ['drop_entry', 'drop_packet', 'secure_tcp']) t.equal(get(h, name), '2')
  t.equal(knock(h, 11, 4), 'f-f-', '1024 / (1024 - 512) = 2')
  set(h, 'amemthresh', '500')
  h.advance(1.04)
  for (const name of ['drop_entry', 'drop_packet', 'secure_tcp']) t.equal(get(h, name), '1')
  t.equal(knock(h, 21, 4), 'ffff')
  t.end()
})

t.test('memory is not asked for while no mode is automatic', (t) => {
  let asked = 0
  const h = listening(() => {
    asked++
    return 1
  })
  set(h, 'drop_packet', '3')
  h.advance(1)
  t.equal(asked, 0)
  set(h, 'secure_tcp', '1')
  t.ok(asked > 0)
  t.end()
})

t.test('secure_tcp puts SYN and ACK of the real server before ESTABLISHED', (t) => {
  const h = listening()
  set(h, 'secure_tcp', '3')
  const server = { from: '10.0.0.2:80', to: `${CLIENT}:1001` }
  const state = (): string => h.connections()[0]!.split(' ')[2]!
  knock(h, 1, 1)
  t.equal(state(), 'SYN_RECV')
  h.send(tcpPacket({ from: `${CLIENT}:1001`, to: `${VIP}:80`, flags: 'A' }))
  t.equal(state(), 'SYN_RECV')
  h.send(tcpPacket({ ...server, flags: 'SA' }))
  t.equal(state(), 'SYNACK')
  h.send(tcpPacket({ ...server, flags: 'A' }))
  t.equal(state(), 'ESTABLISHED')
  set(h, 'secure_tcp', '0')
  knock(h, 2, 1)
  h.send(tcpPacket({ from: `${CLIENT}:1002`, to: `${VIP}:80`, flags: 'A' }))
  t.equal(h.connections().filter((c) => c.includes('ESTABLISHED')).length, 2)
  t.end()
})

t.test('drop_entry', (t) => {
  t.test('ends half-open connections, sooner or later', (t) => {
    const h = listening()
    h.addService(tcpService(81), { scheduler: 'rr' })
    knock(h, 1, 200)
    set(h, 'drop_entry', '3')
    for (let second = 0; second < 30; second++) h.advance(1)
    const left = h.connections().length
    t.ok(left > 20 && left < 150, `about 200 / e of 200 are left after 30 s: ${left}`)
    h.director.table.check()
    t.end()
  })
  t.test('spares established connections that were used in the last minute', (t) => {
    const h = listening()
    knock(h, 1, 1)
    h.send(tcpPacket({ from: `${CLIENT}:1001`, to: `${VIP}:80`, flags: 'A' }))
    set(h, 'drop_entry', '3')
    for (let second = 0; second < 59; second++) h.advance(1)
    t.equal(h.connections().length, 1)
    for (let second = 0; second < 800; second++) h.advance(1)
    t.strictSame(h.connections(), [], 'and ends those of few packets then')
    t.end()
  })
  t.test('spares templates whose connections were established', (t) => {
    const h = new Harness()
    h.addService(udpService(), { persistentTimeoutSeconds: 100_000 })
    h.addDestination(udpService(), '10.0.0.2:53')
    for (const last of [7, 8]) h.send(udpPacket({ from: `198.51.100.${last}:1`, to: `${VIP}:53` }))
    h.send(udpPacket({ from: '10.0.0.2:53', to: '198.51.100.8:1' }))
    set(h, 'drop_entry', '3')
    for (let second = 0; second < 2000; second++) h.advance(1)
    t.match(h.connections().join(), /ASSURED 198.51.100.8:0 /)
    t.equal(h.connections().length, 1)
    h.director.table.check()
    t.end()
  })
  t.end()
})

t.test('run_estimation 0 keeps counters and rates as they were summed up last', (t) => {
  const h = listening()
  knock(h, 1, 2)
  h.advance(2.08)
  set(h, 'run_estimation', '0')
  knock(h, 11, 3)
  h.advance(2.08)
  t.match(h.service(tcpService()), {
    counters: { connections: 2, inPackets: 2 },
    rates: { connectionsPerSecond: 0 },
    destinations: [{ activeConnections: 5, counters: { connections: 2 } }],
  })
  t.equal(h.execute({ op: 'get-counters' }).total.connections, 2)
  h.execute({ op: 'zero' })
  t.equal(h.service(tcpService()).counters.connections, 0)
  set(h, 'run_estimation', '1')
  h.advance(2.08)
  t.match(h.service(tcpService()), { counters: { connections: 3 } }, 'what came meanwhile')
  t.end()
})

t.test('a persistent service of one-packet connections', (t) => {
  const h = new Harness()
  h.addService(udpService(), serviceOptions({ onePacket: true, persistentTimeoutSeconds: 1000 }))
  h.addDestination(udpService(), '10.0.0.2:53')
  h.send(udpPacket({ from: `${CLIENT}:1001`, to: `${VIP}:53` }))
  t.equal(h.connections().length, 1, 'its template')
  set(h, 'drop_entry', '3')
  for (let second = 0; second < 59; second++) h.advance(1)
  t.equal(h.connections().length, 1)
  for (let second = 0; second < 800; second++) h.advance(1)
  t.strictSame(h.connections(), [])
  t.end()
})
