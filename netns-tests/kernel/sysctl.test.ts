// `uvs sysctl` and the kernel's own settings of IPVS, read and written by the same command lines.
import t from 'tap'
import { runSysctl } from '../../src/control/sysctl.js'
import { settingTable } from '../../src/core/settings.js'
import { guestUnavailable, runInGuest } from '../../src/scenario/oracle/guest.js'
import { InProcess } from '../../test/control/support.js'

t.setTimeout(600_000)

const values = [
  ...[
    '-1',
    '0',
    '1',
    '2',
    '3',
    '4',
    '7',
    '100',
    '21474836',
    '21474837',
    '2147483647',
    '2147483648',
  ],
  ...[
    '-2147483648',
    '-2147483649',
    '99999999999999999999',
    'abc',
    '1 2',
    '3x',
    '0x10',
    '0x',
    '010',
  ],
  ...['08', '+6', '', '4 5 6', '0 0', '5 3', '00000000000000000001'],
]

/** Command lines, in this order. Every setting is read and put back after each write. */
const lines: string[][] = [
  // The kernel's depends on its memory.
  ['-q', '-w', 'net.ipv4.vs.sync_qlen_max=8192'],
  ['net.ipv4.vs'],
  ...settingTable.map(({ name, defaults }) => {
    const key = `net.ipv4.vs.${name}`
    return values.flatMap((value) => [`${key}=${value}`, key, `${key}=${defaults.join(' ')}`])
  }),
  ['-a', '-r', '^net.ipv4.vs.s.*_tcp$'],
  ['-n', 'net.ipv4.vs.drop_entry', 'net.ipv4.vs.nope', 'net.ipv4.vs.secure_tcp'],
  ['-N', '-a', '-r', 'vs.sync'],
  ['-e', 'net.ipv4.vs.nope'],
  ['-w', 'net.ipv4.vs.drop_packet'],
  ['net/ipv4/vs/drop_packet=3', 'net.ipv4.vs.drop_packet=9', 'net.ipv4.vs.am_droprate=7'],
  ['net.ipv4.vs.drop_packet', 'net/ipv4/vs/am_droprate'],
]

void t.test('the same command lines say the same', { skip: guestUnavailable() }, async (t) => {
  const quoted = (word: string): string => `'${word}'`
  const title = (args: string[]): string => `$ sysctl ${args.join(' ')}`
  const script = lines
    .map(
      (args) =>
        `echo ${quoted(title(args))}; sysctl ${args.map(quoted).join(' ')} 2>&1; echo "exit $?"`,
    )
    .join('\n')
  const { stdout } = await runInGuest({
    script: 'unshare -n bash commands',
    files: { commands: script },
    modules: ['ip_vs', 'ip_vs_lblc', 'ip_vs_lblcr'],
  })

  const director = new InProcess()
  let ours = ''
  for (const args of lines) {
    ours += `${title(args)}\n`
    const status = await runSysctl(args, (commands) => director.execute(commands), {
      stdout: (text) => (ours += text),
      stderr: (text) => (ours += text),
      readFile: () => Promise.reject(new Error('no files here')),
    })
    ours += `exit ${status}\n`
  }
  t.equal(ours, stdout)
})
