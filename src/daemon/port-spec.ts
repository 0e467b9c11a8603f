/**
 * What `--port` takes: a driver, the interface, and options after commas.
 *
 *     afxdp:eth0                  the packets of an interface, through AF_XDP sockets on all of its queues
 *     afxdp:eth0,mode=generic     … in generic (skb) mode without trying the driver's own
 *     tun:uvs0                    a TUN device (layer 3) that uvsd makes and routes its traffic into
 *     tun:uvs0,offload=off        … one packet at a time with its checksum, for comparison
 *     tap:uvs0,bridge=br0         a TAP device (layer 2) on a bridge: a station of that segment
 *     tap:uvs0,bridge=br0,mac=02:00:00:00:00:01
 */
export type PortSpec =
  | { driver: 'afxdp'; interface: string; mode: 'auto' | 'native' | 'generic' }
  | { driver: 'tun'; interface: string; offload: boolean }
  | { driver: 'tap'; interface: string; bridge: string; mac?: string }

/** Linux's IFNAMSIZ, less the terminating zero. */
const MAX_NAME_LENGTH = 15
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i

/** Parses one `--port` argument. Throws an Error that names the token that is wrong and what would be right. */
export function parsePortSpec(text: string): PortSpec {
  const fail = (why: string): never => {
    throw new Error(`--port ${text}: ${why}`)
  }
  const colon = text.indexOf(':')
  const driver = colon < 0 ? text : text.slice(0, colon)
  if (driver !== 'afxdp' && driver !== 'tun' && driver !== 'tap')
    return fail(
      `unknown driver '${driver}'; it is one of afxdp:IFACE, tun:NAME, tap:NAME,bridge=BRIDGE`,
    )
  const [name = '', ...rest] = colon < 0 ? [] : text.slice(colon + 1).split(',')
  checkName(name, fail)
  const options = new Map<string, string>()
  for (const part of rest) {
    const [key = '', ...value] = part.split('=')
    if (value.length === 0) fail(`option '${part}' has no value`)
    if (options.has(key)) fail(`option '${key}' is given twice`)
    options.set(key, value.join('='))
  }
  const take = (key: string): string | undefined => {
    const value = options.get(key)
    options.delete(key)
    return value
  }
  let spec: PortSpec
  if (driver === 'afxdp') {
    const mode = take('mode') ?? 'auto'
    if (mode !== 'auto' && mode !== 'native' && mode !== 'generic')
      return fail(`mode '${mode}' is none of auto, native, generic`)
    spec = { driver, interface: name, mode }
  } else if (driver === 'tun') {
    const offload = take('offload') ?? 'on'
    if (offload !== 'on' && offload !== 'off')
      return fail(`offload '${offload}' is none of on, off`)
    spec = { driver, interface: name, offload: offload === 'on' }
  } else {
    const bridge = take('bridge')
    if (bridge === undefined)
      return fail(`a TAP port needs the bridge that it is a station of: tap:${name},bridge=br0`)
    checkName(bridge, fail)
    const mac = take('mac')
    if (mac !== undefined && (!MAC.test(mac) || (parseInt(mac.slice(0, 2), 16) & 1) === 1))
      return fail(`mac '${mac}' is no unicast Ethernet address like 02:00:00:00:00:01`)
    spec = { driver, interface: name, bridge, ...(mac === undefined ? {} : { mac }) }
  }
  for (const key of options.keys()) fail(`the ${driver} driver has no option '${key}'`)
  return spec
}

/** The ports of one daemon together: what cannot work side by side is refused. */
export function checkPorts(specs: readonly PortSpec[], workers = 1): void {
  if (specs.length === 0)
    throw new Error('no port: give at least one, as --port afxdp:eth0 or --port tun:uvs0')
  const seen = new Set<string>()
  for (const { interface: name } of specs) {
    if (seen.has(name)) throw new Error(`--port: interface '${name}' is given twice`)
    seen.add(name)
  }
  const drivers = new Set(specs.map((spec) => spec.driver))
  if (drivers.size > 1)
    throw new Error(
      `--port: drivers cannot be mixed in one daemon, got ${[...drivers].join(' and ')}`,
    )
  if (drivers.has('tun') && specs.length > 1)
    throw new Error('--port: one TUN device serves all interfaces; give tun: once')
  if (drivers.has('tap') && specs.length > 1)
    throw new Error('--port: one TAP station a daemon; give tap: once')
  if (drivers.has('tap') && workers > 1)
    throw new Error(`--workers ${workers}: a TAP port has one worker`)
}

function checkName(name: string, fail: (why: string) => never): void {
  if (name === '') fail('the interface name is missing')
  if (Buffer.byteLength(name) > MAX_NAME_LENGTH)
    fail(`interface name '${name}' is longer than ${MAX_NAME_LENGTH} bytes`)
  // With a % the kernel would make a name of its own of it.
  if (/[\s/:%]/.test(name) || name === '.' || name === '..')
    fail(`'${name}' cannot be the name of an interface`)
}
