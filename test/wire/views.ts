/** The three views of memory that holds the data at an offset, as a FramePool has them. */
export function views(
  data: Uint8Array,
  offset = 0,
): { words: Int32Array; halfs: Uint16Array; bytes: Uint8Array } {
  const memory = new ArrayBuffer((offset + data.length + 7) & ~3)
  const bytes = new Uint8Array(memory)
  bytes.set(data, offset)
  return { words: new Int32Array(memory), halfs: new Uint16Array(memory), bytes }
}
