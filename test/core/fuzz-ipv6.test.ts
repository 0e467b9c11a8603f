/**
 * Bad input of IPv6: whatever comes in, nothing is thrown, the connection table stays sound, every frame comes back
 * to the pool, and what is sent has lengths that are right.
 */
import t from 'tap'
import { createDataPlane } from '../../src/core/data-plane.js'
import type { Command, DestinationOptions, ServiceKey } from '../../src/core/commands.js'
import { Director } from '../../src/core/director.js'
import { RouteTable, type RouteUpdate } from '../../src/core/route-table.js'
import { MemoryPort } from '../../src/drivers/memory.js'
import { ManualClock } from '../../src/port/clock.js'
import { FramePool, SCRATCH_BYTES } from '../../src/port/frame-pool.js'
import { LinkLayer } from '../../src/port/packet-port.js'
import { SeededRandom } from '../../src/port/random.js'
import {
  ethernetFrame,
  icmpv6Packet,
  macBytes,
  packetProblems,
  packetSummary,
  tcpPacket,
  udpPacket,
} from '../support/packets.js'
import { fragmentHeader, ipv6Packet } from '../support/packets-ipv6.js'
import { linkUpdate, neighbourUpdate, routeUpdate } from '../support/route-updates.js'
import { destinationOptions, serviceOptions } from './harness.js'

const FRAMES = 512
const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const
const PEER = '02:00:00:00:00:ff'
const VIP = 'fd00::1'
/** Two of the servers' link, one silent; one behind a narrow link; one without a route; the director; one of IPv4. */
const SERVERS = ['fd02::2', 'fd02::3', 'fd02::9', 'fd06::2', 'fd08::2', 'fd02::1', '10.2.0.2']

function commands(): Command[] {
  const list: Command[] = []
  const add = (
    service: ServiceKey,
    forwarding: DestinationOptions['forwarding'],
    more: Parameters<typeof serviceOptions>[0] = {},
  ): void => {
    const options = serviceOptions({ persistentPrefixLength: 64, ...more })
    list.push({ op: 'add-service', service, options })
    for (const address of SERVERS) {
      if (address.includes('.') && forwarding !== 'tunnel') continue
      const port = forwarding === 'masquerade' && !('fwmark' in service) ? 8080 : 0
      const destination = { address, port }
      const options = destinationOptions({ forwarding })
      list.push({ op: 'add-destination', service, destination, options })
    }
  }
  const at = (protocol: 'tcp' | 'udp' | 'sctp', port: number): ServiceKey => ({
    protocol,
    address: VIP,
    port,
  })
  add(at('tcp', 80), 'masquerade')
  add(at('udp', 53), 'masquerade', { scheduler: 'wlc' })
  add(at('tcp', 81), 'direct-route')
  add(at('udp', 82), 'tunnel')
  add(at('tcp', 83), 'tunnel', { persistentTimeoutSeconds: 30 })
  add(at('udp', 84), 'masquerade', { onePacket: true })
  add({ fwmark: 7, family: 6 }, 'masquerade', { persistentTimeoutSeconds: 5 })
  list.push({
    op: 'add-service',
    service: at('tcp', 85),
    options: serviceOptions({ persistentPrefixLength: 128 }),
  })
  list.push({ op: 'set-marks', rules: [{ mark: 7, destination: 'fd00::7' }] })
  return list
}

function routes(): RouteUpdate[] {
  const neighbour = (interfaceIndex: number, address: string): RouteUpdate =>
    neighbourUpdate(interfaceIndex, address, PEER)
  return [
    {
      op: 'set-ports',
      ports: [
        { port: 0, linkLayer: LinkLayer.ethernet, interfaces: [2] },
        { port: 1, linkLayer: LinkLayer.ethernet, interfaces: [3, 4] },
      ],
    },
    linkUpdate(1, 'lo'),
    linkUpdate(2, 'clients'),
    linkUpdate(3, 'servers'),
    linkUpdate(4, 'narrow', 1280),
    {
      op: 'addresses',
      addresses: [
        { interfaceIndex: 1, address: VIP, prefixLength: 128 },
        { interfaceIndex: 2, address: 'fd01::1', prefixLength: 64 },
        { interfaceIndex: 3, address: 'fd02::1', prefixLength: 64 },
        { interfaceIndex: 3, address: '10.2.0.1', prefixLength: 16 },
      ],
    },
    routeUpdate('fd01::/64', 2),
    routeUpdate('fd02::/64', 3),
    routeUpdate('fd06::/64', 4),
    routeUpdate('10.2.0.0/16', 3),
    routeUpdate('2001:db8::/32', 2, 'fd01::ffff'),
    ...['fd01::ffff', 'fd01::2', 'fd01::3'].map((address) => neighbour(2, address)),
    ...['fd02::2', 'fd02::3', '10.2.0.2'].map((address) => neighbour(3, address)),
    neighbour(4, 'fd06::2'),
  ]
}

t.test('IPv6 packets of all kinds, sound and spoilt', async (t) => {
  const pool = new FramePool(new ArrayBuffer(2048 * FRAMES + SCRATCH_BYTES), 2048, FRAMES)
  const clock = new ManualClock()
  const neighbours = new RouteTable()
  neighbours.apply(routes())
  const port = (i: 0 | 1): MemoryPort =>
    new MemoryPort({
      pool,
      linkLayer: LinkLayer.ethernet,
      mac: Uint8Array.from(macBytes(MACS[i])),
      name: `memory:${i}`,
    })
  const ports = [
    port(0),
    port(1),
    new MemoryPort({ pool, linkLayer: LinkLayer.ip, name: 'kernel' }),
  ]
  const random = new SeededRandom(20_242)
  const director = new Director({
    pool,
    neighbours,
    random,
    table: { maxConnections: 1024, seed: 1 },
    ports: ports.map(({ name }) => ({ name, interface: name })),
  })
  for (const command of commands()) director.execute(command)
  const plane = createDataPlane({
    pool,
    ports,
    director,
    neighbours,
    clock,
    kernelPath: { port: 2 },
  })

  const below = (n: number): number => (random.next() >>> 0) % n
  const pick = <T>(list: readonly T[]): T => list[below(list.length)]!
  const options: [number, number[]] = [0, [0, 1, 4, 0, 0, 0, 0]]
  const extensions = (): [number, number[]][] =>
    pick([[], [], [], [options], [[60, options[1]]], [[43, [0, 0, 0, 0, 0, 0, 0]], options]])
  const packet = (): Uint8Array => {
    const client = `[${pick(['fd01::2', 'fd01::3', '2001:db8::9', 'fd0a::1'])}]:${pick([1024, 40000, 40001, 20])}`
    const virtual = `[${pick([VIP, VIP, VIP, 'fd00::7', 'fd00::9'])}]:${pick([80, 80, 53, 53, 81, 82, 83, 84, 85, 99])}`
    const server = `[${pick(SERVERS.slice(0, 6))}]:${pick([8080, 8080, 80])}`
    const [from, to] = pick([
      [client, virtual],
      [client, virtual],
      [server, client],
    ] as const)
    const payload = new Uint8Array(pick([0, 1, 33, 600, 1200, 1440])).fill(5)
    const ip = { ttl: pick([64, 64, 64, 1, 2]), extensions: extensions(), tos: below(256) }
    const tcp = (source: string, destination: string): Uint8Array =>
      tcpPacket({
        from: source,
        to: destination,
        flags: pick(['S', 'S', 'A', 'FA', 'R']),
        payload,
        ...ip,
      })
    const udp = (source: string, destination: string): Uint8Array =>
      udpPacket({
        from: source,
        to: destination,
        payload,
        ...ip,
        ...(below(5) === 0 ? { checksum: 0 } : {}),
      })
    const make = pick([tcp, udp])
    switch (below(6)) {
      case 0: {
        const quote = make(pick([virtual, client]), pick([client, server]))
        return icmpv6Packet({
          from: pick(['fd01::2', 'fd02::2', 'fd02::9']),
          to: pick([VIP, 'fd01::2']),
          type: pick([1, 2, 3, 4, 128, 135]),
          code: below(5),
          rest: below(2000),
          payload: quote.slice(0, pick([30, 44, 48, 60, 500])),
        })
      }
      case 1: {
        const start = pick([0, 0, 8, 1200, 1440])
        return ipv6Packet(
          {
            source: 'fd01::2',
            destination: pick([VIP, 'fd01::3']),
            protocol: pick([6, 17, 17, 58]),
            ...ip,
            extensions: [...ip.extensions, fragmentHeader(start, below(2) === 0, below(4))],
          },
          make(from, to).slice(40, 40 + pick([8, 16, 20, 1200, 1440])),
        )
      }
      default:
        return make(from, to)
    }
  }
  const spoil = (frame: Uint8Array): Uint8Array => {
    const bad = frame.slice(0, below(4) === 0 ? 14 + below(frame.length - 14) : frame.length)
    for (let i = below(4); i > 0; i--) bad[below(Math.min(bad.length, 110))] = below(256)
    return bad
  }
  let sent = 0
  const problems: string[] = []
  const carry = (): void => {
    do {
      plane.round()
      ports.forEach((each, i) => {
        for (const frame of each.takeTransmitted()) {
          sent++
          const ip = i === 2 ? frame : frame.subarray(14)
          for (const problem of packetProblems(ip))
            if (i !== 2 && /length|version/.test(problem) && !/UDP|inner/.test(problem))
              problems.push(`${packetSummary(ip)}: ${problem}`)
        }
      })
    } while (ports.some(({ pending }) => pending > 0))
  }
  for (let i = 0; i < 30_000; i++) {
    const side = pick([0, 0, 1] as const)
    const frame = ethernetFrame({ from: PEER, to: MACS[side], type: 0x86dd }, packet())
    ports[side]!.inject(below(3) === 0 ? spoil(frame) : frame)
    if (i % 50 === 0) {
      carry()
      clock.advanceJiffies(below(40))
    }
    if (i % 10_000 === 0) director.table.check()
  }
  carry()
  // What tells of fragments that were given up waits for neighbours in turn.
  for (const seconds of [90, 4]) {
    clock.advanceSeconds(seconds)
    carry()
  }
  t.strictSame([...new Set(problems)].slice(0, 5), [])
  director.table.check()
  t.equal(pool.available, FRAMES, 'every frame is free again')
  t.ok(sent > 5_000, `${sent} packets sent`)
  const { reasons } = director.execute({ op: 'get-counters' })
  const met = Object.entries(reasons).filter(([, count]) => count > 0)
  t.comment(met.map(([reason, count]) => `${reason} ${count}`).join(', '))
  for (const reason of ['fragment', 'ttl-exceeded', 'too-big', 'no-route', 'icmp-unrelated'])
    t.ok(reasons[reason]! > 0, reason)
})
