//! Reads a ledger's entries beside its writer, and hands them to the verifier. Not here: what makes them right.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use chancery_ledger::{Report, Roots, TileBuilder, Verifier, WitnessPolicy};
use chancery_model::Digest;

use super::recovery::read_note;
use super::segment::{self, FRAME_HEADER_BYTES, HEADER_BYTES, Next};
use super::volume::{Blob, Volume};
use super::{ARCHIVED, OpenError, WITNESSED, tiles};
use crate::recordings::RecordingReader;

/// Bytes of a segment in memory.
const PIECE_BYTES: usize = 256 * 1024;
/// The longest frame.
const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + chancery_ledger::ENTRY_BYTES_MAX;

/// Reads the entries of a ledger, a piece of a segment in memory at a time.
#[derive(Clone)]
pub struct LedgerReader {
    volume: Arc<dyn Volume>,
}

impl std::fmt::Debug for LedgerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerReader").finish_non_exhaustive()
    }
}

/// What a reader meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An entry's bytes as stored.
    Entry(&'a [u8]),
    /// The leaf hash of an entry that was pruned, and the index of the first entry of its segment.
    Pruned(Digest, u64),
    /// Bytes that are no frame. Nothing of the segment follows; a write in progress looks like this, too.
    Damaged(&'static str),
}

impl LedgerReader {
    /// Over the ledger in `volume`.
    pub fn new(volume: Arc<dyn Volume>) -> Self {
        Self { volume }
    }

    /// The last checkpoint published, as a note.
    pub fn checkpoint(&self) -> Result<Option<String>, OpenError> {
        read_note(self.volume.as_ref(), "checkpoint")
    }

    /// The last checkpoint that enough witnesses cosigned, as a note.
    pub fn witnessed(&self) -> Result<Option<String>, OpenError> {
        read_note(self.volume.as_ref(), WITNESSED)
    }

    /// The last checkpoint that is in the archive, as a note.
    pub fn archived(&self) -> Result<Option<String>, OpenError> {
        read_note(self.volume.as_ref(), ARCHIVED)
    }

    /// All checkpoints kept, oldest first, then the one that was witnessed last, then the last.
    pub fn checkpoints(&self) -> Result<Vec<String>, OpenError> {
        let mut notes = Vec::new();
        for name in self.volume.list("checkpoints")? {
            notes.extend(read_note(self.volume.as_ref(), &format!("checkpoints/{name}"))?);
        }
        notes.extend(self.witnessed()?);
        notes.extend(self.checkpoint()?);
        Ok(notes)
    }

    /// Visits the entries from index `from` on, in order.
    pub fn visit(&self, from: u64, mut visit: impl FnMut(u64, Item<'_>) -> ControlFlow<()>) -> Result<(), OpenError> {
        let firsts: Vec<(u64, String)> = self.volume.list("entries")?.into_iter().filter_map(first).collect();
        for (at, (first, file)) in firsts.iter().enumerate() {
            if firsts.get(at + 1).is_some_and(|(next, _)| *next <= from) {
                continue;
            }
            let mut frames = Frames::new(self.volume.open(file)?);
            let mut index = *first;
            loop {
                let item = match frames.next()? {
                    None => break,
                    Some(Ok(Frame::Line(line))) => Item::Entry(line),
                    Some(Ok(Frame::Pruned(hash))) => Item::Pruned(hash, *first),
                    Some(Err(what)) => Item::Damaged(what),
                };
                let whole = !matches!(item, Item::Damaged(_));
                if (index >= from || !whole) && visit(index, item).is_break() {
                    return Ok(());
                }
                if !whole {
                    break;
                }
                index += 1;
            }
        }
        Ok(())
    }
}

/// What a frame holds.
enum Frame<'a> {
    Line(&'a [u8]),
    Pruned(Digest),
}

/// The frames of one segment, a piece of it in memory at a time.
struct Frames {
    blob: Arc<dyn Blob>,
    /// Where the piece ends in the file.
    offset: u64,
    /// Room for a piece; what counts lies from `at` to `end`.
    room: Vec<u8>,
    at: usize,
    end: usize,
    /// The piece ends where the file does.
    last: bool,
}

impl Frames {
    fn new(blob: Arc<dyn Blob>) -> Self {
        let room = vec![0; PIECE_BYTES];
        Self { blob, offset: HEADER_BYTES as u64, room, at: 0, end: 0, last: false }
    }

    /// The next entry; what is wrong, after which nothing follows; or the end.
    fn next(&mut self) -> io::Result<Option<Result<Frame<'_>, &'static str>>> {
        // A frame that is cut by the end of the piece, and zeros, are judged with what follows them.
        if !self.last && self.end - self.at < FRAME_BYTES_MAX {
            self.fill()?;
        }
        match segment::next(&self.room[..self.end], self.at) {
            Next::Entry(_, after) => {
                let from = std::mem::replace(&mut self.at, after) + FRAME_HEADER_BYTES;
                Ok(Some(Ok(Frame::Line(&self.room[from..after]))))
            }
            Next::Pruned(hash, after) => {
                self.at = after;
                Ok(Some(Ok(Frame::Pruned(hash))))
            }
            Next::Bad(what) => Ok(Some(Err(what))),
            Next::End => Ok(if self.is_zero_to_the_end()? { None } else { Some(Err("bytes follow the end")) }),
        }
    }

    /// Moves on: what was handed out goes, and the next piece comes behind what is left.
    fn fill(&mut self) -> io::Result<()> {
        self.room.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while self.end < PIECE_BYTES && !self.last {
            let read = self.blob.read_at(self.offset, &mut self.room[self.end..])?;
            self.last = read == 0;
            self.offset += read as u64;
            self.end += read;
        }
        Ok(())
    }

    fn is_zero_to_the_end(&mut self) -> io::Result<bool> {
        while !self.last {
            self.at = self.end;
            self.fill()?;
            if self.room[..self.end].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn first(name: String) -> Option<(u64, String)> {
    let first = name.strip_suffix(".seg")?.parse().ok()?;
    Some((first, format!("entries/{name}")))
}

/// What a verification takes from outside, and never from what is verified.
#[derive(Clone, Debug)]
pub struct Outside {
    /// The log's keys.
    pub roots: Roots,
    /// Who its witnesses are; `None`: that check is not made.
    pub witnesses: Option<WitnessPolicy>,
    /// Checkpoints that others kept.
    pub checkpoints: Vec<String>,
}

impl From<Roots> for Outside {
    fn from(roots: Roots) -> Self {
        Self { roots, witnesses: None, checkpoints: Vec::new() }
    }
}

/// Verifies a ledger and, if given, the recordings it speaks of.
pub fn verify(
    ledger: &LedgerReader,
    recordings: Option<&RecordingReader>,
    outside: impl Into<Outside>,
) -> Result<Report, OpenError> {
    let outside = outside.into();
    let mut verifier = Verifier::new(outside.roots);
    if let Some(policy) = outside.witnesses {
        verifier.with_witnesses(policy);
    }
    outside.checkpoints.iter().for_each(|note| verifier.checkpoint(note));
    for note in ledger.checkpoints()? {
        verifier.checkpoint(&note);
    }
    if let Some(recordings) = recordings {
        verifier.with_recordings();
        recordings.verify(&mut verifier)?;
    }
    let mut tiles = Ok(());
    ledger.visit(0, |index, item| {
        if index % 256 == 0 {
            tiles = ledger.tile(index, &mut verifier);
        }
        match item {
            Item::Entry(line) => verifier.entry(line),
            Item::Pruned(hash, segment) => verifier.pruned(hash, segment),
            Item::Damaged(what) => verifier.damaged(what),
        }
        if tiles.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    tiles?;
    Ok(verifier.finish())
}

impl LedgerReader {
    /// The tree over the first `size` entries, a multiple of 256, from the tiles on disk; `None` if one is not there.
    pub(crate) fn tree_at(&self, size: u64) -> io::Result<Option<TileBuilder>> {
        TileBuilder::resume(size, |level, index| tiles::read(self.volume.as_ref(), level, index))
    }

    /// Hands the level-0 tile that begins at `first`, if it is whole, to the verifier, so that it can name a changed
    /// entry exactly.
    fn tile(&self, first: u64, verifier: &mut Verifier) -> Result<(), OpenError> {
        if let Some(hashes) = tiles::read(self.volume.as_ref(), 0, first / 256)? {
            verifier.leaves(first, &hashes);
        }
        Ok(())
    }
}
