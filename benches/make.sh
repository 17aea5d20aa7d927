#!/usr/bin/env bash
# The CAs of a mesh by Istio's own Makefile and by meshplan make, with as many jobs, from nothing each time:
#   benches/make.sh [MAKEFILE]     (default: target/lab/certs/Makefile.selfsigned.mk, which just lab fetches)
# Prints for each how many runs failed, in how many there is a cluster whose ca-cert.pem does not verify under the
# root-cert.pem beside it or clusters with several roots, and the median of the wall times (of runs that failed
# too), and below the table what the failed ones said. RUNS=20 CLUSTERS=24 JOBS=16 are the defaults; MESHPLAN= is
# the binary (default: a release build of this tree), WHO='make meshplan' who is measured; WHO=folders is make
# with the clusters' folders made beforehand: without them it mostly fails before it comes to sign, which fails too.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
makefile=$(realpath "${1:-$here/target/lab/certs/Makefile.selfsigned.mk}")
runs=${RUNS:-20} clusters=${CLUSTERS:-24} jobs=${JOBS:-16} who=${WHO:-make meshplan}
[ -f "$makefile" ] || { echo "no Makefile at $makefile: see just lab" >&2; exit 1; }
if [[ $who == *meshplan* && -z ${MESHPLAN:-} ]]; then
  cargo build --release --quiet --manifest-path "$here/Cargo.toml"
  MESHPLAN=${CARGO_TARGET_DIR:-$here/target}/release/meshplan
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -t names < <(seq -f c%.0f "$clusters")
targets=("${names[@]/%/-cacerts}")

verifies() { # whether the clusters here have CAs of one root
  local name
  for name in "${names[@]}"; do
    openssl verify -no-CApath -no-CAstore -CAfile "$name/root-cert.pem" "$name/ca-cert.pem" &&
      cmp "$name/root-cert.pem" "${names[0]}/root-cert.pem" || return
  done >/dev/null 2>&1
}

measure() { # measure NAME COMMAND…
  local name=$1 failed=0 broken=0 i start
  shift
  : >"$work/seconds"
  : >"$work/told-$name"
  for ((i = 0; i < runs; i++)); do
    rm -rf "$work/run"
    mkdir "$work/run"
    cd "$work/run"
    if [[ $name == *folders* ]]; then mkdir "${names[@]}"; fi
    start=$EPOCHREALTIME
    if ! "$@" >"$work/output" 2>&1; then
      failed=$((failed + 1))
      grep -hE '\*\*\*|cannot create|Unable to|short line|error' "$work/output" >>"$work/told-$name" || tail -n 1 "$work/output" >>"$work/told-$name"
    fi
    awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f\n", b - a }' >>"$work/seconds"
    verifies || broken=$((broken + 1))
  done
  sort -n "$work/seconds" | awk -v n="$name" -v f="$failed" -v b="$broken" -v r="$runs" '{ s[NR] = $1 }
    END { printf "| %s -j | %d of %d | %d of %d | %.1f |\n", n, f, r, b, r, (s[int((NR + 1) / 2)] + s[int(NR / 2) + 1]) / 2 }' |
    sed "s/-j/-j$jobs/"
}

echo "| $clusters clusters, $runs times from nothing | runs that failed | do not verify | median, s, failed ones too |"
echo '|---|---|---|---|'
for maker in $who; do
  case $maker in
  make) measure make make -f "$makefile" "-j$jobs" "${targets[@]}" ;;
  folders) measure 'make, with folders,' make -f "$makefile" "-j$jobs" "${targets[@]}" ;;
  meshplan) measure 'meshplan make' "$MESHPLAN" make -f "$makefile" "${targets[@]}" "-j$jobs" ;;
  esac
done
for told in "$work"/told-*; do
  [ -s "$told" ] || continue
  printf '\n%s said, and how often:\n' "${told##*/told-}"
  # One cluster's name for all, and no thread ids: the kinds of failure.
  sed -E "s|${makefile%/*}/||g; s|\bc[0-9]+/|cN/|g; s|^[0-9A-F]+:error|error|; s|\[([a-zA-Z.]+):[0-9]+:|[\1:|" "$told" | sort | uniq -c | sort -rn | head -n 12
done
