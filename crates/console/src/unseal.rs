//! Asking for the sealed originals of a session. Handing them out is the operator's, on the gateway's host.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};
use chancery_ledger::{ApprovalRequest, Entry};
use chancery_model::{CommandId, Delegation, Review, ReviewId, ReviewState, SessionId, Timestamp};
use chancery_policy::{ApiAction, RuleSet, authorize_api, unseal_digest};
use chancery_store::SessionRecord;

use crate::desk::{Desk, SealView};
use crate::door::{Caller, PathId};
use crate::problem::Problem;
use crate::{record, reviews, view};

/// A reason is a sentence or two.
const REASON_BYTES_MAX: usize = 4 * 1024;

/// Puts a request before the reviewers of the resource's originals. Order: authorized, written down and on disk, then in the
/// catalog. If we crash in between, the entry speaks of a request that nobody can approve.
pub(crate) async fn request(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Requested>, Problem> {
    let id = SessionId::parse(&id).ok_or_else(Problem::absent)?;
    let session = desk.catalog.session(id).await.map_err(|error| Problem::catalog(&error))?;
    let session = session.ok_or_else(Problem::absent)?;
    let (subject, resource) = caller.at(&desk, &session.resource).ok_or_else(Problem::absent)?;
    let authorized = authorize_api(&subject, ApiAction::RequestUnseal, session, &caller.rules, caller.now)
        .map_err(|_| Problem::absent())?;
    caller.may_change()?;
    let view::RequestUnseal { reason } = reviews::read(body)?;
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
        return Err(Problem::bad("the reason is missing, or longer than 4096 bytes"));
    }
    let seal = resource.seal.as_ref().ok_or_else(|| Problem::conflict("no originals of this resource are kept"))?;
    let key = desk.catalog.seal_key(id).await.map_err(|error| Problem::catalog(&error))?;
    if key.is_none() {
        return Err(Problem::conflict(
            "there are no originals of this session: none were kept, or they were destroyed",
        ));
    }
    let review = review(&caller.rules, &caller.identity.chain, authorized.into_inner(), seal, reason, caller.now)?;
    let chain = record::chain_id(&desk, &caller.identity.chain).await?;
    let entry = ApprovalRequest {
        review: review.id,
        session: id,
        command: 0,
        chain,
        resource: &review.resource,
        rules: review.rules,
        digest: review.digest,
        needed: &review.needed,
        expires_at: review.expires_at,
    };
    record::record(&desk, &Entry::ApprovalRequest(entry)).await?;
    desk.catalog.create_review(&review).await.map_err(|error| Problem::catalog(&error))?;
    let needed = seal.review.clone();
    Ok(Json(view::Requested { id: review.id.to_string(), needed, expires_at: review.expires_at.to_string() }))
}

/// The review: command 0 of the session, its text the reason alone, so that the digest can be computed from what is shown.
fn review(
    rules: &RuleSet,
    chain: &Delegation,
    session: SessionRecord,
    seal: &SealView,
    reason: String,
    now: Timestamp,
) -> Result<Review, Problem> {
    let rule = rules.review(&seal.review).ok_or_else(|| Problem::conflict("the review rule is not defined"))?;
    let mut id = [0; 16];
    chancery_store::random(&mut id).map_err(|_| Problem::unavailable("no randomness to be had"))?;
    Ok(Review {
        id: ReviewId(id),
        session: session.id,
        command: CommandId(0),
        resource: session.resource,
        chain: chain.clone(),
        digest: unseal_digest(&session.id, &reason, chain),
        rules: rules.digest(),
        needed: vec![seal.review.clone()],
        text: reason,
        parameters: Vec::new(),
        summary: format!(
            "hand out the unmasked originals of session {} of {} (kept for: {})",
            session.id, session.chain, seal.purpose
        ),
        asked_at: now,
        expires_at: now.plus_micros(rule.expires_micros),
        uses: 1,
        state: ReviewState::Pending,
        approvals: Vec::new(),
    })
}
