// The benchmark of directors on the wire: that it measures what it says and leaves nothing, never how fast.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { RunResult } from '../bench/suite/result.js'
import { wire } from '../bench/parts/wire.js'
import { frameTemplate, LEAST_BYTES } from '../bench/wire/frame.js'
import { peers } from '../bench/wire/peers.js'
import { FrameGenerator } from '../bench/wire/programs.js'
import { Testbed } from '../bench/wire/testbed.js'
import { listLabs } from '../src/lab/lab.js'
import { run, sleep } from '../src/lab/process.js'
import { readMonotonic } from '../src/kernel/sleep.js'
import { finish, sumPseudoHeader, sumRange, fold } from '../src/wire/checksum.js'
import { IpProtocol, parseAddress } from '../src/wire/ipv4.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

const toolbox = fileURLToPath(new URL('../src/cli/uvs.js', import.meta.url))

/** Labs of processes that are no more. */
const orphans = (): string[] =>
  listLabs().filter((name) => !existsSync(`/proc/${/^uvs(\d+)/.exec(name)![1]!}`))

void t.test(
  'the generator: whole flows, right checksums, the time of sending',
  { skip },
  async (t) => {
    const generator = new FrameGenerator()
    t.teardown(() => generator.close())
    const now = readMonotonic()
    const [source, destination] = [parseAddress('10.64.0.0')!, parseAddress('10.0.0.100')!]
    const prepare = (flows: number, frameBytes: number, startNs: bigint): void =>
      generator.prepare({
        template: frameTemplate({
          frameBytes,
          sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
          destinationMac: Uint8Array.of(2, 0, 0, 0, 0, 2),
          sourceBe: source,
          destinationBe: destination,
          destinationPort: 4000,
          mark: 7,
        }),
        interfaceIndex: 1,
        packetsPerSecond: 1e7,
        flows,
        startNs,
        endNs: now + 60_000_000_000n,
      })
    const flows = 2048
    for (const frameBytes of [64, 65, 1518]) {
      prepare(flows, frameBytes, now - 1_000_000_000n)
      const seen = new Set<string>()
      for (let i = 0; i < flows; i++) {
        const frame = generator.next()!
        const bytes = new Uint8Array(new ArrayBuffer(frame.length + (frame.length & 1)))
        bytes.set(frame)
        const halfs = new Uint16Array(bytes.buffer)
        const words = new DataView(bytes.buffer)
        const udpBytes = frame.length - 34
        const sum = sumPseudoHeader(IpProtocol.udp, words.getInt32(26, true), destination, udpBytes)
        const isRight =
          frame.length === frameBytes - 4 &&
          finish(sumRange(halfs, bytes, 14, 20)) === 0 &&
          fold(sumRange(halfs, bytes, 34, udpBytes) + sum) === 0xffff
        if (!isRight)
          t.fail(`frame ${i}: ${Buffer.from(frame.subarray(0, LEAST_BYTES)).toString('hex')}`)
        const sentNs = words.getBigUint64(42, true)
        if (sentNs < now || sentNs > readMonotonic()) t.fail(`frame ${i}: sent at ${sentNs}`)
        seen.add(`${words.getInt32(26)}:${words.getUint16(34)}`)
      }
      t.equal(seen.size, flows, 'every flow once')
    }
    prepare(1, 64, now + 60_000_000_000n)
    t.equal(generator.next(), undefined, 'nothing is sent before its time')
  },
)

void t.test('the tester sends what was ordered and gets it back', { skip }, async (t) => {
  const testbed = new Testbed()
  t.teardown(() => testbed.end())
  const lane = await peers.ceiling.open(testbed)
  await testbed.openTester()
  const order = { packetsPerSecond: 20_000, frameBytes: 128, flows: 64, durationMs: 100 }
  let result = await testbed.measure(lane, order)
  // A trial that a busy machine gave no processor in time is over before it has begun.
  for (let tries = 0; tries < 50 && result.sent === 0; tries++)
    result = await testbed.measure(lane, order)
  t.equal(result.wanted, 2000)
  t.equal(result.received, result.sent)
  t.ok(result.sent > 0 && result.sent <= result.wanted + 1)
  const { p50, p99, p999, max } = result.latencyNs!
  t.ok(0 < p50 && p50 <= p99 && p99 <= p999 && p999 <= max, `${p50} ${p99} ${p999} ${max}`)
})

const CONNECTIONS_SETTING = '/proc/sys/net/netfilter/nf_conntrack_max'
const settings = (): string =>
  existsSync(CONNECTIONS_SETTING) ? readFileSync(CONNECTIONS_SETTING, 'utf8') : ''

void t.test('a quick run measures all subjects and leaves nothing', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-wire-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const [before, orphansBefore] = [settings(), orphans()]
  // On a busy machine some trials are in vain, and then there may be no figure at all for somebody.
  let missing: string[] = []
  for (let tries = 0; tries === 0 || (missing.length > 0 && tries < 4); tries++) {
    const { status, stderr } = await run(process.execPath, [toolbox, 'bench', 'wire', '--quick', '--out', folder], { timeoutMs: 500_000 }) // prettier-ignore
    t.equal(status, 0, stderr)
    const result = JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as RunResult
    const [part] = result.parts
    t.equal(part!.failure, undefined)
    // Peers that are missing are another matter.
    t.strictSame(
      part!.notes.filter((note) => !note.includes('there is no latency')),
      [],
    )
    missing = Object.values(peers).flatMap(({ subject }) => {
      const own = part!.samples.filter((one) => one.subject === subject.name && one.value > 0)
      const metrics = new Set(own.map(({ metric }) => metric))
      return [...new Set([...wire.claims, ...wire.plots].map((one) => one.metric))]
        .filter((metric) => !metrics.has(metric))
        .map((metric) => `${subject.name}: ${metric}`)
    })
  }
  t.strictSame(missing, [], 'rates and latencies above zero for everybody')
  t.equal(settings(), before, 'the settings of the machine are as before')
  t.strictSame(orphans(), orphansBefore, 'no namespaces are left')
})

void t.test('interrupted, it leaves nothing either', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-wire-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const [before, orphansBefore] = [settings(), orphans()]
  const labsBefore = new Set(listLabs())
  const bench = spawn(process.execPath, [toolbox, 'bench', 'wire', '--quick', '--out', folder], {
    stdio: 'ignore',
  })
  const end = once(bench, 'exit')
  while (!listLabs().some((name) => !labsBefore.has(name))) await sleep(50)
  await sleep(2000)
  bench.kill('SIGTERM')
  const [status] = (await end) as [number | null]
  t.not(status, 0)
  t.equal(settings(), before, 'the settings of the machine are as before')
  t.strictSame(orphans(), orphansBefore, 'no namespaces are left')
})
