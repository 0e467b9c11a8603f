// The TUN and TAP ports against the kernel's own stack:
//
//   namespace client                    namespace station
//   eth0 10.9.1.1/24 ---- veth ---- eth0 (on br0)
//                                   br0 10.9.1.2/24
//                                   uvs1, TAP, on br0: the port under test is a station of the segment
//                                   uvs0, TUN: 10.9.0.0/24 is routed into the port under test
//
// A port belongs to the namespace of the process that opens it, so the tests proper run inside.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { addBridge, Lab } from '../src/lab/lab.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

t.test('TUN and TAP ports', { skip }, async (t) => {
  const lab = Lab.create()
  t.teardown(() => lab.end())
  const client = await lab.addNamespace('client')
  const station = await lab.addNamespace('station')
  await lab.connect(client, 'eth0', station, 'eth0')
  await addBridge(station, 'br0')
  await station.ip('link', 'set', 'eth0', 'master', 'br0')
  await station.ip('address', 'add', '10.9.1.2/24', 'dev', 'br0')
  await client.ip('address', 'add', '10.9.1.1/24', 'dev', 'eth0')
  const inside = fileURLToPath(new URL('./support/tun-tap-inside.js', import.meta.url))
  await t.spawn(
    'ip',
    ['netns', 'exec', station.name, process.execPath, inside, client.name],
    {},
    'in the namespace',
  )
})
