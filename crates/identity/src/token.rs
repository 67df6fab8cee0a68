//! The compact form of a signed token (RFC 7515 §7.1): taken apart, bounded, not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::keys::KID_BYTES_MAX;
use crate::{Algorithm, Failure, json};

/// The longest token read, in bytes. A token travels as a password or a header; longer ones are not met in practice.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What an unverified token says of itself: good only for choosing the issuer whose rules and keys will judge it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// `iss`.
    pub issuer: String,
    /// `kid` of the header.
    pub kid: Option<String>,
    /// `alg` of the header.
    pub algorithm: Algorithm,
}

/// Reads which issuer a token claims to be from. Proves nothing.
///
/// # Errors
/// The token is too large, malformed, or of a kind that is not accepted from anybody.
pub fn peek(token: &str) -> Result<Peek, Failure> {
    let parts = Parts::parse(token)?;
    match parts.payload.get("iss") {
        Some(Value::String(issuer)) if !issuer.is_empty() => {
            Ok(Peek { issuer: issuer.clone(), kid: parts.kid, algorithm: parts.algorithm })
        }
        _ => Err(Failure::BadClaim("iss")),
    }
}

/// A token taken apart. Nothing in it is to be believed before the signature holds.
pub(crate) struct Parts<'a> {
    pub(crate) kid: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) payload: Map<String, Value>,
    /// What is signed: header, dot, payload, as they came.
    pub(crate) signed: &'a str,
    /// Base64url.
    pub(crate) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn parse(token: &'a str) -> Result<Self, Failure> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Failure::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Failure::Malformed("form"))?;
        let (header, payload) = signed.split_once('.').ok_or(Failure::Malformed("form"))?;
        if payload.contains('.') {
            // Five parts are an encrypted token (RFC 7516 §7.1).
            return Err(Failure::Unsupported("form"));
        }
        let header = part(header).ok_or(Failure::Malformed("header"))?;
        let payload = part(payload).ok_or(Failure::Malformed("payload"))?;
        let (kid, algorithm) = read_header(&header)?;
        Ok(Self { kid, algorithm, payload, signed, signature })
    }
}

fn part(text: &str) -> Option<Map<String, Value>> {
    json::object(&URL_SAFE_NO_PAD.decode(text).ok()?)
}

fn read_header(header: &Map<String, Value>) -> Result<(Option<String>, Algorithm), Failure> {
    for name in ["crit", "b64", "enc", "zip"] {
        if header.contains_key(name) {
            return Err(Failure::Unsupported("header"));
        }
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(word)) => Algorithm::parse(word).ok_or(Failure::AlgorithmRefused)?,
        _ => return Err(Failure::Malformed("alg")),
    };
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if (1..=KID_BYTES_MAX).contains(&kid.len()) => Some(kid.clone()),
        Some(_) => return Err(Failure::Malformed("kid")),
    };
    // RFC 9068 §2.1 and RFC 7519 §5.1: media types are compared without case, `application/` may be left out.
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if is_access_token(typ) => {}
        Some(Value::String(_)) => return Err(Failure::Unsupported("typ")),
        Some(_) => return Err(Failure::Malformed("typ")),
    }
    if header.contains_key("cty") {
        // RFC 7519 §5.2: a content type is there for nested tokens.
        return Err(Failure::Unsupported("cty"));
    }
    Ok((kid, algorithm))
}

fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_peek_reads_issuer_key_and_algorithm() {
        let peeked = peek(&token(r#"{"alg":"ES256","kid":"k","typ":"at+JWT"}"#, r#"{"iss":"https://idp"}"#));
        let expected = Peek { issuer: "https://idp".into(), kid: Some("k".into()), algorithm: Algorithm::Es256 };
        assert_eq!(peeked, Ok(expected));
    }

    #[test]
    fn headers_that_ask_for_more_are_refused() {
        let with = |header: &str| peek(&token(header, r#"{"iss":"i"}"#)).err();
        for (header, failure) in [
            (r#"{"alg":"none"}"#, Failure::AlgorithmRefused),
            (r#"{"alg":"HS256"}"#, Failure::AlgorithmRefused),
            (r#"{"alg":"hs256"}"#, Failure::AlgorithmRefused),
            (r#"{"alg":["RS256"]}"#, Failure::Malformed("alg")),
            (r#"{}"#, Failure::Malformed("alg")),
            (r#"{"alg":"RS256","alg":"HS256"}"#, Failure::Malformed("header")),
            (r#"{"alg":"RS256","crit":["exp"]}"#, Failure::Unsupported("header")),
            (r#"{"alg":"RS256","crit":[]}"#, Failure::Unsupported("header")),
            (r#"{"alg":"RS256","b64":false}"#, Failure::Unsupported("header")),
            (r#"{"alg":"RS256","enc":"A256GCM"}"#, Failure::Unsupported("header")),
            (r#"{"alg":"RS256","cty":"JWT"}"#, Failure::Unsupported("cty")),
            (r#"{"alg":"RS256","typ":"logout+jwt"}"#, Failure::Unsupported("typ")),
            (r#"{"alg":"RS256","typ":"dpop+jwt"}"#, Failure::Unsupported("typ")),
            (r#"{"alg":"RS256","typ":1}"#, Failure::Malformed("typ")),
            (r#"{"alg":"RS256","kid":""}"#, Failure::Malformed("kid")),
            (r#"{"alg":"RS256","kid":null}"#, Failure::Malformed("kid")),
        ] {
            assert_eq!(with(header), Some(failure), "{header}");
        }
        assert_eq!(with(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257))), Some(Failure::Malformed("kid")));
        // What a token carries to be checked with is not looked at.
        assert_eq!(with(r#"{"alg":"RS256","jwk":{"kty":"oct"},"jku":"http://x","x5u":"http://x"}"#), None);
    }

    #[test]
    fn forms_other_than_three_parts_are_refused() {
        for text in ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "e30.e30.", "e30=.e30.AA", "e30\n.e30.AA"] {
            assert!(peek(text).is_err(), "{text:?}");
        }
        assert_eq!(peek(&"a".repeat(TOKEN_BYTES_MAX + 1)), Err(Failure::TooLarge));
    }
}
