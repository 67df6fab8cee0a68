//! B11 and B20: tokens that must not hold.

use aws_lc_rs::hmac;
use chancery_identity::{Failure, authenticate};
use serde_json::{Value, json};

use crate::signer::{NOW, URL, at, b64, claims, header, issuer, issuer_with, keys, raw, rules, try_claims, try_with};

fn failure(token: &str) -> Option<Failure> {
    authenticate(token, &issuer(), at(NOW)).err()
}

#[test]
fn b11_an_unsigned_token_is_refused() {
    let body = b64(claims(json!({})).to_string());
    for alg in ["none", "None", "nOnE", ""] {
        let head = b64(json!({ "alg": alg, "kid": "rsa" }).to_string());
        assert_eq!(failure(&format!("{head}.{body}.")), Some(Failure::AlgorithmRefused), "{alg}");
    }
    let head = b64(header("RS256"));
    assert_eq!(failure(&format!("{head}.{body}.")), Some(Failure::BadSignature));
}

#[test]
fn b11_a_public_key_is_no_hmac_secret() {
    for (alg, algorithm) in [("HS256", hmac::HMAC_SHA256), ("RS256", hmac::HMAC_SHA256), ("ES256", hmac::HMAC_SHA256)] {
        let signed =
            format!("{}.{}", b64(json!({"alg": alg, "kid": "rsa"}).to_string()), b64(claims(json!({})).to_string()));
        let tag = hmac::sign(&hmac::Key::new(algorithm, keys().rsa_der()), signed.as_bytes());
        assert!(failure(&format!("{signed}.{}", b64(tag))).is_some(), "{alg}");
    }
}

#[test]
fn b11_the_algorithm_must_be_on_the_list_and_fit_the_key() {
    let token = raw("RS256", &header("RS256"), &claims(json!({})).to_string());
    let mut only = rules();
    only.algorithms = vec![chancery_identity::Algorithm::Es256];
    let issuer = issuer_with(only, &keys().jwks());
    assert_eq!(authenticate(&token, &issuer, at(NOW)).err(), Some(Failure::AlgorithmRefused));
    // The header names an algorithm that the named key is not for.
    let crossed = raw("ES256", r#"{"alg":"ES256","kid":"rsa"}"#, &claims(json!({})).to_string());
    assert_eq!(failure(&crossed), Some(Failure::AlgorithmRefused));
    // The header names another algorithm than the one that signed.
    let lied = raw("RS256", r#"{"alg":"PS256","kid":"rsa"}"#, &claims(json!({})).to_string());
    assert_eq!(failure(&lied), Some(Failure::BadSignature));
}

#[test]
fn b11_an_unknown_key_is_told_apart_and_a_missing_id_needs_one_fitting_key() {
    let payload = claims(json!({})).to_string();
    let token = raw("EdDSA", r#"{"alg":"EdDSA","kid":"new"}"#, &payload);
    assert_eq!(failure(&token), Some(Failure::UnknownKey { kid: "new".into() }));
    // One Ed25519 key in the set: no doubt which is meant.
    assert_eq!(failure(&raw("EdDSA", r#"{"alg":"EdDSA"}"#, &payload)), None);
    let mut two = keys().jwks();
    let all = two["keys"].as_array_mut().expect("a list");
    let mut copy = all[3].clone();
    copy["kid"] = json!("ed-2");
    all.push(copy);
    let issuer = issuer_with(rules(), &two);
    let unclear = authenticate(&raw("EdDSA", r#"{"alg":"EdDSA"}"#, &payload), &issuer, at(NOW));
    assert_eq!(unclear.err(), Some(Failure::UnclearKey));
}

#[test]
fn b11_any_changed_byte_breaks_the_signature() {
    let token = raw("EdDSA", &header("EdDSA"), &claims(json!({})).to_string());
    assert_eq!(failure(&token), None);
    for position in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        assert!(failure(&changed).is_some(), "byte {position}");
        assert!(failure(&token[..position]).is_some(), "cut at {position}");
    }
    for tail in ["=", "\n", " ", ".", "A"] {
        assert!(failure(&format!("{token}{tail}")).is_some(), "{tail:?}");
    }
}

#[test]
fn b11_issuer_and_audience_are_compared_byte_for_byte() {
    for issuer in ["https://idp.example/", "HTTPS://idp.example", "https://idp.example.evil", "https://other"] {
        assert_eq!(try_claims(json!({ "iss": issuer })).err(), Some(Failure::WrongIssuer), "{issuer}");
    }
    for audience in [json!("other"), json!("chancery "), json!("Chancery"), json!(["other"]), json!([])] {
        assert_eq!(try_claims(json!({ "aud": audience })).err(), Some(Failure::WrongAudience));
    }
    assert!(try_claims(json!({"aud": ["other", "chancery-two"]})).is_ok());
    for audience in
        [json!(null), json!(1), json!({}), json!(["chancery", 1]), json!([["chancery"]]), json!(vec!["chancery"; 101])]
    {
        assert_eq!(try_claims(json!({ "aud": audience })).err(), Some(Failure::BadClaim("aud")));
    }
}

#[test]
fn b20_time_is_checked_with_a_bounded_leeway() {
    let check = |over| try_claims(over).err();
    assert_eq!(check(json!({"exp": NOW - 29, "iat": NOW - 60})), None);
    assert_eq!(check(json!({"exp": NOW - 30, "iat": NOW - 60})), Some(Failure::Expired));
    assert_eq!(check(json!({"iat": NOW + 30})), None);
    assert_eq!(check(json!({"iat": NOW + 31})), Some(Failure::IssuedInFuture));
    assert_eq!(check(json!({"nbf": NOW + 30})), None);
    assert_eq!(check(json!({"nbf": NOW + 31})), Some(Failure::NotYetValid));
    assert_eq!(check(json!({"auth_time": NOW + 31})), Some(Failure::IssuedInFuture));
    assert_eq!(check(json!({"exp": NOW + 5, "iat": NOW + 5})), Some(Failure::BadClaim("exp")));
    assert_eq!(check(json!({"exp": NOW as f64 + 0.5, "iat": NOW as f64 - 0.5})), None);
    let token = raw("EdDSA", &header("EdDSA"), &claims(json!({})).to_string());
    assert_eq!(authenticate(&token, &issuer(), at(NOW + 329)).err(), None);
    assert_eq!(authenticate(&token, &issuer(), at(NOW + 330)).err(), Some(Failure::Expired));
    assert_eq!(authenticate(&token, &issuer(), chancery_model::Timestamp(i64::MAX)).err(), Some(Failure::Expired));
    assert_eq!(
        authenticate(&token, &issuer(), chancery_model::Timestamp(i64::MIN)).err(),
        Some(Failure::IssuedInFuture)
    );
}

#[test]
fn b11_a_claim_of_the_wrong_type_is_an_error_not_an_absence() {
    let wrong = [json!("1800000300"), json!(true), json!([1]), json!({}), json!(-1), json!(1e300), json!(u64::MAX)];
    for claim in ["exp", "iat", "nbf", "auth_time"] {
        for value in &wrong {
            let mut over = json!({});
            over[claim] = value.clone();
            assert_eq!(try_claims(over).err().map(|f| f.reason()), Some("claim-bad"), "{claim} {value}");
        }
    }
    for claim in ["iss", "sub", "jti"] {
        for value in [json!(1), json!(["alice"]), json!(""), json!({}), json!("a\u{0}b"), json!("x".repeat(600))] {
            let mut over = json!({});
            over[claim] = value.clone();
            assert_eq!(try_claims(over).err().map(|f| f.reason()), Some("claim-bad"), "{claim} {value}");
        }
    }
    for claim in ["exp", "iat", "iss", "aud", "sub"] {
        assert!(try_claims(json!({ claim: null })).is_err(), "{claim} is required");
    }
    let payload = claims(json!({})).to_string().replace("\"sub\"", "\"nbf\":null,\"sub\"");
    assert_eq!(failure(&raw("EdDSA", &header("EdDSA"), &payload)), Some(Failure::BadClaim("nbf")));
}

#[test]
fn b11_groups_of_the_wrong_type_or_elsewhere_are_refused() {
    for groups in
        [json!(1), json!(true), json!({"dba": true}), json!(["dba", 1]), json!([["dba"]]), json!([""]), json!("")]
    {
        assert_eq!(try_claims(json!({ "groups": groups })).err(), Some(Failure::BadClaim("groups")), "{groups}");
    }
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    assert_eq!(try_claims(json!({ "groups": many })).err(), Some(Failure::BadClaim("groups")));
    assert!(try_claims(json!({ "groups": many[1..] })).is_ok());
    for over in [
        json!({"groups": null, "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}}),
        json!({"_claim_names": {"groups": "src1"}}),
        json!({"groups": null, "hasgroups": true}),
        json!({"hasgroups": "true"}),
    ] {
        assert_eq!(try_claims(over).err(), Some(Failure::GroupsElsewhere));
    }
    let mut rules = rules();
    rules.groups = "/roles/db".into();
    assert_eq!(try_with(rules, json!({"_claim_names": {"roles": "s"}})).err(), Some(Failure::GroupsElsewhere));
    assert!(try_claims(json!({"_claim_names": {"address": "s"}, "hasgroups": false})).is_ok());
    assert_eq!(try_claims(json!({"_claim_names": "groups"})).err(), Some(Failure::BadClaim("_claim_names")));
}

#[test]
fn b11_repeated_members_are_refused_though_signed() {
    let payload = claims(json!({})).to_string();
    let twice = payload.replacen('{', r#"{"sub":"mallory","#, 1);
    assert_eq!(failure(&raw("EdDSA", &header("EdDSA"), &twice)), Some(Failure::Malformed("payload")));
    let escaped = payload.replacen('{', r#"{"s\u0075b":"mallory","#, 1);
    assert_eq!(failure(&raw("EdDSA", &header("EdDSA"), &escaped)), Some(Failure::Malformed("payload")));
    let head = r#"{"alg":"EdDSA","kid":"ed","kid":"rsa"}"#;
    assert_eq!(failure(&raw("EdDSA", head, &payload)), Some(Failure::Malformed("header")));
}

#[test]
fn b11_tokens_for_other_purposes_are_refused() {
    let logout = json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
    assert_eq!(try_claims(logout).err(), Some(Failure::Unsupported("events")));
    assert_eq!(try_claims(json!({"cnf": {"jkt": "x"}})).err(), Some(Failure::SenderBound));
    let nested = raw("EdDSA", r#"{"alg":"EdDSA","kid":"ed","cty":"JWT"}"#, &claims(json!({})).to_string());
    assert_eq!(failure(&nested), Some(Failure::Unsupported("cty")));
}

#[test]
fn b11_the_same_subject_of_two_issuers_is_two_principals() {
    let mut other = rules();
    other.url = "https://other.example".into();
    let one = try_claims(json!({})).expect("holds");
    let two = try_with(other, json!({"iss": "https://other.example"})).expect("holds");
    assert_eq!(one.chain.principal.subject, two.chain.principal.subject);
    assert_ne!(one.chain.canonical(), two.chain.canonical());
    assert_eq!(one.chain.principal.issuer, URL);
}

#[test]
fn narrowing_that_cannot_be_read_is_refused() {
    for value in
        [json!(1), json!(""), json!(["shop", 1]), json!(["Shop"]), json!("*"), json!({}), json!(vec!["a"; 101])]
    {
        let failure = try_claims(json!({ "chancery_resource": value })).err();
        assert_eq!(failure, Some(Failure::BadClaim("chancery_resource")), "{value}");
    }
    for value in [json!("write"), json!(true), json!(["read"]), json!("")] {
        assert_eq!(try_claims(json!({ "chancery_only": value })).err(), Some(Failure::BadClaim("chancery_only")));
    }
}

#[test]
fn a_failure_says_nothing_to_whoever_presented_the_token() {
    let failures = [
        try_claims(json!({"exp": 5, "iat": 1})).err(),
        try_claims(json!({"aud": "other"})).err(),
        failure(&raw("EdDSA", r#"{"alg":"EdDSA","kid":"secret-kid"}"#, &claims(json!({})).to_string())),
    ];
    for failure in failures.into_iter().flatten() {
        assert_eq!(failure.to_string(), "the token is not accepted");
    }
}

/// Every claim with every kind of JSON value: an identity or a failure, never a panic; and no identity without the
/// required claims as strings.
#[test]
fn b11_no_value_of_any_claim_panics() {
    let values: Vec<Value> = vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.1),
        json!(1e308),
        json!(""),
        json!("x"),
        json!("\u{0}"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"sub": "b"}),
        json!({"a": {"b": {"c": []}}}),
    ];
    let names = [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "groups",
        "act",
        "auth_time",
        "azp",
        "client_id",
        "gty",
        "cnf",
        "events",
        "_claim_names",
        "hasgroups",
        "chancery_kind",
        "chancery_only",
        "chancery_resource",
        "email",
        "preferred_username",
        "may_act",
    ];
    for name in names {
        for value in &values {
            let mut payload = claims(json!({}));
            payload[name] = value.clone();
            let token = raw("EdDSA", &header("EdDSA"), &payload.to_string());
            if let Ok(identity) = authenticate(&token, &issuer(), at(NOW)) {
                assert!(!identity.chain.principal.subject.is_empty(), "{name} {value}");
                assert!(identity.authentication.expires_at > at(NOW - 30), "{name} {value}");
            }
        }
    }
}
