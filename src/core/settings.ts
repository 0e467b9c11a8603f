import { IpvsError } from './commands.js'

/**
 * The knobs of net.ipv4.vs.* and of the ICMP rate limits. One object of plain numbers, read on the packet
 * path; where the kernel has a yes or no, any number but 0 is yes. What each means stands in
 * `settingTable`; all but the rate limits can be read and written by the kernel's names while it runs.
 */
export interface Settings {
  alwaysModeDropRate: number
  availableMemoryThresholdPages: number
  backupOnly: number
  cacheBypass: number
  connectionReuseMode: number
  connectionTracking: number
  debugLevel: number
  dropEntry: number
  dropPacket: number
  expireNoDestinationConnections: number
  expireQuiescentTemplates: number
  ignoreTunneled: number
  lblcExpirationSeconds: number
  lblcrExpirationSeconds: number
  natIcmpSend: number
  pathMtuDiscovery: number
  runEstimation: number
  scheduleIcmp: number
  secureTcp: number
  sloppySctp: number
  sloppyTcp: number
  snatReroute: number
  syncPersistMode: number
  syncPorts: number
  syncQueueMaximum: number
  syncRefreshPeriodSeconds: number
  syncRetries: number
  syncSocketBytes: number
  syncThreshold: number
  syncPeriod: number
  syncVersion: number
  /** ICMP errors to one host: one in so many jiffies after a burst of six. */
  icmpRateLimitJiffies: number
  /** ICMP errors in all: so many a second, in bursts of at most `icmpMessagesBurst`. */
  icmpMessagesPerSecond: number
  icmpMessagesBurst: number
}

/** A setting of net.ipv4.vs as the kernel has it: its name there, what it takes, and what it does. */
export interface SettingKind {
  /** Without `net.ipv4.vs.`. */
  readonly name: string
  /** Where its values are in `Settings`: one for most, as many as the kernel's vector has. */
  readonly fields: readonly (keyof Settings)[]
  readonly defaults: readonly number[]
  /** Each value is from minimum to maximum. */
  readonly minimum: number
  readonly maximum: number
  /** Where the range does not say it all: whether the values go together. */
  readonly accepts?: (values: readonly number[]) => boolean
  readonly isReadOnly?: true
  readonly unit: string
  /** In a sentence, for people. */
  readonly meaning: string
}

const MIN_INT = -0x80000000
const MAX_INT = 0x7fffffff
/** The most seconds that fit an int of jiffies at a HZ of 100. */
const MAX_SECONDS = 21474836

const anyInteger = { minimum: MIN_INT, maximum: MAX_INT } as const
const mode = { minimum: 0, maximum: 3, unit: 'mode' } as const
const seconds = { minimum: -MAX_SECONDS, maximum: MAX_SECONDS, unit: 'seconds' } as const
const yesOrNo = { ...anyInteger, unit: '0 or not' } as const

const NO_DAEMON = 'kept, without effect: there is no synchronisation daemon'

/**
 * All settings in the order of their names, with the defaults and ranges of Linux 6.1
 * (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_lblc.c, ip_vs_lblcr.c; Documentation/networking/ipvs-sysctl.rst).
 */
export const settingTable: readonly SettingKind[] = [
  {
    name: 'am_droprate',
    fields: ['alwaysModeDropRate'],
    defaults: [10],
    ...anyInteger,
    unit: 'packets',
    meaning: 'drop_packet 3 drops one packet in so many of those that would begin a connection',
  },
  {
    name: 'amemthresh',
    fields: ['availableMemoryThresholdPages'],
    defaults: [1024],
    ...anyInteger,
    unit: 'pages of 4 KiB',
    meaning: 'the automatic modes of the defences are on while less memory than this is free',
  },
  {
    name: 'backup_only',
    fields: ['backupOnly'],
    defaults: [0],
    ...yesOrNo,
    meaning: NO_DAEMON,
  },
  {
    name: 'cache_bypass',
    fields: ['cacheBypass'],
    defaults: [0],
    ...yesOrNo,
    meaning:
      'a firewall-mark service without a usable destination sends packets on to where they were going',
  },
  {
    name: 'conn_reuse_mode',
    fields: ['connectionReuseMode'],
    defaults: [1],
    ...anyInteger,
    unit: 'bits',
    meaning:
      'a SYN that meets a closed connection is scheduled anew (not 0), one in FIN_WAIT whose replies are not seen as well (bit 2)',
  },
  {
    name: 'conntrack',
    fields: ['connectionTracking'],
    defaults: [0],
    ...yesOrNo,
    meaning: 'kept, without effect: there is no connection tracking to hand connections to',
  },
  {
    name: 'debug_level',
    fields: ['debugLevel'],
    defaults: [0],
    ...anyInteger,
    isReadOnly: true,
    unit: 'level',
    meaning: 'always 0: there are no debug messages',
  },
  {
    name: 'drop_entry',
    fields: ['dropEntry'],
    defaults: [0],
    ...mode,
    meaning:
      'each second a random part of the table is searched for connections that can be spared: 0 never, 3 always, 1 and 2 while memory is short',
  },
  {
    name: 'drop_packet',
    fields: ['dropPacket'],
    defaults: [0],
    ...mode,
    meaning:
      'some packets that would begin a connection are dropped: 0 none, 3 one in am_droprate, 1 and 2 while memory is short',
  },
  {
    name: 'expire_nodest_conn',
    fields: ['expireNoDestinationConnections'],
    defaults: [0],
    ...yesOrNo,
    meaning:
      'connections end with their destination, and their packets are scheduled anew instead of dropped',
  },
  {
    name: 'expire_quiescent_template',
    fields: ['expireQuiescentTemplates'],
    defaults: [0],
    ...yesOrNo,
    meaning: 'templates of a destination with weight 0 are not followed',
  },
  {
    name: 'ignore_tunneled',
    fields: ['ignoreTunneled'],
    defaults: [0],
    ...yesOrNo,
    meaning: 'kept, without effect: as in current kernels, whose tunnels forget it',
  },
  {
    name: 'lblc_expiration',
    fields: ['lblcExpirationSeconds'],
    defaults: [86400],
    ...seconds,
    meaning: 'the lblc scheduler forgets an address that was not asked for so long',
  },
  {
    name: 'lblcr_expiration',
    fields: ['lblcrExpirationSeconds'],
    defaults: [86400],
    ...seconds,
    meaning: 'the lblcr scheduler forgets an address that was not asked for so long',
  },
  {
    name: 'nat_icmp_send',
    fields: ['natIcmpSend'],
    defaults: [0],
    ...yesOrNo,
    meaning:
      'a masqueraded real server that sends on no connection is told that the port is unreachable',
  },
  {
    name: 'pmtu_disc',
    fields: ['pathMtuDiscovery'],
    defaults: [1],
    ...yesOrNo,
    meaning: 'path MTU discovery through tunnels: packets with DF that are too big are answered',
  },
  {
    name: 'run_estimation',
    fields: ['runEstimation'],
    defaults: [1],
    ...yesOrNo,
    meaning: 'counters and rates are summed up every 2 seconds; 0 keeps them as they are',
  },
  {
    name: 'schedule_icmp',
    fields: ['scheduleIcmp'],
    defaults: [0],
    ...yesOrNo,
    meaning: 'ICMP errors that belong to no connection are scheduled',
  },
  {
    name: 'secure_tcp',
    fields: ['secureTcp'],
    defaults: [0],
    ...mode,
    meaning: 'the stricter table of TCP states: 0 never, 3 always, 1 and 2 while memory is short',
  },
  {
    name: 'sloppy_sctp',
    fields: ['sloppySctp'],
    defaults: [0],
    ...yesOrNo,
    meaning: 'SCTP connections may begin with any chunk',
  },
  {
    name: 'sloppy_tcp',
    fields: ['sloppyTcp'],
    defaults: [0],
    ...yesOrNo,
    meaning: 'TCP connections may begin with any packet but a RST',
  },
  {
    name: 'snat_reroute',
    fields: ['snatReroute'],
    defaults: [1],
    ...yesOrNo,
    meaning: 'replies of masqueraded real servers are routed as if the director had sent them',
  },
  {
    name: 'sync_persist_mode',
    fields: ['syncPersistMode'],
    defaults: [0],
    ...anyInteger,
    unit: 'mode',
    meaning: NO_DAEMON,
  },
  {
    name: 'sync_ports',
    fields: ['syncPorts'],
    defaults: [1],
    minimum: 1,
    maximum: MAX_INT,
    accepts: ([count]) => (count! & (count! - 1)) === 0,
    unit: 'ports, a power of two',
    meaning: NO_DAEMON,
  },
  {
    name: 'sync_qlen_max',
    fields: ['syncQueueMaximum'],
    // The kernel's is a 32nd of its free pages.
    defaults: [8192],
    minimum: 0,
    maximum: Number.MAX_SAFE_INTEGER,
    unit: 'messages',
    meaning: NO_DAEMON,
  },
  {
    name: 'sync_refresh_period',
    fields: ['syncRefreshPeriodSeconds'],
    defaults: [0],
    ...seconds,
    meaning: NO_DAEMON,
  },
  {
    name: 'sync_retries',
    fields: ['syncRetries'],
    defaults: [0],
    minimum: 0,
    maximum: 3,
    unit: 'retries',
    meaning: NO_DAEMON,
  },
  {
    name: 'sync_sock_size',
    fields: ['syncSocketBytes'],
    defaults: [0],
    ...anyInteger,
    unit: 'bytes',
    meaning: NO_DAEMON,
  },
  {
    name: 'sync_threshold',
    fields: ['syncThreshold', 'syncPeriod'],
    defaults: [3, 50],
    minimum: 0,
    maximum: MAX_INT,
    accepts: ([threshold, period]) => period === 0 || threshold! < period!,
    unit: 'packets',
    meaning: NO_DAEMON,
  },
  {
    name: 'sync_version',
    fields: ['syncVersion'],
    defaults: [1],
    minimum: 0,
    maximum: 1,
    unit: 'version',
    meaning: NO_DAEMON,
  },
]

const byName = new Map(settingTable.map((kind) => [kind.name, kind]))

/** The kernel's defaults. */
export function defaultSettings(): Settings {
  const settings = {
    icmpRateLimitJiffies: 100,
    icmpMessagesPerSecond: 1000,
    icmpMessagesBurst: 50,
  } as Settings
  for (const { fields, defaults } of settingTable)
    fields.forEach((field, i) => (settings[field] = defaults[i]!))
  return settings
}

/** @throws IpvsError ENOENT when there is no setting of this name */
export function settingKind(name: string): SettingKind {
  const kind = byName.get(name)
  if (!kind) throw new IpvsError('ENOENT', `there is no setting '${name}'`)
  return kind
}

/** A setting's value as reading its file under /proc/sys/net/ipv4/vs gives it, without the line's end. */
export function formatSetting(settings: Settings, kind: SettingKind): string {
  return kind.fields.map((field) => settings[field]).join('\t')
}

/**
 * Sets what writing the text to its file under /proc/sys/net/ipv4/vs would set: numbers may be decimal,
 * hexadecimal after 0x or octal after 0, and what comes after them is not looked at. A vector that gets
 * fewer numbers keeps the rest.
 *
 * @throws IpvsError EACCES for one that cannot be written, EINVAL for what the kernel refuses; then nothing
 *   has changed
 */
export function writeSetting(settings: Settings, kind: SettingKind, text: string): void {
  const { name, fields, minimum, maximum } = kind
  if (kind.isReadOnly) throw new IpvsError('EACCES', `${name} can only be read`)
  const words = text.split(WHITE_SPACE).filter((word) => word !== '')
  const values = fields.map((field, i) => {
    const word = words[i]
    if (word === undefined && i > 0) return settings[field]
    const value = word === undefined ? undefined : parseNumber(word)
    if (value === undefined)
      throw new IpvsError('EINVAL', `'${word ?? text}' is no value of ${name}: it takes a number`)
    if (value < minimum || value > maximum)
      throw new IpvsError('EINVAL', `${name} ${word} is not within ${minimum} to ${maximum}`)
    return value
  })
  if (kind.accepts && !kind.accepts(values))
    throw new IpvsError('EINVAL', `${values.join(' ')} is no value of ${name} (${kind.unit})`)
  fields.forEach((field, i) => (settings[field] = values[i]!))
}

/** What the kernel takes for the end of a number. */
const WHITE_SPACE = /[ \t\n]+/
/** Its longest number: more characters do not fit where it copies them to. */
const MAX_NUMBER_LENGTH = 20

function parseNumber(word: string): number | undefined {
  const match = /^(-?)(?:0x([0-9a-f]+)|(0[0-7]*)|([1-9][0-9]*))$/i.exec(word)
  if (!match || word.length > MAX_NUMBER_LENGTH) return undefined
  const [, sign, hexadecimal, octal, decimal] = match
  const magnitude =
    hexadecimal !== undefined
      ? parseInt(hexadecimal, 16)
      : octal !== undefined
        ? parseInt(octal, 8)
        : Number(decimal)
  return sign === '-' && magnitude !== 0 ? -magnitude : magnitude
}

const PREFIXES = ['net.ipv4.vs.', 'net/ipv4/vs/']

/** The setting's name in a key as sysctl(8) has them, `net.ipv4.vs.drop_entry`; undefined for other keys. */
export function settingName(key: string): string | undefined {
  const prefix = PREFIXES.find((prefix) => key.startsWith(prefix))
  return prefix === undefined ? undefined : key.slice(prefix.length)
}
