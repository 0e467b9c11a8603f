/** A scenario as what happens when: captures taken apart, the clock followed. */
import { readFileSync } from 'node:fs'
import { CaptureError, LinkType, linkLayerOf, PcapReader } from '../drivers/pcap.js'
import { LinkLayer } from '../port/packet-port.js'
import { ScenarioError, type Event, type Scenario } from './scenario.js'

const ETHERNET_BYTES = 14
const VLAN_TAG_BYTES = 4
const ETHERTYPES_VLAN = [0x8100, 0x88a8]
const ETHERTYPES_IP = [0x0800, 0x86dd]

/**
 * Replay and the kernel oracle run the same list. Packets of a capture that are not IP are left out.
 *
 * @throws ScenarioError when a capture cannot be read, or the clock would go backwards
 */
export function eventsOf(scenario: Scenario): Event[] {
  const events: Event[] = []
  let atMs = 0
  for (const directive of scenario.directives) {
    const { line } = directive
    switch (directive.kind) {
      case 'at': {
        const ms = Math.round(directive.seconds * 1000)
        if (ms < atMs)
          throw new ScenarioError(
            scenario.name,
            line,
            1,
            `at ${directive.seconds}: a capture has moved the clock to ${atMs / 1000} already`,
          )
        atMs = ms
        break
      }
      case 'ipvsadm':
        events.push({ line, atMs, kind: 'ipvsadm', args: directive.args })
        break
      case 'sysctl':
        events.push({ line, atMs, kind: 'sysctl', key: directive.key, value: directive.value })
        break
      case 'packet': {
        const { packet, side, mark } = directive
        events.push({ line, atMs, kind: 'packet', packet, side, mark })
        break
      }
      case 'pcap': {
        const { side, mark } = directive
        const start = atMs
        for (const captured of packetsOf(directive.file, scenario.name, line)) {
          // Captures of several queues are not always in order; time is.
          atMs = Math.max(atMs, start + captured.afterMs)
          events.push({ line, atMs, kind: 'packet', packet: captured.packet, side, mark })
        }
      }
    }
  }
  return events
}

function packetsOf(
  file: string,
  scenario: string,
  line: number,
): { packet: Uint8Array; afterMs: number }[] {
  const packets: { packet: Uint8Array; afterMs: number }[] = []
  try {
    let first: { seconds: number; nanoseconds: number } | undefined
    let afterMs = 0
    for (const { bytes, linkType, time } of new PcapReader(readFileSync(file), file)) {
      if (time) {
        first ??= time
        afterMs = Math.round(
          (time.seconds - first.seconds) * 1000 + (time.nanoseconds - first.nanoseconds) / 1e6,
        )
      }
      const layer = linkLayerOf(linkType)
      if (layer === undefined)
        throw new Error(
          `${file}: link type ${linkType} is neither Ethernet (${LinkType.ethernet}) nor IP`,
        )
      const packet = layer === LinkLayer.ethernet ? ipOf(bytes) : bytes
      if (packet && packet.length > 0) packets.push({ packet: Uint8Array.from(packet), afterMs })
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (error instanceof CaptureError || code !== undefined || error instanceof Error)
      throw new ScenarioError(scenario, line, 'pcap '.length + 1, message)
    throw error
  }
  return packets
}

/** The IP packet of an Ethernet frame, without the padding that the frame may have; undefined for other frames. */
function ipOf(frame: Uint8Array): Uint8Array | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength)
  let at = ETHERNET_BYTES - 2
  while (at + 2 <= frame.length && ETHERTYPES_VLAN.includes(view.getUint16(at)))
    at += VLAN_TAG_BYTES
  if (at + 2 > frame.length || !ETHERTYPES_IP.includes(view.getUint16(at))) return undefined
  const packet = frame.subarray(at + 2)
  if (packet.length < 6) return packet
  const length =
    packet[0]! >> 4 === 6 ? 40 + ((packet[4]! << 8) | packet[5]!) : (packet[2]! << 8) | packet[3]!
  return length < packet.length && length >= 20 ? packet.subarray(0, length) : packet
}
