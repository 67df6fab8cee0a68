//! Whose words an error or notice is: those of a statement that reaches nothing tagged come through, whatever message of
//! the protocol brought them up; those of one that does are withheld, whatever else was sent with it.

use bytes::{BufMut, BytesMut};
use chancery_model::Durability;
use chancery_wire_pg::frame;

use crate::client::{Client, Way};
use crate::world::World;
use crate::{EVERYTHING, plant, rules};

/// They fail or speak when they are planned, and have nothing to do with tagged columns.
const HARMLESS: &[&str] = &[
    "INSERT INTO orders (id) VALUES (1)",
    "SELECT 1/0",
    "SELECT 'x'::int",
    "SELECT 1 / (id - 1) FROM orders",
    "SELECT nothing FROM orders",
    "SELECT cast(lower('X') AS int)",
    "SELECT 'yesterday'::uuid FROM words",
];

/// Code that tells what is in tagged columns while a statement that calls it is planned.
const TALKERS: &str = "
    CREATE FUNCTION breaks() RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no: %', (SELECT string_agg(ssn, ' ') FROM person); END $$;
    CREATE FUNCTION speaks() RETURNS int IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN RAISE NOTICE 'is: %', (SELECT string_agg(ssn, ' ') FROM person); RETURN 1; END $$;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_what_reaches_nothing_tagged_come_through() {
    let Some(world) = World::start("leak-errors", EVERYTHING, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    tokio::task::block_in_place(|| {
        plant(&world);
        for sql in HARMLESS {
            for way in Way::ALL {
                let direct = Client::open(world.postgres.port, "postgres", "postgres", "").ask(sql, way);
                let through = Client::open(world.port, "shop", "anybody", &token).ask(sql, way);
                assert!(direct.error.is_some(), "{sql} fails");
                assert_eq!(through.error, direct.error, "{sql} ({way:?})");
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_one_statement_are_not_shown_as_those_of_another() {
    let Some(world) = World::start("leak-words", EVERYTHING, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    tokio::task::block_in_place(|| {
        world.postgres.direct(TALKERS);
        let (_, oracle) = plant(&world);
        let mut found = Vec::new();
        for talker in ["SELECT breaks()", "SELECT speaks()"] {
            for (n, script) in scripts(talker).iter().enumerate() {
                let run = |port, database: &str, user: &str, password: &str| {
                    let mut client = Client::open(port, database, user, password);
                    let mut bytes = Vec::new();
                    for part in script {
                        client.send(part);
                        frame_end(&mut client);
                        loop {
                            let answer = client.answer();
                            assert!(!answer.ended, "{talker}, script {n}: {answer:?}");
                            bytes.extend_from_slice(&answer.bytes);
                            if answer.rows == [[Some(b"the end".to_vec())]] {
                                break;
                            }
                        }
                    }
                    oracle.search(&bytes)
                };
                let direct = run(world.postgres.port, "mirror", "postgres", "");
                assert!(!direct.is_empty(), "{talker}, script {n} shows nothing");
                let hits = run(world.port, "shop", "anybody", &token);
                found.extend(hits.into_iter().map(|hit| format!("{talker}, script {n}: {hit}")));
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    });
}

/// A deferred constraint speaks at the end of the transaction, or when it is told to, of what was done before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_constraint_tells_nothing() {
    let Some(world) = World::start("leak-deferred", EVERYTHING, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    tokio::task::block_in_place(|| {
        world
            .postgres
            .direct("CREATE SCHEMA v; CREATE TABLE v.deferred (id int, ssn text UNIQUE DEFERRABLE INITIALLY DEFERRED)");
        let (_, oracle) = plant(&world);
        for database in ["postgres", "mirror"] {
            let mut client = Client::open(world.postgres.port, database, "postgres", "");
            let filled = client.ask("INSERT INTO v.deferred SELECT id, ssn FROM ONLY person", Way::Simple);
            assert_eq!(filled.error, None);
        }
        let mut found = Vec::new();
        for last in ["COMMIT", "SET CONSTRAINTS ALL IMMEDIATE"] {
            // What has no rows has no pages.
            for way in Way::ALL.into_iter().filter(|way| *way != Way::Paged) {
                let run = |port, database: &str, user: &str, password: &str| {
                    let mut client = Client::open(port, database, user, password);
                    let steps = ["BEGIN", "UPDATE v.deferred SET ssn = (SELECT max(ssn) FROM v.deferred)", last];
                    let answers = steps.map(|sql| client.ask(sql, way));
                    answers.iter().flat_map(|answer| oracle.search(&answer.bytes)).collect::<Vec<_>>()
                };
                assert!(
                    !run(world.postgres.port, "mirror", "postgres", "").is_empty(),
                    "{last} ({way:?}) shows nothing"
                );
                let hits = run(world.port, "shop", "anybody", &token);
                found.extend(hits.into_iter().map(|hit| format!("{last} ({way:?}): {hit}")));
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    });
}

/// Messages sent in one write each. The talker is bound, which plans it, in the company of a statement of no harm.
fn scripts(talker: &str) -> Vec<Vec<BytesMut>> {
    const PLAIN: &str = "SELECT 1";
    let script = |parts: &[&dyn Fn(&mut BytesMut)]| -> Vec<BytesMut> {
        let written = |part: &&dyn Fn(&mut BytesMut)| {
            let mut out = BytesMut::new();
            part(&mut out);
            frame::sync(&mut out);
            out
        };
        parts.iter().map(written).collect()
    };
    let parse = |out: &mut BytesMut, name: &str, sql: &str| frame::parse(out, name, sql);
    let make = |out: &mut BytesMut| parse(out, "talker", talker);
    vec![
        script(&[&make, &|out| {
            bind(out, "p", "talker");
            parse(out, "other", PLAIN);
        }]),
        script(&[&|out| {
            make(out);
            bind(out, "p", "talker");
            parse(out, "", PLAIN);
            bind(out, "", "");
            execute(out, "");
        }]),
        script(&[&make, &|out| {
            bind(out, "p", "talker");
            frame::sync(out);
            parse(out, "", PLAIN);
            bind(out, "", "");
            execute(out, "");
        }]),
        script(&[&make, &|out| {
            parse(out, "", PLAIN);
            bind(out, "", "");
            bind(out, "p", "talker");
            execute(out, "");
        }]),
        script(&[&|out| parse(out, "plain", PLAIN), &make, &|out| {
            bind(out, "p", "talker");
            frame::close(out, b'P', b"p");
            bind(out, "q", "plain");
            execute(out, "q");
        }]),
    ]
}

fn bind(out: &mut BytesMut, portal: &str, statement: &str) {
    frame::message(out, b'B', |out| {
        frame::put_string(out, portal.as_bytes());
        frame::put_string(out, statement.as_bytes());
        out.put_slice(&[0; 6]);
    });
}

fn execute(out: &mut BytesMut, portal: &str) {
    frame::message(out, b'E', |out| {
        frame::put_string(out, portal.as_bytes());
        out.put_i32(0);
    });
}

fn frame_end(client: &mut Client) {
    client.send(&crate::end());
}
