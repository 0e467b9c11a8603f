#!/usr/bin/env node
/**
 * The toolbox: one word says which tool, the rest is the tool's own. Each tool is a module here with
 * `main(args)`, which resolves to the exit status, and is loaded only when it is asked for.
 */
interface Tool {
  readonly summary: string
  readonly load: () => Promise<{ main(args: string[]): number | Promise<number> }>
}

const tools: Record<string, Tool> = {
  lab: {
    summary: 'balance real traffic between network namespaces, and say how it was shared out',
    load: () => import('./lab.js'),
  },
  replay: {
    summary: 'run a scenario through the director in virtual time, and trace what it does',
    load: () => import('./replay.js'),
  },
  parity: {
    summary:
      'scenarios through the director and through a real kernel: the first difference, explained',
    load: () => import('./parity.js'),
  },
  explain: {
    summary: 'what the director does with a packet of a scenario, and why',
    load: () => import('./explain.js'),
  },
  mark: {
    summary: 'marking rules of a running director, as iptables -j MARK has them',
    load: () => import('./mark.js'),
  },
  sysctl: {
    summary: 'settings of a running director: net.ipv4.vs.*, as sysctl has them',
    load: () => import('./sysctl.js'),
  },
  counters: {
    summary: 'what has become of the packets: by port, and by reason those not forwarded',
    load: () => import('./counters.js'),
  },
  mirror: {
    summary: 'keep the kernel’s IPVS configured as a running director, or show where they differ',
    load: () => import('./mirror.js'),
  },
  plumbing: {
    summary: 'what a running director has programmed into the kernel for its ports',
    load: () => import('./plumbing.js'),
  },
  oracle: {
    summary: "run scenarios through a real kernel's IPVS, and trace what it does",
    load: () => import('./oracle.js'),
  },
  bench: {
    summary: 'what uvs costs, beside its peers and the machine’s limits, measured in the same run',
    load: () => import('./bench.js'),
  },
  doctor: {
    summary: 'what this machine can do for uvs, and what it cannot',
    load: () => import('./doctor.js'),
  },
}

const help = `uvs, the toolbox of the userspace virtual server

Usage: uvs TOOL [ARGUMENT…]
       uvs TOOL --help

${Object.entries(tools)
  .map(([name, tool]) => `  ${name.padEnd(10)}${tool.summary}`)
  .join('\n')}

The director itself is uvsd; uvsadm configures it as ipvsadm configures IPVS.
`

// Whoever reads us may stop reading (`uvs replay … | head`).
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  process.stderr.write(`uvs: standard output: ${error.message}\n`)
  process.exit(1)
})

const [name, ...rest] = process.argv.slice(2)
if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
  const stream = name === undefined ? process.stderr : process.stdout
  stream.write(help)
  process.exitCode = name === undefined ? 2 : 0
} else if (!Object.hasOwn(tools, name)) {
  process.stderr.write(`uvs: there is no tool '${name}'; uvs --help lists them\n`)
  process.exitCode = 2
} else {
  try {
    process.exitCode = await (await tools[name]!.load()).main(rest)
  } catch (error) {
    process.stderr.write(`uvs ${name}: ${(error as Error).message}\n`)
    process.exitCode = 1
  }
}
