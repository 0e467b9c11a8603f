/** The director in a network namespace of its own, and the two ends of its links that packets come from and go to. */
import { existsSync, writeFileSync } from 'node:fs'
import { DeliveryWatch } from '../../kernel/delivery-watch.js'
import { enterNewNetworkNamespace, setOffload } from '../../kernel/own-namespace.js'
import { PacketSocket } from '../../kernel/packet-socket.js'
import type { Side } from '../scenario.js'
import type { SentPacket } from '../trace.js'
import { MTU } from '../wiring.js'
import type { ForkServer } from './fork-server.js'
import type { Job } from './job.js'
import { sides } from './wire-up.js'

const ETHERNET_BYTES = 14
const ETHERTYPE_OFFSET = 12
const ETHERTYPE_IPV4 = 0x0800
const ETHERTYPE_ARP = 0x0806
const ETHERTYPE_IPV6 = 0x86dd
/** IEEE's for local experiments: no stack minds it. */
const ETHERTYPE_MARKER = 0x88b5
const ALL_PROTOCOLS = 3
const PATIENCE_MS = 5000

const sideNames = ['client', 'server'] as const

/** Settings of a new namespace before it has any interface, so that all get them. */
const before: [key: string, value: number][] = [
  ['ipv4/ip_forward', 1],
  ['ipv4/conf/all/rp_filter', 0],
  ['ipv4/conf/default/rp_filter', 0],
  ['ipv4/conf/all/send_redirects', 0],
  ['ipv4/conf/default/send_redirects', 0],
  ['ipv4/icmp_ratelimit', 0],
  ['ipv6/conf/all/forwarding', 1],
  ['ipv6/conf/default/forwarding', 1],
  ['ipv6/conf/default/accept_ra', 0],
  ['ipv6/conf/default/accept_dad', 0],
  ['ipv6/icmp/ratelimit', 0],
]

/**
 * The limit on all ICMP errors together: a scenario may have many at one moment. Stable kernels have come to keep it by
 * namespace; where it is not there, it is the machine's.
 */
const icmpLimits: readonly [key: string, value: number][] = [
  ['ipv4/icmp_msgs_per_sec', 1_000_000],
  ['ipv4/icmp_msgs_burst', 1_000_000],
]

interface Link {
  /** The far end: packets go in and come out here. */
  far: PacketSocket
  /** The director's end, for markers alone. */
  near: PacketSocket
  markerToNear: Uint8Array
  markerToFar: Uint8Array
  macs: Uint8Array
}

export class DirectorWorld {
  private readonly links: Record<Side, Link>
  private readonly watch: DeliveryWatch

  /** Leaves the thread in a new network namespace that is wired up; the old one is given up. */
  constructor(job: Job, ip: ForkServer) {
    enterNewNetworkNamespace()
    for (const [key, value] of before) writeSetting(key, String(value))
    for (const [key, value] of icmpLimits)
      if (existsSync(`/proc/sys/net/${key}`)) writeSetting(key, String(value))
    runBatch(ip, ['-batch', '-'], job.wiring)
    runBatch(ip, ['-6', '-batch', '-'], job.wiringV6)
    this.links = { client: openLink('client'), server: openLink('server') }
    this.watch = new DeliveryWatch(job.watched, job.udpPorts)
  }

  /** Forgets what the links have carried so far. */
  discard(): void {
    for (const side of sideNames) while (this.links[side].far.receive());
    this.watch.take()
  }

  /** What has left the director since the last packet: nothing of it came of a packet. */
  sent(): SentPacket[] {
    this.watch.take()
    for (const side of sideNames) this.links[side].near.send(this.links[side].markerToFar)
    return sideNames.flatMap((side) => this.sentTo(side))
  }

  /** Sends an IP packet to the director and waits until it has dealt with it. */
  send(packet: Uint8Array, side: Side, mark: number): { out: SentPacket[]; declined: boolean } {
    // What is longer than the link's MTU does not come through it.
    if (packet.length > MTU) return { out: [], declined: false }
    const link = this.links[side]
    const frame = new Uint8Array(ETHERNET_BYTES + packet.length)
    frame.set(link.macs)
    const version = packet[0]! >> 4
    new DataView(frame.buffer).setUint16(
      ETHERTYPE_OFFSET,
      version === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4,
    )
    frame.set(packet, ETHERNET_BYTES)
    link.far.send(frame, mark)
    // What is queued is dealt with in order. When the first marker has come through, so has the packet; what
    // the director sent because of it is then in front of the markers that go back.
    link.far.send(link.markerToNear)
    receivePatiently(link.near)
    for (const each of sideNames) this.links[each].near.send(this.links[each].markerToFar)
    const out = sideNames.flatMap((each) => this.sentTo(each))
    const declined = this.watch.take()
    return { out: declined ? [] : out, declined }
  }

  private sentTo(side: Side): SentPacket[] {
    const sent: SentPacket[] = []
    for (;;) {
      const frame = receivePatiently(this.links[side].far)
      const type = new DataView(frame.buffer).getUint16(ETHERTYPE_OFFSET)
      if (type === ETHERTYPE_MARKER) return sent
      const ip = frame.subarray(ETHERNET_BYTES)
      if (type === ETHERTYPE_ARP || (type === ETHERTYPE_IPV6 && isNeighbourDiscovery(ip)))
        throw new Error(
          `the director asks for a neighbour that it was not given: ${Buffer.from(ip).toString('hex')}`,
        )
      if (type === ETHERTYPE_IPV6 ? isListenerReport(ip) : isMembershipReport(ip)) continue
      sent.push({
        side,
        dmac: [...frame.subarray(0, 6)].map((byte) => byte.toString(16).padStart(2, '0')).join(':'),
        ip: Buffer.from(ip).toString('hex'),
      })
    }
  }

  close(): void {
    this.watch.close()
    for (const side of sideNames) {
      this.links[side].far.close()
      this.links[side].near.close()
    }
  }
}

function runBatch(ip: ForkServer, args: string[], lines: string[]): void {
  if (lines.length === 0) return
  const input = lines.join('\n') + '\n'
  const { exit, stderr } = ip.run(args, input)
  if (exit !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}\n${input}`)
}

/** Writes net.… of this thread's namespace; `key` with slashes for dots. */
export function writeSetting(key: string, value: string): void {
  writeFileSync(`/proc/sys/net/${key}`, value)
}

function openLink(side: Side): Link {
  const { device, far, mac, farMac } = sides[side]
  for (const name of [device, far]) setOffload(name, 'tx', false)
  const near = macBytes(mac)
  const away = macBytes(farMac)
  return {
    far: new PacketSocket(far, ALL_PROTOCOLS),
    near: new PacketSocket(device, ETHERTYPE_MARKER),
    markerToNear: marker(near, away),
    markerToFar: marker(away, near),
    macs: Uint8Array.of(...near, ...away),
  }
}

function macBytes(text: string): number[] {
  return text.split(':').map((byte) => parseInt(byte, 16))
}

function marker(to: number[], from: number[]): Uint8Array {
  return Uint8Array.of(...to, ...from, ETHERTYPE_MARKER >> 8, ETHERTYPE_MARKER & 255)
}

function receivePatiently(socket: PacketSocket): Uint8Array {
  const frame = socket.receive()
  if (frame) return frame
  if (!socket.wait(PATIENCE_MS)) throw new Error(`nothing came through ${socket.interfaceName}`)
  return socket.receive()!
}

const ICMPV6 = 58
const HOP_BY_HOP = 0
const IGMP = 2

/** Router and neighbour solicitations and advertisements, redirects. */
function isNeighbourDiscovery(ip: Uint8Array): boolean {
  return ip[6] === ICMPV6 && ip[7] === 255 && ip[40]! >= 133 && ip[40]! <= 137
}

/** What the director tells multicast routers; it stands behind a hop-by-hop header. */
function isListenerReport(ip: Uint8Array): boolean {
  return ip[6] === HOP_BY_HOP && ip[40] === ICMPV6 && ip[7] === 1
}

/** The same of IPv4, where a synchronisation daemon has joined its group. No packet for a group is forwarded. */
function isMembershipReport(ip: Uint8Array): boolean {
  return ip[9] === IGMP && ip[16]! >>> 4 === 14
}
