// The benchmark of TCP streams: that it measures what it says and leaves nothing, never how fast.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { streams } from '../bench/parts/streams.js'
import { loads } from '../bench/streams/loads.js'
import { peers } from '../bench/streams/peers.js'
import type { RunResult } from '../bench/suite/result.js'
import { listLabs } from '../src/lab/lab.js'
import { run, sleep } from '../src/lab/process.js'
import { skip as needsRoot } from './support/director.js'

t.setTimeout(600_000)

const toolbox = fileURLToPath(new URL('../src/cli/uvs.js', import.meta.url))

const isInstalled = (program: string): boolean =>
  ['/usr/sbin', '/usr/bin', '/usr/local/bin'].some((folder) => existsSync(join(folder, program)))
const missing = ['iperf3', 'wrk', 'nginx'].filter((program) => !isInstalled(program))
const skip =
  needsRoot ||
  (missing.length > 0 && `${missing.join(', ')} not installed: scripts/setup --bench installs them`)

/** Labs of processes that are no more. */
const orphans = (): string[] =>
  listLabs().filter((name) => !existsSync(`/proc/${/^uvs(\d+)/.exec(name)![1]!}`))

void t.test('a quick run measures all subjects and leaves nothing', { skip }, async (t) => {
  const orphansBefore = orphans()
  const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-streams-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const { status, stderr } = await run(process.execPath, [toolbox, 'bench', 'streams', '--quick', '--out', folder], { timeoutMs: 500_000 }) // prettier-ignore
  t.equal(status, 0, stderr)
  const result = JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as RunResult
  const [part] = result.parts
  t.equal(part!.failure, undefined)
  for (const { subject } of Object.values(peers)) {
    if (part!.notes.some((note) => note.startsWith(`${subject.name} is missing`))) {
      t.equal(subject.role, 'peer', `${subject.name} may be missing`)
      continue
    }
    for (const load of Object.values(loads)) {
      const own = part!.samples.filter(
        (sample) => sample.subject === subject.name && sample.parameters['load'] === load.name,
      )
      const valueOf = (metric: string): number =>
        own.find((sample) => sample.metric === metric)?.value ?? NaN
      t.ok(valueOf(load.rate.name) > 0, `${subject.name}, ${load.name}: a rate`)
      t.ok(valueOf(load.cost.name) > 0, `${subject.name}, ${load.name}: CPU time`)
    }
  }
  for (const { metric } of [...streams.claims, ...streams.plots])
    t.ok(
      part!.samples.some((sample) => sample.metric === metric),
      metric,
    )
  t.strictSame(orphans(), orphansBefore, 'no namespaces are left')
})

void t.test('interrupted, it leaves nothing either', { skip }, async (t) => {
  const orphansBefore = orphans()
  const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-streams-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const labsBefore = new Set(listLabs())
  const args = [toolbox, 'bench', 'streams', '--quick', '--out', folder]
  const bench = spawn(process.execPath, args, { stdio: 'ignore' })
  const end = once(bench, 'exit')
  while (!listLabs().some((name) => !labsBefore.has(name))) await sleep(50)
  await sleep(3000)
  bench.kill('SIGTERM')
  const [status] = (await end) as [number | null]
  t.not(status, 0)
  t.strictSame(orphans(), orphansBefore, 'no namespaces are left')
})
