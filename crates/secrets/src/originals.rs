//! Seals what a resource sent before masking, to keys that the gateway does not have (`docs/spec/sealed.md`).
//!
//! A segment is an age file. Its header, without which the body is noise to everybody, is wrapped once more under a key of
//! the session: whoever destroys that key has destroyed the originals, whoever else has copies of the bodies.

use std::io::Write;

use age::x25519::Recipient;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use zeroize::Zeroizing;

use crate::SecretsError;

/// Recipients of one resource. Each costs a stanza in every header.
const RECIPIENTS_MAX: usize = 16;
/// Headers are a few hundred bytes for each recipient.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The last line of an age header begins with it.
const LAST_LINE: &[u8] = b"\n--- ";
const WRAP: &str = "chancery/seal-header/1";
const COMMIT: &str = "chancery/seal/1";
const COMMIT_KEY: &str = "chancery/seal/commit/1";
const FORMAT: u8 = 1;
const TAG: usize = 16;

/// Random bytes that [`Sealer::seal`] needs for each segment.
pub const HEADER_RANDOM_BYTES: usize = NONCE_LEN;

/// The outside keys that can open what is sealed, as `age1…` lines.
#[derive(Clone)]
pub struct Recipients {
    recipients: Vec<Recipient>,
    ids: Vec<[u8; 8]>,
}

impl Recipients {
    /// Reads X25519 recipients. Errors: none, too many, one twice, or one that is not of this kind; the text says which.
    pub fn parse<'t>(lines: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let mut read = Self { recipients: Vec::new(), ids: Vec::new() };
        for line in lines {
            let recipient: Recipient =
                line.parse().map_err(|_| format!("`{line}` is not an age recipient of kind X25519 (age1…)"))?;
            let hash = digest::digest(&digest::SHA256, line.as_bytes());
            let id = hash.as_ref().first_chunk::<8>().copied().ok_or("SHA-256 has 32 bytes")?;
            if read.ids.contains(&id) {
                return Err(format!("`{line}` is there twice"));
            }
            read.recipients.push(recipient);
            read.ids.push(id);
        }
        match read.ids.len() {
            0 => Err("nobody could open what is sealed: it needs a recipient".to_owned()),
            1..=RECIPIENTS_MAX => Ok(read),
            _ => Err(format!("more than {RECIPIENTS_MAX} recipients")),
        }
    }
    /// For each the first eight bytes of the SHA-256 of its line.
    pub fn ids(&self) -> &[[u8; 8]] {
        &self.ids
    }
}

/// The key of one session that wraps the headers of its segments: 32 bytes, zeroed on drop.
pub struct SealKey(Zeroizing<[u8; 32]>);

impl SealKey {
    /// Makes a key of 32 random bytes from the caller's generator, or takes one that was kept. Zeros are refused.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretsError> {
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() || bytes.iter().all(|byte| *byte == 0) {
            return Err(SecretsError::Malformed("the key of a session's originals"));
        }
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }
    /// Unwraps the header of a segment. Fails if it was altered, or is that of another session or segment.
    pub fn open_header(&self, session: &[u8; 16], index: u64, wrapped: &[u8]) -> Result<Vec<u8>, SecretsError> {
        const CUT: SecretsError = SecretsError::Malformed("a wrapped header is cut short");
        if wrapped.len() > HEADER_BYTES_MAX {
            return Err(SecretsError::LimitReached { what: "a wrapped header", max: HEADER_BYTES_MAX });
        }
        let (format, rest) = wrapped.split_first().ok_or(CUT)?;
        if *format != FORMAT {
            return Err(SecretsError::UnknownFormat(*format));
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(CUT)?;
        let mut header = sealed.to_vec();
        let opened = self.aead()?.open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(context(session, index)),
            &mut header,
        );
        let length = opened.map_err(|_| SecretsError::NotAuthentic)?.len();
        header.truncate(length);
        Ok(header)
    }
    /// What opens the commitment of a segment to whoever has its plaintext.
    pub fn opening(&self, index: u64) -> Result<[u8; 32], SecretsError> {
        let mut opening = [0; 32];
        let info = [COMMIT_KEY.as_bytes(), &index.to_be_bytes()];
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(&*self.0)
            .expand(&info, hkdf::HKDF_SHA256)
            .and_then(|key| key.fill(&mut opening))
            .map_err(|_| SecretsError::Unreachable("HKDF of one block"))?;
        Ok(opening)
    }
    fn aead(&self) -> Result<LessSafeKey, SecretsError> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.0);
        key.map(LessSafeKey::new).map_err(|_| SecretsError::Unreachable("key length"))
    }
    fn wrap(&self, session: &[u8; 16], index: u64, header: &[u8], nonce: [u8; 12]) -> Result<Vec<u8>, SecretsError> {
        let mut sealed = header.to_vec();
        self.aead()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context(session, index)),
                &mut sealed,
            )
            .map_err(|_| SecretsError::Unreachable("wrapping"))?;
        let mut wrapped = Vec::with_capacity(1 + NONCE_LEN + header.len() + TAG);
        wrapped.push(FORMAT);
        wrapped.extend_from_slice(&nonce);
        wrapped.append(&mut sealed);
        Ok(wrapped)
    }
}

/// Each field after its length, 32 bits, big-endian.
fn context(session: &[u8; 16], index: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let index = index.to_be_bytes();
    for field in [WRAP.as_bytes(), session, &index] {
        out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

/// A segment as it may lie on any disk.
pub struct SealedSegment {
    /// The age file behind its header.
    pub body: Vec<u8>,
    /// The header, wrapped under the session's key.
    pub header: Vec<u8>,
    /// Hiding commitment to the plaintext.
    pub commitment: [u8; 32],
}

/// Seals the segments of one session. It cannot open them.
pub struct Sealer {
    session: [u8; 16],
    key: SealKey,
    recipients: Recipients,
}

impl Sealer {
    /// For a session, under its key, to these recipients.
    pub fn new(session: [u8; 16], key: SealKey, recipients: Recipients) -> Self {
        Self { session, key, recipients }
    }
    /// For each recipient its id.
    pub fn to(&self) -> &[[u8; 8]] {
        self.recipients.ids()
    }
    /// Seals a segment, given in pieces. `random` comes from the caller's generator and is never used again. The file key
    /// and its wrapping are drawn by `age` from the kernel. The pieces are the caller's to wipe.
    pub fn seal<'p>(
        &self,
        index: u64,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
        random: [u8; HEADER_RANDOM_BYTES],
    ) -> Result<SealedSegment, SecretsError> {
        let length: usize = pieces.clone().map(<[u8]>::len).sum();
        let failed = |_| SecretsError::Unreachable("writing to memory");
        let recipients = self.recipients.recipients.iter().map(|one| one as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(recipients).map_err(|_| SecretsError::Unreachable("recipients"))?;
        // A tag for each 64 KiB, the nonce, and the header.
        let mut file = Vec::with_capacity(length + length / 4096 + 512 * (1 + self.recipients.ids.len()));
        let mut stream = encryptor.wrap_output(&mut file).map_err(failed)?;
        let mut commitment = digest::Context::new(&digest::SHA256);
        commitment.update(COMMIT.as_bytes());
        commitment.update(&self.key.opening(index)?);
        commitment.update(&self.session);
        commitment.update(&index.to_be_bytes());
        commitment.update(&(length as u64).to_be_bytes());
        for piece in pieces {
            stream.write_all(piece).map_err(failed)?;
            commitment.update(piece);
        }
        stream.finish().map_err(failed)?;
        let body = file.split_off(header_length(&file).ok_or(SecretsError::Unreachable("an age file has a header"))?);
        let header = self.key.wrap(&self.session, index, &file, random)?;
        let mut sum = [0; 32];
        sum.copy_from_slice(commitment.finish().as_ref());
        Ok(SealedSegment { body, header, commitment: sum })
    }
}

/// Up to and with the line that has the MAC.
fn header_length(file: &[u8]) -> Option<usize> {
    let last = file.windows(LAST_LINE.len()).position(|window| window == LAST_LINE)? + LAST_LINE.len();
    let end = file.get(last..)?.iter().position(|byte| *byte == b'\n')?;
    Some(last + end + 1)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use age::x25519::Identity;

    use super::*;

    const SESSION: [u8; 16] = [5; 16];

    fn key(byte: u8) -> SealKey {
        SealKey::new(&[byte; 32]).unwrap()
    }

    fn recipients(identities: &[&Identity]) -> Recipients {
        let lines: Vec<String> = identities.iter().map(|one| one.to_public().to_string()).collect();
        Recipients::parse(lines.iter().map(String::as_str)).unwrap()
    }

    fn open(file: &[u8], identity: &Identity) -> Option<Vec<u8>> {
        let decryptor = age::Decryptor::new(file).ok()?;
        let mut plain = Vec::new();
        decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).ok()?.read_to_end(&mut plain).ok()?;
        Some(plain)
    }

    #[test]
    fn each_recipient_opens_what_was_sealed_and_nobody_else_does() {
        let (auditor, officer, other) = (Identity::generate(), Identity::generate(), Identity::generate());
        let sealer = Sealer::new(SESSION, key(7), recipients(&[&auditor, &officer]));
        for length in [0, 1, 65_536, 200_000] {
            let plain: Vec<u8> = (0..length).map(|n: usize| n as u8).collect();
            let sealed = sealer.seal(3, plain.chunks(777), [1; 12]).unwrap();
            let header = key(7).open_header(&SESSION, 3, &sealed.header).unwrap();
            assert!(header.starts_with(b"age-encryption.org/v1\n"));
            assert!(!sealed.body.windows(4).any(|window| window == b"age-"));
            let file = [header, sealed.body.clone()].concat();
            assert_eq!(open(&file, &auditor).as_deref(), Some(&plain[..]));
            assert_eq!(open(&file, &officer).as_deref(), Some(&plain[..]));
            assert_eq!(open(&file, &other), None);
            assert_eq!(open(&sealed.body, &auditor), None, "the body alone is noise");
            let parts: [&[u8]; 6] = [
                b"chancery/seal/1",
                &key(7).opening(3).unwrap(),
                &SESSION,
                &3_u64.to_be_bytes(),
                &(length as u64).to_be_bytes(),
                &plain,
            ];
            let expected = digest::digest(&digest::SHA256, &parts.concat());
            assert_eq!(sealed.commitment, expected.as_ref());
        }
    }

    #[test]
    fn a_header_opens_in_its_place_under_its_key_and_whole() {
        let sealer = Sealer::new(SESSION, key(7), recipients(&[&Identity::generate()]));
        let wrapped = sealer.seal(3, std::iter::once(&b"x"[..]), [1; 12]).unwrap().header;
        assert!(key(7).open_header(&SESSION, 3, &wrapped).is_ok());
        assert!(key(8).open_header(&SESSION, 3, &wrapped).is_err());
        assert!(key(7).open_header(&SESSION, 4, &wrapped).is_err());
        assert!(key(7).open_header(&[6; 16], 3, &wrapped).is_err());
        for at in 0..wrapped.len() {
            let mut altered = wrapped.clone();
            altered[at] ^= 1;
            assert!(key(7).open_header(&SESSION, 3, &altered).is_err(), "byte {at}");
            assert!(key(7).open_header(&SESSION, 3, &wrapped[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn recipients_are_checked() {
        let one = Identity::generate().to_public().to_string();
        assert_eq!(Recipients::parse([one.as_str()]).unwrap().ids().len(), 1);
        for bad in [&[][..], &[one.as_str(), one.as_str()], &["age1x"], &["ssh-ed25519 AAAA"], &[""]] {
            assert!(Recipients::parse(bad.iter().copied()).is_err(), "{bad:?}");
        }
        assert!(SealKey::new(&[0; 32]).is_err() && SealKey::new(&[1; 31]).is_err());
    }
}
