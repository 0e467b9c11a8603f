// Run by netns-tests/tun-tap.test.ts in the namespace `station` that it describes; the argument is the name
// of the client's namespace.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { TapPort, stationMac } from '../../src/drivers/tap.js'
import { TunPort } from '../../src/drivers/tun.js'
import type { TunDevice } from '../../src/drivers/tun-device.js'
import { native } from '../../src/kernel/native.js'
import { run, type CommandResult } from '../../src/lab/process.js'
import { FrameBatch, FramePool, IP_HEADROOM } from '../../src/port/frame-pool.js'
import { formatMac } from '../../src/wire/ethernet.js'
import { addressBe, macBytes } from '../../test/support/packets.js'
import { answered } from './ping.js'

t.setTimeout(600_000)

const [clientNamespace = ''] = process.argv.slice(2)
const addon = native()
const FRAMES = 256
const FRAME_BYTES = 2048
const EBADFD = 77

const newPool = (frames = FRAMES): FramePool =>
  new FramePool(addon.mapMemory(frames * FRAME_BYTES), FRAME_BYTES, frames)

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })
const atClient = (command: string, ...args: string[]): Promise<CommandResult> =>
  run('ip', ['netns', 'exec', clientNamespace, command, ...args])

/** Turns an IP packet back to where it came from: echo requests become replies, UDP ports change places. */
function turnBack(pool: FramePool, offset: number): void {
  const { words, halfs, bytes } = pool
  const at = offset >> 2
  const source = words[at + 3]!
  words[at + 3] = words[at + 4]!
  words[at + 4] = source
  const transport = offset + 4 * (bytes[offset]! & 15)
  if (bytes[offset + 9] === 17) {
    const port = halfs[transport >> 1]!
    halfs[transport >> 1] = halfs[(transport >> 1) + 1]!
    halfs[(transport >> 1) + 1] = port
  } else if (bytes[offset + 9] === 1) {
    bytes[transport] = 0
    // The type has lost 8 in the high byte, so the checksum gains as much (RFC 1624).
    const sum = bytes[transport + 2]! * 256 + bytes[transport + 3]! + 0x0800
    const folded = (sum & 0xffff) + (sum >> 16)
    bytes[transport + 2] = folded >> 8
    bytes[transport + 3] = folded & 255
  }
}

/** Echoes what a port receives for as long as the work takes; returns the work's result. */
async function echoWhile<T>(port: TunDevice, pool: FramePool, work: Promise<T>): Promise<T> {
  const batch = new FrameBatch(64)
  let working = true
  const done = work.finally(() => (working = false))
  while (working) {
    port.receive(batch)
    for (let i = 0; i < batch.count; i++) {
      const offset = batch.offsets[i]!
      if (port.mac) {
        const half = offset >> 1
        pool.halfs.copyWithin(half, half + 3, half + 6)
        pool.bytes.set(port.mac, offset + 6)
        turnBack(pool, offset + 14)
      } else turnBack(pool, offset)
    }
    if (batch.count > 0) port.transmit(batch)
    await setImmediate()
  }
  return done
}

/** Options of a ping that goes on until so many are answered; on a busy machine it may send more of them. */
const pingUntil = (count: number): string[] => ['-c', `${count}`, '-w', '60', '-i', '0.01']

/** How many requests ping says that it has sent. */
const sentBy = (ping: CommandResult): number =>
  Number(/(\d+) packets transmitted/.exec(ping.stdout)?.[1])

/** Sends datagrams of growing sizes from a real socket and has it check that each comes back as it went. */
const datagrams = (address: string, count: number): string[] => [
  '-e',
  `const socket = require('node:dgram').createSocket('udp4')
   const sent = Array.from({ length: ${count} }, (_, i) => Buffer.alloc(14 * i, i))
   let back = 0
   socket.on('message', (message) => {
     if (!message.equals(sent[back])) throw new Error('datagram ' + back + ' came back changed')
     if (++back === sent.length) return console.log(back + ' came back'), socket.close()
     socket.send(sent[back], 5300, '${address}')
   })
   socket.send(sent[0], 5300, '${address}')
   setTimeout(() => { console.log('only ' + back + ' came back'); process.exit(1) }, 300000).unref()`,
]

t.test('a TUN port echoes ping and UDP of the kernel, and counts exactly', async (t) => {
  const pool = newPool()
  const port = new TunPort({ name: 'uvs0', pool })
  t.teardown(() => port.close())
  t.equal(port.name, 'tun:uvs0')
  t.equal(port.mac, undefined)
  t.equal(port.mtu, 1500)
  t.equal(port.interfaceIndex, addon.interfaceIndex('uvs0'))
  ip('address', 'add', '10.9.0.1/24', 'dev', 'uvs0')
  ip('link', 'set', 'uvs0', 'up')

  const ping = await echoWhile(
    port,
    pool,
    run('ping', [...pingUntil(50), '-s', '1000', '-q', '10.9.0.2']),
  )
  t.ok(answered(ping) >= 50)
  const pings = sentBy(ping)
  // The last one's echo, if ping did not wait for it.
  await echoWhile(port, pool, setImmediate())
  t.strictSame(port.counters, {
    rxPackets: pings,
    rxBytes: pings * 1028,
    txPackets: pings,
    txBytes: pings * 1028,
    rxDropped: 0,
    txDropped: 0,
  })
  const link = JSON.parse(ip('-s', '-json', 'link', 'show', 'uvs0'))[0].stats64
  t.equal(link.tx.packets, pings, 'as the kernel counts')
  t.equal(link.rx.packets, pings)

  const udp = await echoWhile(port, pool, run(process.execPath, datagrams('10.9.0.2', 100)))
  t.equal(udp.stdout, '100 came back\n', udp.stderr)
  t.equal(port.counters.rxPackets, pings + 100)
  t.equal(pool.available, FRAMES, 'every frame is back')
})

t.test('IP headers are at a multiple of 4 on both kinds of port', async (t) => {
  const pool = newPool()
  const tun = new TunPort({ name: 'uvs0', pool })
  const tap = new TapPort({ name: 'uvs1', pool })
  t.teardown(() => [tun, tap].forEach((port) => port.close()))
  ip('address', 'add', '10.9.0.1/24', 'dev', 'uvs0')
  ip('link', 'set', 'uvs0', 'up')
  ip('link', 'set', 'uvs1', 'up')
  ip('address', 'add', '10.9.2.1/24', 'dev', 'uvs1')
  ip('neighbour', 'add', '10.9.2.2', 'dev', 'uvs1', 'lladdr', formatMac(tap.mac))
  const batch = new FrameBatch(8)
  await run('ping', ['-c', '1', '-W', '0.1', '10.9.0.2'])
  t.equal(tun.receive(batch), 1)
  t.equal(batch.offsets[0]! % 4, 0)
  t.equal(pool.bytes[batch.offsets[0]!], 0x45)
  await run('ping', ['-c', '1', '-W', '0.1', '10.9.2.2'])
  t.equal(tap.receive(batch), 1)
  t.equal((batch.offsets[1]! + 14) % 4, 0)
  t.equal(pool.bytes[batch.offsets[1]! + 14], 0x45)
})

t.test('what is too long for a frame is counted, not cut', async (t) => {
  const pool = newPool()
  const port = new TunPort({ name: 'uvs0', pool })
  t.teardown(() => port.close())
  ip('address', 'add', '10.9.0.1/24', 'dev', 'uvs0')
  ip('link', 'set', 'uvs0', 'up', 'mtu', '9000')
  port.refreshMtu()
  const largest = FRAME_BYTES - IP_HEADROOM - 1
  t.equal(port.mtu, largest, 'no more than a frame holds')

  const ping = (size: number, options: string[]): Promise<CommandResult> => {
    const sized = [...options, '-M', 'do', '-s', `${size - 28}`, '10.9.0.2']
    return echoWhile(port, pool, run('ping', sized))
  }
  const briefly = ['-c', '3', '-i', '0.01', '-W', '0.2']
  const fitting = await ping(largest, pingUntil(3))
  t.ok(answered(fitting) >= 3)
  t.match((await ping(largest + 1, briefly)).stdout, / 0 received/)
  t.match((await ping(8000, briefly)).stdout, / 0 received/)
  const pings = sentBy(fitting)
  t.match(port.counters, { rxPackets: pings, txPackets: pings, rxDropped: 6 })
  t.equal(pool.available, FRAMES)
})

t.test('without a free frame packets wait in the kernel', async (t) => {
  const pool = newPool(2)
  const port = new TunPort({ name: 'uvs0', pool })
  t.teardown(() => port.close())
  ip('address', 'add', '10.9.0.1/24', 'dev', 'uvs0')
  ip('link', 'set', 'uvs0', 'up')
  await run('ping', ['-c', '5', '-i', '0.01', '-W', '0.1', '10.9.0.2'])
  const batch = new FrameBatch(8)
  t.equal(port.receive(batch), 2)
  t.equal(port.receive(batch), 0)
  pool.give(batch.offsets[--batch.count]!)
  t.equal(port.receive(batch), 1)
  t.equal(port.counters.rxPackets, 3)
  t.equal(port.counters.rxDropped, 0)
})

t.test('a batch larger than one read is filled', async (t) => {
  const pool = newPool()
  const port = new TunPort({ name: 'uvs0', pool, batchSize: 4 })
  t.teardown(() => port.close())
  ip('address', 'add', '10.9.0.1/24', 'dev', 'uvs0')
  ip('link', 'set', 'uvs0', 'up')
  await run('ping', ['-c', '20', '-i', '0.002', '-W', '0.1', '10.9.0.2'])
  const batch = new FrameBatch(10)
  t.equal(port.receive(batch), 10)
  t.equal(port.receive(batch), 0, 'full')
  batch.count = 7
  t.equal(port.receive(batch), 3, 'appended')
})

t.test('packets that the kernel refuses are counted, and the others go', async (t) => {
  const pool = newPool()
  const port = new TunPort({ name: 'uvs0', pool })
  t.teardown(() => port.close())
  const batch = new FrameBatch(4)
  // TUN refuses what is neither IPv4 nor IPv6.
  const send = (...firstBytes: number[]): void => {
    for (const byte of firstBytes) {
      const offset = pool.take() + IP_HEADROOM
      pool.bytes[offset] = byte
      batch.push(offset, 28)
    }
    port.transmit(batch)
  }
  send(0x45, 0x45)
  t.match(port.counters, { txPackets: 0, txDropped: 2 }, 'the link is down')
  ip('link', 'set', 'uvs0', 'up')
  send(0x45, 0x15, 0x25, 0x45)
  t.match(port.counters, { txPackets: 2, txBytes: 56, txDropped: 4 })
  t.equal(batch.count, 0)
  t.equal(pool.available, FRAMES)
})

t.test('a device that goes away under the port is told by its errno', async (t) => {
  const pool = newPool()
  const port = new TunPort({ name: 'uvs0', pool })
  t.teardown(() => port.close())
  const batch = new FrameBatch(4)
  t.equal(port.receive(batch), 0)
  t.equal(port.receiveErrno, 0, 'a link that is down is only silent')
  ip('link', 'delete', 'uvs0')
  t.equal(port.receive(batch), 0)
  t.equal(port.receiveErrno, EBADFD)
  t.equal(pool.available, FRAMES)
})

t.test('queues of one device share its traffic', async (t) => {
  const pool = newPool()
  const ports = [0, 1].map(() => new TunPort({ name: 'uvs0', pool, multiQueue: true }))
  t.teardown(() => ports.forEach((port) => port.close()))
  t.equal(ports[0]!.interfaceIndex, ports[1]!.interfaceIndex)
  t.throws(() => new TunPort({ name: 'uvs0', pool }), { code: 'EINVAL', message: /multi-queue/ })
  ip('address', 'add', '10.9.0.1/24', 'dev', 'uvs0')
  ip('link', 'set', 'uvs0', 'up')
  for (let i = 2; i < 34; i++) await run('ping', ['-c', '1', '-W', '0.001', `10.9.0.${i}`])
  const batch = new FrameBatch(64)
  const shares = ports.map((port) => port.receive(batch))
  t.equal(shares[0]! + shares[1]!, 32, `shares ${shares}`)
})

t.test('a device has one owner', async (t) => {
  const pool = newPool()
  const port = new TunPort({ name: 'uvs0', pool })
  t.teardown(() => port.close())
  const descriptors = (): number => execFileSync('ls', ['/proc/self/fd']).length
  const before = descriptors()
  t.throws(() => new TunPort({ name: 'uvs0', pool }), {
    code: 'EBUSY',
    syscall: 'ioctl TUNSETIFF',
    message: /attaching to tun device uvs0: .*; another process has the device/,
  })
  t.throws(() => new TapPort({ name: 'uvs0', pool }), {
    code: 'EINVAL',
    message: /is no tap device/,
  })
  t.throws(() => new TunPort({ name: 'br0', pool }), {
    code: 'EINVAL',
    message: /is no tun device/,
  })
  t.equal(descriptors(), before, 'nothing is left open')
  port.close()
  port.close()
  new TunPort({ name: 'uvs0', pool }).close()
})

t.test('a process that is killed leaves no device', async (t) => {
  const tap = new URL('../../src/drivers/tap.js', import.meta.url).href
  const framePool = new URL('../../src/port/frame-pool.js', import.meta.url).href
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { TapPort } from '${tap}'
       import { FramePool } from '${framePool}'
       const port = new TapPort({ name: 'uvs1', pool: new FramePool(new ArrayBuffer(4096), 2048, 2) })
       console.log(Buffer.from(port.mac).toString('hex'))
       setInterval(() => port.service(), 1000)`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const [mac] = (await once(child.stdout, 'data')) as [Buffer]
  t.match(ip('link', 'show', 'uvs1'), /uvs1/)
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
  t.throws(() => addon.interfaceIndex('uvs1'), { code: 'ENODEV' })
  t.equal(mac.toString().trim(), Buffer.from(stationMac('uvs1')).toString('hex'), 'the mac is kept')
})

t.test('without the capability the refusal names it', async (t) => {
  const addonPath = new URL('../../../native/build/Release/uvs.node', import.meta.url).pathname
  const { stdout } = await run('setpriv', [
    ...['--bounding-set', '-net_admin,-net_raw', '--inh-caps', '-net_admin,-net_raw'],
    process.execPath,
    '-e',
    `const addon = require('${addonPath}')
     const tries = [
       () => addon.openTun({ name: 'uvs0', mode: 'tun', multiQueue: false, vnetHeader: false, backlogBytes: 0 }),
       () => addon.openPacketSocket({ interfaceIndex: 1, protocol: 3, ignoreOutgoing: true, promiscuous: true }),
       () => addon.setOffload('lo', 'tx', true),
     ]
     for (const attempt of tries) try { attempt() } catch (error) { console.log(error.code, error.message) }`,
  ])
  const [tun, packet, offload] = stdout.split('\n')
  t.match(tun, /^EPERM attaching to tun device uvs0: .*CAP_NET_ADMIN/)
  t.match(packet, /^EPERM opening a packet socket on interface 1: .*CAP_NET_RAW/)
  t.match(offload, /^EPERM switching on offload tx of interface lo: .*CAP_NET_ADMIN/)
})

t.test('a TAP port is a station of the segment', async (t) => {
  const pool = newPool()
  const port = new TapPort({ name: 'uvs1', pool })
  t.teardown(() => port.close())
  t.equal(port.name, 'tap:uvs1')
  t.equal(port.mtu, 1500)
  t.equal(port.mac[0]! & 3, 2, 'locally administered, of one station')
  t.notSame(port.mac, addon.interfaceMac('uvs1'), "not the kernel's side")
  t.strictSame(port.mac, stationMac('uvs1'))
  t.notSame(port.mac, stationMac('uvs2'))
  port.setOwnAddresses(Int32Array.of(addressBe('10.9.1.100'), addressBe('10.9.1.101')))
  ip('link', 'set', 'uvs1', 'up', 'master', 'br0')

  await t.test('its addresses are found by ARP, across a bridge', async (t) => {
    const ping = await echoWhile(port, pool, atClient('ping', ...pingUntil(20), '-q', '10.9.1.100'))
    t.ok(answered(ping) >= 20)
    await echoWhile(port, pool, setImmediate())
    const pings = sentBy(ping)
    const neighbours = ip('-n', clientNamespace, 'neighbour', 'show', '10.9.1.100')
    t.match(neighbours, formatMac(port.mac))
    t.equal(port.arpAnswered, 1)
    t.match(port.counters, {
      rxPackets: pings + 1,
      txPackets: pings + 1,
      txDropped: 0,
      rxDropped: 0,
    })
    t.equal(port.counters.txBytes, pings * 98 + 42)
  })

  await t.test('so does the kernel of its own machine', async (t) => {
    const ping = await echoWhile(port, pool, run('ping', [...pingUntil(3), '10.9.1.101']))
    t.ok(answered(ping) >= 3)
    t.equal(port.arpAnswered, 2)
  })

  await t.test('other addresses stay unanswered, and those requests come out', async (t) => {
    const answered = port.arpAnswered
    const before = port.counters.rxPackets
    const ping = atClient('ping', '-c', '1', '-W', '0.2', '10.9.1.102')
    const batch = new FrameBatch(64)
    t.equal((await ping).status, 1)
    t.equal(port.receive(batch), port.counters.rxPackets - before)
    t.ok(batch.count >= 1)
    t.equal(pool.halfs[(batch.offsets[0]! + 12) >> 1], 0x0608)
    for (let i = 0; i < batch.count; i++) pool.give(batch.offsets[i]!)
    t.equal(port.arpAnswered, answered)
  })

  await t.test('a second of the same address is found out by its probe', async (t) => {
    const probe = await echoWhile(
      port,
      pool,
      atClient('arping', '-D', '-c', '1', '-w', '60', '-I', 'eth0', '10.9.1.100'),
    )
    if (probe.stderr.includes('exec of')) return t.pass('arping is not installed')
    t.equal(probe.status, 1, 'duplicate')
  })
  t.equal(pool.available, FRAMES)
})

t.test(
  'a TAP port takes only the address of a single station that is not the kernel',
  async (t) => {
    const pool = newPool()
    const mac = Uint8Array.from(macBytes('02:00:00:00:00:07'))
    const port = new TapPort({ name: 'uvs1', pool, mac })
    t.strictSame(port.mac, mac)
    port.close()
    for (const wrong of ['03:00:00:00:00:07', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00'])
      t.throws(
        () => new TapPort({ name: 'uvs1', pool, mac: Uint8Array.from(macBytes(wrong)) }),
        new RegExp(`tap:uvs1: ${wrong} is not`),
      )
    t.throws(
      () => new TapPort({ name: 'uvs1', pool, mac: new Uint8Array(5) }),
      /has 6 bytes, not 5/,
    )
    ip('tuntap', 'add', 'dev', 'uvs2', 'mode', 'tap')
    t.teardown(() => ip('link', 'delete', 'uvs2'))
    t.throws(
      () => new TapPort({ name: 'uvs2', pool, mac: addon.interfaceMac('uvs2')! }),
      /is the kernel's own address/,
    )
    t.throws(() => addon.interfaceIndex('uvs1'), { code: 'ENODEV' }, 'nothing stays open')
  },
)

t.test('packet sockets see the wire of their interface alone', async (t) => {
  const incoming = addon.openPacketSocket({
    interfaceIndex: addon.interfaceIndex('eth0'),
    protocol: 3,
    ignoreOutgoing: true,
    promiscuous: true,
  })
  t.teardown(() => addon.closeDescriptor(incoming))
  const region = new Uint8Array(addon.mapMemory(16 * 2048))
  const offsets = Int32Array.from({ length: 16 }, (_, i) => i * 2048)
  const lengths = new Int32Array(16)
  /** Reads what has come and keeps the IPv4 packets: ICMP types. */
  const icmpTypes = (fd: number): number[] => {
    const count = addon.readBatch(fd, region, offsets, lengths, 16, 2048)
    return Array.from({ length: count }, (_, i) => 2048 * i)
      .filter((offset) => region[offset + 12] === 8 && region[offset + 13] === 0)
      .map((offset) => region[offset + 14 + 20]!)
  }
  await atClient('ping', '-c', '1', '10.9.1.2')
  icmpTypes(incoming)
  await atClient('ping', '-c', '3', '-i', '0.01', '10.9.1.2')
  t.strictSame(icmpTypes(incoming), [8, 8, 8], 'requests, no replies')
  t.equal(lengths[0], 98)
  t.equal(addon.readBatch(incoming, region, offsets, lengths, 16, 2048), 0)

  // A reply by hand, and nothing is read by a socket without a protocol.
  const both = addon.openPacketSocket({
    interfaceIndex: addon.interfaceIndex('eth0'),
    protocol: 3,
    ignoreOutgoing: false,
    promiscuous: false,
  })
  t.teardown(() => addon.closeDescriptor(both))
  const mute = addon.openPacketSocket({
    interfaceIndex: addon.interfaceIndex('eth0'),
    protocol: 0,
    ignoreOutgoing: true,
    promiscuous: false,
  })
  t.teardown(() => addon.closeDescriptor(mute))
  region[34] = 0
  t.equal(addon.writeBatch(mute, region, offsets, Int32Array.of(98), 0, 1), 1)
  t.strictSame(icmpTypes(both), [0], 'seen going out')
  t.strictSame(icmpTypes(incoming), [], 'unless told not to')
  t.equal(addon.readBatch(mute, region, offsets, lengths, 16, 2048), 0)
  t.equal(addon.writeBatch(mute, region, offsets, Int32Array.of(5), 0, 1), -22, 'no whole header')
  t.throws(
    () =>
      addon.openPacketSocket({
        interfaceIndex: 99_999,
        protocol: 3,
        ignoreOutgoing: false,
        promiscuous: false,
      }),
    { code: 'ENODEV', syscall: 'bind' },
  )
})

t.test('a device with vnet headers puts them before its packets', async (t) => {
  const options = {
    name: 'uvs0',
    mode: 'tun',
    multiQueue: false,
    vnetHeader: true,
    backlogBytes: 0,
  } as const
  const { fd, name } = addon.openTun(options)
  t.teardown(() => addon.closeDescriptor(fd))
  t.equal(name, 'uvs0')
  const TUN_F_CSUM = 1
  const TUN_F_TSO4 = 2
  addon.setTunOffload(fd, TUN_F_CSUM | TUN_F_TSO4, 12)
  ip('address', 'add', '10.9.0.1/24', 'dev', 'uvs0')
  ip('link', 'set', 'uvs0', 'up')
  t.match((await run('ethtool', ['-k', 'uvs0'])).stdout, /tx-tcp-segmentation: on/)
  await run('ping', ['-c', '1', '-W', '0.1', '-s', '100', '10.9.0.2'])
  const region = new Uint8Array(addon.mapMemory(2048))
  const lengths = new Int32Array(1)
  t.equal(addon.readBatch(fd, region, Int32Array.of(0), lengths, 1, 2048), 1)
  t.equal(lengths[0], 12 + 128)
  t.equal(region[12], 0x45)
  t.throws(() => addon.setTunOffload(fd, 0, 5), {
    code: 'EINVAL',
    message: /setting a vnet header of 5 bytes/,
  })
  t.throws(() => addon.setTunOffload(fd, 1 << 20, 0), { code: 'EINVAL' })
})

t.test('offloads and queues are set and read as ethtool does', async (t) => {
  ip('link', 'add', 'v0', 'numtxqueues', '4', 'numrxqueues', '4', 'type', 'veth', 'peer', 'v1')
  t.teardown(() => ip('link', 'delete', 'v0'))
  const named = {
    tx: 'tx-checksumming',
    tso: 'tx-tcp-segmentation',
    gro: 'generic-receive-offload',
  }
  for (const offload of ['tx', 'tso', 'gro'] as const)
    for (const on of [false, true]) {
      addon.setOffload('v0', 'tx', true)
      addon.setOffload('v0', offload, on)
      const { stdout } = await run('ethtool', ['-k', 'v0'])
      t.match(stdout, `${named[offload]}: ${on ? 'on' : 'off'}`)
    }
  t.equal(addon.queueCount('v0'), 4)
  t.equal(addon.queueCount('eth0'), 1)
  t.equal(addon.queueCount('br0'), 1, 'where the driver does not say')
  t.same(
    formatMac(addon.interfaceMac('v0')!),
    JSON.parse(ip('-json', 'link', 'show', 'v0'))[0].address,
  )
  t.throws(() => addon.setOffload('lo', 'rx', false), {
    code: 'EOPNOTSUPP',
    message: /driver does not/,
  })
})
