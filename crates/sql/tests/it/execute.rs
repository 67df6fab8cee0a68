//! `EXECUTE` with the facts of what it runs.

use std::sync::Arc;

use chancery_model::{Facts, Settings, Statement, StatementFacts};
use chancery_sql::{read, read_execute};

fn prepared(text: &'static str) -> Statement {
    Statement { text: text.as_bytes().into(), settings: Arc::new(Settings::default()) }
}

fn of(text: &str, prepare: &'static str) -> Facts {
    read_execute(text, &Settings::default(), &prepared(prepare))
}

fn only(facts: Facts) -> StatementFacts {
    assert_eq!(facts.statements.len(), 1);
    assert!(!facts.literal_free, "another text of the same shape may run something else");
    facts.statements.into_iter().next().expect("one")
}

/// The facts are those of the statement itself, but for the name.
#[test]
fn execute_is_ruled_as_what_it_runs() {
    for sql in [
        "SELECT a, count(*) FROM t WHERE b = $1 LIMIT 5",
        "SELECT count(*), count(b) FROM t",
        "DELETE FROM s.t",
        "DELETE FROM t WHERE a = 1 RETURNING *",
        "UPDATE t SET a = b FROM u",
        "INSERT INTO t SELECT * FROM u",
        "SELECT my_function(a) FROM t",
        "WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x",
        "SELECT set_config('search_path', 'x', false)",
        "VALUES (1)",
    ] {
        let prepare: &'static str = Box::leak(format!("PREPARE q AS {sql}").into_boxed_str());
        let itself = StatementFacts {
            prepared: Some("q".to_owned()),
            ..read(sql, &Settings::default()).statements.into_iter().next().expect("one")
        };
        assert_eq!(only(of("EXECUTE q", prepare)), itself, "{sql}");
        assert_eq!(only(of("EXECUTE q (1, 'x')", prepare)), itself, "{sql}");
    }
}

#[test]
fn what_wraps_an_execute_knows_it_too() {
    let prepare = "PREPARE q (int) AS SELECT ssn FROM person WHERE id = $1";
    let facts = only(of("CREATE TABLE x AS EXECUTE q (1)", prepare));
    assert!(!facts.opaque && facts.kind == "create table as");
    let tables: Vec<&str> = facts.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(tables, ["person", "x"]);
    let facts = only(of("EXPLAIN ANALYZE EXECUTE q (1)", prepare));
    assert!(!facts.opaque && facts.tables.len() == 1);
    // Parameters are computed by the EXECUTE itself.
    let facts = only(of("EXECUTE q (my_function())", prepare));
    assert!(facts.opaque && facts.unlisted_functions == ["my_function"] && facts.tables.len() == 1);
}

#[test]
fn what_does_not_fit_stays_opaque() {
    for (text, prepare) in [
        ("EXECUTE q", "PREPARE other AS SELECT 1"),
        ("EXECUTE \"Q\"", "PREPARE q AS SELECT 1"),
        ("EXECUTE q", "SELECT 1"),
        ("EXECUTE q", "PREPARE q AS SELECT 1; SELECT 2"),
        ("EXECUTE q", "PREPARE q AS"),
        ("EXECUTE q", ""),
        ("DEALLOCATE q; EXECUTE q", "PREPARE q AS SELECT 1"),
        ("EXECUTE q; SELECT 1", "PREPARE q AS SELECT 1"),
    ] {
        let facts = of(text, prepare);
        assert!(facts.is_opaque(), "{text} after {prepare}");
        assert_eq!(facts, read(text, &Settings::default()), "{text} after {prepare}");
    }
}
