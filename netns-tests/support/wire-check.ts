// Each packet of one small HTTP exchange with every server, as it left one namespace and reached another.
import type { Test } from 'tap'
import type { Namespace } from '../../src/lab/lab.js'
import { HTTP_PORT, type Topology } from '../../src/lab/topology.js'
import { Capture, TcpFlag, type CapturedFrame, type CapturedIp } from './capture.js'
import { whoAnswers } from './traffic.js'

const TCP = 6
const IPIP = 4

/** What a packet must look like at one point of the wire. */
interface Expected {
  sourceMac: string
  destinationMac: string
  source: string
  destination: string
  ttl: number
}

/**
 * What passing the director takes off the TTL: one. With a TUN device the packet passes two routers there,
 * the kernel that leads it into uvs0, and uvsd together with the kernel that sends it out again.
 */
const hopsOfDirector = ({ driver }: Topology): number => (driver === 'tun' ? 2 : 1)

export async function checkWire(t: Test, topology: Topology, clientAddress: string): Promise<void> {
  const { client, router, director, servers, method, virtualAddress } = topology
  const serverCaptures = []
  for (const { namespace } of servers)
    serverCaptures.push(await Capture.start(namespace, 'eth0', 'tcp or proto 4'))
  const clientCapture = await Capture.start(client, 'eth0', 'tcp')
  await whoAnswers(client, virtualAddress, servers.length)
  const clientMac = await client.mac('eth0')
  // Connections of an earlier client may end late.
  const ofClient = (frames: readonly CapturedFrame[]): CapturedFrame[] =>
    frames.filter(({ ip }) => isOf(ip?.inner ?? ip, clientAddress))
  const ends =
    (mac: string) =>
    (frames: readonly CapturedFrame[]): boolean =>
      hasEndsOf(mac)(ofClient(frames))
  const atClient = tcpOf(ofClient(await clientCapture.stop(ends(clientMac))))
  const hops = hopsOfDirector(topology)

  // -- at the client
  const nextToClient = await (router ?? director).mac('eth0')
  check(t, 'the client sends', leaving(atClient, clientMac), {
    sourceMac: clientMac,
    destinationMac: nextToClient,
    source: clientAddress,
    destination: virtualAddress,
    ttl: 64,
  })
  check(t, 'the client receives', arriving(atClient, clientMac), {
    sourceMac: nextToClient,
    destinationMac: clientMac,
    source: virtualAddress,
    destination: clientAddress,
    // Masqueraded, the answer passes the director; else only the router.
    ttl: method === 'nat' ? 64 - hops : 63,
  })

  // -- at the servers
  for (const [i, { name, namespace, address }] of servers.entries()) {
    const serverMac = await namespace.mac('eth0')
    const frames = ofClient(await serverCaptures[i]!.stop(ends(serverMac)))
    const incoming = arriving(frames, serverMac)
    const outgoing = leaving(tcpOf(frames), serverMac)
    if (method === 'nat') {
      check(t, `${name} receives`, tcpOf(incoming), {
        sourceMac: await director.mac('eth1'),
        destinationMac: serverMac,
        source: clientAddress,
        destination: address,
        ttl: 64 - hops,
      })
      check(t, `${name} sends`, outgoing, {
        sourceMac: serverMac,
        destinationMac: await director.mac('eth1'),
        source: address,
        destination: clientAddress,
        ttl: 64,
      })
      continue
    }
    const lanOfServer: [Namespace, string] = [router!, method === 'dr' ? 'eth1' : 'eth2']
    const routerMac = await lanOfServer[0].mac(lanOfServer[1])
    if (method === 'dr') {
      // The station that answers ARP for the VIP: the director's interface, or uvsd itself on a TAP device.
      const stationMac = await neighbourMac(router!, virtualAddress)
      check(t, `${name} receives`, tcpOf(incoming), {
        sourceMac: stationMac,
        destinationMac: serverMac,
        source: clientAddress,
        destination: virtualAddress,
        // The router takes one, the director another.
        ttl: 63 - hops,
      })
    } else {
      checkTunnelled(t, name, incoming, {
        outer: {
          sourceMac: routerMac,
          destinationMac: serverMac,
          source: topology.directorAddress,
          destination: address,
          // It leaves the director as the inner one does; then comes the router.
          ttl: 63 - hops - 1,
        },
        inner: {
          source: clientAddress,
          destination: virtualAddress,
          ttl: 63 - hops,
        },
      })
    }
    check(t, `${name} sends`, outgoing, {
      sourceMac: serverMac,
      destinationMac: routerMac,
      source: virtualAddress,
      destination: clientAddress,
      ttl: 64,
    })
  }
}

async function neighbourMac(namespace: Namespace, address: string): Promise<string> {
  const text = await namespace.ip('neighbour', 'show', address)
  return /lladdr (\S+)/.exec(text)?.[1] ?? `none: ${text}`
}

function checkTunnelled(
  t: Test,
  name: string,
  frames: readonly CapturedFrame[],
  expected: { outer: Expected; inner: Omit<Expected, 'sourceMac' | 'destinationMac'> },
): void {
  t.ok(frames.length > 0, `${name} receives packets`)
  t.ok(
    frames.every(({ ip }) => ip?.protocol === IPIP && ip.inner?.protocol === TCP),
    `${name} receives nothing but TCP in tunnels`,
  )
  t.strictSame(distinct(frames.map(essence)), [expected.outer], `${name} receives: outer header`)
  const inner = frames.map(({ ip }) => ip!.inner!)
  t.strictSame(
    distinct(inner.map(({ source, destination, ttl }) => ({ source, destination, ttl }))),
    [expected.inner],
    `${name} receives: inner header`,
  )
  t.ok(
    frames.every(({ ip }) => ip!.dontFragment === ip!.inner!.dontFragment),
    `${name} receives: the outer header has the inner's DF`,
  )
  t.ok(
    frames.every(({ ip }) => ip!.checksumOk),
    `${name} receives: outer checksums`,
  )
  checkTransport(t, `${name} receives`, inner)
}

function check(t: Test, what: string, frames: readonly CapturedFrame[], expected: Expected): void {
  t.ok(frames.length > 0, `${what} packets`)
  t.strictSame(distinct(frames.map(essence)), [expected], `${what}: addresses and TTL`)
  checkTransport(
    t,
    what,
    frames.map(({ ip }) => ip!),
  )
}

function checkTransport(t: Test, what: string, packets: readonly CapturedIp[]): void {
  t.ok(
    packets.every((ip) => ip.checksumOk && ip.transportChecksumOk),
    `${what}: checksums of IP and TCP`,
  )
  t.ok(
    packets.every((ip) => ip.sourcePort === HTTP_PORT || ip.destinationPort === HTTP_PORT),
    `${what}: ports`,
  )
  t.notOk(
    packets.some((ip) => (ip.tcpFlags & TcpFlag.reset) !== 0),
    `${what}: no resets`,
  )
  t.ok(
    packets.some((ip) => (ip.tcpFlags & TcpFlag.syn) !== 0) &&
      packets.some((ip) => (ip.tcpFlags & TcpFlag.fin) !== 0),
    `${what}: from the first to the last packet`,
  )
}

function essence({ sourceMac, destinationMac, ip }: CapturedFrame): Expected {
  const { source, destination, ttl } = ip!
  return { sourceMac, destinationMac, source, destination, ttl }
}

/** Whether a capture has come so far that connections ended, in both directions. */
const hasEndsOf =
  (mac: string) =>
  (frames: readonly CapturedFrame[]): boolean =>
    [arriving(frames, mac), leaving(frames, mac)].every((some) =>
      some.some(({ ip }) => ((ip?.inner ?? ip)?.tcpFlags ?? 0) & TcpFlag.fin),
    )
const isOf = (ip: CapturedIp | undefined, address: string): boolean =>
  ip?.source === address || ip?.destination === address
const tcpOf = (frames: readonly CapturedFrame[]): CapturedFrame[] =>
  frames.filter(({ ip }) => ip?.protocol === TCP)
const arriving = (frames: readonly CapturedFrame[], mac: string): CapturedFrame[] =>
  frames.filter(({ destinationMac }) => destinationMac === mac)
const leaving = (frames: readonly CapturedFrame[], mac: string): CapturedFrame[] =>
  frames.filter(({ sourceMac }) => sourceMac === mac)

function distinct<T>(values: readonly T[]): T[] {
  return [...new Map(values.map((value) => [JSON.stringify(value), value])).values()]
}
