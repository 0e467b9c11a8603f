import type { ServiceKey, ServiceOptions } from './commands.js'
import type { Destination } from './destination.js'
import type { Scheduler } from './schedulers/scheduler.js'
import { IpProtocol } from '../wire/ipv4.js'

/** Buckets of the kernel's service tables (IP_VS_SVC_TAB_BITS 8); they show in the order of listings. */
const BUCKETS = 256

const FTP_PORT = 21
const FTP_DATA_PORT = 20
const FIRST_UNPRIVILEGED_PORT = 1024

/** A virtual service: what clients connect to, by address or by firewall mark. */
export class Service {
  /** In the kernel's order: the newest first. Schedulers walk it in this order. */
  readonly destinations: Destination[] = []
  scheduler!: Scheduler

  /** Connections of a client, or client network, stick to their destination. */
  persistent = false
  /** Timeout of templates. */
  persistentTimeoutJiffies = 0
  /** Network mask that groups clients, in network order. */
  clientMaskBe = -1

  constructor(
    readonly key: ServiceKey,
    /** IP protocol number; TCP for firewall-mark services, as in the kernel, but it does not matter there. */
    readonly protocol: number,
    readonly addressBe: number,
    readonly portBe: number,
    /** Firewall mark, 0 for services by address. */
    readonly mark: number,
    /** Place of its counters, see CounterRegion. */
    readonly counters: number,
    public options: ServiceOptions,
  ) {}

  get onePacket(): boolean {
    return this.options.onePacket
  }
}

/** The services, found as the kernel finds them and listed in its order (net/netfilter/ipvs/ip_vs_ctl.c). */
export class ServiceRegistry {
  /**
   * Services by virtual address, then by port and protocol. Two small integers and not one large number for
   * a key: packets without a service are looked up, too, and a large number is an allocation.
   */
  private readonly byAddress = new Map<number, Map<number, Service>>()
  private readonly byMark = new Map<number, Service>()
  /** Those by address, the oldest first. */
  private readonly addressed = new Set<Service>()
  private anyPortServices = 0
  private ftpServices = 0

  get size(): number {
    return this.addressed.size + this.byMark.size
  }

  /** True if a service by address has this one. */
  hasAddress(addressBe: number): boolean {
    return this.byAddress.has(addressBe)
  }

  /** The service with exactly this address, port and protocol. */
  get(protocol: number, addressBe: number, portBe: number): Service | undefined {
    return this.byAddress.get(addressBe)?.get(portKey(protocol, portBe))
  }

  getByMark(mark: number): Service | undefined {
    return this.byMark.get(mark)
  }

  /**
   * The service that a packet belongs to (ip_vs_service_find): by its mark; by address and port; for FTP's
   * data connections the FTP service; then the service on any port.
   */
  find(mark: number, protocol: number, addressBe: number, portBe: number): Service | undefined {
    if (mark !== 0) {
      const marked = this.byMark.get(mark)
      if (marked) return marked
    }
    let service = this.get(protocol, addressBe, portBe)
    if (!service && this.ftpServices > 0 && protocol === IpProtocol.tcp) {
      const port = swap16(portBe)
      if (port === FTP_DATA_PORT || port >= FIRST_UNPRIVILEGED_PORT)
        service = this.get(protocol, addressBe, swap16(FTP_PORT))
    }
    if (!service && this.anyPortServices > 0) service = this.get(protocol, addressBe, 0)
    return service
  }

  add(service: Service): void {
    if (service.mark !== 0) this.byMark.set(service.mark, service)
    else {
      const { protocol, addressBe, portBe } = service
      let services = this.byAddress.get(addressBe)
      if (!services) this.byAddress.set(addressBe, (services = new Map()))
      services.set(portKey(protocol, portBe), service)
      this.addressed.add(service)
    }
    this.countPort(service, 1)
  }

  remove(service: Service): void {
    if (service.mark !== 0) this.byMark.delete(service.mark)
    else {
      const { protocol, addressBe, portBe } = service
      const services = this.byAddress.get(addressBe)!
      services.delete(portKey(protocol, portBe))
      if (services.size === 0) this.byAddress.delete(addressBe)
      this.addressed.delete(service)
    }
    this.countPort(service, -1)
  }

  /**
   * All services in the order in which the kernel lists them: bucket by bucket, the newest first in each,
   * services by address before those by mark. (The kernel also mixes the address of its own data
   * structures into the bucket, which differs from boot to boot; that part is left out.)
   */
  inListingOrder(): Service[] {
    return [
      ...inBuckets(this.addressed, addressBucket),
      ...inBuckets(this.byMark.values(), markBucket),
    ]
  }

  private countPort(service: Service, by: number): void {
    if (isFtp(service)) this.ftpServices += by
    else if (service.portBe === 0) this.anyPortServices += by
  }
}

/** FTP services are treated apart: their data connections come to other ports. */
export function isFtp(service: Service): boolean {
  return service.portBe === swap16(FTP_PORT)
}

/** True for the source port of FTP's active data connections, which are never scheduled. */
export function isFtpData(portBe: number): boolean {
  return portBe === swap16(FTP_DATA_PORT)
}

function portKey(protocol: number, portBe: number): number {
  return portBe | (protocol << 16)
}

/** ip_vs_svc_hashkey. */
function addressBucket(service: Service): number {
  const port = swap16(service.portBe)
  return (service.protocol ^ (service.addressBe >>> 24) ^ (port >> 8) ^ port) & (BUCKETS - 1)
}

/** ip_vs_svc_fwm_hashkey. */
function markBucket(service: Service): number {
  return service.mark & (BUCKETS - 1)
}

function inBuckets(services: Iterable<Service>, bucketOf: (service: Service) => number): Service[] {
  const buckets: Service[][] = Array.from({ length: BUCKETS }, () => [])
  for (const service of services) buckets[bucketOf(service)]!.unshift(service)
  return buckets.flat()
}

function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8)
}
