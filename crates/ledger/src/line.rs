//! Writes an entry as one line of JSON with sorted keys. Not here: reading it back (`leaf`), positions (`log`).

use chancery_model::{Digest, Durability as Profile, Effect, EntryRef, RuleId};

use crate::{Entry, LedgerError, SessionClose};

/// The hard limit of an entry's line. A bundle's length prefix is 16 bits; the rest is room for its other uses.
pub const ENTRY_BYTES_MAX: usize = 60 * 1024;

/// What every line carries.
pub(crate) struct Common<'a> {
    pub(crate) boot: &'a str,
    pub(crate) mono: i64,
    pub(crate) index: u64,
    /// Already escaped.
    pub(crate) origin: &'a str,
    pub(crate) wall: i64,
}

/// What the log knows about a session that ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) acts: u64,
    pub(crate) leaves: u64,
    pub(crate) rolling: Digest,
}

/// Appends the line (without a line end) to `out`.
pub(crate) fn write(
    out: &mut Vec<u8>,
    entry: &Entry<'_>,
    common: &Common<'_>,
    tally: &Tally,
) -> Result<(), LedgerError> {
    let start = out.len();
    out.push(b'{');
    let mut line = Line { out, common, kind: entry.kind().as_str(), next: 0, start, last: "" };
    fields(&mut line, entry, tally);
    line.finish();
    if out.len() - start > ENTRY_BYTES_MAX {
        out.truncate(start);
        return Err(LedgerError::LimitReached("an entry is longer than 60 KiB"));
    }
    Ok(())
}

/// The keys that every line has, in order; `Line` merges them with those of the kind.
const COMMON: [&str; 7] = ["b", "k", "m", "n", "o", "t", "v"];

struct Line<'a, 'b> {
    out: &'a mut Vec<u8>,
    common: &'a Common<'b>,
    kind: &'static str,
    next: usize,
    start: usize,
    last: &'static str,
}

impl Line<'_, '_> {
    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(if self.out.len() > self.start + 1 { b",\"" } else { b"\"" });
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
    fn common_field(&mut self) {
        self.name(COMMON[self.next]);
        let common = self.common;
        match self.next {
            0 => plain(self.out, common.boot),
            1 => plain(self.out, self.kind),
            2 => integer(self.out, common.mono),
            3 => unsigned(self.out, common.index),
            4 => plain(self.out, common.origin),
            5 => integer(self.out, common.wall),
            _ => self.out.push(b'1'),
        }
        self.next += 1;
    }
    /// Begins field `name`, after every common field that sorts before it. Fields must come in order.
    fn key(&mut self, name: &'static str) -> &mut Vec<u8> {
        debug_assert!(self.last < name, "{name} after {}", self.last);
        self.last = name;
        // The common names have one letter each, and no other field has that name.
        let first = name.as_bytes().first().copied().unwrap_or_default();
        while self.next < COMMON.len() && COMMON[self.next].as_bytes()[0] <= first {
            self.common_field();
        }
        self.name(name);
        self.out
    }
    fn finish(&mut self) {
        while self.next < COMMON.len() {
            self.common_field();
        }
        self.out.push(b'}');
    }
    fn hex(&mut self, name: &'static str, bytes: &[u8]) {
        let out = self.key(name);
        out.push(b'"');
        hex(out, bytes);
        out.push(b'"');
    }
    fn hex_if(&mut self, name: &'static str, bytes: Option<&[u8]>) {
        if let Some(bytes) = bytes {
            self.hex(name, bytes);
        }
    }
    fn digest_if(&mut self, name: &'static str, digest: Option<Digest>) {
        self.hex_if(name, digest.as_ref().map(|d| d.0.as_slice()));
    }
    fn number(&mut self, name: &'static str, value: u64) {
        let out = self.key(name);
        unsigned(out, value);
    }
    fn text(&mut self, name: &'static str, text: &str) {
        let out = self.key(name);
        string(out, text);
    }
    fn texts<'t>(&mut self, name: &'static str, texts: impl Iterator<Item = &'t str>) {
        let out = self.key(name);
        out.push(b'[');
        for (i, text) in texts.enumerate() {
            if i > 0 {
                out.push(b',');
            }
            string(out, text);
        }
        out.push(b']');
    }
    fn decision(&mut self, word: &str, rules: &[RuleId]) {
        self.texts("d", std::iter::once(word).chain(rules.iter().map(|rule| rule.0.as_str())));
    }
}

fn profile(profile: Profile) -> &'static str {
    match profile {
        Profile::Balanced => "balanced",
        Profile::Strict => "strict",
    }
}

/// Writes the fields of each kind, in the order of their names.
fn fields(line: &mut Line<'_, '_>, entry: &Entry<'_>, tally: &Tally) {
    match entry {
        Entry::Boot(e) => {
            line.hex("config", &e.config.0);
            line.texts("dangerous", e.dangerous.iter().copied());
            line.number("loss_ms", e.loss_window_ms.into());
            line.text("prof", profile(e.profile));
            line.hex("root", &e.root.0);
            line.number("size", e.size);
            line.text("ver", e.version);
        }
        Entry::Shutdown(e) => line.text("reason", e.reason),
        Entry::Heartbeat => {}
        Entry::PolicyApply(e) => {
            line.hex_if("by", e.by.as_ref().map(<[u8; 16]>::as_slice));
            line.hex("p", &e.rules.0);
            line.text("source", e.source);
        }
        Entry::Principal(e) => {
            line.hex("a", &e.chain);
            line.hex("com", &e.commitment.0);
        }
        Entry::SecretChange(e) => {
            line.hex_if("by", e.by.as_ref().map(<[u8; 16]>::as_slice));
            line.text("c", e.resource.as_str());
            line.text("change", e.change);
            line.number("ver", e.version);
        }
        Entry::RecordingSegment(e) => {
            line.number("blocks", e.blocks);
            line.number("bytes", e.bytes);
            line.hex("cr", &e.digest.0);
            line.number("file", e.file);
        }
        Entry::View(e) => {
            line.hex("by", &e.by);
            line.hex_if("s", e.session.as_ref().map(|s| s.0.as_slice()));
            line.text("what", e.what);
        }
        Entry::Stall(e) => line.text("reason", e.reason),
        Entry::Gap(e) => {
            line.text("cause", e.cause);
            line.number("from", e.from);
            line.number("to", e.to);
        }
        Entry::Crash(e) => {
            if let Some(command) = e.command {
                line.number("q", command);
            }
            line.hex("s", &e.session.0);
        }
        Entry::Alert(e) => {
            line.text("code", e.code);
            line.hex_if("s", e.session.as_ref().map(|s| s.0.as_slice()));
        }
        Entry::SessionOpen(_) | Entry::SessionClose(_) => session_fields(line, entry, tally),
        Entry::ActStart(_) | Entry::ActDone(_) | Entry::ActDeny(_) => act_fields(line, entry),
        Entry::ApprovalRequest(_) | Entry::ApprovalDecide(_) | Entry::ApprovalUse(_) | Entry::ApprovalEnd(_) => {
            approval_fields(line, entry)
        }
    }
}

fn session_fields(line: &mut Line<'_, '_>, entry: &Entry<'_>, tally: &Tally) {
    match entry {
        Entry::SessionOpen(e) => {
            line.hex("a", &e.chain);
            line.text("auth", e.method);
            line.text("c", e.resource.as_str());
            line.decision("allow", e.rule_ids);
            line.hex("p", &e.rules.0);
            line.text("prof", profile(e.profile));
            line.text("proto", e.protocol);
            line.hex("s", &e.session.0);
        }
        Entry::SessionClose(SessionClose { session, reason, recording }) => {
            line.number("acts", tally.acts);
            line.digest_if("cm", *recording);
            line.number("leaves", tally.leaves);
            line.text("reason", reason);
            line.hex("roll", &tally.rolling.0);
            line.hex("s", &session.0);
        }
        _ => {}
    }
}

fn act_fields(line: &mut Line<'_, '_>, entry: &Entry<'_>) {
    match entry {
        Entry::ActStart(e) => {
            line.hex("a", &e.chain);
            line.text("c", e.resource.as_str());
            line.hex("ch", &e.digest.0);
            line.decision(e.decision, e.rule_ids);
            line.hex("fp", &e.fingerprint.0);
            line.hex("p", &e.rules.0);
            line.text("prof", profile(e.profile));
            line.number("q", e.command);
            line.hex_if("rev", e.review.as_ref().map(|r| r.0.as_slice()));
            line.hex("s", &e.session.0);
            line.text("x", if e.effect == Effect::Read { "read" } else { "write" });
        }
        Entry::ActDone(e) => {
            line.number("bytes", e.bytes);
            line.digest_if("cm", e.recording);
            line.number("masked", e.masked);
            line.text("out", e.outcome.as_str());
            line.number("q", e.command);
            line.number("rows", e.rows);
            line.hex("s", &e.session.0);
            // The code comes from the resource: only its documented form may stand in a leaf.
            let form =
                |code: &&str| code.len() == 5 && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            if let Some(code) = e.sqlstate.filter(form) {
                line.text("sqlstate", code);
            }
            line.number("us", e.duration_us);
        }
        Entry::ActDeny(e) => {
            line.hex_if("a", e.chain.as_ref().map(<[u8; 16]>::as_slice));
            if let Some(resource) = e.resource {
                line.text("c", resource.as_str());
            }
            line.digest_if("ch", e.digest);
            line.text("code", e.code.as_str());
            line.decision("deny", e.rule_ids);
            line.hex("p", &e.rules.0);
            line.number("q", e.command);
            line.hex("s", &e.session.0);
        }
        _ => {}
    }
}

fn approval_fields(line: &mut Line<'_, '_>, entry: &Entry<'_>) {
    match entry {
        Entry::ApprovalRequest(e) => {
            line.hex("a", &e.chain);
            line.text("c", e.resource.as_str());
            line.hex("ch", &e.digest.0);
            line.texts("needed", e.needed.iter().map(String::as_str));
            line.hex("p", &e.rules.0);
            line.number("q", e.command);
            line.hex("rev", &e.review.0);
            line.hex("s", &e.session.0);
            let out = line.key("until");
            integer(out, e.expires_at.0);
        }
        Entry::ApprovalDecide(e) => {
            line.text("assurance", e.assurance.as_str());
            line.hex("by", &e.by);
            line.hex("ch", &e.digest.0);
            line.texts("d", [if e.approved { "approve" } else { "deny" }, e.rule].into_iter());
            line.hex("rev", &e.review.0);
            line.digest_if("sig", e.signature);
        }
        Entry::ApprovalUse(e) => {
            line.hex("ch", &e.digest.0);
            line.number("q", e.command);
            references(line.key("ref"), e.decisions);
            line.hex("rev", &e.review.0);
            line.hex("s", &e.session.0);
        }
        Entry::ApprovalEnd(e) => {
            line.text("end", if e.expired { "expired" } else { "withdrawn" });
            line.hex("rev", &e.review.0);
        }
        _ => {}
    }
}

/// Each reference is `index:leaf-hash`.
fn references(out: &mut Vec<u8>, entries: &[EntryRef]) {
    out.push(b'[');
    for (i, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",\"" } else { b"\"" });
        unsigned(out, entry.index);
        out.push(b':');
        hex(out, &entry.leaf.0);
        out.push(b'"');
    }
    out.push(b']');
}

const fn hex_pairs() -> [[u8; 2]; 256] {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
}

static HEX: [[u8; 2]; 256] = hex_pairs();

pub(crate) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    for (pair, byte) in out[start..].chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&HEX[usize::from(*byte)]);
    }
}

fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, value.unsigned_abs());
}

fn plain(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// A JSON string. Control characters, quote and backslash are escaped (RFC 8259 §7), all else stands as it is.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\' || b == 0x7f) {
        return plain(out, text);
    }
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0..0x20 | 0x7f => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[byte]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_json_reads_them() {
        for text in ["plain", "a\"b\\c", "line\nend\u{7f}", "naïve ✓", ""] {
            let mut out = Vec::new();
            string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).expect("written as JSON"), text);
            assert!(!out.iter().any(|b| *b < 0x20));
        }
    }

    #[test]
    fn numbers_are_written_whole() {
        let mut out = Vec::new();
        unsigned(&mut out, u64::MAX);
        out.push(b' ');
        integer(&mut out, i64::MIN);
        out.push(b' ');
        unsigned(&mut out, 0);
        assert_eq!(out, b"18446744073709551615 -9223372036854775808 0");
    }
}
