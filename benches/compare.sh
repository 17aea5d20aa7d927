#!/bin/sh
# Times meshplan against make+openssl and ninja, side by side, and prints ratios.
#   benches/compare.sh [CLUSTERS …]     (default: 1000 10000 for runs with nothing to do)
# Needs hyperfine, make, openssl, ninja and python3; what is missing is named and left out.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cargo build --release --quiet --manifest-path "$here/Cargo.toml"
meshplan=${CARGO_TARGET_DIR:-$here/target}/release/meshplan
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

have() {
    command -v "$1" >/dev/null || { echo "SKIPPED: $1 is not installed" >&2; return 1; }
}
have hyperfine && have python3 || exit 1

plan() { # plan CLUSTERS FOLDER
    mkdir -p "$2"
    {
        echo 'mesh "mesh1" { }'
        echo 'root-ca { key "ecdsa-p256"; }'
        echo 'cluster-ca { key "ecdsa-p256"; }'
        seq "$1" | sed 's/.*/cluster "c&" { network "n&"; }/'
    } >"$2/plan.kdl"
}

ratio() { # ratio JSON: mean of each command, as a multiple of the first
    python3 - "$1" <<'EOF'
import json, sys
rows = json.load(open(sys.argv[1]))["results"]
base = rows[0]["mean"]
for row in rows:
    print(f'  {row["command"]:28} {row["mean"] * 1000:10.1f} ms ± {(row["stddev"] or 0) * 1000:6.1f}   {row["mean"] / base:6.2f} ×')
EOF
}

echo "100 ECDSA P-256 CAs from nothing"
plan 100 build
mkdir make
cat >make/Makefile <<'EOF'
# What Istio's Makefile does for a cluster, with ECDSA keys and a serial of its own for each certificate.
CLUSTERS := $(shell seq -f c%.0f 100)
all: $(CLUSTERS:%=%/cert-chain.pem)
root-key.pem:
	openssl ecparam -name prime256v1 -genkey -noout -out $@
root-cert.pem: root-key.pem
	openssl req -x509 -new -sha256 -days 3650 -key root-key.pem -subj '/O=Istio/CN=Root CA' -out $@
%/ca-key.pem:
	mkdir -p $* && openssl ecparam -name prime256v1 -genkey -noout -out $@
%/ca.csr: %/ca-key.pem
	openssl req -new -sha256 -key $< -subj '/O=Istio/CN=Intermediate CA/L=$*' -out $@
%/ca-cert.pem: %/ca.csr root-cert.pem
	openssl x509 -req -sha256 -days 730 -CA root-cert.pem -CAkey root-key.pem -in $< -extfile ../ext -out $@
%/cert-chain.pem: %/ca-cert.pem root-cert.pem
	cat $^ > $@ && cp root-cert.pem $*/root-cert.pem
.SECONDARY:
EOF
printf '%s\n' 'basicConstraints=critical,CA:TRUE,pathlen:0' 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature' \
    'subjectAltName=DNS:istiod.istio-system.svc' >ext
if have make && have openssl; then
    hyperfine --style none --runs 5 --export-json build.json \
        --prepare 'find build -mindepth 1 ! -name plan.kdl -delete' -n meshplan "$meshplan run build/plan.kdl -q" \
        --prepare 'find make -mindepth 1 ! -name Makefile -delete' -n 'make -j2 + openssl' "make -s -C make -j$(nproc) >/dev/null 2>&1"
    ratio build.json
fi

[ $# -gt 0 ] || set -- 1000 10000
for clusters in "$@"; do
    echo "nothing to do, $clusters clusters"
    plan "$clusters" "idle$clusters"
    "$meshplan" run "idle$clusters/plan.kdl" -q
    # The same graph for ninja; generator = 1 judges by mtime alone, as on a first run without a log.
    (
        cd "idle$clusters"
        echo 'rule r
  command = false
  generator = 1
build root-key.pem: r
build root-cert.pem: r root-key.pem'
        seq "$clusters" | sed 's|.*|build c&/ca-key.pem: r\
build c&/ca-cert.pem: r c&/ca-key.pem root-cert.pem root-key.pem\
build c&/cert-chain.pem: r c&/ca-cert.pem root-cert.pem\
build c&/root-cert.pem: r root-cert.pem\
build c&/install.yaml: r|'
    ) >"idle$clusters/build.ninja"
    find "idle$clusters" -name '*.pem' -exec touch -d '2020-01-01' {} +
    "$meshplan" run "idle$clusters/plan.kdl" -q
    set_ninja=
    have ninja && set_ninja=yes
    if [ -n "$set_ninja" ]; then
        hyperfine --style none --warmup 2 --export-json idle.json -n meshplan "$meshplan run idle$clusters/plan.kdl" \
            -n ninja "ninja -C idle$clusters"
    else
        hyperfine --style none --warmup 2 --export-json idle.json -n meshplan "$meshplan run idle$clusters/plan.kdl"
    fi
    ratio idle.json
done
