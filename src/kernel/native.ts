import { createRequire } from 'node:module'

/**
 * The addon, typed. It makes system calls, maps memory and kicks rings; it knows no policy and parses no
 * packet. Only src/drivers and src/kernel may import this file.
 *
 * Calls that fail throw an Error with `errno`, `code` (as `EPERM`), `syscall` and a message that says what
 * was being done. Calls of the hot path (readBatch, writeBatch, wait, the kicks) never throw for what the
 * network can cause: they return a count, or minus the errno.
 */
export interface Native {
  // -- memory, time, wake-up
  /**
   * Anonymous page-aligned memory (from 2 MiB on aligned to that), zeroed, not inherited by child processes, unmapped when collected (by a
   * turn of the event loop). Another thread cannot be given it: Node copies it or refuses.
   */
  mapMemory(bytes: number): ArrayBuffer
  /**
   * Asks the kernel for pages of 2 MiB for this memory (MADV_HUGEPAGE), whoever has made it; those that it has
   * already stay as they are. False where the kernel knows none.
   */
  preferHugePages(memory: Uint8Array): boolean
  /** Writes CLOCK_MONOTONIC to the cell: [0] seconds, [1] nanoseconds. No allocation, unlike returning a number. */
  readClock(cell: Int32Array): void
  /** The same of CLOCK_THREAD_CPUTIME_ID: the processor time that the calling thread has had. */
  readThreadClock(cell: Int32Array): void
  /** Sleeps until CLOCK_MONOTONIC shows this, to the precision of the kernel's timers. Blocks the thread. */
  sleepUntil(seconds: number, nanoseconds: number): void
  /** An eventfd (non-blocking). */
  createEvent(): number
  /** Makes the eventfd readable, from any thread. */
  signalEvent(fd: number): void
  /** Makes it unreadable again. */
  clearEvent(fd: number): void
  closeDescriptor(fd: number): void
  /** flock(2), exclusive, without waiting: false when somebody else has it. It goes with the last descriptor of this opening. */
  lockFile(fd: number): boolean
  /**
   * poll(2) for readability. `descriptors` lists them, `ready[i]` becomes revents of each. timeoutMs -1 waits
   * for ever. Returns how many are ready, or -errno (EINTR is 0). At most 256 descriptors. Nothing but a
   * descriptor wakes a thread from it: not even `worker.terminate()`, so have an event among them.
   */
  wait(descriptors: Int32Array, ready: Int16Array, count: number, timeoutMs: number): number

  // -- character devices and packet sockets
  /**
   * Opens /dev/net/tun and attaches to the device, making it if it is not there. Returns a non-blocking descriptor
   * and the name the kernel gave. With `backlogBytes` above 0 what is written is queued for the device's NAPI (IFF_NAPI),
   * so many bytes of buffers at most; with 0 the write takes it through the stack itself.
   */
  openTun(options: {
    name: string
    mode: 'tun' | 'tap'
    multiQueue: boolean
    vnetHeader: boolean
    backlogBytes: number
  }): { fd: number; name: string }
  /** TUNSETOFFLOAD with TUN_F_* bits, TUNSETVNETHDRSZ (headerBytes 0 leaves the size alone). */
  setTunOffload(fd: number, flags: number, headerBytes: number): void
  /** AF_PACKET SOCK_RAW socket bound to an interface, non-blocking; protocol in host order (0x0003 all). ignoreOutgoing sets PACKET_IGNORE_OUTGOING, promiscuous joins PACKET_MR_PROMISC. */
  openPacketSocket(options: {
    interfaceIndex: number
    protocol: number
    ignoreOutgoing: boolean
    promiscuous: boolean
  }): number
  /** Raw IP socket, non-blocking: it receives what is delivered to this machine with that protocol; family 4 or 6. */
  openRawSocket(family: number, protocol: number): number
  /** UDP socket, non-blocking, bound to a port of all addresses of both families. */
  openUdpSocket(port: number): number
  /** setsockopt(2) of an integer option, for sockets that other packages open. */
  setSocketOption(fd: number, level: number, option: number, value: number): void
  /**
   * Reads one packet a frame until the descriptor is empty or count is reached: packet i goes to
   * region[offsets[i]], its length to lengths[i]. A packet longer than maxLength is cut there.
   * Returns how many, or -errno if the first read failed for another reason than EAGAIN. An offset outside
   * of the region is a RangeError, as in writeBatch.
   */
  readBatch(
    fd: number,
    region: Uint8Array,
    offsets: Int32Array,
    lengths: Int32Array,
    count: number,
    maxLength: number,
  ): number
  /** Writes `count` packets; returns how many the kernel took before the first refusal, or -errno if it refused the first. */
  writeBatch(
    fd: number,
    region: Uint8Array,
    offsets: Int32Array,
    lengths: Int32Array,
    first: number,
    count: number,
  ): number

  // -- interfaces
  interfaceIndex(name: string): number
  /** SIOCGIFMTU: bytes. */
  interfaceMtu(name: string): number
  /** The interface's Ethernet address, 6 bytes; undefined when it is no Ethernet. */
  interfaceMac(name: string): Uint8Array | undefined
  /** Receive and combined queues by ETHTOOL_GCHANNELS, 1 where the driver does not say. */
  queueCount(name: string): number
  /** ETHTOOL_STXCSUM etc.: turns an ethtool legacy offload on or off (`tx`, `rx`, `tso`, `gso`, `gro`). */
  setOffload(name: string, offload: 'tx' | 'rx' | 'tso' | 'gso' | 'gro', on: boolean): void

  /** unshare(CLONE_NEWNET): the calling thread, and processes it starts, move to a namespace that lasts as long as they use it. */
  enterNewNetworkNamespace(): void

  // -- AF_XDP (see native/xsk.cc)
  /** A socket bound to a queue, with a UMEM over `region`, which must be page-aligned and stay alive until the socket is closed. */
  openXdpSocket(options: XdpSocketOptions): XdpSocket
  /** sendto() that makes the kernel transmit; 0, or -errno (EAGAIN, EBUSY, ENOBUFS are ordinary). */
  kickTransmit(fd: number): number
  /** recvfrom() that makes the kernel look at the fill ring; 0, or -errno. */
  kickReceive(fd: number): number
  /** XDP_STATISTICS: rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, rx_fill_ring_empty_descs, tx_ring_empty_descs. */
  xdpStatistics(fd: number, into: Float64Array): void

  // -- bpf (see native/bpf.cc)
  bpfMapCreate(options: {
    type: number
    keySize: number
    valueSize: number
    maxEntries: number
    flags: number
    name: string
  }): number
  bpfMapUpdate(fd: number, key: Uint8Array, value: Uint8Array, flags: number): void
  /** False when there is no such key. */
  bpfMapDelete(fd: number, key: Uint8Array): boolean
  /** Undefined when there is no such key. */
  bpfMapLookup(fd: number, key: Uint8Array): Uint8Array | undefined
  /** Loads a program; a refusal's message carries the verifier's log. */
  bpfProgramLoad(options: {
    type: number
    expectedAttachType: number
    instructions: Uint8Array
    license: string
    name: string
  }): number
  /** BPF_LINK_CREATE of an XDP program on an interface; it goes away with the descriptor, also when the process is killed. flags: XDP_FLAGS_*. */
  bpfLinkCreateXdp(programFd: number, interfaceIndex: number, flags: number): number
  /** Replaces a link's program without a gap. */
  bpfLinkUpdate(linkFd: number, programFd: number): void
  /** BPF_PROG_TEST_RUN: runs the program on a packet (tests). */
  bpfProgramRun(programFd: number, packet: Uint8Array): { returnValue: number; packet: Uint8Array }
  /**
   * BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18): runs an XDP program `repeat` times, on frames
   * that begin as copies of the packet and are used again as the program left them, and does what it says:
   * what it redirects is sent. Frames leave at least every `batchSize`. Blocks the thread; 0, or -errno (EINTR is
   * ordinary).
   */
  bpfProgramRunLive(
    programFd: number,
    packet: Uint8Array,
    repeat: number,
    batchSize: number,
  ): number
}

export interface XdpSocketOptions {
  interfaceIndex: number
  queue: number
  /** The UMEM's memory. */
  region: Uint8Array
  frameSize: number
  /** Bytes before a received packet, on top of the kernel's own 256. */
  headroom: number
  /** Descriptors in each ring, a power of two. */
  ringSize: number
  /** Descriptor of the first socket of this UMEM, to share it; -1 for the first. */
  shareWith: number
  /** XDP_COPY, XDP_ZEROCOPY, XDP_USE_NEED_WAKEUP … */
  bindFlags: number
}

/** Byte offsets in the socket's memory: producer, consumer and flags are 32-bit cells; descriptors follow the kernel's layout. */
export interface XdpRing {
  producer: number
  consumer: number
  flags: number
  descriptors: number
  /** Descriptors in it. */
  size: number
}

export interface XdpSocket {
  fd: number
  /** All four rings, mapped from the kernel. */
  memory: ArrayBuffer
  rx: XdpRing
  tx: XdpRing
  fill: XdpRing
  completion: XdpRing
  /** True if the kernel bound in zero-copy mode. */
  zeroCopy: boolean
  /**
   * Unmaps the rings, which detaches `memory`, and closes the descriptor. Only this frees the queue: the
   * mapped rings keep the socket bound. A second call does nothing.
   */
  close(): void
}

const require = createRequire(import.meta.url)
let loaded: Native | undefined

/** Loads the addon once a thread. A missing build says how to make it. */
export function native(): Native {
  if (loaded) return loaded
  try {
    // dist/src/kernel → native/build/Release
    loaded = require('../../../native/build/Release/uvs.node') as Native
  } catch (error) {
    throw new Error(
      `the addon native/build/Release/uvs.node does not load (${(error as Error).message}); run scripts/setup`,
      { cause: error },
    )
  }
  return loaded
}
