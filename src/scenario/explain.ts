/** Why uvs did what it did with a packet: what it had to choose from, found, and consulted. */
import { describeConnections } from '../core/describe.js'
import type { ConnectionStatus, DestinationStatus, ServiceStatus } from '../core/commands.js'
import type { Director } from '../core/director.js'
import { settingTable } from '../core/settings.js'
import { JIFFIES_PER_SECOND } from '../port/clock.js'
import { describeRecord } from './account.js'
import type { Difference } from './compare.js'
import { decodePacket, summary } from './decode.js'
import { eventsOf } from './events.js'
import { gatheredWith, type Gathered } from './fragments.js'
import { addressBytes } from './packets.js'
import { replayEvents, type ReplayOptions } from './replay.js'
import type { Event, PacketDirective, Scenario } from './scenario.js'
import type { Trace, TraceRecord } from './trace.js'

/** Where a difference that shows only in a listing began; see `beginningOf`. */
export interface Beginning {
  /** Of the event, among the scenario's. */
  readonly index: number
  /** Whether it was there before the event, so that only time had passed. */
  readonly isBefore: boolean
  /** Of the listings of connections or services at that moment. */
  readonly difference: Difference
}

/** The director around one event. */
interface Moment {
  services: readonly ServiceStatus[]
  connections: readonly ConnectionStatus[]
  reasons: Readonly<Record<string, number>>
  settings: Readonly<Record<string, string>>
}

/** The first difference as text: the line, the packet, what each did, and why uvs did it. */
export async function explainDifference(
  scenario: Scenario,
  difference: Difference,
  beginning?: Beginning,
): Promise<string> {
  const events = eventsOf(scenario)
  const source = sourceOf(scenario)
  const { name } = scenario
  const { line, ours, kernels, details } = difference
  const event = events.filter(({ kind }) => kind !== 'sysctl')[difference.index]
  const out: string[] = []
  if (event && line !== undefined) {
    out.push(`${name}:${line}: ${source.get(line) ?? ''}`, ...packetLines(event))
    out.push('', 'what differs', ...table(details))
    if (event.kind === 'packet') {
      out.push('', 'uvs', ...body(ours, source), 'the kernel', ...body(kernels, source))
      out.push('', ...(await why(events, name, event)))
    }
  } else out.push(`${name}: ${line === undefined ? 'at the end' : ''}`, '', ...table(details))
  if (beginning) out.push('', ...(await tellBeginning(events, name, source, beginning)))
  return `${out.join('\n')}\n`
}

async function tellBeginning(
  events: readonly Event[],
  name: string,
  source: ReadonlyMap<number, string>,
  { index, isBefore, difference }: Beginning,
): Promise<string[]> {
  const event = events[index]!
  const { line, atMs } = event
  const directive = `line ${line}: ${source.get(line) ?? ''}`
  const where = isBefore ? `as time passed to ${atMs / 1000} s, before ${directive}` : directive
  const out = [`it began ${isBefore ? '' : 'with '}${where}`]
  if (!isBefore) out.push(...packetLines(event))
  out.push('', 'what differs since then', ...table(difference.details))
  if (event.kind === 'packet' && !isBefore) out.push('', ...(await why(events, name, event)))
  return out
}

/**
 * What uvs does with the packets of one line, and why; or what it answers to the command there.
 *
 * @throws RangeError when the line has neither
 */
export async function explainLine(scenario: Scenario, line: number): Promise<string> {
  const { name } = scenario
  const events = eventsOf(scenario)
  const source = sourceOf(scenario)
  const asked = events.filter((each) => each.line === line && each.kind !== 'sysctl')
  if (asked.length === 0)
    throw new RangeError(
      `${name}: line ${line} has neither a packet nor a command; ${linesOf(events)}`,
    )
  const out: string[] = []
  for (const event of asked) {
    let trace: Trace = []
    let reasons: string[] = []
    if (event.kind === 'packet')
      reasons = ['', ...(await why(events, name, event, (made) => (trace = made)))]
    else trace = await replayEvents(events.slice(0, events.indexOf(event) + 1), name)
    // Behind the event's own record there is that of the end.
    const said = describeRecord(trace.at(-2)!, source).trimEnd()
    out.push(said, ...packetLines(event), ...reasons)
  }
  return `${out.join('\n')}\n`
}

/** Where packets and commands are, for somebody who has asked for another line. */
function linesOf(events: readonly Event[]): string {
  const of = (kind: Event['kind'], what: string): string => {
    const lines = [...new Set(events.filter((each) => each.kind === kind).map(({ line }) => line))]
    const more = lines.length > 30 ? ' …' : ''
    return lines.length === 0 ? `no ${what}` : `${what} in ${lines.slice(0, 30).join(' ')}${more}`
  }
  return `it has ${of('packet', 'packets')}, and ${of('ipvsadm', 'commands')}`
}

function sourceOf(scenario: Scenario): ReadonlyMap<number, string> {
  return new Map(scenario.directives.map(({ line, text }) => [line, text]))
}

function packetLines(event: Event): string[] {
  if (event.kind !== 'packet') return []
  const mark = event.mark === 0 ? '' : `, mark ${event.mark}`
  return [`  packet from the ${event.side} side${mark}: ${summary(event.packet)}`]
}

function body(record: TraceRecord | undefined, source: ReadonlyMap<number, string>): string[] {
  if (!record) return ['  nothing: its trace has ended']
  const [, ...lines] = describeRecord(record, source).trimEnd().split('\n')
  return lines.length > 0 ? lines : ['  nothing']
}

function table(details: Difference['details']): string[] {
  const width = Math.max(...details.map(({ name }) => name.length))
  const indented = (text: string): string => text.replaceAll('\n', `\n${' '.repeat(width + 11)}`)
  return details.map(
    ({ name, ours, kernels }) =>
      `  ${name.padEnd(width)}  uvs     ${indented(ours)}\n` +
      `  ${''.padEnd(width)}  kernel  ${indented(kernels)}`,
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
  let gathered = gatheredWith(events, event)
  // The director may see it otherwise, as when fragments overlap: then it has done nothing yet.
  if (gathered?.whole && !hasActed(trace, before, after))
    gathered = { ...gathered, whole: undefined }
  return ['why uvs did it', ...tell(event, before, after, gathered)]
}

/** Whether the last packet of a trace led to anything. */
function hasActed(trace: Trace, before: Moment, after: Moment): boolean {
  // Behind its own record there is that of the end.
  const record = trace.at(-2)
  const isSeen = record !== undefined && 'out' in record
  return (
    (isSeen && (record.out.length > 0 || record.declined)) || !lossLines(before, after).next().done
  )
}

function look(director: Director, atMs: number): Moment {
  const now = Math.floor((atMs * JIFFIES_PER_SECOND) / 1000)
  return {
    services: director.execute({ op: 'list-services' }).services,
    connections: [...describeConnections(director.table, now)],
    reasons: director.execute({ op: 'get-counters' }).reasons,
    settings: director.execute({ op: 'get-settings' }),
  }
}

/** From where to where, of a packet or of what an ICMP error quotes. */
interface Ends {
  protocol: string
  source: string
  sourcePort: number
  destination: string
  destinationPort: number
}

function endsOf(fields: ReadonlyMap<string, string>, prefix: string): Ends {
  return {
    protocol: (fields.get(`${prefix}protocol`) ?? '').toLowerCase(),
    source: fields.get(`${prefix}source`) ?? '',
    sourcePort: Number(fields.get(`${prefix}source port`) ?? 0),
    destination: fields.get(`${prefix}destination`) ?? '',
    destinationPort: Number(fields.get(`${prefix}destination port`) ?? 0),
  }
}

function* tell(
  event: Event & PacketDirective,
  before: Moment,
  after: Moment,
  gathered: Gathered | undefined,
): Generator<string> {
  if (gathered) {
    const { lines, whole } = gathered
    const others = lines.length > 1 ? `, with those of ${linesText(lines.slice(0, -1))}` : ''
    yield `  it is a fragment${others}`
    yield whole
      ? `  it completes the packet ${summary(whole)}, of which the rest tells`
      : '  its packet is not whole with it'
    if (!whole) {
      yield* lossLines(before, after)
      return
    }
  }
  const fields = new Map(decodePacket(gathered?.whole ?? event.packet))
  const packet = endsOf(fields, '')
  // An error is about the connection of what it quotes, or of what is within that.
  const prefix = ['quoted inner ', 'quoted '].find((each) => fields.has(`${each}source`)) ?? ''
  const about = endsOf(fields, prefix)

  const hits = before.connections.filter(
    (connection) => isRequest(connection, about) || isReply(connection, about),
  )
  for (const hit of hits) {
    const whose = isRequest(hit, about) ? 'a request' : 'a reply'
    yield `  it is ${prefix === '' ? whose : `about ${whose}`} of the connection ${connectionText(hit)}`
  }
  if (hits.length === 0) yield '  it belongs to no connection'

  const service = findService(before.services, event.mark, packet)
  const templates = before.connections.filter(
    (connection) => connection.isTemplate && isTemplateFor(connection, service, packet),
  )
  for (const each of templates) yield `  there is the template ${connectionText(each)}`
  if (service) {
    yield `  service ${serviceText(service)}`
    if (service.destinations.length === 0) yield '    it has no destinations'
    for (const each of service.destinations) yield `    candidate ${destinationText(each)}`
  } else if (hits.length === 0) yield '  no service wants it by its address, port or mark'

  const known = new Set(before.connections.map(keyOf))
  const made = after.connections.filter((connection) => !known.has(keyOf(connection)))
  const chosen = made.find(({ isTemplate }) => isTemplate) ?? made[0]
  if (service && chosen && (chosen.isTemplate || templates.length === 0))
    yield `  ${service.options.scheduler} chose ${chosen.destination}`
  for (const each of made)
    yield `  it made the ${each.isTemplate ? 'template' : 'connection'} ${connectionText(each)}`
  for (const { old, now } of changesOf(before, after))
    yield now
      ? `  ${ends(old)} went from ${old.state} to ${now.state}`
      : `  ${ends(old)} ended, it was ${old.state}`
  yield* lossLines(before, after)
  yield* settingLines(before.settings, consulted(packet, fields, prefix, hits, service))
}

function* lossLines(before: Moment, after: Moment): Generator<string> {
  for (const [reason, count] of Object.entries(after.reasons))
    if (count > (before.reasons[reason] ?? 0)) yield `  it was not forwarded: ${reason}`
}

/** `line 5`, `lines 5, 6 and 8`. */
function linesText(lines: readonly number[]): string {
  const last = lines.at(-1)
  return lines.length === 1 ? `line ${last}` : `lines ${lines.slice(0, -1).join(', ')} and ${last}`
}

function isRequest(connection: ConnectionStatus, ends: Ends): boolean {
  return (
    connection.protocol.toLowerCase() === ends.protocol &&
    connection.client === ends.source &&
    connection.clientPort === ends.sourcePort &&
    connection.virtual === ends.destination &&
    connection.virtualPort === ends.destinationPort
  )
}

function isReply(connection: ConnectionStatus, ends: Ends): boolean {
  return (
    connection.protocol.toLowerCase() === ends.protocol &&
    connection.destination === ends.source &&
    connection.destinationPort === ends.sourcePort &&
    connection.client === ends.destination &&
    connection.clientPort === ends.destinationPort
  )
}

/** As the director looks for it: by mark, by port, FTP's for its data connections, then on any port. */
function findService(
  services: readonly ServiceStatus[],
  mark: number,
  { protocol, destination, destinationPort }: Ends,
): ServiceStatus | undefined {
  const family = destination.includes(':') ? 6 : 4
  const on = (port: number): ServiceStatus | undefined =>
    services.find(
      ({ service }) =>
        'address' in service &&
        service.protocol === protocol &&
        service.address === destination &&
        service.port === port,
    )
  const isFtpData = protocol === 'tcp' && (destinationPort === 20 || destinationPort >= 1024)
  return (
    services.find(
      ({ service }) => 'fwmark' in service && service.fwmark === mark && service.family === family,
    ) ??
    on(destinationPort) ??
    (isFtpData ? on(21) : undefined) ??
    on(0)
  )
}

/** Whether a template is of the packet's client, grouped as the service groups clients now. */
function isTemplateFor(
  { client }: ConnectionStatus,
  service: ServiceStatus | undefined,
  { source }: Ends,
): boolean {
  if (!service || client.includes(':') !== source.includes(':')) return false
  const [a, b] = [addressBytes(client), addressBytes(source)]
  const bits = service.options.persistentPrefixLength
  return a.every((byte, i) => {
    const ofThis = Math.max(0, Math.min(8, bits - 8 * i))
    return ((byte ^ b[i]!) & (0xff00 >> ofThis) & 0xff) === 0
  })
}

function changesOf(
  before: Moment,
  after: Moment,
): { old: ConnectionStatus; now: ConnectionStatus | undefined }[] {
  const left = new Map(after.connections.map((each) => [keyOf(each), each]))
  return before.connections
    .map((old) => ({ old, now: left.get(keyOf(old)) }))
    .filter(({ old, now }) => now?.state !== old.state)
}

/** Names of the settings that the director asks on a packet's way. */
function consulted(
  { protocol }: Ends,
  fields: ReadonlyMap<string, string>,
  prefix: string,
  hits: readonly ConnectionStatus[],
  service: ServiceStatus | undefined,
): string[] {
  const isSyn = fields.get('flags')?.includes('S') ?? false
  const names: string[] = []
  if (prefix !== '') {
    names.push('schedule_icmp', 'pmtu_disc')
  } else if (hits.length > 0) {
    if (isSyn) names.push('conn_reuse_mode')
    names.push('expire_nodest_conn')
    if (protocol === 'tcp') names.push('secure_tcp')
  } else if (service) {
    if (protocol === 'tcp' && !isSyn) names.push('sloppy_tcp')
    if (protocol === 'sctp') names.push('sloppy_sctp')
    names.push('drop_packet')
    if (service.options.persistentTimeoutSeconds > 0) names.push('expire_quiescent_template')
    if (service.options.scheduler === 'lblc') names.push('lblc_expiration')
    if (service.options.scheduler === 'lblcr') names.push('lblcr_expiration')
    if ('fwmark' in service.service) names.push('cache_bypass')
  } else names.push('nat_icmp_send')
  if (service?.destinations.some(({ forwarding }) => forwarding === 'tunnel'))
    names.push('pmtu_disc')
  return names
}

/** Settings that were asked, and all others that are not as they are by default. */
function* settingLines(
  settings: Readonly<Record<string, string>>,
  names: readonly string[],
): Generator<string> {
  for (const { name, defaults } of settingTable) {
    const value = settings[name]?.trim().replace(/\s+/g, ' ')
    if (value === undefined) continue
    const isDefault = value === defaults.join(' ')
    if (names.includes(name) || !isDefault)
      yield `  setting net.ipv4.vs.${name} = ${value}${isDefault ? ', the default' : ''}`
  }
}

function connectionText(connection: ConnectionStatus): string {
  const { protocol, state, destination, destinationPort, expiresSeconds } = connection
  // UDP's only state is its name.
  const kind = state === protocol ? state : `${protocol} ${state}`
  return `${kind} ${ends(connection)} > ${end(destination, destinationPort)}, ${expiresSeconds} s left`
}

function ends({ client, clientPort, virtual, virtualPort }: ConnectionStatus): string {
  return `${end(client, clientPort)} > ${end(virtual, virtualPort)}`
}

function destinationText(destination: DestinationStatus): string {
  const { address, port, forwarding, weight, activeConnections, inactiveConnections } = destination
  const { upperThreshold, lowerThreshold, overloaded } = destination
  return (
    `${end(address, port)} ${forwarding}, weight ${weight}, ${activeConnections} active and ` +
    `${inactiveConnections} inactive connections` +
    (upperThreshold > 0 ? `, upper threshold ${upperThreshold}` : '') +
    (lowerThreshold > 0 ? `, lower threshold ${lowerThreshold}` : '') +
    (overloaded ? ', overloaded' : '')
  )
}

function serviceText({ service, options }: ServiceStatus): string {
  const { scheduler, schedulerFlags, persistentTimeoutSeconds, persistentPrefixLength } = options
  const name =
    'fwmark' in service
      ? `mark ${service.fwmark}${service.family === 6 ? ' of IPv6' : ''}`
      : `${service.protocol} ${end(service.address, service.port)}`
  return (
    `${name}: ${[scheduler, ...schedulerFlags].join(' ')}` +
    (persistentTimeoutSeconds > 0
      ? `, persistent for ${persistentTimeoutSeconds} s by /${persistentPrefixLength}`
      : '') +
    (options.onePacket ? ', one-packet scheduling' : '') +
    (options.persistenceEngine === undefined ? '' : `, engine ${options.persistenceEngine}`)
  )
}

function end(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

function keyOf(connection: ConnectionStatus): string {
  const { protocol, isTemplate, destination, destinationPort } = connection
  return [protocol, ends(connection), end(destination, destinationPort), isTemplate].join(' ')
}
