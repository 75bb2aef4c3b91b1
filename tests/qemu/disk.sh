# Uses a file system on a disk, and leaves sums of all that is on it, so that another kernel can look whether it is there.
#   disk.sh check DEVICE TYPE    everything is as .sums says
#   disk.sh write DEVICE TYPE    the same, then changes of many kinds
set -e
what=$1 device=/dev/$2 type=$3
n=0
while [ ! -b "$device" ]; do
    n=$((n + 1))
    [ $n -lt 100 ] || { echo "no $device"; exit 1; }
    sleep 0.1
done

# All that can be said of a tree, without times.
describe() {
    find . -path ./lost+found -prune -o -type f ! -name .sums -print0 | sort -z | xargs -0 -r sha256sum
    find . -path ./lost+found -prune -o -type l -print | sort | while read -r link; do echo "$link -> $(readlink "$link")"; done
    find . -path ./lost+found -prune -o ! -name .sums -exec stat -c '%A %h %u %g %n' {} + | grep -v '^d' | sort -k5
    find . -path ./lost+found -prune -o -type d -exec stat -c '%A %h %n' {} + | sort -k3
}

check() {
    if [ -e .sums ]; then
        describe > /tmp/now
        cmp -s /tmp/now .sums || { diff .sums /tmp/now | head -20; echo "contents differ"; exit 1; }
    fi
}

option=rw
[ "$what" = write ] || option=ro
mount -t "$type" -o $option "$device" /mnt
cd /mnt
check
if [ "$what" = write ]; then
    rm -rf work
    mkdir work
    cd work
    # A directory that grows beyond a block, and shrinks again.
    mkdir many
    i=0
    while [ $i -lt 600 ]; do
        echo "$i" > "many/file with a rather long name to fill the blocks $i"
        i=$((i + 1))
    done
    i=0
    while [ $i -lt 600 ]; do
        rm "many/file with a rather long name to fill the blocks $i"
        i=$((i + 3))
    done
    # Large, sparse, short, empty.
    dd if=/dev/urandom of=large bs=64k count=100 2>/dev/null
    dd if=large of=sparse bs=4k count=3 seek=1000 2>/dev/null
    dd if=large of=sparse bs=1k count=1 seek=77 conv=notrunc 2>/dev/null
    head -c 59 large > short
    : > empty
    # Overwritten, appended to, cut, enlarged.
    cp large changed
    dd if=/dev/zero of=changed bs=1k count=5 seek=13 conv=notrunc 2>/dev/null
    cat short >> changed
    cp large cut
    truncate -s 1000001 cut
    cp short longer
    truncate -s 3000000 longer
    # Names.
    ln large hard
    ln -s large soft
    ln -s "$(head -c 200 /dev/zero | tr '\0' x)" "soft link with a long way"
    mkdir -p deep/er/and/deeper
    mv deep/er moved
    mv changed moved/and/renamed
    cp short target
    mv short target
    rmdir deep
    mkfifo pipe
    mknod node c 1 3
    chmod 4750 cut
    chown 12:34567 cut
    cd /mnt
    cp -r work copy.new
    rm -rf copy
    mv copy.new copy
    rm -rf copy/many
    sync
    describe > /tmp/sums
    cp /tmp/sums .sums
fi
cd /
umount /mnt
# What is read again comes from the disk.
mount -t "$type" -o ro "$device" /mnt
cd /mnt
check
cd /
umount /mnt
echo "$what: done"
