#!/usr/bin/env node
/** Writes the virtual services of a running uvsd to stdout as uvsadm-restore reads them; -n for numbers. */
import { takeSocket, uvsadm } from './uvsadm-main.js'

const { socket, rest } = takeSocket(process.argv.slice(2))
const unknown = rest.find((word) => word !== '-n')
if (unknown === undefined) {
  process.exitCode = await uvsadm(socket, [rest.length > 0 ? ['-S', '-n'] : ['-S']])
} else {
  process.stderr.write(
    `uvsadm-save: ${unknown}: unknown option; uvsadm-save [--socket PATH] [-n]\n`,
  )
  process.exitCode = 1
}
