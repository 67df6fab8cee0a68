//! Digests over length-prefixed fields, so that no two different lists of fields hash alike.

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac;
use chancery_model::{Delegation, Digest, ResourceName, SessionId};

/// Gathers fields, each after its length as eight bytes big endian: what is hashed, where it is to be kept.
pub(crate) struct Preimage(Vec<u8>);

impl Preimage {
    pub(crate) fn new(domain: &str) -> Self {
        Self(Vec::new()).put(domain.as_bytes())
    }
    pub(crate) fn put(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(&(field.len() as u64).to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }
    pub(crate) fn number(self, number: u64) -> Self {
        self.put(&number.to_be_bytes())
    }
    pub(crate) fn finish(self) -> (Vec<u8>, Digest) {
        let mut digest = Digest::default();
        digest.0.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, &self.0).as_ref());
        (self.0, digest)
    }
}

/// Feeds fields, each after its length as eight bytes big endian.
pub(crate) struct Fields(Context);

impl Fields {
    pub(crate) fn new(domain: &str) -> Self {
        Self(Context::new(&SHA256)).put(domain.as_bytes())
    }
    pub(crate) fn put(mut self, field: &[u8]) -> Self {
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
        self
    }
    pub(crate) fn finish(self) -> Digest {
        let mut digest = Digest::default();
        digest.0.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

/// What keeps command digests from being guessed at: statements hold numbers of cards and dates of birth, and digests go to
/// whoever reads the ledger. `key` is the gateway's fingerprint key. The same for all sessions of a chain: what was approved
/// on one connection may run on the next.
pub fn command_salt(key: &hmac::Key, chain: &Delegation) -> [u8; 32] {
    let mut salt = [0; 32];
    let preimage = [b"chancery/command-salt/1".as_slice(), &chain.canonical()].concat();
    salt.copy_from_slice(hmac::sign(key, &preimage).as_ref());
    salt
}

/// Makes the digests that permits, holds and approvals bind to: the exact bytes that will be forwarded, where to, on
/// whose behalf, and under which rules. What stays the same in a session is hashed once.
#[derive(Clone)]
pub struct CommandDigests(Context);

impl CommandDigests {
    /// For one resource, chain and rule set. `protocol` is the protocol's word; `salt` is
    /// [`command_salt`]. Domain `chancery/command/2`.
    pub fn new(salt: &[u8; 32], resource: &ResourceName, protocol: &str, chain: &Delegation, rules: &Digest) -> Self {
        let fields = Fields::new("chancery/command/2")
            .put(salt)
            .put(resource.as_str().as_bytes())
            .put(protocol.as_bytes())
            .put(&chain.canonical())
            .put(&rules.0);
        Self(fields.0)
    }
    /// Of one command: the kind of the ask (`query`, `execute` …), its statement and its parameters.
    pub fn of(&self, ask: &str, statement: &[u8], parameters: &[u8]) -> Digest {
        let fields = [ask.as_bytes(), statement, parameters];
        // Short fields are laid out in one piece: each call of the hash costs as much as the bytes of a small statement.
        let mut piece = [0; SHORT];
        match lay_out(&fields, &mut piece) {
            Some(piece) => {
                let mut context = self.0.clone();
                context.update(piece);
                Fields(context).finish()
            }
            None => fields.into_iter().fold(Fields(self.0.clone()), Fields::put).finish(),
        }
    }
}

/// Fields that are short together.
const SHORT: usize = 512;

/// Writes fields as [`Fields::put`] hashes them; `None` if they do not fit.
fn lay_out<'p>(fields: &[&[u8]], piece: &'p mut [u8; SHORT]) -> Option<&'p [u8]> {
    let mut at = 0;
    for field in fields {
        for part in [(field.len() as u64).to_be_bytes().as_slice(), field] {
            let end = at + part.len();
            piece.get_mut(at..end)?.copy_from_slice(part);
            at = end;
        }
    }
    piece.get(..at)
}

impl std::fmt::Debug for CommandDigests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommandDigests").finish_non_exhaustive()
    }
}

/// What approvals of handing out a session's sealed originals bind to: the session, why, and who asks. Domain
/// `chancery/unseal/1`.
pub fn unseal_digest(session: &SessionId, reason: &str, requester: &Delegation) -> Digest {
    Fields::new("chancery/unseal/1").put(&session.0).put(reason.as_bytes()).put(&requester.canonical()).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_hash_alike_in_one_piece_and_one_by_one() {
        let digests = CommandDigests(Context::new(&SHA256));
        for length in [0, 1, 55, SHORT - 32, SHORT - 31, SHORT - 30, SHORT, 5000] {
            let text = vec![b'x'; length];
            let one_by_one = Fields(Context::new(&SHA256)).put(b"query").put(&text).put(b"").finish();
            assert_eq!(digests.of("query", &text, &[]), one_by_one, "{length}");
        }
        assert_ne!(digests.of("a", b"bc", &[]), digests.of("ab", b"c", &[]));
    }
}
