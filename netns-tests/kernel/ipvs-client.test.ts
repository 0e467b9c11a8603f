// The library of src/kernel/ipvs on a real IPVS, beside the real ipvsadm.
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { guestUnavailable } from './guest.js'

t.setTimeout(600_000)

t.test('the client of IPVS', { skip: guestUnavailable() }, async (t) => {
  const support = (file: string) => fileURLToPath(new URL(`../support/${file}`, import.meta.url))
  const inside = support('ipvs-client-inside.js')
  await t.spawn(process.execPath, [support('in-guest.js'), inside], {}, 'in the guest')
})
