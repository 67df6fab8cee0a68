//! Derives the populations from the entries of a log, one after the other. Not here: where entries come from, where rows go.
//!
//! Memory is bounded by what is open at once: sessions, commands, reviews.

mod reviews;
mod sessions;

use std::sync::Arc;

use chancery_ledger::{EntryKind, Leaf, Missing};

use crate::compare::Seen;
use crate::control::Controls;
use crate::directory::{Directory, kind_word, who};
use crate::fields::{number, session, text, texts, time};
use crate::{Findings, Population, Value};
use reviews::Reviews;
use sessions::Sessions;

/// Half-open, in microseconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// From this instant on.
    pub from: i64,
    /// Up to, without, this one.
    pub to: i64,
}

impl Period {
    /// Whether an instant lies in it.
    pub fn contains(&self, at: i64) -> bool {
        self.from <= at && at < self.to
    }
    /// Whether what lasted from `first` to `last` (to the end of the log, if nothing ended it) belongs to it.
    pub(crate) fn touches(&self, first: i64, last: Option<i64>) -> bool {
        first < self.to && (first >= self.from || last.is_none_or(|last| last >= self.from))
    }
}

/// Takes rows as they are completed.
pub trait Sink {
    /// The next row of a population.
    fn row(&mut self, population: Population, row: &[Value]);
    /// What would be a row of it lies outside the period.
    fn left_out(&mut self, population: Population);
}

/// What every part of the collection needs to know.
pub(crate) struct Scope {
    pub(crate) directory: Arc<Directory>,
    pub(crate) period: Period,
}

impl Scope {
    /// Chain id, principal and actors, as three columns.
    pub(crate) fn chain(&self, chain: Option<&str>) -> [Value; 3] {
        let principal = chain.and_then(|chain| self.directory.principal(chain));
        let actors = chain.and_then(|chain| self.directory.actors(chain));
        [chain.into(), principal.into(), actors.into()]
    }
    /// The principal behind a chain id; the id itself where the directory does not know it.
    pub(crate) fn name(&self, chain: Option<String>) -> Value {
        chain.map(|chain| self.directory.principal(&chain).unwrap_or(chain)).into()
    }
}

/// A rule set in force.
struct Applied {
    entry: u64,
    at: i64,
    rules: String,
    source: Option<String>,
    by: Option<String>,
}

/// Reads entries in order and gives rows.
pub struct Collector {
    scope: Scope,
    /// Digests whose texts are there.
    texts: Vec<String>,
    /// What the resource's own log says, if it is to be compared.
    seen: Option<Vec<Seen>>,
    applied: Option<Applied>,
    sessions: Sessions,
    reviews: Reviews,
    /// The log has begun, and the last process ended in order.
    orderly: bool,
    controls: Controls,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    /// For a period. `texts`: the digests of the rule sets whose texts are in the pack.
    pub fn new(directory: Arc<Directory>, period: Period, texts: Vec<String>) -> Self {
        Self {
            scope: Scope { directory, period },
            texts,
            seen: None,
            applied: None,
            sessions: Sessions::default(),
            reviews: Reviews::default(),
            orderly: true,
            controls: Controls::default(),
        }
    }

    /// What the resource's own log says; to be called before the first entry.
    pub fn compare(&mut self, seen: Vec<Seen>) {
        self.sessions.compare();
        self.seen = Some(seen);
    }

    /// Takes the next entry.
    pub fn entry(&mut self, leaf: &Leaf, sink: &mut dyn Sink) {
        self.controls.clock(&self.scope, leaf);
        match leaf.kind {
            Some(EntryKind::Principal) => self.principal(leaf, sink),
            Some(EntryKind::PolicyApply) => self.applied(leaf, sink),
            Some(EntryKind::Boot) => self.boot(leaf, sink),
            Some(EntryKind::Shutdown) => self.orderly = true,
            Some(
                EntryKind::SessionOpen
                | EntryKind::SessionClose
                | EntryKind::ActStart
                | EntryKind::ActDone
                | EntryKind::Crash,
            ) => self.sessions.entry(&self.scope, leaf, &mut self.controls, sink),
            Some(EntryKind::ActDeny) => {
                self.sessions.deny(&self.scope, leaf, &mut self.controls, sink);
                self.denial(leaf, sink);
            }
            Some(
                EntryKind::ApprovalRequest
                | EntryKind::ApprovalDecide
                | EntryKind::ApprovalUse
                | EntryKind::ApprovalEnd,
            ) => self.reviews.entry(&self.scope, leaf, &mut self.controls, sink),
            _ => self.instant(leaf, sink),
        }
        if matches!(leaf.kind, Some(EntryKind::Crash)) && leaf.command.is_none() {
            self.outage(leaf, "session lost", "process ended", sink);
        }
    }

    /// What is still open, and what the controls found. `pruned`: what can be missing.
    pub fn finish(mut self, pruned: Option<Missing>, sink: &mut dyn Sink) -> Findings {
        self.sessions.finish(&self.scope, &mut self.controls, sink);
        self.reviews.finish(&self.scope, sink);
        if let Some(applied) = self.applied.take() {
            self.superseded(&applied, None, sink);
        }
        let mut findings = self.controls.finish();
        if let (Some(seen), Some(comparison)) = (&self.seen, self.sessions.comparison()) {
            let (tested, exceptions) = comparison.finish(seen, self.scope.period, pruned, sink);
            findings.compared(tested, exceptions);
        }
        findings
    }

    fn instant(&mut self, leaf: &Leaf, sink: &mut dyn Sink) {
        if !self.scope.period.contains(leaf.wall) {
            return population(leaf.kind).into_iter().for_each(|one| sink.left_out(one));
        }
        let (entry, at) = (Value::from(leaf.index), time(leaf.wall));
        match leaf.kind {
            Some(EntryKind::SecretChange) => {
                let by = self.scope.name(text(leaf, "by"));
                let (version, change) = (number(leaf, "ver").into(), text(leaf, "change").into());
                sink.row(Population::P10, &[entry, at, text(leaf, "c").into(), change, version, by]);
            }
            Some(EntryKind::RecordingSegment) => {
                let numbers = ["file", "bytes", "blocks"].map(|name| Value::from(number(leaf, name)));
                let [file, bytes, blocks] = numbers;
                sink.row(Population::P13, &[entry, at, file, bytes, blocks, text(leaf, "cr").into()]);
            }
            Some(kind @ (EntryKind::View | EntryKind::Export | EntryKind::Unseal)) => {
                let (by, what) = (self.scope.name(text(leaf, "by")), text(leaf, "what").into());
                let micros = |name| leaf.rest.get(name).and_then(serde_json::Value::as_i64).map(time);
                let (from, to) = (micros("from").unwrap_or(Value::Null), micros("to").unwrap_or(Value::Null));
                let mut row = vec![entry, at, kind.as_str().into(), by, what, session(leaf).into()];
                row.extend([text(leaf, "rev").into(), from, to, text(leaf, "cr").into()]);
                sink.row(Population::P14, &row);
            }
            Some(kind) if population(leaf.kind) == Some(Population::P15) => {
                let by = self.scope.name(text(leaf, "by"));
                let row = [vec![entry, at], disposal(kind, leaf), vec![by]].concat();
                sink.row(Population::P15, &row);
            }
            Some(EntryKind::KeyEpoch) => {
                let (number, life) = (number(leaf, "e").into(), number(leaf, "life_ms").into());
                let (origin, boot) = (leaf.origin.as_str().into(), leaf.boot.as_str().into());
                sink.row(Population::P17, &[entry, at, origin, number, text(leaf, "key").into(), life, boot]);
            }
            Some(EntryKind::Alert) => {
                let code = text(leaf, "code").into();
                let mut row = vec![entry, at, "alert".into(), session(leaf).into()];
                row.extend([Value::Null, Value::Null, Value::Null, Value::Null, Value::Null, code]);
                sink.row(Population::P12, &row);
            }
            Some(EntryKind::Stall) => {
                // One that is over says how long it was; one that begins does not know yet.
                let lasted = number(leaf, "us").and_then(|us| i64::try_from(us).ok());
                let (from, to) = match lasted {
                    Some(lasted) => (time(leaf.wall.saturating_sub(lasted)), time(leaf.wall)),
                    None => (Value::Null, Value::Null),
                };
                let cause = match (text(leaf, "reason").unwrap_or_default(), number(leaf, "refused")) {
                    (reason, Some(refused)) => format!("{reason}, entries refused: {refused}"),
                    (reason, None) => reason,
                };
                sink.row(Population::P20, &[entry, at, "stall".into(), Value::Null, from, to, cause.into()]);
            }
            Some(EntryKind::Gap) => {
                let (from, to, cause) = (number(leaf, "from"), number(leaf, "to"), text(leaf, "cause"));
                self.controls.gap(leaf, from, to);
                let row = [entry, at, "gap".into(), Value::Null, from.into(), to.into(), cause.into()];
                sink.row(Population::P20, &row);
            }
            _ => {}
        }
    }

    fn outage(&self, leaf: &Leaf, kind: &str, cause: &str, sink: &mut dyn Sink) {
        if !self.scope.period.contains(leaf.wall) {
            sink.left_out(Population::P20);
        } else {
            let row = [
                leaf.index.into(),
                time(leaf.wall),
                kind.into(),
                session(leaf).into(),
                Value::Null,
                Value::Null,
                cause.into(),
            ];
            sink.row(Population::P20, &row);
        }
    }

    fn principal(&self, leaf: &Leaf, sink: &mut dyn Sink) {
        if leaf.wall >= self.scope.period.to {
            return sink.left_out(Population::P01);
        }
        let Some(chain) = text(leaf, "a") else { return };
        let front = |link: u64| [leaf.index.into(), time(leaf.wall), chain.as_str().into(), link.into()];
        let Some(known) = self.scope.directory.chain(&chain) else {
            return sink.row(Population::P01, &front(0));
        };
        let principal = &known.principal;
        let one = |link: u64, issuer: &str, subject: &str, kind, groups: Value| {
            let mut row = front(link).to_vec();
            row.extend([
                who(issuer, subject).into(),
                issuer.into(),
                subject.into(),
                Value::from(kind_word(kind)),
                groups,
            ]);
            row
        };
        let groups = Value::from(principal.groups.clone());
        sink.row(Population::P01, &one(0, &principal.issuer, &principal.subject, principal.kind, groups));
        for (at, actor) in known.actors.iter().enumerate() {
            let link = at as u64 + 1;
            sink.row(Population::P01, &one(link, &actor.issuer, &actor.subject, actor.kind, Value::Null));
        }
    }

    fn applied(&mut self, leaf: &Leaf, sink: &mut dyn Sink) {
        if let Some(applied) = self.applied.take() {
            self.superseded(&applied, Some(leaf), sink);
        }
        let rules = text(leaf, "p").unwrap_or_default();
        self.controls.applied(&rules, leaf.wall);
        self.applied = Some(Applied {
            entry: leaf.index,
            at: leaf.wall,
            rules,
            source: text(leaf, "source"),
            by: text(leaf, "by"),
        });
    }

    fn superseded(&mut self, applied: &Applied, by: Option<&Leaf>, sink: &mut dyn Sink) {
        if !self.scope.period.touches(applied.at, by.map(|leaf| leaf.wall)) {
            return sink.left_out(Population::P08);
        }
        let known = self.texts.contains(&applied.rules);
        self.controls.rule_text(applied.entry, applied.at, &applied.rules, known);
        let text = if known { Value::from(format!("rules/{}.rules", applied.rules)) } else { Value::Null };
        let row = [
            applied.entry.into(),
            time(applied.at),
            applied.rules.as_str().into(),
            applied.source.clone().into(),
            self.scope.name(applied.by.clone()),
            by.map(|leaf| leaf.index).into(),
            by.map_or(Value::Null, |leaf| time(leaf.wall)),
            text,
        ];
        sink.row(Population::P08, &row);
    }

    fn boot(&mut self, leaf: &Leaf, sink: &mut dyn Sink) {
        if !std::mem::take(&mut self.orderly) {
            self.outage(leaf, "restart", "the process before it did not end in order", sink);
        }
        if !self.scope.period.contains(leaf.wall) {
            return sink.left_out(Population::P09);
        }
        let dangerous = texts(leaf, "dangerous");
        self.controls.boot(leaf, &dangerous);
        let row = [
            leaf.index.into(),
            time(leaf.wall),
            text(leaf, "ver").into(),
            text(leaf, "config").into(),
            dangerous.into(),
            text(leaf, "prof").into(),
            number(leaf, "loss_ms").into(),
            leaf.boot.as_str().into(),
            number(leaf, "size").into(),
            text(leaf, "root").into(),
        ];
        sink.row(Population::P09, &row);
    }

    fn denial(&self, leaf: &Leaf, sink: &mut dyn Sink) {
        if !self.scope.period.contains(leaf.wall) {
            return sink.left_out(Population::P12);
        }
        let chain = text(leaf, "a");
        let (_, rule_ids) = crate::fields::decision(leaf);
        let mut row = vec![leaf.index.into(), time(leaf.wall), "refusal".into(), session(leaf).into()];
        row.push(leaf.command.into());
        row.extend(self.scope.chain(chain.as_deref()));
        row.extend([text(leaf, "c").into(), text(leaf, "code").into(), rule_ids.into(), text(leaf, "p").into()]);
        sink.row(Population::P12, &row);
    }
}

/// A row of P15 between its time and who did it.
fn disposal(kind: EntryKind, leaf: &Leaf) -> Vec<Value> {
    let class = match kind {
        EntryKind::PruneRecording => Some("recording"),
        EntryKind::PruneLedger => Some("ledger"),
        EntryKind::PruneRefuse if leaf.rest.contains_key("file") => Some("recording"),
        EntryKind::PruneRefuse if leaf.rest.contains_key("first") => Some("ledger"),
        EntryKind::Shred | EntryKind::PruneRefuse => Some("sealed"),
        _ => None,
    };
    let last = leaf.rest.get("last").and_then(serde_json::Value::as_i64);
    vec![
        kind.as_str().into(),
        class.into(),
        number(leaf, "file").into(),
        number(leaf, "first").into(),
        last.map_or(Value::Null, time),
        number(leaf, "bytes").into(),
        text(leaf, "cr").into(),
        text(leaf, "hold").into(),
        session(leaf).into(),
    ]
}

/// The population of an entry that is a row by itself.
fn population(kind: Option<EntryKind>) -> Option<Population> {
    match kind? {
        EntryKind::SecretChange => Some(Population::P10),
        EntryKind::RecordingSegment => Some(Population::P13),
        EntryKind::View | EntryKind::Export | EntryKind::Unseal => Some(Population::P14),
        EntryKind::RetentionRun
        | EntryKind::RetentionDone
        | EntryKind::PruneRecording
        | EntryKind::PruneLedger
        | EntryKind::PruneRefuse
        | EntryKind::Shred
        | EntryKind::HoldSet
        | EntryKind::HoldLift => Some(Population::P15),
        EntryKind::KeyEpoch => Some(Population::P17),
        EntryKind::Alert => Some(Population::P12),
        EntryKind::Stall | EntryKind::Gap => Some(Population::P20),
        _ => None,
    }
}
