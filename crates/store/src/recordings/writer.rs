//! The recorder's thread: takes what the spools hold, packs and chains blocks, writes and syncs once per round.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chancery_ledger::{BLOCK_HEADER_BYTES, BlockHeader, Codec, Hasher, RecordingSegment};
use chancery_model::{Digest, SessionId};
use lz4_flex::block::CompressTable;

use super::reader::{FileScan, file_name, file_number};
use super::salts::Salts;
use super::{OnClosed, RecordFault, Shared, SpoolState};
use crate::sequencer::{Blob, Volume, read_whole};

/// Up to here a small table will do (`lz4_flex`).
const SMALL_BLOCK_BYTES: usize = 64 * 1024 - 1;
/// How long to wait before a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// Holds the number of the last file whose entry the ledger took.
const REPORTED: &str = "reported";

struct Writer {
    shared: Arc<Shared>,
    volume: Arc<dyn Volume>,
    on_closed: OnClosed,
    blob: Arc<dyn Blob>,
    number: u64,
    offset: u64,
    blocks: u64,
    /// When its first block was written.
    begun: Option<Instant>,
    hasher: Hasher,
    /// Room for the round's blocks; what lies behind `end` is left from earlier rounds.
    out: Vec<u8>,
    end: usize,
    /// Kept, because making one costs more than packing a small block.
    small: CompressTable,
    large: CompressTable,
    salts: Salts,
}

/// What a round took from one spool.
struct Taken {
    spool: Arc<SpoolState>,
    session: SessionId,
    blocks: Vec<Vec<u8>>,
    bytes: usize,
    appended: u64,
    next_block: u64,
    head: Digest,
}

pub(super) fn start(
    shared: Arc<Shared>,
    volume: Arc<dyn Volume>,
    mut on_closed: OnClosed,
) -> io::Result<JoinHandle<()>> {
    let next = report_left_over(volume.as_ref(), &mut on_closed)?;
    let blob = volume.create(&file_name(next))?;
    let writer = Writer {
        shared,
        volume,
        on_closed,
        blob,
        number: next,
        offset: 0,
        blocks: 0,
        begun: None,
        hasher: Hasher::default(),
        out: Vec::new(),
        end: 0,
        small: CompressTable::small(),
        large: CompressTable::large(),
        salts: Salts::default(),
    };
    std::thread::Builder::new().name("recorder".into()).spawn(move || writer.run())
}

/// Tells of files whose entry the ledger never took, and returns the number of the next file.
fn report_left_over(volume: &dyn Volume, on_closed: &mut OnClosed) -> io::Result<u64> {
    let mut reported = reported(volume)?;
    let numbers: Vec<u64> = volume.list("files")?.iter().filter_map(|name| file_number(name)).collect();
    for number in &numbers {
        if reported.is_some_and(|reported| *number <= reported) {
            continue;
        }
        let scan = FileScan::of(volume.open(&file_name(*number))?.as_ref(), |_| {})?;
        if let Some(what) = scan.damage {
            tracing::warn!(file = number, what, "recording file cut after its last whole block");
        }
        if on_closed(scan.segment(*number)) {
            volume.replace(REPORTED, number.to_string().as_bytes())?;
            reported = Some(*number);
        } else {
            break;
        }
    }
    // The last files may have been pruned; a number does not come back.
    Ok(numbers.last().copied().max(reported).map_or(0, |last| last + 1))
}

/// The number of the last file whose entry the ledger took.
pub(super) fn reported(volume: &dyn Volume) -> io::Result<Option<u64>> {
    let blob = match volume.open(REPORTED) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        blob => blob?,
    };
    let text = String::from_utf8(read_whole(blob.as_ref(), 64)?).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Some(text.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?))
}

impl Writer {
    fn run(mut self) {
        loop {
            let (spools, stopping) = self.wait();
            if let Err(error) = self.round(&spools).and_then(|()| self.turn_over()) {
                tracing::error!(%error, "recorder stopped");
                return self.end(RecordFault::Failed(error.kind()), spools);
            }
            if stopping {
                if let Err(error) = self.close_file() {
                    tracing::error!(%error, "recording file not closed");
                }
                return self.end(RecordFault::Closed, Vec::new());
            }
        }
    }

    /// Returns with the spools to write: at once when hurried, else a flush interval after the first frame.
    fn wait(&self) -> (Vec<Arc<SpoolState>>, bool) {
        let flush = self.shared.options.flush;
        let mut since: Option<Instant> = None;
        let mut queue = self.shared.lock();
        loop {
            let hurry =
                queue.stopping || queue.wanted || self.shared.bytes.load(Ordering::Relaxed) >= super::HURRY_BYTES;
            if queue.older.is_some() || hurry && (queue.stopping || !queue.spools.is_empty()) {
                break;
            }
            queue.wanted = false;
            if queue.spools.is_empty() {
                queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let elapsed = since.get_or_insert_with(Instant::now).elapsed();
            let Some(left) = flush.checked_sub(elapsed).filter(|left| !left.is_zero()) else { break };
            queue = self.shared.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.shared.bytes.store(0, Ordering::Relaxed);
        queue.wanted = false;
        (std::mem::take(&mut queue.spools), queue.stopping)
    }

    fn round(&mut self, spools: &[Arc<SpoolState>]) -> io::Result<()> {
        let mut taken: Vec<Taken> = spools.iter().cloned().map(take).collect();
        self.end = 0;
        for one in &mut taken {
            self.pack(one)?;
        }
        if self.end > 0 {
            self.write()?;
            self.blob.sync()?;
            self.begun.get_or_insert_with(Instant::now);
            self.offset += self.end as u64;
            self.hasher.update(&self.out[..self.end]);
        }
        for one in &taken {
            settle(one);
        }
        if self.out.len() > 16 << 20 {
            self.out = Vec::new();
        }
        if self.offset >= self.shared.options.file_bytes {
            self.next_file()?;
        }
        Ok(())
    }

    /// Closes the file if somebody asked for it and it is old enough.
    fn turn_over(&mut self) -> io::Result<()> {
        let Some(age) = self.shared.lock().older.take() else { return Ok(()) };
        match self.begun {
            Some(begun) if begun.elapsed() >= age => match self.next_file() {
                // It is asked again another day.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
                done => done,
            },
            _ => Ok(()),
        }
    }

    fn next_file(&mut self) -> io::Result<()> {
        let next = self.volume.create(&file_name(self.number + 1))?;
        // If we crash here, the next start states both files.
        self.close_file()?;
        (self.number, self.blob) = (self.number + 1, next);
        (self.offset, self.blocks, self.begun, self.hasher) = (0, 0, None, Hasher::default());
        Ok(())
    }

    /// One write at one place: on a full disk it is tried again until there is space, while the spools hold back their
    /// sessions. What a failed attempt left is overwritten.
    fn write(&self) -> io::Result<()> {
        loop {
            match self.blob.write_at(self.offset, &self.out[..self.end]) {
                Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    let mut queue = self.shared.lock();
                    if queue.stopping {
                        return Err(error);
                    }
                    self.shared.unwell.store(true, Ordering::Release);
                    if !std::mem::replace(&mut queue.full, true) {
                        tracing::error!("recordings are short of space");
                    }
                    drop(self.shared.wake.wait_timeout(queue, FULL_RETRY).unwrap_or_else(PoisonError::into_inner));
                }
                done => {
                    let mut queue = self.shared.lock();
                    queue.full = false;
                    self.shared.unwell.store(queue.ended.is_some(), Ordering::Release);
                    return done;
                }
            }
        }
    }

    /// Appends the blocks of one spool to the round's write.
    fn pack(&mut self, taken: &mut Taken) -> io::Result<()> {
        for raw in &taken.blocks {
            let (start, body) = (self.end, self.end + BLOCK_HEADER_BYTES);
            let room = body + lz4_flex::block::get_maximum_output_size(raw.len());
            if self.out.len() < room {
                self.out.resize(room.next_power_of_two(), 0);
            }
            // Stored as it is unless that saves an eighth: decoding is not free.
            let table = if raw.len() < SMALL_BLOCK_BYTES { &mut self.small } else { &mut self.large };
            let packed = lz4_flex::block::compress_into_with_table(raw, &mut self.out[body..room], table).ok();
            let codec = match packed.filter(|packed| packed + raw.len() / 8 < raw.len()) {
                Some(packed) => {
                    self.end = body + packed;
                    Codec::Lz4
                }
                None => {
                    self.end = body + raw.len();
                    self.out[body..self.end].copy_from_slice(raw);
                    Codec::Raw
                }
            };
            let stored_len = self.end - body;
            let mut header = BlockHeader {
                session: taken.session,
                number: taken.next_block,
                previous: taken.head,
                salt: self.salts.next()?,
                codec,
                raw_len: raw.len() as u32,
                stored_len: stored_len as u32,
                crc: 0,
            };
            let crc_at = BLOCK_HEADER_BYTES - 4;
            header.crc = block_crc(&header.encode()[..crc_at], &self.out[body..self.end]);
            self.out[start..body].copy_from_slice(&header.encode());
            taken.head = header.hash(&self.out[body..self.end]);
            taken.next_block += 1;
            self.blocks += 1;
        }
        Ok(())
    }

    fn close_file(&mut self) -> io::Result<()> {
        let digest = std::mem::take(&mut self.hasher).finish();
        let segment = RecordingSegment { file: self.number, bytes: self.offset, blocks: self.blocks, digest };
        // If we crash in between, the file is told of twice, in the same words.
        if (self.on_closed)(segment) {
            self.volume.replace(REPORTED, self.number.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Ends the spools of the round that failed and those that came in since; the others learn it at their next frame.
    fn end(&self, fault: RecordFault, mut spools: Vec<Arc<SpoolState>>) {
        {
            let mut queue = self.shared.lock();
            queue.ended = Some(fault);
            self.shared.unwell.store(true, Ordering::Release);
            spools.append(&mut queue.spools);
        }
        for spool in spools {
            spool.lock().ended = Some(fault);
            spool.moved.notify_waiters();
        }
    }
}

pub(super) fn block_crc(header: &[u8], stored: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(header);
    digest.update(stored);
    digest.finalize() as u32
}

fn take(spool: Arc<SpoolState>) -> Taken {
    let mut inner = spool.lock();
    inner.queued = false;
    inner.uncounted = 0;
    // The whole deque goes, with its memory: an idle spool owns no buffer.
    let blocks = Vec::from(std::mem::take(&mut inner.blocks));
    let bytes = blocks.iter().map(Vec::len).sum();
    let (session, appended, next_block, head) = (inner.frames.session(), inner.appended, inner.next_block, inner.head);
    drop(inner);
    Taken { spool, session, blocks, bytes, appended, next_block, head }
}

fn settle(taken: &Taken) {
    let mut inner = taken.spool.lock();
    inner.waiting -= taken.bytes;
    inner.synced = taken.appended;
    (inner.next_block, inner.head) = (taken.next_block, taken.head);
    drop(inner);
    taken.spool.moved.notify_waiters();
}
