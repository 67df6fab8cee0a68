//! The reviewers' inbox.
//!
//! Order of an answer: authorized and checked; written down and on disk; then the catalog changes. If we crash after the
//! entry and before the catalog, the record says that a reviewer answered and nothing was released by it: the reviewer
//! answers again. If we crash after the catalog took the approval and before it was moved to approved, the review waits
//! on, and the gateway withdraws it at its next start. In no order does something run that is not written down.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_ledger::{ApprovalDecide, Entry};
use chancery_model::{Approval, Assurance, Digest, EntryRef, Review, ReviewId, ReviewState};
use chancery_policy::approval::{check, has_quorum, payload};
use chancery_policy::{ApiAction, Subject, authorize_api};
use chancery_store::ReviewLine;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::desk::Desk;
use crate::door::{Caller, PathId};
use crate::problem::Problem;
use crate::{record, view};

/// Reviews that one answer looks through.
const LISTED_MAX: u32 = 500;
/// A reason is a sentence or two.
const REASON_BYTES_MAX: usize = 4 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    state: Option<String>,
}

/// Lists, among [`LISTED_MAX`] reviews of the state, those that the caller may see. Without the commands: showing one is
/// written down.
pub(crate) async fn list(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Vec<view::ReviewLine>>, Problem> {
    let Query(filter) = filter.map_err(|_| Problem::bad("the query has state"))?;
    let parse = |word: String| ReviewState::parse(&word).ok_or_else(|| Problem::bad("there is no such state"));
    let state = filter.state.map(parse).transpose()?;
    let lines = desk.catalog.list_reviews(state, LISTED_MAX).await.map_err(|error| Problem::catalog(&error))?;
    let shown = |line: ReviewLine| {
        let review = without_text(&line);
        let (subject, _) = caller.at(&desk, &review.resource)?;
        may_see(&caller, &subject, &review)?;
        let yours = review.needed.iter().any(|rule| may_answer(&caller, &subject, &review, rule));
        Some(view::ReviewLine {
            id: line.id.to_string(),
            state: line.state.as_str().to_owned(),
            resource: line.resource.to_string(),
            chain: view::Chain::of(&line.chain),
            needed: line.needed,
            summary: line.summary,
            bytes: line.bytes,
            approvals: line.approvals,
            asked_at: line.asked_at.to_string(),
            expires_at: line.expires_at.to_string(),
            yours,
        })
    };
    Ok(Json(lines.into_iter().filter_map(shown).collect()))
}

/// Shows a review with the complete command. That somebody looked is on disk before they see it.
pub(crate) async fn show(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
) -> Result<Json<view::Review>, Problem> {
    let (review, subject) = find(&desk, &caller, &id).await?;
    record::view(&desk, &caller.identity.chain, "review", review.session).await?;
    let denial = desk.catalog.denial(review.id).await.map_err(|error| Problem::catalog(&error))?;
    let mut shown = full(&caller, &subject, &review, denial);
    // Of a masked text the salt would tell who guesses well what was masked.
    if matches!(review.state, ReviewState::Pending | ReviewState::Approved) {
        shown.salt = Digest((desk.command_salt)(&review.chain)).to_string();
    }
    Ok(Json(shown))
}

/// A reviewer's yes under one review rule.
pub(crate) async fn approve(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Decided>, Problem> {
    let (review, subject) = find(&desk, &caller, &id).await?;
    let session = review.session;
    let answered = yes(&desk, &caller, (review, &subject), body).await;
    if let Err(problem) = &answered
        && problem.is_refusal()
    {
        record::refused(&desk, session);
    }
    answered
}

async fn yes(
    desk: &Desk,
    caller: &Caller,
    (review, subject): (Review, &Subject),
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Decided>, Problem> {
    let asked: view::Approve = read(body)?;
    caller.may_change()?;
    let mut approval = approval(desk, caller, &asked).await?;
    // The reasons of `check` are for people; the door is `authorize_api`, which knows whether they are reviewers.
    check(&review, &approval, &caller.rules, caller.now).map_err(|error| Problem::approval(&error))?;
    let action = ApiAction::DecideReview(&review, &approval.rule);
    let authorized =
        authorize_api(subject, action, review.id, &caller.rules, caller.now).map_err(|_| refused(caller, &review))?;
    let answered = |other: &Approval| {
        other.rule == approval.rule
            && (&other.reviewer.issuer, &other.reviewer.subject)
                == (&approval.reviewer.issuer, &approval.reviewer.subject)
    };
    if review.approvals.iter().any(answered) {
        return Err(Problem::conflict("you have approved this already"));
    }
    let entry = decide(desk, caller, &review, &approval, true).await?;
    approval.entry = Some(entry);
    let id = authorized.into_inner();
    let failed = |error| Problem::catalog(&error);
    let review = desk.catalog.add_approval(id, &approval).await.map_err(failed)?;
    let mut state = review.state;
    if review.needed.iter().all(|rule| has_quorum(&review, rule, &caller.rules, caller.now)) {
        let moved = desk.catalog.set_state(id, ReviewState::Pending, ReviewState::Approved, caller.now).await;
        // Of two last approvals at once, one moves it; a client that waited may have used it by now.
        let after =
            if moved.map_err(failed)? { Some(review) } else { desk.catalog.review(id).await.map_err(failed)? };
        state = match after.map(|review| review.state) {
            Some(ReviewState::Pending | ReviewState::Approved | ReviewState::Used) => ReviewState::Approved,
            _ => return Err(Problem::conflict("the review ended in the meantime")),
        };
    }
    Ok(Json(decided(id, state, approval.assurance, entry)))
}

/// A reviewer's no, which ends the review.
pub(crate) async fn deny(
    State(desk): State<Arc<Desk>>,
    Extension(caller): Extension<Caller>,
    PathId(id): PathId,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<view::Decided>, Problem> {
    let (review, subject) = find(&desk, &caller, &id).await?;
    let view::Deny { rule, reason } = read(body)?;
    if reason.len() > REASON_BYTES_MAX {
        return Err(Problem::bad("the reason is longer than 4096 bytes"));
    }
    caller.may_change()?;
    let asked = |name: &&String| rule.as_ref().is_none_or(|rule| rule == *name);
    let mut answerable = review.needed.iter().filter(asked);
    let rule = answerable.find(|rule| may_answer(&caller, &subject, &review, rule));
    let rule = rule.ok_or_else(|| refused(&caller, &review))?.clone();
    let action = ApiAction::DecideReview(&review, &rule);
    let authorized =
        authorize_api(&subject, action, review.id, &caller.rules, caller.now).map_err(|_| refused(&caller, &review))?;
    let no = plain(&caller, rule);
    let entry = decide(&desk, &caller, &review, &no, false).await?;
    let id = authorized.into_inner();
    let denied = desk.catalog.deny(id, &no.reviewer, &reason, caller.now).await;
    let review = denied.map_err(|error| Problem::catalog(&error))?;
    Ok(Json(decided(id, review.state, no.assurance, entry)))
}

/// The review, if the caller may see it.
async fn find(desk: &Desk, caller: &Caller, id: &str) -> Result<(Review, Subject), Problem> {
    let id = ReviewId::parse(id).ok_or_else(Problem::absent)?;
    let review = desk.catalog.review(id).await.map_err(|error| Problem::catalog(&error))?;
    let review = review.ok_or_else(Problem::absent)?;
    let (subject, _) = caller.at(desk, &review.resource).ok_or_else(Problem::absent)?;
    may_see(caller, &subject, &review).ok_or_else(Problem::absent)?;
    Ok((review, subject))
}

fn may_see(caller: &Caller, subject: &Subject, review: &Review) -> Option<()> {
    authorize_api(subject, ApiAction::ShowReview(review), (), &caller.rules, caller.now).ok()?;
    Some(())
}

fn may_answer(caller: &Caller, subject: &Subject, review: &Review, rule: &str) -> bool {
    let action = ApiAction::DecideReview(review, rule);
    !caller.identity.read_only && authorize_api(subject, action, (), &caller.rules, caller.now).is_ok()
}

/// Why somebody who sees the review does not decide it.
fn refused(caller: &Caller, review: &Review) -> Problem {
    let chain = &caller.identity.chain;
    if review.state != ReviewState::Pending {
        return Problem::conflict(format!("the review is {}", review.state.as_str()));
    }
    if caller.now >= review.expires_at {
        return Problem::conflict("the review's time is over");
    }
    if review.chain.involves(&chain.principal.issuer, &chain.principal.subject) {
        return Problem::forbidden("nobody decides on their own request, nor on that of an agent of theirs");
    }
    if !chain.actors.is_empty() {
        return Problem::forbidden("reviews are decided in person, not by an agent");
    }
    Problem::forbidden("you are not a reviewer under this rule")
}

pub(crate) fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB"),
        _ => Problem::bad("the body cannot be read"),
    })?;
    serde_json::from_slice(&body).map_err(|_| Problem::bad("the body is not the JSON that this endpoint takes"))
}

/// The approval that the caller asks to give. Its key is one that is enrolled for the caller.
async fn approval(desk: &Desk, caller: &Caller, asked: &view::Approve) -> Result<Approval, Problem> {
    let mut approval = plain(caller, asked.rule.clone());
    match (asked.assurance.as_str(), &asked.key, &asked.signature) {
        ("clicked", None, None) => return Ok(approval),
        ("clicked", ..) => return Err(Problem::bad("a clicked approval has neither key nor signature")),
        ("signed", Some(key), Some(signature)) => {
            let person = &approval.reviewer;
            let enrolled = desk.catalog.reviewer_keys(&person.issuer, &person.subject).await;
            let enrolled = enrolled.map_err(|error| Problem::catalog(&error))?;
            let same = enrolled.into_iter().find(|known| blob(&known.line).is_some() && blob(&known.line) == blob(key));
            let missing =
                || Problem::forbidden("this key is not enrolled for you").hint("ask the operator to enrol it");
            approval.key = Some(same.ok_or_else(missing)?.line);
            approval.signature = Some(signature.clone());
        }
        ("signed", ..) => return Err(Problem::bad("a signed approval has a key and a signature")),
        ("stepped-up", ..) => return Err(Problem::bad("stepped-up approvals are not supported yet")),
        _ => return Err(Problem::bad("the assurance is signed or clicked")),
    }
    approval.assurance = Assurance::Signed;
    Ok(approval)
}

fn plain(caller: &Caller, rule: String) -> Approval {
    let reviewer = caller.identity.chain.principal.clone();
    Approval { rule, reviewer, assurance: Assurance::Clicked, key: None, signature: None, at: caller.now, entry: None }
}

/// Algorithm and key of a public key line; the comment does not count.
fn blob(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_ascii_whitespace();
    Some((words.next()?, words.next()?))
}

/// Writes the answer down and returns its entry once it is on disk.
async fn decide(
    desk: &Desk,
    caller: &Caller,
    review: &Review,
    answer: &Approval,
    approved: bool,
) -> Result<EntryRef, Problem> {
    let by = record::chain_id(desk, &caller.identity.chain).await?;
    let signature = answer.signature.as_ref().map(|signature| {
        let mut value = Digest::default();
        value.0.copy_from_slice(digest(&SHA256, signature.as_bytes()).as_ref());
        value
    });
    let entry = ApprovalDecide {
        review: review.id,
        by,
        approved,
        rule: &answer.rule,
        assurance: answer.assurance,
        digest: review.digest,
        signature,
    };
    record::record(desk, &Entry::ApprovalDecide(entry)).await
}

fn decided(id: ReviewId, state: ReviewState, assurance: Assurance, entry: EntryRef) -> view::Decided {
    let (state, assurance) = (state.as_str().to_owned(), assurance.as_str().to_owned());
    view::Decided { id: id.to_string(), state, assurance, entry: entry.index }
}

/// A review as far as judging who may see it goes.
fn without_text(line: &ReviewLine) -> Review {
    Review {
        id: line.id,
        session: line.session,
        command: line.command,
        resource: line.resource.clone(),
        chain: line.chain.clone(),
        digest: line.digest,
        rules: Digest::default(),
        needed: line.needed.clone(),
        text: String::new(),
        parameters: Vec::new(),
        summary: String::new(),
        asked_at: line.asked_at,
        expires_at: line.expires_at,
        uses: line.uses,
        state: line.state,
        approvals: Vec::new(),
    }
}

fn full(caller: &Caller, subject: &Subject, review: &Review, denial: Option<chancery_store::Denial>) -> view::Review {
    let needed = |name: &String| {
        let rule = caller.rules.review(name);
        let yours = may_answer(caller, subject, review, name);
        view::Needed {
            rule: name.clone(),
            quorum: rule.map_or(0, |rule| rule.quorum),
            assurance: rule.map(|rule| rule.assurance.as_str().to_owned()),
            yours,
            payload: yours.then(|| STANDARD.encode(payload(review, name))),
        }
    };
    let approval = |approval: &Approval| view::Approval {
        rule: approval.rule.clone(),
        reviewer: view::Party::principal(&approval.reviewer),
        assurance: approval.assurance.as_str().to_owned(),
        at: approval.at.to_string(),
    };
    view::Review {
        id: review.id.to_string(),
        state: review.state.as_str().to_owned(),
        session: review.session.to_string(),
        command: review.command.0,
        resource: review.resource.to_string(),
        chain: view::Chain::of(&review.chain),
        digest: review.digest.to_string(),
        salt: String::new(),
        rules: review.rules.to_string(),
        text: review.text.clone(),
        parameters: review.parameters.clone(),
        summary: review.summary.clone(),
        asked_at: review.asked_at.to_string(),
        expires_at: review.expires_at.to_string(),
        expires_at_micros: review.expires_at.0,
        uses: review.uses,
        needed: review.needed.iter().map(needed).collect(),
        approvals: review.approvals.iter().map(approval).collect(),
        denial: denial.map(|no| view::Denial {
            by: view::Party::principal(&no.by),
            reason: no.reason,
            at: no.at.to_string(),
        }),
    }
}
