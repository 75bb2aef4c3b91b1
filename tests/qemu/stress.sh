# stress-ng, each stressor by itself: `sh stress.sh NAME...`, or no name for a list of all in the classes below.
# Prints a line `@@ NAME RESULT SECONDS` per stressor, and before it what stress-ng said if it was not content.

classes='os vm scheduler interrupt pipe signal'
mkdir -p /tmp/stress
cd /tmp/stress || exit 1

if [ $# = 0 ]; then
    for class in $classes; do
        stress-ng --class "$class?" 2>/dev/null | sed -e 's/.*stressors: *//'
    done | tr ' ' '\n' | sed '/^$/d' | sort -u | sed 's/^/@list /'
    exit 0
fi

for name; do
    echo "@start $name"
    read -r start _ </proc/uptime
    timeout -s KILL 90 stress-ng --"$name" 1 --timeout 5 --verify --oomable --metrics-brief >/tmp/said 2>&1
    status=$?
    read -r end _ </proc/uptime
    case $status in
    0) result=passed ;;
    2) result=failed ;;
    3) result=no-resource ;;
    4) result=not-implemented ;;
    124 | 137) result=hangs ;;
    *) result=status-$status ;;
    esac
    [ $result = passed ] && grep -q -i -e 'skipp' /tmp/said && result=skipped
    if [ $result != passed ]; then
        grep -v -e 'dispatching hogs' -e 'setting to a' -e ' for stressor$' -e ' metrics' -e ' bogo ops' -e usr -e '(secs)' /tmp/said | tail -n 12
    fi
    echo "@@ $name $result $((${end%.*} - ${start%.*}))"
    # What a stressor left behind.
    cd / && rm -rf /tmp/stress && mkdir -p /tmp/stress && cd /tmp/stress
    ipcs -q -m -s >/dev/null 2>&1
done
