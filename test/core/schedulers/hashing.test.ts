// dh and sh: tables of 256 places. Their hash is checked against arithmetic in 64 bits that shares no code.
import t from 'tap'
import { Harness, VIP } from '../harness.js'
import { choice, edit, editService, end, service, withFlags, withWeights } from './support.js'

/** hash_32 of include/linux/hash.h. */
const hash32 = (value: number, bits: number): number =>
  Number(BigInt.asUintN(32, BigInt(value) * 0x61c88647n) >> BigInt(32 - bits))

const clients = Array.from({ length: 60 }, (_, i) => `198.51.100.${i + 2}:${40000 + i * 7}`)
const addressOf = (client: string): number =>
  client
    .split(':')[0]!
    .split('.')
    .reduce((sum, part) => sum * 256 + Number(part), 0)
const portOf = (client: string): number => Number(client.split(':')[1])

const all = (h: Harness, from = clients): string => from.map((client) => choice(h, client)).join('')

t.test('sh finds a client’s place by its address', (t) => {
  const expected = clients.map((client) => (hash32(addressOf(client), 8) % 3) + 1).join('')
  t.equal(all(withWeights('sh', 1, 1, 1)), expected)
  t.match(expected, /1.*2.*3/)
  t.equal(all(withWeights('sh', 1, 1, 1), [...clients].reverse()), [...expected].reverse().join(''))
  t.end()
})

t.test('sh gives a server as many places in a row as its weight says', (t) => {
  const places = '1112'
  const expected = clients.map((client) => places[hash32(addressOf(client), 8) % 4]).join('')
  t.equal(all(withWeights('sh', 3, 1)), expected)
  t.equal(all(withWeights('sh', 300, 1)), '1'.repeat(60), 'the table is full before the second')
  t.end()
})

t.test('sh-port hashes the port, too', (t) => {
  const expected = clients
    .map((client) => (hash32(addressOf(client) + portOf(client), 8) % 3) + 1)
    .join('')
  t.equal(all(withFlags('sh', ['sh-port'], 1, 1, 1)), expected)
  const h = withWeights('sh', 1, 1, 1)
  editService(h, { schedulerFlags: ['sh-port'] })
  t.equal(all(h), expected, 'also when it is set later')
  t.end()
})

t.test('sh has nobody for the clients of a server that takes none, but with sh-fallback', (t) => {
  const before = all(withWeights('sh', 1, 1, 1))
  const h = withWeights('sh', 1, 1, 1)
  edit(h, 2, { weight: 0 })
  t.equal(all(h), before.replaceAll('2', '-'))
  editService(h, { schedulerFlags: ['sh-fallback'] })
  const after = clients.map((client) => choice(h, client.replace(/\d+$/, '7'))).join('')
  t.equal(
    after.replace(/./g, (c, i) => (before[i] === '2' ? '2' : c)),
    before,
    'others stay',
  )
  const moved = [...after].filter((_, i) => before[i] === '2').join('')
  t.match(moved, /^[13]+$/)
  edit(h, 1, { weight: 0 })
  edit(h, 3, { weight: 0 })
  t.equal(choice(h, '198.51.100.77:5'), '-')
  t.end()
})

t.test('an overloaded server is as one of weight 0, but keeps its places', (t) => {
  const before = all(withWeights('sh', 2, 1))
  const h = withWeights('sh', 2, 1)
  edit(h, 1, { upperThreshold: 1 })
  t.equal(all(h), before.replaceAll('1', '-').replace('-', '1'))
  t.end()
})

t.test('dh goes by the destination address', (t) => {
  const h = new Harness()
  const marked = { fwmark: 3, family: 4 } as const
  h.execute({ op: 'set-marks', rules: [{ mark: 3 }] })
  h.addService(marked, { scheduler: 'dh' })
  for (let n = 3; n >= 1; n--) h.addDestination(marked, `10.0.0.${n}:0`, { weight: n })
  const sites = Array.from({ length: 40 }, (_, i) => `203.0.113.${i * 5}`)
  const expected = sites.map((site) => (hash32(addressOf(site), 8) % 3) + 1).join('')
  const asked = (client: string): string => sites.map((site) => choice(h, client, site)).join('')
  t.equal(asked('198.51.100.2:1024'), expected)
  t.equal(asked('198.51.100.3:1025'), expected, 'whoever asks')
  h.editDestination(marked, '10.0.0.2:0', { weight: 0 })
  t.equal(asked('198.51.100.4:1024'), expected.replaceAll('2', '-'))
  h.deleteDestination(marked, '10.0.0.2:0')
  const without = sites.map((site) => [1, 3][hash32(addressOf(site), 8) % 2]).join('')
  t.equal(asked('198.51.100.5:1024'), without)
  t.end()
})

t.test('a removed server is in no table', (t) => {
  for (const scheduler of ['dh', 'sh']) {
    const h = withWeights(scheduler, 1, 1)
    h.deleteDestination(service, end(1))
    t.equal(all(h), '2'.repeat(60), scheduler)
    h.deleteDestination(service, end(2))
    t.equal(choice(h, `198.51.100.99:9`, VIP), '-', scheduler)
  }
  t.end()
})
