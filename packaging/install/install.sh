#!/bin/sh
# Installs balena from an unpacked release, beside Docker if that is there.
#
# Nothing of Docker's is touched: own names, data root, socket, bridge and group. Run again with a newer release to
# upgrade; containers live on meanwhile. --uninstall removes what was installed, and no container, image or volume.
set -eu

prefix=/usr/local
units=/etc/systemd/system
root=
mode=install
start=yes

usage() {
  cat <<TEXT
usage: install.sh [--prefix DIR] [--root DIR] [--no-start] [--uninstall]

  --prefix DIR   where bin/ is (default $prefix)
  --root DIR     install into the file system of another machine, mounted there; starts nothing
  --no-start     install, but do not enable and start the service
  --uninstall    remove the programs and the units; data stays
TEXT
}

while [ $# -gt 0 ]; do
  case $1 in
    --prefix) prefix=${2:?--prefix wants a directory}; shift ;;
    --prefix=*) prefix=${1#*=} ;;
    --root) root=${2:?--root wants a directory}; shift ;;
    --root=*) root=${1#*=} ;;
    --no-start) start=no ;;
    --uninstall) mode=uninstall ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[ -z "$root" ] || start=no

here=$(cd "$(dirname "$0")" && pwd)
bin=$root$prefix/bin
names="balena-engine balenad balena-engine-daemon balena-engine-containerd balena-engine-containerd-shim-runc-v2
  balena-engine-containerd-ctr balena-engine-runc balena-engine-init balena-engine-proxy"

say() { echo "install.sh: $*"; }
die() { echo "install.sh: $*" >&2; exit 1; }
with_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

[ -n "$root" ] || [ "$(id -u)" = 0 ] || die "run this as root"

if [ "$mode" = uninstall ]; then
  if with_systemd; then
    systemctl disable --now balena-engine.service balena-engine.socket 2>/dev/null || true
  fi
  for name in $names; do
    # Only links of ours: the name may be another program's.
    if [ "$(readlink "$bin/$name" 2>/dev/null)" = balena ]; then rm -f "$bin/$name"; fi
  done
  rm -f "$bin/balena" "$root$units/balena-engine.service" "$root$units/balena-engine.socket"
  if with_systemd; then systemctl daemon-reload; fi
  say "removed; data is left in /var/lib/balena-engine"
  exit 0
fi

[ -f "$here/bin/balena" ] || die "no bin/balena beside this script: run it from the unpacked release"
if [ -z "$root" ]; then
  "$here/bin/balena" self-test >/dev/null || die "this binary does not work here: see bin/balena self-test"
fi

mkdir -p "$bin" "$root$units"
for name in $names; do
  if [ -e "$bin/$name" ] && [ "$(readlink "$bin/$name" 2>/dev/null)" != balena ]; then
    die "$bin/$name is there and not ours"
  fi
done
# In place by one rename: running processes keep the old file, and power may fail at any point.
cp "$here/bin/balena" "$bin/.balena.new"
chmod 755 "$bin/.balena.new"
sync
mv -f "$bin/.balena.new" "$bin/balena"
for name in $names; do ln -sf balena "$bin/$name"; done

for unit in service socket; do
  sed "s#/usr/bin/#$prefix/bin/#" "$here/systemd/balena-engine.$unit" > "$root$units/balena-engine.$unit"
done

if ! grep -q '^balena-engine:' "$root/etc/group" 2>/dev/null; then
  if [ -z "$root" ]; then
    groupadd --system balena-engine 2>/dev/null || addgroup -S balena-engine || die "could not add the group balena-engine"
  else
    say "the group balena-engine is missing in $root: add it there"
  fi
fi

if with_systemd; then
  systemctl daemon-reload
  if [ "$start" = yes ]; then
    systemctl enable balena-engine.socket balena-engine.service
    # A restart starts what is stopped, and a running daemon becomes the new one.
    systemctl restart balena-engine.socket balena-engine.service
  fi
elif [ "$start" = yes ]; then
  say "no systemd here: start $prefix/bin/balena-engine-daemon by your own means"
fi
say "installed in $bin"
