//! `chancery evidence verify` of several packs, and of what the registry says of them: each by itself, then whether there is one
//! of each log.

use std::path::Path;

use chancery_evidence::{Origins, PackFinding, PackReport, PackVerifier, RegistryCopy, Trusted};
use chancery_ledger::{LogVerifier, Roots, Verdict};
use chancery_store::RegistryFiles;
use serde_json::json;

use super::read;
use super::verify::{NOT_CHECKED, NOT_EXCLUDED, exit_of, holds, said, say_finding};
use crate::args;
use crate::commands::{ledger, registry};
use crate::output::{Done, Failure, Out, clean};

/// A pack and the log that it says it is of.
struct Pack<'a> {
    path: &'a Path,
    origin: String,
}

impl Pack<'_> {
    fn has(&self, note: &str) -> bool {
        is_of(note, &self.origin)
    }
}

/// A pack that was verified.
struct Verified<'a> {
    pack: &'a Pack<'a>,
    roots: Roots,
    report: PackReport,
}

pub(super) fn verified(args: &args::VerifyPack, out: Out) -> Done {
    let (mut packs, mut copies) = (Vec::new(), Vec::new());
    for path in &args.packs {
        let (origin, copy) = read::preface(path)?;
        packs.push(Pack { path, origin });
        keep(&mut copies, path, copy);
    }
    let key = args.outside.registry_key.as_deref().map(registry::key).transpose()?;
    let notes = args.checkpoints.iter().map(|path| ledger::text(path)).collect::<Result<Vec<_>, _>>()?;
    let of_registry = |note: &String| key.as_ref().is_some_and(|key| is_of(note, key.name()));
    let (registry_notes, notes): (Vec<String>, Vec<String>) = notes.into_iter().partition(of_registry);
    let origins = key.as_ref().map(|key| origins(&args.outside, key, copies, &registry_notes)).transpose()?;
    let given = args.roots.iter().map(|one| ledger::parsed(&ledger::given(one)?)).collect::<Result<Vec<_>, _>>()?;
    let mut all = Vec::new();
    for pack in &packs {
        let roots = roots(pack, &given, origins.as_ref())?;
        // What is of none of the packs is a failure of the first.
        let stray = |note: &str| all.is_empty() && !packs.iter().any(|pack| pack.has(note));
        let checkpoints = notes.iter().filter(|note| pack.has(note) || stray(note.as_str())).cloned();
        let report = verify(args, pack, &roots, checkpoints.collect(), origins.as_ref())?;
        all.push(Verified { pack, roots, report });
    }
    let handed: Vec<_> = all.iter().map(|one| (&one.report, &one.roots)).collect();
    let found = match &origins {
        Some(origins) => origins.check(&handed),
        None => Origins::twice(&handed),
    };
    say(args, &all, origins.as_ref(), &found, out)
}

/// The log that a note says it is of is in its first line.
fn is_of(note: &str, origin: &str) -> bool {
    note.lines().next() == Some(origin)
}

/// Most packs have the same copy.
fn keep(copies: &mut Vec<(String, RegistryCopy)>, path: &Path, copy: Option<RegistryCopy>) {
    if let Some(copy) = copy.filter(|copy| !copies.iter().any(|(_, known)| known == copy)) {
        copies.push((path.display().to_string(), copy));
    }
}

fn origins(
    outside: &args::Origins,
    key: &LogVerifier,
    mut copies: Vec<(String, RegistryCopy)>,
    notes: &[String],
) -> Result<Origins, Failure> {
    if let Some(directory) = &outside.registry {
        let files = RegistryFiles::read(directory).map_err(|error| registry::failure(&error))?;
        let stamped = files.stamps.into_iter().map(|stamp| stamp.note);
        let checkpoints = files.checkpoints.into_iter().chain(stamped).collect();
        keep(&mut copies, directory, Some(RegistryCopy { entries: files.entries, checkpoints }));
    }
    let policy = ledger::policy(outside.registry_policy.as_ref())?;
    Ok(Origins::read(key, &copies, notes, policy.as_ref()))
}

fn roots(pack: &Pack<'_>, given: &[Roots], origins: Option<&Origins>) -> Result<Roots, Failure> {
    let registered = || origins.and_then(Origins::registry).and_then(|registry| registry.origin(&pack.origin));
    let given = given.iter().find(|roots| roots.log().name() == pack.origin).cloned();
    if let Some(roots) = given.or_else(|| registered().map(|known| known.roots.clone())) {
        return Ok(roots);
    }
    match origins.and_then(Origins::failure) {
        Some(what) => Err(Failure::no(clean(what))),
        None => Err(Failure::usage(format!("the roots of {} are not known", clean(&pack.origin)))
            .hint("--roots FILE for each log, or --registry-key with a registry in which it is")),
    }
}

fn verify(
    args: &args::VerifyPack,
    pack: &Pack<'_>,
    roots: &Roots,
    mut checkpoints: Vec<String>,
    origins: Option<&Origins>,
) -> Result<PackReport, Failure> {
    // Whatever the registry heard of the log, its pack must have.
    let registered = origins.and_then(Origins::registry).and_then(|registry| registry.origin(&pack.origin));
    checkpoints.extend(registered.into_iter().flat_map(|known| known.notes()));
    let witnesses = ledger::policy(args.policy.as_ref())?;
    let trusted = Trusted { roots: roots.clone(), witnesses, checkpoints, signatures: Some(holds) };
    let mut verifier = PackVerifier::new(trusted);
    read::feed(pack.path, &mut verifier)?;
    verifier.finish().map_err(read::malformed)
}

fn say(
    args: &args::VerifyPack,
    all: &[Verified<'_>],
    origins: Option<&Origins>,
    found: &[PackFinding],
    out: Out,
) -> Done {
    for Verified { pack, report, .. } in all {
        out.line(format!("{} of {}:", clean(&pack.path.display().to_string()), clean(&pack.origin)));
        said(report, args.explain, &[], out);
        out.line("");
    }
    let registry = origins.and_then(Origins::registry).map(chancery_ledger::Registry::head);
    if let Some(head) = &registry {
        out.line(format!("registry  {} entries of {}, root {}", head.size, clean(&head.origin), head.root));
    }
    found.iter().for_each(|one| say_finding(one, args.explain, out));
    let packs = all.iter().map(|one| one.report.verdict());
    let verdict = packs.chain(found.iter().map(|one| one.verdict)).max().unwrap_or(Verdict::Inconclusive);
    let shown = out.paint(exit_of(verdict), &verdict.to_string());
    out.line(format!("{shown}: {}", if let [_] = all { "1 pack".to_owned() } else { format!("{} packs", all.len()) }));
    if origins.is_none() {
        out.line(NOT_CHECKED);
    }
    if args.policy.is_none() {
        out.line(NOT_EXCLUDED);
    }
    let document = |one: &Verified<'_>| {
        let mut document = one.report.document();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("pack".to_owned(), json!(one.pack.path));
            fields.insert("origin".to_owned(), json!(one.pack.origin));
        }
        document
    };
    let registry =
        registry.map(|head| json!({ "name": head.origin, "entries": head.size, "root": head.root.to_string() }));
    let made = origins.is_some() || !found.is_empty();
    let found = made.then(|| found.iter().map(PackFinding::document).collect::<Vec<_>>());
    out.document(&json!({ "verdict": verdict.to_string(), "packs": all.iter().map(document).collect::<Vec<_>>(),
                          "registry": registry, "origins": found }));
    Ok(exit_of(verdict))
}
