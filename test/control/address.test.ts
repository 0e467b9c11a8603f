import fc from '../support/properties.js'
import t from 'tap'
import {
  canonicalAddress,
  canonicalIpv6,
  formatIpv4,
  formatNetmask,
  ipv6Words,
  parseIpv4,
  parseLooseIpv4,
  prefixLengthOf,
} from '../../src/control/address.js'

t.test('IPv4 addresses are read as inet_aton reads them', (t) => {
  const cases: [text: string, address: string | undefined][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['10.4', '10.0.0.4'],
    ['1.65536', '1.1.0.0'],
    ['1.1.65535', '1.1.255.255'],
    ['1.1.65536', undefined],
    ['0x0a000005', '10.0.0.5'],
    ['010.0.0.5', '8.0.0.5'],
    ['08.1.1.1', undefined],
    ['0', '0.0.0.0'],
    ['4294967295', '255.255.255.255'],
    ['4294967296', undefined],
    ['1.2.3.4 x', '1.2.3.4'],
    [' 1.2.3.4', undefined],
    ['1.2.3.4.5', undefined],
    ['1..2', undefined],
    ['256.1.1.1', undefined],
    ['0x', undefined],
    ['', undefined],
    ['-1', undefined],
  ]
  for (const [text, address] of cases) {
    const value = parseLooseIpv4(text)
    t.equal(value === undefined ? undefined : formatIpv4(value), address, `'${text}'`)
  }
  t.end()
})

t.test('every IPv4 address comes back as it was', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), (address) => {
      t.equal(parseIpv4(formatIpv4(address)), address)
      t.equal(parseLooseIpv4(formatIpv4(address)), address)
    }),
  )
  t.end()
})

t.test('IPv6 addresses are written in one way', (t) => {
  t.equal(canonicalIpv6('2001:DB8:0:0::C'), '2001:db8::c')
  t.equal(canonicalIpv6('::ffff:1.2.3.4'), '::ffff:1.2.3.4')
  t.equal(canonicalIpv6('::1%lo'), undefined)
  t.equal(canonicalIpv6('10.0.0.1'), undefined)
  t.equal(canonicalAddress('010.0.0.1'), undefined, 'no octal numbers in the API')
  t.strictSame(ipv6Words('2001:db8::c'), [0x20010db8, 0, 0, 12])
  t.strictSame(ipv6Words('::ffff:1.2.3.4'), [0, 0, 0xffff, 0x01020304])
  t.strictSame(ipv6Words('::'), [0, 0, 0, 0])
  t.strictSame(ipv6Words('1:2:3:4:5:6:7:8'), [0x10002, 0x30004, 0x50006, 0x70008])
  t.end()
})

t.test('prefix lengths and masks', (t) => {
  for (let length = 0; length <= 32; length++)
    t.equal(prefixLengthOf(parseIpv4(formatNetmask(length))!), length)
  t.equal(prefixLengthOf(0xff00ff00), undefined)
  t.equal(prefixLengthOf(24), undefined)
  t.end()
})
