//! Recordings on disk: each session spools frames in memory, one thread packs them into chained blocks and syncs.
//!
//! A frame that was appended is buffered, not written: it is on disk after the next flush, or when [`Spool::sync`]
//! returns. Not here: the form of blocks and frames, which is `chancery-ledger`'s (`docs/spec/recording.md`).

mod reader;
mod salts;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chancery_ledger::{Durable, Frame, FrameLog, Recorded, RecordingSegment, StagedFrame, ToFrame};
use chancery_model::{Digest, SessionId};
use tokio::sync::Notify;

use crate::sequencer::Volume;

pub(crate) use reader::{FileScan, file_name};
pub use reader::{FileSurvey, RecordedSession, RecordingReader, decode_block};

/// Raw bytes at which a block is closed. Large enough to compress well, small enough to be decoded in a moment.
const BLOCK_BYTES: usize = 256 * 1024;
/// What a block is begun with: room for the commands of a few milliseconds.
const FIRST_BYTES: usize = 4096;
/// Bytes of one frame in a block; longer frames continue in further pieces.
const PIECE_BYTES: usize = BLOCK_BYTES - Frame::HEADER_BYTES;
/// Bytes of one session that are not counted among those of all: counting is a write that all cores contend for.
const COUNTED_BYTES: usize = 8 * 1024;
/// Bytes waiting in all spools at which the thread is woken before its time.
const HURRY_BYTES: usize = 256 * 1024;

/// Why a recording cannot go on. The commands of its session must not, either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// A write or sync failed: this recorder never writes again.
    #[error("recordings cannot be written: {0}")]
    Failed(io::ErrorKind),
    /// The recorder was closed.
    #[error("the recorder is closed")]
    Closed,
}

/// Why a frame was not taken.
pub enum Unspooled<T> {
    /// Too much of this session waits to be written: wait for [`Spool::space`] and append again.
    Full(StagedFrame<T>),
    /// It never will be.
    Fault(RecordFault),
}

impl<T> fmt::Debug for Unspooled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full"),
            Self::Fault(fault) => f.debug_tuple("Fault").field(fault).finish(),
        }
    }
}

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// Bytes of one session that may wait to be written.
    pub session_bytes_max: usize,
    /// A file is closed when it is this long.
    pub file_bytes: u64,
    /// How long a frame may wait for the disk.
    pub flush: Duration,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { session_bytes_max: 8 << 20, file_bytes: 64 << 20, flush: Duration::from_millis(20) }
    }
}

/// Called on the recorder's thread for each file that is closed; answers whether the ledger took its entry. It is asked
/// again at the next start if not.
pub type OnClosed = Box<dyn FnMut(RecordingSegment) -> bool + Send>;

/// The one writer of a directory of recordings. Clones are the same recorder; the last one closes it.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Arc<RecorderThread>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

struct RecorderThread {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RecorderThread {
    fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("recorder thread panicked");
        }
    }
}

impl Drop for RecorderThread {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Bytes appended to all spools since the last round began.
    bytes: AtomicUsize,
    /// The queue has something to say about a fault. Set under its lock.
    unwell: AtomicBool,
    options: RecorderOptions,
}

#[derive(Default)]
struct Queue {
    /// Spools with something to write, each once.
    spools: Vec<Arc<SpoolState>>,
    wanted: bool,
    /// The file is to be closed if its first block is older than this.
    older: Option<Duration>,
    full: bool,
    stopping: bool,
    ended: Option<RecordFault>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder {
    /// Opens the recordings in `volume` and begins a new file. Files that a former process left are closed first.
    pub fn open(volume: Arc<dyn Volume>, options: RecorderOptions, on_closed: OnClosed) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            bytes: AtomicUsize::new(0),
            unwell: AtomicBool::new(false),
            options,
        });
        let thread = writer::start(shared.clone(), volume, on_closed)?;
        let thread = Arc::new(RecorderThread { shared: shared.clone(), thread: Mutex::new(Some(thread)) });
        Ok(Self { shared, thread })
    }
    /// Begins the recording of a session. One spool per session, ever.
    pub fn spool(&self, session: SessionId) -> Spool {
        let state = SpoolState { inner: Mutex::new(SpoolInner::new(session)), moved: Notify::new() };
        Spool { shared: self.shared.clone(), state: Arc::new(state) }
    }
    /// Why nothing is written now, if so. `StorageFull` ends by itself.
    pub fn stalled(&self) -> Option<RecordFault> {
        if !self.shared.unwell.load(Ordering::Acquire) {
            return None;
        }
        let queue = self.shared.lock();
        queue.ended.or(queue.full.then_some(RecordFault::Failed(io::ErrorKind::StorageFull)))
    }
    /// Closes the file that is written if its first block is older than `age`, and begins another. Without this a gateway
    /// with little to record would keep one file, and all in it, for years.
    pub fn turn_over(&self, age: Duration) {
        self.shared.lock().older = Some(age);
        self.shared.wake.notify_one();
    }
    /// Writes what there is, closes the file and stops.
    pub fn close(&self) {
        self.thread.stop();
    }
}

struct SpoolState {
    inner: Mutex<SpoolInner>,
    /// Told whenever something of this spool came onto the disk, or never will.
    moved: Notify,
}

struct SpoolInner {
    frames: FrameLog,
    /// Raw blocks, the last still open.
    blocks: VecDeque<Vec<u8>>,
    /// Bytes appended and not yet on disk.
    waiting: usize,
    /// Pieces appended, and pieces of them on disk.
    appended: u64,
    synced: u64,
    /// The chain, as far as it is on disk.
    next_block: u64,
    head: Digest,
    queued: bool,
    /// Bytes appended since the last round that [`Shared::bytes`] does not hold.
    uncounted: usize,
    ended: Option<RecordFault>,
}

impl SpoolInner {
    fn new(session: SessionId) -> Self {
        Self {
            frames: FrameLog::new(session),
            blocks: VecDeque::new(),
            waiting: 0,
            appended: 0,
            synced: 0,
            next_block: 0,
            head: Digest::default(),
            queued: false,
            uncounted: 0,
            ended: None,
        }
    }
    /// Copies a frame into the open block, in pieces if it is long. Returns the bytes added.
    fn push(&mut self, frame: &Frame<'_>) -> usize {
        let before = self.waiting;
        let mut rest = frame.bytes.as_ref();
        let mut continued = false;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_BYTES));
            let size = Frame::HEADER_BYTES + piece.len();
            if self.blocks.back().is_none_or(|block| block.len() + size > BLOCK_BYTES) {
                self.blocks.push_back(Vec::with_capacity(size.max(FIRST_BYTES)));
            }
            if let Some(block) = self.blocks.back_mut() {
                frame.encode_header(piece.len() as u32, continued, block);
                block.extend_from_slice(piece);
            }
            self.waiting += size;
            self.appended += 1;
            if after.is_empty() {
                return self.waiting - before;
            }
            (rest, continued) = (after, true);
        }
    }
}

impl SpoolState {
    fn lock(&self) -> MutexGuard<'_, SpoolInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The recording of one session, while it lasts.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    state: Arc<SpoolState>,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("waiting", &self.state.lock().waiting).finish_non_exhaustive()
    }
}

impl Spool {
    /// Takes the frame of a staged subject and gives the subject back. A frame larger than the session's whole room is
    /// taken when nothing else waits.
    pub fn append<T: ToFrame>(&self, mut staged: StagedFrame<T>) -> Result<Recorded<T>, Unspooled<T>> {
        let mut inner = self.state.lock();
        match self.is_open(&inner) {
            Ok(true) => {}
            Ok(false) => return Err(Unspooled::Full(staged)),
            Err(fault) => return Err(Unspooled::Fault(fault)),
        }
        let (placed, frame) = inner.frames.place(&mut staged);
        let bytes = inner.push(&frame);
        self.enqueue(inner, bytes).map_err(Unspooled::Fault)?;
        // The frame is in the spool; the thread writes it within the flush interval, or ends every spool.
        let slot = placed.seal(Durable::buffered_assertion());
        Ok(staged.commit(slot).expect("the frame was placed for this subject"))
    }

    /// Takes a frame that proves nothing. False: too much of this session waits; see [`Spool::append`].
    pub fn note(&self, frame: &Frame<'_>) -> Result<bool, RecordFault> {
        let mut inner = self.state.lock();
        if !self.is_open(&inner)? {
            return Ok(false);
        }
        inner.frames.next_number();
        let bytes = inner.push(frame);
        self.enqueue(inner, bytes).map(|()| true)
    }

    /// Whether a frame is taken now.
    fn is_open(&self, inner: &SpoolInner) -> Result<bool, RecordFault> {
        match inner.ended {
            Some(fault) => Err(fault),
            None => Ok(inner.waiting < self.shared.options.session_bytes_max),
        }
    }

    /// Whoever is queued already needs no lock of all sessions: a fault is told to every spool in the queue.
    fn enqueue(&self, mut inner: MutexGuard<'_, SpoolInner>, bytes: usize) -> Result<(), RecordFault> {
        let queue = !std::mem::replace(&mut inner.queued, true);
        inner.uncounted += bytes;
        let counted = if inner.uncounted < COUNTED_BYTES { 0 } else { std::mem::take(&mut inner.uncounted) };
        drop(inner);
        let hurry = counted > 0 && {
            let before = self.shared.bytes.fetch_add(counted, Ordering::Relaxed);
            before < HURRY_BYTES && before.saturating_add(counted) >= HURRY_BYTES
        };
        if !queue && !hurry {
            return Ok(());
        }
        let mut all = self.shared.lock();
        if let Some(fault) = all.ended {
            drop(all);
            self.state.lock().ended = Some(fault);
            self.state.moved.notify_waiters();
            return Err(fault);
        }
        let idle = all.spools.is_empty();
        if queue {
            all.spools.push(self.state.clone());
        }
        // The thread sleeps without a limit while nothing waits.
        if idle || hurry {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Whether a frame would be taken now.
    pub fn has_space(&self) -> bool {
        self.state.lock().waiting < self.shared.options.session_bytes_max
    }

    /// Returns once a frame would be taken. May be dropped and called again.
    pub async fn space(&self) -> Result<(), RecordFault> {
        self.until(|inner| inner.waiting < self.shared.options.session_bytes_max).await
    }

    /// Returns once every frame appended before the call is on disk, with the hash of the chain there.
    /// May be dropped and called again.
    pub async fn sync(&self) -> Result<Option<Digest>, RecordFault> {
        let target = {
            let inner = self.state.lock();
            if inner.synced < inner.appended {
                self.shared.lock().wanted = true;
                self.shared.wake.notify_one();
            }
            inner.appended
        };
        self.until(|inner| inner.synced >= target).await?;
        Ok(self.head())
    }

    /// The hash of the session's last block on disk; `None` before the first.
    pub fn head(&self) -> Option<Digest> {
        let inner = self.state.lock();
        (inner.next_block > 0).then_some(inner.head)
    }

    async fn until(&self, holds: impl Fn(&SpoolInner) -> bool) -> Result<(), RecordFault> {
        loop {
            // Registered before the question, so that an answer in between is not missed.
            let mut moved = std::pin::pin!(self.state.moved.notified());
            moved.as_mut().enable();
            {
                let inner = self.state.lock();
                if holds(&inner) {
                    return Ok(());
                }
                if let Some(fault) = inner.ended {
                    return Err(fault);
                }
            }
            moved.await;
        }
    }
}
