# Debian's programs at work: bash, coreutils, util-linux, procps, rt-tests, numactl, htop, the dynamic loader. What differs
# from run to run (addresses, ids, times) is made equal, so that the output of two kernels can be compared.

# All that is printed goes through one filter: process ids in what bash and others say about a process.
if [ "$1" != inner ]; then
    # busybox fills in what is not there, such as awk, and udev's links.
    for applet in $(/bin/busybox --list); do
        type -P "$applet" >/dev/null || /bin/busybox ln -s /bin/busybox "/bin/$applet"
    done
    ln -sf bash /bin/sh
    ln -sf /proc/self/fd /dev/fd
    bash "$0" inner 2>&1 | sed -u -E -e 's/line [0-9]+: +[0-9]+ ([A-Z])/line N: PID \1/' -e "s/pid [0-9]+'s/pid PID's/" \
        -e 's/--target [0-9]+/--target PID/' -e 's/\r$//'
    exit "${PIPESTATUS[0]}"
fi

cd /tmp || exit 1
export LC_ALL=C HOME=/root TERM=dumb SHELL=/bin/bash

# Prints a command, its output and its status.
try() {
    echo "\$ $*"
    "$@" 2>&1
    local status=$?
    [ $status = 0 ] || echo "status $status"
}
numbers() { sed -E 's/[0-9]+/N/g'; }
spaces() { sed -E -e 's/[ \t]+/ /g' -e 's/^ //' -e 's/ $//'; }

echo '== bash'
echo "${BASH_VERSION%%.*} $((6 * 7)) $(printf '%03d' 5) ${#HOME}"
declare -A map=([one]=1 [two]=2); for key in one two; do echo "$key ${map[$key]}"; done
coproc up { while read -r line; do echo "${line^^}"; done; }
echo hello >&"${up[1]}"; read -r answer <&"${up[0]}"; echo "$answer"
exec {up[1]}>&-; wait "$up_PID"; echo "coproc $?"
diff <(printf '1\n2\n') <(printf '1\n3\n'); echo "status $?"
trap 'echo usr1' USR1; kill -USR1 $$; trap - USR1
(trap 'echo bye' EXIT; exit 4); echo "status $?"
set -o pipefail; false | true; echo "pipe ${PIPESTATUS[*]-}"; set +o pipefail
{ sleep 100 & } 2>/dev/null; kill %%; wait %% 2>/dev/null; echo "killed $?"
for i in 1 2 3; do (exit $i) & done; wait -n; echo "first $(($? > 0))"; wait
(ulimit -n 64; ulimit -n); (ulimit -v 1; /bin/true) 2>/dev/null; echo "status $?"
{ time -p true; } 2>&1 | numbers
mapfile -t lines < <(seq 5); echo "${lines[@]:1:3}"
read -r -t 0.1 nothing < <(sleep 5); echo "timeout $(($? > 128))"
shopt -s globstar; mkdir -p tree/a/b; touch tree/a/b/c; echo tree/**
test -t 0; echo "terminal $?"
bash -c 'echo $0 $1; exec -a other bash -c "echo \$0"' name arg

echo '== the dynamic loader'
loader=$(echo /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1 | tr ' ' '\n' | while read -r f; do [ -e "$f" ] && echo "$f"; done)
"$loader" --list /bin/ls | sed -E 's/0x[0-9a-f]+/ADDR/g'
"$loader" --verify /bin/ls; echo "status $?"
"$loader" /bin/echo loaded
LD_DEBUG=statistics "$loader" /bin/true 2>&1 | grep -c 'number of relocations'
LD_SHOW_AUXV=1 /bin/true | sed -E -e 's/0x[0-9a-f]+|[0-9a-f]{6,}/ADDR/g' | spaces | grep -v -e RSEQ -e HWCAP -e AT_MINSIGSTKSZ -e '??'
LD_PRELOAD=/nowhere.so /bin/true; echo "status $?"
LD_BIND_NOW=1 LD_TRACE_LOADED_OBJECTS=1 /bin/cat | sed -E 's/0x[0-9a-f]+/ADDR/g'

echo '== coreutils'
try nproc
seq 100000 | sort -rn | head -n 2
seq 100000 | shuf | sort -n --parallel=4 | sha256sum
yes | head -c 1000000 | wc -c
timeout 0.2 sleep 10; echo "status $?"
timeout -s KILL 0.2 sleep 10; echo "status $?"
timeout --preserve-status 0.2 sleep 10; echo "status $?"
nice -n 5 nice; nice -n -5 nice
dd if=/dev/zero of=big bs=64k count=16 2>/dev/null; truncate -s 4M big; stat -c '%s %b %F %a' big; cp --sparse=always big copy; cmp big copy; stat -c %b copy
ln -s big link; readlink -f link; mkfifo fifo; (echo through >fifo &); cat fifo; stat -c '%F' fifo /dev/null /tmp
install -m 4755 /bin/true suid; stat -c %A suid; touch -d @1000000000.5 stamp; stat -c %.9Y stamp
tail -f --pid=$$ -n 1 /etc/group >followed & sleep 0.3; kill $!; wait $! 2>/dev/null; cat followed
stdbuf -oL echo buffered; env -i A=1 /usr/bin/env; date -d @0 -u +%FT%TZ
df -T /tmp /proc | spaces | awk '{print $1, $2, $7}'
mktemp -d -p /tmp XXXX | wc -c; uname -s -m -o; id; who | wc -l; stat -f -c '%T %S' /tmp /proc /sys
ls -la --time-style=+ tree | spaces | grep -v total
tee -a one two </etc/group | cksum; split -n l/2 /etc/group part; cat partaa partab | cmp - /etc/group
chmod 000 one; chown nobody:nogroup one; stat -c '%A %U %G' one; sync; sync -f one; fallocate -l 8192 two; stat -c '%s' two

echo '== util-linux: namespaces'
try unshare --uts bash -c 'hostname inner; hostname'
try hostname
try unshare --pid --fork --mount-proc bash -c 'echo $$; ps -o pid,comm'
try unshare --user --map-root-user bash -c 'id -u; cat /proc/self/uid_map /proc/self/setgroups' | spaces
try unshare --user bash -c 'id -u; id -g'
try unshare --mount bash -c 'mount -t tmpfs none /mnt; touch /mnt/seen; ls /mnt'
try ls -A /mnt
try unshare --ipc bash -c 'ipcmk -Q >/dev/null; ipcs -q | grep -c 0x; ipcrm --all=msg; ipcs -q | grep -c 0x'
try unshare --time --boottime 1000000 --fork bash -c 'read -r up _ </proc/uptime; echo $((${up%.*} >= 1000000))'
try unshare --net ls /proc/self/ns/net
try unshare --cgroup true
try unshare --pid --fork --kill-child bash -c 'kill -9 $$; echo not killed'
try unshare --root=/nowhere true
unshare --uts --pid --fork sleep 1000 & outer=$!
while ! inner=$(pgrep -P $outer); do sleep 0.1; done
try nsenter --target "$inner" --uts --pid bash -c 'hostname; ps -p 1 -o comm='
nsenter --target "$inner" --all true; echo "all $?"
# How many processes share the first namespaces depends on the kernel threads: only those made here are counted.
lsns -n -p "$inner" -o TYPE,NPROCS | spaces | sed -E 's/ [3-9]$| [0-9]{2,}$/ many/' | sort
lsns -n -t pid -o TYPE,COMMAND | spaces | sed -E 's/^pid .*init.*/pid init/' | sort -u
lsns -n -t uts -o TYPE,NPROCS,COMMAND "$(stat -L -c %i /proc/"$inner"/ns/uts)" | spaces
readlink /proc/"$inner"/ns/uts | numbers
kill -9 "$inner"; wait $outer 2>/dev/null

echo '== util-linux: scheduling and limits'
sleep 1000 & pid=$!
plain() { sed "s/$pid/PID/g"; }
chrt -p $pid | plain
chrt -f -p 10 $pid; chrt -p $pid | plain
chrt -r -R -p 20 $pid; chrt -p $pid | plain
chrt -d --sched-runtime 1000000 --sched-deadline 5000000 --sched-period 10000000 -p 0 $pid; chrt -p $pid | plain
chrt -b -p 0 $pid; chrt -p $pid | plain
chrt -i -p 0 $pid; chrt -p $pid | plain
chrt -o -p 0 $pid; chrt -p $pid | plain
try chrt -m
try chrt -f 100 true
taskset -p $pid | plain; taskset -pc 0,2 $pid | plain; taskset -cp $pid | plain
try taskset -c 1 nproc
try taskset -c 99 true
renice -n 7 -p $pid | plain; ps -o ni= -p $pid | spaces
ionice -p $pid; ionice -c 3 -p $pid; ionice -p $pid; ionice -c 2 -n 0 -p $pid; ionice -p $pid
prlimit --pid $pid --nofile=100:200 --core=0; prlimit --pid $pid --noheadings --output RESOURCE,SOFT,HARD --nofile --core --cpu | spaces
prlimit --noheadings --output RESOURCE | spaces | tr '\n' ' '; echo
try prlimit --nproc=1:1 setpriv --reuid 1234 --clear-groups bash -c 'true | true' 2>&1 | sed 's/bash: line 1: //'
kill $pid; wait $pid 2>/dev/null
choom -p $$ | sed "s/$$/PID/" | numbers; choom -n 500 -- choom -p 0 2>/dev/null | numbers; choom -n 100 -p $$ | sed "s/$$/PID/"

echo '== util-linux: privileges'
setpriv --dump | grep -v -i -e 'capability bounding' -e inheritable -e label -e secure | spaces
setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all id
setpriv --reuid 1000 --regid 1000 --groups 5,6 bash -c 'id; grep -e CapEff -e CapPrm -e NoNewPrivs /proc/self/status; cat /proc/1/environ' 2>&1 | spaces
setpriv --no-new-privs grep NoNewPrivs /proc/self/status | spaces
setpriv --bounding-set -all,+net_raw grep CapBnd /proc/self/status | spaces
setpriv --ambient-caps +net_raw --inh-caps +net_raw --reuid 1000 --clear-groups grep CapAmb /proc/self/status | spaces
setpriv --securebits +noroot grep CapEff /proc/self/status | spaces
setpriv --pdeathsig TERM bash -c 'echo death'

echo '== util-linux: ipc, mounts, the rest'
ipcmk -M 65536 -Q -S 3 | sed -E 's/: [0-9]+$/: N/'
ipcs -l | grep -v -e '^$' | head -n 20
ipcs -u | numbers | grep -v '^$'
ipcs -m | awk 'NR > 3 && NF {print $3, $4, $5, $6}'; ipcs -s | awk 'NR > 3 && NF {print $3, $4, $5}'
ipcrm --all; ipcs | grep -c 0x
findmnt -n -o TARGET,FSTYPE,OPTIONS /proc | spaces; findmnt -n -o FSTYPE -T /tmp
mkdir -p m; mount -t tmpfs -o size=1M,mode=700 none m; findmnt -n -o FSTYPE,OPTIONS m | sed 's/,inode64//' | spaces
mount --bind tree m; ls m; mount -o remount,bind,ro m; touch m/x 2>&1; umount m; mountpoint m; umount m; mountpoint -q m; echo $?
mount --make-shared / && findmnt -n -o PROPAGATION /; mount --make-private /
flock lock -c 'flock -n lock -c true; echo busy $?'; flock -w 1 -x lock echo free
script -q -c 'tty | tr -d 0-9; stty size' /dev/null </dev/null | tr -d '\r'
setsid -w bash -c 'ps -o sid= -p $$ | grep -c -w $$'; getopt -o ab: -- -a -b x y
lscpu | grep -e '^CPU(s)' -e 'On-line' | spaces; lsmem -b --summary=never 2>/dev/null | wc -l | numbers
logger -s --no-act hello 2>&1 | grep -c hello; mcookie | wc -c; fincore -n -b -o SIZE big; namei -m /tmp/link | spaces
dmesg --level=err 2>/dev/null | grep -c panic; cal 1 2000 | head -n 1 | spaces; rev <<<abc; hexdump -C <<<abc; colrm 2 3 <<<abcd; look x /dev/null; column -t <<<'a b'
losetup -f 2>&1 | numbers; blkid; swapon --show; lslocks -n -o TYPE | head -n 1; wdctl 2>&1 | head -n 1
lsfd -n -p $$ -o FD,TYPE 2>/dev/null | spaces | sort | head -n 2

echo '== procps'
ps -o pid=,ppid=,comm= -p 1 | spaces; ps -eo comm= | grep -c kthreadd
bash -c 'sleep 100 & exec ps -o comm,stat,nlwp,tty,uid,euser,ni,pri,cls --ppid $$; kill $!' | spaces
sleep 1234 & pid=$!
pgrep -f 'sleep 1234' | grep -c $pid; pidof sleep | grep -c $pid; pwdx $pid | sed 's/^[0-9]*/PID/'
ps -o args=,lstart= -p $pid | awk '{print $1, $2, NF}'; ps -L -o comm= -p $pid; ps -o wchan= -p $pid | grep -c .
pmap $pid | sed -E -e 's/^[0-9a-f]{8,}/ADDR/' -e 's/^[0-9]+/PID/' -e 's/[0-9]+K/NK/' | spaces | grep -e sleep -e stack -e vdso -e libc
pmap -X $pid | tail -n +2 | head -n 1 | spaces | sed 's/ ProtectionKey//'
pkill -f 'sleep 1234'; wait $pid; echo "status $?"
free -b | awk '{print $1, NF}'; vmstat | awk '{print NF}'; vmstat -s | sed -E 's/^ *[0-9]+ //' ; uptime | numbers | sed -E 's/.*(load)/\1/'
top -b -n 1 -p 1 | head -n 8 | awk '{print $1, $2}' | numbers; top -H -b -n 1 >/dev/null; echo "top $?"; slabtop -o -s c 2>&1 | head -n 1 | sed -E 's/:.*//' ; w -h | wc -l; TERM=vt102 timeout 20 watch -n 0.1 -g 'date +%N' >/dev/null 2>&1; echo "watch $?"
sysctl -n kernel.ostype kernel.pid_max vm.overcommit_memory kernel.hostname; sysctl -w kernel.hostname=other; hostname; sysctl -w kernel.hostname=karst
sysctl -n kernel.threads-max | numbers; sysctl -a 2>/dev/null | grep -c -e '^kernel\.' | sed -E 's/[0-9]{2,}/many/'
tload -d 1 2>&1 | head -c 0; skill -l 2>/dev/null | wc -l; kill -l | head -n 1 | spaces

echo '== rt-tests'
# Figures without their value and width.
figures() { sed -E -e 's/-?[0-9]+/N/g' -e 's/([:(]) +/\1/g' | spaces; }
cyclictest -q -m -p 80 -t 2 -i 1000 -l 200 2>&1 | figures
cyclictest -q -p 80 -S -i 2000 -l 50 -a 2>&1 | wc -l
hackbench -g 2 -l 50 | sed -E 's/[0-9.]+$/N/'; hackbench -p -T -g 2 -l 50 | sed -E 's/[0-9.]+$/N/'
pi_stress --duration 2 --groups 2 --inversions 50 2>&1 | grep -v -i -e inversions -e duration | sed -E 's/[0-9]+/N/g' | spaces
# Its threads speak at the same time.
cyclicdeadline -q -D 1 -i 20000 -t 1 2>&1 | figures | sort
signaltest -q -p 80 -t 2 -l 100 2>&1 | figures
pip_stress 2>&1 | tail -n 1 | sed -E 's,^(No inversion incurred|Successfully used priority inheritance.*)$,none or handled,'; ptsematest -q -p 80 -l 50 -t 1 2>&1 | wc -l; sigwaittest -q -p 80 -l 50 -t 1 2>&1 | wc -l; svsematest -q -p 80 -l 50 -t 1 2>&1 | wc -l
rt-migrate-test -l 5 -q 2>&1 | tail -n 1 | numbers; deadline_test -i 2 -t 1 2>&1 | grep -c -i fail; pmqtest -q -p 80 -l 50 -t 1 2>&1 | wc -l; oslat -D 1s -q 2>/dev/null | wc -l

echo '== numactl'
numactl --show | spaces | grep -v physcpubind; numactl --hardware | numbers
numactl --interleave=0 grep -c interleave /proc/self/numa_maps | sed -E 's/[1-9][0-9]*/some/'
numactl --membind=0 --cpunodebind=0 numactl --show | grep -e policy -e membind | spaces; numastat -n 2>&1 | spaces | awk '{print $1}' | head -n 4; migratepages $$ 0 0; echo "status $?"

echo '== htop'
(sleep 2; printf q) | TERM=vt102 script -q -c 'stty rows 24 cols 80; timeout 20 htop' /dev/null | grep -a -c -e 'Mem' | sed -E 's/[1-9][0-9]*/some/'

echo '== strace'
strace -f -c -o counts bash -c 'true; /bin/true | cat'; awk 'NR > 2 && $NF ~ /^(execve|clone)$/ {print $4, $NF}' counts | sort
strace -e trace=none -e signal=all -o out bash -c 'kill -USR1 $$' ; sed -E 's/si_pid=[0-9]+/si_pid=PID/' out
strace -e inject=getcwd:error=EIO:when=1 -e trace=none pwd 2>&1 | tail -n 1
strace -e trace=openat -P /etc/passwd -o out id -un; cat out
strace --seccomp-bpf -f -e signal=none -e trace=exit_group -o out bash -c '/bin/true; exit 3'; sed -E 's/^[0-9]+ +//' out
strace -k -e trace=exit_group /bin/true 2>&1 | grep -c -e libc.so
strace -y -e trace=write -o out echo hi >/dev/null; cat out; strace -T -r -e trace=exit_group true 2>&1 | numbers
