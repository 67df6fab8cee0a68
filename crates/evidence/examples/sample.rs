//! Writes what is derived from a made-up ledger into a directory, to be looked at and to be held against the schemas of
//! others: `cargo run -p chancery-evidence --example sample -- DIRECTORY`.
#![allow(clippy::disallowed_methods, reason = "an example writes files")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use chancery_evidence::{
    Both, CUEC, ChainRow, Collector, Directory, Events, Generator, Output, Period, Provenance, README, ReportInput,
    Summary, Tables, ocsf_finding, oscal_results, report_html, write_controls,
};
use chancery_ledger::leaf_hash;

#[path = "../src/sample.rs"]
mod sample;

#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Output for Files {
    fn append(&mut self, path: &str, bytes: &[u8]) {
        self.0.entry(path.to_owned()).or_default().extend_from_slice(bytes);
    }
}

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: sample DIRECTORY"));
    };
    let sample = sample::sample();
    let (mut summary, mut tables) = (Summary::default(), Tables::new(Files::default()));
    let mut collector = Collector::new(sample.directory.clone(), sample.from.period, sample.rules);
    for leaf in &sample.leaves {
        collector.entry(leaf, &mut Both(&mut tables, &mut summary));
    }
    let findings = collector.finish(None, &mut Both(&mut tables, &mut summary));
    let (mut files, rows) = tables.finish(&sample.from);
    write_controls(&findings, &sample.from, &mut files);
    files.append("controls/results.oscal.json", oscal_results(&findings, &sample.from).as_bytes());
    for (control, found) in findings.all() {
        files.append("controls/findings.ocsf.jsonl", ocsf_finding(control, found, &sample.from).as_bytes());
    }
    let input = ReportInput { from: sample.from, generator: sample::generator(), rows, findings, summary };
    files.append("report.html", report_html(&input).as_bytes());
    let (mut events, mut lines) = (Events::default(), String::new());
    for leaf in &sample.leaves {
        events.event(leaf, &leaf_hash(&sample::line(leaf)), &sample.directory, &mut lines);
    }
    files.append("events.ocsf.jsonl", lines.as_bytes());
    files.append("README.txt", README.as_bytes());
    files.append("cuec.md", CUEC.as_bytes());
    for leaf in sample.leaves.iter().take(256) {
        let line = sample::line(leaf);
        let length = u16::try_from(line.len()).map_err(std::io::Error::other)?;
        files.append("ledger/tile/entries/000", &length.to_be_bytes());
        files.append("ledger/tile/entries/000", &line);
        files.append("ledger/tile/0/000", &leaf_hash(&line).0);
    }
    for (path, bytes) in files.0 {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, bytes)?;
    }
    Ok(())
}
