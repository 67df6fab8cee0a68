//! Reads recordings back: for replay, for the index by session, for the verifier. One block in memory at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use chancery_ledger::{
    BLOCK_HEADER_BYTES, Block, BlockHeader, Codec, FrameIter, FrameView, Hasher, RecordingSegment, Verifier,
};
use chancery_model::{SessionId, Timestamp};

use super::writer::{block_crc, reported};
use crate::sequencer::{Blob, Volume};

pub(crate) fn file_name(number: u64) -> String {
    format!("files/{number:012}.rec")
}

pub(super) fn file_number(name: &str) -> Option<u64> {
    name.strip_suffix(".rec")?.parse().ok()
}

/// What a pass over one file found.
pub(crate) struct FileScan {
    bytes: u64,
    blocks: u64,
    hasher: Hasher,
    pub(super) damage: Option<&'static str>,
}

impl FileScan {
    /// Visits the whole blocks from the start; ends at the first that does not hold.
    pub(crate) fn of(blob: &dyn Blob, mut visit: impl FnMut(&Block<'_>)) -> io::Result<Self> {
        Self::from(blob, 0, |block| {
            visit(block);
            ControlFlow::Continue(())
        })
    }
    /// The same from the block at an offset on, until `visit` breaks.
    fn from(blob: &dyn Blob, offset: u64, mut visit: impl FnMut(&Block<'_>) -> ControlFlow<()>) -> io::Result<Self> {
        let mut scan = Self { bytes: 0, blocks: 0, hasher: Hasher::default(), damage: None };
        let mut payload = Vec::new();
        loop {
            let mut head = [0; BLOCK_HEADER_BYTES];
            let got = fill(blob, offset + scan.bytes, &mut head)?;
            if got == 0 {
                return Ok(scan);
            }
            if got < BLOCK_HEADER_BYTES {
                scan.damage = Some("a block's header is cut");
                return Ok(scan);
            }
            let header = match BlockHeader::parse(&head) {
                Ok(header) => header,
                Err(error) => {
                    scan.damage = Some(error.0);
                    return Ok(scan);
                }
            };
            payload.resize(header.stored_len as usize, 0);
            let body = offset + scan.bytes + BLOCK_HEADER_BYTES as u64;
            let whole = fill(blob, body, &mut payload)? == payload.len();
            if !whole || block_crc(&head[..BLOCK_HEADER_BYTES - 4], &payload) != header.crc {
                scan.damage = Some("a block is cut or its checksum is wrong");
                return Ok(scan);
            }
            let flow = visit(&Block { header, stored: &payload });
            scan.hasher.update(&head);
            scan.hasher.update(&payload);
            scan.bytes += (BLOCK_HEADER_BYTES + payload.len()) as u64;
            scan.blocks += 1;
            if flow.is_break() {
                return Ok(scan);
            }
        }
    }
    pub(crate) fn segment(self, file: u64) -> RecordingSegment {
        RecordingSegment { file, bytes: self.bytes, blocks: self.blocks, digest: self.hasher.finish() }
    }
}

fn fill(blob: &dyn Blob, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < into.len() {
        match blob.read_at(offset + at as u64, &mut into[at..])? {
            0 => break,
            n => at += n,
        }
    }
    Ok(at)
}

/// What one file of recordings holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSurvey {
    /// Number, and length, blocks and digest of its whole blocks.
    pub segment: RecordingSegment,
    /// Its length on disk.
    pub length: u64,
    /// The first and the last instant that a frame in it speaks of; `None` if there is no frame.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The sessions that have blocks in it.
    pub sessions: BTreeSet<SessionId>,
    /// A block of it does not decode.
    pub damaged: bool,
}

/// A session that has blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedSession {
    /// Which.
    pub session: SessionId,
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes of frames, decoded.
    pub bytes: u64,
}

/// Reads recordings, beside their writer or long after.
#[derive(Clone)]
pub struct RecordingReader {
    volume: Arc<dyn Volume>,
}

impl std::fmt::Debug for RecordingReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordingReader").finish_non_exhaustive()
    }
}

impl RecordingReader {
    /// Over the recordings in `volume`.
    pub fn new(volume: Arc<dyn Volume>) -> Self {
        Self { volume }
    }

    /// Visits the whole blocks of a file from an offset on.
    pub(crate) fn blocks_of(
        &self,
        file: u64,
        offset: u64,
        visit: impl FnMut(&Block<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        FileScan::from(self.volume.open(&file_name(file))?.as_ref(), offset, visit).map(drop)
    }

    /// Fills from an offset of a file on; how far. Nothing if there is no such file.
    pub(crate) fn read_at(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        match self.volume.open(&file_name(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            blob => fill(blob?.as_ref(), offset, into),
        }
    }

    pub(crate) fn files(&self) -> io::Result<Vec<u64>> {
        Ok(self.volume.list("files")?.iter().filter_map(|name| file_number(name)).collect())
    }

    /// The files that are closed and stated in the ledger, by number.
    pub fn closed(&self) -> io::Result<Vec<u64>> {
        let last = reported(self.volume.as_ref())?;
        Ok(self.files()?.into_iter().filter(|number| last.is_some_and(|last| *number <= last)).collect())
    }

    /// Reads a closed file through. `None`: there is no such file.
    pub fn survey(&self, number: u64) -> io::Result<Option<FileSurvey>> {
        let blob = match self.volume.open(&file_name(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            blob => blob?,
        };
        let (mut sessions, mut times, mut unread, mut raw) = (BTreeSet::new(), None, false, Vec::new());
        let scan = FileScan::of(blob.as_ref(), |block| {
            sessions.insert(block.header.session);
            let read = decode_block(block, &mut raw).and_then(|()| {
                frames(&raw, &mut |frame| {
                    let (first, last) = times.unwrap_or((frame.at, frame.at));
                    times = Some((first.min(frame.at), last.max(frame.at)));
                    ControlFlow::Continue(())
                })
            });
            unread |= read.is_err();
        })?;
        // What a crash left behind the last whole block is no part of the file.
        let length = blob.length()?;
        Ok(Some(FileSurvey { segment: scan.segment(number), length, times, sessions, damaged: unread }))
    }

    /// The sessions that have blocks, in the order of their ids. Reads every file.
    pub fn sessions(&self) -> io::Result<Vec<RecordedSession>> {
        let mut found: BTreeMap<SessionId, RecordedSession> = BTreeMap::new();
        for number in self.files()? {
            FileScan::of(self.volume.open(&file_name(number))?.as_ref(), |block| {
                let session = block.header.session;
                let one = found.entry(session).or_insert(RecordedSession { session, blocks: 0, bytes: 0 });
                one.blocks += 1;
                one.bytes += u64::from(block.header.raw_len);
            })?;
        }
        Ok(found.into_values().collect())
    }

    /// Visits the frames of a session in order. An error if a block of it does not decode.
    pub fn frames(
        &self,
        session: SessionId,
        mut visit: impl FnMut(FrameView<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut raw = Vec::new();
        let mut result = Ok(());
        let mut done = false;
        for number in self.files()? {
            FileScan::of(self.volume.open(&file_name(number))?.as_ref(), |block| {
                if done || result.is_err() || block.header.session != session {
                    return;
                }
                match decode_block(block, &mut raw).and_then(|()| frames(&raw, &mut visit)) {
                    Ok(flow) => done = flow.is_break(),
                    Err(error) => result = Err(error),
                }
            })?;
            if done {
                break;
            }
        }
        result
    }

    /// Visits all whole blocks, in the order of the files.
    pub fn blocks(&self, mut visit: impl FnMut(&Block<'_>)) -> io::Result<()> {
        for number in self.files()? {
            FileScan::of(self.volume.open(&file_name(number))?.as_ref(), &mut visit)?;
        }
        Ok(())
    }

    /// Hands every block and every file's digest to a verifier.
    pub fn verify(&self, verifier: &mut Verifier) -> io::Result<()> {
        for number in self.files()? {
            let blob = self.volume.open(&file_name(number))?;
            verifier.begin_file(number);
            let scan = FileScan::of(blob.as_ref(), |block| verifier.block(block))?;
            if let Some(what) = scan.damage {
                verifier.recording_damaged(&format!("file {number}: {what}"));
            }
            verifier.recording_file(number, scan.segment(number).digest);
        }
        Ok(())
    }
}

fn frames(raw: &[u8], visit: &mut impl FnMut(FrameView<'_>) -> ControlFlow<()>) -> io::Result<ControlFlow<()>> {
    for frame in FrameIter::new(raw) {
        let frame = frame.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if visit(frame).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Decodes a block's payload into `raw`. The header's bound on the raw length was checked when it was parsed.
pub fn decode_block(block: &Block<'_>, raw: &mut Vec<u8>) -> io::Result<()> {
    raw.clear();
    match block.header.codec {
        Codec::Raw => raw.extend_from_slice(block.stored),
        Codec::Lz4 => {
            raw.resize(block.header.raw_len as usize, 0);
            let got = lz4_flex::block::decompress_into(block.stored, raw)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a block does not decode"))?;
            if got != raw.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a block decodes to another length"));
            }
        }
    }
    Ok(())
}
