// The XDP program, and the steering that attaches it, in the namespace of a director:
//
//   namespace client                    namespace director
//   eth0 10.9.1.1/24 ---- veth ---- eth0 10.9.1.2/24
//
// A program and its sockets belong to the namespace of the process, so the tests proper run inside.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Lab } from '../src/lab/lab.js'
import { skip } from './support/director.js'

t.setTimeout(600_000)

for (const [name, file] of [
  ['the XDP program', 'xdp-program-inside.js'],
  ['steering', 'xdp-steering-inside.js'],
] as const)
  t.test(name, { skip }, async (t) => {
    const lab = Lab.create()
    t.teardown(() => lab.end())
    const client = await lab.addNamespace('client')
    const director = await lab.addNamespace('director')
    await lab.connect(client, 'eth0', director, 'eth0')
    await client.ip('address', 'add', '10.9.1.1/24', 'dev', 'eth0')
    await director.ip('address', 'add', '10.9.1.2/24', 'dev', 'eth0')
    const inside = fileURLToPath(new URL(`./support/${file}`, import.meta.url))
    await t.spawn(
      'ip',
      ['netns', 'exec', director.name, process.execPath, inside, client.name],
      {},
      'in the namespace',
    )
  })
