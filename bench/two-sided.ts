/** What the loads in memory have in common: a director between clients and servers, and its plainest services. */
import type { DestinationOptions, ForwardingMethod, ServiceOptions } from '../src/core/commands.js'
import type { RouteUpdate } from '../src/core/route-table.js'
import { LinkLayer } from '../src/port/packet-port.js'
import { parseMac } from '../src/wire/ethernet.js'

/** Of the clients' side, which is port 0 and interface 2, and the servers', port 1 and interface 3. */
const MACS = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const
export const DIRECTOR_MACS = MACS.map((mac) => parseMac(mac)!) as [Uint8Array, Uint8Array]

export const CLIENTS_INTERFACE = 2
export const SERVERS_INTERFACE = 3

export const PLAIN_SERVICE: ServiceOptions = {
  scheduler: 'rr',
  schedulerFlags: [],
  persistentTimeoutSeconds: 0,
  persistentPrefixLength: 32,
  onePacket: false,
}

export const plainDestination = (forwarding: ForwardingMethod): DestinationOptions => ({
  forwarding,
  weight: 1,
  upperThreshold: 0,
  lowerThreshold: 0,
})

export const interfaces = (): RouteUpdate[] => [
  {
    op: 'set-ports',
    ports: [
      { port: 0, linkLayer: LinkLayer.ethernet, interfaces: [CLIENTS_INTERFACE] },
      { port: 1, linkLayer: LinkLayer.ethernet, interfaces: [SERVERS_INTERFACE] },
    ],
  },
  {
    op: 'links',
    links: [
      { index: CLIENTS_INTERFACE, name: 'clients', mtu: 1500, mac: MACS[0], up: true },
      { index: SERVERS_INTERFACE, name: 'servers', mtu: 1500, mac: MACS[1], up: true },
    ],
  },
]

export const address = (
  interfaceIndex: number,
  text: string,
  prefixLength: number,
): RouteUpdate => ({ op: 'set-address', address: { interfaceIndex, address: text, prefixLength } })

export const route = (prefix: string, interfaceIndex: number, gateway?: string): RouteUpdate => ({
  op: 'set-route',
  route: {
    table: 'main',
    prefix,
    type: 'unicast',
    metric: 0,
    nextHops: [{ interfaceIndex, ...(gateway !== undefined && { gateway }) }],
  },
})

export const neighbour = (interfaceIndex: number, text: string, mac: string): RouteUpdate => ({
  op: 'set-neighbour',
  neighbour: { interfaceIndex, address: text, mac, state: 'permanent' },
})
