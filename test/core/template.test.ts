import t from 'tap'
import type { ServiceKey, ServiceOptions } from '../../src/core/commands.js'
import { tcpPacket, udpPacket } from '../support/packets.js'
import { Harness, tcpService, udpService, VIP } from './harness.js'

/** Three servers, 10.0.0.1 to 10.0.0.3 in the list’s order. */
function persistent(
  service: ServiceKey,
  options: Partial<ServiceOptions> = {},
  port = 80,
): Harness {
  const h = new Harness()
  h.addService(service, { persistentTimeoutSeconds: 100, ...options })
  for (const last of [3, 2, 1]) h.addDestination(service, `10.0.0.${last}:${port}`)
  return h
}

let port = 1024

/** The server that a new connection of a client goes to. */
function server(h: Harness, client: string, to = `${VIP}:80`): number | string {
  const out = h.send(tcpPacket({ from: `${client}:${port++}`, to, flags: 'S' }))
  return out.reason ?? out.packet![19]!
}

const templates = (h: Harness): string[] =>
  h.connections().filter((c) => / (NONE|ASSURED) /.test(c))

t.test('a client keeps its server, others get theirs', (t) => {
  const h = persistent(tcpService())
  const [a, b] = ['198.51.100.7', '198.51.100.8']
  t.strictSame(
    [a, a, b, a, b].map((client) => server(h, client)),
    [1, 1, 2, 1, 2],
  )
  t.strictSame(templates(h), [
    `TCP 01:40 NONE ${a}:0 ${VIP}:80 10.0.0.1:80`,
    `TCP 01:40 NONE ${b}:0 ${VIP}:80 10.0.0.2:80`,
  ])
  t.match(h.destination(tcpService(), '10.0.0.1:80'), {
    activeConnections: 3,
    persistentConnections: 1,
    counters: { connections: 3 },
  })
  t.end()
})

t.test('a netmask puts clients together', (t) => {
  const h = persistent(tcpService(), { persistentPrefixLength: 25 })
  t.equal(server(h, '198.51.100.7'), 1)
  t.equal(server(h, '198.51.100.100'), 1)
  t.equal(server(h, '198.51.100.200'), 2)
  t.match(templates(h), [/ 198.51.100.0:0 /, / 198.51.100.128:0 /])
  t.end()
})

t.test('a template is prolonged by new connections only, and outlives its connections', (t) => {
  const h = persistent(tcpService())
  server(h, '198.51.100.7')
  h.advance(60)
  server(h, '198.51.100.7')
  t.match(templates(h), [/01:40/])
  // SYN_RECV ends after 60 s, and all at multiples of 5.12 s.
  h.advance(99.5)
  t.equal(h.connections().length, 1)
  h.advance(5.12)
  t.strictSame(h.connections(), [])
  t.equal(server(h, '198.51.100.7'), 2)
  t.end()
})

t.test('a template whose connections live longer gets another minute each time', (t) => {
  const h = persistent(tcpService(), { persistentTimeoutSeconds: 10 })
  const first = port
  server(h, '198.51.100.7')
  h.send(tcpPacket({ from: `198.51.100.7:${first}`, to: `${VIP}:80`, flags: 'A' }))
  t.match(templates(h), [/00:10 ASSURED/], 'one of its connections has been established')
  h.advance(10.24)
  t.match(templates(h), [/01:00/])
  for (let i = 0; i < 88; i++) h.advance(10)
  t.equal(h.connections().length, 2)
  h.advance(11)
  t.match(h.connections(), [/00:\d\d ASSURED/], 'the connection has ended')
  h.advance(66)
  t.strictSame(h.connections(), [])
  h.director.table.check()
  t.end()
})

t.test('a template follows weight 0, but not if expire_quiescent_template is set', (t) => {
  const h = persistent(tcpService())
  t.equal(server(h, '198.51.100.7'), 1)
  h.editDestination(tcpService(), '10.0.0.1:80', { weight: 0 })
  t.equal(server(h, '198.51.100.7'), 1)
  h.director.settings.expireQuiescentTemplates = 1
  t.equal(server(h, '198.51.100.7'), 2)
  t.strictSame(templates(h), [
    'TCP 01:40 NONE 198.51.100.7:0 192.0.2.1:65535 10.0.0.1:65535',
    'TCP 01:40 NONE 198.51.100.7:0 192.0.2.1:80 10.0.0.2:80',
  ])
  t.equal(server(h, '198.51.100.7'), 2)
  h.director.table.check()
  t.end()
})

t.test('a template of a removed server is left, and the client gets another', (t) => {
  const h = persistent(tcpService())
  t.equal(server(h, '198.51.100.7'), 1)
  h.deleteDestination(tcpService(), '10.0.0.1:80')
  t.equal(server(h, '198.51.100.7'), 2)
  h.addDestination(tcpService(), '10.0.0.1:80')
  t.equal(server(h, '198.51.100.7'), 2)
  t.match(h.destination(tcpService(), '10.0.0.1:80'), { persistentConnections: 1 })
  h.advance(166)
  t.match(h.destination(tcpService(), '10.0.0.1:80'), {
    persistentConnections: 0,
    activeConnections: 0,
  })
  h.director.table.check()
  t.end()
})

t.test('on any port one template serves all ports', (t) => {
  const h = persistent(tcpService(0), {}, 0)
  t.equal(server(h, '198.51.100.7', `${VIP}:80`), 1)
  t.equal(server(h, '198.51.100.7', `${VIP}:443`), 1)
  t.equal(server(h, '198.51.100.8', `${VIP}:443`), 2)
  t.match(templates(h), [
    `TCP 01:40 NONE 198.51.100.7:0 ${VIP}:0 10.0.0.1:0`,
    `TCP 01:40 NONE 198.51.100.8:0 ${VIP}:0 10.0.0.2:0`,
  ])
  t.end()
})

t.test('FTP: the data connections of passive mode follow the control connection', (t) => {
  const h = persistent(tcpService(21), {}, 21)
  t.equal(server(h, '198.51.100.7', `${VIP}:21`), 1)
  t.equal(server(h, '198.51.100.8', `${VIP}:21`), 2)
  t.equal(server(h, '198.51.100.7', `${VIP}:50000`), 1)
  t.equal(server(h, '198.51.100.8', `${VIP}:50000`), 2)
  t.equal(server(h, '198.51.100.8', `${VIP}:80`), 'no-service')
  t.match(templates(h), [/:0 192.0.2.1:0 10.0.0.1:0$/, /:0 192.0.2.1:0 10.0.0.2:0$/])
  t.end()
})

t.test('a firewall mark: one template for all addresses, ports and protocols', (t) => {
  const mark: ServiceKey = { fwmark: 0x01020304, family: 4 }
  const h = persistent(mark, {}, 0)
  h.execute({ op: 'set-marks', rules: [{ mark: 0x01020304, destination: '192.0.2.0/24' }] })
  t.equal(server(h, '198.51.100.7', '192.0.2.1:80'), 1)
  t.equal(server(h, '198.51.100.7', '192.0.2.9:443'), 1)
  const datagram = udpPacket({ from: '198.51.100.7:5', to: '192.0.2.3:53' })
  t.equal(h.send(datagram).packet![19], 1)
  t.equal(server(h, '198.51.100.8', '192.0.2.1:80'), 2)
  t.strictSame(templates(h), [
    'IP 01:40 NONE 198.51.100.7:0 1.2.3.4:0 10.0.0.1:0',
    'IP 01:40 NONE 198.51.100.8:0 1.2.3.4:0 10.0.0.2:0',
  ])
  t.equal(server(h, '198.51.100.8', '203.0.113.1:80'), 'no-service')
  t.end()
})

t.test('no server: port unreachable, and no template is left behind', (t) => {
  const h = new Harness()
  h.addService(tcpService(), { persistentTimeoutSeconds: 100 })
  t.equal(server(h, '198.51.100.7'), 'no-destination')
  t.strictSame(h.connections(), [])
  t.end()
})

t.test('a table with room for the template only', (t) => {
  const h = new Harness({ table: { maxConnections: 1, seed: 1 } })
  h.addService(tcpService(), { persistentTimeoutSeconds: 1 })
  h.addDestination(tcpService(), '10.0.0.1:80')
  t.equal(server(h, '198.51.100.7'), 'table-full')
  h.advance(1.04)
  t.strictSame(h.connections(), [])
  h.director.table.check()
  t.end()
})

t.test('one-packet scheduling with persistence', (t) => {
  const h = persistent(udpService(80), { onePacket: true })
  const datagram = udpPacket({ from: '198.51.100.7:5', to: `${VIP}:80` })
  for (let i = 0; i < 3; i++) t.equal(h.send(datagram).packet![19], 1)
  t.match(h.connections(), [/^UDP 01:40 NONE /])
  h.advance(103)
  t.strictSame(h.connections(), [])
  t.end()
})
