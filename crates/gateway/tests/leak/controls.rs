//! What must come through as on a direct connection, although the database has tagged columns.

use chancery_model::Durability;

use crate::client::{Client, Way};
use crate::world::World;
use crate::{EVERYTHING, plant, rules};

/// Statements whose rows are the same as on a direct connection, in every way of asking.
const SAME: &[(&str, &str)] = &[
    ("count", "SELECT count(*) FROM person"),
    ("count of a column", "SELECT count(ssn), count(*) AS n FROM person WHERE id < 104"),
    ("count by an untagged column", "SELECT city, count(*) FROM person GROUP BY city"),
    ("count of a join", "SELECT count(*) FROM person p JOIN orders o ON o.person = p.id"),
    ("count as an ORM asks", "SELECT COUNT(*) AS \"__count\" FROM \"person\" WHERE \"person\".\"id\" > 102"),
    ("untagged columns of a tagged table", "SELECT id, name, city FROM person ORDER BY id"),
    ("join on id", "SELECT p.id, p.name, o.item FROM person p JOIN orders o ON o.person = p.id ORDER BY o.id"),
    ("partition's untagged column", "SELECT id FROM parted ORDER BY id"),
    ("every type of an untagged table", "SELECT * FROM orders ORDER BY id"),
    ("jsonb of an untagged table", "SELECT data, data -> 'qty', data ->> 'colour', data @> '{\"qty\": 3}' FROM orders"),
    ("uuids and ids", "SELECT id, ref, number, ref::text, number::text || '-' || id FROM orders ORDER BY id"),
    ("emoji, cjk, null and escapes", "SELECT id, word, upper(word), length(word) FROM words ORDER BY id"),
    (
        "aggregates of an untagged table",
        "SELECT paid, sum(amount), max(at), string_agg(item, ',') FROM orders GROUP BY paid",
    ),
    (
        "window over an untagged table",
        "SELECT id, row_number() OVER (ORDER BY id), lag(item) OVER (ORDER BY id) FROM orders",
    ),
    (
        "cte over untagged tables",
        "WITH c AS (SELECT person, count(*) AS n FROM orders GROUP BY person) SELECT * FROM c ORDER BY 1",
    ),
    ("union of untagged tables", "SELECT item FROM orders UNION SELECT word FROM words ORDER BY 1"),
    ("explain", "EXPLAIN SELECT * FROM orders WHERE id = 3"),
    ("explain verbose", "EXPLAIN (VERBOSE, FORMAT json) SELECT item FROM orders JOIN words USING (id)"),
    ("view of an untagged table", "SELECT * FROM order_view ORDER BY id"),
    ("untagged columns of a view", "SELECT id, name FROM person_view ORDER BY id"),
    ("untagged columns of a view on a view", "SELECT a, b FROM person_view2 ORDER BY a"),
    ("untagged column of a materialised view", "SELECT id FROM person_mat ORDER BY id"),
    ("constants", "SELECT 1, 'x', version(), current_database() IS NOT NULL, 1.5::numeric"),
    ("settings", "SELECT current_setting('server_version_num'), current_schema()"),
    ("show", "SHOW transaction_isolation"),
    (
        "keys, JDBC",
        "SELECT result.a, result.seq, result.name FROM (SELECT a.attname AS a, (information_schema._pg_expandarray(i.indkey)).n AS seq, ci.relname AS name, (information_schema._pg_expandarray(i.indkey)).x AS x, a.attnum AS at FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON ct.oid = a.attrelid JOIN pg_catalog.pg_index i ON a.attrelid = i.indrelid JOIN pg_catalog.pg_class ci ON ci.oid = i.indexrelid WHERE ct.relname = 'person') result WHERE result.at = result.x ORDER BY 3, 2",
    ),
    ("copy of an untagged table", "COPY orders TO STDOUT"),
    ("copy of an untagged table as csv", "COPY words TO STDOUT (FORMAT csv, HEADER)"),
    ("copy of an untagged table as binary", "COPY orders TO STDOUT (FORMAT binary)"),
    ("copy of a query", "COPY (SELECT item, count(*) FROM orders GROUP BY item ORDER BY 1) TO STDOUT"),
    ("empty result", "SELECT id, name FROM person WHERE false"),
    ("no columns", "SELECT FROM orders"),
    // What SQLAlchemy, Django and JDBC ask about a database.
    (
        "tables, SQLAlchemy",
        "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = ANY (ARRAY['r', 'p']) AND c.relpersistence != 't' AND pg_catalog.pg_table_is_visible(c.oid) AND n.nspname != 'pg_catalog' ORDER BY 1",
    ),
    (
        "columns, SQLAlchemy",
        "SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS format_type, (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef) AS \"default\", a.attnotnull AS not_null, c.relname AS table_name, pg_catalog.col_description(a.attrelid, a.attnum) AS comment, a.attgenerated AS generated FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_attribute a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v') AND n.nspname = 'public' ORDER BY c.relname, a.attnum",
    ),
    (
        "keys, SQLAlchemy",
        "SELECT conname, pg_catalog.pg_get_constraintdef(oid, true), contype FROM pg_catalog.pg_constraint WHERE conrelid = 'person'::regclass ORDER BY 1",
    ),
    (
        "tables, Django",
        "SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1",
    ),
    (
        "columns, Django",
        "SELECT a.attname AS column_name, NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable, pg_get_expr(ad.adbin, ad.adrelid) AS column_default, CASE WHEN collname = 'default' THEN NULL ELSE collname END AS collation FROM pg_attribute a LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT JOIN pg_collation co ON a.attcollation = co.oid JOIN pg_type t ON a.atttypid = t.oid JOIN pg_class c ON a.attrelid = c.oid JOIN pg_namespace n ON c.relnamespace = n.oid WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND c.relname = 'person' AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY a.attnum",
    ),
    (
        "tables, JDBC",
        "SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME, CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN 'SYSTEM' WHEN false THEN CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END ELSE NULL END AS TABLE_TYPE, d.description AS REMARKS FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid AND n.nspname LIKE 'public' ORDER BY TABLE_TYPE, TABLE_SCHEM, TABLE_NAME",
    ),
    (
        "columns, information_schema",
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position",
    ),
    (
        "tables, information_schema",
        "SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2",
    ),
    (
        "keys, information_schema",
        "SELECT tc.constraint_name, kcu.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name WHERE tc.constraint_type = 'PRIMARY KEY' ORDER BY 1, 2",
    ),
    (
        "types, a driver",
        "SELECT t.oid, t.typname, t.typtype, t.typelem, t.typarray FROM pg_type t WHERE t.oid < 10000 ORDER BY 1",
    ),
];

/// Commands of psql about the structure.
const PSQL: &[&str] = &[
    "\\d",
    "\\dt",
    "\\d person",
    "\\d+ orders",
    "\\d person_view",
    "\\dv",
    "\\dn",
    "\\l",
    "\\df",
    "\\du",
    "\\di",
    "\\dm",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_tagged_comes_through() {
    let Some(world) = World::start("leak-controls", EVERYTHING, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    let mut failures = Vec::new();
    tokio::task::block_in_place(|| {
        plant(&world);
        world.postgres.direct(
            "CREATE TABLE big AS SELECT i AS id, md5(i::text) AS a, i * 7 AS b FROM generate_series(1, 100000) i",
        );
        for (name, sql) in SAME {
            // A COPY runs once; it has no pages.
            for way in Way::ALL.into_iter().filter(|way| *way != Way::Paged || !sql.starts_with("COPY")) {
                failures.extend(differs(&world, &token, name, sql, way));
            }
        }
        for sql in ["SELECT * FROM big", "COPY big TO STDOUT"] {
            for way in [Way::Simple, Way::Binary] {
                failures.extend(differs(&world, &token, "export", sql, way));
            }
        }
    });
    for command in PSQL {
        let through = world.psql(&token, &["-q", "-c", command]).await;
        let direct = tokio::task::block_in_place(|| world.postgres.direct(command));
        let shown = String::from_utf8_lossy(&through.stdout).trim_end().replace("database=shop", "database=postgres");
        if shown != direct {
            failures.push(format!("psql {command}: {shown}{}", String::from_utf8_lossy(&through.stderr)));
        }
    }
    failures.iter().for_each(|failure| eprintln!("CONTROL {failure}"));
    assert!(failures.is_empty(), "{} controls differ from a direct connection", failures.len());
}

/// A statement with a name is masked and ruled on as itself: what it shows comes through, without a permit for code that
/// nobody can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_name_stands_for_comes_through() {
    let permits = EVERYTHING.replace("Action::\"execute\", ", "");
    let Some(world) = World::start("leak-prepared", &permits, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    tokio::task::block_in_place(|| {
        plant(&world);
        let steps = [
            "PREPARE one AS SELECT city, count(*) FROM person GROUP BY city ORDER BY 1",
            "EXECUTE one",
            "BEGIN",
            "PREPARE two (int, text) AS SELECT upper(item) || $2, id FROM orders WHERE id > $1 ORDER BY 2",
            "SET search_path = v, public",
            "EXECUTE two (3, 'x')",
            "EXPLAIN EXECUTE two (3, 'y')",
            "UPDATE orders SET item = 'other' WHERE id = 7",
            "ROLLBACK",
            "EXECUTE two (4, 'z')",
            "DEALLOCATE one",
            "PREPARE one AS SELECT upper(word) FROM words ORDER BY id",
            "EXECUTE one",
        ];
        for way in Way::ALL.into_iter().filter(|way| *way != Way::Paged) {
            let mut through = Client::open(world.port, "shop", "anybody", &token);
            let mut direct = Client::open(world.postgres.port, "mirror", "postgres", "");
            for sql in steps {
                let (through, direct) = (through.ask(sql, way), direct.ask(sql, way));
                assert_eq!(direct.error, None, "{sql}");
                assert_eq!((through.rows, through.error), (direct.rows, None), "{sql} ({way:?})");
            }
            // What is not known needs the permit.
            for sql in ["DISCARD ALL", "EXECUTE two (1, '')", "PREPARE one AS SELECT 1; EXECUTE one"] {
                let error = through.ask(sql, way).error.map(|(code, _)| code);
                assert_eq!(error.as_deref(), (sql != "DISCARD ALL").then_some("42501"), "{sql} ({way:?})");
            }
        }
    });
}

/// `pg_dump` asks by PREPARE and EXECUTE for almost everything that it writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_tagged_tables_is_masked_and_nothing_else() {
    let Some(world) = World::start("leak-dump", EVERYTHING, rules(), Durability::Balanced).await else { return };
    let token = world.issuer.token("alice", &["analysts"], &[]);
    let (_, oracle) = tokio::task::block_in_place(|| plant(&world));
    let program = world.postgres.program("pg_dump");
    for options in [&["--schema-only"][..], &[]] {
        let dump = |port: u16, user: &'static str, database: &'static str| {
            let mut command = tokio::process::Command::new(&program);
            let port = port.to_string();
            command.args(["-h", "127.0.0.1", "-p", &port, "-U", user, "-d", database]).args(options);
            command.env("PGPASSWORD", &token).env("PGSSLMODE", "disable").stdin(std::process::Stdio::null());
            command.output()
        };
        let through = dump(world.port, "anybody", "shop").await.expect("pg_dump runs");
        let direct = dump(world.postgres.port, "postgres", "postgres").await.expect("pg_dump runs");
        assert!(direct.status.success(), "{}", String::from_utf8_lossy(&direct.stderr));
        assert!(through.status.success(), "{options:?}: {}", String::from_utf8_lossy(&through.stderr));
        assert_eq!(oracle.search_noise(&through.stdout), Vec::<String>::new());
        let lines = |output: &[u8]| -> Vec<String> {
            String::from_utf8_lossy(output).lines().filter(|l| !l.contains("restrict ")).map(str::to_owned).collect()
        };
        let (through, direct) = (lines(&through.stdout), lines(&direct.stdout));
        assert_eq!(through.len(), direct.len());
        let other = through.iter().zip(&direct).filter(|(through, direct)| through != direct);
        let other: Vec<_> = other.filter(|(_, direct)| oracle.search_noise(direct.as_bytes()).is_empty()).collect();
        assert!(other.is_empty(), "{options:?}: {other:#?}");
    }
}

fn differs(world: &World, token: &str, name: &str, sql: &str, way: Way) -> Option<String> {
    let through = Client::open(world.port, "shop", "anybody", token).ask(sql, way);
    let direct = Client::open(world.postgres.port, "postgres", "postgres", "").ask(sql, way);
    assert!(direct.error.is_none(), "{name}: {:?}", direct.error);
    if through.rows == direct.rows && through.copied == direct.copied && through.error.is_none() {
        return None;
    }
    let text = |row: Option<&Vec<Option<Vec<u8>>>>| {
        row.map(|row| {
            row.iter().map(|v| v.as_ref().map(|v| String::from_utf8_lossy(v).into_owned())).collect::<Vec<_>>()
        })
    };
    let at = through.rows.iter().zip(&direct.rows).position(|(a, b)| a != b).unwrap_or_default();
    Some(format!(
        "{name} ({way:?}): {:?} instead of {:?}, error {:?}",
        text(through.rows.get(at)),
        text(direct.rows.get(at)),
        through.error
    ))
}

/// A permit to see values unmasked lifts the mask of those tags, and of what is derived from them alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmask_permit_lifts_the_mask() {
    let permits = format!(
        "{EVERYTHING} permit(principal in Group::\"support\", action == Action::\"unmask\", resource in Tag::\"pii-ssn\");"
    );
    let Some(world) = World::start("leak-unmask", &permits, rules(), Durability::Balanced).await else { return };
    let (support, others) = (world.issuer.token("bea", &["support"], &[]), world.issuer.token("carl", &["dev"], &[]));
    tokio::task::block_in_place(|| {
        let (rows, _) = plant(&world);
        let sql = "SELECT ssn, note FROM person WHERE id = 101";
        let cells = |token: &str, sql: &str| {
            let answer = Client::open(world.port, "shop", "anybody", token).ask(sql, Way::Text);
            answer.rows.first().cloned().unwrap_or_default()
        };
        let stars = Some(b"***".to_vec());
        assert_eq!(cells(&support, sql), [Some(rows[0].ssn.clone().into_bytes()), stars.clone()]);
        assert_eq!(cells(&others, sql), [stars.clone(), stars.clone()]);
        // The table has other tags that could be in a computed value.
        assert_eq!(cells(&support, "SELECT upper(ssn) FROM person WHERE id = 101"), std::slice::from_ref(&stars));
        let only = "SELECT substr(ssn, 1, 3) FROM v.typed WHERE id = 101";
        assert_eq!(cells(&support, only), [Some(rows[0].ssn.as_bytes()[..3].to_vec())]);
        assert_eq!(cells(&others, only), [stars]);
    });
}
