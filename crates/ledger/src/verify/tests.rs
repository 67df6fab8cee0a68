use chancery_model::{Durability as Profile, Effect, ResourceName, RuleId, Timestamp};

use super::*;
use crate::{
    ActDone, ActStart, Cosigner, Entry, EpochSigner, Log, LogSigner, Outcome, SessionClose, SessionOpen, Stamp,
};

const ORIGIN: &str = "gw.test/a";

struct Fixture {
    lines: Vec<Vec<u8>>,
    notes: Vec<String>,
    roots: Roots,
}

fn epoch(number: u64) -> EpochSigner {
    numbered(number, number)
}

/// An epoch with the key of another.
fn numbered(number: u64, key: u64) -> EpochSigner {
    EpochSigner::from_seed(ORIGIN, number, &[100 + key as u8; 32]).expect("a seed")
}

fn fixture() -> Fixture {
    build(&Story::default())
}

/// How a log came about: the true way, or as somebody would have it.
struct Story {
    /// Rows of every command.
    rows: u64,
    /// Epochs by which key and, for the ends, sealed by the key of which; the second is idle.
    epochs: Vec<(u64, u64)>,
    /// The epochs that sign the checkpoint in the middle and the one at the end.
    checkpoints: [Option<u64>; 2],
}

impl Default for Story {
    fn default() -> Self {
        Self { rows: 1, epochs: vec![(1, 0), (2, 1)], checkpoints: [Some(0), Some(2)] }
    }
}

/// About 200 entries of 24 sessions in three epochs, a checkpoint in the middle and at the end.
fn build(story: &Story) -> Fixture {
    let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a seed");
    let mut log = Log::new(ORIGIN, [7; 16]).expect("an origin");
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let resource = ResourceName::parse("billing").expect("well-formed");
    let rules = [RuleId("r\"1".into())];
    let mut range = Range::default();
    let mut add = |log: &mut Log, entry: Entry<'_>| {
        let mut line = Vec::new();
        let at = lines.len() as i64;
        let at = log.append(&entry, Stamp { wall: Timestamp(1_000 + at), mono: at }, &mut line).expect("fits");
        lines.push(line);
        range.push(at.leaf);
        range.root()
    };
    add(&mut log, Entry::KeyEpoch(epoch(0).begin(&signer, 600_000, Range::default().root())));
    for n in 0..24 {
        let session = SessionId([n; 16]);
        add(
            &mut log,
            Entry::SessionOpen(SessionOpen {
                session,
                chain: [1; 16],
                resource: &resource,
                rules: Digest([2; 32]),
                rule_ids: &rules,
                protocol: "postgres",
                method: "oidc",
                profile: Profile::Strict,
            }),
        );
        for command in 1..=3 {
            add(
                &mut log,
                Entry::ActStart(ActStart {
                    session,
                    command,
                    chain: [1; 16],
                    resource: &resource,
                    rules: Digest([2; 32]),
                    decision: "allow",
                    rule_ids: &rules,
                    effect: Effect::Read,
                    fingerprint: Digest([3; 32]),
                    digest: Digest([4; 32]),
                    review: None,
                    profile: Profile::Strict,
                }),
            );
            add(
                &mut log,
                Entry::ActDone(ActDone {
                    session,
                    command,
                    outcome: Outcome::Failed,
                    sqlstate: Some("42P01"),
                    rows: story.rows,
                    bytes: 2,
                    masked: 3,
                    duration_us: 4,
                    recording: None,
                }),
            );
        }
        let mut root = add(&mut log, Entry::SessionClose(SessionClose { session, reason: "client", recording: None }));
        if n == 11 || n == 23 {
            let head = Checkpoint { origin: ORIGIN.to_owned(), size: log.size(), root };
            let signed = signer.sign(&head);
            notes.push(match story.checkpoints[usize::from(n == 23)] {
                Some(number) => epoch(number).countersign(signed).note,
                None => signed.note,
            });
        }
        if n == 11 {
            for (at, (key, before)) in (1..).zip(&story.epochs) {
                let next = numbered(at, *key).succeed(&epoch(*before), 600_000, log.size(), root);
                root = add(&mut log, Entry::KeyEpoch(next));
            }
        }
    }
    let roots = Roots::text(&signer.verifier_key(), &epoch(0).public_key()).expect("own keys");
    Fixture { lines, notes, roots: Roots::parse(&roots).expect("own roots") }
}

fn report(fixture: &Fixture, lines: &[Vec<u8>]) -> Report {
    let mut verifier = Verifier::new(fixture.roots.clone());
    verifier.with_recordings();
    fixture.notes.iter().for_each(|note| verifier.checkpoint(note));
    lines.iter().for_each(|line| verifier.entry(line));
    verifier.finish()
}

#[test]
fn an_untouched_log_passes_every_check() {
    let fixture = fixture();
    let report = report(&fixture, &fixture.lines);
    assert_eq!((report.size, report.verdict()), (195, Verdict::Pass), "{report:?}");
}

#[test]
fn every_flipped_byte_changes_its_leaf_and_samples_of_each_entry_are_found() {
    let mut fixture = fixture();
    let lines = std::mem::take(&mut fixture.lines);
    // Each byte changes its leaf hash, hence every signed root above it; the whole verifier runs on some of each entry.
    let hashes: Vec<Digest> = lines.iter().map(|line| leaf_hash(line)).collect();
    for (index, line) in lines.iter().enumerate() {
        let tile: Vec<u8> = hashes[index..=index].iter().flat_map(|hash| hash.0).collect();
        for at in 0..line.len() {
            let mut changed = line.clone();
            changed[at] ^= 1 << (at % 8);
            assert_ne!(leaf_hash(&changed), hashes[index]);
            if at % 97 == index % 97 {
                let mut all = lines.clone();
                all[index] = changed;
                let found = report(&fixture, &all);
                assert_eq!(found.verdict(), Verdict::Fail, "entry {index} byte {at}");
                let mut verifier = Verifier::new(fixture.roots.clone());
                verifier.leaves(index as u64, &tile);
                all.iter().for_each(|line| verifier.entry(line));
                let named = verifier.finish().finding(Check::Lines).and_then(|finding| finding.entry);
                assert_eq!(named, Some(index as u64), "with its tile the entry is named exactly");
            }
        }
    }
}

#[test]
fn every_truncation_is_found_and_placed() {
    let fixture = fixture();
    for cut in 0..fixture.lines.len() {
        let found = report(&fixture, &fixture.lines[..cut]);
        let tail = found.finding(Check::Tail).expect("always there");
        assert_eq!((tail.verdict, tail.entry), (Verdict::Fail, Some(cut as u64)));
    }
}

#[test]
fn every_swap_and_removal_is_found_and_placed() {
    let fixture = fixture();
    for first in 0..fixture.lines.len() - 1 {
        let mut swapped = fixture.lines.clone();
        swapped.swap(first, (first + 1 + first * 7) % fixture.lines.len());
        let lowest = swapped.iter().zip(&fixture.lines).position(|(a, b)| a != b);
        let found = report(&fixture, &swapped);
        let lines = found.finding(Check::Lines).expect("always there");
        assert_eq!(lines.entry, lowest.map(|at| at as u64));
        assert_eq!(found.first_bad_entry(), lowest.map(|at| at as u64), "not the first of what a checkpoint covers");
        let mut removed = fixture.lines.clone();
        removed.remove(first);
        assert_eq!(report(&fixture, &removed).finding(Check::Lines).and_then(|f| f.entry), Some(first as u64));
    }
}

/// Whoever swaps two entries can give each the other's index, so that only their hashes tell.
#[test]
fn a_swapped_pair_in_the_right_form_is_named_by_the_tile() {
    let fixture = fixture();
    let text = |at: usize| String::from_utf8(fixture.lines[at].clone()).expect("text");
    let numbered = |line: String, from: usize, to: usize| {
        line.replace(&format!("\"n\":{from},"), &format!("\"n\":{to},")).into_bytes()
    };
    let tile: Vec<u8> = fixture.lines.iter().flat_map(|line| leaf_hash(line).0).collect();
    // Below the first checkpoint and above it, neighbours and not; each is a whole session's pair of commands.
    for (one, other) in [(12, 14), (51, 53), (153, 156), (101, 104)] {
        let mut lines = fixture.lines.clone();
        lines[one] = numbered(text(other), other, one);
        lines[other] = numbered(text(one), one, other);
        assert_ne!((&lines[one], &lines[other]), (&fixture.lines[one], &fixture.lines[other]));
        let found = report(&fixture, &lines);
        let signed = found.finding(Check::Checkpoints).cloned().expect("always there");
        let (first, last) = if one < 97 { (0, 96) } else { (97, 194) };
        assert_eq!((signed.verdict, signed.entry, signed.last), (Verdict::Fail, Some(first), Some(last)), "{signed}");
        assert!(found.first_bad_entry().is_some_and(|entry| entry <= one as u64), "never one behind it");

        let mut verifier = Verifier::new(fixture.roots.clone());
        verifier.leaves(0, &tile);
        fixture.notes.iter().for_each(|note| verifier.checkpoint(note));
        lines.iter().for_each(|line| verifier.entry(line));
        assert_eq!(verifier.finish().first_bad_entry(), Some(one as u64), "{one} and {other}");
    }
}

/// What other checks find says something of their own entry, not that those before it are right.
#[test]
fn a_forged_entry_without_a_tile_is_placed_at_the_start_of_what_was_signed() {
    let fixture = fixture();
    let mut lines = fixture.lines.clone();
    let forged = String::from_utf8(lines[102].clone()).expect("text").replace("\"allow\"", "\"alloy\"");
    assert_ne!(forged.as_bytes(), &lines[102][..]);
    lines[102] = forged.into_bytes();
    let found = report(&fixture, &lines);
    assert!(found.finding(Check::Rolling).is_some_and(|rolling| rolling.entry == Some(106)), "{found:?}");
    assert_eq!(found.first_bad_entry(), Some(97));
    assert_eq!(report(&fixture, &fixture.lines).first_bad_entry(), None);
}

#[test]
fn unbalanced_sessions_and_forks_are_named() {
    let fixture = fixture();
    let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a seed");
    let mut verifier = Verifier::new(fixture.roots.clone());
    fixture.notes.iter().for_each(|note| verifier.checkpoint(note));
    let forked = crate::Checkpoint { origin: ORIGIN.into(), size: 195, root: Digest([1; 32]) };
    verifier.checkpoint(&signer.sign(&forked).note);
    let finding = verifier.finish().finding(Check::Checkpoints).cloned().expect("always there");
    assert!(finding.what.contains("forked"), "{finding}");
    // A log that its own writer balanced wrongly: an outcome twice.
    let mut verifier = Verifier::new(fixture.roots.clone());
    let again = String::from_utf8(fixture.lines[3].clone()).expect("text").replace("\"n\":3,", "\"n\":4,");
    fixture.lines[..4].iter().for_each(|line| verifier.entry(line));
    verifier.entry(again.as_bytes());
    let finding = verifier.finish().finding(Check::Sessions).cloned().expect("always there");
    assert_eq!((finding.verdict, finding.entry), (Verdict::Fail, Some(4)));
}

#[test]
fn a_rolling_hash_that_is_not_the_sessions_is_named() {
    let fixture = fixture();
    let mut lines = fixture.lines.clone();
    let close = String::from_utf8(lines[8].clone()).expect("text");
    let at = close.find("\"roll\":\"").expect("a close has one") + 8;
    let flipped = if &close[at..=at] == "0" { "1" } else { "0" };
    lines[8] = format!("{}{flipped}{}", &close[..at], &close[at + 1..]).into_bytes();
    let finding = report(&fixture, &lines).finding(Check::Rolling).cloned().expect("always there");
    assert_eq!((finding.verdict, finding.entry), (Verdict::Fail, Some(8)));
}

fn ladder(story: &Story) -> Finding {
    let forged = build(story);
    let mut verifier = Verifier::new(forged.roots.clone());
    forged.notes.iter().for_each(|note| verifier.checkpoint(note));
    forged.lines.iter().for_each(|line| verifier.entry(line));
    verifier.finish().finding(Check::Ladder).cloned().expect("always there")
}

/// Who takes the keys of the third epoch, the log's own among them, wants other rows in the first: all entries are made
/// anew, and all heads signed again.
#[test]
fn the_keys_of_today_do_not_rewrite_a_sealed_epoch() {
    let forged = build(&Story { rows: 7, epochs: vec![(1, 2), (2, 2)], checkpoints: [Some(2), Some(2)] });
    let mut verifier = Verifier::new(forged.roots.clone());
    forged.notes.iter().for_each(|note| verifier.checkpoint(note));
    forged.lines.iter().for_each(|line| verifier.entry(line));
    let found = verifier.finish();
    let finding = |check| found.finding(check).expect("always there");
    assert_eq!(finding(Check::Checkpoints).verdict, Verdict::Pass, "the log's key signs whatever it is given");
    let ladder = finding(Check::Ladder);
    assert_eq!((ladder.verdict, ladder.entry), (Verdict::Fail, Some(96)), "{ladder}");
    assert!(ladder.failures >= 2, "the checkpoint, and the epoch behind it: {ladder}");
}

/// The same attacker leaves the sealed epochs' own words as they were: they no longer seal what is there.
#[test]
fn an_old_seal_does_not_cover_other_entries() {
    let (forged, honest) = (build(&Story { rows: 7, ..Story::default() }), fixture());
    let mut lines = forged.lines.clone();
    lines[97] = honest.lines[97].clone();
    let found = report(&honest, &lines);
    let ladder = found.finding(Check::Ladder).expect("always there");
    assert_eq!((ladder.verdict, ladder.entry), (Verdict::Fail, Some(97)), "{ladder}");
}

/// The log's key alone can begin a ladder of its own. Only who holds the root of the first sees it.
#[test]
fn another_ladder_is_not_the_one_that_was_begun() {
    let fixture = fixture();
    let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).expect("a seed");
    let other = EpochSigner::from_seed(ORIGIN, 0, &[55; 32]).expect("a seed");
    let mut log = Log::new(ORIGIN, [7; 16]).expect("an origin");
    let mut line = Vec::new();
    let begin = Entry::KeyEpoch(other.begin(&signer, 600_000, Range::default().root()));
    let at = log.append(&begin, Stamp::default(), &mut line).expect("fits");
    let head = Checkpoint { origin: ORIGIN.to_owned(), size: 1, root: at.leaf };
    let note = other.countersign(signer.sign(&head)).note;
    let found = |roots: Roots| {
        let mut verifier = Verifier::new(roots);
        verifier.checkpoint(&note);
        verifier.entry(&line);
        verifier.finish().finding(Check::Ladder).cloned().expect("always there")
    };
    let pinned = found(fixture.roots.clone());
    assert_eq!((pinned.verdict, pinned.entry), (Verdict::Fail, Some(0)), "{pinned}");
    let unpinned = found(fixture.roots.log().clone().into());
    assert_eq!(unpinned.verdict, Verdict::Inconclusive, "never PASS: {unpinned}");
}

/// CVE-2023-31439 of another sealed log: old entries, sealed again with a newer key, verified.
#[test]
fn a_newer_key_does_not_seal_older_entries() {
    let found = ladder(&Story { checkpoints: [Some(2), Some(2)], ..Story::default() });
    assert_eq!((found.verdict, found.entry), (Verdict::Fail, Some(96)), "{found}");
    let found = ladder(&Story { checkpoints: [Some(0), Some(1)], ..Story::default() });
    assert_eq!((found.verdict, found.entry), (Verdict::Fail, Some(194)), "{found}");
}

/// CVE-2023-31438 of the same: an epoch without entries had no seal, so a log could be cut and go on later.
#[test]
fn an_idle_epoch_cannot_be_skipped() {
    // The second epoch's entry is gone, and the third takes its number.
    let found = ladder(&Story { epochs: vec![(2, 1)], ..Story::default() });
    assert_eq!((found.verdict, found.entry), (Verdict::Fail, Some(97)), "{found}");
    // Or keeps its own.
    let mut lines = fixture().lines;
    lines.remove(97);
    let later: Vec<Vec<u8>> = lines.split_off(97);
    lines.extend(later.into_iter().enumerate().map(|(at, line)| {
        let text = String::from_utf8(line).expect("text");
        text.replace(&format!("\"n\":{},", at + 98), &format!("\"n\":{},", at + 97)).into_bytes()
    }));
    let found = report(&fixture(), &lines);
    let ladder = found.finding(Check::Ladder).expect("always there");
    assert_eq!((ladder.verdict, ladder.entry), (Verdict::Fail, Some(97)), "{ladder}");
}

/// The third of its kind: a file without seals passed as one that never had any.
#[test]
fn a_log_without_seals_does_not_pass() {
    let found = ladder(&Story { checkpoints: [Some(0), None], ..Story::default() });
    assert_eq!((found.verdict, found.entry), (Verdict::Fail, Some(194)), "{found}");
    let mut log = Log::new(ORIGIN, [7; 16]).expect("an origin");
    let mut line = Vec::new();
    log.append(&Entry::Heartbeat, Stamp::default(), &mut line).expect("fits");
    let mut verifier = Verifier::new(fixture().roots);
    verifier.entry(&line);
    let found = verifier.finish().finding(Check::Ladder).cloned().expect("always there");
    assert_eq!((found.verdict, found.entry), (Verdict::Fail, Some(0)), "{found}");
}

/// Whoever held all keys from the beginning writes another log. Only who was told of the true one, and says so, excludes it.
#[test]
fn only_a_witness_excludes_a_log_that_was_written_anew() {
    let cosigner = Cosigner::from_seed("witness.test/w1", &[9; 32]).expect("a seed");
    let policy = format!("witness w1 {}\nquorum w1\n", cosigner.verifier_key());
    let policy = WitnessPolicy::parse(&policy).expect("well-formed");
    let (honest, forged) = (fixture(), build(&Story { rows: 7, ..Story::default() }));
    let log = honest.roots.log().clone();
    let witnessed: Vec<String> = honest
        .notes
        .iter()
        .map(|note| format!("{note}{}", cosigner.cosign(&log.open(note).expect("signed").checkpoint, 1_000)))
        .collect();
    let judge = |lines: &[Vec<u8>], notes: &[String]| {
        let mut verifier = Verifier::new(honest.roots.clone());
        verifier.with_witnesses(policy.clone());
        notes.iter().for_each(|note| verifier.checkpoint(note));
        lines.iter().for_each(|line| verifier.entry(line));
        verifier.finish()
    };
    let finding = |report: &Report, check| report.finding(check).cloned().expect("made");
    let good = judge(&honest.lines, &witnessed);
    assert_eq!(finding(&good, Check::Witnesses).verdict, Verdict::Pass, "{good:?}");
    // The forger has no cosignature: everything else passes, and this does not.
    let new = judge(&forged.lines, &forged.notes);
    assert_eq!(finding(&new, Check::Ladder).verdict, Verdict::Pass, "all keys were there");
    let doubt = finding(&new, Check::Witnesses);
    assert_eq!((doubt.verdict, new.verdict()), (Verdict::Inconclusive, Verdict::Inconclusive), "{doubt}");
    // With what the witness holds, it is found.
    let both: Vec<String> = forged.notes.iter().chain(&witnessed).cloned().collect();
    assert_eq!(finding(&judge(&forged.lines, &both), Check::Checkpoints).verdict, Verdict::Fail);
    // What came after the last cosignature is not excluded; what is missing below it is found.
    let later = finding(&judge(&honest.lines, &[witnessed[0].clone(), honest.notes[1].clone()]), Check::Witnesses);
    assert_eq!((later.verdict, later.entry), (Verdict::Inconclusive, Some(97)), "{later}");
    let cut = finding(&judge(&honest.lines[..150], &witnessed), Check::Witnesses);
    assert_eq!((cut.verdict, cut.entry), (Verdict::Fail, Some(150)), "{cut}");
    assert_eq!(report(&honest, &honest.lines).finding(Check::Witnesses), None, "nobody said who they are");
}
