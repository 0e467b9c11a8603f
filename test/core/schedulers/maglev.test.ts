// mh, against the paper's algorithm written the plain way, with SipHash in BigInt.
import fc from '../../support/properties.js'
import t from 'tap'
import { Hsiphash } from '../../../src/core/schedulers/hsiphash.js'
import { tcpPacket } from '../../support/packets.js'
import { Harness, SERVER_SIDE, VIP } from '../harness.js'
import { choice, edit, editService, end, service, withFlags, withWeights } from './support.js'

const M = 4093

/** SipHash-1-3 of the bytes of a 32-bit word, in the words of its paper. */
function sipHash13(word: number, k0: bigint, k1: bigint): bigint {
  const u64 = (x: bigint): bigint => BigInt.asUintN(64, x)
  const rotate = (x: bigint, bits: bigint): bigint => u64((x << bits) | (x >> (64n - bits)))
  let v0 = k0 ^ 0x736f6d6570736575n
  let v1 = k1 ^ 0x646f72616e646f6dn
  let v2 = k0 ^ 0x6c7967656e657261n
  let v3 = k1 ^ 0x7465646279746573n
  const round = (): void => {
    v0 = u64(v0 + v1)
    v1 = rotate(v1, 13n) ^ v0
    v0 = rotate(v0, 32n)
    v2 = u64(v2 + v3)
    v3 = rotate(v3, 16n) ^ v2
    v0 = u64(v0 + v3)
    v3 = rotate(v3, 21n) ^ v0
    v2 = u64(v2 + v1)
    v1 = rotate(v1, 17n) ^ v2
    v2 = rotate(v2, 32n)
  }
  const block = (4n << 56n) | BigInt(word >>> 0)
  v3 ^= block
  round()
  v0 ^= block
  v2 ^= 0xffn
  round()
  round()
  round()
  return v0 ^ v1 ^ v2 ^ v3
}

t.test('hsiphash is the lower half of SipHash-1-3', (t) => {
  const low = (x: bigint): number => Number(BigInt.asUintN(32, x))
  // The kernel's own test vector: bytes 0, 1, 2, 3 and a key of bytes 0 to 15.
  const counting = [0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c] as const
  t.equal(new Hsiphash(counting).hash(0x03020100), 0x88d38328)
  fc.assert(
    fc.property(
      fc.integer(),
      fc.bigInt(0n, 2n ** 64n - 1n),
      fc.bigInt(0n, 2n ** 64n - 1n),
      (word, k0, k1) => {
        const hash = new Hsiphash([low(k0), low(k0 >> 32n), low(k1), low(k1 >> 32n)])
        return hash.hash(word) === low(sipHash13(word, k0, k1))
      },
    ),
  )
  t.end()
})

const hash = (value: number, key: bigint): number =>
  Number(BigInt.asUintN(32, sipHash13(value, key, key)))
const FIRST = 2654435761n
const SECOND = 2654446892n

/** The table for servers 10.0.0.n:80, each with its walk and how many places it takes in a turn. */
function tableOf(servers: { n: number; turn: number }[]): number[] {
  const walks = servers.map(({ n, turn }) => {
    const self = 0x0a000000 + n + 80
    return {
      n,
      turn,
      offset: hash(self, FIRST) % M,
      skip: (hash(self, SECOND) % (M - 1)) + 1,
      j: 0,
    }
  })
  const table = new Array<number>(M).fill(-1)
  for (let filled = 0; ;)
    for (const walk of walks)
      for (let i = 0; i < walk.turn; i++) {
        const place = (): number => (walk.offset + walk.j * walk.skip) % M
        while (table[place()] !== -1) walk.j++
        table[place()] = walk.n
        if (++filled === M) return table
      }
}

const clients = Array.from({ length: 80 }, (_, i) => `198.51.100.${i + 2}:${40000 + i * 7}`)
const numberOf = (client: string): number =>
  client
    .split(':')[0]!
    .split('.')
    .reduce((sum, part) => sum * 256 + Number(part), 0)
const portOf = (client: string): number => Number(client.split(':')[1])
const all = (h: Harness, port?: number): string =>
  clients
    .map((client) => choice(h, port === undefined ? client : client.replace(/\d+$/, String(port))))
    .join('')
const expected = (table: number[], withPort = false): string =>
  clients.map((c) => table[hash(numberOf(c) + (withPort ? portOf(c) : 0), FIRST) % M]).join('')

t.test('a client’s server stands in the table at the hash of its address', (t) => {
  const table = tableOf([1, 2, 3].map((n) => ({ n, turn: 1 })))
  t.equal(all(withWeights('mh', 1, 1, 1)), expected(table))
  t.equal(all(withFlags('mh', ['mh-port'], 1, 1, 1)), expected(table, true))
  for (const n of [1, 2, 3]) {
    const places = table.filter((server) => server === n).length
    t.ok(places === 1364 || places === 1365)
  }
  t.end()
})

t.test('weights are turns, in the least numbers, below 64', (t) => {
  const turns = (...turns: number[]): string =>
    expected(tableOf(turns.map((turn, i) => ({ n: i + 1, turn })).filter(({ turn }) => turn > 0)))
  t.equal(all(withWeights('mh', 3, 2, 1)), turns(3, 2, 1))
  t.equal(all(withWeights('mh', 300, 200, 100)), turns(3, 2, 1), 'by their greatest divisor')
  t.equal(all(withWeights('mh', 64, 63, 1)), turns(32, 31, 1), 'halved when beyond 63')
  t.equal(all(withWeights('mh', 65535, 1, 0)), turns(63, 1, 0), 'one at least, none for 0')
  t.equal(all(withWeights('mh', 0, 0)), '-'.repeat(80))
  t.end()
})

t.test('a server set to weight 0 keeps its places', (t) => {
  const before = all(withWeights('mh', 1, 1, 1))
  const h = withWeights('mh', 1, 1, 1)
  edit(h, 2, { weight: 0 })
  t.equal(all(h), before.replaceAll('2', '-'))
  editService(h, { schedulerFlags: ['mh-fallback'] })
  const after = all(h, 9)
  t.equal(
    after.replace(/./g, (c, i) => (before[i] === '2' ? '2' : c)),
    before,
  )
  t.match([...after].filter((_, i) => before[i] === '2').join(''), /^[13]*1[13]*3|^[13]*3[13]*1/)
  edit(h, 2, { weight: 5 })
  t.equal(
    all(h, 10),
    expected(
      tableOf([
        { n: 1, turn: 1 },
        { n: 2, turn: 5 },
        { n: 3, turn: 1 },
      ]),
    ),
  )
  for (const n of [1, 2, 3]) edit(h, n, { weight: 0 })
  t.equal(choice(h, '198.51.100.200:7'), '-', 'nobody is left to fall back to')
  t.end()
})

t.test('few of the others’ clients move when a server is removed', (t) => {
  const servers = [1, 2, 3, 4, 5, 6, 7].map((n) => ({ n, turn: 1 }))
  const h = withWeights('mh', 1, 1, 1, 1, 1, 1, 1)
  t.equal(all(h), expected(tableOf(servers)))
  h.deleteDestination(service, end(4))
  const without = servers.filter(({ n }) => n !== 4)
  t.equal(all(h, 11), expected(tableOf(without)))
  const before = tableOf(servers)
  const after = tableOf(without)
  const moved = before.filter((n, place) => n !== 4 && after[place] !== n).length
  t.ok(moved < M / 10, `${moved} of ${M} places`)
  for (const { n } of without) h.deleteDestination(service, end(n))
  t.equal(all(h, 12), '-'.repeat(80))
  t.end()
})

t.test('with more servers than places the table stays as it is', (t) => {
  const h = new Harness({ counters: new ArrayBuffer(4_000_000) })
  h.addService(service, { scheduler: 'rr' })
  for (let i = 0; i < M + 1; i++) h.addDestination(service, `10.0.${i >> 8}.${i & 255}:80`)
  for (let i = 1; i < 16; i++) h.neighbours.add(`10.0.${i}.0`, SERVER_SIDE)
  t.throws(() => editService(h, { scheduler: 'mh' }), { code: 'EINVAL' })
  t.equal(h.service(service).options.scheduler, 'rr')
  h.deleteDestination(service, '10.0.0.0:80')
  editService(h, { scheduler: 'mh' })
  const chosen = (port: number): string => {
    const from = `198.51.100.2:${port}`
    const { packet } = h.send(tcpPacket({ from, to: `${VIP}:80`, flags: 'S' }))
    return [...packet!.subarray(16, 20)].join('.')
  }
  const before = chosen(1)
  h.addDestination(service, '10.0.15.254:80')
  h.addDestination(service, '10.0.15.255:80')
  h.deleteDestination(service, `${before}:80`)
  h.advance(1000)
  t.equal(chosen(2), before, 'though it is in the trash, where the table keeps it')
  h.deleteDestination(service, '10.0.15.255:80')
  t.not(chosen(3), before)
  t.end()
})
