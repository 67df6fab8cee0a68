//! Entries of which only the hashes are left, against what the log says of them: that just these were pruned, from which
//! segment, and up to which time (`docs/spec/retention.md`). Not here: the tree that they stay in.

use std::collections::BTreeMap;

use chancery_model::{Digest, Timestamp};

use crate::view::View;
use crate::{EntryKind, Hasher, Leaf};

/// Segments that lost entries: as many as 16 TiB of a log have. Each is held in memory.
const SEGMENTS_MAX: usize = 1 << 18;

/// What is left of one segment.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// The index of the segment's first entry.
    segment: u64,
    /// The first of the hashes, and how many there are.
    index: u64,
    count: u64,
    /// No entry among them is older than this.
    since: i64,
    /// Over the hashes in order.
    digest: Digest,
}

/// What a `prune.ledger` entry says of a segment.
#[derive(Clone, Copy, Debug)]
struct Said {
    count: u64,
    digest: Digest,
    last: i64,
}

/// Pruned entries that can be of a time that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// How many. Of which kinds, nobody can say.
    pub entries: u64,
    /// None of them is younger than this.
    pub until: Timestamp,
}

/// Takes a log's entries and, in the place of those that were pruned, their hashes.
#[derive(Default)]
pub struct Pruned {
    /// Segments that were passed, in order, and the one that hashes come of now.
    passed: Vec<Left>,
    current: Option<(Left, Hasher)>,
    said: BTreeMap<u64, Vec<Said>>,
    /// The time of the last entry that is there.
    wall: i64,
}

impl std::fmt::Debug for Pruned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pruned").field("segments", &self.passed.len()).finish_non_exhaustive()
    }
}

impl Pruned {
    /// Takes an entry that is there.
    pub fn entry(&mut self, leaf: &Leaf) {
        self.line(&View::from(leaf));
    }

    pub(crate) fn line(&mut self, leaf: &View<'_>) {
        self.wall = leaf.wall;
        if leaf.kind == Some(EntryKind::PruneLedger)
            && let (Some(first), Some(count)) = (leaf.number("first"), leaf.number("dropped"))
            && let (Some(digest), Some(last)) = (leaf.digest("cr"), leaf.micros("last"))
        {
            self.said.entry(first).or_default().push(Said { count, digest, last });
        }
    }

    /// Takes the leaf hash that is left of the entry at `index`, in the segment whose first entry has the index `segment`.
    ///
    /// # Errors
    /// It cannot be of that segment, in words. It is not counted then.
    pub fn hash(&mut self, index: u64, hash: &Digest, segment: u64) -> Result<(), &'static str> {
        if self.current.as_ref().is_none_or(|(left, _)| left.segment != segment) {
            let before = self.current.as_ref().map(|(left, _)| left.segment);
            if segment > index || before.is_some_and(|before| segment < before) {
                return Err("it is said to be pruned from a segment that does not lie here");
            }
            if self.passed.len() >= SEGMENTS_MAX {
                return Err("more segments lost entries than this reader has room for");
            }
            self.leave();
            let left = Left { segment, index, count: 0, since: self.wall, digest: Digest::default() };
            self.current = Some((left, Hasher::default()));
        }
        if let Some((left, hasher)) = &mut self.current {
            left.count += 1;
            left.since = self.wall;
            hasher.update(&hash.0);
        }
        Ok(())
    }

    /// No more hashes of the current segment follow.
    fn leave(&mut self) {
        let current = self.current.take();
        self.passed.extend(current.map(|(left, hasher)| Left { digest: hasher.finish(), ..left }));
    }

    /// How many entries are only hashes.
    pub fn count(&mut self) -> u64 {
        self.leave();
        self.passed.iter().map(|left| left.count).sum()
    }

    /// Hashes that no entry accounts for: the index of the first of a segment, and what is wrong.
    pub fn unaccounted(&mut self) -> Vec<(u64, String)> {
        self.leave();
        let wrong = |left: &Left| {
            let said = self.said.get(&left.segment).map(Vec::as_slice).unwrap_or_default();
            let same = said.iter().filter(|said| (said.count, said.digest) == (left.count, left.digest));
            let what = match same.map(|said| said.last).max() {
                None => "no entry says that these were pruned",
                Some(last) if last >= left.since => return None,
                Some(_) => "the entry that says so calls them older than they are",
            };
            Some((left.index, format!("{} entries are only hashes, and {what}", left.count)))
        };
        self.passed.iter().filter_map(wrong).collect()
    }

    /// Those in segments that are said to end at or after `from`, if there are any.
    pub fn missing(&mut self, from: i64) -> Option<Missing> {
        self.leave();
        let last = |left: &Left| self.said.get(&left.segment).and_then(|said| said.iter().map(|said| said.last).max());
        let mut missing = None;
        for (left, last) in self.passed.iter().filter_map(|left| Some((left, last(left)?))) {
            if last >= from {
                let (entries, until) = missing.map_or((0, last), |one: Missing| (one.entries, one.until.0.max(last)));
                missing = Some(Missing { entries: entries + left.count, until: Timestamp(until) });
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hash(n: u8) -> Digest {
        Digest([n; 32])
    }

    fn over(hashes: &[u8]) -> Digest {
        let mut hasher = Hasher::default();
        hashes.iter().for_each(|n| hasher.update(&hash(*n).0));
        hasher.finish()
    }

    fn leaf(index: u64, wall: i64, kind: EntryKind, rest: serde_json::Value) -> Leaf {
        let rest = rest.as_object().cloned().unwrap_or_default().into_iter().collect();
        let (boot, origin) = ("00".to_owned(), "gw".to_owned());
        Leaf { kind: Some(kind), index, wall, mono: 0, boot, origin, session: None, command: None, rest }
    }

    /// An entry at 10, three hashes of segment 0 around one at 20, one at 30, two hashes of segment 5.
    fn pruned() -> Pruned {
        let mut pruned = Pruned::default();
        pruned.entry(&leaf(0, 10, EntryKind::KeyEpoch, json!({})));
        pruned.hash(1, &hash(1), 0).expect("of the first segment");
        pruned.hash(2, &hash(2), 0).expect("of the first segment");
        pruned.entry(&leaf(3, 20, EntryKind::KeyEpoch, json!({})));
        pruned.hash(4, &hash(4), 0).expect("of the first segment");
        pruned.entry(&leaf(5, 30, EntryKind::KeyEpoch, json!({})));
        pruned.hash(6, &hash(6), 5).expect("of the second");
        pruned.hash(7, &hash(7), 5).expect("of the second");
        pruned
    }

    fn say(pruned: &mut Pruned, first: u64, hashes: &[u8], last: i64) {
        let cr = over(hashes).to_string();
        let rest = json!({"first": first, "dropped": hashes.len(), "cr": cr, "last": last});
        pruned.entry(&leaf(9, 99, EntryKind::PruneLedger, rest));
    }

    #[test]
    fn what_an_entry_accounts_for_is_the_segment_the_hashes_and_the_time() {
        let mut whole = pruned();
        assert_eq!(whole.count(), 5);
        assert_eq!(whole.unaccounted().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 6]);
        say(&mut whole, 0, &[1, 2, 4], 25);
        say(&mut whole, 5, &[6, 7], 30);
        assert!(whole.unaccounted().is_empty());
        for (first, hashes, last) in
            [(0, &[1, 2][..], 25), (0, &[1, 2, 3], 25), (0, &[2, 1, 4], 25), (1, &[1, 2, 4], 25), (0, &[1, 2, 4], 19)]
        {
            let mut other = pruned();
            say(&mut other, 5, &[6, 7], 30);
            say(&mut other, first, hashes, last);
            let wrong = other.unaccounted();
            assert_eq!(wrong.len(), 1, "{first} {hashes:?} {last}");
            assert_eq!((wrong[0].0, wrong[0].1.contains("older")), (1, last == 19));
            // Another entry, of another run, may say it rightly.
            say(&mut other, 0, &[1, 2, 4], 20);
            assert!(other.unaccounted().is_empty());
        }
    }

    #[test]
    fn what_can_be_of_a_time_is_in_segments_that_reach_into_it() {
        let mut pruned = pruned();
        assert_eq!(pruned.missing(0), None, "nobody says of when they are");
        say(&mut pruned, 0, &[1, 2, 4], 25);
        // A run before had said less of the same segment, and named a later entry, which it took away.
        say(&mut pruned, 0, &[4], 28);
        say(&mut pruned, 5, &[6, 7], 40);
        let missing = |entries, until| Some(Missing { entries, until: Timestamp(until) });
        assert_eq!((pruned.missing(0), pruned.missing(28)), (missing(5, 40), missing(5, 40)));
        assert_eq!((pruned.missing(29), pruned.missing(40)), (missing(2, 40), missing(2, 40)));
        assert_eq!(pruned.missing(41), None);
    }

    #[test]
    fn a_segment_lies_behind_the_one_before_it_and_not_behind_its_entries() {
        let mut pruned = pruned();
        assert!(pruned.hash(8, &hash(8), 9).is_err());
        assert!(pruned.hash(8, &hash(8), 0).is_err());
        pruned.hash(8, &hash(8), 5).expect("the second goes on");
        assert_eq!(pruned.count(), 6);
    }

    #[test]
    fn segments_have_a_bound() {
        let mut pruned = Pruned::default();
        let taken = (0..).take_while(|n| pruned.hash(*n, &hash(1), *n).is_ok()).count();
        assert_eq!(taken, SEGMENTS_MAX + 1);
    }
}
