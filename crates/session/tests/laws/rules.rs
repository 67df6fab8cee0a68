//! The rule sets, the people and the resource of the simulation.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use chancery_mask::{AttributeRow, Catalog, CatalogInput, ColumnRule, MaskRules, Operator, RelationRow};
use chancery_model::{
    Assurance, Authentication, Delegation, Durability, Principal, PrincipalKind, Protocol, Resource, ResourceName,
    SessionId, Timestamp,
};
use chancery_policy::{ReviewRule, RuleSet, Source};
use chancery_session::{Context, SessionLimits};

pub(crate) const START: Timestamp = Timestamp(1_790_000_000_000_000);
pub(crate) const MINUTE: i64 = 60_000_000;
const IDP: &str = "https://idp.example";

const USUAL: &str = r#"
permit (principal, action in [Action::"connect", Action::"read", Action::"write", Action::"define", Action::"export",
    Action::"import", Action::"execute"], resource);
forbid (principal, action, resource) when { context.kinds.contains("delete") }
    unless { context.reviews.contains("dba") };
forbid (principal, action, resource) when { context.kinds.contains("drop table") };
"#;

const READS: &str = r#"permit (principal, action in [Action::"connect", Action::"read", Action::"export"], resource);"#;

/// The usual rules without `execute`: what cannot be read is not run.
fn readable() -> String {
    USUAL.replace(", Action::\"execute\"", "")
}

/// The usual rules, the same under another digest, rules without writes, rules without `connect`, all,
/// and those without `execute`.
pub(crate) static SETS: LazyLock<[Arc<RuleSet>; 6]> = LazyLock::new(|| {
    let again = format!("{USUAL}// again\n");
    let nobody = r#"permit (principal, action == Action::"read", resource);"#;
    [USUAL, &again, READS, nobody, "permit (principal, action, resource);", &readable()]
        .map(|text| Arc::new(load(text)))
});

fn load(text: &str) -> RuleSet {
    let review = ReviewRule {
        name: "dba".into(),
        reviewers: vec!["Group::\"dba\"".into()],
        quorum: 1,
        expires_micros: 15 * MINUTE,
        lasts_micros: None,
        assurance: Assurance::Clicked,
    };
    let source = Source { path: "a.cedar".into(), text: text.into() };
    let resource = resource(Durability::Balanced);
    RuleSet::load(vec![source], vec![review], &[resource]).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

pub(crate) fn resource(durability: Durability) -> Resource {
    Resource {
        name: ResourceName::parse("shop").expect("well-formed"),
        protocol: Protocol::Postgres,
        database: "main".into(),
        labels: BTreeMap::new(),
        durability,
    }
}

pub(crate) fn person(subject: &str, groups: &[&str]) -> Principal {
    Principal {
        issuer: IDP.into(),
        subject: subject.into(),
        kind: PrincipalKind::User,
        display: subject.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    }
}

pub(crate) fn chain() -> Delegation {
    Delegation { principal: person("alice", &["dba", "dev"]), actors: Vec::new() }
}

pub(crate) fn mask() -> MaskRules {
    let rule = |column: &str| ColumnRule {
        schema: "public".into(),
        table: "people".into(),
        column: column.into(),
        tag: "pii".into(),
        with: Operator::Redact,
    };
    MaskRules { columns: vec![rule("ssn")], ..MaskRules::none() }
}

pub(crate) fn catalog(mask: &MaskRules) -> Arc<Catalog> {
    let relation = |oid, name: &str| RelationRow { oid, schema: "public".into(), name: name.into(), kind: 'r' };
    let column = |relation, number, name: &str| AttributeRow { relation, number, name: name.into(), type_oid: 25 };
    let input = CatalogInput {
        relations: vec![relation(100, "t"), relation(101, "people")],
        attributes: vec![
            column(100, 1, "id"),
            column(100, 2, "name"),
            column(101, 1, "id"),
            column(101, 2, "ssn"),
            column(101, 3, "nick"),
        ],
        ..CatalogInput::default()
    };
    Arc::new(Catalog::build(input, mask))
}

pub(crate) fn fingerprint_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, b"key")
}

pub(crate) fn context(mask: MaskRules, durability: Durability, wait: bool, limits: SessionLimits) -> Arc<Context> {
    Arc::new(Context {
        id: SessionId::new(START, [7; 10]),
        chain: Arc::new(chain()),
        chain_id: [3; 16],
        authentication: Authentication {
            issuer: IDP.into(),
            method: "oidc",
            authenticated_at: START,
            expires_at: START.plus_micros(8 * 60 * MINUTE),
            token_id: "t".into(),
        },
        resource: Arc::new(resource(durability)),
        client: "192.0.2.7".parse().expect("an address"),
        fingerprint_key: fingerprint_key(),
        mask: Arc::new(mask),
        only_read: false,
        seals: false,
        wait,
        seed: [5; 32],
        limits,
    })
}
