import { EventEmitter } from 'node:events'
import type { Link, Route, RouteUpdate } from '../core/route-table.js'
import {
  addressOf,
  AF_INET,
  bytesOf,
  explain,
  listInterfaces,
  macOf,
  openRtnetlink,
  rt,
  Table,
  type Interface,
  type RtSocket,
} from './rtnetlink.js'

/** Changes of routes come in bursts: the tables are read anew this long after the first. */
const SETTLE_MS = 20
/** How often the kernel is told which neighbours are in use, so that it keeps asking after them. */
const KEEP_FRESH_MS = 15_000
/** Neighbours kept fresh at most. */
const MAX_IN_USE = 4096

interface FollowerEvents {
  updates: [RouteUpdate[]]
  /** Following has failed for good. */
  failed: [Error]
}

/**
 * Follows the kernel's routing and neighbour tables, and asks the kernel to resolve neighbours. The kernel
 * stays the one that decides: uvs never speaks ARP for next hops itself.
 *
 * Routes of the tables local, main and default are followed; policy rules of others are not consulted.
 */
export class RouteFollower extends EventEmitter<FollowerEvents> {
  /** Interfaces as of the last reading. */
  interfaces: Interface[] = []

  private readonly requests: RtSocket = openRtnetlink()
  private readonly events: RtSocket = openRtnetlink({ keepAlive: true })
  private readonly inUse = new Map<string, { interfaceIndex: number; address: string }>()
  private readonly known = new Map<string, RouteUpdate & { kind: 'neighbour' }>()
  private settling: NodeJS.Timeout | undefined
  private readonly freshening: NodeJS.Timeout
  private closed = false

  private constructor() {
    super()
    this.events.on('message', (messages) => this.receive(messages))
    this.events.on('invalid', () => this.readSoon())
    // A burst that overran the socket's buffer: what was lost is read anew.
    this.events.socket.socket.on('error', () => this.readSoon(true))
    for (const group of ['LINK', 'IPV4_IFADDR', 'IPV4_ROUTE', 'NEIGH'] as const)
      this.events.addMembership(group)
    this.freshening = setInterval(() => this.keepFresh(), KEEP_FRESH_MS)
    this.freshening.unref()
  }

  /** Starts following. Subscribes before the first reading, so that nothing falls between. */
  static async start(): Promise<RouteFollower> {
    const follower = new RouteFollower()
    try {
      follower.interfaces = await listInterfaces(follower.requests)
      return follower
    } catch (error) {
      follower.close()
      throw error
    }
  }

  /** Everything that is known now. */
  async snapshot(): Promise<RouteUpdate[]> {
    return [await this.readRoutes(), ...(await this.readNeighbours())]
  }

  /** Has the kernel ask for a neighbour's address; the answer comes as an update. */
  resolve(neighbours: readonly { interfaceIndex: number; address: string }[]): void {
    for (const neighbour of neighbours) {
      const key = keyOf(neighbour)
      this.inUse.delete(key)
      this.inUse.set(key, neighbour)
      if (this.inUse.size > MAX_IN_USE) this.inUse.delete(this.inUse.keys().next().value!)
      this.use(neighbour)
    }
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    clearTimeout(this.settling)
    clearInterval(this.freshening)
    this.events.socket.close()
    this.requests.socket.close()
  }

  private receive(messages: rt.Message[]): void {
    const neighbours: RouteUpdate[] = []
    for (const message of messages) {
      if (message.kind === 'neighbor') {
        const update = neighbourUpdate(message)
        if (update && this.remember(update)) neighbours.push(update)
      } else {
        this.readSoon()
      }
    }
    if (neighbours.length > 0) this.emit('updates', neighbours)
  }

  private readSoon(alsoNeighbours = false): void {
    if (this.closed) return
    this.settling ??= setTimeout(() => {
      this.settling = undefined
      this.read(alsoNeighbours).catch((error: unknown) => {
        if (!this.closed) this.emit('failed', error as Error)
      })
    }, SETTLE_MS)
  }

  private async read(alsoNeighbours: boolean): Promise<void> {
    const updates: RouteUpdate[] = [await this.readRoutes()]
    if (alsoNeighbours) {
      const before = new Set(this.known.keys())
      updates.push(...(await this.readNeighbours()))
      for (const update of updates) if (update.kind === 'neighbour') before.delete(keyOf(update))
      for (const key of before) {
        const { mac: _, ...gone } = this.known.get(key)!
        this.known.delete(key)
        updates.push(gone)
      }
    }
    if (!this.closed) this.emit('updates', updates)
  }

  private async readRoutes(): Promise<RouteUpdate> {
    this.interfaces = await listInterfaces(this.requests)
    const addresses = await explain(
      'listing addresses',
      this.requests.getAddresses({ family: AF_INET }),
    )
    const links: Link[] = this.interfaces.map(({ interfaceIndex, mtu }) => ({
      interfaceIndex,
      mtu,
      addresses: addresses
        .filter(({ data }) => data.index === interfaceIndex)
        .map(({ data, attrs }) => ({
          address: addressOf(attrs.local) ?? '0.0.0.0',
          prefixLength: data.prefixlen ?? 32,
        })),
    }))
    const messages = await explain('listing routes', this.requests.getRoutes({ family: AF_INET }))
    const routes = messages.map(routeOf).filter((route) => route !== undefined)
    return { kind: 'routes', routes, links }
  }

  private async readNeighbours(): Promise<RouteUpdate[]> {
    const messages = await explain(
      'listing neighbours',
      this.requests.getNeighbors({ family: AF_INET }),
    )
    const updates = messages.map(neighbourUpdate).filter((update) => update !== undefined)
    for (const update of updates) this.remember(update)
    return updates
  }

  /** True when this is news. */
  private remember(update: RouteUpdate & { kind: 'neighbour' }): boolean {
    const key = keyOf(update)
    if (this.known.get(key)?.mac === update.mac && (update.mac || !this.inUse.has(key)))
      return false
    if (update.mac) this.known.set(key, update)
    else this.known.delete(key)
    return true
  }

  /** `ip neigh … use`: the kernel makes sure of the entry, by asking when it has to. */
  private use({ interfaceIndex, address }: { interfaceIndex: number; address: string }): void {
    this.requests
      .newNeighbor(
        { family: AF_INET, ifindex: interfaceIndex, flags: { use: true } },
        { dst: bytesOf(address) },
        { flags: NLM_F_CREATE | NLM_F_REPLACE },
      )
      // The interface may be gone or down by now; the packets that wait are given up in time.
      .catch(() => {})
  }

  private keepFresh(): void {
    for (const [key, neighbour] of this.inUse) {
      // What does not answer is asked for again when a packet wants it.
      if (this.known.has(key)) this.use(neighbour)
      else this.inUse.delete(key)
    }
  }
}

const NLM_F_REPLACE = 0x100
const NLM_F_CREATE = 0x400

function keyOf({ interfaceIndex, address }: { interfaceIndex: number; address: string }): string {
  return `${interfaceIndex} ${address}`
}

function neighbourUpdate(
  message: rt.NeighborMessage,
): (RouteUpdate & { kind: 'neighbour' }) | undefined {
  const { data, attrs } = message
  const address = addressOf(attrs.dst)
  if (data.family !== AF_INET || address === undefined || data.flags?.proxy) return undefined
  const state = data.state ?? {}
  const mac = macOf(attrs.lladdr)
  const isValid =
    state.reachable || state.stale || state.delay || state.probe || state.permanent || state.noarp
  return {
    kind: 'neighbour',
    interfaceIndex: data.ifindex ?? 0,
    address,
    ...(isValid && mac !== undefined ? { mac } : {}),
  }
}

const tableNames = new Map<number, Route['table']>([
  [Table.local, 'local'],
  [Table.main, 'main'],
  [Table.default, 'default'],
])

/** Undefined for routes of other tables and those that concern no unicast traffic. */
function routeOf({ data, attrs }: rt.RouteMessage): Route | undefined {
  const table = tableNames.get(attrs.table ?? data.table ?? 0)
  if (!table || data.family !== AF_INET) return undefined
  const base = {
    destination: `${addressOf(attrs.dst) ?? '0.0.0.0'}/${data.dstLen ?? 0}`,
    table,
    metric: attrs.priority ?? 0,
  }
  const source = addressOf(attrs.prefsrc)
  const mtu = attrs.metrics?.mtu
  const more = {
    ...(source === undefined ? {} : { source }),
    ...(mtu ? { mtu: Buffer.from(mtu).readUInt32LE(0) } : {}),
  }
  switch (typeOf(data.type)) {
    case rt.RouteType.LOCAL:
      return { ...base, ...more, type: 'local', interfaceIndex: attrs.oif ?? 0 }
    case rt.RouteType.UNICAST: {
      // Of several paths the first that is given: the choice stays the same for a destination.
      const hop = attrs.multipath
        ? firstPath(attrs.multipath)
        : { oif: attrs.oif, gateway: addressOf(attrs.gateway) }
      if (hop.oif === undefined) return undefined
      return {
        ...base,
        ...more,
        type: 'unicast',
        interfaceIndex: hop.oif,
        ...(hop.gateway === undefined ? {} : { gateway: hop.gateway }),
      }
    }
    default:
      return { ...base, type: 'none', interfaceIndex: 0 }
  }
}

function typeOf(type: rt.Route['type']): number | undefined {
  return typeof type === 'string' ? rt.RouteType[type] : type
}

/** The first struct rtnexthop of a multipath route, and the gateway among its attributes. */
function firstPath(bytes: Buffer): { oif: number | undefined; gateway: string | undefined } {
  const RTA_GATEWAY = 5
  const HEADER = 8
  const length = bytes.readUInt16LE(0)
  let gateway: string | undefined
  for (let at = HEADER; at + 4 <= length;) {
    const attributeLength = bytes.readUInt16LE(at)
    if (attributeLength < 4) break
    if (bytes.readUInt16LE(at + 2) === RTA_GATEWAY)
      gateway = addressOf(bytes.subarray(at + 4, at + attributeLength))
    at += (attributeLength + 3) & ~3
  }
  return { oif: bytes.readUInt32LE(4), gateway }
}
