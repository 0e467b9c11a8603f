/** The kernel's IPVS refused a request: `code` is its errno, `message` what it means for that request. */
export class KernelIpvsError extends Error {
  constructor(
    /** As `ESRCH`. */
    readonly code: string,
    /** What was asked for, as `add service`. */
    readonly operation: string,
    options?: ErrorOptions,
  ) {
    super(meaningOf(code, operation), options)
    this.name = 'KernelIpvsError'
  }
}

const noScheduler = 'the kernel has no such scheduler or persistence engine'
const noService = 'there is no such service'
const noDestination = 'the service has no such destination'
const noIpvs = 'the kernel has no IPVS: modprobe ip_vs'
const badDestination =
  'the kernel takes no such destination: its address must be unicast or local, only tunneling reaches the other address family, and that not beside a sync daemon'

/**
 * What an errno means depends on the request (net/netfilter/ipvs/ip_vs_ctl.c); first what it means for one,
 * then what it means for any.
 */
const meanings: Record<string, string> = {
  'find IPVS ENOENT': noIpvs,
  'add service EEXIST': 'there is such a service already',
  'add service ENOENT': noScheduler,
  'edit service ENOENT': noScheduler,
  'add destination EEXIST': 'the service has such a destination already',
  'add destination EINVAL': badDestination,
  'edit destination EINVAL': badDestination,
  'edit destination ENOENT': noDestination,
  'delete destination ENOENT': noDestination,
  'add destination ERANGE': 'a weight or threshold is out of range',
  'edit destination ERANGE': 'a weight or threshold is out of range',
  'start daemon EEXIST': 'such a sync daemon runs already',
  'start daemon EINVAL':
    'the kernel takes no such sync daemon: its group must be a multicast address, and no service may have destinations of both address families',
  'start daemon ENODEV': 'there is no such interface',
  'stop daemon ESRCH': 'no such sync daemon runs',
  'set timeouts EINVAL': 'a timeout is out of range',
  EPERM: 'the kernel allows it only with CAP_NET_ADMIN: run as root',
  ESRCH: noService,
  // Of a family that has been unloaded since.
  ENOENT: noIpvs,
  ENOPROTOOPT: noIpvs,
  EINVAL: 'the kernel takes no such value',
  EAFNOSUPPORT: "the kernel's IPVS has not this address family",
  EOPNOTSUPP: "this kernel's IPVS cannot do it",
  ENOMEM: 'the kernel has no memory left for it',
}

function meaningOf(code: string, operation: string): string {
  const meaning = meanings[`${operation} ${code}`] ?? meanings[code]
  return meaning ? `${operation}: ${meaning} (${code})` : `${operation}: ${code}`
}
