//! The last line of a run for people: how it ended, and how many tasks ended how.

use super::{
    event::Summary,
    text::{Ink, Paint, count, length},
};

/// One sentence for a whole run; `idle` where it had nothing to do, `listed` where what is undone was told.
pub(super) fn sentence(
    summary: &Summary,
    idle: bool,
    listed: bool,
    work_dir: &str,
    paint: Paint,
) -> String {
    let Summary {
        ran,
        current,
        failed,
        blocked,
        refused,
        undone,
        not_started,
        ..
    } = *summary;
    let time = length(summary.millis);
    if idle {
        let undone = if undone > 0 {
            format!(", {undone} undone (-v tells which)")
        } else {
            String::new()
        };
        let word = paint.ink(Ink::Green, "nothing to do:");
        return format!(
            "meshplan: {word} {} current{undone} ({time})",
            count(current, "task")
        );
    }
    let (word, ink) = match (summary.interrupted, summary.exit_code) {
        (Some(signal), _) => (format!("interrupted by {signal}:"), Ink::Red),
        (None, _) if summary.dry_run => ("dry run, nothing was changed:".to_owned(), Ink::Green),
        (None, 0) => ("done:".to_owned(), Ink::Green),
        (None, _) if failed > 0 => ("failed:".to_owned(), Ink::Red),
        (None, _) if refused > 0 => ("refused:".to_owned(), Ink::Red),
        (None, _) => ("not done:".to_owned(), Ink::Red),
    };
    let would = if summary.dry_run { "would run" } else { "ran" };
    let parts = [
        (ran, would),
        (current, "current"),
        (failed, "failed"),
        (blocked, "blocked"),
        (refused, "refused"),
        (not_started, "not started"),
        (
            undone,
            if listed {
                "undone"
            } else {
                "undone (-v tells which)"
            },
        ),
    ];
    // How many ran is said even where none did: then it is the news.
    let parts = parts.iter().filter(|(n, word)| *n > 0 || *word == would);
    let parts = parts
        .map(|(n, word)| format!("{n} {word}"))
        .collect::<Vec<_>>()
        .join(", ");
    let place = if ran > 0 && !summary.dry_run && !work_dir.is_empty() {
        format!(", in {}", work_dir)
    } else {
        String::new()
    };
    format!("meshplan: {} {parts}{place} ({time})", paint.ink(ink, word))
}
