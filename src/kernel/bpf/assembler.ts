/**
 * A small eBPF assembler: one method an instruction, names for places to jump to. Encodings are those of
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

/** A register, or a 32-bit constant; 64-bit instructions extend its sign. */
export type Operand = Register | number

export type Size = 'u8' | 'u16' | 'u32' | 'u64'
const sizeBits: Record<Size, number> = { u32: 0x00, u16: 0x08, u8: 0x10, u64: 0x18 }

const Class = { load: 0x00, loadX: 0x01, store: 0x02, storeX: 0x03, alu: 0x04, jump: 0x05, jump32: 0x06, alu64: 0x07 } // prettier-ignore
const MEMORY = 0x60
const FROM_REGISTER = 0x08
const TO_BIG_ENDIAN = 0xd0 | FROM_REGISTER
const CALL = 0x80
const EXIT = 0x90
/** Marks a 64-bit constant as the descriptor of a map. */
const PSEUDO_MAP_DESCRIPTOR = 1

const aluBits = { add: 0x00, sub: 0x10, mul: 0x20, or: 0x40, and: 0x50, lsh: 0x60, rsh: 0x70, xor: 0xa0, mov: 0xb0, arsh: 0xc0 } // prettier-ignore
export type AluOperation = keyof typeof aluBits

const jumpBits = { '==': 0x10, '>': 0x20, '>=': 0x30, '&': 0x40, '!=': 0x50, '<': 0xa0, '<=': 0xb0 }
export type Comparison = keyof typeof jumpBits

const INSTRUCTION_BYTES = 8

interface Instruction {
  /** For people: listings and errors. */
  text: string
  opcode: number
  target: number
  source: number
  offset: number
  immediate: number
  /** Where it jumps to. */
  label?: string
}

/** Errors name the instruction: its number and its text. */
export class Assembler {
  private readonly instructions: Instruction[] = []
  private readonly labels = new Map<string, number>()
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

  /** Turns a 16- or 32-bit value in network order into host order, and back; the bits above become zero. */
  swapBigEndian(target: Register, bits: 16 | 32): this {
    const opcode = Class.alu | TO_BIG_ENDIAN
    return this.emit({ text: `be${bits} ${target}`, opcode, target, immediate: bits })
  }

  /** target = *(base + offset) */
  load(size: Size, target: Register, base: Register, offset: number): this {
    const opcode = Class.loadX | MEMORY | sizeBits[size]
    const text = `${target} = ${size} [${base} + ${offset}]`
    return this.emit({ text, opcode, target, source: base, offset })
  }

  /** *(base + offset) = operand */
  store(size: Size, base: Register, offset: number, operand: Operand): this {
    const text = `${size} [${base} + ${offset}] = ${operand}`
    const bits = MEMORY | sizeBits[size]
    return operand instanceof Register
      ? this.emit({ text, opcode: Class.storeX | bits, base, source: operand, offset })
      : this.emit({ text, opcode: Class.store | bits, base, offset, immediate: operand })
  }

  /** Loads the address of a map, by its descriptor: two instructions long. */
  loadMap(target: Register, descriptor: number): this {
    this.emit({
      text: `${target} = map ${descriptor}`,
      opcode: Class.load | sizeBits.u64,
      target,
      source: new Register(PSEUDO_MAP_DESCRIPTOR),
      immediate: descriptor,
    })
    return this.emit({ text: '', opcode: 0 })
  }

  /** Calls a helper of the kernel: arguments in r1 to r5, which are lost, result in r0. */
  call(helper: number): this {
    return this.emit({ text: `call ${helper}`, opcode: Class.jump | CALL, immediate: helper })
  }

  /** Ends the program; its result is r0. */
  exit(): this {
    return this.emit({ text: 'exit', opcode: Class.jump | EXIT })
  }

  jump(label: string): this {
    return this.emit({ text: `goto ${label}`, opcode: Class.jump, label })
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
    this.labels.set(name, this.instructions.length)
    return this
  }

  /** A label's name that nothing else has. */
  freshLabel(hint: string): string {
    return `${hint}.${this.fresh++}`
  }

  /**
   * The program, 8 bytes an instruction. Throws when a jump goes nowhere, backwards (a loop needs a bound,
   * which nothing here proves) or too far, and when the end would be run over.
   */
  assemble(): Uint8Array {
    const last = this.instructions.at(-1)
    if (last?.opcode !== (Class.jump | EXIT))
      throw new Error('the BPF program does not end with exit')
    const bytes = new Uint8Array(this.instructions.length * INSTRUCTION_BYTES)
    const view = new DataView(bytes.buffer)
    this.instructions.forEach((instruction, i) => {
      const { opcode, target, source, immediate } = instruction
      const at = i * INSTRUCTION_BYTES
      view.setUint8(at, opcode)
      view.setUint8(at + 1, target | (source << 4))
      view.setInt16(at + 2, this.offsetOf(instruction, i), true)
      view.setInt32(at + 4, immediate | 0, true)
    })
    return bytes
  }

  /** The program as text, one instruction a line, with its labels. */
  toString(): string {
    const names = new Map<number, string[]>()
    for (const [name, at] of this.labels) names.set(at, [...(names.get(at) ?? []), name])
    return this.instructions
      .flatMap(({ text }, i) => [
        ...(names.get(i) ?? []).map((name) => `${name}:`),
        ...(text === '' ? [] : [`  ${i}: ${text}`]),
      ])
      .join('\n')
  }

  private offsetOf(instruction: Instruction, at: number): number {
    const { label } = instruction
    if (label === undefined) return instruction.offset
    const target = this.labels.get(label)
    if (target === undefined) throw new Error(`${where(at, instruction)}: no such label`)
    const offset = target - at - 1
    if (offset < 0) throw new Error(`${where(at, instruction)}: jumps back`)
    if (offset > 0x7fff)
      throw new Error(`${where(at, instruction)}: jumps too far, over ${offset} instructions`)
    if (target === this.instructions.length)
      throw new Error(`${where(at, instruction)}: jumps behind the end`)
    return offset
  }

  private arithmetic(
    kind: number,
    operation: AluOperation,
    target: Register,
    operand: Operand,
  ): this {
    const opcode = kind | aluBits[operation]
    const text = `${target} ${operation}${kind === Class.alu ? '32' : ''} ${operand}`
    return this.withOperand(kind === Class.alu64, text, opcode, { target }, operand)
  }

  private conditional(
    kind: number,
    compared: Register,
    comparison: Comparison,
    operand: Operand,
    label: string,
  ): this {
    const opcode = kind | jumpBits[comparison]
    const width = kind === Class.jump32 ? '32' : ''
    const text = `if ${compared} ${comparison}${width} ${operand} goto ${label}`
    // A register that is compared stands where others have their target, and is not written to.
    return this.withOperand(kind === Class.jump, text, opcode, { base: compared, label }, operand)
  }

  private withOperand(
    is64Bit: boolean,
    text: string,
    opcode: number,
    rest: { target?: Register; base?: Register; label?: string },
    operand: Operand,
  ): this {
    if (operand instanceof Register)
      return this.emit({ text, opcode: opcode | FROM_REGISTER, source: operand, ...rest })
    if (is64Bit && operand > 0x7fffffff)
      throw new RangeError(
        `${where(this.instructions.length, { text })}: constant ${operand} would be extended to a negative number`,
      )
    return this.emit({ text, opcode, immediate: operand, ...rest })
  }

  /** `target` is a register that is written to; `base` has its place where nothing is. */
  private emit(parts: {
    text: string
    opcode: number
    target?: Register
    base?: Register
    source?: Register
    offset?: number
    immediate?: number
    label?: string
  }): this {
    const { text, opcode, target, base, source, offset = 0, immediate = 0, label } = parts
    const place = where(this.instructions.length, parts)
    if (target === r10) throw new Error(`${place}: r10 is read-only`)
    if (!Number.isInteger(offset) || offset < -0x8000 || offset > 0x7fff)
      throw new RangeError(`${place}: offset ${offset} does not fit in 16 bits`)
    if (!Number.isInteger(immediate) || immediate < -0x80000000 || immediate > 0xffffffff)
      throw new RangeError(`${place}: constant ${immediate} does not fit in 32 bits`)
    this.instructions.push({
      text,
      opcode,
      target: (target ?? base)?.index ?? 0,
      source: source?.index ?? 0,
      offset,
      immediate,
      ...(label === undefined ? {} : { label }),
    })
    return this
  }
}

function where(at: number, { text }: { text: string }): string {
  return `BPF instruction ${at} (${text})`
}
