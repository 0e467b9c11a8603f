/** Types of tunnels: the bytes are those that the kernel's IPVS (Linux 6.1) sent for the same packets. */
import t from 'tap'
import type { TunnelOptions } from '../../src/core/commands.js'
import { hex, packetFields, udpPacket } from '../support/packets.js'
import { Harness, udpService } from './harness.js'

const VIP = '10.1.0.100'
const service = { ...udpService(), address: VIP }

function tunneling(tunnel: TunnelOptions | undefined): Harness {
  const h = new Harness()
  h.neighbours.add('10.1.0.0', '10.1.0.1')
  h.neighbours.add('10.2.0.0', '10.2.0.1')
  h.addService(service)
  h.addDestination(service, '10.2.0.2', { forwarding: 'tunnel', ...(tunnel && { tunnel }) })
  return h
}

/** 1024 to port 53 of the virtual address: TOS 3, identification 7, DF, five bytes. */
const request = udpPacket({
  from: '10.1.0.2:1024',
  to: `${VIP}:53`,
  tos: 3,
  id: 7,
  payload: [0, 0, 0, 0, 0],
})
const inner = '45030021000740003f11275b0a0100020a01006404000035000de7370000000000'

/** The source port of UDP from 32768 on is the flow's: compared as 0, with the checksum that goes with it. */
function withoutSourcePort(packet: Uint8Array): Uint8Array {
  const copy = packet.slice()
  const port = copy[20]! * 256 + copy[21]!
  if (port < 32768 || port >= 60999) throw new Error(`source port ${port}`)
  copy.fill(0, 20, 22)
  const sum = copy[26]! * 256 + copy[27]!
  if (sum !== 0) {
    const moved = (((sum ^ 0xffff) - port + 0xffff) % 0xffff) ^ 0xffff
    copy[26] = moved >> 8
    copy[27] = moved
  }
  return copy
}

const gueHeader = '45020041000040003f1127a40a0200010a020002'

t.test('IPIP', async (t) => {
  const out = tunneling(undefined).send(request)
  t.same(out.packet, hex('45020035000040003f0427bd0a0200010a020002' + inner))
})

t.test('GUE without a checksum', async (t) => {
  const out = tunneling({ type: 'gue', port: 6080, checksum: 'none' }).send(request)
  const kernel = hex(gueHeader + '972917c0002d0000' + '00040000' + inner)
  t.same(withoutSourcePort(out.packet!), withoutSourcePort(kernel))
})

t.test('GUE with a checksum, remote or not', async (t) => {
  for (const checksum of ['full', 'remote'] as const) {
    const out = tunneling({ type: 'gue', port: 6080, checksum }).send(request)
    const outer = packetFields(out.packet!)
    t.match(outer, { sourcePort: Number, destinationPort: 6080, udpLength: 45 })
    // The kernel sent 0x2c32 from port 48156 to 10.2.0.3.
    const kernel = hex(gueHeader + 'bc1c17c0002d2c33' + '00040000' + inner)
    t.same(withoutSourcePort(out.packet!), withoutSourcePort(kernel))
  }
})

t.test('GRE', async (t) => {
  const out = tunneling({ type: 'gre', port: 0, checksum: 'none' }).send(request)
  t.same(out.packet, hex('45020039000040003f2f278e0a0200010a020002' + '00000800' + inner))
})

t.test('GRE with a checksum', async (t) => {
  const out = tunneling({ type: 'gre', port: 0, checksum: 'full' }).send(request)
  t.same(out.packet, hex('4502003d000040003f2f278a0a0200010a020002' + '800008008c850000' + inner))
})

t.test('a packet with DF that fits into no tunnel is answered with what does', async (t) => {
  const cases: [TunnelOptions | undefined, number][] = [
    [undefined, 1480],
    [{ type: 'gue', port: 6080, checksum: 'none' }, 1468],
    [{ type: 'gue', port: 6080, checksum: 'full' }, 1468],
    [{ type: 'gre', port: 0, checksum: 'none' }, 1476],
    [{ type: 'gre', port: 0, checksum: 'full' }, 1472],
  ]
  for (const [tunnel, mtu] of cases) {
    const h = tunneling(tunnel)
    const sized = (bytes: number): Uint8Array =>
      udpPacket({ from: '10.1.0.2:1024', to: `${VIP}:53`, payload: new Uint8Array(bytes - 28) })
    t.match(h.send(sized(mtu)), { verdict: 'forward', reason: undefined })
    const refused = h.send(sized(mtu + 1))
    t.equal(refused.reason, 'too-big')
    t.match(packetFields(refused.packet!), { type: 3, code: 4, rest: hex4(mtu) })
  }
})

t.test('one flow has one source port, flows have several', async (t) => {
  const h = tunneling({ type: 'gue', port: 6080, checksum: 'none' })
  const portOf = (clientPort: number): number => {
    const out = h.send(udpPacket({ from: `10.1.0.2:${clientPort}`, to: `${VIP}:53` }))
    return Number(packetFields(out.packet!).sourcePort)
  }
  t.equal(portOf(1), portOf(1))
  const ports = new Set(Array.from({ length: 100 }, (_, i) => portOf(1000 + i)))
  t.ok(ports.size > 90, `${ports.size} ports for 100 flows`)
  for (const port of ports) t.ok(port >= 32768 && port < 60999)
})

t.test('tunnels that make no sense are refused', async (t) => {
  const h = tunneling(undefined)
  const tunnels: TunnelOptions[] = [
    { type: 'gue', port: 0, checksum: 'none' },
    { type: 'gue', port: 65536, checksum: 'none' },
    { type: 'gre', port: 1, checksum: 'none' },
    { type: 'gre', port: 0, checksum: 'remote' },
    { type: 'ipip', port: 0, checksum: 'full' },
  ]
  for (const tunnel of tunnels)
    t.throws(() => h.addDestination(service, '10.2.0.9', { forwarding: 'tunnel', tunnel }), {
      code: 'EINVAL',
    })
})

function hex4(value: number): string {
  return value.toString(16).padStart(8, '0')
}
