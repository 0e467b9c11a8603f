/** A scenario through the director, in virtual time: the kernel oracle's counterpart. */
import { Writable } from 'node:stream'
import { executeEach } from '../control/api.js'
import { runIpvsadm, type Backend } from '../control/ipvsadm/run.js'
import { parseSetting } from '../control/sysctl.js'
import { IpvsError } from '../core/commands.js'
import { createDataPlane, type DataPlane } from '../core/data-plane.js'
import { describeConnections } from '../core/describe.js'
import { Director } from '../core/director.js'
import { RouteTable, type RouteUpdate } from '../core/route-table.js'
import { MemoryPort } from '../drivers/memory.js'
import { JIFFIES_PER_SECOND, ManualClock } from '../port/clock.js'
import { FramePool, SCRATCH_BYTES } from '../port/frame-pool.js'
import { LinkLayer } from '../port/packet-port.js'
import { SeededRandom } from '../port/random.js'
import * as ethernet from '../wire/ethernet.js'
import { parseConnections } from './compare.js'
import { eventsOf } from './events.js'
import { Host } from './host.js'
import { LEAD_JIFFIES, ScenarioError, type Event, type Scenario, type Side } from './scenario.js'
import { ScenarioSyncDaemons } from './sync-daemons.js'
import {
  sortConnections,
  type EndRecord,
  type PacketRecord,
  type SentPacket,
  type Trace,
  type TraceRecord,
} from './trace.js'
import * as wiring from './wiring.js'

/** A frame holds what a link carries, with room for what goes in front. */
const FRAME_BYTES = 2048
const FRAMES = 1024
/** Lines of the connection table that a packet takes at most: an IPv6 connection and its template. */
const LINES_PER_PACKET = 4
const MIN_CONNECTIONS = 1024
/** What listings say is the kernel's default (conn_tab_bits=12), which bounds nothing. */
const TABLE_SIZE = 4096
const MS_PER_JIFFY = 1000 / JIFFIES_PER_SECOND
/** The kernel sums up its counters every 2 s; both sides let that pass before services are listed. */
export const SUMMING_MS = 2300
/** Interface indexes of the director. */
const LO = 1
const interfaceOf: Record<Side, number> = { client: 2, server: 3 }
/** Indexes of the data plane's ports. */
const portOf: Record<Side, number> = { client: 0, server: 1 }
const KERNEL_PORT = 2
const TUNNEL_PORT = 3

export interface ReplayOptions {
  /** Of what the director draws at random: identifications, hash seeds, random scheduling. Default 1. */
  seed?: number
  /** Called with each frame on the links, at its time. */
  onFrame?: (frame: Uint8Array, side: Side, direction: 'in' | 'out', atMs: number) => void
  /** Called when the director does not take the value of a setting, with its words for it. */
  onRefusal?: (event: Event, problem: string) => void
  /** Called before each event, and when all are through. */
  onEvent?: (event: Event | undefined, director: Director) => void
}

/**
 * Runs a scenario. The same scenario and seed make the same trace.
 *
 * @throws ScenarioError when the scenario cannot be run
 */
export function replay(scenario: Scenario, options: ReplayOptions = {}): Promise<Trace> {
  return replayEvents(eventsOf(scenario), scenario.name, options)
}

/** The same for a list of events. @param name how errors call it */
export async function replayEvents(
  events: readonly Event[],
  name: string,
  options: ReplayOptions = {},
): Promise<Trace> {
  const world = new World(events, options)
  const trace: Trace = []
  for (const event of events) {
    world.advanceTo(event.atMs)
    options.onEvent?.(event, world.director)
    const record = await world.run(event, name)
    if (record) trace.push(world.withSent(record))
  }
  options.onEvent?.(undefined, world.director)
  trace.push(world.withSent(await world.end()))
  return trace
}

class World {
  readonly director: ScenarioDirector
  private readonly clock = new ManualClock()
  private readonly ports: Record<Side, MemoryPort>
  private readonly kernelPort: MemoryPort
  /** Where packets come out of tunnels that the stack has opened; undefined where it opens none. */
  private readonly tunnelPort: MemoryPort | undefined
  private readonly dataPlane: DataPlane
  private readonly host: Host
  private readonly names = wiring.numericNames()
  private readonly backend: Backend
  private atMs = 0
  private marked = false
  private readonly before: SentPacket[] = []

  constructor(
    events: readonly Event[],
    private readonly options: ReplayOptions,
  ) {
    const seed = options.seed ?? 1
    const pool = new FramePool(
      new ArrayBuffer(FRAME_BYTES * FRAMES + SCRATCH_BYTES),
      FRAME_BYTES,
      FRAMES,
    )
    const portFor = (side: Side): MemoryPort =>
      new MemoryPort({
        pool,
        name: side,
        linkLayer: LinkLayer.ethernet,
        mac: macOf(side),
        mtu: wiring.MTU,
      })
    this.ports = { client: portFor('client'), server: portFor('server') }
    this.kernelPort = new MemoryPort({ pool, name: 'kernel', linkLayer: LinkLayer.ip })
    if (wiring.opensTunnels(events))
      this.tunnelPort = new MemoryPort({ pool, name: 'tunnel', linkLayer: LinkLayer.ip })
    const ports = [this.ports.client, this.ports.server, this.kernelPort]
    if (this.tunnelPort) ports[TUNNEL_PORT] = this.tunnelPort
    const routes = new RouteTable()
    const addresses = wiring.addressesOf(events)
    routes.apply(routeUpdates(addresses))
    const random = new SeededRandom(seed)
    this.director = new ScenarioDirector({
      pool,
      neighbours: routes,
      random,
      table: { maxConnections: MIN_CONNECTIONS + LINES_PER_PACKET * events.length, seed },
      ports: ports.map(({ name }) => ({ name, interface: name })),
      now: -LEAD_JIFFIES,
      sampledCounters: true,
      // The wiring has ICMP rate limits off.
      settings: {
        icmpRateLimitJiffies: 0,
        icmpMessagesPerSecond: 1_000_000,
        icmpMessagesBurst: 1_000_000,
      },
    })
    this.expire()
    this.dataPlane = createDataPlane({
      pool,
      ports,
      director: this.director,
      neighbours: routes,
      clock: this.clock,
      kernelPath: { port: KERNEL_PORT },
      roomBehindFragment,
    })
    this.host = new Host(addresses.virtual, random)
    const { director, clock } = this
    this.backend = {
      execute: (commands) =>
        executeEach((command) => {
          try {
            if (command.op === 'list-services')
              return Promise.resolve({ ...director.execute(command), tableSize: TABLE_SIZE })
            return Promise.resolve(director.execute(command))
          } catch (error) {
            return Promise.reject(error as Error)
          }
        }, commands),
      syncDaemons: new ScenarioSyncDaemons(['lo', ...wiring.sideNames]),
      async *connections() {
        const templates = director.execute({ op: 'list-engine-templates' })
        yield [...describeConnections(director.table, clock.nowJiffies(), templates)]
      },
    }
  }

  /** Lets time pass: timers fire at their jiffies. */
  advanceTo(ms: number): void {
    this.atMs = ms
    const target = Math.floor(ms / MS_PER_JIFFY)
    for (;;) {
      const left = target - this.clock.nowJiffies()
      if (left <= 0) return
      const next = Math.max(1, this.director.jiffiesToNextTimer())
      this.clock.advanceJiffies(Math.min(left, next))
      this.expire()
      this.dataPlane.round()
      for (const side of wiring.sideNames)
        for (const frame of this.ports[side].takeTransmitted()) this.note(this.before, side, frame)
    }
  }

  /** A record with what has been sent since the last one because time has passed. */
  withSent(record: TraceRecord): TraceRecord {
    if (this.before.length === 0) return record
    return { ...record, before: this.before.splice(0) }
  }

  /** All that is due, however much it is. */
  private expire(): void {
    while (!this.director.advance(this.clock.nowJiffies()));
  }

  async run(event: Event, scenario: string): Promise<TraceRecord | undefined> {
    switch (event.kind) {
      case 'ipvsadm':
        return { line: event.line, ...(await this.ipvsadm(event.args)) }
      case 'sysctl':
        this.sysctl(event, scenario)
        return undefined
      case 'packet':
        return this.packet(event)
    }
  }

  async end(): Promise<EndRecord> {
    const { stdout } = await this.ipvsadm(['-L', '-n', '-c'])
    const connections = sortConnections(parseConnections(stdout)!)
    this.advanceTo(this.atMs + SUMMING_MS)
    const services = await this.ipvsadm(['-L', '-n', '--stats', '--exact'])
    return { end: true, services: services.stdout, connections }
  }

  private async ipvsadm(
    args: readonly string[],
  ): Promise<{ exit: number; stdout: string; stderr: string }> {
    const stdout = new Collector()
    const stderr = new Collector()
    const streams = { stdin: nothing(), stdout, stderr }
    const exit = await runIpvsadm(args, this.backend, streams, this.names, 'ipvsadm')
    return { exit, stdout: stdout.text, stderr: stderr.text }
  }

  private sysctl(event: Event & { kind: 'sysctl' }, scenario: string): void {
    const { key, value, line } = event
    try {
      this.director.execute(parseSetting(`${key}=${value}`))
    } catch (error) {
      // What the kernel refuses is refused here, too: the run goes on as there.
      if (!(error instanceof Error)) throw error
      if (error instanceof IpvsError && error.code !== 'ENOENT')
        return this.options.onRefusal?.(event, error.message)
      throw new ScenarioError(scenario, line, 'sysctl '.length + 1, error.message)
    }
  }

  private packet(event: Event & { kind: 'packet' }): PacketRecord {
    const { packet, side, line } = event
    const record: PacketRecord = { line, out: [], declined: false }
    // What is longer than the link's MTU does not come through it.
    if (packet.length > wiring.MTU) return record
    const frame = frameOf(packet, wiring.links[side].mac, FAR_MAC)
    this.options.onFrame?.(frame, side, 'in', this.atMs)
    this.receive(record, this.ports[side], frame, packet, event)
    if (record.declined) record.out = []
    return record
  }

  /** A packet comes in by a port of the director's. @param event that it came of */
  private receive(
    record: PacketRecord,
    port: MemoryPort,
    frame: Uint8Array,
    packet: Uint8Array,
    event: Event & { kind: 'packet' },
  ): void {
    const { host, director } = this
    const { mark } = event
    if (!host.admits(packet)) return
    director.isForwarding = !host.isLocal(packet, mark)
    this.mark(director.isForwarding ? 0 : mark)
    port.inject(frame)
    while (port.pending > 0) this.dataPlane.round()
    for (const each of wiring.sideNames)
      for (const sent of this.ports[each].takeTransmitted()) this.note(record.out, each, sent)
    for (const left of this.kernelPort.takeTransmitted()) this.leave(record, left, event)
  }

  /** A packet is left to the stack. */
  private leave(record: PacketRecord, packet: Uint8Array, event: Event & { kind: 'packet' }): void {
    const { host, tunnelPort } = this
    const { side, mark } = event
    const isLocal = host.isLocal(packet, mark)
    const refused = host.refuseOptions(packet, isLocal)
    if (!refused && isLocal) {
      const inner = tunnelPort && host.open(packet)
      if (inner) return this.receive(record, tunnelPort, inner, inner, event)
      // What the director has rewritten for its own stack is delivered there, too.
      record.declined = true
      return
    }
    const routed = refused ?? host.forward(packet, side)
    if (!routed) {
      record.declined = true
      return
    }
    for (const { side: out, dmac, packet: sent } of routed)
      this.note(record.out, out, frameOf(sent, dmac, macOf(out)))
  }

  private note(sent: SentPacket[], side: Side, frame: Uint8Array): void {
    this.options.onFrame?.(frame, side, 'out', this.atMs)
    sent.push(sentPacket(side, frame))
  }

  /** The packet that comes next bears this firewall mark: a rule that matches all gives it. */
  private mark(mark: number): void {
    if (mark === 0 && !this.marked) return
    this.director.execute({ op: 'set-marks', rules: mark === 0 ? [] : [{ mark }] })
    this.marked = mark !== 0
  }
}

/**
 * Room behind a fragment in the oracle's kernel, where a sent frame lies in memory of its own: in front of the IP header
 * are 16 bytes, behind the packet comes what is left of the allocation, which ends with struct skb_shared_info.
 */
function roomBehindFragment(receivedBytes: number, usedBytes: number): number {
  const [before, shared, line] = [16, 320, 64]
  const needed = Math.ceil((before + ethernet.HEADER_BYTES + receivedBytes) / line) * line + shared
  const allocated = 2 ** Math.ceil(Math.log2(needed))
  return allocated - shared - before - usedBytes
}

/** Where packets come from. */
const FAR_MAC = ethernet.parseMac('02:fa:00:00:00:01')!

function macOf(side: Side): Uint8Array {
  return ethernet.parseMac(wiring.links[side].mac)!
}

/** A frame of an IP packet. @param to the station's address as text */
function frameOf(packet: Uint8Array, to: string, from: Uint8Array): Uint8Array {
  const { ipv4, ipv6 } = ethernet.EtherTypeBe
  const etherTypeBe = packet[0]! >> 4 === 6 ? ipv6 : ipv4
  const frame = new Uint8Array(ethernet.HEADER_BYTES + packet.length)
  frame.set(ethernet.parseMac(to)!)
  frame.set(from, 6)
  frame[12] = etherTypeBe & 0xff
  frame[13] = etherTypeBe >> 8
  frame.set(packet, ethernet.HEADER_BYTES)
  return frame
}

/**
 * The director, which is told of each packet whether it is for another machine. The kernel has two hooks for the
 * two: of what it forwards, IPVS takes only replies and ICMP errors.
 */
class ScenarioDirector extends Director {
  /** Whether the packet that comes next is for another machine. */
  get isForwarding(): boolean {
    return !this.takesRequests
  }
  set isForwarding(isForwarding: boolean) {
    this.takesRequests = !isForwarding
  }

  protected override isDelivered(): boolean {
    return !this.isForwarding
  }
}

function sentPacket(side: Side, frame: Uint8Array): SentPacket {
  return {
    side,
    dmac: Array.from(frame.subarray(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join(':'),
    ip: Buffer.from(frame.subarray(ethernet.HEADER_BYTES)).toString('hex'),
  }
}

function routeUpdates(addresses: wiring.Addresses): RouteUpdate[] {
  const { sideNames, links, onLinkSide, macOf, ownAddresses, GATEWAY, GATEWAY_V6, MTU } = wiring
  return [
    {
      op: 'set-ports',
      ports: sideNames.map((side) => ({
        port: portOf[side],
        linkLayer: LinkLayer.ethernet,
        interfaces: [interfaceOf[side]],
      })),
    },
    {
      op: 'links',
      links: [
        { index: LO, name: 'lo', mtu: 65536, up: true },
        ...sideNames.map((side) => ({
          index: interfaceOf[side],
          name: side,
          mtu: MTU,
          mac: links[side].mac,
          up: true,
        })),
      ],
    },
    {
      op: 'addresses',
      addresses: [
        ...sideNames.flatMap((side) => [
          {
            interfaceIndex: interfaceOf[side],
            address: links[side].address,
            prefixLength: links[side].prefixLength,
          },
          {
            interfaceIndex: interfaceOf[side],
            address: links[side].addressV6,
            prefixLength: links[side].prefixLengthV6,
          },
        ]),
        ...[...addresses.virtual].map((address) => ({
          interfaceIndex: LO,
          address,
          prefixLength: address.includes(':') ? 128 : 32,
        })),
      ],
    },
    {
      op: 'routes',
      routes: [
        ...['127.0.0.0/8', '::1/128'].map((prefix) => ({
          table: 'local' as const,
          prefix,
          type: 'local' as const,
          metric: 0,
          nextHops: [{ interfaceIndex: LO }],
        })),
        ...wiring.broadcastAddresses.map((prefix) => ({
          table: 'local' as const,
          prefix: `${prefix}/32`,
          type: 'broadcast' as const,
          metric: 0,
          nextHops: [],
        })),
        ...sideNames.flatMap((side) => [
          {
            table: 'main' as const,
            prefix: `10.${side === 'client' ? 1 : 2}.0.0/16`,
            type: 'unicast' as const,
            metric: 0,
            preferredSource: links[side].address,
            nextHops: [{ interfaceIndex: interfaceOf[side] }],
          },
          {
            table: 'main' as const,
            prefix: `fd0${side === 'client' ? 1 : 2}::/64`,
            type: 'unicast' as const,
            metric: 256,
            nextHops: [{ interfaceIndex: interfaceOf[side] }],
          },
        ]),
        ...[['0.0.0.0/0', GATEWAY] as const, ['::/0', GATEWAY_V6] as const].map(
          ([prefix, gateway]) => ({
            table: 'main' as const,
            prefix,
            type: 'unicast' as const,
            metric: 0,
            nextHops: [{ interfaceIndex: interfaceOf.client, gateway }],
          }),
        ),
      ],
    },
    {
      op: 'neighbours',
      neighbours: [...addresses.all].flatMap((address) => {
        const side = ownAddresses.includes(address) ? undefined : onLinkSide(address)
        return side
          ? [
              {
                interfaceIndex: interfaceOf[side],
                address,
                mac: macOf(address),
                state: 'permanent' as const,
              },
            ]
          : []
      }),
    },
  ]
}

class Collector extends Writable {
  text = ''

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('utf8')
    done()
  }
}

async function* nothing(): AsyncGenerator<string> {
  // ipvsadm's standard input is empty
}
