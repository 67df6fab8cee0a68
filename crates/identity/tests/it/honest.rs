//! Tokens that hold, and what is made of them.

use chancery_identity::{Algorithm, authenticate, peek};
use chancery_model::PrincipalKind;
use serde_json::json;

use crate::signer::{NOW, URL, at, claims, header, issuer, raw, rules, try_claims, try_with};

#[test]
fn every_algorithm_on_the_list_verifies() {
    for algorithm in Algorithm::ALL {
        let alg = algorithm.as_str();
        let token = raw(alg, &header(alg), &claims(json!({})).to_string());
        assert_eq!(peek(&token).map(|peek| (peek.issuer, peek.algorithm)), Ok((URL.to_owned(), algorithm)));
        let identity = authenticate(&token, &issuer(), at(NOW)).unwrap_or_else(|failure| panic!("{alg}: {failure:?}"));
        assert_eq!(identity.chain.principal.subject, "alice");
    }
}

#[test]
fn an_identity_carries_what_the_token_says() {
    let identity = try_claims(json!({"email": "alice@example.com", "auth_time": NOW - 100})).expect("holds");
    let principal = &identity.chain.principal;
    assert_eq!(principal.issuer, URL);
    assert_eq!(principal.kind, PrincipalKind::User);
    assert_eq!(principal.display, "alice@example.com");
    assert_eq!(principal.groups, ["analysts", "oncall"]);
    assert!(identity.chain.actors.is_empty());
    assert_eq!(identity.authentication.token_id, "token-1");
    assert_eq!(identity.authentication.authenticated_at, at(NOW - 100));
    assert_eq!(identity.authentication.expires_at, at(NOW + 300));
    assert_eq!(identity.authentication.method, "oidc");
    assert_eq!(identity.resources, None);
    assert!(!identity.read_only);
    assert_eq!(identity.principal().get(), principal);
}

#[test]
fn a_token_without_an_id_is_named_by_a_digest_that_its_signature_does_not_change() {
    let payload = claims(json!({"jti": null})).to_string();
    let id = || {
        let token = raw("ES256", &header("ES256"), &payload);
        let identity = authenticate(&token, &issuer(), at(NOW)).expect("holds");
        identity.authentication.token_id.clone()
    };
    assert!(id().starts_with("sha256:"));
    assert_eq!(id(), id());
}

#[test]
fn groups_are_a_list_or_one_group_and_never_split() {
    let groups = |value| try_claims(json!({ "groups": value })).map(|identity| identity.chain.principal.groups.clone());
    assert_eq!(groups(json!("dba,admin")), Ok(vec!["dba,admin".into()]));
    assert_eq!(groups(json!(["b", "a", "b"])), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(groups(json!(["DBA", "dba"])), Ok(vec!["DBA".into(), "dba".into()]));
    assert_eq!(groups(json!([])), Ok(vec![]));
    assert_eq!(groups(json!(null)), Ok(vec![]));
}

#[test]
fn claims_are_named_plainly_or_by_pointer() {
    let with = |claim: &str, over| {
        let mut rules = rules();
        rules.groups = claim.to_owned();
        try_with(rules, over).map(|identity| identity.chain.principal.groups.clone())
    };
    let one = Ok(vec!["dba".to_owned()]);
    assert_eq!(with("https://idp.example/groups", json!({"https://idp.example/groups": ["dba"]})), one);
    assert_eq!(with("/realm_access/roles", json!({"realm_access": {"roles": ["dba"]}})), one);
    assert_eq!(with("/a~1b", json!({"a/b": ["dba"]})), one);
    assert_eq!(with("/realm_access/roles", json!({"realm_access": "dba"})), Ok(vec![]));
}

#[test]
fn a_client_of_its_own_is_a_service_unless_the_kind_claim_says_otherwise() {
    let kind = |over| try_claims(over).map(|identity| identity.chain.principal.kind);
    assert_eq!(kind(json!({})), Ok(PrincipalKind::User));
    assert_eq!(kind(json!({"azp": "console"})), Ok(PrincipalKind::User));
    assert_eq!(kind(json!({"azp": "alice"})), Ok(PrincipalKind::Service));
    assert_eq!(kind(json!({"client_id": "alice"})), Ok(PrincipalKind::Service));
    assert_eq!(kind(json!({"gty": "client-credentials"})), Ok(PrincipalKind::Service));
    assert_eq!(kind(json!({"chancery_kind": "agent", "client_id": "alice"})), Ok(PrincipalKind::Agent));
}

#[test]
fn a_display_name_that_could_deceive_is_not_shown() {
    for bad in ["", "  ", "a\u{202e}b", "a\u{1b}[2J", "a\u{200b}", &"x".repeat(129)] {
        let identity = try_claims(json!({ "preferred_username": bad })).expect("holds");
        assert_eq!(identity.chain.principal.display, "alice", "{bad:?}");
    }
}

#[test]
fn narrowing_claims_are_surfaced() {
    let identity = try_claims(json!({"chancery_resource": ["shop", "mail"], "chancery_only": "read"})).expect("holds");
    let names = identity.resources.as_ref().map(|all| all.iter().map(|name| name.as_str()).collect::<Vec<_>>());
    assert_eq!(names, Some(vec!["mail", "shop"]));
    assert!(identity.read_only);
    let one = try_claims(json!({"chancery_resource": "shop"})).expect("holds");
    let name = |text| chancery_model::ResourceName::parse(text).expect("a name");
    assert!(one.is_for(&name("shop")) && !one.is_for(&name("mail")));
    let none = try_claims(json!({"chancery_resource": []})).expect("holds");
    assert!(!none.is_for(&name("shop")));
}
