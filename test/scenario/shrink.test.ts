import t from 'tap'
import { shrink } from '../../src/scenario/shrink.js'

t.test('what has no part in the failure goes', async (t) => {
  const text = [
    '# a comment',
    ...Array.from({ length: 40 }, (_, i) => `udp 10.1.0.7:${i} > 10.1.0.100:53 len=3`),
    'ipvsadm -A -u 10.1.0.100:53 -s wrr -p 60',
    'at 800',
    'udp 10.1.0.7:9999 > 10.1.0.100:53 len=10 id=7',
    'at 1000',
    '',
  ].join('\n')
  let runs = 0
  const small = await shrink(text, async (candidate) => {
    runs++
    const lines = candidate.split('\n')
    const service = lines.findIndex((line) => line.startsWith('ipvsadm -A'))
    const packet = lines.findIndex((line) => line.includes(':9999'))
    const time = lines.find((line) => line.startsWith('at'))
    const late = time !== undefined && Number(time.slice(3)) >= 100
    return service >= 0 && packet > service && late ? 'late' : undefined
  })
  t.equal(small, 'ipvsadm -A -u 10.1.0.100:53 -s wrr\nat 100\nudp 10.1.0.7:9999 > 10.1.0.100:53\n')
  t.ok(runs < 150, `${runs} runs`)
})

t.test('the sort of failure stays the same', async (t) => {
  // Without the first line it fails, too, but otherwise.
  const small = await shrink('at 1\nat 2\nat 3\n', (candidate) =>
    Promise.resolve(candidate.includes('at 1') ? 'first' : 'other'),
  )
  t.equal(small, 'at 1\n')
})

t.test('what does not fail stays', async (t) => {
  t.equal(await shrink('at 1\n# x\nat 2\n', () => Promise.resolve(undefined)), 'at 1\nat 2\n')
})
