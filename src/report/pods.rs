//! The table of the pods of a mesh, as people know it from kubectl. It knows nothing of why they are shown.

use super::text::{clean_line, columns};
use crate::action::cluster::Pod;

/// Columns of the table of pods, as `kubectl get pods` has them, with the cluster before.
const PODS: [&str; 6] = ["CLUSTER", "NAME", "READY", "STATUS", "RESTARTS", "AGE"];

/// The row of a pod.
pub(super) fn row(cluster: &str, pod: &Pod) -> [String; 6] {
    let text = |t: &str| clean_line(t).into_owned();
    let age = match pod.age {
        s if s < 120 => format!("{s}s"),
        s if s < 7200 => format!("{}m", s / 60),
        s if s < 172_800 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    };
    let restarts = pod.restarts.to_string();
    [
        text(cluster),
        text(&pod.name),
        text(&pod.ready),
        text(&pod.status),
        restarts,
        age,
    ]
}

/// The rows below their head; nothing where there are none.
pub(super) fn table(rows: &[[String; 6]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = PODS.map(str::to_owned);
    let all: Vec<_> = std::iter::once(&head).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(*row) {
            *width = columns(cell).max(*width);
        }
    }
    let line = |row: &&[String; 6]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - columns(cell) + 3)));
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    all.iter().map(line).collect()
}
