import t from 'tap'
import { schedulers } from '../../../src/core/schedulers/index.js'
import { Harness } from '../harness.js'
import {
  choice,
  choices,
  closed,
  edit,
  editService,
  end,
  nextPort,
  service,
  withWeights,
} from './support.js'

t.test('the names are ipvsadm’s', (t) => {
  for (const [name, kind] of schedulers) t.equal(kind.name, name)
  t.equal(
    [...schedulers.keys()].join(' '),
    'rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos none',
  )
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
    editService(h, { scheduler: 'wrr' })
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
  const first = nextPort()
  t.equal(choices(h, 6), '123123')
  closed(h, first + 4)
  t.equal(choices(h, 2), '21', 'the one that has a closed one is less laden')
  edit(h, 1, { weight: 0 })
  t.equal(choices(h, 2), '32', 'but what is closed still weighs a little')
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

t.test('wlc compares exactly, whatever the weights', (t) => {
  const h = withWeights('wlc', 0x7fffffff, 0x7ffffffe)
  // 256 / 2147483647 is less than 256 / 2147483646, in a bit that a double does not have.
  t.equal(choices(h, 3), '121')
  t.end()
})

t.test('sed goes where the wait would be shortest, not to who is idle', (t) => {
  const h = withWeights('sed', 1, 4)
  t.equal(choices(h, 4), '2221', 'waits of 1, 2/4, 3/4, then 1 and 1, of which the first')
  t.end()
})

t.test('sed counts active connections alone', (t) => {
  const h = withWeights('sed', 1, 1)
  const first = nextPort()
  t.equal(choices(h, 2), '12')
  closed(h, first)
  t.equal(choices(h, 1), '1')
  t.end()
})

t.test('nq lets nobody wait while a server is idle', (t) => {
  const h = withWeights('nq', 1, 1, 9)
  t.equal(choices(h, 3), '123')
  t.equal(choices(h, 8), '33333333', 'all are busy: as sed')
  edit(h, 2, { weight: 0 })
  h.addDestination(service, end(4), { weight: 0 })
  t.equal(choices(h, 1), '3', 'one with weight 0 is not idle')
  t.end()
})

t.test('fo takes the greatest weight, until it is gone', (t) => {
  const h = withWeights('fo', 1, 3, 3, 2)
  t.equal(choices(h, 3), '222')
  edit(h, 2, { weight: 0 })
  t.equal(choices(h, 2), '33')
  edit(h, 3, { upperThreshold: 1 })
  t.equal(choices(h, 2), '34', 'overloaded with the connection that met the threshold')
  edit(h, 2, { weight: 3 })
  t.equal(choices(h, 1), '2')
  t.end()
})

t.test('ovf fills the greatest weight, and goes on with the next', (t) => {
  const h = withWeights('ovf', 1, 3)
  const first = nextPort()
  t.equal(choices(h, 7), '222211-', 'one more than the weight each')
  closed(h, first)
  t.equal(choices(h, 2), '2-')
  t.end()
})

t.test('none has nobody for new connections, those there are go on', (t) => {
  const h = withWeights('rr', 1)
  const first = nextPort()
  t.equal(choices(h, 1), '1')
  editService(h, { scheduler: 'none' })
  t.equal(choices(h, 1), '-')
  t.equal(choice(h, `198.51.100.9:${first}`, undefined, 'A'), '1')
  t.equal(h.service(service).options.scheduler, 'none')
  t.end()
})

t.test('with equal loads the first of the list is taken', (t) => {
  for (const scheduler of ['lc', 'wlc', 'sed', 'nq', 'fo', 'ovf'])
    t.equal(choices(withWeights(scheduler, 1, 1, 1), 1), '1', scheduler)
  t.end()
})

t.test('with nobody that takes connections there is no choice', (t) => {
  for (const scheduler of schedulers.keys()) {
    t.equal(choices(withWeights(scheduler), 1), '-', scheduler)
    t.equal(choices(withWeights(scheduler, 0, 0), 1), '-', scheduler)
  }
  t.end()
})

t.test('flags go by number, too, and those of other schedulers are refused', (t) => {
  const h = new Harness()
  h.addService(service, { scheduler: 'sh', schedulerFlags: ['flag-2', 'sh-fallback', 'flag-3'] })
  t.strictSame(h.service(service).options.schedulerFlags, ['sh-fallback', 'sh-port', 'flag-3'])
  editService(h, { scheduler: 'rr', schedulerFlags: ['flag-3', 'flag-1'] })
  t.strictSame(h.service(service).options.schedulerFlags, ['flag-1', 'flag-3'])
  t.throws(() => editService(h, { schedulerFlags: ['sh-port'] }), { code: 'EINVAL' })
  t.throws(() => editService(h, { scheduler: 'mh2' }), { code: 'ENOENT' })
  t.equal(h.service(service).options.scheduler, 'rr', 'nothing has changed')
  t.end()
})

t.test('a new scheduler starts afresh, the same one goes on', (t) => {
  const h = withWeights('rr', 2, 1)
  t.equal(choices(h, 1), '1')
  editService(h, { scheduler: 'rr' })
  t.equal(choices(h, 1), '2')
  t.equal(choices(h, 1), '1')
  editService(h, { scheduler: 'wrr' })
  t.equal(choices(h, 3), '112')
  t.end()
})
