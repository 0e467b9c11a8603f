// What was on the wire, read from a tcpdump capture. It shares no code with src/: a checker that computes
// checksums with the code under test would agree with its mistakes.
import { readFileSync } from 'node:fs'
import type { LabProcess, Namespace } from '../../src/lab/lab.js'
import { sleep } from '../../src/lab/process.js'

const PCAP_HEADER_BYTES = 24
const PCAP_RECORD_BYTES = 16
const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4
const IPIP = 4
const TCP = 6
const UDP = 17

export interface CapturedIp {
  source: string
  destination: string
  protocol: number
  /** What its header says, which is where `payload` ends. */
  totalBytes: number
  identification: number
  ttl: number
  dontFragment: boolean
  isFragment: boolean
  /** Of the IP header. */
  checksumOk: boolean
  /** TCP and UDP; zero for others. */
  sourcePort: number
  destinationPort: number
  tcpFlags: number
  /** Of TCP and UDP with their pseudo-header; true for what has none. */
  transportChecksumOk: boolean
  /** Behind the IP header. */
  payload: Buffer
  /** Of a packet of protocol 4. */
  inner: CapturedIp | undefined
}

export interface CapturedFrame {
  sourceMac: string
  destinationMac: string
  etherType: number
  ip: CapturedIp | undefined
}

export const TcpFlag = { fin: 1, syn: 2, reset: 4, push: 8, ack: 16 } as const

/** A tcpdump that runs on a device of a namespace until its frames are asked for. */
export class Capture {
  private constructor(
    private readonly process: LabProcess,
    private readonly file: string,
  ) {}

  static async start(namespace: Namespace, device: string, filter = ''): Promise<Capture> {
    const name = `capture-${namespace.role}-${device}-${++captures}`
    const file = `${namespace.lab.folder}/${name}.pcap`
    const process = namespace.lab.start(namespace, name, 'tcpdump', [
      ...['-i', device, '-w', file, '-U', '--immediate-mode', '-s', '0', '-n', '-Z', 'root'],
      ...(filter === '' ? [] : [filter]),
    ])
    await process.waitForLine(/listening on/)
    return new Capture(process, file)
  }

  /**
   * Stops it and returns what it saw. What the device has handed over reaches the file a little later: so it is not
   * stopped before what it has seen is complete, for half a minute at most.
   */
  async stop(isComplete: (frames: CapturedFrame[]) => boolean): Promise<CapturedFrame[]> {
    for (let tries = 0; tries < 300; tries++) {
      if (isComplete(readCapture(readFileSync(this.file)))) break
      await sleep(100)
    }
    await this.process.stop()
    return readCapture(readFileSync(this.file))
  }
}

let captures = 0

export function readCapture(file: Buffer): CapturedFrame[] {
  if (file.length < PCAP_HEADER_BYTES) return []
  if (file.readUInt32LE(0) !== PCAP_MAGIC_MICROSECONDS)
    throw new Error('not a little-endian pcap file with microseconds')
  const frames: CapturedFrame[] = []
  let at = PCAP_HEADER_BYTES
  while (at + PCAP_RECORD_BYTES <= file.length) {
    const length = file.readUInt32LE(at + 8)
    at += PCAP_RECORD_BYTES
    if (at + length > file.length) break
    frames.push(readFrame(file.subarray(at, at + length)))
    at += length
  }
  return frames
}

function readFrame(frame: Buffer): CapturedFrame {
  const etherType = frame.readUInt16BE(12)
  return {
    destinationMac: macText(frame.subarray(0, 6)),
    sourceMac: macText(frame.subarray(6, 12)),
    etherType,
    ip: etherType === 0x0800 ? readIp(frame.subarray(14)) : undefined,
  }
}

/** @param data of an IPv4 packet, with whatever stands behind it */
export function readIp(data: Buffer): CapturedIp {
  const headerBytes = (data[0]! & 15) * 4
  // Ethernet pads short frames: what counts is the length that IP says.
  const packet = data.subarray(0, data.readUInt16BE(2))
  const payload = packet.subarray(headerBytes)
  const protocol = packet[9]!
  const fragment = packet.readUInt16BE(6)
  const isFragment = (fragment & 0x3fff) !== 0
  const hasPorts = (protocol === TCP || protocol === UDP) && !isFragment
  return {
    source: addressText(packet.subarray(12, 16)),
    destination: addressText(packet.subarray(16, 20)),
    protocol,
    totalBytes: packet.length,
    identification: packet.readUInt16BE(4),
    ttl: packet[8]!,
    dontFragment: (fragment & 0x4000) !== 0,
    isFragment,
    checksumOk: onesComplementSum(packet.subarray(0, headerBytes)) === 0xffff,
    sourcePort: hasPorts ? payload.readUInt16BE(0) : 0,
    destinationPort: hasPorts ? payload.readUInt16BE(2) : 0,
    tcpFlags: protocol === TCP && hasPorts ? payload[13]! : 0,
    transportChecksumOk: !hasPorts || transportChecksumOk(packet, payload, protocol),
    payload,
    inner: protocol === IPIP ? readIp(payload) : undefined,
  }
}

function transportChecksumOk(packet: Buffer, payload: Buffer, protocol: number): boolean {
  if (protocol === UDP && payload.readUInt16BE(6) === 0) return true
  const pseudoHeader = Buffer.alloc(12)
  packet.copy(pseudoHeader, 0, 12, 20)
  pseudoHeader[9] = protocol
  pseudoHeader.writeUInt16BE(payload.length, 10)
  return onesComplementSum(Buffer.concat([pseudoHeader, payload])) === 0xffff
}

/** RFC 1071, the plain way. */
export function onesComplementSum(data: Buffer): number {
  let sum = 0
  for (let i = 0; i < data.length; i += 2) sum += (data[i]! << 8) | (data[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

function macText(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}

function addressText(bytes: Buffer): string {
  return [...bytes].join('.')
}
