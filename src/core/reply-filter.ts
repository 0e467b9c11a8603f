/** Cells, a power of two: 8 KiB, small enough to stay in the first-level cache. */
const CELLS = 2048

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

function cellOf(protocol: number, addressBe: number, portBe: number): number {
  const hash = Math.imul(addressBe ^ Math.imul(portBe | (protocol << 16), 0x9e3779b1), 0x85ebca6b)
  return (hash ^ (hash >>> 15)) & (CELLS - 1)
}
