import { foldAddress, isSameAddress } from '../wire/ipv6.js'
import type { Address } from './address.js'
import type { ServiceKey, ServiceOptions } from './commands.js'
import type { Destination } from './destination.js'
import type { Scheduler } from './schedulers/scheduler.js'
import { IpProtocol } from '../wire/ipv4.js'
import { AddressSet } from './workers/address-set.js'

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

  /** Those of its options, as bits of SchedulerFlag. */
  schedulerFlags = 0
  /** Connections of a client, or client network, stick to their destination. */
  persistent = false
  /** Templates go by the Call-ID of SIP messages, too (persistence engine sip). */
  goesByCallId = false
  /** Timeout of templates. */
  persistentTimeoutJiffies = 0
  /** Bits of the address that clients have in common who stick together. */
  clientPrefixLength = 0

  /** Of its virtual address and clients: 4 or 6. */
  readonly family: 4 | 6
  /** The virtual IPv4 address, or the fold of the IPv6 address. */
  readonly addressBe: number

  constructor(
    readonly key: ServiceKey,
    /** IP protocol number; TCP for firewall-mark services, as in the kernel, but it does not matter there. */
    readonly protocol: number,
    /** The virtual address, zeros for services by firewall mark. */
    readonly address: Address,
    readonly portBe: number,
    /** Firewall mark, 0 for services by address. */
    readonly mark: number,
    /** Place of its counters, see CounterRegion. */
    readonly counters: number,
    public options: ServiceOptions,
  ) {
    this.family = address.family
    this.addressBe = foldAddress(address.words, 0)
  }

  get onePacket(): boolean {
    return this.options.onePacket
  }
}

/** The services, found as the kernel finds them and listed in its order (net/netfilter/ipvs/ip_vs_ctl.c). */
export class ServiceRegistry {
  /**
   * IPv4 services by virtual address, then by port and protocol. Two small integers and not one large number
   * for a key: packets without a service are looked up, too, and a large number is an allocation.
   */
  private readonly byAddress = new Map<number, Map<number, Service>>()
  /** IPv6 services by the fold of their address, then by port and protocol: those of equal folds are a list. */
  private readonly byAddressIpv6 = new Map<number, Map<number, Service[]>>()
  private readonly byMark = { 4: new Map<number, Service>(), 6: new Map<number, Service>() }
  /** In the order of listings: the kernel's buckets of services by address, and those by mark, the newest first in each. */
  private readonly buckets: Service[][] = Array.from({ length: 2 * BUCKETS }, () => [])
  /** How many there are. */
  size = 0
  /** The virtual addresses of services by address, and of their connections: see `expectRequests`. */
  readonly virtualAddresses = new AddressSet()
  /** The same of services by mark, with how often each is expected. */
  private readonly expectedMarks = { 4: new Map<number, number>(), 6: new Map<number, number>() }
  private ipv6Services = 0
  /** There has been a service or destination of IPv6: from then on fragments are put together. */
  hadIpv6 = false
  private anyPortServices = 0
  private ftpServices = 0

  /** There is a service of IPv4. */
  hasIpv4 = false

  /** How many there are of a family, 4 or 6. */
  countOf(family: number): number {
    return family === 6 ? this.ipv6Services : this.size - this.ipv6Services
  }

  /** True if a service by address has this one: an IPv4 address, or the four words of one of IPv6. */
  hasAddress(family: number, addresses: Int32Array, at: number): boolean {
    if (family === 4) return this.byAddress.has(addresses[at]!)
    const services = this.byAddressIpv6.get(foldAddress(addresses, at))
    if (services === undefined) return false
    for (const list of services.values())
      for (const service of list)
        if (isSameAddress(service.address.words, 0, addresses, at)) return true
    return false
  }

  /** The service with exactly this address, port and protocol. */
  get(
    family: number,
    protocol: number,
    addresses: Int32Array,
    at: number,
    portBe: number,
  ): Service | undefined {
    const key = portKey(protocol, portBe)
    if (family === 4) return this.byAddress.get(addresses[at]!)?.get(key)
    const services = this.byAddressIpv6.get(foldAddress(addresses, at))?.get(key)
    if (services === undefined) return undefined
    for (const service of services)
      if (isSameAddress(service.address.words, 0, addresses, at)) return service
    return undefined
  }

  getByMark(family: number, mark: number): Service | undefined {
    return this.byMark[family as 4 | 6].get(mark)
  }

  /**
   * The service that a packet belongs to (ip_vs_service_find): by its mark; by address and port; for FTP's
   * data connections the FTP service; then the service on any port.
   *
   * @param addresses holds the virtual address, at an index
   */
  find(
    family: number,
    mark: number,
    protocol: number,
    addresses: Int32Array,
    at: number,
    portBe: number,
  ): Service | undefined {
    if (mark !== 0) {
      const marked = this.getByMark(family, mark)
      if (marked) return marked
    }
    let service = this.get(family, protocol, addresses, at, portBe)
    if (!service && this.ftpServices > 0 && protocol === IpProtocol.tcp) {
      const port = swap16(portBe)
      if (port === FTP_DATA_PORT || port >= FIRST_UNPRIVILEGED_PORT)
        service = this.get(family, protocol, addresses, at, swap16(FTP_PORT))
    }
    if (!service && this.anyPortServices > 0) service = this.get(family, protocol, addresses, at, 0)
    return service
  }

  add(service: Service): void {
    const { family, protocol, addressBe, portBe } = service
    if (service.mark !== 0) {
      this.byMark[family].set(service.mark, service)
    } else {
      const key = portKey(protocol, portBe)
      if (family === 4) {
        let services = this.byAddress.get(addressBe)
        if (!services) this.byAddress.set(addressBe, (services = new Map()))
        services.set(key, service)
      } else {
        let services = this.byAddressIpv6.get(addressBe)
        if (!services) this.byAddressIpv6.set(addressBe, (services = new Map()))
        services.set(key, [...(services.get(key) ?? []), service])
      }
    }
    this.buckets[bucketOf(service)]!.unshift(service)
    this.expectRequests(service)
    this.count(service, 1)
  }

  /**
   * From now on packets for the service's address, or of its mark, are told from replies, until this has been taken
   * back as often. Connections outlive their service, and their requests are requests as long as they live.
   */
  expectRequests(service: Service): void {
    if (service.mark !== 0) return this.expectMark(service, 1)
    const [a, b, c, d] = service.address.words
    this.virtualAddresses.add(a!, b!, c!, d!)
  }

  expectNoRequests(service: Service): void {
    if (service.mark !== 0) return this.expectMark(service, -1)
    const [a, b, c, d] = service.address.words
    this.virtualAddresses.remove(a!, b!, c!, d!)
  }

  /** True if packets of this mark are requests to a service, or of connections that have outlived it. */
  expectsMark(family: number, mark: number): boolean {
    return this.expectedMarks[family as 4 | 6].has(mark)
  }

  private expectMark({ family, mark }: Service, by: number): void {
    const marks = this.expectedMarks[family]
    const count = (marks.get(mark) ?? 0) + by
    if (count > 0) marks.set(mark, count)
    else marks.delete(mark)
  }

  remove(service: Service): void {
    const { family, protocol, addressBe, portBe } = service
    if (service.mark !== 0) {
      this.byMark[family].delete(service.mark)
    } else {
      const key = portKey(protocol, portBe)
      if (family === 4) {
        const services = this.byAddress.get(addressBe)!
        services.delete(key)
        if (services.size === 0) this.byAddress.delete(addressBe)
      } else {
        const services = this.byAddressIpv6.get(addressBe)!
        const rest = services.get(key)!.filter((other) => other !== service)
        if (rest.length > 0) services.set(key, rest)
        else services.delete(key)
        if (services.size === 0) this.byAddressIpv6.delete(addressBe)
      }
    }
    const bucket = this.buckets[bucketOf(service)]!
    bucket.splice(bucket.indexOf(service), 1)
    this.expectNoRequests(service)
    this.count(service, -1)
  }

  /**
   * All services in the order in which the kernel lists them: bucket by bucket, the newest first in each,
   * services by address before those by mark. (The kernel also mixes the address of its own data
   * structures into the bucket, which differs from boot to boot; that part is left out.) None may come or go
   * meanwhile.
   *
   * @param from how many are left out at the start
   */
  *inListingOrder(from = 0): Generator<Service, void> {
    let skipped = from
    for (const bucket of this.buckets) {
      for (; skipped < bucket.length; skipped++) yield bucket[skipped]!
      skipped -= bucket.length
    }
  }

  /** The first of them, undefined when there is none. */
  first(): Service | undefined {
    return this.inListingOrder().next().value ?? undefined
  }

  private count(service: Service, by: number): void {
    this.size += by
    if (service.family === 6) {
      this.ipv6Services += by
      this.hadIpv6 = true
    }
    if (isFtp(service)) this.ftpServices += by
    else if (service.portBe === 0) this.anyPortServices += by
    this.hasIpv4 = this.countOf(4) > 0
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

function bucketOf(service: Service): number {
  return service.mark !== 0 ? BUCKETS + markBucket(service) : addressBucket(service)
}

function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8)
}
