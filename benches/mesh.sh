#!/usr/bin/env bash
# Times a mesh of two primaries, from empty API servers to both reading each other, on the lab (just lab):
#   - one cluster's own `istioctl install` and rollout wait, the slower of the two
#   - the same in both at once: what this machine's cores allow at best, since both clusters live on them
#   - the commands of Istio's guide, typed one after the other (Makefile, kubectl, istioctl, remote secrets)
#   - meshplan run, and meshplan run again
# All in one go, each on clusters of its own. Prints seconds and ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${LAB_INSIDE:-}" ]; then
  tests/lab/lab build
  cargo build --release --quiet
  exec tests/lab/lab inside "$0"
fi
export PATH=$PWD/target/lab/bin:$PATH
lab=$PWD/tests/lab/lab
plans=$PWD/plans meshplan=$PWD/target/release/meshplan
makefile=$PWD/target/lab/certs/Makefile.selfsigned.mk
base=$LAB

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

clusters() { # two new ones, in a folder of their own
  LAB=$(mktemp -d -p "$base"); export LAB KUBECONFIG=$LAB/kubeconfig
  "$lab" up east 1 west 2
  cd "$LAB"
}
gone() { "$lab" stop east; "$lab" stop west; }

operator() { # operator CLUSTER
  printf 'apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  values:\n    global: {meshID: mesh1, multiCluster: {clusterName: %s}, network: network1}\n' "$1"
}
ready() { kubectl --context "$1" -n istio-system rollout status deployment/istiod --timeout=120s >/dev/null; }

clusters
slowest=0
for c in east west; do
  operator $c >$c.yaml; start=$(now)
  istioctl install --context $c -y -f $c.yaml >/dev/null 2>&1; ready $c
  slowest=$(awk -v a="$slowest" -v b="$(since "$start")" 'BEGIN { print (a > b ? a : b) }')
done
gone

clusters
start=$(now)
pids=()
for c in east west; do
  { operator $c >$c.yaml; istioctl install --context $c -y -f $c.yaml >/dev/null 2>&1; ready $c; } &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
both=$(since "$start")
gone

clusters
start=$(now)
make -s -f "$makefile" root-ca >/dev/null 2>&1
for c in east west; do make -s -f "$makefile" $c-cacerts >/dev/null 2>&1; done
for c in east west; do
  kubectl --context $c create namespace istio-system >/dev/null
  kubectl --context $c label namespace istio-system topology.istio.io/network=network1 >/dev/null
  (cd $c && kubectl --context $c -n istio-system create secret generic cacerts --from-file=ca-cert.pem \
    --from-file=ca-key.pem --from-file=root-cert.pem --from-file=cert-chain.pem >/dev/null)
  operator $c >$c.yaml
  istioctl install --context $c -y -f $c.yaml >/dev/null 2>&1; ready $c
done
for pair in "east west" "west east"; do
  read -r from to <<<"$pair"
  istioctl create-remote-secret --context "$from" --name "$from" -n istio-system | kubectl --context "$to" apply -f - >/dev/null
done
for c in east west; do until istioctl remote-clusters --context $c | grep -q synced; do :; done; done
typed=$(since "$start")
gone

clusters
start=$(now)
CTX_1=east CTX_2=west "$meshplan" run "$plans/multi-primary.kdl" -C "$LAB/out" -q
ours=$(since "$start")
start=$(now)
CTX_1=east CTX_2=west "$meshplan" run "$plans/multi-primary.kdl" -C "$LAB/out" -q
again=$(since "$start")
gone

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
cat <<T
| two primaries, from empty API servers | s | meshplan ÷ it |
|---|---|---|
| one cluster's own install and rollout | $slowest | $(ratio "$ours" "$slowest") |
| both clusters' own installs at once | $both | $(ratio "$ours" "$both") |
| the guide's commands, one after the other | $typed | $(ratio "$ours" "$typed") |
| meshplan run | $ours | |
| meshplan run, again | $again | |
T
