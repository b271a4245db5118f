#!/bin/sh
# Instructions by callgrind, warm-up and filling left out: a pair in a scenario, a frame in a part alone.
#
#   bench/instructions.sh [NAME]...       counts scenarios and parts; all without one
#   bench/instructions.sh --check         counts those of bench/instructions.txt and ends with 1 when one is more than 3 % off
#   bench/instructions.sh --record        writes that file anew, after a change that is meant
#
# Counts are those of one compiler. With another than the one in the file, --check shows them and judges nothing.
# Leaves callgrind.SCENARIO.out in target/ for callgrind_annotate. Needs valgrind.
set -eu
cd "$(dirname "$0")/.."
record=bench/instructions.txt
mode=count
case "${1:-}" in
-h | --help)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
--check | --record) mode=${1#--} ;;
esac

base=${CARGO_TARGET_DIR:-target}
cargo build --quiet --release --locked -p colo-bench --bin instructions
compiler=$(rustc --version)
if [ "$mode" != count ]; then
    set -- tcp-64-1000f-512p-together tcp-64-1000f-512p-primary tcp-64-1000f-512p-secondary \
        tcp-64-10000f-512p-together tcp-64-10000f-512p-primary tcp-1514-1000f-512p-together tcp-1514-1000f-512p-primary \
        udp-64-1000f-512p-together udp-64-1000f-512p-primary udp-64-1000f-512p-secondary late-1024 shuffled-secondary-32 shuffled-primary-32 \
        wire-tcp wire-udp table ring out
elif [ $# -eq 0 ]; then
    set -- tcp-64-1000f-512p-together tcp-64-1000f-512p-primary tcp-64-1000f-512p-secondary \
        tcp-64-10000f-512p-together tcp-64-10000f-512p-primary tcp-64-100000f-512p-together tcp-64-100000f-512p-primary \
        tcp-1514-1000f-512p-together tcp-1514-1000f-512p-primary \
        udp-64-1000f-512p-together udp-64-1000f-512p-primary udp-64-1000f-512p-secondary \
        late-1 late-32 late-1024 shuffled-secondary-1 shuffled-secondary-2 shuffled-secondary-32 shuffled-secondary-1024 \
        shuffled-primary-1 shuffled-primary-2 shuffled-primary-32 shuffled-primary-1024 \
        reversed-secondary-1024 reversed-primary-1024 gapped-secondary-1024 gapped-primary-1024 \
        wire-tcp wire-udp table ring out
fi

# Instructions a pair of a scenario, or a frame of a part.
count() {
    if ! log=$(valgrind --tool=callgrind --collect-atstart=no --toggle-collect='colo_bench::rig::Rig::pass' \
        --toggle-collect='colo_bench::parts::pass' \
        --callgrind-out-file="$base/callgrind.$1.out" "$base/release/instructions" "$1" 6 2>&1); then
        printf '%s\n' "$log" >&2
        return 1
    fi
    printf '%s\n' "$log" | awk '
        / (pairs|frames)$/ { pairs = $1 }
        /Collected :/ { if (pairs) printf "%.1f\n", $NF / pairs }'
}

status=0
recorded_by=$(sed -n 's/^# //p' "$record" 2>/dev/null | head -1)
if [ "$mode" = record ]; then
    echo "# $compiler" >"$record.new"
elif [ "$mode" = check ] && [ "$recorded_by" != "$compiler" ]; then
    echo "$record is of $recorded_by, this is $compiler: counts are shown, not judged."
fi
for scenario in "$@"; do
    now=$(count "$scenario")
    if [ -z "$now" ]; then
        echo "$scenario: valgrind counted nothing" >&2
        exit 1
    fi
    if [ "$mode" = record ]; then
        echo "$scenario $now" >>"$record.new"
    fi
    if [ "$mode" != check ]; then
        printf '%-32s %8.1f instructions\n' "$scenario" "$now"
        continue
    fi
    then=$(awk -v scenario="$scenario" '$1 == scenario { print $2 }' "$record")
    if [ -z "$then" ]; then
        echo "$scenario is not in $record: bench/instructions.sh --record" >&2
        exit 1
    fi
    off=$(awk -v now="$now" -v then="$then" 'BEGIN { printf "%+.1f", 100 * (now / then - 1) }')
    printf '%-32s %8.1f instructions, %8.1f recorded, %s %%\n' "$scenario" "$now" "$then" "$off"
    if [ "$recorded_by" = "$compiler" ] && awk -v off="$off" 'BEGIN { exit !(off > 3 || off < -3) }'; then
        echo "    more than 3 % off: find out why, or bench/instructions.sh --record if it is meant" >&2
        status=1
    fi
done
if [ "$mode" = record ]; then
    mv "$record.new" "$record"
fi
exit $status
