//! `chancery ledger verify` of several logs, and of what a registry says of them: each log by itself, then whether they are all.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use chancery_ledger::{Check, Finding, Handed, Leaf, LogVerifier, Registry, Report, Roots, Verdict};
use chancery_model::Timestamp;
use chancery_store::{LedgerItem, LedgerReader, Outside, RegistryFiles};
use serde_json::json;

use super::{
    NOT_EXCLUDED, Place, documented, exit_of, findings_document, found, given, own_roots, parsed, policy, reader,
    say_findings, say_verdict, text, unknown_roots, unreadable,
};
use crate::args;
use crate::commands::{check, registry};
use crate::output::{Done, Failure, Out, clean};

/// A registry that was verified.
struct Known {
    registry: Registry,
    report: Report,
}

/// A log that was verified.
struct Log {
    directory: PathBuf,
    roots: Roots,
    report: Report,
}

pub(super) fn verified(args: &args::Verify, out: Out) -> Done {
    let known = known(args)?;
    let directories = match args.directories.as_slice() {
        [] => vec![check::configuration(&args.config.config)?.state],
        directories => directories.to_vec(),
    };
    if args.recordings.is_some() && directories.len() > 1 {
        return Err(Failure::usage("--recordings is for one log").hint("keep each log's recordings beside it"));
    }
    let roots: Vec<Roots> = args.roots.iter().map(|one| parsed(&given(one)?)).collect::<Result<_, _>>()?;
    let logs = directories.iter().map(|directory| log(args, directory, &roots, known.as_ref()));
    let logs: Vec<Log> = logs.collect::<Result<_, _>>()?;
    let origins = known.as_ref().map(|known| origins(&known.registry, &logs));
    say(&logs, known.as_ref(), origins.as_deref(), args.policy.is_some(), out)
}

fn known(args: &args::Verify) -> Result<Option<Known>, Failure> {
    let (Some(directory), Some(key)) = (&args.registry, &args.registry_key) else { return Ok(None) };
    let key = registry::key(key)?;
    let files = RegistryFiles::read(directory).map_err(|error| registry::failure(&error))?;
    let (registry, report) = files.verify(&key, policy(args.registry_policy.as_ref())?.as_ref());
    Ok(Some(Known { registry, report }))
}

fn log(args: &args::Verify, directory: &Path, roots: &[Roots], known: Option<&Known>) -> Result<Log, Failure> {
    let (state, ledger) = found(directory)?;
    let origin = origin(&reader(&ledger)?)?;
    let registered = known.and_then(|known| known.registry.origin(&origin));
    let roots = match (roots.iter().find(|roots| roots.log().name() == origin), registered) {
        (Some(given), _) => given.clone(),
        (None, Some(registered)) => registered.roots.clone(),
        (None, None) => parsed(&state.and_then(own_roots).ok_or_else(unknown_roots)?)?,
    };
    // Whatever the registry heard of the log, its copy must have.
    let mut checkpoints: Vec<String> = registered.into_iter().flat_map(|known| known.notes()).collect();
    for path in &args.checkpoints {
        let note = text(path)?;
        if note.lines().next() == Some(origin.as_str()) {
            checkpoints.push(note);
        }
    }
    let mut place = Place::known(directory, roots.clone())?;
    if let Some(recordings) = &args.recordings {
        place.recordings = Some(recordings.clone());
    }
    let report =
        place.verify(Outside { roots: roots.clone(), witnesses: policy(args.policy.as_ref())?, checkpoints })?;
    Ok(Log { directory: directory.to_owned(), roots, report })
}

/// The origin that the copy gives itself, by which its roots are found. They say whether it is right.
fn origin(reader: &LedgerReader) -> Result<String, Failure> {
    if let Some(note) = reader.checkpoint().map_err(unreadable)? {
        return Ok(note.lines().next().unwrap_or_default().to_owned());
    }
    let mut origin = None;
    let visited = reader.visit(0, |index, item| {
        match item {
            LedgerItem::Entry(line) => origin = Leaf::parse(line, index).ok().map(|leaf| leaf.origin),
            LedgerItem::Pruned(..) => return ControlFlow::Continue(()),
            LedgerItem::Damaged(_) => {}
        }
        ControlFlow::Break(())
    });
    visited.map_err(unreadable)?;
    origin.ok_or_else(|| Failure::unsure("a log has neither a checkpoint nor an entry that says whose it is"))
}

fn origins(registry: &Registry, logs: &[Log]) -> Vec<Finding> {
    let handed = |log: &Log| {
        let key: LogVerifier = log.roots.log().clone();
        Handed { origin: key.name().to_owned(), key: Some(key), size: log.report.size, root: log.report.root }
    };
    registry.check(&logs.iter().map(handed).collect::<Vec<_>>(), Timestamp(i64::MIN))
}

fn say(logs: &[Log], known: Option<&Known>, origins: Option<&[Finding]>, witnessed: bool, out: Out) -> Done {
    for log in logs {
        out.line(format!("{} in {}:", clean(log.roots.log().name()), clean(&log.directory.display().to_string())));
        say_findings(&log.report.findings, out);
        say_verdict(&log.report, out);
    }
    let mut verdict = logs.iter().map(|log| log.report.verdict()).max().unwrap_or(Verdict::Inconclusive);
    if let Some(known) = known {
        out.line(format!("registry {}:", clean(&known.registry.head().origin)));
        say_findings(&known.report.findings, out);
        verdict = verdict.max(known.report.verdict());
    }
    if let Some(origins) = origins {
        say_findings(origins, out);
        verdict = origins.iter().map(|one| one.verdict).fold(verdict, Ord::max);
    }
    out.line(format!("{}: {} logs", out.paint(exit_of(verdict), &verdict.to_string()), logs.len()));
    if known.is_none() {
        out.line(format!("not checked: {} (no --registry says which logs there are)", Check::Origins.as_str()));
    }
    if !witnessed {
        out.line(NOT_EXCLUDED);
    }
    let document = |log: &Log| {
        let mut one = documented(&log.report, &log.roots);
        if let Some(fields) = one.as_object_mut() {
            fields.insert("directory".to_owned(), json!(log.directory));
            fields.insert("origin".to_owned(), json!(log.roots.log().name()));
        }
        one
    };
    let registry = known.map(|known| {
        json!({ "name": known.registry.head().origin, "verdict": known.report.verdict().to_string(),
                "entries": known.report.size, "root": known.report.root.to_string(),
                "findings": findings_document(&known.report.findings) })
    });
    out.document(&json!({ "verdict": verdict.to_string(), "logs": logs.iter().map(document).collect::<Vec<_>>(),
                          "registry": registry, "origins": origins.map(findings_document),
                          "rewrite_excluded": witnessed && verdict == Verdict::Pass }));
    Ok(exit_of(verdict))
}
