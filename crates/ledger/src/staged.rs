//! The road from a subject to its `Recorded` form. Not here: bytes and hashes (`line`, `tree`), and whoever writes them.

use chancery_model::{Digest, EntryRef, SessionId};

use crate::{Entry, Frame};

/// Something that has an entry in the ledger.
pub trait ToEntry {
    /// Returns what is to be written down. Called once, under the sequencer's lock: borrow, do not compute.
    fn entry(&self) -> Entry<'_>;
}

impl<T: ToEntry> ToEntry for Box<T> {
    fn entry(&self) -> Entry<'_> {
        (**self).entry()
    }
}

/// Something that has a frame in the recording of its session.
pub trait ToFrame {
    /// Returns what is to be recorded. The bytes are borrowed where that can be.
    fn frame(&self) -> Frame<'_>;
}

/// Swallows a subject until its entry is written.
pub fn stage<T: ToEntry>(subject: T) -> Staged<T> {
    Staged { subject, at: None }
}

/// Swallows a subject until its frame is recorded.
pub fn stage_frame<T: ToFrame>(subject: T) -> StagedFrame<T> {
    StagedFrame { subject, at: None }
}

/// A subject that waits for its entry. There is no way to look inside.
#[must_use = "dropping it destroys the subject"]
pub struct Staged<T> {
    pub(crate) subject: T,
    pub(crate) at: Option<EntryRef>,
}

impl<T> std::fmt::Debug for Staged<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<T: ToEntry> Staged<T> {
    /// What kind of entry it waits for.
    pub fn kind(&self) -> crate::EntryKind {
        self.subject.entry().kind()
    }
}

impl<T> Staged<T> {
    /// Gives the subject back, now recorded. A slot of another entry gives the staged subject back instead.
    pub fn commit(self, slot: Slot) -> Result<Recorded<T>, Mismatch<Self>> {
        if self.at != Some(slot.at) {
            return Err(Mismatch(self));
        }
        Ok(Recorded { subject: self.subject, place: Place::Entry(slot.at), durability: slot.durability })
    }
}

/// A subject that waits for its frame. There is no way to look inside.
#[must_use = "dropping it destroys the subject"]
pub struct StagedFrame<T> {
    subject: T,
    at: Option<FrameRef>,
}

impl<T> std::fmt::Debug for StagedFrame<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedFrame").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<T> StagedFrame<T> {
    /// Gives the subject back, now recorded. A slot of another frame gives the staged subject back instead.
    pub fn commit(self, slot: FrameSlot) -> Result<Recorded<T>, Mismatch<Self>> {
        if self.at != Some(slot.at) {
            return Err(Mismatch(self));
        }
        Ok(Recorded { subject: self.subject, place: Place::Frame(slot.at), durability: slot.durability })
    }
}

/// A slot was offered to a subject that it does not belong to; holds the subject, still staged.
#[derive(Debug)]
pub struct Mismatch<S>(pub S);

impl<S> std::fmt::Display for Mismatch<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the slot belongs to another entry or frame")
    }
}

impl<S: std::fmt::Debug> std::error::Error for Mismatch<S> {}

/// How far the bytes of an entry or frame have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// In this process; lost if it dies within the next flush interval. Frames, and entries of proven reads of which
    /// nothing is shown before they are written.
    Buffered,
    /// Handed to the kernel: survives the death of this process, not of the host.
    Written,
    /// On disk: survives the loss of power.
    OnDisk,
}

/// The assertion that bytes have reached a [`Durability`]. Made in `store` only, next to the system call that proves it.
#[derive(Debug)]
pub struct Durable(Durability);

impl Durable {
    /// Asserts that the recorder has taken a frame, or the sequencer an entry, and will write it or fail the session.
    pub fn buffered_assertion() -> Self {
        Self(Durability::Buffered)
    }
    /// Asserts that `write` returned success for every byte.
    pub fn written_assertion() -> Self {
        Self(Durability::Written)
    }
    /// Asserts that `fdatasync` returned success after every byte was written.
    pub fn on_disk_assertion() -> Self {
        Self(Durability::OnDisk)
    }
}

/// An entry that has a position and a leaf hash, and whose bytes are on their way. Made by [`crate::Log::place`].
#[derive(Debug)]
#[must_use = "an entry that is placed and never sealed holds its subject for ever"]
pub struct Placed {
    pub(crate) at: EntryRef,
}

impl Placed {
    /// The position, for watermarks.
    pub fn index(&self) -> u64 {
        self.at.index
    }
    /// The leaf hash.
    pub fn leaf(&self) -> Digest {
        self.at.leaf
    }
    /// Turns the assertion into the slot of this entry.
    pub fn seal(self, durable: Durable) -> Slot {
        Slot { at: self.at, durability: durable.0 }
    }
}

/// The right to commit one staged subject: carries its index and leaf hash. Made by [`Placed::seal`] only.
#[derive(Debug)]
pub struct Slot {
    at: EntryRef,
    durability: Durability,
}

/// Names a frame of a recording: its session and its number there, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameRef {
    /// The session.
    pub session: SessionId,
    /// The frame's number.
    pub number: u64,
}

/// Numbers the frames of one session's recording.
#[derive(Debug)]
pub struct FrameLog {
    session: SessionId,
    next: u64,
}

impl FrameLog {
    /// Starts the numbering of a session.
    pub fn new(session: SessionId) -> Self {
        Self { session, next: 0 }
    }
    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }
    /// Numbers a frame that carries no subject, and returns its number.
    pub fn next_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
    /// Gives a staged subject its frame number and returns the frame to record.
    pub fn place<'s, T: ToFrame>(&mut self, staged: &'s mut StagedFrame<T>) -> (PlacedFrame, Frame<'s>) {
        let at = FrameRef { session: self.session, number: self.next_number() };
        staged.at = Some(at);
        (PlacedFrame { at }, staged.subject.frame())
    }
}

/// A frame that has a number, and whose bytes are on their way.
#[derive(Debug)]
pub struct PlacedFrame {
    at: FrameRef,
}

impl PlacedFrame {
    /// Turns the assertion into the slot of this frame.
    pub fn seal(self, durable: Durable) -> FrameSlot {
        FrameSlot { at: self.at, durability: durable.0 }
    }
}

/// The right to commit one staged frame. Made by [`PlacedFrame::seal`] only.
#[derive(Debug)]
pub struct FrameSlot {
    at: FrameRef,
    durability: Durability,
}

/// Where the proof of a recorded subject stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// An entry of the ledger.
    Entry(EntryRef),
    /// A frame of a recording.
    Frame(FrameRef),
}

/// A subject whose entry or frame is recorded.
#[must_use = "dropping it destroys the subject"]
pub struct Recorded<T> {
    subject: T,
    place: Place,
    durability: Durability,
}

impl<T> std::fmt::Debug for Recorded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<T> Recorded<T> {
    /// Where it stands.
    pub fn place(&self) -> Place {
        self.place
    }
    /// Its entry; `None` if it is recorded as a frame.
    pub fn entry_ref(&self) -> Option<EntryRef> {
        match self.place {
            Place::Entry(at) => Some(at),
            Place::Frame(_) => None,
        }
    }
    /// How far its bytes had come when it was committed.
    pub fn durability(&self) -> Durability {
        self.durability
    }
    /// Looks at the subject.
    pub fn subject(&self) -> &T {
        &self.subject
    }
    /// Gives the subject up; the proof is used up.
    pub fn into_inner(self) -> T {
        self.subject
    }
    /// Narrows a recorded whole to the recorded part that is in it.
    pub fn narrow<U>(self) -> Result<Recorded<U>, Recorded<T>>
    where
        T: Narrow<U>,
    {
        let (place, durability) = (self.place, self.durability);
        match self.subject.narrow() {
            Ok(subject) => Ok(Recorded { subject, place, durability }),
            Err(subject) => Err(Recorded { subject, place, durability }),
        }
    }
}

/// A whole that may hold a `U` which the same entry or frame speaks for.
pub trait Narrow<U>: Sized {
    /// Takes the part out, or gives the whole back.
    fn narrow(self) -> Result<U, Self>;
}

/// Hash of nothing: the previous hash of what has no predecessor.
pub(crate) const NOTHING: Digest = Digest([0; 32]);
