//! Who is on the wire: the one maker of `Authenticated<T>`.
//!
//! A token is a JSON Web Token that an OpenID Connect issuer signed. This crate reads it strictly, checks it against
//! the rules and keys of that issuer at a time it is told, and turns it into a principal and its chain of actors
//! (RFC 7515, 7519, 8693 §4.1, 9068). Nothing in a token chooses how the token is checked: the algorithm comes from the
//! issuer's list and must fit the key; keys, URLs and certificates that a token carries are never looked at.
//!
//! Time is compared by this crate, not by `jsonwebtoken` (which would read the clock); that crate verifies signatures.
//!
//! This crate knows nothing of sockets, files, clocks, sessions, resources' addresses or rules.

mod claims;
mod failure;
mod json;
mod keys;
mod rules;
mod token;

pub use claims::{Identity, authenticate};
pub use failure::{Failure, KeyFailure, RulesFailure};
pub use keys::{JWKS_BYTES_MAX, KeySet};
pub use rules::{Algorithm, Issuer, IssuerRules};
pub use token::{Peek, TOKEN_BYTES_MAX, peek};

/// Proof that a credential was checked and that it says `T`. Only this crate makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated<T>(T);

impl<T> Authenticated<T> {
    /// What was proven.
    pub fn get(&self) -> &T {
        &self.0
    }
    /// Gives up the proof and returns what was proven.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Authenticated<Identity> {
    /// The accountable someone alone, as proven as the whole.
    pub fn principal(&self) -> Authenticated<chancery_model::Principal> {
        Authenticated(self.0.chain.principal.clone())
    }
}

impl<T> std::ops::Deref for Authenticated<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
