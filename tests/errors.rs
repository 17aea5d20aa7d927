//! Each mistake in a plan is told at its place, with its cause and what to write instead; and no text,
//! however wrong, makes reading it panic.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use camino::Utf8Path;
use meshplan::{
    graph,
    plan::{
        self, Loaded, Request, Surroundings,
        problem::{Problems, Style},
    },
};
use proptest::{prelude::*, test_runner::Config};

/// The fixtures' folder as if it were the whole machine; one text may stand in for a plan of its own.
struct Fixtures {
    dir: PathBuf,
    text: Option<Vec<u8>>,
    assignments: Vec<(String, String)>,
}

const CWD: &str = "/plans";

impl Fixtures {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/errors");
        Self {
            dir,
            text: None,
            assignments: Vec::new(),
        }
    }

    fn with(text: impl Into<Vec<u8>>) -> Self {
        Self {
            text: Some(text.into()),
            ..Self::new()
        }
    }

    fn real(&self, path: &Utf8Path) -> PathBuf {
        self.dir.join(path.strip_prefix(CWD).unwrap_or(path))
    }

    fn load(&self, name: &str) -> Result<Loaded, Problems> {
        let request = Request {
            file: Utf8Path::new(name),
            cwd: Utf8Path::new(CWD),
            assignments: &self.assignments,
            work_dir: None,
        };
        let loaded = plan::load(&request, self)?;
        graph::lower(&loaded.plan).map(|_| loaded)
    }
}

impl Surroundings for Fixtures {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        match (&self.text, path.file_name()) {
            (Some(text), Some("text.kdl")) => Ok(text.clone()),
            _ => fs::read(self.real(path)),
        }
    }

    fn len(&self, path: &Utf8Path) -> io::Result<u64> {
        match (&self.text, path.file_name()) {
            (Some(text), Some("text.kdl")) => Ok(text.len() as u64),
            _ => Ok(fs::metadata(self.real(path))?.len()),
        }
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(self.real(dir))?.map(|e| Ok(e?.file_name().into_string().unwrap()));
        names.collect()
    }
}

#[test]
fn every_mistake_is_told_as_its_fixture_says() {
    let fixtures = Fixtures::new();
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(&fixtures.dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "stderr") && !path.with_extension("kdl").exists() {
            wrong.push(format!("{} is of no fixture", path.display()));
        }
        if path.extension().is_none_or(|e| e != "kdl") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let Err(problems) = fixtures.load(name) else {
            panic!("{name} has no problem")
        };
        let told = problems.render(Style {
            color: false,
            width: 80,
        });
        let expected = path.with_extension("stderr");
        if bless {
            fs::write(&expected, &told).unwrap();
        } else if fs::read_to_string(&expected).ok().as_deref() != Some(&told) {
            wrong.push(format!("{name} tells:\n{told}"));
        }
    }
    assert!(count > 50, "fixtures are missing");
    assert!(
        wrong.is_empty(),
        "not as expected (BLESS=1 rewrites, then read the difference):\n{}",
        wrong.join("\n")
    );
}

fn codes(text: impl Into<Vec<u8>>) -> Vec<&'static str> {
    let problems = Fixtures::with(text).load("text.kdl").unwrap_err();
    problems.list.iter().map(|p| p.code).collect()
}

#[test]
fn what_no_parser_should_be_given_is_refused_before_it_is() {
    assert_eq!(codes(vec![b'/'; 17 << 20]), ["plan::size"]);
    assert_eq!(codes(b"mesh \"m\xff\" { }".to_vec()), ["plan::utf8"]);
    assert_eq!(codes("a { ".repeat(100_000)), ["plan::depth"]);
    assert_eq!(codes("/* ".repeat(100_000)), ["plan::depth"]);
    assert_eq!(codes(""), ["plan::empty"]);
    // As deep as is allowed, so that the parser is reached: it must not overflow its stack.
    let deep = format!(
        "mesh \"m\" {{ operator {{ {} }} }}",
        "a { ".repeat(60) + &"} ".repeat(60)
    );
    let _ = Fixtures::with(deep).load("text.kdl");
}

#[test]
fn a_byte_order_mark_and_windows_line_breaks_are_no_mistake() {
    let text =
        "\u{feff}mesh \"m\" {\r\n    istio-version \"1.30\"\r\n}\r\ncluster \"east\" { }\r\n";
    assert!(Fixtures::with(text).load("text.kdl").is_ok());
}

fn told(plan: &str, assignments: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let mut fixtures = Fixtures::with(plan);
    let owned = assignments.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    fixtures.assignments = owned.collect();
    let list = match fixtures.load("text.kdl") {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems.list,
    };
    list.into_iter().map(|p| (p.code, p.help)).collect()
}

#[test]
fn an_assignment_that_nothing_reads_is_told_with_the_name_that_was_meant() {
    let plan = "mesh \"m\" { }\ncluster \"east\" { context (env)\"CTX_1\"; network (env)\"NETWORK_1:-n\"; }";
    assert_eq!(told(plan, &[("NETWORK_1", "x"), ("CTX_1", "c")]), []);
    assert_eq!(
        told(plan, &[("NETWRK_1", "x")]),
        [(
            "plan::unread-variable",
            "did you mean NETWORK_1=…?".to_owned()
        )]
    );
    // What is wrong may be what would read it.
    for broken in ["netwrk (env)\"NETWRK_1\";", "network (env)\"NETWRK_1\""] {
        let found = told(
            &plan.replace("network (env)\"NETWORK_1:-n\";", broken),
            &[("NETWRK_1", "x")],
        );
        assert!(
            found
                .iter()
                .all(|(code, _)| *code != "plan::unread-variable"),
            "{found:?}"
        );
    }
}

#[test]
fn a_ca_that_outlives_its_root_is_warned_of_and_no_more() {
    let plan = "mesh \"m\" { }\nroot-ca { validity \"1000d\"; }\ncluster-ca { validity \"1000d\"; }\ncluster \"east\" { }";
    let codes: Vec<_> = told(plan, &[]).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["plan::outlives-root"]);
}

#[test]
fn a_missing_semicolon_hides_nothing_in_its_node() {
    let plan = "mesh \"m\" { }\ncluster \"a\" { netwrk \"n\" }\ncluster \"b\" { ca { kye \"x\" } }";
    let mut codes: Vec<_> = told(plan, &[]).into_iter().map(|(code, _)| code).collect();
    codes.sort_unstable();
    let (unended, unknown) = ("plan::unended", "plan::unknown-node");
    assert_eq!(codes, [unended, unended, unended, unknown, unknown]);
}

#[test]
fn the_plans_that_come_along_have_no_warning() {
    let mut plans = Fixtures::new();
    plans.dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    for name in ["demo.kdl", "ecdsa.kdl", "tasks.kdl"] {
        assert_eq!(plans.load(name).unwrap().warnings, [], "{name}");
    }
}

/// A result whose places are all in their texts.
fn sound(text: &[u8]) -> Result<(), TestCaseError> {
    if let Err(problems) = Fixtures::with(text).load("text.kdl") {
        prop_assert!(!problems.list.is_empty());
        for (span, _) in problems.list.iter().flat_map(|p| &p.labels) {
            let text = problems.sources.text(span.source);
            // `get` is none where a place is outside of the text or inside of a character.
            prop_assert!(text.get(span.start as usize..span.end as usize).is_some());
        }
        problems.render(Style {
            color: false,
            width: 40,
        });
        problems.to_json();
    }
    Ok(())
}

#[test]
fn no_text_makes_reading_panic() {
    let config = || Config {
        cases: 300,
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config(), |(text in ".{0,200}")| { sound(text.as_bytes())?; });
    let words = prop::sample::select(vec![
        "mesh", "cluster", "task", "root-ca", "include", "ca", "run", "needs", "\"a\"", "\"east\"",
        "{", "}", ";", "\n", " ", "=", "(env)", "\"X:-y\"", "/-", "/*", "*/", "//", "\\", "\"",
        "r#\"", "#true", "1", "-1d", "é", "\0", "operator", "-", "#", "“", "\\u{", "values",
        "global", "network", "東", "\r",
    ]);
    proptest!(config(), |(words in proptest::collection::vec(words, 0..40))| { sound(words.join(" ").as_bytes())?; });
    let demo = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/demo.kdl")).unwrap();
    proptest!(config(), |(at in 0..demo.len(), byte in any::<u8>(), cut in any::<bool>())| {
        let mut text = demo.clone();
        if cut { text.remove(at); } else { text[at] = byte; }
        sound(&text)?;
    });
}
