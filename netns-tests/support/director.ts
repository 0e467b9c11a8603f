// A lab with uvsd in it, for the tests: set up in one call, taken down with the test.
import { Lab } from '../../src/lab/lab.js'
import {
  buildTopology,
  startDaemon,
  startServers,
  uvsadm,
  type Daemon,
  type Driver,
  type Method,
  type Topology,
} from '../../src/lab/topology.js'

/** Why tests of namespaces cannot run here, false when they can; for tap's `skip`. */
export const skip = process.geteuid?.() === 0 ? false : 'network namespaces need root'

/** tap's test object, as far as it is needed here. */
interface Teardown {
  teardown(work: () => Promise<void>): void
}

export async function build(
  t: Teardown,
  method: Method,
  driver: Driver,
  servers = 3,
): Promise<Topology> {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const topology = await buildTopology(lab, { method, driver, servers })
  await startServers(topology)
  return topology
}

export async function buildWithDaemon(
  t: Teardown,
  method: Method,
  driver: Driver,
  servers = 3,
): Promise<{ topology: Topology; daemon: Daemon }> {
  const topology = await build(t, method, driver, servers)
  return { topology, daemon: await startDaemon(topology) }
}

export interface ServiceRequest {
  protocol?: 'tcp' | 'udp'
  port: number
  serverPort?: number
  scheduler?: string
  weights?: readonly number[]
  /** More options of uvsadm -A, as `-p 300`. */
  options?: readonly string[]
}

/** Replaces all services of the daemon by one on the VIP, with all real servers behind it. */
export async function serve(
  topology: Topology,
  daemon: Daemon,
  {
    protocol = 'tcp',
    port,
    serverPort = port,
    scheduler = 'rr',
    weights,
    options = [],
  }: ServiceRequest,
): Promise<string> {
  const service = `${protocol === 'tcp' ? '-t' : '-u'} ${topology.virtualAddress}:${port}`
  const lines = topology.servers
    .map(
      ({ address }, i) =>
        `-a ${service} -r ${address}:${serverPort} ${topology.forwardingOption} -w ${weights?.[i] ?? 1}`,
    )
    .reverse()
  await uvsadm(daemon, ['-C'])
  const rules = [`-A ${service} -s ${scheduler} ${options.join(' ')}`.trimEnd(), ...lines]
  await uvsadm(daemon, ['-R'], `${rules.join('\n')}\n`)
  return service
}
