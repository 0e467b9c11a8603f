/** Why uvs did what it did with a packet: what it had to choose from, found, and consulted. */
import { describeConnections } from '../core/describe.js'
import type {
  ConnectionStatus,
  DestinationStatus,
  Replies,
  ServiceStatus,
} from '../core/commands.js'
import type { Director } from '../core/director.js'
import { settingTable } from '../core/settings.js'
import { JIFFIES_PER_SECOND } from '../port/clock.js'
import { describeRecord } from './account.js'
import type { Difference } from './compare.js'
import { decodePacket, summary } from './decode.js'
import { replayEvents, type ReplayOptions } from './replay.js'
import type { Event, PacketDirective } from './scenario.js'
import type { Trace } from './trace.js'

/** The director around one event. */
interface Moment {
  services: ServiceStatus[]
  connections: ConnectionStatus[]
  reasons: Record<string, number>
  settings: Record<string, string>
}

/**
 * The first difference as text: the line, the packet, what each did, and why uvs did it.
 *
 * @param events of the scenario
 * @param source its text by line numbers
 */
export async function explainDifference(
  events: readonly Event[],
  name: string,
  source: ReadonlyMap<number, string>,
  difference: Difference,
): Promise<string> {
  const { line, ours, kernels, details } = difference
  const where =
    line === undefined ? `${name}: at the end` : `${name}:${line}: ${source.get(line) ?? ''}`
  const out = [where]
  const recorded = events.filter(({ kind }) => kind !== 'sysctl')
  const event = recorded[difference.index]
  if (event?.kind === 'packet') out.push(`  packet  ${event.side}: ${summary(event.packet)}`)
  out.push('', 'what differs', ...table(details))
  if (event) {
    out.push('', 'uvs', ...body(ours, source), 'the kernel', ...body(kernels, source))
  }
  if (event?.kind === 'packet') out.push('', ...(await why(events, name, event)))
  return `${out.join('\n')}\n`
}

/**
 * What uvs does with the packets of one line, and why.
 *
 * @throws RangeError when the line has no packet
 */
export async function explainLine(
  events: readonly Event[],
  name: string,
  source: ReadonlyMap<number, string>,
  line: number,
): Promise<string> {
  const event = events.find((each) => each.line === line && each.kind === 'packet')
  if (event?.kind !== 'packet') throw new RangeError(`${name}: line ${line} has no packet`)
  let trace: Trace = []
  const reasons = await why(events, name, event, (made) => (trace = made))
  const records = trace.filter((record) => 'out' in record && record.line === line)
  return (
    records.map((record) => describeRecord(record, source)).join('') +
    `${reasons.map((each) => `${each}\n`).join('')}`
  )
}

function body(record: Difference['ours'], source: ReadonlyMap<number, string>): string[] {
  if (!record) return ['  nothing: its trace has ended']
  const [, ...lines] = describeRecord(record, source).trimEnd().split('\n')
  return lines.length > 0 ? lines : ['  nothing']
}

function table(details: Difference['details']): string[] {
  const width = Math.max(...details.map(({ name }) => name.length))
  return details.map(
    ({ name, ours, kernels }) =>
      `  ${name.padEnd(width)}  uvs ${ours}\n  ${''.padEnd(width)}  kernel ${kernels}`,
  )
}

/** Replays up to the event, and looks at the director before and after it. */
async function why(
  events: readonly Event[],
  name: string,
  event: Event & PacketDirective,
  whole?: (trace: Trace) => void,
): Promise<string[]> {
  let before: Moment | undefined
  let after: Moment | undefined
  const onEvent: ReplayOptions['onEvent'] = (each, director) => {
    if (before && !after) after = look(director, event.atMs)
    if (each === event) before = look(director, event.atMs)
  }
  const upTo = events.slice(0, events.indexOf(event) + 1)
  const trace = await replayEvents(upTo, name, { onEvent })
  whole?.(trace)
  if (!before || !after) throw new Error(`${name}: line ${event.line} was not reached`)
  return [...tell(event, before, after)]
}

function look(director: Director, atMs: number): Moment {
  const now = Math.floor((atMs * JIFFIES_PER_SECOND) / 1000)
  const { reasons } = director.execute({ op: 'get-counters' })
  return {
    services: (director.execute({ op: 'list-services' }) as Replies['list-services']).services,
    connections: [...describeConnections(director.table, now)],
    reasons,
    settings: director.execute({ op: 'get-settings' }),
  }
}

function* tell(event: Event & PacketDirective, before: Moment, after: Moment): Generator<string> {
  const fields = new Map(decodePacket(event.packet))
  const source = fields.get('source') ?? ''
  const destination = fields.get('destination') ?? ''
  const sourcePort = Number(fields.get('source port') ?? 0)
  const destinationPort = Number(fields.get('destination port') ?? 0)
  const protocol = (fields.get('protocol') ?? '').toLowerCase()

  yield 'why uvs did it'
  const hits = before.connections.filter(
    (connection) =>
      (connection.client === source &&
        connection.virtual === destination &&
        connection.clientPort === sourcePort &&
        connection.virtualPort === destinationPort) ||
      (connection.destination === source &&
        connection.client === destination &&
        connection.destinationPort === sourcePort &&
        connection.clientPort === destinationPort),
  )
  for (const hit of hits) yield `  there was a connection: ${connectionText(hit)}`
  if (hits.length === 0) yield '  there was no connection of this packet'
  for (const template of before.connections.filter(
    ({ isTemplate, client }) => isTemplate && sharesPrefix(client, source),
  ))
    yield `  there was a template: ${connectionText(template)}`

  const service = before.services.find(({ service }) =>
    'fwmark' in service
      ? event.mark !== 0 && service.fwmark === event.mark
      : service.protocol === protocol &&
        service.address === destination &&
        (service.port === destinationPort || service.port === 0),
  )
  if (service) {
    const { options } = service
    yield `  service ${serviceText(service)}: ${options.scheduler}${options.schedulerFlags.map((flag) => ` ${flag}`).join('')}${
      options.persistentTimeoutSeconds > 0
        ? `, persistent for ${options.persistentTimeoutSeconds} s by /${options.persistentPrefixLength}`
        : ''
    }${options.onePacket ? ', one-packet scheduling' : ''}`
    if (service.destinations.length === 0) yield '    it has no destinations'
    for (const each of service.destinations) yield `    candidate ${destinationText(each)}`
  } else yield '  no service wants the packet by its address, port or mark'

  const known = new Set(before.connections.map(keyOf))
  for (const made of after.connections.filter((connection) => !known.has(keyOf(connection))))
    yield `  it made ${made.isTemplate ? 'a template' : 'a connection'}: ${connectionText(made)}`
  const changed = new Map(before.connections.map((each) => [keyOf(each), each.state]))
  for (const each of after.connections) {
    const state = changed.get(keyOf(each))
    if (state !== undefined && state !== each.state)
      yield `  ${each.client}:${each.clientPort} went from ${state} to ${each.state}`
  }
  for (const [reason, count] of Object.entries(after.reasons))
    if (count > (before.reasons[reason] ?? 0)) yield `  not forwarded: ${reason}`
  const settings = settingTable.filter(
    ({ name, defaults }) =>
      name in before.settings &&
      before.settings[name]!.trim().split(/\s+/).join(' ') !== defaults.join(' '),
  )
  for (const { name } of settings)
    yield `  setting net.ipv4.vs.${name} = ${before.settings[name]!.trim()}`
}

function connectionText(connection: ConnectionStatus): string {
  const { protocol, state, client, clientPort, virtual, virtualPort } = connection
  const { destination, destinationPort, expiresSeconds } = connection
  return `${protocol} ${state} ${end(client, clientPort)} > ${end(virtual, virtualPort)} > ${end(destination, destinationPort)}, ${expiresSeconds} s left`
}

function destinationText(destination: DestinationStatus): string {
  const { address, port, forwarding, weight, activeConnections, inactiveConnections } = destination
  const { upperThreshold, overloaded } = destination
  return (
    `${end(address, port)} ${forwarding}, weight ${weight}, ${activeConnections} active and ` +
    `${inactiveConnections} inactive connections` +
    (upperThreshold > 0 ? `, upper threshold ${upperThreshold}` : '') +
    (overloaded ? ', overloaded' : '')
  )
}

function serviceText({ service }: ServiceStatus): string {
  return 'fwmark' in service
    ? `mark ${service.fwmark}`
    : `${service.protocol} ${end(service.address, service.port)}`
}

function end(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

function keyOf(connection: ConnectionStatus): string {
  const { protocol, client, clientPort, virtual, virtualPort, isTemplate } = connection
  return [protocol, client, clientPort, virtual, virtualPort, isTemplate].join(' ')
}

/** Templates hold a client's network; whether by this netmask or that, it begins alike. */
function sharesPrefix(network: string, address: string): boolean {
  const [first] = network.split(/[.:]/)
  return address.split(/[.:]/)[0] === first
}
