import t from 'tap'
import { compareTraces, type Difference } from '../../src/scenario/compare.js'
import { decodePacket, hexOf, summary } from '../../src/scenario/decode.js'
import type { Event } from '../../src/scenario/scenario.js'
import type { ConnectionRecord, SentPacket, Trace } from '../../src/scenario/trace.js'
import { icmpPacket, ipipPacket, ipv4Packet, tcpPacket, udpPacket } from '../support/packets.js'

const request = tcpPacket({ from: '10.1.9.1:1024', to: '10.1.0.100:80', flags: 'S' })
const forwarded = (fields: Partial<Parameters<typeof tcpPacket>[0]> = {}): Uint8Array =>
  tcpPacket({ from: '10.1.9.1:1024', to: '10.2.0.3:8080', flags: 'S', ttl: 63, ...fields })

const packet = (bytes: Uint8Array): Event => ({
  kind: 'packet',
  packet: bytes,
  side: 'client',
  mark: 0,
  line: 1,
  atMs: 0,
})
const command: Event = { kind: 'ipvsadm', args: ['-C'], line: 2, atMs: 0 }

const end = (services = '', connections: ConnectionRecord[] = []): Trace[number] => ({
  end: true,
  services,
  connections,
})
const sent = (bytes: Uint8Array, fields: Partial<SentPacket> = {}): SentPacket => ({
  side: 'server',
  dmac: '02:00:0a:02:00:03',
  ip: hexOf(bytes),
  ...fields,
})

/** What differs when both answer one packet. */
function differ(
  received: Uint8Array,
  ours: SentPacket[],
  kernels: SentPacket[],
  declined: [boolean, boolean] = [false, false],
): Difference | undefined {
  return compareTraces(
    [packet(received)],
    [{ line: 1, out: ours, declined: declined[0] }, end()],
    [{ line: 1, out: kernels, declined: declined[1] }, end()],
  )
}

t.test('packets: all that they say is compared', (t) => {
  t.equal(differ(request, [sent(forwarded())], [sent(forwarded())]), undefined)
  t.equal(differ(request, [], []), undefined)
  const cases: [Partial<Parameters<typeof tcpPacket>[0]>, string][] = [
    [{ ttl: 64 }, 'TTL'],
    [{ to: '10.2.0.4:8080' }, 'destination'],
    [{ to: '10.2.0.3:80' }, 'destination port'],
    [{ from: '10.1.9.2:1024' }, 'source'],
    [{ from: '10.1.9.1:1025' }, 'source port'],
    [{ flags: 'SA' }, 'acknowledgement'],
    [{ id: 7 }, 'identification'],
    [{ tos: 4 }, 'type of service'],
    [{ dontFragment: false }, 'DF'],
    [{ payload: 'x' }, 'payload'],
    [{ window: 1 }, 'window'],
    [{ checksum: 1 }, 'checksum'],
    [{ headerChecksum: 1 }, 'header checksum'],
    [{ tcpOptions: [1, 1, 1, 0] }, 'data offset'],
    [{ ipOptions: [1, 1, 1, 0] }, 'header length'],
  ]
  for (const [fields, name] of cases) {
    const difference = differ(request, [sent(forwarded(fields))], [sent(forwarded())])
    t.equal(difference?.kind, `out: ${name}`, name)
    t.equal(difference?.line, 1)
  }
  t.equal(differ(request, [], [sent(forwarded())])?.kind, 'out: 0 packets instead of 1')
  t.equal(
    differ(request, [sent(forwarded(), { dmac: '02:00:0a:02:00:04' })], [sent(forwarded())])?.kind,
    'out: dmac',
  )
  t.equal(
    differ(request, [sent(forwarded(), { side: 'client' })], [sent(forwarded())])?.kind,
    'out: side',
  )
  t.equal(differ(request, [], [], [true, false])?.kind, 'declined')
  t.end()
})

t.test('packets on two links have no order among them, on one they have', (t) => {
  const one = sent(forwarded())
  const other = sent(forwarded(), { side: 'client' })
  const third = sent(forwarded({ ttl: 9 }))
  t.equal(differ(request, [one, other], [other, one]), undefined)
  t.equal(differ(request, [one, third], [third, one])?.kind, 'out: TTL')
  t.end()
})

t.test("what the kernel draws at random in the director's own packets is left out", (t) => {
  const datagram = udpPacket({ from: '10.1.9.1:1024', to: '10.1.0.100:53', dontFragment: false })
  const inner = udpPacket({
    from: '10.1.9.1:1024',
    to: '10.1.0.100:53',
    dontFragment: false,
    ttl: 63,
  })
  const outer = (fields: Record<string, unknown>): Uint8Array =>
    ipipPacket(
      { source: '10.2.0.1', destination: '10.2.0.3', dontFragment: false, ttl: 63, ...fields },
      inner,
    )
  const differing = (
    received: Uint8Array,
    ours: Uint8Array,
    kernels: Uint8Array,
  ): string | undefined => differ(received, [sent(ours)], [sent(kernels)])?.kind

  t.equal(differing(datagram, outer({ id: 1 }), outer({ id: 2 })), undefined, 'outer header')
  t.equal(
    differing(datagram, outer({ id: 1, dontFragment: true }), outer({ id: 2, dontFragment: true })),
    'out: identification',
    'with DF nothing is drawn',
  )
  t.equal(
    differing(datagram, outer({ id: 1, headerChecksum: 0x1234 }), outer({ id: 2 })),
    'out: header checksum',
    'the header checksum still has to be right',
  )
  t.equal(
    differing(datagram, outer({ id: 1, ttl: 64 }), outer({ id: 2 })),
    'out: TTL',
    'the other fields of the outer header count',
  )
  t.equal(
    differing(
      datagram,
      udpPacket({ from: '10.1.9.1:1024', to: '10.2.0.3:53', dontFragment: false, id: 1 }),
      udpPacket({ from: '10.1.9.1:1024', to: '10.2.0.3:53', dontFragment: false, id: 2 }),
    ),
    'out: identification',
    'a forwarded packet keeps its own',
  )
  // A tunnel's packet that is only passing.
  const passing = ipv4Packet(
    { source: '10.1.9.1', destination: '10.3.0.1', protocol: 4, dontFragment: false },
    inner,
  )
  const passed = (id: number): Uint8Array =>
    ipv4Packet(
      { source: '10.1.9.1', destination: '10.3.0.1', protocol: 4, dontFragment: false, id },
      inner,
    )
  t.equal(differing(passing, passed(1), passed(2)), 'out: identification', 'another tunnel')

  const error = (id: number, quoted: Uint8Array): Uint8Array =>
    icmpPacket({
      from: '10.1.0.100',
      to: '10.1.9.1',
      type: 3,
      code: 3,
      id,
      dontFragment: false,
      payload: quoted,
    })
  t.equal(differing(request, error(1, request), error(2, request)), undefined, 'an ICMP error')
  t.equal(
    differing(request, error(1, request), error(2, forwarded())),
    'out: quoted TTL',
    'what it quotes counts',
  )
  const received = icmpPacket({
    from: '10.2.0.3',
    to: '10.1.9.1',
    type: 3,
    code: 3,
    id: 5,
    dontFragment: false,
    payload: forwarded(),
  })
  t.equal(
    differing(received, error(5, request), error(6, request)),
    'out: identification',
    'an ICMP error that is passed on keeps its own',
  )
  const aboutTunnel = icmpPacket({
    from: '10.2.0.9',
    to: '10.2.0.1',
    type: 3,
    code: 4,
    dontFragment: false,
    payload: outer({ id: 77 }),
  })
  t.equal(
    differing(aboutTunnel, error(5, inner), error(6, inner)),
    undefined,
    "an error about a tunnel's packet is answered by one of the director's own",
  )
  t.end()
})

t.test('fragments of an originated packet share what was drawn', (t) => {
  const datagram = udpPacket({ from: '10.1.9.1:1024', to: '10.1.0.100:53', dontFragment: false })
  const tunnelled = ipipPacket({ source: '10.2.0.1', destination: '10.2.0.3' }, datagram)
  const pieces = (first: number, second: number): SentPacket[] => [
    sent(
      ipv4Packet(
        {
          source: '10.2.0.1',
          destination: '10.2.0.3',
          protocol: 4,
          dontFragment: false,
          moreFragments: true,
          id: first,
        },
        tunnelled.subarray(20, 44),
      ),
    ),
    sent(
      ipv4Packet(
        {
          source: '10.2.0.1',
          destination: '10.2.0.3',
          protocol: 4,
          dontFragment: false,
          fragmentOffset: 3,
          id: second,
        },
        tunnelled.subarray(44),
      ),
    ),
  ]
  t.equal(differ(datagram, pieces(1, 1), pieces(2, 2)), undefined)
  t.equal(differ(datagram, pieces(1, 3), pieces(2, 2))?.kind, 'out: identification')
  t.end()
})

t.test('Generic UDP Encapsulation: its source port is drawn, its checksum has to be right', (t) => {
  const inner = tcpPacket({
    from: '10.1.9.1:1024',
    to: '10.1.0.100:80',
    flags: 'S',
    ttl: 63,
  })
  const gue = (port: number, fields: { checksum?: number; to?: string } = {}): SentPacket =>
    sent(
      udpPacket({
        from: `10.2.0.1:${port}`,
        to: fields.to ?? '10.2.0.3:6080',
        id: 0,
        ttl: 63,
        payload: [0, 4, 0, 0, ...inner],
        ...(fields.checksum !== undefined && { checksum: fields.checksum }),
      }),
    )
  t.equal(differ(request, [gue(5000)], [gue(6000)]), undefined)
  t.equal(differ(request, [gue(5000, { checksum: 0 })], [gue(6000, { checksum: 0 })]), undefined)
  t.equal(differ(request, [gue(5000, { checksum: 0 })], [gue(6000)])?.kind, 'out: checksum')
  t.equal(differ(request, [gue(5000, { checksum: 9 })], [gue(6000)])?.kind, 'out: checksum')
  t.equal(
    differ(request, [gue(5000, { to: '10.2.0.3:6081' })], [gue(6000)])?.kind,
    'out: destination port',
  )
  t.end()
})

t.test('commands', (t) => {
  const run = (ours: Partial<Trace[number]>, kernels: Partial<Trace[number]>): string | undefined =>
    compareTraces(
      [command],
      [{ line: 2, exit: 0, stdout: '', stderr: '', ...ours } as Trace[number], end()],
      [{ line: 2, exit: 0, stdout: '', stderr: '', ...kernels } as Trace[number], end()],
    )?.kind
  t.equal(run({}, {}), undefined)
  t.equal(run({ exit: 255 }, {}), 'exit')
  t.equal(run({ stderr: 'a' }, { stderr: 'b' }), 'stderr')
  t.equal(run({ stdout: 'a\n' }, { stdout: 'b\n' }), 'stdout')

  const head =
    'IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n' +
    '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n'
  const one = 'TCP  10.1.0.100:80 rr\n  -> 10.2.0.3:80  Masq 1 0 0\n  -> 10.2.0.4:80  Masq 1 0 0\n'
  const two = 'UDP  10.1.0.100:80 rr\n  -> 10.2.0.3:80  Masq 1 0 0\n'
  t.equal(run({ stdout: head + one + two }, { stdout: head + two + one }), undefined, 'services')
  const turned =
    'TCP  10.1.0.100:80 rr\n  -> 10.2.0.4:80  Masq 1 0 0\n  -> 10.2.0.3:80  Masq 1 0 0\n'
  t.equal(run({ stdout: head + turned }, { stdout: head + one }), 'stdout', 'destinations')
  t.equal(run({ stdout: head }, { stdout: head + one }), 'stdout')

  const title =
    'IPVS connection entries\npro expire state       source             virtual            destination\n'
  const a = (time: string, state = 'SYN_RECV'): string =>
    `TCP ${time}  ${state}    10.1.9.1:1024      10.1.0.100:80      10.2.0.3:80\n`
  const b = 'UDP 04:59  UDP         10.1.9.1:1024      10.1.0.100:53      10.2.0.3:53\n'
  t.equal(run({ stdout: title + a('01:00') + b }, { stdout: title + b + a('00:59') }), undefined)
  t.equal(
    run({ stdout: title + a('01:00') }, { stdout: title + a('00:58') }),
    'connections: expire',
  )
  t.equal(
    run({ stdout: title + a('01:00', 'NONE') }, { stdout: title + a('01:00') }),
    'connections: state',
  )
  t.equal(run({ stdout: title + b }, { stdout: title }), 'connections: one too many')
  t.end()
})

t.test('the end', (t) => {
  const connection: ConnectionRecord = {
    pro: 'TCP',
    expire: 60,
    state: 'SYN_RECV',
    source: '10.1.9.1:1024',
    virtual: '10.1.0.100:80',
    destination: '10.2.0.3:80',
  }
  const ends = (ours: Trace[number], kernels: Trace[number]): Difference | undefined =>
    compareTraces([], [ours], [kernels])
  t.equal(ends(end('', [connection]), end('', [{ ...connection, expire: 61 }])), undefined)
  const other = { ...connection, source: '10.1.9.2:1024' }
  t.equal(ends(end('', [connection, other]), end('', [other, connection])), undefined)
  t.match(ends(end('', [connection]), end('', [{ ...connection, expire: 62 }])), {
    kind: 'connections: expire',
    line: undefined,
  })
  t.equal(
    ends(end('', [connection]), end('', [{ ...connection, destination: '10.2.0.4:80' }]))?.kind,
    'connections: destination',
  )
  t.equal(
    ends(end('', [connection]), end('', [connection, connection]))?.kind,
    'connections: one missing',
  )
  t.equal(ends(end('TCP  a rr\n'), end('TCP  a wlc\n'))?.kind, 'services')
  t.match(
    compareTraces([command], [end()], [{ line: 2, exit: 0, stdout: '', stderr: '' }, end()]),
    {
      kind: 'records',
      line: 2,
    },
    'a trace that is too short',
  )
  t.end()
})

t.test('packets in words', (t) => {
  t.equal(summary(request), 'TCP 10.1.9.1:1024 > 10.1.0.100:80 S, TTL 64, id 0x1234')
  t.equal(
    summary(
      icmpPacket({ from: '10.2.0.3', to: '10.1.9.1', type: 3, code: 3, id: 0, payload: request }),
    ),
    'ICMP 10.2.0.3 > 10.1.9.1 port unreachable, TTL 64, ' +
      'quoted [TCP 10.1.9.1:1024 > 10.1.0.100:80 S, TTL 64, id 0x1234]',
  )
  t.equal(
    summary(forwarded({ headerChecksum: 1, checksum: 2, id: 0 })),
    'TCP 10.1.9.1:1024 > 10.2.0.3:8080 S, TTL 63, header checksum WRONG, checksum WRONG',
  )
  for (let length = 0; length < 60; length++)
    for (const first of [0x45, 0x4f, 0x60, 0x00])
      t.doesNotThrow(() =>
        summary(Uint8Array.from({ length }, (_, i) => (i === 0 ? first : i === 6 ? 44 : i))),
      )
  // Every byte of a packet shows in some field.
  for (const whole of [request, forwarded({ tcpOptions: [1, 1, 1, 0], payload: 'x' })]) {
    const before = JSON.stringify(decodePacket(whole))
    for (let i = 0; i < whole.length; i++) {
      const changed = whole.slice()
      changed[i]! ^= 0x10
      t.not(JSON.stringify(decodePacket(changed)), before, `byte ${i}`)
    }
  }
  t.end()
})
