/** Updates of a route table in short. */
import type { RouteUpdate } from '../../src/core/route-table.js'

export const linkUpdate = (index: number, name: string, mtu = 1500): RouteUpdate => ({
  op: 'set-link',
  link: { index, name, mtu, up: true },
})

/** A unicast route of the main table. */
export const routeUpdate = (
  prefix: string,
  interfaceIndex: number,
  gateway?: string,
): RouteUpdate => ({
  op: 'set-route',
  route: {
    table: 'main',
    prefix,
    type: 'unicast',
    metric: 0,
    nextHops: [{ interfaceIndex, ...(gateway !== undefined && { gateway }) }],
  },
})

export const neighbourUpdate = (
  interfaceIndex: number,
  address: string,
  mac: string,
): RouteUpdate => ({
  op: 'set-neighbour',
  neighbour: { interfaceIndex, address, mac, state: 'reachable' },
})
