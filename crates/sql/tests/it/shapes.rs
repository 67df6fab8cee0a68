//! The promise of the shape key: texts of one key have trees that differ only in constants.

use chancery_model::Settings;
use proptest::prelude::*;

/// The tree of a text with its constants and positions blotted out; `None` if it does not parse.
fn tree(text: &str) -> Option<String> {
    let parsed = pg_query::parse(text, 0).ok()?;
    let printed = format!("{:?}", parsed.protobuf.stmts);
    Some(blot(&printed))
}

/// Replaces what is allowed to differ in a printed tree.
fn blot(printed: &str) -> String {
    let mut out = String::with_capacity(printed.len());
    let mut rest = printed;
    let marks: [(&str, char); 9] = [
        ("list_start: ", ','),
        ("list_end: ", ','),
        ("location: ", ','),
        ("stmt_len: ", ','),
        ("rexpr_list_start: ", ','),
        ("rexpr_list_end: ", ','),
        ("ival: Integer {", '}'),
        ("Ival(Integer {", '}'),
        ("Fval(Float {", '}'),
    ];
    'next: while !rest.is_empty() {
        for (mark, end) in marks {
            if let Some(behind) = rest.strip_prefix(mark) {
                let length = behind.find([end, ' ', '}']).unwrap_or(behind.len());
                let length = if mark.ends_with('{') { behind.find('}').unwrap_or(behind.len()) } else { length };
                out.push('_');
                rest = &behind[length..];
                continue 'next;
            }
        }
        if let Some(behind) = rest.strip_prefix("sval: \"") {
            // The constant of `A_Const`, which is printed inside `Sval(…)`; names are kept by the caller's texts.
            let constant = out.ends_with("Sval(String { ");
            let length = closing_quote(behind);
            if !constant {
                out.push_str(&behind[..length]);
            }
            out.push('"');
            rest = &behind[length + 1..];
            continue;
        }
        let next = rest.char_indices().nth(1).map_or(rest.len(), |(at, _)| at);
        out.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    out
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return at,
            _ => escaped = false,
        }
    }
    text.len() - 1
}

fn key(text: &str) -> Option<String> {
    let mut out = Vec::new();
    chancery_sql::shape(text, &mut out).then(|| String::from_utf8(out).expect("the key of a text is a text"))
}

/// Pieces that texts are put together from, sound or not.
const PIECES: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "INSERT INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "AND",
    "OR",
    "NOT",
    "LIMIT",
    "OFFSET",
    "FETCH FIRST",
    "ROWS ONLY",
    "ORDER BY",
    "a",
    "b",
    "t",
    "\"T\"",
    "t.a",
    "f",
    "(",
    ")",
    "[",
    "]",
    ",",
    ".",
    ";",
    ":",
    "::",
    "int",
    "float",
    "date",
    "interval",
    "day",
    "year",
    "1",
    "23",
    "4.5",
    "6e7",
    "2147483648",
    "'x'",
    "'y''z'",
    "''",
    "' '",
    "+",
    "-",
    "*",
    "/",
    "<",
    ">",
    "=",
    "<>",
    "||",
    "!",
    "@",
    "|",
    "$1",
    "$2",
    "e",
    "x",
    "n",
    "b",
    "u",
    "&",
    "E'a'",
    "--",
    "/*",
    "*/",
    "$$",
    "\n",
    "\t",
    " ",
    "IN",
    "BETWEEN",
    "LIKE",
    "ESCAPE",
    "IS",
    "NULL",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "AS",
    "BEGIN",
    "é",
    "\\",
];

const NUMBERS: &[&str] = &["0", "7", "2147483647", "2147483648", "3.5", "1e3", "99999999999999999999"];
const STRINGS: &[&str] = &["''", "'x'", "'it''s'", "' '", "'--'", "'/*'", "'ü'", "'$1'", "'\"'", "'a;b'"];

/// Puts other constants into the places of a key that stand for them.
fn refill(key: &str, seed: usize) -> String {
    let Some(literals) = chancery_sql::literals(key) else { return key.to_owned() };
    let mut out = String::new();
    let mut from = 0;
    for (n, literal) in literals.iter().enumerate() {
        out.push_str(&key[from..literal.token.start]);
        let written = &key[literal.token.clone()];
        let pick = |from: &[&str]| from[(seed + n * 7) % from.len()].to_owned();
        out.push_str(&match written {
            "''" => pick(STRINGS),
            "0" => pick(&NUMBERS[..3]),
            "0.0" => pick(&NUMBERS[3..]),
            kept => kept.to_owned(),
        });
        from = literal.token.end;
    }
    out + &key[from..]
}

fn check(text: &str, seed: usize) {
    let Some(key) = key(text) else { return };
    assert_eq!(self::key(&key).as_deref(), Some(key.as_str()), "a key is its own key");
    let other = refill(&key, seed);
    if self::key(&other).as_deref() != Some(&key) {
        return;
    }
    let facts = chancery_sql::read(text, &Settings::default());
    // In other kinds of statements a string can be a name (`COMMIT PREPARED 'x'`); their facts are not cached by shape.
    let plain = ["unreadable", "select", "insert", "update", "delete", "merge"];
    if facts.statements.iter().all(|statement| plain.contains(&statement.kind.as_str())) {
        assert_eq!(tree(text), tree(&other), "\n{text}\n{other}");
    }
    if facts.literal_free {
        assert_eq!(facts, chancery_sql::read(&other, &Settings::default()), "\n{text}\n{other}");
    }
}

#[test]
fn statements_of_the_table_keep_the_promise() {
    let texts =
        include_str!("statements.txt").lines().filter(|line| !line.starts_with("    ") && !line.starts_with("# "));
    let mut shapes = 0;
    for text in texts {
        shapes += usize::from(key(text).is_some());
        (0..10).for_each(|seed| check(text, seed));
    }
    assert!(shapes > 200);
}

#[test]
fn the_blotting_sees_names() {
    assert_eq!(tree("SELECT 1 FROM t WHERE a = 'x'"), tree("SELECT  23 FROM t WHERE  a = 'yz'"));
    assert_ne!(tree("SELECT 1 FROM t"), tree("SELECT 1 FROM u"));
    assert_ne!(tree("SELECT a"), tree("SELECT b"));
    assert_ne!(tree("SELECT '1'::int"), tree("SELECT '1'::date"));
    assert_ne!(tree("SELECT f(1)"), tree("SELECT g(1)"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_of_one_key_have_one_tree(
        pieces in proptest::collection::vec((0..PIECES.len(), any::<bool>()), 0..12),
        seed in 0_usize..1000,
    ) {
        let mut text = String::from("SELECT ");
        for (piece, space) in pieces {
            text.push_str(PIECES[piece]);
            if space {
                text.push(' ');
            }
        }
        check(&text, seed);
    }

    #[test]
    fn nothing_of_a_literal_is_left(
        pieces in proptest::collection::vec((0..PIECES.len(), any::<bool>()), 0..12),
        secret in "[a-z]{0,3}'{0,3}[a-z\\\\$*/-]{0,4}'{0,2}",
    ) {
        let mut text = String::from("SELECT ");
        for (piece, space) in pieces {
            text.push_str(PIECES[piece]);
            if space {
                text.push(' ');
            }
        }
        text.push_str(&format!("'{}qqzz{}'", secret.replace('\'', "''"), secret.replace('\'', "''")));
        // The server's own lexer is the judge of what is a string.
        if let Ok(scan) = pg_query::scan(&text) {
            let in_string = scan.tokens.iter().any(|token| {
                let range = usize::try_from(token.start).ok().zip(usize::try_from(token.end).ok());
                let sconst = token.token == pg_query::protobuf::Token::Sconst as i32;
                sconst && range.is_some_and(|(start, end)| text.get(start..end).is_some_and(|t| t.contains("qqzz")))
            });
            if in_string {
                let redacted = chancery_sql::redact(&text);
                prop_assert!(!redacted.contains("qqzz"), "{text}\n{redacted}");
            }
        }
    }

    #[test]
    fn nothing_panics(text in ".{0,60}") {
        chancery_sql::read(&text, &Settings::default());
        chancery_sql::redact(&text);
        chancery_sql::literals(&text);
        chancery_sql::shape(&text, &mut Vec::new());
    }
}
