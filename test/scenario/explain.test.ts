import t from 'tap'
import { compareTraces } from '../../src/scenario/compare.js'
import { eventsOf } from '../../src/scenario/events.js'
import { explainDifference, explainLine } from '../../src/scenario/explain.js'
import { parseScenario } from '../../src/scenario/parse.js'
import { replay } from '../../src/scenario/replay.js'
import type { PacketRecord } from '../../src/scenario/trace.js'

const text = `ipvsadm -A -t 10.1.0.100:80 -s wlc -p 300 -M 255.255.255.0
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.3 -m -w 2 -x 5
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.4 -m
sysctl net.ipv4.vs.conn_reuse_mode=0
tcp 10.1.0.7:1024 > 10.1.0.100:80 S
tcp 10.1.0.7:1025 > 10.1.0.100:80 S # a comment
tcp 10.1.0.7:1024 > 10.1.0.100:81 S
tcp 10.1.0.7:1024 > 10.1.0.100:80 FA
udp 192.0.2.1:5 > 10.1.0.100:80
`
const scenario = parseScenario(text, 'x.scn')
const events = eventsOf(scenario)
const source = new Map(scenario.directives.map((each) => [each.line, each.text]))
const explain = (line: number): Promise<string> => explainLine(events, 'x.scn', source, line)

t.test('a packet that begins a connection: candidates, template, settings', async (t) => {
  const said = await explain(5)
  t.match(said, /^5: tcp 10\.1\.0\.7:1024 > 10\.1\.0\.100:80 S$/m)
  t.match(said, 'there was no connection of this packet')
  t.match(said, 'service tcp 10.1.0.100:80: wlc, persistent for 300 s by /24')
  t.match(said, /candidate 10\.2\.0\.3:80 masquerade, weight 2, 0 active .*upper threshold 5/)
  t.match(said, /candidate 10\.2\.0\.4:80 masquerade, weight 1, 0 active/)
  t.match(said, /it made a template: TCP .*10\.1\.0\.0:0/)
  t.match(said, /it made a connection: TCP SYN_RECV 10\.1\.0\.7:1024/)
  t.match(said, 'setting net.ipv4.vs.conn_reuse_mode = 0')
})

t.test(
  'a packet that finds a template, one that finds a connection, one that finds nothing',
  async (t) => {
    t.match(await explain(6), /there was a template: .*10\.1\.0\.0:0 > 10\.1\.0\.100/)
    t.match(await explain(6), '6: tcp 10.1.0.7:1025 > 10.1.0.100:80 S\n')
    const end = await explain(8)
    t.match(end, /there was a connection: TCP SYN_RECV 10\.1\.0\.7:1024/)
    t.match(end, '10.1.0.7:1024 went from SYN_RECV to TIME_WAIT')
    t.match(await explain(7), 'no service wants the packet by its address, port or mark')
    t.match(await explain(9), 'not forwarded: no-service')
    await t.rejects(explain(1), { message: 'x.scn: line 1 has no packet' })
  },
)

t.test('a difference is shown with what each did', async (t) => {
  const ours = await replay(scenario)
  const kernels = structuredClone(ours)
  const index = ours.findIndex((record) => 'out' in record && record.line === 6)
  const packet = (kernels[index] as PacketRecord).out[0]!
  packet.dmac = '02:00:0a:02:00:09'
  const difference = compareTraces(events, ours, kernels)!
  const said = await explainDifference(events, 'x.scn', source, difference)
  t.match(said, /^x\.scn:6: tcp 10\.1\.0\.7:1025 > 10\.1\.0\.100:80 S\n {2}packet {2}client: TCP/)
  t.match(said, /dmac {2}uvs 02:00:0a:02:00:0\d\n {8}kernel 02:00:0a:02:00:09/)
  t.match(said, /^uvs\n.*\nthe kernel\n.*02:00:0a:02:00:09/m)
  t.match(said, 'why uvs did it')

  ;(kernels.at(-1) as { services: string }).services = ''
  packet.dmac = (ours[index] as PacketRecord).out[0]!.dmac
  const atEnd = compareTraces(events, ours, kernels)!
  t.match(await explainDifference(events, 'x.scn', source, atEnd), /^x\.scn: at the end\n/)
})
