// TUN with offload: packets of many segments, without their checksums, through uvsd. The ends leave checksums and
// cutting to their devices here, which those of the other tests do not.
import t, { type Test } from 'tap'
import type { LabProcess, Namespace } from '../src/lab/lab.js'
import { payloadDigest } from '../src/lab/payload.js'
import { HTTP_PORT, uvsadm, type Method, type Topology } from '../src/lab/topology.js'
import { Capture, onesComplementSum, readIp, type CapturedIp } from './support/capture.js'
import { buildWithDaemon, serve, skip } from './support/director.js'
import { download, upload } from './support/traffic.js'

t.setTimeout(600_000)

const BULK_BYTES = 50_000_000
const MTU = 1500
const TUN_DEVICE = 'uvs0'
const UDP = 17

/** A filter of tcpdump for what no wire would carry. */
const LONG = 'greater 3000'

async function setOffload(
  namespace: Namespace,
  devices: readonly string[],
  value: 'on' | 'off',
): Promise<void> {
  for (const device of devices) await namespace.run('ethtool', '-K', device, 'tx', value)
}

/** All devices on the way take packets as they are, from one end to the other. */
async function offloadEverywhere({ lab, method }: Topology): Promise<void> {
  const devices: Record<string, string[]> =
    method === 'nat'
      ? { client: ['eth0'], director: ['eth0', 'eth1'], inside: ['director', 'server1'] }
      : {
          ...{ client: ['eth0'], router: ['eth0', 'eth1', 'eth2'], lan: ['router', 'director'] },
          ...{ director: ['eth0'], remote: ['router', 'server1'] },
        }
  devices['server1'] = ['eth0']
  for (const namespace of lab.namespaces)
    await setOffload(namespace, devices[namespace.role] ?? [], 'on')
}

/** Starts to look for one packet on a device; `waitForExit` of what it returns is 0 when one was seen. */
async function lookFor(namespace: Namespace, device: string, filter: string): Promise<LabProcess> {
  const args = ['-i', device, '-n', '-c', '1', '-s', '64', '--immediate-mode', '-Z', 'root', filter]
  const name = `look-${namespace.role}-${device}-${++looks}`
  const process = namespace.lab.start(namespace, name, 'tcpdump', args)
  await process.waitForLine(/listening on/)
  return process
}

let looks = 0

async function hasSeen(look: LabProcess): Promise<boolean> {
  return (await look.waitForExit()) === 0
}

async function checkBulk(t: Test, method: Method): Promise<void> {
  const { topology, daemon } = await buildWithDaemon(t, method, 'tun', 1)
  const { client, director, servers, virtualAddress } = topology
  await offloadEverywhere(topology)
  await serve(topology, daemon, { port: HTTP_PORT })
  const server = servers[0]!.address
  const expected = { sha256: payloadDigest(BULK_BYTES), bytes: BULK_BYTES }

  const toServer = [await lookFor(director, TUN_DEVICE, `tcp dst port ${HTTP_PORT} and ${LONG}`)]
  if (method === 'nat')
    toServer.push(await lookFor(director, 'eth1', `dst host ${server} and ${LONG}`))
  const { sha256, bytes } = await upload(client, `http://${virtualAddress}/sink`, BULK_BYTES)
  t.strictSame({ sha256, bytes }, expected, 'all of it has arrived')
  for (const look of toServer) t.ok(await hasSeen(look), `whole packets: ${look.name}`)

  const toClient =
    method === 'nat'
      ? [
          await lookFor(director, TUN_DEVICE, `tcp src port ${HTTP_PORT} and ${LONG}`),
          await lookFor(director, 'eth0', `src host ${virtualAddress} and ${LONG}`),
        ]
      : []
  t.strictSame(
    await download(client, `http://${virtualAddress}/bytes/${BULK_BYTES}`),
    expected,
    'all of it has come back',
  )
  for (const look of toClient) t.ok(await hasSeen(look), `whole packets: ${look.name}`)
}

void t.test('masquerading: bulk both ways in packets longer than the MTU', { skip }, (t) =>
  checkBulk(t, 'nat'),
)

void t.test(
  'tunneling: bulk in packets longer than the MTU, cut before they are wrapped',
  { skip },
  (t) => checkBulk(t, 'tun'),
)

void t.test('checksums are right where nobody offloads any more', { skip }, async (t) => {
  const { topology, daemon } = await buildWithDaemon(t, 'nat', 'tun', 1)
  const { client, director, servers, virtualAddress } = topology
  await setOffload(client, ['eth0'], 'on')
  await setOffload(director, ['eth0'], 'on')
  // Mapped ports are in the checksum, too.
  await serve(topology, daemon, { port: 8080, serverPort: HTTP_PORT })
  const server = servers[0]!
  const look = await lookFor(director, TUN_DEVICE, `tcp dst port 8080 and ${LONG}`)
  const capture = await Capture.start(server.namespace, 'eth0', `tcp dst port ${HTTP_PORT}`)
  const bytes = 1_000_000
  const { sha256 } = await upload(client, `http://${virtualAddress}:8080/sink`, bytes)
  t.equal(sha256, payloadDigest(bytes))
  t.ok(await hasSeen(look), 'whole packets have come to uvsd')
  // Under such a load a capture has not all of them.
  const enough = 50
  const isFull = ({ ip }: { ip: CapturedIp | undefined }): boolean => ip!.totalBytes === MTU
  const frames = await capture.stop((all) => all.filter(isFull).length >= enough)
  t.ok(frames.filter(isFull).length >= enough, `full packets among ${frames.length}`)
  const packets = frames.map(({ ip }) => ip!)
  t.strictSame(
    packets.filter((ip) => ip.totalBytes > MTU || !ip.checksumOk || !ip.transportChecksumOk),
    [],
    'each fits the wire, and its checksums are right',
  )
})

const DATAGRAMS = 12
const DATAGRAM_BYTES = 1100
const DATAGRAM_PORT = 4000
const UDP_HEADER_BYTES = 8

/** Sends datagrams in one call, which the kernel passes on as one packet (UDP_SEGMENT); each is of a letter of its own. */
const SENDER = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, ${DATAGRAM_BYTES})
s.sendto(b''.join(bytes([65 + i]) * ${DATAGRAM_BYTES} for i in range(${DATAGRAMS})), (sys.argv[1], ${DATAGRAM_PORT}))
`

/** Whether the kernel gives a TUN device several datagrams as one packet: since Linux 6.2. */
async function hasDatagramOffload(director: Namespace): Promise<boolean> {
  return /tx-udp-segmentation: on/.test(await director.run('ethtool', '-k', TUN_DEVICE))
}

/** The packets that come to the server of datagrams that are sent in one call. */
async function sendDatagrams(t: Test, topology: Topology, filter: string): Promise<CapturedIp[]> {
  const { client, director, servers, virtualAddress } = topology
  const isWhole = await hasDatagramOffload(director)
  const look = isWhole ? await lookFor(director, TUN_DEVICE, `udp and ${LONG}`) : undefined
  const capture = await Capture.start(servers[0]!.namespace, 'eth0', filter)
  await client.run('python3', '-c', SENDER, virtualAddress)
  const frames = await capture.stop((all) => all.length >= DATAGRAMS)
  if (look) t.ok(await hasSeen(look), 'they have come to uvsd as one packet')
  return frames.map(({ ip }) => ip!)
}

function checkDatagrams(t: Test, packets: readonly CapturedIp[], destination: string): void {
  t.strictSame(
    packets.map((ip) => ({
      ...{ protocol: ip.protocol, destination: ip.destination, port: ip.destinationPort },
      ...{ bytes: ip.totalBytes, right: ip.checksumOk && ip.transportChecksumOk },
      text: [...new Set(ip.payload.subarray(UDP_HEADER_BYTES).toString())].join(''),
    })),
    Array.from({ length: DATAGRAMS }, (_, i) => ({
      ...{ protocol: UDP, destination, port: DATAGRAM_PORT },
      ...{ bytes: 20 + UDP_HEADER_BYTES + DATAGRAM_BYTES, right: true },
      text: String.fromCharCode(65 + i),
    })),
    'each datagram by itself, in order, with right checksums',
  )
  const [first] = packets
  t.strictSame(
    packets.map(({ identification }) => (identification - first!.identification) & 0xffff),
    packets.map((_, i) => i),
    'identifications count up',
  )
}

void t.test('masquerading: datagrams sent in one call', { skip }, async (t) => {
  const { topology, daemon } = await buildWithDaemon(t, 'nat', 'tun', 1)
  await setOffload(topology.client, ['eth0'], 'on')
  await setOffload(topology.director, ['eth0'], 'on')
  await serve(topology, daemon, { protocol: 'udp', port: DATAGRAM_PORT })
  t.match(
    await topology.director.run('tc', 'qdisc', 'show', 'dev', TUN_DEVICE),
    /^qdisc noqueue [0-9a-f]+: root/,
    'no queue before the device’s own',
  )
  const threaded = (await topology.director.run('cat', `/sys/class/net/${TUN_DEVICE}/threaded`)).trim() // prettier-ignore
  t.equal(threaded, '1', 'a thread of the kernel receives what the director transmits')
  const packets = await sendDatagrams(t, topology, `udp dst port ${DATAGRAM_PORT}`)
  checkDatagrams(t, packets, topology.servers[0]!.address)
})

const GUE_PORT = 6080
const ETHERTYPE_IPV4 = 0x0800
const GRE_CHECKSUM = 0x8000

/** What is in a tunnel's packet. */
interface Wrapped {
  readonly inner: Buffer
  /** undefined: it has none */
  readonly isChecksumRight: boolean | undefined
}

function unwrapGre({ payload }: CapturedIp): Wrapped {
  const hasChecksum = (payload.readUInt16BE(0) & GRE_CHECKSUM) !== 0
  if (payload.readUInt16BE(2) !== ETHERTYPE_IPV4) throw new Error('no IPv4 in GRE')
  return {
    inner: payload.subarray(hasChecksum ? 8 : 4),
    isChecksumRight: hasChecksum ? onesComplementSum(payload) === 0xffff : undefined,
  }
}

function unwrapGue({ payload, transportChecksumOk }: CapturedIp): Wrapped {
  if (payload.readUInt16BE(4) !== payload.length) throw new Error('UDP of another length')
  const gue = payload.subarray(UDP_HEADER_BYTES)
  return {
    inner: gue.subarray(4 + (gue[0]! & 0x1f) * 4),
    isChecksumRight: payload.readUInt16BE(6) === 0 ? undefined : transportChecksumOk,
  }
}

const tunnels: readonly {
  options: string
  filter: string
  hasChecksum: boolean
  unwrap: (ip: CapturedIp) => Wrapped
}[] = [
  {
    options: '--tun-type ipip',
    filter: 'proto 4',
    hasChecksum: false,
    unwrap: ({ payload }) => ({ inner: payload, isChecksumRight: undefined }),
  },
  ...[false, true].flatMap((hasChecksum) => {
    const sum = hasChecksum ? '--tun-csum' : '--tun-nocsum'
    const gue = `--tun-type gue --tun-port ${GUE_PORT} ${sum}`
    return [
      { options: `--tun-type gre ${sum}`, filter: 'proto 47', hasChecksum, unwrap: unwrapGre },
      { options: gue, filter: `udp dst port ${GUE_PORT}`, hasChecksum, unwrap: unwrapGue },
    ]
  }),
]

void t.test('tunneling: datagrams sent in one call', { skip }, async (t) => {
  const { topology, daemon } = await buildWithDaemon(t, 'tun', 'tun', 1)
  await offloadEverywhere(topology)
  const { virtualAddress } = topology
  const server = topology.servers[0]!.address
  const service = `${virtualAddress}:${DATAGRAM_PORT}`
  for (const { options, filter, hasChecksum, unwrap } of tunnels)
    await t.test(options, async (t) => {
      await uvsadm(daemon, ['-C'])
      await uvsadm(daemon, ['-A', '-u', service, '-s', 'rr'])
      await uvsadm(daemon, ['-a', '-u', service, '-r', server, '-i', ...options.split(' ')])
      const packets = await sendDatagrams(t, topology, filter)
      t.strictSame(
        packets.filter((ip) => !ip.checksumOk || ip.destination !== server || ip.totalBytes > MTU),
        [],
        'each wrapped by itself, for the server',
      )
      const wrapped = packets.map(unwrap)
      t.strictSame(
        wrapped.map(({ isChecksumRight }) => isChecksumRight),
        wrapped.map(() => (hasChecksum ? true : undefined)),
        hasChecksum ? 'with a right checksum outside' : 'without a checksum outside',
      )
      checkDatagrams(
        t,
        wrapped.map(({ inner }) => readIp(inner)),
        virtualAddress,
      )
    })
})
