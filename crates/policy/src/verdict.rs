//! The three answers, and what each proves.

use std::fmt;
use std::sync::Arc;

use chancery_model::{Action, Digest, Need, Refusal, RefusalCode, ReviewId, RuleId, Timestamp};

use crate::decide::Asked;
use crate::rules::RuleSet;
use crate::scope::Scope;

/// The answer to a request.
#[derive(Debug)]
pub enum Verdict {
    /// It may be forwarded.
    Allow(Permit),
    /// It may not.
    Deny(Denial),
    /// It waits for reviewers.
    Hold(Hold),
}

/// Proof of an allowing verdict for one command digest. It cannot be copied; forwarding uses it up.
#[derive(Debug)]
pub struct Permit {
    pub(crate) digest: Digest,
    pub(crate) rules: Arc<[RuleId]>,
    pub(crate) ruleset: Digest,
    pub(crate) review: Option<ReviewId>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) repeatable: bool,
    pub(crate) scope: Scope,
}

impl Permit {
    /// The digest of the command it is for.
    pub fn digest(&self) -> Digest {
        self.digest
    }
    /// The permits that determined it, sorted.
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }
    /// The rule set that decided.
    pub fn ruleset(&self) -> Digest {
        self.ruleset
    }
    /// The review that released it.
    pub fn review(&self) -> Option<ReviewId> {
        self.review
    }
    /// When the access that it grants ends: for a `connect` released by a review rule with `lasts`.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }
    /// Proof that the same facts and needs, asked by the same subject under the same rules, are permitted again.
    /// `None` if the decision hung on the clock or on a review.
    pub fn standing(&self) -> Option<Standing> {
        self.repeatable.then(|| Standing { rules: Arc::clone(&self.rules), ruleset: self.ruleset })
    }
}

/// Proof that equal facts and needs of one subject are permitted for as long as the rule set stays. The key under
/// which it is kept must include everything that the facts and needs came from (`Facts::literal_free` says whether
/// the literals of the text belong to that).
#[derive(Clone, Debug)]
pub struct Standing {
    rules: Arc<[RuleId]>,
    ruleset: Digest,
}

impl Standing {
    /// A permit for another command of the same shape. `None` if the rules changed.
    pub fn permit(&self, rules: &RuleSet, digest: Digest) -> Option<Permit> {
        (rules.digest() == self.ruleset).then(|| Permit {
            digest,
            rules: Arc::clone(&self.rules),
            ruleset: self.ruleset,
            review: None,
            until: None,
            repeatable: true,
            scope: Scope::Run,
        })
    }
}

/// Why something is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No rule permits it.
    NoRulePermits,
    /// A rule forbids it.
    Forbidden,
    /// A rule could not be evaluated.
    EvaluationError,
    /// What is asked cannot be read, or does not say on what it acts.
    Unreadable,
    /// The rules changed since the subject was made or the command was held.
    RulesChanged,
    /// The review does not release it.
    Review(ReviewFault),
}

/// Why a review does not release a held command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReviewFault {
    /// Not decided yet.
    Pending,
    /// A reviewer said no.
    Denied,
    /// Its time is over.
    Expired,
    /// It was withdrawn.
    Withdrawn,
    /// It was used up.
    Used,
    /// It is about another command, chain or resource.
    Other,
    /// Too few valid approvals under this review rule.
    Quorum(String),
}

/// A denying verdict.
#[derive(Clone, Debug)]
pub struct Denial {
    pub(crate) rules: Vec<RuleId>,
    pub(crate) why: Why,
    pub(crate) need: Option<Box<Need>>,
    pub(crate) ruleset: Digest,
}

impl Denial {
    pub(crate) fn new(why: Why, ruleset: Digest) -> Self {
        Self { rules: Vec::new(), why, need: None, ruleset }
    }
    /// The rules that forbid, or failed; empty where none permits.
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }
    /// Why.
    pub fn why(&self) -> &Why {
        &self.why
    }
    /// The first need that does not pass.
    pub fn need(&self) -> Option<&Need> {
        self.need.as_deref()
    }
    /// The rule set that decided.
    pub fn ruleset(&self) -> Digest {
        self.ruleset
    }
    /// What the client may read.
    pub fn refusal(&self, reference: impl Into<String>) -> Refusal {
        let refusal = Refusal::new(self.code(), self.to_string(), reference);
        match &self.why {
            Why::NoRulePermits | Why::Forbidden => refusal.hint("ask the operator, and give the reference"),
            Why::EvaluationError => refusal.hint("tell the operator: a rule fails; give the reference"),
            Why::RulesChanged | Why::Review(_) => refusal.hint("ask again"),
            Why::Unreadable => refusal,
        }
    }
    fn code(&self) -> RefusalCode {
        match &self.why {
            Why::NoRulePermits | Why::Forbidden | Why::EvaluationError | Why::RulesChanged => RefusalCode::Denied,
            Why::Unreadable => RefusalCode::Unreadable,
            Why::Review(ReviewFault::Expired) => RefusalCode::ReviewExpired,
            Why::Review(ReviewFault::Pending) => RefusalCode::ReviewPending,
            Why::Review(_) => RefusalCode::ReviewDenied,
        }
    }
}

/// A sentence for clients. It tells what was asked, never what exists.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = match self.need.as_ref().map(|need| need.action) {
            Some(Action::Connect) | None => "this",
            Some(action) => action.as_str(),
        };
        match &self.why {
            Why::NoRulePermits => write!(f, "no rule permits {asked} here"),
            Why::Forbidden => match self.rules.first() {
                Some(rule) => write!(f, "the rule {rule} forbids {asked} here"),
                None => write!(f, "a rule forbids {asked} here"),
            },
            Why::EvaluationError => f.write_str("a rule could not be evaluated, so the answer is no"),
            Why::Unreadable => f.write_str("this cannot be read with certainty, so the answer is no"),
            Why::RulesChanged => f.write_str("the rules changed in the meantime"),
            Why::Review(fault) => match fault {
                ReviewFault::Pending => f.write_str("the review is not decided yet"),
                ReviewFault::Denied => f.write_str("a reviewer said no"),
                ReviewFault::Expired => f.write_str("nobody approved in time"),
                ReviewFault::Withdrawn => f.write_str("the review was withdrawn"),
                ReviewFault::Used => f.write_str("the approval was used already"),
                ReviewFault::Other => f.write_str("the review is about another command"),
                ReviewFault::Quorum(rule) => write!(f, "the review rule {rule} lacks valid approvals"),
            },
        }
    }
}

/// A command that passes as soon as reviewers approve. It owns what is needed to decide again.
#[derive(Debug)]
pub struct Hold {
    pub(crate) needed: Vec<String>,
    pub(crate) denial: Denial,
    pub(crate) asked: Asked,
}

impl Hold {
    /// The smallest set of review rules that must approve, sorted.
    pub fn needed(&self) -> &[String] {
        &self.needed
    }
    /// The digest of the held command.
    pub fn digest(&self) -> Digest {
        self.asked.digest
    }
    /// The rules that forbid it as it stands; empty where none permits yet.
    pub fn rules(&self) -> &[RuleId] {
        &self.denial.rules
    }
    /// Why it does not pass as it stands.
    pub fn why(&self) -> &Why {
        &self.denial.why
    }
    /// The rule set that decided.
    pub fn ruleset(&self) -> Digest {
        self.denial.ruleset
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waits for the review of: {}", self.needed.join(", "))
    }
}
