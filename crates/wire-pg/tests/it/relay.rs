//! Conversations through [`PgRelay`], as text: fed whole and then byte by byte.
//!
//! A line is `>` from the client, `<` from the server: a tag and its body, `\0` for a zero byte, `\xNN` for any other.
//! `forward` and `refuse` answer the oldest command, `forget` says what a forwarded one made the names lose. `asks` says
//! what was asked since, `done` what ended, `says` whose errors and notices came (the number of a command, 0 if it is not
//! certain), `up` and `down` what has gone out, tag by tag.

use bytes::{Bytes, BytesMut};
use chancery_model::{Ask, CommandId, DoneStatus, OutputKind, Refusal, RefusalCode};
use chancery_wire::{Event, Forget, Leg, Limits, Relay, WireError};
use chancery_wire_pg::{PgRelay, RelayConfig, frame};

struct Wire {
    relay: PgRelay,
    asked: Vec<CommandId>,
    asks: Vec<String>,
    ended: Vec<CommandId>,
    done: Vec<String>,
    says: Vec<String>,
    up: BytesMut,
    down: BytesMut,
}

fn message(text: &str) -> Bytes {
    let (tag, body) = text.split_at(1);
    let mut body = body.trim_start();
    let mut bytes = Vec::new();
    while let Some(first) = body.chars().next() {
        let (byte, length) = match body.strip_prefix('\\') {
            Some(escape) if escape.starts_with('x') => (u8::from_str_radix(&escape[1..3], 16).expect("two digits"), 4),
            Some(_) => (0, 2),
            None => (u8::try_from(first).expect("ASCII"), 1),
        };
        bytes.push(byte);
        body = &body[length..];
    }
    let mut out = BytesMut::new();
    frame::message(&mut out, tag.as_bytes()[0], |out| out.extend_from_slice(&bytes));
    out.freeze()
}

fn ask(ask: &Ask) -> String {
    match ask {
        Ask::Query(statement) => format!("query {}", statement.as_str()),
        Ask::Prepare(statement) => format!("prepare {}", statement.as_str()),
        Ask::Execute(statement, bind) if bind.resumed => format!("resume {}", statement.as_str()),
        Ask::Execute(statement, _) => format!("execute {}", statement.as_str()),
        Ask::Step(_) => "step".to_owned(),
        Ask::Refused(_) => "refused".to_owned(),
    }
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
                Event::Command(command) => {
                    self.asked.push(command.id);
                    self.asks.push(ask(&command.ask));
                }
                Event::Input(input) => self.relay.pass(input),
                Event::Output(output) => {
                    let tags = tags(&mut BytesMut::from(&output.bytes[..]));
                    let mut tags = tags.chars();
                    // What is masked as an error is the server's; a refusal of ours is not.
                    match output.kind {
                        OutputKind::Text => assert!(tags.all(|tag| matches!(tag, 'E' | 'N'))),
                        OutputKind::Own => assert!(tags.all(|tag| tag == 'E')),
                        _ => assert!(!tags.any(|tag| matches!(tag, 'E' | 'N'))),
                    }
                    if matches!(output.kind, OutputKind::Text) {
                        // It is still known which statement this is.
                        assert!(!self.ended.contains(&output.command), "{:?} is over", output.command);
                        self.says.push(output.command.0.to_string());
                    }
                    self.relay.release(output);
                }
                Event::Done(done) => {
                    self.ended.push(done.command);
                    self.done.push(match done.status {
                        DoneStatus::Completed => format!("completed {}", done.rows),
                        DoneStatus::Suspended => format!("suspended {}", done.rows),
                        DoneStatus::Failed(code) => format!("failed {code}"),
                        DoneStatus::Skipped => "skipped".to_owned(),
                    });
                }
                Event::Closed(_) => {}
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
    check_with(false, transcript);
}

/// `describe`: the relay asks for the columns of every execution.
fn check_with(describe: bool, transcript: &str) {
    for step in [usize::MAX, 1] {
        let config = RelayConfig { limits: Limits::default(), describe, status: b'I', renamed: None };
        let relay = PgRelay::new(config, BytesMut::new(), BytesMut::new()).expect("nothing was said");
        let (asked, asks, done, says) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (up, down) = (BytesMut::new(), BytesMut::new());
        let mut wire = Wire { relay, asked, asks, ended: Vec::new(), done, says, up, down };
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
                "forget" => wire.relay.forget(match rest {
                    "all" => Forget::All,
                    "portals" => Forget::Portals,
                    name => Forget::Statement(name),
                }),
                "asks" => assert_eq!(wire.asks.split_off(0).join(", "), rest, "in steps of {step}\n{transcript}"),
                "done" => assert_eq!(wire.done.split_off(0).join(", "), rest, "in steps of {step}\n{transcript}"),
                "says" => assert_eq!(wire.says.split_off(0).join(", "), rest, "in steps of {step}\n{transcript}"),
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

#[test]
fn an_extended_query_is_one_command() {
    check(
        r"> P \0select 1\0\0\0
          > B \0\0\0\0\0\0\0\0
          > D P\0
          > E \0\0\0\0\0
          > S
          asks execute select 1, step
          up
          forward
          forward
          up PBDES
          < 1
          < 2
          < T \0\0
          < D \0\0
          < C SELECT 1\0
          < Z I
          done completed 1, completed 0
          down 12TDCZ",
    );
}

#[test]
fn a_describe_is_injected_and_not_shown() {
    check_with(
        true,
        r"> P \0select 1\0\0\0
          > B \0\0\0\0\0\0\0\0
          > E \0\0\0\0\0
          > S
          forward
          forward
          up PBDES
          < 1
          < 2
          < T \0\0
          < D \0\0
          < C SELECT 1\0
          < Z I
          down 12DCZ",
    );
}

#[test]
fn rows_after_a_suspension_are_a_command_of_their_own() {
    check(
        r"> Q begin\0
          forward
          < C BEGIN\0
          < Z T
          > P \0select 1\0\0\0
          > B p\0\0\0\0\0\0\0\0
          > E p\0\0\0\0\x01
          > S
          forward
          forward
          < 1
          < 2
          < D \0\0
          < s
          < Z T
          asks query begin, execute select 1, step
          done completed 0, suspended 1, completed 0
          > E p\0\0\0\0\0
          > S
          asks resume select 1, step
          forward
          forward
          < C SELECT 0\0
          < Z T
          done completed 0, completed 0
          up QPBESES
          down CZ12DsZCZ",
    );
}

#[test]
fn copy_out_over_the_extended_protocol() {
    check(
        r"> P \0copy t to stdout\0\0\0
          > B \0\0\0\0\0\0\0\0
          > E \0\0\0\0\0
          > S
          forward
          forward
          < 1
          < 2
          < H \0\0\x01\0\0
          < d 1\x0a
          < d 2\x0a
          < c
          < C COPY 2\0
          < Z I
          done completed 2, completed 0
          up PBES
          down 12HddcCZ",
    );
}

#[test]
fn copy_in_over_the_extended_protocol_syncs_behind_the_data() {
    check(
        r"> P \0copy t from stdin\0\0\0
          > B \0\0\0\0\0\0\0\0
          > E \0\0\0\0\0
          > S
          forward
          forward
          < 1
          < 2
          < G \0\0\x01\0\0
          > d 1\x0a
          > c
          > S
          asks execute copy t from stdin, step, step
          forward
          < C COPY 1\0
          < Z I
          up PBESdcS
          down 12GCZ",
    );
}

#[test]
fn notices_and_notifications_go_through_where_they_come() {
    check(
        r"< A \0\0\0\x07channel\0said\0
          down A
          > Q select 1\0
          forward
          < N SNOTICE\0C00000\0Mnote\0\0
          < S application_name\0a\0
          < C SELECT 1\0
          < Z I
          down NSCZ",
    );
}

#[test]
fn a_parse_is_ruled_on_by_its_own_text_even_if_its_name_is_lost() {
    check(
        r"> Q deallocate all\0
          > P a\0drop table t\0\0\0
          forward
          forget all
          > S
          asks query deallocate all, prepare drop table t
          refuse
          < C DEALLOCATE ALL\0
          < Z I
          up QPS
          < E C42601\0\0
          < Z I
          down CZEZ",
    );
}

#[test]
fn a_name_that_changed_while_its_unit_was_gathered_is_not_used() {
    check(
        r"> P a\0select 1\0\0\0
          > S
          forward
          < 1
          < Z I
          > Q deallocate a; prepare a as select 2\0
          > B \0a\0\0\0\0\0\0\0
          forward
          forget a
          > E \0\0\0\0\0
          asks prepare select 1, query deallocate a; prepare a as select 2, execute select 1
          up PSQ
          forward
          up P
          done completed 0, failed 26000",
    );
}

#[test]
fn a_bind_does_not_ride_with_the_execution_of_another_portal() {
    check(
        r"> P a\0select 1\0\0\0
          > B p\0a\0\0\0\0\0\0\0
          > B q\0a\0\0\0\0\0\0\0
          > E p\0\0\0\0\0
          asks prepare select 1, step, execute select 1",
    );
}

#[test]
fn errors_are_those_of_the_command_that_holds_their_statement() {
    for (answers, status) in [("", "42601"), ("< 1", "22P02"), ("< 1\n< 2", "23505")] {
        check(&format!(
            r"> P \0select 1\0\0\0
              > B \0\0\0\0\0\0\0\0
              > E \0\0\0\0\0
              forward
              {answers}
              < N SNOTICE\0C00000\0Mnote\0\0
              < E C{status}\0\0
              says 1, 1
              done failed {status}
              > S
              < Z I"
        ));
    }
    check(
        r"> P a\0select 1\0\0\0
          > D Sa\0
          > S
          forward
          < N SNOTICE\0C00000\0Mnote\0\0
          < E C22012\0\0
          says 1, 1
          done failed 22012
          < Z I",
    );
}

#[test]
fn errors_are_nobodys_where_the_statement_is_another() {
    let prepare = r"> P a\0select 1\0\0\0
          > S
          forward
          < 1
          < Z I
          done completed 0";
    // A Bind of one statement in front of the Parse of another, or alone; a Describe of any; the end of a transaction.
    for (messages, answers) in [
        (r"> B p\0a\0\0\0\0\0\0\0 > P \0select 2\0\0\0 > H", ""),
        (r"> B p\0a\0\0\0\0\0\0\0 > H", ""),
        (r"> D Sa\0 > P \0select 2\0\0\0 > H", ""),
        (r"> P \0select 2\0\0\0 > D Sa\0 > H", "< 1"),
        (r"> B p\0a\0\0\0\0\0\0\0 > P \0select 2\0\0\0 > S > Q select 3\0", "< 2 < 1"),
    ] {
        let lines = |text: &str| text.replace(" > ", "\n> ").replace(" < ", "\n< ");
        let (messages, answers) = (lines(messages), lines(answers));
        let rest = messages.matches("> Q").map(|_| "forward").collect::<String>();
        check(&format!(
            r"{prepare}
              {messages}
              forward
              {rest}
              {answers}
              < N SNOTICE\0C00000\0Mnote\0\0
              < E C22012\0\0
              says 0, 0"
        ));
    }
}

#[test]
fn rows_are_not_taken_for_those_of_another_portal() {
    let limits = Limits { statements_max: 2, ..Limits::default() };
    let config = RelayConfig { limits, describe: true, status: b'T', renamed: None };
    let mut relay = PgRelay::new(config, BytesMut::new(), BytesMut::new()).expect("nothing was said");
    let mut next = 0;
    let mut play = |script: &str| {
        for line in script.lines().map(str::trim) {
            let (way, text) = line.split_once(' ').expect("a way");
            let leg = if way == ">" { Leg::Downstream } else { Leg::Upstream };
            relay.receive(leg, message(text))?;
            while let Some(event) = relay.poll() {
                if let Event::Command(_) = event {
                    next += 1;
                    relay.forward(CommandId(next));
                }
            }
        }
        Ok(())
    };
    let described = |name: &str| {
        format!(
            r"> B {name}\0s\0\0\0\0\0\0\0
              > D P{name}\0
              > H
              < 2
              < T \0\0"
        )
    };
    let closed = |name: &str| format!("> C P{name}\\0\n> H\n< 3");
    let steps = [
        "> P s\\0select 1\\0\\0\\0\n> H\n< 1".to_owned(),
        described("a"),
        closed("a"),
        described("b"),
        closed("b"),
        described("tagged"),
        "> B other\\0s\\0\\0\\0\\0\\0\\0\\0\n> H\n< 2".to_owned(),
    ];
    for step in steps {
        assert_eq!(play(&step), Ok(()), "{step}");
    }
    let error =
        play("> D Pother\\0\n> E tagged\\0\\0\\0\\0\\0\n> H\n< T \\0\\0\n< D \\0\\0").expect_err("no description");
    assert!(matches!(error, WireError::LimitReached(Leg::Upstream, _)), "{error:?}");
}

#[test]
fn a_function_call_is_refused_as_a_cycle_of_its_own() {
    check(
        r"> F \0\0
          asks refused
          refuse
          up
          down EZ",
    );
}

#[test]
fn a_sync_that_reaches_a_server_that_takes_data_ends_nothing() {
    check(
        r"> P \0copy t from stdin\0\0\0
          > B \0\0\0\0\0\0\0\0
          > E \0\0\0\0\0
          > S
          forward
          < 1
          < 2
          < G \0\0\x01\0\0
          forward
          > f no\0
          < E C57014\0\0
          > S
          < Z I
          > P \0select 1\0\0\0
          > S
          forward
          < 1
          < Z I
          up PBESfSPS
          down 12GEZ1Z",
    );
}

#[test]
fn a_sync_sent_before_copy_data_is_not_answered() {
    check(
        r"> P \0copy t from stdin\0\0\0
          > B \0\0\0\0\0\0\0\0
          > E \0\0\0\0\0
          > S
          forward
          forward
          < 1
          < 2
          < G \0\0\x01\0\0
          > f no\0
          < E C57014\0\0
          > S
          < Z I
          > P \0select 1\0\0\0
          > S
          forward
          < 1
          < Z I
          up PBESfSPS
          down 12GEZ1Z",
    );
}

/// What a conversation came to.
#[derive(Debug, Default, PartialEq)]
struct Said {
    asks: Vec<String>,
    columns: Vec<String>,
    rows: u64,
    up: BytesMut,
    down: BytesMut,
}

fn joined(messages: &str) -> Bytes {
    let messages = messages.lines().map(str::trim).filter(|line| !line.is_empty());
    messages.map(message).fold(BytesMut::new(), |all, one| [all, one[..].into()].concat()[..].into()).freeze()
}

/// Plays exchanges of what the client says and the server answers, each side cut in two at `cut`; all is forwarded. Steps
/// are left out: whether a Sync is one depends on where it is cut off.
fn play(describe: bool, exchanges: &[(&str, &str)], cut: usize) -> Said {
    let config = RelayConfig { limits: Limits::default(), describe, status: b'I', renamed: None };
    let mut relay = PgRelay::new(config, BytesMut::new(), BytesMut::new()).expect("nothing was said");
    let mut said = Said::default();
    for (client, server) in exchanges {
        for (leg, bytes) in [(Leg::Downstream, joined(client)), (Leg::Upstream, joined(server))] {
            let cut = cut.min(bytes.len());
            for piece in [bytes.slice(..cut), bytes.slice(cut..)] {
                relay.receive(leg, piece).expect("well-formed");
                while let Some(event) = relay.poll() {
                    match event {
                        Event::Command(command) => {
                            if !matches!(command.ask, Ask::Step(_)) {
                                said.asks.push(ask(&command.ask));
                            }
                            relay.forward(command.id);
                        }
                        Event::Output(output) => {
                            if let OutputKind::Columns(columns) = &output.kind {
                                said.columns.extend(columns.columns.iter().map(|column| column.name.clone()));
                            }
                            relay.release(output);
                        }
                        Event::Done(done) => said.rows += done.rows,
                        Event::Input(input) => relay.pass(input),
                        Event::Closed(_) => {}
                    }
                    relay.resume().expect("well-formed");
                }
                while let Some((leg, bytes)) = relay.transmit() {
                    let out = if leg == Leg::Upstream { &mut said.up } else { &mut said.down };
                    out.extend_from_slice(&bytes);
                }
            }
        }
    }
    said
}

/// Exchanges of executions; `described` and `named` are the Describes that the client sends of its own will.
fn executions(described: &str, named: &str) -> Vec<(String, String)> {
    const COLUMN: &str = r"\0\0\0\0\x01\0\x01\0\0\0\x17\0\x04\0\0\0\0\0\0";
    let answer = |column: &str| format!("T \\0\\x01{column}{COLUMN}\nD \\0\\x01\\0\\0\\0\\x017\nC SELECT 1\\0\n");
    let (a, b) = (answer("a"), answer("b"));
    let parse = |name: &str, text: &str| format!("P {name}\\0{text}\\0\\0\\0\n");
    let execute = format!("B \\0a\\0\\0\\0\\0\\0\\0\\0\n{described}E \\0\\0\\0\\0\\0\n");
    let unnamed = format!("B \\0\\0\\0\\0\\0\\0\\0\\0\n{described}E \\0\\0\\0\\0\\0\n");
    let portal = format!("B p\\0\\0\\0\\0\\0\\0\\0\\0\n{named}E p\\0\\0\\0\\0\\0\n");
    vec![
        (format!("{}{execute}S", parse("a", "select 1")), format!("1\n2\n{a}Z I")),
        // Two statements at once; the unnamed and the named take turns.
        (format!("{execute}S\n{}{portal}S", parse("", "select 2")), format!("2\n{a}Z I\n1\n2\n{b}Z I")),
        // The same statement is described in other words than before.
        (format!("{execute}S"), format!("2\n{b}Z I")),
        (format!("{execute}{execute}H\nS"), format!("2\n{a}2\n{b}Z I")),
        ("Q select 3; select 4\\0".to_owned(), format!("{a}{b}Z I")),
        (format!("{}{unnamed}S", parse("", "select 2")), format!("1\n2\n{b}Z I")),
    ]
}

#[test]
fn statements_are_the_same_wherever_they_are_cut() {
    for describe in [false, true] {
        let exchanges = if describe { executions("", "") } else { executions("D P\\0\n", "D Pp\\0\n") };
        let exchanges: Vec<_> = exchanges.iter().map(|(client, server)| (&client[..], &server[..])).collect();
        let client: Vec<u8> = exchanges.iter().flat_map(|(client, _)| joined(client)).collect();
        let server: Vec<u8> = exchanges.iter().flat_map(|(_, server)| joined(server)).collect();
        let longest = exchanges.iter().map(|(client, server)| joined(client).len().max(joined(server).len())).max();
        for cut in 0..=longest.expect("some") {
            let mut said = play(describe, &exchanges, cut);
            let executed = ["1", "1", "2", "1", "1", "1"].map(|text| format!("execute select {text}"));
            assert_eq!(said.asks[..6], executed, "cut at {cut}");
            assert_eq!(said.asks[6..], ["query select 3; select 4", "execute select 2"], "cut at {cut}");
            assert_eq!(said.rows, 9, "cut at {cut}");
            // What the client asked for is shown, and known again for the rows.
            let columns = if describe { "aabbababb" } else { "aaaabbbbaabbabbb" };
            assert_eq!(said.columns.concat(), columns, "cut at {cut}");
            if describe {
                assert_eq!(tags(&mut said.up), "PBDESBDESPBDESBDESBDEBDEHSQPBDES", "cut at {cut}");
                assert_eq!(tags(&mut said.down), "12DCZ2DCZ12DCZ2DCZ2DC2DCZTDCTDCZ12DCZ", "cut at {cut}");
            } else {
                assert_eq!((&said.up[..], &said.down[..]), (&client[..], &server[..]), "cut at {cut}");
            }
        }
    }
}

#[test]
fn what_is_gathered_when_data_begins_stays_whole() {
    // The Bind is read, and the data behind it waits in the same chunk until the server takes data.
    let exchanges = [
        ("P a\\0select 1\\0\\0\\0\nS", "1\nZ I"),
        (
            "P \\0copy t from stdin\\0\\0\\0\nB \\0\\0\\0\\0\\0\\0\\0\\0\nE \\0\\0\\0\\0\\0\nB p\\0a\\0\\0\\0\\0\\0\\0\\0\nd 1\nc",
            "1\n2\nG \\0\\0\\0",
        ),
        ("E p\\0\\0\\0\\0\\0\nS", "C COPY 1\\0\n2\nC SELECT 0\\0\nZ I"),
    ];
    for cut in 0..120 {
        let mut said = play(false, &exchanges, cut);
        assert_eq!(said.asks, ["prepare select 1", "execute copy t from stdin", "execute select 1"], "cut at {cut}");
        assert_eq!(tags(&mut said.up), "PSPBEdcBES", "cut at {cut}");
        assert_eq!(tags(&mut said.down), "1Z12GC2CZ", "cut at {cut}");
    }
}

#[test]
fn the_client_reads_its_own_name_where_the_server_says_the_one_that_was_planted() {
    let renamed = Some(("chancery/00ff".to_owned(), "Müller's shell".to_owned()));
    let config = RelayConfig { limits: Limits::default(), describe: false, status: b'I', renamed };
    let mut relay = PgRelay::new(config, BytesMut::new(), BytesMut::new()).expect("nothing was said");
    let mut said = |name: &str, value: &str| {
        let body = format!(r"S {name}\0{value}\0");
        relay.receive(Leg::Upstream, message(&body)).expect("well-formed");
        relay.resume().expect("well-formed");
        while let Some(event) = relay.poll() {
            if let Event::Output(output) = event {
                relay.release(output);
            }
        }
        let mut shown = Vec::new();
        while let Some((_, bytes)) = relay.transmit() {
            shown.extend_from_slice(&bytes);
        }
        String::from_utf8_lossy(&shown).into_owned()
    };
    // What stands behind the planted part is the server's affair: it writes what is not ASCII in its own way.
    assert!(said("application_name", "chancery/00ff M??ller's shell").contains("\0Müller's shell\0"));
    assert!(said("application_name", "chancery/00ff").contains("\0Müller's shell\0"));
    assert!(
        said("application_name", "chancery/00fe").contains("\0chancery/00fe\0"),
        "another session's name is just a name"
    );
    assert!(said("TimeZone", "chancery/00ff").contains("\0chancery/00ff\0"), "it is about one setting");
}
