//! Handing out and destroying sealed originals: the part that is written down and cannot be undone. Not here: the files
//! that are handed out.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chancery_ledger::{ApprovalUse, Entry, Shred, Unseal};
use chancery_model::{CommandId, Digest, Review, ReviewId, ReviewState, SessionId, Timestamp};
use chancery_policy::approval::has_quorum;
use chancery_policy::{RuleSet, unseal_digest};
use chancery_store::{Directory, RetentionError, SealedReader, Why};

use super::{Ground, NewShred, NewUnseal, append, malformed, now};
use crate::output::Failure;

/// Decisions that the use of an approval names: an entry has room for more, a quorum has fewer.
const DECISIONS_MAX: usize = 256;
/// A session that begins is in the list by then.
const LISTED_MICROS: i64 = 60_000_000;

/// Uses an approval up, then writes down that originals are handed out. If we crash in between, the approval is gone and
/// nothing left.
pub(super) async fn unseal(
    unseal: &NewUnseal,
    rules: Option<&RuleSet>,
    ground: &Ground<'_>,
    by: [u8; 16],
) -> Result<(), Failure> {
    let session = SessionId::parse(&unseal.session).ok_or_else(|| malformed("session"))?;
    let id = ReviewId::parse(&unseal.review).ok_or_else(|| malformed("review"))?;
    let failed = |error: chancery_store::CatalogError| Failure::no(error.to_string());
    let review = ground.catalog.review(id).await.map_err(failed)?;
    let review = review.ok_or_else(|| Failure::no(format!("there is no review {id}")))?;
    check(&review, session, rules, now())?;
    if !ground.catalog.consume(id, now()).await.map_err(failed)? {
        return Err(Failure::no("the approval was used already, or its time is over"));
    }
    let decisions: Vec<_> = review.approvals.iter().filter_map(|approval| approval.entry).take(DECISIONS_MAX).collect();
    let use_ = ApprovalUse { review: id, session, command: 0, digest: review.digest, decisions: &decisions };
    append(ground.sequencer, &Entry::ApprovalUse(use_)).await?;
    append(ground.sequencer, &Entry::Unseal(Unseal { session, review: id, by })).await
}

/// Whether the review is an approved request for this very session, under the rules in force.
fn check(review: &Review, session: SessionId, rules: Option<&RuleSet>, now: Timestamp) -> Result<(), Failure> {
    let digest = unseal_digest(&review.session, &review.text, &review.chain);
    if review.command != CommandId(0) || review.session != session {
        return Err(Failure::no(format!("review {} is not about the originals of session {session}", review.id)));
    }
    match review.state {
        ReviewState::Approved => {}
        ReviewState::Used => return Err(Failure::no("the approval was used already")),
        state => return Err(Failure::no(format!("the review is {}", state.as_str()))),
    }
    // Approvals are judged again where they are used: their signatures, who gave them, and under which rules.
    let rules = rules.ok_or_else(|| Failure::unsure("the rules are not known"))?;
    let holds = !review.needed.is_empty() && review.needed.iter().all(|rule| has_quorum(review, rule, rules, now));
    if review.digest != digest || !holds {
        return Err(Failure::no("the approvals do not hold: the rules changed, or the request did").hint("ask again"));
    }
    Ok(())
}

/// Why a session's originals are not destroyed.
fn kept(session: SessionId, error: &RetentionError) -> Failure {
    let RetentionError::Kept(why, hold) = error else {
        return Failure::unsure(format!("the holds cannot be asked: {error}"));
    };
    let hold = hold.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let what = match why {
        Why::Held => format!("hold {hold} keeps session {session}: its originals are not destroyed"),
        _ => format!("hold {hold} may be about session {session}, and nobody can say that it is not"),
    };
    Failure::no(what).hint("`chancery hold list` says why it is in force; the refusal is on record")
}

/// Writes down that a session's originals are destroyed, then does it. If we crash in between, it is done again by asking
/// again: the key goes first, and without it nothing opens.
pub(super) async fn shred(shred: &NewShred, ground: &Ground<'_>, by: [u8; 16]) -> Result<(), Failure> {
    let session = SessionId::parse(&shred.session).ok_or_else(|| malformed("session"))?;
    let failed = |error: chancery_store::CatalogError| Failure::no(error.to_string());
    let key = ground.catalog.seal_key(session).await.map_err(failed)?;
    let ended = match ground.catalog.session(session).await.map_err(failed)? {
        Some(record) => record.ended_at.is_some(),
        // Its row comes a moment after its key, and is pruned long before.
        None => key.as_ref().is_none_or(|key| key.created_at.plus_micros(LISTED_MICROS) < now()),
    };
    if !ended {
        return Err(Failure::no(format!("session {session} has not ended")).hint("end it first"));
    }
    let volume = Directory::shared_if_there(&ground.state.join("sealed"));
    let volume = volume.map_err(|error| Failure::unsure(format!("the originals cannot be reached: {error}")))?;
    let reader = volume.map(|volume| SealedReader::new(Arc::new(volume)));
    let files = reader.as_ref().map_or(Ok(0), |reader| reader.count(session));
    let files = files.map_err(|error| Failure::unsure(format!("the originals cannot be listed: {error}")))?;
    if key.is_none() && files == 0 {
        return Err(Failure::no(format!("there are no originals of session {session}")));
    }
    // No hold comes in between while it is there.
    let leave = ground.retention.unheld(session, by).await.map_err(|error| kept(session, &error))?;
    let mut authority = Digest::default();
    authority.0.copy_from_slice(digest(&SHA256, shred.authority.as_bytes()).as_ref());
    let entry = Shred { session, what: "sealed", authority: Some(authority), by: Some(by), run: None };
    append(ground.sequencer, &Entry::Shred(entry)).await?;
    let destroyed = ground.retention.destroy_originals(session, &leave).await;
    destroyed.map_err(|error| Failure::unsure(error.to_string()).hint("do it again"))
}
