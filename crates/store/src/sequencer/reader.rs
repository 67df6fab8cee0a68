//! Reads a ledger's entries beside its writer, and hands them to the verifier. Not here: what makes them right.

use std::ops::ControlFlow;
use std::sync::Arc;

use chancery_ledger::{Report, Roots, Verifier, WitnessPolicy};

use super::recovery::{SEGMENT_BYTES_MAX, read_note};
use super::segment::{self, HEADER_BYTES, Next};
use super::volume::{Volume, read_whole};
use super::{OpenError, WITNESSED, tiles};
use crate::recordings::RecordingReader;

/// Reads the entries of a ledger. One segment in memory at a time.
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
            let blob = self.volume.open(file)?;
            let bytes = read_whole(blob.as_ref(), SEGMENT_BYTES_MAX)?;
            let (mut index, mut at) = (*first, HEADER_BYTES);
            loop {
                match segment::next(&bytes, at) {
                    Next::End => break,
                    Next::Bad(what) => {
                        if visit(index, Item::Damaged(what)).is_break() {
                            return Ok(());
                        }
                        break;
                    }
                    Next::Entry(line, after) => {
                        if index >= from && visit(index, Item::Entry(line)).is_break() {
                            return Ok(());
                        }
                        at = after;
                        index += 1;
                    }
                }
            }
        }
        Ok(())
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
            Item::Damaged(what) => verifier.damaged(what),
        }
        if tiles.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    tiles?;
    Ok(verifier.finish())
}

impl LedgerReader {
    /// Hands the level-0 tile that begins at `first`, if it is whole, to the verifier, so that it can name a changed
    /// entry exactly.
    fn tile(&self, first: u64, verifier: &mut Verifier) -> Result<(), OpenError> {
        if let Some(hashes) = tiles::read(self.volume.as_ref(), 0, first / 256)? {
            verifier.leaves(first, &hashes);
        }
        Ok(())
    }
}
