//! Turns recorded PostgreSQL messages into what happened, in words. Recordings are read with the same care as sockets:
//! lengths are checked, and what is not understood is counted, not trusted.

use std::collections::HashMap;

use chancery_wire_pg::frame::{Cursor, FrameFault, next_frame};

/// One message whole; the relay's own bound on what a resource may send.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Commands whose output may be open at once in a recording.
const OPEN_MAX: usize = 1_024;

/// One thing that the client was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Names of a result's columns.
    Columns(Vec<String>),
    /// One row; `None` is NULL.
    Row(Vec<Option<String>>),
    /// A command's tag, such as `SELECT 3`.
    Complete(String),
    /// More rows were left in the portal.
    Suspended,
    /// A piece of COPY data.
    Copy(String),
    /// An error or notice: severity, code, message.
    Report {
        error: bool,
        severity: String,
        code: String,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
    },
    /// A notification: channel and payload.
    Notification(String, String),
    /// Bytes that are not what a server says.
    Malformed(&'static str),
}

/// Reads the outputs of a session, command by command.
#[derive(Default)]
pub(super) struct Reader {
    /// Bytes of a message whose rest is in a later frame.
    partial: HashMap<u64, Vec<u8>>,
}

impl Reader {
    /// Takes the next piece of a command's output.
    pub(super) fn take(&mut self, command: u64, bytes: &[u8], mut show: impl FnMut(Shown)) {
        let mut buffer = self.partial.remove(&command).unwrap_or_default();
        buffer.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = buffer.get(at..).unwrap_or_default();
            match next_frame(rest, MESSAGE_BYTES_MAX) {
                Err(fault) => return show(Shown::Malformed(fault.as_str())),
                Ok(None) => break,
                Ok(Some(frame)) => {
                    match message(frame.tag, frame.body(rest)) {
                        Ok(Some(shown)) => show(shown),
                        Ok(None) => {}
                        Err(fault) => show(Shown::Malformed(fault.as_str())),
                    }
                    at += frame.range.end;
                }
            }
        }
        buffer.drain(..at.min(buffer.len()));
        if !buffer.is_empty() && self.partial.len() < OPEN_MAX {
            self.partial.insert(command, buffer);
        }
    }
}

/// Messages of the backend (PostgreSQL manual, "Message Formats"). `None`: nothing that a person sees.
fn message(tag: u8, body: &[u8]) -> Result<Option<Shown>, FrameFault> {
    let mut cursor = Cursor::new(body);
    Ok(Some(match tag {
        b'T' => {
            let mut names = Vec::new();
            for _ in 0..cursor.count16()? {
                names.push(text(cursor.string()?));
                // Table, attribute, type, size, modifier, format.
                cursor.take(18)?;
            }
            Shown::Columns(names)
        }
        b'D' => {
            let mut row = Vec::new();
            for _ in 0..cursor.count16()? {
                row.push(cursor.value()?.map(text));
            }
            Shown::Row(row)
        }
        b'C' => Shown::Complete(text(cursor.string()?)),
        b'I' => Shown::Complete("(empty)".to_owned()),
        b's' => Shown::Suspended,
        b'd' => Shown::Copy(text(body)),
        b'E' | b'N' => report(tag == b'E', cursor)?,
        b'A' => {
            cursor.int32()?;
            Shown::Notification(text(cursor.string()?), text(cursor.string()?))
        }
        _ => return Ok(None),
    }))
}

fn report(error: bool, mut cursor: Cursor<'_>) -> Result<Shown, FrameFault> {
    let mut fields: HashMap<u8, String> = HashMap::new();
    loop {
        match cursor.byte()? {
            0 => break,
            kind => fields.insert(kind, text(cursor.string()?)),
        };
    }
    let mut take = |kind| fields.remove(&kind);
    Ok(Shown::Report {
        error,
        severity: take(b'S').unwrap_or_default(),
        code: take(b'C').unwrap_or_default(),
        message: take(b'M').unwrap_or_default(),
        detail: take(b'D'),
        hint: take(b'H'),
    })
}

/// A value as text; what is not UTF-8 (a binary format) as hexadecimal digits, as the server writes bytea.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => bytes.iter().fold("\\x".to_owned(), |mut hex, byte| {
            use std::fmt::Write as _;
            // Writing to a string does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    fn all(bytes: &[u8], step: usize) -> Vec<Shown> {
        let (mut reader, mut shown) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(step) {
            reader.take(1, piece, |one| shown.push(one));
        }
        shown
    }

    #[test]
    fn a_result_is_read_whole_and_byte_by_byte() {
        let columns = [&b"\0\x01id\0"[..], &[0; 18]].concat();
        let bytes = [
            frame(b'T', &columns),
            frame(b'D', b"\0\x01\0\0\0\x0242"),
            frame(b'D', b"\0\x01\xff\xff\xff\xff"),
            frame(b'D', b"\0\x01\0\0\0\x02\0\x07"),
            frame(b'C', b"SELECT 3\0"),
            frame(b'E', b"SERROR\0C42501\0Mno\0\0"),
            frame(b'Z', b"I"),
        ]
        .concat();
        let row = |value: Option<&str>| Shown::Row(vec![value.map(str::to_owned)]);
        let report = Shown::Report {
            error: true,
            severity: "ERROR".into(),
            code: "42501".into(),
            message: "no".into(),
            detail: None,
            hint: None,
        };
        let expected = [
            Shown::Columns(vec!["id".into()]),
            row(Some("42")),
            row(None),
            row(Some("\\x0007")),
            Shown::Complete("SELECT 3".into()),
            report,
        ];
        assert_eq!(all(&bytes, bytes.len()), expected);
        assert_eq!(all(&bytes, 1), expected);
    }

    #[test]
    fn hostile_bytes_are_said_to_be_so() {
        assert_eq!(all(&frame(b'D', b"\0\x05"), 64), [Shown::Malformed("field runs past the end of its message")]);
        assert!(matches!(all(b"D\xff\xff\xff\xff", 64)[..], [Shown::Malformed(_)]));
        assert!(all(b"D\0\0", 64).is_empty());
    }
}
