#!/usr/bin/env bash
# Times a mesh of two primaries, from empty API servers to both reading each other, on the lab (just lab):
#   - one cluster's own `istioctl install` and rollout wait, the slower of the two
#   - the same in both at once: what this machine's cores allow at best, since both clusters live on them
#   - the commands of Istio's guide, typed one after the other (Makefile, kubectl, istioctl, remote secrets)
#   - meshplan run, and meshplan run again beside the one `kubectl get` that it asks of each cluster
# `benches/mesh.sh again` times the last alone. All in one go, each on clusters of its own. Prints seconds and ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${LAB_INSIDE:-}" ]; then
  tests/lab/lab build
  cargo build --release --quiet
  exec tests/lab/lab inside "$0" "$@"
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

if [ "${1:-}" != again ]; then
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

fi

clusters
start=$(now)
CTX_1=east CTX_2=west "$meshplan" run "$plans/multi-primary.kdl" -C "$LAB/out" -q
ours=$(since "$start")
# What it asks when nothing is to be done, kept by a kubectl that passes on.
cat >kubectl-kept <<'K'
#!/bin/sh
case " $* " in *' get '*) ;; *) exec kubectl "$@" ;; esac
case " $* " in *' -f - '*) ;; *) exec kubectl "$@" ;; esac
cat >"$LAB/stdin.$$"
printf '%s\n' "$@" >"$LAB/asked.$$"
exec kubectl "$@" <"$LAB/stdin.$$"
K
chmod +x kubectl-kept
export CTX_1=east CTX_2=west
KUBECTL=$LAB/kubectl-kept "$meshplan" run "$plans/multi-primary.kdl" -C "$LAB/out" -q
asked=$(ls asked.* | head -1)
printf '#!/bin/sh\nexec kubectl' >get
while read -r word; do printf " '%s'" "$word" >>get; done <"$asked"
printf ' <"%s"\n' "$LAB/stdin.${asked##*.}" >>get
chmod +x get
# In turn, so that what else the machine does falls on both.
times() { for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
  start=$(now); ./get >/dev/null; echo "get $(awk -v a="$start" -v b="$(now)" 'BEGIN { print b - a }')"
  start=$(now); "$meshplan" run "$plans/multi-primary.kdl" -C "$LAB/out" -q; echo "run $(awk -v a="$start" -v b="$(now)" 'BEGIN { print b - a }')"
done; }
times >times.log
median() { grep "^$1" times.log | sort -n -k2 | awk '{ t[NR] = $2 } END { printf "%.3f", t[int((NR + 1) / 2)] }'; }
get=$(median get) again=$(median run)
gone

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
echo "| two primaries | s | meshplan ÷ it |"
echo "|---|---|---|"
if [ "${1:-}" != again ]; then
  cat <<T
| from empty: one cluster's own install and rollout | $slowest | $(ratio "$ours" "$slowest") |
| from empty: both clusters' own installs at once | $both | $(ratio "$ours" "$both") |
| from empty: the guide's commands, one after the other | $typed | $(ratio "$ours" "$typed") |
T
fi
cat <<T
| from empty: meshplan run | $ours | |
| nothing to do: one \`kubectl get\` of a cluster's objects | $get | $(ratio "$again" "$get") |
| nothing to do: meshplan run | $again | |
T
