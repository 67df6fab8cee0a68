//! What the client sends: frames gathered into commands.

use bytes::Bytes;
use chancery_model::{Ask, Bind, CommandId, Input, Refusal, RefusalCode, Statement};
use chancery_wire::{Event, Leg, Relay, WireError};

use super::inbox::Frame;
use super::tables::Lookup;
use super::{Copy, Expect, PgRelay, Seen, Uses, build};
use crate::frame::{self, Cursor};

/// What to do with the client's stream after a frame.
enum Next {
    Continue,
    /// The frame must wait until the server has answered what it depends on; it stays in the inbox.
    Wait,
}

impl PgRelay {
    /// Reads as many of the client's frames as may be read now.
    pub(super) fn read_client(&mut self) -> Result<(), WireError> {
        self.waiting = false;
        while !self.closed {
            if !self.has_room() {
                self.ask_for_answers();
                return Ok(());
            }
            let max = self.config.limits.message_bytes_max;
            let Some(tag) = self.down.peek(Leg::Downstream, max)? else { return Ok(()) };
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
                self.keep(None);
                self.finish_unit("flush");
                Ok(Next::Continue)
            }
            b'S' => self.sync(),
            b'd' | b'c' | b'f' => self.stray_copy(),
            b'F' => {
                self.finish_unit("prepare");
                self.keep(None);
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
    fn keep(&mut self, expect: Option<Expect>) -> Option<Frame> {
        let frame = self.down.take()?;
        self.unit.parts.add(frame.bytes.clone());
        self.unit.expects.extend(expect);
        Some(frame)
    }

    fn query(&mut self) -> Result<Next, WireError> {
        self.finish_unit("prepare");
        if self.dirty_segment() && !self.pipeline_answered() {
            return Ok(Next::Wait);
        }
        let Some(frame) = self.keep(None) else { return Ok(Next::Continue) };
        let segment = self.segment;
        self.segment += 1;
        self.unit.simple = true;
        self.unit.segment = segment;
        let text = match statement_text(&frame.body()) {
            Ok(text) => text,
            Err(why) => {
                self.refuse_here(RefusalCode::Malformed, why, "send UTF-8 text");
                return Ok(Next::Continue);
            }
        };
        let seen = Seen::default();
        self.unit.expects.push(Expect::Query { command: CommandId(0), seen, failed: None, segment });
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
            self.keep(None);
            self.refuse_here(RefusalCode::Limit, "too many prepared statements", "close some of them");
            return Ok(Next::Continue);
        }
        let Some(frame) = self.keep(None) else { return Ok(Next::Continue) };
        let body = frame.body();
        let mut cursor = Cursor::new(&body);
        let parts = cursor.string().and_then(|name| Ok((name, cursor.string()?)));
        let Ok((name, text)) = parts else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Parse"));
        };
        let name = own_slice(name);
        let text = own_slice(text);
        if std::str::from_utf8(&text).is_err() {
            self.refuse_here(RefusalCode::Malformed, "the statement is not UTF-8", "send UTF-8 text");
            return Ok(Next::Continue);
        }
        let statement = Statement { text, settings: self.settings.clone() };
        let step = self.names.prepare(name.clone(), statement.clone(), self.segment);
        self.unit.renames.push(name.clone());
        self.unit.expects.push(Expect::Parse { step, ruled: false });
        self.unit.parsed = Some((name, statement));
        Ok(Next::Continue)
    }

    fn bind(&mut self) -> Result<Next, WireError> {
        let Some(body) = self.peek_body() else { return Ok(Next::Continue) };
        let mut cursor = Cursor::new(&body);
        let parts = cursor.string().and_then(|portal| Ok((portal, cursor.string()?, cursor.rest())));
        let Ok((portal, name, rest)) = parts else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Bind"));
        };
        let (portal, name) = (own_slice(portal), own_slice(name));
        let raw = if rest.len() <= 1024 { own_slice(rest) } else { body.slice_ref(rest) };
        let statement = match self.names.statement(&name, self.segment) {
            Lookup::Known(statement) => statement,
            Lookup::Unconfirmed => return Ok(Next::Wait),
            Lookup::Unknown => {
                self.finish_unit("prepare");
                self.keep(None);
                let why = "the prepared statement does not exist";
                self.refuse_here(RefusalCode::Malformed, why, "prepare it with a Parse message of this session");
                return Ok(Next::Continue);
            }
        };
        if self.unit.parsed.as_ref().is_some_and(|(parsed, _)| *parsed != name) || self.unit.bound.is_some() {
            self.finish_unit("prepare");
        }
        let Some(count) = parameter_count(&raw) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Bind"));
        };
        if self.names.len() >= self.config.limits.statements_max {
            self.keep(None);
            self.refuse_here(RefusalCode::Limit, "too many portals", "close some of them");
            return Ok(Next::Continue);
        }
        self.keep(None);
        let bind = Bind { raw, count, max_rows: 0, resumed: false };
        let text = statement.text.clone();
        let step = self.names.bind(portal.clone(), statement, bind, self.segment);
        self.unit.expects.push(Expect::Bind { step, portal: portal.clone(), ruled: false });
        self.unit.bound = Some((portal, text));
        if self.unit.parsed.is_none() {
            self.unit.uses = Uses::Statement(name);
        }
        Ok(Next::Continue)
    }

    fn describe(&mut self) -> Result<Next, WireError> {
        let Some(body) = self.peek_body() else { return Ok(Next::Continue) };
        let mut cursor = Cursor::new(&body);
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
                    Expect::DescribePortal { portal: own_slice(name), injected: false }
                }
                Lookup::Unknown => Expect::DescribePortal { portal: own_slice(name), injected: false },
            },
            _ => return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Describe")),
        };
        self.keep(Some(expect));
        Ok(Next::Continue)
    }

    fn execute(&mut self) -> Result<Next, WireError> {
        let Some(body) = self.peek_body() else { return Ok(Next::Continue) };
        let mut cursor = Cursor::new(&body);
        let (Ok(name), Ok(max_rows)) = (cursor.string(), cursor.int32()) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Execute"));
        };
        let describe = self.config.describe;
        let portal = match self.names.portal(name, self.segment) {
            Lookup::Known(portal) => portal,
            Lookup::Unconfirmed => return Ok(Next::Wait),
            Lookup::Unknown => {
                self.finish_unit("prepare");
                self.keep(None);
                let why = "the portal does not exist";
                self.refuse_here(RefusalCode::Malformed, why, "bind it with a Bind message of this transaction");
                return Ok(Next::Continue);
            }
        };
        let mut bind = portal.bind.clone();
        bind.max_rows = u32::try_from(max_rows).unwrap_or(0);
        bind.resumed = std::mem::replace(&mut portal.started, true);
        let inject = describe && !std::mem::replace(&mut portal.described, true);
        let statement = portal.statement.clone();
        // A Parse that rides in this unit is ruled on as a part of it only if it is this very text, and a Bind only if it
        // made this very portal.
        let other_text = self.unit.parsed.as_ref().is_some_and(|(_, parsed)| parsed.text != statement.text);
        if other_text || self.unit.bound.as_ref().is_some_and(|(bound, _)| bound != name) {
            self.finish_unit("prepare");
        }
        let portal = own_slice(name);
        if inject {
            self.unit.parts.add(build(|out| frame::describe(out, b'P', &portal)));
            self.unit.expects.push(Expect::DescribePortal { portal: portal.clone(), injected: true });
        }
        if self.unit.bound.is_none() {
            self.unit.uses = Uses::Portal;
        }
        let seen = Seen::default();
        self.keep(Some(Expect::Execute { command: CommandId(0), portal, seen }));
        self.absorb_sync()?;
        let syncs = self.unit.syncs;
        self.ask(Ask::Execute(statement, bind));
        self.segment += u64::from(syncs);
        Ok(Next::Continue)
    }

    fn close_name(&mut self) -> Result<Next, WireError> {
        let Some(body) = self.peek_body() else { return Ok(Next::Continue) };
        let mut cursor = Cursor::new(&body);
        let (Ok(kind), Ok(name)) = (cursor.byte(), cursor.string()) else {
            return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Close"));
        };
        let step = match kind {
            b'S' => {
                let name = own_slice(name);
                self.unit.renames.push(name.clone());
                self.names.close_statement(name, self.segment)
            }
            b'P' => self.names.close_portal(own_slice(name), self.segment),
            _ => return Err(WireError::PeerMisbehaved(Leg::Downstream, "malformed Close")),
        };
        self.keep(Some(Expect::Close { step }));
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
        self.keep(None);
        self.unit.syncs = true;
        self.finish_unit("sync");
        self.segment += 1;
        Ok(Next::Continue)
    }

    /// Takes a Sync or Flush that already lies behind an Execute into the same unit: one write, one command.
    fn absorb_sync(&mut self) -> Result<(), WireError> {
        match self.down.peek(Leg::Downstream, self.config.limits.message_bytes_max)? {
            Some(b'H') => drop(self.keep(None)),
            Some(b'S') => {
                self.keep(None);
                self.unit.syncs = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Data of a COPY that is running: as many frames as lie here, in one event.
    fn copy_in(&mut self, tag: u8, command: CommandId) -> Result<Next, WireError> {
        let max = self.config.limits.message_bytes_max;
        match tag {
            b'd' => {
                let (raw, frames) = self.down.take_run(Leg::Downstream, max)?;
                let bytes = raw.len().saturating_sub(frames as usize * frame::HEADER_BYTES) as u64;
                self.events.push_back(Event::Input(Input { command, bytes, raw, last: false }));
            }
            b'c' | b'f' => {
                if let Some(frame) = self.down.take() {
                    self.copy = Copy::Ending;
                    self.passing = true;
                    self.events.push_back(Event::Input(Input { command, bytes: 0, raw: frame.bytes, last: true }));
                }
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

    fn peek_body(&mut self) -> Option<Bytes> {
        self.down.peek_frame().map(|frame| frame.slice(frame::HEADER_BYTES.min(frame.len())..))
    }

    /// Shows what is gathered as a command without an execution.
    fn finish_unit(&mut self, step: &'static str) {
        if self.unit.parts.is_empty() {
            return;
        }
        let ask = match self.unit.parsed.take() {
            Some((_, statement)) => Ask::Prepare(statement),
            None => Ask::Step(step),
        };
        self.unit.expects.push(Expect::End { command: CommandId(0) });
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
        let mut unit = std::mem::take(&mut self.unit);
        self.last_command += 1;
        let id = CommandId(self.last_command);
        unit.id = id;
        if !unit.simple {
            unit.segment = self.segment;
            // A Flush alone begins no pipeline.
            if unit.owes() {
                self.extended_in = self.segment;
            }
        }
        unit.belong(id, &ask);
        self.held += unit.parts.len();
        self.asked.push_back(unit);
        self.events.push_back(Event::Command(chancery_model::Command { id, ask }));
    }
}

/// A copy: names and statements outlive the read buffer by far, and must not keep it.
fn own_slice(name: &[u8]) -> Bytes {
    if name.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(name) }
}

/// The text of a Query message: UTF-8, one NUL, and that at the end.
fn statement_text(body: &Bytes) -> Result<Bytes, &'static str> {
    let text = body.strip_suffix(b"\0").ok_or("the query has no end")?;
    if memchr::memchr(0, text).is_some() {
        return Err("the query has a NUL inside");
    }
    std::str::from_utf8(text).map_err(|_| "the query is not UTF-8")?;
    Ok(body.slice_ref(text))
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
