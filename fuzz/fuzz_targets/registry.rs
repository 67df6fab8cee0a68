//! The entries of a registry as an attacker would leave them, in any number.

#![no_main]

use chancery_ledger::{LogSigner, LogVerifier, Registry, read_registry};
use libfuzzer_sys::fuzz_target;

const NAME: &str = "registry.test/r";

fuzz_target!(|data: &[u8]| {
    let mut registry = Registry::new(NAME).expect("a name");
    for line in data.split(|byte| *byte == b'\n') {
        let before = registry.head();
        match registry.push(line) {
            Ok(()) => assert_eq!(registry.head().size, before.size + 1),
            Err(_) => assert_eq!(registry.head(), before, "what does not fit is not taken"),
        }
    }
    for known in registry.origins() {
        // A head that was taken is a note of the log's key.
        assert!(known.notes().all(|note| known.roots.log().open(&note).is_ok()));
        assert!(known.heads().is_sorted_by_key(|head| head.size));
    }
    // Read whole, under a head that may or may not be its own.
    let signer = LogSigner::from_seed(NAME, &[7; 32]).expect("a seed");
    let key = LogVerifier::parse(&signer.verifier_key()).expect("own key");
    read_registry(&key, data, &[signer.sign(&registry.head()).note], None);
});
