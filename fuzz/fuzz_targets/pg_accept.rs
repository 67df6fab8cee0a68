//! A client that says anything: the first byte chooses the listener, the rest is said in pieces.
#![no_main]

use chancery_wire::Limits;
use chancery_wire_pg::{Accept, AcceptConfig, AcceptStep, CancelKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let mut accept = Accept::new(AcceptConfig {
        limits: Limits::default(),
        tls: choice & 1 != 0,
        clear_allowed: choice & 2 != 0,
        direct_tls: choice & 4 != 0,
    });
    let mut may_login = choice & 6 != 0;
    let step_bytes = usize::from(choice >> 3) + 1;
    let mut written = 0;
    for piece in data.chunks(step_bytes) {
        let step = accept.receive(piece);
        written += accept.transmit().map_or(0, |bytes| bytes.len());
        // Little said, little answered: this machine is no amplifier.
        assert!(written < 64 * 1024);
        match step {
            AcceptStep::Wait => {}
            AcceptStep::StartTls => {
                may_login = true;
                assert!(matches!(accept.secured(), AcceptStep::Wait));
            }
            AcceptStep::Login(login) => {
                assert!(may_login, "a login in clear");
                assert!(!login.startup.user.is_empty() && !login.password.is_empty());
                let key = CancelKey::new(1, &vec![1; login.startup.cancel_secret_bytes()]).expect("a legal size");
                let parameters = login.startup.parameters.clone();
                let ready = accept.admit(&parameters, &key, b'I').expect("a client is waiting");
                assert_eq!(ready.startup, login.startup);
                return;
            }
            AcceptStep::Cancel { .. } | AcceptStep::Refused(_) | AcceptStep::Closed => return,
        }
    }
});
