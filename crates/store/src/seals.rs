//! Sealed originals on disk: each session gathers what its resource sent in memory, one thread has it encrypted and
//! writes it (`docs/spec/sealed.md`).
//!
//! Plaintext lives in buffers that are wiped, never in a file. What fails ends the spool, and with it the session: no
//! output goes on without its original. Not here: encryption, which whoever opens a spool brings along.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chancery_ledger::{Frame, RawSegment, Sealing, ToSeal};
use chancery_model::{Digest, SessionId};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::sequencer::Volume;

pub use reader::{SealedReader, SealedSegment};

/// Bytes of one frame in a piece; longer frames continue in further pieces, as in recordings.
const PIECE_BYTES: usize = 256 * 1024 - Frame::HEADER_BYTES;
/// What a segment is begun with, and how large its later buffers become.
const FIRST_BYTES: usize = 4096;
const BUFFER_BYTES: usize = 256 * 1024;

/// A segment as the sealer gives it back.
pub struct Sealed {
    /// What is stored as the body.
    pub body: Vec<u8>,
    /// What is stored as the header.
    pub header: Vec<u8>,
    /// Commitment to the plaintext.
    pub commitment: Digest,
}

/// Encrypts the segments of one session.
pub trait SegmentSealer: Send + Sync + 'static {
    /// Encrypts a segment, given in pieces. `None`: it could not, and nothing more is to be sealed.
    fn seal(&self, index: u64, pieces: &[&[u8]]) -> Option<Sealed>;
    /// Ids of those who can open it.
    fn to(&self) -> &[[u8; 8]];
}

/// Why originals cannot be sealed any more. The commands of their session must not go on, either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealFault {
    /// A write or sync failed.
    #[error("sealed originals cannot be written: {0}")]
    Failed(io::ErrorKind),
    /// The sealer failed.
    #[error("originals cannot be sealed")]
    Unsealed,
    /// The ledger did not take a segment's entry.
    #[error("a segment of sealed originals is not on record")]
    Unrecorded,
    /// It was closed.
    #[error("sealing is over")]
    Closed,
}

/// Why an original was not taken.
pub enum Untaken<T> {
    /// Too much waits to be sealed: wait for [`SealSpool::space`] and hand it in again.
    Full(T),
    /// It never will be.
    Fault(SealFault),
}

impl<T> fmt::Debug for Untaken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full"),
            Self::Fault(fault) => f.debug_tuple("Fault").field(fault).finish(),
        }
    }
}

/// What may be chosen.
#[derive(Clone, Debug)]
pub struct SealOptions {
    /// Plaintext of a segment at most.
    pub segment_bytes_max: usize,
    /// How long a segment stays open at most.
    pub segment_time: Duration,
    /// Plaintext of one session that may wait, open segment included.
    pub session_bytes_max: usize,
    /// Plaintext of all sessions past which every open segment is closed, and past the double of which nothing is taken.
    pub all_bytes_max: usize,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 8 << 20,
            segment_time: Duration::from_secs(60),
            session_bytes_max: 16 << 20,
            all_bytes_max: 128 << 20,
        }
    }
}

/// Called on the sealer's thread for each segment that is on disk; answers whether the ledger took its entry.
pub type OnSealed = Box<dyn FnMut(RawSegment<'_>) -> bool + Send>;

/// The one writer of a directory of sealed originals. Clones are the same; the last one closes it.
#[derive(Clone)]
pub struct Seals {
    shared: Arc<Shared>,
    thread: Arc<SealThread>,
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seals").finish_non_exhaustive()
    }
}

struct SealThread {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl SealThread {
    fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the sealer's thread panicked");
        }
    }
}

impl Drop for SealThread {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Plaintext in all spools.
    bytes: AtomicUsize,
    /// Told whenever a segment left memory, or never will.
    moved: Notify,
    options: SealOptions,
}

#[derive(Default)]
struct Queue {
    /// Spools with a closed segment, once for each.
    full: VecDeque<Arc<SpoolState>>,
    /// Segments by the time at which they were begun.
    opened: VecDeque<Opened>,
    hurry: bool,
    stopping: bool,
    ended: bool,
}

struct Opened {
    since: Instant,
    spool: Arc<SpoolState>,
    index: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seals {
    /// Begins to write to `volume`.
    pub fn open(volume: Arc<dyn Volume>, options: SealOptions, on_sealed: OnSealed) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            bytes: AtomicUsize::new(0),
            moved: Notify::new(),
            options,
        });
        let thread = writer::start(shared.clone(), volume, on_sealed)?;
        let thread = Arc::new(SealThread { shared: shared.clone(), thread: Mutex::new(Some(thread)) });
        Ok(Self { shared, thread })
    }
    /// Begins the originals of a session. One spool per session, ever.
    pub fn spool(&self, session: SessionId, sealer: Arc<dyn SegmentSealer>) -> SealSpool {
        let inner = SpoolInner {
            sealer: Some(sealer),
            open: Segment::default(),
            index: 0,
            closed: VecDeque::new(),
            waiting: 0,
            ended: None,
        };
        let state = Arc::new(SpoolState { session, inner: Mutex::new(inner) });
        SealSpool { shared: self.shared.clone(), state }
    }
    /// Seals what there is and stops.
    pub fn close(&self) {
        self.thread.stop();
    }
}

struct SpoolState {
    session: SessionId,
    inner: Mutex<SpoolInner>,
}

impl SpoolState {
    fn lock(&self) -> MutexGuard<'_, SpoolInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SpoolInner {
    /// Gone, and the session's key with it, when the spool ended.
    sealer: Option<Arc<dyn SegmentSealer>>,
    open: Segment,
    /// Of the open segment.
    index: u64,
    closed: VecDeque<(u64, Segment)>,
    /// Plaintext that is not sealed and on disk yet.
    waiting: usize,
    ended: Option<SealFault>,
}

impl SpoolInner {
    /// Closes the open segment, if it has anything.
    fn close(&mut self) -> bool {
        if self.open.bytes == 0 {
            return false;
        }
        self.closed.push_back((self.index, std::mem::take(&mut self.open)));
        self.index += 1;
        true
    }
    /// Ends it: what was not sealed is wiped. Returns how much that was.
    fn end(&mut self, fault: SealFault) -> usize {
        self.ended.get_or_insert(fault);
        self.sealer = None;
        self.open = Segment::default();
        self.closed.clear();
        std::mem::take(&mut self.waiting)
    }
}

/// Plaintext of a segment: buffers that never move, so that each is wiped where it is.
#[derive(Default)]
struct Segment {
    buffers: Vec<Zeroizing<Vec<u8>>>,
    bytes: usize,
}

impl Segment {
    fn push(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len();
        while !bytes.is_empty() {
            let room = self.buffers.last().map_or(0, |buffer| buffer.capacity() - buffer.len());
            if room == 0 {
                let next = self.buffers.last().map_or(FIRST_BYTES, |last| (last.capacity() * 4).min(BUFFER_BYTES));
                self.buffers.push(Zeroizing::new(Vec::with_capacity(next)));
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(buffer) = self.buffers.last_mut() {
                // Within the capacity: it is not moved.
                buffer.extend_from_slice(now);
            }
            bytes = later;
        }
    }
}

/// The originals of one session, while it lasts.
#[derive(Clone)]
pub struct SealSpool {
    shared: Arc<Shared>,
    state: Arc<SpoolState>,
}

impl fmt::Debug for SealSpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealSpool").field("waiting", &self.state.lock().waiting).finish_non_exhaustive()
    }
}

impl SealSpool {
    /// Takes an original. One larger than the session's whole room is taken when nothing else waits.
    pub fn take<T: ToSeal>(&self, original: T) -> Result<(), Untaken<T>> {
        let mut inner = self.state.lock();
        if let Some(fault) = inner.ended {
            return Err(Untaken::Fault(fault));
        }
        if !self.has_room(&inner) {
            return Err(Untaken::Full(original));
        }
        // What is taken here goes into the buffers of a segment, which are sealed and wiped.
        let frame = original.frame(&Sealing::sealing_assertion());
        let before = inner.waiting;
        let mut closed = 0;
        let mut begun = false;
        let (mut rest, mut continued) = (frame.bytes.as_ref(), false);
        loop {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_BYTES));
            let size = Frame::HEADER_BYTES + piece.len();
            if inner.open.bytes + size > self.shared.options.segment_bytes_max && inner.close() {
                closed += 1;
            }
            begun |= inner.open.bytes == 0;
            let mut header = Vec::with_capacity(Frame::HEADER_BYTES);
            frame.encode_header(piece.len() as u32, continued, &mut header);
            inner.open.push(&header);
            inner.open.push(piece);
            inner.waiting += size;
            if after.is_empty() {
                break;
            }
            (rest, continued) = (after, true);
        }
        let (added, index) = (inner.waiting - before, inner.index);
        drop(inner);
        let all = self.shared.bytes.fetch_add(added, Ordering::Relaxed) + added;
        self.told(closed, begun.then_some(index), all).map_err(Untaken::Fault)
    }

    /// Has the thread know of what changed.
    fn told(&self, closed: usize, begun: Option<u64>, all: usize) -> Result<(), SealFault> {
        let hurry = all > self.shared.options.all_bytes_max;
        if closed == 0 && begun.is_none() && !hurry {
            return Ok(());
        }
        let mut queue = self.shared.lock();
        if queue.ended {
            drop(queue);
            let gone = self.state.lock().end(SealFault::Closed);
            self.shared.bytes.fetch_sub(gone, Ordering::Relaxed);
            return Err(SealFault::Closed);
        }
        queue.full.extend(std::iter::repeat_n(self.state.clone(), closed));
        if let Some(index) = begun {
            queue.opened.push_back(Opened { since: Instant::now(), spool: self.state.clone(), index });
        }
        queue.hurry |= hurry;
        self.shared.wake.notify_one();
        Ok(())
    }

    fn has_room(&self, inner: &SpoolInner) -> bool {
        let SealOptions { session_bytes_max, all_bytes_max, .. } = self.shared.options;
        inner.waiting < session_bytes_max
            && (inner.waiting == 0 || self.shared.bytes.load(Ordering::Relaxed) < all_bytes_max.saturating_mul(2))
    }

    /// Returns once an original would be taken. May be dropped and called again.
    pub async fn space(&self) -> Result<(), SealFault> {
        self.until(|inner| self.has_room(inner)).await
    }

    /// Closes the last segment and returns once every segment is on disk and on record. Nothing is taken any more, and the
    /// session's key is gone from memory.
    pub async fn finish(&self) -> Result<(), SealFault> {
        let closed = {
            let mut inner = self.state.lock();
            if let Some(fault) = inner.ended {
                return Err(fault);
            }
            inner.close()
        };
        self.told(usize::from(closed), None, 0)?;
        self.until(|inner| inner.waiting == 0).await?;
        self.state.lock().end(SealFault::Closed);
        Ok(())
    }

    async fn until(&self, holds: impl Fn(&SpoolInner) -> bool) -> Result<(), SealFault> {
        loop {
            // Registered before the question, so that an answer in between is not missed.
            let mut moved = std::pin::pin!(self.shared.moved.notified());
            moved.as_mut().enable();
            {
                let inner = self.state.lock();
                if let Some(fault) = inner.ended {
                    return Err(fault);
                }
                if holds(&inner) {
                    return Ok(());
                }
            }
            moved.await;
        }
    }
}
