import type { OptionSpec } from './popt.js'

/** The commands, by the names that ipvsadm's messages have for them. */
export type CommandName =
  | 'add-service'
  | 'edit-service'
  | 'delete-service'
  | 'flush'
  | 'list'
  | 'add-server'
  | 'delete-server'
  | 'edit-server'
  | 'set'
  | 'start-daemon'
  | 'stop-daemon'
  | 'restore'
  | 'save'
  | 'zero'
  | 'help'
  | 'version'

/** Things that a command line may say once, in the order in which ipvsadm checks them. */
export const settings = [
  'numeric',
  'connection',
  'service-address',
  'scheduler',
  'persistent',
  'netmask',
  'real-server',
  'forwarding-method',
  'weight',
  'u-threshold',
  'l-threshold',
  'mcast-interface',
  'timeout',
  'daemon',
  'stats',
  'rate',
  'thresholds',
  'persistent-conn',
  'nosort',
  'syncid',
  'exact',
  'ops',
  'pe',
  'sched-flags',
  'mcast-group',
  'mcast-port',
  'mcast-ttl',
  'sync-maxlen',
  'tun-info',
  'tun-type',
  'tun-port',
  'tun-nocsum',
  'tun-csum',
  'tun-remcsum',
  'json',
] as const
export type Setting = (typeof settings)[number]

export interface Option extends OptionSpec {
  /** The command that the option is. */
  command?: CommandName
  /** What the option sets; ipvsadm refuses to set the same thing twice. Absent for -6 and --sort. */
  sets?: Setting
  help: string
}

/** Every option of ipvsadm 1.31, and --json, which goes beyond it. */
export const options: readonly Option[] = [
  { long: 'add-service', short: 'A', command: 'add-service', help: 'add a virtual service' },
  { long: 'edit-service', short: 'E', command: 'edit-service', help: 'change a virtual service' },
  {
    long: 'delete-service',
    short: 'D',
    command: 'delete-service',
    help: 'delete a virtual service',
  },
  { long: 'clear', short: 'C', command: 'flush', help: 'delete all virtual services' },
  { long: 'restore', short: 'R', command: 'restore', help: 'run command lines from stdin' },
  { long: 'save', short: 'S', command: 'save', help: 'write services as command lines to stdout' },
  { long: 'add-server', short: 'a', command: 'add-server', help: 'add a real server to a service' },
  { long: 'edit-server', short: 'e', command: 'edit-server', help: 'change a real server' },
  { long: 'delete-server', short: 'd', command: 'delete-server', help: 'delete a real server' },
  { long: 'list', short: 'L', command: 'list', help: 'list services, connections or timeouts' },
  { long: 'list', short: 'l', command: 'list', help: 'the same as -L' },
  { long: 'zero', short: 'Z', command: 'zero', help: 'set the counters of one or all to zero' },
  { long: 'set', command: 'set', help: 'set timeouts in seconds: TCP, TCP after FIN, UDP' },
  {
    long: 'start-daemon',
    argument: 'master|backup',
    command: 'start-daemon',
    help: 'start connection synchronisation',
  },
  {
    long: 'stop-daemon',
    argument: 'master|backup',
    command: 'stop-daemon',
    help: 'stop connection synchronisation',
  },
  { long: 'help', short: 'h', command: 'help', help: 'print this help' },
  { long: 'version', short: 'v', command: 'version', help: 'print the version' },

  {
    long: 'tcp-service',
    short: 't',
    argument: 'host[:port]',
    sets: 'service-address',
    help: 'the service is TCP at this address',
  },
  {
    long: 'udp-service',
    short: 'u',
    argument: 'host[:port]',
    sets: 'service-address',
    help: 'the service is UDP at this address',
  },
  {
    long: 'sctp-service',
    argument: 'host[:port]',
    sets: 'service-address',
    help: 'the service is SCTP at this address',
  },
  {
    long: 'fwmark-service',
    short: 'f',
    argument: 'mark',
    sets: 'service-address',
    help: 'the service is what carries this firewall mark',
  },
  { long: 'ipv6', short: '6', help: 'after -f: the service is IPv6' },
  {
    long: 'scheduler',
    short: 's',
    argument: 'name',
    sets: 'scheduler',
    help: 'scheduler (wlc when left out)',
  },
  {
    long: 'sched-flags',
    short: 'b',
    argument: 'flags',
    sets: 'sched-flags',
    help: "the scheduler's flags, separated by commas",
  },
  {
    long: 'persistent',
    short: 'p',
    argument: 'seconds',
    optional: true,
    sets: 'persistent',
    help: 'clients keep their server this long (360 when left out)',
  },
  {
    long: 'netmask',
    short: 'M',
    argument: 'mask',
    sets: 'netmask',
    help: 'persistent clients are grouped by this mask (IPv6: prefix length)',
  },
  { long: 'pe', argument: 'name', sets: 'pe', help: 'persistence engine' },
  { long: 'ops', short: 'o', sets: 'ops', help: 'one-packet scheduling (UDP)' },

  {
    long: 'real-server',
    short: 'r',
    argument: 'host[:port]',
    sets: 'real-server',
    help: 'the real server',
  },
  { long: 'gatewaying', short: 'g', sets: 'forwarding-method', help: 'direct routing (default)' },
  { long: 'ipip', short: 'i', sets: 'forwarding-method', help: 'tunneling' },
  { long: 'masquerading', short: 'm', sets: 'forwarding-method', help: 'masquerading (NAT)' },
  { long: 'weight', short: 'w', argument: 'n', sets: 'weight', help: 'share of the load (1)' },
  {
    long: 'u-threshold',
    short: 'x',
    argument: 'n',
    sets: 'u-threshold',
    help: 'no new connections from this many on (0: no limit)',
  },
  {
    long: 'l-threshold',
    short: 'y',
    argument: 'n',
    sets: 'l-threshold',
    help: 'new connections again below this many',
  },
  {
    long: 'tun-type',
    argument: 'type',
    sets: 'tun-type',
    help: 'encapsulation: ipip (default), gue or gre',
  },
  { long: 'tun-port', argument: 'port', sets: 'tun-port', help: 'port of a gue tunnel' },
  { long: 'tun-nocsum', sets: 'tun-nocsum', help: 'tunnel without checksum' },
  { long: 'tun-csum', sets: 'tun-csum', help: 'tunnel with checksum' },
  { long: 'tun-remcsum', sets: 'tun-remcsum', help: 'tunnel with remote checksum' },

  { long: 'numeric', short: 'n', sets: 'numeric', help: 'numbers instead of names' },
  { long: 'connection', short: 'c', sets: 'connection', help: 'list connections' },
  { long: 'timeout', sets: 'timeout', help: 'list timeouts' },
  { long: 'daemon', sets: 'daemon', help: 'list synchronisation daemons' },
  { long: 'stats', sets: 'stats', help: 'counters' },
  { long: 'rate', sets: 'rate', help: 'rates per second' },
  { long: 'exact', short: 'X', sets: 'exact', help: 'large numbers unabbreviated' },
  { long: 'thresholds', sets: 'thresholds', help: 'thresholds' },
  { long: 'persistent-conn', sets: 'persistent-conn', help: 'persistent connections' },
  { long: 'tun-info', sets: 'tun-info', help: 'tunnel types' },
  { long: 'nosort', sets: 'nosort', help: "keep the director's order" },
  { long: 'sort', help: 'sort, as is done anyway' },
  { long: 'json', sets: 'json', help: 'list as JSON' },

  {
    long: 'mcast-interface',
    argument: 'name',
    sets: 'mcast-interface',
    help: 'synchronisation: interface',
  },
  { long: 'syncid', argument: 'id', sets: 'syncid', help: 'synchronisation: id' },
  { long: 'mcast-group', argument: 'address', sets: 'mcast-group', help: 'synchronisation: group' },
  { long: 'mcast-port', argument: 'port', sets: 'mcast-port', help: 'synchronisation: port' },
  { long: 'mcast-ttl', argument: 'ttl', sets: 'mcast-ttl', help: 'synchronisation: TTL' },
  {
    long: 'sync-maxlen',
    argument: 'bytes',
    sets: 'sync-maxlen',
    help: 'synchronisation: longest message',
  },
]

/** What goes with a command. Of `oneOf` a command line may have one. */
export interface CommandRule {
  required: readonly Setting[]
  allowed: readonly Setting[]
  oneOf: readonly Setting[]
}

const nothing: CommandRule = { required: [], allowed: [], oneOf: [] }
const serviceRule: CommandRule = {
  ...nothing,
  required: ['service-address'],
  allowed: ['scheduler', 'persistent', 'netmask', 'ops', 'pe', 'sched-flags'],
}
const serverRule: CommandRule = {
  ...nothing,
  required: ['service-address', 'real-server'],
  allowed: [
    'forwarding-method',
    'weight',
    'u-threshold',
    'l-threshold',
    'tun-type',
    'tun-port',
    'tun-nocsum',
    'tun-csum',
    'tun-remcsum',
  ],
}

export const commandRules: Record<CommandName, CommandRule> = {
  'add-service': serviceRule,
  'edit-service': serviceRule,
  'delete-service': { ...nothing, required: ['service-address'] },
  flush: nothing,
  list: {
    ...nothing,
    allowed: [
      'numeric',
      'stats',
      'rate',
      'thresholds',
      'persistent-conn',
      'nosort',
      'syncid',
      'exact',
      'tun-info',
      'json',
    ],
    oneOf: ['connection', 'service-address', 'timeout', 'daemon'],
  },
  'add-server': serverRule,
  'edit-server': serverRule,
  'delete-server': { ...nothing, required: ['service-address', 'real-server'] },
  set: nothing,
  'start-daemon': {
    ...nothing,
    allowed: ['mcast-interface', 'syncid', 'mcast-group', 'mcast-port', 'mcast-ttl', 'sync-maxlen'],
  },
  'stop-daemon': { ...nothing, allowed: ['syncid'] },
  restore: nothing,
  save: { ...nothing, allowed: ['numeric'] },
  zero: { ...nothing, allowed: ['service-address'] },
  help: nothing,
  version: nothing,
}

/** Tunnel types and the checksum and port options that go with each. */
export const tunnelRules = {
  ipip: nothing,
  gue: {
    required: ['tun-port'],
    allowed: [],
    oneOf: ['tun-nocsum', 'tun-csum', 'tun-remcsum'],
  },
  gre: { required: [], allowed: [], oneOf: ['tun-nocsum', 'tun-csum'] },
} as const satisfies Record<string, CommandRule>
export type TunnelType = keyof typeof tunnelRules
