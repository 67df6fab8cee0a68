//! Cancel requests: whose they are, and what they may stop (bug class B6).

use std::time::{Duration, Instant};

use chancery_ledger::EntryKind;

use crate::rig::{PATIENCE, Raw, complaint, entries, field, finish, listen, sqlstate, tags, until, values};
use crate::world::{Setup, World};
use crate::{ALLOW_ALL, err};

async fn world(name: &str) -> Option<World> {
    listen();
    World::with(Setup::new(name, ALLOW_ALL)).await
}

/// Waits until the resource runs this many sleeps.
async fn sleeping(world: &World, count: &str) {
    let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep%' and state = 'active' \
               and pid <> pg_backend_pid()";
    until("a sleep that runs", async || (world.postgres.direct(sql) == count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_stops_what_runs() {
    let Some(world) = world("cancelrun").await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let mut raw = Raw::login(&world, &token, &[]).await;
    let began = Instant::now();
    raw.ask("select pg_sleep(30)").await;
    sleeping(&world, "1").await;
    Raw::cancel(world.port, &raw.key).await;
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "57014", "{}", complaint(&answer));
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(values(&raw.query("select 1").await), ["1"], "the session is usable");

    // Extended protocol, inside a transaction.
    assert_eq!(tags(&raw.query("begin").await), "CZ");
    raw.execute("select pg_sleep(30)", &[]).await;
    raw.sync().await;
    sleeping(&world, "1").await;
    Raw::cancel(world.port, &raw.key).await;
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "57014");
    assert_eq!(answer.last().map(|ready| ready.body.as_slice()), Some(b"E".as_slice()));
    assert_eq!(tags(&raw.query("rollback").await), "CZ");

    let child = world.psql_command(&token, &["-c", "select pg_sleep(30)"]).spawn().expect("psql runs");
    sleeping(&world, "1").await;
    let pid = child.id().expect("it lives").to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let done = child.wait_with_output().await.expect("psql ends");
    assert!(err(&done).contains("canceling statement due to user request"), "{}", err(&done));
    drop(raw);
    let leaves = finish(world).await;
    let cancelled = leaves.iter().filter(|leaf| field(leaf, "out") == "cancelled");
    assert_eq!(cancelled.count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_the_sessions_stops_nothing() {
    let Some(world) = world("cancelkey").await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let mut raw = Raw::login(&world, &token, &[]).await;
    let mut other = Raw::login(&world, &world.issuer.token("bob", &[], &[]), &[]).await;
    raw.ask("select pg_sleep(2), 'slept'").await;
    other.ask("select pg_sleep(30)").await;
    sleeping(&world, "2").await;

    let mut forged = raw.key.clone();
    forged[7] ^= 1;
    Raw::cancel(world.port, &forged).await;
    let mixed = [&raw.key[..4], &other.key[4..]].concat();
    Raw::cancel(world.port, &mixed).await;
    // The resource's own keys are not ours: process ids of the server mean nothing here.
    let pid = world.postgres.direct("select pid from pg_stat_activity where query like '%slept%' limit 1");
    let backend = [pid.parse::<i32>().expect("a pid").to_be_bytes().as_slice(), &raw.key[4..]].concat();
    Raw::cancel(world.port, &backend).await;
    // Shorter and longer secrets than any.
    for length in [0, 1, 3, 5, 252, 253] {
        let mut key = raw.key[..4].to_vec();
        key.extend(std::iter::repeat_n(0, length));
        let mut connection = Raw::connect(world.port).await;
        let head = [((key.len() + 8) as i32).to_be_bytes(), 80_877_102_i32.to_be_bytes()].concat();
        connection.bytes(&[head, key].concat()).await;
        while connection.next().await.is_some() {}
    }
    // Another session's key stops that session and no other.
    Raw::cancel(world.port, &other.key).await;
    assert_eq!(sqlstate(&other.ready().await), "57014");
    assert_eq!(values(&raw.ready().await).last().map(String::as_str), Some("slept"));

    // A key dies with its session.
    let key = other.key.clone();
    drop(other);
    until("the session's end", async || (world.gateway.sessions().len() == 1).then_some(())).await;
    Raw::cancel(world.port, &key).await;
    drop(raw);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_cancels_does_not_keep_the_session_from_its_end() {
    let Some(world) = world("flood").await else { return };
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    let (port, key) = (world.port, raw.key.clone());
    let flood = tokio::spawn(async move {
        loop {
            Raw::cancel(port, &key).await;
        }
    });
    raw.ask("select pg_sleep(30)").await;
    assert_eq!(sqlstate(&raw.ready().await), "57014");
    let id = world.gateway.sessions()[0].id;
    let before = world.postgres.direct("select count(*) from pg_stat_activity");
    assert!(world.gateway.end_session(id));
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "57P01", "{answer:?}");
    flood.abort();
    assert!(before.parse::<u32>().expect("a number") < 50, "the flood is not passed on: {before}");
    until("the end on record", async || {
        let closed = entries(&world)
            .into_iter()
            .any(|leaf| leaf.kind == Some(EntryKind::SessionClose) && leaf.session == Some(id));
        closed.then_some(())
    })
    .await;
    tokio::time::sleep(Duration::ZERO).await;
    finish(world).await;
}
