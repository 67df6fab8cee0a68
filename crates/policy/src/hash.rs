//! Digests over length-prefixed fields, so that no two different lists of fields hash alike.

use aws_lc_rs::digest::{Context, SHA256};
use chancery_model::{Delegation, Digest, ResourceName};

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
    pub(crate) fn number(self, number: u64) -> Self {
        self.put(&number.to_be_bytes())
    }
    pub(crate) fn finish(self) -> Digest {
        let mut digest = Digest::default();
        digest.0.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

/// The digest that a permit, a hold and every approval of a command bind to: the exact bytes that will be forwarded,
/// where to, on whose behalf, and under which rules. `protocol` and `ask` are the protocol's word and the kind of
/// the ask (`query`, `execute` …). Domain `chancery/command/1`.
pub fn command_digest(
    resource: &ResourceName,
    protocol: &str,
    ask: &str,
    statement: &[u8],
    parameters: &[u8],
    chain: &Delegation,
    rules: &Digest,
) -> Digest {
    Fields::new("chancery/command/1")
        .put(resource.as_str().as_bytes())
        .put(protocol.as_bytes())
        .put(ask.as_bytes())
        .put(statement)
        .put(parameters)
        .put(&chain.canonical())
        .put(&rules.0)
        .finish()
}
