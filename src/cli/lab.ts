import { parseArgs } from 'node:util'
import { schedulers } from '../core/schedulers/index.js'
import { expect, weightsFor, type Expectation } from '../lab/expectation.js'
import { askByHttp } from '../lab/http-client.js'
import { endLab, Lab, listLabs } from '../lab/lab.js'
import {
  buildTopology,
  drivers,
  driversOf,
  echoClientPath,
  ECHO_PORT,
  HTTP_PORT,
  methods,
  startDaemon,
  startServers,
  uvsadm,
  type Daemon,
  type Driver,
  type Method,
  type Topology,
} from '../lab/topology.js'
import { readCount } from './numbers.js'

const help = `Balances real traffic between network namespaces: a client, a director and real servers.

Usage: uvs lab [nat|dr|tun] [OPTION…]
       uvs lab --end [NAME]

  nat | dr | tun      forwarding method: masquerading (default), direct routing, tunneling
  --driver DRIVER     how uvsd gets at packets: afxdp (default), tun (nat, tun), tap (dr, tun)
  --servers N         real servers, 1 to 100 (default 3)
  --requests N        HTTP requests, a connection each, 1 to 2000 (default 100)
  --scheduler NAME    rr (default), wrr, lc, wlc…; weighted ones get the weights N … 2 1
  --keep              leave everything up, and say how to look around in it
  --end NAME          take a lab down that was kept; without a name, list those that are up
  --help

Exit status: 0 when the requests were shared out as the scheduler promises, 1 otherwise,
2 for a command line that makes no sense. Needs root.
`

/**
 * The client's kernel takes its ports in turn, with gaps. More requests than these and it begins anew, while
 * the director still remembers the first ones: what then comes is to it no new connection to be shared out.
 */
const MAX_REQUESTS = 2000

interface Options {
  method: Method
  driver: Driver
  servers: number
  requests: number
  scheduler: string
  keep: boolean
}

export async function main(args: string[]): Promise<number> {
  let options: Options | string
  try {
    const ending = args[0] === '--end' ? args.slice(1) : undefined
    if (args.includes('--help') || args.includes('-h')) {
      process.stdout.write(help)
      return 0
    }
    if (ending) return end(ending)
    options = parseOptions(args)
  } catch (error) {
    process.stderr.write(`uvs lab: ${(error as Error).message}\nuvs lab --help says more\n`)
    return 2
  }
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  // Nobody reads any more (`uvs lab | head`): ending takes everything down.
  process.stdout.on('error', () => process.exit(1))
  const lab = Lab.create(say)
  try {
    const ok = await demonstrate(lab, options, say)
    if (options.keep) {
      lab.keep()
      explainKept(lab, say)
    }
    return ok ? 0 : 1
  } finally {
    if (!lab.kept) {
      say('• take everything down')
      await lab.end()
    }
  }
}

/** Everything between building and taking down; returns whether the shares were as promised. */
async function demonstrate(
  lab: Lab,
  options: Options,
  say: (line: string) => void,
): Promise<boolean> {
  const { method, driver, servers, requests, scheduler } = options
  say(`uvs lab ${lab.name}: ${method} on ${driver}, ${servers} servers, scheduler ${scheduler}`)
  const topology = await buildTopology(lab, { method, driver, servers })
  describe(topology, say)
  await startServers(topology)
  const daemon = await startDaemon(topology)
  const weights = weightsFor(scheduler, servers)
  await configure(topology, daemon, scheduler, weights)

  const http = await lab.step(`send ${requests} HTTP requests, a connection each`, () =>
    askServers(topology, requests),
  )
  const datagrams = Math.min(requests, 2 * servers)
  const udp = await lab.step(`send ${datagrams} UDP datagrams, a socket each`, () =>
    askByUdp(topology, datagrams),
  )
  say('')
  const httpOk = report('HTTP', topology, http, expect(scheduler, weights, requests), requests, say)
  const udpOk = report('UDP', topology, udp, expect(scheduler, weights, datagrams), datagrams, say)
  for (const args of [['-Ln', '--stats'], ['-Lnc']]) {
    say('')
    say(firstLines(await shown(lab, daemon, args), 12))
  }
  say('')
  say(
    httpOk && udpOk
      ? `${method} on ${driver}: shared out as ${scheduler} promises`
      : `${method} on ${driver}: NOT shared out as ${scheduler} promises`,
  )
  return httpOk && udpOk
}

function describe(topology: Topology, say: (line: string) => void): void {
  const { clientAddress, virtualAddress, directorAddress, servers } = topology
  say(`  client    CIP ${clientAddress}`)
  say(`  director  VIP ${virtualAddress}, own address ${directorAddress}`)
  for (const { name, address } of servers) say(`  ${name.padEnd(9)} RIP ${address}`)
}

/** Sets both services up. */
async function configure(
  topology: Topology,
  daemon: Daemon,
  scheduler: string,
  weights: readonly number[],
): Promise<void> {
  const { lab, virtualAddress, servers, forwardingOption } = topology
  const services = [
    { option: '-t', port: HTTP_PORT, serverPort: HTTP_PORT },
    { option: '-u', port: virtualEchoPort(topology), serverPort: ECHO_PORT },
  ]
  for (const { option, port, serverPort } of services) {
    const service = [option, `${virtualAddress}:${port}`]
    const commands = [
      ['-A', ...service, '-s', scheduler],
      // The head of the list is what was added last: from the last to the first, server1 is at the head.
      ...servers
        .map(({ address }, i) => [
          ...['-a', ...service, '-r', `${address}:${serverPort}`, forwardingOption],
          ...['-w', String(weights[i])],
        ])
        .reverse(),
    ]
    for (const command of commands) {
      await shown(lab, daemon, command)
    }
  }
}

/** Runs uvsadm, with its command line printed as an administrator would type it. */
function shown(lab: Lab, daemon: Daemon, args: readonly string[]): Promise<string> {
  const commandLine = `uvsadm ${args.join(' ')}`
  return lab.step(commandLine, () => uvsadm(daemon, args), `$ ${commandLine}`)
}

/** Only masquerading can map ports. */
function virtualEchoPort({ method }: Topology): number {
  return method === 'nat' ? 5353 : ECHO_PORT
}

/** Which server answered each request. */
async function askServers(topology: Topology, requests: number): Promise<string[]> {
  const { answers, errors } = await askByHttp(topology.client, topology.virtualAddress, requests, {
    port: HTTP_PORT,
  })
  if (answers.length === 0) throw new Error(`no answer: ${firstLines(errors, 3)}`)
  return answers
}

async function askByUdp(topology: Topology, datagrams: number): Promise<string[]> {
  const { client, virtualAddress } = topology
  const port = virtualEchoPort(topology)
  const output = await client.run(
    process.execPath,
    echoClientPath(),
    virtualAddress,
    String(port),
    String(datagrams),
  )
  return output
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(' ')[0]!)
}

/** Prints how many answers each server gave beside what was promised; returns whether they agree. */
function report(
  what: string,
  { servers }: Topology,
  answers: readonly string[],
  { rule, ranges }: Expectation,
  asked: number,
  say: (line: string) => void,
): boolean {
  let ok = answers.length === asked
  say(`${what}: ${answers.length} of ${asked} answered. Promised: ${rule}.`)
  servers.forEach(({ name, address }, i) => {
    const got = answers.filter((answer) => answer === name).length
    const [fewest, most] = ranges[i]!
    const asPromised = got >= fewest && got <= most
    if (!asPromised) ok = false
    const promised = fewest === most ? String(fewest) : `${fewest} to ${most}`
    say(
      `  ${name.padEnd(10)}${address.padEnd(16)}${String(got).padStart(6)}   promised ${promised}` +
        (asPromised ? '' : '   WRONG'),
    )
  })
  return ok
}

function firstLines(text: string, count: number): string {
  const lines = text.trimEnd().split('\n')
  const more = lines.length - count
  return [...lines.slice(0, count), ...(more > 0 ? [`… ${more} more`] : [])].join('\n')
}

function explainKept(lab: Lab, say: (line: string) => void): void {
  say('\nThe lab stays up. A shell in each namespace, and the end of it all:')
  for (const { name } of lab.namespaces) say(`  sudo ip netns exec ${name} bash`)
  say(`  sudo scripts/lab --end ${lab.name}`)
  say(`uvsadm for its director: sudo npx uvsadm --socket ${lab.folder}/uvsd.sock -Ln`)
  say(`Logs are in ${lab.folder}.`)
}

function end(names: readonly string[]): number {
  const up = listLabs()
  const [name, ...excess] = names
  if (excess.length > 0) throw new Error(`'${excess[0]}' is one argument too many`)
  if (name === undefined) {
    process.stdout.write(up.length > 0 ? `${up.join('\n')}\n` : 'no lab is up\n')
    return 0
  }
  if (!up.includes(name))
    throw new Error(
      `no lab '${name}' is up; ${up.length > 0 ? `there is ${up.join(', ')}` : 'there is none'}`,
    )
  if (process.geteuid?.() !== 0) throw new Error('ending a lab needs root: run it with sudo')
  endLab(name)
  process.stdout.write(`${name} is gone\n`)
  return 0
}

function parseOptions(args: string[]): Options {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      driver: { type: 'string', default: 'afxdp' },
      servers: { type: 'string', default: '3' },
      requests: { type: 'string', default: '100' },
      scheduler: { type: 'string', default: 'rr' },
      keep: { type: 'boolean', default: false },
    },
  })
  const [method = 'nat', ...excess] = positionals
  if (!isOneOf(methods, method))
    throw new Error(`'${method}' is no forwarding method; it is one of ${methods.join(', ')}`)
  if (excess.length > 0) throw new Error(`'${excess[0]}' is one argument too many`)
  const driver = values.driver
  if (!isOneOf(drivers, driver))
    throw new Error(`'${driver}' is no driver; it is one of ${drivers.join(', ')}`)
  if (!driversOf[method].includes(driver))
    throw new Error(
      `${method} does not go with the driver ${driver}, but with ${driversOf[method].join(', ')}`,
    )
  const able = [...schedulers.keys()].filter((name) => name !== 'none')
  if (!able.includes(values.scheduler))
    throw new Error(`'${values.scheduler}' is no scheduler; it is one of ${able.join(', ')}`)
  return {
    method,
    driver,
    servers: readCount('--servers', values.servers, 1, 100),
    requests: readCount('--requests', values.requests, 1, MAX_REQUESTS),
    scheduler: values.scheduler,
    keep: values.keep,
  }
}

function isOneOf<T extends string>(list: readonly T[], text: string): text is T {
  return (list as readonly string[]).includes(text)
}
