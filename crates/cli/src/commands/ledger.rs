//! `chancery ledger`: the head, and the verification of a ledger that lives or was copied. Reads only.

mod several;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chancery_ledger::{Checkpoint, Finding, Leaf, LogSigner, Report, Roots, Verdict, WitnessPolicy};
use chancery_model::Timestamp;
use chancery_store::{
    Directory, ExportError, LedgerItem, LedgerReader, Outside, RecordingReader, WitnessState, export, verify,
};
use serde_json::json;

use crate::args;
use crate::commands::check;
use crate::local::{WITNESS, read_small};
use crate::output::{Done, Exit, Failure, Out, clean};

/// The roots in a state directory: the log's public key and that of its first epoch, so that a copy without the private
/// keys can be verified.
pub(crate) const ROOTS_FILE: &str = "ledger.vkey";
const ROOTS_BYTES_MAX: u64 = 4096;
pub(crate) const NOTE_BYTES_MAX: u64 = 64 * 1024;

pub(crate) async fn run(args: args::Ledger, out: Out) -> Done {
    // Reading files blocks, and nothing else runs in this process.
    tokio::task::block_in_place(|| match args {
        args::Ledger::Status(args) => status(&args, out),
        args::Ledger::Verify(args) => verified(&args, out),
        args::Ledger::Export(args) => exported(&args, out),
    })
}

/// Where a ledger is and how it is checked.
pub(super) struct Place {
    ledger: PathBuf,
    recordings: Option<PathBuf>,
    roots: Roots,
}

impl Place {
    fn of(directory: &Path, roots: Option<&str>, recordings: Option<&Path>) -> Result<Self, Failure> {
        let (state, ledger) = found(directory)?;
        let text = match roots {
            Some(roots) => given(roots)?,
            None => state.and_then(own_roots).ok_or_else(unknown_roots)?,
        };
        let roots = parsed(&text)?;
        Ok(Self::with(state, ledger, roots, recordings))
    }
    /// A directory whose roots are known.
    pub(super) fn known(directory: &Path, roots: Roots) -> Result<Self, Failure> {
        let (state, ledger) = found(directory)?;
        Ok(Self::with(state, ledger, roots, None))
    }
    fn with(state: Option<&Path>, ledger: PathBuf, roots: Roots, recordings: Option<&Path>) -> Self {
        let beside = || state.map(|state| state.join("recordings")).filter(|path| path.is_dir());
        let recordings = recordings.map(Path::to_owned).or_else(beside);
        Self { ledger, recordings, roots }
    }
    fn reader(&self) -> Result<LedgerReader, Failure> {
        reader(&self.ledger)
    }
    /// Verifies it, with its recordings where they are.
    pub(super) fn verify(&self, outside: Outside) -> Result<Report, Failure> {
        let recordings = match &self.recordings {
            Some(path) => Some(RecordingReader::new(Arc::new(Directory::shared(path).map_err(unreadable)?))),
            None => None,
        };
        verify(&self.reader()?, recordings.as_ref(), outside).map_err(unreadable)
    }
}

/// The state directory, where there is one, and the ledger in it.
fn found(directory: &Path) -> Result<(Option<&Path>, PathBuf), Failure> {
    let inner = directory.join("ledger");
    let (state, ledger) =
        if inner.is_dir() { (Some(directory), inner) } else { (directory.parent(), directory.to_owned()) };
    if !ledger.join("entries").is_dir() {
        return Err(Failure::unsure(format!("{} holds no ledger", directory.display()))
            .hint("name a state directory, or a ledger directory with `entries` in it"));
    }
    Ok((state, ledger))
}

fn reader(ledger: &Path) -> Result<LedgerReader, Failure> {
    Ok(LedgerReader::new(Arc::new(Directory::shared(ledger).map_err(unreadable)?)))
}

fn unknown_roots() -> Failure {
    Failure::unsure("the roots of the log are not known")
        .hint("--roots FILE, with the keys that `chancery init` printed")
}

pub(super) fn parsed(roots: &str) -> Result<Roots, Failure> {
    Roots::parse(roots).map_err(|error| Failure::usage(format!("the roots: {error}")))
}

pub(crate) fn given(roots: &str) -> Result<String, Failure> {
    if !Path::new(roots).is_file() {
        return Ok(roots.trim().to_owned());
    }
    let bytes = read_small(Path::new(roots), ROOTS_BYTES_MAX).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The roots that the state directory names for itself. Whoever changed the ledger could have changed them, too: those
/// that were kept elsewhere prove more.
pub(crate) fn own_roots(state: &Path) -> Option<String> {
    if let Ok(bytes) = read_small(&state.join(ROOTS_FILE), ROOTS_BYTES_MAX) {
        return Some(String::from_utf8_lossy(&bytes).trim().to_owned());
    }
    let origin = fs::read_to_string(state.join("origin")).ok()?;
    let seed = read_small(&state.join("keys/log-ed25519.seed"), 32).ok()?;
    let seed: &[u8; 32] = seed.as_slice().try_into().ok()?;
    LogSigner::from_seed(origin.trim_end(), seed).ok().map(|signer| signer.verifier_key())
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::unsure(format!("the ledger cannot be read: {error}"))
}

fn status(args: &args::Config, out: Out) -> Done {
    let configuration = check::configuration(&args.config)?;
    let place = Place::of(&configuration.state, None, None)?;
    let reader = place.reader()?;
    let note = reader.checkpoint().map_err(unreadable)?;
    let head = note.map(|note| place.roots.log().open(&note)).transpose();
    let head = head.map_err(|error| Failure::no(format!("the checkpoint: {error}")))?.map(|signed| signed.checkpoint);
    let from = head.as_ref().map_or(0, |head| head.size);
    let (mut size, mut last, mut damage) = (from, None, None);
    let visited = reader.visit(from.saturating_sub(1), |index, item| {
        match item {
            LedgerItem::Entry(line) => {
                size = index + 1;
                last = Leaf::parse(line, index).ok().map(|leaf| Timestamp(leaf.wall));
            }
            LedgerItem::Pruned(..) => size = index + 1,
            LedgerItem::Damaged(what) => damage = Some(what),
        }
        ControlFlow::Continue(())
    });
    visited.map_err(unreadable)?;
    let root = head.as_ref().map(|head| head.root.to_string());
    let time = last.map(|last| last.to_string());
    out.line(format!("key         {}", clean(&place.roots.log().verifier_key())));
    out.line(format!("entries     {size}"));
    out.line(format!("checkpoint  {from} entries, root {}", root.as_deref().unwrap_or("-")));
    out.line(format!("last entry  {}", time.as_deref().unwrap_or("-")));
    let archived = reader.archived().map_err(unreadable)?.and_then(|note| place.roots.log().open(&note).ok());
    let archived = archived.map(|signed| signed.checkpoint.size);
    if configuration.archive.is_some() {
        let word = archived.map_or("nothing yet".to_owned(), |size| format!("{size} entries"));
        out.line(format!("archived    {word} (`chancery archive status` asks the archive)"));
    }
    let witness = WitnessState::read(&configuration.state.join(WITNESS)).ok();
    let witness = witness.as_ref().map(WitnessState::verifier_key);
    out.line(format!("as witness  {}", clean(witness.unwrap_or("-"))));
    if let Some(damage) = damage {
        out.line(format!("damaged     after entry {size}: {damage}"));
    }
    out.document(&json!({ "key": place.roots.log().verifier_key(), "entries": size, "checkpoint": from, "root": root, "last": time,
                          "archived": archived, "damaged": damage, "witness_key": witness }));
    Ok(if damage.is_none() { Exit::Yes } else { Exit::No })
}

fn exported(args: &args::ExportLedger, out: Out) -> Done {
    let directory = match &args.from {
        Some(directory) => directory.clone(),
        None => check::configuration(&args.config.config)?.state,
    };
    let inner = directory.join("ledger");
    let ledger = if inner.is_dir() { inner } else { directory };
    let reader = LedgerReader::new(Arc::new(Directory::shared(&ledger).map_err(unreadable)?));
    let done = export(&reader, &args.out).map_err(|error| match error {
        ExportError::Exists(_) => Failure::no(error).hint("name a directory that is not there yet"),
        ExportError::NoCheckpoint => Failure::unsure(error).hint("a running gateway signs one within a second"),
        ExportError::Wrong(_) => Failure::no(error).hint("`chancery ledger verify` says where it is wrong"),
        error => Failure::unsure(error),
    })?;
    let Checkpoint { origin, size, root } = &done.checkpoint;
    out.line(format!("{}: {size} entries, root {root}, {} files", clean(origin), done.files));
    out.document(&json!({ "origin": origin, "entries": size, "root": root.to_string(), "files": done.files,
                          "directory": args.out }));
    Ok(Exit::Yes)
}

/// A text file that was named: a policy, a checkpoint.
pub(super) fn text(path: &Path) -> Result<String, Failure> {
    let bytes = read_small(path, NOTE_BYTES_MAX);
    let bytes = bytes.map_err(|error| Failure::unsure(format!("{}: {error}", path.display())))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Failure::unsure(format!("{}: not text", path.display())))
}

/// A policy of witnesses that was named.
pub(super) fn policy(path: Option<&PathBuf>) -> Result<Option<WitnessPolicy>, Failure> {
    let policy = path.map(|path| text(path)).transpose()?;
    let policy = policy.as_deref().map(WitnessPolicy::parse).transpose();
    policy.map_err(|error| Failure::usage(format!("the policy: {error}")))
}

fn verified(args: &args::Verify, out: Out) -> Done {
    if args.directories.len() > 1 || args.registry.is_some() {
        return several::verified(args, out);
    }
    if args.roots.len() > 1 {
        return Err(Failure::usage("the roots of several logs were given, and one log"));
    }
    let directory = match args.directories.first() {
        Some(directory) => directory.clone(),
        None => check::configuration(&args.config.config)?.state,
    };
    let place = Place::of(&directory, args.roots.first().map(String::as_str), args.recordings.as_deref())?;
    let checkpoints = args.checkpoints.iter().map(|path| text(path)).collect::<Result<_, _>>()?;
    let outside = Outside { roots: place.roots.clone(), witnesses: policy(args.policy.as_ref())?, checkpoints };
    let unwitnessed = outside.witnesses.is_none();
    let report = place.verify(outside)?;
    say_findings(&report.findings, out);
    say_verdict(&report, out);
    if unwitnessed {
        out.line(NOT_EXCLUDED);
    }
    let mut document = documented(&report, &place.roots);
    if let Some(fields) = document.as_object_mut() {
        let excluded = !unwitnessed && report.verdict() == Verdict::Pass;
        fields.insert("rewrite_excluded".to_owned(), excluded.into());
    }
    out.document(&document);
    Ok(exit_of(report.verdict()))
}

const NOT_EXCLUDED: &str =
    "not excluded: that who held all keys from the beginning wrote it anew (no --policy says who witnessed it)";

pub(super) fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Pass => Exit::Yes,
        Verdict::Fail => Exit::No,
        Verdict::Inconclusive => Exit::Unsure,
    }
}

pub(super) fn say_findings(findings: &[Finding], out: Out) {
    for finding in findings {
        let word = format!("{:<12}", finding.verdict.to_string());
        let at = finding.entry.map_or(String::new(), |entry| format!("  entry {entry}"));
        let what = if finding.what.is_empty() { String::new() } else { format!("  {}", clean(&finding.what)) };
        out.line(format!("{} {:<11}{at}{what}", out.paint(exit_of(finding.verdict), &word), finding.check.as_str()));
    }
}

pub(super) fn say_verdict(report: &Report, out: Out) {
    let verdict = report.verdict();
    let shown = out.paint(exit_of(verdict), &verdict.to_string());
    out.line(format!("{shown}: {} entries, root {}", report.size, report.root));
    if let Some(bad) = report.first_bad_entry() {
        out.line(format!("first bad entry: {bad}"));
    }
}

pub(super) fn findings_document(findings: &[Finding]) -> Vec<serde_json::Value> {
    let one = |one: &Finding| {
        json!({ "check": one.check.as_str(), "verdict": one.verdict.to_string(), "entry": one.entry,
                "last": one.last, "what": one.what, "failures": one.failures })
    };
    findings.iter().map(one).collect()
}

/// What is said of one log.
fn documented(report: &Report, roots: &Roots) -> serde_json::Value {
    json!({ "verdict": report.verdict().to_string(), "entries": report.size, "root": report.root.to_string(),
            "first_bad_entry": report.first_bad_entry(), "key": roots.log().verifier_key(),
            "findings": findings_document(&report.findings) })
}
