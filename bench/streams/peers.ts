import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runOrThrow } from '../../src/lab/process.js'
import { compile } from '../suite/compile.js'
import type { Subject } from '../suite/measurement.js'
import { HTTP_PORT, IPERF_PORT, PORTS, type Director, type Lane, type StreamTestbed } from './testbed.js' // prettier-ignore

/** Somebody through whom streams go in the testbed. */
export interface Peer {
  readonly subject: Subject
  /** Sets it up and returns its lane. Throws when this machine lacks something for it. */
  open(testbed: StreamTestbed): Promise<Lane>
}

/** More than a part opens while they are remembered. */
const CONNECTIONS = 1024 * 1024

const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

function uvs(name: string, role: string, ports: readonly string[]): Peer {
  return {
    subject: { name, role: 'uvs' },
    async open(testbed) {
      const endsOffload = ports.every((port) => port.startsWith('tun:'))
      const director = await testbed.addDirector(role, { endsOffload })
      const socket = join(testbed.folder, `${role}.sock`)
      const command = [
        process.execPath, program('../../src/cli/uvsd.js'), '--socket', socket,
        '--connections', String(CONNECTIONS), ...ports.flatMap((port) => ['--port', port]),
      ] // prettier-ignore
      await testbed.startDirector(director, command, /uvsd: ready/)
      const rules = PORTS.flatMap((port) => [
        `-A -t ${director.virtualAddress}:${port} -s rr`,
        `-a -t ${director.virtualAddress}:${port} -r ${director.serverAddress}:${port} -m`,
      ])
      await runOrThrow(process.execPath, [program('../../src/cli/uvsadm.js'), '-R'], {
        environment: { UVS_SOCKET: socket },
        input: `${rules.join('\n')}\n`,
      })
      return director
    },
  }
}

function peer(
  name: string,
  role: string,
  configure: (testbed: StreamTestbed, director: Director) => Promise<void>,
): Peer {
  return {
    subject: { name, role: 'peer' },
    async open(testbed) {
      const director = await testbed.addDirector(role, { endsOffload: true })
      await configure(testbed, director)
      return director
    },
  }
}

async function translate(_testbed: StreamTestbed, director: Director): Promise<void> {
  const { namespace, virtualAddress, serverAddress } = director
  const input = `table ip nat {
  chain prerouting {
    type nat hook prerouting priority -100
    ip daddr ${virtualAddress} tcp dport { ${PORTS.join(', ')} } dnat to ${serverAddress}
  }
}
`
  const { status, stderr } = await namespace.try('nft', ['-f', '-'], { input })
  if (status !== 0) throw new Error(`nft: ${stderr.trim()}`)
}

async function startHaproxy(testbed: StreamTestbed, director: Director): Promise<void> {
  const { namespace, virtualAddress, serverAddress } = director
  const file = join(testbed.folder, 'haproxy.cfg')
  const lines = PORTS.map(
    (port) => `
listen port${port}
  bind ${virtualAddress}:${port} backlog 4096
  server server1 ${serverAddress}:${port}`,
  )
  writeFileSync(
    file,
    `global
  maxconn 2000
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 60s
  timeout server 60s${lines.join('')}
`,
  )
  // It says what is wrong with its configuration, or that it is not there, at once.
  await namespace.run('haproxy', '-q', '-c', '-f', file)
  await testbed.startProxy(director, ['haproxy', '-db', '-f', file])
}

/** Debian has nginx's streams in a module of its own. */
const STREAM_MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so'

async function startNginx(testbed: StreamTestbed, director: Director): Promise<void> {
  const { namespace, virtualAddress, serverAddress } = director
  const servers = PORTS.map(
    (port) =>
      `server { listen ${virtualAddress}:${port} backlog=4096; proxy_pass ${serverAddress}:${port}; }`,
  )
  const load = existsSync(STREAM_MODULE) ? `load_module ${STREAM_MODULE};` : ''
  await testbed.startNginx(
    namespace,
    'director-nginx',
    `${load} events { worker_connections 4096; } stream { ${servers.join(' ')} }`,
    [HTTP_PORT, IPERF_PORT],
  )
}

/** A table of routes into the C program's device. */
const DEVICE_TABLE = '100'

/** As uvs leads packets into its device, only that all go there: from either link, and out of it by the usual routes. */
async function leadInto(device: string, { namespace }: Director): Promise<void> {
  await namespace.ip('link', 'set', device, 'up')
  await namespace.run('tc', 'qdisc', 'replace', 'dev', device, 'root', 'noqueue')
  await namespace.run('sh', '-c', `echo 1 > /sys/class/net/${device}/threaded`)
  await namespace.ip('route', 'add', 'default', 'dev', device, 'table', DEVICE_TABLE)
  for (const link of ['eth0', 'eth1'])
    await namespace.ip('rule', 'add', 'iif', link, 'lookup', DEVICE_TABLE)
}

/** Translates nothing: the client sends to the server's own address. */
const forwarder: Peer = {
  subject: { name: 'C TUN forwarder', role: 'peer' },
  async open(testbed) {
    const binary = join(testbed.folder, 'forwarder')
    await compile('streams/forwarder.c', binary)
    const director = await testbed.addDirector('c', { endsOffload: true })
    await testbed.startDirector(director, [binary, 'tun0'], /ready/, () => leadInto('tun0', director)) // prettier-ignore
    await testbed.routeToServer(director)
    return { ...director, virtualAddress: director.serverAddress }
  },
}

export const peers = {
  ceiling: {
    subject: { name: 'no director', role: 'limit' },
    open: (testbed) => testbed.addShortcut(),
  },
  offload: uvs('uvs on TUN with offload', 'tun', ['tun:uvs0']),
  segments: uvs('uvs on TUN without', 'tun1', ['tun:uvs0,offload=off']),
  afxdp: uvs('uvs on AF_XDP', 'xdp', ['afxdp:eth0', 'afxdp:eth1']),
  forwarder,
  nftables: peer('nftables DNAT', 'nft', translate),
  haproxy: peer('HAProxy, TCP mode', 'haproxy', startHaproxy),
  nginx: peer('nginx stream', 'nginx', startNginx),
} satisfies Record<string, Peer>
