//! What a plan says of its CAs: the root, made or brought along, and every cluster's. It knows the nodes
//! `root-ca`, `cluster-ca` and `ca`, and Istio's defaults; not what a certificate looks like.

use std::time::Duration;

use super::{
    cluster::Heritage,
    fields::{Checker, Fields, Placed, often, once},
    model::{CaSpec, ChainForm, GivenRoot, KeyAlgorithm, RootCa, Subject, Validity, duration_text},
    problem::{Problem, Span},
    suggest,
    syntax::Node,
    value,
};

const DAY: u64 = 86_400;
const SUBJECT: &str = "write subject organization=\"Istio\" common-name=\"Root CA\"";
const BROUGHT: &str =
    "a CA is brought along by its files: cert \"org/root.pem\"; key \"org/root-key.pem\";";

/// What a `cluster-ca` or `ca` node says, before defaults are filled in.
#[derive(Debug, Default, Clone)]
pub(super) struct PartialCa {
    subject: Option<Subject>,
    key: Option<KeyAlgorithm>,
    validity: Option<Placed<Validity>>,
    renew_before: Option<Placed<Duration>>,
    dns: Option<Vec<String>>,
    chain: Option<ChainForm>,
}

impl PartialCa {
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

/// What Istio's own CAs have where a plan says nothing (facts §1.3), and meshplan's times of renewal.
struct Defaults {
    subject: (&'static str, &'static str),
    validity: Duration,
    renew_before: Duration,
    dns: Vec<String>,
}

/// The root, and where the plan says how long it lasts.
pub(super) struct Root {
    pub(super) ca: RootCa,
    validity: Option<Span>,
}

impl Checker<'_> {
    pub(super) fn root(&mut self, node: Option<&Node>) -> Option<Root> {
        let Some(node) = node else {
            return Some(self.made_root(PartialCa::default(), Span::default()));
        };
        self.block(node, false);
        let children = node.children.as_deref().unwrap_or_default();
        if let Some(given) = children.iter().find(|c| c.name == "cert") {
            let ca = RootCa::Given(self.given_root(given, children)?);
            return Some(Root { ca, validity: None });
        }
        let words = [
            once("subject"),
            once("key"),
            once("validity"),
            once("renew-before"),
            once("cert"),
            often("chain"),
        ];
        let mut fields = self.fields("`root-ca`", children, &words);
        if let Some(chain) = fields.remove("chain").and_then(|c| c.first().copied()) {
            let problem = Problem::error(
                "plan::root-ca",
                "`chain` belongs to a CA that is brought along",
            );
            self.problem(problem.label(chain.name_span, "here").help(BROUGHT));
        }
        let partial = self.ca_fields(&fields);
        Some(self.made_root(partial, node.name_span))
    }

    fn given_root(&mut self, given: &Node, children: &[Node]) -> Option<GivenRoot> {
        let made = ["subject", "validity", "renew-before"];
        for node in children.iter().filter(|c| made.contains(&c.name.as_str())) {
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
        ];
        let fields = self.fields("`root-ca`", children, &words);
        let cert = self.path(given);
        let key = match fields.get("key").and_then(|n| n.first()) {
            Some(key) => self.text(key).and_then(|text| {
                if value::key_algorithm(&text.value).is_ok() {
                    let message = format!(
                        "`{}` is a kind of key, and a key that is brought along is a file",
                        text.value
                    );
                    let problem =
                        Problem::error("plan::root-ca", message).label(text.span, "no path");
                    self.problem(
                        problem
                            .label(given.name_span, "the CA comes from here")
                            .help(BROUGHT),
                    );
                    return None;
                }
                self.path_of("key", text)
            }),
            None => {
                let problem =
                    Problem::error("plan::root-ca", "a CA that is brought along has no `key`");
                self.problem(
                    problem
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
        Some(GivenRoot {
            cert: cert.value,
            key: key.value,
            chain_span: chain.first().map(|c| c.span),
            chain: chain.into_iter().map(|c| c.value).collect(),
            cert_span: cert.span,
            key_span: key.span,
        })
    }

    fn made_root(&mut self, partial: PartialCa, span: Span) -> Root {
        let defaults = Defaults {
            subject: ("Istio", "Root CA"),
            validity: Duration::from_secs(3_650 * DAY),
            renew_before: Duration::from_secs(365 * DAY),
            dns: Vec::new(),
        };
        let validity = partial.validity.as_ref().map(|v| v.span);
        Root {
            ca: RootCa::Made(self.ca_spec(partial, span, defaults)),
            validity,
        }
    }

    /// A `cluster-ca` or `ca` node.
    pub(super) fn cluster_ca(&mut self, node: &Node) -> PartialCa {
        self.block(node, false);
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
        let partial = self.ca_fields(&fields);
        // Also where no cluster takes these defaults.
        if let (Some(validity), Some(renew)) = (&partial.validity, &partial.renew_before) {
            self.renewable(validity.value, Some(validity.span), renew);
        }
        partial
    }

    fn ca_fields(&mut self, fields: &Fields) -> PartialCa {
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
            key: one("key").and_then(|n| self.key(n)),
            validity: one("validity").and_then(|n| self.time(n, "plan::validity", value::validity)),
            renew_before: one("renew-before")
                .and_then(|n| self.time(n, "plan::renew-before", value::duration)),
            dns: fields.contains_key("dns").then_some(dns),
            chain: one("chain")
                .and_then(|n| self.word(n, "plan::chain", chain))
                .map(|c| c.value),
        }
    }

    pub(super) fn key(&mut self, node: &Node) -> Option<KeyAlgorithm> {
        let text = self.text(node)?;
        let (cause, mut help) = match value::key_algorithm(&text.value) {
            Ok(key) => return Some(key),
            Err(wrong) => wrong,
        };
        if text.value.contains(['/', '.']) {
            help = format!("{help}; {BROUGHT}");
        }
        self.wrong("plan::key", text.span, "key", Err((cause, help)))
    }

    pub(super) fn subject(&mut self, node: &Node) -> Option<Subject> {
        self.only_properties(node, SUBJECT);
        let mut subject = Subject {
            organization: String::new(),
            common_name: String::new(),
        };
        let mut sound = true;
        for property in &node.properties {
            let slot = match property.name.as_str() {
                "organization" => &mut subject.organization,
                "common-name" => &mut subject.common_name,
                other => {
                    let near = suggest(other, ["organization", "common-name"]);
                    let near = near
                        .map(|n| format!("did you mean `{n}`? "))
                        .unwrap_or_default();
                    let problem = Problem::error(
                        "plan::unknown-property",
                        format!("`subject` has no `{other}`"),
                    );
                    let problem = problem.label(property.name_span, "unknown");
                    self.problem(problem.help(format!(
                        "{near}{SUBJECT}; L is the cluster's or workload's name"
                    )));
                    sound = false;
                    continue;
                }
            };
            let text = self.text_of(&property.value);
            let text = text.and_then(|text| {
                self.wrong(
                    "plan::subject",
                    text.span,
                    &property.name,
                    value::attribute(&text.value),
                )?;
                Some(text.value)
            });
            match text {
                Some(text) => *slot = text,
                None => sound = false,
            }
        }
        let bare = node.arguments.is_empty() && node.children.is_none();
        if sound && bare && subject.organization.is_empty() && subject.common_name.is_empty() {
            let problem = Problem::error("plan::subject", "a subject says nothing");
            self.problem(problem.label(node.name_span, "this subject").help(SUBJECT));
            return None;
        }
        (sound && bare).then_some(subject)
    }

    /// A certificate inside its renewal time from the start would be signed again by every run.
    pub(super) fn renewable(
        &mut self,
        validity: Validity,
        span: Option<Span>,
        renew: &Placed<Duration>,
    ) {
        let Validity::For(whole) = validity else {
            return;
        };
        if renew.value < whole
            || !self.first_time("plan::renew-before", renew.span, span.unwrap_or_default())
        {
            return;
        }
        let text = duration_text(renew.value);
        let by_default = if span.is_none() { " by default" } else { "" };
        let message =
            format!("renew-before, {text}, is not shorter than validity, {validity}{by_default}");
        let problem = Problem::error("plan::renew-before", message)
            .label(renew.span, "renewed this long before its end");
        let problem = match span {
            Some(span) => problem.label(span, "which is this long after it was made"),
            None => problem,
        };
        self.problem(problem.help(
            "every run would sign the certificate again: make renew-before shorter, or validity longer",
        ));
    }

    fn ca_spec(&mut self, partial: PartialCa, span: Span, defaults: Defaults) -> CaSpec {
        let validity = partial
            .validity
            .as_ref()
            .map_or(Validity::For(defaults.validity), |v| v.value);
        if let Some(renew) = &partial.renew_before {
            self.renewable(validity, partial.validity.as_ref().map(|v| v.span), renew);
        }
        let renew_before = partial.renew_before.map_or_else(
            || match validity {
                // Of a short-lived one, a tenth of its life.
                Validity::For(whole) => defaults.renew_before.min(whole / 10),
                Validity::Until(_) => defaults.renew_before,
            },
            |renew| renew.value,
        );
        let (organization, common_name) = defaults.subject;
        CaSpec {
            subject: partial.subject.unwrap_or_else(|| Subject {
                organization: organization.to_owned(),
                common_name: common_name.to_owned(),
            }),
            key: partial.key.unwrap_or(KeyAlgorithm::Rsa4096),
            validity,
            renew_before,
            dns: partial.dns.unwrap_or(defaults.dns),
            uris: Vec::new(),
            chain: partial.chain.unwrap_or(ChainForm::WithoutRoot),
            span,
        }
    }

    /// One cluster's CA, with all defaults filled in.
    pub(super) fn cluster_spec(
        &mut self,
        partial: PartialCa,
        heritage: &Heritage,
        span: Span,
    ) -> CaSpec {
        let own = partial.validity.as_ref().map(|v| v.span);
        let defaults = Defaults {
            subject: ("Istio", "Intermediate CA"),
            validity: Duration::from_secs(730 * DAY),
            renew_before: Duration::from_secs(30 * DAY),
            dns: vec![format!("istiod.{}.svc", heritage.namespace)],
        };
        let spec = self.ca_spec(partial, span, defaults);
        if let Some(root) = heritage.root {
            self.outlives(spec.validity, own, root);
        }
        spec
    }

    /// An intermediate cannot last longer than its root: it is cut to the root's end (facts C12).
    fn outlives(&mut self, validity: Validity, span: Option<Span>, root: &Root) {
        let RootCa::Made(spec) = &root.ca else { return };
        let longer = match (spec.validity, validity) {
            (Validity::For(root), Validity::For(own)) => own >= root,
            (Validity::Until(root), Validity::Until(own)) => own > root,
            // Which ends first depends on the day that they are made.
            _ => false,
        };
        let place = (span.unwrap_or_default(), root.validity.unwrap_or_default());
        if !longer || !self.first_time("plan::outlives-root", place.0, place.1) {
            return;
        }
        let message = format!(
            "a cluster's CA with validity {validity} would outlive its root, with {} and signed first",
            spec.validity
        );
        let mut problem = Problem::warning("plan::outlives-root", message);
        if let Some(span) = span {
            problem = problem.label(span, "cut to the root's end");
        }
        if let Some(span) = root.validity {
            problem = problem.label(span, "the root");
        }
        let help = "make the root's validity longer, or the cluster's shorter (Istio's Makefile has 3650 days for both)";
        self.problem(problem.help(help));
    }
}
