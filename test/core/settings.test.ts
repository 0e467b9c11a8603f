import t from 'tap'
import { IpvsError } from '../../src/core/commands.js'
import {
  defaultSettings,
  formatSetting,
  settingKind,
  settingName,
  settingTable,
  writeSetting,
} from '../../src/core/settings.js'
import { Harness } from './harness.js'

/** What is left after writing, or the errno. */
function write(name: string, ...texts: string[]): string {
  const settings = defaultSettings()
  const kind = settingKind(name)
  try {
    for (const text of texts) writeSetting(settings, kind, text)
  } catch (error) {
    if (error instanceof IpvsError) return error.code
    throw error
  }
  return formatSetting(settings, kind)
}

t.test('numbers are read as the kernel reads them', (t) => {
  // Linux 6.1, echo … > /proc/sys/net/ipv4/vs/am_droprate
  const cases: [text: string, value: string][] = [
    ['-1', '-1'],
    ['2147483647', '2147483647'],
    ['2147483648', 'EINVAL'],
    ['-2147483648', '-2147483648'],
    ['99999999999999999999', 'EINVAL'],
    ['abc', 'EINVAL'],
    ['1 2', '1'],
    ['3x', 'EINVAL'],
    ['0x10', '16'],
    ['010', '8'],
    ['08', 'EINVAL'],
    [' 5 ', '5'],
    ['+6', 'EINVAL'],
    ['', 'EINVAL'],
  ]
  for (const [text, value] of cases) t.equal(write('am_droprate', text), value, `'${text}'`)
  t.end()
})

t.test('ranges are the kernel’s', (t) => {
  for (const name of ['drop_entry', 'drop_packet', 'secure_tcp', 'sync_retries']) {
    t.equal(write(name, '3'), '3')
    t.equal(write(name, '4'), 'EINVAL')
    t.equal(write(name, '-1'), 'EINVAL')
  }
  t.equal(write('lblc_expiration', '21474836'), '21474836')
  t.equal(write('lblc_expiration', '21474837'), 'EINVAL')
  t.equal(write('sync_ports', '16'), '16')
  t.equal(write('sync_ports', '3'), 'EINVAL')
  t.equal(write('sync_qlen_max', '2147483648'), '2147483648')
  t.equal(write('sync_qlen_max', '-1'), 'EINVAL')
  t.equal(write('sync_version', '2'), 'EINVAL')
  t.equal(write('cache_bypass', '-7'), '-7')
  t.equal(write('debug_level', '1'), 'EACCES')
  t.end()
})

t.test('a vector keeps what is not written', (t) => {
  t.equal(write('sync_threshold', '4'), '4\t50')
  t.equal(write('sync_threshold', '4 5 6'), '4\t5')
  t.equal(write('sync_threshold', '0 0'), '0\t0')
  t.equal(write('sync_threshold', '100'), 'EINVAL')
  t.equal(write('sync_threshold', '5 3'), 'EINVAL')
  t.end()
})

t.test('the table is whole and in order', (t) => {
  const names = settingTable.map(({ name }) => name)
  t.strictSame(names, [...names].sort())
  const fields = settingTable.flatMap(({ fields }) => fields)
  const limits = ['icmpRateLimitJiffies', 'icmpMessagesPerSecond', 'icmpMessagesBurst']
  t.strictSame([...fields, ...limits].sort(), Object.keys(defaultSettings()).sort())
  t.equal(settingName('net.ipv4.vs.drop_entry'), 'drop_entry')
  t.equal(settingName('net/ipv4/vs/drop_entry'), 'drop_entry')
  t.equal(settingName('net.ipv4.ip_forward'), undefined)
  t.end()
})

t.test('a director is asked and told by the kernel’s names', (t) => {
  const h = new Harness()
  h.execute({ op: 'set-setting', name: 'expire_nodest_conn', value: '1' })
  t.equal(h.director.settings.expireNoDestinationConnections, 1)
  t.strictSame(h.execute({ op: 'get-settings', names: ['expire_nodest_conn', 'pmtu_disc'] }), {
    expire_nodest_conn: '1',
    pmtu_disc: '1',
  })
  t.equal(Object.keys(h.execute({ op: 'get-settings' })).length, settingTable.length)
  t.throws(() => h.execute({ op: 'set-setting', name: 'nope', value: '1' }), { code: 'ENOENT' })
  t.throws(() => h.execute({ op: 'get-settings', names: ['nope'] }), { code: 'ENOENT' })
  t.end()
})
