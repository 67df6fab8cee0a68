//! Names as UUIDs (RFC 9562, version 5): the same pack gives the same ids. Not here: anything that must be hard to guess.

use sha1::{Digest as _, Sha1};

use crate::Provenance;

/// Names of this program's documents are in this namespace.
const NAMESPACE: [u8; 16] = *b"\x1f\x6b\x0c\x52\x9e\x0d\x4a\x7e\x8f\x31\x5c\x0b\xd2\x67\x4e\x90";

/// Ids of one document: the same head, period and choice of controls give the same.
pub(crate) struct Ids(String);

impl Ids {
    pub(crate) fn new(from: &Provenance) -> Self {
        let (head, period) = (&from.head, from.period);
        let controls = from.controls.join(",");
        Self(format!("{}\n{}\n{}\n{}\n{}\n{controls}\n", head.origin, head.size, head.root, period.from, period.to))
    }
    /// The id of what is called so in the document.
    pub(crate) fn of(&self, what: &str) -> String {
        let digest = Sha1::new().chain_update(NAMESPACE).chain_update(&self.0).chain_update(what).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x50;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut hex = String::with_capacity(32);
        crate::directory::hex(&bytes, &mut hex);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_five_as_others_compute_them() {
        // Python: uuid.uuid5(uuid.UUID("1f6b0c52-9e0d-4a7e-8f31-5c0bd2674e90"), "abc")
        assert_eq!(Ids("ab".to_owned()).of("c"), "c2ddbf59-1921-5e2d-8ff0-87bf9bfc9125");
    }
}
