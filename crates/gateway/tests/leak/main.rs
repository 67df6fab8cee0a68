//! The leak oracle: canaries in tagged columns, many ways to carry them out, and a search for them in whatever a client,
//! a disk or a log was given.
#![allow(missing_docs)]

mod canary;
mod client;
mod controls;
mod errors;
mod shapes;
#[path = "../it/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::BytesMut;
use canary::{Oracle, Row};
use chancery_mask::{ColumnRule, MaskRules, Operator, TokenKey};
use chancery_model::Durability;
use chancery_store::{Directory, RecordingReader};
use chancery_wire_pg::frame;
use client::{Client, Way};
use shapes::Shape;
use world::{Postgres, Setup, World};

/// Everything but seeing values unmasked.
const EVERYTHING: &str = r#"
    permit(principal, action in [Action::"connect", Action::"read", Action::"write", Action::"define", Action::"grant",
        Action::"export", Action::"import", Action::"execute", Action::"administer"], resource);
"#;

fn rules() -> MaskRules {
    let column = |schema: &str, table: &str, column: &str, with| ColumnRule {
        schema: schema.into(),
        table: table.into(),
        column: column.into(),
        tag: format!("pii-{column}"),
        with,
    };
    let columns = vec![
        column("public", "person", "ssn", Operator::Redact),
        column("public", "person", "email", Operator::Token),
        column("public", "person", "card", Operator::Partial),
        column("public", "person", "note", Operator::Redact),
        column("public", "person", "born", Operator::Generalise),
        column("public", "person", "salary", Operator::Generalise),
        column("public", "person", "data", Operator::Null),
        column("public", "parted", "ssn", Operator::Redact),
        column("public", "parted", "card", Operator::Redact),
        column("*", "staff", "badge", Operator::Redact),
        column("v", "*", "ssn", Operator::Redact),
    ];
    MaskRules { columns, detect: Vec::new(), key: Some(TokenKey::new([7; 32])) }
}

/// What the process logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    })
    .clone()
}

const GROUPS: [&[Shape]; 5] = [shapes::PLAIN, shapes::DERIVED, shapes::EXITS, shapes::HOPS, shapes::CUSTOM];

/// Tables with a tagged column for shapes that change them.
const TAGGED: [&str; 15] = [
    "searched",
    "typed",
    "deleted",
    "moved_a",
    "moved_b",
    "moved_c",
    "moved_d",
    "moved_e",
    "moved_f",
    "moved_g",
    "swapped",
    "tables",
    "left_it",
    "inherited",
    "ruled",
];

/// Fills the database and copies it, so that each shape can be shown to leak on a direct connection.
fn plant(world: &World) -> (Vec<Row>, Oracle) {
    let rows = canary::rows();
    world.postgres.direct(include_str!("base.sql"));
    for row in &rows {
        world.postgres.direct(&format!(
            "INSERT INTO person (id, name, city, ssn, email, card, note, born, salary, data) VALUES ({}, '{}', 'Lund', \
             '{}', '{}', '{}', '{}', '{}', {}, '{{\"secret\": \"{}\", \"phones\": [\"{}\"]}}')",
            row.id, row.name, row.ssn, row.email, row.card, row.note, row.born, row.salary, row.secret, row.phone
        ));
    }
    world.postgres.direct("INSERT INTO parted SELECT id, ssn, card FROM person");
    world
        .postgres
        .direct("INSERT INTO staff SELECT id, ssn FROM person; INSERT INTO hr.staff SELECT id, ssn FROM person");
    world.postgres.direct("INSERT INTO employee (id, name, ssn) SELECT id + 1000, name, 'x' || ssn FROM ONLY person");
    for table in TAGGED {
        world.postgres.direct(&format!(
            "CREATE TABLE v.{table} AS SELECT id, city, ssn FROM ONLY person; ALTER TABLE v.{table} ADD PRIMARY KEY (id)"
        ));
    }
    world.postgres.direct("REFRESH MATERIALIZED VIEW person_mat");
    world.postgres.direct("CREATE DATABASE mirror TEMPLATE postgres");
    let oracle = Oracle::new(&rows, |value| world.postgres.direct(&format!("SELECT md5('{value}')")));
    (rows, oracle)
}

/// What became of the shapes.
#[derive(Default)]
struct Tally {
    asked: usize,
    refused: usize,
    ended: Vec<String>,
    leaks: Vec<String>,
    /// Shapes that show nothing directly, so that their silence here means nothing.
    vacuous: Vec<String>,
    dead: Vec<String>,
}

impl Tally {
    fn note(&mut self, name: &str, way: Way, answer: &client::Answer, oracle: &Oracle) {
        self.asked += 1;
        self.refused += usize::from(answer.error.is_some());
        if answer.ended {
            self.ended.push(format!("{name} ({way:?})"));
        }
        let hits = oracle.search(&answer.bytes);
        if !hits.is_empty() {
            self.leaks.push(format!("{name} ({way:?}): {}", hits.join(" ")));
        }
    }
}

/// Runs one shape through the gateway, each way in a session of its own if it has steps.
fn through(world: &World, token: &str, shape: &Shape, oracle: &Oracle, tally: &mut Tally) {
    let (last, first) = shape.statements.split_last().expect("a statement");
    let mut client = Client::open(world.port, "shop", "anybody", token);
    for statement in first {
        let answer = client.ask(statement, Way::Simple);
        tally.note(shape.name, Way::Simple, &answer, oracle);
    }
    for way in Way::ALL {
        let answer = client.ask(last, way);
        tally.note(shape.name, way, &answer, oracle);
        let steps = first.contains(&"BEGIN");
        if answer.ended || (answer.status != b'T' && !client.is_alive()) || (!steps && !client.is_alive()) {
            tally.dead.push(format!("{} ({way:?}): {:?}", shape.name, answer.error));
            client = Client::open(world.port, "shop", "anybody", token);
        }
    }
}

/// Whether the shape gives a canary away on a direct connection.
fn directly(world: &World, shape: &Shape, oracle: &Oracle) -> (bool, String) {
    let mut client = Client::open(world.postgres.port, "mirror", "postgres", "");
    let mut found = false;
    let mut errors = String::new();
    for statement in shape.statements {
        let answer = client.ask(statement, Way::Simple);
        found |= !oracle.search(&answer.bytes).is_empty();
        if let Some((code, message)) = answer.error {
            errors += &format!("[{code} {message}]");
        }
    }
    (found, errors)
}

fn run(world: &World, token: &str, shapes: &[Shape], oracle: &Oracle, tally: &mut Tally) {
    for shape in shapes {
        through(world, token, shape, oracle, tally);
        let (found, errors) = directly(world, shape, oracle);
        if found == shape.quiet {
            tally.vacuous.push(format!("{}: {errors}", shape.name));
        }
    }
}

/// Every file of the state directory, and every frame of the recordings.
fn on_disk(state: &Path, oracle: &Oracle) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![state.to_owned()];
    while let Some(place) = waiting.pop() {
        for entry in std::fs::read_dir(&place).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let hits = oracle.search_noise(&std::fs::read(&path).expect("a file"));
                found.extend(hits.into_iter().map(|hit| format!("{}: {hit}", path.display())));
            }
        }
    }
    let volume = Directory::shared(&state.join("recordings")).expect("recordings");
    let reader = RecordingReader::new(Arc::new(volume));
    let mut whole: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for (n, session) in reader.sessions().expect("sessions").into_iter().enumerate() {
        reader
            .frames(session.session, |frame| {
                whole.entry((n as u64, frame.command)).or_default().extend_from_slice(frame.bytes);
                ControlFlow::Continue(())
            })
            .expect("recordings are sound");
    }
    assert!(whole.len() > 10, "there is something to search");
    for ((session, command), bytes) in whole {
        // What belongs to no command has ids and times in it.
        let hits = if command == 0 { oracle.search_noise(&bytes) } else { oracle.search(&bytes) };
        found.extend(hits.into_iter().map(|hit| format!("recording {session}, command {command}: {hit}")));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_carries_a_tagged_value_out() {
    let log = log();
    let Some(world) = World::start("leak", EVERYTHING, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    let mut tally = Tally::default();
    let oracle = tokio::task::block_in_place(|| {
        let (_, oracle) = plant(&world);
        for group in GROUPS {
            run(&world, &token, group, &oracle, &mut tally);
        }
        oracle
    });
    world.gateway.catalog().list_reviews(None, 1).await.expect("the catalog answers");
    let on_disk = on_disk(&world.state, &oracle);
    let logged = oracle.search_noise(&log.0.lock().unwrap_or_else(PoisonError::into_inner));
    let count: usize = GROUPS.iter().map(|g| g.len()).sum();
    eprintln!(
        "{count} shapes, {} statements, {} answered with an error, {} sessions ended",
        tally.asked,
        tally.refused,
        tally.ended.len()
    );
    for (what, list) in [
        ("LEAK", &tally.leaks),
        ("on disk", &on_disk),
        ("logged", &logged),
        ("shows nothing", &tally.vacuous),
        ("ended", &tally.ended),
        ("unusable after", &tally.dead),
    ] {
        list.iter().for_each(|line| eprintln!("{what}: {line}"));
    }
    assert!(tally.leaks.is_empty() && on_disk.is_empty() && logged.is_empty(), "canaries came out");
    assert!(tally.vacuous.is_empty(), "shapes that show nothing");
    assert!(tally.dead.is_empty(), "sessions that cannot be used any more");
}

/// Code that nobody can read is the one way that is left, and it is closed by not permitting `execute`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_code_that_nobody_can_read_is_a_way_out() {
    let permits = EVERYTHING.replace("Action::\"execute\", ", "");
    for (name, permits, open) in [("leak-code", EVERYTHING, true), ("leak-no-code", &permits, false)] {
        let Some(world) = World::start(name, permits, rules(), Durability::Balanced).await else { return };
        let token = world.issuer.token("alice", &["analysts"], &[]);
        tokio::task::block_in_place(|| {
            let (_, oracle) = plant(&world);
            for shape in shapes::LIMITS {
                let mut tally = Tally::default();
                through(&world, &token, shape, &oracle, &mut tally);
                assert_eq!(!tally.leaks.is_empty(), open, "{} with {permits}: {:?}", shape.name, tally.leaks);
                assert!(tally.dead.is_empty() && tally.ended.is_empty(), "{}: {:?}", shape.name, tally.dead);
            }
        });
        world.stop().await;
    }
}

/// The protocol's own messages give and drop names of the same name space as SQL's PREPARE.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_both_kinds_carries_nothing_out() {
    const PLAIN: &str = "SELECT upper(item) FROM orders";
    const TAGGED: &str = "SELECT upper(ssn) FROM person";
    let Some(world) = World::start("leak-names", EVERYTHING, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    tokio::task::block_in_place(|| {
        let (_, oracle) = plant(&world);
        let prepare = |out: &mut BytesMut, sql: &str| frame::query(out, &format!("PREPARE q AS {sql}"));
        let close = |out: &mut BytesMut| {
            frame::close(out, b'S', b"q");
            frame::sync(out);
        };
        let parse = |out: &mut BytesMut, sql: &str| {
            frame::parse(out, "q", sql);
            frame::sync(out);
        };
        let script = |steps: &[&dyn Fn(&mut BytesMut)]| -> Vec<BytesMut> {
            let each = |step: &&dyn Fn(&mut BytesMut)| {
                let mut out = BytesMut::new();
                step(&mut out);
                frame::query(&mut out, "EXECUTE q");
                out
            };
            steps.iter().map(each).collect()
        };
        // Each step is followed by an EXECUTE, so that what is known of the name is used wherever it can be.
        let scripts = [
            script(&[&|out| prepare(out, PLAIN), &|out| close(out), &|out| parse(out, TAGGED)]),
            script(&[&|out| {
                prepare(out, PLAIN);
                close(out);
                parse(out, TAGGED);
            }]),
            script(&[&|out| parse(out, TAGGED), &|out| prepare(out, PLAIN)]),
            script(&[&|out| prepare(out, TAGGED), &|out| parse(out, PLAIN)]),
            script(&[&|out| prepare(out, PLAIN), &|out| {
                close(out);
                prepare(out, TAGGED);
            }]),
        ];
        let mut found = Vec::new();
        for (n, script) in scripts.iter().enumerate() {
            for together in [false, true] {
                let run = |port, database: &str, user: &str, password: &str| {
                    let mut client = Client::open(port, database, user, password);
                    let mut bytes = Vec::new();
                    let parts =
                        if together { vec![script.concat()] } else { script.iter().map(|s| s.to_vec()).collect() };
                    for part in parts {
                        client.send(&part);
                        client.send(&end());
                        // The constant is asked last: its answer is the last one.
                        loop {
                            let answer = client.answer();
                            assert!(!answer.ended, "script {n}, {together}: {answer:?}");
                            bytes.extend_from_slice(&answer.bytes);
                            if answer.rows == [[Some(b"the end".to_vec())]] {
                                break;
                            }
                        }
                    }
                    oracle.search(&bytes)
                };
                let direct = run(world.postgres.port, "mirror", "postgres", "");
                assert!(!direct.is_empty(), "script {n} shows nothing");
                let hits = run(world.port, "shop", "anybody", &token);
                found.extend(hits.into_iter().map(|hit| format!("script {n}, {together}: {hit}")));
            }
        }
        assert!(found.is_empty(), "{found:#?}");
    });
}

fn end() -> BytesMut {
    let mut out = BytesMut::new();
    frame::query(&mut out, "SELECT 'the end'");
    out
}

/// What one session fills is masked in another that was open before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_see_what_others_do() {
    let Some(postgres) = Postgres::start_with("leak-two", "-c max_prepared_transactions=4", |_| ()) else { return };
    let setup = Setup { mask: rules(), postgres: Some(postgres), ..Setup::new("leak-two", EVERYTHING) };
    let Some(world) = World::with(setup).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    tokio::task::block_in_place(|| {
        let (_, oracle) = plant(&world);
        let open = || Client::open(world.port, "shop", "anybody", &token);
        let (mut one, mut two) = (open(), open());
        let mut found = Vec::new();
        let mut see = |client: &mut Client, sql: &str| {
            for way in Way::ALL {
                let answer = client.ask(sql, way);
                found.extend(oracle.search(&answer.bytes).into_iter().map(|hit| format!("{sql} ({way:?}): {hit}")));
            }
        };
        for sql in ["SELECT * FROM sink", "SELECT * FROM order_view", "SELECT city FROM v.moved_a"] {
            see(&mut two, sql);
        }
        one.ask("INSERT INTO sink SELECT 1, ssn FROM person", Way::Simple);
        see(&mut two, "SELECT * FROM sink");
        one.ask("CREATE OR REPLACE VIEW order_view AS SELECT id, ssn AS item FROM person", Way::Simple);
        see(&mut two, "SELECT * FROM order_view");
        one.ask("UPDATE v.moved_a SET city = ssn", Way::Text);
        see(&mut two, "SELECT city FROM v.moved_a");
        one.ask("ALTER TABLE v.moved_b RENAME COLUMN ssn TO plain", Way::Simple);
        see(&mut two, "SELECT plain FROM v.moved_b");
        // Code with the name of a built-in one: nobody asks for it by another name, and its maker says nothing more.
        let reads = "RETURNS text LANGUAGE sql AS 'SELECT ssn FROM person WHERE id = $1'";
        see(&mut two, "SELECT lower(int4 '101')");
        one.ask(&format!("CREATE FUNCTION public.lower(int) {reads}"), Way::Simple);
        see(&mut two, "SELECT lower(int4 '101')");
        see(&mut two, "BEGIN");
        one.ask("BEGIN", Way::Simple);
        one.ask(&format!("CREATE FUNCTION public.initcap(int) {reads}"), Way::Text);
        see(&mut two, "SELECT initcap(int4 '101')");
        two.ask("ROLLBACK", Way::Simple);
        two.ask("BEGIN", Way::Simple);
        one.ask("COMMIT", Way::Simple);
        see(&mut two, "SELECT initcap(int4 '101')");
        two.ask("ROLLBACK", Way::Simple);
        one.ask(&format!("CREATE FUNCTION public.reverse(int) {reads}"), Way::Bare);
        drop(std::mem::replace(&mut one, open()));
        see(&mut two, "SELECT reverse(int4 '101')");
        // Made and used in one implicit transaction, which nobody else sees.
        let mut out = BytesMut::new();
        for sql in [&format!("CREATE FUNCTION public.ltrim(int) {reads}"), "SELECT ltrim(int4 '101')"] {
            frame::parse(&mut out, "", sql);
            frame::message(&mut out, b'B', |out| out.extend_from_slice(&[0; 8]));
            frame::message(&mut out, b'E', |out| out.extend_from_slice(&[0; 5]));
        }
        frame::sync(&mut out);
        one.send(&out);
        found.extend(oracle.search(&one.answer().bytes).into_iter().map(|hit| format!("in a pipeline: {hit}")));
        let mut see = |client: &mut Client, sql: &str| {
            for way in Way::ALL {
                let answer = client.ask(sql, way);
                found.extend(oracle.search(&answer.bytes).into_iter().map(|hit| format!("{sql} ({way:?}): {hit}")));
            }
        };
        see(&mut two, "SELECT ltrim(int4 '101')");
        // Made by one, kept, and committed by a statement that defines nothing.
        for sql in ["BEGIN", &format!("CREATE FUNCTION public.rtrim(int) {reads}"), "PREPARE TRANSACTION 'kept'"] {
            assert_eq!(one.ask(sql, Way::Simple).error, None, "{sql}");
        }
        see(&mut two, "SELECT rtrim(int4 '101')");
        assert_eq!(one.ask("COMMIT PREPARED 'kept'", Way::Simple).error, None);
        see(&mut two, "SELECT rtrim(int4 '101')");
        // Statement texts of others, with what they look for.
        let rows = canary::rows();
        let literal = format!("SELECT id FROM person WHERE ssn = '{}'", rows[0].ssn);
        one.ask(&literal, Way::Simple);
        for sql in [
            "SELECT query FROM pg_stat_activity",
            "SELECT upper(query), a FROM pg_stat_activity a",
            "SELECT pg_stat_get_backend_activity(i) FROM generate_series(1, 100) i",
            "SELECT query FROM pg_stat_get_activity(NULL)",
        ] {
            see(&mut two, sql);
        }
        // A notification from elsewhere.
        two.ask("LISTEN news", Way::Simple);
        one.ask("SELECT pg_notify('news', ssn) FROM person", Way::Simple);
        see(&mut two, "SELECT 1");
        assert!(found.is_empty(), "{found:#?}");
        assert!(one.is_alive() && two.is_alive());
        assert_eq!(on_disk(&world.state, &oracle), Vec::<String>::new());
    });
}
