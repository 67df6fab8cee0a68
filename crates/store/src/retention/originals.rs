//! Sealed originals past their time: the key of a session is destroyed, then its files go. Not here: destroying them sooner,
//! because somebody ordered it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use chancery_ledger::{Entry, PruneRefuse, Shred};
use chancery_model::{SessionId, Timestamp};

use super::{Holds, Judgement, Level, Retention, RetentionError, Shelves, Unheld, Why, blocking};
use crate::catalog::{CatalogError, RunRecord};
use crate::seals::SealedReader;
use crate::sequencer::Volume;

/// Originals that are kept and told of in one run. Each is an entry, and a hold may keep more than anybody would read of.
const REFUSALS_MAX: usize = 1_000;
/// A reader of the catalog that is in the way of folding its log is gone by then.
const FOLDS: u32 = 50;
const FOLD_PAUSE: Duration = Duration::from_millis(100);

/// The originals of a session and what becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedOriginals {
    /// The session.
    pub session: SessionId,
    /// When it ended; when its key was made, if nobody knows.
    pub last_at: Timestamp,
    /// What becomes of them.
    pub judgement: Judgement,
}

impl Shelves {
    /// With the sealed originals in `volume`.
    pub fn with_originals(self, volume: Arc<dyn Volume>) -> Self {
        Self { originals: Some(SealedReader::new(volume)), ..self }
    }

    /// Those that are old enough to be past their time; of those that are kept, the first.
    pub(super) async fn sealed(&self, holds: &Holds, now: Timestamp) -> Result<Vec<PlannedOriginals>, CatalogError> {
        if self.originals.is_none() {
            return Ok(Vec::new());
        }
        let before = now.plus_micros(self.limits.sealed_us().saturating_neg());
        let (mut planned, mut refused, mut after) = (Vec::new(), 0, None);
        loop {
            let keys = self.catalog.seal_keys_made_before(before, after).await?;
            let Some((last, _)) = keys.last() else { return Ok(planned) };
            after = Some(*last);
            for (session, made_at) in keys {
                let one = self.judge_sealed(session, made_at, holds, now).await?;
                refused += usize::from(matches!(one.judgement, Judgement::Refused(..)));
                if refused <= REFUSALS_MAX || !matches!(one.judgement, Judgement::Refused(..)) {
                    planned.push(one);
                }
            }
        }
    }

    async fn judge_sealed(
        &self,
        session: SessionId,
        made_at: Timestamp,
        holds: &Holds,
        now: Timestamp,
    ) -> Result<PlannedOriginals, CatalogError> {
        // The row of a session is kept longer than it lasts; where it is gone, the session ended long ago.
        let record = self.catalog.session(session).await?;
        let open = record.as_ref().is_some_and(|record| record.ended_at.is_none());
        let last_at = record.and_then(|record| record.ended_at).unwrap_or(made_at);
        let due_at = last_at.plus_micros(self.limits.sealed_us());
        let judgement = match () {
            () if open => Judgement::Refused(Why::Open, None),
            () if now < due_at => Judgement::Kept { due_at },
            () => match self.keeper(session, holds).await? {
                Some((why, hold)) => Judgement::Refused(why, Some(hold)),
                None => Judgement::Due,
            },
        };
        Ok(PlannedOriginals { session, last_at, judgement })
    }
}

impl Retention {
    /// The originals of one session: they are judged again, by the holds of now, and destroyed or refused.
    pub(super) async fn shred(
        &self,
        run: &mut RunRecord,
        planned: PlannedOriginals,
        now: Timestamp,
    ) -> Result<PlannedOriginals, RetentionError> {
        let leave = Unheld { _gate: self.gate.lock().await };
        let (shelves, session) = (&self.shelves, planned.session);
        let planned = shelves.judge_sealed(session, planned.last_at, &self.holds().await?, now).await?;
        match planned.judgement {
            Judgement::Due => {
                let (what, run_entry) = ("sealed", Some(run.entry));
                let entry = Shred { session, what, authority: None, by: None, run: run_entry };
                // If we crash behind this, the key is there, and the next run says so and destroys it anew.
                self.durable(&Entry::Shred(entry)).await?;
                self.destroy_originals(session, &leave).await?;
                run.pruned += 1;
            }
            Judgement::Refused(why, hold) => {
                let (session, run_entry) = (Some(session), Some(run.entry));
                let refuse = PruneRefuse { session, run: run_entry, hold, ..PruneRefuse::new(why.as_str()) };
                self.sequencer.append_entry(&Entry::PruneRefuse(refuse), Level::Written)?;
                run.refused += 1;
            }
            Judgement::Kept { .. } => {}
        }
        Ok(planned)
    }

    /// Destroys the originals of a session, under the leave for it. The key first: without it nothing opens, whatever becomes
    /// of the files. What did not come to its end can be done again.
    pub async fn destroy_originals(&self, session: SessionId, _leave: &Unheld<'_>) -> Result<(), RetentionError> {
        let mut folds = 0;
        while !self.shelves.catalog.destroy_seal_key(session).await? {
            folds += 1;
            if folds > FOLDS {
                let why = "a key is deleted, but a copy may stay in the catalog's write-ahead log: somebody reads it";
                return Err(RetentionError::Originals(io::Error::other(why)));
            }
            tokio::time::sleep(FOLD_PAUSE).await;
        }
        if let Some(reader) = self.shelves.originals.clone() {
            blocking(move || reader.remove(session)).await.map_err(RetentionError::Originals)?;
        }
        Ok(())
    }
}
