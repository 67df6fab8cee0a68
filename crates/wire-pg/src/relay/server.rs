//! What the server sends, paired with what was asked.

use std::sync::Arc;

use bytes::Bytes;
use chancery_model::{CellFormat, Column, Columns, CommandId, DoneStatus, Origin, OutputKind};
use chancery_wire::{Leg, WireError};

use super::{Copy, Expect, PgRelay, Seen};
use crate::frame::{Cursor, FrameFault};

const OUT_OF_PLACE: WireError = WireError::PeerMisbehaved(Leg::Upstream, "message out of place");

impl PgRelay {
    pub(super) fn read_server(&mut self) -> Result<(), WireError> {
        let max = self.config.limits.output_bytes_max;
        while !self.closed {
            let Some(tag) = self.up.peek(Leg::Upstream, max)? else { break };
            if tag != b'Z' {
                self.flush_completion();
            }
            match tag {
                b'D' => self.rows(max)?,
                b'd' => self.bulk(max)?,
                _ => {
                    let Some(frame) = self.up.take() else { break };
                    self.server_frame(tag, &frame.bytes, &frame.body())?;
                }
            }
            self.settle_head();
        }
        self.flush_short();
        Ok(())
    }

    /// `settle`, without giving up the gathering of short frames when there is nothing to settle.
    fn settle_head(&mut self) {
        if let Some(Expect::Refused { .. } | Expect::Ready { .. } | Expect::End { .. }) = self.flight.front() {
            self.settle();
        }
    }

    fn server_frame(&mut self, tag: u8, bytes: &Bytes, body: &Bytes) -> Result<(), WireError> {
        match tag {
            b'1' | b'2' | b'3' => self.name_done(tag, bytes),
            b't' => match self.flight.front_mut() {
                Some(Expect::DescribeStatement { described }) if !*described => {
                    *described = true;
                    let command = self.head_command();
                    self.status(command, bytes);
                    Ok(())
                }
                _ => Err(OUT_OF_PLACE),
            },
            b'T' => self.row_description(bytes, body),
            b'n' => self.no_data(bytes),
            b'C' | b'I' => self.complete(bytes, body),
            b's' => match self.flight.pop_front() {
                Some(Expect::Execute { command, seen, .. }) => {
                    self.done(command, DoneStatus::Suspended, seen);
                    self.status(command, bytes);
                    Ok(())
                }
                _ => Err(OUT_OF_PLACE),
            },
            b'E' => self.error(bytes, body),
            b'Z' => self.ready(bytes, body),
            b'N' => {
                let command = self.blamed();
                self.output(command, OutputKind::Text, bytes.clone(), 0);
                Ok(())
            }
            b'S' => self.parameter(bytes, body),
            b'A' => {
                self.output(CommandId(0), OutputKind::Aside, bytes.clone(), 0);
                Ok(())
            }
            b'G' => self.copy_in_begins(bytes),
            b'H' => self.copy_out_begins(bytes, body),
            b'c' => {
                let command = self.running()?;
                self.status(command, bytes);
                self.copy = Copy::None;
                Ok(())
            }
            b'W' => Err(WireError::PeerUnsupported(Leg::Upstream, "CopyBoth")),
            _ => Err(WireError::PeerMisbehaved(Leg::Upstream, "unknown message type")),
        }
    }

    /// The command that the server works on now; 0 if none.
    fn head_command(&self) -> CommandId {
        self.flight.iter().find_map(Expect::command).unwrap_or(CommandId(0))
    }

    /// The command whose statement the server's words are about: whatever they quote, that statement brought up. 0 where
    /// this is not certain. A Parse and a Bind say no more than their own statement can: they read its literals and
    /// parameters and may compute what is constant in it. But a unit can also hold frames of statements other than the
    /// one it was ruled on, and a Sync speaks for all before it (deferred constraints).
    fn blamed(&self) -> CommandId {
        match self.flight.front() {
            Some(Expect::Execute { .. } | Expect::Query { .. }) => self.head_command(),
            Some(Expect::Parse { ruled: true, .. } | Expect::Bind { ruled: true, .. }) => self.head_command(),
            _ => CommandId(0),
        }
    }

    /// The command whose execution is at the head.
    fn running(&self) -> Result<CommandId, WireError> {
        match self.flight.front() {
            Some(Expect::Execute { command, .. } | Expect::Query { command, .. }) => Ok(*command),
            _ => Err(OUT_OF_PLACE),
        }
    }

    fn seen(&mut self) -> Result<&mut Seen, WireError> {
        match self.flight.front_mut() {
            Some(Expect::Execute { seen, .. } | Expect::Query { seen, .. }) => Ok(seen),
            _ => Err(OUT_OF_PLACE),
        }
    }

    fn name_done(&mut self, tag: u8, bytes: &Bytes) -> Result<(), WireError> {
        let command = self.head_command();
        match (tag, self.flight.pop_front()) {
            (b'1', Some(Expect::Parse { .. })) => {}
            (b'2', Some(Expect::Bind { portal, .. })) => drop(self.described.remove(&portal)),
            (b'3', Some(Expect::Close { .. })) => {}
            _ => return Err(OUT_OF_PLACE),
        }
        self.status(command, bytes);
        Ok(())
    }

    fn row_description(&mut self, bytes: &Bytes, body: &Bytes) -> Result<(), WireError> {
        let columns = || read_columns(body).map(Arc::new).map_err(|fault| fault.on(Leg::Upstream));
        match self.flight.front_mut() {
            Some(Expect::DescribeStatement { .. }) => {
                let command = self.head_command();
                self.flight.pop_front();
                // Without the formats of a Bind this describes no rows that will be seen; it is only shown.
                self.status(command, bytes);
            }
            Some(Expect::DescribePortal { portal, injected }) => {
                let (portal, injected) = (std::mem::take(portal), *injected);
                let command = self.head_command();
                self.flight.pop_front();
                let columns = columns()?;
                // Past the bound it stays unknown, and its rows cannot be shown.
                if self.described.len() < self.config.limits.statements_max {
                    self.described.insert(portal, columns.clone());
                }
                if !injected {
                    self.output(command, OutputKind::Columns(columns), bytes.clone(), 0);
                }
            }
            Some(Expect::Query { command, seen, .. }) => {
                let command = *command;
                seen.columns = true;
                let columns = columns()?;
                self.output(command, OutputKind::Columns(columns), bytes.clone(), 0);
            }
            _ => return Err(OUT_OF_PLACE),
        }
        Ok(())
    }

    fn no_data(&mut self, bytes: &Bytes) -> Result<(), WireError> {
        let command = self.head_command();
        match self.flight.pop_front() {
            Some(Expect::DescribePortal { injected: true, .. }) => {}
            Some(Expect::DescribePortal { .. } | Expect::DescribeStatement { .. }) => self.status(command, bytes),
            _ => return Err(OUT_OF_PLACE),
        }
        Ok(())
    }

    fn rows(&mut self, max: usize) -> Result<(), WireError> {
        let command = self.running()?;
        let announce = match self.flight.front_mut() {
            Some(Expect::Query { seen, .. }) if !seen.columns => return Err(OUT_OF_PLACE),
            Some(Expect::Execute { seen, portal, .. }) if !seen.columns => {
                seen.columns = true;
                Some(std::mem::take(portal))
            }
            _ => None,
        };
        let first = announce.is_some();
        match announce.and_then(|portal| self.described.get(&portal).cloned()) {
            Some(columns) => self.output(command, OutputKind::Columns(columns), Bytes::new(), 0),
            // Another portal's, described in the same unit, are not to be taken for them.
            None if first && self.config.describe => {
                return Err(WireError::LimitReached(Leg::Upstream, "rows of a portal whose description is not known"));
            }
            None => {}
        }
        let (run, rows) = self.up.take_run(Leg::Upstream, max)?;
        let seen = self.seen()?;
        seen.rows += u64::from(rows);
        seen.bytes += run.len() as u64;
        self.output(command, OutputKind::Rows, run, rows);
        Ok(())
    }

    fn bulk(&mut self, max: usize) -> Result<(), WireError> {
        let Copy::Out { binary } = self.copy else { return Err(OUT_OF_PLACE) };
        let command = self.running()?;
        let (run, frames) = self.up.take_run(Leg::Upstream, max)?;
        let seen = self.seen()?;
        seen.rows += u64::from(frames);
        seen.bytes += run.len() as u64;
        self.output(command, OutputKind::Bulk { binary }, run, frames);
        Ok(())
    }

    fn complete(&mut self, bytes: &Bytes, body: &Bytes) -> Result<(), WireError> {
        let rows = affected(body);
        match self.flight.front_mut() {
            Some(Expect::Query { seen, .. }) => {
                seen.rows = seen.rows.max(rows);
                self.copy = Copy::None;
                self.completion = Some(bytes.clone());
            }
            Some(Expect::Execute { .. }) => {
                let Some(Expect::Execute { command, mut seen, .. }) = self.flight.pop_front() else {
                    return Err(OUT_OF_PLACE);
                };
                seen.rows = seen.rows.max(rows);
                self.copy = Copy::None;
                self.done(command, DoneStatus::Completed, seen);
                self.status(command, bytes);
            }
            _ => return Err(OUT_OF_PLACE),
        }
        Ok(())
    }

    /// A kept completion was not the last: more of the same query follows.
    fn flush_completion(&mut self) {
        if let Some(frame) = self.completion.take() {
            let command = self.head_command();
            self.status(command, &frame);
        }
    }

    fn error(&mut self, bytes: &Bytes, body: &Bytes) -> Result<(), WireError> {
        self.copy = Copy::None;
        let sqlstate = sqlstate(body);
        match self.flight.front_mut() {
            Some(Expect::Query { command, failed, .. }) => {
                let command = *command;
                *failed = Some(sqlstate);
                self.output(command, OutputKind::Text, bytes.clone(), 0);
            }
            Some(Expect::PoisonQuery { error, failed, .. }) if !*failed => {
                *failed = true;
                let error = std::mem::take(error);
                self.output(CommandId(0), OutputKind::Status, error, 0);
            }
            Some(Expect::Poison { error }) => {
                let error = std::mem::take(error);
                self.flight.pop_front();
                self.output(CommandId(0), OutputKind::Status, error, 0);
                self.skip_flight(None);
            }
            // At a Sync: the commit failed. With nothing owed: the server says goodbye (shutdown, timeout).
            Some(Expect::Sync { .. }) | None => self.output(CommandId(0), OutputKind::Text, bytes.clone(), 0),
            // Its words come before its end: how they are shown is known of a command that is not over.
            Some(_) => {
                let command = self.blamed();
                self.output(command, OutputKind::Text, bytes.clone(), 0);
                self.skip_flight(Some(sqlstate));
            }
        }
        Ok(())
    }

    /// The server skips to the next Sync: everything before it is over, the first command failed, the others skipped.
    fn skip_flight(&mut self, mut failed: Option<String>) {
        let mut first_step = None;
        let mut segment = None;
        while let Some(expect) = self.flight.front() {
            if let Expect::Sync { segment: at } = expect {
                segment = Some(*at);
                break;
            }
            let Some(expect) = self.flight.pop_front() else { break };
            first_step = first_step.or(expect.step());
            let ended = match expect {
                Expect::Execute { command, seen, .. } => Some((command, seen)),
                Expect::End { command } => Some((command, Seen::default())),
                _ => None,
            };
            if let Some((command, seen)) = ended {
                let status = failed.take().map_or(DoneStatus::Skipped, DoneStatus::Failed);
                self.done(command, status, seen);
            }
        }
        let segment = segment.unwrap_or_else(|| {
            // The Sync was not sent yet: units of this segment still to come are skipped on our side.
            let open = self.asked.front().filter(|unit| !unit.simple).map_or(self.segment, |unit| unit.segment);
            self.skipping = Some(open);
            open
        });
        let steps = self.asked.iter().filter(|unit| unit.segment == segment).flat_map(|unit| &unit.expects);
        let gathered = self.unit.expects.iter().filter(|_| self.segment == segment);
        let first_step = first_step.or_else(|| steps.chain(gathered).find_map(Expect::step));
        if let Some(step) = first_step {
            self.names.fail(segment, step);
        }
    }

    fn ready(&mut self, bytes: &Bytes, body: &Bytes) -> Result<(), WireError> {
        let status = match body.first() {
            Some(status @ (b'I' | b'T' | b'E')) if body.len() == 1 => *status,
            _ => return Err(WireError::PeerMisbehaved(Leg::Upstream, "malformed ReadyForQuery")),
        };
        let (command, segment) = match self.flight.pop_front() {
            Some(Expect::Query { command, seen, failed, segment }) => {
                let status = failed.map_or(DoneStatus::Completed, DoneStatus::Failed);
                self.done(command, status, seen);
                if let Some(frame) = self.completion.take() {
                    self.status(command, &frame);
                }
                (command, segment)
            }
            Some(Expect::PoisonQuery { segment, failed: true, .. } | Expect::Sync { segment }) => {
                (CommandId(0), segment)
            }
            _ => return Err(OUT_OF_PLACE),
        };
        self.status = status;
        if status == b'I' {
            self.described.clear();
        }
        self.names.confirm(segment, status != b'I');
        if self.skipping == Some(segment) {
            self.skipping = None;
        }
        let command = if self.short.is_empty() { command } else { self.short_of };
        self.status(command, bytes);
        Ok(())
    }

    fn parameter(&mut self, bytes: &Bytes, body: &Bytes) -> Result<(), WireError> {
        let mut cursor = Cursor::new(body);
        let (Ok(name), Ok(value)) = (cursor.string(), cursor.string()) else {
            return Err(WireError::PeerMisbehaved(Leg::Upstream, "malformed ParameterStatus"));
        };
        let misread = match name {
            b"client_encoding" => !value.eq_ignore_ascii_case(b"UTF8"),
            b"standard_conforming_strings" => value != b"on",
            _ => false,
        };
        if misread {
            return Err(WireError::PeerUnsupported(Leg::Upstream, "a setting that changes how statements are read"));
        }
        self.output(CommandId(0), OutputKind::Aside, bytes.clone(), 0);
        Ok(())
    }

    fn copy_in_begins(&mut self, bytes: &Bytes) -> Result<(), WireError> {
        let command = self.running()?;
        self.copy = Copy::In { command };
        // In extended query the server ignores a Sync that lies in front of the data; it will owe no answer to it.
        let mut at = 1;
        while let Some(expect) = self.flight.get(at) {
            match expect {
                Expect::Sync { .. } => {
                    self.flight.remove(at);
                    self.dirty = true;
                }
                Expect::End { .. } => at += 1,
                _ => break,
            }
        }
        self.status(command, bytes);
        Ok(())
    }

    fn copy_out_begins(&mut self, bytes: &Bytes, body: &Bytes) -> Result<(), WireError> {
        let command = self.running()?;
        let mut cursor = Cursor::new(body);
        let (Ok(format), Ok(count)) = (cursor.byte(), cursor.count16()) else {
            return Err(WireError::PeerMisbehaved(Leg::Upstream, "malformed CopyOutResponse"));
        };
        let binary = format != 0;
        let columns = u16::try_from(count).unwrap_or(u16::MAX);
        self.copy = Copy::Out { binary };
        self.output(command, OutputKind::BulkStart { binary, columns }, bytes.clone(), 0);
        Ok(())
    }
}

impl Expect {
    fn command(&self) -> Option<CommandId> {
        match self {
            Self::Execute { command, .. } | Self::Query { command, .. } | Self::End { command } => Some(*command),
            _ => None,
        }
    }
}

/// Reads a RowDescription ("Message Formats" in the manual).
fn read_columns(body: &Bytes) -> Result<Columns, FrameFault> {
    let mut cursor = Cursor::new(body);
    let count = cursor.count16()?;
    // A column takes at least 19 bytes, so the body bounds the allocation.
    let mut columns = Vec::with_capacity(count.min(body.len() / 19));
    for _ in 0..count {
        let name = String::from_utf8_lossy(cursor.string()?).into_owned();
        let relation = cursor.int32()?.cast_unsigned();
        let attribute = cursor.int16()?;
        let type_id = cursor.int32()?.cast_unsigned();
        cursor.int16()?;
        cursor.int32()?;
        let format = if cursor.int16()? == 0 { CellFormat::Text } else { CellFormat::Binary };
        let origin = match (relation, attribute) {
            (0, _) => Origin::Lost,
            (relation, 0) => Origin::WholeRow(relation),
            // System columns (ctid, xmin, tableoid) have negative numbers.
            (relation, attribute) => Origin::Attribute(relation, attribute),
        };
        columns.push(Column { name, origin, type_id, format });
    }
    cursor.finish()?;
    Ok(Columns { columns })
}

/// The row count at the end of a completion tag such as `INSERT 0 5`; 0 if there is none.
fn affected(body: &[u8]) -> u64 {
    let tag = body.strip_suffix(b"\0").unwrap_or(body);
    let digits = tag.rsplit(|b| *b == b' ').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The SQLSTATE of an ErrorResponse; `XX000` if it has none that is well formed.
fn sqlstate(body: &[u8]) -> String {
    let mut cursor = Cursor::new(body);
    while let Ok(tag) = cursor.byte() {
        let Ok(value) = cursor.string() else { break };
        if tag == b'C' && value.len() == 5 && value.iter().all(u8::is_ascii_alphanumeric) {
            return String::from_utf8_lossy(value).into_owned();
        }
    }
    "XX000".to_owned()
}
