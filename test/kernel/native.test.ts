import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { native } from '../../src/kernel/native.js'
import { FramePool } from '../../src/port/frame-pool.js'

const addon = native()
// Wrong types are what is being tested.
const loose = addon as unknown as Record<string, (...args: unknown[]) => unknown>
const EBADF = 9

t.test('mapped memory is zeroed, writable and page-aligned', async (t) => {
  const region = addon.mapMemory(100_000)
  t.equal(region.byteLength, 100_000)
  const words = new Int32Array(region)
  t.ok(words.every((word) => word === 0))
  words.fill(-1)
  t.ok(words.every((word) => word === -1))
})

t.test('mapped memory is unmapped when it is collected', async (t) => {
  // 40 GiB in all: more than would fit if nothing were given back.
  for (let i = 0; i < 400; i++) {
    const bytes = new Uint8Array(addon.mapMemory(100 << 20))
    bytes[0] = 1
    // Finalizers run from the event loop.
    await setImmediate()
  }
  const mappedKb = Number(/VmSize:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))![1])
  t.ok(mappedKb < 30 << 20, `${mappedKb} KiB mapped`)
})

t.test('sizes that cannot be are refused', async (t) => {
  for (const size of [0, -1, 1.5, NaN, Infinity, 2 ** 32, 2 ** 53])
    t.throws(() => addon.mapMemory(size), RangeError, String(size))
  for (const size of [undefined, '4096', null, {}, 4096n])
    t.throws(() => loose['mapMemory']!(size), TypeError)
})

t.test('the clock is CLOCK_MONOTONIC', async (t) => {
  const cell = new Int32Array(2)
  const before = process.hrtime.bigint()
  addon.readClock(cell)
  const after = process.hrtime.bigint()
  const now = BigInt(cell[0]!) * 1_000_000_000n + BigInt(cell[1]!)
  t.ok(before <= now && now <= after)
})

t.test('a thread’s own processor time', async (t) => {
  const cell = new Int32Array(2)
  const read = (): number => {
    addon.readThreadClock(cell)
    return cell[0]! * 1e9 + cell[1]!
  }
  const before = read()
  const { user, system } = process.cpuUsage()
  while (read() - before < 1e6);
  const all = process.cpuUsage({ user, system })
  t.ok((all.user + all.system) * 1000 >= 0.9e6, 'which is part of the process’s')
  const start = process.hrtime.bigint()
  addon.wait(new Int32Array(0), new Int16Array(0), 0, 100)
  const asleep = read()
  t.ok(asleep - before < Number(process.hrtime.bigint() - start), 'and does not go on in sleep')
})

t.test('an event wakes a waiting thread', async (t) => {
  const event = addon.createEvent()
  const other = addon.createEvent()
  t.teardown(() => [event, other].forEach((fd) => addon.closeDescriptor(fd)))
  const descriptors = Int32Array.of(other, event)
  const ready = new Int16Array(2)

  t.equal(addon.wait(descriptors, ready, 2, 0), 0, 'nothing yet')
  addon.signalEvent(event)
  addon.signalEvent(event)
  t.equal(addon.wait(descriptors, ready, 2, -1), 1)
  t.strictSame([...ready], [0, 1], 'POLLIN of the second')
  addon.clearEvent(event)
  t.equal(addon.wait(descriptors, ready, 2, 0), 0, 'one clear takes all signals')
  t.strictSame([...ready], [0, 0])
  addon.clearEvent(event)

  const start = performance.now()
  t.equal(addon.wait(descriptors, ready, 2, 30), 0)
  t.ok(performance.now() - start >= 29, 'the timeout is kept')

  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
     const addon = require(workerData.addon)
     parentPort.postMessage('waiting')
     const ready = new Int16Array(1)
     parentPort.postMessage([addon.wait(Int32Array.of(workerData.event), ready, 1, 10000), ready[0]])`,
    {
      eval: true,
      workerData: {
        event,
        addon: new URL('../../../native/build/Release/uvs.node', import.meta.url).pathname,
      },
    },
  )
  await once(worker, 'message')
  addon.signalEvent(event)
  t.strictSame((await once(worker, 'message'))[0], [1, 1], 'across threads')
  await once(worker, 'exit')
})

t.test('waiting for a descriptor that is closed says so instead of throwing', async (t) => {
  const event = addon.createEvent()
  addon.closeDescriptor(event)
  const ready = new Int16Array(1)
  t.equal(addon.wait(Int32Array.of(event), ready, 1, 0), 1)
  t.equal(ready[0]! & 0x20, 0x20, 'POLLNVAL')
  t.throws(() => addon.closeDescriptor(event), {
    errno: EBADF,
    code: 'EBADF',
    syscall: 'close',
    message: `closing descriptor ${event}: Bad file descriptor (EBADF, close)`,
  })
})

t.test('batches go into the region and out of it, and nowhere else', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uvs-native-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'packets')
  writeFileSync(path, 'abcdefgh')
  const fd = openSync(path, 'r+')
  t.teardown(() => closeSync(fd))
  const region = new Uint8Array(addon.mapMemory(64))
  const lengths = new Int32Array(3)
  t.equal(addon.readBatch(fd, region, Int32Array.of(0, 61, 8), lengths, 2, 3), 2)
  t.strictSame([...lengths], [3, 3, 0])
  t.equal(Buffer.from(region.subarray(0, 4)).toString(), 'abc\0')
  t.equal(Buffer.from(region.subarray(60)).toString(), '\0def')
  t.equal(
    addon.writeBatch(fd, region, Int32Array.of(0, 61, 0), Int32Array.of(3, 3, 3), 1, 2),
    2,
    'from the second on',
  )
  t.equal(readFileSync(path, 'utf8'), 'abcdefdefabc')

  for (const offset of [-1, 62, 64, 2 ** 31 - 1, -(2 ** 31)]) {
    t.throws(
      () => addon.readBatch(fd, region, Int32Array.of(offset), lengths, 1, 3),
      RangeError,
      `read to ${offset}`,
    )
    t.throws(
      () => addon.writeBatch(fd, region, Int32Array.of(offset), Int32Array.of(3), 0, 1),
      RangeError,
      `write from ${offset}`,
    )
  }
  const one = Int32Array.of(0)
  for (const length of [-1, 65, 2 ** 31 - 1])
    t.throws(() => addon.writeBatch(fd, region, one, Int32Array.of(length), 0, 1), RangeError)
  t.throws(() => addon.readBatch(fd, region, one, one, 1, -1), RangeError)
  t.throws(() => addon.readBatch(fd, region, one, one, 2, 3), /count: must fit both arrays/)
  t.throws(() => addon.readBatch(fd, region, one, one, -1, 3), RangeError)
  t.throws(() => addon.writeBatch(fd, region, one, one, 1, 1), /first and count/)
  t.throws(() => addon.writeBatch(fd, region, one, one, -1, 1), RangeError)
  t.throws(() => addon.writeBatch(fd, region, one, one, 2 ** 31 - 1, 2 ** 31 - 1), RangeError)
  t.equal(addon.readBatch(fd, region, one, one, 0, 3), 0, 'none asked for')

  t.equal(addon.readBatch(-1, region, one, lengths, 1, 3), -EBADF)
  t.equal(addon.writeBatch(-1, region, one, lengths, 0, 1), -EBADF)
})

t.test('memory that has gone to another thread is not touched', async (t) => {
  const buffer = new ArrayBuffer(64)
  const region = new Uint8Array(buffer)
  structuredClone(buffer, { transfer: [buffer] })
  const one = Int32Array.of(0)
  t.throws(() => addon.readBatch(-1, region, one, one, 1, 3), RangeError)
  t.throws(() => addon.writeBatch(-1, region, one, Int32Array.of(3), 0, 1), RangeError)
})

t.test('shared memory will do', async (t) => {
  const shared = new SharedArrayBuffer(16)
  const cell = new Int32Array(shared, 4, 2)
  addon.readClock(cell)
  t.ok(cell[0]! > 0)
  t.strictSame([...new Int32Array(shared, 12, 1)], [0])
})

t.test('arguments of another type are refused with their name', async (t) => {
  const one = Int32Array.of(0)
  const region = new Uint8Array(64)
  const wrong: [string, unknown[], RegExp][] = [
    ['readClock', [], /cell: must be of type Int32Array/],
    ['readClock', [new Uint32Array(2)], /cell/],
    ['readClock', [new Float64Array(2)], /cell/],
    ['readClock', [new DataView(new ArrayBuffer(8))], /cell/],
    ['readThreadClock', [[0, 0]], /cell/],
    ['signalEvent', ['1'], /fd: must be a number/],
    ['clearEvent', [null], /fd/],
    ['closeDescriptor', [{}], /fd/],
    ['wait', [[1], new Int16Array(1), 1, 0], /descriptors/],
    ['wait', [one, new Int32Array(1), 1, 0], /ready: must be of type Int16Array/],
    ['wait', [one, new Int16Array(1), 1], /timeoutMs/],
    ['readBatch', [0, new ArrayBuffer(64), one, one, 1, 3], /region: must be of type Uint8Array/],
    ['readBatch', [0, region, [0], one, 1, 3], /offsets/],
    ['readBatch', [0, region, one, new Uint32Array(1), 1, 3], /lengths/],
    ['readBatch', [0, region, one, one, '1', 3], /count/],
    ['writeBatch', [0, region, one, one, 0], /count/],
    ['writeBatch', [0, undefined, one, one, 0, 1], /region/],
    ['openTun', [], /options: must be an object/],
    ['openTun', [{ name: 1 }], /name: must be a string/],
    ['openTun', [{ name: 'x', mode: 'tin' }], /mode: "tin" must be "tun" or "tap"/],
    ['openTun', [{ name: 'x', mode: 'tun', multiQueue: 1 }], /multiQueue: must be true or false/],
    [
      'openTun',
      [{ name: 'x', mode: 'tun', multiQueue: false, vnetHeader: true }],
      /backlogBytes: must be a number/,
    ],
    ['setTunOffload', [0, '1', 0], /flags/],
    ['openPacketSocket', [{ interfaceIndex: '1' }], /interfaceIndex: must be a number/],
    ['interfaceIndex', [1], /name: must be a string/],
    ['interfaceMtu', [], /name/],
    ['interfaceMac', [null], /name/],
    ['queueCount', [{}], /name/],
    ['setOffload', ['lo', 'tx', 1], /on: must be true or false/],
    ['setOffload', ['lo', 'lro', true], /offload: "lro" must be tx, rx, tso, gso or gro/],
  ]
  for (const [name, args, message] of wrong)
    t.throws(() => loose[name]!(...args), { name: 'TypeError', message }, `${name} ${message}`)
  for (const fd of [1.5, NaN, 2 ** 31, -(2 ** 31) - 1])
    t.throws(() => addon.closeDescriptor(fd), { message: 'fd: must be a 32-bit integer' })
  t.throws(() => addon.readClock(new Int32Array(1)), RangeError)
  t.throws(() => addon.wait(one, new Int16Array(1), 2, 0), RangeError)
  t.throws(() => addon.wait(new Int32Array(300), new Int16Array(300), 300, 0), RangeError)
})

t.test('interfaces are asked for by name', async (t) => {
  t.equal(addon.interfaceIndex('lo'), 1)
  t.ok(addon.interfaceMtu('lo') >= 1280)
  t.equal(addon.interfaceMac('lo'), undefined)
  t.equal(addon.queueCount('lo'), 1)
  const missing = {
    code: 'ENODEV',
    errno: 19,
    message: /of interface uvs-missing: No such device .*; this network namespace has no interface/,
  }
  for (const question of ['interfaceIndex', 'interfaceMtu', 'interfaceMac', 'queueCount'] as const)
    t.throws(() => addon[question]('uvs-missing'), missing, question)
  t.throws(() => addon.interfaceIndex('sixteen-letters!'), /at most 15 bytes/)
  t.throws(() => addon.interfaceIndex('lo\0lo'), /without NUL/)
})

t.test('a refusal names the capability that is missing', async (t) => {
  if (process.geteuid?.() === 0) return t.pass('root is refused nothing')
  t.throws(
    () =>
      addon.openTun({
        name: 'uvs0',
        mode: 'tun',
        multiQueue: false,
        vnetHeader: false,
        backlogBytes: 0,
      }),
    /tun device uvs0: .*(CAP_NET_ADMIN|the kernel's tun module is missing)/,
  )
  t.throws(
    () =>
      addon.openPacketSocket({
        interfaceIndex: 1,
        protocol: 3,
        ignoreOutgoing: false,
        promiscuous: false,
      }),
    { code: 'EPERM', syscall: 'socket', message: /CAP_NET_RAW/ },
  )
  t.throws(() => addon.setOffload('lo', 'tx', true), { code: 'EPERM', message: /CAP_NET_ADMIN/ })
})

t.test('a frame pool over mapped memory lives in a worker thread', async (t) => {
  const source = `
    const { workerData, parentPort } = require('node:worker_threads')
    import(workerData.pool).then(async ({ FramePool }) => {
      const { native } = await import(workerData.native)
      const pool = new FramePool(native().mapMemory(2048 * 64), 2048, 64)
      const taken = []
      for (let f = pool.take(); f >= 0; f = pool.take()) {
        pool.words[f >> 2] = f
        taken.push(f)
      }
      const intact = taken.every((f) => pool.words[f >> 2] === f)
      for (const f of taken) pool.give(f + 1500)
      parentPort.postMessage([taken.length, intact, pool.available])
    })`
  const workers = [0, 1, 2].map(
    () =>
      new Worker(source, {
        eval: true,
        workerData: {
          pool: new URL('../../src/port/frame-pool.js', import.meta.url).href,
          native: new URL('../../src/kernel/native.js', import.meta.url).href,
        },
      }),
  )
  // Three threads and this one have the addon loaded at once.
  const pool = new FramePool(addon.mapMemory(2048 * 64), 2048, 64)
  const ends = workers.map((worker) => [once(worker, 'message'), once(worker, 'exit')] as const)
  for (const [message, exit] of ends) {
    t.strictSame((await message)[0], [64, true, 64])
    t.strictSame(await exit, [0], 'and ends in peace')
  }
  t.equal(pool.available, 64)
})
