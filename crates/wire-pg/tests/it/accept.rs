//! Conversations with [`Accept`], each segment fed whole and then byte by byte.

use bytes::BytesMut;
use chancery_model::{Refusal, RefusalCode};
use chancery_wire::{Limits, WireError};
use chancery_wire_pg::{Accept, AcceptConfig, AcceptStep, CancelKey, frame};

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

fn guarded() -> AcceptConfig {
    AcceptConfig { limits: Limits::default(), tls: true, clear_allowed: false, direct_tls: false }
}

fn clear() -> AcceptConfig {
    AcceptConfig { clear_allowed: true, ..guarded() }
}

fn startup(minor: u8, pairs: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::untagged(&mut out, |out| {
        out.extend_from_slice(&[0, 3, 0, minor]);
        for word in pairs.split('|') {
            frame::put_string(out, word.as_bytes());
        }
        out.extend_from_slice(b"\0");
    });
    out.to_vec()
}

fn password(token: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::password(&mut out, format!("{token}\0").as_bytes());
    out.to_vec()
}

/// Says the segments one after the other, the next as soon as the machine wants more, and writes down what happens.
fn talk(config: AcceptConfig, segments: &[Vec<u8>], step_bytes: usize) -> String {
    let mut accept = Accept::new(config);
    let mut story = String::new();
    let mut over = false;
    for segment in segments {
        for piece in segment.chunks(step_bytes.min(segment.len()).max(1)) {
            if over {
                break;
            }
            let step = accept.receive(piece);
            if let Some(bytes) = accept.transmit() {
                story.push_str(&format!("< {}\n", bytes.escape_ascii()));
            }
            match step {
                AcceptStep::Wait => {}
                AcceptStep::StartTls => {
                    story.push_str("start TLS\n");
                    accept.secured();
                }
                AcceptStep::Cancel { key, secure } => {
                    let secret = key.secret().escape_ascii();
                    story.push_str(&format!("cancel {} {secret} secure={secure}\n", key.process_id()));
                    over = true;
                }
                AcceptStep::Login(login) => {
                    let parameters: Vec<_> =
                        login.startup.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                    story.push_str(&format!(
                        "login {}@{} 3.{} wait={} [{}] with {}\n",
                        login.startup.user,
                        login.startup.database,
                        login.startup.minor,
                        login.startup.wait,
                        parameters.join(", "),
                        login.password.as_str(),
                    ));
                }
                AcceptStep::Refused(error) => {
                    story.push_str(&format!("refused: {error}\n"));
                    over = true;
                }
                AcceptStep::Closed => {
                    story.push_str("closed\n");
                    over = true;
                }
            }
        }
    }
    story
}

fn check(config: AcceptConfig, segments: &[Vec<u8>], expected: &[&str]) {
    let whole = talk(config.clone(), segments, usize::MAX);
    assert_eq!(talk(config, segments, 1), whole, "byte by byte");
    assert_eq!(whole.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_login_inside_tls() {
    let packet = startup(0, "user|ann|database|shop|application_name|psql|options|-c chancery.wait=off -c jit=off");
    check(
        guarded(),
        &[GSSENC_REQUEST.to_vec(), SSL_REQUEST.to_vec(), packet, password("token")],
        &[
            r"< N",
            r"< S",
            r"start TLS",
            r"< R\x00\x00\x00\x08\x00\x00\x00\x03",
            r"login ann@shop 3.0 wait=false [client_encoding=UTF8, jit=off, application_name=psql] with token",
        ],
    );
}

#[test]
fn direct_tls_needs_no_request() {
    let config = AcceptConfig { direct_tls: true, ..guarded() };
    check(
        config.clone(),
        &[startup(2, "user|ann"), password("t")],
        &[r"< R\x00\x00\x00\x08\x00\x00\x00\x03", r"login ann@ann 3.2 wait=true [client_encoding=UTF8] with t"],
    );
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        assert!(talk(config.clone(), &[request.to_vec()], 8).contains("out of place"));
    }
    assert!(Accept::opens_with_tls(0x16) && !Accept::opens_with_tls(0));
}

#[test]
fn a_login_in_clear_is_refused() {
    check(
        guarded(),
        &[startup(0, "user|ann")],
        &[
            r"< E\x00\x00\x00VSFATAL\x00VFATAL\x00C28000\x00MTLS is required\x00HConnect with sslmode=require or stricter.\x00\x00",
            r"refused: client asked for what is not supported: login in clear",
        ],
    );
    let deaf = AcceptConfig { tls: false, ..guarded() };
    let story = talk(deaf, &[SSL_REQUEST.to_vec(), startup(0, "user|ann")], usize::MAX);
    assert!(story.starts_with("< N\n") && story.contains("TLS is required"), "{story}");
}

#[test]
fn bytes_smuggled_behind_ssl_request_are_refused() {
    let smuggled = [SSL_REQUEST, &startup(0, "user|ann")].concat();
    let story = talk(guarded(), std::slice::from_ref(&smuggled), usize::MAX);
    assert!(story.contains("bytes in clear behind SSLRequest") && !story.contains("start TLS"), "{story}");

    let mut accept = Accept::new(guarded());
    assert!(matches!(accept.receive(SSL_REQUEST), AcceptStep::StartTls));
    assert!(matches!(accept.receive(b"x"), AcceptStep::Refused(WireError::PeerMisbehaved(..))));
    let mut accept = Accept::new(guarded());
    assert!(matches!(accept.secured(), AcceptStep::Refused(WireError::Misuse(_))));
}

#[test]
fn requests_are_made_once() {
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let config = AcceptConfig { tls: false, ..clear() };
        let story = talk(config, &[request.to_vec(), request.to_vec()], usize::MAX);
        assert!(story.starts_with("< N\n") && story.contains("out of place"), "{story}");
    }
    let story = talk(guarded(), &[SSL_REQUEST.to_vec(), SSL_REQUEST.to_vec()], usize::MAX);
    assert!(story.contains("SSLRequest is out of place"), "{story}");
}

#[test]
fn newer_protocols_are_negotiated_down() {
    check(
        clear(),
        &[startup(9, "user|ann|_pq_.magic|1"), password("t")],
        &[
            r"< v\x00\x00\x00\x17\x00\x03\x00\x02\x00\x00\x00\x01_pq_.magic\x00R\x00\x00\x00\x08\x00\x00\x00\x03",
            r"login ann@ann 3.2 wait=true [client_encoding=UTF8] with t",
        ],
    );
    for packet in [&b"\0\0\0\x09\0\x02\0\0\0"[..], b"\0\0\0\x09\0\x04\0\0\0"] {
        let story = talk(clear(), &[packet.to_vec()], 1);
        assert!(story.contains("only protocol version 3 is supported"), "{story}");
    }
}

#[test]
fn parameters_off_the_list_are_named() {
    check(
        clear(),
        &[startup(0, "user|ann|role|postgres")],
        &[
            r#"< E\x00\x00\x00\x8bSFATAL\x00VFATAL\x00C0A000\x00Mstartup parameter \"role\" is not supported\x00HLeave it out and SET it after connecting, where a rule can allow it.\x00\x00"#,
            "refused: client asked for what is not supported: startup parameter",
        ],
    );
    for (pairs, text) in [
        ("user|ann|replication|database", "replication connections are not supported"),
        ("user|ann|client_encoding|SJIS", "client_encoding other than UTF8"),
        ("user|ann|options|-c session_authorization=postgres", "\\\"session_authorization\\\" is not supported"),
        ("database|shop", "no user name"),
    ] {
        let story = talk(clear(), &[startup(0, pairs)], usize::MAX);
        assert!(story.contains(text) && story.contains("refused"), "{story}");
    }
}

#[test]
fn cancel_requests_carry_their_key() {
    let request = |secret: &[u8]| {
        let mut out = BytesMut::new();
        frame::untagged(&mut out, |out| {
            out.extend_from_slice(b"\x04\xd2\x16\x2e\0\0\0\x07");
            out.extend_from_slice(secret);
        });
        out.to_vec()
    };
    check(guarded(), &[request(b"abcd")], &[r"cancel 7 abcd secure=false"]);
    let inside = [SSL_REQUEST.to_vec(), request(&[b'x'; 32])];
    assert!(talk(guarded(), &inside, usize::MAX).contains(&format!("cancel 7 {} secure=true", "x".repeat(32))));
    assert!(talk(guarded(), &[request(&[b'x'; 256])], usize::MAX).starts_with("cancel 7 x"));
    for secret in [&b""[..], b"abc", &[b'x'; 257]] {
        let story = talk(guarded(), &[request(secret)], usize::MAX);
        assert!(story.starts_with("refused"), "no answer, no cancel: {story}");
    }
}

#[test]
fn hostile_lengths_are_refused_at_once() {
    for start in [b"\0\0\0\x07\0\0\0\0", b"\xff\xff\xff\xff\0\0\0\0", b"\x7f\xff\xff\xff\0\0\0\0", b"\0\0\0\0\0\0\0\0"]
    {
        let story = talk(clear(), &[start[..4].to_vec()], usize::MAX);
        assert!(story.contains("refused"), "{story}");
    }
    for head in [&b"p\0\0\0\x03"[..], b"p\xff\xff\xff\xff", b"p\x7f\xff\xff\xff", b"Q\0\0\0\x05"] {
        let story = talk(clear(), &[startup(0, "user|ann"), head.to_vec()], usize::MAX);
        assert!(story.contains("refused"), "{story}");
    }
    // No string inside, or something behind it.
    for body in [&b"p\0\0\0\x06ab"[..], b"p\0\0\0\x07a\0b", b"p\0\0\0\x06\xff\0", b"p\0\0\0\x05\0"] {
        let story = talk(clear(), &[startup(0, "user|ann"), body.to_vec()], usize::MAX);
        assert!(story.contains("refused"), "{story}");
    }
    let story = talk(clear(), &[startup(0, "user|ann"), b"X\0\0\0\x04".to_vec()], usize::MAX);
    assert!(story.ends_with("closed\n"), "{story}");
}

#[test]
fn a_client_that_talks_too_much_too_early_is_refused() {
    let mut accept = Accept::new(clear());
    assert!(matches!(accept.receive(&startup(0, "user|ann")), AcceptStep::Wait));
    assert!(matches!(accept.receive(&password("t")), AcceptStep::Login(_)));
    let mut refused = false;
    for _ in 0..64 {
        refused |= matches!(accept.receive(&[b'Q'; 1024]), AcceptStep::Refused(WireError::LimitReached(..)));
    }
    assert!(refused);
}

#[test]
fn admission_reports_everything_and_keeps_what_came_early() {
    let mut accept = Accept::new(clear());
    let both = [startup(2, "user|ann"), password("t")].concat();
    assert!(matches!(accept.receive(&both), AcceptStep::Login(_)), "a password may come unasked");
    assert!(matches!(accept.receive(b"Q\0\0\0\x05\0"), AcceptStep::Wait));
    assert_eq!(accept.transmit().as_deref(), Some(&b"R\0\0\0\x08\0\0\0\x03"[..]));
    assert!(accept.inform("wait").is_err(), "not greeted yet");
    accept.greet().expect("a client is there");
    accept.inform("wait").expect("greeted");
    let key = CancelKey::new(5, &[b'k'; 32]).expect("32 bytes");
    let ready = accept.admit(&[("server_version".to_owned(), "17.0".to_owned())], &key, b'I').expect("in order");
    assert_eq!(&ready.leftover[..], b"Q\0\0\0\x05\0");
    assert_eq!(
        ready.transmit.escape_ascii().to_string(),
        [
            r"R\x00\x00\x00\x08\x00\x00\x00\x00",
            r#"N\x00\x00\x00\"SNOTICE\x00VNOTICE\x00C00000\x00Mwait\x00\x00"#,
            r"S\x00\x00\x00\x18server_version\x0017.0\x00",
            r"K\x00\x00\x00(\x00\x00\x00\x05kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            r"Z\x00\x00\x00\x05I",
        ]
        .concat()
    );
}

#[test]
fn admission_is_checked() {
    let login = |minor: u8| {
        let mut accept = Accept::new(clear());
        accept.receive(&[startup(minor, "user|ann"), password("t")].concat());
        accept
    };
    let (short, long) = (CancelKey::new(5, &[0; 4]).expect("4"), CancelKey::new(5, &[0; 32]).expect("32"));
    assert!(login(0).admit(&[], &short, b'I').is_ok());
    assert!(login(2).admit(&[], &long, b'I').is_ok());
    assert!(matches!(login(0).admit(&[], &long, b'I'), Err(WireError::Misuse(_))));
    assert!(matches!(login(2).admit(&[], &short, b'I'), Err(WireError::Misuse(_))));
    assert!(matches!(login(0).admit(&[], &short, b'x'), Err(WireError::Misuse(_))));
    assert!(matches!(Accept::new(clear()).admit(&[], &short, b'I'), Err(WireError::Misuse(_))));
}

#[test]
fn a_refusal_reaches_the_client() {
    let mut accept = Accept::new(clear());
    accept.receive(&[startup(0, "user|ann"), password("t")].concat());
    accept.transmit();
    accept.refuse(&Refusal::new(RefusalCode::Unauthenticated, "the token has expired", "s-1"));
    let bytes = accept.transmit().expect("an answer");
    let text = bytes.escape_ascii().to_string();
    assert!(text.contains("SFATAL") && text.contains("C28P01") && text.contains("reference s-1"), "{text}");
    assert!(matches!(accept.receive(b"x"), AcceptStep::Refused(WireError::Misuse(_))));
}

#[test]
fn nothing_secret_is_in_debug() {
    let mut accept = Accept::new(clear());
    let step = accept.receive(&[startup(0, "user|ann"), password("hunter2")].concat());
    assert!(matches!(step, AcceptStep::Login(_)));
    assert!(!format!("{step:?} {accept:?}").contains("hunter2"));
}
