#!/usr/bin/env node
/**
 * Replaces the virtual services of a running uvsd by those on stdin, as ipvsadm-restore does: clears first,
 * and passes over lines that start with a #. (uvsd itself, on SIGHUP, changes only what differs.)
 */
import { text } from 'node:stream/consumers'
import { takeSocket, uvsadm } from './uvsadm-main.js'

const { socket, rest } = takeSocket(process.argv.slice(2))
if (rest.length === 0) {
  const lines = (await text(process.stdin)).split('\n').filter((line) => !line.startsWith('#'))
  const stdin = (async function* () {
    yield lines.join('\n')
  })()
  process.exitCode = await uvsadm(socket, [['-C'], ['-R']], stdin)
} else {
  process.stderr.write(
    `uvsadm-restore: ${rest[0]}: unknown option; uvsadm-restore [--socket PATH] < FILE\n`,
  )
  process.exitCode = 1
}
