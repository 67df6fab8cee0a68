//! Texts made to break the reader.

use chancery_model::{Facts, Settings};

fn read(text: &str) -> Facts {
    chancery_sql::read(text, &Settings::default())
}

/// Each is repeated `n` times around or behind something.
fn nested(kind: usize, n: usize) -> String {
    let around =
        |before: &str, middle: &str, after: &str| format!("SELECT {}{middle}{}", before.repeat(n), after.repeat(n));
    match kind {
        0 => around("(", "1", ")"),
        1 => around("NOT ", "true", ""),
        2 => around("- ", "a", ""),
        3 => around("(SELECT ", "1", ")"),
        4 => around("CASE WHEN a THEN ", "1", " END"),
        5 => around("", "1", "+1"),
        6 => around("", "1", " UNION SELECT 1"),
        7 => around("", "true", " AND true"),
        8 => around("", "true", " OR a"),
        9 => around("", "1", "::int"),
        10 => around("ARRAY[", "1", "]"),
        11 => around("f(", "1", ")"),
        12 => around("", "a", "[1]"),
        13 => around("", "a", " IS NULL"),
        14 => around("", "1 FROM a", " JOIN a ON true"),
        15 => around("1 FROM (SELECT ", "1", ") x"),
        16 => around("", "1 IN (1", ",1)"),
        17 => format!("{}SELECT 1{}", "WITH x AS (".repeat(n), ") SELECT 1".repeat(n)),
        18 => "SELECT 1;".repeat(n),
        19 => format!("SELECT {}1{}", "/*".repeat(n), "*/".repeat(n)),
        20 => format!("GRANT {} TO b", vec!["a"; n + 1].join(",")),
        21 => format!("{} SELECT 1", "EXPLAIN ".repeat(n)),
        22 => format!("UPDATE t SET a = 1 WHERE {}true{}", "(b AND ".repeat(n), ")".repeat(n)),
        _ => format!("INSERT INTO t VALUES (1{})", ",(1)".repeat(n)),
    }
}

#[test]
fn depth_never_ends_the_process() {
    let work = || {
        for kind in 0..24 {
            for n in [20, 200, 1000, 9000, 40_000] {
                let text = nested(kind, n);
                let facts = read(&text);
                assert!(!facts.statements.is_empty() || kind == 18);
                chancery_sql::redact(&text);
                chancery_sql::literals(&text);
                chancery_sql::shape(&text, &mut Vec::new());
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).expect("a thread can be had");
    assert!(thread.join().is_ok());
}

#[test]
fn reasons_say_what_is_wrong_without_the_text() {
    for (text, why) in [
        ("SELECT secret 1 2".to_owned(), "not in PostgreSQL's grammar"),
        ("SELECT 'a\0b'".to_owned(), "the text contains a NUL"),
        (nested(1, 200), "nested too deeply"),
        (nested(3, 1000), "nested too deeply"),
        (format!("SELECT '{}'", "x".repeat(1 << 20)), "the text is longer than 1048576 bytes"),
    ] {
        let facts = read(&text);
        assert_eq!(facts.why_unreadable(), Some(why));
        assert!(facts.is_opaque() && !facts.literal_free);
    }
}

#[test]
fn ordinary_lengths_are_read() {
    for kind in [5, 6, 9, 14] {
        assert_eq!(read(&nested(kind, 45)).why_unreadable(), None, "{kind}");
    }
    assert_eq!(read(&nested(7, 5000)).why_unreadable(), None);
    assert_eq!(read(&nested(3, 12)).why_unreadable(), None);
}

#[test]
fn locks_in_locks_cost_no_more_than_their_text() {
    let mut text = "SELECT a FROM t".to_owned();
    for _ in 0..16 {
        text = format!("SELECT a FROM ({text} FOR UPDATE) x");
    }
    let start = read(&text);
    assert!(start.why_unreadable().is_none() || start.why_unreadable() == Some("nested too deeply"));
    let names: String = (0..10_000).map(|n| format!("x{n} AS (SELECT 1 FROM x),")).collect();
    assert_eq!(read(&format!("WITH {names} y AS (SELECT 1) SELECT 1 FROM y")).tables().count(), 1);
}

#[test]
fn odd_texts_are_answered() {
    for text in [
        "",
        " ",
        ";",
        ";;;",
        "\u{feff}SELECT 1",
        "\\d",
        "\\",
        "\"",
        "'",
        "$",
        "$$",
        "$a$",
        "/*",
        "--",
        "SELECT '\u{0}'",
        "SELECT U&'\\FFFF'",
        "SELECT E'\\xff'",
        "SELECT U&'\\D800'",
        "SELECT '\u{10ffff}'",
        "SELECT \u{a0}1",
        "select $99999999999999999999",
        "SELECT 1e999999",
        "SELECT 0x",
        "SELECT 1__0",
        "SELECT E'\\u0000'",
        "SELECT B'2'",
        "SELECT X'zz'",
    ] {
        let facts = read(text);
        let redacted = chancery_sql::redact(text);
        assert!(!redacted.is_empty() || text.is_empty());
        assert!(facts.statements.len() <= 1);
    }
    assert!(read("").statements.is_empty() && read("-- nothing").statements.is_empty());
}

#[test]
fn strings_are_read_by_the_setting() {
    // With the setting off the backslash hides the quote and the second statement is a string.
    let text = r"SELECT 'a\', (DELETE FROM t) --'";
    let off = Settings { standard_conforming_strings: false, ..Settings::default() };
    assert!(chancery_sql::read(text, &off).why_unreadable().is_none());
    assert!(read(text).why_unreadable().is_some());
}
