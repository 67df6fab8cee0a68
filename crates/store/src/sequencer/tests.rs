use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use chancery_ledger::{
    ActStart, AddCheckpoint, Check, Crash, EntryKind, Leaf, LogVerifier, SessionOpen, Verdict, Verifier, WitnessedLog,
    stage,
};
use chancery_model::{Durability as Profile, Effect, ResourceName, RuleId, SessionId};

use super::*;

const ORIGIN: &str = "gw.test/a";
const SESSION: SessionId = SessionId([5; 16]);

/// A temporary directory, removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let mut id = [0; 8];
        crate::random(&mut id).expect("the kernel gives random bytes");
        let path = std::env::temp_dir().join(format!("chancery-store-{:016x}", u64::from_be_bytes(id)));
        std::fs::create_dir(&path).expect("a fresh name");
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
enum Subject {
    Open(ResourceName),
    Start(u64, ResourceName, Vec<RuleId>),
    Beat,
}

impl ToEntry for Subject {
    fn entry(&self) -> Entry<'_> {
        match self {
            Self::Open(resource) => Entry::SessionOpen(SessionOpen {
                session: SESSION,
                chain: [1; 16],
                resource,
                rules: Digest([2; 32]),
                rule_ids: &[],
                protocol: "postgres",
                method: "oidc",
                profile: Profile::Balanced,
            }),
            Self::Start(command, resource, rule_ids) => Entry::ActStart(ActStart {
                session: SESSION,
                command: *command,
                chain: [1; 16],
                resource,
                rules: Digest([2; 32]),
                decision: "allow",
                rule_ids,
                effect: Effect::Read,
                fingerprint: Digest([3; 32]),
                digest: Digest([4; 32]),
                review: None,
                profile: Profile::Balanced,
            }),
            Self::Beat => Entry::Heartbeat,
        }
    }
}

fn resource() -> ResourceName {
    ResourceName::parse("billing").expect("well-formed")
}

fn signer() -> LogSigner {
    LogSigner::from_seed(ORIGIN, &[9; 32]).expect("a seed")
}

/// A clock that goes one millisecond per reading, from `start` seconds.
fn clock(start: i64) -> Clock {
    let now = AtomicI64::new(start * 1_000_000);
    Arc::new(move || {
        let at = now.fetch_add(1_000, Ordering::SeqCst);
        Stamp { wall: Timestamp(at), mono: at }
    })
}

fn options(start: i64) -> Options {
    Options { reserve_bytes: 1, checkpoint: Duration::ZERO, ..Options::new(clock(start), [start as u8; 16]) }
}

fn open(volume: Arc<dyn Volume>, start: i64) -> Result<(Sequencer, Recovery), OpenError> {
    Sequencer::open(volume.clone(), volume, signer(), ORIGIN, options(start))
}

/// The roots of a ledger that nobody changed yet.
fn roots(volume: Arc<dyn Volume>) -> Roots {
    let mut first = None;
    let visited = LedgerReader::new(volume).visit(0, |index, item| {
        if let LedgerItem::Entry(line) = item {
            first = Leaf::parse(line, index).ok().and_then(|leaf| leaf.epoch().flatten());
        }
        ControlFlow::Break(())
    });
    visited.expect("readable");
    let text = Roots::text(&signer().verifier_key(), &first.expect("it begins with an epoch").key);
    Roots::parse(&text.expect("own key")).expect("own roots")
}

fn report(volume: Arc<dyn Volume>) -> chancery_ledger::Report {
    let roots = roots(volume.clone());
    verify(&LedgerReader::new(volume), None, roots).expect("readable")
}

/// Opens a session and starts `n` commands, written.
fn work(sequencer: &Sequencer, n: u64) {
    for subject in [Subject::Open(resource())].into_iter().chain((1..=n).map(start)) {
        let appended = sequencer.append(stage(subject), Level::Written).expect("running");
        assert!(matches!(appended, Appended::Recorded(_)));
    }
}

fn start(command: u64) -> Subject {
    Subject::Start(command, resource(), vec![RuleId("r1".into())])
}

fn kinds(volume: Arc<dyn Volume>) -> Vec<EntryKind> {
    leaves(volume).into_iter().filter_map(|leaf| leaf.kind).collect()
}

/// Reasons of the `stall` entries, with what was refused and how long they lasted.
fn stalls(volume: Arc<dyn Volume>) -> Vec<(String, Option<u64>, Option<u64>)> {
    let number = |leaf: &Leaf, name| leaf.rest.get(name).and_then(serde_json::Value::as_u64);
    let told = |leaf: Leaf| {
        let reason = leaf.rest.get("reason").and_then(serde_json::Value::as_str).expect("a stall has a reason");
        (reason.to_owned(), number(&leaf, "refused"), number(&leaf, "us"))
    };
    leaves(volume).into_iter().filter(|leaf| leaf.kind == Some(EntryKind::Stall)).map(told).collect()
}

fn leaves(volume: Arc<dyn Volume>) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    let visited = LedgerReader::new(volume).visit(0, |index, item| {
        let LedgerItem::Entry(line) = item else { panic!("damaged at {index}") };
        leaves.push(Leaf::parse(line, index).expect("well-formed"));
        ControlFlow::Continue(())
    });
    visited.expect("readable");
    leaves
}

use super::reader::Item as LedgerItem;

#[tokio::test]
async fn every_level_gives_the_subject_back() {
    let directory = Temporary::new();
    let volume: Arc<dyn Volume> = Arc::new(Directory::exclusive(&directory.0).expect("a new directory"));
    let (sequencer, recovery) = open(volume.clone(), 100).expect("a new ledger");
    assert_eq!(recovery.size, 0);
    work(&sequencer, 1);
    for alone in [true, false] {
        let pending = if alone {
            let appended = sequencer.append(stage(Subject::Beat), Level::Durable).expect("running");
            let Appended::Pending(pending) = appended else { panic!("not yet on disk") };
            pending
        } else {
            sequencer.appending().durable(stage(Subject::Beat)).expect("running")
        };
        let index = pending.index();
        let recorded = pending.recorded().await.expect("the disk works");
        assert_eq!(recorded.entry_ref().map(|at| at.index), Some(index));
        assert!(sequencer.durable() > index);
    }
    let mut appending = sequencer.appending();
    let many = [start(2), start(3)].map(|one| appending.durable(stage(one)).expect("running"));
    drop(appending);
    for one in many {
        let _ = one.recorded().await.expect("the disk works");
    }
    assert!(Directory::exclusive(&directory.0).is_err(), "one writer only");
    sequencer.close();
    assert_eq!(sequencer.append(stage(Subject::Beat), Level::Written).err(), Some(Stall::Closed));
    drop(sequencer);
    let report = report(volume.clone());
    assert_eq!(report.size, 7);
    assert_ne!(report.verdict(), Verdict::Fail, "{report:?}");
    drop(volume);
    let volume: Arc<dyn Volume> = Arc::new(Directory::exclusive(&directory.0).expect("the lock went"));
    let (sequencer, recovery) = open(volume, 200).expect("a ledger");
    assert_eq!((recovery.size, recovery.crashes), (7, 4));
    sequencer.close();
}

#[test]
fn a_killed_process_loses_nothing_written_and_leaves_nothing_open() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    work(&sequencer, 3);
    let after = volume.after_kill();
    drop(sequencer);
    let (sequencer, recovery) = open(Arc::new(after.clone()), 200).expect("recoverable");
    assert_eq!((recovery.size, recovery.crashes), (5, 4));
    sequencer.close();
    let report = report(Arc::new(after.clone()));
    let doubts: Vec<_> = report.findings.iter().filter(|finding| finding.verdict != Verdict::Pass).collect();
    assert_eq!(doubts.len(), 1, "only recordings were not handed in: {doubts:?}");
    let kinds = kinds(Arc::new(after));
    assert_eq!((kinds[5], &kinds[6..]), (EntryKind::KeyEpoch, [EntryKind::Crash; 4].as_slice()));
}

#[tokio::test]
async fn lost_power_loses_nothing_durable() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    work(&sequencer, 2);
    sequencer.synced().await.expect("the disk works");
    let after = volume.after_power_loss();
    let (_sequencer, recovery) = open(Arc::new(after), 200).expect("recoverable");
    assert_eq!(recovery.size, 4);
}

#[test]
fn a_copy_at_any_moment_opens_again() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    work(&sequencer, 0);
    for command in 1..=40 {
        let appended = sequencer.append(stage(start(command)), Level::Written).expect("running");
        drop(appended);
        let (copy, recovery) = open(Arc::new(volume.after_kill()), 200).expect("recoverable");
        assert_eq!(recovery.size, command + 2, "what was written is there");
        copy.close();
    }
}

#[test]
fn a_torn_tail_is_cut_only_beyond_what_is_signed() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    work(&sequencer, 3);
    sequencer.close();
    let (sequencer, _) = open(Arc::new(volume.clone()), 200).expect("a ledger");
    sequencer.close();
    let name = segment::name(0);
    let signed = volume.after_kill();
    let beyond = volume.after_kill();
    let mut end = 0;
    beyond.tamper(&name, |bytes| {
        end = bytes.iter().rposition(|b| *b != 0).expect("entries") + 1;
        bytes[end..end + 20].copy_from_slice(&[200, 0, 0, 0, 1, 2, 3, 4, b'{', 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    });
    let (sequencer, recovery) = open(Arc::new(beyond), 300).expect("cut");
    assert_eq!((recovery.size, recovery.cut_bytes), (10, 20));
    sequencer.close();
    signed.tamper(&name, |bytes| bytes[end - 5] ^= 1);
    let error = open(Arc::new(signed), 300).expect_err("signed entries may not be cut");
    assert!(matches!(error, OpenError::Damaged { index: 9, .. }), "{error}");
}

#[test]
fn a_ledger_cut_below_its_checkpoint_or_with_a_clock_behind_is_not_opened() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    work(&sequencer, 3);
    sequencer.close();
    assert!(matches!(open(Arc::new(volume.after_kill()), 50), Err(OpenError::ClockBehind { .. })));
    let cut = volume.after_kill();
    cut.tamper(&segment::name(0), |bytes| bytes[HEADER_LIMIT..].fill(0));
    assert!(matches!(open(Arc::new(cut), 200), Err(OpenError::Truncated { found: 0, signed: 5 })));
}

const HEADER_LIMIT: usize = segment::HEADER_BYTES;

#[tokio::test]
async fn a_failed_sync_ends_the_sequencer_for_ever() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    sequencer.synced().await.expect("the disk works");
    volume.fail_syncs(true);
    let Ok(Appended::Pending(pending)) = sequencer.append(stage(Subject::Beat), Level::Durable) else {
        panic!("not yet on disk")
    };
    assert!(matches!(pending.recorded().await, Err(Stall::Failed(_))));
    volume.fail_syncs(false);
    assert!(matches!(sequencer.append(stage(Subject::Beat), Level::Written), Err(Stall::Failed(_))));
    assert!(matches!(sequencer.stalled(), Some(Stall::Failed(_))));
}

#[tokio::test]
async fn a_failed_write_refuses_the_subject() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    sequencer.synced().await.expect("the disk works");
    volume.fail_writes(true);
    assert!(matches!(sequencer.append(stage(Subject::Beat), Level::Written), Err(Stall::Failed(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_what_opens_takes_what_closes_and_recovers() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    work(&sequencer, 1);
    sequencer.synced().await.expect("the disk works");
    volume.fill(true);
    // What is left ahead is used up by beginnings; then they are refused, and an end is still taken.
    let refused = loop {
        if let Err(stall) = sequencer.append(stage(Subject::Beat), Level::Written) {
            break stall;
        }
    };
    assert_eq!(refused, Stall::DiskFull);
    for _ in 0..10 {
        assert!(sequencer.append(stage(Subject::Beat), Level::Written).is_err());
    }
    let crash = Entry::Crash(Crash { session: SESSION, command: Some(1) });
    sequencer.append_entry(&crash, Level::Written).expect("there is room to close");
    volume.fill(false);
    // Each sync is a round of the thread, which looks at the space once a second.
    let mut rounds = 0;
    while sequencer.stalled().is_some() {
        sequencer.synced().await.expect("the disk works");
        tokio::time::sleep(Duration::from_millis(20)).await;
        rounds += 1;
        assert!(rounds < 500, "the space is there again");
    }
    sequencer.append(stage(Subject::Beat), Level::Written).expect("running again");
    sequencer.close();
    let told = stalls(Arc::new(volume));
    assert_eq!(told[0], ("disk-full".to_owned(), None, None));
    let (reason, refused, lasted) = &told[1];
    assert_eq!((reason.as_str(), told.len()), ("disk-full", 2));
    assert!(refused.is_some_and(|refused| refused > 0) && lasted.is_some_and(|us| us > 0), "{told:?}");
}

#[tokio::test]
async fn a_clock_that_is_behind_refuses_and_the_time_is_told_when_it_is_right() {
    let volume = MemoryVolume::new();
    let (back, mono) = (Arc::new(AtomicI64::new(0)), AtomicI64::new(0));
    let set = back.clone();
    let clock: Clock = Arc::new(move || {
        let at = mono.fetch_add(1_000, Ordering::SeqCst);
        Stamp { wall: Timestamp(10_000_000_000 + at - set.load(Ordering::SeqCst)), mono: at }
    });
    let options = Options { clock, ..options(100) };
    let shared: Arc<dyn Volume> = Arc::new(volume.clone());
    let (sequencer, _) = Sequencer::open(shared.clone(), shared, signer(), ORIGIN, options).expect("a new ledger");
    work(&sequencer, 1);
    back.store(7_200_000_000, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(sequencer.append(stage(Subject::Beat), Level::Written).err(), Some(Stall::Clock));
    }
    back.store(0, Ordering::SeqCst);
    sequencer.append(stage(Subject::Beat), Level::Written).expect("running again");
    sequencer.append(stage(Subject::Beat), Level::Written).expect("it is told once");
    sequencer.close();
    let volume: Arc<dyn Volume> = Arc::new(volume);
    let told = stalls(volume.clone());
    assert_eq!((told.len(), told[0].0.as_str(), told[0].1), (1, "clock", Some(3)));
    assert!(told[0].2.is_some_and(|us| (3_000..60_000_000).contains(&us)), "{told:?}");
    assert_ne!(report(volume).verdict(), Verdict::Fail);
}

#[test]
fn entries_that_do_not_fit_are_refused_and_leave_no_trace() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    assert!(matches!(sequencer.append(stage(start(1)), Level::Written), Err(Stall::Refused(_))));
    assert_eq!(sequencer.size(), 1);
    work(&sequencer, 1);
    sequencer.close();
    assert_eq!(kinds(Arc::new(volume)), [EntryKind::KeyEpoch, EntryKind::SessionOpen, EntryKind::ActStart]);
}

#[tokio::test]
async fn segments_rotate_and_the_whole_is_read_back() {
    let volume = MemoryVolume::new();
    let options = Options { segment_bytes: 8 * 1024, ..options(100) };
    let (sequencer, _) = Sequencer::open(Arc::new(volume.clone()), Arc::new(volume.clone()), signer(), ORIGIN, options)
        .expect("a new ledger");
    for _ in 0..20 {
        for _ in 0..30 {
            let _ = sequencer.append(stage(Subject::Beat), Level::Written).expect("running");
        }
        sequencer.synced().await.expect("the disk works");
        sequencer.synced().await.expect("the disk works");
    }
    sequencer.close();
    assert!(volume.list("entries").expect("memory").len() > 3);
    let tile = volume.open("tiles/0/00000000").expect("written");
    assert_eq!(tile.length().expect("memory"), 2 * 256 * 32);
    let found = report(Arc::new(volume.clone()));
    assert_eq!(found.size, 601);
    assert_ne!(found.verdict(), Verdict::Fail, "{found:?}");
    let (_sequencer, recovery) = open(Arc::new(volume), 900).expect("a ledger");
    assert_eq!(recovery.size, 601);
}

/// Nobody waits for a tile to reach the disk: what a loss of power can leave of it does no harm and is made again.
#[tokio::test]
async fn tiles_that_power_took_are_made_again() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    for _ in 0..600 {
        sequencer.appending().leave(stage(Subject::Beat)).expect("running");
    }
    sequencer.close();
    let (name, size) = ("tiles/0/00000000", 2 * 256 * 32);
    let tiles = |volume: &MemoryVolume| {
        let blob = volume.open(name).expect("there");
        let mut bytes = vec![0; blob.length().expect("memory") as usize];
        assert_eq!(blob.read_at(0, &mut bytes).expect("memory"), bytes.len());
        bytes
    };
    let whole = tiles(&volume);
    assert_eq!(whole.len(), size);
    let holed = [&[0; 256 * 32], &whole[256 * 32..]].concat();
    let cut = whole[..size - 40].to_vec();
    for (start, damaged) in (101..).zip([Some(holed), Some(cut), Some(Vec::new()), None]) {
        match &damaged {
            Some(bytes) => volume.replace(name, bytes).expect("memory"),
            None => volume.remove(name).expect("memory"),
        }
        let found = report(Arc::new(volume.clone()));
        assert_ne!(found.verdict(), Verdict::Fail, "what is absent accuses no entry: {found:?}");
        drop(open(Arc::new(volume.clone()), start).expect("a ledger"));
        assert!(tiles(&volume) == whole, "made again: {:?}", damaged.map(|bytes| bytes.len()));
    }
}

#[tokio::test]
async fn many_threads_share_one_order() {
    let directory = Temporary::new();
    let volume: Arc<dyn Volume> = Arc::new(Directory::exclusive(Path::new(&directory.0)).expect("a new directory"));
    let (sequencer, _) = open(volume.clone(), 100).expect("a new ledger");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..200 {
                    let level = if i % 3 == 0 { Level::Durable } else { Level::Written };
                    let _ = sequencer.append(stage(Subject::Beat), level).expect("running");
                }
            });
        }
    });
    sequencer.close();
    let found = report(volume);
    assert_eq!(found.size, 801);
    assert_ne!(found.verdict(), Verdict::Fail, "{found:?}");
}

/// The head may be asked for at any time: while leaf hashes wait, are taken, and are folded.
#[test]
fn every_head_that_is_signed_is_that_of_the_entries() {
    let volume = MemoryVolume::new();
    let options = Options { flush: Duration::from_micros(200), ..options(100) };
    let (sequencer, _) = Sequencer::open(Arc::new(volume.clone()), Arc::new(volume.clone()), signer(), ORIGIN, options)
        .expect("a new ledger");
    let mut heads = vec![sequencer.checkpoint()];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    let _ = sequencer.appending().placed(stage(Subject::Beat)).expect("running");
                }
            });
        }
        while sequencer.size() < 2_001 {
            heads.push(sequencer.checkpoint());
        }
    });
    heads.push(sequencer.checkpoint());
    sequencer.close();
    heads.push(sequencer.checkpoint());
    assert_eq!(heads.last().map(|head| head.checkpoint.size), Some(2_001));
    let mut verifier = Verifier::new(roots(Arc::new(volume.clone())));
    let reader = LedgerReader::new(Arc::new(volume));
    let stored = reader.checkpoints().expect("readable");
    stored.iter().chain(heads.iter().map(|head| &head.note)).for_each(|note| verifier.checkpoint(note));
    let visited = reader.visit(0, |_, item| {
        if let LedgerItem::Entry(line) = item {
            verifier.entry(line);
        }
        ControlFlow::Continue(())
    });
    visited.expect("readable");
    let found = verifier.finish();
    assert_eq!(found.size, 2_001);
    for check in [Check::Checkpoints, Check::Ladder] {
        let heads = found.finding(check).expect("made");
        assert_eq!(heads.verdict, Verdict::Pass, "{heads}");
    }
}

#[tokio::test]
async fn epochs_end_in_time_and_their_keys_go() {
    let volume = MemoryVolume::new();
    let seeds = |volume: &MemoryVolume| {
        let blob = volume.open("epoch").expect("there");
        let mut bytes = vec![0; blob.length().expect("memory") as usize];
        assert_eq!(blob.read_at(0, &mut bytes).expect("memory"), bytes.len());
        let text = String::from_utf8(bytes).expect("text");
        text.lines().map(|line| line.split_once(' ').expect("two words").0.to_owned()).collect::<Vec<_>>()
    };
    let options = Options { epoch: Duration::from_millis(2), ..options(100) };
    let (shared, keys) = (Arc::new(volume.clone()), Arc::new(volume.clone()));
    let (sequencer, _) = Sequencer::open(shared, keys, signer(), ORIGIN, options).expect("a new ledger");
    for _ in 0..40 {
        let _ = sequencer.append(stage(Subject::Beat), Level::Written).expect("running");
        sequencer.synced().await.expect("the disk works");
        assert!(seeds(&volume).len() <= 2, "the key before goes when its end is on disk");
        // Whatever the moment, what is on disk can be continued.
        let (copy, _) = open(Arc::new(volume.after_power_loss()), 200).expect("recoverable");
        copy.close();
    }
    sequencer.close();
    let found = report(Arc::new(volume.clone()));
    let finding = |check| found.finding(check).map(|finding| finding.verdict);
    assert_eq!(finding(Check::Ladder), Some(Verdict::Pass), "{found:?}");
    assert_eq!(finding(Check::Checkpoints), Some(Verdict::Pass), "{found:?}");
    let epochs = kinds(Arc::new(volume.clone())).iter().filter(|kind| **kind == EntryKind::KeyEpoch).count();
    assert!(epochs > 5, "{epochs}");
    assert_eq!(seeds(&volume).last(), Some(&(epochs - 1).to_string()));

    let (sequencer, _) = open(Arc::new(volume.clone()), 200).expect("a ledger");
    sequencer.close();
    let rolled = seeds(&volume);
    volume.remove("epoch").expect("memory");
    let error = open(Arc::new(volume), 201).expect_err("nobody can end the epoch");
    assert!(matches!(error, OpenError::EpochKey { number } if rolled == [number.to_string()]), "{error} {rolled:?}");
}

/// An epoch that is over while there is no room for its end ends when there is; the ledger does not end with it.
#[tokio::test]
async fn a_full_disk_puts_the_end_of_an_epoch_off() {
    let (volume, keys) = (MemoryVolume::new(), MemoryVolume::new());
    let options = Options { epoch: Duration::from_millis(1), ahead_bytes: 16 * 1024, ..options(100) };
    let (shared, kept) = (Arc::new(volume.clone()), Arc::new(keys));
    let (sequencer, _) = Sequencer::open(shared, kept, signer(), ORIGIN, options).expect("a new ledger");
    sequencer.synced().await.expect("the disk works");
    volume.fill(true);
    // Beginnings use up what is ahead, then ends what was kept for them.
    while sequencer.append(stage(Subject::Beat), Level::Written).is_ok() {}
    let closing = Entry::Alert(chancery_ledger::Alert { code: "test", session: None });
    while sequencer.append_entry(&closing, Level::Written).is_ok() {}
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        sequencer.synced().await.expect("what is there is on disk");
    }
    let epochs = || kinds(Arc::new(volume.clone())).iter().filter(|kind| **kind == EntryKind::KeyEpoch).count();
    let before = epochs();
    volume.fill(false);
    let mut rounds = 0;
    while sequencer.stalled().is_some() || epochs() == before {
        tokio::time::sleep(Duration::from_millis(50)).await;
        sequencer.synced().await.expect("the ledger goes on");
        rounds += 1;
        assert!(rounds < 200, "the space is there again");
    }
    sequencer.close();
    assert_ne!(report(Arc::new(volume)).verdict(), Verdict::Fail);
}

/// A witness that follows the log by its proofs, and what becomes of a log that is not the one it saw.
#[tokio::test]
async fn a_witness_follows_the_log_and_a_conflict_freezes_it() {
    let volume = MemoryVolume::new();
    let (sequencer, _) = open(Arc::new(volume.clone()), 100).expect("a new ledger");
    let log = LogVerifier::parse(&signer().verifier_key()).expect("own key");
    let mut witnessed = WitnessedLog::new(log.clone());
    let mut sizes = Vec::new();
    for count in [1, 3, 200, 60, 700, 1] {
        for _ in 0..count {
            sequencer.appending().leave(stage(Subject::Beat)).expect("running");
        }
        let note = loop {
            // A round signs what the round before it synced.
            sequencer.synced().await.expect("the disk works");
            let Some(note) = sequencer.published().expect("readable") else { continue };
            if log.open(&note).is_ok_and(|signed| signed.checkpoint.size == sequencer.size()) {
                break note;
            }
        };
        let size = sequencer.size();
        let proof = match witnessed.size {
            0 => Vec::new(),
            old => sequencer.consistency(old, size).expect("all tiles are there"),
        };
        let head = witnessed.judge(&AddCheckpoint { old: witnessed.size, proof, note }).expect("it only grew");
        (witnessed.size, witnessed.root) = (head.size, head.root);
        sizes.push(size);
    }
    assert_eq!(sizes, [2, 5, 205, 265, 965, 966]);
    assert!(sequencer.consistency(10, 99_999).is_err(), "what is not there proves nothing");
    sequencer.freeze("witness w1: it cosigned 9 entries, and there are 8");
    assert_eq!(sequencer.append(stage(Subject::Beat), Level::Written).err(), Some(Stall::Frozen));
    assert_eq!(sequencer.synced().await, Err(Stall::Frozen));
    drop(sequencer);
    let error = open(Arc::new(volume.clone()), 200).expect_err("for good");
    assert!(matches!(&error, OpenError::Frozen(why) if why.ends_with("there are 8")), "{error}");
    assert_ne!(report(Arc::new(volume)).verdict(), Verdict::Fail, "what is there can be verified");
}
