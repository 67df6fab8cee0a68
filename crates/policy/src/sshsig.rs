//! Verifies SSH signatures (OpenSSH's PROTOCOL.sshsig), with bounds on everything.
//!
//! Keys: `ssh-ed25519`, `sk-ssh-ed25519@openssh.com` (touched), `ecdsa-sha2-nistp256`, `ssh-rsa` of 2048 to 8192 bits
//! with `rsa-sha2-256` or `rsa-sha2-512`; never SHA-1, never a certificate.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// An RSA signature of 8192 bits needs less than 4 KiB in this form.
const ARMOUR_BYTES_MAX: usize = 16 * 1024;
const KEY_LINE_BYTES_MAX: usize = 8 * 1024;
/// `SSH_SK_USER_PRESENCE_REQD` of PROTOCOL.u2f: the key was touched.
const TOUCHED: u8 = 0x01;

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// The armour, the key line or a structure inside is malformed.
    Malformed,
    /// A key type, hash or signature algorithm that is not accepted.
    Unsupported,
    /// Made with another key than the enrolled one.
    OtherKey,
    /// Made for another purpose.
    OtherNamespace,
    /// The security key was not touched.
    NotTouched,
    /// The mathematics say no.
    Invalid,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed signature or key",
            Self::Unsupported => "unsupported key type or algorithm",
            Self::OtherKey => "signed with another key",
            Self::OtherNamespace => "signed for another purpose",
            Self::NotTouched => "the security key was not touched",
            Self::Invalid => "the signature is not of this text",
        })
    }
}

impl std::error::Error for SignatureError {}

use SignatureError::{Invalid, Malformed, NotTouched, OtherKey, OtherNamespace, Unsupported};

/// Verifies an armoured SSHSIG over `message`, made with the key of an OpenSSH public key line (`type base64 comment`).
///
/// # Errors
/// Why it does not hold.
pub fn verify_sshsig(
    armored: &str,
    public_key_line: &str,
    namespace: &str,
    message: &[u8],
) -> Result<(), SignatureError> {
    let enrolled = key_blob(public_key_line)?;
    let blob = unarmour(armored)?;
    let mut reader = Reader(&blob);
    if reader.take(6)? != b"SSHSIG" || reader.number()? != 1 {
        return Err(Malformed);
    }
    let key = reader.string()?;
    let signed_for = reader.string()?;
    let reserved = reader.string()?;
    let hash = reader.string()?;
    let signature = reader.string()?;
    reader.end()?;
    if key != enrolled {
        return Err(OtherKey);
    }
    // An empty namespace must be refused (PROTOCOL.sshsig).
    if namespace.is_empty() || signed_for != namespace.as_bytes() {
        return Err(OtherNamespace);
    }
    let hashed = match hash {
        b"sha256" => digest(&SHA256, message),
        b"sha512" => digest(&SHA512, message),
        _ => return Err(Unsupported),
    };
    let mut signed = b"SSHSIG".to_vec();
    for field in [signed_for, reserved, hash, hashed.as_ref()] {
        put(&mut signed, field)?;
    }
    verify(key, signature, &signed)
}

fn verify(key: &[u8], signature: &[u8], signed: &[u8]) -> Result<(), SignatureError> {
    let mut key = Reader(key);
    let mut signature = Reader(signature);
    let kind = key.string()?;
    let algorithm = signature.string()?;
    match kind {
        b"ssh-ed25519" => {
            let (point, bytes) = (key.string()?, signature.string()?);
            key.end()?;
            signature.end()?;
            same(kind, algorithm)?;
            ed25519(point, bytes, signed)
        }
        b"sk-ssh-ed25519@openssh.com" => {
            let (point, application) = (key.string()?, key.string()?);
            let bytes = signature.string()?;
            let flags = signature.take(1)?;
            let counter = signature.take(4)?;
            key.end()?;
            signature.end()?;
            same(kind, algorithm)?;
            if flags.first().is_none_or(|flags| flags & TOUCHED == 0) {
                return Err(NotTouched);
            }
            let mut wrapped = digest(&SHA256, application).as_ref().to_vec();
            wrapped.extend_from_slice(flags);
            wrapped.extend_from_slice(counter);
            wrapped.extend_from_slice(digest(&SHA256, signed).as_ref());
            ed25519(point, bytes, &wrapped)
        }
        b"ecdsa-sha2-nistp256" => {
            let (curve, point) = (key.string()?, key.string()?);
            let mut pair = Reader(signature.string()?);
            key.end()?;
            signature.end()?;
            same(kind, algorithm)?;
            let (r, s) = (pair.unsigned()?, pair.unsigned()?);
            pair.end()?;
            if curve != b"nistp256" || point.len() != 65 || point.first() != Some(&4) {
                return Err(Malformed);
            }
            let fixed = [padded(r, 32)?, padded(s, 32)?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, &fixed).map_err(|_| Invalid)
        }
        b"ssh-rsa" => {
            let (e, n) = (key.unsigned()?, key.unsigned()?);
            let bytes = signature.string()?;
            key.end()?;
            signature.end()?;
            let parameters = match algorithm {
                b"rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                b"rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                _ => return Err(Unsupported),
            };
            let bytes = padded(bytes, n.len())?;
            PublicKeyComponents { n, e }.verify(parameters, signed, &bytes).map_err(|_| Invalid)
        }
        _ => Err(Unsupported),
    }
}

fn same(kind: &[u8], algorithm: &[u8]) -> Result<(), SignatureError> {
    if kind == algorithm { Ok(()) } else { Err(Unsupported) }
}

fn ed25519(point: &[u8], bytes: &[u8], signed: &[u8]) -> Result<(), SignatureError> {
    if point.len() != 32 || bytes.len() != 64 {
        return Err(Malformed);
    }
    UnparsedPublicKey::new(&ED25519, point).verify(signed, bytes).map_err(|_| Invalid)
}

/// A big-endian number with zeros in front, up to `length` bytes.
fn padded(number: &[u8], length: usize) -> Result<Vec<u8>, SignatureError> {
    let zeros = length.checked_sub(number.len()).ok_or(Malformed)?;
    let mut bytes = vec![0; zeros];
    bytes.extend_from_slice(number);
    Ok(bytes)
}

fn put(out: &mut Vec<u8>, field: &[u8]) -> Result<(), SignatureError> {
    let length = u32::try_from(field.len()).map_err(|_| Malformed)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(field);
    Ok(())
}

/// The blob of a public key line; its type must be the one the line begins with.
fn key_blob(line: &str) -> Result<Vec<u8>, SignatureError> {
    if line.len() > KEY_LINE_BYTES_MAX || line.trim_end().contains(['\n', '\r', '\0']) {
        return Err(Malformed);
    }
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().ok_or(Malformed)?;
    let blob = STANDARD.decode(words.next().ok_or(Malformed)?).map_err(|_| Malformed)?;
    if Reader(&blob).string()? != kind.as_bytes() {
        return Err(Malformed);
    }
    Ok(blob)
}

fn unarmour(armored: &str) -> Result<Vec<u8>, SignatureError> {
    if armored.len() > ARMOUR_BYTES_MAX {
        return Err(Malformed);
    }
    let body = armored.trim_ascii().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or(Malformed)?;
    let base64: String = body.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    STANDARD.decode(base64).map_err(|_| Malformed)
}

/// Reads the wire forms of RFC 4251 §5.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], SignatureError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
    fn number(&mut self) -> Result<u32, SignatureError> {
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_be_bytes(bytes))
    }
    fn string(&mut self) -> Result<&'a [u8], SignatureError> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        self.take(length)
    }
    /// An `mpint` that is positive and shortest, without its sign byte.
    fn unsigned(&mut self) -> Result<&'a [u8], SignatureError> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Ok(rest),
            whole @ [first, ..] if (1..0x80).contains(first) => Ok(whole),
            _ => Err(Malformed),
        }
    }
    fn end(&self) -> Result<(), SignatureError> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
