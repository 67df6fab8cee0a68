//! A log of 2,000 entries, and everything that a hand can do to it: each bit flipped, each prefix, each pair of a bundle
//! swapped. None of it passes, and what can be placed is placed.
#![allow(clippy::unwrap_used)]

use chancery_ledger::{
    ActDone, ActStart, Check, Checkpoint, Entry, EpochSigner, Log, LogSigner, Outcome, Range, Report, Roots,
    SessionClose, SessionOpen, Stamp, Verdict, Verifier, inclusion_proof, leaf_hash, root, verify_inclusion,
};
use chancery_model::{Digest, Durability, Effect, ResourceName, RuleId, SessionId, Timestamp};

const ORIGIN: &str = "gw.test/tamper";
const ENTRIES: usize = 2_000;
/// Entries of a bundle (C2SP tlog-tiles).
const BUNDLE: usize = 256;

struct Written {
    lines: Vec<Vec<u8>>,
    hashes: Vec<Digest>,
    note: String,
    roots: Roots,
}

/// Sessions of 60 commands each, one after the other, in epochs of 500 entries.
fn written() -> Written {
    let signer = LogSigner::from_seed(ORIGIN, &[1; 32]).unwrap();
    let epoch = |number: u64| EpochSigner::from_seed(ORIGIN, number, &[100 + number as u8; 32]).unwrap();
    let (resource, rules) = (ResourceName::parse("billing").unwrap(), [RuleId("rules.cedar#1".into())]);
    let mut log = Log::new(ORIGIN, [7; 16]).unwrap();
    let (mut lines, mut hashes, mut range) = (Vec::new(), Vec::new(), Range::default());
    let mut add = |log: &mut Log, range: &mut Range, entry: &Entry<'_>| {
        let (mut line, at) = (Vec::new(), lines.len() as i64);
        let stamp = Stamp { wall: Timestamp(1_700_000_000_000_000 + 1_000 * at), mono: 1_000 * at };
        let placed = log.append(entry, stamp, &mut line).unwrap();
        range.push(placed.leaf);
        hashes.push(placed.leaf);
        lines.push(line);
        lines.len()
    };
    let mut number = 0;
    let mut size =
        add(&mut log, &mut range, &Entry::KeyEpoch(epoch(0).begin(&signer, 600_000, Range::default().root())));
    for n in 0.. {
        if size + 122 > ENTRIES {
            break;
        }
        let session = SessionId([n; 16]);
        let chain = [1; 16];
        let (profile, digest) = (Durability::Balanced, Digest([2; 32]));
        let open = SessionOpen {
            session,
            chain,
            resource: &resource,
            rules: digest,
            rule_ids: &rules,
            protocol: "postgres",
            method: "oidc",
            profile,
        };
        add(&mut log, &mut range, &Entry::SessionOpen(open));
        for command in 1..=60 {
            let start = ActStart {
                session,
                command,
                chain,
                resource: &resource,
                rules: digest,
                decision: "allow",
                rule_ids: &rules,
                effect: Effect::Read,
                fingerprint: Digest([3; 32]),
                digest: Digest([command as u8; 32]),
                review: None,
                profile,
            };
            add(&mut log, &mut range, &Entry::ActStart(start));
            let done = ActDone {
                session,
                command,
                outcome: Outcome::Completed,
                sqlstate: None,
                rows: command,
                bytes: 12,
                masked: 0,
                duration_us: 400,
                recording: None,
            };
            size = add(&mut log, &mut range, &Entry::ActDone(done));
        }
        let close = SessionClose { session, reason: "client-closed", recording: None };
        size = add(&mut log, &mut range, &Entry::SessionClose(close)).max(size);
        if size as u64 / 500 > number {
            number += 1;
            let next = epoch(number).succeed(&epoch(number - 1), 600_000, size as u64, range.root());
            size = add(&mut log, &mut range, &Entry::KeyEpoch(next));
        }
    }
    while size < ENTRIES {
        size = add(&mut log, &mut range, &Entry::Heartbeat);
    }
    let head = Checkpoint { origin: ORIGIN.into(), size: size as u64, root: range.root() };
    let note = epoch(number).countersign(signer.sign(&head)).note;
    let roots = Roots::parse(&Roots::text(&signer.verifier_key(), &epoch(0).public_key()).unwrap()).unwrap();
    Written { lines, hashes, note, roots }
}

impl Written {
    /// The verifier over these lines; with the tiles, as a reader of a ledger has them, or without.
    fn judge<'l>(&self, lines: impl Iterator<Item = &'l [u8]>, tiles: bool) -> Report {
        let mut verifier = Verifier::new(self.roots.clone());
        verifier.with_recordings();
        verifier.checkpoint(&self.note);
        if tiles {
            for (at, tile) in self.hashes.chunks(BUNDLE).enumerate() {
                verifier.leaves((at * BUNDLE) as u64, &tile.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>());
            }
        }
        lines.for_each(|line| verifier.entry(line));
        verifier.finish()
    }
    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(Vec::as_slice)
    }
}

#[test]
fn what_nobody_touched_passes() {
    let log = written();
    assert_eq!(log.lines.len(), ENTRIES);
    for tiles in [true, false] {
        let report = log.judge(log.all(), tiles);
        assert_eq!((report.verdict(), report.size), (Verdict::Pass, ENTRIES as u64), "{report:?}");
    }
}

/// Each of some seven million bits: the leaf's hash is another, and no longer in the tree that was signed. That the whole
/// verifier says no, and names the entry, is seen for one bit of each entry, and for each bit of one entry of each kind.
#[test]
fn every_single_bit_flip_is_found() {
    let log = written();
    let signed = root(&log.hashes);
    let mut bits = 0_u64;
    for (index, line) in log.lines.iter().enumerate() {
        let proof = inclusion_proof(&log.hashes, index).unwrap();
        assert!(verify_inclusion(&log.hashes[index], index as u64, ENTRIES as u64, &proof, &signed));
        let mut changed = line.clone();
        for at in 0..8 * line.len() {
            changed[at / 8] ^= 1 << (at % 8);
            let leaf = leaf_hash(&changed);
            assert_ne!(leaf, log.hashes[index], "entry {index}, bit {at}");
            // The way up to the root is the same for every bit of an entry: one step decides.
            if at % 997 == index % 997 {
                assert!(!verify_inclusion(&leaf, index as u64, ENTRIES as u64, &proof, &signed));
            }
            changed[at / 8] ^= 1 << (at % 8);
            bits += 1;
        }
    }
    assert!(bits > 5_000_000, "{bits}");
    let mut flipped = log.lines.clone();
    let mut judge = |index: usize, at: usize| {
        flipped[index][at / 8] ^= 1 << (at % 8);
        let report = log.judge(flipped.iter().map(Vec::as_slice), true);
        assert_eq!(report.verdict(), Verdict::Fail, "entry {index}, bit {at}");
        assert_eq!(report.first_bad_entry(), Some(index as u64), "entry {index}, bit {at}");
        flipped[index][at / 8] ^= 1 << (at % 8);
    };
    for (index, line) in log.lines.iter().enumerate().step_by(9) {
        judge(index, (index * 7919) % (8 * line.len()));
    }
    // An epoch's entry: each of its bits would be another seal.
    let epoch = log.lines.iter().rposition(|line| line.windows(9).any(|at| at == b"key.epoch")).unwrap();
    for at in (0..8 * log.lines[epoch].len()).step_by(37) {
        judge(epoch, at);
    }
}

#[test]
fn every_prefix_is_found() {
    let log = written();
    for cut in 0..ENTRIES {
        let report = log.judge(log.all().take(cut), true);
        let tail = report.finding(Check::Tail).unwrap();
        assert_eq!((tail.verdict, tail.entry), (Verdict::Fail, Some(cut as u64)), "{cut}");
    }
}

/// All pairs of one bundle, in the form that a careful hand gives them: each has the other's index, so that only hashes tell.
#[test]
fn every_swapped_pair_of_a_bundle_is_found() {
    let log = written();
    let signed = root(&log.hashes);
    let first = 3 * BUNDLE;
    let renumbered = |from: usize, to: usize| {
        let line = String::from_utf8(log.lines[from].clone()).unwrap();
        let line = line.replace(&format!("\"n\":{from},"), &format!("\"n\":{to},"));
        leaf_hash(line.as_bytes())
    };
    let proofs: Vec<_> = (first..first + BUNDLE).map(|at| inclusion_proof(&log.hashes, at).unwrap()).collect();
    let mut pairs = 0;
    for one in first..first + BUNDLE {
        for other in one + 1..first + BUNDLE {
            for (from, to) in [(one, other), (other, one)] {
                let leaf = renumbered(from, to);
                assert_ne!(leaf, log.hashes[to], "{from} at {to}");
                assert!(!verify_inclusion(&leaf, to as u64, ENTRIES as u64, &proofs[to - first], &signed));
            }
            pairs += 1;
        }
    }
    assert_eq!(pairs, BUNDLE * (BUNDLE - 1) / 2);
    for (one, other) in [(first, first + 1), (first + 7, first + 200), (first + 100, first + 102)] {
        let mut lines = log.lines.clone();
        lines.swap(one, other);
        let report = log.judge(lines.iter().map(Vec::as_slice), true);
        assert_eq!((report.verdict(), report.first_bad_entry()), (Verdict::Fail, Some(one as u64)));
    }
}
