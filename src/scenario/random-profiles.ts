/**
 * Profiles of random scenarios: what a scenario is mostly about, as weights of the dice. Each says only where
 * it differs from `ordinary`.
 */

export type ProtocolName = 'tcp' | 'udp' | 'sctp' | 'mark'
export type ForwardingOption = '-m' | '-g' | '-i'

/** What a scenario may do next. */
export type Action =
  /** A new connection, or a datagram, of some client. */
  | 'open'
  /** Several of them, one after the other. */
  | 'burst'
  /** Connections go on as their protocols have it. */
  | 'step'
  /** A packet out of turn: any flags, from either end. */
  | 'deviate'
  /** A connection begins anew from the same port. */
  | 'reuse'
  /** Time passes. */
  | 'wait'
  | 'add-destination'
  | 'edit-destination'
  | 'delete-destination'
  | 'add-service'
  | 'edit-service'
  | 'delete-service'
  | 'flush'
  | 'zero'
  | 'timeouts'
  | 'setting'
  /** A command that the kernel refuses. */
  | 'invalid'
  | 'list'
  /** A packet that belongs to nothing. */
  | 'stray'
  | 'icmp'
  | 'fragment'
  | 'malformed'
  /** A packet with IPv4 options, sound or broken. */
  | 'options'

export type Weights<K extends string> = Readonly<Partial<Record<K, number>>>

export interface Profile {
  readonly name: string
  /** In a line, for people. */
  readonly summary: string
  readonly schedulers: readonly string[]
  readonly families: readonly (4 | 6)[]
  readonly protocols: Weights<ProtocolName>
  readonly forwarding: Weights<ForwardingOption>
  /** Probabilities. */
  readonly persistent: number
  readonly thresholds: number
  readonly onePacket: number
  readonly schedulerFlags: number
  /** Of persistent UDP services, that they go by Call-ID. */
  readonly sip: number
  /** Of a tunnel other than IPIP. */
  readonly otherTunnels: number
  /** Destinations that weigh nothing. */
  readonly weightless: number
  /** Long payloads. */
  readonly long: number
  /** Settings written at the start, this many at most. */
  readonly settings: number
  /** Names of net.ipv4.vs that may be written; all when absent. */
  readonly settingNames?: readonly string[]
  /** Seconds to wait, in ranges. */
  readonly waits: readonly (readonly [least: number, most: number, weight: number])[]
  readonly services: readonly [least: number, most: number]
  readonly destinations: readonly [least: number, most: number]
  readonly steps: readonly [least: number, most: number]
  readonly actions: Weights<Action>
}

/** Of Linux 6.1, all that choose without dice. */
export const schedulerNames = [
  ...['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'dh', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh'],
] as const

const ordinary: Omit<Profile, 'name' | 'summary'> = {
  schedulers: schedulerNames,
  families: [4],
  protocols: { tcp: 5, udp: 3, mark: 1 },
  forwarding: { '-m': 4, '-g': 2, '-i': 1 },
  persistent: 0.2,
  thresholds: 0.1,
  onePacket: 0.1,
  schedulerFlags: 0.3,
  sip: 0,
  otherTunnels: 0,
  weightless: 0.08,
  long: 0.05,
  settings: 0,
  waits: [
    [0.01, 1, 4],
    [1, 12, 4],
    [12, 70, 3],
    [100, 400, 2],
    [880, 1000, 1],
    [3000, 4000, 0.5],
  ],
  services: [1, 3],
  destinations: [1, 4],
  steps: [12, 45],
  actions: {
    open: 8,
    burst: 2,
    step: 14,
    deviate: 2,
    reuse: 2,
    wait: 5,
    'add-destination': 0.7,
    'edit-destination': 1,
    'delete-destination': 0.7,
    'add-service': 0.2,
    'edit-service': 0.3,
    'delete-service': 0.1,
    flush: 0.05,
    zero: 0.1,
    timeouts: 0.2,
    setting: 0,
    invalid: 0.3,
    list: 1,
    stray: 0.8,
  },
}

/** A profile that differs from another; of weights only those that are given do. */
function profile(
  name: string,
  summary: string,
  differences: Partial<Profile> & { actions?: Weights<Action> } = {},
  base: Omit<Profile, 'name' | 'summary'> = ordinary,
): Profile {
  const { actions, ...others } = differences
  return { ...base, ...others, name, summary, actions: { ...base.actions, ...actions } }
}

const schedulerActions: Weights<Action> = {
  open: 8,
  burst: 8,
  step: 6,
  deviate: 0.3,
  'add-destination': 1.5,
  'edit-destination': 2.5,
  'delete-destination': 1.5,
  'edit-service': 0.7,
  list: 2,
}

const perScheduler = schedulerNames.map((scheduler) =>
  profile(scheduler, `scheduler ${scheduler}, with edits while it runs`, {
    schedulers: [scheduler],
    families: [4, 4, 4, 6],
    services: [1, 2],
    destinations: [1, 5],
    persistent: 0.1,
    thresholds: 0.2,
    weightless: 0.12,
    schedulerFlags: 0.6,
    actions: schedulerActions,
  }),
)

const everything = profile('all', 'everything at once', {
  families: [4, 4, 6],
  protocols: { tcp: 5, udp: 3, sctp: 1, mark: 1.5 },
  otherTunnels: 0.2,
  settings: 2,
  sip: 0.2,
  actions: { setting: 0.5, icmp: 1, fragment: 0.7, malformed: 0.7, options: 0.5, invalid: 0.6 },
})

export const profiles: readonly Profile[] = [
  everything,
  profile('schedulers', 'all schedulers, with edits while they run', {
    destinations: [1, 5],
    thresholds: 0.2,
    schedulerFlags: 0.5,
    actions: schedulerActions,
  }),
  ...perScheduler,
  profile('states', 'states and timeouts of TCP and UDP connections', {
    schedulers: ['rr', 'lc', 'wlc'],
    services: [1, 2],
    destinations: [1, 2],
    protocols: { tcp: 5, udp: 1 },
    persistent: 0.05,
    actions: { open: 4, burst: 0, step: 20, deviate: 8, reuse: 3, list: 3 },
  }),
  profile('persistence', 'persistent services: netmasks, ports, marks, templates', {
    persistent: 0.95,
    protocols: { tcp: 4, udp: 2, mark: 3 },
    actions: { open: 12, 'edit-service': 1, list: 2 },
  }),
  profile('marks', 'services by firewall mark', {
    protocols: { tcp: 1, udp: 1, mark: 6 },
    persistent: 0.4,
  }),
  profile('thresholds', 'upper and lower thresholds', {
    schedulers: ['rr', 'wrr', 'lc', 'wlc', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh', 'dh', 'lblc'],
    thresholds: 0.9,
    services: [1, 2],
    destinations: [1, 3],
    actions: { burst: 4, 'edit-destination': 4 },
  }),
  profile('settings', 'settings, before and between packets', {
    settings: 4,
    services: [1, 2],
    destinations: [1, 3],
    weightless: 0.2,
    actions: { setting: 3, 'edit-destination': 2, 'delete-destination': 1.5, reuse: 4 },
  }),
  profile('reuse', 'clients that use their ports again', {
    schedulers: ['rr', 'wlc', 'lc'],
    protocols: { tcp: 6, udp: 1 },
    settings: 2,
    settingNames: [
      'conn_reuse_mode',
      'expire_nodest_conn',
      'expire_quiescent_template',
      'sloppy_tcp',
    ],
    weightless: 0.2,
    services: [1, 2],
    actions: { reuse: 8, step: 16, 'edit-destination': 2, 'delete-destination': 1.5 },
  }),
  profile('time', 'much of it', {
    services: [1, 2],
    destinations: [1, 3],
    protocols: { tcp: 3, udp: 2, mark: 0.5 },
    persistent: 0.4,
    waits: [
      [0.01, 5, 2],
      [5, 60, 3],
      [60, 130, 3],
      [130, 900, 3],
      [900, 4000, 2],
    ],
    actions: { wait: 14, timeouts: 1, 'delete-destination': 1.5, 'add-destination': 1.5, list: 4 },
  }),
  profile('icmp', 'ICMP errors about connections, and other ICMP', {
    services: [1, 2],
    destinations: [1, 2],
    forwarding: { '-m': 3, '-g': 1, '-i': 1.5 },
    settings: 1,
    settingNames: ['schedule_icmp', 'nat_icmp_send', 'pmtu_disc', 'snat_reroute'],
    long: 0.15,
    actions: { icmp: 12, open: 6, step: 6, wait: 2 },
  }),
  profile('fragments', 'packets in fragments', {
    services: [1, 2],
    destinations: [1, 2],
    protocols: { tcp: 1, udp: 4, mark: 1 },
    long: 0.3,
    settings: 1,
    settingNames: ['pmtu_disc'],
    actions: { fragment: 10 },
  }),
  profile('malformed', 'packets that are none, and strays', {
    actions: { malformed: 10, options: 4, stray: 8 },
  }),
  profile('options', 'IPv4 options', {
    services: [1, 2],
    destinations: [1, 2],
    forwarding: { '-m': 3, '-g': 1, '-i': 1 },
    settings: 1,
    settingNames: ['snat_reroute', 'cache_bypass', 'nat_icmp_send'],
    actions: { options: 14, open: 5, step: 5, wait: 3 },
  }),
  profile('sip', 'persistence by Call-ID', {
    protocols: { udp: 5, mark: 1, tcp: 0.5 },
    persistent: 0.95,
    sip: 0.9,
    services: [1, 2],
    settings: 1,
    settingNames: ['expire_nodest_conn', 'expire_quiescent_template', 'conn_reuse_mode'],
    actions: { open: 12, 'edit-destination': 1.5, 'delete-destination': 1.5, list: 2 },
  }),
  profile('sctp', 'SCTP', {
    protocols: { sctp: 6, mark: 1 },
    services: [1, 2],
    settings: 1,
    settingNames: ['sloppy_sctp', 'expire_nodest_conn', 'conn_reuse_mode', 'secure_tcp'],
    actions: { deviate: 6, step: 18 },
  }),
  profile('tunnels', 'tunnels of all types, and what does not fit into them', {
    families: [4, 4, 6],
    forwarding: { '-i': 1 },
    otherTunnels: 0.6,
    long: 0.3,
    settings: 1,
    settingNames: ['pmtu_disc', 'ignore_tunneled'],
    actions: { icmp: 4, fragment: 1 },
  }),
  profile('ipv6', 'IPv6', {
    families: [6],
    protocols: { tcp: 5, udp: 3, sctp: 0.5, mark: 1 },
    actions: { icmp: 2, fragment: 0.5, malformed: 0.5 },
  }),
  profile('edits', 'commands, right and wrong, more than packets', {
    families: [4, 4, 4, 6],
    protocols: { tcp: 4, udp: 2, sctp: 1, mark: 2 },
    otherTunnels: 0.2,
    actions: {
      'add-destination': 5,
      'edit-destination': 6,
      'delete-destination': 5,
      'add-service': 3,
      'edit-service': 5,
      'delete-service': 2,
      flush: 0.4,
      zero: 1,
      timeouts: 1,
      invalid: 6,
      list: 6,
    },
  }),
]

/** The profile of a name, undefined when there is none. */
export function profileNamed(name: string): Profile | undefined {
  return profiles.find((profile) => profile.name === name)
}
