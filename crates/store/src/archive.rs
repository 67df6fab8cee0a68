//! What of a ledger and its recordings goes into an archive, in the order in which it must be written, and how both are
//! put back on a disk. Not here: any network; the archive's keys and order are `docs/spec/archive.md`'s.

mod restore;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use chancery_ledger::{BUNDLE_ENTRIES, Checkpoint, LedgerError, Tile, TileBuilder, bundle, bundle_path, leaf_hash};
use chancery_model::Digest;

use crate::recordings::RecordingReader;
use crate::sequencer::{LedgerItem, LedgerReader, OpenError};

pub use restore::{FileFault, Lost, Restore, RestoreError, RestoreReport};

/// Entries in a whole bundle.
const WIDTH: u64 = BUNDLE_ENTRIES as u64;
/// A piece of a recording is sent when it has this many bytes; with its last block it has at most one block more.
const PIECE_BYTES: usize = 4 << 20;

/// One object of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveObject {
    /// Its key below the archive's prefix.
    pub key: String,
    /// What it holds.
    pub bytes: Bytes,
    /// With this object and those before it, bundles and tiles of this many entries are whole. A multiple of 256.
    pub below: u64,
}

/// Bytes of a recording file from an offset on: whole blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingPiece {
    /// Where they begin.
    pub mark: RecordingMark,
    /// The blocks.
    pub bytes: Bytes,
}

/// A place in the recordings: everything before it is archived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordingMark {
    /// The file.
    pub file: u64,
    /// The offset in it.
    pub offset: u64,
}

impl RecordingMark {
    /// The key, below the archive's prefix, of the piece that begins here.
    pub fn key(&self) -> String {
        format!("{}/{:012}", recording_prefix(self.file), self.offset)
    }
}

/// The key below which the pieces of a recording file are.
pub fn recording_prefix(file: u64) -> String {
    format!("recordings/{file:012}")
}

/// Why a ledger was not archived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Entries below the checkpoint are missing or not those that were signed.
    #[error("the ledger is not what its checkpoint says: {0}")]
    Wrong(String),
    /// An entry was pruned before it was archived.
    #[error("entry {0} was pruned before it was archived: only its hash is left")]
    Pruned(u64),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] OpenError),
    /// An entry does not fit into a bundle.
    #[error("{0}")]
    Bundle(#[from] LedgerError),
    /// The files cannot be read.
    #[error("the files cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What is done with each object; a break ends the reading.
type Put<'p> = &'p mut dyn FnMut(ArchiveObject) -> ControlFlow<()>;

/// Hands out the bundles and tiles that are in the tree of `to` and not in that of the first `from` entries, partial ones
/// last. Nothing is handed out unless the entries have the root that was signed: what an archive has, it keeps.
pub fn archive_entries(ledger: &LedgerReader, from: u64, to: &Checkpoint, put: Put<'_>) -> Result<(), ArchiveError> {
    let aligned = from.min(to.size) / WIDTH * WIDTH;
    let Some(tree) = tree_below(ledger, aligned, to)? else {
        return Err(ArchiveError::Wrong(format!("its {} entries have another root", to.size)));
    };
    // A change between the two readings would be a change of what was signed.
    match walk(ledger, tree, aligned, to, Some(put))? {
        true => Ok(()),
        false => Err(ArchiveError::Wrong("it changed while it was read".into())),
    }
}

/// Whether the ledger begins with what `head` covers.
pub fn begins_with(ledger: &LedgerReader, head: &Checkpoint) -> Result<bool, ArchiveError> {
    Ok(tree_below(ledger, head.size / WIDTH * WIDTH, head)?.is_some())
}

/// A tree over at most the first `aligned` entries, from which the entries of `to` lead to its root; `None` if none does.
/// Tiles are derived: if one is missing or wrong, the tree is made from the first entry on.
fn tree_below(ledger: &LedgerReader, aligned: u64, to: &Checkpoint) -> Result<Option<TileBuilder>, ArchiveError> {
    if let Some(tree) = ledger.tree_at(aligned)?
        && walk(ledger, tree.clone(), aligned, to, None)?
    {
        return Ok(Some(tree));
    }
    let tree = TileBuilder::default();
    Ok(walk(ledger, tree.clone(), aligned, to, None)?.then_some(tree))
}

/// One reading from where `builder` is. Whether the root is that of `to`; true as well if `put` wanted no more.
fn walk(
    ledger: &LedgerReader,
    builder: TileBuilder,
    aligned: u64,
    to: &Checkpoint,
    put: Option<Put<'_>>,
) -> Result<bool, ArchiveError> {
    let mut walk = Walk { builder, aligned, put, whole: Vec::new(), lines: Vec::new(), done: false, fault: None };
    ledger.visit(walk.builder.size(), |index, item| match item {
        LedgerItem::Entry(line) if index < to.size => walk.entry(index, line),
        LedgerItem::Pruned(leaf, _) if index < to.size => walk.pruned(index, leaf),
        _ => ControlFlow::Break(()),
    })?;
    if let Some(fault) = walk.fault {
        return Err(fault);
    }
    if walk.done {
        return Ok(true);
    }
    let size = walk.builder.size();
    if size < to.size {
        return Err(ArchiveError::Wrong(format!("it ends at entry {size} of {}", to.size)));
    }
    if walk.builder.range().root() != to.root {
        return Ok(false);
    }
    walk.rest()?;
    Ok(true)
}

struct Walk<'p> {
    builder: TileBuilder,
    /// What comes before this entry is archived already.
    aligned: u64,
    put: Option<Put<'p>>,
    whole: Vec<Tile>,
    lines: Vec<Vec<u8>>,
    /// `put` wants no more.
    done: bool,
    fault: Option<ArchiveError>,
}

impl Walk<'_> {
    fn entry(&mut self, index: u64, line: &[u8]) -> ControlFlow<()> {
        self.builder.push(leaf_hash(line), &mut self.whole);
        if index < self.aligned || self.put.is_none() {
            self.whole.clear();
            return ControlFlow::Continue(());
        }
        self.lines.push(line.to_vec());
        if self.lines.len() == BUNDLE_ENTRIES {
            let tiles = std::mem::take(&mut self.whole);
            if let Err(error) = self.group(index / WIDTH, tiles) {
                self.fault = Some(error);
                return ControlFlow::Break(());
            }
        }
        if self.done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
    /// What is archived already may be pruned here.
    fn pruned(&mut self, index: u64, leaf: Digest) -> ControlFlow<()> {
        self.builder.push(leaf, &mut self.whole);
        if index < self.aligned || self.put.is_none() {
            self.whole.clear();
            return ControlFlow::Continue(());
        }
        self.fault = Some(ArchiveError::Pruned(index));
        ControlFlow::Break(())
    }
    /// The bundle that just ended, behind the tiles that it completes.
    fn group(&mut self, number: u64, tiles: Vec<Tile>) -> Result<(), ArchiveError> {
        let whole = number * WIDTH;
        for tile in tiles {
            self.object(tile.path(), tile.hashes.into(), whole);
        }
        let width = self.lines.len();
        let bytes = bundle(self.lines.iter().map(Vec::as_slice))?;
        self.lines.clear();
        let below = if width == BUNDLE_ENTRIES { whole + WIDTH } else { whole };
        self.object(bundle_path(number, width), bytes.into(), below);
        Ok(())
    }
    /// What is partial at the end.
    fn rest(&mut self) -> Result<(), ArchiveError> {
        let (number, partial) = (self.builder.size() / WIDTH, self.builder.partial());
        match self.lines.is_empty() {
            true => partial.into_iter().for_each(|tile| self.object(tile.path(), tile.hashes.into(), number * WIDTH)),
            false => self.group(number, partial)?,
        }
        Ok(())
    }
    fn object(&mut self, path: String, bytes: Bytes, below: u64) {
        if let Some(put) = self.put.as_mut().filter(|_| !self.done) {
            self.done = put(ArchiveObject { key: format!("ledger/{path}"), bytes, below }).is_break();
        }
    }
}

impl RecordingReader {
    /// Whether a piece is what the file has there, as far as it has anything. A file that is gone contradicts nothing.
    pub fn agrees(&self, piece: &RecordingPiece) -> io::Result<bool> {
        let mut here = vec![0; piece.bytes.len()];
        let length = self.read_at(piece.mark.file, piece.mark.offset, &mut here)?;
        Ok(here.get(..length) == piece.bytes.get(..length))
    }

    /// Hands out what the recordings have from `from` on, file by file: whole blocks, which no later write changes. A break
    /// ends the reading.
    pub fn pieces(
        &self,
        from: RecordingMark,
        mut put: impl FnMut(RecordingPiece) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for file in self.files()?.into_iter().filter(|file| *file >= from.file) {
            let first = if file == from.file { from.offset } else { 0 };
            let mut mark = RecordingMark { file, offset: first };
            let (mut room, mut flow) = (Vec::new(), ControlFlow::Continue(()));
            let mut send = |room: &mut Vec<u8>| {
                let bytes = Bytes::from(std::mem::take(room));
                let piece = RecordingPiece { mark, bytes };
                mark.offset += piece.bytes.len() as u64;
                put(piece)
            };
            self.blocks_of(file, first, |block| {
                room.extend_from_slice(&block.header.encode());
                room.extend_from_slice(block.stored);
                if room.len() >= PIECE_BYTES {
                    flow = send(&mut room);
                }
                flow
            })?;
            if flow.is_continue() && !room.is_empty() {
                flow = send(&mut room);
            }
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}
