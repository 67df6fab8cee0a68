//! The answer of a timestamp authority, and the request that is kept beside it, as anybody could have left them.

#![no_main]

use chancery_ledger::{stamp_request, verify_stamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let note = "a note\n";
    let request = stamp_request(note, [7; 8]);
    // Nobody is trusted, so nothing is taken, however far it is read.
    assert!(verify_stamp(note, &request, data, &[]).is_err());
    assert!(verify_stamp(note, data, data, &[data.to_vec()]).is_err());
});
