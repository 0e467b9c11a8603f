import { native } from '../../src/kernel/native.js'

/** Opens a TUN or TAP device with one queue and no offload: what its plumbing is tested on. It goes with its process. */
export const openPlainDevice = (name: string, mode: 'tun' | 'tap'): { name: string; fd: number } =>
  native().openTun({ name, mode, multiQueue: false, vnetHeader: false, backlogBytes: 0 })
