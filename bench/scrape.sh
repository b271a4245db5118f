#!/usr/bin/env bash
# What scrapes cost the data plane: instructions of a pair in a running `colo compare`, from the burst that it came in to the
# last decision on it, by callgrind; without anybody who asks for metrics, and with somebody who does as often as answers come.
# Needs valgrind and curl.
#
#   bench/scrape.sh [PAIRS]     20000 at first
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
-h | --help)
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
pairs=${1:-20000}
base=${CARGO_TARGET_DIR:-target}
cargo build --quiet --release --locked -p colo-engine -p colo-bench
folder=$(mktemp -d)
children=()
# What was started here ends with this.
trap 'kill "${children[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT

# Asks for pages until it is ended; a line for each.
scrape() {
    while true; do
        curl --silent --fail --output /dev/null "http://$1/metrics" && echo page
        sleep 0.02
    done
}

# Runs the load; the second argument says whether somebody asks meanwhile.
count() {
    local name=$1 asked=$2 engine scraper='' address="127.0.0.1:$((20000 + RANDOM % 12000))" sent total pages
    valgrind --quiet --tool=callgrind --callgrind-out-file="$folder/$name.out" --collect-atstart=no \
        --toggle-collect='colo_engine::runtime::core::Core::handle_burst' "$base/release/colo" compare --workers 1 \
        --primary-in "unix:$folder/$name.p,listen" --secondary-in "unix:$folder/$name.s,listen" \
        --out "unix:$folder/$name.o,listen" --checkpoint none --metrics "$address" --set compare_timeout=60000 \
        >"$folder/$name.log" 2>&1 &
    engine=$!
    children+=("$engine")
    until [ -S "$folder/$name.o" ] || ! kill -0 "$engine" 2>/dev/null; do
        sleep 0.1
    done
    : >"$folder/$name.pages"
    if [ "$asked" = yes ]; then
        scrape "$address" >"$folder/$name.pages" &
        scraper=$!
        children+=("$scraper")
    fi
    "$base/release/colo-bench" load --json --pairs "$pairs" --window 256 --patience 120 --primary-in "unix:$folder/$name.p" \
        --secondary-in "unix:$folder/$name.s" --out "unix:$folder/$name.o" >"$folder/$name.json" || {
        cat "$folder/$name.log" >&2
        return 1
    }
    [ -z "$scraper" ] || kill "$scraper"
    kill "$engine"
    wait "$engine" || true
    sent=$(sed 's/.*"sent":\([0-9]*\).*/\1/' "$folder/$name.json")
    total=$(awk '/^(summary|totals):/ { total = $2 } END { print total }' "$folder/$name.out")
    pages=$(wc -l <"$folder/$name.pages")
    awk -v total="$total" -v sent="$sent" -v pages="$pages" \
        'BEGIN { printf "%5d pages while %d pairs went through: %.1f instructions a pair\n", pages, sent, total / sent }'
}

count quiet no
count asked yes
count quiet-again no
