// Settings of the machine that several benchmarks change at the same time, and that killed ones have left.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { changeSettings, restoreAbandoned } from '../../bench/suite/machine-settings.js'

const moduleUrl = new URL('../../bench/suite/machine-settings.js', import.meta.url).href

/** A file that stands for a setting, and a folder in which is written down who changes it. */
function world(t: Test): { setting: string; folder: string; value: () => string } {
  const directory = t.testdir({ setting: '7\n', folder: {} })
  const setting = join(directory, 'setting')
  return {
    setting,
    folder: join(directory, 'folder'),
    value: () => readFileSync(setting, 'utf8').trim(),
  }
}

/** A process that changes the setting and waits; ends it by the signal. */
async function other(
  setting: string,
  folder: string,
): Promise<(signal: NodeJS.Signals) => Promise<void>> {
  const script = `
    import { changeSettings } from ${JSON.stringify(moduleUrl)}
    changeSettings({ ${JSON.stringify(setting)}: '100' }, ${JSON.stringify(folder)})
    process.on('SIGTERM', () => process.exit())
    console.log('ready')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = once(child, 'exit')
  await once(child.stdout, 'data')
  return async (signal) => {
    child.kill(signal)
    await exit
  }
}

void t.test('one puts back what it found, once', (t) => {
  const { setting, folder, value } = world(t)
  const putBack = changeSettings({ [setting]: '100', '/nowhere/setting': '1' }, folder)
  t.equal(value(), '100')
  putBack()
  t.equal(value(), '7')
  writeFileSync(setting, '8')
  putBack()
  t.equal(value(), '8')
  t.end()
})

void t.test('of two the last one puts it back, whichever that is', async (t) => {
  const { setting, folder, value } = world(t)
  for (const firstGoesFirst of [true, false]) {
    const putBack = changeSettings({ [setting]: '100' }, folder)
    const endOther = await other(setting, folder)
    const steps = [putBack, () => endOther('SIGTERM')]
    if (!firstGoesFirst) steps.reverse()
    await steps[0]!()
    t.equal(value(), '100', 'somebody needs it')
    await steps[1]!()
    t.equal(value(), '7')
  }
})

void t.test('what a killed one has left is put back by the next', async (t) => {
  const { setting, folder, value } = world(t)
  await (
    await other(setting, folder)
  )('SIGKILL')
  t.equal(value(), '100')
  const putBack = changeSettings({ [setting]: '200' }, folder)
  t.equal(value(), '200')
  putBack()
  t.equal(value(), '7')
  await (
    await other(setting, folder)
  )('SIGKILL')
  restoreAbandoned(folder)
  t.equal(value(), '7')
})

void t.test('one that lives is not taken for a killed one', async (t) => {
  const { setting, folder, value } = world(t)
  const end = await other(setting, folder)
  restoreAbandoned(folder)
  t.equal(value(), '100')
  await end('SIGTERM')
  t.equal(value(), '7')
})

void t.test('what somebody else has changed meanwhile is his', (t) => {
  const { setting, folder, value } = world(t)
  const putBack = changeSettings({ [setting]: '100' }, folder)
  writeFileSync(setting, '55\n')
  putBack()
  t.equal(value(), '55')
  t.end()
})
