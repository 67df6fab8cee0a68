//! Bytes that arrived on one leg, cut into frames where they lie.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use chancery_wire::{Leg, WireError};

use crate::frame::HEADER_BYTES;

/// Frames up to this size are copied together; a write of one piece is cheaper than of many.
pub(super) const SHORT: usize = 1024;

/// Received chunks and the frame that straddles them. Only a straddling frame is ever copied.
#[derive(Default)]
pub(super) struct Inbox {
    /// The chunk being read. It changes in `turn` only, so that until then a [`Run`] says where frames lie.
    front: Bytes,
    /// Where the next frame begins in it.
    at: usize,
    /// Where the announced frame ends; not behind `at` if none is announced.
    end: usize,
    later: VecDeque<Bytes>,
    /// The beginning of a frame whose end is in a later chunk; empty if none.
    carry: BytesMut,
}

/// Neighbouring frames in the chunk being read. Good until the inbox turns to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    start: usize,
    end: usize,
}

/// A sequence of frames being gathered. Short ones are copied together, long ones are kept as they lie.
#[derive(Default, Debug)]
pub(super) struct Pieces {
    list: Vec<Bytes>,
    /// Short frames behind the list, copied out of chunks that are gone.
    short: Vec<u8>,
    /// Short frames behind those, not copied yet.
    run: Run,
}

/// A gathered sequence of frames.
#[derive(Debug)]
pub(super) struct Held {
    list: Vec<Bytes>,
    last: Bytes,
}

impl Run {
    pub(super) fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    pub(super) fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Makes the run longer by the one right behind it. False: it does not lie there.
    pub(super) fn extend(&mut self, next: Self) -> bool {
        if self.is_empty() {
            *self = next;
        } else if self.end == next.start {
            self.end = next.end;
        } else {
            return false;
        }
        true
    }
}

impl Inbox {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if self.front.is_empty() && self.later.is_empty() && self.carry.is_empty() {
            (self.front, self.at, self.end) = (chunk, 0, 0);
        } else if !chunk.is_empty() {
            self.later.push_back(chunk);
        }
    }

    /// The tag of the next frame, if all of it lies in the chunk being read. Otherwise the caller lets go of the runs it
    /// has and calls `turn`. Checks the length before anything is kept.
    #[inline]
    pub(super) fn peek(&mut self, leg: Leg, max: usize) -> Result<Option<u8>, WireError> {
        let rest = self.front.get(self.at..).unwrap_or_default();
        match frame_length(rest, leg, max)? {
            Some(length) if length <= rest.len() => {
                self.end = self.at + length;
                Ok(rest.first().copied())
            }
            _ => Ok(None),
        }
    }

    /// Whether nothing arrived behind the chunk being read.
    pub(super) fn is_last(&self) -> bool {
        self.later.is_empty()
    }

    /// `peek` in what arrived later. What is left of the chunk being read is the beginning of a frame: it is copied, so
    /// that nobody who waits for the rest holds a read buffer.
    #[inline]
    pub(super) fn turn(&mut self, leg: Leg, max: usize) -> Result<Option<u8>, WireError> {
        // A header that was carried and is wrong stays so.
        if self.at < self.front.len() || !self.later.is_empty() || self.carry.len() >= HEADER_BYTES {
            return self.turn_over(leg, max);
        }
        if !self.front.is_empty() {
            (self.front, self.at, self.end) = (Bytes::new(), 0, 0);
        }
        Ok(None)
    }

    fn turn_over(&mut self, leg: Leg, max: usize) -> Result<Option<u8>, WireError> {
        if self.at < self.front.len() {
            self.front.advance(self.at);
            let front = std::mem::take(&mut self.front);
            self.later.push_front(front);
        }
        (self.front, self.at, self.end) = (Bytes::new(), 0, 0);
        loop {
            if self.carry.is_empty() {
                let Some(chunk) = self.later.pop_front() else { return Ok(None) };
                self.front = chunk;
                if let Some(tag) = self.peek(leg, max)? {
                    return Ok(Some(tag));
                }
                let chunk = std::mem::take(&mut self.front);
                self.later.push_front(chunk);
            } else if frame_length(&self.carry, leg, max)?.is_some_and(|length| length <= self.carry.len()) {
                self.front = std::mem::take(&mut self.carry).freeze();
                return self.peek(leg, max);
            }
            let needed = match self.later.front() {
                Some(chunk) if self.carry.is_empty() => frame_length(chunk, leg, max)?,
                _ => frame_length(&self.carry, leg, max)?,
            };
            if !self.gather(needed.unwrap_or(HEADER_BYTES)) {
                return Ok(None);
            }
        }
    }

    /// Moves bytes of the next chunk into the carry until it holds `needed`. False: no more bytes.
    fn gather(&mut self, needed: usize) -> bool {
        let Some(mut chunk) = self.later.pop_front() else { return false };
        if self.carry.is_empty() && self.later.is_empty() && chunk.len() < 4096 {
            self.carry.reserve(needed.min(64 * 1024));
        }
        let missing = needed.saturating_sub(self.carry.len()).min(chunk.len());
        self.carry.extend_from_slice(&chunk[..missing]);
        chunk.advance(missing);
        if !chunk.is_empty() {
            self.later.push_front(chunk);
        }
        true
    }

    /// What follows the header of the announced frame, which stays here.
    pub(super) fn body(&self) -> &[u8] {
        self.front.get(self.at.saturating_add(HEADER_BYTES)..self.end).unwrap_or_default()
    }

    /// Takes the announced frame.
    pub(super) fn take(&mut self) -> Run {
        let run = Run { start: self.at, end: self.end.max(self.at) };
        self.at = run.end;
        run
    }

    /// Takes the announced frame and all whole frames of the same tag right behind it: the run and how many there are.
    pub(super) fn take_run(&mut self, leg: Leg, max: usize) -> Result<(Bytes, u32), WireError> {
        let start = self.at;
        let Some(&tag) = self.front.get(start) else { return Ok((Bytes::new(), 0)) };
        let mut count = 0;
        while self.front.get(self.at) == Some(&tag) && self.peek(leg, max)?.is_some() {
            self.at = self.end;
            count += 1;
        }
        Ok((self.slice(Run { start, end: self.at }), count))
    }

    /// A run's bytes.
    pub(super) fn bytes(&self, run: Run) -> &[u8] {
        self.front.get(run.start..run.end).unwrap_or_default()
    }

    /// A run's bytes as a part of the read buffer, which they keep.
    pub(super) fn slice(&self, run: Run) -> Bytes {
        self.front.slice_ref(self.bytes(run))
    }

    /// Bytes of the announced frame as a part of the read buffer, which they keep.
    pub(super) fn slice_ref(&self, bytes: &[u8]) -> Bytes {
        self.front.slice_ref(bytes)
    }
}

impl Pieces {
    /// Adds frames that were just taken from the inbox.
    #[inline]
    pub(super) fn add(&mut self, inbox: &Inbox, frame: Run) {
        if frame.len() > SHORT || !self.run.extend(frame) {
            self.add_apart(inbox, frame);
        }
    }

    fn add_apart(&mut self, inbox: &Inbox, frame: Run) {
        if frame.len() > SHORT {
            self.flush(inbox);
            self.list.push(inbox.slice(frame));
        } else {
            self.settle(inbox);
            self.run = frame;
        }
    }

    /// Adds a frame of our own making.
    pub(super) fn add_own(&mut self, inbox: &Inbox, frame: &[u8]) {
        self.settle(inbox);
        self.short.extend_from_slice(frame);
    }

    /// Lets go of the chunk being read.
    #[inline]
    pub(super) fn settle(&mut self, inbox: &Inbox) {
        if !self.run.is_empty() {
            self.copy_run(inbox);
        }
    }

    fn copy_run(&mut self, inbox: &Inbox) {
        self.short.extend_from_slice(inbox.bytes(std::mem::take(&mut self.run)));
    }

    fn flush(&mut self, inbox: &Inbox) {
        let piece = self.take_short(inbox);
        if !piece.is_empty() {
            self.list.push(piece);
        }
    }

    fn take_short(&mut self, inbox: &Inbox) -> Bytes {
        if self.short.is_empty() {
            return Bytes::copy_from_slice(inbox.bytes(std::mem::take(&mut self.run)));
        }
        self.settle(inbox);
        std::mem::take(&mut self.short).into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.run.is_empty() && self.short.is_empty() && self.list.is_empty()
    }

    /// What was gathered. `lying`: short frames may keep the read buffer, because what is asked keeps it anyway.
    pub(super) fn finish(&mut self, inbox: &Inbox, lying: bool) -> Held {
        let last = if lying && self.short.is_empty() {
            inbox.slice(std::mem::take(&mut self.run))
        } else {
            self.take_short(inbox)
        };
        Held { list: std::mem::take(&mut self.list), last }
    }
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.last.len() + self.list.iter().map(Bytes::len).sum::<usize>()
    }

    /// Hands out the pieces in order.
    #[inline]
    pub(super) fn send(self, mut send: impl FnMut(Bytes)) {
        if !self.list.is_empty() {
            self.list.into_iter().for_each(&mut send);
        }
        send(self.last);
    }
}

/// The whole length of the frame that starts here, if its header is here.
#[inline]
fn frame_length(bytes: &[u8], leg: Leg, max: usize) -> Result<Option<usize>, WireError> {
    let Some(&[_, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX).saturating_add(1);
    if length < HEADER_BYTES || length > max { Err(bad_length(length, leg)) } else { Ok(Some(length)) }
}

#[cold]
fn bad_length(length: usize, leg: Leg) -> WireError {
    if length < HEADER_BYTES {
        return WireError::PeerMisbehaved(leg, "message length below four");
    }
    WireError::LimitReached(leg, "message too long")
}
