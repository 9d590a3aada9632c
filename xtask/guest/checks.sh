#!/bin/sh
# Runs in the guest at boot, as root: the package, the unit and cgroup v2, each as a user of a device meets them.
# A check is a line on the console: `check: NAME: ok` or `check: NAME: failed: WHAT WAS SEEN`.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
reference=$(cat /root/reference)

check() { # NAME, then a command: its exit code decides, its output says why
    name=$1
    shift
    if said=$("$@" 2>&1); then
        echo "check: $name: ok"
    else
        echo "check: $name: failed: $(echo "$said" | tail -n 5 | tr '\n' '|')"
    fi
}

same() { # GOT WANTED
    [ "$1" = "$2" ] || { echo "got $1, wanted $2"; return 1; }
}

has() { # TEXT PART
    case $1 in *"$2"*) ;; *) echo "no $2 in: $1"; return 1 ;; esac
}

eventually() { # SECONDS, then a command
    left=$(($1 * 5))
    shift
    until "$@" >/tmp/eventually 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || { cat /tmp/eventually; return 1; }
        sleep 0.2
    done
}

main_pid() { systemctl show -p MainPID --value balena-engine.service; }

answers() { curl -sf --max-time 5 --unix-socket /run/balena-engine.sock http://x/_ping; }

# --- network of the guest: qemu's user network, whose addresses are fixed
for link in /sys/class/net/e*; do link=${link##*/}; done
ip link set lo up
ip link set "$link" up
ip address add 10.0.2.15/24 dev "$link"
ip route add default via 10.0.2.2

mkdir -p /etc/balena-engine
echo "{\"insecure-registries\": [\"${reference%%/*}\"]}" > /etc/balena-engine/daemon.json

# --- the package and the unit
check "package installs" dpkg -i /root/balena.deb
check "socket unit is active" systemctl is-active balena-engine.socket
check "service is active: READY came" systemctl is-active balena-engine.service
check "service is of type notify" same "$(systemctl show -p Type --value balena-engine.service)" notify
check "unit has no faults" systemd-analyze verify /lib/systemd/system/balena-engine.service
check "socket belongs to the group" same "$(stat -c %G:%a /run/balena-engine.sock)" balena-engine:660
check "API answers" answers
check "health check of a device" balena-engine-containerd-ctr --address /run/nothing.sock version

# --- cgroup v2
check "info names cgroup v2" same "$(balena info --format '{{.CgroupVersion}}')" 2
check "pull" balena pull -q "$reference"
run() { balena run --rm "$@"; }
check "run" same "$(run "$reference" echo hello)" hello
own() { run "$@" 2>&1; }
check "cgroup namespace" same "$(own "$reference" cat /proc/self/cgroup)" "0::/"
check "cgroup is mounted read-only" sh -c "! balena run --rm $reference mkdir /sys/fs/cgroup/x"
check "memory limit" same "$(own -m 64m "$reference" cat /sys/fs/cgroup/memory.max)" 67108864
check "swap limit" same "$(own -m 64m --memory-swap 96m "$reference" cat /sys/fs/cgroup/memory.swap.max)" 33554432
check "memory reservation" same "$(own --memory-reservation 32m "$reference" cat /sys/fs/cgroup/memory.low)" 33554432
check "cpus" same "$(own --cpus 0.5 "$reference" cat /sys/fs/cgroup/cpu.max)" "50000 100000"
check "cpu shares" same "$(own --cpu-shares 512 "$reference" cat /sys/fs/cgroup/cpu.weight)" 20
check "cpuset" same "$(own --cpuset-cpus 1 "$reference" cat /sys/fs/cgroup/cpuset.cpus)" 1
check "pids limit" same "$(own --pids-limit 32 "$reference" cat /sys/fs/cgroup/pids.max)" 32
check "pids limit holds" has "$(own --pids-limit 6 "$reference" sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait')" "fork"
balena run -d --name hog -m 16m "$reference" sh -c 'x=0123456789abcdef; while :; do x=$x$x; done' >/dev/null
balena wait hog >/tmp/hog
check "out of memory kills with 137" same "$(cat /tmp/hog)" 137
check "... and is told" same "$(balena inspect -f '{{.State.OOMKilled}}' hog)" true
balena rm hog >/dev/null
check "a device is denied" has "$(own --cap-add MKNOD "$reference" sh -c 'mknod /d b 254 0; dd if=/d bs=512 count=1 of=/dev/null')" "not permitted"
check "a device is allowed" own --device /dev/vda "$reference" dd if=/dev/vda bs=512 count=1 of=/dev/null
check "privileged may use devices" own --privileged "$reference" dd if=/dev/vda bs=512 count=1 of=/dev/null

balena run -d --name web -p 8080:80 "$reference" sh -c 'mkdir -p /www; echo it runs > /www/index.html; exec httpd -f -h /www' >/dev/null
reaches() { curl -sf --max-time 5 http://127.0.0.1:8080/; }
check "published port" eventually 20 reaches
check "pause" balena pause web
check "... freezes" has "$(cat /sys/fs/cgroup/system.slice/balena-engine.service/*/cgroup.freeze /sys/fs/cgroup/docker/*/cgroup.freeze /sys/fs/cgroup/balena/*/cgroup.freeze /sys/fs/cgroup/system.slice/*/cgroup.freeze 2>/dev/null)" 1
check "unpause" balena unpause web
check "update of a limit" balena update -m 32m --memory-swap 32m web
check "... is in force" same "$(balena exec web cat /sys/fs/cgroup/memory.max)" 33554432
check "exec is in the container's cgroup" same "$(balena exec web cat /proc/self/cgroup)" "0::/"
check "top" has "$(balena top web)" httpd

# --- the journal: systemd's own keeps its socket while it restarts
says() { grep -qx "$1" /tmp/said; }
balena run -d --name talks --log-driver journald --log-opt tag='{{.Name}}' "$reference" \
    sh -c 'i=0; while :; do i=$((i+1)); echo line $i; echo wrong $i >&2; sleep 0.2; done' >/dev/null
{ balena logs -f talks >/tmp/said 2>/tmp/wrong; touch /tmp/ended; } &
check "logs are read from the journal" eventually 30 says "line 1"
check "... with their fields" eventually 10 sh -c 'journalctl -q -t talks PRIORITY=3 CONTAINER_NAME=talks -o cat | grep -qx "wrong 1"'
check "... and their tail" has "$(balena logs --tail 1 talks 2>&1)" " "
last=$(tail -n 1 /tmp/said)
systemctl restart systemd-journald.service
further() { [ "$(tail -n 1 /tmp/said)" != "$last" ]; }
check "a follower goes on after a restart of journald" eventually 30 further
check "... and the container, too" same "$(balena inspect -f '{{.State.Running}}' talks)" true
check "kill" balena kill talks
check "a follower ends with its container" eventually 30 test -e /tmp/ended
whole() { n=$(wc -l < /tmp/said); seq -f 'line %g' "$n" | cmp - /tmp/said; }
check "... and missed no line" whole
check "... and leaves no reader" sh -c '! pgrep -f "[j]ournalctl.*CONTAINER_ID_FULL|[l]og-reader"'
check "rm" balena rm talks
balena run --rm --log-driver local "$reference" echo local >/tmp/local
check "local driver" same "$(cat /tmp/local)" local

# --- death of the daemon: systemd brings it back, containers do not notice
started=$(balena inspect -f '{{.State.StartedAt}} {{.State.Pid}}' web)
before=$(main_pid)
kill -9 "$before"
another() { now=$(main_pid); [ "$now" != 0 ] && [ "$now" != "$before" ] && answers; }
check "systemd restarts a killed daemon" eventually 20 another
check "the container was adopted" same "$(balena inspect -f '{{.State.StartedAt}} {{.State.Pid}}' web)" "$started"
check "its port still answers" reaches
check "its exec works" same "$(balena exec web echo in)" in
check "its limit is still in force" same "$(balena exec web cat /sys/fs/cgroup/memory.max)" 33554432

systemctl stop balena-engine.service
check "stop leaves containers" reaches
check "a client's connection starts the daemon" has "$(balena ps --format '{{.Names}}')" web
check "... by the socket unit" systemctl is-active balena-engine.service
check "the container was adopted again" same "$(balena inspect -f '{{.State.StartedAt}} {{.State.Pid}}' web)" "$started"

# --- reload
balena events --filter type=daemon --since 0 > /tmp/events &
events=$!
systemctl reload balena-engine.service
check "reload is an event" eventually 10 grep -q reload /tmp/events
kill $events

# --- watchdog
mkdir -p /run/systemd/system/balena-engine.service.d
printf '[Service]\nWatchdogSec=4\nTimeoutAbortSec=2\n' > /run/systemd/system/balena-engine.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart balena-engine.service
sleep 10
before=$(main_pid)
check "a daemon that works is left alone by the watchdog" same "$(systemctl show -p NRestarts --value balena-engine.service)" 0
kill -STOP "$before"
check "a daemon that hangs is replaced" eventually 40 another
check "... and the container is there" same "$(balena inspect -f '{{.State.StartedAt}} {{.State.Pid}}' web)" "$started"

# --- the end of a container, and of the package
check "stop" balena stop -t 2 web
check "rm" balena rm web
check "nothing of it is left in the cgroups" sh -c '! ls -d /sys/fs/cgroup/*/balena*/*/ /sys/fs/cgroup/balena*/*/ /sys/fs/cgroup/docker/*/ 2>/dev/null | grep -E "[0-9a-f]{64}"'
check "the journal has no error" sh -c '! journalctl -u balena-engine.service -o cat | grep -E "level=(error|fatal)|panicked"'
check "package goes" dpkg -r balena
check "... and its units with it" sh -c '! systemctl is-active balena-engine.service balena-engine.socket | grep -qx active'

# --- the archive and its installer
mkdir /root/archive
tar -xzf /root/balena.tar.gz -C /root/archive --strip-components=1
check "self-test" /root/archive/bin/balena self-test
check "installer" /root/archive/install.sh --prefix /usr/local
check "... starts the unit" systemctl is-active balena-engine.service balena-engine.socket
check "... which answers" answers
check "... with the images that were there" has "$(/usr/local/bin/balena images)" guest/busybox
check "uninstall" /root/archive/install.sh --prefix /usr/local --uninstall
check "... leaves no program" sh -c '! ls /usr/local/bin | grep balena'
check "... and the data" test -e /var/lib/balena-engine/image/overlay2/repositories.json
echo "checks: end"
