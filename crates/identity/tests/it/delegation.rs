//! B12: chains of actors (RFC 8693 §4.1).

use chancery_identity::Failure;
use chancery_model::PrincipalKind;
use serde_json::{Value, json};

use crate::signer::{URL, rules, try_claims, try_with};

/// `act` claims nested so that the first name is the first delegate.
fn chain(names: &[&str]) -> Value {
    names.iter().fold(Value::Null, |inner, name| match inner {
        Value::Null => json!({ "sub": name }),
        inner => json!({ "sub": name, "act": inner }),
    })
}

#[test]
fn the_outermost_act_is_the_current_actor_and_comes_last() {
    let identity = try_claims(json!({"act": {"sub": "sql-helper", "act": {"sub": "report-agent"}}})).expect("holds");
    let actors: Vec<_> = identity.chain.actors.iter().map(|actor| actor.subject.as_str()).collect();
    assert_eq!(actors, ["report-agent", "sql-helper"]);
    assert_eq!(identity.chain.to_string(), "alice → report-agent → sql-helper");
    assert!(identity.chain.actors.iter().all(|actor| actor.kind == PrincipalKind::Agent && actor.issuer == URL));
}

#[test]
fn an_actor_may_have_an_issuer_and_a_kind_of_its_own() {
    let act =
        json!({"sub": "runner", "iss": "https://ci.example", "chancery_kind": "service", "aud": 7, "exp": "never"});
    let identity = try_claims(json!({ "act": act })).expect("other claims of an actor say nothing");
    let actor = &identity.chain.actors[0];
    assert_eq!((actor.issuer.as_str(), actor.kind), ("https://ci.example", PrincipalKind::Service));
}

#[test]
fn who_may_act_is_not_who_acts() {
    let identity = try_claims(json!({"may_act": {"sub": "somebody"}})).expect("holds");
    assert!(identity.chain.actors.is_empty());
}

#[test]
fn an_actor_without_a_proper_name_is_refused() {
    let bad = |act: Value| try_claims(json!({ "act": act })).err();
    for act in [json!("agent"), json!([]), json!(true), json!([{"sub": "a"}])] {
        assert_eq!(bad(act), Some(Failure::BadClaim("act")));
    }
    for act in [json!({}), json!({"sub": 1}), json!({"sub": ""}), json!({"sub": ["a"]}), json!({"sub": "a\u{202e}"})] {
        assert_eq!(bad(act), Some(Failure::BadClaim("act.sub")));
    }
    assert_eq!(bad(json!({"sub": "a", "iss": 1})), Some(Failure::BadClaim("act.iss")));
    assert_eq!(bad(json!({"sub": "a", "chancery_kind": "root"})), Some(Failure::BadClaim("kind")));
    assert_eq!(bad(json!({"sub": "a", "act": null})), Some(Failure::BadClaim("act")));
}

#[test]
fn a_chain_has_a_longest_length() {
    let eight = ["a", "b", "c", "d", "e", "f", "g", "h"];
    assert_eq!(try_claims(json!({ "act": chain(&eight) })).map(|identity| identity.chain.depth()), Ok(8));
    let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    assert_eq!(try_claims(json!({ "act": chain(&nine) })).err(), Some(Failure::ChainTooLong));
    let mut none = rules();
    none.max_chain = 0;
    assert_eq!(try_with(none, json!({ "act": chain(&["a"]) })).err(), Some(Failure::ChainTooLong));
}

#[test]
fn nobody_stands_twice_in_a_chain() {
    assert_eq!(try_claims(json!({ "act": chain(&["a", "b", "a"]) })).err(), Some(Failure::ChainRepeats));
    assert_eq!(try_claims(json!({ "act": chain(&["alice"]) })).err(), Some(Failure::ChainRepeats));
    // The same name at another issuer is somebody else.
    assert!(try_claims(json!({"act": {"sub": "alice", "iss": "https://other.example"}})).is_ok());
}

#[test]
fn a_very_deep_chain_is_refused_before_it_is_followed() {
    let names = vec!["x"; 500];
    assert!(try_claims(json!({ "act": chain(&names) })).is_err());
}
