//! Turns the text of a PostgreSQL statement into facts: what it does, on which relations, and what cannot be told.
//!
//! [`read`] parses with PostgreSQL's own grammar and walks the whole tree; what it does not know it calls unreadable
//! or opaque, never harmless. [`shape()`] is a fast lexer that gives texts differing only in plain constants the same
//! key, so that facts can be cached. [`redact`] and [`literals`] serve recording and masking. Nothing here panics or
//! overflows the stack, whatever the text.
//!
//! This crate knows nothing of rules, sessions, the catalog of a server, or the bytes of a protocol.

mod ddl;
mod expression;
mod filter;
mod functions;
mod lexer;
mod reader;
mod shape;
mod statement;
mod tree;
mod utility;

use chancery_model::{Facts, Settings, Statement};
pub use lexer::{Literal, LiteralKind, literals, redact};
pub use shape::shape;

/// The longest text that is read, in bytes. Parsing costs memory of many times the text, and time with it.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Reads the facts of `text` with PostgreSQL's grammar (version 18).
///
/// Never fails: a text that is too long, nested too deeply, not in the grammar, or made of parts this crate does not
/// know has one statement that is unreadable and says why, without repeating the text.
pub fn read(text: &str, settings: &Settings) -> Facts {
    read_with(text, settings, None)
}

/// Reads the facts of a text whose only statement is, or wraps, `EXECUTE name`, as if the statement that `prepared` gave
/// that name stood there. Where the two do not fit together the facts are those of [`read`]: opaque.
pub fn read_execute(text: &str, settings: &Settings, prepared: &Statement) -> Facts {
    read_with(text, settings, runs(prepared))
}

/// What a text with one `PREPARE` gives a name to.
fn runs(prepared: &Statement) -> Option<reader::Runs> {
    let text = prepared.as_str();
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let mut statements = parse(text, &prepared.settings).ok()?.stmts;
    let (Some(raw), true) = (statements.pop(), statements.is_empty()) else { return None };
    match raw.stmt?.node? {
        pg_query::NodeEnum::PrepareStmt(prepare) => {
            let query = prepare.query?.node?;
            Some(reader::Runs { name: prepare.name, query })
        }
        _ => None,
    }
}

fn parse(text: &str, settings: &Settings) -> Result<pg_query::protobuf::ParseResult, pg_query::Error> {
    let mut options = pg_query::ParserOptions::DEFAULT;
    if !settings.standard_conforming_strings {
        options |= pg_query::ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS;
    }
    pg_query::parse(text, options).map(|parsed| parsed.protobuf)
}

fn read_with(text: &str, settings: &Settings, runs: Option<reader::Runs>) -> Facts {
    if text.len() > TEXT_BYTES_MAX {
        return Facts::unreadable(format!("the text is longer than {} bytes", TEXT_BYTES_MAX));
    }
    if text.as_bytes().contains(&0) {
        return Facts::unreadable("the text contains a NUL");
    }
    let tree = match parse(text, settings) {
        Ok(tree) => tree,
        Err(error) => return Facts::unreadable(why_not(&error)),
    };
    let mut statements = Vec::with_capacity(tree.stmts.len());
    let mut literal_free = true;
    // Another statement of the text could give the name another meaning.
    let mut runs = runs.filter(|_| tree.stmts.len() == 1);
    for raw in &tree.stmts {
        let Some(statement) = raw.stmt.as_ref().and_then(|node| node.node.as_ref()) else {
            return Facts::unreadable("a statement is empty");
        };
        match reader::read_statement(statement.to_ref(), runs.take()) {
            Ok((facts, free)) => {
                literal_free &= free;
                statements.push(facts);
            }
            Err(why) => return Facts::unreadable(why.0),
        }
    }
    Facts { statements, literal_free }
}

/// Says why the parser refused, without the words of the text that its messages quote.
fn why_not(error: &pg_query::Error) -> &'static str {
    match error {
        pg_query::Error::Decode(_) => "nested too deeply",
        pg_query::Error::Parse(message) if message.contains("stack depth") => "nested too deeply",
        pg_query::Error::Parse(_) => "not in PostgreSQL's grammar",
        _ => "the parser failed",
    }
}
