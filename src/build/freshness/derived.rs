//! Files that are computed from others, judged by their bytes: chains, copies of the root, manifests.

use zeroize::Zeroizing;

use super::{
    Judge,
    look::{Seen, Sound},
    verdict::{Judged, Notice},
};
use crate::{
    action::{
        manifest,
        pki::{self, Digest, PkiError},
    },
    build::{log::Inputs, recipe::Recipe},
    graph::{Action, FileId, Task, TaskId},
    report::event::Verdict,
};

/// The bytes that a chain should have, and what was found of those that it has.
type Chain = (Result<Vec<u8>, PkiError>, Vec<pki::Finding>);

impl Judge<'_> {
    /// The chain of a cluster's CA or of a workload.
    pub(super) fn chain(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        let file = match self.derived(task) {
            Ok(file) => file,
            Err(judged) => return *judged,
        };
        // The key of a bundle is judged with it, and changes nothing of what is joined.
        let joined = match task.action {
            Action::Chain(_) => &task.inputs[1..],
            _ => &task.inputs[..],
        };
        let mut inputs = Inputs::new();
        for &input in joined {
            inputs.extend(self.eyes.digest_of(input));
        }
        let recipe = Recipe::of(self.plan, task);
        let known = self.log.task(&task.name);
        if known.is_some_and(|k| {
            k.output == Some(file.digest) && k.inputs == inputs && k.recipe == recipe
        }) {
            return Judged::current();
        }
        let chain = self.eyes.bytes(task.outputs[0]).unwrap_or_default();
        let (expected, findings) = match task.action {
            Action::Chain(cluster) => self.cluster_chain(task, cluster, &chain),
            _ => self.workload_chain(task, &chain),
        };
        let wrong = findings
            .iter()
            .find(|f| f.is_error())
            .map(|f| format!("{} ({})", f.message, f.rule));
        if wrong.is_none() {
            if expected.is_ok_and(|e| e == *chain) {
                return self.taken(task, file.digest, inputs);
            }
            if let Action::Chain(cluster) = task.action {
                self.outlives(&findings, cluster);
            }
            // The certificate that it is the chain of comes first in every order that is worth keeping.
            if self.is_foreign(&task.name) && pki::holds_cert(&chain, &self.read(joined[0])) {
                let form = findings
                    .iter()
                    .filter(|f| f.rule == "C10" || f.rule == "C11");
                let differences: Vec<_> = form.map(|f| f.message.clone()).collect();
                self.differs(&task.name, &differences, "");
                return self.taken(task, file.digest, inputs);
            }
        }
        let why =
            wrong.unwrap_or_else(|| "its bytes are not what its certificates make".to_owned());
        Judged {
            // Who knows whether there is another copy of that key (facts B3: it was a root's).
            archive: pki::holds_key(&chain),
            ..Judged::stale("output-broken", format!("{why}: rebuild"))
        }
    }

    /// What a cluster's chain should be, and what istiod would say of the one that is there.
    fn cluster_chain(&self, task: &Task, cluster: usize, chain: &[u8]) -> Chain {
        let [key, cert, root] = [0, 1, 2].map(|i| self.read(task.inputs[i]));
        let form = self.plan.clusters[cluster].ca.chain;
        let bundle = pki::Bundle {
            ca_cert: &cert,
            ca_key: &key,
            cert_chain: chain,
            root_cert: &root,
        };
        let expected = pki::chain(&cert, &self.between(), &root, form);
        (expected, pki::judge(&bundle, self.now))
    }

    /// What a workload's chain should be, and what a peer would say of the one that is there.
    fn workload_chain(&self, task: &Task, chain: &[u8]) -> Chain {
        let [cert, ca_cert, root] = [0, 1, 2].map(|i| self.read(task.inputs[i]));
        let expected = pki::workload_chain(&cert, &ca_cert, &self.between(), &root);
        (expected, pki::judge_chain(&cert, chain, &root, self.now))
    }

    fn read(&self, file: FileId) -> Zeroizing<Vec<u8>> {
        self.eyes.bytes(file).unwrap_or_default()
    }

    /// What stands between a cluster's CA and the root.
    fn between(&self) -> Vec<u8> {
        self.given
            .map(|g| g.path().intermediates_pem())
            .unwrap_or_default()
    }

    fn outlives(&mut self, findings: &[pki::Finding], cluster: usize) {
        let cert = self.plan.files.ca_cert(&self.plan.clusters[cluster].name);
        let found = findings.iter().filter(|f| f.rule == "C12");
        self.found.notices.extend(found.map(|f| Notice {
            code: "outlives-root",
            message: format!("{cert}: {}", f.message),
            help: format!("to end it with its root: {}", self.plan.anew(&cert, "")),
        }));
    }

    pub(super) fn root_copy(&mut self, id: TaskId) -> Judged {
        let task = self.graph.task(id);
        match self.derived(task) {
            Err(judged) => *judged,
            Ok(file) if Some(file.digest) == self.eyes.digest_of(task.inputs[0]) => {
                self.same_bytes_record(task, file.digest)
            }
            Ok(_) => self.rewritten(task, "it is not the mesh's root certificate: rebuild"),
        }
    }

    pub(super) fn install(&mut self, id: TaskId, cluster: usize) -> Judged {
        let task = self.graph.task(id);
        let file = match self.derived(task) {
            Ok(file) => file,
            Err(judged) => return *judged,
        };
        match manifest::install_yaml(
            &self.plan.mesh,
            &self.plan.clusters[cluster],
            &self.plan.clusters,
        ) {
            Ok(bytes) if pki::digest(&bytes) == file.digest => {
                self.same_bytes_record(task, file.digest)
            }
            Ok(_) => self.rewritten(task, "it is not what the plan makes of it: rebuild"),
            Err(e) => Judged::obstacle(e.to_string()),
        }
    }

    /// What a derived file is, or why it must be made whatever it holds.
    pub(super) fn derived(&mut self, task: &Task) -> Result<Sound, Box<Judged>> {
        match self.eyes.look(task.outputs[0]) {
            Seen::Missing => Err(Box::new(Judged::stale(
                "output-missing",
                "there is none yet: write",
            ))),
            Seen::Odd(text) => Err(Box::new(Judged::obstacle(text))),
            Seen::Broken(why) => Err(Box::new(Judged::stale(
                "output-broken",
                format!("{why}: rebuild"),
            ))),
            Seen::Sound(file) => match self.rebuilt_input(task, &task.inputs) {
                Some(judged) => Err(Box::new(judged)),
                None => Ok(file),
            },
        }
    }

    /// A file that no log knows is somebody's: it is kept in the archive when it is replaced.
    pub(super) fn rewritten(&self, task: &Task, text: &'static str) -> Judged {
        Judged {
            archive: self.is_foreign(&task.name),
            ..Judged::stale("output-differs", text)
        }
    }

    pub(super) fn same_bytes_record(&self, task: &Task, digest: Digest) -> Judged {
        let known = self.log.task(&task.name);
        if known.is_some_and(|k| k.output == Some(digest)) {
            return Judged::current();
        }
        // Whoever wrote these very bytes, they are what would be written.
        Judged {
            verdict: Verdict::Current,
            ..self.taken(task, digest, Inputs::new())
        }
    }
}
