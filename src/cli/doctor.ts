import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { delimiter, join } from 'node:path'
import { native } from '../kernel/native.js'
import { oracleUnavailable } from '../scenario/oracle/oracle.js'

const help = `Says what this machine can do for uvs, what it cannot, and what to do about it.

Usage: uvs doctor [--json]

Exit status: 0 when at least one driver can work here, 1 otherwise.
`

/** BPF_MAP_TYPE_XSKMAP: there only in a kernel with CONFIG_XDP_SOCKETS. */
const BPF_MAP_TYPE_XSKMAP = 17
const EPERM = 'EPERM'

type Answer = 'yes' | 'no' | 'unknown'

interface Finding {
  readonly what: string
  readonly answer: Answer
  /** What it is for, or what to do. */
  readonly note: string
}

export function main(args: string[]): number {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(help)
    return 0
  }
  const unknown = args.find((arg) => arg !== '--json')
  if (unknown !== undefined) {
    process.stderr.write(`uvs doctor: it takes no '${unknown}'\n`)
    return 2
  }
  const addon = addonFinding()
  const afxdp =
    addon.answer === 'yes' ? xdpFinding() : unknownFor('AF_XDP sockets', 'needs the addon')
  const tun = tunFinding()
  const findings = [
    nodeFinding(),
    {
      what: `Linux ${release()}`,
      answer: 'yes',
      note: '5.9 or later can attach an XDP program that goes away with its process',
    } as const,
    addon,
    ...capabilityFindings(),
    afxdp,
    tun,
    ...moduleFindings(),
    oracleFinding(),
    ...toolFindings(),
  ]
  if (args.includes('--json')) {
    process.stdout.write(`${JSON.stringify(findings, undefined, 2)}\n`)
  } else {
    const signs: Record<Answer, string> = { yes: '✓', no: '✗', unknown: '?' }
    for (const { what, answer, note } of findings)
      process.stdout.write(`${signs[answer]} ${what.padEnd(24)} ${note}\n`)
  }
  return addon.answer === 'yes' && (afxdp.answer === 'yes' || tun.answer === 'yes') ? 0 : 1
}

function unknownFor(what: string, note: string): Finding {
  return { what, answer: 'unknown', note }
}

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const ok = major > 20 || (major === 20 && minor >= 19)
  return {
    what: `Node.js ${process.versions.node}`,
    answer: ok ? 'yes' : 'no',
    note: ok ? '20.19 or later' : 'uvs needs 20.19 or later',
  }
}

function addonFinding(): Finding {
  try {
    native()
    return { what: 'addon', answer: 'yes', note: 'native/build/Release/uvs.node loads' }
  } catch (error) {
    return { what: 'addon', answer: 'no', note: (error as Error).message }
  }
}

/** Bits of include/uapi/linux/capability.h. */
const capabilities = [
  { bit: 12, name: 'CAP_NET_ADMIN', note: 'devices, routes, XDP programs: every driver' },
  { bit: 13, name: 'CAP_NET_RAW', note: 'AF_XDP sockets' },
  { bit: 21, name: 'CAP_SYS_ADMIN', note: 'network namespaces: the lab' },
  { bit: 39, name: 'CAP_BPF', note: 'maps and programs: the driver afxdp' },
] as const

function capabilityFindings(): Finding[] {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  const held = BigInt(`0x${effective ?? '0'}`)
  return capabilities.map(({ bit, name, note }) => {
    const has = (held & (1n << BigInt(bit))) !== 0n
    return { what: name, answer: has ? 'yes' : 'no', note: has ? note : `${note}; run with sudo` }
  })
}

function xdpFinding(): Finding {
  const what = 'AF_XDP sockets'
  try {
    const fd = native().bpfMapCreate({
      type: BPF_MAP_TYPE_XSKMAP,
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
      flags: 0,
      name: 'uvs_doctor',
    })
    native().closeDescriptor(fd)
    return { what, answer: 'yes', note: 'the driver afxdp works' }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === EPERM)
      return unknownFor(what, 'asking takes CAP_BPF: run with sudo')
    const note = `the kernel lacks CONFIG_XDP_SOCKETS or CONFIG_BPF_SYSCALL (${(error as Error).message})`
    return { what, answer: 'no', note }
  }
}

function tunFinding(): Finding {
  const what = 'TUN and TAP devices'
  const device = '/dev/net/tun'
  if (!existsSync(device))
    return {
      what,
      answer: 'no',
      note: `${device} is missing: modprobe tun, or give it to the container`,
    }
  try {
    accessSync(device, constants.R_OK | constants.W_OK)
    return { what, answer: 'yes', note: 'the drivers tun and tap work' }
  } catch {
    return unknownFor(what, `${device} is there, but not for this user: run with sudo`)
  }
}

/** Features that help when they are there and that nothing depends on. */
function moduleFindings(): Finding[] {
  return [
    {
      name: 'ipip',
      has: 'real servers of the lab decapsulate with tunl0',
      lacks: 'real servers of the lab decapsulate with a program of ours',
    },
    {
      name: 'ip_vs',
      has: 'the kernel has an IPVS to compare with',
      lacks: 'no IPVS in this kernel; comparisons use a User-Mode Linux guest',
    },
  ].map(({ name, has, lacks }) => {
    const there = hasModule(name)
    return { what: `kernel: ${name}`, answer: there ? 'yes' : 'no', note: there ? has : lacks }
  })
}

function oracleFinding(): Finding {
  const lacks = oracleUnavailable('guest')
  return {
    what: 'guest with IPVS',
    answer: lacks ? 'no' : 'yes',
    note: lacks || 'uvs oracle has a kernel to ask, in User-Mode Linux',
  }
}

/** Loaded, built in, or on the disk to be loaded. */
function hasModule(name: string): boolean {
  if (existsSync(`/sys/module/${name}`)) return true
  const folder = `/lib/modules/${release()}`
  const pattern = new RegExp(`/${name.replace(/[-_]/g, '[-_]')}\\.ko`)
  return ['modules.dep', 'modules.builtin'].some((list) => {
    const file = join(folder, list)
    return existsSync(file) && pattern.test(readFileSync(file, 'utf8'))
  })
}

const tools = [
  { name: 'ip', note: 'namespaces: the lab (iproute2)' },
  { name: 'ethtool', note: 'checksum offload off on end hosts: the lab (ethtool)' },
  { name: 'curl', note: 'the client of the lab (curl)' },
  { name: 'ping', note: 'tests in namespaces (iputils-ping)' },
  { name: 'tcpdump', note: 'captures of the tests in namespaces (tcpdump)' },
  { name: 'linux', note: 'comparisons with a real IPVS (user-mode-linux)' },
]

function toolFindings(): Finding[] {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return tools.map(({ name, note }) => {
    const there = folders.some((folder) => existsSync(join(folder, name)))
    return {
      what: `tool: ${name}`,
      answer: there ? 'yes' : 'no',
      note: there ? note : `${note}; scripts/setup --tests installs it`,
    }
  })
}
