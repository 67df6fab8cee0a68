//! `chancery archive`: how far the archive is, and the way back from it. Writes nothing into the archive, ever.

use std::path::PathBuf;
use std::sync::Arc;

use chancery_gateway::{Archive, ArchiveFault, ArchivePlace, Archived};
use chancery_ledger::{Checkpoint, Roots};
use chancery_model::Digest;
use chancery_store::{Directory, LedgerReader, RecordingReader, Restore, RestoreReport, verify};
use serde_json::json;

use crate::args;
use crate::commands::check;
use crate::commands::ledger::{NOTE_BYTES_MAX, given, own_roots};
use crate::config::{Configuration, archive_place};
use crate::local::read_small;
use crate::output::{Done, Exit, Failure, Out, clean};

const PEM_BYTES_MAX: u64 = 4 << 20;

pub(crate) async fn run(args: args::Archive, out: Out) -> Done {
    match args {
        args::Archive::Status(args) => status(&args, out).await,
        args::Archive::Restore(args) => restore(&args, out).await,
    }
}

fn failed(fault: ArchiveFault) -> Failure {
    match &fault {
        ArchiveFault::Store(_) => {
            Failure::unsure(&fault).hint("is it the right endpoint, and are the credentials set?")
        }
        ArchiveFault::Settings(_) => Failure::usage(&fault),
        ArchiveFault::Missing(_) => Failure::no(&fault).hint("is it the right bucket and prefix?"),
        _ => Failure::no(&fault),
    }
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::unsure(format!("the ledger cannot be read: {error}"))
}

fn roots(text: &str) -> Result<Roots, Failure> {
    Roots::parse(text).map_err(|error| Failure::usage(format!("the roots: {error}")))
}

fn configured(configuration: &Configuration) -> Result<ArchivePlace, Failure> {
    let archive = configuration.archive.as_ref().map(|archive| archive.place.clone());
    archive.ok_or_else(|| Failure::unsure("no archive is configured").hint("`archive` in [gateway], or --from URL"))
}

async fn last(archive: &Archive, roots: &Roots) -> Result<Option<Archived>, Failure> {
    archive.last(roots.log()).await.map_err(failed)
}

/// What is here, and how much of it is there.
async fn status(args: &args::Config, out: Out) -> Done {
    let configuration = check::configuration(&args.config)?;
    let archive = Archive::open(&configured(&configuration)?).map_err(failed)?;
    let own = own_roots(&configuration.state).ok_or_else(|| unreadable("the roots of the log are not known"))?;
    let roots = roots(&own)?;
    let open = |name| Directory::shared(&configuration.state.join(name)).map(Arc::new).map_err(unreadable);
    let (ledger, recordings) = (LedgerReader::new(open("ledger")?), RecordingReader::new(open("recordings")?));
    let here = ledger.checkpoint().map_err(unreadable)?.map(|note| roots.log().open(&note)).transpose();
    let here = here.map_err(unreadable)?.map_or(0, |signed| signed.checkpoint.size);
    let Some(there) = last(&archive, &roots).await? else {
        out.line(format!("archived    nothing yet; {here} entries are signed here"));
        out.document(&json!({ "entries": 0, "root": null, "at": null, "signed": here, "behind": here }));
        return Ok(Exit::No);
    };
    let mark = archive.recorded().await.map_err(failed)?;
    let (mut bytes, mut files) = (0_u64, 0_u64);
    let read = tokio::task::block_in_place(|| {
        recordings.pieces(mark, |piece| {
            bytes += piece.bytes.len() as u64;
            files = files.max(piece.mark.file + 1 - mark.file);
            std::ops::ControlFlow::Continue(())
        })
    });
    read.map_err(unreadable)?;
    let head = &there.signed.checkpoint;
    let behind = here.saturating_sub(head.size);
    out.line(format!("archived    {} entries, root {}, at {}", head.size, head.root, there.at));
    out.line(format!("not yet     {behind} of {here} signed entries, {bytes} bytes of recordings"));
    skipped(&there, out);
    if head.size > here {
        out.line("the archive has more entries than this ledger: it was put back to an earlier state");
    }
    out.document(&json!({ "entries": head.size, "root": head.root.to_string(), "at": there.at.to_string(),
                          "signed": here, "behind": behind, "recording_bytes_behind": bytes, "skipped": there.skipped }));
    Ok(if head.size > here { Exit::No } else { Exit::Yes })
}

fn skipped(there: &Archived, out: Out) {
    for size in &there.skipped {
        out.line(format!("foreign     checkpoints/{size:020} in the archive is not signed by the log"));
    }
}

fn place(args: &args::ArchiveRestore) -> Result<ArchivePlace, Failure> {
    let Some(url) = &args.from else { return configured(&check::configuration(&args.config.config)?) };
    let ca = args.ca.as_ref().map(|path| {
        let bytes = read_small(path, PEM_BYTES_MAX);
        bytes.map(|bytes| bytes.to_vec()).map_err(|error| Failure::unsure(format!("{}: {error}", path.display())))
    });
    let place = archive_place(url, args.endpoint.as_deref(), args.region.clone(), ca.transpose()?, false);
    place.map_err(|(why, hint)| Failure::usage(why).hint(hint))
}

/// Checkpoints from elsewhere. The log's signature is enough: who kept one need not have kept that of the epoch.
fn seen(paths: &[PathBuf], roots: &Roots) -> Result<Vec<Checkpoint>, Failure> {
    let one = |path: &PathBuf| {
        let bytes = read_small(path, NOTE_BYTES_MAX);
        let bytes = bytes.map_err(|error| Failure::unsure(format!("{}: {error}", path.display())))?;
        let note = String::from_utf8_lossy(&bytes).into_owned();
        let signed = roots.log().open(&note);
        let signed = signed.map_err(|error| Failure::no(format!("{}: {error}", path.display())))?;
        Ok(signed.checkpoint)
    };
    paths.iter().map(one).collect()
}

async fn restore(args: &args::ArchiveRestore, out: Out) -> Done {
    let archive = Archive::open(&place(args)?).map_err(failed)?;
    let text = match &args.roots {
        Some(roots) => given(roots)?,
        None => archive.roots().await.map_err(failed)?,
    };
    let roots = roots(&text)?;
    let seen = seen(&args.checkpoints, &roots)?;
    let there = last(&archive, &roots).await?;
    let there = there.ok_or_else(|| Failure::no("the archive has no checkpoint that this log signed"))?;
    let size = there.signed.checkpoint.size;
    let witnessed = archive.witnessed(roots.log(), size).await.map_err(failed)?;
    let to = Restore::create(&args.directory, &format!("{}\n", text.trim()), there.signed.clone(), &seen);
    let to = to.map_err(|error| failed(error.into()))?;
    let incomplete =
        |fault: ArchiveFault| failed(fault).hint(format!("{} is not whole: do not use it", args.directory.display()));
    let report = archive.restore(to, size, witnessed.as_deref()).await.map_err(incomplete)?;
    let later = seen.iter().map(|head| head.size).max().filter(|later| *later > size);
    let (verdict, root) = tokio::task::block_in_place(|| verified(args, roots))?;
    Ok(tell(&Restored { there: &there, report: &report, later, verdict, root, own: args.roots.is_none() }, args, out))
}

/// The whole of it, read back by the verifier.
fn verified(args: &args::ArchiveRestore, roots: Roots) -> Result<(chancery_ledger::Verdict, Digest), Failure> {
    let open = |name| Directory::shared(&args.directory.join(name)).map(Arc::new).map_err(unreadable);
    let (ledger, recordings) = (LedgerReader::new(open("ledger")?), RecordingReader::new(open("recordings")?));
    let report = verify(&ledger, Some(&recordings), roots).map_err(unreadable)?;
    Ok((report.verdict(), report.root))
}

struct Restored<'r> {
    there: &'r Archived,
    report: &'r RestoreReport,
    /// Entries that a checkpoint from elsewhere has, where they are more.
    later: Option<u64>,
    verdict: chancery_ledger::Verdict,
    root: Digest,
    /// The roots are those that the archive names for itself.
    own: bool,
}

/// Says what is there and what is not. Exit 1 if something is missing that the restored entries speak of.
fn tell(done: &Restored<'_>, args: &args::ArchiveRestore, out: Out) -> Exit {
    let (report, size) = (done.report, done.report.head.size);
    let whole = report.faults.is_empty() && report.lost.is_empty() && done.verdict != chancery_ledger::Verdict::Fail;
    let exit = if whole { Exit::Yes } else { Exit::No };
    out.line(format!("restored    {size} entries, root {}, archived at {}", done.root, done.there.at));
    out.line(format!("recordings  {} files, {} bytes", report.files, report.bytes));
    out.line(format!("verified    {}", out.paint(exit, &done.verdict.to_string())));
    skipped(done.there, out);
    for fault in &report.faults {
        out.line(format!("missing     recording file {} (entry {}): {}", fault.file, fault.entry, fault.what));
    }
    for lost in &report.lost {
        let what = format!(
            "recording of session {}: {} entries name blocks that are not there, the first is entry {}",
            lost.session, lost.entries, lost.first
        );
        out.line(format!("missing     {what}"));
    }
    match done.later {
        Some(later) => {
            out.line(format!("missing     entries {size} to {}: a checkpoint of {later} entries was given", later - 1))
        }
        None if args.checkpoints.is_empty() => {
            out.line(format!(
                "unknown     what was written from entry {size} on, if anything: --checkpoint FILE, from a witness"
            ));
        }
        None => out.line(format!(
            "unknown     what was written from entry {size} on, if anything: no checkpoint given is later"
        )),
    }
    for session in &report.open {
        out.line(format!(
            "open        session {session} had no end at entry {}; the rest of it is not there",
            size - 1
        ));
    }
    if done.own {
        out.line("not excluded: that another log was put into the archive (no --roots FILE, kept elsewhere)");
    }
    out.line(format!(
        "{} is a copy for readers: no gateway can go on with it",
        clean(&args.directory.display().to_string())
    ));
    let faults: Vec<_> =
        report.faults.iter().map(|one| json!({ "file": one.file, "entry": one.entry, "what": one.what })).collect();
    let lost: Vec<_> = report
        .lost
        .iter()
        .map(|one| json!({ "session": one.session.to_string(), "first": one.first, "entries": one.entries }))
        .collect();
    let open: Vec<String> = report.open.iter().map(ToString::to_string).collect();
    let missing = done.later.map(|later| json!({ "from": size, "to": later - 1 }));
    out.document(&json!({ "entries": size, "root": done.root.to_string(), "at": done.there.at.to_string(),
                          "verdict": done.verdict.to_string(), "recording_files": report.files,
                          "recording_bytes": report.bytes, "missing_entries": missing, "missing_files": faults,
                          "missing_recordings": lost, "open_sessions": open, "skipped": done.there.skipped,
                          "roots_from_archive": done.own, "directory": args.directory }));
    exit
}
