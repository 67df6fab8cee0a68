//! Rules about Rust sources: sizes, prologues, and calls that only one place may make.
//!
//! Sources are read as text in which comments and literals are blanked, not parsed: enough to count braces and to see
//! calls, and no more is claimed.

use super::{Finding, Tree};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const PROLOGUE: &str = "This crate knows nothing of";

/// A call that only one place may make, tests aside.
struct Privilege {
    rule: &'static str,
    call: &'static str,
    /// Receiver through which others may call.
    through: &'static str,
    home: &'static str,
    why: &'static str,
}

const GATE: &str = "crates/session/src/gate.rs";

const PRIVILEGES: &[Privilege] = &[
    Privilege {
        rule: "durable",
        call: "_assertion(",
        through: "",
        home: "crates/store/",
        why: "only the store knows that bytes are on disk",
    },
    Privilege {
        rule: "gate",
        call: ".forward(",
        through: "gate",
        home: GATE,
        why: "a command goes up only through the gate, which takes its recorded permit",
    },
    Privilege {
        rule: "gate",
        call: ".release(",
        through: "gate",
        home: GATE,
        why: "output goes down only through the gate, which takes it recorded and masked",
    },
    Privilege { rule: "gate", call: ".pass(", through: "gate", home: GATE, why: "input goes up only through the gate" },
];

/// Findings about every Rust source in the tree.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let blank = blank(text);
        let lines: Vec<&str> = blank.lines().collect();
        let code = if is_test_file(path) { 0 } else { tests_start(&lines) };
        let mut report = |line: usize, rule: &'static str, item: &str, text: String| {
            findings.push(Finding { path: path.clone(), line, rule, item: item.to_owned(), text });
        };
        if code > FILE_LINES_MAX {
            report(1, "file-lines", "", format!("{code} lines outside tests; the limit is {FILE_LINES_MAX}"));
        }
        for function in functions(&lines[..code]).into_iter().filter(|f| f.length > FUNCTION_LINES_MAX) {
            let text =
                format!("{} is {} lines long; the limit is {FUNCTION_LINES_MAX}", function.name, function.length);
            report(function.line, "function-lines", &function.name, text);
        }
        if path.starts_with("crates/") && path.ends_with("/src/lib.rs") && !ends_with_absence(text) {
            report(1, "prologue", "", format!("the crate's prologue must end with {PROLOGUE:?} and a list"));
        }
        // A fuzz target drives a relay by itself; nothing of it is shipped.
        let privileges = PRIVILEGES.iter().filter(|_| !path.starts_with("fuzz/"));
        for privilege in privileges.filter(|privilege| !path.starts_with(privilege.home)) {
            for (at, _) in lines[..code].iter().enumerate().filter(|(_, line)| calls(line, privilege)) {
                let text = format!("{} belongs in {}: {}", privilege.call, privilege.home, privilege.why);
                report(at + 1, privilege.rule, privilege.call, text);
            }
        }
        for (at, line) in lines.iter().enumerate() {
            for attribute in ["#[ignore", "#[should_panic"] {
                if line.trim_start().starts_with(attribute) {
                    let text = format!("{attribute}] hides a test: make it run, or skip it by name in the rig");
                    report(at + 1, "test-attribute", attribute, text);
                }
            }
        }
    }
    findings
}

/// Whether a line makes the call, neither defining it nor going through the one receiver that may be used.
fn calls(line: &str, privilege: &Privilege) -> bool {
    line.match_indices(privilege.call).any(|(at, _)| {
        let before = &line[..at];
        let defines = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').ends_with("fn ");
        let through = !privilege.through.is_empty() && before.ends_with(privilege.through);
        !defines && !through
    })
}

/// Whether the whole file is tests, so that its size and calls are its own affair.
fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

/// Index of the first line of the tests at the bottom, or the number of lines.
fn tests_start(lines: &[&str]) -> usize {
    lines.iter().position(|line| line.starts_with("#[cfg(test)]")).unwrap_or(lines.len())
}

/// Whether the last paragraph of the prologue says what the crate does not know.
fn ends_with_absence(text: &str) -> bool {
    let prologue: Vec<&str> =
        text.lines().take_while(|line| line.starts_with("//!")).map(|line| line[3..].trim()).collect();
    let last = prologue.rsplit(|line| line.is_empty()).find(|paragraph| !paragraph.is_empty()).unwrap_or_default();
    let paragraph = last.join(" ");
    paragraph.rfind(PROLOGUE).is_some_and(|at| !paragraph[at..].trim_end_matches('.').contains(". "))
}

#[derive(Debug, PartialEq, Eq)]
struct Function {
    name: String,
    line: usize,
    length: usize,
}

/// Every function with a body; its length is from the line of `fn` to the line of its closing brace.
fn functions(lines: &[&str]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        if let Some(end) = body_end(&lines[at..]) {
            found.push(Function { name: name.to_owned(), line: at + 1, length: end + 1 });
        }
    }
    found
}

/// The name after the word `fn`, which also introduces pointer types (`fn(`): those have none.
fn function_name(line: &str) -> Option<&str> {
    let mut from = 0;
    while let Some(at) = line[from..].find("fn ").map(|at| at + from) {
        let before = line[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_') {
            let name = line[at + 3..].trim_start();
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            return (end > 0).then(|| &name[..end]);
        }
        from = at + 3;
    }
    None
}

/// Offset of the line that closes the body of the function starting on the first line; nothing if it has none.
fn body_end(lines: &[&str]) -> Option<usize> {
    let start = lines.first()?.find("fn ")?;
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (at, line) in lines.iter().enumerate() {
        let text = if at == 0 { &line[start..] } else { line };
        for c in text.chars() {
            match c {
                '(' | '[' if braces == 0 => brackets += 1,
                ')' | ']' if braces == 0 => brackets = brackets.saturating_sub(1),
                ';' if braces == 0 && brackets == 0 => return None,
                '{' if brackets == 0 => braces += 1,
                '}' if braces > 0 => {
                    braces -= 1;
                    if braces == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// The text with the inside of comments, strings and character literals replaced by spaces, line by line.
fn blank(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = literal_end(&source, at);
        if end == at {
            out.extend(source.get(at));
            at += 1;
        } else {
            out.extend(source[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// End of the comment or literal that starts here, or `at` when none does.
fn literal_end(source: &[char], at: usize) -> usize {
    let next = |offset: usize| source.get(at + offset).copied().unwrap_or('\0');
    match source[at] {
        '/' if next(1) == '/' => find(source, at, |i| source[i] == '\n'),
        '/' if next(1) == '*' => block_end(source, at),
        '"' => string_end(source, at),
        'r' | 'b' | 'c' if at == 0 || !is_word(source[at - 1]) => prefixed_end(source, at),
        '\'' if next(1) == '\\' => find(source, at + 3, |i| source[i] == '\'').saturating_add(1).min(source.len()),
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(source: &[char], from: usize, is_end: impl Fn(usize) -> bool) -> usize {
    (from.min(source.len())..source.len()).find(|i| is_end(*i)).unwrap_or(source.len())
}

/// Block comments nest.
fn block_end(source: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0usize, at);
    while i + 1 < source.len() {
        match (source[i], source[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    source.len()
}

fn string_end(source: &[char], quote: usize) -> usize {
    let mut i = quote + 1;
    while i < source.len() {
        match source[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    source.len()
}

/// `b"…"`, `c"…"`, `b'…'`, `r"…"`, `r#"…"#`, `br#"…"#`; anything else that starts so is an identifier.
fn prefixed_end(source: &[char], at: usize) -> usize {
    let mut i = at;
    while i < source.len() && matches!(source[i], 'r' | 'b' | 'c') && i - at < 2 {
        i += 1;
    }
    let raw = source[at..i].contains(&'r');
    let hashes = find(source, i, |k| source[k] != '#') - i;
    match source.get(i + hashes) {
        Some('"') if raw => {
            let start = i + hashes + 1;
            let closes = |k: usize| source[k] == '"' && (1..=hashes).all(|n| source.get(k + n) == Some(&'#'));
            (find(source, start, closes) + 1 + hashes).min(source.len())
        }
        Some('"') if hashes == 0 => string_end(source, i),
        Some('\'') if hashes == 0 && source[at] == 'b' => literal_end(source, i),
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{brief, tree};
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        brief(&check(&tree(&[(path, text)])))
    }

    fn long_function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_function_is_found_and_one_at_the_limit_is_not() {
        assert_eq!(findings("crates/a/src/x.rs", &long_function(70)), Vec::<String>::new());
        assert_eq!(findings("crates/a/src/x.rs", &long_function(71)), ["crates/a/src/x.rs:1: function-lines"]);
    }

    #[test]
    fn a_long_function_in_tests_is_their_affair() {
        let text = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", long_function(90));
        assert_eq!(findings("crates/a/src/x.rs", &text), Vec::<String>::new());
        assert_eq!(findings("crates/a/tests/it/main.rs", &long_function(90)), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_is_found() {
        let text = "const A: u8 = 0;\n".repeat(801);
        assert_eq!(findings("crates/a/src/x.rs", &text), ["crates/a/src/x.rs:1: file-lines"]);
    }

    #[test]
    fn braces_in_literals_do_not_count() {
        let text = "fn f<'a>(x: &'a [u8; 4]) -> char {\n    let _ = (\"}\", r#\"}\"}\"#, b'}', '\\'', '{'); // }\n    '}'\n}\nfn g();\n";
        let clean = blank(text);
        let lines: Vec<&str> = clean.lines().collect();
        assert_eq!(functions(&lines), [Function { name: "f".to_owned(), line: 1, length: 4 }]);
    }

    #[test]
    fn a_prologue_must_end_with_absences() {
        let good = "//! What it is.\n//!\n//! More. This crate knows nothing of files\n//! and sockets.\n";
        assert_eq!(findings("crates/a/src/lib.rs", good), Vec::<String>::new());
        for bad in ["//! What it is.\n", "//! This crate knows nothing of files. It is fast.\n", ""] {
            assert_eq!(findings("crates/a/src/lib.rs", bad), ["crates/a/src/lib.rs:1: prologue"], "{bad}");
        }
    }

    #[test]
    fn the_gate_alone_forwards_and_releases() {
        let text = "fn f() {\n    self.relay.forward(id);\n    relay.release(output);\n    relay.pass(input);\n}\n";
        assert_eq!(findings("crates/gateway/src/pg.rs", text).len(), 3);
        assert_eq!(findings("crates/session/src/gate.rs", text), Vec::<String>::new());
        assert_eq!(findings("crates/wire-pg/tests/it/main.rs", text), Vec::<String>::new());
        let polite = "fn f() {\n    self.gate.release(output);\n}\n";
        assert_eq!(findings("crates/session/src/session.rs", polite), Vec::<String>::new());
    }

    #[test]
    fn the_store_alone_asserts_durability() {
        let text = "fn f() {\n    placed.seal(Durable::on_disk_assertion());\n}\n";
        assert_eq!(findings("crates/gateway/src/x.rs", text), ["crates/gateway/src/x.rs:2: durable"]);
        assert_eq!(findings("crates/store/src/ledger.rs", text), Vec::<String>::new());
        let defined = "impl Durable {\n    pub fn written_assertion() -> Self {\n        Self(1)\n    }\n}\n";
        assert_eq!(findings("crates/ledger/src/staged.rs", defined), Vec::<String>::new());
        let spoken = "// Durable::written_assertion() is the store's\n";
        assert_eq!(findings("crates/gateway/src/x.rs", spoken), Vec::<String>::new());
    }

    #[test]
    fn hidden_tests_are_found() {
        let text = "#[cfg(test)]\nmod tests {\n    #[test]\n    #[ignore]\n    fn f() {}\n    #[should_panic]\n    fn g() {}\n}\n";
        assert_eq!(
            findings("crates/a/src/x.rs", text),
            ["crates/a/src/x.rs:4: test-attribute", "crates/a/src/x.rs:6: test-attribute"]
        );
    }
}
