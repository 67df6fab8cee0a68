//! Follows the chains of blocks through recording files. Not here: reading the files, decoding payloads.

use std::collections::{HashMap, HashSet};

use chancery_model::{Digest, SessionId};

use crate::block::Block;
use crate::staged::NOTHING;

/// How a block stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainCheck {
    /// It is the session's next.
    Follows,
    /// A block of the session is missing, repeated or out of order: the number expected.
    OutOfOrder(u64),
    /// Its previous hash is not that of the block before it.
    Broken,
}

/// The chains of all sessions seen. 32 bytes a block.
#[derive(Clone, Debug, Default)]
pub struct RecordingChain {
    heads: HashMap<SessionId, (u64, Digest)>,
    hashes: HashSet<(SessionId, Digest)>,
}

impl RecordingChain {
    /// Takes the next block in file order.
    pub fn push(&mut self, block: &Block<'_>) -> ChainCheck {
        let header = &block.header;
        let (next, previous) = self.heads.get(&header.session).copied().unwrap_or((0, NOTHING));
        if header.number != next {
            return ChainCheck::OutOfOrder(next);
        }
        if header.previous != previous {
            return ChainCheck::Broken;
        }
        let hash = header.hash(block.stored);
        self.heads.insert(header.session, (next + 1, hash));
        self.hashes.insert((header.session, hash));
        ChainCheck::Follows
    }
    /// The hash of the session's last block.
    pub fn head(&self, session: &SessionId) -> Option<Digest> {
        self.heads.get(session).map(|(_, hash)| *hash)
    }
    /// Whether the session has a block of this hash.
    pub fn contains(&self, session: SessionId, hash: Digest) -> bool {
        self.hashes.contains(&(session, hash))
    }
    /// The sessions seen.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionId> {
        self.heads.keys()
    }
}
