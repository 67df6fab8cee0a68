//! Retention: what is past its time is deleted, what is held is not, and each run, deletion and refusal is an entry.
//! Which file is due is a question of the time that the caller gives. Format of the entries: `docs/spec/retention.md`.
//!
//! Not here: when runs are made, which is the gateway's affair.

mod entries;
mod judge;
mod originals;
#[cfg(test)]
mod tests;
mod unheld;

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use chancery_ledger::{
    Entry, EntryKind, Hasher, HoldLift, HoldSet, Leaf, PruneLedger, PruneRecording, PruneRefuse, RetentionDone,
    RetentionRun,
};
use chancery_model::{Digest, Timestamp};
use tokio::sync::{Mutex, watch};

use crate::catalog::{Catalog, CatalogError, ChainRecord, HoldScope, LegalHold, Lift, RecordingFile, RunRecord, names};
use crate::recordings::{RecordingReader, file_name};
use crate::seals::SealedReader;
use crate::sequencer::segment::name as segment_name;
use crate::sequencer::{LedgerItem, LedgerReader, Level, OpenError, Sequencer, Stall, Volume};

pub use judge::{Judgement, Why};
pub use originals::PlannedOriginals;
pub use unheld::Unheld;

/// A day, in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Entries of the ledger, in days from the last entry of a segment.
    pub ledger_days: u32,
    /// Recordings, in days from the end of the last session of a file.
    pub recordings_days: u32,
    /// Sealed originals, in days from the end of their session.
    pub sealed_days: u32,
}

impl RetentionLimits {
    /// What is kept where nobody says otherwise: a year and the weeks of an audit after it.
    pub const DEFAULT_DAYS: u32 = 400;

    fn recordings_us(self) -> i64 {
        i64::from(self.recordings_days).saturating_mul(DAY_US)
    }
    fn sealed_us(self) -> i64 {
        i64::from(self.sealed_days).saturating_mul(DAY_US)
    }
    fn ledger_us(self) -> i64 {
        i64::from(self.ledger_days).saturating_mul(DAY_US)
    }
}

impl Default for RetentionLimits {
    fn default() -> Self {
        Self { ledger_days: Self::DEFAULT_DAYS, recordings_days: Self::DEFAULT_DAYS, sealed_days: Self::DEFAULT_DAYS }
    }
}

/// Why a run, or a change of a hold, did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetentionError {
    /// Another run is under way.
    #[error("a run is under way already")]
    Busy,
    /// There is no such hold in force.
    #[error("there is no such hold in force")]
    NoHold,
    /// A hold keeps what somebody wants destroyed, or nobody can say that it does not.
    #[error("a hold keeps it ({})", .0.as_str())]
    Kept(Why, [u8; 16]),
    /// The ledger does not take the entry.
    #[error("the ledger does not take the entry: {0}")]
    Stall(#[from] Stall),
    /// The catalog.
    #[error("the catalog: {0}")]
    Catalog(#[from] CatalogError),
    /// The ledger cannot be read.
    #[error("the ledger cannot be read: {0}")]
    Ledger(#[from] OpenError),
    /// Sealed originals are not destroyed, or not wholly.
    #[error("the sealed originals: {0}")]
    Originals(io::Error),
    /// The recordings cannot be read or deleted.
    #[error("the recordings: {0}")]
    Io(#[from] io::Error),
}

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionProgress {
    /// A run is under way.
    pub running: bool,
    /// What it does: `reading` files that it does not know yet, `judging` all, `pruning` those past their time.
    pub phase: &'static str,
    /// Files of this phase that are done.
    pub done: u64,
    /// Files of this phase.
    pub total: u64,
    /// Files deleted.
    pub pruned: u64,
    /// Files past their time and kept.
    pub refused: u64,
    /// Bytes deleted.
    pub bytes: u64,
    /// Runs that ended in this process.
    pub runs: u64,
    /// Why the last of them ended before its end, if it did.
    pub failed: Option<String>,
}

/// A file and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// The file.
    pub file: RecordingFile,
    /// What becomes of it.
    pub judgement: Judgement,
}

/// A closed segment of the ledger from which something may go, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedSegment {
    /// The index of its first entry.
    pub first: u64,
    /// The time of its last entry.
    pub last_at: Timestamp,
    /// Entries that are dropped.
    pub entries: u64,
    /// By how much it gets shorter.
    pub bytes: u64,
    /// What becomes of it.
    pub judgement: Judgement,
    /// A hold that keeps some sessions in it while others go.
    pub held: Option<[u8; 16]>,
}

/// Something and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planned {
    /// A file of recordings.
    File(PlannedFile),
    /// A segment of the ledger.
    Segment(PlannedSegment),
    /// The sealed originals of a session.
    Originals(PlannedOriginals),
}

impl Planned {
    /// What becomes of it.
    pub fn judgement(&self) -> Judgement {
        match self {
            Self::File(file) => file.judgement,
            Self::Segment(segment) => segment.judgement,
            Self::Originals(originals) => originals.judgement,
        }
    }
    /// Bytes that are deleted, if it is; of originals nobody counted them.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.file.bytes,
            Self::Segment(segment) => segment.bytes,
            Self::Originals(_) => 0,
        }
    }
}

/// The holds of a moment.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// Those of which the catalog says what they are about.
    known: Vec<LegalHold>,
    /// One that is in force in the ledger and of which the catalog says nothing: it may be about everything.
    unknown: Option<[u8; 16]>,
}

impl Holds {
    /// The holds in force: those of the catalog, and those that the ledger says are in force.
    pub async fn of(catalog: &Catalog, ledger: &BTreeSet<[u8; 16]>) -> Result<Self, CatalogError> {
        let known = catalog.holds_in_force().await?;
        let unknown = ledger.iter().find(|id| known.iter().all(|hold| hold.id != **id)).copied();
        Ok(Self { known, unknown })
    }
}

/// The holds that a ledger says are in force. Reads all of it.
pub fn holds_of_ledger(ledger: &LedgerReader) -> Result<BTreeSet<[u8; 16]>, OpenError> {
    let mut holds = BTreeSet::new();
    ledger.visit(0, |index, item| {
        if let LedgerItem::Entry(line) = item
            && line.windows(9).any(|piece| piece == b"\"k\":\"hold")
            && let Ok(leaf) = Leaf::parse(line, index)
            && let Some(id) = leaf.rest.get("hold").and_then(|id| id.as_str()).and_then(id_from_hex)
        {
            match leaf.kind {
                Some(EntryKind::HoldSet) => drop(holds.insert(id)),
                Some(EntryKind::HoldLift) => drop(holds.remove(&id)),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(holds)
}

fn id_from_hex(text: &str) -> Option<[u8; 16]> {
    chancery_model::SessionId::parse(text).map(|id| id.0)
}

/// What is kept, for how long, and what is not: over the recordings and the ledger of one gateway.
#[derive(Clone)]
pub struct Shelves {
    catalog: Catalog,
    volume: Arc<dyn Volume>,
    ledger: Arc<dyn Volume>,
    limits: RetentionLimits,
    originals: Option<SealedReader>,
}

impl std::fmt::Debug for Shelves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelves").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Shelves {
    /// Over the recordings in `volume` and the entries in `ledger`.
    pub fn new(catalog: Catalog, volume: Arc<dyn Volume>, ledger: Arc<dyn Volume>, limits: RetentionLimits) -> Self {
        Self { catalog, volume, ledger, limits, originals: None }
    }

    /// What would become at `now` of every closed file, and of every closed segment that has something to lose. Writes
    /// nothing but what the catalog remembers of them.
    pub async fn plan(
        &self,
        holds: &Holds,
        now: Timestamp,
        on: impl Fn(RetentionProgress),
    ) -> Result<Vec<Planned>, RetentionError> {
        let files = self.files(holds, now, &on).await?.into_iter().map(Planned::File);
        let segments = self.segments(holds, now, &on).await?.into_iter().map(Planned::Segment);
        let originals = self.sealed(holds, now).await?.into_iter().map(Planned::Originals);
        Ok(files.chain(segments).chain(originals).collect())
    }

    async fn files(
        &self,
        holds: &Holds,
        now: Timestamp,
        on: &impl Fn(RetentionProgress),
    ) -> Result<Vec<PlannedFile>, RetentionError> {
        let reader = RecordingReader::new(self.volume.clone());
        let numbers = blocking({
            let reader = reader.clone();
            move || reader.closed()
        });
        let (numbers, mut files) = (numbers.await?, Vec::new());
        let progress = |phase, done| RetentionProgress {
            phase,
            done,
            total: numbers.len() as u64,
            ..RetentionProgress::default()
        };
        for (done, number) in (0..).zip(&numbers) {
            on(progress("reading", done));
            files.extend(self.known(&reader, *number, now).await?);
        }
        let mut planned = Vec::with_capacity(files.len());
        for (done, file) in (0..).zip(files) {
            on(progress("judging", done));
            let judgement = self.judge(&file, holds, now).await?;
            planned.push(PlannedFile { file, judgement });
        }
        Ok(planned)
    }

    /// What the catalog knows of a file; it is read through if that is nothing.
    async fn known(
        &self,
        reader: &RecordingReader,
        number: u64,
        now: Timestamp,
    ) -> Result<Option<RecordingFile>, RetentionError> {
        if let Some(file) = self.catalog.recording_file(number).await? {
            return Ok(Some(file));
        }
        let reader = reader.clone();
        let Some(survey) = blocking(move || reader.survey(number)).await? else { return Ok(None) };
        // A file in which nothing can be read speaks of the day on which it was first seen.
        let (first_at, last_at) = survey.times.unwrap_or((now, now));
        let (bytes, digest) = (survey.segment.bytes, survey.segment.digest);
        let file = RecordingFile { file: number, bytes, digest, first_at, last_at, pruned: None };
        self.catalog.put_recording_file(&file, &survey.sessions).await?;
        Ok(Some(file))
    }

    async fn judge(&self, file: &RecordingFile, holds: &Holds, now: Timestamp) -> Result<Judgement, CatalogError> {
        let facts = self.catalog.file_facts(file.file).await?;
        let judgement = judge::by_age(file, &facts, self.limits.recordings_us(), now);
        if judgement != Judgement::Due {
            return Ok(judgement);
        }
        if let Some(hold) = holds.unknown {
            return Ok(Judgement::Refused(Why::Unknown, Some(hold)));
        }
        for hold in &holds.known {
            if self.catalog.is_held(hold, file.file).await? {
                return Ok(Judgement::Refused(Why::Held, Some(hold.id)));
            }
        }
        let by_session = |hold: &LegalHold| matches!(hold.scope, HoldScope::Session(_));
        let vague = holds.known.iter().find(|hold| !by_session(hold)).filter(|_| facts.unknown > 0);
        Ok(vague.map_or(Judgement::Due, |hold| Judgement::Refused(Why::Unknown, Some(hold.id))))
    }
}

/// What a segment would become, and which hold keeps something in it.
type Assessed = (entries::Pruned, Timestamp, Option<[u8; 16]>);

impl Shelves {
    async fn segments(
        &self,
        holds: &Holds,
        now: Timestamp,
        on: &impl Fn(RetentionProgress),
    ) -> Result<Vec<PlannedSegment>, RetentionError> {
        let ledger = self.ledger.clone();
        let firsts = blocking(move || entries::closed(ledger.as_ref())).await?;
        let (total, mut planned) = (firsts.len() as u64, Vec::new());
        for (done, first) in (0..).zip(firsts) {
            on(RetentionProgress { phase: "judging", done, total, ..Default::default() });
            let known = match self.catalog.ledger_segment(first).await? {
                Some(known) => Some(known),
                None => self.new_segment(first).await?,
            };
            let (last_at, rest) = known.unwrap_or((Timestamp(i64::MIN), true));
            let due_at = last_at.plus_micros(self.limits.ledger_us());
            let kept = Judgement::Kept { due_at };
            let segment = PlannedSegment { first, last_at, entries: 0, bytes: 0, judgement: kept, held: None };
            if known.is_none() {
                planned.push(PlannedSegment { judgement: Judgement::Refused(Why::Damaged, None), ..segment });
            } else if rest && now < due_at {
                planned.push(segment);
            } else if rest {
                planned.extend(self.assessed(segment, holds).await?);
            }
        }
        Ok(planned)
    }

    /// Reads a segment for the first time; `None` if it is damaged.
    async fn new_segment(&self, first: u64) -> Result<Option<(Timestamp, bool)>, RetentionError> {
        let ledger = self.ledger.clone();
        match blocking(move || entries::read(&ledger, first).map(|closed| closed.last_at)).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            last_at => {
                let last_at = last_at?;
                self.catalog.note_segment(first, last_at, true).await?;
                Ok(Some((last_at, true)))
            }
        }
    }

    /// A segment that is past its time; `None`: there is nothing in it to lose.
    async fn assessed(&self, segment: PlannedSegment, holds: &Holds) -> Result<Option<PlannedSegment>, RetentionError> {
        let refused = |why, hold| PlannedSegment { judgement: Judgement::Refused(why, hold), ..segment };
        if let Some(hold) = holds.unknown {
            return Ok(Some(refused(Why::Unknown, Some(hold))));
        }
        Ok(match self.assess(segment.first, holds).await? {
            None => Some(refused(Why::Damaged, None)),
            Some((pruned, _, held)) if pruned.fresh > 0 => {
                let (entries, bytes, judgement) = (pruned.fresh, pruned.freed, Judgement::Due);
                Some(PlannedSegment { entries, bytes, judgement, held, ..segment })
            }
            Some((.., Some(hold))) => Some(refused(Why::Held, Some(hold))),
            Some((_, last, None)) => {
                self.catalog.note_segment(segment.first, last, !holds.known.is_empty()).await?;
                None
            }
        })
    }

    /// What a segment becomes by these holds; `None` if it is damaged.
    async fn assess(&self, first: u64, holds: &Holds) -> Result<Option<Assessed>, RetentionError> {
        let ledger = self.ledger.clone();
        let closed = match blocking(move || entries::read(&ledger, first)).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            closed => closed?,
        };
        let (mut held, mut by, mut chains) = (BTreeSet::new(), None, BTreeMap::new());
        for whole in &closed.whole {
            if let Some(hold) = self.holder(whole, holds, &mut chains).await? {
                held.insert(whole.session);
                by.get_or_insert(hold);
            }
        }
        let (ledger, loose, last_at) = (self.ledger.clone(), holds.known.is_empty(), closed.last_at);
        match blocking(move || closed.without(ledger.as_ref(), &held, loose)).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            pruned => Ok(Some((pruned?, last_at, by))),
        }
    }

    /// The hold that keeps a session of the ledger, if one does. A chain that the directory does not know may be anybody's.
    async fn holder(
        &self,
        whole: &entries::Whole,
        holds: &Holds,
        chains: &mut BTreeMap<[u8; 16], Option<ChainRecord>>,
    ) -> Result<Option<[u8; 16]>, CatalogError> {
        for hold in &holds.known {
            let is_held = match &hold.scope {
                HoldScope::Session(session) => *session == whole.session,
                HoldScope::Period(from, to) => whole.from < *to && whole.to >= *from,
                HoldScope::Principal { issuer, subject } => match whole.chain {
                    // Nobody was authenticated.
                    None => false,
                    Some(id) => {
                        if let Place::Vacant(place) = chains.entry(id) {
                            place.insert(self.catalog.chain(id).await?);
                        }
                        chains
                            .get(&id)
                            .and_then(Option::as_ref)
                            .is_none_or(|known| names(&known.chain, issuer, subject))
                    }
                },
            };
            if is_held {
                return Ok(Some(hold.id));
            }
        }
        Ok(None)
    }
}

/// The one who deletes. Holds and deletions go through the same gate, so that nothing is deleted that was held before.
pub struct Retention {
    shelves: Shelves,
    sequencer: Sequencer,
    /// One run at a time.
    run: Mutex<()>,
    /// Taken for each deletion and each change of a hold.
    gate: Mutex<()>,
    progress: watch::Sender<RetentionProgress>,
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retention").field("limits", &self.shelves.limits).finish_non_exhaustive()
    }
}

impl Retention {
    /// Deletes what is past its time on these shelves, and says so in the ledger.
    pub fn new(shelves: Shelves, sequencer: Sequencer) -> Self {
        let progress = watch::Sender::new(RetentionProgress::default());
        Self { shelves, sequencer, run: Mutex::new(()), gate: Mutex::new(()), progress }
    }
    /// How long things are kept.
    pub fn limits(&self) -> RetentionLimits {
        self.shelves.limits
    }
    /// How far the run is that is under way, or how the last one ended.
    pub fn progress(&self) -> watch::Receiver<RetentionProgress> {
        self.progress.subscribe()
    }

    /// Puts a hold in force: on record first. From when this returns, nothing that it is about is deleted.
    pub async fn set_hold(&self, hold: &LegalHold, by: [u8; 16]) -> Result<(), RetentionError> {
        let _gate = self.gate.lock().await;
        if self.shelves.catalog.count_holds().await? >= crate::catalog_limits::HOLDS {
            let (what, max) = ("holds in force", crate::catalog_limits::HOLDS);
            return Err(CatalogError::Limit { what, max }.into());
        }
        let entry = HoldSet { hold: hold.id, scope: hold.scope.as_str(), commitment: commitment(hold), by };
        // If we crash in between, the ledger speaks of a hold that nobody can explain: nothing is deleted until it is lifted.
        self.durable(&Entry::HoldSet(entry)).await?;
        Ok(self.shelves.catalog.put_hold(hold).await?)
    }

    /// Ends a hold: on record first.
    pub async fn lift_hold(&self, id: [u8; 16], lift: &Lift, by: [u8; 16]) -> Result<(), RetentionError> {
        let _gate = self.gate.lock().await;
        let on_record = self.sequencer.holds().contains(&id);
        if on_record {
            let commitment = fields(&[b"chancery/lift/1", &lift.salt, &id, lift.reason.as_bytes()]);
            // If we crash in between, the catalog still holds: it is lifted again.
            self.durable(&Entry::HoldLift(HoldLift { hold: id, commitment, by })).await?;
        }
        match self.shelves.catalog.lift_hold(id, lift).await? || on_record {
            true => Ok(()),
            false => Err(RetentionError::NoHold),
        }
    }

    /// Deletes what is past its time. `by` asked for it; nobody, if it was its time. Between two files it waits `pause`.
    /// `each` sees what became of every file that is past its time.
    pub async fn run(
        &self,
        by: Option<[u8; 16]>,
        now: impl Fn() -> Timestamp,
        pause: Duration,
        mut each: impl FnMut(&Planned),
    ) -> Result<RunRecord, RetentionError> {
        let Ok(_run) = self.run.try_lock() else { return Err(RetentionError::Busy) };
        let done = self.prune(by, now, pause, &mut each).await;
        self.progress.send_modify(|progress| {
            progress.running = false;
            progress.runs += 1;
            progress.failed = done.as_ref().err().map(ToString::to_string);
        });
        done
    }

    async fn prune(
        &self,
        by: Option<[u8; 16]>,
        now: impl Fn() -> Timestamp,
        pause: Duration,
        each: &mut impl FnMut(&Planned),
    ) -> Result<RunRecord, RetentionError> {
        let catalog = &self.shelves.catalog;
        let began_at = now();
        let holds = self.holds().await?;
        let planned = self.shelves.plan(&holds, began_at, |step| self.show(step));
        let mut planned = planned.await?;
        planned.retain(|one| !matches!(one.judgement(), Judgement::Kept { .. }));
        let due = planned.len() as u64;
        let limits = self.shelves.limits;
        let [ledger, recordings, sealed] =
            [limits.ledger_days, limits.recordings_days, limits.sealed_days].map(u64::from);
        let entry = self.durable(&Entry::RetentionRun(RetentionRun { by, due, ledger, recordings, sealed })).await?;
        let mut run = RunRecord { entry, began_at, ended: None, due, pruned: 0, refused: 0, bytes: 0 };
        catalog.note_run(&run).await?;
        let outcome = self.steps(&mut run, &mut planned, &now, pause, each).await;
        let RunRecord { entry, pruned, refused, bytes, .. } = run;
        let how = if outcome.is_ok() { "complete" } else { "stopped" };
        let done = self.durable(&Entry::RetentionDone(RetentionDone { run: entry, pruned, refused, bytes, how })).await;
        outcome?;
        done?;
        run.ended = Some((now(), how.to_owned()));
        catalog.note_run(&run).await?;
        Ok(run)
    }

    async fn steps(
        &self,
        run: &mut RunRecord,
        planned: &mut [Planned],
        now: impl Fn() -> Timestamp,
        pause: Duration,
        each: &mut impl FnMut(&Planned),
    ) -> Result<(), RetentionError> {
        let total = planned.len() as u64;
        for (done, one) in (0..).zip(planned) {
            self.tell(run, done, total);
            if done > 0 && !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            match one {
                Planned::File(one) => one.judgement = self.step(run, &one.file, now()).await?,
                Planned::Segment(one) => *one = self.segment(run, *one).await?,
                Planned::Originals(one) => *one = self.shred(run, *one, now()).await?,
            }
            each(one);
        }
        self.rows(now()).await?;
        self.tell(run, total, total);
        Ok(())
    }

    fn tell(&self, run: &RunRecord, done: u64, total: u64) {
        let (phase, pruned, refused, bytes) = ("pruning", run.pruned, run.refused, run.bytes);
        self.show(RetentionProgress { phase, done, total, pruned, refused, bytes, ..Default::default() });
    }

    fn show(&self, step: RetentionProgress) {
        self.progress.send_modify(|progress| {
            *progress = RetentionProgress { running: true, runs: progress.runs, ..step };
        });
    }

    /// One file: it is judged again, by the holds of now, and deleted or refused.
    async fn step(
        &self,
        run: &mut RunRecord,
        file: &RecordingFile,
        now: Timestamp,
    ) -> Result<Judgement, RetentionError> {
        let _gate = self.gate.lock().await;
        let mut judgement = self.shelves.judge(file, &self.holds().await?, now).await?;
        if judgement == Judgement::Due {
            let (number, reader) = (file.file, RecordingReader::new(self.shelves.volume.clone()));
            let there = blocking(move || reader.survey(number)).await?;
            // What the catalog remembers of its times decided that it is due: they are compared, too.
            let is_same = |s: &crate::FileSurvey| {
                let times = s.times.is_none_or(|times| times == (file.first_at, file.last_at));
                times && (s.segment.bytes, s.segment.digest) == (file.bytes, file.digest)
            };
            match there {
                Some(survey) if is_same(&survey) => self.delete(run, file, now).await?,
                _ => judgement = Judgement::Refused(Why::Damaged, None),
            }
        }
        if let Judgement::Refused(why, hold) = judgement {
            let (of, file) = (Some(run.entry), Some(file.file));
            let refuse = PruneRefuse { run: of, file, hold, ..PruneRefuse::new(why.as_str()) };
            self.sequencer.append_entry(&Entry::PruneRefuse(refuse), Level::Written)?;
            run.refused += 1;
        }
        Ok(judgement)
    }

    async fn delete(&self, run: &mut RunRecord, file: &RecordingFile, now: Timestamp) -> Result<(), RetentionError> {
        let (bytes, digest, last) = (file.bytes, file.digest, file.last_at);
        if file.pruned.is_none() {
            let prune = PruneRecording { run: run.entry, file: file.file, bytes, digest, last };
            // If we crash behind this, the file is there and said to be pruned, which readers know; the next run deletes it.
            let entry = self.durable(&Entry::PruneRecording(prune)).await?;
            self.shelves.catalog.note_pruned(file.file, entry, now).await?;
        }
        let (volume, name) = (self.shelves.volume.clone(), file_name(file.file));
        blocking(move || volume.remove(&name)).await?;
        run.pruned += 1;
        run.bytes = run.bytes.saturating_add(bytes);
        Ok(())
    }

    /// One segment: it is read again, and what may go by the holds of now goes.
    async fn segment(
        &self,
        run: &mut RunRecord,
        mut planned: PlannedSegment,
    ) -> Result<PlannedSegment, RetentionError> {
        let _gate = self.gate.lock().await;
        let holds = self.holds().await?;
        let first = planned.first;
        let refused = match holds.unknown {
            Some(hold) => Err((Why::Unknown, Some(hold))),
            None => self.shelves.assess(first, &holds).await?.ok_or((Why::Damaged, None)),
        };
        (planned.entries, planned.bytes) = (0, 0);
        let (why, hold) = match refused {
            Err(refused) => refused,
            Ok((pruned, last, held)) => {
                // The last entry that is there may not be the last: an earlier run took that away.
                let last = last.max(planned.last_at);
                if pruned.fresh > 0 {
                    (planned.entries, planned.bytes) = (pruned.fresh, pruned.freed);
                    planned.judgement = Judgement::Due;
                    self.drop_entries(run, first, last, pruned).await?;
                }
                // What is loose goes only while nothing is held.
                let rest = held.is_some() || !holds.known.is_empty();
                self.shelves.catalog.note_segment(first, last, rest).await?;
                planned.held = held;
                match held {
                    None => return Ok(planned),
                    Some(hold) => (Why::Held, Some(hold)),
                }
            }
        };
        if planned.entries == 0 {
            planned.judgement = Judgement::Refused(why, hold);
        }
        let refuse = PruneRefuse { run: Some(run.entry), first: Some(first), hold, ..PruneRefuse::new(why.as_str()) };
        self.sequencer.append_entry(&Entry::PruneRefuse(refuse), Level::Written)?;
        run.refused += 1;
        Ok(planned)
    }

    async fn drop_entries(
        &self,
        run: &mut RunRecord,
        first: u64,
        last: Timestamp,
        pruned: entries::Pruned,
    ) -> Result<(), RetentionError> {
        let (dropped, digest, bytes) = (pruned.dropped, pruned.digest, pruned.freed);
        let prune = PruneLedger { run: run.entry, first, dropped, digest, bytes, last };
        // If we crash behind this, the segment is as it was, which readers know; the next run makes it anew.
        self.durable(&Entry::PruneLedger(prune)).await?;
        let ledger = self.shelves.ledger.clone();
        blocking(move || ledger.replace(&segment_name(first), &pruned.bytes)).await?;
        run.pruned += 1;
        run.bytes = run.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Rows of the catalog go with the entries: those of sessions without recordings, and of reviews. Holds are asked about
    /// sessions, so nothing of them goes while there are any.
    async fn rows(&self, now: Timestamp) -> Result<(), RetentionError> {
        let _gate = self.gate.lock().await;
        let holds = self.holds().await?;
        if !holds.known.is_empty() || holds.unknown.is_some() {
            return Ok(());
        }
        let before = now.plus_micros(self.shelves.limits.ledger_us().saturating_neg());
        while self.shelves.catalog.prune_unrecorded_sessions(before).await? > 0 {}
        while self.shelves.catalog.prune_reviews(before).await? > 0 {}
        Ok(())
    }

    async fn holds(&self) -> Result<Holds, CatalogError> {
        Holds::of(&self.shelves.catalog, &self.sequencer.holds()).await
    }

    /// Returns the index of the entry once it is on disk.
    async fn durable(&self, entry: &Entry<'_>) -> Result<u64, Stall> {
        let at = self.sequencer.append_entry(entry, Level::Durable)?;
        self.sequencer.synced().await?;
        Ok(at.index)
    }
}

/// What the ledger says of a hold's scope and reason.
fn commitment(hold: &LegalHold) -> Digest {
    let reason = hold.reason.as_bytes();
    let scope = hold.scope.as_str().as_bytes();
    let head: [&[u8]; 4] = [b"chancery/hold/1", &hold.salt, &hold.id, scope];
    match &hold.scope {
        HoldScope::Session(session) => fields(&[&head[..], &[&session.0, reason]].concat()),
        HoldScope::Principal { issuer, subject } => {
            fields(&[&head[..], &[issuer.as_bytes(), subject.as_bytes(), reason]].concat())
        }
        HoldScope::Period(from, to) => {
            let (from, to) = (from.0.to_be_bytes(), to.0.to_be_bytes());
            fields(&[&head[..], &[from.as_slice(), to.as_slice(), reason]].concat())
        }
    }
}

/// SHA-256 over fields, each with its length in front.
fn fields(parts: &[&[u8]]) -> Digest {
    let mut hasher = Hasher::default();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finish()
}

/// Runs what reads or deletes files apart from the tasks that serve clients.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
