import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { LinkType, PcapWriter } from '../../src/drivers/pcap.js'
import { eventsOf } from '../../src/scenario/events.js'
import { parseScenario } from '../../src/scenario/parse.js'
import { ScenarioError, type Event } from '../../src/scenario/scenario.js'
import { ethernetFrame, tcpPacket, udpPacket } from '../support/packets.js'

const directory = t.testdir()
const udp = udpPacket({ from: '10.1.0.7:1', to: '10.1.0.100:2' })
const tcp = tcpPacket({ from: '10.1.0.7:1', to: '10.1.0.100:2' })
const udpV6 = udpPacket({ from: '[fd01::7]:1', to: '[fd01::100]:2' })
const macs = { from: '02:00:00:00:00:01', to: '02:00:00:00:00:02' }

/** Writes a capture; times in milliseconds. */
function capture(
  name: string,
  packets: readonly (readonly [ms: number, bytes: Uint8Array])[],
  linkType: number = LinkType.ethernet,
): void {
  const pieces: Buffer[] = []
  const writer = new PcapWriter((bytes) => pieces.push(Buffer.from(bytes)), { format: 'pcap' })
  writer.addInterface('eth0', linkType)
  for (const [ms, bytes] of packets)
    writer.write(bytes, {
      seconds: 1_700_000_000 + Math.floor(ms / 1000),
      nanoseconds: (ms % 1000) * 1e6,
    })
  writer.close()
  writeFileSync(join(directory, name), Buffer.concat(pieces))
}

const events = (text: string): Event[] => eventsOf(parseScenario(text, join(directory, 'a.scn')))

t.test('events happen when the clock says', async (t) => {
  t.strictSame(events('ipvsadm -C\nat 1.5\nsysctl a=1\nat 1.5\nraw 45 mark=3 in=server\nat 9'), [
    { line: 1, atMs: 0, kind: 'ipvsadm', args: ['-C'] },
    { line: 3, atMs: 1500, kind: 'sysctl', key: 'a', value: '1' },
    {
      line: 5,
      atMs: 1500,
      kind: 'packet',
      packet: Uint8Array.of(0x45),
      side: 'server',
      mark: 3,
    },
  ])
})

t.test("a capture's times move the clock, from where it stands", async (t) => {
  capture('a.pcap', [
    [500, ethernetFrame(macs, udp)],
    [1750, ethernetFrame(macs, tcp)],
    // Captures of several queues are not always in order; time is.
    [1000, ethernetFrame(macs, udp)],
  ])
  t.strictSame(
    events('at 10\npcap a.pcap mark=2\nipvsadm -C\nat 12\nipvsadm -Z').map((event) => [
      event.line,
      event.atMs,
      event.kind === 'packet' ? event.mark : undefined,
    ]),
    [
      [2, 10_000, 2],
      [2, 11_250, 2],
      [2, 11_250, 2],
      [3, 11_250, undefined],
      [5, 12_000, undefined],
    ],
  )
  t.throws(
    () => events('at 10\npcap a.pcap\nat 11'),
    new ScenarioError(
      join(directory, 'a.scn'),
      3,
      1,
      'at 11: a capture has moved the clock to 11.25 already',
    ),
  )
})

t.test('the IP packets of a capture, whatever they are in', async (t) => {
  const packets = (): Uint8Array[] =>
    events('pcap a.pcap').flatMap((event) => (event.kind === 'packet' ? [event.packet] : []))
  const bytes = (packet: ArrayLike<number>): Uint8Array => Uint8Array.from(packet)
  const frame = ethernetFrame(macs, udp)
  const tagged = bytes([...frame.subarray(0, 12), 0x81, 0, 0, 5, ...frame.subarray(12)])
  const padded = bytes([...frame, 0, 0, 0, 0])
  const arp = bytes([...frame.subarray(0, 12), 8, 6, ...new Uint8Array(28)])
  const frameV6 = bytes([...frame.subarray(0, 12), 0x86, 0xdd, ...udpV6, 0, 0])
  capture('a.pcap', [
    [0, frame],
    [0, tagged],
    [0, padded],
    [0, arp],
    [0, frameV6],
    [0, frame.subarray(0, 10)],
  ])
  t.strictSame(packets(), [udp, udp, udp, udpV6])
  capture(
    'a.pcap',
    [
      [0, udp],
      [0, udpV6],
    ],
    LinkType.raw,
  )
  t.strictSame(packets(), [udp, udpV6])
})

t.test('captures that cannot be read', async (t) => {
  const scenario = join(directory, 'a.scn')
  t.throws(() => events('\npcap nosuch.pcap'), {
    line: 2,
    column: 6,
    message: new RegExp(`^${scenario}:2:6: ENOENT.*nosuch.pcap`),
  })
  writeFileSync(join(directory, 'bad.pcap'), 'no capture')
  t.throws(() => events('pcap bad.pcap'), {
    message: /bad.pcap: byte 0: .*neither pcap's nor pcapng's/,
  })
  capture('wifi.pcap', [[0, udp]], 105)
  t.throws(() => events('pcap wifi.pcap'), {
    message: /wifi.pcap: link type 105 is neither Ethernet \(1\) nor IP/,
  })
})
