//! What becomes of a file of recordings, by its age alone. Not here: holds.

use chancery_model::Timestamp;

use crate::catalog::{FileFacts, RecordingFile};

/// Why something past its time is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A hold pins a session in it.
    Held,
    /// A session in it is still open.
    Open,
    /// Nobody can say whether a hold pins it.
    Unknown,
    /// It is not what it was when it was first read.
    Damaged,
}

impl Why {
    /// Lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Open => "open",
            Self::Unknown => "unknown",
            Self::Damaged => "damaged",
        }
    }
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Its time has not come.
    Kept {
        /// When it comes.
        due_at: Timestamp,
    },
    /// It is past its time, and nothing keeps it.
    Due,
    /// It is past its time and kept; by this hold, if one keeps it.
    Refused(Why, Option<[u8; 16]>),
}

/// A file is past its time `limit_us` after the last that it speaks of, and after the end of the last session in it.
pub(super) fn by_age(file: &RecordingFile, facts: &FileFacts, limit_us: i64, now: Timestamp) -> Judgement {
    let last = facts.ended.map_or(file.last_at, |ended| ended.max(file.last_at));
    let due_at = last.plus_micros(limit_us);
    match () {
        () if now < due_at => Judgement::Kept { due_at },
        () if facts.open > 0 => Judgement::Refused(Why::Open, None),
        () => Judgement::Due,
    }
}

#[cfg(test)]
mod tests {
    use chancery_model::Digest;

    use super::*;

    const LIMIT: i64 = 1_000;

    fn at(last: i64) -> RecordingFile {
        let (digest, first_at, last_at) = (Digest([1; 32]), Timestamp(0), Timestamp(last));
        RecordingFile { file: 3, bytes: 10, digest, first_at, last_at, pruned: None }
    }

    #[test]
    fn a_file_is_due_a_limit_after_the_last_that_it_speaks_of() {
        let facts = FileFacts::default();
        assert_eq!(by_age(&at(5), &facts, LIMIT, Timestamp(1_004)), Judgement::Kept { due_at: Timestamp(1_005) });
        assert_eq!(by_age(&at(5), &facts, LIMIT, Timestamp(1_005)), Judgement::Due);
        // A clock before the beginning, a limit without an end.
        assert_eq!(by_age(&at(5), &facts, LIMIT, Timestamp(i64::MIN)), Judgement::Kept { due_at: Timestamp(1_005) });
        let never = Judgement::Kept { due_at: Timestamp(i64::MAX) };
        assert_eq!(by_age(&at(5), &facts, i64::MAX, Timestamp(i64::MAX - 1)), never);
    }

    #[test]
    fn a_session_that_ended_later_or_is_open_keeps_the_file() {
        let ended = FileFacts { ended: Some(Timestamp(90)), ..FileFacts::default() };
        assert_eq!(by_age(&at(5), &ended, LIMIT, Timestamp(1_089)), Judgement::Kept { due_at: Timestamp(1_090) });
        assert_eq!(by_age(&at(5), &ended, LIMIT, Timestamp(1_090)), Judgement::Due);
        let earlier = FileFacts { ended: Some(Timestamp(1)), ..FileFacts::default() };
        assert_eq!(by_age(&at(5), &earlier, LIMIT, Timestamp(1_005)), Judgement::Due);
        let open = FileFacts { open: 1, ..FileFacts::default() };
        assert_eq!(by_age(&at(5), &open, LIMIT, Timestamp(9_999)), Judgement::Refused(Why::Open, None));
        assert!(matches!(by_age(&at(5), &open, LIMIT, Timestamp(9)), Judgement::Kept { .. }), "not past its time");
    }
}
