//! `run`: what the index knows is told, what it knows in part is cut down to the rest, and all else is
//! walked. It knows how the parts are put together, and nothing of what makes a task stale.

use std::{io, process::ExitCode};

use camino::Utf8Path;

use super::{
    Read, Talk, Words,
    args::{Allow, Format, RunArgs},
    cores, current_dir,
    exit::Failure,
    listen, plan_request, read_from, site, timings, warn, words,
};
use crate::{
    action::cluster::Allowed,
    build::{
        self, Site,
        index::{self, Known, Memory, Question, Recalled, Slice, Whole, Witness},
    },
    host::{Clock, RealDisk, SystemClock},
    report::{self, Reporter, Verbosity},
};

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let talk = Talk::new(args.plan.color, args.format == Format::Json);
    let verbosity = match (args.quiet, args.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    let (words, cwd) = (words(&args.words), current_dir()?);
    let witness = Witness::new(&RealDisk);
    let is_plain = args.is_plain() && words.targets.is_empty();
    let question =
        is_plain.then(|| Question::new(&plan_request(&args.plan, &words.assignments, &cwd)));
    let found = match is_plain {
        true => look_up(args, &words, &cwd, &talk, &witness),
        false => Found::Nothing,
    };
    let (slice, read) = match found {
        Found::Idle(known) => {
            let mut reporter = reporter(&talk, verbosity, false, false);
            let summary = build::tell_known(*known, &args.plan.plan, &mut *reporter);
            return Ok(ExitCode::from(summary.exit_code));
        }
        Found::Part(part) => (Some(part.0), part.1),
        Found::Nothing => (None, read_from(&witness, &args.plan, words, &cwd, &talk)?),
    };
    if !args.quiet {
        warn(&read, &talk);
    }
    // What was warned of is told each time.
    let question = question.filter(|_| read.warnings.list.is_empty());
    let memory = question.map(|question| Memory {
        question,
        witness,
        slice,
    });
    let (site, cwd, targets) = site(read);
    listen(&site.interrupt).map_err(|e| Failure::task(format!("cannot listen to signals: {e}")))?;
    let request = build::Request {
        targets,
        cwd,
        force: args.force.clone(),
        always: args.always_make,
        allow_rekey: args.allow.contains(&Allow::Rekey),
        allow_root_reissue: args.allow.contains(&Allow::RootReissue),
        allowed: Allowed {
            take_over: args.allow.contains(&Allow::TakeOver),
            other_root: args.allow.contains(&Allow::OtherRoot),
            other_mesh: args.allow.contains(&Allow::OtherMesh),
        },
        other_cluster: args.allow.contains(&Allow::OtherCluster),
        dry_run: args.dry_run,
        explain: args.explain,
        keep_going: args.keep_going,
        jobs: args.jobs.map_or_else(cores, usize::from),
        cluster_jobs: args.cluster_jobs.into(),
    };
    let mut reporter = reporter(&talk, verbosity, args.explain, args.dry_run);
    if let Some(asked) = &args.timings {
        let file = timings::place(asked, &site, &request.cwd)?;
        reporter = timings::reporter(reporter, &site, &request, &file);
    }
    perform(&site, &request, memory, reporter, talk.json).map(ExitCode::from)
}

/// What the index knows of a run, with the plan cut down where it knows a part.
enum Found {
    Idle(Box<Known>),
    Part(Box<(Slice, Read)>),
    Nothing,
}

fn look_up(
    args: &RunArgs,
    words: &Words,
    cwd: &Utf8Path,
    talk: &Talk,
    witness: &Witness<RealDisk>,
) -> Found {
    let request = plan_request(&args.plan, &words.assignments, cwd);
    let now = SystemClock.now().unix_timestamp();
    match index::recall(&request, &RealDisk, now, talk.json || args.verbose) {
        Recalled::Idle(known) => return Found::Idle(Box::new(known)),
        Recalled::Edited(edited) => {
            let [old, new] = edited.machines(witness);
            let read = |machine| read_from(machine, &args.plan, words.clone(), cwd, talk).ok();
            if let (Some(old), Some(new)) = (read(&old), read(&new))
                && new.warnings.list.is_empty()
                && let Some(slice) = edited.slice((&old.plan, &old.graph), (&new.plan, &new.graph))
            {
                return Found::Part(Box::new((slice, new)));
            }
        }
        Recalled::Unknown => {}
    }
    Found::Nothing
}

pub(super) fn reporter(
    talk: &Talk,
    verbosity: Verbosity,
    explain: bool,
    dry_run: bool,
) -> Box<dyn Reporter> {
    let options = report::Options {
        format: if talk.json {
            report::Format::Json
        } else {
            report::Format::Human
        },
        color: talk.terminal.color,
        verbosity,
        explain,
        dry_run,
        terminal: talk.terminal.interactive,
    };
    report::reporter(options, Box::new(io::stdout()), Box::new(io::stderr()))
}

/// Runs, and tells it. Returns the exit code.
pub(super) fn perform(
    site: &Site,
    request: &build::Request,
    memory: Option<Memory>,
    mut reporter: Box<dyn Reporter>,
    json: bool,
) -> Result<u8, Failure> {
    let rest = memory.as_ref().and_then(|m| Some(m.slice.as_ref()?.rest()));
    let summary = match rest {
        Some(rest) => {
            let reporter = &mut *reporter;
            build::run(site, request, memory, &mut Whole { reporter, rest })
        }
        None => build::run(site, request, memory, &mut *reporter),
    };
    drop(reporter);
    Ok(summary.map_err(|e| Failure::run(&e, json))?.exit_code)
}
