//! Sessions and their commands: P04, P05, P11.

use chancery_ledger::{EntryKind, Leaf};
use foldhash::HashMap;

use super::{Scope, Sink};
use crate::compare::Comparison;
use crate::control::Controls;
use crate::fields::{decision, number, session, text, time};
use crate::{Population, Value};

#[derive(Default)]
pub(super) struct Sessions {
    open: HashMap<String, Open>,
    /// Commands that had no outcome when their session ended: nothing completes them any more.
    left: Vec<Act>,
    /// Sessions of the period, if they are to be compared with something.
    comparison: Option<Comparison>,
}

struct Open {
    id: String,
    commands: u64,
    entry: u64,
    at: i64,
    front: Vec<Value>,
    acts: Vec<Act>,
}

/// A command that was forwarded and has no outcome yet.
struct Act {
    command: u64,
    entry: u64,
    at: i64,
    chain: Option<String>,
    resource: Option<String>,
    front: Vec<Value>,
}

/// How a command ended, as columns from `end_entry` on.
struct Ended<'a> {
    leaf: Option<&'a Leaf>,
    outcome: &'a str,
}

impl Sessions {
    pub(super) fn entry(&mut self, scope: &Scope, leaf: &Leaf, controls: &mut Controls, sink: &mut dyn Sink) {
        let Some(id) = session(leaf) else { return };
        match (leaf.kind, leaf.command) {
            (Some(EntryKind::SessionOpen), _) => {
                controls.opened(scope, leaf);
                self.open.insert(id.clone(), opened(scope, leaf, id));
            }
            (Some(EntryKind::ActStart), Some(command)) => {
                controls.started(scope, leaf, &id, command);
                let act = started(scope, leaf, &id, command);
                if let Some(open) = self.open.get_mut(&id) {
                    open.commands += 1;
                    open.acts.push(act);
                }
            }
            (Some(EntryKind::ActDone), Some(command)) => {
                if let Some(act) = self.take(&id, command) {
                    masked(scope, leaf, &id, &act, sink);
                    let outcome = text(leaf, "out").unwrap_or_default();
                    controls.ended(scope, leaf, place(&act), &outcome);
                    ended(scope, act, &Ended { leaf: Some(leaf), outcome: &outcome }, sink);
                }
            }
            (Some(EntryKind::Crash), Some(command)) => {
                if let Some(act) = self.take(&id, command) {
                    controls.ended(scope, leaf, place(&act), "unknown");
                    ended(scope, act, &Ended { leaf: Some(leaf), outcome: "unknown" }, sink);
                }
            }
            (Some(EntryKind::SessionClose | EntryKind::Crash), _) => {
                if let Some(mut open) = self.open.remove(&id) {
                    self.left.append(&mut open.acts);
                    controls.closed(scope, leaf, (open.entry, open.at));
                    self.closed(scope, open, Some(leaf), sink);
                }
            }
            _ => {}
        }
    }

    pub(super) fn deny(&mut self, scope: &Scope, leaf: &Leaf, controls: &mut Controls, sink: &mut dyn Sink) {
        controls.denied(scope, leaf);
        if !scope.period.contains(leaf.wall) {
            return sink.left_out(Population::P05);
        }
        let (word, rule_ids) = decision(leaf);
        let mut row = vec![leaf.index.into(), time(leaf.wall), session(leaf).into(), leaf.command.into()];
        row.extend(scope.chain(text(leaf, "a").as_deref()));
        row.extend([text(leaf, "c").into(), Value::Null, word.into(), rule_ids.into(), text(leaf, "p").into()]);
        row.extend([text(leaf, "ch").into(), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null]);
        row.extend(["refused".into(), text(leaf, "code").into()]);
        sink.row(Population::P05, &row);
    }

    /// What nothing ended, in the order of first entries.
    pub(super) fn finish(&mut self, scope: &Scope, controls: &mut Controls, sink: &mut dyn Sink) {
        let mut left: Vec<Open> = self.open.drain().map(|(_, open)| open).collect();
        left.sort_unstable_by_key(|open| open.entry);
        let mut acts: Vec<Act> =
            left.iter_mut().flat_map(|open| open.acts.drain(..)).chain(self.left.drain(..)).collect();
        acts.sort_unstable_by_key(|act| act.entry);
        for act in acts {
            controls.running(scope, place(&act));
            ended(scope, act, &Ended { leaf: None, outcome: "running" }, sink);
        }
        for open in left {
            controls.open_at_head(scope, (open.entry, open.at));
            self.closed(scope, open, None, sink);
        }
    }

    fn closed(&mut self, scope: &Scope, open: Open, leaf: Option<&Leaf>, sink: &mut dyn Sink) {
        if !scope.period.touches(open.at, leaf.map(|leaf| leaf.wall)) {
            return sink.left_out(Population::P04);
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.session(&open.id, (open.entry, open.at), open.commands);
        }
        let ending = match leaf {
            None => Some("open".to_owned()),
            Some(leaf) if leaf.kind == Some(EntryKind::Crash) => Some("crash".to_owned()),
            Some(leaf) => text(leaf, "reason"),
        };
        let mut row = open.front;
        row.extend([
            leaf.map(|leaf| leaf.index).into(),
            leaf.map_or(Value::Null, |leaf| time(leaf.wall)),
            ending.into(),
        ]);
        row.extend(["acts", "leaves"].map(|name| Value::from(leaf.and_then(|leaf| number(leaf, name)))));
        row.push(leaf.and_then(|leaf| text(leaf, "cm")).into());
        sink.row(Population::P04, &row);
    }

    pub(super) fn compare(&mut self) {
        self.comparison = Some(Comparison::default());
    }
    pub(super) fn comparison(&mut self) -> Option<Comparison> {
        self.comparison.take()
    }

    fn take(&mut self, session: &str, command: u64) -> Option<Act> {
        let acts = &mut self.open.get_mut(session)?.acts;
        let at = acts.iter().position(|act| act.command == command)?;
        Some(acts.remove(at))
    }
}

fn place(act: &Act) -> (u64, i64) {
    (act.entry, act.at)
}

fn opened(scope: &Scope, leaf: &Leaf, id: String) -> Open {
    let (_, rule_ids) = decision(leaf);
    let mut front = vec![leaf.index.into(), time(leaf.wall), id.as_str().into()];
    front.extend(scope.chain(text(leaf, "a").as_deref()));
    front.extend(["c", "proto", "auth", "prof", "p"].map(|name| Value::from(text(leaf, name))));
    front.push(rule_ids.into());
    Open { id, commands: 0, entry: leaf.index, at: leaf.wall, front, acts: Vec::new() }
}

fn started(scope: &Scope, leaf: &Leaf, id: &str, command: u64) -> Act {
    let (word, rule_ids) = decision(leaf);
    let (chain, resource) = (text(leaf, "a"), text(leaf, "c"));
    let mut front = vec![leaf.index.into(), time(leaf.wall), id.into(), command.into()];
    front.extend(scope.chain(chain.as_deref()));
    front.extend([resource.clone().into(), text(leaf, "x").into(), word.into(), rule_ids.into()]);
    front.extend(["p", "ch", "fp", "rev", "prof"].map(|name| Value::from(text(leaf, name))));
    Act { command, entry: leaf.index, at: leaf.wall, chain, resource, front }
}

fn ended(scope: &Scope, act: Act, end: &Ended<'_>, sink: &mut dyn Sink) {
    let leaf = end.leaf;
    if !scope.period.touches(act.at, leaf.map(|leaf| leaf.wall)) {
        return sink.left_out(Population::P05);
    }
    let mut row = act.front;
    row.extend([leaf.map(|leaf| leaf.index).into(), leaf.map_or(Value::Null, |leaf| time(leaf.wall))]);
    row.extend([end.outcome.into(), leaf.and_then(|leaf| text(leaf, "sqlstate")).into()]);
    row.extend(["rows", "bytes", "masked", "us"].map(|name| Value::from(leaf.and_then(|leaf| number(leaf, name)))));
    row.push(leaf.and_then(|leaf| text(leaf, "cm")).into());
    sink.row(Population::P05, &row);
}

fn masked(scope: &Scope, leaf: &Leaf, id: &str, act: &Act, sink: &mut dyn Sink) {
    let cells = number(leaf, "masked").unwrap_or_default();
    if cells == 0 {
        return;
    }
    if !scope.period.contains(leaf.wall) {
        return sink.left_out(Population::P11);
    }
    let [chain, principal, _] = scope.chain(act.chain.as_deref());
    let counts = ["rows", "bytes", "masked"].map(|name| Value::from(number(leaf, name)));
    let [rows, bytes, cells] = counts;
    let row = [
        leaf.index.into(),
        time(leaf.wall),
        id.into(),
        act.command.into(),
        chain,
        principal,
        act.resource.clone().into(),
        rows,
        bytes,
        cells,
    ];
    sink.row(Population::P11, &row);
}
