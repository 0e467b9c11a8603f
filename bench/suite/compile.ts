import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/**
 * Compiles one of the programs in C that directors are compared with.
 *
 * @param source its path in the folder bench
 * @throws Error with what the compiler says, or that there is none
 */
export async function compile(source: string, binary: string): Promise<void> {
  const file = fileURLToPath(new URL(`../../../bench/${source}`, import.meta.url))
  const compiler = process.env['CC'] ?? 'cc'
  await promisify(execFile)(compiler, ['-std=gnu11', '-O2', '-o', binary, file])
}
