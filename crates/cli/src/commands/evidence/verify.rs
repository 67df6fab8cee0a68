//! `chancery evidence verify`: offline; keys come from the command line alone.

use std::path::PathBuf;

use chancery_evidence::{PackReport, PackVerifier, Trusted};
use chancery_ledger::{Roots, Verdict, WitnessPolicy};
use chancery_policy::approval::{NAMESPACE, verify_sshsig};

use super::read;
use crate::args;
use crate::commands::ledger::given;
use crate::local::read_small;
use crate::output::{Done, Exit, Failure, Out, clean};

const NOTE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn run(args: &args::VerifyPack, out: Out) -> Done {
    let roots = Roots::parse(&given(&args.roots)?).map_err(|error| Failure::usage(format!("the roots: {error}")))?;
    let text = |path: &PathBuf| {
        let bytes = read_small(path, NOTE_BYTES_MAX);
        let bytes = bytes.map_err(|error| Failure::unsure(format!("{}: {error}", path.display())))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Failure::unsure(format!("{}: not text", path.display())))
    };
    let policy = args.policy.as_ref().map(text).transpose()?;
    let witnesses = policy.as_deref().map(WitnessPolicy::parse).transpose();
    let witnesses = witnesses.map_err(|error| Failure::usage(format!("the policy: {error}")))?;
    let checkpoints = args.checkpoints.iter().map(text).collect::<Result<_, _>>()?;
    let unwitnessed = witnesses.is_none();
    let mut verifier = PackVerifier::new(Trusted { roots, witnesses, checkpoints, signatures: Some(holds) });
    read::feed(&args.pack, &mut verifier)?;
    let report = verifier.finish().map_err(read::malformed)?;
    said(&report, args.explain, unwitnessed, out);
    Ok(exit_of(report.verdict()))
}

fn holds(signature: &str, key: &str, message: &[u8]) -> bool {
    verify_sshsig(signature, key, NAMESPACE, message).is_ok()
}

fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Pass => Exit::Yes,
        Verdict::Fail => Exit::No,
        Verdict::Inconclusive => Exit::Unsure,
    }
}

fn said(report: &PackReport, explain: bool, unwitnessed: bool, out: Out) {
    let manifest = &report.manifest;
    out.line(format!("period  {} to {}", clean(&manifest.period.0), clean(&manifest.period.1)));
    for finding in &report.checks {
        let word = format!("{:<12}", finding.verdict.to_string());
        let at = finding.entry.map_or(String::new(), |entry| format!("  entry {entry}"));
        let what = if finding.what.is_empty() { String::new() } else { format!("  {}", clean(&finding.what)) };
        out.line(format!("{} {:<11}{at}{what}", out.paint(exit_of(finding.verdict), &word), finding.check));
        if explain {
            out.line(format!("             {}", meaning(finding.check)));
        }
    }
    let shown = out.paint(exit_of(report.verdict()), &report.verdict().to_string());
    out.line(format!("{shown}: {} entries, root {}", report.size, report.root));
    if let Some(bad) = report.first_bad_entry {
        out.line(format!("first bad entry: {bad}"));
    }
    if unwitnessed {
        out.line(
            "not excluded: that who held all keys from the beginning wrote it anew (no --policy says who witnessed it)",
        );
    }
    out.line("controls, derived from the entries:");
    for (control, found) in report.controls.all() {
        let result = match found.result() {
            "exceptions" => format!("{} of {} are exceptions", found.count, found.tested),
            "not tested" => format!("not tested: {}", found.untested.unwrap_or_default()),
            _ => format!("holds for {}", found.tested),
        };
        out.line(format!("  {:<20} {result}", control.id));
        for one in found.exceptions.iter().take(if explain { 10 } else { 0 }) {
            let at = one.entry.map_or(String::new(), |entry| format!("entry {entry}: "));
            out.line(format!("      {at}{}", clean(&one.what)));
        }
    }
    out.document(&report.document());
}

/// What a check means, for who did not write it.
fn meaning(check: &str) -> &'static str {
    match check {
        "container" => "the file has the one form that a pack can have; nothing hides between its parts",
        "manifest" => "every file is there, none besides, and each is the one that the manifest lists",
        "lines" => {
            "each entry has its form and place; where its hash is on file, it is that entry, or was pruned by one"
        }
        "order" => "times never run backwards from entry to entry",
        "checkpoints" => "the entries are those whose root the log's key signed",
        "ladder" => {
            "each epoch was sealed by the key of the one before: who has today's keys could not change yesterday"
        }
        "witnesses" => {
            "independent parties saw these entries; without them, the holder of all keys could have rewritten all"
        }
        "tail" => "nothing is missing at the end, as far as a signed head says",
        "sessions" => "every command has an outcome, and every session an end",
        "rolling" => "no entry of a session was added or taken away",
        "tiles" => "the hashes in the pack are those of its entries",
        "recordings" => "what was recorded of each session is whole, in order, and that session's",
        "directory" => "the names behind the ids are those that were committed to at the time",
        "rules" => "the texts of rules are those that were in force",
        "approvals" => "each signed approval holds under the key that it names, over the command it was given for",
        "populations" => "every list follows from the entries, to the byte: nothing was left out of it",
        "controls" => "the results of the controls follow from the entries, to the byte",
        _ => "",
    }
}
