import { readFileSync } from 'node:fs'
import { native } from './native.js'

const PAGE_KIB = 4

/**
 * The machine's free memory as IPVS reckons it: free pages and those of buffers, in pages of 4 KiB.
 *
 * @param read gives the text of /proc/meminfo
 */
export function availableMemoryPages(
  read: () => string = () => readFileSync('/proc/meminfo', 'utf8'),
): number {
  const text = read()
  const kib = (name: string): number =>
    Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0)
  return Math.floor((kib('MemFree') + kib('Buffers')) / PAGE_KIB)
}

/**
 * Asks the kernel for large pages where memory is large and read in no order: a packet would otherwise wait for
 * the page tables of its frame and its connection before it waits for these. Where there are none, all is as before.
 */
export function preferHugePages<T extends ArrayBufferLike>(memory: T): T {
  native().preferHugePages(new Uint8Array(memory))
  return memory
}
