#!/usr/bin/env bash
# What each port carries and costs, kernel to colo to kernel: the tables of docs/PORTS.md and docs/DPDK.md, measured here and
# now. Installs nothing but Debian packages that are missing. Wants root, for network namespaces, and a quiet machine for
# the rates; processor time is worth something on a busy one, too.
#
#   bench/ports.sh [BYTES] [SECONDS]     1073741824 and 5 at first: of each checked transfer, of each run of iperf3
#   PROFILE=dev bench/ports.sh           the optimised profile `dev`, which is built already where tests run
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${PROFILE:-release}
missing=()
command -v ip >/dev/null || missing+=(iproute2)
command -v ethtool >/dev/null || missing+=(ethtool)
command -v iperf3 >/dev/null || missing+=(iperf3)
command -v pkg-config >/dev/null || missing+=(pkg-config)
[ -e /usr/include/dpdk/rte_ethdev.h ] || missing+=(libdpdk-dev)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

cargo build --locked --quiet --profile "$profile" -p colo-engine -p colo-tests --bins --examples \
    --features colo-engine/dpdk,colo-tests/dpdk
folder=${CARGO_TARGET_DIR:-target}/$profile
[ "$profile" != dev ] || folder=${CARGO_TARGET_DIR:-target}/debug

printf 'Load %s, %s processors, Linux %s, profile %s.\n\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" "$(uname -r)" "$profile"
"$folder/examples/kernels" "$@"
printf '\n'
"$folder/examples/port_cost"
