/**
 * The same clients and servers, first through the kernel's IPVS, then through uvsd with the configuration that the
 * mirror takes over from the kernel: who answered each connection, the connection tables, and the counters.
 */
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Lab, type LabProcess } from './lab.js'
import { PcapReader } from '../drivers/pcap.js'
import {
  compareObserved,
  countTraffic,
  parseConnections,
  parseCounters,
  type Observed,
} from './live-compare.js'
import { livePlan, type LivePlan } from './live-plan.js'
import { sleep } from './process.js'
import {
  buildTopology,
  startDaemon,
  startServers,
  uvsadm,
  type Daemon,
  type Driver,
  type Method,
  type Topology,
} from './topology.js'

/** The driver that uvsd has in the comparison: TAP where TUN cannot do it, for want of link-layer addresses. */
export const liveDrivers: Record<Method, Driver> = { nat: 'tun', dr: 'tap', tun: 'tun' }

const SERVERS = 3
const EXCHANGES_EACH = 8
/** The kernel sums its counters every 2 seconds. */
const SUMMED_MS = 2300
const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

export interface LiveResult {
  method: Method
  driver: Driver
  exchanges: number
  /** Entries of the connection table. */
  connections: number
  /** Services and destinations whose counters were compared. */
  counters: number
  /** What was not the same, a line each. */
  differences: string[]
}

/** Takes root and a running kernel with IPVS. @param say is told what is being done */
export async function liveParity(
  method: Method,
  say: (line: string) => void = () => {},
): Promise<LiveResult> {
  const driver = liveDrivers[method]
  const lab = Lab.create(say)
  try {
    const topology = await buildTopology(lab, { method, driver, servers: SERVERS })
    const plan = livePlan(topology, EXCHANGES_EACH)
    await prepare(topology, plan)

    await takeAddress(topology, 'add')
    await lab.step(`configure the kernel's IPVS with ipvsadm`, () =>
      restore(topology, plan.rules.join('\n')),
    )
    const kernel = await lab.step(`${plan.exchanges.length} exchanges through the kernel`, () =>
      observe(topology, plan, 'kernel', (...args) => ipvsadm(topology, ...args)),
    )
    const daemon = await startDaemon(topology)
    await lab.step('uvs mirror --from-kernel', () => mirror(topology, daemon, '--from-kernel'))
    const drifted = await mirror(topology, daemon, '--diff')
    await ipvsadm(topology, '-C')
    await takeAddress(topology, 'delete')
    const ours = await lab.step(`${plan.exchanges.length} exchanges through uvsd`, () =>
      observe(topology, plan, 'uvsd', (...args) => uvsadm(daemon, args)),
    )

    await lab.step('back to the kernel', async () => {
      await takeAddress(topology, 'add')
      await mirror(topology, daemon, '--once')
      await daemon.process.stop()
    })
    const back = await observe(
      topology,
      { ...plan, exchanges: plan.exchanges.slice(0, SERVERS).map(onAnotherPort) },
      'back',
      (...args) => ipvsadm(topology, ...args),
    )
    return {
      method,
      driver,
      exchanges: plan.exchanges.length,
      connections: kernel.connections.length,
      counters: kernel.counters.size,
      differences: [
        ...(drifted === '' ? [] : [`after --from-kernel, uvs mirror --diff says:\n${drifted}`]),
        ...compareObserved(plan.exchanges, kernel, ours),
        ...back.answers.flatMap((answer, i) =>
          kernel.answers.includes(answer) ? [] : [`back in the kernel, exchange ${i}: ${answer}`],
        ),
      ],
    }
  } finally {
    await lab.end()
  }
}

/** Its old one may be known to the director still. */
const onAnotherPort = <T extends { fromPort: number }>(exchange: T): T => ({
  ...exchange,
  fromPort: exchange.fromPort + 10_000,
})

async function prepare(topology: Topology, plan: LivePlan): Promise<void> {
  const { client, servers } = topology
  for (const address of plan.clientAddresses)
    await client.ip('address', 'add', `${address}/24`, 'dev', 'eth0')
  // The second run has the first one's ports, so nobody may remember them.
  for (const end of [client, ...servers.map(({ namespace }) => namespace)])
    await end.sysctl({ 'net.ipv4.tcp_max_tw_buckets': 0 })
  await startServers(topology, { httpPorts: plan.httpPorts, echoPorts: plan.echoPorts })
}

/** With TAP, the virtual address is the kernel's only while the kernel is the director. */
async function takeAddress(topology: Topology, verb: 'add' | 'delete'): Promise<void> {
  const { director, driver, virtualAddress, router } = topology
  if (driver !== 'tap') return
  await director.ip('address', verb, `${virtualAddress}/32`, 'dev', 'br0')
  await router!.ip('neighbour', 'flush', 'dev', 'eth1')
}

async function ipvsadm({ director }: Topology, ...args: string[]): Promise<string> {
  return director.run('ipvsadm', ...args)
}

async function restore({ director }: Topology, rules: string): Promise<void> {
  const { status, stderr } = await director.try('ipvsadm', ['-R'], { input: rules })
  if (status !== 0 || stderr !== '') throw new Error(`ipvsadm -R: ${stderr}`)
}

/** What `uvs mirror` prints; only a difference may make its status 1. */
async function mirror({ director }: Topology, daemon: Daemon, mode: string): Promise<string> {
  const args = [program('../cli/uvs.js'), 'mirror', mode, '--socket', daemon.socketPath]
  const { status, stdout, stderr } = await director.try(process.execPath, args)
  if (status !== 0 && !(mode === '--diff' && status === 1))
    throw new Error(`uvs mirror ${mode}: ${stderr}`)
  return stdout
}

/** Goes through the plan and looks at the director, by its ipvsadm. */
async function observe(
  topology: Topology,
  plan: LivePlan,
  name: string,
  list: (...args: string[]) => Promise<string>,
): Promise<Observed> {
  const { lab, client, virtualAddress, method } = topology
  const file = `${lab.folder}/plan-${name}.json`
  writeFileSync(file, JSON.stringify(plan.exchanges))
  const capture = `${lab.folder}/capture-${name}.pcap`
  const wire = lab.start(client, `tcpdump-${name}`, 'tcpdump', [
    ...['-i', 'eth0', '-w', capture, '-s', '128', '-B', '16384', '-n', '-Z', 'root'],
    ...['-U', '--immediate-mode', 'ip and (tcp or udp)'],
  ])
  await wire.waitForLine(/listening on/)
  const startedAt = Date.now()
  const asking = lab.start(client, `client-${name}`, process.execPath, [
    program('live-client.js'),
    file,
  ])
  try {
    await asking.waitForLine(/^done$/, 600_000)
    const connections = parseConnections(await list('-L', '-n', '-c'))
    const seconds = (Date.now() - startedAt) / 1000
    await sleep(SUMMED_MS)
    await wire.stop()
    const counters = parseCounters(await list('-L', '-n', '--stats', '--exact'))
    if (counters.size !== plan.rules.length)
      throw new Error(`${name} lists ${counters.size} counters, where ${plan.rules.length} are`)
    const traffic = countTraffic(PcapReader.open(capture), virtualAddress, method === 'nat')
    return { answers: answersOf(asking), connections, counters, traffic, seconds }
  } finally {
    await wire.stop()
    await asking.stop()
  }
}

function answersOf(client: LabProcess): string[] {
  return client.output.split('\n').flatMap((line) => /^\d+ (.*)/.exec(line)?.[1] ?? [])
}
