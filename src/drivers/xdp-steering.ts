import type { MarkRule, ServiceProtocol, Steering } from '../core/commands.js'
import { BpfMap, XdpLink, XdpProgram } from '../kernel/bpf/objects.js'
import { FLOW_KEY_BYTES, flowKey, xdpProgram } from '../kernel/xdp-program.js'
import { IpProtocol, parseAddress } from '../wire/ipv4.js'

export interface XdpInterface {
  name: string
  interfaceIndex: number
  /** Its Ethernet address, 6 bytes. */
  mac: Uint8Array
  /** `auto` tries the driver's own XDP first and falls back to generic, which it says. */
  mode: 'auto' | 'native' | 'generic'
  queues: number
}

/** Services and real servers that the maps have room for. */
const MAX_FLOWS = 131072

interface Attached extends XdpInterface {
  sockets: BpfMap
  program: XdpProgram
  link: XdpLink
}

/**
 * The control half of AF_XDP ports: an XDP program on every interface, and the maps that tell it which
 * frames belong to the director. All of it goes away with the process.
 */
export class XdpSteering {
  private readonly virtual = FlowSet.create('uvs_virtual', FLOW_KEY_BYTES)
  private readonly replies = FlowSet.create('uvs_replies', FLOW_KEY_BYTES)
  private readonly addresses = FlowSet.create('uvs_addresses', 4)
  private readonly attached: Attached[] = []
  private marks = '[]'

  /**
   * Attaches to all interfaces. Throws, with nothing attached, when one refuses: another XDP program is
   * there, or a capability or kernel feature is missing.
   *
   * @param warn told in a sentence when an interface runs in generic mode
   */
  constructor(interfaces: readonly XdpInterface[], warn: (text: string) => void) {
    try {
      for (const one of interfaces) this.attach(one, warn)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** The mode that an interface's program runs in. */
  modeOf(interfaceIndex: number): 'native' | 'generic' {
    return this.find(interfaceIndex).link.mode
  }

  /** Frames of the queue go to this socket from now on. */
  addSocket(interfaceIndex: number, queue: number, descriptor: number): void {
    this.find(interfaceIndex).sockets.set(uint32(queue), uint32(descriptor))
  }

  /** Makes the programs redirect this and nothing else: additions first, so that nothing is missed. */
  apply(steering: Steering): void {
    const marks = JSON.stringify(steering.marks)
    if (marks !== this.marks) {
      this.replacePrograms(steering.marks)
      this.marks = marks
    }
    const ends = [...steering.virtual, ...steering.replies]
    this.addresses.add(ends.map(({ address }) => addressKey(address)))
    this.virtual.add(steering.virtual.map(keyOf))
    this.replies.add(steering.replies.map(keyOf))
    this.virtual.keepOnly(steering.virtual.map(keyOf))
    this.replies.keepOnly(steering.replies.map(keyOf))
    this.addresses.keepOnly(ends.map(({ address }) => addressKey(address)))
  }

  /** Detaches everything: the frames pass to the kernel from here on. */
  close(): void {
    for (const { link, program, sockets } of this.attached.splice(0)) {
      link.close()
      program.close()
      sockets.close()
    }
    for (const set of [this.virtual, this.replies, this.addresses]) set.close()
  }

  private attach(one: XdpInterface, warn: (text: string) => void): void {
    const sockets = BpfMap.sockets('uvs_sockets', one.queues)
    let program: XdpProgram | undefined
    try {
      program = this.load(one, sockets, [])
      this.attached.push({ ...one, sockets, program, link: link(one, program, warn) })
    } catch (error) {
      program?.close()
      sockets.close()
      throw error
    }
  }

  private load(one: XdpInterface, sockets: BpfMap, marks: readonly MarkRule[]): XdpProgram {
    return new XdpProgram(
      'uvs_redirect',
      xdpProgram({
        mac: one.mac,
        sockets: sockets.descriptor,
        virtual: this.virtual.descriptor,
        replies: this.replies.descriptor,
        addresses: this.addresses.descriptor,
        marks: marks.filter((rule) => rule.interface === undefined || rule.interface === one.name),
      }),
    )
  }

  /** Loads all programs anew before the first is replaced: a refusal changes nothing. */
  private replacePrograms(marks: readonly MarkRule[]): void {
    const programs = this.attached.map((one) => this.load(one, one.sockets, marks))
    this.attached.forEach((one, i) => {
      one.link.replace(programs[i]!)
      one.program.close()
      one.program = programs[i]!
    })
  }

  private find(interfaceIndex: number): Attached {
    const found = this.attached.find((one) => one.interfaceIndex === interfaceIndex)
    if (!found) throw new Error(`no XDP program of ours is on interface ${interfaceIndex}`)
    return found
  }
}

/** A hash map used as a set, with a copy of its keys on this side. */
class FlowSet {
  private readonly keys = new Map<string, Uint8Array>()

  private constructor(private readonly map: BpfMap) {}

  static create(name: string, keySize: number): FlowSet {
    return new FlowSet(BpfMap.hash(name, keySize, 1, MAX_FLOWS))
  }

  get descriptor(): number {
    return this.map.descriptor
  }

  add(keys: readonly Uint8Array[]): void {
    for (const key of keys) {
      const text = key.join()
      if (this.keys.has(text)) continue
      this.map.set(key, present)
      this.keys.set(text, key)
    }
  }

  keepOnly(keys: readonly Uint8Array[]): void {
    const wanted = new Set(keys.map((key) => key.join()))
    for (const [text, key] of this.keys) {
      if (wanted.has(text)) continue
      this.map.delete(key)
      this.keys.delete(text)
    }
  }

  close(): void {
    this.map.close()
  }
}

const present = Uint8Array.of(1)

function link(
  { name, interfaceIndex, mode }: XdpInterface,
  program: XdpProgram,
  warn: (text: string) => void,
): XdpLink {
  try {
    return XdpLink.attach(program, interfaceIndex, mode === 'generic' ? 'generic' : 'native')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (mode !== 'auto' || (code !== 'EOPNOTSUPP' && code !== 'EINVAL' && code !== 'ENOMEM'))
      throw new Error(`${name}: ${message}`, { cause: error })
    const fallback = XdpLink.attach(program, interfaceIndex, 'generic')
    warn(
      `${name}: its driver has no XDP of its own for this interface (${code}); running in generic mode, which is slower`,
    )
    return fallback
  }
}

function keyOf(end: { protocol: ServiceProtocol; address: string; port: number }): Uint8Array {
  return flowKey(parseAddress(end.address)!, end.port, IpProtocol[end.protocol])
}

function addressKey(address: string): Uint8Array {
  return uint32(parseAddress(address)!)
}

/** A 32-bit integer as its four bytes in memory. */
function uint32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer)
}
