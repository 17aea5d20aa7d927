//! `run --timings`: a page that is whole by itself, says what the events said, and comes to no harm by a
//! name. Where chromium is installed it judges the page too.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{collections::BTreeMap, fs, process::Command};

use meshplan::report::timings::MARK;
use serde_json::Value;
use support::{TWO, World, skip};

const PAGE: &str = "out/.meshplan/timings.html";

fn page(world: &World, name: &str) -> String {
    let page = String::from_utf8(world.read(name)).unwrap();
    assert!(page.starts_with(MARK) && page.ends_with("</html>\n"));
    page
}

/// The page's data, as an object for each task.
fn tasks(page: &str) -> (Value, BTreeMap<String, Value>) {
    let data = page.split("id=\"data\">").nth(1).unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let columns = data["columns"].as_array().unwrap();
    let rows = data["tasks"].as_array().unwrap().iter().map(|row| {
        let cells = columns.iter().zip(row.as_array().unwrap());
        let cells = cells.map(|(c, v)| (c.as_str().unwrap().to_owned(), v.clone()));
        let task = Value::Object(cells.collect());
        (task["name"].as_str().unwrap().to_owned(), task)
    });
    let rows = rows.collect();
    (data, rows)
}

#[test]
fn the_page_says_what_the_events_said() {
    let world = World::new(TWO);
    let ran = world.run(&["--timings", "-j2"]).exits(0);
    let page = page(&world, PAGE);
    let (data, tasks) = tasks(&page);
    let told = |name: &str, task: &str| {
        let events = ran.events(name);
        let event = events.iter().find(|e| e["task"] == task).unwrap();
        event["at-ms"].as_u64().unwrap()
    };
    assert_eq!(tasks.len(), ran.events("task-started").len());
    for (name, task) in &tasks {
        let millis = |column: &str| task[column].as_u64().unwrap() / 1000;
        assert_eq!(millis("start"), told("task-started", name), "{name}");
        assert_eq!(millis("freed"), told("task-made", name), "{name}");
        assert_eq!(millis("end"), told("task-finished", name), "{name}");
        assert_eq!(task["state"], "done", "{name}");
        assert!(task["worker"].as_u64().unwrap() < 2, "{name}");
    }
    let cert = &tasks["east/ca-cert.pem"];
    assert_eq!(
        data["groups"][cert["group"].as_u64().unwrap() as usize],
        "east"
    );
    // On each worker one task at a time.
    for worker in 0..2 {
        let mut times: Vec<_> = tasks
            .values()
            .filter(|t| t["worker"] == worker)
            .map(|t| (t["start"].as_u64().unwrap(), t["freed"].as_u64().unwrap()))
            .collect();
        times.sort_unstable();
        assert!(times.is_sorted_by(|a, b| a.1 <= b.0), "{times:?}");
    }
    // What people read without a script.
    for text in ["Critical path", "Parallelism", "root-key.pem", "12 ran"] {
        assert!(page.contains(text), "{text}");
    }
    // The place is told, just before the last line.
    let lines: Vec<_> = ran.stdout.lines().rev().take(2).collect();
    let told: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(told["event"], "timings");
    assert!(told["file"].as_str().unwrap().ends_with(PAGE));
    let again = world.meshplan(&["run", "plan.kdl", "--timings"]).exits(0);
    assert!(again.stderr.contains("timings are in "), "{}", again.stderr);
    assert!(self::page(&world, PAGE).contains("No task was started"));
}

#[test]
fn an_interrupted_run_has_a_page() {
    let task = r#"task "long" { run "sh" "-c" "kill -INT $PPID; exec tail -f /dev/null"; }"#;
    let world = World::new(&format!("{TWO}{task}"));
    world.run(&["--timings"]).exits(130);
    let page = page(&world, PAGE);
    assert!(page.contains("interrupted by SIGINT"));
    assert_ne!(tasks(&page).1["long"]["state"], "done");
}

#[test]
fn the_page_loads_nothing_and_no_name_gets_out_of_its_place() {
    // What a plan lets through: no `/` in a name, but anything in what runs.
    let hostile = "x<!--<script>alert(1)\\\"'&lt;";
    let plan = format!(
        "{TWO}task \"{hostile}\" {{ run \"</script><img src=x onerror=alert(2)>\"; env SECRET=\"hunter2\"; }}\n"
    );
    let world = World::new(&plan);
    world.run(&["--timings=page.html", "-k"]).exits(1);
    let page = page(&world, "page.html");
    let name = hostile.replace("\\\"", "\"");
    assert_eq!(tasks(&page).1[&name]["state"], "failed");
    // The script and the data: nothing else opens one, and no markup came out of the name.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<img"));
    assert!(!page.contains("hunter2"), "an environment's value");
    for outside in ["src=", "href=", "url(", "@import", "fetch(", "import("] {
        let found = page.replace("src=x", "").matches(outside).count();
        assert_eq!(found, 0, "{outside}");
    }
    assert!(page.contains("default-src 'none'") && !page.contains("'unsafe-inline'"));
}

#[test]
fn a_page_takes_the_place_of_nothing_but_a_page() {
    let world = World::new(TWO);
    let refused = |file: &str, why: &str| {
        let flag = format!("--timings={file}");
        world
            .meshplan(&["run", "plan.kdl", &flag])
            .exits(2)
            .says(why);
    };
    refused("plan.kdl", "is no page of timings");
    refused("out/root-key.pem", "a file of the plan's own");
    refused("nowhere/page.html", "there is no folder");
    refused(".", "is no page of timings");
    refused("/dev/null", "is no page of timings");
    assert!(!world.exists("out"), "nothing was begun");
    world
        .meshplan(&["run", "plan.kdl", "--timings", "-n"])
        .exits(2);
    for _ in 0..2 {
        world.run(&["--timings=page.html"]).exits(0);
    }
    let left = fs::read_dir(world.path("."))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.contains("page.html"));
    assert_eq!(left.collect::<Vec<_>>(), ["page.html"]);
}

/// The page as a browser has it once its script ran, and what the browser said of it.
fn browse(world: &World, name: &str) -> Option<(String, String)> {
    let browser = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|b| Command::new(b).arg("--version").output().is_ok());
    let Some(browser) = browser else {
        skip("chromium");
        return None;
    };
    let profile = format!("--user-data-dir={}", world.path("profile").display());
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", &profile])
        // Without a network: every name leads nowhere.
        .args([
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--disable-background-networking",
        ])
        .args([
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("file://{}", world.path(name).display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().filter(|l| l.contains("CONSOLE"));
    Some((
        String::from_utf8(output.stdout).unwrap(),
        said.collect::<Vec<_>>().join("\n"),
    ))
}

#[test]
fn a_browser_draws_the_page_without_an_error() {
    let hostile = "x<!--<script>document.write(1)";
    let plan = format!("{TWO}task \"{hostile}\" {{ needs \"root-ca\"; run \"true\"; }}\n");
    let world = World::new(&plan);
    world.run(&["--timings=page.html"]).exits(0);
    let Some((dom, said)) = browse(&world, "page.html") else {
        return;
    };
    assert_eq!(said, "", "what the browser complained of");
    let section = |id: &str| {
        let start = dom.split(&format!("<section id=\"{id}\">")).nth(1);
        start
            .unwrap_or_default()
            .split("</section>")
            .next()
            .unwrap()
    };
    assert!(section("lanes").contains("<canvas"), "{dom}");
    // Their rows are the script's: a strip for each cluster, a button for each task.
    assert_eq!(section("clusters").matches("<svg").count(), 3);
    let rows = section("tasks")
        .matches("show it among the workers")
        .count();
    assert_eq!(rows, 13);
    assert!(section("tasks").contains("x&lt;!--&lt;script&gt;"));

    // A task that fails before it starts has no bar, and here nothing else has one.
    world.write(
        "plan.kdl",
        "mesh \"mesh1\" { work-dir \"out\"; }\ntask \"late\" { input \"none\"; run \"true\"; }\n",
    );
    world.run(&["--timings=page.html", "late"]).exits(1);
    let (dom, said) = browse(&world, "page.html").unwrap();
    assert_eq!(said, "", "what the browser complained of");
    assert!(dom.contains("No task was started") && dom.contains("late</bdi></b>: input"));
}
