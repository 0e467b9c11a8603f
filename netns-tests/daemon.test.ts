// uvsd in the hands of a careless operator, under hostile clients of its socket, and in a kernel that changes
// under it: it says what is wrong, goes on where it can, and never leaves anything in the kernel.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Lab, type LabProcess, type Namespace } from '../src/lab/lab.js'
import { sleep } from '../src/lab/process.js'
import {
  startDaemon,
  uvsadm,
  waitForPing,
  type Daemon,
  type Topology,
} from '../src/lab/topology.js'
import { build, skip } from './support/director.js'
import { kernelState } from './support/kernel-state.js'
import { becomeClient, tally, whoAnswers } from './support/traffic.js'

t.setTimeout(600_000)

const program = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const uvsd = program('../src/cli/uvsd.js')

const portArguments = {
  afxdp: ['--port', 'afxdp:eth0'],
  tun: ['--port', 'tun:uvs0'],
  tap: ['--port', 'tap:uvs0,bridge=br0'],
} as const
type Driver = keyof typeof portArguments
const drivers = Object.keys(portArguments) as Driver[]

/** One machine with eth0, a bridge br0 with eth1 in it, eth2 that is down, and nobody at the other ends. */
class Machine {
  private started = 0

  private constructor(
    readonly lab: Lab,
    readonly namespace: Namespace,
    readonly other: Namespace,
  ) {}

  static async build(t: { teardown(work: () => Promise<void>): void }): Promise<Machine> {
    const lab = Lab.create()
    t.teardown(() => lab.end())
    const namespace = await lab.addNamespace('machine')
    const other = await lab.addNamespace('other')
    for (const device of ['eth0', 'eth1', 'eth2'])
      await lab.connect(namespace, device, other, device)
    await namespace.ip('address', 'add', '10.0.0.1/24', 'dev', 'eth0')
    await namespace.ip('link', 'add', 'br0', 'type', 'bridge')
    await namespace.ip('link', 'set', 'eth1', 'master', 'br0')
    await namespace.ip('link', 'set', 'br0', 'up')
    await namespace.ip('link', 'set', 'eth2', 'down')
    const machine = new Machine(lab, namespace, other)
    // Virtual addresses that are nobody's, so that uvsd has something to program with every driver.
    machine.write('rules', [
      '-A -t 10.0.9.1:80 -s rr',
      '-a -t 10.0.9.1:80 -r 10.0.0.2:80 -m',
      '-A -u 10.0.9.2:53 -s rr',
    ])
    // The bridge's port begins to forward.
    while (/NO-CARRIER|state DOWN/.test(await namespace.ip('link', 'show', 'br0'))) await sleep(20)
    return machine
  }

  /** A file in the lab's folder; its path. */
  write(name: string, lines: readonly string[]): string {
    writeFileSync(this.path(name), `${lines.join('\n')}\n`)
    return this.path(name)
  }

  path(name: string): string {
    return `${this.lab.folder}/${name}`
  }

  start(
    args: readonly string[],
    options: { namespace?: Namespace; node?: readonly string[]; env?: readonly string[] } = {},
  ): LabProcess {
    const { namespace = this.namespace, node = [], env = [] } = options
    const socket = args.includes('--socket') ? [] : ['--socket', this.path('socket')]
    const name = `uvsd${this.started++}`
    const command = [process.execPath, ...node, uvsd, ...socket, ...args]
    return this.lab.start(namespace, name, 'env', [...env, ...command])
  }

  withRules(driver: Driver): string[] {
    return [...portArguments[driver], '--rules', this.path('rules')]
  }
}

const ready = /uvsd: ready/

t.test('starting', { skip }, async (t) => {
  const machine = await Machine.build(t)
  const { namespace } = machine
  const untouched = await kernelState(namespace)
  const badRules = machine.write('bad', [
    '-A -t 10.0.9.1:80 -s rr',
    '-a -t 10.0.9.1:80 -r 10.0.0.x:80 -m',
  ])
  const refusedRules = machine.write('refused', [
    '-A -t 10.0.9.1:80 -s rr',
    '-A -t 10.0.9.1:81 -s nosuch',
  ])
  const tun = portArguments.tun

  await t.test('what cannot be is refused in a sentence, and nothing is left', async (t) => {
    const cases: [args: string[], status: number, says: RegExp][] = [
      [[], 2, /no port: give at least one/],
      [['--port', 'bogus'], 2, /unknown driver 'bogus'/],
      [['--port', 'tun:uvs%d'], 2, /'uvs%d' cannot be the name of an interface/],
      [[...tun, '--connections', '0'], 2, /--connections 0/],
      [[...tun, '--sysctl', 'drop_entry=1'], 2, /'drop_entry': expected a key of net.ipv4.vs/],
      [[...tun, '--sysctl', 'net.ipv4.vs.nope=1'], 2, /there is no setting 'nope'/],
      [[...tun, '--sysctl', 'net.ipv4.vs.drop_entry=4'], 2, /drop_entry 4 is not within 0 to 3/],
      [['--port', 'afxdp:nope'], 1, /no interface 'nope' .*eth0/],
      [['--port', 'afxdp:eth2'], 1, /eth2 is down; .*ip link set eth2 up/],
      [['--port', 'afxdp:lo'], 1, /lo has no Ethernet address/],
      [['--port', 'tun:eth0'], 1, /eth0.* is no tun device/],
      [['--port', 'tap:uvs0,bridge=nope'], 1, /no interface 'nope'/],
      [['--port', 'tap:uvs0,bridge=eth0'], 1, /master eth0/],
      [[...tun, '--rules', machine.path('none')], 1, /cannot read the rules file .*none/],
      [[...tun, '--rules', badRules], 1, /bad:2:22: .*10\.0\.0\.x/],
      [[...tun, '--rules', refusedRules], 1, /81: no scheduler 'nosuch'/],
      [[...tun, '--socket', badRules], 1, /bad exists and is not a socket/],
      [[...tun, '--socket', '/proc/nope/socket'], 1, /cannot make .*\/proc\/nope\/socket/],
      [[...tun, '--socket', `/tmp/${'x'.repeat(107)}`], 1, /at most 107 bytes/],
    ]
    for (const [args, status, says] of cases) {
      const process = machine.start(args)
      t.equal(await process.waitForExit(), status, args.join(' '))
      t.match(process.output, says)
      t.notMatch(process.output, /\n\s+at /, 'no stack trace')
    }
    t.strictSame(await kernelState(namespace), untouched)
    t.notOk(existsSync(machine.path('socket')))
  })

  await t.test('without root it says what it takes', async (t) => {
    // Nobody, but for reading the checkout wherever it is.
    const capabilities = '-all,+dac_read_search'
    const { status, stderr } = await namespace.try('setpriv', [
      ...['--reuid=65534', '--clear-groups'],
      ...[`--inh-caps=${capabilities}`, `--ambient-caps=${capabilities}`],
      // The test runner's own hook in NODE_OPTIONS writes where only root may.
      ...['env', '-u', 'NODE_OPTIONS', process.execPath, uvsd],
      ...[...tun, '--socket', '/tmp/uvsd-test-without-root'],
    ])
    t.equal(status, 1)
    t.match(stderr, /not running as root; this takes CAP_NET_ADMIN/)
    t.notMatch(stderr, /\n\s+at /)
  })

  await t.test('SIGTERM at any moment of it leaves nothing', async (t) => {
    for (const driver of drivers)
      for (const ms of [120, 200, 280]) {
        const process = machine.start(machine.withRules(driver))
        await sleep(ms)
        process.signal('SIGTERM')
        t.match(String(await process.waitForExit()), /^(0|143)$/, `${driver} after ${ms} ms`)
        t.strictSame(await kernelState(namespace), untouched)
      }
    t.notOk(existsSync(machine.path('socket')))
  })

  await t.test('after a killed one, with any driver', async (t) => {
    for (const [i, killed] of drivers.entries())
      for (const successor of drivers) {
        const first = machine.start(machine.withRules(killed))
        if (successor === killed) await first.waitForLine(ready)
        else await sleep(150 + 70 * i)
        first.signal('SIGKILL')
        await first.waitForExit()
        const second = machine.start(machine.withRules(successor))
        await second.waitForLine(ready)
        second.signal('SIGTERM')
        t.equal(await second.waitForExit(), 0, `${killed}, then ${successor}`)
        t.strictSame(await kernelState(namespace), untouched)
      }
  })

  await t.test('one in a namespace, one on a socket', async (t) => {
    const killed = machine.start(machine.withRules('tun'))
    await killed.waitForLine(ready)
    killed.signal('SIGKILL')
    await killed.waitForExit()
    const both = drivers.slice(0, 2).map((driver) => machine.start(machine.withRules(driver)))
    while (both.every((one) => one.exitStatus === undefined)) await sleep(20)
    const [loser, winner] =
      both[0]!.exitStatus === undefined ? [both[1]!, both[0]!] : [both[0]!, both[1]!]
    t.match(loser.output, /another uvsd is running in this network namespace \(/)
    await winner.waitForLine(ready)
    const elsewhere = machine.start(tun, { namespace: machine.other })
    t.equal(await elsewhere.waitForExit(), 1)
    t.match(elsewhere.output, /another uvsd is listening at .*socket/)
    t.notMatch(await machine.other.ip('link', 'show'), /uvs0/, 'and it has taken its device away')
    winner.signal('SIGTERM')
    t.equal(await winner.waitForExit(), 0)
    t.strictSame(await kernelState(namespace), untouched)
  })

  await t.test('a fault of its own ends it with status 1 and a clean kernel', async (t) => {
    for (const [thread, says] of [
      ['main', /a fault of uvsd itself: Error: a fault in the main thread\n +at /],
      [
        'thread',
        /the data-plane thread has failed: Error: a fault in the data-plane thread\n +at /,
      ],
    ] as const) {
      const crash = machine.path(`crash-${thread}`)
      const process = machine.start(machine.withRules('tun'), {
        node: ['--import', program('./support/crash.js')],
        env: [`CRASH=${crash}`],
      })
      await process.waitForLine(ready)
      writeFileSync(`${crash}.${thread}`, '')
      t.equal(await process.waitForExit(), 1)
      t.match(process.output, says)
      t.strictSame(await kernelState(namespace), untouched)
    }
  })

  await t.test('nobody reads what it says any more', async (t) => {
    const child = spawn(
      'ip',
      [
        ...['netns', 'exec', namespace.name, process.execPath, uvsd],
        ...[...machine.withRules('tun'), '--socket', machine.path('socket')],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
    let said = ''
    for await (const chunk of child.stderr.setEncoding('utf8') as AsyncIterable<string>)
      if (ready.test((said += chunk))) break
    const exit = once(child, 'exit')
    for (let i = 0; i < 3; i++) {
      child.kill('SIGHUP')
      await sleep(50)
    }
    t.equal(child.exitCode, null, 'it goes on')
    child.kill('SIGTERM')
    t.strictSame(await exit, [0, null])
    t.strictSame(await kernelState(namespace), untouched)
  })

  await t.test('ten thousand services', async (t) => {
    const many = machine.write(
      'many',
      Array.from({ length: 10_000 }, (_, i) => [
        `-A -t 10.0.9.${1 + (i % 5)}:${1000 + i} -s rr`,
        `-a -t 10.0.9.${1 + (i % 5)}:${1000 + i} -r 10.0.0.2:80 -m`,
      ]).flat(),
    )
    const begin = Date.now()
    const process = machine.start([...portArguments.afxdp, '--rules', many])
    await process.waitForLine(ready)
    const loading = Date.now()
    process.signal('SIGHUP')
    await process.waitForLine(/rules reloaded/)
    t.comment(`started in ${loading - begin} ms, reloaded in ${Date.now() - loading} ms`)
    process.signal('SIGTERM')
    t.equal(await process.waitForExit(), 0)
    t.strictSame(await kernelState(namespace), untouched)
  })
})

interface Status {
  waitingPackets: number
  frames: { total: number; free: number }
}

/** Asks the daemon's socket directly. */
async function ask(daemon: Daemon, method: string, path: string, body?: string | Buffer) {
  const call = request({ socketPath: daemon.socketPath, method, path, agent: false })
  call.on('error', () => undefined)
  call.end(body)
  const [response] = (await once(call, 'response')) as [
    NodeJS.ReadableStream & { statusCode: number },
  ]
  return { status: response.statusCode, body: await text(response) }
}

const status = async (daemon: Daemon): Promise<Status> =>
  JSON.parse((await ask(daemon, 'GET', '/v1/status')).body) as Status

/**
 * The least share of a processor that a process has used over some time, of many such times: what it has yet to
 * finish, it finishes, but a thread that spins takes all that it gets in each of them.
 */
async function restingShare(pid: number, milliseconds: number, enough: number): Promise<number> {
  let least = Infinity
  for (let tries = 0; tries < 20 && least > enough; tries++)
    least = Math.min(least, await processorShare(pid, milliseconds))
  return least
}

async function processorShare(pid: number, milliseconds: number): Promise<number> {
  const ticks = (): number => {
    const [, , , , , , , , , , , user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    return Number(user) + Number(system)
  }
  const before = ticks()
  await sleep(milliseconds)
  return ((ticks() - before) * 10) / milliseconds
}

function rulesOf({ virtualAddress, servers, forwardingOption }: Topology, weight = 1): string[] {
  const service = `-t ${virtualAddress}:80`
  return [
    `-A ${service} -s rr`,
    ...servers.map(
      ({ address }) => `-a ${service} -r ${address}:80 ${forwardingOption} -w ${weight}`,
    ),
  ]
}

t.test('running, on AF_XDP', { skip }, async (t) => {
  const topology = await build(t, 'nat', 'afxdp', 2)
  const { client, director, lab, virtualAddress } = topology
  const untouched = await kernelState(director)
  const rules = `${lab.folder}/rules`
  const write = (lines: readonly string[]): void => writeFileSync(rules, `${lines.join('\n')}\n`)
  write(rulesOf(topology))
  let started = 0
  const start = (): Promise<Daemon> =>
    startDaemon(topology, { name: `uvsd${started++}`, extraArguments: ['--rules', rules] })
  let clients = 20
  /** Requests of a client that the director has not seen yet, so none of its connections is an old one. */
  const answers = async (requests: number, address = virtualAddress) => {
    await becomeClient(client, `192.168.10.${clients++}`)
    return tally(await whoAnswers(client, address, requests))
  }
  let daemon = await start()

  await t.test('SIGHUP: a bad file changes nothing, a good one no connection', async (t) => {
    const before = await uvsadm(daemon, ['-Sn'])
    write([...rulesOf(topology, 2), '-a -t nowhere'])
    daemon.process.signal('SIGHUP')
    t.match(
      await daemon.process.waitForLine(/the rules stay as they were/),
      /rules:4:\d+: .*nowhere/,
      'with line, column and token',
    )
    t.equal(await uvsadm(daemon, ['-Sn']), before)

    const slow = client.run('curl', '-sS', '--max-time', '60', `http://${virtualAddress}/delay/800`)
    await sleep(200)
    write([...rulesOf(topology, 2), `-A -t ${virtualAddress}:81 -s wrr`])
    daemon.process.signal('SIGHUP')
    await daemon.process.waitForLine(/rules reloaded/)
    t.match(await uvsadm(daemon, ['-Sn']), /-w 2[^]*:81 -s wrr|:81 -s wrr[^]*-w 2/)
    t.match(await slow, /^server\d$/m, 'what was under way is answered')
  })

  await t.test('its socket abused, while traffic flows', async (t) => {
    const traffic = answers(300)
    const raw = async (bytes: string): Promise<string> => {
      const socket = connect(daemon.socketPath)
      let answer = ''
      socket.setEncoding('latin1').on('data', (chunk: string) => (answer += chunk))
      // It may hang up before it has read everything, which `once` would take for a failure.
      socket.on('error', () => undefined)
      socket.end(bytes, 'latin1')
      await new Promise((resolve) => socket.on('close', resolve))
      return answer
    }
    t.match(await raw('\0\xff\r\n\r\n'), /^HTTP\/1.1 400/)
    t.match(await raw('GET http://[ HTTP/1.1\r\nhost: x\r\n\r\n'), /^HTTP\/1.1 400/)
    t.match(await raw(`GET / HTTP/1.1\r\nx: ${'x'.repeat(100_000)}\r\n\r\n`), /^HTTP\/1.1 431/)
    t.equal((await ask(daemon, 'POST', '/v1/commands', Buffer.alloc(17 << 20, '['))).status, 413)
    t.equal((await ask(daemon, 'POST', '/v1/commands', '['.repeat(100_000))).status, 400)
    const stalled = Array.from({ length: 50 }, () => {
      const socket = connect(daemon.socketPath)
      socket.on('error', () => undefined)
      socket.write('POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n[')
      return socket
    })
    const answered = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        i % 2 === 0
          ? ask(daemon, 'GET', '/v1/connections')
          : ask(daemon, 'POST', '/v1/commands', '[{"op":"list-services"},{"op":"get-counters"}]'),
      ),
    )
    t.strictSame(tally(answered.map((one) => String(one.status))), { '200': 100 })
    for (const socket of stalled) socket.destroy()
    t.strictSame(await traffic, { server1: 150, server2: 150 })
  })

  await t.test('neighbours that move, fall silent and come back', async (t) => {
    const [{ namespace: server, address }] = topology.servers as [Topology['servers'][0]]
    await director.ip('neigh', 'flush', 'all')
    t.strictSame(await answers(4), { server1: 2, server2: 2 }, 'forgotten')

    // It tells the others, and the kernel believes it when what it knows is a second old.
    await server.sysctl({ 'net.ipv4.conf.eth0.arp_notify': 1 })
    await sleep(1100)
    const traffic = answers(1500)
    await sleep(150)
    await server.ip('link', 'set', 'eth0', 'address', '02:00:00:00:99:01')
    t.strictSame(await traffic, { server1: 750, server2: 750 }, 'another Ethernet address')

    await server.ip('link', 'set', 'eth0', 'arp', 'off')
    await director.ip('neigh', 'flush', 'all')
    await becomeClient(client, `192.168.10.${clients++}`)
    const held = whoAnswers(client, virtualAddress, 2)
    while ((await status(daemon)).waitingPackets === 0) await sleep(10)
    await server.ip('link', 'set', 'eth0', 'arp', 'on')
    t.strictSame(tally(await held), { server1: 1, server2: 1 }, `${address} silent, then back`)
    t.equal((await status(daemon)).waitingPackets, 0)
  })

  await t.test('a virtual address that is not the machine’s yet', async (t) => {
    const address = '192.168.10.77'
    const shown = (): Promise<string> => director.ip('-brief', 'address', 'show', 'dev', 'uvs-eth0')
    for (const port of [80, 81]) {
      await uvsadm(daemon, ['-A', '-t', `${address}:${port}`, '-s', 'rr'])
      await uvsadm(daemon, ['-a', '-t', `${address}:${port}`, '-r', '192.168.20.12:80', '-m'])
    }
    t.match(await shown(), `${address}/32`)
    t.strictSame(await answers(2, address), { server2: 2 })
    await waitForPing(client, address)
    await uvsadm(daemon, ['-D', '-t', `${address}:80`])
    t.match(await shown(), `${address}/32`, 'stays with its last service')
    await uvsadm(daemon, ['-D', '-t', `${address}:81`])
    t.notMatch(await shown(), address)
  })

  await t.test('services that come and go under traffic', async (t) => {
    const stop = new AbortController()
    await becomeClient(client, `192.168.10.${clients++}`)
    const traffic = client.try('timeout', [
      ...['2', 'curl', '-s', '--max-time', '1', '-H', 'Connection: close'],
      `http://${virtualAddress}/[1-1000000]`,
    ])
    void traffic.then(() => stop.abort())
    while (!stop.signal.aborted) {
      await uvsadm(daemon, ['-C'])
      await uvsadm(daemon, ['-R'], `${rulesOf(topology).join('\n')}\n`)
    }
    t.strictSame(await answers(4), { server1: 2, server2: 2 })
  })

  await t.test('idle it costs nothing, and has its frames back', async (t) => {
    const share = await restingShare(daemon.process.pid, 2000, 0.05)
    t.ok(share <= 0.05, `${100 * share} % of a processor`)
    const { frames } = await status(daemon)
    // The fill rings of two interfaces.
    t.equal(frames.free, frames.total - 2 * 2048)
  })

  await t.test('an interface that is set down and up again', async (t) => {
    await director.ip('link', 'set', 'eth0', 'down')
    await sleep(100)
    t.ok((await restingShare(daemon.process.pid, 300, 0.1)) <= 0.1, 'no spinning')
    await director.ip('link', 'set', 'eth0', 'up')
    await waitForPing(client, topology.directorAddress)
    while (!/state UP/.test(await director.ip('link', 'show', 'dev', 'eth0'))) await sleep(50)
    t.strictSame(await answers(4), { server1: 2, server2: 2 })
  })

  await t.test('SIGTERM under load', async (t) => {
    const traffic = client.try('timeout', [
      ...['2', 'curl', '-s', '--max-time', '1', '-H', 'Connection: close'],
      `http://${virtualAddress}/[1-1000000]`,
    ])
    await sleep(500)
    daemon.process.signal('SIGTERM')
    t.equal(await daemon.process.waitForExit(), 0, daemon.process.output.slice(-500))
    t.strictSame(await kernelState(director), untouched)
    t.notOk(existsSync(daemon.socketPath))
    await traffic
  })

  await t.test('it ends when it cannot go on with its interfaces', async (t) => {
    daemon = await start()
    await director.ip('link', 'set', 'eth0', 'address', '02:00:00:00:99:02')
    t.equal(await daemon.process.waitForExit(), 1)
    t.match(
      daemon.process.output,
      /eth0 has changed its Ethernet address from .* to 02:00:00:00:99:02/,
    )

    daemon = await start()
    await director.ip('link', 'delete', 'uvs-eth0')
    t.equal(await daemon.process.waitForExit(), 1)
    t.match(daemon.process.output, /uvs-eth0 is gone/)

    daemon = await start()
    await director.ip('link', 'delete', 'eth0')
    t.equal(await daemon.process.waitForExit(), 1)
    t.match(daemon.process.output, /eth0 is gone/)
    t.notMatch(await director.ip('link', 'show'), /xdp|uvs-eth0/)
  })
})

t.test('a TUN device deleted under it', { skip }, async (t) => {
  const machine = await Machine.build(t)
  const untouched = await kernelState(machine.namespace)
  const process = machine.start(machine.withRules('tun'))
  await process.waitForLine(ready)
  await machine.namespace.ip('link', 'delete', 'uvs0')
  t.equal(await process.waitForExit(), 1)
  t.match(process.output, /uvs0 is gone/)
  t.strictSame(await kernelState(machine.namespace), untouched)
})

t.test('a TAP station leaves the bridge its address', { skip }, async (t) => {
  const topology = await build(t, 'dr', 'tap', 1)
  const { director, client, directorAddress } = topology
  const untouched = await kernelState(director)
  // The kernel gives a TAP device a random address, which would often be lower than this one.
  await director.ip('link', 'set', 'eth0', 'address', 'fe:00:00:00:00:01')
  const mac = await director.mac('br0')
  const { process } = await startDaemon(topology)
  t.equal(await director.mac('br0'), mac)
  await waitForPing(client, directorAddress)
  process.signal('SIGTERM')
  t.equal(await process.waitForExit(), 0)
  // Its neighbours still find the machine.
  await waitForPing(client, directorAddress)
  const { process: second } = await startDaemon(topology)
  await director.ip('link', 'delete', 'uvs0')
  t.equal(await second.waitForExit(), 1)
  t.match(second.output, /uvs0 is gone/)
  t.strictSame(await kernelState(director), untouched)
})
