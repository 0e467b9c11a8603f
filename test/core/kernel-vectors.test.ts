/**
 * Packets as they were captured on both sides of a real kernel's IPVS (Linux 6.1 in User-Mode Linux; client
 * 198.51.100.7, virtual address 192.0.2.1, real server 10.0.0.2, director 198.51.100.1 and 10.0.0.1).
 */
import t from 'tap'
import { hex, samePacket } from '../support/packets.js'
import { Harness, udpService } from './harness.js'

function withService(port: number, end: string, forwarding: 'masquerade' | 'tunnel'): Harness {
  const h = new Harness()
  h.addService(udpService(port))
  h.addDestination(udpService(port), end, { forwarding })
  return h
}

type Asserter = Pick<typeof t, 'strictSame'>

/** The kernel's identifications are arbitrary; all else must be equal. */
function sameButId(t: Asserter, actual: Uint8Array | undefined, expected: Uint8Array): void {
  const copy = expected.slice()
  copy.set(actual!.subarray(4, 6), 4)
  copy.set(actual!.subarray(10, 12), 10)
  samePacket(t, actual, copy)
}

t.test('masquerading to a closed port, and the error that comes back', (t) => {
  const h = withService(77, '10.0.0.2:7777', 'masquerade')
  const out = h.send(
    hex(`4500 0024 0765 4000 4011 4728 c633 6407 c000 0201
         1771 004d 0010 ec5d 7175 6573 7469 6f6e`),
  )
  // The client's kernel had left the UDP checksum to its device, so it is no example.
  out.packet!.set([0x34, 0x5e], 26)
  samePacket(
    t,
    out.packet,
    hex(`4500 0024 0765 4000 3f11 0028 c633 6407 0a00 0002
         1771 1e61 0010 345e 7175 6573 7469 6f6e`),
  )
  const error = h.send(
    hex(`45c0 0040 5c33 0000 4001 e98d 0a00 0002 c633 6407
         0303 d7fb 0000 0000
         4500 0024 0765 4000 3f11 0028 c633 6407 0a00 0002
         1771 1e61 0010 345e 7175 6573 7469 6f6e`),
  )
  samePacket(
    t,
    error.packet,
    hex(`45c0 0040 5c33 0000 3f01 328e c000 0201 c633 6407
         0303 f60f 0000 0000
         4500 0024 0765 4000 3f11 4828 c633 6407 c000 0201
         1771 004d 0010 345e 7175 6573 7469 6f6e`),
  )
  t.end()
})

t.test('TTL 1', (t) => {
  const h = withService(77, '10.0.0.2:7777', 'masquerade')
  const out = h.send(
    hex(`4510 0024 07aa 4000 0111 85d3 c633 6407 c000 0201
         17d5 004d 0010 ec5d 7175 6573 7469 6f6e`),
  )
  sameButId(
    t,
    out.packet,
    hex(`45d0 0040 5267 0000 4001 3b4a c000 0201 c633 6407
         0b00 35af 0000 0000
         4510 0024 07aa 4000 0111 85d3 c633 6407 c000 0201
         17d5 004d 0010 ec5d 7175 6573 7469 6f6e`),
  )
  t.end()
})

t.test('no destination', (t) => {
  const h = new Harness()
  h.addService(udpService(99))
  const out = h.send(
    hex(`4500 0024 0000 4000 4011 4e8d c633 6407 c000 0201
         189d 0063 0010 ec5d 7175 6573 7469 6f6e`),
  )
  sameButId(
    t,
    out.packet,
    hex(`45c0 0040 52c7 0000 4001 3afa c000 0201 c633 6407
         0303 3cce 0000 0000
         4500 0024 0000 4000 4011 4e8d c633 6407 c000 0201
         189d 0063 0010 ec5d 7175 6573 7469 6f6e`),
  )
  t.end()
})

t.test('tunneling with DF, and an error about the tunnel', (t) => {
  const h = withService(88, '10.0.0.2:88', 'tunnel')
  const out = h.send(
    hex(`4510 0024 0000 4000 4011 4e7d c633 6407 c000 0201
         1839 0058 0010 ec5d 7175 6573 7469 6f6e`),
  )
  samePacket(
    t,
    out.packet,
    hex(`4510 0038 0000 4000 3f04 27b0 0a00 0001 0a00 0002
         4510 0024 0000 4000 3f11 4f7d c633 6407 c000 0201
         1839 0058 0010 ec5d 7175 6573 7469 6f6e`),
  )
  const error = h.send(
    hex(`45d0 0054 cf9d 0000 4001 9639 0a00 0002 0a00 0001
         0302 3d3e 0000 0000
         4510 0038 0000 4000 3f04 27b0 0a00 0001 0a00 0002
         4510 0024 0000 4000 3f11 4f7d c633 6407 c000 0201
         1839 0058 0010 ec5d 7175 6573 7469 6f6e`),
  )
  sameButId(
    t,
    error.packet,
    hex(`45d0 0040 5272 0000 4001 3b3f c000 0201 c633 6407
         0302 3d3e 0000 0000
         4510 0024 0000 4000 3f11 4f7d c633 6407 c000 0201
         1839 0058 0010 ec5d 7175 6573 7469 6f6e`),
  )
  t.end()
})

t.test('tunneling without DF', (t) => {
  const h = withService(88, '10.0.0.2:88', 'tunnel')
  const out = h.send(
    hex(`4510 0024 07f2 0000 4011 868b c633 6407 c000 0201
         183a 0058 0010 ec5d 7175 6573 7469 6f6e`),
  )
  sameButId(
    t,
    out.packet,
    hex(`4510 0038 0317 0000 3f04 6499 0a00 0001 0a00 0002
         4510 0024 07f2 0000 3f11 878b c633 6407 c000 0201
         183a 0058 0010 ec5d 7175 6573 7469 6f6e`),
  )
  t.end()
})
