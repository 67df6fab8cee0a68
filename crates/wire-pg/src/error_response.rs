//! ErrorResponse and NoticeResponse: ours, built on purpose from a [`Refusal`]; the server's, read with bounds.
//!
//! The one place that maps the house's reasons to SQLSTATE codes. It never shows a client what the server said; that
//! is the relay's, behind the mask.

use std::fmt;

use bytes::{BufMut, BytesMut};
use chancery_model::{Refusal, RefusalCode};

use crate::frame::{self, Cursor, FrameFault};

/// Bytes of one text field of ours. A terminal has to show it, and a hostile name may be inside.
const FIELD_BYTES_MAX: usize = 2048;
/// Fields the protocol defines are fewer than twenty; more is not an error report.
const FIELDS_MAX: usize = 64;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// `insufficient_privilege`: refused by a rule or a reviewer.
    pub const DENIED: Self = Self(*b"42501");
    /// `invalid_password`: the credential does not hold.
    pub const UNAUTHENTICATED: Self = Self(*b"28P01");
    /// `invalid_authorization_specification`: nothing to authenticate with, or not this way.
    pub const UNAUTHORIZED: Self = Self(*b"28000");
    /// `query_canceled`.
    pub const CANCELLED: Self = Self(*b"57014");
    /// `feature_not_supported`.
    pub const UNSUPPORTED: Self = Self(*b"0A000");
    /// `protocol_violation`.
    pub const MALFORMED: Self = Self(*b"08P01");
    /// `program_limit_exceeded`.
    pub const LIMIT: Self = Self(*b"54000");
    /// `io_error`: nothing is done that cannot be written down.
    pub const RECORD_UNAVAILABLE: Self = Self(*b"58030");
    /// `connection_failure`: towards the resource.
    pub const RESOURCE_UNAVAILABLE: Self = Self(*b"08006");
    /// `admin_shutdown`: the session ends.
    pub const SESSION_ENDED: Self = Self(*b"57P01");
    /// `internal_error`; stands for a code that is not one.
    pub const UNKNOWN: Self = Self(*b"XX000");

    /// The code for a refusal.
    pub fn of(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Denied
            | RefusalCode::ReviewDenied
            | RefusalCode::ReviewExpired
            | RefusalCode::ReviewPending
            | RefusalCode::Unreadable => Self::DENIED,
            RefusalCode::Unauthenticated => Self::UNAUTHENTICATED,
            RefusalCode::Cancelled => Self::CANCELLED,
            RefusalCode::Unsupported => Self::UNSUPPORTED,
            RefusalCode::Malformed => Self::MALFORMED,
            RefusalCode::Limit => Self::LIMIT,
            RefusalCode::RecordUnavailable => Self::RECORD_UNAVAILABLE,
            RefusalCode::ResourceUnavailable => Self::RESOURCE_UNAVAILABLE,
            RefusalCode::SessionEnded => Self::SESSION_ENDED,
        }
    }

    /// Reads a peer's code: five of `0`–`9` and `A`–`Z`; anything else becomes [`SqlState::UNKNOWN`].
    pub fn read(bytes: &[u8]) -> Self {
        match <[u8; 5]>::try_from(bytes) {
            Ok(code) if code.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()) => Self(code),
            _ => Self::UNKNOWN,
        }
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad a report is, in the protocol's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something to read.
    Notice,
    /// Something to worry about.
    Warning,
    /// The command failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// The word of the `S` and `V` fields.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// A report of ours, before it is bytes.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// How bad.
    pub severity: Severity,
    /// Which SQLSTATE.
    pub sqlstate: SqlState,
    /// One sentence.
    pub message: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// What to do.
    pub hint: Option<&'a str>,
}

impl Report<'_> {
    /// Appends it: as NoticeResponse for `Notice` and `Warning`, as ErrorResponse otherwise.
    ///
    /// Text is made safe for a terminal (control and direction characters replaced) and cut visibly at 2 KiB.
    pub fn write(&self, out: &mut BytesMut) {
        let tag = if self.severity < Severity::Error { b'N' } else { b'E' };
        frame::message(out, tag, |out| {
            put_field(out, b'S', self.severity.as_str());
            put_field(out, b'V', self.severity.as_str());
            put_field(out, b'C', self.sqlstate.as_str());
            put_field(out, b'M', &presentable(self.message));
            if let Some(detail) = self.detail {
                put_field(out, b'D', &presentable(detail));
            }
            if let Some(hint) = self.hint {
                put_field(out, b'H', &presentable(hint));
            }
            out.put_u8(0);
        });
    }
}

/// Appends a refusal as ErrorResponse: message, DETAIL with the reason's word and the reference, HINT.
///
/// `severity` is `Error` when the session stays usable and `Fatal` when it ends. A refusal for a review always has a
/// hint, because the reference is how the client comes back.
pub fn refuse(out: &mut BytesMut, refusal: &Refusal, severity: Severity) {
    let detail = match refusal.reference.as_str() {
        "" => format!("Reason: {}.", refusal.code),
        reference => format!("Reason: {}, reference {reference}.", refusal.code),
    };
    let review = match (&refusal.hint, refusal.code) {
        (None, RefusalCode::ReviewDenied | RefusalCode::ReviewExpired | RefusalCode::ReviewPending) => {
            Some(format!("Review {}.", refusal.reference))
        }
        _ => None,
    };
    let message = if refusal.message.is_empty() { refusal.code.as_str() } else { refusal.message.as_str() };
    Report {
        severity: severity.max(Severity::Error),
        sqlstate: SqlState::of(refusal.code),
        message,
        detail: Some(&detail),
        hint: refusal.hint.as_deref().or(review.as_deref()),
    }
    .write(out);
}

/// Appends a NoticeResponse with one sentence, SQLSTATE 00000.
pub fn notice(out: &mut BytesMut, message: &str) {
    Report { severity: Severity::Notice, sqlstate: SqlState(*b"00000"), message, detail: None, hint: None }.write(out);
}

/// What a server reported: its code and how bad, and its sentence apart, because that may quote data or secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// The SQLSTATE.
    pub sqlstate: SqlState,
    /// True for `FATAL` and `PANIC`: the server is closing.
    pub fatal: bool,
    /// The server's sentence, safe for a terminal and cut at 2 KiB. Not for clients, and not in `Debug`.
    pub message: String,
}

impl ServerReport {
    /// Reads the body of an ErrorResponse or NoticeResponse.
    pub fn read(body: &[u8]) -> Result<Self, FrameFault> {
        let mut report = Self { sqlstate: SqlState::UNKNOWN, fatal: false, message: String::new() };
        let mut cursor = Cursor::new(body);
        for _ in 0..FIELDS_MAX {
            let field = cursor.byte()?;
            if field == 0 {
                cursor.finish()?;
                return Ok(report);
            }
            let value = cursor.string()?;
            match field {
                b'C' => report.sqlstate = SqlState::read(value),
                // `V` is never translated; `S` is, so a server before 9.6 in another language is read as not fatal.
                b'S' | b'V' => report.fatal |= matches!(value, b"FATAL" | b"PANIC"),
                b'M' => {
                    let head = value.get(..FIELD_BYTES_MAX * 2).unwrap_or(value);
                    report.message = presentable(&String::from_utf8_lossy(head));
                }
                _ => {}
            }
        }
        Err(FrameFault::TrailingBytes)
    }
}

impl fmt::Debug for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerReport").field("sqlstate", &self.sqlstate).field("fatal", &self.fatal).finish()
    }
}

fn put_field(out: &mut BytesMut, code: u8, text: &str) {
    out.put_u8(code);
    frame::put_string(out, text.as_bytes());
}

/// Makes text safe to print on a terminal and to put into a String: control characters but the newline, and the
/// characters that turn the reading direction, become U+FFFD; past 2 KiB it ends with an ellipsis.
fn presentable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len().min(FIELD_BYTES_MAX));
    for character in text.chars() {
        let shown = match character {
            '\n' => '\n',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => '\u{fffd}',
            other if other.is_control() => '\u{fffd}',
            other => other,
        };
        if safe.len() + shown.len_utf8() > FIELD_BYTES_MAX {
            safe.push('…');
            break;
        }
        safe.push(shown);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(refusal: &Refusal, severity: Severity) -> String {
        let mut out = BytesMut::new();
        refuse(&mut out, refusal, severity);
        let frame = frame::next_frame(&out, 64 * 1024).expect("legal").expect("whole");
        assert_eq!((frame.tag, frame.range.end), (b'E', out.len()));
        String::from_utf8(frame.body(&out).to_vec()).expect("UTF-8").replace('\0', "|")
    }

    #[test]
    fn a_refusal_has_message_detail_and_hint() {
        let refusal = Refusal::new(RefusalCode::Denied, "rule no-drop denies", "cmd-7").hint("Ask for a review.");
        assert_eq!(
            written(&refusal, Severity::Error),
            "SERROR|VERROR|C42501|Mrule no-drop denies|DReason: denied, reference cmd-7.|HAsk for a review.||"
        );
    }

    #[test]
    fn a_review_always_has_a_hint() {
        let refusal = Refusal::new(RefusalCode::ReviewPending, "needs a review", "rev-1");
        assert!(written(&refusal, Severity::Error).contains("|HReview rev-1.||"));
    }

    #[test]
    fn hostile_text_cannot_add_fields_or_steer_a_terminal() {
        let refusal = Refusal::new(RefusalCode::Denied, "a\0Cb\x1b[2J\u{202e}", "x");
        assert!(written(&refusal, Severity::Fatal).contains("|Ma\u{fffd}Cb\u{fffd}[2J\u{fffd}|"));
        let long = written(&Refusal::new(RefusalCode::Denied, "é".repeat(5000), "x"), Severity::Error);
        assert!(long.contains('…') && long.len() < 2300);
    }

    #[test]
    fn every_code_has_its_state() {
        let expected = [
            (RefusalCode::Denied, "42501"),
            (RefusalCode::Unauthenticated, "28P01"),
            (RefusalCode::ReviewDenied, "42501"),
            (RefusalCode::ReviewExpired, "42501"),
            (RefusalCode::ReviewPending, "42501"),
            (RefusalCode::Cancelled, "57014"),
            (RefusalCode::Unreadable, "42501"),
            (RefusalCode::Unsupported, "0A000"),
            (RefusalCode::Malformed, "08P01"),
            (RefusalCode::Limit, "54000"),
            (RefusalCode::RecordUnavailable, "58030"),
            (RefusalCode::ResourceUnavailable, "08006"),
            (RefusalCode::SessionEnded, "57P01"),
        ];
        for (code, state) in expected {
            assert_eq!(SqlState::of(code).as_str(), state, "{code}");
        }
    }

    #[test]
    fn a_server_report_is_read_with_bounds() {
        let report = ServerReport::read(b"SFATAL\0VFATAL\0C28P01\0Mno\x1b\0\0").expect("legal");
        assert_eq!(
            (report.sqlstate, report.fatal, report.message.as_str()),
            (SqlState::UNAUTHENTICATED, true, "no\u{fffd}")
        );
        assert!(!format!("{report:?}").contains("no\u{fffd}"));
        assert_eq!(ServerReport::read(b"SFATAL\0"), Err(FrameFault::Truncated));
        assert_eq!(ServerReport::read(b"\0x"), Err(FrameFault::TrailingBytes));
        assert_eq!(ServerReport::read(&b"Mx\0".repeat(100)), Err(FrameFault::TrailingBytes));
        assert_eq!(ServerReport::read(b"C\xff\0\0").expect("legal").sqlstate, SqlState::UNKNOWN);
    }
}
