//! An issuer for tests: signs anything, sensible or not.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_identity::{Authenticated, Failure, Identity, Issuer, IssuerRules, KeySet, authenticate};
use chancery_model::Timestamp;
use serde_json::{Value, json};

pub(crate) const URL: &str = "https://idp.example";
pub(crate) const NOW: i64 = 1_800_000_000;

pub(crate) struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("randomness is there"),
        p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("randomness is there"),
        p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("randomness is there"),
        ed: Ed25519KeyPair::generate().expect("randomness is there"),
    })
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec_jwk(kid: &str, curve: &str, pair: &EcdsaKeyPair) -> Value {
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    json!({"kty": "EC", "crv": curve, "kid": kid, "x": b64(x), "y": b64(y), "use": "sig"})
}

impl Keys {
    /// The DER form (RFC 8017 A.1.1) of the RSA key, which an attacker would try as an HMAC secret.
    pub(crate) fn rsa_der(&self) -> &[u8] {
        self.rsa.public_key().as_ref()
    }

    pub(crate) fn jwks(&self) -> Value {
        // A 2048-bit modulus stands behind nine bytes of DER, the exponent is 65537.
        let n = &self.rsa_der()[9..265];
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "n": b64(n), "e": "AQAB", "use": "sig"},
            ec_jwk("p256", "P-256", &self.p256),
            ec_jwk("p384", "P-384", &self.p384),
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(self.ed.public_key())},
        ]})
    }

    pub(crate) fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).expect("the key fits");
            signature
        };
        match alg {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, message).expect("the key fits").as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).expect("the key fits").as_ref().to_vec(),
            _ => self.ed.sign(message).as_ref().to_vec(),
        }
    }
}

/// A token whose header and payload are these texts, signed with `alg`'s key.
pub(crate) fn raw(alg: &str, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = keys().sign(alg, signed.as_bytes());
    format!("{signed}.{}", b64(signature))
}

pub(crate) fn kid_of(alg: &str) -> &'static str {
    match alg {
        "ES256" => "p256",
        "ES384" => "p384",
        "EdDSA" => "ed",
        _ => "rsa",
    }
}

/// A well-formed header for `alg`.
pub(crate) fn header(alg: &str) -> String {
    json!({"alg": alg, "kid": kid_of(alg), "typ": "at+jwt"}).to_string()
}

/// Claims that are in order, with these put over them; `null` takes a claim away.
pub(crate) fn claims(over: Value) -> Value {
    let mut claims = json!({
        "iss": URL, "sub": "alice", "aud": "chancery", "iat": NOW - 10, "exp": NOW + 300, "jti": "token-1",
        "groups": ["oncall", "analysts"],
    });
    let all = claims.as_object_mut().expect("an object");
    for (name, value) in over.as_object().expect("an object") {
        match value {
            Value::Null => all.remove(name),
            value => all.insert(name.clone(), value.clone()),
        };
    }
    claims
}

pub(crate) fn rules() -> IssuerRules {
    IssuerRules::new(URL, vec!["chancery".into(), "chancery-two".into()])
}

pub(crate) fn issuer_with(rules: IssuerRules, jwks: &Value) -> Issuer {
    let keys = KeySet::parse(jwks.to_string().as_bytes()).expect("the keys are usable");
    Issuer::new(rules, keys).expect("the rules are usable")
}

pub(crate) fn issuer() -> Issuer {
    issuer_with(rules(), &keys().jwks())
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

/// Authenticates EdDSA-signed claims now, by the default rules.
pub(crate) fn try_claims(over: Value) -> Result<Authenticated<Identity>, Failure> {
    try_with(rules(), over)
}

pub(crate) fn try_with(rules: IssuerRules, over: Value) -> Result<Authenticated<Identity>, Failure> {
    let token = raw("EdDSA", &header("EdDSA"), &claims(over).to_string());
    authenticate(&token, &issuer_with(rules, &keys().jwks()), at(NOW))
}
