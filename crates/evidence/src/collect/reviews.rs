//! Reviews: P06.

use chancery_ledger::{EntryKind, Leaf};
use foldhash::HashMap;

use super::{Scope, Sink};
use crate::control::{Controls, Decided, Requested};
use crate::fields::{decision, session, text, texts, time};
use crate::{Population, Value};

#[derive(Default)]
pub(super) struct Reviews {
    open: HashMap<String, Review>,
}

struct Review {
    requested: Requested,
    front: Vec<Value>,
    decisions: Vec<(Decided, Vec<Value>)>,
}

impl Reviews {
    pub(super) fn entry(&mut self, scope: &Scope, leaf: &Leaf, controls: &mut Controls, sink: &mut dyn Sink) {
        let Some(id) = text(leaf, "rev") else { return };
        match leaf.kind {
            Some(EntryKind::ApprovalRequest) => {
                self.open.insert(id.clone(), requested(scope, leaf, &id));
            }
            Some(EntryKind::ApprovalDecide) => {
                let Some(review) = self.open.get_mut(&id) else { return };
                let (decided, columns) = decided(scope, leaf);
                controls.decided(scope, leaf, &review.requested, &decided);
                let denied = !decided.approved;
                review.decisions.push((decided, columns));
                if denied && let Some(review) = self.open.remove(&id) {
                    ended(scope, &review, leaf, "denied", sink);
                }
            }
            Some(EntryKind::ApprovalUse) => {
                let review = self.open.remove(&id);
                let decisions = review.as_ref().map(|review| review.decisions.iter().map(|(decided, _)| decided));
                controls.used(
                    scope,
                    leaf,
                    review.as_ref().map(|review| &review.requested),
                    decisions.into_iter().flatten(),
                );
                if let Some(review) = review {
                    ended(scope, &review, leaf, "used", sink);
                }
            }
            Some(EntryKind::ApprovalEnd) => {
                if let Some(review) = self.open.remove(&id) {
                    let ending = text(leaf, "end").unwrap_or_default();
                    ended(scope, &review, leaf, &ending, sink);
                }
            }
            _ => {}
        }
    }

    /// What nothing ended, in the order of requests.
    pub(super) fn finish(&mut self, scope: &Scope, sink: &mut dyn Sink) {
        let mut left: Vec<Review> = self.open.drain().map(|(_, review)| review).collect();
        left.sort_unstable_by_key(|review| review.requested.entry);
        for review in left.iter().filter(|review| scope.period.touches(review.requested.at, None)) {
            rows(review, [Value::Null, Value::Null, "open".into()], sink);
        }
    }
}

fn requested(scope: &Scope, leaf: &Leaf, id: &str) -> Review {
    let until = leaf.rest.get("until").and_then(serde_json::Value::as_i64).unwrap_or_default();
    let chain = text(leaf, "a");
    let mut front = vec![leaf.index.into(), time(leaf.wall), id.into(), session(leaf).into(), leaf.command.into()];
    front.extend(scope.chain(chain.as_deref()));
    front.extend(["c", "p", "ch"].map(|name| Value::from(text(leaf, name))));
    front.extend([texts(leaf, "needed").into(), time(until)]);
    let requested = Requested {
        entry: leaf.index,
        at: leaf.wall,
        chain,
        digest: text(leaf, "ch"),
        needed: texts(leaf, "needed"),
        until,
    };
    Review { requested, front, decisions: Vec::new() }
}

fn decided(scope: &Scope, leaf: &Leaf) -> (Decided, Vec<Value>) {
    let (word, rules) = decision(leaf);
    let rule = rules.into_iter().next();
    let (by, assurance) = (text(leaf, "by"), text(leaf, "assurance"));
    let columns = vec![
        leaf.index.into(),
        time(leaf.wall),
        word.clone().into(),
        rule.clone().into(),
        scope.name(by.clone()),
        by.clone().into(),
        assurance.clone().into(),
        text(leaf, "sig").into(),
    ];
    let approved = word.as_deref() == Some("approve");
    (Decided { entry: leaf.index, approved, rule, by, assurance, digest: text(leaf, "ch") }, columns)
}

fn ended(scope: &Scope, review: &Review, leaf: &Leaf, ending: &str, sink: &mut dyn Sink) {
    if !scope.period.touches(review.requested.at, Some(leaf.wall)) {
        return sink.left_out(Population::P06);
    }
    let used = leaf.kind == Some(EntryKind::ApprovalUse);
    let end = if used {
        [leaf.index.into(), time(leaf.wall), ending.into()]
    } else {
        [Value::Null, Value::Null, ending.into()]
    };
    rows(review, end, sink);
}

fn rows(review: &Review, end: [Value; 3], sink: &mut dyn Sink) {
    let undecided = vec![Value::Null; 8];
    let decisions: Vec<&Vec<Value>> = match review.decisions.as_slice() {
        [] => vec![&undecided],
        some => some.iter().map(|(_, columns)| columns).collect(),
    };
    for columns in decisions {
        let row: Vec<Value> = review.front.iter().chain(columns).chain(&end).cloned().collect();
        sink.row(Population::P06, &row);
    }
}
