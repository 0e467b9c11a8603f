// Processor time of other programs, told from that of our own and of the kernel.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import {
  NS_PER_TICK,
  othersNs,
  parseProcessTime,
  readProcesses,
  type ProcessTime,
} from '../../bench/suite/others-time.js'

void t.test("a process's time is its own and that of its children that have ended", (t) => {
  const stat =
    '4711 (a) b) (c) S 42 4711 1 0 -1 4194560 9 0 0 0 100 20 3 4 20 0 1 0 99 0 0 1 0 0 0 0 0 0 0 0\n'
  t.strictSame(parseProcessTime(stat), { pid: 4711, parent: 42, ticks: 127 })
  t.end()
})

void t.test('others are neither we, nor ours, nor the kernel', (t) => {
  const processes: ProcessTime[] = [
    { pid: 1, parent: 0, ticks: 1 },
    { pid: 2, parent: 0, ticks: 10 },
    { pid: 14, parent: 2, ticks: 100 },
    { pid: 50, parent: 1, ticks: 1000 },
    { pid: 60, parent: 50, ticks: 10_000 },
    { pid: 61, parent: 60, ticks: 100_000 },
    { pid: 70, parent: 1, ticks: 1_000_000 },
  ]
  t.equal(othersNs(processes, 60), 1_001_001 * 1e7)
  t.equal(othersNs(processes, 50), 1_000_001 * 1e7)
  t.equal(othersNs([], 1), 0)
  t.end()
})

void t.test('what a child of ours has worked is not of others', async (t) => {
  const milliseconds = 300
  const script = `while (process.cpuUsage().user < ${milliseconds * 1000});`
  await once(spawn(process.execPath, ['-e', script]), 'exit')
  const processes = readProcesses()
  const nobody = -1
  const ours = othersNs(processes, nobody) - othersNs(processes, process.pid)
  t.ok(ours >= milliseconds * 1e6 - NS_PER_TICK, `${ours} ns`)
})
