//! Approvals: what a reviewer signs, and when an approval counts.

use std::collections::BTreeSet;
use std::fmt;

use chancery_model::{Approval, Assurance, Review, ReviewState, Timestamp};

use crate::rules::RuleSet;
pub use crate::sshsig::{SignatureError, verify_sshsig};

/// The SSHSIG namespace of approvals: `ssh-keygen -Y sign -n chancery-approval@v1`.
pub const NAMESPACE: &str = "chancery-approval@v1";

/// Answers kept with one review; far more than any quorum.
const APPROVALS_MAX: usize = 1_024;

/// Why an approval does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApprovalError {
    /// The review is over.
    NotOpen(ReviewState),
    /// The review's time is over, or the approval lies outside it.
    Expired,
    /// The rules changed since the command was held.
    RulesChanged,
    /// The review does not need this review rule, or it is not defined.
    NotNeeded,
    /// The reviewer asked for it, or is in the chain that did.
    OwnRequest,
    /// Not a reviewer of this rule.
    NotAReviewer,
    /// The assurance is weaker than the rule demands.
    TooWeak {
        /// What the rule demands.
        required: Assurance,
    },
    /// It says to be signed, but the key or the signature is not there.
    Unsigned,
    /// The signature does not hold.
    Signature(SignatureError),
}

impl fmt::Display for ApprovalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen(state) => write!(f, "the review is {}", state.as_str()),
            Self::Expired => f.write_str("the review's time is over"),
            Self::RulesChanged => f.write_str("the rules changed since the command was held"),
            Self::NotNeeded => f.write_str("the review does not need an approval under this rule"),
            Self::OwnRequest => f.write_str("nobody approves their own request, nor that of an agent of theirs"),
            Self::NotAReviewer => f.write_str("not a reviewer under this rule"),
            Self::TooWeak { required } => write!(f, "the rule demands an approval that is {}", required.as_str()),
            Self::Unsigned => f.write_str("the signature or its key is missing"),
            Self::Signature(error) => write!(f, "the signature does not hold: {error}"),
        }
    }
}

impl std::error::Error for ApprovalError {}

/// The bytes that a reviewer signs to approve `review` under the review rule `rule`: the words
/// `chancery/approval/1` and `approve`, review id, command digest, rule name, rule-set digest, expiry (microseconds),
/// uses and resource name; each after its length as eight bytes big endian, numbers as eight bytes big endian.
pub fn payload(review: &Review, rule: &str) -> Vec<u8> {
    let expires = review.expires_at.0.to_be_bytes();
    let uses = u64::from(review.uses).to_be_bytes();
    let fields: [&[u8]; 9] = [
        b"chancery/approval/1",
        b"approve",
        &review.id.0,
        &review.digest.0,
        rule.as_bytes(),
        &review.rules.0,
        &expires,
        &uses,
        review.resource.as_str().as_bytes(),
    ];
    let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len() + 8).sum());
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

/// Whether an approval counts for a review that is pending or approved.
///
/// # Errors
/// The first reason why it does not.
pub fn check(review: &Review, approval: &Approval, rules: &RuleSet, now: Timestamp) -> Result<(), ApprovalError> {
    if !matches!(review.state, ReviewState::Pending | ReviewState::Approved) {
        return Err(ApprovalError::NotOpen(review.state));
    }
    if now >= review.expires_at || approval.at < review.asked_at || approval.at >= review.expires_at {
        return Err(ApprovalError::Expired);
    }
    if review.rules != rules.digest() {
        return Err(ApprovalError::RulesChanged);
    }
    let rule = rules.review(&approval.rule).filter(|rule| review.needed.contains(&rule.name));
    let rule = rule.ok_or(ApprovalError::NotNeeded)?;
    let reviewer = &approval.reviewer;
    if review.chain.involves(&reviewer.issuer, &reviewer.subject) {
        return Err(ApprovalError::OwnRequest);
    }
    if !rules.is_reviewer(rule, reviewer) {
        return Err(ApprovalError::NotAReviewer);
    }
    if approval.assurance < rule.assurance {
        return Err(ApprovalError::TooWeak { required: rule.assurance });
    }
    // A claim of a signature is checked even where the rule would be content with less.
    if approval.assurance == Assurance::Signed || approval.signature.is_some() {
        let (Some(key), Some(signature)) = (&approval.key, &approval.signature) else {
            return Err(ApprovalError::Unsigned);
        };
        verify_sshsig(signature, key, NAMESPACE, &payload(review, &rule.name)).map_err(ApprovalError::Signature)?;
    }
    Ok(())
}

/// Whether enough distinct people approved under this review rule; for whoever turns a pending review into an
/// approved one. Approvals that do not count are passed over.
pub fn has_quorum(review: &Review, rule: &str, rules: &RuleSet, now: Timestamp) -> bool {
    let Some(defined) = rules.review(rule) else { return false };
    let people: BTreeSet<(&str, &str)> = review
        .approvals
        .iter()
        .take(APPROVALS_MAX)
        .filter(|approval| approval.rule == rule && check(review, approval, rules, now).is_ok())
        .map(|approval| (approval.reviewer.issuer.as_str(), approval.reviewer.subject.as_str()))
        .collect();
    defined.quorum > 0 && people.len() >= defined.quorum as usize
}
