#!/usr/bin/env bash
# Shows where the router's time goes: a flame graph and a list of functions, of one publisher to one
# subscriber as fast as it goes, and of one message to 100 subscribers.
#
#   bash bench/profile.sh [FOLDER]     default: bench/results/profile
#
# Needs perf (Debian: linux-perf) and the right to use it. The program is built once more, into
# target/profile, with frame pointers, so that stacks can be read.
set -eu

cd "$(dirname "$0")/.."
folder=${1:-bench/results/profile}
mkdir -p "$folder"

if ! command -v perf > /dev/null; then
    echo "profile: perf is not there: apt install linux-perf" >&2
    exit 1
fi

cargo build --release --package clasp-rt-bench
RUSTFLAGS='-C force-frame-pointers=yes' \
    cargo build --release --package clasp-rt --target-dir target/profile

work=$(mktemp -d)
router=
stop() {
    if [ -n "$router" ]; then
        kill "$router" 2> /dev/null || true
        wait "$router" 2> /dev/null || true
    fi
    rm -rf "$work"
}
trap stop EXIT

: > "$work/said"
# It sleeps while nothing arrives, so that only work is sampled.
target/profile/release/clasp-rt server --bind 127.0.0.1 --port 0 --shards 1 --cores 0 \
    --idle park --rate-limit 0 > "$work/said" &
router=$!
url=
for _ in $(seq 100); do
    url=$(sed -n 's/^listening \(ws:.*\)/\1/p' "$work/said")
    [ -z "$url" ] || break
    sleep 0.1
done
[ -n "$url" ] || { echo "profile: the router does not listen" >&2; exit 1; }

# profile NAME TITLE BENCH-ARGUMENT...
profile() {
    local name=$1 title=$2
    shift 2
    perf record --quiet --event cpu-clock --freq 2999 --call-graph fp --pid "$router" \
        --output "$work/$name.data" -- target/release/clasp-bench "$@" --router "$url" > /dev/null
    perf script --input "$work/$name.data" --fields comm,ip,sym > "$work/$name.script" 2> /dev/null
    target/release/clasp-bench flame "$work/$name.script" --title "$title" \
        --svg "$folder/$name.svg" > "$folder/$name.txt"
    echo "profile: $folder/$name.svg and $name.txt"
}

profile throughput 'one publisher to one subscriber' throughput --seconds 4
profile fan-out 'one message to 100 subscribers' fanout --subscribers 100 --rate 300 --seconds 4
