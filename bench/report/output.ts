/** The files of a run: raw data after each part, report and plots at its end, and what becomes of them on a full disk. */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { reasonOf } from '../../src/cli/folder.js'
import type { RunResult } from '../suite/result.js'
import { renderPlots, renderReport } from './report.js'

export const RESULT = 'result.json'
const REPORT = 'report.html'
const PLOTS = 'plots'

/** A file is there whole, or as it was before. */
function writeWhole(file: string, text: string): void {
  const unfinished = `${file}.unfinished`
  try {
    writeFileSync(unfinished, text)
    renameSync(unfinished, file)
  } catch (error) {
    rmSync(unfinished, { force: true })
    throw error
  }
}

function saveResult(folder: string, result: RunResult): void {
  mkdirSync(folder, { recursive: true })
  writeWhole(join(folder, RESULT), JSON.stringify(result))
}

/**
 * Writes report and plots into a folder that there is.
 *
 * @throws Error that names the file that could not be written
 */
export function writeReport(folder: string, result: RunResult): void {
  const files: [string, string][] = [
    [REPORT, renderReport(result)],
    ...renderPlots(result).map(({ name, svg }) => [join(PLOTS, name), svg] as [string, string]),
  ]
  let file = PLOTS
  try {
    mkdirSync(join(folder, PLOTS), { recursive: true })
    for (const [name, text] of files) writeWhole(join(folder, (file = name)), text)
  } catch (error) {
    throw new Error(`${join(folder, file)}: ${reasonOf(error)}`, { cause: error })
  }
}

/** A folder of a name that no other run has: the time, and a number if need be. */
function freshFolder(parent: string, startedAt: string): string {
  const name = startedAt.slice(0, 19).replace(/:/g, '-')
  for (let i = 1; ; i++) {
    const folder = join(parent, i === 1 ? name : `${name}-${i}`)
    if (!existsSync(folder)) return folder
  }
}

/** Where a run's files go. */
export class Output {
  private folder: string | undefined

  /**
   * @param given the folder that was asked for; without one it is a new one in `parent`
   * @param say a line for the user
   */
  constructor(
    given: string | undefined,
    private readonly parent: string,
    private readonly say: (line: string) => void,
  ) {
    this.folder = given
  }

  /** Keeps what has been measured so far, in case that nothing comes after it. Returns whether it could. */
  keep(result: RunResult): boolean {
    const folder = (this.folder ??= freshFolder(this.parent, result.startedAt))
    try {
      saveResult(folder, result)
      return true
    } catch (error) {
      this.say(`${join(folder, RESULT)}: ${reasonOf(error)}`)
      return false
    }
  }

  /** Writes everything; elsewhere what finds no room where it should be. Returns whether all is in its place. */
  finish(result: RunResult): boolean {
    const isKept = this.keep(result)
    if (!isKept) this.folder = this.keepElsewhere(result)
    if (this.folder === undefined) return false
    try {
      writeReport(this.folder, result)
      this.say(`written: ${resolve(this.folder, REPORT)}, ${RESULT}, ${PLOTS}/*.svg`)
      return isKept
    } catch (error) {
      this.say((error as Error).message)
      const file = resolve(this.folder, RESULT)
      this.say(`the data are in ${file}; uvs bench --report ${file} --out DIR makes the report`)
      return false
    }
  }

  private keepElsewhere(result: RunResult): string | undefined {
    try {
      const folder = mkdtempSync(join(tmpdir(), 'uvs-bench-'))
      try {
        saveResult(folder, result)
      } catch (error) {
        rmSync(folder, { recursive: true, force: true })
        throw error
      }
      this.say(`the data are in ${join(folder, RESULT)} instead`)
      return folder
    } catch (error) {
      this.say(
        `nor can they be written to ${tmpdir()}: ${reasonOf(error)}; what stands on standard output is all there is`,
      )
      return undefined
    }
  }
}
