import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Namespace } from '../../src/lab/lab.js'
import { runOrThrow } from '../../src/lab/process.js'
import { compile } from '../suite/compile.js'
import type { Subject } from '../suite/measurement.js'
import {
  DIRECTOR_CPU,
  SERVER_ADDRESS,
  VIRTUAL_ADDRESS,
  type Director,
  type Testbed,
} from './testbed.js'
import { SERVICE_PORT, type Lane } from './tester-messages.js'

/** Somebody who forwards frames in the testbed. */
export interface Peer {
  readonly subject: Subject
  /** Sets it up and returns its lane. Throws when this machine lacks something for it. */
  open(testbed: Testbed): Promise<Lane>
}

const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))
const service = `${VIRTUAL_ADDRESS}:${SERVICE_PORT}`
const server = `${SERVER_ADDRESS}:${SERVICE_PORT}`

/** As long as uvsd looks for packets in vain before it sleeps. */
const PATIENCE_US = '50'
/** More than any load has flows. */
export const CONNECTIONS = 2 * 1024 * 1024

function uvs(name: string, options: { role: string; ports: string[]; method: '-m' | '-g' }): Peer {
  const { role, ports, method } = options
  return {
    subject: { name, role: 'uvs' },
    async open(testbed) {
      // Direct routing leaves the address as it is.
      const comesTo = method === '-g' ? VIRTUAL_ADDRESS : SERVER_ADDRESS
      const director = await testbed.addDirector(role, {
        virtual: VIRTUAL_ADDRESS,
        server: comesTo,
      })
      const socket = join(testbed.folder, `${role}.sock`)
      const command = [
        process.execPath, program('../../src/cli/uvsd.js'), '--socket', socket,
        '--connections', String(CONNECTIONS), '--patience', PATIENCE_US, ...ports.flatMap((port) => ['--port', port]),
      ] // prettier-ignore
      await testbed.startDirector(director, command, /uvsd: ready/)
      const uvsadm = (...args: string[]): Promise<string> =>
        runOrThrow(process.execPath, [program('../../src/cli/uvsadm.js'), ...args], {
          environment: { UVS_SOCKET: socket },
        })
      await uvsadm('-A', '-u', service, '-s', 'rr')
      await uvsadm('-a', '-u', service, '-r', server, method)
      return director.lane
    },
  }
}

/**
 * Lets the kernel forward on the directors' processor, by receive packet steering: the tester's does nothing but
 * hand over the frames, as it does for the others. Otherwise who sends a frame also forwards it.
 */
export async function steerToDirectorCpu({ namespace }: Director): Promise<void> {
  const mask = (1 << DIRECTOR_CPU).toString(16)
  await namespace.run('sh', '-c', `echo ${mask} > /sys/class/net/eth0/queues/rx-0/rps_cpus`)
}

interface KernelPeer {
  name: string
  /** Short, for the namespace. */
  role: string
  /** Where frames are sent to. */
  virtual: string
  isSteered: boolean
  configure(director: Director): Promise<unknown>
}

function kernel({ name, role, virtual, isSteered, configure }: KernelPeer): Peer {
  return {
    subject: { name, role: 'peer' },
    async open(testbed) {
      const director = await testbed.addDirector(role, { virtual, server: SERVER_ADDRESS })
      await configure(director)
      if (isSteered) await steerToDirectorCpu(director)
      return director.lane
    },
  }
}

async function translateByNftables({ namespace }: Director): Promise<void> {
  await namespace.run('nft', 'add table ip nat')
  await namespace.run(
    'nft',
    'add chain ip nat prerouting { type nat hook prerouting priority -100; }',
  )
  const match = `ip daddr ${VIRTUAL_ADDRESS} udp dport ${SERVICE_PORT}`
  await namespace.run('nft', `add rule ip nat prerouting ${match} dnat to ${server}`)
  await keepConnections(namespace)
}

async function translateByIptables({ namespace }: Director): Promise<void> {
  // The classic tables, where the kernel has them: iptables is otherwise nftables by another name.
  const hasTables = (await namespace.try('iptables-legacy', ['-t', 'nat', '-L'])).status === 0
  await namespace.run(
    hasTables ? 'iptables-legacy' : 'iptables',
    ...['-t', 'nat', '-A', 'PREROUTING', '-d', VIRTUAL_ADDRESS, '-p', 'udp', '--dport'],
    ...[String(SERVICE_PORT), '-j', 'DNAT', '--to-destination', server],
  )
  await keepConnections(namespace)
}

/** As long as uvs keeps them, so that a trial finds those of the one before. */
function keepConnections(namespace: Namespace): Promise<void> {
  return namespace.sysctl({ 'net.netfilter.nf_conntrack_udp_timeout': 300 })
}

const forwarder: Peer = {
  subject: { name: 'C AF_XDP forwarder', role: 'peer' },
  async open(testbed) {
    const binary = join(testbed.folder, 'forwarder')
    await compile('wire/forwarder.c', binary)
    const director = await testbed.addDirector('c', {
      virtual: SERVER_ADDRESS,
      server: SERVER_ADDRESS,
    })
    await testbed.startDirector(director, [binary, 'eth0', 'eth1', PATIENCE_US], /ready/)
    return director.lane
  },
}

const ceiling: Peer = {
  subject: { name: 'no device', role: 'limit' },
  open: (testbed) => testbed.addShortcut(),
}

export const peers = {
  masquerading: uvs('uvs, masquerading', {
    role: 'nat',
    ports: ['afxdp:eth0', 'afxdp:eth1'],
    method: '-m',
  }),
  directRouting: uvs('uvs, direct routing', {
    role: 'dr',
    ports: ['afxdp:eth0', 'afxdp:eth1'],
    method: '-g',
  }),
  tunDevice: uvs('uvs, masquerading on TUN', { role: 'tun', ports: ['tun:uvs0'], method: '-m' }),
  forwarder,
  nftables: kernel({
    name: 'nftables DNAT',
    role: 'nft',
    virtual: VIRTUAL_ADDRESS,
    isSteered: true,
    configure: translateByNftables,
  }),
  nftablesUnsteered: kernel({
    name: 'nftables DNAT by the sender',
    role: 'nft1',
    virtual: VIRTUAL_ADDRESS,
    isSteered: false,
    configure: translateByNftables,
  }),
  iptables: kernel({
    name: 'iptables DNAT',
    role: 'iptables',
    virtual: VIRTUAL_ADDRESS,
    isSteered: true,
    configure: translateByIptables,
  }),
  forwarding: kernel({
    name: 'kernel forwarding',
    role: 'plain',
    virtual: SERVER_ADDRESS,
    isSteered: true,
    configure: async () => undefined,
  }),
  ceiling,
} satisfies Record<string, Peer>
