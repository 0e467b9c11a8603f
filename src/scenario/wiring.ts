/**
 * What a scenario runs in: a director between two links, and neighbours whose Ethernet addresses are computed
 * from their own. Replay (replay.ts, host.ts) and the kernel oracle (oracle/wire-up.ts) build the same:
 *
 * - Local to the director are its own addresses, the address of every virtual service that the scenario ever
 *   adds (from the start to the end, so that it does not matter when), and every packet with a mark from 1 to 8.
 *   Virtual addresses are on the loopback interface.
 * - Every address on a link that the scenario's commands and packets name is a neighbour from the start, and so
 *   are the gateways. What is on no link leaves through the gateway on the client side.
 * - The director has no link-local addresses.
 * - Packets longer than the MTU get lost on their link.
 * - Where a scenario sets ignore_tunneled, the director opens IPIP tunnels to its address on the server side.
 */
import { isIPv4 } from 'node:net'
import { canonicalIpv6, ipv6Words } from '../control/address.js'
import { Names } from '../control/ipvsadm/names.js'
import { CommandLineError, parseCommandLine, type Invocation } from '../control/ipvsadm/parse.js'
import { IpProtocol } from '../wire/ipv4.js'
import type { Event, Side } from './scenario.js'

export interface Link {
  /** The director's addresses here, and the length of their networks' prefix. */
  readonly address: string
  readonly prefixLength: number
  readonly addressV6: string
  readonly prefixLengthV6: number
  /** The director's Ethernet address here. */
  readonly mac: string
}

export const links: Readonly<Record<Side, Link>> = {
  client: {
    address: '10.1.0.1',
    prefixLength: 16,
    addressV6: 'fd01::1',
    prefixLengthV6: 64,
    mac: '02:00:0a:01:00:01',
  },
  server: {
    address: '10.2.0.1',
    prefixLength: 16,
    addressV6: 'fd02::1',
    prefixLengthV6: 64,
    mac: '02:00:0a:02:00:01',
  },
}

export const sideNames: readonly Side[] = ['client', 'server']
/** The default routes leave through these, on the client side. */
export const GATEWAY = '10.1.255.254'
export const GATEWAY_V6 = 'fd01::ffff'
export const MTU = 1500
/** Packets with these firewall marks are local. */
export const isLocalMark = (mark: number): boolean => mark >= 1 && mark <= 8

/** The director's own addresses. */
export const ownAddresses: readonly string[] = sideNames.flatMap((side) => [
  links[side].address,
  links[side].addressV6,
])

/** The broadcast addresses of the director's networks. */
export const broadcastAddresses: readonly string[] = [
  '10.1.255.255',
  '10.2.255.255',
  '127.255.255.255',
]

/** The side whose network has the address; undefined when it is reached through the gateway. */
export function onLinkSide(address: string): Side | undefined {
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
export function macOf(address: string): string {
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

/** Whether the director opens tunnels. */
export function opensTunnels(events: readonly Event[]): boolean {
  return events.some(
    (event) => event.kind === 'sysctl' && event.key === 'net.ipv4.vs.ignore_tunneled',
  )
}

/** Whether an IP packet is a tunnel's that such a director opens. */
export function isOpenedTunnel(packet: Uint8Array): boolean {
  const [, destination] = addressesInPacket(packet)
  return destination === links.server.address && packet[9] === IpProtocol.ipip
}

/** What a scenario talks about. */
export interface Addresses {
  /** All addresses in its commands and packets, the gateways among them. */
  readonly all: ReadonlySet<string>
  /** Those of its virtual services, without the director's own. */
  readonly virtual: ReadonlySet<string>
}

export function addressesOf(events: readonly Event[]): Addresses {
  const all = new Set([GATEWAY, GATEWAY_V6])
  const virtual = new Set<string>()
  const names = numericNames()
  for (const event of events) {
    if (event.kind === 'ipvsadm')
      for (const { address, isVirtual } of addressesInCommand(event.args, names)) {
        all.add(address)
        if (isVirtual && !ownAddresses.includes(address)) virtual.add(address)
      }
    else if (event.kind === 'packet')
      for (const address of addressesInPacket(event.packet)) all.add(address)
  }
  return { all, virtual }
}

/** Source and destination of an IP packet; nothing when it is too short for them. */
export function addressesInPacket(packet: Uint8Array): string[] {
  const version = packet.length === 0 ? 0 : packet[0]! >> 4
  if (version === 4 && packet.length >= 20)
    return [packet.slice(12, 16).join('.'), packet.slice(16, 20).join('.')]
  if (version === 6 && packet.length >= 40)
    return [ipv6Text(packet.subarray(8, 24)), ipv6Text(packet.subarray(24, 40))]
  return []
}

/** What a command is about; nothing when ipvsadm cannot read it, which then does nothing. */
function addressesInCommand(
  args: readonly string[],
  names: Names,
): { address: string; isVirtual: boolean }[] {
  let invocation: Invocation
  try {
    invocation = parseCommandLine(args, names)
  } catch (error) {
    if (error instanceof CommandLineError) return []
    throw error
  }
  if (invocation.kind !== 'command') return []
  const { command } = invocation
  const found: { address: string; isVirtual: boolean }[] = []
  if ('service' in command && command.service && 'address' in command.service)
    found.push({ address: command.service.address, isVirtual: command.op === 'add-service' })
  if ('destination' in command)
    found.push({ address: command.destination.address, isVirtual: false })
  return found
}

/** Names as a machine without a resolver has them: hosts have none, ports those of the system. */
class NumericNames extends Names {
  override addressOf(): undefined {
    return undefined
  }

  override lookUpHosts(): Promise<void> {
    return Promise.resolve()
  }
}

let systemNames: NumericNames | undefined

/** The names that commands in scenarios know. */
export function numericNames(): Names {
  return (systemNames ??= new NumericNames())
}

function ipv6Text(bytes: Uint8Array): string {
  return canonicalIpv6(
    Buffer.from(bytes)
      .toString('hex')
      .replace(/(....)(?=.)/g, '$1:'),
  )!
}

function ipv6Groups(address: string): number[] {
  return ipv6Words(address).flatMap((word) => [word >>> 16, word & 0xffff])
}
