//! The registry: a small log that says which logs there are and how far each had come, so that none can be left out or put
//! back unseen. Format and rules: `docs/spec/registry.md`. Not here: files, clocks, and what is in the logs.

#[cfg(not(target_arch = "wasm32"))]
mod stamps;

use std::collections::BTreeMap;

use chancery_model::{Digest, Timestamp};
use serde_json::Value;

use crate::leaf::Fields;
use crate::log::check_origin;
use crate::{
    Check, Checkpoint, Finding, LedgerError, LogVerifier, Range, Report, Roots, SignedCheckpoint, Verdict,
    WitnessPolicy, consistency_proof, leaf_hash,
};

#[cfg(not(target_arch = "wasm32"))]
pub use stamps::TimeStamp;

/// The longest line.
pub const REGISTRY_LINE_BYTES_MAX: usize = 4096;
/// Entries of a registry: an hourly head of ten logs for more than two years.
pub const REGISTRY_ENTRIES_MAX: usize = 200_000;
/// Bytes of all entries: one is about 600 bytes, so there is room for [`REGISTRY_ENTRIES_MAX`] of them, twice.
pub const REGISTRY_BYTES_MAX: u64 = 1_280 * REGISTRY_ENTRIES_MAX as u64;
/// Logs that may join.
pub const REGISTRY_ORIGINS_MAX: usize = 1_000;

/// What the registry knew of a log's growth when it took a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grew {
    /// There was no head before.
    First,
    /// The entries were shown, and the head before is of their beginning.
    Proven,
    /// Nobody showed the entries.
    Claimed,
}

impl Grew {
    const ALL: [Self; 3] = [Self::First, Self::Proven, Self::Claimed];
    /// Lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Proven => "proven",
            Self::Claimed => "claimed",
        }
    }
}

/// A head of a log as the registry keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredHead {
    /// Number of entries.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// What was known of its growth.
    pub grew: Grew,
    /// Signature lines of the log and of its epoch, without the dash.
    sigs: Vec<String>,
}

impl RegisteredHead {
    /// Takes a head that was opened with the log's key.
    pub fn of(signed: &SignedCheckpoint, grew: Grew) -> Self {
        let Checkpoint { origin, size, root } = &signed.checkpoint;
        let lines = || signed.note.lines().filter_map(|line| line.strip_prefix("\u{2014} "));
        let epoch = format!("{origin}/epoch/");
        let own = lines().find(|line| line.strip_prefix(origin.as_str()).is_some_and(|rest| rest.starts_with(' ')));
        let sigs = own.into_iter().chain(lines().find(|line| line.starts_with(&epoch)));
        Self { size: *size, root: *root, grew, sigs: sigs.map(str::to_owned).collect() }
    }
    /// The note that the log published.
    fn note(&self, origin: &str) -> String {
        let head = Checkpoint { origin: origin.to_owned(), size: self.size, root: self.root };
        let lines: String = self.sigs.iter().map(|line| format!("\u{2014} {line}\n")).collect();
        format!("{}\n{lines}", head.body())
    }
}

/// What an entry says of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It exists, with these roots.
    Join(Roots),
    /// It had come this far.
    Head(RegisteredHead),
    /// This is its end.
    Retire(RegisteredHead),
}

/// An entry of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    index: u64,
    registry: String,
    time: i64,
    log: String,
    what: Registration,
}

impl Line {
    /// The one spelling. Names and keys have no character that JSON escapes.
    fn encode(&self) -> String {
        let Self { index, registry, time, log, what } = self;
        let end = |kind: &str| format!("\"n\":{index},\"o\":\"{registry}\",@\"t\":{time},\"v\":1}}").replace('@', kind);
        match what {
            Registration::Join(roots) => {
                let (key, ladder) = (roots.log().verifier_key(), roots.ladder_key().unwrap_or_default());
                let rest = end("");
                format!("{{\"k\":\"origin.join\",\"key\":\"{key}\",\"ladder\":\"{ladder}\",\"log\":\"{log}\",{rest}")
            }
            Registration::Head(head) | Registration::Retire(head) => {
                let kind = if matches!(what, Registration::Head(_)) { "head" } else { "retire" };
                let sigs: Vec<String> = head.sigs.iter().map(|line| format!("\"{line}\"")).collect();
                let (grew, root, size, sigs) = (head.grew.as_str(), head.root, head.size, sigs.join(","));
                let own = format!("\"root\":\"{root}\",\"sigs\":[{sigs}],\"size\":{size},");
                let rest = end(&own);
                format!("{{\"grew\":\"{grew}\",\"k\":\"origin.{kind}\",\"log\":\"{log}\",{rest}")
            }
        }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > REGISTRY_LINE_BYTES_MAX {
            return None;
        }
        let Fields(mut fields) = serde_json::from_slice(line).ok()?;
        let mut take = |name: &str| fields.remove(name);
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (kind, log, registry) = (text(take("k"))?, text(take("log"))?, text(take("o"))?);
        let what = match kind.as_str() {
            "origin.join" => {
                let roots = format!("{}\n{}\n", text(take("key"))?, text(take("ladder"))?);
                Registration::Join(Roots::parse(&roots).ok()?)
            }
            "origin.head" | "origin.retire" => {
                let grew = text(take("grew"))?;
                let Value::Array(sigs) = take("sigs")? else { return None };
                let head = RegisteredHead {
                    size: take("size")?.as_u64()?,
                    root: Digest::from_hex(&text(take("root"))?)?,
                    grew: Grew::ALL.into_iter().find(|known| known.as_str() == grew)?,
                    sigs: sigs.into_iter().map(|one| text(Some(one))).collect::<Option<_>>()?,
                };
                if kind == "origin.head" { Registration::Head(head) } else { Registration::Retire(head) }
            }
            _ => return None,
        };
        let read = Self { index: take("n")?.as_u64()?, registry, time: take("t")?.as_i64()?, log, what };
        // Whatever else stands in the line, and any other spelling, shows here.
        (read.encode().as_bytes() == line).then_some(read)
    }
}

/// A log that joined.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its roots.
    pub roots: Roots,
    /// When it joined.
    pub joined: Timestamp,
    /// When the registry last heard of it.
    pub heard: Timestamp,
    /// Whether it ended.
    pub retired: bool,
    heads: Vec<RegisteredHead>,
}

impl Registered {
    /// The last head.
    pub fn head(&self) -> Option<&RegisteredHead> {
        self.heads.last()
    }
    /// Every registered head as the note that the log published, oldest first.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.heads.iter().map(|head| head.note(self.roots.log().name()))
    }
    /// The heads.
    pub fn heads(&self) -> &[RegisteredHead] {
        &self.heads
    }
}

/// A log that was handed in, as its entries have it.
#[derive(Clone, Debug)]
pub struct Handed {
    /// Its origin.
    pub origin: String,
    /// The key by which it was verified; `None` if none is known.
    pub key: Option<LogVerifier>,
    /// Entries found.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// The registry as far as it was read.
#[derive(Clone, Debug)]
pub struct Registry {
    name: String,
    leaves: Vec<Digest>,
    range: Range,
    /// The time of each entry.
    times: Vec<i64>,
    origins: BTreeMap<String, Registered>,
}

impl Registry {
    /// The empty registry of this name.
    pub fn new(name: &str) -> Result<Self, LedgerError> {
        check_origin(name)?;
        Ok(Self::named(name.to_owned()))
    }
    fn named(name: String) -> Self {
        Self { name, leaves: Vec::new(), range: Range::default(), times: Vec::new(), origins: BTreeMap::new() }
    }

    /// Its head.
    pub fn head(&self) -> Checkpoint {
        Checkpoint { origin: self.name.clone(), size: self.range.size(), root: self.range.root() }
    }
    /// The logs that joined, by origin.
    pub fn origins(&self) -> impl Iterator<Item = &Registered> {
        self.origins.values()
    }
    /// A log that joined.
    pub fn origin(&self, origin: &str) -> Option<&Registered> {
        self.origins.get(origin)
    }
    /// The proof that the registry of `old` entries is the beginning of this one.
    pub fn consistency(&self, old: u64) -> Option<Vec<Digest>> {
        consistency_proof(&self.leaves, usize::try_from(old).ok()?)
    }

    /// Makes the next line, at `now` or at the time of the entry before it, whichever is later. It is not taken yet.
    pub fn line(&self, log: &str, what: Registration, now: Timestamp) -> Result<String, LedgerError> {
        let (index, registry) = (self.range.size(), self.name.clone());
        let line = Line { index, registry, time: now.0.max(self.time()), log: log.to_owned(), what };
        self.fits(&line).map_err(LedgerError::Misuse)?;
        let text = line.encode();
        // What the reader would not take is not written.
        match Line::parse(text.as_bytes()) {
            Some(read) if read == line => Ok(text),
            _ => Err(LedgerError::LimitReached("the entry is too long, or has a character that it cannot have")),
        }
    }

    /// Takes the next line, without its line feed. One that does not fit is not taken.
    pub fn push(&mut self, line: &[u8]) -> Result<(), LedgerError> {
        let index = self.range.size();
        let read = Line::parse(line).ok_or(LedgerError::Corrupt(index, "not a line of this format"))?;
        self.fits(&read).map_err(|why| LedgerError::Corrupt(index, why))?;
        self.hash(line, read.time);
        let at = Timestamp(read.time);
        match read.what {
            Registration::Join(roots) => {
                let joined = Registered { roots, joined: at, heard: at, retired: false, heads: Vec::new() };
                self.origins.insert(read.log, joined);
            }
            Registration::Head(head) => self.heard(&read.log, head, at, false),
            Registration::Retire(head) => self.heard(&read.log, head, at, true),
        }
        Ok(())
    }

    /// The time of the last entry.
    fn time(&self) -> i64 {
        self.times.last().copied().unwrap_or(i64::MIN)
    }

    fn hash(&mut self, line: &[u8], time: i64) {
        self.times.push(time);
        let leaf = leaf_hash(line);
        self.leaves.push(leaf);
        self.range.push(leaf);
    }

    fn heard(&mut self, log: &str, head: RegisteredHead, at: Timestamp, retired: bool) {
        if let Some(known) = self.origins.get_mut(log) {
            known.heads.push(head);
            (known.heard, known.retired) = (at, retired);
        }
    }

    fn fits(&self, line: &Line) -> Result<(), &'static str> {
        if line.index != self.range.size() {
            return Err("its index is not its position");
        }
        if line.registry != self.name {
            return Err("it is another registry's");
        }
        if line.time < self.time() {
            return Err("its time is before that of the entry before it");
        }
        if self.leaves.len() >= REGISTRY_ENTRIES_MAX {
            return Err("the registry is full");
        }
        match &line.what {
            Registration::Join(roots) => self.joins(&line.log, roots),
            Registration::Head(head) | Registration::Retire(head) => self.follows(&line.log, head),
        }
    }

    fn joins(&self, log: &str, roots: &Roots) -> Result<(), &'static str> {
        if roots.log().name() != log {
            return Err("its key is another log's");
        }
        if !roots.has_ladder() {
            return Err("the key of the log's first epoch is missing");
        }
        if log == self.name {
            return Err("a registry does not register itself");
        }
        if self.origins.contains_key(log) {
            return Err("the log joined before");
        }
        if self.origins.values().any(|known| known.roots.log().is_same_key(roots.log())) {
            return Err("another log joined with this key");
        }
        if self.origins.len() >= REGISTRY_ORIGINS_MAX {
            return Err("too many logs");
        }
        Ok(())
    }

    fn follows(&self, log: &str, head: &RegisteredHead) -> Result<(), &'static str> {
        let known = self.origins.get(log).ok_or("the log has not joined")?;
        if known.retired {
            return Err("the log has retired");
        }
        if head.size == 0 {
            return Err("a head without entries");
        }
        let others = head.sigs.get(1..).unwrap_or_default();
        if known.roots.log().open(&head.note(log)).is_err() {
            return Err("the head is not signed by the log's key");
        }
        if others.len() > 1 || !others.iter().all(|line| line.starts_with(&format!("{log}/epoch/"))) {
            return Err("the head has signatures of others");
        }
        match known.head() {
            None if head.grew != Grew::First => Err("its first head is not called that"),
            None => Ok(()),
            Some(_) if head.grew == Grew::First => Err("its first head was before"),
            Some(before) if head.size < before.size => Err("the log is shorter than it was"),
            Some(before) if head.size == before.size && head.root != before.root => {
                Err("the log has another root for as many entries: it was forked")
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether these are all the logs, and each as far as it was registered: what is wrong, one finding for each log, or one
    /// pass. A log that retired before `since` need not be there.
    pub fn check(&self, handed: &[Handed], since: Timestamp) -> Vec<Finding> {
        let mut wrong = Vec::new();
        for (origin, known) in &self.origins {
            let mut copies = handed.iter().filter(|one| one.origin == *origin);
            let what = match (copies.next(), copies.next()) {
                (None, _) if known.retired && known.heard < since => None,
                (None, _) => Some(format!("{origin} is registered and was not handed in")),
                (Some(_), Some(_)) => Some(format!("{origin} was handed in twice")),
                (Some(one), None) => known.misses(one).map(|what| format!("{origin} {what}")),
            };
            wrong.extend(what);
        }
        let unknown = handed.iter().filter(|one| !self.origins.contains_key(&one.origin));
        wrong.extend(unknown.map(|one| format!("{} was handed in and is not registered", one.origin)));
        if wrong.is_empty() {
            return vec![finding(Check::Origins, Verdict::Pass, None, String::new())];
        }
        wrong.into_iter().map(|what| finding(Check::Origins, Verdict::Fail, None, what)).collect()
    }
}

impl Registered {
    /// What is wrong with a copy of it, in words to stand behind its name.
    pub fn misses(&self, handed: &Handed) -> Option<String> {
        if handed.key.as_ref().is_none_or(|key| key != self.roots.log()) {
            return Some("was not verified with the key by which it is registered".to_owned());
        }
        let last = self.head()?;
        if handed.size < last.size {
            return Some(format!("has {} entries, and {} are registered", handed.size, last.size));
        }
        if handed.size == last.size && handed.root != last.root {
            return Some(format!("has other entries than the {} that are registered", last.size));
        }
        let more = self.retired && handed.size > last.size;
        more.then(|| format!("retired with {} entries and has {}", last.size, handed.size))
    }
}

fn finding(check: Check, verdict: Verdict, entry: Option<u64>, what: String) -> Finding {
    Finding { check, verdict, entry, last: None, what, failures: u64::from(verdict == Verdict::Fail) }
}

/// Reads the registry of `key` from the bytes of its `entries` and from checkpoints of any source, and says what holds.
/// Only what the last checkpoint covers is taken into the registry that is returned.
pub fn read_registry(
    key: &LogVerifier,
    entries: &[u8],
    checkpoints: &[String],
    policy: Option<&WitnessPolicy>,
) -> (Registry, Report) {
    let mut reading = Reading { heads: BTreeMap::new(), findings: BTreeMap::new(), seen: 0 };
    for note in checkpoints {
        reading.checkpoint(key, note);
    }
    let last = reading.heads.last_key_value().map_or(0, |(size, _)| *size);
    let mut registry = Registry::named(key.name().to_owned());
    let (mut size, mut whole, mut rest) = (0, Range::default(), entries);
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..at];
        rest = &rest[at + 1..];
        if size < last {
            if let Err(error) = registry.push(line) {
                reading.note(Check::Lines, Verdict::Fail, Some(size), error.to_string());
                // A reader goes on: what follows is judged by what it says.
                registry.hash(line, registry.time());
            }
            whole = registry.range.clone();
        } else {
            whole.push(leaf_hash(line));
        }
        size += 1;
        reading.root_at(size, whole.root(), policy);
    }
    reading.ends(size, last, rest.is_empty(), policy.is_some());
    let made = [Check::Lines, Check::Checkpoints, Check::Witnesses, Check::Tail].into_iter();
    let made = made.filter(|check| *check != Check::Witnesses || policy.is_some());
    let findings = made.map(|check| {
        let found = reading.findings.remove(&check);
        found.unwrap_or_else(|| finding(check, Verdict::Pass, None, String::new()))
    });
    let findings = findings.collect();
    (registry, Report { findings, size, root: whole.root() })
}

struct Reading {
    heads: BTreeMap<u64, (Digest, Vec<SignedCheckpoint>)>,
    findings: BTreeMap<Check, Finding>,
    /// Entries that enough witnesses saw as they are.
    seen: u64,
}

impl Reading {
    fn checkpoint(&mut self, key: &LogVerifier, note: &str) {
        let signed = match key.open(note) {
            Ok(signed) => signed,
            Err(error) => return self.note(Check::Checkpoints, Verdict::Fail, None, error.to_string()),
        };
        let Checkpoint { size, root, .. } = signed.checkpoint;
        let (known, notes) = self.heads.entry(size).or_insert((root, Vec::new()));
        if *known == root {
            notes.push(signed);
            return;
        }
        let what = format!("two signed roots for {size} entries: the registry was forked");
        self.note(Check::Checkpoints, Verdict::Fail, None, what);
    }

    fn root_at(&mut self, size: u64, root: Digest, policy: Option<&WitnessPolicy>) {
        let Some((signed, notes)) = self.heads.get(&size) else { return };
        if *signed != root {
            let what = "the entries up to here are not those that were signed".to_owned();
            return self.note(Check::Checkpoints, Verdict::Fail, Some(size - 1), what);
        }
        if notes.iter().any(|one| is_enough(policy, one)) {
            self.seen = size;
        }
        self.heads.remove(&size);
    }

    /// What was signed and did not come is still among the heads.
    fn ends(&mut self, size: u64, last: u64, whole: bool, witnesses: bool) {
        if last > size {
            let what = format!("entries {size} to {} are signed and missing", last - 1);
            self.note(Check::Tail, Verdict::Fail, Some(size), what);
        }
        if last == 0 {
            self.note(Check::Tail, Verdict::Inconclusive, None, "no checkpoint covers an entry".into());
        }
        if size > last || !whole {
            self.note(Check::Tail, Verdict::Inconclusive, Some(last), "bytes follow that no checkpoint covers".into());
        }
        if witnesses && self.seen < last {
            let what = match self.seen {
                0 => "no head is cosigned by enough witnesses".to_owned(),
                seen => {
                    format!("entries {seen} to {} are after the last head that enough witnesses cosigned", last - 1)
                }
            };
            self.note(Check::Witnesses, Verdict::Inconclusive, Some(self.seen), what);
        }
    }

    /// Keeps the first place of the gravest verdict.
    fn note(&mut self, check: Check, verdict: Verdict, entry: Option<u64>, what: String) {
        let new = finding(check, verdict, entry, what);
        match self.findings.get_mut(&check) {
            Some(old) if old.verdict >= verdict => old.failures += new.failures,
            Some(old) => *old = new,
            None => drop(self.findings.insert(check, new)),
        }
    }
}

fn is_enough(policy: Option<&WitnessPolicy>, signed: &SignedCheckpoint) -> bool {
    policy.is_some_and(|policy| !policy.is_none() && policy.quorum(&signed.checkpoint, &signed.note).met)
}

#[cfg(test)]
mod tests;
