import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createRtNetlink, rt } from 'netlink'
import { native } from '../native.js'

/** The rtnetlink protocol number that marks what uvs has programmed: 'u'. Unassigned in iproute2's rt_protos. */
export const UVS_PROTOCOL = 117

export const AF_INET = 2

/** Of a socket each way: room for bursts of notifications. */
const BUFFER_BYTES = 1 << 20
/** Of a socket that follows changes: a full feed of routes comes faster than it is read. */
const FOLLOWING_BUFFER_BYTES = 1 << 23

const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33
const SOL_NETLINK = 270
const NETLINK_NO_ENOBUFS = 5

export type RtSocket = ReturnType<typeof createRtNetlink>

/** Sizes of the kernel's tables by number (include/uapi/linux/rtnetlink.h). */
export const Table = { default: 253, main: 254, local: 255 } as const

/** A socket of its own for requests; groups that it joins are delivered to its 'message' event. */
export function openRtnetlink(options: { keepAlive?: boolean } = {}): RtSocket {
  const socket = createRtNetlink({
    ref: options.keepAlive ?? false,
    recvBufferSize: BUFFER_BYTES,
    sendBufferSize: BUFFER_BYTES,
  })
  // An 'error' that nobody listens to is thrown inside the library's native callback, which ends the process.
  socket.socket.on('error', () => {})
  // The kernel refuses a second dump on a socket (EBUSY), and other answers would cut into the first one's parts.
  const request = socket.request.bind(socket)
  let last: Promise<unknown> = Promise.resolve()
  socket.request = (...args) => {
    const turn = last.then(() => request(...args))
    last = turn.catch(() => {})
    return turn
  }
  return socket
}

/**
 * Lets a socket that follows changes survive more of them than its buffer holds. The kernel would report
 * ENOBUFS, and the library ends the process by that (an exception in its native callback, listener or no
 * listener). So the kernel is told not to report, and its count of lost messages is looked at instead.
 *
 * @returns reads how many messages were lost so far
 */
export function surviveOverruns(socket: RtSocket): () => number {
  const { port } = socket.socket.address()
  const descriptor = descriptorOf(statusOf(port).inode)
  native().setSocketOption(descriptor, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
  try {
    native().setSocketOption(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, FOLLOWING_BUFFER_BYTES)
  } catch {
    // Without CAP_NET_ADMIN the buffer stays as large as net.core.rmem_max allows.
  }
  return () => statusOf(port).drops
}

/** The kernel's line about one of our netlink sockets, known by its port. */
function statusOf(port: number): { drops: number; inode: string } {
  for (const line of readFileSync('/proc/self/net/netlink', 'utf8').split('\n')) {
    const [, protocol, own, , , , , , drops, inode] = line.trim().split(/\s+/)
    if (protocol === '0' && Number(own) === port) return { drops: Number(drops), inode: inode! }
  }
  throw new Error(`/proc/self/net/netlink does not list our socket with port ${port}`)
}

function descriptorOf(inode: string): number {
  for (const descriptor of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${descriptor}`) === `socket:[${inode}]`)
        return Number(descriptor)
    } catch {
      // Closed since it was listed.
    }
  }
  throw new Error(`/proc/self/fd has no descriptor of socket ${inode}`)
}

/** `10.0.0.1` from the four bytes of an attribute. */
export function addressOf(bytes: Uint8Array | undefined): string | undefined {
  return bytes?.length === 4 ? bytes.join('.') : undefined
}

/** The four bytes of `10.0.0.1`. */
export function bytesOf(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number))
}

/** `02:00:00:00:00:01` from the bytes of an attribute. */
export function macOf(bytes: Uint8Array | undefined): string | undefined {
  if (bytes?.length !== 6) return undefined
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** An interface as the daemon needs it. */
export interface Interface {
  interfaceIndex: number
  name: string
  mtu: number
  up: boolean
  /** Undefined where it has no Ethernet address. */
  mac: string | undefined
  /** Index of the bridge or bond that it belongs to. */
  master: number | undefined
}

export async function listInterfaces(socket: RtSocket): Promise<Interface[]> {
  const links = await explain('listing interfaces', socket.getLinks())
  return links.map(({ data, attrs }) => ({
    interfaceIndex: data.index ?? 0,
    name: attrs.ifname ?? '',
    mtu: attrs.mtu ?? 0,
    up: data.flags?.up ?? false,
    mac: macOf(attrs.address),
    master: attrs.master,
  }))
}

/** Waits for a request and says, when it fails, what was being done and what it takes. */
export async function explain<T>(doing: string, request: Promise<T>): Promise<T> {
  try {
    return await request
  } catch (error) {
    const { message } = error as Error
    // The library names the errno in the message only.
    const code = /rejected: (E[A-Z0-9]+)/.exec(message)?.[1]
    const hint = code === 'EPERM' ? '; this takes the capability CAP_NET_ADMIN (root has it)' : ''
    throw Object.assign(new Error(`${doing}: ${message}${hint}`, { cause: error }), { code })
  }
}

export { rt }
