//! Derives the files of a pack from its entries: for whoever makes a pack, and for whoever checks one. Not here: what is
//! derived.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_ledger::Leaf;

use crate::collect::{Collector, Period};
use crate::compare::Seen;
use crate::pack::{Output, Provenance, Tables, write_controls};
use crate::report::{Both, ReportInput, Summary, report_html};
use crate::texts::{CUEC, README};
use crate::{Directory, Findings, Generator, Population, ocsf_finding, oscal_results};

/// The report's path.
const REPORT: &str = "report.html";
/// Files that are the same in every pack of a version.
const TEXTS: [(&str, &str); 5] = [
    ("README.txt", README),
    ("cuec.md", CUEC),
    ("verify.py", include_str!("../python/verify.py")),
    ("lists.py", include_str!("../python/lists.py")),
    ("origins.py", include_str!("../python/origins.py")),
];

/// Whether a file is for people: its form may change from one version to the next.
pub(crate) fn is_for_people(path: &str) -> bool {
    path == REPORT || TEXTS.iter().any(|(text, _)| *text == path)
}

/// Takes a pack's entries in order, and writes what is derived from them.
pub struct Deriver<O> {
    collector: Collector,
    tables: Tables<O>,
    summary: Summary,
}

impl<O> std::fmt::Debug for Deriver<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deriver").finish_non_exhaustive()
    }
}

/// What came out, besides files.
#[derive(Debug)]
pub struct Derived {
    /// What the controls found.
    pub findings: Findings,
    /// How many rows each population has.
    pub rows: BTreeMap<Population, u64>,
}

impl<O: Output> Deriver<O> {
    /// For a period. `rules`: digests of the rule sets whose texts are there.
    pub fn new(directory: Arc<Directory>, period: Period, rules: Vec<String>, out: O) -> Self {
        let collector = Collector::new(directory, period, rules);
        Self { collector, tables: Tables::new(out), summary: Summary::default() }
    }
    /// What the resource's own log says; to be called before the first entry.
    pub fn compare(&mut self, seen: Vec<Seen>) {
        self.collector.compare(seen);
    }
    /// Takes the next entry.
    pub fn entry(&mut self, leaf: &Leaf) {
        self.collector.entry(leaf, &mut Both(&mut self.tables, &mut self.summary));
    }
    /// Where the files go.
    pub fn output(&mut self) -> &mut O {
        self.tables.output()
    }
    /// Ends it, and gives the files back.
    pub fn finish(mut self, from: &Provenance, generator: &Generator) -> (O, Derived) {
        let findings = self.collector.finish(from.pruned, &mut Both(&mut self.tables, &mut self.summary));
        let (mut out, rows) = self.tables.finish(from);
        write_controls(&findings, from, &mut out);
        out.append("controls/results.oscal.json", oscal_results(&findings, from).as_bytes());
        let wanted = findings.all().filter(|(control, _)| from.wants(control));
        let lines: String = wanted.map(|(control, found)| ocsf_finding(control, found, from)).collect();
        out.append("controls/findings.ocsf.jsonl", lines.as_bytes());
        let input =
            ReportInput { from: from.clone(), generator: generator.clone(), rows, findings, summary: self.summary };
        out.append(REPORT, report_html(&input).as_bytes());
        for (path, text) in TEXTS {
            out.append(path, text.as_bytes());
        }
        (out, Derived { findings: input.findings, rows: input.rows })
    }
}
