//! What the benchmarks compare with: the least that the same work costs without an engine, and a kubectl that
//! answers from memory after a given time. It knows nothing of plans and graphs.
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

use std::{
    env,
    error::Error,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    process::{Command, ExitCode},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use meshplan::{
    action::pki::{self, Bundle, Issuer, Request, Role},
    plan::model::{KeyAlgorithm, Subject, Validity},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let began = Instant::now();
    let words: Vec<String> = env::args().collect();
    let called = words[0].rsplit('/').next().unwrap_or_default();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let done = match (called, words.as_slice()) {
        ("kubectl", asked) => kubectl(asked, began),
        (_, ["stat", list]) => stat(list),
        (_, ["build", count, dir]) => number(count).and_then(|count| build(count, dir)),
        (_, ["keygen", count, threads]) => {
            number(count).and_then(|count| keygen(count, number(threads)?))
        }
        // cargo runs bench targets with words of its own.
        _ => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("floor: {e}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Done<usize> {
    Ok(text.parse()?)
}

/// Looks at every file that a list names, one after the other.
fn stat(list: &str) -> Done<()> {
    for path in fs::read_to_string(list)?.lines() {
        fs::symlink_metadata(path)?;
    }
    Ok(())
}

fn write(path: &str, mode: u32, bytes: &[u8]) -> Done<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    Ok(file.write_all(bytes)?)
}

/// An `install.yaml` is about as long.
const MANIFEST: [u8; 1_100] = [b'x'; 1_100];

/// Keys, certificates, checks and files of so many clusters, on all cores, made durable by one sync.
fn build(count: usize, dir: &str) -> Done<()> {
    let now = OffsetDateTime::now_utc();
    let request = |locality: Option<String>, pathlen| Request {
        subject: Subject {
            organization: "Istio".to_owned(),
            common_name: "Intermediate CA".to_owned(),
        },
        locality,
        dns: vec!["istiod.istio-system.svc".to_owned()],
        uris: Vec::new(),
        validity: Validity::For(Duration::from_secs(730 * 86_400)),
        role: Role::Ca { pathlen },
    };
    let root_key = pki::generate_key(KeyAlgorithm::EcdsaP256)?.pem;
    let root_request = Request {
        validity: Validity::For(Duration::from_secs(3_650 * 86_400)),
        ..request(None, None)
    };
    let root = pki::self_sign(&root_key, &root_request, None, now)?;
    let issuer = Issuer::load(&[&root], &root_key, now).map_err(|e| format!("{e:?}"))?;
    write(&format!("{dir}/root-key.pem"), 0o600, &root_key)?;
    write(&format!("{dir}/root-cert.pem"), 0o644, &root)?;
    let next = AtomicUsize::new(0);
    let work = || -> Done<()> {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= count {
                return Ok(());
            }
            let name = format!("c{place}");
            let key = pki::generate_key(KeyAlgorithm::EcdsaP256)?;
            let request = request(Some(name.clone()), Some(0));
            let signed = issuer.sign(&request, &key.public_key, now)?;
            let bundle = Bundle {
                ca_cert: &signed.pem,
                ca_key: &key.pem,
                cert_chain: &signed.pem,
                root_cert: &root,
            };
            let findings = pki::judge_with(&bundle, Ok(pki::digest(&key.public_key)), now);
            if findings.iter().any(|f| f.is_error()) {
                return Err("a bundle that istiod would refuse".into());
            }
            let folder = format!("{dir}/{name}");
            fs::create_dir(&folder)?;
            write(&format!("{folder}/ca-key.pem"), 0o600, &key.pem)?;
            write(&format!("{folder}/ca-cert.pem"), 0o644, &signed.pem)?;
            write(&format!("{folder}/cert-chain.pem"), 0o644, &signed.pem)?;
            write(&format!("{folder}/root-cert.pem"), 0o644, &root)?;
            write(&format!("{folder}/install.yaml"), 0o644, &MANIFEST)?;
        }
    };
    on_all_cores(&work)?;
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

fn on_all_cores(work: &(impl Fn() -> Done<()> + Sync)) -> Done<()> {
    let cores = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut ended = threads.into_iter().map(|t| t.join());
        ended.try_for_each(|end| end.unwrap_or_else(|_| Err("a thread gave up".into())))
    })
}

/// Mean seconds that an RSA-4096 key takes with so many threads at it.
fn keygen(count: usize, threads: usize) -> Done<()> {
    let work = || -> Done<Duration> {
        let start = Instant::now();
        for _ in 0..count {
            pki::generate_key(KeyAlgorithm::Rsa4096)?;
        }
        Ok(start.elapsed())
    };
    let took: Done<Vec<Duration>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = threads.into_iter().map(|t| t.join());
        ended
            .map(|end| end.unwrap_or_else(|_| Err("a thread gave up".into())))
            .collect()
    });
    let sum: Duration = took?.iter().sum();
    println!("{}", sum.as_secs_f64() / (count * threads) as f64);
    Ok(())
}

/// Answers what was answered before, after MILLIS. What was never asked is answered from objects that are files
/// (FAKE_DIR/state, as the tests' fake tools have them), or by the kubectl behind (BEHIND); where KEEP is set, such
/// answers are kept in ANSWERS. Each call that is answered from memory leaves a line there.
fn kubectl(words: &[&str], began: Instant) -> Done<()> {
    let answers = env::var("ANSWERS")?;
    let mut stdin = Vec::new();
    if words.contains(&"-f") {
        std::io::stdin().read_to_end(&mut stdin)?;
    }
    let asked = [words.join("\n").as_bytes(), b"\n", &stdin].concat();
    let name: String = pki::digest(&asked)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let kept = format!("{answers}/{name}");
    if let Ok(answer) = fs::read(&kept) {
        let mut calls = OpenOptions::new()
            .append(true)
            .create(true)
            .open(format!("{answers}/calls"))?;
        calls.write_all(format!("{}\n", words.join(" ")).as_bytes())?;
        let latency = Duration::from_millis(env::var("MILLIS")?.parse()?);
        thread::sleep(latency.saturating_sub(began.elapsed()));
        return Ok(std::io::stdout().write_all(&answer)?);
    }
    let answer = match of_objects(words, &stdin)? {
        Some(answer) => answer,
        None => {
            let output = Command::new(env::var("BEHIND")?).args(words).output()?;
            std::io::stderr().write_all(&output.stderr)?;
            if !output.status.success() {
                return Err("the kubectl behind failed".into());
            }
            output.stdout
        }
    };
    // A change is none that may be answered from memory.
    let reads = ["get", "version", "config", "auth"];
    if words.iter().any(|w| reads.contains(w)) && env::var_os("KEEP").is_some() {
        fs::write(&kept, &answer)?;
    }
    Ok(std::io::stdout().write_all(&answer)?)
}

/// What the tests' fake kubectl answers to calls that read or write objects: there are a million of those in a
/// mesh of 1,000 clusters, and a shell needs seconds for some. `None` for other calls.
fn of_objects(words: &[&str], stdin: &[u8]) -> Done<Option<Vec<u8>>> {
    let context = words.iter().skip_while(|w| **w != "--context").nth(1);
    let (Some(context), true) = (context, words.contains(&"-f")) else {
        return Ok(None);
    };
    let state = format!("{}/state/{context}", env::var("FAKE_DIR")?);
    fs::create_dir_all(&state)?;
    let place = |object: &Value| {
        let [kind, name] = [&object["kind"], &object["metadata"]["name"]].map(Value::as_str);
        let (kind, name) = (kind.unwrap_or_default(), name.unwrap_or_default());
        (
            format!("{kind} {name}"),
            format!("{state}/{kind}.{name}.json"),
        )
    };
    let object: Value = serde_json::from_slice(stdin)?;
    let items = object["items"].as_array();
    if let (true, Some(items)) = (words.contains(&"get"), items) {
        let found = items.iter().filter_map(|stub| match place(stub) {
            (name, _) if name == "Namespace kube-system" => {
                let metadata = json!({"name": "kube-system", "uid": format!("uid-of-{context}")});
                Some(json!({"kind": "Namespace", "metadata": metadata}))
            }
            (_, path) => serde_json::from_slice(&fs::read(path).ok()?).ok(),
        });
        let found: Vec<Value> = found.collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": found});
        let nothing = found.is_empty();
        return Ok(Some(if nothing {
            Vec::new()
        } else {
            list.to_string().into_bytes()
        }));
    }
    if let Some(items) = items {
        // Whatever is asked, is allowed.
        let asked = items
            .iter()
            .filter(|i| i["kind"] == "SelfSubjectAccessReview");
        let answers =
            asked.map(|_| r#"{"kind":"SelfSubjectAccessReview","status":{"allowed":true}}"#);
        return Ok(Some(answers.collect::<Vec<_>>().join("\n").into_bytes()));
    }
    let (name, path) = place(&object);
    if words.contains(&"create") && fs::exists(&path)? {
        eprintln!("Error from server (AlreadyExists): {name} already exists");
        return Err("it is there".into());
    }
    let next = format!("{path}.{}", std::process::id());
    fs::write(&next, stdin)?;
    fs::rename(&next, path)?;
    Ok(Some(format!("{name} serverside-applied\n").into_bytes()))
}
