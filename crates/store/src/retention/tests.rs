//! Retention over a ledger and recordings in memory and a catalog on disk. No clock is read: what is old was written so.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex as Lock;
use std::sync::atomic::{AtomicBool, Ordering};

use chancery_ledger::{
    Check, Frame, FrameKind, LogSigner, LogVerifier, RecordingSegment, SessionClose, SessionOpen, ToFrame, Verdict,
    stage_frame,
};
use chancery_model::{Actor, Delegation, Durability, Principal, PrincipalKind, ResourceName, SessionId};

use super::*;
use crate::sequencer::Blob;
use crate::{
    MemoryVolume, Options, Recorder, RecorderOptions, SessionNote, SessionRecord, system_clock, verify as verify_ledger,
};

const DAY: i64 = DAY_US;
const ORIGIN: &str = "gw.test/a";
const ISSUER: &str = "https://login.example";

/// A volume of which nothing can be removed, and no segment replaced, while it is stuck.
pub(super) struct Sticky(pub(super) MemoryVolume, pub(super) AtomicBool);

impl Volume for Sticky {
    fn list(&self, under: &str) -> io::Result<Vec<String>> {
        self.0.list(under)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        self.0.open(name)
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn Blob>> {
        self.0.create(name)
    }
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if name.starts_with("entries/") && self.1.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.0.replace(name, bytes)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.0.remove(name)
    }
    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

struct Shown(i64);

impl ToFrame for Shown {
    fn frame(&self) -> Frame<'_> {
        Frame { at: Timestamp(self.0), kind: FrameKind::Output, command: 1, bytes: b"row".into() }
    }
}

struct House {
    path: std::path::PathBuf,
    catalog: Catalog,
    ledger: MemoryVolume,
    recordings: Arc<Sticky>,
    sealed: MemoryVolume,
    sequencer: Sequencer,
    retention: Retention,
}

impl Drop for House {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

fn id(n: u8) -> SessionId {
    SessionId([n; 16])
}

fn chain(subject: &str, actor: &str) -> Delegation {
    let actor = Actor { issuer: ISSUER.to_owned(), subject: actor.to_owned(), kind: PrincipalKind::Agent };
    let principal = Principal {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        kind: PrincipalKind::User,
        display: subject.to_owned(),
        groups: Vec::new(),
    };
    Delegation { principal, actors: vec![actor] }
}

impl House {
    /// File n holds session n, which lived from day n to day n + 1. Session 2 is still open.
    async fn new() -> Self {
        let mut random = [0; 8];
        crate::random(&mut random).unwrap();
        let path = std::env::temp_dir().join(format!("chancery-retention-{:016x}", u64::from_be_bytes(random)));
        std::fs::create_dir(&path).unwrap();
        let catalog = Catalog::create(&path.join("catalog.sqlite")).await.unwrap();
        let (ledger, memory) = (MemoryVolume::new(), MemoryVolume::new());
        let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).unwrap();
        let options = Options { reserve_bytes: 1, ..Options::new(system_clock(), [9; 16]) };
        let (volume, keys) = (Arc::new(ledger.clone()), Arc::new(MemoryVolume::new()));
        let (sequencer, _) = Sequencer::open(volume, keys, signer, ORIGIN, options).unwrap();
        for n in 0..3 {
            write(&memory, &sequencer, n).await;
        }
        let recordings = Arc::new(Sticky(memory, AtomicBool::new(false)));
        let limits = RetentionLimits { ledger_days: 10, recordings_days: 10, sealed_days: 10 };
        let shelves = Shelves::new(catalog.clone(), recordings.clone(), Arc::new(ledger.clone()), limits);
        let sealed = MemoryVolume::new();
        let shelves = shelves.with_originals(Arc::new(sealed.clone()));
        let retention = Retention::new(shelves, sequencer.clone());
        let house = Self { path, catalog, ledger, recordings, sealed, sequencer, retention };
        for n in 0..3 {
            house.row(n, (n < 2).then_some(i64::from(n + 1) * DAY)).await;
        }
        house
    }
    async fn row(&self, n: u8, ended: Option<i64>) {
        let who =
            chain(["ada", "bob", "eve"][usize::from(n % 3)], ["agent-a", "agent-b", "agent-e"][usize::from(n % 3)]);
        let started_at = Timestamp(i64::from(n) * DAY);
        self.catalog.remember_chain([n; 16], &who, started_at).await.unwrap();
        let opened = SessionRecord {
            id: id(n),
            resource: ResourceName::parse("shop").unwrap(),
            chain_id: [n; 16],
            chain: "somebody".to_owned(),
            client: "127.0.0.1".to_owned(),
            started_at,
            ended_at: None,
            ending: None,
            commands: 0,
            last_activity: started_at,
        };
        let closed =
            ended.map(|at| SessionNote::Closed { id: id(n), ending: "client", commands: 1, at: Timestamp(at) });
        let notes: Vec<_> = [SessionNote::Opened(opened)].into_iter().chain(closed).collect();
        self.catalog.note_sessions(&notes).await.unwrap();
    }
    async fn run(&self, day: i64) -> (RunRecord, Vec<(u64, Judgement)>) {
        let mut seen = Vec::new();
        let each = |one: &Planned| seen.push((number(one), one.judgement()));
        let done = self.retention.run(None, || Timestamp(day * DAY), Duration::ZERO, each).await;
        (done.unwrap(), seen)
    }
    fn files(&self) -> Vec<String> {
        self.recordings.list("files").unwrap()
    }
    fn hold(&self, n: u8, scope: HoldScope) -> LegalHold {
        let (reason, set_by) = ("case 12/2026".to_owned(), "operator".to_owned());
        LegalHold { id: [n; 16], scope, reason, salt: [7; 32], set_at: Timestamp(5), set_by, lifted: None }
    }
    async fn lift(&self, n: u8) -> Result<(), RetentionError> {
        let lift = Lift { at: Timestamp(6), by: "operator".to_owned(), reason: "closed".to_owned(), salt: [8; 32] };
        self.retention.lift_hold([n; 16], &lift, [1; 16]).await
    }
    /// The entries of these kinds, as JSON without what every entry has.
    fn entries(&self, kinds: &[EntryKind]) -> Vec<(EntryKind, serde_json::Value)> {
        let mut found = Vec::new();
        let visited = LedgerReader::new(Arc::new(self.ledger.clone())).visit(0, |index, item| {
            let LedgerItem::Entry(line) = item else { panic!("damaged") };
            let leaf = Leaf::parse(line, index).unwrap();
            if let Some(kind) = leaf.kind.filter(|kind| kinds.contains(kind)) {
                found.push((kind, leaf.rest.into_iter().collect::<serde_json::Map<_, _>>().into()));
            }
            ControlFlow::Continue(())
        });
        visited.unwrap();
        found
    }
    fn count(&self, kind: EntryKind) -> usize {
        self.entries(&[kind]).len()
    }
    /// What the verifier says of the recordings, as they are on disk.
    fn verified(&self) -> chancery_ledger::Finding {
        let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).unwrap();
        let key = LogVerifier::parse(&signer.verifier_key()).unwrap();
        let ledger = LedgerReader::new(Arc::new(self.ledger.clone()));
        let recordings = RecordingReader::new(self.recordings.clone());
        let roots = chancery_ledger::Roots::from(key);
        verify_ledger(&ledger, Some(&recordings), roots).unwrap().finding(Check::Recordings).cloned().unwrap()
    }
}

/// The file's number, or the segment's.
fn number(one: &Planned) -> u64 {
    match one {
        Planned::File(one) => one.file.file,
        Planned::Segment(one) => one.first,
        Planned::Originals(one) => u64::from(one.session.0[0]),
    }
}

/// A process that records session n in a file of its own, and ends. Session 2 does not end.
async fn write(volume: &MemoryVolume, sequencer: &Sequencer, n: u8) {
    let told = sequencer.clone();
    let closed: Arc<Lock<Vec<RecordingSegment>>> = Arc::default();
    let sink = closed.clone();
    let on_closed = Box::new(move |segment| {
        sink.lock().unwrap().push(segment);
        told.append_entry(&Entry::RecordingSegment(segment), Level::Written).is_ok()
    });
    let recorder = Recorder::open(Arc::new(volume.clone()), RecorderOptions::default(), on_closed).unwrap();
    let resource = ResourceName::parse("shop").unwrap();
    let (session, chain, rules, rule_ids) = (id(n), [n; 16], Digest([2; 32]), &[]);
    let (protocol, method, profile) = ("postgres", "oidc", Durability::Strict);
    #[rustfmt::skip]
    let open = SessionOpen { session, chain, resource: &resource, rules, rule_ids, protocol, method, profile };
    sequencer.append_entry(&Entry::SessionOpen(open), Level::Written).unwrap();
    let spool = recorder.spool(session);
    for at in [0, DAY - 1] {
        drop(spool.append(stage_frame(Shown(i64::from(n) * DAY + at))).unwrap());
    }
    let recording = spool.sync().await.unwrap();
    if n < 2 {
        let close = SessionClose { session, reason: "client", recording };
        sequencer.append_entry(&Entry::SessionClose(close), Level::Written).unwrap();
    }
    recorder.close();
    assert_eq!(closed.lock().unwrap().last().unwrap().file, u64::from(n));
}

#[tokio::test]
async fn what_is_past_its_time_is_deleted_and_every_step_is_an_entry() {
    let house = House::new().await;
    let (first, seen) = house.run(10).await;
    assert_eq!((first.due, first.pruned, seen.len()), (0, 0, 0), "session 0 ended on day 1");
    let (second, seen) = house.run(11).await;
    assert_eq!((second.due, second.pruned, second.refused), (1, 1, 0));
    assert_eq!(seen, [(0, Judgement::Due)]);
    assert_eq!(house.files(), ["000000000001.rec", "000000000002.rec"]);
    let verified = house.verified();
    assert_eq!((verified.verdict, verified.failures), (Verdict::Pass, 0), "{verified}");
    let (third, seen) = house.run(99).await;
    assert_eq!((third.due, third.pruned, third.refused), (2, 1, 1), "session 2 is open");
    assert_eq!(seen, [(1, Judgement::Due), (2, Judgement::Refused(Why::Open, None))]);
    let kinds = [EntryKind::RetentionRun, EntryKind::PruneRecording, EntryKind::PruneRefuse, EntryKind::RetentionDone];
    let entries = house.entries(&kinds);
    let words: Vec<_> = entries.iter().map(|(kind, _)| kind.as_str()).collect();
    let each = ["retention.run", "retention.done", "retention.run", "prune.recording", "retention.done"];
    let last = ["retention.run", "prune.recording", "prune.refuse", "retention.done"];
    assert_eq!(words, [each.as_slice(), &last].concat());
    assert_eq!((entries[0].1["due"].as_u64(), entries[0].1["recordings"].as_u64()), (Some(0), Some(10)));
    assert_eq!(entries[3].1["last"].as_i64(), Some(DAY - 1));
    assert_eq!(entries[4].1["bytes"], entries[3].1["bytes"]);
    assert_eq!((entries[7].1["why"].as_str(), entries[7].1["file"].as_u64()), (Some("open"), Some(2)));
    let pruned = house.catalog.pruned_of(id(1)).await.unwrap();
    assert_eq!((pruned.len(), pruned[0].file, pruned[0].at), (1, 1, Timestamp(99 * DAY)));
    assert_eq!(house.catalog.last_run().await.unwrap(), Some(third));
}

#[tokio::test]
async fn a_plan_deletes_nothing_and_writes_no_entry() {
    let house = House::new().await;
    let size = house.sequencer.size();
    let shelves = house.retention.shelves.clone();
    let planned = shelves.plan(&Holds::default(), Timestamp(12 * DAY), |_| ()).await.unwrap();
    let judged: Vec<_> = planned.iter().map(Planned::judgement).collect();
    let open = Judgement::Refused(Why::Open, None);
    assert_eq!(judged[..2], [Judgement::Due, Judgement::Due]);
    assert_eq!(judged[2], Judgement::Kept { due_at: Timestamp(13 * DAY - 1) }, "not {open:?} before its time");
    assert_eq!((house.sequencer.size(), house.files().len()), (size, 3));
}

#[tokio::test]
async fn a_hold_of_each_scope_keeps_its_sessions_and_no_others() {
    let issuer = || ISSUER.to_owned();
    let of = |subject: &str| HoldScope::Principal { issuer: issuer(), subject: subject.to_owned() };
    let elsewhere = HoldScope::Principal { issuer: "https://other.example".to_owned(), subject: "ada".to_owned() };
    let period = |from, to| HoldScope::Period(Timestamp(from), Timestamp(to));
    for (scope, held) in [
        (HoldScope::Session(id(0)), [true, false]),
        (HoldScope::Session(id(9)), [false, false]),
        (of("ada"), [true, false]),
        (of("agent-b"), [false, true]),
        (elsewhere, [false, false]),
        (period(DAY / 2, DAY / 2 + 1), [true, false]),
        (period(DAY, 2 * DAY), [true, true]),
        (period(DAY + 1, 2 * DAY), [false, true]),
        (period(-5, 0), [false, false]),
    ] {
        let house = House::new().await;
        let hold = house.hold(3, scope.clone());
        house.retention.set_hold(&hold, [1; 16]).await.unwrap();
        assert_eq!(house.catalog.holds_in_force().await.unwrap(), [hold]);
        let (run, seen) = house.run(12).await;
        let expected = held.map(|held| match held {
            true => Judgement::Refused(Why::Held, Some([3; 16])),
            false => Judgement::Due,
        });
        assert_eq!(seen, [(0, expected[0]), (1, expected[1])], "{scope:?}");
        let refused = held.iter().filter(|held| **held).count();
        assert_eq!((run.refused as usize, house.files().len()), (refused, 1 + refused));
        let entry = &house.entries(&[EntryKind::HoldSet])[0].1;
        assert_eq!(entry["hold"].as_str().unwrap(), "03".repeat(16));
        assert!(!entry.to_string().contains("case") && !entry.to_string().contains("ada"), "no names, no reason");
        house.lift(3).await.unwrap();
        assert!(matches!(house.lift(3).await, Err(RetentionError::NoHold)));
        let (run, _) = house.run(12).await;
        assert_eq!((run.pruned as usize, house.files().len()), (refused, 1), "lifted, it goes");
        assert_eq!(house.verified().verdict, Verdict::Pass, "{}", house.verified());
    }
}

#[tokio::test]
async fn a_hold_that_only_the_ledger_knows_keeps_everything() {
    let house = House::new().await;
    let entry = HoldSet { hold: [5; 16], scope: "session", commitment: Digest([1; 32]), by: [1; 16] };
    house.sequencer.append_entry(&Entry::HoldSet(entry), Level::Written).unwrap();
    let (run, seen) = house.run(12).await;
    assert_eq!((run.pruned, run.refused), (0, 2));
    assert_eq!(seen[0].1, Judgement::Refused(Why::Unknown, Some([5; 16])));
    house.sequencer.synced().await.unwrap();
    let reader = LedgerReader::new(Arc::new(house.ledger.clone()));
    assert_eq!(holds_of_ledger(&reader).unwrap(), BTreeSet::from([[5; 16]]));
    house.lift(5).await.unwrap();
    assert_eq!(holds_of_ledger(&reader).unwrap(), BTreeSet::new());
    assert_eq!(house.run(12).await.0.pruned, 2);
}

#[tokio::test]
async fn a_session_that_the_catalog_lost_is_kept_while_anybody_is_held() {
    let house = House::new().await;
    while house.catalog.prune_sessions(Timestamp(i64::MAX)).await.unwrap() > 0 {}
    let scope = HoldScope::Principal { issuer: ISSUER.to_owned(), subject: "nobody".to_owned() };
    house.retention.set_hold(&house.hold(3, scope), [1; 16]).await.unwrap();
    let (_, seen) = house.run(12).await;
    assert_eq!(seen[0].1, Judgement::Refused(Why::Unknown, Some([3; 16])));
    house.lift(3).await.unwrap();
    house.retention.set_hold(&house.hold(4, HoldScope::Session(id(1))), [1; 16]).await.unwrap();
    let (_, seen) = house.run(12).await;
    assert_eq!(seen, [(0, Judgement::Due), (1, Judgement::Refused(Why::Held, Some([4; 16])))]);
}

#[tokio::test]
async fn a_crash_between_entry_and_deletion_is_finished_by_the_next_run() {
    let house = House::new().await;
    house.recordings.1.store(true, Ordering::SeqCst);
    let run = house.retention.run(None, || Timestamp(11 * DAY), Duration::ZERO, |_| ()).await;
    assert!(matches!(run, Err(RetentionError::Io(_))), "{run:?}");
    assert!(house.retention.progress().borrow().failed.is_some());
    let done = house.entries(&[EntryKind::RetentionDone]);
    assert_eq!((done[0].1["how"].as_str(), done[0].1["pruned"].as_u64()), (Some("stopped"), Some(0)));
    assert_eq!((house.count(EntryKind::PruneRecording), house.files().len()), (1, 3));
    assert_eq!(house.verified().verdict, Verdict::Pass, "said to be pruned, and there: {}", house.verified());
    house.recordings.1.store(false, Ordering::SeqCst);
    assert_eq!(house.run(11).await.0.pruned, 1);
    assert_eq!((house.count(EntryKind::PruneRecording), house.files().len()), (1, 2), "one entry for one file");
    assert_eq!(house.verified().verdict, Verdict::Pass, "{}", house.verified());
}

#[tokio::test]
async fn a_hold_that_comes_after_the_entry_still_keeps_the_file() {
    let house = House::new().await;
    house.recordings.1.store(true, Ordering::SeqCst);
    drop(house.retention.run(None, || Timestamp(11 * DAY), Duration::ZERO, |_| ()).await);
    house.recordings.1.store(false, Ordering::SeqCst);
    house.retention.set_hold(&house.hold(3, HoldScope::Session(id(0))), [1; 16]).await.unwrap();
    assert_eq!((house.run(11).await.0.refused, house.files().len()), (1, 3));
    assert_eq!(house.verified().verdict, Verdict::Pass, "{}", house.verified());
}

#[tokio::test]
async fn a_file_that_changed_is_kept_as_evidence() {
    let house = House::new().await;
    house.retention.shelves.plan(&Holds::default(), Timestamp(0), |_| ()).await.unwrap();
    assert!(house.recordings.0.tamper("files/000000000000.rec", |bytes| bytes.truncate(80)));
    let (run, seen) = house.run(11).await;
    assert_eq!((run.pruned, seen), (0, vec![(0, Judgement::Refused(Why::Damaged, None))]));
    assert_eq!((house.count(EntryKind::PruneRecording), house.files().len()), (0, 3));
    // Somebody else deleted one: that is no pruning.
    house.recordings.0.remove("files/000000000000.rec").unwrap();
    let verified = house.verified();
    assert_eq!(verified.verdict, Verdict::Fail, "{verified}");
}

#[tokio::test]
async fn two_runs_at_once_are_one() {
    let house = House::new().await;
    let _run = house.retention.run.lock().await;
    let second = house.retention.run(None, || Timestamp(0), Duration::ZERO, |_| ()).await;
    assert!(matches!(second, Err(RetentionError::Busy)));
}

#[tokio::test]
async fn the_number_of_a_pruned_file_does_not_come_back() {
    let house = House::new().await;
    let memory = house.recordings.0.clone();
    for name in house.files() {
        memory.remove(&format!("files/{name}")).unwrap();
    }
    write(&memory, &house.sequencer, 3).await;
    assert_eq!(house.files(), ["000000000003.rec"]);
}

#[tokio::test]
async fn what_is_held_is_not_destroyed_before_its_time_either() {
    let house = House::new().await;
    let of = |issuer: &str, subject: &str| {
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        HoldScope::Principal { issuer, subject }
    };
    assert!(house.retention.unheld(id(0), [1; 16]).await.is_ok());
    assert_eq!(house.count(EntryKind::PruneRefuse), 0);
    let scopes = [
        (HoldScope::Session(id(0)), id(0), Some(Why::Held)),
        (HoldScope::Session(id(1)), id(0), None),
        (HoldScope::Session(id(9)), id(9), Some(Why::Held)),
        (of(ISSUER, "ada"), id(0), Some(Why::Held)),
        (of(ISSUER, "agent-a"), id(0), Some(Why::Held)),
        (of(ISSUER, "bob"), id(0), None),
        (of("https://other.example", "ada"), id(0), None),
        (HoldScope::Period(Timestamp(DAY), Timestamp(2 * DAY)), id(0), Some(Why::Held)),
        (HoldScope::Period(Timestamp(DAY + 1), Timestamp(2 * DAY)), id(0), None),
        // It is still open.
        (HoldScope::Period(Timestamp(90 * DAY), Timestamp(91 * DAY)), id(2), Some(Why::Held)),
        // The catalog does not know the session.
        (HoldScope::Period(Timestamp(DAY), Timestamp(2 * DAY)), id(9), Some(Why::Unknown)),
        (of(ISSUER, "ada"), id(9), Some(Why::Unknown)),
        (HoldScope::Session(id(1)), id(9), None),
    ];
    let mut refused = 0;
    for (n, (scope, session, expected)) in (10..).zip(scopes) {
        let hold = house.hold(n, scope);
        house.retention.set_hold(&hold, [1; 16]).await.unwrap();
        let found = house.retention.unheld(session, [7; 16]).await;
        match (found, expected) {
            (Ok(_), None) => {}
            (Err(RetentionError::Kept(why, by)), Some(expected)) => {
                assert_eq!((why, by), (expected, hold.id), "{:?}", hold.scope);
                refused += 1;
                let (_, entry) = house.entries(&[EntryKind::PruneRefuse]).pop().unwrap();
                let hex = |byte: u8| format!("{byte:02x}").repeat(16);
                assert_eq!(entry, serde_json::json!({ "by": hex(7), "hold": hex(n), "why": expected.as_str() }));
            }
            (found, _) => panic!("{:?}: {:?}", hold.scope, found.map(drop)),
        }
        house.lift(n).await.unwrap();
        assert!(house.retention.unheld(session, [7; 16]).await.is_ok(), "it was lifted");
    }
    assert_eq!(house.count(EntryKind::PruneRefuse), refused);
    // Of a hold that only the ledger knows nobody can say what it is about.
    let entry = HoldSet { hold: [99; 16], scope: "session", commitment: Digest([1; 32]), by: [1; 16] };
    house.sequencer.append_entry(&Entry::HoldSet(entry), Level::Written).unwrap();
    let found = house.retention.unheld(id(0), [7; 16]).await;
    assert!(matches!(found, Err(RetentionError::Kept(Why::Unknown, hold)) if hold == [99; 16]));
}

#[tokio::test]
async fn no_hold_comes_between_the_leave_and_what_it_is_for() {
    let house = House::new().await;
    let leave = house.retention.unheld(id(0), [1; 16]).await.unwrap();
    let hold = house.hold(10, HoldScope::Session(id(0)));
    let set = house.retention.set_hold(&hold, [1; 16]);
    let mut set = std::pin::pin!(set);
    for _ in 0..3 {
        assert!(step(set.as_mut()).is_none(), "it waits");
    }
    drop(leave);
    set.await.unwrap();
    assert_eq!(house.count(EntryKind::HoldSet), 1);
}

/// One step of a future; `None` if it is not done.
fn step<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_full_disk_does_not_keep_a_run_from_giving_space_back() {
    let house = House::new().await;
    house.retention.set_hold(&house.hold(1, HoldScope::Session(id(0))), [1; 16]).await.unwrap();
    house.catalog.put_seal_key(id(1), &ResourceName::parse("shop").unwrap(), b"sealed", Timestamp(DAY)).await.unwrap();
    house.ledger.fill(true);
    while house.sequencer.append_entry(&Entry::Heartbeat, Level::Written).is_ok() {}
    // The file that is held comes first: that it is kept is told, too.
    let (run, seen) = house.run(12).await;
    let expected = [(0, Judgement::Refused(Why::Held, Some([1; 16]))), (1, Judgement::Due), (1, Judgement::Due)];
    assert_eq!((run.pruned, run.refused, seen.as_slice()), (2, 1, expected.as_slice()));
    assert_eq!(
        [EntryKind::PruneRefuse, EntryKind::PruneRecording, EntryKind::Shred].map(|kind| house.count(kind)),
        [1; 3]
    );
}

#[tokio::test]
async fn of_originals_that_are_kept_a_run_tells_the_first_and_destroys_all_others() {
    let house = House::new().await;
    let resource = ResourceName::parse("shop").unwrap();
    // Session 0 is held for each of these; behind them is one that is not.
    house
        .retention
        .set_hold(&house.hold(1, HoldScope::Principal { issuer: ISSUER.into(), subject: "ada".into() }), [1; 16])
        .await
        .unwrap();
    for n in 0..1_200_u16 {
        let mut session = SessionId([9; 16]);
        session.0[..2].copy_from_slice(&n.to_be_bytes());
        house.catalog.put_seal_key(session, &resource, b"sealed", Timestamp(0)).await.unwrap();
    }
    house.catalog.put_seal_key(SessionId([0xff; 16]), &resource, b"sealed", Timestamp(0)).await.unwrap();
    let opened = |n: u8| SessionRecord {
        id: SessionId([n; 16]),
        resource: resource.clone(),
        chain_id: [1; 16],
        chain: "somebody".to_owned(),
        client: "127.0.0.1".to_owned(),
        started_at: Timestamp(0),
        ended_at: None,
        ending: None,
        commands: 0,
        last_activity: Timestamp(0),
    };
    let closed = SessionNote::Closed { id: SessionId([0xff; 16]), ending: "client", commands: 1, at: Timestamp(DAY) };
    house.catalog.note_sessions(&[SessionNote::Opened(opened(0xff)), closed]).await.unwrap();
    let mut seen = (0, 0);
    let each = |one: &Planned| match one {
        Planned::Originals(one) if one.judgement == Judgement::Due => seen.0 += 1,
        Planned::Originals(_) => seen.1 += 1,
        _ => {}
    };
    house.retention.run(None, || Timestamp(11 * DAY), Duration::ZERO, each).await.unwrap();
    assert_eq!(seen, (1, 1_000), "that of bob goes, though it is behind all that are kept");
}

#[tokio::test]
async fn originals_past_their_time_are_destroyed_unless_held_or_open() {
    let house = House::new().await;
    let resource = ResourceName::parse("shop").unwrap();
    // Sessions 0 and 1 ended on days 1 and 2, 2 is open; of 3 the catalog knows the key alone.
    for n in 0..4 {
        house.catalog.put_seal_key(id(n), &resource, b"sealed", Timestamp(i64::from(n) * DAY)).await.unwrap();
        let name = format!("{}/00000000.age-body", hex(&id(n).0));
        house.sealed.create(&name).unwrap().write_at(0, b"noise").unwrap();
    }
    house.retention.set_hold(&house.hold(1, HoldScope::Session(id(1))), [1; 16]).await.unwrap();
    let files = |n: u8| house.sealed.list(&hex(&id(n).0)).unwrap().len();
    let sealed = |seen: &[(SessionId, Judgement)]| seen.iter().map(|(session, _)| *session).collect::<Vec<_>>();
    let mut seen = Vec::new();
    let each = |one: &Planned| {
        if let Planned::Originals(one) = one {
            seen.push((one.session, one.judgement));
        }
    };
    house.retention.run(None, || Timestamp(11 * DAY), Duration::ZERO, each).await.unwrap();
    // On day 11, ten days after its end, 0 goes; the others are not past their time, or open.
    assert_eq!(sealed(&seen), [id(0)]);
    assert_eq!([files(0), files(1)], [0, 1]);
    assert!(house.catalog.seal_key(id(0)).await.unwrap().is_none());
    let mut seen = Vec::new();
    let each = |one: &Planned| {
        if let Planned::Originals(one) = one {
            seen.push((one.session, one.judgement));
        }
    };
    house.retention.run(None, || Timestamp(14 * DAY), Duration::ZERO, each).await.unwrap();
    let refused = |why, hold| Judgement::Refused(why, hold);
    let expected =
        [(id(1), refused(Why::Held, Some([1; 16]))), (id(2), refused(Why::Open, None)), (id(3), Judgement::Due)];
    assert_eq!(seen, expected);
    assert_eq!([files(0), files(1), files(2), files(3)], [0, 1, 1, 0]);
    let told = house.entries(&[EntryKind::Shred, EntryKind::PruneRefuse]);
    let about_originals = |entry: &serde_json::Value| entry.get("file").is_none() && entry.get("first").is_none();
    let refusals = told.iter().filter(|(kind, entry)| *kind == EntryKind::PruneRefuse && about_originals(entry));
    let mut whys: Vec<_> = refusals.filter_map(|(_, entry)| entry["why"].as_str()).collect();
    whys.sort_unstable();
    assert_eq!(whys, ["held", "open"]);
    let shreds = told.iter().filter(|(kind, _)| *kind == EntryKind::Shred);
    assert_eq!(shreds.clone().count(), 2);
    assert!(shreds.clone().all(|(_, entry)| entry.get("run").is_some() && entry.get("by").is_none()), "{told:?}");
    house.lift(1).await.unwrap();
    house.retention.run(None, || Timestamp(15 * DAY), Duration::ZERO, |_| ()).await.unwrap();
    assert_eq!(files(1), 0);
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
