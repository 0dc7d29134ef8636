#!/usr/bin/env bash
# Measures everything that the README's table names, and writes the table.
#
#   bash bench/all.sh            about 20 minutes on two cores, beside the building
#   bash bench/all.sh --quick    about a minute: that everything measures; keeps no numbers
#
# Before the first time: bash bench/setup.sh, which brings the other routers. What is missing is
# said and stands in the table as not measured. Nothing else should run meanwhile.
set -eu

cd "$(dirname "$0")/.."
bench=target/release/clasp-bench
router=target/release/clasp-rt

quick=
case "${1:-}" in
    '') ;;
    --quick) quick=yes ;;
    *) echo "usage: bash bench/all.sh [--quick]" >&2; exit 2 ;;
esac

say() { printf 'all: %s\n' "$*" >&2; }

# A command that fails is told at the end; the others are measured all the same.
failed=()
measure() {
    local name=$1 start=$SECONDS
    shift
    say "$name"
    "$bench" "$name" --spawn "$router" "$@" > /dev/null || failed+=("$name")
    say "$name took $((SECONDS - start)) s"
}

say "building"
cargo build --release --package clasp-rt
cargo build --release --package clasp-rt-bench
cargo build --release --package clasp-rt-core --example instructions
cargo build --release --package clasp-rt-bridges --example unchanged
cargo build --release --manifest-path bench/codec/Cargo.toml

start=$SECONDS
if [ -n "$quick" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    measure suite --size small --results "$folder"
    measure rows --size small --results "$folder"
    measure overhead --size small --results "$folder"
    measure lanes --seconds 1 --results "$folder"
    measure universes --from 64 --to 64 --slots 16,whole --seconds 1 --results "$folder"
    cp README.md "$folder/README.md"
    "$bench" table --results "$folder" --readme "$folder/README.md"
else
    measure suite
    measure rows
    measure overhead
    measure lanes --seconds 6 --rounds 5 --results bench/results
    measure universes --from 1024 --to 4096 --slots 0,16,whole --seconds 2 --rounds 3 \
        --results bench/results
    measure peers
    "$bench" table
fi
say "measured in $((SECONDS - start)) s"
if [ ${#failed[@]} != 0 ]; then
    say "failed: ${failed[*]}"
    exit 1
fi
