//! What is written down: rulings and outcomes in the ledger, tapes in the recording.

use std::borrow::Cow;
use std::sync::Arc;

use chancery_ledger::{
    ActDeny, ActDone, ActStart, ApprovalRequest, Entry, Frame, FrameKind, Narrow, SessionClose, SessionOpen, Staged,
    ToEntry, ToFrame, stage,
};
use chancery_mask::Masked;
use chancery_model::{CommandId, Digest, Effect, Input, Output, Refusal, ReviewId, RuleId, Timestamp};
use chancery_policy::{Hold, Permit};

use crate::context::Context;

/// How far an entry must have come before the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// In order, with the next write; on disk within the profile's window.
    Lazy,
    /// Handed to the kernel.
    Written,
    /// On disk.
    OnDisk,
}

/// What was decided about a command, with the proof inside.
pub enum Ruled {
    /// It may be forwarded.
    Forward(Permit),
    /// It is refused, by these rules.
    Refuse(Refusal, Vec<RuleId>),
    /// It waits for this review.
    Hold(Box<Hold>, ReviewId, Timestamp),
    /// The session may be opened.
    Open(Permit),
}

/// A verdict on its way into the ledger.
pub struct Ruling {
    pub(crate) context: Arc<Context>,
    pub(crate) command: CommandId,
    pub(crate) digest: Digest,
    pub(crate) fingerprint: Digest,
    pub(crate) effect: Effect,
    pub(crate) rules: Digest,
    pub(crate) ruled: Ruled,
}

impl Ruling {
    /// The command it is about; 0 is the session's opening.
    pub fn command(&self) -> CommandId {
        self.command
    }
    /// Whether it lets a command through.
    pub(crate) fn is_forward(&self) -> bool {
        matches!(self.ruled, Ruled::Forward(_))
    }
    /// Whether it lets a command through by rules other than these.
    pub(crate) fn is_stale(&self, rules: &Digest) -> bool {
        self.is_forward() && self.rules != *rules
    }
}

impl ToEntry for Ruling {
    fn entry(&self) -> Entry<'_> {
        let context = &*self.context;
        match &self.ruled {
            Ruled::Forward(permit) => Entry::ActStart(ActStart {
                session: context.id,
                command: self.command.0,
                chain: context.chain_id,
                resource: &context.resource.name,
                rules: self.rules,
                decision: if permit.review().is_some() { "approved" } else { "allow" },
                rule_ids: permit.rules(),
                effect: self.effect,
                fingerprint: self.fingerprint,
                digest: self.digest,
                review: permit.review(),
                profile: context.resource.durability,
            }),
            Ruled::Refuse(refusal, rule_ids) => Entry::ActDeny(ActDeny {
                session: context.id,
                command: self.command.0,
                chain: Some(context.chain_id),
                resource: Some(&context.resource.name),
                rules: self.rules,
                code: refusal.code,
                rule_ids,
                digest: Some(self.digest),
            }),
            Ruled::Hold(hold, review, expires_at) => Entry::ApprovalRequest(ApprovalRequest {
                review: *review,
                session: context.id,
                command: self.command.0,
                chain: context.chain_id,
                resource: &context.resource.name,
                rules: self.rules,
                digest: self.digest,
                needed: hold.needed(),
                expires_at: *expires_at,
            }),
            Ruled::Open(permit) => Entry::SessionOpen(SessionOpen {
                session: context.id,
                chain: context.chain_id,
                resource: &context.resource.name,
                rules: self.rules,
                rule_ids: permit.rules(),
                protocol: "postgres",
                method: context.authentication.method,
                profile: context.resource.durability,
            }),
        }
    }
}

impl Narrow<Permit> for Box<Ruling> {
    fn narrow(self) -> Result<Permit, Self> {
        match *self {
            Ruling { ruled: Ruled::Forward(permit) | Ruled::Open(permit), .. } => Ok(permit),
            whole => Err(Box::new(whole)),
        }
    }
}

impl Narrow<Refusal> for Box<Ruling> {
    fn narrow(self) -> Result<Refusal, Self> {
        match *self {
            Ruling { ruled: Ruled::Refuse(refusal, _), .. } => Ok(refusal),
            whole => Err(Box::new(whole)),
        }
    }
}

impl Narrow<Box<Hold>> for Box<Ruling> {
    fn narrow(self) -> Result<Box<Hold>, Self> {
        // Looked at first: most rulings are no holds, and are not to be moved for that.
        if !matches!(self.ruled, Ruled::Hold(..)) {
            return Err(self);
        }
        match *self {
            Ruling { ruled: Ruled::Hold(hold, ..), .. } => Ok(hold),
            whole => Err(Box::new(whole)),
        }
    }
}

/// How a forwarded command ended, on its way into the ledger.
pub struct Outcome {
    pub(crate) context: Arc<Context>,
    pub(crate) command: CommandId,
    pub(crate) outcome: chancery_ledger::Outcome,
    pub(crate) sqlstate: Option<String>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) masked: u64,
    pub(crate) duration_us: u64,
    /// Nothing more is shown before it is on disk.
    pub(crate) gates: bool,
}

impl Outcome {
    /// The command it closes.
    pub fn command(&self) -> CommandId {
        self.command
    }
}

impl ToEntry for Outcome {
    fn entry(&self) -> Entry<'_> {
        Entry::ActDone(ActDone {
            session: self.context.id,
            command: self.command.0,
            outcome: self.outcome,
            sqlstate: self.sqlstate.as_deref(),
            rows: self.rows,
            bytes: self.bytes,
            masked: self.masked,
            duration_us: self.duration_us,
            recording: None,
        })
    }
}

/// What goes into the recording of a session.
pub enum Tape {
    /// An output as the client will get it.
    Output(Timestamp, Masked<Output>),
    /// A piece of input: its count and hash are recorded, its bytes go up.
    Input(Timestamp, Input, Digest),
    /// A permitted protocol step without a statement, recorded here and not in the ledger.
    Step(Timestamp, CommandId, &'static str, Permit),
}

impl ToFrame for Tape {
    fn frame(&self) -> Frame<'_> {
        let (at, kind, command, bytes) = match self {
            Self::Output(at, output) => {
                let output = output.inner();
                (*at, FrameKind::Output, output.command, Cow::Borrowed(&output.bytes[..]))
            }
            Self::Input(at, input, hash) => {
                let note = format!("{} bytes, sha256 {hash}", input.bytes);
                (*at, FrameKind::Input, input.command, Cow::Owned(note.into_bytes()))
            }
            Self::Step(at, command, step, _) => (*at, FrameKind::Command, *command, Cow::Borrowed(step.as_bytes())),
        };
        Frame { at, kind, command: command.0, bytes }
    }
}

impl Narrow<Masked<Output>> for Tape {
    fn narrow(self) -> Result<Masked<Output>, Self> {
        match self {
            Self::Output(_, output) => Ok(output),
            other => Err(other),
        }
    }
}

impl Narrow<Input> for Tape {
    fn narrow(self) -> Result<Input, Self> {
        match self {
            Self::Input(_, input, _) => Ok(input),
            other => Err(other),
        }
    }
}

impl Narrow<Permit> for Tape {
    fn narrow(self) -> Result<Permit, Self> {
        match self {
            Self::Step(_, _, _, permit) => Ok(permit),
            other => Err(other),
        }
    }
}

/// The end of a session, on its way into the ledger.
pub struct Closing {
    context: Arc<Context>,
    reason: &'static str,
    recording: Option<Digest>,
}

impl Closing {
    /// Stages the end. `recording` is the chain hash of the recording after its last flush.
    pub fn of(context: Arc<Context>, reason: &'static str, recording: Option<Digest>) -> Staged<Self> {
        stage(Self { context, reason, recording })
    }
}

impl ToEntry for Closing {
    fn entry(&self) -> Entry<'_> {
        let recording = self.recording;
        Entry::SessionClose(SessionClose { session: self.context.id, reason: self.reason, recording })
    }
}
