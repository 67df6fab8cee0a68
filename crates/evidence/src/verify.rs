//! Checks a pack from outside, in one pass over its files: nothing in it is believed. Not here: reading files, the keys.
//!
//! Memory is bounded by the directory, what is open at once, 32 bytes for each block of a recording and a line for each
//! file of the pack.

mod approvals;
mod ledger;
mod origins;
mod recordings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chancery_ledger::{Check, Hasher, Roots, Verdict, WitnessPolicy};
use chancery_model::Digest;
use serde_json::json;

use crate::kept::KEPT;
use crate::manifest::{MANIFEST, MANIFEST_BYTES_MAX, MANIFEST_NOTE, Manifest, manifest_text};
use crate::pack::{Output, Provenance};
use crate::tar::{Malformed, Piece, Reader};
use crate::{ChainRow, Directory, Findings, Seen};
use approvals::Approvals;
use ledger::LedgerPart;
use recordings::Recordings;

pub use approvals::ApprovalRow;
pub use origins::{Origins, Preface, RegistryCopy};
pub use recordings::next_block;

/// The largest file that is taken as a whole: a bundle of the longest entries. Hashes in one are shorter.
const WHOLE_BYTES_MAX: u64 = 256 * (2 + 61_440);
/// A note with one signature.
const NOTE_BYTES_MAX: u64 = 4096;
/// A line of `directory/chains.jsonl` or `reviews/approvals.jsonl`.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Lines of such a file, which are held in memory: no pack of ours has more.
pub const LINES_MAX: usize = 1_000_000;
/// The bytes of all of them.
const LINED_BYTES_MAX: u64 = 512 << 20;
/// A tile has 256 hashes at most.
const TILE_BYTES_MAX: u64 = 256 * 32;

/// What the reader brings; nothing of it comes from the pack.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The log's key and the root of its ladder.
    pub roots: Roots,
    /// Who the witnesses are.
    pub witnesses: Option<WitnessPolicy>,
    /// Heads from elsewhere, as notes.
    pub checkpoints: Vec<String>,
    /// How SSH signatures are checked. `None`: they are not.
    pub signatures: Option<SignatureCheck>,
}

/// Whether an armoured SSH signature, the first text, is of the key in the second over these bytes.
pub type SignatureCheck = fn(&str, &str, &[u8]) -> bool;

/// Why a pack cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoPack(pub String);

impl From<Malformed> for NoPack {
    fn from(error: Malformed) -> Self {
        Self(error.to_string())
    }
}

/// How one check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackFinding {
    /// The check's word.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// The first entry concerned.
    pub entry: Option<u64>,
    /// What was found there; empty for a pass.
    pub what: String,
    /// How many places failed.
    pub failures: u64,
}

impl PackFinding {
    /// What machines read.
    pub fn document(&self) -> serde_json::Value {
        json!({ "check": self.check, "verdict": self.verdict.to_string(), "entry": self.entry,
                "what": self.what, "failures": self.failures })
    }
}

/// How all came out.
#[derive(Clone, Debug)]
pub struct PackReport {
    /// In the order of the specification.
    pub checks: Vec<PackFinding>,
    /// The first entry that does not hold, as far as it can be told.
    pub first_bad_entry: Option<u64>,
    /// Entries read.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// What the manifest says of itself.
    pub manifest: Manifest,
    /// What the controls found, derived anew.
    pub controls: Findings,
}

impl PackReport {
    /// The gravest verdict.
    pub fn verdict(&self) -> Verdict {
        self.checks.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Inconclusive)
    }

    /// What machines read: `chancery evidence verify --json`, and the page for browsers.
    pub fn document(&self) -> serde_json::Value {
        let controls = self.controls.all().map(|(control, found)| {
            json!({
                "control": control.id, "title": control.title, "result": found.result(), "tested": found.tested,
                "exceptions": found.count, "untested": found.untested,
                "entries": found.exceptions.iter().map(|one| one.entry).collect::<Vec<_>>(),
            })
        });
        json!({
            "verdict": self.verdict().to_string(), "entries": self.size, "root": self.root.to_string(),
            "first_bad_entry": self.first_bad_entry,
            "checks": self.checks.iter().map(PackFinding::document).collect::<Vec<_>>(),
            "controls": controls.collect::<Vec<_>>(),
        })
    }
}

/// The checks besides those of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PackCheck {
    Manifest,
    Tiles,
    Recordings,
    Directory,
    Rules,
    Approvals,
    Populations,
    Controls,
}

/// A place in a report: a check of the pack or of its ledger.
const ORDER: [&str; 16] = [
    "container",
    "manifest",
    "lines",
    "order",
    "checkpoints",
    "ladder",
    "witnesses",
    "tail",
    "sessions",
    "rolling",
    "tiles",
    "recordings",
    "directory",
    "rules",
    "approvals",
    "populations",
];

impl PackCheck {
    const ALL: [Self; 8] = [
        Self::Manifest,
        Self::Tiles,
        Self::Recordings,
        Self::Directory,
        Self::Rules,
        Self::Approvals,
        Self::Populations,
        Self::Controls,
    ];
    fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Tiles => "tiles",
            Self::Recordings => "recordings",
            Self::Directory => "directory",
            Self::Rules => "rules",
            Self::Approvals => "approvals",
            Self::Populations => "populations",
            Self::Controls => "controls",
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Notes(BTreeMap<PackCheck, PackFinding>);

impl Notes {
    fn fail(&mut self, check: PackCheck, entry: Option<u64>, what: impl Into<String>) {
        self.note(check, Verdict::Fail, entry, what.into());
    }
    fn doubt(&mut self, check: PackCheck, entry: Option<u64>, what: impl Into<String>) {
        self.note(check, Verdict::Inconclusive, entry, what.into());
    }
    /// Keeps the gravest verdict; of several the one with the lowest entry, as the second verifier does.
    fn note(&mut self, check: PackCheck, verdict: Verdict, entry: Option<u64>, what: String) {
        let failures = u64::from(verdict == Verdict::Fail);
        let new = PackFinding { check: check.as_str(), verdict, entry, what, failures };
        let lower = |old: &PackFinding| entry.is_some_and(|entry| old.entry.is_none_or(|old| entry < old));
        match self.0.get_mut(&check) {
            Some(old) if old.verdict == verdict && lower(old) => {
                *old = PackFinding { failures: old.failures + failures, ..new };
            }
            Some(old) if old.verdict >= verdict => old.failures += failures,
            Some(old) => *old = new,
            None => drop(self.0.insert(check, new)),
        }
    }
}

/// What is derived anew: hash and length of each file.
#[derive(Default)]
struct Hashes(BTreeMap<String, (Hasher, u64)>);

impl Output for Hashes {
    fn append(&mut self, path: &str, bytes: &[u8]) {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), (Hasher::default(), 0));
        }
        if let Some((hasher, length)) = self.0.get_mut(path) {
            hasher.update(bytes);
            *length += bytes.len() as u64;
        }
    }
}

/// How the bytes of a file are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Manifest,
    Note,
    Registry,
    Chains,
    Rules,
    Approvals,
    Seen,
    Recording,
    Checkpoint,
    Tile,
    Bundle,
    /// Of which some entries were pruned.
    Kept,
    Sums,
    /// Compared by its hash alone.
    Other,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path.split_once('/') {
            None if path == "SHA256SUMS" => Self::Sums,
            Some(("registry", _)) => Self::Registry,
            Some(("directory", "chains.jsonl")) => Self::Chains,
            Some(("rules", _)) => Self::Rules,
            Some(("reviews", "approvals.jsonl")) => Self::Approvals,
            Some(("reconciliation", "postgres.jsonl")) => Self::Seen,
            Some(("recordings", _)) => Self::Recording,
            Some(("ledger", "checkpoint")) => Self::Checkpoint,
            Some(("ledger", rest)) if rest.starts_with("tile/entries/") => Self::Bundle,
            Some(("ledger", rest)) if rest.starts_with(KEPT) => Self::Kept,
            Some(("ledger", _)) => Self::Tile,
            _ => Self::Other,
        }
    }
    fn is_whole(self) -> bool {
        matches!(self, Self::Manifest | Self::Note | Self::Checkpoint | Self::Tile | Self::Bundle | Self::Kept)
    }
    fn has_lines(self) -> bool {
        matches!(self, Self::Chains | Self::Approvals | Self::Seen)
    }
}

/// A file that is being read.
struct Member {
    path: String,
    kind: Kind,
    size: u64,
    taken: u64,
    hasher: Hasher,
    /// The whole of it, or the line so far.
    bytes: Vec<u8>,
    lines: usize,
}

/// Reads a pack: either [`PackVerifier::feed`] with the bytes of its container, or [`PackVerifier::begin`],
/// [`PackVerifier::bytes`] and [`PackVerifier::end`] for each file, the manifest first; then [`PackVerifier::finish`].
pub struct PackVerifier {
    container: Reader,
    contained: bool,
    inner: Inner,
}

impl fmt::Debug for PackVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackVerifier").field("files", &self.inner.read).finish_non_exhaustive()
    }
}

struct Inner {
    trusted: Trusted,
    manifest: Option<(Manifest, Provenance)>,
    /// What the log's key must have signed of it; the note came.
    text: String,
    noted: bool,
    /// Files begun, the manifest and its note not counted.
    read: usize,
    member: Option<Member>,
    notes: Notes,
    directory: Directory,
    rules: Vec<String>,
    approvals: Approvals,
    seen: Option<Vec<Seen>>,
    recordings: Recordings,
    ledger: Option<LedgerPart>,
    derived: Option<Rederived>,
}

/// What came out of the entries.
struct Rederived {
    hashes: BTreeMap<String, (Digest, u64)>,
    findings: Findings,
    report: chancery_ledger::Report,
}

impl PackVerifier {
    /// With what the reader brings.
    pub fn new(trusted: Trusted) -> Self {
        let approvals = Approvals::with(trusted.signatures);
        let inner = Inner {
            trusted,
            manifest: None,
            text: String::new(),
            noted: false,
            read: 0,
            member: None,
            notes: Notes::default(),
            directory: Directory::default(),
            rules: Vec::new(),
            approvals,
            seen: None,
            recordings: Recordings::default(),
            ledger: None,
            derived: None,
        };
        Self { container: Reader::default(), contained: false, inner }
    }

    /// Takes the next bytes of the container.
    ///
    /// # Errors
    /// It is no container of a pack, or its manifest is none. Nothing more can be said then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), NoPack> {
        self.contained = true;
        let inner = &mut self.inner;
        self.container.feed(bytes, &mut |piece| match piece {
            Piece::Member(path, size) => inner.begin(path, size),
            Piece::Bytes(bytes) => inner.bytes(bytes),
            Piece::End => inner.end(),
        })
    }

    /// The manifest, once it was read: whoever reads a directory takes its files in this order.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.inner.manifest.as_ref().map(|(manifest, _)| manifest)
    }

    /// Begins a file of a directory.
    ///
    /// # Errors
    /// As [`PackVerifier::feed`].
    pub fn begin(&mut self, path: &str, size: u64) -> Result<(), NoPack> {
        self.inner.begin(path, size)
    }
    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// As [`PackVerifier::feed`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoPack> {
        self.inner.bytes(bytes)
    }
    /// Ends the file.
    ///
    /// # Errors
    /// As [`PackVerifier::feed`].
    pub fn end(&mut self) -> Result<(), NoPack> {
        self.inner.end()
    }
    /// Says that a file of the manifest is not there, or cannot be read.
    ///
    /// # Errors
    /// It is the manifest.
    pub fn absent(&mut self, path: &str) -> Result<(), NoPack> {
        self.inner.absent(path)
    }
    /// Says that a directory holds something that is not in the manifest.
    pub fn surplus(&mut self, path: &str) {
        self.inner.notes.fail(PackCheck::Manifest, None, format!("{path} is not in the manifest"));
    }

    /// What came out.
    ///
    /// # Errors
    /// The container is cut, or there is no manifest.
    pub fn finish(self) -> Result<PackReport, NoPack> {
        if self.contained {
            self.container.finish()?;
            self.inner.is_whole()?;
        }
        self.inner.finish()
    }
}

impl Inner {
    fn begin(&mut self, path: &str, size: u64) -> Result<(), NoPack> {
        let kind = match &self.manifest {
            None if path == MANIFEST => Kind::Manifest,
            None => return Err(NoPack("the first file is not the manifest".to_owned())),
            Some(_) if !self.noted => {
                self.noted = true;
                if path != MANIFEST_NOTE {
                    return Err(NoPack("the second file is not MANIFEST.note".to_owned()));
                }
                Kind::Note
            }
            Some((manifest, _)) => {
                let listed = manifest.files.get(self.read);
                let listed = listed.filter(|listed| listed.path == path);
                let Some(listed) = listed else {
                    return Err(NoPack(format!("{path} is not the file that the manifest has in this place")));
                };
                if listed.bytes != size {
                    let what = format!("{path} has {size} bytes, not the {} of the manifest", listed.bytes);
                    self.notes.fail(PackCheck::Manifest, None, what);
                }
                self.read += 1;
                Kind::of(path)
            }
        };
        let max = match kind {
            Kind::Manifest => MANIFEST_BYTES_MAX as u64,
            Kind::Note => NOTE_BYTES_MAX,
            Kind::Tile => TILE_BYTES_MAX,
            kind if kind.has_lines() => LINED_BYTES_MAX,
            _ => WHOLE_BYTES_MAX,
        };
        if (kind.is_whole() || kind.has_lines()) && size > max {
            return Err(NoPack(format!("{path} has {size} bytes, and {max} is the limit")));
        }
        if matches!(kind, Kind::Other | Kind::Sums) {
            self.derive();
        }
        let hasher = Hasher::default();
        self.member = Some(Member { path: path.to_owned(), kind, size, taken: 0, hasher, bytes: Vec::new(), lines: 0 });
        if kind == Kind::Seen {
            // A log without lines was compared, too.
            self.seen.get_or_insert_default();
        }
        if kind == Kind::Recording {
            self.recordings.begin(path, &mut self.notes);
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), NoPack> {
        let Some(member) = &mut self.member else { return Ok(()) };
        member.hasher.update(bytes);
        member.taken += bytes.len() as u64;
        if member.taken > member.size {
            return Err(NoPack(format!("{} is longer than it was said to be", member.path)));
        }
        if member.kind.is_whole() {
            member.bytes.extend_from_slice(bytes);
        }
        if member.kind == Kind::Recording {
            self.recordings.bytes(bytes, &mut self.notes);
        }
        if member.kind.has_lines() { self.lines(bytes) } else { Ok(()) }
    }

    fn lines(&mut self, mut bytes: &[u8]) -> Result<(), NoPack> {
        while !bytes.is_empty() {
            let Some(member) = &mut self.member else { return Ok(()) };
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            member.bytes.extend_from_slice(piece);
            if member.bytes.len() > LINE_BYTES_MAX || member.lines >= LINES_MAX {
                return Err(NoPack(format!("{} has too long a line, or too many", member.path)));
            }
            if end.is_some() {
                member.lines += 1;
                let (line, kind) = (std::mem::take(&mut member.bytes), member.kind);
                self.line(kind, &line);
            }
            bytes = rest;
        }
        Ok(())
    }

    fn line(&mut self, kind: Kind, line: &[u8]) {
        let text = std::str::from_utf8(line).unwrap_or_default();
        let (taken, check, path) = match kind {
            Kind::Approvals => (self.approvals.line(text).is_some(), PackCheck::Approvals, "reviews/approvals.jsonl"),
            Kind::Seen => {
                let seen = Seen::parse(text);
                let taken = seen.is_some();
                self.seen.get_or_insert_default().extend(seen);
                (taken, PackCheck::Populations, "reconciliation/postgres.jsonl")
            }
            _ => {
                let taken = ChainRow::parse(text).is_some_and(|row| self.directory.add(row));
                (taken, PackCheck::Directory, "directory/chains.jsonl")
            }
        };
        if !taken {
            self.notes.fail(check, None, format!("a line of {path} is malformed, or stands there twice"));
        }
    }

    fn end(&mut self) -> Result<(), NoPack> {
        let Some(mut member) = self.member.take() else { return Ok(()) };
        if member.taken != member.size {
            return Err(NoPack(format!("{} is shorter than it was said to be", member.path)));
        }
        let digest = std::mem::take(&mut member.hasher).finish();
        match member.kind {
            Kind::Manifest => return self.read_manifest(&member.bytes),
            Kind::Note => {
                self.read_note(&member.bytes);
                return Ok(());
            }
            _ => {}
        }
        self.compare(&member.path, digest, member.size);
        if member.kind.has_lines() && !member.bytes.is_empty() {
            self.notes.fail(PackCheck::Manifest, None, format!("the last line of {} is cut", member.path));
        }
        match member.kind {
            Kind::Rules => self.rule_set(&member.path, digest),
            Kind::Recording => self.recordings.end(&mut self.notes),
            Kind::Checkpoint | Kind::Tile | Kind::Bundle | Kind::Kept => self.of_ledger(&member),
            _ => {}
        }
        Ok(())
    }

    /// The file against the manifest, and against what was derived.
    fn compare(&mut self, path: &str, digest: Digest, size: u64) {
        let listed = self.manifest.as_ref().and_then(|(manifest, _)| manifest.files.get(self.read.saturating_sub(1)));
        if listed.is_some_and(|listed| listed.sha256 != digest) {
            self.notes.fail(PackCheck::Manifest, None, format!("{path} has not the hash of the manifest"));
        }
        let Some(derived) = &mut self.derived else { return };
        if let Some((hash, bytes)) = derived.hashes.remove(path)
            && (hash, bytes) != (digest, size)
        {
            let check = if path.starts_with("controls/") { PackCheck::Controls } else { PackCheck::Populations };
            self.notes.fail(check, None, format!("{path} is not what follows from the entries"));
        }
    }

    fn read_manifest(&mut self, bytes: &[u8]) -> Result<(), NoPack> {
        let manifest = Manifest::parse(bytes).map_err(|what| NoPack(what.to_owned()))?;
        let from = manifest.provenance().ok_or_else(|| NoPack("a time in the manifest is none".to_owned()))?;
        if from.period.from >= from.period.to {
            return Err(NoPack("the period of the manifest ends before it begins".to_owned()));
        }
        origins::in_place(&manifest)?;
        self.text = manifest_text(bytes);
        self.manifest = Some((manifest, from));
        Ok(())
    }

    /// Without the log's signature anybody could have made it; with it, nobody but who has the log's key.
    fn read_note(&mut self, note: &[u8]) {
        let note = std::str::from_utf8(note).unwrap_or_default();
        match self.trusted.roots.log().open_text(note) {
            Ok(text) if text == self.text => {}
            Ok(_) => self.notes.fail(PackCheck::Manifest, None, "MANIFEST.note is of another manifest"),
            Err(error) => self.notes.fail(PackCheck::Manifest, None, format!("MANIFEST.note: {error}")),
        }
    }

    fn rule_set(&mut self, path: &str, digest: Digest) {
        let name = path.strip_prefix("rules/").and_then(|name| name.strip_suffix(".rules"));
        if name != Some(digest.to_string().as_str()) {
            return self.notes.fail(PackCheck::Rules, None, format!("{path} is not the text that its name says"));
        }
        self.rules.push(digest.to_string());
    }

    fn of_ledger(&mut self, member: &Member) {
        self.begin_ledger();
        let (Some((manifest, _)), Some(ledger)) = (&self.manifest, &mut self.ledger) else { return };
        let path = member.path.strip_prefix("ledger/").unwrap_or_default();
        let bytes = member.bytes.as_slice();
        match member.kind {
            Kind::Checkpoint => ledger.checkpoint(bytes, manifest, &mut self.notes),
            Kind::Bundle | Kind::Kept => {
                ledger.bundle(path, bytes, (&mut self.approvals, &mut self.recordings), &mut self.notes);
            }
            _ => ledger.tile(path, bytes, &mut self.notes),
        }
    }

    /// What comes before entries was read.
    fn begin_ledger(&mut self) {
        if let (None, Some((_, from))) = (&self.ledger, &self.manifest) {
            let (directory, rules) = (Arc::new(std::mem::take(&mut self.directory)), self.rules.clone());
            self.ledger = Some(LedgerPart::new(&self.trusted, directory, from, rules, self.seen.take()));
        }
    }

    /// All entries were read: the rest follows from them.
    fn derive(&mut self) {
        if self.derived.is_some() {
            return;
        }
        self.begin_ledger();
        let (Some((manifest, from)), Some(ledger)) = (&self.manifest, self.ledger.take()) else { return };
        self.approvals.finish(&mut self.notes);
        let derived = ledger.finish(manifest, from, &mut self.notes);
        self.derived = Some(derived);
    }

    fn absent(&mut self, path: &str) -> Result<(), NoPack> {
        if path == MANIFEST {
            return Err(NoPack("there is no MANIFEST.json".to_owned()));
        }
        if path == MANIFEST_NOTE {
            self.noted = true;
            self.notes.fail(PackCheck::Manifest, None, "MANIFEST.note is missing");
            return Ok(());
        }
        self.read += 1;
        self.notes.fail(PackCheck::Manifest, None, format!("{path} is missing"));
        if matches!(Kind::of(path), Kind::Other | Kind::Sums) {
            self.derive();
        }
        Ok(())
    }

    /// A container ends with the manifest's last file.
    fn is_whole(&self) -> Result<(), NoPack> {
        let listed = self.manifest.as_ref().and_then(|(manifest, _)| manifest.files.get(self.read));
        listed.map_or(Ok(()), |listed| Err(NoPack(format!("the container ends before {}", listed.path))))
    }

    fn finish(mut self) -> Result<PackReport, NoPack> {
        self.derive();
        let Some((manifest, _)) = self.manifest else { return Err(NoPack("there is no manifest".to_owned())) };
        if let Some(missing) = manifest.files.get(self.read) {
            self.notes.fail(PackCheck::Manifest, None, format!("{} is missing", missing.path));
        }
        let Some(derived) = self.derived else { return Err(NoPack("there is no ledger".to_owned())) };
        if let Some(path) = derived.hashes.keys().next() {
            self.notes.fail(PackCheck::Populations, None, format!("{path} is not in the pack"));
        }
        self.recordings.finish(&mut self.notes);
        let report = derived.report;
        let mut checks: Vec<PackFinding> = vec![pass("container")];
        for check in PackCheck::ALL {
            checks.push(self.notes.0.remove(&check).unwrap_or_else(|| pass(check.as_str())));
        }
        for finding in report.findings.iter().filter(|finding| finding.check != Check::Recordings) {
            checks.push(PackFinding {
                check: finding.check.as_str(),
                verdict: finding.verdict,
                entry: finding.entry,
                what: finding.what.clone(),
                failures: finding.failures,
            });
        }
        checks.sort_by_key(|finding| ORDER.iter().position(|word| *word == finding.check).unwrap_or(ORDER.len()));
        let own = checks.iter().filter(|finding| finding.verdict == Verdict::Fail).filter_map(|finding| finding.entry);
        let first_bad_entry = report.first_bad_entry().or_else(|| own.min());
        let (size, root) = (report.size, report.root);
        Ok(PackReport { checks, first_bad_entry, size, root, manifest, controls: derived.findings })
    }
}

fn pass(check: &'static str) -> PackFinding {
    PackFinding { check, verdict: Verdict::Pass, entry: None, what: String::new(), failures: 0 }
}
