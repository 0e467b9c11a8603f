import type {
  Command,
  DestinationKey,
  DestinationOptions,
  Replies,
  ServiceOptions,
  ServiceStatus,
  Timeouts,
} from '../core/commands.js'
import { IPIP } from '../core/destination.js'
import type { CommandError, CommandResult } from './api.js'
import { destinationId, placeKey, serviceId, type Rules, type WantedService } from './rules.js'

/** What a director has, as far as rules files speak of it. */
export type PresentService = Pick<ServiceStatus, 'service' | 'options'> & {
  destinations: (DestinationKey & DestinationOptions)[]
}

/**
 * The commands that lead from what a director has to what a rules file wants. What stays is edited in place
 * and what is right already is not touched, so connections survive; additions and changes come first, so
 * that a refusal comes before anything is taken away.
 */
export function difference(present: readonly PresentService[], wanted: Rules): Command[] {
  const made: Command[] = []
  const removed: Command[] = []
  const presentById = new Map(present.map((service) => [serviceId(service.service), service]))
  const wantedIds = new Set<string>()
  for (const service of wanted.services) {
    const id = serviceId(service.service)
    wantedIds.add(id)
    const old = presentById.get(id)
    if (!old) made.push({ op: 'add-service', service: service.service, options: service.options })
    else if (differingServiceFields(old.options, service.options).length > 0)
      made.push({ op: 'edit-service', service: service.service, options: service.options })
    const changes = destinationChanges(old, service)
    made.push(...changes.made)
    removed.push(...changes.removed)
  }
  for (const [id, { service }] of presentById)
    if (!wantedIds.has(id)) removed.push({ op: 'delete-service', service })
  if (wanted.timeouts) made.push({ op: 'set-timeouts', timeouts: wanted.timeouts })
  return [...made, ...removed]
}

function destinationChanges(
  old: PresentService | undefined,
  { service, destinations }: WantedService,
): { made: Command[]; removed: Command[] } {
  const made: Command[] = []
  const oldById = new Map(old?.destinations.map((d) => [destinationId(service, d), d]))
  const kept = new Set<string>()
  for (const { destination, options } of destinations) {
    const id = destinationId(service, destination)
    kept.add(id)
    const oldDestination = oldById.get(id)
    if (!oldDestination) made.push({ op: 'add-destination', service, destination, options })
    else if (differingDestinationFields(oldDestination, options).length > 0)
      made.push({
        op: 'edit-destination',
        service,
        // The director knows it by the port that it has for it.
        destination: { address: oldDestination.address, port: oldDestination.port },
        options,
      })
  }
  const removed: Command[] = []
  for (const [id, { address, port }] of oldById)
    if (!kept.has(id))
      removed.push({ op: 'delete-destination', service, destination: { address, port } })
  return { made, removed }
}

/** Names of the options in which a service differs from another. */
export function differingServiceFields(a: ServiceOptions, b: ServiceOptions): string[] {
  const flagsOf = ({ schedulerFlags }: ServiceOptions): string => [...schedulerFlags].sort().join()
  return differing([
    ['scheduler', a.scheduler, b.scheduler],
    ['schedulerFlags', flagsOf(a), flagsOf(b)],
    ['persistentTimeoutSeconds', a.persistentTimeoutSeconds, b.persistentTimeoutSeconds],
    ['persistentPrefixLength', a.persistentPrefixLength, b.persistentPrefixLength],
    ['onePacket', a.onePacket, b.onePacket],
    ['persistenceEngine', a.persistenceEngine ?? '', b.persistenceEngine ?? ''],
  ])
}

/** Names of the options in which a destination differs from another; how to tunnel counts where both do. */
export function differingDestinationFields(a: DestinationOptions, b: DestinationOptions): string[] {
  const fields = differing([
    ['forwarding', a.forwarding, b.forwarding],
    ['weight', a.weight, b.weight],
    ['upperThreshold', a.upperThreshold, b.upperThreshold],
    ['lowerThreshold', a.lowerThreshold, b.lowerThreshold],
  ])
  if (a.forwarding !== 'tunnel' || b.forwarding !== 'tunnel') return fields
  const { tunnel: ours = IPIP } = a
  const { tunnel: theirs = IPIP } = b
  return [
    ...fields,
    ...differing([
      ['tunnel.type', ours.type, theirs.type],
      ['tunnel.port', ours.port, theirs.port],
      ['tunnel.checksum', ours.checksum, theirs.checksum],
    ]),
  ]
}

function differing(fields: readonly [name: string, a: unknown, b: unknown][]): string[] {
  return fields.filter(([, a, b]) => a !== b).map(([name]) => name)
}

/** Carries commands out, one result a command. */
export type Execute = (commands: Command[]) => Promise<CommandResult[]>

/** The director refused part of the rules; what had been done of them has been taken back. */
export class RulesRefused extends Error {
  override readonly name = 'RulesRefused'
}

/**
 * Makes a director have what the rules want. When it refuses any of it, everything done so far is undone and
 * RulesRefused is thrown.
 *
 * @returns how many commands it took
 */
export async function applyRules(execute: Execute, wanted: Rules): Promise<number> {
  const before = await listPresent(execute)
  const timeouts = await ask<Timeouts>(execute, { op: 'get-timeouts' })
  const commands = difference(before, wanted)
  const firstRemoval = commands.findIndex(({ op }) => op.startsWith('delete-'))
  const removals = firstRemoval < 0 ? [] : commands.splice(firstRemoval)
  for (let i = 0; i < commands.length; i += BATCH) {
    const batch = commands.slice(i, i + BATCH)
    const results = await execute(batch)
    const refused = results.findIndex((result) => 'error' in result)
    if (refused < 0) continue
    await execute(difference(await listPresent(execute), { services: asWanted(before), timeouts }))
    const { code, message } = (results[refused] as { error: CommandError }).error
    const command = batch[refused]!
    const place = wanted.places?.get(
      placeKey(
        'service' in command ? command.service : undefined,
        'destination' in command ? command.destination : undefined,
      ),
    )
    const what = place === undefined ? describe(command) : `${place}: ${describe(command)}`
    throw new RulesRefused(`${what}: ${message} (${code}); nothing was changed`)
  }
  // What is there can be removed, so nothing is refused any more.
  await execute(removals)
  return commands.length + removals.length
}

/** Additions and changes handed over at a time. */
const BATCH = 1024

/** Everything that the director has, page by page. */
export async function listPresent(execute: Execute): Promise<ServiceStatus[]> {
  const services: ServiceStatus[] = []
  for (;;) {
    const page = await ask<Replies['list-services']>(execute, {
      op: 'list-services',
      from: services.length,
      limit: 256,
    })
    services.push(...page.services)
    if (page.services.length === 0 || services.length >= page.total) return services
  }
}

export async function ask<T>(execute: Execute, command: Command): Promise<T> {
  const [result] = await execute([command])
  if (!result) throw new Error(`${command.op}: the director does not answer`)
  if ('error' in result) throw new Error(`${command.op}: ${result.error.message}`)
  return result.reply as T
}

/** What is present, as if it had been wanted: new destinations stand first, so they are added last to first. */
export function asWanted(present: readonly PresentService[]): WantedService[] {
  return present.map(({ service, options, destinations }) => ({
    service,
    options,
    destinations: destinations
      .map((destination) => ({
        destination: { address: destination.address, port: destination.port },
        options: optionsOf(destination),
      }))
      .reverse(),
  }))
}

/** A destination's options alone. */
export function optionsOf(destination: DestinationOptions): DestinationOptions {
  const { forwarding, weight, upperThreshold, lowerThreshold, tunnel } = destination
  return {
    forwarding,
    weight,
    upperThreshold,
    lowerThreshold,
    ...(tunnel !== undefined && { tunnel }),
  }
}

function describe(command: Command): string {
  const service = 'service' in command && command.service ? ` ${serviceId(command.service)}` : ''
  const destination =
    'destination' in command
      ? ` server ${command.destination.address}:${command.destination.port}`
      : ''
  return `${command.op}${service}${destination}`
}
