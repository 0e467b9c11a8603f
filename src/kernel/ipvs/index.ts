/** The library `uvs/ipvs`: the kernel's IPVS from TypeScript. */
export { IpvsClient } from './client.js'
export { KernelIpvsError } from './errors.js'
export type { SyncDaemon } from './messages.js'
export type {
  Counters,
  DestinationKey,
  DestinationOptions,
  DestinationStatus,
  ForwardingMethod,
  Rates,
  ServiceKey,
  ServiceOptions,
  ServiceProtocol,
  ServiceStatus,
  Timeouts,
  TunnelOptions,
} from '../../core/commands.js'
