// The benchmark's parts with interfaces, ended in every way: nothing is left on the machine, and what was measured is.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parseResult } from '../bench/suite/result.js'
import { isRunning, labsOf } from '../src/lab/lab.js'
import { run, sleep } from '../src/lab/process.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

const toolbox = fileURLToPath(new URL('../src/cli/uvs.js', import.meta.url))

function children(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return text.split(' ').filter(Boolean).map(Number)
  } catch {
    return [] // It has ended meanwhile.
  }
}

const isPart = (pid: number): boolean =>
  existsSync(`/proc/${pid}/cmdline`) &&
  readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('part-process')

const descendants = (pid: number): number[] =>
  children(pid).flatMap((child) => [child, ...descendants(child)])

interface Started {
  readonly bench: ChildProcess
  readonly folder: string
  readonly exit: Promise<[number | null, string | null]>
  /** The process that measures. */
  readonly part: number
}

/** Starts a part, and waits until it has namespaces and programs in them. */
async function start(t: Test, part: string): Promise<Started> {
  const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-interruption-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const args = [toolbox, 'bench', part, '--quick', '--out', folder]
  const bench = spawn(process.execPath, args, { stdio: 'ignore' })
  const exit = once(bench, 'exit') as Promise<[number | null, string | null]>
  let pid: number | undefined
  while (pid === undefined || labsOf(pid).length === 0 || descendants(pid).length === 0) {
    if (bench.exitCode !== null) throw new Error(`bench ${part} has ended`)
    await sleep(20)
    pid = children(bench.pid!).find(isPart)
  }
  return { bench, folder, exit, part: pid }
}

/** Nothing of the part is there any more, or soon. */
async function leavesNothing(t: Test, part: number, programs: readonly number[]): Promise<void> {
  const left = (): unknown[] => [...labsOf(part), ...programs.filter(isRunning)]
  for (let tries = 0; tries < 500 && left().length > 0; tries++) await sleep(20)
  t.strictSame(left(), [], 'no namespaces, folders or programs are left')
  const holders = existsSync('/run/uvs-bench') ? readdirSync('/run/uvs-bench') : []
  t.strictSame(
    holders.filter((name) => name.startsWith(`holder-${part}-`)),
    [],
    'the settings of the machine are no longer held',
  )
}

/** How the first part ended, by what was written. */
const failureIn = (folder: string): string | undefined =>
  parseResult(readFileSync(join(folder, 'result.json'), 'utf8')).parts[0]!.failure

for (const [part, signal, status, delayMs] of [
  ['wire', 'SIGINT', 130, 2000],
  ['streams', 'SIGTERM', 143, 300],
  ['growth', 'SIGHUP', undefined, 500],
  ['workers-wire', 'SIGINT', 130, 1500],
] as const)
  void t.test(`${signal} ends ${part}`, { skip }, async (t) => {
    const { bench, folder, exit, part: pid } = await start(t, part)
    await sleep(delayMs)
    const programs = descendants(pid)
    bench.kill(signal)
    t.strictSame(await exit, signal === 'SIGHUP' ? [null, signal] : [status, null])
    t.notOk(isRunning(pid))
    t.equal(failureIn(folder), 'interrupted')
    t.ok(existsSync(join(folder, 'report.html')))
    await leavesNothing(t, pid, programs)
  })

void t.test('a second signal does not wait for a part that hangs', { skip }, async (t) => {
  const { bench, folder, exit, part } = await start(t, 'wire')
  const programs = descendants(part)
  process.kill(part, 'SIGSTOP')
  bench.kill('SIGTERM')
  await sleep(200)
  t.ok(isRunning(bench.pid!), 'the first one waits')
  bench.kill('SIGTERM')
  t.strictSame(await exit, [143, null])
  t.ok(existsSync(join(folder, 'result.json')))
  await leavesNothing(t, part, programs)
})

void t.test('a part whose runner is killed cleans up', { skip }, async (t) => {
  const { bench, exit, part } = await start(t, 'streams')
  const programs = descendants(part)
  bench.kill('SIGKILL')
  await exit
  await leavesNothing(t, part, [part, ...programs])
})

void t.test('a killed part is cleaned up by its runner', { skip }, async (t) => {
  const { folder, exit, part } = await start(t, 'streams')
  const programs = descendants(part)
  process.kill(part, 'SIGKILL')
  t.strictSame(await exit, [1, null])
  t.equal(failureIn(folder), 'its process ended with SIGKILL')
  await leavesNothing(t, part, programs)
})

void t.test('where both were killed the next run cleans up', { skip }, async (t) => {
  const { bench, folder, exit, part } = await start(t, 'wire')
  const programs = descendants(part)
  process.kill(part, 'SIGSTOP')
  bench.kill('SIGKILL')
  process.kill(part, 'SIGKILL')
  await exit
  while (isRunning(part)) await sleep(20)
  t.not(labsOf(part).length, 0, 'something is left')
  const args = [toolbox, 'bench', 'schedulers', '--quick', '--schedulers', 'rr', '--out', folder]
  t.match(await run(process.execPath, args), { status: 0 })
  await leavesNothing(t, part, programs)
})
