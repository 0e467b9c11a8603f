// Run by netns-tests/afxdp.test.ts in the namespace `middle` that it describes; the argument is the name of
// the lab.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { MarkRule, ServiceProtocol, Steering } from '../../src/core/commands.js'
import { AfxdpPort, framesForPorts } from '../../src/drivers/afxdp.js'
import { mapFrames, Waiter } from '../../src/drivers/waiter.js'
import { XdpSteering, type XdpInterface } from '../../src/drivers/xdp-steering.js'
import { Assembler, r1, r2, r3 } from '../../src/kernel/bpf/assembler.js'
import { BpfMap, Helper, XdpAction, XdpLink, XdpProgram } from '../../src/kernel/bpf/objects.js'
import { native } from '../../src/kernel/native.js'
import { run, type CommandResult } from '../../src/lab/process.js'
import { ETHERNET_HEADROOM, FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { formatMac } from '../../src/wire/ethernet.js'
import {
  ethernetFrame,
  icmpPacket,
  ipipPacket,
  ipv4Packet,
  tcpPacket,
  udpPacket,
} from '../../test/support/packets.js'
import { answered } from './ping.js'

t.setTimeout(600_000)

const [lab = ''] = process.argv.slice(2)
const left = `${lab}-left`
const right = `${lab}-right`
const addon = native()
const FRAME_BYTES = 2048

const newPool = (frames: number): FramePool =>
  new FramePool(mapFrames(frames * FRAME_BYTES), FRAME_BYTES, frames)
const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
const at = (namespace: string, command: string, ...args: string[]): Promise<CommandResult> =>
  run('ip', ['netns', 'exec', namespace, command, ...args])
const statistic = (device: string, name: string): number =>
  Number(readFileSync(`/sys/class/net/${device}/statistics/${name}`, 'utf8'))

interface Teardown {
  teardown(work: () => void): void
}

/** Brings every frame of an interface to a port: the simplest program there is. */
function takeAll(t: Teardown, port: AfxdpPort, mode: 'native' | 'generic'): void {
  const RECEIVE_QUEUE = 16
  const sockets = BpfMap.sockets('all_sockets', 1)
  const program = new XdpProgram(
    'take_all',
    new Assembler()
      .load('u32', r2, r1, RECEIVE_QUEUE)
      .loadMap(r1, sockets.descriptor)
      .mov(r3, XdpAction.pass)
      .call(Helper.redirectMap)
      .exit()
      .assemble(),
  )
  const link = XdpLink.attach(program, port.interfaceIndex, mode)
  sockets.set(new Uint8Array(4), new Uint8Array(Int32Array.of(port.descriptor).buffer))
  t.teardown(() => [link, program, sockets].forEach((object) => object.close()))
}

/** Carries frames between two ports as a wire would for as long as the work takes; returns the work's result. */
async function wireWhile<T>(a: AfxdpPort, b: AfxdpPort, work: Promise<T>): Promise<T> {
  const waiter = new Waiter([a.descriptor, b.descriptor])
  const batch = new FrameBatch(64)
  let working = true
  const done = work.finally(() => (working = false))
  while (working) {
    let moved = 0
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      from.service()
      moved += from.receive(batch)
      if (batch.count > 0) to.transmit(batch)
    }
    if (moved === 0) waiter.wait(2)
    await setImmediate()
  }
  return done
}

/** Lets transmissions come to their end. */
async function quiesce(...ports: AfxdpPort[]): Promise<void> {
  for (let i = 0; i < 20_000 && ports.some((port) => port.transmitting); i++) {
    for (const port of ports) port.service()
    await sleep(1)
  }
}

/** Sends datagrams of growing sizes and has each checked that it comes back as it went. */
const datagrams = (address: string, count: number): string =>
  `const socket = require('node:dgram').createSocket('udp4')
   const sent = Array.from({ length: ${count} }, (_, i) => Buffer.alloc(14 * i, i))
   let back = 0
   socket.on('message', (message) => {
     if (!message.equals(sent[back])) throw new Error('datagram ' + back + ' came back changed')
     if (++back === sent.length) return console.log(back + ' came back'), socket.close()
     socket.send(sent[back], 5300, '${address}')
   })
   socket.send(sent[0], 5300, '${address}')
   setTimeout(() => { console.log('only ' + back + ' came back'); process.exit(1) }, 300000).unref()`

/** Echoes datagrams at port 5300 until it is killed. */
const echoServer = `const socket = require('node:dgram').createSocket('udp4')
   socket.on('message', (message, from) => socket.send(message, from.port, from.address))
   socket.bind(5300, () => console.log('ready'))`

async function startEcho(t: Teardown, command: string, ...args: string[]): Promise<void> {
  const server = spawn(command, [...args, process.execPath, '-e', echoServer], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => server.kill('SIGKILL'))
  await once(server.stdout, 'data')
}

for (const mode of ['native', 'generic'] as const)
  t.test(`${mode} mode: two interfaces over one UMEM, joined like a wire`, async (t) => {
    const frames = framesForPorts(2)
    const pool = newPool(frames)
    const a = new AfxdpPort({ interface: 'eth0', pool, copy: mode === 'generic' })
    const b = new AfxdpPort({ interface: 'eth1', pool, copy: mode === 'generic' })
    t.teardown(() => [a, b].forEach((port) => port.close()))
    t.equal(a.name, 'afxdp:eth0')
    t.equal(a.mtu, 1500)
    t.equal(formatMac(a.mac), JSON.parse(ip('-json', 'link', 'show', 'eth0'))[0].address)
    t.equal(pool.available, frames - 2 * 2048, 'both have a fill ring full')
    takeAll(t, a, mode)
    takeAll(t, b, mode)
    await startEcho(t, 'ip', 'netns', 'exec', right)

    for (const bytes of [0, 1000, 1472]) {
      const args = ['-c', '50', '-i', '0.01', '-w', '60', '-q', '-s', String(bytes), '10.9.1.2']
      const ping = await wireWhile(a, b, at(left, 'ping', ...args))
      t.ok(answered(ping) >= 50, `ping of ${bytes} bytes`)
    }
    const udp = await wireWhile(a, b, at(left, process.execPath, '-e', datagrams('10.9.1.2', 100)))
    t.equal(udp.stdout, '100 came back\n', udp.stderr)

    await quiesce(a, b)
    const ca = { ...a.counters }
    const cb = { ...b.counters }
    t.ok(ca.rxPackets >= 250, 'and ARP')
    t.equal(ca.rxPackets, cb.txPackets)
    t.equal(ca.rxBytes, cb.txBytes)
    t.equal(cb.rxPackets, ca.txPackets)
    t.equal(ca.rxDropped + ca.txDropped + cb.rxDropped + cb.txDropped, 0)
    a.service()
    b.service()
    t.equal(pool.available, frames - 2 * 2048, 'no frame is lost')
    a.close()
    b.close()
    t.equal(pool.available, frames, 'every frame is back')
    a.close()
    t.equal(pool.available, frames, 'closing again changes nothing')
  })

t.test('packets begin at the headroom, IP at a multiple of 4', async (t) => {
  const pool = newPool(4096)
  const port = new AfxdpPort({ interface: 'x1', pool, ringSize: 64 })
  const sender = new AfxdpPort({ interface: 'x0', pool, ringSize: 64 })
  t.teardown(() => [port, sender].forEach((one) => one.close()))
  takeAll(t, port, 'native')
  const frame = ethernetFrame(
    { from: formatMac(sender.mac), to: formatMac(port.mac) },
    udpPacket({ from: '10.0.0.1:1', to: '10.0.0.2:2', payload: 'hello' }),
  )
  const [received = frame.subarray(0, 0), offset = 0] = await sendOne(sender, port, pool, frame)
  t.equal(offset - pool.startOf(offset), ETHERNET_HEADROOM)
  t.equal((offset + 14) % 4, 0)
  t.strictSame(received, frame)
})

/** Sends a frame by one port and returns how it comes out of the other, and where. */
async function sendOne(
  sender: AfxdpPort,
  receiver: AfxdpPort,
  pool: FramePool,
  frame: Uint8Array,
): Promise<[Uint8Array, number] | []> {
  const batch = new FrameBatch(8)
  const start = pool.take() + ETHERNET_HEADROOM
  pool.bytes.set(frame, start)
  batch.push(start, frame.length)
  sender.transmit(batch)
  for (let i = 0; i < 20_000; i++) {
    for (const port of [sender, receiver]) port.service()
    receiver.receive(batch)
    for (let j = 0; j < batch.count; j++) {
      const offset = batch.offsets[j]!
      const bytes = pool.bytes.slice(offset, offset + batch.lengths[j]!)
      pool.give(offset)
      // A device that has just come up has things of its own to say.
      if (Buffer.compare(bytes, frame) === 0) return [bytes, offset]
    }
    batch.count = 0
    await sleep(1)
  }
  return []
}

t.test('bursts of 10,000 frames: every one is accounted for', async (t) => {
  const BURST = 10_000
  const FRAME_LENGTH = 60
  const frames = 16_384
  const pool = newPool(frames)
  const sender = new AfxdpPort({ interface: 'x0', pool })
  const receiver = new AfxdpPort({ interface: 'x1', pool })
  t.teardown(() => [sender, receiver].forEach((port) => port.close()))
  takeAll(t, receiver, 'native')
  const batch = new FrameBatch(4096)
  // Dropped for want of room in the veth's ring, and for want of a frame in the port's.
  const kernelDrops = (): number => statistic('x0', 'tx_dropped') + receiver.counters.rxDropped

  for (const size of [64, 1000, 4096]) {
    const resting = pool.available
    const { txPackets, txDropped } = sender.counters
    const receivedBefore = receiver.counters.rxPackets
    const droppedBefore = kernelDrops()
    let taken = 0
    let received = 0
    const collect = (): void => {
      const inbound = new FrameBatch(256)
      while (receiver.receive(inbound) > 0) {
        received += inbound.count
        for (let i = 0; i < inbound.count; i++) pool.give(inbound.offsets[i]!)
        inbound.count = 0
      }
      receiver.service()
    }
    const arrival = async (): Promise<void> => {
      for (let i = 0; i < 20_000; i++) {
        sender.service()
        collect()
        const sent = sender.counters.txPackets - txPackets
        if (received + kernelDrops() - droppedBefore >= sent) break
        await setImmediate()
      }
    }
    for (let sent = 0; sent < BURST; sent += size) {
      for (let i = 0; i < Math.min(size, BURST - sent); i++) {
        const start = pool.take()
        if (start < 0) break
        const at = start + ETHERNET_HEADROOM
        pool.bytes.fill(0, at, at + FRAME_LENGTH)
        pool.bytes.set(receiver.mac, at)
        pool.bytes.set(sender.mac, at + 6)
        pool.bytes[at + 12] = 0x88 // an EtherType for experiments: nobody answers
        pool.bytes[at + 13] = 0xb5
        batch.push(at, FRAME_LENGTH)
        taken++
      }
      sender.transmit(batch)
      t.equal(batch.count, 0)
      // A receiver that keeps up: the kernel's part of it, too, when the machine is busy.
      if (size === 64) await arrival()
    }
    await quiesce(sender, receiver)
    await arrival()
    const sent = sender.counters.txPackets - txPackets
    t.equal(
      sent + sender.counters.txDropped - txDropped,
      taken,
      `batches of ${size}: all handed over`,
    )
    t.equal(received, receiver.counters.rxPackets - receivedBefore)
    t.equal(received + kernelDrops() - droppedBefore, sent, 'all received or counted as dropped')
    if (size === 64) t.equal(received, BURST, 'none dropped when the receiver keeps up')
    if (size === 4096)
      t.ok(
        sender.counters.txDropped - txDropped >= 2 * 2048,
        'more than the ring holds is given back',
      )
    t.equal(pool.available, resting, 'no frame is lost')
  }
  sender.close()
  receiver.close()
  t.equal(pool.available, frames, 'every frame is back')
})

t.test('a port whose interface is down keeps what it has, and sends it later', async (t) => {
  const frames = 1024
  const pool = newPool(frames)
  const sender = new AfxdpPort({ interface: 'x0', pool, ringSize: 64 })
  t.teardown(() => sender.close())
  const batch = new FrameBatch(128)
  ip('link', 'set', 'x0', 'down')
  for (let i = 0; i < 100; i++) {
    const start = pool.take() + ETHERNET_HEADROOM
    pool.bytes.fill(0xff, start, start + 60)
    batch.push(start, 60)
  }
  sender.transmit(batch)
  t.equal(sender.counters.txDropped, 36, 'what does not fit the ring is given back')
  t.equal(sender.transmitting, false, 'nothing to come back for soon')
  sender.service()
  t.equal(pool.available, frames - 64 - 64)
  ip('link', 'set', 'x0', 'up')
  sender.service()
  await quiesce(sender)
  t.equal(pool.available, frames - 64, 'sent')
  t.ok(statistic('x0', 'tx_packets') >= 64)
})

t.test('frames that the kernel would not take are given back', async (t) => {
  const pool = newPool(256)
  const port = new AfxdpPort({ interface: 'x0', pool, ringSize: 64 })
  t.teardown(() => port.close())
  const resting = pool.available
  const batch = new FrameBatch(4)
  batch.push(pool.take() + ETHERNET_HEADROOM, 0)
  batch.push(pool.take() + ETHERNET_HEADROOM, 13)
  batch.push(pool.take() + ETHERNET_HEADROOM, FRAME_BYTES - ETHERNET_HEADROOM + 1)
  port.transmit(batch)
  t.equal(port.counters.txDropped, 3)
  t.equal(pool.available, resting)
  port.close()
  batch.push(pool.take() + ETHERNET_HEADROOM, 60)
  port.transmit(batch)
  t.equal(port.counters.txDropped, 4)
  t.equal(port.receive(batch), 0)
  port.service()
  t.equal(pool.available, 256, 'a closed port gives all back')
})

t.test('an empty pool stops a port, and no longer than it is empty', async (t) => {
  const pool = newPool(64)
  const port = new AfxdpPort({ interface: 'x1', pool, ringSize: 64, fillFrames: 16 })
  const sender = new AfxdpPort({ interface: 'x0', pool, ringSize: 64, fillFrames: 1 })
  t.teardown(() => [port, sender].forEach((one) => one.close()))
  takeAll(t, port, 'native')
  t.equal(pool.available, 64 - 16 - 1)
  const hoard: number[] = []
  while (pool.available > 0) hoard.push(pool.take())
  port.service()
  t.equal(pool.available, 0)
  const frame = ethernetFrame(
    { from: '02:00:00:00:00:01', to: formatMac(port.mac), type: 0x88b5 },
    [1, 2],
  )
  for (let i = 0; i < 100; i++) {
    pool.give(hoard.pop()!)
    t.ok((await sendOne(sender, port, pool, frame)).length > 0)
    while (pool.available > 0) hoard.push(pool.take())
  }
  for (const one of hoard) pool.give(one)
  port.close()
  sender.close()
  t.equal(pool.available, 64)
})

t.test('what cannot be opened is refused clearly', async (t) => {
  const pool = newPool(256)
  const port = new AfxdpPort({ interface: 'x0', pool, ringSize: 64 })
  t.teardown(() => port.close())
  t.throws(() => new AfxdpPort({ interface: 'x0', pool: newPool(256) }), {
    code: 'EBUSY',
    message: /^afxdp:x0: .* another program's or another thread's XDP socket has this queue/,
  })
  t.throws(() => new AfxdpPort({ interface: 'x0', queue: 7, pool }), {
    code: 'EINVAL',
    message: /^afxdp:x0\/7: .* the interface has no such queue/,
  })
  t.throws(() => new AfxdpPort({ interface: 'none', pool }), { code: 'ENODEV' })
  t.throws(() => new AfxdpPort({ interface: 'x1', mtu: 9000, pool }), {
    message: /^afxdp:x1: an MTU of 9000 does not fit into frames of 2048 bytes, which take 1776/,
  })
  const options = {
    interfaceIndex: 1,
    queue: 0,
    region: new Uint8Array(mapFrames(8192)),
    frameSize: 2048,
    headroom: 2,
    ringSize: 64,
    shareWith: -1,
    bindFlags: 0,
  }
  const open = (change: object) => () =>
    addon.openXdpSocket({ ...options, ...change } as typeof options)
  t.throws(open({ region: new Uint8Array(mapFrames(8192), 64, 4096) }), /page boundary/)
  t.throws(open({ region: new Uint8Array(mapFrames(8192), 0, 5000) }), /whole number of frames/)
  t.throws(open({ region: new Int32Array(1024) }), TypeError)
  t.throws(open({ region: undefined }), TypeError)
  t.throws(open({ queue: 'zero' }), TypeError)
  t.throws(open({ ringSize: 100 }), RangeError)
  t.throws(open({ frameSize: 1024 }), RangeError)
  t.throws(() => addon.xdpStatistics(port.descriptor, new Float64Array(2)), RangeError)
  const map = BpfMap.hash('small', 8, 1, 1)
  t.throws(() => addon.bpfMapUpdate(map.descriptor, new Uint8Array(4), Uint8Array.of(1), 0), {
    message: "key: has 4 bytes, the map's have 8",
  })
  map.set(new Uint8Array(8), Uint8Array.of(1))
  t.throws(() => map.set(new Uint8Array(8).fill(1), Uint8Array.of(1)), { message: /it is full/ })
  t.equal(map.has(new Uint8Array(8)), true)
  t.equal(map.delete(new Uint8Array(8)), true)
  t.equal(map.delete(new Uint8Array(8)), false)
  map.close()
  t.throws(
    () => new XdpProgram('wrong', new Assembler().load('u64', r3, r1, 64).exit().assemble()),
    {
      code: 'EACCES',
      message: /the verifier says:\n[^]*invalid bpf_context access/,
    },
  )
})

// -- the XDP program

const mac = addon.interfaceMac('x1')!
const interfaceIndex = addon.interfaceIndex('x1')
const x1: XdpInterface = { name: 'x1', interfaceIndex, mac, mode: 'native', queues: 1 }
const toUs = { from: '02:00:00:00:00:01', to: formatMac(mac) }
const frame = (packet: Uint8Array): Uint8Array => ethernetFrame(toUs, packet)

/** A program on x1 with a socket behind it, steered as given; and the question what it takes. */
function steered(
  t: Teardown,
  steering: Partial<Steering>,
): { steering: XdpSteering; takes: (packet: Uint8Array) => boolean } {
  const pool = newPool(64)
  const port = new AfxdpPort({ interface: 'x1', pool, ringSize: 64 })
  const xdp = new XdpSteering([x1], () => undefined)
  t.teardown(() => {
    xdp.close()
    port.close()
  })
  xdp.addSocket(interfaceIndex, 0, port.descriptor)
  xdp.apply({ virtual: [], replies: [], marks: [], ...steering })
  return { steering: xdp, takes: (packet) => xdp.takes(interfaceIndex, frame(packet)) }
}

const end = (protocol: ServiceProtocol, address: string, port: number) => ({
  protocol,
  address,
  port,
})
const CLIENT = '198.51.100.7'
const VIP = '192.0.2.1'
const ANY_VIP = '192.0.2.2'
const RIP = '10.0.0.5'
const ANY_RIP = '10.0.0.6'
const services = {
  virtual: [end('tcp', VIP, 80), end('udp', ANY_VIP, 0)],
  replies: [end('tcp', RIP, 8080), end('udp', ANY_RIP, 0)],
}

t.test('services and replies are taken by address, port and protocol', async (t) => {
  const { takes } = steered(t, services)
  const tcp = (from: string, to: string, more = {}) => takes(tcpPacket({ from, to, ...more }))
  const udp = (from: string, to: string, more = {}) => takes(udpPacket({ from, to, ...more }))
  t.equal(tcp(`${CLIENT}:1234`, `${VIP}:80`), true, 'to a service')
  t.equal(tcp(`${CLIENT}:1234`, `${VIP}:81`), false, 'another port')
  t.equal(tcp(`${CLIENT}:1234`, `${VIP}:0`), false, 'port 0 is not any port')
  t.equal(udp(`${CLIENT}:1234`, `${VIP}:80`), false, 'another protocol')
  t.equal(tcp(`${CLIENT}:1234`, '192.0.2.3:80'), false, 'another address')
  t.equal(tcp(`${VIP}:80`, `${CLIENT}:1234`), false, 'from a service')
  t.equal(udp(`${CLIENT}:1234`, `${ANY_VIP}:5000`), true, 'to any port of a service')
  t.equal(tcp(`${CLIENT}:1234`, `${ANY_VIP}:5000`), false, 'of its protocol')
  t.equal(tcp(`${RIP}:8080`, `${CLIENT}:1234`), true, 'a reply')
  t.equal(tcp(`${RIP}:22`, `${CLIENT}:1234`), false, 'from another port')
  t.equal(tcp(`${CLIENT}:1234`, `${RIP}:8080`), false, 'to a real server')
  t.equal(udp(`${ANY_RIP}:999`, `${CLIENT}:1234`), true, 'a reply from any port')
  t.equal(
    tcp(`${CLIENT}:1`, `${VIP}:80`, { ipOptions: [1, 1, 1, 1, 1, 1, 1, 1] }),
    true,
    'with IP options',
  )
  t.equal(takes(icmpPacket({ from: CLIENT, to: VIP, type: 8 })), false, 'ping')
  t.equal(
    takes(ipv4Packet({ source: CLIENT, destination: VIP, protocol: 132 }, [0, 1, 0, 80])),
    false,
    'SCTP',
  )
  t.equal(
    takes(ipv4Packet({ source: CLIENT, destination: ANY_VIP, protocol: 47 }, [0, 1, 0, 80])),
    false,
    'GRE has no ports',
  )
})

t.test('what is no whole IPv4 frame for the interface passes', async (t) => {
  const { steering, takes } = steered(t, services)
  const good = tcpPacket({ from: `${CLIENT}:1234`, to: `${VIP}:80` })
  const ask = (bytes: Uint8Array): boolean => steering.takes(interfaceIndex, bytes)
  t.equal(ask(frame(good)), true)
  t.equal(ask(ethernetFrame({ ...toUs, to: 'ff:ff:ff:ff:ff:ff' }, good)), false, 'broadcast')
  const neighbour = Uint8Array.from(mac)
  neighbour[5]! ^= 1
  t.equal(ask(ethernetFrame({ ...toUs, to: formatMac(neighbour) }, good)), false, "a neighbour's")
  const farther = Uint8Array.from(mac)
  farther[0]! ^= 4
  t.equal(ask(ethernetFrame({ ...toUs, to: formatMac(farther) }, good)), false, 'another MAC')
  t.equal(ask(ethernetFrame({ ...toUs, type: 0x0806 }, good)), false, 'ARP')
  t.equal(ask(ethernetFrame({ ...toUs, type: 0x86dd }, good)), false, 'IPv6')
  const tag = [0x00, 0x05, 0x08, 0x00]
  t.equal(ask(ethernetFrame({ ...toUs, type: 0x8100 }, [...tag, ...good])), false, '802.1Q')
  for (const [what, fields] of [
    ['version 6', { version: 6 }],
    ['a header of 4 words', { headerLength: 4 }],
    ['a header that is longer than the frame', { headerLength: 15 }],
  ] as const)
    t.equal(takes(tcpPacket({ from: `${CLIENT}:1`, to: `${VIP}:80`, ...fields })), false, what)
  for (let length = 14; length < 14 + 20 + 4; length++)
    t.equal(ask(frame(good).subarray(0, length)), false, `cut to ${length} bytes`)
  t.equal(ask(frame(good).subarray(0, 14 + 20 + 4)), true, 'the ports are enough')
})

t.test('ICMP errors are taken when the packet that they quote belongs', async (t) => {
  const { takes } = steered(t, services)
  const ROUTER = '203.0.113.1'
  const error = (payload: Uint8Array, type = 3) =>
    takes(icmpPacket({ from: ROUTER, to: CLIENT, type, payload }))
  const tcp = (from: string, to: string, more = {}) => tcpPacket({ from, to, ...more })
  const requests = [
    tcp(`${CLIENT}:9`, `${VIP}:80`),
    udpPacket({ from: `${CLIENT}:9`, to: `${ANY_VIP}:7` }),
  ]
  const answers = [
    tcp(`${VIP}:80`, `${CLIENT}:9`),
    udpPacket({ from: `${ANY_VIP}:7`, to: `${CLIENT}:9` }),
  ]
  const inward = [
    tcp(`${CLIENT}:9`, `${RIP}:8080`),
    udpPacket({ from: `${CLIENT}:9`, to: `${ANY_RIP}:7` }),
  ]
  const outward = [
    tcp(`${RIP}:8080`, `${CLIENT}:9`),
    udpPacket({ from: `${ANY_RIP}:7`, to: `${CLIENT}:9` }),
  ]
  for (const [what, packets] of Object.entries({ requests, answers, inward, outward }))
    for (const packet of packets) t.equal(error(packet), true, what)
  t.equal(error(tcp(`${CLIENT}:80`, `${VIP}:81`)), false, 'of another port')
  t.equal(error(tcp(`${CLIENT}:8080`, `${RIP}:80`)), false, 'ports are not mixed up')
  t.equal(error(icmpPacket({ from: CLIENT, to: VIP, type: 8 })), false, 'of ping')
  const packet = answers[0]!
  for (const [type, taken] of [
    [3, true],
    [4, true],
    [11, true],
    [12, true],
    [0, false],
    [5, false],
    [8, false],
    [13, false],
  ] as const)
    t.equal(error(packet, type), taken, `type ${type}`)
  const options = { ipOptions: [1, 1, 1, 1] }
  t.equal(error(tcp(`${VIP}:80`, `${CLIENT}:9`, options)), true, 'quoted with options')
  t.equal(
    takes(icmpPacket({ from: ROUTER, to: CLIENT, type: 3, payload: packet, ...options })),
    true,
    'with options itself',
  )
  t.equal(error(packet.subarray(0, 28)), true, 'the least that has to be quoted')
  for (const length of [0, 19, 20, 23])
    t.equal(error(packet.subarray(0, length)), false, `${length}`)
  t.equal(error(tcp(`${VIP}:80`, `${CLIENT}:9`, { version: 6 })), false, 'quoted version 6')
  t.equal(
    error(tcp(`${VIP}:80`, `${CLIENT}:9`, { headerLength: 3 })),
    false,
    'quoted header length',
  )
  t.equal(error(tcp(`${VIP}:80`, `${CLIENT}:9`, { fragmentOffset: 8 })), false, 'a later fragment')

  const tunnel = { source: '10.0.0.254', destination: RIP }
  t.equal(error(ipipPacket(tunnel, requests[0]!)), true, 'about a tunnel')
  t.equal(error(ipipPacket(tunnel, requests[0]!.subarray(0, 28))), true)
  t.equal(error(ipipPacket(tunnel, requests[0]!.subarray(0, 8))), false, 'too little quoted')
  t.equal(
    error(ipipPacket(tunnel, tcp(`${CLIENT}:9`, `${VIP}:81`))),
    false,
    "about another's tunnel",
  )
})

t.test('fragments are taken by address and protocol', async (t) => {
  const { takes } = steered(t, services)
  const first = { moreFragments: true, dontFragment: false }
  const later = { fragmentOffset: 100, dontFragment: false }
  const tcp = (source: string, destination: string, more: object) =>
    takes(ipv4Packet({ source, destination, protocol: 6, ...more }, new Uint8Array(64)))
  const udp = (source: string, destination: string, more: object) =>
    takes(ipv4Packet({ source, destination, protocol: 17, ...more }, new Uint8Array(64)))
  for (const [which, more] of Object.entries({ first, later })) {
    t.equal(tcp(CLIENT, VIP, more), true, `${which}, to a service's address`)
    t.equal(udp(CLIENT, VIP, more), false, `${which}, of a protocol without service there`)
    t.equal(udp(CLIENT, ANY_VIP, more), true, `${which}, to an any-port service`)
    t.equal(tcp(RIP, CLIENT, more), true, `${which}, from a real server`)
    t.equal(tcp(VIP, CLIENT, more), false, `${which}, from a service's address`)
    t.equal(tcp(CLIENT, RIP, more), false, `${which}, to a real server`)
    t.equal(
      takes(icmpPacket({ from: CLIENT, to: VIP, type: 8, payload: new Uint8Array(64), ...more })),
      false,
      `${which}, of ping`,
    )
  }
})

t.test('marking rules take what they match', async (t) => {
  const { steering, takes } = steered(t, {})
  const tcp = (from: string, to: string, more = {}) => takes(tcpPacket({ from, to, ...more }))
  const udp = (from: string, to: string, more = {}) => takes(udpPacket({ from, to, ...more }))
  const set = (...rules: Omit<MarkRule, 'mark'>[]): void =>
    steering.apply({ virtual: [], replies: [], marks: rules.map((rule) => ({ mark: 1, ...rule })) })

  t.equal(tcp(`${CLIENT}:9`, `${VIP}:80`), false, 'no rule')
  set({ protocol: 'tcp', destination: VIP, ports: [80, 90] })
  for (const [port, taken] of [
    [79, false],
    [80, true],
    [85, true],
    [90, true],
    [91, false],
  ] as const)
    t.equal(tcp(`${CLIENT}:9`, `${VIP}:${port}`), taken, `port ${port}`)
  t.equal(udp(`${CLIENT}:9`, `${VIP}:80`), false, 'of another protocol')
  t.equal(tcp(`${CLIENT}:9`, '192.0.2.9:80'), false, 'to another address')
  const fragment = { dontFragment: false, moreFragments: true }
  t.equal(
    tcp(`${CLIENT}:9`, `${VIP}:80`, fragment),
    false,
    'a fragment, of which ports say nothing',
  )
  const error = (payload: Uint8Array) => takes(icmpPacket({ from: RIP, to: VIP, type: 3, payload }))
  t.equal(
    error(tcpPacket({ from: `${VIP}:80`, to: `${CLIENT}:9` })),
    true,
    'an error about an answer',
  )
  t.equal(error(tcpPacket({ from: `${VIP}:9`, to: `${CLIENT}:80` })), false)
  t.equal(
    error(
      ipipPacket(
        { source: VIP, destination: RIP },
        tcpPacket({ from: `${CLIENT}:9`, to: `${VIP}:80` }),
      ),
    ),
    true,
    'an error about a tunnel',
  )

  set({ source: '198.51.100.0/25', destination: '192.0.2.0/24' })
  t.equal(tcp('198.51.100.127:9', '192.0.2.200:7'), true, 'prefixes')
  t.equal(udp('198.51.100.127:9', '192.0.2.200:7'), true, 'any protocol with ports')
  t.equal(tcp('198.51.100.128:9', '192.0.2.200:7'), false)
  t.equal(tcp('198.51.100.127:9', '192.0.3.200:7'), false)
  t.equal(tcp('198.51.100.127:9', '192.0.2.200:7', fragment), true, 'a fragment')
  t.equal(takes(icmpPacket({ from: '198.51.100.127', to: VIP, type: 8 })), false, 'no ping')

  set({ source: '240.0.0.0/4' }, { protocol: 'udp', source: '0.0.0.0/0', ports: [0, 65535] })
  t.equal(tcp('250.1.2.3:9', `${VIP}:7`), true, 'high addresses')
  t.equal(tcp(`${CLIENT}:9`, `${VIP}:7`), false)
  t.equal(udp(`${CLIENT}:9`, `${VIP}:7`), true, 'the second rule')

  set({ interface: 'x1', protocol: 'tcp' }, { interface: 'x0', protocol: 'udp' })
  t.equal(tcp(`${CLIENT}:9`, `${VIP}:7`), true, "the interface's rule")
  t.equal(udp(`${CLIENT}:9`, `${VIP}:7`), false, "another interface's")
  const most = Array.from({ length: 500 }, (_, i) => ({
    protocol: 'tcp' as const,
    source: '10.0.0.0/8',
    destination: VIP,
    ports: [i, i] as [number, number],
  }))
  set(...most)
  t.equal(tcp('10.0.0.1:9', `${VIP}:499`), true, '500 rules')
  t.equal(tcp('10.0.0.1:9', `${VIP}:500`), false)
  set()
  t.equal(tcp('10.0.0.1:9', `${VIP}:499`), false, 'none any more')
})

t.test('steering changes by what is different', async (t) => {
  const { steering, takes } = steered(t, services)
  const http = tcpPacket({ from: `${CLIENT}:9`, to: `${VIP}:80` })
  const https = tcpPacket({ from: `${CLIENT}:9`, to: `${VIP}:443` })
  const fragment = ipv4Packet(
    { source: CLIENT, destination: VIP, protocol: 6, dontFragment: false, moreFragments: true },
    new Uint8Array(64),
  )
  const given = (virtual: Steering['virtual']) =>
    steering.apply({ virtual, replies: [], marks: [] })
  given([end('tcp', VIP, 80), end('tcp', VIP, 443)])
  t.strictSame([http, https, fragment].map(takes), [true, true, true])
  given([end('tcp', VIP, 443)])
  t.strictSame([http, https, fragment].map(takes), [false, true, true])
  given([])
  t.strictSame([http, https, fragment].map(takes), [false, false, false])
  t.throws(() => given([end('tcp', '2001:db8::1', 80)]), {
    message: "AF_XDP steering: '2001:db8::1' is no IPv4 address, and only IPv4 is steered",
  })
})

t.test('a queue without a socket passes all, and a closed socket counts as none', async (t) => {
  const xdp = new XdpSteering([x1], () => undefined)
  t.teardown(() => xdp.close())
  xdp.apply({ ...services, marks: [] })
  const http = frame(tcpPacket({ from: `${CLIENT}:9`, to: `${VIP}:80` }))
  t.equal(xdp.takes(interfaceIndex, http), false, 'none yet')
  const port = new AfxdpPort({ interface: 'x1', pool: newPool(64), ringSize: 64 })
  xdp.addSocket(interfaceIndex, 0, port.descriptor)
  t.equal(xdp.takes(interfaceIndex, http), true)
  port.close()
  await sleep(50)
  t.equal(xdp.takes(interfaceIndex, http), false)
  t.throws(() => xdp.addSocket(interfaceIndex, 0, 0), {
    message: /writing to the BPF map uvs_sockets/,
  })
})

t.test(
  'attaching: native first, generic where native is refused, nothing beside another',
  async (t) => {
    const warnings: string[] = []
    const warn = (text: string): void => void warnings.push(text)
    const auto = new XdpSteering([{ ...x1, mode: 'auto' }], warn)
    t.equal(auto.modeOf(interfaceIndex), 'native')
    t.strictSame(warnings, [])
    for (const mode of ['auto', 'native', 'generic'] as const)
      t.throws(() => new XdpSteering([{ ...x1, mode }], warn), {
        message: /^x1: attaching an XDP program .* another XDP program is attached there/,
      })
    auto.close()
    const lo = { ...x1, name: 'lo', interfaceIndex: 1, mac: new Uint8Array(6) }
    t.throws(() => new XdpSteering([x1, lo], warn), {
      code: 'EOPNOTSUPP',
      message: /^lo: .*the interface's driver has no XDP in this mode/,
    })
    const both = new XdpSteering([x1, { ...lo, mode: 'auto' }], warn)
    t.equal(both.modeOf(1), 'generic')
    t.equal(warnings.length, 1)
    t.match(
      warnings[0],
      /^lo: XDP runs in generic mode, which is slower; native mode: .*EOPNOTSUPP/,
    )
    both.close()
    both.close() // does nothing: its descriptors may be others' by now
    t.notMatch(ip('link', 'show'), /xdp/, 'all detached')
  },
)

t.test('an interface with two queues has a port for each', async (t) => {
  const queues = ['numrxqueues', '2', 'numtxqueues', '2']
  ip('link', 'add', 'm0', ...queues, 'type', 'veth', 'peer', 'name', 'm1', ...queues)
  t.teardown(() => ip('link', 'delete', 'm0'))
  for (const name of ['m0', 'm1']) ip('link', 'set', name, 'up')
  t.equal(addon.queueCount('m1'), 2)
  const pool = newPool(1024)
  const open = (name: string) =>
    [0, 1].map((queue) => new AfxdpPort({ interface: name, queue, pool, ringSize: 64 }))
  const senders = open('m0')
  const receivers = open('m1')
  const { interfaceIndex, mac } = receivers[0]!
  const xdp = new XdpSteering(
    [{ name: 'm1', interfaceIndex, mac, mode: 'native', queues: 2 }],
    () => undefined,
  )
  t.teardown(() => [xdp, ...senders, ...receivers].forEach((one) => one.close()))
  for (const { queue, descriptor } of receivers) xdp.addSocket(interfaceIndex, queue, descriptor)
  t.throws(() => xdp.addSocket(interfaceIndex, 2, receivers[0]!.descriptor), { code: 'E2BIG' })
  xdp.apply({ virtual: [end('udp', VIP, 53)], replies: [], marks: [] })
  t.equal(receivers[1]!.name, 'afxdp:m1/1')
  const query = ethernetFrame(
    { from: '02:00:00:00:00:01', to: formatMac(mac) },
    udpPacket({ from: `${CLIENT}:9`, to: `${VIP}:53` }),
  )
  for (const queue of [1, 0]) {
    const [received] = await sendOne(senders[queue]!, receivers[queue]!, pool, query)
    t.strictSame(received, query, `queue ${queue}`)
  }
  t.strictSame(
    receivers.map((port) => port.counters.rxPackets),
    [1, 1],
  )
  for (const port of [...senders, ...receivers]) port.close()
  t.equal(pool.available, 1024)
})

t.test('what does not belong reaches the stack while the rest comes to the port', async (t) => {
  const pool = newPool(256)
  const port = new AfxdpPort({ interface: 'eth0', pool, ringSize: 64 })
  const { interfaceIndex, mac } = port
  const xdp = new XdpSteering([{ ...x1, name: 'eth0', interfaceIndex, mac }], () => undefined)
  t.teardown(() => {
    xdp.close()
    port.close()
  })
  xdp.addSocket(interfaceIndex, 0, port.descriptor)
  xdp.apply({ virtual: [end('udp', '10.9.1.254', 53)], replies: [], marks: [] })
  await startEcho(t, 'env')
  const ping = await at(
    left,
    'ping',
    '-c',
    '5',
    '-i',
    '0.05',
    '-w',
    '60',
    '-s',
    '3000',
    '10.9.1.254',
  )
  t.ok(answered(ping) >= 5, 'ping, in fragments')
  const udp = await at(left, process.execPath, '-e', datagrams('10.9.1.254', 100))
  t.equal(udp.stdout, '100 came back\n', udp.stderr)
  t.equal(port.counters.rxPackets, 0)
  const query = `const socket = require('node:dgram').createSocket('udp4')
    socket.send('query', 53, '10.9.1.254', () => socket.close())`
  await at(left, process.execPath, '-e', query)
  const batch = new FrameBatch(8)
  for (let i = 0; i < 10_000 && batch.count === 0; i++) {
    port.receive(batch)
    await sleep(5)
  }
  t.equal(batch.count, 1)
  const offset = batch.offsets[0]!
  const bytes = pool.bytes.subarray(offset, offset + batch.lengths[0]!)
  t.equal(Buffer.from(bytes.subarray(14 + 20 + 8)).toString(), 'query')
  pool.give(offset)
})

t.test('how fast frames go from port to port', async (t) => {
  const pool = newPool(8192)
  const a = new AfxdpPort({ interface: 'x0', pool })
  const b = new AfxdpPort({ interface: 'x1', pool })
  t.teardown(() => [a, b].forEach((port) => port.close()))
  takeAll(t, a, 'native')
  takeAll(t, b, 'native')
  const batch = new FrameBatch(64)
  const FRAMES_IN_FLIGHT = 64
  for (let i = 0; i < FRAMES_IN_FLIGHT; i++) {
    const start = pool.take() + ETHERNET_HEADROOM
    pool.bytes.fill(0, start, start + 60)
    pool.bytes.fill(0xff, start, start + 6)
    pool.bytes[start + 12] = 0x88
    pool.bytes[start + 13] = 0xb5
    batch.push(start, 60)
  }
  a.transmit(batch)
  const HOPS = 300_000
  const began = process.hrtime.bigint()
  let hops = 0
  let idle = 0
  while (hops < HOPS && idle < 20_000_000) {
    let moved = 0
    for (const port of [a, b]) {
      port.service()
      moved += port.receive(batch)
      if (batch.count > 0) port.transmit(batch)
    }
    hops += moved
    idle = moved === 0 ? idle + 1 : 0
  }
  const seconds = Number(process.hrtime.bigint() - began) / 1e9
  t.ok(hops >= HOPS, 'no frame is lost on the way')
  t.comment(
    `${Math.round(hops / seconds)} frames/s received and sent on, by one thread over a veth pair`,
  )
})
