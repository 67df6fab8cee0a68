//! What a client may read when it is told no.

use std::fmt;

/// The closed list of reasons. Each protocol maps them to its own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// A rule, or the absence of one, denies.
    Denied,
    /// The credential does not hold, or names something that may not be known.
    Unauthenticated,
    /// The reviewers said no.
    ReviewDenied,
    /// No reviewer answered in time.
    ReviewExpired,
    /// A review is needed and the client asked not to wait; or a review is needed and the reference says which.
    ReviewPending,
    /// The client cancelled while held.
    Cancelled,
    /// What was asked cannot be read, decided, masked or recorded.
    Unreadable,
    /// Legal in the protocol, not spoken here.
    Unsupported,
    /// The peer broke the protocol.
    Malformed,
    /// A bound was reached.
    Limit,
    /// The ledger or the recorder cannot write.
    RecordUnavailable,
    /// The resource cannot be reached or refused our credential.
    ResourceUnavailable,
    /// The session ends: token expiry, rule change, termination, shutdown.
    SessionEnded,
}

impl RefusalCode {
    /// The word that entries, logs and the CLI use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::ReviewDenied => "review-denied",
            Self::ReviewExpired => "review-expired",
            Self::ReviewPending => "review-pending",
            Self::Cancelled => "cancelled",
            Self::Unreadable => "unreadable",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Limit => "limit",
            Self::RecordUnavailable => "record-unavailable",
            Self::ResourceUnavailable => "resource-unavailable",
            Self::SessionEnded => "session-ended",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One sentence for the client, built on purpose; no internal error converts into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, from the closed list.
    pub code: RefusalCode,
    /// One sentence: what happened.
    pub message: String,
    /// Session, command or review id by which an operator finds the entry.
    pub reference: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(code: RefusalCode, message: impl Into<String>, reference: impl Into<String>) -> Self {
        Self { code, message: message.into(), reference: reference.into(), hint: None }
    }
    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reference)
    }
}
