//! Tiles on disk: whole tiles of C2SP tlog-tiles end to end, many in a file, because a file each would be an inode for
//! every 256 entries. They are derived: nobody waits for them to reach the disk, and the next start makes them again.

use std::io;
use std::sync::Arc;

use chancery_ledger::{BUNDLE_ENTRIES, Tile, TileBuilder};
use chancery_model::Digest;

use super::volume::{Blob, Volume};

/// Bytes of a whole tile.
const TILE_BYTES: usize = 32 * BUNDLE_ENTRIES;
/// Tiles in one file.
const FILE_TILES: u64 = 4096;

/// The tree over all entries. Nothing of it is hashed while the head is locked: leaf hashes are taken from the head, and
/// folded when there is time.
#[derive(Default)]
pub(super) struct Tree {
    builder: TileBuilder,
    /// Leaf hashes that were taken and not yet folded.
    taken: Vec<Digest>,
}

impl Tree {
    /// Takes the leaf hashes of the entries that follow those taken before.
    pub(super) fn take(&mut self, leaves: &mut Vec<Digest>) {
        if self.taken.is_empty() {
            std::mem::swap(&mut self.taken, leaves);
        } else {
            self.taken.append(leaves);
        }
    }

    /// Folds one leaf hash; whole tiles are appended to `whole`.
    pub(super) fn push(&mut self, leaf: Digest, whole: &mut Vec<Tile>) {
        self.builder.push(leaf, whole);
    }

    /// Folds what was taken; whole tiles are appended to `whole`.
    pub(super) fn fold(&mut self, whole: &mut Vec<Tile>) {
        self.taken.drain(..).for_each(|leaf| self.builder.push(leaf, whole));
    }

    /// The root over what was folded.
    pub(super) fn root(&self) -> Digest {
        self.builder.range().root()
    }

    /// The hashes of a tile that is not whole yet, of the tree over what was folded.
    pub(super) fn partial(&self, level: u8, index: u64) -> Option<Vec<u8>> {
        let mut partial = self.builder.partial().into_iter();
        partial.find(|tile| (tile.level, tile.index) == (level, index)).map(|tile| tile.hashes)
    }

    /// The root over what was taken and, behind it, `leaves`. Changes nothing.
    pub(super) fn root_with(&self, leaves: &[Digest]) -> Digest {
        let mut range = self.builder.range();
        self.taken.iter().chain(leaves).for_each(|leaf| range.push(*leaf));
        range.root()
    }
}

/// Writes whole tiles as they come.
#[derive(Default)]
pub(crate) struct Tiles {
    /// The file that each level is at, by its number.
    files: Vec<Option<(u64, Arc<dyn Blob>)>>,
}

impl Tiles {
    /// Writes a whole tile to its place.
    pub(crate) fn write(&mut self, volume: &dyn Volume, tile: &Tile) -> io::Result<()> {
        let (number, offset) = place(tile.index);
        self.file(volume, tile.level, number)?.write_at(offset, &tile.hashes)
    }

    /// Makes sure that a tile is what it should be: after a loss of power it may be absent, cut or zeros.
    pub(super) fn mend(&mut self, volume: &dyn Volume, tile: &Tile) -> io::Result<()> {
        let (number, offset) = place(tile.index);
        let file = self.file(volume, tile.level, number)?;
        match read_at(file.as_ref(), offset)? {
            Some(hashes) if hashes == tile.hashes => Ok(()),
            _ => file.write_at(offset, &tile.hashes),
        }
    }

    /// The file of a level, opened once for all its tiles in a row.
    fn file(&mut self, volume: &dyn Volume, level: u8, number: u64) -> io::Result<&Arc<dyn Blob>> {
        let at = usize::from(level);
        if self.files.len() <= at {
            self.files.resize_with(at + 1, || None);
        }
        let here = &mut self.files[at];
        if here.as_ref().is_some_and(|(open, _)| *open != number) {
            *here = None;
        }
        let (_, blob) = match here {
            Some(open) => open,
            None => {
                let name = name(level, number);
                let blob = match volume.open(&name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => volume.create(&name)?,
                    blob => blob?,
                };
                here.insert((number, blob))
            }
        };
        Ok(blob)
    }
}

/// The leaf hashes of a whole tile of level 0, if it was written.
pub(crate) fn leaves(volume: &dyn Volume, index: u64) -> io::Result<Option<Vec<u8>>> {
    read(volume, 0, index)
}

/// The hashes of a whole tile, if it was written.
pub(super) fn read(volume: &dyn Volume, level: u8, index: u64) -> io::Result<Option<Vec<u8>>> {
    let (number, offset) = place(index);
    let blob = match volume.open(&name(level, number)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        blob => blob?,
    };
    read_at(blob.as_ref(), offset)
}

fn read_at(blob: &dyn Blob, offset: u64) -> io::Result<Option<Vec<u8>>> {
    let mut hashes = vec![0; TILE_BYTES];
    let mut at = 0;
    while at < hashes.len() {
        match blob.read_at(offset + at as u64, &mut hashes[at..])? {
            0 => return Ok(None),
            n => at += n,
        }
    }
    // A hole that no write filled; no hash is zero.
    let written = hashes.chunks_exact(32).all(|hash| hash.iter().any(|byte| *byte != 0));
    Ok(written.then_some(hashes))
}

fn place(index: u64) -> (u64, u64) {
    (index / FILE_TILES, index % FILE_TILES * TILE_BYTES as u64)
}

fn name(level: u8, number: u64) -> String {
    format!("tiles/{level}/{number:08}")
}
