//! The check of recordings: what the entries say of files and blocks against what was handed in. Blocks of files that
//! were pruned are excused, and no others (`docs/spec/recording.md`). Not here: reading the files.

use std::collections::BTreeMap;

use chancery_model::{Digest, SessionId};

use crate::block::Block;
use crate::view::View;
use crate::{ChainCheck, EntryKind, RecordingChain, Verdict};

/// Something found: the verdict, the entry concerned, and what it is.
pub(super) type Found = (Verdict, Option<u64>, String);

/// How many recordings there are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Handed {
    /// None at all: nothing of them is checked.
    #[default]
    Nothing,
    /// Some; what is not there may be elsewhere.
    Part,
    /// All that were not pruned.
    Whole,
}

/// What a `rec.segment` entry says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stated {
    entry: u64,
    bytes: Option<u64>,
    digest: Option<Digest>,
    /// The `prune.recording` entry that says the same of it.
    pruned: Option<u64>,
}

/// Blocks that are not there, before one that is.
#[derive(Clone, Copy, Debug)]
struct Hole {
    session: SessionId,
    expected: u64,
    number: u64,
    /// The file of the session's block before it, if there is one.
    after: Option<u64>,
    file: u64,
}

#[derive(Debug, Default)]
pub(super) struct Recordings {
    handed: Handed,
    chain: RecordingChain,
    /// Digests of the files that were handed in.
    files: BTreeMap<u64, Digest>,
    stated: BTreeMap<u64, Stated>,
    holes: Vec<Hole>,
    /// The file whose blocks come now.
    file: Option<u64>,
    /// The last entry that states a file which is not there. Whatever session was opened before it can have had blocks
    /// in that file.
    absent: Option<u64>,
    /// The first entry since then that names a block which is not there, and how many there are.
    lacking: Option<(u64, SessionId, u64)>,
}

impl Recordings {
    pub(super) fn whole(&mut self) {
        self.handed = Handed::Whole;
    }
    pub(super) fn part(&mut self) {
        self.handed = Handed::Part;
    }
    fn some(&mut self) {
        if self.handed == Handed::Nothing {
            self.handed = Handed::Whole;
        }
    }
    pub(super) fn are_there(&self) -> bool {
        self.handed != Handed::Nothing
    }
    pub(super) fn begin(&mut self, file: u64) {
        self.some();
        self.file = Some(file);
    }
    pub(super) fn file(&mut self, number: u64, digest: Digest) {
        self.some();
        self.files.insert(number, digest);
    }

    pub(super) fn block(&mut self, block: &Block<'_>) -> Option<String> {
        self.some();
        let check = self.chain.push(block, self.file);
        let (session, number) = (block.header.session, block.header.number);
        match (check, self.file) {
            (ChainCheck::Follows, _) => None,
            (ChainCheck::Gap { expected, after }, Some(file)) => {
                self.holes.push(Hole { session, expected, number, after, file });
                None
            }
            (ChainCheck::Gap { expected, .. } | ChainCheck::OutOfOrder(expected), _) => {
                Some(missing(session, number, expected))
            }
            (ChainCheck::Broken, _) => Some(format!("{session} block {number} does not follow the one before it")),
        }
    }

    /// Takes an entry. `opened` is the index of the opening of its session.
    pub(super) fn entry(&mut self, leaf: &View<'_>, opened: Option<u64>) -> Option<Found> {
        match leaf.kind {
            Some(EntryKind::RecordingSegment) => self.stated(leaf),
            Some(EntryKind::PruneRecording) => self.pruned(leaf),
            Some(EntryKind::SessionClose | EntryKind::ActDone) if self.are_there() => self.claimed(leaf, opened),
            _ => None,
        }
    }

    fn stated(&mut self, leaf: &View<'_>) -> Option<Found> {
        let (file, digest, bytes) = (leaf.number("file").unwrap_or(u64::MAX), leaf.digest("cr"), leaf.number("bytes"));
        let fail = |what| Some((Verdict::Fail, Some(leaf.index), format!("file {file} {what}")));
        let stated = Stated { entry: leaf.index, bytes, digest, pruned: None };
        let first = *self.stated.entry(file).or_insert(stated);
        if (first.bytes, first.digest) != (bytes, digest) {
            return fail("is stated again in other words");
        }
        match self.files.get(&file) {
            Some(there) if Some(*there) != digest => fail("is not the one that was closed"),
            None if first.entry == leaf.index => {
                // Every session that an entry before this one speaks of was opened before this one, too.
                (self.absent, self.lacking) = (Some(leaf.index), None);
                None
            }
            _ => None,
        }
    }

    fn pruned(&mut self, leaf: &View<'_>) -> Option<Found> {
        let file = leaf.number("file").unwrap_or(u64::MAX);
        let said = (leaf.number("bytes"), leaf.digest("cr"));
        match self.stated.get_mut(&file) {
            Some(stated) if (stated.bytes, stated.digest) == said => {
                stated.pruned.get_or_insert(leaf.index);
                None
            }
            _ => Some((
                Verdict::Fail,
                Some(leaf.index),
                format!("file {file} was pruned, and it is not one that was closed"),
            )),
        }
    }

    fn claimed(&mut self, leaf: &View<'_>, opened: Option<u64>) -> Option<Found> {
        let (session, claim) = (leaf.session?, leaf.digest("cm"));
        let is_last = leaf.kind == Some(EntryKind::SessionClose);
        let there = claim.is_some_and(|hash| self.chain.contains(session, hash));
        if is_last && self.chain.head(&session) != claim && (there || claim.is_none()) {
            let what = format!("the recording of {session} does not end as it says");
            return Some((Verdict::Fail, Some(leaf.index), what));
        }
        let excused = self.absent.is_some_and(|absent| opened.is_some_and(|opened| opened < absent));
        if claim.is_some() && !there && !excused {
            let (first, of, count) = self.lacking.unwrap_or((leaf.index, session, 0));
            self.lacking = Some((first, of, count + 1));
        }
        None
    }

    /// What is found when all is read; for a pass, what is to be said of it.
    pub(super) fn finish(self) -> (Vec<Found>, Option<String>) {
        if !self.are_there() {
            return (vec![(Verdict::Inconclusive, None, "no recordings were handed in".into())], None);
        }
        let mut found = Vec::new();
        let absent = || self.stated.iter().filter(|(file, _)| !self.files.contains_key(file));
        for (file, stated) in absent().filter(|(_, stated)| stated.pruned.is_none()) {
            found.push(match self.handed {
                Handed::Part => (Verdict::Inconclusive, Some(stated.entry), format!("file {file} was not handed in")),
                _ => {
                    let what = format!("file {file} is not there, and no entry says that it was pruned");
                    (Verdict::Fail, Some(stated.entry), what)
                }
            });
        }
        if let Some((entry, session, count)) = self.lacking {
            let others = if count > 1 { format!(", nor has it {} others", count - 1) } else { String::new() };
            let what = format!("the recording of {session} lacks the block that this names{others}");
            found.push((Verdict::Fail, Some(entry), what));
        }
        let gone: Vec<u64> = absent().map(|(file, _)| *file).collect();
        for hole in &self.holes {
            let from = hole.after.map_or(0, |after| after.saturating_add(1));
            let at = gone.partition_point(|file| *file < from);
            if gone.get(at).is_none_or(|file| *file >= hole.file) {
                found.push((Verdict::Fail, None, missing(hole.session, hole.number, hole.expected)));
            }
        }
        let pruned: Vec<u64> = absent().filter_map(|(_, stated)| stated.pruned).collect();
        let (first, last) = (pruned.iter().min(), pruned.iter().max());
        let said = first.zip(last).map(|(first, last)| match pruned.len() {
            1 => format!("1 file is pruned, by entry {first}"),
            count => format!("{count} files are pruned, by entries {first} to {last}"),
        });
        (found, said)
    }
}

fn missing(session: SessionId, number: u64, expected: u64) -> String {
    format!("{session} block {number} where {expected} was expected")
}

#[cfg(test)]
mod tests {
    use chancery_model::{Durability, Effect, ResourceName, Timestamp};

    use super::*;
    use crate::{
        ActDone, ActStart, BlockHeader, Check, Codec, Entry, EpochSigner, Finding, Hasher, Log, LogSigner, Outcome,
        PruneRecording, Range, RecordingSegment, Roots, SessionClose, SessionOpen, Stamp, Verifier,
    };

    const ORIGIN: &str = "gw.test/a";

    /// A log with recordings: blocks by file, and lines.
    struct Story {
        log: Log,
        lines: Vec<Vec<u8>>,
        files: BTreeMap<u64, Vec<(BlockHeader, Vec<u8>)>>,
        heads: BTreeMap<SessionId, (u64, Digest)>,
        roots: Roots,
    }

    fn id(n: u8) -> SessionId {
        SessionId([n; 16])
    }

    impl Story {
        fn new() -> Self {
            let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a seed");
            let epoch = EpochSigner::from_seed(ORIGIN, 0, &[2; 32]).expect("a seed");
            let roots = Roots::text(&signer.verifier_key(), &epoch.public_key()).expect("own keys");
            let mut story = Self {
                log: Log::new(ORIGIN, [7; 16]).expect("an origin"),
                lines: Vec::new(),
                files: BTreeMap::new(),
                heads: BTreeMap::new(),
                roots: Roots::parse(&roots).expect("own roots"),
            };
            story.add(&Entry::KeyEpoch(epoch.begin(&signer, 600_000, Range::default().root())));
            story
        }
        fn add(&mut self, entry: &Entry<'_>) -> u64 {
            let (mut line, at) = (Vec::new(), self.lines.len() as i64);
            self.log.append(entry, Stamp { wall: Timestamp(1_000 + at), mono: at }, &mut line).expect("fits");
            self.lines.push(line);
            at as u64
        }
        fn open(&mut self, session: SessionId) {
            let resource = ResourceName::parse("shop").expect("a name");
            let profile = Durability::Strict;
            let (rules, rule_ids, protocol, method) = (Digest([2; 32]), &[], "postgres", "oidc");
            #[rustfmt::skip]
            let open = SessionOpen { session, chain: [1; 16], resource: &resource, rules, rule_ids, protocol, method, profile };
            self.add(&Entry::SessionOpen(open));
        }
        /// A block of a session in a file; its hash.
        fn block(&mut self, file: u64, session: SessionId, skip: u64) -> Digest {
            let (number, previous) = self.heads.get(&session).copied().unwrap_or((0, Digest([0; 32])));
            let number = number + skip;
            let stored = vec![file as u8, number as u8];
            let header = BlockHeader {
                session,
                number,
                previous,
                salt: [9; 32],
                codec: Codec::Raw,
                raw_len: 2,
                stored_len: 2,
                crc: 0,
            };
            let hash = header.hash(&stored);
            self.heads.insert(session, (number + 1, hash));
            self.files.entry(file).or_default().push((header, stored));
            hash
        }
        /// A command with this recording; the index of its end.
        fn act(&mut self, session: SessionId, command: u64, recording: Digest) -> u64 {
            let resource = ResourceName::parse("shop").expect("a name");
            let (profile, effect, digest) = (Durability::Strict, Effect::Read, Digest([4; 32]));
            #[rustfmt::skip]
            let start = ActStart {
                session, command, chain: [1; 16], resource: &resource, rules: digest, decision: "allow", rule_ids: &[], effect,
                fingerprint: digest, digest, review: None, profile,
            };
            self.add(&Entry::ActStart(start));
            let (outcome, recording) = (Outcome::Completed, Some(recording));
            #[rustfmt::skip]
            let done = ActDone { session, command, outcome, sqlstate: None, rows: 1, bytes: 2, masked: 3, duration_us: 4, recording };
            self.add(&Entry::ActDone(done))
        }
        fn close(&mut self, session: SessionId) {
            let recording = self.heads.get(&session).map(|(_, head)| *head);
            self.add(&Entry::SessionClose(SessionClose { session, reason: "client", recording }));
        }
        fn digest(&self, file: u64) -> (u64, Digest) {
            let (mut hasher, mut bytes) = (Hasher::default(), 0);
            for (header, stored) in &self.files[&file] {
                hasher.update(&header.encode());
                hasher.update(stored);
                bytes += (header.encode().len() + stored.len()) as u64;
            }
            (bytes, hasher.finish())
        }
        fn stated(&mut self, file: u64) -> u64 {
            let (bytes, digest) = self.digest(file);
            let blocks = self.files[&file].len() as u64;
            self.add(&Entry::RecordingSegment(RecordingSegment { file, bytes, blocks, digest }))
        }
        fn prune(&mut self, file: u64, change: impl FnOnce(&mut PruneRecording)) -> u64 {
            let (bytes, digest) = self.digest(file);
            let mut prune = PruneRecording { run: 0, file, bytes, digest, last: Timestamp(0) };
            change(&mut prune);
            self.add(&Entry::PruneRecording(prune))
        }
        /// What is said of the recordings, if these files are not there.
        fn without(&self, gone: &[u64], part: bool) -> Finding {
            let mut verifier = Verifier::new(self.roots.clone());
            if part {
                verifier.with_some_recordings()
            } else {
                verifier.with_recordings()
            }
            for (file, blocks) in self.files.iter().filter(|(file, _)| !gone.contains(file)) {
                verifier.begin_file(*file);
                blocks.iter().for_each(|(header, stored)| verifier.block(&Block { header: *header, stored }));
                verifier.recording_file(*file, self.digest(*file).1);
            }
            self.lines.iter().for_each(|line| verifier.entry(line));
            verifier.finish().finding(Check::Recordings).cloned().expect("always there")
        }
    }

    /// Session 1 has blocks in files 0, 1 and 2; session 2 in file 1.
    fn story() -> (Story, [u64; 3]) {
        let mut story = Story::new();
        story.open(id(1));
        let mut stated = [0; 3];
        for file in 0..3_u64 {
            if file == 1 {
                story.open(id(2));
                let cm = story.block(1, id(2), 0);
                story.act(id(2), 1, cm);
                story.close(id(2));
            }
            let cm = story.block(file, id(1), 0);
            story.act(id(1), file + 1, cm);
            stated[file as usize] = story.stated(file);
        }
        story.close(id(1));
        (story, stated)
    }

    #[test]
    fn a_pruned_file_passes_and_one_that_is_missing_fails() {
        for gone in [vec![0], vec![1], vec![2], vec![0, 1], vec![0, 2], vec![0, 1, 2]] {
            let (mut story, stated) = story();
            let missing = story.without(&gone, false);
            let entry = Some(stated[gone[0] as usize]);
            assert_eq!((missing.verdict, missing.entry), (Verdict::Fail, entry), "{gone:?} {missing}");
            let doubt = story.without(&gone, true);
            assert_ne!(doubt.verdict, Verdict::Pass, "{doubt}");
            let entries: Vec<u64> = gone.iter().map(|file| story.prune(*file, |_| ())).collect();
            let there = story.without(&[], false);
            assert_eq!((there.verdict, there.what.as_str()), (Verdict::Pass, ""), "deleted at the next run");
            let pruned = story.without(&gone, false);
            assert_eq!(pruned.verdict, Verdict::Pass, "{gone:?} {pruned}");
            assert!(pruned.what.contains(&format!(
                "by entr{} {}",
                if gone.len() == 1 { "y" } else { "ies" },
                entries[0]
            )));
            // Others are not excused by it.
            for other in (0..3).filter(|file| !gone.contains(file)) {
                let both = [gone.as_slice(), &[other]].concat();
                assert_eq!(story.without(&both, false).verdict, Verdict::Fail);
            }
        }
    }

    #[test]
    fn what_was_pruned_is_what_was_closed() {
        type Change = fn(&mut PruneRecording);
        let changes: [Change; 3] = [|p| p.digest = Digest([9; 32]), |p| p.bytes += 1, |p| p.file = 7];
        for change in changes {
            let (mut story, _) = story();
            let at = story.prune(0, change);
            let found = story.without(&[], false);
            assert_eq!((found.verdict, found.entry), (Verdict::Fail, Some(at)), "{found}");
            assert_eq!(story.without(&[0], false).verdict, Verdict::Fail);
        }
    }

    #[test]
    fn a_pruned_file_excuses_no_session_after_it_and_no_hole_elsewhere() {
        let (mut one, _) = story();
        one.prune(0, |_| ());
        one.open(id(3));
        let at = one.act(id(3), 1, Digest([8; 32]));
        let found = one.without(&[0], false);
        assert_eq!((found.verdict, found.entry), (Verdict::Fail, Some(at)), "{found}");
        let mut two = Story::new();
        two.open(id(1));
        for (file, skip) in [(0, 0), (1, 0), (2, 3)] {
            two.block(file, id(1), skip);
            two.stated(file);
        }
        two.prune(0, |_| ());
        let found = two.without(&[0], false);
        assert_eq!(found.verdict, Verdict::Fail, "{found}");
        assert!(found.what.contains("block 5 where 2 was expected"), "{found}");
    }
}
