//! What somebody wants destroyed before its time: leave for it, unless a hold keeps the session. Not here: the destroying.

use std::collections::BTreeMap;

use chancery_ledger::{Entry, PruneRefuse};
use chancery_model::{SessionId, Timestamp};
use tokio::sync::MutexGuard;

use super::entries::Whole;
use super::{Holds, Retention, RetentionError, Shelves, Why};
use crate::catalog::{CatalogError, HoldScope};

/// Leave to destroy what is kept of a session. While it is there, no hold is set.
#[derive(Debug)]
pub struct Unheld<'r> {
    pub(super) _gate: MutexGuard<'r, ()>,
}

impl Retention {
    /// Gives leave to destroy what is kept of a session, to whom the chain `by` belongs.
    ///
    /// # Errors
    /// `Kept` if a hold keeps it, or nobody can say that none does: the refusal is on record then.
    pub async fn unheld(&self, session: SessionId, by: [u8; 16]) -> Result<Unheld<'_>, RetentionError> {
        let _gate = self.gate.lock().await;
        let Some((why, hold)) = self.shelves.keeper(session, &self.holds().await?).await? else {
            return Ok(Unheld { _gate });
        };
        let (session, by) = (Some(session), Some(by));
        let refuse = PruneRefuse { session, by, hold: Some(hold), ..PruneRefuse::new(why.as_str()) };
        self.durable(&Entry::PruneRefuse(refuse)).await?;
        Err(RetentionError::Kept(why, hold))
    }
}

impl Shelves {
    /// The hold that keeps a session, and whether that is certain.
    pub(super) async fn keeper(
        &self,
        session: SessionId,
        holds: &Holds,
    ) -> Result<Option<(Why, [u8; 16])>, CatalogError> {
        if let Some(hold) = holds.unknown {
            return Ok(Some((Why::Unknown, hold)));
        }
        if let Some(record) = self.catalog.session(session).await? {
            let (chain, from) = (Some(record.chain_id), record.started_at);
            let whole = Whole { session, chain, from, to: record.ended_at.unwrap_or(Timestamp(i64::MAX)) };
            let hold = self.holder(&whole, holds, &mut BTreeMap::new()).await?;
            return Ok(hold.map(|hold| (Why::Held, hold)));
        }
        // Whose it was, and when, nobody can say any more.
        let may_be = holds.known.iter().filter_map(|hold| match hold.scope {
            HoldScope::Session(of) if of == session => Some((Why::Held, hold.id)),
            HoldScope::Session(_) => None,
            HoldScope::Principal { .. } | HoldScope::Period(..) => Some((Why::Unknown, hold.id)),
        });
        Ok(may_be.min_by_key(|(why, _)| *why != Why::Held))
    }
}
