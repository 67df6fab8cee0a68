//! Showing what the resource says: masked, then recorded, then released.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use chancery_ledger::{stage, stage_frame};
use chancery_mask::{Catalog, CatalogInput, Exposure, Masked, Plan, WhenUnknown};
use chancery_model::{
    Columns, CommandId, CopyDirection, CopyFact, Digest, Done, DoneStatus, Effect as Change, Input, Output, OutputKind,
    RefusalCode, Timestamp,
};
use chancery_policy::Scope;
use chancery_wire::{Relay, take_next};

use crate::effect::Effect;
use crate::original::Original;
use crate::reading::Known;
use crate::ruling::{Level, Outcome, Tape};
use crate::session::{Session, Stage, Tide, ending};
use crate::trust::Trust;

/// Outputs no longer than this together are recorded as one.
const GATHERED_BYTES_MAX: usize = 4096;

/// What a command's result looks like to the masker.
#[derive(Default)]
pub(crate) struct Shown {
    plan: Option<Arc<Plan>>,
    /// Relations that stayed unknown after a refresh; their columns count as tagged.
    refreshed: bool,
}

/// Whether the next thing can be shown.
enum Next {
    Shown,
    Waits,
}

impl<R: Relay> Session<R> {
    /// Shows what may be shown now, in order. True: a command ended, which may let another go on.
    pub(crate) fn run_tide(&mut self, now: Timestamp) -> bool {
        let mut concluded = false;
        while !self.ended && self.concluding == 0 {
            let Some(front) = take_next(&mut self.tide) else { break };
            match front {
                Tide::Output(output) => {
                    let bytes = output.bytes.len();
                    if !self.is_due(output.command) {
                        self.tide.push_front(Tide::Output(output));
                        break;
                    }
                    match self.show(output, now) {
                        Next::Shown => self.tide_bytes = self.tide_bytes.saturating_sub(bytes),
                        Next::Waits => break,
                    }
                }
                // Its end is told by frames that come behind it and carry no proof of their own.
                Tide::Done(done) if !self.is_due(done.command) => {
                    self.tide.push_front(Tide::Done(done));
                    break;
                }
                Tide::Done(done) => {
                    self.conclude(&done, now);
                    concluded = true;
                }
                Tide::Input(input) => {
                    self.tape_gathered(now);
                    self.tide_bytes = self.tide_bytes.saturating_sub(input.raw.len());
                    self.tape_input(input, now);
                }
            }
        }
        self.tape_gathered(now);
        if self.account.due {
            self.tell_map(now);
        }
        concluded
    }

    /// Short outputs of one command go into the recording, and to the client, as one.
    fn gather(&mut self, masked: Masked<Output>, now: Timestamp) {
        if let Some(apart) = self.gathered.push(masked, GATHERED_BYTES_MAX) {
            self.tape_gathered(now);
            // The first is always taken.
            let _ = self.gathered.push(apart, GATHERED_BYTES_MAX);
        }
    }

    pub(crate) fn tape_gathered(&mut self, now: Timestamp) {
        if let Some(masked) = self.gathered.take() {
            self.effects.push_back(Effect::Tape(stage_frame(Tape::Output(now, masked))));
        }
    }

    /// Strict profile: the command's entry is on disk before its first output byte.
    fn is_due(&mut self, command: CommandId) -> bool {
        if !self.strict {
            return true;
        }
        let Some(entry) = self.position(command).and_then(|at| self.commands[at].entry) else { return true };
        if entry < self.on_disk {
            return true;
        }
        if entry >= self.awaited {
            self.awaited = entry + 1;
            self.effects.push_back(Effect::AwaitDisk(entry));
        }
        false
    }

    fn show(&mut self, output: Output, now: Timestamp) -> Next {
        let at = self.position(output.command);
        let plan = match self.plan(at, &output) {
            Planned::Plan(plan) => plan,
            Planned::Wait => {
                self.tide.push_front(Tide::Output(output));
                return Next::Waits;
            }
            Planned::Unplanned => {
                let why = "rows arrived without a description; they cannot be masked";
                let refusal = self.context.refusal(RefusalCode::Unreadable, output.command, why);
                self.stop(refusal, "unmaskable", now);
                return Next::Waits;
            }
        };
        let command = output.command;
        self.account_for(&output, &plan, now);
        if self.context.seals {
            self.effects.push_back(Effect::Seal(Original::output(&output, now)));
        }
        let aside = matches!(output.kind, OutputKind::Aside).then(|| output.bytes.clone());
        let masked = self.masker.mask(self.gate.relay(), &plan, output);
        self.account_of(&masked, aside.as_ref());
        if masked.is_withheld() {
            let why = "the result cannot be taken apart; it cannot be masked";
            let refusal = self.context.refusal(RefusalCode::Unreadable, command, why);
            self.stop(refusal, "unmaskable", now);
            return Next::Waits;
        }
        if let (Some(at), Some(report)) = (at, masked.report()) {
            self.commands[at].masked += report.masked();
        }
        if !masked.inner().bytes.is_empty() {
            self.gather(masked, now);
        }
        Next::Shown
    }

    /// How an output is masked. Plans of rows are made once for each result.
    fn plan(&mut self, at: Option<usize>, output: &Output) -> Planned {
        if let Some(idle) = &self.idle {
            return Planned::Plan(idle.clone());
        }
        let planned = || at.is_some_and(|at| self.commands[at].shown.plan.is_some());
        if self.trust == Trust::Refreshing && !planned() {
            return Planned::Wait;
        }
        match &output.kind {
            OutputKind::Columns(columns) => self.plan_rows(at, columns),
            OutputKind::Rows | OutputKind::Bulk { .. } => {
                match at.and_then(|at| self.commands[at].shown.plan.clone()) {
                    Some(plan) => Planned::Plan(plan),
                    None => Planned::Unplanned,
                }
            }
            OutputKind::BulkStart { binary, columns } => self.plan_copy(at, *binary, *columns),
            OutputKind::Text | OutputKind::Aside | OutputKind::Status | OutputKind::Own => {
                let exposure = self.exposure(at);
                let plan = Plan::text(&self.catalog, &self.context.mask, &self.lifted, &exposure);
                Planned::Plan(Arc::new(plan))
            }
        }
    }

    fn plan_rows(&mut self, at: Option<usize>, columns: &Columns) -> Planned {
        let Some(at) = at else { return Planned::Unplanned };
        let exposure = self.exposure(Some(at));
        let distrust = self.distrust(at);
        let settled = self.commands[at].shown.refreshed || distrust;
        let when_unknown = if settled { WhenUnknown::TreatAsTagged } else { WhenUnknown::Ask };
        let blind = distrust.then(|| Catalog::build(CatalogInput::default(), &self.context.mask));
        let catalog = blind.as_ref().unwrap_or(&self.catalog);
        match Plan::rows(catalog, &self.context.mask, &self.lifted, &exposure, columns, when_unknown) {
            Ok(plan) => {
                let plan = Arc::new(plan);
                self.commands[at].shown.plan = Some(plan.clone());
                Planned::Plan(plan)
            }
            Err(_unknown) => {
                self.commands[at].shown.refreshed = true;
                if self.trust == Trust::Fresh {
                    self.reread();
                }
                Planned::Wait
            }
        }
    }

    fn plan_copy(&mut self, at: Option<usize>, binary: bool, columns: u16) -> Planned {
        let Some(at) = at else { return Planned::Unplanned };
        let statements = self.commands[at].known.as_ref().map(|known| known.facts.statements.as_slice());
        let mut copies = statements.unwrap_or_default().iter().filter_map(|statement| statement.copy.as_ref());
        let plan = match (copies.next(), copies.next()) {
            (Some(copy), None) if !self.distrust(at) => {
                let exposure = self.exposure(Some(at));
                Plan::copy(&self.catalog, &self.context.mask, &self.lifted, &exposure, copy, binary, columns)
            }
            // Which COPY of several this is, or what its table is now, is not certain: like a query nobody can read.
            _ => {
                let format = if binary { "binary" } else { "text" }.to_owned();
                let direction = CopyDirection::Out;
                let copy = CopyFact { direction, table: None, columns: Vec::new(), format, has_options: false };
                let exposure = Exposure::opaque();
                Plan::copy(&self.catalog, &self.context.mask, &self.lifted, &exposure, &copy, binary, columns)
            }
        };
        let plan = Arc::new(plan);
        self.commands[at].shown.plan = Some(plan.clone());
        Planned::Plan(plan)
    }

    fn exposure(&self, at: Option<usize>) -> Exposure {
        match at.and_then(|at| Some((at, self.commands[at].known.as_ref()?))) {
            Some((at, _)) if self.distrust(at) => Exposure::opaque(),
            Some((at, known)) => self.commands[at].exposure.as_deref().unwrap_or(&known.exposure).clone(),
            // Words that answer no known statement may quote one of another's.
            None => Exposure::opaque(),
        }
    }

    /// Whether the catalog may be wrong about this very command: it defines something, fills a relation with tagged
    /// values (and may show it in the same breath), runs in a transaction that did, or shows what the session keeps after
    /// a statement could put a tagged value there.
    fn distrust(&self, at: usize) -> bool {
        let several = |known: &Known| known.defines && known.facts.statements.len() > 1;
        let known = self.commands[at].known.as_ref();
        let doubtful = |known: &Arc<Known>| several(known) || !known.taints.is_empty() || (known.dips && self.stirred);
        known.is_some_and(doubtful) || self.trust == Trust::Stale
    }

    fn tape_input(&mut self, input: Input, now: Timestamp) {
        let mut hash = Digest::default();
        hash.0.copy_from_slice(digest(&SHA256, &input.raw).as_ref());
        self.effects.push_back(Effect::Tape(stage_frame(Tape::Input(now, input, hash))));
    }

    /// A command ended: its outcome goes into the ledger, and for an effect nothing more is shown before it is on disk.
    fn conclude(&mut self, done: &Done, now: Timestamp) {
        let Some(at) = self.position(done.command) else { return };
        if !matches!(self.commands[at].stage, Stage::Forwarded) {
            return;
        }
        self.account.due = true;
        let active = &mut self.commands[at];
        active.stage = Stage::Ended;
        if active.known.as_ref().is_some_and(|known| known.defines) && active.scope == Scope::Run {
            self.trust = Trust::Stale;
            self.defined |= active.known.as_ref().is_some_and(|known| known.redefines);
        }
        if active.known.as_ref().is_some_and(|known| !known.taints.is_empty()) {
            self.trust = Trust::Stale;
        }
        let active = &self.commands[at];
        if let Some((name, statement)) = active.known.as_ref().and_then(|known| known.names.as_ref())
            && active.scope == Scope::Run
            && done.status == DoneStatus::Completed
        {
            self.gate.relay_mut().define(name, statement);
        }
        if active.scope == Scope::Step {
            self.drop_ended();
            return;
        }
        let (word, sqlstate) = ending(&done.status, active.cancelled);
        let effect = active.known.as_ref().map_or(Change::Write, |known| known.effect);
        let durable = effect == Change::Write && active.scope == Scope::Run;
        let outcome = Outcome { gates: durable, ..self.outcome(active, word, sqlstate, done.rows, done.bytes, now) };
        let level = if durable { Level::OnDisk } else { Level::Lazy };
        if durable {
            // What came before the outcome is recorded before it, and does not wait for it.
            self.tape_gathered(now);
            self.tell_map(now);
            self.concluding += 1;
        }
        self.effects.push_back(Effect::Conclude(stage(outcome), level));
        self.drop_ended();
    }
}

enum Planned {
    Plan(Arc<Plan>),
    Wait,
    Unplanned,
}
