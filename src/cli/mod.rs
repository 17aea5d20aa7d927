//! The command line's meaning: words to requests, results to exit codes. The one place that puts the
//! machine's own files, clock and signals together with the engine.

mod args;
mod clusters;
mod exit;
mod import;
mod init;
mod kdl;
mod make;
mod run;
mod starter;
mod timings;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{CommandFactory, Parser};

use crate::{
    action::{cluster::Tools, pki},
    build::{
        Site,
        clean::{CleanRequest, Cleaned, clean},
        freshness,
        log::Log,
    },
    graph::{self, Graph, draw},
    host::{
        Clock, Look, RealDisk, SystemClock, Terminal, environment,
        process::{self, Interrupt},
    },
    plan::{
        self,
        model::Plan,
        problem::{Problems, Style},
    },
    report::event::{Event, Verdict},
};
use args::{AllowClean, Cli, Color, Command, Drawing, Format, PlanArgs};
use exit::Failure;

/// Reads argv, does it, and says how it went.
pub fn main() -> ExitCode {
    // Before clap, which would take make's `--` for its own.
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some((first, words)) = words.split_first()
        && first == "make"
    {
        return make::make(words).unwrap_or_else(|failure| failure.tell());
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // clap's own exit code for mistakes is 2, for help and version 0: what design §6 says.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let done = match cli.command {
        Command::Init(args) => init::init(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check(&args),
        Command::List(args) => list(&args),
        Command::Graph(args) => draw_graph(&args),
        Command::Verify(args) => clusters::verify(&args),
        Command::Clean(args) => clean_up(&args),
        Command::Destroy(args) => clusters::destroy(&args),
        Command::Import(args) => import::import(&args),
        Command::Make { words } => make::make(&words),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "meshplan", &mut text);
            say(&text)
        }
        Command::Man { command } => man(command.as_deref()),
    };
    done.unwrap_or_else(|failure| failure.tell())
}

// ---- reading the plan

#[derive(Clone)]
struct Words {
    targets: Vec<String>,
    assignments: Vec<(String, String)>,
}

/// Targets and NAME=VALUE, in any order, as make takes them.
fn words(words: &[String]) -> Words {
    let mut split = Words {
        targets: Vec::new(),
        assignments: Vec::new(),
    };
    for word in words {
        match word.split_once('=') {
            Some((name, value)) if is_variable(name) => {
                split.assignments.push((name.to_owned(), value.to_owned()))
            }
            _ => split.targets.push(word.clone()),
        }
    }
    split
}

fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

struct Read {
    plan: Plan,
    graph: Graph,
    given: Option<Arc<pki::Issuer>>,
    warnings: Problems,
    cwd: Utf8PathBuf,
    targets: Vec<String>,
}

struct Talk {
    style: Style,
    json: bool,
    terminal: Terminal,
}

impl Talk {
    fn new(color: Color, json: bool) -> Self {
        let terminal = Terminal::detect();
        let color = match color {
            Color::Auto => terminal.color,
            Color::Always => true,
            Color::Never => false,
        };
        Self {
            style: Style {
                color,
                width: terminal.width,
            },
            json,
            terminal: Terminal { color, ..terminal },
        }
    }

    fn problems(&self, problems: &Problems) -> String {
        if self.json {
            Event::Problems {
                problems: problems.to_json(),
            }
            .to_json_line()
        } else {
            problems.render(self.style)
        }
    }
}

/// The plan with its graph, read from this machine.
fn read(args: &PlanArgs, text: &[String], talk: &Talk) -> Result<Read, Failure> {
    read_from(&RealDisk, args, words(text), &current_dir()?, talk)
}

fn plan_request<'a>(
    args: &'a PlanArgs,
    assignments: &'a [(String, String)],
    cwd: &'a Utf8Path,
) -> plan::Request<'a> {
    plan::Request {
        file: &args.plan,
        cwd,
        assignments,
        work_dir: args.directory.as_deref(),
    }
}

fn read_from(
    machine: &(impl Look + plan::Surroundings),
    args: &PlanArgs,
    words: Words,
    cwd: &Utf8Path,
    talk: &Talk,
) -> Result<Read, Failure> {
    let Words {
        targets,
        assignments,
    } = words;
    let request = plan_request(args, &assignments, cwd);
    let wrong = |problems: Problems| Failure::plan(talk.problems(&problems), talk.json);
    let plan::Loaded { plan, warnings } = plan::load(&request, machine).map_err(wrong)?;
    let graph = graph::lower(&plan).map_err(wrong)?;
    let given = crate::action::given(&plan, machine, SystemClock.now(), &|path| {
        graph.is_made(path)
    })
    .map_err(wrong)?;
    let warnings = Problems {
        list: warnings,
        sources: plan.sources.clone(),
    };
    Ok(Read {
        plan,
        graph,
        given: given.map(Arc::new),
        warnings,
        cwd: cwd.to_owned(),
        targets,
    })
}

fn current_dir() -> Result<Utf8PathBuf, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|e| Failure::usage(format!("cannot tell the current folder: {e}")))?;
    Utf8PathBuf::try_from(cwd)
        .map_err(|e| Failure::usage(format!("the current folder's name is not UTF-8: {e}")))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A plan and its graph on this machine.
fn site_of(
    plan: Plan,
    graph: Graph,
    given: Option<Arc<pki::Issuer>>,
    interrupt: Interrupt,
) -> Site {
    let (plan, graph) = (Arc::new(plan), Arc::new(graph));
    // They go with the process. To free a fleet piece by piece before takes 5 ms for 1,000 clusters.
    std::mem::forget((plan.clone(), graph.clone()));
    Site {
        plan,
        graph,
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock),
        tools: Tools::from_vars(environment),
        interrupt,
        given,
    }
}

fn site(read: Read) -> (Site, Utf8PathBuf, Vec<String>) {
    let Read {
        plan,
        graph,
        given,
        cwd,
        targets,
        ..
    } = read;
    let site = site_of(plan, graph, given, Interrupt::new(process::GRACE));
    (site, cwd, targets)
}

fn warn(read: &Read, talk: &Talk) {
    if !read.warnings.list.is_empty() {
        let text = talk.problems(&read.warnings);
        // JSON goes to standard output, where data goes.
        if talk.json {
            let _ = io::stdout().write_all(text.as_bytes());
        } else {
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

/// Data for standard output. A reader that left has what it wanted.
fn say(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => Err(Failure::task(format!(
            "cannot write to standard output: {e}"
        ))),
    }
}

// ---- commands

/// Passes SIGINT and SIGTERM on to the children; a second one ends everything at once.
fn listen(interrupt: &Interrupt) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            if count == 0 {
                interrupt.signal(signal);
            } else {
                interrupt.kill_all();
                std::process::exit(128 + signal);
            }
        }
    });
    Ok(())
}

fn check(args: &args::CheckArgs) -> Result<ExitCode, Failure> {
    let talk = Talk::new(args.plan.color, args.format == Format::Json);
    let read = read(&args.plan, &args.words, &talk)?;
    if let Some(word) = read.targets.first() {
        return Err(Failure::usage(format!(
            "`check` takes a plan and NAME=VALUE only, not `{word}`"
        )));
    }
    warn(&read, &talk);
    if !read.warnings.list.is_empty() {
        return Ok(ExitCode::from(exit::FINDINGS));
    }
    let (plan, graph) = (&read.plan, &read.graph);
    let made = graph.files.iter().filter(|f| f.producer.is_some()).count();
    if talk.json {
        let line = serde_json::json!({ "plan": plan.file.as_str(), "clusters": plan.clusters.len(), "tasks": graph.tasks.len(), "files": made });
        return say(format!("{line}\n").as_bytes());
    }
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let text = format!(
        "{} is sound: {}, {}, {}\n",
        plan.file,
        count(plan.clusters.len(), "cluster"),
        count(graph.tasks.len(), "task"),
        count(made, "file")
    );
    say(text.as_bytes())
}

fn list(args: &args::ListArgs) -> Result<ExitCode, Failure> {
    let talk = Talk::new(args.plan.color, args.format == Format::Json);
    let read = read(&args.plan, &args.words, &talk)?;
    if let Some(word) = read.targets.first() {
        return Err(Failure::usage(format!(
            "`list` takes a plan and NAME=VALUE only, not `{word}`"
        )));
    }
    let (plan, graph) = (&read.plan, &read.graph);
    let mut rows: Vec<(String, String)> = Vec::new();
    for (target, _) in &graph.targets {
        rows.push((target.to_string(), graph::target_purpose(target).to_owned()));
    }
    for task in &graph.tasks {
        let undone = task
            .undone
            .as_ref()
            .map(|u| format!(" [undone: {}]", u.why))
            .unwrap_or_default();
        rows.push((
            task.name.to_string(),
            format!("{}{undone}", graph::purpose(plan, task)),
        ));
        if !task.action.is_built_in_file() {
            let outputs = task
                .outputs
                .iter()
                .map(|f| graph.file_at(*f).name.to_string());
            rows.extend(outputs.map(|name| (name, format!("written by {}", task.name))));
        }
    }
    if talk.json {
        let lines = rows.iter().map(|(target, purpose)| {
            format!(
                "{}\n",
                serde_json::json!({ "target": target, "for": purpose })
            )
        });
        return say(lines.collect::<String>().as_bytes());
    }
    let wide = rows
        .iter()
        .map(|(t, _)| t.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    let lines = rows
        .iter()
        .map(|(target, purpose)| format!("{target:<wide$}  {purpose}\n"));
    say(lines.collect::<String>().as_bytes())
}

fn draw_graph(args: &args::GraphArgs) -> Result<ExitCode, Failure> {
    let talk = Talk::new(args.plan.color, false);
    let read = read(&args.plan, &args.words, &talk)?;
    let (site, cwd, targets) = site(read);
    if let (true, Some(word)) = (args.mesh, targets.first()) {
        return Err(Failure::usage(format!(
            "`graph --mesh` draws the whole mesh: it takes a plan and NAME=VALUE only, not `{word}`"
        )));
    }
    let wanted: Vec<_> = if targets.is_empty() {
        site.graph.task_ids().collect()
    } else {
        let found: Result<Vec<_>, _> = targets
            .iter()
            .map(|t| site.graph.resolve(t, &cwd))
            .collect();
        found.map_err(Failure::usage)?.concat()
    };
    let order = site.graph.cone(&wanted);
    let judgement = if args.state {
        let path = site.plan.state_dir().join("log");
        let log = Log::open(site.disk.clone(), path)
            .map_err(|e| Failure::task(format!("cannot read the build log: {e}")))?;
        Some(freshness::judge(
            &site,
            &*site.disk,
            &log,
            &freshness::Ask::default(),
            &order,
        ))
    } else {
        None
    };
    let state = |id| {
        let judged = judgement.as_ref().and_then(|j| j.tasks.get(id))?;
        let state = match judged.verdict {
            // Only a run looks at clusters.
            _ if matches!(site.graph.task(id).action, graph::Action::Step(..))
                && judged.verdict == Verdict::Stale =>
            {
                draw::State::Unknown
            }
            Verdict::Current | Verdict::Adopted => draw::State::Current,
            Verdict::Stale => draw::State::Stale,
            Verdict::Refused | Verdict::Blocked => draw::State::Refused,
            Verdict::Undone => draw::State::Undone,
        };
        Some((state, judged.why.to_string()))
    };
    let format = match args.format {
        Drawing::Dot => draw::Format::Dot,
        Drawing::Mermaid => draw::Format::Mermaid,
        Drawing::Json => draw::Format::Json,
        Drawing::Svg => draw::Format::Svg,
    };
    let (plan, graph) = (&site.plan, &site.graph);
    let text = if args.mesh {
        let states = graph::cluster_states(plan, graph, &state);
        draw::mesh::draw(&graph::mesh(plan, &|c| states[c].clone()), format)
    } else {
        draw::draw(&graph::drawing(plan, graph, &order, &state), format)
    };
    say(text.as_bytes())
}

fn clean_up(args: &args::CleanArgs) -> Result<ExitCode, Failure> {
    let talk = Talk::new(args.plan.color, false);
    let read = read(&args.plan, &args.words, &talk)?;
    let (site, cwd, targets) = site(read);
    let request = CleanRequest {
        targets,
        cwd,
        keys: args.keys,
        root_key: args.allow.contains(&AllowClean::RootKey),
        dry_run: args.dry_run,
    };
    let cleaned = clean(&site, &request).map_err(|e| Failure::run(&e, false))?;
    let would = if args.dry_run { "would " } else { "" };
    let (mut gone, mut kept) = (String::new(), String::new());
    for one in &cleaned {
        match one {
            Cleaned::Removed(name) => gone.push_str(&format!("{would}remove {name}\n")),
            Cleaned::Archived(name) => gone.push_str(&format!("{would}archive {name}\n")),
            Cleaned::Kept(name, why) => kept.push_str(&format!("keep {name}: {why}\n")),
        }
    }
    if gone.is_empty() {
        kept.push_str("meshplan: nothing to remove\n");
    }
    let _ = io::stderr().write_all(kept.as_bytes());
    say(gone.as_bytes())
}

fn man(command: Option<&str>) -> Result<ExitCode, Failure> {
    let whole = Cli::command();
    let page = match command {
        None => whole,
        Some(name) => {
            let names: Vec<_> = whole
                .get_subcommands()
                .map(|c| c.get_name().to_owned())
                .collect();
            let found = whole
                .get_subcommands()
                .find(|c| c.get_name() == name)
                .cloned();
            let found = found.ok_or_else(|| {
                Failure::usage(format!(
                    "no command `{name}`: there are {}",
                    names.join(", ")
                ))
            })?;
            found.display_name(format!("meshplan {name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|e| Failure::task(format!("cannot write the page: {e}")))?;
    say(&text)
}
