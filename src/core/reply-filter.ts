/** Cells, a power of two: 8 KiB, small enough to stay in the first-level cache. */
const CELLS = 2048
const CELL_BITS = 11

// A constant, since V8 has to look each time whether a declared function is still the same.
const cellOf = (protocol: number, addressBe: number, portBe: number): number =>
  Math.imul(addressBe ^ portBe ^ (protocol << 16), 0x9e3779b1) >>> (32 - CELL_BITS)

/**
 * Tells which packets may be replies of masqueraded real servers, so that all others cost one lookup in
 * the connection table and not two. A counting filter over the (address, port, protocol) that the
 * connections' replies come from: no false negatives, few false positives.
 */
export class ReplyFilter {
  private readonly cells = new Int32Array(CELLS)

  add(protocol: number, addressBe: number, portBe: number): void {
    this.cells[cellOf(protocol, addressBe, portBe)]!++
  }

  remove(protocol: number, addressBe: number, portBe: number): void {
    this.cells[cellOf(protocol, addressBe, portBe)]!--
  }

  mayContain(protocol: number, addressBe: number, portBe: number): boolean {
    return this.cells[cellOf(protocol, addressBe, portBe)] !== 0
  }
}
