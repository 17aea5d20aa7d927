//! What a run is made of, each part by itself: text to plan to graph to verdicts, the index in their place, keys
//! and signatures. Where time goes within the commands that `compare.py` times from outside.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{fmt::Write, fs, sync::Arc};

use camino::Utf8PathBuf;
use divan::{Bencher, bench};
use meshplan::{
    action::{cluster::Tools, pki},
    build::{
        self, Site,
        freshness::{self, Ask},
        index::{self, Memory, Question, Recalled, Witness},
        log::Log,
    },
    graph,
    host::{
        Clock, RealDisk, SystemClock,
        process::{self, Interrupt},
    },
    plan::{self, model::KeyAlgorithm},
    report::{Reporter, event::Event},
};
use tempfile::TempDir;

fn main() {
    divan::main();
}

const CLUSTERS: [usize; 2] = [1_000, 10_000];

struct Silent;

impl Reporter for Silent {
    fn event(&mut self, _: std::time::Duration, _: &Event) -> std::io::Result<()> {
        Ok(())
    }
}

/// A plan of ECDSA CAs in a folder of its own.
struct Mesh {
    dir: Utf8PathBuf,
    file: Utf8PathBuf,
    _held: TempDir,
}

impl Mesh {
    fn new(clusters: usize) -> Self {
        let held = TempDir::new().unwrap();
        let dir = Utf8PathBuf::try_from(held.path().to_owned()).unwrap();
        let mut text = "mesh \"mesh1\" { }\nroot-ca { key \"ecdsa-p256\"; }\ncluster-ca { key \"ecdsa-p256\"; }\n".to_owned();
        for n in 1..=clusters {
            let _ = writeln!(text, "cluster \"c{n}\" {{ network \"n{n}\"; }}");
        }
        let file = dir.join("plan.kdl");
        fs::write(&file, text).unwrap();
        Self {
            dir,
            file,
            _held: held,
        }
    }

    fn request(&self) -> plan::Request<'_> {
        plan::Request {
            file: &self.file,
            cwd: &self.dir,
            assignments: &[],
            work_dir: None,
        }
    }

    fn plan(&self) -> plan::model::Plan {
        let loaded = plan::load(&self.request(), &RealDisk);
        loaded.unwrap_or_else(|p| panic!("{}", p.to_json())).plan
    }

    fn site(&self) -> Site {
        let plan = self.plan();
        let graph = graph::lower(&plan).unwrap_or_else(|p| panic!("{}", p.to_json()));
        Site {
            plan: Arc::new(plan),
            graph: Arc::new(graph),
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            tools: Tools::from_vars(|_| None),
            interrupt: Interrupt::new(process::GRACE),
            given: None,
        }
    }

    /// Built, and found to have nothing to do, which leaves the index.
    fn settled(clusters: usize) -> (Self, Site) {
        let mesh = Self::new(clusters);
        let site = mesh.site();
        let request = build::Request {
            cwd: mesh.dir.clone(),
            jobs: std::thread::available_parallelism().unwrap().get(),
            cluster_jobs: 1,
            ..build::Request::default()
        };
        build::run(&site, &request, None, &mut Silent).unwrap();
        let witness = Witness::new(&RealDisk);
        plan::load(&mesh.request(), &witness).unwrap_or_else(|p| panic!("{}", p.to_json()));
        let memory = Memory {
            question: Question::new(&mesh.request()),
            witness,
            slice: None,
        };
        build::run(&site, &request, Some(memory), &mut Silent).unwrap();
        (mesh, site)
    }
}

#[bench(args = CLUSTERS)]
fn text_to_plan(bencher: Bencher, clusters: usize) {
    let mesh = Mesh::new(clusters);
    bencher.bench_local(|| mesh.plan());
}

#[bench(args = CLUSTERS)]
fn plan_to_graph(bencher: Bencher, clusters: usize) {
    let plan = Mesh::new(clusters).plan();
    bencher.bench_local(|| graph::lower(&plan));
}

#[bench(args = CLUSTERS)]
fn log_is_read(bencher: Bencher, clusters: usize) {
    let (_mesh, site) = Mesh::settled(clusters);
    let path = site.plan.state_dir().join("log");
    bencher.bench_local(|| Log::open(site.disk.clone(), path.clone()));
}

#[bench(args = CLUSTERS)]
fn graph_to_verdicts(bencher: Bencher, clusters: usize) {
    let (_mesh, site) = Mesh::settled(clusters);
    let log = Log::open(site.disk.clone(), site.plan.state_dir().join("log")).unwrap();
    let order = site.graph.cone(&site.graph.task_ids().collect::<Vec<_>>());
    bencher.bench_local(|| freshness::judge(&site, &RealDisk, &log, &Ask::default(), &order));
}

#[bench(args = CLUSTERS)]
fn index_in_their_place(bencher: Bencher, clusters: usize) {
    let (mesh, _site) = Mesh::settled(clusters);
    let now = SystemClock.now().unix_timestamp();
    bencher.bench_local(|| {
        let known = index::recall(&mesh.request(), &RealDisk, now, false);
        assert!(matches!(known, Recalled::Idle(_)));
    });
}

const KINDS: [KeyAlgorithm; 2] = [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384];

#[bench(args = KINDS)]
fn key(kind: KeyAlgorithm) {
    pki::generate_key(kind).unwrap();
}

#[bench(args = [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa4096])]
fn certificate_signed_by(bencher: Bencher, kind: KeyAlgorithm) {
    let plan = Mesh::new(1).plan();
    let now = SystemClock.now();
    let plan::model::RootCa::Made(root) = &plan.root else {
        return;
    };
    let key = pki::generate_key(kind).unwrap().pem;
    let cert = pki::self_sign(&key, &pki::Request::root(root), None, now).unwrap();
    let issuer = pki::Issuer::load(&[&cert], &key, now).unwrap();
    let public = pki::generate_key(KeyAlgorithm::EcdsaP256)
        .unwrap()
        .public_key;
    let request = pki::Request::cluster(&plan.clusters[0].ca, "c1");
    bencher.bench_local(|| issuer.sign(&request, &public, now).unwrap());
}
