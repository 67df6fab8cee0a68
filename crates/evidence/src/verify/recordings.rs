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
    /// When open sessions began.
    open: HashMap<SessionId, i64>,
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
            match next(rest) {
                Ok(None) => break,
                Ok(Some((header, length))) => {
                    let stored = rest.get(BLOCK_HEADER_BYTES..length).unwrap_or_default();
                    let block = Block { header, stored };
                    at += length;
                    if let Some(what) = place(&mut self.chain, self.session, &block) {
                        self.damaged = true;
                        return notes.fail(PackCheck::Recordings, None, what);
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
        let Some(session) = leaf.session else { return };
        match leaf.kind {
            Some(EntryKind::SessionOpen) => {
                self.open.insert(session, leaf.wall);
            }
            Some(EntryKind::ActDone) => {
                let began = self.open.get(&session).copied().unwrap_or(leaf.wall);
                let Some(hash) = leaf.digest("cm").filter(|_| period.touches(began, Some(leaf.wall))) else { return };
                if !self.chain.contains(session, hash) {
                    let what = format!("the recording of {session} lacks the block it names");
                    notes.fail(PackCheck::Recordings, Some(leaf.index), what);
                }
            }
            Some(EntryKind::SessionClose) => {
                let began = self.open.remove(&session).unwrap_or(leaf.wall);
                let (head, said) = (self.chain.head(&session), leaf.digest("cm"));
                if head != said && (head.is_some() || period.touches(began, Some(leaf.wall))) {
                    let what = format!("the recording of {session} does not end as it says");
                    notes.fail(PackCheck::Recordings, Some(leaf.index), what);
                }
            }
            Some(EntryKind::Crash) if leaf.command.is_none() => {
                self.open.remove(&session);
            }
            _ => {}
        }
    }
}

/// The next whole block: its header and length.
fn next(bytes: &[u8]) -> Result<Option<(BlockHeader, usize)>, &'static str> {
    let Some(head) = bytes.first_chunk::<BLOCK_HEADER_BYTES>() else { return Ok(None) };
    let header = BlockHeader::parse(head).map_err(|error| error.0)?;
    let length = BLOCK_HEADER_BYTES + header.stored_len as usize;
    Ok((bytes.len() >= length).then_some((header, length)))
}

fn place(chain: &mut RecordingChain, session: Option<SessionId>, block: &Block<'_>) -> Option<String> {
    let (own, number) = (block.header.session, block.header.number);
    if session != Some(own) {
        return Some(format!("a block of {own} lies in the file of another session"));
    }
    match chain.push(block) {
        ChainCheck::Follows => None,
        ChainCheck::OutOfOrder(expected) => Some(format!("{own} block {number} where {expected} was expected")),
        ChainCheck::Broken => Some(format!("{own} block {number} does not follow the one before it")),
    }
}
