import { IP_HEADROOM } from '../port/frame-pool.js'
import { LinkLayer } from '../port/packet-port.js'
import { TunDevice, type TunDeviceOptions } from './tun-device.js'

/**
 * A TUN device: IP packets without a link layer. What the kernel routes into the interface is received
 * here, and what is transmitted here enters the kernel's stack as if the interface had received it.
 */
export class TunPort extends TunDevice {
  readonly linkLayer = LinkLayer.ip
  readonly mac = undefined

  /** Opens the device. Throws an Error with errno when the kernel refuses. */
  constructor(options: TunDeviceOptions) {
    super(options, 'tun', IP_HEADROOM, 0)
  }

  protected consume(): boolean {
    return false
  }
}
