import { fileURLToPath } from 'node:url'

/** A library that is preloaded into somebody else's program; scripts/build-addon builds it. */
export function nativeLibrary(name: 'guest-clock' | 'fork-server'): string {
  // dist/src/scenario/oracle → native/build/Release
  return fileURLToPath(new URL(`../../../../native/build/Release/${name}.so`, import.meta.url))
}
