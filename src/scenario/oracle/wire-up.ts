/** A scenario's wiring as lines of `ip -batch`. */
import { isIPv4 } from 'node:net'
import { canonicalIpv6, ipv6Words } from '../../control/address.js'
import type { Event, Side } from '../scenario.js'
import type { Job } from './job.js'

/** The director's interfaces, and the far ends of their cables in the same namespace. */
export const sides: Record<Side, { device: string; far: string; mac: string; farMac: string }> = {
  client: {
    device: 'client',
    far: 'far-client',
    mac: '02:00:0a:01:00:01',
    farMac: '02:fa:00:00:00:01',
  },
  server: {
    device: 'server',
    far: 'far-server',
    mac: '02:00:0a:02:00:01',
    farMac: '02:fa:00:00:00:02',
  },
}

const GATEWAY = '10.1.255.254'
const GATEWAY_V6 = 'fd01::ffff'
const OWN = new Set(['10.1.0.1', '10.2.0.1', 'fd01::1', 'fd02::1'])
const MARKS = [1, 2, 3, 4, 5, 6, 7, 8]
/** The routing table that makes marked packets local. */
const MARK_TABLE = 100

export function jobOf(events: readonly Event[]): Job {
  const addresses = new Set([GATEWAY, GATEWAY_V6])
  const local = new Set<string>()
  const protocols = new Map<string, [4 | 6, number]>()
  const watch = (version: 4 | 6, protocol: number): void => {
    protocols.set(`${version} ${protocol}`, [version, protocol])
  }
  for (const protocol of [1, 6, 17, 132]) watch(4, protocol)
  for (const protocol of [6, 17, 58, 132]) watch(6, protocol)
  for (const event of events) {
    if (event.kind === 'ipvsadm')
      for (const { address, service } of addressesOf(event.args)) {
        addresses.add(address)
        if (service && !OWN.has(address)) local.add(address)
      }
    else if (event.kind === 'packet') {
      const { packet } = event
      if (packet[0]! >> 4 === 4 && packet.length >= 20) {
        watch(4, packet[9]!)
        addresses.add(packet.slice(12, 16).join('.'))
        addresses.add(packet.slice(16, 20).join('.'))
      } else if (packet[0]! >> 4 === 6 && packet.length >= 40) {
        watch(6, packet[6]!)
        addresses.add(ipv6Text(packet.subarray(8, 24)))
        addresses.add(ipv6Text(packet.subarray(24, 40)))
      }
    }
  }
  const wiring: string[] = ['link set lo up']
  for (const [subnet, { device, far, mac, farMac }] of [
    ['1', sides.client],
    ['2', sides.server],
  ] as const)
    wiring.push(
      `link add name ${device} address ${mac} type veth peer name ${far} address ${farMac}`,
      `link set ${far} arp off addrgenmode none up`,
      `link set ${device} addrgenmode none up`,
      `addr add 10.${subnet}.0.1/16 dev ${device}`,
      `addr add fd0${subnet}::1/64 dev ${device} nodad`,
    )
  wiring.push(
    `route add default via ${GATEWAY} dev client`,
    `route add ::/0 via ${GATEWAY_V6} dev client`,
  )
  for (const address of local)
    wiring.push(`addr add ${address}/${address.includes(':') ? '128 nodad' : '32'} dev lo`)
  wiring.push(
    `route add local 0.0.0.0/0 dev lo table ${MARK_TABLE}`,
    `route add local ::/0 dev lo table ${MARK_TABLE}`,
  )
  for (const address of addresses) {
    const side = OWN.has(address) ? undefined : onLinkSide(address)
    if (side)
      wiring.push(
        `neigh replace ${address} lladdr ${macOf(address)} dev ${sides[side].device} nud permanent`,
      )
  }
  // `ip rule` takes the family from its options alone, which are a batch's as a whole.
  const rules = { 4: new Set<string>(), 6: new Set<string>() }
  for (const event of events)
    if (event.kind === 'packet' && MARKS.includes(event.mark))
      rules[event.packet[0]! >> 4 === 6 ? 6 : 4].add(
        `rule add fwmark ${event.mark} lookup ${MARK_TABLE}`,
      )
  return {
    wiring: [...wiring, ...rules[4]],
    wiringV6: [...rules[6]],
    watched: [...protocols.values()],
    events: events.map((event) =>
      event.kind === 'packet'
        ? { ...event, packet: Buffer.from(event.packet).toString('hex') }
        : event,
    ),
  }
}

/** The addresses in a command's arguments; `service` for those of a virtual service that it adds. */
function addressesOf(args: readonly string[]): { address: string; service: boolean }[] {
  const adds = args.some((arg) => arg === '--add-service' || /^-A/.test(arg))
  return args.flatMap((arg, index) => {
    const found = /^(?:-[tur]|--[a-z-]+=)?\[?([0-9a-f.:]+?)\]?(?::\d+)?$/i.exec(arg)?.[1]
    if (found === undefined) return []
    const own = /^(-[tu]|--(tcp|udp|sctp)-service)/
    const service = adds && (own.test(arg) || own.test(args[index - 1] ?? ''))
    if (isIPv4(found)) return [{ address: found, service }]
    const v6 = canonicalIpv6(found)
    return v6 === undefined ? [] : [{ address: v6, service }]
  })
}

function ipv6Text(bytes: Uint8Array): string {
  return canonicalIpv6(
    Buffer.from(bytes)
      .toString('hex')
      .replace(/(....)(?=.)/g, '$1:'),
  )!
}

/** The side whose network has the address. */
function onLinkSide(address: string): Side | undefined {
  if (isIPv4(address))
    return address.startsWith('10.1.')
      ? 'client'
      : address.startsWith('10.2.')
        ? 'server'
        : undefined
  const [first, second, third, fourth] = ipv6Groups(address)
  if (second !== 0 || third !== 0 || fourth !== 0) return undefined
  return first === 0xfd01 ? 'client' : first === 0xfd02 ? 'server' : undefined
}

/** The Ethernet address of a neighbour. */
function macOf(address: string): string {
  const bytes = isIPv4(address)
    ? [0x00, ...address.split('.').map(Number)]
    : [
        0x06,
        ...ipv6Groups(address)
          .slice(6)
          .flatMap((group) => [group >> 8, group & 255]),
      ]
  return ['02', ...bytes.map((byte) => byte.toString(16).padStart(2, '0'))].join(':')
}

function ipv6Groups(address: string): number[] {
  return ipv6Words(address).flatMap((word) => [word >>> 16, word & 0xffff])
}
