#!/usr/bin/env bash
# Installs what the tests need beyond Rust, on Debian 12 or newer. Run it again at will: what is
# there already is left alone, and a second run takes about a second.
#
#   packages   a C compiler, pkg-config, Python's venv, Node 18 or newer with npm, iproute2,
#              curl, liblo-tools (oscsend, oscdump), mosquitto, mosquitto-clients and openssl,
#              nats-server, valgrind with libc6-dbg, chromium,
#              ola (olad and its commands, which are not started), qlcplus and tshark,
#              jackd2 with its headers, and what runs a virtual machine (qemu-system-x86,
#              busybox-static, cpio, kmod)
#   tests/peers/venv           the published Python client, Art-Net and sACN senders and receivers
#   tests/peers/node_modules   the published JavaScript client, an Art-Net node, an sACN source, an
#                              MQTT client, and server and client of Socket.IO
#   tests/peers/hwvm           the kernel of that virtual machine, fetched with apt; without it
#                              `cargo ci hardware` cannot run, and all else can
#   tests/published            a program around the published Rust client, built
#
# Versions are fixed in tests/peers/{requirements.txt,package-lock.json} and
# tests/published/Cargo.lock. Nothing is installed outside the packages and these folders.
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

# A daemon that a package brings must not start: the tests start what they use, on free ports.
# What was there before comes back when the installation ends, however it ends.
without_daemons() {
    local policy=/usr/sbin/policy-rc.d kept=/usr/sbin/policy-rc.d.before-setup status=0
    if [ -e "$policy" ] && [ ! -e "$kept" ]; then as_root mv "$policy" "$kept"; fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
    as_root chmod 755 "$policy"
    "$@" || status=$?
    if [ -e "$kept" ]; then as_root mv "$kept" "$policy"; else as_root rm -f "$policy"; fi
    return "$status"
}

install_packages() {
    local wanted=() package
    command -v cc > /dev/null || wanted+=(gcc libc6-dev)
    command -v pkg-config > /dev/null || wanted+=(pkg-config)
    command -v ip > /dev/null || wanted+=(iproute2)
    command -v curl > /dev/null || wanted+=(curl)
    command -v oscsend > /dev/null || wanted+=(liblo-tools)
    command -v curl > /dev/null || wanted+=(curl)
    command -v valgrind > /dev/null || wanted+=(valgrind libc6-dbg)
    command -v olad > /dev/null || wanted+=(ola)
    command -v qlcplus > /dev/null || wanted+=(qlcplus)
    command -v tshark > /dev/null || wanted+=(tshark)
    command -v openssl > /dev/null || wanted+=(openssl)
    command -v chromium > /dev/null || wanted+=(chromium)
    wanted+=(mosquitto-clients)
    # MIDI: to build it, and ALSA's own programs. Serial lines: pairs of them, and what is done to one.
    wanted+=(libasound2-dev alsa-utils socat strace)
    # MIDI ports of JACK, and a machine that has hardware: `cargo ci hardware`.
    wanted+=(jackd2 libjack-jackd2-dev qemu-system-x86 busybox-static cpio kmod)
    # Routers that the load generator also drives; their programs may lie outside of PATH.
    wanted+=(mosquitto nats-server)
    python3 -c 'import ensurepip' 2> /dev/null || wanted+=(python3 python3-venv)
    if ! command -v node > /dev/null || [ "$(node -p 'parseInt(process.versions.node)')" -lt 18 ]
    then
        wanted+=(nodejs npm)
    elif ! command -v npm > /dev/null; then
        wanted+=(npm)
    fi
    local missing=()
    for package in "${wanted[@]}"; do installed "$package" || missing+=("$package"); done
    if [ ${#missing[@]} = 0 ]; then
        say "packages: all there"
        return
    fi
    say "packages: installing ${missing[*]}"
    local apt=(timeout 900 apt-get -q -o DPkg::Lock::Timeout=600)
    as_root "${apt[@]}" update
    without_daemons as_root env DEBIAN_FRONTEND=noninteractive \
        "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

# Runs "$@" unless it succeeded before with the same contents of file $1; $2 is what it makes.
once_per() {
    local cause=$1 made=$2 stamp
    stamp=$(sha256sum < "$cause")
    shift 2
    if [ "$(cat "$made/.setup-stamp" 2> /dev/null)" = "$stamp" ]; then
        say "${made#"$here"/}: up to date"
        return
    fi
    say "${made#"$here"/}: making"
    rm -rf "$made"
    "$@"
    printf '%s\n' "$stamp" > "$made/.setup-stamp"
}

make_venv() {
    python3 -m venv "$here/peers/venv"
    timeout 600 "$here/peers/venv/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$here/peers/requirements.txt"
}

make_node_modules() {
    (cd "$here/peers" && timeout 600 npm ci --omit=optional --no-audit --no-fund --loglevel=error)
}

build_published() {
    say "published: building the published Rust client"
    # A target folder of its own, so that the path is known to the tests.
    timeout 1200 cargo build --quiet --locked \
        --manifest-path "$here/published/Cargo.toml" --target-dir "$here/published/target"
}

install_packages
once_per "$here/peers/requirements.txt" "$here/peers/venv" make_venv
once_per "$here/peers/package-lock.json" "$here/peers/node_modules" make_node_modules
build_published
bash "$here/hwvm.sh" --prepare || say "no virtual machine here: cargo ci leaves its tests out"
say "done"
