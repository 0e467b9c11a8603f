/** What a figure depends on besides the program: the machine, its kernel and settings, and the versions. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { arch, cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { version as kernelVersion, release } from 'node:os'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly architecture: string
  /** As 'L1d 32K, L2 1024K, L3 33792K'. */
  readonly caches: string
  readonly memoryBytes: number
  readonly kernel: string
  readonly governor: string
  readonly transparentHugePages: string
  readonly hypervisor: string
  /** Of the CPU's known weaknesses, what the kernel does about each. */
  readonly mitigations: Readonly<Record<string, string>>
  /** CPUs that the run may use, as the kernel lists them. */
  readonly allowedCpus: string
  readonly node: string
  readonly v8: string
  readonly nodeFlags: string
  readonly uvs: string
  readonly commit: string
}

const UNKNOWN = 'unknown'

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').replace(/\0/g, '').trim()
  } catch {
    return undefined // not every machine says everything
  }
}

function entries(path: string): string[] {
  try {
    return readdirSync(path).sort()
  } catch {
    return []
  }
}

function caches(): string {
  const folder = '/sys/devices/system/cpu/cpu0/cache'
  const found = entries(folder).flatMap((entry) => {
    const [level, type, size] = ['level', 'type', 'size'].map((name) =>
      readText(join(folder, entry, name)),
    )
    if (size === undefined || type === 'Instruction') return []
    return [`L${level}${type === 'Data' ? 'd' : ''} ${size}`]
  })
  return found.join(', ') || UNKNOWN
}

function hypervisor(): string {
  const isGuest = /^flags\s*:.*\bhypervisor\b/m.test(readText('/proc/cpuinfo') ?? '')
  const names = ['/sys/hypervisor/type', '/sys/class/dmi/id/sys_vendor']
    .concat('/sys/class/dmi/id/product_name')
    .flatMap((path) => readText(path) ?? [])
  if (!isGuest) return 'none seen'
  return names.join(', ') || 'one that does not give its name'
}

function commit(root: string): string {
  const git = (...args: string[]): string =>
    execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', stdio: 'pipe' }).trim()
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no') !== ''
    return git('rev-parse', '--short=12', 'HEAD') + (changed ? ', with changes' : '')
  } catch {
    return 'none: an installed package'
  }
}

/** @param root folder of the package */
export function describeMachine(root: string): Machine {
  const vulnerabilities = '/sys/devices/system/cpu/vulnerabilities'
  const status = readText('/proc/self/status') ?? ''
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    version: string
  }
  return {
    cpu: cpus()[0]?.model ?? UNKNOWN,
    cores: cpus().length,
    architecture: arch(),
    caches: caches(),
    memoryBytes: totalmem(),
    kernel: `${release()} ${kernelVersion()}`,
    governor: readText('/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor') ?? 'none to choose',
    transparentHugePages:
      /\[(\w+)\]/.exec(readText('/sys/kernel/mm/transparent_hugepage/enabled') ?? '')?.[1] ??
      UNKNOWN,
    hypervisor: hypervisor(),
    mitigations: Object.fromEntries(
      entries(vulnerabilities).map((name) => [
        name,
        readText(join(vulnerabilities, name)) ?? UNKNOWN,
      ]),
    ),
    allowedCpus: /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? UNKNOWN,
    node: process.version,
    v8: process.versions.v8,
    nodeFlags: [...process.execArgv, process.env.NODE_OPTIONS ?? ''].join(' ').trim() || 'none',
    uvs: version,
    commit: commit(root),
  }
}
