// The testbed: one client, one server, and beside them one director for each subject, all of the same make.
//
//    client                      director-SUBJECT                      server
//   ┌────────────────┐          ┌───────────────────────┐          ┌───────────────────┐
//   │ cN  10.64.N.2  ├──────────┤ eth0  10.64.N.1       │          │ nginx, iperf3     │
//   │                │          │ VIP   10.64.N.100     ├──────────┤ sN  10.65.N.2     │
//   └────────────────┘          │ eth1  10.65.N.1       │          └───────────────────┘
//                               └───────────────────────┘
//
// Each director is the server's way back to its client's network, so that answers come through it whatever it does
// with the addresses. All are up at once, so that trials of one round come one right after another.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LabProcess, Namespace } from '../../src/lab/lab.js'
import { sleep, type CommandResult } from '../../src/lab/process.js'
import { createLab } from '../suite/labs.js'
import { PRIORITY, withReceivingThreads } from '../wire/machine.js'

export const HTTP_PORT = 80
export const IPERF_PORT = 5201
export const PORTS = [HTTP_PORT, IPERF_PORT]

/** A web server's shortest useful answer. */
const ANSWER = 'x'.repeat(128)
const START_TIMEOUT_MS = 20_000

/** Where one subject's streams go. */
export interface Lane {
  /** What the client connects to. */
  readonly virtualAddress: string
  /** Where the server is reached from the director. */
  readonly serverAddress: string
}

/** A director that has its links and addresses, and as yet nothing that forwards. */
export interface Director extends Lane {
  readonly namespace: Namespace
  /** Its own address at the client's link. */
  readonly gateway: string
}

export interface Links {
  /**
   * Whether the ends leave checksums, and cutting into segments, to their devices. Nobody does either for what passes
   * AF_XDP, so that there the ends have to, and their devices put segments together that come in.
   */
  readonly endsOffload: boolean
}

export class StreamTestbed {
  private readonly lab = createLab()
  private lanes = 0
  private ends: { client: Namespace; server: Namespace } | undefined

  /** Where files can be put that go with it. */
  get folder(): string {
    return this.lab.folder
  }

  /** Runs a program in the client's namespace to its end. */
  ask(command: string, args: readonly string[]): Promise<CommandResult> {
    return this.ends!.client.try('chrt', [...PRIORITY, command, ...args])
  }

  /** Makes client and server, and starts what answers, by the names of its programs. */
  async open(answering: ReadonlySet<string>): Promise<void> {
    const { lab } = this
    const client = await lab.addNamespace('client')
    const server = await lab.addNamespace('server')
    this.ends = { client, server }
    for (const namespace of [client, server]) await tuneTcp(namespace)
    if (answering.has('nginx')) await this.startWebServer(server)
    if (!answering.has('iperf3')) return
    const iperf = ['iperf3', '--server', '--port', String(IPERF_PORT)]
    await waitForPorts(this.start(server, 'server-iperf3', iperf), [IPERF_PORT])
  }

  /** Adds a director, whose links and addresses are made. */
  async addDirector(role: string, { endsOffload }: Links): Promise<Director> {
    const { lab } = this
    const { client, server } = this.ends!
    const n = this.lanes++
    const namespace = await lab.addNamespace(`director-${role}`)
    await lab.connect(client, `c${n}`, namespace, 'eth0')
    await lab.connect(namespace, 'eth1', server, `s${n}`)
    for (const [where, device] of [
      [client, `c${n}`],
      [server, `s${n}`],
      [namespace, 'eth0'],
      [namespace, 'eth1'],
    ] as const)
      await where.run('ethtool', '-K', device, ...(endsOffload ? ['tx', 'on'] : ['gro', 'on']))
    const virtualAddress = `10.64.${n}.100`
    const gateway = `10.64.${n}.1`
    await client.ip('address', 'add', `10.64.${n}.2/24`, 'dev', `c${n}`)
    await namespace.ip('address', 'add', `${gateway}/24`, 'dev', 'eth0')
    await namespace.ip('address', 'add', `${virtualAddress}/32`, 'dev', 'eth0')
    await namespace.ip('address', 'add', `10.65.${n}.1/24`, 'dev', 'eth1')
    await server.ip('address', 'add', `10.65.${n}.2/24`, 'dev', `s${n}`)
    await server.ip('route', 'add', `10.64.${n}.0/24`, 'via', `10.65.${n}.1`)
    await namespace.sysctl({ 'net.ipv4.ip_forward': 1 })
    await tuneTcp(namespace)
    return { namespace, gateway, virtualAddress, serverAddress: `10.65.${n}.2` }
  }

  /** A lane without a director: a link from the client to the server. */
  async addShortcut(): Promise<Lane> {
    const { client, server } = this.ends!
    const n = this.lanes++
    await this.lab.connect(client, `c${n}`, server, `s${n}`)
    await client.run('ethtool', '-K', `c${n}`, 'tx', 'on')
    await server.run('ethtool', '-K', `s${n}`, 'tx', 'on')
    await client.ip('address', 'add', `10.64.${n}.2/24`, 'dev', `c${n}`)
    await server.ip('address', 'add', `10.64.${n}.100/24`, 'dev', `s${n}`)
    return { virtualAddress: `10.64.${n}.100`, serverAddress: `10.64.${n}.100` }
  }

  /** Starts a director's program; waits until it says that it is ready, and does what is then to be done. */
  async startDirector(
    { namespace }: Director,
    command: readonly string[],
    ready: RegExp,
    finish = async (): Promise<void> => {},
  ): Promise<void> {
    const process = this.start(namespace, `${namespace.role}-program`, command)
    await withReceivingThreads(async () => {
      await process.waitForLine(ready, START_TIMEOUT_MS)
      await finish()
    })
  }

  /** Lets the client reach the server by its own address through a director. */
  async routeToServer({ gateway, serverAddress }: Director): Promise<void> {
    await this.ends!.client.ip('route', 'add', `${serverAddress}/32`, 'via', gateway)
  }

  /** Starts a director's program that is ready when it listens. */
  async startProxy({ namespace }: Director, command: readonly string[]): Promise<void> {
    await waitForPorts(this.start(namespace, `${namespace.role}-program`, command), PORTS)
  }

  private startWebServer(server: Namespace): Promise<void> {
    const configuration = `
      events { worker_connections 4096; }
      http {
        access_log off;
        keepalive_requests 1000000000;
        server { listen ${HTTP_PORT} backlog=4096; location / { return 200 "${ANSWER}"; } }
      }`
    return this.startNginx(server, 'server-nginx', configuration, [HTTP_PORT])
  }

  /** Starts nginx with a configuration, without what such a file has anyway. */
  async startNginx(
    namespace: Namespace,
    name: string,
    configuration: string,
    ports: readonly number[],
  ): Promise<void> {
    const file = join(this.folder, `${name}.conf`)
    const common = `
      daemon off; worker_processes auto; user root;
      pid ${join(this.folder, `${name}.pid`)}; error_log stderr;`
    writeFileSync(file, `${configuration.replace('events', `${common}\nevents`)}\n`)
    const command = ['nginx', '-p', this.folder, '-e', 'stderr', '-c', file]
    await waitForPorts(this.start(namespace, name, command), ports)
  }

  /** Starts a program before all ordinary work on the machine: see PRIORITY. */
  private start(namespace: Namespace, name: string, command: readonly string[]): LabProcess {
    return this.lab.start(namespace, name, 'chrt', [...PRIORITY, ...command])
  }

  /** Removes everything. */
  end(): Promise<void> {
    return this.lab.end()
  }
}

/**
 * TCP as Linux has it by default, whatever this machine was told: other congestion controls pace their segments by
 * what they have measured. And many ports, since the other end still remembers those of connections that are over.
 */
function tuneTcp(namespace: Namespace): Promise<string> {
  const settings = {
    'net.ipv4.tcp_congestion_control': 'cubic',
    'net.ipv4.tcp_rmem': '4096 131072 6291456',
    'net.ipv4.tcp_wmem': '4096 16384 4194304',
    'net.ipv4.ip_local_port_range': '1024 65535',
    'net.ipv4.tcp_tw_reuse': 1,
    'net.core.somaxconn': 4096,
  }
  const values = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
  return namespace.run('sysctl', '-q', '-w', ...values)
}

/** Waits until a program listens. Throws what it has said when it ends before, or takes too long. */
async function waitForPorts(process: LabProcess, ports: readonly number[]): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS
  for (;;) {
    const ended = process.exitStatus !== undefined
    const listening = await process.namespace.run('ss', '-Hltn')
    if (ports.every((port) => new RegExp(`:${port}\\s`).test(listening))) return
    if (ended || Date.now() > deadline)
      throw new Error(
        `${process.name} does not listen on ${ports.join(', ')}: ${process.output.trim() || 'it said nothing'}`,
      )
    await sleep(20)
  }
}
