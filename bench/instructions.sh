#!/bin/sh
# Instructions a pair by callgrind, warm-up and filling left out: bench/instructions.sh [scenario]...
# Leaves callgrind.<scenario>.out in target/ for callgrind_annotate.
set -eu
cd "$(dirname "$0")/.."
cargo build --quiet --release -p colo-bench
[ $# -gt 0 ] || set -- \
    tcp-64-1000f-512p-primary tcp-64-1000f-512p-secondary tcp-64-10000f-512p-primary \
    tcp-64-100000f-512p-primary tcp-1514-1000f-512p-primary udp-64-1000f-512p-primary udp-64-1000f-512p-secondary \
    late-1 late-32 late-1024 shuffled-secondary-1 shuffled-secondary-32 shuffled-secondary-1024 \
    shuffled-primary-1 shuffled-primary-32 shuffled-primary-1024 \
    reversed-secondary-1024 reversed-primary-1024 gapped-secondary-1024 gapped-primary-1024
for scenario in "$@"; do
    log=$(valgrind --tool=callgrind --collect-atstart=no --toggle-collect='colo_bench::rig::Rig::pass' \
        --callgrind-out-file="target/callgrind.$scenario.out" \
        target/release/instructions "$scenario" 6 2>&1)
    echo "$log" | awk -v scenario="$scenario" '
        / pairs$/ { pairs = $1 }
        /Collected :/ { printf "%-32s %8.1f instructions a pair\n", scenario, $NF / pairs; found = 1 }
        END { if (!found) { print scenario ": valgrind failed" > "/dev/stderr"; exit 1 } }' || { echo "$log"; exit 1; }
done
