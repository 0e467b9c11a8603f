import { SeededRandom } from '../port/random.js'
import { hexOf } from './decode.js'
import {
  Dice,
  disturb,
  encapsulate,
  fragments,
  icmpMessage,
  packetOf,
  randomOptions,
  sipPacket,
  spoil,
  withOptions,
} from './random-packets.js'
import {
  schedulerNames,
  type Action,
  type ForwardingOption,
  type Profile,
  type ProtocolName,
} from './random-profiles.js'
import type { Side } from './scenario.js'

/**
 * A random scenario as text. The same seed and profile make the same text on every machine and with every
 * version of the director, since nothing here asks what becomes of a packet: a reply comes from every server
 * that may have been chosen.
 */
export function randomScenario(seed: number, profile: Profile): string {
  const lines = new Generator(diceFor(seed, profile.name), profile).run()
  return [`# Made at random: seed ${seed}, profile ${profile.name}.`, ...lines, ''].join('\n')
}

/** Neighbouring seeds, and the same seed in two profiles, are to have nothing in common. */
function diceFor(seed: number, name: string): Dice {
  let hash = Math.imul(seed | 0, 0x9e3779b1) ^ 0x85ebca6b
  for (const character of name)
    hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193) ^ (hash >>> 15)
  const random = new SeededRandom(hash)
  for (let i = 0; i < 16; i++) random.next()
  return new Dice(random)
}

type Family = 4 | 6
type Transport = 'tcp' | 'udp' | 'sctp'

interface Service {
  family: Family
  kind: ProtocolName
  address: string
  port: number
  mark: number
  persistent: boolean
  /** It goes by Call-ID. */
  sip: boolean
  destinations: Destination[]
  /** Those that there were at any time: connections may still know them. */
  everyone: Destination[]
}

interface Destination {
  address: string
  port: number
  forwarding: ForwardingOption
}

/** What a client has begun: where its packets go and what it does next. */
interface Flow {
  transport: Transport
  client: string
  clientPort: number
  virtual: string
  virtualPort: number
  mark: number
  service: Service
  script: readonly Step[]
  next: number
}

/** From which end, what: TCP flags or an SCTP chunk. */
type Step = readonly [end: 'client' | 'server', what: string]

/** Few addresses and ports, so that they meet again. */
const pools = {
  4: {
    clients: ['10.1.9.1', '10.1.9.2', '10.1.9.130', '10.1.10.1', '192.0.2.7'],
    virtuals: ['10.1.0.100', '10.1.0.101', '203.0.113.5'],
    servers: ['10.2.0.3', '10.2.0.4', '10.2.0.5', '10.2.0.6', '10.2.0.7'],
    /** A server beside the clients, one behind the gateway, the director itself. */
    oddServers: ['10.1.0.3', '10.3.0.9', '10.1.0.1'],
    router: '10.2.0.254',
    own: { client: '10.1.0.1', server: '10.2.0.1' },
  },
  6: {
    clients: ['fd01::9:1', 'fd01::9:2', 'fd01::a:1', '2001:db8::7'],
    virtuals: ['fd01::100', 'fd01::101', '2001:db8:5::5'],
    servers: ['fd02::3', 'fd02::4', 'fd02::5', 'fd02::6', 'fd02::7'],
    oddServers: ['fd01::3', 'fd03::9', 'fd01::1'],
    router: 'fd02::fe',
    own: { client: 'fd01::1', server: 'fd02::1' },
  },
} as const

const clientPorts = [1024, 1025, 1026, 40000]
const servicePorts = [80, 443, 53]
const serverPorts = [80, 8080]

const client = (what: string): Step => ['client', what]
const server = (what: string): Step => ['server', what]

const tcpHandshake = [client('S'), server('SA'), client('A')]
const tcpScripts: readonly (readonly Step[])[] = [
  tcpHandshake,
  // Closed by the client, by the server, by both at once, in one packet less.
  [
    ...tcpHandshake,
    client('PA'),
    server('A'),
    client('FA'),
    server('A'),
    server('FA'),
    client('A'),
  ],
  [
    ...tcpHandshake,
    client('PA'),
    server('PA'),
    server('FA'),
    client('A'),
    client('FA'),
    server('A'),
  ],
  [...tcpHandshake, client('FA'), server('FA'), client('A'), server('A')],
  [...tcpHandshake, client('A'), server('FA'), client('FA'), server('A')],
  [...tcpHandshake, client('R')],
  [...tcpHandshake, server('RA')],
  [client('S'), server('RA')],
  [client('S'), client('S'), server('SA'), client('A'), client('A')],
  // As a client does behind direct routing, whose replies are not seen.
  [client('S'), client('A'), client('PA'), client('FA'), client('A')],
  [client('S'), client('A'), client('FA'), client('A'), client('S')],
]
const udpScripts: readonly (readonly Step[])[] = [
  [client(''), server(''), client(''), server('')],
  [client(''), client('')],
]
const sctpSetup = [client('INIT'), server('INIT_ACK'), client('COOKIE_ECHO'), server('COOKIE_ACK')]
const sctpScripts: readonly (readonly Step[])[] = [
  [...sctpSetup, client('DATA'), server('SACK')],
  [...sctpSetup, client('SHUTDOWN'), server('SHUTDOWN_ACK'), client('SHUTDOWN_COMPLETE')],
  [...sctpSetup, server('SHUTDOWN'), client('SHUTDOWN_ACK'), server('SHUTDOWN_COMPLETE')],
  [...sctpSetup, client('ABORT')],
  [client('INIT'), server('ABORT')],
  [client('INIT'), client('INIT'), server('INIT_ACK'), client('ERROR')],
]
const scripts = { tcp: tcpScripts, udp: udpScripts, sctp: sctpScripts }

/** Call-IDs: two alike, one too long to be kept whole, and none. */
const callIds = ['a84b4c76e66710', 'a84b4c76e6671', 'x@192.0.2.1', 'y'.repeat(64), undefined]

const tcpFlags = ['S', 'SA', 'A', 'FA', 'F', 'R', 'RA', 'PA', 'SF', 'SR', 'FR', 'U', 'SFRPAU']
const sctpChunks = [
  ...['INIT', 'INIT_ACK', 'COOKIE_ECHO', 'COOKIE_ACK', 'DATA', 'SACK', 'SHUTDOWN'],
  ...['SHUTDOWN_ACK', 'SHUTDOWN_COMPLETE', 'ABORT', 'ERROR'],
]

/**
 * Values that settings are tried with. What chooses at random (drop_entry 3) or by free memory is not here;
 * `defence` for those that only take effect at the next run of the kernel's defence timer, once a second.
 */
const settings: readonly { name: string; values: readonly number[]; defence?: true }[] = [
  { name: 'am_droprate', values: [1, 2, 3, 10, 0, -1], defence: true },
  { name: 'amemthresh', values: [0, 1024] },
  { name: 'cache_bypass', values: [0, 1, -1] },
  { name: 'conn_reuse_mode', values: [0, 1, 2, 3, 4, -1] },
  { name: 'conntrack', values: [0] },
  { name: 'drop_entry', values: [0, 1] },
  { name: 'drop_packet', values: [0, 1, 3, 4, -1], defence: true },
  { name: 'expire_nodest_conn', values: [0, 1, 2] },
  { name: 'expire_quiescent_template', values: [0, 1] },
  { name: 'ignore_tunneled', values: [0, 1] },
  { name: 'nat_icmp_send', values: [0, 1, 256] },
  { name: 'pmtu_disc', values: [0, 1, -2147483648] },
  { name: 'run_estimation', values: [0, 1] },
  { name: 'schedule_icmp', values: [0, 1] },
  { name: 'secure_tcp', values: [0, 1, 2, 3], defence: true },
  { name: 'sloppy_sctp', values: [0, 1] },
  { name: 'sloppy_tcp', values: [0, 1] },
  { name: 'snat_reroute', values: [0, 1] },
  { name: 'lblc_expiration', values: [0, 1, 60, 86400, -5] },
  { name: 'lblcr_expiration', values: [0, 1, 60, 600, -5] },
]
/** What lets the defence timer run at least once. */
const DEFENCE_SECONDS = 2.5

/** An address and a port as scenarios and ipvsadm write them. */
const endpoint = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

class Generator {
  private readonly lines: string[] = []
  private readonly services: Service[] = []
  private readonly flows: Flow[] = []
  /**
   * By service and server, whether the server is reached by direct routing. It never changes: where a method
   * changes to that while there are connections, the kernel goes on with a route that is none for it.
   */
  private readonly direct = new Map<string, boolean>()
  private nowMs = 0

  constructor(
    private readonly dice: Dice,
    private readonly profile: Profile,
  ) {}

  run(): string[] {
    const { dice, profile } = this
    for (let i = dice.between(0, profile.settings); i > 0; i--) this.setSetting()
    for (let i = dice.between(...profile.services); i > 0; i--) this.addService()
    for (let i = dice.between(...profile.steps); i > 0; i--)
      this.act(dice.weighted<Action>(profile.actions))
    return this.lines
  }

  private act(action: Action): void {
    const { dice } = this
    switch (action) {
      case 'open':
        return this.open()
      case 'burst': {
        const service = this.anyService()
        for (let i = dice.between(3, 12); i > 0; i--) this.open(service)
        return
      }
      case 'step': {
        const flow = this.recentFlow()
        for (let i = dice.between(1, 3); flow && i > 0; i--) this.step(flow)
        return
      }
      case 'deviate': {
        const flow = this.recentFlow()
        const end = dice.chance(0.7) ? 'client' : 'server'
        if (flow) this.play(flow, [end, this.anything(flow.transport)])
        return
      }
      case 'reuse': {
        const flow = this.recentFlow()
        if (!flow) return
        flow.script = dice.pick(scripts[flow.transport])
        flow.next = 0
        return this.step(flow)
      }
      case 'wait':
        return this.wait()
      case 'add-destination':
        return this.addDestination(this.anyService())
      case 'edit-destination':
        return this.editDestination(this.anyService())
      case 'delete-destination':
        return this.deleteDestination(this.anyService())
      case 'add-service':
        return this.addService()
      case 'edit-service':
        return this.editService()
      case 'delete-service':
        return this.deleteService()
      case 'flush':
        this.services.length = 0
        return this.ipvsadm('-C')
      case 'zero': {
        const service = this.anyService()
        return this.ipvsadm(dice.chance(0.5) ? '-Z' : `-Z ${serviceArguments(service)}`)
      }
      case 'timeouts':
        return this.setTimeouts()
      case 'setting':
        return this.setSetting()
      case 'invalid':
        return this.ipvsadm(this.invalidCommand())
      case 'list':
        return this.ipvsadm(dice.pick(['-L -n', '-L -n -c', '-L -n --thresholds', '-S -n']))
      case 'stray':
        return this.stray()
      case 'icmp':
        return this.icmp()
      case 'fragment':
        return this.fragment()
      case 'malformed':
        return this.malformed()
      case 'options':
        return this.withOptions()
    }
  }

  // -- lines

  private ipvsadm(args: string): void {
    this.lines.push(`ipvsadm ${args}`)
  }

  private wait(): void {
    const ranges = this.profile.waits.map(
      ([least, most, weight]) => [[least, most] as const, weight] as const,
    )
    const [least, most] = this.dice.weightedOf(ranges)
    const hundredths = this.dice.between(Math.round(least * 100), Math.round(most * 100))
    // Whole seconds are where the timeouts end that began at whole seconds.
    this.pass(this.dice.chance(0.4) ? Math.ceil(hundredths / 100) : hundredths / 100)
  }

  private pass(seconds: number): void {
    this.nowMs += Math.round(seconds * 1000)
    this.lines.push(`at ${this.nowMs / 1000}`)
  }

  private setSetting(): void {
    const { dice, profile } = this
    const names = profile.settingNames
    const { name, values, defence } = dice.pick(
      settings.filter((setting) => !names || names.includes(setting.name)),
    )
    this.lines.push(`sysctl net.ipv4.vs.${name}=${dice.pick(values)}`)
    if (defence) this.pass(DEFENCE_SECONDS)
  }

  private setTimeouts(): void {
    const { dice } = this
    const value = (): number => dice.pick([0, 1, 5, 30, 300, 900])
    this.ipvsadm(`--set ${value()} ${value()} ${value()}`)
  }

  // -- services and destinations

  /** One that is there; made if there is none. */
  private anyService(): Service {
    if (this.services.length === 0) this.addService()
    return this.dice.pick(this.services)
  }

  private addService(): void {
    const { dice, profile } = this
    const family = dice.pick(profile.families)
    const kind = dice.weighted<ProtocolName>(profile.protocols)
    const service: Service = {
      family,
      kind,
      address: dice.pick(pools[family].virtuals),
      port: dice.pick(servicePorts),
      mark: kind === 'mark' ? dice.between(1, 3) : 0,
      persistent: dice.chance(profile.persistent),
      sip: false,
      destinations: [],
      everyone: [],
    }
    // Any port takes persistence.
    if (service.persistent && kind !== 'mark' && dice.chance(0.2)) service.port = 0
    const same = this.services.some(
      (other) => serviceArguments(other) === serviceArguments(service),
    )
    this.ipvsadm(`-A ${serviceArguments(service)}${this.serviceOptions(service)}`)
    if (same) return
    this.services.push(service)
    for (let i = dice.between(...profile.destinations); i > 0; i--) this.addDestination(service)
  }

  private serviceOptions(service: Service): string {
    const { dice, profile } = this
    const scheduler = dice.pick(profile.schedulers)
    let options = ` -s ${scheduler}`
    if (service.persistent) {
      options += dice.chance(0.5) ? ' -p' : ` -p ${dice.pick([1, 5, 30, 60, 300, 1000])}`
      if (dice.chance(0.4))
        options +=
          service.family === 4
            ? ` -M ${dice.pick(['255.255.255.0', '255.255.255.255', '255.255.0.0', '255.255.255.128'])}`
            : ` -M ${dice.pick([64, 112, 128, 96])}`
    }
    service.sip = service.persistent && service.kind !== 'sctp' && dice.chance(profile.sip)
    if (service.sip) options += ' --pe sip'
    if ((service.kind === 'udp' || service.kind === 'mark') && dice.chance(profile.onePacket))
      options += ' -o'
    if ((scheduler === 'sh' || scheduler === 'mh') && dice.chance(profile.schedulerFlags))
      options += ` -b ${dice
        .pick(['port', 'fallback', 'fallback,port'])
        .split(',')
        .map((flag) => `${scheduler}-${flag}`)
        .join(',')}`
    return options
  }

  private editService(): void {
    const { dice } = this
    const service = this.anyService()
    if (service.port !== 0 && dice.chance(0.3)) service.persistent = !service.persistent
    this.ipvsadm(`-E ${serviceArguments(service)}${this.serviceOptions(service)}`)
  }

  private deleteService(): void {
    const { dice } = this
    const service = this.anyService()
    this.services.splice(this.services.indexOf(service), 1)
    this.ipvsadm(`-D ${serviceArguments(service)}`)
    if (dice.chance(0.6)) {
      // Put back soon, so that its destinations are found in the trash.
      this.ipvsadm(`-A ${serviceArguments(service)}${this.serviceOptions(service)}`)
      const back = service.destinations.splice(0)
      this.services.push(service)
      for (const destination of back)
        if (dice.chance(0.8)) this.putDestination(service, destination, '-a')
    }
  }

  private addDestination(service: Service): void {
    const { dice } = this
    const pool = pools[service.family]
    const known = service.everyone.filter((other) => !service.destinations.includes(other))
    if (known.length > 0 && dice.chance(0.5))
      return this.putDestination(service, dice.pick(known), '-a')
    const address: string = dice.chance(0.06) ? dice.pick(pool.oddServers) : dice.pick(pool.servers)
    const forwarding = this.forwardingTo(service, address)
    const port = dice.chance(0.5) ? service.port : dice.pick([...serverPorts, 0])
    const destination = { address, port, forwarding }
    if (service.destinations.some((other) => other.address === address && other.port === port))
      return
    this.putDestination(service, destination, '-a')
  }

  private forwardingTo(service: Service, address: string): ForwardingOption {
    const { dice, profile } = this
    const drawn = dice.weighted<ForwardingOption>(profile.forwarding)
    const key = `${serviceArguments(service)} ${address}`
    const isDirect = this.direct.get(key)
    if (isDirect === undefined) this.direct.set(key, drawn === '-g')
    else if (isDirect) return '-g'
    else if (drawn === '-g') return dice.pick(['-m', '-i'] as const)
    return drawn
  }

  private editDestination(service: Service): void {
    const { dice } = this
    if (service.destinations.length === 0) return this.addDestination(service)
    const destination = dice.pick(service.destinations)
    // Without a method, -e would make it direct routing.
    if (dice.chance(0.15)) destination.forwarding = this.forwardingTo(service, destination.address)
    this.putDestination(service, destination, '-e')
  }

  private putDestination(service: Service, destination: Destination, command: '-a' | '-e'): void {
    const { dice, profile } = this
    const { address, port, forwarding } = destination
    let options = ` ${forwarding}`
    if (forwarding === '-i' && dice.chance(profile.otherTunnels)) {
      options += dice.chance(0.5) ? ' --tun-type gue --tun-port 6080' : ' --tun-type gre'
      options += dice.pick(['', '', ' --tun-csum', ' --tun-nocsum', ' --tun-remcsum'])
    }
    const weight = dice.chance(profile.weightless)
      ? 0
      : dice.pick([1, 1, 2, 3, 4, dice.pick([5, 10, 100, 65535])])
    if (weight !== 1 || dice.chance(0.3)) options += ` -w ${weight}`
    if (dice.chance(profile.thresholds)) {
      const upper = dice.between(1, 5)
      options += ` -x ${upper}`
      if (dice.chance(0.5)) options += ` -y ${dice.between(0, upper)}`
    }
    this.ipvsadm(`${command} ${serviceArguments(service)} -r ${endpoint(address, port)}${options}`)
    if (command === '-e') return
    service.destinations.push(destination)
    if (!service.everyone.includes(destination)) service.everyone.push(destination)
  }

  private deleteDestination(service: Service): void {
    const { dice } = this
    if (service.destinations.length === 0) return
    const destination = dice.pick(service.destinations)
    service.destinations.splice(service.destinations.indexOf(destination), 1)
    const { address, port } = destination
    this.ipvsadm(`-d ${serviceArguments(service)} -r ${endpoint(address, port)}`)
    if (dice.chance(0.3)) this.putDestination(service, destination, '-a')
  }

  private invalidCommand(): string {
    const { dice } = this
    const service = this.anyService()
    const name = serviceArguments(service)
    const pool = pools[service.family]
    const there = service.destinations[0]
    const end = there ? endpoint(there.address, there.port) : endpoint(pool.servers[0], 80)
    const absent = endpoint(pool.servers[0], 9)
    return dice.pick([
      `-A ${name} -s ${dice.pick(schedulerNames)}`,
      `-A -t ${endpoint(pool.virtuals[0], 81)} -s nosuch`,
      `-A -t ${endpoint(pool.virtuals[0], 0)} -s rr`,
      `-A -t ${endpoint(pool.virtuals[0], 82)} -s rr -o`,
      `-A -t ${endpoint(pool.virtuals[0], 83)} -s rr -p 0`,
      `-A -t ${endpoint(pool.virtuals[0], 83)} -s rr -M 255.255.255.0`,
      `-A -t ${endpoint(pool.virtuals[0], 84)} -s sh -b nosuch`,
      `-A -t 10.1.0.100:65536 -s rr`,
      `-A -f 0 -s rr`,
      `-E -t ${endpoint(pool.virtuals[0], 85)} -s rr`,
      `-E ${name} -s nosuch`,
      `-D -u ${endpoint(pool.virtuals[0], 86)}`,
      `-a ${name} -r ${end} -m`,
      `-a ${name} -r ${absent} -m -w -1`,
      `-a ${name} -r ${absent} -m -w 65536`,
      `-a ${name} -r ${absent} -m -x 2 -y 3`,
      `-a ${name} -r ${absent} -m -g`,
      `-a ${name} -r ${dice.pick(['0.0.0.0:80', '224.0.0.1:80', '255.255.255.255:80', '127.0.0.1:80'])} -m`,
      `-a -t ${endpoint(pool.virtuals[0], 87)} -r ${absent} -m`,
      `-e ${name} -r ${absent} -m`,
      `-e ${name} -r ${end} -m -y 3`,
      `-d ${name} -r ${absent}`,
      `-d -t ${endpoint(pool.virtuals[0], 88)} -r ${absent}`,
      `-Z -t ${endpoint(pool.virtuals[0], 89)}`,
      `-L -n -t ${endpoint(pool.virtuals[0], 90)}`,
      `--set 1 2`,
      `--set -1 0 0`,
      `--nosuch`,
      `-A`,
      `-a ${name}`,
      `-D ${name} -r ${end}`,
      `-C ${name}`,
    ])
  }

  // -- flows

  private recentFlow(): Flow | undefined {
    const { flows, dice } = this
    if (flows.length === 0) this.open()
    const last = Math.min(flows.length, 8)
    return dice.chance(0.8) ? flows[flows.length - 1 - dice.below(last)] : dice.pick(flows)
  }

  private open(service = this.anyService()): void {
    const { dice } = this
    const pool = pools[service.family]
    const transport: Transport =
      service.kind === 'mark'
        ? dice.weighted<Transport>({ tcp: 5, udp: 3, sctp: this.profile.protocols.sctp ? 1 : 0 })
        : service.kind
    const isAnyPort = service.kind === 'mark' || service.port === 0
    const flow: Flow = {
      transport,
      client: dice.pick(pool.clients),
      clientPort: dice.chance(0.6) ? dice.pick(clientPorts) : dice.between(2000, 2100),
      virtual:
        service.kind === 'mark' && dice.chance(0.3) ? dice.pick(pool.virtuals) : service.address,
      virtualPort: isAnyPort ? dice.pick(servicePorts) : service.port,
      mark: service.mark,
      service,
      script: dice.pick(scripts[transport]),
      next: 0,
    }
    this.flows.push(flow)
    this.step(flow)
  }

  /** What comes next in a flow, if anything does. */
  private step(flow: Flow): void {
    const step = flow.script[flow.next]
    if (!step) return
    flow.next++
    this.play(flow, step)
  }

  private play(flow: Flow, [end, what]: Step): void {
    const { dice } = this
    const there = endpoint(flow.virtual, flow.virtualPort)
    const here = endpoint(flow.client, flow.clientPort)
    const options = this.packetOptions(flow)
    if (end === 'client' && flow.service.sip && flow.transport === 'udp' && dice.chance(0.85)) {
      const { client, clientPort, virtual, virtualPort } = flow
      return this.raw(
        sipPacket(client, clientPort, virtual, virtualPort, dice.pick(callIds)),
        'client',
        flow.mark,
      )
    }
    if (end === 'client') {
      const mark = flow.mark ? ` mark=${flow.mark}` : ''
      this.lines.push(`${flow.transport} ${here} > ${there}${word(what)}${options}${mark}`)
      return
    }
    // Nobody knows here which server it is, so all of them reply; now and then only one does.
    const servers = this.repliersOf(flow)
    const chosen = dice.chance(0.85) || servers.length === 0 ? servers : [dice.pick(servers)]
    for (const from of chosen)
      this.lines.push(`${flow.transport} ${from} > ${here}${word(what)}${options} in=server`)
  }

  /** Where replies to a flow may come from. */
  private repliersOf(flow: Flow): string[] {
    const { service, virtualPort } = flow
    const ends = service.everyone
      .filter(({ forwarding }) => forwarding === '-m' || this.dice.chance(0.1))
      .map(({ address, port }) => endpoint(address, port || virtualPort))
    return [...new Set(ends)]
  }

  private packetOptions({ transport, service }: Flow): string {
    const { dice, profile } = this
    let options = ''
    if (transport !== 'sctp') {
      const most = service.family === 4 ? (transport === 'tcp' ? 1460 : 1472) : 1440
      if (dice.chance(profile.long)) options += ` len=${dice.between(most - 60, most)}`
      else if (dice.chance(0.15)) options += ` len=${dice.between(1, 200)}`
    }
    if (dice.chance(0.03)) options += ` ttl=${dice.pick([1, 2, 255])}`
    if (service.family === 4 && dice.chance(0.05)) options += ` id=${dice.between(1, 65535)}`
    return options
  }

  private anything(transport: Transport): string {
    if (transport === 'udp') return ''
    return this.dice.pick(transport === 'tcp' ? tcpFlags : sctpChunks)
  }

  // -- packets of other kinds

  private stray(): void {
    const { dice } = this
    const family = dice.pick(this.profile.families)
    const pool = pools[family]
    const transport = dice.pick(['tcp', 'tcp', 'udp'] as const)
    const what = word(this.anything(transport))
    const from = endpoint(dice.pick(pool.clients), dice.pick([...clientPorts, 20]))
    const to = endpoint(
      dice.pick<string>([...pool.virtuals, pool.own.client, pool.servers[0], pool.oddServers[1]]),
      dice.pick([...servicePorts, 9999]),
    )
    const mark = dice.chance(0.2) ? ` mark=${dice.between(1, 4)}` : ''
    const ttl = dice.chance(0.2) ? ` ttl=${dice.pick([1, 2])}` : ''
    this.lines.push(
      dice.chance(0.7)
        ? `${transport} ${from} > ${to}${what}${ttl}${mark}`
        : `${transport} ${endpoint(dice.pick(pool.servers), dice.pick(serverPorts))} > ` +
            `${from}${what}${ttl} in=server`,
    )
  }

  private icmp(): void {
    const { dice } = this
    const flow = this.recentFlow()
    if (!flow) return
    const { family, everyone } = flow.service
    const pool = pools[family]
    const [type, code, second] = dice.pick<readonly [number, number, number]>(
      family === 4
        ? [
            [3, 1, 0],
            [3, 3, 0],
            [3, 13, 0],
            [3, 4, dice.pick([1400, 1300, 0, 20000])],
            [11, 0, 0],
            [4, 0, 0],
            [12, 0, 0x14000000],
            [5, 1, 0x0a0200fe],
          ]
        : [
            [1, 3, 0],
            [1, 4, 0],
            [2, 0, dice.pick([1400, 1280])],
            [3, 0, 0],
            [4, 1, 40],
          ],
    )
    const error = (from: string, to: string, quoted: Uint8Array, side: Side): void => {
      const cut = dice.pick([(family === 4 ? 20 : 40) + 8, 64, quoted.length, quoted.length])
      const data = dice.chance(0.04) ? quoted.subarray(0, dice.below(30)) : quoted.subarray(0, cut)
      this.raw(icmpMessage(from, to, type, code, second, data), side, flow.mark)
    }
    const { transport, client, clientPort, virtual, virtualPort } = flow
    const flags = this.anything(transport)
    switch (dice.below(9)) {
      case 0: {
        // An echo of the virtual address.
        const [request, reply] = family === 4 ? [8, 0] : [128, 129]
        const type = dice.chance(0.8) ? request : reply
        return this.raw(icmpMessage(client, virtual, type, 0, 1, new Uint8Array(8)), 'client', 0)
      }
      case 1:
      case 2: {
        // The client, or a router before it, of a reply.
        const quoted = packetOf(transport, virtual, virtualPort, client, clientPort, flags)
        return error(dice.chance(0.6) ? client : pool.clients[0], virtual, quoted, 'client')
      }
      case 3: {
        // A router of the packet inside a tunnel.
        const destination = dice.pick([...everyone.map(({ address }) => address), pool.servers[0]])
        if (destination.includes(':') !== (family === 6)) return
        const inner = packetOf(transport, client, clientPort, virtual, virtualPort, flags)
        const outer = encapsulate(pool.own.server, destination, inner)
        return error(pool.router, pool.own.server, outer, 'server')
      }
      default: {
        // A server, or a router before it, of the request as it was sent there.
        const destination = everyone.length > 0 ? dice.pick(everyone) : undefined
        const isMasqueraded = destination?.forwarding === '-m'
        const to = isMasqueraded ? destination.address : virtual
        const port = isMasqueraded ? destination.port || virtualPort : virtualPort
        const quoted = packetOf(transport, client, clientPort, to, port, flags)
        const from = dice.chance(0.5) ? (destination?.address ?? pool.router) : pool.router
        return error(from, client, quoted, 'server')
      }
    }
  }

  private fragment(): void {
    const { dice } = this
    const flow = this.recentFlow()
    if (!flow) return
    const { transport, client, clientPort, virtual, virtualPort } = flow
    const fromServer = dice.chance(0.25) && flow.service.everyone.length > 0
    const isLong = dice.chance(0.25)
    const length = isLong ? dice.between(1490, 3500) : dice.between(20, 200)
    const replier = fromServer ? dice.pick(flow.service.everyone) : undefined
    const whole = replier
      ? packetOf(
          transport,
          replier.address,
          replier.port || virtualPort,
          client,
          clientPort,
          this.anything(transport),
          length,
        )
      : packetOf(
          transport,
          client,
          clientPort,
          virtual,
          virtualPort,
          transport === 'tcp' ? dice.pick(['S', 'A', 'PA']) : this.anything(transport),
          length,
        )
    const at = isLong
      ? dice.pick([
          [1480],
          [1480, 2960],
          [1400, 2800],
          [800, 1600, 2400],
          [16, 1480, 2960],
          [1024, 1480, 2504],
        ])
      : dice.pick([[16], [24, 48], [8], [40], [8, 16], [16, 24, 48, 72], [64, 128], [32, 64, 72]])
    let pieces = fragments(whole, at, dice.between(1, 65535))
    while (pieces.length > 0 && dice.chance(0.45)) pieces = disturb(pieces, dice)
    const pause = dice.chance(0.1) ? dice.below(pieces.length) : -1
    pieces.forEach((piece, i) => {
      if (i === pause) this.pass(dice.pick([1, 29, 31, 40]))
      this.raw(piece, replier ? 'server' : 'client', flow.mark)
    })
  }

  private malformed(): void {
    const { dice } = this
    const flow = this.recentFlow()
    if (!flow) return
    const { transport, client, clientPort, virtual, virtualPort } = flow
    const flags = transport === 'tcp' ? dice.pick(['S', 'S', 'A']) : this.anything(transport)
    const whole = packetOf(transport, client, clientPort, virtual, virtualPort, flags, 12)
    this.raw(spoil(whole, dice), 'client', flow.mark)
  }

  private withOptions(): void {
    const { dice } = this
    const flow = this.recentFlow()
    if (!flow || flow.service.family === 6) return
    const { transport, client, clientPort, virtual, virtualPort, service, mark } = flow
    const what = transport === 'tcp' ? dice.pick(['S', 'A', 'SA', 'PA']) : this.anything(transport)
    const replier =
      dice.chance(0.4) && service.everyone.length > 0 ? dice.pick(service.everyone) : undefined
    const packet = replier
      ? packetOf(transport, replier.address, replier.port || virtualPort, client, clientPort, what)
      : packetOf(transport, client, clientPort, virtual, virtualPort, what)
    if (dice.chance(0.1)) packet[8] = 1
    this.raw(withOptions(packet, randomOptions(dice)), replier ? 'server' : 'client', mark)
  }

  private raw(packet: Uint8Array, side: Side, mark: number): void {
    if (packet.length === 0) return
    // A mark makes a packet local by the wiring's routes, which no reply is.
    const options = side === 'server' ? ' in=server' : mark ? ` mark=${mark}` : ''
    this.lines.push(`raw ${hexOf(packet)}${options}`)
  }
}

/** A service as ipvsadm's options name it. */
function serviceArguments({ family, kind, address, port, mark }: Service): string {
  if (kind === 'mark') return `-f ${mark}${family === 6 ? ' -6' : ''}`
  const option = { tcp: '-t', udp: '-u', sctp: '--sctp-service' }[kind]
  return `${option} ${endpoint(address, port)}`
}

/** Flags or chunk as a word of a line. */
function word(what: string): string {
  return what === '' ? '' : ` ${what}`
}
