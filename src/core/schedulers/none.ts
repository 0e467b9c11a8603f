import type { Scheduler, SchedulerKind } from './scheduler.js'

/**
 * No scheduler: the service takes no new connections, those that it has go on. What ipvsadm -s none gives,
 * to end a service gently.
 *
 * Source: net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_core.c.
 */
const nobody: Scheduler = { schedule: () => undefined }

export const none: SchedulerKind = { name: 'none', create: () => nobody }
