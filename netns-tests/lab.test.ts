// The lab as its users start it, and what it leaves behind: nothing.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { endLab, Lab, LabError, listLabs } from '../src/lab/lab.js'
import { run, type CommandResult } from '../src/lab/process.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

const toolbox = fileURLToPath(new URL('../src/cli/uvs.js', import.meta.url))
const labModule = new URL('../src/lab/lab.js', import.meta.url).href
const uvsLab = (...args: string[]): Promise<CommandResult> =>
  run(process.execPath, [toolbox, 'lab', ...args])

async function namespacesOf(lab: string): Promise<string[]> {
  const { stdout } = await run('ip', ['netns', 'list'])
  return stdout.split('\n').filter((line) => line.startsWith(`${lab}-`))
}

void t.test('labs stand side by side and end alone', { skip }, async (t) => {
  const [one, two] = [Lab.create(), Lab.create()]
  t.teardown(() => Promise.all([one.end(), two.end()]))
  t.not(one.name, two.name)
  for (const lab of [one, two]) {
    const [a, b] = [await lab.addNamespace('a'), await lab.addNamespace('b')]
    await lab.connect(a, 'eth0', b, 'eth0')
    await a.ip('address', 'add', '192.168.1.1/24', 'dev', 'eth0')
    await b.ip('address', 'add', '192.168.1.2/24', 'dev', 'eth0')
    await a.run('ping', '-c', '1', '-w', '30', '192.168.1.2')
    lab.start(a, 'sleeper', 'sleep', ['1000'])
  }
  await one.end()
  t.strictSame(await namespacesOf(one.name), [])
  t.equal((await namespacesOf(two.name)).length, 2)
  t.notOk(listLabs().includes(one.name))
  t.ok(listLabs().includes(two.name))
  t.ok(endLab(two.name), 'by its name alone')
  t.strictSame(await namespacesOf(two.name), [])
})

void t.test('a failed step says which, and what the program said', { skip }, async (t) => {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const namespace = await lab.addNamespace('a')
  await t.rejects(
    lab.step('give a an address', () => namespace.ip('address', 'add', '300.0.0.1', 'dev', 'lo')),
    { name: 'LabError', message: /^step failed: give a an address: ip .*300\.0\.0\.1/ },
  )
  const dying = lab.start(namespace, 'dying', 'sh', ['-c', 'echo no such thing >&2; exit 3'])
  const error = await lab
    .step('start dying', () => dying.waitForLine(/ready/))
    .catch((reason: LabError) => reason)
  t.match((error as LabError).message, /start dying.*exit 3.*no such thing/)
  await t.rejects(
    lab.step('run nothing', () => run('uvs-no-such-program', [])),
    {
      message: /uvs-no-such-program is not installed/,
    },
  )
})

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  void t.test(`${signal} takes everything down`, { skip }, async (t) => {
    const script = `
      import { Lab } from ${JSON.stringify(labModule)}
      const lab = Lab.create()
      const a = await lab.addNamespace('a')
      lab.start(a, 'sleeper', 'sleep', ['1000'])
      console.log(lab.name)
      setInterval(() => undefined, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const name = await new Promise<string>((resolve) =>
      child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString().trim())),
    )
    t.equal((await namespacesOf(name)).length, 1)
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
    child.kill(signal)
    t.equal(await ended, signal === 'SIGINT' ? 130 : 143)
    t.strictSame(await namespacesOf(name), [])
    t.notOk(listLabs().includes(name))
  })

void t.test('an uncaught error takes everything down', { skip }, async (t) => {
  const script = `
    import { Lab } from ${JSON.stringify(labModule)}
    const lab = Lab.create()
    await lab.addNamespace('a')
    console.log(lab.name)
    throw new Error('unforeseen')`
  const result = await run(process.execPath, ['--input-type=module', '-e', script])
  t.equal(result.status, 1)
  t.match(result.stderr, /unforeseen/)
  t.strictSame(await namespacesOf(result.stdout.trim()), [])
})

void t.test('the command line', async (t) => {
  for (const [args, complaint] of [
    [['drr'], /'drr' is no forwarding method; it is one of nat, dr, tun/],
    [['nat', '--driver', 'dpdk'], /'dpdk' is no driver/],
    [['dr', '--driver', 'tun'], /dr does not go with the driver tun, but with afxdp, tap/],
    [['--servers', '0'], /--servers 0: must be a number from 1 to 100/],
    [['--scheduler', 'fair'], /'fair' is no scheduler; it is one of rr, wrr, lc, /],
    [['nat', 'dr'], /'dr' is one argument too many/],
    [['--end', 'uvs0'], /no lab 'uvs0' is up/],
    [['--sudo'], /--sudo/],
  ] as const) {
    const { status, stderr } = await uvsLab(...args)
    t.equal(status, 2, args.join(' '))
    t.match(stderr, complaint)
  }
  t.match((await uvsLab('--help')).stdout, /Usage: uvs lab/)
})

for (const [method, driver] of [
  ['nat', 'afxdp'],
  ['dr', 'afxdp'],
  ['tun', 'afxdp'],
  ['nat', 'tun'],
  ['tun', 'tun'],
  ['dr', 'tap'],
] as const)
  void t.test(`uvs lab ${method} --driver ${driver}`, { skip }, async (t) => {
    const { status, stdout, stderr } = await uvsLab(method, '--driver', driver, '--requests', '31')
    t.equal(status, 0, `${stdout.slice(-1500)}${stderr}`)
    t.match(stdout, /server1 .* 1[01] {3}promised 10 to 11/)
    t.match(stdout, /\$ uvsadm -A -t 192\.168\.[12]0\.100:80 -s rr/)
    t.match(stdout, /shared out as rr promises/)
  })

void t.test('uvs lab --keep, and its end', { skip }, async (t) => {
  const { status, stdout, stderr } = await uvsLab(
    'nat',
    '--requests',
    '12',
    '--scheduler',
    'wrr',
    '--keep',
  )
  const name = /--end (uvs\w+)/.exec(stdout)?.[1]
  t.equal(status, 0, stderr)
  if (name === undefined) return t.fail(`it does not say its name: ${stdout}`)
  t.teardown(() => void endLab(name))
  t.match(stdout, new RegExp(`ip netns exec ${name}-director bash`))
  t.equal((await namespacesOf(name)).length, 6)
  const again = ['netns', 'exec', `${name}-client`, 'curl', '-sS', '--max-time', '30']
  t.match((await run('ip', [...again, 'http://192.168.10.100/'])).stdout, /^server[123]\n$/)
  t.equal((await uvsLab('--end', name)).status, 0)
  t.strictSame(await namespacesOf(name), [])
})
