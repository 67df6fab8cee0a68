//! The first reading of a ledger for a pack: what the pack needs of the catalog, the recordings and the rules.

use std::collections::{BTreeMap, BTreeSet};

use chancery_evidence::Period;
use chancery_ledger::{EntryKind, Leaf, Missing, Pruned};
use chancery_model::{Digest, ReviewId, SessionId};

use super::export::{Met, Source};
use crate::output::Failure;

/// What it found.
pub(super) struct Survey {
    pub(super) period: Period,
    /// Time of the last entry.
    pub(super) last: i64,
    /// Chain ids, in the order of their entries.
    pub(super) chains: Vec<[u8; 16]>,
    /// Rule sets in force in the period.
    pub(super) rules: BTreeSet<String>,
    /// Signed approvals: entry, review, and the digest of the signature.
    pub(super) signed: Vec<(u64, ReviewId, Digest)>,
    /// Sessions of the period, with the last block that an entry speaks of.
    pub(super) sessions: BTreeMap<SessionId, Digest>,
    /// Those of them whose blocks may have been in files that were pruned.
    pub(super) excused: BTreeSet<SessionId>,
    /// Entries that are only hashes, and those of them that can be of the period.
    pub(super) hashes: u64,
    pub(super) missing: Option<Missing>,
}

/// What is remembered while entries pass.
#[derive(Default)]
struct Passing {
    /// Index and time of openings.
    began: BTreeMap<SessionId, (u64, i64)>,
    rules: Option<String>,
    /// Where files are stated; and before which entry a session can have had blocks in one that was pruned.
    files: BTreeMap<u64, u64>,
    pruned: Option<u64>,
}

impl Survey {
    /// Of a period that begins at `from`. Without an end, it ends behind the last entry.
    pub(super) fn of(source: &Source, from: i64, to: Option<i64>) -> Result<Self, Failure> {
        let mut found = Self {
            period: Period { from, to: to.unwrap_or(i64::MAX) },
            last: 0,
            chains: Vec::new(),
            rules: BTreeSet::new(),
            signed: Vec::new(),
            sessions: BTreeMap::new(),
            excused: BTreeSet::new(),
            hashes: 0,
            missing: None,
        };
        let (mut passing, mut hashes) = (Passing::default(), Pruned::default());
        source.visit(|index, met| match met {
            Met::Entry(_, leaf) => {
                hashes.entry(leaf);
                found.entry(leaf, &mut passing);
                Ok(())
            }
            Met::Pruned(hash, segment) => {
                let taken = hashes.hash(index, &hash, segment);
                taken.map_err(|what| Failure::no(format!("entry {index}: {what}")))
            }
        })?;
        if let Some((entry, what)) = hashes.unaccounted().into_iter().next() {
            return Err(Failure::no(format!("from entry {entry} on, {what}, below the checkpoint of this pack"))
                .hint("take a later checkpoint; if there is none, `chancery ledger verify` says what is wrong"));
        }
        let Passing { began, rules, pruned, .. } = passing;
        let old =
            |session: &&SessionId| pruned.zip(began.get(session)).is_some_and(|(pruned, (opened, _))| *opened < pruned);
        found.excused = found.sessions.keys().filter(old).copied().collect();
        found.rules.extend(rules.filter(|_| found.period.to > found.last));
        // Without an end, the period ends behind the last entry: the same head gives the same pack.
        found.period.to = to.unwrap_or(found.last + 1);
        if from >= found.period.to {
            return Err(Failure::usage("the period ends before it begins"));
        }
        (found.hashes, found.missing) = (hashes.count(), hashes.missing(from));
        Ok(found)
    }

    fn entry(&mut self, leaf: &Leaf, passing: &mut Passing) {
        let Period { from, to } = self.period;
        self.last = leaf.wall;
        let text = |name: &str| leaf.rest.get(name).and_then(serde_json::Value::as_str);
        match leaf.kind {
            Some(EntryKind::Principal) => self.chains.extend(text("a").and_then(hexadecimal)),
            Some(EntryKind::PolicyApply) => {
                let before = std::mem::replace(&mut passing.rules, text("p").map(str::to_owned));
                if leaf.wall >= from {
                    self.rules.extend(before);
                }
                if leaf.wall >= from && leaf.wall < to {
                    self.rules.extend(passing.rules.clone());
                }
            }
            Some(EntryKind::ApprovalDecide) => {
                let review = text("rev").and_then(hexadecimal).map(ReviewId);
                let approves =
                    leaf.rest.get("d").and_then(|d| d.get(0)).and_then(|word| word.as_str()) == Some("approve");
                if let (Some(review), Some(signature), true) = (review, leaf.digest("sig"), approves) {
                    self.signed.push((leaf.index, review, signature));
                }
            }
            Some(EntryKind::RecordingSegment) => {
                passing.files.extend(leaf.number("file").map(|file| (file, leaf.index)));
            }
            Some(EntryKind::PruneRecording) => {
                let stated = leaf.number("file").and_then(|file| passing.files.remove(&file));
                passing.pruned = passing.pruned.max(stated);
            }
            _ => {}
        }
        if let Some(session) = leaf.session {
            if leaf.kind == Some(EntryKind::SessionOpen) {
                passing.began.insert(session, (leaf.index, leaf.wall));
            }
            let of_period = passing.began.get(&session).is_some_and(|(_, began)| *began < to) && leaf.wall >= from;
            if let (true, Some(head)) = (of_period, leaf.digest("cm")) {
                self.sessions.insert(session, head);
            }
        }
    }
}

fn hexadecimal(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
