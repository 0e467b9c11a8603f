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

const WASM_PAGE_BYTES = 65536

/**
 * Memory for several threads, zeroed, in large pages where there are any. It begins at a page, which only
 * WebAssembly's does of what threads can be given: an ordinary SharedArrayBuffer begins 16 bytes behind one, and what
 * is laid out by cache lines there lies across two.
 *
 * @returns at least so many bytes
 */
export function mapShared(bytes: number): SharedArrayBuffer {
  const pages = Math.ceil(bytes / WASM_PAGE_BYTES)
  const memory = new webAssembly.Memory({ initial: pages, maximum: pages, shared: true })
  return preferHugePages(memory.buffer)
}

/** What is needed of it, as TypeScript knows it only with the library of browsers. */
const { WebAssembly: webAssembly } = globalThis as unknown as {
  WebAssembly: {
    Memory: new (size: { initial: number; maximum: number; shared: true }) => {
      buffer: SharedArrayBuffer
    }
  }
}
