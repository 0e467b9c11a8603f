import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

const DIRECTORY = '/proc/sys/net/ipv4/vs'

/** Settings net.ipv4.vs.* of the process's network namespace by their names; empty when the kernel has no IPVS. */
export function readKernelSettings(): Record<string, string> {
  const settings: Record<string, string> = {}
  for (const name of names()) {
    try {
      settings[name] = readFileSync(`${DIRECTORY}/${name}`, 'utf8').trim()
    } catch (error) {
      // One that can only be written says nothing.
      if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
    }
  }
  return settings
}

/** @throws what writing the file throws: EINVAL for a value that the kernel does not take */
export function writeKernelSetting(name: string, value: string): void {
  writeFileSync(`${DIRECTORY}/${name}`, value)
}

function names(): string[] {
  try {
    return readdirSync(DIRECTORY)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
