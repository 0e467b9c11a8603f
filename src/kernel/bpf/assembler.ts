/**
 * A small eBPF assembler: one method an instruction, labels for jumps. Encodings are those of
 * Documentation/bpf/standardization/instruction-set.rst of the Linux source.
 */

/** A register; `r10` is the frame pointer and read-only. */
export class Register {
  constructor(readonly index: number) {}
  toString(): string {
    return `r${this.index}`
  }
}

const registers = Array.from({ length: 11 }, (_, i) => new Register(i))
export const [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10] = registers as [
  Register, Register, Register, Register, Register, Register, Register, Register, Register, Register,
  Register,
] // prettier-ignore

/** A register, or a 32-bit constant that is sign-extended to 64. */
export type Operand = Register | number

export type Size = 'u8' | 'u16' | 'u32' | 'u64'
const sizeBits: Record<Size, number> = { u32: 0x00, u16: 0x08, u8: 0x10, u64: 0x18 }

const Class = { load: 0x00, loadX: 0x01, store: 0x02, storeX: 0x03, alu: 0x04, jump: 0x05, jump32: 0x06, alu64: 0x07 } // prettier-ignore
const MEMORY = 0x60
const FROM_REGISTER = 0x08

const aluBits = { add: 0x00, sub: 0x10, mul: 0x20, or: 0x40, and: 0x50, lsh: 0x60, rsh: 0x70, xor: 0xa0, mov: 0xb0, arsh: 0xc0 } // prettier-ignore
export type AluOperation = keyof typeof aluBits

const jumpBits = { '==': 0x10, '>': 0x20, '>=': 0x30, '&': 0x40, '!=': 0x50, '<': 0xa0, '<=': 0xb0 }
export type Comparison = keyof typeof jumpBits

const INSTRUCTION_BYTES = 8

export class Assembler {
  private readonly code: {
    opcode: number
    registers: number
    offset: number
    immediate: number
  }[] = []
  private readonly labels = new Map<string, number>()
  private readonly jumps: { at: number; label: string }[] = []
  private fresh = 0

  /** 64-bit arithmetic: target = target op operand (or = operand, for mov). */
  alu(operation: AluOperation, target: Register, operand: Operand): this {
    return this.arithmetic(Class.alu64, operation, target, operand)
  }

  /** The same on the lower 32 bits; the upper ones become zero. */
  alu32(operation: AluOperation, target: Register, operand: Operand): this {
    return this.arithmetic(Class.alu, operation, target, operand)
  }

  mov(target: Register, operand: Operand): this {
    return this.alu('mov', target, operand)
  }

  /** Turns a 16- or 32-bit value in network order into host order, and back. */
  swapBigEndian(target: Register, bits: 16 | 32): this {
    return this.emit(Class.alu | 0xd0 | FROM_REGISTER, target.index, 0, 0, bits)
  }

  /** target = *(base + offset) */
  load(size: Size, target: Register, base: Register, offset: number): this {
    return this.emit(Class.loadX | MEMORY | sizeBits[size], target.index, base.index, offset, 0)
  }

  /** *(base + offset) = operand */
  store(size: Size, base: Register, offset: number, operand: Operand): this {
    return operand instanceof Register
      ? this.emit(Class.storeX | MEMORY | sizeBits[size], base.index, operand.index, offset, 0)
      : this.emit(Class.store | MEMORY | sizeBits[size], base.index, 0, offset, operand)
  }

  /** Loads the address of a map, by its descriptor: two instructions long. */
  loadMap(target: Register, descriptor: number): this {
    const PSEUDO_MAP_FD = 1
    this.emit(Class.load | sizeBits.u64, target.index, PSEUDO_MAP_FD, 0, descriptor)
    return this.emit(0, 0, 0, 0, 0)
  }

  /** Calls a helper of the kernel: arguments in r1 to r5, which are lost, result in r0. */
  call(helper: number): this {
    return this.emit(Class.jump | 0x80, 0, 0, 0, helper)
  }

  exit(): this {
    return this.emit(Class.jump | 0x90, 0, 0, 0, 0)
  }

  jump(label: string): this {
    this.jumps.push({ at: this.code.length, label })
    return this.emit(Class.jump, 0, 0, 0, 0)
  }

  /** Jumps if the comparison, unsigned and of 64 bits, holds. */
  jumpIf(register: Register, comparison: Comparison, operand: Operand, label: string): this {
    return this.conditional(Class.jump, register, comparison, operand, label)
  }

  /** The same on the lower 32 bits: constants above 2^31 compare as one expects. */
  jumpIf32(register: Register, comparison: Comparison, operand: Operand, label: string): this {
    return this.conditional(Class.jump32, register, comparison, operand, label)
  }

  /** Names the place of the next instruction. */
  label(name: string): this {
    if (this.labels.has(name)) throw new Error(`BPF label '${name}' is defined twice`)
    this.labels.set(name, this.code.length)
    return this
  }

  /** A label's name that nothing else has. */
  freshLabel(hint: string): string {
    return `${hint}.${this.fresh++}`
  }

  /** The program, 8 bytes an instruction. Throws when a jump goes nowhere, backwards, or too far. */
  assemble(): Uint8Array {
    for (const { at, label } of this.jumps) {
      const target = this.labels.get(label)
      if (target === undefined)
        throw new Error(`BPF instruction ${at} jumps to '${label}', which is nowhere`)
      const offset = target - at - 1
      if (offset < 0) throw new Error(`BPF instruction ${at} jumps back to '${label}'`)
      if (offset > 0x7fff) throw new Error(`BPF instruction ${at} jumps too far, to '${label}'`)
      this.code[at]!.offset = offset
    }
    const bytes = new Uint8Array(this.code.length * INSTRUCTION_BYTES)
    const view = new DataView(bytes.buffer)
    this.code.forEach(({ opcode, registers, offset, immediate }, i) => {
      const at = i * INSTRUCTION_BYTES
      view.setUint8(at, opcode)
      view.setUint8(at + 1, registers)
      view.setInt16(at + 2, offset, true)
      view.setInt32(at + 4, immediate | 0, true)
    })
    return bytes
  }

  private arithmetic(
    kind: number,
    operation: AluOperation,
    target: Register,
    operand: Operand,
  ): this {
    const opcode = kind | aluBits[operation]
    return operand instanceof Register
      ? this.emit(opcode | FROM_REGISTER, target.index, operand.index, 0, 0)
      : this.emit(opcode, target.index, 0, 0, operand)
  }

  private conditional(
    kind: number,
    register: Register,
    comparison: Comparison,
    operand: Operand,
    label: string,
  ): this {
    this.jumps.push({ at: this.code.length, label })
    const opcode = kind | jumpBits[comparison]
    return operand instanceof Register
      ? this.emit(opcode | FROM_REGISTER, register.index, operand.index, 0, 0)
      : this.emit(opcode, register.index, 0, 0, operand)
  }

  private emit(
    opcode: number,
    target: number,
    source: number,
    offset: number,
    immediate: number,
  ): this {
    const at = this.code.length
    if (offset < -0x8000 || offset > 0x7fff || !Number.isInteger(offset))
      throw new RangeError(`BPF instruction ${at}: offset ${offset} does not fit in 16 bits`)
    if (immediate < -0x80000000 || immediate > 0xffffffff || !Number.isInteger(immediate))
      throw new RangeError(`BPF instruction ${at}: constant ${immediate} does not fit in 32 bits`)
    this.code.push({ opcode, registers: target | (source << 4), offset, immediate })
    return this
  }
}
