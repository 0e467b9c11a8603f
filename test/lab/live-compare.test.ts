import t from 'tap'
import {
  compareObserved,
  countTraffic,
  parseConnections,
  parseCounters,
  type Observed,
} from '../../src/lab/live-compare.js'
import type { CapturedPacket } from '../../src/drivers/pcap.js'
import { ethernetFrame, tcpPacket, udpPacket } from '../support/packets.js'
import type { Exchange } from '../../src/lab/live-plan.js'

const connections = `IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:58  ESTABLISHED 192.168.10.20:20002 192.168.10.100:8000 192.168.20.11:8000
UDP 05:00  UDP         192.168.10.20:20100 192.168.10.100:5300 192.168.20.12:5300
IP  09:59  NONE        192.168.10.20:0    192.168.10.100:8000 192.168.20.11:8000
`
const counters = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  192.168.10.100:8000                 1        4        3      300      400
  -> 192.168.20.11:8000                  1        4        3      300      400
UDP  192.168.10.100:5300                 1        1        1       33       41
  -> 192.168.20.12:5300                  1        1        1       33       41
`
const exchanges: Exchange[] = [
  { protocol: 'tcp', from: '192.168.10.20', fromPort: 20002, to: '192.168.10.100', port: 8000 },
  { protocol: 'udp', from: '192.168.10.20', fromPort: 20100, to: '192.168.10.100', port: 5300 },
]

const observed = (change: (text: string) => string = (text) => text): Observed => ({
  answers: ['server1', change('server2')],
  connections: parseConnections(change(connections)),
  counters: parseCounters(change(counters)),
  traffic: new Map([
    ['TCP 192.168.10.100:8000', [4, 3, 300, 400]],
    ['UDP 192.168.10.100:5300', [1, 1, 33, 41]],
  ]),
  seconds: 5,
})

t.test('listings are read', async (t) => {
  t.strictSame(
    observed().connections.map(({ name, expiresSeconds }) => [name.split(' ')[1], expiresSeconds]),
    [
      ['NONE', 599],
      ['ESTABLISHED', 898],
      ['UDP', 300],
    ],
  )
  t.strictSame(
    [...observed().counters],
    [
      ['TCP 192.168.10.100:8000', [1, 4, 3, 300, 400]],
      ['TCP 192.168.10.100:8000 -> 192.168.20.11:8000', [1, 4, 3, 300, 400]],
      ['UDP 192.168.10.100:5300', [1, 1, 1, 33, 41]],
      ['UDP 192.168.10.100:5300 -> 192.168.20.12:5300', [1, 1, 1, 33, 41]],
    ],
  )
})

t.test('traffic is counted at the client', async (t) => {
  const [client, service] = ['192.168.10.20:20002', '192.168.10.100:8000']
  const macs = { from: '02:00:00:00:00:01', to: '02:00:00:00:00:02' }
  const captured = (packet: Uint8Array): CapturedPacket =>
    ({ bytes: ethernetFrame(macs, packet) }) as Partial<CapturedPacket> as CapturedPacket
  const packets = [
    tcpPacket({ from: client, to: service, payload: 'abc' }),
    tcpPacket({ from: client, to: service }),
    tcpPacket({ from: service, to: client, payload: 'abcdef' }),
    tcpPacket({ from: client, to: '192.168.10.1:8000' }),
    udpPacket({ from: client, to: '192.168.10.100:5300', payload: 'abc' }),
  ].map(captured)
  t.strictSame(
    [...countTraffic(packets, '192.168.10.100', true)],
    [
      ['TCP 192.168.10.100:8000', [2, 1, 83, 46]],
      ['UDP 192.168.10.100:5300', [1, 0, 31, 0]],
    ],
  )
  t.strictSame(
    countTraffic(packets, '192.168.10.100', false).get('TCP 192.168.10.100:8000'),
    [2, 0, 83, 0],
  )
})

t.test('what differs, and what need not be the same', async (t) => {
  const differing = (change: (text: string) => string): string[] =>
    compareObserved(exchanges, observed(), observed(change))
  t.strictSame(
    differing((text) => text),
    [],
  )
  t.strictSame(
    differing((text) => text.replace('14:58', '14:51').replace('05:00', '04:53')),
    [],
    'seconds that the runs took',
  )
  t.match(
    differing((text) => text.replace('14:58', '02:00')),
    [/ESTABLISHED.*expires in 898 s in the kernel, 120 s in uvsd/],
  )
  t.strictSame(
    differing((text) => text.replace(/4( +)3( +)300/, '5$13$2352')),
    [
      'uvsd: TCP 192.168.10.100:8000 counts 1 5 3 352 400, its servers 1 4 3 300 400',
      'uvsd: TCP 192.168.10.100:8000 counts 5 3 352 400, the client 4 3 300 400',
    ],
  )
  const louder = observed((text) => text.replace(/4( +)3( +)300/g, '5$13$2352'))
  louder.traffic.set('TCP 192.168.10.100:8000', [5, 3, 352, 400])
  t.strictSame(
    compareObserved(exchanges, observed(), louder),
    [],
    'an acknowledgement more, which the client has sent',
  )
  t.match(
    differing((text) => text.replace(/(\.11:8000 +)1/, '$12')),
    [
      'connections of TCP 192.168.10.100:8000 -> 192.168.20.11:8000: kernel 1, uvsd 2',
      /its servers 2/,
    ],
  )
  t.match(
    differing((text) => text.replace('server2', 'server1')),
    ['udp 192.168.10.20:20100 > 192.168.10.100:5300: kernel server2, uvsd server1'],
  )
  t.match(
    differing((text) => text.replace('ESTABLISHED', 'FIN_WAIT   ')),
    [/only in the kernel: TCP ESTABLISHED/, /only in uvsd: TCP FIN_WAIT/],
  )
  const silent = (): Observed => ({ ...observed(), answers: ['server1', 'no answer: timeout'] })
  t.match(compareObserved(exchanges, silent(), silent()), [/^udp .*: kernel no answer/])
})
