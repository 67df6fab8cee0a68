//! What the API says and hears, version 1. Separate from the words of the house on purpose: these forms are promised to
//! clients, those are not. Unknown members are ignored by readers, and refused in requests.

use chancery_model::{Actor, Delegation, Principal, PrincipalKind};
use serde::{Deserialize, Serialize};

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// `about:blank`: the status says it all.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A principal or an actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Issuer's URL.
    pub issuer: String,
    /// Subject at that issuer.
    pub subject: String,
    /// `user`, `service` or `agent`.
    pub kind: String,
    /// For people to read; carries no authority.
    pub display: String,
}

impl Party {
    pub(crate) fn principal(principal: &Principal) -> Self {
        Self {
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            kind: kind(principal.kind).to_owned(),
            display: principal.display.clone(),
        }
    }
    fn actor(actor: &Actor) -> Self {
        Self {
            issuer: actor.issuer.clone(),
            subject: actor.subject.clone(),
            kind: kind(actor.kind).to_owned(),
            display: actor.subject.clone(),
        }
    }
}

fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
        PrincipalKind::Agent => "agent",
    }
}

/// The principal and, in order, everybody it was handed down to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// On whose behalf.
    pub principal: Party,
    /// From the first to whom it was delegated to the one on the wire.
    pub actors: Vec<Party>,
    /// The principal's groups, sorted; part of what a command's digest is over.
    pub groups: Vec<String>,
    /// The same for people: `alice → report-agent → sql-helper`.
    pub text: String,
}

impl Chain {
    pub(crate) fn of(chain: &Delegation) -> Self {
        Self {
            principal: Party::principal(&chain.principal),
            actors: chain.actors.iter().map(Party::actor).collect(),
            groups: chain.principal.groups.clone(),
            text: chain.to_string(),
        }
    }
}

/// `GET /api/v1/whoami`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Whoami {
    /// Who asks.
    pub chain: Chain,
    /// How it was proven.
    pub method: String,
    /// When the token ends.
    pub expires_at: String,
    /// The only resources that the token is for; absent: no such limit.
    pub resources: Option<Vec<String>>,
    /// Whether the token is for reading only.
    pub read_only: bool,
}

/// A resource that the caller may reach. `GET /api/v1/resources` answers with a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// The protocol's word.
    pub protocol: String,
    /// Where clients connect; empty: the host of the API.
    pub host: String,
    /// And on which port.
    pub port: u16,
    /// What clients name as the database.
    pub database: String,
    /// Whether clients must use TLS.
    pub tls: bool,
    /// Labels from the configuration.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Review rules that a session needs before it opens; empty: none.
    pub needs: Vec<String>,
}

/// A review in a list. `GET /api/v1/reviews` answers with a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReviewLine {
    /// Its id.
    pub id: String,
    /// Where it stands: `pending`, `approved`, `denied`, `expired`, `withdrawn`, `used`.
    pub state: String,
    /// The resource.
    pub resource: String,
    /// Who asks.
    pub chain: Chain,
    /// The review rules needed.
    pub needed: Vec<String>,
    /// Why it was held. The command itself stands in the review.
    pub summary: String,
    /// Length of the command and its parameters, bytes.
    pub bytes: u64,
    /// Answers so far.
    pub approvals: u64,
    /// When it was asked.
    pub asked_at: String,
    /// When the request ends.
    pub expires_at: String,
    /// Whether the caller may answer it.
    pub yours: bool,
}

/// `GET /api/v1/reviews/{id}`. Texts are as they came: whoever shows them escapes them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Review {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: String,
    /// The session that asked.
    pub session: String,
    /// The command's number there.
    pub command: u64,
    /// The resource.
    pub resource: String,
    /// Who asks.
    pub chain: Chain,
    /// What approvals bind to: hexadecimal SHA-256 over command, parameters, resource, chain and rules.
    pub digest: String,
    /// The salt of that digest, hexadecimal, as long as the text is complete; else empty.
    pub salt: String,
    /// The rule set under which it was held, hexadecimal.
    pub rules: String,
    /// The complete command; after the review ended, its masked form.
    pub text: String,
    /// Parameters, one each.
    pub parameters: Vec<String>,
    /// Why it was held, and what is known of it.
    pub summary: String,
    /// When it was asked.
    pub asked_at: String,
    /// When the request ends.
    pub expires_at: String,
    /// The same in microseconds since 1970, as it stands in what reviewers sign.
    pub expires_at_micros: i64,
    /// Executions that an approval covers.
    pub uses: u32,
    /// What is needed.
    pub needed: Vec<Needed>,
    /// The answers so far.
    pub approvals: Vec<Approval>,
    /// The reviewer's no, if there is one.
    pub denial: Option<Denial>,
}

/// A review rule that a review needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Needed {
    /// Its name.
    pub rule: String,
    /// How many distinct people must approve; 0: the rule is no longer defined.
    pub quorum: u32,
    /// The weakest assurance that counts.
    pub assurance: Option<String>,
    /// Whether the caller may answer it now.
    pub yours: bool,
    /// Base64 of what a signature is over, where the caller may answer.
    pub payload: Option<String>,
}

/// A reviewer's yes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Approval {
    /// Under which review rule.
    pub rule: String,
    /// Whose.
    pub reviewer: Party,
    /// `clicked`, `stepped-up` or `signed`.
    pub assurance: String,
    /// When.
    pub at: String,
}

/// A reviewer's no.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Denial {
    /// Whose.
    pub by: Party,
    /// In their words.
    pub reason: String,
    /// When.
    pub at: String,
}

/// What `POST /api/v1/reviews/{id}/approve` hears. It answers with a [`Decided`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// Under which review rule.
    pub rule: String,
    /// `signed` or `clicked`.
    pub assurance: String,
    /// The OpenSSH public key (`ssh-ed25519 AAAA…`), where signed; it must be enrolled for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The armoured SSHSIG, where signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What `POST /api/v1/reviews/{id}/deny` hears. It answers with a [`Decided`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deny {
    /// Under which review rule; absent: the first that the caller may answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why, for the one who asked and for the auditor.
    pub reason: String,
}

/// Where a review stands after an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// The review.
    pub id: String,
    /// Where it stands now.
    pub state: String,
    /// The assurance that was recorded.
    pub assurance: String,
    /// Index of the ledger entry.
    pub entry: u64,
}

/// A session. `GET /api/v1/sessions` answers with a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// What it uses.
    pub resource: String,
    /// Who uses it.
    pub chain: Chain,
    /// The client's address.
    pub client: String,
    /// When it began.
    pub started_at: String,
    /// When it ended; absent while it is open.
    pub ended_at: Option<String>,
    /// One word for how.
    pub ending: Option<String>,
    /// Commands so far.
    pub commands: u64,
}

/// What `POST /api/v1/sessions/{id}/end` answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The session.
    pub id: String,
}

/// `GET /health/live` and `/health/ready`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// `live`, `ready` or `not-ready`.
    pub status: String,
    /// Why not.
    pub reasons: Vec<String>,
}

/// Asks for the sealed originals of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestUnseal {
    /// Why they are needed. Reviewers read it, and their signatures are over it.
    pub reason: String,
}

/// A request that waits for its reviewers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Requested {
    /// The review.
    pub id: String,
    /// The review rule that must approve.
    pub needed: String,
    /// When the request ends.
    pub expires_at: String,
}
