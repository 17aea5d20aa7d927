//! The display on a terminal: a bar for the whole, a line for each running task, lines that stay above
//! them. It knows what runs and how much is left, not what a line that stays says.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use console::Term;
use indexmap::IndexMap;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use smol_str::{SmolStr, format_smolstr};

use super::{
    Reporter,
    event::Event,
    human::{Human, Lines},
    plain::Pen,
    text::{Ink, Paint, clock, columns, fit},
};

/// The display is drawn anew this often.
const TICK: Duration = Duration::from_millis(100);
/// At most so many running tasks are shown.
const TASKS: usize = 8;
/// Columns of the bar, where there is room.
const BAR: std::ops::RangeInclusive<usize> = 6..=40;

/// Columns and rows of a terminal, asked for at each drawing since they change.
type Size = Arc<dyn Fn() -> (usize, usize) + Send + Sync>;

/// A terminal to draw on.
pub(super) struct Screen {
    target: ProgressDrawTarget,
    size: Size,
    tick: Duration,
}

impl Screen {
    /// The process's standard error, where it is a terminal that can move its cursor.
    pub(super) fn stderr() -> Option<Self> {
        let target = ProgressDrawTarget::stderr();
        let term = Term::stderr();
        let size = move || {
            let (rows, columns) = term.size();
            (columns.into(), rows.into())
        };
        (!target.is_hidden()).then(|| Self {
            target,
            size: Arc::new(size),
            tick: TICK,
        })
    }
}

/// Tells people on a terminal.
pub(super) struct Progress {
    human: Human,
    pen: Pen,
    bar: ProgressBar,
    view: Arc<Mutex<View>>,
    tick: Duration,
    /// The display is on the screen.
    shown: bool,
}

impl Progress {
    pub(super) fn new(human: Human, pen: Pen, screen: Screen, color: bool) -> Self {
        let view = Arc::new(Mutex::new(View {
            paint: Paint(color),
            ..View::default()
        }));
        let bar = ProgressBar::with_draw_target(None, screen.target);
        // The whole display is one element: only so is each line cut to the width of this very moment.
        if let Ok(style) = ProgressStyle::with_template("{screen}") {
            let (view, size) = (view.clone(), screen.size);
            bar.set_style(style.with_key(
                "screen",
                move |state: &indicatif::ProgressState, w: &mut dyn fmt::Write| {
                    let _ = w.write_str(&lock(&view).draw(size(), state.elapsed()));
                },
            ));
        }
        Self {
            human,
            pen,
            bar,
            view,
            tick: screen.tick,
            shown: false,
        }
    }

    fn show(&mut self) {
        self.shown = true;
        self.bar.reset_elapsed();
        self.bar.enable_steady_tick(self.tick);
    }

    fn hide(&mut self) {
        if std::mem::take(&mut self.shown) {
            self.bar.disable_steady_tick();
            self.bar.finish_and_clear();
        }
    }

    fn write(&mut self, lines: &Lines) -> io::Result<()> {
        if *lines == Lines::default() {
            return Ok(());
        }
        if self.shown {
            let pen = &mut self.pen;
            return self.bar.suspend(|| pen.write(lines));
        }
        self.pen.write(lines)
    }
}

impl Reporter for Progress {
    fn event(&mut self, _at: Duration, event: &Event) -> io::Result<()> {
        lock(&self.view).note(event);
        match event {
            Event::Planned { stale: 1.., .. } => self.show(),
            Event::RunFinished(_) | Event::Error { .. } => self.hide(),
            _ => {}
        }
        let lines = self.human.event(event);
        self.write(&lines)
    }
}

/// A run may end before its last event.
impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the display shows.
#[derive(Default)]
struct View {
    paint: Paint,
    total: usize,
    done: usize,
    failed: usize,
    /// Running tasks, the oldest first.
    running: IndexMap<SmolStr, Running>,
}

struct Running {
    doing: SmolStr,
    since: Instant,
}

impl View {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Planned { stale, .. } => self.total = *stale,
            Event::TaskStarted { task, doing, .. } => {
                self.running.insert(
                    task.clone(),
                    Running {
                        doing: doing.clone(),
                        since: Instant::now(),
                    },
                );
            }
            // From here on its clock tells how long it has waited.
            Event::TaskWaits { task, on } => {
                if let Some(running) = self.running.get_mut(task) {
                    running.doing = format_smolstr!("wait for {on}");
                    running.since = Instant::now();
                }
            }
            Event::TaskMade { task, .. } => {
                self.running.shift_remove(task);
            }
            Event::TaskFinished { task, .. } => {
                self.running.shift_remove(task);
                self.done += 1;
            }
            Event::TaskFailed { task, blocked, .. } => {
                self.running.shift_remove(task);
                self.done += 1 + blocked.len();
                self.failed += 1;
            }
            _ => {}
        }
    }

    /// The display's lines, none wider than the terminal.
    fn draw(&self, (width, height): (usize, usize), elapsed: Duration) -> String {
        let mut text = self.head(width, elapsed);
        // A row stays free for the line above, so that the display never fills the screen.
        let room = height.saturating_sub(2).min(TASKS);
        let shown = if self.running.len() > room {
            room.saturating_sub(1)
        } else {
            self.running.len()
        };
        for running in self.running.values().take(shown) {
            text.push('\n');
            text.push_str(&self.task(running, width));
        }
        if shown < self.running.len() && room > 0 {
            text.push('\n');
            text.push_str(&fit(
                &format!("  and {} more", self.running.len() - shown),
                width,
            ));
        }
        text
    }

    /// Bar, counts and clock; where there is little room, without the bar.
    fn head(&self, width: usize, elapsed: Duration) -> String {
        let done = self.done.min(self.total);
        let failed = if self.failed > 0 {
            format!(" {} failed", self.failed)
        } else {
            String::new()
        };
        let (counts, time) = (format!("{done}/{}", self.total), clock(elapsed));
        let beside = columns(&counts) + columns(&failed) + columns(&time) + 2;
        let bar = width.saturating_sub(beside).min(*BAR.end());
        if bar < *BAR.start() {
            return fit(&format!("{counts}{failed} {time}"), width);
        }
        let full = (bar * done).checked_div(self.total).unwrap_or(0);
        let (full, rest) = ("━".repeat(full), "─".repeat(bar - full));
        format!(
            "{}{} {counts}{} {time}",
            self.paint.ink(Ink::Green, full),
            self.paint.ink(Ink::Dim, rest),
            self.paint.ink(Ink::Red, failed)
        )
    }

    fn task(&self, running: &Running, width: usize) -> String {
        let time = running.since.elapsed();
        // How long is news only of what takes long.
        let time = if time >= Duration::from_secs(2) && width >= 24 {
            format!(" {}", clock(time))
        } else {
            String::new()
        };
        let doing = fit(
            &format!("  {}", running.doing),
            width.saturating_sub(time.len()),
        );
        doing + &self.paint.ink(Ink::Dim, time)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use indicatif::{InMemoryTerm, TermLike};

    use super::*;
    use crate::report::{Verbosity, human::tests::options, testing};

    /// Standard error on the memory terminal, as the display is.
    struct OnTerm(InMemoryTerm);

    impl io::Write for OnTerm {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .write_str(&String::from_utf8_lossy(bytes).replace('\n', "\r\n"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Stage {
        term: InMemoryTerm,
        stdout: testing::Shared,
        progress: Progress,
    }

    impl Stage {
        fn new(columns: u16, rows: u16) -> Self {
            let term = InMemoryTerm::new(rows, columns);
            let stdout = testing::Shared::default();
            let pen = Pen::new(Box::new(stdout.clone()), Box::new(OnTerm(term.clone())));
            let screen = Screen {
                target: ProgressDrawTarget::term_like(Box::new(term.clone())),
                size: Arc::new(move || (columns.into(), rows.into())),
                // No clock of its own: tests draw when they look.
                tick: Duration::ZERO,
            };
            let human = Human::new(options(Verbosity::Normal), false);
            Self {
                term,
                stdout,
                progress: Progress::new(human, pen, screen, false),
            }
        }

        fn tell(&mut self, event: &Event) {
            self.progress.event(Duration::ZERO, event).unwrap();
        }

        fn start(&mut self, name: &str) {
            self.tell(&Event::TaskStarted {
                task: name.into(),
                doing: format_smolstr!("sign {name}"),
                worker: 0,
            });
        }

        fn screen(&self) -> String {
            self.progress.bar.force_draw();
            self.term.contents()
        }
    }

    #[test]
    fn the_display_fits_forty_columns_and_leaves_only_the_lines_that_stay() {
        let mut stage = Stage::new(40, 24);
        let events = testing::failing_run();
        for event in &events[..4] {
            stage.tell(event);
        }
        stage.start("集群一/非常に長い名前の証明書/ca-cert.pem");
        assert_eq!(
            stage.screen(),
            "\
warning: the root certificate ends in 80
 days
    help: plan its replacement
─────────────────────────────── 0/3 0:00
  sign cluster1/ca-cert.pem
  sign 集群一/非常に長い名前の証明書/ca…"
        );
        stage.tell(&events[4]);
        assert!(
            stage
                .screen()
                .contains("━━━━━━━━━━───────────────────── 1/3 0:00"),
            "{}",
            stage.screen()
        );
        for event in &events[5..] {
            stage.tell(event);
        }
        let end = stage.term.contents();
        assert!(!end.contains('━') && !end.contains("  sign"), "{end}");
        assert!(
            end.contains("failed: cluster1-install: istioctl ended") && end.ends_with("(2.50 s)"),
            "{end}"
        );
        assert_eq!(stage.stdout.text(), "");
    }

    #[test]
    fn more_tasks_than_rows_are_counted() {
        for (rows, lines, last) in [
            (24, 9, "  and 93 more"),
            (5, 4, "  and 98 more"),
            (3, 2, "  and 100 more"),
            (2, 1, "0/100 0:00"),
        ] {
            let mut stage = Stage::new(60, rows);
            stage.tell(&Event::Planned {
                stale: 100,
                current: 0,
            });
            (0..100).for_each(|i| stage.start(&format!("cluster{i}/ca-cert.pem")));
            let screen = stage.screen();
            assert_eq!(screen.lines().count(), lines, "{screen}");
            assert!(screen.ends_with(last), "{screen}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_however_narrow_or_wide_its_characters() {
        for width in 1..=80 {
            let mut stage = Stage::new(width, 24);
            // The lines that stay are the terminal's to break; the memory terminal cannot break a wide
            // character in one column.
            for event in &testing::one_of_each(if width > 1 {
                "集群🚀👨‍👩‍👧❤️\n"
            } else {
                "x"
            }) {
                stage.tell(event);
                stage.start("集群一/🚀/ca-cert.pem");
                stage.progress.bar.force_draw();
                let view =
                    lock(&stage.progress.view).draw((width.into(), 24), Duration::from_secs(4000));
                for line in view.lines() {
                    assert!(columns(line) <= width.into(), "{line:?} at {width}");
                }
            }
        }
        assert_eq!(
            lock(&Stage::new(10, 24).progress.view).draw((0, 0), Duration::ZERO),
            ""
        );
    }

    #[test]
    fn ten_columns_show_the_counts() {
        let mut stage = Stage::new(10, 24);
        stage.tell(&Event::Planned {
            stale: 12,
            current: 0,
        });
        stage.start("集群一/ca-key.pem");
        assert_eq!(stage.screen(), "0/12 0:00\n  sign 集…");
    }

    #[test]
    fn a_run_without_an_end_leaves_no_display_behind() {
        let mut stage = Stage::new(40, 24);
        stage.tell(&Event::Planned {
            stale: 2,
            current: 0,
        });
        stage.start("a");
        assert!(stage.screen().contains("sign a"));
        let Stage { term, progress, .. } = stage;
        drop(progress);
        assert_eq!(term.contents(), "");
    }
}
