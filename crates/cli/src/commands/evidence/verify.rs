//! `chancery evidence verify`: offline; keys come from the command line alone.

use std::path::Path;

use chancery_evidence::{PackFinding, PackReport, PackVerifier, Trusted};
use chancery_ledger::Verdict;
use chancery_policy::approval::{NAMESPACE, verify_sshsig};

use super::{read, several};
use crate::args;
use crate::commands::ledger;
use crate::output::{Done, Exit, Out, clean};

/// What is said where no policy was given.
pub(super) const NOT_EXCLUDED: &str =
    "not excluded: that who held all keys from the beginning wrote it anew (no --policy says who witnessed it)";
/// What is said where the registry's key was not given.
pub(super) const NOT_CHECKED: &str =
    "not checked: origins (without --registry-key nothing says whether there are packs of other gateways)";

pub(super) fn run(args: &args::VerifyPack, out: Out) -> Done {
    match (args.packs.as_slice(), args.roots.as_slice()) {
        ([pack], [roots]) if args.outside.registry_key.is_none() => one(args, pack, roots, out),
        _ => several::verified(args, out),
    }
}

fn one(args: &args::VerifyPack, pack: &Path, roots: &str, out: Out) -> Done {
    let roots = ledger::parsed(&ledger::given(roots)?)?;
    let witnesses = ledger::policy(args.policy.as_ref())?;
    let checkpoints = args.checkpoints.iter().map(|path| ledger::text(path)).collect::<Result<_, _>>()?;
    let mut verifier = PackVerifier::new(Trusted { roots, witnesses, checkpoints, signatures: Some(holds) });
    read::feed(pack, &mut verifier)?;
    let report = verifier.finish().map_err(read::malformed)?;
    let remarks: &[&str] = if args.policy.is_some() { &[NOT_CHECKED] } else { &[NOT_EXCLUDED, NOT_CHECKED] };
    said(&report, args.explain, remarks, out);
    out.document(&report.document());
    Ok(exit_of(report.verdict()))
}

pub(super) fn holds(signature: &str, key: &str, message: &[u8]) -> bool {
    verify_sshsig(signature, key, NAMESPACE, message).is_ok()
}

pub(super) fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Pass => Exit::Yes,
        Verdict::Fail => Exit::No,
        Verdict::Inconclusive => Exit::Unsure,
    }
}

pub(super) fn say_finding(finding: &PackFinding, explain: bool, out: Out) {
    let word = format!("{:<12}", finding.verdict.to_string());
    let at = finding.entry.map_or(String::new(), |entry| format!("  entry {entry}"));
    let what = if finding.what.is_empty() { String::new() } else { format!("  {}", clean(&finding.what)) };
    out.line(format!("{} {:<11}{at}{what}", out.paint(exit_of(finding.verdict), &word), finding.check));
    if explain {
        out.line(format!("             {}", meaning(finding.check)));
    }
}

/// `remarks`: what the verdict does not say.
pub(super) fn said(report: &PackReport, explain: bool, remarks: &[&str], out: Out) {
    let manifest = &report.manifest;
    out.line(format!("period  {} to {}", clean(&manifest.period.0), clean(&manifest.period.1)));
    report.checks.iter().for_each(|finding| say_finding(finding, explain, out));
    let shown = out.paint(exit_of(report.verdict()), &report.verdict().to_string());
    out.line(format!("{shown}: {} entries, root {}", report.size, report.root));
    if let Some(bad) = report.first_bad_entry {
        out.line(format!("first bad entry: {bad}"));
    }
    remarks.iter().for_each(|remark| out.line(remark));
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
        "origins" => "there is a pack of every log that is registered, none of them older than the registry knows it",
        "controls" => "the results of the controls follow from the entries, to the byte",
        _ => "",
    }
}
