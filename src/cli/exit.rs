//! Exit codes (design §6), and the last words before one.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{build::RunError, report::event::Event};

/// A task failed.
pub const TASK: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The plan is wrong.
pub const PLAN: u8 = 3;
/// The plan is sound, but something in it should be looked at.
pub const FINDINGS: u8 = 4;
/// Another run is at work.
pub const LOCKED: u8 = 6;

/// Why a command ends before its work.
pub struct Failure {
    code: u8,
    text: String,
    /// The text is an event line and belongs on standard output.
    data: bool,
}

impl Failure {
    /// A mistake on the command line.
    pub fn usage(text: String) -> Self {
        Self {
            code: USAGE,
            text: format!("meshplan: {text}\n"),
            data: false,
        }
    }

    /// Something on this machine failed.
    pub fn task(text: String) -> Self {
        Self {
            code: TASK,
            text: format!("meshplan: {text}\n"),
            data: false,
        }
    }

    /// Problems of a plan, drawn.
    pub fn plan(text: String, data: bool) -> Self {
        Self {
            code: PLAN,
            text,
            data,
        }
    }

    /// A run that did not begin.
    pub fn run(error: &RunError, json: bool) -> Self {
        let code = match error {
            RunError::Target(_) => USAGE,
            RunError::Locked(_) => LOCKED,
            RunError::Host { .. } => TASK,
        };
        let message = error.to_string();
        if json {
            Self {
                code,
                text: Event::Error {
                    message,
                    exit_code: code,
                }
                .to_json_line(),
                data: true,
            }
        } else {
            Self {
                code,
                text: format!("meshplan: {message}\n"),
                data: false,
            }
        }
    }

    /// Another run is at work, and may end.
    pub fn is_locked(&self) -> bool {
        self.code == LOCKED
    }

    /// Says it.
    pub fn tell(&self) -> ExitCode {
        // Where nobody listens, the code still speaks.
        let _ = if self.data {
            io::stdout().write_all(self.text.as_bytes())
        } else {
            io::stderr().write_all(self.text.as_bytes())
        };
        ExitCode::from(self.code)
    }
}
