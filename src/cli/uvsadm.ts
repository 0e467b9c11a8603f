#!/usr/bin/env node
/** Configures a running uvsd with ipvsadm's options. `--socket PATH` may stand in front of them. */
import { takeSocket, uvsadm } from './uvsadm-main.js'

const { socket, rest } = takeSocket(process.argv.slice(2))
process.exitCode = await uvsadm(socket, [rest])
