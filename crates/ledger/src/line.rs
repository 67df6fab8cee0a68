//! Writes an entry as one line of JSON with sorted keys. Not here: reading it back (`leaf`), positions (`log`).
//!
//! The two kinds that every statement has are written straight, key by key (`act`); all others merge their keys with
//! the common ones as they go.

mod act;

use chancery_model::{Digest, Durability as Profile, EntryRef, RuleId};

use crate::{ActDeny, Entry, Export, KeyEpoch, LedgerError, SessionClose};

/// The hard limit of an entry's line. A bundle's length prefix is 16 bits; the rest is room for its other uses.
pub const ENTRY_BYTES_MAX: usize = 60 * 1024;

/// What every line carries.
pub(crate) struct Common<'a> {
    /// In hexadecimal.
    pub(crate) boot: &'a [u8; 32],
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
    match entry {
        Entry::ActStart(e) => act::start(out, e, common),
        Entry::ActDone(e) => act::done(out, e, common),
        _ => {
            out.push(b'{');
            let mut line = Line { out, common, kind: entry.kind().as_str(), next: 0, start, last: "" };
            fields(&mut line, entry, tally);
            line.finish();
        }
    }
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
            1 => plain(self.out, self.kind.as_bytes()),
            2 => integer(self.out, common.mono),
            3 => unsigned(self.out, common.index),
            4 => plain(self.out, common.origin.as_bytes()),
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
    fn hex<const N: usize>(&mut self, name: &'static str, bytes: &[u8; N]) {
        let out = self.key(name);
        out.push(b'"');
        hex(out, bytes);
        out.push(b'"');
    }
    fn hex_if<const N: usize>(&mut self, name: &'static str, bytes: Option<&[u8; N]>) {
        if let Some(bytes) = bytes {
            self.hex(name, bytes);
        }
    }
    fn digest_if(&mut self, name: &'static str, digest: Option<Digest>) {
        self.hex_if(name, digest.as_ref().map(|d| &d.0));
    }
    fn number(&mut self, name: &'static str, value: u64) {
        let out = self.key(name);
        unsigned(out, value);
    }
    fn number_if(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(name, value);
        }
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
        Entry::KeyEpoch(e) => epoch(line, e),
        Entry::PolicyApply(e) => {
            line.hex_if("by", e.by.as_ref());
            line.hex("p", &e.rules.0);
            line.text("source", e.source);
        }
        Entry::Principal(e) => {
            line.hex("a", &e.chain);
            line.hex("com", &e.commitment.0);
        }
        Entry::SecretChange(e) => {
            line.hex_if("by", e.by.as_ref());
            line.text("c", e.resource.as_str());
            line.text("change", e.change);
            line.number("ver", e.version);
        }
        Entry::RecordingSegment(_) | Entry::RawSegment(_) => segment_fields(line, entry),
        Entry::Unseal(_) | Entry::Shred(_) | Entry::View(_) => deed_fields(line, entry),
        Entry::HoldSet(_) | Entry::HoldLift(_) => hold_fields(line, entry),
        Entry::Export(e) => export(line, e),
        Entry::Stall(e) => {
            line.text("reason", e.reason);
            if let Some(over) = e.over {
                line.number("refused", over.refused);
                line.number("us", over.duration_us);
            }
        }
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
            line.hex_if("s", e.session.as_ref().map(|s| &s.0));
        }
        Entry::SessionOpen(_) | Entry::SessionClose(_) => session_fields(line, entry, tally),
        Entry::ActDeny(e) => denial(line, e),
        // Written straight, by `act`.
        Entry::ActStart(_) | Entry::ActDone(_) => {}
        Entry::ApprovalRequest(_) | Entry::ApprovalDecide(_) | Entry::ApprovalUse(_) | Entry::ApprovalEnd(_) => {
            approval_fields(line, entry)
        }
        _ => retention_fields(line, entry),
    }
}

fn export(line: &mut Line<'_, '_>, e: &Export) {
    line.hex("by", &e.by);
    line.hex("cr", &e.manifest.0);
    integer(line.key("from"), e.from.0);
    integer(line.key("to"), e.to.0);
}

fn epoch(line: &mut Line<'_, '_>, e: &KeyEpoch) {
    line.number("e", e.number);
    line.hex("key", &e.key);
    line.number("life_ms", e.life_ms);
    line.hex("root", &e.root.0);
    line.hex("sig", &e.signature);
    line.number("size", e.size);
}

/// What somebody did with what is kept.
fn deed_fields(line: &mut Line<'_, '_>, entry: &Entry<'_>) {
    match entry {
        Entry::Unseal(e) => {
            line.hex("by", &e.by);
            line.hex("rev", &e.review.0);
            line.hex("s", &e.session.0);
        }
        Entry::Shred(e) => {
            line.hex_if("by", e.by.as_ref());
            line.hex_if("cr", e.authority.as_ref().map(|digest| &digest.0));
            line.number_if("run", e.run);
            line.hex("s", &e.session.0);
            line.text("what", e.what);
        }
        Entry::View(e) => {
            line.hex("by", &e.by);
            line.hex_if("s", e.session.as_ref().map(|s| &s.0));
            line.text("what", e.what);
        }
        _ => {}
    }
}

fn segment_fields(line: &mut Line<'_, '_>, entry: &Entry<'_>) {
    match entry {
        Entry::RecordingSegment(e) => {
            line.number("blocks", e.blocks);
            line.number("bytes", e.bytes);
            line.hex("cr", &e.digest.0);
            line.number("file", e.file);
        }
        Entry::RawSegment(e) => {
            line.number("bytes", e.bytes);
            line.hex("com", &e.commitment.0);
            line.hex("cr", &e.body.0);
            line.hex("hd", &e.header.0);
            line.hex("s", &e.session.0);
            line.number("seg", e.index);
            let ids = line.key("to");
            ids.push(b'[');
            for (i, id) in e.to.iter().enumerate() {
                ids.extend_from_slice(if i > 0 { b",\"" } else { b"\"" });
                hex(ids, id);
                ids.push(b'"');
            }
            ids.push(b']');
        }
        _ => {}
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

fn denial(line: &mut Line<'_, '_>, e: &ActDeny<'_>) {
    line.hex_if("a", e.chain.as_ref());
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

fn retention_fields(line: &mut Line<'_, '_>, entry: &Entry<'_>) {
    match entry {
        Entry::RetentionRun(e) => {
            line.hex_if("by", e.by.as_ref());
            line.number("due", e.due);
            line.number("ledger", e.ledger);
            line.number("recordings", e.recordings);
            line.number("sealed", e.sealed);
        }
        Entry::PruneRecording(e) => {
            line.number("bytes", e.bytes);
            line.hex("cr", &e.digest.0);
            line.number("file", e.file);
            let out = line.key("last");
            integer(out, e.last.0);
            line.number("run", e.run);
        }
        Entry::PruneLedger(e) => {
            line.number("bytes", e.bytes);
            line.hex("cr", &e.digest.0);
            line.number("dropped", e.dropped);
            line.number("first", e.first);
            let out = line.key("last");
            integer(out, e.last.0);
            line.number("run", e.run);
        }
        Entry::PruneRefuse(e) => {
            line.hex_if("by", e.by.as_ref());
            line.number_if("file", e.file);
            line.number_if("first", e.first);
            line.hex_if("hold", e.hold.as_ref());
            line.number_if("run", e.run);
            line.hex_if("s", e.session.as_ref().map(|s| &s.0));
            line.text("why", e.why);
        }
        Entry::RetentionDone(e) => {
            line.number("bytes", e.bytes);
            line.text("how", e.how);
            line.number("pruned", e.pruned);
            line.number("refused", e.refused);
            line.number("run", e.run);
        }
        _ => {}
    }
}

fn hold_fields(line: &mut Line<'_, '_>, entry: &Entry<'_>) {
    match entry {
        Entry::HoldSet(e) => {
            line.hex("by", &e.by);
            line.hex("com", &e.commitment.0);
            line.hex("hold", &e.hold);
            line.text("scope", e.scope);
        }
        Entry::HoldLift(e) => {
            line.hex("by", &e.by);
            line.hex("com", &e.commitment.0);
            line.hex("hold", &e.hold);
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

/// Appends lower-case hexadecimal. The length is known to the compiler, so that there is a loop over vectors or none.
#[inline]
pub(crate) fn hex<const N: usize>(out: &mut Vec<u8>, bytes: &[u8; N]) {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    let mut digits = [[0; 2]; N];
    for (pair, byte) in digits.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    out.extend_from_slice(digits.as_flattened());
}

const fn decimal_pairs() -> [[u8; 2]; 100] {
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < 100 {
        pairs[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    pairs
}

static DECIMAL: [[u8; 2]; 100] = decimal_pairs();

pub(crate) fn unsigned(out: &mut Vec<u8>, value: u64) {
    if value < 10 {
        return out.push(b'0' + value as u8);
    }
    let mut digits = [[0; 2]; 10];
    let (mut at, mut rest) = (digits.len(), value);
    while rest >= 100 {
        at -= 1;
        digits[at] = DECIMAL[(rest % 100) as usize];
        rest /= 100;
    }
    if rest >= 10 {
        at -= 1;
        digits[at] = DECIMAL[rest as usize];
    } else {
        out.push(b'0' + rest as u8);
    }
    out.extend_from_slice(digits[at..].as_flattened());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, value.unsigned_abs());
}

fn plain(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Whether a byte must be escaped in a JSON string.
fn is_escaped(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | 0x7f)
}

/// The same for any of eight: a byte is a lane, and what is not ASCII is marked by none of the four.
fn any_escaped(bytes: [u8; 8]) -> bool {
    const EACH: u64 = u64::MAX / 255;
    const TOP: u64 = EACH * 0x80;
    let lanes = u64::from_ne_bytes(bytes);
    let below = |lanes: u64, limit: u64| lanes.wrapping_sub(EACH * limit) & !lanes;
    let equal = |byte: u8| below(lanes ^ (EACH * u64::from(byte)), 1);
    (below(lanes, 0x20) | equal(b'"') | equal(b'\\') | equal(0x7f)) & TOP != 0
}

fn needs_escape(text: &[u8]) -> bool {
    let (eights, rest) = text.as_chunks();
    eights.iter().any(|eight| any_escaped(*eight))
        || match text.last_chunk() {
            // Some bytes are looked at twice; none is looked at alone.
            Some(last) => !rest.is_empty() && any_escaped(*last),
            None => rest.iter().any(|byte| is_escaped(*byte)),
        }
}

/// A JSON string. Control characters, quote and backslash are escaped (RFC 8259 §7), all else stands as it is.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    if !needs_escape(text.as_bytes()) {
        return plain(out, text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ if is_escaped(byte) => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[byte]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
