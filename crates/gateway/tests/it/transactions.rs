//! A refusal fails like the server's own errors (bug class B5).

use chancery_ledger::EntryKind;

use crate::rig::{Raw, complaint, finish, listen, sqlstate, tags, values};
use crate::world::{Setup, World};

const RULES: &str = r#"
    permit(principal, action, resource);
    @id("no-drop") forbid(principal, action == Action::"define", resource);
"#;

async fn world(name: &str) -> Option<World> {
    listen();
    let world = World::with(Setup::new(name, RULES)).await?;
    world.postgres.direct("create table t (a int)");
    Some(world)
}

fn count(world: &World) -> String {
    world.postgres.direct("select count(*) from t")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_fails_the_transaction_it_is_in() {
    let Some(world) = world("txn").await else { return };
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    for end in ["commit", "end", "commit and no chain", "rollback"] {
        assert_eq!(tags(&raw.query("begin").await), "CZ");
        assert_eq!(tags(&raw.query("insert into t values (1)").await), "CZ");
        let answer = raw.query("drop table t").await;
        assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "42501"));
        assert!(complaint(&answer).contains("no-drop"), "{}", complaint(&answer));
        assert_eq!(answer[1].body, b"E");
        assert_eq!(sqlstate(&raw.query("select 1").await), "25P02");
        assert_eq!(sqlstate(&raw.query("insert into t values (2)").await), "25P02");
        let ended = raw.query(end).await;
        assert_eq!((ended[0].text().trim(), ended[1].body.as_slice()), ("ROLLBACK", b"I".as_slice()), "{end}");
        assert_eq!(count(&world), "0");
    }
    // A savepoint brings it back, as it does after an error of the server's.
    for sql in ["begin", "insert into t values (1)", "savepoint s"] {
        assert_eq!(tags(&raw.query(sql).await), "CZ");
    }
    assert_eq!(sqlstate(&raw.query("drop table t").await), "42501");
    assert_eq!(tags(&raw.query("rollback to s").await), "CZ");
    assert_eq!(raw.query("commit").await[0].text().trim(), "COMMIT");
    assert_eq!(count(&world), "1");

    // Several statements in one query: one that is refused refuses all.
    let answer = raw.query("insert into t values (2); drop table t").await;
    assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "42501"));
    assert_eq!(count(&world), "1");

    // Outside of a transaction the session is usable.
    assert_eq!(sqlstate(&raw.query("drop table t").await), "42501");
    assert_eq!(values(&raw.query("select count(*) from t").await), ["1"]);
    drop(raw);
    let leaves = finish(world).await;
    assert_eq!(leaves.iter().filter(|leaf| leaf.kind == Some(EntryKind::ActDeny)).count(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_in_a_pipeline_leaves_nothing_of_it() {
    let Some(world) = world("pipe").await else { return };
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    raw.execute("insert into t values (1)", &[]).await;
    raw.execute("drop table t", &[]).await;
    raw.execute("insert into t values (2)", &[]).await;
    raw.sync().await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("12CEZ", "42501"), "{}", complaint(&answer));
    assert_eq!(answer.last().map(|ready| ready.body.as_slice()), Some(b"I".as_slice()));
    assert_eq!(count(&world), "0", "what stood before the refusal is rolled back, too");

    // The refusal first.
    raw.execute("drop table t", &[]).await;
    raw.execute("insert into t values (3)", &[]).await;
    raw.sync().await;
    assert_eq!(tags(&raw.ready().await), "EZ");
    // Two pipelines at once: the second is not touched by the first.
    raw.execute("drop table t", &[]).await;
    raw.sync().await;
    raw.execute("insert into t values ($1::text::int)", &["4"]).await;
    raw.sync().await;
    assert_eq!(tags(&raw.ready().await), "EZ");
    assert_eq!(tags(&raw.ready().await), "12CZ");
    assert_eq!(count(&world), "1");

    // Inside an explicit transaction.
    assert_eq!(tags(&raw.query("begin").await), "CZ");
    raw.execute("insert into t values (5)", &[]).await;
    raw.sync().await;
    assert_eq!(tags(&raw.ready().await), "12CZ");
    raw.execute("drop table t", &[]).await;
    raw.sync().await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), answer[1].body.as_slice()), ("EZ", b"E".as_slice()));
    raw.execute("commit", &[]).await;
    raw.sync().await;
    let answer = raw.ready().await;
    assert!(answer.iter().any(|message| message.text().contains("ROLLBACK")), "{answer:?}");
    assert_eq!(count(&world), "1");

    // Several pipelines with their Syncs in one write.
    for value in ["6", "7", "8"] {
        raw.execute("insert into t values ($1::text::int)", &[value]).await;
        raw.sync().await;
    }
    for _ in 0..3 {
        assert_eq!(tags(&raw.ready().await), "12CZ");
    }
    assert_eq!(count(&world), "4");
    drop(raw);
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_change_how_text_is_read_are_refused() {
    let Some(world) = world("settings").await else { return };
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    for sql in [
        "set client_encoding to 'SQL_ASCII'",
        "set names 'LATIN1'",
        "set session client_encoding = SJIS",
        "set local standard_conforming_strings to off",
        "set standard_conforming_strings = off",
        "select set_config('standard_conforming_strings', 'off', false)",
    ] {
        let answer = raw.query(sql).await;
        let state = sqlstate(&answer);
        assert!(state == "0A000" || state == "42501", "{sql}: {} {}", tags(&answer), complaint(&answer));
        assert_eq!(answer.last().map(|ready| ready.body.as_slice()), Some(b"I".as_slice()), "{sql}");
    }
    assert_eq!(values(&raw.query("show standard_conforming_strings").await), ["on"]);
    assert_eq!(values(&raw.query("show client_encoding").await), ["UTF8"]);
    for sql in [
        "set client_encoding to 'UTF8'",
        "set search_path to pg_catalog, public",
        "set standard_conforming_strings = on",
    ] {
        let answer = raw.query(sql).await;
        assert_eq!(sqlstate(&answer), "", "{sql}: {}", complaint(&answer));
    }
    assert_eq!(values(&raw.query("show search_path").await), ["pg_catalog, public"]);
    assert_eq!(values(&raw.query("select count(*) from t").await), ["0"]);
    drop(raw);
    // Where rules allow what cannot be told from the text, the server's own report ends the session.
    for sql in [
        "select set_config(concat('standard_conforming', '_strings'), 'off', false)",
        "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
        "do $$ begin set standard_conforming_strings = off; end $$",
    ] {
        let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
        let script = [sql, r"select 'a\'; select 'read otherwise' --'"].map(|sql| [sql.as_bytes(), b"\0"].concat());
        raw.bytes(&script.map(|sql| Raw::frame('Q', &sql)).concat()).await;
        let answer = raw.ready().await;
        assert_eq!(sqlstate(&answer), "0A000", "{sql}: {answer:?}");
        assert_eq!(raw.next().await, None, "nothing is read after it");
    }
    finish(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_in_and_out_like_without_a_gateway() {
    let Some(world) = world("copy").await else { return };
    let token = world.issuer.token("alice", &[], &[]);
    let lines: String = (1..=50_000).map(|n| format!("{n}\n")).collect();
    let file = world.state.join("lines.txt");
    std::fs::write(&file, &lines).expect("own file");
    let copy = format!("\\copy t from '{}'", file.display());
    let done = world.psql(&token, &["-c", &copy, "-c", "select count(*), sum(a) from t"]).await;
    assert_eq!(crate::out(&done), "COPY 50000\n50000|1250025000", "{}", crate::err(&done));
    let done = world.psql(&token, &["-c", "\\copy (select a from t order by a) to stdout"]).await;
    assert_eq!(crate::out(&done), lines.trim_end(), "{}", crate::err(&done));

    let mut raw = Raw::login(&world, &token, &[]).await;
    raw.ask("copy t from stdin").await;
    assert_eq!(raw.next().await.expect("an answer").tag, 'G');
    // The data, then a failure of the client's own: nothing of it stays.
    raw.send('d', b"1\n").await;
    raw.send('f', b"changed my mind\0").await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), sqlstate(&answer).as_str()), ("EZ", "57014"));
    // Data that the server refuses while more is on its way.
    raw.ask("copy t from stdin").await;
    assert_eq!(raw.next().await.expect("an answer").tag, 'G');
    for _ in 0..2_000 {
        raw.send('d', b"not a number\n").await;
    }
    raw.send('c', b"").await;
    assert_eq!(sqlstate(&raw.ready().await), "22P02");
    assert_eq!(values(&raw.query("select count(*) from t").await), ["50000"]);
    // A client that leaves in the middle.
    raw.ask("copy t from stdin").await;
    assert_eq!(raw.next().await.expect("an answer").tag, 'G');
    raw.send('d', b"1\n").await;
    drop(raw);
    crate::rig::until("the end", async || world.gateway.sessions().is_empty().then_some(())).await;
    assert_eq!(count(&world), "50000");
    let leaves = finish(world).await;
    let outs: Vec<_> = leaves
        .iter()
        .filter(|leaf| leaf.kind == Some(EntryKind::ActDone))
        .map(|leaf| (crate::rig::field(leaf, "out"), leaf.number("rows").unwrap_or_default()))
        .collect();
    let expected = [
        ("completed", 50_000),
        ("completed", 1),
        ("completed", 50_000),
        ("failed", 0),
        ("failed", 0),
        ("completed", 1),
        ("unknown", 0),
    ];
    assert_eq!(outs, expected.map(|(word, rows)| (word.to_owned(), rows)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_portals_and_cursors_under_the_strict_profile() {
    listen();
    let setup = Setup { durability: chancery_model::Durability::Strict, ..Setup::new("strict", RULES) };
    let Some(world) = World::with(setup).await else { return };
    world.postgres.direct("create table t (a int); insert into t select generate_series(1, 100)");
    let mut raw = Raw::login(&world, &world.issuer.token("alice", &[], &[]), &[]).await;
    // A named statement, described first, as drivers do; then executed twice with other parameters.
    let prepare = [
        Raw::frame('P', b"s1\0select a from t where a > $1 order by a\0\0\x01\0\0\0\x17"),
        Raw::frame('D', b"Ss1\0"),
        Raw::frame('S', b""),
    ];
    raw.bytes(&prepare.concat()).await;
    assert_eq!(tags(&raw.ready().await), "1tTZ");
    for (parameter, rows) in [("98", vec!["99", "100"]), ("99", vec!["100"])] {
        let mut bind = b"\0s1\0\0\0\0\x01".to_vec();
        bind.extend((parameter.len() as u32).to_be_bytes());
        bind.extend(parameter.as_bytes());
        bind.extend([0, 0]);
        let frames =
            [Raw::frame('B', &bind), Raw::frame('D', b"P\0"), Raw::frame('E', b"\0\0\0\0\0"), Raw::frame('S', b"")];
        raw.bytes(&frames.concat()).await;
        let answer = raw.ready().await;
        assert_eq!(values(&answer), rows, "{}", tags(&answer));
    }
    // A portal read in pieces.
    let pieces = [
        Raw::frame('P', b"\0select a from t order by a\0\0\0"),
        Raw::frame('B', b"p\0\0\0\0\0\0\0\0"),
        Raw::frame('E', b"p\0\0\0\0\x02"),
        Raw::frame('E', b"p\0\0\0\0\x01"),
        Raw::frame('C', b"Pp\0"),
        Raw::frame('S', b""),
    ];
    raw.bytes(&pieces.concat()).await;
    let answer = raw.ready().await;
    assert_eq!((tags(&answer).as_str(), values(&answer)), ("12DDsDs3Z", vec!["1".into(), "2".into(), "3".into()]));
    for (sql, expected) in [
        ("begin", "CZ"),
        ("declare c cursor for select a from t order by a", "CZ"),
        ("fetch 2 from c", "TDDCZ"),
        ("close c", "CZ"),
        ("commit", "CZ"),
        ("prepare p1 as select count(*) from t", "CZ"),
        ("execute p1", "TDCZ"),
        ("deallocate p1", "CZ"),
        ("", "IZ"),
        ("select 1; select 2", "TDCTDCZ"),
        ("select 1 / 0", "EZ"),
        ("insert into t values (101) returning a", "TDCZ"),
    ] {
        let answer = raw.query(sql).await;
        assert_eq!(tags(&answer), expected, "{sql}: {}", complaint(&answer));
    }
    // A Flush in the place of a Sync.
    raw.execute("select 'flushed'", &[]).await;
    raw.send('H', b"").await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(raw.next().await.expect("the session lives"));
    }
    assert_eq!((tags(&seen).as_str(), values(&seen)), ("12DC", vec!["flushed".to_owned()]));
    raw.sync().await;
    let answer = raw.ready().await;
    assert_eq!(tags(&answer), "Z", "{}", complaint(&answer));
    // Many at once.
    for n in 0..500 {
        raw.execute("select $1::text", &[&n.to_string()]).await;
    }
    raw.sync().await;
    let answer = raw.ready().await;
    assert_eq!(values(&answer).len(), 500, "{}", tags(&answer));
    drop(raw);
    finish(world).await;
}
