// Runs a program of tests in a User-Mode Linux guest with IPVS and prints what it prints there, which is TAP.
//   node in-guest.js PROGRAM [ARGUMENT…]
import { runInGuest } from '../kernel/guest.js'

const quoted = process.argv.slice(2).map((word) => `'${word}'`)
const { status, stdout, stderr } = await runInGuest({
  // What the programs write goes to places that a guest does not share.
  script: `mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp; exec '${process.execPath}' ${quoted.join(' ')}`,
  modules: ['ip_vs', 'tun'],
  memoryMegabytes: 512,
  timeoutMs: 600_000,
})
process.stdout.write(stdout)
process.stderr.write(stderr)
process.exitCode = status
