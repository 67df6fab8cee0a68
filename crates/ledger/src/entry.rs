//! What can be written down. Plain borrowed data: an entry is built on the stack, encoded and gone.
//!
//! No field holds client text: statements and parameters stand here as digests, people as ids (`docs/spec/ledger.md`).

use chancery_model::{Assurance, Digest, Durability as Profile, Effect, EntryRef, RefusalCode, ReviewId, RuleId};
use chancery_model::{ResourceName, SessionId, Timestamp};

use crate::KeyEpoch;

/// One line of evidence.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// The process starts.
    Boot(Boot<'a>),
    /// The process ends in order.
    Shutdown(Shutdown<'a>),
    /// Nothing happened for a while; proves that the log was alive.
    Heartbeat,
    /// An epoch of the log's keys begins.
    KeyEpoch(KeyEpoch),
    /// A rule set takes effect.
    PolicyApply(PolicyApply<'a>),
    /// A row of the directory of principals comes into use.
    Principal(PrincipalEntry),
    /// A credential of a resource changes.
    SecretChange(SecretChange<'a>),
    /// A session begins.
    SessionOpen(SessionOpen<'a>),
    /// A session ends.
    SessionClose(SessionClose<'a>),
    /// A command is about to be forwarded.
    ActStart(ActStart<'a>),
    /// A forwarded command ended.
    ActDone(ActDone<'a>),
    /// A command is refused.
    ActDeny(ActDeny<'a>),
    /// A command is held for reviewers.
    ApprovalRequest(ApprovalRequest<'a>),
    /// A reviewer answers.
    ApprovalDecide(ApprovalDecide<'a>),
    /// An approval is used up by an execution.
    ApprovalUse(ApprovalUse<'a>),
    /// A review ends without an answer.
    ApprovalEnd(ApprovalEnd),
    /// A file of recordings is closed.
    RecordingSegment(RecordingSegment),
    /// A segment of sealed originals is closed.
    RawSegment(RawSegment<'a>),
    /// Sealed originals of a session are about to be handed out.
    Unseal(Unseal),
    /// What is kept of a session is about to be destroyed.
    Shred(Shred<'a>),
    /// What is past its time begins to be deleted.
    RetentionRun(RetentionRun),
    /// A file of recordings is about to be deleted.
    PruneRecording(PruneRecording),
    /// Entries of a segment are about to be deleted.
    PruneLedger(PruneLedger),
    /// Something past its time is kept.
    PruneRefuse(PruneRefuse<'a>),
    /// What was past its time is deleted.
    RetentionDone(RetentionDone<'a>),
    /// Something is not to be deleted, whatever its age.
    HoldSet(HoldSet<'a>),
    /// A hold ends.
    HoldLift(HoldLift),
    /// Somebody looked at a recording or at entries.
    View(View<'a>),
    /// Evidence is about to leave in a pack.
    Export(Export),
    /// The ledger stopped taking entries.
    Stall(Stall<'a>),
    /// Entries are known to be missing.
    Gap(Gap<'a>),
    /// What was open when the process died, closed as unknown.
    Crash(Crash),
    /// A promise of the house is in doubt.
    Alert(Alert<'a>),
}

/// The kind of an entry, as its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum EntryKind {
    Boot,
    Shutdown,
    Heartbeat,
    KeyEpoch,
    PolicyApply,
    Principal,
    SecretChange,
    SessionOpen,
    SessionClose,
    ActStart,
    ActDone,
    ActDeny,
    ApprovalRequest,
    ApprovalDecide,
    ApprovalUse,
    ApprovalEnd,
    RecordingSegment,
    RawSegment,
    Unseal,
    Shred,
    RetentionRun,
    PruneRecording,
    PruneLedger,
    PruneRefuse,
    RetentionDone,
    HoldSet,
    HoldLift,
    View,
    Export,
    Stall,
    Gap,
    Crash,
    Alert,
}

impl EntryKind {
    const ALL: [Self; 33] = [
        Self::Boot,
        Self::Shutdown,
        Self::Heartbeat,
        Self::KeyEpoch,
        Self::PolicyApply,
        Self::Principal,
        Self::SecretChange,
        Self::SessionOpen,
        Self::SessionClose,
        Self::ActStart,
        Self::ActDone,
        Self::ActDeny,
        Self::ApprovalRequest,
        Self::ApprovalDecide,
        Self::ApprovalUse,
        Self::ApprovalEnd,
        Self::RecordingSegment,
        Self::RawSegment,
        Self::Unseal,
        Self::Shred,
        Self::RetentionRun,
        Self::PruneRecording,
        Self::PruneLedger,
        Self::PruneRefuse,
        Self::RetentionDone,
        Self::HoldSet,
        Self::HoldLift,
        Self::View,
        Self::Export,
        Self::Stall,
        Self::Gap,
        Self::Crash,
        Self::Alert,
    ];
    /// The word in field `k`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Shutdown => "shutdown",
            Self::Heartbeat => "heartbeat",
            Self::KeyEpoch => "key.epoch",
            Self::PolicyApply => "policy.apply",
            Self::Principal => "principal",
            Self::SecretChange => "secret.change",
            Self::SessionOpen => "session.open",
            Self::SessionClose => "session.close",
            Self::ActStart => "act.start",
            Self::ActDone => "act.done",
            Self::ActDeny => "act.deny",
            Self::ApprovalRequest => "approval.request",
            Self::ApprovalDecide => "approval.decide",
            Self::ApprovalUse => "approval.use",
            Self::ApprovalEnd => "approval.end",
            Self::RecordingSegment => "rec.segment",
            Self::RawSegment => "raw.segment",
            Self::Unseal => "unseal",
            Self::Shred => "shred",
            Self::RetentionRun => "retention.run",
            Self::PruneRecording => "prune.recording",
            Self::PruneLedger => "prune.ledger",
            Self::PruneRefuse => "prune.refuse",
            Self::RetentionDone => "retention.done",
            Self::HoldSet => "hold.set",
            Self::HoldLift => "hold.lift",
            Self::View => "view",
            Self::Export => "export",
            Self::Stall => "stall",
            Self::Gap => "gap",
            Self::Crash => "crash",
            Self::Alert => "alert",
        }
    }
    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
    /// Whether the entry begins or permits something new. A log that is short of space refuses these first and keeps
    /// what is left for the outcomes of what already runs, and for deletions, which give space back.
    pub fn opens(self) -> bool {
        !matches!(
            self,
            Self::Shutdown
                | Self::KeyEpoch
                | Self::SessionClose
                | Self::ActDone
                | Self::ActDeny
                | Self::ApprovalEnd
                | Self::RecordingSegment
                | Self::RawSegment
                | Self::Shred
                | Self::RetentionRun
                | Self::PruneRecording
                | Self::PruneLedger
                | Self::PruneRefuse
                | Self::RetentionDone
                | Self::Stall
                | Self::Gap
                | Self::Crash
                | Self::Alert
        )
    }
}

impl Entry<'_> {
    /// The kind.
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::Boot(_) => EntryKind::Boot,
            Self::Shutdown(_) => EntryKind::Shutdown,
            Self::Heartbeat => EntryKind::Heartbeat,
            Self::KeyEpoch(_) => EntryKind::KeyEpoch,
            Self::PolicyApply(_) => EntryKind::PolicyApply,
            Self::Principal(_) => EntryKind::Principal,
            Self::SecretChange(_) => EntryKind::SecretChange,
            Self::SessionOpen(_) => EntryKind::SessionOpen,
            Self::SessionClose(_) => EntryKind::SessionClose,
            Self::ActStart(_) => EntryKind::ActStart,
            Self::ActDone(_) => EntryKind::ActDone,
            Self::ActDeny(_) => EntryKind::ActDeny,
            Self::ApprovalRequest(_) => EntryKind::ApprovalRequest,
            Self::ApprovalDecide(_) => EntryKind::ApprovalDecide,
            Self::ApprovalUse(_) => EntryKind::ApprovalUse,
            Self::ApprovalEnd(_) => EntryKind::ApprovalEnd,
            Self::RecordingSegment(_) => EntryKind::RecordingSegment,
            Self::RawSegment(_) => EntryKind::RawSegment,
            Self::Unseal(_) => EntryKind::Unseal,
            Self::Shred(_) => EntryKind::Shred,
            Self::RetentionRun(_) => EntryKind::RetentionRun,
            Self::PruneRecording(_) => EntryKind::PruneRecording,
            Self::PruneLedger(_) => EntryKind::PruneLedger,
            Self::PruneRefuse(_) => EntryKind::PruneRefuse,
            Self::RetentionDone(_) => EntryKind::RetentionDone,
            Self::HoldSet(_) => EntryKind::HoldSet,
            Self::HoldLift(_) => EntryKind::HoldLift,
            Self::View(_) => EntryKind::View,
            Self::Export(_) => EntryKind::Export,
            Self::Stall(_) => EntryKind::Stall,
            Self::Gap(_) => EntryKind::Gap,
            Self::Crash(_) => EntryKind::Crash,
            Self::Alert(_) => EntryKind::Alert,
        }
    }
}

/// `boot`.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// The software's version.
    pub version: &'a str,
    /// SHA-256 of the configuration file.
    pub config: Digest,
    /// Options in force that weaken a promise (`dangerous_…`), by name.
    pub dangerous: &'a [&'a str],
    /// The weakest durability profile that any resource has.
    pub profile: Profile,
    /// What that profile can lose with the host's power, in milliseconds.
    pub loss_window_ms: u32,
    /// Tree size found at start.
    pub size: u64,
    /// Root found at start.
    pub root: Digest,
}

/// `shutdown`.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown<'a> {
    /// Why: a word.
    pub reason: &'a str,
}

/// `policy.apply`.
#[derive(Clone, Copy, Debug)]
pub struct PolicyApply<'a> {
    /// The rule set's digest.
    pub rules: Digest,
    /// How it came: `file`, `console`, `start`.
    pub source: &'a str,
    /// Id of the chain that applied it, if somebody did.
    pub by: Option<[u8; 16]>,
}

/// `principal`: ties a chain id to its directory row without naming anybody.
#[derive(Clone, Copy, Debug)]
pub struct PrincipalEntry {
    /// The chain id that other entries use.
    pub chain: [u8; 16],
    /// Salted commitment to the directory row.
    pub commitment: Digest,
}

/// `secret.change`.
#[derive(Clone, Copy, Debug)]
pub struct SecretChange<'a> {
    /// The resource whose credential it is.
    pub resource: &'a ResourceName,
    /// `set`, `rotated`, `removed`.
    pub change: &'a str,
    /// The credential's version afterwards.
    pub version: u64,
    /// Id of the chain that changed it, if somebody did.
    pub by: Option<[u8; 16]>,
}

/// `session.open`.
#[derive(Clone, Copy, Debug)]
pub struct SessionOpen<'a> {
    /// The session.
    pub session: SessionId,
    /// Chain id.
    pub chain: [u8; 16],
    /// Resource.
    pub resource: &'a ResourceName,
    /// Rule set that allowed it.
    pub rules: Digest,
    /// The rules that determined the verdict.
    pub rule_ids: &'a [RuleId],
    /// Protocol word.
    pub protocol: &'a str,
    /// How the principal proved itself: a word.
    pub method: &'a str,
    /// Durability profile of the session.
    pub profile: Profile,
}

/// `session.close`. Counts and the rolling hash are filled in by the [`crate::Log`].
#[derive(Clone, Copy, Debug)]
pub struct SessionClose<'a> {
    /// The session.
    pub session: SessionId,
    /// Why: a word.
    pub reason: &'a str,
    /// Chain hash of the session's recording at its end, if it has one.
    pub recording: Option<Digest>,
}

/// `act.start`.
#[derive(Clone, Copy, Debug)]
pub struct ActStart<'a> {
    /// The session.
    pub session: SessionId,
    /// The command's number.
    pub command: u64,
    /// Chain id.
    pub chain: [u8; 16],
    /// Resource.
    pub resource: &'a ResourceName,
    /// Rule set.
    pub rules: Digest,
    /// The decision's word: `allow`, `approved`.
    pub decision: &'a str,
    /// The rules that determined the verdict.
    pub rule_ids: &'a [RuleId],
    /// Whether it could change anything.
    pub effect: Effect,
    /// Keyed fingerprint of the literal-stripped statement.
    pub fingerprint: Digest,
    /// Digest of the command as forwarded.
    pub digest: Digest,
    /// The review whose approval is used, if any.
    pub review: Option<ReviewId>,
    /// Durability profile.
    pub profile: Profile,
}

/// How a forwarded command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The resource reports success.
    Completed,
    /// The resource reports an error.
    Failed,
    /// The resource skipped it.
    Skipped,
    /// More rows wait in the portal.
    Suspended,
    /// The leg was lost before the resource said.
    Unknown,
    /// Cancelled while it ran.
    Cancelled,
}

impl Outcome {
    /// Lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
        }
    }
}

/// `act.done`.
#[derive(Clone, Copy, Debug)]
pub struct ActDone<'a> {
    /// The session.
    pub session: SessionId,
    /// The command's number.
    pub command: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The resource's error code. Written only if it is five upper-case letters or digits.
    pub sqlstate: Option<&'a str>,
    /// Rows.
    pub rows: u64,
    /// Bytes of result data before masking.
    pub bytes: u64,
    /// Cells that were masked.
    pub masked: u64,
    /// From forwarding to the end, in microseconds.
    pub duration_us: u64,
    /// Chain hash of the session's recording when the entry was made, if a block was written.
    pub recording: Option<Digest>,
}

/// `act.deny`.
#[derive(Clone, Copy, Debug)]
pub struct ActDeny<'a> {
    /// The session.
    pub session: SessionId,
    /// The command's number; 0 is the opening.
    pub command: u64,
    /// Chain id, if anybody was authenticated.
    pub chain: Option<[u8; 16]>,
    /// Resource, if a known one was asked for.
    pub resource: Option<&'a ResourceName>,
    /// Rule set.
    pub rules: Digest,
    /// Why.
    pub code: RefusalCode,
    /// The rules that determined the verdict.
    pub rule_ids: &'a [RuleId],
    /// Digest of the command, if it could be read.
    pub digest: Option<Digest>,
}

/// `approval.request`.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalRequest<'a> {
    /// The review.
    pub review: ReviewId,
    /// The session.
    pub session: SessionId,
    /// The command's number.
    pub command: u64,
    /// Chain id.
    pub chain: [u8; 16],
    /// Resource.
    pub resource: &'a ResourceName,
    /// Rule set.
    pub rules: Digest,
    /// The digest that approvals bind to.
    pub digest: Digest,
    /// The review rules needed.
    pub needed: &'a [String],
    /// When the request ends.
    pub expires_at: Timestamp,
}

/// `approval.decide`.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalDecide<'a> {
    /// The review.
    pub review: ReviewId,
    /// Id of the chain that decided.
    pub by: [u8; 16],
    /// Yes or no.
    pub approved: bool,
    /// Which review rule it answers.
    pub rule: &'a str,
    /// How strongly it is bound to a human.
    pub assurance: Assurance,
    /// The digest decided on.
    pub digest: Digest,
    /// SHA-256 of the signature, where signed.
    pub signature: Option<Digest>,
}

/// `approval.use`.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalUse<'a> {
    /// The review.
    pub review: ReviewId,
    /// The session.
    pub session: SessionId,
    /// The command's number.
    pub command: u64,
    /// The digest executed.
    pub digest: Digest,
    /// The `approval.decide` entries it stands on.
    pub decisions: &'a [EntryRef],
}

/// `approval.end`.
#[derive(Clone, Copy, Debug)]
pub struct ApprovalEnd {
    /// The review.
    pub review: ReviewId,
    /// `expired` if true, else `withdrawn`.
    pub expired: bool,
}

/// `rec.segment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingSegment {
    /// The file's number.
    pub file: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Blocks in it.
    pub blocks: u64,
    /// SHA-256 over the whole file.
    pub digest: Digest,
}

/// `raw.segment`.
#[derive(Clone, Copy, Debug)]
pub struct RawSegment<'a> {
    /// The session.
    pub session: SessionId,
    /// Number of the segment in the session, from 0.
    pub index: u64,
    /// Length of the plaintext.
    pub bytes: u64,
    /// SHA-256 of the body.
    pub body: Digest,
    /// SHA-256 of the wrapped header.
    pub header: Digest,
    /// Ids of the recipients.
    pub to: &'a [[u8; 8]],
    /// Commitment to the plaintext.
    pub commitment: Digest,
}

/// `unseal`.
#[derive(Clone, Copy, Debug)]
pub struct Unseal {
    /// The session.
    pub session: SessionId,
    /// The review whose approval is used.
    pub review: ReviewId,
    /// Who: chain id.
    pub by: [u8; 16],
}

/// `shred`.
#[derive(Clone, Copy, Debug)]
pub struct Shred<'a> {
    /// The session.
    pub session: SessionId,
    /// What of it: `sealed`.
    pub what: &'a str,
    /// SHA-256 of the words that say on whose authority; `None`: it was its time.
    pub authority: Option<Digest>,
    /// Who: chain id; `None`: it was its time.
    pub by: Option<[u8; 16]>,
    /// The `retention.run` that it belongs to, by its index, if it was its time.
    pub run: Option<u64>,
}

/// `retention.run`.
#[derive(Clone, Copy, Debug)]
pub struct RetentionRun {
    /// Id of the chain that asked for it; `None`: it was its time.
    pub by: Option<[u8; 16]>,
    /// Things that are past their time.
    pub due: u64,
    /// How long entries are kept, in days.
    pub ledger: u64,
    /// How long recordings are kept, in days.
    pub recordings: u64,
    /// How long sealed originals are kept, in days.
    pub sealed: u64,
}

/// `prune.recording`: on disk before the file is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneRecording {
    /// The `retention.run` that it belongs to, by its index.
    pub run: u64,
    /// The file's number.
    pub file: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 over it.
    pub digest: Digest,
    /// The last instant that it speaks of.
    pub last: Timestamp,
}

/// `prune.ledger`: on disk before entries of the segment are replaced by their hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneLedger {
    /// The `retention.run` that it belongs to, by its index.
    pub run: u64,
    /// The index of the segment's first entry.
    pub first: u64,
    /// Entries of the segment that are only hashes then.
    pub dropped: u64,
    /// SHA-256 over their leaf hashes, in order.
    pub digest: Digest,
    /// Bytes that the segment becomes shorter by.
    pub bytes: u64,
    /// The time of the segment's last entry.
    pub last: Timestamp,
}

/// `prune.refuse`: of a run, or of somebody who wanted something destroyed before its time.
#[derive(Clone, Copy, Debug)]
pub struct PruneRefuse<'a> {
    /// The `retention.run` that it belongs to, by its index.
    pub run: Option<u64>,
    /// Who wanted it, if it belongs to no run: chain id.
    pub by: Option<[u8; 16]>,
    /// The file of recordings that is kept, if it is one.
    pub file: Option<u64>,
    /// The segment of which something is kept, if it is one, by the index of its first entry.
    pub first: Option<u64>,
    /// The session whose sealed originals are kept, if it is these.
    pub session: Option<SessionId>,
    /// Why: a word.
    pub why: &'a str,
    /// The hold that keeps it, if one does.
    pub hold: Option<[u8; 16]>,
}

impl<'a> PruneRefuse<'a> {
    /// Of nothing yet.
    pub fn new(why: &'a str) -> Self {
        Self { run: None, by: None, file: None, first: None, session: None, why, hold: None }
    }
}

/// `retention.done`.
#[derive(Clone, Copy, Debug)]
pub struct RetentionDone<'a> {
    /// The `retention.run` that ends, by its index.
    pub run: u64,
    /// Things deleted.
    pub pruned: u64,
    /// Things past their time and kept.
    pub refused: u64,
    /// Bytes deleted.
    pub bytes: u64,
    /// `complete`, or `stopped` before its end.
    pub how: &'a str,
}

/// `hold.set`: names nobody; scope and reason stand in the catalog.
#[derive(Clone, Copy, Debug)]
pub struct HoldSet<'a> {
    /// The hold.
    pub hold: [u8; 16],
    /// What it is about: `session`, `principal`, `period`.
    pub scope: &'a str,
    /// Salted commitment to scope and reason.
    pub commitment: Digest,
    /// Id of the chain that set it.
    pub by: [u8; 16],
}

/// `hold.lift`.
#[derive(Clone, Copy, Debug)]
pub struct HoldLift {
    /// The hold.
    pub hold: [u8; 16],
    /// Salted commitment to the reason.
    pub commitment: Digest,
    /// Id of the chain that lifted it.
    pub by: [u8; 16],
}

/// `view`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Who looked: chain id.
    pub by: [u8; 16],
    /// At what: `recording`, `entries`, `review`, `export`.
    pub what: &'a str,
    /// The session looked at, if one.
    pub session: Option<SessionId>,
}

/// `export`.
#[derive(Clone, Copy, Debug)]
pub struct Export {
    /// Who: chain id.
    pub by: [u8; 16],
    /// The period, from …
    pub from: Timestamp,
    /// … up to.
    pub to: Timestamp,
    /// SHA-256 of the pack's manifest.
    pub manifest: Digest,
}

/// `stall`: the ledger takes no new commands, or did not for a time that is over.
#[derive(Clone, Copy, Debug)]
pub struct Stall<'a> {
    /// Why: a word.
    pub reason: &'a str,
    /// What it came to; `None` where it begins.
    pub over: Option<StallOver>,
}

/// The end of a stall.
#[derive(Clone, Copy, Debug)]
pub struct StallOver {
    /// Entries that were refused meanwhile.
    pub refused: u64,
    /// How long it lasted, by the monotonic clock.
    pub duration_us: u64,
}

/// `gap`.
#[derive(Clone, Copy, Debug)]
pub struct Gap<'a> {
    /// First missing index.
    pub from: u64,
    /// One past the last missing index.
    pub to: u64,
    /// Why: a word.
    pub cause: &'a str,
}

/// `crash`.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// The session that was open.
    pub session: SessionId,
    /// The command that ran, or `None` for the session itself.
    pub command: Option<u64>,
}

/// `alert`.
#[derive(Clone, Copy, Debug)]
pub struct Alert<'a> {
    /// What: a word.
    pub code: &'a str,
    /// The session concerned, if one.
    pub session: Option<SessionId>,
}
