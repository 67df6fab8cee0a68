//! The recording format: frames in blocks, blocks chained per session (`docs/spec/recording.md`). Not here: compression
//! and files.

use std::borrow::Cow;

use chancery_model::{Digest, SessionId, Timestamp};

use crate::tree::sha256_of;

/// The first bytes of every block.
pub const BLOCK_MAGIC: [u8; 4] = *b"CRB2";

/// The length of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 108;

/// Raw bytes that a block may hold. Bounds what a decoder allocates, whatever a file says.
pub(crate) const BLOCK_RAW_MAX: usize = 1024 * 1024;

/// Bytes of a frame's header.
const FRAME_HEADER_BYTES: usize = 21;

/// Set in the kind of a frame that continues the one before it.
const CONTINUED: u8 = 0x80;

/// How a block's payload is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As it is.
    Raw,
    /// LZ4 block format.
    Lz4,
}

/// The fixed part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Whose recording.
    pub session: SessionId,
    /// Number of the block in the session, from 0.
    pub number: u64,
    /// Hash of the session's block before; 32 zero bytes for the first.
    pub previous: Digest,
    /// Random bytes of this block alone: without them its hash says nothing about its payload, even to who guesses it.
    pub salt: [u8; 32],
    /// How the payload is stored.
    pub codec: Codec,
    /// Length of the payload after decoding.
    pub raw_len: u32,
    /// Length of the payload as stored.
    pub stored_len: u32,
    /// CRC-32C over the header before it and the stored payload.
    pub crc: u32,
}

/// Why bytes are not a block or a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockError(pub &'static str);

impl std::fmt::Display for BlockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "recording is malformed: {}", self.0)
    }
}

impl std::error::Error for BlockError {}

impl BlockHeader {
    /// The largest payload that a block may hold, decoded.
    pub const RAW_BYTES_MAX: usize = BLOCK_RAW_MAX;

    /// The header's bytes. Those before the last four are what the CRC covers, together with the payload.
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut out = [0; BLOCK_HEADER_BYTES];
        out[..4].copy_from_slice(&BLOCK_MAGIC);
        out[4..20].copy_from_slice(&self.session.0);
        out[20..28].copy_from_slice(&self.number.to_be_bytes());
        out[28..60].copy_from_slice(&self.previous.0);
        out[60..92].copy_from_slice(&self.salt);
        out[92] = match self.codec {
            Codec::Raw => 0,
            Codec::Lz4 => 1,
        };
        out[96..100].copy_from_slice(&self.raw_len.to_be_bytes());
        out[100..104].copy_from_slice(&self.stored_len.to_be_bytes());
        out[104..].copy_from_slice(&self.crc.to_be_bytes());
        out
    }
    /// Reads a header and checks its bounds; the CRC is the caller's to check.
    pub fn parse(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<Self, BlockError> {
        fn part<const N: usize>(bytes: &[u8; BLOCK_HEADER_BYTES], at: usize) -> [u8; N] {
            bytes[at..at + N].try_into().expect("the range has N bytes")
        }
        if bytes[..4] != BLOCK_MAGIC {
            return Err(BlockError("no block starts here"));
        }
        let codec = match bytes[92..96] {
            [0, 0, 0, 0] => Codec::Raw,
            [1, 0, 0, 0] => Codec::Lz4,
            _ => return Err(BlockError("unknown codec")),
        };
        let header = Self {
            session: SessionId(part(bytes, 4)),
            number: u64::from_be_bytes(part(bytes, 20)),
            previous: Digest(part(bytes, 28)),
            salt: part(bytes, 60),
            codec,
            raw_len: u32::from_be_bytes(part(bytes, 96)),
            stored_len: u32::from_be_bytes(part(bytes, 100)),
            crc: u32::from_be_bytes(part(bytes, 104)),
        };
        // A block that compression would lengthen is stored raw, so stored is never longer than raw.
        if header.raw_len as usize > BLOCK_RAW_MAX || header.stored_len > header.raw_len {
            return Err(BlockError("block too long"));
        }
        if header.codec == Codec::Raw && header.stored_len != header.raw_len {
            return Err(BlockError("raw block of two lengths"));
        }
        Ok(header)
    }
    /// The hash that the session's next block carries: SHA-256(0x02 ‖ header ‖ stored payload).
    pub fn hash(&self, stored: &[u8]) -> Digest {
        sha256_of(&[&[2], &self.encode(), stored])
    }
}

/// A block with its stored payload.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The header.
    pub header: BlockHeader,
    /// The payload as stored; `header.stored_len` bytes.
    pub stored: &'a [u8],
}

impl<'a> Block<'a> {
    /// Takes the next block off `bytes`. `Ok(None)` at the end or where only zeros follow (space written ahead).
    pub fn split(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, BlockError> {
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let (header, rest) = bytes.split_first_chunk().ok_or(BlockError("header cut"))?;
        let header = BlockHeader::parse(header)?;
        let (stored, rest) = rest.split_at_checked(header.stored_len as usize).ok_or(BlockError("payload cut"))?;
        Ok(Some((Self { header, stored }, rest)))
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Facts of the session, once, first: resource, protocol, chain, client address (JSON).
    Header,
    /// Text of a command, masked.
    Command,
    /// Its parameters, masked.
    Parameters,
    /// What was decided, for readers.
    Verdict,
    /// Masked protocol bytes as the client got them.
    Output,
    /// Input of a command: count and SHA-256, never the bytes.
    Input,
    /// How a command ended.
    Outcome,
    /// What masking did to the outputs before it ([`crate::parse_mask_map`]).
    MaskMap,
}

impl FrameKind {
    const ALL: [Self; 8] = [
        Self::Header,
        Self::Command,
        Self::Parameters,
        Self::Verdict,
        Self::Output,
        Self::Input,
        Self::Outcome,
        Self::MaskMap,
    ];
    /// Lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Command => "command",
            Self::Parameters => "parameters",
            Self::Verdict => "verdict",
            Self::Output => "output",
            Self::Input => "input",
            Self::Outcome => "outcome",
            Self::MaskMap => "mask.map",
        }
    }
    fn byte(self) -> u8 {
        Self::ALL.into_iter().position(|kind| kind == self).map_or(0, |at| at as u8 + 1)
    }
    fn parse(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }
}

/// One thing that happened in a session.
#[derive(Clone)]
pub struct Frame<'a> {
    /// When.
    pub at: Timestamp,
    /// What it holds.
    pub kind: FrameKind,
    /// The command it belongs to; 0 for none.
    pub command: u64,
    /// The bytes.
    pub bytes: Cow<'a, [u8]>,
}

impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frame").field("kind", &self.kind).field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Frame<'_> {
    /// Bytes of a frame's header.
    pub const HEADER_BYTES: usize = FRAME_HEADER_BYTES;

    /// The same with bytes of its own.
    pub fn into_owned(self) -> Frame<'static> {
        Frame { at: self.at, kind: self.kind, command: self.command, bytes: Cow::Owned(self.bytes.into_owned()) }
    }

    /// Appends the header of a piece of this frame that has `length` bytes.
    pub fn encode_header(&self, length: u32, continued: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.0.to_be_bytes());
        out.push(self.kind.byte() | if continued { CONTINUED } else { 0 });
        out.extend_from_slice(&self.command.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// A frame, or a piece of one, inside a decoded block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameView<'a> {
    /// When.
    pub at: Timestamp,
    /// What it holds.
    pub kind: FrameKind,
    /// Whether it continues the frame before it.
    pub continued: bool,
    /// The command it belongs to; 0 for none.
    pub command: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl std::fmt::Debug for FrameView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameView").field("kind", &self.kind).field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Reads the frames of a decoded block; ends after the first error.
#[derive(Clone, Debug)]
pub struct FrameIter<'a> {
    rest: &'a [u8],
}

impl<'a> FrameIter<'a> {
    /// Over the decoded payload of a block.
    pub fn new(raw: &'a [u8]) -> Self {
        Self { rest: raw }
    }
    fn take(&mut self) -> Option<FrameView<'a>> {
        let (at, rest) = self.rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first()?;
        let (command, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        self.rest = rest;
        Some(FrameView {
            at: Timestamp(i64::from_be_bytes(*at)),
            kind: FrameKind::parse(kind & !CONTINUED)?,
            continued: kind & CONTINUED != 0,
            command: u64::from_be_bytes(*command),
            bytes,
        })
    }
}

impl<'a> Iterator for FrameIter<'a> {
    type Item = Result<FrameView<'a>, BlockError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let frame = self.take().ok_or(BlockError("frame cut or of unknown kind"));
        if frame.is_err() {
            self.rest = &[];
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BlockHeader {
        BlockHeader {
            session: SessionId([1; 16]),
            number: 2,
            previous: Digest([3; 32]),
            salt: [6; 32],
            codec: Codec::Lz4,
            raw_len: 100,
            stored_len: 4,
            crc: 5,
        }
    }

    #[test]
    fn headers_are_read_back_and_bounded() {
        assert_eq!(BlockHeader::parse(&header().encode()), Ok(header()));
        for bad in [
            BlockHeader { raw_len: BLOCK_RAW_MAX as u32 + 1, ..header() },
            BlockHeader { stored_len: 101, ..header() },
            BlockHeader { codec: Codec::Raw, ..header() },
        ] {
            assert!(BlockHeader::parse(&bad.encode()).is_err());
        }
        let bytes = [header().encode().as_slice(), b"abcd"].concat();
        let (block, rest) = Block::split(&bytes).expect("whole").expect("one");
        assert_eq!((block.stored, rest), (b"abcd".as_slice(), b"".as_slice()));
        assert!((1..bytes.len()).all(|cut| Block::split(&bytes[..cut]).is_err()));
        assert!(Block::split(&[0; 120]).expect("space ahead").is_none());
    }

    #[test]
    fn frames_are_read_back_and_cut_ones_are_errors() {
        let frame = Frame { at: Timestamp(7), kind: FrameKind::Output, command: 3, bytes: b"xyz".into() };
        let mut raw = Vec::new();
        frame.encode_header(2, false, &mut raw);
        raw.extend_from_slice(b"xy");
        frame.encode_header(1, true, &mut raw);
        raw.extend_from_slice(b"z");
        let frames: Vec<_> = FrameIter::new(&raw).collect::<Result<_, _>>().expect("whole");
        assert_eq!((frames[0].bytes, frames[0].continued), (b"xy".as_slice(), false));
        assert_eq!((frames[1].bytes, frames[1].continued, frames[1].command), (b"z".as_slice(), true, 3));
        for cut in 1..raw.len() {
            let last = FrameIter::new(&raw[..cut]).last().expect("something is there");
            assert_eq!(last.is_ok(), cut == FRAME_HEADER_BYTES + 2);
        }
        raw[8] = 0x7f;
        assert!(FrameIter::new(&raw).next().expect("one").is_err());
    }
}
