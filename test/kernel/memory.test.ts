import t from 'tap'
import { availableMemoryPages } from '../../src/kernel/memory.js'

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
