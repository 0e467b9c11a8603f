import type {
  Command,
  ConnectionStatus,
  DestinationKey,
  DestinationOptions,
  MarkRule,
  ServiceKey,
  ServiceOptions,
  ServiceProtocol,
  Timeouts,
  TunnelOptions,
} from '../core/commands.js'
import { IpvsError } from '../core/commands.js'
import { canonicalAddress, familyOf, parseIpv4 } from './address.js'

/**
 * What passes over the API socket. Everything that comes in is checked here, field by field, before any of
 * it reaches the director.
 */

/** Where the socket is unless $UVS_SOCKET or --socket says otherwise. */
export const DEFAULT_SOCKET_PATH = '/run/uvs/uvsd.sock'

/** Path of the API socket: the option's, else the environment's, else the default. */
export function socketPath(option?: string): string {
  return option ?? (process.env['UVS_SOCKET'] || DEFAULT_SOCKET_PATH)
}

/** How many commands one request may bring. */
export const MAX_COMMANDS = 65536

/** Why a command was refused: the kernel's errno and a sentence. */
export interface CommandError {
  code: string
  message: string
}

/** The answer to one command: its reply (null when it has none), or why it was refused. */
export type CommandResult = { reply: unknown } | { error: CommandError }

/** Which connections are wanted; absent fields match all. */
export interface ConnectionFilter {
  protocol?: ConnectionStatus['protocol']
  virtual?: string
  client?: string
  destination?: string
}

/** True when the connection is one of those wanted. */
export function matchesFilter(connection: ConnectionStatus, filter: ConnectionFilter): boolean {
  return (
    (filter.protocol === undefined || filter.protocol === connection.protocol) &&
    (filter.virtual === undefined || filter.virtual === connection.virtual) &&
    (filter.client === undefined || filter.client === connection.client) &&
    (filter.destination === undefined || filter.destination === connection.destination)
  )
}

/** A JSON value has not the shape that is asked for; `path` says which field, as `commands[2].service.port`. */
export class ShapeError extends Error {
  constructor(
    readonly path: string,
    expected: string,
  ) {
    super(`${path || 'the request'}: expected ${expected}`)
    this.name = 'ShapeError'
  }
}

/** Turns what `execute` threw into an answer; anything but an IpvsError is a fault of ours and goes on. */
export function toCommandError(error: unknown): CommandError {
  if (error instanceof IpvsError) return { code: error.code, message: error.message }
  throw error
}

/**
 * Commands handed over before the first of them is answered: so many that the data plane's thread need not
 * wait for each, and so few that packets do not wait for them.
 */
const COMMANDS_AT_ONCE = 64

/**
 * Carries commands out in order; what is refused keeps nothing after it from being tried.
 *
 * @param execute takes commands in the order of its calls
 */
export async function executeEach(
  execute: (command: Command) => Promise<unknown>,
  commands: readonly Command[],
): Promise<CommandResult[]> {
  const results: CommandResult[] = []
  const one = (command: Command): Promise<CommandResult> =>
    execute(command).then(
      (reply) => ({ reply }),
      (error: unknown) => ({ error: toCommandError(error) }),
    )
  for (let i = 0; i < commands.length; i += COMMANDS_AT_ONCE)
    results.push(...(await Promise.all(commands.slice(i, i + COMMANDS_AT_ONCE).map(one))))
  return results
}

type Fields = Record<string, unknown>

/** Checks the body of POST /v1/commands: a list of commands. Unknown fields are refused too. */
export function checkCommands(value: unknown): Command[] {
  if (!Array.isArray(value)) throw new ShapeError('', 'a list of commands')
  if (value.length > MAX_COMMANDS)
    throw new ShapeError('', `at most ${MAX_COMMANDS} commands in one request`)
  return value.map((item, i) => checkCommand(item, `commands[${i}]`))
}

function checkCommand(value: unknown, path: string): Command {
  const fields = object(value, path)
  const op = fields['op']
  const at = (name: string): string => `${path}.${name}`
  switch (op) {
    case 'add-service':
    case 'edit-service':
      only(fields, path, ['op', 'service', 'options'])
      return checkAddressFamily(
        {
          op,
          service: checkServiceKey(fields['service'], at('service')),
          options: checkServiceOptions(fields['options'], at('options')),
        },
        path,
      )
    case 'delete-service':
      only(fields, path, ['op', 'service'])
      return { op, service: checkServiceKey(fields['service'], at('service')) }
    case 'add-destination':
    case 'edit-destination':
      only(fields, path, ['op', 'service', 'destination', 'options'])
      return {
        op,
        service: checkServiceKey(fields['service'], at('service')),
        destination: checkDestinationKey(fields['destination'], at('destination')),
        options: checkDestinationOptions(fields['options'], at('options')),
      }
    case 'delete-destination':
      only(fields, path, ['op', 'service', 'destination'])
      return {
        op,
        service: checkServiceKey(fields['service'], at('service')),
        destination: checkDestinationKey(fields['destination'], at('destination')),
      }
    case 'zero':
      only(fields, path, ['op', 'service'])
      return fields['service'] === undefined
        ? { op }
        : { op, service: checkServiceKey(fields['service'], at('service')) }
    case 'set-timeouts':
      only(fields, path, ['op', 'timeouts'])
      return { op, timeouts: checkTimeouts(fields['timeouts'], at('timeouts')) }
    case 'list-services':
      only(fields, path, ['op', 'service', 'from', 'limit'])
      return {
        op,
        ...(fields['service'] !== undefined && {
          service: checkServiceKey(fields['service'], at('service')),
        }),
        ...(fields['from'] !== undefined && {
          from: integer(fields['from'], at('from'), 0, 2 ** 31),
        }),
        ...(fields['limit'] !== undefined && {
          limit: integer(fields['limit'], at('limit'), 1, 2 ** 31),
        }),
      }
    case 'set-marks':
      only(fields, path, ['op', 'rules'])
      return {
        op,
        rules: array(fields['rules'], at('rules')).map((rule, i) =>
          checkMarkRule(rule, `${at('rules')}[${i}]`),
        ),
      }
    case 'get-settings':
      only(fields, path, ['op', 'names'])
      return fields['names'] === undefined
        ? { op }
        : {
            op,
            names: array(fields['names'], at('names')).map((name, i) =>
              string(name, `${at('names')}[${i}]`),
            ),
          }
    case 'set-setting':
      only(fields, path, ['op', 'name', 'value'])
      return {
        op,
        name: string(fields['name'], at('name')),
        value: string(fields['value'], at('value')),
      }
    case 'list-engine-templates':
    case 'flush':
    case 'get-timeouts':
    case 'list-marks':
    case 'get-steering':
    case 'get-counters':
      only(fields, path, ['op'])
      return { op }
    default:
      throw new ShapeError(at('op'), 'the name of a command, as add-service')
  }
}

/** A prefix length must fit the service's address family. */
function checkAddressFamily<C extends Command & { options: ServiceOptions; service: ServiceKey }>(
  command: C,
  path: string,
): C {
  const { service, options } = command
  const family = 'fwmark' in service ? service.family : familyOf(service.address)
  if (family === 4 && options.persistentPrefixLength > 32)
    throw new ShapeError(`${path}.options.persistentPrefixLength`, 'at most 32 for IPv4')
  return command
}

function checkServiceKey(value: unknown, path: string): ServiceKey {
  const fields = object(value, path)
  if ('fwmark' in fields) {
    only(fields, path, ['fwmark', 'family'])
    const family = fields['family']
    if (family !== 4 && family !== 6) throw new ShapeError(`${path}.family`, '4 or 6')
    return { fwmark: integer(fields['fwmark'], `${path}.fwmark`, 1, 0xffffffff), family }
  }
  only(fields, path, ['protocol', 'address', 'port'])
  return {
    protocol: protocol(fields['protocol'], `${path}.protocol`),
    address: address(fields['address'], `${path}.address`),
    port: integer(fields['port'], `${path}.port`, 0, 65535),
  }
}

function checkServiceOptions(value: unknown, path: string): ServiceOptions {
  const fields = object(value, path)
  only(fields, path, [
    'scheduler',
    'schedulerFlags',
    'persistentTimeoutSeconds',
    'persistentPrefixLength',
    'onePacket',
    'persistenceEngine',
  ])
  return {
    scheduler: string(fields['scheduler'], `${path}.scheduler`),
    schedulerFlags: array(fields['schedulerFlags'], `${path}.schedulerFlags`).map((flag, i) =>
      string(flag, `${path}.schedulerFlags[${i}]`),
    ),
    persistentTimeoutSeconds: integer(
      fields['persistentTimeoutSeconds'],
      `${path}.persistentTimeoutSeconds`,
      0,
      0x7fffffff,
    ),
    persistentPrefixLength: integer(
      fields['persistentPrefixLength'],
      `${path}.persistentPrefixLength`,
      0,
      128,
    ),
    onePacket: boolean(fields['onePacket'], `${path}.onePacket`),
    ...(fields['persistenceEngine'] !== undefined && {
      persistenceEngine: string(fields['persistenceEngine'], `${path}.persistenceEngine`),
    }),
  }
}

function checkDestinationKey(value: unknown, path: string): DestinationKey {
  const fields = object(value, path)
  only(fields, path, ['address', 'port'])
  return {
    address: address(fields['address'], `${path}.address`),
    port: integer(fields['port'], `${path}.port`, 0, 65535),
  }
}

function checkDestinationOptions(value: unknown, path: string): DestinationOptions {
  const fields = object(value, path)
  only(fields, path, ['forwarding', 'weight', 'upperThreshold', 'lowerThreshold', 'tunnel'])
  const forwarding = fields['forwarding']
  if (forwarding !== 'masquerade' && forwarding !== 'tunnel' && forwarding !== 'direct-route')
    throw new ShapeError(`${path}.forwarding`, 'masquerade, tunnel or direct-route')
  return {
    forwarding,
    weight: integer(fields['weight'], `${path}.weight`, 0, 0x7fffffff),
    upperThreshold: integer(fields['upperThreshold'], `${path}.upperThreshold`, 0, 0x7fffffff),
    lowerThreshold: integer(fields['lowerThreshold'], `${path}.lowerThreshold`, 0, 0x7fffffff),
    ...(fields['tunnel'] !== undefined && {
      tunnel: checkTunnelOptions(fields['tunnel'], `${path}.tunnel`),
    }),
  }
}

function checkTunnelOptions(value: unknown, path: string): TunnelOptions {
  const fields = object(value, path)
  only(fields, path, ['type', 'port', 'checksum'])
  const { type, checksum } = fields
  if (type !== 'ipip' && type !== 'gue' && type !== 'gre')
    throw new ShapeError(`${path}.type`, 'ipip, gue or gre')
  if (checksum !== 'none' && checksum !== 'full' && checksum !== 'remote')
    throw new ShapeError(`${path}.checksum`, 'none, full or remote')
  return { type, port: integer(fields['port'], `${path}.port`, 0, 65535), checksum }
}

function checkTimeouts(value: unknown, path: string): Timeouts {
  const fields = object(value, path)
  only(fields, path, ['tcp', 'tcpFin', 'udp'])
  return {
    tcp: integer(fields['tcp'], `${path}.tcp`, 0, 86400 * 31),
    tcpFin: integer(fields['tcpFin'], `${path}.tcpFin`, 0, 86400 * 31),
    udp: integer(fields['udp'], `${path}.udp`, 0, 86400 * 31),
  }
}

function checkMarkRule(value: unknown, path: string): MarkRule {
  const fields = object(value, path)
  only(fields, path, ['mark', 'protocol', 'source', 'destination', 'ports', 'interface'])
  const rule: MarkRule = { mark: integer(fields['mark'], `${path}.mark`, 0, 0xffffffff) }
  if (fields['protocol'] !== undefined)
    rule.protocol = protocol(fields['protocol'], `${path}.protocol`)
  if (fields['source'] !== undefined) rule.source = prefix(fields['source'], `${path}.source`)
  if (fields['destination'] !== undefined)
    rule.destination = prefix(fields['destination'], `${path}.destination`)
  if (fields['ports'] !== undefined) {
    const ports = array(fields['ports'], `${path}.ports`)
    if (ports.length !== 2) throw new ShapeError(`${path}.ports`, 'the first and the last port')
    const first = integer(ports[0], `${path}.ports[0]`, 0, 65535)
    rule.ports = [first, integer(ports[1], `${path}.ports[1]`, first, 65535)]
    if (!rule.protocol)
      throw new ShapeError(`${path}.protocol`, 'a protocol, since ports are given')
  }
  if (fields['interface'] !== undefined)
    rule.interface = string(fields['interface'], `${path}.interface`)
  return rule
}

function object(value: unknown, path: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ShapeError(path, 'an object')
  return value as Fields
}

function only(fields: Fields, path: string, known: readonly string[]): void {
  for (const name of Object.keys(fields))
    if (!known.includes(name))
      throw new ShapeError(`${path}.${name}`, `no such field (there are ${known.join(', ')})`)
}

function array(value: unknown, path: string): unknown[] {
  if (!Array.isArray(value)) throw new ShapeError(path, 'a list')
  return value
}

function string(value: unknown, path: string): string {
  if (typeof value !== 'string' || value === '' || value.length > 255)
    throw new ShapeError(path, 'a text of 1 to 255 characters')
  return value
}

function boolean(value: unknown, path: string): boolean {
  if (typeof value !== 'boolean') throw new ShapeError(path, 'true or false')
  return value
}

function integer(value: unknown, path: string, least: number, most: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most)
    throw new ShapeError(path, `an integer from ${least} to ${most}`)
  return value
}

function protocol(value: unknown, path: string): ServiceProtocol {
  if (value !== 'tcp' && value !== 'udp' && value !== 'sctp')
    throw new ShapeError(path, 'tcp, udp or sctp')
  return value
}

function address(value: unknown, path: string): string {
  const canonical = typeof value === 'string' ? canonicalAddress(value) : undefined
  if (canonical === undefined) throw new ShapeError(path, 'an IPv4 or IPv6 address')
  return canonical
}

function prefix(value: unknown, path: string): string {
  const canonical = typeof value === 'string' ? canonicalPrefix(value) : undefined
  if (canonical === undefined) throw new ShapeError(path, 'an address prefix, as 10.0.0.0/8')
  return canonical
}

/** `address/length`, or an address alone; undefined when it is neither. IPv4 bits behind the prefix are cleared. */
export function canonicalPrefix(text: string): string | undefined {
  const [head, length, ...rest] = text.split('/')
  const base = canonicalAddress(head!)
  if (base === undefined || rest.length > 0) return undefined
  const widest = familyOf(base) === 4 ? 32 : 128
  if (length !== undefined && (!/^\d{1,3}$/.test(length) || Number(length) > widest))
    return undefined
  const bits = length === undefined ? widest : Number(length)
  if (widest === 128) return `${base}/${bits}`
  const mask = bits === 0 ? 0 : -1 << (32 - bits)
  const value = parseIpv4(base)! & mask
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}/${bits}`
}
