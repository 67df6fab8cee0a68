//! Bytes that arrived on one leg, cut into frames where they lie.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use chancery_wire::{Leg, WireError};

/// A tag byte and a length that counts itself but not the tag.
const HEADER: usize = 5;

/// Frames up to this size are copied together; a write of one piece is cheaper than of many.
const SHORT: usize = 1024;

/// Received chunks and the frame that straddles them. Only a straddling frame is ever copied.
#[derive(Default)]
pub(super) struct Inbox {
    chunks: VecDeque<Bytes>,
    /// The beginning of a frame whose end is in a later chunk; empty if none.
    carry: BytesMut,
}

/// One whole frame.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
}

/// A gathered sequence of frames. Short ones are copied together, long ones are kept as they lie.
#[derive(Default, Debug)]
pub(super) struct Pieces {
    list: Vec<Bytes>,
    short: BytesMut,
}

impl Frame {
    /// What follows the header.
    pub(super) fn body(&self) -> Bytes {
        self.bytes.slice(HEADER.min(self.bytes.len())..)
    }
}

impl Inbox {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The tag of the next frame, once the whole frame is here. Checks the length before anything is kept.
    pub(super) fn peek(&mut self, leg: Leg, max: usize) -> Result<Option<u8>, WireError> {
        loop {
            let front: &[u8] = if self.carry.is_empty() {
                match self.chunks.front() {
                    Some(chunk) => chunk,
                    None => return Ok(None),
                }
            } else {
                &self.carry
            };
            let needed = frame_length(front, leg, max)?;
            if needed.is_some_and(|needed| front.len() >= needed) {
                return Ok(front.first().copied());
            }
            if !self.gather(needed.unwrap_or(HEADER)) {
                return Ok(None);
            }
        }
    }

    /// Moves bytes of the front chunk into the carry until it holds `needed`. False: no more bytes.
    fn gather(&mut self, needed: usize) -> bool {
        if self.carry.is_empty() && self.chunks.len() == 1 && self.chunks.front().is_some_and(|c| c.len() < 4096) {
            // A small remainder: keep it apart, so that a large read buffer is not held for it.
            self.carry.reserve(needed.min(64 * 1024));
        }
        let Some(mut chunk) = self.chunks.pop_front() else { return false };
        let missing = needed.saturating_sub(self.carry.len()).min(chunk.len());
        self.carry.extend_from_slice(&chunk[..missing]);
        chunk.advance(missing);
        if !chunk.is_empty() {
            self.chunks.push_front(chunk);
        }
        true
    }

    /// A view of the frame that `peek` announced, which stays here.
    pub(super) fn peek_frame(&self) -> Option<Bytes> {
        if !self.carry.is_empty() {
            return Some(Bytes::copy_from_slice(&self.carry));
        }
        let chunk = self.chunks.front()?;
        let length = declared_length(chunk)?;
        (length <= chunk.len()).then(|| chunk.slice(..length))
    }

    /// The frame that `peek` announced.
    pub(super) fn take(&mut self) -> Option<Frame> {
        if !self.carry.is_empty() {
            return Some(Frame { bytes: self.carry.split().freeze() });
        }
        let chunk = self.chunks.front_mut()?;
        let length = declared_length(chunk)?;
        let bytes = chunk.split_to(length.min(chunk.len()));
        self.drop_empty();
        Some(Frame { bytes })
    }

    /// The announced frame and all whole frames of the same tag right behind it: the run and how many there are.
    pub(super) fn take_run(&mut self, leg: Leg, max: usize) -> Result<(Bytes, u32), WireError> {
        if !self.carry.is_empty() {
            return Ok((self.carry.split().freeze(), 1));
        }
        let Some(chunk) = self.chunks.front_mut() else { return Ok((Bytes::new(), 0)) };
        let Some(&tag) = chunk.first() else { return Ok((Bytes::new(), 0)) };
        let (mut end, mut count) = (0, 0);
        while chunk.get(end) == Some(&tag) {
            match frame_length(&chunk[end..], leg, max)? {
                Some(length) if chunk.len() - end >= length => end += length,
                _ => break,
            }
            count += 1;
        }
        let run = chunk.split_to(end);
        self.drop_empty();
        Ok((run, count))
    }

    fn drop_empty(&mut self) {
        if self.chunks.front().is_some_and(Bytes::is_empty) {
            self.chunks.pop_front();
        }
    }
}

impl Pieces {
    pub(super) fn add(&mut self, frame: Bytes) {
        if frame.len() <= SHORT {
            self.short.extend_from_slice(&frame);
        } else {
            self.flush();
            self.list.push(frame);
        }
    }

    fn flush(&mut self) {
        if !self.short.is_empty() {
            self.list.push(self.short.split().freeze());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.short.len() + self.list.iter().map(Bytes::len).sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.short.is_empty() && self.list.is_empty()
    }

    pub(super) fn into_list(mut self) -> Vec<Bytes> {
        self.flush();
        self.list
    }
}

fn declared_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..HEADER)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    usize::try_from(length).ok()?.checked_add(1)
}

/// The whole length of the frame that starts here, if its header is here.
fn frame_length(bytes: &[u8], leg: Leg, max: usize) -> Result<Option<usize>, WireError> {
    let Some(length) = declared_length(bytes) else { return Ok(None) };
    if length < HEADER {
        return Err(WireError::PeerMisbehaved(leg, "message length below four"));
    }
    if length > max {
        return Err(WireError::LimitReached(leg, "message too long"));
    }
    Ok(Some(length))
}
