import { EventEmitter } from 'node:events'
import type {
  NeighbourState,
  Route,
  RouteNeighbour,
  RouteNextHop,
  RouteUpdate,
  WantedNeighbour,
} from '../../core/route-table.js'
import {
  addressOf,
  AF_INET,
  bytesOf,
  explain,
  listInterfaces,
  macOf,
  openRtnetlink,
  rt,
  surviveOverruns,
  Table,
  type Interface,
  type RtSocket,
} from './rtnetlink.js'

/** Changes of routes come in bursts: the tables are read anew this long after the first. */
const SETTLE_MS = 20
/** A pause after reading is this much longer than reading took. */
const READING_SHARE = 4
/** How often the route table looks for neighbours in use that have grown stale. */
const REVIEW_MS = 10_000
/** How often it is looked whether the kernel had more to tell than fitted the socket's buffer. */
const CHECK_LOST_MS = 500

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
  private settling: NodeJS.Timeout | undefined
  private readonly reviewing: NodeJS.Timeout
  private closed = false
  /** Neighbours were lost on the way, and have to be read anew as well. */
  private overran = false

  private readonly lostSoFar: () => number
  private lost: number
  private readonly checking: NodeJS.Timeout
  /** How long the last reading took. */
  private readingMs = 0
  /** Tables are being read: what is heard meanwhile is held back, lest the older reading replaces it. */
  private readings = 0
  private held: RouteUpdate[] = []

  private constructor() {
    super()
    this.lostSoFar = surviveOverruns(this.events)
    this.lost = this.lostSoFar()
    // The library's own parsed messages do not say whether something came or went.
    this.events.socket.on('message', (messages) => this.receive(messages))
    this.checking = setInterval(() => this.checkLost(), CHECK_LOST_MS)
    this.checking.unref()
    for (const group of ['LINK', 'IPV4_IFADDR', 'IPV4_ROUTE', 'NEIGH'] as const)
      this.events.addMembership(group)
    this.reviewing = setInterval(() => this.emit('updates', [{ op: 'review' }]), REVIEW_MS)
    this.reviewing.unref()
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

  /** Everything that the kernel's tables hold now. */
  async snapshot(): Promise<RouteUpdate[]> {
    this.readings++
    try {
      return [...(await this.readRoutes()), await this.readNeighbours()]
    } finally {
      // After the caller has gone on with the answer.
      setImmediate(() => this.readingEnded())
    }
  }

  /**
   * Has the kernel ask for neighbours' addresses, as `ip neigh … use` does; answers come as updates. An
   * interface that is gone or down is no error: the packets that wait are given up in time.
   */
  resolve(neighbours: readonly WantedNeighbour[]): void {
    for (const { interfaceIndex, address } of neighbours)
      this.requests
        .newNeighbor(
          { family: AF_INET, ifindex: interfaceIndex, flags: { use: true } },
          { dst: bytesOf(address) },
          { flags: NLM_F_CREATE | NLM_F_REPLACE },
        )
        .catch(() => {})
  }

  /** The interfaces as they are at this moment. */
  async readInterfaces(): Promise<Interface[]> {
    return (this.interfaces = await listInterfaces(this.requests))
  }

  /** The machine's own addresses, each with the name of the interface that has it. */
  async readAddresses(): Promise<Map<string, string>> {
    const names = new Map(
      (await this.readInterfaces()).map(({ interfaceIndex, name }) => [interfaceIndex, name]),
    )
    const messages = await this.listAddresses()
    return new Map(
      messages.map(({ data, attrs }) => [
        addressOf(attrs.local) ?? '',
        names.get(data.index ?? 0) ?? '',
      ]),
    )
  }

  close(): void {
    if (this.closed) return
    this.closed = true
    clearTimeout(this.settling)
    clearInterval(this.reviewing)
    clearInterval(this.checking)
    this.events.socket.close()
    this.requests.socket.close()
  }

  private receive(messages: readonly { type: number; data: Uint8Array }[]): void {
    const neighbours: RouteUpdate[] = []
    for (const { type, data } of messages) {
      if (type !== rt.MessageType.NEWNEIGH && type !== rt.MessageType.DELNEIGH) {
        this.readSoon()
        continue
      }
      const neighbour = neighbourOf(rt.parseNeighborMessage(Buffer.from(data)))
      if (!neighbour) continue
      const { interfaceIndex, address } = neighbour
      neighbours.push(
        type === rt.MessageType.NEWNEIGH
          ? { op: 'set-neighbour', neighbour }
          : { op: 'delete-neighbour', interfaceIndex, address },
      )
    }
    if (neighbours.length === 0) return
    if (this.readings > 0) this.held.push(...neighbours)
    else this.emit('updates', neighbours)
  }

  private readingEnded(): void {
    if (--this.readings > 0 || this.held.length === 0) return
    const updates = this.held
    this.held = []
    if (!this.closed) this.emit('updates', updates)
  }

  private checkLost(): void {
    const lost = this.lostSoFar()
    if (lost === this.lost) return
    this.lost = lost
    this.readSoon(true)
  }

  private readSoon(alsoNeighbours = false): void {
    this.overran ||= alsoNeighbours
    if (this.closed) return
    // Large tables that keep changing are not read without end.
    const pause = Math.max(SETTLE_MS, READING_SHARE * this.readingMs)
    this.settling ??= setTimeout(() => {
      this.settling = undefined
      this.read().catch((error: unknown) => {
        if (!this.closed) this.emit('failed', error as Error)
      })
    }, pause)
  }

  private async read(): Promise<void> {
    this.readings++
    const start = performance.now()
    try {
      const updates = await this.readRoutes()
      if (this.overran) {
        this.overran = false
        updates.push(await this.readNeighbours())
      }
      if (!this.closed) this.emit('updates', updates)
    } finally {
      this.readingMs = performance.now() - start
      this.readingEnded()
    }
  }

  private async readRoutes(): Promise<RouteUpdate[]> {
    await this.readInterfaces()
    const addresses = await this.listAddresses()
    const routes = await explain('listing routes', this.requests.getRoutes({ family: AF_INET }))
    return [
      {
        op: 'links',
        links: this.interfaces.map(({ interfaceIndex, mac, master, ...rest }) => ({
          index: interfaceIndex,
          ...rest,
          ...(mac === undefined ? {} : { mac }),
          ...(master === undefined ? {} : { master }),
        })),
      },
      {
        op: 'addresses',
        addresses: addresses.map(({ data, attrs }) => ({
          interfaceIndex: data.index ?? 0,
          address: addressOf(attrs.local) ?? '0.0.0.0',
          prefixLength: data.prefixlen ?? 32,
          secondary: data.flags?.secondary ?? false,
        })),
      },
      { op: 'routes', routes: routes.map(routeOf).filter((route) => route !== undefined) },
    ]
  }

  private listAddresses(): Promise<rt.AddressMessage[]> {
    return explain('listing addresses', this.requests.getAddresses({ family: AF_INET }))
  }

  private async readNeighbours(): Promise<RouteUpdate> {
    const messages = await explain(
      'listing neighbours',
      this.requests.getNeighbors({ family: AF_INET }),
    )
    const neighbours = messages.map(neighbourOf).filter((one) => one !== undefined)
    return { op: 'neighbours', neighbours }
  }
}

const NLM_F_REPLACE = 0x100
const NLM_F_CREATE = 0x400

const neighbourStates: NeighbourState[] = [
  'permanent',
  'noarp',
  'reachable',
  'stale',
  'delay',
  'probe',
  'incomplete',
  'failed',
]

/** Undefined for proxy entries and other families. */
function neighbourOf({ data, attrs }: rt.NeighborMessage): RouteNeighbour | undefined {
  const address = addressOf(attrs.dst)
  if (data.family !== AF_INET || address === undefined || data.flags?.proxy) return undefined
  const mac = macOf(attrs.lladdr)
  return {
    interfaceIndex: data.ifindex ?? 0,
    address,
    state: neighbourStates.find((state) => data.state?.[state as keyof rt.NeighborState]) ?? 'none',
    ...(mac === undefined ? {} : { mac }),
  }
}

const tableNames = new Map<number, Route['table']>([
  [Table.local, 'local'],
  [Table.main, 'main'],
  [Table.default, 'default'],
])

const typeNames = new Map<number | undefined, Route['type']>([
  [rt.RouteType.UNICAST, 'unicast'],
  [rt.RouteType.LOCAL, 'local'],
  [rt.RouteType.BROADCAST, 'broadcast'],
  [rt.RouteType.UNREACHABLE, 'unreachable'],
  [rt.RouteType.BLACKHOLE, 'blackhole'],
  [rt.RouteType.PROHIBIT, 'prohibit'],
  [rt.RouteType.THROW, 'throw'],
])

/** Undefined for routes of other tables and those that concern no unicast traffic. */
function routeOf({ data, attrs }: rt.RouteMessage): Route | undefined {
  const table = tableNames.get(attrs.table ?? data.table ?? 0)
  const type = typeNames.get(typeof data.type === 'string' ? rt.RouteType[data.type] : data.type)
  if (!table || !type || data.family !== AF_INET) return undefined
  const preferredSource = addressOf(attrs.prefsrc)
  const mtu = attrs.metrics?.mtu
  return {
    table,
    type,
    prefix: `${addressOf(attrs.dst) ?? '0.0.0.0'}/${data.dstLen ?? 0}`,
    metric: attrs.priority ?? 0,
    nextHops: attrs.multipath
      ? pathsOf(attrs.multipath)
      : attrs.oif === undefined
        ? []
        : [nextHop(attrs.oif, addressOf(attrs.gateway))],
    ...(preferredSource === undefined ? {} : { preferredSource }),
    ...(mtu ? { mtu: Buffer.from(mtu).readUInt32LE(0) } : {}),
  }
}

function nextHop(interfaceIndex: number, gateway: string | undefined): RouteNextHop {
  return { interfaceIndex, ...(gateway === undefined ? {} : { gateway }) }
}

/** The struct rtnexthops of a multipath route, each with the gateway among its attributes. */
function pathsOf(bytes: Buffer): RouteNextHop[] {
  const RTA_GATEWAY = 5
  const HEADER = 8
  const paths: RouteNextHop[] = []
  for (let start = 0; start + HEADER <= bytes.length;) {
    const length = bytes.readUInt16LE(start)
    if (length < HEADER) break
    const weight = bytes.readUInt8(start + 3) + 1
    let gateway: string | undefined
    for (let at = start + HEADER; at + 4 <= start + length;) {
      const attributeLength = bytes.readUInt16LE(at)
      if (attributeLength < 4) break
      if (bytes.readUInt16LE(at + 2) === RTA_GATEWAY)
        gateway = addressOf(bytes.subarray(at + 4, at + attributeLength))
      at += (attributeLength + 3) & ~3
    }
    paths.push({ ...nextHop(bytes.readUInt32LE(start + 4), gateway), weight })
    start += (length + 3) & ~3
  }
  return paths
}
