//! `report.html`: what a pack shows, for people who do not read ledgers. One file without scripts that asks for nothing from
//! elsewhere. Not here: anything that is not in the pack's other files.
//!
//! Names in it come from clients and other people's systems: every text goes through `page::escape`.

mod controls;
mod numbers;
mod page;
mod summary;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write;

use chancery_ledger::Missing;
use chancery_model::Timestamp;

use crate::{Findings, Generator, Population, Provenance};
use page::{counted, day, escape, grouped, number, second};
pub use summary::{Both, Counts, Summary};

const STYLE: &str = include_str!("report/report.css");

/// What a report is made of.
#[derive(Clone, Debug)]
pub struct ReportInput {
    /// Where all of it comes from.
    pub from: Provenance,
    /// What made the pack.
    pub generator: Generator,
    /// How many rows each population has.
    pub rows: BTreeMap<Population, u64>,
    /// What the controls found.
    pub findings: Findings,
    /// What went on, in numbers.
    pub summary: Summary,
}

/// How many controls hold, have exceptions, were not tested.
struct Tally {
    asked: u64,
    hold: u64,
    exceptions: u64,
    untested: u64,
}

impl Tally {
    fn of(input: &ReportInput) -> Self {
        let mut tally = Self { asked: 0, hold: 0, exceptions: 0, untested: 0 };
        for (_, found) in input.findings.all().filter(|(control, _)| input.from.wants(control)) {
            tally.asked += 1;
            match (found.untested, found.count) {
                (Some(_), _) => tally.untested += 1,
                (None, 0) => tally.hold += 1,
                (None, _) => tally.exceptions += 1,
            }
        }
        tally
    }
}

/// The report. The same input gives the same bytes.
pub fn report_html(input: &ReportInput) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let origin = escape(&input.from.head.origin);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>Evidence report: {origin}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#shows\">Skip to the report</a>\n"
    );
    front(input, &mut out);
    out.push_str("<main>\n");
    shows(input, &mut out);
    controls::section(input, &mut out);
    numbers::section(&input.summary, &mut out);
    populations(input, &mut out);
    words::limits(input.from.registry, &mut out);
    out.push_str(words::CHECK);
    out.push_str(words::GLOSSARY);
    out.push_str("</main>\n");
    let _ = write!(
        out,
        "<footer><p>Made by {} {} from entries up to number {}. The same ledger, period and program give this file again, \
         byte for byte. Nothing in it is to be believed because it is in it.</p></footer>\n</body>\n</html>\n",
        escape(&input.generator.name),
        escape(&input.generator.version),
        number(input.from.head.size.saturating_sub(1)),
    );
    out
}

/// First and last day of the period, if it is made of whole days.
fn days(input: &ReportInput) -> String {
    const DAY: i64 = 86_400_000_000;
    let (from, to) = (input.from.period.from, input.from.period.to);
    if from % DAY != 0 || to % DAY != 0 {
        let text = |at: i64| second(&Timestamp(at).to_string());
        return format!("{} to {} UTC", text(from), text(to));
    }
    let (first, last) = (day(&Timestamp(from).to_string()), day(&Timestamp(to - DAY).to_string()));
    if first == last { first } else { format!("{first} to {last}") }
}

fn front(input: &ReportInput, out: &mut String) {
    let (head, period) = (&input.from.head, input.from.period);
    let (from, to) = (Timestamp(period.from).to_string(), Timestamp(period.to).to_string());
    let _ = write!(
        out,
        "<header class=\"front\">\n<p class=\"kind\">Evidence report</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n\
         <dl class=\"facts\">\n\
         <dt>System</dt><dd>{}</dd>\n\
         <dt>Period</dt><dd>from {} UTC, up to but without {} UTC</dd>\n\
         <dt>Ledger</dt><dd>{}; the last one at {} UTC</dd>\n\
         <dt>Root</dt><dd>{}</dd>\n\
         <dt>Made by</dt><dd>{} {}<br>SHA-256 {}</dd>\n</dl>\n",
        escape(&head.origin),
        escape(&days(input)),
        escape(&head.origin),
        second(&from),
        second(&to),
        counted(head.size, "entry", "entries"),
        second(&input.from.created_at.to_string()),
        grouped(&head.root.to_string()),
        escape(&input.generator.name),
        escape(&input.generator.version),
        grouped(&input.generator.binary_sha256.to_string()),
    );
    out.push_str(
        "<nav aria-label=\"Sections\"><ul><li><a href=\"#shows\">What this shows</a></li>\
         <li><a href=\"#controls\">Controls</a></li><li><a href=\"#numbers\">What went on</a></li>\
         <li><a href=\"#populations\">Populations</a></li><li><a href=\"#limits\">What no check excludes</a></li>\
         <li><a href=\"#check\">How to check it</a></li><li><a href=\"#words\">Words</a></li></ul></nav>\n</header>\n",
    );
}

fn shows(input: &ReportInput, out: &mut String) {
    let (tally, summary) = (Tally::of(input), &input.summary);
    let rows = |population| input.rows.get(&population).copied().unwrap_or_default();
    let refused = summary.refusals.total();
    let commands = summary.commands.total();
    let decisions = summary.decisions.total();
    let _ = write!(
        out,
        "<section id=\"shows\" aria-labelledby=\"shows-title\">\n<h2 id=\"shows-title\">What this shows</h2>\n<p>In this \
         period {} went through the gateway <strong>{}</strong>, and in them {}; {} refused. Reviewers decided {} on commands that a rule \
         held back. Values were masked in {} before anybody saw them. Each ruling was written into a ledger before it was carried \
         out. This pack holds that ledger up to the root above, with everything below derived from it: whoever has the ledger's \
         keys from elsewhere can derive it again. Of {}, {} over every item of the period, {}, and {}.</p>\n",
        counted(rows(Population::P04), "session", "sessions"),
        escape(&input.from.head.origin),
        counted(commands, "command", "commands"),
        if refused == 1 { "one of them was".to_owned() } else { format!("{} of them were", number(refused)) },
        counted(decisions, "time", "times"),
        counted(summary.masked_results, "result", "results"),
        counted(tally.asked, "control", "controls"),
        if tally.hold == 1 { "1 holds".to_owned() } else { format!("{} hold", number(tally.hold)) },
        if tally.exceptions == 1 {
            "1 has exceptions".to_owned()
        } else {
            format!("{} have exceptions", number(tally.exceptions))
        },
        if tally.untested == 1 {
            "1 was not tested".to_owned()
        } else {
            format!("{} were not tested", number(tally.untested))
        },
    );
    if input.from.created_at.0 < input.from.period.to {
        let _ = writeln!(
            out,
            "<p class=\"note\">The last entry is of {} UTC. Of what came later in the period this pack knows nothing.</p>",
            second(&input.from.created_at.to_string()),
        );
    }
    if let Some(Missing { entries, until }) = input.from.pruned {
        let _ = writeln!(
            out,
            "<p class=\"note\">Up to {} UTC {} pruned: of what sessions did until then, this pack shows only what is left. \
             Numbers below count no more than that.</p>",
            second(&until.to_string()),
            if entries == 1 { "1 entry was".to_owned() } else { format!("{} entries were", number(entries)) },
        );
    }
    let tiles = [
        (tally.hold, "controls that hold"),
        (tally.exceptions, "controls with exceptions"),
        (tally.untested, "controls not tested"),
        (commands, "commands"),
        (refused, "refusals"),
        (summary.masked, "masked values"),
    ];
    out.push_str("<ul class=\"tally\">\n");
    for (count, what) in tiles {
        let _ = writeln!(out, "<li><strong>{}</strong> <span>{what}</span></li>", number(count));
    }
    out.push_str("</ul>\n</section>\n");
}

fn populations(input: &ReportInput, out: &mut String) {
    out.push_str(
        "<section id=\"populations\" aria-labelledby=\"populations-title\">\n<h2 id=\"populations-title\">Populations</h2>\n<p>A \
         population is complete: all items of its kind in the period, not a choice of them. <code>.jsonl</code> is what counts, \
         <code>.csv</code> is the same for a spreadsheet, <code>.ipe.json</code> says which entries it was derived from, and \
         how many were left out because they lie outside the period.</p>\n",
    );
    let mut rows = Vec::new();
    for (population, count) in &input.rows {
        let about = population.about();
        if about.absent.is_some() {
            continue;
        }
        let mut files = String::new();
        for extension in ["jsonl", "csv", "ipe.json"] {
            let path = crate::population_path(*population, extension);
            let _ = write!(files, "<a href=\"{path}\">{}.{extension}</a> ", about.id);
        }
        rows.push(vec![
            about.id.to_owned(),
            escape(about.title),
            number(*count),
            escape(&about.criteria.join(", ")),
            files.trim_end().to_owned(),
        ]);
    }
    let header = [("Id", false), ("One row is one of", false), ("Rows", true), ("Criteria", false), ("Files", false)];
    page::table("populations", "Populations in this pack", &header, &rows, out);
    let absent: Vec<Vec<String>> = Population::ALL
        .into_iter()
        .filter_map(|one| {
            let about = one.about();
            about.absent.map(|why| vec![about.id.to_owned(), escape(about.title), escape(why)])
        })
        .collect();
    let header = [("Id", false), ("What it would be", false), ("Why it is not there", false)];
    page::table("populations", "Populations that this release does not have", &header, &absent, out);
    out.push_str("</section>\n");
}

#[cfg(test)]
mod tests;
