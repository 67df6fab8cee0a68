//! A server that answers a catalog query with anything.
#![no_main]

use chancery_wire_pg::{Fetch, FetchLimits, FetchStep};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let limits = FetchLimits { rows_max: 16, bytes_max: 4_096 };
    let (mut fetch, _question) = Fetch::new("select", limits).expect("no zero byte");
    for piece in data.chunks(usize::from(choice) + 1) {
        match fetch.receive(piece) {
            FetchStep::Wait => {}
            FetchStep::Done(fetched) => {
                assert!(fetched.rows.len() <= limits.rows_max);
                assert!(fetched.rows.windows(2).all(|pair| pair[0].len() == pair[1].len()));
                return;
            }
            FetchStep::Failed(_) => return,
        }
    }
});
