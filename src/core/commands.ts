/**
 * What can be asked of a director, as plain JSON values: the one language between uvsadm, the API socket,
 * the daemon's main thread, its workers, the scenario and the mirror. A command is applied whole or refused
 * whole with an IpvsError.
 */

export type ForwardingMethod = 'masquerade' | 'tunnel' | 'direct-route'

/** The transport protocols that a virtual service can have. */
export type ServiceProtocol = 'tcp' | 'udp' | 'sctp'

/** A virtual service by address, or by firewall mark (1 to 2^32-1) and address family. */
export type ServiceKey =
  { protocol: ServiceProtocol; address: string; port: number } | { fwmark: number; family: 4 | 6 }

export interface ServiceOptions {
  /** Scheduler name as ipvsadm has it: `wlc`. */
  scheduler: string
  /** Scheduler flags as ipvsadm -b has them: `sh-port`, `sh-fallback`, `mh-port`, `mh-fallback`, `flag-1`… */
  schedulerFlags: string[]
  /** Seconds of persistence, 0 for a service without. */
  persistentTimeoutSeconds: number
  /** Prefix length by which persistent clients are grouped: 0 to 32 (IPv4) or 128 (IPv6). */
  persistentPrefixLength: number
  /** One-packet scheduling (UDP): no connection is kept. */
  onePacket: boolean
  /** Persistence engine, as `sip`; absent when there is none. */
  persistenceEngine?: string
}

export interface DestinationKey {
  address: string
  /** 0 leaves connections the port that they came to. */
  port: number
}

/** What a tunneled packet travels in. */
export interface TunnelOptions {
  type: 'ipip' | 'gue' | 'gre'
  /** UDP port that the destination takes GUE at, from 1; 0 for the other types. */
  port: number
  /**
   * Whether the tunnel's header has a checksum; `remote` asks for GUE's remote checksum offload. IPIP has none.
   * What comes from the wire has its checksums already, so that nothing is left to offload: `remote` then is
   * as `full`, as in the kernel.
   */
  checksum: 'none' | 'full' | 'remote'
}

export interface DestinationOptions {
  forwarding: ForwardingMethod
  /** 0 takes no new connections; up to 65535 as in ipvsadm. */
  weight: number
  /** No new connections from this many on until the lower threshold is met; 0 for no limit. */
  upperThreshold: number
  lowerThreshold: number
  /** How packets are tunneled; IPIP when absent. Without meaning for other forwarding methods. */
  tunnel?: TunnelOptions
}

/** A marking rule in the manner of `iptables -t mangle -A PREROUTING … -j MARK --set-mark`; the last that matches wins, as there. */
export interface MarkRule {
  mark: number
  protocol?: ServiceProtocol
  /** CIDR prefixes. */
  source?: string
  destination?: string
  /** Inclusive destination port range. */
  ports?: [first: number, last: number]
  /** Name of the interface that the packet came in by. */
  interface?: string
}

/** Seconds; 0 leaves a value as it is. */
export interface Timeouts {
  tcp: number
  tcpFin: number
  udp: number
}

export type Command =
  | { op: 'add-service'; service: ServiceKey; options: ServiceOptions }
  | { op: 'edit-service'; service: ServiceKey; options: ServiceOptions }
  | { op: 'delete-service'; service: ServiceKey }
  | { op: 'flush' }
  | {
      op: 'add-destination'
      service: ServiceKey
      destination: DestinationKey
      options: DestinationOptions
    }
  | {
      op: 'edit-destination'
      service: ServiceKey
      destination: DestinationKey
      options: DestinationOptions
    }
  | { op: 'delete-destination'; service: ServiceKey; destination: DestinationKey }
  /** Zeroes the counters of one service and its destinations, or of all. */
  | { op: 'zero'; service?: ServiceKey }
  | { op: 'set-timeouts'; timeouts: Timeouts }
  | { op: 'get-timeouts' }
  /** Services with their destinations in the kernel's order, `limit` at most from index `from`. */
  | { op: 'list-services'; service?: ServiceKey; from?: number; limit?: number }
  | { op: 'set-marks'; rules: MarkRule[] }
  | { op: 'list-marks' }
  /** What must reach the director: see Steering. */
  | { op: 'get-steering' }
  | { op: 'get-counters' }
  /** Settings of net.ipv4.vs by the kernel's names, all or those named; see settings.ts. */
  | { op: 'get-settings'; names?: string[] }
  /** What writing the text to the setting's file under /proc/sys/net/ipv4/vs does. */
  | { op: 'set-setting'; name: string; value: string }
  /** What persistence engines keep of templates. */
  | { op: 'list-engine-templates' }

export interface Counters {
  connections: number
  inPackets: number
  outPackets: number
  inBytes: number
  outBytes: number
}

/** Per second, as the kernel's estimator smooths them. */
export interface Rates {
  connectionsPerSecond: number
  inPacketsPerSecond: number
  outPacketsPerSecond: number
  inBytesPerSecond: number
  outBytesPerSecond: number
}

export interface DestinationStatus extends DestinationKey, DestinationOptions {
  activeConnections: number
  inactiveConnections: number
  persistentConnections: number
  /** The upper threshold was met and the lower not yet again. */
  overloaded: boolean
  counters: Counters
  rates: Rates
}

export interface ServiceStatus {
  service: ServiceKey
  options: ServiceOptions
  counters: Counters
  rates: Rates
  destinations: DestinationStatus[]
}

/** One entry of the connection table, as `ipvsadm -Lnc` shows it. */
export interface ConnectionStatus {
  protocol: 'TCP' | 'UDP' | 'SCTP' | 'IP'
  expiresSeconds: number
  state: string
  client: string
  clientPort: number
  virtual: string
  virtualPort: number
  destination: string
  destinationPort: number
  isTemplate: boolean
  /** Of a template that a persistence engine made: its name, and what the template goes by. */
  persistenceEngine?: string
  persistenceData?: string
}

/** A template of a persistence engine, by its connection number. */
export interface EngineTemplate {
  connection: number
  engine: string
  /** A character a byte. */
  data: string
}

/** What the drivers have to bring to the director; all else stays with the kernel. */
export interface Steering {
  /** Traffic to virtual services; port 0 is any port. */
  virtual: { protocol: ServiceProtocol; address: string; port: number }[]
  /** Replies of masqueraded real servers, those in the trash with connections included; port 0 is any. */
  replies: { protocol: ServiceProtocol; address: string; port: number }[]
  marks: MarkRule[]
}

/** Replies by command. Commands that are not here answer `null`. */
export interface Replies {
  'get-timeouts': Timeouts
  'list-services': { services: ServiceStatus[]; total: number; tableSize: number }
  'list-marks': MarkRule[]
  'get-steering': Steering
  /** Values as reading the file gives them, by name. */
  'get-settings': Record<string, string>
  'list-engine-templates': EngineTemplate[]
  'get-counters': { reasons: Record<string, number>; connections: number; total: Counters }
}
export type Reply<C extends Command> = C['op'] extends keyof Replies ? Replies[C['op']] : null

/** Why the kernel's IPVS would refuse a command: its errno, and a sentence for people. */
export class IpvsError extends Error {
  constructor(
    readonly code:
      | 'EACCES'
      | 'EEXIST'
      | 'ESRCH'
      | 'ENOENT'
      | 'EINVAL'
      | 'ERANGE'
      | 'ENOMEM'
      | 'EAFNOSUPPORT'
      | 'ENOTSUP',
    message: string,
  ) {
    super(message)
    this.name = 'IpvsError'
  }
}
