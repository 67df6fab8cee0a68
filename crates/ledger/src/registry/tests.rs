use super::*;
use crate::{Cosigner, EpochSigner, LogSigner, root};

const NAME: &str = "registry.test/r";

/// A log of numbered leaves, and its keys.
struct Source {
    signer: LogSigner,
    epoch: EpochSigner,
}

impl Source {
    fn new(origin: &str, seed: u8) -> Self {
        let signer = LogSigner::from_seed(origin, &[seed; 32]).expect("a seed");
        let epoch = EpochSigner::from_seed(origin, 0, &[seed + 100; 32]).expect("a seed");
        Self { signer, epoch }
    }
    fn roots(&self) -> Roots {
        let text = format!("{}\n{}\n", self.signer.verifier_key(), self.epoch.verifier_key());
        Roots::parse(&text).expect("own keys")
    }
    fn origin(&self) -> String {
        self.roots().log().name().to_owned()
    }
    /// A head over this many leaves of a story.
    fn signed(&self, size: u64, story: u8) -> SignedCheckpoint {
        let leaves: Vec<Digest> = (0..size).map(|leaf| leaf_hash(&[story, leaf as u8])).collect();
        let head = Checkpoint { origin: self.origin(), size, root: root(&leaves) };
        self.epoch.countersign(self.signer.sign(&head))
    }
    fn head(&self, size: u64, grew: Grew) -> Registration {
        Registration::Head(RegisteredHead::of(&self.signed(size, 0), grew))
    }
    fn handed(&self, size: u64, story: u8) -> Handed {
        let root = self.signed(size, story).checkpoint.root;
        Handed { origin: self.origin(), key: Some(self.roots().log().clone()), size, root }
    }
}

fn at(n: i64) -> Timestamp {
    Timestamp(1_000_000 + n)
}

fn add(registry: &mut Registry, text: &mut String, log: &str, what: Registration) -> Result<(), LedgerError> {
    let line = registry.line(log, what, at(registry.leaves.len() as i64))?;
    registry.push(line.as_bytes()).expect("what was made is taken");
    text.push_str(&line);
    text.push('\n');
    Ok(())
}

struct Fixture {
    a: Source,
    b: Source,
    text: String,
    registry: Registry,
    signer: LogSigner,
    key: LogVerifier,
}

impl Fixture {
    /// Two logs with heads, of which the second retired.
    fn new() -> Self {
        let (a, b) = (Source::new("gw.test/a", 1), Source::new("gw.test/b", 2));
        let (mut registry, mut text) = (Registry::new(NAME).expect("a name"), String::new());
        let mut put = |source: &Source, what| add(&mut registry, &mut text, &source.origin(), what).expect("fits");
        put(&a, Registration::Join(a.roots()));
        put(&a, a.head(3, Grew::First));
        put(&b, Registration::Join(b.roots()));
        put(&a, a.head(7, Grew::Proven));
        put(&b, b.head(5, Grew::First));
        put(&b, Registration::Retire(RegisteredHead::of(&b.signed(9, 0), Grew::Claimed)));
        put(&a, a.head(7, Grew::Claimed));
        let signer = LogSigner::from_seed(NAME, &[9; 32]).expect("a seed");
        let key = LogVerifier::parse(&signer.verifier_key()).expect("own key");
        Self { a, b, text, registry, signer, key }
    }
    fn note(&self) -> String {
        self.signer.sign(&self.registry.head()).note
    }
    fn read(&self, text: &[u8]) -> Report {
        read_registry(&self.key, text, &[self.note()], None).1
    }
}

#[test]
fn what_is_registered_is_read_back() {
    let made = Fixture::new();
    let (registry, report) = read_registry(&made.key, made.text.as_bytes(), &[made.note()], None);
    assert_eq!((report.verdict(), report.size), (Verdict::Pass, 7), "{report:?}");
    assert_eq!(registry.head(), made.registry.head());
    let a = registry.origin("gw.test/a").expect("it joined");
    let heads: Vec<(u64, Grew)> = a.heads().iter().map(|head| (head.size, head.grew)).collect();
    assert_eq!(heads, [(3, Grew::First), (7, Grew::Proven), (7, Grew::Claimed)]);
    assert_eq!((a.roots.clone(), a.retired, a.joined, a.heard), (made.a.roots(), false, at(0), at(6)));
    // The registered heads are the notes that the log published, its epoch's signature with them.
    let notes: Vec<String> = a.notes().collect();
    assert_eq!(notes[1], made.a.signed(7, 0).note);
    assert!(registry.origin("gw.test/b").expect("it joined").retired);
    let proof = registry.consistency(3).expect("inside");
    let (old, new) = (crate::root(&registry.leaves[..3]), registry.head().root);
    assert!(crate::verify_consistency(3, 7, &proof, &old, &new));
}

#[test]
fn the_lines_are_those_of_the_specification() {
    let made = Fixture::new();
    let lines: Vec<&str> = made.text.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "{{\"k\":\"origin.join\",\"key\":\"{}\",\"ladder\":\"{}\",\"log\":\"gw.test/a\",\"n\":0,\"o\":\"{NAME}\",\"t\":1000000,\"v\":1}}",
            made.a.signer.verifier_key(),
            made.a.epoch.verifier_key()
        )
    );
    let signed = made.b.signed(9, 0);
    let sigs: Vec<&str> = signed.note.lines().filter_map(|line| line.strip_prefix("\u{2014} ")).collect();
    assert_eq!(
        lines[5],
        format!(
            "{{\"grew\":\"claimed\",\"k\":\"origin.retire\",\"log\":\"gw.test/b\",\"n\":5,\"o\":\"{NAME}\",\"root\":\"{}\",\"sigs\":[\"{}\",\"{}\"],\"size\":9,\"t\":1000005,\"v\":1}}",
            signed.checkpoint.root, sigs[0], sigs[1]
        )
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut made = Fixture::new();
    let (a, b, c) = (Source::new("gw.test/a", 1), Source::new("gw.test/b", 2), Source::new("gw.test/c", 3));
    let mut refused = |log: &str, what: Registration| {
        let before = made.text.clone();
        let error = add(&mut made.registry, &mut made.text, log, what).expect_err("it does not fit");
        assert_eq!(before, made.text);
        error.to_string()
    };
    let fork = Registration::Head(RegisteredHead::of(&a.signed(7, 1), Grew::Proven));
    let foreign = Registration::Head(RegisteredHead::of(&c.signed(8, 0), Grew::Proven));
    let unsigned =
        Registration::Head(RegisteredHead { sigs: Vec::new(), ..RegisteredHead::of(&a.signed(8, 0), Grew::Proven) });
    for (log, what, why) in [
        ("gw.test/a", a.head(6, Grew::Proven), "shorter than it was"),
        ("gw.test/a", fork, "it was forked"),
        ("gw.test/a", a.head(8, Grew::First), "its first head was before"),
        ("gw.test/a", foreign, "not signed by the log's key"),
        ("gw.test/a", unsigned, "not signed by the log's key"),
        ("gw.test/a", Registration::Join(a.roots()), "joined before"),
        ("gw.test/b", b.head(10, Grew::Proven), "has retired"),
        ("gw.test/c", c.head(1, Grew::First), "has not joined"),
        ("gw.test/c", Registration::Join(a.roots()), "another log's"),
        ("gw.test/c", Registration::Join(Roots::from(c.roots().log().clone())), "first epoch is missing"),
        ("gw.test/c", Registration::Join(Source::new("gw.test/c", 1).roots()), "another log joined with this key"),
        (NAME, Registration::Join(Source::new(NAME, 4).roots()), "does not register itself"),
    ] {
        let said = refused(log, what);
        assert!(said.contains(why), "{said} / {why}");
    }
    assert_eq!(
        made.registry.line("gw.test/a", a.head(8, Grew::Claimed), at(-500)).map(|line| line.contains("\"t\":1000006")),
        Ok(true)
    );
}

#[test]
fn no_changed_bit_passes() {
    let made = Fixture::new();
    let good = made.text.as_bytes();
    for at in 0..good.len() {
        let mut changed = good.to_vec();
        changed[at] ^= 1;
        assert_eq!(made.read(&changed).verdict(), Verdict::Fail, "byte {at}");
    }
    for cut in 0..good.len() {
        assert_eq!(made.read(&good[..cut]).verdict(), Verdict::Fail, "cut at {cut}");
    }
}

#[test]
fn no_line_can_be_dropped_swapped_or_added() {
    let made = Fixture::new();
    let lines: Vec<&str> = made.text.split_inclusive('\n').collect();
    let verdict = |lines: &[&str]| made.read(lines.concat().as_bytes()).verdict();
    assert_eq!(verdict(&lines), Verdict::Pass);
    for at in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(at);
        assert_eq!(verdict(&fewer), Verdict::Fail, "without {at}");
        for other in at + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            assert_eq!(verdict(&swapped), Verdict::Fail, "{at} and {other} swapped");
        }
    }
    // What no checkpoint covers says nothing, and is spoken of.
    let more = [made.text.as_str(), "{\"k\":\"origin.join\"}\n"].concat();
    let (registry, report) = read_registry(&made.key, more.as_bytes(), &[made.note()], None);
    assert_eq!((report.verdict(), registry.head().size), (Verdict::Inconclusive, 7));
    assert_eq!(made.read([made.text.as_str(), "torn"].concat().as_bytes()).verdict(), Verdict::Inconclusive);
}

#[test]
fn a_forked_or_foreign_registry_is_found() {
    let made = Fixture::new();
    let mut fork = made.registry.head();
    fork.root = Digest([1; 32]);
    let both = [made.note(), made.signer.sign(&fork).note];
    let report = read_registry(&made.key, made.text.as_bytes(), &both, None).1;
    assert_eq!(report.finding(Check::Checkpoints).map(|one| one.verdict), Some(Verdict::Fail));
    let other = LogSigner::from_seed(NAME, &[8; 32]).expect("a seed");
    let other = LogVerifier::parse(&other.verifier_key()).expect("own key");
    assert_eq!(read_registry(&other, made.text.as_bytes(), &[made.note()], None).1.verdict(), Verdict::Fail);
    assert_eq!(read_registry(&made.key, made.text.as_bytes(), &[], None).1.verdict(), Verdict::Inconclusive);
}

#[test]
fn witnesses_of_the_registry_are_asked_for_where_a_policy_names_them() {
    let made = Fixture::new();
    let cosigner = Cosigner::from_seed("witness.test/w1", &[7; 32]).expect("a seed");
    let policy = format!("witness w1 {}\nquorum w1\n", cosigner.verifier_key());
    let policy = WitnessPolicy::parse(&policy).expect("well-formed");
    let read = |note: &str, text: &str| {
        let report = read_registry(&made.key, text.as_bytes(), &[note.to_owned()], Some(&policy)).1;
        report.finding(Check::Witnesses).map(|one| one.verdict)
    };
    let note = made.note();
    assert_eq!(read(&note, &made.text), Some(Verdict::Inconclusive));
    let cosigned = format!("{note}{}", cosigner.cosign(&made.registry.head(), 5));
    assert_eq!(read(&cosigned, &made.text), Some(Verdict::Pass));
}

#[test]
fn the_logs_that_were_handed_in_are_all_and_as_long_as_they_were() {
    let made = Fixture::new();
    let (a, b) = (made.a.handed(12, 0), made.b.handed(9, 0));
    let check = |handed: &[&Handed]| {
        let handed: Vec<Handed> = handed.iter().map(|one| (*one).clone()).collect();
        let found = made.registry.check(&handed, at(-1));
        assert!(found.iter().all(|one| one.check == Check::Origins));
        found.into_iter().map(|one| format!("{} {}", one.verdict, one.what)).collect::<Vec<_>>()
    };
    assert_eq!(check(&[&b, &a]), ["PASS "]);
    assert_eq!(check(&[&a]), ["FAIL gw.test/b is registered and was not handed in"]);
    assert_eq!(check(&[]).len(), 2);
    assert_eq!(check(&[&a, &a, &b]), ["FAIL gw.test/a was handed in twice"]);
    assert_eq!(check(&[&made.a.handed(6, 0), &b]), ["FAIL gw.test/a has 6 entries, and 7 are registered"]);
    assert_eq!(check(&[&made.a.handed(7, 1), &b]), ["FAIL gw.test/a has other entries than the 7 that are registered"]);
    assert_eq!(check(&[&a, &made.b.handed(10, 0)]), ["FAIL gw.test/b retired with 9 entries and has 10"]);
    let c = Source::new("gw.test/c", 3).handed(2, 0);
    assert_eq!(check(&[&a, &b, &c]), ["FAIL gw.test/c was handed in and is not registered"]);
    let forged = Source::new("gw.test/a", 4).handed(12, 0);
    assert_eq!(check(&[&forged, &b]), ["FAIL gw.test/a was not verified with the key by which it is registered"]);
    // A log that had retired before what is looked at; a longer copy of it is wrong all the same.
    let since = |since, handed: &[Handed]| made.registry.check(handed, since).first().map(|one| one.verdict);
    assert_eq!(since(at(6), std::slice::from_ref(&a)), Some(Verdict::Pass));
    assert_eq!(since(at(5), std::slice::from_ref(&a)), Some(Verdict::Fail));
    assert_eq!(since(at(6), std::slice::from_ref(&b)), Some(Verdict::Fail), "the first did not retire");
    assert_eq!(since(at(6), &[a.clone(), made.b.handed(10, 0)]), Some(Verdict::Fail));
    let unverified = Handed { key: None, ..a.clone() };
    assert_eq!(check(&[&unverified, &b]).len(), 1);
}
