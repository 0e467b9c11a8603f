// Following the kernel's tables, and programming them:
//
//   namespace director                 namespace neighbour
//   eth0 10.9.1.9/24 ----- veth ------ eth0 10.9.1.1/24
//   uvs0, TUN: what the rules lead into
//
// Netlink sockets belong to the namespace of the process that opens them, so the tests proper run inside.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Lab } from '../src/lab/lab.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

t.test('routes, neighbours and rules of the kernel', { skip }, async (t) => {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const director = await lab.addNamespace('director')
  const neighbour = await lab.addNamespace('neighbour')
  await lab.connect(director, 'eth0', neighbour, 'eth0')
  await director.ip('address', 'add', '10.9.1.9/24', 'dev', 'eth0')
  await neighbour.ip('address', 'add', '10.9.1.1/24', 'dev', 'eth0')
  const inside = fileURLToPath(new URL('./support/routes-inside.js', import.meta.url))
  await t.spawn(
    'ip',
    ['netns', 'exec', director.name, process.execPath, inside, neighbour.name],
    {},
    'in the namespace',
  )
})
