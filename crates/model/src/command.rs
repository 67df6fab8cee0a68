//! What a client asks.

use std::sync::Arc;

use bytes::Bytes;

use crate::{CommandId, Refusal};

/// The smallest thing a client asks that could have an effect and can be ruled on.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its number in the session.
    pub id: CommandId,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked, by kind.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A string of one or more statements, to be run now (PostgreSQL `Query`).
    Query(Statement),
    /// A statement to be parsed, named and described, not run (PostgreSQL `Parse` up to `Sync` or `Flush`).
    Prepare(Statement),
    /// A prepared statement to be run with these parameters (PostgreSQL `Bind` + `Execute`, or a repeated `Execute`).
    Execute(Statement, Bind),
    /// A protocol step that carries no statement and can have no effect of its own
    /// (PostgreSQL: a `Describe`, `Close`, `Flush` or `Sync` that belongs to no statement in flight).
    Step(&'static str),
    /// Cannot be read, or is not spoken here: the refusal says which and why.
    Refused(Refusal),
}

impl Ask {
    /// How many parameters it carries; `None` where there can be none.
    pub fn parameter_count(&self) -> Option<u16> {
        match self {
            Self::Execute(_, bind) => Some(bind.count),
            _ => None,
        }
    }
}

/// The text of a statement exactly as it will be forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The bytes. Checked to be UTF-8 without NUL by the relay.
    pub text: Bytes,
    /// The settings under which the server will read the text.
    pub settings: Arc<Settings>,
}

impl Statement {
    /// The text as `str`; empty if the relay's check was bypassed.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

/// Session settings that change how statement text is read. `epoch` differs whenever any of them differs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Counts changes in this session; part of every cache key.
    pub epoch: u64,
    /// `standard_conforming_strings`. Only `true` is accepted for now.
    pub standard_conforming_strings: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { epoch: 0, standard_conforming_strings: true }
    }
}

/// Parameters of an execution, exactly as they will be forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// The raw parameter section of the message: format codes, count, lengths and values.
    pub raw: Bytes,
    /// How many parameters.
    pub count: u16,
    /// Row limit of the execution; 0 is none.
    pub max_rows: u32,
    /// True for a repeated `Execute` of a portal that was suspended.
    pub resumed: bool,
}

/// Data that belongs to a running command (PostgreSQL `CopyData` from the client).
#[derive(Clone, Debug)]
pub struct Input {
    /// The command that takes it.
    pub command: CommandId,
    /// Payload bytes in this piece, for the count.
    pub bytes: u64,
    /// The whole piece, frames included.
    pub raw: Bytes,
    /// Whether this piece ends the input.
    pub last: bool,
}

/// A command's outcome as the resource told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The command.
    pub command: CommandId,
    /// How it ended.
    pub status: DoneStatus,
    /// Rows returned or affected, as far as the protocol says.
    pub rows: u64,
    /// Bytes of result data, before masking.
    pub bytes: u64,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoneStatus {
    /// The resource reports success.
    Completed,
    /// More rows are there; the portal waits.
    Suspended,
    /// The resource reports an error: its code (SQLSTATE).
    Failed(String),
    /// An earlier command of the same pipeline failed, so the resource skipped this one.
    Skipped,
}
