// Attaches steering to an interface, says so, and waits to be killed. Arguments: the interface, and the mode.
import { XdpSteering } from '../../src/drivers/xdp-steering.js'
import { native } from '../../src/kernel/native.js'

const [name = '', mode = 'native'] = process.argv.slice(2)
const addon = native()
new XdpSteering(
  [
    {
      name,
      interfaceIndex: addon.interfaceIndex(name),
      mac: addon.interfaceMac(name)!,
      mode: mode as 'native' | 'generic',
      queues: 1,
    },
  ],
  () => {},
)
console.log('attached')
setInterval(() => {}, 1000)
