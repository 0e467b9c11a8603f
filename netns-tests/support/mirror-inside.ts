// Run by netns-tests/kernel/mirror.test.ts in a guest: a uvsd on a TUN device, the kernel's IPVS beside it, and
// `uvs mirror` between them as an administrator has it.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { ApiClient } from '../../src/control/api-client.js'
import { socketPath } from '../../src/control/api.js'
import { Names } from '../../src/control/ipvsadm/names.js'
import { runIpvsadm } from '../../src/control/ipvsadm/run.js'
import { run, type CommandResult } from '../../src/lab/process.js'

t.setTimeout(600_000)

const program = (name: string): string =>
  fileURLToPath(new URL(`../../src/cli/${name}.js`, import.meta.url))
const client = new ApiClient(socketPath())
/** Without the second that a program takes to start in a guest. */
const uvsadm = async (line: string): Promise<string> => {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const streams = { stdin: Readable.from([]), stdout, stderr }
  const status = await runIpvsadm(line.split(' '), client, streams, new Names(), 'uvsadm')
  stdout.end()
  stderr.end()
  if (status !== 0) throw new Error(`uvsadm ${line}: ${await text(stderr)}`)
  return text(stdout)
}
const setDirector = async (name: string, value: string): Promise<void> => {
  await client.execute([{ op: 'set-setting', name, value }])
}
const mirror = (...args: string[]): Promise<CommandResult> =>
  run(process.execPath, [program('uvs'), 'mirror', ...args])
const ipvsadm = (line: string): string =>
  execFileSync('ipvsadm', line.split(' '), { encoding: 'utf8' })
const setting = (name: string): string =>
  execFileSync('sysctl', ['-n', `net.ipv4.vs.${name}`], { encoding: 'utf8' }).trim()

/** A program that goes on, with what it has said. */
class Running {
  said = ''
  readonly exited: Promise<unknown>
  private readonly child: ChildProcess

  constructor(name: string, ...args: string[]) {
    this.child = spawn(process.execPath, [program(name), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.child.stdout!, this.child.stderr!])
      stream.on('data', (chunk: Buffer) => (this.said += chunk.toString()))
    this.exited = once(this.child, 'close')
  }

  async says(pattern: RegExp): Promise<void> {
    await until(
      () => pattern.test(this.said),
      () => `${pattern} in: ${this.said}`,
    )
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.child.kill(signal)
    await this.exited
    return this.child.exitCode
  }
}

async function until(holds: () => boolean, what: () => string, timeoutMs = 30_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs / 1000} s: ${what()}`)
    await sleep(50)
  }
}

/** Waits until ipvsadm lists exactly these lines. */
async function kernelHas(...lines: string[]): Promise<void> {
  const saved = lines.map((line) => `${line}\n`).join('')
  await until(
    () => ipvsadm('-Sn') === saved,
    () => `${saved}but:\n${ipvsadm('-Sn')}`,
  )
}

const startDaemon = async (...args: string[]): Promise<Running> => {
  const daemon = new Running('uvsd', '--port', 'tun:uvs0', ...args)
  await daemon.says(/uvsd: ready/)
  return daemon
}

const foreign = '-A -u 10.0.0.9:53 -s rr'
const web = '-A -t 10.0.0.1:80 -s wrr'
const server = (n: number): string => `-a -t 10.0.0.1:80 -r 10.0.0.${n}:80 -m -w ${n}`

let daemon = await startDaemon()
t.teardown(() => daemon.end('SIGKILL'))
ipvsadm(foreign)

t.test('every change of uvsd reaches the kernel, and goes with the mirror', async (t) => {
  await uvsadm(web)
  await uvsadm(server(2))
  const running = new Running('uvs', 'mirror')
  t.teardown(() => running.end('SIGKILL'))
  await running.says(/2 changes made; in step/)
  await kernelHas(web, server(2), foreign)

  await uvsadm(server(3))
  await kernelHas(web, server(2), server(3), foreign)
  await uvsadm('-E -t 10.0.0.1:80 -s wlc -p 60')
  await uvsadm('-d -t 10.0.0.1:80 -r 10.0.0.2:80')
  await kernelHas('-A -t 10.0.0.1:80 -s wlc -p 60', server(3), foreign)
  await uvsadm('--set 100 0 0')
  await setDirector('expire_nodest_conn', '1')
  await until(
    () => setting('expire_nodest_conn') === '1' && ipvsadm('-L --timeout').includes(' 100 120 300'),
    () => running.said,
  )

  ipvsadm('-D -t 10.0.0.1:80')
  await kernelHas('-A -t 10.0.0.1:80 -s wlc -p 60', server(3), foreign)
  t.pass('what others take away comes back')

  t.match(await mirror('--once'), {
    status: 1,
    stderr: /another mirror is at work .*\(process \d+\)/,
  })

  t.equal(await running.end('SIGTERM'), 0)
  t.match(running.said, /the kernel is as it was\n$/)
  await kernelHas(foreign)
  t.equal(setting('expire_nodest_conn'), '0', 'settings are as they were')
  t.match(ipvsadm('-L --timeout'), ' 900 120 300')
  t.strictSame(
    readdirSync('/run/uvs').filter((name) => name.startsWith('mirror')),
    [],
  )
  await uvsadm('--set 900 120 300')
  await setDirector('expire_nodest_conn', '0')
  await uvsadm('-C')
})

t.test('the kernel stays as it is while uvsd is away, and follows the next one', async (t) => {
  await uvsadm(web)
  const running = new Running('uvs', 'mirror', '--keep')
  t.teardown(() => running.end('SIGKILL'))
  await kernelHas(web, foreign)
  await daemon.end('SIGTERM')
  await running.says(/cannot reach uvsd .*; the kernel stays as it is/)
  await kernelHas(web, foreign)
  writeFileSync('/tmp/rules', `${web}\n${server(4)}\n`)
  daemon = await startDaemon('--rules', '/tmp/rules')
  await running.says(/back again/)
  await kernelHas(web, server(4), foreign)

  await running.end('SIGKILL')
  await kernelHas(web, server(4), foreign)
  t.match(await mirror('--remove'), { status: 0, stderr: /1 change made/ })
  await kernelHas(foreign)
  t.pass('what a killed mirror has left is known to the next')
})

t.test('the difference, and its exit status', async (t) => {
  t.match(await mirror('--diff'), {
    status: 1,
    stdout: `+ ${web}\n+ ${server(4)}\n- ${foreign}\n`,
  })
  t.match(await mirror('--once'), { status: 0, stderr: /2 changes made/ })
  ipvsadm('-D -u 10.0.0.9:53')
  t.match(await mirror('--diff'), { status: 0, stdout: /^$/ })
  ipvsadm('-e -t 10.0.0.1:80 -r 10.0.0.4:80 -m -w 9')
  const { status, stdout } = await mirror('--diff', '--json')
  t.equal(status, 1)
  t.match(JSON.parse(stdout), [
    { fields: ['weight'], uvsd: { weight: 4 }, kernel: { weight: 9 }, destination: { port: 80 } },
  ])
  t.match(await mirror('--diff', '--socket', '/tmp/none'), {
    status: 2,
    stderr: /cannot reach uvsd/,
  })
  t.match(await mirror('--diff', '--once'), { status: 2, stderr: /do not go together/ })
})

t.test('uvsd takes the kernel’s table over', async (t) => {
  ipvsadm('-C')
  ipvsadm('-A -t 10.0.0.7:443 -s rr -p 90 -M 255.255.255.0')
  for (const last of [2, 9, 4])
    ipvsadm(`-a -t 10.0.0.7:443 -r 10.0.0.${last}:8443 -m -w ${last} -x 99`)
  ipvsadm('-A -f 5 -s wlc')
  ipvsadm('-a -f 5 -r 10.0.0.2 -i --tun-type gue --tun-port 6080')
  ipvsadm('--set 0 0 77')
  execFileSync('sysctl', ['-qw', 'net.ipv4.vs.sloppy_tcp=1'])
  t.match(await mirror('--from-kernel'), { status: 0, stderr: /changes made in uvsd/ })
  t.equal(await uvsadm('-Sn'), ipvsadm('-Sn'))
  t.equal(
    await uvsadm('-Ln --nosort --thresholds -t 10.0.0.7:443'),
    ipvsadm('-Ln --nosort --thresholds -t 10.0.0.7:443'),
  )
  t.match(await mirror('--diff'), { status: 0, stdout: /^$/ })
  t.match(await uvsadm('-L --timeout'), ' 77')
})

t.test('--adopt makes the kernel have what uvsd has and nothing else', async (t) => {
  await uvsadm('-C')
  await uvsadm(web)
  await mirror('--remove')
  ipvsadm('-C')
  ipvsadm(foreign)
  ipvsadm('-A -t 10.0.0.1:80 -s lc')
  t.match(await mirror('--once'), {
    status: 1,
    stderr: /-t 10\.0\.0\.1:80: .*\(--adopt takes it over\)/,
  })
  await kernelHas('-A -t 10.0.0.1:80 -s lc', foreign)
  t.match(await mirror('--once', '--adopt'), { status: 0, stderr: /2 changes made/ })
  await kernelHas(web)
})

t.test('a rules file in place of a uvsd', async (t) => {
  await daemon.end('SIGTERM')
  ipvsadm('-C')
  writeFileSync('/tmp/rules', `${web}\n${server(2)}\n`)
  t.match(await mirror('--rules', '/tmp/rules', '--diff'), {
    status: 1,
    stdout: `+ ${web}\n+ ${server(2)}\n`,
  })
  const running = new Running('uvs', 'mirror', '--rules', '/tmp/rules')
  t.teardown(() => running.end('SIGKILL'))
  await kernelHas(web, server(2))
  writeFileSync('/tmp/rules', `${web}\n${server(2)}\n-a nonsense\n`)
  await running.says(/\/tmp\/rules:3:\d+: .*; the kernel stays as it is/)
  await kernelHas(web, server(2))
  writeFileSync('/tmp/rules', `${web}\n${server(3)}\n`)
  await kernelHas(web, server(3))
  t.equal(await running.end('SIGINT'), 0)
  await kernelHas()
  t.match(await mirror(), { status: 1, stderr: /cannot reach uvsd/ })
})

t.test('a kernel that has no IPVS', async (t) => {
  const loaded = execFileSync('lsmod', { encoding: 'utf8' }).match(/^ip_vs_\w+/gm)!
  execFileSync('rmmod', [...loaded, 'ip_vs'])
  t.notOk(existsSync('/proc/sys/net/ipv4/vs'))
  writeFileSync('/proc/sys/kernel/modprobe', '/bin/false')
  t.match(await mirror('--rules', '/tmp/rules'), {
    status: 1,
    stderr: /the kernel has no IPVS: modprobe ip_vs/,
  })
})
