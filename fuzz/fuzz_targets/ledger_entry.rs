//! Ledger files as an attacker would leave them: lines, notes, keys, bundles, and the verifier over all of it.

#![no_main]

use chancery_ledger::{
    Checkpoint, Leaf, LogSigner, LogVerifier, Verdict, Verifier, bundle, parse_bundle, verify_consistency,
    verify_inclusion,
};
use chancery_model::Digest;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static KEY: LazyLock<LogVerifier> = LazyLock::new(|| {
    let signer = LogSigner::from_seed("example.test/log", &[9; 32]).expect("the origin is good");
    LogVerifier::parse(&signer.verifier_key()).expect("a signer's key is well formed")
});

fuzz_target!(|data: &[u8]| {
    let Some((door, data)) = data.split_first() else { return };
    match door {
        0 => {
            let _ = Leaf::parse(data, 0);
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
        _ => {
            let mut verifier = Verifier::new(KEY.clone());
            for line in data.split(|byte| *byte == b'\n') {
                verifier.entry(line);
            }
            let _: Verdict = verifier.finish().verdict();
        }
    }
});
