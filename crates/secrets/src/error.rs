//! What can go wrong with a secret, and who is at fault. No variant carries key, plaintext or ciphertext.

use crate::KekId;

/// What can go wrong with a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// Stored or handed-in bytes do not have the form of `docs/spec/secret.md`: what is wrong with them.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The bytes are of a format version this build does not read.
    #[error("format version {0} is not known here")]
    UnknownFormat(u8),
    /// The envelope names another key-encryption key than the one given.
    #[error("sealed under key {wanted}, opened with key {given}")]
    WrongKek {
        /// The key that the envelope names.
        wanted: KekId,
        /// The key that was handed over.
        given: KekId,
    },
    /// Decryption failed: altered bytes, or the row of another name, version or purpose.
    #[error("not authentic: altered, or sealed for another name, version or purpose")]
    NotAuthentic,
    /// A size bound was reached.
    #[error("{what} is over {max} bytes")]
    LimitReached {
        /// What is too large.
        what: &'static str,
        /// The bound, bytes.
        max: usize,
    },
    /// The cryptographic library failed where it cannot; our bug or its.
    #[error("the cryptographic library failed: {0}")]
    Unreachable(&'static str),
}
