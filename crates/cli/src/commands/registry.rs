//! `chancery registry`: the log of logs. Each command works on one directory and ends; whoever keeps it runs them by hand or by
//! a timer.

mod stamp;

use std::path::{Path, PathBuf};

use chancery_gateway::{WitnessAnswer, WitnessClient};
use chancery_ledger::{
    Checkpoint, Grew, LogSigner, LogVerifier, RegisteredHead, Registration, Registry, Roots, SignedCheckpoint, Verdict,
};
use chancery_store::{Outside, RegistryDir, RegistryError, RegistryFiles};
use serde_json::json;

use crate::args;
use crate::commands::ledger::{self, Place, exit_of, findings_document, say_findings, say_verdict};
use crate::local::{now, read_small};
use crate::oauth;
use crate::output::{Done, Exit, Failure, Out, clean};

const ROOTS_BYTES_MAX: u64 = 4096;
const PEM_BYTES_MAX: u64 = 4 << 20;

pub(crate) async fn run(args: args::Registry, out: Out) -> Done {
    match args {
        // Reading and writing files blocks, and nothing else runs in this process.
        args::Registry::Init(args) => tokio::task::block_in_place(|| init(&args, out)),
        args::Registry::Join(args) => tokio::task::block_in_place(|| join(&args, out)),
        args::Registry::Head(args) => tokio::task::block_in_place(|| head(&args, false, out)),
        args::Registry::Retire(args) => tokio::task::block_in_place(|| head(&args, true, out)),
        args::Registry::Cosign(args) => cosign(&args, out).await,
        args::Registry::Stamp(args) => stamp::stamp(&args, out).await,
        args::Registry::Show(args) => tokio::task::block_in_place(|| show(&args, out)),
        args::Registry::Verify(args) => tokio::task::block_in_place(|| verify(&args, out)),
    }
}

fn init(args: &args::RegistryInit, out: Out) -> Done {
    let directory = &args.registry.directory;
    let registry = RegistryDir::create(directory, &args.name).map_err(|error| failure(&error))?;
    let (shown, key) = (clean(&directory.display().to_string()), registry.verifier_key());
    out.line(format!("made {shown}: the registry's key and its first checkpoint"));
    out.line("public key, for whoever verifies, to be kept elsewhere:");
    out.line(format!("  {key}"));
    out.line("next:");
    out.line(format!("  1. chancery registry join {shown} ROOTS     (what `chancery init` printed for each gateway)"));
    out.line(format!(
        "  2. chancery registry head {shown} STATE/ledger/checkpoint --ledger STATE     (each day, each gateway)"
    ));
    out.document(&json!({ "directory": directory, "name": args.name, "key": key }));
    Ok(Exit::Yes)
}

fn join(args: &args::RegistryJoin, out: Out) -> Done {
    let mut registry = open(&args.registry)?;
    let bytes = read_small(&args.roots, ROOTS_BYTES_MAX);
    let bytes = bytes.map_err(|error| Failure::unsure(format!("{} cannot be read: {error}", args.roots.display())))?;
    let roots = Roots::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| {
        Failure::usage(format!("the roots: {error}")).hint("a file with the two keys that `chancery init` printed")
    })?;
    let origin = roots.log().name().to_owned();
    let head = registry.register(&origin, Registration::Join(roots), now()).map_err(|error| failure(&error))?;
    said(&origin, "joined", &head, None, out)
}

fn head(args: &args::RegistryHead, last: bool, out: Out) -> Done {
    let mut registry = open(&args.registry)?;
    let note = ledger::text(&args.note)?;
    let origin = note.lines().next().unwrap_or_default().to_owned();
    let Some(known) = registry.registry().origin(&origin) else {
        return Err(Failure::no(format!("{origin} has not joined")).hint("chancery registry join DIR ROOTS"));
    };
    let signed = known.roots.log().open(&note);
    let signed = signed.map_err(|error| Failure::no(format!("{}: {error}", args.note.display())))?;
    let shown = match &args.ledger {
        Some(directory) => {
            let (roots, notes) = (known.roots.clone(), known.notes().collect());
            grows(directory, roots, notes, &note)?;
            true
        }
        None => known.head().is_some_and(|before| before.size == signed.checkpoint.size),
    };
    let grew = match (known.head(), shown) {
        (None, _) => Grew::First,
        (Some(_), true) => Grew::Proven,
        (Some(_), false) => Grew::Claimed,
    };
    let registered = RegisteredHead::of(&signed, grew);
    let what = if last { Registration::Retire(registered) } else { Registration::Head(registered) };
    let head = registry.register(&origin, what, now()).map_err(|error| failure(&error))?;
    let word = format!("{} with {} entries", if last { "retired" } else { "entered" }, signed.checkpoint.size);
    said(&origin, &word, &head, Some(grew), out)
}

/// The log holds, and the new head and all that are registered are of it.
fn grows(directory: &Path, roots: Roots, mut notes: Vec<String>, note: &str) -> Result<(), Failure> {
    notes.push(note.to_owned());
    let place = Place::known(directory, roots.clone())?;
    let report = place.verify(Outside { roots, witnesses: None, checkpoints: notes })?;
    match report.findings.iter().find(|one| one.verdict == Verdict::Fail) {
        None => Ok(()),
        Some(wrong) => Err(Failure::no(format!("{} does not show it: {wrong}", directory.display()))
            .hint("`chancery ledger verify` says more; keep the checkpoint, it may be evidence")),
    }
}

fn said(origin: &str, word: &str, head: &Checkpoint, grew: Option<Grew>, out: Out) -> Done {
    let grew = grew.map(Grew::as_str);
    let how = grew.map_or(String::new(), |grew| format!(", its growth {grew}"));
    out.line(format!("{} {word}{how}", clean(origin)));
    out.line(format!("registry: {} entries, root {}", head.size, head.root));
    out.document(&json!({ "origin": origin, "grew": grew, "entries": head.size, "root": head.root.to_string() }));
    Ok(Exit::Yes)
}

async fn cosign(args: &args::RegistryCosign, out: Out) -> Done {
    let registry = tokio::task::block_in_place(|| open(&args.registry))?;
    let policy = ledger::policy(Some(&args.policy))?;
    let policy = policy.filter(|policy| !policy.is_none() && policy.is_reachable()).ok_or_else(|| {
        Failure::usage("the witnesses that have an address are too few for the quorum").hint("docs/guide/witness.md")
    })?;
    if let Some((name, ..)) = policy.reachable().find(|(.., url)| oauth::checked(url).is_err()) {
        return Err(Failure::usage(format!("the address of {name} must be an https URL, or http on loopback")));
    }
    let ca = args.ca.as_ref().map(|file| read_small(file, PEM_BYTES_MAX)).transpose();
    let ca = ca.map_err(|error| Failure::unsure(format!("--ca: {error}")))?;
    let client = WitnessClient::new(&policy, ca.as_ref().map(|pem| pem.as_slice())).map_err(Failure::unsure)?;
    let head: SignedCheckpoint = registry.published();
    let prove = |old| std::future::ready(registry.consistency(old).ok_or_else(|| "there is no such proof".to_owned()));
    let mut lines = String::new();
    for (name, key, url) in policy.reachable() {
        match client.ask(0, key, url, &head, prove).await {
            WitnessAnswer::Cosigned(line) => lines.push_str(&line),
            WitnessAnswer::Conflict(why) => {
                return Err(Failure::no(format!("witness {name} saw another history of this registry: {why}"))
                    .hint("keep the directory, and add nothing to it"));
            }
            WitnessAnswer::Knows(size) => out.line(format!("{name}: it is at {size} entries")),
            WitnessAnswer::Unheard(why) => out.line(format!("{name}: {}", clean(&why))),
        }
    }
    let quorum = policy.quorum(&head.checkpoint, &lines);
    if !quorum.met {
        return Err(Failure::unsure(format!("{} witnesses cosigned, which is too few", quorum.by.len())));
    }
    let kept = tokio::task::block_in_place(|| registry.keep_witnessed(&format!("{}{lines}", head.note)));
    kept.map_err(|error| Failure::unsure(format!("the cosignatures are not kept: {error}")))?;
    let by: Vec<&String> = quorum.by.keys().collect();
    out.line(format!("{} entries, cosigned by {}", head.checkpoint.size, quorum.by.len()));
    out.document(&json!({ "entries": head.checkpoint.size, "root": head.checkpoint.root.to_string(), "by": by }));
    Ok(Exit::Yes)
}

fn show(args: &args::RegistryShow, out: Out) -> Done {
    let directory = &args.registry.directory;
    let files = RegistryFiles::read(directory).map_err(|error| failure(&error))?;
    let key = match &args.registry_key {
        Some(text) => key(text)?,
        None => own_key(directory, &files.name).ok_or_else(|| {
            Failure::unsure("the registry's key is not known").hint("--registry-key KEY, as `registry init` printed it")
        })?,
    };
    let (registry, report) = files.verify(&key, None);
    let verdict = report.verdict();
    out.line(format!("name     {}", clean(&files.name)));
    out.line(format!("key      {}", clean(&key.verifier_key())));
    out.line(format!("entries  {}", registry.head().size));
    let (rows, logs) = rows(&registry);
    out.table(&["LOG", "STATE", "SIZE", "ROOT", "HEARD"], &rows);
    if verdict == Verdict::Fail {
        say_findings(&report.findings, out);
    }
    out.document(&json!({ "name": files.name, "key": key.verifier_key(), "entries": registry.head().size,
                          "verdict": verdict.to_string(), "logs": logs }));
    Ok(if verdict == Verdict::Fail { Exit::No } else { Exit::Yes })
}

fn rows(registry: &Registry) -> (Vec<Vec<String>>, Vec<serde_json::Value>) {
    let (mut rows, mut documents) = (Vec::new(), Vec::new());
    for known in registry.origins() {
        let (origin, head) = (known.roots.log().name(), known.head());
        let state = if known.retired { "retired" } else { "joined" };
        let (size, root) = (head.map_or(0, |head| head.size), head.map(|head| head.root.to_string()));
        let shown = root.clone().unwrap_or_else(|| "-".to_owned());
        rows.push(vec![origin.to_owned(), state.to_owned(), size.to_string(), shown, known.heard.to_string()]);
        documents.push(json!({ "origin": origin, "state": state, "size": size, "root": root,
                               "grew": head.map(|head| head.grew.as_str()), "joined": known.joined.to_string(),
                               "heard": known.heard.to_string(), "key": known.roots.log().verifier_key(),
                               "ladder": known.roots.ladder_key() }));
    }
    (rows, documents)
}

fn verify(args: &args::RegistryVerify, out: Out) -> Done {
    let files = RegistryFiles::read(&args.registry.directory).map_err(|error| failure(&error))?;
    let policy = ledger::policy(args.policy.as_ref())?;
    let key = key(&args.registry_key)?;
    let (registry, mut report) = files.verify(&key, policy.as_ref());
    let mut times = Vec::new();
    if let Some(file) = &args.tsa_ca {
        let (finding, stamped) = registry.stamped(&key, &files.stamps, &stamp::authorities(file)?, now());
        report.findings.push(finding);
        times = stamped;
    }
    say_findings(&report.findings, out);
    for (size, time) in &times {
        out.line(format!("stamped: {size} entries were there at {time}"));
    }
    say_verdict(&report, out);
    let (_, logs) = rows(&registry);
    let stamps: Vec<_> =
        times.iter().map(|(size, time)| json!({ "entries": size, "time": time.to_string() })).collect();
    out.document(&json!({ "verdict": report.verdict().to_string(), "entries": report.size,
                          "root": report.root.to_string(), "findings": findings_document(&report.findings),
                          "logs": logs, "stamps": stamps }));
    Ok(exit_of(report.verdict()))
}

fn open(args: &args::RegistryDirectory) -> Result<RegistryDir, Failure> {
    RegistryDir::open(&args.directory).map_err(|error| failure(&error))
}

/// The registry's key that was given: itself, or a file.
pub(super) fn key(text: &str) -> Result<LogVerifier, Failure> {
    let text = ledger::given(text)?;
    LogVerifier::parse(text.trim()).map_err(|error| {
        Failure::usage(format!("the registry's key: {error}")).hint("as `chancery registry init` printed it")
    })
}

fn own_key(directory: &Path, name: &str) -> Option<LogVerifier> {
    let seed: PathBuf = directory.join("seed");
    let seed = read_small(&seed, 32).ok()?;
    let seed: &[u8; 32] = seed.as_slice().try_into().ok()?;
    LogVerifier::parse(&LogSigner::from_seed(name, seed).ok()?.verifier_key()).ok()
}

/// A registry that cannot be used, with what to do.
pub(super) fn failure(error: &RegistryError) -> Failure {
    match error {
        RegistryError::Exists(_) => Failure::no(error).hint("choose another directory, or use the one that is there"),
        RegistryError::NotRegistry(_) => Failure::unsure(error).hint("`chancery registry init` makes one"),
        RegistryError::InUse(_) => Failure::unsure(error).hint("another command has it open: try again"),
        RegistryError::Key(_) => Failure::no(error).hint("it is 32 bytes and of mode 0600"),
        RegistryError::Damaged(_) => {
            Failure::no(error).hint("nothing is added to it; `chancery registry verify` says more")
        }
        RegistryError::Unfit(_) => Failure::no(error).hint("docs/spec/registry.md says what fits"),
        _ => Failure::unsure(error),
    }
}
