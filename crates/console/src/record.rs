//! Writing down who looked and who decided, before they see or it counts.

use chancery_ledger::{Alert, Entry, View};
use chancery_model::{Delegation, EntryRef, SessionId};
use chancery_store::Level;

use crate::desk::Desk;
use crate::problem::Problem;

/// The id by which entries name the caller's chain.
pub(crate) async fn chain_id(desk: &Desk, chain: &Delegation) -> Result<[u8; 16], Problem> {
    let unavailable = |()| Problem::unavailable("record unavailable: nothing was done");
    (desk.chain_id)(chain.clone()).await.map_err(unavailable)
}

/// Appends an entry and returns once it is on disk.
pub(crate) async fn record(desk: &Desk, entry: &Entry<'_>) -> Result<EntryRef, Problem> {
    let at = desk.sequencer.append_entry(entry, Level::Durable).map_err(|stall| Problem::unrecorded(&stall))?;
    desk.sequencer.synced().await.map_err(|stall| Problem::unrecorded(&stall))?;
    Ok(at)
}

/// Writes down that somebody looked at `what` of a session, or reached into it.
pub(crate) async fn view(desk: &Desk, by: &Delegation, what: &str, session: SessionId) -> Result<(), Problem> {
    let by = chain_id(desk, by).await?;
    record(desk, &Entry::View(View { by, what, session: Some(session) })).await.map(drop)
}

/// Writes down that an approval was refused. Nothing waits for it: it was refused whether this is on record or not.
pub(crate) fn refused(desk: &Desk, session: SessionId) {
    let entry = Entry::Alert(Alert { code: "approval-refused", session: Some(session) });
    if let Err(stall) = desk.sequencer.append_entry(&entry, Level::Written) {
        tracing::error!(reason = %stall, "the refusal of an approval is not on record");
    }
}
