import { readFileSync, writeFileSync } from 'node:fs'
import type { ServiceProtocol, Steering } from '../../core/commands.js'
import { IpProtocol, parsePrefix } from '../../wire/ipv4.js'
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
  | { kind: 'link'; device: string; mtu?: number; master?: string }
  | { kind: 'sysctl'; device: string; key: string; value: string }
  | { kind: 'address'; device: string; address: string }
  | { kind: 'route'; table: number; device: string }
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
  /** A table to look up, or a preference to go on at. */
  lookup?: number
  goto?: number
}

/** The table that leads into uvsd's TUN device: 'uvs' in ASCII. */
export const UVS_TABLE = 0x757673

/**
 * Preferences of our rules. The kernel's rule for the table local stands at 0, before all others, so it
 * moves behind ours: a virtual address is an address of the director, and would be delivered there.
 */
const Preference = { fromDevice: 10, steer: 20, local: 30 } as const

/** What a TUN or TAP device takes to work at all. */
export function devicePlumbing(device: string, options: { bridge?: string } = {}): PlumbingItem[] {
  return [
    { kind: 'link', device, ...(options.bridge ? { master: options.bridge } : {}) },
    // What uvsd writes there comes from anywhere, its own virtual addresses included.
    ...(options.bridge
      ? []
      : ([
          ['rp_filter', '0'],
          ['accept_local', '1'],
          ['send_redirects', '0'],
        ].map(([key, value]) => ({ kind: 'sysctl', device, key, value })) as PlumbingItem[])),
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
  return [...missing].map((address) => ({ kind: 'address', device, address }))
}

/**
 * Leads what belongs to the director into a TUN device, and what comes out of it past those rules.
 *
 * The rules go by protocol and port, so all else that is sent to the same addresses stays with the kernel.
 */
export function tunPlumbing(device: string, steering: Steering): PlumbingItem[] {
  const lookup = UVS_TABLE
  const preference = Preference.steer
  const steer = (rule: Omit<Rule, 'kind' | 'preference' | 'lookup'>): Rule => ({
    kind: 'rule',
    preference,
    lookup,
    ...rule,
  })
  const icmp = new Map<string, Rule>()
  const rules: Rule[] = []
  for (const { protocol, address, port } of steering.virtual) {
    rules.push(
      steer({ to: `${address}/32`, protocol, ...(port ? { destinationPorts: [port, port] } : {}) }),
    )
    icmp.set(`to ${address}`, steer({ to: `${address}/32`, protocol: 'icmp' }))
  }
  for (const { protocol, address, port } of steering.replies) {
    rules.push(steer({ from: `${address}/32`, protocol, ...(port ? { sourcePort: port } : {}) }))
    icmp.set(`from ${address}`, steer({ from: `${address}/32`, protocol: 'icmp' }))
  }
  for (const { source, destination, protocol, ports, interface: iif } of steering.marks)
    rules.push(
      steer({
        ...(source ? { from: source } : {}),
        ...(destination ? { to: destination } : {}),
        ...(protocol ? { protocol } : {}),
        ...(ports ? { destinationPorts: ports } : {}),
        ...(iif ? { iif } : {}),
      }),
    )
  return [
    { kind: 'route', table: lookup, device },
    { kind: 'rule', preference: Preference.local, lookup: Table.local },
    { kind: 'rule', preference: Preference.fromDevice, iif: device, goto: Preference.local },
    ...rules,
    ...icmp.values(),
  ]
}

/** The command of iproute2 or procps that does the same. */
export function describe(item: PlumbingItem): string {
  switch (item.kind) {
    case 'link':
      return (
        `ip link set ${item.device} up` +
        (item.mtu ? ` mtu ${item.mtu}` : '') +
        (item.master ? ` master ${item.master}` : '')
      )
    case 'sysctl':
      return `sysctl -w net.ipv4.conf.${item.device}.${item.key}=${item.value}`
    case 'address':
      return `ip address add ${item.address}/32 dev ${item.device}`
    case 'route':
      return `ip route add default dev ${item.device} table ${item.table} proto ${UVS_PROTOCOL}`
    case 'rule':
      return `ip rule add ${ruleText(item)}`
  }
}

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
    `proto ${UVS_PROTOCOL}`,
  ]
    .filter((part) => part !== '')
    .join(' ')
}

const NLM_F_CREATE_EXCLUSIVE = 0x400 | 0x200

export class Plumbing {
  private readonly socket: RtSocket = openRtnetlink()
  private items: PlumbingItem[] = []

  /** @param interfaces asked for the interfaces of the moment */
  constructor(private readonly interfaces: () => Promise<Interface[]>) {}

  /** What is programmed now. */
  list(): readonly PlumbingItem[] {
    return this.items
  }

  /** Makes the kernel hold this and nothing else of ours. What is there already stays untouched. */
  async apply(desired: readonly PlumbingItem[]): Promise<void> {
    const wanted = new Map(desired.map((item) => [describe(item), item]))
    const present = new Set(this.items.map(describe))
    for (const [text, item] of wanted)
      if (item.kind !== 'rule' && item.kind !== 'route' && !present.has(text))
        await this.setOnDevice(item, text)
    for (const item of this.items)
      if (item.kind === 'address' && !wanted.has(describe(item))) await this.deleteAddress(item)

    const routes = await this.ourRoutes()
    const rules = await this.ourRules()
    const localMoves = wanted.has(describe(localRule))
    for (const [text, item] of wanted)
      if (item.kind === 'route' && !routes.has(text))
        await explain(text, this.socket.newRoute(...(await this.routeMessage(item)), exclusive))
    for (const [text, item] of wanted)
      if (item.kind === 'rule' && !rules.has(text))
        await explain(text, this.socket.newRule(...ruleMessage(item), exclusive))
    // From here on ours is there: the table local is never without a rule.
    if (localMoves) await this.deleteKernelsLocalRule()
    else await this.restoreKernelsLocalRule()
    for (const [text, message] of rules)
      if (!wanted.has(text))
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
    if (item.kind === 'sysctl') {
      writeFileSync(`/proc/sys/net/ipv4/conf/${item.device}/${item.key}`, item.value)
      return
    }
    const index = await this.indexOf(item.device)
    if (item.kind === 'link') {
      const master = item.master === undefined ? undefined : await this.indexOf(item.master)
      await explain(
        text,
        this.socket.setLink(
          { index, change: { up: true }, flags: { up: true } },
          {
            ...(item.mtu === undefined ? {} : { mtu: item.mtu }),
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
    const index = await this.indexOf(item.device)
    const bytes = bytesOf(item.address)
    await explain(
      `not ${describe(item)}`,
      this.socket.delAddress(
        { family: AF_INET, prefixlen: 32, index },
        { local: bytes, address: bytes },
      ),
    ).catch(ignore('EADDRNOTAVAIL'))
  }

  private async indexOf(device: string): Promise<number> {
    const found = (await this.interfaces()).find(({ name }) => name === device)
    if (!found) throw new Error(`there is no interface '${device}'`)
    return found.interfaceIndex
  }

  private async nameOf(index: number | undefined): Promise<string> {
    return (
      (await this.interfaces()).find((one) => one.interfaceIndex === index)?.name ?? `#${index}`
    )
  }

  private async routeMessage(
    item: PlumbingItem & { kind: 'route' },
  ): Promise<[rt.Route, rt.RouteAttrs]> {
    return [
      {
        family: AF_INET,
        table: 0,
        protocol: UVS_PROTOCOL as rt.RouteProtocol,
        scope: 'LINK',
        type: 'UNICAST',
      },
      { table: item.table, oif: await this.indexOf(item.device) },
    ]
  }

  /** Our routes, by their command. */
  private async ourRoutes(): Promise<Map<string, rt.RouteMessage>> {
    const messages = await explain('listing routes', this.socket.getRoutes({ family: AF_INET }))
    const ours = new Map<string, rt.RouteMessage>()
    for (const message of messages)
      if ((message.data.protocol as number) === UVS_PROTOCOL)
        ours.set(
          describe({
            kind: 'route',
            table: message.attrs.table ?? 0,
            device: await this.nameOf(message.attrs.oif),
          }),
          message,
        )
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
      ({ attrs }) => (attrs.priority ?? 0) === 0 && attrs.table === Table.local,
    )
  }

  private async deleteKernelsLocalRule(): Promise<void> {
    const rule = await this.kernelsLocalRule()
    if (rule)
      await explain('moving the rule of table local', this.socket.delRule(rule.data, rule.attrs))
  }

  private async restoreKernelsLocalRule(): Promise<void> {
    if (await this.kernelsLocalRule()) return
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

const localRule: Rule = { kind: 'rule', preference: Preference.local, lookup: Table.local }
const exclusive = { flags: NLM_F_CREATE_EXCLUSIVE }

function ignore(code: string) {
  return (error: NodeJS.ErrnoException): void => {
    if (error.code !== code) throw error
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
      action: rule.goto === undefined ? 'toTbl' : 'goto',
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
    ...(attrs.goto === undefined
      ? { lookup: attrs.table ?? data.table ?? 0 }
      : { goto: attrs.goto }),
  }
}

/** Settings of the host that stand in the way of forwarding, each in a sentence. */
export function hostWarnings(): string[] {
  const warnings: string[] = []
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(`/proc/sys/net/ipv4/${path}`, 'utf8').trim()
    } catch {
      return undefined
    }
  }
  if (read('ip_forward') === '0')
    warnings.push(
      'net.ipv4.ip_forward is 0: the kernel routes nothing for uvsd; set it with: sysctl -w net.ipv4.ip_forward=1',
    )
  if (read('conf/all/rp_filter') === '1')
    warnings.push(
      'net.ipv4.conf.all.rp_filter is 1: the kernel drops what uvsd hands to it; set it with: sysctl -w net.ipv4.conf.all.rp_filter=2',
    )
  return warnings
}
