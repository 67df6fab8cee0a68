//! How the masker opens a run of frames: where the values are, and what the run looks like after edits.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use chancery_model::{Anatomy, Cell, Edit, Output, OutputKind, Part};

use super::PgRelay;
use crate::frame::{Cursor, HEADER_BYTES, next_frame};

/// Signature of the binary COPY format ("COPY", section "Binary Format" in the manual).
const BINARY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Opens messages of the protocol. It needs no relay, so recorded ones can be opened, too.
#[derive(Clone, Copy, Debug)]
pub struct PgAnatomy;

impl PgAnatomy {
    /// The kind of output that a message with this tag is masked as. Descriptions are told apart from other messages
    /// without values by the relay only; neither is masked. `binary`: COPY data is in that format.
    pub fn kind(tag: u8, binary: bool) -> OutputKind {
        match tag {
            b'D' => OutputKind::Rows,
            b'd' => OutputKind::Bulk { binary },
            b'E' | b'N' => OutputKind::Text,
            b'A' | b'S' => OutputKind::Aside,
            _ => OutputKind::Status,
        }
    }
}

impl Anatomy for PgRelay {
    fn cells(&self, output: &Output, visit: &mut dyn FnMut(Cell)) -> bool {
        PgAnatomy.cells(output, visit)
    }
    fn splice(&self, output: &Output, edits: &[Edit]) -> Bytes {
        PgAnatomy.splice(output, edits)
    }
}

impl Anatomy for PgAnatomy {
    fn cells(&self, output: &Output, visit: &mut dyn FnMut(Cell)) -> bool {
        let run = &output.bytes[..];
        frames(run).all(|body| {
            let Some(bytes) = run.get(body.clone()) else { return false };
            let walked = match output.kind {
                OutputKind::Columns(_) | OutputKind::BulkStart { .. } | OutputKind::Status | OutputKind::Own => {
                    Some(())
                }
                OutputKind::Rows => row_cells(bytes, body.start, visit),
                OutputKind::Bulk { binary: true } => binary_cells(bytes, body.start, visit),
                OutputKind::Bulk { binary: false } => text_cells(bytes, body.start, visit),
                OutputKind::Text => report_cells(bytes, body.start, visit),
                OutputKind::Aside => {
                    // NotificationResponse has a process id in front; ParameterStatus has not.
                    let skip = if run.get(body.start - HEADER_BYTES) == Some(&b'A') { 4 } else { 0 };
                    aside_cells(bytes, body.start, skip, visit)
                }
            };
            walked.is_some()
        })
    }

    fn splice(&self, output: &Output, edits: &[Edit]) -> Bytes {
        let run = &output.bytes[..];
        let grown: usize = edits.iter().map(|edit| edit.with.as_ref().map_or(2, Bytes::len)).sum();
        let mut out = BytesMut::with_capacity(run.len() + grown);
        let mut edits = edits.iter().peekable();
        for body in frames(run) {
            let frame = body.start - HEADER_BYTES..body.end;
            if edits.peek().is_none_or(|edit| edit.range.start > frame.end) {
                out.extend_from_slice(&run[frame]);
                continue;
            }
            let start = out.len();
            out.extend_from_slice(&run[frame.start..frame.start + HEADER_BYTES]);
            let mut at = body.start;
            // An empty value can stand at the very end; cells of the next frame begin behind its header.
            while let Some(edit) = edits.next_if(|edit| edit.range.start <= frame.end) {
                put_edit(&mut out, run, at, edit, &output.kind);
                at = edit.range.end;
            }
            out.extend_from_slice(&run[at..frame.end]);
            let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
            out[start + 1..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
        }
        out.freeze()
    }
}

/// Where the bodies of the frames of a run lie. The relay cut the run, so its frames are whole.
fn frames(run: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let frame = next_frame(run.get(at..)?, usize::MAX).ok()??;
        let total = frame.body_range().end;
        let body = at + HEADER_BYTES..at + total;
        at += total;
        Some(body)
    })
}

/// Writes what lies between `at` and the edited value, then the value. Length prefixes of row values are replaced.
fn put_edit(out: &mut BytesMut, run: &[u8], at: usize, edit: &Edit, kind: &OutputKind) {
    let value = edit.with.as_deref();
    match kind {
        OutputKind::Rows => put_prefixed(out, run, at, edit, value),
        OutputKind::Bulk { binary: true } => put_prefixed(out, run, at, edit, value),
        OutputKind::Bulk { binary: false } => {
            out.extend_from_slice(&run[at..edit.range.start]);
            match value {
                None => out.extend_from_slice(b"\\N"),
                Some(value) => put_escaped(out, value),
            }
        }
        _ => {
            out.extend_from_slice(&run[at..edit.range.start]);
            out.extend(value.unwrap_or_default().iter().filter(|byte| **byte != 0));
        }
    }
}

fn put_prefixed(out: &mut BytesMut, run: &[u8], at: usize, edit: &Edit, value: Option<&[u8]>) {
    let prefix = edit.range.start.saturating_sub(4).max(at);
    out.extend_from_slice(&run[at..prefix]);
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(value);
        }
    }
}

/// Escapes as COPY's text format does.
fn put_escaped(out: &mut BytesMut, value: &[u8]) {
    for &byte in value {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            _ => out.put_u8(byte),
        }
    }
}

fn row_cells(body: &[u8], start: usize, visit: &mut dyn FnMut(Cell)) -> Option<()> {
    let mut cursor = Cursor::new(body);
    let count = u16::try_from(cursor.count16().ok()?).ok()?;
    values(&mut cursor, body.len(), start, count, visit)?;
    cursor.finish().ok()
}

fn values(cursor: &mut Cursor<'_>, end: usize, start: usize, count: u16, visit: &mut dyn FnMut(Cell)) -> Option<()> {
    for column in 0..count {
        let range = cursor.value().ok()?.map(|value| {
            let to = start + end - cursor.rest().len();
            to - value.len()..to
        });
        visit(Cell { part: Part::Column(column), range });
    }
    Some(())
}

/// One CopyData of the binary format: the server sends one tuple a message, the header in front of the first.
fn binary_cells(body: &[u8], start: usize, visit: &mut dyn FnMut(Cell)) -> Option<()> {
    let mut cursor = Cursor::new(body);
    if body.starts_with(BINARY_SIGNATURE) {
        cursor.take(BINARY_SIGNATURE.len()).ok()?;
        cursor.int32().ok()?;
        let extension = usize::try_from(cursor.int32().ok()?).ok()?;
        cursor.take(extension).ok()?;
    }
    while !cursor.is_empty() {
        match cursor.int16().ok()? {
            -1 => return cursor.finish().ok(),
            count => values(&mut cursor, body.len(), start, u16::try_from(count).ok()?, visit)?,
        }
    }
    Some(())
}

/// One CopyData of the text format: one row, values between tabs, a line feed at the end. Escapes have no bare tabs.
fn text_cells(body: &[u8], start: usize, visit: &mut dyn FnMut(Cell)) -> Option<()> {
    let row = body.strip_suffix(b"\n").unwrap_or(body);
    let mut at = 0;
    for (column, value) in row.split(|byte| *byte == b'\t').enumerate() {
        let range = start + at..start + at + value.len();
        at += value.len() + 1;
        let part = u16::try_from(column).map_or(Part::Whole, Part::Column);
        visit(Cell { part, range: (value != b"\\N").then_some(range) });
    }
    Some(())
}

fn report_cells(body: &[u8], start: usize, visit: &mut dyn FnMut(Cell)) -> Option<()> {
    let mut cursor = Cursor::new(body);
    loop {
        let tag = cursor.byte().ok()?;
        if tag == 0 {
            return cursor.finish().ok();
        }
        let value = cursor.string().ok()?;
        let to = start + body.len() - cursor.rest().len() - 1;
        visit(Cell { part: Part::Field(tag), range: Some(to - value.len()..to) });
    }
}

/// ParameterStatus is two strings; NotificationResponse is a process id and two strings.
fn aside_cells(body: &[u8], start: usize, skip: usize, visit: &mut dyn FnMut(Cell)) -> Option<()> {
    let mut cursor = Cursor::new(body);
    cursor.take(skip).ok()?;
    let name = start + skip..start + skip + cursor.string().ok()?.len();
    let value = name.end + 1..name.end + 1 + cursor.string().ok()?.len();
    cursor.finish().ok()?;
    visit(Cell { part: Part::Name, range: Some(name) });
    visit(Cell { part: Part::Value, range: Some(value) });
    Some(())
}
