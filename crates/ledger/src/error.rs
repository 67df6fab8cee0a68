//! Why an entry, checkpoint or proof was not taken. The variant says who is at fault.

use std::fmt;

/// Why this crate refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerError {
    /// The caller asked for an entry that cannot stand in this log: an outcome without a start, a second opening.
    Misuse(&'static str),
    /// The entry is longer than [`crate::ENTRY_BYTES_MAX`].
    LimitReached(&'static str),
    /// The wall clock is further behind the last entry than any step of a time service explains.
    Clock,
    /// Stored bytes are not what this format says: `index` of the entry and what is wrong.
    Corrupt(u64, &'static str),
    /// A note, checkpoint or proof does not hold.
    Unproven(&'static str),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse(what) => write!(f, "ledger misused: {what}"),
            Self::LimitReached(what) => write!(f, "ledger limit reached: {what}"),
            Self::Clock => f.write_str("the wall clock is behind the last entry"),
            Self::Corrupt(index, what) => write!(f, "entry {index}: {what}"),
            Self::Unproven(what) => write!(f, "not proven: {what}"),
        }
    }
}

impl std::error::Error for LedgerError {}
