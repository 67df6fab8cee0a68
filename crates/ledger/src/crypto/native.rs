//! With `aws-lc-rs`.

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

#[inline]
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    fixed(digest(&SHA256, bytes).as_ref())
}

/// SHA-256 over pieces.
pub(crate) struct Sha256(Context);

impl Sha256 {
    #[inline]
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }
    #[inline]
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }
    #[inline]
    pub(crate) fn finish(self) -> [u8; 32] {
        fixed(self.0.finish().as_ref())
    }
}

#[inline]
fn fixed(digest: &[u8]) -> [u8; 32] {
    digest.try_into().expect("SHA-256 has 32 bytes")
}

/// An Ed25519 key that signs.
pub(crate) struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().map(Self)
    }
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes")
    }
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// Whether an Ed25519 signature over `bytes` holds.
pub(crate) fn is_signed(key: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(bytes, signature).is_ok()
}
