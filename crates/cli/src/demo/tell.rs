//! How the demo speaks: coloured on a terminal, plain when piped.

use std::io::{IsTerminal as _, Write as _};

use crate::output::{Failure, clean_lines};

/// Where the story goes.
pub(super) struct Teller {
    colour: bool,
}

impl Teller {
    pub(super) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !plain && std::io::stdout().is_terminal() }
    }
    pub(super) fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that went away does not end the story; its children must be ended in order.
        let _ = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
    }
    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    /// A chapter's head.
    pub(super) fn chapter(&self, number: u32, title: &str) {
        self.line("");
        self.line(&self.paint("1;36", &format!("{number}. {title}")));
    }
    /// What is going on.
    pub(super) fn say(&self, text: &str) {
        self.line(&format!("   {text}"));
    }
    /// A command that somebody runs.
    pub(super) fn types(&self, who: &str, command: &str) {
        self.line(&format!("   {} {}", self.paint("33", &format!("{who} $")), self.paint("1", command)));
    }
    /// What a program wrote, indented; no escape sequence passes.
    pub(super) fn output(&self, text: &str) {
        for line in clean_lines(text).trim_end_matches('\n').split('\n') {
            self.line(&format!("     {line}"));
        }
    }
    /// States what was seen, and proves it: the demo ends if it is not so.
    pub(super) fn proves(&self, holds: bool, what: &str) -> Result<(), Failure> {
        if holds {
            self.line(&format!("   {} {what}", self.paint("32", "✓")));
            return Ok(());
        }
        self.line(&format!("   {} {what}", self.paint("31", "✗ NOT SO:")));
        Err(Failure::no(format!("the demo could not show that {what}")))
    }
}
