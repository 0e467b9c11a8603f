// Run by netns-tests/routes.test.ts in the namespace `director` that it describes; the argument is the name
// of the neighbour's namespace. With a further argument `program`, programs the kernel and waits to be killed.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { Steering } from '../../src/core/commands.js'
import { RouteTable, type RouteUpdate } from '../../src/core/route-table.js'
import { native } from '../../src/kernel/native.js'
import {
  describe,
  devicePlumbing,
  Plumbing,
  tunPlumbing,
  virtualAddresses,
} from '../../src/kernel/routing/plumbing.js'
import { RouteFollower } from '../../src/kernel/routing/route-follower.js'
import { sleep } from '../../src/lab/process.js'
import { HopState } from '../../src/port/neighbours.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { addressBe, macBytes } from '../../test/support/packets.js'
import { openPlainDevice } from './plain-device.js'

t.setTimeout(600_000)

const [neighbourNamespace = '', task] = process.argv.slice(2)
const NEIGHBOUR = '10.9.1.1'
/** Nobody has it. */
const SILENT = '10.9.1.200'
const VIRTUAL = '10.9.1.100'
const DIRECTOR = '10.9.1.9'

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
const batch = (lines: string[]): void => {
  execFileSync('ip', ['-force', '-batch', '-'], { input: lines.join('\n'), stdio: 'pipe' })
}
const setting = (path: string, value: string): void =>
  writeFileSync(`/proc/sys/net/ipv4/${path}`, value)

const steering: Steering = {
  virtual: [
    { protocol: 'tcp', address: VIRTUAL, port: 80 },
    { protocol: 'tcp', address: VIRTUAL, port: 0 },
    { protocol: 'udp', address: DIRECTOR, port: 53 },
  ],
  replies: [{ protocol: 'tcp', address: '10.9.2.5', port: 8080 }],
  marks: [
    {
      mark: 1,
      protocol: 'tcp',
      destination: '10.9.1.5/24',
      source: '0.0.0.0/0',
      ports: [8000, 8010],
    },
  ],
}

/** A TUN device and a director's rules around it. */
async function program(wanted: Steering, follower: RouteFollower, plumbing: Plumbing) {
  await plumbing.apply([
    ...devicePlumbing('uvs0'),
    ...virtualAddresses('uvs0', wanted, await follower.readAddresses()),
    ...tunPlumbing('uvs0', wanted),
  ])
}
const openTun = (): number => openPlainDevice('uvs0', 'tun').fd

if (task === 'program') {
  openTun()
  const follower = await RouteFollower.start()
  await program(steering, follower, new Plumbing(() => follower.readInterfaces()))
  process.stdout.write('programmed\n')
  await new Promise(() => {})
}

/** A route table that follows the kernel, and a wait for what it is to say. */
async function following(t: Test) {
  const follower = await RouteFollower.start()
  const table = new RouteTable()
  const heard = new Set<RouteUpdate['op']>()
  follower.on('updates', (updates) => {
    for (const { op } of updates) heard.add(op)
    table.apply(updates)
  })
  follower.on('failed', (error) => t.fail(error.message))
  t.teardown(() => follower.close())
  const eth0 = follower.interfaces.find(({ name }) => name === 'eth0')!
  table.apply([
    {
      op: 'set-ports',
      ports: [{ port: 0, linkLayer: LinkLayer.ethernet, interfaces: [eth0.interfaceIndex] }],
    },
    ...(await follower.snapshot()),
  ])
  const hop = (address: string): number => table.hopFor(addressBe(address))
  const state = (address: string): number => table.state[hop(address)]!
  const until = async (what: string, condition: () => boolean, ms = 60_000): Promise<void> => {
    for (let waited = 0; !condition(); waited += 10) {
      if (waited > ms) return void t.fail(`in vain for ${ms} ms: ${what}`)
      await sleep(10)
    }
    t.pass(what)
  }
  return { follower, table, heard, hop, state, until }
}

t.test('an unresolved neighbour is asked for by the kernel', async (t) => {
  const { follower, table, hop, state, until } = await following(t)
  const known = hop(NEIGHBOUR)
  t.equal(table.state[known], HopState.unresolved)
  table.want(known)
  follower.resolve(table.takeWanted())
  await until('the neighbour has answered', () => table.state[known] === HopState.ready)
  const mac = /link\/ether (\S+)/.exec(ip('-n', neighbourNamespace, 'link', 'show', 'eth0'))![1]!
  t.strictSame(
    [...new Uint8Array(table.mac.slice(3 * known, 3 * known + 3).buffer)],
    macBytes(mac),
    'with its own Ethernet address',
  )
  const silent = hop(SILENT)
  table.want(silent)
  follower.resolve(table.takeWanted())
  table.want(silent)
  t.notOk(table.hasWanted, 'while the kernel asks it is not asked again')
  await until('the kernel has given up', () => (table.want(silent), table.hasWanted))
  t.equal(state(SILENT), HopState.unresolved)
  t.equal(state(DIRECTOR), HopState.local)
})

t.test('a stale neighbour in use is confirmed', async (t) => {
  const { follower, table, hop, until } = await following(t)
  // The kernel waits this long for signs of life before it asks.
  writeFileSync('/proc/sys/net/ipv4/neigh/eth0/delay_first_probe_time', '1')
  ip('neigh', 'replace', NEIGHBOUR, 'dev', 'eth0', 'lladdr', '02:00:00:00:00:77', 'nud', 'stale')
  const known = hop(NEIGHBOUR)
  await until('the entry is seen', () => table.mac[3 * known + 2] === 0x7700)
  table.used[known] = 1
  table.apply([{ op: 'review' }])
  follower.resolve(table.takeWanted())
  // The kernel asks the old Ethernet address in vain, then gives the entry up; then packets wait.
  await until('the old address does not answer', () => table.state[known] !== HopState.ready)
  table.want(known)
  follower.resolve(table.takeWanted())
  await until('the new one is found', () => table.state[known] === HopState.ready)
  t.not(table.mac[3 * known + 2], 0x7700)
})

t.test('routes, links and neighbours are followed as they change', async (t) => {
  const { table, hop, state, until } = await following(t)
  t.equal(state('10.50.0.1'), HopState.unreachable)
  ip('route', 'add', '10.50.0.0/16', 'via', NEIGHBOUR, 'mtu', '1300')
  await until('a route came', () => table.mtu[hop('10.50.0.1')] === 1300)
  t.equal(table.sourceBe[hop('10.50.0.1')], addressBe(DIRECTOR))
  ip('route', 'replace', '10.50.0.0/16', 'via', NEIGHBOUR, 'mtu', '1200')
  await until('a route was replaced', () => table.mtu[hop('10.50.0.1')] === 1200)
  ip('route', 'replace', 'blackhole', '10.50.0.0/16')
  await until('a blackhole', () => state('10.50.0.1') === HopState.unreachable)
  ip('route', 'del', 'blackhole', '10.50.0.0/16')

  ip(
    'route',
    'add',
    '10.51.0.0/16',
    ...['1', '2'].flatMap((n) => ['nexthop', 'via', `10.9.1.${n}`]),
  )
  const ways = (): number => new Set(Array.from({ length: 64 }, (_, i) => hop(`10.51.0.${i}`))).size
  await until('several next hops are both used', () => ways() === 2)
  ip('route', 'del', '10.51.0.0/16')

  ip('neigh', 'replace', NEIGHBOUR, 'dev', 'eth0', 'lladdr', '02:00:00:00:00:77', 'nud', 'stale')
  await until('a neighbour came', () => state(NEIGHBOUR) === HopState.ready)
  ip('neigh', 'del', NEIGHBOUR, 'dev', 'eth0')
  await until('a neighbour went', () => state(NEIGHBOUR) === HopState.unresolved)
  ip('neigh', 'replace', NEIGHBOUR, 'dev', 'eth0', 'lladdr', '02:00:00:00:00:77', 'nud', 'stale')
  await until('and came again', () => state(NEIGHBOUR) === HopState.ready)

  ip('route', 'add', '10.52.0.0/16', 'via', NEIGHBOUR)
  await until('a route by the link', () => state('10.52.0.1') === HopState.ready)
  ip('link', 'set', 'eth0', 'down')
  await until('a link went down', () => state(NEIGHBOUR) === HopState.unreachable)
  ip('link', 'set', 'eth0', 'up')
  await until(
    'a link came up, without its neighbours',
    () => state(NEIGHBOUR) === HopState.unresolved,
  )
  // The kernel says nothing of the routes that it drops with a link.
  t.equal(state('10.52.0.1'), HopState.unreachable, 'nor the routes that went with it')
  ip('link', 'set', 'eth0', 'mtu', '1400')
  await until('an MTU', () => table.mtu[hop(NEIGHBOUR)] === 1400)
  ip('link', 'set', 'eth0', 'mtu', '1500')
  ip('address', 'add', '10.9.1.10/24', 'dev', 'eth0')
  await until('an address came', () => state('10.9.1.10') === HopState.local)
  ip('address', 'del', '10.9.1.10/24', 'dev', 'eth0')
  await until('an address went', () => state('10.9.1.10') !== HopState.local)
})

t.test('a burst that the socket cannot hold is survived, and read anew', async (t) => {
  const { table, heard, hop, until } = await following(t)
  const routes = Array.from({ length: 8000 }, (_, i) => `10.200.${i >> 8}.${i & 255}/32`)
  const lines: string[] = []
  for (let round = 0; round < 6; round++)
    for (const word of ['add', 'del'])
      for (const route of routes) lines.push(`route ${word} ${route} via ${NEIGHBOUR}`)
  lines.push(`route add 10.201.0.0/16 via ${NEIGHBOUR} mtu 1234`)
  // Nothing is received while this runs.
  batch(lines)
  await until('the last route is there', () => table.mtu[hop('10.201.0.1')] === 1234)
  await until('neighbours were read anew, as some may have been lost', () =>
    heard.has('neighbours'),
  )
  ip('route', 'del', '10.201.0.0/16')
})

t.test('large tables are read by several at once', async (t) => {
  const routes = Array.from({ length: 4000 }, (_, i) => `10.200.${i >> 8}.${i & 255}/32`)
  batch(routes.map((route) => `route add ${route} via ${NEIGHBOUR}`))
  t.teardown(() => batch(routes.map((route) => `route del ${route} via ${NEIGHBOUR}`)))
  const follower = await RouteFollower.start()
  t.teardown(() => follower.close())
  const [first, , second] = await Promise.all([
    follower.snapshot(),
    follower.readAddresses(),
    follower.snapshot(),
  ])
  const count = (updates: RouteUpdate[]): number =>
    updates.reduce((sum, update) => sum + (update.op === 'routes' ? update.routes.length : 0), 0)
  t.ok(count(first) >= 4000)
  t.equal(count(second), count(first))
})

/** Everything that plumbing could leave behind. */
const tables = (): string =>
  [
    ip('-4', 'rule'),
    ip('-4', 'route', 'show', 'table', 'all'),
    ip('neigh', 'show', 'proxy'),
    ip('-o', 'link').replace(/^\d+: /gm, ''),
  ].join('\n')
/** The same once it is as expected, or after half a minute: a device takes its time to go. */
async function settledTables(expected: string): Promise<string> {
  for (let tries = 0; tries < 600 && tables() !== expected; tries++) await sleep(50)
  return tables()
}
const way = (to: string, ...selectors: string[]): string =>
  ip('route', 'get', to, 'from', NEIGHBOUR, 'iif', 'eth0', ...selectors)

t.test('traffic of services is led into the device, and out of it past the rules', async (t) => {
  setting('ip_forward', '1')
  setting('conf/all/rp_filter', '1')
  t.teardown(() => setting('conf/all/rp_filter', '0'))
  const before = tables()
  const follower = await RouteFollower.start()
  const plumbing = new Plumbing(() => follower.readInterfaces())
  const descriptor = openTun()
  await program(steering, follower, plumbing)
  const texts = plumbing.list().map(describe)
  t.equal(
    texts.filter((text) => text.startsWith('ip rule add ')).length,
    ip('-4', 'rule').split('proto 117').length - 1,
    'the list has every rule of ours',
  )
  const tcp = (port: number): string[] => ['ipproto', 'tcp', 'sport', '999', 'dport', `${port}`]
  t.match(way(VIRTUAL, ...tcp(80)), /dev uvs0/, 'a virtual service')
  t.match(
    way(DIRECTOR, 'ipproto', 'udp', 'sport', '999', 'dport', '53'),
    /dev uvs0/,
    'on an own address',
  )
  t.match(way(DIRECTOR, ...tcp(22)), /^local/, 'ssh to the same address is the kernel’s')
  t.match(way('10.9.1.5', ...tcp(8005)), /dev uvs0/, 'a marking rule')
  t.match(way(VIRTUAL), /^local/, 'as is ARP for a virtual address, which the kernel answers')
  const fromDevice = (from: string, to: string): string =>
    ip('route', 'get', to, 'from', from, 'iif', 'uvs0', ...tcp(80))
  t.match(fromDevice(NEIGHBOUR, VIRTUAL), /^local/, 'what is handed back is delivered')
  t.match(fromDevice(VIRTUAL, NEIGHBOUR), /dev eth0/, 'replies go on, strict rp_filter or not')
  t.match(
    execFileSync('ip', ['netns', 'exec', neighbourNamespace, 'ip', '-4', 'rule'], {
      encoding: 'utf8',
    }),
    /^0:.*lookup local/,
    'other namespaces are not concerned',
  )

  const [first, , third] = steering.virtual
  const less = { ...steering, virtual: [first!, third!] }
  await program(less, follower, plumbing)
  t.match(
    ip('-4', 'rule'),
    new RegExp(`to ${VIRTUAL} ipproto tcp dport 80 `),
    'the narrower rule stays',
  )
  // One for fragments is as wide, further behind.
  t.notMatch(
    ip('-4', 'rule'),
    new RegExp(`24:.*to ${VIRTUAL} ipproto tcp lookup`),
    'the wider one goes',
  )
  const settled = ip('-4', 'rule')
  await program(less, follower, plumbing)
  t.equal(ip('-4', 'rule'), settled, 'applying the same again changes nothing')

  await plumbing.remove()
  native().closeDescriptor(descriptor)
  plumbing.close()
  follower.close()
  t.equal(await settledTables(before), before, 'all as before')
})

t.test('what a killed predecessor left is taken over', async (t) => {
  const before = tables()
  const self = fileURLToPath(import.meta.url)
  const child = spawn(process.execPath, [self, neighbourNamespace, 'program'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  while (ip('link', 'show').includes('uvs0')) await sleep(10)
  t.match(ip('-4', 'rule'), /proto 117/, 'rules outlive it')
  t.match(
    way(DIRECTOR, 'ipproto', 'udp', 'sport', '999', 'dport', '53'),
    /^local/,
    'and lead nowhere',
  )

  const follower = await RouteFollower.start()
  const plumbing = new Plumbing(() => follower.readInterfaces())
  const descriptor = openTun()
  const only: Steering = { virtual: [steering.virtual[0]!], replies: [], marks: [] }
  await program(only, follower, plumbing)
  t.notMatch(ip('-4', 'rule'), /dport 53/, 'what is no longer wanted has gone')
  t.match(way(VIRTUAL, 'ipproto', 'tcp', 'sport', '9', 'dport', '80'), /dev uvs0/)
  await plumbing.remove()
  native().closeDescriptor(descriptor)
  plumbing.close()
  follower.close()
  t.equal(await settledTables(before), before, 'all as before')
})

t.test('a rule of the table local that somebody has moved stays where it is', async (t) => {
  batch(['rule add pref 32765 lookup local', 'rule del pref 0 lookup local'])
  t.teardown(() => batch(['rule add pref 0 lookup local', 'rule del pref 32765 lookup local']))
  const before = tables()
  const follower = await RouteFollower.start()
  const plumbing = new Plumbing(() => follower.readInterfaces())
  const descriptor = openTun()
  await program(steering, follower, plumbing)
  t.match(way(VIRTUAL, 'ipproto', 'tcp', 'sport', '9', 'dport', '80'), /dev uvs0/)
  t.match(ip('route', 'get', VIRTUAL, 'from', NEIGHBOUR, 'iif', 'uvs0'), /^local/)
  await plumbing.remove()
  native().closeDescriptor(descriptor)
  plumbing.close()
  follower.close()
  t.equal(await settledTables(before), before, 'all as before')
})

t.test('without the capability the error says which', (t) => {
  const { status, stderr } = runWithoutCapabilities(`
    const { Plumbing, tunPlumbing } = await import(${JSON.stringify(
      new URL('../../src/kernel/routing/plumbing.js', import.meta.url).href,
    )})
    const none = { virtual: [], replies: [], marks: [] }
    await new Plumbing(async () => [{ interfaceIndex: 1, name: 'lo' }]).apply(tunPlumbing('lo', none))
  `)
  t.equal(status, 1)
  t.match(stderr, /ip route add default dev lo .*EPERM.*CAP_NET_ADMIN/)
  t.end()
})

function runWithoutCapabilities(script: string) {
  const limits = ['--bounding-set=-net_admin', '--inh-caps=-net_admin']
  const node = [process.execPath, '--input-type=module', '-e', script]
  return spawnSync('setpriv', [...limits, ...node], { encoding: 'utf8' })
}
