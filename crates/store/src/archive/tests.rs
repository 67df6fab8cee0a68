//! Ledgers in memory, archived in steps; what comes back, and what does not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chancery_ledger::{
    Entry, Frame, FrameKind, LogSigner, Roots, SessionClose, SessionOpen, SignedCheckpoint, Verdict, parse_bundle,
};
use chancery_model::{Digest, Durability as Profile, ResourceName, SessionId, Timestamp};

use super::*;
use crate::sequencer::{Volume, segment};
use crate::{
    Directory, Level, MemoryVolume, Options, Outside, Recorder, RecorderOptions, Sequencer, system_clock, verify,
};

const ORIGIN: &str = "gw.test/a";

/// A ledger with recordings.
struct Live {
    ledger: MemoryVolume,
    recordings: MemoryVolume,
    sequencer: Sequencer,
    recorder: Recorder,
}

impl Live {
    fn new() -> Self {
        let (ledger, recordings) = (MemoryVolume::new(), MemoryVolume::new());
        let (sequencer, recorder) = open(&ledger, &recordings);
        Self { ledger, recordings, sequencer, recorder }
    }
    fn reader(&self) -> LedgerReader {
        LedgerReader::new(Arc::new(self.ledger.clone()))
    }
    fn recorded(&self) -> RecordingReader {
        RecordingReader::new(Arc::new(self.recordings.clone()))
    }
    fn grow(&self, entries: u64) {
        for _ in 0..entries {
            self.sequencer.append_entry(&Entry::Heartbeat, Level::Written).expect("running");
        }
    }
    /// A session with a recording, as far as its opening and, if `close`, its end.
    async fn session(&self, id: u8, close: bool) -> SessionId {
        let (session, resource) = (SessionId([id; 16]), ResourceName::parse("shop").expect("a name"));
        let open = SessionOpen {
            session,
            chain: [1; 16],
            resource: &resource,
            rules: Digest([2; 32]),
            rule_ids: &[],
            protocol: "postgres",
            method: "oidc",
            profile: Profile::Balanced,
        };
        self.sequencer.append_entry(&Entry::SessionOpen(open), Level::Written).expect("running");
        let spool = self.recorder.spool(session);
        let frame = Frame { at: Timestamp(7), kind: FrameKind::Output, command: 1, bytes: vec![id; 5_000].into() };
        assert!(spool.note(&frame).expect("room"));
        let recording = spool.sync().await.expect("the disk works");
        if close {
            let close = SessionClose { session, reason: "client", recording };
            self.sequencer.append_entry(&Entry::SessionClose(close), Level::Written).expect("running");
        }
        session
    }
    fn head(&self) -> SignedCheckpoint {
        let head = self.sequencer.checkpoint();
        self.sequencer.write_through(head.checkpoint.size).expect("running");
        head
    }
    fn roots(&self) -> String {
        self.sequencer.roots()
    }
    fn end(&self) -> SignedCheckpoint {
        self.recorder.close();
        self.sequencer.close();
        let note = self.reader().checkpoint().expect("readable").expect("one was signed");
        Roots::parse(&self.roots()).expect("own roots").log().open(&note).expect("own note")
    }
}

fn open(ledger: &MemoryVolume, recordings: &MemoryVolume) -> (Sequencer, Recorder) {
    let mut boot = [0; 16];
    crate::random(&mut boot).expect("the kernel gives random bytes");
    let options = Options { reserve_bytes: 1, ..Options::new(system_clock(), boot) };
    let signer = LogSigner::from_seed(ORIGIN, &[9; 32]).expect("a seed");
    let (shared, keys) = (Arc::new(ledger.clone()), Arc::new(ledger.clone()));
    let (sequencer, _) = Sequencer::open(shared, keys, signer, ORIGIN, options).expect("a ledger");
    let told = sequencer.clone();
    let closed = Box::new(move |file| told.append_entry(&Entry::RecordingSegment(file), Level::Written).is_ok());
    let recorder = Recorder::open(Arc::new(recordings.clone()), RecorderOptions::default(), closed);
    (sequencer, recorder.expect("recordings"))
}

type Objects = BTreeMap<String, Bytes>;

/// What is handed out from `from` on is added; nothing may come in other bytes. The order is that of the parts.
fn add(reader: &LedgerReader, from: u64, to: &Checkpoint, objects: &mut Objects) -> Result<(), ArchiveError> {
    let mut below = 0;
    archive_entries(reader, from, to, &mut |object| {
        assert!(object.below >= below && object.below <= to.size, "{}", object.key);
        below = object.below;
        let before = objects.insert(object.key.clone(), object.bytes.clone());
        assert!(before.is_none_or(|before| before == object.bytes), "{} changed", object.key);
        ControlFlow::Continue(())
    })
}

fn pieces(reader: &RecordingReader, from: RecordingMark) -> Vec<RecordingPiece> {
    let mut pieces = Vec::new();
    let read = reader.pieces(from, |piece| {
        pieces.push(piece);
        ControlFlow::Continue(())
    });
    read.expect("readable");
    pieces
}

fn after(piece: &RecordingPiece) -> RecordingMark {
    RecordingMark { offset: piece.mark.offset + piece.bytes.len() as u64, ..piece.mark }
}

/// A temporary directory that is not there yet; removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let mut id = [0; 8];
        crate::random(&mut id).expect("the kernel gives random bytes");
        Self(std::env::temp_dir().join(format!("chancery-restore-{:016x}", u64::from_be_bytes(id))))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn key(number: u64, width: usize) -> String {
    format!("ledger/{}", bundle_path(number, width))
}

fn fill(restore: &mut Restore, objects: &Objects) -> Result<(), RestoreError> {
    while let Some((number, width)) = restore.due() {
        let tile = objects.get(&format!("ledger/{}", chancery_ledger::tile_path("0", number, width)));
        restore.bundle(&objects[&key(number, width)], tile.map(|bytes| bytes.as_ref()))?;
    }
    restore.finish_entries(None)
}

#[test]
fn in_steps_the_same_is_archived_as_at_once() {
    let live = Live::new();
    let (mut steps, mut from, mut heads) = (Objects::new(), 0, Vec::new());
    for more in [3, 252, 1, 300, 0, 511, 2] {
        live.grow(more);
        let head = live.head().checkpoint;
        add(&live.reader(), from, &head, &mut steps).expect("it is whole");
        from = head.size;
        heads.push(head);
    }
    let whole =
        |objects: &Objects| -> Vec<String> { objects.keys().filter(|key| !key.contains(".p/")).cloned().collect() };
    let mut once = Objects::new();
    let last = heads.last().expect("some");
    add(&live.reader(), 0, last, &mut once).expect("it is whole");
    assert_eq!(whole(&steps), whole(&once));
    assert!(once.iter().all(|(key, bytes)| steps.get(key) == Some(bytes)));
    // 1,070 entries: four whole bundles and tiles, a partial bundle, partial tiles of two levels.
    assert_eq!((last.size, once.len()), (1_070, 4 + 4 + 1 + 2));
    // Each head can be read from what is there: its own partial bundle, or the whole one that it became.
    for head in &heads {
        let mut range = chancery_ledger::Range::default();
        while range.size() < head.size {
            let (number, width) = (range.size() / WIDTH, (head.size - range.size()).min(WIDTH) as usize);
            let bytes = steps.get(&key(number, width)).unwrap_or_else(|| panic!("bundle {number} of {}", head.size));
            parse_bundle(bytes).expect("well-formed").iter().for_each(|line| range.push(leaf_hash(line)));
        }
        assert_eq!(range.root(), head.root);
    }
    // Whoever wants no more gets no more.
    let mut count = 0;
    let some = archive_entries(&live.reader(), 0, last, &mut |_| {
        count += 1;
        if count == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(some.is_ok() && count == 3);
}

#[test]
fn a_tile_that_is_gone_or_wrong_costs_time_only_and_a_changed_entry_is_not_archived() {
    let live = Live::new();
    live.grow(600);
    let first = live.end().checkpoint;
    let (sequencer, _recorder) = open(&live.ledger, &live.recordings);
    for _ in 0..100 {
        sequencer.append_entry(&Entry::Heartbeat, Level::Written).expect("running");
    }
    let head = sequencer.checkpoint().checkpoint;
    sequencer.write_through(head.size).expect("running");
    let reader = live.reader();
    assert!(begins_with(&reader, &first).expect("readable"));
    let mut good = Objects::new();
    add(&reader, first.size, &head, &mut good).expect("it is whole");
    assert!(live.ledger.tamper("tiles/0/00000000", |bytes| bytes[40] ^= 1));
    let mut same = Objects::new();
    add(&reader, first.size, &head, &mut same).expect("the tree is made anew");
    live.ledger.remove("tiles/0/00000000").expect("memory");
    add(&reader, first.size, &head, &mut same).expect("the tree is made anew");
    assert_eq!(good, same);
    assert!(begins_with(&reader, &first).expect("readable"));
    assert!(!begins_with(&reader, &Checkpoint { root: Digest([1; 32]), ..first.clone() }).expect("readable"));
    let longer = Checkpoint { size: head.size + 1, ..head.clone() };
    assert!(matches!(begins_with(&reader, &longer), Err(ArchiveError::Wrong(_))));
    // An entry of the first bundle, with a right checksum: only the root knows.
    live.ledger.tamper("entries/00000000000000000000.seg", |bytes| {
        let needle = b"\"k\":\"heartbeat\"";
        let at = bytes.windows(needle.len()).position(|window| window == needle).expect("there are some") + 5;
        let start = (16..at).rev().find(|start| bytes[start + 8..].starts_with(b"{\"b\":")).expect("a line");
        let length = u32::from_le_bytes(bytes[start..start + 4].try_into().expect("four")) as usize;
        bytes[at..at + 9].copy_from_slice(b"heartbeer");
        let mut frame = bytes[start..start + 8 + length].to_vec();
        crate::sequencer::check_frames(&mut frame);
        bytes[start..start + 8 + length].copy_from_slice(&frame);
    });
    let mut none = Objects::new();
    assert!(matches!(add(&reader, 0, &head, &mut none), Err(ArchiveError::Wrong(_))));
    assert!(none.is_empty(), "nothing of it was handed out");
}

#[tokio::test]
async fn recordings_are_handed_out_in_whole_blocks_and_go_on_where_they_ended() {
    let live = Live::new();
    live.session(1, true).await;
    let first = pieces(&live.recorded(), RecordingMark::default());
    assert_eq!((first.len(), first[0].mark.key().as_str()), (1, "recordings/000000000000/000000000000"));
    live.session(2, true).await;
    let next = pieces(&live.recorded(), after(&first[0]));
    let file = "files/000000000000.rec";
    let length = live.recordings.open(file).expect("it is there").length().expect("memory");
    assert_eq!((next.len(), after(&next[0]).offset), (1, length));
    assert!(pieces(&live.recorded(), after(&next[0])).is_empty());
    let mut other = next[0].clone();
    assert!(live.recorded().agrees(&other).expect("readable"));
    other.bytes = [other.bytes.as_ref(), b"of a lost end"].concat().into();
    assert!(live.recorded().agrees(&other).expect("readable"));
    other.mark.offset -= 1;
    assert!(!live.recorded().agrees(&other).expect("readable"));
    other.mark.file = 9;
    assert!(live.recorded().agrees(&other).expect("it may be gone"));
    // A block that is being written is not handed out, and neither is what follows.
    let torn = live.recordings.after_kill();
    torn.tamper(file, |bytes| {
        let begun = bytes[..100].to_vec();
        bytes.extend_from_slice(&begun);
    });
    let reader = RecordingReader::new(Arc::new(torn.clone()));
    assert!(pieces(&reader, after(&next[0])).is_empty());
    assert_eq!(pieces(&reader, RecordingMark::default())[0].bytes.len() as u64, length);
    // The next process has a file of its own; the one before is gone through to its end first.
    live.recorder.close();
    let (_sequencer, recorder) = open(&MemoryVolume::new(), &live.recordings);
    let spool = recorder.spool(SessionId([3; 16]));
    for _ in 0..8 {
        let mut bytes = vec![0; 900_000];
        crate::random(&mut bytes).expect("the kernel gives random bytes");
        let frame = Frame { at: Timestamp(7), kind: FrameKind::Output, command: 1, bytes: bytes.into() };
        assert!(spool.note(&frame).expect("room"));
        spool.sync().await.expect("the disk works");
    }
    let all = pieces(&live.recorded(), after(&first[0]));
    let files: Vec<u64> = all.iter().map(|piece| piece.mark.file).collect();
    assert!(files.is_sorted() && files[0] == 0 && files.iter().filter(|file| **file == 1).count() >= 2, "{files:?}");
    assert!(all.iter().all(|piece| piece.bytes.len() < PIECE_BYTES + (1 << 20) + 100));
    assert!(all.windows(2).all(|two| two[0].mark.file != two[1].mark.file || after(&two[0]) == two[1].mark));
}

#[tokio::test]
async fn what_comes_back_is_the_ledger() {
    let live = Live::new();
    live.session(1, true).await;
    live.grow(600);
    let middle = live.head();
    let open_one = live.session(2, false).await;
    let head = live.end();
    let (mut objects, to) = (Objects::new(), Temporary::new());
    add(&live.reader(), 0, &head.checkpoint, &mut objects).expect("it is whole");
    let seen = [middle.checkpoint.clone()];
    let mut restore = Restore::create(&to.0, &live.roots(), head.clone(), &seen).expect("a new directory");
    assert!(matches!(Restore::create(&to.0, "", head.clone(), &[]), Err(RestoreError::Exists(_))));
    fill(&mut restore, &objects).expect("it is whole");
    for piece in pieces(&live.recorded(), RecordingMark::default()) {
        restore.piece(piece.mark, &piece.bytes).expect("they meet");
    }
    let report = restore.finish().expect("readable");
    assert_eq!(report.head, head.checkpoint);
    assert_eq!((report.files, report.faults, report.lost, report.open), (1, vec![], vec![], vec![open_one]));
    let shared = |name| Arc::new(Directory::shared(&to.0.join(name)).expect("it is there"));
    let (ledger, recordings) = (LedgerReader::new(shared("ledger")), RecordingReader::new(shared("recordings")));
    let roots = Roots::parse(&live.roots()).expect("own roots");
    let outside = Outside { checkpoints: vec![middle.note], ..Outside::from(roots) };
    let verified = verify(&ledger, Some(&recordings), outside).expect("readable");
    assert_eq!((verified.size, verified.root), (head.checkpoint.size, head.checkpoint.root));
    // The one session that is open is all that is said.
    let said: Vec<_> = verified.findings.iter().filter(|one| one.verdict != Verdict::Pass).collect();
    assert!(matches!(said.as_slice(), [one] if one.check == chancery_ledger::Check::Sessions), "{said:?}");
    let lines = |reader: &LedgerReader| {
        let mut lines = Vec::new();
        let read = reader.visit(0, |_, item| match item {
            LedgerItem::Entry(line) => {
                lines.push(line.to_vec());
                ControlFlow::Continue(())
            }
            LedgerItem::Pruned(hash, _) => panic!("{hash} is pruned"),
            LedgerItem::Damaged(what) => panic!("{what}"),
        });
        read.expect("readable");
        lines
    };
    assert_eq!(lines(&ledger), lines(&live.reader()));
}

#[tokio::test]
async fn what_is_missing_or_changed_is_named() {
    let live = Live::new();
    let (lost, kept) = (live.session(1, true).await, live.session(2, true).await);
    live.grow(300);
    let head = live.end();
    let mut objects = Objects::new();
    add(&live.reader(), 0, &head.checkpoint, &mut objects).expect("it is whole");
    let all = pieces(&live.recorded(), RecordingMark::default());
    let begin = |seen: &[Checkpoint]| {
        let to = Temporary::new();
        (Restore::create(&to.0, &live.roots(), head.clone(), seen).expect("a new directory"), to)
    };
    // Without its recordings: the file, and both sessions, by the entries that speak of them.
    let (mut restore, _to) = begin(&[]);
    fill(&mut restore, &objects).expect("it is whole");
    let report = restore.finish().expect("readable");
    assert_eq!(report.faults.len(), 1);
    let sessions: Vec<_> = report.lost.iter().map(|one| (one.session, one.entries)).collect();
    assert_eq!(sessions, [(lost, 1), (kept, 1)]);
    // Cut after the first session's block, and behind a gap.
    let (mut restore, _to) = begin(&[]);
    fill(&mut restore, &objects).expect("it is whole");
    let first = all[0].bytes.len() / 2;
    restore.piece(RecordingMark::default(), &all[0].bytes[..first]).expect("the first");
    let gap = RecordingMark { file: 0, offset: first as u64 + 1 };
    assert!(matches!(restore.piece(gap, b"x"), Err(RestoreError::Pieces { file: 0, .. })));
    let report = restore.finish().expect("readable");
    assert!(report.faults[0].what.starts_with("only "), "{}", report.faults[0].what);
    assert_eq!(report.lost.iter().map(|one| one.session).collect::<Vec<_>>(), [kept]);
    // What the archive has beyond the stated length does not count.
    let (mut restore, _to) = begin(&[]);
    fill(&mut restore, &objects).expect("it is whole");
    restore.piece(RecordingMark::default(), &all[0].bytes).expect("the first");
    restore.piece(after(&all[0]), &all[0].bytes).expect("they meet");
    let report = restore.finish().expect("readable");
    assert_eq!((report.faults, report.lost, report.bytes), (vec![], vec![], all[0].bytes.len() as u64));
    // A changed entry, with and without a tile; a bundle that is short; another history.
    let (number, width) = (0, 256);
    let mut changed = objects.clone();
    let mut bytes = objects[&key(number, width)].to_vec();
    let at = bytes.windows(12).rposition(|window| window == b"\"heartbeat\",").expect("there are some");
    bytes[at + 1] = b'H';
    changed.insert(key(number, width), bytes.into());
    assert!(matches!(fill(&mut begin(&[]).0, &changed), Err(RestoreError::Changed(255))));
    changed.remove("ledger/tile/0/000");
    assert!(matches!(fill(&mut begin(&[]).0, &changed), Err(RestoreError::Root(_))));
    changed.insert(key(number, width), objects[&key(number, width)].slice(..1_000));
    assert!(matches!(fill(&mut begin(&[]).0, &changed), Err(RestoreError::Bundle(0))));
    let other = Checkpoint { origin: ORIGIN.into(), size: 100, root: Digest([1; 32]) };
    assert!(matches!(fill(&mut begin(&[other]).0, &objects), Err(RestoreError::Fork(100))));
}

/// Puts hashes in the place of these entries of the first segment, as a run of retention does.
fn prune(ledger: &MemoryVolume, gone: std::ops::Range<u64>) {
    let changed = ledger.tamper("entries/00000000000000000000.seg", |bytes| {
        let (mut out, mut at, mut index) = (bytes[..segment::HEADER_BYTES].to_vec(), segment::HEADER_BYTES, 0);
        loop {
            let after = match segment::next(bytes, at) {
                segment::Next::Entry(line, after) if gone.contains(&index) => {
                    segment::pruned_frame(&mut out, &leaf_hash(line));
                    (at, index) = (after, index + 1);
                    continue;
                }
                segment::Next::Entry(_, after) | segment::Next::Pruned(_, after) => after,
                _ => break,
            };
            out.extend_from_slice(&bytes[at..after]);
            (at, index) = (after, index + 1);
        }
        *bytes = out;
    });
    assert!(changed);
}

#[test]
fn what_is_archived_may_be_pruned_and_what_is_not_stops_the_archive() {
    let live = Live::new();
    live.grow(600);
    let first = live.head().checkpoint;
    live.grow(300);
    let head = live.end().checkpoint;
    let mut objects = Objects::new();
    add(&live.reader(), 0, &first, &mut objects).expect("it is whole");
    // All that is archived in whole bundles: what follows is archived as if nothing had happened.
    let (mut before, mut after) = (Objects::new(), Objects::new());
    add(&live.reader(), first.size, &head, &mut before).expect("it is whole");
    prune(&live.ledger, 0..512);
    add(&live.reader(), first.size, &head, &mut after).expect("it was archived before");
    assert_eq!(before, after);
    assert!(begins_with(&live.reader(), &first).expect("readable"));
    // Without its tiles, too: the tree is made of what is there.
    live.ledger.remove("tiles/0/00000000").expect("memory");
    add(&live.reader(), first.size, &head, &mut after).expect("the tree is made anew");
    assert_eq!(before, after);
    // Whoever begins anew has the first entry that is missing named, and nothing handed out.
    let mut none = Objects::new();
    assert!(matches!(add(&live.reader(), 0, &head, &mut none), Err(ArchiveError::Pruned(0))));
    // One entry behind what was archived.
    prune(&live.ledger, 700..701);
    assert!(matches!(add(&live.reader(), first.size, &head, &mut none), Err(ArchiveError::Pruned(700))));
    assert!(none.is_empty());
    // A hash that is not that of the entry is another ledger.
    live.ledger.tamper("entries/00000000000000000000.seg", |bytes| {
        let (hash, mut frame) = (Digest([1; 32]), Vec::new());
        segment::pruned_frame(&mut frame, &hash);
        bytes[segment::HEADER_BYTES..segment::HEADER_BYTES + frame.len()].copy_from_slice(&frame);
    });
    assert!(matches!(add(&live.reader(), first.size, &head, &mut none), Err(ArchiveError::Wrong(_))));
}
