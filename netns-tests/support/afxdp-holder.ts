// Run by netns-tests/afxdp.test.ts: takes an interface as uvsd does and holds it until it is stopped.
import { AfxdpPort } from '../../src/drivers/afxdp.js'
import { mapFrames } from '../../src/drivers/waiter.js'
import { XdpSteering } from '../../src/drivers/xdp-steering.js'
import { native } from '../../src/kernel/native.js'
import { FramePool } from '../../src/port/frame-pool.js'

const FRAMES = 1024
const FRAME_BYTES = 2048

const [name = ''] = process.argv.slice(2)
try {
  const addon = native()
  const interfaceIndex = addon.interfaceIndex(name)
  const mac = addon.interfaceMac(name)!
  const steering = new XdpSteering(
    [{ name, interfaceIndex, mac, mode: 'auto', queues: 1 }],
    console.log,
  )
  const pool = new FramePool(mapFrames(FRAMES * FRAME_BYTES), FRAME_BYTES, FRAMES)
  const port = new AfxdpPort({ interface: name, pool })
  steering.addSocket(interfaceIndex, port.queue, port.descriptor)
  console.log(`holds ${port.name} in ${steering.modeOf(interfaceIndex)} mode`)
  setInterval(() => undefined, 60_000)
} catch (error) {
  console.log(`refused ${(error as Error).message}`)
  process.exitCode = 1
}
