//! Cancel requests: whose they are, and what they may stop (bug class B6).

use std::time::{Duration, Instant};

use chancery_ledger::EntryKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::{PATIENCE, Raw, complaint, entries, field, finish, listen, sqlstate, tags, until, values};
use crate::world::{Postgres, Setup, World};
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

/// Stands in front of the resource and keeps cancel requests back until it is told.
struct Detour {
    port: u16,
    /// Cancel requests that arrived, and how many of them may go on.
    arrived: watch::Receiver<usize>,
    allowed: watch::Sender<usize>,
}

async fn detour(server: u16) -> Detour {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (count, arrived) = watch::channel(0);
    let (allowed, permits) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (count, mut permits) = (count.clone(), permits.clone());
            tokio::spawn(async move {
                let mut head = [0; 8];
                client.read_exact(&mut head).await.expect("a first packet");
                if head[4..] == 80_877_102_i32.to_be_bytes() {
                    let mut mine = 0;
                    count.send_modify(|arrived| {
                        *arrived += 1;
                        mine = *arrived;
                    });
                    if permits.wait_for(|allowed| *allowed >= mine).await.is_err() {
                        return;
                    }
                }
                let mut onward = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
                onward.write_all(&head).await.expect("sent");
                // Either may hang up.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut onward).await;
            });
        }
    });
    Detour { port, arrived, allowed }
}

/// A client may take the end of the connection for the end of the cancel: what it sends next is not hit by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_has_its_end_when_it_was_delivered() {
    listen();
    let Some(postgres) = Postgres::start("cancelled") else { return };
    let mut detour = detour(postgres.port).await;
    let setup =
        Setup { upstream_port: Some(detour.port), postgres: Some(postgres), ..Setup::new("cancelled", ALLOW_ALL) };
    let Some(world) = World::with(setup).await else { return };
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;

    raw.ask("select pg_sleep(30)").await;
    sleeping(&world, "1").await;
    let (port, key) = (world.port, raw.key.clone());
    let cancel = tokio::spawn(async move { Raw::cancel(port, &key).await });
    detour.arrived.wait_for(|arrived| *arrived == 1).await.expect("the detour lives");
    assert!(!cancel.is_finished(), "it is on its way");
    detour.allowed.send_replace(1);
    cancel.await.expect("it ends");
    assert_eq!(sqlstate(&raw.ready().await), "57014");

    // A resource that does not take it keeps nobody for long.
    raw.ask("select pg_sleep(30)").await;
    sleeping(&world, "1").await;
    let began = Instant::now();
    Raw::cancel(world.port, &raw.key).await;
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(500) && waited < PATIENCE / 2, "{waited:?}");
    detour.allowed.send_replace(usize::MAX);
    assert_eq!(sqlstate(&raw.ready().await), "57014");

    // Nothing runs: nobody has to wait, and nothing is hit later.
    for _ in 0..20 {
        Raw::cancel(world.port, &raw.key).await;
        assert_eq!(
            values(&raw.query("select pg_sleep(0.001), 'not hit'").await).last().map(String::as_str),
            Some("not hit")
        );
    }
    drop(raw);
    finish(world).await;
}
