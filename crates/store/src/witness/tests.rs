//! What a witness answers, what it remembers, and in which order.

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use chancery_ledger::{LogSigner, WitnessKey, consistency_proof, leaf_hash, root};

use super::*;

const ORIGIN: &str = "gw.test/a";
const NOW: u64 = 1_700_000_000;

/// A directory that goes when the test does.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let mut id = [0; 8];
        crate::random(&mut id).expect("the kernel gives random bytes");
        let path = std::env::temp_dir().join(format!("chancery-witness-{:016x}", u64::from_be_bytes(id)));
        fs::create_dir(&path).expect("a fresh path");
        Self(path)
    }
    fn file(&self) -> PathBuf {
        self.0.join("w1")
    }
    /// A witness of the one log.
    fn witness(&self) -> Witness {
        let witness = Witness::create(&self.file(), "witness.test/w1").expect("a fresh path");
        witness.add(key(1)).expect("a first key");
        witness
    }
    fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("own file")
    }
    fn evidence(&self) -> Vec<String> {
        let Ok(folder) = fs::read_dir(self.0.join("w1.evidence")) else { return Vec::new() };
        let mut names: Vec<_> = folder.map(|one| one.expect("own").file_name().into_string().expect("ASCII")).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The directory of temporary files is cleaned by others, too.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn signer(seed: u8) -> LogSigner {
    LogSigner::from_seed(ORIGIN, &[seed; 32]).expect("a seed")
}

fn key(seed: u8) -> LogVerifier {
    LogVerifier::parse(&signer(seed).verifier_key()).expect("own key")
}

/// The leaves of a log; of another history from `fork` on.
fn leaves(count: u64, fork: u64) -> Vec<Digest> {
    (0..count).map(|leaf| leaf_hash(&[leaf.to_be_bytes(), u64::from(leaf >= fork).to_be_bytes()].concat())).collect()
}

fn head(leaves: &[Digest]) -> Checkpoint {
    Checkpoint { origin: ORIGIN.to_owned(), size: leaves.len() as u64, root: root(leaves) }
}

fn request(old: u64, leaves: &[Digest]) -> String {
    let proof = if old == 0 { None } else { consistency_proof(leaves, old as usize) };
    AddCheckpoint { old, proof: proof.unwrap_or_default(), note: signer(1).sign(&head(leaves)).note }.encode()
}

fn grown(old: u64, size: u64) -> String {
    request(old, &leaves(size, u64::MAX))
}

fn no(why: Unwitnessed) -> Result<String, Refused> {
    Err(Refused::Unwitnessed(why))
}

#[test]
fn each_request_gets_the_answer_of_the_protocol() {
    let place = Place::new();
    let witness = place.witness();
    let public = WitnessKey::parse(&witness.verifier_key()).expect("own key");
    for (at, (old, size)) in [(0, 7), (7, 8), (8, 8), (8, 33)].into_iter().enumerate() {
        let line = witness.witness(&grown(old, size), NOW + at as u64).expect("it grew");
        let told = public.signed_at(&head(&leaves(size, u64::MAX)), &line);
        assert_eq!(told, Ok(Some(NOW + at as u64)));
    }
    let ask = |body: &str| witness.witness(body, NOW + 9);
    assert_eq!(ask(&grown(0, 40)), no(Unwitnessed::Conflict(33)));
    assert_eq!(ask(&grown(33, 20)), no(Unwitnessed::Malformed));
    assert_eq!(ask(&request(33, &leaves(40, 3))), no(Unwitnessed::Inconsistent));
    assert_eq!(ask(&request(33, &leaves(33, 3))), no(Unwitnessed::Conflict(33)));
    let good = grown(33, 40);
    // Another key of the same name, another log, and none.
    let note = signer(2).sign(&head(&leaves(40, u64::MAX))).note;
    assert_eq!(
        ask(&AddCheckpoint { note, ..AddCheckpoint::parse(&good).expect("own") }.encode()),
        no(Unwitnessed::Unsigned)
    );
    assert_eq!(ask(&good.replace(ORIGIN, "gw.test/b")), no(Unwitnessed::Unknown));
    for bad in [
        "",
        "garbage",
        &good[4..],
        &good[..good.len() - 1],
        &good.replacen("\n40\n", "\n040\n", 1),
        &good.replacen("\n40\n", "\n40\nmore\n", 1),
        &good.replacen("\u{2014} ", "- ", 1),
        &good.replacen("\n\ngw", "\n\n\ngw", 1),
        &"x".repeat(chancery_ledger::ADD_CHECKPOINT_BYTES_MAX + 1),
    ] {
        let answer = ask(bad);
        assert!(matches!(answer, Err(Refused::Unwitnessed(Unwitnessed::Malformed))), "{bad}: {answer:?}");
    }
    assert!(ask(&good).is_ok());
    assert_eq!([Refused::Unwritten.status(), Refused::Broken.status(), Refused::Clock.status()], [500, 503, 503]);
    assert_eq!(Refused::Unwitnessed(Unwitnessed::Unknown).status(), 404);
}

#[test]
fn nothing_is_signed_that_is_not_on_the_disk() {
    let place = Place::new();
    let witness = place.witness();
    assert!(witness.witness(&grown(0, 7), NOW).is_ok());
    let before = place.text();
    // No file can be made where the temporary one belongs; permissions would not stop a test that runs as root.
    let stone = place.0.join("w1.new");
    fs::create_dir(&stone).expect("own directory");
    for _ in 0..2 {
        assert_eq!(witness.witness(&grown(7, 9), NOW), Err(Refused::Unwritten));
    }
    assert_eq!((place.text(), witness.logs()[0].log.size), (before, 7));
    fs::remove_dir(&stone).expect("own directory");
    // Nothing was begun, so the next may try again; another history of the head that failed is as good as that.
    assert!(witness.witness(&request(7, &leaves(9, 8)), NOW).is_ok());
    assert!(place.text().contains(&format!(" 9 {} {NOW} ", root(&leaves(9, 8)))));
}

#[test]
fn the_disk_has_a_head_before_its_cosignature_exists() {
    let place = Place::new();
    let witness = place.witness();
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = writes.clone();
    witness.desk.lock().expect("no panic").replace = Box::new(move |path, text| {
        counted.fetch_add(1, Ordering::SeqCst);
        replace(path, text)
    });
    let line = witness.witness(&grown(0, 7), NOW).expect("it grew");
    assert!(place.text().contains(&format!(" 7 {} {NOW} ", root(&leaves(7, u64::MAX)))));
    // The same again within the second needs no disk, and a second later it does.
    assert_eq!(witness.witness(&grown(7, 7), NOW), Ok(line));
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    assert!(witness.witness(&grown(7, 7), NOW + 1).is_ok());
    assert_eq!(writes.load(Ordering::SeqCst), 2);
}

#[test]
fn after_a_write_that_failed_half_way_nothing_is_answered_until_a_restart() {
    let place = Place::new();
    let witness = place.witness();
    assert!(witness.witness(&grown(0, 7), NOW).is_ok());
    // The new file is there, and whether it is on the disk is not known.
    witness.desk.lock().expect("no panic").replace = Box::new(|path, text| {
        fs::write(path, text).map_err(WriteFault::Before)?;
        Err(WriteFault::Within(io::Error::other("sync")))
    });
    assert_eq!(witness.witness(&grown(7, 9), NOW), Err(Refused::Unwritten));
    witness.desk.lock().expect("no panic").replace = Box::new(replace);
    for body in [&grown(7, 9), &grown(9, 9), "garbage"] {
        assert_eq!(witness.witness(body, NOW), Err(Refused::Broken));
    }
    drop(witness);
    let witness = Witness::open(&place.file()).expect("whole");
    assert_eq!(witness.witness(&request(7, &leaves(9, 8)), NOW), no(Unwitnessed::Conflict(9)));
    assert!(witness.witness(&grown(9, 9), NOW).is_ok());
}

#[test]
fn a_restart_keeps_the_heads_and_the_key() {
    let place = Place::new();
    let witness = place.witness();
    let (key, line) = (witness.verifier_key(), witness.witness(&grown(0, 7), NOW).expect("it grew"));
    assert!(matches!(Witness::open(&place.file()), Err(WitnessError::InUse(_))));
    drop(witness);
    for _ in 0..2 {
        let witness = Witness::open(&place.file()).expect("the lock went");
        assert_eq!((witness.verifier_key(), witness.logs()[0].log.size), (key.clone(), 7));
        assert_eq!(witness.witness(&request(0, &leaves(8, 2)), NOW), no(Unwitnessed::Conflict(7)));
        assert_eq!(witness.witness(&grown(7, 7), NOW), Ok(line.clone()));
    }
    let state = WitnessState::read(&place.file()).expect("whole");
    let [log] = state.logs().collect::<Vec<_>>()[..] else { panic!("one log") };
    assert_eq!((state.name(), state.verifier_key(), log.time), ("witness.test/w1", key.as_str(), NOW));
    assert_eq!(log.log.root, root(&leaves(7, u64::MAX)));
}

#[test]
fn two_threads_get_one_history() {
    let place = Place::new();
    let witness = place.witness();
    let mut history: Vec<Digest> = Vec::new();
    for round in 0..40 {
        let start = Barrier::new(2);
        let old = history.len() as u64;
        // Two heads that both continue the last one, and not each other.
        let grow = |more: u64| {
            let new = (0..more).map(|leaf| leaf_hash(&[round, more, leaf].map(u64::to_be_bytes).concat()));
            history.iter().copied().chain(new).collect::<Vec<_>>()
        };
        let (short, long) = (grow(3), grow(5));
        let ask = |leaves: &[Digest]| {
            start.wait();
            witness.witness(&request(old, leaves), NOW + round)
        };
        let (other, one) = std::thread::scope(|scope| {
            let other = scope.spawn(|| ask(&long));
            let one = ask(&short);
            (other.join().expect("no panic"), one)
        });
        let known = witness.logs().remove(0).log;
        history = if one.is_ok() { short } else { long };
        assert_eq!((known.size, known.root), (history.len() as u64, root(&history)));
        let lost = no(Unwitnessed::Conflict(known.size));
        assert!((one.is_ok() && other == lost) || (other.is_ok() && one == lost), "{one:?} {other:?}");
    }
}

#[test]
fn a_file_that_was_cut_or_edited_is_refused() {
    let place = Place::new();
    let witness = place.witness();
    assert!(witness.witness(&grown(0, 7), NOW).is_ok());
    drop(witness);
    let text = place.text();
    assert!(WitnessState::parse(&text).is_some());
    for at in 0..text.len() {
        assert!(WitnessState::parse(&text[..at]).is_none(), "cut at {at}");
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        assert!(std::str::from_utf8(&bytes).map_or(true, |text| WitnessState::parse(text).is_none()), "byte {at}");
    }
    let resum = |text: &str| format!("{text}sum {}\n", sha256(text));
    let body = &text[..text.rfind("sum ").expect("a sum")];
    assert_eq!(resum(body), text);
    // Not even with a sum that fits: a head is the log's own word.
    let line = body.lines().last().expect("a log");
    for (from, to) in [(" 7 ", " 6 "), ("log gw", "lag gw"), ("log gw", "\nlog gw"), (line, &format!("{line}\n{line}"))]
    {
        assert!(WitnessState::parse(&resum(&body.replacen(from, to, 1))).is_none(), "{from} {to}");
    }
    assert!(WitnessState::parse(&resum(&body.replacen(line, "", 1).replace("\n\n", "\n"))).is_some());
    fs::write(place.file(), &text[..text.len() - 1]).expect("own file");
    assert!(matches!(Witness::open(&place.file()), Err(WitnessError::Damaged(_))));
    fs::write(place.file(), "x".repeat(1 + (1 << 20))).expect("own file");
    assert!(matches!(Witness::open(&place.file()), Err(WitnessError::Damaged(_))));
    fs::write(place.file(), &text).expect("own file");
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o644)).expect("own file");
    assert!(matches!(Witness::open(&place.file()), Err(WitnessError::Readable(_))));
}

#[test]
fn a_file_is_made_once_and_an_origin_has_one_key() {
    let place = Place::new();
    let witness = place.witness();
    assert!(matches!(Witness::create(&place.file(), "witness.test/w1"), Err(WitnessError::Exists(_))));
    assert!(matches!(Witness::create(&place.0.join("w2"), "not a name"), Err(WitnessError::Name)));
    assert!(matches!(witness.add(key(1)), Err(WitnessError::Known(_))));
    assert!(matches!(witness.add(key(2)), Err(WitnessError::Known(_))));
    let mode = fs::metadata(place.file()).expect("own file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A name that leads to the file has the file's own lock.
    std::os::unix::fs::symlink(place.file(), place.0.join("other")).expect("own directory");
    assert!(matches!(Witness::open(&place.0.join("other")), Err(WitnessError::InUse(_))));
    let mut desk = witness.desk.lock().expect("no panic");
    for log in 1..LOGS_MAX {
        let key =
            LogSigner::from_seed(&format!("{}/{log}", "long".repeat(49)), &[3; 32]).expect("a seed").verifier_key();
        let key = LogVerifier::parse(&key).expect("own key");
        desk.state.logs.insert(key.name().to_owned(), Cosigned::never(key));
    }
    drop(desk);
    let more = LogSigner::from_seed("gw.test/more", &[1; 32]).expect("a seed").verifier_key();
    assert!(matches!(witness.add(LogVerifier::parse(&more).expect("own key")), Err(WitnessError::Full)));
    // As many as may be are written and read.
    assert!(witness.witness(&grown(0, 7), NOW).is_ok());
    assert!(WitnessState::read(&place.file()).is_ok_and(|state| state.logs.len() == LOGS_MAX));
}

#[test]
fn a_clock_that_went_back_signs_nothing() {
    let place = Place::new();
    let witness = place.witness();
    assert_eq!(witness.witness(&grown(0, 7), 0), Err(Refused::Clock));
    assert!(witness.witness(&grown(0, 7), NOW).is_ok());
    assert_eq!(witness.witness(&grown(7, 9), NOW - 1), Err(Refused::Clock));
    assert_eq!(witness.witness(&grown(7, 9), u64::MAX), Err(Refused::Clock));
    witness.forget_times(NOW - 10);
    assert!(witness.witness(&grown(7, 9), NOW - 1).is_ok());
    assert_eq!(witness.witness(&grown(9, 9), NOW - 2), Err(Refused::Clock));
}

#[test]
fn evidence_of_a_fork_is_kept_once_and_within_bounds() {
    let place = Place::new();
    let witness = place.witness();
    assert!(witness.witness(&grown(0, 33), NOW).is_ok());
    let ask = |body: &str| witness.witness(body, NOW + 1).map_err(Refused::status);
    // What anybody could send is none: no signature, an old head, a wrong guess of the size.
    let unsigned = request(33, &leaves(33, 3)).replace("\u{2014} gw.test/a ", "\u{2014} gw.test/b ");
    for body in [&unsigned, &grown(33, 20), &grown(0, 40), &grown(0, 33)] {
        assert!(ask(body).is_err());
    }
    assert_eq!(place.evidence(), Vec::<String>::new());
    // Another root for the size, whatever size came with it; and a head without a proof. Each once.
    for _ in 0..2 {
        assert_eq!(ask(&request(33, &leaves(33, 3))), Err(409));
        assert_eq!(ask(&request(0, &leaves(33, 4))), Err(409));
        assert_eq!(ask(&request(33, &leaves(40, 3))), Err(422));
    }
    let names = place.evidence();
    let count = |end: &str| place.evidence().iter().filter(|name| name.ends_with(end)).count();
    assert_eq!((names.len(), count(".root.txt"), count(".unproven.txt")), (3, 2, 1), "{names:?}");
    assert!(names.iter().all(|name| name.starts_with(&format!("gw.test_a-{}-", NOW + 1))), "{names:?}");
    let file = place.0.join("w1.evidence").join(names.iter().find(|name| name.contains(".unproven")).expect("one"));
    let kept = fs::read_to_string(file).expect("own file");
    let known = signer(1).sign(&head(&leaves(33, u64::MAX))).note;
    assert!(kept.contains(&known) && kept.ends_with(&request(33, &leaves(40, 3))), "{kept}");
    // Heads without a proof fill half of the room, and the rest is for what only the log's key can make.
    for size in 41..120 {
        assert_eq!(ask(&request(33, &leaves(size, 3))), Err(422));
    }
    assert_eq!(count(".unproven.txt"), UNPROVEN_MAX);
    for fork in (0..33).chain(40..140) {
        let mut other = leaves(33, fork);
        other[0] = leaf_hash(&fork.to_be_bytes());
        assert_eq!(ask(&request(33, &other)), Err(409));
    }
    assert_eq!(place.evidence().len(), EVIDENCE_MAX);
    assert!(witness.witness(&grown(33, 40), NOW + 1).is_ok());
}

#[test]
fn a_log_that_is_not_asked_for_is_unknown_and_not_forgotten() {
    let place = Place::new();
    let witness = place.witness();
    let first = grown(0, 3);
    witness.witness(&first, NOW).expect("it grew");
    witness.only(["gw.test/b".to_owned()]);
    let second = grown(3, 5);
    assert_eq!(witness.witness(&second, NOW + 1), no(Unwitnessed::Unknown));
    witness.only([ORIGIN.to_owned()]);
    assert_eq!(witness.witness(&first, NOW + 1), no(Unwitnessed::Conflict(3)));
    witness.witness(&second, NOW + 1).expect("it grew from what was seen before");
}
