import { isIP } from 'node:net'
import type {
  Command,
  DestinationOptions,
  ForwardingMethod,
  ServiceKey,
  ServiceOptions,
  ServiceProtocol,
  Timeouts,
  TunnelOptions,
} from '../../core/commands.js'
import { schedulerFlagBits, schedulerFlagsOf } from '../../core/schedulers/flags.js'
import {
  canonicalIpv6,
  familyOf,
  formatIpv4,
  ipv6Words,
  parseIpv4,
  parseLooseIpv4,
  prefixLengthOf,
} from '../address.js'
import type { Names } from './names.js'
import {
  commandRules,
  options,
  settings,
  tunnelRules,
  type CommandName,
  type CommandRule,
  type Option,
  type Setting,
  type TunnelType,
} from './options.js'
import { OptionScanner } from './popt.js'
import type { SyncDaemon } from './sync-daemons.js'

/** Seconds of `-p` without a number: the kernel header's default, which ipvsadm's man page gives as 300. */
export const DEFAULT_PERSISTENT_SECONDS = 360
/** The longest timeout that ipvsadm takes: 31 days. */
export const MAX_TIMEOUT_SECONDS = 86400 * 31
export const DEFAULT_SCHEDULER = 'wlc'
const DEFAULT_DAEMON_INTERFACE = 'eth0'

const INT_MAX = 0x7fffffff
const UINT_MAX = 0xffffffff

/** How a listing is to look. */
export interface ListFormat {
  numeric: boolean
  stats: boolean
  rate: boolean
  thresholds: boolean
  persistentConnections: boolean
  tunnelInfo: boolean
  /** Large numbers are not abbreviated. */
  exact: boolean
  /** Services and destinations are sorted; else they come in the director's order. */
  sort: boolean
  json: boolean
}

/** What a command line asks for. */
export type Invocation =
  | { kind: 'command'; command: Command }
  | { kind: 'list-services'; service?: ServiceKey; format: ListFormat }
  | { kind: 'list-connections'; format: ListFormat }
  | { kind: 'list-timeouts'; format: ListFormat }
  | { kind: 'list-daemons'; format: ListFormat }
  | { kind: 'save'; format: ListFormat }
  | { kind: 'restore' }
  | { kind: 'start-daemon'; daemon: SyncDaemon }
  | { kind: 'stop-daemon'; state: SyncDaemon['state'] }
  | { kind: 'help' }
  | { kind: 'version' }

/** A command line that ipvsadm would not carry out, with its words for it. */
export class CommandLineError extends Error {
  /**
   * @param exitStatus 2, or 255 where popt or uvs refuses
   * @param word index of the word at fault, -1 when it is what is missing
   */
  constructor(
    message: string,
    readonly exitStatus: number,
    readonly word: number,
  ) {
    super(message)
    this.name = 'CommandLineError'
  }
}

export const defaultFormat: ListFormat = {
  numeric: false,
  stats: false,
  rate: false,
  thresholds: false,
  persistentConnections: false,
  tunnelInfo: false,
  exact: false,
  sort: true,
  json: false,
}

/**
 * Reads an ipvsadm command line (without the program's name) as ipvsadm 1.31 does: the same options in the
 * same order of checks, the same defaults, the same words for what is wrong. Throws CommandLineError, and
 * HostNameNeeded for Names.resolving.
 *
 * @param program the name that a message tells the user to run with -h
 */
export function parseCommandLine(
  args: readonly string[],
  names: Names,
  program = 'ipvsadm',
): Invocation {
  return new CommandLine(args, names, program).parse()
}

/** An address and port as far as a command line has given them. */
interface Endpoint {
  address: string
  port: number
  hasPort: boolean
}

class CommandLine {
  private readonly scanner: OptionScanner<Option>
  private readonly given = new Set<Setting>()

  // What the options have said so far. ipvsadm reads from left to right and what an option means may
  // depend on what stands before it, so these are set one by one.
  private protocol: ServiceProtocol | undefined
  private address: string | undefined
  private port = 0
  private fwmark = 0
  private family: 4 | 6 = 4
  /** IPv4: the mask in host order, IPv6: the prefix length. */
  private netmask = UINT_MAX
  private netmaskWord = -1
  private scheduler = ''
  private schedulerFlags: { text: string; word: number } | undefined
  private persistentSeconds = 0
  private persistenceEngine = ''
  private destination: Endpoint | undefined
  private forwarding: ForwardingMethod = 'direct-route'
  private weight = 1
  private upperThreshold = 0
  private lowerThreshold = 0
  private tunnelType: TunnelType = 'ipip'
  private tunnelPort = 0
  private daemon: SyncDaemon = { state: 'master', interface: DEFAULT_DAEMON_INTERFACE, syncId: 0 }

  constructor(
    private readonly args: readonly string[],
    private readonly names: Names,
    private readonly program: string,
  ) {
    this.scanner = new OptionScanner(args, options)
  }

  parse(): Invocation {
    if (this.args.length === 0) return { kind: 'list-services', format: defaultFormat }
    const first = this.scanner.next()
    if (first?.kind !== 'option' || first.option.command === undefined)
      throw new CommandLineError(
        `Try \`${this.program} -h' or '${this.program} --help' for more information.`,
        255,
        first?.word ?? this.scanner.leftovers[0]?.word ?? -1,
      )
    const command = first.option.command
    if (command === 'help' || command === 'version') return { kind: command }
    if (command === 'start-daemon' || command === 'stop-daemon')
      this.readDaemonState(command, first.value!, first.valueWord)
    this.readOptions()
    const timeouts = command === 'set' ? this.readTimeouts() : undefined
    const [leftover] = this.scanner.leftovers.slice(timeouts ? 3 : 0)
    if (leftover) fail(`unexpected argument ${leftover.text}`, leftover.word)
    const schedulerFlags = this.readSchedulerFlags()
    this.checkRule(commandRules[command], settings, `'${command}' command`)
    return this.invocation(command, timeouts, schedulerFlags)
  }

  private readOptions(): void {
    for (;;) {
      const step = this.scanner.next()
      if (!step) return
      if (step.kind === 'problem')
        throw new CommandLineError(`${this.args[step.word]}: ${step.problem}`, 255, step.word)
      if (step.option.command) fail(`invalid option \`${this.args[step.word]}'`, step.word)
      this.readOption(step.option, step.value, step.word, step.valueWord)
    }
  }

  private readOption(
    option: Option,
    value: string | undefined,
    word: number,
    valueWord: number,
  ): void {
    if (option.sets) {
      if (this.given.has(option.sets)) fail(`multiple '${option.sets}' options specified`, word)
      this.given.add(option.sets)
    }
    // Only --persistent may come without its argument.
    const text = value ?? ''
    switch (option.long) {
      case 'tcp-service':
      case 'udp-service':
      case 'sctp-service':
        this.protocol = option.long.slice(0, -'-service'.length) as ServiceProtocol
        this.readService(text, valueWord)
        break
      case 'fwmark-service':
        this.family = 4
        // The kernel has no use for it, but service names of real servers are looked up by it.
        this.protocol = 'tcp'
        this.fwmark = readFwmark(text, valueWord)
        break
      case 'ipv6':
        if (!this.fwmark) fail('-6 used before -f\n', word)
        this.family = 6
        this.netmask = 128
        break
      case 'scheduler':
        this.scheduler = text
        break
      case 'sched-flags':
        this.schedulerFlags = { text, word: valueWord }
        break
      case 'persistent':
        this.persistentSeconds =
          value === undefined ? DEFAULT_PERSISTENT_SECONDS : readTimeout(value, 1, valueWord)
        break
      case 'netmask':
        this.readNetmask(text, valueWord)
        break
      case 'pe':
        this.persistenceEngine = text
        break
      case 'real-server':
        this.destination = this.readEndpoint(text)
        if (!this.destination) fail('illegal real server address[:port] specified', valueWord)
        if (!this.destination.hasPort) this.destination.port = this.port
        break
      case 'gatewaying':
        this.forwarding = 'direct-route'
        break
      case 'ipip':
        this.forwarding = 'tunnel'
        break
      case 'masquerading':
        this.forwarding = 'masquerade'
        break
      case 'weight':
        this.weight = readNumber(text, 0, INT_MAX, 'illegal weight specified', valueWord)
        break
      case 'u-threshold':
        this.upperThreshold = readNumber(
          text,
          0,
          INT_MAX,
          'illegal u_threshold specified',
          valueWord,
        )
        break
      case 'l-threshold':
        this.lowerThreshold = readNumber(
          text,
          0,
          INT_MAX,
          'illegal l_threshold specified',
          valueWord,
        )
        break
      case 'tun-type':
        if (!Object.hasOwn(tunnelRules, text)) fail('illegal tunnel type specified', valueWord)
        this.tunnelType = text as TunnelType
        break
      case 'tun-port':
        this.tunnelPort = readNumber(text, 1, 65535, 'illegal tunnel port specified', valueWord)
        break
      case 'syncid':
        this.daemon.syncId = readNumber(text, 0, 255, 'illegal syncid specified', valueWord)
        break
      case 'mcast-interface':
        this.daemon.interface = text
        break
      case 'mcast-group':
        checkMulticastGroup(text, valueWord)
        this.daemon.group = text
        break
      case 'mcast-port':
        this.daemon.port = readNumber(text, 1, 65535, 'illegal mcast-port specified', valueWord)
        break
      case 'mcast-ttl':
        this.daemon.ttl = readNumber(text, 1, 255, 'illegal mcast-ttl specified', valueWord)
        break
      case 'sync-maxlen':
        this.daemon.maxLength = readNumber(
          text,
          1,
          65535 - 20 - 8,
          'illegal sync-maxlen specified',
          valueWord,
        )
        break
    }
  }

  private readService(text: string, word: number): void {
    const endpoint = this.readEndpoint(text)
    if (!endpoint) fail('illegal virtual server address[:port] specified', word)
    this.address = endpoint.address
    this.port = endpoint.port
    this.family = familyOf(endpoint.address)
    if (this.family === 6) this.netmask = 128
  }

  /**
   * `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address. Undefined when it is none. A name in
   * brackets loses its port, as in ipvsadm.
   */
  private readEndpoint(text: string): Endpoint | undefined {
    if (/^\d*$/.test(text)) return undefined
    let host = text
    let port: string | undefined
    const bracketed = host.startsWith('[')
    if (bracketed) {
      const end = host.indexOf(']')
      if (end < 0 || host[end + 1] !== ':') return undefined
      port = host.slice(end + 2)
      host = host.slice(1, end)
    }
    let address = canonicalIpv6(host)
    if (address === undefined) {
      const colon = host.lastIndexOf(':')
      port = colon < 0 ? undefined : host.slice(colon + 1)
      if (colon >= 0) host = host.slice(0, colon)
      const v4 = parseLooseIpv4(host)
      address = v4 === undefined ? this.names.addressOf(host) : formatIpv4(v4)
      if (address === undefined) return undefined
    }
    if (port === undefined) return { address, port: 0, hasPort: false }
    const number = toNumber(port, 0, 65535) ?? this.names.services.portOf(port, this.protocol)
    return number === undefined ? undefined : { address, port: number, hasPort: true }
  }

  private readNetmask(text: string, word: number): void {
    this.netmaskWord = word
    if (this.family === 6) {
      const length = /^\s*\+?(\d+)/.exec(text)
      this.netmask = length ? Number(length[1]) : 0
      if (this.netmask < 1 || this.netmask > 128) fail('illegal ipv6 netmask specified', word)
      return
    }
    let mask = parseLooseIpv4(text)
    if (mask === undefined) {
      const found = this.names.addressOf(text)
      if (found === undefined) fail('illegal virtual server persistent mask specified', word)
      mask = parseIpv4(found)!
    }
    this.netmask = mask
  }

  /** `--set` takes its three numbers from what is left over. */
  private readTimeouts(): Timeouts {
    const [tcp, tcpFin, udp] = this.scanner.leftovers
    if (!tcp || !tcpFin || !udp) fail('--set option requires 3 timeout values', -1)
    return {
      tcp: readTimeout(tcp.text, 0, tcp.word),
      tcpFin: readTimeout(tcpFin.text, 0, tcpFin.word),
      udp: readTimeout(udp.text, 0, udp.word),
    }
  }

  /** Flags are bits: `flag-1` and `sh-fallback` are one, and are named after the scheduler they are for. */
  private readSchedulerFlags(): string[] {
    if (!this.schedulerFlags) return []
    const { text, word } = this.schedulerFlags
    const given: string[] = []
    for (const flag of text.split(',')) {
      // ipvsadm passes over empty flags.
      if (flag === '') continue
      const match = /^(?:flag-([123])|(sh|mh)-(fallback|port))$/.exec(flag)
      if (!match) fail(`invalid scheduler flag \`${flag}'`, word)
      if (match[2] && match[2] !== this.scheduler)
        fail(`incompatible scheduler flag \`${flag}'`, word)
      given.push(flag)
    }
    return schedulerFlagsOf(this.scheduler, schedulerFlagBits(this.scheduler, given)!)
  }

  private checkRule(rule: CommandRule, checked: readonly Setting[], whose: string): void {
    let earlier: Setting | undefined
    for (const setting of checked) {
      if (!this.given.has(setting)) {
        if (rule.required.includes(setting))
          fail(`You need to supply the '${setting}' option for the ${whose}`, -1)
        continue
      }
      if (rule.oneOf.includes(setting)) {
        if (earlier)
          fail(`The option '${setting}' conflicts with the '${earlier}' option in the ${whose}`, -1)
        earlier = setting
      } else if (!rule.required.includes(setting) && !rule.allowed.includes(setting))
        fail(`Illegal '${setting}' option with the ${whose}`, -1)
    }
  }

  private readDaemonState(command: CommandName, state: string, word: number): void {
    if (state !== 'master' && state !== 'backup')
      fail(
        command === 'start-daemon'
          ? 'illegal start-daemon parameter specified'
          : 'illegal start_daemon specified',
        word,
      )
    this.daemon.state = state
  }

  private invocation(
    command: CommandName,
    timeouts: Timeouts | undefined,
    schedulerFlags: string[],
  ): Invocation {
    switch (command) {
      case 'add-service':
      case 'edit-service': {
        const serviceOptions = this.serviceOptions(schedulerFlags)
        return {
          kind: 'command',
          command: { op: command, service: this.service(), options: serviceOptions },
        }
      }
      case 'delete-service':
        return { kind: 'command', command: { op: command, service: this.service() } }
      case 'add-server':
      case 'edit-server': {
        const destinationOptions = this.destinationOptions()
        return {
          kind: 'command',
          command: {
            op: command === 'add-server' ? 'add-destination' : 'edit-destination',
            service: this.service(),
            destination: this.destinationKey(),
            options: destinationOptions,
          },
        }
      }
      case 'delete-server':
        return {
          kind: 'command',
          command: {
            op: 'delete-destination',
            service: this.service(),
            destination: this.destinationKey(),
          },
        }
      case 'flush':
        return { kind: 'command', command: { op: 'flush' } }
      case 'zero':
        return { kind: 'command', command: this.zero() }
      case 'set':
        return { kind: 'command', command: { op: 'set-timeouts', timeouts: timeouts! } }
      case 'list':
        return this.list()
      case 'save':
        return { kind: 'save', format: this.listFormat() }
      case 'start-daemon':
        return { kind: command, daemon: this.daemon }
      case 'stop-daemon':
        return { kind: command, state: this.daemon.state }
      case 'restore':
      case 'help':
      case 'version':
        return { kind: command }
    }
  }

  private service(): ServiceKey {
    return this.fwmark
      ? { fwmark: this.fwmark, family: this.family }
      : { protocol: this.protocol!, address: this.address!, port: this.port }
  }

  private serviceOptions(schedulerFlags: string[]): ServiceOptions {
    if (!this.fwmark && this.port === 0 && !this.given.has('persistent'))
      fail('Zero port specified for non-persistent service', -1)
    if (this.given.has('ops') && !this.fwmark && this.protocol !== 'udp')
      fail('One-Packet Scheduling is only for UDP virtual services', -1)
    const prefixLength = this.family === 6 ? this.netmask : prefixLengthOf(this.netmask)
    if (prefixLength === undefined)
      fail(
        `netmask ${formatIpv4(this.netmask)}: only masks with all their ones in front, as 255.255.255.0`,
        this.netmaskWord,
      )
    return {
      scheduler: this.scheduler || DEFAULT_SCHEDULER,
      schedulerFlags,
      persistentTimeoutSeconds: this.persistentSeconds,
      persistentPrefixLength: prefixLength,
      onePacket: this.given.has('ops'),
      ...(this.persistenceEngine && { persistenceEngine: this.persistenceEngine }),
    }
  }

  private destinationKey(): { address: string; port: number } {
    const { address, port } = this.destination!
    return { address, port }
  }

  private destinationOptions(): DestinationOptions {
    const destination = this.destination!
    // Only masquerading can change the port.
    if (!this.fwmark && this.forwarding !== 'masquerade') destination.port = this.port
    if (familyOf(destination.address) !== this.family && this.forwarding !== 'tunnel')
      fail('Different address family is allowed only for tunneling servers', -1)
    const tunnelSettings = settings.filter((setting) => /^tun-(?!info)/.test(setting))
    if (this.forwarding !== 'tunnel' && tunnelSettings.some((setting) => this.given.has(setting)))
      fail('Tunnel options conflict with forward method', -1)
    this.checkRule(
      tunnelRules[this.tunnelType],
      tunnelSettings.filter((setting) => setting !== 'tun-type'),
      `'${this.tunnelType}' tunnel type`,
    )
    return {
      forwarding: this.forwarding,
      weight: this.weight,
      upperThreshold: this.upperThreshold,
      lowerThreshold: this.lowerThreshold,
      ...(this.tunnelType !== 'ipip' && { tunnel: this.tunnelOptions() }),
    }
  }

  private tunnelOptions(): TunnelOptions {
    const { given, tunnelType: type, tunnelPort: port } = this
    const checksum = given.has('tun-csum') ? 'full' : given.has('tun-remcsum') ? 'remote' : 'none'
    return { type, port, checksum }
  }

  /** A service that is all zeros stands for every service. */
  private zero(): Command {
    const isAll =
      !this.given.has('service-address') ||
      (!this.fwmark && this.port === 0 && isUnspecified(this.address!))
    return isAll ? { op: 'zero' } : { op: 'zero', service: this.service() }
  }

  private list(): Invocation {
    const format = this.listFormat()
    const has = (...some: Setting[]): boolean => some.some((setting) => this.given.has(setting))
    if (
      (has('connection', 'timeout', 'daemon') && has('stats', 'rate', 'thresholds')) ||
      (has('timeout', 'daemon') && has('persistent-conn'))
    )
      fail('options conflicts in the list command', -1)
    if (has('connection')) return { kind: 'list-connections', format }
    if (has('service-address')) return { kind: 'list-services', service: this.service(), format }
    if (has('timeout')) return { kind: 'list-timeouts', format }
    if (has('daemon')) return { kind: 'list-daemons', format }
    return { kind: 'list-services', format }
  }

  private listFormat(): ListFormat {
    return {
      numeric: this.given.has('numeric'),
      stats: this.given.has('stats'),
      rate: this.given.has('rate'),
      thresholds: this.given.has('thresholds'),
      persistentConnections: this.given.has('persistent-conn'),
      tunnelInfo: this.given.has('tun-info'),
      exact: this.given.has('exact'),
      sort: !this.given.has('nosort'),
      json: this.given.has('json'),
    }
  }
}

function fail(message: string, word: number): never {
  throw new CommandLineError(message, 2, word)
}

/** A decimal number as strtol(3) reads it, undefined outside the range. */
function toNumber(text: string, least: number, most: number): number | undefined {
  if (!/^[ \t\n\v\f\r]*[+-]?\d+$/.test(text)) return undefined
  const number = Number(text)
  return number >= least && number <= most ? number : undefined
}

function readNumber(
  text: string,
  least: number,
  most: number,
  message: string,
  word: number,
): number {
  return toNumber(text, least, most) ?? fail(message, word)
}

function readTimeout(text: string, least: number, word: number): number {
  return readNumber(
    text,
    least,
    MAX_TIMEOUT_SECONDS,
    `invalid timeout value \`${text}' specified`,
    word,
  )
}

function readFwmark(text: string, word: number): number {
  return readNumber(text, 1, UINT_MAX, `invalid fwmark value \`${text}' specified`, word)
}

function checkMulticastGroup(text: string, word: number): void {
  const family = text.includes(':') ? 6 : 4
  const isGroup =
    isIP(text) === family &&
    (family === 6 ? ipv6Words(text)[0]! >>> 24 === 0xff : parseIpv4(text)! >>> 28 === 0xe)
  if (!isGroup) fail(`invalid IPv${family} mcast-group \`${text}'`, word)
}

function isUnspecified(address: string): boolean {
  return address === '0.0.0.0' || address === '::'
}
