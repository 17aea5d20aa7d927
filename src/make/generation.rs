//! Which of Istio's Makefiles is stood in for: told by `--istio`, by what the file says, by its name, or
//! left to how a goal is spelled. A Makefile is looked at as text and never executed. Nothing here knows
//! what a goal makes.

use camino::Utf8Path;

use crate::plan::model::IstioVersion;

/// Makefiles with the same targets (facts §1.1, §1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// 1.2–1.5, `samples/certs/Makefile`: `<name>-certs` is a cluster's CA.
    Citadel,
    /// 1.6: the same, and `<name>-certs-wl`.
    CitadelWorkloads,
    /// 1.7, `tools/certs/Makefile`: `-cacerts-k8s`, `-cacerts-selfSigned`, `-certs-k8s`, `-certs-selfSigned`.
    Joint,
    /// 1.8 and later, `Makefile.selfsigned.mk`.
    SelfSigned,
    /// 1.8 and later, `Makefile.k8s.mk`.
    Kubernetes,
}

/// What is known of the Makefile before any goal is looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its generation, where something settles it.
    pub generation: Option<Generation>,
    /// Its release line, where `--istio` names it.
    pub release: Option<IstioVersion>,
    /// `NAME ?= value` lines of the file and of the `common.mk` beside it, where they are plain text.
    pub defaults: Vec<(String, String)>,
}

impl Generation {
    /// Releases, in words.
    pub fn releases(self) -> &'static str {
        match self {
            Self::Citadel => "Istio 1.2 to 1.5",
            Self::CitadelWorkloads => "Istio 1.6",
            Self::Joint => "Istio 1.7",
            Self::SelfSigned | Self::Kubernetes => "Istio 1.8 and later",
        }
    }

    /// Its file.
    pub fn file(self) -> &'static str {
        match self {
            Self::Citadel | Self::CitadelWorkloads => "samples/certs/Makefile",
            Self::Joint => "tools/certs/Makefile",
            Self::SelfSigned => "tools/certs/Makefile.selfsigned.mk",
            Self::Kubernetes => "tools/certs/Makefile.k8s.mk",
        }
    }

    /// That of a release line; of the two since 1.8, what `file` is called decides.
    fn of_release(release: IstioVersion, named: Option<Self>) -> Option<Self> {
        match release.minor {
            ..=5 => Some(Self::Citadel),
            6 => Some(Self::CitadelWorkloads),
            7 => Some(Self::Joint),
            _ => named.filter(|n| matches!(n, Self::SelfSigned | Self::Kubernetes)),
        }
    }

    fn of_name(file: &Utf8Path) -> Option<Self> {
        match file.file_name()? {
            "Makefile.selfsigned.mk" => Some(Self::SelfSigned),
            "Makefile.k8s.mk" => Some(Self::Kubernetes),
            "Makefile.vm" => Some(Self::CitadelWorkloads),
            _ => None,
        }
    }

    /// By the pattern rules that only one of them has.
    fn of_text(text: &str) -> Option<Self> {
        let has = |rule: &str| text.lines().any(|l| l.starts_with(rule));
        if has("%-cacerts-selfSigned:") || has("%-cacerts-k8s:") {
            Some(Self::Joint)
        } else if has("%-cacerts:") && has("fetch-root-ca:") {
            Some(Self::Kubernetes)
        } else if has("%-cacerts:") {
            Some(Self::SelfSigned)
        } else if has("%-certs-wl:") {
            Some(Self::CitadelWorkloads)
        } else if has("%-certs:") && has("%/cert-chain.pem:") {
            Some(Self::Citadel)
        } else {
            None
        }
    }
}

/// Reads what settles the generation. `file` is `-f`'s, or the Makefile that make would find by itself
/// (`found`); `read` gives a file's text, if there is one.
///
/// # Errors
/// A sentence, where `--istio` names no release that has these Makefiles, or `-f` names somebody else's.
pub fn told(
    istio: Option<&str>,
    file: Option<&Utf8Path>,
    found: bool,
    read: &dyn Fn(&Utf8Path) -> Option<String>,
) -> Result<Told, String> {
    let release = istio.map(release).transpose()?;
    let by_name = file.and_then(Generation::of_name);
    let text = file.and_then(read);
    let by_text = text.as_deref().and_then(Generation::of_text);
    if let (Some(file), Some(_), None, None, false) = (file, &text, by_text, by_name, found) {
        return Err(format!(
            "{file} is none of Istio's tools/certs Makefiles, and nothing else is executed here: use make itself (`command make`)"
        ));
    }
    let generation = match release {
        Some(release) => Generation::of_release(release, by_text.or(by_name)),
        None => by_text.or(by_name),
    };
    let mut defaults = Vec::new();
    if let (Some(file), Some(text), Some(_)) = (file, &text, by_text) {
        let beside = file.parent().map(|dir| dir.join("common.mk"));
        let common = beside
            .filter(|_| text.contains("common.mk"))
            .and_then(|path| read(&path));
        defaults.extend(plain_defaults(text));
        defaults.extend(common.iter().flat_map(|t| plain_defaults(t)));
    }
    Ok(Told {
        generation,
        release,
        defaults,
    })
}

fn release(text: &str) -> Result<IstioVersion, String> {
    let bad = || {
        format!("--istio {text}: a release such as 1.7; the Makefiles are those of 1.2 and later")
    };
    let mut parts = text.trim_start_matches('v').split('.');
    let mut number = || parts.next().and_then(|p| p.parse::<u16>().ok());
    match (number(), number()) {
        (Some(1), Some(minor)) if minor >= 2 => Ok(IstioVersion { major: 1, minor }),
        _ => Err(bad()),
    }
}

/// `NAME ?= value` where the value is plain text: people edit their copies.
fn plain_defaults(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once("?=")?;
        let value = value.split('#').next().unwrap_or_default().trim();
        (!value.contains('$')).then(|| (name.trim().to_owned(), value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(istio: Option<&str>, file: &str, text: Option<&str>) -> Option<Generation> {
        let read = |_: &Utf8Path| text.map(str::to_owned);
        told(istio, Some(Utf8Path::new(file)), false, &read)
            .ok()?
            .generation
    }

    #[test]
    fn what_is_said_goes_before_what_is_read_and_that_before_a_name() {
        let seventh = Some("%-cacerts-selfSigned: x\n");
        assert_eq!(
            generation(None, "a/Makefile.selfsigned.mk", None),
            Some(Generation::SelfSigned)
        );
        assert_eq!(
            generation(None, "a/Makefile.selfsigned.mk", seventh),
            Some(Generation::Joint)
        );
        assert_eq!(
            generation(Some("1.6"), "a/Makefile", seventh),
            Some(Generation::CitadelWorkloads)
        );
        assert_eq!(
            generation(Some("1.20.3"), "a/Makefile.k8s.mk", None),
            Some(Generation::Kubernetes)
        );
        assert_eq!(generation(None, "a/Makefile", None), None);
        assert_eq!(generation(None, "a/Makefile", Some("all: build\n")), None);
        for wrong in ["2.0", "1.1", "x", "1"] {
            assert!(
                told(Some(wrong), None, false, &|_| None).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn edited_defaults_are_read_and_nothing_is_expanded() -> Result<(), String> {
        let read = |path: &Utf8Path| {
            let text = match path.file_name() {
                Some("common.mk") => "ROOTCA_DAYS ?= 10\nKUBECONFIG ?= $(HOME)/.kube/config\n",
                _ => "include $(SELF_DIR)common.mk\n%-cacerts: x\nWORKLOAD_CN ?= My VM  # ours\n",
            };
            Some(text.to_owned())
        };
        let told = told(None, Some(Utf8Path::new("certs/mine.mk")), false, &read)?;
        let defaults = [("WORKLOAD_CN", "My VM"), ("ROOTCA_DAYS", "10")];
        assert_eq!(
            told.defaults,
            defaults.map(|(n, v)| (n.to_owned(), v.to_owned()))
        );
        Ok(())
    }
}
