import fc from '../../support/properties.js'
import t from 'tap'
import { findCallId } from '../../../src/core/persistence-engines/sip.js'

const find = (text: string): string | undefined => {
  const bytes = Uint8Array.from(`..${text}..`, (c) => c.charCodeAt(0))
  return findCallId(bytes, 2, bytes.length - 2)
}

t.test('the Call-ID of a message', (t) => {
  const cases: [text: string, callId: string | undefined][] = [
    ['INVITE x\r\nCall-ID: abc@host\r\n\r\n', 'abc@host'],
    ['INVITE x\nVia: y\nCALL-id :abc\nTo: z\n', 'abc'],
    ['INVITE x\r\ni:\tabc\r\n', 'abc'],
    ['INVITE x\r\nI: abc\r\n', 'abc'],
    ['INVITE x\r\nin: abc\r\n', undefined],
    ['INVITE x\r\nCall-ID:\r\n abc\r\n', 'abc'],
    ['INVITE x\r\nVia: y\r\n Call-ID: abc\r\n', undefined],
    ['Call-ID: abc\r\n', undefined],
    ['INVITE x\r\nCall-ID: abc', undefined],
    ['INVITE x\r\nCall-ID: abc def\r\n', undefined],
    ['INVITE x\r\nCall-ID: a@\r\n', undefined],
    ['INVITE x\r\nCall-ID\r\n', undefined],
    ['INVITE x\r\nCall-ID:', undefined],
    [`INVITE x\r\nCall-ID: ${'a'.repeat(255)}\r\n`, 'a'.repeat(255)],
    [`INVITE x\r\nCall-ID: ${'a'.repeat(256)}\r\n`, undefined],
    ['INVITE x\r\nCall-ID: !"%()*+:<>?[\\]_`{}~-./\'9\r\n', '!"%()*+:<>?[\\]_`{}~-./\'9'],
    ['', undefined],
  ]
  for (const [text, callId] of cases) t.equal(find(text), callId, JSON.stringify(text))
  t.end()
})

t.test('any bytes are read to their end and no further', (t) => {
  const piece = fc.constantFrom('\r', '\n', ' ', 'call-id', 'i', ':', '@', 'a', 'Call-ID: x@y\r\n')
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
      const text = pieces.join('')
      const found = find(text)
      return found === undefined || text.includes(found)
    }),
  )
  t.end()
})
