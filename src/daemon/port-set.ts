import { randomBytes } from 'node:crypto'
import type { Steering } from '../core/commands.js'
import type { PortInterfaces } from '../core/route-table.js'
import { interfaceQueues } from '../drivers/interface.js'
import { XdpSteering } from '../drivers/xdp-steering.js'
import {
  canThreadReceive,
  devicePlumbing,
  tunPlumbing,
  virtualAddresses,
  type PlumbingItem,
} from '../kernel/routing/plumbing.js'
import type { Interface } from '../kernel/routing/rtnetlink.js'
import { LinkLayer } from '../port/packet-port.js'
import { formatMac, parseMac } from '../wire/ethernet.js'
import type { PortSpec } from './port-spec.js'
import type { OpenedPort, PortPlan, ThreadOptions } from './thread-messages.js'

/**
 * The kernel side of a daemon's ports: how the thread opens them, what leads packets to them, and what they
 * need programmed. One implementation a driver; the daemon treats them alike.
 */
export interface PortSet {
  /** By worker: its ports. All workers have the same first ones. */
  readonly plans: readonly PortPlan[][]
  readonly kernelPath: ThreadOptions['kernelPath']
  /** The threads have opened the ports. */
  opened(ports: readonly (readonly OpenedPort[])[]): void
  /** Which interfaces each port reaches, for the route table. */
  reach(): PortInterfaces[]
  /** Leads what belongs to the director to the ports, and nothing else. */
  steer(steering: Steering): void
  /** What the kernel has to be programmed with for it. `addresses` are the machine's own, with their interface. */
  plumbing(steering: Steering, addresses: ReadonlyMap<string, string>): PlumbingItem[]
  /**
   * Looks at the interfaces anew, as often as they change. Throws an Error when the ports cannot go on with
   * what has become of them.
   *
   * @returns the Ethernet address behind the kernel path, when that has changed
   */
  follow(interfaces: readonly Interface[]): string | undefined
  /** What people want to know of a port beyond its counters. */
  describe(port: string): Record<string, unknown>
  close(): void
}

/** Works out the kernel side of the ports for so many workers; for AF_XDP, attaches the programs. */
export function openPortSet(
  specs: readonly PortSpec[],
  workers: number,
  interfaces: readonly Interface[],
  warn: (text: string) => void,
): PortSet {
  const [first] = specs
  switch (first!.driver) {
    case 'afxdp':
      return new AfxdpPorts(
        specs.filter((spec) => spec.driver === 'afxdp'),
        workers,
        interfaces,
        warn,
      )
    case 'tun':
      return new TunPorts(first!, workers, warn)
    case 'tap':
      return new TapPorts(first!, interfaces)
  }
}

/** Linux's IFNAMSIZ, less the terminating zero. */
const MAX_NAME_LENGTH = 15

/** What the loopback has in place of an Ethernet address. */
const NO_MAC = '00:00:00:00:00:00'

/**
 * AF_XDP sockets on all queues of the interfaces, and behind them a small TUN device by which declined
 * packets, and those whose way leads elsewhere, go back to the kernel's stack.
 */
class AfxdpPorts implements PortSet {
  readonly plans: PortPlan[][]
  readonly kernelPath: { port: number }
  private readonly device: string
  private deviceIndex = 0
  private readonly steering: XdpSteering
  private readonly interfaces: { interfaceIndex: number; name: string }[]

  constructor(
    specs: readonly (PortSpec & { driver: 'afxdp' })[],
    workers: number,
    interfaces: readonly Interface[],
    warn: (text: string) => void,
  ) {
    this.interfaces = []
    const queuesOf: PortPlan[][] = []
    const wanted = specs.map((spec) => {
      const found = find(interfaces, spec.interface)
      if (!found.up)
        throw new Error(`${found.name} is down; bring it up with: ip link set ${found.name} up`)
      if (found.mac === undefined || found.mac === NO_MAC)
        throw new Error(`${found.name} has no Ethernet address: AF_XDP ports need Ethernet`)
      const queues = interfaceQueues(found.name)
      if (queues < workers)
        throw new Error(
          `${found.name} has ${queues} queue${queues === 1 ? '' : 's'}, and each of ${workers} workers needs one: ethtool -L ${found.name} combined ${workers}, or --workers ${queues}`,
        )
      const { mac } = found
      queuesOf.push(
        Array.from({ length: queues }, (_, queue) => ({
          driver: 'afxdp' as const,
          interface: found.name,
          interfaceIndex: found.interfaceIndex,
          mac,
          mtu: found.mtu,
          queue,
          copy: false,
        })),
      )
      this.interfaces.push({ interfaceIndex: found.interfaceIndex, name: found.name })
      return { ...found, mac: parseMac(found.mac)!, mode: spec.mode, queues }
    })
    this.device = `uvs-${specs[0]!.interface}`.slice(0, MAX_NAME_LENGTH)
    this.kernelPath = { port: queuesOf.length }
    // Each worker has a queue of every interface, its own into the kernel, and what queues are left.
    this.plans = Array.from({ length: workers }, (_, worker) => [
      ...queuesOf.map((queues) => queues[worker]!),
      {
        driver: 'tun',
        interface: this.device,
        multiQueue: workers > 1,
        offload: false,
        threadedReceive: false,
      },
      ...queuesOf.flatMap((queues) =>
        queues.filter((_, queue) => queue >= workers && queue % workers === worker),
      ),
    ])
    this.steering = new XdpSteering(wanted, warn)
    // The sockets share one UMEM, and with it the mode of the first.
    const copy = wanted.some((one) => this.steering.modeOf(one.interfaceIndex) === 'generic')
    for (const plan of this.plans.flat()) if (plan.driver === 'afxdp') plan.copy = copy
  }

  opened(ports: readonly (readonly OpenedPort[])[]): void {
    for (const { interfaceIndex, socket } of ports.flat())
      if (socket) this.steering.addSocket(interfaceIndex, socket.queue, socket.descriptor)
    this.deviceIndex = ports[0]![this.kernelPath.port]!.interfaceIndex
  }

  reach(): PortInterfaces[] {
    // Whatever queue a packet came in by, all leave by the first that its worker has of the interface.
    return this.interfaces.map(({ interfaceIndex }, port) => ({
      port,
      linkLayer: LinkLayer.ethernet,
      interfaces: [interfaceIndex],
    }))
  }

  steer(steering: Steering): void {
    this.steering.apply(steering)
  }

  plumbing(steering: Steering, addresses: ReadonlyMap<string, string>): PlumbingItem[] {
    return [...devicePlumbing(this.device), ...virtualAddresses(this.device, steering, addresses)]
  }

  follow(interfaces: readonly Interface[]): undefined {
    for (const plan of this.plans[0]!)
      if (plan.driver === 'afxdp') {
        const { mac } = stillThere(interfaces, plan.interface, plan.interfaceIndex)
        if (mac !== plan.mac)
          throw new Error(
            `${plan.interface} has changed its Ethernet address from ${plan.mac} to ${mac}: start uvsd anew`,
          )
      }
    stillThere(interfaces, this.device, this.deviceIndex)
  }

  describe(port: string): Record<string, unknown> {
    const found = this.interfaces.find(({ name }) => port.split('/')[0] === `afxdp:${name}`)
    return found ? { mode: this.steering.modeOf(found.interfaceIndex) } : {}
  }

  close(): void {
    this.steering.close()
  }
}

/** Frames of 128 KiB, with those that workers hand each other: those of more would lie beyond 2 GiB, where no offset reaches. */
const MOST_OFFLOAD_WORKERS = 3

/** One TUN device that policy rules lead into, and out of which the kernel routes. */
class TunPorts implements PortSet {
  readonly plans: PortPlan[][]
  readonly kernelPath = { port: 0 }
  private deviceIndex = 0

  private readonly device: string
  private readonly offload: boolean
  private readonly threadedReceive: boolean

  constructor(spec: PortSpec & { driver: 'tun' }, workers: number, warn: (text: string) => void) {
    this.device = spec.interface
    this.offload = spec.offload && workers <= MOST_OFFLOAD_WORKERS
    // What becomes of a whole packet takes the kernel as long as it took us: worth a thread of its own.
    this.threadedReceive = this.offload && canThreadReceive()
    if (spec.offload && !this.offload)
      warn(
        `${spec.interface}: no offload with ${workers} workers, ${MOST_OFFLOAD_WORKERS} at most have room for its long frames`,
      )
    this.plans = Array.from({ length: workers }, () => [
      {
        driver: 'tun',
        interface: spec.interface,
        multiQueue: workers > 1,
        offload: this.offload,
        threadedReceive: this.threadedReceive,
      },
    ])
  }

  opened([ports]: readonly (readonly OpenedPort[])[]): void {
    this.deviceIndex = ports![0]!.interfaceIndex
  }

  reach(): PortInterfaces[] {
    return [{ port: 0, linkLayer: LinkLayer.ip, interfaces: [] }]
  }

  steer(): void {}

  plumbing(steering: Steering, addresses: ReadonlyMap<string, string>): PlumbingItem[] {
    return [
      ...devicePlumbing(this.device),
      // The device queues by itself, and never says that it is full: another queue before it is only work.
      { kind: 'no-queueing', device: this.device },
      ...(this.threadedReceive ? [{ kind: 'threaded-receive', device: this.device } as const] : []),
      ...virtualAddresses(this.device, steering, addresses),
      ...tunPlumbing(this.device, steering),
    ]
  }

  follow(interfaces: readonly Interface[]): undefined {
    stillThere(interfaces, this.device, this.deviceIndex)
  }

  describe(): Record<string, unknown> {
    return { offload: this.offload }
  }

  close(): void {}
}

/** A station of its own on a bridge. It answers ARP for the virtual addresses itself. */
class TapPorts implements PortSet {
  readonly plans: PortPlan[][]
  readonly kernelPath: { port: number; mac: string }
  private readonly bridgeIndex: number
  private deviceIndex = 0
  /** Of the kernel's side of the device, which nobody speaks to: the highest there is but for its last bytes. */
  private readonly deviceMac = formatMac(Uint8Array.of(0xfe, 0xff, ...randomBytes(4)))

  constructor(
    private readonly spec: PortSpec & { driver: 'tap' },
    interfaces: readonly Interface[],
  ) {
    const bridge = find(interfaces, spec.bridge)
    if (bridge.mac === undefined)
      throw new Error(`${bridge.name} is no bridge: it has no Ethernet address`)
    this.bridgeIndex = bridge.interfaceIndex
    this.plans = [
      [{ driver: 'tap', interface: spec.interface, ...(spec.mac ? { mac: spec.mac } : {}) }],
    ]
    this.kernelPath = { port: 0, mac: bridge.mac }
  }

  opened([ports]: readonly (readonly OpenedPort[])[]): void {
    this.deviceIndex = ports![0]!.interfaceIndex
  }

  reach(): PortInterfaces[] {
    return [{ port: 0, linkLayer: LinkLayer.ethernet, interfaces: [this.bridgeIndex] }]
  }

  steer(): void {}

  plumbing(): PlumbingItem[] {
    return devicePlumbing(this.spec.interface, { bridge: this.spec.bridge, mac: this.deviceMac })
  }

  /** The bridge takes the lowest Ethernet address of its ports, which come and go. */
  follow(interfaces: readonly Interface[]): string | undefined {
    stillThere(interfaces, this.spec.interface, this.deviceIndex)
    const { mac } = stillThere(interfaces, this.spec.bridge, this.bridgeIndex)
    if (mac === undefined || mac === this.kernelPath.mac) return undefined
    this.kernelPath.mac = mac
    return mac
  }

  describe(): Record<string, unknown> {
    return { bridge: this.spec.bridge }
  }

  close(): void {}
}

/** The interface that a port was opened on; another of the same name is another. */
function stillThere(
  interfaces: readonly Interface[],
  name: string,
  interfaceIndex: number,
): Interface {
  const found = interfaces.find((one) => one.interfaceIndex === interfaceIndex)
  if (!found) throw new Error(`${name} is gone from this network namespace: uvsd cannot go on`)
  return found
}

function find(interfaces: readonly Interface[], name: string): Interface {
  const found = interfaces.find((one) => one.name === name)
  if (found) return found
  const names = interfaces.map((one) => one.name).join(', ')
  throw new Error(`there is no interface '${name}' in this network namespace (it has ${names})`)
}
