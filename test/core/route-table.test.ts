import t from 'tap'
import { RouteTable, type Route, type RouteUpdate } from '../../src/core/route-table.js'
import { AddressSort, HopState, NO_HOP } from '../../src/port/neighbours.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { addressBe, macBytes } from '../support/packets.js'

const ETH0 = 2
const ETH1 = 3
const BR0 = 7
const unicast = (prefix: string, more: Partial<Route>): Route => ({
  table: 'main',
  prefix,
  type: 'unicast',
  metric: 0,
  nextHops: [],
  ...more,
})
const via = (interfaceIndex: number, gateway?: string, weight?: number) => ({
  interfaceIndex,
  ...(gateway === undefined ? {} : { gateway }),
  ...(weight === undefined ? {} : { weight }),
})

/** A director between 10.1.0.0/24 (eth0) and 10.2.0.0/24 (eth1), with a default route by eth0. */
const director: RouteUpdate[] = [
  {
    op: 'set-ports',
    ports: [
      { port: 0, linkLayer: LinkLayer.ethernet, interfaces: [ETH0] },
      { port: 1, linkLayer: LinkLayer.ethernet, interfaces: [ETH1] },
    ],
  },
  {
    op: 'links',
    links: [
      { index: 1, name: 'lo', mtu: 65536, up: true },
      { index: ETH0, name: 'eth0', mtu: 1500, up: true, mac: '02:00:00:00:00:02' },
      { index: ETH1, name: 'eth1', mtu: 9000, up: true, mac: '02:00:00:00:00:03' },
    ],
  },
  {
    op: 'addresses',
    addresses: [
      { interfaceIndex: 1, address: '127.0.0.1', prefixLength: 8 },
      { interfaceIndex: ETH0, address: '10.1.0.9', prefixLength: 24 },
      { interfaceIndex: ETH1, address: '10.2.0.9', prefixLength: 24 },
      { interfaceIndex: ETH1, address: '10.2.0.10', prefixLength: 24, secondary: true },
    ],
  },
  {
    op: 'routes',
    routes: [
      unicast('127.0.0.0/8', { table: 'local', type: 'local', nextHops: [via(1)] }),
      unicast('10.1.0.255/32', { table: 'local', type: 'broadcast', nextHops: [via(ETH0)] }),
      unicast('0.0.0.0/0', { nextHops: [via(ETH0, '10.1.0.1')] }),
      unicast('10.1.0.0/24', { nextHops: [via(ETH0)], preferredSource: '10.1.0.9' }),
      unicast('10.2.0.0/24', { nextHops: [via(ETH1)] }),
    ],
  },
]

function tableOf(...more: RouteUpdate[]): RouteTable {
  const table = new RouteTable()
  table.apply([...director, ...more])
  return table
}
const be = addressBe
const resolved = (
  interfaceIndex: number,
  address: string,
  mac: string,
  state: 'reachable' | 'stale' = 'reachable',
): RouteUpdate => ({ op: 'set-neighbour', neighbour: { interfaceIndex, address, mac, state } })

t.test('the longest prefix wins, and a gateway is the neighbour of all behind it', (t) => {
  const table = tableOf()
  const far = table.hopFor(be('192.0.2.1'))
  t.equal(table.hopFor(be('198.51.100.1')), far, 'one hop for one gateway')
  t.equal(table.state[far], HopState.unresolved)
  t.equal(table.port[far], 0)
  t.equal(table.mtu[far], 1500)
  t.equal(table.sourceBe[far], be('10.1.0.9'))
  const near = table.hopFor(be('10.2.0.1'))
  t.not(near, far)
  t.equal(table.port[near], 1)
  t.equal(table.mtu[near], 9000)
  t.equal(table.sourceBe[near], be('10.2.0.9'), 'the primary address of the neighbour’s network')
  t.end()
})

t.test('own addresses, loopback and broadcast are no way out', (t) => {
  const table = tableOf()
  for (const address of ['10.1.0.9', '10.2.0.10', '127.0.0.5'])
    t.equal(table.state[table.hopFor(be(address))], HopState.local, address)
  t.equal(table.hopFor(be('10.1.0.255')), NO_HOP)
  const sorts: [string, AddressSort][] = [
    ['10.2.0.9', AddressSort.local],
    ['127.1.2.3', AddressSort.local],
    ['10.1.0.255', AddressSort.broadcast],
    ['255.255.255.255', AddressSort.broadcast],
    ['0.0.0.0', AddressSort.broadcast],
    ['224.0.0.5', AddressSort.multicast],
    ['10.1.0.8', AddressSort.unicast],
    ['0.1.2.3', AddressSort.unicast],
  ]
  for (const [address, sort] of sorts) t.equal(table.sortOf(be(address)), sort, address)
  t.end()
})

t.test('no route, and routes that refuse', (t) => {
  const table = tableOf(
    { op: 'set-route', route: unicast('10.3.0.0/16', { type: 'blackhole' }) },
    { op: 'set-route', route: unicast('10.4.0.0/16', { type: 'unreachable' }) },
    { op: 'set-route', route: unicast('10.5.0.0/16', { type: 'throw' }) },
  )
  t.equal(table.hopFor(be('10.3.0.1')), NO_HOP)
  t.equal(table.hopFor(be('10.4.0.1')), NO_HOP)
  t.equal(table.hopFor(be('10.5.0.1')), NO_HOP, 'throw leaves the table, and the next has nothing')
  t.equal(new RouteTable().hopFor(be('10.0.0.1')), NO_HOP, 'nothing is known at all')
  t.equal(table.state[NO_HOP], HopState.unreachable)
  t.end()
})

t.test('the lowest metric wins, in whatever order routes come', (t) => {
  const table = tableOf(
    {
      op: 'set-route',
      route: unicast('10.9.0.0/16', { metric: 200, nextHops: [via(ETH0, '10.1.0.2')] }),
    },
    {
      op: 'set-route',
      route: unicast('10.9.0.0/16', { metric: 100, nextHops: [via(ETH1, '10.2.0.2')] }),
    },
  )
  t.equal(table.port[table.hopFor(be('10.9.0.1'))], 1)
  table.apply([
    {
      op: 'delete-route',
      route: unicast('10.9.0.0/16', { metric: 100, nextHops: [via(ETH1, '10.2.0.2')] }),
    },
  ])
  t.equal(table.port[table.hopFor(be('10.9.0.1'))], 0)
  t.end()
})

t.test('routes of one metric: a new one goes first, append last, replace takes the place', (t) => {
  const route = (gateway: string): Route =>
    unicast('10.9.0.0/16', { nextHops: [via(ETH1, gateway)] })
  const table = tableOf({ op: 'set-route', route: route('10.2.0.1') })
  const gatewayNow = (): string | undefined => {
    table.want(table.hopFor(be('10.9.0.1')))
    return table.takeWanted()[0]?.address
  }
  t.equal(gatewayNow(), '10.2.0.1')
  table.apply([{ op: 'set-route', route: route('10.2.0.2') }])
  t.equal(gatewayNow(), '10.2.0.2')
  table.apply([{ op: 'set-route', route: route('10.2.0.3'), place: 'append' }])
  const before = table.generation
  table.apply([{ op: 'set-route', route: route('10.2.0.3'), place: 'append' }])
  t.equal(table.generation, before, 'what is there already changes nothing')
  table.apply([{ op: 'set-route', route: route('10.2.0.4'), place: 'replace' }])
  t.equal(gatewayNow(), '10.2.0.4')
  table.apply([{ op: 'delete-route', route: route('10.2.0.4') }])
  t.equal(table.port[table.hopFor(be('10.9.0.1'))], 1, 'the first of the others')
  t.end()
})

t.test('a neighbour changes the arrays of the same hop, and no generation', (t) => {
  const table = tableOf()
  const hop = table.hopFor(be('10.2.0.1'))
  const { generation } = table
  table.apply([resolved(ETH1, '10.2.0.1', '02:00:00:00:aa:01')])
  t.equal(table.state[hop], HopState.ready)
  const bytes = new Uint8Array(table.mac.slice(3 * hop, 3 * hop + 3).buffer)
  t.strictSame([...bytes], macBytes('02:00:00:00:aa:01'))
  table.apply([resolved(ETH1, '10.2.0.1', '02:00:00:00:aa:02', 'stale')])
  t.equal(table.state[hop], HopState.ready, 'a stale neighbour may be used')
  t.equal(new Uint8Array(table.mac.slice(3 * hop, 3 * hop + 3).buffer)[5], 2)
  table.apply([
    {
      op: 'set-neighbour',
      neighbour: { interfaceIndex: ETH1, address: '10.2.0.1', state: 'failed' },
    },
  ])
  t.equal(table.state[hop], HopState.unresolved)
  table.apply([
    resolved(ETH1, '10.2.0.1', '02:00:00:00:aa:02'),
    resolved(ETH0, '10.2.0.1', '02:00:00:00:bb:01'),
    { op: 'delete-neighbour', interfaceIndex: ETH1, address: '10.2.0.1' },
  ])
  t.equal(table.state[hop], HopState.unresolved, 'the same address elsewhere is another neighbour')
  table.apply([{ op: 'neighbours', neighbours: [] }])
  t.equal(table.generation, generation)
  t.equal(table.hopFor(be('10.2.0.1')), hop)
  t.end()
})

t.test('a neighbour known before it is asked for is ready at once', (t) => {
  const table = tableOf(resolved(ETH1, '10.2.0.1', '02:00:00:00:aa:01'))
  t.equal(table.state[table.hopFor(be('10.2.0.1'))], HopState.ready)
  t.end()
})

t.test('changes of routes, links and addresses change the generation, repetitions do not', (t) => {
  const table = tableOf()
  const changes = (update: RouteUpdate): boolean => {
    const before = table.generation
    table.apply([update])
    return table.generation !== before
  }
  const link = { index: ETH1, name: 'eth1', mtu: 9000, up: true, mac: '02:00:00:00:00:03' }
  t.notOk(changes({ op: 'set-link', link }))
  t.ok(changes({ op: 'set-link', link: { ...link, mtu: 1400 } }))
  t.ok(changes({ op: 'set-link', link: { ...link, up: false } }))
  t.ok(changes({ op: 'delete-link', index: ETH1 }))
  t.notOk(changes({ op: 'delete-link', index: ETH1 }))
  const address = { interfaceIndex: ETH0, address: '10.1.0.10', prefixLength: 24 }
  t.ok(changes({ op: 'set-address', address }))
  t.notOk(changes({ op: 'set-address', address }))
  t.ok(changes({ op: 'delete-address', address }))
  t.notOk(changes({ op: 'delete-address', address }))
  t.notOk(changes({ op: 'delete-route', route: unicast('10.77.0.0/16', {}) }))
  t.notOk(changes({ op: 'review' }))
  const lists = new RouteTable()
  lists.apply(director)
  const { generation } = lists
  lists.apply(director.filter(({ op }) => op !== 'set-ports'))
  t.equal(lists.generation, generation, 'lists read again that say the same')
  lists.apply([
    { op: 'delete-link', index: ETH1 },
    { op: 'delete-address', address: { ...address, address: '10.2.0.9', interfaceIndex: ETH1 } },
    { op: 'delete-route', route: unicast('10.2.0.0/24', { nextHops: [via(ETH1)] }) },
    ...director,
  ])
  t.equal(lists.port[lists.hopFor(be('10.2.0.1'))], 1, 'but not after changes between')
  t.equal(lists.state[lists.hopFor(be('10.2.0.9'))], HopState.local)
  t.end()
})

t.test('a link that is down is no way, and hops on it say so', (t) => {
  const table = tableOf(resolved(ETH1, '10.2.0.1', '02:00:00:00:aa:01'))
  const hop = table.hopFor(be('10.2.0.1'))
  const link = { index: ETH1, name: 'eth1', mtu: 9000, up: false }
  table.apply([{ op: 'set-link', link }])
  t.equal(table.state[hop], HopState.unreachable)
  t.equal(table.port[table.hopFor(be('10.2.0.1'))], 0, 'the default route takes over')
  table.apply([{ op: 'set-link', link: { ...link, up: true } }])
  t.equal(table.hopFor(be('10.2.0.1')), hop, 'the hop keeps its number')
  t.equal(table.state[hop], HopState.ready)
  t.end()
})

t.test('an interface that is no port leaves the packet to the kernel', (t) => {
  const table = tableOf({ op: 'set-ports', ports: [] })
  const hop = table.hopFor(be('10.2.0.1'))
  t.equal(table.state[hop], HopState.kernel)
  t.equal(table.mtu[hop], 9000, 'the MTU of where it leaves')
  t.equal(table.sourceBe[hop], be('10.2.0.9'))
  t.equal(table.hopFor(be('10.2.0.2')), hop, 'neighbours are the kernel’s business')
  t.end()
})

t.test('a port without a link layer is always ready', (t) => {
  const table = tableOf({
    op: 'set-ports',
    ports: [{ port: 4, linkLayer: LinkLayer.ip, interfaces: [ETH1] }],
  })
  const hop = table.hopFor(be('10.2.0.1'))
  t.equal(table.state[hop], HopState.ready)
  t.equal(table.port[hop], 4)
  t.end()
})

t.test('a station on a bridge reaches the neighbours of the bridge', (t) => {
  const table = tableOf(
    {
      op: 'set-ports',
      ports: [{ port: 0, linkLayer: LinkLayer.ethernet, interfaces: [BR0] }],
    },
    { op: 'set-link', link: { index: BR0, name: 'br0', mtu: 1500, up: true } },
    { op: 'set-route', route: unicast('10.7.0.0/24', { nextHops: [via(BR0)] }) },
  )
  const hop = table.hopFor(be('10.7.0.5'))
  table.want(hop)
  t.strictSame(table.takeWanted(), [{ interfaceIndex: BR0, address: '10.7.0.5' }])
  table.apply([resolved(BR0, '10.7.0.5', '02:00:00:00:cc:05')])
  t.equal(table.state[hop], HopState.ready)
  t.equal(table.port[hop], 0)
  t.end()
})

t.test('MTU and source of the route itself', (t) => {
  const table = tableOf(
    {
      op: 'set-route',
      route: unicast('10.9.0.0/16', {
        mtu: 1280,
        preferredSource: '10.1.0.9',
        nextHops: [via(ETH1, '10.2.0.1')],
      }),
    },
    {
      op: 'set-route',
      route: unicast('10.8.0.0/16', { mtu: 20000, nextHops: [via(ETH1, '10.2.0.1')] }),
    },
  )
  const hop = table.hopFor(be('10.9.0.1'))
  t.equal(table.mtu[hop], 1280)
  t.equal(table.sourceBe[hop], be('10.1.0.9'))
  t.equal(table.mtu[table.hopFor(be('10.8.0.1'))], 9000, 'never above the link’s')
  t.end()
})

t.test('several next hops: shares by weight, one destination always the same way', (t) => {
  const nextHops = [via(ETH0, '10.1.0.2', 1), via(ETH1, '10.2.0.2', 3)]
  const table = tableOf({ op: 'set-route', route: unicast('172.16.0.0/12', { nextHops }) })
  const share = [0, 0]
  for (let i = 0; i < 4000; i++) {
    const address = be(`172.16.${i >> 8}.${i & 255}`)
    const port = table.port[table.hopFor(address)]!
    share[port]!++
    if (table.port[table.hopFor(address)] !== port) t.fail('the way changed')
  }
  t.ok(share[0]! > 800 && share[0]! < 1200, `a quarter by the first: ${share[0]}`)
  table.apply([{ op: 'set-link', link: { index: ETH1, name: 'eth1', mtu: 9000, up: false } }])
  for (let i = 0; i < 100; i++)
    if (table.port[table.hopFor(be(`172.16.1.${i}`))] !== 0)
      t.fail('a way over a link that is down')
  t.end()
})

t.test('each wanted neighbour is named once until the kernel has answered', (t) => {
  const table = tableOf()
  const hop = table.hopFor(be('10.2.0.1'))
  t.notOk(table.hasWanted)
  table.want(hop)
  table.want(hop)
  t.ok(table.hasWanted)
  t.strictSame(table.takeWanted(), [{ interfaceIndex: ETH1, address: '10.2.0.1' }])
  table.want(hop)
  t.notOk(table.hasWanted, 'it has been asked for')
  table.apply([
    {
      op: 'set-neighbour',
      neighbour: { interfaceIndex: ETH1, address: '10.2.0.1', state: 'failed' },
    },
  ])
  table.want(hop)
  t.ok(table.hasWanted, 'it did not answer, so it is asked for again')
  table.takeWanted()
  table.apply([{ op: 'review' }])
  table.want(hop)
  t.ok(table.hasWanted, 'or nothing was heard for a while')
  table.want(table.hopFor(be('10.1.0.9')))
  t.equal(table.takeWanted().length, 1, 'the local hop has no neighbour to ask for')
  t.end()
})

t.test('stale neighbours that are in use are confirmed, others are left alone', (t) => {
  const table = tableOf(
    resolved(ETH1, '10.2.0.1', '02:00:00:00:aa:01'),
    resolved(ETH1, '10.2.0.2', '02:00:00:00:aa:02', 'stale'),
    resolved(ETH1, '10.2.0.3', '02:00:00:00:aa:03', 'stale'),
  )
  for (const address of ['10.2.0.1', '10.2.0.2', '10.2.0.3']) table.hopFor(be(address))
  table.used[table.hopFor(be('10.2.0.1'))] = 1
  table.used[table.hopFor(be('10.2.0.2'))] = 1
  table.apply([{ op: 'review' }])
  t.strictSame(table.takeWanted(), [{ interfaceIndex: ETH1, address: '10.2.0.2' }])
  table.apply([{ op: 'review' }])
  t.notOk(table.hasWanted, 'nothing was sent to it since')
  t.end()
})

t.test('when hop numbers run out the oldest are used again', (t) => {
  const table = tableOf({
    op: 'set-route',
    route: unicast('100.0.0.0/8', { nextHops: [via(ETH1)] }),
  })
  const numbered = (i: number) =>
    100 | ((i >> 16) << 8) | (((i >> 8) & 255) << 16) | ((i & 255) << 24)
  const { generation } = table
  const first = table.hopFor(numbered(0))
  for (let i = 1; i < 70_000; i++) table.hopFor(numbered(i))
  t.not(table.generation, generation, 'so that nobody holds on to an old number')
  const again = table.hopFor(numbered(0))
  table.want(again)
  t.strictSame(table.takeWanted(), [{ interfaceIndex: ETH1, address: '100.0.0.0' }])
  t.ok(first > 0 && again > 0 && again < 65536)
  const last = table.hopFor(numbered(69_999))
  table.apply([resolved(ETH1, '100.1.17.111', '02:00:00:00:dd:01')])
  t.equal(table.state[last], HopState.ready)
  t.end()
})

t.test('the generation wraps without an old answer coming back to life', (t) => {
  const table = tableOf()
  const hop = table.hopFor(be('10.2.0.1'))
  const on = { index: ETH1, name: 'eth1', mtu: 9000, up: true }
  const start = table.generation
  for (let i = 0; i < 65535; i++)
    table.apply([{ op: 'set-link', link: { ...on, mtu: i % 2 === 0 ? 1000 : 9000 } }])
  t.equal(table.generation, start, 'it has gone round')
  table.apply([{ op: 'routes', routes: [] }])
  t.equal(table.hopFor(be('10.2.0.1')), NO_HOP)
  t.not(hop, NO_HOP)
  t.ok(table.generation >= 1 && table.generation <= 65535)
  t.end()
})

t.test('text that is no address is refused by name', (t) => {
  const table = tableOf()
  t.throws(
    () => table.apply([{ op: 'set-route', route: unicast('10.0.0.0/33', {}) }]),
    /10\.0\.0\.0\/33/,
  )
  t.throws(() => table.apply([resolved(ETH1, '10.2.0.1', 'nonsense')]), /nonsense/)
  t.throws(() => table.apply([resolved(ETH1, '10.2.0', '02:00:00:00:00:01')]), /10\.2\.0/)
  t.end()
})
