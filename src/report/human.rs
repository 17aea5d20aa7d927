//! What people read of a run: the sentences of each event. It knows neither terminals nor streams, only
//! which line is data and which is talk.

use std::fmt::Write;

use foldhash::{HashMap, HashMapExt};
use smol_str::SmolStr;

use super::{
    Options, Verbosity,
    ending::Ending,
    event::{Event, Verdict, Why},
    text::{Ink, Paint, block, clean, clean_line, count, hang, length, names},
};

/// Lines of one event; both may be empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    /// For standard output: what was asked for with `--explain` or `--dry-run`.
    pub(super) data: String,
    /// For standard error: everything else.
    pub(super) talk: String,
}

/// Turns events into lines.
pub(super) struct Human {
    options: Options,
    /// Tell each task as it ends.
    each: bool,
    paint: Paint,
    /// What running tasks do.
    doing: HashMap<SmolStr, SmolStr>,
    to_do: usize,
    done: usize,
    adopted: usize,
    work_dir: String,
    ending: Ending,
}

impl Human {
    /// With `each`, tasks are told one by one as they end.
    pub(super) fn new(options: Options, each: bool) -> Self {
        Self {
            options,
            each,
            paint: Paint(options.color),
            doing: HashMap::new(),
            to_do: 0,
            done: 0,
            adopted: 0,
            work_dir: String::new(),
            ending: Ending::new(options.verbosity, Paint(options.color)),
        }
    }

    /// The lines of an event.
    pub(super) fn event(&mut self, event: &Event) -> Lines {
        match event {
            Event::RunStarted {
                plan,
                work_dir,
                targets,
                version,
                ..
            } => {
                self.work_dir = clean_line(work_dir).into_owned();
                let targets = targets
                    .iter()
                    .map(|t| clean_line(t))
                    .collect::<Vec<_>>()
                    .join(" ");
                let text = format!(
                    "meshplan {version}: {} into {}: {targets}\n",
                    clean_line(plan),
                    self.work_dir
                );
                self.talk_if(self.is(Verbosity::Verbose), text)
            }
            Event::Warning { message, help, .. } => self.warning(message, help),
            Event::Verdict { task, verdict, why } => self.verdict(task, *verdict, why),
            Event::Planned { stale, current } => self.planned(*stale, *current),
            Event::TaskStarted { task, doing, .. } => self.started(task, doing),
            Event::TaskMade { .. } => Lines::default(),
            Event::TaskWaits { task, on } => {
                let text = format!("{}: waiting for {}\n", clean_line(task), clean_line(on));
                self.talk_if(self.each && self.is(Verbosity::Normal), text)
            }
            Event::Pods { cluster, pods } => {
                self.ending.pods(cluster, pods);
                Lines::default()
            }
            Event::Output { task, text } => {
                let text = format!(
                    "{}\n{}",
                    self.paint.ink(Ink::Bold, format!("{}:", clean_line(task))),
                    block(text, "    ")
                );
                self.talk_if(self.is(Verbosity::Normal), text)
            }
            Event::TaskFinished {
                task,
                changed,
                did,
                millis,
            } => self.finished(task, *changed, did, *millis),
            Event::TaskFailed {
                task,
                cause,
                stderr,
                blocked,
            } => self.failed(task, cause, stderr, blocked),
            Event::Undone {
                cluster,
                steps,
                why,
                how,
            } => {
                self.ending.undone(cluster, steps, why, how);
                Lines::default()
            }
            Event::Timings { file } => {
                let text = format!("meshplan: timings are in {}\n", clean_line(file));
                self.talk_if(self.is(Verbosity::Normal), text)
            }
            Event::Problems { problems } => self.problems(problems),
            Event::Error { message, .. } => {
                self.talk_if(true, format!("meshplan: {}\n", clean(message).trim_end()))
            }
            Event::RunFinished(summary) => {
                self.talk_if(true, self.ending.lines(summary, &self.work_dir))
            }
        }
    }

    fn is(&self, least: Verbosity) -> bool {
        self.options.verbosity >= least
    }

    fn talk_if(&self, wanted: bool, talk: String) -> Lines {
        Lines {
            data: String::new(),
            talk: if wanted { talk } else { String::new() },
        }
    }

    fn warning(&self, message: &str, help: &str) -> Lines {
        let mut talk = format!(
            "{} {}",
            self.paint.ink(Ink::Yellow, "warning:"),
            hang(message, "         ")
        );
        if !help.is_empty() {
            let _ = write!(
                talk,
                "    {} {}",
                self.paint.ink(Ink::Cyan, "help:"),
                hang(help, "          ")
            );
        }
        self.talk_if(true, talk)
    }

    fn verdict(&mut self, task: &str, verdict: Verdict, why: &[Why]) -> Lines {
        self.adopted += usize::from(verdict == Verdict::Adopted);
        // A refusal stops the run, or with -k a part of it: it must be read, whatever else is.
        let told = verdict == Verdict::Refused || self.is(Verbosity::Verbose);
        if !(told || self.lists_verdicts()) {
            return Lines::default();
        }
        let (word, ink) = match verdict {
            Verdict::Current => ("current", Ink::Green),
            Verdict::Adopted => ("adopted", Ink::Blue),
            Verdict::Stale => ("stale", Ink::Yellow),
            Verdict::Refused => ("refused", Ink::Red),
            Verdict::Blocked => ("blocked", Ink::Magenta),
            Verdict::Undone => ("undone", Ink::Cyan),
        };
        let task = clean_line(task);
        let mut reasons = why.iter().map(|w| clean_line(&w.text));
        let first = reasons.next().unwrap_or_default();
        let word_and_space = format!(
            "{}{}",
            self.paint.ink(ink, word),
            " ".repeat(9 - word.len())
        );
        let mut line = format!("{word_and_space}{task}: {first}\n");
        for reason in reasons {
            let _ = writeln!(line, "         also: {reason}");
        }
        if verdict == Verdict::Refused {
            self.ending.refused(format!("{task}: {first}"));
        }
        if self.lists_verdicts() {
            return Lines {
                data: line,
                talk: String::new(),
            };
        }
        self.talk_if(true, line)
    }

    fn lists_verdicts(&self) -> bool {
        self.options.explain || self.options.dry_run
    }

    fn planned(&mut self, stale: usize, current: usize) -> Lines {
        self.to_do = stale;
        let mut talk = String::new();
        if self.adopted > 0 && !self.lists_verdicts() && self.is(Verbosity::Normal) {
            let files = count(self.adopted, "file");
            let _ = writeln!(
                talk,
                "meshplan: took over {files} made elsewhere, sound as they are (--explain names them)"
            );
        }
        if self.is(Verbosity::Verbose) {
            let _ = writeln!(talk, "meshplan: {stale} to run, {current} current");
        }
        self.talk_if(true, talk)
    }

    fn started(&mut self, task: &SmolStr, doing: &str) -> Lines {
        if !self.tells_tasks() {
            return Lines::default();
        }
        let doing = clean_line(doing);
        let mut talk = String::new();
        if self.is(Verbosity::Verbose) {
            talk = self.paint.ink(Ink::Dim, format!("start {doing}")) + "\n";
        }
        self.doing.insert(task.clone(), doing.into());
        self.talk_if(true, talk)
    }

    fn tells_tasks(&self) -> bool {
        self.each && self.is(Verbosity::Normal)
    }

    fn finished(&mut self, task: &str, changed: bool, did: &str, millis: u64) -> Lines {
        self.done += 1;
        let verbose = self.is(Verbosity::Verbose);
        let doing = self.doing.remove(task);
        // A look at a cluster that found all in order is no news.
        if !(self.tells_tasks() && (changed || verbose)) {
            return Lines::default();
        }
        let doing = doing.unwrap_or_else(|| clean_line(task).into());
        let width = self.to_do.to_string().len();
        let place = self
            .paint
            .ink(Ink::Dim, format!("[{:>width$}/{}]", self.done, self.to_do));
        let mut talk = format!("{place} {doing}");
        match (clean_line(did), changed) {
            (did, _) if !did.is_empty() => _ = write!(talk, ": {did}"),
            (_, false) => talk.push_str(": nothing to change"),
            (_, true) => {}
        }
        if verbose {
            _ = write!(talk, " ({})", length(millis));
        }
        talk.push('\n');
        self.talk_if(true, talk)
    }

    fn failed(&mut self, task: &str, cause: &str, stderr: &str, blocked: &[String]) -> Lines {
        self.done += 1 + blocked.len();
        self.doing.remove(task);
        let task = clean_line(task);
        let cause = clean(cause);
        let told = self.ending.failed(&task, &cause, !stderr.is_empty());
        let mut talk = format!(
            "{} {task}: {}",
            self.paint.ink(Ink::Red, "failed:"),
            hang(&cause, "        ")
        );
        if !stderr.trim().is_empty() {
            talk.push_str("    it said on standard error:\n");
            talk.push_str(&block(stderr, "    | "));
        }
        if !blocked.is_empty() {
            let _ = writeln!(
                talk,
                "    {} {}",
                self.paint.ink(Ink::Magenta, "blocked:"),
                names(blocked)
            );
        }
        self.talk_if(told, talk)
    }

    fn problems(&self, problems: &serde_json::Value) -> Lines {
        let text = |problem: &serde_json::Value, name| {
            clean_line(problem[name].as_str().unwrap_or_default()).into_owned()
        };
        let mut talk = String::new();
        for problem in problems.as_array().into_iter().flatten() {
            let (severity, code) = (text(problem, "severity"), text(problem, "code"));
            let _ = writeln!(talk, "{severity} {code}: {}", text(problem, "message"));
            let help = text(problem, "help");
            if !help.is_empty() {
                let _ = writeln!(talk, "    help: {help}");
            }
        }
        self.talk_if(true, talk)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::{Format, ending::FAILURES, event::Summary, testing};

    pub(in crate::report) fn options(verbosity: Verbosity) -> Options {
        Options {
            format: Format::Human,
            color: false,
            verbosity,
            explain: false,
            dry_run: false,
            terminal: false,
        }
    }

    fn told(options: Options, events: &[Event]) -> Lines {
        let mut human = Human::new(options, true);
        events.iter().fold(Lines::default(), |mut all, event| {
            let lines = human.event(event);
            all.data += &lines.data;
            all.talk += &lines.talk;
            all
        })
    }

    #[test]
    fn a_failing_run_reads_well() {
        let lines = told(options(Verbosity::Normal), &testing::failing_run());
        assert_eq!(lines.data, "");
        assert_eq!(
            lines.talk,
            "\
warning: the root certificate ends in 80 days
    help: plan its replacement
[1/3] sign cluster1/ca-cert.pem
failed: cluster1-install: istioctl ended with exit code 1
        read its message, then run again
    it said on standard error:
    | Error: timed out
    |   at line 2
    blocked: cluster1-ready
undone: cluster2: cluster2-secret, cluster2-install: no context
    to have it done: set CTX_2
  failed: cluster1-install: istioctl ended with exit code 1
meshplan: failed: 1 ran, 4 current, 1 failed, 1 blocked, 2 undone, in /srv/mesh/out (2.50 s)
"
        );
    }

    #[test]
    fn one_cause_is_told_of_twenty_tasks_and_of_the_rest_by_their_number() {
        let failed = |task: SmolStr, cause: &str| Event::TaskFailed {
            task,
            cause: cause.into(),
            stderr: String::new(),
            blocked: vec![],
        };
        let full = (0..25).map(|n| failed(format!("c{n}/ca-key.pem").into(), "no space left"));
        let other = failed("c25/ca-key.pem".into(), "no such folder");
        let events: Vec<_> = full.chain([other]).collect();
        let talk = told(options(Verbosity::Quiet), &events).talk;
        assert_eq!(talk.matches("no space left").count(), FAILURES, "{talk}");
        assert!(talk.ends_with("failed: c25/ca-key.pem: no such folder\n"));
        let end = Event::RunFinished(Summary {
            failed: 26,
            exit_code: 1,
            ..Summary::default()
        });
        let ended = [events.as_slice(), &[end]].concat();
        let talk = told(options(Verbosity::Quiet), &ended).talk;
        assert!(talk.contains("and 6 more (-v tells which)"), "{talk}");
        let all = told(options(Verbosity::Verbose), &events).talk;
        assert_eq!(all.matches("no space left").count(), 25);
    }

    #[test]
    fn a_second_run_is_one_line_and_none_when_quiet() {
        let undone = Event::Undone {
            cluster: "c".into(),
            steps: vec!["c-ready".into()],
            why: "no context".into(),
            how: "set CTX".into(),
        };
        let summary = Summary {
            current: 11,
            undone: 1,
            millis: 10,
            ..Summary::default()
        };
        let events = [
            Event::Planned {
                stale: 0,
                current: 11,
            },
            undone,
            Event::RunFinished(summary),
        ];
        let line =
            "meshplan: nothing to do: 11 tasks current, 1 undone (-v tells which) (0.01 s)\n";
        assert_eq!(told(options(Verbosity::Normal), &events).talk, line);
        assert_eq!(told(options(Verbosity::Quiet), &events), Lines::default());
    }

    #[test]
    fn a_quiet_run_tells_what_is_wrong_and_nothing_else() {
        let talk = told(options(Verbosity::Quiet), &testing::failing_run()).talk;
        for (word, there) in [
            ("warning:", true),
            ("failed: cluster1-install", true),
            ("undone:", true),
            ("[1/3]", false),
        ] {
            assert_eq!(talk.contains(word), there, "{word} in\n{talk}");
        }
    }

    #[test]
    fn a_dry_run_lists_verdicts_as_data() {
        let why = |text: &str| Why {
            code: "x",
            text: text.into(),
        };
        let events = [
            Event::Verdict {
                task: "c1/ca-cert.pem".into(),
                verdict: Verdict::Stale,
                why: smallvec::smallvec![
                    why("validity 730d → 365d: re-sign"),
                    why("asked for by -B")
                ],
            },
            Event::Verdict {
                task: "root-key.pem".into(),
                verdict: Verdict::Refused,
                why: smallvec::smallvec![why("a re-key (--allow rekey)")],
            },
            Event::RunFinished(Summary {
                ran: 1,
                refused: 1,
                dry_run: true,
                exit_code: 5,
                millis: 4,
                ..Summary::default()
            }),
        ];
        let lines = told(
            Options {
                dry_run: true,
                ..options(Verbosity::Quiet)
            },
            &events,
        );
        assert_eq!(
            lines.data,
            "\
stale    c1/ca-cert.pem: validity 730d → 365d: re-sign
         also: asked for by -B
refused  root-key.pem: a re-key (--allow rekey)
"
        );
        assert_eq!(
            lines.talk,
            "meshplan: dry run, nothing was changed: 1 would run, 1 refused (0.00 s)\n"
        );
    }

    #[test]
    fn no_name_or_output_from_outside_reaches_the_terminal_as_a_control() {
        let evil = "\x1b[2J\x1b]0;x\x07\u{202e}\u{9b}1m\x07\r";
        let events = testing::one_of_each(evil);
        for verbosity in [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose] {
            let lines = told(options(verbosity), &events);
            let all = lines.talk + &lines.data;
            assert!(
                !all.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
                "{all:?}"
            );
        }
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        let events = testing::failing_run();
        assert!(
            !told(options(Verbosity::Verbose), &events)
                .talk
                .contains('\x1b')
        );
        assert!(
            told(
                Options {
                    color: true,
                    ..options(Verbosity::Normal)
                },
                &events
            )
            .talk
            .contains("\x1b[31mfailed:\x1b[0m cluster1-install")
        );
    }
}
