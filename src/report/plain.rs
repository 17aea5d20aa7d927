//! Lines for CI logs, files and pipes: each event's text to standard output or standard error, at
//! once. It knows nothing of terminals.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{
    Reporter, Sink,
    event::Event,
    human::{Human, Lines},
};

/// The two streams that people read.
pub(super) struct Pen {
    /// `None` once its reader went away.
    stdout: Option<Sink>,
    stderr: Sink,
}

impl Pen {
    pub(super) fn new(stdout: Sink, stderr: Sink) -> Self {
        Self {
            stdout: Some(stdout),
            stderr,
        }
    }

    /// Talk goes first, so that it is not lost where standard output is closed.
    pub(super) fn write(&mut self, lines: &Lines) -> io::Result<()> {
        if !lines.talk.is_empty() {
            self.stderr.write_all(lines.talk.as_bytes())?;
            self.stderr.flush()?;
        }
        if let (false, Some(stdout)) = (lines.data.is_empty(), &mut self.stdout) {
            let written = stdout
                .write_all(lines.data.as_bytes())
                .and_then(|()| stdout.flush());
            if written.is_err() {
                self.stdout = None;
            }
            return written;
        }
        Ok(())
    }
}

/// Tells people by lines alone.
pub(super) struct Plain {
    human: Human,
    pen: Pen,
}

impl Plain {
    pub(super) fn new(human: Human, pen: Pen) -> Self {
        Self { human, pen }
    }
}

impl Reporter for Plain {
    fn event(&mut self, _at: Duration, event: &Event) -> io::Result<()> {
        let lines = self.human.event(event);
        self.pen.write(&lines)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::report::{
        Verbosity,
        event::{Summary, Verdict, Why},
        human::tests::options,
        testing::Shared,
    };

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_standard_output_is_told_once_and_does_not_silence_standard_error() {
        let stderr = Shared::default();
        let human = Human::new(
            crate::report::Options {
                explain: true,
                ..options(Verbosity::Normal)
            },
            true,
        );
        let mut plain = Plain::new(human, Pen::new(Box::new(Closed), Box::new(stderr.clone())));
        let why = smallvec::smallvec![Why {
            code: "output-missing",
            text: "there is none yet: make".into(),
        }];
        let verdict = Event::Verdict {
            task: "root-key.pem".into(),
            verdict: Verdict::Stale,
            why,
        };
        let told = plain.event(Duration::ZERO, &verdict).map_err(|e| e.kind());
        assert_eq!(told, Err(io::ErrorKind::BrokenPipe));
        plain.event(Duration::ZERO, &verdict).unwrap();
        let summary = Summary {
            current: 11,
            millis: 12,
            ..Summary::default()
        };
        plain
            .event(Duration::ZERO, &Event::RunFinished(summary))
            .unwrap();
        assert_eq!(
            stderr.text(),
            "meshplan: nothing to do: 11 tasks current (0.01 s)\n"
        );
    }
}
