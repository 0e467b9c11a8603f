// Run by netns-tests/plumbing.test.ts in the namespace `director` that it describes; the arguments are the
// names of the other two.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { MarkRule, ServiceProtocol, Steering } from '../../src/core/commands.js'
import { TunPort } from '../../src/drivers/tun.js'
import { native } from '../../src/kernel/native.js'
import {
  canThreadReceive,
  describe,
  devicePlumbing,
  Plumbing,
  tunPlumbing,
  virtualAddresses,
  type PlumbingItem,
} from '../../src/kernel/routing/plumbing.js'
import { listInterfaces, openRtnetlink } from '../../src/kernel/routing/rtnetlink.js'
import { run, type CommandResult } from '../../src/lab/process.js'
import { FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { seedOr } from '../../test/support/seed.js'
import { answered } from './ping.js'
import { openPlainDevice } from './plain-device.js'

t.setTimeout(600_000)

const [clientNamespace = '', serverNamespace = ''] = process.argv.slice(2)
const CLIENT = '10.9.1.1'
const OWN = '10.9.1.2'
const SERVER = '10.9.2.1'
/** No address of the machine until it is plumbed. */
const VIP = '10.9.1.100'
const DEVICE = 'uvs0'

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
const at = (namespace: string, ...command: string[]): Promise<CommandResult> =>
  run('ip', ['netns', 'exec', namespace, ...command])
const atClient = (...command: string[]): Promise<CommandResult> => at(clientNamespace, ...command)

const wants = (parts: Partial<Steering>): Steering => ({
  virtual: [],
  replies: [],
  marks: [],
  ...parts,
})
const end = (protocol: ServiceProtocol, address: string, port: number) => ({
  protocol,
  address,
  port,
})

/** Everything that plumbing touches, to the letter, as iproute2 shows it. */
function state(): string {
  return [
    ip('-details', '-4', 'rule', 'show'),
    ip('-details', '-6', 'rule', 'show'),
    ip('-details', 'route', 'show', 'table', 'all'),
    ip('-details', 'address', 'show').replace(/^\d+: /gm, ''),
  ].join('\n')
}

/** The state once it is as expected, or after half a minute: a device takes its time to go. */
async function settled<T>(read: () => T, expected: T): Promise<T> {
  for (let tries = 0; ; tries++) {
    const found = read()
    if (tries === 600 || JSON.stringify(found) === JSON.stringify(expected)) return found
    await sleep(50)
  }
}

/** Rules of the kernel: `22: to 10.9.1.100 ipproto tcp dport 80 lookup 7698035`. */
function rules(which: 'ours' | 'others'): string[] {
  return ip('-4', 'rule', 'show')
    .trim()
    .split('\n')
    .map((line) => line.replace(/^(\d+):\s+(from all )?/, '$1: ').trim())
    .filter((line) => line.endsWith(' proto 117') === (which === 'ours'))
    .map((line) => line.replace(/ proto 117$/, ''))
}

/** The same from what plumbing says of itself. */
function listed(items: readonly PlumbingItem[]): string[] {
  return items
    .filter((item) => item.kind === 'rule')
    .map(describe)
    .map((text) =>
      text
        .replace(/^ip rule add pref (\d+) /, '$1: ')
        .replaceAll('/32', '')
        .replace(/ proto 117$/, ''),
    )
}

/** A TUN device with its plumbing; all of it goes with the test. */
function start(t: Test) {
  const pool = new FramePool(native().mapMemory(256 * 2048), 2048, 256)
  const port = new TunPort({ name: DEVICE, pool })
  const socket = openRtnetlink()
  const plumbing = new Plumbing(() => listInterfaces(socket))
  const close = (): void => {
    port.close()
    plumbing.close()
    socket.socket.close()
  }
  t.teardown(async () => {
    await plumbing.remove().catch(() => {})
    close()
  })
  return {
    port,
    pool,
    plumbing,
    apply: (parts: Partial<Steering>, addresses = new Map<string, string>([[OWN, 'eth0']])) =>
      plumbing.apply([
        ...devicePlumbing(DEVICE),
        ...virtualAddresses(DEVICE, wants(parts), addresses),
        ...tunPlumbing(DEVICE, wants(parts)),
      ]),
  }
}

interface Lookup {
  from?: string
  iif?: string
  protocol?: string
  sport?: number
  dport?: number
}

/** Where the kernel sends a packet: the device, or `local`. */
function way(to: string, { from, iif, protocol, sport, dport }: Lookup): string {
  const ports = { ipproto: protocol, sport, dport }
  const text = ip(
    ...['route', 'get', to],
    ...(from === undefined ? [] : ['from', from]),
    ...(iif === undefined ? [] : ['iif', iif]),
    ...Object.entries(ports).flatMap(([name, value]) => (value ? [name, `${value}`] : [])),
  )
  return text.startsWith('local ') ? 'local' : (/ dev (\S+)/.exec(text)?.[1] ?? text)
}
const fromClient = (to: string, protocol: string, dport = 0): string =>
  way(to, { from: CLIENT, iif: 'eth0', protocol, dport, sport: 40000 })
const fromServer = (protocol: string, sport: number): string =>
  way(CLIENT, { from: SERVER, iif: 'eth1', protocol, sport, dport: 40000 })

/** Receives from the device for as long as the work takes, and hands everything back, as declined packets are. */
async function declineWhile<T>(
  port: TunPort,
  work: Promise<T>,
  see: (packet: Uint8Array) => void,
  pool: FramePool,
): Promise<T> {
  const batch = new FrameBatch(64)
  let working = true
  const done = work.finally(() => (working = false))
  while (working) {
    port.receive(batch)
    for (let i = 0; i < batch.count; i++)
      see(pool.bytes.slice(batch.offsets[i]!, batch.offsets[i]! + batch.lengths[i]!))
    if (batch.count > 0) port.transmit(batch)
    await setImmediate()
  }
  return done
}

/** Changes of rules as the kernel announces them while the work is done: `+22: to …`, `-22: to …`. */
async function changesDuring(work: () => Promise<void>): Promise<string[]> {
  const monitor = spawn('ip', ['-4', 'monitor', 'rule'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  monitor.stdout.on('data', (data: Buffer) => (text += String(data)))
  // Rules of somebody else's, made and deleted: where they are seen, all before them was seen, too.
  const mark = (preference: number): void => {
    for (const verb of ['add', 'delete'])
      ip('rule', verb, 'pref', `${preference}`, 'lookup', `${preference}`)
  }
  const isMark = (line: string): boolean => /lookup 999\d/.test(line)
  for (; !text.includes('lookup 9997'); await sleep(20)) mark(9997)
  mark(9998)
  await work()
  mark(9999)
  while (!/Deleted .*lookup 9999.*\n/.test(text)) await sleep(20)
  monitor.kill('SIGKILL')
  return text
    .replace(/^[^]*Deleted .*lookup 9998.*\n/, '')
    .split('\n')
    .filter((line) => line !== '' && !isMark(line))
    .map((line) =>
      line
        .replace(/^(Deleted )?(\d+):\s+(from all )?/, (_, deleted, preference) => {
          return `${deleted ? '-' : '+'}${preference}: `
        })
        .replace(/ proto \S+\s*$/, '')
        .trim(),
    )
}

t.test('rules, routes and addresses are those that are described', async (t) => {
  const { plumbing, apply } = start(t)
  await apply({
    virtual: [end('tcp', VIP, 80), end('udp', OWN, 0)],
    replies: [end('tcp', SERVER, 8080), end('udp', '10.9.2.3', 0)],
    marks: [
      { mark: 1, protocol: 'tcp', destination: '198.51.100.0/24', ports: [8000, 8010] },
      { mark: 2, source: '203.0.113.0/24', interface: 'eth0' },
      { mark: 3, protocol: 'sctp' },
    ],
  })
  t.strictSame(rules('ours').sort(), [
    '10: iif uvs0 goto 30',
    '23: to 10.9.1.100 ipproto tcp dport 80 lookup 7698035',
    '23: from 10.9.2.1 ipproto tcp sport 8080 lookup 7698035',
    '23: to 198.51.100.0/24 ipproto tcp dport 8000-8010 lookup 7698035',
    '24: from 10.9.2.3 ipproto udp lookup 7698035',
    '24: from 203.0.113.0/24 iif eth0 lookup 7698035',
    '24: from 10.9.2.1 ipproto icmp lookup 7698035',
    '24: from 10.9.2.3 ipproto icmp lookup 7698035',
    '24: to 10.9.1.100 ipproto icmp lookup 7698035',
    '24: to 10.9.1.2 ipproto icmp lookup 7698035',
    '24: to 10.9.1.2 ipproto udp lookup 7698035',
    '24: to 198.51.100.0/24 ipproto icmp lookup 7698035',
    '25: ipproto sctp lookup 7698035',
    '27: from 10.9.2.1 ipproto tcp dport 1-65534 goto 30',
    '27: to 10.9.1.100 ipproto tcp dport 1-65534 goto 30',
    '28: from 10.9.2.1 ipproto tcp lookup 7698035',
    '28: to 10.9.1.100 ipproto tcp lookup 7698035',
    '30: lookup local',
  ].sort()) // prettier-ignore
  t.strictSame(rules('others'), ['32766: lookup main', '32767: lookup default'])
  t.match(
    ip('route', 'show', 'table', '7698035'),
    /^default dev uvs0 proto 117 scope link\s*\n$/,
    'the table leads into the device',
  )
  t.match(ip('address', 'show', 'dev', DEVICE), /inet 10\.9\.1\.100\/32 scope global uvs0/)
  t.notMatch(
    ip('address', 'show', 'dev', DEVICE),
    /10\.9\.1\.2/,
    'an address that is there already is not added',
  )
  const setting = (key: string): string =>
    readFileSync(`/proc/sys/net/ipv4/conf/${DEVICE}/${key}`, 'utf8').trim()
  t.strictSame(['rp_filter', 'accept_local', 'send_redirects'].map(setting), ['0', '1', '0'])
  t.match(ip('link', 'show', DEVICE), /,UP/)
  t.strictSame(listed(plumbing.list()).sort(), rules('ours').sort(), 'the list tells the truth')
  await plumbing.remove()
  t.strictSame(plumbing.list(), [])
  t.match(ip('link', 'show', DEVICE), /UP/, 'the device goes with its port, not before')
})

t.test('the commands in the list do the same', async (t) => {
  const { plumbing, apply } = start(t)
  await apply({
    virtual: [end('tcp', VIP, 80), end('udp', VIP, 53)],
    replies: [end('tcp', SERVER, 8080)],
    marks: [{ mark: 1, protocol: 'tcp', source: '10.0.0.0/8', ports: [1, 1024], interface: 'lo' }],
  })
  const commands = plumbing.list().map(describe)
  const made = state().replace(/valid_lft.*/g, '')
  await plumbing.remove()
  ip('rule', 'add', 'pref', '30', 'lookup', 'local', 'proto', '117')
  ip('rule', 'delete', 'pref', '0')
  for (const command of commands) {
    if (command === 'ip rule add pref 30 lookup local proto 117') continue
    const [program = '', ...args] = command.split(' ')
    execFileSync(program, args, { stdio: 'pipe' })
  }
  t.strictSame(
    state().replace(/valid_lft.*/g, '').split('\n').sort(),
    made.split('\n').sort(),
  ) // prettier-ignore
  // A new one takes over what it finds, whoever made it.
  const socket = openRtnetlink()
  const successor = new Plumbing(() => listInterfaces(socket))
  t.teardown(() => [successor, socket.socket].forEach((one) => one.close()))
  await successor.remove()
  t.strictSame(rules('ours'), [])
  t.strictSame(rules('others'), ['0: lookup local', '32766: lookup main', '32767: lookup default'])
})

t.test('lookups go where they should', async (t) => {
  const { apply, plumbing } = start(t)
  await apply({
    virtual: [end('tcp', VIP, 80), end('udp', OWN, 5300), end('tcp', '10.9.1.101', 0)],
    replies: [end('tcp', SERVER, 8080)],
    marks: [
      { mark: 1, protocol: 'tcp', destination: '10.9.2.7/32', ports: [20, 21], interface: 'eth0' },
    ],
  })
  t.equal(fromClient(VIP, 'tcp', 80), DEVICE, 'a service')
  t.equal(fromClient(VIP, 'tcp', 81), 'local', 'another port of its address')
  t.equal(fromClient(VIP, 'udp', 80), 'local', 'another protocol')
  t.equal(fromClient(VIP, 'icmp'), DEVICE, 'ICMP to its address, which may be an error')
  t.equal(fromClient(OWN, 'udp', 5300), DEVICE, "a service on the machine's own address")
  t.equal(fromClient(OWN, 'tcp', 22), 'local', 'ssh to it')
  for (const port of [1, 22, 65535])
    t.equal(fromClient('10.9.1.101', 'tcp', port), DEVICE, `any port: ${port}`)
  t.equal(fromServer('tcp', 8080), DEVICE, 'a reply')
  t.equal(fromServer('tcp', 22), 'eth0', 'no reply')
  t.equal(fromServer('icmp', 0), DEVICE, 'ICMP from a real server')
  t.equal(fromClient(SERVER, 'tcp', 8080), 'eth1', 'to a real server')
  t.equal(fromClient('10.9.2.7', 'tcp', 21), DEVICE, 'a marking rule')
  t.equal(fromClient('10.9.2.7', 'tcp', 22), 'eth1', 'outside of its ports')
  t.equal(
    way('10.9.2.7', { from: '10.9.2.9', iif: 'eth1', protocol: 'tcp', dport: 21, sport: 1 }),
    'eth1',
    'by another interface',
  )
  t.equal(way(VIP, { protocol: 'tcp', dport: 80, sport: 9 }), DEVICE, 'from the machine itself')
  // What the director writes to the device:
  const out = { iif: DEVICE, protocol: 'tcp', sport: 40000 }
  t.equal(way(VIP, { ...out, from: CLIENT, dport: 80 }), 'local', 'declined: delivered')
  t.equal(way(SERVER, { ...out, from: CLIENT, dport: 8080 }), 'eth1', 'to a real server')
  t.equal(way(CLIENT, { ...out, from: VIP, sport: 80, dport: 40000 }), 'eth0', 'to a client')
  t.equal(
    way(CLIENT, { ...out, from: SERVER, sport: 8080, dport: 40000 }),
    'eth0',
    'a declined reply is not led in again',
  )
  await plumbing.remove()
  t.equal(fromClient(OWN, 'udp', 5300), 'local')
  t.equal(fromServer('tcp', 8080), 'eth0')
})

t.test('ports that the kernel takes for no port of a rule', async (t) => {
  // It refuses 0 and 65535 there: such a rule takes all ports, and the director hands back what is not its own.
  const { apply, plumbing } = start(t)
  await apply({
    virtual: [end('tcp', VIP, 65535)],
    replies: [end('tcp', SERVER, 65535)],
    marks: [
      { mark: 1, protocol: 'udp', destination: '10.9.2.7/32', ports: [0, 65535] },
      { mark: 2, protocol: 'udp', destination: '10.9.2.8/32', ports: [1024, 65535] },
      { mark: 3, protocol: 'udp', destination: '10.9.2.9/32', ports: [0, 1023] },
    ],
  })
  t.equal(fromClient(VIP, 'tcp', 65535), DEVICE)
  t.equal(fromServer('tcp', 65535), DEVICE)
  for (const port of [1, 80, 65535]) t.equal(fromClient('10.9.2.7', 'udp', port), DEVICE)
  for (const port of [1024, 5000, 65535]) t.equal(fromClient('10.9.2.8', 'udp', port), DEVICE)
  for (const port of [1, 1023]) t.equal(fromClient('10.9.2.9', 'udp', port), DEVICE)
  t.equal(fromClient('10.9.2.9', 'udp', 1024), 'eth1')
  t.strictSame(listed(plumbing.list()).sort(), rules('ours').sort())
})

t.test('an unchanged steering changes nothing in the kernel', async (t) => {
  const { apply } = start(t)
  const steering = {
    virtual: [end('tcp', VIP, 80)],
    replies: [end('tcp', SERVER, 8080)],
    marks: [{ mark: 1, protocol: 'udp', destination: '198.51.100.1' }] satisfies MarkRule[],
  }
  await apply(steering)
  const before = state()
  t.strictSame(await changesDuring(() => apply(steering)), [])
  t.equal(state(), before)
})

t.test('a changed steering adds and removes only the difference, additions first', async (t) => {
  const { apply } = start(t)
  const virtual = [end('tcp', VIP, 80), end('tcp', VIP, 443)]
  await apply({ virtual, replies: [end('tcp', SERVER, 8080)] })
  t.strictSame(
    await changesDuring(() =>
      apply({ virtual: [virtual[1]!, end('udp', OWN, 53)], replies: [end('tcp', SERVER, 8081)] }),
    ),
    [
      '+23: to 10.9.1.2 ipproto udp dport 53 lookup 7698035',
      '+23: from 10.9.2.1 ipproto tcp sport 8081 lookup 7698035',
      '+24: to 10.9.1.2 ipproto icmp lookup 7698035',
      '+27: to 10.9.1.2 ipproto udp dport 1-65534 goto 30',
      '+28: to 10.9.1.2 ipproto udp lookup 7698035',
      '-23: to 10.9.1.100 ipproto tcp dport 80 lookup 7698035',
      '-23: from 10.9.2.1 ipproto tcp sport 8080 lookup 7698035',
    ],
  )
  t.match(ip('address', 'show', 'dev', DEVICE), /10\.9\.1\.100\/32/, 'its address is still needed')
  await apply({ virtual: [end('udp', OWN, 53)] })
  t.notMatch(ip('address', 'show', 'dev', DEVICE), /10\.9\.1\.100\/32/, 'and goes with the last')
})

t.test('the rule of the table local moves behind ours, and back', async (t) => {
  const before = state()
  const { apply, plumbing } = start(t)
  const changes = await changesDuring(() => apply({}))
  t.strictSame(
    changes,
    ['+30: lookup local', '+10: iif uvs0 goto 30', '-0: lookup local'],
    'there always is one',
  )
  t.notOk(rules('others').includes('0: lookup local'))
  t.strictSame(await changesDuring(() => plumbing.remove()), [
    '+0: lookup local',
    '-10: iif uvs0 goto 30',
    '-30: lookup local',
  ])
  ip('link', 'delete', DEVICE)
  t.equal(state(), before)
})

t.test('traffic to and through the machine goes on while all that changes', async (t) => {
  const { apply, plumbing } = start(t)
  const COUNT = 1000
  const ping = (to: string): Promise<CommandResult> =>
    atClient('ping', '-c', `${COUNT}`, '-i', '0.002', '-W', '1', '-q', to)
  let working = true
  const pings = Promise.all([ping(OWN), ping(SERVER)]).finally(() => (working = false))
  let cycles = 0
  for (; working; cycles++) {
    await apply({
      virtual: [end('tcp', VIP, 80)],
      marks: [{ mark: 1, protocol: 'tcp', ports: [(cycles % 2000) + 1, 2000] }],
    })
    if (cycles % 2 === 1) await plumbing.remove()
  }
  t.ok(cycles > 20, `${cycles} cycles`)
  for (const { stdout } of await pings) t.match(stdout, new RegExp(` ${COUNT} received`))
})

t.test('real traffic comes to the device, and declined packets reach the kernel', async (t) => {
  const { apply, port, pool } = start(t)
  await apply({
    virtual: [end('udp', VIP, 53), end('tcp', VIP, 80)],
    replies: [end('udp', SERVER, 5300)],
  })
  const seen: string[] = []
  const see = (packet: Uint8Array): void => {
    const ports = packet[9] === 1 ? '' : ` ${packet[20]! * 256 + packet[21]!} ${packet[22]! * 256 + packet[23]!}` // prettier-ignore
    seen.push(`${packet.slice(12, 16).join('.')} > ${packet.slice(16, 20).join('.')} ${packet[9]}${ports}`) // prettier-ignore
  }
  const send = (namespace: string, from: number, to: number, address: string) =>
    at(
      namespace,
      process.execPath,
      '-e',
      `const socket = require('node:dgram').createSocket('udp4')
       socket.bind(${from}, () => socket.send('uvs?', ${to}, '${address}', () => socket.close()))`,
    )
  const during = <T>(work: Promise<T>): Promise<T> => declineWhile(port, work, see, pool)

  // The kernel answers ARP for an address that is on the device.
  const ping = await during(atClient('ping', '-c', '3', '-i', '0.01', '-w', '60', '-q', VIP))
  t.ok(answered(ping) >= 3, 'ping, handed back by the director and answered by the kernel')
  t.ok(seen.includes(`${CLIENT} > ${VIP} 1`))
  seen.length = 0
  await during(send(clientNamespace, 40000, 53, VIP))
  await during(send(clientNamespace, 40000, 54, VIP))
  await during(send(serverNamespace, 5300, 40000, CLIENT))
  await during(send(serverNamespace, 5301, 40000, CLIENT))
  const datagrams = (): string[] => seen.filter((line) => !line.endsWith(' 1'))
  for (let tries = 0; tries < 1000 && datagrams().length < 2; tries++) await during(sleep(10))
  await during(sleep(50))
  t.strictSame(
    datagrams(),
    [`${CLIENT} > ${VIP} 17 40000 53`, `${SERVER} > ${CLIENT} 17 5300 40000`],
    'what belongs to the director, and nothing else',
  )
})

t.test('the same with a strict reverse path filter', async (t) => {
  execFileSync('sysctl', ['-q', '-w', 'net.ipv4.conf.all.rp_filter=1'])
  t.teardown(() => void execFileSync('sysctl', ['-q', '-w', 'net.ipv4.conf.all.rp_filter=0']))
  const { apply, port, pool } = start(t)
  await apply({ virtual: [end('udp', VIP, 53)] })
  const ping = await declineWhile(
    port,
    atClient('ping', '-c', '3', '-i', '0.01', '-w', '60', '-q', VIP),
    () => {},
    pool,
  )
  t.ok(answered(ping) >= 3)
})

t.test("other people's rules, routes and addresses stay as they are", async (t) => {
  const foreign = [
    ['rule', 'add', 'pref', '0', 'from', '192.0.2.1', 'lookup', 'local'],
    ['rule', 'add', 'pref', '5', 'lookup', '100'],
    ['rule', 'add', 'pref', '10', 'iif', 'eth0', 'goto', '32766'],
    ['rule', 'add', 'pref', '23', 'to', VIP, 'ipproto', 'tcp', 'dport', '80', 'lookup', '100'],
    ['rule', 'add', 'pref', '23', 'to', VIP, 'ipproto', 'tcp', 'lookup', '7698035'],
    ['rule', 'add', 'pref', '24', 'to', VIP, 'ipproto', 'icmp', 'lookup', '7698035', 'proto', '5'],
    ['rule', 'add', 'pref', '31', 'lookup', 'local'],
    ['rule', 'add', 'pref', '40', 'fwmark', '7', 'lookup', '100'],
    ['route', 'add', 'default', 'dev', 'lo', 'table', '7698035', 'metric', '9'],
    ['route', 'add', '198.51.100.0/24', 'via', SERVER, 'table', '100'],
    ['address', 'add', '10.9.1.77/32', 'dev', 'eth0'],
  ]
  for (const command of foreign) ip(...command)
  t.teardown(() => {
    for (const [object = '', , ...rest] of [...foreign].reverse()) ip(object, 'delete', ...rest)
  })
  // Among rules of one preference the order is that of making.
  const sorted = (): string[] => state().split('\n').sort()
  const before = sorted()
  const others = rules('others').filter((rule) => rule !== '0: lookup local')
  const { apply, plumbing, port } = start(t)
  const steering = { virtual: [end('tcp', VIP, 80)], replies: [end('tcp', SERVER, 8080)] }
  for (let round = 0; round < 3; round++) {
    await apply(steering)
    t.strictSame(rules('others'), others)
    await apply({ virtual: [end('tcp', VIP, 0)] })
    t.strictSame(rules('others'), others)
  }
  await plumbing.remove()
  port.close()
  t.strictSame(await settled(sorted, before), before)
})

function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Any steering, of few enough addresses that rules overlap and contain each other. */
function randomSteering(random: (below: number) => number): Steering {
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!
  const some = <T>(most: number, make: () => T): T[] => Array.from({ length: random(most) }, make)
  const protocols = ['tcp', 'udp', 'sctp'] as const
  const anyEnd = () =>
    end(pick(protocols), pick([VIP, OWN, SERVER, '10.9.2.3']), pick([0, 0, 53, 80, 8080, 65535]))
  const prefix = () =>
    pick(['0.0.0.0/0', '10.0.0.0/8', '10.9.1.77/24', '10.9.2.1/32', VIP, '128.0.0.0/1'])
  const optional = <K extends string, V>(key: K, make: () => V) =>
    (random(2) === 0 ? {} : { [key]: make() }) as { [P in K]?: V }
  const ports = (): [number, number] => {
    const [a, b] = [pick([0, 1, 80, 1024, 65534, 65535]), pick([0, 1, 80, 1024, 65534, 65535])]
    return a < b ? [a, b] : [b, a]
  }
  return {
    virtual: some(6, anyEnd),
    replies: some(6, anyEnd),
    marks: some(5, () => ({
      mark: 1,
      ...optional('protocol', () => pick(protocols)),
      ...optional('source', prefix),
      ...optional('destination', prefix),
      ...optional('ports', ports),
      ...optional('interface', () => pick(['eth0', 'eth1', 'missing0'])),
    })),
  }
}

t.test('any steering after any other', async (t) => {
  const before = state()
  const seed = seedOr(1)
  const random = randomFrom(seed)
  const { apply, plumbing, port } = start(t)
  for (let round = 0; round < 60; round++) {
    const steering = randomSteering(random)
    await apply(steering)
    const expected = listed(plumbing.list()).sort()
    const found = rules('ours').map((rule) => rule.replace(' [detached]', '')).sort() // prettier-ignore
    if (JSON.stringify(found) !== JSON.stringify(expected)) {
      t.strictSame(found, expected, `seed ${seed}, round ${round}: ${JSON.stringify(steering)}`)
      break
    }
    if (random(8) === 0) await plumbing.remove()
  }
  await plumbing.remove()
  port.close()
  t.equal(await settled(state, before), before, `seed ${seed}`)
})

async function startHolder(t: Test, steering: Steering, ...more: string[]): Promise<ChildProcess> {
  const holder = fileURLToPath(new URL('./plumbing-holder.js', import.meta.url))
  const child = spawn(process.execPath, [holder, JSON.stringify(steering), ...more], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout!, 'data')
  return child
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL')
  await once(child, 'exit')
  while (ip('link', 'show').includes(DEVICE)) await sleep(5)
}

const predecessors = wants({
  virtual: [end('tcp', VIP, 80), end('udp', OWN, 53)],
  replies: [end('tcp', SERVER, 8080)],
  marks: [{ mark: 1, protocol: 'tcp', destination: '198.51.100.0/24' }],
})

t.test('takes over what a killed predecessor left', async (t) => {
  const before = state()
  await kill(await startHolder(t, predecessors))
  const left = rules('ours')
  t.ok(left.includes('10: iif uvs0 [detached] goto 30'), 'rules outlive the process')
  t.equal(fromClient(OWN, 'udp', 53), 'local', 'and lead nowhere without the device')
  const { apply, plumbing, port } = start(t)
  t.strictSame(
    await changesDuring(() => apply(predecessors)),
    [],
    'a successor that wants the same finds its rules there',
  )
  t.equal(fromClient(OWN, 'udp', 53), DEVICE)
  t.equal(fromClient(VIP, 'tcp', 80), DEVICE, 'and makes the route and the address that went')
  await apply({ virtual: [end('udp', OWN, 53)] })
  t.strictSame(rules('ours').sort(), [
    '10: iif uvs0 goto 30',
    '23: to 10.9.1.2 ipproto udp dport 53 lookup 7698035',
    '24: to 10.9.1.2 ipproto icmp lookup 7698035',
    '27: to 10.9.1.2 ipproto udp dport 1-65534 goto 30',
    '28: to 10.9.1.2 ipproto udp lookup 7698035',
    '30: lookup local',
  ])
  await plumbing.remove()
  port.close()
  t.equal(await settled(state, before), before)
})

t.test('a successor without a TUN port cleans up at its first breath', async (t) => {
  const before = state()
  await kill(await startHolder(t, predecessors))
  t.not(state(), before)
  const socket = openRtnetlink()
  const plumbing = new Plumbing(() => listInterfaces(socket))
  t.teardown(() => [plumbing, socket.socket].forEach((one) => one.close()))
  await plumbing.apply([])
  t.equal(state(), before)
})

t.test('killed at any moment, it leaves what can be taken over', async (t) => {
  const before = state()
  for (let round = 0; round < 12; round++) {
    const child = await startHolder(t, predecessors, 'repeat')
    await sleep(5 * round)
    await kill(child)
    t.ok(
      [...rules('ours'), ...rules('others')].some((rule) => /^\d+: lookup local$/.test(rule)),
      'the table local is looked up',
    )
    const { plumbing, apply, port } = start(t)
    if (round % 2 === 0) {
      await apply(predecessors)
      t.equal(fromClient(VIP, 'tcp', 80), DEVICE)
      t.equal(fromClient(OWN, 'tcp', 22), 'local')
    }
    await plumbing.remove()
    port.close()
    t.equal(await settled(state, before), before, `round ${round}`)
  }
})

t.test('thousands of virtual addresses, most of which are but routes', async (t) => {
  const before = state()
  const { plumbing, port } = start(t)
  // The client takes them for its neighbours, so it asks for them by ARP.
  await atClient('ip', 'route', 'add', '10.9.64.0/20', 'dev', 'eth0')
  t.teardown(() => atClient('ip', 'route', 'delete', '10.9.64.0/20'))
  const all = Array.from({ length: 2000 }, (_, i) => `10.9.${64 + (i >> 8)}.${i & 255}`)
  const apply = (addresses: string[]): Promise<void> =>
    plumbing.apply([
      ...devicePlumbing(DEVICE),
      ...virtualAddresses(
        DEVICE,
        wants({ virtual: addresses.map((address) => end('tcp', address, 80)) }),
        new Map(onDevice().map((address) => [address, DEVICE])),
      ),
    ])
  const onDevice = (): string[] =>
    Array.from(
      ip('-4', 'address', 'show', 'dev', DEVICE).matchAll(/inet (\S+)\/32/g),
      ([, address]) => address!,
    )
  const answers = async (address: string): Promise<boolean> =>
    (await atClient('ping', '-c', '1', '-W', '10', address)).status === 0
  await apply(all)
  t.strictSame(onDevice(), all.slice(0, 1024), 'the first are addresses')
  for (const address of [all[0]!, all[1000]!, all[1999]!]) {
    t.match(ip('route', 'get', address, 'from', CLIENT, 'iif', 'eth0'), /^local /)
    t.ok(await answers(address), `${address} answers ARP and ping`)
  }
  const shown = state()
  await apply(all)
  t.equal(state(), shown, 'the same again changes nothing')

  await apply([...all].reverse())
  t.equal(state(), shown, 'nor does another order')

  // Of those that stay, some become addresses.
  await apply(all.slice(500))
  t.strictSame(onDevice().sort(), all.slice(500, 1524).sort())
  for (const address of [all[500]!, all[1500]!, all[1999]!])
    t.ok(await answers(address), `${address} answers ARP and ping`)
  t.notMatch(ip('route', 'show', 'table', 'local'), / 10\.9\.64\.0 /, 'the others have gone')

  await apply(all.slice(1990))
  t.strictSame(onDevice().sort(), all.slice(1990).sort())
  t.notMatch(ip('route', 'show', 'table', 'local'), / proto 117 /, 'no routes are left')
  await plumbing.remove()
  port.close()
  t.equal(await settled(state, before), before)
})

t.test('a device that is deleted under it', async (t) => {
  const before = state()
  const { apply, plumbing } = start(t)
  await apply(predecessors)
  ip('link', 'delete', DEVICE)
  await t.rejects(apply(predecessors), { message: /there is no interface 'uvs0'/ })
  await plumbing.remove()
  t.equal(state(), before, 'the rest is removed all the same')
})

t.test('a thread of the kernel receives, where that can be', async (t) => {
  const socket = openRtnetlink()
  const plumbing = new Plumbing(() => listInterfaces(socket))
  const open = (name: string, backlogBytes: number): void => {
    const options = {
      name,
      mode: 'tun',
      multiQueue: false,
      vnetHeader: false,
      backlogBytes,
    } as const
    const { fd } = native().openTun(options)
    t.teardown(() => native().closeDescriptor(fd))
  }
  t.teardown(() => {
    plumbing.close()
    socket.socket.close()
  })
  const threaded = (device: string): string =>
    readFileSync(`/sys/class/net/${device}/threaded`, 'utf8').trim()
  // Of this process alone: `ip netns exec` gives each its own mounts.
  const remount = (how: string): unknown =>
    execFileSync('mount', ['-o', `remount,bind,${how}`, '/sys'])
  open('uvs7', 1 << 20)
  open('uvs8', 1 << 20)
  open('uvs9', 0)

  await plumbing.apply([{ kind: 'threaded-receive', device: 'uvs7' }])
  t.equal(threaded('uvs7'), '1')
  await plumbing.apply([{ kind: 'threaded-receive', device: 'uvs9' }])
  t.equal(threaded('uvs9'), '0', 'a device without NAPI')
  remount('ro')
  t.teardown(() => remount('rw'))
  await plumbing.apply([{ kind: 'threaded-receive', device: 'uvs8' }])
  t.equal(threaded('uvs8'), '0', 'a /sys that cannot be written to')
  t.equal(canThreadReceive(), false)
})

t.test('a bridge takes a TAP device in', async (t) => {
  ip('link', 'add', 'name', 'br7', 'type', 'bridge')
  const tap = openPlainDevice('uvs7', 'tap')
  const socket = openRtnetlink()
  const plumbing = new Plumbing(() => listInterfaces(socket))
  t.teardown(() => {
    native().closeDescriptor(tap.fd)
    ip('link', 'delete', 'br7')
    plumbing.close()
    socket.socket.close()
  })
  const before = rules('others')
  await plumbing.apply(devicePlumbing('uvs7', { bridge: 'br7', mac: 'fe:ff:00:00:00:07' }))
  t.match(ip('link', 'show', 'uvs7'), /UP.* master br7 /)
  t.strictSame(rules('others'), before, 'no rules for that')
  await t.rejects(
    plumbing.apply(devicePlumbing('uvs7', { bridge: 'br8', mac: 'fe:ff:00:00:00:07' })),
    {
      message: /there is no interface 'br8'/,
    },
  )
  await plumbing.apply([{ kind: 'link', device: 'uvs7', mtu: 1400 }])
  t.match(ip('link', 'show', 'uvs7'), /mtu 1400/)
})

t.end()
