//! `meshplan make`: make's words in, make's exit codes out. It puts the words, the folder and a cluster's
//! answer together; what each means is said in `crate::make`.

mod root;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{CommandFactory, ValueEnum};

use super::{
    Talk,
    args::{Allow, Cli, Color, Format},
    exit::Failure,
    listen, run, say,
};
use crate::{
    action::cluster::Tools,
    build::{self, Site, bring},
    host::{
        Kind, Look, RealDisk, environment,
        process::{self, Interrupt},
    },
    make::{
        self,
        folder::{self, Member, Root},
        generation::{self, Told},
        goals::{self, Flow, Goal, Meant},
        options::{self, Typed},
        signer,
        variables::{self, Variables},
    },
    report::Verbosity,
};

/// make's exit code for whatever went wrong.
const FAILED: u8 = 2;

/// Between two looks at whether another run has ended.
const TURN: Duration = Duration::from_millis(50);

/// Gates that these targets have.
const GATES: [Allow; 3] = [Allow::Rekey, Allow::RootReissue, Allow::OtherRoot];

/// Names that make looks for where no `-f` is given, in its order.
const FOUND: [&str; 3] = ["GNUmakefile", "makefile", "Makefile"];

pub(super) fn make(words: &[OsString]) -> Result<ExitCode, Failure> {
    let typed = options::read(words.iter().cloned()).map_err(usage)?;
    if typed.help {
        let mut command = Cli::command();
        command.build();
        let help = command
            .find_subcommand_mut("make")
            .map(|c| c.render_long_help().to_string());
        return say(help.unwrap_or_default().as_bytes());
    }
    if typed.version {
        return say(format!("meshplan {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    }
    let mut allow = Vec::new();
    for word in &typed.allow {
        let gate = Allow::from_str(word, false)
            .ok()
            .filter(|a| GATES.contains(a));
        allow.push(gate.ok_or_else(|| {
            usage(format!(
                "--allow {word}: there are rekey, root-reissue and other-root"
            ))
        })?);
    }
    let color = choice::<Color>("--color", typed.color.as_deref(), Color::Auto)?;
    let format = choice::<Format>("--format", typed.format.as_deref(), Format::Human)?;
    let dir = folder_of(&typed)?;
    let told = told(&typed, &dir)?;
    let goals = match typed.goals.as_slice() {
        [] => vec!["help".to_owned()],
        goals => goals.to_vec(),
    };
    let mut meant = Vec::new();
    let mut wrong = false;
    for word in &goals {
        match goals::meant(word, told.generation) {
            Ok(goal) => meant.push(goal),
            // As make: -k makes the others.
            Err(text) if typed.keep_going => {
                wrong = true;
                hint(&text);
            }
            Err(text) => return Err(usage(text)),
        }
    }
    let generations: BTreeSet<_> = meant.iter().map(|m| m.generation).collect();
    let talk = Talk::new(color, format == Format::Json);
    let workshop = Workshop {
        words,
        typed: &typed,
        told: &told,
        allow: &allow,
        talk: &talk,
        dir,
        tools: Tools::from_vars(environment),
        interrupt: Interrupt::new(process::GRACE),
    };
    if !typed.silent {
        let generations: Vec<_> = generations.into_iter().collect();
        variables::unread(&typed.variables, &generations)
            .iter()
            .for_each(|text| hint(text));
        if typed.context.is_some() && !meant.iter().any(|m| m.flow == Flow::Fetched) {
            hint("--context has no effect: none of these targets asks a cluster");
        }
        let notes: BTreeSet<_> = meant.iter().filter_map(|m| m.note.as_deref()).collect();
        notes.into_iter().for_each(hint);
    }
    listen(&workshop.interrupt)
        .map_err(|e| Failure::task(format!("cannot listen to signals: {e}")))?;
    workshop.all(&meant, wrong)
}

/// A mistake of the command line; make's exit code for it is the same 2.
fn usage(text: String) -> Failure {
    Failure::usage(format!("make: {text}"))
}

fn hint(text: &str) {
    let _ = writeln!(io::stderr(), "meshplan: make: {text}");
}

fn choice<T: ValueEnum>(option: &str, word: Option<&str>, default: T) -> Result<T, Failure> {
    match word {
        None => Ok(default),
        Some(word) => T::from_str(word, false).map_err(|_| {
            let names: Vec<_> = T::value_variants()
                .iter()
                .filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned()))
                .collect();
            usage(format!("{option} {word}: it takes {}", names.join(", ")))
        }),
    }
}

/// Links followed.
pub(super) fn is_folder(path: &Utf8Path) -> bool {
    let stat = RealDisk.stat(&path.join("."));
    matches!(stat, Ok(Some(stat)) if stat.kind == Kind::Folder)
}

/// The folder that `-C` leads to.
fn folder_of(typed: &Typed) -> Result<Utf8PathBuf, Failure> {
    let mut dir = super::current_dir()?;
    for step in &typed.directories {
        dir = crate::plan::normalize(&dir.join(step));
        if !is_folder(&dir) {
            return Err(usage(format!("-C {step}: {dir} is not a folder")));
        }
    }
    Ok(dir)
}

fn told(typed: &Typed, dir: &Utf8Path) -> Result<Told, Failure> {
    let read = |path: &Utf8Path| {
        let bytes = RealDisk.read(path).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut names = FOUND.iter().map(|name| dir.join(name));
    let found = names.find(|path| read(path).is_some());
    let by_itself = typed.makefile.is_none();
    if let Some(file) = &typed.makefile
        && read(&dir.join(file)).is_none()
        && !typed.silent
    {
        hint(&format!(
            "-f {file} is no file that can be read: its name and the targets tell what is meant"
        ));
    }
    let file = typed.makefile.as_ref().map(|f| dir.join(f)).or(found);
    generation::told(typed.istio.as_deref(), file.as_deref(), by_itself, &read).map_err(usage)
}

/// One invocation.
struct Workshop<'a> {
    words: &'a [OsString],
    typed: &'a Typed,
    told: &'a Told,
    allow: &'a [Allow],
    talk: &'a Talk,
    dir: Utf8PathBuf,
    tools: Tools,
    interrupt: Interrupt,
}

impl Workshop<'_> {
    /// Goals in their order; neighbours that share their root and file names are one run, and so side by side.
    fn all(&self, meant: &[Meant], mut wrong: bool) -> Result<ExitCode, Failure> {
        let together = |a: &Meant, b: &Meant| {
            let run = |m: &Meant| !matches!(m.goal, Goal::Help | Goal::Clean | Goal::FetchRootCa);
            run(a) && run(b) && a.flow == b.flow && a.generation == b.generation
        };
        for batch in meant.chunk_by(together) {
            let done = match &batch[0].goal {
                Goal::Help => say(make::help(self.told).as_bytes()).map(|_| 0),
                Goal::Clean => self.clean(),
                Goal::FetchRootCa => self.fetch_alone(&batch[0]),
                _ => self.build(batch),
            };
            let code = match done {
                Ok(code) => code,
                Err(failure) => {
                    let _ = failure.tell();
                    FAILED
                }
            };
            if let Some(signal) = self.interrupt.received() {
                return Ok(ExitCode::from(128 + signal as u8));
            }
            wrong |= code != 0;
            if wrong && !self.typed.keep_going {
                break;
            }
        }
        Ok(if wrong {
            ExitCode::from(FAILED)
        } else {
            ExitCode::SUCCESS
        })
    }

    /// Waits for another run in this folder to end: people start several makes at once.
    fn in_turn<T>(&self, work: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut told = false;
        loop {
            match work() {
                Err(failure) if failure.is_locked() && !self.interrupt.is_set() => {
                    if !std::mem::replace(&mut told, true) {
                        self.tell("another run is at work in this folder: waiting for its end");
                    }
                    std::thread::sleep(TURN);
                }
                done => return done,
            }
        }
    }

    /// Roots and clusters in the folder, as it is now.
    fn found(&self) -> (Vec<Root>, Vec<Member>) {
        (
            folder::roots(&RealDisk, &self.dir),
            folder::members(&RealDisk, &self.dir),
        )
    }

    fn tell(&self, text: &str) {
        if !self.typed.silent {
            hint(text);
        }
    }

    fn build(&self, batch: &[Meant]) -> Result<u8, Failure> {
        let Meant {
            flow, generation, ..
        } = batch[0];
        let variables = Variables::new(generation, self.told, &self.typed.variables, &environment);
        let root = match flow {
            Flow::Own | Flow::OwnPrefixed => {
                if !self.allow.contains(&Allow::OtherRoot) {
                    let (roots, members) = self.found();
                    signer::own(&roots, &members).map_err(usage)?;
                }
                "root".to_owned()
            }
            Flow::Fetched => match self.root_of_cluster(&variables)? {
                Some(name) => name,
                // A dry run that would fetch: what hangs on it cannot be judged.
                None => {
                    let words: Vec<_> = batch.iter().map(|m| m.word.as_str()).collect();
                    self.tell(&format!("then it would sign with it: {}", words.join(", ")));
                    return Ok(0);
                }
            },
        };
        let mut plan = make::plan(&RealDisk, &self.dir, batch, &root, &variables, generation)
            .map_err(usage)?;
        plan.file = self.typed_again().into();
        self.other_roots(&root, batch)?;
        let site = self.site(plan)?;
        let request = build::Request {
            targets: batch.iter().flat_map(make::targets).collect(),
            cwd: self.dir.clone(),
            force: batch.iter().filter_map(|m| self.forced(m)).collect(),
            always: self.typed.always,
            allow_rekey: self.allow.contains(&Allow::Rekey),
            allow_root_reissue: self.allow.contains(&Allow::RootReissue),
            allowed: crate::action::cluster::Allowed::default(),
            other_cluster: false,
            dry_run: self.typed.dry_run,
            explain: self.typed.explain,
            keep_going: self.typed.keep_going,
            jobs: self.typed.jobs.map_or_else(super::cores, usize::from),
            cluster_jobs: 1,
        };
        let verbosity = if self.typed.silent {
            Verbosity::Quiet
        } else {
            Verbosity::Normal
        };
        let code = self.in_turn(|| {
            let reporter = run::reporter(self.talk, verbosity, request.explain, request.dry_run);
            run::perform(&site, &request, None, reporter, self.talk.json)
        })?;
        Ok(if code == 0 { 0 } else { FAILED })
    }

    /// What -B makes anew only with leave: a root, or the one key that is asked for.
    fn forced(&self, goal: &Meant) -> Option<String> {
        let path = match &goal.goal {
            Goal::RootCa => "root-cert.pem",
            Goal::File { path, .. } => path,
            _ => return None,
        };
        let gate = if path.ends_with("key.pem") {
            Allow::Rekey
        } else {
            Allow::RootReissue
        };
        (self.typed.always && self.allow.contains(&gate)).then(|| path.to_owned())
    }

    fn site(&self, plan: crate::plan::model::Plan) -> Result<Site, Failure> {
        let graph = crate::graph::lower(&plan).map_err(|problems| {
            usage(
                problems
                    .list
                    .iter()
                    .map(|p| p.message.clone())
                    .collect::<Vec<_>>()
                    .join("; "),
            )
        })?;
        Ok(super::site_of(plan, graph, None, self.interrupt.clone()))
    }

    /// The command as it was typed, for advice on what to type next.
    fn typed_again(&self) -> String {
        let plain = |w: &String| {
            w.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_./=:,%+@".contains(c))
        };
        let quoted = |w: &String| match plain(w) {
            true => w.clone(),
            false => format!("'{}'", w.replace('\'', "'\\''")),
        };
        let words = self.words.iter().map(|w| w.to_string_lossy().into_owned());
        let words: Vec<_> = words.map(|w| quoted(&w)).collect();
        format!("make {}", words.join(" "))
    }

    /// Clusters here that do not trust each other: what `clean` of the Makefile leads to (facts B1). Those
    /// that are asked for would be moved to the root that signs.
    fn other_roots(&self, root: &str, batch: &[Meant]) -> Result<(), Failure> {
        let (roots, members) = self.found();
        let Some(root) = roots.iter().find(|r| r.name == root) else {
            return Ok(());
        };
        if !root.cert.self_issued {
            return Err(usage(format!(
                "{}-cert.pem is a CA below another ({}): the Makefile's is a root. A plan brings such a CA along: root-ca {{ cert …; key …; chain …; }}",
                root.name, root.cert.issuer
            )));
        }
        let other = |m: &&Member| {
            let own = m.root.as_ref().map(|c| c.public_key);
            own.is_some_and(|own| own != root.cert.public_key)
        };
        let names: Vec<_> = members
            .iter()
            .filter(other)
            .map(|m| m.name.as_str())
            .collect();
        let moved = |name: &&&str| batch.iter().any(|m| m.goal.folder() == Some(**name));
        if let Some(name) = names.iter().find(moved)
            && !self.allow.contains(&Allow::OtherRoot)
        {
            return Err(usage(format!(
                "{name} is under another root than {}-cert.pem: signed by that one, it would lose the trust of the clusters that it has now. \
                 Bring back the root that it is under, or move it with --allow other-root",
                root.name
            )));
        }
        if !names.is_empty() {
            self.tell(&format!(
                "{}: another root than {}-cert.pem is in the folder, and no cluster of one root trusts those of the other",
                names.join(", "),
                root.name
            ));
        }
        Ok(())
    }

    /// What the Makefile's `clean` removes, but no root that signed what is here.
    fn clean(&self) -> Result<u8, Failure> {
        let site = self.site(make::bare(&self.dir))?;
        let at = |names: &[&str]| names.iter().map(|n| self.dir.join(n)).collect::<Vec<_>>();
        let there = |paths: Vec<Utf8PathBuf>| {
            paths
                .into_iter()
                .filter(|p| matches!(RealDisk.stat(p), Ok(Some(_))))
                .collect::<Vec<_>>()
        };
        let left = there(at(&make::LEFT_BY_OPENSSL));
        let root = there(at(&["root-cert.pem", "root-key.pem"]));
        let members = folder::members(&RealDisk, &self.dir);
        let names = |paths: &[Utf8PathBuf]| {
            paths
                .iter()
                .map(|p| p.strip_prefix(&self.dir).unwrap_or(p).to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let would = if self.typed.dry_run { "would " } else { "" };
        if !left.is_empty() {
            self.tell(&format!("{would}remove {}", names(&left)));
        }
        let keeps = !root.is_empty() && !members.is_empty();
        if keeps {
            let of: Vec<_> = members.iter().map(|m| m.name.as_str()).collect();
            self.tell(&format!(
                "keep {}: {} would be left without the root, and the next cluster would get another one that they do not trust",
                names(&root), of.join(", ")
            ));
        } else if !root.is_empty() {
            self.tell(&format!(
                "{would}move {} to {}/archive",
                names(&root),
                build::STATE_DIR
            ));
        }
        if !self.typed.dry_run {
            let away = |files: &[Utf8PathBuf], archive| {
                self.in_turn(|| {
                    bring::put_away(&site, files, archive).map_err(|e| Failure::run(&e, false))
                })
            };
            away(&left, false)?;
            if !keeps {
                away(&root, true)?;
            }
        }
        Ok(0)
    }
}
