import t from 'tap'
import { availableMemoryPages, mapShared } from '../../src/kernel/memory.js'

t.test('free memory and buffers, in pages', (t) => {
  const text =
    'MemTotal:        8000000 kB\nMemFree:         4096 kB\nMemAvailable: 70 kB\nBuffers:   8 kB\n'
  t.equal(
    availableMemoryPages(() => text),
    1026,
  )
  t.ok(availableMemoryPages() > 0, 'of this machine')
  t.end()
})

t.test('memory that threads can be given', (t) => {
  const bytes = 65536 + 1
  const memory = mapShared(bytes)
  t.ok(memory instanceof SharedArrayBuffer)
  t.ok(memory.byteLength >= bytes)
  t.ok(
    new Uint8Array(memory).every((byte) => byte === 0),
    'it is zeroed',
  )
  t.equal(structuredClone(memory).byteLength, memory.byteLength)
  t.end()
})
