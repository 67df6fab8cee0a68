//! Answers to [`Fetch`], fed whole and byte by byte.

use bytes::BytesMut;
use chancery_wire::WireError;
use chancery_wire_pg::{Fetch, FetchError, FetchLimits, FetchStep, frame};

const READY: &[u8] = b"Z\0\0\0\x05I";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::message(&mut out, tag, |out| out.extend_from_slice(body));
    out.to_vec()
}

/// Two columns of text, `a` and `b`.
fn columns() -> Vec<u8> {
    let column = |name: &[u8]| [name, b"\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"].concat();
    message(b'T', &[b"\0\x02", &column(b"a")[..], &column(b"b")].concat())
}

fn row() -> Vec<u8> {
    message(b'D', b"\0\x02\0\0\0\x02hi\xff\xff\xff\xff")
}

fn complete() -> Vec<u8> {
    message(b'C', b"SELECT 1\0")
}

fn run(answer: &[u8], limits: FetchLimits, step_bytes: usize) -> FetchStep {
    let (mut fetch, _) = Fetch::new("select", limits).expect("no zero byte");
    for piece in answer.chunks(step_bytes) {
        match fetch.receive(piece) {
            FetchStep::Wait => {}
            other => return other,
        }
    }
    FetchStep::Wait
}

fn failure(answer: &[u8]) -> FetchError {
    for step_bytes in [1, usize::MAX] {
        match run(answer, FetchLimits::default(), step_bytes) {
            FetchStep::Failed(_) => {}
            other => panic!("{other:?}"),
        }
    }
    match run(answer, FetchLimits::default(), usize::MAX) {
        FetchStep::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_come_as_text() {
    let (_, question) = Fetch::new("select 1", FetchLimits::default()).expect("no zero byte");
    assert_eq!(&question[..], b"Q\0\0\0\x0dselect 1\0");
    let answer =
        [columns(), row(), row(), message(b'N', b"\0"), message(b'S', b"a\0b\0"), complete(), READY.to_vec()].concat();
    for step_bytes in [1, 7, usize::MAX] {
        let FetchStep::Done(fetched) = run(&answer, FetchLimits::default(), step_bytes) else { panic!("no rows") };
        assert_eq!(fetched.rows.len(), 2);
        assert_eq!(fetched.rows[0][0].as_deref(), Some(&b"hi"[..]));
        assert_eq!(fetched.rows[0][1], None);
        assert_eq!(fetched.parameters, [("a".to_owned(), "b".to_owned())]);
        assert_eq!((fetched.tx_status, fetched.leftover.len()), (b'I', 0));
    }
}

#[test]
fn an_error_leaves_the_connection_usable() {
    let answer = [message(b'E', b"SERROR\0VERROR\0C42P01\0Msecret\0\0"), READY.to_vec()].concat();
    let FetchError::Server(report) = failure(&answer) else { panic!("not the server's") };
    assert_eq!(report.sqlstate.as_str(), "42P01");
    assert!(!FetchError::Server(report).to_string().contains("secret"));
}

#[test]
fn hostile_answers_are_refused() {
    for answer in [
        row(),
        message(b'Z', b"?"),
        message(b'Z', b""),
        message(b'G', b"\0\0\0"),
        message(b'T', b"\x7f\xff"),
        message(b'T', b""),
        b"C\x7f\xff\xff\xff".to_vec(),
        b"C\0\0\0\x03".to_vec(),
        message(b'E', b"S"),
        [columns(), columns()].concat(),
        [columns(), message(b'D', b"\0\x01\0\0\0\0")].concat(),
        [columns(), message(b'D', b"\0\x02\0\0\0\x7fhi\xff\xff\xff\xff")].concat(),
        [columns(), message(b'D', b"\0\x02\xff\xff\xff\xfe\xff\xff\xff\xff")].concat(),
        [columns(), message(b'D', b"\0\x02\xff\xff\xff\xff\xff\xff\xff\xffx")].concat(),
    ] {
        assert!(matches!(failure(&answer), FetchError::Wire(_)), "{}", answer.escape_ascii());
    }
}

#[test]
fn rows_and_bytes_have_bounds() {
    let answer = [columns(), row(), row(), complete(), READY.to_vec()].concat();
    let of = |rows_max, bytes_max| run(&answer, FetchLimits { rows_max, bytes_max }, 1);
    assert!(matches!(of(2, 4096), FetchStep::Done(_)));
    for (rows, bytes) in [(1, 4096), (2, 60)] {
        let step = of(rows, bytes);
        assert!(matches!(step, FetchStep::Failed(FetchError::Wire(WireError::LimitReached(..)))), "{step:?}");
    }
}

#[test]
fn misuse_is_said() {
    assert!(Fetch::new("a\0b", FetchLimits::default()).is_err());
    let (mut fetch, _) = Fetch::new("select", FetchLimits::default()).expect("no zero byte");
    assert!(matches!(fetch.receive(READY), FetchStep::Done(_)));
    assert!(matches!(fetch.receive(READY), FetchStep::Failed(FetchError::Wire(WireError::Misuse(_)))));
}
