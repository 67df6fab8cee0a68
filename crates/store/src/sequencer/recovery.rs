//! Opening a ledger: every stored entry goes through the same road as a new one, and is compared with what was signed.
//!
//! Entries below the last signed checkpoint must all be there and right; beyond it, the first frame that does not hold
//! ends the log, because a write that was cut by a crash looks like that. Reads the whole log: linear in its length.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use chancery_ledger::{Entry, Log, LogSigner, LogVerifier};
use chancery_model::Digest;
use tokio::sync::watch;

use super::epochs::{Epochs, Keys};
use super::segment::{self, HEADER_BYTES, Next, Segment};
use super::syncer::{RESERVE, RESERVE_BYTES, Syncer};
use super::tiles::{Tiles, Tree};
use super::volume::{Blob, Volume, read_whole};
use super::{CLOSING_ROOM, FROZEN, Head, OpenError, Options, Progress, Sequencer, Shared, State, SyncThread, Writer};

/// The longest segment that is read. Segments are closed at their limit plus one write.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// A clock this much behind the last entry is not refused: time services step by less.
const CLOCK_STEP_US: i64 = 1_000_000;

/// What was found at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Entries found. 0: the ledger is new.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
    /// Entries that closed as unknown what was open.
    pub crashes: u64,
    /// Bytes cut off after the last whole entry.
    pub cut_bytes: u64,
}

/// The state while segments are read.
struct Scan {
    log: Log,
    signed: u64,
    root: Digest,
    tree: Tree,
    whole: Vec<chancery_ledger::Tile>,
    cut_bytes: u64,
}

pub(super) fn open(
    volume: Arc<dyn Volume>,
    keys: Arc<dyn Volume>,
    signer: LogSigner,
    origin: &str,
    options: Options,
) -> Result<(Sequencer, Recovery), OpenError> {
    let misuse = |error: chancery_ledger::LedgerError| OpenError::Misuse(error.to_string());
    let verifier = LogVerifier::parse(&signer.verifier_key()).map_err(misuse)?;
    if verifier.name() != origin {
        return Err(OpenError::Misuse("the key is another origin's".into()));
    }
    if let Some(why) = read_note(volume.as_ref(), FROZEN)? {
        return Err(OpenError::Frozen(why.trim_end().to_owned()));
    }
    let mut scan = Scan {
        log: Log::new(origin, options.boot).map_err(misuse)?,
        signed: 0,
        root: Digest::default(),
        tree: Tree::default(),
        whole: Vec::new(),
        cut_bytes: 0,
    };
    if let Some(note) = read_note(volume.as_ref(), "checkpoint")? {
        let signed = verifier.open(&note).map_err(|error| OpenError::Checkpoint(error.to_string()))?;
        (scan.signed, scan.root) = (signed.checkpoint.size, signed.checkpoint.root);
    }
    let last = scan.segments(volume.as_ref())?;
    if scan.log.size() < scan.signed {
        return Err(OpenError::Truncated { found: scan.log.size(), signed: scan.signed });
    }
    let now = (options.clock)().wall;
    if let Some(last) = scan.log.last_time().filter(|last| now < last.plus_micros(-CLOCK_STEP_US)) {
        return Err(OpenError::ClockBehind { now, last });
    }
    let mut tiles = Tiles::default();
    for tile in &scan.whole {
        tiles.mend(volume.as_ref(), tile)?;
    }
    let (segment, offset) = match last {
        Some(last) => last,
        None => {
            let segment = Segment::create(volume.as_ref(), 0, options.ahead_bytes + CLOSING_ROOM)?;
            (segment, HEADER_BYTES as u64)
        }
    };
    if volume.open(RESERVE).is_err()
        && let Err(error) = volume.replace(RESERVE, &vec![0xff; RESERVE_BYTES])
        && !super::is_full(&error)
    {
        return Err(error.into());
    }
    start(volume, Keys(keys), signer, options, scan, tiles, (segment, offset))
}

fn start(
    volume: Arc<dyn Volume>,
    keys: Keys,
    signer: LogSigner,
    options: Options,
    scan: Scan,
    tiles: Tiles,
    (segment, offset): (Segment, u64),
) -> Result<(Sequencer, Recovery), OpenError> {
    let crashes = scan.log.crashes();
    let recovery = Recovery {
        size: scan.log.size(),
        root: scan.tree.root(),
        crashes: crashes.len() as u64,
        cut_bytes: scan.cut_bytes,
    };
    let (found, origin) = ((recovery.size, recovery.root), scan.log.origin().to_owned());
    let (epochs, epoch, begun) = Epochs::begin(keys, &signer, &origin, scan.log.epochs(), found, &options)?;
    let head = Head {
        log: scan.log,
        epoch: Arc::new(epoch),
        segment: Arc::new(segment),
        offset,
        buffer: Vec::with_capacity(64 * 1024),
        leaves: Vec::new(),
        state: State::Running,
        shortage: None,
        behind: None,
        fresh: true,
        wanted: true,
        idle: false,
        stopping: false,
    };
    let shared = Arc::new(Shared {
        volume,
        options,
        signer,
        head: Mutex::new(head),
        // What an earlier process wrote may still be in the page cache only.
        writer: Mutex::new(Writer { spare: Vec::with_capacity(64 * 1024), dirty: true }),
        tree: Mutex::new(scan.tree),
        wake: Condvar::new(),
        progress: watch::Sender::new(Progress::default()),
        written: AtomicU64::new(recovery.size),
    });
    // If we crash in between, the next start finds fewer open ones and goes on.
    for entry in [Entry::KeyEpoch(begun)].iter().chain(&crashes) {
        let mut head = shared.lock();
        shared.append_entry(&mut head, entry)?;
    }
    shared.write_below(u64::MAX)?;
    let now = Instant::now();
    let syncer = Syncer {
        shared: shared.clone(),
        tiles,
        epochs,
        signed: u64::MAX,
        signed_at: now.checked_sub(shared.options.checkpoint).unwrap_or(now),
        watched_at: now.checked_sub(super::syncer::WATCH).unwrap_or(now),
        active_at: now,
    };
    let thread = std::thread::Builder::new().name("ledger-sync".into()).spawn(move || syncer.run())?;
    let thread = Arc::new(SyncThread { shared: shared.clone(), thread: Mutex::new(Some(thread)) });
    Ok((Sequencer { shared, _thread: thread }, recovery))
}

/// A small text file, or `None` if there is none.
pub(super) fn read_note(volume: &dyn Volume, name: &str) -> Result<Option<String>, OpenError> {
    let blob = match volume.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        blob => blob?,
    };
    let bytes = read_whole(blob.as_ref(), 64 * 1024)?;
    String::from_utf8(bytes).map(Some).map_err(|_| OpenError::Checkpoint(format!("{name} is not text")))
}

impl Scan {
    fn damaged(&self, file: &str, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { index: self.log.size(), file: file.to_owned(), what: what.into() }
    }

    /// Reads all segments and returns the last, ready to be written to, with the offset of its end.
    fn segments(&mut self, volume: &dyn Volume) -> Result<Option<(Segment, u64)>, OpenError> {
        let names = volume.list("entries")?;
        let mut last = None;
        for (at, name) in names.iter().enumerate() {
            let file = format!("entries/{name}");
            let is_last = at + 1 == names.len();
            let blob = volume.open(&file)?;
            let bytes = read_whole(blob.as_ref(), SEGMENT_BYTES_MAX)?;
            if segment::name(self.log.size()) != file {
                return Err(self.damaged(&file, "the segment does not begin where the one before it ends"));
            }
            if segment::header(&bytes) != Some(self.log.size()) {
                // A crash while the file was made leaves it without a whole header; nothing can be in it.
                if is_last && self.log.size() >= self.signed && bytes.iter().skip(HEADER_BYTES).all(|b| *b == 0) {
                    return Ok(Some((Segment::create(volume, self.log.size(), 0)?, HEADER_BYTES as u64)));
                }
                return Err(self.damaged(&file, "the segment's header is wrong"));
            }
            let end = self.frames(&file, &bytes, is_last)?;
            if is_last {
                last = Some((self.cut(blob, &bytes, end)?, end as u64));
            }
        }
        Ok(last)
    }

    fn at_signed(&self) -> Result<(), OpenError> {
        if self.log.size() == self.signed && self.tree.root() != self.root {
            return Err(OpenError::Checkpoint(format!("the first {} entries are not the signed ones", self.signed)));
        }
        Ok(())
    }

    /// Replays the frames of a segment and returns the offset after the last one that counts.
    fn frames(&mut self, file: &str, bytes: &[u8], is_last: bool) -> Result<usize, OpenError> {
        let mut at = HEADER_BYTES;
        loop {
            match segment::next(bytes, at) {
                Next::Entry(line, after) => {
                    let entry = self.log.replay(line).map_err(|error| self.damaged(file, error.to_string()))?;
                    self.tree.push(entry.leaf, &mut self.whole);
                    self.at_signed()?;
                    at = after;
                }
                Next::Pruned(hash, after) => {
                    self.log.skip();
                    self.tree.push(hash, &mut self.whole);
                    self.at_signed()?;
                    at = after;
                }
                Next::End => return Ok(at),
                // Segments before the last were synced whole before the next one began.
                Next::Bad(what) if self.log.size() < self.signed || !is_last => return Err(self.damaged(file, what)),
                Next::Bad(what) => {
                    tracing::warn!(index = self.log.size(), what, "ledger cut after its last whole entry");
                    return Ok(at);
                }
            }
        }
    }

    /// Zeroes what follows the end, so that nothing of it can pass for an entry later.
    fn cut(&mut self, blob: Arc<dyn Blob>, bytes: &[u8], end: usize) -> Result<Segment, OpenError> {
        let rest = bytes.get(end..).unwrap_or_default();
        let cut = rest.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        if cut > 0 {
            blob.write_at(end as u64, &vec![0; cut])?;
            blob.sync()?;
            self.cut_bytes = cut as u64;
        }
        Ok(Segment::reopen(blob, bytes.len() as u64))
    }
}
