import { createHash } from 'node:crypto'

const BLOCK_BYTES = 65536

/**
 * Bytes that anyone can compute again: blocks of 64 KiB from a fixed generator (the linear congruence of
 * Numerical Recipes), each with its number in front, so that a lost, doubled or swapped block shows.
 */
export function* payload(totalBytes: number): Generator<Buffer> {
  const pattern = Buffer.alloc(BLOCK_BYTES)
  let state = 1
  for (let i = 0; i < BLOCK_BYTES; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    pattern[i] = state >>> 24
  }
  let left = totalBytes
  for (let number = 0; left > 0; number++) {
    const block = Buffer.from(pattern)
    block.writeUInt32BE(number)
    yield left < BLOCK_BYTES ? block.subarray(0, left) : block
    left -= BLOCK_BYTES
  }
}

/** SHA-256 of `payload(totalBytes)` in hexadecimal. */
export function payloadDigest(totalBytes: number): string {
  const hash = createHash('sha256')
  for (const block of payload(totalBytes)) hash.update(block)
  return hash.digest('hex')
}
