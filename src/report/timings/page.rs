//! The page of a run's timings: one HTML file that loads nothing. What it must say stands in it as HTML;
//! its script draws the lanes, and makes the long tables whole. It knows nothing of how times came to be.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Frame, MARK, data, record::Record, tables};
use crate::{
    action::pki,
    report::{event::Summary, timings::record::Kind},
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = concat!(include_str!("page.js"), include_str!("lanes.js"));

/// What a policy calls an inline script or style: whatever else gets into the page does not run.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(pki::digest(text.as_bytes())))
}

pub(super) fn page(frame: &Frame, record: &Record, summary: &Summary) -> String {
    let (outcome, well) = tables::outcome(summary);
    let title = tables::escaped(&record.plan);
    let mut out = MARK.to_owned();
    let _ = write!(
        out,
        "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; form-action 'none'; style-src {}; script-src {}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}: timings</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header><h1><bdi>{title}</bdi>: timings</h1> <p class=\"badge {}\">{outcome} in {}</p></header>\n<main>\n",
        hash(STYLE),
        hash(SCRIPT),
        if well { "well" } else { "bad" },
        tables::time(record.ended),
    );
    tables::summary(&mut out, frame, record, summary);
    tables::failures(&mut out, record);
    if record.started.is_empty() {
        out.push_str("<p>No task was started.</p>\n");
    } else {
        lanes(&mut out);
        section(
            &mut out,
            "path",
            "Critical path",
            "The chain that decided the end: each part began when the one above it was done. Only what shortens it shortens the run.",
        );
        tables::path(&mut out, record);
        section(&mut out, "waits", "What waits were for", "");
        tables::waits(&mut out, record);
        section(&mut out, "clusters", "Tasks by cluster", "");
        tables::groups(&mut out, record);
        section(&mut out, "tasks", "Longest tasks", "");
        tables::tasks(&mut out, record);
        out.push_str("</section>\n");
    }
    // Names, numbers and lists always have a JSON form; without one the page is what stands in it.
    let data = data::json(record).unwrap_or_else(|_| "null".to_owned());
    let _ = write!(
        out,
        "</main>\n<script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    out
}

/// Ends a section and begins the next.
fn section(out: &mut String, id: &str, title: &str, note: &str) {
    let _ = write!(out, "</section>\n<section id=\"{id}\"><h2>{title}</h2>\n");
    if !note.is_empty() {
        let _ = writeln!(out, "<p class=\"dim\">{note}</p>");
    }
}

fn lanes(out: &mut String) {
    out.push_str("<section id=\"lanes\"><h2>Workers</h2>\n<p class=\"legend\">");
    for kind in Kind::ALL {
        let (word, label) = (tables::word(kind), kind.label());
        let _ = write!(
            out,
            "<span data-kind=\"{word}\"><i class=\"sample k-{word}\"></i>{label}</span> "
        );
    }
    out.push_str(
        "<span><i class=\"sample k-failed\"></i>failed</span> <span><i class=\"sample faint\"></i>done, but not taken in yet</span> <span><i class=\"sample critical\"></i>critical path</span></p>\n\
         <noscript><p class=\"dim\">The lanes of the workers are drawn by this page's script, which does not run here. All below is whole without it, but for long tables.</p></noscript>\n",
    );
}
