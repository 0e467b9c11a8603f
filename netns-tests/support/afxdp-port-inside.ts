// Run by netns-tests/afxdp-port.test.ts in the namespace `middle` that it describes; the argument is the name
// of the lab.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { AfxdpPort } from '../../src/drivers/afxdp.js'
import { mapFrames, Waiter } from '../../src/drivers/waiter.js'
import { XdpSteering } from '../../src/drivers/xdp-steering.js'
import { ETHERNET_HEADROOM, FrameBatch, FramePool } from '../../src/port/frame-pool.js'
import { formatMac } from '../../src/wire/ethernet.js'
import { ethernetFrame, udpPacket } from '../../test/support/packets.js'

t.setTimeout(600_000)

const [lab = ''] = process.argv.slice(2)
const FRAME_BYTES = 2048
const ADDRESS = '10.9.1.254'

const newPool = (frames: number): FramePool =>
  new FramePool(mapFrames(frames * FRAME_BYTES), FRAME_BYTES, frames)
const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' })

interface Teardown {
  teardown(work: () => void): void
}

/** Brings the datagrams to ADDRESS, whatever their port, to the ports. */
function steer(t: Teardown, ...ports: AfxdpPort[]): XdpSteering {
  const xdp = new XdpSteering(
    ports.map(({ name, interfaceIndex, mac }) => ({
      name: name.slice('afxdp:'.length),
      interfaceIndex,
      mac,
      mode: 'native',
      queues: 1,
    })),
    () => undefined,
  )
  t.teardown(() => xdp.close())
  for (const port of ports) xdp.addSocket(port.interfaceIndex, 0, port.descriptor)
  xdp.apply({
    virtual: [{ protocol: 'udp', address: ADDRESS, port: 0 }],
    replies: [],
    marks: [],
  })
  return xdp
}

/** Puts datagrams for a port's station into a batch. */
function putDatagrams(pool: FramePool, batch: FrameBatch, count: number, to: AfxdpPort): void {
  const frame = ethernetFrame(
    { from: '02:00:00:00:00:01', to: formatMac(to.mac) },
    udpPacket({ from: '10.9.1.1:9', to: `${ADDRESS}:5300`, payload: 'hello' }),
  )
  for (let i = 0; i < count; i++) {
    const offset = pool.take() + ETHERNET_HEADROOM
    pool.bytes.set(frame, offset)
    batch.push(offset, frame.length)
  }
}

/** Sends so many datagrams from one port to another; returns how many came. */
async function carry(
  pool: FramePool,
  from: AfxdpPort,
  to: AfxdpPort,
  count: number,
): Promise<number> {
  const batch = new FrameBatch(64)
  putDatagrams(pool, batch, count, to)
  from.transmit(batch)
  let came = 0
  for (let i = 0; i < 10_000 && (came < count || from.transmitting); i++) {
    for (const port of [from, to]) port.service()
    came += to.receive(batch)
    for (let j = 0; j < batch.count; j++) pool.give(batch.offsets[j]!)
    batch.count = 0
    await sleep(1)
  }
  to.service()
  return came
}

t.test(
  "the UMEM's first socket is closed: the others go on, and share it with a new one",
  async (t) => {
    const pool = newPool(1024)
    const first = new AfxdpPort({ interface: 'eth0', pool, ringSize: 64 })
    const a = new AfxdpPort({ interface: 'x0', pool, ringSize: 64 })
    const b = new AfxdpPort({ interface: 'x1', pool, ringSize: 64 })
    t.teardown(() => [first, a, b].forEach((port) => port.close()))
    steer(t, b)
    t.equal(await carry(pool, a, b, 32), 32)
    first.close()
    t.equal(pool.available, 1024 - 2 * 64)
    t.equal(await carry(pool, a, b, 32), 32, 'without the first')
    const again = new AfxdpPort({ interface: 'eth0', pool, ringSize: 64 })
    t.teardown(() => again.close())
    t.equal(pool.available, 1024 - 3 * 64)
    t.equal(await carry(pool, a, b, 32), 32, 'beside a new one')
    for (const port of [a, b, again]) port.close()
    t.equal(pool.available, 1024)
    const anew = new AfxdpPort({ interface: 'x0', pool, ringSize: 64 })
    anew.close()
    t.equal(pool.available, 1024, 'all closed, the memory makes another UMEM')
  },
)

t.test('closed under fire, the kernel writes into none of the frames any more', async (t) => {
  ip('-n', `${lab}-left`, 'neighbour', 'replace', ADDRESS, 'dev', 'eth0', 'lladdr', macOf('eth0'))
  const shooter = `const socket = require('node:dgram').createSocket('udp4')
    const shot = Buffer.alloc(1400, 0x55)
    const volley = () => {
      for (let i = 0; i < 50; i++) socket.send(shot, 5300, '${ADDRESS}')
      setImmediate(volley)
    }
    socket.on('error', () => undefined)
    volley(console.log('ready'))
    process.stdin.on('end', () => process.exit(1)).resume()`
  // It ends when nobody holds the other end of its standard input any more.
  const fire = spawn('ip', ['netns', 'exec', `${lab}-left`, process.execPath, '-e', shooter], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => fire.kill('SIGKILL'))
  await once(fire.stdout, 'data')

  const FRAMES = 256
  const PAINT = 0x2a2a2a2a
  const pool = newPool(FRAMES)
  const batch = new FrameBatch(64)
  let received = 0
  let spoiled = 0
  for (let round = 0; round < 20; round++) {
    const port = new AfxdpPort({ interface: 'eth0', pool, ringSize: 128, fillFrames: 128 })
    const xdp = steer(t, port)
    const waiter = new Waiter(port.descriptors)
    let came = 0
    for (let i = 0; i < 50 || (came < 64 && i < 1000); i++) {
      waiter.wait(20)
      port.service()
      came += port.receive(batch)
      // Some go back out of the device, so that transmissions too are under way when it is closed.
      if (i % 2 === 0) port.transmit(batch)
      for (let j = 0; j < batch.count; j++) pool.give(batch.offsets[j]!)
      batch.count = 0
    }
    received += came
    port.close()
    t.equal(pool.available, FRAMES)
    pool.words.fill(PAINT)
    await sleep(20)
    spoiled += pool.words.reduce((sum, word) => sum + (word === PAINT ? 0 : 1), 0)
    xdp.close()
  }
  t.ok(received > 1000, `under fire: ${received} datagrams`)
  t.equal(spoiled, 0)
})

const macOf = (device: string): string =>
  (JSON.parse(ip('-json', 'link', 'show', device)) as [{ address: string }])[0].address

t.test('no frame costs garbage', async (t) => {
  const pool = newPool(4096)
  const a = new AfxdpPort({ interface: 'x0', pool, ringSize: 512 })
  const b = new AfxdpPort({ interface: 'x1', pool, ringSize: 512 })
  t.teardown(() => [a, b].forEach((port) => port.close()))
  steer(t, b)
  const received = new FrameBatch(64)
  const back = new FrameBatch(64)
  putDatagrams(pool, back, 16, b)
  // Everything that b receives is sent again from a: the same 16 frames, for ever. The kernel may hand them over
  // late when the machine is busy.
  const carryRounds = (frames: number): number => {
    let carried = 0
    for (let idle = 0; carried < frames && idle < 20_000_000; idle++) {
      if (back.count > 0) a.transmit(back)
      a.service()
      b.service()
      const count = b.receive(received)
      for (let i = 0; i < count; i++) back.push(received.offsets[i]!, received.lengths[i]!)
      received.count = 0
      if (count > 0) idle = 0
      carried += count
    }
    return carried
  }
  carryRounds(200_000)
  const FRAMES = 1_000_000
  globalThis.gc!()
  let collections = 0
  let ended = Infinity
  const observer = new PerformanceObserver((list) => {
    collections += list.getEntries().filter(({ startTime }) => startTime < ended).length
  })
  observer.observe({ entryTypes: ['gc'] })
  const before = process.memoryUsage().heapUsed
  const began = performance.now()
  const carried = carryRounds(FRAMES)
  ended = performance.now()
  const grown = process.memoryUsage().heapUsed - before
  // They are told of later, and there may be one after the end, when V8 sees that there is nothing to do.
  await sleep(10)
  observer.disconnect()
  t.ok(carried >= FRAMES, 'no frame is lost on the way')
  t.equal(collections, 0, 'collections')
  // The compiler costs some 300 KB once; a boxed number (16 bytes) a batch would make a megabyte more.
  t.ok(grown < 800_000, `the heap has grown by ${grown} bytes`)
  t.comment(`${Math.round((1000 * carried) / (ended - began))} frames/s in one direction`)
})

t.test(
  'an interface that goes away under a port is silent, and all frames come back',
  async (t) => {
    ip('link', 'add', 'g0', 'type', 'veth', 'peer', 'name', 'g1')
    for (const name of ['g0', 'g1']) ip('link', 'set', name, 'up')
    const pool = newPool(1024)
    const survivor = new AfxdpPort({ interface: 'x0', pool, ringSize: 64 })
    const peer = new AfxdpPort({ interface: 'x1', pool, ringSize: 64 })
    const a = new AfxdpPort({ interface: 'g0', pool, ringSize: 64 })
    const b = new AfxdpPort({ interface: 'g1', pool, ringSize: 64 })
    t.teardown(() => [survivor, peer, a, b].forEach((port) => port.close()))
    steer(t, b, peer)
    t.equal(await carry(pool, a, b, 16), 16)
    ip('link', 'delete', 'g0')

    const batch = new FrameBatch(64)
    putDatagrams(pool, batch, 64, b)
    a.transmit(batch)
    t.equal(batch.count, 0)
    t.equal(a.receive(batch) + b.receive(batch), 0)
    for (const port of [a, b]) port.service()
    t.equal(a.transmitting, false, 'nothing to come back for soon')
    t.equal(a.counters.rxPackets, 0)
    t.equal(b.counters.rxPackets, 16, 'still to be listed')
    const began = Date.now()
    new Waiter([a.descriptor, b.descriptor]).wait(100)
    t.ok(Date.now() - began >= 90, 'waiting does not spin')
    t.equal(await carry(pool, survivor, peer, 32), 32, 'the other ports go on')
    for (const port of [a, b, survivor, peer]) port.close()
    t.equal(pool.available, 1024)
  },
)
