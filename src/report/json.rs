//! Events for programs: one JSON object a line. It knows the envelope; what is in it is [`Event`]'s.
//!
#![doc = include_str!("EVENTS.md")]

use std::{io, time::Duration};

use serde::Serialize;

use super::{
    Reporter, Sink,
    event::{Event, SCHEMA},
};

/// A line of the stream.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    schema: &'static str,
    seq: u64,
    at_ms: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Line<'_> {
    fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|line| line + "\n")
    }
}

impl Event {
    /// The event as a line of its own, outside a run: `seq` and `at-ms` are 0.
    pub fn to_json_line(&self) -> String {
        // Strings, numbers and lists always have a JSON form; an empty line is the honest rest.
        Line {
            schema: SCHEMA,
            seq: 0,
            at_ms: 0,
            event: self,
        }
        .text()
        .unwrap_or_default()
    }
}

/// Writes each event as a line, at once.
pub(super) struct Json {
    out: Sink,
    seq: u64,
}

impl Json {
    pub(super) fn new(out: Sink) -> Self {
        Self { out, seq: 0 }
    }
}

impl Reporter for Json {
    fn event(&mut self, at: Duration, event: &Event) -> io::Result<()> {
        self.seq += 1;
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let line = Line {
            schema: SCHEMA,
            seq: self.seq,
            at_ms,
            event,
        }
        .text()?;
        self.out.write_all(line.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{collections::BTreeSet, io::Write};

    use super::*;
    use crate::report::testing;

    const DOCS: &str = include_str!("EVENTS.md");

    fn stream() -> Vec<String> {
        let mut out = testing::Shared::default();
        let mut json = Json::new(Box::new(out.clone()));
        for (i, event) in testing::one_of_each("").iter().enumerate() {
            match event {
                Event::Problems { .. } | Event::Error { .. } => {
                    out.write_all(event.to_json_line().as_bytes()).unwrap()
                }
                _ => json
                    .event(Duration::from_millis(i as u64 * 7), event)
                    .unwrap(),
            }
        }
        out.text().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_samples_have_every_event() {
        // A new event does not compile here until it has a place, and fails until it has a sample.
        let place = |event: &Event| match event {
            Event::RunStarted { .. } => 0,
            Event::Warning { .. } => 1,
            Event::Verdict { .. } => 2,
            Event::Planned { .. } => 3,
            Event::TaskStarted { .. } => 4,
            Event::Output { .. } => 5,
            Event::TaskFinished { .. } => 6,
            Event::TaskFailed { .. } => 7,
            Event::Undone { .. } => 8,
            Event::Problems { .. } => 9,
            Event::Error { .. } => 10,
            Event::TaskMade { .. } => 11,
            Event::TaskWaits { .. } => 12,
            Event::Pods { .. } => 13,
            Event::Timings { .. } => 14,
            Event::RunFinished(_) => 15,
        };
        let places: Vec<_> = testing::one_of_each("").iter().map(place).collect();
        assert_eq!(places, (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn every_event_has_a_section_with_its_fields_and_its_very_line() {
        for line in stream() {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&line).unwrap();
            let name = object["event"].as_str().unwrap();
            let heading = format!("\n## {name}\n");
            let section = DOCS
                .split(&heading)
                .nth(1)
                .unwrap_or_else(|| panic!("no section `{name}`"));
            let section = section.split("\n## ").next().unwrap();
            for field in object
                .keys()
                .filter(|k| !["schema", "seq", "at-ms", "event"].contains(&k.as_str()))
            {
                assert!(
                    section.contains(&format!("| `{field}` |")),
                    "`{name}` lacks `{field}`"
                );
            }
            assert!(
                section.contains(&line),
                "the example of `{name}` is not\n{line}"
            );
        }
    }

    #[test]
    fn every_section_is_of_an_event_and_every_verdict_is_named() {
        let events: BTreeSet<_> = stream()
            .iter()
            .map(|l| {
                serde_json::from_str::<serde_json::Value>(l).unwrap()["event"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        let sections: BTreeSet<_> = DOCS
            .lines()
            .filter_map(|l| l.strip_prefix("## "))
            .map(str::to_owned)
            .collect();
        assert_eq!(sections, events);
        assert!(DOCS.contains(SCHEMA));
        for verdict in [
            "current", "adopted", "stale", "refused", "blocked", "undone",
        ] {
            assert!(DOCS.contains(&format!("`{verdict}`")), "{verdict}");
        }
    }

    #[test]
    fn a_line_of_its_own_has_no_place_in_a_run() {
        let line = Event::Error {
            message: "a\nb".into(),
            exit_code: 6,
        }
        .to_json_line();
        assert_eq!(
            line,
            "{\"schema\":\"meshplan.events/1\",\"seq\":0,\"at-ms\":0,\"event\":\"error\",\"message\":\"a\\nb\",\"exit-code\":6}\n"
        );
    }
}
