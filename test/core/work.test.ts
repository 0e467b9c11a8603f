/** What is too much for one call goes on with the next, and comes to the same. */
import t from 'tap'
import { Cost, WORK_PER_CALL } from '../../src/core/work.js'
import { CounterRegion } from '../../src/core/counters.js'
import { JIFFIES_PER_SECOND } from '../../src/port/clock.js'
import { tcpPacket } from '../support/packets.js'
import { Harness, tcpService, VIP } from './harness.js'

const CONNECTIONS = 3000
const SERVER = '10.0.0.2:80'
const MOST_ENDED = Math.ceil(WORK_PER_CALL / Cost.expiry)

function withConnections(): Harness {
  const h = new Harness({ counters: new ArrayBuffer(CounterRegion.bytesFor(20_000)) })
  h.addService(tcpService())
  h.addDestination(tcpService(), SERVER)
  for (let i = 0; i < CONNECTIONS; i++)
    h.send(tcpPacket({ from: `198.51.100.7:${1024 + i}`, to: `${VIP}:80`, flags: 'S' }))
  return h
}

/** Calls `advance` with the time as it is, and tells how many connections each has ended. */
function ended(h: Harness): number[] {
  const counts: number[] = []
  for (let isDone = false; !isDone;) {
    const before = h.director.table.count
    isDone = h.director.advance(h.now)
    counts.push(before - h.director.table.count)
  }
  return counts
}

t.test('a call ends a bounded number of connections', (t) => {
  const h = withConnections()
  h.now += 70 * JIFFIES_PER_SECOND
  h.director.advance(h.now)
  t.ok(h.director.table.count >= CONNECTIONS - MOST_ENDED)
  t.equal(h.director.jiffiesToNextTimer(), 0, 'nobody may sleep')
  h.director.table.check()
  const counts = ended(h)
  t.ok(Math.max(...counts) <= MOST_ENDED, counts.join())
  t.equal(h.director.table.count, 0)
  t.equal(h.destination(tcpService(), SERVER).activeConnections, 0)
  t.end()
})

t.test('packets come between, at the time that it is', (t) => {
  const h = withConnections()
  h.now += 200 * JIFFIES_PER_SECOND
  t.equal(h.director.advance(h.now), false)
  const from = '198.51.100.8:1024'
  h.send(tcpPacket({ from, to: `${VIP}:80`, flags: 'S' }))
  ended(h)
  t.strictSame(h.connections(), [`TCP 01:00 SYN_RECV ${from} ${VIP}:80 ${SERVER}`])
  t.end()
})

t.test('connections of removed destinations end bit by bit', (t) => {
  const h = withConnections()
  h.execute({ op: 'set-setting', name: 'expire_nodest_conn', value: '1' })
  h.deleteDestination(tcpService(), SERVER)
  h.now += 2
  const counts = ended(h)
  t.ok(Math.max(...counts) <= MOST_ENDED, counts.join())
  t.equal(h.director.table.count, 0)
  h.addDestination(tcpService(), SERVER)
  h.send(tcpPacket({ from: '198.51.100.7:1024', to: `${VIP}:80`, flags: 'S' }))
  h.deleteDestination(tcpService(), SERVER)
  h.now += 2
  ended(h)
  t.equal(h.director.table.count, 0, 'and once more')
  t.end()
})

t.test('rates of many services are those of a few', (t) => {
  const h = new Harness({ counters: new ArrayBuffer(CounterRegion.bytesFor(20_000)) })
  const services = Array.from({ length: 6000 }, (_, i) => tcpService(i + 1))
  for (const service of services) {
    h.addService(service)
    h.addDestination(service, SERVER)
  }
  const [first, last] = [services[0]!, services.at(-1)!]
  const rates = (): number[] =>
    [first, last].map((service) => h.service(service).rates.inPacketsPerSecond)
  for (let i = 0; i < 200; i++)
    for (const { port } of [first, last] as { port: number }[])
      h.send(tcpPacket({ from: `198.51.100.7:${1024 + i}`, to: `${VIP}:${port}`, flags: 'S' }))
  const calls: number[] = []
  const shown: number[][] = []
  for (let second = 0; second < 8; second += 2) {
    h.now += 2 * JIFFIES_PER_SECOND + 64
    calls.push(ended(h).length)
    shown.push(rates())
  }
  t.ok(
    calls.every((count) => count >= (2 * services.length) / WORK_PER_CALL),
    calls.join(),
  )
  t.strictSame(shown[0], [25, 25], 'a quarter of 100 a second')
  t.strictSame(
    shown.map(([one]) => one),
    shown.map(([, other]) => other),
  )
  t.end()
})

t.test('many removed destinations are forgotten, and their slots used again', (t) => {
  const h = new Harness()
  const end = (i: number): string => `10.0.0.${2 + (i % 200)}:${80 + Math.floor(i / 200)}`
  h.addService(tcpService())
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 4000; i++) h.addDestination(tcpService(), end(i))
    h.execute({ op: 'delete-service', service: tcpService() })
    for (let i = 0; i < 5; i++) {
      h.now += 65 * JIFFIES_PER_SECOND
      ended(h)
    }
    h.addService(tcpService())
  }
  t.equal(h.service(tcpService()).destinations.length, 0)
  h.addDestination(tcpService(), end(0))
  t.equal(h.destination(tcpService(), end(0)).rates.inPacketsPerSecond, 0)
  t.end()
})
