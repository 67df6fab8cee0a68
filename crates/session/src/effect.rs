//! What a session wants done, and the memory in which that lies for a moment. Not here: how it comes to want it.

use std::collections::VecDeque;

use bytes::Bytes;
use chancery_ledger::{Frame, FrameKind, Staged, StagedFrame};
use chancery_model::{CommandId, Digest, Review, ReviewId, ReviewState, TableName, Timestamp};
use chancery_wire::Leg;

use crate::original::Original;
use crate::ruling::{Level, Outcome, Ruling, Tape};
use crate::session::Tide;

/// What a session wants done. Effects are performed in order.
#[allow(clippy::large_enum_variant, reason = "moved once, into the driver; a box would be an allocation per command")]
pub enum Effect<U> {
    /// Write to a leg.
    Transmit(Leg, U),
    /// Write the ruling on this command down; answer with `Ruled`, or `Unrecorded` if it cannot be.
    Rule(CommandId, Staged<Box<Ruling>>, Level),
    /// Write an outcome down; answer with `Concluded`.
    Conclude(Staged<Outcome>, Level),
    /// Answer with `OnDisk` once the entry with this index is on disk.
    AwaitDisk(u64),
    /// Record a tape; answer with `Taped`.
    Tape(StagedFrame<Tape>),
    /// Record words; nothing waits for them.
    Note(Note),
    /// Seal an original; nothing that follows from it may go on if that fails.
    Seal(Original),
    /// Look for an unused approval of this digest by the same chain and use it up; answer with `Found`.
    Find(CommandId, Digest),
    /// Put a review before its reviewers; answer with `Reviewed` when it is decided. Its request is on record.
    Ask(Box<Review>),
    /// End a review without an answer.
    Withdraw(ReviewId, ReviewState),
    /// These relations were filled with values of tagged ones: remember it with the catalog.
    Taint(Vec<TableName>),
    /// Read the resource's catalog again; answer with `Catalog`.
    Refresh,
    /// The catalog that other sessions have is outdated.
    Outdate,
    /// Ask the resource to cancel what it runs for this session.
    CancelUpstream,
    /// The session is over: write the closing down, flush, close the legs.
    Close(&'static str),
}

/// Words about a command for its session's recording: its masked text, its parameters, the verdict.
pub struct Note {
    pub(crate) at: Timestamp,
    pub(crate) command: CommandId,
    pub(crate) kind: FrameKind,
    pub(crate) bytes: Bytes,
}

impl Note {
    /// What is to be recorded.
    pub fn frame(&self) -> Frame<'_> {
        Frame { at: self.at, kind: self.kind, command: self.command.0, bytes: (&self.bytes[..]).into() }
    }
}

/// Memory for what passes through a session while it is polled. One desk serves many sessions, one after the other: it
/// stays in the cache, and a session that is idle owns no such memory.
pub struct Desk<U> {
    pub(crate) effects: VecDeque<Effect<U>>,
    pub(crate) tide: VecDeque<Tide>,
}

impl<U> Default for Desk<U> {
    fn default() -> Self {
        Self { effects: VecDeque::new(), tide: VecDeque::new() }
    }
}
