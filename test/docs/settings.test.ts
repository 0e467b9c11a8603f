import { readFileSync } from 'node:fs'
import t from 'tap'
import { settingTable } from '../../src/core/settings.js'

t.test('docs/settings.md has every setting, with its default', (t) => {
  const text = readFileSync(new URL('../../../docs/settings.md', import.meta.url), 'utf8')
  const rows = text.split('\n').filter((line) => line.startsWith('| `'))
  const documented = rows.map((row) => row.split('|').map((cell) => cell.trim()))
  t.strictSame(
    documented.map(([, name, value]) => [name, value]),
    settingTable.map(({ name, defaults }) => [`\`${name}\``, defaults.join(' ')]),
  )
  for (const [i, { minimum, maximum }] of settingTable.entries())
    if (maximum <= 3) t.equal(documented[i]![3], `${minimum} to ${maximum}`)
  t.end()
})
