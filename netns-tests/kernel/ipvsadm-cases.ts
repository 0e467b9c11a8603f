/**
 * Command lines that are run through the real ipvsadm and through ours. A story starts with an empty table
 * and the kernel's timeouts; its lines run one after the other.
 */
export interface Line {
  args: readonly string[]
  stdin?: string
}

export interface Story {
  name: string
  lines: readonly Line[]
}

/** `-A -t VIP:80`: words between blanks; '' is an empty word. */
function words(line: string): Line {
  return { args: line === '' ? [] : line.split(' ').map((word) => (word === "''" ? '' : word)) }
}

function story(name: string, lines: string | (string | Line)[]): Story {
  const list = typeof lines === 'string' ? lines.trim().split(/\n\s*/) : lines
  return { name, lines: list.map((line) => (typeof line === 'string' ? words(line) : line)) }
}

const restore = (stdin: string): Line => ({ args: ['-R'], stdin })
const args = (...list: string[]): Line => ({ args: list })

const listings = `
  -L -n
  -Ln --stats
  -Ln --stats --exact
  -Ln --rate
  -Ln --rate --exact
  -Ln --thresholds
  -Ln --persistent-conn
  -Ln --tun-info
  -Ln --stats --rate
  -Ln --rate --thresholds
  -Ln --thresholds --persistent-conn
  -Ln --exact --sort
  -Sn
  -L --numeric -t 10.0.0.1:80
  -L -n -t 10.0.0.1:80 --stats
  -L -n -t 10.0.0.1:80 --rate --exact
  -L -n -u 10.0.0.1:53 --thresholds
  -L -n -f 7
  -L -n -t 10.0.0.99:80`

export const stories: Story[] = [
  story('an empty table', [
    '',
    '-L',
    '-l',
    '-Ln',
    '-Lnc',
    '-Lc',
    '-Lnc --persistent-conn',
    '-Lnc --exact --nosort',
    '-L --timeout',
    '-L --daemon',
    '-L --daemon -n',
    '-L --syncid 5',
    '-S',
    '-Sn',
    '-C',
    '-Z',
    '-R',
  ]),
  story(
    'services and destinations, and all their listings',
    `
  -A -t 10.0.0.1:80
  -A -t 192.168.0.1:80 -s rr
  -A -t 10.100.100.100:10000 -s wrr
  -A -t 200.0.0.1:443 -s lc -p 100 -M 255.255.255.0
  -A -u 10.0.0.1:53 -s rr
  -A -u 10.0.0.2:53 -o
  -A -u 10.0.0.3:53 -o -p
  -A -f 7
  -A -f 8 -p -M 0.0.0.0
  -A -t 10.0.0.4:0 -p
  -a -t 10.0.0.1:80 -r 10.9.0.1
  -a -t 10.0.0.1:80 -r 10.9.0.2:8080 -g
  -a -t 10.0.0.1:80 -r 10.9.0.3:8080 -m -w 5 -x 100 -y 30
  -a -t 10.0.0.1:80 -r 10.9.0.3:8081 -m -w 0
  -a -t 10.0.0.1:80 -r 192.168.1.1:80 -i
  -a -t 10.0.0.1:80 -r 192.168.1.2:80 -i --tun-type ipip
  -a -t 10.0.0.1:80 -r 127.0.0.1 -m
  -a -u 10.0.0.1:53 -r 10.9.0.1 -m -w 65535
  -a -u 10.0.0.1:53 -r 10.9.0.2:5353 -m -w 65536
  -a -u 10.0.0.1:53 -r 10.9.0.3:5353 -m -w 2147483647
  -a -f 7 -r 10.9.0.1:8080 -g
  -a -f 7 -r 10.9.0.2:8080 -m
  -a -f 7 -r 10.9.0.3
  -a -t 10.0.0.4:0 -r 10.9.0.3
  -a -t 10.100.100.100:10000 -r 200.200.200.200:20000 -m${listings}
  -C
  -Ln`,
  ),
  // Saved rules are left out: ipvsadm saves this mark as -1, which it cannot restore.
  story('a mark that is a negative number in C', [
    '-A -f 1',
    '-A -f 4294967295 -s rr -p 20',
    '-Ln',
  ]),
  story(
    'destinations in the order of the kernel',
    `
  -A -t 10.0.0.1:80
  -a -t 10.0.0.1:80 -r 10.9.0.2
  -a -t 10.0.0.1:80 -r 10.9.0.3
  -a -t 10.0.0.1:80 -r 10.9.0.1
  -Ln --nosort
  -Sn
  -d -t 10.0.0.1:80 -r 10.9.0.3
  -a -t 10.0.0.1:80 -r 10.9.0.3
  -L --nosort -n`,
  ),
  story(
    'addresses are sorted as 32-bit integers',
    [200, 10, 192, 60]
      .flatMap((first) => [`-A -t ${first}.0.0.1:80`, `-A -t ${first}.0.0.1:79`])
      .concat(['-Ln', '-Sn']),
  ),
  story(
    'changes',
    `
  -A -t 10.0.0.1:80 -s rr -p 20
  -a -t 10.0.0.1:80 -r 10.9.0.1 -m -w 5 -x 10 -y 3
  -Ln --thresholds
  -e -t 10.0.0.1:80 -r 10.9.0.1
  -Ln
  -Ln --thresholds
  -a -t 10.0.0.1:80 -r 10.9.0.2:8080 -m
  -e -t 10.0.0.1:80 -r 10.9.0.2:8080
  -e -t 10.0.0.1:80 -r 10.9.0.2:8080 -m -w 0
  -Ln
  -d -t 10.0.0.1:80 -r 10.9.0.2
  -d -t 10.0.0.1:80 -r 10.9.0.2:8080
  -E -t 10.0.0.1:80
  -Ln
  -E -t 10.0.0.1:80 -s wrr -p 40 -M 255.255.0.0
  -Sn
  -D -t 10.0.0.1:80
  -Ln`,
  ),
  story(
    'refusals',
    `
  -A -t 10.0.0.1:80
  -A -t 10.0.0.1:80
  -A -t 10.0.0.2:80 -s nosuch
  -A -t 10.0.0.2:80 -s verylongschedulernamexx
  -A -t 10.0.0.2:80 -p --pe nosuch
  -E -t 10.0.0.1:80 -s nosuch
  -E -t 10.0.0.9:80
  -D -t 10.0.0.9:80
  -D -t 10.0.0.1
  -Z -t 10.0.0.9:80
  -Z -f 9
  -a -t 10.0.0.1:80 -r 10.9.0.1 -m
  -a -t 10.0.0.1:80 -r 10.9.0.1 -m
  -a -t 10.0.0.9:80 -r 10.9.0.1
  -a -f 9 -r 10.9.0.1
  -e -t 10.0.0.1:80 -r 10.9.0.9
  -e -t 10.0.0.9:80 -r 10.9.0.1
  -d -t 10.0.0.1:80 -r 10.9.0.9
  -d -t 10.0.0.9:80 -r 10.9.0.1
  -a -t 10.0.0.1:80 -r 224.0.0.1
  -a -t 10.0.0.1:80 -r 0.0.0.0
  -a -t 10.0.0.1:80 -r 255.255.255.255 -m
  -a -t 10.0.0.1:80 -r 10.9.0.2 -y 5
  -a -t 10.0.0.1:80 -r 10.9.0.2 -x 5 -y 6
  -L -t 10.0.0.9:80
  -L -f 9
  --stop-daemon master
  -Ln`,
  ),
  story(
    'options that do not go with a command',
    `
  -A
  -a -t 10.0.0.1:80
  -a -r 10.0.0.1:80
  -d -t 10.0.0.1:80
  -D
  -A -t 10.0.0.1:80 -w 1
  -A -t 10.0.0.1:80 -r 10.0.0.2
  -A -t 10.0.0.1:80 -n
  -A -nt 10.0.0.1:80
  -A -t 10.0.0.1:80 --json-no
  -D -t 10.0.0.1:80 -s rr
  -C -n
  -Z -n
  -Z -n --stats
  -R foo
  -R -n -c
  -S -t 10.0.0.1:80
  -S --stats
  -L -s rr
  -L -w 1
  -L -c --stats
  -Lc --rate
  -L -c --timeout
  -L -c -t 10.0.0.1:80
  -L --timeout --daemon
  -L --timeout --persistent-conn
  -L --timeout --tun-info
  -L --daemon --stats
  -L -t 10.0.0.1:80 -u 1.1.1.1:1
  -L -n -n
  -L --nosort --nosort
  -a -t 10.0.0.1:80 -r 10.9.0.4 -m -g
  -a -t 10.0.0.1:80 -r 10.9.0.4 -m -t 1.2.3.4:5
  -a -t 10.0.0.1:80 -r 10.9.0.4 -r 10.9.0.5
  -A -f 9 -f 10
  -A -t 10.0.0.1:80 -p -p
  --set 1 2 3 -n
  --start-daemon master -n`,
  ),
  story('words as popt reads them', [
    'foo',
    'foo -L',
    '-L foo',
    '-L -- foo',
    '--',
    '-- -L',
    '-L --',
    '-',
    '-L -',
    '-n -L',
    '-x',
    '-?',
    '-L -?',
    '-Lz',
    '-Ln4',
    '-Ln=3',
    '-L --timeout=3',
    '-L --numeric=5',
    '-L --num',
    '--hel',
    '--nosuch',
    '--timeout',
    "''",
    "-L ''",
    '-L -A',
    '-LA',
    '-ALn',
    '-A -t',
    '-A -t -s',
    '-A -t 1.2.3.4:9 -s',
    '-A -t 1.2.3.4:9 --scheduler',
    '-A --t 1.2.3.4:9',
    '-A --tcp 1.2.3.4:9',
    '-A -tcp-service 1.2.3.4:9',
    '-A -t 10.0.0.1:80 -v',
    '-A -t 10.0.0.1:80 -h',
    '-A -t 10.0.0.4:80 -p -s rr',
    '-A -t 10.0.0.4:81 -p 10 -s rr',
    '-A -t 10.0.0.4:82 -p10 -s=rr',
    '-A -t=10.0.0.4:83 -p=10 -srr',
    '-A --tcp-service=10.0.0.4:84 --persistent=20',
    '-At10.0.0.4:85',
    '-A --persistent -t 10.0.0.4:86',
    '-A -t 10.0.0.4:87 --persistent= -s rr',
    '-A -t 10.0.0.4:88 --scheduler= -p',
    '-A -t 10.0.0.4:89 -s= -p',
    "-A -t 10.0.0.4:90 -s ''",
    "-A -t 10.0.0.4:91 --pe ''",
    '-A -t 10.0.0.4:92 -p -1',
    '-Ln',
  ]),
  story('addresses and ports', [
    '-A -t 80',
    "-A -t ''",
    '-A -t 10.0.0.4',
    '-A -t 10.0.0.4:0',
    '-A -t [10.0.0.4]:86',
    '-A -t 10.4:80',
    '-A -t 10.0.0.4:80',
    '-A -t 0x0a000005:80',
    '-A -t 010.0.0.5:80',
    '-A -t 08.0.0.5:80',
    '-A -t 1.65536:9',
    '-A -t 1.1.65535:9',
    '-A -t 1.1.65536:9',
    '-A -t 184549377:9',
    '-A -t 4294967296:9',
    '-A -t -1:9',
    '-A -t 1..2:9',
    '-A -t :9',
    '-A -t 0x:9',
    '-A -t 0:80',
    '-A -t 300.0.0.1:80',
    '-A -t 1.2.3.4.5:80',
    '-A -t 1.2.3.4x:9',
    '-A -t 10.0.0.6:http',
    '-A -u 10.0.0.6:domain',
    '-A -u 10.0.0.9:http',
    '-A -t 10.0.0.6:nosuch',
    '-A -t localhost:80',
    '-A -t [localhost]:9 -p',
    '-A -t [localhost:9 -p',
    '-A -t localhost -p',
    '-A -t nosuchhost.invalid:80',
    '-A -t 10.0.0.6:',
    '-A -t 10.0.0.6:70000',
    '-A -t 10.0.0.6:-1',
    '-A -t 10.0.0.6:80:90',
    '-A -t 10.0.0.7:+80',
    '-A -t 10.0.0.8:080',
    '-A -t 10.0.0.8:0x50',
    '-A -t ::1%lo -p',
    '-A -t [2001:db8::a] -p',
    '-A -t [2001:db8::b -p',
    args('-A', '-t', ' 10.0.0.9:80'),
    args('-A', '-t', '10.0.0.9 :80'),
    args('-A', '-t', '10.0.0.9: 81'),
    args('-A', '-t', '1.2.3.4 x:9'),
    '-A --sctp-service 10.0.0.1:http',
    '-a -t 10.4:80 -r 80',
    '-a -t 10.4:80 -r 10.9.0.9:nosuch',
    '-a -t 10.4:80 -r 10.9.0.9:http',
    '-a -t 10.4:80 -r [10.9.0.10]:http',
    '-a -t 10.4:80 -r 10.9.1 -i',
    '-a -t 10.4:80 -r 2001:db8::1 -m',
    '-a -t 10.4:80 -r [2001:db8::1] -m',
    '-Ln',
    '-A -t 224.0.0.1:80',
    '-A -t 4294967295:9',
  ]),
  story('names instead of numbers', [
    '-A -t 127.0.0.1:80',
    '-a -t 127.0.0.1:80 -r 127.0.0.1:8080 -m',
    '-a -t 127.0.0.1:80 -r 127.0.0.1:9999 -m',
    '-A -u 127.0.0.1:53',
    '-A -u 127.0.0.1:80',
    '-A -f 1',
    '-a -f 1 -r 127.0.0.1:80 -m',
    '',
    '-L',
    '-L --stats',
    '-S',
    '-L -t localhost:http',
    '-L -c',
  ]),
  story(
    'numbers',
    `
  -A -f 0
  -A -f -1
  -A -f 0x10
  -A -f 4294967296
  -A -f 5x
  -A -6 -f 3
  -A -t 10.0.0.6:80 -p 0
  -A -t 10.0.0.6:80 -p 1x
  -A -t 10.0.0.6:80 -p99999999999999999999
  -A -t 10.0.0.6:80 -p ''
  -A -t 10.0.0.6:80 -p 2678400
  -A -t 10.0.0.7:80 -p 2678401
  -A -t 10.0.0.7:80 -M 255.255.0.0
  -A -M 255.255.255.0 -t 10.0.0.8:80 -p
  -A -t 10.0.0.9:80 -p -M 255.255.255.128
  -A -t 10.0.0.10:80 -p -M foo.invalid
  -A -t 10.0.0.10:80 -o
  -a -t 10.0.0.6:80 -r 10.9.0.2 -w -1
  -a -t 10.0.0.6:80 -r 10.9.0.2 -w x
  -a -t 10.0.0.6:80 -r 10.9.0.2 -w 2147483648
  -a -t 10.0.0.6:80 -r 10.9.0.2 -x -1
  -a -t 10.0.0.6:80 -r 10.9.0.2 -x 2147483647 -y 2147483648
  -a -t 10.0.0.6:80 -r 10.9.0.2 -x 2147483647 -y 2147483647
  -Ln
  -Ln --thresholds
  -Sn`,
  ),
  story(
    'timeouts',
    `
  --set 1 2 3
  -L --timeout
  --set 0 0 0
  -L --timeout
  --set 0 5 0
  -L --timeout
  --set 2678400 1 1
  -L --timeout
  --set 2678401 1 1
  --set
  --set 1 2
  --set 1 2 3 4
  --set x 1 2
  --set -1 1 1
  --set +7 8 9
  -L --timeout`,
  ),
  story(
    'flags of schedulers',
    `
  -A -t 10.0.0.1:81 -s sh -b mh-port
  -A -t 10.0.0.1:82 -s mh -b sh-port
  -A -t 10.0.0.1:83 -b flag-1,flag-3 -s rr
  -A -t 10.0.0.1:84 -b nosuch -s rr
  -A -t 10.0.0.1:84 -b sh-port
  -A -t 10.0.0.1:88 -b '' -s rr
  -A -t 10.0.0.1:89 -b flag-1,,flag-2 -s rr
  -A -t 10.0.0.1:90 -b flag-3,flag-2,flag-1
  -L -b nosuch
  -Ln
  -Sn`,
  ),
  story(
    'tunnels',
    `
  -A -t 10.0.0.1:80
  -a -t 10.0.0.1:80 -r 10.9.0.10 -i --tun-type ipip --tun-csum
  -a -t 10.0.0.1:80 -r 10.9.0.10 -i --tun-type foo
  -a -t 10.0.0.1:80 -r 10.9.0.10 -i --tun-type gue
  -a -t 10.0.0.1:80 -r 10.9.0.10 -i --tun-type gue --tun-port 0
  -a -t 10.0.0.1:80 -r 10.9.0.10 -i --tun-type gue --tun-port 65536
  -a -t 10.0.0.1:80 -r 10.9.0.11 -i --tun-type gue --tun-port 65534 --tun-csum --tun-nocsum
  -a -t 10.0.0.1:80 -r 10.9.0.13 -i --tun-type gre --tun-remcsum
  -a -t 10.0.0.1:80 -r 10.9.0.13 -i --tun-type gre --tun-port 5
  -a -t 10.0.0.1:80 -r 10.9.0.14 -i --tun-type gre --tun-csum --tun-nocsum
  -a -t 10.0.0.1:80 -r 10.9.0.15 -i --tun-csum
  -a -t 10.0.0.1:80 -r 10.9.0.15 -m --tun-type ipip
  -a -t 10.0.0.1:80 -r 10.9.0.15 --tun-csum
  -a -t 10.0.0.1:80 -r 10.9.0.15 -i --tun-type ipip
  -a -t 10.0.0.1:80 -r 10.9.0.16 -i --tun-type gue --tun-port 6080
  -a -t 10.0.0.1:80 -r 10.9.0.17 -i --tun-port 65535 --tun-type gue --tun-csum
  -a -t 10.0.0.1:80 -r 10.9.0.18 --tun-remcsum -i --tun-type gue --tun-port 1
  -a -t 10.0.0.1:80 -r 10.9.0.19 -i --tun-type gre
  -a -t 10.0.0.1:80 -r 10.9.0.20 -i --tun-type gre --tun-csum
  -a -t 10.0.0.1:80 -r 10.9.0.21 -i --tun-csum --tun-csum --tun-type gre
  -e -t 10.0.0.1:80 -r 10.9.0.19 -i -w 2
  -e -t 10.0.0.1:80 -r 10.9.0.20 -w 2
  -e -t 10.0.0.1:80 -r 10.9.0.15 -i --tun-type gre
  -Ln
  -Sn
  -Ln --tun-info`,
  ),
  story(
    'synchronisation',
    `
  --start-daemon foo
  --start-daemon
  --stop-daemon foo
  --start-daemon master --syncid 300
  --start-daemon master --mcast-interface lo --mcast-ttl 0
  --start-daemon master --mcast-group 1.2.3.4
  --start-daemon master --mcast-group ff05::x
  --start-daemon master --mcast-group 2001:db8::1
  --start-daemon master --mcast-port 0
  --start-daemon master --sync-maxlen 0
  --start-daemon master --sync-maxlen 65508`,
  ),
  story('restoring', [
    restore('-A -t 10.1.0.1:80\n# comment\n-A -t 10.1.0.2:80\n'),
    '-Ln',
    restore('-A -t 10.2.0.1:80 -s nosuch\n-A -t 10.2.0.2:80\n'),
    restore('-A -t 10.3.0.1:80\n-A -t 10.3.0.1:80\n'),
    restore('ipvsadm -A -t 10.4.0.1:80\n\n  \n-A\t-t  10.4.0.2:80  \n-L -n -t 10.4.0.1:80'),
    restore('-A -t 10.5.0.1:80\n-A -t 10.5.0.2:80 -w 1\n-A -t 10.5.0.3:80\n'),
    restore('-A -t 10.6.0.1:80\n-L -n -t 10.6.0.2:80\n-A -t 10.6.0.3:80\n'),
    restore('-R\n'),
    restore('-A -t 10.7.0.1:80 # comment\n'),
    restore('-A -t 10.8.0.1:80\r\n-a -t 10.8.0.1:80 -r 10.9.0.1:8080 -m -w 3\r\n'),
    '-Ln',
    restore('-C\n'),
    '-Ln',
  ]),
  story('counters set to zero', [
    '-A -t 10.0.0.1:80',
    '-A -f 7',
    '-Z -t 10.0.0.1:80',
    '-Z -f 7',
    '-Z -t 0.0.0.0',
    '-Z',
  ]),
]
