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
    /// The chunk being read. It changes in `turn`, `slice_out` and `take_run` only, so that until then a [`Run`] says where
    /// frames lie.
    front: Bytes,
    /// Counts these chunks.
    turns: u64,
    /// Where the next frame begins in it.
    at: usize,
    /// Where the announced frame ends; not behind `at` if none is announced.
    end: usize,
    later: VecDeque<Bytes>,
    /// The beginning of a frame whose end is in a later chunk; empty if none.
    carry: BytesMut,
}

/// Neighbouring frames in the chunk being read. Good until the inbox turns to another; whoever has one lets go of it
/// before that, because it would say what nobody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// Which chunk it is.
    turn: u64,
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
        } else if self.end == next.start && self.turn == next.turn {
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
            self.put(chunk);
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

    /// Whether nothing is here that was not seen before.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        self.front.is_empty() && self.later.is_empty() && self.carry.len() < HEADER_BYTES
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
            self.put(Bytes::new());
        }
        Ok(None)
    }

    /// Makes a chunk the one being read and returns the one that was.
    #[inline]
    fn put(&mut self, chunk: Bytes) -> Bytes {
        (self.at, self.end) = (0, 0);
        self.turns += 1;
        std::mem::replace(&mut self.front, chunk)
    }

    fn turn_over(&mut self, leg: Leg, max: usize) -> Result<Option<u8>, WireError> {
        if self.at < self.front.len() {
            let at = self.at;
            let mut rest = self.put(Bytes::new());
            rest.advance(at);
            self.later.push_front(rest);
        }
        self.put(Bytes::new());
        loop {
            if self.carry.is_empty() {
                let Some(chunk) = self.later.pop_front() else { return Ok(None) };
                self.put(chunk);
                if let Some(tag) = self.peek(leg, max)? {
                    return Ok(Some(tag));
                }
                let chunk = self.put(Bytes::new());
                self.later.push_front(chunk);
            } else if frame_length(&self.carry, leg, max)?.is_some_and(|length| length <= self.carry.len()) {
                let frame = std::mem::take(&mut self.carry).freeze();
                self.put(frame);
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
        let run = Run { turn: self.turns, start: self.at, end: self.end.max(self.at) };
        self.at = run.end;
        run
    }

    /// Takes the announced frame and all whole frames of the same tag right behind it: the run and how many there are.
    /// The caller has no other run.
    pub(super) fn take_run(&mut self, leg: Leg, max: usize) -> Result<(Bytes, u32), WireError> {
        let start = self.at;
        let Some(&tag) = self.front.get(start) else { return Ok((Bytes::new(), 0)) };
        let mut count = 0;
        while self.front.get(self.at) == Some(&tag) && self.peek(leg, max)?.is_some() {
            self.at = self.end;
            count += 1;
        }
        Ok((self.slice_out(Run { turn: self.turns, start, end: self.at }), count))
    }

    /// A run's bytes.
    pub(super) fn bytes(&self, run: Run) -> &[u8] {
        if run.is_empty() {
            return &[];
        }
        let lying = self.front.get(run.start..run.end).filter(|_| run.turn == self.turns);
        lying.expect("runs are let go of before the inbox turns")
    }

    /// A run's bytes as a part of the read buffer, which they keep.
    fn slice(&self, run: Run) -> Bytes {
        self.front.slice_ref(self.bytes(run))
    }

    /// The same for the only run that the caller has. It takes the inbox's own share of the read buffer if it is the rest
    /// of the chunk.
    pub(super) fn slice_out(&mut self, run: Run) -> Bytes {
        if self.at != run.end || run.end != self.front.len() || run.turn != self.turns || run.is_empty() {
            return self.slice(run);
        }
        let mut chunk = self.put(Bytes::new());
        chunk.advance(run.start);
        chunk
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
    pub(super) fn finish(&mut self, inbox: &mut Inbox, lying: bool) -> Held {
        let last = if lying && self.short.is_empty() {
            inbox.slice_out(std::mem::take(&mut self.run))
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

#[cfg(test)]
mod tests {
    use super::*;

    const LEG: Leg = Leg::Downstream;

    fn next(inbox: &mut Inbox) -> Option<u8> {
        let here = inbox.peek(LEG, 64).expect("legal");
        here.or_else(|| inbox.turn(LEG, 64).expect("legal"))
    }

    /// Each way to cut two frames into three chunks.
    #[test]
    fn frames_are_the_same_wherever_chunks_end() {
        let stream = b"B\0\0\0\x07abcS\0\0\0\x04";
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut inbox = Inbox::default();
                let mut seen = Vec::new();
                for chunk in [&stream[..first], &stream[first..second], &stream[second..]] {
                    inbox.push(Bytes::copy_from_slice(chunk));
                    while let Some(tag) = next(&mut inbox) {
                        let body = inbox.body().to_vec();
                        let frame = inbox.take();
                        seen.push((tag, body, inbox.bytes(frame).to_vec()));
                    }
                    assert!(inbox.front.is_empty(), "no read buffer is kept");
                }
                let expected = [(b'B', b"abc".to_vec(), stream[..8].to_vec()), (b'S', vec![], stream[8..].to_vec())];
                assert_eq!(seen, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn pieces_are_the_frames_whatever_lies_between_them() {
        let stream = b"B\0\0\0\x04D\0\0\0\x04E\0\0\0\x04S\0\0\0\x04";
        for cut in 0..=stream.len() {
            for skipped in 0..4 {
                for lying in [false, true] {
                    let (mut inbox, mut pieces, mut expected) = (Inbox::default(), Pieces::default(), Vec::new());
                    inbox.push(Bytes::copy_from_slice(&stream[..cut]));
                    inbox.push(Bytes::copy_from_slice(&stream[cut..]));
                    for at in 0..4 {
                        if inbox.peek(LEG, 64).expect("legal").is_none() {
                            pieces.settle(&inbox);
                            assert!(inbox.turn(LEG, 64).expect("legal").is_some());
                        }
                        let frame = inbox.take();
                        if at == skipped {
                            pieces.add_own(&inbox, b"own");
                            expected.extend_from_slice(b"own");
                        } else {
                            pieces.add(&inbox, frame);
                            expected.extend_from_slice(&stream[at * 5..at * 5 + 5]);
                        }
                    }
                    let held = pieces.finish(&mut inbox, lying);
                    assert!(pieces.is_empty());
                    let (length, mut sent) = (held.len(), Vec::new());
                    held.send(|piece| sent.extend_from_slice(&piece));
                    assert_eq!((length, &sent), (expected.len(), &expected), "cut at {cut}, without {skipped}");
                }
            }
        }
    }

    #[test]
    fn long_frames_are_not_copied_and_short_ones_hold_no_chunk() {
        let long = [&b"d\0\0\x08\x04"[..], &[7; 2048]].concat();
        let chunk = Bytes::from([&b"S\0\0\0\x04"[..], &long, b"S\0\0\0\x04"].concat());
        let (mut inbox, mut pieces) = (Inbox::default(), Pieces::default());
        inbox.push(chunk.clone());
        while inbox.peek(LEG, 4096).expect("legal").is_some() {
            let frame = inbox.take();
            pieces.add(&inbox, frame);
        }
        let mut sent = Vec::new();
        pieces.finish(&mut inbox, false).send(|piece| sent.push(piece));
        let within = |piece: &Bytes| chunk.as_ptr_range().contains(&piece.as_ptr());
        assert_eq!(sent.iter().map(within).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(sent.concat(), chunk);
    }

    #[test]
    fn a_wrong_length_stays_wrong() {
        for chunks in [&[&b"Q\0\0\0\x01"[..]][..], &[&b"Q\0"[..], b"\0\0\x01"]] {
            let mut inbox = Inbox::default();
            for chunk in chunks {
                inbox.push(Bytes::copy_from_slice(chunk));
                let _ = inbox.peek(LEG, 64).and_then(|_| inbox.turn(LEG, 64));
            }
            for _ in 0..2 {
                let again = inbox.peek(LEG, 64).and_then(|_| inbox.turn(LEG, 64));
                assert_eq!(again, Err(WireError::PeerMisbehaved(LEG, "message length below four")));
            }
        }
    }

    #[test]
    fn the_rest_of_a_chunk_is_given_away_with_it() {
        let mut inbox = Inbox::default();
        inbox.push(Bytes::copy_from_slice(b"D\0\0\0\x04D\0\0\0\x04C\0\0\0\x04"));
        assert_eq!(next(&mut inbox), Some(b'D'));
        let (run, count) = inbox.take_run(LEG, 64).expect("legal");
        assert_eq!((run.len(), count, inbox.front.is_empty()), (10, 2, false));
        assert_eq!(next(&mut inbox), Some(b'C'));
        let frame = inbox.take();
        assert_eq!(inbox.slice_out(frame), Bytes::from_static(b"C\0\0\0\x04"));
        assert!(inbox.front.is_empty() && inbox.is_drained());
        assert_eq!(next(&mut inbox), None);
    }
}
