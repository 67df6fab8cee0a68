//! The section about controls.

use std::fmt::Write;

use chancery_model::Timestamp;

use super::ReportInput;
use super::page::{counted, escape, number, second, table};
use crate::{Control, Found};

/// Exceptions shown of each control; all that were kept are in `exceptions.csv`.
const SHOWN_MAX: usize = 50;
/// A control with more of them may be cut by the end of a printed page.
const SHORT_MAX: u64 = 8;

/// Criteria by what they are about, in our words: those of the criteria belong to their publisher.
const GROUPS: [(&str, &str); 6] = [
    ("CC6", "Who may do what (CC6)"),
    ("CC7", "Watching over what goes on (CC7)"),
    ("CC8", "Changes (CC8)"),
    ("A1", "Availability (A1)"),
    ("PI1", "Complete and correct processing (PI1)"),
    ("C1", "Confidentiality (C1)"),
];

pub(super) fn section(input: &ReportInput, out: &mut String) {
    out.push_str(
        "<section id=\"controls\" aria-labelledby=\"controls-title\">\n<h2 id=\"controls-title\">Controls</h2>\n<p>A control is \
         a question to the whole of the ledger that has one answer. Every item of the period was looked at; no sample was \
         drawn. An exception is not yet a failure: it is an item that somebody has to explain.</p>\n",
    );
    let asked: Vec<(&Control, &Found)> =
        input.findings.all().filter(|(control, _)| input.from.wants(control)).collect();
    let rows: Vec<Vec<String>> = asked
        .iter()
        .map(|(control, found)| {
            let link = format!("<a href=\"#{}\">{}</a>", control.id, escape(control.title));
            let count = |count: u64| if found.untested.is_some() { "–".to_owned() } else { number(count) };
            vec![link, badge(found), count(found.tested), count(found.count)]
        })
        .collect();
    let header = [("Control", false), ("Result", false), ("Tested", true), ("Exceptions", true)];
    table("overview", "All controls at a glance", &header, &rows, out);
    for (family, title) in GROUPS {
        let group: Vec<&(&Control, &Found)> =
            asked.iter().filter(|(control, _)| self::family(control) == family).collect();
        if !group.is_empty() {
            let _ = writeln!(out, "<h3 class=\"group\">{}</h3>", escape(title));
            group.into_iter().for_each(|(control, found)| one(control, found, out));
        }
    }
    let other = asked.iter().filter(|(control, _)| !GROUPS.iter().any(|(family, _)| self::family(control) == *family));
    other.for_each(|(control, found)| one(control, found, out));
    out.push_str("</section>\n");
}

/// What the first criterion of a control is about.
fn family(control: &Control) -> &str {
    let first = control.criteria.first().copied().unwrap_or_default();
    first.split_once('.').map_or(first, |(family, _)| family)
}

/// Sign, word and frame differ, not only the colour.
fn badge(found: &Found) -> String {
    let (class, text) = match (found.untested, found.count) {
        (Some(_), _) => ("untested", "? Not tested"),
        (None, 0) => ("holds", "✓ Holds"),
        (None, _) => ("exceptions", "! Exceptions"),
    };
    format!("<span class=\"badge {class}\">{text}</span>")
}

fn one(control: &Control, found: &Found, out: &mut String) {
    let class = match found.count {
        0 => "control",
        1..=SHORT_MAX => "control exceptions",
        _ => "control exceptions long",
    };
    let files: Vec<String> = control
        .populations
        .iter()
        .map(|one| format!("<a href=\"{}\">{}</a>", crate::population_path(*one, "csv"), one.about().id))
        .collect();
    let _ = write!(
        out,
        "<article class=\"{class}\" id=\"{id}\" aria-labelledby=\"{id}-title\">\n<header><h4 id=\"{id}-title\">{}</h4>{}</header>\n\
         <p>{}</p>\n<p class=\"about\">What is asked: {}.</p>\n\
         <p class=\"meta\">Criteria {} · populations {} · <code>{id}</code></p>\n",
        escape(control.title),
        badge(found),
        outcome(found),
        predicate(control.predicate),
        escape(&control.criteria.join(", ")),
        files.join(", "),
        id = control.id,
    );
    if found.count > 0 {
        exceptions(control, found, out);
    }
    out.push_str("</article>\n");
}

/// Words between backticks are code.
fn predicate(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) }).collect()
}

fn outcome(found: &Found) -> String {
    match (found.untested, found.tested, found.count) {
        (Some(why), ..) => format!("Not tested: {}.", escape(why)),
        (None, 0, 0) => "Nothing of this kind happened in the period.".to_owned(),
        (None, tested, 0) => format!("{} looked at, no exception.", counted(tested, "item", "items")),
        (None, tested, count) => {
            format!("{} looked at, {}.", counted(tested, "item", "items"), counted(count, "exception", "exceptions"))
        }
    }
}

fn exceptions(control: &Control, found: &Found, out: &mut String) {
    let rows: Vec<Vec<String>> = found
        .exceptions
        .iter()
        .take(SHOWN_MAX)
        .map(|exception| {
            let entry = exception.entry.map_or("outside the ledger".to_owned(), |entry| entry.to_string());
            let at = exception.at.map_or("–".to_owned(), |at| second(&Timestamp(at).to_string()));
            vec![entry, at, escape(&exception.what)]
        })
        .collect();
    let header = [("Entry", false), ("When (UTC)", false), ("What was found", false)];
    let caption = format!("Exceptions: {}", control.title);
    table("exceptions", &caption, &header, &rows, out);
    let more = found.count - rows.len() as u64;
    if more > 0 {
        let _ = writeln!(
            out,
            "<p>These are the first {} of {}. <a href=\"controls/exceptions.csv\">controls/exceptions.csv</a> has more.</p>",
            rows.len(),
            number(found.count),
        );
    }
}
