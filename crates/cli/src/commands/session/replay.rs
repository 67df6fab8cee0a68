//! Plays a recording: as text with tables for people, as one JSON object a line for machines.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chancery_ledger::{FrameKind, FrameView, parse_mask_map};
use chancery_model::{MaskMap, Timestamp, Treated};
use chancery_store::{Directory, PrunedFile, RecordingReader, SessionRecord};
use serde_json::{Value, json};

use super::transcript::{Reader, Shown};
use crate::output::{Done, Exit, Failure, Out, clean, clean_lines, table};

/// Rows kept to make a table; a longer result is printed in several, under the same head.
const ROWS_MAX: usize = 200;
/// The longest cell shown to people; the JSON has all of it.
const CELL_CHARS_MAX: usize = 200;
/// A pause of the session is played as this much at most.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The text of one command; what is longer is shown in pieces.
const WORDS_BYTES_MAX: usize = 16 << 20;

/// `pruned` are the files that the session had blocks in and that are gone.
pub(super) fn play(
    recordings: &Path,
    session: &SessionRecord,
    pruned: &[PrunedFile],
    speed: Option<f64>,
    out: Out,
) -> Done {
    let unreadable = |error: std::io::Error| Failure::unsure(format!("the recording cannot be read: {error}"));
    let volume = Directory::shared(recordings).map_err(unreadable)?;
    out.line(format!(
        "session {} on {} by {}, {}\n",
        session.id,
        session.resource,
        clean(&session.chain),
        session.started_at
    ));
    for file in pruned {
        out.line(format!("a part of it is pruned by entry {} at {}\n", file.entry, file.at));
        out.json_line(&json!({ "kind": "pruned", "entry": file.entry, "at": file.at.to_string(), "file": file.file }));
    }
    let mut player = Player::new(speed, out);
    let reader = RecordingReader::new(Arc::new(volume));
    let visited = reader.frames(session.id, |frame| {
        player.frame(&frame);
        ControlFlow::Continue(())
    });
    player.finish();
    visited.map_err(unreadable)?;
    if player.frames == 0
        && let Some(last) = pruned.last()
    {
        return Err(Failure::no(format!("the recording is pruned by entry {} at {}", last.entry, last.at))
            .hint("its time was over; the entries of the session are in the ledger: `chancery session show`"));
    }
    if player.frames == 0 {
        return Err(Failure::no("nothing is recorded of this session")
            .hint("a session that lives may not have been written out yet; one that was refused has no recording"));
    }
    Ok(Exit::Yes)
}

/// Words about a command, which may come in several pieces.
struct Words {
    kind: FrameKind,
    command: u64,
    at: Timestamp,
    bytes: Vec<u8>,
}

struct Player {
    out: Out,
    speed: Option<f64>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    frames: u64,
    words: Option<Words>,
    reader: Reader,
    head: Vec<String>,
    /// The columns described last, and for which command.
    described: (u64, Vec<String>),
    rows: Vec<Vec<String>>,
    /// Some rows of the open result are printed.
    begun: bool,
}

impl Player {
    fn new(speed: Option<f64>, out: Out) -> Self {
        Self {
            out,
            speed,
            first: None,
            last: None,
            frames: 0,
            words: None,
            reader: Reader::default(),
            head: Vec::new(),
            described: Default::default(),
            rows: Vec::new(),
            begun: false,
        }
    }

    fn frame(&mut self, frame: &FrameView<'_>) {
        self.frames += 1;
        if frame.continued
            && let Some(words) = &mut self.words
            && words.kind == frame.kind
            && words.bytes.len() < WORDS_BYTES_MAX
        {
            words.bytes.extend_from_slice(frame.bytes);
            return;
        }
        self.say();
        self.wait(frame.at);
        if frame.kind != FrameKind::Output {
            let bytes = frame.bytes.to_vec();
            self.words = Some(Words { kind: frame.kind, command: frame.command, at: frame.at, bytes });
            return;
        }
        let mut shown = Vec::new();
        self.reader.take(frame.command, frame.bytes, |one| shown.push(one));
        shown.into_iter().for_each(|one| self.show(frame, one));
    }

    fn finish(&mut self) {
        self.say();
        self.flush();
    }

    fn wait(&mut self, at: Timestamp) {
        self.first.get_or_insert(at);
        let last = self.last.replace(at);
        if let (Some(speed), Some(last)) = (self.speed, last) {
            let micros = at.0.saturating_sub(last.0).max(0) as f64 / speed;
            let pause = Duration::from_secs_f64((micros / 1e6).min(PAUSE_MAX.as_secs_f64()));
            // The caller gave this thread up for blocking.
            tokio::runtime::Handle::current().block_on(tokio::time::sleep(pause));
        }
    }

    fn offset(&self, at: Timestamp) -> f64 {
        at.0.saturating_sub(self.first.unwrap_or(at).0) as f64 / 1e6
    }

    /// Says the words that are complete now.
    fn say(&mut self) {
        let Some(words) = self.words.take() else { return };
        self.flush();
        if words.kind == FrameKind::MaskMap {
            return self.say_map(&words);
        }
        let text = String::from_utf8_lossy(&words.bytes);
        self.json(words.kind.as_str(), words.command, words.at, json!({ "text": text }));
        let text = clean_lines(&text);
        let at = self.offset(words.at);
        match words.kind {
            FrameKind::Command => self.out.line(format!("{at:>9.3}  #{} {text}", words.command)),
            kind => self.out.line(format!("{:>9}  {}: {text}", "", kind.as_str())),
        }
    }

    fn say_map(&mut self, words: &Words) {
        let line = match parse_mask_map(&words.bytes) {
            Ok(map) => {
                let names = if self.described.0 == words.command { &self.described.1[..] } else { &[] };
                let value: Value = serde_json::from_slice(&words.bytes).unwrap_or_default();
                self.json(words.kind.as_str(), words.command, words.at, json!({ "map": value }));
                let words = map_words(&map, names);
                if words.is_empty() {
                    return;
                }
                format!("masked: {words}")
            }
            Err(error) => {
                self.json("malformed", words.command, words.at, json!({ "what": error.0 }));
                format!("(not readable: {})", error.0)
            }
        };
        self.out.line(indent(&line));
    }

    fn show(&mut self, frame: &FrameView<'_>, shown: Shown) {
        if self.out.json {
            return self.shown_json(frame, &shown);
        }
        match shown {
            Shown::Columns(names) => {
                self.flush();
                self.described = (frame.command, names.clone());
                self.head = names;
            }
            Shown::Row(row) => {
                let cell = |cell: Option<String>| cell.map_or("NULL".to_owned(), |cell| shorten(&cell));
                self.rows.push(row.into_iter().map(cell).collect());
                if self.rows.len() >= ROWS_MAX {
                    self.print_rows();
                }
            }
            other => {
                self.flush();
                self.out.line(indent(&describe(&other)));
            }
        }
    }

    /// Ends the table that is open. One without rows is shown by its head.
    fn flush(&mut self) {
        if !self.rows.is_empty() || !(self.head.is_empty() || self.begun) {
            self.print_rows();
        }
        self.begun = false;
        self.head.clear();
    }

    fn print_rows(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(self.head.len());
        // An execution of a statement that was described before has no names of its own.
        let name = |at: usize| self.head.get(at).map_or_else(|| format!("({})", at + 1), |name| clean(name));
        let names: Vec<String> = (0..width).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.out.line(indent(table(&names, &rows).trim_end()));
        self.begun = true;
    }

    fn json(&self, kind: &str, command: u64, at: Timestamp, mut value: Value) {
        if let Value::Object(fields) = &mut value {
            fields.insert("kind".to_owned(), kind.into());
            fields.insert("command".to_owned(), command.into());
            fields.insert("at".to_owned(), at.to_string().into());
        }
        self.out.json_line(&value);
    }

    fn shown_json(&self, frame: &FrameView<'_>, shown: &Shown) {
        let (kind, value) = match shown {
            Shown::Columns(names) => ("columns", json!({ "columns": names })),
            Shown::Row(row) => ("row", json!({ "row": row })),
            Shown::Complete(tag) => ("complete", json!({ "tag": tag })),
            Shown::Suspended => ("suspended", json!({})),
            Shown::Copy(text) => ("copy", json!({ "text": text })),
            Shown::Report { error, severity, code, message, detail, hint } => (
                if *error { "error" } else { "notice" },
                json!({ "severity": severity, "code": code, "message": message, "detail": detail, "hint": hint }),
            ),
            Shown::Notification(channel, payload) => {
                ("notification", json!({ "channel": channel, "payload": payload }))
            }
            Shown::Malformed(what) => ("malformed", json!({ "what": what })),
        };
        self.json(kind, frame.command, frame.at, value);
    }
}

/// One thing other than a table, for people; foreign text is cleaned here.
fn describe(shown: &Shown) -> String {
    match shown {
        Shown::Complete(tag) => clean(tag),
        Shown::Suspended => "(more rows were left)".to_owned(),
        Shown::Copy(text) => clean_lines(text.trim_end_matches('\n')),
        Shown::Report { severity, code, message, detail, hint, .. } => {
            let mut text = format!("{} {}: {}", clean(severity), clean(code), clean_lines(message));
            for (name, line) in [("detail", detail), ("hint", hint)] {
                if let Some(line) = line {
                    text += &format!("\n{name}: {}", clean_lines(line));
                }
            }
            text
        }
        Shown::Notification(channel, payload) => format!("notification {}: {}", clean(channel), clean(payload)),
        Shown::Malformed(what) => format!("(not readable: {what})"),
        Shown::Columns(_) | Shown::Row(_) => String::new(),
    }
}

/// What masking did, in a line; empty if it was nothing.
fn map_words(map: &MaskMap, names: &[String]) -> String {
    let column = |at: usize| names.get(at).map_or_else(|| format!("({})", at + 1), |name| clean(name));
    let mut words = Vec::new();
    for one in map.columns.iter().filter(|one| one.cells > 0) {
        let (name, cells) = (column(one.position), one.cells);
        words.push(match &one.treated {
            Treated::Tagged(with, tag) => format!("{name} {with} {cells} (tag {})", clean(tag)),
            Treated::Lost(with) => format!("{name} {with} {cells} (origin not proven)"),
            Treated::Unresolved(with) => format!("{name} {with} {cells} (relation not known)"),
            Treated::Searched { .. } => format!("{name} {cells} (found)"),
        });
    }
    words.extend(map.hits.iter().map(|(detector, hits)| format!("{detector} found {hits}")));
    if map.texts > 0 {
        words.push(format!("{} fields of texts", map.texts));
    }
    if map.asides > 0 {
        words.push(format!("{} parameters or notifications", map.asides));
    }
    if map.withheld {
        words.push("the next output was withheld".to_owned());
    }
    words.join(", ")
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("{:>11}{line}", "")).collect::<Vec<_>>().join("\n")
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_one_line_with_names_where_they_are_known() {
        let map = parse_mask_map(
            br#"{"asides":1,"columns":[{"c":0,"f":"text","k":"text","n":3,"op":"partial","tag":"p\u001bi","why":"tag"},{"c":1,"f":"text","k":"text","n":0,"why":"search"},{"c":2,"f":"text","k":"text","n":1,"why":"search"}],"detect":{"card":"redact"},"detectors":1,"hits":{"card":2},"shape":"rows","texts":4,"v":1,"width":3}"#,
        );
        let words = map_words(&map.expect("of the form"), &["email".to_owned()]);
        assert_eq!(
            words,
            "email partial 3 (tag p\\x1bi), (3) 1 (found), card found 2, 4 fields of texts, 1 parameters or notifications"
        );
        assert_eq!(map_words(&MaskMap::default(), &[]), "");
    }
}
