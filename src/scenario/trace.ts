import type { Side } from './scenario.js'

/** One IP packet that left the director. */
export interface SentPacket {
  side: Side
  /** The next hop's Ethernet address, `02:00:0a:02:00:03`. */
  dmac: string
  /** The whole IP packet in hex. */
  ip: string
}

/** What has happened since the record before this one. */
interface Since {
  /** What left the director because time has passed: of no packet, but of one that did not come. Absent if nothing. */
  before?: SentPacket[]
}

/** What became of a packet. */
export interface PacketRecord extends Since {
  line: number
  out: SentPacket[]
  /** The packet went on to the director's own stack; `out` is then empty. */
  declined: boolean
}

/** What an ipvsadm command answered. */
export interface IpvsadmRecord extends Since {
  line: number
  exit: number
  stdout: string
  stderr: string
}

/** An entry of `ipvsadm -L -n -c`. */
export interface ConnectionRecord {
  pro: string
  /** Seconds left, rounded. */
  expire: number
  state: string
  source: string
  virtual: string
  destination: string
}

/** What is there when the scenario has ended. */
export interface EndRecord extends Since {
  end: true
  /** `ipvsadm -L -n --stats --exact`. */
  services: string
  /** Sorted. */
  connections: ConnectionRecord[]
}

export type TraceRecord = PacketRecord | IpvsadmRecord | EndRecord
export type Trace = TraceRecord[]

/** Connections in the order of a trace. What may differ between two runs, `expire`, has no say in it. */
export function sortConnections(connections: readonly ConnectionRecord[]): ConnectionRecord[] {
  const key = ({ pro, source, virtual, destination, state }: ConnectionRecord): string =>
    [pro, source, virtual, destination, state].join(' ')
  return connections
    .map((connection) => ({ connection, text: key(connection) }))
    .sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0))
    .map(({ connection }) => connection)
}

/** A trace as NDJSON. */
export function formatTrace(trace: Trace): string {
  return trace.map((record) => `${JSON.stringify(record)}\n`).join('')
}

/** A trace from NDJSON. @throws SyntaxError */
export function parseTrace(text: string): Trace {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as TraceRecord)
}
