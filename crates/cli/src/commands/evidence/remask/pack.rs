//! What a pack has of one session: entries about its originals and its recording, and the recording itself.

use std::collections::BTreeMap;
use std::path::Path;

use chancery_evidence::{Kept, next_block, read_bundle};
use chancery_ledger::{ChainCheck, EntryKind, FrameIter, FrameKind, FrameView, Leaf, RecordingChain, Verdict};
use chancery_model::{Digest, SessionId};
use chancery_store::decode_block;

use crate::commands::evidence::read::members;
use crate::output::Failure;

/// A bundle has at most 256 entries with their lengths, each of which has 16 bits.
const BUNDLE_BYTES_MAX: usize = 256 * (2 + 65_536);
/// All mask maps of a session, which are held in memory: more than a million results have.
const MAPS_BYTES_MAX: usize = 512 << 20;

/// What the entries say of a session.
#[derive(Default)]
pub(super) struct Stated {
    /// The commitment of each segment of originals, and its entry.
    pub(super) segments: BTreeMap<u64, (Digest, u64)>,
    /// The entry that closes the session, and the block that it says is the last.
    pub(super) close: Option<(u64, Option<Digest>)>,
}

/// What the recording is, but for its outputs.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) blocks: u64,
    pub(super) head: Option<Digest>,
    /// Why it is not a recording of the session.
    pub(super) fault: Option<Fault>,
    /// The bytes of its mask maps.
    pub(super) maps: Vec<Vec<u8>>,
}

/// Reads entries and maps.
pub(super) fn survey(pack: &Path, session: SessionId) -> Result<(Stated, Recorded), Failure> {
    let (mut stated, mut recorded, mut index) = (Stated::default(), Recorded::default(), 0);
    let (mut bundle, mut blocks, mut maps_bytes) = (Vec::new(), Blocks::new(session), 0);
    let own = path(session);
    let wanted = |path: &str| path == own || BUNDLES.iter().any(|bundles| path.starts_with(bundles));
    members(pack, wanted, |path, bytes| {
        if path == own && recorded.fault.is_some() {
            return Ok(());
        }
        if path == own {
            let taken = blocks.take(bytes, |frame| {
                if frame.kind == FrameKind::MaskMap {
                    maps_bytes += frame.bytes.len() + size_of::<Vec<u8>>();
                    if frame.continued || maps_bytes > MAPS_BYTES_MAX {
                        return Err("a mask map in pieces, or too many of them".to_owned());
                    }
                    recorded.maps.push(frame.bytes.to_vec());
                }
                Ok(())
            });
            if let Err(fault) = taken {
                recorded.fault.get_or_insert(fault);
            }
            return Ok(());
        }
        match bytes {
            Some(bytes) if bundle.len() + bytes.len() <= BUNDLE_BYTES_MAX => bundle.extend_from_slice(bytes),
            Some(_) => return Err(unfit(path)),
            None => {
                let below = path.strip_prefix("ledger/").unwrap_or(path);
                for entry in read_bundle(below, &bundle).ok_or_else(|| unfit(path))? {
                    if let Kept::Entry(line) = entry {
                        stated.take(&Leaf::parse(line, index).map_err(|_| unfit(path))?, session);
                    }
                    index += 1;
                }
                bundle.clear();
            }
        }
        Ok(())
    })?;
    recorded.blocks = blocks.count;
    recorded.head = blocks.chain.head(&session);
    Ok((stated, recorded))
}

/// Visits the frames of the recording. It was surveyed, so its form is known to hold.
pub(super) fn frames(
    pack: &Path,
    session: SessionId,
    mut visit: impl FnMut(&FrameView<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (own, mut blocks, mut failed) = (path(session), Blocks::new(session), None);
    members(
        pack,
        |path| path == own,
        |_, bytes| {
            let taken = blocks.take(bytes, |frame| visit(frame).map_err(|failure| failed.insert(failure).to_string()));
            match (taken, failed.take()) {
                (_, Some(failure)) => Err(failure),
                (Err((_, what)), None) => Err(Failure::unsure(format!("the pack was changed meanwhile: {what}"))),
                (Ok(()), None) => Ok(()),
            }
        },
    )
}

/// Bundles of entries: whole ones, and those of which some were pruned.
const BUNDLES: [&str; 2] = ["ledger/tile/entries/", "ledger/kept/"];

fn path(session: SessionId) -> String {
    let name: String = session.0.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("recordings/{name}.rec")
}

fn unfit(path: &str) -> Failure {
    Failure::no(format!("{path} has not the form of a bundle of entries")).hint("verify the pack first")
}

impl Stated {
    fn take(&mut self, leaf: &Leaf, session: SessionId) {
        if leaf.session != Some(session) {
            return;
        }
        match leaf.kind {
            Some(EntryKind::RawSegment) => {
                if let (Some(number), Some(commitment)) = (leaf.number("seg"), leaf.digest("com")) {
                    self.segments.insert(number, (commitment, leaf.index));
                }
            }
            Some(EntryKind::SessionClose) => self.close = Some((leaf.index, leaf.digest("cm"))),
            _ => {}
        }
    }
}

/// Why a recording is not to be compared with: a failure, or blocks that are not there.
type Fault = (Verdict, String);

fn wrong(what: impl Into<String>) -> Fault {
    (Verdict::Fail, what.into())
}

/// Follows the blocks of a recording and opens them.
struct Blocks {
    session: SessionId,
    pending: Vec<u8>,
    raw: Vec<u8>,
    chain: RecordingChain,
    count: u64,
}

impl Blocks {
    fn new(session: SessionId) -> Self {
        let (pending, raw, chain) = (Vec::new(), Vec::new(), RecordingChain::default());
        Self { session, pending, raw, chain, count: 0 }
    }

    /// Takes the next bytes of the recording, `None` at its end.
    fn take(
        &mut self,
        bytes: Option<&[u8]>,
        mut visit: impl FnMut(&FrameView<'_>) -> Result<(), String>,
    ) -> Result<(), Fault> {
        let Some(bytes) = bytes else {
            return if self.pending.is_empty() { Ok(()) } else { Err(wrong("its last block is cut")) };
        };
        self.pending.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((block, length)) = next_block(self.pending.get(at..).unwrap_or_default()).map_err(wrong)? {
            let number = block.header.number;
            let place = |what: String| wrong(format!("its block {number}: {what}"));
            if block.header.session != self.session {
                return Err(place("it is another session's".to_owned()));
            }
            match self.chain.push(&block, None) {
                ChainCheck::Follows => {}
                ChainCheck::Gap { expected, .. } => {
                    return Err((
                        Verdict::Inconclusive,
                        format!("its blocks from {expected} to {number} are not here"),
                    ));
                }
                _ => return Err(place("it does not follow the one before it".to_owned())),
            }
            decode_block(&block, &mut self.raw).map_err(|error| place(error.to_string()))?;
            for frame in FrameIter::new(&self.raw) {
                let frame = frame.map_err(|error| place(error.to_string()))?;
                visit(&frame).map_err(place)?;
            }
            self.count += 1;
            at += length;
        }
        self.pending.drain(..at);
        Ok(())
    }
}
