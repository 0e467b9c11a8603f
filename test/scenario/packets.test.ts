import t from 'tap'
import { parseScenario } from '../../src/scenario/parse.js'
import { sctpChunks } from '../../src/scenario/packets.js'
import { hex, packetProblems, plainCrc32c } from '../support/packets.js'

/** The packet of a line. */
function packetOf(line: string): Uint8Array {
  const [directive] = parseScenario(line, 'a.scn').directives
  if (directive?.kind !== 'packet') throw new Error(`no packet: ${line}`)
  return directive.packet
}

t.test('to the byte', async (t) => {
  const cases: [string, string][] = [
    [
      'tcp 10.1.0.7:1024 > 10.1.0.100:80 S',
      `4500 0028 0000 4000 4006 2664 0a01 0007 0a01 0064
       0400 0050 0000 0000 0000 0000 5002 ffff 9726 0000`,
    ],
    [
      'tcp 10.1.0.7:1024 > 10.1.0.100:80 FA ttl=9 id=258 len=3',
      `4500 002b 0102 4000 0906 5c5f 0a01 0007 0a01 0064
       0400 0050 0000 0000 0000 0000 5011 ffff 9714 0000 00 00 00`,
    ],
    [
      'udp 10.1.0.7:1024 > 10.1.0.100:53 len=1',
      `4500 001d 0000 0000 4011 6664 0a01 0007 0a01 0064
       0400 0035 0009 e73a 00`,
    ],
    [
      'sctp 10.1.0.7:1024 > 10.1.0.100:80 COOKIE_ACK',
      `4500 0024 0000 0000 4084 65ea 0a01 0007 0a01 0064
       0400 0050 0000 0000 8e23 c3d8 0b00 0004`,
    ],
    [
      'tcp [fd01::7]:1024 > [fd01::100]:80 R id=7',
      `6000 0000 0014 0640 fd01 0000 0000 0000 0000 0000 0000 0007
       fd01 0000 0000 0000 0000 0000 0000 0100
       0400 0050 0000 0000 0000 0000 5004 ffff b086 0000`,
    ],
    [
      'udp [fd01::7]:1024 > [fd01::100]:53 ttl=1',
      `6000 0000 0008 1101 fd01 0000 0000 0000 0000 0000 0000 0007
       fd01 0000 0000 0000 0000 0000 0000 0100
       0400 0035 0008 009f`,
    ],
  ]
  for (const [line, bytes] of cases) {
    t.equal(
      Buffer.from(packetOf(line)).toString('hex'),
      Buffer.from(hex(bytes)).toString('hex'),
      line,
    )
    t.strictSame(packetProblems(hex(bytes)), [], `${line}: the expectation itself`)
  }
})

t.test('a UDP checksum that comes to 0 is sent as all ones', async (t) => {
  const packet = packetOf('udp 10.1.0.7:60220 > 10.1.0.100:53')
  t.strictSame(packetProblems(packet), [])
  t.strictSame([...packet.subarray(26, 28)], [0xff, 0xff])
})

t.test('SCTP: every chunk with what it must have, padded and summed', async (t) => {
  for (const [name, { type, value }] of Object.entries(sctpChunks))
    for (const length of [0, 1, 6])
      for (const ends of ['10.1.0.7:1024 > 10.1.0.100:80', '[fd01::7]:1024 > [fd01::100]:80']) {
        const packet = packetOf(`sctp ${ends} ${name} len=${length}`)
        const sctp = packet.subarray(ends.startsWith('[') ? 40 : 20)
        const chunkBytes = 4 + value.length + length
        const what = `${name} ${length} ${ends}`
        t.equal(sctp[12], type, what)
        t.equal((sctp[14]! << 8) | sctp[15]!, chunkBytes, what)
        t.equal(sctp.length, 12 + Math.ceil(chunkBytes / 4) * 4, what)
        const unsummed = sctp.slice()
        unsummed.fill(0, 8, 12)
        t.strictSame([...sctp.subarray(8, 12)], plainCrc32c(unsummed), what)
      }
  const init = packetOf('sctp 10.1.0.7:1024 > 10.1.0.100:80 INIT')
  t.equal(
    Buffer.from(init.subarray(32)).toString('hex'),
    '01000014' + '00000001' + '0000ffff' + '0001' + '0001' + '00000000',
  )
})

t.test('the longest packets', async (t) => {
  t.equal(packetOf('udp 10.1.0.7:1 > 10.1.0.8:1 len=65507').length, 65535)
  t.equal(packetOf('tcp [fd01::7]:1 > [fd01::8]:1 len=65515').length, 65575)
  t.strictSame(packetProblems(packetOf('tcp [fd01::7]:1 > [fd01::8]:1 len=65515')), [])
})
