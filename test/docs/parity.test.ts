/** docs/parity.md lists every scenario with the sentence that it pins. UPDATE_DOCS=1 writes the list. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const MARKER = '<!-- made by UPDATE_DOCS=1 node dist/test/docs/parity.test.js -->\n'
const root = fileURLToPath(new URL('../../../', import.meta.url))
const scenarios = join(root, 'test/scenarios')
const page = join(root, 'docs/parity.md')

function list(): string {
  let text = ''
  for (const area of readdirSync(scenarios).sort()) {
    text += `\n### ${area}\n\n`
    for (const file of readdirSync(join(scenarios, area)).sort()) {
      if (!file.endsWith('.scn')) continue
      const [first] = readFileSync(join(scenarios, area, file), 'utf8').split('\n')
      const sentence = first!.replace(/^#\s*/, '').replace(/[<>|*_]/g, '\\$&')
      text += `- [${file.slice(0, -4)}](../test/scenarios/${area}/${file}): ${sentence}\n`
    }
  }
  return text
}

const [head] = readFileSync(page, 'utf8').split(MARKER)
if (process.env['UPDATE_DOCS']) writeFileSync(page, `${head}${MARKER}${list()}`)
t.equal(readFileSync(page, 'utf8'), `${head}${MARKER}${list()}`, 'the list is up to date')
