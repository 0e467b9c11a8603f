// Run by netns-tests/xdp-steering.test.ts in a namespace with an Ethernet device eth0: the XDP program on
// literal frames, by BPF_PROG_TEST_RUN. A real AF_XDP socket in the map tells "redirected" from "passed".
import t, { type Test } from 'tap'
import { AfxdpPort } from '../../src/drivers/afxdp.js'
import type { MarkRule, ServiceProtocol } from '../../src/core/commands.js'
import { BpfMap, XdpAction, XdpProgram } from '../../src/kernel/bpf/objects.js'
import { native } from '../../src/kernel/native.js'
import {
  FLOW_KEY_BYTES,
  fragmentKey,
  MAX_MARK_RULES,
  portKey,
  xdpProgram,
} from '../../src/kernel/xdp-program.js'
import { FramePool } from '../../src/port/frame-pool.js'
import {
  addressBe,
  ethernetFrame,
  hex,
  icmpPacket,
  ipipPacket,
  ipv4Packet,
  macBytes,
  tcpPacket,
  udpPacket,
  type Ends,
} from '../../test/support/packets.js'
import { seedOr } from '../../test/support/seed.js'
import { belongs, type End, type Flows } from './xdp-reference.js'

t.setTimeout(600_000)

const OWN_MAC = '02:00:00:00:00:01'
const PEER_MAC = '02:00:00:00:00:02'
const VIP = '192.0.2.10'
const ANY_PORT_VIP = '192.0.2.11'
const SERVER = '10.0.0.2'
const ANY_PORT_SERVER = '10.0.0.3'
const CLIENT = '203.0.113.7'
/** Bytes before the ports of a frame without IP options. */
const TO_PORTS = 14 + 20
/** BPF_PROG_TEST_RUN takes no frame below an Ethernet header. */
const SHORTEST = 14

const IcmpType = {
  echoReply: 0,
  unreachable: 3,
  quench: 4,
  redirect: 5,
  echoRequest: 8,
  timeExceeded: 11,
  parameterProblem: 12,
  timestamp: 13,
}
const icmpErrors = [
  IcmpType.unreachable,
  IcmpType.quench,
  IcmpType.timeExceeded,
  IcmpType.parameterProblem,
]

const flows: Flows = {
  virtual: [
    { protocol: 'tcp', address: VIP, port: 80 },
    { protocol: 'udp', address: VIP, port: 53 },
    { protocol: 'sctp', address: VIP, port: 9 },
    { protocol: 'tcp', address: ANY_PORT_VIP, port: 0 },
  ],
  replies: [
    { protocol: 'tcp', address: SERVER, port: 8080 },
    { protocol: 'udp', address: ANY_PORT_SERVER, port: 0 },
  ],
  marks: [],
}

const pool = new FramePool(native().mapMemory(64 * 2048), 2048, 64)
const socket = new AfxdpPort({ interface: 'eth0', pool, ringSize: 16 })
t.teardown(() => socket.close())

const numbers: Record<ServiceProtocol, number> = { tcp: 6, udp: 17, sctp: 132 }

function fill(name: string, ends: readonly End[]): BpfMap {
  const map = BpfMap.hash(name, FLOW_KEY_BYTES, 1, 64)
  for (const { address, port, protocol } of ends) {
    const value = Uint8Array.of(1)
    map.set(portKey(addressBe(address), port, numbers[protocol]), value)
    map.set(fragmentKey(addressBe(address), numbers[protocol]), value)
  }
  return map
}

/** A program with its maps. The marks in `flows` can be replaced; without a socket, nobody takes its frames. */
function load(t: Test, marks: readonly MarkRule[] = [], withSocket = true): XdpProgram {
  const sockets = BpfMap.sockets('test_sockets', 1)
  if (withSocket)
    sockets.set(new Uint8Array(4), new Uint8Array(Int32Array.of(socket.descriptor).buffer))
  const virtual = fill('test_virtual', flows.virtual)
  const replies = fill('test_replies', flows.replies)
  const program = new XdpProgram(
    'test_redirect',
    xdpProgram({
      mac: Uint8Array.from(macBytes(OWN_MAC)),
      sockets: sockets.descriptor,
      virtual: virtual.descriptor,
      replies: replies.descriptor,
      marks,
    }),
  )
  t.teardown(() => [program, sockets, virtual, replies].forEach((one) => one.close()))
  return program
}

const frameOf = (packet: ArrayLike<number>, type?: number): Uint8Array =>
  ethernetFrame({ from: PEER_MAC, to: OWN_MAC, ...(type === undefined ? {} : { type }) }, packet)

const actionNames = new Map<number, string>(
  Object.entries(XdpAction).map(([name, action]) => [action, name]),
)
const actionOn = (program: XdpProgram, frame: Uint8Array): string =>
  actionNames.get(program.run(frame)) ?? 'unknown'

/** Asserts what becomes of packets that are sent to the interface's own Ethernet address. */
function checker(t: Test, program: XdpProgram) {
  const check = (action: string) => (packet: ArrayLike<number>, message: string) =>
    t.equal(actionOn(program, frameOf(packet)), action, message)
  return { redirected: check('redirect'), passed: check('pass') }
}

const tcp = (from: string, to: string, more: Partial<Ends> = {}): Uint8Array =>
  tcpPacket({ from, to, flags: 'S', ...more })
const udp = (from: string, to: string, more: Partial<Ends> = {}): Uint8Array =>
  udpPacket({ from, to, ...more })

function sctp(from: string, to: string, more: Partial<Ends> = {}): Uint8Array {
  const [[source, sourcePort], [destination, destinationPort]] = [from, to].map((end) =>
    end.split(':'),
  ) as [[string, string], [string, string]]
  const ports = Uint8Array.of(
    ...[sourcePort, destinationPort].flatMap((port) => [Number(port) >> 8, Number(port) & 255]),
  )
  return ipv4Packet({ source, destination, protocol: numbers.sctp, ...more }, [
    ...ports,
    ...new Array<number>(20).fill(0),
  ])
}

t.test('virtual services, by protocol, address and port', async (t) => {
  const { redirected, passed } = checker(t, load(t))
  redirected(tcp(`${CLIENT}:40000`, `${VIP}:80`), 'TCP')
  redirected(udp(`${CLIENT}:40000`, `${VIP}:53`), 'UDP')
  redirected(sctp(`${CLIENT}:40000`, `${VIP}:9`), 'SCTP')
  passed(tcp(`${CLIENT}:40000`, `${VIP}:81`), 'another port')
  passed(tcp(`${CLIENT}:40000`, `${VIP}:22`), 'ssh')
  passed(tcp(`${CLIENT}:40000`, `${VIP}:${80 << 8}`), 'the port in the wrong byte order')
  passed(tcp(`${CLIENT}:40000`, `${VIP}:53`), "another protocol's port")
  passed(udp(`${CLIENT}:40000`, `${VIP}:80`), "another protocol's port")
  passed(tcp(`${CLIENT}:80`, `${VIP}:40000`), 'the port as source')
  passed(tcp(`${VIP}:80`, `${CLIENT}:40000`), 'from the service')
  passed(tcp(`${CLIENT}:40000`, '192.0.2.9:80'), 'another address')
  passed(tcp(`${CLIENT}:40000`, '10.2.0.192:80'), 'the address in the wrong byte order')
  for (const flags of ['S', 'A', 'FA', 'R', 'PA', ''])
    redirected(tcpPacket({ from: `${CLIENT}:1`, to: `${VIP}:80`, flags }), `TCP flags '${flags}'`)
})

t.test('a service of port 0 takes any port of its protocol', async (t) => {
  const { redirected, passed } = checker(t, load(t))
  for (const port of [0, 1, 22, 80, 256, 65535])
    redirected(tcp(`${CLIENT}:40000`, `${ANY_PORT_VIP}:${port}`), `port ${port}`)
  passed(udp(`${CLIENT}:40000`, `${ANY_PORT_VIP}:80`), 'UDP')
  passed(tcp(`${ANY_PORT_VIP}:80`, `${CLIENT}:40000`), 'from it')
  passed(tcp(`${CLIENT}:40000`, `${VIP}:0`), 'port 0 of a service with a port')
})

t.test('replies of masqueraded real servers', async (t) => {
  const { redirected, passed } = checker(t, load(t))
  redirected(tcp(`${SERVER}:8080`, `${CLIENT}:40000`), "from the server's port")
  passed(tcp(`${SERVER}:22`, `${CLIENT}:40000`), 'from another port')
  passed(udp(`${SERVER}:8080`, `${CLIENT}:40000`), 'of another protocol')
  passed(tcp(`${CLIENT}:40000`, `${SERVER}:8080`), 'to the server')
  passed(tcp('10.0.0.4:8080', `${CLIENT}:40000`), 'from another address')
  for (const port of [0, 53, 65535])
    redirected(udp(`${ANY_PORT_SERVER}:${port}`, `${CLIENT}:40000`), `any port: ${port}`)
  passed(tcp(`${ANY_PORT_SERVER}:53`, `${CLIENT}:40000`), 'any port, of another protocol')
})

t.test('marking rules', async (t) => {
  const from = `${CLIENT}:40000`
  const cases: [string, MarkRule, Uint8Array[], Uint8Array[]][] = [
    [
      'protocol',
      { mark: 1, protocol: 'udp' },
      [udp(from, '198.51.100.1:7'), udp('10.9.9.9:1', '198.51.100.2:9')],
      [tcp(from, '198.51.100.1:7'), sctp(from, '198.51.100.1:7')],
    ],
    [
      'nothing: all that can be a service',
      { mark: 1 },
      [udp(from, '198.51.100.1:7'), tcp(from, '198.51.100.1:7'), sctp(from, '198.51.100.1:7')],
      [
        icmpPacket({ from: CLIENT, to: '198.51.100.1', type: IcmpType.echoRequest }),
        ipipPacket({ source: CLIENT, destination: '198.51.100.1' }, tcp(from, '198.51.100.1:7')),
      ],
    ],
    [
      'source',
      { mark: 1, source: '203.0.112.0/23' },
      [tcp('203.0.112.0:1', '198.51.100.1:7'), tcp('203.0.113.255:1', '198.51.100.1:7')],
      [
        tcp('203.0.111.255:1', '198.51.100.1:7'),
        tcp('203.0.114.0:1', '198.51.100.1:7'),
        tcp('198.51.100.1:7', '203.0.113.1:1'),
      ],
    ],
    [
      'destination',
      { mark: 1, destination: '198.51.100.128/25' },
      [tcp(from, '198.51.100.128:7'), tcp(from, '198.51.100.255:7')],
      [tcp(from, '198.51.100.127:7'), tcp('198.51.100.128:7', from)],
    ],
    [
      'destination of one address, and without a length',
      { mark: 1, destination: '198.51.100.1' },
      [tcp(from, '198.51.100.1:7')],
      [tcp(from, '198.51.100.0:7'), tcp(from, '198.51.100.2:7')],
    ],
    [
      'a prefix with host bits',
      { mark: 1, destination: '198.51.100.77/24' },
      [tcp(from, '198.51.100.1:7')],
      [tcp(from, '198.51.101.77:7')],
    ],
    [
      'any source and destination',
      { mark: 1, source: '0.0.0.0/0', destination: '0.0.0.0/0' },
      [tcp(from, '198.51.100.1:7')],
      [],
    ],
    [
      'prefixes with the highest bit',
      { mark: 1, source: '128.0.0.0/1', destination: '255.0.0.0/8' },
      [udp('203.0.113.1:1', '255.1.2.3:7')],
      [udp('127.0.0.1:1', '255.1.2.3:7'), udp('203.0.113.1:1', '254.1.2.3:7')],
    ],
    [
      'ports',
      { mark: 1, ports: [1000, 2000] },
      [tcp(from, '198.51.100.1:1000'), udp(from, '198.51.100.1:1500'), tcp(from, '1.2.3.4:2000')],
      [tcp(from, '198.51.100.1:999'), udp(from, '198.51.100.1:2001'), tcp('1.2.3.4:1500', from)],
    ],
    [
      'one port, where byte order would show',
      { mark: 1, ports: [256, 256] },
      [tcp(from, '198.51.100.1:256')],
      [tcp(from, '198.51.100.1:1')],
    ],
    [
      'the whole range of ports',
      { mark: 1, ports: [0, 65535] },
      [tcp(from, '198.51.100.1:0'), tcp(from, '198.51.100.1:65535')],
      [],
    ],
    [
      'all of it',
      {
        mark: 1,
        protocol: 'tcp',
        source: '203.0.113.0/24',
        destination: '198.51.100.1/32',
        ports: [80, 81],
        interface: 'eth0',
      },
      [tcp(from, '198.51.100.1:80')],
      [
        udp(from, '198.51.100.1:80'),
        tcp('203.0.114.7:40000', '198.51.100.1:80'),
        tcp(from, '198.51.100.2:80'),
        tcp(from, '198.51.100.1:82'),
      ],
    ],
  ]
  for (const [name, rule, marked, unmarked] of cases)
    await t.test(name, async (t) => {
      const { redirected, passed } = checker(t, load(t, [rule]))
      marked.forEach((packet, i) => redirected(packet, `marked ${i}`))
      unmarked.forEach((packet, i) => passed(packet, `unmarked ${i}`))
      redirected(tcp(from, `${VIP}:80`), 'services stay')
    })

  await t.test('several rules: any of them', async (t) => {
    const rules: MarkRule[] = [
      { mark: 1, protocol: 'tcp', ports: [21, 21] },
      { mark: 2, protocol: 'udp', ports: [69, 69] },
      { mark: 3, destination: '198.51.100.7/32' },
    ]
    const { redirected, passed } = checker(t, load(t, rules))
    redirected(tcp(from, '198.51.100.1:21'), 'first')
    redirected(udp(from, '198.51.100.1:69'), 'second')
    redirected(tcp(from, '198.51.100.7:9'), 'third')
    passed(tcp(from, '198.51.100.1:69'), 'none')
  })
})

/** An ICMP message from a router, with the start of a packet. */
function about(quoted: ArrayLike<number>, type = IcmpType.unreachable, bytes = 28): Uint8Array {
  return icmpPacket({
    from: '198.51.100.254',
    to: VIP,
    type,
    payload: Array.from(quoted).slice(0, bytes),
  })
}

t.test('ICMP errors about packets of the director, in either direction', async (t) => {
  const program = load(t)
  const { redirected, passed } = checker(t, program)
  const ours: [string, Uint8Array][] = [
    ['a request on its way to the service', tcp(`${CLIENT}:40000`, `${VIP}:80`)],
    ['a reply of the service', tcp(`${VIP}:80`, `${CLIENT}:40000`)],
    ['a request on its way to the real server', tcp(`${CLIENT}:40000`, `${SERVER}:8080`)],
    ['a reply of the real server', tcp(`${SERVER}:8080`, `${CLIENT}:40000`)],
    ['a request to any port', tcp(`${CLIENT}:40000`, `${ANY_PORT_VIP}:1234`)],
    ['a reply of any port', tcp(`${ANY_PORT_VIP}:1234`, `${CLIENT}:40000`)],
    ['UDP to any port of a real server', udp(`${CLIENT}:40000`, `${ANY_PORT_SERVER}:1234`)],
    ['SCTP', sctp(`${CLIENT}:40000`, `${VIP}:9`)],
    ['IP options', tcp(`${CLIENT}:1`, `${VIP}:80`, { ipOptions: new Array(40).fill(1) })],
    ['a first fragment', udp(`${CLIENT}:1`, `${VIP}:53`, { moreFragments: true })],
  ]
  for (const [name, quoted] of ours) {
    for (const type of icmpErrors) redirected(about(quoted, type, 200), `type ${type}: ${name}`)
    const headerBytes = (quoted[0]! & 15) * 4
    redirected(about(quoted, IcmpType.timeExceeded, headerBytes + 4), `no more than ports: ${name}`)
    passed(about(quoted, IcmpType.timeExceeded, headerBytes + 3), `not even ports: ${name}`)
    passed(about(quoted, IcmpType.redirect, 200), `a redirect: ${name}`)
    passed(about(quoted, IcmpType.echoRequest, 200), `a ping: ${name}`)
  }
  const others: [string, Uint8Array][] = [
    ['another port', tcp(`${CLIENT}:40000`, `${VIP}:81`)],
    ['a port of another protocol', udp(`${VIP}:80`, `${CLIENT}:40000`)],
    ['other addresses', tcp('10.1.1.1:80', '10.1.1.2:80')],
    ['ICMP', icmpPacket({ from: VIP, to: CLIENT, type: IcmpType.echoReply })],
    ['a later fragment', tcp(`${CLIENT}:1`, `${VIP}:80`, { fragmentOffset: 1 })],
    ['IPv6', tcp(`${CLIENT}:1`, `${VIP}:80`, { version: 6 })],
    ['an impossible header length', tcp(`${CLIENT}:1`, `${VIP}:80`, { headerLength: 4 })],
  ]
  for (const [name, quoted] of others)
    for (const type of icmpErrors) passed(about(quoted, type, 200), `type ${type}: ${name}`)

  redirected(
    icmpPacket({
      from: '198.51.100.254',
      to: '10.0.0.1',
      type: IcmpType.unreachable,
      payload: tcp(`${CLIENT}:1`, `${SERVER}:8080`),
      ipOptions: new Array(8).fill(1),
    }),
    'options in front of the ICMP header, and an address that is no service',
  )
  for (const type of [IcmpType.echoRequest, IcmpType.echoReply, IcmpType.timestamp])
    passed(icmpPacket({ from: CLIENT, to: VIP, type, payload: 'x'.repeat(56) }), `type ${type}`)
})

t.test('ICMP errors about what marking rules match, on its way back', async (t) => {
  const { redirected, passed } = checker(
    t,
    load(t, [{ mark: 1, protocol: 'tcp', destination: '198.51.100.1/32', ports: [21, 22] }]),
  )
  const reply = tcp('198.51.100.1:21', `${CLIENT}:40000`)
  for (const type of icmpErrors) redirected(about(reply, type), `type ${type}`)
  passed(about(tcp('198.51.100.1:23', `${CLIENT}:40000`)), 'another port')
  passed(about(tcp('198.51.100.2:21', `${CLIENT}:40000`)), 'another address')
})

t.test('ICMP errors about tunnels of the director', async (t) => {
  const rule: MarkRule = { mark: 1, destination: '198.51.100.1/32' }
  const { redirected, passed } = checker(t, load(t, [rule]))
  const tunnel = { source: '10.0.0.1', destination: SERVER }
  const request = tcp(`${CLIENT}:40000`, `${VIP}:80`)
  for (const type of icmpErrors)
    redirected(about(ipipPacket(tunnel, request), type, 200), `type ${type}`)
  redirected(about(ipipPacket(tunnel, request), IcmpType.unreachable, 44), 'no more than the ports')
  passed(about(ipipPacket(tunnel, request), IcmpType.unreachable, 43), 'not even the ports')
  passed(about(ipipPacket(tunnel, request), IcmpType.unreachable, 28), 'the least a router quotes')
  redirected(
    about(ipipPacket(tunnel, tcp(`${CLIENT}:40000`, '198.51.100.1:5')), 3, 200),
    'a marked packet inside',
  )
  passed(about(ipipPacket(tunnel, tcp(`${CLIENT}:40000`, `${VIP}:81`)), 3, 200), 'another port')
  passed(
    about(ipipPacket(tunnel, ipipPacket(tunnel, request)), 3, 200),
    'a tunnel in a tunnel is none of ours',
  )
  passed(
    about(ipipPacket({ ...tunnel, fragmentOffset: 3 }, request), 3, 200),
    'a later fragment of a tunnel',
  )
  passed(ipipPacket(tunnel, request), 'and tunnels themselves')
})

t.test('fragments, whose ports may be in another one', async (t) => {
  const program = load(t, [
    { mark: 1, protocol: 'udp', destination: '198.51.100.1/32' },
    { mark: 2, protocol: 'udp', destination: '198.51.100.2/32', ports: [1, 65535] },
  ])
  const { redirected, passed } = checker(t, program)
  const kinds: [string, Partial<Ends>][] = [
    ['first', { dontFragment: false, moreFragments: true }],
    ['middle', { dontFragment: false, moreFragments: true, fragmentOffset: 185 }],
    ['last', { dontFragment: false, fragmentOffset: 370 }],
    ['at the end', { dontFragment: false, fragmentOffset: 0x1fff }],
    ['at 256 times 8 bytes', { dontFragment: false, fragmentOffset: 0x100 }],
  ]
  for (const [name, more] of kinds) {
    redirected(udp(`${CLIENT}:1`, `${VIP}:53`, more), `to a service: ${name}`)
    redirected(udp(`${CLIENT}:1`, `${VIP}:54`, more), `with a port of another: ${name}`)
    redirected(tcp(`${CLIENT}:1`, `${ANY_PORT_VIP}:5`, more), `to any port: ${name}`)
    redirected(tcp(`${SERVER}:8080`, `${CLIENT}:1`, more), `from a real server: ${name}`)
    redirected(udp(`${CLIENT}:1`, '198.51.100.1:9', more), `of a marking rule: ${name}`)
    passed(udp(`${CLIENT}:1`, '198.51.100.2:550', more), `of a rule with ports: ${name}`)
    passed(udp(`${CLIENT}:1`, `${ANY_PORT_VIP}:5`, more), `of another protocol: ${name}`)
    passed(udp(`${VIP}:53`, `${CLIENT}:1`, more), `from a service: ${name}`)
    passed(tcp(`${CLIENT}:1`, `${SERVER}:8080`, more), `to a real server: ${name}`)
    passed(
      icmpPacket({ from: CLIENT, to: VIP, type: IcmpType.unreachable, payload: 'x', ...more }),
      `of ICMP: ${name}`,
    )
    passed(udp(`${CLIENT}:1`, '203.0.113.9:53', more), `to another address: ${name}`)
  }
  redirected(
    ipv4Packet({ source: CLIENT, destination: VIP, protocol: 17, fragmentOffset: 370 }, [1]),
    'of one byte',
  )
  passed(
    udp(`${CLIENT}:1`, '198.51.100.3:550', { dontFragment: true }),
    'DF alone makes no fragment',
  )
})

t.test('frames that are for somebody else, or no IPv4', async (t) => {
  const program = load(t)
  const packet = tcp(`${CLIENT}:40000`, `${VIP}:80`)
  const action = (frame: Uint8Array): string => actionOn(program, frame)
  t.equal(action(frameOf(packet)), 'redirect', 'for us')
  for (const to of [
    'ff:ff:ff:ff:ff:ff',
    '01:00:5e:00:00:01',
    '02:00:00:00:00:03',
    '02:00:00:00:01:01',
    '02:00:00:ff:00:01',
    '03:00:00:00:00:01',
  ])
    t.equal(action(ethernetFrame({ from: PEER_MAC, to }, packet)), 'pass', `to ${to}`)
  for (const [name, type] of [
    ['ARP', 0x0806],
    ['IPv6', 0x86dd],
    ['MPLS', 0x8847],
    ['a length', 46],
    ['IPv4 with its bytes swapped', 0x0008],
  ] as const)
    t.equal(action(frameOf(packet, type)), 'pass', name)
  t.equal(action(frameOf([0, 5, 8, 0, ...packet], 0x8100)), 'pass', 'a VLAN tag')
  t.equal(action(frameOf([0, 5, 0x81, 0, 0, 6, 8, 0, ...packet], 0x88a8)), 'pass', 'two of them')
  const ipv6 = hex(`60000000 0014 06 40
    20010db8000000000000000000000001 20010db8000000000000000000000002
    9c40 0050 00000000 00000000 5002 faf0 0000 0000`)
  t.equal(action(frameOf(ipv6, 0x86dd)), 'pass', 'a real IPv6 packet')
  t.equal(action(frameOf(ipv6)), 'pass', 'a real IPv6 packet that says it is IPv4')
})

t.test('headers that cannot be', async (t) => {
  const { redirected, passed } = checker(t, load(t))
  // Whatever would be taken for its ports belongs to a service.
  const end = [`${CLIENT}:40000`, `${ANY_PORT_VIP}:80`] as const
  for (let version = 0; version < 16; version++)
    if (version !== 4) passed(tcp(...end, { version }), `version ${version}`)
  for (let headerLength = 0; headerLength < 5; headerLength++)
    passed(tcp(...end, { headerLength }), `header length ${headerLength}`)
  for (let words = 0; words <= 10; words++)
    redirected(
      tcp(...end, { ipOptions: new Array(4 * words).fill(1) }),
      `${4 * words} bytes of options`,
    )
  passed(tcp(...end, { ipOptions: [0, 80, 0, 80], headerLength: 15 }), 'a header beyond the frame')
  // What else is wrong with it the director finds out, and counts.
  redirected(tcp(...end, { headerChecksum: 0 }), 'a wrong checksum')
  redirected(tcp(...end, { totalLength: 20 }), 'a wrong length')
  redirected(tcp(...end, { ttl: 0 }), 'no time to live')
})

t.test('frames cut at every length', async (t) => {
  const program = load(t)
  const cut = (name: string, packet: Uint8Array, needed: number): void => {
    const frame = frameOf(packet)
    const actions = []
    for (let length = SHORTEST; length <= frame.length; length++)
      actions.push(actionOn(program, frame.slice(0, length)))
    const shortest = needed - SHORTEST
    t.ok(shortest > 0 && shortest < actions.length, `${name}: both kinds are there`)
    t.strictSame(new Set(actions.slice(0, shortest)), new Set(['pass']), `${name}: too short`)
    t.strictSame(new Set(actions.slice(shortest)), new Set(['redirect']), `${name}: long enough`)
  }
  cut('TCP', tcp(`${CLIENT}:40000`, `${VIP}:80`), TO_PORTS + 4)
  cut('UDP reply', udp(`${ANY_PORT_SERVER}:53`, `${CLIENT}:40000`), TO_PORTS + 4)
  cut(
    'with options',
    tcp(`${CLIENT}:40000`, `${VIP}:80`, { ipOptions: new Array(40).fill(1) }),
    TO_PORTS + 40 + 4,
  )
  const quoted = tcp(`${CLIENT}:40000`, `${VIP}:80`)
  cut('ICMP', about(quoted, IcmpType.unreachable, 200), TO_PORTS + 8 + 20 + 4)
  cut(
    'ICMP about a tunnel',
    about(ipipPacket({ source: '10.0.0.1', destination: SERVER }, quoted), 3, 200),
    TO_PORTS + 8 + 20 + 20 + 4,
  )
  const fragment = { dontFragment: false, fragmentOffset: 100 }
  cut('a fragment', udp(`${CLIENT}:1`, `${VIP}:53`, fragment), TO_PORTS)
  t.throws(() => program.run(new Uint8Array(SHORTEST - 1)), { code: 'EINVAL' })
})

t.test('long frames', async (t) => {
  const { redirected } = checker(t, load(t))
  for (const bytes of [1460, 3000])
    redirected(
      tcpPacket({ from: `${CLIENT}:1`, to: `${VIP}:80`, payload: 'x'.repeat(bytes) }),
      `${bytes} bytes`,
    )
})

t.test('a frame is not changed', async (t) => {
  const program = load(t, [{ mark: 1, protocol: 'udp' }])
  for (const packet of [
    tcp(`${CLIENT}:40000`, `${VIP}:80`),
    tcp(`${CLIENT}:40000`, `${VIP}:81`),
    about(tcp(`${VIP}:80`, `${CLIENT}:40000`)),
  ]) {
    const frame = frameOf(packet)
    t.strictSame(native().bpfProgramRun(program.descriptor, frame).packet, frame)
  }
})

t.test("without a socket the director's frames pass, too", async (t) => {
  const program = load(t, [], false)
  t.equal(actionOn(program, frameOf(tcp(`${CLIENT}:40000`, `${VIP}:80`))), 'pass')
  t.equal(actionOn(program, frameOf(tcp(`${CLIENT}:40000`, `${VIP}:81`))), 'pass')
})

t.test('as many marking rules as are allowed', async (t) => {
  const rules = Array.from({ length: MAX_MARK_RULES }, (_, i): MarkRule => ({
    mark: i + 1,
    protocol: 'tcp',
    source: '203.0.113.0/24',
    destination: `198.51.${i >> 8}.${i & 255}/32`,
    ports: [i, i + 1],
  }))
  const { redirected, passed } = checker(t, load(t, rules))
  for (const i of [0, 1, 255, 256, MAX_MARK_RULES - 1])
    redirected(tcp(`${CLIENT}:1`, `198.51.${i >> 8}.${i & 255}:${i}`), `rule ${i}`)
  passed(tcp(`${CLIENT}:1`, '198.51.0.7:9'), 'none of them')
})

/** A generator with a seed that is printed: a failure can be repeated. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

t.test('random and mutated frames fare as the rules say, and none aborts', async (t) => {
  const marks: MarkRule[] = [
    { mark: 1, protocol: 'tcp', source: '203.0.113.0/24', ports: [20, 25] },
    { mark: 2, destination: '198.51.100.0/24' },
    { mark: 3, protocol: 'udp', source: '198.51.0.0/16' },
  ]
  const program = load(t, marks)
  const seed = seedOr(1)
  const random = randomFrom(seed)
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!
  const addresses = [VIP, ANY_PORT_VIP, SERVER, ANY_PORT_SERVER, CLIENT, '198.51.100.1', '10.0.0.1']
  const ports = [0, 9, 22, 53, 80, 8080, 40000]
  const end = (): string => `${pick(addresses)}:${pick(ports)}`
  const more = (): Partial<Ends> => ({
    ...(random(3) === 0 ? { ipOptions: new Array(4 * random(11)).fill(random(256)) } : {}),
    ...(random(6) === 0
      ? { moreFragments: random(2) === 0, fragmentOffset: pick([0, 0, 1, 185, 8191]) }
      : {}),
  })
  const simple = (): Uint8Array => pick([tcp, udp, sctp])(end(), end(), more())
  const tunnel = (): Uint8Array =>
    ipipPacket({ source: pick(addresses), destination: pick(addresses), ...more() }, simple())
  const error = (): Uint8Array =>
    icmpPacket({
      from: pick(addresses),
      to: pick(addresses),
      type: pick([0, 3, 3, 3, 4, 5, 8, 11, 12]),
      payload: pick([simple, simple, tunnel])().slice(0, pick([20, 28, 48, 200])),
      ...more(),
    })
  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => random(256))

  const counts: Record<string, number> = {}
  const problems: string[] = []
  for (let i = 0; i < 30_000; i++) {
    let frame = frameOf(pick([simple, simple, error, tunnel, () => bytes(random(200))])())
    if (random(3) === 0) for (let n = 1 + random(4); n > 0; n--) frame[random(60)] = random(256)
    if (random(4) === 0) frame = frame.slice(0, SHORTEST + random(frame.length - SHORTEST + 1))
    if (random(50) === 0) frame = bytes(SHORTEST + random(1500))
    const action = actionOn(program, frame)
    const expected = belongs(frame, macBytes(OWN_MAC), { ...flows, marks }) ? 'redirect' : 'pass'
    counts[action] = (counts[action] ?? 0) + 1
    if (action !== expected)
      problems.push(`${action} instead of ${expected}: ${Buffer.from(frame).toString('hex')}`)
  }
  t.strictSame(problems.slice(0, 3), [], `seed ${seed}`)
  t.strictSame(Object.keys(counts).sort(), ['pass', 'redirect'], `seed ${seed}`)
  t.ok(
    Math.min(...Object.values(counts)) > 1000,
    `seed ${seed}: both often: ${JSON.stringify(counts)}`,
  )
})
