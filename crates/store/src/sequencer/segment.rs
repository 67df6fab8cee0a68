//! Segment files of entries: a header, then frames, then zeros written ahead. Not here: what the entries say.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chancery_ledger::ENTRY_BYTES_MAX;
use chancery_model::Digest;

use super::volume::{Blob, Volume};

/// Magic and index of the first entry.
pub(crate) const HEADER_BYTES: usize = 16;
/// Length and CRC-32C, little-endian.
pub(crate) const FRAME_HEADER_BYTES: usize = 8;
/// The length of a frame that holds the hash of a pruned entry: 32, and the highest bit.
const PRUNED: u32 = 1 << 31 | 32;
const MAGIC: [u8; 8] = *b"CLEDGER1";
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The segment that is written to.
pub(crate) struct Segment {
    pub(crate) blob: Arc<dyn Blob>,
    /// End of the zeros written ahead. Entries are written below it only, so that growing needs no lock of theirs.
    ahead: AtomicU64,
    growing: Mutex<()>,
}

impl Segment {
    pub(crate) fn create(volume: &dyn Volume, first: u64, ahead: u64) -> io::Result<Self> {
        // A file of this name is what a rotation left that ran out of space; it holds no entry.
        volume.remove(&name(first))?;
        let blob = volume.create(&name(first))?;
        blob.write_at(0, &segment_header(first))?;
        let segment = Self::reopen(blob, HEADER_BYTES as u64);
        segment.grow(HEADER_BYTES as u64 + ahead)?;
        // If we crash before this, recovery finds a segment without a frame, which is an empty one.
        segment.blob.sync()?;
        Ok(segment)
    }
    pub(crate) fn reopen(blob: Arc<dyn Blob>, ahead: u64) -> Self {
        Self { blob, ahead: AtomicU64::new(ahead), growing: Mutex::new(()) }
    }
    pub(crate) fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Acquire)
    }
    /// Writes zeros up to `to`, so that a later sync of entries has no new length or block to commit.
    pub(crate) fn grow(&self, to: u64) -> io::Result<()> {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from = self.ahead();
        while from < to {
            let piece = (to - from).min(ZEROS.len() as u64);
            self.blob.write_at(from, &ZEROS[..piece as usize])?;
            from += piece;
            self.ahead.store(from, Ordering::Release);
        }
        Ok(())
    }
}

pub(crate) fn name(first: u64) -> String {
    format!("entries/{first:020}.seg")
}

/// What a segment begins with.
pub(crate) fn segment_header(first: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&first.to_be_bytes());
    header
}

/// Begins a frame in `out`; the entry's bytes follow, then [`end_frame`]. Its checksum is made by [`check_frames`].
pub(crate) fn begin_frame(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    out.len()
}

pub(crate) fn end_frame(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as u32;
    out[start - 8..start - 4].copy_from_slice(&length.to_le_bytes());
}

/// Writes the checksums of a sequence of frames, all at once before they are written, so that nobody waits for them.
pub(crate) fn check_frames(mut frames: &mut [u8]) {
    while let Some((header, rest)) = frames.split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let (entry, after) = rest.split_at_mut(length.min(rest.len()));
        header[4..].copy_from_slice(&crc(entry).to_le_bytes());
        frames = after;
    }
}

/// Appends the frame of a pruned entry.
pub(crate) fn pruned_frame(out: &mut Vec<u8>, hash: &Digest) {
    out.extend_from_slice(&PRUNED.to_le_bytes());
    out.extend_from_slice(&crc(&hash.0).to_le_bytes());
    out.extend_from_slice(&hash.0);
}

pub(crate) fn crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// What a segment holds at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// An entry, and the offset after it.
    Entry(&'a [u8], usize),
    /// The hash of an entry that was pruned, and the offset after it.
    Pruned(Digest, usize),
    /// Only zeros from here.
    End,
    /// Neither.
    Bad(&'static str),
}

pub(crate) fn header(bytes: &[u8]) -> Option<u64> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let first = rest.first_chunk::<8>()?;
    (*magic == MAGIC).then_some(u64::from_be_bytes(*first))
}

pub(crate) fn next(bytes: &[u8], at: usize) -> Next<'_> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some((length, after)) = rest.split_first_chunk::<4>() else {
        return if rest.iter().all(|b| *b == 0) { Next::End } else { Next::Bad("the frame's header is cut") };
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 {
        return if rest.iter().all(|b| *b == 0) { Next::End } else { Next::Bad("bytes follow the end") };
    }
    if length == PRUNED as usize {
        let hash = after.get(4..4 + 32).and_then(|hash| <[u8; 32]>::try_from(hash).ok());
        return match (after.first_chunk::<4>(), hash) {
            (Some(told), Some(hash)) if crc(&hash) == u32::from_le_bytes(*told) => {
                Next::Pruned(Digest(hash), at + FRAME_HEADER_BYTES + hash.len())
            }
            _ => Next::Bad("the hash of a pruned entry is cut or its checksum is wrong"),
        };
    }
    if length > ENTRY_BYTES_MAX {
        return Next::Bad("the frame's length is out of bounds");
    }
    let Some((told, after)) = after.split_first_chunk::<4>() else { return Next::Bad("the frame's header is cut") };
    let Some(entry) = after.get(..length) else { return Next::Bad("the frame is cut") };
    if crc(entry) != u32::from_le_bytes(*told) {
        return Next::Bad("the frame's checksum is wrong");
    }
    Next::Entry(entry, at + FRAME_HEADER_BYTES + length)
}
