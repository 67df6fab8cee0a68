//! Any bytes through the detectors: no panic, hits in order inside the text, work linear in its length.
#![no_main]

use chancery_mask::{Context, Detector, Scanner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut scanner = Scanner::of(Detector::ALL);
    let mut hits = Vec::new();
    for context in [Context { ssn: false }, Context { ssn: true }] {
        let before = scanner.steps();
        scanner.scan(data, context, &mut hits);
        assert!(scanner.steps() - before <= 64 * data.len() as u64, "work is not linear");
        let mut last = 0;
        for hit in &hits {
            assert!(last <= hit.range.start && hit.range.start < hit.range.end && hit.range.end <= data.len());
            last = hit.range.end;
            if let Ok(text) = std::str::from_utf8(data) {
                assert!(text.is_char_boundary(hit.range.start) && text.is_char_boundary(hit.range.end));
            }
        }
    }
});
