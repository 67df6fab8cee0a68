//! Ledger files as an attacker would leave them: lines, notes, keys, bundles, and the verifier over all of it. What a witness
//! is sent, what it answers, and what a policy of witnesses says.

#![no_main]

use chancery_ledger::{
    AddCheckpoint, Check, Checkpoint, Cosigner, Leaf, LogSigner, LogVerifier, Roots, Verdict, Verifier, WitnessKey,
    WitnessPolicy, WitnessedLog, bundle, parse_bundle, verify_consistency, verify_inclusion,
};
use chancery_model::Digest;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static KEY: LazyLock<LogVerifier> = LazyLock::new(|| {
    let signer = LogSigner::from_seed("example.test/log", &[9; 32]).expect("the origin is good");
    LogVerifier::parse(&signer.verifier_key()).expect("a signer's key is well formed")
});

static WITNESS: LazyLock<WitnessKey> = LazyLock::new(|| {
    let cosigner = Cosigner::from_seed("witness.test/w1", &[9; 32]).expect("the name is good");
    WitnessKey::parse(&cosigner.verifier_key()).expect("a cosigner's key is well formed")
});
static HEAD: LazyLock<Checkpoint> =
    LazyLock::new(|| Checkpoint { origin: "example.test/log".into(), size: 3, root: Digest([7; 32]) });

fuzz_target!(|data: &[u8]| {
    let Some((door, data)) = data.split_first() else { return };
    match door {
        0 => {
            // The verifier walks plain lines in place; it never takes one that the reader of lines refuses.
            let good = Leaf::parse(data, 0).is_ok_and(|leaf| leaf.origin == KEY.name());
            let mut verifier = Verifier::new(KEY.clone());
            verifier.entry(data);
            let report = verifier.finish();
            let fails = report.finding(Check::Lines).is_some_and(|lines| lines.verdict == Verdict::Fail);
            assert_eq!(good, !fails, "two readers of one line");
        }
        1 => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            let _ = LogVerifier::parse(text);
            assert!(KEY.open(text).is_err(), "nobody but the log can sign");
            if let Ok(checkpoint) = Checkpoint::parse(text) {
                assert_eq!(checkpoint.body(), text, "a body that is read is the body that is written");
            }
        }
        2 => {
            if let Some(entries) = parse_bundle(data) {
                assert_eq!(bundle(entries.iter().copied()).as_deref(), Ok(data), "a bundle reads back as itself");
            }
        }
        3 => {
            let hashes: Vec<Digest> = data.as_chunks::<32>().0.iter().map(|bytes| Digest(*bytes)).collect();
            let [leaf, root, proof @ ..] = hashes.as_slice() else { return };
            let _ = verify_inclusion(leaf, u64::from(data[0]), u64::from(data[1]), proof, root);
            let _ = verify_consistency(u64::from(data[0]), u64::from(data[1]), proof, leaf, root);
        }
        4 => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            let _ = Roots::parse(text);
            let _ = WitnessPolicy::parse(text).map(|policy| policy.quorum(&HEAD, text));
            if let Ok(request) = AddCheckpoint::parse(text) {
                assert_eq!(request.encode(), text, "a request that is read is the request that is written");
                assert!(WitnessedLog::new(KEY.clone()).judge(&request).is_err(), "nobody but the log can sign");
            }
        }
        5 => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            assert!(!matches!(WITNESS.signed_at(&HEAD, text), Ok(Some(_))), "nobody but the witness can sign");
        }
        _ => {
            let mut verifier = Verifier::new(KEY.clone());
            for line in data.split(|byte| *byte == b'\n') {
                verifier.entry(line);
            }
            let _: Verdict = verifier.finish().verdict();
        }
    }
});
