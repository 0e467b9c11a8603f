import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { PcapReader } from '../../src/drivers/pcap.js'
import { run } from '../../src/lab/process.js'
import { readScenario } from '../../src/scenario/parse.js'
import { replay } from '../../src/scenario/replay.js'
import { formatTrace } from '../../src/scenario/trace.js'

const toolbox = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))
const uvsReplay = (...args: string[]) => run(process.execPath, [toolbox, 'replay', ...args])
const example = 'test/scenarios/examples/round-robin.scn'

void t.test('a run told to people: each line, what came of it, and the end', async (t) => {
  const { status, stdout, stderr } = await uvsReplay(example)
  t.match({ status, stderr }, { status: 0, stderr: '' })
  for (const part of [
    '5: tcp 10.1.0.7:1024 > 10.1.0.100:80 S\n' +
      '  server 02:00:0a:02:00:04 TCP 10.1.0.7:1024 > 10.2.0.4:8080 S, TTL 63\n',
    "11: tcp 10.1.0.9:1024 > 10.1.0.100:81 S\n  left to the director's own stack\n",
    '\nat 3600 s\n',
    '\nat the end: 1 connections\n',
  ])
    t.ok(stdout.includes(part), part)

  const scenario = join(t.testdir(), 'a.scn')
  writeFileSync(
    scenario,
    'sysctl net.ipv4.vs.drop_entry=7\nraw 45\nudp 10.1.0.7:1 > 10.2.0.7:1 len=2000\n',
  )
  t.equal(
    (await uvsReplay(scenario)).stdout.split('at the end')[0],
    '1: sysctl net.ipv4.vs.drop_entry=7\n' +
      '  refused: drop_entry 7 is not within 0 to 3\n' +
      '2: raw 45\n  (bytes 45)\n  nothing leaves the director\n' +
      '3: udp 10.1.0.7:1 > 10.2.0.7:1 len=2000\n' +
      "  lost: 2028 bytes are more than the link's MTU, 1500\n",
  )
})

void t.test('the trace, and a capture', async (t) => {
  const expected = formatTrace(await replay(readScenario(example)))
  for (const args of [['--json'], ['--trace', '-'], ['--trace=-', '--seed', '1']])
    t.match(await uvsReplay(example, ...args), { status: 0, stdout: expected, stderr: '' })
  const directory = t.testdir()
  const [trace, pcap] = [join(directory, 'a.ndjson'), join(directory, 'a.pcap')]
  t.match(await uvsReplay(example, '--trace', trace, '--pcap', pcap), { status: 0, stdout: '' })
  t.equal(readFileSync(trace, 'utf8'), expected)
  const packets = [...new PcapReader(readFileSync(pcap), pcap)]
  // One of those that came in was the stack's, the others went out.
  t.equal(packets.length, 19)
  t.strictSame(packets[0]!.time, { seconds: 0, nanoseconds: 0 })
  t.strictSame(packets.at(-1)!.time, { seconds: 3600, nanoseconds: 0 })
})

void t.test('a run that cannot be finished leaves no files, and a full disk is told', async (t) => {
  const directory = t.testdir({
    'a.scn': 'udp 10.1.0.7:1 > 10.2.0.7:1\nsysctl net.ipv4.vs.none=1\n',
  })
  const [scenario, trace, pcap] = ['a.scn', 'a.ndjson', 'a.pcap'].map((name) =>
    join(directory, name),
  )
  t.match(await uvsReplay(scenario!, '--trace', trace!, '--pcap', pcap!), {
    status: 1,
    stdout: '',
    stderr: /a\.scn:2:8: there is no setting 'none'/,
  })
  t.notOk(existsSync(trace!) || existsSync(pcap!))
  for (const option of ['--trace', '--pcap'])
    t.match(await uvsReplay(example, option, '/dev/full'), {
      status: 1,
      stderr: /^uvs replay: ENOSPC[^\n]*\n$/,
    })
  const full = openSync('/dev/full', 'w')
  const { status, stderr } = spawnSync(process.execPath, [toolbox, 'replay', example], {
    stdio: ['ignore', full, 'pipe'],
    encoding: 'utf8',
  })
  closeSync(full)
  t.match({ status, stderr }, { status: 1, stderr: /^uvs: standard output: ENOSPC[^\n]*\n$/ })
})

void t.test('what it does not do', async (t) => {
  for (const [args, problem] of [
    [[], 'the scenario is missing'],
    [[example, example], `one scenario at a time: '${example}'`],
    [[example, '--seed', 'x'], '--seed x: must be a number from 0 to 999999999'],
    [[example, '--json', '--pcap', '-'], 'trace and capture cannot both go to standard output'],
    [[example, '--frob'], "Unknown option '--frob'"],
  ] as const) {
    const { status, stdout, stderr } = await uvsReplay(...args)
    t.match({ status, stdout }, { status: 2, stdout: '' })
    t.ok(stderr.startsWith(`uvs replay: ${problem}`), stderr)
  }
  const scenario = join(t.testdir(), 'a.scn')
  writeFileSync(scenario, 'at 1\nfrob\n')
  t.match(await uvsReplay(scenario), {
    status: 1,
    stdout: '',
    stderr: `uvs replay: ${scenario}:2:1: unknown directive 'frob'; there are`,
  })
})
