//! The recordings of a pack: whole, chained, and those that the entries speak of.

use chancery_ledger::{BLOCK_HEADER_BYTES, Block, BlockHeader, ChainCheck, EntryKind, Leaf, RecordingChain};
use chancery_model::SessionId;
use foldhash::HashMap;

use super::{Notes, PackCheck};
use crate::Period;

#[derive(Default)]
pub(super) struct Recordings {
    chain: RecordingChain,
    /// The file that is being read: its session, and what of a block is there.
    session: Option<SessionId>,
    pending: Vec<u8>,
    damaged: bool,
    /// The openings of open sessions: index and time.
    open: HashMap<SessionId, (u64, i64)>,
    /// Entries that state files of the gateway.
    files: HashMap<u64, u64>,
    /// Sessions that were opened before this entry can have had blocks in a file that was pruned.
    pruned: Option<u64>,
    /// What lacks blocks, once a session: not here, if they were pruned.
    lacking: HashMap<SessionId, Lack>,
}

/// Blocks of a session are not here.
struct Lack {
    /// The index of its opening, if there is one.
    opened: Option<u64>,
    /// The first entry that names one of them.
    entry: Option<u64>,
    what: String,
}

impl Recordings {
    pub(super) fn begin(&mut self, path: &str, notes: &mut Notes) {
        let name = path.strip_prefix("recordings/").and_then(|name| name.strip_suffix(".rec"));
        self.session = name.and_then(|name| crate::directory::unhex(name).map(SessionId));
        self.pending.clear();
        self.damaged = self.session.is_none();
        if self.damaged {
            notes.fail(PackCheck::Recordings, None, format!("{path} is not named after a session"));
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8], notes: &mut Notes) {
        if self.damaged {
            return;
        }
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = self.pending.get(at..).unwrap_or_default();
            match next_block(rest) {
                Ok(None) => break,
                Ok(Some((block, length))) => {
                    at += length;
                    match place(&mut self.chain, self.session, &block) {
                        Ok(None) => {}
                        Ok(Some(what)) => {
                            let lack = Lack { opened: None, entry: None, what };
                            self.lacking.entry(block.header.session).or_insert(lack);
                        }
                        Err(what) => {
                            self.damaged = true;
                            return notes.fail(PackCheck::Recordings, None, what);
                        }
                    }
                }
                Err(what) => {
                    self.damaged = true;
                    return notes.fail(PackCheck::Recordings, None, format!("{}: {what}", self.name()));
                }
            }
        }
        self.pending.drain(..at);
    }

    fn name(&self) -> String {
        self.session.map_or("?".to_owned(), |session| session.to_string())
    }

    pub(super) fn end(&mut self, notes: &mut Notes) {
        if !self.damaged && !self.pending.is_empty() {
            notes.fail(PackCheck::Recordings, None, format!("{}: the last block is cut", self.name()));
        }
        self.session = None;
    }

    /// An entry that speaks of a recording. Recordings of sessions outside the period are not in the pack.
    pub(super) fn entry(&mut self, leaf: &Leaf, period: Period, notes: &mut Notes) {
        let file = leaf.number("file");
        match (leaf.kind, file) {
            (Some(EntryKind::RecordingSegment), Some(file)) => drop(self.files.insert(file, leaf.index)),
            (Some(EntryKind::PruneRecording), Some(file)) => self.pruned = self.pruned.max(self.files.remove(&file)),
            _ => {}
        }
        let Some(session) = leaf.session else { return };
        match leaf.kind {
            Some(EntryKind::SessionOpen) => {
                self.open.insert(session, (leaf.index, leaf.wall));
                if let Some(lack) = self.lacking.get_mut(&session) {
                    lack.opened.get_or_insert(leaf.index);
                }
            }
            Some(EntryKind::ActDone) => {
                let open = self.open.get(&session).copied();
                let began = open.map_or(leaf.wall, |(_, began)| began);
                let Some(hash) = leaf.digest("cm").filter(|_| period.touches(began, Some(leaf.wall))) else { return };
                if !self.chain.contains(session, hash) {
                    let what = format!("the recording of {session} lacks the block it names");
                    self.lacks(session, open.map(|(opened, _)| opened), leaf.index, what);
                }
            }
            Some(EntryKind::SessionClose) => {
                let open = self.open.remove(&session);
                let began = open.map_or(leaf.wall, |(_, began)| began);
                let (head, said) = (self.chain.head(&session), leaf.digest("cm"));
                if head != said && (head.is_some() || period.touches(began, Some(leaf.wall))) {
                    let what = format!("the recording of {session} does not end as it says");
                    if said.is_none_or(|hash| self.chain.contains(session, hash)) {
                        notes.fail(PackCheck::Recordings, Some(leaf.index), what);
                    } else {
                        self.lacks(session, open.map(|(opened, _)| opened), leaf.index, what);
                    }
                }
            }
            Some(EntryKind::Crash) if leaf.command.is_none() => {
                self.open.remove(&session);
            }
            _ => {}
        }
    }

    fn lacks(&mut self, session: SessionId, opened: Option<u64>, entry: u64, what: String) {
        self.lacking.entry(session).or_insert(Lack { opened, entry: Some(entry), what });
    }

    /// All entries were read: what lacks blocks is in doubt if they can have been pruned, and fails if not.
    pub(super) fn finish(&mut self, notes: &mut Notes) {
        let mut lacking: Vec<Lack> = std::mem::take(&mut self.lacking).into_values().collect();
        lacking.sort_by_key(|lack| (lack.entry, lack.opened));
        for Lack { opened, entry, what } in lacking {
            if opened.zip(self.pruned).is_some_and(|(opened, pruned)| opened < pruned) {
                notes.doubt(PackCheck::Recordings, entry, format!("{what}; files of its time were pruned"));
            } else {
                notes.fail(PackCheck::Recordings, entry, what);
            }
        }
    }
}

/// The block at the start of a recording's bytes, and its length; `None` if it is not whole yet.
pub fn next_block(bytes: &[u8]) -> Result<Option<(Block<'_>, usize)>, &'static str> {
    let Some(head) = bytes.first_chunk::<BLOCK_HEADER_BYTES>() else { return Ok(None) };
    let header = BlockHeader::parse(head).map_err(|error| error.0)?;
    let length = BLOCK_HEADER_BYTES + header.stored_len as usize;
    Ok(bytes.get(BLOCK_HEADER_BYTES..length).map(|stored| (Block { header, stored }, length)))
}

/// Takes the next block of a file; says if blocks before it are not here.
fn place(chain: &mut RecordingChain, session: Option<SessionId>, block: &Block<'_>) -> Result<Option<String>, String> {
    let (own, number) = (block.header.session, block.header.number);
    if session != Some(own) {
        return Err(format!("a block of {own} lies in the file of another session"));
    }
    match chain.push(block, None) {
        ChainCheck::Follows => Ok(None),
        ChainCheck::Gap { expected, .. } => Ok(Some(format!("{own} block {number} where {expected} was expected"))),
        ChainCheck::OutOfOrder(expected) => Err(format!("{own} block {number} where {expected} was expected")),
        ChainCheck::Broken => Err(format!("{own} block {number} does not follow the one before it")),
    }
}
