//! What commands say: text for people, JSON for machines, failures with a hint, exit codes.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write};

use serde::Serialize;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0
    Yes,
    /// 1
    No,
    /// 2
    Unsure,
    /// 3: what was to be read has not the form that it must have.
    Malformed,
    /// 64
    Usage,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Unsure => 2,
            Self::Malformed => 3,
            Self::Usage => 64,
        }
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// The answer is no.
    pub(crate) fn no(message: impl fmt::Display) -> Self {
        Self { exit: Exit::No, message: message.to_string(), hint: None }
    }
    /// There is no answer: something needed was not there.
    pub(crate) fn unsure(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Unsure, ..Self::no(message) }
    }
    /// The question was wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, ..Self::no(message) }
    }
    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
    /// Says it on standard error, without letting any escape sequence through.
    pub(crate) fn print(&self, json: bool) {
        if json {
            let value = serde_json::json!({ "error": self.message, "hint": self.hint });
            eprintln!("{value}");
            return;
        }
        eprintln!("error: {}", clean_lines(&self.message));
        if let Some(hint) = &self.hint {
            eprintln!("hint: {}", clean_lines(hint));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::no(format!("{error:#}"))
    }
}

/// What a command returns.
pub(crate) type Done = Result<Exit, Failure>;

/// Where a command's answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
    colour: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !json && !plain && std::io::stdout().is_terminal() }
    }
    /// One line for people. The caller has cleaned foreign text.
    pub(crate) fn line(&self, text: impl fmt::Display) {
        if !self.json {
            write_out(&format!("{text}\n"));
        }
    }
    /// One document for machines.
    pub(crate) fn document(&self, value: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string_pretty(value)
        {
            write_out(&format!("{text}\n"));
        }
    }
    /// One line of JSON, for answers that come piece by piece.
    pub(crate) fn json_line(&self, value: &serde_json::Value) {
        if self.json {
            write_out(&format!("{value}\n"));
        }
    }
    /// A table for people. Cells are cleaned here.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        if !self.json {
            write_out(&table(head, rows));
        }
    }
    /// `text` in green, red or yellow on a terminal.
    pub(crate) fn paint(&self, exit: Exit, text: &str) -> String {
        let colour = match exit {
            Exit::Yes => 32,
            Exit::No | Exit::Malformed => 31,
            Exit::Unsure | Exit::Usage => 33,
        };
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes to standard output.
fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away (`| head`) wants no more; there is nobody to tell.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// A table with two spaces between columns; the last column is not padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let clean: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()))
        .collect();
    let mut widths = vec![0; head.len()];
    for row in &clean {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &clean {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let pad = width.saturating_sub(cell.chars().count());
            let _ = write!(line, "{cell}{}  ", " ".repeat(pad));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text that is safe on a terminal, on one line: control characters (C0, DEL, C1) and the characters that reorder
/// text (Unicode bidirectional controls) are written as escapes.
pub(crate) fn clean(text: &str) -> String {
    escape(text, false)
}

/// The same, keeping line feeds and tabs.
pub(crate) fn clean_lines(text: &str) -> String {
    escape(text, true)
}

fn escape(text: &str, keep_lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if keep_lines => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}' => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_escape_sequence_passes() {
        let hostile = "a\x1b[2Jb\u{9b}31mc\x07\r\n\u{202e}d\x7f";
        assert_eq!(clean(hostile), "a\\x1b[2Jb\\x9b31mc\\x07\\r\\n\\u{202e}d\\x7f");
        assert_eq!(clean_lines("a\n\tb\rc"), "a\n\tb\\rc");
        assert!(clean("größe → ok").contains("größe → ok"));
    }

    #[test]
    fn tables_line_up_without_trailing_spaces() {
        let text = table(&["NAME", "N"], &[vec!["é".into(), "1".into()], vec!["long\nname".into(), "".into()]]);
        assert_eq!(text, "NAME        N\né           1\nlong\\nname\n");
    }
}
