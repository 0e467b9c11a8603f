// AF_XDP ports and the XDP program:
//
//   namespace left                   namespace middle                  namespace right
//   eth0 10.9.1.1/24 ---- veth ---- eth0 10.9.1.254/24
//                                   eth1 ---------------- veth ------ eth0 10.9.1.2/24
//                                   x0 ---- veth ---- x1
//
// Ports and programs belong to the namespace of the process that opens them, so the tests proper run in
// `middle`.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Lab, type Namespace } from '../src/lab/lab.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

const program = (name: string): string =>
  fileURLToPath(new URL(`./support/${name}.js`, import.meta.url))

async function build(t: Tap): Promise<{ lab: Lab; left: Namespace; middle: Namespace }> {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const left = await lab.addNamespace('left')
  const middle = await lab.addNamespace('middle')
  const right = await lab.addNamespace('right')
  await lab.connect(left, 'eth0', middle, 'eth0')
  await lab.connect(right, 'eth0', middle, 'eth1')
  await lab.connect(middle, 'x0', middle, 'x1')
  await left.ip('address', 'add', '10.9.1.1/24', 'dev', 'eth0')
  await right.ip('address', 'add', '10.9.1.2/24', 'dev', 'eth0')
  await middle.ip('address', 'add', '10.9.1.254/24', 'dev', 'eth0')
  return { lab, left, middle }
}

interface Tap {
  teardown(work: () => Promise<void>): void
}

t.test('AF_XDP', { skip }, async (t) => {
  const { lab, left, middle } = await build(t)

  await t.spawn(
    'ip',
    ['netns', 'exec', middle.name, process.execPath, program('afxdp-inside'), lab.name],
    {},
    'in the namespace',
  )

  await t.test('a killed process leaves no program and no socket', async (t) => {
    const start = (name: string) =>
      lab.start(middle, name, process.execPath, [program('afxdp-holder'), 'eth0'])
    const programOf = async (): Promise<unknown> =>
      (JSON.parse(await middle.ip('-json', 'link', 'show', 'dev', 'eth0')) as [{ xdp?: object }])[0]
        .xdp
    const first = start('first')
    await first.waitForLine(/^holds afxdp:eth0 in native mode/)
    t.ok(await programOf(), 'attached')

    const second = start('second')
    await second.waitForLine(
      /^refused eth0: attaching an XDP program .*EBUSY.* another XDP program is attached there/,
    )
    t.equal(await second.waitForExit(), 1)
    t.ok(await programOf(), 'the first is still there')

    first.signal('SIGKILL')
    t.equal(await first.waitForExit(), 137)
    t.equal(await programOf(), undefined, 'detached')
    const third = start('third')
    await third.waitForLine(/^holds afxdp:eth0 in native mode/)
    await third.stop()
    const ping = await left.try('ping', ['-c', '1', '-W', '2', '10.9.1.254'])
    t.match(ping.stdout, / 1 received/)
  })

  await t.test('without the capabilities it says which are missing', async (t) => {
    // Still the owner of the checkout, which others may not be able to read.
    const setpriv = ['--bounding-set=-all', '--inh-caps=-all']
    const { stdout } = await middle.try('setpriv', [
      ...setpriv,
      process.execPath,
      program('afxdp-holder'),
      'eth0',
    ])
    t.match(stdout, /^refused .*\(EPERM, .*CAP_(BPF|NET_RAW)/)
  })
})
