//! The container: POSIX ustar with nothing but plain files (`docs/spec/pack.md`). Not here: what is in the files.

use std::fmt;

/// What tar counts in.
pub const BLOCK: usize = 512;
/// In front of every name.
pub const PREFIX: &str = "pack/";
const NAME_MAX: usize = 99;
/// Eleven octal digits hold this much, and no pack comes near it.
const SIZE_MAX: u64 = 8 * 1024 * 1024 * 1024 - 1;

/// Why bytes are no container of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Malformed {
    /// Where, from the start of the container.
    pub at: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// Whether a path may stand in a pack (without `pack/`).
pub fn is_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(plain);
    path.len() + PREFIX.len() <= NAME_MAX && path.split('/').all(part)
}

/// The header of a member. `None`: the path or the size cannot stand in one.
pub fn header(path: &str, size: u64) -> Option<[u8; BLOCK]> {
    if !is_path(path) || size > SIZE_MAX {
        return None;
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, PREFIX.as_bytes());
    put(PREFIX.len(), path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

/// Zeros that fill a member of this size up to a whole block.
pub fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// What a container says next.
pub enum Piece<'a> {
    /// A member begins: its path and size.
    Member(&'a str, u64),
    /// Bytes of the member.
    Bytes(&'a [u8]),
    /// The member ends.
    End,
}

/// Reads a container in pieces of any size. Only the exact headers that [`header`] makes are taken, so there is one
/// reading of every pack.
pub struct Reader {
    at: u64,
    block: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    /// In a member: bytes to come, and zeros behind them.
    Member(u64, usize),
    Padding(usize),
    /// Zero blocks seen at the end.
    Zeros(u8),
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self { at: 0, block: Vec::with_capacity(BLOCK), state: State::Header }
    }
}

impl Reader {
    /// Takes the next bytes; what they say goes to `say`, whose error ends the reading.
    pub fn feed<E: From<Malformed>>(
        &mut self,
        mut bytes: &[u8],
        say: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let taken = self.step(bytes, say)?;
            self.at += taken as u64;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// To be called when there are no more bytes.
    pub fn finish(&self) -> Result<(), Malformed> {
        match self.state {
            State::Zeros(2) => Ok(()),
            _ => Err(self.malformed("the container is cut")),
        }
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    fn step<E: From<Malformed>>(
        &mut self,
        bytes: &[u8],
        say: &mut impl FnMut(Piece<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        match self.state {
            State::Member(left, zeros) => {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                say(Piece::Bytes(&bytes[..take]))?;
                let left = left - take as u64;
                self.state = State::Member(left, zeros);
                if left == 0 {
                    self.end(zeros, say)?;
                }
                Ok(take)
            }
            State::Padding(left) => {
                let take = left.min(bytes.len());
                if bytes[..take].iter().any(|byte| *byte != 0) {
                    return Err(self.malformed("padding that is not zeros").into());
                }
                self.state = if left == take { State::Header } else { State::Padding(left - take) };
                Ok(take)
            }
            State::Zeros(2) => Err(self.malformed("bytes after the end").into()),
            State::Header | State::Zeros(_) => {
                let take = (BLOCK - self.block.len()).min(bytes.len());
                self.block.extend_from_slice(&bytes[..take]);
                if self.block.len() == BLOCK {
                    self.header(say)?;
                    self.block.clear();
                }
                Ok(take)
            }
        }
    }

    fn header<E: From<Malformed>>(&mut self, say: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.block.iter().all(|byte| *byte == 0) {
            self.state = State::Zeros(if matches!(self.state, State::Zeros(_)) { 2 } else { 1 });
            return Ok(());
        }
        if matches!(self.state, State::Zeros(_)) {
            return Err(self.malformed("a member after a block of zeros").into());
        }
        let bad = self.malformed("a header of another form");
        let name = self.block.iter().take(NAME_MAX + 1).take_while(|byte| **byte != 0).count();
        let name = self.block.get(..name).and_then(|name| std::str::from_utf8(name).ok());
        let path = name.and_then(|name| name.strip_prefix(PREFIX)).ok_or(bad)?;
        let digits = self.block.get(124..135).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(bad)?;
        let octal = digits.bytes().all(|digit| digit.is_ascii_digit());
        let size = u64::from_str_radix(digits, 8).ok().filter(|_| octal).ok_or(bad)?;
        if header(path, size).is_none_or(|header| header.as_slice() != self.block) {
            return Err(bad.into());
        }
        say(Piece::Member(path, size))?;
        let zeros = padding(size);
        self.state = State::Member(size, zeros);
        if size == 0 {
            self.end(zeros, say)?;
        }
        Ok(())
    }

    fn end<E>(&mut self, zeros: usize, say: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        self.state = if zeros == 0 { State::Header } else { State::Padding(zeros) };
        say(Piece::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (path, bytes) in members {
            out.extend_from_slice(&header(path, bytes.len() as u64).expect("a path"));
            out.extend_from_slice(bytes);
            out.resize(out.len() + padding(bytes.len() as u64), 0);
        }
        out.resize(out.len() + 2 * BLOCK, 0);
        out
    }

    fn read(bytes: &[u8], step: usize) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
        let (mut reader, mut members, mut ended) = (Reader::default(), Vec::new(), 0);
        for piece in bytes.chunks(step.max(1)) {
            reader.feed(piece, &mut |piece| -> Result<(), Malformed> {
                match piece {
                    Piece::Member(path, _) => members.push((path.to_owned(), Vec::new())),
                    Piece::Bytes(bytes) => members.last_mut().expect("a member").1.extend_from_slice(bytes),
                    Piece::End => ended += 1,
                }
                Ok(())
            })?;
        }
        reader.finish()?;
        assert_eq!(ended, members.len());
        Ok(members)
    }

    #[test]
    fn members_come_back_in_pieces_of_any_size() {
        let members: [(&str, &[u8]); 4] =
            [("MANIFEST.json", b"{}"), ("empty", b""), ("a/b", &[1; 512]), ("a/c", &[2; 700])];
        let bytes = container(&members);
        for step in [1, 7, 511, 512, 513, 10_000] {
            let read = read(&bytes, step).expect("well-formed");
            assert_eq!(read.len(), 4);
            assert!(read.iter().zip(members).all(|(one, other)| one.0 == other.0 && one.1 == other.1));
        }
    }

    #[test]
    fn every_changed_bit_outside_of_members_is_found() {
        let bytes = container(&[("a", b"xyz"), ("b", &[3; 512])]);
        let payload = |at: usize| (512..515).contains(&at) || (1536..2048).contains(&at);
        for at in (0..bytes.len()).filter(|at| !payload(*at)) {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let read = read(&other, 4096);
                // Another digit of the size, or letter of the name, with the checksum as it was.
                assert!(read.is_err(), "byte {at} bit {bit}");
            }
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], 4096).is_err(), "{length}");
        }
        assert!(read(&[bytes.as_slice(), &[0]].concat(), 4096).is_err());
    }

    #[test]
    fn hostile_paths_have_no_header() {
        for path in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "a b", "ä", &"x".repeat(96)] {
            assert!(header(path, 0).is_none(), "{path}");
        }
        assert!(header("a", SIZE_MAX + 1).is_none());
    }
}
