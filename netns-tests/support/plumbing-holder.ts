// Opens the TUN device uvs0, plumbs what its argument says as JSON, says so, and waits to be killed. With
// `repeat` as a second argument it plumbs and removes in turns instead.
import type { Steering } from '../../src/core/commands.js'
import {
  devicePlumbing,
  Plumbing,
  tunPlumbing,
  virtualAddresses,
} from '../../src/kernel/routing/plumbing.js'
import { listInterfaces, openRtnetlink } from '../../src/kernel/routing/rtnetlink.js'
import { openPlainDevice } from './plain-device.js'

const [text = '', mode] = process.argv.slice(2)
const steering = JSON.parse(text) as Steering
openPlainDevice('uvs0', 'tun')
const socket = openRtnetlink()
const plumbing = new Plumbing(() => listInterfaces(socket))
const items = [
  ...devicePlumbing('uvs0'),
  ...virtualAddresses('uvs0', steering, new Map()),
  ...tunPlumbing('uvs0', steering),
]
await plumbing.apply(items)
console.log('plumbed')
while (mode === 'repeat') {
  await plumbing.remove()
  await plumbing.apply(items)
}
setInterval(() => {}, 1000)
