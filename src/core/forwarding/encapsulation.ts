import type { FramePool } from '../../port/frame-pool.js'
import { finish, sumPseudoHeader, sumRange } from '../../wire/checksum.js'
import { IpProtocol, swap16 } from '../../wire/ipv4.js'
import * as udp from '../../wire/udp.js'
import type { TunnelOptions } from '../commands.js'
import type { Packet } from '../packet.js'

/**
 * What stands between the outer IP header and the packet in a tunnel, by the tunnel's type:
 *
 *     ipip   nothing
 *     gue    UDP, then 4 bytes of GUE (draft-ietf-intarea-gue): version, control and length 0, the inner
 *            protocol, no flags
 *     gre    4 bytes of GRE (RFC 2784): flags, the inner packet's Ethernet type; 4 more with a checksum
 *
 * (ipvs_gue_encap and ipvs_gre_encap of net/netfilter/ipvs/ip_vs_xmit.c.)
 */
export const GUE_HEADER_BYTES = 4
export const GRE_HEADER_BYTES = 4
export const GRE_CHECKSUM_BYTES = 4

/** Flags of a GRE header as loaded from it: the first half. */
export const GRE_CHECKSUM_BE = 0x0080
const ETHER_TYPE_IPV4_BE = 0x0008
const ETHER_TYPE_IPV6_BE = 0xdd86

/** The kernel's net.ipv4.ip_local_port_range, which the source ports of GUE are from. */
const FIRST_LOCAL_PORT = 32768
const LOCAL_PORTS = 60999 - FIRST_LOCAL_PORT

/** Bytes between the outer IP header and the packet. */
export function encapsulationBytes({ type, checksum }: Readonly<TunnelOptions>): number {
  switch (type) {
    case 'ipip':
      return 0
    case 'gue':
      return udp.HEADER_BYTES + GUE_HEADER_BYTES
    case 'gre':
      return GRE_HEADER_BYTES + (checksum === 'none' ? 0 : GRE_CHECKSUM_BYTES)
  }
}

/**
 * Writes what stands between the outer IP header and a packet into the headroom before the packet.
 *
 * @param addressSum partial sum of the addresses of the outer header
 * @returns the protocol that the outer header is to name
 */
export function encapsulate(
  pool: FramePool,
  packet: Packet,
  tunnel: Readonly<TunnelOptions>,
  addressSum: number,
): number {
  const { words, halfs, bytes } = pool
  const isIpv6 = packet.family === 6
  const protocol = isIpv6 ? IpProtocol.ipv6 : IpProtocol.ipip
  const inner = packet.network
  const hasChecksum = tunnel.checksum !== 'none'
  const extra = encapsulationBytes(tunnel)
  const start = inner - extra
  const length = packet.totalBytes + extra
  switch (tunnel.type) {
    case 'ipip':
      return protocol
    case 'gue': {
      words[start >> 2] = sourcePortBe(packet) | (swap16(tunnel.port) << 16)
      words[(start >> 2) + 1] = swap16(length)
      words[(start >> 2) + 2] = protocol << 8
      if (hasChecksum) {
        const sum =
          addressSum +
          sumPseudoHeader(IpProtocol.udp, 0, 0, length) +
          sumRange(halfs, bytes, start, length)
        halfs[(start + udp.CHECKSUM) >> 1] = finish(sum) || 0xffff
      }
      return IpProtocol.udp
    }
    case 'gre': {
      words[start >> 2] =
        (hasChecksum ? GRE_CHECKSUM_BE : 0) |
        ((isIpv6 ? ETHER_TYPE_IPV6_BE : ETHER_TYPE_IPV4_BE) << 16)
      if (hasChecksum) {
        words[(start >> 2) + 1] = 0
        halfs[(start + GRE_HEADER_BYTES) >> 1] =
          finish(sumRange(halfs, bytes, start, length)) || 0xffff
      }
      return IpProtocol.gre
    }
  }
}

/**
 * The source port tells flows apart for those who spread them by it on the way: it is always the same for
 * the same flow (udp_flow_src_port). The kernel's differ from boot to boot.
 */
function sourcePortBe({ sourceBe, destinationBe, ports, protocol }: Packet): number {
  let hash = Math.imul(sourceBe ^ Math.imul(destinationBe ^ protocol, 0x9e3779b1), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 15) ^ ports, 0xc2b2ae35)
  const spread = ((hash ^ (hash >>> 16)) & 0xffff) * LOCAL_PORTS
  return swap16(FIRST_LOCAL_PORT + (spread >>> 16))
}
