//! What the rules decide, in tables.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use chancery_model::*;
use chancery_policy::approval::{self, ApprovalError};
use chancery_policy::*;

const IDP: &str = "https://idp.example";
const NOW: Timestamp = Timestamp(1_790_000_000_000_000);
const MINUTE: i64 = 60_000_000;

fn shop() -> Resource {
    Resource {
        name: ResourceName::parse("shop").expect("well-formed"),
        protocol: Protocol::Postgres,
        database: "main".into(),
        labels: BTreeMap::from([("env".into(), "prod".into())]),
        durability: Durability::Balanced,
    }
}

fn review_rule(name: &str, reviewers: &[&str], quorum: u32) -> ReviewRule {
    ReviewRule {
        name: name.into(),
        reviewers: reviewers.iter().map(|r| (*r).to_owned()).collect(),
        quorum,
        expires_micros: 15 * MINUTE,
        lasts_micros: None,
        assurance: Assurance::Clicked,
    }
}

fn reviews() -> Vec<ReviewRule> {
    vec![
        review_rule("dba", &["Group::\"dba\""], 1),
        review_rule("security", &["Group::\"security\""], 2),
        review_rule("owner", &["User::\"olga@idp.example\""], 1),
    ]
}

fn load(text: &str) -> RuleSet {
    try_load(text, reviews()).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn try_load(text: &str, reviews: Vec<ReviewRule>) -> Result<RuleSet, Vec<Problem>> {
    RuleSet::load(vec![Source { path: "a.cedar".into(), text: text.into() }], reviews, &[shop()])
}

fn person(subject: &str, groups: &[&str]) -> Principal {
    Principal {
        issuer: IDP.into(),
        subject: subject.into(),
        kind: PrincipalKind::User,
        display: subject.into(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
    }
}

fn chain(actors: &[&str]) -> Delegation {
    let actor = |s: &&str| Actor { issuer: IDP.into(), subject: (*s).to_owned(), kind: PrincipalKind::Agent };
    Delegation { principal: person("alice", &["dev"]), actors: actors.iter().map(actor).collect() }
}

fn login() -> Authentication {
    Authentication {
        issuer: IDP.into(),
        method: "oidc",
        authenticated_at: NOW.plus_micros(-10 * MINUTE),
        expires_at: NOW.plus_micros(60 * MINUTE),
        token_id: "t".into(),
    }
}

fn subject(rules: &RuleSet, chain: &Delegation) -> Subject {
    Subject::new(rules, chain, &login(), &shop(), "192.0.2.7".parse().expect("an address"))
}

fn table(name: &str) -> Object {
    Object::Table(TableName { schema: Some("public".into()), name: name.into() })
}

fn statement(kind: &str, effect: Effect, tables: &[&str]) -> Facts {
    let mut facts = Facts::unreadable("");
    let read = &mut facts.statements[0];
    read.kind = kind.into();
    read.effect = effect;
    read.tables = tables.iter().map(|t| TableName { schema: None, name: (*t).to_owned() }).collect();
    read.has_filter = (kind == "delete").then_some(false);
    read.opaque = false;
    read.unreadable = None;
    facts
}

fn ask(rules: &RuleSet, subject: &Subject, facts: &Facts, needs: &[Need]) -> Verdict {
    let request = Request { subject, digest: Digest([7; 32]), facts, needs, reviews: &[], connect: false };
    decide(&request, rules, NOW)
}

fn one(rules: &RuleSet, actors: &[&str], action: Action, on: &str) -> Verdict {
    let (kind, effect) = match action {
        Action::Read => ("select", Effect::Read),
        _ => ("delete", Effect::Write),
    };
    ask(rules, &subject(rules, &chain(actors)), &statement(kind, effect, &[on]), &[Need { action, object: table(on) }])
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow(_) => "allow".into(),
        Verdict::Deny(denial) => format!("deny {:?}", denial.why()),
        Verdict::Hold(hold) => format!("hold {}", hold.needed().join("+")),
    }
}

#[test]
fn rules_decide_single_needs() {
    const ALL: &str = "permit (principal, action, resource);";
    let cases: &[(&str, &[&str], Action, &str)] = &[
        ("", &[], Action::Read, "deny NoRulePermits"),
        (ALL, &[], Action::Read, "allow"),
        (r#"permit (principal in Group::"dev", action == Action::"read", resource);"#, &[], Action::Read, "allow"),
        (
            r#"permit (principal in Group::"dev", action == Action::"read", resource);"#,
            &[],
            Action::Write,
            "deny NoRulePermits",
        ),
        (r#"permit (principal in Group::"ops", action, resource);"#, &[], Action::Read, "deny NoRulePermits"),
        (
            r#"permit (principal == User::"alice@idp.example", action, resource in Resource::"shop");"#,
            &[],
            Action::Read,
            "allow",
        ),
        (r#"permit (principal, action, resource in Database::"shop/main");"#, &[], Action::Read, "allow"),
        (r#"permit (principal, action, resource in Schema::"shop/public");"#, &[], Action::Read, "allow"),
        (r#"permit (principal, action, resource == Table::"shop/public.t");"#, &[], Action::Read, "allow"),
        (r#"permit (principal, action, resource == Table::"shop/public.u");"#, &[], Action::Read, "deny NoRulePermits"),
        (
            r#"permit (principal, action, resource) when { resource.hasTag("env") && resource.getTag("env") == "prod" };"#,
            &[],
            Action::Read,
            "allow",
        ),
        (r#"permit (principal, action, resource) when { context.unfiltered };"#, &[], Action::Write, "allow"),
        (
            r#"permit (principal, action, resource) when { context has has_filter && !context.has_filter };"#,
            &[],
            Action::Write,
            "allow",
        ),
        (
            r#"permit (principal, action, resource) when { context.tables.contains("public.t") };"#,
            &[],
            Action::Read,
            "allow",
        ),
        (
            r#"permit (principal, action, resource) when { context.address.isInRange(ip("192.0.2.0/24")) };"#,
            &[],
            Action::Read,
            "allow",
        ),
        (
            r#"permit (principal, action, resource) when { context.authentication.age < 60 };"#,
            &[],
            Action::Read,
            "deny NoRulePermits",
        ),
        (
            r#"permit (principal, action, resource); forbid (principal, action == Action::"write", resource);"#,
            &[],
            Action::Write,
            "deny Forbidden",
        ),
        // The chain: an agent is in whom it acts for, and every link must pass.
        (
            r#"permit (principal in User::"alice@idp.example", action, resource);"#,
            &["bot", "sub"],
            Action::Read,
            "allow",
        ),
        (r#"permit (principal in Group::"dev", action, resource);"#, &["bot", "sub"], Action::Read, "allow"),
        (
            r#"permit (principal == User::"alice@idp.example", action, resource);"#,
            &["bot"],
            Action::Read,
            "deny NoRulePermits",
        ),
        (r#"permit (principal is Agent, action, resource);"#, &["bot"], Action::Read, "deny NoRulePermits"),
        (
            r#"permit (principal, action, resource); forbid (principal is Agent, action == Action::"write", resource);"#,
            &["bot"],
            Action::Write,
            "deny Forbidden",
        ),
        (
            r#"permit (principal, action, resource); forbid (principal is Agent, action == Action::"write", resource);"#,
            &[],
            Action::Write,
            "allow",
        ),
        (
            r#"permit (principal, action, resource); forbid (principal == Agent::"bot@idp.example", action, resource);"#,
            &["bot", "sub"],
            Action::Read,
            "deny Forbidden",
        ),
        (
            r#"permit (principal, action, resource) when { context.chain.depth <= 1 };"#,
            &["bot", "sub"],
            Action::Read,
            "deny NoRulePermits",
        ),
        (r#"permit (principal, action, resource);"#, &["bot", "bot"], Action::Read, "allow"),
    ];
    for (text, actors, action, expected) in cases {
        let rules = load(text);
        assert_eq!(word(&one(&rules, actors, *action, "t")), *expected, "{text} {actors:?}");
    }
}

#[test]
fn a_rule_that_fails_denies_even_where_it_is_a_forbid_or_another_permits() {
    for text in [
        r#"permit (principal, action, resource); @id("f") forbid (principal, action, resource) when { context.time.unix * 9000000000000 > 0 && context.opaque };"#,
        r#"permit (principal, action, resource); @id("f") permit (principal, action, resource) when { context.time.unix * 9000000000000 > 0 };"#,
    ] {
        match one(&load(text), &[], Action::Read, "t") {
            Verdict::Deny(denial) => {
                assert_eq!(denial.why(), &Why::EvaluationError);
                assert_eq!(denial.rules(), [RuleId("f".into())]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_need_must_pass_and_nothing_unclear_does() {
    let rules = load(r#"permit (principal, action == Action::"read", resource == Table::"shop/public.a");"#);
    let subject = subject(&rules, &chain(&[]));
    let facts = statement("select", Effect::Read, &["a", "b"]);
    let read = |object| Need { action: Action::Read, object };
    assert_eq!(word(&ask(&rules, &subject, &facts, &[read(table("a"))])), "allow");
    assert_eq!(word(&ask(&rules, &subject, &facts, &[read(table("a")), read(table("b"))])), "deny NoRulePermits");
    assert_eq!(word(&ask(&rules, &subject, &facts, &[])), "deny Unreadable");

    let all = load(r#"permit (principal, action, resource);"#);
    let anyone = self::subject(&all, &chain(&[]));
    let nameless = Object::Table(TableName { schema: None, name: "a".into() });
    assert_eq!(word(&ask(&all, &anyone, &facts, &[read(nameless)])), "deny Unreadable");
    assert_eq!(word(&ask(&all, &anyone, &Facts::unreadable("no"), &[read(table("a"))])), "deny Unreadable");
    assert_eq!(word(&ask(&all, &anyone, &Facts { statements: vec![], literal_free: true }, &[])), "allow");
    assert_eq!(word(&ask(&all, &subject, &facts, &[read(table("a"))])), "deny RulesChanged");
    // A rule that reads the tables' names must see them all with their schemas.
    let tables = load(r#"permit (principal, action, resource) unless { context.tables.contains("public.b") };"#);
    let anyone = self::subject(&tables, &chain(&[]));
    assert_eq!(word(&ask(&tables, &anyone, &facts, &[read(table("a"))])), "deny Unreadable");
    let deep: Vec<String> = (0..40).map(|n| format!("a{n}")).collect();
    let deep: Vec<&str> = deep.iter().map(String::as_str).collect();
    assert_eq!(word(&one(&all, &deep, Action::Read, "t")), "deny EvaluationError");
}

#[test]
fn holds_for_the_smallest_set() {
    let unless = |set: &str| {
        format!("permit (principal, action, resource); forbid (principal, action, resource) unless {{ {set} }};")
    };
    let has = |name: &str| format!("context.reviews.contains(\"{name}\")");
    let cases = [
        (unless(&has("dba")), "hold dba"),
        (unless(&format!("{} && {}", has("security"), has("dba"))), "hold dba+security"),
        (unless(&format!("{} || ({} && {})", has("security"), has("dba"), has("owner"))), "hold security"),
        (unless(r#"context.reviews.containsAny(["security", "dba"])"#), "hold dba"),
        (unless(r#"context.reviews.containsAll(["security", "dba", "owner"])"#), "hold dba+owner+security"),
        (format!("permit (principal, action, resource) when {{ {} }};", has("dba")), "hold dba"),
        (format!("{} forbid (principal, action, resource);", unless(&has("dba"))), "deny Forbidden"),
    ];
    for (text, expected) in cases {
        assert_eq!(word(&one(&load(&text), &[], Action::Write, "t")), expected, "{text}");
    }
}

const HELD: &str = r#"permit (principal, action, resource);
@id("held") forbid (principal, action == Action::"write", resource) unless { context.reviews.contains("dba") };
@id("both") forbid (principal, action == Action::"define", resource) unless { context.reviews.contains("security") };"#;

fn hold(rules: &RuleSet, action: Action, actors: &[&str]) -> Hold {
    match one(rules, actors, action, "t") {
        Verdict::Hold(hold) => hold,
        other => panic!("{other:?}"),
    }
}

fn review(hold: &Hold, chain: &Delegation, approvals: Vec<Approval>) -> Review {
    Review {
        id: ReviewId([9; 16]),
        session: SessionId([1; 16]),
        command: CommandId(1),
        resource: shop().name,
        chain: chain.clone(),
        digest: hold.digest(),
        rules: hold.ruleset(),
        needed: hold.needed().to_vec(),
        text: "delete from t".into(),
        parameters: vec![],
        summary: String::new(),
        asked_at: NOW,
        expires_at: NOW.plus_micros(15 * MINUTE),
        uses: 1,
        state: ReviewState::Approved,
        approvals,
    }
}

fn yes(rule: &str, reviewer: Principal) -> Approval {
    Approval {
        rule: rule.into(),
        reviewer,
        assurance: Assurance::Clicked,
        key: None,
        signature: None,
        at: NOW,
        entry: None,
    }
}

fn settle(
    rules: &RuleSet,
    action: Action,
    actors: &[&str],
    change: impl FnOnce(&mut Review),
    now: Timestamp,
) -> String {
    let hold = hold(rules, action, actors);
    let mut review = review(&hold, &chain(actors), vec![]);
    change(&mut review);
    word(&hold.settle(&review, rules, now))
}

#[test]
fn settles_only_what_was_approved() {
    let rules = load(HELD);
    let later = NOW.plus_micros(MINUTE);
    let bob = || person("bob", &["dba", "security"]);
    let write = |change: &dyn Fn(&mut Review)| {
        settle(
            &rules,
            Action::Write,
            &["bot"],
            |r| {
                r.approvals = vec![yes("dba", bob())];
                change(r)
            },
            later,
        )
    };
    assert_eq!(write(&|_| ()), "allow");
    assert_eq!(write(&|r| r.approvals.clear()), r#"deny Review(Quorum("dba"))"#);
    assert_eq!(write(&|r| r.digest = Digest([8; 32])), "deny Review(Other)");
    assert_eq!(write(&|r| r.chain = chain(&["other"])), "deny Review(Other)");
    assert_eq!(write(&|r| r.resource = ResourceName::parse("other").expect("well-formed")), "deny Review(Other)");
    assert_eq!(write(&|r| r.rules = Digest([8; 32])), "deny RulesChanged");
    assert_eq!(write(&|r| r.state = ReviewState::Pending), "deny Review(Pending)");
    assert_eq!(write(&|r| r.state = ReviewState::Denied), "deny Review(Denied)");
    assert_eq!(write(&|r| r.state = ReviewState::Used), "deny Review(Used)");
    assert_eq!(write(&|r| r.uses = 0), "deny Review(Used)");
    assert_eq!(write(&|r| r.expires_at = later), "deny Review(Expired)");
    assert_eq!(write(&|r| r.needed.clear()), r#"deny Review(Quorum("dba"))"#);
    assert_eq!(write(&|r| r.approvals[0].rule = "security".into()), r#"deny Review(Quorum("dba"))"#);

    let who = |reviewer: Principal| {
        settle(&rules, Action::Write, &["bot"], |r| r.approvals = vec![yes("dba", reviewer)], later)
    };
    let no = r#"deny Review(Quorum("dba"))"#;
    assert_eq!(who(person("alice", &["dba"])), no, "self-approval");
    assert_eq!(who(person("bot", &["dba"])), no, "an actor of the chain");
    assert_eq!(who(person("carl", &["dev"])), no, "not a reviewer");
    assert_eq!(who(Principal { kind: PrincipalKind::Agent, ..bob() }), no, "not a person");
    assert_eq!(who(Principal { kind: PrincipalKind::Service, ..bob() }), no, "not a person");

    let two = |a: Principal, b: Principal| {
        settle(&rules, Action::Define, &[], |r| r.approvals = vec![yes("security", a), yes("security", b)], later)
    };
    assert_eq!(two(bob(), bob()), r#"deny Review(Quorum("security"))"#, "one person twice");
    assert_eq!(two(bob(), person("eve", &["security"])), "allow");

    let newer = load(&format!("{HELD}\n// changed"));
    let hold = hold(&rules, Action::Write, &[]);
    let review = review(&hold, &chain(&[]), vec![yes("dba", bob())]);
    assert_eq!(word(&hold.settle(&review, &newer, later)), "deny RulesChanged");
}

#[test]
fn names_in_a_request_approve_nothing() {
    let rules = load(HELD);
    let subject = subject(&rules, &chain(&[]));
    let facts = statement("delete", Effect::Write, &["t"]);
    let needs = [Need { action: Action::Write, object: table("t") }];
    let names = ["dba".to_owned()];
    let request = Request {
        subject: &subject,
        digest: Digest::default(),
        facts: &facts,
        needs: &needs,
        reviews: &names,
        connect: false,
    };
    assert_eq!(word(&decide(&request, &rules, NOW)), "hold dba");
    assert_eq!(explain(&request, &rules, NOW).verdict, "allow");
    let without = explain(&Request { reviews: &[], ..request }, &rules, NOW);
    assert_eq!(without.verdict, "hold");
    assert_eq!(without.changes[0], "it passes once approved by: dba");
    assert_eq!((without.rules[0].id.0.as_str(), without.rules[0].line, without.rules[0].column), ("held", 2, 1));
    assert!(without.facts.contains("\"unfiltered\":true"), "{}", without.facts);
}

#[test]
fn a_connect_released_with_lasts_is_a_grant() {
    let mut rules = reviews();
    rules[0].lasts_micros = Some(60 * MINUTE);
    let rules = try_load(
        r#"permit (principal, action == Action::"connect", resource) when { context.reviews.contains("dba") };"#,
        rules,
    )
    .expect("loads");
    let subject = subject(&rules, &chain(&[]));
    let facts = Facts { statements: vec![], literal_free: true };
    let request = Request {
        subject: &subject,
        digest: Digest::default(),
        facts: &facts,
        needs: &[],
        reviews: &[],
        connect: true,
    };
    let Verdict::Hold(hold) = decide(&request, &rules, NOW) else { panic!("held") };
    let review = review(&hold, &chain(&[]), vec![yes("dba", person("bob", &["dba"]))]);
    let Verdict::Allow(permit) = hold.settle(&review, &rules, NOW) else { panic!("allowed") };
    assert_eq!(permit.until(), Some(NOW.plus_micros(60 * MINUTE)));
    assert_eq!(permit.review(), Some(review.id));
    assert!(permit.standing().is_none());
}

#[test]
fn stands_only_what_neither_clock_nor_review_decided() {
    let permit = |text: &str| match one(&load(text), &[], Action::Read, "t") {
        Verdict::Allow(permit) => permit,
        other => panic!("{other:?}"),
    };
    let plain = "permit (principal, action, resource);";
    let standing = permit(plain).standing().expect("stands");
    assert_eq!(standing.permit(&load(plain), Digest([3; 32])).map(|p| p.digest()), Some(Digest([3; 32])));
    assert!(standing.permit(&load("permit (principal, action, resource) ;"), Digest::default()).is_none());
    assert!(
        permit(&format!("{plain} forbid (principal, action, resource) when {{ context.time.hour == 99 }};"))
            .standing()
            .is_none()
    );
    assert!(
        permit(&format!(
            "{plain} forbid (principal, action == Action::\"write\", resource) when {{ context.time.hour == 99 }};"
        ))
        .standing()
        .is_some()
    );
}

#[test]
fn masks_are_lifted_by_permission_alone() {
    let rules = load(
        r#"permit (principal in Group::"dev", action == Action::"unmask", resource in Tag::"pii") when { resource in Resource::"shop" };
        forbid (principal is Agent, action == Action::"unmask", resource in Tag::"pii");"#,
    );
    let tags = ["pii".to_owned(), "card".to_owned(), "pii".to_owned()];
    assert_eq!(unmask(&subject(&rules, &chain(&[])), &rules, &tags, NOW), [true, false, true]);
    assert_eq!(unmask(&subject(&rules, &chain(&["bot"])), &rules, &tags, NOW), [false, false, false]);
    let newer = load(" ");
    assert_eq!(unmask(&subject(&rules, &chain(&[])), &newer, &tags, NOW), [false, false, false]);
}

#[test]
fn two_issuers_never_share_a_name() {
    let text = r#"permit (principal in Group::"dba@idp.example", action, resource);
        permit (principal == User::"root@idp.example", action, resource);"#;
    let source = |text: &str| vec![Source { path: "a.cedar".into(), text: text.into() }];
    let issuers = [IDP.to_owned(), "https://other.example".to_owned()];
    let rules = RuleSet::load_for_issuers(source(text), vec![], &[shop()], &issuers).expect("loads");
    let allowed = |issuer: &str, subject: &str, group: &str| {
        let principal = Principal { issuer: issuer.into(), ..person(subject, &[group]) };
        let chain = Delegation { principal, actors: vec![] };
        let needs = [Need { action: Action::Read, object: table("t") }];
        word(&ask(&rules, &self::subject(&rules, &chain), &statement("select", Effect::Read, &["t"]), &needs))
            == "allow"
    };
    assert!(allowed(IDP, "x", "dba"));
    assert!(allowed(IDP, "root", "none"));
    assert!(!allowed("https://other.example", "x", "dba"));
    assert!(!allowed("https://other.example", "root", "none"));
    assert!(!allowed("https://other.example", "root@idp.example", "dba@idp.example"));
    let bare = r#"permit (principal in Group::"dba", action, resource);"#;
    let problems = RuleSet::load_for_issuers(source(bare), reviews(), &[shop()], &issuers).expect_err("refused");
    assert!(problems.iter().any(|p| p.path == "a.cedar" && p.message.contains("of which issuer")), "{problems:?}");
    assert!(problems.iter().any(|p| p.path == "[[review]] dba"), "{problems:?}");
}

#[test]
fn problems_have_places() {
    let cases: &[(&str, u32, u32, &str)] = &[
        ("permit (principal, action, resource);\npermit (principal, acton, resource);", 2, 20, "acton"),
        ("permit (principal, action, resource)\nwhen { context.nosuch };", 2, 8, "nosuch"),
        ("permit (principal, action, resource)\nwhen { context.has_filter };", 2, 8, "has_filter"),
        ("permit (principal, action == Action::\"raed\", resource);", 1, 30, "raed"),
        ("\n\n  permit (principal, action, resource) when { context.reviews.contains(\"nope\") };", 3, 3, "nope"),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
            2,
            1,
            "taken",
        ),
        ("permit (principal == ?principal, action, resource);", 1, 1, "templates"),
        ("permit (principal == User::\"alice\", action, resource);", 1, 1, "no issuer"),
        ("permit (principal, action, resource) when { context.reviews.isEmpty() };", 1, 1, "may only be asked"),
    ];
    for (text, line, column, part) in cases {
        let problems = try_load(text, reviews()).expect_err(text);
        let found =
            problems.iter().any(|p| !p.warning && p.line == *line && p.column == *column && p.message.contains(part));
        assert!(found, "{text}\n{problems:#?}");
    }
    let deep = format!("permit (principal, action, resource) when {{ {}true{} }};", "(".repeat(70), ")".repeat(70));
    assert!(try_load(&deep, vec![]).is_err());
}

#[test]
fn review_rules_are_checked() {
    let dba = || review_rule("dba", &["Group::\"dba\""], 1);
    let bad = [
        review_rule("dba", &[], 1),
        review_rule("dba", &["Group::\"dba\""], 0),
        review_rule("dba", &["User::\"a@x\""], 2),
        review_rule("dba", &["Group::\"dba\""], 101),
        review_rule("dba", &["Agent::\"a@x\""], 1),
        review_rule("dba", &["dba"], 1),
        review_rule("", &["Group::\"dba\""], 1),
        ReviewRule { expires_micros: 0, ..dba() },
        ReviewRule { lasts_micros: Some(-1), ..dba() },
    ];
    for rule in bad {
        assert!(try_load("", vec![rule.clone()]).is_err(), "{rule:?}");
    }
    assert!(try_load("", vec![dba(), dba()]).is_err());
    assert!(try_load("", vec![dba()]).is_ok());
}

#[test]
fn warns_of_rules_without_effect() {
    let cases = [
        (
            r#"forbid (principal, action, resource); permit (principal, action == Action::"read", resource);"#,
            "already forbids",
        ),
        (
            r#"permit (principal, action, resource); permit (principal is User, action, resource) when { context.opaque };"#,
            "already permits",
        ),
        (r#"permit (principal, action, resource in Resource::"nosuch");"#, "no resource"),
        (r#"permit (principal, action == Action::"connect", resource is Table);"#, "impossible"),
    ];
    for (text, part) in cases {
        let rules = load(text);
        assert_eq!(
            rules.warnings().iter().filter(|p| p.message.contains(part)).count(),
            1,
            "{text} {:?}",
            rules.warnings()
        );
    }
    assert!(load(HELD).warnings().is_empty(), "{:?}", load(HELD).warnings());
}

#[test]
fn digests_and_differences() {
    let old = load(HELD);
    let new = load(&HELD.replace("\"write\"", "\"export\"").replace("@id(\"both\")", "@id(\"new\")"));
    assert_ne!(old.digest(), new.digest());
    assert_eq!(old.digest(), load(HELD).digest());
    assert_ne!(
        old.digest(),
        try_load(HELD, {
            let mut r = reviews();
            r[0].quorum = 2;
            r
        })
        .expect("loads")
        .digest()
    );
    assert_eq!(new.diff(&old), ["- rule both", "~ rule held", "+ rule new"]);
}

#[test]
fn command_digests_bind_every_part() {
    let digests = |key: &[u8], groups: &[&str]| {
        let salt = command_salt(&hmac::Key::new(hmac::HMAC_SHA256, key), &chain(groups));
        CommandDigests::new(&salt, &shop().name, "postgres", &chain(groups), &Digest::default())
    };
    let of = |a: &[u8], b: &[u8]| digests(b"key", &[]).of("query", a, b);
    assert_ne!(of(b"ab", b"c"), of(b"a", b"bc"));
    assert_ne!(of(b"a", b""), digests(b"key", &["x"]).of("query", b"a", b""));
    assert_ne!(
        of(b"a", b""),
        digests(b"another", &[]).of("query", b"a", b""),
        "it cannot be guessed at without the key"
    );
}

#[test]
fn the_api_asks_the_rules() {
    let rules = load(
        r#"permit (principal in Group::"ops", action == Action::"administer", resource == Resource::"shop") when { context has api };
        permit (principal, action == Action::"write", resource) when { context.reviews.contains("dba") };"#,
    );
    let caller = |principal: Principal, actors: &[&str]| subject(&rules, &Delegation { principal, ..chain(actors) });
    let own = chain(&["bot"]);
    let may = |caller: &Subject, action: ApiAction<'_>| authorize_api(caller, action, (), &rules, NOW).is_ok();
    let alice = caller(person("alice", &[]), &[]);
    assert!(may(&alice, ApiAction::Replay(&own)) && !may(&alice, ApiAction::ListSessions));
    assert!(may(&caller(person("alice", &[]), &["bot"]), ApiAction::ShowSession(&own)));
    assert!(!may(&caller(person("alice", &[]), &["other"]), ApiAction::ShowSession(&own)));
    assert!(!may(&caller(person("alice", &[]), &["bot"]), ApiAction::ShowSession(&chain(&[]))));
    assert!(!may(&caller(person("bob", &[]), &[]), ApiAction::ShowSession(&own)));
    let ops = caller(person("oz", &["ops"]), &[]);
    assert!(may(&ops, ApiAction::ListSessions) && may(&ops, ApiAction::EndSession(&own)));
    assert!(
        may(&caller(person("oz", &["ops"]), &["helper"]), ApiAction::ListSessions),
        "an agent is in its principal's groups"
    );

    let held = hold(&rules, Action::Write, &["bot"]);
    let pending = Review { state: ReviewState::Pending, ..review(&held, &own, vec![]) };
    let decides = |caller: &Subject| may(caller, ApiAction::DecideReview(&pending, "dba"));
    assert!(decides(&caller(person("bob", &["dba"]), &[])));
    assert!(!decides(&caller(person("bob", &["dba"]), &["helper"])), "never by an agent");
    assert!(!decides(&caller(person("alice", &["dba"]), &[])), "never one's own");
    assert!(!decides(&ops), "administrators are no reviewers");
    assert!(may(&alice, ApiAction::ShowReview(&pending)) && may(&ops, ApiAction::ShowReview(&pending)));
    assert!(!may(&caller(person("eve", &[]), &[]), ApiAction::ShowReview(&pending)));
    let used = Review { state: ReviewState::Used, ..pending.clone() };
    assert!(!may(&caller(person("bob", &["dba"]), &[]), ApiAction::DecideReview(&used, "dba")));
}

#[test]
fn weak_and_unsigned_approvals_do_not_count() {
    let mut strict = reviews();
    strict[0].assurance = Assurance::Signed;
    let rules = try_load(HELD, strict).expect("loads");
    let hold = hold(&rules, Action::Write, &[]);
    let review = review(&hold, &chain(&[]), vec![]);
    let clicked = yes("dba", person("bob", &["dba"]));
    let check = |approval: &Approval| approval::check(&review, approval, &rules, NOW);
    assert_eq!(check(&clicked), Err(ApprovalError::TooWeak { required: Assurance::Signed }));
    assert_eq!(check(&Approval { assurance: Assurance::Signed, ..clicked.clone() }), Err(ApprovalError::Unsigned));
    let early = Approval { at: NOW.plus_micros(-1), ..clicked };
    assert_eq!(check(&early), Err(ApprovalError::Expired));
}

#[test]
fn the_examples_of_the_guide_load() {
    let guide = include_str!("../../../docs/guide/rules.md");
    let examples: Vec<&str> = guide.split("```cedar\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 4, "{}", examples.len());
    for example in examples {
        assert_eq!(load(example).warnings(), [], "{example}");
    }
}

#[test]
fn denials_tell_nothing_of_what_exists() {
    let rules =
        load(r#"@id("f") forbid (principal, action == Action::"write", resource == Table::"shop/public.secret");"#);
    for (action, on, expected) in [
        (Action::Read, "secret", "no rule permits read here"),
        (Action::Read, "nosuch", "no rule permits read here"),
        (Action::Write, "secret", "the rule f forbids write here"),
    ] {
        let Verdict::Deny(denial) = one(&rules, &[], action, on) else { panic!("denied") };
        let refusal = denial.refusal("ses-1");
        assert_eq!((refusal.code, refusal.message.as_str()), (RefusalCode::Denied, expected));
        assert_eq!(refusal.reference, "ses-1");
    }
}

#[test]
fn a_permit_never_grows() {
    let rules = load(HELD);
    let Verdict::Allow(run) = one(&rules, &[], Action::Read, "t") else { panic!("allowed") };
    assert_eq!(run.scope(), Scope::Run);
    assert_eq!(run.limit(Scope::Prepare).limit(Scope::Run).scope(), Scope::Prepare);
    let held = hold(&rules, Action::Write, &[]).prepare();
    assert!(held.standing().is_none());
    assert_eq!(held.limit(Scope::Run).scope(), Scope::Prepare);
    assert_eq!(step(&rules, Digest::default()).limit(Scope::Run).scope(), Scope::Step);
}
