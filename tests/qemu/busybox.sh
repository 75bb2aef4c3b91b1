# A tour of more than a hundred busybox applets. What it prints is compared byte for byte with what
# it prints on Linux 6.12 (busybox.expected, recorded by `cargo xtask test --oracle --bless`), so it
# prints nothing that differs from run to run: no process ids, no times of day, no sizes of memory.

export LC_ALL=C TZ=UTC PATH=/bin:/sbin:/usr/bin:/usr/sbin
umask 022
t=/tmp/tour
rm -rf $t
mkdir -p $t
cd $t || exit 1
part() { echo "== $*"; }
# The exit status of a command that is expected to fail.
fails() { "$@" 2>&1; echo "-> $?"; }

part echo, printf, seq, yes, head, tail
echo one two; echo -n no newline; echo; echo -e 'tab\tnew\\line'
printf '%s=%05d %x %o %c %%\n' a 42 255 8 xyz
seq 1 5 | tr '\n' ' '; echo
seq 10 -3 0 | xargs
yes x | head -n 3
seq 1 20 | tail -n 3
seq 1 20 | tail -n +18
seq 1 9 | head -c 7; echo

part cat, tac, rev, nl, wc, fold, expand, unexpand, paste
printf 'a b\nc d\n\ne f\n' > lines
cat lines - < /dev/null | tac
rev lines
nl lines
cat -n lines
wc lines; wc -l < lines; wc -c lines
echo abcdefghij | fold -w 4
printf 'a\tb\n' | expand | unexpand -a | od -c
seq 1 6 | paste - - -
printf '1\n2\n' > p1; printf 'x\ny\n' > p2; paste -d: p1 p2

part sort, uniq, cut, tr, shuf
printf 'pear 3\napple 10\nfig 2\napple 9\n' > fruit
sort fruit; sort -k2n fruit; sort -r -k1,1 -s fruit
sort fruit | cut -d' ' -f1 | uniq -c
cut -c2-4 fruit
cut -d' ' -f2 fruit | sort -n | xargs
tr a-z A-Z < fruit | tr -d ' ' | tr -s P
seq 1 100 | shuf | sort -n | md5sum
seq 1 5000 | shuf -n 5000 | sort -nr | tail -n 1

part grep, egrep, fgrep, sed, awk
grep -n apple fruit; grep -v apple fruit; grep -c a fruit; grep -i FIG fruit
egrep '^(fig|pear) [0-9]$' fruit; fgrep -w 10 fruit
fails grep nothing fruit
grep -o '[0-9]*' fruit | xargs
sed -e 's/\([a-z]*\) \([0-9]*\)/\2 \1/' -e '/^9/d' fruit
sed -n '2,3p;$=' fruit
sed '1i\
inserted' fruit | sed '$a\
appended'
cp fruit inplace; sed -i 's/fig/date/' inplace; cat inplace
awk '{ sum[$1] += $2 } END { for (k in sum) print k, sum[k] }' fruit | sort
awk -F: 'BEGIN { printf "%.3f %d %s\n", 22 / 7, 7 / 2, toupper("abc") } { print NR, $1, NF }' /etc/passwd
awk 'BEGIN { while (("seq 1 3" | getline n) > 0) s += n; print s; print length("héllo"), substr("kernel", 2, 3), index("kernel", "n") }'
seq 1 1000 | awk '$1 % 7 == 0 { n++; last = $1 } END { print n, last }'

part expr, test, bc, dc, factor, let
expr 7 \* 6 + 1; expr length karst; expr substr karst 2 3; fails expr 1 / 0
test -f fruit && echo file; [ -d . ] && echo dir; [[ abc = a?c ]] && echo pattern
echo '2^100; scale=5; 22/7; sqrt(2)' | bc
echo '6 7 * p' | dc
factor 1001 97 4294967297
echo $((0x1f + 010 + (5 > 3 ? 1 : 0))) $((1 << 40)) $((-7 / 2)) $((-7 % 3))

part files: cp, mv, ln, rm, mkdir, rmdir, touch, mktemp, truncate, fallocate, link, unlink
mkdir -p a/b/c d; echo data > a/b/c/file
cp -r a copy; cp -p fruit d/; mv d/fruit d/moved
ln -s moved d/soft; ln d/moved d/hard
touch -d '2020-02-02 02:02:02' d/moved a/b/c/file a/b; chmod 640 d/moved
ls -l d | awk '{ print $1, $2, $3, $4, $5, $NF }'
ls -lR --full-time d | awk 'NF > 5 && !/soft/ { print $6, $7, $9 }'
readlink d/soft; readlink -f d/soft; realpath a/../d/soft
stat -c '%n %F %s %a %U:%G %h %Y' d/moved a/b
ls -1F . | head -n 5; ls -a d
rmdir a/b/c 2>/dev/null || echo not empty
fails rm missing; rm -f missing
rm -r copy; ls -d copy 2>&1
mkdir -m 700 made; cp fruit made/f; chmod 600 made/f; stat -c %a made made/f
f=$(mktemp -p $t tmp.XXXXXX); [ -f "$f" ] && echo made; [ "$(stat -c %a "$f")" = 600 ] && echo private; rm "$f"
truncate -s 1M big; stat -c '%s %b' big; fallocate -l 64K alloc; stat -c '%s %b' alloc
link fruit fruit2; unlink fruit2; basename /x/y.c .c; dirname /x/y.c
fails rmdir missing; fails mkdir a; fails cp missing x; fails mv missing x; fails ln fruit d/hard

part owners and modes: chmod, chown, chgrp, umask, id, groups, whoami
touch m; chmod u=rwx,g=rx,o= m; stat -c %A m; chmod a-x,u+s m; stat -c %A m; chmod 1777 d; stat -c %A d; chmod 755 d
chown 12:34 m; stat -c '%u %g' m; chgrp 0 m; stat -c '%u %g' m
id; id -u nobody; groups; whoami; logname 2>/dev/null || echo no login
(umask 077; touch u; stat -c %a u); umask

part find, xargs, du, df
find . -name '*f*' -type f | sort
find a -type d -exec echo dir {} \; | sort
find . -size +500k | sort; find . -newer d/moved -name lines
find . -perm 640 -o -type l | sort
find a -depth | xargs -n 1 echo item
printf 'a b\0c d\0' | xargs -0 -n 1 echo
seq 1 10 | xargs -n 3 -P 1 echo
du -s a made; du -h alloc; du -a a | sort -k2
df -P . | awk 'NR == 1 || /tmp/ { print $1, $6 }'

part archives: tar, cpio, gzip, bzip2, lzop, ar
tar cf x.tar a d; tar tf x.tar | sort; mkdir x; tar xf x.tar -C x; diff -r a x/a && echo same
tar czf x.tgz a && tar tzf x.tgz | wc -l; tar cjf x.tbz a && tar tjf x.tbz | wc -l
tar cf - a | (mkdir -p y; cd y && tar xf -); cat y/a/b/c/file
find a | sort | cpio -o -H newc 2>/dev/null > a.cpio; cpio -t < a.cpio 2>/dev/null; mkdir z; (cd z && cpio -idm < ../a.cpio 2>/dev/null); ls -R z
seq 1 20000 > numbers
gzip -c numbers > n.gz; zcat n.gz | cmp - numbers && echo gzip; gunzip -t n.gz && echo tested
bzip2 -c numbers > n.bz2; bzcat n.bz2 | cmp - numbers && echo bzip2; bunzip2 -c n.bz2 | md5sum
gzip -c numbers | gunzip | sha1sum
printf 'xx\n' | lzop -c | lzop -dc
ar -p /dev/null x 2>/dev/null; echo ar $?

part sums: md5sum, sha1sum, sha256sum, sha512sum, sha3sum, cksum, crc32, sum
for s in md5sum sha1sum sha256sum sha512sum sha3sum; do $s numbers; done
crc32 numbers; md5sum numbers > sums; md5sum -c sums
dd if=/dev/zero of=hundred bs=1M count=100 2>/dev/null; sha256sum hundred; rm hundred

part dd, od, hexdump, xxd, strings, cmp, diff, patch, base64, uuencode, dos2unix
dd if=numbers of=piece bs=100 skip=3 count=2 2>/dev/null; md5sum piece; dd if=/dev/zero bs=4k count=3 2>/dev/null | wc -c
printf 'over' | dd of=lines conv=notrunc 2>/dev/null; cat lines
head -c 20 numbers | od -An -tx1; head -c 20 numbers | hexdump -C; head -c 20 numbers | xxd
printf 'ab\0\1\2printable text\0xyz' | strings
cp numbers other; cmp numbers other && echo equal; echo x >> other; fails cmp numbers other
sed 's/apple/APPLE/' fruit > fruit.new; diff fruit fruit.new | grep '^[<>0-9]'; diff -u fruit fruit.new | sed 1,2d
diff -u fruit fruit.new > fruit.patch; cp fruit fruit.old; patch fruit.old < fruit.patch; cmp fruit.old fruit.new && echo patched
base64 < fruit | tee b64; base64 -d b64 | cmp - fruit && echo base64
uuencode fruit < fruit | uudecode -o - | cmp - fruit && echo uu
printf 'a\nb\n' | unix2dos | od -c | head -n 1; printf 'a\r\n' | dos2unix | od -c | head -n 1

part shell: pipelines, here-documents, substitutions
cat <<END | tr a-z A-Z
here $((1 + 1)) $(echo document)
END
cat <<'END'
not $expanded
END
cat <<-END
	tabs go
	END
x=karst; echo ${x#k} ${x%t} ${x/a/o} ${#x} ${y:-default} ${x:1:3} ${z:=set} $z "${x}s"
echo `echo nested \`echo deep\``
set -- one 'two three' four; echo $# "$2" "$@"; shift; echo $1
for i in *.gz *.bz2; do echo "$i"; done; case karst in k*t) echo match;; *) echo none;; esac
i=0; while [ $i -lt 3 ]; do i=$((i + 1)); [ $i = 2 ] && continue; echo $i; done; until [ $i = 0 ]; do i=$((i - 1)); done; echo $i
f() { local v=inner; echo "$v $1"; return 7; }; v=outer; f arg; echo $? $v
false | true; echo $?; true | false; echo $?; ! true; echo $?
set -o pipefail; false | true; echo $?; set +o pipefail
echo to stderr >&2 2>/dev/null; { echo out; echo err >&2; } 2>&1 | sort; echo gone > /dev/null
exec 5> five; echo fifth >&5; exec 5>&-; cat five; read a b < fruit; echo "$b-$a"
while read -r name count; do echo "$count $name"; done < fruit | sort -n
seq 1 3 | while read n; do echo -n "<$n>"; done; echo
IFS=: read user rest < /etc/passwd; echo $user; echo a,b,c | (IFS=,; read p q r; echo $r$q$p)
printf '%s\n' {a,b} 2>/dev/null | head -n 1; eval 'echo evaluated $x'; type cd | head -n 1; command -v awk
getopts ab: opt -b value; echo $opt $OPTARG; getopt ab: -a -b x rest
env -i A=1 env; env A=2 sh -c 'echo $A'; which sed; (cd / && pwd); pwd; sh -c 'echo $HOME'

part shell: subshells, background, traps, wait, signals
(exit 3); echo $?; sh -c 'exit 9'; echo $?; (v=changed); echo $v
sleep 0.1 & wait $!; echo waited $?
sh -c 'sleep 10' & p=$!; kill $p; wait $p 2>/dev/null; echo $?
(trap 'echo trapped; exit 5' TERM; kill -TERM $(sh -c 'echo $PPID'); sleep 1; echo not reached); echo $?
sh -c 'trap "echo bye" EXIT; echo working'; sh -c 'trap "" INT; kill -INT $$; echo survived'
sh -c 'trap "echo usr1" USR1; kill -USR1 $$; kill -USR1 $$; echo end'
sh -c 'kill -9 $$'; echo $?; sh -c 'kill -SEGV $$' 2>/dev/null; echo $?
a=$(sh -c 'echo out; exit 4'); echo $a $?
for i in 1 2 3 4 5; do (sleep 0.0$i; echo $i) & done | sort; wait; echo all done
mkfifo fifo; (echo through fifo > fifo) & cat fifo; wait
timeout 0.2 sleep 5; echo timeout $?; timeout 5 true; echo $?
nohup echo no hangup 2>/dev/null; usleep 1000; time -f %x true 2>&1
setsid sh -c 'echo new session'; start-stop-daemon -S -x /bin/true; echo $?; ts -s '' < /dev/null
echo ulimit $(ulimit -n); (ulimit -n 10; ulimit -n); xargs -n1 < /dev/null

part processes: ps, pidof, pgrep, kill, killall, top, renice, taskset, ionice, nproc, uptime
sleep 77 & p=$!
ps | grep -v grep | grep -c 'sleep 77'; ps -o comm | sort | uniq | grep -x -e sh -e sleep -e kthreadd
pidof sleep | grep -c .; [ "$(pidof sleep)" = $p ] && echo found; kill -0 $p && echo alive
renice -n 3 -p $p; awk '{ print $19 }' /proc/$p/stat; taskset -p 1 $p > /dev/null; taskset -p $p | sed "s/$p/PID/"
ionice -p $p; top -b -n 1 | head -n 4 | sed 's/[0-9.]\+/N/g' | awk '{ print $1 }'; top -b -n 1 | grep -c '[s]leep 77'
tr '\0' ' ' < /proc/$p/cmdline; echo; readlink /proc/$p/exe; grep -E '^(Name|Threads|State)' /proc/$p/status
killall sleep; wait $p 2>/dev/null; echo $?; fails kill -0 $p | sed "s/$p/PID/"
kill -l 9; kill -l TERM; uptime | grep -c 'load average'; [ "$(nproc)" -ge 1 ] && echo cpus
pwd > /proc/self/fd/1; cat /proc/self/comm; wc -c < /proc/1/environ > /dev/null && echo readable

part system: uname, hostname, date, cal, free, dmesg, sysctl, logger, sync, arch, tty, stty, clear
uname -s; uname -n; hostname tour; hostname; hostname karst; date -u -d @0; date -u -d '2024-02-29 12:00:00' +%j-%A-%s; cal 2 2024
free | awk 'NR == 1 || NR == 2 { print $1, NF }'; dmesg > /dev/null && echo dmesg; sysctl -n kernel.ostype; sysctl -w vm.swappiness=33; sysctl -n vm.swappiness; sysctl -q -w vm.swappiness=60
sync; tty; fails stty < /dev/null; clear | od -c | head -n 1; hostid > /dev/null && echo hostid; [ "$(arch)" = "$(uname -m)" ] && echo arch
cat /proc/sys/kernel/hostname; cat /proc/filesystems | grep -c tmpfs; grep -c '^processor' /proc/cpuinfo > /dev/null && echo cpuinfo; awk '/MemTotal/ { print $3 }' /proc/meminfo
linux64 uname -s; unshare -u sh -c 'hostname inner; hostname'; hostname; nsenter -t 1 -u hostname; setpriv --dump | grep -c uid; chroot / echo chroot; chmod 755 made/f; run-parts --test made

part mount, umount, df, mknod
mkdir mnt; mount -t tmpfs -o size=1m,mode=711 tour mnt; grep ' /tmp/tour/mnt ' /proc/mounts; stat -c %a mnt
df -P mnt | tail -n 1 | awk '{ print $1, $2, $3, $4, $6 }'; df -i mnt | tail -n 1 | awk '{ print $1, $NF }'
dd if=/dev/zero of=mnt/full bs=64k 2>&1 | head -n 1; stat -c %s mnt/full; mount -o remount,ro mnt; fails touch mnt/x; fails umount missing
mount -o bind a mnt; ls mnt; umount mnt; umount mnt; ls mnt | wc -l; mount | grep -c ' on / '; fails mount -t nonsense none mnt | sed 's/ failed.*//'
mount -t tmpfs dev mnt; mknod mnt/null c 1 3; echo x > mnt/null; cat mnt/null; stat -c '%F %t,%T' mnt/null; umount mnt; mknod pipe p; stat -c %F pipe; ls -l /dev/null | awk '{ print $1, $5, $6 }'
ls /dev | grep -x -e console -e full -e kmsg -e null -e ptmx -e pts -e random -e tty -e urandom -e zero; ls /sys | grep -x -e block -e bus -e class -e dev -e devices -e fs -e kernel -e module -e power | xargs

part random, zero, full
head -c 1000 /dev/urandom | wc -c; head -c 4 /dev/zero | od -An -tx1; fails sh -c 'echo x > /dev/full' | sed 's/.*: //'
[ "$(head -c 16 /dev/urandom | md5sum)" != "$(head -c 16 /dev/urandom | md5sum)" ] && echo random; cat /proc/sys/kernel/random/uuid | wc -c

part ed, mkpasswd, ascii, ipcalc, getopt, more
printf 'a\nfirst\nsecond\n.\n1s/first/FIRST/\nw edited\nq\n' | ed 2>/dev/null; cat edited
mkpasswd -m sha512 -S saltsalt password; echo ascii | ascii 2>/dev/null | head -n 1; ipcalc -n 10.1.2.3/8; getopt -o x -- -x; more < five | cat
hexdump -e '4/1 "%02x" "\n"' five; who > /dev/null; echo end of tools

part loops with many processes
i=0; while [ $i -lt 200 ]; do i=$((i + 1)); /bin/true || echo failed; done; echo $i
seq 1 300 | while read n; do echo $((n * n)); done | awk '{ s += $1 } END { print s }'
for n in $(seq 1 20); do seq 1 $n | sort -rn | head -n 1; done | xargs
echo 'for (i = 0; i < 5; i++) print i^3' | bc | xargs
cat numbers | cat | cat | cat | cat | md5sum; tee t1 t2 < numbers | wc -l; cmp t1 t2 && echo tee
find /proc/self/ -maxdepth 1 -name status; find /sys/class/tty/ -maxdepth 1 -name console | head -n 1; ls /proc | grep -c '^[0-9]' > /dev/null && echo processes
dd if=/dev/zero bs=1k count=64 2>/dev/null | tr '\0' 'x' | fold -w 64 | uniq -c | awk '{ print $1, length($2) }'

cd /
rm -rf $t
echo "the end"
