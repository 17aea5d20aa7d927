//! `meshplan init`: picks contexts, asks all their clusters at once, and writes the plan that follows from
//! the answers. It knows nothing of what the plan says.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    args::InitArgs,
    exit::{self, Failure},
    listen, say,
    starter::{self, Asked, Starter, Wish},
};
use crate::{
    action::cluster::{Tools, survey},
    host::{
        Disk, Look, RealDisk, environment,
        process::{self, Command, Finished, Interrupt, run},
    },
    plan,
};

/// Clusters asked at once, as `run` has it (`--cluster-jobs`).
const AT_ONCE: usize = 16;

pub(super) fn init(args: &InitArgs) -> Result<ExitCode, Failure> {
    let file = place(&args.plan)?;
    if let Some(Err((cause, help))) = args.mesh.as_deref().map(plan::shown) {
        return Err(Failure::usage(format!("--mesh: {cause}; {help}")));
    }
    let tools = Tools::from_vars(environment);
    let interrupt = Interrupt::new(process::GRACE);
    let known = contexts(&tools, &interrupt)?;
    let chosen = if args.context.is_empty() {
        pick(&known)?
    } else {
        named(&args.context, &known)?
    };
    if args.topology.has_remotes() && chosen.len() < 2 {
        return Err(Failure::usage(
            "a remote needs a primary: name two contexts, the primary's first".to_owned(),
        ));
    }
    // Only now: at the prompt a signal ends this at once, as people expect.
    listen(&interrupt).map_err(|e| Failure::task(format!("cannot listen to signals: {e}")))?;
    let asked = ask(chosen, &tools, &interrupt);
    let installed = |a: &Asked| a.found.as_ref().is_ok_and(|f| f.istiod.is_some());
    let istioctl = match asked.iter().any(installed) {
        true => None,
        false => run(&survey::istioctl(&tools), &interrupt, &mut |_| {})
            .ok()
            .filter(Finished::success)
            .and_then(|f| survey::read_istioctl(&f.stdout)),
    };
    if let Some(signal) = interrupt.received() {
        return Ok(ExitCode::from(128 + signal as u8));
    }
    let wish = Wish {
        file: file.as_ref().map(|_| args.plan.as_path()),
        mesh: args.mesh.as_deref(),
        topology: args.topology,
        istioctl,
    };
    let starter = starter::draft(&wish, &asked).map_err(Failure::usage)?;
    write(&args.plan, file.as_deref(), &starter.text)?;
    tell(args, &starter);
    Ok(match starter.findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(exit::FINDINGS),
    })
}

/// Absolute path of the plan to write; `None` for standard output.
pub(super) fn place(plan: &Utf8Path) -> Result<Option<Utf8PathBuf>, Failure> {
    if plan == "-" {
        return Ok(None);
    }
    let path = super::current_dir()?.join(plan);
    // Told before anything is asked; the write itself does not replace one either.
    match RealDisk.stat(&path) {
        Ok(None) => Ok(Some(path)),
        Ok(Some(_)) => Err(there(plan)),
        Err(e) => Err(Failure::task(format!("cannot look at {plan}: {e}"))),
    }
}

fn there(plan: &Utf8Path) -> Failure {
    Failure::usage(format!(
        "{plan} is there already, and is never overwritten: name another file, or `-` for standard output"
    ))
}

/// Writes a new plan where `place` found room for it, or to standard output.
pub(super) fn write(plan: &Utf8Path, place: Option<&Utf8Path>, text: &str) -> Result<(), Failure> {
    let Some(path) = place else {
        return say(text.as_bytes()).map(drop);
    };
    let written = RealDisk.create(path, 0o644, text.as_bytes());
    written.map(drop).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => there(plan),
        _ => Failure::task(format!("cannot write {plan}: {e}")),
    })
}

fn contexts(tools: &Tools, interrupt: &Interrupt) -> Result<Vec<String>, Failure> {
    let finished = run(&survey::contexts(tools), interrupt, &mut |_| {}).map_err(|e| {
        Failure::task(format!(
            "{e}; install kubectl, or name it in the variable KUBECTL"
        ))
    })?;
    if !finished.success() {
        let said = finished.tail.lines().last().unwrap_or("no word of why");
        return Err(Failure::task(format!(
            "kubectl cannot read the kubeconfig: {}; look at KUBECONFIG and ~/.kube/config",
            said.trim()
        )));
    }
    let text = String::from_utf8_lossy(&finished.stdout);
    let names = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let names: Vec<_> = names.map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Failure::usage(
            "the kubeconfig has no contexts: look at KUBECONFIG and ~/.kube/config".to_owned(),
        ));
    }
    Ok(names)
}

/// What `--context` names, if the kubeconfig has it all.
fn named(wanted: &[String], known: &[String]) -> Result<Vec<String>, Failure> {
    for (place, name) in wanted.iter().enumerate() {
        if !known.contains(name) {
            let near = plan::suggest(name, known.iter().map(String::as_str));
            let near = near
                .map(|n| format!("did you mean {n}? "))
                .unwrap_or_default();
            return Err(Failure::usage(format!(
                "the kubeconfig has no context {name}: {near}it has {}",
                known.join(", ")
            )));
        }
        if wanted[..place].contains(name) {
            return Err(Failure::usage(format!(
                "context {name} is named twice: each cluster has its own"
            )));
        }
        if let Err((cause, _)) = plan::shown(name) {
            return Err(Failure::usage(format!(
                "no plan can name this context: {cause}"
            )));
        }
    }
    Ok(wanted.to_vec())
}

/// Lets the user pick on the terminal.
fn pick(known: &[String]) -> Result<Vec<String>, Failure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::usage(format!(
            "which clusters? Name their contexts: meshplan init --context CONTEXT --context CONTEXT\nthe kubeconfig has {}",
            known.join(", ")
        )));
    }
    let mut list = String::new();
    for (number, name) in known.iter().enumerate() {
        list.push_str(&format!("{:>3}  {}\n", number + 1, name.escape_debug()));
    }
    list.push_str(
        "Which clusters, in the plan's order (the primary first)? Numbers, such as 1 3: ",
    );
    let _ = io::stderr().write_all(list.as_bytes());
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|e| Failure::task(format!("cannot read from the terminal: {e}")))?;
    named(&picked(&line, known).map_err(Failure::usage)?, known)
}

/// The contexts that a line of numbers picks.
fn picked(line: &str, known: &[String]) -> Result<Vec<String>, String> {
    let words = line
        .split([' ', ',', '\t', '\r', '\n'])
        .filter(|w| !w.is_empty());
    let of = |word: &str| {
        let number: Option<usize> = word.parse().ok();
        let found = number.and_then(|n| known.get(n.checked_sub(1)?));
        found.cloned().ok_or_else(|| {
            format!(
                "{} is no number from 1 to {}",
                word.escape_debug(),
                known.len()
            )
        })
    };
    let picked = words.map(of).collect::<Result<Vec<_>, _>>()?;
    match picked.is_empty() {
        true => Err("no cluster was picked, and nothing was written".to_owned()),
        false => Ok(picked),
    }
}

/// Asks the clusters of all contexts at once; answers are in the order of the contexts.
fn ask(contexts: Vec<String>, tools: &Tools, interrupt: &Interrupt) -> Vec<Asked> {
    let _ = writeln!(
        io::stderr(),
        "meshplan: asking {} what is there",
        contexts.join(", ")
    );
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..contexts.len().min(AT_ONCE) {
            scope.spawn(|| {
                let mut call = |c: &Command| run(c, interrupt, &mut |_| {});
                while let Some((place, context)) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    contexts.get(place).map(|c| (place, c))
                } {
                    let found = survey::survey(context, tools, &mut call).map_err(|e| e.cause);
                    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                    answers.push((place, found));
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(place, _)| *place);
    let answers = answers.into_iter().map(|(_, found)| found);
    contexts
        .into_iter()
        .zip(answers)
        .map(|(context, found)| Asked { context, found })
        .collect()
}

/// The last words: what is in the way, what was written, and what comes next.
fn tell(args: &InitArgs, starter: &Starter) {
    let mut text = String::new();
    for warning in &starter.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for finding in &starter.findings {
        text.push_str(&format!("ATTENTION: {finding}\n"));
    }
    let plan = match args.plan.as_str() {
        "-" => "PLAN",
        file => file,
    };
    if plan != "PLAN" {
        text.push_str(&format!("meshplan: wrote {plan}\n"));
    }
    let first = match (starter.findings.is_empty(), starter.wants_root) {
        (false, _) => "settle what needs attention, then: ",
        (_, true) => "put the root's certificate and key in place, then: ",
        _ => "",
    };
    text.push_str(&format!(
        "next: {first}meshplan run {plan}    (with -n it only says what it would do)\n"
    ));
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_pick_contexts_in_their_own_order() {
        let known = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(picked("3 1\n", &known).unwrap(), ["c", "a"]);
        assert_eq!(picked(" 2,3\r\n", &known).unwrap(), ["b", "c"]);
        for wrong in ["\n", "0", "4", "a", "-1", "1 x"] {
            assert!(picked(wrong, &known).is_err(), "{wrong}");
        }
    }
}
