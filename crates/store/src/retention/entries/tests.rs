//! Pruned segments: what goes, what stays, and that the ledger is the same one before and after. The clock is the test's.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chancery_ledger::{
    ActDeny, ActDone, ActStart, ApprovalDecide, ApprovalEnd, ApprovalRequest, ApprovalUse, Check, Entry, HoldSet,
    LogSigner, Outcome, Report, Roots, SessionClose, SessionOpen, Stamp, Verdict, verify_consistency,
};
use chancery_model::{Delegation, Durability, Effect, Principal, PrincipalKind, RefusalCode, ResourceName, ReviewId};

use super::*;
use crate::retention::tests::Sticky;
use crate::retention::{Judgement, Planned, PlannedSegment, Retention, RetentionError, RetentionLimits, Shelves, Why};
use crate::{Catalog, HoldScope, LedgerItem, LedgerReader, LegalHold, Level, MemoryVolume, Options, Sequencer, verify};

const DAY: i64 = 86_400_000_000;
const ORIGIN: &str = "gw.test/a";
const ISSUER: &str = "https://login.example";

struct House {
    path: std::path::PathBuf,
    catalog: Catalog,
    clock: Arc<AtomicI64>,
    ledger: MemoryVolume,
    keys: MemoryVolume,
    sticky: Arc<Sticky>,
    sequencer: Sequencer,
    retention: Retention,
    roots: Roots,
}

impl Drop for House {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

fn id(n: u8) -> SessionId {
    SessionId([n; 16])
}

fn options(clock: &Arc<AtomicI64>, boot: u8, segment_bytes: u64) -> Options {
    let clock = clock.clone();
    let clock = Arc::new(move || Stamp { wall: Timestamp(clock.load(Ordering::SeqCst)), mono: 0 });
    Options { reserve_bytes: 1, segment_bytes, ..Options::new(clock, [boot; 16]) }
}

fn signer() -> LogSigner {
    LogSigner::from_seed(ORIGIN, &[1; 32]).unwrap()
}

impl House {
    /// Sessions 0 to 19, a day each. Session 20 lives from day 3 to day 12. The catalog knows that odd ones are ada's.
    async fn new() -> Self {
        let house = Self::empty(4_000).await;
        for n in 0..20 {
            house.at(i64::from(n) * DAY);
            house.session(n).await;
        }
        house
    }
    async fn empty(segment_bytes: u64) -> Self {
        let mut random = [0; 8];
        crate::random(&mut random).unwrap();
        let path = std::env::temp_dir().join(format!("chancery-entries-{:016x}", u64::from_be_bytes(random)));
        std::fs::create_dir(&path).unwrap();
        let catalog = Catalog::create(&path.join("catalog.sqlite")).await.unwrap();
        let (ledger, keys, clock) = (MemoryVolume::new(), MemoryVolume::new(), Arc::new(AtomicI64::new(0)));
        let (volume, kept) = (Arc::new(ledger.clone()), Arc::new(keys.clone()));
        let (sequencer, _) =
            Sequencer::open(volume, kept, signer(), ORIGIN, options(&clock, 9, segment_bytes)).unwrap();
        let sticky = Arc::new(Sticky(ledger.clone(), AtomicBool::new(false)));
        let limits = RetentionLimits { ledger_days: 10, recordings_days: 10, sealed_days: 10 };
        let shelves = Shelves::new(catalog.clone(), Arc::new(MemoryVolume::new()), sticky.clone(), limits);
        let retention = Retention::new(shelves, sequencer.clone());
        let roots = Roots::parse(&sequencer.roots()).unwrap();
        let house = Self { path, catalog, clock, ledger, keys, sticky, sequencer, retention, roots };
        for n in 0..2 {
            let subject = ["bob", "ada"][usize::from(n)].to_owned();
            let (issuer, display) = (ISSUER.to_owned(), subject.clone());
            let principal = Principal { issuer, subject, kind: PrincipalKind::User, display, groups: Vec::new() };
            let chain = Delegation { principal, actors: Vec::new() };
            house.catalog.remember_chain([n; 16], &chain, Timestamp(0)).await.unwrap();
        }
        house
    }
    fn at(&self, micros: i64) {
        self.clock.store(micros, Ordering::SeqCst);
    }
    fn add(&self, entry: &Entry<'_>) {
        self.sequencer.append_entry(entry, Level::Written).unwrap();
    }
    async fn session(&self, n: u8) {
        if n == 3 {
            self.open(20);
        }
        self.open(n);
        self.act(n, 1);
        self.add(&Entry::Heartbeat);
        let review = ReviewId([n; 16]);
        let (rules, digest, expires_at) = (Digest([2; 32]), Digest([4; 32]), Timestamp(0));
        let (resource, needed, command) = (ResourceName::parse("shop").unwrap(), &["dba".to_owned()], 2);
        let (session, chain) = (id(n), [n % 2; 16]);
        #[rustfmt::skip]
        let request = ApprovalRequest { review, session, command, chain, resource: &resource, rules, digest, needed, expires_at };
        self.add(&Entry::ApprovalRequest(request));
        self.add(&Entry::ApprovalEnd(ApprovalEnd { review, expired: true }));
        let code = RefusalCode::Denied;
        #[rustfmt::skip]
        let deny = ActDeny {
            session: id(100 + n), command: 0, chain: None, resource: None, rules, code, rule_ids: &[], digest: None,
        };
        self.add(&Entry::ActDeny(deny));
        if (3..=12).contains(&n) {
            self.act(20, u64::from(n));
        }
        self.close(n);
        if n == 12 {
            self.close(20);
        }
        // A round of the thread rotates the segment.
        self.sequencer.synced().await.unwrap();
        self.sequencer.synced().await.unwrap();
    }
    fn open(&self, n: u8) {
        let resource = ResourceName::parse("shop").unwrap();
        let (session, chain, rules, rule_ids) = (id(n), [n % 2; 16], Digest([2; 32]), &[]);
        let (protocol, method, profile) = ("postgres", "oidc", Durability::Strict);
        #[rustfmt::skip]
        let open = SessionOpen { session, chain, resource: &resource, rules, rule_ids, protocol, method, profile };
        self.add(&Entry::SessionOpen(open));
    }
    fn act(&self, n: u8, command: u64) {
        let resource = ResourceName::parse("shop").unwrap();
        let (session, chain, rules, digest) = (id(n), [n % 2; 16], Digest([2; 32]), Digest([4; 32]));
        let (profile, effect) = (Durability::Strict, Effect::Read);
        #[rustfmt::skip]
        let start = ActStart {
            session, command, chain, resource: &resource, rules, decision: "allow", rule_ids: &[], effect, fingerprint: digest,
            digest, review: None, profile,
        };
        self.add(&Entry::ActStart(start));
        let (outcome, sqlstate, recording) = (Outcome::Completed, None, None);
        #[rustfmt::skip]
        let done = ActDone { session, command, outcome, sqlstate, rows: 1, bytes: 2, masked: 3, duration_us: 4, recording };
        self.add(&Entry::ActDone(done));
    }
    fn close(&self, n: u8) {
        self.add(&Entry::SessionClose(SessionClose { session: id(n), reason: "client", recording: None }));
    }
    async fn run(&self, day: i64) -> Result<Vec<PlannedSegment>, RetentionError> {
        self.at(day.max(19) * DAY);
        let mut seen = Vec::new();
        let each = |one: &Planned| {
            let Planned::Segment(segment) = one else { panic!("there are no recordings") };
            seen.push(*segment);
        };
        self.retention.run(None, || Timestamp(day * DAY), Duration::ZERO, each).await?;
        Ok(seen)
    }
    fn hold(&self, scope: HoldScope) -> LegalHold {
        let (reason, set_by) = ("case".to_owned(), "operator".to_owned());
        LegalHold { id: [3; 16], scope, reason, salt: [7; 32], set_at: Timestamp(5), set_by, lifted: None }
    }
    fn reader(&self) -> LedgerReader {
        LedgerReader::new(Arc::new(self.ledger.clone()))
    }
    /// The sessions that have lines, and how many entries are hashes.
    fn left(&self) -> (BTreeSet<u8>, u64) {
        let (mut sessions, mut hashes) = (BTreeSet::new(), 0);
        let visited = self.reader().visit(0, |index, item| {
            match item {
                LedgerItem::Entry(line) => {
                    sessions.extend(Leaf::parse(line, index).unwrap().session.map(|session| session.0[0]));
                }
                LedgerItem::Pruned(..) => hashes += 1,
                LedgerItem::Damaged(what) => panic!("{index}: {what}"),
            }
            ControlFlow::Continue(())
        });
        visited.unwrap();
        (sessions, hashes)
    }
    async fn verified(&self) -> Report {
        self.sequencer.synced().await.unwrap();
        verify(&self.reader(), None, self.roots.clone()).unwrap()
    }
    async fn holds_up(&self) {
        let report = self.verified().await;
        for check in [Check::Lines, Check::Order, Check::Ladder, Check::Sessions, Check::Rolling] {
            let finding = report.finding(check).unwrap();
            assert_eq!(finding.verdict, Verdict::Pass, "{finding}");
        }
        assert_ne!(report.finding(Check::Checkpoints).unwrap().verdict, Verdict::Fail);
    }
}

#[tokio::test]
async fn what_sessions_did_goes_and_the_ledger_is_the_same_one() {
    let house = House::new().await;
    let firsts = closed(&house.ledger).unwrap();
    assert!(firsts.len() >= 4, "{firsts:?}");
    let before = (house.sequencer.size(), house.verified().await.root);
    assert!(house.run(9).await.unwrap().is_empty());
    assert_eq!(house.left().1, 0);
    let gone = house.run(21).await.unwrap();
    assert!(!gone.is_empty() && gone.iter().all(|one| one.judgement == Judgement::Due && one.bytes > 0), "{gone:?}");
    let (sessions, hashes) = house.left();
    let last = gone.last().unwrap().first;
    assert_eq!(hashes, gone.iter().map(|one| one.entries).sum::<u64>());
    assert!(!sessions.contains(&0) && !sessions.contains(&100), "{sessions:?}");
    assert!(sessions.contains(&19) && sessions.contains(&20), "young, or in several segments: {sessions:?}");
    house.holds_up().await;
    let report = house.verified().await;
    assert!(report.finding(Check::Lines).unwrap().what.starts_with(&format!("{hashes} entries are pruned")));
    // Nothing more to do, and nothing done twice.
    assert!(house.run(21).await.unwrap().is_empty());
    assert_eq!(house.left().1, hashes);
    // Proofs over what is gone are made from the tiles, as before.
    let (size, root) = (house.sequencer.size(), house.verified().await.root);
    let proof = house.sequencer.consistency(before.0, size).unwrap();
    assert!(verify_consistency(before.0, size, &proof, &before.1, &root));
    assert!(last < before.0);
    // The next process finds it whole.
    house.sequencer.close();
    let (volume, keys) = (house.ledger.after_power_loss(), Arc::new(house.keys.clone()));
    let (next, found) =
        Sequencer::open(Arc::new(volume), keys, signer(), ORIGIN, options(&house.clock, 10, 4_000)).unwrap();
    assert_eq!((found.size, found.crashes, found.cut_bytes), (size, 0, 0));
    assert_eq!(Roots::parse(&next.roots()).unwrap(), house.roots, "the ladder's root is still known");
}

#[tokio::test]
async fn what_is_held_keeps_its_lines_and_goes_when_it_is_lifted() {
    let of = |subject: &str| HoldScope::Principal { issuer: ISSUER.to_owned(), subject: subject.to_owned() };
    for (scope, stays, goes) in [
        (HoldScope::Session(id(1)), vec![1], vec![0, 2]),
        (of("ada"), vec![1], vec![0, 2]),
        (HoldScope::Period(Timestamp(DAY), Timestamp(DAY + 1)), vec![1, 101], vec![0, 100]),
    ] {
        let house = House::new().await;
        house.retention.set_hold(&house.hold(scope.clone()), [1; 16]).await.unwrap();
        let seen = house.run(21).await.unwrap();
        assert!(seen.iter().any(|one| one.held == Some([3; 16]) && one.entries > 0), "{seen:?}");
        let (sessions, hashes) = house.left();
        assert!(
            stays.iter().all(|n| sessions.contains(n)) && goes.iter().all(|n| !sessions.contains(n)),
            "{sessions:?}"
        );
        house.holds_up().await;
        let again = house.run(21).await.unwrap();
        let held = Judgement::Refused(Why::Held, Some([3; 16]));
        assert!(!again.is_empty() && again.iter().all(|one| one.judgement == held), "{again:?}");
        let lift = crate::Lift { at: Timestamp(6), by: "o".into(), reason: "closed".into(), salt: [8; 32] };
        house.retention.lift_hold([3; 16], &lift, [1; 16]).await.unwrap();
        house.run(21).await.unwrap();
        let (sessions, more) = house.left();
        assert!(more > hashes && stays.iter().all(|n| !sessions.contains(n)), "{scope:?} {sessions:?}");
        house.holds_up().await;
    }
}

#[tokio::test]
async fn a_hold_that_only_the_ledger_knows_keeps_every_line() {
    let house = House::new().await;
    house.add(&Entry::HoldSet(HoldSet { hold: [5; 16], scope: "session", commitment: Digest([1; 32]), by: [1; 16] }));
    let seen = house.run(21).await.unwrap();
    let refused = Judgement::Refused(Why::Unknown, Some([5; 16]));
    assert!(!seen.is_empty() && seen.iter().all(|one| one.judgement == refused));
    assert_eq!(house.left().1, 0);
}

#[tokio::test]
async fn a_crash_between_entry_and_replacement_is_finished_by_the_next_run() {
    let house = House::new().await;
    house.sticky.1.store(true, Ordering::SeqCst);
    assert!(matches!(house.run(21).await, Err(RetentionError::Io(_))));
    assert_eq!(house.left().1, 0);
    house.holds_up().await;
    house.sticky.1.store(false, Ordering::SeqCst);
    house.run(21).await.unwrap();
    assert!(house.left().1 > 0);
    house.holds_up().await;
}

#[tokio::test]
async fn what_nobody_pruned_is_missing_and_a_changed_entry_is_not_pruned() {
    let house = House::new().await;
    house.run(21).await.unwrap();
    // Somebody drops one entry more, as the run does, but no entry says so.
    let first = closed(&house.ledger).unwrap()[0];
    let volume: Arc<dyn Volume> = Arc::new(house.ledger.clone());
    let mut more = read(&volume, first).unwrap();
    let kept = more.frames.iter().rposition(|frame| matches!(frame.what, What::Kept)).unwrap();
    more.frames[kept].what = What::Loose;
    let pruned = more.without(&house.ledger, &BTreeSet::new(), true).unwrap();
    assert_eq!(pruned.fresh, 1);
    house.ledger.replace(&segment::name(first), &pruned.bytes).unwrap();
    let report = house.verified().await;
    let lines = report.finding(Check::Lines).unwrap();
    assert_eq!(lines.verdict, Verdict::Fail, "{lines}");
    assert!(lines.what.contains("no entry says that these were pruned"), "{lines}");

    let house = House::new().await;
    let first = closed(&house.ledger).unwrap()[0];
    house.ledger.tamper(&segment::name(first), |bytes| {
        let at = bytes.windows(9).position(|piece| piece == b"\"masked\":").unwrap() + 9;
        bytes[at] = b'0';
    });
    let seen = house.run(21).await.unwrap();
    assert_eq!(seen[0].judgement, Judgement::Refused(Why::Damaged, None), "evidence stays");
}

impl House {
    /// Session `of` asks for a review of its own number.
    fn ask(&self, of: u8, n: u8) {
        let (review, rules, digest, expires_at) = (ReviewId([n; 16]), Digest([2; 32]), Digest([4; 32]), Timestamp(0));
        let (resource, needed, command) = (ResourceName::parse("shop").unwrap(), &["dba".to_owned()], 2);
        let (session, chain) = (id(of), [of % 2; 16]);
        #[rustfmt::skip]
        let request = ApprovalRequest { review, session, command, chain, resource: &resource, rules, digest, needed, expires_at };
        self.add(&Entry::ApprovalRequest(request));
    }
    fn decide(&self, n: u8, approved: bool) {
        let (review, digest, signature) = (ReviewId([n; 16]), Digest([4; 32]), None);
        let (by, rule, assurance) = ([1; 16], "dba", chancery_model::Assurance::Clicked);
        self.add(&Entry::ApprovalDecide(ApprovalDecide { review, by, approved, rule, assurance, digest, signature }));
    }
    fn use_up(&self, by: u8, n: u8) {
        let (review, session, command, digest) = (ReviewId([n; 16]), id(by), 3, Digest([4; 32]));
        self.add(&Entry::ApprovalUse(ApprovalUse { review, session, command, digest, decisions: &[] }));
    }
    /// Fills the segment with refused openings until there is another.
    async fn turned(&self) {
        let before = closed(&self.ledger).unwrap().len();
        let mut n = self.sequencer.size();
        while closed(&self.ledger).unwrap().len() == before {
            for _ in 0..50 {
                let mut session = id(200);
                session.0[8..].copy_from_slice(&n.to_be_bytes());
                n += 1;
                let (rules, code) = (Digest([2; 32]), RefusalCode::Denied);
                #[rustfmt::skip]
                let deny = ActDeny {
                    session, command: 0, chain: None, resource: None, rules, code, rule_ids: &[], digest: None,
                };
                self.add(&Entry::ActDeny(deny));
            }
            self.sequencer.synced().await.unwrap();
        }
    }
    /// By segment, what `prune.ledger` entries call its last instant.
    fn lasts(&self) -> BTreeMap<u64, Vec<i64>> {
        let mut found = BTreeMap::<u64, Vec<i64>>::new();
        let visited = self.reader().visit(0, |index, item| {
            if let LedgerItem::Entry(line) = item {
                let leaf = Leaf::parse(line, index).unwrap();
                if leaf.kind == Some(EntryKind::PruneLedger) {
                    let last = leaf.rest.get("last").and_then(|last| last.as_i64()).unwrap();
                    found.entry(leaf.number("first").unwrap()).or_default().push(last);
                }
            }
            ControlFlow::Continue(())
        });
        visited.unwrap();
        found
    }
    /// What is left in lines of a kind: the reviews that they name.
    fn reviews(&self, kind: EntryKind) -> Vec<u8> {
        let mut found = Vec::new();
        let visited = self.reader().visit(0, |index, item| {
            if let LedgerItem::Entry(line) = item {
                let leaf = Leaf::parse(line, index).unwrap();
                let review =
                    leaf.rest.get("rev").and_then(|review| review.as_str()).map(|review| review[..2].to_owned());
                let review = review.filter(|_| leaf.kind == Some(kind));
                found.extend(review.map(|review| u8::from_str_radix(&review, 16).unwrap()));
            }
            ControlFlow::Continue(())
        });
        visited.unwrap();
        found
    }
}

#[tokio::test]
async fn a_review_goes_whole_or_not_at_all_and_ties_the_sessions_that_name_it() {
    let house = House::empty(40_000).await;
    house.at(30 * DAY);
    // 30 asks, 31 uses it: both go, with the decision. 32 asks, and its answer comes in another segment. 33 is denied.
    for n in 30..=36 {
        house.open(n);
    }
    house.ask(30, 30);
    house.decide(30, true);
    house.use_up(31, 30);
    house.ask(32, 32);
    house.ask(33, 33);
    house.decide(33, false);
    // 34 uses what 35 asked for, and 35 shares another with 36, which is held.
    house.ask(35, 35);
    house.decide(35, true);
    house.use_up(34, 35);
    house.ask(35, 36);
    house.use_up(36, 36);
    for n in 30..=36 {
        house.close(n);
    }
    house.at(31 * DAY);
    house.turned().await;
    house.decide(32, true);
    house.use_up(32, 32);
    house.turned().await;
    house.retention.set_hold(&house.hold(HoldScope::Session(id(36))), [1; 16]).await.unwrap();
    house.run(50).await.unwrap();
    let (sessions, hashes) = house.left();
    let left: Vec<u8> = (30..=36).filter(|n| sessions.contains(n)).collect();
    assert_eq!(left, [32, 34, 35, 36]);
    for kind in [EntryKind::ApprovalRequest, EntryKind::ApprovalDecide, EntryKind::ApprovalUse] {
        let reviews: Vec<u8> = house.reviews(kind).into_iter().filter(|n| *n >= 30).collect();
        let expected: &[u8] = if kind == EntryKind::ApprovalDecide { &[35, 32] } else { &[32, 35, 36] };
        assert_eq!(reviews.into_iter().collect::<BTreeSet<u8>>(), expected.iter().copied().collect(), "{kind:?}");
    }
    house.holds_up().await;
    let lift = crate::Lift { at: Timestamp(6), by: "o".into(), reason: "closed".into(), salt: [8; 32] };
    house.retention.lift_hold([3; 16], &lift, [1; 16]).await.unwrap();
    house.run(50).await.unwrap();
    let (sessions, more) = house.left();
    assert!(more > hashes && sessions.contains(&32) && !sessions.contains(&35), "{sessions:?}");
    house.holds_up().await;
    // The last entry that is left is older than the last that was: the later statement says so, too.
    let lasts = house.lasts();
    assert!(lasts.values().all(|lasts| lasts.windows(2).all(|two| two[0] == two[1])), "{lasts:?}");
    assert!(lasts.values().any(|lasts| lasts.len() > 1));
}
