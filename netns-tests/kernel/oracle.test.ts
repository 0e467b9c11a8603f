// The kernel oracle: what a real IPVS does in a scenario, at moments that are exact.
import { readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { hex, tcpPacket, udpPacket } from '../../test/support/packets.js'
import { runInGuest } from '../../src/scenario/oracle/guest.js'
import { Oracle, oracleUnavailable } from '../../src/scenario/oracle/oracle.js'
import { parseScenario } from '../../src/scenario/parse.js'
import type { Event, Side } from '../../src/scenario/scenario.js'
import type { EndRecord, IpvsadmRecord, PacketRecord, Trace } from '../../src/scenario/trace.js'

t.setTimeout(600_000)
const skip = oracleUnavailable('guest')

/** Events a line each; `at` moves the clock. */
class Story {
  readonly events: Event[] = []
  private atMs = 0

  at(seconds: number): this {
    this.atMs = seconds * 1000
    return this
  }
  ipvsadm(line: string): this {
    return this.add({ kind: 'ipvsadm', args: line.split(' ') })
  }
  sysctl(key: string, value: number): this {
    return this.add({ kind: 'sysctl', key, value: String(value) })
  }
  packet(packet: Uint8Array, side: Side = 'client', mark = 0): this {
    return this.add({ kind: 'packet', packet, side, mark })
  }
  private add(what: Partial<Event>): this {
    this.events.push({ line: this.events.length + 1, atMs: this.atMs, ...what } as Event)
    return this
  }
}

const client = '10.1.0.2:1024'
const virtual = '10.9.9.9:80'
const request = tcpPacket({ from: client, to: virtual, flags: 'S' })

/** Processes whose command line is of this kind. */
function processes(matches: (command: string) => boolean): number[] {
  return readdirSync('/proc')
    .filter((name) => {
      try {
        return matches(readFileSync(`/proc/${name}/cmdline`, 'utf8'))
      } catch {
        return false
      }
    })
    .map(Number)
}

let oracle: Oracle
t.before(async () => {
  if (!skip) oracle = await Oracle.start({ kernel: 'guest' })
})
t.teardown(() => oracle?.stop())

const run = (story: Story, by = oracle): Promise<Trace> => by.runEvents(story.events, 'a story')
const end = (trace: Trace): EndRecord => trace.at(-1) as EndRecord
const packetAt = (trace: Trace, index: number): PacketRecord => trace[index] as PacketRecord

void t.test('an hour of the guest takes next to none of ours', { skip }, async (t) => {
  // It would not end within this test's own time.
  const { stdout } = await runInGuest({
    script: 'date +%s; sleep 3600; date +%s; sleep 3600; date +%s',
    virtualTime: true,
  })
  const [first, second, third] = stdout.trim().split('\n').map(Number) as [number, number, number]
  t.match(second - first, /^360[01]$/)
  t.match(third - second, /^360[01]$/)
})

void t.test('packets leave where the kernel sends them', { skip }, async (t) => {
  const trace = await run(
    new Story()
      .ipvsadm('-A -t 10.9.9.9:80 -s rr')
      .ipvsadm('-a -t 10.9.9.9:80 -r 10.2.0.3:8080 -m')
      .packet(request)
      .packet(tcpPacket({ from: '10.2.0.3:8080', to: client, flags: 'SA' }), 'server')
      .ipvsadm('-a -t 10.9.9.9:80 -r 10.2.0.3:8080 -m'),
  )
  t.match(packetAt(trace, 2).out, [{ side: 'server', dmac: '02:00:0a:02:00:03' }])
  const sent = hex(packetAt(trace, 2).out[0]!.ip)
  t.strictSame([...sent.subarray(12, 24)], [10, 1, 0, 2, 10, 2, 0, 3, 4, 0, 0x1f, 0x90])
  t.match(packetAt(trace, 3).out, [{ side: 'client', dmac: '02:00:0a:01:00:02' }])
  t.strictSame([...hex(packetAt(trace, 3).out[0]!.ip).subarray(12, 16)], [10, 9, 9, 9])
  t.strictSame(trace[4], {
    line: 5,
    exit: 255,
    stdout: '',
    stderr: 'Destination already exists\n',
  })
  t.match(end(trace).services, /TCP {2}10\.9\.9\.9:80 +1 +1 +1 +40 +40\n/)
  t.strictSame(end(trace).connections, [
    {
      pro: 'TCP',
      expire: 60,
      state: 'SYN_RECV',
      source: client,
      virtual,
      destination: '10.2.0.3:8080',
    },
  ])
})

void t.test('what IPVS declines goes to the host', { skip }, async (t) => {
  const trace = await run(
    new Story()
      .ipvsadm('-A -t 10.9.9.9:80 -s rr')
      .ipvsadm('-a -t 10.9.9.9:80 -r 10.2.0.3 -g')
      .packet(tcpPacket({ from: client, to: '10.9.9.9:81', flags: 'S' }))
      .packet(udpPacket({ from: client, to: '10.9.9.9:80' }))
      .packet(tcpPacket({ from: client, to: '10.8.8.8:80', flags: 'S' }))
      .packet(request),
  )
  // The stack's reset and its port unreachable are not IPVS's.
  t.match(packetAt(trace, 2), { out: [], declined: true })
  t.match(packetAt(trace, 3), { out: [], declined: true })
  // By the default route, one hop on.
  t.match(packetAt(trace, 4), {
    out: [{ side: 'client', dmac: '02:00:0a:01:ff:fe' }],
    declined: false,
  })
  t.equal(hex(packetAt(trace, 4).out[0]!.ip)[8], 63)
  t.match(packetAt(trace, 5), { out: [{ side: 'server' }], declined: false })
})

void t.test("IPVS's own ICMP error is in the trace", { skip }, async (t) => {
  const trace = await run(new Story().ipvsadm('-A -t 10.9.9.9:80 -s rr').packet(request))
  t.match(packetAt(trace, 1), {
    declined: false,
    out: [{ side: 'client', dmac: '02:00:0a:01:00:02' }],
  })
  const sent = hex(packetAt(trace, 1).out[0]!.ip)
  t.strictSame([sent[9], sent[20], sent[21]], [1, 3, 3], 'port unreachable')
})

void t.test('a mark makes a packet one of a firewall-mark service', { skip }, async (t) => {
  const trace = await run(
    new Story()
      .ipvsadm('-A -f 3 -s rr')
      .ipvsadm('-a -f 3 -r 10.2.0.5 -i')
      .packet(tcpPacket({ from: client, to: '10.7.7.7:80', flags: 'S' }), 'client', 3)
      .packet(tcpPacket({ from: client, to: '10.7.7.7:81', flags: 'S' }), 'client', 4)
      .packet(tcpPacket({ from: client, to: '10.7.7.7:82', flags: 'S' })),
  )
  t.match(packetAt(trace, 2), { out: [{ side: 'server', dmac: '02:00:0a:02:00:05' }] })
  t.match(packetAt(trace, 3), { out: [], declined: true })
  t.match(packetAt(trace, 4), { out: [{ side: 'client', dmac: '02:00:0a:01:ff:fe' }] })
})

void t.test('time passes exactly, and timers round up as ever', { skip }, async (t) => {
  // 300 s are 30000 jiffies, which the kernel's timer wheel keeps in a slot 512 jiffies wide, and never early.
  const story = new Story()
    .ipvsadm('-A -u 10.9.9.9:80 -s rr')
    .ipvsadm('-a -u 10.9.9.9:80 -r 10.2.0.3 -g')
    .packet(udpPacket({ from: client, to: virtual }))
  for (const seconds of [1, 299, 302.07, 302.09]) story.at(seconds).ipvsadm('-L -n -c')
  for (let turn = 0; turn < 3; turn++) {
    const trace = await run(story)
    const left = trace
      .slice(3, 7)
      .map((record) => /UDP (\d\d:\d\d)/.exec((record as IpvsadmRecord).stdout)?.[1])
    t.strictSame(left, ['04:59', '00:01', '00:00', undefined])
  }
})

void t.test('IPv6 and SCTP', { skip }, async (t) => {
  const { directives } = parseScenario(
    `
      ipvsadm -A -t [fd03::1]:80 -s rr
      ipvsadm -a -t [fd03::1]:80 -r [fd02::3]:8080 -m
      tcp [fd01::2]:1024 > [fd03::1]:80 S
      tcp [fd02::3]:8080 > [fd01::2]:1024 SA in=server
      tcp [fd01::2]:1024 > [fd03::1]:81 S
      ipvsadm -A --sctp-service 10.9.9.9:132 -s rr
      ipvsadm -a --sctp-service 10.9.9.9:132 -r 10.2.0.4:132 -g
      sctp 10.1.0.2:1024 > 10.9.9.9:132 INIT
      udp [fd01::2]:1024 > [fd05::5]:53 ttl=1
    `,
    'story.scn',
  )
  const trace = await oracle.run({ name: 'story.scn', directives })
  t.match(packetAt(trace, 2).out, [{ side: 'server', dmac: '02:06:00:00:00:03' }])
  t.match(packetAt(trace, 3).out, [{ side: 'client', dmac: '02:06:00:00:00:02' }])
  t.match(packetAt(trace, 4), { out: [], declined: true })
  t.match(packetAt(trace, 7).out, [{ side: 'server', dmac: '02:00:0a:02:00:04' }])
  const error = hex(packetAt(trace, 8).out[0]!.ip)
  t.strictSame([error[6], error[40]], [58, 3], 'time exceeded, by the host as a router')
  t.match(
    end(trace).connections.map(({ pro, state }) => `${pro} ${state}`),
    ['SCTP INIT1', 'TCP SYN_RECV'],
  )
})

void t.test('what the stack says to a local real server is not said', { skip }, async (t) => {
  const trace = await run(
    new Story()
      .ipvsadm('-A -t 10.9.9.9:80 -s rr')
      .ipvsadm('-a -t 10.9.9.9:80 -r 10.2.0.1 -m')
      .ipvsadm('-A -u 10.9.9.9:80 -s rr')
      .ipvsadm('-a -u 10.9.9.9:80 -r 10.2.0.1 -m')
      .packet(request)
      .packet(udpPacket({ from: client, to: virtual })),
  )
  t.match(packetAt(trace, 4), { out: [], declined: true })
  t.match(packetAt(trace, 5), { out: [], declined: true })
  t.match(end(trace).connections, [{ state: 'SYN_RECV' }, { state: 'UDP' }])
  t.notMatch(end(trace).services, /10\.2\.0\.1:80 +1 +1 +1/, 'no packet out')
})

void t.test('each scenario has an IPVS and settings of its own', { skip }, async (t) => {
  const changed = new Story()
    .sysctl('net.ipv4.vs.expire_nodest_conn', 1)
    .ipvsadm('--set 10 20 30')
    .ipvsadm('-A -t 10.9.9.9:80 -s rr')
    .ipvsadm('-L --timeout')
  const untouched = new Story().ipvsadm('-L --timeout')
  const [first, second] = await Promise.all([run(changed), run(untouched)])
  t.match((first[2] as IpvsadmRecord).stdout, '10 20 30')
  t.match((second[0] as IpvsadmRecord).stdout, '900 120 300')
  t.notMatch(end(second).services, '10.9.9.9')
})

void t.test('a scenario that cannot be run fails alone', { skip }, async (t) => {
  await t.rejects(run(new Story().sysctl('net.ipv4.vs.nonsense', 1)), {
    message: /^a story:1:1: ENOENT.*nonsense/,
  })
  t.equal((await run(new Story())).length, 1)
})

void t.test('the running kernel, where it has IPVS', { skip }, async (t) => {
  const story = `
    ipvsadm -A -t 10.9.9.9:80 -s rr
    ipvsadm -a -t 10.9.9.9:80 -r 10.2.0.3:8080 -m
    tcp 10.1.0.2:1024 > 10.9.9.9:80 S
    at 2
    tcp 10.2.0.3:8080 > 10.1.0.2:1024 SA in=server
    tcp 10.1.0.2:1024 > 10.9.9.9:81 S
  `
  // There it is the guest's.
  const uvs = fileURLToPath(new URL('../../src/cli/uvs.js', import.meta.url))
  const result = await runInGuest({
    script: `TMPDIR=/mnt ${process.execPath} ${uvs} oracle story.scn --trace-dir .; ls /mnt`,
    files: { 'story.scn': story },
    memoryMegabytes: 512,
    virtualTime: true,
  })
  t.match(result.stderr, /the running kernel, Linux \S+, in real time/)
  t.equal(result.stdout, 'host\nmodprobe\nmodules\n', 'nothing is left')
  const inGuest = await oracle.run(parseScenario(story, 'story.scn'))
  const trace = result.files.get('story.ndjson')!.trim().split('\n')
  t.strictSame(
    trace.slice(0, -1).map((line) => JSON.parse(line) as unknown),
    inGuest.slice(0, -1),
  )
})

void t.test('a guest that dies is an error with its console', { skip }, async (t) => {
  const ours = `uvs-guest-${process.pid}-`
  const others = processes((command) => command.includes(ours))
  const mortal = await Oracle.start({ kernel: 'guest' })
  t.teardown(() => mortal.stop())
  const long = run(new Story().ipvsadm('-L').at(1e8).ipvsadm('-L'), mortal)
  const pids = processes((command) => command.includes(ours)).filter((pid) => !others.includes(pid))
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await t.rejects(long, { message: /guest failed: it ended; its console:\n(.|\n)*SELinux/ })
  await t.rejects(run(new Story(), mortal), { message: /guest failed/ })
})

void t.test('two side by side, and nothing is left of them', { skip }, async (t) => {
  const ours = `uvs-guest-${process.pid}-`
  const left = (): string[] => [
    ...readdirSync(tmpdir()).filter((name) => name.startsWith(ours)),
    ...processes((command) => command.includes(ours)).map(String),
  ]
  const before = left()
  const both = await Promise.all([
    Oracle.start({ kernel: 'guest' }),
    Oracle.start({ kernel: 'guest' }),
  ])
  const story = new Story().ipvsadm('-A -t 10.9.9.9:80 -s rr').packet(request)
  const [one, other] = await Promise.all(both.map((each) => run(story, each)))
  t.strictSame(end(one!), end(other!))
  t.ok(left().length > before.length)
  await Promise.all(both.map((each) => each.stop()))
  // A guest's own processes may end a little after it.
  for (let tries = 0; tries < 300 && left().length > before.length; tries++) await sleep(50)
  t.strictSame(left(), before)
  await t.rejects(run(new Story(), both[0]), { message: /stopped/ })
})
