//! Tokens and key sets as a hostile issuer or client would send them. The first byte picks the door: a whole token, a
//! key set, or claims that are signed here with a known key, so that what lies behind the signature is reached too.

#![no_main]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chancery_identity::{Issuer, IssuerRules, KeySet, authenticate, peek};
use chancery_model::Timestamp;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
const URL: &str = "https://idp.example";

struct World {
    key: Ed25519KeyPair,
    issuer: Issuer,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 bytes are a seed");
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let jwks = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"k","x":"{x}"}}]}}"#);
    let keys = KeySet::parse(jwks.as_bytes()).expect("the key set is well formed");
    let rules = IssuerRules::new(URL, vec!["chancery".to_owned()]);
    World { key, issuer: Issuer::new(rules, keys).expect("the rules are sound") }
});

fuzz_target!(|data: &[u8]| {
    let world = &*WORLD;
    match data {
        [0, token @ ..] => {
            let Ok(token) = std::str::from_utf8(token) else { return };
            let _ = peek(token);
            assert!(authenticate(token, &world.issuer, NOW).is_err(), "nobody but us can sign");
        }
        [1, jwks @ ..] => {
            let _ = KeySet::parse(jwks);
        }
        [_, claims @ ..] => {
            let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"EdDSA","typ":"at+jwt","kid":"k"}"#);
            let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
            let signature = URL_SAFE_NO_PAD.encode(world.key.sign(signed.as_bytes()));
            if let Ok(identity) = authenticate(&format!("{signed}.{signature}"), &world.issuer, NOW) {
                let chain = &identity.get().chain;
                assert!(chain.actors.len() <= world.issuer.rules().max_chain, "the chain is bounded");
            }
        }
        [] => {}
    }
});
