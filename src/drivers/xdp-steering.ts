import type { MarkRule, ServiceProtocol, Steering } from '../core/commands.js'
import { BpfMap, XdpAction, XdpLink, XdpProgram } from '../kernel/bpf/objects.js'
import { FLOW_KEY_BYTES, fragmentKey, portKey, xdpProgram } from '../kernel/xdp-program.js'
import { IpProtocol, parseAddress } from '../wire/ipv4.js'

export interface XdpInterface {
  name: string
  interfaceIndex: number
  /** Its Ethernet address, 6 bytes; compiled into the program. */
  mac: Uint8Array
  /** `auto` tries the driver's own XDP first and falls back to generic, which it says. */
  mode: 'auto' | 'native' | 'generic'
  queues: number
}

/** Most addresses and ports in each of the maps, and their fragments' entries. */
const MAX_FLOWS = 131072

/** Refusals that generic mode would meet as well: another program is there, or permission or the interface is not. */
const SAME_IN_BOTH_MODES = new Set(['EBUSY', 'EEXIST', 'EPERM', 'EACCES', 'ENODEV', 'ENOSYS'])

interface Attached extends XdpInterface {
  sockets: BpfMap
  program: XdpProgram
  link: XdpLink
}

/**
 * The control half of AF_XDP ports: an XDP program on every interface, and the maps that tell it which
 * frames belong to the director. All of it goes away with the process, however that ends.
 */
export class XdpSteering {
  private readonly virtual = new FlowSet('uvs_virtual')
  private readonly replies = new FlowSet('uvs_replies')
  private readonly attached: Attached[] = []
  private marks: readonly MarkRule[] = []
  private isOpen = true

  /**
   * Attaches to all interfaces; until sockets are added all frames pass to the kernel. Throws, with nothing
   * attached, when one refuses: another XDP program is there, or a capability or kernel feature is missing.
   *
   * @param warn told in a sentence when an interface runs in generic mode though native was tried
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

  /** Frames of the queue go to this socket from now on; the kernel forgets it when the socket is closed. */
  addSocket(interfaceIndex: number, queue: number, descriptor: number): void {
    this.find(interfaceIndex).sockets.set(uint32(queue), uint32(descriptor))
  }

  /** Whether an interface's program takes a frame for the director: asked of the program itself, in the kernel. */
  takes(interfaceIndex: number, frame: Uint8Array): boolean {
    return this.find(interfaceIndex).program.run(frame) === XdpAction.redirect
  }

  /**
   * Makes the programs redirect this and nothing else: additions first, so that nothing is missed.
   * Throws for more than the maps or the program have room for; what was added until then stays.
   */
  apply({ virtual, replies, marks }: Steering): void {
    const virtualKeys = keysOf(virtual)
    const replyKeys = keysOf(replies)
    if (JSON.stringify(marks) !== JSON.stringify(this.marks)) this.replacePrograms(marks)
    this.virtual.add(virtualKeys)
    this.replies.add(replyKeys)
    this.virtual.keepOnly(virtualKeys)
    this.replies.keepOnly(replyKeys)
  }

  /** Detaches everything: the frames pass to the kernel from here on. */
  close(): void {
    if (!this.isOpen) return
    this.isOpen = false
    for (const { link, program, sockets } of this.attached.splice(0)) {
      link.close()
      program.close()
      sockets.close()
    }
    this.virtual.close()
    this.replies.close()
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
      if (error instanceof Error) error.message = `${one.name}: ${error.message}`
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
        marks: marks.filter((rule) => rule.interface === undefined || rule.interface === one.name),
      }),
    )
  }

  /** Loads all programs anew before the first is replaced: a refusal changes nothing. */
  private replacePrograms(marks: readonly MarkRule[]): void {
    const programs: XdpProgram[] = []
    try {
      for (const one of this.attached) programs.push(this.load(one, one.sockets, marks))
    } catch (error) {
      for (const program of programs) program.close()
      throw error
    }
    this.attached.forEach((one, i) => {
      replaceUnlessGone(one.link, programs[i]!)
      one.program.close()
      one.program = programs[i]!
    })
    this.marks = structuredClone(marks)
  }

  private find(interfaceIndex: number): Attached {
    const found = this.attached.find((one) => one.interfaceIndex === interfaceIndex)
    if (!found) throw new Error(`no XDP program of ours is on interface ${interfaceIndex}`)
    return found
  }
}

/** A hash map of flow keys used as a set, with a copy of its keys on this side. */
class FlowSet {
  private readonly map: BpfMap
  private readonly present = new Set<string>()

  constructor(name: string) {
    this.map = BpfMap.hash(name, FLOW_KEY_BYTES, 1, MAX_FLOWS)
  }

  get descriptor(): number {
    return this.map.descriptor
  }

  add(keys: ReadonlyMap<string, Uint8Array>): void {
    for (const [text, key] of keys) {
      if (this.present.has(text)) continue
      this.map.set(key, ANY_VALUE)
      this.present.add(text)
    }
  }

  keepOnly(keys: ReadonlyMap<string, Uint8Array>): void {
    for (const text of this.present) {
      if (keys.has(text)) continue
      this.map.delete(Buffer.from(text, 'latin1'))
      this.present.delete(text)
    }
  }

  close(): void {
    this.map.close()
  }
}

const ANY_VALUE = Uint8Array.of(1)

/** The keys of addresses and ports, by their bytes as text; several ports of an address share one for fragments. */
function keysOf(
  ends: readonly { protocol: ServiceProtocol; address: string; port: number }[],
): Map<string, Uint8Array> {
  const keys = new Map<string, Uint8Array>()
  for (const { protocol, address, port } of ends) {
    const addressBe = parseAddress(address)
    if (addressBe === undefined)
      throw new Error(`AF_XDP steering: '${address}' is no IPv4 address, and only IPv4 is steered`)
    const number = IpProtocol[protocol]
    for (const key of [portKey(addressBe, port, number), fragmentKey(addressBe, number)])
      keys.set(Buffer.from(key).toString('latin1'), key)
  }
  return keys
}

function link(
  { name, interfaceIndex, mode }: XdpInterface,
  program: XdpProgram,
  warn: (text: string) => void,
): XdpLink {
  if (mode !== 'auto') return XdpLink.attach(program, interfaceIndex, mode)
  try {
    return XdpLink.attach(program, interfaceIndex, 'native')
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException
    if (SAME_IN_BOTH_MODES.has(code)) throw error
    const fallback = XdpLink.attach(program, interfaceIndex, 'generic')
    warn(`${name}: XDP runs in generic mode, which is slower; native mode: ${message}`)
    return fallback
  }
}

/** An interface that was deleted has taken its program along; the others are still to be served. */
function replaceUnlessGone(link: XdpLink, program: XdpProgram): void {
  try {
    link.replace(program)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOLINK') throw error
  }
}

/** A 32-bit integer as its four bytes in memory. */
function uint32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer)
}
