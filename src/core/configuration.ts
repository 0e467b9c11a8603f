import { JIFFIES_PER_SECOND } from '../port/clock.js'
import { AddressSort, type Neighbours } from '../port/neighbours.js'
import { IpProtocol, swap16 } from '../wire/ipv4.js'
import * as ipv6 from '../wire/ipv6.js'
import {
  formatAddress,
  formatEnd,
  isSameAddress,
  noAddress,
  parseAddress,
  type Address,
} from './address.js'
import {
  IpvsError,
  type Command,
  type Counters,
  type DestinationKey,
  type DestinationOptions,
  type DestinationStatus,
  type MarkRule,
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
import { isPersistenceEngine } from './engine-templates.js'
import type { Defence } from './defence.js'
import type { Estimator } from './estimator.js'
import { timerFires } from './timer-wheel.js'
import type { MarkRules } from './marks.js'
import { joinParts } from './parts.js'
import { Cost, Work } from './work.js'
import { CommonScheduler } from './workers/common-scheduler.js'
import type { CommonState } from './workers/common-state.js'
import { CLIENT_PREFIX_IPV6 } from './workers/ownership.js'
import { protocolNumber } from './protocol-names.js'
import type { Protocols } from './protocols/index.js'
import type { RealServers } from './real-servers.js'
import { schedulerFlagBits, schedulerFlagsOf } from './schedulers/flags.js'
import { schedulers } from './schedulers/index.js'
import type { Scheduler, SchedulerContext, SchedulerKind } from './schedulers/scheduler.js'
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
/** What a director shares with those of other workers. */
export interface Crew {
  common: CommonState
  clientPrefixLength: number
}

/** A destination in the trash that no connection of any worker uses: its slot, and its removal. */
export interface Forgettable {
  slot: number
  discards: number
}

/** Destinations that the directors of a crew forget at a time. */
const MOST_FORGOTTEN = 64

/** The trash is looked through so often, from the first destination in it on. */
const SWEEP_PERIOD_JIFFIES = TRASH_PERIOD_JIFFIES / 2

/**
 * What a director is set up to do, and the commands that change and show it. Commands are refused as the
 * kernel refuses them (net/netfilter/ipvs/ip_vs_ctl.c), and one that is refused has changed nothing.
 */
export class Configuration {
  /** Removed destinations, kept for their connections and counts (ip_vs_ctl.c's dest_trash), by `trashKey`. */
  private readonly trash = new Map<string, Destination>()
  /** Goes through the trash, while it does. */
  private sweeping: Iterator<Destination> | undefined
  private forgettable: Forgettable[] = []
  /** How many times a destination was removed. */
  private discards = 0
  /**
   * Counts the changes by which packets may become requests to a service that were none, or the other way round: the
   * same for directors that have carried out the same commands. 32 bits.
   */
  version = 0
  private sweepDue = 0
  /** When connections of removed destinations end, unless it is undefined (expire_nodest_conn). */
  private dropUnavailableDue: number | undefined
  /** The same of those that are being ended. */
  private dropUnavailableBegan: number | undefined
  /** Jiffies. */
  now: number

  constructor(
    private readonly services: ServiceRegistry,
    private readonly slots: DestinationSlots,
    private readonly realServers: RealServers,
    private readonly table: ConnectionTable,
    private readonly counters: CounterRegion,
    private readonly estimator: Estimator,
    private readonly protocols: Protocols,
    private readonly marks: MarkRules,
    private readonly settings: Settings,
    private readonly defence: Defence,
    private readonly connections: Connections,
    private readonly schedulerContext: SchedulerContext,
    private readonly sampledCounters: boolean,
    /** Why addresses of IPv6 are refused, undefined when they are not. */
    private readonly noIpv6: string | undefined,
    private readonly neighbours: Neighbours,
    private readonly crew: Crew | undefined,
  ) {
    this.now = connections.now
    estimator.start(counters.total)
  }

  execute<C extends Command>(command: C): Reply<C> {
    const { value } = this.carryOut(command, new Work(Infinity)).next()
    return joinParts(command.op, [value as Reply<C>])
  }

  /**
   * Carries out one command. What grows with the number of services and destinations is done, and answered, in parts:
   * each when `work.left` is above 0 again. No other command may come between.
   */
  *carryOut(command: Command, work: Work): Generator<Part, Part> {
    switch (command.op) {
      case 'delete-service':
        return yield* this.deleteService(this.service(command.service), work)
      case 'flush':
        for (let service = this.services.first(); service; service = this.services.first())
          yield* this.deleteService(service, work)
        return null
      case 'zero':
        return yield* this.zero(command.service, work)
      case 'list-services':
        return yield* this.listServices(command, work)
      case 'get-steering':
        return yield* this.steering(work)
      case 'list-engine-templates':
        return yield* this.connections.engineTemplates.list(work)
      default:
        return this.dispatch(command)
    }
  }

  private dispatch(command: Exclude<Command, { op: InParts }>): Part {
    switch (command.op) {
      case 'add-service':
        return this.addService(command.service, command.options)
      case 'edit-service':
        return this.editService(command.service, command.options)
      case 'add-destination':
        return this.addDestination(command.service, command.destination, command.options)
      case 'edit-destination':
        return this.editDestination(command.service, command.destination, command.options)
      case 'delete-destination':
        return this.deleteDestination(command.service, command.destination)
      case 'set-timeouts':
        this.protocols.setTimeouts(command.timeouts)
        return null
      case 'get-timeouts':
        return this.protocols.getTimeouts()
      case 'set-marks':
        this.setMarks(command.rules)
        return null
      case 'list-marks':
        return [...this.marks.list]
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

  /**
   * Does what is due: to be called before any packet or command of that time, which is `now`.
   *
   * @returns false when there is more of it to be done at that time
   */
  advance(now: number, work: Work): boolean {
    if (this.dropUnavailableDue !== undefined && ((now - this.dropUnavailableDue) | 0) >= 0) {
      this.dropUnavailableBegan ??= this.dropUnavailableDue
      this.dropUnavailableDue = undefined
    }
    if (this.dropUnavailableBegan !== undefined) {
      if (!this.connections.dropUnavailable(work)) return false
      this.dropUnavailableBegan = undefined
    }
    if (this.trash.size > 0 && ((now - this.sweepDue) | 0) >= 0) {
      if (!this.sweepTrash(now, work)) return false
      this.scheduleSweep()
    }
    return true
  }

  /** When there may be something to do next: jiffies, `limit` at the latest. */
  due(limit: number): number {
    let due = limit
    if (this.trash.size > 0) due = earlier(this.sweepDue, due)
    if (this.dropUnavailableDue !== undefined) due = earlier(this.dropUnavailableDue, due)
    if (this.dropUnavailableBegan !== undefined) due = earlier(this.dropUnavailableBegan, due)
    return due
  }

  private scheduleSweep(): void {
    this.sweepDue = timerFires((this.now + SWEEP_PERIOD_JIFFIES) | 0, SWEEP_PERIOD_JIFFIES)
  }

  /** Frees destinations in the trash that no connection has used for their period (ip_vs_dest_trash_expire). */
  private sweepTrash(now: number, work: Work): boolean {
    this.sweeping ??= this.trash.values()
    for (;;) {
      if (work.left <= 0) return false
      const { value: destination } = this.sweeping.next() as IteratorResult<Destination, undefined>
      if (destination === undefined) break
      work.left -= Cost.look
      // A sweep that took many calls is of an earlier moment than what was removed between them.
      const isLater = ((destination.discardedJiffies - now) | 0) > 0
      if (isLater || destination.references > 0) {
        destination.idleSinceJiffies = undefined
      } else if (destination.idleSinceJiffies === undefined) {
        destination.idleSinceJiffies = now
      } else if (((now - destination.idleSinceJiffies) | 0) >= TRASH_PERIOD_JIFFIES) {
        work.left -= Cost.forget
        if (this.crew === undefined) this.release(destination)
        else if (this.crew.common.isLeader)
          this.forgettable.push({ slot: destination.slot, discards: destination.discards })
      }
    }
    this.sweeping = undefined
    return true
  }

  /**
   * What may be forgotten since the last call, or the first of it. Of several directors only the leader decides that,
   * since they name destinations by the same slots, and connections end at a different moment for each.
   */
  takeForgettable(): Forgettable[] {
    return this.forgettable.splice(0, MOST_FORGOTTEN)
  }

  get hasForgettable(): boolean {
    return this.forgettable.length > 0
  }

  /** Forgets what the leader has found, unless it has been used again meanwhile. */
  forget(destinations: readonly Forgettable[]): void {
    for (const { slot, discards } of destinations) {
      const destination = this.slots.all[slot]
      if (destination === undefined || destination.available) continue
      if (destination.discards === discards) this.release(destination)
    }
  }

  /** Frees a destination in the trash. */
  private release(destination: Destination): void {
    this.trash.delete(trashKeyOf(destination))
    this.slots.release(destination)
    this.services.expectNoRequests(destination.service)
    this.advanceVersion()
    this.estimator.release(destination.counters)
    this.counters.release(destination.counters)
  }

  private advanceVersion(): void {
    this.version = (this.version + 1) | 0
  }

  // -- services

  private addService(key: ServiceKey, options: ServiceOptions): null {
    const parsed = this.parseServiceKey(key)
    if (this.lookUp(parsed))
      throw new IpvsError('EEXIST', `virtual service ${serviceName(key)} exists already`)
    const scheduler = checkServiceOptions(parsed.address.family, options)
    this.checkPersistence(parsed.address.family, key, options)
    const slot = this.counterSlot()
    const { protocol, address, portBe, mark } = parsed
    const service = new Service({ ...key }, protocol, address, portBe, mark, slot, options)
    applyServiceOptions(service, options)
    service.scheduler = this.createScheduler(scheduler, service)
    this.services.add(service)
    this.advanceVersion()
    this.estimator.start(slot)
    return null
  }

  private editService(key: ServiceKey, options: ServiceOptions): null {
    const service = this.service(key)
    const scheduler = checkServiceOptions(service.family, options)
    this.checkPersistence(service.family, key, options)
    if (service.options.scheduler !== options.scheduler) {
      const successor = this.createScheduler(scheduler, service)
      service.scheduler.done?.()
      service.scheduler = successor
    }
    applyServiceOptions(service, options)
    return null
  }

  private createScheduler(kind: SchedulerKind, service: Service): Scheduler {
    const scheduler = kind.create(service, this.schedulerContext)
    return this.crew ? new CommonScheduler(service, scheduler, this.crew.common) : scheduler
  }

  /**
   * The clients that a template is for have to belong to one worker.
   *
   * @throws IpvsError ENOTSUP
   */
  private checkPersistence(family: number, key: ServiceKey, options: ServiceOptions): void {
    if (!this.crew || options.persistentTimeoutSeconds === 0) return
    const least = family === 6 ? CLIENT_PREFIX_IPV6 : this.crew.clientPrefixLength
    const { persistentPrefixLength } = options
    if (persistentPrefixLength >= least) return
    const remedy =
      family === 6 ? 'one worker' : `--client-prefix ${persistentPrefixLength}, or with one worker`
    throw new IpvsError(
      'ENOTSUP',
      `${serviceName(key)}: clients of a network of ${persistentPrefixLength} bits may come to several workers here, which persistence does not follow; start uvsd with ${remedy}`,
    )
  }

  private *deleteService(service: Service, work: Work): Generator<null, null> {
    this.services.remove(service)
    this.advanceVersion()
    service.scheduler.done?.()
    for (const destination of service.destinations.splice(0)) {
      if (work.left <= 0) yield null
      work.left -= Cost.forget
      this.discard(destination)
    }
    work.left -= Cost.forget
    if (work.left <= 0) yield null
    this.estimator.release(service.counters)
    this.counters.release(service.counters)
    return null
  }

  /** @throws IpvsError ESRCH when there is no such service */
  private service(key: ServiceKey): Service {
    const service = this.lookUp(this.parseServiceKey(key))
    if (!service) throw new IpvsError('ESRCH', `no virtual service ${serviceName(key)}`)
    return service
  }

  private lookUp(key: ParsedServiceKey): Service | undefined {
    const { family, words } = key.address
    return key.mark !== 0
      ? this.services.getByMark(family, key.mark)
      : this.services.get(family, key.protocol, words, 0, key.portBe)
  }

  /** @throws IpvsError EAFNOSUPPORT for IPv6 where the director cannot have it */
  private parseServiceKey(key: ServiceKey): ParsedServiceKey {
    const parsed = parseServiceKey(key)
    this.checkFamily(parsed.address, serviceName(key))
    return parsed
  }

  private checkFamily({ family }: Address, name: string): void {
    if (family === 6 && this.noIpv6 !== undefined)
      throw new IpvsError('EAFNOSUPPORT', `${name}: ${this.noIpv6}`)
  }

  // -- destinations

  private addDestination(
    serviceKey: ServiceKey,
    key: DestinationKey,
    options: DestinationOptions,
  ): null {
    const service = this.service(serviceKey)
    const { address, portBe } = parseDestinationKey(key)
    const name = formatEnd(address, swap16(portBe))
    this.checkFamily(address, name)
    checkDestinationOptions(options)
    checkFamilies(service, address, options)
    if (find(service, address, portBe))
      throw new IpvsError('EEXIST', `${serviceName(serviceKey)} has destination ${name} already`)
    let destination = this.revive(service, address, portBe)
    if (!destination) {
      checkDestinationAddress(address, this.neighbours)
      const counters = this.counterSlot()
      destination = new Destination(
        this.slots.take(),
        counters,
        service,
        address,
        portBe,
        this.crew?.common,
      )
      this.slots.put(destination)
      this.services.expectRequests(service)
      if (address.family === 6) this.services.hadIpv6 = true
    }
    applyDestinationOptions(destination, options)
    this.slots.expectReplies(destination)
    this.advanceVersion()
    destination.lastWeight = options.weight
    destination.available = true
    service.destinations.unshift(destination)
    this.realServers.add(destination)
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
    checkFamilies(service, parseDestinationKey(key).address, options)
    const destination = this.destination(service, key)
    applyDestinationOptions(destination, options)
    this.slots.expectReplies(destination)
    this.advanceVersion()
    service.scheduler.updated?.(destination)
    return null
  }

  private deleteDestination(serviceKey: ServiceKey, key: DestinationKey): null {
    const service = this.service(serviceKey)
    const destination = this.destination(service, key)
    const index = service.destinations.indexOf(destination)
    service.destinations.splice(index, 1)
    service.scheduler.removed?.(destination, index)
    this.discard(destination)
    return null
  }

  /** @throws IpvsError ENOENT when the service has no such destination */
  private destination(service: Service, key: DestinationKey): Destination {
    const { address, portBe } = parseDestinationKey(key)
    const destination = find(service, address, portBe)
    if (!destination)
      throw new IpvsError(
        'ENOENT',
        `${serviceName(service.key)} has no destination ${formatEnd(address, swap16(portBe))}`,
      )
    return destination
  }

  /** Into the trash with a destination that is in no service's list any more: connections may still use it. */
  private discard(destination: Destination): void {
    destination.available = false
    destination.discards = ++this.discards
    destination.discardedJiffies = this.now
    this.realServers.remove(destination)
    this.estimator.stop(destination.counters)
    destination.idleSinceJiffies = undefined
    if (this.trash.size === 0) this.scheduleSweep()
    this.trash.set(trashKeyOf(destination), destination)
    if (this.settings.expireNoDestinationConnections !== 0)
      this.dropUnavailableDue ??= timerFires((this.now + 1) | 0, 1)
  }

  /**
   * A destination that was removed from the same service, with its connections and counts. If the service
   * itself is a new one, the destination's counters begin again.
   */
  private revive(service: Service, address: Address, portBe: number): Destination | undefined {
    const key = trashKey(service, address, portBe)
    const destination = this.trash.get(key)
    if (!destination) return undefined
    this.trash.delete(key)
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

  private *zero(key: ServiceKey | undefined, work: Work): Generator<null, null> {
    const services = key ? [this.service(key)] : this.services.inListingOrder()
    for (const service of services)
      for (const { counters } of [...service.destinations, service]) {
        if (work.left <= 0) yield null
        work.left -= Cost.forget
        this.zeroSlot(counters)
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

  private setMarks(rules: readonly MarkRule[]): void {
    for (const { source, destination } of rules)
      for (const text of [source, destination])
        if (this.noIpv6 !== undefined && text?.includes(':'))
          throw new IpvsError('EAFNOSUPPORT', `${text}: ${this.noIpv6}`)
    this.marks.set(rules)
    this.advanceVersion()
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

  private *listServices(
    command: Extract<Command, { op: 'list-services' }>,
    work: Work,
  ): Generator<Replies['list-services'], Replies['list-services']> {
    const { service: only, from = 0, limit = Infinity } = command
    const services = only ? [this.service(only)].slice(from) : this.services.inListingOrder(from)
    const total = only ? 1 : this.services.size
    const tableSize = this.table.maxConnections
    let listed: ServiceStatus[] = []
    let count = 0
    for (const service of services) {
      if (count++ >= limit) break
      let status = this.serviceStatus(service)
      listed.push(status)
      work.left -= Cost.describe
      for (const destination of service.destinations) {
        if (work.left <= 0) {
          yield { services: listed, total, tableSize }
          status = { ...status, destinations: [] }
          listed = [status]
        }
        work.left -= Cost.describe
        status.destinations.push(this.destinationStatus(destination))
      }
      if (work.left > 0) continue
      yield { services: listed, total, tableSize }
      listed = []
    }
    return { services: listed, total, tableSize }
  }

  /** Without its destinations yet. */
  private serviceStatus(service: Service): ServiceStatus {
    return {
      service: service.key,
      options: service.options,
      counters: this.countersOf(service.counters),
      rates: this.counters.rates(service.counters),
      destinations: [],
    }
  }

  private destinationStatus(destination: Destination): DestinationStatus {
    this.crew?.common.refresh(destination)
    return {
      address: formatAddress(destination.address),
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
  private *steering(work: Work): Generator<Steering, Steering> {
    let part: Steering = { virtual: [], replies: [], marks: [] }
    for (const { key } of this.services.inListingOrder()) {
      if (work.left <= 0) {
        yield part
        part = { virtual: [], replies: [], marks: [] }
      }
      work.left -= Cost.look
      if ('fwmark' in key) continue
      work.left -= Cost.name
      part.virtual.push({ protocol: key.protocol, address: key.address, port: key.port })
    }
    for (const destination of this.slots.all) {
      if (work.left <= 0) {
        yield part
        part = { virtual: [], replies: [], marks: [] }
      }
      work.left -= Cost.look
      if (!destination) continue
      this.crew?.common.refresh(destination)
      const isMasquerading = destination.available && destination.forwarding === 'masquerade'
      if (!isMasquerading && destination.masqueradedConnections === 0) continue
      const address = formatAddress(destination.address)
      const port = replyPort(destination)
      for (const protocol of replyProtocols(destination.service)) {
        work.left -= Cost.name
        part.replies.push({ protocol, address, port })
      }
    }
    for (const rule of this.marks.list) {
      if (work.left <= 0) {
        yield part
        part = { virtual: [], replies: [], marks: [] }
      }
      work.left -= Cost.name
      if (families.some((family) => this.services.getByMark(family, rule.mark) !== undefined))
        part.marks.push(rule)
    }
    return part
  }
}

/** Commands that are carried out in parts. */
type InParts =
  'delete-service' | 'flush' | 'zero' | 'list-services' | 'get-steering' | 'list-engine-templates'

/** A reply, or a part of it. */
type Part = Replies[keyof Replies] | null

function earlier(a: number, b: number): number {
  return ((a - b) | 0) < 0 ? a : b
}

const families = [4, 6] as const

interface ParsedServiceKey {
  protocol: number
  /** Of services by mark the family alone. */
  address: Address
  portBe: number
  /** 0 for services by address. */
  mark: number
}

function parseServiceKey(key: ServiceKey): ParsedServiceKey {
  if ('fwmark' in key) {
    const { fwmark, family } = key
    if (!Number.isInteger(fwmark) || fwmark < 1 || fwmark > MAX_MARK)
      throw new IpvsError('EINVAL', `firewall mark ${fwmark} is not within 1 to ${MAX_MARK}`)
    return { protocol: IpProtocol.tcp, address: noAddress[family], portBe: 0, mark: fwmark }
  }
  const protocol = protocolNumber(key.protocol)
  if (protocol === undefined) throw new IpvsError('EINVAL', `unknown protocol '${key.protocol}'`)
  return { protocol, address: addressOf(key.address), portBe: parsePort(key.port), mark: 0 }
}

function parseDestinationKey(key: DestinationKey): { address: Address; portBe: number } {
  return { address: addressOf(key.address), portBe: parsePort(key.port) }
}

function addressOf(text: string): Address {
  const address = parseAddress(text)
  if (!address) throw new IpvsError('EINVAL', `'${text}' is no IP address`)
  return address
}

function parsePort(port: number): number {
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new IpvsError('EINVAL', `port ${port} is not within 0 to 65535`)
  return swap16(port)
}

/** @returns the scheduler that the options name */
function checkServiceOptions(family: number, options: ServiceOptions): SchedulerKind {
  const scheduler = schedulers.get(options.scheduler)
  if (!scheduler) throw new IpvsError('ENOENT', `no scheduler '${options.scheduler}'`)
  if (options.persistenceEngine !== undefined && !isPersistenceEngine(options.persistenceEngine))
    throw new IpvsError('ENOENT', `no persistence engine '${options.persistenceEngine}'`)
  if (schedulerFlagBits(options.scheduler, options.schedulerFlags) === undefined)
    throw new IpvsError(
      'EINVAL',
      `'${options.schedulerFlags.join(',')}': not all of these are flags of '${options.scheduler}'`,
    )
  const prefix = options.persistentPrefixLength
  const [shortest, longest] = family === 6 ? [1, 128] : [0, 32]
  if (!Number.isInteger(prefix) || prefix < shortest || prefix > longest)
    throw new IpvsError('EINVAL', `prefix length ${prefix} is not within ${shortest} to ${longest}`)
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
  const { scheduler, schedulerFlags } = options
  const flags = schedulerFlagBits(scheduler, schedulerFlags)!
  service.options = { ...options, schedulerFlags: schedulerFlagsOf(scheduler, flags) }
  service.schedulerFlags = flags
  service.persistent = options.persistentTimeoutSeconds > 0
  service.persistentTimeoutJiffies = options.persistentTimeoutSeconds * JIFFIES_PER_SECOND
  service.clientPrefixLength = options.persistentPrefixLength
  service.goesByCallId = options.persistenceEngine === 'sip'
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

function checkDestinationAddress(address: Address, neighbours: Neighbours): void {
  const { family, words } = address
  const isHost =
    family === 6
      ? ipv6.isUnicast(words, 0) && !ipv6.isLinkLocal(words, 0)
      : neighbours.sortOf(words[0]!) <= AddressSort.local
  if (!isHost) throw new IpvsError('EINVAL', `${formatAddress(address)} is no address of a host`)
}

/** A packet can only be tunneled to a destination of the other family. */
function checkFamilies(service: Service, address: Address, options: DestinationOptions): void {
  if (address.family !== service.family && options.forwarding !== 'tunnel')
    throw new IpvsError(
      'EINVAL',
      `${formatAddress(address)}: an IPv${address.family} destination of an IPv${service.family} service has to be tunneled to`,
    )
}

/** As __ip_vs_update_dest: every option is replaced, and a threshold that is raised or lifted ends overload. */
function applyDestinationOptions(destination: Destination, options: DestinationOptions): void {
  destination.weight = options.weight
  if (options.weight !== 0) destination.lastWeight = options.weight
  destination.forwarding = options.forwarding
  const { forwarding, tunnel = IPIP } = options
  destination.tunnel = forwarding !== 'tunnel' || tunnel.type === 'ipip' ? IPIP : { ...tunnel }
  if (options.upperThreshold === 0 || options.upperThreshold > destination.upperThreshold)
    destination.setOverloaded(false)
  destination.upperThreshold = options.upperThreshold
  destination.lowerThreshold = options.lowerThreshold
  // Forget the cached next hop.
  destination.hopGeneration = 0
}

function find(service: Service, address: Address, portBe: number): Destination | undefined {
  return service.destinations.find(
    (destination) => isSameAddress(destination.address, address) && destination.portBe === portBe,
  )
}

/**
 * What a destination comes back by from the trash: its address and port, and what its service goes by. It is there
 * once, since whoever adds it again takes it out.
 */
function trashKey(service: Service, address: Address, portBe: number): string {
  const { mark, protocol, address: virtual } = service
  const ends = `${virtual.words.join()} ${service.portBe} ${address.words.join()} ${portBe}`
  return `${virtual.family} ${address.family} ${mark} ${protocol} ${ends}`
}

function trashKeyOf(destination: Destination): string {
  return trashKey(destination.service, destination.address, destination.portBe)
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
  if ('fwmark' in key) return `FWM ${key.fwmark}`
  const host = key.address.includes(':') ? `[${key.address}]` : key.address
  return `${key.protocol} ${host}:${key.port}`
}
