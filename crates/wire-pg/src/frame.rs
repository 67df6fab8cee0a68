//! Messages of the frontend/backend protocol: where one ends, how to read its body, how to write ours.
//!
//! Every length is a stranger's word: it is compared with a bound before a byte is waited for or allocated. This
//! module does not interpret messages that pass through; it finds their ends.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use chancery_wire::{Leg, WireError};

/// Tag and length of a message: the smallest thing a reader can act on.
pub const HEADER_BYTES: usize = 5;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameFault {
    /// The length is below four, which cannot even count itself.
    LengthTooSmall,
    /// The length is above the caller's bound.
    LengthTooLarge,
    /// A field runs past the end of its message.
    Truncated,
    /// The message goes on after its last field.
    TrailingBytes,
    /// A field that must be text is not UTF-8.
    NotUtf8,
}

impl FrameFault {
    /// The sentence for logs and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LengthTooSmall => "message length below four",
            Self::LengthTooLarge => "message too long",
            Self::Truncated => "field runs past the end of its message",
            Self::TrailingBytes => "message goes on after its last field",
            Self::NotUtf8 => "text is not UTF-8",
        }
    }

    /// Blames the leg the message came from.
    pub fn on(self, leg: Leg) -> WireError {
        match self {
            Self::LengthTooLarge => WireError::LimitReached(leg, self.as_str()),
            _ => WireError::PeerMisbehaved(leg, self.as_str()),
        }
    }
}

impl std::fmt::Display for FrameFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for FrameFault {}

/// The first five bytes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub tag: u8,
    /// The length on the wire: counts itself and the body, not the tag. At least four.
    pub length: usize,
}

impl Header {
    /// Bytes of the whole message, tag included.
    pub fn total(self) -> usize {
        self.length.saturating_add(1)
    }
}

/// One whole message in a caller's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the message is.
    pub tag: u8,
    /// Where the whole message stands, tag and length included.
    pub range: Range<usize>,
}

impl Frame {
    /// Where the body stands.
    pub fn body_range(&self) -> Range<usize> {
        self.range.start.saturating_add(HEADER_BYTES).min(self.range.end)..self.range.end
    }

    /// The body, given the bytes in which the frame was found. Empty when they are not those bytes.
    pub fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.body_range()).unwrap_or_default()
    }
}

/// Reads the header at the start of `bytes`; `None` when fewer than five bytes are there.
///
/// `max` bounds the whole message, tag included. A message over it is an error as soon as its header is seen.
pub fn header(bytes: &[u8], max: usize) -> Result<Option<Header>, FrameFault> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    if length < 4 {
        return Err(FrameFault::LengthTooSmall);
    }
    let length = usize::try_from(length).map_err(|_| FrameFault::LengthTooLarge)?;
    if length >= max {
        return Err(FrameFault::LengthTooLarge);
    }
    Ok(Some(Header { tag, length }))
}

/// Finds the message at the start of `bytes`; `None` when it is not whole yet. `max` as for [`header`].
pub fn next_frame(bytes: &[u8], max: usize) -> Result<Option<Frame>, FrameFault> {
    let Some(header) = header(bytes, max)? else { return Ok(None) };
    let total = header.total();
    Ok((bytes.len() >= total).then_some(Frame { tag: header.tag, range: 0..total }))
}

/// Reads the fields of a body from front to back, never past its end.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the front of a body.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails unless everything was read.
    pub fn finish(self) -> Result<(), FrameFault> {
        if self.rest.is_empty() { Ok(()) } else { Err(FrameFault::TrailingBytes) }
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], FrameFault> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(FrameFault::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameFault> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(FrameFault::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, FrameFault> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next Int16, signed as the protocol has it.
    pub fn int16(&mut self) -> Result<i16, FrameFault> {
        self.array().map(i16::from_be_bytes)
    }

    /// The next Int32, signed as the protocol has it.
    pub fn int32(&mut self) -> Result<i32, FrameFault> {
        self.array().map(i32::from_be_bytes)
    }

    /// The next Int16 as a count of things. The server reads counts unsigned, so that Bind has up to 65 535 values.
    pub fn count16(&mut self) -> Result<usize, FrameFault> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    /// The next String, without its terminating zero byte. The encoding is the session's, so these are bytes.
    pub fn string(&mut self) -> Result<&'a [u8], FrameFault> {
        // Empty names are the commonest strings of all.
        let end = if self.rest.first() == Some(&0) { Some(0) } else { memchr::memchr(0, self.rest) };
        let (text, tail) = end.and_then(|end| self.rest.split_at_checked(end)).ok_or(FrameFault::Truncated)?;
        self.rest = tail.get(1..).unwrap_or_default();
        Ok(text)
    }

    /// The next String, which must be UTF-8.
    pub fn text(&mut self) -> Result<&'a str, FrameFault> {
        std::str::from_utf8(self.string()?).map_err(|_| FrameFault::NotUtf8)
    }

    /// The next value of a DataRow or Bind: Int32 length and bytes; `None` for the length −1, which is NULL.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, FrameFault> {
        match self.int32()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| FrameFault::LengthTooSmall)?).map(Some),
        }
    }
}

/// Appends one message: the tag, the length (filled in after the body) and what `body` writes.
///
/// For messages of ours, which are small; bodies past 2 GiB cannot be expressed and would be cut by the peer.
pub fn message(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    untagged(out, body);
}

/// Appends a length and what `body` writes: the shape of start-up packets, which have no tag.
pub fn untagged(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len().saturating_sub(start)).unwrap_or(i32::MAX).to_be_bytes();
    if let Some(slot) = out.get_mut(start..).and_then(|tail| tail.first_chunk_mut::<4>()) {
        *slot = length;
    }
}

/// Appends a String. Zero bytes inside are dropped: they would end it early and turn its tail into fields.
pub fn put_string(out: &mut BytesMut, text: &[u8]) {
    for piece in text.split(|&byte| byte == 0) {
        out.put_slice(piece);
    }
    out.put_u8(0);
}

/// Appends AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    authentication(out, 0, &[]);
}

/// Appends AuthenticationCleartextPassword.
pub fn authentication_cleartext(out: &mut BytesMut) {
    authentication(out, 3, &[]);
}

/// Appends an Authentication message of any kind with what follows the kind.
pub fn authentication(out: &mut BytesMut, kind: i32, data: &[u8]) {
    message(out, b'R', |out| {
        out.put_i32(kind);
        out.put_slice(data);
    });
}

/// Appends a PasswordMessage, SASLInitialResponse or SASLResponse: one tag, three bodies.
pub fn password(out: &mut BytesMut, body: &[u8]) {
    message(out, b'p', |out| out.put_slice(body));
}

/// Appends ParameterStatus.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    message(out, b'S', |out| {
        put_string(out, name.as_bytes());
        put_string(out, value.as_bytes());
    });
}

/// Appends BackendKeyData; the secret has 4 bytes in protocol 3.0 and up to 256 in 3.2.
pub fn backend_key_data(out: &mut BytesMut, process_id: i32, secret: &[u8]) {
    message(out, b'K', |out| {
        out.put_i32(process_id);
        out.put_slice(secret);
    });
}

/// Appends ReadyForQuery with `I`, `T` or `E`.
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |out| out.put_u8(status));
}

/// Appends NegotiateProtocolVersion: the newest version spoken (`major << 16 | minor`, as PostgreSQL sends it) and
/// the `_pq_.` options that were not understood.
pub fn negotiate_protocol_version(out: &mut BytesMut, version: i32, options: &[String]) {
    message(out, b'v', |out| {
        out.put_i32(version);
        out.put_i32(i32::try_from(options.len()).unwrap_or(i32::MAX));
        for option in options {
            put_string(out, option.as_bytes());
        }
    });
}

/// Appends Query.
pub fn query(out: &mut BytesMut, sql: &str) {
    message(out, b'Q', |out| put_string(out, sql.as_bytes()));
}

/// Appends Parse without parameter types.
pub fn parse(out: &mut BytesMut, name: &str, sql: &str) {
    message(out, b'P', |out| {
        put_string(out, name.as_bytes());
        put_string(out, sql.as_bytes());
        out.put_i16(0);
    });
}

/// Appends Describe: `kind` is `S` for a statement, `P` for a portal.
pub fn describe(out: &mut BytesMut, kind: u8, name: &[u8]) {
    message(out, b'D', |out| {
        out.put_u8(kind);
        put_string(out, name);
    });
}

/// Appends Close: `kind` is `S` for a statement, `P` for a portal.
pub fn close(out: &mut BytesMut, kind: u8, name: &[u8]) {
    message(out, b'C', |out| {
        out.put_u8(kind);
        put_string(out, name);
    });
}

/// Appends Flush.
pub fn flush(out: &mut BytesMut) {
    message(out, b'H', |_| ());
}

/// Appends Sync.
pub fn sync(out: &mut BytesMut) {
    message(out, b'S', |_| ());
}

/// Appends Terminate.
pub fn terminate(out: &mut BytesMut) {
    message(out, b'X', |_| ());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_once_it_is_whole() {
        let bytes = [b'Z', 0, 0, 0, 5, b'I', b'x'];
        for end in 0..6 {
            assert_eq!(next_frame(&bytes[..end], 64), Ok(None), "{end} bytes");
        }
        let frame = next_frame(&bytes, 64).expect("legal").expect("whole");
        assert_eq!((frame.tag, frame.range.clone(), frame.body(&bytes)), (b'Z', 0..6, &b"I"[..]));
    }

    #[test]
    fn lengths_are_checked_at_the_header() {
        let with = |length: i32| {
            let mut bytes = vec![b'Q'];
            bytes.extend(length.to_be_bytes());
            next_frame(&bytes, 10)
        };
        assert_eq!(with(3), Err(FrameFault::LengthTooSmall));
        assert_eq!(with(-1), Err(FrameFault::LengthTooSmall));
        assert_eq!(with(i32::MIN), Err(FrameFault::LengthTooSmall));
        assert_eq!(with(i32::MAX), Err(FrameFault::LengthTooLarge));
        assert_eq!(with(10), Err(FrameFault::LengthTooLarge));
        assert_eq!(with(9), Ok(None));
    }

    #[test]
    fn a_cursor_stops_at_the_end() {
        let mut cursor = Cursor::new(b"ab\0\x00\x02\xff\xff\xff\xff\x00\x00\x00\x01z");
        assert_eq!(cursor.string(), Ok(&b"ab"[..]));
        assert_eq!(cursor.count16(), Ok(2));
        assert_eq!(cursor.value(), Ok(None));
        assert_eq!(cursor.value(), Ok(Some(&b"z"[..])));
        assert_eq!(cursor.byte(), Err(FrameFault::Truncated));
        assert_eq!(cursor.finish(), Ok(()));
        assert_eq!(Cursor::new(b"ab").string(), Err(FrameFault::Truncated));
        assert_eq!(Cursor::new(b"\xff\xff\xff\xfe").value(), Err(FrameFault::LengthTooSmall));
        assert_eq!(Cursor::new(b"\x7f\xff\xff\xffa").value(), Err(FrameFault::Truncated));
        assert_eq!(Cursor::new(b"\xff\xff").count16(), Ok(65_535));
        assert_eq!(Cursor::new(b"\xff\0").text(), Err(FrameFault::NotUtf8));
        assert_eq!(Cursor::new(b"a").finish(), Err(FrameFault::TrailingBytes));
    }

    #[test]
    fn what_is_written_is_found_again() {
        let mut out = BytesMut::new();
        query(&mut out, "select\0 1");
        let frame = next_frame(&out, 64).expect("legal").expect("whole");
        assert_eq!((frame.tag, frame.body(&out), frame.range.end), (b'Q', &b"select 1\0"[..], out.len()));
        out.clear();
        negotiate_protocol_version(&mut out, 0x3_0002, &["_pq_.x".to_owned()]);
        assert_eq!(&out[..], b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    }
}
