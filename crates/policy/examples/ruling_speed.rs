//! How long a decision takes: `cargo run --release -p chancery-policy --example ruling_speed`.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use chancery_model::*;
use chancery_policy::{Request, RuleSet, Source, Subject, Verdict, decide};

fn main() {
    for count in [5, 50, 200, 1_000] {
        measure(count);
    }
}

fn measure(count: usize) {
    let resource = Resource {
        name: ResourceName::parse("shop").expect("well-formed"),
        protocol: Protocol::Postgres,
        database: "main".into(),
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        durability: Durability::Balanced,
    };
    let mut text = String::from("permit (principal in Group::\"dev\", action, resource in Resource::\"shop\");\n");
    for n in 1..count {
        let action = ["read", "write", "define", "export"][n % 4];
        text += &format!(
            "forbid (principal, action == Action::\"{action}\", resource in Schema::\"shop/s{n}\") \
             when {{ context.kinds.containsAny([\"x{n}\", \"y\"]) && context.chain.depth > 3 }};\n"
        );
    }
    let begun = Instant::now();
    let sources = vec![Source { path: "a.cedar".into(), text }];
    let rules = RuleSet::load(sources, vec![], std::slice::from_ref(&resource)).expect("the rules are well-formed");
    let loaded = begun.elapsed();
    let actor = Actor { issuer: "https://idp.example".into(), subject: "bot".into(), kind: PrincipalKind::Agent };
    let chain = Delegation {
        principal: Principal {
            issuer: "https://idp.example".into(),
            subject: "alice".into(),
            kind: PrincipalKind::User,
            display: "alice".into(),
            groups: vec!["dev".into()],
        },
        actors: vec![actor],
    };
    let login = Authentication {
        issuer: "https://idp.example".into(),
        method: "oidc",
        authenticated_at: Timestamp(0),
        expires_at: Timestamp(i64::MAX),
        token_id: String::new(),
    };
    let client = std::net::IpAddr::from([127, 0, 0, 1]);
    let subject = Subject::new(&rules, &chain, &login, &resource, client);
    let table = TableName { schema: Some("public".into()), name: "t".into() };
    let mut facts = Facts::unreadable("");
    facts.statements[0].unreadable = None;
    facts.statements[0].tables = vec![table.clone()];
    let needs = [Need { action: Action::Read, object: Object::Table(table) }];
    let request = Request {
        subject: &subject,
        digest: Digest::default(),
        facts: &facts,
        needs: &needs,
        reviews: &[],
        connect: false,
    };
    let rounds = 2_000;
    let begun = Instant::now();
    let allowed = (0..rounds).filter(|_| matches!(decide(&request, &rules, Timestamp(1)), Verdict::Allow(_))).count();
    let each = begun.elapsed() / rounds;
    assert_eq!(allowed, rounds as usize);
    println!("{count} rules: load {loaded:?}, subject of two links decides in {each:?}");
}
