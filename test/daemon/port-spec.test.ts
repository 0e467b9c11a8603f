import t from 'tap'
import { checkPorts, parsePortSpec } from '../../src/daemon/port-spec.js'

t.test('a port is a driver, an interface and options', async (t) => {
  t.same(parsePortSpec('afxdp:eth0'), { driver: 'afxdp', interface: 'eth0', mode: 'auto' })
  t.same(parsePortSpec('afxdp:eth0,mode=generic'), {
    driver: 'afxdp',
    interface: 'eth0',
    mode: 'generic',
  })
  t.same(parsePortSpec('tun:uvs0'), { driver: 'tun', interface: 'uvs0', offload: true })
  t.same(parsePortSpec('tun:uvs0,offload=off'), {
    driver: 'tun',
    interface: 'uvs0',
    offload: false,
  })
  t.same(parsePortSpec('tap:uvs0,mac=02:00:00:00:00:01,bridge=br0'), {
    driver: 'tap',
    interface: 'uvs0',
    bridge: 'br0',
    mac: '02:00:00:00:00:01',
  })
})

t.test('what is wrong is named', async (t) => {
  const wrong: [string, RegExp][] = [
    ['eth0', /unknown driver 'eth0'/],
    ['xdp:eth0', /unknown driver 'xdp'/],
    ['afxdp', /interface name is missing/],
    ['afxdp:', /interface name is missing/],
    ['afxdp:a-name-of-16-char', /longer than 15/],
    ['tun:a/b', /cannot be the name/],
    ['afxdp:eth0,mode=fast', /mode 'fast'/],
    ['afxdp:eth0,mode', /'mode' has no value/],
    ['afxdp:eth0,mode=auto,mode=auto', /given twice/],
    ['tun:uvs0,offload=1', /offload '1' is none of on, off/],
    ['tun:uvs0,bridge=br0', /tun driver has no option 'bridge'/],
    ['tap:uvs0', /needs the bridge/],
    ['tap:uvs0,bridge=br0,mac=01:00:00:00:00:01', /no unicast Ethernet address/],
    ['tap:uvs0,bridge=br0,mac=2:0', /no unicast Ethernet address/],
  ]
  for (const [text, message] of wrong) t.throws(() => parsePortSpec(text), { message }, text)
})

t.test('ports that cannot work side by side are refused', async (t) => {
  const ports = (...texts: string[]) => texts.map(parsePortSpec)
  t.throws(() => checkPorts([]), { message: /no port/ })
  t.throws(() => checkPorts(ports('afxdp:eth0', 'afxdp:eth0')), {
    message: /'eth0' is given twice/,
  })
  t.throws(() => checkPorts(ports('afxdp:eth0', 'tun:uvs0')), { message: /cannot be mixed/ })
  t.throws(() => checkPorts(ports('tun:uvs0', 'tun:uvs1')), { message: /give tun: once/ })
  t.doesNotThrow(() => checkPorts(ports('afxdp:eth0', 'afxdp:eth1')))
})
