//! A server that answers anything: the first byte chooses the configuration, the rest is said in pieces.
#![no_main]

use chancery_wire_pg::{Dial, DialConfig, DialStep, DialTls, channel_binding_for};
use libfuzzer_sys::fuzz_target;

const PASSWORD: &[u8] = b"correct horse battery staple";

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let tls = match choice & 3 {
        0 => DialTls::Disable,
        1 => DialTls::Prefer,
        2 => DialTls::Require,
        _ => DialTls::Direct,
    };
    let mut config = DialConfig::new("app".into(), "shop".into(), PASSWORD.to_vec().into(), [9; 18]);
    config.tls = tls;
    config.minor = if choice & 4 == 0 { 0 } else { 2 };
    // Stretching is not what is fuzzed.
    config.iterations_max = 4_096;
    let mut dial = Dial::new(config).expect("speakable");
    let mut secure = tls == DialTls::Direct;
    if secure {
        assert!(matches!(dial.secured(channel_binding_for(data)), DialStep::Wait));
    }
    let mut said = Vec::new();
    for piece in data.chunks(usize::from(choice >> 3) + 1) {
        let mut step = dial.receive(piece);
        loop {
            said.extend(dial.transmit().into_iter().flatten());
            step = match step {
                DialStep::Wait => break,
                DialStep::StartTls => {
                    secure = true;
                    dial.secured(channel_binding_for(data))
                }
                DialStep::Derive(work) => dial.derived(work.run()),
                DialStep::Ready(_) | DialStep::Failed(_) => return,
            };
        }
        let leaked = said.windows(PASSWORD.len()).any(|window| window == PASSWORD);
        assert!(secure || !leaked, "the password outside of TLS");
    }
});
