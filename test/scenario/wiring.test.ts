import t from 'tap'
import { eventsOf } from '../../src/scenario/events.js'
import { parseScenario } from '../../src/scenario/parse.js'
import { addressesOf, macOf, onLinkSide, ownAddresses } from '../../src/scenario/wiring.js'

t.test("neighbours' Ethernet addresses are made of their own", async (t) => {
  t.equal(macOf('10.2.0.3'), '02:00:0a:02:00:03')
  t.equal(macOf('192.0.2.255'), '02:00:c0:00:02:ff')
  t.equal(macOf('fd02::3'), '02:06:00:00:00:03')
  t.equal(macOf('fd01::1:2:3'), '02:06:00:02:00:03')
  t.equal(macOf('::ffff:1.2.3.4'), '02:06:01:02:03:04')
})

t.test('which link an address is on', async (t) => {
  for (const [address, side] of [
    ['10.1.0.7', 'client'],
    ['10.1.255.254', 'client'],
    ['10.2.0.3', 'server'],
    ['10.10.0.3', undefined],
    ['10.20.0.3', undefined],
    ['192.0.2.1', undefined],
    ['fd01::7', 'client'],
    ['fd02::3', 'server'],
    ['fd01:0:0:1::7', undefined],
    ['fd03::1', undefined],
    ['2001:db8::1', undefined],
  ] as const)
    t.equal(onLinkSide(address), side, address)
  t.strictSame(ownAddresses, ['10.1.0.1', 'fd01::1', '10.2.0.1', 'fd02::1'])
})

t.test('what a scenario talks about', async (t) => {
  const addresses = (text: string): { all: string[]; virtual: string[] } => {
    const { all, virtual } = addressesOf(eventsOf(parseScenario(text, 'a.scn')))
    return { all: [...all], virtual: [...virtual] }
  }
  const gateways = ['10.1.255.254', 'fd01::ffff']
  t.strictSame(addresses(''), { all: gateways, virtual: [] })
  for (const [line, address] of [
    ['-A -t 10.1.0.100:80', '10.1.0.100'],
    ['-A -t10.1.0.100:80 -s rr', '10.1.0.100'],
    ['-At 10.1.0.100:80', '10.1.0.100'],
    ['--add-service --udp-service=10.1.0.100:80', '10.1.0.100'],
    ['-A --sctp-service 10.1.0.100:80', '10.1.0.100'],
    ['-A -t [FD01:0::100]:80', 'fd01::100'],
  ] as const)
    t.strictSame(
      addresses(`ipvsadm ${line}`),
      { all: [...gateways, address], virtual: [address] },
      line,
    )
  t.strictSame(
    addresses(`
      ipvsadm -A -t 10.1.0.1:80            # the director's own
      ipvsadm -A -f 1
      ipvsadm -E -t 10.1.0.101:80          # not there
      ipvsadm -A -t 10.1.0.102:80 --frob   # no command
      ipvsadm -a -t 10.1.0.101:80 -r 10.2.0.3:8080 -m
      ipvsadm -a -f 1 -r10.2.0.4
      udp 10.1.0.7:1 > 192.0.2.1:2
      tcp [fd01::7]:1 > [fd02::1]:2
      raw 4500`),
    {
      all: [
        ...gateways,
        ...['10.1.0.1', '10.1.0.101', '10.2.0.3', '10.2.0.4', '10.1.0.7', '192.0.2.1'],
        ...['fd01::7', 'fd02::1'],
      ],
      virtual: [],
    },
  )
})
