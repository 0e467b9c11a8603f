import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { native } from './native.js'

/** A lock on a file: its holder has it until he releases it or ends, however he ends. */
export class FileLock {
  private constructor(
    private readonly path: string,
    private readonly descriptor: number,
  ) {}

  /**
   * Takes the lock, making the file if it is not there.
   *
   * @param text what the file is to say of its holder
   * @returns the lock, or what the file says of its holder when there is one already
   */
  static take(path: string, text: string): FileLock | string {
    for (;;) {
      // Whoever may read the file may lock it.
      const descriptor = openSync(path, 'a+', 0o600)
      const isOurs = native().lockFile(descriptor)
      // A file without a name was given up between our opening and our locking it.
      if (isOurs && fstatSync(descriptor).nlink > 0) {
        ftruncateSync(descriptor)
        writeSync(descriptor, text)
        return new FileLock(path, descriptor)
      }
      const holder = isOurs ? undefined : readFileSync(descriptor, 'utf8')
      closeSync(descriptor)
      if (holder !== undefined) return holder
    }
  }

  /** Removes the file and gives the lock up. */
  release(): void {
    rmSync(this.path, { force: true })
    closeSync(this.descriptor)
  }
}
