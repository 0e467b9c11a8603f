/** uvs bench schedulers: the load by dice, loads from files, the figures of a course, and what is said of them. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { recommend, sentenceOf, type Row } from '../../bench/schedulers/advice.js'
import { parseCandidate, parseCandidates } from '../../bench/schedulers/candidates.js'
import { CostWorld } from '../../bench/schedulers/cost.js'
import { readLoad } from '../../bench/schedulers/file-load.js'
import type { Load } from '../../bench/schedulers/load.js'
import { parseOptions, trialsOf, weightsFor } from '../../bench/schedulers/options.js'
import {
  fillMs,
  imbalanceOf,
  movesAt,
  qualityOf,
  refusedShare,
  shareOfNew,
  stickiness,
} from '../../bench/schedulers/quality.js'
import { leaverOf, phasesOf, replayLoad, type Attempt } from '../../bench/schedulers/replay.js'
import {
  boundedPareto,
  defaultSynthetic,
  exponential,
  randomOf,
  SyntheticLoad,
  Zipf,
} from '../../bench/schedulers/synthetic-load.js'
import { wrap } from '../../bench/schedulers/text.js'
import type { RunResult } from '../../bench/suite/result.js'
import { LinkType, PcapWriter } from '../../src/drivers/pcap.js'
import { FramePool, IP_HEADROOM } from '../../src/port/frame-pool.js'
import type { Random } from '../../src/port/random.js'
import { packetProblems, packetSummary, tcpPacket } from '../support/packets.js'

// The command runs as a process of its own, several times.
t.setTimeout(120_000)

const packageRoot = fileURLToPath(new URL('../../..', import.meta.url))
const uvs = join(packageRoot, 'dist/src/cli/uvs.js')
const examples = join(packageRoot, 'test/scenarios/examples')

/** A random number that is a half of what there is, always. */
const HALF: Random = { next: () => 0x7fffffff }

t.test('Zipf: number i comes as often as 1 / (i + 1) says', (t) => {
  const zipf = new Zipf(4, 1, randomOf(1))
  t.strictSame(
    [0, 1, 2, 3].map((i) => Math.round(zipf.share(i) * 25)),
    [12, 6, 4, 3],
  )
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < 100_000; i++) counts[zipf.next()]!++
  counts.forEach((count, i) =>
    t.ok(Math.abs(count / 100_000 - zipf.share(i)) < 0.01, `${i}: ${count}`),
  )
  const equal = new Zipf(5, 0, HALF)
  t.equal(equal.share(4), 0.2)
  t.equal(equal.next(), 2, 'the middle one at one half')
  t.end()
})

t.test('durations are within their bounds, with the median and mean of the distribution', (t) => {
  t.equal(boundedPareto(HALF, { shape: 1, least: 1, most: 3 }), 1.5, '1 / (1 - 1/2 * 2/3)')
  const random = randomOf(7)
  const pareto = { shape: 1.5, least: 2, most: 200 }
  const drawn = Array.from({ length: 100_000 }, () => boundedPareto(random, pareto))
  t.ok(drawn.every((value) => value >= 2 && value <= 200))
  const mean = drawn.reduce((sum, value) => sum + value, 0) / drawn.length
  // 2^1.5 / (1 - 0.01^1.5) * 3 * (1 / sqrt 2 - 1 / sqrt 200)
  t.ok(Math.abs(mean - 5.405) < 0.15, `mean ${mean}`)
  const times = Array.from({ length: 100_000 }, () => exponential(random, 4))
  const meanTime = times.reduce((sum, value) => sum + value, 0) / times.length
  t.ok(Math.abs(meanTime - 0.25) < 0.005, `mean time ${meanTime}`)
  t.end()
})

const small = { ...defaultSynthetic, durationSeconds: 30, connectionsPerSecond: 40, clients: 200 }

/** Packets of a load as bytes, each with its time and client before it. */
function contentOf(load: Load): string[] {
  const pool = new FramePool(new ArrayBuffer(4096), 4096, 1)
  return Array.from({ length: load.packetCount }, (_, i) => {
    const length = load.write(i, pool, IP_HEADROOM)
    const bytes = Buffer.from(pool.bytes.subarray(IP_HEADROOM, IP_HEADROOM + length))
    return `${load.timeMs(i)} ${load.clientOf(i)} ${bytes.toString('hex')}`
  })
}

t.test('a load by dice is the same for the same seed, and sound', (t) => {
  const load = new SyntheticLoad(small)
  const content = contentOf(load)
  const text = content.join('\n')
  t.ok(contentOf(new SyntheticLoad(small)).join('\n') === text)
  t.ok(contentOf(new SyntheticLoad({ ...small, seed: 2 })).join('\n') !== text)
  // 30 s of 40 a second: within four standard deviations.
  t.ok(Math.abs(load.connections - 1200) < 4 * Math.sqrt(1200), String(load.connections))
  t.ok(load.packetCount > 2 * load.connections && load.packetCount <= 3 * load.connections)
  const times = content.map((line) => Number(line.split(' ')[0]))
  t.ok(times.every((time, i) => i === 0 || times[i - 1]! <= time))
  for (const line of content.slice(0, 50))
    t.strictSame(packetProblems(Buffer.from(line.split(' ')[2]!, 'hex')), [])
  const first = packetSummary(Buffer.from(content[0]!.split(' ')[2]!, 'hex'))
  t.match(first, /192\.0\.2\.1:80.* S\b/)
  t.match(load.title, /^\d+ TCP connections in 30 s, of 200 clients \(Zipf 0\.8\) to one address/)
  t.end()
})

t.test('sites are asked for by their law, behind one mark', (t) => {
  const load = new SyntheticLoad({ ...small, sites: 20, siteSkew: 1 })
  t.equal(new Set(load.target.addresses).size, 20)
  const asked = Array.from({ length: load.connections }, (_, i) => load.site[i]!)
  const first = asked.filter((site) => site === 0).length / asked.length
  // 1 / (1 + 1/2 + … + 1/20) = 0.278
  t.ok(Math.abs(first - 0.278) < 0.05, String(first))
  const served = replayLoad(load, parseCandidate('dh'), [1, 1], 1, 'site')
  t.ok(served.attempts.every(({ client }) => client >= 0 && client < 20))
  t.strictSame([...new Set(served.attempts.map(({ server }) => server))].sort(), [-1, 0, 1])
  t.end()
})

t.test('imbalance by hand', (t) => {
  t.strictSame(imbalanceOf([10, 20], [1, 2]), { maxToMean: 1, variation: 0 })
  t.strictSame(imbalanceOf([30, 0], [1, 2]), { maxToMean: 2, variation: 1 })
  t.strictSame(imbalanceOf([30, -1, 10], [1, 5, 1]), { maxToMean: 1.5, variation: 0.5 })
  t.equal(imbalanceOf([0, 0], [1, 1]), undefined, 'nobody has any')
  t.equal(imbalanceOf([-1, -1], [1, 1]), undefined, 'nobody is there')
  t.end()
})

const attempts = (...rows: readonly [number, number, number][]): Attempt[] =>
  rows.map(([atMs, client, server]) => ({ atMs, client, server }))

t.test('moves by hand: the last server before, the first after', (t) => {
  const all = attempts(
    [100, 1, 0], // too early
    [1000, 1, 0],
    [1100, 1, 1],
    [1200, 2, 0],
    [1300, 3, 0],
    [1400, 4, -1], // refused
    [2000, 1, 1], // stays
    [2100, 2, 2], // moves
    [2200, 2, 0], // no first one
    [2300, 4, 1], // was nowhere before
    [2400, 5, 1],
    [9000, 3, 1], // too late
  )
  t.strictSame(movesAt(all, 2000, 1000, 0), { clients: 2, moved: 1, ofServer: 1 })
  t.strictSame(movesAt([], 2000, 1000, 0), { clients: 0, moved: 0, ofServer: 0 })
  t.equal(stickiness(all, 1000, 2300), 0.4, 'of 1, 1, 1, 2, 2 the same: 1 once by 0, once by 1')
  t.equal(stickiness(attempts([0, 1, 0]), 0, 10), undefined, 'nobody came again')
  t.equal(refusedShare(all, 1000, 2000), 0.2)
  t.equal(refusedShare([], 0, 10), 0)
  t.end()
})

t.test('a cold server by hand', (t) => {
  const snapshots = [
    { atMs: 100, connections: [10, 10, -1] },
    { atMs: 200, connections: [10, 10, 0] },
    { atMs: 300, connections: [10, 10, 17] },
    { atMs: 400, connections: [10, 10, 18] },
    { atMs: 500, connections: [10, 10, 20] },
  ]
  const weights = [1, 1, 2]
  t.equal(fillMs(snapshots, weights, 2, 150, 600), 250, '18 of weight 2 are 90 % of 10')
  t.equal(fillMs(snapshots, weights, 2, 150, 400), undefined, 'not until then')
  const all = attempts([10, 1, 2], [20, 2, 2], [30, 3, 0], [40, 4, 1], [50, 5, -1], [60, 6, 0])
  t.equal(shareOfNew({ attempts: all, weights }, 2, 0, 60), 1, 'two of four, half of the weights')
  t.equal(shareOfNew({ attempts: all, weights }, 2, 0, 25), 2)
  t.equal(shareOfNew({ attempts: all, weights }, 2, 70, 80), undefined)
  t.end()
})

/** A client's connection a second, from clients in turn. */
class RegularLoad implements Load {
  readonly title = 'regular'
  readonly target = {
    family: 4,
    protocol: 'tcp',
    port: 80,
    addresses: ['192.0.2.1'],
  } as const
  readonly durationMs = 100_000
  readonly packetCount = 100
  readonly clientCount = 10

  timeMs(packet: number): number {
    return packet * 1000
  }
  clientOf(packet: number): number {
    return packet % 10
  }
  siteOf(): number {
    return 0
  }
  write(packet: number, { bytes }: FramePool, offset: number): number {
    const from = `203.0.113.${this.clientOf(packet) + 1}:${1024 + packet}`
    const syn = tcpPacket({ from, to: '192.0.2.1:80', flags: 'S' })
    bytes.set(syn, offset)
    return syn.length
  }
}

t.test('a replay: who is served by whom, while a server leaves, returns and is drained', (t) => {
  const load = new RegularLoad()
  t.equal(leaverOf([1, 2, 2, 1]), 2)
  const { phases, attempts: all, snapshots } = replayLoad(load, parseCandidate('rr'), [1, 1], 1)
  t.strictSame(phases, {
    steadyMs: 15_000,
    controlMs: 30_000,
    leaveMs: 45_000,
    returnMs: 60_000,
    drainMs: 80_000,
    endMs: 100_000,
    windowMs: 15_000,
  })
  const servers = all.map(({ server }) => server).join('')
  // The last added is first; the one that leaves is that, and so it is when it returns; a second late are commands.
  t.equal(servers.slice(0, 45), '10'.repeat(22) + '1')
  t.equal(servers.slice(45, 60), '0'.repeat(15))
  t.equal(servers.slice(60, 80), '10'.repeat(10))
  t.equal(servers.slice(80), '0'.repeat(20))
  t.equal(snapshots.length, 1600)
  // SYN_RECV lasts a minute: 45 connections at 45 s, those of the server that left are gone then.
  t.strictSame(snapshots.find(({ atMs }) => atMs === 44_750)!.connections, [22, 23])
  t.strictSame(snapshots.find(({ atMs }) => atMs === 50_250)!.connections, [28, -1])

  const quality = qualityOf(replayLoad(load, parseCandidate('rr'), [1, 1], 1))
  t.equal(quality.refused, 0)
  t.equal(quality.leastByReturn, 0.5)
  t.equal(quality.flood, 1, 'one of the first two, half of the weights')
  // Ten clients and two servers in turn: each meets the same one, by chance.
  t.equal(quality.stickiness, 1)

  const hashed = replayLoad(load, parseCandidate('mh'), [1, 1], 1)
  const drained = hashed.attempts.filter(({ atMs }) => atMs >= 80_000)
  const before = hashed.attempts.filter(({ atMs }) => atMs < 45_000)
  const ofOne = new Set(before.filter(({ server }) => server === 1).map(({ client }) => client))
  t.ok(ofOne.size > 0 && ofOne.size < 10)
  for (const { client, server } of drained)
    t.equal(server, ofOne.has(client) ? -1 : 0, 'a drained server’s clients are refused')
  const kept = replayLoad(load, parseCandidate('mh+fallback'), [1, 1], 1)
  t.ok(kept.attempts.every(({ server }) => server >= 0))
  t.strictSame(replayLoad(load, parseCandidate('twos'), [1, 1], 3), {
    ...replayLoad(load, parseCandidate('twos'), [1, 1], 3),
  })
  t.strictSame(phasesOf(10).returnMs, 6)
  t.end()
})

const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-schedulers-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const written = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}

t.test('loads from files: the service that most connections are to', (t) => {
  const capture = readLoad(join(examples, 'captures/name-server.pcap'))
  t.strictSame(capture.target, {
    family: 4,
    protocol: 'udp',
    port: 53,
    addresses: ['10.1.0.100'],
  })
  t.equal(capture.clientCount, 3)
  t.equal(capture.packetCount, 4)
  t.strictSame(capture.weights, [])

  const drain = readLoad(join(examples, 'drain.scn'))
  t.strictSame(drain.target.addresses, ['10.1.0.100'])
  t.equal(drain.target.port, 443)
  t.equal(drain.clientCount, 2)
  t.strictSame(drain.weights, [1, 1])
  t.equal(drain.durationMs, 10_001)

  const marked = readLoad(
    written(
      'marked.scn',
      `ipvsadm -A -f 1 -s rr -6
ipvsadm -a -f 1 -6 -r fd02::3 -g -w 5
ipvsadm -a -f 1 -6 -r fd02::4 -g -w 0
ipvsadm -a -f 1 -6 -r fd02::5 -g -w 2
tcp [fd01::7]:1024 > [2001:db8::1]:80 S mark=1
tcp [fd01::7]:1025 > [2001:db8::2]:80 S mark=1
at 3
tcp [fd01::8]:1024 > [2001:db8::1]:80 S mark=1
tcp [fd01::8]:1024 > [2001:db8::1]:443 S mark=1
udp [fd01::9]:1024 > [2001:db8::1]:443 len=20 mark=1
`,
    ),
  )
  t.strictSame(marked.target, {
    family: 6,
    protocol: 'tcp',
    port: 80,
    addresses: ['2001:db8::1', '2001:db8::2'],
  })
  t.strictSame(marked.weights, [5, 2])
  t.equal(marked.packetCount, 3)
  t.strictSame(
    [0, 1, 2].map((i) => `${marked.timeMs(i)} ${marked.clientOf(i)} ${marked.siteOf(i)}`),
    ['0 0 0', '0 0 1', '3000 1 0'],
  )
  const { attempts: all } = replayLoad(marked, parseCandidate('rr'), marked.weights, 1)
  t.strictSame(
    all.map(({ client, server }) => [client, server]),
    [
      [0, 1],
      [0, 0],
      [1, 1],
    ],
    'the third comes while the greater one is drained',
  )
  t.throws(
    () => readLoad(written('empty.scn', 'ipvsadm -A -t 10.1.0.100:80\n')),
    /empty\.scn: no connection begins in it/,
  )
  t.throws(
    () => readLoad(written('broken.pcap', 'no capture')),
    /^[^:]*broken\.pcap: [^:]*: magic number 0x[0-9a-f]+ is neither pcap's nor pcapng's; a scenario's name/,
  )
  const long = `tcp 10.1.0.7:1 > 10.1.0.100:80 S\nat 700000\ntcp 10.1.0.8:1 > 10.1.0.100:80 S\n`
  t.throws(() => readLoad(written('long.scn', long)), /long\.scn: 8\.1 days from its first packet/)
  t.throws(() => readLoad('/dev/zero'), /\/dev\/zero: it is no ordinary file/)
  t.throws(() => readLoad(folder), /it is a folder/)
  const huge = written('huge.pcap', '')
  truncateSync(huge, 2 ** 40)
  t.throws(() => readLoad(huge), /huge\.pcap: 1048576 MiB, and a capture may have 128: .*editcap/)
  t.end()
})

t.test('a load by dice is the same load when it comes from a capture', (t) => {
  const load = new SyntheticLoad(small)
  const pool = new FramePool(new ArrayBuffer(4096), 4096, 1)
  const file = join(folder, 'dice.pcapng')
  const writer = PcapWriter.create(file)
  writer.addInterface('client', LinkType.raw)
  const start = 1_700_000_000
  for (let i = 0; i < load.packetCount; i++) {
    const length = load.write(i, pool, IP_HEADROOM)
    const microseconds = Math.round(load.timeMs(i) * 1000)
    const time = {
      seconds: start + Math.floor(microseconds / 1e6),
      nanoseconds: (microseconds % 1e6) * 1000,
    }
    writer.write(pool.bytes.slice(IP_HEADROOM, IP_HEADROOM + length), time)
  }
  writer.close()
  const captured = readLoad(file)
  t.equal(captured.packetCount, load.packetCount)
  t.equal(captured.clientCount, new Set(load.client).size)
  for (const name of ['rr', 'mh', 'wrr']) {
    const servers = [load, captured].map((each) =>
      replayLoad(each, parseCandidate(name), [1, 2, 1], 1)
        .attempts.slice(0, Math.floor(load.connections * 0.4))
        .map(({ server }) => server),
    )
    t.strictSame(servers[1], servers[0], name)
  }
  t.end()
})

t.test('a capture that kept only the headers is a load, too', (t) => {
  const capture = readFileSync(join(examples, 'captures/name-server.pcap'))
  const cut = Buffer.alloc(24 + 4 * (16 + 46))
  capture.copy(cut, 0, 0, 24)
  let from = 24
  for (let i = 0, to = 24; i < 4; i++, to += 16 + 46) {
    const length = capture.readUInt32LE(from + 8)
    capture.copy(cut, to, from, from + 16 + 46)
    cut.writeUInt32LE(46, to + 8)
    from += 16 + length
  }
  const file = join(folder, 'cut.pcap')
  writeFileSync(file, cut)
  const { attempts: all } = replayLoad(readLoad(file), parseCandidate('rr'), [1, 1], 1)
  t.strictSame(
    all,
    replayLoad(
      readLoad(join(examples, 'captures/name-server.pcap')),
      parseCandidate('rr'),
      [1, 1],
      1,
    ).attempts,
  )
  t.equal(all.length, 4)
  t.end()
})

t.test('what can be asked for', (t) => {
  t.strictSame(parseCandidate('sh+port+fallback'), {
    name: 'sh+port+fallback',
    scheduler: 'sh',
    flags: ['sh-port', 'sh-fallback'],
  })
  t.equal(parseCandidates(undefined).length, 18)
  t.strictSame(
    parseCandidates('mh, wlc,mh').map(({ name }) => name),
    ['mh', 'wlc'],
  )
  t.throws(() => parseCandidates('wlc,nope'), /there is no scheduler 'nope': it is one of rr, wrr/)
  t.throws(() => parseCandidate('none'), /there is no scheduler 'none'/)
  t.throws(() => parseCandidate('wlc+port'), /wlc\+port: wlc has no such flag/)
  t.strictSame(weightsFor({ servers: undefined, weights: undefined }), [1, 2, 3, 2, 1, 2, 3, 2])
  t.strictSame(weightsFor({ servers: 3, weights: [5, 7] }), [5, 7, 5])
  t.strictSame(weightsFor({ servers: undefined, weights: undefined }, [4, 9]), [4, 9])
  t.throws(() => weightsFor({ servers: undefined, weights: [4] }), /add --servers 2/)
  for (const [options, problem] of [
    [{ servers: 'x' }, /--servers x: must be a number from 2 to 4096/],
    [{ servers: '1' }, /--servers 1:/],
    [{ weights: '1,0' }, /--weights 0: must be a number from 1 to 65535/],
    [{ zipf: '-1' }, /--zipf -1: must be a number from 0 to 10/],
    [{ load: '/nowhere.scn' }, /there is no file \/nowhere\.scn/],
  ] as const)
    t.throws(() => parseOptions(options, []), problem)
  t.strictSame(
    trialsOf(parseOptions({}, []), true).map(({ name, party }) => [name, party]),
    [
      ['one address', 'client'],
      ['500 sites', 'site'],
    ],
  )
  t.strictSame(
    trialsOf(parseOptions({ sites: '7' }, []), true).map(
      ({ load }) => load.target.addresses.length,
    ),
    [7],
  )
  t.end()
})

t.test('costs are taken on a service that is left as it was', (t) => {
  const world = new CostWorld(4)
  for (const candidate of parseCandidates('wlc,mh,lblcr')) {
    world.use(candidate)
    for (const change of ['add', 'remove', 're-weight'] as const)
      t.ok(world.nanosecondsPerChange(change, 3) > 0)
    t.ok(world.nanosecondsPerDecision(1) > 0)
  }
  t.throws(() => new CostWorld(4096).use(parseCandidate('mh')), /mh takes 4093 destinations/)
  t.end()
})

const row = (name: string, values: Partial<Row>): Row => ({
  name,
  busiest: 1.1,
  worst: 1.3,
  variation: 5,
  same: 12,
  movedByItself: 88,
  movedByLeaving: 88,
  leastByLeaving: 25,
  movedByReturn: 88,
  leastByReturn: 25,
  fillSeconds: 10,
  flood: 1,
  refused: 0,
  refusedWhileDraining: 0,
  attempts: 10_000,
  nanoseconds: 20,
  ...values,
})

t.test('what is said follows from the figures', (t) => {
  const wrr = row('wrr', {})
  const wlc = row('wlc', { busiest: 1.01, flood: 4, fillSeconds: 2, nanoseconds: 90 })
  const sed = row('sed', { busiest: 1.02, flood: 4, fillSeconds: 2, nanoseconds: 100 })
  const sticky = { busiest: 1.3, same: 100, movedByItself: 0 }
  const sh = row('sh', { ...sticky, refusedWhileDraining: 8 })
  const mh = row('mh', {
    ...sticky,
    movedByLeaving: 27,
    movedByReturn: 26,
    refusedWhileDraining: 20,
  })
  const kept = row('mh+fallback', { ...mh, name: 'mh+fallback', refusedWhileDraining: 0 })
  const fo = row('fo', { busiest: 4, worst: 4, same: 100, flood: 4 })
  t.strictSame(recommend([wrr, wlc, sed, sh, mh, kept, fo], 4, 'client'), [
    'Servers laden as their weights say: wlc (busiest 1.01 × the mean, 90 ns a decision); sed is as even.',
    'A client meets the same server: mh+fallback (moved when a server left: 27 %, at least 25 %; when it ' +
      'returned: 26 %, at least 25 %; busiest 1.30 × the mean, 20 ns a decision).',
    'A server that comes back cold is flooded by wlc and sed (4.00 × its share with wlc); wrr gives it 1.00 × ' +
      'and fills it in 10 s.',
    'Everything went to one server with fo.',
    'sh refused 8.0 % while one server had weight 0.',
    'mh refused 20 % while one server had weight 0; mh+fallback 0 %.',
  ])
  t.strictSame(recommend([{ ...wlc, busiest: 1.5 }, wrr], 4, 'client').slice(0, 2), [
    'Servers laden as their weights say: wrr (busiest 1.10 × the mean, 20 ns a decision).',
    'A client meets the same server: none of these always, wrr in 12 % of cases. Persistence (ipvsadm -p) gives ' +
      'it to any.',
  ])
  t.strictSame(recommend([{ ...wrr, attempts: 399 }], 4, 'client'), [
    'Nothing: 399 connections to 4 servers are an example, no measurement. A load of 100 connections a server ' +
      'and more says something.',
  ])
  t.equal(
    sentenceOf({ ...wrr, refused: 3 }, 4, 'client'),
    'The busiest server had 1.10 × the mean (1.30 × at the worst moment); 12 % of the clients that came again ' +
      'met the same server; a cold server got 1.00 × its share of new connections at first and was as full as ' +
      'the others after 10 s; 3.0 % of the connections were refused. It is for unequal servers and short ' +
      'connections of about equal cost.',
  )
  t.equal(wrap('  one two three', 4, 9), '  one two\n    three')
  t.end()
})

function run(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const out = join(folder, `out${args.length}`)
  const command = ['bench', 'schedulers', '--quick', '--out', out, ...args]
  return spawnSync(process.execPath, [uvs, ...command], { encoding: 'utf8' })
}

t.test('the command', (t) => {
  const { status, stdout, stderr } = run('--schedulers', 'rr,mh', '--servers', '3', '--seed', '5')
  t.equal(status, 0, stderr)
  t.match(stdout, /one address: \d+ TCP connections in 60 s, of 1000 clients/)
  t.match(stdout, /^ {2}scheduler +work +2 +16 +128 /m)
  t.match(stdout, /seed 5; 3 servers of weights 1, 2, 3$/m)
  t.notMatch(stdout, /sites/, 'neither goes by them')
  t.match(stdout, /^ {2}rr +O\(1\) /m)
  t.match(stdout, /^ {2}mh +.* 100 %\*/m)
  t.match(stdout, /What the figures recommend/)
  t.match(stdout, /A client meets the same server: mh \(/)
  t.notMatch(stdout, /^. (wlc|sh) decides/m, 'claims about others are left out')

  const json = run('--json', '--schedulers', 'wlc', join(examples, 'drain.scn'))
  t.equal(json.status, 0, json.stderr)
  const { parts } = JSON.parse(json.stdout) as RunResult
  t.equal(parts[0]!.name, 'schedulers')
  t.equal(parts[0]!.failure, undefined)
  const asked = parts[0]!.samples.find(({ metric }) => metric === 'connections asked for')!
  t.strictSame([asked.value, asked.parameters], [2, { load: 'drain.scn', party: 'client' }])

  const wrong = run('--schedulers', 'rr,best')
  t.equal(wrong.status, 2)
  t.match(wrong.stderr, /uvs bench: there is no scheduler 'best'/)
  t.end()
})

t.test('files of the same name are loads of their own, and the same file is one', (t) => {
  const text = `ipvsadm -A -t 10.1.0.100:80 -s rr
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.3:80 -m
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.4:80 -m
tcp 10.1.0.7:1024 > 10.1.0.100:80 S
`
  const root = t.testdir({ a: { 'x.scn': text }, b: { 'x.scn': text }, 'y.scn': text })
  const [ax, bx, y] = ['a/x.scn', 'b/x.scn', 'y.scn'].map((name) => join(root, name))
  const trials = trialsOf(parseOptions({ load: y! }, [ax!, bx!, ax!, `${root}/a/../y.scn`]), true)
  t.strictSame(
    trials.map(({ name }) => name),
    [ax, bx, 'y.scn'],
  )
  t.end()
})
