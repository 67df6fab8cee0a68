//! The relay: between a client that logged in and a server that is ready.
//!
//! It cuts both byte streams into frames where they lie in the read buffer, gathers what the client asks into
//! commands, keeps the held frames until the session says forward or refuse, and pairs what the server says with what
//! was asked. It follows the "Message Flow" chapter of the PostgreSQL manual, protocol 3.0 and 3.2.
//!
//! Two invariants carry the safety of the rulings:
//! - *The statement that is ruled on is the statement that runs.* Names of statements and portals are resolved from
//!   the client's own stream; a name whose making the server has not confirmed is never used across a `Sync`
//!   (the server might have kept an older meaning), so the client's stream waits there.
//! - *A refusal fails like the server's own errors.* Inside a transaction or a pipeline the server is made to fail too,
//!   by a statement it cannot parse, so that nothing of the unit commits.

mod anatomy;
mod client;
mod columns;
mod inbox;
mod server;
mod tables;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chancery_model::{
    Bind, Columns, CommandId, Done, DoneStatus, Input, Output, OutputKind, Refusal, RefusalCode, Settings, Statement,
};
use chancery_wire::{Event, Forget, Informed, Leg, Limits, Relay, WireError, take_next};

use crate::{Severity, frame, notice, refuse};
pub use anatomy::PgAnatomy;
use columns::Descriptions;
use inbox::{Held, Inbox, Pieces, Run};
use tables::{Meaning, Name, Names, Table};

/// Text that no PostgreSQL grammar accepts; makes the server fail as a refused command must.
const POISON: &str = "chancery_refused";

/// A list of expectations longer than this is not kept for the next unit.
const SPARE: usize = 16;

/// How a relay is set up.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Bounds.
    pub limits: Limits,
    /// Ask the server for the columns of every execution, because a mask needs to know them.
    pub describe: bool,
    /// Transaction status of the fresh session (`I`).
    pub status: u8,
    /// How the name begins that the session has at the server, where the client is not to see it, and what the client called
    /// itself: `RESET` and `DISCARD ALL` report the former.
    pub renamed: Option<(String, String)>,
}

/// The PostgreSQL relay.
pub struct PgRelay {
    config: RelayConfig,
    settings: Arc<Settings>,
    down: Inbox,
    up: Inbox,
    events: VecDeque<Event>,
    to_client: VecDeque<Bytes>,
    to_server: VecDeque<Bytes>,
    names: Names,
    /// Columns of portals as the server described them since it bound them: in the server's order, while `names` runs
    /// ahead of it.
    described: Table<Arc<Columns>>,
    /// Descriptions that the server gave last.
    descriptions: Descriptions,
    /// The unit being gathered from the client.
    unit: Unit,
    /// Units shown to the session and not answered yet, in order.
    asked: VecDeque<Asked>,
    /// What the server owes, in order, with refusals standing in their place.
    flight: VecDeque<Expect>,
    /// What the execution at the head of `flight` has shown.
    seen: Seen,
    /// The SQLSTATE with which the query at the head of `flight` failed.
    failed: Option<String>,
    /// An empty list for the next unit, so that not each allocates one.
    spare: VecDeque<Expect>,
    last_command: u64,
    /// Counts `Sync` and `Query` messages seen from the client.
    segment: u64,
    /// The client's segment in which a command was refused; the rest of it is skipped.
    skipping: Option<u64>,
    /// Whether frames of the current upstream segment were sent and no ReadyForQuery answers them yet.
    dirty: bool,
    /// Last transaction status told by the server.
    status: u8,
    /// Held bytes, for the bound.
    held: usize,
    copy: Copy,
    /// The end of the client's COPY data was shown and not passed yet: what follows must not overtake it.
    passing: bool,
    /// A completion kept until it is known whether it is the last one of a simple query.
    completion: Option<Kept>,
    /// Frames without values, gathered into one output: those copied, and behind them those that still lie in `up`.
    short: Vec<u8>,
    short_run: Run,
    short_of: CommandId,
    /// The client's segment in which an extended unit was asked last.
    extended_in: u64,
    /// The last command behind which the server was asked for its answers, because a query waits for them.
    flushed_at: u64,
    /// The client's stream waits for the server (see the module's invariant).
    waiting: bool,
    closed: bool,
}

/// State of the COPY sub-protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copy {
    None,
    In {
        command: CommandId,
    },
    /// The client ended its data; the server has not answered yet.
    Ending,
    Out {
        binary: bool,
    },
}

/// Frames being gathered into one command.
#[derive(Debug, Default)]
struct Unit {
    segment: u64,
    parts: Pieces,
    expects: VecDeque<Expect>,
    simple: bool,
    syncs: bool,
    /// The statement that a Parse of this unit makes, and its name. Kept here because the tables can take it back while
    /// the unit is gathered, and it is these bytes that are ruled on.
    parsed: Option<Arc<Meaning>>,
    /// Names of statements that its frames make or drop, without the unnamed one, which SQL cannot name.
    renames: Vec<Name>,
    /// The portal that a Bind of this unit makes, and what it binds.
    bound: Option<(Name, Arc<Meaning>)>,
    /// Which name it relies on that another command could change.
    uses: Uses,
    /// That name changed after the unit was read.
    stale: bool,
}

/// A unit that was shown as a command and is held until that is answered.
#[derive(Debug)]
struct Asked {
    id: CommandId,
    segment: u64,
    frames: Held,
    expects: VecDeque<Expect>,
    renames: Vec<Name>,
    uses: Uses,
    stale: bool,
    simple: bool,
    syncs: bool,
}

/// A name from outside that a unit relies on.
#[derive(Debug, Default, PartialEq, Eq)]
enum Uses {
    #[default]
    Nothing,
    Statement(Name),
    Portal,
}

/// One thing that the server owes, or that stands in its place.
#[derive(Debug)]
enum Expect {
    Parse {
        step: u64,
        /// It is the statement that its unit was ruled on as; see `PgRelay::blamed`.
        ruled: bool,
    },
    Bind {
        step: u64,
        portal: Name,
        /// The same for the statement that it binds.
        ruled: bool,
    },
    Close {
        step: u64,
    },
    DescribeStatement {
        described: bool,
    },
    DescribePortal {
        portal: Name,
        injected: bool,
    },
    Execute {
        command: CommandId,
        portal: Name,
    },
    /// The last expectation of a unit that only prepares or steps: its end is the command's end.
    End {
        command: CommandId,
    },
    Sync {
        segment: u64,
    },
    Query {
        command: CommandId,
        segment: u64,
    },
    /// A refusal to be told when everything before it was answered.
    Refused {
        error: Box<Bytes>,
    },
    /// The same, and the server will fail on our poison at this place.
    Poison {
        error: Box<Bytes>,
    },
    /// The same for a simple query; the server's ReadyForQuery follows. The error is told once.
    PoisonQuery {
        error: Option<Box<Bytes>>,
        segment: u64,
    },
    /// A ReadyForQuery that the server does not owe.
    Ready {
        segment: u64,
    },
}

/// What an execution has shown so far.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    columns: bool,
    rows: u64,
    bytes: u64,
}

/// A frame of the server's that is kept for later.
enum Kept {
    /// It lies in the chunk being read.
    Lying(Run),
    Copied(Vec<u8>),
}

impl PgRelay {
    /// A relay for a session whose handshakes are over. `client` and `server` are the bytes that arrived behind them.
    pub fn new(config: RelayConfig, client: BytesMut, server: BytesMut) -> Result<Self, WireError> {
        let status = config.status;
        let mut relay = Self {
            settings: Arc::default(),
            down: Inbox::default(),
            up: Inbox::default(),
            events: VecDeque::new(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            names: Names::default(),
            described: Table::default(),
            descriptions: Descriptions::default(),
            unit: Unit::default(),
            asked: VecDeque::new(),
            flight: VecDeque::new(),
            seen: Seen::default(),
            failed: None,
            spare: VecDeque::new(),
            last_command: 0,
            segment: 1,
            skipping: None,
            dirty: false,
            status,
            held: 0,
            copy: Copy::None,
            passing: false,
            completion: None,
            short: Vec::new(),
            short_run: Run::default(),
            short_of: CommandId(0),
            extended_in: 0,
            flushed_at: 0,
            waiting: false,
            closed: false,
            config,
        };
        if !server.is_empty() {
            relay.receive(Leg::Upstream, server.freeze())?;
        }
        if !client.is_empty() {
            relay.receive(Leg::Downstream, client.freeze())?;
        }
        Ok(relay)
    }

    fn output(&mut self, command: CommandId, kind: OutputKind, bytes: Bytes, rows: u32) {
        self.flush_short();
        self.events.push_back(Event::Output(Output { command, kind, bytes, rows }));
    }

    /// Frames without values: they are gathered until something else has to be said.
    fn status(&mut self, command: CommandId, frame: Run) {
        if self.short_of != command {
            self.flush_short();
            self.short_of = command;
        }
        if !self.short_run.extend(frame) {
            self.settle_short();
            self.short_run = frame;
        }
    }

    /// The same for frames that do not lie in the chunk being read.
    fn status_copied(&mut self, command: CommandId, frame: &[u8]) {
        if self.short_of != command {
            self.flush_short();
            self.short_of = command;
        }
        self.settle_short();
        self.short.extend_from_slice(frame);
    }

    /// Lets go of the chunk being read.
    fn settle_short(&mut self) {
        if self.short_run.is_empty() {
            return;
        }
        self.short.extend_from_slice(self.up.bytes(std::mem::take(&mut self.short_run)));
    }

    #[inline]
    fn has_short(&self) -> bool {
        !self.short.is_empty() || !self.short_run.is_empty()
    }

    #[inline]
    fn flush_short(&mut self) {
        if self.has_short() {
            self.tell_short();
        }
    }

    fn tell_short(&mut self) {
        let bytes = if self.short.is_empty() {
            let run = std::mem::take(&mut self.short_run);
            bare(self.up.bytes(run)).unwrap_or_else(|| self.up.slice_out(run))
        } else {
            self.settle_short();
            std::mem::take(&mut self.short).into()
        };
        let command = self.short_of;
        self.events.push_back(Event::Output(Output { command, kind: OutputKind::Status, bytes, rows: 0 }));
    }

    fn done(&mut self, command: CommandId, status: DoneStatus, seen: Seen) {
        self.flush_short();
        self.events.push_back(Event::Done(Done { command, status, rows: seen.rows, bytes: seen.bytes }));
    }

    fn say(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.to_client.push_back(bytes);
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.to_server.push_back(bytes);
        }
    }

    /// Takes the unit that the session answers now. Answers come in the order of asking.
    fn take_asked(&mut self, command: CommandId) -> Option<Asked> {
        match self.asked.front() {
            Some(unit) if unit.id == command => {
                let unit = take_next(&mut self.asked)?;
                self.held = self.held.saturating_sub(unit.frames.len());
                Some(unit)
            }
            _ => None,
        }
    }

    /// Answers what needs no server any more: refusals and ends at the head of the queue.
    fn settle(&mut self) {
        while let Some(Expect::Refused { .. } | Expect::Ready { .. } | Expect::End { .. }) = self.flight.front() {
            match self.flight.pop_front() {
                Some(Expect::Refused { error }) => self.output(CommandId(0), OutputKind::Own, *error, 0),
                Some(Expect::Ready { segment }) => {
                    self.names.confirm(segment, self.status != b'I');
                    let status = self.status;
                    self.status_copied(CommandId(0), &build(|out| frame::ready_for_query(out, status)));
                }
                Some(Expect::End { command }) => self.done(command, DoneStatus::Completed, Seen::default()),
                _ => {}
            }
        }
        self.flush_short();
    }

    /// Takes back the names that a unit's frames would have made, because the server will not see or not obey them.
    fn fail_names(&mut self, expects: &VecDeque<Expect>, segment: u64) {
        if let Some(step) = expects.iter().find_map(Expect::step) {
            self.names.fail(segment, step);
        }
    }

    /// Answers a unit with an error instead of sending it.
    fn turn_down(&mut self, unit: Asked, refusal: &Refusal) {
        self.fail_names(&unit.expects, unit.segment);
        let error = Box::new(build(|out| refuse(out, refusal, Severity::Error)));
        // Outside a transaction, with nothing owed, the server need not hear of it.
        let quiet = self.flight.is_empty() && !self.dirty && self.status == b'I';
        if unit.simple {
            if quiet {
                self.flight.push_back(Expect::Refused { error });
                self.flight.push_back(Expect::Ready { segment: unit.segment });
            } else {
                self.send(build(|out| frame::query(out, POISON)));
                self.flight.push_back(Expect::PoisonQuery { error: Some(error), segment: unit.segment });
            }
            self.settle();
            return;
        }
        if quiet {
            self.flight.push_back(Expect::Refused { error });
        } else {
            self.send(build(|out| frame::parse(out, "", POISON)));
            self.flight.push_back(Expect::Poison { error });
            self.dirty = true;
        }
        self.skipping = Some(unit.segment);
        self.settle();
        self.sync_after_skip(unit.syncs, unit.segment);
    }

    /// Skips a unit of a segment that was refused, as the server skips to Sync after an error.
    fn skip(&mut self, unit: Asked) {
        self.fail_names(&unit.expects, unit.segment);
        self.done(unit.id, DoneStatus::Skipped, Seen::default());
        self.sync_after_skip(unit.syncs, unit.segment);
    }

    fn sync_after_skip(&mut self, syncs: bool, segment: u64) {
        if !syncs {
            return;
        }
        if self.dirty {
            self.send(build(frame::sync));
            self.flight.push_back(Expect::Sync { segment });
        } else {
            self.flight.push_back(Expect::Ready { segment });
        }
        self.dirty = false;
        self.settle();
    }
}

impl Asked {
    /// Whether the server answers any of its frames other than a Sync.
    fn owes(&self) -> bool {
        self.expects.iter().any(|expect| !matches!(expect, Expect::End { .. }))
    }
}

impl Uses {
    /// Whether a change of names changes what it relies on.
    fn is_changed(&self, names: Forget<'_>) -> bool {
        match (names, self) {
            (_, Self::Nothing) => false,
            (Forget::All, _) | (Forget::Portals, Self::Portal) => true,
            (Forget::Statement(name), Self::Statement(used)) => *used == *name.as_bytes(),
            _ => false,
        }
    }
}

impl Expect {
    /// The journal step of a frame that makes or drops a name.
    fn step(&self) -> Option<u64> {
        match self {
            Self::Parse { step, .. } | Self::Bind { step, .. } | Self::Close { step } => Some(*step),
            _ => None,
        }
    }
}

/// The commonest answers have nothing in them that differs: they need no read buffer to lie in.
fn bare(frames: &[u8]) -> Option<Bytes> {
    match frames {
        b"2\0\0\0\x04" => Some(Bytes::from_static(b"2\0\0\0\x04")),
        b"1\0\0\0\x04" => Some(Bytes::from_static(b"1\0\0\0\x04")),
        b"1\0\0\0\x042\0\0\0\x04" => Some(Bytes::from_static(b"1\0\0\0\x042\0\0\0\x04")),
        _ => None,
    }
}

/// Bytes of our own making.
fn build(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

impl Relay for PgRelay {
    type Unit = Bytes;

    fn receive(&mut self, leg: Leg, unit: Bytes) -> Result<(), WireError> {
        match leg {
            Leg::Downstream => {
                self.down.push(unit);
                self.read_client()
            }
            Leg::Upstream => {
                self.up.push(unit);
                self.read_server()?;
                self.read_client()
            }
        }
    }

    fn poll(&mut self) -> Option<Event> {
        take_next(&mut self.events)
    }

    fn forward(&mut self, command: CommandId) {
        let Some(unit) = self.take_asked(command) else { return };
        if self.skipping == Some(unit.segment) {
            self.skip(unit);
            return;
        }
        if unit.stale {
            let refusal = Refusal::new(RefusalCode::Malformed, "a name it uses was changed by a command before it", "")
                .hint("prepare and bind it again");
            self.done(unit.id, DoneStatus::Failed("26000".to_owned()), Seen::default());
            self.turn_down(unit, &refusal);
            return;
        }
        // A server that takes data ignores a Sync. It arrives there in front of the end of the data.
        let syncs = unit.syncs && !self.passing && !matches!(self.copy, Copy::In { .. });
        self.dirty = !syncs && !unit.simple && (self.dirty || unit.owes());
        let segment = unit.segment;
        unit.frames.send(|piece| self.send(piece));
        let mut expects = unit.expects;
        if self.flight.is_empty() {
            std::mem::swap(&mut self.flight, &mut expects);
        } else {
            self.flight.append(&mut expects);
        }
        if expects.capacity() <= SPARE && expects.capacity() > self.spare.capacity() {
            self.spare = expects;
        }
        if syncs {
            self.flight.push_back(Expect::Sync { segment });
        }
        // A unit for which the server owes nothing, when nothing is owed before it: no answer will end it.
        self.settle();
    }

    fn refuse(&mut self, command: CommandId, refusal: &Refusal) {
        let Some(unit) = self.take_asked(command) else { return };
        if self.skipping == Some(unit.segment) {
            self.skip(unit);
            return;
        }
        self.turn_down(unit, refusal);
    }

    fn pass(&mut self, input: Input) {
        self.passing &= !input.last;
        // After an error of the server's there is no COPY to feed any more.
        let running = match self.copy {
            Copy::In { command } => command == input.command,
            Copy::Ending => true,
            Copy::None | Copy::Out { .. } => false,
        };
        if running {
            self.send(input.raw);
        }
    }

    fn inform(&mut self, _command: CommandId, text: &str) -> Informed {
        self.say(build(|out| notice(out, text)));
        Informed::Said
    }

    fn release(&mut self, output: Output) {
        self.say(output.bytes);
    }

    fn forget(&mut self, names: Forget<'_>) {
        self.names.forget(names);
        // Units that were read before used the older meaning; the server would use the newer.
        for unit in &mut self.asked {
            unit.stale |= unit.uses.is_changed(names);
        }
        self.unit.stale |= self.unit.uses.is_changed(names);
    }

    fn define(&mut self, name: &str, statement: &Statement) {
        // What was read before this is known and is not answered yet, reaches the server behind it.
        let mut renames = self.asked.iter().flat_map(|unit| &unit.renames).chain(&self.unit.renames);
        // An empty name is none in SQL.
        if !name.is_empty() && !renames.any(|other| *other == *name.as_bytes()) {
            let text = Bytes::copy_from_slice(&statement.text);
            let statement = Statement { text, settings: statement.settings.clone() };
            self.names.define(name, statement, self.config.limits.statements_max);
        }
    }

    fn defined(&self, name: &str) -> Option<&Statement> {
        self.names.defined(name)
    }

    fn resume(&mut self) -> Result<(), WireError> {
        self.read_client()
    }

    fn hasten(&mut self) {
        // A server keeps the answers of a pipeline to itself until Flush or Sync.
        if self.dirty && !matches!(self.copy, Copy::In { .. }) {
            self.send(build(frame::flush));
        }
    }

    fn parameters(&self, bind: &Bind) -> Vec<String> {
        client::readable_parameters(&bind.raw).unwrap_or_default()
    }

    fn close(&mut self, refusal: &Refusal) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.say(build(|out| refuse(out, refusal, Severity::Fatal)));
        self.send(build(frame::terminate));
    }

    fn transmit(&mut self) -> Option<(Leg, Bytes)> {
        if let Some(bytes) = take_next(&mut self.to_server) {
            return Some((Leg::Upstream, bytes));
        }
        take_next(&mut self.to_client).map(|bytes| (Leg::Downstream, bytes))
    }

    fn in_transaction(&self) -> bool {
        // A pipeline is a transaction up to its Sync.
        self.status != b'I' || self.dirty
    }

    fn is_settled(&self) -> bool {
        !self.in_transaction() && self.flight.is_empty()
    }

    fn wants(&self, leg: Leg) -> bool {
        match leg {
            Leg::Downstream => {
                !self.closed
                    && !self.waiting
                    && self.asked.len() < self.config.limits.commands_in_flight_max
                    && self.flight.len() < self.config.limits.commands_in_flight_max.saturating_mul(8)
                    && self.held < self.config.limits.held_bytes_max
            }
            Leg::Upstream => !self.closed && self.events.len() < 1024,
        }
    }
}
