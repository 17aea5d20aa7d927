//! Certificates that an issuer signed, a cluster's CA and a workload's: judged by whose key they carry, who
//! signed them, what the plan asks of them and when they end. It replaces no key and no root.

use super::{
    Judge, RESIGN, ends,
    look::{Seen, Sound},
    verdict::Judged,
};
use crate::{
    action::pki,
    build::{
        log::{Facts, Inputs},
        recipe::Recipe,
    },
    graph::{FileId, Task, TaskId},
    plan::model::{KeyAlgorithm, RootCa, Scope},
};

/// Differences that a Makefile's variable can speak of; what it does not speak of is taken from the file.
const SPOKEN: [&str; 4] = ["subject ", "dns ", "uri ", "validity "];

/// What a certificate should be. Its key is the task's first input.
struct Wanted {
    /// The certificate that signs.
    issuer: FileId,
    /// Inputs that it is never older than: its key, its issuer, a cluster's also the root.
    comes_from: Vec<FileId>,
    request: pki::Request,
    algorithm: KeyAlgorithm,
    renew_before: std::time::Duration,
}

impl Judge<'_> {
    pub(super) fn ca_cert(&mut self, id: TaskId, cluster: usize) -> Judged {
        let task = self.graph.task(id);
        let (key, root) = (task.inputs[0], task.inputs[1]);
        let cluster = &self.plan.clusters[cluster];
        // The certificate that signs: the root's own, or the issuing one of a CA brought along.
        let issuer = match self.plan.root {
            RootCa::Given(_) => task.inputs[2],
            RootCa::Made(_) => root,
        };
        let wanted = Wanted {
            issuer,
            comes_from: vec![key, issuer, root],
            request: pki::Request::cluster(&cluster.ca, &cluster.name),
            algorithm: cluster.ca.key,
            renew_before: cluster.ca.renew_before,
        };
        self.issued(task, &wanted)
    }

    pub(super) fn workload_cert(&mut self, id: TaskId, workload: usize) -> Judged {
        let task = self.graph.task(id);
        let workload = &self.plan.workloads[workload];
        let (key, issuer) = (task.inputs[0], task.inputs[1]);
        let wanted = Wanted {
            issuer,
            comes_from: vec![key, issuer],
            request: pki::Request::workload(workload, &self.plan.mesh),
            algorithm: workload.key,
            renew_before: workload.renew_before,
        };
        self.issued(task, &wanted)
    }

    fn issued(&mut self, task: &Task, wanted: &Wanted) -> Judged {
        let (key, issuer) = (task.inputs[0], wanted.issuer);
        if let Seen::Missing = self.eyes.look(task.outputs[0]) {
            return Judged::stale("output-missing", "there is none yet: sign");
        }
        if let Some(judged) = self.rebuilt_input(task, &wanted.comes_from) {
            return judged;
        }
        let file = match self.eyes.look(task.outputs[0]) {
            Seen::Broken(why) => return Judged::stale("output-broken", format!("{why}: {RESIGN}")),
            Seen::Sound(file) => file,
            Seen::Missing | Seen::Odd(_) => {
                return Judged::stale("output-missing", "there is none yet: sign");
            }
        };
        let (Some(key_now), Some(issuer_now)) =
            (self.eyes.public_of(key), self.eyes.digest_of(issuer))
        else {
            // Only while the key or the issuer waits for a gate.
            return Judged::stale(
                "input-broken",
                format!("its key or issuer is not sound: {RESIGN}"),
            );
        };
        let inputs = Inputs::from([key_now, issuer_now]);
        let known = self.log.task(&task.name);
        let known = known.as_ref();
        let same = known.is_some_and(|k| k.output == Some(file.digest));
        if !(same && known.is_some_and(|k| k.inputs == inputs)) {
            if let Err(why) = self.issued_sound(task, issuer) {
                return Judged::stale("output-broken", format!("{why}: {RESIGN}"));
            }
            if same {
                return Judged::stale(
                    "issuer-changed",
                    format!("its issuer is not the one that signed it: {RESIGN}"),
                );
            }
        }
        let changes = known.map(|k| Recipe::changes(self.plan, task, &k.recipe));
        if let Some(changes) = changes.filter(|c| !c.is_empty()) {
            return Judged::stale(
                "recipe-changed",
                format!("{}: {RESIGN}", changes.join(", ")),
            );
        }
        let mut differences = Vec::new();
        if !same {
            let found = self
                .eyes
                .bytes(task.outputs[0])
                .and_then(|b| pki::read_cert(&b).ok());
            // One issuer, one serial number: Istio's Makefile of 1.6 and before gave its process's number
            // to every certificate of a run (facts B17, C09).
            if let Some(cert) = &found
                && let Some(other) = self
                    .serials
                    .insert((issuer, cert.serial.clone()), task.name.clone())
            {
                let text = format!("it has the serial number of {other}: {RESIGN}");
                return Judged::stale("serial-twice", text);
            }
            differences = found
                .map(|f| pki::differences(&f, &wanted.request, wanted.algorithm))
                .unwrap_or_default();
            // Where the log knows another file, this is an older or a half-noted one: the plan decides. So
            // does a Makefile's variable, which is set to have it so.
            let foreign = self.is_foreign(&task.name);
            let spoken = |d: &String| SPOKEN.iter().any(|field| d.starts_with(field));
            let asked = self.plan.scope != Scope::Mesh && differences.iter().any(spoken);
            if !differences.is_empty() && (!foreign || asked) {
                return Judged {
                    archive: foreign,
                    ..Judged::stale(
                        "recipe-changed",
                        format!("{}: {RESIGN}", differences.join(", ")),
                    )
                };
            }
        }
        let issuer_end = match self.eyes.look(issuer) {
            Seen::Sound(Sound {
                facts: Facts::Cert { not_after, .. },
                ..
            }) => Some(not_after),
            _ => None,
        };
        if let Facts::Cert { not_after, .. } = file.facts {
            let left = not_after - self.now.unix_timestamp();
            let cut_short = issuer_end.is_some_and(|end| not_after >= end);
            if !cut_short {
                self.holds_until(not_after, wanted.renew_before);
            }
            if left <= wanted.renew_before.as_secs() as i64 && !cut_short {
                return Judged::stale("renew", format!("{}: {RESIGN}", ends(left)));
            }
        }
        if same {
            return Judged::current();
        }
        self.differs(&task.name, &differences, "");
        self.taken(task, file.digest, inputs)
    }

    fn issued_sound(&mut self, task: &Task, issuer: FileId) -> Result<(), String> {
        let read = |file| {
            self.eyes
                .bytes(file)
                .ok_or_else(|| format!("{} cannot be read", self.graph.file_at(file).name))
        };
        let (cert, key, issuer_cert) =
            (read(task.outputs[0])?, read(task.inputs[0])?, read(issuer)?);
        let key_name = &self.graph.file_at(task.inputs[0]).name;
        pki::carries_key(&cert, &key)
            .map_err(|_| format!("it does not carry the key of {key_name}"))?;
        let issuer_name = &self.graph.file_at(issuer).name;
        pki::signed_by(&cert, &issuer_cert)
            .map_err(|e| format!("it was not signed by {issuer_name} ({e})"))
    }
}
