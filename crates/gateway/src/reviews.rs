//! Reviews from the sessions' side: who waits for which, what expired, what a former process left.

use std::sync::Arc;
use std::time::Duration;

use chancery_ledger::{ApprovalEnd, ApprovalUse, Entry};
use chancery_model::{CommandId, Review, ReviewId, ReviewState, SessionId};
use chancery_store::{CatalogError, Level};
use tokio::sync::broadcast::error::RecvError;

use crate::gateway::{Shared, lock, now};
use crate::mailbox::Mail;

/// How often changes of other processes and expiries are looked for.
pub(crate) const POLL: Duration = Duration::from_millis(500);

/// Closes what a former process left open. Clients that waited are gone.
pub(crate) async fn close_abandoned(shared: &Arc<Shared>) -> Result<(), CatalogError> {
    let now = now();
    let open = shared.catalog.close_abandoned(now).await?;
    if !open.is_empty() {
        tracing::warn!(sessions = open.len(), "a former process left sessions open");
    }
    for id in shared.catalog.withdraw_all_pending(now).await? {
        ended(shared, id, false);
    }
    for id in shared.catalog.ended_unmasked().await? {
        cover(shared, id).await?;
    }
    Ok(())
}

/// Tells waiting sessions of decisions, and ends reviews whose time is over.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut changes = shared.catalog.subscribe();
    let mut seen = shared.catalog.change_seq().await.unwrap_or(0);
    let mut poll = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(id) => tell(&shared, id),
                // Whoever lags looks at everything that changed.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = poll.tick() => {
                match shared.catalog.changed_since(seen).await {
                    Ok((newest, ids)) => {
                        seen = newest;
                        ids.into_iter().for_each(|id| tell(&shared, id));
                    }
                    Err(error) => tracing::warn!(%error, "reviews cannot be looked at"),
                }
                if let Err(error) = expire(&shared).await {
                    tracing::warn!(%error, "reviews cannot be ended");
                }
            }
        }
    }
}

fn tell(shared: &Shared, id: ReviewId) {
    if let Some(mailbox) = lock(&shared.waiting).get(&id) {
        mailbox.post(Mail::Review(id));
    }
}

async fn expire(shared: &Arc<Shared>) -> Result<(), CatalogError> {
    for id in shared.catalog.expire_due(now()).await? {
        ended(shared, id, true);
        cover(shared, id).await?;
        tell(shared, id);
    }
    for id in shared.catalog.ended_unmasked().await? {
        cover(shared, id).await?;
    }
    Ok(())
}

pub(crate) fn ended(shared: &Shared, review: ReviewId, expired: bool) {
    let entry = Entry::ApprovalEnd(ApprovalEnd { review, expired });
    if let Err(stall) = shared.sequencer.append_entry(&entry, Level::Written) {
        tracing::error!(%review, %stall, "the end of a review is not on record");
    }
}

/// Replaces the complete command of an ended review by its masked form.
async fn cover(shared: &Arc<Shared>, id: ReviewId) -> Result<(), CatalogError> {
    let Some(review) = shared.catalog.review(id).await? else { return Ok(()) };
    if matches!(review.state, ReviewState::Pending | ReviewState::Approved) {
        return Ok(());
    }
    // Command 0 is no command but a reason, which reviewers and auditors read later, too.
    let text = if review.command == CommandId(0) { review.text } else { chancery_sql::redact(&review.text) };
    let parameters = vec!["masked".to_owned(); review.parameters.len()];
    shared.catalog.finish(id, review.state, &text, &parameters, now()).await.map(drop)
}

/// Ends a review that nobody waits for any more.
pub(crate) async fn withdraw(shared: &Arc<Shared>, id: ReviewId, state: ReviewState) {
    lock(&shared.waiting).remove(&id);
    let ended_here = shared.catalog.set_state(id, ReviewState::Pending, state, now()).await;
    let ended_here = match ended_here {
        Ok(true) => Ok(true),
        // Approved in the very moment: the approval is not used.
        Ok(false) => shared.catalog.set_state(id, ReviewState::Approved, state, now()).await,
        Err(error) => Err(error),
    };
    match ended_here {
        Ok(true) => {
            ended(shared, id, state == ReviewState::Expired);
            if let Err(error) = cover(shared, id).await {
                tracing::warn!(%id, %error, "the text of an ended review is not masked yet");
            }
        }
        Ok(false) => {}
        // It was asked for on record and never came before anybody.
        Err(CatalogError::NotFound(_)) => ended(shared, id, false),
        Err(error) => tracing::warn!(%id, %error, "a review is not withdrawn"),
    }
}

/// Decisions that the use of an approval names: an entry has room for more, a quorum has fewer.
const DECISIONS_MAX: usize = 256;

/// A decided review, its approval used up. `None` while it is undecided, or if another took the approval.
pub(crate) async fn decided(shared: &Arc<Shared>, id: ReviewId) -> Result<Option<Review>, CatalogError> {
    let Some(review) = shared.catalog.review(id).await? else { return Ok(None) };
    match review.state {
        // Used up a moment ago, most likely by this very session: whoever used it tells it.
        ReviewState::Pending | ReviewState::Used => return Ok(None),
        ReviewState::Approved => {
            let (session, command) = (review.session, review.command);
            let used = use_up(shared, review, session, command).await?;
            lock(&shared.waiting).remove(&id);
            return Ok(used);
        }
        _ => {}
    }
    lock(&shared.waiting).remove(&id);
    Ok(Some(review))
}

/// Uses an approval up, on record, for one command. `None` if another was faster.
pub(crate) async fn use_up(
    shared: &Arc<Shared>,
    review: Review,
    session: SessionId,
    command: CommandId,
) -> Result<Option<Review>, CatalogError> {
    let id = review.id;
    if !shared.catalog.consume(id, now()).await? {
        return Ok(None);
    }
    // If we crash here, the approval is gone and nothing ran.
    let digest = review.digest;
    let decisions: Vec<_> = review.approvals.iter().filter_map(|approval| approval.entry).take(DECISIONS_MAX).collect();
    let use_ = ApprovalUse { review: id, session, command: command.0, digest, decisions: &decisions };
    let entry = Entry::ApprovalUse(use_);
    let recorded = shared.sequencer.append_entry(&entry, Level::Written);
    if let Err(error) = cover(shared, id).await {
        tracing::warn!(%id, %error, "the text of an ended review is not masked yet");
    }
    match recorded {
        Ok(_) => Ok(Some(review)),
        Err(stall) => {
            tracing::error!(review = %id, %stall, "the use of an approval is not on record");
            Ok(Some(Review { state: ReviewState::Withdrawn, ..review }))
        }
    }
}
