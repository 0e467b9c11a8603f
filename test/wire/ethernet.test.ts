import t from 'tap'
import * as arp from '../../src/wire/arp.js'
import * as ethernet from '../../src/wire/ethernet.js'
import * as ipv4 from '../../src/wire/ipv4.js'
import { hex } from '../support/packets.js'

const here = new Uint16Array(hex('0200 0a00 0001').buffer)
const there = new Uint16Array(hex('0200 0a00 0002').buffer)

t.test('an ARP request and its reply, byte for byte', async (t) => {
  const bytes = new Uint8Array(64)
  const halfs = new Uint16Array(bytes.buffer)
  const words = new Int32Array(bytes.buffer)
  const broadcast = new Uint16Array(3).fill(0xffff)
  const [a, b] = [ipv4.parseAddress('10.0.0.1')!, ipv4.parseAddress('10.0.0.2')!]
  ethernet.writeHeader(words, halfs, 2, broadcast, 0, here, 0, ethernet.EtherTypeBe.arp)
  arp.write(halfs, 16, arp.OperationBe.request, here, 0, a, undefined, 0, b)
  t.strictSame(
    bytes.slice(2, 44),
    hex(`ffff ffff ffff 0200 0a00 0001 0806
         0001 0800 0604 0001 0200 0a00 0001 0a00 0001 0000 0000 0000 0a00 0002`),
  )
  t.ok(ethernet.isGroupDestination(bytes, 2))
  t.equal(ethernet.etherTypeBe(halfs, 2), ethernet.EtherTypeBe.arp)
  t.ok(arp.isValid(halfs, 16, 28))
  t.notOk(arp.isValid(halfs, 16, 27))
  t.equal(arp.operationBe(halfs, 16), arp.OperationBe.request)
  t.equal(arp.senderIpBe(halfs, 16), a)
  t.equal(arp.targetIpBe(halfs, 16), b)

  ethernet.writeHeader(words, halfs, 2, here, 0, there, 0, ethernet.EtherTypeBe.arp)
  arp.write(halfs, 16, arp.OperationBe.reply, there, 0, b, here, 0, a)
  t.strictSame(
    bytes.slice(2, 44),
    hex(`0200 0a00 0001 0200 0a00 0002 0806
         0001 0800 0604 0002 0200 0a00 0002 0a00 0002 0200 0a00 0001 0a00 0001`),
  )
  t.notOk(ethernet.isGroupDestination(bytes, 2))
  bytes[16] = 1
  t.notOk(arp.isValid(halfs, 16, 28), 'another hardware type')
})

t.test('MAC addresses as text', async (t) => {
  t.strictSame(ethernet.parseMac('02:00:0A:00:00:01'), hex('0200 0a00 0001'))
  t.equal(ethernet.formatMac(hex('ff 0200 0a00 0001'), 1), '02:00:0a:00:00:01')
  for (const bad of ['', '02:00:0a:00:00', '02:00:0a:00:00:0g', '02-00-0a-00-00-01', '2:0:a:0:0:1'])
    t.equal(ethernet.parseMac(bad), undefined, bad)
})
