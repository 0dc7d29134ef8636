#!/usr/bin/env bash
# Installs the routers that `clasp-bench peers` measures beside ours, on Debian 12 or newer. Run it
# again at will: what is there already is left alone.
#
#   packages              mosquitto, nats-server
#   bench/peers/target    the published CLASP router and a zenoh router, built (about 380 crates)
#
# Versions of what is built are fixed in bench/peers/Cargo.lock.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

say() { printf 'setup: %s\n' "$*"; }

# Runs "$@" with the right to install packages.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        say "needs root or sudo to run: $*" >&2
        exit 1
    fi
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]; }

# Daemons must not start by themselves: the bench starts what it measures. A policy that is there
# already is left as it is; ours goes when the installation ends, however it ends.
without_daemons() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [ -e "$policy" ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
    as_root chmod 755 "$policy"
    "$@" || status=$?
    as_root rm -f "$policy"
    return "$status"
}

missing=()
for package in mosquitto nats-server; do installed "$package" || missing+=("$package"); done
if [ ${#missing[@]} = 0 ]; then
    say "packages: all there"
else
    say "packages: installing ${missing[*]}"
    apt=(timeout 900 apt-get -q -o DPkg::Lock::Timeout=600)
    as_root "${apt[@]}" update
    without_daemons as_root env DEBIAN_FRONTEND=noninteractive \
        "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
fi

say "peers: building the published CLASP router and a zenoh router"
# A target folder of its own, so that the path is known to the bench.
timeout 3600 cargo build --release --quiet --locked \
    --manifest-path "$here/peers/Cargo.toml" --target-dir "$here/peers/target"
say "done"
