import { schedulers } from '../core/schedulers/index.js'
import type { Topology } from './topology.js'

/** Something that the client does: one connection, or one datagram and its answer. */
export interface Exchange {
  protocol: 'tcp' | 'udp'
  from: string
  fromPort: number
  to: string
  port: number
  /** How a TCP connection ends: by whose FIN, by the client's reset, or not while anybody looks. */
  end?: 'client' | 'server' | 'reset' | 'hold'
}

/** What a live comparison balances, and what the client does with it. */
export interface LivePlan {
  /** Command lines of ipvsadm. */
  rules: string[]
  exchanges: Exchange[]
  httpPorts: number[]
  echoPorts: number[]
  /** The client's, besides its own. */
  clientAddresses: string[]
}

/** Left out: no scheduler at all, and one that draws at random, and that a kernel may not have. */
const left = new Set(['none', 'twos'])

/** Services by their options; each is for another scheduler, or another way to keep clients. */
const tcpServices = [
  ...[...schedulers.keys()].filter((name) => !left.has(name)).map((name) => `-s ${name}`),
  '-s rr -p 600',
  '-s wrr -p 600 -M 255.255.255.252',
  '-s sh -b sh-port',
]
const udpServices = ['-s wrr', '-s sh', '-s rr -o', '-s rr -p 600']

const FIRST_HTTP_PORT = 8000
const FIRST_ECHO_PORT = 5300
const FIRST_CLIENT_PORT = 20_000
const CLIENTS = 8

/**
 * Each service has every server, of weights that differ. The client's addresses take turns, so that schedulers by
 * address and persistence have something to tell apart, and connections end in every way.
 *
 * @param each exchanges with each service
 */
export function livePlan(topology: Topology, each: number): LivePlan {
  const { virtualAddress, servers, forwardingOption, clientAddress } = topology
  const network = clientAddress.replace(/\d+$/, '')
  const clientAddresses = Array.from({ length: CLIENTS }, (_, i) => `${network}${20 + 3 * i}`)
  const plan: LivePlan = { rules: [], exchanges: [], httpPorts: [], echoPorts: [], clientAddresses }
  const service = (option: string, port: number, options: string): void => {
    plan.rules.push(`-A ${option} ${virtualAddress}:${port} ${options}`)
    for (const [i, { address }] of servers.entries())
      plan.rules.push(
        `-a ${option} ${virtualAddress}:${port} -r ${address}:${port} ${forwardingOption} -w ${servers.length - i}`,
      )
  }
  const ends = ['client', 'server', 'hold', 'client'] as const
  const resets: Exchange[] = []
  let exchanges = 0
  const exchange = (protocol: 'tcp' | 'udp', port: number, i: number): Exchange => ({
    protocol,
    from: clientAddresses[i % CLIENTS]!,
    fromPort: FIRST_CLIENT_PORT + exchanges++,
    to: virtualAddress,
    port,
  })
  for (const [s, options] of tcpServices.entries()) {
    const port = FIRST_HTTP_PORT + s
    plan.httpPorts.push(port)
    service('-t', port, options)
    for (let i = 0; i < each; i++)
      plan.exchanges.push({ ...exchange('tcp', port, i), end: ends[i % ends.length]! })
    resets.push({ ...exchange('tcp', port, 0), end: 'reset' })
  }
  for (const [s, options] of udpServices.entries()) {
    const port = FIRST_ECHO_PORT + s
    plan.echoPorts.push(port)
    service('-u', port, options)
    for (let i = 0; i < each; i++) plan.exchanges.push(exchange('udp', port, i))
  }
  // What is reset is forgotten after ten seconds, so it comes last.
  plan.exchanges.push(...resets)
  return plan
}
