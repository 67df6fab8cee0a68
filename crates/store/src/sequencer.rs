//! The one writer of a ledger: appends entries under a short lock, makes them durable in groups, signs the head.
//!
//! An entry is *placed* (buffered; it leaves with the next write, at the latest after [`Options::flush`]), then *written*
//! (one `pwrite` inline, no thread is woken), then *durable* (a thread syncs for all who wait). Not here: the entries' form
//! and the tree, which are `chancery-ledger`'s. Format of the files: `docs/spec/ledger.md`.

mod epochs;
mod memory;
mod reader;
mod recovery;
pub(crate) mod segment;
mod syncer;
#[cfg(test)]
mod tests;
mod tiles;
mod volume;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chancery_ledger::{
    Checkpoint, Durable, Entry, EpochSigner, LedgerError, Log, LogSigner, Placed, ProofError, Recorded, Roots,
    SignedCheckpoint, Slot, Staged, Stall as StallEntry, StallOver, Stamp, TiledTree, ToEntry,
};
use chancery_model::{Digest, EntryRef, Timestamp};
use tokio::sync::watch;

pub use memory::MemoryVolume;
pub use reader::{Item as LedgerItem, LedgerReader, Outside, verify};
pub use recovery::Recovery;
pub(crate) use recovery::SEGMENT_BYTES_MAX;
pub(crate) use segment::{HEADER_BYTES as SEGMENT_HEADER_BYTES, begin_frame, check_frames, end_frame, segment_header};
pub(crate) use tiles::Tiles;
pub(crate) use tiles::leaves as tile_of_leaves;
pub(crate) use volume::read_whole;
pub use volume::{Blob, Directory, Volume};

use segment::Segment;
use tiles::Tree;

/// The last head that enough witnesses cosigned.
pub(crate) const WITNESSED: &str = "witnessed";
/// The last head that is in the archive. A note for whoever asks; the archive itself has the word.
const ARCHIVED: &str = "archived";
/// Says why the ledger takes nothing any more.
const FROZEN: &str = "frozen";
/// Room in the segment that only entries which close something may use.
const CLOSING_ROOM: u64 = 256 * 1024;
/// Room that one entry takes at most, with its frame.
const ENTRY_ROOM: u64 = (chancery_ledger::ENTRY_BYTES_MAX + segment::FRAME_HEADER_BYTES) as u64;
/// Lazy entries are written out when this much waits.
const BUFFER_MAX: usize = 256 * 1024;

/// How far an entry must have come before its subject is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Handed to the kernel. Its subject is given back at once.
    Written,
    /// On disk. Its subject is given back after the next group sync.
    Durable,
}

/// Why the ledger does not take an entry. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stall {
    /// Too little space. Ends by itself when there is space again.
    #[error("the ledger's disk is full")]
    DiskFull,
    /// The wall clock is far behind the last entry. Ends by itself when it is right.
    #[error("the wall clock is behind the ledger")]
    Clock,
    /// A write or sync failed: this sequencer never writes again.
    #[error("the ledger cannot be written: {0}")]
    Failed(io::ErrorKind),
    /// The entry itself cannot stand in the ledger.
    #[error("the entry was refused: {0}")]
    Refused(LedgerError),
    /// A witness saw another history, or a longer one: this ledger is not the one that it was.
    #[error("the ledger is frozen: a witness saw another history of it")]
    Frozen,
    /// The sequencer was closed.
    #[error("the ledger is closed")]
    Closed,
}

/// Reads both clocks.
pub type Clock = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// The clocks of this machine; the monotonic one counts from this call.
pub fn system_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let mono = start.elapsed().as_micros();
        Stamp {
            wall: Timestamp(i64::try_from(wall).unwrap_or(i64::MAX)),
            mono: i64::try_from(mono).unwrap_or(i64::MAX),
        }
    })
}

/// What may be chosen. `new` gives what production uses.
#[derive(Clone)]
pub struct Options {
    /// The clocks.
    pub clock: Clock,
    /// A random id of this process.
    pub boot: [u8; 16],
    /// A segment is closed when it is this long.
    pub segment_bytes: u64,
    /// Zeros kept written ahead of the entries.
    pub ahead_bytes: u64,
    /// Free space below which nothing new is taken.
    pub reserve_bytes: u64,
    /// How long an entry may wait for its sync if nobody hurries.
    pub flush: Duration,
    /// The least time between two checkpoints.
    pub checkpoint: Duration,
    /// How long an epoch of keys lasts at most.
    pub epoch: Duration,
    /// With this many entries it ends before its time, if it lasted `epoch_least`.
    pub epoch_entries: u64,
    /// See `epoch_entries`.
    pub epoch_least: Duration,
}

impl Options {
    /// Segments of 64 MiB, 4 MiB ahead, 512 MiB reserve, sync within 20 ms, a checkpoint a second, epochs of 10 minutes
    /// or 50,000 entries.
    pub fn new(clock: Clock, boot: [u8; 16]) -> Self {
        Self {
            clock,
            boot,
            segment_bytes: 64 << 20,
            ahead_bytes: 4 << 20,
            reserve_bytes: 512 << 20,
            flush: Duration::from_millis(20),
            checkpoint: Duration::from_secs(1),
            epoch: Duration::from_secs(600),
            epoch_entries: 50_000,
            epoch_least: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("segment_bytes", &self.segment_bytes).finish_non_exhaustive()
    }
}

/// What `append` gives: the subject at once, or the promise of it.
pub enum Appended<T> {
    /// It is written.
    Recorded(Recorded<T>),
    /// It will be on disk.
    Pending(Pending<T>),
}

impl<T> fmt::Debug for Appended<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recorded(recorded) => recorded.fmt(f),
            Self::Pending(pending) => pending.fmt(f),
        }
    }
}

/// A subject whose entry is placed and not yet on disk.
#[must_use = "dropping it destroys the subject; its entry stays"]
pub struct Pending<T> {
    staged: Staged<T>,
    placed: Placed,
    progress: watch::Receiver<Progress>,
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("index", &self.placed.index()).finish_non_exhaustive()
    }
}

impl<T> Pending<T> {
    /// The entry's index.
    pub fn index(&self) -> u64 {
        self.placed.index()
    }
    /// Whether its entry is on disk.
    pub fn ready(&self) -> bool {
        self.progress.borrow().durable > self.placed.index()
    }
    /// Returns once its entry is on disk. May be dropped and called again.
    pub async fn wait(&mut self) -> Result<(), Stall> {
        let index = self.placed.index();
        let decided = |progress: &Progress| progress.durable > index || progress.ended.is_some();
        let progress = self.progress.wait_for(decided).await.map_err(|_| Stall::Closed)?;
        match (progress.durable > index, &progress.ended) {
            (true, _) => Ok(()),
            (false, ended) => Err(ended.clone().unwrap_or(Stall::Closed)),
        }
    }
    /// Gives the subject back if its entry is on disk.
    pub fn commit(self) -> Result<Recorded<T>, Self> {
        if !self.ready() {
            return Err(self);
        }
        let Self { staged, placed, progress } = self;
        // The watermark passed this index: a sync that began after the entry was written has returned success.
        let slot = placed.seal(Durable::on_disk_assertion());
        drop(progress);
        Ok(staged.commit(slot).expect("the entry was placed for this subject"))
    }
    /// Waits and gives the subject back.
    pub async fn recorded(mut self) -> Result<Recorded<T>, Stall> {
        self.wait().await?;
        self.commit().map_err(|_| Stall::Closed)
    }
}

/// How far the sync thread has come.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Entries below this index are on disk.
    durable: u64,
    ended: Option<Stall>,
}

/// The one writer of a ledger. Clones are the same sequencer; the last one closes it.
#[derive(Clone)]
pub struct Sequencer {
    shared: Arc<Shared>,
    _thread: Arc<SyncThread>,
}

impl fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sequencer").field("size", &self.shared.lock().log.size()).finish_non_exhaustive()
    }
}

/// Stops and joins the thread when the last handle goes.
struct SyncThread {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SyncThread {
    fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("ledger sync thread panicked");
        }
    }
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Shared {
    volume: Arc<dyn Volume>,
    options: Options,
    signer: LogSigner,
    head: Mutex<Head>,
    /// Held while bytes go from the buffer to the file. The head's lock is taken within it, never the other way round.
    writer: Mutex<Writer>,
    /// Locked last, and not while anything is written. Only the thread folds.
    tree: Mutex<Tree>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    /// Entries below this index are handed to the kernel. Moved under the writer's lock.
    written: AtomicU64,
}

/// What the writer's lock guards.
struct Writer {
    /// The buffer that the head does not use. Empty, except while it is written.
    spare: Vec<u8>,
    /// Something was written since the last sync began.
    dirty: bool,
}

/// What the head's lock guards. Held for encoding and hashing; never for a write or a sync.
struct Head {
    log: Log,
    /// Signs heads whose last entry is the last of the log.
    epoch: Arc<EpochSigner>,
    segment: Arc<Segment>,
    /// Where the buffer goes.
    offset: u64,
    /// Frames placed and not yet written.
    buffer: Vec<u8>,
    /// Leaf hashes of entries that the tree has not taken yet: those of one round of the thread.
    leaves: Vec<Digest>,
    state: State,
    /// Space is short, and the `stall` entry that says so is placed.
    shortage: Option<Refusing>,
    /// The wall clock is behind the last entry.
    behind: Option<Refusing>,
    /// Entries were placed since the last round began.
    fresh: bool,
    /// Somebody waits for a sync.
    wanted: bool,
    /// The thread sleeps without a time limit worth waiting for.
    idle: bool,
    stopping: bool,
}

/// A time in which entries are refused.
#[derive(Clone, Copy, Debug)]
struct Refusing {
    /// Its begin, in microseconds of the monotonic clock.
    since: i64,
    /// Entries that were.
    refused: u64,
}

impl Refusing {
    fn since(since: i64) -> Self {
        Self { since, refused: 0 }
    }
    /// What is said of it when it is over.
    fn over(self, now: i64) -> StallOver {
        let duration_us = now.saturating_sub(self.since).try_into().unwrap_or(0);
        StallOver { refused: self.refused, duration_us }
    }
}

/// Whether the thread is woken for a sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    /// Somebody waits for it.
    Now,
    /// Only to begin its ticking.
    IfIdle,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Takes only what closes something.
    Full,
    Ended(Stall),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Head> {
        // A panic while the lock was held leaves the head in an unknown state; `fail` on the way out is not possible,
        // so whoever comes next ends the sequencer.
        self.head.lock().unwrap_or_else(|poisoned| {
            let mut head = poisoned.into_inner();
            head.state = State::Ended(Stall::Failed(io::ErrorKind::Other));
            head
        })
    }
    fn end(&self, head: &mut Head, stall: Stall) -> Stall {
        if !matches!(head.state, State::Ended(_)) {
            if stall != Stall::Closed {
                tracing::error!(reason = %stall, "ledger stopped taking entries");
            }
            head.state = State::Ended(stall.clone());
        }
        // Asked apart from the state, because a poisoned lock sets the state without telling those who wait.
        self.progress.send_if_modified(|progress| {
            let first = progress.ended.is_none();
            progress.ended.get_or_insert_with(|| stall.clone());
            first
        });
        stall
    }
    fn failed(&self, head: &mut Head, error: &io::Error) -> Stall {
        self.end(head, Stall::Failed(error.kind()))
    }
    /// Makes sure that an entry can be placed: once it has a place in the tree, it can no longer be taken back. What kind
    /// it is of is asked only where that matters.
    fn make_room(&self, head: &mut Head, opens: impl FnOnce() -> bool) -> Result<(), Stall> {
        let need = head.offset + head.buffer.len() as u64 + ENTRY_ROOM;
        if head.state == State::Running && !head.stopping && need + CLOSING_ROOM <= head.segment.ahead() {
            return Ok(());
        }
        self.find_room(head, need, opens())
    }
    #[cold]
    fn find_room(&self, head: &mut Head, need: u64, opens: bool) -> Result<(), Stall> {
        match &head.state {
            State::Ended(stall) => return Err(stall.clone()),
            // The last round may have taken the size that its checkpoint signs; nothing may come behind that.
            _ if head.stopping => return Err(Stall::Closed),
            State::Full if opens => {
                if let Some(shortage) = &mut head.shortage {
                    shortage.refused += 1;
                }
                return Err(Stall::DiskFull);
            }
            _ => {}
        }
        let need = need + if opens { CLOSING_ROOM } else { 0 };
        if need <= head.segment.ahead() {
            return Ok(());
        }
        match head.segment.grow(need + self.options.ahead_bytes) {
            _ if need <= head.segment.ahead() => Ok(()),
            Err(error) if is_full(&error) => {
                head.state = State::Full;
                Err(Stall::DiskFull)
            }
            Err(error) => Err(self.failed(head, &error)),
            Ok(()) => Err(Stall::DiskFull),
        }
    }
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned| {
            self.end(&mut self.lock(), Stall::Failed(io::ErrorKind::Other));
            poisoned.into_inner()
        })
    }
    fn tree(&self) -> MutexGuard<'_, Tree> {
        // Only the thread changes it, and however the thread ends, a panic included, it ends the sequencer.
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Everything placed goes out, unless entries below this index are out already.
    fn write_below(&self, index: u64) -> Result<(), Stall> {
        let mut writer = self.writer();
        if self.written.load(Ordering::Acquire) >= index {
            return Ok(());
        }
        self.write_out(&mut writer, |_| ())
    }
    /// One `pwrite` of everything placed; others place more meanwhile. `look` sees the head as it is with that written.
    fn write_out<R>(&self, writer: &mut Writer, look: impl FnOnce(&mut Head) -> R) -> Result<R, Stall> {
        let (batch, seen) = {
            let mut head = self.lock();
            (Batch::take(&mut head, writer)?, look(&mut head))
        };
        if let Err(error) = batch.write(writer) {
            return Err(self.failed(&mut self.lock(), &error));
        }
        self.written.store(batch.size, Ordering::Release);
        Ok(seen)
    }
    fn place<T: ToEntry>(&self, head: &mut Head, staged: &mut Staged<T>, stamp: Stamp) -> Result<Placed, Stall> {
        self.say_clock_is_right(head, stamp);
        self.make_room(head, || staged.kind().opens())?;
        let placed = self.frame(head, |log, out| {
            let placed = log.place(staged, stamp, out)?;
            let leaf = placed.leaf();
            Ok((placed, leaf))
        });
        if matches!(placed, Err(Stall::Clock)) {
            head.behind.get_or_insert(Refusing::since(stamp.mono)).refused += 1;
        }
        placed
    }
    /// States for how long nothing was taken because of the clock, once something can be.
    fn say_clock_is_right(&self, head: &mut Head, stamp: Stamp) {
        let Some(behind) = head.behind else { return };
        let entry = Entry::Stall(StallEntry { reason: "clock", over: Some(behind.over(stamp.mono)) });
        let told = self
            .make_room(head, || false)
            .and_then(|()| self.frame(head, |log, out| log.append(&entry, stamp, out).map(|at| ((), at.leaf))));
        if told.is_ok() {
            head.behind = None;
        }
    }
    /// Places one entry into the buffer by `place`, inside a frame.
    fn frame<R>(
        &self,
        head: &mut Head,
        place: impl FnOnce(&mut Log, &mut Vec<u8>) -> Result<(R, Digest), LedgerError>,
    ) -> Result<R, Stall> {
        let before = head.buffer.len();
        let start = segment::begin_frame(&mut head.buffer);
        match place(&mut head.log, &mut head.buffer) {
            Ok((placed, leaf)) => {
                segment::end_frame(&mut head.buffer, start);
                head.leaves.push(leaf);
                head.fresh = true;
                Ok(placed)
            }
            Err(error) => {
                head.buffer.truncate(before);
                Err(match error {
                    LedgerError::Clock => Stall::Clock,
                    error => Stall::Refused(error),
                })
            }
        }
    }
    fn append_entry(&self, head: &mut Head, entry: &Entry<'_>) -> Result<EntryRef, Stall> {
        let stamp = (self.options.clock)();
        self.say_clock_is_right(head, stamp);
        self.make_room(head, || entry.kind().opens())?;
        let placed = self.frame(head, |log, out| log.append(entry, stamp, out).map(|at| (at, at.leaf)));
        if matches!(placed, Err(Stall::Clock)) {
            head.behind.get_or_insert(Refusing::since(stamp.mono));
        }
        placed
    }
    /// Wakes the thread if it must hurry, lets the head go, and writes if that is asked for or the buffer is long.
    fn settle(&self, mut head: MutexGuard<'_, Head>, wake: Wake, write: bool) -> Result<(), Stall> {
        let (size, write) = (head.log.size(), write || head.buffer.len() >= BUFFER_MAX);
        if wake == Wake::Now {
            head.wanted = true;
        }
        if wake == Wake::Now || head.idle {
            head.idle = false;
            self.wake.notify_one();
        }
        drop(head);
        if write { self.write_below(size) } else { Ok(()) }
    }
}

/// What a writer took from the head; its bytes are the writer's.
struct Batch {
    segment: Arc<Segment>,
    offset: u64,
    /// The size of the log with it.
    size: u64,
}

impl Batch {
    fn take(head: &mut Head, writer: &mut Writer) -> Result<Self, Stall> {
        if let State::Ended(stall) = &head.state {
            return Err(stall.clone());
        }
        std::mem::swap(&mut head.buffer, &mut writer.spare);
        let offset = head.offset;
        head.offset += writer.spare.len() as u64;
        Ok(Self { segment: head.segment.clone(), offset, size: head.log.size() })
    }
    fn write(&self, writer: &mut Writer) -> io::Result<()> {
        if !writer.spare.is_empty() {
            segment::check_frames(&mut writer.spare);
            // If we crash here, the entries were promised to nobody as written; recovery cuts a partial frame.
            self.segment.blob.write_at(self.offset, &writer.spare)?;
            writer.spare.clear();
            writer.dirty = true;
        }
        Ok(())
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Sequencer {
    /// Opens the ledger in `volume`, or begins one in an empty volume; recovers what an earlier process left. The keys of
    /// epochs are kept in `keys`, apart from what is copied and shown.
    pub fn open(
        volume: Arc<dyn Volume>,
        keys: Arc<dyn Volume>,
        signer: LogSigner,
        origin: &str,
        options: Options,
    ) -> Result<(Self, Recovery), OpenError> {
        recovery::open(volume, keys, signer, origin, options)
    }

    /// Appends the entry of a staged subject.
    pub fn append<T: ToEntry>(&self, mut staged: Staged<T>, level: Level) -> Result<Appended<T>, Stall> {
        if level == Level::Durable {
            return self.appending().durable(staged).map(Appended::Pending);
        }
        let mut head = self.shared.lock();
        let placed = self.shared.place(&mut head, &mut staged, (self.shared.options.clock)())?;
        self.shared.settle(head, Wake::IfIdle, true)?;
        // `settle` returned after a `pwrite` of the entry had returned success.
        Ok(Appended::Recorded(committed(staged, placed.seal(Durable::written_assertion()))))
    }

    /// Takes the ledger for several entries in order, under one lock and at one reading of the clocks.
    pub fn appending(&self) -> Appending<'_> {
        let (head, stamp) = (Some(self.shared.lock()), (self.shared.options.clock)());
        Appending { shared: &self.shared, head, stamp, durable: false }
    }

    /// Appends an entry that guards no subject. At `Durable` it returns before the entry is on disk; see
    /// [`Sequencer::synced`].
    pub fn append_entry(&self, entry: &Entry<'_>, level: Level) -> Result<EntryRef, Stall> {
        let mut head = self.shared.lock();
        let at = self.shared.append_entry(&mut head, entry)?;
        match level {
            Level::Written => self.shared.settle(head, Wake::IfIdle, true)?,
            Level::Durable => self.shared.settle(head, Wake::Now, false)?,
        }
        Ok(at)
    }

    /// Returns once every entry appended before the call is on disk.
    pub async fn synced(&self) -> Result<(), Stall> {
        let (size, mut progress) = {
            let head = self.shared.lock();
            if let State::Ended(stall) = &head.state {
                return Err(stall.clone());
            }
            let size = head.log.size();
            self.shared.settle(head, Wake::Now, false)?;
            (size, self.shared.progress.subscribe())
        };
        let decided = |progress: &Progress| progress.durable >= size || progress.ended.is_some();
        let progress = progress.wait_for(decided).await.map_err(|_| Stall::Closed)?;
        match (progress.durable >= size, &progress.ended) {
            (true, _) => Ok(()),
            (false, ended) => Err(ended.clone().unwrap_or(Stall::Closed)),
        }
    }

    /// Returns once every entry below this index is handed to the kernel. One `pwrite` serves all who wait; none is made
    /// if that was done already.
    pub fn write_through(&self, below: u64) -> Result<(), Stall> {
        self.shared.write_below(below)
    }

    /// Entries below this index are handed to the kernel.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Acquire)
    }

    /// Why new entries are refused now, if they are. For readiness.
    pub fn stalled(&self) -> Option<Stall> {
        match &self.shared.lock().state {
            State::Running => None,
            State::Full => Some(Stall::DiskFull),
            State::Ended(stall) => Some(stall.clone()),
        }
    }
    /// The number of entries.
    pub fn size(&self) -> u64 {
        self.shared.lock().log.size()
    }
    /// Holds that were set and not lifted, by their ids.
    pub fn holds(&self) -> BTreeSet<[u8; 16]> {
        self.shared.lock().log.holds().clone()
    }
    /// The number of entries that are on disk.
    pub fn durable(&self) -> u64 {
        self.shared.progress.borrow().durable
    }
    /// What a reader must hold from outside: the log's key and that of its first epoch, as [`Roots::parse`] reads them.
    pub fn roots(&self) -> String {
        let first = self.shared.lock().log.epochs().map(|epochs| epochs.first);
        first.and_then(|first| Roots::text(&self.shared.signer.verifier_key(), &first)).unwrap_or_default()
    }
    /// The head as it is now, signed. Its entries may not be on disk yet; the published one is in the file.
    pub fn checkpoint(&self) -> SignedCheckpoint {
        let head = self.shared.lock();
        let (origin, size, leaves) = (head.log.origin().to_owned(), head.log.size(), head.leaves.clone());
        let epoch = head.epoch.clone();
        // Before the head goes, so that the thread cannot take these leaves in between.
        let tree = self.shared.tree();
        drop(head);
        let root = tree.root_with(&leaves);
        drop(tree);
        epoch.countersign(self.shared.signer.sign(&Checkpoint { origin, size, root }))
    }
    /// The last head that was signed and published; its entries are on disk. `None` before the first.
    pub fn published(&self) -> Result<Option<String>, OpenError> {
        recovery::read_note(self.shared.volume.as_ref(), "checkpoint")
    }
    /// The proof that the first `size` entries begin with the first `old`. Both must be on disk. A tile that is just being
    /// written makes it fail: ask again.
    pub fn consistency(&self, old: u64, size: u64) -> Result<Vec<Digest>, ProofError<io::Error>> {
        let tile = |level, index| {
            let partial = self.shared.tree().partial(level, index);
            partial.map_or_else(|| tiles::read(self.shared.volume.as_ref(), level, index), |hashes| Ok(Some(hashes)))
        };
        TiledTree::new(size, tile).consistency(old)
    }
    /// Keeps a published head with the cosignatures that it got. It replaces the one before.
    pub fn keep_witnessed(&self, note: &str) -> io::Result<()> {
        self.shared.volume.replace(WITNESSED, note.as_bytes())
    }
    /// Keeps the head that was archived last. It replaces the one before.
    pub fn keep_archived(&self, note: &str) -> io::Result<()> {
        self.shared.volume.replace(ARCHIVED, note.as_bytes())
    }
    /// Ends the sequencer for good, later openings too: what a witness saw is not what is here, so that nothing may be
    /// added to it. `why` is for whoever looks into it.
    pub fn freeze(&self, why: &str) {
        self.shared.end(&mut self.shared.lock(), Stall::Frozen);
        if let Err(error) = self.shared.volume.replace(FROZEN, format!("{why}\n").as_bytes()) {
            tracing::error!(%error, "that the ledger is frozen is not kept");
        }
    }
    /// Writes, syncs and signs what there is, and stops. Later appends answer `Closed`.
    pub fn close(&self) {
        self._thread.stop();
    }
}

/// The ledger, taken for several entries. When it is dropped, whoever must hurry is woken.
pub struct Appending<'s> {
    shared: &'s Shared,
    /// There until it is dropped.
    head: Option<MutexGuard<'s, Head>>,
    stamp: Stamp,
    durable: bool,
}

impl fmt::Debug for Appending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appending").field("stamp", &self.stamp).finish_non_exhaustive()
    }
}

impl Appending<'_> {
    /// Places the entry of a subject. The subject is given back at once, on the caller's word that nothing of what it
    /// permits is shown before [`Sequencer::write_through`] has returned. For proven reads only.
    pub fn placed<T: ToEntry>(&mut self, mut staged: Staged<T>) -> Result<Recorded<T>, Stall> {
        let placed = self.place(&mut staged)?;
        // The buffer holds the entry, and leaves with the next write whoever asks for it.
        Ok(committed(staged, placed.seal(Durable::buffered_assertion())))
    }

    /// Places the entry of a subject that is given back once it is on disk.
    pub fn durable<T: ToEntry>(&mut self, mut staged: Staged<T>) -> Result<Pending<T>, Stall> {
        let placed = self.place(&mut staged)?;
        self.durable = true;
        Ok(Pending { staged, placed, progress: self.shared.progress.subscribe() })
    }

    /// Places the entry of a subject that nobody waits for. The subject is destroyed.
    pub fn leave<T: ToEntry>(&mut self, mut staged: Staged<T>) -> Result<(), Stall> {
        self.place(&mut staged).map(drop)
    }

    fn place<T: ToEntry>(&mut self, staged: &mut Staged<T>) -> Result<Placed, Stall> {
        let head = self.head.as_mut().ok_or(Stall::Closed)?;
        self.shared.place(head, staged, self.stamp)
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        if let Some(head) = self.head.take() {
            let woken = if self.durable { Wake::Now } else { Wake::IfIdle };
            // A buffer that is too long and cannot be written has ended the sequencer: the next who asks is told.
            let _ = self.shared.settle(head, woken, false);
        }
    }
}

fn committed<T>(staged: Staged<T>, slot: Slot) -> Recorded<T> {
    staged.commit(slot).expect("the entry was placed for this subject")
}

/// Why a ledger was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The files could not be read or written.
    #[error("the ledger's files cannot be used")]
    Io(#[from] io::Error),
    /// A stored entry is not what was signed or written.
    #[error("the ledger is damaged at entry {index} in {file}: {what}")]
    Damaged {
        /// The entry.
        index: u64,
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The stored checkpoint does not hold.
    #[error("the ledger's checkpoint does not hold: {0}")]
    Checkpoint(String),
    /// Entries that were signed are missing.
    #[error("the ledger ends at entry {found}, but {signed} are signed: the end is missing")]
    Truncated {
        /// Entries found.
        found: u64,
        /// Entries signed.
        signed: u64,
    },
    /// The key of the running epoch is not there: what follows could not be shown to follow.
    #[error(
        "the key of epoch {number} is not in keys/epoch: the ledger cannot be continued, only verified; begin another"
    )]
    EpochKey {
        /// The epoch.
        number: u64,
    },
    /// A witness saw another history of it.
    #[error("the ledger is frozen and can only be verified: {0}")]
    Frozen(String),
    /// The wall clock is behind the last entry.
    #[error("the clock says {now}, but the last entry is of {last}")]
    ClockBehind {
        /// The clock.
        now: Timestamp,
        /// The last entry.
        last: Timestamp,
    },
    /// The origin is no origin, or the key is another origin's.
    #[error("the ledger cannot be opened with these settings: {0}")]
    Misuse(String),
    /// The entries that close what was open could not be written.
    #[error("the ledger stalled while it was opened: {0}")]
    Stalled(#[from] Stall),
}
