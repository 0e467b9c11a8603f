import type { MessagePort } from 'node:worker_threads'
import type { Command, Reply } from '../core/commands.js'
import type { Forgettable } from '../core/configuration.js'
import type { RouteUpdate } from '../core/route-table.js'
import type { PortCounters } from '../port/packet-port.js'

/** What the main thread says to the data-plane thread. Requests with an id are answered in order. */
export type ToThread =
  | { kind: 'command'; id: number; command: Command }
  | { kind: 'status'; id: number }
  | { kind: 'routes'; updates: RouteUpdate[] }
  /** IPv4 addresses that a TAP station answers ARP for. */
  | { kind: 'own-addresses'; addresses: string[] }
  /** The Ethernet address behind the kernel path has changed. */
  | { kind: 'kernel-mac'; mac: string }
  /** Destinations that no worker uses any more. */
  | { kind: 'forget'; destinations: Forgettable[] }
  /** Finish what has been received, transmit it, close the ports, end. */
  | { kind: 'stop' }

/** What the data-plane thread says. */
export type FromThread =
  | { kind: 'opened'; ports: OpenedPort[] }
  | { kind: 'reply'; id: number; reply: Reply<Command> | ThreadStatus }
  /** Of a reply that comes in several; the last comes as `reply`. */
  | { kind: 'part'; id: number; part: Reply<Command> }
  | { kind: 'refused'; id: number; code: string; message: string }
  /** Neighbours that packets wait for. */
  | { kind: 'wanted'; neighbours: { interfaceIndex: number; address: string }[] }
  /** For all workers, itself included. */
  | { kind: 'forgettable'; destinations: Forgettable[] }
  | { kind: 'stopped' }

export interface OpenedPort {
  name: string
  interfaceIndex: number
  /** The AF_XDP socket and its queue, for the XSKMAP. */
  socket?: { descriptor: number; queue: number }
  zeroCopy?: boolean
}

export interface ThreadStatus {
  ports: { name: string; counters: PortCounters }[]
  waitingPackets: number
  /** Packets that came in by this thread and belong to other workers. */
  handedOverPackets: number
  freeFrames: number
  frames: number
}

/** How a port of the thread is opened, worked out by the main thread from the port specs. */
export type PortPlan =
  | {
      driver: 'afxdp'
      interface: string
      interfaceIndex: number
      mac: string
      mtu: number
      queue: number
      /** Forbids zero-copy mode, which generic XDP does not go with. */
      copy: boolean
    }
  | {
      driver: 'tun'
      interface: string
      /** One queue of several, each a worker's. */
      multiQueue: boolean
      /** Packets of many segments, and without their checksums. */
      offload: boolean
      /** A thread of the kernel receives what is transmitted. */
      threadedReceive: boolean
    }
  | { driver: 'tap'; interface: string; mac?: string }

/** What one of several workers shares with the others. */
export interface CrewPlan {
  /** From 0. */
  self: number
  workers: number
  clientPrefixLength: number
  /** Of CommonState. */
  common: SharedArrayBuffer
  /** Of Handover. */
  rings: SharedArrayBuffer
  /** The frames of all. */
  frames: SharedArrayBuffer
  /** By worker: the eventfd that wakes it. */
  wakeUps: number[]
  /** By worker: not 0 when it has nothing to do any more and ends when all have. */
  ending: SharedArrayBuffer
}

export interface ThreadOptions {
  ports: PortPlan[]
  /** By port: the first one of its interface. */
  interfacePort: number[]
  /** Absent where it is the only worker. */
  crew?: CrewPlan
  /** Which port leads into the kernel's stack; with TAP, by the Ethernet address of its bridge. */
  kernelPath: { port: number; mac?: string }
  frameSize: number
  /** Whether frames may carry requests: see FramePool. */
  hasOffload: boolean
  /** Of this worker. */
  frameCount: number
  /** How long it looks for packets in vain before it sleeps: by AF_XDP only, where looking is cheap. */
  patienceUs: number
  maxConnections: number
  connections: SharedArrayBuffer
  /** Has the memory of the connections touched before it is needed: the cells of MemoryAhead, and the table's number there. */
  ahead: { cells: SharedArrayBuffer; table: number }
  counters: SharedArrayBuffer
  seed: number
  clockStartSeconds: number
  channel: MessagePort
  /** Cell 0 is not 0 when a message waits; the eventfd wakes the thread from poll. */
  attention: SharedArrayBuffer
  wakeUp: number
}
