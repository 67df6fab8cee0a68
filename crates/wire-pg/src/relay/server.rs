//! What the server sends, paired with what was asked.

use std::sync::Arc;

use bytes::Bytes;
use chancery_model::{Columns, CommandId, DoneStatus, OutputKind};
use chancery_wire::{Leg, WireError, take_next};

use super::{Copy, Expect, Kept, PgRelay, Seen};
use crate::frame::Cursor;

const OUT_OF_PLACE: WireError = WireError::PeerMisbehaved(Leg::Upstream, "message out of place");

impl PgRelay {
    pub(super) fn read_server(&mut self) -> Result<(), WireError> {
        let max = self.config.limits.output_bytes_max;
        while !self.closed {
            let Some(tag) = self.next_server(max)? else { break };
            if tag != b'Z' {
                self.flush_completion();
            }
            match tag {
                b'D' => self.rows(max)?,
                b'd' => self.bulk(max)?,
                _ => self.server_frame(tag)?,
            }
            self.settle_head();
        }
        self.flush_short();
        Ok(())
    }

    /// The tag of the server's next frame.
    fn next_server(&mut self, max: usize) -> Result<Option<u8>, WireError> {
        if let Some(tag) = self.up.peek(Leg::Upstream, max)? {
            return Ok(Some(tag));
        }
        if let Some(Kept::Lying(run)) = self.completion {
            self.completion = Some(Kept::Copied(self.up.bytes(run).to_vec()));
        }
        if self.up.is_last() {
            self.flush_short();
        } else {
            self.settle_short();
        }
        self.up.turn(Leg::Upstream, max)
    }

    /// `settle`, without giving up the gathering of short frames when there is nothing to settle.
    fn settle_head(&mut self) {
        if let Some(Expect::Refused { .. } | Expect::Ready { .. } | Expect::End { .. }) = self.flight.front() {
            self.settle();
        }
    }

    fn server_frame(&mut self, tag: u8) -> Result<(), WireError> {
        match tag {
            b'1' | b'2' | b'3' => self.name_done(tag),
            b't' => match self.flight.front_mut() {
                Some(Expect::DescribeStatement { described }) if !*described => {
                    *described = true;
                    let command = self.head_command();
                    self.pass_status(command);
                    Ok(())
                }
                _ => Err(OUT_OF_PLACE),
            },
            b'T' => self.row_description(),
            b'n' => self.no_data(),
            b'C' | b'I' => self.complete(),
            b's' => match self.flight.pop_front() {
                Some(Expect::Execute { command, .. }) => {
                    let seen = std::mem::take(&mut self.seen);
                    self.done(command, DoneStatus::Suspended, seen);
                    self.pass_status(command);
                    Ok(())
                }
                _ => Err(OUT_OF_PLACE),
            },
            b'E' => self.error(),
            b'Z' => self.ready(),
            b'N' => {
                let command = self.blamed();
                self.pass_frame(command, OutputKind::Text);
                Ok(())
            }
            b'S' => self.parameter(),
            b'A' => {
                self.pass_frame(CommandId(0), OutputKind::Aside);
                Ok(())
            }
            b'G' => self.copy_in_begins(),
            b'H' => self.copy_out_begins(),
            b'c' => {
                let command = self.running()?;
                self.pass_status(command);
                self.copy = Copy::None;
                Ok(())
            }
            b'W' => Err(WireError::PeerUnsupported(Leg::Upstream, "CopyBoth")),
            _ => Err(WireError::PeerMisbehaved(Leg::Upstream, "unknown message type")),
        }
    }

    /// Takes the frame at hand as a status.
    fn pass_status(&mut self, command: CommandId) {
        let frame = self.up.take();
        self.status(command, frame);
    }

    /// Takes the frame at hand as an output of its own.
    fn pass_frame(&mut self, command: CommandId, kind: OutputKind) {
        self.flush_short();
        let frame = self.up.take();
        let bytes = self.up.slice_out(frame);
        self.output(command, kind, bytes, 0);
    }

    /// The command that the server works on now; 0 if none.
    fn head_command(&self) -> CommandId {
        match self.flight.front() {
            Some(Expect::Execute { command, .. } | Expect::Query { command, .. }) => *command,
            _ => self.flight.iter().find_map(Expect::command).unwrap_or(CommandId(0)),
        }
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
        match self.flight.front() {
            Some(Expect::Execute { .. } | Expect::Query { .. }) => Ok(&mut self.seen),
            _ => Err(OUT_OF_PLACE),
        }
    }

    fn name_done(&mut self, tag: u8) -> Result<(), WireError> {
        let command = self.head_command();
        match (tag, self.flight.pop_front()) {
            (b'1', Some(Expect::Parse { .. })) => {}
            (b'2', Some(Expect::Bind { portal, .. })) => drop(self.described.remove(portal.as_bytes())),
            (b'3', Some(Expect::Close { .. })) => {}
            _ => return Err(OUT_OF_PLACE),
        }
        self.pass_status(command);
        Ok(())
    }

    fn row_description(&mut self) -> Result<(), WireError> {
        match self.flight.front_mut() {
            Some(Expect::DescribeStatement { .. }) => {
                let command = self.head_command();
                self.flight.pop_front();
                // Without the formats of a Bind this describes no rows that will be seen; it is only shown.
                self.pass_status(command);
            }
            Some(Expect::DescribePortal { portal, injected }) => {
                let (portal, injected) = (std::mem::take(portal), *injected);
                let command = self.head_command();
                self.flight.pop_front();
                let columns = self.columns()?;
                // Past the bound it stays unknown, and its rows cannot be shown.
                if self.described.len() < self.config.limits.statements_max {
                    self.described.insert(portal, columns.clone());
                }
                if injected {
                    self.up.take();
                } else {
                    self.pass_frame(command, OutputKind::Columns(columns));
                }
            }
            Some(Expect::Query { command, .. }) => {
                let command = *command;
                self.seen.columns = true;
                let columns = self.columns()?;
                self.pass_frame(command, OutputKind::Columns(columns));
            }
            _ => return Err(OUT_OF_PLACE),
        }
        Ok(())
    }

    fn columns(&mut self) -> Result<Arc<Columns>, WireError> {
        self.descriptions.read(self.up.body()).map_err(|fault| fault.on(Leg::Upstream))
    }

    fn no_data(&mut self) -> Result<(), WireError> {
        let command = self.head_command();
        match self.flight.pop_front() {
            Some(Expect::DescribePortal { injected: true, .. }) => drop(self.up.take()),
            Some(Expect::DescribePortal { .. } | Expect::DescribeStatement { .. }) => self.pass_status(command),
            _ => return Err(OUT_OF_PLACE),
        }
        Ok(())
    }

    fn rows(&mut self, max: usize) -> Result<(), WireError> {
        let command = self.running()?;
        let announce = match self.flight.front_mut() {
            Some(Expect::Query { .. }) if !self.seen.columns => return Err(OUT_OF_PLACE),
            Some(Expect::Execute { portal, .. }) if !self.seen.columns => {
                self.seen.columns = true;
                Some(std::mem::take(portal))
            }
            _ => None,
        };
        let first = announce.is_some();
        match announce.and_then(|portal| self.described.get(portal.as_bytes()).cloned()) {
            Some(columns) => self.output(command, OutputKind::Columns(columns), Bytes::new(), 0),
            // Another portal's, described in the same unit, are not to be taken for them.
            None if first && self.config.describe => {
                return Err(WireError::LimitReached(Leg::Upstream, "rows of a portal whose description is not known"));
            }
            None => {}
        }
        self.flush_short();
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
        self.flush_short();
        let (run, frames) = self.up.take_run(Leg::Upstream, max)?;
        let seen = self.seen()?;
        seen.rows += u64::from(frames);
        seen.bytes += run.len() as u64;
        self.output(command, OutputKind::Bulk { binary }, run, frames);
        Ok(())
    }

    fn complete(&mut self) -> Result<(), WireError> {
        let rows = affected(self.up.body());
        match self.flight.front() {
            Some(Expect::Query { .. }) => {
                self.seen.rows = self.seen.rows.max(rows);
                self.completion = Some(Kept::Lying(self.up.take()));
            }
            Some(Expect::Execute { command, .. }) => {
                let command = *command;
                self.flight.pop_front();
                let mut seen = std::mem::take(&mut self.seen);
                seen.rows = seen.rows.max(rows);
                self.done(command, DoneStatus::Completed, seen);
                self.pass_status(command);
            }
            _ => return Err(OUT_OF_PLACE),
        }
        self.copy = Copy::None;
        Ok(())
    }

    /// A kept completion was not the last: more of the same query follows.
    fn flush_completion(&mut self) {
        if self.completion.is_some() {
            let command = self.head_command();
            self.tell_completion(command);
        }
    }

    fn tell_completion(&mut self, command: CommandId) {
        match self.completion.take() {
            Some(Kept::Lying(frame)) => self.status(command, frame),
            Some(Kept::Copied(frame)) => self.status_copied(command, &frame),
            None => {}
        }
    }

    fn error(&mut self) -> Result<(), WireError> {
        self.copy = Copy::None;
        match self.flight.front_mut() {
            Some(Expect::Query { command, .. }) => {
                let command = *command;
                self.failed = Some(sqlstate(self.up.body()));
                self.pass_frame(command, OutputKind::Text);
            }
            Some(Expect::PoisonQuery { error, .. }) if error.is_some() => {
                let error = error.take().map(|error| *error).unwrap_or_default();
                self.up.take();
                self.output(CommandId(0), OutputKind::Own, error, 0);
            }
            Some(Expect::Poison { error }) => {
                let error = std::mem::take(&mut **error);
                self.flight.pop_front();
                self.up.take();
                self.output(CommandId(0), OutputKind::Own, error, 0);
                self.skip_flight(None);
            }
            // At a Sync: the commit failed. With nothing owed: the server says goodbye (shutdown, timeout).
            Some(Expect::Sync { .. }) | None => self.pass_frame(CommandId(0), OutputKind::Text),
            // Its words come before its end: how they are shown is known of a command that is not over.
            Some(_) => {
                let command = self.blamed();
                let sqlstate = sqlstate(self.up.body());
                self.pass_frame(command, OutputKind::Text);
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
                // Only the execution at the head has shown anything.
                Expect::Execute { command, .. } => Some((command, std::mem::take(&mut self.seen))),
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

    fn ready(&mut self) -> Result<(), WireError> {
        let status = match self.up.body() {
            [status @ (b'I' | b'T' | b'E')] => *status,
            _ => return Err(WireError::PeerMisbehaved(Leg::Upstream, "malformed ReadyForQuery")),
        };
        let (command, segment) = match take_next(&mut self.flight) {
            Some(Expect::Query { command, segment }) => {
                let status = self.failed.take().map_or(DoneStatus::Completed, DoneStatus::Failed);
                let seen = std::mem::take(&mut self.seen);
                self.done(command, status, seen);
                self.tell_completion(command);
                (command, segment)
            }
            Some(Expect::PoisonQuery { segment, error: None } | Expect::Sync { segment }) => (CommandId(0), segment),
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
        let command = if self.has_short() { self.short_of } else { command };
        self.pass_status(command);
        Ok(())
    }

    fn parameter(&mut self) -> Result<(), WireError> {
        let mut cursor = Cursor::new(self.up.body());
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
        let own = self
            .config
            .renamed
            .as_ref()
            .filter(|(planted, _)| name == b"application_name" && value.starts_with(planted.as_bytes()));
        match own.map(|(_, claimed)| parameter_status(b"application_name", claimed.as_bytes())) {
            None => self.pass_frame(CommandId(0), OutputKind::Aside),
            Some(frame) => {
                self.flush_short();
                self.up.take();
                self.output(CommandId(0), OutputKind::Aside, frame, 0);
            }
        }
        Ok(())
    }

    fn copy_in_begins(&mut self) -> Result<(), WireError> {
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
        self.pass_status(command);
        Ok(())
    }

    fn copy_out_begins(&mut self) -> Result<(), WireError> {
        let command = self.running()?;
        let mut cursor = Cursor::new(self.up.body());
        let (Ok(format), Ok(count)) = (cursor.byte(), cursor.count16()) else {
            return Err(WireError::PeerMisbehaved(Leg::Upstream, "malformed CopyOutResponse"));
        };
        let binary = format != 0;
        let columns = u16::try_from(count).unwrap_or(u16::MAX);
        self.copy = Copy::Out { binary };
        self.pass_frame(command, OutputKind::BulkStart { binary, columns });
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

/// The row count at the end of a completion tag such as `INSERT 0 5`; 0 if there is none.
fn affected(body: &[u8]) -> u64 {
    let tag = body.strip_suffix(b"\0").unwrap_or(body);
    let digits = tag.rsplit(|b| *b == b' ').next().unwrap_or_default();
    let add = |rows: u64, digit: &u8| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        rows.checked_mul(10)?.checked_add(digit.into())
    };
    digits.iter().try_fold(0, add).unwrap_or(0)
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

/// A ParameterStatus of our own.
fn parameter_status(name: &[u8], value: &[u8]) -> Bytes {
    let length = u32::try_from(4 + name.len() + value.len() + 2).unwrap_or(u32::MAX);
    [b"S".as_slice(), &length.to_be_bytes(), name, b"\0", value, b"\0"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_the_end_of_a_tag() {
        for (tag, rows) in [
            (&b"INSERT 0 5\0"[..], 5),
            (b"SELECT 120\0", 120),
            (b"BEGIN\0", 0),
            (b"COPY 18446744073709551615\0", u64::MAX),
            (b"COPY 18446744073709551616\0", 0),
            (b"SELECT 1x\0", 0),
            (b"\0", 0),
            (b"", 0),
        ] {
            assert_eq!(affected(tag), rows, "{}", String::from_utf8_lossy(tag));
        }
    }
}
