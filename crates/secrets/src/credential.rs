//! What a sealed backend credential holds: a user name and a password.

use zeroize::Zeroizing;

use crate::{Secret, SecretsError};

const FORMAT: u8 = 1;
/// Longest user name and longest password, bytes. PostgreSQL's own limits are far below.
pub const CREDENTIAL_FIELD_BYTES_MAX: usize = 4096;

/// A backend credential. It has no `Debug`, `Display` or `Clone`.
pub struct Credential {
    /// The role or account at the resource.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

impl Credential {
    /// Writes the plaintext that gets sealed: format version, then user name and password, each after its length
    /// (`docs/spec/secret.md`, Credential).
    pub fn encode(&self) -> Result<Secret, SecretsError> {
        let fields = [self.username.as_bytes(), self.password.expose()];
        if self.username.is_empty() {
            return Err(SecretsError::Malformed("an empty user name"));
        }
        let mut out = Zeroizing::new(Vec::with_capacity(5 + fields.iter().map(|field| field.len()).sum::<usize>()));
        out.push(FORMAT);
        for field in fields {
            let length = u16::try_from(field.len()).ok().filter(|_| field.len() <= CREDENTIAL_FIELD_BYTES_MAX);
            let length = length.ok_or(SecretsError::LimitReached {
                what: "a credential's user name or password",
                max: CREDENTIAL_FIELD_BYTES_MAX,
            })?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(field);
        }
        Ok(Secret::from_zeroizing(out))
    }
    /// Reads what `encode` writes and nothing else.
    pub fn decode(plaintext: &Secret) -> Result<Self, SecretsError> {
        let (format, rest) = plaintext.expose().split_first().ok_or(SecretsError::Malformed("an empty credential"))?;
        if *format != FORMAT {
            return Err(SecretsError::UnknownFormat(*format));
        }
        let (username, rest) = field(rest)?;
        let (password, rest) = field(rest)?;
        if !rest.is_empty() {
            return Err(SecretsError::Malformed("bytes after the credential"));
        }
        let username =
            std::str::from_utf8(username).map_err(|_| SecretsError::Malformed("the user name is not UTF-8"))?;
        if username.is_empty() {
            return Err(SecretsError::Malformed("an empty user name"));
        }
        Ok(Self { username: username.to_owned(), password: Secret::new(password.to_vec()) })
    }
}

fn field(bytes: &[u8]) -> Result<(&[u8], &[u8]), SecretsError> {
    const CUT: SecretsError = SecretsError::Malformed("the credential is cut short");
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(CUT)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length > CREDENTIAL_FIELD_BYTES_MAX {
        return Err(SecretsError::LimitReached {
            what: "a credential's user name or password",
            max: CREDENTIAL_FIELD_BYTES_MAX,
        });
    }
    rest.split_at_checked(length).ok_or(CUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(username: &str, password: &[u8]) -> Credential {
        Credential { username: username.to_owned(), password: Secret::new(password.to_vec()) }
    }

    #[test]
    fn encodes_as_specified_and_reads_back() {
        let plain = credential("app", b"s3cret").encode().unwrap();
        assert_eq!(plain.expose(), b"\x01\x00\x03app\x00\x06s3cret");
        let again = Credential::decode(&plain).unwrap();
        assert_eq!(again.username, "app");
        assert!(again.password.matches(b"s3cret"));
        assert!(Credential::decode(&credential("a", b"").encode().unwrap()).unwrap().password.matches(b""));
    }

    #[test]
    fn every_prefix_and_every_extension_is_refused() {
        let plain = credential("app", b"s3cret").encode().unwrap();
        for length in 0..plain.expose().len() {
            assert!(Credential::decode(&Secret::new(plain.expose()[..length].to_vec())).is_err());
        }
        let mut longer = plain.expose().to_vec();
        longer.push(0);
        assert!(Credential::decode(&Secret::new(longer)).is_err());
    }

    #[test]
    fn odd_contents_are_refused() {
        assert!(credential("", b"x").encode().is_err());
        assert!(credential(&"u".repeat(CREDENTIAL_FIELD_BYTES_MAX + 1), b"x").encode().is_err());
        assert!(credential("u", &[0; CREDENTIAL_FIELD_BYTES_MAX + 1]).encode().is_err());
        assert!(credential("u", &[0; CREDENTIAL_FIELD_BYTES_MAX]).encode().is_ok());
        for bytes in
            [&b"\x02\x00\x01a\x00\x00"[..], b"\x01\x00\x00\x00\x00", b"\x01\x00\x01\xff\x00\x00", b"\x01\xff\xff"]
        {
            assert!(Credential::decode(&Secret::new(bytes.to_vec())).is_err());
        }
    }
}
