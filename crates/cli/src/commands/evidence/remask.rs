//! `chancery evidence remask`: masks opened originals again, as the recording's mask maps say, and compares. Offline:
//! what it needs is the hand-out, the opened segments and a pack.

mod compare;
mod originals;
mod pack;

use std::path::PathBuf;

use chancery_ledger::Verdict;
use serde_json::json;

use crate::args;
use crate::output::{Done, Exit, Failure, Out, clean};
use compare::Comparison;
use originals::{Handed, Originals};
use pack::{Recorded, Stated};

/// How one check came out. Never says a value.
struct Finding {
    check: &'static str,
    verdict: Verdict,
    what: String,
}

impl Finding {
    fn pass(check: &'static str, what: String) -> Self {
        Self { check, verdict: Verdict::Pass, what }
    }
    fn doubt(check: &'static str, what: String) -> Self {
        Self { check, verdict: Verdict::Inconclusive, what }
    }
    fn fail(check: &'static str, what: String) -> Self {
        Self { check, verdict: Verdict::Fail, what }
    }
}

pub(super) fn run(args: &args::Remask, out: Out) -> Done {
    let mut handed = Handed::read(&args.handed)?;
    let session = handed.session;
    let mut strangers = Vec::new();
    for path in &args.originals {
        if !handed.place(path)? {
            strangers.push(path);
        }
    }
    let (stated, recorded) = pack::survey(&args.pack, session)?;
    if recorded.blocks == 0 && recorded.fault.is_none() {
        return Err(Failure::unsure(format!("there is no recording of session {session} in the pack"))
            .hint("a pack has the recordings of sessions of its period, but of none that ended in a crash"));
    }
    let mut findings = vec![commitments(&handed, &stated, &strangers), recording(&stated, &recorded)];
    if recorded.fault.is_none() {
        let originals = Originals::new(handed, stated.segments.keys().next_back().copied());
        let mut comparison = Comparison::new(originals, recorded.maps);
        pack::frames(&args.pack, session, |frame| comparison.frame(frame))?;
        findings.extend(comparison.finish()?);
    }
    let verdict = findings.iter().map(|finding| finding.verdict).max();
    let verdict = verdict.unwrap_or(Verdict::Inconclusive);
    out.line(format!("session      {session}"));
    for finding in &findings {
        let word = format!("{:<12}", finding.verdict.to_string());
        let word = out.paint(exit_of(finding.verdict), &word);
        out.line(format!("{word} {:<11}  {}", finding.check, clean(&finding.what)));
    }
    out.line(out.paint(exit_of(verdict), &verdict.to_string()));
    out.line("the pack itself is checked by: chancery evidence verify");
    let checks: Vec<_> = findings
        .iter()
        .map(|one| json!({ "check": one.check, "verdict": one.verdict.to_string(), "what": one.what }))
        .collect();
    out.document(&json!({ "session": session.to_string(), "verdict": verdict.to_string(), "checks": checks }));
    Ok(exit_of(verdict))
}

fn exit_of(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Pass => Exit::Yes,
        Verdict::Fail => Exit::No,
        Verdict::Inconclusive => Exit::Unsure,
    }
}

/// Whether the opened segments are what the entries committed to.
fn commitments(handed: &Handed, stated: &Stated, strangers: &[&PathBuf]) -> Finding {
    if let Some(path) = strangers.first() {
        let path = path.to_string_lossy();
        return Finding::fail("commitments", format!("{path} is none of the segments that were handed out"));
    }
    let mut doubts = Vec::new();
    for (number, segment) in &handed.segments {
        match stated.segments.get(number) {
            Some((commitment, entry)) if *commitment != segment.commitment => {
                let what =
                    format!("segment {number} was handed out under another commitment than entry {entry} states");
                return Finding::fail("commitments", what);
            }
            Some(_) => {}
            None => doubts.push(format!("segment {number} has no entry in the pack")),
        }
    }
    let there = |number: &u64| handed.segments.get(number).is_some_and(|segment| segment.file.is_some());
    doubts.extend(stated.segments.keys().find(|n| !there(n)).map(|n| format!("segment {n} is not here, or more")));
    if stated.segments.is_empty() {
        doubts.push("the pack has no entry about originals of the session".to_owned());
    }
    match doubts.first() {
        Some(doubt) => Finding::doubt("commitments", doubt.clone()),
        None => Finding::pass("commitments", format!("{} segments are what the entries state", stated.segments.len())),
    }
}

/// Whether the recording is the one that the ledger speaks of.
fn recording(stated: &Stated, recorded: &Recorded) -> Finding {
    if let Some((verdict, what)) = &recorded.fault {
        return Finding { check: "recording", verdict: *verdict, what: what.clone() };
    }
    match stated.close {
        Some((entry, last)) if last == recorded.head => {
            Finding::pass("recording", format!("{} blocks, the last as entry {entry} states", recorded.blocks))
        }
        Some((entry, _)) => {
            Finding::fail("recording", format!("its last block is not the one that entry {entry} states"))
        }
        None => Finding::doubt("recording", "no entry closes the session: its last block is stated nowhere".to_owned()),
    }
}
