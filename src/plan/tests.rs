#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::{
    model::{RootCa, Validity},
    problem::Style,
    *,
};

#[derive(Default)]
struct World {
    files: HashMap<String, Vec<u8>>,
    vars: HashMap<String, String>,
}

impl World {
    fn new(plan: &str) -> Self {
        Self::default().file("/srv/p/plan.kdl", plan)
    }

    fn file(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.to_owned(), text.as_ref().to_vec());
        self
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.to_owned(), value.to_owned());
        self
    }

    fn load(&self) -> Result<Loaded, Problems> {
        self.load_with(&[], None)
    }

    fn load_with(
        &self,
        assignments: &[(String, String)],
        work_dir: Option<&Utf8Path>,
    ) -> Result<Loaded, Problems> {
        load(
            &Request {
                file: "p/plan.kdl".into(),
                cwd: "/srv".into(),
                assignments,
                work_dir,
            },
            self,
        )
    }

    fn plan(&self) -> Plan {
        let loaded = self.load().map_err(|p| {
            p.render(Style {
                color: false,
                width: 80,
            })
        });
        let loaded = loaded.unwrap();
        assert_eq!(loaded.warnings, []);
        loaded.plan
    }

    fn codes(&self) -> Vec<&'static str> {
        match self.load() {
            Ok(loaded) => loaded.warnings.iter().map(|p| p.code).collect(),
            Err(problems) => {
                // Drawing must bear whatever was found.
                problems.render(Style {
                    color: true,
                    width: 40,
                });
                problems.to_json();
                problems.list.iter().map(|p| p.code).collect()
            }
        }
    }
}

impl Surroundings for World {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn read(&self, path: &Utf8Path) -> io::Result<Vec<u8>> {
        let bytes = self
            .files
            .get(path.as_str())
            .ok_or(io::ErrorKind::NotFound)?;
        assert!(bytes.len() as u64 <= MAX_BYTES, "a huge file was read");
        Ok(bytes.clone())
    }

    fn len(&self, path: &Utf8Path) -> io::Result<u64> {
        Ok(self
            .files
            .get(path.as_str())
            .ok_or(io::ErrorKind::NotFound)?
            .len() as u64)
    }

    fn list(&self, dir: &Utf8Path) -> io::Result<Vec<String>> {
        let inside = |p: &String| {
            Utf8Path::new(p)
                .strip_prefix(dir)
                .ok()
                .map(ToString::to_string)
        };
        Ok(self
            .files
            .keys()
            .filter_map(inside)
            .filter(|n| !n.contains('/'))
            .collect())
    }
}

const DEMO: &str = include_str!("../../plans/demo.kdl");

#[test]
fn a_plan_that_says_little_has_istios_defaults() {
    let plan = World::new("mesh \"m\" { namespace \"istio\"; }\ncluster \"east\" { }").plan();
    let RootCa::Made(root) = &plan.root else {
        panic!("{:?}", plan.root)
    };
    assert_eq!(
        (root.subject.common_name.as_str(), root.validity.to_string()),
        ("Root CA", "3650d".to_owned())
    );
    let ca = &plan.clusters[0].ca;
    assert_eq!(
        (ca.validity.to_string(), ca.key.name()),
        ("730d".to_owned(), "rsa-4096")
    );
    assert_eq!(ca.dns, ["istiod.istio.svc"]);
    assert_eq!(
        (plan.dir.as_str(), plan.work_dir.as_str()),
        ("/srv/p", "/srv/p")
    );
}

#[test]
fn a_cluster_says_what_differs_and_inherits_the_rest() {
    let text = r#"
        mesh "m" { }
        cluster-ca { subject organization="Acme"; validity "100d"; dns "a" "b"; dns "c"; chain "with-root"; }
        cluster "east" { ca { key "ecdsa-p384"; validity "2040-01-01"; }; }
    "#;
    let ca = World::new(text).plan().clusters.remove(0).ca;
    assert_eq!(
        (
            ca.subject.organization.as_str(),
            ca.subject.common_name.as_str()
        ),
        ("Acme", "")
    );
    assert_eq!(
        (ca.key.name(), ca.chain, ca.dns.len()),
        ("ecdsa-p384", model::ChainForm::WithRoot, 3)
    );
    assert!(matches!(ca.validity, Validity::Until(_)));
    assert_eq!(ca.renew_before, Duration::from_secs(30 * 86_400));
}

#[test]
fn variables_come_from_the_command_line_then_the_environment_then_the_fallback() {
    let text = r#"mesh (env)"MESH:-m" { work-dir "a/../b"; }
        cluster "east" { context (env)"CTX"; network (env)"NET:-n"; }"#;
    let plan = World::new(text).var("MESH", "").var("CTX", "").plan();
    assert_eq!(
        (plan.mesh.id.as_str(), plan.work_dir.as_str()),
        ("m", "/srv/p/b")
    );
    let east = &plan.clusters[0];
    assert_eq!(
        (&east.context, east.context_var.as_deref()),
        (&None, Some("CTX"))
    );
    let set = [("NET", "x"), ("CTX", "c"), ("NET", "y")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let plan = World::new(text)
        .var("CTX", "other")
        .load_with(&set, Some("../w".into()))
        .unwrap()
        .plan;
    assert_eq!(
        (
            plan.clusters[0].network.as_deref(),
            plan.clusters[0].context.as_deref()
        ),
        (Some("y"), Some("c"))
    );
    assert_eq!(plan.work_dir, "/w");
    assert_eq!(
        World::new("mesh (env)\"NO\" { }\ntask (env)\"\" { run \"a\"; }").codes(),
        ["plan::unset", "plan::variable"]
    );
}

#[test]
fn includes_are_read_in_order_from_where_they_are() {
    let world = World::new("mesh \"m\" { }\ninclude \"c/*.kdl\"")
        .file("/srv/p/c/b.kdl", "cluster \"b\" { }")
        .file(
            "/srv/p/c/a.kdl",
            "\u{feff}cluster \"a\" { }\ninclude \"../d.kdl\"",
        )
        .file("/srv/p/c/.x.kdl", "wrong")
        .file("/srv/p/d.kdl", "cluster \"d\" { values-file \"v.yaml\"; }")
        .file("/srv/p/v.yaml", "# nothing");
    let names: Vec<_> = world.plan().clusters.into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["a", "d", "b"]);
    let world =
        World::new("mesh \"m\" { }\ninclude \"a.kdl\" \"a.kdl\" \"no.kdl\" \"*.x\" \"*/a.kdl\"")
            .file("/srv/p/a.kdl", "");
    assert_eq!(
        world.codes(),
        [
            "plan::include",
            "plan::unreadable",
            "plan::include",
            "plan::include"
        ]
    );
}

#[test]
fn operator_nodes_become_data() {
    let text = r#"mesh "m" { operator {
        profile "minimal"
        list "a" 2
        empty
        nested { deep x="y" z=1; on (bool)"true"; }
        items { - "one"; - { name "two"; }; }
    }; }"#;
    let plan = World::new(text).plan();
    let wanted = json!({
        "profile": "minimal", "list": ["a", 2], "empty": {},
        "nested": {"deep": {"x": "y", "z": 1}, "on": true},
        "items": ["one", {"name": "two"}],
    });
    assert_eq!(plan.mesh.overrides[0].value, wanted);
    let wrong = r#"mesh "m" { operator { spec { }; a "x" { b "c"; }; d "e"; d "f"; g { - "h"; i "j"; }; k (bool)"yes"; }; }"#;
    let operator = "plan::operator";
    assert_eq!(
        World::new(wrong).codes(),
        [operator, operator, "plan::twice", operator, "plan::value"]
    );
}

#[test]
fn tasks_have_paths_from_the_plans_folder() {
    let text = r#"task "t" { run "sh" "x.sh"; dir "d"; input "../i"; output "o" "/abs/p"; env A="1" B="2"; timeout "5m"; needs "u"; }"#;
    let task = World::new(text).plan().tasks.remove(0);
    assert_eq!(
        (task.dir.as_str(), task.inputs[0].0.as_str()),
        ("/srv/p/d", "/srv/i")
    );
    assert_eq!(
        (task.outputs[0].0.as_str(), task.outputs[1].0.as_str()),
        ("/srv/p/o", "/abs/p")
    );
    assert_eq!(
        (task.env.len(), task.timeout),
        (2, Some(Duration::from_secs(300)))
    );
    let wrong = r#"task "a/b" { run "x"; }
        task "t" { run; output "o" "./o"; env A="1"; env A="2" a-b="4"; timeout "0m"; }
        task "t" { run ""; }"#;
    let found = World::new(wrong).codes();
    assert_eq!(
        found,
        [
            "plan::task-name",
            "plan::twice",
            "plan::arguments",
            "plan::twice",
            "plan::twice",
            "plan::env",
            "plan::timeout",
            "plan::run"
        ]
    );
}

#[test]
fn what_is_inherited_is_wrong_once() {
    let clusters: String = (0..20)
        .map(|n| format!("cluster \"c{n}\" {{ }}\n"))
        .collect();
    let text = format!(
        "mesh \"m\" {{ operator {{ values {{ global network=\"n\"; }}; }}; }}\ncluster-ca {{ renew-before \"800d\"; }}\n{clusters}"
    );
    assert_eq!(
        World::new(&text).codes(),
        ["plan::identity", "plan::renew-before"]
    );
}

#[test]
fn what_is_broken_hides_nothing_and_starts_no_other_complaint() {
    let text = "mesh \"m\" { }\ncluster \"a\" { network n; }\ncluster \"b\" { remote-of \"a\"; netwrk \"x\"; }";
    assert_eq!(
        World::new(text).codes(),
        ["plan::syntax", "plan::unknown-node"]
    );
    assert_eq!(
        World::new("include \"no.kdl\"\ncluster \"b\" { remote-of \"a\"; }").codes(),
        ["plan::unreadable"]
    );
}

#[test]
fn files_that_are_no_plans_are_refused() {
    assert_eq!(World::default().codes(), ["plan::unreadable"]);
    assert_eq!(
        World::new("")
            .file("/srv/p/plan.kdl", vec![b'a'; 50_000_000])
            .codes(),
        ["plan::size"]
    );
    assert_eq!(
        World::new("")
            .file("/srv/p/plan.kdl", b"mesh \"\xff\"")
            .codes(),
        ["plan::utf8"]
    );
    for empty in [
        "",
        "\u{feff}",
        " \n// x\n/* y */",
        "version \"0.1\"",
        "\u{a0}",
    ] {
        assert_eq!(World::new(empty).codes(), ["plan::empty"], "{empty:?}");
    }
    assert_eq!(World::new(&"a { ".repeat(100_000)).codes(), ["plan::depth"]);
}

#[test]
fn the_demo_plan_has_no_warnings() {
    assert_eq!(World::new(DEMO).plan().clusters.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_borne(text in "([a-z-]{1,8}|[\"{}()=;/*\\\\#\n\r -]|mesh |cluster |\"a\"|\\PC|\u{85}|é){0,60}") {
        World::new(&text).codes();
    }

    #[test]
    fn the_demo_plan_is_borne_with_any_mistake(at in 0..DEMO.len(), cut in 0..20usize, put in "[\"{}()=;/*\\\\#\na1é-]{0,4}") {
        let start = DEMO.floor_char_boundary(at);
        let end = DEMO.ceil_char_boundary((start + cut).min(DEMO.len()));
        World::new(&format!("{}{put}{}", &DEMO[..start], &DEMO[end..])).codes();
    }
}
