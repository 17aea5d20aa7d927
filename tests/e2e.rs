//! The real binary against real API servers and a real istiod each. Needs the lab: `just e2e`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "support/lab.rs"]
mod lab;
mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};

use lab::Lab;
use support::World;

/// One primary of its own.
const ONE: &str = r#"
mesh "mesh1" { istio-version "1.31"; work-dir "out"; }
root-ca { key "ecdsa-p256"; }
cluster-ca { key "ecdsa-p256"; }
cluster "east" { context "east"; network "network1"; }
"#;

#[test]
#[ignore = "needs the lab: just e2e"]
fn a_real_cluster_is_taken_to_a_running_istiod_and_a_second_run_writes_nothing() {
    let lab = Lab::up(&[("east", 1), ("west", 2)]);
    let system = [
        "get",
        "namespace",
        "kube-system",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    assert_ne!(lab.kubectl("east", &system), lab.kubectl("west", &system));

    let world = lab.world(ONE);
    world.run(&[]).exits(0);
    let network = r"jsonpath={.metadata.labels.topology\.istio\.io/network}";
    let label = lab.kubectl("east", &["get", "namespace", "istio-system", "-o", network]);
    assert_eq!(label, "network1");
    // Written by istiod itself, so it runs, with the CA that was pushed.
    let root = [
        "get",
        "configmap",
        "istio-ca-root-cert",
        "-o",
        r"jsonpath={.data.root-cert\.pem}",
    ];
    let root = lab.kubectl("east", &[&["-n", "istio-system"][..], &root].concat());
    assert_eq!(root.into_bytes(), world.read("out/east/root-cert.pem"));

    let versions = || {
        let objects = [
            "get",
            "namespace/istio-system",
            "secret/cacerts",
            "deployment/istiod",
            "-o",
        ];
        let version =
            ["jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}\n{end}"];
        lab.kubectl(
            "east",
            &[&["-n", "istio-system"][..], &objects, &version].concat(),
        )
    };
    let before = versions();
    assert_eq!(before.lines().count(), 3);
    let second = world.run(&[]).exits(0);
    assert_eq!(second.ran(), [] as [&str; 0]);
    assert_eq!(versions(), before);
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn whatever_ends_a_lab_ends_every_process_in_it() {
    for signal in ["KILL", "TERM", "HUP"] {
        let mut lab = Command::new(lab::SCRIPT)
            .args([
                "inside",
                "sh",
                "-c",
                "setsid sleep inf & echo up; exec sleep inf",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(lab.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        let kill = Command::new("kill")
            .args([&format!("-{signal}"), &lab.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        // Standard output ends when the last process that holds it has ended.
        said.read_to_string(&mut line).unwrap();
        lab.wait().unwrap();
    }
}

const NS: [&str; 2] = ["-n", "istio-system"];

/// A plan of `plans/`, with keys that are quick to make.
fn plan(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("plans")
        .join(name);
    let quick = |node: &str| format!("{node} {{ key \"ecdsa-p256\";");
    fs::read_to_string(path)
        .unwrap()
        .replace("root-ca {", &quick("root-ca"))
        .replace("cluster-ca {", &quick("cluster-ca"))
        .replace("\"../out/", "\"out/")
}

/// Tools that note what every process around them is told: their own argv and environment, and meshplan's.
const WITNESS: &str = r#"#!/bin/sh
for process in $$ $PPID; do
    tr '\0' '\n' </proc/$process/cmdline >>"$WITNESS/told"
    tr '\0' '\n' </proc/$process/environ >>"$WITNESS/told"
done
echo "${0##*/} $*" >>"$WITNESS/calls"
exec "$WITNESS/${0##*/}.real" "$@"
"#;

fn witnessed(lab: &Lab, plan: &str) -> World {
    let world = lab.world(plan);
    for tool in ["kubectl", "istioctl"] {
        world.write(&format!("bin/{tool}"), WITNESS);
        world.sh(
            "bin",
            &format!("chmod +x {tool}; ln -s \"$(command -v {tool})\" {tool}.real"),
        );
    }
    let tool = |name: &str| world.path("bin").join(name).display().to_string();
    let (bin, kubectl, istioctl) = (tool(""), tool("kubectl"), tool("istioctl"));
    world
        .env("WITNESS", bin)
        .env("KUBECTL", kubectl)
        .env("ISTIOCTL", istioctl)
        .env("CTX_1", "east")
        .env("CTX_2", "west")
}

/// Names and versions of everything that a run could write, but for what istiod itself writes all the time.
fn versions(lab: &Lab) -> Vec<String> {
    let kinds = "namespaces,secrets,configmaps,deployments,services,serviceaccounts,mutatingwebhookconfigurations,gateways.networking.istio.io,virtualservices";
    let path =
        "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}\n{end}";
    let all =
        ["east", "west"].map(|c| lab.kubectl(c, &["get", kinds, "--all-namespaces", "-o", path]));
    let busy = [
        "istio-leader",
        "istio-ip-autoallocate",
        "istio-namespace-controller-election",
        "istio-gateway-",
    ];
    let lines = all.iter().flat_map(|text| text.lines());
    lines
        .filter(|l| !busy.iter().any(|b| l.contains(b)))
        .map(str::to_owned)
        .collect()
}

/// A mesh of both clusters, from nothing; a second run writes nothing and asks each cluster once.
fn built(name: &str) -> (Lab, World, String) {
    let lab = Lab::up(&[("east", 1), ("west", 2)]);
    let world = witnessed(&lab, &plan(name));
    world.run(&[]).exits(0);
    let (before, calls) = (versions(&lab), world.read("bin/calls").len());
    let second = world.run(&[]).exits(0);
    assert_eq!(second.ran(), [] as [&str; 0]);
    assert_eq!(versions(&lab), before);
    let calls = String::from_utf8(world.read("bin/calls")[calls..].to_vec()).unwrap();
    let asked = calls.lines().filter(|l| l.contains("--context")).count();
    assert_eq!((asked, calls.lines().count()), (2, 2), "{calls}");
    let out = format!("out/{}", name.trim_end_matches(".kdl"));
    world.meshplan(&["verify", "plan.kdl", "--live"]).exits(0);
    (lab, world, out)
}

/// No private key, and no line of one, in what processes were told, in the log or in any stored object but the
/// secret that it belongs to.
fn keys_are_nowhere_else(lab: &Lab, world: &World, out: &str) {
    let told = String::from_utf8_lossy(&world.read("bin/told")).into_owned();
    let log = String::from_utf8_lossy(&world.read(&format!("{out}/.meshplan/log"))).into_owned();
    for (cluster, name) in [("east", "cluster1"), ("west", "cluster2")] {
        let key = String::from_utf8(world.read(&format!("{out}/{name}/ca-key.pem"))).unwrap();
        let line = key.lines().nth(1).unwrap();
        let objects = lab.kubectl(
            cluster,
            &[
                "get",
                "configmaps,deployments,namespaces,pods,events",
                "-A",
                "-o",
                "yaml",
                "--show-managed-fields",
            ],
        );
        let secret = lab.kubectl(
            cluster,
            &[
                &NS[..],
                &["get", "secret", "cacerts", "-o", "jsonpath={.metadata}"],
            ]
            .concat(),
        );
        let token = lab.kubectl(
            cluster,
            &[
                &NS[..],
                &[
                    "get",
                    "secrets",
                    "-o",
                    "go-template={{range .items}}{{with .data.token}}{{base64decode .}} {{end}}{{end}}",
                ],
            ]
            .concat(),
        );
        let token = token.split(' ').find(|t| t.len() > 100);
        for hidden in [line, token.unwrap()] {
            assert!(!told.contains(hidden) && !log.contains(hidden), "{name}");
            assert!(
                !objects.contains(hidden) && !secret.contains(hidden),
                "{name}"
            );
        }
        let encoded = lab.kubectl(
            cluster,
            &[
                &NS[..],
                &[
                    "get",
                    "secret",
                    "cacerts",
                    "-o",
                    r"jsonpath={.data.ca-key\.pem}",
                ],
            ]
            .concat(),
        );
        assert!(!told.contains(&encoded) && !encoded.is_empty());
    }
}

/// A pod with a Service in a namespace that is injected; its containers.
fn workload(lab: &Lab, cluster: &str) -> String {
    let objects = r#"
        kubectl --context CLUSTER create namespace sample
        kubectl --context CLUSTER label namespace sample istio-injection=enabled
        kubectl --context CLUSTER -n sample create deployment hello --image=hello --port=5000
        kubectl --context CLUSTER -n sample expose deployment hello --port=5000
        kubectl --context CLUSTER -n sample wait --for=condition=Available deployment/hello --timeout=60s"#;
    let script = objects.replace("CLUSTER", cluster);
    let output = lab.command("sh").args(["-ec", &script]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let containers = "jsonpath={.items[0].spec['initContainers','containers'][*].name}";
    lab.kubectl(cluster, &["-n", "sample", "get", "pods", "-o", containers])
}

/// What an istiod answers on its debug port.
fn debug(lab: &Lab, index: u8, path: &str) -> String {
    let url = format!("http://127.{index}.0.1:8080/debug/{path}");
    let output = lab
        .command("curl")
        .args(["-sSf", "--max-time", "20", &url])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// istiod of `index` has endpoints of the Service in `cluster`, with its network.
fn sees(lab: &Lab, index: u8, cluster: &str, network: &str) {
    for _ in 0..100 {
        let shards: serde_json::Value =
            serde_json::from_str(&debug(lab, index, "endpointShardz")).unwrap();
        let of = &shards["hello.sample.svc.cluster.local"]["sample"]["Shards"]
            [format!("Kubernetes/{cluster}")];
        if let Some(endpoint) = of.as_array().and_then(|a| a.first()) {
            assert_eq!(endpoint["Network"], network, "{endpoint}");
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(200));
    }
    panic!("{}", debug(lab, index, "endpointShardz"));
}

/// A workload's key and certificate, from the istiod of a cluster, as files NAME.key and NAME.pem (the chain),
/// and the root that the cluster hands its workloads as NAME.root.
const WORKLOAD: &str = r#"
ip=$(kubectl --context $1 -n istio-system get pods -l app=istiod -o jsonpath={.items[0].status.podIP})
kubectl --context $1 -n default get configmap istio-ca-root-cert -o jsonpath={.data.root-cert\\.pem} > $1.root
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -subj / \
    -addext subjectAltName=URI:spiffe://cluster.local/ns/default/sa/default -out $1.csr 2> /dev/null
cat > ca.proto <<P
syntax = "proto3";
package istio.v1.auth;
message IstioCertificateRequest { string csr = 1; int64 validity_duration = 3; }
message IstioCertificateResponse { repeated string cert_chain = 1; }
service IstioCertificateService { rpc CreateCertificate(IstioCertificateRequest) returns (IstioCertificateResponse); }
P
token=$(kubectl --context $1 -n default create token default --audience istio-ca)
python3 -c 'import json; print(json.dumps({"csr": open("'$1'.csr").read(), "validity_duration": 3600}))' |
    grpcurl -proto ca.proto -cacert $1.root -authority istiod.istio-system.svc -H "authorization: Bearer $token" \
        -d @ $ip:15012 istio.v1.auth.IstioCertificateService/CreateCertificate |
    python3 -c 'import json, sys; print("".join(json.load(sys.stdin)["certChain"][:-1]), end="")' > $1.pem
"#;

/// Workloads of both clusters trust each other, judged by OpenSSL: certificates, and a handshake with both.
fn trust_each_other(lab: &Lab, world: &World) {
    let script = format!(
        r#"workload() {{ {WORKLOAD}
}}
workload east; workload west
for a in east west; do
    [ $a = east ] && b=west || b=east
    openssl verify -x509_strict -CAfile $b.root -untrusted $a.pem $a.pem
done
openssl s_server -www -accept 127.0.0.1:8443 -naccept 1 -cert east.pem -key east.key -cert_chain east.pem \
    -CAfile east.root -Verify 5 -verify_return_error < /dev/null > server.log 2>&1 &
timeout 30 sh -c 'until grep -q ACCEPT server.log; do :; done'
printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -ign_eof -connect 127.0.0.1:8443 -cert west.pem -key west.key -cert_chain west.pem \
    -CAfile west.root -verify_return_error > client.log 2>&1 || :
wait
grep 'Verify return code: 0' client.log && grep 'HTTP/1.0 200' client.log || {{ cat server.log client.log >&2; exit 1; }}"#
    );
    let output = lab
        .command("bash")
        .args(["-euc", &script])
        .current_dir(world.path(""))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn multi_primary_on_one_network() {
    let (lab, world, out) = built("multi-primary.kdl");
    keys_are_nowhere_else(&lab, &world, &out);
    trust_each_other(&lab, &world);
    workload(&lab, "west");
    sees(&lab, 1, "cluster2", "network1");
}

/// What Istio's Makefile ships without a word where `clean` came between two clusters (facts B1).
#[test]
#[ignore = "needs the lab: just e2e"]
fn a_bundle_of_two_roots_is_never_pushed() {
    let lab = Lab::up(&[("east", 1), ("west", 2)]);
    let world = witnessed(&lab, &plan("multi-primary.kdl"));
    let makefile = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/lab/certs/Makefile.selfsigned.mk"
    );
    let script = format!(
        "mkdir -p out/multi-primary; cd out/multi-primary; umask 077
        m() {{ make -s -f {makefile} \"$@\"; }}
        m root-ca cluster1-cacerts; m clean; m cluster2-cacerts
        if openssl verify -CAfile cluster2/root-cert.pem cluster1/ca-cert.pem; then exit 1; fi
        cp -r cluster1 of-another-root"
    );
    world.sh("", &script);

    // A cluster that has it already keeps it, unless that is asked for.
    let bundle = world.path("out/multi-primary/of-another-root");
    let bundle = format!("--from-file={}", bundle.display());
    let secret = ["create", "secret", "generic", "cacerts", &bundle];
    lab.kubectl("east", &["create", "namespace", "istio-system"]);
    lab.kubectl("east", &[&NS[..], &secret].concat());
    let secrets = ["cluster1-secret", "cluster2-secret"];
    world
        .run(&[&secrets[..], &["-k"]].concat())
        .exits(5)
        .says("cluster cluster1: a living mesh trusts another root-cert.pem");
    lab.kubectl(
        "east",
        &[&NS[..], &["delete", "secret", "cacerts"]].concat(),
    );

    world.run(&secrets).exits(0);
    for cluster in ["east", "west"] {
        for file in ["cert-chain", "root-cert"] {
            let path = format!("go-template={{{{index .data \"{file}.pem\" | base64decode}}}}");
            let get = ["get", "secret", "cacerts", "-o", &path];
            let pem = lab.kubectl(cluster, &[&NS[..], &get].concat());
            world.write(&format!("{cluster}-{file}.pem"), pem);
        }
    }
    world.sh("", "cmp east-root-cert.pem west-root-cert.pem; for c in east west; do openssl verify -CAfile east-root-cert.pem $c-cert-chain.pem; done");
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn multi_primary_on_two_networks() {
    let (lab, world, _) = built("multi-primary-multi-network.kdl");
    trust_each_other(&lab, &world);
    for cluster in ["east", "west"] {
        let containers = workload(&lab, cluster);
        assert!(containers.contains("istio-proxy"), "{containers}");
    }
    sees(&lab, 1, "cluster2", "network2");
    sees(&lab, 2, "cluster1", "network1");
    let gateways = debug(&lab, 1, "networkz");
    assert!(
        gateways.contains("10.151.0.") && gateways.contains("10.152.0."),
        "{gateways}"
    );
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn a_remote_on_the_same_network() {
    let (lab, ..) = built("primary-remote.kdl");
    let containers = workload(&lab, "west");
    assert!(containers.contains("istio-proxy"), "{containers}");
    sees(&lab, 1, "cluster2", "network1");
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn a_remote_on_another_network() {
    let (lab, ..) = built("primary-remote-multi-network.kdl");
    let containers = workload(&lab, "west");
    assert!(containers.contains("istio-proxy"), "{containers}");
    sees(&lab, 1, "cluster2", "network2");
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn a_gateway_is_waited_for_and_may_have_a_hostname() {
    let lab = Lab::up_with(&[("east", 1), ("west", 2)], &[("LAB_NO_ADDRESS", "1")]);
    let world = witnessed(&lab, &plan("primary-remote.kdl"));
    let mut run = world
        .command(&["run", "plan.kdl", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(run.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let waits = events.find(|e| e.contains("task-waits") && e.contains("an address for Service"));
    assert!(
        waits
            .unwrap()
            .contains("istio-eastwestgateway of cluster cluster1")
    );
    // What the cloud does, and its DNS.
    let named = r#"{"status":{"loadBalancer":{"ingress":[{"hostname":"gateway.example"}]}}}"#;
    let script = format!(
        "echo 10.151.0.9 gateway.example >>/etc/hosts
        kubectl --context east -n istio-system patch service istio-eastwestgateway --subresource=status --type=merge -p '{named}'"
    );
    let patched = lab.command("sh").args(["-ec", &script]).status().unwrap();
    assert!(patched.success());
    let rest: Vec<String> = events.collect();
    assert!(run.wait().unwrap().success(), "{rest:#?}");
    let containers = workload(&lab, "west");
    assert!(containers.contains("istio-proxy"), "{containers}");
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn ambient_on_two_networks() {
    let lab = Lab::up(&[("east", 1), ("west", 2)]);
    let world = witnessed(&lab, &plan("ambient.kdl"));
    let lacking = world.run(&[]).exits(1).says("lacks the Gateway API's CRDs");
    assert!(
        !lacking.ran().iter().any(|t| t.contains("-namespace")),
        "{}",
        lacking.stdout
    );
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/target/lab/gateway-api.yaml");
    for cluster in ["east", "west"] {
        lab.kubectl(cluster, &["create", "-f", crds]);
    }
    world.run(&[]).exits(0);
    let before = versions(&lab);
    assert_eq!(world.run(&[]).exits(0).ran(), [] as [&str; 0]);
    assert_eq!(versions(&lab), before);
    world.meshplan(&["verify", "plan.kdl", "--live"]).exits(0);
    let gateways = debug(&lab, 1, "networkz");
    assert!(
        gateways.contains("10.152.0.") && gateways.contains("15008"),
        "{gateways}"
    );
}

#[test]
#[ignore = "needs the lab: just e2e"]
fn drift_is_found_repaired_and_at_last_all_is_taken_away() {
    let (lab, world, _) = built("multi-primary-multi-network.kdl");
    let west = |args: &[&str]| lab.kubectl("west", &[&NS[..], args].concat());
    lab.kubectl(
        "east",
        &[
            "label",
            "--overwrite",
            "namespace",
            "istio-system",
            "topology.istio.io/network=other",
        ],
    );
    west(&[
        "delete",
        "secret",
        "cacerts",
        "istio-reader-service-account-istio-remote-secret-token",
    ]);
    west(&[
        "delete",
        "gateways.networking.istio.io",
        "cross-network-gateway",
    ]);
    let found = world.meshplan(&["verify", "plan.kdl", "--live"]).exits(4);
    let targets: Vec<_> = found
        .stdout
        .lines()
        .map(|l| l.split(':').next().unwrap())
        .collect();
    let drifted = [
        "cluster1-namespace",
        "cluster1-reads-cluster2",
        "cluster2-secret",
        "cluster2-gateway",
    ];
    let mut sorted = (targets.clone(), drifted.to_vec());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1, "{}", found.stdout);
    let repaired = world.run(&[]).exits(0).ran();
    assert!(
        drifted.iter().all(|t| repaired.contains(&(*t).to_owned())),
        "{repaired:?}"
    );
    world.meshplan(&["verify", "plan.kdl", "--live"]).exits(0);

    // What an install does not bring back by itself, or only where it is done again.
    west(&["scale", "deployment/istiod", "--replicas=0"]);
    west(&["delete", "service", "istio-eastwestgateway"]);
    assert!(
        world
            .run(&[])
            .exits(0)
            .ran()
            .contains(&"cluster2-install".to_owned())
    );
    world.meshplan(&["verify", "plan.kdl", "--live"]).exits(0);

    // A new certificate of the same root is taken by a running istiod; nothing is restarted.
    let pods = west(&["get", "pods", "-o", "name"]);
    let renewed = world.run(&["--force", "cluster2/ca-cert.pem"]).exits(0);
    assert!(
        renewed.events("task-waits")[0]["on"]
            .as_str()
            .unwrap()
            .contains("take its new CA")
    );
    assert_eq!(west(&["get", "pods", "-o", "name"]), pods);

    // What others made stays, and keeps the CRDs.
    let theirs = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: cross-network-gateway, namespace: default}\nspec: {selector: {a: b}, servers: [{hosts: [a.example], port: {number: 80, name: http, protocol: HTTP}}]}\n";
    world.write("theirs.yaml", theirs);
    let file = world.path("theirs.yaml").display().to_string();
    lab.kubectl("east", &["apply", "-f", &file]);
    west(&["create", "configmap", "theirs"]);
    world
        .meshplan(&["destroy", "plan.kdl"])
        .exits(2)
        .says("--yes");
    world
        .meshplan(&["destroy", "plan.kdl", "--yes"])
        .exits(0)
        .says("Istio without its CRDs: 1 objects of them are somebody's")
        .says("1 objects in it are somebody's, such as configmap/theirs");
    lab.kubectl(
        "east",
        &[
            "-n",
            "default",
            "get",
            "gateways.networking.istio.io",
            "cross-network-gateway",
        ],
    );
    let all = ["get", "namespaces,configmaps,secrets", "-A", "-o", "name"];
    let left = lab.kubectl("east", &all);
    assert!(
        !left.contains("istio") && !left.contains("meshplan"),
        "{left}"
    );
    west(&["get", "configmap", "theirs"]);
    let namespace = west(&["get", "namespace", "istio-system", "-o", "yaml"]);
    assert!(
        !namespace.contains("topology.istio.io/network"),
        "{namespace}"
    );
    assert_eq!(west(&["get", "secrets,deployments", "-o", "name"]), "");
    assert!(world.exists("out/multi-primary-multi-network/cluster1/ca-key.pem"));
    world
        .meshplan(&["destroy", "plan.kdl", "--yes"])
        .exits(0)
        .says("nothing of meshplan's");
}
