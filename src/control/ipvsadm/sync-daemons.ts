/** What ipvsadm says and asks about the daemons that synchronise connections between two directors. */
import type { SyncDaemon } from '../../kernel/ipvs/index.js'

export type { SyncDaemon }

/** Where daemons run. An answer in words is the refusal that ipvsadm prints, with exit status 255. */
export interface SyncDaemons {
  /** Those that run, the master first, with nothing left to defaults. */
  list(): Required<SyncDaemon>[]
  start(daemon: SyncDaemon): string | undefined
  stop(state: SyncDaemon['state']): string | undefined
}

export const NO_DAEMON = 'No daemon is running'

/** For a director that synchronises nothing. */
export const noSyncDaemons: SyncDaemons = {
  list: () => [],
  start: () => 'the connection synchronisation daemon is not part of this version of uvs',
  stop: () => NO_DAEMON,
}

/** A line of `-L --daemon`. */
export function daemonLine(daemon: Required<SyncDaemon>): string {
  const { state, syncId, maxLength, group, port, ttl } = daemon
  return (
    `${state} sync daemon (mcast=${daemon.interface}, syncid=${syncId}, maxlen=${maxLength}, ` +
    `group=${group}, port=${port}, ttl=${ttl})\n`
  )
}
