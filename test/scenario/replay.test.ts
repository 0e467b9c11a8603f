import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { PcapWriter } from '../../src/drivers/pcap.js'
import { parseScenario, readScenario } from '../../src/scenario/parse.js'
import { replay, type ReplayOptions } from '../../src/scenario/replay.js'
import {
  formatTrace,
  type EndRecord,
  type IpvsadmRecord,
  type PacketRecord,
  type SentPacket,
  type Trace,
} from '../../src/scenario/trace.js'
import { hex, icmpPacket, packetProblems, tcpPacket, udpPacket } from '../support/packets.js'

const run = (text: string, options?: ReplayOptions): Promise<Trace> =>
  replay(parseScenario(text, 'a.scn'), options)
const packetsOf = (trace: Trace): PacketRecord[] =>
  trace.filter((record): record is PacketRecord => 'out' in record)
const commandsOf = (trace: Trace): IpvsadmRecord[] =>
  trace.filter((record): record is IpvsadmRecord => 'exit' in record)
const endOf = (trace: Trace): EndRecord => trace.at(-1) as EndRecord
const bytes = ({ ip }: SentPacket): Uint8Array => Uint8Array.from(Buffer.from(ip, 'hex'))

/** A TCP segment as scenarios have them. */
const segment = (from: string, to: string, flags: string, more = {}): string =>
  Buffer.from(
    tcpPacket({
      ...{ from, to, flags, sequence: 0, acknowledgement: 0, window: 65535, id: 0, ttl: 63 },
      ...more,
    }),
  ).toString('hex')

const ROUND_ROBIN = `
  ipvsadm -A -t 10.1.0.100:80 -s rr
  ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.3:8080 -m
  ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.4:8080 -m
`

t.test('a trace, record for record', async (t) => {
  const trace = await run(`${ROUND_ROBIN}
    tcp 10.1.0.7:1024 > 10.1.0.100:80 S
    tcp 10.2.0.4:8080 > 10.1.0.7:1024 SA in=server
    tcp 192.0.2.7:1024 > 10.1.0.100:80 S ttl=9
    tcp 10.2.0.3:8080 > 192.0.2.7:1024 SA in=server
    ipvsadm -D -t 10.1.0.101:80`)
  t.strictSame(trace, [
    { line: 2, exit: 0, stdout: '', stderr: '' },
    { line: 3, exit: 0, stdout: '', stderr: '' },
    { line: 4, exit: 0, stdout: '', stderr: '' },
    {
      line: 6,
      out: [
        {
          side: 'server',
          dmac: '02:00:0a:02:00:04',
          ip: segment('10.1.0.7:1024', '10.2.0.4:8080', 'S'),
        },
      ],
      declined: false,
    },
    {
      line: 7,
      out: [
        {
          side: 'client',
          dmac: '02:00:0a:01:00:07',
          ip: segment('10.1.0.100:80', '10.1.0.7:1024', 'SA'),
        },
      ],
      declined: false,
    },
    {
      line: 8,
      out: [
        {
          side: 'server',
          dmac: '02:00:0a:02:00:03',
          ip: segment('192.0.2.7:1024', '10.2.0.3:8080', 'S', { ttl: 8 }),
        },
      ],
      declined: false,
    },
    {
      line: 9,
      out: [
        {
          side: 'client',
          dmac: '02:00:0a:01:ff:fe',
          ip: segment('10.1.0.100:80', '192.0.2.7:1024', 'SA'),
        },
      ],
      declined: false,
    },
    { line: 10, exit: 255, stdout: '', stderr: 'No such service\n' },
    {
      end: true,
      services:
        'IP Virtual Server version 1.2.1 (size=4096)\n' +
        'Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n' +
        '  -> RemoteAddress:Port\n' +
        'TCP  10.1.0.100:80                       2        2        2       80       80\n' +
        '  -> 10.2.0.3:8080                       1        1        1       40       40\n' +
        '  -> 10.2.0.4:8080                       1        1        1       40       40\n',
      connections: [
        {
          pro: 'TCP',
          expire: 60,
          state: 'SYN_RECV',
          source: '10.1.0.7:1024',
          virtual: '10.1.0.100:80',
          destination: '10.2.0.4:8080',
        },
        {
          pro: 'TCP',
          expire: 60,
          state: 'SYN_RECV',
          source: '192.0.2.7:1024',
          virtual: '10.1.0.100:80',
          destination: '10.2.0.3:8080',
        },
      ],
    },
  ])
})

t.test('what IPVS declines: to the stack, or on to the next hop', async (t) => {
  const trace = await run(`${ROUND_ROBIN}
    tcp 10.1.0.7:1024 > 10.1.0.100:80 A
    tcp 10.1.0.7:1024 > 10.2.0.1:80 S
    udp 10.1.0.7:1024 > 10.2.0.9:53 len=4
    udp 10.2.0.7:1024 > 192.0.2.9:53 len=4 in=server
    udp 10.1.0.7:1024 > 10.2.0.9:53 ttl=1
    udp 10.1.0.100:1024 > 10.2.0.9:53
    udp 10.1.0.7:1024 > 10.2.0.9:53 len=1472
    udp 10.1.0.7:1024 > 10.2.0.9:53 len=1473`)
  const [notOpening, own, routed, away, expired, spoofed, longest, tooLong] = packetsOf(trace)
  t.match(notOpening, { out: [], declined: true })
  t.match(own, { out: [], declined: true })
  const datagram = (from: string, to: string): string =>
    Buffer.from(
      udpPacket({ from, to, payload: [0, 0, 0, 0], ttl: 63, id: 0, dontFragment: false }),
    ).toString('hex')
  t.strictSame(routed!.out, [
    {
      side: 'server',
      dmac: '02:00:0a:02:00:09',
      ip: datagram('10.1.0.7:1024', '10.2.0.9:53'),
    },
  ])
  t.strictSame(away!.out, [
    {
      side: 'client',
      dmac: '02:00:0a:01:ff:fe',
      ip: datagram('10.2.0.7:1024', '192.0.2.9:53'),
    },
  ])
  const [error] = expired!.out
  t.match(error, { side: 'client', dmac: '02:00:0a:01:00:07' })
  const quoted = udpPacket({
    ...{ from: '10.1.0.7:1024', to: '10.2.0.9:53', payload: [] },
    ...{ ttl: 1, id: 0, dontFragment: false },
  })
  const sent = bytes(error!)
  t.strictSame(packetProblems(sent), [])
  t.strictSame(
    [...sent],
    [
      ...icmpPacket({
        ...{ from: '10.1.0.1', to: '10.1.0.7', type: 11, payload: quoted },
        ...{ tos: 0xc0, id: (sent[4]! << 8) | sent[5]!, dontFragment: false },
      }),
    ],
  )
  t.match(spoofed, { out: [], declined: false }, 'nobody has an address of ours')
  t.equal(longest!.out.length, 1)
  t.match(tooLong, { out: [], declined: false }, 'lost on the link')
})

t.test('marks', async (t) => {
  const trace = await run(`
    ipvsadm -A -f 1 -s rr
    ipvsadm -a -f 1 -r 10.2.0.3 -m
    tcp 10.1.0.7:1024 > 203.0.113.5:80 S mark=1
    tcp 10.1.0.7:1024 > 203.0.113.5:80 A
    tcp 10.1.0.7:1024 > 203.0.113.5:80 A mark=1
    tcp 10.1.0.7:1025 > 203.0.113.5:80 S mark=2
    tcp 10.1.0.7:1025 > 203.0.113.5:80 S mark=9`)
  const hops = packetsOf(trace).map(({ out, declined }) => (declined ? 'own' : out[0]?.dmac))
  const [server, gateway] = ['02:00:0a:02:00:03', '02:00:0a:01:ff:fe']
  t.strictSame(hops, [server, gateway, server, 'own', gateway])
})

t.test('IPv6', async (t) => {
  const trace = await run(`
    ipvsadm -A -t [fd01::100]:80 -s rr
    ipvsadm -a -t [fd01::100]:80 -r [fd02::3]:8080 -m
    tcp [2001:db8::7]:1024 > [fd01::100]:80 S
    tcp [fd02::3]:8080 > [2001:db8::7]:1024 SA in=server
    tcp [fd01::7]:1024 > [fd02::9]:80 S
    tcp [fd01::7]:1024 > [fd01::1]:80 S`)
  const [request, reply, routed, own] = packetsOf(trace)
  const one = (side: string, dmac: string, from: string, to: string, flags: string): object[] => [
    { side, dmac, ip: segment(from, to, flags) },
  ]
  t.strictSame(
    request!.out,
    one('server', '02:06:00:00:00:03', '[2001:db8::7]:1024', '[fd02::3]:8080', 'S'),
  )
  t.strictSame(
    reply!.out,
    one('client', '02:06:00:00:ff:ff', '[fd01::100]:80', '[2001:db8::7]:1024', 'SA'),
  )
  t.strictSame(
    routed!.out,
    one('server', '02:06:00:00:00:09', '[fd01::7]:1024', '[fd02::9]:80', 'S'),
  )
  t.match(own, { out: [], declined: true })
})

t.test('time passes as the scenario says, however much', async (t) => {
  const trace = await run(`${ROUND_ROBIN}
    tcp 10.1.0.7:1024 > 10.1.0.100:80 S
    at 59.5
    ipvsadm -L -n -c
    at 64
    ipvsadm -L -n -c
    at 2592000
    tcp 10.1.0.7:1024 > 10.1.0.100:80 S
    ipvsadm -L -n -c`)
  const listings = commandsOf(trace).slice(3)
  t.match(listings[0]!.stdout, /^TCP 00:0[01] {2}SYN_RECV/m)
  t.notMatch(listings[1]!.stdout, /TCP/)
  t.match(listings[2]!.stdout, /^TCP 01:00 {2}SYN_RECV .*10.2.0.3:8080$/m)
})

t.test('counters are shown as they were summed up last', async (t) => {
  const trace = await run(`${ROUND_ROBIN}
    tcp 10.1.0.7:1024 > 10.1.0.100:80 S
    ipvsadm -L -n --stats
    at 2.3
    ipvsadm -L -n --stats`)
  const [before, after] = commandsOf(trace).slice(3)
  t.match(before!.stdout, /^TCP {2}10.1.0.100:80 {23}0 {8}0/m)
  t.match(after!.stdout, /^TCP {2}10.1.0.100:80 {23}1 {8}1/m)
})

t.test('settings', async (t) => {
  const scenario = (value: string): string => `${ROUND_ROBIN}
    tcp 10.1.0.7:1024 > 10.1.0.100:80 S
    ipvsadm -d -t 10.1.0.100:80 -r 10.2.0.4:8080
    sysctl net.ipv4.vs.expire_nodest_conn=${value}
    tcp 10.1.0.7:1024 > 10.1.0.100:80 S`
  const refusals: string[] = []
  const onRefusal = (_: unknown, problem: string): void => void refusals.push(problem)
  const sent = async (value: string): Promise<number> =>
    packetsOf(await run(scenario(value), { onRefusal }))[1]!.out.length
  t.equal(await sent('0'), 0)
  t.equal(await sent('1'), 1)
  t.strictSame(refusals, [])
  t.equal(await sent('x'), 0, 'refused as the kernel does: the run goes on')
  t.equal(refusals.length, 1)
  await t.rejects(run('\n  sysctl net.ipv4.vs.frob=1'), {
    name: 'ScenarioError',
    message: "a.scn:2:8: there is no setting 'frob'",
  })
  await t.rejects(run('sysctl net.core.somaxconn=1'), {
    message: /^a.scn:1:8: 'net.core.somaxconn': expected a key of net.ipv4.vs/,
  })
})

t.test('names are not looked up', async (t) => {
  const [named, listing] = commandsOf(
    await run('ipvsadm -A -t localhost:80\nipvsadm -L\nipvsadm -L -c'),
  )
  t.match(named, { exit: 2, stderr: /illegal virtual server address/ })
  t.match(listing, { exit: 0 })
})

t.test('the same scenario and seed, the same bytes', async (t) => {
  const scenario = readScenario('test/scenarios/examples/tunnel.scn')
  const once = formatTrace(await replay(scenario, { seed: 7 }))
  t.equal(formatTrace(await replay(scenario, { seed: 7 })), once)
  const directory = 'test/scenarios/examples'
  for (const name of readdirSync(directory).filter((name) => name.endsWith('.scn'))) {
    const example = readScenario(join(directory, name))
    t.equal(formatTrace(await replay(example)), formatTrace(await replay(example)), name)
  }
})

t.test('a thousand connections', async (t) => {
  const lines = Array.from({ length: 1000 }, (_, i) => `tcp 10.1.0.7:${1024 + i} > 10.1.0.100:80 S`)
  const trace = await run(ROUND_ROBIN + lines.join('\n'))
  t.equal(endOf(trace).connections.length, 1000)
  const servers = packetsOf(trace).map(({ out }) => out[0]!.dmac)
  t.equal(servers.filter((dmac) => dmac === '02:00:0a:02:00:03').length, 500)
})

t.test('what is captured of a run can be run again', async (t) => {
  const directory = t.testdir()
  const scenario = `${ROUND_ROBIN}
    tcp 10.1.0.7:1024 > 10.1.0.100:80 S
    at 0.5
    tcp 10.1.0.8:1024 > 10.1.0.100:80 S len=8
    at 3
    tcp 10.1.0.7:1024 > 10.1.0.100:80 A`
  const captures = {
    in: PcapWriter.create(join(directory, 'in.pcap')),
    out: PcapWriter.create(join(directory, 'out.pcap')),
  }
  for (const capture of Object.values(captures)) capture.addInterface('link', 1)
  const frames: { side: string; direction: string; frame: string; atMs: number }[] = []
  const trace = await run(scenario, {
    onFrame: (frame, side, direction, atMs) => {
      frames.push({ side, direction, frame: Buffer.from(frame).toString('hex'), atMs })
      const time = { seconds: Math.floor(atMs / 1000), nanoseconds: (atMs % 1000) * 1e6 }
      captures[direction].write(frame, time)
    },
  })
  for (const capture of Object.values(captures)) capture.close()
  t.strictSame(
    frames.map(({ side, direction, atMs }) => [side, direction, atMs]),
    [
      ['client', 'in', 0],
      ['server', 'out', 0],
      ['client', 'in', 500],
      ['server', 'out', 500],
      ['client', 'in', 3000],
      ['server', 'out', 3000],
    ],
  )
  const [, sent] = frames
  t.equal(
    sent!.frame,
    Buffer.from(hex('02000a020004 02000a020001 0800')).toString('hex') +
      packetsOf(trace)[0]!.out[0]!.ip,
    'from the director to its neighbour',
  )
  const again = await replay(
    parseScenario(`${ROUND_ROBIN}\npcap in.pcap`, join(directory, 'again.scn')),
  )
  t.strictSame(
    packetsOf(again).map(({ out, declined }) => ({ out, declined })),
    packetsOf(trace).map(({ out, declined }) => ({ out, declined })),
  )
  t.strictSame(endOf(again), endOf(trace))
  t.ok(readFileSync(join(directory, 'out.pcap')).length > 0)
})
