/**
 * A real kernel with IPVS, for comparison: Debian's User-Mode Linux as an ordinary process. It takes the
 * host's file system, read-only, as its root, so that the host's programs run inside, and ends with the
 * script that it was started for.
 */
import { spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const KERNEL = '/usr/bin/linux'
const MODULES = '/usr/lib/uml/modules'

/** What must be there, and the Debian package that brings it. */
const needed: [path: string, packageName: string][] = [
  [KERNEL, 'user-mode-linux'],
  [MODULES, 'user-mode-linux'],
  ['/usr/sbin/ipvsadm', 'ipvsadm'],
  ['/usr/sbin/modprobe', 'kmod'],
  ['/usr/sbin/ip', 'iproute2'],
]

/** Why no guest can be started here, false when one can. */
export function guestUnavailable(): string | false {
  const missing = needed.find(([path]) => !existsSync(path))
  return missing ? `${missing[0]} is missing: install the package ${missing[1]}` : false
}

export interface GuestOptions {
  /** A bash script, run as root in the directory with `files`, which it may write to. */
  script: string
  /** Files for the script, by name. */
  files?: Record<string, string>
  /** Modules loaded before the script starts. */
  modules?: readonly string[]
  memoryMegabytes?: number
  /** The guest is killed after so long. */
  timeoutMs?: number
}

export interface GuestResult {
  status: number
  stdout: string
  stderr: string
  /** All files of the directory when the guest had ended, by name. */
  files: Map<string, string>
}

/**
 * Starts a guest, lets it run the script, and returns what came of it. Nothing is left behind: the guest's
 * processes are ended and its directory is removed, also when it fails. Throws with the guest's console when
 * it does not come to the end of the script.
 */
export async function runInGuest(options: GuestOptions): Promise<GuestResult> {
  const directory = mkdtempSync(join(tmpdir(), 'uvs-guest-'))
  try {
    const work = join(directory, 'work')
    mkdirSync(work)
    for (const [name, text] of Object.entries(options.files ?? {}))
      writeFileSync(join(work, name), text)
    writeFileSync(join(directory, 'script'), options.script)
    writeFileSync(join(directory, 'init'), initScript(directory, options.modules ?? ['ip_vs']))
    chmodSync(join(directory, 'init'), 0o755)
    const console = await boot(directory, options)
    const read = (name: string): string => readFileSync(join(directory, name), 'utf8')
    if (!existsSync(join(directory, 'status')))
      throw new Error(`the guest ended before its script did; its console:\n${console}`)
    return {
      status: Number(read('status')),
      stdout: read('stdout'),
      stderr: read('stderr'),
      files: new Map(
        readdirSync(work).map((name) => [name, readFileSync(join(work, name), 'utf8')]),
      ),
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/**
 * The guest's first process. Only `directory` of the host is writable, at /mnt/host; /mnt is a tmpfs. Modules
 * that the kernel asks for by itself are found through a modprobe of our own.
 */
function initScript(directory: string, modules: readonly string[]): string {
  return `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/modules/lib/modules /mnt/host
ln -s ${MODULES}/$(uname -r) /mnt/modules/lib/modules/
printf '#!/bin/sh\\nexec /usr/sbin/modprobe -d /mnt/modules "$@"\\n' > /mnt/modprobe
chmod +x /mnt/modprobe
echo /mnt/modprobe > /proc/sys/kernel/modprobe
mount -t hostfs none /mnt/host -o ${directory}
ip link set lo up
for module in ${modules.join(' ')}; do /mnt/modprobe $module; done
cd /mnt/host/work
bash ../script < /dev/null > ../stdout 2> ../stderr
echo $? > ../status
cd /
halt -f -p
`
}

/** Runs the kernel until it halts and returns what it said. */
async function boot(directory: string, options: GuestOptions): Promise<string> {
  const child = spawn(
    KERNEL,
    [
      `mem=${options.memoryMegabytes ?? 256}M`,
      'rootfstype=hostfs',
      'root=/dev/root',
      'rootflags=/',
      'ro',
      `init=${directory}/init`,
      `uml_dir=${directory}/`,
      'con=null',
      'con0=fd:0,fd:1',
      'quiet',
    ],
    // A group of its own, so that the guest's processes can be ended together.
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: { ...process.env, TMPDIR: directory },
    },
  )
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (said += text))
  const end = (): void => {
    try {
      process.kill(-child.pid!, 'SIGKILL')
    } catch {
      // It has ended.
    }
  }
  const timeoutMs = options.timeoutMs ?? 60_000
  let late = false
  const timer = setTimeout(() => {
    late = true
    end()
  }, timeoutMs)
  process.once('exit', end)
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', () => resolve())
    })
  } finally {
    clearTimeout(timer)
    process.off('exit', end)
  }
  if (late)
    throw new Error(`the guest did not end within ${timeoutMs / 1000} s; its console:\n${said}`)
  return said
}
