//! Writes a ledger in the layout of C2SP tlog-tiles: a checkpoint, tiles of hashes and bundles of entries, in plain files that
//! any file server can show and any reader of that layout can check. Not here: the ledger's own files.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::sequencer::{LedgerItem, LedgerReader, OpenError};
use chancery_ledger::{BUNDLE_ENTRIES, Checkpoint, LedgerError, Tile, TileBuilder, bundle, bundle_path, leaf_hash};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The head of what was written.
    pub checkpoint: Checkpoint,
    /// Files besides the checkpoint.
    pub files: u64,
}

/// Why a ledger was not written in that layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// There is something at the path already.
    #[error("{0} exists")]
    Exists(String),
    /// Nothing was signed yet.
    #[error("the ledger has no checkpoint yet")]
    NoCheckpoint,
    /// Entries below the checkpoint are missing or not those that were signed.
    #[error("the ledger is not what its checkpoint says: {0}")]
    Wrong(String),
    /// An entry was pruned; a bundle without it would have another hash.
    #[error("entry {0} was pruned, and this layout has no form for a part of a bundle")]
    Pruned(u64),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] OpenError),
    /// An entry does not fit into a bundle.
    #[error("{0}")]
    Bundle(#[from] LedgerError),
    /// The files cannot be written.
    #[error("the files cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Writes what the last checkpoint covers into `directory`, which is made. With the cosignatures, if witnesses saw that very
/// head. The checkpoint comes last: a directory without one is not whole.
pub fn export(ledger: &LedgerReader, directory: &Path) -> Result<Exported, ExportError> {
    let note = ledger.checkpoint()?.ok_or(ExportError::NoCheckpoint)?;
    let checkpoint = head(&note)?;
    let witnessed = ledger.witnessed()?.filter(|note| head(note).is_ok_and(|head| head == checkpoint));
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ExportError::Exists(directory.display().to_string()));
        }
        made => made?,
    }
    let mut writer = Writer { directory, files: 0 };
    let (mut builder, mut whole) = (TileBuilder::default(), Vec::new());
    let mut lines: Vec<Vec<u8>> = Vec::with_capacity(BUNDLE_ENTRIES);
    let mut result = Ok(());
    ledger.visit(0, |index, item| {
        let line = match item {
            LedgerItem::Entry(line) => line,
            LedgerItem::Pruned(..) => {
                result = Err(ExportError::Pruned(index));
                return ControlFlow::Break(());
            }
            LedgerItem::Damaged(_) => return ControlFlow::Break(()),
        };
        if index >= checkpoint.size {
            return ControlFlow::Break(());
        }
        builder.push(leaf_hash(line), &mut whole);
        lines.push(line.to_vec());
        if lines.len() == BUNDLE_ENTRIES {
            result = writer.bundle(index / BUNDLE_ENTRIES as u64, &mut lines).and_then(|()| writer.tiles(&mut whole));
        }
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result?;
    let size = builder.size();
    if size < checkpoint.size {
        return Err(ExportError::Wrong(format!("it ends at entry {size} of {}", checkpoint.size)));
    }
    if builder.range().root() != checkpoint.root {
        return Err(ExportError::Wrong(format!("its {size} entries have another root")));
    }
    if !lines.is_empty() {
        writer.bundle(size / BUNDLE_ENTRIES as u64, &mut lines)?;
    }
    writer.tiles(&mut builder.partial())?;
    fs::write(directory.join("checkpoint"), witnessed.unwrap_or(note))?;
    Ok(Exported { checkpoint, files: writer.files })
}

/// The head that a note speaks of. Who signed it is the reader's question.
fn head(note: &str) -> Result<Checkpoint, ExportError> {
    let body = note.rfind("\n\n").and_then(|at| note.get(..=at)).unwrap_or_default();
    Checkpoint::parse(body).map_err(|error| ExportError::Wrong(error.to_string()))
}

struct Writer<'d> {
    directory: &'d Path,
    files: u64,
}

impl Writer<'_> {
    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let path = self.directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
        self.files += 1;
        Ok(())
    }
    fn bundle(&mut self, index: u64, lines: &mut Vec<Vec<u8>>) -> Result<(), ExportError> {
        let bytes = bundle(lines.iter().map(Vec::as_slice))?;
        self.file(&bundle_path(index, lines.len()), &bytes)?;
        lines.clear();
        Ok(())
    }
    fn tiles(&mut self, tiles: &mut Vec<Tile>) -> Result<(), ExportError> {
        tiles.drain(..).try_for_each(|tile| self.file(&tile.path(), &tile.hashes))
    }
}

/// The root over a directory in that layout, from its entries alone: what a reader makes of it first.
#[cfg(test)]
fn root_of(directory: &Path, size: u64) -> chancery_model::Digest {
    let mut range = chancery_ledger::Range::default();
    while range.size() < size {
        let index = range.size() / BUNDLE_ENTRIES as u64;
        let width = (size - range.size()).min(BUNDLE_ENTRIES as u64) as usize;
        let bytes = fs::read(directory.join(bundle_path(index, width))).expect("a bundle");
        let entries = chancery_ledger::parse_bundle(&bytes).expect("well-formed");
        assert_eq!(entries.len(), width);
        entries.iter().for_each(|line| range.push(leaf_hash(line)));
    }
    range.root()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chancery_ledger::{Entry, LogSigner, TiledTree};

    use super::*;
    use crate::{Level, MemoryVolume, Options, Sequencer, system_clock};

    #[test]
    fn any_reader_of_the_layout_finds_the_tree_in_it() {
        let mut id = [0; 8];
        crate::random(&mut id).expect("the kernel gives random bytes");
        let base = std::env::temp_dir().join(format!("chancery-export-{:016x}", u64::from_be_bytes(id)));
        fs::create_dir(&base).expect("a fresh name");
        let volume = MemoryVolume::new();
        let signer = LogSigner::from_seed("gw.test/a", &[9; 32]).expect("a seed");
        let (shared, keys) = (Arc::new(volume.clone()), Arc::new(volume.clone()));
        let options = Options { reserve_bytes: 1, ..Options::new(system_clock(), [1; 16]) };
        let (sequencer, _) = Sequencer::open(shared, keys, signer, "gw.test/a", options).expect("a new ledger");
        for _ in 0..700 {
            sequencer.append_entry(&Entry::Heartbeat, Level::Written).expect("running");
        }
        sequencer.close();
        let reader = LedgerReader::new(Arc::new(volume.clone()));
        let (to, size) = (base.join("out"), 701);
        let done = export(&reader, &to).expect("it is whole");
        assert_eq!((done.checkpoint.size, done.files), (size, 3 + 3 + 1));
        assert_eq!(root_of(&to, size), done.checkpoint.root);
        let tile = |level: u8, index: u64| -> io::Result<Option<Vec<u8>>> {
            let width = ((size >> (8 * level)) - 256 * index).min(256) as usize;
            fs::read(to.join(chancery_ledger::tile_path(&level.to_string(), index, width))).map(Some)
        };
        assert_eq!(TiledTree::new(size, tile).root().expect("all tiles are there"), done.checkpoint.root);
        assert!(matches!(export(&reader, &to), Err(ExportError::Exists(_))));
        // What is not what was signed is not written as if it were.
        volume.tamper("entries/00000000000000000000.seg", |bytes| bytes[16 + 8 + 30..].fill(0));
        assert!(matches!(export(&reader, &base.join("cut")), Err(ExportError::Wrong(_))));
        fs::remove_dir_all(&base).expect("own directory");
    }
}
