//! Both legs say anything; every command is forwarded and every output released. Nothing panics, and what goes up is
//! made of the client's own frames, of injected Describes, Syncs and Flushes, and of statements that no server can parse.
#![no_main]

use bytes::{Bytes, BytesMut};
use chancery_wire::{Event, Leg, Limits, Relay};
use chancery_wire_pg::{PgRelay, RelayConfig, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let limits = Limits {
        message_bytes_max: 4096,
        output_bytes_max: 4096,
        commands_in_flight_max: 8,
        held_bytes_max: 8192,
        statements_max: 8,
        ..Limits::default()
    };
    let config = RelayConfig { limits, describe: choice & 1 == 1, status: b'I', renamed: None };
    let mut relay = PgRelay::new(config, BytesMut::new(), BytesMut::new()).expect("nothing was said");
    let (mut from_client, mut to_server) = (Vec::new(), Vec::new());
    let mut rest = data;
    while let Some((&head, tail)) = rest.split_first() {
        let leg = if head & 0x80 == 0 { Leg::Downstream } else { Leg::Upstream };
        let length = usize::from(head & 0x7f).min(tail.len());
        let (piece, tail) = tail.split_at(length);
        rest = tail;
        if !relay.wants(leg) {
            continue;
        }
        if leg == Leg::Downstream {
            from_client.extend_from_slice(piece);
        }
        let mut alive = relay.receive(leg, Bytes::copy_from_slice(piece)).is_ok();
        while let Some(event) = relay.poll() {
            match event {
                Event::Command(command) => relay.forward(command.id),
                Event::Input(input) => relay.pass(input),
                Event::Output(output) => relay.release(output),
                Event::Done(_) | Event::Closed(_) => {}
            }
            alive &= relay.resume().is_ok();
        }
        while let Some((leg, bytes)) = relay.transmit() {
            if leg == Leg::Upstream {
                to_server.extend_from_slice(&bytes);
            }
        }
        if !alive {
            break;
        }
    }
    goes_up(&from_client, &to_server);
});

/// Every frame that went up stands in what the client sent, in its order, or is of the relay's own making.
fn goes_up(from_client: &[u8], to_server: &[u8]) {
    let (mut at, mut up) = (0, 0);
    while let Ok(Some(sent)) = frame::next_frame(&to_server[up..], usize::MAX) {
        let bytes = &to_server[up..up + sent.range.len()];
        up += sent.range.len();
        // These may be ours even where the client sends the same later, so they do not tell where in its stream we are.
        if bytes == b"S\0\0\0\x04" || bytes == b"H\0\0\0\x04" {
            continue;
        }
        let mut from = at;
        let found = loop {
            match frame::next_frame(&from_client[from..], usize::MAX) {
                Ok(Some(said)) => {
                    let whole = &from_client[from..from + said.range.len()];
                    from += said.range.len();
                    if whole == bytes {
                        break true;
                    }
                }
                _ => break false,
            }
        };
        if found {
            at = from;
        } else {
            let ours = bytes[0] == b'D'
                || bytes.windows(16).any(|window| window == b"chancery_refused")
                || matches!(bytes[0], b'S' | b'H');
            assert!(ours, "a frame that nobody sent");
        }
    }
    assert_eq!(up, to_server.len(), "whole frames go up");
}
