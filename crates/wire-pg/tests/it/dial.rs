//! Conversations with [`Dial`]: scripted servers, and a SCRAM server of the test's own.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};
use chancery_wire::WireError;
use chancery_wire_pg::{Dial, DialConfig, DialError, DialReady, DialStep, DialTls, ScramFault, ScramKeys, frame};
use zeroize::Zeroizing;

const PASSWORD: &[u8] = b"pencil";
const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const CLEAR: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const READY: &[u8] = b"Z\0\0\0\x05I";
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

fn config(tls: DialTls) -> DialConfig {
    let password = Zeroizing::new(PASSWORD.to_vec());
    DialConfig { tls, ..DialConfig::new("app".to_owned(), "shop".to_owned(), password, [7; 18]) }
}

fn dial(config: DialConfig) -> Dial {
    Dial::new(config).expect("speakable")
}

/// A dial in clear that has sent its start-up packet.
fn started() -> Dial {
    let mut dial = dial(config(DialTls::Disable));
    assert!(dial.transmit().is_some());
    dial
}

/// A dial inside TLS that has sent its start-up packet.
fn secured(config: DialConfig, channel_binding: Option<&[u8]>) -> Dial {
    let mut dial = dial(config);
    assert_eq!(dial.transmit().as_deref(), Some(SSL_REQUEST));
    assert!(matches!(dial.receive(b"S"), DialStep::StartTls));
    assert!(matches!(dial.secured(channel_binding.map(<[u8]>::to_vec)), DialStep::Wait));
    assert!(dial.transmit().is_some());
    dial
}

fn feed(dial: &mut Dial, bytes: &[u8], step_bytes: usize) -> DialStep {
    for piece in bytes.chunks(step_bytes) {
        match dial.receive(piece) {
            DialStep::Wait => {}
            other => return other,
        }
    }
    DialStep::Wait
}

fn failure(step: DialStep) -> DialError {
    match step {
        DialStep::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

fn ready(step: DialStep) -> DialReady {
    match step {
        DialStep::Ready(ready) => *ready,
        other => panic!("{other:?}"),
    }
}

#[test]
fn trust_and_reports() {
    let answer = [OK, b"S\0\0\0\x08a\0b\0", b"N\0\0\0\x05\0", b"K\0\0\0\x0c\0\0\0\x09abcd", READY].concat();
    for step_bytes in [1, usize::MAX] {
        let mut dial = dial(config(DialTls::Disable));
        assert_eq!(dial.transmit().as_deref(), Some(&b"\0\0\0\x20\0\x03\0\0user\0app\0database\0shop\0\0"[..]));
        let ready = ready(feed(&mut dial, &answer, step_bytes));
        assert_eq!(ready.parameters, [("a".to_owned(), "b".to_owned())]);
        let key = ready.key.expect("a key");
        assert_eq!((key.process_id(), key.secret(), ready.tx_status, ready.secure), (9, &b"abcd"[..], b'I', false));
        assert!(ready.leftover.is_empty());
    }
    let more = [OK, READY, b"A\0"].concat();
    assert_eq!(&ready(feed(&mut started(), &more, usize::MAX)).leftover[..], b"A\0");
}

#[test]
fn passwords_are_sent_in_clear_only_inside_tls() {
    assert_eq!(failure(started().receive(CLEAR)), DialError::ClearPasswordRefused);
    let mut inside = secured(config(DialTls::Require), None);
    assert!(matches!(inside.receive(CLEAR), DialStep::Wait));
    assert_eq!(inside.transmit().as_deref(), Some(&b"p\0\0\0\x0bpencil\0"[..]));
    assert!(ready(feed(&mut inside, &[OK, READY].concat(), 3)).secure);
    let mut loopback = dial(DialConfig { clear_password_allowed: true, ..config(DialTls::Disable) });
    loopback.transmit();
    assert!(matches!(loopback.receive(CLEAR), DialStep::Wait));
    assert!(loopback.transmit().is_some());
}

#[test]
fn md5_is_answered() {
    let mut dial = started();
    assert!(matches!(dial.receive(b"R\0\0\0\x0c\0\0\0\x05salt"), DialStep::Wait));
    // echo -n "$(echo -n pencilapp | md5sum | cut -c-32)salt" | md5sum
    assert_eq!(dial.transmit().as_deref(), Some(&b"p\0\0\0\x28md52afb5b311168c70c7e1783b3f1da0ac3\0"[..]));
    assert!(matches!(failure(started().receive(b"R\0\0\0\x0a\0\0\0\x05sa")), DialError::Wire(_)));
}

#[test]
fn tls_is_asked_for_and_nothing_is_believed_before() {
    let asked = |tls: DialTls| {
        let mut dial = dial(config(tls));
        assert_eq!(dial.transmit().as_deref(), Some(SSL_REQUEST));
        dial
    };
    assert_eq!(failure(asked(DialTls::Require).receive(b"N")), DialError::TlsRefused);
    assert_eq!(failure(asked(DialTls::Prefer).receive(b"E\0\0\0\x05\0")), DialError::TlsRefused);
    for smuggled in [&b"Sx"[..], b"x", b"R"] {
        assert!(matches!(failure(asked(DialTls::Prefer).receive(smuggled)), DialError::Wire(_)));
    }
    assert!(matches!(failure(asked(DialTls::Prefer).receive(b"NR")), DialError::TlsRefused));
    let mut clear = asked(DialTls::Prefer);
    assert!(matches!(clear.receive(b"N"), DialStep::Wait));
    assert!(clear.transmit().is_some());
    let mut early = asked(DialTls::Require);
    assert!(matches!(early.receive(b"S"), DialStep::StartTls));
    assert!(matches!(failure(early.receive(b"R")), DialError::Wire(_)));
    assert!(matches!(failure(started().secured(None)), DialError::Wire(WireError::Misuse(_))));
    let mut direct = dial(config(DialTls::Direct));
    assert!(direct.transmit().is_none());
    assert!(matches!(direct.secured(None), DialStep::Wait));
    assert!(direct.transmit().is_some());
}

#[test]
fn versions_go_down_only() {
    let ask = |answer: &[u8]| {
        let mut dial = dial(DialConfig { minor: 2, ..config(DialTls::Disable) });
        let packet = dial.transmit().expect("a start-up packet");
        assert_eq!(packet.get(4..8), Some(&[0, 3, 0, 2][..]));
        feed(&mut dial, &[answer, OK, READY].concat(), 1)
    };
    assert_eq!(ready(ask(b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0")).minor, 0);
    assert_eq!(ready(ask(b"v\0\0\0\x0c\0\0\0\0\0\0\0\0")).minor, 0);
    assert_eq!(ready(ask(b"")).minor, 2);
    for answer in [
        &b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"[..],
        b"v\0\0\0\x0c\0\x04\0\0\0\0\0\0",
        b"v\0\0\0\x0c\0\x03\0\0\0\0\0\x01",
        b"v\0\0\0\x0c\xff\xff\0\0\0\0\0\0",
        b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0v\0\0\0\x0c\0\x03\0\0\0\0\0\0",
    ] {
        assert!(matches!(failure(ask(answer)), DialError::Wire(_)), "{}", answer.escape_ascii());
    }
}

#[test]
fn errors_and_foreign_methods_are_told() {
    let DialError::Server(report) = failure(started().receive(b"E\0\0\0\x1bSFATAL\0C28P01\0Msecret\0\0")) else {
        panic!("not the server's")
    };
    assert_eq!((report.sqlstate.as_str(), report.fatal), ("28P01", true));
    assert!(!DialError::Server(report).to_string().contains("secret"));
    for (kind, name) in [(7, "GSSAPI"), (9, "SSPI"), (2, "Kerberos V5"), (99, "unknown")] {
        let step = started().receive(&[b'R', 0, 0, 0, 8, 0, 0, 0, kind]);
        assert_eq!(failure(step), DialError::UnsupportedAuthentication(name));
    }
    let oauth = b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0";
    assert_eq!(failure(started().receive(oauth)), DialError::UnsupportedAuthentication("OAUTHBEARER"));
    let mut nobody = dial(DialConfig { password: Zeroizing::default(), ..config(DialTls::Disable) });
    assert_eq!(failure(nobody.receive(b"R\0\0\0\x0c\0\0\0\x05salt")), DialError::PasswordMissing);
}

#[test]
fn hostile_servers_are_bounded() {
    for answer in [
        &b"R\x7f\xff\xff\xff"[..],
        b"R\0\0\0\x03",
        b"R\xff\xff\xff\xff",
        b"R\0\0\0\x04",
        b"R\0\0\0\x06\0\0",
        b"Z\0\0\0\x05I",
        b"D\0\0\0\x06\0\0",
        b"S\0\0\0\x08a\0b\0",
        &[OK, OK].concat(),
        &[OK, b"Z\0\0\0\x05x"].concat(),
        &[OK, b"K\0\0\0\x0b\0\0\0\x01abc"].concat(),
        &[OK, &b"K\0\0\0\x0c\0\0\0\x01abcd".repeat(2)].concat(),
        &[OK, b"S\0\0\0\x06ab"].concat(),
        &[OK, &b"S\0\0\0\x08a\0b\0".repeat(129)].concat(),
        &b"N\0\0\0\x05\0".repeat(1025),
    ] {
        for step_bytes in [1, usize::MAX] {
            let error = failure(feed(&mut started(), answer, step_bytes));
            assert!(matches!(error, DialError::Wire(_)), "{}: {error}", answer.escape_ascii());
        }
    }
}

#[test]
fn what_cannot_be_said_is_not() {
    let with = |change: fn(&mut DialConfig)| {
        let mut config = config(DialTls::Disable);
        change(&mut config);
        Dial::new(config).err()
    };
    for change in [
        (|c| c.user.clear()) as fn(&mut DialConfig),
        |c| c.user.push('\0'),
        |c| c.database.push('\0'),
        |c| c.password.push(0),
        |c| c.minor = 1,
        |c| c.parameters.push((String::new(), "x".to_owned())),
        |c| c.parameters.push(("user".to_owned(), "x".to_owned())),
        |c| c.parameters.push(("a".to_owned(), "b\0role".to_owned())),
        |c| c.parameters.push(("a".to_owned(), "b".repeat(10_000))),
    ] {
        assert!(matches!(with(change), Some(DialError::Unspeakable(_))));
    }
}

// --- SCRAM ---------------------------------------------------------------------------------------------------------

/// The server's half of RFC 5802, as far as a test needs it.
struct Server {
    first_bare: String,
    server_first: String,
}

fn hmac_of(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn sasl(kind: i32, data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::authentication(&mut out, kind, data);
    out.to_vec()
}

fn offer(mechanisms: &[&str]) -> Vec<u8> {
    let mut data = BytesMut::new();
    for mechanism in mechanisms {
        frame::put_string(&mut data, mechanism.as_bytes());
    }
    data.put_u8(0);
    sasl(10, &data)
}

/// The client's next message, without tag and length.
fn said(dial: &mut Dial) -> Vec<u8> {
    let bytes = dial.transmit().expect("an answer");
    let found = frame::next_frame(&bytes, 4096).expect("legal").expect("whole");
    assert_eq!((found.tag, found.range.end), (b'p', bytes.len()));
    found.body(&bytes).to_vec()
}

impl Server {
    /// Reads SASLInitialResponse: gives the mechanism, the gs2 header and the server that goes on.
    fn open(initial: &[u8], salt: &str) -> (String, String, Self) {
        let text = String::from_utf8(initial.to_vec()).expect("UTF-8");
        let (mechanism, rest) = text.split_once('\0').expect("a mechanism");
        let message = rest.get(4..).expect("behind the length");
        let at = message.find("n=,").expect("the empty name");
        let (header, bare) = message.split_at(at);
        let nonce = bare.strip_prefix("n=,r=").expect("a nonce");
        let server_first = format!("r={nonce}SERVER,s={salt},i=4096");
        (mechanism.to_owned(), header.to_owned(), Self { first_bare: bare.to_owned(), server_first })
    }

    /// Checks client-final-message as a server does; gives server-final-message.
    fn close(&self, last: &[u8], salt: &str) -> Vec<u8> {
        let text = std::str::from_utf8(last).expect("UTF-8");
        let (without, proof) = text.split_once(",p=").expect("a proof");
        let signed = format!("{},{},{without}", self.first_bare, self.server_first);
        let mut salted = [0; 32];
        let salt = STANDARD.decode(salt).expect("base64");
        let count = std::num::NonZeroU32::new(4096).expect("not zero");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, count, &salt, PASSWORD, &mut salted);
        let stored = digest::digest(&digest::SHA256, &hmac_of(&salted, b"Client Key"));
        let signature = hmac_of(stored.as_ref(), signed.as_bytes());
        let proof = STANDARD.decode(proof).expect("base64");
        let key: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        assert_eq!(digest::digest(&digest::SHA256, &key).as_ref(), stored.as_ref(), "the client's proof");
        let proof = hmac_of(&hmac_of(&salted, b"Server Key"), signed.as_bytes());
        sasl(12, format!("v={}", STANDARD.encode(proof)).as_bytes())
    }
}

const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

/// Runs an exchange up to the client's last message; tells whether keys had to be derived.
fn exchange(dial: &mut Dial, offered: &[&str], salt: &str) -> (String, String, Server, Vec<u8>, bool) {
    assert!(matches!(dial.receive(&offer(offered)), DialStep::Wait));
    let (mechanism, header, server) = Server::open(&said(dial), salt);
    let derived = match dial.receive(&sasl(11, server.server_first.as_bytes())) {
        DialStep::Derive(work) => {
            assert!(dial.transmit().is_none());
            assert!(matches!(dial.derived(work.run()), DialStep::Wait));
            true
        }
        DialStep::Wait => false,
        other => panic!("{other:?}"),
    };
    let last = said(dial);
    (mechanism, header, server, last, derived)
}

fn login(mut dial: Dial, offered: &[&str], salt: &str) -> (String, String, bool, ScramKeys) {
    let (mechanism, header, server, last, derived) = exchange(&mut dial, offered, salt);
    let answer = [&server.close(&last, salt), OK, READY].concat();
    let ready = ready(feed(&mut dial, &answer, 1));
    (mechanism, header, derived, ready.scram_keys.expect("keys to keep"))
}

#[test]
fn scram_without_binding() {
    let (mechanism, header, derived, _) = login(started(), &["SCRAM-SHA-256"], SALT);
    assert_eq!((mechanism.as_str(), header.as_str(), derived), ("SCRAM-SHA-256", "n,,", true));
}

#[test]
fn scram_is_bound_when_it_can_be() {
    let both = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    let of = |binding: Option<&[u8]>, offered: &[&str]| {
        let (mechanism, header, ..) = login(secured(config(DialTls::Require), binding), offered, SALT);
        (mechanism, header)
    };
    let pair = |mechanism: &str, header: &str| (mechanism.to_owned(), header.to_owned());
    assert_eq!(of(Some(b"hash"), &both), pair("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"));
    assert_eq!(of(Some(b"hash"), &both[1..]), pair("SCRAM-SHA-256", "y,,"), "a cut-out offer is noticed");
    assert_eq!(of(None, &both), pair("SCRAM-SHA-256", "n,,"));
    let mut dial = secured(config(DialTls::Require), None);
    let step = dial.receive(&offer(&both[..1]));
    assert_eq!(failure(step), DialError::UnsupportedAuthentication("SASL"));
}

#[test]
fn keys_are_used_again_while_the_salt_is_the_same() {
    let (.., keys) = login(started(), &["SCRAM-SHA-256"], SALT);
    let again = |salt: &str| {
        let mut dial = dial(DialConfig { scram_keys: Some(keys.clone()), ..config(DialTls::Disable) });
        dial.transmit();
        login(dial, &["SCRAM-SHA-256"], salt).2
    };
    assert!(!again(SALT));
    assert!(again("AAAAAAAAAAAAAAAAAAAAAA=="));
}

#[test]
fn an_impostor_is_found_out() {
    let forged = sasl(12, format!("v={}", STANDARD.encode([0; 32])).as_bytes());
    let mut dial = started();
    exchange(&mut dial, &["SCRAM-SHA-256"], SALT);
    assert_eq!(failure(dial.receive(&forged)), DialError::Scram(ScramFault::ServerSignature));

    // AuthenticationOk in place of the proof, and before the challenge.
    let mut dial = started();
    exchange(&mut dial, &["SCRAM-SHA-256"], SALT);
    assert!(matches!(failure(dial.receive(OK)), DialError::Wire(WireError::PeerMisbehaved(..))));
    let mut dial = started();
    dial.receive(&offer(&["SCRAM-SHA-256"]));
    assert!(matches!(failure(dial.receive(OK)), DialError::Wire(WireError::PeerMisbehaved(..))));
    // A second method after the first.
    let mut dial = started();
    dial.receive(&offer(&["SCRAM-SHA-256"]));
    assert!(matches!(failure(dial.receive(b"R\0\0\0\x0c\0\0\0\x05salt")), DialError::Wire(_)));
    // A challenge that is all work.
    let mut dial = started();
    dial.receive(&offer(&["SCRAM-SHA-256"]));
    let (.., server) = Server::open(&said(&mut dial), SALT);
    let costly = server.server_first.replace("i=4096", "i=4000000000");
    assert_eq!(failure(dial.receive(&sasl(11, costly.as_bytes()))), DialError::Scram(ScramFault::Iterations));
}

#[test]
fn nothing_secret_is_in_debug() {
    let mut dial = started();
    dial.receive(&offer(&["SCRAM-SHA-256"]));
    let (.., server) = Server::open(&said(&mut dial), SALT);
    let step = dial.receive(&sasl(11, server.server_first.as_bytes()));
    assert!(matches!(step, DialStep::Derive(_)));
    assert!(!format!("{dial:?} {step:?} {:?}", config(DialTls::Require)).contains("pencil"));
}
