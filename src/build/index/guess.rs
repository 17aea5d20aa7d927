//! Where the work directory of a plan probably is, told from a glance at its text. A wrong guess finds no
//! index, or one that says it is another folder's; it decides nothing.

use camino::{Utf8Path, Utf8PathBuf};

use super::is_readable;
use crate::plan::{Request, Surroundings, normalize};

/// The folder that the text's first `work-dir` names, else the plan's own. `None` where the plan cannot be read.
pub(super) fn work_dir(request: &Request, around: &dyn Surroundings) -> Option<Utf8PathBuf> {
    let plan = normalize(&request.cwd.join(request.file));
    let dir = plan.parent().unwrap_or(Utf8Path::new("/"));
    let text = text(around, &plan)?;
    let spoken = after(&text, "work-dir").map(str::to_owned).or_else(|| {
        // The mesh may stand in a file that the plan includes by its name.
        let included = words(after(&text, "include")?).map(|name| dir.join(name));
        included
            .filter_map(|path| self::text(around, &path))
            .find_map(|text| after(&text, "work-dir").map(str::to_owned))
    });
    let Some(spoken) = spoken else {
        return Some(dir.to_owned());
    };
    let word = words(&spoken).next()?;
    let value = match spoken.trim_start().starts_with("(env)") {
        true => variable(request, around, word)?,
        false => word.to_owned(),
    };
    Some(normalize(&dir.join(value)))
}

fn text(around: &dyn Surroundings, path: &Utf8Path) -> Option<String> {
    if !is_readable(around, path) {
        return None;
    }
    String::from_utf8(around.read(path).ok()?).ok()
}

/// The rest of the line after a word.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let at = text.find(word)? + word.len();
    text[at..].lines().next()
}

/// Quoted words of a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

fn variable(request: &Request, around: &dyn Surroundings, text: &str) -> Option<String> {
    let (name, fallback) = text.split_once(":-").unwrap_or((text, ""));
    let given = request.assignments.iter().rfind(|(n, _)| n == name);
    let value = given.map(|(_, v)| v.clone()).or_else(|| around.var(name));
    let value = value.filter(|v| !v.is_empty());
    value.or_else(|| (!fallback.is_empty()).then(|| fallback.to_owned()))
}
