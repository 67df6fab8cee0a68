//! Packs of evidence as an attacker would hand them over: the container, the manifest, and files whose hashes fit.

#![no_main]

use chancery_evidence::{
    ChainRow, Generator, Listed, MANIFEST, MANIFEST_NOTE, Manifest, PackVerifier, Period, Preface, Provenance, Seen,
    Trusted, manifest_text,
};
use chancery_ledger::{Checkpoint, EpochSigner, Hasher, LogSigner, Roots, Verdict};
use chancery_model::{Digest, Timestamp};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const ORIGIN: &str = "example.test/log";

static TRUSTED: LazyLock<Trusted> = LazyLock::new(|| {
    let log = LogSigner::from_seed(ORIGIN, &[9; 32]).expect("the origin is good");
    let epoch = EpochSigner::from_seed(ORIGIN, 0, &[8; 32]).expect("the origin is good");
    let roots = format!("{}\n{}\n", log.verifier_key(), epoch.verifier_key());
    let roots = Roots::parse(&roots).expect("signers' keys are well formed");
    Trusted { roots, witnesses: None, checkpoints: Vec::new(), signatures: Some(|_, _, _| true) }
});

/// Where the fuzzer's bytes may stand.
const PATHS: [&str; 10] = [
    "directory/chains.jsonl",
    "rules/x.rules",
    "reconciliation/postgres.jsonl",
    "reviews/approvals.jsonl",
    "recordings/00000000000000000000000000000000.rec",
    "ledger/checkpoint",
    "ledger/tile/0/000.p/1",
    "ledger/tile/entries/000.p/1",
    "ledger/kept/001.p/1",
    "populations/P05.jsonl",
];

fuzz_target!(|data: &[u8]| {
    let Some((door, data)) = data.split_first() else { return };
    match door {
        0 => {
            let mut verifier = PackVerifier::new(TRUSTED.clone());
            if data.chunks(100).try_for_each(|piece| verifier.feed(piece)).is_ok() {
                drop(verifier.finish());
            }
            let mut preface = Preface::default();
            if data.chunks(100).try_for_each(|piece| preface.feed(piece).map(drop)).is_ok() {
                drop(preface.finish());
            }
        }
        1 => {
            if let Ok(manifest) = Manifest::parse(data) {
                assert_eq!(manifest.json().as_bytes(), data, "a manifest that is read is the one that is written");
            }
        }
        2 => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            let mut again = String::new();
            if let Some(row) = ChainRow::parse(text) {
                row.line(&mut again);
                assert_eq!(again.trim_end(), text.trim_end(), "a row that is read is the one that is written");
            }
            let _ = Seen::parse(text);
        }
        _ => files(data),
    }
});

/// Files of a pack, each with its length in two bytes in front.
fn files(mut data: &[u8]) {
    let mut parts: Vec<(&str, &[u8])> = Vec::new();
    for path in PATHS {
        let Some((length, rest)) = data.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        if length > 0 {
            parts.push((path, bytes));
        }
        data = rest;
    }
    let sha256 = |bytes: &[u8]| {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    };
    let listed = parts.iter().map(|(path, bytes)| Listed {
        path: (*path).to_owned(),
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
    });
    let head = Checkpoint { origin: ORIGIN.into(), size: 1, root: Digest([7; 32]) };
    let (created_at, period, controls) = (Timestamp(1), Period { from: 0, to: i64::MAX / 4 }, Vec::new());
    let from = Provenance { head, created_at, period, controls, pruned: None, registry: false };
    let generator = Generator { name: "f".into(), version: "0".into(), binary_sha256: Digest::default() };
    let manifest = Manifest::new(&from, generator, listed.collect()).json();
    let mut verifier = PackVerifier::new(TRUSTED.clone());
    let signed = LogSigner::from_seed(ORIGIN, &[9; 32]).expect("the origin is good");
    let note = signed.sign_text(&manifest_text(manifest.as_bytes())).expect("no head");
    let first = [(MANIFEST, manifest.as_bytes()), (MANIFEST_NOTE, note.as_bytes())];
    for (path, bytes) in first.into_iter().chain(parts) {
        if verifier.begin(path, bytes.len() as u64).is_err() {
            return;
        }
        if bytes.chunks(50).any(|piece| verifier.bytes(piece).is_err()) || verifier.end().is_err() {
            return;
        }
    }
    if let Ok(report) = verifier.finish() {
        assert_ne!(report.verdict(), Verdict::Pass, "nobody but the log can sign");
    }
}
