import type {
  Command,
  DestinationKey,
  DestinationOptions,
  ServiceKey,
  ServiceOptions,
  Timeouts,
} from '../core/commands.js'
import { defaultSettings, formatSetting, settingTable } from '../core/settings.js'
import { destinationArguments, serviceArguments, serviceOptionArguments } from './ipvsadm/format.js'
import { Names } from './ipvsadm/names.js'
import { defaultFormat, type ListFormat } from './ipvsadm/parse.js'
import {
  ask,
  asWanted,
  difference,
  differingDestinationFields,
  differingServiceFields,
  listPresent,
  optionsOf,
  type Execute,
  type PresentService,
} from './reconcile.js'
import { destinationId, serviceId, type Rules } from './rules.js'

/** What is mirrored: services with their destinations, the timeouts of --set, and settings net.ipv4.vs.*. */
export interface Configuration {
  services: PresentService[]
  timeouts: Timeouts
  /** By name, without `net.ipv4.vs.`; empty where none are known. */
  settings: Record<string, string>
}

/** What a uvsd, or a kernel, has. */
export async function readConfiguration(execute: Execute): Promise<Configuration> {
  return {
    services: await listPresent(execute),
    timeouts: await ask<Timeouts>(execute, { op: 'get-timeouts' }),
    settings: await ask<Record<string, string>>(execute, { op: 'get-settings' }),
  }
}

/** What a rules file wants; timeouts that it does not speak of are as `present` has them. */
export function configurationOf(rules: Rules, present: Configuration): Configuration {
  const { tcp = 0, tcpFin = 0, udp = 0 } = rules.timeouts ?? {}
  return {
    services: rules.services.map(({ service, options, destinations }) => ({
      service,
      options,
      // What is added last stands first.
      destinations: destinations
        .map(({ destination, options }) => ({ ...destination, ...options }))
        .reverse(),
    })),
    timeouts: {
      tcp: tcp || present.timeouts.tcp,
      tcpFin: tcpFin || present.timeouts.tcpFin,
      udp: udp || present.timeouts.udp,
    },
    settings: {},
  }
}

// -- what differs

/** A service, a destination, the timeouts or a setting that uvsd and the kernel do not have alike. */
export interface Difference {
  service?: ServiceKey
  destination?: DestinationKey
  /** A setting's name, without `net.ipv4.vs.`. */
  setting?: string
  /** Names of the options that differ; none when one side has nothing of the kind. */
  fields: string[]
  /** Its options or value on each side, null where it is not there. */
  uvsd: unknown
  kernel: unknown
  /** For people, in the words of ipvsadm-save and sysctl: `- ` and the kernel's line, `+ ` and uvsd's. */
  lines: string[]
}

/** What differs between uvsd and the kernel, service by service; empty when nothing does. */
export function compareConfigurations(ours: Configuration, kernels: Configuration): Difference[] {
  const a = new Map(ours.services.map((service) => [serviceId(service.service), service]))
  const b = new Map(kernels.services.map((service) => [serviceId(service.service), service]))
  return [
    ...union(a, b).flatMap((id) => compareServices(a.get(id), b.get(id))),
    ...compare({}, ours.timeouts, kernels.timeouts, differingTimeouts, timeoutsLine),
    ...differingSettings(ours.settings, kernels.settings).flatMap(([name, value]) =>
      compare(
        { setting: name },
        value,
        kernels.settings[name],
        () => [name],
        (value) => settingLine(name, value),
      ),
    ),
  ]
}

function compareServices(ours?: PresentService, kernels?: PresentService): Difference[] {
  const { service } = (ours ?? kernels)!
  const a = destinationsById(ours)
  const b = destinationsById(kernels)
  return [
    ...compare(
      { service },
      ours?.options,
      kernels?.options,
      differingServiceFields,
      (options: ServiceOptions) => serviceLine('-A', service, options),
    ),
    ...union(a, b).flatMap((id) => {
      const { address, port } = (a.get(id) ?? b.get(id))!
      const destination = { address, port }
      return compare(
        { service, destination },
        a.has(id) ? optionsOf(a.get(id)!) : undefined,
        b.has(id) ? optionsOf(b.get(id)!) : undefined,
        differingDestinationFields,
        (options: DestinationOptions) => destinationLine('-a', service, destination, options),
      )
    }),
  ]
}

function compare<T>(
  subject: Pick<Difference, 'service' | 'destination' | 'setting'>,
  uvsd: T | undefined,
  kernel: T | undefined,
  differingFields: (a: T, b: T) => string[],
  line: (value: T) => string,
): Difference[] {
  const isOnBoth = uvsd !== undefined && kernel !== undefined
  const fields = isOnBoth ? differingFields(uvsd, kernel) : []
  if (isOnBoth && fields.length === 0) return []
  const lines = [
    ...(kernel === undefined ? [] : [`- ${line(kernel)}`]),
    ...(uvsd === undefined ? [] : [`+ ${line(uvsd)}`]),
  ]
  return [{ ...subject, fields, uvsd: uvsd ?? null, kernel: kernel ?? null, lines }]
}

function union(a: Map<string, unknown>, b: Map<string, unknown>): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].sort()
}

function destinationsById(service: PresentService | undefined) {
  return new Map(service?.destinations.map((d) => [destinationId(service.service, d), d]))
}

function differingTimeouts(a: Timeouts, b: Timeouts): string[] {
  return (['tcp', 'tcpFin', 'udp'] as const).filter((name) => a[name] !== b[name])
}

/** A vector's values stand between tabs. */
const oneLine = (value: string): string => value.trim().replace(/\s+/g, ' ')

/**
 * Settings that uvsd keeps without effect, since it has neither a sync daemon nor connection tracking. What it
 * has for them by default is nobody's wish, and the kernel's defaults are partly other ones.
 */
const withoutEffect = /^(sync_|backup_only$|conntrack$|debug_level$)/
const defaults = defaultSettings()

/** Names and values of the settings that one side wants to be otherwise than they are on the other. */
export function differingSettings(
  wanted: Record<string, string>,
  present: Record<string, string>,
): [name: string, value: string][] {
  return settingTable.flatMap((kind): [string, string][] => {
    const { name } = kind
    const [value, other] = [wanted[name], present[name]]
    if (value === undefined || other === undefined || oneLine(value) === oneLine(other)) return []
    if (withoutEffect.test(name) && oneLine(value) === oneLine(formatSetting(defaults, kind)))
      return []
    return [[name, value]]
  })
}

// -- lines

const numeric: ListFormat = { ...defaultFormat, numeric: true, exact: true }
const names = new Names()

function serviceLine(command: string, service: ServiceKey, options?: ServiceOptions): string {
  const rest = options ? serviceOptionArguments(service, options) : ''
  return `${command} ${serviceArguments(service, numeric, names)}${rest}`
}

/** Of ipvsadm-save, with the thresholds that it leaves out. */
function destinationLine(
  command: string,
  service: ServiceKey,
  { address, port }: DestinationKey,
  options?: DestinationOptions,
): string {
  const start = serviceLine(command, service)
  if (!options) return `${start} -r ${address.includes(':') ? `[${address}]` : address}:${port}`
  const { upperThreshold, lowerThreshold } = options
  return (
    `${start} ${destinationArguments(service, { address, port, ...options }, numeric, names)}` +
    (upperThreshold === 0 ? '' : ` -x ${upperThreshold}`) +
    (lowerThreshold === 0 ? '' : ` -y ${lowerThreshold}`)
  )
}

function timeoutsLine({ tcp, tcpFin, udp }: Timeouts): string {
  return `--set ${tcp} ${tcpFin} ${udp}`
}

function settingLine(name: string, value: string): string {
  return `net.ipv4.vs.${name} = ${oneLine(value)}`
}

/** A command as an administrator would type it. */
function commandLine(command: Command): string {
  switch (command.op) {
    case 'add-service':
      return serviceLine('-A', command.service, command.options)
    case 'edit-service':
      return serviceLine('-E', command.service, command.options)
    case 'delete-service':
      return serviceLine('-D', command.service)
    case 'add-destination':
      return destinationLine('-a', command.service, command.destination, command.options)
    case 'edit-destination':
      return destinationLine('-e', command.service, command.destination, command.options)
    case 'delete-destination':
      return destinationLine('-d', command.service, command.destination)
    case 'set-timeouts':
      return timeoutsLine(command.timeouts)
    case 'set-setting':
      return settingLine(command.name, command.value)
    default:
      return command.op
  }
}

// -- the mirror

/** What a mirror has made in the kernel, so that it takes away no more. */
export interface Belongings {
  /** serviceId of each service. */
  services: string[]
  /** What was in the kernel before. */
  timeouts?: Timeouts
  settings: Record<string, string>
}

/** What has come of a push. */
export interface Pushed {
  /** Changes made in the kernel. */
  made: number
  /** What was not done and why, a line each: refused by the kernel, or somebody else's. */
  refused: string[]
}

/**
 * Keeps a kernel's IPVS as a uvsd is configured. What others made there it leaves alone. What the kernel
 * refuses keeps nothing else from being done, and is tried again at the next push.
 */
export class Mirror {
  /**
   * @param belongings what an earlier mirror has made; kept up to date
   * @param adopt takes everything in the kernel for the mirror's own
   * @param remember is called whenever `belongings` has changed, before the kernel does
   */
  constructor(
    private readonly kernel: Execute,
    private readonly belongings: Belongings,
    private readonly adopt: boolean,
    private readonly remember: (belongings: Belongings) => void,
  ) {}

  /** Makes the kernel have what is wanted. */
  async push(wanted: Configuration): Promise<Pushed> {
    const present = await readConfiguration(this.kernel)
    const { belongings } = this
    const owned = new Set(belongings.services)
    if (this.adopt) for (const { service } of present.services) owned.add(serviceId(service))
    const presentById = new Map(present.services.map((s) => [serviceId(s.service), s]))
    const refused: string[] = []
    const mirrored = wanted.services.filter((service) => {
      const id = serviceId(service.service)
      const there = presentById.get(id)
      if (!there || owned.has(id)) return true
      if (compareServices(service, there).length > 0)
        refused.push(
          `${serviceArguments(service.service, numeric, names)}: the kernel has this service already, differently, and the mirror did not make it: it stays as it is (--adopt takes it over)`,
        )
      return false
    })
    const mirroredIds = mirrored.map(({ service }) => serviceId(service))
    const newTimeouts = differingTimeouts(wanted.timeouts, present.timeouts).length > 0
    const newSettings = differingSettings(wanted.settings, present.settings)

    belongings.services = [...new Set([...owned, ...mirroredIds])]
    if (newTimeouts) belongings.timeouts ??= present.timeouts
    for (const [name] of newSettings) belongings.settings[name] ??= present.settings[name]!
    this.remember(belongings)

    const commands = difference(
      present.services.filter(({ service }) => owned.has(serviceId(service))),
      { services: asWanted(mirrored), ...(newTimeouts && { timeouts: wanted.timeouts }) },
    )
    for (const [name, value] of newSettings) commands.push({ op: 'set-setting', name, value })
    const { failed, ...pushed } = await this.execute(commands)

    belongings.services = mirroredIds.filter((id) => !failed.has(id) || presentById.has(id))
    this.remember(belongings)
    return { made: pushed.made, refused: [...refused, ...pushed.refused] }
  }

  /** Takes away what the mirror has made, and puts back what it has changed. */
  async remove(): Promise<Pushed> {
    const { belongings } = this
    const owned = new Set(belongings.services)
    const present = await listPresent(this.kernel)
    const commands = difference(
      present.filter(({ service }) => owned.has(serviceId(service))),
      { services: [], ...(belongings.timeouts && { timeouts: belongings.timeouts }) },
    )
    for (const [name, value] of Object.entries(belongings.settings))
      commands.push({ op: 'set-setting', name, value })
    const { made, refused } = await this.execute(commands)
    belongings.services = []
    delete belongings.timeouts
    belongings.settings = {}
    this.remember(belongings)
    return { made, refused }
  }

  /** @returns in `failed` the ids of the services that could not be added */
  private async execute(commands: Command[]): Promise<Pushed & { failed: Set<string> }> {
    const failed = new Set<string>()
    const refused: string[] = []
    let made = 0
    for (const [i, result] of (await this.kernel(commands)).entries()) {
      const command = commands[i]!
      if (!('error' in result)) {
        made++
        continue
      }
      const id = 'service' in command && command.service ? serviceId(command.service) : undefined
      // Of a service that could not be added it goes without saying that it has no destinations.
      if (id !== undefined && failed.has(id)) continue
      if (command.op === 'add-service') failed.add(id!)
      refused.push(`${commandLine(command)}: ${result.error.message}`)
    }
    return { made, refused, failed }
  }
}
