import t from 'tap'
import { compareTraces } from '../../src/scenario/compare.js'
import { eventsOf } from '../../src/scenario/events.js'
import { explainDifference, explainLine } from '../../src/scenario/explain.js'
import { parseScenario } from '../../src/scenario/parse.js'
import { replay } from '../../src/scenario/replay.js'
import type { EndRecord, PacketRecord } from '../../src/scenario/trace.js'

const text = `ipvsadm -A -t 10.1.0.100:80 -s wlc -p 300 -M 255.255.255.0
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.3 -m -w 2 -x 5
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.4 -m
sysctl net.ipv4.vs.sloppy_tcp=1
tcp 10.1.0.7:1024 > 10.1.0.100:80 S
tcp 10.1.0.7:1025 > 10.1.0.100:80 S # a comment
tcp 10.1.0.7:1024 > 10.1.0.100:81 S
tcp 10.1.0.7:1024 > 10.1.0.100:80 FA
udp 192.0.2.1:5 > 10.1.0.100:80
tcp 10.2.0.4:80 > 10.1.0.7:1025 SA in=server
raw 4500003800000000400167c70a0100070a01006403030cad00000000450000280000400040061e760a0100640a01000700500400 # about a reply
tcp 10.1.1.7:1024 > 10.1.0.100:80 S
ipvsadm -A -t 10.1.0.100:80
`
const scenario = parseScenario(text, 'x.scn')
const events = eventsOf(scenario)
const explain = (line: number): Promise<string> => explainLine(scenario, line)

t.test('a packet that begins a connection: candidates, choice, template, settings', async (t) => {
  t.equal(
    await explain(5),
    `5: tcp 10.1.0.7:1024 > 10.1.0.100:80 S
  server 02:00:0a:02:00:04 TCP 10.1.0.7:1024 > 10.2.0.4:80 S, TTL 63
  packet from the client side: TCP 10.1.0.7:1024 > 10.1.0.100:80 S, TTL 64

why uvs did it
  it belongs to no connection
  service tcp 10.1.0.100:80: wlc, persistent for 300 s by /24
    candidate 10.2.0.4:80 masquerade, weight 1, 0 active and 0 inactive connections
    candidate 10.2.0.3:80 masquerade, weight 2, 0 active and 0 inactive connections, upper threshold 5
  wlc chose 10.2.0.4
  it made the template TCP NONE 10.1.0.0:0 > 10.1.0.100:80 > 10.2.0.4:80, 300 s left
  it made the connection TCP SYN_RECV 10.1.0.7:1024 > 10.1.0.100:80 > 10.2.0.4:80, 60 s left
  setting net.ipv4.vs.drop_packet = 0, the default
  setting net.ipv4.vs.expire_quiescent_template = 0, the default
  setting net.ipv4.vs.sloppy_tcp = 1
`,
  )
})

t.test('a packet that follows a template', async (t) => {
  const said = await explain(6)
  t.match(said, '6: tcp 10.1.0.7:1025 > 10.1.0.100:80 S\n')
  t.match(said, 'there is the template TCP NONE 10.1.0.0:0 > 10.1.0.100:80 > 10.2.0.4:80')
  t.match(said, /candidate 10\.2\.0\.4:80 .* 1 active/)
  t.notMatch(said, 'chose')
  t.notMatch(await explain(12), 'there is the template', 'another network has none')
})

t.test('packets of a connection: requests, replies, and errors about them', async (t) => {
  const end = await explain(8)
  t.match(end, 'it is a request of the connection TCP SYN_RECV 10.1.0.7:1024')
  t.match(end, '10.1.0.7:1024 > 10.1.0.100:80 went from SYN_RECV to TIME_WAIT')
  t.match(end, 'expire_nodest_conn = 0, the default')
  t.match(await explain(10), 'it is a reply of the connection TCP SYN_RECV 10.1.0.7:1025')
  t.match(await explain(11), /^ {2}packet .*quoted \[TCP 10\.1\.0\.100:80 > 10\.1\.0\.7:1024/m)
})

t.test('packets that are nobody’s, and commands', async (t) => {
  t.match(await explain(7), 'no service wants it by its address, port or mark')
  t.match(await explain(9), 'it was not forwarded: no-service')
  t.match(await explain(1), /^1: ipvsadm -A /)
  t.match(await explain(13), /exit status 255\n {2}Service already exists/)
  for (const line of [4, 99])
    await t.rejects(explain(line), {
      message: new RegExp(
        `^x\\.scn: line ${line} has neither a packet nor a command; it has packets in 5 6 .*, and commands in 1 `,
      ),
    })
})

t.test('a difference is shown with what each did', async (t) => {
  const ours = await replay(scenario)
  const kernels = structuredClone(ours)
  const index = ours.findIndex((record) => 'out' in record && record.line === 6)
  const packet = (kernels[index] as PacketRecord).out[0]!
  packet.dmac = '02:00:0a:02:00:09'
  const said = await explainDifference(scenario, compareTraces(events, ours, kernels)!)
  t.match(said, /^x\.scn:6: tcp 10\.1\.0\.7:1025 > 10\.1\.0\.100:80 S\n {2}packet from the client/)
  t.match(said, /dmac {2}uvs {5}02:00:0a:02:00:0\d\n {8}kernel {2}02:00:0a:02:00:09/)
  t.match(said, /^uvs\n.*\nthe kernel\n.*02:00:0a:02:00:09/m)
  t.match(said, 'why uvs did it')
  packet.dmac = (ours[index] as PacketRecord).out[0]!.dmac

  const command = ours.findIndex((record) => 'exit' in record && record.line === 13)
  Object.assign(kernels[command]!, { exit: 0, stderr: 'a\nb\n' })
  const refused = await explainDifference(scenario, compareTraces(events, ours, kernels)!)
  t.match(refused, /^x\.scn:13: ipvsadm -A -t 10\.1\.0\.100:80\n/)
  t.match(refused, /exit {4}uvs {5}255\n {10}kernel {2}0\n/)
  kernels[command] = ours[command]!

  const last = kernels.at(-1) as EndRecord
  last.connections[0]!.state = 'ESTABLISHED'
  const difference = compareTraces(events, ours, kernels)!
  t.match(await explainDifference(scenario, difference), /^x\.scn: at the end\n\n {2}TCP 10/)
  const began = events.findIndex((event) => event.line === 8)
  const beginning = { index: began, isBefore: false, difference }
  t.match(
    await explainDifference(scenario, difference, beginning),
    /\nit began with line 8: tcp .* FA\n {2}packet from the client side: .*\n\nwhat differs since then\n/,
  )
  t.match(
    await explainDifference(scenario, difference, { ...beginning, isBefore: true }),
    '\nit began as time passed to 0 s, before line 8: tcp ',
  )
})

t.test('a fragment, and the one that completes its packet, which is then told of', async (t) => {
  // A datagram of 24 bytes with its header, in three pieces, the last before the second; and one alone.
  const piece = (place: number, payload: string): string => {
    const header = `4500001c0001${place.toString(16).padStart(4, '0')}40110000`
    return `raw ${withHeaderChecksum(`${header}0a0109010a010064`)}${payload}`
  }
  const MORE = 0x2000
  const story = `ipvsadm -A -u 10.1.0.100:53 -s rr
ipvsadm -a -u 10.1.0.100:53 -r 10.2.0.3:53 -m
${piece(MORE, '0400003500180000')}
${piece(2, '1112131415161718')}
${piece(1 | MORE, '0102030405060708')}
${piece(1 | MORE, '0102030405060708')}
`
  const fragments = parseScenario(story, 'fragments.scn')
  const first = await explainLine(fragments, 3)
  t.match(first, '\n  it is a fragment\n  its packet is not whole with it\n')
  t.notMatch(first, 'connection', 'and no more is known')
  t.match(
    await explainLine(fragments, 4),
    '\n  it is a fragment, with those of line 3\n  its packet is not whole with it\n',
  )
  const said = await explainLine(fragments, 5)
  t.match(said, '\n  it is a fragment, with those of lines 3 and 4\n')
  t.match(
    said,
    /\n {2}it completes the packet UDP 10\.1\.9\.1:1024 > 10\.1\.0\.100:53, TTL 64, 16 bytes/,
  )
  t.match(said, 'service udp 10.1.0.100:53: rr\n')
  t.match(said, 'rr chose 10.2.0.3\n')
  t.match(said, 'it made the connection UDP 10.1.9.1:1024 > 10.1.0.100:53 > 10.2.0.3:53')
  t.match(await explainLine(fragments, 6), '\n  it is a fragment\n', 'of another packet')
})

t.test('fragments of IPv6', async (t) => {
  const piece = (place: string, payload: string): string =>
    `raw 6000000000102c40${'fd010000000000000000000000000002'}${'fd030000000000000000000000000001'}1100${place}00000007${payload}`
  const fragments = parseScenario(
    `ipvsadm -A -u [fd03::1]:53 -s rr
ipvsadm -a -u [fd03::1]:53 -r [fd02::3]:53 -m
${piece('0001', '0400003500100000')}
${piece('0008', '0102030405060708')}
`,
    'fragments.scn',
  )
  t.match(await explainLine(fragments, 3), '\n  its packet is not whole with it\n')
  const said = await explainLine(fragments, 4)
  t.match(
    said,
    /\n {2}it completes the packet UDP \[fd01::2\]:1024 > \[fd03::1\]:53, TTL 64, 8 bytes/,
  )
})

/** An IPv4 header of 20 bytes whose checksum is right, from one where it is 0. */
function withHeaderChecksum(hex: string): string {
  const bytes = Buffer.from(hex, 'hex')
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  bytes.writeUInt16BE(~sum & 0xffff, 10)
  return bytes.toString('hex')
}
