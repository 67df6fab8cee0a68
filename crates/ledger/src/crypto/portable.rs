//! In plain Rust, for targets that `aws-lc-rs` does not know.

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use sha2::Digest;

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// SHA-256 over pieces.
pub(crate) struct Sha256(sha2::Sha256);

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self(sha2::Sha256::new())
    }
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// An Ed25519 key that signs.
pub(crate) struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Every seed is a key here; the other library may refuse one.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        Some(Self(ed25519_dalek::SigningKey::from_bytes(seed)))
    }
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

/// Whether an Ed25519 signature over `bytes` holds.
pub(crate) fn is_signed(key: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
    let signature = Signature::from_slice(signature);
    match (key, signature) {
        (Some(key), Ok(signature)) => key.verify_strict(bytes, &signature).is_ok(),
        _ => false,
    }
}
