//! The section that says what went on, in numbers.

use std::fmt::Write;

use super::page::{counted, escape, number, table};
use super::summary::{Counts, Summary};

/// Rows of a table of the most frequent.
const TOP: usize = 12;

pub(super) fn section(summary: &Summary, out: &mut String) {
    let _ = writeln!(
        out,
        "<section id=\"numbers\" aria-labelledby=\"numbers-title\">\n<h2 id=\"numbers-title\">What went on</h2>\n<p>Counted from \
         the populations of this pack. {} masked in {}.</p>",
        counted(summary.masked, "value was", "values were"),
        counted(summary.masked_results, "result", "results"),
    );
    commands(summary, out);
    out.push_str("<div class=\"pair\">\n<div>\n");
    ranked("Commands by principal", "Principal", &summary.principals, out);
    out.push_str("</div>\n<div>\n");
    ranked("Commands by resource", "Resource", &summary.resources, out);
    ranked("Commands of agents, by the agent that sent them", "Agent", &summary.actors, out);
    out.push_str("</div>\n</div>\n<div class=\"pair\">\n<div>\n");
    decisions(summary, out);
    out.push_str("</div>\n<div>\n");
    ranked("Refusals by reason", "Reason", &summary.refusals, out);
    ranked("Sessions by ending", "Ending", &summary.sessions, out);
    out.push_str("</div>\n</div>\n");
    out.push_str("</section>\n");
}

fn word(word: &str) -> String {
    if word.is_empty() { "–".to_owned() } else { escape(word) }
}

fn commands(summary: &Summary, out: &mut String) {
    let (top, rest) = summary.commands.top(TOP * 2);
    if top.is_empty() {
        return out.push_str("<p>There were no commands in the period.</p>\n");
    }
    let total = summary.commands.total();
    let mut rows: Vec<Vec<String>> = top
        .iter()
        .map(|((decision, effect, outcome), times)| {
            vec![word(decision), word(effect), word(outcome), bar(*times, total)]
        })
        .collect();
    if rest > 0 {
        rows.push(vec!["all others".to_owned(), String::new(), String::new(), number(rest)]);
    }
    let header = [("Decision", false), ("Effect", false), ("Outcome", false), ("Commands", true)];
    table("ranked", "Commands by decision, effect and outcome", &header, &rows, out);
}

fn ranked(caption: &str, name: &str, counts: &Counts<String>, out: &mut String) {
    let (top, rest) = counts.top(TOP);
    if top.is_empty() {
        return;
    }
    let total = counts.total();
    let mut rows: Vec<Vec<String>> = top.iter().map(|(what, times)| vec![word(what), bar(*times, total)]).collect();
    if rest > 0 {
        let others = counts.different() - top.len();
        rows.push(vec![format!("{} others", number(others as u64)), number(rest)]);
    }
    table("ranked", caption, &[(name, false), ("Count", true)], &rows, out);
}

fn decisions(summary: &Summary, out: &mut String) {
    let (top, _) = summary.decisions.top(TOP);
    let rows: Vec<Vec<String>> = top
        .iter()
        .map(|((assurance, decision), times)| vec![word(decision), word(assurance), number(*times)])
        .collect();
    if rows.is_empty() {
        return out.push_str("<p>Reviewers decided on no command in the period.</p>\n");
    }
    let header = [("Decision", false), ("Assurance", false), ("Count", true)];
    table("ranked", "Decisions of reviewers, by how they are proved", &header, &rows, out);
    ranked("Requests for approval, by how they ended (one for each decision)", "Ending", &summary.endings, out);
}

/// A number with a bar of its share. The number says it all; the bar is for the eye.
fn bar(times: u64, total: u64) -> String {
    let share = (u128::from(times) * 1000 / u128::from(total.max(1))).min(1000);
    format!("{}<span class=\"bar\" style=\"width:{}.{}%\"></span>", number(times), share / 10, share % 10)
}
