// Run by netns-tests/xdp-steering.test.ts in the namespace `director` that it describes; the argument is the
// name of the client's namespace.
import { execFileSync, spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { MarkRule, Steering } from '../../src/core/commands.js'
import { AfxdpPort } from '../../src/drivers/afxdp.js'
import { XdpSteering, type XdpInterface } from '../../src/drivers/xdp-steering.js'
import { native } from '../../src/kernel/native.js'
import { run } from '../../src/lab/process.js'
import { FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { answered } from './ping.js'

t.setTimeout(600_000)

const [clientNamespace = ''] = process.argv.slice(2)
const OWN = '10.9.1.2'
const addon = native()

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
const atClient = (...command: string[]) => run('ip', ['netns', 'exec', clientNamespace, ...command])

interface AttachedProgram {
  mode: 'native' | 'generic'
  name: string
  id: number
}

/** What `ip link` says of the XDP program of an interface. */
function attachedTo(name: string): AttachedProgram | undefined {
  // XDP_ATTACHED_*
  const modes = ['none', 'native', 'generic'] as const
  const [link] = JSON.parse(ip('-details', '-json', 'link', 'show', 'dev', name)) as [
    { xdp?: { mode: number; prog: { id: number; name: string } } },
  ]
  if (!link.xdp) return undefined
  const { mode, prog } = link.xdp
  return { mode: modes[mode] as 'native' | 'generic', name: prog.name, id: prog.id }
}

function interfaceOf(name: string, mode: XdpInterface['mode'] = 'auto'): XdpInterface {
  const mac = addon.interfaceMac(name) ?? new Uint8Array(6)
  return { name, interfaceIndex: addon.interfaceIndex(name), mac, mode, queues: 1 }
}

/** Steering that is closed with the test, and what it warned of. */
function attach(t: Test, ...interfaces: XdpInterface[]) {
  const warnings: string[] = []
  const steering = new XdpSteering(interfaces, (text) => warnings.push(text))
  t.teardown(() => steering.close())
  return { steering, warnings }
}

/** The same on eth0, with a socket that takes what is redirected. */
function attachWithSocket(t: Test, mode: XdpInterface['mode'] = 'native') {
  const { steering } = attach(t, interfaceOf('eth0', mode))
  // More frames to receive into than any test sends: on a busy machine none may be late.
  const pool = new FramePool(addon.mapMemory(4096 * 2048), 2048, 4096)
  const port = new AfxdpPort({ interface: 'eth0', pool, ringSize: 1024 })
  t.teardown(() => port.close())
  steering.addSocket(port.interfaceIndex, port.queue, port.descriptor)
  return { steering, port, pool }
}

const wants = (parts: Partial<Steering>): Steering => ({
  virtual: [],
  replies: [],
  marks: [],
  ...parts,
})
const udpService = (port: number, address = OWN) => ({ protocol: 'udp' as const, address, port })

/** How often datagrams were sent to see where they end up: they say so, and late ones are told from the next. */
let sendings = 0

/**
 * Where datagrams of the client end up, by their destination port: each is sent until it has been seen.
 * "kernel" is a socket of this namespace, "director" the AF_XDP port.
 */
async function whereTo(
  t: Test,
  port: AfxdpPort,
  pool: FramePool,
  destinations: readonly number[],
): Promise<Record<number, string>> {
  const seen: Record<number, string> = {}
  const sockets: Socket[] = []
  const text = `sending ${++sendings}.`
  for (const destination of destinations) {
    const socket = createSocket('udp4')
    socket.on('message', (message) => {
      if (message.toString() === text) seen[destination] = 'kernel'
    })
    socket.bind(destination, OWN)
    await once(socket, 'listening')
    sockets.push(socket)
  }
  const sender = spawn(
    'ip',
    [
      ...['netns', 'exec', clientNamespace, process.execPath, '-e'],
      `const socket = require('node:dgram').createSocket('udp4')
       const send = () => {
         for (const port of ${JSON.stringify(destinations)}) socket.send('${text}', port, '${OWN}')
       }
       setInterval(send, 100, send())`,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  t.teardown(() => sender.kill('SIGKILL'))
  const PAYLOAD = 14 + 20 + 8
  const batch = new FrameBatch(64)
  while (destinations.some((destination) => seen[destination] === undefined)) {
    port.receive(batch)
    for (; batch.count > 0; pool.give(batch.offsets[--batch.count]!)) {
      const frame = pool.bytes.subarray(batch.offsets[batch.count - 1]!)
      if (Buffer.from(frame.subarray(PAYLOAD, PAYLOAD + text.length)).toString() === text)
        seen[frame[36]! * 256 + frame[37]!] = 'director'
    }
    port.service()
    await sleep(5)
  }
  sender.kill('SIGKILL')
  await once(sender, 'exit')
  for (const socket of sockets) socket.close()
  return seen
}

/** Counts what is written to maps, by the addon's own functions. */
function countMapWrites(t: Test): { updates: number; deletions: number } {
  const counts = { updates: 0, deletions: 0 }
  const { bpfMapUpdate, bpfMapDelete } = addon
  t.teardown(() => Object.assign(addon, { bpfMapUpdate, bpfMapDelete }))
  addon.bpfMapUpdate = (...args) => {
    counts.updates++
    bpfMapUpdate(...args)
  }
  addon.bpfMapDelete = (...args) => {
    counts.deletions++
    return bpfMapDelete(...args)
  }
  return counts
}

/** Descriptors of this process that are of BPF. */
function bpfDescriptors(): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return ''
      }
    })
    .filter((link) => link.includes('bpf'))
}

t.test('attaches in native mode to a veth, and detaches', async (t) => {
  const { steering, warnings } = attach(t, interfaceOf('eth0'))
  t.match(attachedTo('eth0'), { mode: 'native', name: 'uvs_redirect' })
  t.equal(steering.modeOf(addon.interfaceIndex('eth0')), 'native')
  t.strictSame(warnings, [])
  t.throws(() => steering.modeOf(9999), { message: /no XDP program of ours is on interface 9999/ })
  t.throws(() => steering.addSocket(9999, 0, 0), { message: /interface 9999/ })
  steering.close()
  t.equal(attachedTo('eth0'), undefined)
  t.strictSame(bpfDescriptors(), [])
  steering.close()
  t.pass('closing once more does nothing')
})

t.test('closing once more does not close what has the number by then', async (t) => {
  const { steering } = attach(t, interfaceOf('eth0'))
  steering.close()
  const events = Array.from({ length: 8 }, () => addon.createEvent())
  steering.close()
  for (const event of events) addon.signalEvent(event)
  for (const event of events) addon.closeDescriptor(event)
})

t.test('generic mode, when it is asked for', async (t) => {
  const { steering, warnings } = attach(t, interfaceOf('eth0', 'generic'))
  t.match(attachedTo('eth0'), { mode: 'generic', name: 'uvs_redirect' })
  t.equal(steering.modeOf(addon.interfaceIndex('eth0')), 'generic')
  t.strictSame(warnings, [], 'that is no surprise')
})

t.test('falls back to generic mode where there is no native one, and says so', async (t) => {
  const { steering, warnings } = attach(t, interfaceOf('lo'))
  t.match(attachedTo('lo'), { mode: 'generic' })
  t.equal(steering.modeOf(addon.interfaceIndex('lo')), 'generic')
  t.equal(warnings.length, 1)
  t.match(warnings[0], /^lo: .*generic mode, which is slower.*EOPNOTSUPP/)
})

t.test('falls back to generic mode where the MTU stands in the way', async (t) => {
  ip('link', 'add', 'name', 'big0', 'mtu', '9000', 'type', 'veth', 'peer', 'name', 'big1')
  t.teardown(() => ip('link', 'delete', 'big0'))
  ip('link', 'set', 'big1', 'mtu', '9000')
  t.throws(() => attach(t, interfaceOf('big0', 'native')), {
    code: 'ERANGE',
    message: /^big0: .*MTU/,
  })
  const { warnings } = attach(t, interfaceOf('big0'))
  t.match(attachedTo('big0'), { mode: 'generic' })
  t.equal(warnings.length, 1)
  t.match(warnings[0], /^big0: .*generic mode.*MTU/)
})

t.test('native mode, when it is asked for, is not replaced', async (t) => {
  t.throws(() => attach(t, interfaceOf('lo', 'native')), {
    code: 'EOPNOTSUPP',
    message: /^lo: .*no XDP in this mode/,
  })
  t.equal(attachedTo('lo'), undefined)
  t.strictSame(bpfDescriptors(), [], 'nothing is left open')
})

t.test('a second one on the interface is refused, whatever its mode', async (t) => {
  const { steering } = attach(t, interfaceOf('eth0'))
  const before = attachedTo('eth0')
  const descriptors = bpfDescriptors()
  for (const mode of ['auto', 'native', 'generic'] as const)
    t.throws(
      () => attach(t, interfaceOf('lo', 'generic'), interfaceOf('eth0', mode)),
      { code: /EBUSY|EEXIST/, message: /^eth0: .*another XDP program is attached.*ip link show/ },
      mode,
    )
  t.equal(attachedTo('lo'), undefined, 'nothing of the refused ones is left')
  t.strictSame(bpfDescriptors(), descriptors)
  t.strictSame(attachedTo('eth0'), before, 'the first is untouched')
  steering.close()
  attach(t, interfaceOf('eth0'))
  t.pass('when the first is gone there is room')
})

t.test('an interface that is not there', async (t) => {
  t.throws(() => attach(t, { ...interfaceOf('eth0'), name: 'eth7', interfaceIndex: 4711 }), {
    code: 'ENODEV',
    message: /^eth7: .*interface 4711.*no such interface/,
  })
  t.strictSame(bpfDescriptors(), [])
})

for (const mode of ['native', 'generic'] as const)
  t.test(`kill -9 leaves no program in ${mode} mode`, async (t) => {
    const holder = fileURLToPath(new URL('./xdp-holder.js', import.meta.url))
    const child = spawn(process.execPath, [holder, 'eth0', mode], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    await once(child.stdout, 'data')
    t.match(attachedTo('eth0'), { mode, name: 'uvs_redirect' })
    child.kill('SIGKILL')
    await once(child, 'exit')
    t.equal(attachedTo('eth0'), undefined)
    attach(t, interfaceOf('eth0', mode))
    t.pass('and a successor can attach at once')
  })

for (const mode of ['native', 'generic'] as const)
  t.test(`what is not the director's passes through in ${mode} mode`, async (t) => {
    const { steering, port } = attachWithSocket(t, mode)
    const server = createServer((socket) => socket.end('hello from the kernel'))
    await new Promise<void>((done) => server.listen(0, OWN, done))
    t.teardown(() => server.close())
    const other = (server.address() as AddressInfo).port
    steering.apply(
      wants({
        virtual: [
          { protocol: 'tcp', address: OWN, port: 80 },
          { protocol: 'udp', address: OWN, port: 0 },
        ],
        marks: [{ mark: 1, ports: [1, 1000] }],
      }),
    )
    execFileSync('ip', ['-n', clientNamespace, 'neighbour', 'flush', 'all'])
    const often = ['-c', '20', '-w', '60', '-i', '0.01', '-s', '1400', '-q']
    const ping = await atClient('ping', ...often, OWN)
    t.ok(answered(ping) >= 20, 'ARP and ping')
    const outward = await run('ping', ['-c', '5', '-w', '60', '-i', '0.01', '-q', '10.9.1.1'])
    t.ok(answered(outward) >= 5, 'ping from here')
    const connect = (port: number, patienceMs: number) =>
      atClient(
        process.execPath,
        '-e',
        `const socket = require('node:net').connect(${port}, '${OWN}')
         socket.on('data', (data) => console.log(String(data)))
         socket.on('error', (error) => console.log(error.code))
         setTimeout(() => { console.log('nobody answers'); process.exit() }, ${patienceMs}).unref()`,
      )
    t.equal((await connect(other, 60_000)).stdout.trim(), 'hello from the kernel', 'TCP')
    t.equal(port.counters.rxPackets, 0, 'the director has seen nothing of it')
    // The kernel would say ECONNREFUSED here.
    t.equal((await connect(80, 300)).stdout.trim(), 'nobody answers', 'TCP to the service')
    const batch = new FrameBatch(8)
    t.ok(port.receive(batch) >= 1, 'the director has it')
  })

t.test('applies services by difference', async (t) => {
  const { steering, port, pool } = attachWithSocket(t)
  const ports = [5301, 5302, 5303]
  const where = (): Promise<Record<number, string>> => whereTo(t, port, pool, ports)
  t.strictSame(await where(), { 5301: 'kernel', 5302: 'kernel', 5303: 'kernel' }, 'at first')
  const program = attachedTo('eth0')!.id
  const counts = countMapWrites(t)

  steering.apply(wants({ virtual: [udpService(5301), udpService(5302)] }))
  t.strictSame(counts, { updates: 3, deletions: 0 }, 'two ports, and one entry for fragments')
  t.strictSame(await where(), { 5301: 'director', 5302: 'director', 5303: 'kernel' })

  steering.apply(wants({ virtual: [udpService(5301), udpService(5302)] }))
  t.strictSame(counts, { updates: 3, deletions: 0 }, 'once more changes nothing')

  steering.apply(wants({ virtual: [udpService(5302), udpService(5303)] }))
  t.strictSame(counts, { updates: 4, deletions: 1 })
  t.strictSame(await where(), { 5301: 'kernel', 5302: 'director', 5303: 'director' })

  steering.apply(wants({ virtual: [udpService(0)] }))
  t.strictSame(counts, { updates: 5, deletions: 3 })
  t.strictSame(await where(), { 5301: 'director', 5302: 'director', 5303: 'director' })

  steering.apply(wants({ replies: [udpService(0, '10.9.1.1')] }))
  t.strictSame(counts, { updates: 7, deletions: 5 })
  t.strictSame(await where(), { 5301: 'director', 5302: 'director', 5303: 'director' }, 'replies')

  steering.apply(wants({ replies: [udpService(7, '10.9.1.1')] }))
  t.strictSame(await where(), { 5301: 'kernel', 5302: 'kernel', 5303: 'kernel' }, 'another port')

  steering.apply(wants({}))
  t.strictSame(counts, { updates: 8, deletions: 8 }, 'nothing is left')
  t.equal(attachedTo('eth0')!.id, program, 'all that with one program')
})

t.test('additions come before deletions', async (t) => {
  const { steering } = attachWithSocket(t)
  steering.apply(wants({ virtual: [udpService(1)], replies: [udpService(1)] }))
  const order: string[] = []
  const { bpfMapUpdate, bpfMapDelete } = addon
  t.teardown(() => Object.assign(addon, { bpfMapUpdate, bpfMapDelete }))
  addon.bpfMapUpdate = (...args) => {
    order.push('add')
    bpfMapUpdate(...args)
  }
  addon.bpfMapDelete = (...args) => {
    order.push('delete')
    return bpfMapDelete(...args)
  }
  steering.apply(wants({ virtual: [udpService(2)], replies: [udpService(2)] }))
  t.strictSame(order, ['add', 'add', 'delete', 'delete'])
})

t.test('marks are compiled into a program that takes the place of the other', async (t) => {
  const { steering, port, pool } = attachWithSocket(t)
  const where = (): Promise<Record<number, string>> => whereTo(t, port, pool, [5301, 5302, 5303])
  const virtual = [udpService(5301)]
  steering.apply(wants({ virtual }))
  const first = attachedTo('eth0')!
  const marks: MarkRule[] = [
    { mark: 1, protocol: 'udp', ports: [5302, 5302], interface: 'eth0' },
    { mark: 2, protocol: 'udp', ports: [5303, 5303], interface: 'eth1' },
  ]
  steering.apply(wants({ virtual, marks }))
  const second = attachedTo('eth0')!
  t.not(second.id, first.id)
  t.match(second, { mode: 'native', name: 'uvs_redirect' })
  t.strictSame(
    await where(),
    { 5301: 'director', 5302: 'director', 5303: 'kernel' },
    "services stay, another interface's rules do not count",
  )
  steering.apply(wants({ virtual, marks: structuredClone(marks) }))
  t.equal(attachedTo('eth0')!.id, second.id, 'the same once more changes nothing')
  marks[1]!.interface = 'eth0'
  steering.apply(wants({ virtual, marks }))
  t.strictSame(
    await where(),
    { 5301: 'director', 5302: 'director', 5303: 'director' },
    'the array may be changed by its owner',
  )
  steering.apply(wants({}))
  t.strictSame(await where(), { 5301: 'kernel', 5302: 'kernel', 5303: 'kernel' })
  t.equal(
    bpfDescriptors().filter((link) => link.includes('prog')).length,
    1,
    'old programs are closed',
  )
})

t.test('no frame is lost or goes astray while programs are being replaced', async (t) => {
  const { steering, port, pool } = attachWithSocket(t)
  const virtual = [udpService(5301)]
  steering.apply(wants({ virtual }))
  const socket = createSocket('udp4')
  let astray = 0
  socket.on('message', () => astray++)
  socket.bind(5301, OWN)
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  const batch = new FrameBatch(64)
  let changes = 0
  // On a busy machine programs are replaced less often: so as often as it takes.
  while (changes < 50) {
    const ping = atClient('ping', '-c', '200', '-i', '0.005', '-q', OWN)
    const sender = atClient(
      process.execPath,
      '-e',
      `const socket = require('node:dgram').createSocket('udp4')
       let left = 500
       const timer = setInterval(() => {
         const isLast = --left === 0
         if (isLast) clearInterval(timer)
         socket.send('uvs?', 5301, '${OWN}', () => isLast && socket.close())
       }, 2)`,
    )
    let working = true
    const work = Promise.all([ping, sender]).finally(() => (working = false))
    let taken = 0
    while (working) {
      changes++
      const marks: MarkRule[] = [{ mark: 1, protocol: 'tcp', ports: [changes, changes] }]
      steering.apply(wants({ virtual, marks }))
      taken += port.receive(batch)
      while (batch.count > 0) pool.give(batch.offsets[--batch.count]!)
      port.service()
      await sleep(2)
    }
    const [{ stdout }] = await work
    for (let tries = 0; taken < 500 && tries < 1000; tries++) {
      taken += port.receive(batch)
      while (batch.count > 0) pool.give(batch.offsets[--batch.count]!)
      await sleep(5)
    }
    t.match(stdout, /200 received/, 'for the kernel')
    t.equal(taken, 500, 'for the director')
    t.equal(astray, 0)
  }
  t.comment(`${changes} programs`)
})

t.test('what cannot be applied changes nothing', async (t) => {
  const { steering, port, pool } = attachWithSocket(t)
  const where = (): Promise<Record<number, string>> => whereTo(t, port, pool, [5301, 5302])
  steering.apply(wants({ virtual: [udpService(5301)] }))
  const program = attachedTo('eth0')
  const descriptors = bpfDescriptors()
  const counts = countMapWrites(t)
  const many = Array.from({ length: 2001 }, (_, i): MarkRule => ({ mark: i + 1, ports: [i, i] }))
  for (const [steeringWanted, message] of [
    [{ virtual: [udpService(5302), udpService(1, '2001:db8::1')] }, /'2001:db8::1' is no IPv4/],
    [{ virtual: [udpService(5302)], marks: many }, /2001 marking rules/],
    [
      { virtual: [udpService(5302)], marks: [{ mark: 1, source: '10.0.0.0/33' }] },
      /'10\.0\.0\.0\/33' is no IPv4 prefix/,
    ],
  ] as const)
    t.throws(() => steering.apply(wants(steeringWanted as unknown as Partial<Steering>)), {
      message,
    })
  t.strictSame(counts, { updates: 0, deletions: 0 })
  t.strictSame(attachedTo('eth0'), program)
  t.strictSame(bpfDescriptors(), descriptors)
  t.strictSame(await where(), { 5301: 'director', 5302: 'kernel' })
})

t.test('a socket that is closed is forgotten: its frames pass to the kernel', async (t) => {
  const { steering, port, pool } = attachWithSocket(t)
  steering.apply(wants({ virtual: [udpService(5301)] }))
  t.strictSame(await whereTo(t, port, pool, [5301]), { 5301: 'director' })
  port.close()
  t.strictSame(await whereTo(t, port, pool, [5301]), { 5301: 'kernel' })
})

t.test('many services', async (t) => {
  const { steering } = attachWithSocket(t)
  const counts = countMapWrites(t)
  const virtual = Array.from({ length: 20_000 }, (_, i) => ({
    protocol: 'tcp' as const,
    address: `10.${(i >> 12) & 255}.${(i >> 4) & 255}.${i & 15}`,
    port: 1 + i,
  }))
  steering.apply(wants({ virtual }))
  t.strictSame(counts, { updates: 40_000, deletions: 0 })
  steering.apply(wants({ virtual: virtual.slice(1) }))
  t.strictSame(counts, { updates: 40_000, deletions: 2 })
})

t.test('two interfaces share the services', async (t) => {
  ip('link', 'add', 'name', 'two0', 'type', 'veth', 'peer', 'name', 'two1')
  t.teardown(() => ip('link', 'delete', 'two0'))
  const { steering } = attach(t, interfaceOf('eth0'), interfaceOf('two0'))
  t.match(attachedTo('eth0'), { mode: 'native' })
  t.match(attachedTo('two0'), { mode: 'native' })
  const counts = countMapWrites(t)
  steering.apply(wants({ virtual: [udpService(53)] }))
  t.strictSame(counts, { updates: 2, deletions: 0 })
  steering.close()
  t.equal(attachedTo('eth0'), undefined)
  t.equal(attachedTo('two0'), undefined)
})

t.test('an interface that is deleted under it', async (t) => {
  ip('link', 'add', 'name', 'gone0', 'type', 'veth', 'peer', 'name', 'gone1')
  const { steering } = attach(t, interfaceOf('eth0'), interfaceOf('gone0'))
  ip('link', 'delete', 'gone0')
  steering.apply(wants({ virtual: [udpService(53)] }))
  t.match(attachedTo('eth0'), { mode: 'native' })
  steering.apply(wants({ marks: [{ mark: 1, protocol: 'tcp', ports: [1, 1] }] }))
  t.pass('the others still follow')
})

t.end()
