import t from 'tap'
import { IpvsClient, KernelIpvsError } from 'uvs/ipvs'
import * as inside from '../../../src/kernel/ipvs/index.js'

t.test('the package has the client as a library', async (t) => {
  t.equal(IpvsClient, inside.IpvsClient)
  t.equal(KernelIpvsError, inside.KernelIpvsError)
})
