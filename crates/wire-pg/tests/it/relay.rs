//! Conversations through [`PgRelay`], as text: fed whole and then byte by byte.
//!
//! A line is `>` from the client, `<` from the server: a tag and its body, `\0` for a zero byte. `forward` and `refuse`
//! answer the oldest command. `up` and `down` say what has gone out since, tag by tag.

use bytes::{Bytes, BytesMut};
use chancery_model::{CommandId, Refusal, RefusalCode};
use chancery_wire::{Event, Leg, Limits, Relay};
use chancery_wire_pg::{PgRelay, RelayConfig, frame};

struct Wire {
    relay: PgRelay,
    asked: Vec<CommandId>,
    up: BytesMut,
    down: BytesMut,
}

fn message(text: &str) -> Bytes {
    let (tag, body) = text.split_at(1);
    let body = body.trim_start().replace("\\0", "\0");
    let mut out = BytesMut::new();
    frame::message(&mut out, tag.as_bytes()[0], |out| out.extend_from_slice(body.as_bytes()));
    out.freeze()
}

fn tags(bytes: &mut BytesMut) -> String {
    let mut tags = String::new();
    while let Ok(Some(found)) = frame::next_frame(bytes, usize::MAX) {
        tags.push(char::from(found.tag));
        drop(bytes.split_to(found.range.len()));
    }
    assert!(bytes.is_empty(), "whole frames");
    tags
}

impl Wire {
    fn drain(&mut self) {
        self.relay.resume().expect("well-formed");
        while let Some(event) = self.relay.poll() {
            match event {
                Event::Command(command) => self.asked.push(command.id),
                Event::Input(input) => self.relay.pass(input),
                Event::Output(output) => self.relay.release(output),
                Event::Done(_) | Event::Closed(_) => {}
            }
            self.relay.resume().expect("well-formed");
        }
        while let Some((leg, bytes)) = self.relay.transmit() {
            let out = if leg == Leg::Upstream { &mut self.up } else { &mut self.down };
            out.extend_from_slice(&bytes);
        }
    }

    fn say(&mut self, leg: Leg, bytes: &Bytes, step: usize) {
        for piece in bytes.chunks(step) {
            self.relay.receive(leg, Bytes::copy_from_slice(piece)).expect("well-formed");
            self.drain();
        }
    }
}

fn check(transcript: &str) {
    for step in [usize::MAX, 1] {
        let config = RelayConfig { limits: Limits::default(), describe: false, status: b'I' };
        let relay = PgRelay::new(config, BytesMut::new(), BytesMut::new()).expect("nothing was said");
        let mut wire = Wire { relay, asked: Vec::new(), up: BytesMut::new(), down: BytesMut::new() };
        for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                ">" => wire.say(Leg::Downstream, &message(rest), step),
                "<" => wire.say(Leg::Upstream, &message(rest), step),
                "forward" => {
                    let id = wire.asked.remove(0);
                    wire.relay.forward(id);
                }
                "refuse" => {
                    let id = wire.asked.remove(0);
                    wire.relay.refuse(id, &Refusal::new(RefusalCode::Denied, "no", "ref"));
                }
                "up" => assert_eq!(tags(&mut wire.up), rest, "up, in steps of {step}, at: {line}\n{transcript}"),
                "down" => assert_eq!(tags(&mut wire.down), rest, "down, in steps of {step}, at: {line}\n{transcript}"),
                _ => panic!("not a line of a transcript: {line}"),
            }
            wire.drain();
        }
    }
}

#[test]
fn a_simple_query() {
    check(
        r"> Q select 1\0
          up
          forward
          up Q
          < C SELECT 1\0
          < Z I
          down CZ",
    );
}

#[test]
fn a_refused_query_never_reaches_an_idle_server() {
    check(
        r"> Q drop table t\0
          refuse
          up
          down EZ",
    );
}

#[test]
fn a_refusal_in_a_transaction_fails_it_on_the_server() {
    check(
        r"> Q begin\0
          forward
          < C BEGIN\0
          < Z T
          down CZ
          up Q
          > Q drop table t\0
          refuse
          up Q
          < E C42601\0\0
          < Z E
          down EZ",
    );
}

#[test]
fn a_sync_does_not_overtake_units_of_its_failed_pipeline() {
    check(
        r"> P \0select 1\0\0\0
          > H
          > P a\0select 2\0\0\0
          > H
          forward
          up PH
          < E C42601\0\0
          > S
          up
          forward
          up
          forward
          up S
          < Z I
          down EZ",
    );
}

#[test]
fn what_follows_copy_data_does_not_overtake_it() {
    check(
        r"> Q copy t from stdin\0
          forward
          < G \0\0\0
          > d 1
          > c
          > Q select 1\0
          < C COPY 1\0
          < Z I
          forward
          up QdcQ
          down GCZ",
    );
}

#[test]
fn a_query_ends_a_pipeline_without_a_sync() {
    check(
        r"> P a\0select 1\0\0\0
          > D Sa\0
          > H
          forward
          up PDH
          < 1
          < t \0\0
          < n
          down 1tn
          > Q begin\0
          forward
          up Q
          < C BEGIN\0
          < Z T
          down CZ",
    );
}

#[test]
fn a_query_behind_a_pipeline_waits_for_its_answers() {
    check(
        r"> P a\0select 1\0\0\0
          > Q select 2\0
          forward
          up PH
          < 1
          forward
          up Q
          < C SELECT 1\0
          < Z I
          > P b\0select 1\0\0\0
          > Q select 2\0
          forward
          up PH
          < E C42601\0\0
          > S
          up S
          < Z I
          down 1CZEZ",
    );
}

#[test]
fn a_refused_query_fails_the_pipeline_it_ends() {
    check(
        r"> P a\0select 1\0\0\0
          > Q drop table t\0
          forward
          < 1
          refuse
          up PHQ
          < E C42601\0\0
          < Z I
          down 1EZ",
    );
}

#[test]
fn a_flush_alone_begins_no_pipeline() {
    check(
        r"> H
          forward
          > Q select 1\0
          forward
          up HQ",
    );
}

#[test]
fn an_unconfirmed_name_waits_and_goes_on_after_a_refusal() {
    check(
        r"> P a\0select 1\0\0\0
          > S
          > D Sa\0
          > S
          refuse
          down EZ
          forward
          up DS",
    );
}
