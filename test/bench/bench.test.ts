import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { parts } from '../../bench/parts/index.js'
import { clockText, Progress } from '../../bench/suite/progress.js'
import { parseResult } from '../../bench/suite/result.js'
import { estimatedSeconds, shareSeconds } from '../../bench/suite/runner.js'

// On a machine that does much else.
t.setTimeout(180_000)

const uvs = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))

const isShare = (value: number): boolean => value >= 0 && value <= 1

interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

const bench = (...args: string[]): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile(process.execPath, [uvs, 'bench', ...args], (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })

const folderFor = (t: Test): string => {
  const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

t.test('a quick run of a cheap part leaves data, report and plots', async (t) => {
  const out = folderFor(t)
  const { status, stdout, stderr } = await bench('micro', '--quick', '--out', out)
  t.equal(status, 0, stderr)
  t.match(stderr, /^\[1\/1\] micro: about 0:04\n/)
  t.match(stderr, /\[1\/1\] micro: \d+ samples, 0:\d\d\n/)
  t.match(stdout, 'ratio')
  const result = parseResult(readFileSync(join(out, 'result.json'), 'utf8'))
  t.equal(result.quick, true)
  t.match(result.machine, { node: process.version, cores: Number, commit: String })
  t.same(
    result.parts.map(({ name }) => name),
    ['micro'],
  )
  const [part] = result.parts
  t.ok(part!.samples.length >= 10)
  for (const { value, startMs, endMs, stolenShare, waitedShare } of part!.samples) {
    if (!(
      value > 0 &&
      endMs > startMs &&
      startMs >= 0 &&
      isShare(stolenShare) &&
      isShare(waitedShare)
    ))
      t.fail(`sample ${JSON.stringify({ value, startMs, endMs, stolenShare, waitedShare })}`)
  }
  t.match(readFileSync(join(out, 'report.html'), 'utf8'), 'micro-title')
  t.same(readdirSync(join(out, 'plots')), ['micro-time-per-operation.svg'])
  rmSync(join(out, 'report.html'))
  const again = await bench('--report', join(out, 'result.json'))
  t.equal(again.status, 0, again.stderr)
  t.ok(existsSync(join(out, 'report.html')))
})

for (const [name, signal, status] of [
  ['micro', 'SIGINT', 130],
  ['core', 'SIGTERM', 143],
  ['schedulers', 'SIGINT', 130],
  ['workers', 'SIGHUP', null],
] as const)
  t.test(`${signal} ends ${name}, keeps what was measured, and leaves no process`, async (t) => {
    const out = folderFor(t)
    const child = spawn(process.execPath, [uvs, 'bench', name, '--json', '--out', out], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    child.stdout.on('data', (data) => (stdout += String(data)))
    await new Promise((resolve) =>
      child.stderr.on('data', (data) => {
        if (String(data).includes(`[1/1] ${name} 0:`)) resolve(undefined)
      }),
    )
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')
    const [partProcess] = children.split(' ')
    t.ok(existsSync(`/proc/${partProcess}`))
    child.kill(signal)
    const ending = await new Promise((resolve) =>
      child.on('close', (code, killedBy) => resolve([code, killedBy])),
    )
    t.same(ending, [status, status === null ? signal : null])
    t.equal(parseResult(stdout).parts[0]!.failure, 'interrupted')
    t.equal(readFileSync(join(out, 'result.json'), 'utf8'), stdout.trim())
    t.ok(existsSync(join(out, 'report.html')))
    t.notOk(existsSync(`/proc/${partProcess}`))
  })

t.test('a command line that makes no sense is told', async (t) => {
  t.match(await bench('mirco'), { status: 2, stderr: "there is no part 'mirco'" })
  t.match(await bench('micro', '--seconds', 'ten'), {
    status: 2,
    stderr: '--seconds ten: must be a number',
  })
  t.match(await bench('micro', '--quick', '--seconds', '9'), { status: 2, stderr: '--seconds does not' }) // prettier-ignore
  t.match(await bench('micro', 'load.scn'), { status: 2, stderr: 'micro takes a file' })
  t.match(await bench('micro', '--servers=2'), { status: 2, stderr: '--servers is an option of schedulers' }) // prettier-ignore
  t.match(await bench('--fast'), { status: 2, stderr: '--fast' })
})

t.test('the list has every part', async (t) => {
  const { status, stdout } = await bench('--list')
  t.equal(status, 0)
  t.same(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[0]),
    [...parts.keys()],
  )
})

t.test('every part is what the report needs it to be', async (t) => {
  for (const [name, load] of parts) {
    const part = await load()
    t.equal(part.name, name)
    t.ok(part.description.length > 80, `${name} says what it measures`)
    for (const { text, atLeast, atMost } of part.claims)
      t.ok(atLeast !== undefined || atMost !== undefined, `a bound of: ${text}`)
    const titles = part.plots.map(({ title }) => title)
    t.equal(new Set(titles).size, titles.length, `${name} has plots of different titles`)
  }
})

t.test('parts share the seconds as they ask', async (t) => {
  const loaded = await Promise.all([...parts.values()].map((load) => load()))
  const shares = shareSeconds(loaded, 60)
  t.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 60) < 1e-9)
  const asked = shareSeconds(loaded)
  t.ok(asked.reduce((a, b) => a + b, 0) <= 16 * 60, 'about 15 minutes in all')
  for (const part of loaded) {
    const { name, quickSeconds, leastSeconds, seconds } = part
    t.ok(quickSeconds < leastSeconds && leastSeconds < seconds, name)
    if (part.needsRoot && process.getuid?.() !== 0) {
      t.equal(estimatedSeconds(part, seconds, true), 0)
      continue
    }
    t.equal(estimatedSeconds(part, seconds, true), quickSeconds)
    t.equal(estimatedSeconds(part, 1, false), leastSeconds)
    t.equal(estimatedSeconds(part, 1000, false), 1000)
  }
})

t.test('progress stands in one place on a terminal, and in lines elsewhere', async (t) => {
  let now = 0
  const record = (isTTY: boolean) => {
    const written: string[] = []
    const write = (text: string): boolean => written.push(text) > 0
    const stream = { isTTY, columns: 40, write } as unknown as ConstructorParameters<
      typeof Progress
    >[0]
    const progress = new Progress(stream, () => now)
    progress.begin(1, 2, 'core', 90)
    now += 3000
    progress.show('1,024 connections with a very long description')
    now += 1000
    progress.show('not shown in plain lines: too soon')
    progress.line('a note')
    progress.end('12 samples')
    return written.join('')
  }
  t.equal(
    record(false),
    '[1/2] core: about 1:30\n[1/2] core 0:03: 1,024 connections with a very long description\n' +
      '  a note\n[1/2] core: 12 samples, 0:04\n',
  )
  const CLEAR = '\r\x1b[2K'
  const drawn = record(true)
  t.ok(drawn.includes(`${CLEAR}[1/2] core  0:03 of about 1:30  1,024 c${CLEAR}`), drawn)
  t.ok(drawn.includes(`${CLEAR}  a note\n${CLEAR}[1/2] core  0:04`), drawn)
  t.ok(drawn.endsWith(`${CLEAR}[1/2] core: 12 samples, 0:04\n`), drawn)
  t.equal(clockText(61.4), '1:01')
})
