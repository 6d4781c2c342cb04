#!/usr/bin/env bash
# Runs an MPI command on two "hosts" of this machine: network namespaces with a veth pair between them and host names of
# their own, so that Open MPI starts a daemon in each, and the ranks reach each other by TCP alone. Needs root.
#
#   tests/two_hosts.sh [--rate 1gbit] COMMAND...     as in: tests/two_hosts.sh .venv/bin/python -m benchmarks.allreduce
#
# --rate limits the link in both directions (tc; needs the kernel's tbf).
set -euo pipefail

rate=
[ "${1:-}" = --rate ] && { rate=$2; shift 2; }
[ $# -gt 0 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }

one=mcc$$a two=mcc$$b work=$(mktemp -d)
clean() {
    ip netns delete "$one" 2>/dev/null || true      # its end of the pair goes with it, and so the other
    ip netns delete "$two" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT

ip netns add "$one"
ip netns add "$two"
ip link add "$one" netns "$one" type veth peer name "$two" netns "$two"
for host in "$one 192.168.77.1" "$two 192.168.77.2"; do
    read -r name address <<<"$host"
    ip -n "$name" address add "$address/24" dev "$name"
    ip -n "$name" link set lo up
    ip -n "$name" link set "$name" up
    [ -z "$rate" ] || ip netns exec "$name" tc qdisc add dev "$name" root tbf rate "$rate" burst 1mb latency 50ms
done

# What mpirun uses in place of ssh: HOST COMMAND...
cat >"$work/enter" <<'AGENT'
#!/bin/bash
host=$1; shift
exec ip netns exec "$host" unshare --uts bash -c "hostname $host; $*"
AGENT
chmod +x "$work/enter"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
"$work/enter" "$one" mpirun --mca plm_rsh_agent "$work/enter" --mca btl tcp,self --bind-to none \
    --host "$one:1,$two:1" -np 2 "$(printf '%q ' "$@")"
