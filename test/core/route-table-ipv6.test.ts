import fc from '../support/properties.js'
import t from 'tap'
import { Ipv6Prefixes } from '../../src/core/ipv6-prefixes.js'
import { RouteTable, type Route, type RouteUpdate } from '../../src/core/route-table.js'
import { selectSourceIpv6 } from '../../src/core/source-address.js'
import { HopState, NO_HOP } from '../../src/port/neighbours.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { formatAddress, parseAddress, parsePrefix } from '../../src/wire/ipv6.js'
import { addressBe } from '../support/packets.js'
import { addressWordsIpv6 } from '../support/packets-ipv6.js'

const LO = 1
const CLIENT = 2
const SERVER = 3
const unicast = (prefix: string, interfaceIndex: number, more: Partial<Route> = {}): Route => ({
  table: 'main',
  prefix,
  type: 'unicast',
  metric: 256,
  nextHops: [{ interfaceIndex }],
  ...more,
})

/** A director between fd01::/64 and fd02::/64, with IPv4 beside, and a default route by the clients' side. */
const director: RouteUpdate[] = [
  {
    op: 'set-ports',
    ports: [
      { port: 0, linkLayer: LinkLayer.ethernet, interfaces: [CLIENT] },
      { port: 1, linkLayer: LinkLayer.ethernet, interfaces: [SERVER] },
    ],
  },
  {
    op: 'links',
    links: [
      { index: LO, name: 'lo', mtu: 65536, up: true },
      { index: CLIENT, name: 'client', mtu: 1500, up: true },
      { index: SERVER, name: 'server', mtu: 1400, up: true },
    ],
  },
  {
    op: 'addresses',
    addresses: [
      { interfaceIndex: LO, address: 'fd00::1', prefixLength: 128 },
      { interfaceIndex: CLIENT, address: 'fe80::1', prefixLength: 64 },
      { interfaceIndex: CLIENT, address: 'fd01::1', prefixLength: 64 },
      { interfaceIndex: SERVER, address: 'fd02::1', prefixLength: 64 },
      { interfaceIndex: SERVER, address: '10.2.0.1', prefixLength: 16 },
    ],
  },
  {
    op: 'routes',
    routes: [
      unicast('fd01::/64', CLIENT),
      unicast('fd02::/64', SERVER),
      unicast('::/0', CLIENT, {
        nextHops: [{ interfaceIndex: CLIENT, gateway: 'fd01::ffff' }],
      }),
      unicast('10.2.0.0/16', SERVER),
    ],
  },
]

function tableOf(...more: RouteUpdate[]): { table: RouteTable; hop: (text: string) => number } {
  const table = new RouteTable()
  table.apply([...director, ...more])
  return { table, hop: (text) => table.hopForIpv6(addressWordsIpv6(text), 0) }
}

t.test('routes, gateways, sources and neighbours', async (t) => {
  const { table, hop } = tableOf()
  const near = hop('fd02::5')
  t.equal(table.state[near], HopState.unresolved)
  t.equal(table.port[near], 1)
  t.equal(table.mtu[near], 1400)
  t.equal(formatAddress(table.sourceIpv6, 4 * near), 'fd02::1')
  t.equal(hop('fd02::5'), near)
  t.not(hop('fd02::6'), near)
  table.want(near)
  t.strictSame(table.takeWanted(), [{ interfaceIndex: SERVER, address: 'fd02::5' }])
  table.apply([
    {
      op: 'set-neighbour',
      neighbour: {
        interfaceIndex: SERVER,
        address: 'FD02:0::5',
        mac: '02:06:00:00:00:05',
        state: 'permanent',
      },
    },
  ])
  t.equal(table.state[near], HopState.ready)
  t.strictSame([...table.mac.subarray(3 * near, 3 * near + 3)], [0x0602, 0, 0x0500])

  const far = hop('2001:db8::1')
  t.equal(hop('2001:db8::2'), far, 'one hop for one gateway')
  t.equal(table.port[far], 0)
  t.equal(formatAddress(table.sourceIpv6, 4 * far), 'fd01::1')
  table.want(far)
  t.strictSame(table.takeWanted(), [{ interfaceIndex: CLIENT, address: 'fd01::ffff' }])

  for (const own of ['fd00::1', 'fd01::1', 'fe80::1'])
    t.equal(table.state[hop(own)], HopState.local, own)
  const ipv4 = table.hopFor(addressBe('10.2.0.5'))
  t.equal(table.port[ipv4], 1)
  t.equal(table.sourceBe[ipv4], addressBe('10.2.0.1'))
  t.not(ipv4, near)
})

t.test('changes', async (t) => {
  const { table, hop } = tableOf()
  const { generation } = table
  hop('fd02::5')
  table.apply([{ op: 'set-route', route: unicast('fd02::/112', CLIENT, { mtu: 1300 }) }])
  t.not(table.generation, generation)
  t.equal(table.port[hop('fd02::5')], 0, 'the longer prefix')
  t.equal(table.mtu[hop('fd02::5')], 1300)
  t.equal(table.port[hop('fd02::1:5')], 1)
  table.apply([
    { op: 'delete-route', route: unicast('fd02::/112', CLIENT, { mtu: 1300 }) },
    { op: 'set-route', route: unicast('fd02::/128', CLIENT, { type: 'unreachable' }) },
    { op: 'set-route', route: unicast('fd02::7/128', LO, { type: 'local', table: 'local' }) },
  ])
  t.equal(table.port[hop('fd02::5')], 1)
  t.equal(hop('fd02::'), NO_HOP)
  t.equal(table.state[hop('fd02::7')], HopState.local)

  const address = { interfaceIndex: SERVER, address: 'fd02::8', prefixLength: 64 }
  t.equal(table.state[hop('fd02::8')], HopState.unresolved)
  table.apply([{ op: 'set-address', address }])
  t.equal(table.state[hop('fd02::8')], HopState.local)
  table.apply([{ op: 'delete-address', address }])
  t.equal(table.state[hop('fd02::8')], HopState.unresolved)
  table.apply([{ op: 'set-link', link: { index: SERVER, name: 'server', mtu: 1400, up: false } }])
  t.equal(table.port[hop('fd02::5')], 0, 'a route whose link is down gives way to a shorter one')
  t.throws(
    () => table.apply([{ op: 'set-route', route: unicast('fd02::x/64', SERVER) }]),
    /'fd02::x\/64' is no IPv6 prefix/,
  )
  t.throws(
    () => table.apply([{ op: 'delete-neighbour', interfaceIndex: 1, address: 'fd02:::' }]),
    /'fd02:::' is no IPv6 address/,
  )
})

t.test('prefixes are matched as by trying all', async () => {
  const word = fc.constantFrom(0, 1, 0x80, 0x8000, 0xff, -1, 0x01000000, 0x7f000000)
  const words = fc.tuple(word, word, word, word).map((all) => Int32Array.from(all))
  const prefix = fc
    .tuple(words, fc.integer({ min: 0, max: 128 }))
    .map(([address, length]) => `${formatAddress(address)}/${length}`)
  fc.assert(
    fc.property(
      fc.array(prefix, { minLength: 1, maxLength: 30 }),
      fc.array(fc.nat(29), { maxLength: 10 }),
      fc.array(words, { minLength: 1, maxLength: 10 }),
      (texts, removed, addresses) => {
        const prefixes = new Ipv6Prefixes<string>()
        const parsed = texts.map((text) => parsePrefix(text)!)
        const nameOf = (i: number): string =>
          `${formatAddress(parsed[i]!.words)}/${parsed[i]!.prefixLength}`
        const names = new Set(parsed.map((_, i) => nameOf(i)))
        parsed.forEach((each, i) => {
          const list = prefixes.get(each, true)!
          if (list.length === 0) list.push(nameOf(i))
        })
        for (const i of removed) {
          if (i >= parsed.length) continue
          prefixes.delete(parsed[i]!)
          names.delete(nameOf(i))
        }
        return addresses.every((address) => {
          let best: string | undefined
          for (let length = 128; length >= 0 && best === undefined; length--) {
            const masked = parsePrefix(`${formatAddress(address)}/${length}`)!
            const name = `${formatAddress(masked.words)}/${length}`
            if (names.has(name)) best = name
          }
          return prefixes.match(address, 0)?.[0] === best
        })
      },
    ),
  )
})

t.test('source addresses', async (t) => {
  const choose = (destination: string, ...candidates: [number, string][]): string | undefined => {
    const own = candidates.map(([interfaceIndex, address]) => ({
      interfaceIndex,
      words: parseAddress(address)!,
    }))
    const chosen = selectSourceIpv6(own, CLIENT, parseAddress(destination)!, 0)
    return chosen && formatAddress(chosen)
  }
  t.equal(choose('fd00::1'), undefined)
  t.equal(choose('fd01::9', [CLIENT, 'fe80::1'], [CLIENT, 'fd01::1']), 'fd01::1', 'scope')
  t.equal(choose('fe80::9', [CLIENT, 'fd01::1'], [CLIENT, 'fe80::1']), 'fe80::1', 'scope')
  t.equal(choose('fe80::9', [SERVER, 'fe80::2'], [CLIENT, 'fd01::1']), 'fd01::1', 'its own link')
  t.equal(choose('fd01::9', [SERVER, 'fd01::2'], [CLIENT, 'fd07::1']), 'fd07::1', 'interface')
  t.equal(choose('2001:db8::9', [CLIENT, 'fd01::1'], [CLIENT, '2600::1']), '2600::1', 'label')
  t.equal(choose('fd01:2::9', [CLIENT, 'fd01::1'], [CLIENT, 'fd01:2::1']), 'fd01:2::1', 'prefix')
  t.equal(choose('fd01::2', [LO, 'fd01::2'], [CLIENT, 'fd01::1']), 'fd01::2', 'itself')
  t.equal(choose('fd01::9', [CLIENT, 'fd01::4'], [CLIENT, 'fd01::5']), 'fd01::4', 'the first')
})
