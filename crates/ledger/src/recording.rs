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
    /// Blocks of the session before it are not there. The chain goes on from it.
    Gap {
        /// The number expected.
        expected: u64,
        /// The file of the session's block before it; `None` if there is none.
        after: Option<u64>,
    },
    /// It is there already, or comes too late: the number expected.
    OutOfOrder(u64),
    /// Its previous hash is not that of the block before it.
    Broken,
}

/// As far as the chain of a session was seen.
#[derive(Clone, Copy, Debug)]
struct Head {
    next: u64,
    hash: Digest,
    file: Option<u64>,
}

/// The chains of all sessions seen. 16 bytes a block.
#[derive(Clone, Debug, Default)]
pub struct RecordingChain {
    heads: HashMap<SessionId, Head>,
    blocks: HashSet<[u8; 16]>,
}

impl RecordingChain {
    /// Takes the next block in file order, and the file that it is in.
    pub fn push(&mut self, block: &Block<'_>, file: Option<u64>) -> ChainCheck {
        let header = &block.header;
        let before = self.heads.get(&header.session).copied();
        let Head { next, hash: previous, .. } = before.unwrap_or(Head { next: 0, hash: NOTHING, file: None });
        if header.number < next {
            return ChainCheck::OutOfOrder(next);
        }
        if header.number == next && header.previous != previous {
            return ChainCheck::Broken;
        }
        let hash = header.hash(block.stored);
        self.heads.insert(header.session, Head { next: header.number.saturating_add(1), hash, file });
        self.blocks.insert(mark(header.session, &hash));
        if header.number == next {
            ChainCheck::Follows
        } else {
            ChainCheck::Gap { expected: next, after: before.and_then(|before| before.file) }
        }
    }
    /// The hash of the session's last block.
    pub fn head(&self, session: &SessionId) -> Option<Digest> {
        self.heads.get(session).map(|head| head.hash)
    }
    /// Whether the session has a block of this hash.
    pub fn contains(&self, session: SessionId, hash: Digest) -> bool {
        self.blocks.contains(&mark(session, &hash))
    }
    /// The sessions seen.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionId> {
        self.heads.keys()
    }
}

/// What is remembered of a block. Another block that has this mark is as hard to find as another with the first half of a
/// SHA-256: 2^128 tries.
fn mark(session: SessionId, hash: &Digest) -> [u8; 16] {
    std::array::from_fn(|at| session.0[at] ^ hash.0[at])
}
