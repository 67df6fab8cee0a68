//! The sealer's thread: has closed segments encrypted, writes them, and has them recorded.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chancery_ledger::{Hasher, RawSegment};
use chancery_model::{Digest, SessionId};

use super::reader::{body_name, header_name};
use super::{OnSealed, SealFault, Sealed, Segment, SegmentSealer, Shared, SpoolState};
use crate::sequencer::Volume;

struct Writer {
    shared: Arc<Shared>,
    volume: Arc<dyn Volume>,
    on_sealed: OnSealed,
}

pub(super) fn start(shared: Arc<Shared>, volume: Arc<dyn Volume>, on_sealed: OnSealed) -> io::Result<JoinHandle<()>> {
    let writer = Writer { shared, volume, on_sealed };
    std::thread::Builder::new().name("sealer".into()).spawn(move || writer.run())
}

impl Writer {
    fn run(mut self) {
        loop {
            let (spools, stopping) = self.wait();
            for spool in spools {
                self.segments(&spool);
            }
            if stopping {
                return self.end();
            }
        }
    }

    /// Returns the spools whose closed segments are to be sealed. Segments whose time is over are closed here.
    fn wait(&self) -> (Vec<Arc<SpoolState>>, bool) {
        let mut queue = self.shared.lock();
        loop {
            let every = queue.stopping || std::mem::take(&mut queue.hurry);
            let now = Instant::now();
            let mut ready: Vec<Arc<SpoolState>> = queue.full.drain(..).collect();
            let mut next = Duration::MAX;
            while let Some(first) = queue.opened.front() {
                let left = self.shared.options.segment_time.saturating_sub(now.duration_since(first.since));
                if !every && !left.is_zero() {
                    next = left;
                    break;
                }
                if let Some(opened) = queue.opened.pop_front() {
                    let mut inner = opened.spool.lock();
                    // It may have been closed for its length long ago.
                    if inner.index == opened.index && inner.close() {
                        ready.push(opened.spool.clone());
                    }
                }
            }
            if !ready.is_empty() || queue.stopping {
                return (ready, queue.stopping);
            }
            queue = match next {
                Duration::MAX => self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                left => self.shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Seals what a spool has closed.
    fn segments(&mut self, spool: &Arc<SpoolState>) {
        loop {
            let (sealer, index, segment) = {
                let mut inner = spool.lock();
                let Some(sealer) = inner.sealer.clone() else { return };
                let Some((index, segment)) = inner.closed.pop_front() else { return };
                (sealer, index, segment)
            };
            let bytes = segment.bytes;
            let written = self.segment(spool.session, index, segment, sealer.as_ref());
            let mut inner = spool.lock();
            let gone = match written {
                Ok(()) => {
                    inner.waiting = inner.waiting.saturating_sub(bytes);
                    bytes
                }
                Err(fault) => {
                    tracing::error!(session = %spool.session, %fault, "originals are not sealed any more");
                    inner.end(fault)
                }
            };
            drop(inner);
            self.shared.bytes.fetch_sub(gone, Ordering::Relaxed);
            self.shared.moved.notify_waiters();
        }
    }

    /// Encrypts a segment, has it on disk, then on record. If we crash in between, files lie there that no entry names:
    /// nobody hands them out.
    fn segment(
        &mut self,
        session: SessionId,
        index: u64,
        segment: Segment,
        sealer: &dyn SegmentSealer,
    ) -> Result<(), SealFault> {
        let bytes = segment.bytes as u64;
        let pieces: Vec<&[u8]> = segment.buffers.iter().map(|buffer| buffer.as_slice()).collect();
        let sealed = sealer.seal(index, &pieces);
        drop(pieces);
        // Wiped before anything can go wrong with the disk.
        drop(segment);
        let Sealed { body, header, commitment } = sealed.ok_or(SealFault::Unsealed)?;
        let names = [(body_name(session, index), &body), (header_name(session, index), &header)];
        for (name, bytes) in &names {
            if let Err(error) = self.write(name, bytes) {
                for (name, _) in &names {
                    // What stays is named by no entry.
                    drop(self.volume.remove(name));
                }
                return Err(SealFault::Failed(error.kind()));
            }
        }
        let entry = RawSegment {
            session,
            index,
            bytes,
            body: sha256(&body),
            header: sha256(&header),
            to: sealer.to(),
            commitment,
        };
        if (self.on_sealed)(entry) { Ok(()) } else { Err(SealFault::Unrecorded) }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let blob = self.volume.create(name)?;
        blob.write_at(0, bytes)?;
        blob.sync()
    }

    /// Everything was closed and sealed when it was asked to stop; what came since is not taken.
    fn end(&self) {
        let left: Vec<_> = {
            let mut queue = self.shared.lock();
            queue.ended = true;
            let opened: Vec<_> = queue.opened.drain(..).map(|opened| opened.spool).collect();
            queue.full.drain(..).chain(opened).collect()
        };
        for spool in left {
            let gone = spool.lock().end(SealFault::Closed);
            self.shared.bytes.fetch_sub(gone, Ordering::Relaxed);
        }
        self.shared.moved.notify_waiters();
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}
