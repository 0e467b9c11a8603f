import { options, settings, type Option } from './options.js'

/** What -h prints, made from the table that the parser reads. */
export function help(program: string): string {
  const commands = options.filter((option) => option.command)
  const others = options.filter((option) => !option.command)
  const synchronisation = new Set<string>([
    'syncid',
    ...settings.filter((s) => /^mcast|^sync-/.test(s)),
  ])
  return [
    `${program}: virtual services of the uvs director, with the options of ipvsadm 1.31`,
    '',
    'Usage:',
    `  ${program} [--socket PATH] COMMAND [OPTION…]`,
    `  ${program} -A|-E SERVICE [-s SCHEDULER] [-b FLAGS] [-p [SECONDS]] [-M MASK] [-o]`,
    `  ${program} -a|-e SERVICE -r SERVER [-g|-i|-m] [-w N] [-x N] [-y N]`,
    `  ${program} -D SERVICE`,
    `  ${program} -d SERVICE -r SERVER`,
    `  ${program} -L [SERVICE] [-n] [-c | --stats | --rate | --thresholds | --timeout …] [--json]`,
    `  ${program} -Z [SERVICE] | -C | -S [-n] | -R | --set TCP TCPFIN UDP`,
    '',
    'SERVICE is -t|-u|--sctp-service HOST:PORT, or -f MARK [-6].',
    '',
    'Commands (the first word; others follow in any order):',
    ...commands.map(line),
    '',
    'Options:',
    ...others.filter((option) => !synchronisation.has(option.long)).map(line),
    '',
    'Read as ipvsadm reads them, but this version has no connection synchronisation:',
    ...others.filter((option) => synchronisation.has(option.long)).map(line),
    '',
    'The socket is --socket, else $UVS_SOCKET, else /run/uvs/uvsd.sock.',
    'Exit status: 0; 2 when the command line cannot be read; 255 when it is refused.',
    '',
  ].join('\n')
}

function line({ long, short, argument, optional, help: text }: Option): string {
  const names = `${short ? `-${short}, ` : '    '}--${long}`
  const shown = argument === undefined ? '' : optional ? ` [${argument}]` : ` ${argument}`
  return `  ${(names + shown).padEnd(36)} ${text}`
}
