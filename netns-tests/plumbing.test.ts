// What uvsd programs into the kernel for a TUN port, with traffic around it:
//
//   namespace client              namespace director                     namespace server
//   eth0 10.9.1.1/24 --- veth --- eth0 10.9.1.2/24
//                                 eth1 10.9.2.254/24 ------- veth ------ eth0 10.9.2.1/24
//                                 uvs0, TUN: what the rules lead into
//
// Devices and netlink sockets belong to the namespace of the process, so the tests proper run in `director`.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Lab } from '../src/lab/lab.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

t.test('plumbing', { skip }, async (t) => {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const client = await lab.addNamespace('client')
  const director = await lab.addNamespace('director')
  const server = await lab.addNamespace('server')
  await lab.connect(client, 'eth0', director, 'eth0')
  await lab.connect(director, 'eth1', server, 'eth0')
  await client.ip('address', 'add', '10.9.1.1/24', 'dev', 'eth0')
  await client.ip('route', 'add', 'default', 'via', '10.9.1.2')
  await director.ip('address', 'add', '10.9.1.2/24', 'dev', 'eth0')
  await director.ip('address', 'add', '10.9.2.254/24', 'dev', 'eth1')
  await server.ip('address', 'add', '10.9.2.1/24', 'dev', 'eth0')
  await server.ip('route', 'add', 'default', 'via', '10.9.2.254')
  await director.sysctl({ 'net.ipv4.ip_forward': 1 })
  const inside = fileURLToPath(new URL('./support/plumbing-inside.js', import.meta.url))
  await t.spawn(
    'ip',
    ['netns', 'exec', director.name, process.execPath, inside, client.name, server.name],
    {},
    'in the namespace',
  )
})
