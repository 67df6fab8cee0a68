//! Puts a ledger and its recordings back on a disk from what an archive holds, checks all of it on the way, and says what
//! is missing. What it makes is a copy for readers: it has no keys and is no state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chancery_ledger::{
    BUNDLE_ENTRIES, Checkpoint, EntryKind, Leaf, LedgerError, RecordingChain, RecordingSegment, SignedCheckpoint,
    TileBuilder, leaf_hash, parse_bundle,
};
use chancery_model::{Digest, SessionId};

use super::{RecordingMark, WIDTH};
use crate::recordings::{FileScan, RecordingReader, file_name};
use crate::sequencer::{
    Blob, Directory, LedgerItem, LedgerReader, OpenError, SEGMENT_HEADER_BYTES, Tiles, Volume, WITNESSED, begin_frame,
    check_frames, end_frame, segment_header,
};

/// A segment is closed when it is this long.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Why an archive was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is something at the path already.
    #[error("{0} exists")]
    Exists(PathBuf),
    /// A bundle does not hold what it should.
    #[error("bundle {0} of the archive is malformed")]
    Bundle(u64),
    /// An entry is not the one whose hash is in its tile.
    #[error("entry {0} of the archive is not the one whose hash is in its tile")]
    Changed(u64),
    /// An entry has not the form that entries have.
    #[error(transparent)]
    Entry(#[from] LedgerError),
    /// The entries are not those that were signed.
    #[error("the archive's {0} entries have another root than the checkpoint")]
    Root(u64),
    /// A checkpoint from elsewhere says otherwise.
    #[error("the archive's first {0} entries are not those of a checkpoint from elsewhere: these are two histories")]
    Fork(u64),
    /// The pieces of a recording file leave a gap or overlap.
    #[error("the pieces of recording file {file} do not meet at offset {offset}")]
    Pieces {
        /// The file.
        file: u64,
        /// Where the next piece was due.
        offset: u64,
    },
    /// What was written cannot be read back.
    #[error(transparent)]
    Read(#[from] OpenError),
    /// The directory cannot be written.
    #[error("the directory cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// A recording file that is not what the ledger says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The file.
    pub file: u64,
    /// The entry that states it.
    pub entry: u64,
    /// What is wrong.
    pub what: String,
}

/// A session of which entries name recorded blocks that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The session.
    pub session: SessionId,
    /// The first entry that names such a block.
    pub first: u64,
    /// How many entries do.
    pub entries: u64,
}

/// What was restored, and what is known to be missing of what the restored entries speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// The head of what was restored.
    pub head: Checkpoint,
    /// Recording files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Files that are not what `rec.segment` says.
    pub faults: Vec<FileFault>,
    /// Sessions whose recording is not whole.
    pub lost: Vec<Lost>,
    /// Sessions that had an opening and no end. What they did later is not in the archive.
    pub open: Vec<SessionId>,
}

/// A ledger that is being put back.
pub struct Restore {
    directory: PathBuf,
    ledger: Directory,
    head: SignedCheckpoint,
    /// Roots that others saw, by size.
    marks: BTreeMap<u64, Digest>,
    builder: TileBuilder,
    tiles: Tiles,
    segment: Option<(Arc<dyn Blob>, u64)>,
    /// Recording files that entries state, with the entry.
    stated: BTreeMap<u64, (u64, RecordingSegment)>,
    /// The recording file that is being put together, and its length.
    file: Option<(u64, File, u64)>,
    files: BTreeSet<u64>,
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore").field("size", &self.builder.size()).finish_non_exhaustive()
    }
}

impl Restore {
    /// Makes `directory`, which must not be there, for the ledger of `head`. `seen` are checkpoints from elsewhere, of the
    /// same log, whose signatures hold.
    pub fn create(
        directory: &Path,
        roots: &str,
        head: SignedCheckpoint,
        seen: &[Checkpoint],
    ) -> Result<Self, RestoreError> {
        let mut made = fs::DirBuilder::new();
        made.mode(0o700);
        match made.create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RestoreError::Exists(directory.to_owned()));
            }
            done => done?,
        }
        for name in ["ledger", "ledger/entries", "recordings", "recordings/files"] {
            made.create(directory.join(name))?;
        }
        fs::write(directory.join("ledger.vkey"), roots)?;
        let marks = seen.iter().filter(|one| one.size <= head.checkpoint.size).map(|one| (one.size, one.root));
        Ok(Self {
            ledger: Directory::shared(&directory.join("ledger"))?,
            directory: directory.to_owned(),
            marks: marks.collect(),
            head,
            builder: TileBuilder::default(),
            tiles: Tiles::default(),
            segment: None,
            stated: BTreeMap::new(),
            file: None,
            files: BTreeSet::new(),
        })
    }

    /// The number of the next bundle and how many entries it has; `None` if all are there.
    pub fn due(&self) -> Option<(u64, usize)> {
        let (size, rest) = (self.builder.size(), self.head.checkpoint.size.saturating_sub(self.builder.size()));
        (rest > 0).then(|| (size / WIDTH, usize::try_from(rest.min(WIDTH)).unwrap_or(BUNDLE_ENTRIES)))
    }

    /// Takes the next bundle, which may have more entries than are due, and the tile of its hashes, if there is one.
    pub fn bundle(&mut self, bytes: &[u8], hashes: Option<&[u8]>) -> Result<(), RestoreError> {
        let Some((number, width)) = self.due() else { return Ok(()) };
        let lines = parse_bundle(bytes).ok_or(RestoreError::Bundle(number))?;
        let lines = lines.get(..width).ok_or(RestoreError::Bundle(number))?;
        let (first, mut frames, mut whole) = (self.builder.size(), Vec::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            let (index, hash) = (first + at as u64, leaf_hash(line));
            if hashes.and_then(|hashes| hashes.get(32 * at..32 * at + 32)).is_some_and(|told| told != hash.0) {
                return Err(RestoreError::Changed(index));
            }
            self.note(index, line)?;
            let start = begin_frame(&mut frames);
            frames.extend_from_slice(line);
            end_frame(&mut frames, start);
            self.builder.push(hash, &mut whole);
            let size = index + 1;
            if self.marks.get(&size).is_some_and(|root| *root != self.builder.range().root()) {
                return Err(RestoreError::Fork(size));
            }
        }
        check_frames(&mut frames);
        self.write(first, &frames)?;
        whole.iter().try_for_each(|tile| self.tiles.write(&self.ledger, tile))?;
        Ok(())
    }

    /// Ends the ledger: with its checkpoint only if it is what was signed.
    pub fn finish_entries(&mut self, witnessed: Option<&str>) -> Result<(), RestoreError> {
        let size = self.head.checkpoint.size;
        if self.builder.size() != size || self.builder.range().root() != self.head.checkpoint.root {
            return Err(RestoreError::Root(size));
        }
        if let Some((blob, _)) = self.segment.take() {
            blob.sync()?;
        }
        if let Some(note) = witnessed {
            self.ledger.replace(WITNESSED, note.as_bytes())?;
        }
        // Last, as in an export: a ledger without one is not whole.
        Ok(self.ledger.replace("checkpoint", self.head.note.as_bytes())?)
    }

    /// Takes the next piece of the recordings, file by file, each in the order of its offsets.
    pub fn piece(&mut self, mark: RecordingMark, bytes: &[u8]) -> Result<(), RestoreError> {
        if self.file.as_ref().is_none_or(|(file, ..)| *file != mark.file) {
            let path = self.directory.join("recordings").join(file_name(mark.file));
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
            self.files.insert(mark.file);
            self.file = Some((mark.file, file, 0));
        }
        let Some((number, file, length)) = &mut self.file else { return Ok(()) };
        if *length != mark.offset {
            return Err(RestoreError::Pieces { file: *number, offset: *length });
        }
        file.write_all_at(bytes, *length)?;
        *length += bytes.len() as u64;
        Ok(())
    }

    /// Cuts the recordings to what counts, and says what is missing.
    pub fn finish(self) -> Result<RestoreReport, RestoreError> {
        let (mut bytes, mut faults, mut chain) = (0, Vec::new(), RecordingChain::default());
        for file in &self.files {
            let path = self.directory.join("recordings").join(file_name(*file));
            let open = OpenOptions::new().read(true).write(true).open(path)?;
            let stated = self.stated.get(file);
            if let Some((_, stated)) = stated {
                // What the archive has beyond was never synced, and lost.
                open.set_len(stated.bytes.min(open.metadata()?.len()))?;
            }
            let scan = FileScan::of(&open, |_| {})?;
            let found = scan.segment(*file);
            match stated {
                Some((entry, stated)) if found != *stated => {
                    faults.push(fault(*file, *entry, &found, stated));
                }
                _ => open.set_len(found.bytes)?,
            }
            bytes += open.metadata()?.len();
            // Broken chains have no block that an entry names; they are found below.
            FileScan::of(&open, |block| {
                chain.push(block, Some(*file));
            })?;
            open.sync_all()?;
        }
        for (file, (entry, stated)) in self.stated.iter().filter(|(file, _)| !self.files.contains(file)) {
            if stated.bytes > 0 {
                faults.push(FileFault { file: *file, entry: *entry, what: "it is not in the archive".into() });
                continue;
            }
            // A file without a block has no piece. It is made, so that a reader finds what the ledger states.
            File::create(self.directory.join("recordings").join(file_name(*file)))?;
        }
        faults.sort_by_key(|fault| fault.file);
        let (lost, open) = self.missing(&chain)?;
        let files = RecordingReader::new(Arc::new(Directory::shared(&self.directory.join("recordings"))?)).files()?;
        Ok(RestoreReport { head: self.head.checkpoint, files: files.len() as u64, bytes, faults, lost, open })
    }

    /// Remembers the recording files that entries state.
    fn note(&mut self, index: u64, line: &[u8]) -> Result<(), RestoreError> {
        // Looked into only where it can be one; the form of every line is the verifier's to judge.
        const MARK: &[u8] = b"\"k\":\"rec.segment\"";
        if !line.windows(MARK.len()).any(|window| window == MARK) {
            return Ok(());
        }
        let leaf = Leaf::parse(line, index)?;
        let stated = (|| {
            let (file, bytes, blocks) = (leaf.number("file")?, leaf.number("bytes")?, leaf.number("blocks")?);
            Some(RecordingSegment { file, bytes, blocks, digest: leaf.digest("cr")? })
        })();
        if let (Some(EntryKind::RecordingSegment), Some(stated)) = (leaf.kind, stated) {
            self.stated.insert(stated.file, (index, stated));
        }
        Ok(())
    }

    /// Appends frames, in a new segment if the last one is full.
    fn write(&mut self, first: u64, frames: &[u8]) -> Result<(), RestoreError> {
        if let Some((blob, _)) = self.segment.take_if(|(_, length)| *length >= SEGMENT_BYTES) {
            blob.sync()?;
        }
        let (blob, length) = match &mut self.segment {
            Some(segment) => segment,
            None => {
                let blob = self.ledger.create(&format!("entries/{first:020}.seg"))?;
                blob.write_at(0, &segment_header(first))?;
                self.segment.insert((blob, SEGMENT_HEADER_BYTES as u64))
            }
        };
        blob.write_at(*length, frames)?;
        *length += frames.len() as u64;
        Ok(())
    }

    /// Sessions whose entries name blocks that are not there, and sessions without an end.
    fn missing(&self, chain: &RecordingChain) -> Result<(Vec<Lost>, Vec<SessionId>), RestoreError> {
        let reader = LedgerReader::new(Arc::new(Directory::shared(&self.directory.join("ledger"))?));
        let (mut lost, mut open) = (BTreeMap::<SessionId, Lost>::new(), BTreeSet::new());
        let mut fault = None;
        reader.visit(0, |index, item| {
            let LedgerItem::Entry(line) = item else { return ControlFlow::Break(()) };
            let leaf = match Leaf::parse(line, index) {
                Ok(leaf) => leaf,
                Err(error) => {
                    fault = Some(error);
                    return ControlFlow::Break(());
                }
            };
            let Some(session) = leaf.session else { return ControlFlow::Continue(()) };
            match leaf.kind {
                Some(EntryKind::SessionOpen) => drop(open.insert(session)),
                Some(EntryKind::SessionClose) => drop(open.remove(&session)),
                Some(EntryKind::Crash) if leaf.command.is_none() => drop(open.remove(&session)),
                _ => {}
            }
            let named = matches!(leaf.kind, Some(EntryKind::ActDone | EntryKind::SessionClose));
            if named && leaf.digest("cm").is_some_and(|hash| !chain.contains(session, hash)) {
                lost.entry(session).or_insert(Lost { session, first: index, entries: 0 }).entries += 1;
            }
            ControlFlow::Continue(())
        })?;
        match fault {
            Some(error) => Err(error.into()),
            None => Ok((lost.into_values().collect(), open.into_iter().collect())),
        }
    }
}

fn fault(file: u64, entry: u64, found: &RecordingSegment, stated: &RecordingSegment) -> FileFault {
    let what = if found.bytes < stated.bytes {
        format!("only {} of its {} bytes are whole", found.bytes, stated.bytes)
    } else {
        "it is not the one that was closed".to_owned()
    };
    FileFault { file, entry, what }
}
