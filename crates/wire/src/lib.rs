//! What a protocol is to the house: two handshake machines and a relay between them.
//!
//! A wire crate reads and writes one protocol. It has no sockets, no clock and no opinion: it turns bytes into
//! [`Event`]s and does what it is told with them. This crate knows nothing of rules, masks, ledgers or files.

use std::collections::VecDeque;

use chancery_model::{Anatomy, Bind, Command, CommandId, Done, Input, Output, Refusal, Statement};

/// One of the two legs of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leg {
    /// The client's side.
    Downstream,
    /// The resource's side.
    Upstream,
}

/// What a relay has to say.
#[derive(Clone, Debug)]
pub enum Event {
    /// The client asks something. Must be answered by `forward` or `refuse`, in the order of asking.
    Command(Command),
    /// More data of a command that was forwarded. Must be answered by `pass`.
    Input(Input),
    /// The resource says something. Must be answered by `release` or `withhold`, in order.
    Output(Output),
    /// A forwarded command ended. Comes before the output that tells the client so.
    Done(Done),
    /// A leg said goodbye in the protocol's own words.
    Closed(Leg),
}

/// Names whose meaning changed behind the protocol's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget<'a> {
    /// One prepared statement (SQL `PREPARE`, `DEALLOCATE`).
    Statement(&'a str),
    /// All portals (SQL `DECLARE`, `CLOSE`).
    Portals,
    /// What [`Relay::define`] was told (code that nobody can read ran, and could change any of it).
    Defined,
    /// Everything (SQL `DEALLOCATE ALL`, `DISCARD`).
    All,
}

/// Whether a protocol could tell the client something in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Informed {
    /// It was said.
    Said,
    /// The protocol has no words for it at this point.
    NoWayToSay,
}

/// The relay of one session: sans-I/O, deterministic.
///
/// The driver feeds units and drains `poll` and `transmit` after each call. Held units stay inside; what is forwarded
/// are those very bytes, never a re-encoding.
pub trait Relay: Anatomy {
    /// What the driver hands over: bytes, a channel message, an HTTP head or chunk.
    type Unit;
    /// Takes what a leg sent. An error ends the session; `poll` may still hold events from before it.
    fn receive(&mut self, leg: Leg, unit: Self::Unit) -> Result<(), WireError>;
    /// The next event, if any.
    fn poll(&mut self) -> Option<Event>;
    /// Sends the held units of a command to the resource. Called by the session for a recorded permit only.
    fn forward(&mut self, command: CommandId);
    /// Answers a command in the protocol's own words instead of forwarding it.
    fn refuse(&mut self, command: CommandId, refusal: &Refusal);
    /// Sends a piece of a running command's input to the resource.
    fn pass(&mut self, input: Input);
    /// Says something to the client while a command is held.
    fn inform(&mut self, command: CommandId, text: &str) -> Informed;
    /// Sends an output to the client. Called by the session for a recorded, masked output only.
    fn release(&mut self, output: Output);
    /// Forgets what names mean, because a forwarded command changed it by other means than the protocol's own.
    /// Protocols without such names have nothing to forget.
    fn forget(&mut self, _names: Forget<'_>) {}
    /// Notes that a command gave a name to a statement by other means than the protocol's own, and ended well. Called
    /// before anything behind that command is answered; `statement` is the text that was ruled on.
    fn define(&mut self, _name: &str, _statement: &Statement) {}
    /// The statement whose text gave the name its meaning, if it is certain that it still has that meaning for a command
    /// that is answered next.
    fn defined(&self, _name: &str) -> Option<&Statement> {
        None
    }
    /// Goes on reading what it was given before: answering a command can make room for the next. Must be called after
    /// commands were answered, until `poll` has nothing more.
    fn resume(&mut self) -> Result<(), WireError> {
        Ok(())
    }
    /// Asks the resource to answer what it was sent so far, because what follows waits for those answers.
    /// Protocols whose answers never wait have nothing to ask.
    fn hasten(&mut self) {}
    /// The parameters of an execution as text that a reviewer can read, in order.
    fn parameters(&self, _bind: &Bind) -> Vec<String> {
        Vec::new()
    }
    /// Ends the session from our side with a reason in the protocol's own words.
    fn close(&mut self, refusal: &Refusal);
    /// Bytes to write, oldest first for each leg.
    fn transmit(&mut self) -> Option<(Leg, Self::Unit)>;
    /// Whether the resource holds changes that are not final yet (an open transaction).
    fn in_transaction(&self) -> bool {
        false
    }
    /// Whether everything is answered and final: no transaction is open, explicit or implicit.
    fn is_settled(&self) -> bool {
        !self.in_transaction()
    }
    /// False: the driver stops reading that leg.
    fn wants(&self, leg: Leg) -> bool;
}

/// Takes the next of a queue. One that is empty then begins again at the start of its memory, which the cache still has;
/// a ring would go on to memory that it has not.
pub fn take_next<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let next = queue.pop_front();
    if queue.is_empty() {
        queue.clear();
    }
    next
}

/// Bounds that every wire crate obeys. Reaching one is a [`WireError::LimitReached`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// One message before authentication: a start-up packet or a password. Small, because anybody can send it.
    pub handshake_bytes_max: usize,
    /// One message from the client. It must be held whole until it is ruled on, so it costs memory.
    pub message_bytes_max: usize,
    /// One message from the resource. Rows are held whole where a mask needs them.
    pub output_bytes_max: usize,
    /// Commands asked and not yet ended, per session; past it the client is not read.
    pub commands_in_flight_max: usize,
    /// Bytes asked and not yet forwarded, per session; past it the client is not read.
    pub held_bytes_max: usize,
    /// Prepared statements and portals, each, per session.
    pub statements_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_bytes_max: 16 * 1024,
            message_bytes_max: 16 * 1024 * 1024,
            output_bytes_max: 1024 * 1024 * 1024,
            commands_in_flight_max: 256,
            held_bytes_max: 32 * 1024 * 1024,
            statements_max: 10_000,
        }
    }
}

/// Why a wire machine cannot go on. The variant says who is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The peer on this leg broke the protocol.
    PeerMisbehaved(Leg, &'static str),
    /// Legal in the protocol, not spoken here.
    PeerUnsupported(Leg, &'static str),
    /// A bound of [`Limits`] was reached.
    LimitReached(Leg, &'static str),
    /// The caller used the machine out of order.
    Misuse(&'static str),
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let leg = |leg: &Leg| match leg {
            Leg::Downstream => "client",
            Leg::Upstream => "resource",
        };
        match self {
            Self::PeerMisbehaved(l, what) => write!(f, "{} broke the protocol: {what}", leg(l)),
            Self::PeerUnsupported(l, what) => write!(f, "{} asked for what is not supported: {what}", leg(l)),
            Self::LimitReached(l, what) => write!(f, "{} reached a limit: {what}", leg(l)),
            Self::Misuse(what) => write!(f, "machine misused: {what}"),
        }
    }
}

impl std::error::Error for WireError {}
