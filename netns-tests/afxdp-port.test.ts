// AF_XDP ports that lose something while they run: a sibling, their interface, their socket under fire.
//
//   namespace left                   namespace middle
//   eth0 10.9.1.1/24 ---- veth ---- eth0 10.9.1.254/24
//                                   x0 ---- veth ---- x1
//
// Ports belong to the namespace of the process that opens them, so the tests proper run in `middle`.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Lab } from '../src/lab/lab.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

const program = (name: string): string =>
  fileURLToPath(new URL(`./support/${name}.js`, import.meta.url))

t.test('AF_XDP ports', { skip }, async (t) => {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const left = await lab.addNamespace('left')
  const middle = await lab.addNamespace('middle')
  await lab.connect(left, 'eth0', middle, 'eth0')
  await lab.connect(middle, 'x0', middle, 'x1')
  await left.ip('address', 'add', '10.9.1.1/24', 'dev', 'eth0')
  await middle.ip('address', 'add', '10.9.1.254/24', 'dev', 'eth0')

  await t.test('without CAP_NET_RAW the refusal names it', async (t) => {
    const { stdout, stderr } = await middle.try('setpriv', [
      ...['--bounding-set=-net_raw', '--inh-caps=-net_raw'],
      process.execPath,
      program('afxdp-holder'),
      'x0',
    ])
    t.match(stdout, /^refused afxdp:x0: .*\(EPERM, .*CAP_NET_RAW/, stderr)
  })

  const inside = [process.execPath, '--expose-gc', program('afxdp-port-inside'), lab.name]
  await t.spawn('ip', ['netns', 'exec', middle.name, ...inside], {}, 'in the namespace')
})
