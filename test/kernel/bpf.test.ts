import t from 'tap'
import {
  Assembler,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  r9,
  r10,
  type AluOperation,
  type Comparison,
  type Size,
} from '../../src/kernel/bpf/assembler.js'
import { fragmentKey, portKey, xdpProgram } from '../../src/kernel/xdp-program.js'
import { addressBe, hex, macBytes } from '../support/packets.js'

/** The instructions as hexadecimal text, without the exit behind them that the label `end` names. */
function encoded(build: (asm: Assembler) => Assembler): string[] {
  const bytes = build(new Assembler()).label('end').exit().assemble()
  return Buffer.from(bytes).toString('hex').match(/.{16}/g)!.slice(0, -1)
}

/** Opcodes from the tables of RFC 9669 (BPF Instruction Set Architecture), section 4 and 5. */
t.test('arithmetic on registers and constants', async (t) => {
  // operation, 64-bit with constant, with register, 32-bit with constant, with register
  const opcodes: [AluOperation, string, string, string, string][] = [
    ['add', '07', '0f', '04', '0c'],
    ['sub', '17', '1f', '14', '1c'],
    ['mul', '27', '2f', '24', '2c'],
    ['or', '47', '4f', '44', '4c'],
    ['and', '57', '5f', '54', '5c'],
    ['lsh', '67', '6f', '64', '6c'],
    ['rsh', '77', '7f', '74', '7c'],
    ['xor', 'a7', 'af', 'a4', 'ac'],
    ['mov', 'b7', 'bf', 'b4', 'bc'],
    ['arsh', 'c7', 'cf', 'c4', 'cc'],
  ]
  for (const [operation, constant64, register64, constant32, register32] of opcodes) {
    t.strictSame(
      encoded((asm) =>
        asm
          .alu(operation, r3, 0x12345678)
          .alu(operation, r3, r9)
          .alu32(operation, r4, 7)
          .alu32(operation, r4, r5),
      ),
      [
        `${constant64}03000078563412`,
        `${register64}93000000000000`,
        `${constant32}04000007000000`,
        `${register32}54000000000000`,
      ],
      operation,
    )
  }
})

t.test('mov is the arithmetic operation of that name', async (t) => {
  t.strictSame(
    encoded((asm) => asm.mov(r6, r1).mov(r0, 2).mov(r1, -1)),
    ['bf16000000000000', 'b700000002000000', 'b7010000ffffffff'],
  )
})

t.test('byte swaps', async (t) => {
  t.strictSame(
    encoded((asm) => asm.swapBigEndian(r1, 16).swapBigEndian(r2, 32)),
    ['dc01000010000000', 'dc02000020000000'],
  )
})

t.test('loads and stores of every size', async (t) => {
  // size, load, store of a register, store of a constant
  const opcodes: [Size, string, string, string][] = [
    ['u32', '61', '63', '62'],
    ['u16', '69', '6b', '6a'],
    ['u8', '71', '73', '72'],
    ['u64', '79', '7b', '7a'],
  ]
  for (const [size, load, storeRegister, storeConstant] of opcodes)
    t.strictSame(
      encoded((asm) =>
        asm
          .load(size, r2, r1, 4)
          .load(size, r2, r10, -32)
          .store(size, r10, -8, r1)
          .store(size, r10, 0x7fff, 5)
          .store(size, r10, -0x8000, 5),
      ),
      [
        `${load}12040000000000`,
        `${load}a2e0ff00000000`,
        `${storeRegister}1af8ff00000000`,
        `${storeConstant}0aff7f05000000`,
        `${storeConstant}0a008005000000`,
      ],
      size,
    )
})

t.test(
  'a map takes two instructions, the first of which says that it is a descriptor',
  async (t) => {
    t.strictSame(
      encoded((asm) => asm.loadMap(r1, 0x1234)),
      ['1811000034120000', '0000000000000000'],
    )
  },
)

t.test('calls', async (t) => {
  t.strictSame(
    encoded((asm) => asm.call(51)),
    ['8500000033000000'],
  )
})

t.test('jumps', async (t) => {
  // comparison, 64-bit with constant, with register, 32-bit with constant, with register
  const opcodes: [Comparison, string, string, string, string][] = [
    ['==', '15', '1d', '16', '1e'],
    ['>', '25', '2d', '26', '2e'],
    ['>=', '35', '3d', '36', '3e'],
    ['&', '45', '4d', '46', '4e'],
    ['!=', '55', '5d', '56', '5e'],
    ['<', 'a5', 'ad', 'a6', 'ae'],
    ['<=', 'b5', 'bd', 'b6', 'be'],
  ]
  for (const [comparison, constant64, register64, constant32, register32] of opcodes)
    t.strictSame(
      encoded((asm) =>
        asm
          .jumpIf(r1, comparison, 8, 'end')
          .jumpIf(r1, comparison, r2, 'end')
          .jumpIf32(r1, comparison, 0xfffefdfc, 'end')
          .jumpIf32(r1, comparison, r2, 'end'),
      ),
      [
        `${constant64}01030008000000`,
        `${register64}21020000000000`,
        `${constant32}010100fcfdfeff`,
        `${register32}21000000000000`,
      ],
      comparison,
    )
  t.strictSame(
    encoded((asm) => asm.jump('end').mov(r0, 0)),
    ['0500010000000000', 'b700000000000000'],
  )
})

t.test('jumps count instructions from the one behind them, and a map counts as two', async (t) => {
  t.strictSame(
    encoded((asm) =>
      asm.jump('far').loadMap(r1, 3).jump('near').label('near').label('far').mov(r0, 1),
    ).map((instruction) => instruction.slice(4, 8)),
    ['0300', '0000', '0000', '0000', '0000'],
  )
})

t.test('a whole program, byte by byte', async (t) => {
  // r0 = 1; if the packet has 14 bytes and is IPv4 then r0 = 2; exit
  const asm = new Assembler()
    .mov(r0, 1)
    .load('u32', r2, r1, 0)
    .load('u32', r3, r1, 4)
    .mov(r4, r2)
    .alu('add', r4, 14)
    .jumpIf(r4, '>', r3, 'out')
    .load('u16', r5, r2, 12)
    .jumpIf(r5, '!=', 0x0008, 'out')
    .mov(r0, 2)
    .label('out')
    .exit()
  t.strictSame(
    asm.assemble(),
    hex(`b7 00 0000 01000000
         61 12 0000 00000000
         61 13 0400 00000000
         bf 24 0000 00000000
         07 04 0000 0e000000
         2d 34 0300 00000000
         69 25 0c00 00000000
         55 05 0100 08000000
         b7 00 0000 02000000
         95 00 0000 00000000`),
  )
})

t.test('the text of a program shows labels, and a map once', async (t) => {
  const asm = new Assembler()
  asm.loadMap(r1, 7).load('u16', r2, r10, -8).jumpIf32(r2, '<=', 5, 'out').alu32('and', r2, 255)
  asm.store('u8', r10, -1, r2).call(1).swapBigEndian(r0, 16).jump('out').label('out').exit()
  t.equal(
    String(asm),
    [
      '  0: r1 = map 7',
      '  2: r2 = u16 [r10 + -8]',
      '  3: if r2 <=32 5 goto out',
      '  4: r2 and32 255',
      '  5: u8 [r10 + -1] = r2',
      '  6: call 1',
      '  7: be16 r0',
      '  8: goto out',
      'out:',
      '  9: exit',
    ].join('\n'),
  )
})

t.test('fresh labels differ from each other', async (t) => {
  const asm = new Assembler()
  t.not(asm.freshLabel('next'), asm.freshLabel('next'))
})

t.test('jumps that cannot be are refused, with the instruction', async (t) => {
  const refused = (build: (asm: Assembler) => Assembler, message: RegExp): void => {
    t.throws(() => build(new Assembler()).assemble(), { message })
  }
  refused((asm) => asm.jump('nowhere').exit(), /instruction 0 \(goto nowhere\): no such label/)
  refused(
    (asm) => asm.label('back').mov(r0, 0).jumpIf(r0, '==', 0, 'back').exit(),
    /instruction 1 \(if r0 == 0 goto back\): jumps back/,
  )
  refused((asm) => asm.jump('end').exit().label('end'), /instruction 0 .*: jumps behind the end/)
  refused((asm) => asm.label('one').label('one'), /label 'one' is defined twice/)
  refused((asm) => asm, /does not end with exit/)
  refused((asm) => asm.mov(r0, 0), /does not end with exit/)
})

t.test('jumps reach 32767 instructions', async (t) => {
  const jumpOver = (count: number): Assembler => {
    const asm = new Assembler().jump('end')
    for (let i = 0; i < count; i++) asm.mov(r0, 0)
    return asm.label('end').exit()
  }
  t.equal(jumpOver(0x7fff).assemble().subarray(0, 4).join(), '5,0,255,127')
  t.throws(() => jumpOver(0x8000).assemble(), { message: /jumps too far, over 32768/ })
})

t.test('numbers that do not fit are refused when they are given', async (t) => {
  const asm = new Assembler().mov(r0, 0)
  const refused = (build: (asm: Assembler) => Assembler, message: RegExp): void => {
    t.throws(() => build(asm), { name: /RangeError/, message })
  }
  for (const offset of [0x8000, -0x8001, 1.5, NaN]) {
    refused((asm) => asm.load('u8', r1, r2, offset), /instruction 1 .* offset .* 16 bits/)
    refused((asm) => asm.store('u8', r1, offset, r2), /instruction 1 .* offset .* 16 bits/)
  }
  for (const constant of [2 ** 32, -(2 ** 31) - 1, 0.5, NaN]) {
    refused((asm) => asm.alu32('add', r1, constant), /constant .* 32 bits/)
    refused((asm) => asm.jumpIf32(r1, '==', constant, 'x'), /constant .* 32 bits/)
    refused((asm) => asm.store('u32', r10, -4, constant), /constant .* 32 bits/)
  }
  // 64-bit instructions extend the sign: above 2^31 the constant would be another one.
  refused((asm) => asm.mov(r1, 0x80000000), /instruction 1 .*negative/)
  refused((asm) => asm.jumpIf(r1, '==', 0xffffffff, 'x'), /instruction 1 .*negative/)
  t.throws(() => asm.mov(r10, 0), { message: /r10 is read-only/ })
  t.throws(() => asm.load('u8', r10, r1, 0), { message: /r10 is read-only/ })
  t.strictSame(asm.exit().assemble().length, 16, 'nothing of it is in the program')
})

t.test('keys lie as the fields do in a packet', async (t) => {
  t.strictSame(portKey(addressBe('192.0.2.1'), 8080, 6), hex('c0000201 1f90 06 00'))
  t.strictSame(portKey(addressBe('10.0.0.255'), 65535, 132), hex('0a0000ff ffff 84 00'))
  t.strictSame(portKey(addressBe('10.0.0.1'), 0, 17), hex('0a000001 0000 11 00'))
  t.strictSame(fragmentKey(addressBe('10.0.0.1'), 17), hex('0a000001 0000 11 01'))
})

t.test('more marking rules than a jump reaches over are refused in a sentence', async (t) => {
  const program = (count: number): Uint8Array =>
    xdpProgram({
      mac: Uint8Array.from(macBytes('02:00:00:00:00:01')),
      sockets: 3,
      virtual: 4,
      replies: 5,
      marks: Array.from({ length: count }, (_, i) => ({
        mark: 1 + i,
        protocol: 'tcp' as const,
        source: '10.0.0.0/8',
        destination: `192.0.2.${i % 256}`,
        ports: [1, 1024] as [number, number],
      })),
    })
  t.ok(program(2000).length > 0, 'the longest program that is allowed can be assembled')
  t.throws(() => program(2001), { message: /2001 marking rules .* room for 2000/ })
})

t.test('a marking rule that is none is refused', async (t) => {
  for (const field of ['source', 'destination'] as const)
    t.throws(
      () =>
        xdpProgram({
          mac: new Uint8Array(6),
          sockets: 3,
          virtual: 4,
          replies: 5,
          marks: [{ mark: 1, [field]: '10.0.0.0/33' }],
        }),
      { message: /'10\.0\.0\.0\/33' is no IPv4 prefix/ },
    )
})
