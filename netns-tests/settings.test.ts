// Settings of a running uvsd: read and written by uvs sysctl, and what they do to real connections.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { run } from '../src/lab/process.js'
import { HTTP_PORT, startDaemon, uvsadm, type Daemon } from '../src/lab/topology.js'
import { build, serve, skip } from './support/director.js'
import { tally, whoAnswers } from './support/traffic.js'

t.setTimeout(600_000)

const toolbox = fileURLToPath(new URL('../src/cli/uvs.js', import.meta.url))
const sysctl = (daemon: Daemon, ...args: string[]) =>
  run(process.execPath, [toolbox, 'sysctl', '--socket', daemon.socketPath, ...args])

void t.test('settings of a running director', { skip }, async (t) => {
  const topology = await build(t, 'nat', 'afxdp', 2)
  const { client, virtualAddress, servers } = topology
  const daemon = await startDaemon(topology, {
    extraArguments: ['--sysctl', 'net.ipv4.vs.conn_reuse_mode=3'],
  })
  const service = await serve(topology, daemon, { port: HTTP_PORT, options: ['-p', '300'] })

  await t.test('are read and written', async (t) => {
    t.match(await sysctl(daemon, 'net.ipv4.vs.conn_reuse_mode'), {
      status: 0,
      stdout: 'net.ipv4.vs.conn_reuse_mode = 3\n',
    })
    t.match(await sysctl(daemon, '-w', 'net.ipv4.vs.drop_packet=9'), {
      status: 1,
      stderr: 'sysctl: setting key "net.ipv4.vs.drop_packet": Invalid argument\n',
    })
    t.match((await sysctl(daemon, '-a')).stdout, /^net\.ipv4\.vs\.drop_packet = 0$/m)
  })

  await t.test('drop_packet 1 asks the machine for its memory', async (t) => {
    await sysctl(daemon, '-w', 'net.ipv4.vs.drop_packet=2')
    t.match(await sysctl(daemon, '-n', 'net.ipv4.vs.drop_packet'), { stdout: '1\n' })
    await sysctl(daemon, '-w', 'net.ipv4.vs.amemthresh=2147483647', 'net.ipv4.vs.drop_packet=2')
    t.match(await sysctl(daemon, '-n', 'net.ipv4.vs.drop_packet'), { stdout: '2\n' })
    await sysctl(daemon, '-w', 'net.ipv4.vs.amemthresh=1024', 'net.ipv4.vs.drop_packet=0')
    t.equal((await whoAnswers(client, virtualAddress, 5)).length, 5)
  })

  await t.test('expire_nodest_conn lets persistent clients go to another server', async (t) => {
    const first = tally(await whoAnswers(client, virtualAddress, 5))
    const [name] = Object.keys(first)
    t.strictSame(first, { [name!]: 5 }, 'the client sticks to one')
    const sticky = servers.find((server) => server.name === name)!
    const other = servers.find((server) => server.name !== name)!
    t.match(await uvsadm(daemon, ['-Lnc']), /ASSURED/)
    await sysctl(daemon, '-w', 'net.ipv4.vs.expire_nodest_conn=1')
    await uvsadm(daemon, ['-d', ...service.split(' '), '-r', `${sticky.address}:${HTTP_PORT}`])
    t.strictSame(tally(await whoAnswers(client, virtualAddress, 5)), { [other.name]: 5 })
    t.notMatch(await uvsadm(daemon, ['-Lnc']), sticky.address, 'nothing is left of it')
  })
})
