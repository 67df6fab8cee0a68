//! The stamps of a registry: heads to which an authority gave a time.

use chancery_model::Timestamp;

use super::{Registry, finding};
use crate::{Check, Finding, LogVerifier, Verdict, verify_stamp};

/// By how much clocks may differ, in microseconds.
const SKEW_US: i64 = 300_000_000;

/// A head of the registry with what an authority said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeStamp {
    /// The checkpoint as it was stamped, a note.
    pub note: String,
    /// What was asked of the authority.
    pub request: Vec<u8>,
    /// What it answered.
    pub response: Vec<u8>,
}

impl TimeStamp {
    /// How many entries it covers and when they were there at the latest, if it holds at `now`: an authority that is among
    /// these (certificates, DER) gave that time to a head that `key` signed.
    pub fn verify(
        &self,
        key: &LogVerifier,
        authorities: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<(u64, Timestamp), String> {
        let head = key.open(&self.note).map_err(|error| error.to_string())?.checkpoint;
        let time = verify_stamp(&self.note, &self.request, &self.response, authorities);
        let time = time.map_err(|error| error.to_string())?;
        if time.0 > now.0.saturating_add(SKEW_US) {
            return Err(format!("its time, {time}, is not yet"));
        }
        Ok((head.size, time))
    }
}

impl Registry {
    /// What these stamps come to, and the times that hold, by number of entries. The notes are to be among the checkpoints with
    /// which the registry was read.
    pub fn stamped(
        &self,
        key: &LogVerifier,
        stamps: &[TimeStamp],
        authorities: &[Vec<u8>],
        now: Timestamp,
    ) -> (Finding, Vec<(u64, Timestamp)>) {
        let fail = |at: Option<u64>, what| finding(Check::Stamp, Verdict::Fail, at, what);
        let mut times = Vec::new();
        for stamp in stamps {
            let (size, time) = match stamp.verify(key, authorities, now) {
                Ok(known) => known,
                Err(why) => return (fail(None, format!("a stamp does not hold: {why}")), times),
            };
            let last = usize::try_from(size).ok().and_then(|size| self.times.get(size.checked_sub(1)?));
            if let Some(last) = last.filter(|last| **last > time.0.saturating_add(SKEW_US)) {
                let what = format!("it says {}, and was stamped at {time}", Timestamp(*last));
                return (fail(size.checked_sub(1), what), times);
            }
            times.push((size, time));
        }
        let all = self.times.len() as u64;
        let covered = times.iter().map(|(size, _)| *size).max();
        let what = match covered {
            None => Some("no head is stamped".to_owned()),
            Some(size) if size < all => Some(format!("entries {size} to {} are after the last stamp", all - 1)),
            Some(_) => None,
        };
        let verdict = if what.is_some() { Verdict::Inconclusive } else { Verdict::Pass };
        let at = covered.filter(|size| *size < all);
        (finding(Check::Stamp, verdict, at, what.unwrap_or_default()), times)
    }
}
