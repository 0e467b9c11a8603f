import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { ApiClient } from '../control/api-client.js'
import { runSysctl } from '../control/sysctl.js'
import { takeSocket } from './uvsadm-main.js'

/** `uvs sysctl`: the settings net.ipv4.vs.* of a running director, as sysctl(8) has them. */
export async function main(args: string[]): Promise<number> {
  const { socket, rest } = takeSocket(args)
  const client = new ApiClient(socket)
  return runSysctl(rest, (commands) => client.execute(commands), {
    stdout: (out) => process.stdout.write(out),
    stderr: (out) => process.stderr.write(out),
    readFile: (path) => (path === '-' ? text(process.stdin) : readFile(path, 'utf8')),
  })
}
