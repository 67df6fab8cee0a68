//! Opened segments of originals: which file is which, by its commitment, and the messages in them.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use chancery_ledger::{FrameIter, FrameKind, Hasher};
use chancery_model::{Digest, SessionId};
use chancery_wire_pg::frame::next_frame;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::local::read_small;
use crate::output::{Failure, clean};

/// Plaintext of a segment at most (`docs/spec/sealed.md`).
const SEGMENT_BYTES_MAX: u64 = 8_388_608;
/// A list of a hundred thousand segments is shorter.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// The relay's own bound on what a resource may send.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// `segments.json`.
#[derive(Deserialize)]
struct List {
    session: String,
    segments: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    segment: u64,
    bytes: Option<u64>,
    com: Option<String>,
    r: Option<String>,
}

/// What was handed out.
pub(super) struct Handed {
    pub(super) session: SessionId,
    pub(super) segments: BTreeMap<u64, Segment>,
}

/// One segment of it.
pub(super) struct Segment {
    bytes: u64,
    opening: Digest,
    pub(super) commitment: Digest,
    /// The file that has this commitment.
    pub(super) file: Option<PathBuf>,
}

impl Handed {
    /// Reads the list.
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("segments.json");
        let failed = |what: &dyn std::fmt::Display| Failure::unsure(format!("{}: {what}", path.display()));
        let bytes = read_small(&path, LIST_BYTES_MAX).map_err(|error| failed(&error))?;
        let list: List = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
        let session = SessionId::parse(&list.session).ok_or_else(|| failed(&"it names no session"))?;
        let digest = |text: &Option<String>| text.as_deref().and_then(Digest::from_hex);
        // A segment that could not be handed out has a fault instead.
        let whole = list.segments.iter().filter_map(|line| {
            let (bytes, opening, commitment) = (line.bytes?, digest(&line.r)?, digest(&line.com)?);
            Some((line.segment, Segment { bytes, opening, commitment, file: None }))
        });
        Ok(Self { session, segments: whole.collect() })
    }

    /// Finds out which segment a file is. `false`: it is none of them.
    pub(super) fn place(&mut self, path: &Path) -> Result<bool, Failure> {
        let plain = read_segment(path)?;
        let session = self.session;
        let found = self.segments.iter_mut().find(|(number, segment)| segment.is(session, **number, &plain));
        Ok(found.map(|(_, segment)| segment.file = Some(path.to_owned())).is_some())
    }
}

impl Segment {
    fn is(&self, session: SessionId, number: u64, plain: &[u8]) -> bool {
        plain.len() as u64 == self.bytes && commitment(&self.opening, session, number, plain) == self.commitment
    }
}

fn read_segment(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read_small(path, SEGMENT_BYTES_MAX)
        .map_err(|error| Failure::unsure(format!("{}: {error}", clean(&path.to_string_lossy()))))
}

/// `docs/spec/sealed.md`, Commitment.
fn commitment(opening: &Digest, session: SessionId, number: u64, plain: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(b"chancery/seal/1");
    hasher.update(&opening.0);
    hasher.update(&session.0);
    hasher.update(&number.to_be_bytes());
    hasher.update(&(plain.len() as u64).to_be_bytes());
    hasher.update(plain);
    hasher.finish()
}

/// Cuts a stream of outputs into messages of the protocol. All pieces of a message are of one command.
#[derive(Default)]
pub(super) struct Messages {
    buffer: BytesMut,
    command: u64,
}

impl Messages {
    /// Takes the bytes of a frame.
    pub(super) fn push(&mut self, command: u64, bytes: &[u8]) -> Result<(), &'static str> {
        if command != self.command && !self.buffer.is_empty() {
            return Err("a message goes on under another command");
        }
        self.command = command;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next message that is whole, and its command.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Bytes)>, &'static str> {
        let frame = next_frame(&self.buffer, MESSAGE_BYTES_MAX).map_err(|fault| fault.as_str())?;
        Ok(frame.map(|frame| (self.command, self.buffer.split_to(frame.range.end).freeze())))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// The messages of all segments in their order, up to the first that is not there.
pub(super) struct Originals {
    session: SessionId,
    segments: VecDeque<(u64, Segment)>,
    messages: Messages,
    queue: VecDeque<(u64, Bytes)>,
    /// The first segment that is not there, if any was missed.
    pub(super) missing: Option<u64>,
}

impl Originals {
    /// `last`: the number of the last segment on record.
    pub(super) fn new(handed: Handed, last: Option<u64>) -> Self {
        let there: Vec<_> = handed.segments.into_iter().filter(|(_, segment)| segment.file.is_some()).collect();
        let numbers = there.iter().map(|(number, _)| *number);
        let whole = numbers.enumerate().take_while(|(at, number)| *at as u64 == *number).count();
        let missing = last.is_none_or(|last| whole as u64 <= last).then_some(whole as u64);
        let segments = there.into_iter().take(whole).collect();
        let (messages, queue) = (Messages::default(), VecDeque::new());
        Self { session: handed.session, segments, messages, queue, missing }
    }

    /// The next message and its command; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Bytes)>, Failure> {
        while self.queue.is_empty() {
            let Some((number, segment)) = self.segments.pop_front() else { return Ok(None) };
            let Some(path) = &segment.file else { return Ok(None) };
            let plain = read_segment(path)?;
            if !segment.is(self.session, number, &plain) {
                return Err(Failure::unsure(format!("{} was changed meanwhile", clean(&path.to_string_lossy()))));
            }
            self.fill(&plain).map_err(|what| Failure::no(format!("segment {number} of the originals: {what}")))?;
        }
        Ok(self.queue.pop_front())
    }

    fn fill(&mut self, plain: &[u8]) -> Result<(), &'static str> {
        for frame in FrameIter::new(plain) {
            let frame = frame.map_err(|error| error.0)?;
            if frame.kind == FrameKind::Output {
                self.messages.push(frame.command, frame.bytes)?;
                while let Some(message) = self.messages.next()? {
                    self.queue.push_back(message);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use chancery_ledger::Frame;
    use chancery_model::Timestamp;

    use super::*;

    pub(in super::super) const SESSION: SessionId = SessionId([7; 16]);

    /// A directory of the test's own, gone afterwards.
    pub(in super::super) struct Home(pub(in super::super) PathBuf);

    impl Home {
        pub(in super::super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("chancery-remask-{}-{name}", std::process::id()));
            drop(fs::remove_dir_all(&path));
            fs::create_dir(&path).expect("a directory of its own");
            Self(path)
        }

        /// Hands out segments with these outputs, all of them opened but those in `without`.
        pub(in super::super) fn handed(&self, segments: &[Vec<(u64, Vec<u8>)>], without: &[usize]) -> Handed {
            let mut lines = Vec::new();
            for (number, outputs) in segments.iter().enumerate() {
                let plain: Vec<u8> =
                    outputs.iter().flat_map(|(command, bytes)| frame(FrameKind::Output, *command, bytes)).collect();
                let opening = Digest([number as u8; 32]);
                let com = commitment(&opening, SESSION, number as u64, &plain);
                let line = serde_json::json!({ "segment": number, "entry": 3, "file": "x.age", "bytes": plain.len(),
                    "com": com.to_string(), "r": opening.to_string() });
                lines.push(line);
                fs::write(self.0.join(format!("{number}.frames")), plain).expect("own file");
            }
            lines.push(serde_json::json!({ "segment": 99, "entry": 4, "fault": "is not the one that was recorded" }));
            let list = serde_json::json!({ "session": SESSION.to_string(), "segments": lines });
            fs::write(self.0.join("segments.json"), list.to_string()).expect("own file");
            let mut handed = Handed::read(&self.0).expect("a list");
            for number in (0..segments.len()).filter(|number| !without.contains(number)).rev() {
                let placed = handed.place(&self.0.join(format!("{number}.frames")));
                assert!(placed.expect("it can be read"));
            }
            handed
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    pub(in super::super) fn frame(kind: FrameKind, command: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Frame { at: Timestamp(1), kind, command, bytes: bytes.into() }.encode_header(
            bytes.len() as u32,
            false,
            &mut out,
        );
        out.extend_from_slice(bytes);
        out
    }

    /// A message of the protocol.
    pub(in super::super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    fn all(mut originals: Originals) -> (Vec<(u64, Vec<u8>)>, Option<u64>) {
        let mut found = Vec::new();
        while let Some((command, message)) = originals.next().expect("well-formed") {
            found.push((command, message.to_vec()));
        }
        (found, originals.missing)
    }

    #[test]
    fn messages_come_in_order_up_to_the_first_segment_that_is_missing() {
        let home = Home::new("order");
        let (one, two, three) = (message(b'D', b"one"), message(b'C', b""), message(b'D', b"three"));
        // A long message is cut where a segment is full.
        let (front, back) = three.split_at(6);
        let segments = [
            vec![(1, [one.clone(), two.clone()].concat()), (2, front.to_vec())],
            vec![(2, back.to_vec())],
            vec![(3, two.clone())],
        ];
        let whole = [(1, one), (1, two.clone()), (2, three), (3, two)];
        assert_eq!(all(Originals::new(home.handed(&segments, &[]), Some(2))), (whole.to_vec(), None));
        assert_eq!(all(Originals::new(home.handed(&segments, &[]), Some(3))), (whole.to_vec(), Some(3)));
        assert_eq!(all(Originals::new(home.handed(&segments, &[1]), Some(2))), (whole[..2].to_vec(), Some(1)));
        assert_eq!(all(Originals::new(home.handed(&segments, &[0, 1, 2]), Some(2))), (Vec::new(), Some(0)));
    }

    #[test]
    fn a_file_is_a_segment_by_its_commitment_alone() {
        let home = Home::new("commitment");
        let mut handed = home.handed(&[vec![(1, message(b'D', b"one"))], vec![(1, message(b'D', b"two"))]], &[0, 1]);
        let path = home.0.join("0.frames");
        let plain = fs::read(&path).expect("own file");
        for at in 0..plain.len() {
            let mut other = plain.clone();
            other[at] ^= 1;
            fs::write(&path, &other).expect("own file");
            assert!(!handed.place(&path).expect("it can be read"), "byte {at}");
        }
        fs::write(&path, &plain[1..]).expect("own file");
        assert!(!handed.place(&path).expect("it can be read"));
        let both = handed.segments.values().map(|segment| segment.file.is_some());
        assert_eq!(both.collect::<Vec<_>>(), [false, false]);
    }

    #[test]
    fn a_message_is_of_one_command() {
        let mut messages = Messages::default();
        assert_eq!(messages.push(1, b"D\0\0\0\x05"), Ok(()));
        assert_eq!(messages.next(), Ok(None));
        assert!(messages.push(2, b"x").is_err());
        assert_eq!(messages.push(1, b"xC"), Ok(()));
        assert_eq!(messages.next(), Ok(Some((1, Bytes::from_static(b"D\0\0\0\x05x")))));
        assert!(!messages.is_empty());
        let mut messages = Messages::default();
        assert_eq!(messages.push(1, b"D\0\0\0\x03"), Ok(()));
        assert!(messages.next().is_err());
    }
}
