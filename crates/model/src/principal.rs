//! Who asks: the accountable principal and the chain of actors from it to the process on the wire.

use std::fmt;

use crate::Timestamp;

/// What kind of someone a principal or an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalKind {
    /// A human being.
    User,
    /// A service account or a pipeline.
    Service,
    /// A software agent that acts for somebody.
    Agent,
}

/// The accountable someone at the root of a chain, as its issuer named it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    /// `iss`: the issuer's URL.
    pub issuer: String,
    /// `sub`: unique and stable at that issuer. Identity is the pair (issuer, subject), never the e-mail.
    pub subject: String,
    /// User, service or agent.
    pub kind: PrincipalKind,
    /// For people to read; carries no authority.
    pub display: String,
    /// Groups by the issuer's claim, sorted, without duplicates.
    pub groups: Vec<String>,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.display)
    }
}

/// One link of delegation below the principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// Issuer of the actor's own identity; the token's issuer where the `act` claim names none.
    pub issuer: String,
    /// `act.sub`.
    pub subject: String,
    /// Agent unless the token says otherwise.
    pub kind: PrincipalKind,
}

/// The ordered chain from the principal to the process on the wire (nested `act` claims, RFC 8693 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delegation {
    /// The token's subject: on whose behalf.
    pub principal: Principal,
    /// From the first to whom the principal delegated down to the current actor (last). Empty: the principal itself.
    pub actors: Vec<Actor>,
}

impl Delegation {
    /// The number of links below the principal.
    pub fn depth(&self) -> usize {
        self.actors.len()
    }
    /// Whether (issuer, subject) is the principal or any actor of the chain.
    pub fn involves(&self, issuer: &str, subject: &str) -> bool {
        (self.principal.issuer == issuer && self.principal.subject == subject)
            || self.actors.iter().any(|a| a.issuer == issuer && a.subject == subject)
    }
    /// Bytes that differ whenever the chain differs: length-prefixed fields in order, groups included.
    pub fn canonical(&self) -> Vec<u8> {
        fn put(out: &mut Vec<u8>, field: &str) {
            out.extend_from_slice(&(field.len() as u64).to_be_bytes());
            out.extend_from_slice(field.as_bytes());
        }
        let mut out = Vec::new();
        put(&mut out, &self.principal.issuer);
        put(&mut out, &self.principal.subject);
        out.push(self.principal.kind as u8);
        out.extend_from_slice(&(self.principal.groups.len() as u64).to_be_bytes());
        self.principal.groups.iter().for_each(|group| put(&mut out, group));
        for actor in &self.actors {
            put(&mut out, &actor.issuer);
            put(&mut out, &actor.subject);
            out.push(actor.kind as u8);
        }
        out
    }
}

/// `alice → deploy-agent → sql-helper`.
impl fmt::Display for Delegation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.principal.display)?;
        self.actors.iter().try_for_each(|actor| write!(f, " → {}", actor.subject))
    }
}

/// How and until when an identity was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The issuer that vouched.
    pub issuer: String,
    /// `oidc`, `demo`, …
    pub method: &'static str,
    /// `auth_time` or `iat`.
    pub authenticated_at: Timestamp,
    /// `exp`: sessions end then.
    pub expires_at: Timestamp,
    /// `jti`, or a digest of the token where it has none. Never the token.
    pub token_id: String,
}
