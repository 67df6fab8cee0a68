//! Where segments are, reading them back as they are stored, and removing them.

use std::io;
use std::sync::Arc;

use chancery_model::SessionId;

use crate::sequencer::{Volume, read_whole};

/// Above what a segment can become.
const BODY_BYTES_MAX: u64 = 16 << 20;
const HEADER_BYTES_MAX: u64 = 64 << 10;

pub(super) fn body_name(session: SessionId, index: u64) -> String {
    format!("{}/{index:08}.age-body", directory(session))
}

pub(super) fn header_name(session: SessionId, index: u64) -> String {
    format!("{}/{index:08}.age-header", directory(session))
}

fn directory(session: SessionId) -> String {
    session.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A segment as it is stored.
pub struct SealedSegment {
    /// The age file behind its header.
    pub body: Vec<u8>,
    /// The wrapped header.
    pub header: Vec<u8>,
}

/// Reads sealed originals, beside their writer or long after.
#[derive(Clone)]
pub struct SealedReader {
    volume: Arc<dyn Volume>,
}

impl std::fmt::Debug for SealedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedReader").finish_non_exhaustive()
    }
}

impl SealedReader {
    /// Over the sealed originals in `volume`.
    pub fn new(volume: Arc<dyn Volume>) -> Self {
        Self { volume }
    }
    /// One segment. Whether it is the one that was recorded is the caller's to check.
    pub fn segment(&self, session: SessionId, index: u64) -> io::Result<SealedSegment> {
        let read = |name: String, max| read_whole(self.volume.open(&name)?.as_ref(), max);
        Ok(SealedSegment {
            body: read(body_name(session, index), BODY_BYTES_MAX)?,
            header: read(header_name(session, index), HEADER_BYTES_MAX)?,
        })
    }
    /// How many files a session has.
    pub fn count(&self, session: SessionId) -> io::Result<usize> {
        Ok(self.volume.list(&directory(session))?.len())
    }
    /// Removes every file of a session; returns how many there were.
    pub fn remove(&self, session: SessionId) -> io::Result<usize> {
        let directory = directory(session);
        let names = self.volume.list(&directory)?;
        for name in &names {
            self.volume.remove(&format!("{directory}/{name}"))?;
        }
        Ok(names.len())
    }
}
