//! Bytes that must not be seen: no `Debug`, no `Display`, no `Clone`, zeroed on drop.

use zeroize::Zeroizing;

/// Secret bytes in memory. They are zeroed on drop, spare capacity included.
///
/// The type has no `Debug`, `Display`, `Clone` or serialization, on purpose: a secret that cannot be printed cannot be
/// logged by accident.
///
/// ```compile_fail
/// let secret = chancery_secrets::Secret::new(b"hunter2".to_vec());
/// println!("{secret:?}");
/// ```
/// ```compile_fail
/// let secret = chancery_secrets::Secret::new(b"hunter2".to_vec());
/// let copy = secret.clone();
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over the bytes; the vector is not copied, so no second copy is left behind.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
    pub(crate) fn from_zeroizing(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
    /// Shows the bytes. The caller copies them nowhere that outlives the handshake that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
    /// Compares in time that depends on the lengths only.
    pub fn matches(&self, other: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, other).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_whole_values() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert!(secret.matches(b"hunter2"));
        for other in [&b"hunter3"[..], b"hunter", b"hunter22", b""] {
            assert!(!secret.matches(other));
        }
        assert_eq!(secret.expose(), b"hunter2");
    }
}
