//! Packs of several logs: all that are registered, each as far as it was registered, by copies of one registry.

use chancery_evidence::{NoPack, Origins, PackFinding, PackReport, Preface, RegistryCopy};
use chancery_ledger::{
    Checkpoint, EpochSigner, Grew, LogSigner, LogVerifier, RegisteredHead, Registration, Registry, Roots,
    SignedCheckpoint, Verdict,
};
use chancery_model::{Digest, Timestamp};

use crate::maker::{packed, story};
use crate::verify;

const NAME: &str = "registry.test/r";
/// Before the period of the packs begins.
const LONG_AGO: i64 = 1_700_000_000_000_000;
const RECENTLY: i64 = 1_764_000_000_000_001;

/// A log with its pack, as far as these tests look at one.
#[derive(Clone)]
struct Log {
    roots: Roots,
    head: SignedCheckpoint,
    report: PackReport,
}

impl Log {
    /// The maker's story, verified.
    fn first() -> Self {
        let story = story(2);
        let (files, from) = story.files();
        let report = verify(&story, &packed(&files.0, &from)).expect("a pack");
        let roots = story.trusted.roots.clone();
        let head = roots.log().open(&story.note).expect("its own");
        Self { roots, head, report }
    }
    /// Another log, with a report that says the same of it.
    fn other(&self, origin: &str, seed: u8, size: u64) -> Self {
        let signer = LogSigner::from_seed(origin, &[seed; 32]).expect("a seed");
        let epoch = EpochSigner::from_seed(origin, 0, &[seed + 1; 32]).expect("a seed");
        let head = Checkpoint { origin: origin.to_owned(), size, root: Digest([size as u8; 32]) };
        let roots = Roots::parse(&format!("{}\n{}\n", signer.verifier_key(), epoch.verifier_key())).expect("keys");
        let mut report = self.report.clone();
        (report.manifest.head, report.size, report.root) = (head.clone(), size, head.root);
        Self { roots, head: epoch.countersign(signer.sign(&head)), report }
    }
    fn origin(&self) -> &str {
        self.roots.log().name()
    }
    fn pack(&self) -> (&PackReport, &Roots) {
        (&self.report, &self.roots)
    }
}

struct Keeper {
    registry: Registry,
    text: String,
    signer: LogSigner,
}

impl Keeper {
    fn new() -> Self {
        let signer = LogSigner::from_seed(NAME, &[9; 32]).expect("a seed");
        Self { registry: Registry::new(NAME).expect("a name"), text: String::new(), signer }
    }
    /// With these logs, each with a head.
    fn of(logs: &[&Log]) -> Self {
        let mut keeper = Self::new();
        for log in logs {
            keeper.add(log, Registration::Join(log.roots.clone()), LONG_AGO);
            keeper.add(log, Registration::Head(RegisteredHead::of(&log.head, Grew::First)), LONG_AGO);
        }
        keeper
    }
    fn add(&mut self, log: &Log, what: Registration, at: i64) {
        let line = self.registry.line(log.origin(), what, Timestamp(at)).expect("it fits");
        self.registry.push(line.as_bytes()).expect("what was made is taken");
        self.text.push_str(&line);
        self.text.push('\n');
    }
    fn key(&self) -> LogVerifier {
        LogVerifier::parse(&self.signer.verifier_key()).expect("own key")
    }
    fn note(&self) -> String {
        self.signer.sign(&self.registry.head()).note
    }
    fn copy(&self) -> RegistryCopy {
        RegistryCopy { entries: self.text.clone().into_bytes(), checkpoints: vec![self.note()] }
    }
    fn origins(&self, copies: &[RegistryCopy]) -> Origins {
        let copies: Vec<_> = copies.iter().enumerate().map(|(at, copy)| (format!("{at}.tar"), copy.clone())).collect();
        Origins::read(&self.key(), &copies, &[], None)
    }
    /// What is said of packs with copies of it.
    fn says(&self, copies: &[RegistryCopy], packs: &[&Log]) -> Vec<String> {
        said(&self.origins(copies).check(&packs.iter().map(|log| log.pack()).collect::<Vec<_>>()))
    }
}

fn said(found: &[PackFinding]) -> Vec<String> {
    assert!(found.iter().all(|one| one.check == "origins"));
    found.iter().map(|one| format!("{} {}", one.verdict, one.what)).collect()
}

fn two() -> (Log, Log, Keeper) {
    let a = Log::first();
    let b = a.other("gw.test/b", 40, 5);
    let keeper = Keeper::of(&[&a, &b]);
    (a, b, keeper)
}

#[test]
fn all_logs_pass_and_an_omitted_or_older_one_is_named() {
    let (a, b, keeper) = two();
    let copies = [keeper.copy()];
    assert_eq!(keeper.says(&copies, &[&b, &a]), ["PASS "]);
    assert_eq!(keeper.says(&copies, &[&a]), ["FAIL gw.test/b is registered and was not handed in"]);
    let older = a.other("gw.test/b", 40, 4);
    assert_eq!(keeper.says(&copies, &[&a, &older]), ["FAIL gw.test/b has 4 entries, and 5 are registered"]);
    let mut forked = b.clone();
    forked.report.root = Digest([77; 32]);
    let what = "FAIL gw.test/b has other entries than the 5 that are registered";
    assert_eq!(keeper.says(&copies, &[&a, &forked]), [what]);
    let stranger = a.other("gw.test/c", 50, 3);
    let what = "FAIL gw.test/c was handed in and is not registered";
    assert_eq!(keeper.says(&copies, &[&a, &b, &stranger]), [what]);
    let forged = a.other("gw.test/b", 60, 5);
    let what = "FAIL gw.test/b was not verified with the key by which it is registered";
    assert_eq!(keeper.says(&copies, &[&a, &forged]), [what]);
    assert_eq!(keeper.says(&copies, &[&a, &b, &b]), ["FAIL gw.test/b was handed in twice"]);
    assert_eq!(
        said(&Origins::twice(&[a.pack(), b.pack(), b.pack(), b.pack()])),
        ["FAIL gw.test/b was handed in twice"]
    );
    assert!(Origins::twice(&[a.pack(), b.pack()]).is_empty());
}

#[test]
fn a_log_that_retired_before_the_period_need_not_be_there() {
    let (a, b, _) = two();
    for (at, expected) in [(LONG_AGO, "PASS "), (RECENTLY, "FAIL gw.test/b is registered and was not handed in")] {
        let mut keeper = Keeper::of(&[&a, &b]);
        keeper.add(&b, Registration::Retire(RegisteredHead::of(&b.head, Grew::Proven)), at);
        assert_eq!(keeper.says(&[keeper.copy()], &[&a]), [expected]);
        assert_eq!(keeper.says(&[keeper.copy()], &[&a, &b]), ["PASS "]);
        let more = a.other("gw.test/b", 40, 6);
        let what = "FAIL gw.test/b retired with 5 entries and has 6";
        assert_eq!(keeper.says(&[keeper.copy()], &[&a, &more]), [what]);
    }
}

#[test]
fn an_older_copy_of_the_registry_does_not_hide_what_the_newer_one_has() {
    let (a, b, keeper) = two();
    let old = Keeper::of(&[&a]).copy();
    assert_eq!(keeper.says(std::slice::from_ref(&old), &[&a]), ["PASS "], "by itself it is as good as any");
    let what = "FAIL gw.test/b is registered and was not handed in";
    for copies in [[old.clone(), keeper.copy()], [keeper.copy(), old.clone()]] {
        assert_eq!(keeper.says(&copies, &[&a]), [what]);
        assert_eq!(keeper.says(&copies, &[&a, &b]), ["PASS "]);
    }
    // A head of the registry that the reader had from elsewhere does it, too.
    let copies = [("a.tar".to_owned(), old)];
    let found = Origins::read(&keeper.key(), &copies, &[keeper.note()], None).check(&[a.pack()]);
    assert_eq!(said(&found), ["FAIL the registry: tail: entries 2 to 3 are signed and missing"]);
}

#[test]
fn a_registry_that_was_rewritten_cut_forked_or_is_another_fails() {
    let (a, b, keeper) = two();
    let fails = |copies: &[RegistryCopy]| {
        let said = keeper.says(copies, &[&a, &b]);
        assert!(said.iter().any(|one| one.starts_with("FAIL the registry")), "{said:?}");
        assert!(keeper.origins(copies).failure().is_some());
    };
    let good = keeper.copy();
    assert_eq!(keeper.origins(std::slice::from_ref(&good)).failure(), None);
    for at in (0..good.entries.len()).step_by(97) {
        let mut changed = good.clone();
        changed.entries[at] ^= 1;
        fails(&[changed.clone()]);
        fails(&[changed, good.clone()]);
    }
    let mut cut = good.clone();
    let first = cut.entries.iter().position(|byte| *byte == b'\n').expect("lines");
    cut.entries.truncate(first + 1);
    fails(&[cut.clone()]);
    fails(&[good.clone(), cut]);
    // Another history, signed by the same key: of the same length, and shorter.
    for logs in [&[&b, &a][..], &[&b]] {
        fails(&[Keeper::of(logs).copy(), good.clone()]);
    }
    let mut foreign = Keeper::of(&[&a, &b]);
    foreign.signer = LogSigner::from_seed(NAME, &[8; 32]).expect("a seed");
    fails(&[foreign.copy()]);
    fails(&[good.clone(), foreign.copy()]);
    let mut nobody = good;
    nobody.checkpoints = vec!["no note".to_owned()];
    fails(&[nobody]);
}

#[test]
fn what_cannot_be_judged_is_inconclusive() {
    let (a, b, keeper) = two();
    let none = "INCONCLUSIVE no pack has a copy of the registry, and none was handed in";
    assert_eq!(keeper.says(&[], &[&a, &b]), [none]);
    assert_eq!(keeper.says(&[], &[&a, &a]), [none, "FAIL gw.test/a was handed in twice"]);
    let mut more = keeper.copy();
    more.entries.extend_from_slice(b"torn");
    let what = "INCONCLUSIVE the registry: tail: bytes follow that no checkpoint covers";
    assert_eq!(keeper.says(&[more], &[&a, &b]), [what]);
    // Lists that leave out what the others have.
    let what = "INCONCLUSIVE the period of gw.test/b is shorter than that of other packs";
    let (from, to) = b.report.manifest.period.clone();
    let other = |from: &str, to: &str| {
        let mut other = b.clone();
        other.report.manifest.period = (from.to_owned(), to.to_owned());
        keeper.says(&[keeper.copy()], &[&a, &other])
    };
    let last = b.report.manifest.created_at.clone();
    assert_eq!(other(&last, &to), [what], "it begins later");
    assert_eq!(other(&from, &last), [what], "its last entry is not in it");
    assert_eq!(other(&from, &to), ["PASS "]);
    let mut ahead = a.clone();
    ahead.report.manifest.period.1 = "2099-01-01T00:00:00.000000Z".to_owned();
    assert_eq!(keeper.says(&[keeper.copy()], &[&ahead, &b]), ["PASS "], "all of both is in their lists");
}

fn preface(pack: &[u8], step: usize) -> Result<(String, Option<RegistryCopy>), NoPack> {
    let mut preface = Preface::default();
    for piece in pack.chunks(step) {
        if !preface.feed(piece)? {
            break;
        }
    }
    preface.finish()
}

#[test]
fn a_copy_stands_in_front_of_a_pack_in_one_form() {
    let (a, _, keeper) = two();
    let story = story(2);
    let note = keeper.note().into_bytes();
    let stamp = |end: &str| format!("registry/stamps/{:020}.{end}", 4);
    let copy: Vec<(String, Vec<u8>)> = vec![
        ("registry/chancery-registry".into(), b"1\n".to_vec()),
        ("registry/checkpoint".into(), note.clone()),
        ("registry/entries".into(), keeper.text.clone().into_bytes()),
        ("registry/name".into(), format!("{NAME}\n").into_bytes()),
        (stamp("note"), note.clone()),
        (stamp("tsq"), b"a question".to_vec()),
        (stamp("tsr"), b"an answer".to_vec()),
        ("registry/witnessed".into(), note),
    ];
    let with = |copy: &[(String, Vec<u8>)]| {
        let mut story = crate::maker::story(2);
        story.registry = copy.to_vec();
        let (files, from) = story.files();
        packed(&files.0, &from)
    };
    let pack = with(&copy);
    let report = verify(&story, &pack).expect("a pack");
    assert_eq!(report.verdict(), Verdict::Pass, "{:#?}", report.checks);
    let expected = RegistryCopy { checkpoints: vec![keeper.note(); 3], ..keeper.copy() };
    for step in [1, 700, pack.len()] {
        assert_eq!(preface(&pack, step), Ok((a.origin().to_owned(), Some(expected.clone()))));
    }
    assert_eq!(preface(&with(&[]), 700), Ok((a.origin().to_owned(), None)));
    let mut swapped = copy.clone();
    swapped.swap(0, 1);
    let second = [&copy[..5], &[(format!("registry/stamps/{:020}.note", 5), Vec::new())]].concat();
    let odd = |name: &str| vec![(format!("registry/{name}"), Vec::new())];
    let bad =
        [swapped, second, odd("seed"), odd("entries/x"), odd("stamps/4.note"), odd("stamps/00000000000000000004.x")];
    for front in bad {
        let pack = with(&front);
        assert!(verify(&story, &pack).is_err() && preface(&pack, 700).is_err(), "{front:?}");
    }
    let (files, from) = story.files();
    let late = packed(&[files.0.as_slice(), &copy[..1]].concat(), &from);
    assert!(verify(&story, &late).is_err() && preface(&late, 700).is_err(), "behind the other files");
    let long = with(&[("registry/name".to_owned(), vec![b'x'; 65_537])]);
    assert!(preface(&long, 700).is_err(), "longer than it can be");
    // What the header says is looked at before anything is taken, whatever the manifest lists.
    let manifest =
        512 + usize::from_str_radix(std::str::from_utf8(&pack[124..135]).expect("digits"), 8).expect("octal");
    let upto = manifest.next_multiple_of(512) + 1024;
    for (path, size, taken) in [
        ("registry/chancery-registry", 2, true),
        ("registry/chancery-registry", 65_537, false),
        ("registry/checkpoint", 2, false),
        ("directory/chains.jsonl", 65_537, true),
    ] {
        let header = chancery_evidence::header(path, size).expect("a path");
        assert_eq!(preface(&[&pack[..upto], &header[..]].concat(), 512).is_ok(), taken, "{path} {size}");
    }
    let member = &pack[upto..upto + 1024];
    assert!(preface(&[&pack[..upto], member, member].concat(), 512).is_err(), "the same file twice");
    assert!(preface(&pack[..700], 100).is_err(), "cut in its manifest");
}
