// Two workers, real traffic: requests come in by one queue and replies by the other, so that every packet of half
// of the clients is handed over, once in each direction.
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { ApiClient } from '../src/control/api-client.js'
import { Lab, type Namespace } from '../src/lab/lab.js'
import { sleep } from '../src/lab/process.js'
import {
  buildTopology,
  ECHO_PORT,
  HTTP_PORT,
  startDaemon,
  startServers,
  uvsadm,
  waitForPing,
  type Daemon,
  type Driver,
} from '../src/lab/topology.js'
import { serve, skip } from './support/director.js'
import { kernelState } from './support/kernel-state.js'
import { becomeClient, download, echoAnswers, tally, whoAnswers } from './support/traffic.js'

t.setTimeout(600_000)

const WORKERS = ['--workers', '2']

const program = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

for (const driver of ['afxdp', 'tun'] as Driver[])
  void t.test(`two workers on ${driver}`, { skip }, async (t) => {
    const lab = Lab.create()
    t.teardown(() => lab.end())
    const topology = await buildTopology(lab, { method: 'nat', driver, servers: 3, queues: 2 })
    await startServers(topology)
    const { client, director, virtualAddress, servers } = topology
    const inside = lab.namespaces.find(({ role }) => role === 'inside')!
    if (driver === 'afxdp') {
      await sendByQueue(client, 'eth0', 0)
      await sendByQueue(inside, director.role, 1)
    }
    const untouched = await kernelState(director)
    const daemon = await startDaemon(topology, { extraArguments: WORKERS })
    const clients = Array.from({ length: 12 }, (_, i) => `192.168.10.${20 + i}`)

    await t.test('all clients are served, round robin goes round for all together', async (t) => {
      const service = await serve(topology, daemon, { port: HTTP_PORT, scheduler: 'rr' })
      const answers: string[] = []
      for (const address of clients) {
        await becomeClient(client, address)
        answers.push(...(await whoAnswers(client, virtualAddress, 5)))
      }
      t.strictSame(tally(answers), { server1: 20, server2: 20, server3: 20 })
      const listing = await uvsadm(daemon, ['-Ln', '--stats', '--exact', ...service.split(' ')])
      t.match(listing, new RegExp(`${virtualAddress}:${HTTP_PORT} +60 `), 'counters are summed up')
      if (driver === 'afxdp') {
        const status = async () =>
          (await new ApiClient(daemon.socketPath).status()) as {
            ports: { name: string; counters: { rxPackets: number; txPackets: number } }[]
            handedOverPackets: number
          }
        // Whose a client is comes from a hash with a seed of the daemon's: until each worker has had some.
        for (let more = 60; more < 90; more++) {
          const links = (await status()).ports.filter(({ name }) => name.startsWith('afxdp:'))
          if (links.every(({ counters }) => counters.txPackets > 50)) break
          await becomeClient(client, `192.168.10.${more}`)
          await whoAnswers(client, virtualAddress, 5)
        }
        const { ports, handedOverPackets } = await status()
        t.ok(handedOverPackets > 100, `${handedOverPackets} packets were handed over`)
        const counters = Object.fromEntries(ports.map(({ name, counters }) => [name, counters]))
        t.equal(counters['afxdp:eth0/1']!.rxPackets, 0, 'requests came by the first queue')
        t.equal(counters['afxdp:eth1']!.rxPackets, 0, 'replies by the second')
        for (const name of ['afxdp:eth0', 'afxdp:eth0/1', 'afxdp:eth1', 'afxdp:eth1/1'])
          t.ok(counters[name]!.txPackets > 50, `and both workers sent by ${name}`)
      }
    })

    await t.test('least connection sees the connections of both workers', async (t) => {
      const options = { protocol: 'udp', port: ECHO_PORT, scheduler: 'wlc' } as const
      const service = await serve(topology, daemon, options)
      const answered: string[] = []
      for (const address of clients) {
        await becomeClient(client, address)
        // From here on the client's neighbours know it: nothing of what follows waits for the kernel to ask for it.
        await waitForPing(client, topology.directorAddress)
        const answers = await echoAnswers(client, virtualAddress, ECHO_PORT, 5)
        for (const [i, answer] of answers.entries()) {
          const [server, text, from] = answer.split(' ')
          t.equal(`${text} ${from}`, `hello-${i} ${virtualAddress}:${ECHO_PORT}`, address)
          answered.push(server!)
        }
      }
      t.strictSame(tally(answered), { server1: 20, server2: 20, server3: 20 })
      const { reasons } = await new ApiClient(daemon.socketPath).counters()
      t.strictSame(
        [reasons['handover-full'], reasons['no-frame'], reasons['neighbour-unresolved']],
        [0, 0, 0],
      )
      const listing = await uvsadm(daemon, ['-Ln', ...service.split(' ')])
      const counts = listing.match(/-> .*/g)!.slice(1)
      t.equal(counts.length, 3)
      for (const line of counts) t.match(line, / 0 +20 *$/, 'each has as many connections')
      const connections = (await connectionsOf(daemon)).filter((line) => line.startsWith('UDP'))
      t.equal(connections.length, 60, 'each connection is listed')
      t.equal(new Set(connections.map((line) => line.split(/ +/)[3])).size, 60, 'and once')
    })

    await t.test('persistence: each client stays where it was', async (t) => {
      const options = ['-p', '300']
      await serve(topology, daemon, { port: HTTP_PORT, scheduler: 'rr', options })
      const first: string[] = []
      for (const address of clients) {
        await becomeClient(client, address)
        const answers = await whoAnswers(client, virtualAddress, 4)
        t.equal(new Set(answers).size, 1, `${address} has one server`)
        first.push(answers[0]!)
      }
      t.strictSame(tally(first), { server1: 4, server2: 4, server3: 4 })
      await t.rejects(
        uvsadm(daemon, ['-A', '-t', '192.0.2.9:80', '-p', '-M', '255.255.255.0']),
        /client-prefix 24/,
      )
    })

    await t.test('a setting that is changed at runtime holds for every worker', async (t) => {
      await serve(topology, daemon, { protocol: 'udp', port: ECHO_PORT })
      const api = new ApiClient(daemon.socketPath)
      const set = (value: string) =>
        api.execute([{ op: 'set-setting', name: 'expire_nodest_conn', value }])
      for (const expires of [false, true]) {
        await set(expires ? '1' : '0')
        for (const address of clients.slice(0, 8)) {
          await becomeClient(client, address)
          await echoAnswers(client, virtualAddress, ECHO_PORT, 2)
        }
        const service = `-u ${virtualAddress}:${ECHO_PORT}`.split(' ')
        const ofService = async () =>
          (await connectionsOf(daemon)).filter((line) => line.includes(`:${ECHO_PORT} `)).length
        t.ok((await ofService()) >= 16)
        for (const { address } of servers)
          await uvsadm(daemon, ['-d', ...service, '-r', `${address}:${ECHO_PORT}`])
        // Connections of destinations that are removed end at once, or in their time.
        const deadline = Date.now() + (expires ? 30_000 : 0)
        while ((await ofService()) > 0 && Date.now() < deadline) await sleep(50)
        if (expires) t.equal(await ofService(), 0, 'those of all workers have ended')
        else t.ok((await ofService()) >= 16, 'they are still there')
        if (!expires) await serve(topology, daemon, { protocol: 'udp', port: ECHO_PORT })
      }
      await set('0')
    })

    await t.test('much data is what it was', async (t) => {
      await serve(topology, daemon, { port: HTTP_PORT })
      for (const address of clients.slice(0, 4)) {
        await becomeClient(client, address)
        const { bytes } = await download(client, `http://${virtualAddress}/bytes/2000000`)
        t.equal(bytes, 2_000_000)
      }
    })

    await t.test('an ICMP error finds the connection that it is about', async (t) => {
      await serve(topology, daemon, { protocol: 'udp', port: 9999, serverPort: 9999 })
      for (const address of clients.slice(0, 6)) {
        await becomeClient(client, address)
        // Nobody has that port: the real server says so, and the client's socket hears of it.
        const answer = await client.try('timeout', [
          ...['60', process.execPath, '-e'],
          `const s = require('dgram').createSocket('udp4'); s.on('error', (e) => { console.log(e.code); process.exit() });
           s.connect(9999, '${virtualAddress}', () => { s.send('x'); setInterval(() => s.send('y'), 300) })`,
        ])
        t.match(answer.stdout, /ECONNREFUSED/, address)
      }
    })

    await t.test('killed, it leaves nothing behind, and a successor takes over', async (t) => {
      daemon.process.signal('SIGKILL')
      t.equal(await daemon.process.waitForExit(), 137)
      const second = await startDaemon(topology, { name: 'second', extraArguments: WORKERS })
      await serve(topology, second, { port: HTTP_PORT })
      await becomeClient(client, '192.168.10.40')
      t.strictSame(tally(await whoAnswers(client, virtualAddress, servers.length * 3)), {
        server1: 3,
        server2: 3,
        server3: 3,
      })
      second.process.signal('SIGTERM')
      t.equal(await second.process.waitForExit(), 0)
      t.strictSame(await kernelState(director), untouched, 'the kernel is as it was')
    })

    await t.test('where one worker fails, all end, with what it was', async (t) => {
      const crash = `${lab.folder}/crash`
      const failing = lab.start(director, 'failing', 'env', [
        ...[`CRASH=${crash}`, process.execPath, '--import', program('./support/crash.js')],
        ...[program('../src/cli/uvsd.js'), '--socket', `${crash}.sock`, ...WORKERS],
        ...topology.portSpecs.flatMap((spec) => ['--port', spec]),
      ])
      await failing.waitForLine(/uvsd: ready/)
      writeFileSync(`${crash}.1`, '')
      t.equal(await failing.waitForExit(), 1)
      t.match(failing.output, /the data-plane thread has failed: Error: a fault in the data-plane/)
      t.strictSame(await kernelState(director), untouched)
    })

    await t.test('all workers end when their device is gone', async (t) => {
      if (driver !== 'tun') return
      const third = await startDaemon(topology, { name: 'third', extraArguments: WORKERS })
      await director.ip('link', 'delete', 'uvs0')
      t.equal(await third.process.waitForExit(), 1)
      t.match(third.process.output, /uvs0 is gone/)
      t.strictSame(await kernelState(director), untouched)
    })
  })

void t.test('an interface with too few queues is refused, with what to do', { skip }, async (t) => {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const topology = await buildTopology(lab, { method: 'nat', driver: 'afxdp', servers: 1 })
  const daemon = lab.start(topology.director, 'uvsd', process.execPath, [
    ...[
      program('../src/cli/uvsd.js'),
      '--port',
      'afxdp:eth0',
      '--socket',
      `${lab.folder}/refused.sock`,
    ],
    ...WORKERS,
  ])
  t.equal(await daemon.waitForExit(), 1)
  t.match(daemon.output, /eth0 has 1 queue, and each of 2 workers needs one: ethtool -L eth0/)
})

const allCpus = ((1n << BigInt(cpus().length)) - 1n).toString(16)

/** Has a namespace send all packets of an interface by one queue, whatever they are: by which CPU they leave. */
async function sendByQueue(namespace: Namespace, device: string, queue: number): Promise<void> {
  for (const one of [0, 1])
    await namespace.run(
      ...(['sh', '-c'] as const),
      `echo ${one === queue ? allCpus : '0'} > /sys/class/net/${device}/queues/tx-${one}/xps_cpus`,
    )
}

async function connectionsOf(daemon: Daemon): Promise<string[]> {
  return (await uvsadm(daemon, ['-Lnc'])).trimEnd().split('\n').slice(2)
}
