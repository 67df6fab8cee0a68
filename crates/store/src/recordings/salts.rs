//! The salts of blocks, drawn from the kernel a page at a time.

use std::io;

use zeroize::Zeroize;

use crate::state::random;

const SALT_BYTES: usize = 32;
/// Of one call to the kernel: a call for each block would cost as much as hashing it.
const DRAWN_BYTES: usize = 4096;

/// Gives each salt once.
pub(super) struct Salts {
    drawn: Box<[u8; DRAWN_BYTES]>,
    left: usize,
}

impl Default for Salts {
    fn default() -> Self {
        Self { drawn: Box::new([0; DRAWN_BYTES]), left: 0 }
    }
}

impl Salts {
    pub(super) fn next(&mut self) -> io::Result<[u8; SALT_BYTES]> {
        if self.left == 0 {
            random(self.drawn.as_mut_slice())?;
            self.left = DRAWN_BYTES;
        }
        let rest = &mut self.drawn[..self.left];
        let salt = rest.last_chunk_mut::<SALT_BYTES>().ok_or(io::ErrorKind::InvalidData)?;
        let given = *salt;
        salt.zeroize();
        self.left -= SALT_BYTES;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_salt_comes_twice() {
        let mut salts = Salts::default();
        let given: Vec<_> = (0..1000).map(|_| salts.next().expect("the kernel has some")).collect();
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), 1000);
        assert!(!given.contains(&[0; SALT_BYTES]));
    }
}
