import { native } from '../native.js'

/** Numbers of include/uapi/linux/bpf.h and if_link.h. */
const MapType = { hash: 1, array: 2, xskmap: 17 } as const
export const Helper = {
  mapLookupElement: 1,
  monotonicNs: 5,
  redirect: 23,
  redirectMap: 51,
} as const
export const XdpAction = { aborted: 0, drop: 1, pass: 2, transmit: 3, redirect: 4 } as const
const XdpFlag = { generic: 1 << 1, native: 1 << 2 } as const
const PROGRAM_TYPE_XDP = 6
const ATTACH_TYPE_XDP = 37
const MAP_FLAG_NO_PREALLOCATION = 1
const EINTR = 4
const EINVAL = 22

/** A map that lives as long as its descriptor, or a program that uses it. */
export class BpfMap {
  private constructor(readonly descriptor: number) {}

  /** A hash map whose memory is taken as entries come. Throws an Error with errno. */
  static hash(name: string, keySize: number, valueSize: number, maxEntries: number): BpfMap {
    const flags = MAP_FLAG_NO_PREALLOCATION
    const type = MapType.hash
    return new BpfMap(native().bpfMapCreate({ type, keySize, valueSize, maxEntries, flags, name }))
  }

  /** One value of this many bytes, zeroed, under key 0 (four zero bytes): what a program has for memory. */
  static cell(name: string, valueSize: number): BpfMap {
    const type = MapType.array
    return new BpfMap(
      native().bpfMapCreate({ type, keySize: 4, valueSize, maxEntries: 1, flags: 0, name }),
    )
  }

  /** A map from queue number to AF_XDP socket. */
  static sockets(name: string, queues: number): BpfMap {
    const type = MapType.xskmap
    return new BpfMap(
      native().bpfMapCreate({ type, keySize: 4, valueSize: 4, maxEntries: queues, flags: 0, name }),
    )
  }

  set(key: Uint8Array, value: Uint8Array): void {
    native().bpfMapUpdate(this.descriptor, key, value, 0)
  }

  /** False when there was no such key. */
  delete(key: Uint8Array): boolean {
    return native().bpfMapDelete(this.descriptor, key)
  }

  has(key: Uint8Array): boolean {
    return native().bpfMapLookup(this.descriptor, key) !== undefined
  }

  /** Undefined when there is no such key. */
  get(key: Uint8Array): Uint8Array | undefined {
    return native().bpfMapLookup(this.descriptor, key)
  }

  close(): void {
    native().closeDescriptor(this.descriptor)
  }
}

/** A loaded XDP program. */
export class XdpProgram {
  readonly descriptor: number

  /** Loads it; a refusal by the verifier throws an Error with its log. */
  constructor(name: string, instructions: Uint8Array) {
    this.descriptor = native().bpfProgramLoad({
      type: PROGRAM_TYPE_XDP,
      expectedAttachType: ATTACH_TYPE_XDP,
      instructions,
      license: 'GPL',
      name,
    })
  }

  /** Runs it on a copy of a frame, without an interface: which XdpAction it takes. */
  run(frame: Uint8Array): number {
    return native().bpfProgramRun(this.descriptor, frame).returnValue
  }

  /** The same, and what it has made of the frame. */
  change(frame: Uint8Array): { action: number; frame: Uint8Array } {
    const { returnValue, packet } = native().bpfProgramRun(this.descriptor, frame)
    return { action: returnValue, frame: packet }
  }

  /**
   * Runs it so many times on frames that are sent if it redirects them, which begin as copies of this one and are
   * used again as it left them. Blocks until it is done, or a signal comes. Throws an Error with errno.
   *
   * @param batchSize what was redirected leaves after this many runs at the latest; 256 at most
   */
  runLive(frame: Uint8Array, repeat: number, batchSize: number): void {
    const errno = -native().bpfProgramRunLive(this.descriptor, frame, repeat, batchSize)
    if (errno === 0 || errno === EINTR) return
    const hint = errno === EINVAL ? '; frames that are sent take Linux 5.18' : ''
    throw Object.assign(new Error(`sending frames by a BPF program: errno ${errno}${hint}`), {
      errno,
    })
  }

  close(): void {
    native().closeDescriptor(this.descriptor)
  }
}

/** An XDP program on an interface, for as long as the descriptor is open: a killed process leaves nothing. */
export class XdpLink {
  private constructor(
    private readonly descriptor: number,
    readonly mode: 'native' | 'generic',
  ) {}

  static attach(program: XdpProgram, interfaceIndex: number, mode: 'native' | 'generic'): XdpLink {
    return new XdpLink(
      native().bpfLinkCreateXdp(program.descriptor, interfaceIndex, XdpFlag[mode]),
      mode,
    )
  }

  /** Puts another program in its place, without a gap. */
  replace(program: XdpProgram): void {
    native().bpfLinkUpdate(this.descriptor, program.descriptor)
  }

  close(): void {
    native().closeDescriptor(this.descriptor)
  }
}
