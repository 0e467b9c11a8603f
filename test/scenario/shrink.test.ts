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
  t.equal(small, 'ipvsadm -A -u 10.1.0.100:53 -s rr\nat 100\nudp 10.1.0.7:9999 > 10.1.0.100:53\n')
  t.ok(runs < 100, `${runs} runs`)
})

t.test('time that nobody needs is taken from what comes later, too', async (t) => {
  const text = `at 100
tcp 10.1.9.1:1024 > 10.1.0.100:80 S
at 103.5
tcp 10.1.9.1:1024 > 10.1.0.100:80 A
at 1000
tcp 10.1.9.1:1024 > 10.1.0.100:80 R
`
  // It takes ten seconds from the first packet to the last.
  const kindOf = (candidate: string): Promise<string | undefined> => {
    let now = 0
    const times = new Map<string, number>()
    for (const line of candidate.trim().split('\n')) {
      const at = /^at (.+)$/.exec(line)
      if (at && Number(at[1]) < now) return Promise.resolve('backwards')
      if (at) now = Number(at[1])
      else times.set(line.at(-1)!, now)
    }
    const [first, last] = [times.get('S'), times.get('R')]
    const isLate = first !== undefined && last !== undefined && last - first >= 10
    return Promise.resolve(isLate ? 'late' : undefined)
  }
  t.equal(
    await shrink(text, kindOf),
    'tcp 10.1.9.1:1024 > 10.1.0.100:80 S\nat 10\ntcp 10.1.9.1:1024 > 10.1.0.100:80 R\n',
  )
})

t.test('lines that are left say as little as possible', async (t) => {
  const text = `ipvsadm -A -t 10.1.0.100:80 -s wlc -p 600 -M 255.255.0.0
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.3:8080 -i -w 77 -x 9 -y 4 --tun-type gue --tun-port 6080
tcp 192.0.2.7:2033 > 10.1.0.100:80 S len=700 ttl=9 id=77
tcp 10.1.9.7:1024 > 10.1.0.100:80 S len=70
`
  const kindOf = (candidate: string): Promise<string | undefined> =>
    Promise.resolve(
      /-p\b/.test(candidate) &&
        /-w ([3-9]|\d\d)/.test(candidate) &&
        candidate.split('S len=').length === 3
        ? 'so'
        : undefined,
    )
  const small = `ipvsadm -A -t 10.1.0.100:80 -s rr -p
ipvsadm -a -t 10.1.0.100:80 -r 10.2.0.3:8080 -m -w 3
tcp 10.1.9.7:2033 > 10.1.0.100:80 S len=1
tcp 10.1.9.7:2033 > 10.1.0.100:80 S len=1
`
  t.equal(await shrink(text, kindOf), small)
  for (const width of [2, 3, 8]) {
    let atOnce = 0
    let most = 0
    const asked = async (candidate: string): Promise<string | undefined> => {
      most = Math.max(most, ++atOnce)
      await new Promise((resolve) => setImmediate(resolve))
      atOnce--
      return kindOf(candidate)
    }
    t.equal(await shrink(text, asked, { width }), small, `${width} at a time`)
    t.ok(most > 1 && most <= width, `${most} at once`)
  }
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
