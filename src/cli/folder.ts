import { existsSync, mkdirSync, mkdtempSync, rmdirSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no folder can be made there',
  ENOTDIR: 'a part of it is a file',
  EEXIST: 'it is a file',
  EACCES: 'it may not be written to',
  EPERM: 'it may not be written to',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space is left there',
  EDQUOT: 'no more space may be used there',
  EFBIG: 'files may not be that large',
}

/** Why something could not be written, as 'no space is left there (ENOSPC)'. */
export function reasonOf(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException
  const reason = reasons[code]
  return reason === undefined ? message : `${reason} (${code})`
}

/**
 * Makes a folder if it is not there, and sees whether files can be made in it.
 *
 * @throws Error that says why they cannot: `--out /proc/x: no folder can be made there (ENOENT)`
 */
export function makeWritableFolder(option: string, folder: string): void {
  try {
    make(resolve(folder))
    rmdirSync(mkdtempSync(join(folder, '.uvs-')))
  } catch (error) {
    throw new Error(`${option} ${folder}: ${reasonOf(error)}`, { cause: error })
  }
}

/** One level after the other: mkdir's `recursive` goes on for ever where the kernel makes none, as in /proc. */
function make(folder: string): void {
  if (existsSync(folder)) return
  make(dirname(folder))
  mkdirSync(folder)
}
