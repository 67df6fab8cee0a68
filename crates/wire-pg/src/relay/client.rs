//! What the client sends: frames gathered into commands.

use bytes::Bytes;
use chancery_model::{Ask, Bind, CommandId, Input, Refusal, RefusalCode, Statement};
use chancery_wire::{Event, Leg, Relay, WireError};

use super::inbox::SHORT;
use super::tables::{Lookup, Name};
use super::{Asked, Copy, Expect, PgRelay, Unit, Uses, build};
use crate::frame::{self, Cursor};

/// What to do with the client's stream after a frame.
enum Next {
    Continue,
    /// The frame must wait until the server has answered what it depends on; it stays in the inbox.
    Wait,
}

impl PgRelay {
    /// Reads as many of the client's frames as may be read now.
    #[inline]
    pub(super) fn read_client(&mut self) -> Result<(), WireError> {
        self.waiting = false;
        if self.down.is_drained() && self.has_room() {
            return Ok(());
        }
        self.read_frames()
    }

    fn read_frames(&mut self) -> Result<(), WireError> {
        while !self.closed {
            if !self.has_room() {
                self.ask_for_answers();
                return Ok(());
            }
            let max = self.config.limits.message_bytes_max;
            let tag = match self.down.peek(Leg::Downstream, max)? {
                Some(tag) => tag,
                None => match self.turn_client()? {
                    Some(tag) => tag,
                    None => return Ok(()),
                },
            };
            match self.read_frame(tag)? {
                Next::Continue => {}
                Next::Wait => {
                    self.waiting = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The tag of the client's next frame, if it is not in the chunk being read.
    fn turn_client(&mut self) -> Result<Option<u8>, WireError> {
        self.unit.parts.settle(&self.down);
        self.down.turn(Leg::Downstream, self.config.limits.message_bytes_max)
    }

    fn read_frame(&mut self, tag: u8) -> Result<Next, WireError> {
        if self.passing {
            return Ok(Next::Wait);
        }
        if let Copy::In { command } = self.copy {
            return self.copy_in(tag, command);
        }
        if self.skipping == Some(self.segment) && !matches!(tag, b'S' | b'X') {
            self.down.take();
            return Ok(Next::Continue);
        }
        match tag {
            b'Q' => self.query(),
            b'P' => self.parse(),
            b'B' => self.bind(),
            b'D' => self.describe(),
            b'E' => self.execute(),
            b'C' => self.close_name(),
            b'H' => {
                self.keep();
                self.finish_unit("flush");
                Ok(Next::Continue)
            }
            b'S' => self.sync(),
            b'd' | b'c' | b'f' => self.stray_copy(),
            b'F' => {
                self.finish_unit("prepare");
                self.keep();
                // Outside of a pipeline it is a cycle of its own that ends with ReadyForQuery, without a Sync; inside
                // one the error makes the client send its Sync.
                if !self.dirty_segment() {
                    self.unit.simple = true;
                    self.unit.segment = self.segment;
                    self.segment += 1;
                }
                self.refuse_here(RefusalCode::Unsupported, "the FunctionCall message is not supported", "use a SELECT");
                Ok(Next::Continue)
            }
            b'X' => {
                self.down.take();
                self.closed = true;
                self.events.push_back(Event::Closed(Leg::Downstream));
                Ok(Next::Continue)
            }
            b'p' => Err(WireError::PeerMisbehaved(Leg::Downstream, "password message after authentication")),
            _ => Err(WireError::PeerMisbehaved(Leg::Downstream, "unknown message type")),
        }
    }

    /// Whether another command may be asked. What is gathered stays bounded by the length of one message times the
    /// messages of one unit, so the unit being gathered counts, too.
    fn has_room(&self) -> bool {
        let limits = &self.config.limits;
        self.asked.len() < limits.commands_in_flight_max
            && self.flight.len() < limits.commands_in_flight_max.saturating_mul(8)
            && self.held < limits.held_bytes_max
    }

    /// Moves the frame at hand into the unit being gathered.
    fn keep(&mut self) {
        let frame = self.down.take();
        self.unit.parts.add(&self.down, frame);
    }

    /// The same for a frame that the server will answer.
    fn keep_owed(&mut self, expect: Expect) {
        self.unit.expects.push_back(expect);
        self.keep();
    }

    fn query(&mut self) -> Result<Next, WireError> {
        self.finish_unit("prepare");
        if self.dirty_segment() && !self.pipeline_answered() {
            return Ok(Next::Wait);
        }
        let text = statement_text(self.down.body()).map(|text| self.down.slice_ref(text));
        self.keep();
        let segment = self.segment;
        self.segment += 1;
        self.unit.simple = true;
        self.unit.segment = segment;
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                self.refuse_here(RefusalCode::Malformed, why, "send UTF-8 text");
                return Ok(Next::Continue);
            }
        };
        self.unit.expects.push_back(Expect::Query { command: CommandId(0), segment });
        let statement = Statement { text, settings: self.settings.clone() };
        self.ask(Ask::Query(statement));
        Ok(Next::Continue)
    }

    /// Whether everything before is answered. A query that follows extended messages without a Sync ends their segment;
    /// an error among them would make the server skip it, so it is shown when there can be none any more.
    fn pipeline_answered(&mut self) -> bool {
        if self.asked.is_empty() && self.flight.is_empty() {
            return true;
        }
        self.ask_for_answers();
        false
    }

    /// The server may keep its answers to itself until it is asked for them; asks once behind each command.
    fn ask_for_answers(&mut self) {
        if self.asked.is_empty() && std::mem::replace(&mut self.flushed_at, self.last_command) != self.last_command {
            self.hasten();
        }
    }

    /// Whether extended messages of the current segment were asked before.
    fn dirty_segment(&self) -> bool {
        self.extended_in == self.segment
    }

    fn parse(&mut self) -> Result<Next, WireError> {
        if self.unit.parsed.is_some() {
            self.finish_unit("prepare");
        }
        if self.names.len() >= self.config.limits.statements_max {
            self.keep();
            self.refuse_here(RefusalCode::Limit, "too many prepared statements", "close some of them");
            return Ok(Next::Continue);
        }
        let mut cursor = Cursor::new(self.down.body());
        let (Ok(name), Ok(text)) = (cursor.string(), cursor.string()) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Parse"));
        };
        let Some((step, meaning)) = self.names.prepare(name, text, &self.settings, self.segment) else {
            self.keep();
            self.refuse_here(RefusalCode::Malformed, "the statement is not UTF-8", "send UTF-8 text");
            return Ok(Next::Continue);
        };
        if !meaning.name.is_empty() {
            self.unit.renames.push(meaning.name.clone());
        }
        self.unit.parsed = Some(meaning);
        self.keep_owed(Expect::Parse { step, ruled: false });
        Ok(Next::Continue)
    }

    fn bind(&mut self) -> Result<Next, WireError> {
        let mut cursor = Cursor::new(self.down.body());
        let (Ok(portal), Ok(name), rest) = (cursor.string(), cursor.string(), cursor.rest()) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Bind"));
        };
        let meaning = match self.names.statement(name, self.segment) {
            Lookup::Known(meaning) => meaning.clone(),
            Lookup::Unconfirmed => return Ok(Next::Wait),
            Lookup::Unknown => {
                self.finish_unit("prepare");
                self.keep();
                let why = "the prepared statement does not exist";
                self.refuse_here(RefusalCode::Malformed, why, "prepare it with a Parse message of this session");
                return Ok(Next::Continue);
            }
        };
        let count = parameter_count(rest);
        // Long parameters keep the read buffer; most are short and outlive it.
        let raw = if rest.len() <= SHORT { Bytes::copy_from_slice(rest) } else { self.down.slice_ref(rest) };
        let portal = Name::from(portal);
        if self.unit.parsed.as_ref().is_some_and(|parsed| parsed.name != meaning.name) || self.unit.bound.is_some() {
            self.finish_unit("prepare");
        }
        let Some(count) = count else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Bind"));
        };
        if self.names.len() >= self.config.limits.statements_max {
            self.keep();
            self.refuse_here(RefusalCode::Limit, "too many portals", "close some of them");
            return Ok(Next::Continue);
        }
        if self.unit.parsed.is_none() {
            self.unit.uses = Uses::Statement(meaning.name.clone());
        }
        let bind = Bind { raw, count, max_rows: 0, resumed: false };
        let step = self.names.bind(portal.clone(), meaning.clone(), bind, self.segment);
        self.unit.bound = Some((portal.clone(), meaning));
        self.keep_owed(Expect::Bind { step, portal, ruled: false });
        Ok(Next::Continue)
    }

    fn describe(&mut self) -> Result<Next, WireError> {
        let mut cursor = Cursor::new(self.down.body());
        let (Ok(kind), Ok(name)) = (cursor.byte(), cursor.string()) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Describe"));
        };
        let expect = match kind {
            b'S' => match self.names.statement(name, self.segment) {
                Lookup::Unconfirmed => return Ok(Next::Wait),
                _ => Expect::DescribeStatement { described: false },
            },
            b'P' => match self.names.portal(name, self.segment) {
                Lookup::Unconfirmed => return Ok(Next::Wait),
                Lookup::Known(portal) => {
                    portal.described = true;
                    Expect::DescribePortal { portal: name.into(), injected: false }
                }
                Lookup::Unknown => Expect::DescribePortal { portal: name.into(), injected: false },
            },
            _ => return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Describe")),
        };
        self.keep_owed(expect);
        Ok(Next::Continue)
    }

    fn execute(&mut self) -> Result<Next, WireError> {
        let mut cursor = Cursor::new(self.down.body());
        let (Ok(name), Ok(max_rows)) = (cursor.string(), cursor.int32()) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Execute"));
        };
        let describe = self.config.describe;
        let portal = match self.names.portal(name, self.segment) {
            Lookup::Known(portal) => portal,
            Lookup::Unconfirmed => return Ok(Next::Wait),
            Lookup::Unknown => {
                self.finish_unit("prepare");
                self.keep();
                let why = "the portal does not exist";
                self.refuse_here(RefusalCode::Malformed, why, "bind it with a Bind message of this transaction");
                return Ok(Next::Continue);
            }
        };
        let bind = Bind {
            raw: share(&portal.bind.raw),
            count: portal.bind.count,
            max_rows: u32::try_from(max_rows).unwrap_or(0),
            resumed: std::mem::replace(&mut portal.started, true),
        };
        let inject = describe && !std::mem::replace(&mut portal.described, true);
        let statement = portal.meaning.statement.clone();
        // A Parse that rides in this unit is ruled on as a part of it only if it is this very text, and a Bind only if it
        // made this very portal.
        let other_text = self.unit.parsed.as_ref().is_some_and(|parsed| !parsed.is_same_text(&portal.meaning));
        let other_portal = self.unit.bound.as_ref().is_some_and(|(bound, _)| *bound != *name);
        let portal = Name::from(name);
        if other_text || other_portal {
            self.finish_unit("prepare");
        }
        if inject {
            let describe = build(|out| frame::describe(out, b'P', portal.as_bytes()));
            self.unit.parts.add_own(&self.down, &describe);
            self.unit.expects.push_back(Expect::DescribePortal { portal: portal.clone(), injected: true });
        }
        if self.unit.bound.is_none() {
            self.unit.uses = Uses::Portal;
        }
        self.keep_owed(Expect::Execute { command: CommandId(0), portal });
        self.absorb_sync()?;
        let syncs = self.unit.syncs;
        self.ask(Ask::Execute(statement, bind));
        self.segment += u64::from(syncs);
        Ok(Next::Continue)
    }

    fn close_name(&mut self) -> Result<Next, WireError> {
        let mut cursor = Cursor::new(self.down.body());
        let (Ok(kind), Ok(name)) = (cursor.byte(), cursor.string()) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Close"));
        };
        let step = match kind {
            b'S' => {
                let name = Name::from(name);
                if !name.is_empty() {
                    self.unit.renames.push(name.clone());
                }
                self.names.close_statement(name, self.segment)
            }
            b'P' => self.names.close_portal(name.into(), self.segment),
            _ => return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Close")),
        };
        self.keep_owed(Expect::Close { step });
        Ok(Next::Continue)
    }

    fn sync(&mut self) -> Result<Next, WireError> {
        // Units of this segment that wait for their answers go first: their Sync must not overtake them.
        let waiting = self.asked.iter().any(|unit| !unit.simple && unit.segment == self.segment);
        if self.skipping == Some(self.segment) && !waiting {
            self.down.take();
            let segment = self.segment;
            self.segment += 1;
            self.drop_unit();
            self.sync_after_skip(true, segment);
            return Ok(Next::Continue);
        }
        self.keep();
        self.unit.syncs = true;
        self.finish_unit("sync");
        self.segment += 1;
        Ok(Next::Continue)
    }

    /// Takes a Sync or Flush that already lies behind an Execute into the same unit: one write, one command.
    fn absorb_sync(&mut self) -> Result<(), WireError> {
        let tag = match self.down.peek(Leg::Downstream, self.config.limits.message_bytes_max)? {
            Some(tag) => Some(tag),
            None => self.turn_client()?,
        };
        match tag {
            Some(b'H') => self.keep(),
            Some(b'S') => {
                self.keep();
                self.unit.syncs = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Data of a COPY that is running: as many frames as lie here, in one event.
    fn copy_in(&mut self, tag: u8, command: CommandId) -> Result<Next, WireError> {
        let max = self.config.limits.message_bytes_max;
        self.unit.parts.settle(&self.down);
        match tag {
            b'd' => {
                let (raw, frames) = self.down.take_run(Leg::Downstream, max)?;
                let bytes = raw.len().saturating_sub(frames as usize * frame::HEADER_BYTES) as u64;
                self.events.push_back(Event::Input(Input { command, bytes, raw, last: false }));
            }
            b'c' | b'f' => {
                let frame = self.down.take();
                let raw = self.down.slice_out(frame);
                self.copy = Copy::Ending;
                self.passing = true;
                self.events.push_back(Event::Input(Input { command, bytes: 0, raw, last: true }));
            }
            // The server ignores both while it takes data ("COPY Operations" in the manual).
            b'H' | b'S' => drop(self.down.take()),
            b'X' => {
                self.down.take();
                self.closed = true;
                self.events.push_back(Event::Closed(Leg::Downstream));
            }
            _ => return Err(WireError::PeerMisbehaved(Leg::Downstream, "message out of place in COPY")),
        }
        Ok(Next::Continue)
    }

    /// COPY data while no COPY is known to run: it waits if one may still start, and is dropped as the server would.
    fn stray_copy(&mut self) -> Result<Next, WireError> {
        if !self.asked.is_empty() || !self.flight.is_empty() {
            return Ok(Next::Wait);
        }
        self.down.take();
        Ok(Next::Continue)
    }

    /// Shows what is gathered as a command without an execution.
    fn finish_unit(&mut self, step: &'static str) {
        if self.unit.parts.is_empty() {
            return;
        }
        let ask = match self.unit.parsed.take() {
            Some(meaning) => Ask::Prepare(meaning.statement.clone()),
            None => Ask::Step(step),
        };
        self.unit.expects.push_back(Expect::End { command: CommandId(0) });
        self.ask(ask);
    }

    fn refuse_here(&mut self, code: RefusalCode, why: &str, hint: &str) {
        let refusal = Refusal::new(code, why, "").hint(hint);
        self.ask(Ask::Refused(refusal));
    }

    fn drop_unit(&mut self) {
        let unit = std::mem::take(&mut self.unit);
        self.fail_names(&unit.expects, unit.segment);
    }

    fn ask(&mut self, ask: Ask) {
        self.last_command += 1;
        let id = CommandId(self.last_command);
        self.unit.belong(id, &ask);
        let unit = &mut self.unit;
        let simple = std::mem::take(&mut unit.simple);
        let segment = std::mem::take(&mut unit.segment);
        let asked = Asked {
            id,
            segment: if simple { segment } else { self.segment },
            // The text of a query keeps the read buffer anyway.
            frames: unit.parts.finish(&mut self.down, simple),
            expects: std::mem::replace(&mut unit.expects, std::mem::take(&mut self.spare)),
            renames: std::mem::take(&mut unit.renames),
            uses: std::mem::take(&mut unit.uses),
            stale: std::mem::take(&mut unit.stale),
            simple,
            syncs: std::mem::take(&mut unit.syncs),
        };
        (unit.parsed, unit.bound) = (None, None);
        // A Flush alone begins no pipeline.
        if !simple && asked.owes() {
            self.extended_in = self.segment;
        }
        self.held += asked.frames.len();
        self.asked.push_back(asked);
        self.events.push_back(Event::Command(chancery_model::Command { id, ask }));
    }
}

impl Unit {
    /// Tells every frame which command it belongs to, and whether the ruling on that is a ruling on its statement.
    fn belong(&mut self, id: CommandId, ask: &Ask) {
        let text = match ask {
            Ask::Prepare(statement) | Ask::Execute(statement, _) => Some(&statement.text),
            Ask::Query(_) | Ask::Step(_) | Ask::Refused(_) => None,
        };
        let binds = self.bound.as_ref().is_some_and(|(_, bound)| text == Some(&bound.statement.text));
        for expect in &mut self.expects {
            match expect {
                Expect::Execute { command, .. } | Expect::Query { command, .. } | Expect::End { command } => {
                    *command = id;
                }
                // `prepare` and `execute` end a unit before it holds a Parse of another text.
                Expect::Parse { ruled, .. } => *ruled = text.is_some(),
                Expect::Bind { ruled, .. } => *ruled = binds,
                _ => {}
            }
        }
    }
}

/// The parameters once more. Short ones are copied: that takes less than sharing them.
fn share(raw: &Bytes) -> Bytes {
    if raw.len() <= SHORT { Bytes::copy_from_slice(raw) } else { raw.clone() }
}

/// The text of a Query message: UTF-8, one NUL, and that at the end.
fn statement_text(body: &[u8]) -> Result<&[u8], &'static str> {
    let text = body.strip_suffix(b"\0").ok_or("the query has no end")?;
    if memchr::memchr(0, text).is_some() {
        return Err("the query has a NUL inside");
    }
    std::str::from_utf8(text).map_err(|_| "the query is not UTF-8")?;
    Ok(text)
}

/// Walks the parameter section of a Bind and returns how many parameters it has, or `None` if it is not well formed.
fn parameter_count(raw: &[u8]) -> Option<u16> {
    let mut cursor = Cursor::new(raw);
    for _ in 0..cursor.count16().ok()? {
        cursor.int16().ok()?;
    }
    let count = cursor.count16().ok()?;
    for _ in 0..count {
        cursor.value().ok()?;
    }
    for _ in 0..cursor.count16().ok()? {
        cursor.int16().ok()?;
    }
    cursor.is_empty().then(|| u16::try_from(count).ok())?
}

/// The parameters of a Bind as text: text format as it stands, binary format as hexadecimal digits.
pub(super) fn readable_parameters(raw: &[u8]) -> Option<Vec<String>> {
    let mut cursor = Cursor::new(raw);
    let mut formats = Vec::new();
    for _ in 0..cursor.count16().ok()? {
        formats.push(cursor.int16().ok()?);
    }
    let count = cursor.count16().ok()?;
    let format_of = |at: usize| match formats.as_slice() {
        [] => 0,
        [all] => *all,
        each => each.get(at).copied().unwrap_or(1),
    };
    let mut texts = Vec::new();
    for at in 0..count {
        texts.push(match cursor.value().ok()? {
            None => "NULL".to_owned(),
            Some(value) if format_of(at) == 0 => format!("'{}'", String::from_utf8_lossy(value).escape_debug()),
            Some(value) => value.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
        });
    }
    Some(texts)
}
