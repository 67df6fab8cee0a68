//! The gateway before a real PostgreSQL.
#![allow(missing_docs)]

mod cancel;
mod catalog;
mod failures;
mod holds;
mod rig;
mod tls;
mod transactions;
mod world;

use chancery_mask::{ColumnRule, MaskRules, Operator};
use chancery_model::Durability;
use world::World;

const ALLOW_ALL: &str = "permit(principal, action, resource);";

fn out(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn err(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_reads_and_writes() {
    rig::listen();
    let Some(world) = World::start("allow", ALLOW_ALL, MaskRules::none(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    let done = world.psql(&token, &["-c", "select 1 + 1"]).await;
    assert_eq!(out(&done), "2", "{}", err(&done));
    let done = world.psql(&token, &["-c", "create table t (a int); insert into t values (1), (2)"]).await;
    assert!(done.status.success(), "{}", err(&done));
    let done = world.psql(&token, &["-c", "select * from t order by a"]).await;
    assert_eq!(out(&done), "1\n2", "{}", err(&done));
    assert_eq!(world.postgres.direct("select count(*) from t"), "2");
    let bad = world.psql("nonsense", &["-c", "select 1"]).await;
    assert!(err(&bad).contains("authentication failed"), "{}", err(&bad));
    rig::finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tagged_columns_are_masked_and_forbidden_commands_refused() {
    let rules = r#"
        permit(principal, action in [Action::"connect", Action::"read"], resource);
        @id("writes-need-review")
        permit(principal, action == Action::"write", resource) when { context.reviews.contains("dba") };
    "#;
    let column = ColumnRule {
        schema: "public".into(),
        table: "customers".into(),
        column: "email".into(),
        tag: "pii".into(),
        with: Operator::Redact,
    };
    let mask = MaskRules { columns: vec![column], detect: Vec::new(), key: None };
    rig::listen();
    let Some(world) = World::start("mask", rules, mask, Durability::Balanced).await else { return };
    world
        .postgres
        .direct("create table customers (id int, email text); insert into customers values (1, 'a@b.example')");
    let token = world.issuer.token("alice", &["analysts"], &["sql-helper"]);
    let done = world.psql(&token, &["-c", "select id, email from customers"]).await;
    assert_eq!(out(&done), "1|***", "{}", err(&done));
    let done = world.psql(&token, &["-c", "select upper(email) from customers"]).await;
    assert_eq!(out(&done), "***", "{}", err(&done));
    let done = world.psql(&token, &["-c", "drop table customers", "-c", "select 1"]).await;
    assert!(err(&done).contains("no rule permits define here"), "{}", err(&done));
    assert_eq!(out(&done), "1", "the session stays usable");
    assert_eq!(world.postgres.direct("select count(*) from customers"), "1");
    rig::finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_delete_runs_once_after_its_approval() {
    let rules = r#"
        permit(principal, action in [Action::"connect", Action::"read"], resource);
        permit(principal, action == Action::"write", resource) when { context.reviews.contains("dba") };
    "#;
    rig::listen();
    let Some(world) = World::start("hold", rules, MaskRules::none(), Durability::Balanced).await else { return };
    world.postgres.direct("create table orders (id int); insert into orders select generate_series(1, 10)");
    let token = world.issuer.token("alice", &["analysts"], &["report-agent", "sql-helper"]);
    let catalog = world.gateway.catalog().clone();
    let reviewer = async {
        let id = loop {
            let pending = catalog.list_reviews(Some(chancery_model::ReviewState::Pending), 10).await.expect("a list");
            if let Some(line) = pending.first() {
                break line.id;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(world.postgres.direct("select count(*) from orders"), "10", "nothing runs while it is held");
        let approval = chancery_model::Approval {
            rule: "dba".into(),
            reviewer: chancery_model::Principal {
                issuer: world::ISSUER.into(),
                subject: "dana".into(),
                kind: chancery_model::PrincipalKind::User,
                display: "dana".into(),
                groups: vec!["dba".into()],
            },
            assurance: chancery_model::Assurance::Clicked,
            key: None,
            signature: None,
            entry: None,
            at: chancery_model::Timestamp(
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros()
                    as i64,
            ),
        };
        let at = approval.at;
        catalog.add_approval(id, &approval).await.expect("it is taken");
        let (pending, approved) = (chancery_model::ReviewState::Pending, chancery_model::ReviewState::Approved);
        assert!(catalog.set_state(id, pending, approved, at).await.expect("it is set"));
    };
    let (done, ()) = tokio::join!(world.psql(&token, &["-c", "delete from orders where id <= 3"]), reviewer);
    assert!(done.status.success(), "{}", err(&done));
    assert!(err(&done).contains("held for review"), "{}", err(&done));
    assert_eq!(out(&done), "DELETE 3");
    assert_eq!(world.postgres.direct("select count(*) from orders"), "7");
    rig::finish(world).await;
}
