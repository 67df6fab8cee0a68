//! A held command before its reviewers, and their answers.

use crate::{CommandId, Delegation, Digest, EntryRef, Principal, ResourceName, ReviewId, SessionId, Timestamp};

/// How strongly an approval is bound to a human.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assurance {
    /// The server says that somebody logged in said yes.
    Clicked,
    /// The same, after a fresh login.
    SteppedUp,
    /// A key held by the reviewer signed the digest.
    Signed,
}

impl Assurance {
    /// `clicked`, `stepped-up`, `signed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clicked => "clicked",
            Self::SteppedUp => "stepped-up",
            Self::Signed => "signed",
        }
    }
}

/// Where a review stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReviewState {
    /// Waiting for reviewers.
    Pending,
    /// Enough approvals; not yet used.
    Approved,
    /// A reviewer said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The client cancelled, left, or the gateway restarted.
    Withdrawn,
    /// The approval was used up by an execution.
    Used,
}

impl ReviewState {
    /// Lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Used => "used",
        }
    }
    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Approved, Self::Denied, Self::Expired, Self::Withdrawn, Self::Used]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// A held command before its reviewers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// Its id.
    pub id: ReviewId,
    /// Which session and command asked.
    pub session: SessionId,
    /// The command's number there.
    pub command: CommandId,
    /// The resource.
    pub resource: ResourceName,
    /// The whole chain that asked.
    pub chain: Delegation,
    /// Digest over command bytes, parameters, resource, chain and rule set; what approvals bind to.
    pub digest: Digest,
    /// The rule set under which it was held.
    pub rules: Digest,
    /// Names of the review rules that are needed, sorted.
    pub needed: Vec<String>,
    /// The complete command, for the reviewers to read (never cut).
    pub text: String,
    /// Parameters as readable text, one a line; empty if none.
    pub parameters: Vec<String>,
    /// Why it was held, and what is known of it, for people.
    pub summary: String,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When the request ends.
    pub expires_at: Timestamp,
    /// How many executions an approval covers; 1.
    pub uses: u32,
    /// Where it stands.
    pub state: ReviewState,
    /// The answers so far.
    pub approvals: Vec<Approval>,
}

/// A reviewer's yes. (A no ends the review and stands in its state and entry.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Which of the needed review rules it answers.
    pub rule: String,
    /// Who, proven by their own token.
    pub reviewer: Principal,
    /// How strongly.
    pub assurance: Assurance,
    /// The OpenSSH public key (`ssh-ed25519 AAAA…`) that was enrolled for the reviewer, where signed.
    pub key: Option<String>,
    /// The armoured SSHSIG over `Review::signing payload`, where signed.
    pub signature: Option<String>,
    /// When.
    pub at: Timestamp,
    /// The entry in which it stands, once it does.
    pub entry: Option<EntryRef>,
}
