import { ApiClient } from '../control/api-client.js'
import { takeSocket } from './uvsadm-main.js'

const help = `Lists what a running uvsd has programmed into the kernel for its ports, each as the command that would do
the same. All of it goes when uvsd ends.

Usage: uvs plumbing [--socket PATH] [--json]
`

/** `uvs plumbing`: the kernel's side of a running director. */
export async function main(args: string[]): Promise<number> {
  const { socket, rest } = takeSocket(args)
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(help)
    return 0
  }
  const unknown = rest.find((arg) => arg !== '--json')
  if (unknown !== undefined) {
    process.stderr.write(`uvs plumbing: it takes no '${unknown}'\n`)
    return 2
  }
  const { plumbing } = (await new ApiClient(socket).status()) as { plumbing: string[] }
  process.stdout.write(
    rest.includes('--json')
      ? `${JSON.stringify(plumbing, undefined, 2)}\n`
      : plumbing.map((command) => `${command}\n`).join(''),
  )
  return 0
}
