import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs'
import type { ServiceProtocol, Steering } from '../../core/commands.js'
import { parseMac } from '../../wire/ethernet.js'
import { formatPrefix, IpProtocol, parsePrefix } from '../../wire/ipv4.js'
import {
  addressOf,
  AF_INET,
  bytesOf,
  explain,
  openRtnetlink,
  rt,
  Table,
  UVS_PROTOCOL,
  type Interface,
  type RtSocket,
} from './rtnetlink.js'

/**
 * Everything that the daemon programs into the kernel for its ports, in one place: it is compared with what
 * is there, completed, and removed at the end. What is ours bears the rtnetlink protocol number 117, so
 * what a killed predecessor left is recognised and taken over or removed; nothing of others is touched.
 * There is one uvsd in a network namespace, as there is one IPVS.
 *
 * Links, addresses and sysctls are only ever set on devices that uvsd itself makes, and go away with them.
 */
export type PlumbingItem =
  | { kind: 'link'; device: string; mtu?: number; mac?: string; master?: string }
  | { kind: 'sysctl'; device: string; family: 'ipv4' | 'ipv6'; key: string; value: string }
  | { kind: 'no-queueing'; device: string }
  /** What its NAPI receives is received by a thread of the kernel, not by whoever wrote it. */
  | { kind: 'threaded-receive'; device: string }
  | { kind: 'address'; device: string; address: string }
  /** The default route of a table of ours; or with an address the local route to it, as an address on a device has one. */
  | { kind: 'route'; table: number; device: string; address?: string }
  | Rule

/** A policy rule. Addresses are prefixes. */
export interface Rule {
  kind: 'rule'
  preference: number
  from?: string
  to?: string
  iif?: string
  protocol?: ServiceProtocol | 'icmp'
  sourcePort?: number
  destinationPorts?: [first: number, last: number]
  /** A table to look up, or a preference to go on at. With neither it only is there to be gone to. */
  lookup?: number
  goto?: number
}

/** The table that leads into uvsd's TUN device: 'uvs' in ASCII. */
export const UVS_TABLE = 0x757673

/**
 * Preferences of our rules. The kernel's rule for the table local stands at 0, before all others, so it
 * moves behind ours: a virtual address is an address of the director, and would be delivered there.
 */
const Preference = { fromDevice: 10, steer: 20, withPorts: 27, fragments: 28, local: 30 } as const

/**
 * So many virtual addresses are put on the device. The kernel walks a device's addresses for each new one, so tens
 * of thousands of them take it a minute; the others get but what an address is for the director's sake, a local route: it
 * makes the kernel answer ARP and ping, too.
 */
const MOST_ADDRESSES = 1024
/** Beside the local route that the kernel makes for an address: each can come before the other has gone. */
const LOCAL_ROUTE_PRIORITY = 117

/** All ports that the kernel has rules for. */
const ALL_PORTS: readonly [number, number] = [1, 65534]

/**
 * Rules with fewer selectors have higher preferences, up to this much. Deleting a rule takes what is not
 * given for "any", so among rules of one preference the kernel could delete one that has more selectors.
 */
const MAX_SELECTORS = 6

/**
 * What a TUN device takes to work at all, or a TAP device on a bridge. The device has to have the highest
 * Ethernet address there: a bridge takes the lowest of its ports', and when that comes and goes with uvsd the
 * machine's neighbours lose it.
 */
export function devicePlumbing(
  device: string,
  station?: { bridge: string; mac: string },
): PlumbingItem[] {
  const sysctl = (family: 'ipv4' | 'ipv6', key: string, value: string): PlumbingItem => ({
    kind: 'sysctl',
    device,
    family,
    key,
    value,
  })
  // Or the kernel would announce itself there by IPv6 as soon as the device is up.
  const quiet = sysctl('ipv6', 'disable_ipv6', '1')
  if (station) return [quiet, { kind: 'link', device, mac: station.mac, master: station.bridge }]
  return [
    quiet,
    // What uvsd writes there comes from anywhere, its own virtual addresses included. The kernel goes by the
    // higher of this and conf/all, so where that is strict (1) only loose (2) undoes it.
    sysctl('ipv4', 'rp_filter', readSetting('conf/all/rp_filter') === '0' ? '0' : '2'),
    sysctl('ipv4', 'accept_local', '1'),
    sysctl('ipv4', 'send_redirects', '0'),
    { kind: 'link', device },
  ]
}

/**
 * Virtual addresses that are no address of the machine yet become one, on uvsd's own device: then the
 * kernel answers ARP and ping for them, as it does for a virtual address of IPVS.
 */
export function virtualAddresses(
  device: string,
  steering: Steering,
  addresses: ReadonlyMap<string, string>,
): PlumbingItem[] {
  const missing = new Set(
    steering.virtual
      .map(({ address }) => address)
      .filter((address) => (addresses.get(address) ?? device) === device),
  )
  // What is there already stays: a route would not be there before the address has gone.
  const isThere = (address: string): boolean => addresses.get(address) === device
  const inOrder = [...missing]
  const all = [...inOrder.filter(isThere), ...inOrder.filter((address) => !isThere(address))]
  return all.map((address, i) =>
    i < MOST_ADDRESSES
      ? { kind: 'address', device, address }
      : { kind: 'route', table: Table.local, device, address },
  )
}

/**
 * Leads what belongs to the director into a TUN device, and what comes out of it past those rules.
 *
 * The rules go by protocol and port, so all else that is sent to the same addresses stays with the kernel. Fragments
 * have no ports for the kernel's rules: what has some goes past the rules that lead them in.
 */
export function tunPlumbing(device: string, steering: Steering): PlumbingItem[] {
  const lookup = UVS_TABLE
  const steer = (selectors: Omit<Rule, 'kind' | 'preference' | 'lookup'>): Rule => ({
    kind: 'rule',
    preference: Preference.steer + MAX_SELECTORS - Object.keys(selectors).length,
    lookup,
    ...selectors,
  })
  const icmp = new Map<string, Rule>()
  const fragments = new Map<string, Rule>()
  const steerFragments = (
    end: { from: string } | { to: string },
    protocol: ServiceProtocol,
  ): void => {
    const rule = { kind: 'rule', protocol, ...end } as const
    const { withPorts, local } = Preference
    const name = `${Object.entries(end).join()} ${protocol}`
    fragments.set(`${name} with ports`, {
      ...rule,
      preference: withPorts,
      destinationPorts: [...ALL_PORTS],
      goto: local,
    })
    fragments.set(name, { ...rule, preference: Preference.fragments, lookup })
  }
  const rules: Rule[] = []
  for (const { protocol, address, port } of steering.virtual) {
    const ports = portSelector([port, port])
    rules.push(
      steer({ to: `${address}/32`, protocol, ...(ports ? { destinationPorts: ports } : {}) }),
    )
    if (ports) steerFragments({ to: `${address}/32` }, protocol)
    icmp.set(`to ${address}`, steer({ to: `${address}/32`, protocol: 'icmp' }))
  }
  for (const { protocol, address, port } of steering.replies) {
    const [sourcePort] = portSelector([port, port]) ?? []
    rules.push(steer({ from: `${address}/32`, protocol, ...(sourcePort ? { sourcePort } : {}) }))
    if (sourcePort) steerFragments({ from: `${address}/32` }, protocol)
    icmp.set(`from ${address}`, steer({ from: `${address}/32`, protocol: 'icmp' }))
  }
  for (const { source, destination, protocol, interface: iif, ...rule } of steering.marks) {
    const from = prefixSelector(source)
    const to = prefixSelector(destination)
    const ports = rule.ports && portSelector(rule.ports)
    rules.push(
      steer({
        ...(from ? { from } : {}),
        ...(to ? { to } : {}),
        ...(protocol ? { protocol } : {}),
        ...(ports ? { destinationPorts: ports } : {}),
        ...(iif ? { iif } : {}),
      }),
    )
    if (to && protocol)
      icmp.set(`to ${to} by ${iif}`, steer({ to, protocol: 'icmp', ...(iif ? { iif } : {}) }))
  }
  return [
    { kind: 'route', table: lookup, device },
    { kind: 'rule', preference: Preference.local, lookup: Table.local },
    { kind: 'rule', preference: Preference.fromDevice, iif: device, goto: Preference.local },
    ...rules,
    ...icmp.values(),
    ...fragments.values(),
  ]
}

/** A prefix as the kernel lists it, undefined for what is no selector: all addresses. */
function prefixSelector(text: string | undefined): string | undefined {
  const prefix = text === undefined ? undefined : parsePrefix(text)
  return prefix === undefined || prefix.prefixLength === 0 ? undefined : formatPrefix(prefix)
}

/**
 * A range of ports as the kernel takes it. It has rules neither for port 0 nor for 65535, so what ends there
 * is led to the director whatever its port, and comes back where it is none of the director's.
 */
function portSelector([first, last]: [number, number]): [number, number] | undefined {
  return last === 0 || last === 65535 ? undefined : [Math.max(first, 1), last]
}

/** The command of iproute2 or procps that does the same. */
export function describe(item: PlumbingItem): string {
  switch (item.kind) {
    case 'link':
      return (
        `ip link set ${item.device} up` +
        (item.mtu ? ` mtu ${item.mtu}` : '') +
        (item.mac ? ` address ${item.mac}` : '') +
        (item.master ? ` master ${item.master}` : '')
      )
    case 'sysctl':
      // With slashes, since names of devices may contain dots.
      return `sysctl -w net/${item.family}/conf/${item.device}/${item.key}=${item.value}`
    case 'no-queueing':
      return `tc qdisc replace dev ${item.device} root noqueue`
    case 'threaded-receive':
      return `echo 1 > ${threadedFile(item.device)}`
    case 'address':
      return `ip address add ${item.address}/32 dev ${item.device}`
    case 'route':
      return item.address === undefined
        ? `ip route add default dev ${item.device} table ${item.table} proto ${UVS_PROTOCOL}`
        : `ip route add local ${item.address} dev ${item.device} table local proto ${UVS_PROTOCOL} metric ${LOCAL_ROUTE_PRIORITY}`
    case 'rule':
      return `ip rule add ${ruleText(item)}`
  }
}

const threadedFile = (device: string): string => `/sys/class/net/${device}/threaded`

function ruleText(rule: Rule): string {
  const ports = rule.destinationPorts
  return [
    `pref ${rule.preference}`,
    rule.from ? `from ${rule.from}` : '',
    rule.to ? `to ${rule.to}` : '',
    rule.iif ? `iif ${rule.iif}` : '',
    rule.protocol ? `ipproto ${rule.protocol}` : '',
    rule.sourcePort ? `sport ${rule.sourcePort}` : '',
    ports ? `dport ${ports[0] === ports[1] ? ports[0] : ports.join('-')}` : '',
    rule.lookup === undefined
      ? ''
      : `lookup ${rule.lookup === Table.local ? 'local' : rule.lookup}`,
    rule.goto === undefined ? '' : `goto ${rule.goto}`,
    rule.lookup === undefined && rule.goto === undefined ? 'nop' : '',
    `proto ${UVS_PROTOCOL}`,
  ]
    .filter((part) => part !== '')
    .join(' ')
}

const NLM_F_REPLACE = 0x100
const NLM_F_CREATE = 0x400
const NLM_F_CREATE_EXCLUSIVE = NLM_F_CREATE | 0x200

/** Of linux/rtnetlink.h and linux/pkt_sched.h. */
const RTM_NEWQDISC = 36
const TC_MESSAGE_BYTES = 20
const TCA_KIND = 1
const TC_H_ROOT = 0xffffffff

/** A tcmsg with the kind as its attribute, in the machine's byte order, which is little-endian. */
function noQueueing(interfaceIndex: number): Buffer {
  const kind = 'noqueue\0'
  const message = Buffer.alloc(TC_MESSAGE_BYTES + 4 + kind.length)
  message.writeInt32LE(interfaceIndex, 4)
  message.writeUInt32LE(TC_H_ROOT, 12)
  message.writeUInt16LE(4 + kind.length, TC_MESSAGE_BYTES)
  message.writeUInt16LE(TCA_KIND, TC_MESSAGE_BYTES + 2)
  message.write(kind, TC_MESSAGE_BYTES + 4, 'latin1')
  return message
}

export class Plumbing {
  private readonly socket: RtSocket = openRtnetlink()
  private items: PlumbingItem[] = []
  /** As of the beginning of the last `apply`: thousands of addresses do not ask again for each. */
  private interfacesThere: Interface[] = []

  /** @param interfaces asked for the interfaces of the moment */
  constructor(private readonly interfaces: () => Promise<Interface[]>) {}

  /** What is programmed now. */
  list(): readonly PlumbingItem[] {
    return this.items
  }

  /** Makes the kernel hold this and nothing else of ours. What is there already stays untouched. */
  async apply(desired: readonly PlumbingItem[]): Promise<void> {
    this.interfacesThere = await this.interfaces()
    const wanted = new Map(desired.map((item) => [describe(item), item]))
    const present = new Set(this.items.map(describe))
    for (const [text, item] of wanted)
      if (item.kind !== 'rule' && item.kind !== 'route' && !present.has(text))
        await this.setOnDevice(item, text)
    // Before routes are looked at: with its last address a device loses them all.
    for (const item of this.items)
      if (item.kind === 'address' && !wanted.has(describe(item))) await this.deleteAddress(item)

    const routes = await this.ourRoutes()
    const rules = await this.ourRules()
    const localText = describe(localRule)
    const localMoved = rules.has(localText)
    const kernelsRule = await this.kernelsLocalRule()
    // Somebody has moved the rule of the table local already, as is usual with VRFs: it stays where it is.
    if (wanted.has(localText) && !localMoved && !kernelsRule) {
      wanted.delete(localText)
      wanted.set(describe(landingRule), landingRule)
    }
    const localMoves = wanted.has(localText)
    for (const [text, item] of wanted)
      if (item.kind === 'route' && !routes.has(text))
        await explain(text, this.socket.newRoute(...this.routeMessage(item), exclusive)).catch(
          ignore('EEXIST'),
        )
    for (const [text, item] of wanted)
      if (item.kind === 'rule' && !rules.has(text))
        await explain(text, this.socket.newRule(...ruleMessage(item), exclusive)).catch(
          ignore('EEXIST'),
        )
    // From here on ours is there: the table local is never without a rule.
    if (localMoves && kernelsRule) await this.deleteKernelsLocalRule(kernelsRule)
    if (!localMoves && localMoved && !kernelsRule) await this.restoreKernelsLocalRule()
    // First what leads to the device, then what keeps its own packets from being led there again.
    for (const steering of [true, false])
      for (const [text, message] of rules)
        if (!wanted.has(text) && isSteering(message) === steering)
          await explain(`not ${text}`, this.socket.delRule(message.data, message.attrs))
    for (const [text, message] of routes)
      if (!wanted.has(text))
        await explain(`not ${text}`, this.socket.delRoute(message.data, message.attrs))
    this.items = [...wanted.values()]
  }

  /** Takes everything out again. */
  async remove(): Promise<void> {
    await this.apply([])
  }

  close(): void {
    this.socket.socket.close()
  }

  private async setOnDevice(
    item: Exclude<PlumbingItem, { kind: 'rule' | 'route' }>,
    text: string,
  ): Promise<void> {
    if (item.kind === 'sysctl') return setSysctl(item, text)
    const index = this.indexOf(item.device)
    if (item.kind === 'threaded-receive') return setThreadedReceive(item.device, index)
    if (item.kind === 'no-queueing') {
      const request = this.socket.socket.request(RTM_NEWQDISC, noQueueing(index), {
        flags: NLM_F_CREATE | NLM_F_REPLACE,
      })
      // A kernel without traffic control has no queueing disciplines to do without.
      await explain(text, request).catch(ignore('EOPNOTSUPP', 'ENOENT'))
      return
    }
    if (item.kind === 'link') {
      const master = item.master === undefined ? undefined : this.indexOf(item.master)
      await explain(
        text,
        this.socket.setLink(
          { index, change: { up: true }, flags: { up: true } },
          {
            ...(item.mtu === undefined ? {} : { mtu: item.mtu }),
            ...(item.mac === undefined ? {} : { address: Buffer.from(parseMac(item.mac)!) }),
            ...(master === undefined ? {} : { master }),
          },
        ),
      )
      return
    }
    const bytes = bytesOf(item.address)
    await explain(
      text,
      this.socket.newAddress(
        { family: AF_INET, prefixlen: 32, index },
        { local: bytes, address: bytes },
        exclusive,
      ),
    ).catch(ignore('EEXIST'))
  }

  private async deleteAddress(item: PlumbingItem & { kind: 'address' }): Promise<void> {
    const index = this.findIndex(item.device)
    // A device that was deleted has taken its addresses along.
    if (index === undefined) return
    const bytes = bytesOf(item.address)
    await explain(
      `not ${describe(item)}`,
      this.socket.delAddress(
        { family: AF_INET, prefixlen: 32, index },
        { local: bytes, address: bytes },
      ),
    ).catch(ignore('EADDRNOTAVAIL', 'ENODEV'))
  }

  private findIndex(device: string): number | undefined {
    return this.interfacesThere.find(({ name }) => name === device)?.interfaceIndex
  }

  private indexOf(device: string): number {
    const index = this.findIndex(device)
    if (index === undefined) throw new Error(`there is no interface '${device}'`)
    return index
  }

  private nameOf(index: number | undefined): string {
    return this.interfacesThere.find((one) => one.interfaceIndex === index)?.name ?? `#${index}`
  }

  private routeMessage(item: PlumbingItem & { kind: 'route' }): [rt.Route, rt.RouteAttrs] {
    const { address } = item
    if (address !== undefined)
      return [
        {
          family: AF_INET,
          dstLen: 32,
          table: item.table,
          protocol: UVS_PROTOCOL as rt.RouteProtocol,
          scope: 'HOST',
          type: 'LOCAL',
        },
        {
          dst: bytesOf(address),
          oif: this.indexOf(item.device),
          priority: LOCAL_ROUTE_PRIORITY,
        },
      ]
    return [
      {
        family: AF_INET,
        table: 0,
        protocol: UVS_PROTOCOL as rt.RouteProtocol,
        scope: 'LINK',
        type: 'UNICAST',
      },
      { table: item.table, oif: this.indexOf(item.device) },
    ]
  }

  /** Our routes, by their command. */
  private async ourRoutes(): Promise<Map<string, rt.RouteMessage>> {
    const messages = await explain('listing routes', this.socket.getRoutes({ family: AF_INET }))
    const ours = new Map<string, rt.RouteMessage>()
    for (const message of messages)
      if ((message.data.protocol as number) === UVS_PROTOCOL) {
        const address = addressOf(message.attrs.dst)
        ours.set(
          describe({
            kind: 'route',
            table: message.attrs.table ?? 0,
            device: this.nameOf(message.attrs.oif),
            ...(address === undefined ? {} : { address }),
          }),
          message,
        )
      }
    return ours
  }

  private async ourRules(): Promise<Map<string, rt.RuleMessage>> {
    const ours = new Map<string, rt.RuleMessage>()
    for (const message of await this.listRules())
      if (message.attrs.protocol === UVS_PROTOCOL) ours.set(describe(ruleOf(message)), message)
    return ours
  }

  private listRules(): Promise<rt.RuleMessage[]> {
    return explain('listing rules', this.socket.getRules({ family: AF_INET }))
  }

  private async kernelsLocalRule(): Promise<rt.RuleMessage | undefined> {
    return (await this.listRules()).find(
      ({ data, attrs }) =>
        (attrs.priority ?? 0) === 0 &&
        attrs.table === Table.local &&
        data.srcLen === 0 &&
        data.dstLen === 0 &&
        Object.keys(attrs).every((name) => unselective.has(name)),
    )
  }

  private async deleteKernelsLocalRule(rule: rt.RuleMessage): Promise<void> {
    await explain('moving the rule of table local', this.socket.delRule(rule.data, rule.attrs))
  }

  private async restoreKernelsLocalRule(): Promise<void> {
    await explain(
      'putting the rule of table local back',
      this.socket.newRule(
        { family: AF_INET, action: 'toTbl', table: Table.local },
        { priority: 0, table: Table.local, protocol: rt.RouteProtocol.KERNEL },
        exclusive,
      ),
    )
  }
}

/** What rules go on at where the rule of the table local is not ours to move. */
const landingRule: Rule = { kind: 'rule', preference: Preference.local }
const localRule: Rule = { kind: 'rule', preference: Preference.local, lookup: Table.local }
const exclusive = { flags: NLM_F_CREATE_EXCLUSIVE }
/** Attributes of a rule that are no selectors. */
const unselective = new Set(['priority', 'table', 'protocol', 'suppressPrefixlen'])

function ignore(...codes: string[]) {
  return (error: NodeJS.ErrnoException): void => {
    if (!codes.includes(error.code ?? '')) throw error
  }
}

function ruleMessage(rule: Rule): [rt.Rule, rt.RuleAttrs] {
  const prefix = (text: string | undefined) =>
    text === undefined ? undefined : { ...parsePrefix(text)!, bytes: bytesOf(text.split('/')[0]!) }
  const from = prefix(rule.from)
  const to = prefix(rule.to)
  return [
    {
      family: AF_INET,
      srcLen: from?.prefixLength ?? 0,
      dstLen: to?.prefixLength ?? 0,
      action: rule.goto !== undefined ? 'goto' : rule.lookup !== undefined ? 'toTbl' : 'nop',
      table: 0,
    },
    {
      priority: rule.preference,
      protocol: UVS_PROTOCOL,
      ...(from ? { src: from.bytes } : {}),
      ...(to ? { dst: to.bytes } : {}),
      ...(rule.iif ? { iifname: rule.iif } : {}),
      ...(rule.protocol ? { ipProto: IpProtocol[rule.protocol] } : {}),
      ...(rule.sourcePort ? { sportRange: { start: rule.sourcePort, end: rule.sourcePort } } : {}),
      ...(rule.destinationPorts
        ? { dportRange: { start: rule.destinationPorts[0], end: rule.destinationPorts[1] } }
        : {}),
      ...(rule.lookup === undefined ? {} : { table: rule.lookup }),
      ...(rule.goto === undefined ? {} : { goto: rule.goto }),
    },
  ]
}

const protocolNames = new Map(
  (['tcp', 'udp', 'sctp', 'icmp'] as const).map((name) => [IpProtocol[name] as number, name]),
)

function ruleOf({ data, attrs }: rt.RuleMessage): Rule {
  const protocol = protocolNames.get(attrs.ipProto ?? 0)
  const src = addressOf(attrs.src)
  const dst = addressOf(attrs.dst)
  return {
    kind: 'rule',
    preference: attrs.priority ?? 0,
    ...(src ? { from: `${src}/${data.srcLen}` } : {}),
    ...(dst ? { to: `${dst}/${data.dstLen}` } : {}),
    ...(attrs.iifname ? { iif: attrs.iifname } : {}),
    ...(protocol ? { protocol } : {}),
    ...(attrs.sportRange ? { sourcePort: attrs.sportRange.start! } : {}),
    ...(attrs.dportRange
      ? { destinationPorts: [attrs.dportRange.start!, attrs.dportRange.end!] }
      : {}),
    ...(attrs.goto !== undefined
      ? { goto: attrs.goto }
      : isNop(data)
        ? {}
        : { lookup: attrs.table ?? data.table ?? 0 }),
  }
}

function isNop({ action }: rt.Rule): boolean {
  return action === 'nop' || action === rt.RuleAction.nop
}

/** Whether a rule of ours leads packets to the device. */
function isSteering({ data, attrs }: rt.RuleMessage): boolean {
  return attrs.goto === undefined && !isNop(data) && attrs.table !== Table.local
}

/** Whether devices can be told: since Linux 5.12, where /sys is not read-only as in many containers. */
export function canThreadReceive(): boolean {
  try {
    accessSync(threadedFile('lo'), constants.W_OK)
    return true
  } catch {
    return false
  }
}

/**
 * Where that cannot be, the writer receives, which only is slower: a /sys of another namespace has no such device, or
 * another of that name; the device may be without NAPI; and a security module may refuse what file permissions allow.
 */
function setThreadedReceive(device: string, index: number): void {
  try {
    if (Number(readFileSync(`/sys/class/net/${device}/ifindex`, 'utf8')) !== index) return
    writeFileSync(threadedFile(device), '1', { flag: 'r+' })
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!['ENOENT', 'ENOTSUP', 'EROFS', 'EACCES', 'EPERM'].includes(code)) throw error
  }
}

function setSysctl(item: PlumbingItem & { kind: 'sysctl' }, text: string): void {
  try {
    writeFileSync(`/proc/sys/net/${item.family}/conf/${item.device}/${item.key}`, item.value)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    // A kernel without IPv6 has nothing to turn off.
    if (item.family === 'ipv6' && code === 'ENOENT') return
    const hint = code === 'EROFS' ? '; /proc/sys is read-only in this container' : ''
    throw new Error(`${text}: ${message}${hint}`, { cause: error })
  }
}

/** A setting under /proc/sys/net/ipv4, undefined if there is none. */
function readSetting(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/net/ipv4/${path}`, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** Settings of the host that stand in the way of forwarding by these drivers, each in a sentence. */
export function hostWarnings(drivers: readonly string[] = []): string[] {
  const warnings: string[] = []
  // The kernel drops what it has matched with a socket before it routes it elsewhere (ip_forward).
  if (drivers.includes('tun'))
    for (const protocol of ['tcp', 'udp'])
      if (readSetting(`${protocol}_early_demux`) === '1' && readSetting('ip_early_demux') === '1')
        warnings.push(
          `net.ipv4.${protocol}_early_demux is 1: ${protocol} connections of this machine itself to the masqueraded port of a real server get no answers; clients' are not concerned. To allow them: sysctl -w net.ipv4.${protocol}_early_demux=0`,
        )
  if (readSetting('ip_forward') === '0')
    warnings.push(
      'net.ipv4.ip_forward is 0: the kernel routes nothing for uvsd; set it with: sysctl -w net.ipv4.ip_forward=1',
    )
  return warnings
}
