import t from 'tap'
import { checkCommands } from '../../src/control/api.js'
import { describeSettings, parseSetting, runSysctl } from '../../src/control/sysctl.js'
import { settingTable } from '../../src/core/settings.js'
import { InProcess } from './support.js'

/** Runs command lines one after the other on one director; `$ LINE`, output and exit status of each. */
async function transcript(lines: string[][], files: Record<string, string> = {}): Promise<string> {
  const director = new InProcess()
  let out = ''
  for (const args of lines) {
    out += `$ sysctl ${args.join(' ')}\n`
    const status = await runSysctl(args, (commands) => director.execute(commands), {
      stdout: (text) => (out += text),
      stderr: (text) => (out += text),
      readFile: (path) =>
        files[path] === undefined
          ? Promise.reject(Object.assign(new Error('no such file'), { code: 'ENOENT' }))
          : Promise.resolve(files[path]),
    })
    out += `exit ${status}\n`
  }
  return out
}

const vs = (key: string): string => `net.ipv4.vs.${key}`

// Every expected text is what sysctl of procps-ng 4.0.2 says about the kernel's IPVS.
t.test('reading', async (t) => {
  t.equal(
    await transcript([
      [vs('drop_entry')],
      [vs('drop_entry'), vs('nope'), vs('secure_tcp')],
      ['net/ipv4/vs/drop_entry'],
      ['-n', vs('drop_entry')],
      ['-N', vs('drop_entry')],
      ['-e', vs('nope')],
      ['-a', '-r', 'vs.s.*_tcp$'],
      ['-a', '-N', '-r', 'vs.s.*_tcp$'],
      [vs('sync_threshold')],
      ['-w'],
      ['-b', vs('am_droprate')],
    ]),
    `$ sysctl net.ipv4.vs.drop_entry
net.ipv4.vs.drop_entry = 0
exit 0
$ sysctl net.ipv4.vs.drop_entry net.ipv4.vs.nope net.ipv4.vs.secure_tcp
net.ipv4.vs.drop_entry = 0
sysctl: cannot stat /proc/sys/net/ipv4/vs/nope: No such file or directory
net.ipv4.vs.secure_tcp = 0
exit 1
$ sysctl net/ipv4/vs/drop_entry
net.ipv4.vs.drop_entry = 0
exit 0
$ sysctl -n net.ipv4.vs.drop_entry
0
exit 0
$ sysctl -N net.ipv4.vs.drop_entry
net.ipv4.vs.drop_entry
exit 0
$ sysctl -e net.ipv4.vs.nope
exit 0
$ sysctl -a -r vs.s.*_tcp$
net.ipv4.vs.secure_tcp = 0
net.ipv4.vs.sloppy_tcp = 0
exit 0
$ sysctl -a -N -r vs.s.*_tcp$
net.ipv4.vs.secure_tcp
net.ipv4.vs.sloppy_tcp
exit 0
$ sysctl net.ipv4.vs.sync_threshold
net.ipv4.vs.sync_threshold = 3\t50
exit 0
$ sysctl -w
sysctl: no variables specified
Try \`uvs sysctl --help' for more information.
exit 1
$ sysctl -b net.ipv4.vs.am_droprate
10exit 0
`,
  )
})

t.test('writing', async (t) => {
  t.equal(
    await transcript([
      ['-w', vs('drop_entry=3')],
      [vs('drop_entry=0')],
      ['-q', vs('drop_entry=3')],
      ['-n', '-w', vs('drop_entry=3')],
      ['-w', vs('drop_entry=9')],
      ['-w', vs('drop_entry')],
      ['-w', vs('drop_entry=')],
      ['-w', vs('nope=1')],
      ['-e', '-w', vs('nope=1')],
      ['-w', vs('debug_level=3')],
      ['-w', vs('drop_entry = 0')],
      ['-w', vs('drop_entry=3'), vs('drop_entry=9'), vs('sloppy_tcp=1')],
      ['=1'],
      ['-w', vs('sync_threshold=4 60')],
      ['--dry-run', '-w', vs('am_droprate=5')],
      [vs('am_droprate')],
      ['-w', '-b', vs('am_droprate=4')],
      ['-w', 'net.ipv4.ip_forward=1'],
    ]),
    `$ sysctl -w net.ipv4.vs.drop_entry=3
net.ipv4.vs.drop_entry = 3
exit 0
$ sysctl net.ipv4.vs.drop_entry=0
net.ipv4.vs.drop_entry = 0
exit 0
$ sysctl -q net.ipv4.vs.drop_entry=3
exit 0
$ sysctl -n -w net.ipv4.vs.drop_entry=3
3
exit 0
$ sysctl -w net.ipv4.vs.drop_entry=9
sysctl: setting key "net.ipv4.vs.drop_entry": Invalid argument
exit 1
$ sysctl -w net.ipv4.vs.drop_entry
sysctl: command line(0): invalid syntax, continuing...
exit 1
$ sysctl -w net.ipv4.vs.drop_entry=
sysctl: setting key "net.ipv4.vs.drop_entry": Invalid argument
exit 1
$ sysctl -w net.ipv4.vs.nope=1
sysctl: cannot stat /proc/sys/net/ipv4/vs/nope: No such file or directory
exit 1
$ sysctl -e -w net.ipv4.vs.nope=1
exit 0
$ sysctl -w net.ipv4.vs.debug_level=3
sysctl: setting key "net.ipv4.vs.debug_level": Invalid argument
exit 0
$ sysctl -w net.ipv4.vs.drop_entry = 0
net.ipv4.vs.drop_entry = 0
exit 0
$ sysctl -w net.ipv4.vs.drop_entry=3 net.ipv4.vs.drop_entry=9 net.ipv4.vs.sloppy_tcp=1
net.ipv4.vs.drop_entry = 3
sysctl: setting key "net.ipv4.vs.drop_entry": Invalid argument
net.ipv4.vs.sloppy_tcp = 1
exit 1
$ sysctl =1
sysctl: Path is not under /proc/sys/: /proc/sys/
exit 1
$ sysctl -w net.ipv4.vs.sync_threshold=4 60
net.ipv4.vs.sync_threshold = 4 60
exit 0
$ sysctl --dry-run -w net.ipv4.vs.am_droprate=5
net.ipv4.vs.am_droprate = 5
exit 0
$ sysctl net.ipv4.vs.am_droprate
net.ipv4.vs.am_droprate = 10
exit 0
$ sysctl -w -b net.ipv4.vs.am_droprate=4
4exit 0
$ sysctl -w net.ipv4.ip_forward=1
sysctl: cannot stat /proc/sys/net/ipv4/ip_forward: No such file or directory
exit 1
`,
  )
})

t.test('files, and listings of all', async (t) => {
  const file =
    '# c\n; d\nnet.ipv4.vs.drop_entry = 3\n-net.ipv4.vs.nope = 1\n\nnet.ipv4.vs.nope=2\n' +
    'net.ipv4.vs.drop_packet=9\n net/ipv4/vs/secure_tcp=3\nbad\n'
  t.equal(
    await transcript(
      [
        ['-p', 'f'],
        ['-p', 'absent'],
      ],
      { f: file },
    ),
    `$ sysctl -p f
sysctl: f(9): invalid syntax, continuing...
net.ipv4.vs.drop_entry = 3
sysctl: cannot stat /proc/sys/net/ipv4/vs/nope: No such file or directory
sysctl: cannot stat /proc/sys/net/ipv4/vs/nope: No such file or directory
sysctl: setting key "net.ipv4.vs.drop_packet": Invalid argument
net.ipv4.vs.secure_tcp = 3
exit 1
$ sysctl -p absent
sysctl: cannot open "absent": No such file or directory
exit 1
`,
  )
  const all = await transcript([['-a']])
  t.equal(all.match(/^net\.ipv4\.vs\.\w+ = /gm)?.length, settingTable.length)
  t.equal(await transcript([['net.ipv4.vs']]), all.replace('sysctl -a', 'sysctl net.ipv4.vs'))
  for (const option of ['-Z', '--nope', '--nope=1'])
    t.match(await transcript([[option]]), `unrecognized option '${option}'`)
  t.match(await transcript([['-h']]), /Usage:[^]*exit 0/)
  t.match(await transcript([['--settings']]), describeSettings())
})

t.test('settings as an option of uvsd', (t) => {
  t.strictSame(parseSetting('net.ipv4.vs.sync_threshold = 3 50'), {
    op: 'set-setting',
    name: 'sync_threshold',
    value: '3 50',
  })
  t.throws(() => parseSetting('net.ipv4.vs.drop_entry'), { message: /expected KEY=VALUE/ })
  t.throws(() => parseSetting('drop_entry=1'), { message: /expected a key of net.ipv4.vs/ })
  t.end()
})

t.test('the commands over the socket', (t) => {
  const commands = [
    { op: 'get-settings' },
    { op: 'get-settings', names: ['drop_entry'] },
    { op: 'set-setting', name: 'drop_entry', value: '1' },
  ]
  t.strictSame(checkCommands(commands), commands)
  t.throws(() => checkCommands([{ op: 'set-setting', name: 'drop_entry', value: 1 }]), {
    message: /commands\[0\]\.value/,
  })
  t.throws(() => checkCommands([{ op: 'get-settings', names: 'drop_entry' }]), {
    message: /commands\[0\]\.names/,
  })
  t.end()
})
