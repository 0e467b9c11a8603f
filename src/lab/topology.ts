// The three labs, with the addresses of an LVS tutorial. Every box is a network namespace, every line a
// veth pair, every ═ a switch: a bridge in a namespace of its own.
//
// nat: masquerading. The director is the servers' way out.
//
//    client                        director                                  server1 … serverN
//   ┌────────────────┐            ┌──────────────────────────┐              ┌───────────────────┐
//   │ CIP            │       eth0 │ VIP            DIP       │ eth1    eth0 │ RIP 192.168.20.11 │
//   │ 192.168.10.10  ├────────────┤ 192.168.10.100           ├─────═════════┤ default via DIP   │
//   └────────────────┘            │ 192.168.10.1             │     inside   └───────────────────┘
//                                 │            192.168.20.1  │
//                                 └──────────────────────────┘
//
// dr: direct routing. One segment; the VIP is on the servers' lo, and they keep silent about it.
//
//    client                router                                            server1 … serverN
//   ┌───────────────┐     ┌──────────────┐                                  ┌───────────────────────┐
//   │ CIP           │     │ 192.168.10.1 │ eth1                        eth0 │ RIP 192.168.20.11     │
//   │ 192.168.10.10 ├─────┤ 192.168.20.1 ├────────═════════════════─────────┤ VIP on lo             │
//   └───────────────┘     └──────────────┘              │ lan               │ default via .20.1     │
//                                                  eth0 │                   │ arp_ignore 1          │
//                                         ┌─────────────┴──────┐            │ arp_announce 2        │
//                                         │ DIP 192.168.20.2   │            └───────────────────────┘
//                                         │ VIP 192.168.20.100 │
//                                         └────────────────────┘ director
//
// tun: tunneling. The servers are somewhere else, a router away.
//
//    client                router                                            server1 … serverN
//   ┌───────────────┐     ┌──────────────┐ eth2                        eth0 ┌───────────────────────┐
//   │ CIP           │     │ 192.168.10.1 ├────────═════════════════─────────┤ RIP 192.168.30.11     │
//   │ 192.168.10.10 ├─────┤ 192.168.20.1 │              remote              │ default via .30.1     │
//   └───────────────┘     │ 192.168.30.1 │                                  │ VIP on tunl0 or       │
//                         └──────┬───────┘                                  │ decap0                │
//                           eth1 │ ═ lan                                    └───────────────────────┘
//                           eth0 │
//                  ┌─────────────┴──────┐
//                  │ DIP 192.168.20.2   │
//                  │ VIP 192.168.20.100 │
//                  └────────────────────┘ director
//
// By driver, in the director:
//   afxdp  `--port afxdp:eth0` (nat: also eth1). The VIP is the kernel's address: it answers ARP for it.
//   tun    `--port tun:uvs0`. The kernel receives and sends; uvsd's routes bring it what is the director's.
//   tap    `--port tap:uvs0,bridge=br0`. eth0 is a port of br0, which has the DIP; uvsd is a station of its
//          own there and answers ARP for the VIP, which the kernel therefore does not have.
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { ApiClient } from '../control/api-client.js'
import { Names } from '../control/ipvsadm/names.js'
import { runIpvsadm } from '../control/ipvsadm/run.js'
import { addBridge, Lab, type LabProcess, type Namespace } from './lab.js'
import { CommandError, run, sleep } from './process.js'

export const methods = ['nat', 'dr', 'tun'] as const
export type Method = (typeof methods)[number]
export const drivers = ['afxdp', 'tun', 'tap'] as const
export type Driver = (typeof drivers)[number]

/** Which drivers can carry a method: a TUN device has no neighbours to direct-route to, a TAP station no inside. */
export const driversOf: Record<Method, readonly Driver[]> = {
  nat: ['afxdp', 'tun'],
  dr: ['afxdp', 'tap'],
  tun: ['afxdp', 'tun', 'tap'],
}

export const HTTP_PORT = 80
/** The UDP echo's port on the servers. */
export const ECHO_PORT = 5300

export interface RealServer {
  readonly name: string
  readonly namespace: Namespace
  readonly address: string
}

export interface Topology {
  readonly lab: Lab
  readonly method: Method
  readonly driver: Driver
  readonly client: Namespace
  /** dr and tun only. */
  readonly router: Namespace | undefined
  readonly director: Namespace
  readonly servers: readonly RealServer[]
  readonly clientAddress: string
  readonly virtualAddress: string
  /** An address of the director's own that the client can reach. */
  readonly directorAddress: string
  /** Values of uvsd's --port. */
  readonly portSpecs: readonly string[]
  /** ipvsadm's letter for the forwarding method: -m, -g, -i. */
  readonly forwardingOption: '-m' | '-g' | '-i'
}

export interface TopologyOptions {
  method: Method
  driver: Driver
  /** Real servers, 1 to 100. */
  servers: number
  /** Queues of the director's interfaces where it masquerades, 1. */
  queues?: number
}

/** Compiled programs of this folder, as node runs them. */
const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

/** Builds the namespaces of a lab, without servers running and without uvsd. */
export async function buildTopology(lab: Lab, options: TopologyOptions): Promise<Topology> {
  const { method, driver } = options
  if (!driversOf[method].includes(driver))
    throw new RangeError(
      `${method} does not go with driver ${driver}; it goes with ${driversOf[method].join(', ')}`,
    )
  if (!Number.isInteger(options.servers) || options.servers < 1 || options.servers > 100)
    throw new RangeError(`${options.servers} servers: must be 1 to 100`)
  return lab.step(`build the namespaces of ${method}`, () =>
    method === 'nat' ? buildMasquerade(lab, options) : buildRouted(lab, options),
  )
}

async function buildMasquerade(
  lab: Lab,
  { method, driver, servers, queues = 1 }: TopologyOptions,
): Promise<Topology> {
  const [client, director, inside] = [
    await lab.addNamespace('client'),
    await lab.addNamespace('director'),
    await lab.addSwitch('inside'),
  ]
  await lab.connect(client, 'eth0', director, 'eth0', queues)
  await lab.plug(director, 'eth1', inside, queues)
  await client.ip('address', 'add', '192.168.10.10/24', 'dev', 'eth0')
  await client.ip('route', 'add', 'default', 'via', '192.168.10.1')
  await director.ip('address', 'add', '192.168.10.1/24', 'dev', 'eth0')
  await director.ip('address', 'add', '192.168.10.100/32', 'dev', 'eth0')
  await director.ip('address', 'add', '192.168.20.1/24', 'dev', 'eth1')
  await director.sysctl({ 'net.ipv4.ip_forward': 1 })
  return {
    lab,
    method,
    driver,
    client,
    router: undefined,
    director,
    servers: await addServers(lab, servers, inside, '192.168.20'),
    clientAddress: '192.168.10.10',
    virtualAddress: '192.168.10.100',
    directorAddress: '192.168.10.1',
    portSpecs: driver === 'tun' ? ['tun:uvs0'] : ['afxdp:eth0', 'afxdp:eth1'],
    forwardingOption: '-m',
  }
}

/** Direct routing and tunneling differ in where the servers are and how they come to the VIP. */
async function buildRouted(
  lab: Lab,
  { method, driver, servers: count }: TopologyOptions,
): Promise<Topology> {
  const virtualAddress = '192.168.20.100'
  const client = await lab.addNamespace('client')
  const router = await lab.addNamespace('router')
  const lan = await lab.addSwitch('lan')
  const director = await lab.addNamespace('director')
  await lab.connect(client, 'eth0', router, 'eth0')
  await lab.plug(router, 'eth1', lan)
  await lab.plug(director, 'eth0', lan)
  await client.ip('address', 'add', '192.168.10.10/24', 'dev', 'eth0')
  await client.ip('route', 'add', 'default', 'via', '192.168.10.1')
  await router.ip('address', 'add', '192.168.10.1/24', 'dev', 'eth0')
  await router.ip('address', 'add', '192.168.20.1/24', 'dev', 'eth1')
  await router.sysctl({ 'net.ipv4.ip_forward': 1 })

  let station = 'eth0'
  if (driver === 'tap') {
    station = 'br0'
    await addBridge(director, station)
    await director.ip('link', 'set', 'eth0', 'master', station)
  } else {
    await director.ip('address', 'add', `${virtualAddress}/32`, 'dev', station)
  }
  await director.ip('address', 'add', '192.168.20.2/24', 'dev', station)
  await director.ip('route', 'add', 'default', 'via', '192.168.20.1')
  await director.sysctl({
    'net.ipv4.ip_forward': 1,
    // What it sends back out of the interface that it came by is meant to go there.
    'net.ipv4.conf.all.send_redirects': 0,
    [`net.ipv4.conf.${station}.send_redirects`]: 0,
  })

  let servers: RealServer[]
  if (method === 'dr') {
    servers = await addServers(lab, count, lan, '192.168.20')
  } else {
    const remote = await lab.addSwitch('remote')
    await lab.plug(router, 'eth2', remote)
    await router.ip('address', 'add', '192.168.30.1/24', 'dev', 'eth2')
    servers = await addServers(lab, count, remote, '192.168.30')
  }
  for (const { namespace } of servers) {
    // Only the director may answer ARP for the VIP, and no question of ours may carry it as a source.
    await namespace.sysctl({
      'net.ipv4.conf.all.arp_ignore': 1,
      'net.ipv4.conf.all.arp_announce': 2,
    })
    if (method === 'dr') await namespace.ip('address', 'add', `${virtualAddress}/32`, 'dev', 'lo')
    else await endTunnel(lab, namespace, virtualAddress)
  }
  return {
    lab,
    method,
    driver,
    client,
    router,
    director,
    servers,
    clientAddress: '192.168.10.10',
    virtualAddress,
    directorAddress: '192.168.20.2',
    portSpecs: [
      driver === 'tap' ? 'tap:uvs0,bridge=br0' : `${driver}:${driver === 'tun' ? 'uvs0' : 'eth0'}`,
    ],
    forwardingOption: method === 'dr' ? '-g' : '-i',
  }
}

async function addServers(
  lab: Lab,
  count: number,
  lan: Namespace,
  prefix: string,
): Promise<RealServer[]> {
  const servers: RealServer[] = []
  for (let i = 1; i <= count; i++) {
    const namespace = await lab.addNamespace(`server${i}`)
    const address = `${prefix}.${10 + i}`
    await lab.plug(namespace, 'eth0', lan)
    await namespace.ip('address', 'add', `${address}/24`, 'dev', 'eth0')
    await namespace.ip('route', 'add', 'default', 'via', `${prefix}.1`)
    servers.push({ name: `server${i}`, namespace, address })
  }
  return servers
}

/** Makes a server the end of IPIP tunnels: by the kernel's tunl0 where it has ipip, else by our decapsulator. */
async function endTunnel(lab: Lab, namespace: Namespace, virtualAddress: string): Promise<void> {
  // What comes out of the tunnel has come by another way than the answer goes, which is right here.
  if (await hasIpip(namespace)) {
    await namespace.ip('link', 'set', 'tunl0', 'up')
    await namespace.ip('address', 'add', `${virtualAddress}/32`, 'dev', 'tunl0')
    await namespace.sysctl({ 'net.ipv4.conf.tunl0.rp_filter': 0 })
  } else {
    const decapsulator = lab.start(namespace, `${namespace.role}-decapsulator`, process.execPath, [
      program('decapsulator.js'),
      'decap0',
    ])
    await decapsulator.waitForLine(/ready/)
    await namespace.ip('link', 'set', 'decap0', 'up')
    await namespace.ip('address', 'add', `${virtualAddress}/32`, 'dev', 'decap0')
    await namespace.sysctl({ 'net.ipv4.conf.decap0.rp_filter': 0, 'net.ipv4.ip_forward': 1 })
    // Packets of protocol 4 are this machine's own; the kernel would take them and refuse them, having no
    // tunnel. So its rule for what is local comes second, after one that sends them to the device.
    await namespace.ip('rule', 'add', 'preference', '10', 'table', 'local')
    await namespace.ip('rule', 'delete', 'preference', '0')
    const ours = ['preference', '5', 'iif', 'eth0', 'ipproto', '4', 'table', '4']
    await namespace.ip('rule', 'add', ...ours)
    await namespace.ip('route', 'add', 'default', 'dev', 'decap0', 'table', '4')
  }
}

async function hasIpip(namespace: Namespace): Promise<boolean> {
  // Loading the module makes a tunl0 in every namespace; where there is none, the device is missing.
  await run('modprobe', ['-q', 'ipip']).catch(() => undefined)
  return (await namespace.try('ip', ['link', 'show', 'dev', 'tunl0'])).status === 0
}

/** Starts the HTTP server and UDP echo of every real server, on these ports. */
export async function startServers(
  topology: Topology,
  { httpPorts = [HTTP_PORT], echoPorts = [ECHO_PORT] } = {},
): Promise<LabProcess[]> {
  const { lab, servers, method, virtualAddress } = topology
  return lab.step(`start ${servers.length} real servers`, async () => {
    const processes = servers.map(({ name, namespace, address }) => {
      const addresses = method === 'nat' ? [address] : [address, virtualAddress]
      return lab.start(namespace, name, process.execPath, [
        program('server.js'),
        name,
        ...httpPorts.flatMap((port) => ['--http', String(port)]),
        ...addresses.flatMap((own) => echoPorts.flatMap((port) => ['--udp', `${own}:${port}`])),
      ])
    })
    for (const server of processes) await server.waitForLine(/ready/)
    return processes
  })
}

/** The daemon of a lab and how to speak to it. */
export interface Daemon {
  readonly process: LabProcess
  readonly socketPath: string
}

/** Starts uvsd in the director and waits until it serves. */
export async function startDaemon(
  topology: Topology,
  options: {
    name?: string
    portSpecs?: readonly string[]
    extraArguments?: readonly string[]
  } = {},
): Promise<Daemon> {
  const { lab, director } = topology
  const name = options.name ?? 'uvsd'
  const socketPath = `${lab.folder}/${name}.sock`
  const daemon = lab.start(director, name, process.execPath, [
    program('../cli/uvsd.js'),
    ...(options.portSpecs ?? topology.portSpecs).flatMap((spec) => ['--port', spec]),
    '--socket',
    socketPath,
    ...(options.extraArguments ?? []),
  ])
  await lab.step('start uvsd', () => daemon.waitForLine(/uvsd: ready/))
  return { process: daemon, socketPath }
}

/**
 * Runs one uvsadm command against a lab's daemon; what it prints. Another exit status than 0 is an error. It is run
 * in this process: starting a program takes longer than what it is to look at may last.
 */
export async function uvsadm(daemon: Daemon, args: readonly string[], input = ''): Promise<string> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const said = Promise.all([text(stdout), text(stderr)])
  const streams = { stdin: Readable.from([input]), stdout, stderr }
  const client = new ApiClient(daemon.socketPath)
  const status = await runIpvsadm(args, client, streams, new Names(), 'uvsadm')
  for (const stream of [stdout, stderr]) stream.end()
  const [output, errors] = await said
  if (status !== 0)
    throw new CommandError(['uvsadm', ...args].join(' '), {
      status,
      stdout: output,
      stderr: errors,
    })
  return output
}

/** Where the echo client is, for `node`. */
export function echoClientPath(): string {
  return program('echo-client.js')
}

/** Waits until the client reaches an address with ping: links and ARP are there. */
export async function waitForPing(
  from: Namespace,
  address: string,
  timeoutMs = 60_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while ((await from.try('ping', ['-c', '1', '-W', '1', address])).status !== 0) {
    if (Date.now() > deadline) throw new Error(`${from.role} does not reach ${address}`)
    await sleep(50)
  }
}
