//! Texts that answer no command: parameter values and notification payloads.
//!
//! With tagged columns they are a way out (`set_config('application_name', (SELECT …))`), so a value passes only if
//! the parameter is known and the value's form leaves no room, or if the client itself said it. The run does not tell a
//! parameter from a channel; a channel named like a parameter is held to that parameter's form.

use chancery_model::{Anatomy, Output, Part};

use crate::masker::Masker;
use crate::operator::Outcome;
use crate::{Context, Masked, Report};

/// Parameters a client can say literally, that are remembered; a bound, because the client names them.
const SAID_MAX: usize = 64;
const VALUE_MAX: usize = 1024;

impl Masker {
    /// Notes that the client itself set a parameter to this literal value, so that the value may come back to it.
    /// To be told for start-up parameters and for SET with a literal.
    pub fn client_said(&mut self, parameter: &str, value: &str) {
        let name = parameter.to_ascii_lowercase();
        if value.len() <= VALUE_MAX && (self.said.len() < SAID_MAX || self.said.contains_key(&name)) {
            self.said.insert(name, value.to_owned());
        }
    }

    pub(crate) fn mask_aside(&mut self, anatomy: &dyn Anatomy, output: Output, report: Report) -> Masked<Output> {
        if self.rules.is_idle() {
            return Masked::new(output, report);
        }
        let tagging = self.rules.tags_columns();
        let said = std::mem::take(&mut self.said);
        let mut constants = std::mem::take(&mut self.constants);
        let mut name = String::new();
        let masked = self.walk(anatomy, output, report, |walk, cell| {
            if cell.range.is_none() {
                return Some(());
            }
            let value = walk.value(cell)?;
            if cell.part == Part::Name {
                name = String::from_utf8_lossy(value).to_ascii_lowercase();
                if !tagging || is_identifier(value) {
                    return Some(());
                }
            } else if !tagging || passes(&name, value, said.get(&name), &mut constants) {
                return match walk.finder.replace(walk.rules, value, Context::default(), true, &mut walk.report) {
                    Some(outcome) => walk.edit(cell, outcome),
                    None => Some(()),
                };
            }
            walk.report.texts += 1;
            walk.edit(cell, Outcome::redacted())
        });
        self.said = said;
        self.constants = constants;
        masked
    }
}

/// Names of parameters and channels stand in statement texts; what is none is replaced.
fn is_identifier(name: &[u8]) -> bool {
    let digits = name.iter().filter(|b| b.is_ascii_digit()).count();
    name.len() <= 63 && digits <= 4 && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$'))
}

/// Whether a parameter's value has a form that leaves no room for a masked value.
fn passes(
    name: &str,
    value: &[u8],
    said: Option<&String>,
    constants: &mut std::collections::HashMap<String, Vec<u8>>,
) -> bool {
    if value.is_empty() || said.is_some_and(|s| s.as_bytes() == value) {
        return true;
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let of = |extra: &str| text.len() <= 40 && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c));
    match name {
        "is_superuser"
        | "integer_datetimes"
        | "standard_conforming_strings"
        | "in_hot_standby"
        | "default_transaction_read_only" => matches!(text, "on" | "off"),
        "client_encoding" => ENCODINGS.contains(&text),
        "intervalstyle" => matches!(text, "postgres" | "postgres_verbose" | "sql_standard" | "iso_8601"),
        "datestyle" => of(", ") && digits == 0,
        "timezone" => of("/_+-:") && digits <= 4,
        "scram_iterations" => digits == text.len() && digits <= 7,
        "search_path" => text == "\"$user\", public",
        // The server never changes these in a session: the first value, told before any command, is the value.
        "server_version" | "server_encoding" | "session_authorization" => match constants.get(name) {
            Some(first) => first == value,
            None if text.len() <= 128 => {
                constants.insert(name.to_owned(), value.to_vec());
                true
            }
            None => false,
        },
        _ => false,
    }
}

const ENCODINGS: [&str; 6] = ["UTF8", "SQL_ASCII", "LATIN1", "LATIN9", "WIN1252", "UNICODE"];
