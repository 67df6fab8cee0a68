//! The key-encryption key and the text form of its file.

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::SecretsError;

const FILE_WORD: &str = "chancery-kek-1";
/// A key file is one line of 59 characters; more than this is some other file, not worth decoding.
const FILE_BYTES_MAX: usize = 256;

/// Names a key-encryption key: the first 8 bytes of SHA-256 over `chancery/kek-id/1` and the key.
///
/// It tells keys apart and betrays nothing of a key of 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KekId(pub [u8; 8]);

/// Sixteen lower-case hexadecimal digits.
impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key-encryption key: 32 bytes, zeroed on drop. It has no `Debug`, `Display` or `Clone`.
pub struct Kek {
    id: KekId,
    key: Zeroizing<[u8; 32]>,
}

impl Kek {
    /// Makes a key of 32 random bytes from the caller's generator. Zeros are refused: that generator is broken.
    pub fn new(random: Zeroizing<[u8; 32]>) -> Result<Self, SecretsError> {
        if random.iter().all(|byte| *byte == 0) {
            return Err(SecretsError::Malformed("a key of zeros"));
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"chancery/kek-id/1");
        context.update(&*random);
        let mut id = [0; 8];
        id.copy_from_slice(context.finish().as_ref().get(..8).ok_or(SecretsError::Unreachable("SHA-256 length"))?);
        Ok(Self { id: KekId(id), key: random })
    }
    /// Reads the contents of a key file: `chancery-kek-1`, one space, the key in base64, an optional newline.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, SecretsError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(SecretsError::LimitReached { what: "the key file", max: FILE_BYTES_MAX });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SecretsError::Malformed("the key file is not text"))?;
        let line = text.strip_suffix('\n').unwrap_or(text);
        let encoded = line
            .strip_prefix(FILE_WORD)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(SecretsError::Malformed("the key file does not begin with `chancery-kek-1 `"))?;
        // Room for the decoder's estimate, which is rounded up to whole groups of three bytes.
        let mut decoded = Zeroizing::new([0; FILE_BYTES_MAX]);
        let length = STANDARD
            .decode_slice(encoded, &mut *decoded)
            .map_err(|_| SecretsError::Malformed("the key in the key file is not base64"))?;
        let mut key = Zeroizing::new([0; 32]);
        match decoded.get(..length) {
            Some(bytes) if bytes.len() == key.len() => key.copy_from_slice(bytes),
            _ => return Err(SecretsError::Malformed("the key in the key file is not of 32 bytes")),
        }
        Self::new(key)
    }
    /// Writes the contents of a key file, newline included.
    pub fn to_file_text(&self) -> Zeroizing<String> {
        let mut encoded = Zeroizing::new([0; 44]);
        // 32 bytes are 44 characters of base64; a buffer of that size cannot be too small.
        let length = STANDARD.encode_slice(*self.key, &mut *encoded).unwrap_or(0);
        let mut text = Zeroizing::new(String::with_capacity(FILE_WORD.len() + 2 + encoded.len()));
        text.push_str(FILE_WORD);
        text.push(' ');
        encoded.iter().take(length).for_each(|byte| text.push(char::from(*byte)));
        text.push('\n');
        text
    }
    /// Its name.
    pub fn id(&self) -> KekId {
        self.id
    }
    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kek(byte: u8) -> Kek {
        Kek::new(Zeroizing::new([byte; 32])).unwrap()
    }

    #[test]
    fn file_text_reads_back() {
        let text = kek(7).to_file_text();
        assert_eq!(text.as_str(), "chancery-kek-1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n");
        let again = Kek::from_file_bytes(text.as_bytes()).unwrap();
        assert_eq!(again.id(), kek(7).id());
        assert_eq!(again.key(), kek(7).key());
        assert!(Kek::from_file_bytes(text.trim_end().as_bytes()).is_ok());
        assert_ne!(kek(7).id(), kek(8).id());
    }

    #[test]
    fn other_files_are_refused() {
        let long = [b'a'; FILE_BYTES_MAX + 1];
        let cases: [&[u8]; 10] = [
            b"",
            b"chancery-kek-1",
            b"chancery-kek-1 ",
            b"chancery-kek-2 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
            b"chancery-kek-1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==\n",
            b"chancery-kek-1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n",
            b"chancery-kek-1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n",
            b"chancery-kek-1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
            b"\xff\xfe",
            &long,
        ];
        for case in cases {
            assert!(Kek::from_file_bytes(case).is_err());
        }
    }
}
