//! Commands that ask clusters or take from them outside of a run: `verify` and `destroy`.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use super::{Talk, args, exit, exit::Failure, listen, read, say, site, warn};
use crate::build::{destroy, verify};

pub(super) fn verify(args: &args::VerifyArgs) -> Result<ExitCode, Failure> {
    let json = args.format == args::Format::Json;
    let talk = Talk::new(args.plan.color, json);
    let read = read(&args.plan, &args.words, &talk)?;
    if let Some(word) = read.targets.first() {
        return Err(Failure::usage(format!(
            "`verify` takes a plan and NAME=VALUE only, not `{word}`"
        )));
    }
    warn(&read, &talk);
    let (site, ..) = site(read);
    listen(&site.interrupt).map_err(|e| Failure::task(format!("cannot listen to signals: {e}")))?;
    let findings = verify::verify(&site, args.live).map_err(|e| Failure::run(&e, json))?;
    if let Some(signal) = site.interrupt.received() {
        return Ok(ExitCode::from(128 + signal as u8));
    }
    let mut text = String::new();
    for finding in &findings {
        text.push_str(&if json {
            let line = serde_json::json!({
                "schema": "meshplan.findings/1",
                "cluster": finding.cluster,
                "target": finding.target,
                "finding": finding.finding,
            });
            format!("{line}\n")
        } else {
            let target = match finding.target.as_str() {
                "" => String::new(),
                target => format!("{target}: "),
            };
            format!("{target}{}\n", finding.finding)
        });
    }
    if findings.is_empty() && !json {
        let clusters = site
            .plan
            .clusters
            .iter()
            .filter(|c| c.context.is_some())
            .count();
        text = match (args.live, clusters) {
            (false, _) => "the files are as the plan has them\n".to_owned(),
            (true, 0) => {
                "the files are as the plan has them; no cluster has a context\n".to_owned()
            }
            (true, n) => format!(
                "the files and {n} cluster{} are as the plan has them\n",
                if n == 1 { "" } else { "s" }
            ),
        };
    }
    let said = say(text.as_bytes())?;
    Ok(if findings.is_empty() {
        said
    } else {
        ExitCode::from(exit::FINDINGS)
    })
}

pub(super) fn destroy(args: &args::DestroyArgs) -> Result<ExitCode, Failure> {
    let talk = Talk::new(args.plan.color, false);
    let read = read(&args.plan, &args.words, &talk)?;
    let (site, _, clusters) = site(read);
    let names: Vec<_> = site.plan.clusters.iter().map(|c| c.name.as_str()).collect();
    if let Some(other) = clusters.iter().find(|c| !names.contains(&c.as_str())) {
        return Err(Failure::usage(format!(
            "this plan has no cluster `{other}`; it has {}",
            names.join(", ")
        )));
    }
    let found = destroy::survey(&site, &clusters).map_err(Failure::task)?;
    if found.is_empty() {
        return say(b"meshplan: nothing of meshplan's is in these clusters\n");
    }
    let would = if args.dry_run {
        "would remove"
    } else {
        "remove"
    };
    let lines = found.iter().flat_map(|farewell| {
        let line = move |r: &crate::action::cluster::Removal| {
            format!("{would} from {}: {}\n", farewell.cluster, r.what)
        };
        farewell.removals.iter().map(line)
    });
    say(lines.collect::<String>().as_bytes())?;
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !agreed()? {
        return Err(Failure::task("nothing was removed".to_owned()));
    }
    // From here on a signal ends it between two removals; before, at once.
    listen(&site.interrupt).map_err(|e| Failure::task(format!("cannot listen to signals: {e}")))?;
    let mut tell = |cluster: &str, what: &str| {
        let _ = writeln!(io::stderr(), "removing from {cluster}: {what}");
    };
    destroy::carry_out(&site, &found, &mut tell).map_err(Failure::task)?;
    say(b"meshplan: removed; files stay (meshplan clean)\n")
}

/// Asks on the terminal.
fn agreed() -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(
            "nothing was removed: agree with --yes, or run it on a terminal".to_owned(),
        ));
    }
    let _ = write!(
        io::stderr(),
        "Workloads of this mesh lose it. Remove all of this? Type yes: "
    );
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    Ok(read.is_ok() && line.trim() == "yes")
}
