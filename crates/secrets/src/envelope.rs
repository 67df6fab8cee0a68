//! The envelope of one version of a secret: encrypted under a key of its own, which is wrapped by the KEK.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{Kek, KekId, Secret, SecretsError};

const FORMAT: u8 = 1;
const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;
const WRAPPED: usize = KEY + TAG;
/// Format version, KEK id, wrapping nonce, wrapped DEK, content nonce, content length.
const HEADER: usize = 1 + 8 + NONCE + WRAPPED + NONCE + 4;

/// Longest plaintext, bytes: passwords, private keys and certificates fit; nothing larger is a secret.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;
/// Longest encoded envelope, bytes.
pub const SEALED_BYTES_MAX: usize = HEADER + PLAINTEXT_BYTES_MAX + TAG;
/// Longest name of a secret, bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Random bytes that `seal` needs: data key, wrapping nonce, content nonce.
pub const SEAL_RANDOM_BYTES: usize = KEY + NONCE + NONCE;

/// What a secret is for. It is authenticated: a secret sealed for one purpose does not open for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// A [`crate::Credential`] for a resource.
    BackendCredential,
    /// A private key that signs checkpoints of the ledger.
    LedgerKey,
    /// A private key of a TLS certificate.
    TlsKey,
    /// An OAuth client secret.
    ClientSecret,
    /// The [`crate::SealKey`] of a session.
    SealKey,
}

impl Purpose {
    /// The word that is authenticated.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackendCredential => "backend-credential",
            Self::LedgerKey => "ledger-key",
            Self::TlsKey => "tls-key",
            Self::ClientSecret => "client-secret",
            Self::SealKey => "seal-key",
        }
    }
}

/// One version of a secret, encrypted. Its bytes may lie on any disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    kek: KekId,
    wrap_nonce: [u8; NONCE],
    wrapped: [u8; WRAPPED],
    nonce: [u8; NONCE],
    /// Ciphertext and tag.
    content: Vec<u8>,
}

/// Seals a plaintext for one name, version and purpose under a fresh data key.
///
/// `random` comes from the caller's cryptographic generator and is never used again. Errors: the name is empty or too
/// long, or the plaintext is too long.
pub fn seal(
    kek: &Kek,
    name: &str,
    version: u32,
    purpose: Purpose,
    plaintext: &Secret,
    random: Zeroizing<[u8; SEAL_RANDOM_BYTES]>,
) -> Result<Sealed, SecretsError> {
    if plaintext.expose().len() > PLAINTEXT_BYTES_MAX {
        return Err(SecretsError::LimitReached { what: "the secret", max: PLAINTEXT_BYTES_MAX });
    }
    let (dek, nonces) = random.split_first_chunk::<KEY>().ok_or(SHORT_RANDOM)?;
    let (wrap_nonce, nonces) = nonces.split_first_chunk::<NONCE>().ok_or(SHORT_RANDOM)?;
    let (nonce, _) = nonces.split_first_chunk::<NONCE>().ok_or(SHORT_RANDOM)?;
    if dek.iter().all(|byte| *byte == 0) {
        return Err(SecretsError::Malformed("a data key of zeros"));
    }
    let context = context(CONTENT, None, name, version, purpose)?;
    // The tag is appended within the capacity, so that no reallocation leaves plaintext behind.
    let mut content = Zeroizing::new(Vec::with_capacity(plaintext.expose().len() + TAG));
    content.extend_from_slice(plaintext.expose());
    let tag = key(dek)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(&context), &mut content)
        .map_err(|_| SecretsError::Unreachable("sealing"))?;
    content.extend_from_slice(tag.as_ref());
    let wrapped = wrap(kek, dek, *wrap_nonce, name, version, purpose)?;
    let content = std::mem::take(&mut *content);
    Ok(Sealed { kek: kek.id(), wrap_nonce: *wrap_nonce, wrapped, nonce: *nonce, content })
}

impl Sealed {
    /// Reads the encoded form of `docs/spec/secret.md`; every byte must be accounted for.
    pub fn decode(bytes: &[u8]) -> Result<Self, SecretsError> {
        const CUT: SecretsError = SecretsError::Malformed("the envelope is cut short");
        if bytes.len() > SEALED_BYTES_MAX {
            return Err(SecretsError::LimitReached { what: "the envelope", max: SEALED_BYTES_MAX });
        }
        let (format, rest) = bytes.split_first().ok_or(CUT)?;
        if *format != FORMAT {
            return Err(SecretsError::UnknownFormat(*format));
        }
        let (kek, rest) = rest.split_first_chunk::<8>().ok_or(CUT)?;
        let (wrap_nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(CUT)?;
        let (wrapped, rest) = rest.split_first_chunk::<WRAPPED>().ok_or(CUT)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(CUT)?;
        let (length, content) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        if usize::try_from(u32::from_be_bytes(*length)).ok() != Some(content.len()) {
            return Err(SecretsError::Malformed("the length of the envelope is not what it says"));
        }
        if content.len() < TAG {
            return Err(CUT);
        }
        Ok(Self {
            kek: KekId(*kek),
            wrap_nonce: *wrap_nonce,
            wrapped: *wrapped,
            nonce: *nonce,
            content: content.to_vec(),
        })
    }
    /// Writes the encoded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.content.len());
        out.push(FORMAT);
        out.extend_from_slice(&self.kek.0);
        out.extend_from_slice(&self.wrap_nonce);
        out.extend_from_slice(&self.wrapped);
        out.extend_from_slice(&self.nonce);
        // Both makers bound the content far below 4 GiB.
        out.extend_from_slice(&u32::try_from(self.content.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&self.content);
        out
    }
    /// The key-encryption key that is needed to open it.
    pub fn kek_id(&self) -> KekId {
        self.kek
    }
    /// Decrypts. Fails if anything was altered, or sealed for another name, version or purpose.
    pub fn open(&self, kek: &Kek, name: &str, version: u32, purpose: Purpose) -> Result<Secret, SecretsError> {
        let dek = self.unwrap_dek(kek, name, version, purpose)?;
        let context = context(CONTENT, None, name, version, purpose)?;
        let mut content = Zeroizing::new(self.content.clone());
        let length = key(&dek)?
            .open_in_place(Nonce::assume_unique_for_key(self.nonce), Aad::from(&context), &mut content)
            .map_err(|_| SecretsError::NotAuthentic)?
            .len();
        content.truncate(length);
        Ok(Secret::from_zeroizing(content))
    }
    /// The same secret under another key-encryption key. The whole envelope is opened first, so that a damaged one is
    /// noticed now and not carried along. `random` is a fresh nonce from the caller's generator.
    pub fn rewrap(
        &self,
        old: &Kek,
        new: &Kek,
        name: &str,
        version: u32,
        purpose: Purpose,
        random: [u8; 12],
    ) -> Result<Self, SecretsError> {
        drop(self.open(old, name, version, purpose)?);
        let dek = self.unwrap_dek(old, name, version, purpose)?;
        let wrapped = wrap(new, &dek, random, name, version, purpose)?;
        Ok(Self { kek: new.id(), wrap_nonce: random, wrapped, nonce: self.nonce, content: self.content.clone() })
    }

    fn unwrap_dek(
        &self,
        kek: &Kek,
        name: &str,
        version: u32,
        purpose: Purpose,
    ) -> Result<Zeroizing<[u8; KEY]>, SecretsError> {
        if self.kek != kek.id() {
            return Err(SecretsError::WrongKek { wanted: self.kek, given: kek.id() });
        }
        let context = context(WRAP, Some(kek.id()), name, version, purpose)?;
        let mut wrapped = Zeroizing::new(self.wrapped);
        let opened = key(kek.key())?
            .open_in_place(Nonce::assume_unique_for_key(self.wrap_nonce), Aad::from(&context), &mut *wrapped)
            .map_err(|_| SecretsError::NotAuthentic)?;
        let mut dek = Zeroizing::new([0; KEY]);
        if opened.len() != KEY {
            return Err(SecretsError::Unreachable("length of an unwrapped key"));
        }
        dek.copy_from_slice(opened);
        Ok(dek)
    }
}

const SHORT_RANDOM: SecretsError = SecretsError::Unreachable("SEAL_RANDOM_BYTES is the sum of its parts");
const CONTENT: &str = "chancery/secret/1";
const WRAP: &str = "chancery/secret-key/1";

fn key(bytes: &[u8; KEY]) -> Result<LessSafeKey, SecretsError> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| SecretsError::Unreachable("key length"))
}

fn wrap(
    kek: &Kek,
    dek: &[u8; KEY],
    nonce: [u8; NONCE],
    name: &str,
    version: u32,
    purpose: Purpose,
) -> Result<[u8; WRAPPED], SecretsError> {
    let context = context(WRAP, Some(kek.id()), name, version, purpose)?;
    let mut key_bytes = Zeroizing::new(*dek);
    let tag = key(kek.key())?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&context), &mut *key_bytes)
        .map_err(|_| SecretsError::Unreachable("wrapping"))?;
    let mut wrapped = [0; WRAPPED];
    let parts = wrapped.split_first_chunk_mut::<KEY>().and_then(|(k, rest)| Some((k, rest.first_chunk_mut::<TAG>()?)));
    let (key_part, tag_part) = parts.ok_or(SecretsError::Unreachable("WRAPPED is KEY and TAG"))?;
    *key_part = *key_bytes;
    if tag.as_ref().len() != TAG {
        return Err(SecretsError::Unreachable("length of a GCM tag"));
    }
    tag_part.copy_from_slice(tag.as_ref());
    Ok(wrapped)
}

/// The additional authenticated data: each field after its length (32 bits, big-endian), so that no two different
/// tuples have the same bytes.
fn context(
    domain: &str,
    kek: Option<KekId>,
    name: &str,
    version: u32,
    purpose: Purpose,
) -> Result<Vec<u8>, SecretsError> {
    if name.is_empty() {
        return Err(SecretsError::Malformed("a secret without a name"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(SecretsError::LimitReached { what: "the name of the secret", max: NAME_BYTES_MAX });
    }
    let mut out = Vec::with_capacity(128 + name.len());
    let mut put = |field: &[u8]| {
        // Every field is bounded above by NAME_BYTES_MAX or a constant.
        out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(field);
    };
    put(domain.as_bytes());
    if let Some(kek) = kek {
        put(&kek.0);
    }
    put(name.as_bytes());
    put(&version.to_be_bytes());
    put(purpose.as_str().as_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const P: Purpose = Purpose::BackendCredential;

    fn kek(byte: u8) -> Kek {
        Kek::new(Zeroizing::new([byte; 32])).unwrap()
    }

    fn sealed(plaintext: &[u8]) -> Sealed {
        let mut random = [0; SEAL_RANDOM_BYTES];
        random.iter_mut().zip(1_u8..).for_each(|(byte, n)| *byte = n);
        seal(&kek(7), "shop-db", 3, P, &Secret::new(plaintext.to_vec()), Zeroizing::new(random)).unwrap()
    }

    fn error(result: Result<Secret, SecretsError>) -> SecretsError {
        result.err().expect("must not open")
    }

    #[test]
    fn opens_what_was_sealed() {
        for plaintext in [&b""[..], b"x", &[0x5a; PLAINTEXT_BYTES_MAX]] {
            let bytes = sealed(plaintext).encode();
            assert_eq!(bytes.len(), HEADER + plaintext.len() + TAG);
            let again = Sealed::decode(&bytes).unwrap();
            assert_eq!(again.kek_id(), kek(7).id());
            assert_eq!(again.open(&kek(7), "shop-db", 3, P).unwrap().expose(), plaintext);
        }
    }

    /// The vector of docs/spec/secret.md: the format cannot change without this test noticing.
    #[test]
    fn the_vector_of_the_specification() {
        let spec = include_str!("../../../docs/spec/secret.md");
        let hex: String = sealed(b"hunter2").encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let joined: String = spec.lines().filter(|line| line.bytes().all(|b| b.is_ascii_hexdigit())).collect();
        assert_eq!(joined, hex);
    }

    #[test]
    fn a_row_moved_elsewhere_does_not_open() {
        let envelope = sealed(b"hunter2");
        for (name, version, purpose) in [
            ("shop-dc", 3, P),
            ("shop-d", 3, P),
            ("shop-db", 2, P),
            ("shop-db", 4, P),
            ("shop-db", 3, Purpose::TlsKey),
            ("shop-db", 3, Purpose::LedgerKey),
        ] {
            assert_eq!(error(envelope.open(&kek(7), name, version, purpose)), SecretsError::NotAuthentic);
        }
        let wrong = SecretsError::WrongKek { wanted: kek(7).id(), given: kek(8).id() };
        assert_eq!(error(envelope.open(&kek(8), "shop-db", 3, P)), wrong);
    }

    #[test]
    fn content_of_one_envelope_under_the_key_of_another_does_not_open() {
        let one = sealed(b"hunter2");
        let secret = Secret::new(b"hunter2".to_vec());
        let other = seal(&kek(7), "shop-db", 3, P, &secret, Zeroizing::new([9; SEAL_RANDOM_BYTES])).unwrap();
        let mixed = Sealed { content: other.content, nonce: other.nonce, ..one };
        assert_eq!(error(mixed.open(&kek(7), "shop-db", 3, P)), SecretsError::NotAuthentic);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sealed(b"hunter2").encode();
        for index in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[index / 8] ^= 1 << (index % 8);
            let opened = Sealed::decode(&altered).and_then(|sealed| sealed.open(&kek(7), "shop-db", 3, P));
            assert!(opened.is_err(), "bit {index} went unnoticed");
        }
    }

    #[test]
    fn every_prefix_and_every_extension_is_refused() {
        let bytes = sealed(b"hunter2").encode();
        for length in 0..bytes.len() {
            assert!(Sealed::decode(&bytes[..length]).is_err(), "{length} bytes were taken for an envelope");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Sealed::decode(&longer).is_err());
        assert!(matches!(Sealed::decode(&vec![FORMAT; SEALED_BYTES_MAX + 1]), Err(SecretsError::LimitReached { .. })));
    }

    #[test]
    fn an_envelope_shorter_than_a_tag_is_refused() {
        let mut bytes = sealed(b"").encode();
        bytes.truncate(HEADER + TAG - 1);
        let at = HEADER - 4;
        bytes[at..HEADER].copy_from_slice(&15_u32.to_be_bytes());
        assert!(Sealed::decode(&bytes).is_err());
    }

    #[test]
    fn rewrapping_moves_to_the_new_key_only() {
        let envelope = sealed(b"hunter2");
        let moved = envelope.rewrap(&kek(7), &kek(8), "shop-db", 3, P, [5; 12]).unwrap();
        assert_eq!(moved.open(&kek(8), "shop-db", 3, P).unwrap().expose(), b"hunter2");
        assert!(moved.open(&kek(7), "shop-db", 3, P).is_err());
        assert!(envelope.rewrap(&kek(8), &kek(7), "shop-db", 3, P, [5; 12]).is_err());
        assert!(envelope.rewrap(&kek(7), &kek(8), "shop-db", 4, P, [5; 12]).is_err());
        let mut damaged = envelope.clone();
        damaged.content[0] ^= 1;
        assert!(damaged.rewrap(&kek(7), &kek(8), "shop-db", 3, P, [5; 12]).is_err());
    }

    #[test]
    fn bounds_are_kept_when_sealing() {
        let random = || Zeroizing::new([9; SEAL_RANDOM_BYTES]);
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let small = Secret::new(b"x".to_vec());
        let large = Secret::new(vec![0; PLAINTEXT_BYTES_MAX + 1]);
        assert!(seal(&kek(7), "", 1, P, &small, random()).is_err());
        assert!(seal(&kek(7), &long, 1, P, &small, random()).is_err());
        assert!(seal(&kek(7), "n", 1, P, &large, random()).is_err());
        assert!(seal(&kek(7), "n", 1, P, &small, Zeroizing::new([0; SEAL_RANDOM_BYTES])).is_err());
    }

    #[test]
    fn contexts_of_different_tuples_differ() {
        let all = [("a", 1, P), ("a", 2, P), ("a", 1, Purpose::TlsKey), ("ab", 1, P), ("b", 1, P)];
        let mut seen: Vec<_> = all.iter().map(|(n, v, p)| context(CONTENT, None, n, *v, *p).unwrap()).collect();
        seen.extend(all.iter().map(|(n, v, p)| context(WRAP, Some(kek(7).id()), n, *v, *p).unwrap()));
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    proptest! {
        /// Arbitrary bytes never panic, and whatever decodes encodes to the same bytes.
        #[test]
        fn decoding_is_strict(bytes in proptest::collection::vec(any::<u8>(), 0..400), lead in any::<bool>()) {
            let mut bytes = bytes;
            if lead && bytes.len() >= HEADER {
                let content = (bytes.len() - HEADER) as u32;
                bytes[0] = FORMAT;
                bytes[HEADER - 4..HEADER].copy_from_slice(&content.to_be_bytes());
            }
            if let Ok(sealed) = Sealed::decode(&bytes) {
                prop_assert_eq!(sealed.encode(), bytes);
                prop_assert!(sealed.open(&kek(7), "shop-db", 3, P).is_err());
            }
        }
    }
}
