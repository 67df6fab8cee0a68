//! Checks a log from outside: entries one by one, against checkpoints, recordings and, where given, leaf hashes.
//!
//! Not here: where the bytes come from. Memory is bounded by the sessions open at once and the checkpoints and
//! recordings handed in.

mod recordings;

use std::collections::BTreeMap;
use std::fmt;

use chancery_model::{Digest, SessionId};

use self::recordings::Recordings;
use crate::block::Block;
use crate::epoch::Ladder;
use crate::log::{Change, Sessions};
use crate::view::View;
use crate::{Checkpoint, Leaf, LogVerifier, Missing, Pruned, Range, Roots, WitnessPolicy, leaf_hash};

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Every line has the form of this version and stands at its index.
    Lines,
    /// Times and boot ids never run backwards.
    Order,
    /// Every checkpoint is signed by the log's key and its root is that of the entries.
    Checkpoints,
    /// Every epoch is sealed by the key of the one before it, and every checkpoint signed by its own.
    Ladder,
    /// Enough witnesses saw all of it. Made only where a policy says who they are.
    Witnesses,
    /// Nothing below the last checkpoint is missing.
    Tail,
    /// Every start has one end, every opening one close or crash.
    Sessions,
    /// The counts and the rolling hash of every closed session are right.
    Rolling,
    /// Recordings are whole, chained and those that the entries speak of.
    Recordings,
    /// All the logs that are registered are there, each as far as it was registered. Made of several logs, by the registry.
    Origins,
    /// An authority for timestamps gave a time to the head of the registry. Made of a registry, where one is named.
    Stamp,
}

impl Check {
    /// Those of one log.
    const ALL: [Self; 9] = [
        Self::Lines,
        Self::Order,
        Self::Checkpoints,
        Self::Ladder,
        Self::Witnesses,
        Self::Tail,
        Self::Sessions,
        Self::Rolling,
        Self::Recordings,
    ];
    /// Lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Order => "order",
            Self::Checkpoints => "checkpoints",
            Self::Ladder => "ladder",
            Self::Witnesses => "witnesses",
            Self::Tail => "tail",
            Self::Sessions => "sessions",
            Self::Rolling => "rolling",
            Self::Recordings => "recordings",
            Self::Origins => "origins",
            Self::Stamp => "stamp",
        }
    }
}

/// How a check came out. The order is that of gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It could not be made, wholly or in part.
    Inconclusive,
    /// It does not hold.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Fail => "FAIL",
        })
    }
}

/// The outcome of one check, with the first place that decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// How it came out.
    pub verdict: Verdict,
    /// The first entry concerned.
    pub entry: Option<u64>,
    /// The last entry concerned, where it is one of several and not known which.
    pub last: Option<u64>,
    /// What was found there; for a pass, what else is to be said, if anything.
    pub what: String,
    /// How many places failed.
    pub failures: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verdict, self.check.as_str())?;
        if let Some(entry) = self.entry {
            write!(f, " entry {entry}")?;
        }
        if !self.what.is_empty() {
            write!(f, ": {}", self.what)?;
        }
        Ok(())
    }
}

/// All findings, one per check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the order of [`Check`].
    pub findings: Vec<Finding>,
    /// Entries read.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

impl Report {
    /// The gravest verdict.
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Inconclusive)
    }
    /// The first entry that does not hold, as far as it can be told: the first of what a checkpoint covers only if no
    /// entry of it is known by its own form or hash.
    pub fn first_bad_entry(&self) -> Option<u64> {
        let failed = || self.findings.iter().filter(|one| one.verdict == Verdict::Fail);
        let by_itself = failed().find(|one| one.check == Check::Lines).and_then(|one| one.entry);
        let places = failed().filter_map(|one| match (one.entry, one.last, by_itself) {
            (Some(first), Some(last), Some(known)) if (first..=last).contains(&known) => Some(known),
            (entry, ..) => entry,
        });
        places.min()
    }
    /// The finding of a check.
    pub fn finding(&self, check: Check) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }
}

/// Reads a log once. First [`Verifier::checkpoint`], [`Verifier::leaves`] and [`Verifier::block`] in any number, then
/// [`Verifier::entry`] or [`Verifier::pruned`] for each entry in order, then [`Verifier::finish`].
pub struct Verifier {
    key: LogVerifier,
    ladder: Ladder,
    policy: Option<WitnessPolicy>,
    /// Entries that enough witnesses saw as they are.
    witnessed: u64,
    /// Roots that were signed, and their notes, by size.
    checkpoints: BTreeMap<u64, (Digest, Vec<String>)>,
    /// Hashes that were handed in, by the index of their first; those passed are let go.
    leaves: BTreeMap<u64, Vec<u8>>,
    recordings: Recordings,
    pruned: Pruned,
    range: Range,
    checked: u64,
    /// Times of the entry before.
    last: Option<(i64, i64)>,
    boots: Vec<String>,
    sessions: Sessions,
    findings: BTreeMap<Check, Finding>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("size", &self.range.size()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier of the log that has these roots. From its key alone: that the ladder begins with the right epoch is then
    /// inconclusive.
    pub fn new(roots: impl Into<Roots>) -> Self {
        let roots = roots.into();
        Self {
            key: roots.log().clone(),
            ladder: Ladder::new(roots),
            policy: None,
            witnessed: 0,
            checkpoints: BTreeMap::new(),
            leaves: BTreeMap::new(),
            recordings: Recordings::default(),
            pruned: Pruned::default(),
            range: Range::default(),
            checked: 0,
            last: None,
            boots: Vec::new(),
            sessions: Sessions::default(),
            findings: BTreeMap::new(),
        }
    }

    /// Says who the witnesses are. To be called before the first entry.
    pub fn with_witnesses(&mut self, policy: WitnessPolicy) {
        self.policy = Some(policy);
    }

    /// Takes a checkpoint, from any source.
    pub fn checkpoint(&mut self, note: &str) {
        match self.key.open(note) {
            Err(error) => self.fail(Check::Checkpoints, None, error.to_string()),
            Ok(signed) => {
                let head = signed.checkpoint;
                let (known, notes) = self.checkpoints.entry(head.size).or_insert((head.root, Vec::new()));
                if *known == head.root && !notes.contains(&signed.note) {
                    notes.push(signed.note);
                }
                if *known != head.root {
                    let what = format!("two signed roots for {} entries: the log was forked", head.size);
                    self.fail(Check::Checkpoints, None, what);
                }
                if head.size == 0 && head.root != Range::default().root() {
                    self.fail(Check::Checkpoints, None, "the root of the empty log is wrong".into());
                }
            }
        }
    }

    /// Takes the hashes of a level-0 tile whose first leaf is `first`, so that a changed entry can be named exactly.
    pub fn leaves(&mut self, first: u64, hashes: &[u8]) {
        self.leaves.insert(first, hashes.to_vec());
    }

    /// Whether a tile that was handed in has another hash for the entry at `index`.
    fn differs(&mut self, index: u64, hash: &Digest) -> bool {
        while let Some(entry) = self.leaves.first_entry() {
            let at = index.saturating_sub(*entry.key());
            let at = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(32);
            if *entry.key() <= index && at >= entry.get().len() {
                entry.remove();
                continue;
            }
            let known = (*entry.key() <= index).then(|| entry.get().get(at..at + 32)).flatten();
            return known.is_some_and(|known| known != hash.0.as_slice());
        }
        false
    }

    /// Says that recordings are handed in, even if there turn out to be no blocks: all files that were not pruned.
    pub fn with_recordings(&mut self) {
        self.recordings.whole();
    }

    /// Says that only some of the recordings are handed in: a file that is not there may be elsewhere.
    pub fn with_some_recordings(&mut self) {
        self.recordings.part();
    }

    /// Says that the blocks that follow are of this file. Files come in the order of their numbers.
    pub fn begin_file(&mut self, number: u64) {
        self.recordings.begin(number);
    }

    /// Takes the next block of the recordings, in file order.
    pub fn block(&mut self, block: &Block<'_>) {
        if let Some(what) = self.recordings.block(block) {
            self.fail(Check::Recordings, None, what);
        }
    }

    /// Takes the SHA-256 of a closed recording file.
    pub fn recording_file(&mut self, number: u64, digest: Digest) {
        self.recordings.file(number, digest);
    }

    /// Says that a recording file could not be read to its end.
    pub fn recording_damaged(&mut self, what: &str) {
        self.fail(Check::Recordings, None, what.to_owned());
    }

    /// Says that the stored bytes at the next index could not even be framed.
    pub fn damaged(&mut self, what: &str) {
        let index = self.range.size();
        self.fail(Check::Lines, Some(index), what.to_owned());
    }

    /// Takes the leaf hash that is left of the next entry, in the segment whose first entry has the index `segment`.
    pub fn pruned(&mut self, hash: Digest, segment: u64) {
        let index = self.range.size();
        if self.differs(index, &hash) {
            self.fail(Check::Lines, Some(index), "what is left of it is not the hash that is in the tile".into());
        }
        if let Err(what) = self.pruned.hash(index, &hash, segment) {
            self.fail(Check::Lines, Some(index), what.to_owned());
        }
        self.range.push(hash);
        self.at_checkpoint();
    }

    /// The pruned entries that can be of the time from `from` on, once all entries are read.
    pub fn missing(&mut self, from: i64) -> Option<Missing> {
        self.pruned.missing(from)
    }

    /// Takes the next entry's bytes as stored.
    pub fn entry(&mut self, line: &[u8]) {
        let index = self.range.size();
        let hash = leaf_hash(line);
        if self.differs(index, &hash) {
            self.fail(Check::Lines, Some(index), "its bytes are not those whose hash is in the tile".into());
        }
        match View::plain(line, index) {
            Some(leaf) => self.leaf(&leaf, hash),
            None => match Leaf::parse(line, index) {
                Err(error) => self.fail(Check::Lines, Some(index), error.to_string()),
                Ok(leaf) => self.leaf(&View::from(&leaf), hash),
            },
        }
        self.range.push(hash);
        self.at_checkpoint();
    }

    fn leaf(&mut self, leaf: &View<'_>, hash: Digest) {
        let index = leaf.index;
        if leaf.origin != self.key.name() {
            self.fail(Check::Lines, Some(index), "its origin is another log's".into());
        }
        if leaf.kind.is_none() {
            self.doubt(Check::Lines, Some(index), "a kind that this version does not know".into());
        }
        self.pruned.line(leaf);
        self.order(leaf);
        if let Some((verdict, what)) = self.ladder.climb(leaf, || self.range.root()) {
            self.note(Check::Ladder, verdict, Some(index), None, what);
        }
        let found = Change::of_line(leaf).find(&mut self.sessions);
        let misfit = found.check().err();
        let disagrees = found.closing().is_some_and(|open| !open.agrees(leaf));
        let opened = found.opened();
        found.apply(index, hash);
        if let Some(error) = misfit {
            self.fail(Check::Sessions, Some(index), error.to_string());
        }
        if let Some(session) = leaf.session.filter(|_| disagrees) {
            self.fail(Check::Rolling, Some(index), format!("{session} does not close with what it had"));
        }
        if let Some((verdict, entry, what)) = self.recordings.entry(leaf, opened) {
            self.note(Check::Recordings, verdict, entry, None, what);
        }
    }

    fn order(&mut self, leaf: &View<'_>) {
        let same = self.boots.last().is_some_and(|last| last == leaf.boot);
        match self.last {
            Some((wall, _)) if leaf.wall < wall => {
                self.fail(Check::Order, Some(leaf.index), "its time is before that of the entry before it".into());
            }
            Some((_, mono)) if same && leaf.mono < mono => {
                self.fail(Check::Order, Some(leaf.index), "its monotonic time runs backwards".into());
            }
            Some(_) if !same && self.boots.iter().any(|boot| boot == leaf.boot) => {
                self.fail(Check::Order, Some(leaf.index), "its boot id had ended before".into());
            }
            _ => {}
        }
        if !same {
            self.boots.push(leaf.boot.to_owned());
        }
        self.last = Some((leaf.wall, leaf.mono));
    }

    fn at_checkpoint(&mut self) {
        let size = self.range.size();
        let Some((root, notes)) = self.checkpoints.get(&size) else { return };
        if *root == self.range.root() {
            self.checked = size;
            if notes.iter().any(|note| self.is_witnessed(size, *root, note)) {
                self.witnessed = size;
            }
            if let Some(what) = notes.iter().find_map(|note| self.ladder.sealed(note).err()) {
                self.fail(Check::Ladder, Some(size - 1), what);
            }
        } else {
            let first = self.checked;
            let what = format!("an entry from {first} to {} is not the one that was signed", size - 1);
            self.note(Check::Checkpoints, Verdict::Fail, Some(first), Some(size - 1), what);
        }
    }

    fn is_witnessed(&self, size: u64, root: Digest, note: &str) -> bool {
        let head = Checkpoint { origin: self.key.name().to_owned(), size, root };
        self.policy.as_ref().is_some_and(|policy| !policy.is_none() && policy.quorum(&head, note).met)
    }

    /// What the witnesses' cosignatures exclude, and what they do not.
    fn witnesses(&mut self, size: u64) {
        if self.policy.is_none() {
            return;
        }
        let heads = self.checkpoints.iter().filter(|(at, _)| **at > size);
        let seen = heads.filter(|(at, (root, notes))| notes.iter().any(|note| self.is_witnessed(**at, *root, note)));
        if let Some(longest) = seen.map(|(at, _)| *at).max() {
            return self.fail(
                Check::Witnesses,
                Some(size),
                format!("witnesses saw {longest} entries, and there are {size}"),
            );
        }
        match self.witnessed {
            0 => {
                let what = "no head is cosigned by enough witnesses: who held all keys from the beginning can have \
                            rewritten all of it";
                self.doubt(Check::Witnesses, None, what.into());
            }
            seen if seen < size => {
                let what =
                    format!("entries {seen} to {} are after the last head that enough witnesses cosigned", size - 1);
                self.doubt(Check::Witnesses, Some(seen), what);
            }
            _ => {}
        }
    }

    /// Ends the reading.
    pub fn finish(mut self) -> Report {
        let size = self.range.size();
        match self.checkpoints.last_key_value().map(|(last, _)| *last) {
            None => {
                self.doubt(Check::Checkpoints, None, "no checkpoint was handed in".into());
                self.doubt(Check::Tail, None, "no checkpoint says where the log ends".into());
            }
            Some(last) if last > size => {
                let what = format!("entries {size} to {} are signed and missing", last - 1);
                self.fail(Check::Tail, Some(size), what);
            }
            Some(last) if last < size => {
                let what = format!("entries {last} to {} are after the last checkpoint", size - 1);
                self.doubt(Check::Tail, Some(last), what);
            }
            Some(_) => {}
        }
        let mut open: Vec<SessionId> = self.sessions.keys().copied().collect();
        open.sort_unstable();
        if let Some(first) = open.first() {
            let what = format!("{} sessions are still open, the first is {first}", open.len());
            self.doubt(Check::Sessions, None, what);
        }
        self.witnesses(size);
        if !self.ladder.has_root() {
            self.doubt(Check::Ladder, None, "the key of the first epoch is not among the roots".into());
        }
        for (entry, what) in self.pruned.unaccounted() {
            self.fail(Check::Lines, Some(entry), what);
        }
        let dropped = self.pruned.count();
        let (found, said) = std::mem::take(&mut self.recordings).finish();
        for (verdict, entry, what) in found {
            self.note(Check::Recordings, verdict, entry, None, what);
        }
        let (root, mut findings) = (self.range.root(), self.findings);
        let holds = |check| Finding {
            check,
            verdict: Verdict::Pass,
            entry: None,
            last: None,
            what: String::new(),
            failures: 0,
        };
        let made = |check: &Check| *check != Check::Witnesses || self.policy.is_some();
        findings
            .entry(Check::Recordings)
            .or_insert_with(|| Finding { what: said.unwrap_or_default(), ..holds(Check::Recordings) });
        if dropped > 0 {
            let what = format!("{dropped} entries are pruned: their hashes are in the tree");
            findings.entry(Check::Lines).or_insert_with(|| Finding { what, ..holds(Check::Lines) });
        }
        let findings =
            Check::ALL.into_iter().filter(made).map(|check| findings.remove(&check).unwrap_or_else(|| holds(check)));
        Report { findings: findings.collect(), size, root }
    }

    fn fail(&mut self, check: Check, entry: Option<u64>, what: String) {
        self.note(check, Verdict::Fail, entry, None, what);
    }
    fn doubt(&mut self, check: Check, entry: Option<u64>, what: String) {
        self.note(check, Verdict::Inconclusive, entry, None, what);
    }
    /// Keeps the first place of the gravest verdict.
    fn note(&mut self, check: Check, verdict: Verdict, entry: Option<u64>, last: Option<u64>, what: String) {
        let failures = u64::from(verdict == Verdict::Fail);
        let new = Finding { check, verdict, entry, last, what, failures };
        match self.findings.get_mut(&check) {
            // The first is kept; but the entry that speaks of a recording says more than the recording alone.
            Some(old)
                if check == Check::Recordings
                    && old.verdict == verdict
                    && old.entry.is_none()
                    && new.entry.is_some() =>
            {
                *old = Finding { failures: old.failures + failures, ..new };
            }
            Some(old) if old.verdict >= verdict => old.failures += failures,
            Some(old) => *old = new,
            None => {
                self.findings.insert(check, new);
            }
        }
    }
}

#[cfg(test)]
mod tests;
