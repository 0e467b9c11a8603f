// The mirror on a real IPVS: what it pushes is read back with the real ipvsadm.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { guestUnavailable } from './guest.js'

t.setTimeout(600_000)

const support = (file: string) => fileURLToPath(new URL(`../support/${file}`, import.meta.url))
const skip = guestUnavailable()

t.test('every kind of service and destination, to and fro', { skip }, async (t) => {
  const inside = support('mirror-kinds-inside.js')
  await t.spawn(process.execPath, [support('in-guest.js'), inside], {}, 'in the guest')
})

t.test('uvs mirror beside a running uvsd', { skip }, async (t) => {
  const inside = support('mirror-inside.js')
  await t.spawn(process.execPath, [support('in-guest.js'), inside], {}, 'in the guest')
})
