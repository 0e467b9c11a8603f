/** Labs of the benchmark: who made them is told, so that what a killed one has left can be told from a lab that is kept. */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { endLab, isRunning, Lab, labFolder, labsOf, listLabs } from '../../src/lab/lab.js'

/** A file in the folder of each. */
const MARK = 'of-uvs-bench'

/** A lab that a part ends by deferring it: signals are the part's process's. */
export function createLab(): Lab {
  const lab = Lab.create(undefined, true)
  writeFileSync(join(lab.folder, MARK), '')
  return lab
}

/** Ends what a process that is gone has left, and what had been under way when it went. */
export function endLabsOf(pid: number): void {
  for (const name of labsOf(pid)) endLab(name)
}

/** Ends the labs of benchmarks that were killed. */
export function endAbandonedLabs(): void {
  for (const name of listLabs()) {
    const pid = Number(/^uvs(\d+)/.exec(name)?.[1])
    if (existsSync(join(labFolder(name), MARK)) && !isRunning(pid)) endLab(name)
  }
}
