import t from 'tap'
import type { ServiceKey } from '../../../src/core/commands.js'
import { schedulers } from '../../../src/core/schedulers/index.js'
import { tcpPacket } from '../../support/packets.js'
import { Harness, tcpService, VIP } from '../harness.js'

const service: ServiceKey = tcpService()

/** A service whose list, from its head, is 10.0.0.1, 10.0.0.2, … with these weights. */
function withWeights(scheduler: string, ...weights: number[]): Harness {
  const h = new Harness()
  h.addService(service, { scheduler })
  for (let i = weights.length; i >= 1; i--)
    h.addDestination(service, `10.0.0.${i}:80`, { weight: weights[i - 1]! })
  return h
}

let port = 1024

/** Where the next connections go: the last number of each destination's address, `-` for nowhere. */
function choices(h: Harness, count: number, flags = 'S'): string {
  let text = ''
  for (let i = 0; i < count; i++) {
    const out = h.send(tcpPacket({ from: `198.51.100.9:${port++}`, to: `${VIP}:80`, flags }))
    text += out.reason === undefined ? String(out.packet![19]) : '-'
  }
  return text
}

function closed(h: Harness, from: number): void {
  h.send(tcpPacket({ from: `198.51.100.9:${from}`, to: `${VIP}:80`, flags: 'R' }))
}

t.test('the names are ipvsadm’s', (t) => {
  for (const [name, kind] of schedulers) t.equal(kind.name, name)
  t.strictSame([...schedulers.keys()], ['rr', 'wrr', 'lc', 'wlc'])
  t.end()
})

t.test('rr', (t) => {
  t.test('gives 1,000 connections to three servers 334, 333, 333', (t) => {
    const h = withWeights('rr', 1, 1, 1)
    const all = choices(h, 1000)
    t.equal(all.slice(0, 9), '123123123')
    t.strictSame(
      ['1', '2', '3'].map((n) => all.split(n).length - 1),
      [334, 333, 333],
    )
    t.end()
  })
  t.test('does not look at weights, but leaves out 0', (t) => {
    t.equal(choices(withWeights('rr', 5, 0, 1), 6), '131313')
    t.end()
  })
  t.test('has nobody when all have weight 0, or there are none', (t) => {
    t.equal(choices(withWeights('rr', 0, 0), 2), '--')
    t.equal(choices(withWeights('rr'), 1), '-')
    t.end()
  })
  t.test('goes on with the successor when a server is removed', (t) => {
    const h = withWeights('rr', 1, 1, 1, 1)
    t.equal(choices(h, 2), '12')
    h.deleteDestination(service, '10.0.0.2:80')
    t.equal(choices(h, 4), '3413')
    h.deleteDestination(service, '10.0.0.1:80')
    t.equal(choices(h, 3), '434')
    t.end()
  })
  t.test('comes to a new server, at the head of the list, when the round is over', (t) => {
    const h = withWeights('rr', 1, 1)
    t.equal(choices(h, 1), '1')
    h.addDestination(service, '10.0.0.9:80')
    t.equal(choices(h, 4), '2912')
    t.end()
  })
  t.test('leaves out a server that is overloaded', (t) => {
    const h = withWeights('rr', 1, 1)
    h.editDestination(service, '10.0.0.1:80', { upperThreshold: 2 })
    t.equal(choices(h, 6), '121222')
    t.end()
  })
  t.end()
})

t.test('wrr', (t) => {
  // Servers are added one by one, each of them a change: the threshold is still that of the first, 1, when
  // the first connection comes. So the kernel's cycle begins with its last pass.
  t.test('interleaves 3:2:1 and keeps the ratio exactly', (t) => {
    const h = withWeights('wrr', 3, 2, 1)
    t.equal(choices(h, 12), '123112123112')
    t.end()
  })
  t.test('begins with the greatest weight when the servers are there before the scheduler', (t) => {
    const h = withWeights('rr', 3, 2, 1)
    const { options } = h.service(service)
    h.execute({ op: 'edit-service', service, options: { ...options, scheduler: 'wrr' } })
    t.equal(choices(h, 12), '112123112123')
    t.end()
  })
  t.test('treats 6:4:2 as 3:2:1', (t) => {
    t.equal(choices(withWeights('wrr', 6, 4, 2), 12), '123112123112')
    t.end()
  })
  t.test('gives 1,000 connections to 3:2:1 as 500, 333, 167', (t) => {
    const all = choices(withWeights('wrr', 3, 2, 1), 1000)
    t.strictSame(
      ['1', '2', '3'].map((n) => all.split(n).length - 1),
      [500, 333, 167],
    )
    t.end()
  })
  t.test('starts at the head again when a weight changes', (t) => {
    const h = withWeights('wrr', 1, 1)
    t.equal(choices(h, 1), '1')
    h.editDestination(service, '10.0.0.1:80', { weight: 1 })
    t.equal(choices(h, 3), '121')
    t.end()
  })
  t.test('has nobody when all have weight 0, or are overloaded', (t) => {
    t.equal(choices(withWeights('wrr', 0, 0), 2), '--')
    const h = withWeights('wrr', 2, 1)
    h.editDestination(service, '10.0.0.1:80', { weight: 2, upperThreshold: 1 })
    h.editDestination(service, '10.0.0.2:80', { weight: 1, upperThreshold: 2 })
    t.equal(choices(h, 5), '122--')
    t.end()
  })
  t.end()
})

t.test('lc goes where the fewest connections are, active ones first', (t) => {
  const h = withWeights('lc', 1, 1, 1)
  t.equal(choices(h, 3), '123')
  const first = port
  t.equal(choices(h, 1), '1')
  t.equal(choices(h, 2), '23')
  closed(h, first)
  t.equal(choices(h, 1), '1', 'the one that has a closed one is less laden')
  h.editDestination(service, '10.0.0.1:80', { weight: 0 })
  t.equal(choices(h, 2), '23')
  t.end()
})

t.test('wlc settles in proportion to the weights', (t) => {
  const h = withWeights('wlc', 3, 1)
  const all = choices(h, 400)
  t.equal(all.slice(0, 8), '12111211')
  t.equal(all.split('1').length - 1, 300)
  h.editDestination(service, '10.0.0.1:80', { weight: 0 })
  t.equal(choices(h, 2), '22')
  t.end()
})

t.test('a new scheduler starts afresh, the same one goes on', (t) => {
  const h = withWeights('rr', 2, 1)
  t.equal(choices(h, 1), '1')
  const edit = (scheduler: string): void => {
    const { options } = h.service(service)
    h.execute({ op: 'edit-service', service, options: { ...options, scheduler } })
  }
  edit('rr')
  t.equal(choices(h, 1), '2')
  t.equal(choices(h, 1), '1')
  edit('wrr')
  t.equal(choices(h, 3), '112')
  t.end()
})
