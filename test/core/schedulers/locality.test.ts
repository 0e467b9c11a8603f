// lblc and lblcr: what they remember by destination address, and until when.
import t from 'tap'
import type { DestinationStatus } from '../../../src/core/commands.js'
import { udpPacket } from '../../support/packets.js'
import { Harness } from '../harness.js'
import { choice } from './support.js'

const marked = { fwmark: 3, family: 4 } as const
const host = (n: number): string => `10.0.0.${n}:0`

/** A service by mark that takes everything; its list, from its head, is 10.0.0.1, 10.0.0.2, … */
function withWeights(scheduler: string, ...weights: number[]): Harness {
  const h = new Harness({ table: { maxConnections: 65536, seed: 1 } })
  h.execute({ op: 'set-marks', rules: [{ mark: 3 }] })
  h.addService(marked, { scheduler })
  for (let i = weights.length; i >= 1; i--)
    h.addDestination(marked, host(i), { weight: weights[i - 1]! })
  return h
}

const weigh = (h: Harness, n: number, weight: number): void =>
  h.editDestination(marked, host(n), { weight })
const status = (h: Harness, n: number): DestinationStatus => h.destination(marked, host(n))

let port = 1024

/** Where a new connection to a site goes. */
const ask = (h: Harness, site: number): string =>
  choice(h, `198.51.100.9:${port++}`, `203.0.113.${site}`)

/** The same of one datagram to any address. */
function send(h: Harness, to: string): string {
  const { packet } = h.send(udpPacket({ from: '198.51.100.9:53', to: `${to}:53` }))
  return packet ? String(packet[19]) : '-'
}

t.test('an address stays with the server that was the least laden at first', (t) => {
  for (const scheduler of ['lblc', 'lblcr']) {
    const h = withWeights(scheduler, 9, 9, 9)
    const asked = [1, 2, 3, 1, 1, 4, 2, 3, 1].map((site) => ask(h, site)).join('')
    t.equal(asked, '123112231')
  }
  t.end()
})

t.test('a server that is overladen loses the address, or gets help', (t) => {
  const asked = (h: Harness): string => Array.from({ length: 14 }, () => ask(h, 1)).join('')
  t.equal(asked(withWeights('lblc', 2, 6)), '111' + '2'.repeat(11), 'for good')
  t.equal(asked(withWeights('lblcr', 2, 6)), '111' + '2'.repeat(10) + '1', 'by weight, of both')
  t.end()
})

t.test('removed servers are remembered for as long as the address', (t) => {
  for (const scheduler of ['lblc', 'lblcr']) {
    const h = withWeights(scheduler, 0, 9)
    t.equal(ask(h, 1), '2')
    weigh(h, 1, 9)
    h.deleteDestination(marked, host(2))
    h.advance(1000)
    h.addDestination(marked, host(2), { weight: 9 })
    weigh(h, 1, 0)
    t.equal(ask(h, 2), '2')
    weigh(h, 1, 9)
    t.equal(ask(h, 1), '2', scheduler)
    t.equal(status(h, 2).counters.connections, 3, 'it is the one that it was')
  }
  t.end()
})

t.test('a service that is removed, or has another scheduler, lets its servers go', (t) => {
  for (const scheduler of ['lblc', 'lblcr', 'mh'])
    for (const end of ['delete', 'edit']) {
      const h = withWeights(scheduler, 9, 9)
      t.not(send(h, '203.0.113.1'), '-')
      if (end === 'edit') {
        const { options } = h.service(marked)
        h.execute({ op: 'edit-service', service: marked, options: { ...options, scheduler: 'rr' } })
      }
      h.execute({ op: 'delete-service', service: marked })
      h.advance(1000)
      h.addService(marked)
      h.addDestination(marked, host(1))
      t.equal(status(h, 1).counters.connections, 0)
    }
  t.end()
})

t.test('the check every half hour forgets what was not asked for in time', (t) => {
  for (const scheduler of ['lblc', 'lblcr']) {
    const h = withWeights(scheduler, 0, 9)
    h.execute({ op: 'set-setting', name: `${scheduler}_expiration`, value: '300' })
    for (const site of [1, 2, 3]) t.equal(send(h, `203.0.113.${site}`), '2')
    h.advance(1600)
    t.equal(send(h, '203.0.113.2'), '2')
    weigh(h, 1, 9)
    h.advance(243.19)
    t.equal(send(h, '203.0.113.3'), '2')
    h.advance(0.02)
    t.equal(send(h, '203.0.113.1'), '1', 'at 1843.2 s')
    t.equal(send(h, '203.0.113.2'), '2')
    t.equal(send(h, '203.0.113.3'), '2')
  }
  t.end()
})

t.test('beyond 16384 addresses those go that nobody asked for in six minutes', (t) => {
  const address = (i: number): string => `100.64.${i >> 8}.${i & 255}`
  const count = 16384 + 300
  for (const scheduler of ['lblc', 'lblcr']) {
    const h = withWeights(scheduler, 0, 9)
    h.execute({ op: 'set-timeouts', timeouts: { tcp: 0, tcpFin: 0, udp: 1 } })
    for (let i = 0; i < count; i++) send(h, address(i))
    weigh(h, 1, 9)
    // 40 are asked for again; the check after six minutes is at 368.64 s.
    h.advance(100)
    for (let i = 0; i < 40; i++) send(h, address(i))
    h.advance(268)
    t.equal(send(h, address(100)), '2', 'not yet')
    h.advance(1)
    let forgotten = 0
    for (let i = 0; i < 40; i++) t.equal(send(h, address(i)), '2')
    // What is remembered goes to 2, which is the more laden by that.
    for (let i = 101; i < count; i++) {
      if (send(h, address(i)) === '1') forgotten++
    }
    // Four thirds of what is too many, to the end of the bucket.
    t.ok(forgotten >= 400 && forgotten < 400 + 40, `${scheduler}: ${forgotten}`)
  }
  t.end()
})

t.test('lblcr: a set that does not change loses the most laden', (t) => {
  const h = withWeights('lblcr', 2, 2)
  h.execute({ op: 'set-setting', name: 'lblcr_expiration', value: '30' })
  t.equal([1, 1, 1, 1].map((site) => ask(h, site)).join(''), '1112')
  weigh(h, 1, 10)
  weigh(h, 2, 20)
  h.advance(30)
  t.equal(ask(h, 1), '2', 'of both the less laden')
  h.advance(0.01)
  t.equal(Array.from({ length: 12 }, () => ask(h, 1)).join(''), '2'.repeat(12), '2 alone')
  t.end()
})
