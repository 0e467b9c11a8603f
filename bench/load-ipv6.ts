/** The IPv6 counterpart of the segments in load.ts, and what a data plane has to know for them. */
import type { RouteUpdate } from '../src/core/route-table.js'
import type { FramePool } from '../src/port/frame-pool.js'
import { fold, sumAddressIpv6 } from '../src/wire/checksum.js'
import { swap16 } from '../src/wire/ipv4.js'
import { parseAddress } from '../src/wire/ipv6.js'
import { Segments } from './segments.js'
import { address, CLIENTS_INTERFACE, neighbour, route, SERVERS_INTERFACE } from './two-sided.js'

export const VIRTUAL_IPV6 = 'fd00::1'
export const serverAddressIpv6 = (i: number): string => `fd02::${i + 2}`

const CLIENTS = '2001:db8::'
const CLIENTS_GATEWAY = 'fd01::ffff'
const SERVERS = 4
const ETHERNET_BYTES = 14
const IP_BYTES = 66
const FRAME_WORDS = 21
const TCP_SYN = 0x02

/** Segments of connections, connection i from client 2001:db8::x, x the lower 16 bits of i. */
export class SegmentSourceIpv6 extends Segments {
  private sum = 0

  /** @param servers address of the real server of connection i at 4 * (i modulo 4), if the segments are replies */
  constructor(
    count: number,
    private readonly destinationMac: Uint8Array,
    private readonly servers: Int32Array | undefined,
    private readonly serverPort: number,
  ) {
    super(count, FRAME_WORDS)
  }

  write(pool: FramePool, offset: number): number {
    const i = this.next()
    const { words, halfs } = pool
    this.copyTemplate(words, offset)
    const { servers } = this
    const ip = (offset + ETHERNET_BYTES) >> 1
    const low = i & 0xffff
    const clientPort = swap16(1024 + (i >>> 16))
    let sum = this.sum + low + clientPort
    if (servers === undefined) {
      halfs[ip + 11] = low
      halfs[ip + 20] = clientPort
    } else {
      const server = (i & (SERVERS - 1)) * 4
      sum += sumAddressIpv6(servers, server)
      const source = (ip + 4) >> 1
      for (let word = 0; word < 4; word++) words[source + word] = servers[server + word]!
      halfs[ip + 19] = low
      halfs[ip + 21] = clientPort
    }
    if (this.newEvery !== 0 && --this.untilNew === 0) {
      // A SYN from 2001:db8::1:x and around.
      this.untilNew = this.newEvery
      const n = this.newConnections++ & 0x7fffff
      const flags = (halfs[ip + 26]! & 0xff) | (TCP_SYN << 8)
      sum += 1 + (n >>> 16) + (n & 0xffff) - low + flags - halfs[ip + 26]! + 0xffff
      halfs[ip + 10] = 1 + (n >>> 16)
      halfs[ip + 11] = n & 0xffff
      halfs[ip + 26] = flags
    }
    halfs[ip + 28] = fold(sum) ^ 0xffff
    return ETHERNET_BYTES + IP_BYTES
  }

  protected buildTemplate(): void {
    const bytes = new Uint8Array(this.template.buffer)
    const view = new DataView(this.template.buffer, 2)
    bytes.fill(0)
    bytes.set(this.destinationMac, 2)
    bytes.set([2, 0, 0, 0, 0, 0xff], 8)
    view.setUint16(12, 0x86dd)
    const ip = ETHERNET_BYTES
    const isReply = this.servers !== undefined
    view.setUint8(ip, 0x60)
    view.setUint16(ip + 4, IP_BYTES - 40)
    view.setUint8(ip + 6, 6)
    view.setUint8(ip + 7, 64)
    const put = (text: string, at: number): void =>
      bytes.set(new Uint8Array(parseAddress(text)!.buffer), 2 + at)
    put(CLIENTS, ip + (isReply ? 24 : 8))
    if (!isReply) put(VIRTUAL_IPV6, ip + 24)
    const tcp = ip + 40
    view.setUint16(tcp + (isReply ? 0 : 2), isReply ? this.serverPort : 80)
    view.setUint32(tcp + 4, 1)
    view.setUint8(tcp + 12, 5 << 4)
    view.setUint8(tcp + 13, this.flags)
    view.setUint16(tcp + 14, 0xfaf0)
    const halfs = new Uint16Array(this.template.buffer)
    let sum = (6 << 8) + ((IP_BYTES - 40) << 8)
    for (let half = 12; half < 2 * FRAME_WORDS - 1; half++) sum += halfs[half]!
    this.sum = sum
  }
}

/** Beside those of load.ts. */
export const routesIpv6 = (): RouteUpdate[] => [
  address(CLIENTS_INTERFACE, 'fd01::1', 64),
  address(SERVERS_INTERFACE, 'fd02::1', 64),
  route('::/0', CLIENTS_INTERFACE, CLIENTS_GATEWAY),
  route('fd02::/64', SERVERS_INTERFACE),
  neighbour(CLIENTS_INTERFACE, CLIENTS_GATEWAY, '02:00:00:00:01:00'),
  ...Array.from({ length: SERVERS }, (_, i) =>
    neighbour(SERVERS_INTERFACE, serverAddressIpv6(i), `02:00:00:00:02:0${i}`),
  ),
]
