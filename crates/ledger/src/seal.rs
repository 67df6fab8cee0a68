//! The one way of an original: into the sealer. Not here: encryption, and files.

use crate::Frame;

/// Something unmasked that may be sealed, and nothing else. What implements it shows its bytes to nobody who cannot make
/// a [`Sealing`].
pub trait ToSeal {
    /// Returns what is to be sealed, to the sealer.
    fn frame(&self, sealing: &Sealing) -> Frame<'_>;
}

/// The word of whoever takes originals that they go into a sealed segment and nowhere else.
#[derive(Debug)]
pub struct Sealing(());

impl Sealing {
    /// Asserts it. Only `chancery-store` calls this, beside the buffer that is sealed and wiped.
    pub fn sealing_assertion() -> Self {
        Self(())
    }
}
