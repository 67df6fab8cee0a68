//! An issuer's published keys (RFC 7517), reduced to those that can verify a token here.
//!
//! A key that cannot be used is left out, not an error: issuers publish encryption keys and curves we do not speak
//! beside the ones we need. A set without any usable key is an error, so that it never replaces a good one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde_json::{Map, Value};

use crate::{Algorithm, Failure, KeyFailure, json};

/// The longest key set read, in bytes: a hundred RSA keys with certificates fit well within it.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
const KEYS_MAX: usize = 100;
/// The longest key id; also the longest that a token may name.
pub(crate) const KID_BYTES_MAX: usize = 256;
/// Below 2048 bits RSA is too weak; above 8192 a signature check takes too long and the library refuses it.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
const ALGORITHMS_RSA: &[Algorithm] =
    &[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Ps384, Algorithm::Ps512];

/// An issuer's usable keys.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: usize,
}

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JSON Web Key Set: at most 256 KiB and 100 keys. Keeps RSA keys of 2048 to 8192 bits, P-256, P-384 and
    /// Ed25519 keys that are for signatures; leaves the others out.
    ///
    /// # Errors
    /// [`KeyFailure`]; the issuer is at fault.
    pub fn parse(jwks: &[u8]) -> Result<Self, KeyFailure> {
        if jwks.len() > JWKS_BYTES_MAX {
            return Err(KeyFailure::TooLarge);
        }
        let set = json::object(jwks).ok_or(KeyFailure::Malformed)?;
        let Some(Value::Array(all)) = set.get("keys") else {
            return Err(KeyFailure::Malformed);
        };
        if all.len() > KEYS_MAX {
            return Err(KeyFailure::TooManyKeys);
        }
        let keys: Vec<Key> = all.iter().filter_map(Value::as_object).filter_map(usable).collect();
        if keys.is_empty() {
            return Err(KeyFailure::NoUsableKey);
        }
        Ok(Self { left_out: all.len() - keys.len(), keys })
    }

    /// How many keys can be used; at least one.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// How many published keys are of no use here.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether a key of this id is among them.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The one key that may have signed with this algorithm under this id.
    pub(crate) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&DecodingKey, Failure> {
        let named = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        if let Some(kid) = kid
            && !self.knows(kid)
        {
            return Err(Failure::UnknownKey { kid: kid.to_owned() });
        }
        let mut fitting = self.keys.iter().filter(named).filter(|key| key.algorithms.contains(&algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(&key.key),
            (Some(_), Some(_)) => Err(Failure::UnclearKey),
            (None, _) => Err(Failure::AlgorithmRefused),
        }
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kids: Vec<_> = self.keys.iter().map(|key| &key.kid).collect();
        f.debug_struct("KeySet").field("kids", &kids).field("left_out", &self.left_out).finish()
    }
}

fn usable(jwk: &Map<String, Value>) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) if (1..=KID_BYTES_MAX).contains(&kid.len()) => Some(kid.clone()),
        Some(_) => return None,
    };
    // A private key that was published is anybody's key.
    if jwk.contains_key("d") || !is_for_signatures(jwk) {
        return None;
    }
    let (fitting, key) = match text("kty")? {
        "RSA" => (ALGORITHMS_RSA, rsa(text("n")?, text("e")?)?),
        "EC" => match text("crv")? {
            "P-256" => (&[Algorithm::Es256][..], ec(text("x")?, text("y")?, 32)?),
            "P-384" => (&[Algorithm::Es384][..], ec(text("x")?, text("y")?, 48)?),
            _ => return None,
        },
        "OKP" if text("crv")? == "Ed25519" => (&[Algorithm::EdDsa][..], ed25519(text("x")?)?),
        _ => return None,
    };
    let algorithms = match jwk.get("alg") {
        None => fitting.to_vec(),
        Some(alg) => {
            let only = alg.as_str().and_then(Algorithm::parse)?;
            fitting.contains(&only).then(|| vec![only])?
        }
    };
    Some(Key { kid, algorithms, key })
}

/// RFC 7517 §4.2, §4.3: absent means unrestricted.
fn is_for_signatures(jwk: &Map<String, Value>) -> bool {
    let by_use = jwk.get("use").is_none_or(|value| value == "sig");
    let by_operations = jwk
        .get("key_ops")
        .is_none_or(|value| value.as_array().is_some_and(|operations| operations.iter().any(|op| op == "verify")));
    by_use && by_operations
}

fn rsa(n: &str, e: &str) -> Option<DecodingKey> {
    let n = URL_SAFE_NO_PAD.decode(n).ok()?;
    let e = URL_SAFE_NO_PAD.decode(e).ok()?;
    // Some issuers pad the modulus with a zero octet although RFC 7518 §6.3.1.1 forbids it.
    let n = n.iter().position(|byte| *byte != 0).and_then(|first| n.get(first..))?;
    let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
    let exponent = e.iter().try_fold(0_u64, |value, byte| Some(value.checked_mul(256)? | u64::from(*byte)))?;
    // aws-lc takes exponents up to 33 bits; below 65537 they are odd in every sense (NIST SP 800-56B §6.2).
    let fits = RSA_BITS.contains(&bits) && (65_537..1 << 33).contains(&exponent) && exponent % 2 == 1;
    fits.then(|| DecodingKey::from_rsa_raw_components(n, &e))
}

fn ec(x: &str, y: &str, width: usize) -> Option<DecodingKey> {
    let x_bytes = URL_SAFE_NO_PAD.decode(x).ok()?;
    let y_bytes = URL_SAFE_NO_PAD.decode(y).ok()?;
    if x_bytes.len() != width || y_bytes.len() != width {
        return None;
    }
    DecodingKey::from_ec_components(x, y).ok()
}

fn ed25519(x: &str) -> Option<DecodingKey> {
    (URL_SAFE_NO_PAD.decode(x).ok()?.len() == 32).then(|| DecodingKey::from_ed_components(x).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(keys: &str) -> Result<KeySet, KeyFailure> {
        KeySet::parse(format!("{{\"keys\":[{keys}]}}").as_bytes())
    }
    fn bytes(length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xa5; length])
    }
    fn rsa_jwk(bytes_n: usize, e: &str, more: &str) -> String {
        format!("{{\"kty\":\"RSA\",\"n\":\"{}\",\"e\":\"{e}\"{more}}}", bytes(bytes_n))
    }

    #[test]
    fn weak_or_misused_keys_are_left_out() {
        let good = rsa_jwk(256, "AQAB", ",\"kid\":\"good\"");
        let ec =
            |x: usize| format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{}\",\"y\":\"{}\"}}", bytes(x), bytes(32));
        for bad in [
            rsa_jwk(128, "AQAB", ""),
            rsa_jwk(255, "AQAB", ""),
            rsa_jwk(1_025, "AQAB", ""),
            rsa_jwk(256, "Aw", ""),
            rsa_jwk(256, "AQAA", ""),
            rsa_jwk(256, "", ""),
            rsa_jwk(256, "AQAB", ",\"use\":\"enc\""),
            rsa_jwk(256, "AQAB", ",\"key_ops\":[\"encrypt\"]"),
            rsa_jwk(256, "AQAB", ",\"d\":\"AA\""),
            rsa_jwk(256, "AQAB", ",\"alg\":\"HS256\""),
            rsa_jwk(256, "AQAB", ",\"alg\":\"ES256\""),
            rsa_jwk(256, "AQAB", ",\"kid\":7"),
            ec(31),
            ec(33),
            "{\"kty\":\"oct\",\"k\":\"AAAA\"}".to_owned(),
            "{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AA\",\"y\":\"AA\"}".to_owned(),
            "{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AA\"}".to_owned(),
            "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}".to_owned(),
            "\"text\"".to_owned(),
        ] {
            assert_eq!(set(&bad).err(), Some(KeyFailure::NoUsableKey), "{bad}");
            let both = set(&format!("{good},{bad}")).expect("one key is good");
            assert_eq!((both.count(), both.left_out()), (1, 1), "{bad}");
        }
    }

    #[test]
    fn sets_are_bounded() {
        assert_eq!(KeySet::parse(&vec![b' '; JWKS_BYTES_MAX + 1]).err(), Some(KeyFailure::TooLarge));
        assert_eq!(set(&vec!["{}"; 101].join(",")).err(), Some(KeyFailure::TooManyKeys));
        assert_eq!(set("").err(), Some(KeyFailure::NoUsableKey));
        for text in ["", "[]", "{\"keys\":{}}", "{\"keys\":[],\"keys\":[]}"] {
            assert_eq!(KeySet::parse(text.as_bytes()).err(), Some(KeyFailure::Malformed), "{text}");
        }
    }

    #[test]
    fn keys_are_found_by_id_and_must_fit_the_algorithm() {
        let keys = set(&format!(
            "{},{},{}",
            rsa_jwk(256, "AQAB", ",\"kid\":\"a\",\"alg\":\"RS256\""),
            rsa_jwk(256, "AQAB", ",\"kid\":\"b\""),
            rsa_jwk(256, "AQAB", ",\"kid\":\"b\"")
        ))
        .expect("usable");
        assert!(keys.find(Some("a"), Algorithm::Rs256).is_ok());
        assert_eq!(keys.find(Some("a"), Algorithm::Ps256).err(), Some(Failure::AlgorithmRefused));
        assert_eq!(keys.find(Some("a"), Algorithm::Es256).err(), Some(Failure::AlgorithmRefused));
        assert_eq!(keys.find(Some("b"), Algorithm::Rs256).err(), Some(Failure::UnclearKey));
        assert_eq!(keys.find(Some("c"), Algorithm::Rs256).err(), Some(Failure::UnknownKey { kid: "c".into() }));
        assert_eq!(keys.find(None, Algorithm::Rs256).err(), Some(Failure::UnclearKey));
        assert_eq!(keys.find(None, Algorithm::EdDsa).err(), Some(Failure::AlgorithmRefused));
    }
}
