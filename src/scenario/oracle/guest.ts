/**
 * A real kernel with IPVS: Debian's User-Mode Linux as an ordinary process. It takes the host's file system,
 * read-only, as its root, so that the host's programs run inside. Its time can be virtual: native/guest-clock.c.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { nativeLibrary } from './native-library.js'
import { CHANNEL, OwnedProcess } from './owned-process.js'

const KERNEL = '/usr/bin/linux'
const MODULES = '/usr/lib/uml/modules'
const CLOCK = nativeLibrary('guest-clock')
const TMPFS_MAGIC = 0x01021994

/** Where a guest finds the directory that it shares with the host. */
export const SHARED = '/mnt/host'
/** A tmpfs of a guest's own. */
export const SCRATCH = '/mnt'

/** What must be there, and what brings it. */
const needed: [path: string, remedy: string][] = [
  [KERNEL, 'install the package user-mode-linux'],
  [MODULES, 'install the package user-mode-linux'],
  ['/usr/sbin/ipvsadm', 'install the package ipvsadm'],
  ['/usr/sbin/modprobe', 'install the package kmod'],
  ['/usr/sbin/ip', 'install the package iproute2'],
]

/** Why no guest can be started here, false when one can. With `virtualTime`, a guest with a clock of ours. */
export function guestUnavailable(options: { virtualTime?: boolean } = {}): string | false {
  const all = options.virtualTime
    ? [...needed, [CLOCK, 'run scripts/build-addon'] as const]
    : needed
  const missing = all.find(([path]) => !existsSync(path))
  return missing ? `${missing[0]} is missing: ${missing[1]}` : false
}

export interface StartOptions {
  /** A shell command, run as root in the shared directory; the guest halts after it. */
  command: string
  /** Modules loaded before. */
  modules?: readonly string[]
  memoryMegabytes?: number
  /**
   * The guest's clock jumps over the time in which it has nothing to do; otherwise it shows the host's time.
   * `channel` then is what the guest asks by (native/guest-clock.c).
   */
  virtualTime?: boolean
}

/** Starts a guest; it is the owned process, whose directory has the shared one as `shared`. */
export function startGuest(options: StartOptions): OwnedProcess {
  const unavailable = guestUnavailable(options)
  if (unavailable) throw new Error(`no guest can be started: ${unavailable}`)
  const { memoryMegabytes = 256 } = options
  return OwnedProcess.start('uvs-guest-', (directory) => {
    mkdirSync(sharedDirectory(directory))
    const init = join(directory, 'init')
    writeFileSync(init, initScript(sharedDirectory(directory), options))
    chmodSync(init, 0o755)
    return {
      program: KERNEL,
      args: [
        `mem=${memoryMegabytes}M`,
        'rootfstype=hostfs',
        'root=/dev/root',
        'rootflags=/',
        'ro',
        `init=${init}`,
        `uml_dir=${directory}/`,
        'con=null',
        'con0=fd:0,fd:1',
        'quiet',
      ],
      environment: {
        TMPDIR: memoryDirectory(memoryMegabytes << 20, directory),
        LD_PRELOAD: options.virtualTime ? CLOCK : undefined,
        UVS_GUEST_CHANNEL: String(CHANNEL),
      },
    }
  })
}

/** What a guest shares with the host, seen by the host. */
export function sharedDirectory(directory: string): string {
  return join(directory, 'shared')
}

/** The guest's memory is a file without a name, best where it is never written to a disk. */
function memoryDirectory(bytes: number, otherwise: string): string {
  const candidate = '/dev/shm'
  try {
    const mount = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .reverse()
      .find((line) => line.split(' ')[1] === candidate)
    const executable = !mount?.split(' ')[3]!.split(',').includes('noexec')
    const { type, bavail, bsize } = statfsSync(candidate)
    return executable && type === TMPFS_MAGIC && bavail * bsize > bytes ? candidate : otherwise
  } catch {
    return otherwise
  }
}

/**
 * The guest's first process. Only `shared` of the host is writable, at /mnt/host; /mnt is a tmpfs. Modules that
 * the kernel asks for by itself are found through a modprobe of our own.
 */
function initScript(shared: string, options: StartOptions): string {
  return `#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/modules/lib/modules ${SHARED}
ln -s ${MODULES}/$(uname -r) /mnt/modules/lib/modules/
printf '#!/bin/sh\\nexec /usr/sbin/modprobe -d /mnt/modules "$@"\\n' > /mnt/modprobe
chmod +x /mnt/modprobe
echo /mnt/modprobe > /proc/sys/kernel/modprobe
mount -t hostfs none ${SHARED} -o ${shared}
ip link set lo up
/mnt/modprobe -a ${(options.modules ?? ['ip_vs']).join(' ')}
cd ${SHARED}
${options.command}
cd /
halt -f -p
`
}

export interface ScriptOptions extends Omit<StartOptions, 'command'> {
  /** A bash script, run as root in the directory with `files`, which it may write to. */
  script: string
  /** Files for the script, by name. */
  files?: Record<string, string>
  /** The guest is killed after so long. */
  timeoutMs?: number
}

export interface ScriptResult {
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
export async function runInGuest(options: ScriptOptions): Promise<ScriptResult> {
  const { script, files, timeoutMs = 300_000, ...start } = options
  const guest = startGuest({
    ...start,
    // The directory is written before the guest has come so far as to mount it.
    command: 'cd work; bash ../script < /dev/null > ../stdout 2> ../stderr; echo $? > ../status',
  })
  const shared = sharedDirectory(guest.directory)
  const work = join(shared, 'work')
  let late = false
  const timer = setTimeout(() => {
    late = true
    guest.kill()
  }, timeoutMs)
  try {
    mkdirSync(work)
    for (const [name, text] of Object.entries(files ?? {})) writeFileSync(join(work, name), text)
    writeFileSync(join(shared, 'script'), script)
    await guest.ended
    if (late)
      throw new Error(
        `the guest did not end within ${timeoutMs / 1000} s; its console:\n${guest.console}`,
      )
    const read = (name: string): string => readFileSync(join(shared, name), 'utf8')
    if (!existsSync(join(shared, 'status')))
      throw new Error(`the guest ended before its script did; its console:\n${guest.console}`)
    return {
      status: Number(read('status')),
      stdout: read('stdout'),
      stderr: read('stderr'),
      files: new Map(
        readdirSync(work).map((name) => [name, readFileSync(join(work, name), 'utf8')]),
      ),
    }
  } finally {
    clearTimeout(timer)
    await guest.stop()
  }
}
