import { createHash } from 'node:crypto'
import t from 'tap'
import { payload, payloadDigest } from '../../src/lab/payload.js'

void t.test('as many bytes as were asked for, the same each time', async (t) => {
  for (const bytes of [0, 1, 65535, 65536, 65537, 200_000]) {
    const whole = Buffer.concat([...payload(bytes)])
    t.equal(whole.length, bytes)
    t.equal(createHash('sha256').update(whole).digest('hex'), payloadDigest(bytes))
  }
})

void t.test('no two blocks are alike', async (t) => {
  const blocks = [...payload(65536 * 4)].map((block) => block.toString('latin1'))
  t.equal(new Set(blocks).size, 4)
})
