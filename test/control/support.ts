/** ipvsadm's command lines on a director in this process. */
import { Writable } from 'node:stream'
import type { Command } from '../../src/core/commands.js'
import { describeConnections } from '../../src/core/describe.js'
import { toCommandError, type CommandResult } from '../../src/control/api.js'
import { Names } from '../../src/control/ipvsadm/names.js'
import { runIpvsadm, type Backend } from '../../src/control/ipvsadm/run.js'
import { Harness } from '../core/harness.js'

/** What a command line said and how it ended. */
export interface Outcome {
  stdout: string
  stderr: string
  status: number
}

export class InProcess implements Backend {
  readonly harness = new Harness()
  private readonly names = new Names()

  execute(commands: Command[]): Promise<CommandResult[]> {
    return Promise.resolve(
      commands.map((command) => {
        try {
          // As it would arrive over the socket.
          return { reply: JSON.parse(JSON.stringify(this.harness.execute(command))) as unknown }
        } catch (error) {
          return { error: toCommandError(error) }
        }
      }),
    )
  }

  async *connections() {
    yield [...describeConnections(this.harness.director.table, this.harness.now)]
  }

  async run(args: readonly string[], stdin = ''): Promise<Outcome> {
    const stdout = new Collector()
    const stderr = new Collector()
    const input = (async function* () {
      yield await Promise.resolve(stdin)
    })()
    const streams = { stdin: input, stdout, stderr }
    const status = await runIpvsadm(args, this, streams, this.names, 'ipvsadm')
    return { stdout: stdout.text, stderr: stderr.text, status }
  }
}

class Collector extends Writable {
  text = ''

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    done()
  }
}
