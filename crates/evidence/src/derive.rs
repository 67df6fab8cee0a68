//! Derives the files of a pack from its entries: for whoever makes a pack, and for whoever checks one. Not here: what is
//! derived.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_ledger::Leaf;

use crate::collect::{Collector, Period};
use crate::compare::Seen;
use crate::pack::{Output, Provenance, Tables, write_controls};
use crate::{Directory, Findings, Population};

/// Takes a pack's entries in order, and writes what is derived from them.
pub struct Deriver<O> {
    collector: Collector,
    tables: Tables<O>,
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
        Self { collector: Collector::new(directory, period, rules), tables: Tables::new(out) }
    }
    /// What the resource's own log says; to be called before the first entry.
    pub fn compare(&mut self, seen: Vec<Seen>) {
        self.collector.compare(seen);
    }
    /// Takes the next entry.
    pub fn entry(&mut self, leaf: &Leaf) {
        self.collector.entry(leaf, &mut self.tables);
    }
    /// Where the files go.
    pub fn output(&mut self) -> &mut O {
        self.tables.output()
    }
    /// Ends it, and gives the files back.
    pub fn finish(mut self, from: &Provenance) -> (O, Derived) {
        let findings = self.collector.finish(&mut self.tables);
        let (mut out, rows) = self.tables.finish(from);
        write_controls(&findings, from, &mut out);
        (out, Derived { findings, rows })
    }
}
