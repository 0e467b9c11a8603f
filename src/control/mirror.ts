import type { DestinationOptions, Timeouts } from '../core/commands.js'
import { destinationArguments, serviceArguments, serviceOptionArguments } from './ipvsadm/format.js'
import { Names } from './ipvsadm/names.js'
import type { ListFormat } from './ipvsadm/parse.js'
import {
  ask,
  asWanted,
  difference,
  listPresent,
  type Execute,
  type PresentService,
} from './reconcile.js'
import { serviceId, type Rules } from './rules.js'

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

/** A line that one side has and the other has not, in the words of ipvsadm-save and sysctl. */
export interface DifferentLine {
  /** `+` when only uvsd has it, `-` when only the kernel has it. */
  sign: '+' | '-'
  line: string
}

/** What differs between uvsd and the kernel, service by service; empty when nothing does. */
export function compareConfigurations(
  ours: Configuration,
  kernels: Configuration,
): DifferentLine[] {
  const a = new Map(ours.services.map((service) => [serviceId(service.service), service]))
  const b = new Map(kernels.services.map((service) => [serviceId(service.service), service]))
  const lines: DifferentLine[] = []
  for (const id of [...new Set([...a.keys(), ...b.keys()])].sort())
    lines.push(...differentLines(linesOf(a.get(id)), linesOf(b.get(id))))
  lines.push(...differentLines([timeoutsLine(ours)], [timeoutsLine(kernels)]))
  const shared = Object.keys(ours.settings).filter((name) => name in kernels.settings)
  for (const name of shared.sort())
    lines.push(...differentLines([settingLine(name, ours)], [settingLine(name, kernels)]))
  return lines
}

function differentLines(ours: readonly string[], kernels: readonly string[]): DifferentLine[] {
  return [
    ...kernels
      .filter((line) => !ours.includes(line))
      .map((line): DifferentLine => ({ sign: '-', line })),
    ...ours
      .filter((line) => !kernels.includes(line))
      .map((line): DifferentLine => ({ sign: '+', line })),
  ]
}

const numeric: ListFormat = {
  numeric: true,
  stats: false,
  rate: false,
  thresholds: false,
  persistentConnections: false,
  tunnelInfo: false,
  exact: true,
  sort: true,
  json: false,
}
const names = new Names()

/** A service as lines of ipvsadm-save, with the thresholds that ipvsadm-save leaves out. */
function linesOf(service: PresentService | undefined): string[] {
  if (!service) return []
  const name = serviceArguments(service.service, numeric, names)
  return [
    `-A ${name}${serviceOptionArguments(service.service, service.options)}`,
    ...service.destinations.map(
      (destination) =>
        `-a ${name} ${destinationArguments(service.service, destination, numeric, names)}${thresholds(destination)}`,
    ),
  ]
}

function thresholds({ upperThreshold, lowerThreshold }: DestinationOptions): string {
  return (
    (upperThreshold === 0 ? '' : ` -x ${upperThreshold}`) +
    (lowerThreshold === 0 ? '' : ` -y ${lowerThreshold}`)
  )
}

function timeoutsLine({ timeouts: { tcp, tcpFin, udp } }: Configuration): string {
  return `--set ${tcp} ${tcpFin} ${udp}`
}

function settingLine(name: string, { settings }: Configuration): string {
  return `net.ipv4.vs.${name} = ${settings[name]!.replace(/\s+/g, ' ')}`
}

/** What a mirror has made in the kernel, so that it takes away no more. */
export interface Belongings {
  /** serviceId of each service. */
  services: string[]
  /** What was in the kernel before. */
  timeouts?: Timeouts
  settings: Record<string, string>
}

/** The kernel's IPVS has a service that the mirror did not make, and that uvsd wants, too. */
export class NotOurs extends Error {
  override readonly name = 'NotOurs'
}

/**
 * Keeps a kernel's IPVS as a uvsd is configured. Services that others made stay, and are no reason to fail
 * unless uvsd has them too.
 */
export class Mirror {
  /**
   * @param belongings what an earlier mirror has made; kept up to date
   * @param adopt takes everything in the kernel for the mirror's own
   * @param remember is called whenever `belongings` has changed, before the kernel does
   */
  constructor(
    private readonly kernel: Execute,
    readonly belongings: Belongings,
    private readonly adopt: boolean,
    private readonly remember: (belongings: Belongings) => void,
  ) {}

  /**
   * Makes the kernel have what is wanted.
   *
   * @returns how many changes it took
   * @throws NotOurs, or an Error with the kernel's refusal; what came before it stays done
   */
  async push(wanted: Configuration): Promise<number> {
    const present = await readConfiguration(this.kernel)
    const { belongings } = this
    const owned = new Set(belongings.services)
    const wantedIds = new Set(wanted.services.map(({ service }) => serviceId(service)))
    const foreign = present.services.filter(({ service }) => !owned.has(serviceId(service)))
    if (this.adopt) for (const { service } of foreign) owned.add(serviceId(service))
    else {
      const contested = foreign.find(({ service }) => wantedIds.has(serviceId(service)))
      if (contested)
        throw new NotOurs(
          `the kernel has ${serviceId(contested.service)} already, and this mirror did not make it; --adopt takes over what the kernel has`,
        )
    }
    const before = Object.entries(present.settings).filter(
      ([name, value]) =>
        wanted.settings[name] !== undefined && !sameSetting(wanted.settings[name], value),
    )
    belongings.services = [...new Set([...owned, ...wantedIds])]
    if (!sameTimeouts(present.timeouts, wanted.timeouts)) belongings.timeouts ??= present.timeouts
    belongings.settings = { ...Object.fromEntries(before), ...belongings.settings }
    this.remember(belongings)

    const ours = present.services.filter(({ service }) => owned.has(serviceId(service)))
    const commands = difference(ours, {
      services: asWanted(wanted.services),
      ...(!sameTimeouts(present.timeouts, wanted.timeouts) && { timeouts: wanted.timeouts }),
    })
    for (const [name] of before)
      commands.push({ op: 'set-setting', name, value: wanted.settings[name]! })
    await this.execute(commands)
    belongings.services = [...wantedIds]
    this.remember(belongings)
    return commands.length
  }

  /** Takes away what the mirror has made, and puts back what it has changed. */
  async remove(): Promise<void> {
    const { belongings } = this
    const present = await listPresent(this.kernel)
    const owned = new Set(belongings.services)
    const ours = present.filter(({ service }) => owned.has(serviceId(service)))
    const commands = difference(ours, {
      services: [],
      ...(belongings.timeouts && { timeouts: belongings.timeouts }),
    })
    for (const [name, value] of Object.entries(belongings.settings))
      commands.push({ op: 'set-setting', name, value })
    await this.execute(commands)
    belongings.services = []
    delete belongings.timeouts
    belongings.settings = {}
    this.remember(belongings)
  }

  private async execute(commands: Parameters<Execute>[0]): Promise<void> {
    const results = await this.kernel(commands)
    results.forEach((result, i) => {
      if ('error' in result) {
        const command = commands[i]!
        const service =
          'service' in command && command.service ? ` (${serviceId(command.service)})` : ''
        throw new Error(`the kernel refuses to ${result.error.message}${service}`)
      }
    })
  }
}

function sameTimeouts(a: Timeouts, b: Timeouts): boolean {
  return a.tcp === b.tcp && a.tcpFin === b.tcpFin && a.udp === b.udp
}

function sameSetting(a: string, b: string): boolean {
  return a.trim().replace(/\s+/g, ' ') === b.trim().replace(/\s+/g, ' ')
}
