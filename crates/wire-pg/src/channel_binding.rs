//! The `tls-server-end-point` channel binding (RFC 5929 §4): the hash of the server's certificate.
//!
//! It walks just enough DER to find the certificate's signature algorithm. It does not judge the certificate; the
//! TLS library has.

use aws_lc_rs::digest::{self, Algorithm, SHA224, SHA256, SHA384, SHA512, SHA512_256, digest};

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;

/// 1.2.840.113549.1.1: PKCS #1.
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4: ECDSA.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// 2.16.840.1.101.3.4.2: the SHA-2 family.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// Computes the binding data for a server's leaf certificate, in DER.
///
/// `None` when the signature algorithm has no hash of its own (Ed25519), is not known here, or the bytes are not a
/// certificate: then SCRAM runs without binding, as RFC 5929 leaves it undefined.
pub fn channel_binding_for(certificate: &[u8]) -> Option<Vec<u8>> {
    let (tag, content, _) = element(certificate)?;
    if tag != SEQUENCE {
        return None;
    }
    let (_to_be_signed, _, rest) = element(content)?;
    let (tag, algorithm, _) = element(rest)?;
    if tag != SEQUENCE {
        return None;
    }
    Some(digest(hash_of(algorithm)?, certificate).as_ref().to_vec())
}

/// MD5 and SHA-1 are replaced by SHA-256, as RFC 5929 §4.1 says.
fn hash_of(algorithm: &[u8]) -> Option<&'static Algorithm> {
    let (tag, oid, parameters) = element(algorithm)?;
    if tag != OBJECT_IDENTIFIER {
        return None;
    }
    if let Some(kind) = oid.strip_prefix(PKCS1) {
        return match kind {
            [4 | 5 | 11] => Some(&SHA256),
            [10] => pss_hash(parameters),
            [12] => Some(&SHA384),
            [13] => Some(&SHA512),
            [14] => Some(&SHA224),
            [16] => Some(&SHA512_256),
            _ => None,
        };
    }
    match oid.strip_prefix(ECDSA)? {
        [1] | [3, 2] => Some(&SHA256),
        [3, 1] => Some(&SHA224),
        [3, 3] => Some(&SHA384),
        [3, 4] => Some(&SHA512),
        _ => None,
    }
}

/// RSASSA-PSS names its hash in the parameters; without one it is SHA-1 (RFC 4055 §3.1).
fn pss_hash(parameters: &[u8]) -> Option<&'static Algorithm> {
    let (SEQUENCE, fields, _) = element(parameters)? else { return None };
    if fields.first() != Some(&CONTEXT_0) {
        return Some(&SHA256);
    }
    let (_, explicit, _) = element(fields)?;
    let (SEQUENCE, identifier, _) = element(explicit)? else { return None };
    let (OBJECT_IDENTIFIER, oid, _) = element(identifier)? else { return None };
    match oid.strip_prefix(SHA2)? {
        [1] => Some(&digest::SHA256),
        [2] => Some(&SHA384),
        [3] => Some(&SHA512),
        [4] => Some(&SHA224),
        _ => None,
    }
}

/// The first DER element: its tag, its content and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Four length bytes are more than any certificate; zero is the indefinite form, which DER forbids.
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        (digits.iter().fold(0usize, |sum, &digit| sum << 8 | usize::from(digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const CERTIFICATE: &str = "\
         MIIBgTCCASegAwIBAgIUSR4fwZLhrgYwQ5dPEYQEmyyEB5YwCgYIKoZIzj0EAwMwFTETMBEGA1UEAwwKZGIuZXhhbXBsZTAg\
         Fw0yNjExMjIwNzI4MjFaGA8yMTI2MTAyOTA3MjgyMVowFTETMBEGA1UEAwwKZGIuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG\
         SM49AwEHA0IABNwaVApL7fH1cZrFCxlNNlI3zVm+nj8QaYjkqTqF8vsym+p5bJxPQaLY638hPyx94ZC0ucR/2/9KzNIC1cX1\
         QUqjUzBRMB0GA1UdDgQWBBQSlT3ff/oE8OTA5lB8HhdloqXosjAfBgNVHSMEGDAWgBQSlT3ff/oE8OTA5lB8HhdloqXosjAP\
         BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMDA0gAMEUCIQDYaePCm196fhvX5+9uO9RxrZDZOtRk4CyEQes7SP2f8wIgZ/nI\
         f6G0ZoGmar43GhnHfyf160yj9jyryfHLQohac4E=";

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x82];
        out.extend(u16::try_from(content.len()).expect("short").to_be_bytes());
        out.extend(content);
        out
    }

    fn certificate(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
        let algorithm = wrap(SEQUENCE, &[wrap(OBJECT_IDENTIFIER, oid), parameters.to_vec()].concat());
        wrap(SEQUENCE, &[wrap(SEQUENCE, b"to be signed"), algorithm, wrap(3, b"signature")].concat())
    }

    fn length(oid: &[u8], parameters: &[u8]) -> Option<usize> {
        channel_binding_for(&certificate(oid, parameters)).map(|data| data.len())
    }

    #[test]
    fn the_hash_follows_the_signature_algorithm() {
        assert_eq!(length(&[PKCS1, &[5]].concat(), &[]), Some(32));
        assert_eq!(length(&[PKCS1, &[11]].concat(), &[5, 0]), Some(32));
        assert_eq!(length(&[PKCS1, &[13]].concat(), &[]), Some(64));
        assert_eq!(length(&[ECDSA, &[3, 3]].concat(), &[]), Some(48));
        assert_eq!(length(&[0x2b, 0x65, 0x70], &[]), None, "Ed25519");
        let sha384 = wrap(SEQUENCE, &wrap(OBJECT_IDENTIFIER, &[SHA2, &[2]].concat()));
        let pss = wrap(SEQUENCE, &wrap(CONTEXT_0, &sha384));
        assert_eq!(length(&[PKCS1, &[10]].concat(), &pss), Some(48));
        assert_eq!(length(&[PKCS1, &[10]].concat(), &wrap(SEQUENCE, &[])), Some(32));
    }

    #[test]
    fn broken_der_has_no_binding() {
        let whole = certificate(&[PKCS1, &[11]].concat(), &[]);
        let hashed = digest(&SHA256, &whole).as_ref().to_vec();
        assert_eq!(channel_binding_for(&whole), Some(hashed));
        for end in 0..whole.len() {
            assert_eq!(channel_binding_for(&whole[..end]), None);
        }
        assert_eq!(channel_binding_for(&[0x30, 0x80, 0, 0]), None);
        assert_eq!(channel_binding_for(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    /// Made by `openssl req -x509 -newkey ec -sha384`; the hash by `openssl dgst -sha384`.
    #[test]
    fn a_real_certificate_is_hashed() {
        let certificate = STANDARD.decode(CERTIFICATE).expect("base64");
        let binding = channel_binding_for(&certificate).expect("ecdsa-with-SHA384");
        let hex: String = binding.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "a45fd457be8abe48c8e77abff4332deea1c88d779dd869210d91948e53ba0f9d\
             ea6d0b0c288a24d5afd900ce689f7d2e"
        );
    }
}
