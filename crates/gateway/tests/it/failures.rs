//! What clients see and what is kept when something fails (bug classes B4, B5, B11, B12, B14, B20).

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use chancery_ledger::{Cosigner, EntryKind, WitnessPolicy};
use chancery_model::{ReviewState, Timestamp};
use serde_json::json;

use crate::rig::{
    Message, Raw, clicked, complaint, ended_as, entries, entry, field, finish, force, listen, log, of, pending,
    sqlstate, tags, until, values,
};
use crate::world::{ISSUER, Issuer, OTHER_ISSUER, Postgres, Setup, World};
use crate::{ALLOW_ALL, err, out};

async fn world(name: &str) -> Option<World> {
    listen();
    World::with(Setup::new(name, ALLOW_ALL)).await
}

fn seconds() -> i64 {
    crate::rig::now().seconds()
}

async fn refused(world: &World, token: &str, parameters: &[(&str, &str)]) -> Message {
    let mut raw = Raw::connect(world.port).await;
    let answer = raw.log_in(token, parameters).await;
    assert_eq!(answer.tag, 'E', "{}", answer.text());
    assert_eq!(answer.field('S'), "FATAL");
    assert_eq!(raw.next().await, None, "the connection is closed");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_does_not_hold_is_refused_in_one_sentence() {
    let Some(world) = world("token").await else { return };
    let good = world.issuer.claims("alice", &["analysts"], &[]);
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let expired = {
        let mut claims = with("exp", json!(seconds() - 3_600));
        claims["iat"] = json!(seconds() - 7_200);
        claims
    };
    let mut tampered = world.issuer.sign(good.clone()).into_bytes();
    let middle = tampered.len() / 2;
    tampered[middle] = if tampered[middle] == b'A' { b'B' } else { b'A' };
    let bad = [
        "nonsense".to_owned(),
        String::from_utf8(tampered).expect("ASCII"),
        world.issuer.sign(expired),
        Issuer::new().sign(good.clone()),
        world.issuer.sign(with("iss", json!("https://unknown.test"))),
        world.issuer.sign(with("iss", json!(OTHER_ISSUER))),
        world.issuer.sign(with("aud", json!("another-service"))),
        world.issuer.sign(with("nbf", json!(seconds() + 3_600))),
        world.issuer.sign(with("act", json!({"act": {"sub": "nobody"}}))),
    ];
    let mut sentences = Vec::new();
    for token in &bad {
        let answer = refused(&world, token, &[]).await;
        assert_eq!(answer.field('C'), "28P01", "{}", answer.text());
        sentences.push(answer.field('M'));
        assert!(!answer.text().contains("shop") && !answer.text().contains("issuer"), "{}", answer.text());
    }
    sentences.dedup();
    assert_eq!(sentences.len(), 1, "{sentences:?}");
    let denied = of(&world, EntryKind::ActDeny);
    assert_eq!(denied.len(), bad.len());
    assert!(denied.iter().all(|leaf| field(leaf, "code") == "unauthenticated"));
    let empty = refused(&world, "", &[]).await;
    assert_eq!((empty.field('C').as_str(), empty.field('M').as_str()), ("28P01", "the password is empty"));
    let session = world.issuer.sign(good);
    assert_eq!(out(&world.psql(&session, &["-c", "select 1"]).await), "1");
    assert!(log().iter().all(|line| !line.contains(&session) && !line.contains(&bad[2])), "no token in the log");
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_good_for_what_they_say() {
    listen();
    let rules = r#"
        permit(principal, action in [Action::"connect", Action::"read"], resource);
        permit(principal, action == Action::"write", resource) when { context.reviews.contains("dba") };
        permit(principal, action == Action::"define", resource) when { principal in Group::"owners@issuer.test" };
    "#;
    let mut setup = Setup { two_issuers: true, ..Setup::new("identity", rules) };
    setup.reviews[0].reviewers = vec![r#"Group::"dba@issuer.test""#.into(), r#"Group::"dba@other.test""#.into()];
    let Some(world) = World::with(setup).await else { return };
    world.postgres.direct("create table t (a int)");

    let narrowed = |resources: serde_json::Value| {
        let mut claims = world.issuer.claims("alice", &["owners"], &[]);
        claims["chancery_resource"] = resources;
        world.issuer.sign(claims)
    };
    let elsewhere = refused(&world, &narrowed(json!(["other"])), &[]).await;
    let mut raw = Raw::connect(world.port).await;
    let absent = raw.log_in(&narrowed(json!(["other"])), &[("application_name", "x")]).await;
    assert_eq!(elsewhere.field('C'), "42501");
    assert_eq!(elsewhere.field('M'), absent.field('M'));
    let here = narrowed(json!(["shop"]));
    assert_eq!(out(&world.psql(&here, &["-c", "select 1"]).await), "1");

    let mut claims = world.issuer.claims("alice", &["owners"], &[]);
    claims["chancery_only"] = json!("read");
    let mut raw = Raw::login(&world, &world.issuer.sign(claims), &[]).await;
    assert_eq!(values(&raw.query("select count(*) from t").await), ["0"]);
    for sql in [
        "insert into t values (1)",
        "create table u (a int)",
        "select pg_notify('a', 'b')",
        "select * from t for update",
    ] {
        let answer = raw.query(sql).await;
        assert_eq!(sqlstate(&answer), "42501", "{sql}: {}", tags(&answer));
    }
    drop(raw);

    // The same subject at two issuers is two people, with groups of their own.
    let mut claims = world.issuer.claims("alice", &["owners", "dba"], &[]);
    claims["iss"] = json!(OTHER_ISSUER);
    let theirs = world.other.sign(claims);
    let ours = world.issuer.token("alice", &["owners"], &[]);
    let refused = world.psql(&theirs, &["-c", "create table u (a int)"]).await;
    assert!(err(&refused).contains("no rule permits define"), "{}", err(&refused));
    assert!(world.psql(&ours, &["-c", "create table u (a int)"]).await.status.success());
    let mut raw = Raw::login(&world, &ours, &[]).await;
    raw.ask("insert into t values (1)").await;
    raw.notice().await;
    let mut approval = clicked("alice", &["dba"]);
    approval.reviewer.issuer = OTHER_ISSUER.into();
    force(&world, pending(&world).await.id, &approval).await;
    assert_eq!(tags(&raw.ready().await), "CZ");
    raw.ask("insert into t values (2)").await;
    raw.notice().await;
    assert_eq!(approval.reviewer.subject, "alice");
    approval.reviewer.issuer = ISSUER.into();
    approval.at = crate::rig::now();
    force(&world, pending(&world).await.id, &approval).await;
    assert_eq!(sqlstate(&raw.ready().await), "42501", "one's own request");
    drop(raw);
    let leaves = finish(world).await;
    let mut chains: Vec<_> =
        leaves.iter().filter(|leaf| leaf.kind == Some(EntryKind::SessionOpen)).map(|leaf| field(leaf, "a")).collect();
    chains.sort();
    chains.dedup();
    assert!(chains.len() >= 2, "{chains:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_its_token_does() {
    let Some(world) = world("expiry-token").await else { return };
    let short = |subject: &str| {
        let mut claims = world.issuer.claims(subject, &[], &[]);
        claims["exp"] = json!(seconds() + 3);
        world.issuer.sign(claims)
    };
    let mut idle = Raw::login(&world, &short("alice"), &[]).await;
    let mut busy = Raw::login(&world, &short("bob"), &[]).await;
    // Neither does one that says nothing, and what it works on is stopped.
    let mut silent = Raw::login(&world, &short("carol"), &[]).await;
    silent.ask("select count(*) from generate_series(1, 1000) a, pg_sleep(60) where 'repeat' > ''").await;
    assert_eq!(values(&idle.query("select 1").await), ["1"]);
    // A resource that always has more to say does not put the end off.
    busy.ask("select repeat('x', 1000), generate_series(1, 1000000000)").await;
    let (idle, busy) = tokio::join!(idle.ready(), async {
        loop {
            match busy.next().await {
                Some(message) if message.tag == 'E' => return message,
                Some(_) => {}
                None => panic!("it was not told"),
            }
        }
    });
    assert_eq!(sqlstate(&idle), "57P01", "{idle:?}");
    assert!(complaint(&idle).contains("token of this session expired"), "{}", complaint(&idle));
    assert_eq!(busy.field('C'), "57P01");
    assert_eq!(sqlstate(&silent.ready().await), "57P01");
    entry(&world, EntryKind::SessionClose, "reason", "token-expired").await;
    until("the end of the query", async || {
        let sql = "select count(*) from pg_stat_activity where query like '%repeat%' and pid <> pg_backend_pid()";
        (world.postgres.direct(sql) == "0").then_some(())
    })
    .await;
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_change_bind_live_sessions() {
    let Some(world) = world("live-rules").await else { return };
    world.postgres.direct("create table t (a int)");
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    assert_eq!(tags(&raw.query("insert into t values (1)").await), "CZ");
    let before = field(&of(&world, EntryKind::ActStart)[0], "p");
    let less = r#"permit(principal, action in [Action::"connect", Action::"read"], resource);"#;
    world.gateway.apply_rules(world.rule_set(less), "test").expect("it is on record");
    let answer = raw.query("insert into t values (1)").await;
    assert_eq!(sqlstate(&answer), "42501", "the same shape is ruled again");
    assert_eq!(values(&raw.query("select count(*) from t").await), ["1"]);
    let last = of(&world, EntryKind::ActStart).pop().expect("one");
    assert_ne!(field(&last, "p"), before, "each entry says under which rules");

    let none = r#"permit(principal, action == Action::"read", resource);"#;
    world.gateway.apply_rules(world.rule_set(none), "test").expect("it is on record");
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "57P01", "{answer:?}");
    entry(&world, EntryKind::SessionClose, "reason", "rules-changed").await;
    assert_eq!(refused(&world, &world.issuer.token("alice", &[], &[]), &[]).await.field('C'), "42501");
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_is_down_or_refuses_us_is_named_and_nothing_else_is() {
    listen();
    let secret = "backend-secret-5d1f";
    let postgres = Postgres::start_with("down", "", |data| {
        let hba = "host all app 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
        std::fs::write(data.join("pg_hba.conf"), hba).expect("own file");
    });
    let Some(postgres) = postgres else { return };
    postgres.direct("create role app login password 'another'");
    let setup = Setup {
        user: "app".into(),
        password: secret.into(),
        postgres: Some(postgres),
        ..Setup::new("down", ALLOW_ALL)
    };
    let Some(world) = World::with(setup).await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let check = |answer: &Message| {
        assert_eq!(answer.field('C'), "08006", "{}", answer.text());
        assert!(answer.field('M').contains("resource shop"), "{}", answer.text());
        for told in ["app", secret, "127.0.0.1", "password"] {
            assert!(!answer.text().contains(told), "{}", answer.text());
        }
    };
    check(&refused(&world, &token, &[]).await);
    world.postgres.direct(&format!("alter role app password '{secret}'"));
    assert_eq!(out(&world.psql(&token, &["-c", "select 1"]).await), "1");

    let mut idle = Raw::login(&world, &token, &[]).await;
    let mut busy = Raw::login(&world, &token, &[]).await;
    busy.ask("select pg_sleep(30)").await;
    until("a running statement", async || (of(&world, EntryKind::ActStart).len() == 2).then_some(())).await;
    world.postgres.pause();
    let idle = idle.ready().await;
    assert!(idle.iter().any(|message| message.tag == 'E'), "{idle:?}");
    let busy = busy.ready().await;
    assert!(busy.iter().any(|message| message.tag == 'E'), "{busy:?}");
    check(&refused(&world, &token, &[]).await);
    world.postgres.resume();
    assert_eq!(out(&world.psql(&token, &["-c", "select 1"]).await), "1");
    assert!(log().iter().all(|line| !line.contains(secret)), "no secret in the log");
    let leaves = finish(world).await;
    let failed = leaves.iter().filter(|leaf| field(leaf, "reason") == "resource-unavailable");
    assert_eq!(failed.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_terminated_says_its_last_words() {
    let Some(world) = world("terminated").await else { return };
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    raw.ask("select pg_sleep(30)").await;
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like 'select pg_sleep%'";
    until("a termination", async || (world.postgres.direct(sql) != "0").then_some(())).await;
    let answer = raw.ready().await;
    assert_eq!(sqlstate(&answer), "57P01", "{answer:?}");
    drop(raw);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_stops_says_so() {
    let Some(mut world) = world("stops").await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let mut idle = Raw::login(&world, &token, &[]).await;
    let mut busy = Raw::login(&world, &token, &[]).await;
    busy.ask("select pg_sleep(30)").await;
    until("a running statement", async || (!of(&world, EntryKind::ActStart).is_empty()).then_some(())).await;
    let began = std::time::Instant::now();
    world.end().await;
    assert!(began.elapsed().as_secs() < 8, "it does not wait for its patience to end");
    assert_eq!(sqlstate(&idle.ready().await), "57P01");
    assert_eq!(sqlstate(&busy.ready().await), "57P01");
    let leaves = finish(world).await;
    let unknown: Vec<_> = leaves.iter().filter(|leaf| leaf.kind == Some(EntryKind::ActDone)).collect();
    assert_eq!(unknown.iter().map(|leaf| field(leaf, "out")).collect::<Vec<_>>(), ["unknown"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_ups_that_are_not_served() {
    let Some(world) = world("startup").await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    for (name, value, state) in [
        ("replication", "database", "0A000"),
        ("replication", "true", "0A000"),
        ("role", "postgres", "0A000"),
        ("session_authorization", "postgres", "0A000"),
        ("options", "-c role=postgres", "0A000"),
        ("options", "-c session_preload_libraries=x", "0A000"),
        ("options", "-f", "0A000"),
        ("client_encoding", "LATIN1", "0A000"),
    ] {
        let answer = refused(&world, &token, &[(name, value)]).await;
        assert_eq!(answer.field('C'), state, "{name}={value}: {}", answer.text());
    }
    let before = of(&world, EntryKind::ActDeny);
    assert_eq!(before.len(), 8, "each attempt is on record");
    assert!(before.iter().all(|leaf| field(leaf, "code") == "unsupported"));
    assert_eq!(of(&world, EntryKind::SessionOpen).len(), 0);

    let ssl_request: Vec<u8> = [8_i32.to_be_bytes(), 80_877_103_i32.to_be_bytes()].concat();
    // Without TLS here: no. Twice: never.
    let mut raw = Raw::connect(world.port).await;
    raw.bytes(&ssl_request).await;
    assert_eq!(raw.byte().await, Some(b'N'));
    raw.bytes(&ssl_request).await;
    assert_eq!(raw.next().await.expect("an answer").field('C'), "08P01");
    let gss_request: Vec<u8> = [8_i32.to_be_bytes(), 80_877_104_i32.to_be_bytes()].concat();
    let mut raw = Raw::connect(world.port).await;
    raw.bytes(&gss_request).await;
    assert_eq!(raw.byte().await, Some(b'N'));
    // A negative length, a huge one, another major version, HTTP.
    for bytes in [
        [(-1_i32).to_be_bytes(), 196_608_i32.to_be_bytes()].concat(),
        [i32::MAX.to_be_bytes(), 196_608_i32.to_be_bytes()].concat(),
        [8_i32.to_be_bytes(), 131_072_i32.to_be_bytes()].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let mut raw = Raw::connect(world.port).await;
        raw.bytes(&bytes).await;
        let mut last = None;
        while let Some(message) = raw.next().await {
            last = Some(message);
        }
        assert_eq!(last.expect("an answer").tag, 'E', "{bytes:?}");
    }
    // A client that sends its first command before it is let in.
    let mut raw = Raw::connect(world.port).await;
    raw.startup(&[]).await;
    raw.next().await.expect("the password is asked for");
    let password = Raw::frame('p', &[token.as_bytes(), b"\0"].concat());
    raw.bytes(&[password, Raw::frame('Q', b"select 'early'\0")].concat()).await;
    raw.ready().await;
    assert_eq!(values(&raw.ready().await), ["early"]);
    drop(raw);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_cannot_be_processed() {
    let Some(world) = world("messages").await else { return };
    world.postgres.direct("create table t (a int)");
    let token = world.issuer.token("alice", &[], &[]);
    let mut huge = vec![b'Q'];
    huge.extend((17_i32 << 20).to_be_bytes());
    let fatal: [(&str, Vec<u8>, &str); 6] = [
        ("oversized", huge, "54000"),
        ("length too small", vec![b'Q', 0, 0, 0, 3], "08P01"),
        ("negative length", vec![b'Q', 0xff, 0xff, 0xff, 0xff], "54000"),
        ("unknown type", Raw::frame('z', b""), "08P01"),
        ("a server's message", Raw::frame('Z', b"I"), "08P01"),
        ("a second password", Raw::frame('p', b"x\0"), "08P01"),
    ];
    for (what, bytes, state) in fatal {
        let mut raw = Raw::login(&world, &token, &[]).await;
        raw.bytes(&bytes).await;
        let answer = raw.ready().await;
        assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("E", state), "{what}: {answer:?}");
        assert_eq!(answer[0].field('S'), "FATAL");
    }
    until("the ends on record", async || {
        let closed = of(&world, EntryKind::SessionClose);
        (closed.iter().filter(|leaf| field(leaf, "reason") == "protocol-error").count() == 6).then_some(())
    })
    .await;

    let mut raw = Raw::login(&world, &token, &[]).await;
    // libpq's PQfn sends no Sync behind it.
    raw.send('F', b"\0\0\x04\x57\0\0\0\0\0\0").await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "0A000"));
    for (what, body) in
        [("NUL inside", b"select 1\0; drop table t\0".to_vec()), ("not UTF-8", b"select '\xff'\0".to_vec())]
    {
        raw.send('Q', &body).await;
        let answer = raw.ready().await;
        assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "08P01"), "{what}");
    }
    assert_eq!(sqlstate(&raw.query("select from where").await), "42501", "what cannot be read is refused");
    assert_eq!(values(&raw.query("select count(*) from t").await), ["0"], "the session is usable");
    drop(raw);
    finish(world).await;
}

/// A small disk of its own, if this process may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let path = std::env::temp_dir().join(format!("chancery-small-disk-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("own directory");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        let _ = std::fs::remove_dir(&path);
        eprintln!("skipped: a ledger on a full disk (no right to mount a tmpfs)");
        None
    }
    /// Leaves this many bytes free.
    fn fill(&self, leave: u64) {
        let output = Command::new("df").args(["-B1", "--output=avail"]).arg(&self.0).output().expect("df runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let free: u64 = text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number");
        let filler = vec![1; usize::try_from(free.saturating_sub(leave)).expect("small")];
        // At zero the last pages may be taken by others in the meantime.
        let _ = std::fs::write(self.0.join("filler"), filler);
    }
    fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Whatever a client has seen of a read stands in the ledger's file by then, though nobody synced it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_read_shows_was_written_before() {
    let Some(world) = world("shown").await else { return };
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    for count in 1..=50 {
        assert_eq!(values(&raw.query("select 1").await), ["1"]);
        assert_eq!(of(&world, EntryKind::ActStart).len(), count);
    }
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_recovers() {
    listen();
    let Some(disk) = SmallDisk::mount(48) else { return };
    let setup =
        Setup { state: Some(disk.0.join("state")), reserve_bytes: Some(8 << 20), ..Setup::new("full", ALLOW_ALL) };
    let Some(world) = World::with(setup).await else { return };
    world.postgres.direct("create table t (a int)");
    let token = world.issuer.token("alice", &[], &[]);
    let stranger = world.issuer.token("bob", &[], &[]);
    let mut raw = Raw::login(&world, &token, &[]).await;
    assert_eq!(tags(&raw.query("insert into t values (1)").await), "CZ");
    // Under the reserve, then to the last byte.
    for leave in [4 << 20, 0] {
        disk.fill(leave);
        until("the shortage is noticed", async || (!world.gateway.health().ready).then_some(())).await;
        for sql in ["insert into t values (2)", "select 1"] {
            let answer = raw.query(sql).await;
            assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "58030"), "{}", complaint(&answer));
            assert!(complaint(&answer).contains("record unavailable"), "{}", complaint(&answer));
        }
        raw.execute("insert into t values (3)", &[]).await;
        raw.sync().await;
        assert_eq!(sqlstate(&raw.ready().await), "58030");
        for token in [&token, &stranger] {
            let answer = refused(&world, token, &[]).await;
            assert_eq!(answer.field('C'), "58030", "{}", answer.text());
        }
        assert_eq!(world.postgres.direct("select count(*) from t"), "1", "nothing runs unrecorded");
        disk.clear();
        until("the recovery", async || world.gateway.health().ready.then_some(())).await;
        assert_eq!(values(&raw.query("select 1").await), ["1"], "the session is usable");
    }
    assert_eq!(tags(&raw.query("insert into t values (4)").await), "CZ");
    assert_eq!(world.postgres.direct("select count(*) from t"), "2");

    // It fills up while a statement runs: its outcome still comes on record, from the reserve.
    raw.ask("insert into t select 5 from pg_sleep(3)").await;
    until("a running statement", async || (of(&world, EntryKind::ActStart).len() >= 5).then_some(())).await;
    disk.fill(4 << 20);
    until("the shortage is noticed", async || (!world.gateway.health().ready).then_some(())).await;
    assert_eq!(tags(&raw.ready().await), "CZ");
    disk.clear();
    until("the recovery", async || world.gateway.health().ready.then_some(())).await;
    drop(raw);
    // Whoever was seen for the first time during the shortage is in the ledger before their first session.
    drop(Raw::login(&world, &stranger, &[]).await);
    let seen = entries(&world);
    let opened = seen.iter().rfind(|leaf| leaf.kind == Some(EntryKind::SessionOpen)).expect("it was opened");
    let told = seen.iter().any(|leaf| {
        leaf.kind == Some(EntryKind::Principal) && field(leaf, "a") == field(opened, "a") && leaf.index < opened.index
    });
    assert!(told, "{seen:#?}");
    assert!(entries(&world).iter().any(|leaf| leaf.kind == Some(EntryKind::Stall)));
    finish(world).await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_ends_what_is_held() {
    listen();
    let rules = r#"
        permit(principal, action in [Action::"connect", Action::"read"], resource);
        permit(principal, action == Action::"write", resource) when { context.reviews.contains("dba") };
    "#;
    let Some(world) = World::with(Setup::new("held-token", rules)).await else { return };
    world.postgres.direct("create table t (a int)");
    let mut claims = world.issuer.claims("alice", &[], &[]);
    claims["exp"] = json!(seconds() + 2);
    let mut raw = Raw::login(&world, &world.issuer.sign(claims), &[]).await;
    raw.ask("insert into t values (1)").await;
    raw.notice().await;
    let review = pending(&world).await;
    assert!(review.expires_at > Timestamp(0));
    assert_eq!(sqlstate(&raw.ready().await), "57P01");
    ended_as(&world, review.id, ReviewState::Withdrawn).await;
    assert_eq!(world.postgres.direct("select count(*) from t"), "0");
    finish(world).await;
}

/// Too long without its witnesses: what could have an effect is refused, what reads goes on, and readiness says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_without_its_witnesses_takes_no_effects() {
    let nobody = Cosigner::from_seed("witness.test/w1", &[7; 32]).expect("a seed").verifier_key();
    let policy = format!("witness w1 {nobody} http://127.0.0.1:{}\nquorum w1\n", crate::world::free_port());
    listen();
    let mut setup = Setup::new("unwitnessed", ALLOW_ALL);
    setup.witnesses = Some(Arc::new(WitnessPolicy::parse(&policy).expect("well-formed")));
    setup.max_unwitnessed = std::time::Duration::from_secs(2);
    let Some(world) = World::with(setup).await else { return };
    world.postgres.direct("create table notes (id int)");
    let token = world.issuer.token("alice", &["analysts"], &[]);
    let mut raw = Raw::login(&world, &token, &[]).await;
    let (mut number, patience) = (0, std::time::Instant::now() + std::time::Duration::from_secs(20));
    let refused = loop {
        number += 1;
        let answer = raw.query(&format!("insert into notes values ({number})")).await;
        if tags(&answer) != "CZ" {
            break answer;
        }
        assert!(std::time::Instant::now() < patience, "it never stopped");
    };
    assert!(complaint(&refused).contains("put on record as it must be"), "{}", complaint(&refused));
    assert_eq!(values(&raw.query("select 7").await), ["7"]);
    let health = world.gateway.health();
    let told = health.problems.iter().any(|problem| problem.starts_with("too few witnesses cosigned the ledger"));
    assert!(!health.ready && told, "{health:?}");
    assert_eq!(
        world.postgres.direct("select max(id) from notes"),
        (number - 1).to_string(),
        "the refused one did not run"
    );
    drop(raw);
    assert!(!finish(world).await.is_empty());
}
