//! Who may do what through the API and the console.
//!
//! A chain sees its own sessions and reviews and those of its own agents; everything else needs the rules' word:
//! `administer` on the resource, with the API's word in `context.api`. Deciding a review needs to be a reviewer in
//! person, whatever the rules permit.

use chancery_model::{Action, Delegation, Review, ReviewState, Timestamp};

use crate::context::{Matter, build};
use crate::decide::evaluate;
use crate::rules::RuleSet;
use crate::subject::Subject;
use crate::verdict::{Denial, Why};

/// What is asked of the API. The chain in it is that of the session or review it is about.
#[derive(Clone, Copy, Debug)]
pub enum ApiAction<'a> {
    /// See everybody's sessions of the resource listed.
    ListSessions,
    /// See a session's facts.
    ShowSession(&'a Delegation),
    /// Play a session back or watch it live.
    Replay(&'a Delegation),
    /// Ask for a session's sealed originals. Nobody may by right: they are what was masked from the session's own chain.
    RequestUnseal,
    /// End a session.
    EndSession(&'a Delegation),
    /// See a review with the complete command; lists show only reviews that pass this.
    ShowReview(&'a Review),
    /// Approve or deny a review under the review rule of this name.
    DecideReview(&'a Review, &'a str),
}

impl ApiAction<'_> {
    /// The word that `context.api` holds.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ListSessions => "list-sessions",
            Self::ShowSession(_) => "show-session",
            Self::Replay(_) => "replay",
            Self::RequestUnseal => "request-unseal",
            Self::EndSession(_) => "end-session",
            Self::ShowReview(_) => "show-review",
            Self::DecideReview(..) => "decide-review",
        }
    }
}

/// Something that the API may act upon or show, because the rules say so.
#[derive(Debug)]
pub struct Authorized<T> {
    subject: T,
    basis: Vec<chancery_model::RuleId>,
}

impl<T> Authorized<T> {
    /// What it is.
    pub fn get(&self) -> &T {
        &self.subject
    }
    /// Takes it out.
    pub fn into_inner(self) -> T {
        self.subject
    }
    /// The rules that permitted it; empty where it is the caller's own, or the caller is its reviewer.
    pub fn rules(&self) -> &[chancery_model::RuleId] {
        &self.basis
    }
}

/// Lets `thing` through if the caller may do this to it. The caller is a `Subject` made for the resource that it is
/// about.
///
/// # Errors
/// A denial; to the caller it should read the same as "there is no such thing".
pub fn authorize_api<T>(
    caller: &Subject,
    action: ApiAction<'_>,
    thing: T,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Authorized<T>, Denial> {
    let own = |basis| Authorized { subject: thing, basis };
    if caller.rules() != rules.digest() {
        return Err(Denial::new(Why::RulesChanged, rules.digest()));
    }
    let by_right = match action {
        ApiAction::ListSessions | ApiAction::RequestUnseal => false,
        ApiAction::ShowSession(chain) | ApiAction::Replay(chain) | ApiAction::EndSession(chain) => {
            is_at_or_above(caller.chain(), chain)
        }
        ApiAction::ShowReview(review) => {
            on_its_resource(caller, review)
                && (is_at_or_above(caller.chain(), &review.chain)
                    || review.needed.iter().any(|name| reviews(caller, review, name, rules)))
        }
        ApiAction::DecideReview(review, name) => {
            let may = on_its_resource(caller, review)
                && review.state == ReviewState::Pending
                && now < review.expires_at
                && reviews(caller, review, name, rules);
            return if may { Ok(own(Vec::new())) } else { Err(Denial::new(Why::NoRulePermits, rules.digest())) };
        }
    };
    if by_right {
        return Ok(own(Vec::new()));
    }
    if let ApiAction::ShowReview(review) = action
        && !on_its_resource(caller, review)
    {
        return Err(Denial::new(Why::NoRulePermits, rules.digest()));
    }
    administer(caller, action.as_str(), rules, now).map(own)
}

fn administer(
    caller: &Subject,
    word: &str,
    rules: &RuleSet,
    now: Timestamp,
) -> Result<Vec<chancery_model::RuleId>, Denial> {
    let deny = |why| Denial::new(why, rules.digest());
    let (object, entities) = caller.0.whole(rules).ok_or_else(|| deny(Why::EvaluationError))?;
    let context = build(&caller.0, Matter::Api(word), [], now).ok_or_else(|| deny(Why::EvaluationError))?;
    let mut basis = Vec::new();
    for link in &caller.0.links {
        match evaluate(rules, Action::Administer, link, &object, &context, &entities) {
            Ok(ids) => basis.extend(ids),
            Err((why, ids)) => return Err(Denial { rules: ids, ..deny(why) }),
        }
    }
    basis.sort();
    basis.dedup();
    Ok(basis)
}

fn on_its_resource(caller: &Subject, review: &Review) -> bool {
    caller.resource().name == review.resource
}

/// In person (an agent never reviews for its principal), named by the rule, and no part of the asking chain.
fn reviews(caller: &Subject, review: &Review, name: &str, rules: &RuleSet) -> bool {
    let person = &caller.chain().principal;
    caller.chain().actors.is_empty()
        && !review.chain.involves(&person.issuer, &person.subject)
        && review.needed.iter().any(|needed| needed == name)
        && rules.review(name).is_some_and(|rule| rules.is_reviewer(rule, person))
}

/// Whether `chain` is `caller` or was delegated by it. Groups may have changed since; identity is issuer and subject.
fn is_at_or_above(caller: &Delegation, chain: &Delegation) -> bool {
    caller.principal.issuer == chain.principal.issuer
        && caller.principal.subject == chain.principal.subject
        && caller.principal.kind == chain.principal.kind
        && chain.actors.starts_with(&caller.actors)
}
