import { createRtNetlink, rt } from 'netlink'

/** The rtnetlink protocol number that marks what uvs has programmed: 'u'. Unassigned in iproute2's rt_protos. */
export const UVS_PROTOCOL = 117

export const AF_INET = 2

/** Of a socket each way: room for bursts of notifications. */
const BUFFER_BYTES = 1 << 20

export type RtSocket = ReturnType<typeof createRtNetlink>

/** Sizes of the kernel's tables by number (include/uapi/linux/rtnetlink.h). */
export const Table = { default: 253, main: 254, local: 255 } as const

/** A socket of its own for requests; `followed` groups are delivered to its 'message' event. */
export function openRtnetlink(options: { keepAlive?: boolean } = {}): RtSocket {
  return createRtNetlink({
    ref: options.keepAlive ?? false,
    recvBufferSize: BUFFER_BYTES,
    sendBufferSize: BUFFER_BYTES,
  })
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
