import t from 'tap'
import { HopState } from '../../src/port/neighbours.js'
import { reasons } from '../../src/core/verdict.js'
import {
  icmpPacket,
  ipipPacket,
  ipv4Packet,
  packetProblems,
  samePacket,
  tcpPacket,
  udpPacket,
} from '../support/packets.js'
import { Harness, SERVER_SIDE, tcpService, udpService, VIP } from './harness.js'

const CLIENT = '198.51.100.7'
const SERVER = '10.0.0.2'
const request = { from: `${CLIENT}:40000`, to: `${VIP}:80` }

/** A director with one masqueraded TCP service. */
function masquerading(): Harness {
  const h = new Harness()
  h.addService(tcpService())
  h.addDestination(tcpService(), `${SERVER}:8080`)
  return h
}

/** What an ICMP error quotes: at most 548 bytes of the packet. */
function icmpError(
  to: string,
  type: number,
  code: number,
  quoted: Uint8Array,
  fields: { from?: string; rest?: number } = {},
): Uint8Array {
  return icmpPacket({
    from: VIP,
    to,
    type,
    code,
    tos: 0xc0,
    dontFragment: false,
    payload: quoted.slice(0, 548),
    ...fields,
  })
}

/** The part of tap's `t` that this file's helpers need. */
type Asserter = Pick<typeof t, 'strictSame'>

/** Compares all but the identification, which is arbitrary. */
function sameButId(t: Asserter, actual: Uint8Array | undefined, expected: Uint8Array): void {
  t.strictSame(packetProblems(actual!), [])
  const clear = (packet: Uint8Array): Uint8Array => {
    const copy = packet.slice()
    copy.fill(0, 4, 6)
    copy.fill(0, 10, 12)
    return copy
  }
  samePacket(t, clear(actual!), clear(expected))
}

t.test('masquerading', (t) => {
  t.test('a request gets its destination’s address and port, and a hop less to live', (t) => {
    const h = masquerading()
    const syn = { ...request, flags: 'S', ttl: 64, payload: 'odd' }
    const out = h.send(tcpPacket(syn))
    t.equal(out.verdict, 'forward')
    samePacket(t, out.packet, tcpPacket({ ...syn, to: `${SERVER}:8080`, ttl: 63 }))
    t.equal(out.hop, 2)
    t.end()
  })

  t.test('a reply gets the virtual address and port back', (t) => {
    const h = masquerading()
    h.send(tcpPacket({ ...request, flags: 'S' }))
    const reply = { to: `${CLIENT}:40000`, flags: 'SA', tcpOptions: [2, 4, 5, 180] }
    const out = h.send(tcpPacket({ ...reply, from: `${SERVER}:8080` }))
    samePacket(t, out.packet, tcpPacket({ ...reply, from: `${VIP}:80`, ttl: 63 }))
    t.equal(out.hop, 1)
    t.end()
  })

  t.test('UDP goes both ways, and a datagram without a checksum gets one', (t) => {
    const h = new Harness()
    h.addService(udpService(53))
    h.addDestination(udpService(53), `${SERVER}:5353`)
    for (const fields of [{}, { checksum: 0 }]) {
      const out = h.send(udpPacket({ from: `${CLIENT}:1`, to: `${VIP}:53`, ...fields }))
      const sent = udpPacket({ from: `${CLIENT}:1`, to: `${SERVER}:5353`, ttl: 63 })
      samePacket(t, out.packet, sent)
      const back = h.send(udpPacket({ from: `${SERVER}:5353`, to: `${CLIENT}:1`, ...fields }))
      const seen = udpPacket({ from: `${VIP}:53`, to: `${CLIENT}:1`, ttl: 63 })
      samePacket(t, back.packet, seen)
    }
    t.end()
  })

  t.test('a wrong transport checksum stays as wrong as it was', (t) => {
    const h = masquerading()
    const right = tcpPacket({ ...request, flags: 'S' })
    const wrong = right.slice()
    wrong[36]! ^= 0x40
    const outRight = h.send(right).packet!
    const outWrong = h.send(wrong).packet!
    t.strictSame(packetProblems(outRight), [])
    t.strictSame(packetProblems(outWrong), ['TCP checksum'])
    t.end()
  })

  t.test('IP options and what follows the packet: the first stay, the second is cut off', (t) => {
    const h = masquerading()
    const syn = { ...request, flags: 'S', ipOptions: [1, 1, 1, 0] }
    const out = h.send(tcpPacket(syn), 0, 6)
    samePacket(t, out.packet, tcpPacket({ ...syn, to: `${SERVER}:8080`, ttl: 63 }))
    t.end()
  })
  t.end()
})

t.test('direct routing changes nothing but the TTL and the next hop', (t) => {
  const h = new Harness()
  h.addService(tcpService())
  h.addDestination(tcpService(), SERVER, { forwarding: 'direct-route' })
  const syn = { ...request, flags: 'S' }
  const out = h.send(tcpPacket(syn))
  samePacket(t, out.packet, tcpPacket({ ...syn, ttl: 63 }))
  t.equal(out.hop, 2)
  t.end()
})

t.test('tunneling puts an outer header before the packet, with its TOS, TTL and DF', (t) => {
  const h = new Harness()
  h.addService(tcpService())
  h.addDestination(tcpService(), SERVER, { forwarding: 'tunnel' })
  const syn = { ...request, flags: 'S', tos: 0x10 }
  const out = h.send(tcpPacket(syn))
  const outer = { source: SERVER_SIDE, destination: SERVER, ttl: 63, tos: 0x10 }
  samePacket(t, out.packet, ipipPacket({ ...outer, id: 0 }, tcpPacket({ ...syn, ttl: 63 })))
  const loose = { ...syn, flags: 'A', dontFragment: false }
  const first = h.send(tcpPacket(loose)).packet!
  const second = h.send(tcpPacket(loose)).packet!
  const id = first[4]! * 256 + first[5]!
  samePacket(
    t,
    first,
    ipipPacket({ ...outer, id, dontFragment: false }, tcpPacket({ ...loose, ttl: 63 })),
  )
  t.not(second[4]! * 256 + second[5]!, id, 'every packet that may be cut has an id of its own')
  t.end()
})

t.test('without path MTU discovery the outer header never has DF', (t) => {
  const h = new Harness({ settings: { pathMtuDiscovery: 0 } })
  h.addService(tcpService())
  h.addDestination(tcpService(), SERVER, { forwarding: 'tunnel' })
  const out = h.send(tcpPacket({ ...request, flags: 'S' })).packet!
  t.equal(out[6]! & 0x40, 0)
  const full = h.send(tcpPacket({ ...request, payload: new Uint8Array(1460) }))
  t.equal(full.packet!.length, 1520, 'and what is too long is left to be cut')
  t.end()
})

t.test('what is not the director’s', (t) => {
  const declined: [string, Uint8Array, string][] = [
    ['no service there', tcpPacket({ ...request, to: `${VIP}:81`, flags: 'S' }), 'no-service'],
    ['another address', udpPacket({ from: `${CLIENT}:1`, to: '192.0.2.2:80' }), 'no-service'],
    ['no SYN', tcpPacket({ ...request, flags: 'A' }), 'no-connection'],
    ['SYN with RST', tcpPacket({ ...request, flags: 'SR' }), 'no-connection'],
    [
      'FTP’s data port',
      tcpPacket({ from: `${CLIENT}:20`, to: `${VIP}:80`, flags: 'S' }),
      'no-connection',
    ],
    ['ping', icmpPacket({ from: CLIENT, to: VIP, type: 8 }), 'icmp-unrelated'],
    [
      'GRE',
      ipv4Packet({ source: CLIENT, destination: VIP, protocol: 47 }, [0, 0, 8, 0]),
      'unsupported-protocol',
    ],
    [
      'a fragment for somebody else that no router passes on',
      udpPacket({ from: `${CLIENT}:1`, to: '192.0.2.2:80', moreFragments: true, ttl: 1 }),
      'fragment',
    ],
    [
      'a fragment for somebody else of a protocol without services',
      ipv4Packet(
        { source: CLIENT, destination: '192.0.2.2', protocol: 47, moreFragments: true },
        new Uint8Array(8),
      ),
      'unsupported-protocol',
    ],
    [
      'a real server of no connection',
      tcpPacket({ from: `${SERVER}:8080`, to: `${CLIENT}:1`, flags: 'A' }),
      'no-service',
    ],
  ]
  for (const [name, packet, reason] of declined)
    t.test(`${name}: declined and untouched`, (t) => {
      const h = masquerading()
      const out = h.send(packet)
      t.match(out, { verdict: 'decline', reason })
      t.strictSame(h.connections(), [])
      samePacket(t, h.received(packet.length), packet)
      t.end()
    })
  t.end()
})

t.test('what is malformed is dropped under its reason', (t) => {
  const h = masquerading()
  const good = tcpPacket({ ...request, flags: 'S' })
  const changed = (at: number, value: number): Uint8Array => {
    const packet = good.slice()
    packet[at] = value
    return packet
  }
  const cases: [Uint8Array, string][] = [
    [new Uint8Array(0), 'truncated-ip-header'],
    [good.slice(0, 19), 'truncated-ip-header'],
    [changed(0, 0x55), 'bad-ip-version'],
    [changed(0, 0x44), 'bad-header-length'],
    [changed(3, 200), 'bad-total-length'],
    [changed(3, 19), 'bad-total-length'],
    [changed(8, 1), 'bad-ip-checksum'],
    [
      ipv4Packet({ source: CLIENT, destination: VIP, protocol: 6 }, good.slice(20, 39)),
      'truncated-transport-header',
    ],
    [
      ipv4Packet({ source: CLIENT, destination: VIP, protocol: 17 }, [1, 2, 3, 4, 0, 8, 0]),
      'truncated-transport-header',
    ],
    [
      ipv4Packet({ source: CLIENT, destination: VIP, protocol: 1 }, [3, 3, 0, 0]),
      'truncated-transport-header',
    ],
    [tcpPacket({ ...request, from: '127.0.0.1:1', flags: 'S' }), 'martian-source'],
    [tcpPacket({ ...request, from: '224.0.0.1:1', flags: 'S' }), 'martian-source'],
    [tcpPacket({ ...request, from: '0.0.0.0:1', flags: 'S' }), 'martian-source'],
    [tcpPacket({ ...request, from: '255.255.255.255:1', flags: 'S' }), 'martian-source'],
  ]
  for (const [packet, reason] of cases) {
    t.match(h.send(packet), { verdict: 'drop', reason, packet: undefined }, reason)
  }
  t.strictSame(h.connections(), [])
  const counted = h.execute({ op: 'get-counters' }).reasons
  t.strictSame(Object.keys(counted), [...reasons])
  t.equal(counted['martian-source'], 4)
  t.end()
})

t.test('a packet at its last hop is answered with time exceeded', (t) => {
  t.test('from the virtual address when it is a request', (t) => {
    const h = masquerading()
    const syn = tcpPacket({ ...request, flags: 'S', ttl: 1 })
    const out = h.send(syn)
    t.match(out, { verdict: 'forward', reason: 'ttl-exceeded', hop: 1 })
    sameButId(t, out.packet, icmpError(CLIENT, 11, 0, syn))
    t.end()
  })
  t.test('from the director’s own address when it is a reply', (t) => {
    const h = masquerading()
    h.send(tcpPacket({ ...request, flags: 'S' }))
    const reply = tcpPacket({ from: `${SERVER}:8080`, to: `${CLIENT}:40000`, flags: 'SA', ttl: 1 })
    const out = h.send(reply)
    t.match(out, { verdict: 'forward', reason: 'ttl-exceeded', hop: 2 })
    sameButId(t, out.packet, icmpError(SERVER, 11, 0, reply, { from: SERVER_SIDE }))
    t.end()
  })
  t.end()
})

t.test('a packet too long for the way on', (t) => {
  const long = { ...request, payload: new Uint8Array(1381).fill(7) }

  t.test('is answered with the MTU if it may not be cut', (t) => {
    const h = masquerading()
    h.neighbours.mtu[2] = 1400
    h.send(tcpPacket({ ...request, flags: 'S' }))
    const out = h.send(tcpPacket(long))
    t.match(out, { verdict: 'forward', reason: 'too-big', hop: 1 })
    // As in the kernel, the TTL has been taken from by then.
    sameButId(
      t,
      out.packet,
      icmpError(CLIENT, 3, 4, tcpPacket({ ...long, ttl: 63 }), { rest: 1400 }),
    )
    t.equal(out.packet!.length, 576)
    t.end()
  })
  t.test('is sent on whole, for others to cut, if it may be', (t) => {
    const h = masquerading()
    h.neighbours.mtu[2] = 1400
    h.send(tcpPacket({ ...request, flags: 'S' }))
    const out = h.send(tcpPacket({ ...long, dontFragment: false }))
    t.match(out, { verdict: 'forward', reason: undefined, hop: 2 })
    t.equal(out.packet!.length, 1421)
    t.end()
  })
  t.test('counts the tunnel’s header', (t) => {
    const h = new Harness()
    h.addService(tcpService())
    h.addDestination(tcpService(), SERVER, { forwarding: 'tunnel' })
    h.send(tcpPacket({ ...request, flags: 'S' }))
    const fits = h.send(tcpPacket({ ...request, payload: new Uint8Array(1440) }))
    t.equal(fits.packet!.length, 1500)
    const one = { ...request, payload: new Uint8Array(1441) }
    const out = h.send(tcpPacket(one))
    sameButId(
      t,
      out.packet,
      icmpError(CLIENT, 3, 4, tcpPacket({ ...one, ttl: 63 }), { rest: 1480 }),
    )
    t.end()
  })
  t.test('is told to the real server when it is a reply', (t) => {
    const h = masquerading()
    h.neighbours.mtu[1] = 1400
    h.send(tcpPacket({ ...request, flags: 'S' }))
    const reply = tcpPacket({ ...long, from: `${SERVER}:8080`, to: `${CLIENT}:40000` })
    const out = h.send(reply)
    t.match(out, { reason: 'too-big', hop: 2 })
    sameButId(t, out.packet, icmpError(SERVER, 3, 4, reply, { from: SERVER_SIDE, rest: 1400 }))
    t.end()
  })
  t.end()
})

t.test('without a route to the destination the client hears that the host is unreachable', (t) => {
  const h = masquerading()
  h.neighbours.remove('10.0.0.0')
  const syn = tcpPacket({ ...request, flags: 'S' })
  const out = h.send(syn)
  t.match(out, { verdict: 'forward', reason: 'no-route', hop: 1 })
  sameButId(t, out.packet, icmpError(CLIENT, 3, 1, syn))
  t.end()
})

t.test('without a way back there is no answer either', (t) => {
  const h = masquerading()
  h.neighbours.remove('198.51.100.0')
  h.neighbours.remove('10.0.0.0')
  const out = h.send(tcpPacket({ ...request, flags: 'S' }))
  t.match(out, { verdict: 'drop', reason: 'no-route' })
  t.end()
})

t.test('next hops are looked up once, until routes change', (t) => {
  const h = masquerading()
  const { neighbours } = h
  const round = (): void => {
    h.send(tcpPacket({ ...request, flags: 'S' }))
    h.send(tcpPacket({ from: `${SERVER}:8080`, to: `${CLIENT}:40000`, flags: 'SA' }))
  }
  round()
  t.equal(neighbours.lookups, 2)
  round()
  t.equal(neighbours.lookups, 2)
  neighbours.generation++
  round()
  t.equal(neighbours.lookups, 4)
  t.end()
})

t.test('by way of the kernel’s stack', (t) => {
  t.test('a masqueraded packet keeps its TTL: the stack takes one off', (t) => {
    const h = masquerading()
    h.neighbours.state.fill(HopState.kernel, 1, 3)
    const syn = { ...request, flags: 'S' }
    samePacket(t, h.send(tcpPacket(syn)).packet, tcpPacket({ ...syn, to: `${SERVER}:8080` }))
    const reply = { to: `${CLIENT}:40000`, flags: 'SA' }
    const out = h.send(tcpPacket({ ...reply, from: `${SERVER}:8080` }))
    samePacket(t, out.packet, tcpPacket({ ...reply, from: `${VIP}:80` }))
    t.end()
  })
  t.test('a tunnel’s headers are alike on the wire, so the outer TTL is one more here', (t) => {
    const h = new Harness()
    h.addService(tcpService())
    h.addDestination(tcpService(), SERVER, { forwarding: 'tunnel' })
    h.neighbours.state.fill(HopState.kernel, 1, 3)
    const syn = { ...request, flags: 'S' }
    const outer = { source: SERVER_SIDE, destination: SERVER, ttl: 64, id: 0 }
    samePacket(t, h.send(tcpPacket(syn)).packet, ipipPacket(outer, tcpPacket({ ...syn, ttl: 63 })))
    t.end()
  })
  t.end()
})

t.test('a destination that is the director itself', (t) => {
  for (const forwarding of ['direct-route', 'tunnel'] as const)
    t.test(`by ${forwarding} gets the packet as it is`, (t) => {
      const h = new Harness()
      const hop = h.neighbours.add('10.0.0.1', '10.0.0.1', HopState.local)
      h.addService(tcpService())
      h.addDestination(tcpService(), '10.0.0.1:80', { forwarding })
      const syn = tcpPacket({ ...request, flags: 'S', ttl: 1 })
      const out = h.send(syn)
      t.equal(out.hop, hop)
      samePacket(t, out.packet, syn)
      t.end()
    })
  t.test('by masquerading gets its own address and port', (t) => {
    const h = new Harness()
    h.neighbours.add('10.0.0.1', '10.0.0.1', HopState.local)
    h.addService(tcpService())
    h.addDestination(tcpService(), '10.0.0.1:8080')
    const syn = { ...request, flags: 'S' }
    samePacket(t, h.send(tcpPacket(syn)).packet, tcpPacket({ ...syn, to: '10.0.0.1:8080' }))
    t.end()
  })
  t.end()
})

t.test('without a destination the client hears that the port is unreachable', (t) => {
  const h = new Harness()
  h.addService(tcpService())
  h.addService(udpService())
  for (const packet of [
    tcpPacket({ ...request, flags: 'S' }),
    udpPacket({ from: `${CLIENT}:9`, to: `${VIP}:53` }),
  ]) {
    const out = h.send(packet)
    t.match(out, { verdict: 'forward', reason: 'no-destination', hop: 1 })
    sameButId(t, out.packet, icmpError(CLIENT, 3, 3, packet))
  }
  t.end()
})

t.test('ICMP errors to one host: a burst of six, then one a second', (t) => {
  const h = new Harness()
  h.addService(tcpService())
  const syn = tcpPacket({ ...request, flags: 'S' })
  const sent = (count: number): number =>
    Array.from({ length: count }, () => h.send(syn).verdict).filter((v) => v === 'forward').length
  t.equal(sent(10), 6)
  h.advance(1)
  t.equal(sent(10), 1)
  h.advance(3.5)
  t.equal(sent(10), 3)
  t.equal(h.execute({ op: 'get-counters' }).reasons['no-destination'], 30)
  t.end()
})

t.test('a full table drops new connections and keeps the old ones', (t) => {
  const h = new Harness({ table: { maxConnections: 3, seed: 1 } })
  h.addService(udpService())
  h.addDestination(udpService(), SERVER)
  for (let port = 1; port <= 3; port++)
    t.equal(h.send(udpPacket({ from: `${CLIENT}:${port}`, to: `${VIP}:53` })).verdict, 'forward')
  const fourth = udpPacket({ from: `${CLIENT}:4`, to: `${VIP}:53` })
  t.match(h.send(fourth), { verdict: 'drop', reason: 'table-full' })
  t.equal(h.send(udpPacket({ from: `${CLIENT}:3`, to: `${VIP}:53` })).verdict, 'forward')
  h.advance(306)
  t.equal(h.send(fourth).verdict, 'forward')
  h.director.table.check()
  t.end()
})

t.test('one-packet scheduling chooses anew for every datagram and keeps no connection', (t) => {
  const h = new Harness()
  h.addService(udpService(), { onePacket: true })
  for (const last of [4, 3, 2]) h.addDestination(udpService(), `10.0.0.${last}:53`)
  const datagram = { from: `${CLIENT}:9`, to: `${VIP}:53` }
  for (const last of [2, 3, 4, 2])
    samePacket(
      t,
      h.send(udpPacket(datagram)).packet,
      udpPacket({ ...datagram, to: `10.0.0.${last}:53`, ttl: 63 }),
    )
  t.strictSame(h.connections(), [])
  t.match(h.destination(udpService(), '10.0.0.2:53'), {
    inactiveConnections: 0,
    counters: { connections: 2, inPackets: 2 },
  })
  h.director.table.check()
  t.end()
})

t.test('a service on any port forwards to the port that was asked for', (t) => {
  const h = new Harness()
  h.addService(tcpService(0), { persistentTimeoutSeconds: 60 })
  h.addDestination(tcpService(0), `${SERVER}:0`)
  h.addService(tcpService(443))
  h.addDestination(tcpService(443), `${SERVER}:8443`)
  for (const [port, sentTo] of [
    [80, 80],
    [8000, 8000],
    [443, 8443],
  ]) {
    const syn = { from: `${CLIENT}:5000`, to: `${VIP}:${port}`, flags: 'S' }
    const out = h.send(tcpPacket(syn))
    samePacket(t, out.packet, tcpPacket({ ...syn, to: `${SERVER}:${sentTo}`, ttl: 63 }))
    const back = { to: `${CLIENT}:5000`, flags: 'SA' }
    const reply = h.send(tcpPacket({ ...back, from: `${SERVER}:${sentTo}` }))
    samePacket(t, reply.packet, tcpPacket({ ...back, from: `${VIP}:${port}`, ttl: 63 }))
  }
  t.end()
})

t.test('counters count packets and bytes from the IP header on, for all three', (t) => {
  const h = masquerading()
  h.send(tcpPacket({ ...request, flags: 'S' }), 0, 6)
  h.send(tcpPacket({ from: `${SERVER}:8080`, to: `${CLIENT}:40000`, flags: 'SA' }))
  h.send(tcpPacket({ ...request, payload: 'GET /' }))
  const counters = { connections: 1, inPackets: 2, outPackets: 1, inBytes: 85, outBytes: 40 }
  const service = h.service(tcpService())
  t.strictSame(service.counters, counters)
  t.strictSame(service.destinations[0]!.counters, counters)
  t.strictSame(h.execute({ op: 'get-counters' }).total, counters)
  h.execute({ op: 'zero', service: tcpService() })
  t.match(h.service(tcpService()).counters, { connections: 0, inBytes: 0 })
  t.match(h.destination(tcpService(), `${SERVER}:8080`).counters, { connections: 0, inBytes: 0 })
  t.strictSame(h.execute({ op: 'get-counters' }).total, counters, 'the total stays')
  h.execute({ op: 'zero' })
  t.match(h.execute({ op: 'get-counters' }).total, { connections: 0, inBytes: 0 })
  t.end()
})

t.test('packets of a connection leave nothing for the garbage collector', (t) => {
  const h = masquerading()
  const { director, pool } = h
  const at = 272
  const outbound = tcpPacket({ ...request, flags: 'A', payload: 'x' })
  const inbound = tcpPacket({ from: `${SERVER}:8080`, to: `${CLIENT}:40000`, flags: 'A' })
  const round = (count: number): void => {
    for (let i = 0; i < count; i++) {
      pool.bytes.set(outbound, at)
      director.process(at, outbound.length, 0)
      pool.bytes.set(inbound, at)
      director.process(at, inbound.length, 0)
    }
  }
  h.send(tcpPacket({ ...request, flags: 'S' }))
  round(20_000)
  const before = process.memoryUsage().heapUsed
  round(100_000)
  const grown = process.memoryUsage().heapUsed - before
  t.ok(grown < 1_000_000, `${grown} bytes for 200,000 packets`)
  t.equal(h.service(tcpService()).counters.outPackets, 120_000)
  t.end()
})
