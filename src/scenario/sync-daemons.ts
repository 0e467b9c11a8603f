import { NO_DAEMON, type SyncDaemon, type SyncDaemons } from '../control/ipvsadm/sync-daemons.js'

const GROUP = '224.0.0.81'
const PORT = 8848
const TTL = 1
/** What a default message and an ordinary link of 1500 bytes have in common. */
const MTU = 1500
const UDP_HEADER_BYTES = 8
const headerBytes = (group: string): number => (group.includes(':') ? 40 : 20) + UDP_HEADER_BYTES
const LEAST_LENGTH = 1024

/**
 * The kernel's synchronisation daemons as far as commands go: one master and one backup at most, on interfaces
 * that there are. Messages they neither send nor hear.
 */
export class ScenarioSyncDaemons implements SyncDaemons {
  private readonly running = new Map<SyncDaemon['state'], Required<SyncDaemon>>()

  constructor(private readonly interfaces: readonly string[]) {}

  list(): Required<SyncDaemon>[] {
    return (['master', 'backup'] as const).flatMap((state) => this.running.get(state) ?? [])
  }

  start(daemon: SyncDaemon): string | undefined {
    if (this.running.has(daemon.state)) return 'Daemon has already run'
    if (!this.interfaces.includes(daemon.interface)) return 'No such device'
    const { group = GROUP, port = PORT, ttl = TTL } = daemon
    const maxLength = Math.max(LEAST_LENGTH, daemon.maxLength ?? MTU - headerBytes(group))
    this.running.set(daemon.state, { ...daemon, group, port, ttl, maxLength })
    return undefined
  }

  stop(state: SyncDaemon['state']): string | undefined {
    return this.running.delete(state) ? undefined : NO_DAEMON
  }
}
