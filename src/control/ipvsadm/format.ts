import type {
  ConnectionStatus,
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
import { IPIP } from '../../core/destination.js'
import { familyOf, formatNetmask, ipv6Words, parseIpv4 } from '../address.js'
import type { Names } from './names.js'
import type { ListFormat } from './parse.js'

/** The IPVS version that the first line of a listing names: that of every kernel since 2.6. */
export const IPVS_VERSION = '1.2.1'

/** Columns of a service's and a destination's name in a listing; longer IPv4 names are cut. */
const SERVICE_COLUMNS = 33
const DESTINATION_COLUMNS = 28

const forwardingNames: Record<ForwardingMethod, string> = {
  masquerade: 'Masq',
  tunnel: 'Tunnel',
  'direct-route': 'Route',
}
const forwardingOptions: Record<ForwardingMethod, string> = {
  masquerade: '-m',
  tunnel: '-i',
  'direct-route': '-g',
}
const protocolOptions: Record<ServiceProtocol, string> = {
  tcp: '-t',
  udp: '-u',
  sctp: '--sctp-service',
}
const tunnelChecksums: Record<TunnelOptions['checksum'], { option: string; sign: string }> = {
  none: { option: '--tun-nocsum', sign: '-c' },
  full: { option: '--tun-csum', sign: '+c' },
  remote: { option: '--tun-remcsum', sign: 'r+c' },
}
const protocolNumbers: Record<ServiceProtocol, number> = { tcp: 6, udp: 17, sctp: 132 }

/** Addresses whose names a listing of these services shows. */
export function* addressesOf(services: Iterable<ServiceStatus>): Iterable<string> {
  for (const { service, destinations } of services) {
    if ('address' in service) yield service.address
    for (const destination of destinations) yield destination.address
  }
}

/** First line of a listing of all services. */
export function versionLine(tableSize: number): string {
  return `IP Virtual Server version ${IPVS_VERSION} (size=${tableSize})\n`
}

/** `ipvsadm -L`: titles and services, line by line. Names must have been looked up unless `format.numeric`. */
export function* formatServices(
  services: readonly ServiceStatus[],
  format: ListFormat,
  names: Names,
): Iterable<string> {
  yield title(format)
  for (const status of format.sort ? sortServices(services) : services) {
    yield `${serviceLine(status, format, names)}\n`
    const protocol = lookupProtocol(status.service)
    for (const destination of format.sort
      ? sortDestinations(status.destinations)
      : status.destinations)
      yield `${destinationLine(destination, protocol, format, names)}\n`
  }
}

/** `ipvsadm -S`: command lines that make the same services again. */
export function* formatRules(
  services: readonly ServiceStatus[],
  format: ListFormat,
  names: Names,
): Iterable<string> {
  for (const { service, options, destinations } of format.sort
    ? sortServices(services)
    : services) {
    const name = serviceArguments(service, format, names)
    yield `-A ${name}${serviceOptionArguments(service, options)}\n`
    for (const destination of format.sort ? sortDestinations(destinations) : destinations)
      yield `-a ${name} ${destinationArguments(service, destination, format, names)}\n`
  }
}

/** A destination as ipvsadm-save writes it behind the service. */
export function destinationArguments(
  service: ServiceKey,
  destination: DestinationKey & DestinationOptions,
  format: ListFormat,
  names: Names,
): string {
  const { address, port, forwarding, weight } = destination
  const server = endpoint(address, port, lookupProtocol(service), format, names)
  return `-r ${server} ${forwardingOptions[forwarding]} -w ${weight}${tunnelArguments(destination)}`
}

/** First two lines of a listing of connections. */
export function connectionTitle(format: ListFormat): string {
  const columns = `pro expire ${'state'.padEnd(11)} ${'source'.padEnd(18)} ${'virtual'.padEnd(18)} `
  return (
    'IPVS connection entries\n' +
    (format.persistentConnections
      ? `${columns}${'destination'.padEnd(18)} ${'pe name'.padEnd(16)} pe_data\n`
      : `${columns}destination\n`)
  )
}

/** A line of `ipvsadm -Lc`. */
export function connectionLine(
  connection: ConnectionStatus,
  format: ListFormat,
  names: Names,
): string {
  const protocol =
    connection.protocol === 'IP'
      ? undefined
      : (connection.protocol.toLowerCase() as ServiceProtocol)
  const minutes = Math.floor(connection.expiresSeconds / 60)
  const expires = `${twoDigits(minutes)}:${twoDigits(Math.floor(connection.expiresSeconds) % 60)}`
  const client = endpoint(connection.client, connection.clientPort, protocol, format, names)
  const virtual = endpoint(connection.virtual, connection.virtualPort, protocol, format, names)
  const destination = endpoint(
    connection.destination,
    connection.destinationPort,
    protocol,
    format,
    names,
  )
  const line = `${connection.protocol.padEnd(3)} ${expires.padEnd(6)} ${connection.state.padEnd(11)} ${client.padEnd(18)} ${virtual.padEnd(18)} `
  const { persistenceEngine, persistenceData = '' } = connection
  return format.persistentConnections && persistenceEngine
    ? `${line}${destination.padEnd(18)} ${persistenceEngine.padEnd(16)} ${persistenceData}\n`
    : `${line}${destination}\n`
}

/** `ipvsadm -L --timeout`. */
export function timeoutLine({ tcp, tcpFin, udp }: Timeouts): string {
  return `Timeout (tcp tcpfin udp): ${tcp} ${tcpFin} ${udp}\n`
}

function title(format: ListFormat): string {
  const local = 'Prot LocalAddress:Port'
  const remote = '  -> RemoteAddress:Port'
  if (format.stats)
    return `${local.padEnd(SERVICE_COLUMNS)}    Conns   InPkts  OutPkts  InBytes OutBytes\n${remote}\n`
  if (format.rate)
    return `${local.padEnd(SERVICE_COLUMNS)}      CPS    InPPS   OutPPS    InBPS   OutBPS\n${remote}\n`
  if (format.thresholds)
    return `${local.padEnd(SERVICE_COLUMNS)} Uthreshold Lthreshold ActiveConn InActConn \n${remote}\n`
  if (format.persistentConnections)
    return `${local.padEnd(SERVICE_COLUMNS)} Weight    PersistConn ActiveConn InActConn \n${remote}\n`
  const tunnel = format.tunnelInfo ? 'TunnelInfo    ' : ''
  return `${local} Scheduler Flags\n${remote}           Forward ${tunnel}Weight ActiveConn InActConn\n`
}

function serviceLine(
  { service, options, counters, rates }: ServiceStatus,
  format: ListFormat,
  names: Names,
): string {
  const name = serviceName(service, format, names)
  if (format.stats) return name.padEnd(SERVICE_COLUMNS) + largeNumbers(countersOf(counters), format)
  if (format.rate) return name.padEnd(SERVICE_COLUMNS) + largeNumbers(ratesOf(rates), format)
  let line = `${name} ${options.scheduler}`
  const flags = shownFlags(options)
  if (flags) line += ` (${flags})`
  if (options.persistentTimeoutSeconds > 0) {
    line += ` persistent ${options.persistentTimeoutSeconds}`
    const mask = netmask(service, options)
    if (mask) line += ` mask ${mask}`
    if (options.persistenceEngine) line += ` pe ${options.persistenceEngine}`
  }
  if (options.onePacket) line += ' ops'
  return line
}

function destinationLine(
  destination: DestinationStatus,
  protocol: ServiceProtocol | undefined,
  format: ListFormat,
  names: Names,
): string {
  let name = endpoint(destination.address, destination.port, protocol, format, names)
  if (familyOf(destination.address) === 4) name = name.slice(0, DESTINATION_COLUMNS)
  const start = `  -> ${name.padEnd(DESTINATION_COLUMNS)}`
  const { activeConnections: active, inactiveConnections: inactive } = destination
  const connections = `${column(active, 10)} ${column(inactive, 10)}`
  if (format.stats) return start + largeNumbers(countersOf(destination.counters), format)
  if (format.rate) {
    // The first three are never abbreviated here, unlike a service's.
    const [connectionRate, inPackets, outPackets, ...bytes] = ratesOf(destination.rates)
    const packets = [connectionRate!, inPackets!, outPackets!]
    return (
      start + packets.map((n) => ` ${String(n).padStart(8)}`).join('') + largeNumbers(bytes, format)
    )
  }
  if (format.thresholds)
    return `${start} ${column(destination.upperThreshold, 10)} ${column(destination.lowerThreshold, 10)} ${connections}`
  if (format.persistentConnections)
    return `${start} ${column(destination.weight, 9)} ${column(destination.persistentConnections, 11)} ${connections}`
  const tunnel = tunnelInfo(destination)
  return `${start} ${forwardingNames[destination.forwarding].padEnd(7)} ${
    format.tunnelInfo ? `${tunnel.padEnd(13)} ` : ''
  }${column(destination.weight, 6)} ${connections}`
}

function serviceName(service: ServiceKey, format: ListFormat, names: Names): string {
  if ('fwmark' in service) return `FWM  ${service.fwmark | 0}${service.family === 6 ? ' IPv6' : ''}`
  const at = endpoint(service.address, service.port, service.protocol, format, names)
  const name = `${service.protocol.toUpperCase().padEnd(4)} ${at}`
  return familyOf(service.address) === 4 ? name.slice(0, SERVICE_COLUMNS) : name
}

/** `-t 10.0.0.1:80`, `-f 1 -6`. */
export function serviceArguments(
  service: ServiceKey,
  format: Pick<ListFormat, 'numeric'>,
  names: Names,
): string {
  if ('fwmark' in service)
    // ipvsadm writes marks above 2^31 as negative numbers, which it then refuses to read.
    return `-f ${service.fwmark}${service.family === 6 ? ' -6' : ''}`
  const at = endpoint(service.address, service.port, service.protocol, format, names)
  return `${protocolOptions[service.protocol]} ${at}`
}

export function serviceOptionArguments(service: ServiceKey, options: ServiceOptions): string {
  let line = ` -s ${options.scheduler}`
  if (options.persistentTimeoutSeconds > 0) {
    line += ` -p ${options.persistentTimeoutSeconds}`
    const mask = netmask(service, options)
    if (mask) line += ` -M ${mask}`
  }
  if (options.persistenceEngine) line += ` --pe ${options.persistenceEngine}`
  if (options.onePacket) line += ' -o'
  const flags = shownFlags(options)
  return flags ? `${line} -b ${flags}` : line
}

/** ` --tun-type gue --tun-port 6080 --tun-csum`; nothing for those that are not tunneled. */
function tunnelArguments({ forwarding, tunnel = IPIP }: DestinationOptions): string {
  if (forwarding !== 'tunnel') return ''
  const { type, port, checksum } = tunnel
  if (type === 'ipip') return ' --tun-type ipip'
  return ` --tun-type ${type}${type === 'gue' ? ` --tun-port ${port}` : ''} ${tunnelChecksums[checksum].option}`
}

/** `gue:6080:+c`. */
function tunnelInfo({ forwarding, tunnel = IPIP }: DestinationOptions): string {
  if (forwarding !== 'tunnel') return 'n/a'
  const { type, port, checksum } = tunnel
  if (type === 'ipip') return 'ipip'
  return `${type}${type === 'gue' ? `:${port}` : ''}:${tunnelChecksums[checksum].sign}`
}

/** The mask by which clients are grouped, as text; empty when each client stands for itself. */
function netmask(service: ServiceKey, options: ServiceOptions): string {
  const family = 'fwmark' in service ? service.family : familyOf(service.address)
  if (options.persistentPrefixLength === (family === 6 ? 128 : 32)) return ''
  return family === 6
    ? String(options.persistentPrefixLength)
    : formatNetmask(options.persistentPrefixLength)
}

/** ipvsadm shows no third flag for the schedulers that have names for the first two. */
function shownFlags({ scheduler, schedulerFlags }: ServiceOptions): string {
  const named = scheduler === 'sh' || scheduler === 'mh'
  return schedulerFlags.filter((flag) => !(named && flag === 'flag-3')).join(',')
}

/** The protocol by which ports get names; those of marks have none. */
function lookupProtocol(service: ServiceKey): ServiceProtocol | undefined {
  return 'fwmark' in service ? undefined : service.protocol
}

function endpoint(
  address: string,
  port: number,
  protocol: ServiceProtocol | undefined,
  { numeric }: Pick<ListFormat, 'numeric'>,
  names: Names,
): string {
  const host = numeric ? address : names.hostOf(address)
  const service = (numeric ? undefined : names.services.nameOf(port, protocol)) ?? port
  return familyOf(address) === 6 ? `[${host}]:${service}` : `${host}:${service}`
}

function countersOf(counters: Counters): number[] {
  return [
    counters.connections,
    counters.inPackets,
    counters.outPackets,
    counters.inBytes,
    counters.outBytes,
  ]
}

function ratesOf(rates: Rates): number[] {
  return [
    rates.connectionsPerSecond,
    rates.inPacketsPerSecond,
    rates.outPacketsPerSecond,
    rates.inBytesPerSecond,
    rates.outBytesPerSecond,
  ].map(Math.floor)
}

function largeNumbers(numbers: readonly number[], { exact }: ListFormat): string {
  return numbers.map((number) => (exact ? exactNumber(number) : largeNumber(number))).join('')
}

/** A number in nine columns, cut (not rounded) to thousands, millions, billions or trillions. */
export function largeNumber(number: number): string {
  if (number < 100e6) return String(number).padStart(9)
  const [unit, letter] =
    number < 1e9
      ? [1e3, 'K']
      : number < 100e9
        ? [1e6, 'M']
        : number < 100e12
          ? [1e9, 'G']
          : [1e12, 'T']
  return `${String(Math.floor(number / unit)).padStart(8)}${letter}`
}

function exactNumber(number: number): string {
  return ` ${String(number).padStart(8)}`
}

function column(number: number, width: number): string {
  return String(number).padEnd(width)
}

function twoDigits(number: number): string {
  return String(number).padStart(2, '0')
}

/**
 * By mark, family, protocol, address and port, as ipvsadm compares them: it subtracts into a signed 32-bit
 * integer, so that 192.168.0.1 stands before 10.0.0.1 and a mark above 2^31 before none.
 */
export function sortServices(services: readonly ServiceStatus[]): ServiceStatus[] {
  return sortByKey(services, ({ service }) => serviceSortKey(service))
}

function serviceSortKey(service: ServiceKey): number[] {
  if ('fwmark' in service) return [service.fwmark, service.family, 0, 0, 0, 0, 0, 0]
  return [
    0,
    familyOf(service.address),
    protocolNumbers[service.protocol],
    ...addressWords(service.address),
    service.port,
  ]
}

/** By address and port, compared in the same way. */
export function sortDestinations(destinations: readonly DestinationStatus[]): DestinationStatus[] {
  return sortByKey(destinations, ({ address, port }) => [...addressWords(address), port])
}

function addressWords(address: string): number[] {
  return familyOf(address) === 6 ? ipv6Words(address) : [parseIpv4(address)!, 0, 0, 0]
}

/**
 * ipvsadm's comparison can go round in circles (10/8 before 100/8 before 192/8 before 10/8). What it lists
 * then depends on the order that it is given, which in the kernel is that of a hash; here it is that of the
 * numbers, so that the same table is always listed in the same way.
 */
function sortByKey<Item>(items: readonly Item[], keyOf: (item: Item) => number[]): Item[] {
  return items
    .map((item) => ({ item, key: keyOf(item) }))
    .sort((a, b) => firstDifference(a.key, b.key))
    .sort((a, b) => firstDifference(a.key, b.key) | 0)
    .map(({ item }) => item)
}

function firstDifference(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!
  return 0
}
