//! Does cluster steps through the public API, with the recording fakes of `fixtures/bin` in the place
//! of kubectl and istioctl.
#![allow(clippy::unwrap_used)]

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use camino::Utf8PathBuf;
use meshplan::{
    action::cluster::{
        Absent, Allowed, Cacerts, Hands, Kind, Live, Machine, Outcome, StepError, Target, Tools,
        Wanted, made, observe, perform, preflight,
    },
    host::process::{Command, Finished, GRACE, Interrupt, run},
    plan::model::IstioVersion,
};
use tempfile::TempDir;
use time::OffsetDateTime;

/// The fakes, and a mesh's files to push.
struct Lab {
    dir: TempDir,
    tools: Tools,
    pauses: Vec<u64>,
    waited: Vec<String>,
    yaml: String,
}

const KEY: &[u8] = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
const KEY_BASE64: &str = "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCmMyVmpjbVYw";
const ROOT: &[u8] = b"-----BEGIN CERTIFICATE-----\ncm9vdA==\n-----END CERTIFICATE-----\n";
const FILES: Cacerts<'_> = Cacerts {
    ca_cert: b"cert\n",
    ca_key: KEY,
    cert_chain: b"chain\n",
    root_cert: ROOT,
    ends: OffsetDateTime::UNIX_EPOCH,
};

/// Looks each time, and may change everything.
impl Hands for Lab {
    fn run(&mut self, command: &Command) -> io::Result<Finished> {
        run(&self.command(command), &Interrupt::new(GRACE), &mut |_| {})
    }

    fn wait(&mut self, pause: Duration) {
        self.pauses.push(pause.as_secs());
    }

    fn look(&mut self, target: &Target<'_>) -> Result<Arc<Live>, StepError> {
        let tools = self.tools.clone();
        observe(target, &tools, &mut |c| self.run(c)).map(Arc::new)
    }

    fn forget(&mut self, _: &Target<'_>) {}

    fn may_change(&mut self, _: &Target<'_>, _: bool) -> Result<(), StepError> {
        Ok(())
    }

    fn waits(&mut self, on: &str) {
        self.waited.push(on.to_owned());
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    fn holder(&self) -> String {
        "this run".to_owned()
    }

    fn has_ended(&self, holder: &str) -> bool {
        holder == "a run that ended"
    }
}

fn target() -> Target<'static> {
    Target {
        cluster: "cluster1",
        context: "ctx-1",
        kubeconfig: None,
        api_server: None,
        mesh: "mesh1",
        namespace: "istio-system",
        network: Some("network1"),
        several_networks: false,
        primary: None,
        discovery_address: None,
        has_remotes: false,
        gateway: false,
        ambient: false,
        runs_istiod: true,
        in_reach: &[],
        is_read: false,
        allowed: Allowed::default(),
        istio: IstioVersion {
            major: 1,
            minor: 30,
        },
    }
}

impl Lab {
    fn new() -> Self {
        let bin = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/bin");
        let tool = |name| bin.join(name).to_str().unwrap().to_owned();
        let tools = Tools {
            kubectl: tool("kubectl"),
            istioctl: tool("istioctl"),
        };
        let yaml = "kind: IstioOperator\nmetadata:\n  name: meshplan\n  namespace: istio-system\n"
            .to_owned();
        Self {
            dir: tempfile::tempdir().unwrap(),
            tools,
            pauses: Vec::new(),
            waited: Vec::new(),
            yaml,
        }
    }

    fn command(&self, command: &Command) -> Command {
        let mut command = command.clone();
        command
            .env
            .push(("FAKE_DIR".into(), self.dir.path().to_str().unwrap().into()));
        command
    }

    fn perform(&mut self, wanted: &Wanted<'_>, target: &Target<'_>) -> Result<Outcome, StepError> {
        let tools = self.tools.clone();
        perform(wanted, target, &tools, self)
    }

    /// All steps of a cluster; what each did.
    fn all(&mut self, target: &Target<'_>) -> Vec<String> {
        let file = Utf8PathBuf::from_path_buf(self.dir.path().join("install.yaml")).unwrap();
        fs::write(&file, &self.yaml).unwrap();
        let yaml = self.yaml.clone();
        let steps = [
            Wanted::Namespace,
            Wanted::Secret(FILES),
            Wanted::Install {
                file: &file,
                yaml: yaml.as_bytes(),
                primary: None,
            },
            Wanted::Ready { root_cert: ROOT },
        ];
        steps
            .iter()
            .map(|wanted| self.perform(wanted, target).unwrap().did)
            .collect()
    }

    /// Arguments of all calls so far, the tool first; forgets them.
    fn calls(&self) -> Vec<String> {
        let log = self.dir.path().join("calls.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(log);
        let plain = |line: &str| {
            line.split_once(' ')
                .unwrap()
                .1
                .replace(self.dir.path().to_str().unwrap(), "DIR")
        };
        text.lines().map(plain).collect()
    }

    fn answer(&self, name: &str, files: &[(&str, &str)]) {
        let dir = self.dir.path().join("answers").join(name);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            fs::write(dir.join(file), text).unwrap();
        }
    }

    fn state(&self, file: &str) -> PathBuf {
        self.dir.path().join("state/ctx-1").join(file)
    }
}

#[test]
fn a_cluster_from_nothing_then_nothing_to_do() {
    let mut lab = Lab::new();
    let did = lab.all(&target());
    assert_eq!(
        did,
        [
            "namespace istio-system is missing",
            "secret cacerts is missing",
            "not installed by meshplan yet",
            "current",
        ]
    );
    let kubectl = "kubectl --context ctx-1 -n istio-system --request-timeout=30s";
    let look = format!("{kubectl} get -f - -o json --ignore-not-found --show-managed-fields");
    let apply =
        format!("{kubectl} apply --server-side --field-manager=meshplan --validate=false -f -");
    let mark = format!("{apply} --force-conflicts");
    let install = "istioctl install --context ctx-1 -y -f DIR/install.yaml".to_owned();
    let first = lab.calls();
    assert_eq!(
        first,
        [
            &look, &apply, &look, &apply, &look, &mark, &install, &mark, &look
        ]
        .map(String::clone)
    );
    let stdin = |n: u32| fs::read_to_string(lab.dir.path().join(format!("stdin.{n}"))).unwrap();
    assert_eq!(
        stdin(2),
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"istio-system","annotations":{"meshplan/made":"true"},"labels":{"topology.istio.io/network":"network1"}}}"#
    );
    assert!(
        stdin(4).contains(KEY_BASE64),
        "the key goes over standard input"
    );
    assert!(
        !first.concat().contains(KEY_BASE64) && !first.concat().contains("PRIVATE"),
        "and nowhere else"
    );

    assert_eq!(lab.all(&target()), ["current"; 4]);
    assert_eq!(lab.calls(), [&look; 4].map(String::clone));
    assert!(lab.pauses.is_empty());
}

#[test]
fn drift_is_repaired_with_its_reason() {
    let mut lab = Lab::new();
    lab.all(&target());
    let relabel = |file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(lab.state(file)).unwrap();
        assert!(text.contains(from));
        fs::write(lab.state(file), text.replace(from, to)).unwrap();
    };
    relabel("Namespace.istio-system.json", "network1", "network9");
    relabel("Secret.cacerts.json", KEY_BASE64, "b3RoZXI=");
    fs::remove_file(lab.state("Deployment.istiod.json")).unwrap();
    assert_eq!(
        lab.all(&target()),
        [
            "label topology.istio.io/network is network9, not network1",
            "secret cacerts differs in ca-key.pem",
            "deployment istiod is missing",
            "current",
        ]
    );
    lab.yaml.push_str("spec: {}\n");
    assert_eq!(
        lab.all(&target())[2],
        "install.yaml differs from what was installed"
    );
}

#[test]
fn a_living_mesh_is_not_broken() {
    let mut lab = Lab::new();
    lab.all(&target());
    lab.calls();
    let other = Cacerts {
        root_cert: b"another root\n",
        ..FILES
    };
    let error = lab.perform(&Wanted::Secret(other), &target()).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(
        error.cause.contains("another root-cert.pem") && error.cause.contains("--allow other-root"),
        "{error}"
    );

    let secret =
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"cacerts"},"data":{"KEY":""}}"#;
    for key in ["tls.crt", "istio-generated"] {
        fs::write(lab.state("Secret.cacerts.json"), secret.replace("KEY", key)).unwrap();
        let error = lab.perform(&Wanted::Secret(FILES), &target()).unwrap_err();
        assert!(
            error.kind == Kind::Refused && error.cause.contains(key),
            "{error}"
        );
    }
    assert!(
        lab.calls().iter().all(|c| !c.contains(" apply ")),
        "nothing was written"
    );

    let doomed = r#"{"kind":"Namespace","metadata":{"name":"istio-system","deletionTimestamp":"2026-01-01T00:00:00Z"}}"#;
    fs::write(lab.state("Namespace.istio-system.json"), doomed).unwrap();
    let error = lab.perform(&Wanted::Namespace, &target()).unwrap_err();
    assert!(
        error.cause.contains("is being deleted") && error.cause.ends_with("(tried 6 times)"),
        "{error}"
    );
    assert_eq!(lab.pauses, [1, 2, 4, 8, 16]);
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_not() {
    let mut lab = Lab::new();
    let refused =
        "The connection to the server h was refused - did you specify the right host or port?\n";
    lab.answer(
        "1-refused",
        &[
            ("match", "kubectl *get -f*"),
            ("times", "2"),
            ("code", "1"),
            ("stderr", refused),
        ],
    );
    assert!(lab.perform(&Wanted::Namespace, &target()).unwrap().changed);
    assert_eq!(lab.pauses, [1, 2]);

    lab.pauses.clear();
    let conflict = "error: Apply failed with 1 conflict: conflict with \"argocd\" using v1: .data.ca-key.pem\n";
    lab.answer(
        "2-conflict",
        &[
            ("match", "kubectl * apply *"),
            ("code", "1"),
            ("stderr", conflict),
        ],
    );
    let error = lab.perform(&Wanted::Secret(FILES), &target()).unwrap_err();
    assert!(
        error.kind == Kind::Refused && error.cause.contains("argocd owns"),
        "{error}"
    );
    assert_eq!(error.stderr, conflict);

    lab.answer(
        "3-page",
        &[
            ("match", "kubectl *get -f*"),
            ("stdout", "<html>login</html>"),
        ],
    );
    let error = lab.perform(&Wanted::Secret(FILES), &target()).unwrap_err();
    assert!(
        error.kind == Kind::Failed && error.cause.contains("a proxy may answer"),
        "{error}"
    );
    assert!(lab.pauses.is_empty());

    lab.tools.kubectl = "no-such-kubectl".into();
    let error = lab.perform(&Wanted::Namespace, &target()).unwrap_err();
    assert!(
        error.cause.contains("no-such-kubectl") && error.cause.contains("KUBECTL"),
        "{error}"
    );
}

#[test]
fn a_failed_install_shows_pods_and_warnings_and_is_not_marked() {
    let mut lab = Lab::new();
    lab.perform(&Wanted::Namespace, &target()).unwrap();
    let late = "✘ Ingress gateways encountered an error: failed to wait for resource: resources not ready after 20s: context deadline exceeded\n";
    lab.answer(
        "1",
        &[
            ("match", "istioctl *"),
            ("times", "1"),
            ("code", "1"),
            ("stderr", late),
        ],
    );
    let forbidden = r#"ReplicaSet/gw: Error creating: pods "gw-" is forbidden: violates PodSecurity "restricted:latest""#;
    lab.answer(
        "2",
        &[
            ("match", "kubectl *get events*"),
            (
                "stdout",
                &format!(
                    "Pod/a: old\nPod/b: pulled late\nPod/c: back-off\n{forbidden}\n{forbidden}\n"
                ),
            ),
        ],
    );
    let pods = r#"{"items":[
        {"metadata":{"name":"istiod-1"},"status":{"phase":"Pending","containerStatuses":[{"state":{"waiting":{"reason":"ImagePullBackOff"}}}]}},
        {"metadata":{"name":"gw-1"},"status":{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","message":"0/3 nodes are available"}]}},
        {"metadata":{"name":"gw-2"},"status":{"phase":"Running","containerStatuses":[{"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}},
        {"metadata":{"name":"well"},"status":{"phase":"Running"}}]}"#;
    lab.answer("3", &[("match", "kubectl *get pods*"), ("stdout", pods)]);
    let file = Utf8PathBuf::from_path_buf(lab.dir.path().join("install.yaml")).unwrap();
    fs::write(&file, &lab.yaml).unwrap();
    let yaml = lab.yaml.clone();
    let wanted = Wanted::Install {
        file: &file,
        yaml: yaml.as_bytes(),
        primary: None,
    };
    let error = lab.perform(&wanted, &target()).unwrap_err();
    assert!(
        error.cause.contains(
            "Pods: istiod-1 ImagePullBackOff, gw-1 0/3 nodes are available, gw-2 CrashLoopBackOff. "
        ) && error.cause.ends_with(&format!(
            "Newest warnings: Pod/b: pulled late; Pod/c: back-off; {forbidden}"
        )),
        "{error}"
    );
    assert_eq!(
        lab.perform(&wanted, &target()).unwrap().did,
        "an install of it was cut off"
    );
}

#[test]
fn an_istiod_with_another_root_is_not_ready() {
    let mut lab = Lab::new();
    lab.all(&target());
    let error = lab
        .perform(
            &Wanted::Ready {
                root_cert: b"other\n",
            },
            &target(),
        )
        .unwrap_err();
    assert!(
        error.cause.contains("another root")
            && error.cause.contains("rollout restart deploy/istiod"),
        "{error}"
    );
    assert_eq!(lab.pauses, [1, 2, 4, 8, 16]);
}

#[test]
fn a_remote_joins_its_primary() {
    let mut lab = Lab::new();
    let remote = Target {
        primary: Some("main"),
        runs_istiod: false,
        ..target()
    };
    lab.yaml.push_str("spec:\n  profile: remote\n");
    assert_eq!(lab.all(&remote)[3], "current");
    let namespace = fs::read_to_string(lab.state("Namespace.istio-system.json")).unwrap();
    assert!(
        namespace.contains(r#""topology.istio.io/controlPlaneClusters":"main""#),
        "{namespace}"
    );
    assert_eq!(lab.all(&remote), ["current"; 4]);
}

/// Every command that a release knows by another name, or not at all, as it is called (facts §3.1 and §3.2, and
/// istioctl/cmd/root.go of the releases named).
#[test]
fn each_release_is_spoken_to_in_its_dialect() {
    let install = |minor: u16| match minor {
        0..6 => {
            "istioctl manifest apply --context ctx-1 --skip-confirmation --wait -f DIR/install.yaml"
        }
        _ => "istioctl install --context ctx-1 -y -f DIR/install.yaml",
    };
    let restart = "kubectl --context ctx-1 -n istio-system rollout restart deploy/";
    for minor in [4, 5, 6, 8, 9, 11, 14, 17, 31] {
        let istio = IstioVersion { major: 1, minor };
        let mut lab = Lab::new();
        if minor < 5 {
            lab.yaml = lab.yaml.replace("IstioOperator", "IstioControlPlane");
        }
        let main = Target {
            istio,
            in_reach: &["cluster1".into(), "cluster2".into()],
            ..target()
        };
        let other = Target {
            cluster: "cluster2",
            context: "ctx-2",
            api_server: (minor >= 9).then_some("https://api.example"),
            is_read: true,
            istio,
            ..target()
        };
        lab.all(&main);
        let called = lab.calls();
        assert!(called.iter().any(|c| c == install(minor)), "{called:#?}");

        if minor >= 5 {
            lab.perform(&Wanted::Reads(&other), &main).unwrap();
            let word = if minor < 12 { "x " } else { "" };
            let server = if minor < 9 {
                ""
            } else {
                " --server https://api.example"
            };
            let create = format!(
                "istioctl {word}create-remote-secret --context ctx-2 --name cluster2 -n istio-system -i istio-system{server}"
            );
            let called = lab.calls();
            assert!(called.contains(&create), "{called:#?}");
        }
        lab.perform(&Wanted::Synced, &main).unwrap();
        let asked = lab.calls().iter().any(|c| c.contains("remote-clusters"));
        assert_eq!(asked, minor >= 12);

        // A new certificate under a running istiod: followed since 1.18.
        lab.answer(
            "metrics",
            &[
                ("match", "kubectl *get --raw*/metrics"),
                ("stdout", "citadel_server_cert_chain_expiry_timestamp 0\n"),
            ],
        );
        let renewed = Cacerts {
            ca_cert: b"renewed\n",
            ..FILES
        };
        lab.perform(&Wanted::Secret(renewed), &main).unwrap();
        let restarted = lab.calls().iter().any(|c| c.starts_with(restart));
        assert_eq!(restarted, minor < 18);

        lab.answer(
            "crds",
            &[
                ("match", "kubectl *get customresourcedefinitions*"),
                ("stdout", ""),
            ],
        );
        lab.answer(
            "planes",
            &[("match", "kubectl *get *deployments*"), ("stdout", "")],
        );
        let tools = lab.tools.clone();
        let made = made(&[], &main, &tools, &mut lab);
        let uninstall = match minor {
            0..7 => {
                assert!(made.unwrap_err().cause.contains("manifest generate"));
                continue;
            }
            7..15 => "x uninstall",
            _ => "uninstall",
        };
        let made = made.unwrap();
        let command = &made
            .iter()
            .find(|r| r.what.starts_with("Istio"))
            .unwrap()
            .command;
        assert_eq!(
            command.args.join(" "),
            format!("{uninstall} --context ctx-1 --purge -y -i istio-system")
        );
    }
}

#[test]
fn what_is_missing_is_found_before_anything_runs() {
    let lab = Lab::new();
    let targets = [
        target(),
        Target {
            cluster: "cluster2",
            context: "ctx2",
            ..target()
        },
    ];
    let look = |targets: &[Target<'_>], found: bool, texts: &[&str]| {
        let mut asked = Vec::new();
        let mut machine = Machine {
            found: &|_| found,
            kubeconfig: &|_| texts.iter().map(|t| t.as_bytes().to_vec().into()).collect(),
            run: &mut |c| {
                asked.push(c.args.join(" "));
                run(&lab.command(c), &Interrupt::new(GRACE), &mut |_| {})
            },
        };
        let absent = preflight(targets, &lab.tools, &mut machine);
        (absent, asked)
    };
    let absent = Absent {
        cluster: "cluster2".into(),
        why: "the kubeconfig has no context ctx2".into(),
        how: "did you mean ctx-2?".into(),
    };
    let ask = "config get-contexts -o name";
    assert_eq!(look(&targets, true, &[]), (vec![absent], vec![ask.into()]));
    // What a kubeconfig names need not be asked for; one that cannot be read here is kubectl's to judge.
    let named = "contexts: [{name: ctx-1}]";
    assert_eq!(look(&targets[..1], true, &["]", named]), (vec![], vec![]));
    assert_eq!(look(&targets[1..], true, &["]", named]).1, [ask]);
    // A cluster's own kubeconfig is the one that counts.
    let own = Target {
        kubeconfig: Some("/east.yaml".into()),
        ..target()
    };
    let asked = look(&[target(), own], true, &[]).1;
    assert_eq!(asked, [ask, &format!("{ask} --kubeconfig /east.yaml")]);
    let (without, _) = look(&targets, false, &[named]);
    assert_eq!(without.len(), 2);
    assert!(without[0].how.contains("KUBECTL="), "{without:?}");
    let tools = Tools::from_vars(|name| (name == "ISTIOCTL").then(|| "/opt/istioctl".into()));
    assert_eq!(
        tools,
        Tools {
            kubectl: "kubectl".into(),
            istioctl: "/opt/istioctl".into()
        }
    );
}
