//! Entries past their time: what sessions did is dropped from closed segments, and the leaf hash of each entry stays in its
//! place, so that tree, proofs and the chain of epochs are what they were. Format: `docs/spec/retention.md`.
//!
//! Not here: holds of which only the ledger knows, and when a segment is due.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use chancery_ledger::{EntryKind, Hasher, Leaf, leaf_hash};
use chancery_model::{Digest, SessionId, Timestamp};

use crate::sequencer::segment::{self, Next};
use crate::sequencer::{SEGMENT_BYTES_MAX, Volume, read_whole, tile_of_leaves};

/// What is looked at to tell whom a hold is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) session: SessionId,
    /// Its chain; `None`: nobody was authenticated.
    pub(super) chain: Option<[u8; 16]>,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// A closed segment, read through.
pub(super) struct Closed {
    pub(super) first: u64,
    pub(super) last_at: Timestamp,
    /// Sessions that lie in it from their opening to their end, and openings that were refused. No other entry of the
    /// ledger is about them.
    pub(super) whole: Vec<Whole>,
    /// Sessions that share a review: they go together.
    tied: Vec<BTreeSet<SessionId>>,
    frames: Vec<Frame>,
    bytes: Vec<u8>,
    length: u64,
}

#[derive(Clone, Copy)]
struct Frame {
    at: usize,
    after: usize,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// Stays: it holds others together, or belongs to a session that is not whole in this segment.
    Kept,
    /// Goes with the session.
    Of(SessionId),
    /// Goes with the rest, unless anything is held.
    Loose,
    Pruned(Digest),
}

/// What a segment becomes.
pub(super) struct Pruned {
    pub(super) bytes: Vec<u8>,
    /// Entries that are only hashes then, and the digest over these.
    pub(super) dropped: u64,
    pub(super) digest: Digest,
    /// Entries that were lines before.
    pub(super) fresh: u64,
    /// By how much it gets shorter.
    pub(super) freed: u64,
}

/// The first indices of the closed segments: all but the last, which is written.
pub(super) fn closed(volume: &dyn Volume) -> io::Result<Vec<u64>> {
    let names = volume.list("entries")?;
    let mut firsts: Vec<u64> =
        names.iter().filter_map(|name| name.strip_suffix(".seg").and_then(|first| first.parse().ok())).collect();
    firsts.pop();
    Ok(firsts)
}

/// The segment as it is. An error of kind `InvalidData` if it is not whole.
pub(super) fn read(volume: &Arc<dyn Volume>, first: u64) -> io::Result<Closed> {
    let bad = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let blob = volume.open(&segment::name(first))?;
    let bytes = read_whole(blob.as_ref(), SEGMENT_BYTES_MAX)?;
    if segment::header(&bytes) != Some(first) {
        return Err(bad("a segment's header is wrong"));
    }
    let mut reading = Reading::default();
    let (mut at, mut index) = (segment::HEADER_BYTES, first);
    loop {
        let after = match segment::next(&bytes, at) {
            Next::Entry(line, after) => {
                let leaf = Leaf::parse(line, index).map_err(|_| bad("an entry of a segment has not its form"))?;
                reading.entry(&leaf, at, after);
                after
            }
            Next::Pruned(hash, after) => {
                reading.frames.push((Frame { at, after, what: What::Pruned(hash) }, None));
                after
            }
            Next::End => break,
            Next::Bad(what) => return Err(bad(what)),
        };
        (at, index) = (after, index + 1);
    }
    let length = bytes.len() as u64;
    Ok(reading.closed(first, bytes, length))
}

/// What is seen of a session in one segment.
#[derive(Default)]
struct Seen {
    opened: Option<(Timestamp, Option<[u8; 16]>)>,
    ended: Option<Timestamp>,
    /// Opened or ended for the second time.
    odd: bool,
}

/// What is seen of a review in one segment.
#[derive(Default)]
struct Review {
    requested: Option<SessionId>,
    /// Used, denied, or ended otherwise.
    ended: bool,
    /// Whose entries name it: an approval may be used in another session than the one that asked.
    sessions: BTreeSet<SessionId>,
}

#[derive(Default)]
struct Reading {
    /// Each with the review that it is about, if it has no session.
    frames: Vec<(Frame, Option<String>)>,
    sessions: BTreeMap<SessionId, Seen>,
    reviews: BTreeMap<String, Review>,
    last_at: Timestamp,
}

impl Reading {
    fn entry(&mut self, leaf: &Leaf, at: usize, after: usize) {
        self.last_at = Timestamp(leaf.wall);
        let now = Timestamp(leaf.wall);
        let chain = leaf.rest.get("a").and_then(|id| id.as_str()).and_then(super::id_from_hex);
        let review = leaf.rest.get("rev").and_then(|id| id.as_str()).map(str::to_owned);
        self.review(leaf, review.as_deref());
        let mut about = None;
        let what = match (leaf.kind, leaf.session) {
            // A refused opening is all that there is of its session.
            (Some(EntryKind::ActDeny), Some(session)) if leaf.command == Some(0) => {
                let seen = self.sessions.entry(session).or_default();
                seen.odd |= seen.opened.is_some() || seen.ended.is_some();
                (seen.opened, seen.ended) = (Some((now, chain)), Some(now));
                What::Of(session)
            }
            (
                Some(
                    EntryKind::SessionOpen
                    | EntryKind::SessionClose
                    | EntryKind::ActStart
                    | EntryKind::ActDone
                    | EntryKind::ActDeny
                    | EntryKind::ApprovalRequest
                    | EntryKind::ApprovalUse
                    | EntryKind::Crash,
                ),
                Some(session),
            ) => {
                let seen = self.sessions.entry(session).or_default();
                match (leaf.kind, leaf.command) {
                    (Some(EntryKind::SessionOpen), _) => {
                        seen.odd |= seen.opened.is_some();
                        seen.opened = Some((now, chain));
                    }
                    (Some(EntryKind::SessionClose), _) | (Some(EntryKind::Crash), None) => {
                        seen.odd |= seen.ended.is_some() || seen.opened.is_none();
                        seen.ended = Some(now);
                    }
                    _ => {}
                }
                What::Of(session)
            }
            (Some(EntryKind::ApprovalDecide | EntryKind::ApprovalEnd), _) => {
                about = review;
                What::Kept
            }
            (Some(EntryKind::Heartbeat | EntryKind::View), _) => What::Loose,
            _ => What::Kept,
        };
        self.frames.push((Frame { at, after, what }, about));
    }

    fn review(&mut self, leaf: &Leaf, id: Option<&str>) {
        let (Some(id), Some(kind)) = (id, leaf.kind) else { return };
        let review = self.reviews.entry(id.to_owned()).or_default();
        match (kind, leaf.session) {
            (EntryKind::ApprovalRequest, Some(session)) => review.requested = Some(session),
            (EntryKind::ApprovalUse | EntryKind::ApprovalEnd, _) => review.ended = true,
            (EntryKind::ApprovalDecide, _) => {
                let word = leaf.rest.get("d").and_then(|d| d.get(0)).and_then(|word| word.as_str());
                review.ended |= word == Some("deny");
            }
            // It speaks of what is kept, and stays.
            (EntryKind::Unseal, _) => return,
            _ => {}
        }
        review.sessions.extend(leaf.session);
    }

    /// The sessions that may go: whole in this segment, and so is every review that they name, with all whom it ties.
    fn whole(&self) -> BTreeMap<SessionId, Whole> {
        let mut whole = BTreeMap::new();
        for (session, seen) in &self.sessions {
            if let (Some((from, chain)), Some(to), false) = (seen.opened, seen.ended, seen.odd) {
                whole.insert(*session, Whole { session: *session, chain, from, to });
            }
        }
        loop {
            let goes = |review: &&Review| {
                review.requested.is_some() && review.ended && review.sessions.iter().all(|one| whole.contains_key(one))
            };
            let stay = self.reviews.values().filter(|review| !goes(review)).flat_map(|review| &review.sessions);
            let stay: BTreeSet<SessionId> = stay.filter(|session| whole.contains_key(session)).copied().collect();
            if stay.is_empty() {
                return whole;
            }
            whole.retain(|session, _| !stay.contains(session));
        }
    }

    fn closed(self, first: u64, bytes: Vec<u8>, length: u64) -> Closed {
        let (whole, reviews) = (self.whole(), self.reviews);
        // The answer to a review goes with the session that asked; one of another segment stays.
        let frames = self.frames.into_iter().map(|(frame, about)| {
            let asked = about.and_then(|review| reviews.get(&review)?.requested);
            let what = match (frame.what, asked.filter(|session| whole.contains_key(session))) {
                (_, Some(session)) => What::Of(session),
                (What::Of(session), _) if !whole.contains_key(&session) => What::Kept,
                (what, None) => what,
            };
            Frame { what, ..frame }
        });
        let frames = frames.collect();
        let tied = reviews.into_values().map(|review| review.sessions).filter(|sessions| sessions.len() > 1).collect();
        let last_at = self.last_at;
        Closed { first, last_at, whole: whole.into_values().collect(), tied, frames, bytes, length }
    }
}

impl Closed {
    /// What is held, and whatever a review ties to it.
    fn held(&self, held: &BTreeSet<SessionId>) -> BTreeSet<SessionId> {
        let mut all = held.clone();
        loop {
            let before = all.len();
            for sessions in &self.tied {
                if !sessions.is_disjoint(&all) {
                    all.extend(sessions);
                }
            }
            if all.len() == before {
                return all;
            }
        }
    }

    /// The segment without what it may lose, but for sessions that are held. An error of kind `InvalidData` if an entry
    /// that would go is not the one in the tree.
    pub(super) fn without(&self, volume: &dyn Volume, held: &BTreeSet<SessionId>, loose: bool) -> io::Result<Pruned> {
        let mut out = Vec::with_capacity(self.bytes.len() / 4);
        out.extend_from_slice(self.bytes.get(..segment::HEADER_BYTES).unwrap_or_default());
        let held = self.held(held);
        let (mut hasher, mut dropped, mut fresh, mut tile) = (Hasher::default(), 0, 0, None);
        for (index, frame) in (self.first..).zip(&self.frames) {
            let stored = self.bytes.get(frame.at..frame.after).unwrap_or_default();
            let goes = match frame.what {
                What::Kept => None,
                What::Of(session) => (!held.contains(&session)).then_some(false),
                What::Loose => loose.then_some(false),
                What::Pruned(_) => Some(true),
            };
            let hash = match (goes, frame.what) {
                (None, _) => {
                    out.extend_from_slice(stored);
                    continue;
                }
                (_, What::Pruned(hash)) => hash,
                _ => {
                    fresh += 1;
                    leaf_hash(stored.get(segment::FRAME_HEADER_BYTES..).unwrap_or_default())
                }
            };
            if !in_tree(volume, index, &hash, &mut tile)? {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry is not the one in the tree"));
            }
            segment::pruned_frame(&mut out, &hash);
            hasher.update(&hash.0);
            dropped += 1;
        }
        let freed = self.length.saturating_sub(out.len() as u64);
        Ok(Pruned { bytes: out, dropped, digest: hasher.finish(), fresh, freed })
    }
}

/// Whether the tile of a leaf, which is whole for all but the newest, has this hash. A tile that is not there says nothing.
fn in_tree(
    volume: &dyn Volume,
    index: u64,
    hash: &Digest,
    tile: &mut Option<(u64, Option<Vec<u8>>)>,
) -> io::Result<bool> {
    let number = index / 256;
    if tile.as_ref().is_none_or(|(known, _)| *known != number) {
        *tile = Some((number, tile_of_leaves(volume, number)?));
    }
    let Some((_, Some(hashes))) = tile else { return Ok(true) };
    let at = (index % 256) as usize * 32;
    Ok(hashes.get(at..at + 32).is_none_or(|known| known == hash.0))
}

#[cfg(test)]
mod tests;
