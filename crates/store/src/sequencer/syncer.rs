//! The thread that makes entries durable in groups, signs the head, grows and rotates segments, and watches the space.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use chancery_ledger::{Checkpoint, Entry, EpochSigner, Stall as StallEntry};
use chancery_model::Digest;

use super::epochs::Epochs;
use super::segment::Segment;
use super::tiles::Tiles;
use super::{Batch, CLOSING_ROOM, ENTRY_ROOM, Refusing, Shared, Stall, State, is_full};

/// How often the free space is read, and how long the thread sleeps when nothing happens.
pub(super) const WATCH: Duration = Duration::from_secs(1);
/// Space given up when the disk is full, so that what is open can be closed.
pub(super) const RESERVE: &str = "reserve";
pub(super) const RESERVE_BYTES: usize = 1 << 20;

/// What the thread alone owns.
pub(super) struct Syncer {
    pub(super) shared: Arc<Shared>,
    pub(super) tiles: Tiles,
    pub(super) epochs: Epochs,
    /// Size of the last checkpoint that was written.
    pub(super) signed: u64,
    pub(super) signed_at: Instant,
    pub(super) watched_at: Instant,
    pub(super) active_at: Instant,
}

/// However the thread ends, a panic included, nobody waits for it any longer.
impl Drop for Syncer {
    fn drop(&mut self) {
        let mut head = self.shared.lock();
        self.shared.end(&mut head, Stall::Closed);
    }
}

impl Syncer {
    pub(super) fn run(mut self) {
        loop {
            let stopping = self.sleep();
            if self.round(stopping).is_err() || stopping {
                break;
            }
        }
    }

    /// Returns when there is something to do: at once if somebody waits, within `flush` if anything is unsynced.
    fn sleep(&mut self) -> bool {
        let started = Instant::now();
        let mut head = self.shared.lock();
        loop {
            if head.wanted || head.stopping {
                break;
            }
            // After a quiet second the ticking stops; the next append wakes the thread once.
            let quiet = !head.fresh && self.active_at.elapsed() >= WATCH;
            head.idle = quiet;
            let limit = if quiet { WATCH } else { self.shared.options.flush };
            let Some(left) = limit.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else { break };
            head = self.shared.wake.wait_timeout(head, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        head.idle = false;
        head.stopping
    }

    /// One group: write, sync, tell, sign, tidy up. An error means that the sequencer has ended.
    fn round(&mut self, stopping: bool) -> Result<(), Stall> {
        let shared = self.shared.clone();
        // Before the buffer is taken: whoever wants a sync from here on gets the next one.
        shared.lock().wanted = false;
        let due = stopping || self.signed_at.elapsed() >= shared.options.checkpoint;
        let (dirty, segment, size, epoch) = {
            let mut writer = shared.writer();
            let (segment, size, epoch) = shared.write_out(&mut writer, |head| {
                head.fresh = false;
                shared.tree().take(&mut head.leaves);
                (head.segment.clone(), head.log.size(), head.epoch.clone())
            })?;
            (std::mem::take(&mut writer.dirty), segment, size, epoch)
        };
        if dirty {
            self.active_at = Instant::now();
            self.sync(&segment)?;
        }
        shared.progress.send_if_modified(|progress| {
            let moved = progress.durable != size;
            progress.durable = size;
            moved
        });
        self.epochs.settle(size).map_err(|error| self.fail(&error))?;
        self.keep_ahead()?;
        // Only what is on disk is folded, so that this is the root of `size` entries.
        if let Some(root) = self.fold(due && size != self.signed) {
            let origin = shared.lock().log.origin().to_owned();
            self.sign(&Checkpoint { origin, size, root }, &epoch, stopping)?;
        }
        if stopping {
            return Ok(());
        }
        self.epochs.turn(&shared, size)?;
        if self.watched_at.elapsed() >= WATCH {
            self.watched_at = Instant::now();
            self.watch_space()?;
        }
        self.rotate()
    }

    fn sync(&self, segment: &Segment) -> Result<(), Stall> {
        // After an error the page cache may show what the disk does not have: never retried, nobody is told "durable".
        segment.blob.sync().map_err(|error| self.fail(&error))
    }

    fn fail(&self, error: &io::Error) -> Stall {
        self.shared.failed(&mut self.shared.lock(), error)
    }

    /// Signs only what is on disk: the caller's sync covered `checkpoint.size` entries.
    fn sign(&mut self, checkpoint: &Checkpoint, epoch: &EpochSigner, last: bool) -> Result<(), Stall> {
        let signed = epoch.countersign(self.shared.signer.sign(checkpoint));
        let volume = &self.shared.volume;
        // If we crash between the two, the older checkpoint stands, which is true of a prefix.
        let kept = if last { volume.replace(&kept_name(checkpoint.size), signed.note.as_bytes()) } else { Ok(()) };
        match kept.and_then(|()| volume.replace("checkpoint", signed.note.as_bytes())) {
            Ok(()) => {
                self.signed = checkpoint.size;
                self.signed_at = Instant::now();
                Ok(())
            }
            Err(error) if is_full(&error) => {
                self.full();
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Folds this round's leaf hashes and writes the tiles that they complete; the root if it is asked for. Tiles are
    /// derived: one that cannot be written is made again at the next start.
    fn fold(&mut self, root: bool) -> Option<Digest> {
        let mut whole = Vec::new();
        let root = {
            let mut tree = self.shared.tree();
            tree.fold(&mut whole);
            root.then(|| tree.root())
        };
        for tile in &whole {
            if let Err(error) = self.tiles.write(self.shared.volume.as_ref(), tile) {
                tracing::warn!(%error, "tile not written");
            }
        }
        root
    }

    fn keep_ahead(&self) -> Result<(), Stall> {
        let (segment, offset) = {
            let head = self.shared.lock();
            (head.segment.clone(), head.offset)
        };
        let options = &self.shared.options;
        if segment.ahead() >= offset + options.ahead_bytes / 2 + CLOSING_ROOM + ENTRY_ROOM {
            return Ok(());
        }
        match segment.grow(offset + options.ahead_bytes + CLOSING_ROOM + ENTRY_ROOM) {
            Ok(()) => Ok(()),
            Err(error) if is_full(&error) => {
                self.full();
                Ok(())
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    fn watch_space(&self) -> Result<(), Stall> {
        let shared = &self.shared;
        let free = shared.volume.free().map_err(|error| self.fail(&error))?;
        let short = free < shared.options.reserve_bytes;
        let was_full = shared.lock().state == State::Full;
        // The inline path may have noticed first; then the stall is told here.
        if short || was_full {
            self.full();
        }
        if was_full && !short && self.regain() {
            let mut head = shared.lock();
            if head.state == State::Full {
                head.state = State::Running;
                tracing::info!("ledger has space again");
                if let Some(shortage) = head.shortage.take() {
                    let over = Some(shortage.over((shared.options.clock)().mono));
                    // If it cannot be said now, it was said that it began.
                    let _ = shared.append_entry(&mut head, &Entry::Stall(StallEntry { reason: "disk-full", over }));
                }
            }
        }
        Ok(())
    }

    /// Whether the reserve and the space ahead are there again.
    fn regain(&self) -> bool {
        let (segment, offset) = {
            let head = self.shared.lock();
            (head.segment.clone(), head.offset)
        };
        let grown = segment.grow(offset + self.shared.options.ahead_bytes + CLOSING_ROOM + ENTRY_ROOM);
        let reserved = self.shared.volume.replace(RESERVE, &vec![0xff; RESERVE_BYTES]);
        grown.and(reserved).is_ok()
    }

    /// Refuses what opens anything, gives up the reserve and says so in the ledger.
    fn full(&self) {
        let shared = &self.shared;
        if let Err(error) = shared.volume.remove(RESERVE) {
            tracing::warn!(%error, "ledger reserve not given up");
        }
        let mut head = shared.lock();
        if matches!(head.state, State::Ended(_)) || head.shortage.is_some() {
            return;
        }
        head.state = State::Full;
        head.shortage = Some(Refusing::since((shared.options.clock)().mono));
        tracing::error!("ledger is short of space and refuses new commands");
        let entry = Entry::Stall(StallEntry { reason: "disk-full", over: None });
        if shared.append_entry(&mut head, &entry).is_ok() {
            head.wanted = true;
        }
    }

    fn rotate(&self) -> Result<(), Stall> {
        let shared = &self.shared;
        if shared.lock().offset < shared.options.segment_bytes {
            return Ok(());
        }
        let mut writer = shared.writer();
        let mut head = shared.lock();
        if head.state != State::Running {
            return Ok(());
        }
        let batch = Batch::take(&mut head, &mut writer)?;
        if let Err(error) = batch.write(&mut writer) {
            return Err(shared.failed(&mut head, &error));
        }
        shared.written.store(batch.size, Ordering::Release);
        // Under both locks, once in 64 MiB: nothing may stand in the new segment before the old one is on disk whole.
        if let Err(error) = head.segment.blob.sync() {
            return Err(shared.failed(&mut head, &error));
        }
        match Segment::create(shared.volume.as_ref(), head.log.size(), shared.options.ahead_bytes + CLOSING_ROOM) {
            Ok(segment) => {
                head.segment = Arc::new(segment);
                head.offset = super::segment::HEADER_BYTES as u64;
                writer.dirty = false;
            }
            Err(error) if is_full(&error) => head.state = State::Full,
            Err(error) => return Err(shared.failed(&mut head, &error)),
        }
        Ok(())
    }
}

pub(super) fn kept_name(size: u64) -> String {
    format!("checkpoints/{size:020}")
}
