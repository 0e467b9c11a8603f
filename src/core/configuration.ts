import { JIFFIES_PER_SECOND } from '../port/clock.js'
import {
  formatAddress,
  IpProtocol,
  isLimitedBroadcast,
  isMulticast,
  isZeroNetwork,
  netmaskBe,
  parseAddress,
  swap16,
} from '../wire/ipv4.js'
import {
  IpvsError,
  type Command,
  type Counters,
  type DestinationKey,
  type DestinationOptions,
  type DestinationStatus,
  type Replies,
  type Reply,
  type ServiceKey,
  type ServiceOptions,
  type ServiceProtocol,
  type ServiceStatus,
  type Steering,
  type TunnelOptions,
} from './commands.js'
import type { Connections } from './connections.js'
import type { ConnectionTable } from './connection-table.js'
import type { CounterRegion } from './counters.js'
import { Destination, type DestinationSlots, forwardingFlag, IPIP } from './destination.js'
import type { Defence } from './defence.js'
import type { Estimator } from './estimator.js'
import { timerFires } from './kernel-timer.js'
import type { MarkRules } from './marks.js'
import { protocolNumber } from './protocol-names.js'
import type { Protocols } from './protocols/index.js'
import { schedulers } from './schedulers/index.js'
import type { SchedulerKind } from './schedulers/scheduler.js'
import { isFtp, Service, type ServiceRegistry } from './service.js'
import {
  formatSetting,
  settingKind,
  settingTable,
  writeSetting,
  type SettingKind,
  type Settings,
} from './settings.js'

const MAX_MARK = 0xffffffff
const MAX_INT = 0x7fffffff

/** A removed destination that no connection uses is kept so long at least (IP_VS_DEST_TRASH_PERIOD). */
const TRASH_PERIOD_JIFFIES = 120 * JIFFIES_PER_SECOND
/** The trash is looked through so often, from the first destination in it on. */
const SWEEP_PERIOD_JIFFIES = TRASH_PERIOD_JIFFIES / 2

/**
 * What a director is set up to do, and the commands that change and show it. Commands are refused as the
 * kernel refuses them (net/netfilter/ipvs/ip_vs_ctl.c), and one that is refused has changed nothing.
 */
export class Configuration {
  /** Removed destinations, kept for their connections and counts (ip_vs_ctl.c's dest_trash). */
  private readonly trash: Destination[] = []
  private sweepDue = 0
  /** When connections of removed destinations end, unless it is undefined (expire_nodest_conn). */
  private dropUnavailableDue: number | undefined
  private now: number

  constructor(
    private readonly services: ServiceRegistry,
    private readonly slots: DestinationSlots,
    private readonly table: ConnectionTable,
    private readonly counters: CounterRegion,
    private readonly estimator: Estimator,
    private readonly protocols: Protocols,
    private readonly marks: MarkRules,
    private readonly settings: Settings,
    private readonly defence: Defence,
    private readonly connections: Connections,
    private readonly sampledCounters: boolean,
  ) {
    this.now = connections.now
    estimator.start(counters.total)
  }

  execute<C extends Command>(command: C): Reply<C> {
    return this.dispatch(command) as Reply<C>
  }

  private dispatch(command: Command): Replies[keyof Replies] | null {
    switch (command.op) {
      case 'add-service':
        return this.addService(command.service, command.options)
      case 'edit-service':
        return this.editService(command.service, command.options)
      case 'delete-service':
        return this.deleteService(this.service(command.service))
      case 'flush':
        for (const service of this.services.inListingOrder()) this.deleteService(service)
        return null
      case 'add-destination':
        return this.addDestination(command.service, command.destination, command.options)
      case 'edit-destination':
        return this.editDestination(command.service, command.destination, command.options)
      case 'delete-destination':
        return this.deleteDestination(command.service, command.destination)
      case 'zero':
        return this.zero(command.service)
      case 'set-timeouts':
        this.protocols.setTimeouts(command.timeouts)
        return null
      case 'get-timeouts':
        return this.protocols.getTimeouts()
      case 'list-services':
        return this.listServices(command)
      case 'set-marks':
        this.marks.set(command.rules)
        return null
      case 'list-marks':
        return [...this.marks.list]
      case 'get-steering':
        return this.steering()
      case 'get-settings':
        return this.getSettings(command.names)
      case 'set-setting':
        this.setSetting(settingKind(command.name), command.value)
        return null
      case 'get-counters':
        return {
          reasons: this.counters.reasons(),
          connections: this.table.count,
          total: this.countersOf(this.counters.total),
        }
    }
  }

  /** Sets the time and does what is due: to be called before any packet or command of that time. */
  advance(now: number): void {
    this.now = now
    if (this.dropUnavailableDue !== undefined && ((now - this.dropUnavailableDue) | 0) >= 0) {
      this.dropUnavailableDue = undefined
      this.connections.dropUnavailable()
    }
    if (this.trash.length > 0 && ((now - this.sweepDue) | 0) >= 0) {
      this.scheduleSweep()
      this.sweepTrash(now)
    }
  }

  /** When there may be something to do next: jiffies, `limit` at the latest. */
  due(limit: number): number {
    const due = this.trash.length > 0 ? earlier(this.sweepDue, limit) : limit
    return this.dropUnavailableDue === undefined ? due : earlier(this.dropUnavailableDue, due)
  }

  private scheduleSweep(): void {
    this.sweepDue = timerFires((this.now + SWEEP_PERIOD_JIFFIES) | 0, SWEEP_PERIOD_JIFFIES)
  }

  /** Frees destinations in the trash that no connection has used for their period (ip_vs_dest_trash_expire). */
  private sweepTrash(now: number): void {
    for (let i = this.trash.length - 1; i >= 0; i--) {
      const destination = this.trash[i]!
      if (destination.references > 0) {
        destination.idleSinceJiffies = undefined
      } else if (destination.idleSinceJiffies === undefined) {
        destination.idleSinceJiffies = now
      } else if (((now - destination.idleSinceJiffies) | 0) >= TRASH_PERIOD_JIFFIES) {
        this.trash.splice(i, 1)
        this.slots.release(destination)
        this.counters.release(destination.counters)
      }
    }
  }

  // -- services

  private addService(key: ServiceKey, options: ServiceOptions): null {
    const parsed = parseServiceKey(key)
    if (this.lookUp(parsed))
      throw new IpvsError('EEXIST', `virtual service ${serviceName(key)} exists already`)
    const scheduler = checkServiceOptions(options)
    const slot = this.counterSlot()
    const { protocol, addressBe, portBe, mark } = parsed
    const service = new Service({ ...key }, protocol, addressBe, portBe, mark, slot, options)
    applyServiceOptions(service, options)
    service.scheduler = scheduler.create(service)
    this.services.add(service)
    this.estimator.start(slot)
    return null
  }

  private editService(key: ServiceKey, options: ServiceOptions): null {
    const service = this.service(key)
    const scheduler = checkServiceOptions(options)
    const isSame = service.options.scheduler === options.scheduler
    applyServiceOptions(service, options)
    if (isSame) service.scheduler.edited?.()
    else service.scheduler = scheduler.create(service)
    return null
  }

  private deleteService(service: Service): null {
    this.services.remove(service)
    for (const destination of [...service.destinations]) this.unlink(service, destination)
    this.estimator.stop(service.counters)
    this.counters.release(service.counters)
    return null
  }

  /** @throws IpvsError ESRCH when there is no such service */
  private service(key: ServiceKey): Service {
    const service = this.lookUp(parseServiceKey(key))
    if (!service) throw new IpvsError('ESRCH', `no virtual service ${serviceName(key)}`)
    return service
  }

  private lookUp(key: ParsedServiceKey): Service | undefined {
    return key.mark !== 0
      ? this.services.getByMark(key.mark)
      : this.services.get(key.protocol, key.addressBe, key.portBe)
  }

  // -- destinations

  private addDestination(
    serviceKey: ServiceKey,
    key: DestinationKey,
    options: DestinationOptions,
  ): null {
    const service = this.service(serviceKey)
    const { addressBe, portBe } = parseDestinationKey(key)
    checkDestinationOptions(options)
    if (find(service, addressBe, portBe))
      throw new IpvsError(
        'EEXIST',
        `${serviceName(serviceKey)} has destination ${destinationName(addressBe, portBe)} already`,
      )
    let destination = this.revive(service, addressBe, portBe)
    if (!destination) {
      checkDestinationAddress(addressBe)
      const counters = this.counterSlot()
      destination = new Destination(this.slots.take(), counters, service, addressBe, portBe)
      this.slots.put(destination)
    }
    applyDestinationOptions(destination, options)
    destination.available = true
    service.destinations.unshift(destination)
    this.estimator.start(destination.counters)
    service.scheduler.added?.(destination)
    return null
  }

  private editDestination(
    serviceKey: ServiceKey,
    key: DestinationKey,
    options: DestinationOptions,
  ): null {
    const service = this.service(serviceKey)
    checkDestinationOptions(options)
    const destination = this.destination(service, key)
    applyDestinationOptions(destination, options)
    service.scheduler.updated?.(destination)
    return null
  }

  private deleteDestination(serviceKey: ServiceKey, key: DestinationKey): null {
    const service = this.service(serviceKey)
    this.unlink(service, this.destination(service, key))
    return null
  }

  /** @throws IpvsError ENOENT when the service has no such destination */
  private destination(service: Service, key: DestinationKey): Destination {
    const { addressBe, portBe } = parseDestinationKey(key)
    const destination = find(service, addressBe, portBe)
    if (!destination)
      throw new IpvsError(
        'ENOENT',
        `${serviceName(service.key)} has no destination ${destinationName(addressBe, portBe)}`,
      )
    return destination
  }

  /** Out of the service's list and into the trash: connections may still use it. */
  private unlink(service: Service, destination: Destination): void {
    destination.available = false
    const index = service.destinations.indexOf(destination)
    service.destinations.splice(index, 1)
    service.scheduler.removed?.(destination, index)
    this.estimator.stop(destination.counters)
    destination.idleSinceJiffies = undefined
    if (this.trash.length === 0) this.scheduleSweep()
    this.trash.push(destination)
    if (this.settings.expireNoDestinationConnections !== 0)
      this.dropUnavailableDue ??= timerFires((this.now + 1) | 0, 1)
  }

  /**
   * A destination that was removed from the same service, with its connections and counts. If the service
   * itself is a new one, the destination's counters begin again.
   */
  private revive(service: Service, addressBe: number, portBe: number): Destination | undefined {
    const index = this.trash.findIndex(
      (destination) =>
        destination.addressBe === addressBe &&
        destination.portBe === portBe &&
        isSameService(destination.service, service),
    )
    if (index < 0) return undefined
    const destination = this.trash.splice(index, 1)[0]!
    if (destination.service !== service) {
      destination.service = service
      this.zeroSlot(destination.counters)
    }
    return destination
  }

  private counterSlot(): number {
    const slot = this.counters.allocate()
    if (slot < 0)
      throw new IpvsError('ENOMEM', 'no room for the counters of another service or destination')
    return slot
  }

  // -- counters

  private zero(key: ServiceKey | undefined): null {
    const services = key ? [this.service(key)] : this.services.inListingOrder()
    for (const service of services) {
      for (const destination of service.destinations) this.zeroSlot(destination.counters)
      this.zeroSlot(service.counters)
    }
    if (!key) this.zeroSlot(this.counters.total)
    return null
  }

  private zeroSlot(slot: number): void {
    this.estimator.zero(slot, this.showsSamples)
  }

  private countersOf(slot: number): Counters {
    return this.showsSamples ? this.estimator.sampled(slot) : this.counters.counters(slot)
  }

  /** Whether counters are shown as they were summed up last, which run_estimation 0 makes them stay. */
  private get showsSamples(): boolean {
    return this.sampledCounters || this.settings.runEstimation === 0
  }

  private setSetting(kind: SettingKind, value: string): void {
    const { settings } = this
    const { dropEntry, dropPacket, secureTcp } = settings
    writeSetting(settings, kind, value)
    // As in the kernel, writing what is there already is no change.
    const isModeChanged =
      dropEntry !== settings.dropEntry ||
      dropPacket !== settings.dropPacket ||
      secureTcp !== settings.secureTcp
    if (isModeChanged) this.defence.update()
  }

  private getSettings(names: readonly string[] | undefined): Replies['get-settings'] {
    const kinds = names ? names.map(settingKind) : settingTable
    return Object.fromEntries(kinds.map((kind) => [kind.name, formatSetting(this.settings, kind)]))
  }

  // -- listings

  private listServices(command: {
    service?: ServiceKey
    from?: number
    limit?: number
  }): Replies['list-services'] {
    const all = command.service ? [this.service(command.service)] : this.services.inListingOrder()
    const from = command.from ?? 0
    const page = all.slice(from, command.limit === undefined ? undefined : from + command.limit)
    return {
      services: page.map((service) => this.serviceStatus(service)),
      total: all.length,
      tableSize: this.table.maxConnections,
    }
  }

  private serviceStatus(service: Service): ServiceStatus {
    return {
      service: service.key,
      options: service.options,
      counters: this.countersOf(service.counters),
      rates: this.counters.rates(service.counters),
      destinations: service.destinations.map((destination) => this.destinationStatus(destination)),
    }
  }

  private destinationStatus(destination: Destination): DestinationStatus {
    return {
      address: formatAddress(destination.addressBe),
      port: swap16(destination.portBe),
      forwarding: destination.forwarding,
      weight: destination.weight,
      upperThreshold: destination.upperThreshold,
      lowerThreshold: destination.lowerThreshold,
      ...(destination.tunnel !== IPIP && { tunnel: { ...destination.tunnel } }),
      activeConnections: destination.activeConnections,
      inactiveConnections: destination.inactiveConnections,
      persistentConnections: destination.persistentConnections,
      overloaded: destination.overloaded,
      counters: this.countersOf(destination.counters),
      rates: this.counters.rates(destination.counters),
    }
  }

  /** What the drivers have to bring here. */
  private steering(): Steering {
    const services = this.services.inListingOrder()
    const virtual: Steering['virtual'] = []
    for (const { key, mark } of services)
      if (mark === 0 && 'address' in key)
        virtual.push({ protocol: key.protocol, address: key.address, port: key.port })
    const replies = new Map<string, Steering['replies'][number]>()
    for (const destination of this.slots.all) {
      if (!destination) continue
      const isMasquerading = destination.available && destination.forwarding === 'masquerade'
      if (!isMasquerading && destination.masqueradedConnections === 0) continue
      const address = formatAddress(destination.addressBe)
      const port = replyPort(destination)
      for (const protocol of replyProtocols(destination.service))
        replies.set(`${protocol} ${address} ${port}`, { protocol, address, port })
    }
    return {
      virtual,
      replies: [...replies.values()],
      marks: this.marks.list.filter((rule) => this.services.getByMark(rule.mark) !== undefined),
    }
  }
}

function earlier(a: number, b: number): number {
  return ((a - b) | 0) < 0 ? a : b
}

interface ParsedServiceKey {
  protocol: number
  addressBe: number
  portBe: number
  /** 0 for services by address. */
  mark: number
}

function parseServiceKey(key: ServiceKey): ParsedServiceKey {
  if ('fwmark' in key) {
    const { fwmark, family } = key
    if (!Number.isInteger(fwmark) || fwmark < 1 || fwmark > MAX_MARK)
      throw new IpvsError('EINVAL', `firewall mark ${fwmark} is not within 1 to ${MAX_MARK}`)
    if (family !== 4) throw new IpvsError('EAFNOSUPPORT', 'services of IPv6 are not supported')
    return { protocol: IpProtocol.tcp, addressBe: 0, portBe: 0, mark: fwmark }
  }
  const protocol = protocolNumber(key.protocol)
  if (protocol === undefined) throw new IpvsError('EINVAL', `unknown protocol '${key.protocol}'`)
  return { protocol, addressBe: parseIpv4(key.address), portBe: parsePort(key.port), mark: 0 }
}

function parseDestinationKey(key: DestinationKey): { addressBe: number; portBe: number } {
  return { addressBe: parseIpv4(key.address), portBe: parsePort(key.port) }
}

function parseIpv4(text: string): number {
  const addressBe = parseAddress(text)
  if (addressBe !== undefined) return addressBe
  if (text.includes(':'))
    throw new IpvsError('EAFNOSUPPORT', `'${text}': addresses of IPv6 are not supported`)
  throw new IpvsError('EINVAL', `'${text}' is no IPv4 address`)
}

function parsePort(port: number): number {
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new IpvsError('EINVAL', `port ${port} is not within 0 to 65535`)
  return swap16(port)
}

/** @returns the scheduler that the options name */
function checkServiceOptions(options: ServiceOptions): SchedulerKind {
  const scheduler = schedulers.get(options.scheduler)
  if (!scheduler) throw new IpvsError('ENOENT', `no scheduler '${options.scheduler}'`)
  if (options.persistenceEngine !== undefined)
    throw new IpvsError('ENOENT', `no persistence engine '${options.persistenceEngine}'`)
  const prefix = options.persistentPrefixLength
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > 32)
    throw new IpvsError('EINVAL', `prefix length ${prefix} is not within 0 to 32`)
  const timeout = options.persistentTimeoutSeconds
  const maximum = Math.floor(MAX_INT / JIFFIES_PER_SECOND)
  if (!Number.isInteger(timeout) || timeout < 0 || timeout > maximum)
    throw new IpvsError(
      'EINVAL',
      `persistence timeout of ${timeout} seconds is not within 0 to ${maximum}`,
    )
  return scheduler
}

function applyServiceOptions(service: Service, options: ServiceOptions): void {
  service.options = { ...options, schedulerFlags: [...options.schedulerFlags] }
  service.persistent = options.persistentTimeoutSeconds > 0
  service.persistentTimeoutJiffies = options.persistentTimeoutSeconds * JIFFIES_PER_SECOND
  service.clientMaskBe = netmaskBe(options.persistentPrefixLength)
}

function checkDestinationOptions(options: DestinationOptions): void {
  if (!Object.hasOwn(forwardingFlag, options.forwarding))
    throw new IpvsError('EINVAL', `unknown forwarding method '${options.forwarding}'`)
  for (const name of ['weight', 'upperThreshold', 'lowerThreshold'] as const) {
    const value = options[name]
    if (!Number.isInteger(value) || value < 0 || value > MAX_INT)
      throw new IpvsError('ERANGE', `${name} ${value} is not within 0 to ${MAX_INT}`)
  }
  const { tunnel } = options
  if (tunnel && !isTunnel(tunnel))
    throw new IpvsError(
      'EINVAL',
      `tunnel of type ${tunnel.type} with port ${tunnel.port} and checksum ${tunnel.checksum}: gue needs a port from 1 to 65535, the others have none; ipip has no checksum, and remote ones are gue's`,
    )
  if (options.lowerThreshold > options.upperThreshold)
    throw new IpvsError(
      'ERANGE',
      `lower threshold ${options.lowerThreshold} is above the upper one, ${options.upperThreshold}`,
    )
}

function isTunnel({ type, port, checksum }: TunnelOptions): boolean {
  if (!Number.isInteger(port) || port < 0 || port > 65535) return false
  switch (type) {
    case 'ipip':
      return port === 0 && checksum === 'none'
    case 'gue':
      return port !== 0
    case 'gre':
      return port === 0 && checksum !== 'remote'
  }
}

function checkDestinationAddress(addressBe: number): void {
  if (isMulticast(addressBe) || isZeroNetwork(addressBe) || isLimitedBroadcast(addressBe))
    throw new IpvsError('EINVAL', `${formatAddress(addressBe)} is no address of a host`)
}

/** As __ip_vs_update_dest: every option is replaced, and a threshold that is raised or lifted ends overload. */
function applyDestinationOptions(destination: Destination, options: DestinationOptions): void {
  destination.weight = options.weight
  destination.forwarding = options.forwarding
  const { forwarding, tunnel = IPIP } = options
  destination.tunnel = forwarding !== 'tunnel' || tunnel.type === 'ipip' ? IPIP : { ...tunnel }
  if (options.upperThreshold === 0 || options.upperThreshold > destination.upperThreshold)
    destination.overloaded = false
  destination.upperThreshold = options.upperThreshold
  destination.lowerThreshold = options.lowerThreshold
  // Forget the cached next hop.
  destination.hopGeneration = 0
}

function find(service: Service, addressBe: number, portBe: number): Destination | undefined {
  return service.destinations.find(
    (destination) => destination.addressBe === addressBe && destination.portBe === portBe,
  )
}

function isSameService(a: Service, b: Service): boolean {
  return (
    a.mark === b.mark &&
    a.protocol === b.protocol &&
    a.addressBe === b.addressBe &&
    a.portBe === b.portBe
  )
}

/** The port that replies come from, 0 when it is that of each packet. */
function replyPort(destination: Destination): number {
  const { service } = destination
  if (service.persistent && (service.mark !== 0 || isFtp(service))) return 0
  return swap16(destination.portBe || service.portBe)
}

function replyProtocols(service: Service): ServiceProtocol[] {
  return 'fwmark' in service.key ? ['tcp', 'udp', 'sctp'] : [service.key.protocol]
}

function serviceName(key: ServiceKey): string {
  return 'fwmark' in key ? `FWM ${key.fwmark}` : `${key.protocol} ${key.address}:${key.port}`
}

function destinationName(addressBe: number, portBe: number): string {
  return `${formatAddress(addressBe)}:${swap16(portBe)}`
}
