/** A scenario's wiring as lines of `ip -batch`. */
import { HeaderChain } from '../../wire/ipv6.js'
import type { Event, Side } from '../scenario.js'
import {
  addressesOf,
  GATEWAY,
  GATEWAY_V6,
  isLocalMark,
  isOpenedTunnel,
  links,
  macOf,
  onLinkSide,
  opensTunnels,
  ownAddresses,
  sideNames,
} from '../wiring.js'
import type { Job } from './job.js'

/** The director's interfaces, and the far ends of their cables in the same namespace. */
export const sides: Record<Side, { device: string; far: string; mac: string; farMac: string }> = {
  client: {
    device: 'client',
    far: 'far-client',
    mac: links.client.mac,
    farMac: '02:fa:00:00:00:01',
  },
  server: {
    device: 'server',
    far: 'far-server',
    mac: links.server.mac,
    farMac: '02:fa:00:00:00:02',
  },
}

/**
 * The stack's own answers pass IPVS, which takes those to connections to a local real server for the server's. In a
 * scenario the stack says nothing. Its resets find no route: IPVS asks for routes without saying for what protocol.
 */
const MUTE_TCP = 'rule add pref 50 iif lo ipproto tcp blackhole'
const UDP = 17

/** TCP, UDP, SCTP and the control protocols; IPv6's authentication header ends in the stack as it is. */
const USUAL_PROTOCOLS = { 4: [1, 6, 17, 132], 6: [6, 17, 51, 58, 132] }
/** The routing table that makes marked packets local. */
const MARK_TABLE = 100

export function jobOf(events: readonly Event[]): Job {
  const addresses = addressesOf(events)
  const wiring: string[] = ['link set lo up']
  for (const side of sideNames) {
    const { device, far, mac, farMac } = sides[side]
    const { address, prefixLength, addressV6, prefixLengthV6 } = links[side]
    wiring.push(
      `link add name ${device} address ${mac} type veth peer name ${far} address ${farMac}`,
      // One after the other: of what one command says, the kernel brings the device up first, and IPv6 with it.
      `link set ${far} arp off addrgenmode none`,
      `link set ${device} addrgenmode none`,
      `link set ${far} up`,
      `link set ${device} up`,
      `addr add ${address}/${prefixLength} dev ${device}`,
      `addr add ${addressV6}/${prefixLengthV6} dev ${device} nodad`,
    )
  }
  wiring.push(
    `route add default via ${GATEWAY} dev client`,
    `route add ::/0 via ${GATEWAY_V6} dev client`,
  )
  if (opensTunnels(events))
    wiring.push(
      `link add name opener type ipip local ${links.server.address}`,
      'link set opener addrgenmode none',
      'link set opener up',
    )
  for (const address of addresses.virtual)
    wiring.push(`addr add ${address}/${address.includes(':') ? '128 nodad' : '32'} dev lo`)
  wiring.push(
    `route add local 0.0.0.0/0 dev lo table ${MARK_TABLE}`,
    `route add local ::/0 dev lo table ${MARK_TABLE}`,
  )
  for (const address of addresses.all) {
    const side = ownAddresses.includes(address) ? undefined : onLinkSide(address)
    if (side)
      wiring.push(
        `neigh replace ${address} lladdr ${macOf(address)} dev ${sides[side].device} nud permanent`,
      )
  }
  // `ip rule` takes the family from its options alone, which are a batch's as a whole.
  const rules = { 4: new Set<string>(), 6: new Set<string>() }
  for (const event of events) {
    if (event.kind !== 'packet') continue
    const family = rules[event.packet[0]! >> 4 === 6 ? 6 : 4]
    family.add(MUTE_TCP)
    if (isLocalMark(event.mark)) family.add(`rule add fwmark ${event.mark} lookup ${MARK_TABLE}`)
  }
  return {
    wiring: [...wiring, ...rules[4]],
    wiringV6: [...rules[6]],
    watched: watchedProtocols(events),
    udpPorts: udpPorts(events),
    events: events.map((event) =>
      event.kind === 'packet'
        ? { ...event, packet: Buffer.from(event.packet).toString('hex') }
        : event,
    ),
  }
}

/** What packets may be delivered as. A packet of protocol 0 cannot be watched: no raw socket gets it. */
function watchedProtocols(events: readonly Event[]): Job['watched'] {
  const protocols = { 4: new Set(USUAL_PROTOCOLS[4]), 6: new Set(USUAL_PROTOCOLS[6]) }
  const areOpened = opensTunnels(events)
  const chain = new HeaderChain()
  for (const event of events) {
    if (event.kind !== 'packet') continue
    const { packet } = event
    // What is inside a tunnel is watched, not that it is opened.
    if (areOpened && isOpenedTunnel(packet)) continue
    if (packet[0]! >> 4 === 4 && packet.length >= 20) protocols[4].add(packet[9]!)
    else if (packet[0]! >> 4 === 6 && packet.length >= 40)
      protocols[6].add(chain.walk(packet, 0, packet.length))
  }
  return ([4, 6] as const).flatMap((version) =>
    [...protocols[version]]
      .filter((protocol) => protocol > 0)
      .map((protocol) => [version, protocol] as [4 | 6, number]),
  )
}

/** Ports that UDP packets may be delivered to: their own, and those of real servers. */
function udpPorts(events: readonly Event[]): number[] {
  const ports = new Set<number>()
  const chain = new HeaderChain()
  for (const event of events) {
    if (event.kind === 'ipvsadm') {
      for (const arg of event.args) ports.add(Number(/:(\d{1,5})$/.exec(arg)?.[1] ?? 0))
      continue
    }
    if (event.kind !== 'packet') continue
    const { packet } = event
    const version = packet[0]! >> 4
    let transport = -1
    if (version === 4 && packet[9] === UDP) transport = (packet[0]! & 15) * 4
    else if (version === 6 && packet.length >= 40 && chain.walk(packet, 0, packet.length) === UDP)
      transport = chain.transport
    if (transport >= 0 && packet.length >= transport + 4)
      ports.add((packet[transport + 2]! << 8) | packet[transport + 3]!)
  }
  return [...ports].filter((port) => port > 0 && port <= 0xffff)
}
