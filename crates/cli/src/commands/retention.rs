//! `chancery retention`: deletes what is past its time, or shows what would be. A gateway that runs does it once a day.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::Arc;

use chancery_model::Timestamp;
use chancery_store::{Directory, Holds, Judgement, LedgerReader, Planned, RunRecord, Shelves, holds_of_ledger};
use serde_json::{Value, json};

use super::hold::hex;
use crate::args;
use crate::commands::check;
use crate::config::Configuration;
use crate::local::{Local, RetentionStep, now};
use crate::output::{Done, Exit, Failure, Out};

pub(crate) async fn run(args: args::Retention, out: Out) -> Done {
    match args {
        args::Retention::Run(args) => {
            let (configuration, local) = check::open(&args.config).await?;
            let done = match args.dry_run {
                true => dry_run(&configuration, &local, args.as_of.unwrap_or_else(now), out).await,
                false => wet_run(&configuration, &local, out).await,
            };
            local.close().await;
            done
        }
        args::Retention::Status(args) => {
            let (configuration, local) = check::open(&args).await?;
            let done = status(&configuration, &local, out).await;
            local.close().await;
            done
        }
    }
}

async fn wet_run(configuration: &Configuration, local: &Local, out: Out) -> Done {
    let mut bar = Bar::new();
    let each = |one: &Planned| {
        out.line(format!("{}  {}  {}", name(one), size(one.bytes()), becomes(one, "deleted")));
    };
    let done = local.run_retention(configuration.retention, each, |step| bar.show(step)).await;
    bar.clear();
    done?;
    let run = local.catalog.last_run().await.map_err(unreadable)?;
    let run = run.ok_or_else(|| Failure::unsure("the run left no trace in the catalog"))?;
    out.line(told(&run));
    if run.refused > 0 {
        out.line("what is kept, and why: `chancery retention run --dry-run`");
    }
    out.document(&run_document(&run));
    Ok(Exit::Yes)
}

async fn dry_run(configuration: &Configuration, local: &Local, at: Timestamp, out: Out) -> Done {
    let ledger = Directory::shared(&configuration.state.join("ledger")).map_err(unreadable)?;
    let on_record = tokio::task::block_in_place(|| holds_of_ledger(&LedgerReader::new(Arc::new(ledger))));
    let planned = plan(configuration, local, &on_record.map_err(unreadable)?, at).await?;
    let past: Vec<&Planned> = planned.iter().filter(|one| !matches!(one.judgement(), Judgement::Kept { .. })).collect();
    let rows: Vec<Vec<String>> = past
        .iter()
        .map(|one| {
            let what = becomes(one, "would be deleted");
            vec![name(one), size(one.bytes()), last_at(one).to_string(), what]
        })
        .collect();
    if !rows.is_empty() {
        out.table(&["WHAT", "SIZE", "UNTIL", "BECOMES"], &rows);
    }
    let due = past.iter().filter(|one| one.judgement() == Judgement::Due);
    let bytes: u64 = due.clone().map(|one| one.bytes()).sum();
    let (due, kept) = (due.count(), planned.len() - past.len());
    let refused = past.len() - due;
    out.line(format!(
        "as of {at}: {due} of {} files, segments and sealed sessions would be pruned ({}), {refused} are past their time and kept, {kept} are \
         not due",
        planned.len(),
        size(bytes)
    ));
    out.line("nothing was deleted: this is a dry run, and no entry speaks of it");
    let files: Vec<Value> = planned.iter().filter_map(file_document).collect();
    let segments: Vec<Value> = planned.iter().filter_map(segment_document).collect();
    let originals: Vec<Value> = planned.iter().filter_map(originals_document).collect();
    out.document(&json!({ "dry_run": true, "as_of": at.to_string(), "due": due, "refused": refused, "bytes": bytes,
                          "files": files, "segments": segments, "originals": originals }));
    Ok(Exit::Yes)
}

async fn status(configuration: &Configuration, local: &Local, out: Out) -> Done {
    let planned = plan(configuration, local, &BTreeSet::new(), now()).await?;
    let last = local.catalog.last_run().await.map_err(unreadable)?;
    let holds = local.catalog.count_holds().await.map_err(unreadable)?;
    let is_file = |one: &&Planned| matches!(one, Planned::File(_));
    let bytes: u64 = planned.iter().filter(is_file).map(Planned::bytes).sum();
    let files = planned.iter().filter(is_file).count();
    let segments = planned.iter().filter(|one| matches!(one, Planned::Segment(_))).count();
    let originals = planned.len() - files - segments;
    let next = planned.iter().filter_map(|one| match one.judgement() {
        Judgement::Kept { due_at } => Some(due_at),
        _ => None,
    });
    let (next, past) = (next.clone().min(), planned.len() - next.count());
    let limits = configuration.retention;
    out.line(format!("recordings  {} days; {files} closed files, {}", limits.recordings_days, size(bytes)));
    out.line(format!("ledger      {} days; {segments} closed segments to look at", limits.ledger_days));
    out.line(format!("sealed      {} days; originals of {originals} sessions to look at", limits.sealed_days));
    out.line(format!("past        {past} of them are past their time"));
    out.line(format!("next        {}", next.map_or("-".to_owned(), |at| at.to_string())));
    out.line(format!("holds       {holds} in force"));
    out.line(format!("last run    {}", last.as_ref().map_or("-".to_owned(), told)));
    out.document(&json!({ "recordings_days": limits.recordings_days, "ledger_days": limits.ledger_days,
                          "sealed_days": limits.sealed_days, "files": files, "segments": segments,
                          "originals": originals, "bytes": bytes, "past": past,
                          "next": next.map(|at| at.to_string()), "holds": holds,
                          "last_run": last.as_ref().map(run_document) }));
    Ok(Exit::Yes)
}

async fn plan(
    configuration: &Configuration,
    local: &Local,
    on_record: &BTreeSet<[u8; 16]>,
    at: Timestamp,
) -> Result<Vec<Planned>, Failure> {
    let recordings = Directory::shared(&configuration.state.join("recordings")).map_err(unreadable)?;
    let holds = Holds::of(&local.catalog, on_record).await.map_err(unreadable)?;
    let ledger = Directory::shared(&configuration.state.join("ledger")).map_err(unreadable)?;
    let limits = configuration.retention;
    let mut shelves = Shelves::new(local.catalog.clone(), Arc::new(recordings), Arc::new(ledger), limits);
    if let Some(sealed) = Directory::shared_if_there(&configuration.state.join("sealed")).map_err(unreadable)? {
        shelves = shelves.with_originals(Arc::new(sealed));
    }
    let bar = std::cell::RefCell::new(Bar::new());
    let planned = shelves.plan(&holds, at, |step| bar.borrow_mut().show(&RetentionStep::of(&step))).await;
    bar.borrow_mut().clear();
    planned.map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    Failure::unsure(format!("retention: {error}"))
}

fn name(one: &Planned) -> String {
    match one {
        Planned::File(one) => format!("recordings {}", one.file.file),
        Planned::Segment(one) => format!("ledger from entry {}", one.first),
        Planned::Originals(one) => format!("originals of {}", one.session),
    }
}

/// The last that it speaks of.
fn last_at(one: &Planned) -> Timestamp {
    match one {
        Planned::File(one) => one.file.last_at,
        Planned::Segment(one) => one.last_at,
        Planned::Originals(one) => one.last_at,
    }
}

fn becomes(one: &Planned, due: &str) -> String {
    match (&one.judgement(), one) {
        (Judgement::Due, Planned::Segment(one)) => match one.held {
            Some(hold) => format!("{} entries {due}; others kept by hold {}", one.entries, hex(&hold)),
            None => format!("{} entries {due}", one.entries),
        },
        (judgement, _) => outcome(judgement, due),
    }
}

fn outcome(judgement: &Judgement, due: &str) -> String {
    match judgement {
        Judgement::Due => due.to_owned(),
        Judgement::Kept { due_at } => format!("kept until {due_at}"),
        Judgement::Refused(why, Some(hold)) => format!("kept: {} by hold {}", why.as_str(), hex(hold)),
        Judgement::Refused(why, None) => format!("kept: {}", why.as_str()),
    }
}

fn told(run: &RunRecord) -> String {
    let RunRecord { entry, began_at, due, pruned, refused, bytes, .. } = run;
    let how = run.ended.as_ref().map_or("not ended", |(_, how)| how.as_str());
    let size = size(*bytes);
    format!("{began_at}, entry {entry}, {how}: {due} past their time, {pruned} pruned ({size}), {refused} kept")
}

fn run_document(run: &RunRecord) -> Value {
    let (ended_at, how) = run.ended.as_ref().map(|(at, how)| (at.to_string(), how)).unzip();
    json!({ "entry": run.entry, "began_at": run.began_at.to_string(), "ended_at": ended_at, "how": how,
            "due": run.due, "pruned": run.pruned, "refused": run.refused, "bytes": run.bytes })
}

/// The word for what becomes of it, why, which hold keeps it, and when its time comes.
type Words = (&'static str, Option<&'static str>, Option<String>, Option<String>);

fn words(judgement: Judgement) -> Words {
    match judgement {
        Judgement::Due => ("due", None, None, None),
        Judgement::Kept { due_at } => ("kept", None, None, Some(due_at.to_string())),
        Judgement::Refused(why, hold) => ("refused", Some(why.as_str()), hold.map(|id| hex(&id)), None),
    }
}

fn file_document(one: &Planned) -> Option<Value> {
    let Planned::File(one) = one else { return None };
    let (word, why, hold, due_at) = words(one.judgement);
    Some(json!({ "file": one.file.file, "bytes": one.file.bytes, "from": one.file.first_at.to_string(),
                 "to": one.file.last_at.to_string(), "becomes": word, "why": why, "hold": hold, "due_at": due_at }))
}

fn segment_document(one: &Planned) -> Option<Value> {
    let Planned::Segment(one) = one else { return None };
    let (word, why, hold, due_at) = words(one.judgement);
    let hold = hold.or_else(|| one.held.map(|id| hex(&id)));
    Some(json!({ "first": one.first, "entries": one.entries, "bytes": one.bytes, "to": one.last_at.to_string(),
                 "becomes": word, "why": why, "hold": hold, "due_at": due_at }))
}

fn originals_document(one: &Planned) -> Option<Value> {
    let Planned::Originals(one) = one else { return None };
    let (word, why, hold, due_at) = words(one.judgement);
    Some(json!({ "session": one.session.to_string(), "to": one.last_at.to_string(), "becomes": word, "why": why,
                 "hold": hold, "due_at": due_at }))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// How far it is, on standard error and for people only.
struct Bar {
    terminal: bool,
    shown: bool,
}

impl Bar {
    const CELLS: u64 = 30;

    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown: false }
    }
    fn show(&mut self, step: &RetentionStep) {
        if self.terminal && step.total > 0 {
            let full = (step.done.saturating_mul(Self::CELLS) / step.total).min(Self::CELLS) as usize;
            let (done, left) = ("#".repeat(full), "-".repeat(Self::CELLS as usize - full));
            eprint!("\r\x1b[K{:<8} [{done}{left}] {}/{}", step.phase, step.done, step.total);
            self.shown = true;
            self.flush();
        }
    }
    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
            self.flush();
        }
    }
    fn flush(&self) {
        // Nobody reads a bar that cannot be written.
        let _ = std::io::stderr().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!([0, 9_999, 10_240, 67_108_864].map(size), ["0 B", "9999 B", "10 KiB", "64 MiB"]);
    }
}
