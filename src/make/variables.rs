//! The Makefiles' variables (facts §1.5): which there are, what they are worth where nobody sets them, and
//! whose word counts. Values are taken as they are: make and the shell would expand them (facts B20).

use std::time::Duration;

use super::generation::{Generation, Told};
use crate::plan::{
    model::{KeyAlgorithm, Validity},
    suggest,
};

/// Whose word a value is; make's order of precedence for `?=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `NAME=VALUE` on the command line.
    Typed,
    /// The environment.
    Environment,
    /// The Makefile, where somebody edited it.
    Edited,
    /// The Makefile's own.
    Default,
}

/// A variable of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its text.
    pub text: String,
    /// Whose word it is.
    pub origin: Origin,
}

/// All variables of one generation.
#[derive(Debug)]
pub struct Variables {
    generation: Generation,
    values: Vec<(&'static str, Value)>,
}

/// Name, default, first and last generation that reads it.
type Known = (&'static str, &'static str, Generation, Generation);

const FIRST: Generation = Generation::Citadel;
const LAST: Generation = Generation::Kubernetes;
const OLD: Generation = Generation::CitadelWorkloads;
const NEW: Generation = Generation::Joint;

/// The trust domain is no variable of any Makefile.
const KNOWN: &[Known] = &[
    ("ROOTCA_DAYS", "3650", FIRST, LAST),
    ("ROOTCA_KEYSZ", "4096", FIRST, LAST),
    ("ROOTCA_ORG", "Istio", FIRST, LAST),
    ("ROOTCA_CN", "Root CA", FIRST, LAST),
    ("CITADEL_DAYS", "730", FIRST, OLD),
    ("CITADEL_KEYSZ", "4096", FIRST, OLD),
    ("CITADEL_ORG", "Istio", FIRST, OLD),
    ("CITADEL_CN", "Intermediate CA", FIRST, OLD),
    ("CITADEL_SAN_DNS", "localhost", FIRST, OLD),
    ("CITADEL_SERIAL", "", FIRST, OLD),
    ("INTERMEDIATE_DAYS", "3650", NEW, LAST),
    ("INTERMEDIATE_KEYSZ", "4096", NEW, LAST),
    ("INTERMEDIATE_ORG", "Istio", NEW, LAST),
    ("INTERMEDIATE_CN", "Intermediate CA", NEW, LAST),
    ("INTERMEDIATE_SAN_DNS", "istiod.istio-system.svc", NEW, LAST),
    ("INTERMEDIATE_SERIAL", "", NEW, LAST),
    ("WORKLOAD_DAYS", "1", OLD, LAST),
    ("NAMESPACE", "vm", OLD, OLD),
    ("SERVICE_ACCOUNT", "default", OLD, LAST),
    ("WORKLOAD_CN", "Workload", NEW, LAST),
    ("ISTIO_NAMESPACE", "istio-system", NEW, LAST),
    ("KUBECONFIG", "~/.kube/config", NEW, LAST),
    // Not the Makefiles': they use the current context, whatever it is (facts B12).
    ("KUBECONTEXT", "the current one", NEW, LAST),
];

/// The first release line whose intermediates last ten years (facts §1.1: #43461, also in 1.15.7, 1.16.4
/// and 1.17.1).
const TEN_YEARS: u16 = 18;

fn read_by(known: &Known, generation: Generation) -> bool {
    (known.2..=known.3).contains(&generation)
}

impl Variables {
    /// The variables of a generation: the command line's word, else the environment's, else the file's.
    pub fn new(
        generation: Generation,
        told: &Told,
        typed: &[(String, String)],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let values = KNOWN
            .iter()
            .filter(|k| read_by(k, generation))
            .map(|&(name, default, ..)| {
                let of = |text: String, origin| Value { text, origin };
                let typed = typed.iter().rfind(|(n, _)| n == name);
                let in_file = told
                    .defaults
                    .iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| v.clone());
                let value = match typed {
                    Some((_, text)) => of(text.clone(), Origin::Typed),
                    None => match (env(name), in_file) {
                        (Some(text), _) => of(text, Origin::Environment),
                        // As Istio has it, a default is nobody's word.
                        (None, Some(text)) if !is_istios(name, default, &text) => {
                            of(text, Origin::Edited)
                        }
                        (None, Some(text)) => of(text, Origin::Default),
                        (None, None) => {
                            of(default_of(name, default, generation, told), Origin::Default)
                        }
                    },
                };
                (name, value)
            });
        Self {
            generation,
            values: values.collect(),
        }
    }

    /// The value of a variable that the generation has; empty where it has none of that name.
    pub fn text(&self, name: &str) -> &str {
        self.find(name).map_or("", |v| &v.text)
    }

    /// Its value, where somebody set it.
    pub fn set(&self, name: &str) -> Option<&str> {
        let value = self.find(name)?;
        (value.origin != Origin::Default).then_some(value.text.as_str())
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The name that this generation has for a variable of a cluster's CA: `DAYS` is `CITADEL_DAYS` up to 1.6.
    pub fn signer(&self, what: &str) -> String {
        match self.generation {
            Generation::Citadel | Generation::CitadelWorkloads => format!("CITADEL_{what}"),
            _ => format!("INTERMEDIATE_{what}"),
        }
    }

    /// A number of days.
    ///
    /// # Errors
    /// A sentence, where it is no number of days that a certificate can last.
    pub fn days(&self, name: &str) -> Result<Validity, String> {
        let text = self.text(name);
        let days = text
            .trim()
            .parse::<u32>()
            .ok()
            .filter(|d| (1..=36_500).contains(d));
        let days = days.ok_or_else(|| format!("{name}={text}: a number of days, 1 to 36500"))?;
        Ok(Validity::For(Duration::from_secs(u64::from(days) * 86_400)))
    }

    /// The size of an RSA key.
    ///
    /// # Errors
    /// A sentence, where it is none that is made here.
    pub fn key(&self, name: &str) -> Result<KeyAlgorithm, String> {
        match self.text(name).trim() {
            "2048" => Ok(KeyAlgorithm::Rsa2048),
            "3072" => Ok(KeyAlgorithm::Rsa3072),
            "4096" => Ok(KeyAlgorithm::Rsa4096),
            other => Err(format!(
                "{name}={other}: RSA keys are made of 2048, 3072 or 4096 bits"
            )),
        }
    }
}

/// Whether a release of Istio has this default.
fn is_istios(name: &str, default: &str, text: &str) -> bool {
    let other = match name {
        "INTERMEDIATE_DAYS" => "730",
        "WORKLOAD_DAYS" => "365",
        "KUBECONFIG" | "KUBECONTEXT" => text,
        _ => default,
    };
    text == default || text == other
}

fn default_of(name: &str, default: &str, generation: Generation, told: &Told) -> String {
    let short = match told.release {
        Some(release) => release.minor < TEN_YEARS,
        None => generation == Generation::Joint,
    };
    match name {
        "INTERMEDIATE_DAYS" if short => "730".to_owned(),
        "WORKLOAD_DAYS" if generation == Generation::CitadelWorkloads => "365".to_owned(),
        _ => default.to_owned(),
    }
}

/// What to say of variables that were typed and will not be read: make takes them silently.
pub fn unread(typed: &[(String, String)], generations: &[Generation]) -> Vec<String> {
    let reads = |known: &Known| generations.iter().any(|g| read_by(known, *g));
    let mut said = Vec::new();
    for (name, _) in typed {
        match KNOWN.iter().find(|k| k.0 == name) {
            Some(known) if name.ends_with("_SERIAL") && reads(known) => said.push(format!(
                "{name} is not used: every certificate gets a random serial number (two of one issuer with the same number break TLS, istio#39987)"
            )),
            Some(known) if reads(known) => {}
            Some(_) => {
                let other = match name.split_once('_') {
                    Some(("CITADEL", rest)) => format!("INTERMEDIATE_{rest}"),
                    Some(("INTERMEDIATE", rest)) => format!("CITADEL_{rest}"),
                    _ => String::new(),
                };
                let near = KNOWN.iter().find(|k| k.0 == other && reads(k));
                let near = near.map_or(String::new(), |k| format!(": did you mean {}=…?", k.0));
                said.push(format!("{name} has no effect on these targets{near}"));
            }
            None => {
                let names = KNOWN.iter().filter(|k| reads(k) && !k.0.ends_with("_SERIAL")).map(|k| k.0);
                let near = suggest(name, names).map_or(String::new(), |n| format!(": did you mean {n}=…?"));
                said.push(format!("{name} is none of the Makefile's variables{near}"));
            }
        }
    }
    said
}

/// Names and defaults that `help` lists.
pub fn listed(generation: Generation, told: &Told) -> Vec<(&'static str, String)> {
    let known = KNOWN
        .iter()
        .filter(|k| read_by(k, generation) && !k.0.ends_with("_SERIAL"));
    known
        .map(|&(name, default, ..)| (name, default_of(name, default, generation, told)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
        let told = Told {
            defaults: vec![("ROOTCA_ORG".to_owned(), "File".to_owned())],
            ..Told::default()
        };
        let typed = [("ROOTCA_CN".to_owned(), "Typed".to_owned())];
        let env = |name: &str| matches!(name, "ROOTCA_CN" | "ROOTCA_DAYS").then(|| "9".to_owned());
        let variables = Variables::new(Generation::SelfSigned, &told, &typed, &env);
        let got = [
            "ROOTCA_CN",
            "ROOTCA_DAYS",
            "ROOTCA_ORG",
            "INTERMEDIATE_DAYS",
        ]
        .map(|n| variables.text(n));
        assert_eq!(got, ["Typed", "9", "File", "3650"]);
        // An edited default is somebody's word, Istio's own is not.
        let set = ["ROOTCA_DAYS", "ROOTCA_ORG", "INTERMEDIATE_DAYS"].map(|n| variables.set(n));
        assert_eq!(set, [Some("9"), Some("File"), None]);
    }

    #[test]
    fn slips_of_the_pen_are_told() {
        let typed = ["INTERMEDIAT_DAYS", "CITADEL_DAYS", "X", "ROOTCA_DAYS"]
            .map(|n| (n.to_owned(), "1".to_owned()));
        let said = unread(&typed, &[Generation::SelfSigned]);
        assert_eq!(
            said,
            [
                "INTERMEDIAT_DAYS is none of the Makefile's variables: did you mean INTERMEDIATE_DAYS=…?",
                "CITADEL_DAYS has no effect on these targets: did you mean INTERMEDIATE_DAYS=…?",
                "X is none of the Makefile's variables"
            ]
        );
    }
}
