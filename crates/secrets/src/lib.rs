//! Opens a [`Sealed`] credential into a [`Secret`]; the only place in the house where a stored credential is readable.
//!
//! Each version of a secret is encrypted under its own data key (DEK), and the data key is wrapped by a key-encryption
//! key (KEK). Name, version and purpose are authenticated, so that a stored row cannot be moved to another name,
//! version or use. The form is specified in `docs/spec/secret.md`. The caller hands in random bytes and the contents of
//! key files.
//!
//! What a resource sent, before masking, is sealed here too, to keys that the gateway does not have (`originals`,
//! `docs/spec/sealed.md`).
//!
//! This crate knows nothing of files, clocks, sockets, protocols or the catalog.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod credential;
mod envelope;
mod error;
mod kek;
mod originals;
mod secret;

pub use credential::{CREDENTIAL_FIELD_BYTES_MAX, Credential};
pub use envelope::{NAME_BYTES_MAX, PLAINTEXT_BYTES_MAX, Purpose, SEAL_RANDOM_BYTES, SEALED_BYTES_MAX, Sealed, seal};
pub use error::SecretsError;
pub use kek::{Kek, KekId};
pub use originals::{HEADER_RANDOM_BYTES, Recipients, SealKey, SealedSegment, Sealer};
pub use secret::Secret;
