//! What a plan says of CAs: the root, made or brought along, and the clusters' own.

use std::time::Duration;

use super::DAY;
use crate::plan::{
    fields::{Checker, Fields, Placed, often, once},
    model::{CaSpec, ChainForm, GivenRoot, KeyAlgorithm, RootCa, Subject, Validity},
    problem::{Problem, Span},
    suggest,
    syntax::Node,
    value,
};

/// What a `cluster-ca` or `ca` node says, before defaults are filled in.
#[derive(Default, Clone)]
pub(super) struct PartialCa {
    subject: Option<Subject>,
    key: Option<KeyAlgorithm>,
    validity: Option<Placed<Validity>>,
    renew_before: Option<Placed<Duration>>,
    dns: Option<Vec<String>>,
    chain: Option<ChainForm>,
}

impl PartialCa {
    /// What a cluster's CA lasts where nobody says more.
    pub(super) fn validity(&self) -> Validity {
        let default = Validity::For(Duration::from_secs(730 * DAY));
        self.validity.as_ref().map_or(default, |v| v.value)
    }

    /// Its own words first, then those of `defaults`.
    pub(super) fn over(self, defaults: &Self) -> Self {
        Self {
            subject: self.subject.or_else(|| defaults.subject.clone()),
            key: self.key.or(defaults.key),
            validity: self.validity.or_else(|| defaults.validity.clone()),
            renew_before: self.renew_before.or_else(|| defaults.renew_before.clone()),
            dns: self.dns.or_else(|| defaults.dns.clone()),
            chain: self.chain.or(defaults.chain),
        }
    }
}

const SUBJECT: &str = "write subject organization=\"Istio\" common-name=\"Root CA\"";

impl Checker<'_> {
    pub(super) fn root(&mut self, node: Option<&Node>) -> Option<RootCa> {
        let Some(node) = node else {
            return Some(RootCa::Made(
                self.root_spec(PartialCa::default(), Span::default()),
            ));
        };
        self.plain(node, true);
        if let Some(value) = node.arguments.first() {
            self.problem(
                Problem::error("plan::arguments", "`root-ca` takes no value")
                    .label(value.span, "here")
                    .help("write its settings in braces"),
            );
        }
        let children = node.children.as_deref().unwrap_or_default();
        let given = children.iter().find(|c| c.name == "cert");
        if let Some(given) = given {
            return self.given_root(given, children);
        }
        let words = [
            once("subject"),
            once("key"),
            once("validity"),
            once("renew-before"),
            often("dns"),
            once("cert"),
            often("chain"),
        ];
        let fields = self.fields("`root-ca`", children, &words);
        if let Some(chain) = fields.get("chain").and_then(|c| c.first()) {
            self.problem(
                Problem::error("plan::root-ca", "`chain` belongs to a CA brought along")
                    .label(chain.name_span, "here")
                    .help("write cert \"…\" and key \"…\" too, or take it away"),
            );
        }
        let partial = self.ca_fields(&fields);
        Some(RootCa::Made(self.root_spec(partial, node.name_span)))
    }

    pub(super) fn given_root(&mut self, given: &Node, children: &[Node]) -> Option<RootCa> {
        for node in children
            .iter()
            .filter(|c| ["subject", "validity", "renew-before", "dns"].contains(&c.name.as_str()))
        {
            self.problem(
                Problem::error(
                    "plan::root-ca",
                    format!("`{}` is said of a CA that is brought along", node.name),
                )
                .label(node.name_span, "has no effect")
                .label(given.name_span, "the CA comes from here")
                .help("take one of them away: what is brought along is never changed"),
            );
        }
        let words = [
            once("cert"),
            once("key"),
            often("chain"),
            once("subject"),
            once("validity"),
            once("renew-before"),
            often("dns"),
        ];
        let fields = self.fields("`root-ca`", children, &words);
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let cert = self.path(given);
        let key = match one("key") {
            Some(key) => self.path(key),
            None => {
                self.problem(
                    Problem::error("plan::root-ca", "a CA brought along has no `key`")
                        .label(given.name_span, "its certificate")
                        .help("write key \"org/root-key.pem\""),
                );
                None
            }
        };
        let mut chain = Vec::new();
        for node in fields.get("chain").into_iter().flatten() {
            let texts = self.texts(node);
            chain.extend(texts.into_iter().filter_map(|t| self.path_of("chain", t)));
        }
        let (cert, key) = (cert?, key?);
        Some(RootCa::Given(GivenRoot {
            cert: cert.value,
            key: key.value,
            chain_span: chain.first().map(|c| c.span),
            chain: chain.into_iter().map(|c| c.value).collect(),
            cert_span: cert.span,
            key_span: key.span,
        }))
    }

    pub(super) fn root_spec(&mut self, partial: PartialCa, span: Span) -> CaSpec {
        let validity = partial
            .validity
            .as_ref()
            .map_or(Validity::For(Duration::from_secs(3_650 * DAY)), |v| v.value);
        // A year to replace a root everywhere; of a short-lived one, a tenth.
        let whole = match validity {
            Validity::For(span) => span,
            Validity::Until(_) => Duration::from_secs(3_650 * DAY),
        };
        let renew = Duration::from_secs(365 * DAY).min(whole / 10);
        self.ca_spec(
            partial,
            span,
            ("Istio", "Root CA"),
            validity,
            renew,
            Vec::new(),
        )
    }

    pub(super) fn cluster_ca(&mut self, node: &Node) -> PartialCa {
        self.plain(node, true);
        if let Some(value) = node.arguments.first() {
            let problem =
                Problem::error("plan::arguments", format!("`{}` takes no value", node.name))
                    .label(value.span, "here");
            self.problem(problem.help("write its settings in braces"));
        }
        let words = [
            once("subject"),
            once("key"),
            once("validity"),
            once("renew-before"),
            often("dns"),
            once("chain"),
        ];
        let parent = format!("`{}`", node.name);
        let fields = self.fields(
            &parent,
            node.children.as_deref().unwrap_or_default(),
            &words,
        );
        self.ca_fields(&fields)
    }

    pub(super) fn ca_fields(&mut self, fields: &Fields) -> PartialCa {
        let one = |name: &str| fields.get(name).and_then(|n| n.first()).copied();
        let mut dns = Vec::new();
        for node in fields.get("dns").into_iter().flatten() {
            for text in self.texts(node) {
                if self
                    .wrong("plan::dns", text.span, "dns", value::dns_name(&text.value))
                    .is_some()
                {
                    dns.push(text.value);
                }
            }
        }
        let chain = |t: &str| match t {
            "with-root" => Ok(ChainForm::WithRoot),
            "without-root" => Ok(ChainForm::WithoutRoot),
            _ => Err((
                format!("`{t}` is no form of a chain"),
                "write \"without-root\" or \"with-root\"".to_owned(),
            )),
        };
        PartialCa {
            subject: one("subject").and_then(|n| self.subject(n)),
            key: one("key")
                .and_then(|n| self.word(n, "plan::key", value::key_algorithm))
                .map(|k| k.value),
            validity: one("validity").and_then(|n| self.word(n, "plan::validity", value::validity)),
            renew_before: one("renew-before")
                .and_then(|n| self.word(n, "plan::renew-before", value::duration)),
            dns: fields.contains_key("dns").then_some(dns),
            chain: one("chain")
                .filter(|n| !n.arguments.is_empty())
                .and_then(|n| self.word(n, "plan::chain", chain))
                .map(|c| c.value),
        }
    }

    pub(super) fn subject(&mut self, node: &Node) -> Option<Subject> {
        if let Some(value) = node.arguments.first() {
            self.problem(
                Problem::error("plan::arguments", "`subject` has properties, no value")
                    .label(value.span, "here")
                    .help(SUBJECT),
            );
        }
        let mut subject = Subject {
            organization: String::new(),
            common_name: String::new(),
        };
        for property in &node.properties {
            let slot = match property.name.as_str() {
                "organization" => &mut subject.organization,
                "common-name" => &mut subject.common_name,
                other => {
                    let near = suggest(other, ["organization", "common-name"])
                        .map(|n| format!("did you mean `{n}`? "))
                        .unwrap_or_default();
                    let problem = Problem::error(
                        "plan::unknown-property",
                        format!("`subject` has no `{other}`"),
                    );
                    self.problem(
                        problem
                            .label(property.name_span, "unknown")
                            .help(format!("{near}{SUBJECT}; L is the cluster's name")),
                    );
                    continue;
                }
            };
            let text = self.text_of(&property.value)?;
            self.wrong(
                "plan::subject",
                text.span,
                &property.name,
                value::attribute(&text.value),
            )?;
            *slot = text.value;
        }
        if subject.organization.is_empty() && subject.common_name.is_empty() {
            self.problem(
                Problem::error("plan::subject", "a subject says nothing")
                    .label(node.span, "here")
                    .help(SUBJECT),
            );
            return None;
        }
        Some(subject)
    }

    pub(super) fn ca_spec(
        &mut self,
        partial: PartialCa,
        span: Span,
        (organization, common_name): (&str, &str),
        validity: Validity,
        renew_default: Duration,
        dns: Vec<String>,
    ) -> CaSpec {
        let renew_before = partial
            .renew_before
            .as_ref()
            .map_or(renew_default, |r| r.value);
        self.renewable(&partial, validity);
        CaSpec {
            subject: partial.subject.unwrap_or_else(|| Subject {
                organization: organization.to_owned(),
                common_name: common_name.to_owned(),
            }),
            key: partial.key.unwrap_or(KeyAlgorithm::Rsa4096),
            validity,
            renew_before,
            dns: partial.dns.unwrap_or(dns),
            chain: partial.chain.unwrap_or(ChainForm::WithoutRoot),
            span,
        }
    }

    /// A window that is as long as the life of a certificate would renew it for ever.
    pub(super) fn renewable(&mut self, partial: &PartialCa, validity: Validity) {
        let (Validity::For(whole), Some(renew)) = (validity, &partial.renew_before) else {
            return;
        };
        let told = |p: &Problem| {
            p.code == "plan::renew-before" && p.labels.first().is_some_and(|l| l.0 == renew.span)
        };
        if renew.value < whole || self.problems.iter().any(told) {
            return;
        }
        let message = "a certificate would be renewed as soon as it is made";
        let mut problem = Problem::error("plan::renew-before", message)
            .label(renew.span, "this long before its end");
        if let Some(validity) = &partial.validity {
            problem = problem.label(validity.span, "it lasts this long");
        }
        self.problem(problem.help("make renew-before shorter than validity"));
    }

    pub(super) fn cluster_spec(
        &mut self,
        partial: PartialCa,
        root: Option<&RootCa>,
        namespace: &str,
        span: Span,
    ) -> CaSpec {
        let validity = partial.validity();
        let renew = match validity {
            // Of a short-lived CA, a tenth of its life.
            Validity::For(whole) => Duration::from_secs(30 * DAY).min(whole / 10),
            Validity::Until(_) => Duration::from_secs(30 * DAY),
        };
        if let (Some(RootCa::Made(root)), Some(own)) = (root, &partial.validity) {
            let longer = match (root.validity, validity) {
                (Validity::For(root), Validity::For(own)) => own >= root,
                (Validity::Until(root), Validity::Until(own)) => own > root,
                _ => false,
            };
            let told = self.problems.iter().any(|p| {
                p.code == "plan::outlives-root" && p.labels.first().is_some_and(|l| l.0 == own.span)
            });
            if longer && !told {
                let message = format!(
                    "a cluster's CA would last as long as its root, {}",
                    root.validity
                );
                let problem = Problem::warning("plan::outlives-root", message)
                    .label(own.span, "it is cut to the root's end");
                let problem = if root.span == Span::default() {
                    problem
                } else {
                    problem.label(root.span, "the root")
                };
                self.problem(problem.help("make the root's validity longer, or this one shorter (Istio's Makefile has both at 3650 days)"));
            }
        }
        let dns = vec![format!("istiod.{namespace}.svc")];
        self.ca_spec(
            partial,
            span,
            ("Istio", "Intermediate CA"),
            validity,
            renew,
            dns,
        )
    }
}
