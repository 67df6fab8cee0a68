//! Checkpoints: a signed tree head as C2SP tlog-checkpoint inside a C2SP signed-note, with Ed25519.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chancery_model::Digest;

use crate::LedgerError;
use crate::crypto::{SigningKey, is_signed};
use crate::log::check_origin;
use crate::tree::sha256_of;

/// The signature type of plain Ed25519 in signed-note.
pub(crate) const ED25519_TYPE: u8 = 1;

/// The longest note that is read: a body of three lines and room for a quorum of cosignatures.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// A tree head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed: three lines.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }
    /// Reads the three lines; extension lines are refused.
    pub fn parse(body: &str) -> Result<Self, LedgerError> {
        let bad = LedgerError::Unproven("the checkpoint is malformed");
        let mut lines = body.strip_suffix('\n').ok_or(bad.clone())?.split('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(bad);
        };
        check_origin(origin).map_err(|_| bad.clone())?;
        let number = size.parse().map_err(|_| bad.clone())?;
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or(bad.clone())?;
        let checkpoint = Self { origin: origin.to_owned(), size: number, root: Digest(root) };
        // A size with a sign or leading zeros would be a second spelling of the same head.
        if checkpoint.body() != body { Err(bad) } else { Ok(checkpoint) }
    }
}

/// A checkpoint with its signature lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The head that is signed.
    pub checkpoint: Checkpoint,
    /// The whole note.
    pub note: String,
}

/// A key that signs notes under a name.
pub(crate) struct NoteSigner {
    key: SigningKey,
    name: String,
    id: [u8; 4],
}

impl NoteSigner {
    pub(crate) fn from_seed(name: String, seed: &[u8; 32]) -> Result<Self, LedgerError> {
        check_origin(&name)?;
        let key = SigningKey::from_seed(seed).ok_or(LedgerError::Misuse("the seed is no key"))?;
        let id = key_id(&name, ED25519_TYPE, &key.public_key());
        Ok(Self { key, name, id })
    }
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.key.public_key()
    }
    /// Signs bytes that are no note.
    pub(crate) fn signature(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes)
    }
    /// The signature line of a note with this body.
    pub(crate) fn line(&self, body: &str) -> String {
        let signature = STANDARD.encode([self.id.as_slice(), &self.signature(body.as_bytes())].concat());
        format!("\u{2014} {} {signature}\n", self.name)
    }
}

/// The form of a public key of a signature type in signed-note: `name+id+base64`.
pub(crate) fn verifier_key(name: &str, kind: u8, key: &[u8; 32]) -> String {
    let id = u32::from_be_bytes(key_id(name, kind, key));
    format!("{name}+{id:08x}+{}", STANDARD.encode([[kind].as_slice(), key].concat()))
}

/// Reads that form: name, id and key.
pub(crate) fn parse_verifier_key(text: &str, kind: u8) -> Option<(&str, [u8; 4], [u8; 32])> {
    // Base64 may hold `+`, names may not.
    let mut parts = text.trim().splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, STANDARD.decode(parts.next()?).ok()?);
    let (told, key) = key.split_first()?;
    let key: [u8; 32] = key.try_into().ok()?;
    let (id, due) = (u32::from_str_radix(id, 16).ok()?.to_be_bytes(), key_id(name, kind, &key));
    (*told == kind && id == due && check_origin(name).is_ok()).then_some((name, id, key))
}

/// The key that signs a log's heads.
pub struct LogSigner(NoteSigner);

impl std::fmt::Debug for LogSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogSigner").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl LogSigner {
    /// The signer of log `origin` from a 32-byte seed.
    pub fn from_seed(origin: &str, seed: &[u8; 32]) -> Result<Self, LedgerError> {
        NoteSigner::from_seed(origin.to_owned(), seed).map(Self)
    }
    /// The key in the form of signed-note: `name+id+base64`.
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.0.name, ED25519_TYPE, &self.0.public_key())
    }
    /// Signs a head.
    pub fn sign(&self, checkpoint: &Checkpoint) -> SignedCheckpoint {
        let body = checkpoint.body();
        let note = format!("{body}\n{}", self.0.line(&body));
        SignedCheckpoint { checkpoint: checkpoint.clone(), note }
    }
    /// Signs a text that is no head, as a note: lines, each with its line feed. A head has three lines at least, the first
    /// of which is the origin; a text that could be taken for one is an error.
    pub fn sign_text(&self, text: &str) -> Result<String, LedgerError> {
        if Checkpoint::parse(text).is_ok() || !text.ends_with('\n') {
            return Err(LedgerError::Unproven("the text could be taken for a head"));
        }
        Ok(format!("{text}\n{}", self.0.line(text)))
    }
    pub(crate) fn note_signer(&self) -> &NoteSigner {
        &self.0
    }
}

/// The public key of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogVerifier {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl LogVerifier {
    /// From a key whose name is known.
    pub(crate) fn of(name: String, key: [u8; 32]) -> Self {
        let id = key_id(&name, ED25519_TYPE, &key);
        Self { name, id, key }
    }
    /// Reads `name+id+base64`.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let (name, id, key) =
            parse_verifier_key(text, ED25519_TYPE).ok_or(LedgerError::Unproven("the verifier key is malformed"))?;
        Ok(Self { name: name.to_owned(), id, key })
    }
    /// The name in the key, which is the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The key in the form of signed-note.
    pub fn verifier_key(&self) -> String {
        verifier_key(&self.name, ED25519_TYPE, &self.key)
    }
    pub(crate) fn key(&self) -> [u8; 32] {
        self.key
    }
    /// Whether both are one key, whatever their names.
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.key == other.key
    }
    /// Opens a note: one of its signatures is this key's and holds, and its origin is the key's name. Signatures of
    /// other keys are ignored.
    pub fn open(&self, note: &str) -> Result<SignedCheckpoint, LedgerError> {
        let (body, signed) = self.open_signed(note)?;
        let checkpoint = Checkpoint::parse(body)?;
        if !signed {
            return Err(LedgerError::Unproven("the note is not signed by this key"));
        }
        if checkpoint.origin != self.name {
            return Err(LedgerError::Unproven("the origin is another log's"));
        }
        Ok(SignedCheckpoint { checkpoint, note: note.to_owned() })
    }
    /// The text of a note that this key alone signed: what [`LogSigner::sign_text`] made.
    pub fn open_text<'n>(&self, note: &'n str) -> Result<&'n str, LedgerError> {
        match self.open_signed(note)? {
            (text, true) if note.lines().count() == text.lines().count() + 2 => Ok(text),
            _ => Err(LedgerError::Unproven("the note is not signed by this key alone")),
        }
    }
    /// The body of a note, and whether this key signed it. A signature of this key that does not hold is an error.
    pub(crate) fn open_signed<'n>(&self, note: &'n str) -> Result<(&'n str, bool), LedgerError> {
        let malformed = LedgerError::Unproven("the note is malformed");
        if note.len() > NOTE_BYTES_MAX {
            return Err(malformed);
        }
        let at = note.rfind("\n\n").ok_or(malformed.clone())?;
        let (body, signatures) = (&note[..=at], &note[at + 2..]);
        let mut signed = false;
        for line in signatures.strip_suffix('\n').ok_or(malformed.clone())?.split('\n') {
            let (name, signature) =
                line.strip_prefix("\u{2014} ").and_then(|l| l.split_once(' ')).ok_or(malformed.clone())?;
            let signature = STANDARD.decode(signature).map_err(|_| malformed.clone())?;
            let Some((id, signature)) = signature.split_first_chunk::<4>() else { return Err(malformed) };
            if name == self.name && *id == self.id {
                if !is_signed(&self.key, body.as_bytes(), signature) {
                    return Err(LedgerError::Unproven("the signature does not hold"));
                }
                signed = true;
            }
        }
        Ok((body, signed))
    }
}

/// The id of a key of a signature type (C2SP signed-note).
pub(crate) fn key_id(name: &str, kind: u8, key: &[u8]) -> [u8; 4] {
    let hash = sha256_of(&[name.as_bytes(), b"\n", &[kind], key]);
    [hash.0[0], hash.0[1], hash.0[2], hash.0[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Checkpoint {
        Checkpoint { origin: "gw.example/a".into(), size: 12, root: Digest([7; 32]) }
    }

    #[test]
    fn a_signed_head_opens_with_its_key_only() {
        let signer = LogSigner::from_seed("gw.example/a", &[1; 32]).expect("seed");
        let signed = signer.sign(&head());
        let verifier = LogVerifier::parse(&signer.verifier_key()).expect("own key");
        assert_eq!(verifier.open(&signed.note), Ok(signed.clone()));
        let other = LogSigner::from_seed("gw.example/a", &[2; 32]).expect("seed");
        let other = LogVerifier::parse(&other.verifier_key()).expect("own key");
        assert!(other.open(&signed.note).is_err());
    }

    #[test]
    fn no_changed_byte_of_a_note_passes() {
        let signer = LogSigner::from_seed("gw.example/a", &[1; 32]).expect("seed");
        let verifier = LogVerifier::parse(&signer.verifier_key()).expect("own key");
        let note = signer.sign(&head()).note.into_bytes();
        for at in 0..note.len() {
            let mut changed = note.clone();
            changed[at] ^= 1;
            assert!(std::str::from_utf8(&changed).map_or(true, |text| verifier.open(text).is_err()), "byte {at}");
        }
        for cut in 0..note.len() {
            assert!(std::str::from_utf8(&note[..cut]).map_or(true, |text| verifier.open(text).is_err()), "cut {cut}");
        }
    }

    #[test]
    fn a_text_opens_with_its_key_and_is_never_a_head() {
        let signer = LogSigner::from_seed("gw.example/a", &[1; 32]).expect("seed");
        let verifier = LogVerifier::parse(&signer.verifier_key()).expect("own key");
        let note = signer.sign_text("a text\nof two lines\n").expect("no head");
        assert_eq!(verifier.open_text(&note), Ok("a text\nof two lines\n"));
        assert!(verifier.open(&note).is_err());
        assert!(verifier.open_text(&format!("{note}\u{2014} other AAAAAAAA\n")).is_err());
        assert!(signer.sign_text(&head().body()).is_err() && signer.sign_text("no line feed").is_err());
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= 1;
            assert!(std::str::from_utf8(&changed).map_or(true, |text| verifier.open_text(text).is_err()), "byte {at}");
        }
    }

    #[test]
    fn the_published_example_key_and_note_hold() {
        // The example of the note format that the Go checksum database documents.
        let verifier = LogVerifier::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
        assert_eq!(verifier.map(|v| v.name().to_owned()), Ok("PeterNeumann".to_owned()));
    }

    #[test]
    fn one_head_has_one_spelling() {
        let body = head().body();
        assert_eq!(Checkpoint::parse(&body), Ok(head()));
        for (from, to) in [("\n12\n", "\n012\n"), ("\n12\n", "\n+12\n"), ("=\n", "\n")] {
            assert!(Checkpoint::parse(&body.replacen(from, to, 1)).is_err());
        }
        assert!(Checkpoint::parse(&format!("{body}extension\n")).is_err());
    }
}
