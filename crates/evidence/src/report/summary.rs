//! What went on, in numbers, counted from the rows of populations as they are made. Not here: how they are shown.

use std::collections::BTreeMap;

use crate::{Population, Sink, Value};

/// Different things counted one by one; what comes after so many of them is counted together.
const DIFFERENT_MAX: usize = 10_000;

/// How often things occur, in bounded memory. The same things in the same order give the same counts.
#[derive(Clone, Debug)]
pub struct Counts<K> {
    counts: BTreeMap<K, u64>,
    others: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), others: 0 }
    }
}

impl<K: Ord + Clone> Counts<K> {
    fn add(&mut self, what: K, times: u64) {
        if self.counts.len() >= DIFFERENT_MAX && !self.counts.contains_key(&what) {
            self.others += times;
        } else {
            *self.counts.entry(what).or_default() += times;
        }
    }
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.others + self.counts.values().sum::<u64>()
    }
    /// How many different ones there are; at least so many, if [`Counts::others`] is not 0.
    pub fn different(&self) -> usize {
        self.counts.len()
    }
    /// What was not counted one by one.
    pub fn others(&self) -> u64 {
        self.others
    }
    /// The most frequent ones first, equals in their own order; and what all that is left comes to.
    pub fn top(&self, most: usize) -> (Vec<(K, u64)>, u64) {
        let mut all: Vec<(&K, u64)> = self.counts.iter().map(|(what, times)| (what, *times)).collect();
        all.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let top: Vec<(K, u64)> = all.iter().take(most).map(|(what, times)| ((*what).clone(), *times)).collect();
        let shown: u64 = top.iter().map(|(_, times)| times).sum();
        (top, self.total() - shown)
    }
    /// How often one occurs.
    pub fn of(&self, what: &K) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }
}

/// The numbers of a period.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Sessions by how they ended.
    pub sessions: Counts<String>,
    /// Commands by decision, effect and outcome.
    pub commands: Counts<(String, String, String)>,
    /// Commands by principal.
    pub principals: Counts<String>,
    /// Commands that came through at least one actor, by the actor on the wire.
    pub actors: Counts<String>,
    /// Commands by resource.
    pub resources: Counts<String>,
    /// Decisions on held commands by assurance and decision.
    pub decisions: Counts<(String, String)>,
    /// Decisions on held commands and requests without one, by how the request ended.
    pub endings: Counts<String>,
    /// Refusals by code.
    pub refusals: Counts<String>,
    /// Cells whose values were masked.
    pub masked: u64,
    /// Results with masked cells.
    pub masked_results: u64,
}

impl Sink for Summary {
    fn row(&mut self, population: Population, row: &[Value]) {
        match population {
            Population::P04 => self.sessions.add(text(population, row, "ending"), 1),
            Population::P05 => {
                let column = |name| text(population, row, name);
                self.commands.add((column("decision"), column("effect"), column("outcome")), 1);
                let principal = column("principal");
                let who = if principal.is_empty() { column("chain") } else { principal };
                self.principals.add(if who.is_empty() { "nobody authenticated".to_owned() } else { who }, 1);
                self.resources.add(column("resource"), 1);
                if let Some(Value::Texts(actors)) = value(population, row, "actors")
                    && let Some(actor) = actors.last()
                {
                    self.actors.add(actor.clone(), 1);
                }
            }
            Population::P06 => {
                self.endings.add(text(population, row, "ending"), 1);
                let decision = text(population, row, "decision");
                if !decision.is_empty() {
                    self.decisions.add((text(population, row, "assurance"), decision), 1);
                }
            }
            Population::P11 => {
                self.masked_results += 1;
                if let Some(Value::Number(cells)) = value(population, row, "masked") {
                    self.masked = self.masked.saturating_add(*cells);
                }
            }
            Population::P12 if text(population, row, "kind") == "refusal" => {
                self.refusals.add(text(population, row, "code"), 1);
            }
            _ => {}
        }
    }
    fn left_out(&mut self, _: Population) {}
}

fn value<'r>(population: Population, row: &'r [Value], column: &str) -> Option<&'r Value> {
    let at = population.about().columns.iter().position(|name| *name == column)?;
    row.get(at)
}

fn text(population: Population, row: &[Value], column: &str) -> String {
    match value(population, row, column) {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

/// Gives each row to two sinks.
pub struct Both<'s>(pub &'s mut dyn Sink, pub &'s mut dyn Sink);

impl std::fmt::Debug for Both<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Both").finish_non_exhaustive()
    }
}

impl Sink for Both<'_> {
    fn row(&mut self, population: Population, row: &[Value]) {
        self.0.row(population, row);
        self.1.row(population, row);
    }
    fn left_out(&mut self, population: Population) {
        self.0.left_out(population);
        self.1.left_out(population);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_many_is_counted_together() {
        let mut counts = Counts::default();
        (0..DIFFERENT_MAX).for_each(|at| counts.add(at, 1));
        counts.add(0, 5);
        counts.add(DIFFERENT_MAX + 1, 7);
        let (top, rest) = counts.top(1);
        assert_eq!((top, rest), (vec![(0, 6)], counts.total() - 6));
        assert_eq!((counts.others(), counts.total()), (7, DIFFERENT_MAX as u64 + 12));
    }

    #[test]
    fn every_column_that_is_read_is_there() {
        let columns = [
            (Population::P04, vec!["ending"]),
            (Population::P05, vec!["decision", "effect", "outcome", "principal", "chain", "actors", "resource"]),
            (Population::P06, vec!["ending", "decision", "assurance"]),
            (Population::P11, vec!["masked"]),
            (Population::P12, vec!["kind", "code"]),
        ];
        for (population, names) in columns {
            for name in names {
                assert!(population.about().columns.contains(&name), "{population:?} {name}");
            }
        }
    }
}
