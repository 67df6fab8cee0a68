//! Reading the resource's catalog when the resource does not answer.

use std::time::{Duration, Instant};

use chancery_ledger::EntryKind;
use chancery_mask::{ColumnRule, MaskRules, Operator};

use crate::rig::{PATIENCE, Raw, complaint, entry, finish, listen, sqlstate, until, values};
use crate::world::{Postgres, Setup, World};

/// Everything but seeing values unmasked.
const RULES: &str = r#"permit(principal, action, resource) unless { action == Action::"unmask" };"#;

async fn world(name: &str, wait: Option<Duration>) -> Option<World> {
    listen();
    let rule = ColumnRule {
        schema: "public".into(),
        table: "base".into(),
        column: "ssn".into(),
        tag: "pii".into(),
        with: Operator::Redact,
    };
    let mask = MaskRules { columns: vec![rule], ..MaskRules::none() };
    let postgres = Postgres::start(name)?;
    postgres.direct("create table base (a text, ssn text); insert into base values ('plain', 'secret')");
    postgres.direct("create view seen as select a, ssn from base");
    World::with(Setup { mask, catalog_wait: wait, postgres: Some(postgres), ..Setup::new(name, RULES) }).await
}

/// Takes a lock that the reading of the catalog runs into, until it is let go.
async fn hold(world: &World, table: &str) -> tokio::process::Child {
    let sql = format!("begin; lock table {table} in access exclusive mode; select pg_sleep(600) as held; commit");
    let port = world.postgres.port.to_string();
    let mut psql = tokio::process::Command::new(world.postgres.psql_program());
    psql.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Xc", &sql, "postgres"]);
    psql.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let child = psql.kill_on_drop(true).spawn().expect("psql runs");
    let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    until("the lock", async || (world.postgres.direct(sleeps) == "1").then_some(())).await;
    child
}

async fn let_go(world: &World, mut child: tokio::process::Child) {
    world.postgres.direct("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'");
    let _ = child.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_does_not_tell_its_catalog_is_named() {
    let Some(world) = world("cathang", Some(Duration::from_millis(400))).await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let cannot = "the catalog of the resource shop cannot be read";

    let lock = hold(&world, "pg_catalog.pg_inherits").await;
    let began = Instant::now();
    let refused = Raw::connect(world.port).await.log_in(&token, &[]).await;
    assert!(refused.tag == 'E' && refused.text().contains(cannot), "{refused:?}");
    assert!(began.elapsed() < PATIENCE);
    let_go(&world, lock).await;

    let mut one = Raw::login(&world, &token, &[]).await;
    let mut two = Raw::login(&world, &token, &[]).await;
    assert_eq!(values(&two.query("select a from seen").await), ["plain"]);
    one.query("create table later (a int)").await;
    let lock = hold(&world, "pg_catalog.pg_inherits").await;
    for raw in [&mut one, &mut two] {
        let began = Instant::now();
        let answer = raw.query("select a from seen").await;
        assert!(complaint(&answer).contains(cannot), "{answer:?}");
        assert_eq!(sqlstate(&answer), "08006");
        assert!(began.elapsed() < PATIENCE);
    }
    entry(&world, EntryKind::SessionClose, "reason", "catalog-unavailable").await;
    let_go(&world, lock).await;
    let mut raw = Raw::login(&world, &token, &[]).await;
    assert_eq!(values(&raw.query("select a from seen").await), ["plain"]);
    drop((raw, one, two));
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_on_a_table_does_not_lock_everybody_out() {
    let Some(world) = world("catlock", None).await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let lock = hold(&world, "base").await;
    let mut raw = Raw::login(&world, &token, &[]).await;
    assert_eq!(values(&raw.query("select 'here'").await), ["here"]);
    let_go(&world, lock).await;
    // What the view is made of could not be read, so that all of it is masked.
    assert_eq!(values(&raw.query("select a, ssn from seen").await), ["***", "***"]);
    assert_eq!(values(&raw.query("select a, ssn from base").await), ["plain", "***"]);
    raw.query("create table later (a int)").await;
    assert_eq!(values(&raw.query("select a, ssn from seen").await), ["plain", "***"]);
    drop(raw);
    finish(world).await;
}
