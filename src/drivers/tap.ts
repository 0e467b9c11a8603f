import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { ETHERNET_HEADROOM } from '../port/frame-pool.js'
import { LinkLayer } from '../port/packet-port.js'
import { formatMac, HEADER_BYTES } from '../wire/ethernet.js'
import { answerArpRequest, ARP_FRAME_BYTES } from './arp-responder.js'
import { TunDevice, type TunDeviceOptions } from './tun-device.js'

export interface TapPortOptions extends TunDeviceOptions {
  /** The station's Ethernet address, 6 bytes; `stationMac` of the interface when absent. */
  mac?: Uint8Array
}

/**
 * A TAP device, seen from its far end: the port is a station of its own on an Ethernet segment, whose other
 * stations are the kernel's side of the device and, through a bridge, whatever else is there. It answers
 * ARP for its own addresses; those requests do not come out of `receive`.
 */
export class TapPort extends TunDevice {
  readonly linkLayer = LinkLayer.ethernet
  readonly mac: Uint8Array
  /** ARP requests answered; they are also among the received and transmitted packets. */
  arpAnswered = 0

  private readonly macHalfs: Uint16Array
  private ownAddressesBe = new Int32Array(0)
  private readonly answerOffset = new Int32Array(1)
  private readonly answerLength = Int32Array.of(ARP_FRAME_BYTES)

  /** Opens the device. Throws an Error with errno when the kernel refuses, or when the mac cannot be a station's. */
  constructor(options: TapPortOptions) {
    super(options, 'tap', ETHERNET_HEADROOM, HEADER_BYTES)
    try {
      this.mac = Uint8Array.from(options.mac ?? stationMac(this.interfaceName))
      checkStationMac(this.mac, this.native.interfaceMac(this.interfaceName), this.name)
      this.macHalfs = new Uint16Array(this.mac.buffer)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** The IPv4 addresses (native 32-bit loads) that ARP requests are answered for; replaces the former ones. */
  setOwnAddresses(addressesBe: Int32Array): void {
    this.ownAddressesBe = Int32Array.from(addressesBe)
  }

  protected consume(offset: number, length: number): boolean {
    if (!answerArpRequest(this.pool, offset, length, this.macHalfs, this.ownAddressesBe))
      return false
    this.answerOffset[0] = offset
    this.send(this.answerOffset, this.answerLength, 1)
    this.pool.give(offset)
    this.arpAnswered++
    return true
  }
}

/**
 * A locally administered Ethernet address for an interface name: the same at every start on this machine and
 * in this network namespace, and another one elsewhere, so that two directors on a segment may both call
 * their device uvs0.
 */
export function stationMac(interfaceName: string): Uint8Array {
  const hash = createHash('sha256')
  hash.update(`${machineId()}\n${hostname()}\n${networkNamespace()}\n${interfaceName}`)
  const mac = Uint8Array.from(hash.digest().subarray(0, 6))
  mac[0] = (mac[0]! & 0xfc) | 0x02
  return mac
}

function machineId(): string {
  try {
    return readFileSync('/etc/machine-id', 'utf8').trim()
  } catch {
    return ''
  }
}

function networkNamespace(): string {
  try {
    return readlinkSync('/proc/thread-self/ns/net')
  } catch {
    return ''
  }
}

function checkStationMac(mac: Uint8Array, kernels: Uint8Array | undefined, port: string): void {
  if (mac.length !== 6)
    throw new RangeError(`${port}: an Ethernet address has 6 bytes, not ${mac.length}`)
  const text = formatMac(mac)
  if ((mac[0]! & 1) === 1 || mac.every((byte) => byte === 0))
    throw new RangeError(`${port}: ${text} is not the Ethernet address of a single station`)
  if (kernels && mac.every((byte, i) => byte === kernels[i]))
    throw new RangeError(
      `${port}: ${text} is the kernel's own address on that device; the port needs another`,
    )
}
