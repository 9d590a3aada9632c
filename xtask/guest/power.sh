#!/bin/busybox sh
# The first process of a guest whose power is cut: serves, says what it finds, and then updates over and over until the
# switch is thrown. What it prints on the console has happened; whoever throws the switch keeps the account.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -o remount,rw /
read -r line < /proc/cmdline
for word in $line; do
    # A disk for the data root alone.
    case $word in data=*) mkdir -p /var/lib/balena-engine && mount -t "${word#data=}" /dev/vdb /var/lib/balena-engine || { echo "power: no data root"; exit 1; } ;; esac
done
for module in overlay bridge veth virtio_net; do modprobe $module 2>/dev/null; done
for link in /sys/class/net/e*; do link=${link##*/}; done
ip link set lo up
ip link set "$link" up
ip address add 10.0.2.15/24 dev "$link"
ip route add default via 10.0.2.2
registry=$(cat /root/reference)
echo "nameserver 10.0.2.3" > /etc/resolv.conf

/root/balena daemon --insecure-registry "$registry" --iptables=false >/root/daemon.log 2>&1 &
until curl -sf --max-time 5 --unix-socket /run/balena-engine.sock http://x/_ping >/dev/null; do sleep 0.2; done
balena() { /root/balena "$@"; }

# --- what is there, and is it whole?
for version in 1 2; do
    name=$registry/power:$version
    if ! balena image inspect "$name" >/dev/null 2>&1; then
        echo "power: found $version absent"
    elif said=$(balena image verify --deep "$name" 2>&1) && [ "$(balena run --rm --network none "$name" sha256sum /version 2>&1)" ]; then
        echo "power: found $version whole"
    else
        echo "power: found $version damaged: $(echo "$said" | tail -n 3 | tr '\n' '|')"
    fi
done
grep -hE 'level=(error|fatal)|panicked' /root/daemon.log | sed 's/^/power: log /' | head -n 5
echo "power: found all"

# --- updates until the end
version=1
while :; do
    other=$((3 - version))
    echo "power: pulling $version"
    if ! said=$(balena pull -q "$registry/power:$version" 2>&1); then
        echo "power: failed pull: $said"
        sleep 1
        continue
    fi
    echo "power: pulled $version"
    echo "power: removing $other"
    balena rmi "$registry/power:$other" >/dev/null 2>&1
    echo "power: removed $other"
    version=$other
done
